"""
Random effects of entities, by feasible GLS or maximum likelihood, and with the means
of the entities among the regressors (correlated random effects).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._lazy import with_near_names
from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.exceptions import (
    IdentificationError,
    UnsupportedError,
    check_choice,
    listing,
)
from mixedar.mixed import MixedLMAR
from mixedar.numeric.linalg import r_factor
from mixedar.panel.algebra import (
    MEANS_TOLERANCE,
    RANK_TOLERANCE,
    Standardized,
    check_collinear,
    check_freedom,
    column_sizes,
    gaussian_llf,
    independent_columns,
    inverse_gram,
    regress,
    standardize,
)
from mixedar.panel.covariance import CovarianceInfo, CovarianceRequest
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import PanelEstimate
from mixedar.panel.estimators import PanelModel
from mixedar.panel.estimators.least_squares import PooledOLS
from mixedar.panel.linearmodels import RandomFit, fit_swamy_arora
from mixedar.panel.results import PanelResults
from mixedar.streams import as_source

_METHODS = {
    "swamy-arora": "Random effects, GLS (Swamy-Arora)",
    "ml": "Random effects, maximum likelihood",
    "reml": "Random effects, restricted maximum likelihood",
}
_UNBALANCED = {"harmonic": "harmonic mean", "baltagi-chang": "Baltagi-Chang"}
_FLAT = (
    "The likelihood is largest where the variance of the effects is zero: the "
    "coefficients are those of pooled least squares."
)
_ZERO = (
    "The estimated variance of the effects is negative and has been set to zero: "
    "theta is 0 and the coefficients are those of pooled least squares."
)


class RandomEffects(PanelModel):
    """
    Regression with random effects: ``y_it = x_it'b + u_i + e_it``.

    Parameters
    ----------
    endog, exog, entity, time, delta, weights, missing
        As in :class:`PanelModel`.

    References
    ----------
    Swamy, P. A. V. B. and Arora, S. S. (1972), The exact finite sample properties
    of the estimators of coefficients in the error components regression models,
    Econometrica 40, 261-275.
    Baltagi, B. H. and Chang, Y. (1994), Incomplete panels: a comparative study of
    alternative estimators for the unbalanced one-way error component regression
    model, Journal of Econometrics 62, 67-89.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> from mixedar.api import RandomEffects
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> exog = firms[["value", "capital"]].assign(const=1.0)
    >>> fit = RandomEffects(firms["invest"], exog, firms["firm"], firms["year"]).fit()
    >>> fit.params.round(2).to_dict()
    {'value': 0.11, 'capital': 0.31, 'const': -53.94}
    """

    kind = "re"
    _takes_weights = _takes_sources = True

    def fit(
        self,
        cov_type: str = "classical",
        *,
        method: str = "swamy-arora",
        unbalanced: str = "harmonic",
        cluster: object = None,
        small_sample: str | None = "default",
        kernel: str = "bartlett",
        bandwidth: float | None = None,
    ) -> PanelResults:
        """
        Estimate the coefficients.

        Parameters
        ----------
        cov_type : str
            ``"classical"``, ``"robust"``, ``"clustered"``, ``"hac"`` or
            ``"driscoll-kraay"``; with ``method="ml"`` also ``"observed"``, the
            inverse of the observed information of coefficients and variances
            (Stata's ``xtreg, mle``).
        method : {"swamy-arora", "ml", "reml"}
            Feasible GLS with the variances of Swamy and Arora, or (restricted)
            maximum likelihood.
        unbalanced : {"harmonic", "baltagi-chang"}
            Swamy and Arora's variance of the effects when entities have different
            numbers of observations: by their harmonic mean (Stata's ``xtreg, re``,
            linearmodels) or as Baltagi and Chang (plm, Stata's ``sa``).  They are
            equal if all have the same number.
        cluster, small_sample, kernel, bandwidth
            As in :meth:`PooledOLS.fit`.

        Returns
        -------
        PanelResults

        Raises
        ------
        RankDeficiencyError
            If columns are collinear.
        IdentificationError
            If the variances cannot be estimated.

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> model = mar.random_effects(
        ...     "invest ~ value + capital", firms, "firm", "year"
        ... )
        >>> fit = model.fit("clustered", method="swamy-arora")
        >>> fit.params.round(2).to_dict()
        {'Intercept': -53.94, 'value': 0.11, 'capital': 0.31}
        """
        check_choice("method", method, tuple(_METHODS))
        check_choice("unbalanced", unbalanced, tuple(_UNBALANCED))
        observed = cov_type == "observed"
        weighted = self.panel.weights is not None
        if weighted and (observed or unbalanced != "harmonic"):
            raise UnsupportedError(
                "cov_type='observed' and unbalanced='baltagi-chang' are not defined "
                "here for weighted fits; leave them out"
            )
        if observed and method != "ml":
            raise UnsupportedError("cov_type='observed' needs method='ml'")
        cov_type = "classical" if observed else cov_type
        request = CovarianceRequest(cov_type, cluster, small_sample, kernel, bandwidth)
        if method != "swamy-arora" and not self.panel.has_rows:
            raise UnsupportedError(
                f"method={method!r} of a source: the mixed model reads it, as in "
                "mar.mixedlm(formula, source, groups=entity, residual='independent')"
            )
        check_collinear(self.panel.x, self.panel.names, "the regressors")
        return PanelResults(self, self._gls(request, method, unbalanced, observed))

    def _gls(
        self, request: CovarianceRequest, method: str, unbalanced: str, observed: bool
    ) -> PanelEstimate:
        panel = self.panel
        k = panel.x.shape[1]
        rows = panel.has_rows
        ones = None if rows else panel.ones
        standard = standardize(panel.x, panel.constant, ones=ones)
        df_resid = panel.nobs - k
        parts = f"{k} coefficients and two variances"
        check_freedom(df_resid, f"{panel.nobs} observations", parts)
        chang = unbalanced == "baltagi-chang"
        if method == "swamy-arora" and rows and panel.weights is None:
            fit = fit_swamy_arora(panel, standard.x, chang)
        elif method == "swamy-arora":
            fit = _swamy_arora(panel, standard, chang and bool(np.ptp(panel.sizes)))
        else:
            fit = fit_likelihood(panel, standard, method == "reml")
        x = panel.by_root(panel.quasi_demean(standard.x, fit.theta))
        y = panel.by_root(panel.quasi_demean(panel.y, fit.theta))
        resid = y - x @ fit.params
        statistics = {}
        if fit.llf is not None and method == "ml":
            lr = _lr_statistic(panel, standard, fit.llf)
            statistics["LR statistic, no effects"] = lr
            statistics["p, chibar2(0, 1)"] = 0.5 * float(stats.chi2.sf(lr, 1))
        words = _METHODS[method]
        if method == "swamy-arora" and np.ptp(panel.sizes) > 0:
            words += f", unbalanced: {_UNBALANCED[unbalanced]}"
        notes = self.singleton_notes("inform the variance between entities only")
        if fit.sigma2_u == 0.0:
            notes.append(_ZERO if fit.llf is None else _FLAT)
        estimate = self._estimated(
            request,
            standard,
            fit.params,
            x,
            resid,
            df_resid,
            np.arange(k),
            effects=("entity",),
            classical=fit.cov,
            method=words,
            notes=tuple(notes),
            theta=fit.theta,
            sigma2_u=fit.sigma2_u,
            sigma2_e=fit.sigma2_e,
            llf=fit.llf,
            statistics=statistics,
        )
        if fit.llf is not None:
            estimate = replace(estimate, scale=fit.sigma2_e)
        if observed:
            cov = standard.cov(_observed(panel, standard.x, fit))
            info = CovarianceInfo("observed", label="observed information")
            estimate = replace(estimate, cov=cov, info=info)
        return estimate


def _swamy_arora(
    panel: PanelData, standard: Standardized, baltagi_chang: bool
) -> RandomFit:
    """
    Feasible GLS of weighted or summed rows, errors having variances ``sigma2_e / w``.

    The variances are Swamy and Arora's with sums of weights in place of numbers of
    observations; linearmodels takes the numbers, and rows for observations.
    """
    x, n, count = standard.x, panel.nobs, panel.n_entities
    sizes = column_sizes(panel.by_root(x))
    y = panel.by_root(panel.demean(panel.y))
    within = regress(panel.by_root(panel.demean(x)), y, sizes)
    means = panel.entity_means(x), panel.entity_means(panel.y)
    # means that differ by rounding are no regressors
    lengths = column_sizes(panel.centre(x)) * np.sqrt(count / n)
    between = regress(*means, lengths, MEANS_TOLERANCE)
    df_within, df_between = n - count - within.rank, count - between.rank
    if min(df_within, df_between) <= 0:
        raise IdentificationError(
            f"the variances of the effects and of the errors cannot be estimated from "
            f"{n} observations of {count} entities; use fewer regressors"
        )
    sigma2_e = within.ssr / df_within
    noise = panel.entity_mean(1.0 / panel.entity_weights) * sigma2_e
    sigma2_u = max(0.0, between.ssr / df_between - noise)
    if baltagi_chang:
        found = _baltagi_chang(panel, *means, between.kept, df_between * sigma2_e)
        sigma2_u = max(0.0, found)
    theta = 1.0 - np.sqrt(sigma2_e / (sigma2_e + panel.entity_weights * sigma2_u))
    x = panel.by_root(panel.quasi_demean(x, theta))
    fit = regress(x, panel.by_root(panel.quasi_demean(panel.y, theta)), tolerance=0.0)
    cov = fit.ssr / (n - fit.rank) * fit.bread
    return RandomFit(fit.params, cov, theta, sigma2_u, sigma2_e)


def _baltagi_chang(
    panel: PanelData, x: FloatArray, y: FloatArray, kept: BoolArray, noise: float
) -> float:
    """
    Baltagi and Chang's variance of the effects, from means of entities.

    `kept` are the columns that the means do not make collinear, `noise` is what the
    errors add to the sum of squared residuals.
    """
    root = np.sqrt(panel.entity_weights)
    x = x[:, kept] * root[:, None]
    ssr, sums = regress(x, y * root, tolerance=0.0).ssr, x * root[:, None]
    trace = float(np.trace(inverse_gram(x) @ (sums.T @ sums)))
    return (ssr - noise) / (panel.nobs - trace)


def fit_likelihood(panel: PanelData, standard: Standardized, reml: bool) -> RandomFit:
    """(Restricted) maximum likelihood, by the mixed model."""
    model = MixedLMAR(
        panel.y,
        standard.x,
        groups=panel.entity,
        residual="independent",
        weights=panel.weights,
    )
    # a variance of zero is reported in a note
    fit = model.refit(panel.y, reml=reml)
    k = standard.x.shape[1]
    sigma2_e = float(fit.scale)
    sigma2_u = float(np.asarray(fit.cov_re)[0, 0])
    if sigma2_u < 1e-10 * sigma2_e:
        sigma2_u = 0.0
    theta = 1.0 - np.sqrt(sigma2_e / (sigma2_e + panel.entity_weights * sigma2_u))
    cov = np.asarray(fit.cov_params())[:k, :k]
    llf = float(fit.llf)
    if reml:  # its constant depends on the scale of the columns
        llf += float(np.linalg.slogdet(standard.back)[1])
    return RandomFit(np.asarray(fit.fe_params), cov, theta, sigma2_u, sigma2_e, llf)


def _lr_statistic(panel: PanelData, standard: Standardized, llf: float) -> float:
    """Twice the gain over pooled least squares."""
    x, y = panel.by_root(standard.x), panel.by_root(panel.y)
    ssr = regress(x, y, tolerance=0.0).ssr
    pooled = gaussian_llf(ssr, panel.nobs, panel.weights)
    return max(0.0, 2.0 * (llf - pooled))


def _observed(panel: PanelData, x: FloatArray, fit: RandomFit) -> FloatArray:
    """
    Inverse of the negative Hessian, its block of the coefficients.

    ``V_i = s2e I + s2u J`` has two eigenspaces, deviations and means, on which its
    inverse is ``a = 1 / s2e`` and ``g_i = 1 / (s2e + T_i s2u)``.
    """
    sigma2_u, sigma2_e = fit.sigma2_u, fit.sigma2_e
    e = panel.y - x @ fit.params
    size = panel.sizes.astype(np.float64)
    x_mean, e_mean = panel.entity_means(x), panel.entity_means(e)
    x_dev, e_dev = x - panel.per_row(x_mean), e - panel.per_row(e_mean)
    a, g = 1.0 / sigma2_e, 1.0 / (sigma2_e + size * sigma2_u)
    k = x.shape[1]
    info = np.zeros((k + 2, k + 2))
    info[:k, :k] = a * x_dev.T @ x_dev + (x_mean * (g * size)[:, None]).T @ x_mean
    info[:k, k] = a**2 * x_dev.T @ e_dev + x_mean.T @ (g**2 * size * e_mean)
    info[:k, k + 1] = x_mean.T @ (g**2 * size**2 * e_mean)
    cubes = g**3 * size * e_mean**2
    info[k, k] = a**3 * (e_dev @ e_dev) + cubes.sum()
    info[k, k] -= 0.5 * ((size - 1.0) * a**2 + g**2).sum()
    info[k, k + 1] = (size * cubes - 0.5 * size * g**2).sum()
    info[k + 1, k + 1] = (size**2 * cubes - 0.5 * size**2 * g**2).sum()
    if sigma2_u == 0.0:  # the variance is no free parameter on the boundary
        info = info[: k + 1, : k + 1]
    upper = np.triu(info)
    return np.linalg.inv(upper + np.triu(info, 1).T)[:k, :k]


def entity_means(panel: PanelData) -> tuple[FloatArray, IntArray]:
    """
    Means of the entities that add something to the columns of a panel.

    Of regressors that vary within and between entities, unless other columns span
    them; shape (n, m), and the columns they belong to.
    """
    x = panel.centred
    between = panel.per_row(panel.entity_means(x))
    sizes = column_sizes(x)
    varies = column_sizes(x - between) > RANK_TOLERANCE * sizes
    varies &= np.any(x != between, axis=0)
    candidates = np.flatnonzero(varies)
    # so much longer that differences of the means by rounding fall below the tolerance
    lengths = sizes[candidates] * (MEANS_TOLERANCE / RANK_TOLERANCE)
    joint = np.column_stack([x / sizes, between[:, candidates] / lengths])
    columns = candidates[independent_columns(r_factor(joint))[x.shape[1] :]]
    return between[:, columns] + (panel.x[0] - x[0])[columns], columns


@with_near_names
def mundlak(
    formula: str,
    data: object,
    entity: object = None,
    time: object = None,
    *,
    model: str = "re",
    subset: object = None,
    missing: str = "none",
    eval_env: object = None,
    **options: Any,
) -> RandomEffects | PooledOLS | MixedLMAR:
    """
    Random effects with the means of the entities as further regressors.

    The coefficients of the regressors are then those of fixed effects, while
    time-invariant regressors keep a coefficient; that the means have none is what a
    Hausman test tests.

    Parameters
    ----------
    formula : str
        Response and regressors; ``mean(NAME)`` is added for each column of the
        design that varies within and between entities.
    data : DataFrame
    entity, time : str or array_like, optional
        Columns of entities and times, as for the other panel models.
    model : {"re", "pooled", "mixed"}
        Random effects, pooled least squares (to be clustered), or a mixed model
        with AR(1) residuals.
    subset, missing, eval_env
        As for the other panel models.  Means are taken after rows are dropped.
    **options
        For ``model="mixed"`` arguments of ``MixedLMAR`` (``residual``, ``exog_re``,
        ...); its random effect is an intercept by default.

    Returns
    -------
    RandomEffects, PooledOLS or MixedLMAR
        To be fitted; ``means`` holds the names of the means.

    Raises
    ------
    MixedARError
        For data that cannot be used.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> import mixedar.formula.api as mar
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> fit = mar.mundlak(
    ...     "invest ~ value + capital", firms, "firm", "year").fit("clustered"
    ... )
    >>> list(fit.params.index)
    ['Intercept', 'value', 'capital', 'mean(value)', 'mean(capital)']
    """
    rows = {"subset": subset, "missing": missing, "eval_env": eval_env}
    return _augmented(False, model, (formula, data, entity, time), rows, options)


@with_near_names
def within_between(
    formula: str,
    data: object,
    entity: object = None,
    time: object = None,
    *,
    model: str = "re",
    subset: object = None,
    missing: str = "none",
    eval_env: object = None,
    **options: Any,
) -> RandomEffects | PooledOLS | MixedLMAR:
    """
    Random effects with within and between coefficients.

    The model of :func:`mundlak` with ``x - mean(x)`` in place of ``x``: the
    coefficient of ``mean(x)`` is then the between effect itself.

    Parameters
    ----------
    formula, data, entity, time, model, subset, missing, eval_env, **options
        As in :func:`mundlak`.

    Returns
    -------
    RandomEffects, PooledOLS or MixedLMAR
        To be fitted.

    Raises
    ------
    MixedARError
        For data that cannot be used.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> import mixedar.formula.api as mar
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> model = mar.within_between("invest ~ value + capital", firms, "firm", "year")
    >>> list(model.fit("clustered").params.index)
    ['Intercept', 'value', 'capital', 'mean(value)', 'mean(capital)']
    """
    rows = {"subset": subset, "missing": missing, "eval_env": eval_env}
    return _augmented(True, model, (formula, data, entity, time), rows, options)


def _augmented(
    within: bool,
    model: str,
    given: tuple[str, Any, Any, Any],
    rows: dict[str, Any],
    options: dict[str, Any],
) -> RandomEffects | PooledOLS | MixedLMAR:
    """
    The model of `given` formula, data, entity and time with means added.

    If `within` the regressors themselves are replaced by their deviations from the
    means (Mundlak, 1978, Econometrica 46, 69-85).
    """
    check_choice("model", model, ("re", "pooled", "mixed"))
    cls: type[PooledOLS | RandomEffects] = (
        PooledOLS if model == "pooled" else RandomEffects
    )
    rows = rows if model == "mixed" else rows | options
    if as_source(given[1]) is not None:
        raise UnsupportedError(
            "means of entities are further columns, and those of a source are made "
            "where the data are held (avg(x) OVER (PARTITION BY entity) in SQL); "
            "hausman(fe, re, 'mundlak') of fits to the source tests the means"
        )
    base = cls.from_formula(*given, **rows)
    panel = base.panel
    means, columns = entity_means(panel)
    if not len(columns):
        names = [panel.names[j] for j in panel.slopes]
        raise IdentificationError(
            "no mean of the entities can be added: no regressor varies both within and "
            f"between {panel.entity_name} ({listing(names)})"
        )
    x = panel.x.copy()
    if within:
        x[:, columns] = panel.demean(x[:, columns])
    added = tuple(f"mean({panel.names[j]})" for j in columns)
    panel = replace(panel, x=np.column_stack([x, means]), names=(*panel.names, *added))
    base.panel, base.means = panel, added
    # new rows come with their means: the formula alone does not give the design
    base.formula_spec = None
    if model != "mixed":
        return base
    groups = panel.entity_labels[panel.unsort(panel.entity)]
    arguments = {"time": panel.given_time, "delta": panel.delta}
    mixed = MixedLMAR(
        panel.series(panel.y, panel.endog_name),
        pd.DataFrame(panel.unsort(panel.x), panel.index, list(panel.names)),
        groups=pd.Series(groups, index=panel.index, name=panel.entity_name),
        **{**arguments, **options},
    )
    mixed.means = added
    return mixed
