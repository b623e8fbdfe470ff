"""Smooths of covariates: values of mgcv's gamm and gamm4."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.smooth_cases import SAME, case, close, fitted

every = pytest.mark.parametrize("name", SAME)


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
