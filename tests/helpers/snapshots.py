"""All numbers of a fit, to see that nothing changed them."""

from __future__ import annotations

from typing import Any

import numpy as np


def numbers(fit: Any) -> dict[str, Any]:
    """Everything that does not need the data."""
    return {
        name: np.asarray(getattr(fit, name), dtype=float)
        for name in (
            "params",
            "fe_params",
            "bse",
            "bse_fe",
            "cov_re",
            "vcomp",
            "scale",
            "residual_params",
            "llf",
            "aic",
            "bic",
            "df",
            "tvalues",
            "pvalues",
            "nobs",
            "n_groups",
            "converged",
            "at_boundary",
            "df_modelwc",
            "bse_scale",
        )
    } | {
        "conf_int": np.asarray(fit.conf_int()),
        "cov_params": np.asarray(fit.cov_params()),
        "modes": fit.modes.to_numpy(dtype=float),
        "method": fit.method,
    }


def snapshot(fit: Any) -> dict[str, Any]:
    """All numbers, those of rows and groups included."""
    out = numbers(fit)
    for name in ("fittedvalues", "fitted_marginal", "resid"):
        out[name] = np.asarray(getattr(fit, name))
    for kind in ("raw", "pearson", "normalized"):
        out[kind] = fit.residuals(kind=kind).to_numpy()
    for label, b in fit.random_effects.items():
        out[f"b {label}"] = b.to_numpy()
        out[f"cov b {label}"] = fit.random_effects_cov[label].to_numpy()
    return out


def assert_same_snapshot(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, str):
            assert found[name] == value
        else:
            np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=name)
