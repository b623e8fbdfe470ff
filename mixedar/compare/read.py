"""
From any fit that is known to the record of its numbers.
"""

from __future__ import annotations

import sys
from typing import Any

from statsmodels.regression.mixed_linear_model import MixedLMResults

from mixedar.compare.own import mixed_record, panel_record, robust_record
from mixedar.compare.record import FitRecord
from mixedar.exceptions import UnsupportedError
from mixedar.mixed import MixedLMARResults
from mixedar.panel import PanelResults

__all__ = ["ACCEPTED", "read"]

ACCEPTED = (
    "results of mixedar (mixed models, with robust standard errors too, and all panel "
    "estimators), of statsmodels (OLS, WLS, GLS, GLSAR, GEE, MixedLM) and of "
    "linearmodels' panel models"
)


def read(fit: Any, what: str, alpha: float = 0.05) -> FitRecord:
    """
    Read the numbers of a fit.

    Parameters
    ----------
    fit : object
        Results of a model; `ACCEPTED` says which.
    what : str
        Beginning of the message if it is something else.
    alpha : float
        1 - coverage of the intervals of the covariance parameters.

    Returns
    -------
    FitRecord

    Raises
    ------
    UnsupportedError
        If `fit` is no such result, or `alpha` is not between 0 and 1.
    """
    if not 0.0 < alpha < 1.0:
        raise UnsupportedError(
            f"{what}: alpha={alpha!r} is not between 0 and 1; 0.05 gives 95% intervals"
        )
    inner = getattr(fit, "_results", fit)
    if isinstance(inner, PanelResults):
        return panel_record(inner)
    if isinstance(inner, MixedLMARResults):
        return mixed_record(inner, alpha)
    if isinstance(inner, MixedLMResults):
        from mixedar.compare.foreign import mixedlm_record

        return mixedlm_record(inner)
    found = _robust(inner, alpha) or _statsmodels(inner) or _linearmodels(inner)
    if found is None:
        raise UnsupportedError(_refusal(fit, what))
    return found


def _robust(fit: Any, alpha: float) -> FitRecord | None:
    module = sys.modules.get("mixedar.inference.robust")
    if module is None or not isinstance(fit, module.RobustResults):
        return None
    return robust_record(fit, alpha)


def _statsmodels(fit: Any) -> FitRecord | None:
    from statsmodels.genmod.generalized_estimating_equations import GEEResults
    from statsmodels.regression.linear_model import GLS, WLS, RegressionResults

    from mixedar.compare import foreign

    if isinstance(fit, GEEResults):
        return foreign.gee_record(fit)
    # other regressions (quantiles, recursive) have results of this class as well
    if isinstance(fit, RegressionResults) and isinstance(fit.model, (GLS, WLS)):
        return foreign.linear_record(fit)
    return None


def _linearmodels(fit: Any) -> FitRecord | None:
    # whoever holds such a fit has loaded the module
    module = sys.modules.get("linearmodels.panel.results")
    if module is None or not isinstance(fit, module.PanelResults):
        return None
    from mixedar.compare.foreign import linearmodels_record

    return linearmodels_record(fit)


def _refusal(fit: Any, what: str) -> str:
    name = type(fit).__name__
    if isinstance(fit, type):
        return f"{what} is the class {fit.__name__}; pass the results of a fit"
    if callable(getattr(fit, "fit", None)):
        return f"{what} is a {name}, a model that is not fitted; pass what .fit() gives"
    model = getattr(fit, "model", None)
    of = "" if model is None else f" ({type(model).__name__})"
    return f"{what} is of type {name}{of}; accepted are {ACCEPTED}"
