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

# Peak memory beyond that at the start, as for the Python peers: reset, then
# read.  What reading the file has freed stays with the process, and what is then
# allocated there does not show in resident memory; R's own count of its heap sees
# that, but not what compiled code allocates.  So the larger of the two.
resident <- function() {
  lines <- tryCatch(readLines("/proc/self/status"), error = function(e) "")
  line <- grep("^VmHWM:", lines, value = TRUE)
  if (length(line)) 1024 * as.numeric(gsub("[^0-9]", "", line)) else NA
}
heap <- function(counts) 2^20 * sum(counts[, ncol(counts)])  # its peak, in MB
start_memory <- function() {
  counts <- gc(reset = TRUE)
  try(cat("5", file = "/proc/self/clear_refs"), silent = TRUE)
  c(resident(), heap(counts))
}
extra_memory <- function(start) max(c(resident(), heap(gc())) - start, na.rm = TRUE)

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
