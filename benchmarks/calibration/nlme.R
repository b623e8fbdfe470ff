# Fits every response of a cell with nlme's defaults.
# Arguments: design (CSV), responses (binary), number of responses, formula of the
# random effects, output (CSV).  One row a response: what nlme's summary, anova and
# intervals give, and which of them stop with an error.

suppressMessages(library(nlme))
arg <- commandArgs(trailingOnly = TRUE)
data <- read.csv(arg[1])
n <- as.integer(arg[3])
con <- file(arg[2], "rb")
y <- matrix(readBin(con, "double", n * nrow(data)), nrow = nrow(data))
close(con)
random <- as.formula(paste(arg[4], "| id"))
slope <- arg[4] != "~1"

covariance <- function(found) {
  # variances, not standard deviations
  sd <- as.matrix(found$reStruct[[1]])[, c("lower", "upper"), drop = FALSE]
  rho <- found$corStruct[1, c("lower", "upper")]
  out <- c(sd[1, ]^2, rho, found$sigma[c("lower", "upper")]^2)
  if (slope) out <- c(out, sd[2, ]^2, sd[3, ])
  as.numeric(out)
}

short <- function(error) gsub("[\r\n,\"]+", " ", conditionMessage(error))

one <- function(k) {
  data$y <- y[, k]
  empty <- list(replicate = k - 1, error = "", interval_error = "", llf = NA,
                est = rep(NA, 4), se = rep(NA, 4), df = rep(NA, 4), p = rep(NA, 4),
                joint = NA, ends = rep(NA, if (slope) 10 else 6))
  fit <- tryCatch(
    suppressWarnings(lme(y ~ time * treatment, data, random,
                         correlation = corAR1(form = ~ time | id))),
    error = identity
  )
  if (inherits(fit, "error")) {
    empty$error <- short(fit)
    return(empty)
  }
  out <- empty
  table <- summary(fit)$tTable
  out$llf <- as.numeric(logLik(fit))
  out$est <- table[, "Value"]
  out$se <- table[, "Std.Error"]
  out$df <- table[, "DF"]
  out$p <- table[, "p-value"]
  # the other joint hypothesis has coefficients of two strata, which nlme refuses
  out$joint <- anova(fit, Terms = c("time", "time:treatment"))[1, "p-value"]
  ends <- tryCatch(covariance(intervals(fit)), error = identity)
  if (inherits(ends, "error")) {
    out$interval_error <- short(ends)
  } else {
    out$ends <- ends
  }
  out
}

rows <- lapply(seq_len(n), function(k) as.data.frame(lapply(one(k), function(v) {
  if (length(v) > 1) t(as.numeric(v)) else v
})))
table <- do.call(rbind, rows)
table$version <- as.character(packageVersion("nlme"))
write.csv(table, arg[5], row.names = FALSE)
