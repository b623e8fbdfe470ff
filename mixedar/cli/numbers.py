"""
The numbers of a fit under plain names, for other programs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["as_json", "results_as_dict"]


def as_json(values: Mapping[str, Any]) -> str:
    """
    JSON text of numbers, strings, arrays and mappings.

    Parameters
    ----------
    values : mapping

    Returns
    -------
    str
        NaN and infinity are null: JSON has no numbers for them.
    """
    return json.dumps(_plain(values), indent=2, allow_nan=False, ensure_ascii=False)


def results_as_dict(fit: Any) -> dict[str, Any]:
    """
    Numbers of a fit under plain names, ready for JSON but for NaN.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    dict
        Fixed effects and covariance parameters by name with standard errors and
        95% intervals; matrices as ``{"names": [...], "values": [[...]]}``.
    """
    names, p = fit.model.data.param_names, fit.k_fe
    columns = [fit.params, fit.bse, fit.tvalues, fit.pvalues]
    estimate, se, t, pvalue = (np.asarray(column) for column in columns)
    interval = np.asarray(fit.conf_int())
    fixed = {
        names[k]: {
            "estimate": estimate[k],
            "se": se[k],
            "df": fit.df_resid.iloc[k],
            "t": t[k],
            "p": pvalue[k],
            "ci": list(interval[k]),
        }
        for k in range(p)
    }
    # a parameter that is held, or lies on a boundary, has no standard error
    covariance = {
        names[k]: {
            "estimate": estimate[k],
            "se": se[k] if se[k] > 0.0 else np.nan,
            "ci": list(interval[k]),
        }
        for k in range(p, len(names))
    }
    cov_fe = np.asarray(fit.cov_params())[:p, :p]
    deviations = np.sqrt(np.diag(cov_fe))
    return {
        "method": fit.method,
        "residual": fit.model.residual.label,
        "converged": fit.converged,
        "at_boundary": fit.at_boundary,
        "boundary_notes": list(fit.boundary_notes),
        "nobs": fit.nobs,
        "n_groups": fit.n_groups,
        "llf": fit.llf,
        "aic": fit.aic,
        "bic": fit.bic,
        "scale": fit.scale,
        "fixed_effects": fixed,
        "fixed_effects_correlation": {
            "names": names[:p],
            "values": cov_fe / np.outer(deviations, deviations),
        },
        "cov_re": {
            "names": list(fit.model.data.exog_re_names),
            "values": np.asarray(fit.cov_re),
        },
        "vcomp": dict(zip(fit.model.exog_vc.names, np.asarray(fit.vcomp), strict=True)),
        "residual_params": fit.residual_params.to_dict(),
        "covariance_parameters": covariance,
        "residual_quantiles": fit.std_residual_quantiles.to_dict(),
        "time_unit": fit.model.time_unit,
        "modes": fit.modes["llf"].to_list(),
    }


def _plain(value: Any) -> Any:
    """Python's own types, and None for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
