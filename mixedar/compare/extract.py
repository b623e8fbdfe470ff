"""
The record of a fit, whatever program made it; of this package's fits in full.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from mixedar._types import unwrapped
from mixedar.compare.record import (
    TRANSFORMED,
    Component,
    FitRecord,
    Likelihood,
    Sample,
    estimated_effects_note,
    gram,
    mixed_model,
    residual_variance,
    sample_of,
)
from mixedar.exceptions import UnsupportedError
from mixedar.mixed import MixedLMARResults
from mixedar.panel.estimate import ESTIMATORS
from mixedar.panel.results import PanelResults

_DF_LABELS = {"kenward-roger": "KR"}


ACCEPTED = (
    "results of mixedar (mixed models, with robust standard errors too, and all panel "
    "estimators), of statsmodels (OLS, WLS, GLS, GLSAR, GEE, MixedLM) and of "
    "linearmodels' panel models"
)


def read(fit: Any, what: str, alpha: float = 0.05) -> FitRecord:
    """
    The numbers of a fit; `ACCEPTED` says of which.

    `what` begins the message if it is something else, `alpha` is one less the
    coverage of the intervals of covariance parameters.
    """
    if not 0.0 < alpha < 1.0:
        raise UnsupportedError(
            f"{what}: alpha={alpha!r} is not between 0 and 1; 0.05 gives 95% intervals"
        )
    inner = unwrapped(fit)
    if isinstance(inner, PanelResults):
        return panel_record(inner)
    if isinstance(inner, MixedLMARResults):
        return mixed_record(inner, alpha)
    from mixedar.compare.foreign import foreign_record

    found = foreign_record(inner)
    if found is None:
        raise UnsupportedError(_refusal(fit, what))
    return found


def _refusal(fit: Any, what: str) -> str:
    name = type(fit).__name__
    if isinstance(fit, type):
        return f"{what} is the class {fit.__name__}; pass the results of a fit"
    if callable(getattr(fit, "fit", None)):
        return f"{what} is a {name}, a model that is not fitted; pass what .fit() gives"
    model = getattr(fit, "model", None)
    of = "" if model is None else f" ({type(model).__name__})"
    return f"{what} is of type {name}{of}; accepted are {ACCEPTED}"


def mixed_record(fit: MixedLMARResults, alpha: float) -> FitRecord:
    """Record of a mixed model; `alpha` as in :func:`read`."""
    p, sizes = fit.k_fe, fit.fit.sizes
    terms = sizes.names[:p]
    sample = sample_of(fit.model)
    if sample.y is None:  # the data have been removed
        sample = Sample(sizes.endog_name, sizes.nobs, None, sample.index)
    label = _DF_LABELS.get(fit.df_method, "model")
    return mixed_model(
        fit,
        terms,
        _mixed_components(fit, alpha),
        int(fit.nobs),
        int(fit.df_modelwc),
        cov_type=label if fit.cov_type == "nonrobust" else fit.cov_type,
        df=np.asarray(fit.df, dtype=np.float64),
        sample=sample,
        n_groups=int(fit.n_groups),
        notes=tuple(f"{note}." for note in fit.boundary_notes),
    )


def _mixed_components(fit: MixedLMARResults, alpha: float) -> list[Component]:
    """Covariance parameters under the names of ``params``, then the scale."""
    p, k_re, sizes = fit.k_fe, fit.k_re, fit.fit.sizes
    names, params = sizes.names, np.asarray(fit.params)
    errors, ends = np.asarray(fit.bse), np.asarray(fit.conf_int(alpha))
    effects = sizes.effect_names
    rows, columns = np.tril_indices(k_re)
    labels = [
        (effects[i],) if i == j else (effects[j], effects[i])
        for i, j in zip(rows, columns, strict=True)
    ]
    labels += [(name,) for name in effects[k_re:]]
    out = []
    for k in range(p, len(names)):
        inside = k - p < len(labels)
        out.append(
            Component(
                names[k],
                "random" if inside else "residual",
                float(params[k]),
                labels[k - p] if inside else (),
                float(errors[k]) if errors[k] > 0.0 else np.nan,
                (float(ends[k, 0]), float(ends[k, 1])),
            )
        )
    factor = np.exp(stats.norm.isf(alpha / 2.0) * fit.bse_scale / fit.scale)
    out.append(
        Component(
            "Residual Var",
            "residual",
            float(fit.scale),
            ("residual",),
            float(fit.bse_scale),
            (float(fit.scale / factor), float(fit.scale * factor)),
        )
    )
    return out


def panel_record(fit: PanelResults) -> FitRecord:
    """Record of a panel estimator."""
    panel = fit.panel
    k = len(fit.params)
    return FitRecord(
        estimator=_estimator(fit),
        cov_type=fit.cov_type,
        terms=tuple(fit.params.index),
        estimate=np.asarray(fit.params, dtype=np.float64),
        std_error=np.asarray(fit.bse, dtype=np.float64),
        df=np.full(k, float(fit.df_inference)),
        components=tuple(_panel_components(fit)),
        sample=Sample(fit.endog_name, panel.nobs, np.sort(panel.y), panel.index),
        nobs=fit.nobs,
        n_groups=fit.n_groups,
        df_resid=float(fit.df_resid),
        scale=fit.scale,
        likelihood=_panel_likelihood(fit),
        theta=None if fit.estimate.theta is None else np.asarray(fit.estimate.theta),
        rsquared={
            "within": fit.rsquared_within,
            "between": fit.rsquared_between,
            "overall": fit.rsquared_overall,
        },
        absorbed=tuple(fit.absorbed),
        notes=tuple(_panel_notes(fit)),
    )


def _estimator(fit: PanelResults) -> str:
    if fit.kind == "re" and fit.llf is not None:
        return "REML" if "restricted" in fit.method else "ML"
    return ESTIMATORS[fit.kind].short


def _panel_components(fit: PanelResults) -> list[Component]:
    out = []
    parts = fit.variance_decomposition
    if parts is not None:
        name = fit.panel.entity_name
        value = float(parts["effects"])
        out.append(Component(f"{name} Var", "random", value, (name,)))
    if fit.rho is not None:
        out.append(Component("rho", "residual", float(fit.rho)))
    # means and differences have residuals of another kind
    if fit.kind not in ("between", "fd") and fit.estimate.sigma2_e is not None:
        # the estimators with AR(1) errors give the variance of the innovations
        inflation = 1.0 if fit.rho is None else 1.0 / (1.0 - fit.rho**2)
        out.append(residual_variance(fit.estimate.sigma2_e * inflation))
    return out


def _panel_likelihood(fit: PanelResults) -> Likelihood | None:
    """The likelihood of the response; least squares are the Gaussian one."""
    if fit.llf is None or fit.kind in ("between", "fd"):
        return None
    kind, p, names = "ML", len(fit.params), tuple(fit.params.index)
    if fit.kind == "re":
        kind = _estimator(fit)
        k = p + 2
    else:  # estimated effects are parameters
        k = fit.nobs - fit.df_resid + 1
    n = fit.nobs - p if kind == "REML" else fit.nobs
    products = gram(fit.panel.x[:, fit.estimate.columns])
    return Likelihood(kind, float(fit.llf), int(k), int(n), names, products)


def _panel_notes(fit: PanelResults) -> list[str]:
    notes = []
    if fit.kind in ("fe", "fe_ar1") and fit.variance_decomposition is not None:
        notes.append(estimated_effects_note(fit.panel.entity_name))
    if fit.kind in ("re", "re_ar1") and fit.estimate.sigma2_u == 0.0:
        notes.append("the estimated variance of the effects is zero.")
    if fit.kind in TRANSFORMED:
        notes.append(TRANSFORMED[fit.kind])
    return notes
