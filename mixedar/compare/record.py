"""
The numbers of a fit, the same for every kind of model; of this package's fits in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLMResults

from mixedar._types import FloatArray
from mixedar.fit import Fit
from mixedar.inference.explained import icc, r2
from mixedar.mixed import MixedLMARResults
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import ESTIMATORS
from mixedar.panel.results import PanelResults

#: What regressions of something else than the response itself are about, by the
#: kind of panel estimator.
TRANSFORMED = {
    "between": "observations are means of the entities.",
    "fd": "observations are differences.",
}


@dataclass(frozen=True)
class Component:
    """
    One covariance parameter.

    Attributes
    ----------
    name : str
        As in ``params`` of a mixed model: ``"id Var"``, ``"id x time Cov"``,
        ``"rho"``.
    group : str
        ``"random"`` or ``"residual"``.
    value : float
        On the scale of the data.
    labels : tuple of str
        The effect of a variance, both effects of a covariance; empty for a
        correlation parameter.
    std_error : float
        NaN where there is none.
    interval : tuple of float
        Ends of the confidence interval; NaN where there is none.
    """

    name: str
    group: str
    value: float
    labels: tuple[str, ...] = ()
    std_error: float = np.nan
    interval: tuple[float, float] = (np.nan, np.nan)


@dataclass(frozen=True, eq=False)
class Sample:
    """
    What a model was fitted to.

    Attributes
    ----------
    name : str
        Of the response.
    size : int
        Rows of the data, before means or differences are taken.
    y : ndarray, shape (size,), or None
        Response in ascending order; None if the data have been removed.
    index : pandas.Index or None
        Labels of the rows.
    """

    name: str
    size: int
    y: FloatArray | None
    index: pd.Index | None


@dataclass(frozen=True, eq=False)
class Likelihood:
    """
    A likelihood at its maximum.

    Attributes
    ----------
    kind : str
        ``"ML"`` or ``"REML"``.
    llf : float
    k : int
        Parameters, the residual variance and estimated effects counted.
    n : int
        Observations that BIC counts: N - p under REML.
    names : tuple of str
        Of the columns of the design.
    gram : ndarray, shape (p, p), or None
        Cross-products of the columns; None if the data have been removed.
    """

    kind: str
    llf: float
    k: int
    n: int
    names: tuple[str, ...]
    gram: FloatArray | None

    def same_design(self, other: Likelihood) -> bool:
        """Whether the columns are the same, in any order."""
        if sorted(self.names) != sorted(other.names):
            return False
        if self.gram is None or other.gram is None:
            return True
        order = [other.names.index(name) for name in self.names]
        there = other.gram[np.ix_(order, order)]
        size = np.sqrt(np.outer(np.diag(self.gram), np.diag(self.gram)))
        return bool((np.abs(self.gram - there) <= 1e-8 * size).all())

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return 2.0 * (self.k - self.llf)

    @property
    def bic(self) -> float:
        """Bayesian criterion."""
        return float(np.log(self.n)) * self.k - 2.0 * self.llf


@dataclass(frozen=True, eq=False)
class FitRecord:
    """
    Numbers of a fit.

    Attributes
    ----------
    estimator : str
        ``"OLS"``, ``"within"``, ``"GLS"``, ``"REML"``, ...
    cov_type : str
        How standard errors were estimated.
    terms : tuple of str
        Names of the k coefficients.
    estimate, std_error : ndarray, shape (k,)
    df : ndarray, shape (k,)
        Degrees of freedom of Student's t; infinite for the normal distribution.
    components : tuple of Component
        Covariance parameters.
    sample : Sample
    nobs : int
        Rows of the regression.
    n_groups : int or None
        Groups, entities or clusters.
    df_resid : float
        Residual degrees of freedom; NaN where each coefficient has its own.
    scale : float
        Residual variance as the fit gives it.
    likelihood : Likelihood or None
        None if the method has none of the response itself.
    criteria : tuple of float
        AIC and BIC as the fit gives them; NaN where it does not.
    theta : ndarray or None
        Fractions of the means that random effects subtract.
    rsquared : mapping of str to float
        ``"within"``, ``"between"``, ``"overall"``; of mixed models ``"marginal"``,
        ``"conditional"``.
    icc : float
        Share of the random effects in the variance that is random.
    n_levels : mapping of str to int
        Factors of the random effects, the groups first, and how many levels they have.
    converged : bool or None
        None where nothing iterates.
    absorbed : tuple of str
        Regressors that the effects leave no variation of.
    notes : tuple of str
        What a reader of a table has to know about this fit.
    """

    estimator: str
    cov_type: str
    terms: tuple[str, ...]
    estimate: FloatArray
    std_error: FloatArray
    df: FloatArray
    components: tuple[Component, ...]
    sample: Sample
    nobs: int
    n_groups: int | None = None
    df_resid: float = np.nan
    scale: float = np.nan
    likelihood: Likelihood | None = None
    criteria: tuple[float, float] = (np.nan, np.nan)
    theta: FloatArray | None = None
    rsquared: Mapping[str, float] = field(default_factory=dict)
    icc: float = np.nan
    n_levels: Mapping[str, int] = field(default_factory=dict)
    converged: bool | None = None
    absorbed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rho(self) -> float:
        """The autoregressive parameter; NaN without one."""
        names = "rho", "rho (residual)"  # beside a coefficient rho
        return next((c.value for c in self.components if c.name in names), np.nan)

    @property
    def median_theta(self) -> float:
        """Of the groups; NaN without theta."""
        return np.nan if self.theta is None else float(np.median(self.theta))

    def coefficients(self, alpha: float) -> pd.DataFrame:
        """
        Coefficients with tests and intervals.

        Parameters
        ----------
        alpha : float
            1 - coverage.

        Returns
        -------
        DataFrame, shape (k, 7)
            Indexed by term: ``estimate, std_error, statistic, df, p_value,
            conf_low, conf_high``.
        """
        error = np.where(self.std_error > 0.0, self.std_error, np.nan)
        # Student's t with infinite degrees of freedom is the normal distribution
        df = np.where(self.df > 0.0, self.df, np.nan)
        statistic = self.estimate / error
        half = stats.t.isf(alpha / 2.0, df) * error
        columns = {
            "estimate": self.estimate,
            "std_error": error,
            "statistic": statistic,
            "df": df,
            "p_value": 2.0 * stats.t.sf(np.abs(statistic), df),
            "conf_low": self.estimate - half,
            "conf_high": self.estimate + half,
        }
        return pd.DataFrame(columns, index=pd.Index(self.terms, name="term"))


def mixed_model(
    fit: MixedLMResults,
    terms: tuple[str, ...],
    components: Iterable[Component],
    nobs: int,
    k: int,
    **parts: Any,
) -> FitRecord:
    """Record of a mixed model, of this package or of statsmodels."""
    kind = str(fit.method)
    n = nobs - len(terms) if kind == "REML" else nobs
    products = gram(getattr(fit.model, "exog", None))
    return FitRecord(
        estimator=kind,
        terms=terms,
        estimate=np.asarray(fit.fe_params, dtype=np.float64),
        std_error=np.asarray(fit.bse_fe, dtype=np.float64),
        components=tuple(components),
        nobs=nobs,
        scale=float(fit.scale),
        likelihood=Likelihood(kind, float(fit.llf), k, n, terms, products),
        criteria=(float(fit.aic), float(fit.bic)),
        converged=bool(fit.converged),
        **parts,
    )


def residual_variance(value: float) -> Component:
    """The variance of the residuals, without a standard error."""
    return Component("Residual Var", "residual", float(value), ("residual",))


def random_effects(
    names: Sequence[str],
    cov: ArrayLike,
    component_names: Sequence[str],
    variances: ArrayLike,
) -> list[Component]:
    """
    Covariances of random effects, by rows of the lower triangle, and variances.

    The variances are those of the variance components, whose names are given.
    """
    cov, out = np.asarray(cov, dtype=np.float64), []
    for i, name in enumerate(names):
        for j, other in enumerate(names[:i]):
            label, value = f"{other} x {name} Cov", float(cov[i, j])
            out.append(Component(label, "random", value, (other, name)))
        out.append(random_variance(name, cov[i, i]))
    pairs = zip(component_names, np.ravel(variances), strict=True)
    return out + [random_variance(*pair) for pair in pairs]


def random_variance(name: str, value: float) -> Component:
    """The variance of random effects, without a standard error."""
    return Component(f"{name} Var", "random", float(value), (name,))


def estimated_effects_note(entity: str) -> str:
    """What the variance of fixed effects is."""
    return (
        f"the variance of {entity} is that of the estimated effects, and holds their "
        "error of estimation."
    )


def gram(exog: ArrayLike | None) -> FloatArray | None:
    """Cross-products of the columns; None without data."""
    if exog is None:
        return None
    x = np.asarray(exog, dtype=np.float64)
    return x.T @ x


def sample_of(model: object) -> Sample:
    """Response and rows of a model of statsmodels or of a mixed model."""
    data = getattr(model, "data", None)
    y = getattr(model, "endog", None)
    name = str(getattr(data, "ynames", None) or "y")
    index = getattr(data, "row_labels", None)
    if y is None:
        return Sample(name, 0, None, None)
    values = np.sort(np.asarray(y, dtype=np.float64).ravel())
    return Sample(name, len(values), values, index)


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
    if fit.fit.layout.compound:
        common, (variance, cov) = names[p].removesuffix(" Var"), values[p : p + 2]
        shared = Component(f"{common} Cov", "random", cov, (common, common))
        parts = [random_variance(common, variance), shared]
        parts += random_effects((), (), own, fit.vcomp)
    else:
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
        sample=_panel_sample(panel),
        nobs=fit.nobs,
        n_groups=fit.n_groups,
        df_resid=float(fit.df_resid),
        scale=fit.scale,
        likelihood=_panel_likelihood(fit),
        theta=_theta(fit),
        rsquared={
            "within": fit.rsquared_within,
            "between": fit.rsquared_between,
            "overall": fit.rsquared_overall,
        },
        absorbed=tuple(fit.absorbed),
        notes=tuple(_panel_notes(fit)),
    )


def _theta(fit: PanelResults) -> FloatArray | None:
    """Fractions of the means; of a source the least, the median and the largest."""
    theta, panel = fit.estimate.theta, fit.panel
    if theta is None or panel.has_rows:
        return theta
    return np.array([panel.entity_quantile(theta, q) for q in (0.0, 0.5, 1.0)])


def _panel_sample(panel: PanelData) -> Sample:
    """Response and rows, unless these were read from a source and not kept."""
    y, index = (np.sort(panel.y), panel.index) if panel.has_rows else (None, None)
    return Sample(panel.endog_name, panel.nobs, y, index)


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
