"""Smooths of covariates: values of mgcv's gamm and gamm4."""

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
every = pytest.mark.parametrize("name", SAME)


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
    formula = found["lme4_formula"]
    model = mar.mixedlm(formula, table(found["data"]), **options)
    boundary = pytest.warns(UserWarning, match=r"s\(x\) Var")
    if not found["expected"]["at_boundary"]:
        return model.fit(reml=found["reml"])
    with boundary:
        return model.fit(reml=found["reml"])


def close(found: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    np.testing.assert_allclose(
        np.asarray(found, dtype=float), np.asarray(expected, dtype=float), rtol, atol
    )


@every
def test_estimates(name: str) -> None:
    fit, found = fitted(name), case(name)
    expected = found["expected"]
    assert fit.converged
    llf = fit.llf
    if found["reml"]:
        exog = fit.model.exog
        llf += 0.5 * np.linalg.slogdet(exog.T @ exog)[1]
    key = "loglike_invariant" if found["reml"] else "loglike"
    close(llf, expected[key], 0.0, 1e-7)
    close(fit.scale, expected["sigma2"], 1e-6)
    close(fit.residual_params, list(expected["residual_params"].values()), 1e-6)
    for smooth in expected["smooths"]:
        variance = fit.params[f"{smooth['label']} Var"]
        # a thin plate spline's coordinates are not unique under ML
        if name != "smooth_tp_gamm4_ml":
            close(variance, smooth["variance"], 1e-5, 1e-12)


@every
def test_fitted_values(name: str) -> None:
    fit, expected = fitted(name), case(name)["expected"]
    rows = expected["rows_first10"]
    rtol = 2e-4 if name == "smooth_tp_gamm4_ml" else 1e-5
    close(fit.fittedvalues[rows], expected["fitted_conditional"], rtol)
