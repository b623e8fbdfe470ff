## Reference values for regressions by group and coefficients by group: writes
## by_group.json and coef.json into the current directory.  Run as  Rscript make.R
## inside this folder, with nlme, lme4 and jsonlite (versions in README.md).

suppressMessages({library(nlme); library(lme4); library(jsonlite)})
options(stringsAsFactors = FALSE, warn = 1)

read <- function(name) read.csv(file.path("..", "mixed", "data", paste0(name, ".csv")))
teeth <- read("orthodont")
sleep <- read("sleepstudy")
people <- read("seed")
people <- people[people$id %in% c(1:20, 1251:1270), ]
## rows struck out by rule, so that groups have 2 to 4 rows
gaps <- people[(people$id * 7 + people$time * 3) %% 5 != 0, ]
## the same, with person 1 seen once
single <- gaps[gaps$id != 1 | gaps$time == max(gaps$time[gaps$id == 1]), ]

rename <- function(names) ifelse(names == "(Intercept)", "Intercept", names)
write <- function(x, file)
  writeLines(toJSON(x, digits = I(15), auto_unbox = TRUE, pretty = 1, na = "null"), file)
version <- paste0("nlme ", packageVersion("nlme"), ", lme4 ", packageVersion("lme4"))

## ------------------------------------------------------ regressions by group ----
own <- function(formula, data, groups) {
  data$g <- data[[groups]]
  fit <- nlme::lmList(as.formula(paste(formula, "| g")), data)
  pooled <- pooledSD(fit)
  one <- summary(fit, pool = FALSE)$coefficients
  together <- summary(fit, pool = TRUE)$coefficients
  at <- rownames(coef(fit))
  ## intervals() fails for a single coefficient
  limits <- if (ncol(coef(fit)) > 1) unclass(intervals(fit)) else
    array(NA, c(length(at), 2, 1), list(at, c("lower", "upper"), NULL))
  list(
    formula = formula, groups = groups, names = I(rename(names(coef(fit)))), labels = at,
    coef = unname(as.matrix(coef(fit))),
    pooled_sd = as.numeric(pooled), pooled_df = attr(pooled, "df"),
    se_pooled = unname(together[at, 2, ]), t_pooled = unname(together[at, 3, ]),
    p_pooled = unname(together[at, 4, ]),
    se_own = unname(one[at, 2, ]),
    lower = unname(limits[at, "lower", ]), upper = unname(limits[at, "upper", ]),
    sigma = unname(summary(fit, pool = FALSE)$sigma[match(at, names(fit))]))
}
write(list(
  version = version,
  cases = list(
    orthodont = own("distance ~ age", teeth, "subject"),
    orthodont_quadratic = own("distance ~ age + I(age^2)", teeth, "subject"),
    sleepstudy = own("reaction ~ days", sleep, "subject"),
    sleepstudy_means = own("reaction ~ 1", sleep, "subject"),
    growth = own("y ~ time", people, "id"),
    growth_gaps = own("y ~ time", gaps, "id"),
    growth_single = own("y ~ time", single, "id"))), "by_group.json")

## -------------------------------------------------------- coefficients by group ----
mixed <- function(fit, formula, re_formula, data, groups, residual, program) {
  co <- coef(fit); condvar <- NULL
  if (program == "lme4") {
    effects <- ranef(fit, condVar = TRUE)[[1]]
    condvar <- t(apply(attr(effects, "postVar"), 3, function(v) sqrt(diag(as.matrix(v)))))
    if (ncol(effects) == 1) condvar <- t(condvar)
    co <- co[[1]]
  }
  list(formula = formula, re_formula = re_formula, data = data, groups = groups,
       residual = residual, program = program, names = I(rename(names(co))),
       labels = rownames(co), coef = unname(as.matrix(co)),
       se_effects = condvar)
}
tight <- lmeControl(tolerance = 1e-9, msTol = 1e-11, niterEM = 100, maxIter = 500, msMaxIter = 500)
lmer_tight <- lmerControl(optCtrl = list(xtol_abs = 1e-10, ftol_abs = 1e-12))
write(list(
  version = version,
  cases = list(
    teeth_intercept_ar1 = mixed(
      lme(distance ~ age, teeth, random = ~ 1 | subject,
          correlation = corAR1(form = ~ occ | subject), control = tight),
      "distance ~ age", "1", "orthodont", "subject", "ar1", "nlme"),
    teeth_slope_ar1 = mixed(
      lme(distance ~ age + sex, teeth, random = ~ age | subject,
          correlation = corAR1(form = ~ occ | subject), control = tight),
      "distance ~ age + sex", "~ age", "orthodont", "subject", "ar1", "nlme"),
    teeth_unmatched_ar1 = mixed(
      lme(distance ~ sex, teeth, random = ~ age | subject,
          correlation = corAR1(form = ~ occ | subject), control = tight),
      "distance ~ sex", "~ age", "orthodont", "subject", "ar1", "nlme"),
    sleep_intercept = mixed(
      lmer(reaction ~ days + (1 | subject), sleep, control = lmer_tight),
      "reaction ~ days", "1", "sleepstudy", "subject", "independent", "lme4"),
    sleep_slope = mixed(
      lmer(reaction ~ days + (days | subject), sleep, control = lmer_tight),
      "reaction ~ days", "~ days", "sleepstudy", "subject", "independent", "lme4"),
    sleep_unmatched = mixed(
      lmer(reaction ~ 1 + (days | subject), sleep, control = lmer_tight),
      "reaction ~ 1", "~ days", "sleepstudy", "subject", "independent", "lme4"))),
  "coef.json")
