# Random effects with one variance and one covariance: nlme's pdCompSymm.
#   Rscript make.R   in this folder writes machines.csv, oats.csv, contrary.csv and
#   cases.json
library(nlme)
library(jsonlite)
write <- function(data, name) {
  data[] <- lapply(data, function(x) if (is.factor(x)) as.character(x) else x)
  write.csv(as.data.frame(data), name, row.names = FALSE, quote = FALSE)
}
machines <- as.data.frame(Machines)
machines$row <- ave(seq_along(machines$score), machines$Worker, FUN = seq_along)
oats <- as.data.frame(Oats)
# responses of a group that exclude one another: a covariance below zero
set.seed(7)
contrary <- expand.grid(row = 1:4, place = c("a", "b", "c"), id = sprintf("g%02d", 1:15))
psi <- 4 * diag(3) - 1.7 * (1 - diag(3))
effects <- matrix(rnorm(45), 15) %*% chol(psi)
contrary$y <- round(10 + effects[cbind(as.integer(contrary$id),
                                       as.integer(contrary$place))] +
                      rnorm(nrow(contrary)), 4)
contrary <- contrary[-c(2, 7, 31, 32, 33, 60, 101, 150), ]
write(machines, "machines.csv"); write(oats, "oats.csv"); write(contrary, "contrary.csv")

control <- lmeControl(tolerance = 1e-12, msTol = 1e-14, niterEM = 50, maxIter = 500,
                      msMaxIter = 500, opt = "nlminb")
part <- machines$row %in% c(1:5, 7) | machines$Worker %in% c("2", "5")
cases <- list(
  machines_reml = list("machines.csv", NULL, "score ~ Machine", "Worker", "Machine",
    lme(score ~ Machine, machines, random = list(Worker = pdCompSymm(~ Machine - 1)),
        control = control)),
  machines_ml = list("machines.csv", NULL, "score ~ Machine", "Worker", "Machine",
    lme(score ~ Machine, machines, random = list(Worker = pdCompSymm(~ Machine - 1)),
        method = "ML", control = control)),
  machines_part_reml = list("machines.csv",
    "row in [1, 2, 3, 4, 5, 7] or Worker in [2, 5]", "score ~ Machine", "Worker",
    "Machine",
    lme(score ~ Machine, machines[part, ],
        random = list(Worker = pdCompSymm(~ Machine - 1)), control = control)),
  machines_ar1_reml = list("machines.csv", NULL, "score ~ Machine", "Worker", "Machine",
    lme(score ~ Machine, machines, random = list(Worker = pdCompSymm(~ Machine - 1)),
        correlation = corAR1(form = ~ row | Worker), control = control)),
  oats_reml = list("oats.csv", NULL, "Q('yield') ~ nitro", "Block", "Variety",
    lme(yield ~ nitro, oats, random = list(Block = pdCompSymm(~ Variety - 1)),
        control = control)),
  contrary_reml = list("contrary.csv", NULL, "y ~ 1", "id", "place",
    lme(y ~ 1, contrary, random = list(id = pdCompSymm(~ place - 1)),
        control = control))
)
out <- lapply(cases, function(case) {
  fit <- case[[6]]
  random <- as.matrix(getVarCov(fit))
  effects <- ranef(fit)
  effects <- effects[order(rownames(effects)), ]
  phi <- coef(fit$modelStruct$corStruct, unconstrained = FALSE)
  list(
    data = case[[1]], rows = case[[2]], formula = case[[3]], groups = case[[4]],
    factor = case[[5]], reml = fit$method == "REML",
    call = paste(deparse(fit$call), collapse = " "),
    loglike = as.numeric(logLik(fit)), n_params = attr(logLik(fit), "df"),
    fixef = unname(fixef(fit)),
    # without nlme's factor sqrt(N / (N - p)) under ML
    fixef_se = unname(sqrt(diag(fit$varFix))),
    df = unname(summary(fit)$tTable[, "DF"]),
    variance = random[1, 1], covariance = random[2, 1], sigma2 = fit$sigma^2,
    phi = if (is.null(phi)) NULL else unname(phi),
    groups_of_ranef = rownames(effects), ranef = unname(as.matrix(effects)),
    fitted = unname(fitted(fit, level = 1))
  )
})
out$nlme <- as.character(packageVersion("nlme"))
machines_fits <- list(
  intercept = lme(score ~ Machine, machines, random = ~ 1 | Worker, control = control),
  compound = cases$machines_reml[[6]],
  general = lme(score ~ Machine, machines, random = ~ Machine - 1 | Worker,
                control = control)
)
out$anova <- list(
  loglike = unname(sapply(machines_fits, function(f) as.numeric(logLik(f)))),
  df = unname(sapply(machines_fits, function(f) attr(logLik(f), "df")))
)
ends <- intervals(cases$machines_reml[[6]], which = "var-cov")$reStruct$Worker
out$intervals <- list(sd = unname(unlist(ends[1, ])), corr = unname(unlist(ends[2, ])))
writeLines(toJSON(out, auto_unbox = TRUE, digits = NA, null = "null", pretty = TRUE),
           "cases.json")
