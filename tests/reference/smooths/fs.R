## A smooth of each level by nlme, with the columns of mixedar's own basis (columns.csv:
## y, id, time, X1, Z0_j of s(time), Zk_j of the parts of s(time, id)): values of
## tests/smooths/test_of_groups.py
library(nlme)
d <- read.csv("columns.csv"); d$one <- factor(1); d$id <- factor(d$id)
m <- lme(y ~ X1, data = d,
         random = list(one = pdIdent(~ Z0_1 + Z0_2 + Z0_3 + Z0_4 - 1),
                       id = pdBlocked(list(pdIdent(~ Z1_1 + Z1_2 + Z1_3 - 1),
                                           pdIdent(~ Z2_1 - 1), pdIdent(~ Z3_1 - 1)))),
         correlation = corAR1(.2, form = ~ time | one/id), method = "REML",
         control = lmeControl(maxIter = 300, msMaxIter = 2000, tolerance = 1e-10, msTol = 1e-10))
print(as.numeric(logLik(m)), digits = 12)
print(VarCorr(m), digits = 8)
