## Fits and variograms of nlme's Wheat2 (Pinheiro and Bates, 2000, section 5.4):
## writes wheat.csv and wheat.json.  Run as  Rscript make.R  with nlme installed
## (3.1-162 here).

suppressMessages(library(nlme))

num <- function(x) paste0("[", paste(sprintf("%.17g", x), collapse = ", "), "]")
parts <- list()
put <- function(name, ...) {
  values <- list(...)
  inner <- sprintf("\"%s\": %s", names(values), vapply(values, num, ""))
  parts[[name]] <<- sprintf(" \"%s\": {%s}", name, paste(inner, collapse = ", "))
}

d <- data.frame(block = Wheat2$Block, variety = Wheat2$variety, yield = Wheat2$yield,
                latitude = Wheat2$latitude, longitude = Wheat2$longitude)
write.csv(d, "wheat.csv", row.names = FALSE, quote = FALSE)

fit <- function(name, cor) {
  f <- gls(yield ~ variety - 1, d, correlation = cor,
           control = glsControl(tolerance = 1e-9, msTol = 1e-10, msMaxIter = 500))
  coefs <- coef(f$modelStruct$corStruct, unconstrained = FALSE)
  put(name, llf = as.numeric(logLik(f)), params = coefs, sigma = f$sigma,
      se = sqrt(diag(vcov(f)))[1:3])
  invisible(f)
}
place <- ~ latitude + longitude
plain <- gls(yield ~ variety - 1, d)
fit("sph", corSpher(c(28, 0.2), form = place, nugget = TRUE))
ratio <- fit("ratio", corRatio(c(12.5, 0.2), form = place, nugget = TRUE))
for (metric in c("manhattan", "maximum"))
  fit(metric, corExp(c(12.5, 0.2), form = place, nugget = TRUE, metric = metric))

variogram <- function(name, v)
  put(name, distance = v$dist, gamma = v$variog, pairs = v$n.pairs)
variogram("all", Variogram(plain, form = place))
variogram("near", Variogram(plain, form = place, maxDist = 32))
variogram("robust", Variogram(plain, form = place, maxDist = 32, robust = TRUE))
variogram("fixed", Variogram(plain, form = place, maxDist = 32, nint = 10, collapse = "fixed"))
variogram("block", Variogram(gls(yield ~ 1, d), form = ~ latitude + longitude | block,
                             maxDist = 20, metric = "manhattan"))
put("plain", sigma = plain$sigma, residuals = as.numeric(resid(plain)))

writeLines(paste0("{\n", paste(unlist(parts), collapse = ",\n"), "\n}"), "wheat.json")
