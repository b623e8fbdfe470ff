## nlme's ACF and Variogram of given residuals: writes ovary.json and
## bodyweight.json.  Run as  Rscript make.R  with nlme installed (3.1-162 here).
##
## The residuals are written with the results, so that a comparison does not
## depend on where an optimiser stopped.

suppressMessages(library(nlme))

num <- function(x) paste0("[", paste(ifelse(is.finite(x), sprintf("%.17g", x), "null"),
                                     collapse = ", "), "]")
put <- function(parts, file) {
  body <- vapply(names(parts), function(k) sprintf(" \"%s\": %s", k, num(parts[[k]])), "")
  writeLines(paste0("{\n", paste(body, collapse = ",\n"), "\n}"), file)
}
variogram <- function(prefix, v) {
  out <- list(v$dist, v$variog, v$n.pairs)
  names(out) <- paste0(prefix, c("_distance", "_gamma", "_pairs"))
  out
}

## Equally spaced series of different lengths.
Ovary$obs <- ave(Ovary$Time, Ovary$Mare, FUN = seq_along)
fm <- lme(follicles ~ sin(2*pi*Time) + cos(2*pi*Time), Ovary, random = ~ 1 | Mare,
          correlation = corAR1())
parts <- list(group = as.integer(as.character(getGroups(fm))))
for (kind in c("pearson", "normalized")) {
  a <- ACF(fm, resType = kind)
  a10 <- ACF(fm, maxLag = 10, resType = kind)
  parts[[kind]] <- as.numeric(resid(fm, type = kind))
  parts[[paste0(kind, "_acf")]] <- a$ACF
  parts[[paste0(kind, "_pairs")]] <- attr(a, "n.used")
  parts[[paste0(kind, "_acf10")]] <- a10$ACF
}
parts <- c(parts,
  ## form = ~ 1, the default, counts rows by the order of the groups' levels, which
  ## is not that of the rows here; so the occasions are numbered by hand
  variogram("rows", Variogram(fm, form = ~ obs, data = Ovary, collapse = "none") |>
    (\(v) {                                # without collapsing: means by distance
      s <- split(v$variog, v$dist)
      data.frame(dist = as.numeric(names(s)), variog = vapply(s, mean, 0),
                 n.pairs = lengths(s))
    })()))
put(parts, "ovary.json")

## Unequally spaced times.
fm <- lme(weight ~ Time * Diet, BodyWeight, random = ~ Time | Rat,
          correlation = corExp(form = ~ Time))
parts <- list(group = as.integer(as.character(getGroups(fm))), time = BodyWeight$Time,
              pearson = as.numeric(resid(fm, type = "pearson")))
parts <- c(parts,
  variogram("plain", Variogram(fm, form = ~ Time)),
  variogram("near", Variogram(fm, form = ~ Time, maxDist = 42)),
  variogram("robust", Variogram(fm, form = ~ Time, robust = TRUE)),
  variogram("fixed", Variogram(fm, form = ~ Time, collapse = "fixed", nint = 6)),
  variogram("quantiles", Variogram(fm, form = ~ Time, nint = 6)),
  variogram("robust6", Variogram(fm, form = ~ Time, nint = 6, robust = TRUE)))
put(parts, "bodyweight.json")
