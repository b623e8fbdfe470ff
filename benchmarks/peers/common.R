# Arguments, measuring and output of the scripts beside this file, which are
# called by rpeer.py with key=value arguments; data.csv and tiny.csv lie in the
# folder.  Reading them is not part of the time.

pairs <- strsplit(commandArgs(trailingOnly = TRUE), "=", fixed = TRUE)
arg <- lapply(pairs, function(p) paste(p[-1], collapse = "="))
names(arg) <- vapply(pairs, `[`, "", 1)
number <- function(key) as.numeric(arg[[key]])

begin <- proc.time()[["elapsed"]]
suppressPackageStartupMessages(library(arg$package, character.only = TRUE))
import_s <- proc.time()[["elapsed"]] - begin

read <- function(name) read.csv(file.path(arg$folder, name))

# Peak resident memory, as for the Python peers: reset, then read.
peak_bytes <- function() {
  lines <- tryCatch(readLines("/proc/self/status"), error = function(e) "")
  line <- grep("^VmHWM:", lines, value = TRUE)
  if (length(line)) 1024 * as.numeric(gsub("[^0-9]", "", line)) else NA
}
reset_peak <- function() {
  gc()
  try(cat("5", file = "/proc/self/clear_refs"), silent = TRUE)
}

quietly <- function(expr) suppressWarnings(suppressMessages(expr))
now <- function() {
  p <- proc.time()
  c(wall = p[["elapsed"]], cpu = p[["user.self"]] + p[["sys.self"]])
}

# Seconds of a fit of the tiny data: what a first fit loads or compiles.
warm_up <- function(fit_one) {
  small <- read("tiny.csv")
  begin <- proc.time()[["elapsed"]]
  try(quietly(fit_one(small)), silent = TRUE)
  proc.time()[["elapsed"]] - begin
}

write_result <- function(result, note = NULL) {
  lines <- vapply(names(result), function(key) {
    paste(c(key, format(as.numeric(result[[key]]), digits = 15, trim = TRUE)),
          collapse = "\t")
  }, "")
  if (length(note)) lines <- c(lines, paste0("note\t", note))
  writeLines(lines, arg$out)
}
