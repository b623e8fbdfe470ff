## Marginal means and slopes by emmeans, of a fit by lme4: trial.csv -> trial.json
suppressMessages({library(lme4); library(lmerTest); library(emmeans); library(jsonlite)})
d <- read.csv("trial.csv")
for (v in c("arm", "site", "id")) d[[v]] <- factor(d[[v]])
m <- lmer(y ~ arm * time + site + age + (1 | id), d,
          control = lmerControl(optCtrl = list(ftol_abs = 1e-14, xtol_abs = 1e-14)))
tab <- function(x) { x <- as.data.frame(x); x[] <- lapply(x, function(v) if (is.factor(v)) as.character(v) else v); x }
slopes <- emtrends(m, ~ arm, var = "time", lmer.df = "satterthwaite")
means <- emmeans(m, ~ arm, at = list(time = 2), lmer.df = "satterthwaite")
pairs0 <- pairs(means, adjust = "none")
out <- list(
  slopes = tab(summary(slopes)), slope_pairs = tab(summary(pairs(slopes, adjust = "holm"))),
  slopes_kr = tab(summary(emtrends(m, ~ arm, var = "time", lmer.df = "kenward-roger"))),
  means = tab(summary(means)), pairs = tab(summary(pairs0)),
  equivalence = tab(test(pairs0, delta = .9)), noninferiority = tab(test(pairs0, delta = .9, side = ">")),
  nonsuperiority = tab(test(pairs0, delta = .9, side = "<")), greater = tab(test(pairs0, side = ">")),
  greater_ends = tab(confint(pairs0, side = ">")),
  versions = list(R = R.version.string, lme4 = as.character(packageVersion("lme4")), emmeans = as.character(packageVersion("emmeans"))))
writeLines(toJSON(out, digits = I(15), auto_unbox = TRUE, pretty = TRUE), "trial.json")
