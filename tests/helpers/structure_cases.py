"""A fit of every residual structure, and the same numbers from dense matrices."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

import mixedar.formula.api as mar
from helpers import oracle
from mixedar.data.model_data import ModelData
from mixedar.exceptions import BoundaryWarning
from mixedar.fit import Fit
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


def series(data: ModelData) -> Iterator[tuple[Array, Array]]:
    """Rows of each series in the caller's order, and their positions."""
    grouped = data.grouped
    n = len(grouped.gaps)
    order = np.arange(n) if grouped.order is None else grouped.order
    starts = np.flatnonzero(grouped.gaps == 0.0)
    for first, end in zip(starts, np.append(starts[1:], n), strict=True):
        time = np.cumsum(grouped.gaps[first:end])
        if grouped.marks is not None:
            time = np.column_stack([time, grouped.marks[first:end]])
        yield order[first:end], time


def residual_covariance(fit: Fit, params: Array) -> Array:
    """R of all rows at some residual parameters, series by series."""
    out = np.zeros((fit.nobs, fit.nobs))
    for rows, where in series(fit.data):
        out[np.ix_(rows, rows)] = fit.structure.correlation(where, params)
    return out


def dense(fit: Fit, params: Any = None, psi: Any = None) -> oracle.Solution:
    """
    The fit from dense matrices, at its own parameters or at others.

    Parameters
    ----------
    fit : the fit
    params : array_like, residual parameters
    psi : array_like, covariance of random effects relative to the scale
    """
    data = fit.data
    problem = oracle.Problem(data.endog, data.exog, data.codes, data.exog_re, data.time)
    at = oracle.Parameters(
        1.0,
        cov_re=fit.cov_re_unscaled if psi is None else psi,
        R=residual_covariance(fit, fit.residual_params if params is None else params),
    )
    return oracle.solve(problem, oracle.profile(problem, at, fit.reml), fit.reml)
