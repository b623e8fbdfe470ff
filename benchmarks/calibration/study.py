"""
The parts of the study, cell by cell, with checkpoints.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import mixedar.formula.api as mar
from benchmarks.calibration.designs import MODELS, Cell, frame, responses
from benchmarks.calibration.methods import KR, rows_of_intervals, rows_of_tests
from benchmarks.calibration.nlme import run_nlme
from mixedar.exceptions import MixedARError

__all__ = ["PARTS", "Part", "load", "run_part"]

#: Tables of one part of one cell: ``fits``, ``tests``, ``intervals``.
Part = dict[str, pd.DataFrame]

#: Time is also counted in thirds of its unit: rho is then its cube root.
_FINER = 3


def _model(cell: Cell, unit: int = 1) -> Any:
    data = frame(cell.design).assign(y=0.0)
    data["time"] *= unit
    data["y"] = responses(cell, 1)[0]
    return mar.mixedlm(
        "y ~ time * treatment",
        data,
        groups="id",
        re_formula=MODELS[cell.model],
        time="time",
    )


def _each(cell: Cell, n: int, ask: Callable[[Any], Part], unit: int = 1) -> Part:
    """Fit n responses and collect what is asked of each fit."""
    model = _model(cell, unit)
    found: dict[str, list[pd.DataFrame]] = {}
    for r, y in enumerate(responses(cell, n)):
        start = time.perf_counter()
        try:
            fit = model.refit(y)
        except (MixedARError, np.linalg.LinAlgError) as error:
            answer = {"fits": pd.DataFrame([{"error": str(error)}])}
        else:
            facts = {
                "llf": fit.llf,
                "rho": fit.rho,
                "boundary": fit.at_boundary,
                "modes": len(fit.modes),
                "error": "" if fit.converged else "not converged",
                "seconds": time.perf_counter() - start,
            }
            answer = {"fits": pd.DataFrame([facts]), **ask(fit)}
        for name, table in answer.items():
            found.setdefault(name, []).append(table.assign(replicate=r))
    return {name: pd.concat(all_, ignore_index=True) for name, all_ in found.items()}


def _tests(cell: Cell, n: int, _: int) -> Part:
    def ask(fit: Any) -> Part:
        return {
            "tests": pd.DataFrame(rows_of_tests(fit)),
            "intervals": pd.DataFrame(rows_of_intervals(fit, cell, "wald")),
        }

    return _each(cell, n, ask)


def _unit(cell: Cell, n: int, _: int) -> Part:
    def ask(fit: Any) -> Part:
        return {"tests": pd.DataFrame(rows_of_tests(fit, KR))}

    found = _each(cell, n, ask, unit=_FINER)
    found["tests"]["method"] += ", finer time"
    return found


def _profile(cell: Cell, n: int, _: int) -> Part:
    def ask(fit: Any) -> Part:
        return {"intervals": pd.DataFrame(rows_of_intervals(fit, cell, "profile"))}

    return _each(cell, n, ask)


def _bootstrap(cell: Cell, n: int, n_boot: int) -> Part:
    def ask(fit: Any) -> Part:
        options = {"n_boot": n_boot, "seed": 1}
        rows = rows_of_intervals(fit, cell, "bootstrap", **options)
        return {"intervals": pd.DataFrame(rows)}

    return _each(cell, n, ask)


def _nlme(cell: Cell, n: int, _: int) -> Part:
    return run_nlme(cell, n)


#: What is run, in this order: function of cell, replicates, bootstrap draws.
PARTS: dict[str, Callable[[Cell, int, int], Part]] = {
    "tests": _tests,
    "nlme": _nlme,
    "profile": _profile,
    "unit": _unit,
    "bootstrap": _bootstrap,
}


def _path(folder: Path, cell: Cell, part: str) -> Path:
    return folder / f"{cell.name}.{part}"


def run_part(cell: Cell, part: str, n: int, folder: Path, n_boot: int = 200) -> bool:
    """
    Run one part of one cell unless its checkpoint is there.

    Parameters
    ----------
    cell : Cell
    part : str
        Key of :data:`PARTS`.
    n : int
        Replicates.
    folder : Path
        Of the checkpoints.
    n_boot : int
        Bootstrap draws.

    Returns
    -------
    bool
        Whether anything was run.
    """
    target = _path(folder, cell, part)
    done = target / "replicates"
    if done.exists() and int(done.read_text()) >= n:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = PARTS[part](cell, n, n_boot)
    target.mkdir(parents=True, exist_ok=True)
    for name, table in found.items():
        table.to_csv(target / f"{name}.csv.gz", index=False, float_format="%.8g")
    done.write_text(str(n))  # the last: without it the part counts as not run
    return True


def load(cell: Cell, part: str, folder: Path) -> Part:
    """
    Read a checkpoint.

    Parameters
    ----------
    cell : Cell
    part : str
    folder : Path

    Returns
    -------
    dict of DataFrame
        Empty if the part has not been run.
    """
    target = _path(folder, cell, part)
    if not (target / "replicates").exists():
        return {}
    found = {}
    for path in sorted(target.glob("*.csv.gz")):
        text = dict.fromkeys(("error", "interval_error", "reason"), object)
        table = pd.read_csv(path, dtype=text)
        for column in set(text) & set(table):
            table[column] = table[column].fillna("")
        found[path.name.partition(".")[0]] = table
    return found
