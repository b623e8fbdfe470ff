"""nlme with its defaults on the same responses, by one R process a cell."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.calibration.designs import MODELS, Cell, frame, responses
from benchmarks.calibration.methods import EFFECTS

__all__ = ["missing", "run_nlme"]

_PARAMETERS = ("id Var", "rho", "scale", "time Var", "corr(id, time)")


def missing() -> str | None:
    """Why nlme cannot run here, or None."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        return "Rscript is not on the PATH"
    ask = [rscript, "--vanilla", "-e", 'cat(requireNamespace("nlme", quietly = TRUE))']
    found = subprocess.run(ask, capture_output=True, text=True, check=False)
    return None if found.stdout.strip() == "TRUE" else "nlme is not installed"


def run_nlme(cell: Cell, n: int) -> dict[str, pd.DataFrame]:
    """
    Fit the first responses of a cell.

    Parameters
    ----------
    cell : Cell
    n : int

    Returns
    -------
    dict of DataFrame
        ``fits``, ``tests`` and ``intervals`` in the form of
        :func:`benchmarks.calibration.study.run_part`.
    """
    with tempfile.TemporaryDirectory() as folder:
        design, binary, out = (Path(folder) / f for f in ("d.csv", "y.bin", "out.csv"))
        frame(cell.design).to_csv(design, index=False)
        responses(cell, n).tofile(binary)
        script = Path(__file__).with_name("nlme.R")
        files = [str(design), str(binary), str(n), MODELS[cell.model], str(out)]
        command = [shutil.which("Rscript") or "Rscript", "--vanilla", str(script)]
        subprocess.run([*command, *files], check=True, capture_output=True)
        return _read(pd.read_csv(out, keep_default_na=False, na_values=["NA"]))


def _read(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    fits = table[["replicate", "llf", "error", "interval_error", "version"]]
    effects = []
    for k, effect in enumerate(EFFECTS, start=1):
        columns = {"p": "p", "estimate": "est", "se": "se", "df": "df"}
        part = pd.DataFrame({new: table[f"{old}.{k}"] for new, old in columns.items()})
        effects.append(part.assign(replicate=table["replicate"], effect=effect))
    joint = pd.DataFrame({"replicate": table["replicate"], "p": table["joint"]})
    effects.append(joint.assign(effect="F time"))
    tests = pd.concat(effects, ignore_index=True).assign(method="nlme")
    tests["reason"] = tests["replicate"].map(fits.set_index("replicate")["error"])
    ends = []
    for k, name in enumerate(_PARAMETERS):
        if f"ends.{2 * k + 1}" not in table:
            break
        limits = {
            "replicate": table["replicate"],
            "parameter": name,
            "lower": table[f"ends.{2 * k + 1}"],
            "upper": table[f"ends.{2 * k + 2}"],
        }
        ends.append(pd.DataFrame(limits))
    intervals = pd.concat(ends, ignore_index=True).assign(method="nlme")
    intervals["estimate"] = np.nan
    return {"fits": fits, "tests": tests, "intervals": intervals}
