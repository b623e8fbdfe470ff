# Ratings of lecturers by students, within departments and kinds of service, as lme4's
# InstEval but smaller: 500 x 200 levels, and departments by service.
#   Rscript make.R   in this folder writes ratings.csv, reml.json and ml.json
library(lme4)
library(jsonlite)
set.seed(20)
students <- 500; lecturers <- 200; departments <- 10; each <- 10
s <- rep(seq_len(students), each = each)
d <- as.vector(replicate(students, sample(lecturers, each)))
dept <- (d - 1) %% departments + 1
service <- rbinom(length(s), 1, 0.4)
u <- rnorm(students, 0, 0.33); v <- rnorm(lecturers, 0, 0.5)
w <- matrix(rnorm(departments * 2, 0, 0.2), departments)
y <- 3.3 - 0.1 * service + u[s] + v[d] + w[cbind(dept, service + 1)] +
  rnorm(length(s), 0, 1.2)
data <- data.frame(s, d, dept, service, y = round(y, 4))
write.csv(data, "ratings.csv", row.names = FALSE, quote = FALSE)
control <- lmerControl(optimizer = "bobyqa",
                       optCtrl = list(rhoend = 1e-12, maxfun = 1e5),
                       calc.derivs = FALSE)
formula <- y ~ service + (1 | s) + (1 | d) + (1 | dept:service)
for (reml in c(TRUE, FALSE)) {
  fit <- lmer(formula, data, REML = reml, control = control)
  vc <- as.data.frame(VarCorr(fit))
  effects <- ranef(fit, condVar = TRUE)
  out <- list(
    formula = deparse(formula), reml = reml, lme4 = as.character(packageVersion("lme4")),
    loglike = as.numeric(logLik(fit)),
    fixef = as.list(fixef(fit)),
    fixef_se = as.list(sqrt(diag(as.matrix(vcov(fit))))),
    variances = setNames(as.list(vc$vcov), vc$grp),
    ranef = lapply(effects, function(e) {
      k <- c(1, nrow(e))
      se <- sqrt(attr(e, "postVar")[1, 1, ])
      list(level = rownames(e)[k], mean = e[k, 1], se = se[k])
    })
  )
  write(toJSON(out, auto_unbox = TRUE, digits = NA, pretty = TRUE),
        sprintf("%s.json", if (reml) "reml" else "ml"))
}
