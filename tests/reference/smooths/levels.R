## Smooths of each level with a cyclic basis, whose functions outside the penalty are the
## constant alone (of others mgcv takes a rotation that depends on the order of the rows):
## the values of tests/smooths/test_of_groups.py. Run here: Rscript levels.R
suppressMessages(library(mgcv))
d <- read.csv("data/smooth_arms.csv", stringsAsFactors = TRUE)
d$ph <- (d$time - 1) / 12
d$y <- d$y + sin(7 * as.integer(d$id)) * sin(2 * pi * d$ph) + cos(5 * as.integer(d$id))
control <- lmeControl(maxIter = 200, msMaxIter = 1000, tolerance = 1e-10,
                      msTol = 1e-10, niterEM = 30)
for (f in c('y ~ s(time, bs = "cr", k = 6) + s(ph, id, bs = "fs", xt = "cc", k = 6)',
            'y ~ s(ph, id, bs = "fs", xt = "cc", k = 5)')) {
  m <- gamm(as.formula(f), correlation = corAR1(.3, form = ~ time | id), data = d,
            method = "REML", control = control)
  cat(f, sprintf("%.8f", as.numeric(logLik(m$lme)) + .5 * determinant(crossprod(m$lme$data$X))$modulus), "\n")
  print(summary(m$gam)$s.table, digits = 12)
  print(m$gam$sp, digits = 12)
}
## of the thin plate basis: the same rows in another order have another likelihood
for (s in 1:3) {
  set.seed(s)
  m <- gamm(y ~ s(time, bs = "cr", k = 6) + s(time, id, bs = "fs", k = 5),
            correlation = corAR1(.3, form = ~ time | id), data = d[sample(nrow(d)), ],
            method = "REML", control = control)
  print(as.numeric(logLik(m$lme)), digits = 10)
}
