"""A fit of every residual structure, and the same numbers from dense matrices."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import block_diag

import mixedar.formula.api as mar
from mixedar.exceptions import BoundaryWarning
from mixedar.residual import (
    AR1,
    ARMA,
    CAR1,
    CompoundSymmetry,
    Exponential,
    Gaussian,
    Linear,
    Matern,
    RationalQuadratic,
    Spherical,
    Toeplitz,
)
from mixedar.residual.variance import VarConstPower, VarExp, VarIdent, VarPower

Array = Any


@cache
def visits() -> pd.DataFrame:
    """Unsorted, with missing visits, coordinates and a positive covariate."""
    rng = np.random.default_rng(12)
    m, size = 50, 5
    noise = rng.normal(size=(m, size))
    for k in range(1, size):
        noise[:, k] = 0.5 * noise[:, k - 1] + 0.8 * noise[:, k]
    group = np.repeat(np.arange(m), size)
    visit = np.tile(np.arange(size), m)
    arm = np.array(["a", "b"])[group % 2]
    dose = rng.uniform(0.5, 2.0, m * size)
    y = 3.0 + 0.4 * visit + 0.7 * (arm == "b") + 0.5 * rng.normal(size=m)[group]
    y += noise.ravel() * (1.0 + 0.1 * visit) * dose**0.3
    data = pd.DataFrame({"y": y, "visit": visit, "arm": arm, "id": group, "dose": dose})
    data["east"] = visit + rng.uniform(-0.3, 0.3, m * size)
    data["north"] = rng.uniform(0.0, 2.0, m * size)
    keep = rng.uniform(size=len(data)) < 0.85
    data = data[keep].sample(frac=1.0, random_state=3)
    data.index = pd.Index([f"row{k}" for k in range(len(data))], name="label")
    return data


@dataclass(frozen=True)
class StructureCase:
    """What is passed as ``residual=``, ``weights=`` and ``re_formula=``."""

    residual: Any
    weights: Any = None
    re_formula: str = "0"

    def model(self, data: pd.DataFrame | None = None, **options: Any) -> Any:
        data = visits().copy() if data is None else data
        given = {
            "groups": "id",
            "time": "visit",
            "residual": self.residual,
            "weights": self.weights,
            "re_formula": self.re_formula,
        }
        return mar.mixedlm("y ~ visit + arm", data, **(given | options))


PLANE = ("east", "north")
CASES: dict[str, StructureCase] = {
    "ar1": StructureCase(AR1(), re_formula="1"),
    "ar1 by": StructureCase(AR1(by="arm"), re_formula="1"),
    "ar1 nugget": StructureCase(AR1(nugget=True)),
    "car1 by": StructureCase(CAR1(by="arm"), re_formula="1"),
    "arma11": StructureCase(ARMA(1, 1)),
    "ar2": StructureCase(ARMA(2, 0)),
    "ma2": StructureCase(ARMA(0, 2), re_formula="1"),
    "cs": StructureCase("cs"),
    "cs by": StructureCase(CompoundSymmetry(by="arm")),
    "csh": StructureCase("csh"),
    "toep": StructureCase("toep"),
    "toep3": StructureCase(Toeplitz(3), re_formula="1"),
    "toeph": StructureCase("toeph"),
    "ad": StructureCase("ad", re_formula="1"),
    "adh": StructureCase("adh"),
    "unr": StructureCase("unr"),
    "un": StructureCase("un"),
    "ar1h": StructureCase("ar1h", re_formula="1"),
    "exp": StructureCase("exp", re_formula="1"),
    "exp plane": StructureCase(Exponential(coords=PLANE), re_formula="1"),
    "gau": StructureCase("gau", re_formula="1"),
    "gau plane": StructureCase(Gaussian(coords=PLANE, nugget=True)),
    "mat": StructureCase(Matern(smoothness=1.5), re_formula="1"),
    "mat free": StructureCase(Matern(coords=PLANE)),
    "sph": StructureCase(Spherical(coords=PLANE), re_formula="1"),
    "ratio": StructureCase(RationalQuadratic(coords=PLANE), re_formula="1"),
    "lin": StructureCase(Linear(), re_formula="1"),
    "ident": StructureCase("independent", VarIdent("arm"), "~ visit"),
    "ident time": StructureCase("ar1", VarIdent(), "1"),
    "power": StructureCase("arma11", VarPower("dose")),
    "exponential": StructureCase("cs", VarExp("dose")),
    "constant": StructureCase("independent", VarConstPower("dose"), "1"),
    "weights": StructureCase("ar1", "dose", "1"),
}


def fit_of(case: StructureCase, reml: bool = True, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        return case.model(**options).fit(reml=reml)


@cache
def fitted(name: str, reml: bool = True) -> Any:
    """A fit that no test may change."""
    return fit_of(CASES[name], reml)


def series(model: Any) -> Iterator[tuple[Array, Array]]:
    """Rows of each series in the caller's order, and their positions."""
    grouped = model._grouped
    n = len(grouped.gaps)
    order = np.arange(n) if grouped.order is None else grouped.order
    starts = np.flatnonzero(grouped.gaps == 0.0)
    for first, end in zip(starts, np.append(starts[1:], n), strict=True):
        time = np.cumsum(grouped.gaps[first:end])
        if grouped.marks is not None:
            time = np.column_stack([time, grouped.marks[first:end]])
        yield order[first:end], time


@dataclass(frozen=True)
class Dense:
    """What follows from the covariance parameters of a fit."""

    llf: float
    beta: Array
    cov: Array
    scale: float
    effects: Array
    normalized: Array


def dense(fit: Any, params: Any = None, psi: Any = None) -> Dense:
    """
    The fit from dense matrices, group by group, at its own parameters or at others.

    Parameters
    ----------
    fit : results
    params : array_like, residual parameters
    psi : array_like, covariance of random effects relative to the scale
    """
    model = fit.model
    params = fit._residual_values if params is None else params
    psi = np.asarray(fit.cov_re_unscaled) if psi is None else psi
    n, p = model.exog.shape
    w = np.column_stack([model.exog, model.endog])
    z = model.exog_re if model.k_re else np.empty((n, 0))
    groups: dict[int, list[tuple[Array, Array]]] = {}
    for rows, where in series(model):
        block = fit.structure.correlation(where, params)
        groups.setdefault(int(model._codes[rows[0]]), []).append((rows, block))
    logdet, sums, solved = 0.0, np.zeros((p + 1, p + 1)), {}
    for group, parts in groups.items():
        rows = np.concatenate([rows for rows, _ in parts])
        v = block_diag(*(block for _, block in parts)) + z[rows] @ psi @ z[rows].T
        logdet += float(np.linalg.slogdet(v)[1])
        solved[group] = rows, np.linalg.solve(v, w[rows])
        sums += w[rows].T @ solved[group][1]
    information = sums[:p, :p]
    beta = np.linalg.solve(information, sums[:p, p])
    df = n - p if fit.reml else n
    scale = float(sums[p, p] - sums[p, :p] @ beta) / df
    llf = df * (1.0 + np.log(2.0 * np.pi * scale)) + logdet
    if fit.reml:
        llf += float(np.linalg.slogdet(information)[1])
    effects, normalized = np.zeros((len(groups), len(psi))), np.empty(n)
    contrast = np.append(-beta, 1.0)
    for group, (rows, image) in solved.items():
        effects[group] = psi @ z[rows].T @ (image @ contrast)
        rest = w[rows] @ contrast - z[rows] @ effects[group]
        inner = dict(zip(rows, rest, strict=True))
        for part, block in groups[group]:
            rest = np.array([inner[row] for row in part])
            root = np.linalg.cholesky(block)
            normalized[part] = np.linalg.solve(root, rest) / np.sqrt(scale)
    cov = scale * np.linalg.inv(information)
    return Dense(-0.5 * llf, beta, cov, scale, effects, normalized)
