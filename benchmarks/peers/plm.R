# Does one task of the panel workloads with plm and writes what it cost.

here <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
source(file.path(dirname(gsub("~+~", " ", here, fixed = TRUE)), "common.R"))

formula <- as.formula(arg$formula)
index <- c(arg$groups, arg$time)
regressors <- strsplit(arg$regressors, " ", fixed = TRUE)[[1]]
clustered <- function(x) vcovHC(x, method = "arellano", type = "sss")

estimate <- function(params = NA, bse = NA, statistic = NA, df = NA, share = 1) {
  list(params = params, bse = bse, statistic = statistic, df = df, share = share)
}

# Coefficients without the constant, which the within model does not have.
of_table <- function(table, ...) {
  table <- table[rownames(table) != "(Intercept)", , drop = FALSE]
  estimate(table[, "Estimate"], table[, "Std. Error"], ...)
}

fit_model <- function(data, model) {
  table <- summary(plm(formula, data = data, index = index, model = model))
  table <- table$coefficients
  of_table(table)
}

auxiliary <- function(data) {
  test <- phtest(formula, data = data, index = index, method = "aux",
                 vcov = clustered)
  estimate(statistic = test$statistic, df = test$parameter)
}

mundlak <- function(data) {
  means <- paste0("Between(", regressors, ")")
  augmented <- update(formula, paste("~ . +", paste(means, collapse = " + ")))
  fit <- plm(augmented, data = data, index = index, model = "random")
  cov <- clustered(fit)
  table <- summary(fit, vcov = cov)$coefficients
  params <- coef(fit)[means]
  statistic <- drop(params %*% solve(cov[means, means], params))
  of_table(table, statistic = statistic, df = length(means))
}

bootstrap <- function(data) {
  rows_of <- split(seq_len(nrow(data)), data[[arg$groups]])
  for (turn in seq_len(number("done"))) {
    drawn <- rows_of[sample.int(length(rows_of), replace = TRUE)]
    replicate <- data[unlist(drawn), ]
    replicate[[arg$groups]] <- rep(seq_along(drawn), lengths(drawn))
    replicate <- pdata.frame(replicate, index = index)
    fe <- plm(formula, data = replicate, model = "within")
    re <- plm(formula, data = replicate, model = "random")
    coef(fe) - coef(re)[names(coef(fe))]
  }
  estimate(share = number("done") / number("replicates"))
}

tasks <- list(
  fe = function(data) fit_model(data, "within"),
  re = function(data) fit_model(data, "random"),
  hausman = auxiliary, hausman_mundlak = mundlak, mundlak = mundlak,
  bootstrap = bootstrap
)
work <- tasks[[arg$task]]

data <- read("data.csv")
warmup_s <- warm_up(work)
before <- start_memory()
costs <- NULL
repeat {
  start <- now()
  last <- quietly(work(data))
  costs <- rbind(costs, now() - start)
  if (nrow(costs) == 1) peak <- extra_memory(before)
  if (sum(costs[, "wall"]) >= number("at_least") || nrow(costs) >= 25) break
}
cost <- apply(costs, 2, median) / last$share
write_result(c(
  list(wall = cost[["wall"]], cpu = cost[["cpu"]], fits = nrow(costs), failed = 0,
       peak_bytes = peak, import_s = import_s, warmup_s = warmup_s),
  last
))
