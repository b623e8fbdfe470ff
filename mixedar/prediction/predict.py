"""
Predictions at three levels: population, group, forecast.

What is predicted is ``x beta + z b + o`` with known ``o``: ``o = 0`` and the rows
asked for at level "group"; ``x - c'X``, ``z - c'Z`` and ``c'y`` with the kriging
weights ``c`` in a forecast, because ``e = y - X beta - Z b``.  ``sigma2 R`` is the
covariance of the residuals, with a variance function their variances too.  With
``K = Lambda (I + Lambda' Z'R^-1 Z Lambda)^-1 Lambda'`` the best linear unbiased
prediction of ``b`` is ``K Z'R^-1 (y - X beta)``, and the error has the variance

    d Phi d' + sigma2 z K z',    d = x - z K Z'R^-1 X,

``Phi`` being the covariance of the fixed effects: the inverse of Henderson's
mixed-model equations, group by group (Henderson, C. R., 1975, Best linear
unbiased estimation and prediction under a selection model, Biometrics 31,
423-447; Robinson, G. K., 1991, That BLUP is a good thing: the estimation of
random effects, Statistical Science 6, 15-32).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.engine.groups import PredictedEffects, predict_effects
from mixedar.engine.kriging import Kriging, check_seen, krige
from mixedar.engine.linked import MetLevels
from mixedar.engine.residuals import is_correlated, relative_sd
from mixedar.exceptions import MixedARError, NotComputedError, check_choice
from mixedar.fit import Fit
from mixedar.hypotheses.df import DFMethod
from mixedar.inference.df import contrast_method, df_of_rows, shared_covariance
from mixedar.inference.information import Point, theta_variance
from mixedar.numeric.linalg import apply, product
from mixedar.prediction.new_rows import (
    NewData,
    NewRows,
    ObservedRows,
    check_included,
    observed_rows,
    rows_to_predict,
)
from mixedar.prediction.new_terms import NewTerms
from mixedar.prediction.results import PredictionResults, prediction_notes

LEVELS = ("population", "group", "forecast")
_THETA = {False: 0.0, True: 1.0, "prasad-rao": 2.0}


def get_prediction(
    fit: Fit,
    newdata: object = None,
    level: str = "population",
    *,
    exog: object = None,
    exog_re: object = None,
    exog_vc: Mapping[str, Any] | None = None,
    groups: object = None,
    time: object = None,
    series: object = None,
    residual_data: object = None,
    offset: object = None,
    include: Sequence[str] | None = None,
    unknown: str = "error",
    include_theta: bool | str = False,
    df: str | float | DFMethod | None = None,
) -> PredictionResults:
    """
    Predict with standard errors and intervals.

    Parameters
    ----------
    fit : Fit
    newdata : DataFrame, dict or structured array, optional
        Rows for the model's formulas; the rows of the fit by default.  For a
        model from arrays, the same as `exog`.
    level : {"population", "group", "forecast"}
        ``X beta``; ``X beta + Z b`` with the predicted random effects of the
        row's group; or the conditional mean given the group's random effects
        and its residuals, which are correlated with those of other times.
    exog, exog_re : array_like, shapes (k, p) and (k, q), optional
        Designs of new rows instead of `newdata`.
    exog_vc : mapping of str to array_like, optional
        With them, columns of each variance component in the order of the row's
        group, shape (k, columns).
    groups, time, series : str or array_like, optional
        Columns of `newdata`, or one value a row; the columns of the fit by
        default.  Times of the fit's kind; without times in the fit, new rows
        continue their series.
    residual_data : DataFrame or mapping of str to array_like, optional
        Columns that the residual structure and the variance function read
        (coordinates, strata, covariates, weights) and `newdata` has not.
    offset : str or array_like, optional
        Column of `newdata`, or one value a row, of a model with ``offset=``; the
        column of the fit by default.
    include : sequence of str, optional
        With ``level="group"``: the factors whose random effects are predicted, as
        in ``["school"]`` of pupils in schools (nlme's outer levels, lme4's
        ``re.form``); all by default.
    unknown : {"error", "population"}
        What to do with groups that are not in the fit: raise, or predict random
        effects of zero with their variance.
    include_theta : bool or "prasad-rao"
        Add the variance that the estimation of the covariance parameters
        brings, once or twice.
    df : str, float or DFMethod, optional
        Degrees of freedom of the intervals, as in ``t_test``: those of the
        fixed part of each row, at all levels.

    Returns
    -------
    PredictionResults

    Raises
    ------
    UnsupportedError
        For options that are not known.
    UnknownColumnError, MissingDataError, EmptyDataError, LengthError
        If new rows lack columns or values.
    GroupError
        If a group is not in the fit and `unknown` is ``"error"``.
    TimeError
        If a time does not suit those of the fit, or is an occasion of which the
        residual structure knows nothing, or not how it goes with those of the group.
    StructureError
        If a row belongs to an unknown stratum of the residual structure.
    NotComputedError
        If the data that a level needs were removed from the fit.

    Notes
    -----
    At levels ``"population"`` and ``"group"`` columns that the residual structure
    reads are not needed for the mean.  Where they are missing, ``obs_ci`` is NaN in
    ``summary_frame`` and ``conf_int(obs=True)`` says what is missing.

    With ``include_theta`` the fixed effects enter with their model-based
    covariance, else with that of the method of degrees of freedom.

    References
    ----------
    Goldberger, A. S. (1962), Best linear unbiased prediction in the generalized
    linear regression model, Journal of the American Statistical Association 57,
    369-375.

    Robinson, G. K. (1991), That BLUP is a good thing: the estimation of random
    effects, Statistical Science 6, 15-32.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> prediction = fit.get_prediction(teeth.head(2))
    >>> prediction.summary_frame()["mean"].round(1).tolist()
    [22.0, 23.4]
    """
    check_choice("level", level, LEVELS)
    check_choice("unknown", unknown, ("error", "population"))
    check_choice("include_theta", include_theta, tuple(_THETA))
    given = NewData(
        newdata, exog, exog_re, exog_vc, groups, time, series, residual_data, offset
    )
    check_included(fit, include, level)
    rows = rows_to_predict(fit, given, level, unknown)
    if include is not None:
        rows = rows.including(fit, include)
    method = contrast_method(fit, df)
    cov = fit.cov_beta if include_theta else method.cov
    lost = np.isnan(np.diag(cov))  # coefficients without robust standard error
    cov = np.where(np.isnan(cov), 0.0, cov)
    mean, variance, rest = np.full((3, len(rows.codes)), np.nan)
    reason: MixedARError | None = None
    for some, predictor in predictors(fit, rows, level):
        mean[some] = predictor.mean()
        variance[some] = predictor.error_variance(cov)
        if include_theta:
            estimation = theta_variance(fit, predictor.mean_at)
            variance[some] += _THETA[include_theta] * estimation
        try:
            rest[some] = predictor.residual_variance()
        except MixedARError as error:
            reason = reason or error
    variance[(rows.exog[:, lost] != 0.0).any(axis=1)] = np.nan
    unknown_groups = 0 if level == "population" else int((rows.codes < 0).sum())
    notes = prediction_notes(unknown_groups, include_theta, reason)
    df_rows = df_of_rows(method, rows.exog)
    return PredictionResults(
        mean, variance, rest, df_rows, rows.index, level, notes, reason
    )


# Numbers gathered at a time: what stays in cache.
_AT_ONCE = 2**18


def prior_variance(fit: Fit, request: NewRows) -> FloatArray:
    """Variance of ``z b`` where nothing of the group was observed, shape (k,)."""
    half = product(request.exog_re, fit.z_map @ fit.factor)
    own = fit.scale * np.einsum("ij,ij->i", half, half) + request.new_effects
    if request.terms is None and not fit.factor_levels:
        return own
    if request.terms is None:
        raise NotComputedError(
            "the data were removed from this fit, and with them the levels of its "
            "random effects"
        )
    return own + request.terms.prior_variance(fit)


def residual_variance(fit: Fit, request: NewRows, fitted: FloatArray) -> FloatArray:
    """
    Variance of residuals of which no other residual tells.

    Parameters
    ----------
    fit : Fit
    request : NewRows
    fitted : ndarray, shape (k,)
        Predicted means of the rows, which variances may depend on.

    Returns
    -------
    ndarray, shape (k,)

    Raises
    ------
    MixedARError
        If it cannot be told.
    """
    if request.covariates is None:
        assert request.reason_missing is not None
        raise request.reason_missing
    covariates = fit.encoder.with_fitted(request.covariates, fitted)
    sd = relative_sd(fit.structure, covariates, fit.residual_params)
    return np.asarray(fit.scale * sd**2)


class FixedPredictor:
    """
    Predictions of rows of which the fixed part, and further terms, are known.

    Parameters
    ----------
    fit : Fit
    request : NewRows
    level : str
    """

    def __init__(self, fit: Fit, request: NewRows, level: str) -> None:
        self.fit, self.request = fit, request
        # whose mean has no random effects, but smooths
        self.population = level == "population"

    @cached_property
    def _shared(self) -> FloatArray:
        """Columns of the coefficients that all rows share, shape (k, p + q)."""
        smooths = self.request.smooths
        assert smooths is not None
        return np.hstack([self.request.exog, smooths])

    def mean(self) -> FloatArray:
        """Predictions at the estimates, shape (k,)."""
        request, fit = self.request, self.fit
        if self.population:
            mean = self._shared @ fit.population.coefficients
        else:
            mean = request.exog @ fit.fe_params
            if request.terms is not None:
                mean += request.terms.mean(request.terms.effects(fit))
        return np.asarray(mean + request.offset)

    def mean_at(self, point: Point) -> FloatArray:
        """What of them the parameters change, shape (k,)."""
        x, terms = self.request.exog, self.request.terms
        if terms is None:
            return np.asarray(x @ point.beta)
        effects = terms.effects_at(self.fit, point.term_effects, point.u)
        return np.asarray(x @ point.beta + terms.mean(effects))

    def error_variance(self, cov: FloatArray) -> FloatArray:
        """As of :class:`GroupPredictor`."""
        x, terms = self.request.exog, self.request.terms
        if self.population:
            x, cov = self._shared, shared_covariance(self.fit, cov)
            return np.einsum("ij,ij->i", product(x, cov), x)
        if terms is None:
            variance = np.einsum("ij,ij->i", product(x, cov), x)
        else:
            none, first = np.empty((len(x), 0)), np.zeros(len(x), dtype=np.intp)
            errors = TermErrors(self.fit, terms)
            variance = errors.variance(x, none, first, terms, cov)
        return variance + prior_variance(self.fit, self.request)

    def residual_variance(self) -> FloatArray:
        """What an observation adds to it, shape (k,)."""
        own = residual_variance(self.fit, self.request, self.mean())
        return own + prior_variance(self.fit, self.request) if self.population else own


class GroupPredictor(FixedPredictor):
    """
    Predictions for known groups.

    Parameters
    ----------
    fit : Fit
    request : NewRows
        Rows of groups that are in the fit, group by group.
    level : str
        Residuals of the group are used for a forecast.
    """

    def __init__(self, fit: Fit, request: NewRows, level: str) -> None:
        super().__init__(fit, request, level)
        self.forecast = level == "forecast" and is_correlated(fit.structure)
        new = np.diff(request.codes, prepend=-1) > 0
        self.codes = np.cumsum(new) - 1
        self.observed: ObservedRows = observed_rows(fit, request.codes[new])
        if request.terms is not None:
            # given the further terms' effects groups are on their own
            offset = request.offset + request.terms.mean(request.terms.effects(fit))
            self.request = replace(request, offset=offset)

    def mean(self) -> FloatArray:
        """Predictions at the estimates, shape (k,)."""
        if not self.forecast:
            return self.group_mean
        beta, effects = self.fit.fe_params, self._effects.means
        return self._combine(beta, effects, self._kriging, self.observed)

    def mean_at(self, point: Point) -> FloatArray:
        """Predictions at some parameters, shape (k,)."""
        fit, terms, observed = self.fit, self.request.terms, self.observed
        kriging = self._kriging_at(point.u) if self.forecast else None
        ahead: FloatArray | float = 0.0
        if terms is not None:
            rows = NewTerms.of_data(fit.data.terms).take(observed.rows)
            before, after = fit.term_effects, point.term_effects
            endog = observed.endog + rows.mean(before) - rows.mean(after)
            observed = replace(observed, endog=endog)
            after = terms.effects_at(fit, after, point.u)
            ahead = terms.mean(after) - terms.mean(terms.effects(fit))
        effects = _predicted(fit, observed, point).means
        return self._combine(point.beta, effects, kriging, observed) + ahead

    def _combine(
        self,
        beta: FloatArray,
        effects: FloatArray,
        kriging: Kriging | None,
        observed: ObservedRows,
    ) -> FloatArray:
        """``x beta + z b``, and what the residuals add."""
        request = self.request
        mean = request.exog @ beta + _rowwise(request.exog_re, effects, self.codes)
        mean += request.offset
        if kriging is not None:
            grouped = observed.grouped
            group = np.repeat(np.arange(grouped.n_groups), grouped.sizes)
            fitted = observed.exog @ beta + _rowwise(observed.exog_re, effects, group)
            mean += kriging.weights @ (observed.endog - fitted)
        return np.asarray(mean)

    @cached_property
    def group_mean(self) -> FloatArray:
        """``x beta + z b`` at the estimates, shape (k,)."""
        beta, effects = self.fit.fe_params, self._effects.means
        return self._combine(beta, effects, None, self.observed)

    @cached_property
    def _effects(self) -> PredictedEffects:
        fit = self.fit
        return _predicted(
            fit,
            self.observed,
            Point(fit.fe_params, fit.u, fit.factor, fit.term_effects),
        )

    @cached_property
    def _kriging(self) -> Kriging:
        fit = self.fit
        unseen, labels = fit.unseen_correlations, list(self.request.index)
        if unseen.any():
            params = fit.estimate.residual_params
            check_seen(fit.structure, params, unseen, labels, *self._positions)
        return self._kriging_at(fit.u)

    @cached_property
    def _positions(self) -> tuple[tuple[IntArray, FloatArray], ...]:
        """Series, times and covariates of the observed rows, and of those asked for."""
        observed, places = self.observed, self.request.places
        covariates, known = self.request.covariates, observed.grouped.marks
        assert places is not None  # of every forecast
        assert covariates is not None
        if self.fit.structure.marks:
            covariates = self.fit.encoder.with_fitted(covariates, self.group_mean)
        known = np.empty((len(observed.rows), 0)) if known is None else known
        old = np.column_stack([places.fitted_time[observed.rows], known])
        first = observed.grouped.first_of_series
        numbers = pd.Index(places.fitted_series[observed.rows[first]])
        series = numbers.get_indexer(pd.Index(places.series))
        new = np.column_stack([places.time, covariates])
        return (np.cumsum(first) - 1, old), (series, new)

    def _kriging_at(self, u: FloatArray) -> Kriging:
        """Kriging weights at unconstrained residual parameters."""
        structure = self.fit.structure
        params = structure.from_unconstrained(u[: structure.k_free])
        return krige(structure, params, *self._positions)

    def error_variance(self, cov: FloatArray) -> FloatArray:
        """
        Variance of the errors of :meth:`mean`.

        Parameters
        ----------
        cov : ndarray, shape (p, p)
            Covariance of the fixed effects.

        Returns
        -------
        ndarray, shape (k,)
        """
        fit, request, observed = self.fit, self.request, self.observed
        x, z, exog = request.exog, request.exog_re, observed.exog
        terms = None
        if request.terms is not None:
            terms = TermErrors(fit, request.terms, observed)
            exog = np.hstack([exog, terms.columns])
            x = np.hstack([x, np.zeros((len(x), terms.columns.shape[1]))])
        if self.forecast:
            weights = self._kriging.weights
            x = x - weights @ exog
            z = z - weights @ observed.exog_re
        roots = self._effects.roots
        cross = observed.cross_products(fit, exog)
        variance = np.empty(len(x))
        q, p = cross.shape[:2]
        step = max(_AT_ONCE // (q * (q + p) + p + 1), 1)
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            codes = self.codes[rows]
            root = roots[:, :, codes]
            half = apply(root, z[rows].T)
            weight = apply(root.transpose(1, 0, 2), half)  # K z'
            d = x[rows].T - np.einsum("abm,am->bm", cross[:, :, codes], weight)
            total = fit.scale * np.einsum("am,am->m", half, half)
            if terms is None:
                variance[rows] = total + np.einsum("bm,bm->m", d, cov @ d)
                continue
            assert request.terms is not None
            some = np.arange(len(x))[rows]
            own, d = request.terms.take(some), d.T
            k = fit.k_fe
            variance[rows] = total + terms.variance(d[:, :k], d[:, k:], codes, own, cov)
        new = 0.0 if request.terms is None else request.terms.prior_variance(fit)
        return np.maximum(variance, 0.0) + request.new_effects + new

    def residual_variance(self) -> FloatArray:
        """
        What an observation adds to it, shape (k,).

        Raises
        ------
        MixedARError
            If it cannot be told.
        """
        if self.forecast:
            return np.asarray(self.fit.scale * self._kriging.share)
        return residual_variance(self.fit, self.request, self.group_mean)


def predictors(
    fit: Fit, rows: NewRows, level: str
) -> Iterator[tuple[IntArray, FixedPredictor]]:
    """Rows of unknown groups, those of known ones, and what predicts them."""
    known, others = rows.split()
    for some, kind in ((others, FixedPredictor), (known, GroupPredictor)):
        if len(some):
            yield some, kind(fit, rows.take(some), level)


class TermErrors:
    """
    Errors of predicted effects that predictions of rows are made of.

    Parameters
    ----------
    fit : Fit
    own : NewTerms
        Of the rows that are predicted.
    observed : ObservedRows, optional
        Rows of which predictions take residuals; none by default, where the
        predicted effects alone matter.
    """

    def __init__(
        self, fit: Fit, own: NewTerms, observed: ObservedRows | None = None
    ) -> None:
        self.fit = fit
        self._posterior = own.posterior(fit)
        self._slopes = np.concatenate(
            [found.slopes.reshape(-1, fit.k_fe) for found in own.effects(fit)]
        )
        rows, sizes = np.empty(0, dtype=np.intp), np.zeros(1, dtype=np.intp)
        if observed is not None:
            rows, sizes = observed.rows, observed.grouped.sizes
        n_groups = len(sizes)
        groups = np.repeat(np.arange(n_groups), sizes)
        columns, which, owner = [], [], []
        for t, term in enumerate(fit.data.terms):
            design = term.design[rows]
            order = design.shape[1]
            met = MetLevels.of(groups, n_groups, term.codes[rows])
            most = int(met.count.max(initial=0))
            local = np.zeros((len(groups), most, order))
            local[np.arange(len(groups)), met.number] = design
            numbers = np.full((n_groups, most, order), -1)
            numbers[met.cluster, met.rank] = self._posterior.numbers(t, met.level)
            columns.append(local.reshape(len(groups), most * order))
            which.append(numbers.reshape(n_groups, most * order))
            owner.append(np.full(most * order, t))
        #: columns of the levels that each row's group met, shape (n, l)
        self.columns: FloatArray = np.hstack(columns)
        self._which, self._owner = np.hstack(which), np.concatenate(owner)

    def variance(
        self,
        d_x: FloatArray,
        d_met: FloatArray,
        groups: IntArray,
        own: NewTerms,
        cov: FloatArray,
    ) -> FloatArray:
        """
        Variances of ``d_x (beta - b) + d (u - predicted u)``.

        Parameters
        ----------
        d_x : ndarray, shape (m, p)
        d_met : ndarray, shape (m, l)
            Of the effects that the rows' groups met.
        groups : ndarray of int, shape (m,)
        own : NewTerms
            Of the rows themselves.
        cov : ndarray, shape (p, p)
            Of the fixed effects.

        Returns
        -------
        ndarray, shape (m,)
        """
        d, which, owner = [d_met], [self._which[groups]], [self._owner]
        for t, design in enumerate(own.designs):
            numbers = self._posterior.numbers(t, own.codes[:, t])
            which.append(np.where(own.codes[:, t, None] >= 0, numbers, -1))
            d.append(design)
            owner.append(np.full(design.shape[1], t))
        every, at = np.hstack(d), np.hstack(which)
        every = np.where(at >= 0, every, 0.0)
        moved = d_x - np.einsum("ml,mlp->mp", every, self._slopes[np.maximum(at, 0)])
        fixed = np.einsum("mp,pq,mq->m", moved, cov, moved)
        spread = self._posterior.quadratic(np.concatenate(owner), every, at)
        return fixed + self.fit.scale * spread


def _rowwise(z: FloatArray, effects: FloatArray, codes: IntArray) -> FloatArray:
    """``z b`` with the effects of each row's group."""
    total = np.zeros(len(z))
    for j in range(z.shape[1]):
        total += z[:, j] * effects[codes, j]
    return total


def _predicted(fit: Fit, observed: ObservedRows, point: Point) -> PredictedEffects:
    """Predicted random effects of the observed groups at some parameters."""
    return predict_effects(
        observed.exog_re,
        observed.endog - observed.exog @ point.beta,
        observed.grouped,
        fit.structure,
        point.u[: fit.structure.k_free],
        fit.z_map,
        point.factor,
    )
