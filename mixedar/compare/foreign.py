"""
The record of a fit of statsmodels or linearmodels.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.genmod.cov_struct import Autoregressive, Exchangeable
from statsmodels.genmod.families import Gaussian
from statsmodels.genmod.families.links import Identity
from statsmodels.genmod.generalized_estimating_equations import GEEResults
from statsmodels.regression.linear_model import GLS, GLSAR, OLS, WLS, RegressionResults
from statsmodels.regression.mixed_linear_model import MixedLMResults

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
from mixedar.panel.estimate import ESTIMATORS

_COV_TYPES = {
    "nonrobust": "classical",
    "Unadjusted": "classical",
    "cluster": "clustered",
    "Clustered": "clustered",
    "Robust": "robust",
}


def foreign_record(fit: object) -> FitRecord | None:
    """The record of a fit; None of one that is not known."""
    # whoever holds a fit of linearmodels has loaded the module
    module = sys.modules.get("linearmodels.panel.results")
    if module is not None and isinstance(fit, module.PanelResults):
        return linearmodels_record(fit)
    if isinstance(fit, MixedLMResults):
        return mixedlm_record(fit)
    if isinstance(fit, GEEResults):
        return gee_record(fit)
    # other regressions (quantiles, recursive) have results of this class as well
    if isinstance(fit, RegressionResults) and isinstance(fit.model, (GLS, WLS)):
        return linear_record(fit)
    return None


def _regression(
    fit: RegressionResults | GEEResults,
    df: float,
    components: list[Component],
    **parts: Any,
) -> FitRecord:
    """Record of least squares or estimating equations, of what both have."""
    names = tuple(map(str, fit.model.exog_names))
    return FitRecord(
        cov_type=_COV_TYPES.get(fit.cov_type, str(fit.cov_type)),
        terms=names,
        estimate=np.asarray(fit.params, dtype=np.float64),
        std_error=np.asarray(fit.bse, dtype=np.float64),
        df=np.full(len(names), float(df) if fit.use_t else np.inf),
        components=tuple(components),
        sample=sample_of(fit.model),
        nobs=int(fit.nobs),
        df_resid=float(fit.df_resid),
        scale=float(fit.scale),
        **parts,
    )


def linear_record(fit: RegressionResults) -> FitRecord:
    """Record of least squares: OLS, WLS, GLS or GLSAR."""
    model = fit.model
    plain = isinstance(model, OLS)
    components = []
    if isinstance(model, GLSAR) and np.size(model.rho) == 1:
        components.append(Component("rho", "residual", float(np.ravel(model.rho)[0])))
    if plain:
        components.append(residual_variance(fit.scale))
    likelihood = None
    if not isinstance(model, GLSAR):  # that one leaves out the first row
        k = int(fit.df_model) + int(model.k_constant) + 1
        names = tuple(map(str, model.exog_names))
        products = gram(getattr(model, "exog", None))
        likelihood = Likelihood("ML", float(fit.llf), k, int(fit.nobs), names, products)
    # other R squareds are those of weighted or transformed responses
    centred = plain and bool(model.k_constant)
    df = getattr(fit, "df_resid_inference", None)
    clusters = getattr(fit, "n_groups", None) if fit.cov_type == "cluster" else None
    return _regression(
        fit,
        fit.df_resid if df is None else df,
        components,
        estimator=type(model).__name__,
        n_groups=None if clusters is None else int(clusters),
        likelihood=likelihood,
        criteria=(np.nan, np.nan) if likelihood is None else (fit.aic, fit.bic),
        rsquared={"overall": float(fit.rsquared)} if centred else {},
    )


def gee_record(fit: GEEResults) -> FitRecord:
    """Record of generalised estimating equations."""
    model = fit.model
    structure, components = model.cov_struct, []
    if structure.dep_params is not None and np.size(structure.dep_params) == 1:
        value = float(np.ravel(structure.dep_params)[0])
        if isinstance(structure, Autoregressive):
            components.append(Component("rho", "residual", value))
        elif isinstance(structure, Exchangeable):
            components.append(Component("Exchangeable Corr", "residual", value))
    linear = isinstance(model.family, Gaussian)
    if linear and isinstance(model.family.link, Identity):
        components.append(residual_variance(fit.scale))
    return _regression(
        fit,
        fit.df_resid,
        components,
        estimator="GEE",
        n_groups=len(model.group_labels),
        converged=bool(fit.converged),
    )


def mixedlm_record(fit: MixedLMResults) -> FitRecord:
    """
    Record of statsmodels' own mixed model.

    Variances are brought to the scale of the data; they have no standard errors,
    since those of statsmodels are on another scale.
    """
    model, p = fit.model, int(fit.k_fe)
    names = tuple(map(str, model.data.param_names[:p]))
    effects = [str(name) for name in model.data.exog_re_names][: int(fit.k_re)]
    components = random_effects(effects, fit.cov_re, model.exog_vc.names, fit.vcomp)
    components.append(residual_variance(fit.scale))
    k = len(fit.params) + 1
    if fit.freepat is not None:
        k = int(fit.freepat.get_packed(use_sqrt=False, has_fe=True).sum()) + 1
    return mixed_model(
        fit,
        names,
        components,
        int(model.n_totobs),
        k,
        cov_type="model",
        df=np.full(p, np.inf),
        sample=sample_of(model),
        n_groups=int(model.n_groups),
    )


# The kinds of linearmodels' estimators, but for PanelOLS, which may be two.
_LINEARMODELS = {
    "RandomEffects": "re",
    "PooledOLS": "pooled",
    "BetweenOLS": "between",
    "FirstDifferenceOLS": "fd",
}


def linearmodels_record(fit: Any) -> FitRecord:
    """
    Record of a panel fit of linearmodels.

    R squareds are the squared correlations, as Stata has them; the variance of
    the entities' effects is named after level 0 of the index.
    """
    model = fit.model
    name = type(model).__name__
    effects = bool(getattr(model, "entity_effects", False))
    periods = bool(getattr(model, "time_effects", False))
    others = bool(getattr(model, "other_effects", False))
    within = "fe" if effects or periods or others else "pooled"
    kind = _LINEARMODELS.get(name, within)
    response = model.dependent.dataframe
    y = np.sort(response.to_numpy(dtype=np.float64).ravel())
    errors = fit.std_errors.to_numpy(dtype=np.float64)
    theta = getattr(fit, "theta", None)
    covariance = str(getattr(fit, "_cov_type", "classical"))
    notes = [estimated_effects_note(_entity(fit))] if effects else []
    notes += [TRANSFORMED[kind]] if kind in TRANSFORMED else []
    k = _count(fit, effects, periods)
    return FitRecord(
        estimator="Fama-MacBeth" if name == "FamaMacBeth" else ESTIMATORS[kind].short,
        cov_type=_COV_TYPES.get(covariance, covariance.lower()),
        terms=tuple(map(str, fit.params.index)),
        estimate=fit.params.to_numpy(dtype=np.float64),
        std_error=errors,
        df=np.full(len(errors), _student(fit)),
        components=tuple(_linearmodels_components(fit, name, effects, k)),
        sample=Sample(str(response.columns[0]), len(y), y, response.index),
        nobs=int(fit.nobs),
        n_groups=int(fit.entity_info["total"]),
        df_resid=float(fit.df_resid),
        scale=float(fit.s2),
        likelihood=None if others else _linearmodels_likelihood(fit, name, k),
        theta=None if theta is None else np.asarray(theta, dtype=np.float64).ravel(),
        rsquared={
            "within": float(fit.corr_squared_within),
            "between": float(fit.corr_squared_between),
            "overall": float(fit.corr_squared_overall),
        },
        notes=tuple(notes),
    )


def _student(fit: Any) -> float:
    """Degrees of freedom that its intervals use; infinite for the normal."""
    width = (fit.conf_int().iloc[:, 1] - fit.params) / fit.std_errors
    normal = stats.norm.isf(0.025)
    student = stats.t.isf(0.025, float(fit.df_resid))
    point = float(width.iloc[0])
    return float(fit.df_resid) if abs(point - student) < abs(point - normal) else np.inf


def _count(fit: Any, effects: bool, periods: bool) -> int:
    """Number of coefficients and estimated effects, and one for the variance."""
    k = len(fit.params) + 1
    if effects or periods:
        x = fit.model.exog.dataframe[list(fit.params.index)].to_numpy(dtype=np.float64)
        k += 0 if (np.ptp(x, axis=0) == 0.0).any() else 1
        k += (int(fit.entity_info["total"]) - 1) * effects
        k += (int(fit.time_info["total"]) - 1) * periods
    return k


def _linearmodels_components(
    fit: Any, name: str, effects: bool, k: int
) -> list[Component]:
    out = []
    entity = _entity(fit)
    if name == "RandomEffects":
        parts = fit.variance_decomposition
        variance = random_variance(entity, parts["Effects"])
        return [variance, residual_variance(parts["Residual"])]
    if effects:
        # one value an entity, as the standard deviation of its effects is defined
        estimated = fit.estimated_effects.groupby(level=0).first()
        out.append(random_variance(entity, estimated.iloc[:, 0].var()))
    if name in ("PanelOLS", "PooledOLS") and fit.nobs > k - 1:
        # df_resid counts effects or not, depending on the covariance
        out.append(residual_variance(fit.resid_ss / (float(fit.nobs) - (k - 1))))
    return out


def _linearmodels_likelihood(fit: Any, name: str, k: int) -> Likelihood | None:
    """Likelihood of least squares without weights; effects count as parameters."""
    model = fit.model
    weighted = float(np.ptp(model.weights.values2d)) > 0.0
    if name not in ("PanelOLS", "PooledOLS") or weighted:
        return None
    names = list(fit.params.index)
    products = gram(model.exog.dataframe[names])
    terms = tuple(map(str, names))
    return Likelihood("ML", float(fit.loglik), k, int(fit.nobs), terms, products)


def _entity(fit: Any) -> str:
    return str(fit.model.dependent.dataframe.index.names[0] or "entity")
