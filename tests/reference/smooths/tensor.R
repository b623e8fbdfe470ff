## Tensor products by mgcv's gamm, the better of two optimisers: the values of
## tests/smooths/test_tensor.py. Run here: Rscript tensor.R
suppressMessages(library(mgcv))
d <- read.csv("data/smooth_two.csv", stringsAsFactors = TRUE)
formulas <- c('y ~ te(x, time, bs = c("ps", "tp"), k = c(6, 5))',
              'y ~ te(x, time, bs = c("cc", "cr"), k = c(6, 5))',
              'y ~ s(x, bs = "cr", k = 8) + s(time, bs = "cr", k = 6) + ti(x, time, k = c(5, 4))',
              'y ~ ti(x, time, bs = "ps")')
for (f in formulas) {
  best <- NULL
  for (op in c("nlminb", "optim")) {
    m <- gamm(as.formula(f), random = list(id = ~1), correlation = corAR1(.3, form = ~ time | id),
              data = d, method = "REML",
              control = lmeControl(opt = op, maxIter = 200, msMaxIter = 1000, tolerance = 1e-10,
                                   msTol = 1e-10, niterEM = 30))
    l <- as.numeric(logLik(m$lme)) + .5 * determinant(crossprod(m$lme$data$X))$modulus
    if (is.null(best) || l > best$l) best <- list(l = l, m = m)
  }
  cat(f, sprintf("%.8f", best$l), "\n")
  print(summary(best$m$gam)$s.table, digits = 12)
}
