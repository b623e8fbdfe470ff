"""
The record of a fit, whatever program made it; of this package's fits in full.
"""

from __future__ import annotations

from dataclasses import replace
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
    random_effects,
    random_variance,
    residual_variance,
    sample_of,
)
from mixedar.exceptions import UnsupportedError, check_alpha
from mixedar.fit import Fit
from mixedar.inference.explained import icc, r2
from mixedar.mixed import MixedLMARResults
from mixedar.panel.estimate import ESTIMATORS
from mixedar.panel.results import PanelResults

ACCEPTED = (
    "results of mixedar (mixed models, with robust standard errors too, and all panel "
    "estimators), of statsmodels (OLS, WLS, GLS, GLSAR, GEE, MixedLM) and of "
    "linearmodels' panel models"
)


def read(fit: object, what: str, alpha: float = 0.05) -> FitRecord:
    """
    The numbers of a fit of one of the kinds that `ACCEPTED` lists.

    `what` begins the message if it is something else, `alpha` is one less the
    coverage of the intervals of covariance parameters.
    """
    check_alpha(alpha)
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


def _refusal(fit: object, what: str) -> str:
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
    p = fit.k_fe
    terms = fit.fit.names[:p]
    sample = sample_of(fit.model)
    if sample.y is None:  # the data have been removed
        sample = Sample(fit.fit.endog_name, fit.nobs, None, sample.index)
    label = "KR" if fit.df_method == "kenward-roger" else "model"
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
        **_explained(fit.fit),
    )


def _explained(fit: Fit) -> dict[str, Any]:
    """R squareds, intraclass correlation and levels; without data there are none."""
    if not fit.has_data:
        return {}
    shares = {"rsquared": r2(fit).to_dict()}
    if not fit.effect_names:
        return shares
    own = {fit.data.groups_name: fit.n_groups} if fit.k_re + fit.k_vc else {}
    levels = own | dict(fit.factor_levels)
    return {**shares, "icc": float(icc(fit)["adjusted"]), "n_levels": levels}


def _mixed_components(fit: MixedLMARResults, alpha: float) -> list[Component]:
    """Covariance parameters under the names of ``params``, then the scale."""
    p, k_re, names = fit.k_fe, fit.k_re, fit.fit.names
    effects, values = fit.fit.effect_names, np.asarray(fit.params).tolist()
    own = effects[k_re : k_re + fit.k_vc]
    parts = random_effects(effects[:k_re], fit.cov_re, own, fit.vcomp)
    for place, cov in zip(fit.fit.layout.term_places, fit.fit.term_covs, strict=True):
        parts += random_effects(effects[place.effects], cov, (), ())
    for value in values[p + len(parts) :]:
        parts.append(Component("", "residual", value))
    bse, ends = np.asarray(fit.bse)[p:], np.asarray(fit.conf_int(alpha))[p:]
    errors = np.where(bse > 0.0, bse, np.nan).tolist()
    out = [
        replace(one, name=name, std_error=error, interval=tuple(interval))
        for one, name, error, interval in zip(
            parts, names[p:], errors, ends.tolist(), strict=True
        )
    ]
    scale, error = float(fit.scale), float(fit.bse_scale)
    factor = float(np.exp(stats.norm.isf(alpha / 2.0) * error / scale))
    interval = scale / factor, scale * factor
    return [*out, replace(residual_variance(scale), std_error=error, interval=interval)]


def panel_record(fit: PanelResults) -> FitRecord:
    """Record of a panel estimator."""
    panel = fit.panel
    return FitRecord(
        estimator=_estimator(fit),
        cov_type=fit.cov_type,
        terms=tuple(fit.params.index),
        estimate=np.asarray(fit.params, dtype=np.float64),
        std_error=np.asarray(fit.bse, dtype=np.float64),
        df=fit.df.to_numpy(),
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
        out.append(random_variance(fit.panel.entity_name, parts["effects"]))
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
