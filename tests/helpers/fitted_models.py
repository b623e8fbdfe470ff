"""One fit of every kind, shared by the tests of results."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers import oracle
from mixedar import AR1
from mixedar.exceptions import (
    BoundaryWarning,
)


@cache
def reference_frame() -> pd.DataFrame:
    """Data that must not be changed; take a copy."""
    rng = np.random.default_rng(11)
    m, size = 40, 8
    group = np.repeat(np.arange(m), size)
    time = np.tile(np.arange(size), m)
    noise = rng.normal(size=(m, size))
    for k in range(1, size):
        noise[:, k] = 0.6 * noise[:, k - 1] + 0.8 * noise[:, k]
    x = rng.normal(size=m * size)
    b = rng.normal(size=(2, m))[:, group]
    day = rng.normal(size=(m, 2))[group, time // 4]
    y = 1.0 + 0.5 * x + 2.5 * b[0] + 0.9 * b[1] * x + 1.2 * day + noise.ravel()
    frame = pd.DataFrame({"y": y, "x": x, "t": time, "id": group})
    frame["arm"] = np.where(group % 3 == 0, "b", "a")
    frame["day"] = frame["t"] // 4
    keep = rng.uniform(size=len(frame)) < 0.85
    frame = frame[keep].sample(frac=1.0, random_state=1)
    frame.index = pd.Index([f"row{k}" for k in range(len(frame))][::-1], name="label")
    return frame


MODELS: dict[str, dict[str, Any]] = {
    "intercept": {},
    "slope": {"re_formula": "~ x"},
    "diagonal": {"re_formula": "~ x", "re_cov": "diagonal"},
    "gls": {"re_formula": "0"},
    "car1": {"residual": "car1", "re_formula": "~ x"},
    "independent": {"residual": "independent", "re_formula": "~ x"},
    "components": {"vc_formula": {"day": "0 + C(day)"}},
    "both": {"vc_formula": {"day": "0 + C(day)"}, "re_formula": "1"},
    "series": {"series": "day"},
    "fixed": {"residual": AR1(0.4, fixed=True)},
    "ols": {"residual": "independent", "re_formula": "0"},
}


def build(data: pd.DataFrame, formula: str = "y ~ x + arm", **options: Any) -> Any:
    """A model of the frame."""
    # names in formulas are those of the caller
    options = {"groups": "id", "time": "t", "eval_env": 1, **options}
    return mar.mixedlm(formula, data, **options)


def fit_named(name: str, reml: bool = True) -> Any:
    """A fit of one's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        return build(reference_frame().copy(), **MODELS[name]).fit(reml=reml)


@cache
def shared(name: str, reml: bool = True) -> Any:
    """A fit that no test may change."""
    return fit_named(name, reml)


every = pytest.mark.parametrize("name", MODELS)


def oracle_of(fit: Any) -> tuple[oracle.Problem, oracle.Parameters]:
    """The same model and estimates for the oracle, which reads the frame itself."""
    data, model = reference_frame(), fit.model
    names = model.exog_vc.names
    problem = oracle.Problem(
        y=data["y"].to_numpy(),
        X=np.asarray(model.exog),
        groups=data["id"].to_numpy(),
        Z=None if fit.k_re == 0 else np.asarray(model.exog_re),
        time=data["t"].to_numpy(dtype=float),
        series=None if model.series is None else data["day"].to_numpy(),
        vc={name: data[name].to_numpy() for name in names},
    )
    rho = fit.residual_params.get("rho", 0.0)
    return problem, oracle.Parameters(
        sigma2=fit.scale,
        rho=float(rho),
        cov_re=None if fit.k_re == 0 else np.asarray(fit.cov_re),
        vcomp=dict(zip(names, np.asarray(fit.vcomp), strict=True)),
    )


def dense(fit: Any) -> oracle.DenseResiduals:
    """The residuals of a fit of the frame, written out."""
    problem, at = oracle_of(fit)
    u = np.array([at.rho][: fit.fit.structure.k_free])
    return oracle.DenseResiduals(
        problem, at, u, diagonal=fit.model.re_cov == "diagonal"
    )
