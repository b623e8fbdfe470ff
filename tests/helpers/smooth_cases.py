"""Reference fits of smooths, and matrices of a fit written out."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar

ROOT = Path(__file__).parent.parent / "reference" / "smooths"
NAMES = sorted(path.stem for path in ROOT.glob("*.json"))
# mgcv's functions of each level that the penalty does not see are a rotation of the
# constant and the line that depends on rounding, and so is the fit
SAME = [name for name in NAMES if "_fs_" not in name]


@cache
def case(name: str) -> dict[str, Any]:
    return json.loads((ROOT / f"{name}.json").read_text())


@cache
def table(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "data" / f"{name}.csv")


@cache
def fitted(name: str) -> Any:
    found = case(name)
    options: dict[str, Any] = {"residual": "independent"}
    if found["residual"]:
        options = {"groups": "id", "time": found["time"], "residual": "ar1"}
    model = mar.mixedlm(found["lme4_formula"], table(found["data"]), **options)
    if not found["expected"]["at_boundary"]:
        return model.fit(reml=found["reml"])
    with pytest.warns(UserWarning, match=r"s\(x\) is a straight line"):
        return model.fit(reml=found["reml"])


def noisy(name: str) -> pd.DataFrame:
    """Data of a case with less of a curve in them."""
    rows = table(name)
    noise = 3.0 * np.sin(17.0 * np.arange(1.0, len(rows) + 1.0) ** 2)
    y, w, v = rows["y"] + noise, rows["x"] + 1.0, rows["time"] * rows["x"]
    return rows.assign(y=y, w=w, v=v)


def dense(fit: Any) -> tuple[Any, Any, Any]:
    """
    Columns of fixed effects and of all further terms, their covariance Vp, and the
    inverse of the coefficients' own covariance, for residuals of AR(1) or independent.
    """
    data, sigma2 = fit.fit.data, fit.scale
    rho = fit.residual_params.get("rho", 0.0)
    same = data.codes[:, None] == data.codes
    lags = np.zeros((data.nobs, data.nobs))
    if rho:
        lags = np.abs(np.subtract.outer(np.asarray(data.time), np.asarray(data.time)))
    else:
        same = np.eye(data.nobs, dtype=bool)
    v = sigma2 * np.where(same, rho**lags, 0.0)
    groups = data.codes[:, None] == data.codes
    v += np.where(groups, data.random_design @ fit.cov_re @ data.random_design.T, 0.0)
    blocks, prior = [data.exog], [np.zeros((data.k_fe, data.k_fe))]
    for term, variance in zip(data.terms, _variances(fit), strict=True):
        m, k = len(term.levels), term.design.shape[1]
        columns = np.zeros((data.nobs, m, k))
        columns[np.arange(data.nobs), term.codes] = term.design
        blocks.append(columns.reshape(data.nobs, -1))
        own = np.eye(m * k)
        if term.between is not None:
            own = np.linalg.inv(term.between.matrix(fit.fit.unconstrained[-1:]).value)
        prior.append(own / variance)
    columns = np.hstack(blocks)
    starts = np.cumsum([0, *map(len, prior)])
    penalty = np.zeros((starts[-1],) * 2)
    for a, b, own in zip(starts, starts[1:], prior, strict=False):
        penalty[a:b, a:b] = own
    information = columns.T @ np.linalg.solve(v, columns)
    return columns, np.linalg.inv(information + penalty), penalty


def _variances(fit: Any) -> Any:
    return np.diag(fit.fit.effect_cov)[fit.fit.k_re :]


def close(found: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    np.testing.assert_allclose(
        np.asarray(found, dtype=float), np.asarray(expected, dtype=float), rtol, atol
    )
