"""
From replicates to tables: sizes, coverages, failures, with Monte-Carlo errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.calibration.designs import CELLS, Cell, best_estimates, truth
from benchmarks.calibration.methods import EFFECTS, KR, METHODS, ROBUST
from benchmarks.calibration.study import PARTS, Part, load

__all__ = ["FALLBACK", "select", "summaries"]

LEVEL = 0.05
#: The full correction, or the linear one where the full one is refused.
FALLBACK = {
    f"Kenward-Roger full or linear, {information}": (
        f"Kenward-Roger full, {information}",
        f"Kenward-Roger linear, {information}",
    )
    for information in ("expected", "observed")
}
_ORDER = (
    *("normal", "residual", "containment", "nlme", "between-within"),
    *(name for name in METHODS if name.startswith("Satterthwaite")),
    *KR,
    *FALLBACK,
    ROBUST,
)
_INSTEAD = ["p", "estimate", "se", "df"]


def select(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Rows in which columns have given values."""
    keep = np.ones(len(table), dtype=bool)
    for column, value in values.items():
        keep &= (table[column] == value).to_numpy()
    return table[keep]


def _share(count: float, n: int) -> tuple[float, float]:
    """A proportion and its standard error."""
    if n == 0:
        return np.nan, np.nan
    share = count / n
    return share, float(np.sqrt(share * (1.0 - share) / n))


def _with_fallback(tests: pd.DataFrame) -> pd.DataFrame:
    """Add what a user gets who follows the advice of the error message."""
    parts = [tests]
    key = ["replicate", "effect"]
    for name, (full, linear) in FALLBACK.items():
        first = select(tests, method=full).set_index(key)
        second = select(tests, method=linear).set_index(key)
        values = first[_INSTEAD].where(first["p"].notna(), second[_INSTEAD])
        parts.append(values.reset_index().assign(method=name, reason=""))
    return pd.concat(parts, ignore_index=True)


def _true_errors(tests: pd.DataFrame, cell: Cell) -> dict[str, float]:
    """
    Standard errors of the estimates of a study.

    The spread of the estimates, divided by the spread of the best estimates with
    the true covariance on the same data and multiplied by what that spread is
    in truth: most of the simulation's noise drops out.
    """
    one = tests[tests["method"] == tests["method"].iloc[0]]
    table = one.pivot(index="replicate", columns="effect", values="estimate")
    table = table[list(EFFECTS)].dropna()
    best, errors = best_estimates(cell, int(table.index.max()) + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (table**2).mean() / (best[table.index] ** 2).mean(axis=0)
    return dict(zip(EFFECTS, errors * np.sqrt(ratio.to_numpy()), strict=True))


def _test_rows(tests: pd.DataFrame, cell: Cell) -> Iterable[dict[str, Any]]:
    true = _true_errors(tests, cell)
    grouped = tests.groupby(["method", "effect"], sort=False)
    for (method, effect), group in grouped:
        used = group[group["p"].notna()]
        rejected = int((used["p"] < LEVEL).sum())
        size, error = _share(rejected, len(used))
        single = effect in EFFECTS
        estimated = np.sqrt((used["se"] ** 2).mean())
        yield {
            "method": method,
            "effect": effect,
            "replicates": len(group),
            "failed": len(group) - len(used),
            "rejected": rejected,
            "size": size,
            "mcse": error,
            # an interval covers the true value, zero, where the test accepts it
            "coverage": 1.0 - size if single else np.nan,
            "se_ratio": estimated / true[str(effect)] if single else np.nan,
            "df_median": used["df"].dropna().median(),
        }


def _interval_rows(table: pd.DataFrame, cell: Cell) -> Iterable[dict[str, Any]]:
    true = truth(cell)
    grouped = table.groupby(["method", "parameter"], sort=False)
    for (method, parameter), group in grouped:
        used = group[group["lower"].notna() & group["upper"].notna()]
        value = true[str(parameter)]
        below = int((used["upper"] < value).sum())
        above = int((used["lower"] > value).sum())
        coverage, error = _share(len(used) - below - above, len(used))
        yield {
            "method": method,
            "parameter": parameter,
            "replicates": len(group),
            "failed": len(group) - len(used),
            "coverage": coverage,
            "mcse": error,
            "too_low": below,
            "too_high": above,
            "width_median": (used["upper"] - used["lower"]).median(),
        }


def _fit_rows(ours: Part, nlme: Part) -> Iterable[dict[str, Any]]:
    fits = ours["fits"]
    yield {
        "program": "mixedar",
        "replicates": len(fits),
        "failed": int((fits["error"] != "").sum()),
        "boundary": float(fits["boundary"].mean()),
        "several_modes": float((fits["modes"] > 1).mean()),
        "rho_mean": fits["rho"].mean(),
        "rho_sd": fits["rho"].std(),
    }
    if not nlme:
        return
    other = nlme["fits"].set_index("replicate")
    best = fits.set_index("replicate")["llf"].reindex(other.index)
    fitted = other["error"] == ""
    inside = ~fits.set_index("replicate")["boundary"].reindex(other.index).astype(bool)
    yield {
        "program": "nlme",
        "replicates": len(other),
        "failed": int((~fitted).sum()),
        "failed_inside": int((~fitted & inside).sum()),
        "inside": int(inside.sum()),
        "intervals_failed": int((other["interval_error"] != "").sum()),
        "below_maximum": int((other["llf"] < best - 0.01)[fitted].sum()),
        "above_maximum": int((other["llf"] > best + 0.01)[fitted].sum()),
        "version": str(other["version"].iloc[0]),
    }


def _unit_rows(ours: Part, finer: Part) -> Iterable[dict[str, Any]]:
    """How Kenward-Roger's results change with the unit of time."""
    key = ["replicate", "effect"]
    n = int(finer["tests"]["replicate"].max()) + 1
    for name in KR:
        one = select(ours["tests"], method=name)
        one = one[one["replicate"] < n].set_index(key)
        two = select(finer["tests"], method=f"{name}, finer time")
        two = two.set_index(key).loc[one.index]
        effect = one.index.get_level_values("effect")
        single = effect == "time:treatment"
        change = np.abs(np.log(one["se"] / (3.0 * two["se"])))[single]
        yield {
            "method": name,
            "replicates": n,
            "failed": int(one["p"].isna()[single].sum()),
            "failed_finer": int(two["p"].isna()[single].sum()),
            "se_change_median": float(np.expm1(change.median())),
            "se_change_largest": float(np.expm1(change.max())),
            "decisions_changed": int(
                ((one["p"] < LEVEL) != (two["p"] < LEVEL))[
                    single & one["p"].notna() & two["p"].notna()
                ].sum()
            ),
        }


def summaries(folder: Path) -> dict[str, pd.DataFrame]:
    """
    All tables of the checkpoints in a folder.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    dict of DataFrame
        ``tests``, ``intervals``, ``fits`` and ``units``, those with rows.
    """
    rows: dict[str, list[dict[str, Any]]] = {}

    def add(name: str, cell: Cell, found: Iterable[dict[str, Any]]) -> None:
        where = {"model": cell.model, "design": cell.design, "rho": cell.rho}
        rows.setdefault(name, []).extend({**where, **row} for row in found)

    for cell in CELLS:
        parts = {name: load(cell, name, folder) for name in PARTS}
        ours, nlme, finer = parts["tests"], parts["nlme"], parts["unit"]
        if ours:
            add("tests", cell, _test_rows(_with_fallback(ours["tests"]), cell))
            add("fits", cell, _fit_rows(ours, nlme))
        if nlme:
            add("tests", cell, _test_rows(nlme["tests"], cell))
        if ours and finer:
            add("units", cell, _unit_rows(ours, finer))
        for name in ("tests", "profile", "bootstrap", "nlme"):
            if parts[name]:
                add("intervals", cell, _interval_rows(parts[name]["intervals"], cell))
    tables = {name: pd.DataFrame(one) for name, one in rows.items()}
    if "tests" in tables:  # in one order, whatever was run first
        place = {name: k for k, name in enumerate(_ORDER)}
        order = tables["tests"]["method"].map(place).astype(int)
        cell = tables["tests"].groupby(["model", "design", "rho"], sort=False).ngroup()
        tables["tests"] = tables["tests"].iloc[np.lexsort((order, cell))]
    return tables
