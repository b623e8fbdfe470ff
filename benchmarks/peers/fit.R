# Fits one model with one R package and writes what it cost.
# Called by rpeer.py with key=value arguments; data.csv, tiny.csv and
# responses.bin lie in the folder.  Reading them is not part of the time.

here <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
source(file.path(dirname(gsub("~+~", " ", here, fixed = TRUE)), "common.R"))
one_column <- function(left) as.formula(paste(left, "|", arg$groups))

# Further factors beside the groups; nlme wants the outermost first.
others <- strsplit(arg$others, " ", fixed = TRUE)[[1]]
bars <- paste("(", arg$random, "|", c(arg$groups, others), ")", collapse = " + ")

lme4_formula <- as.formula(paste(arg$formula, "+", bars))

# nlme's default; single fits go over to "optim" when it fails.
optimiser <- "nlminb"

marginal <- arg$random == "0"

fit_gls <- function(data) {
  structure <- if (arg$residual == "un") {
    data$wave <- data[[arg$time]] - min(data[[arg$time]]) + 1
    corSymm(form = one_column("~ wave"))
  } else {
    corARMA(form = one_column(paste("~", arg$time)), p = 1, q = 1)
  }
  weights <- if (arg$residual == "un") {
    varIdent(form = as.formula(paste("~ 1 |", arg$time)))
  }
  fit <- gls(as.formula(arg$formula), data = data, correlation = structure,
             weights = weights, control = glsControl(opt = optimiser))
  table <- summary(fit)$tTable
  list(fit = fit, llf = as.numeric(logLik(fit)), params = table[, "Value"],
       bse = table[, "Std.Error"], rho = NA, converged = 1)
}

fit_nlme <- function(data) {
  if (marginal) return(fit_gls(data))
  nesting <- c(others, arg$groups)
  within <- paste(nesting, collapse = " / ")
  form <- as.formula(paste("~", arg$time, "|", within))
  random <- rep(list(as.formula(paste("~", arg$random))), length(nesting))
  names(random) <- nesting
  correlation <- switch(
    arg$residual, ar1 = corAR1(form = form), car1 = corCAR1(form = form)
  )
  fixed <- as.formula(arg$formula)
  fit <- lme(fixed, data = data, correlation = correlation,
             random = random,
             control = lmeControl(opt = optimiser))
  table <- summary(fit)$tTable
  rho <- coef(fit$modelStruct$corStruct, unconstrained = FALSE)
  rho <- if (is.null(rho)) NA else as.numeric(rho)
  list(fit = fit, llf = as.numeric(logLik(fit)), params = table[, "Value"],
       bse = table[, "Std.Error"], rho = rho, converged = 1)
}

fit_lme4 <- function(data) {
  fit <- lmer(lme4_formula, data = data)
  table <- coef(summary(fit))
  code <- fit@optinfo$conv$opt
  list(fit = fit, llf = as.numeric(logLik(fit)), params = table[, "Estimate"],
       bse = table[, "Std. Error"], rho = NA, converged = as.numeric(code == 0))
}

fit_glmmTMB <- function(data) {
  # All times between the first and the last are levels, so that a missing
  # wave counts as a gap.
  steps <- seq(min(data[[arg$time]]), max(data[[arg$time]]))
  data$time_factor <- factor(data[[arg$time]], levels = steps)
  random <- if (!marginal) paste("+", bars)
  independent <- arg$residual == "independent"
  kind <- if (arg$residual == "un") "us" else "ar1"
  errors <- if (!independent) paste("+", kind, "(0 + time_factor |", arg$groups, ")")
  formula <- as.formula(paste(arg$formula, random, errors))
  dispersion <- if (independent) ~1 else ~0
  fit <- glmmTMB(formula, data = data, dispformula = dispersion, REML = TRUE)
  table <- summary(fit)$coefficients$cond
  blocks <- VarCorr(fit)$cond
  serial <- !marginal && !independent
  rho <- if (serial) attr(blocks[[length(blocks)]], "correlation")[1, 2] else NA
  list(fit = fit, llf = as.numeric(logLik(fit)), params = table[, "Estimate"],
       bse = table[, "Std. Error"], rho = rho,
       converged = as.numeric(fit$fit$convergence == 0))
}

fit_mgcv <- function(data) {
  for (name in names(data)) {
    if (is.character(data[[name]])) data[[name]] <- factor(data[[name]])
  }
  random <- setNames(list(~1), arg$groups)
  fit <- gamm(as.formula(arg$formula), data = data, random = random, method = "REML",
              correlation = corAR1(form = one_column(paste("~", arg$time))))
  table <- summary(fit$lme)$tTable
  rho <- coef(fit$lme$modelStruct$corStruct, unconstrained = FALSE)
  list(fit = fit, llf = as.numeric(logLik(fit$lme)), params = table[, "Value"],
       bse = table[, "Std.Error"], rho = as.numeric(rho), converged = 1)
}

fitters <- list(
  nlme = fit_nlme, lme4 = fit_lme4, glmmTMB = fit_glmmTMB, mgcv = fit_mgcv
)
fit_one <- fitters[[arg$package]]

# A fit from the data frame for each response.  lme4 has refit(), but version
# 1.1-31 counts one fixed effect whatever their number in its REML criterion, so
# that refit(fit, y) disagrees with lmer() on the same y.
refit_one <- function(y) {
  data[[arg$response]] <- y
  fit_one(data)
}

data <- read("data.csv")
warmup_s <- warm_up(fit_one)

if (number("responses") > 0) {
  connection <- file(file.path(arg$folder, "responses.bin"), "rb")
  y <- readBin(connection, "double", number("responses") * nrow(data))
  close(connection)
  y <- matrix(y, nrow = nrow(data))
  before <- start_memory()
  llf <- rho <- numeric(0)
  failed <- 0
  start <- now()
  for (i in seq_len(ncol(y))) {
    got <- try(quietly(refit_one(y[, i])), silent = TRUE)
    if (inherits(got, "try-error")) {
      failed <- failed + 1
      llf[i] <- rho[i] <- NA
    } else {
      last <- got
      failed <- failed + (got$converged == 0)
      llf[i] <- got$llf
      rho[i] <- got$rho
    }
    if (proc.time()[["elapsed"]] - start[["wall"]] > number("refit_seconds")) break
  }
  cost <- (now() - start) / i
  fits <- i
  peak <- extra_memory(before)
  last$llf <- mean(llf[1:5])
  last$rho <- mean(rho[1:5])
} else {
  before <- start_memory()
  costs <- NULL
  repeat {
    start <- now()
    last <- try(quietly(fit_one(data)), silent = TRUE)
    if (inherits(last, "try-error")) {
      if (arg$package != "nlme" || optimiser == "optim") stop(last)
      optimiser <- "optim"
      before <- start_memory()
      next
    }
    costs <- rbind(costs, now() - start)
    if (nrow(costs) == 1) peak <- extra_memory(before)
    if (sum(costs[, "wall"]) >= number("at_least") || nrow(costs) >= 25) break
  }
  cost <- apply(costs, 2, median)
  fits <- nrow(costs)
  failed <- 0
}

result <- list(
  wall = cost[["wall"]], cpu = cost[["cpu"]], fits = fits, failed = failed,
  peak_bytes = peak, import_s = import_s, warmup_s = warmup_s,
  llf = last$llf, rho = last$rho, converged = last$converged,
  params = last$params, bse = last$bse
)
note <- if (optimiser == "optim") {
  "its default optimiser failed, opt = \"optim\" used"
}
write_result(result, note)
