"""
Fit what `to_lavaan` writes by lavaan and semopy, and keep what they find.

    python written.py        # needs Rscript with lavaan 0.6-14, and semopy 2.3.11

writes ``written.json``: for each case of ``CASES`` the syntax, and log-likelihoods and
estimates of both programs.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import mixedar.formula.api as mar
from mixedar.api import VarIdent
from mixedar.datasets import load_orthodont

HERE = Path(__file__).parent

#: Formula, options, and whether a quarter of the rows is left out.
CASES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "equal": ("y ~ time", {}, False),
    "unequal": ("y ~ time", {"weights": VarIdent("time")}, False),
    "two variances": ("y ~ time", {"weights": VarIdent("late")}, False),
    "ar1": ("y ~ time", {"residual": "ar1"}, False),
    "ar1 unequal": (
        "y ~ time",
        {"residual": "ar1", "weights": VarIdent("time")},
        False,
    ),
    "covariates": ("y ~ time * w + z", {}, False),
    "covariates ar1": ("y ~ time * w + z", {"residual": "ar1"}, False),
    "no correlation": ("y ~ time", {"re_cov": "diagonal"}, False),
    "quadratic": (
        "y ~ time + I(time ** 2)",
        {"re_formula": "~time + I(time ** 2)"},
        False,
    ),
    "intercepts alone": ("y ~ time * w", {"re_formula": "~1"}, False),
    "no random effects": ("y ~ time", {"re_formula": "0", "residual": "ar1"}, False),
    "missing waves": ("y ~ time * w + z", {}, True),
    "missing waves ar1": ("y ~ time", {"residual": "ar1"}, True),
    "teeth": ("y ~ time * sex", {"weights": VarIdent("time")}, False),
}


def fitted(case: str) -> Any:
    """Return the fit of a case by maximum likelihood."""
    formula, options, incomplete = CASES[case]
    data = pd.read_csv(HERE / "data" / "growth_ar1.csv")
    if case == "teeth":
        teeth = load_orthodont()
        data = teeth.rename(columns={"distance": "y", "age": "time", "subject": "id"})
    data["late"] = np.where(data["time"] > data["time"].median(), "yes", "no")
    if incomplete:
        data = data[(7 * np.arange(len(data)) + 3) % 26 >= 6]
    default = {"re_formula": "~time", "residual": "independent"}
    model = mar.mixedlm(
        formula, data, groups="id", time="time", **{**default, **options}
    )
    return model.fit(reml=False)


R = """
suppressMessages({library(lavaan); library(jsonlite)})
args <- commandArgs(TRUE)
out <- list()
for (case in args) {
  syntax <- paste(readLines(paste0(case, ".lav")), collapse = "\\n")
  fit <- growth(syntax, read.csv(paste0(case, ".csv")), missing = "fiml")
  found <- parameterEstimates(fit)
  free <- parTable(fit)$free > 0
  names <- paste0(found$lhs, found$op, found$rhs)[seq_along(free)][free]
  out[[case]] <- list(loglike = as.numeric(logLik(fit)),
    params = as.list(setNames(found$est[seq_along(free)][free], names)))
}
cat(toJSON(out, auto_unbox = TRUE, digits = 10))
"""


def main() -> None:
    """Write the file."""
    import semopy

    with tempfile.TemporaryDirectory() as folder:
        written = {case: fitted(case).to_lavaan() for case in CASES}
        for case, latent in written.items():
            Path(folder, f"{case}.lav").write_text(f"{latent}\n", encoding="utf-8")
            latent.data.to_csv(Path(folder, f"{case}.csv"), index=False)
        Path(folder, "fit.R").write_text(R, encoding="utf-8")
        command = ["Rscript", "fit.R", *CASES]
        run = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True)
    by_lavaan = json.loads(run.stdout)
    out = {}
    for case, latent in written.items():
        best = None
        for solver in ("SLSQP", "trust-constr"):  # the first may stop on its way
            if solver != "SLSQP" and "CONSTRAINT" in latent.semopy:
                continue
            model = semopy.ModelMeans(latent.semopy)
            found = model.fit(latent.data, solver=solver)
            solution = found[0] if isinstance(found, tuple) else found
            if best is None or solution.fun < best[1].fun:
                best = model, solution
        assert best is not None
        model, solution = best
        n = int(latent.data.filter(regex=r"^y\d+$").notna().to_numpy().sum())
        table = model.inspect(se_robust=False)
        names = table["lval"] + table["op"] + table["rval"]
        out[case] = {
            "syntax": str(latent).splitlines(),
            "semopy_syntax": latent.semopy.splitlines(),
            "lavaan": by_lavaan[case],
            "semopy": {
                "loglike": -0.5 * (float(solution.fun) + n * np.log(2.0 * np.pi)),
                "params": dict(zip(names, table["Estimate"], strict=True)),
            },
        }
    text = json.dumps(out, indent=1)
    (HERE / "written.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
