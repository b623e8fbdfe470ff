"""
Results of the panel estimators: one vocabulary for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixedar._types import FloatArray, Seed
from mixedar.data.checks import as_pandas
from mixedar.data.elsewhere import OF_PANEL_RESULTS, OtherWords
from mixedar.data.formula import FormulaSpec
from mixedar.data.rows import as_frame
from mixedar.exceptions import (
    LengthError,
    NotComputedError,
    check_alpha,
    check_choice,
    check_flags,
)
from mixedar.hypotheses.contrast import WaldTest
from mixedar.hypotheses.df import t_isf, t_sf
from mixedar.hypotheses.restrictions import (
    covariance_of,
    joint_test,
    restrictions,
    single_tests,
)
from mixedar.hypotheses.result import TestResult
from mixedar.inference.arguments import understands
from mixedar.panel.data import EntitySizes, PanelData
from mixedar.panel.estimate import (
    Effects,
    Kind,
    PanelEstimate,
    inclusive_rsquared,
    squared_correlations,
    transformed_rsquared,
)
from mixedar.panel.predictions import (
    Rows,
    check_effects,
    effects_of,
    known,
    panel_rows,
    predicted_frames,
    predictions,
)
from mixedar.panel.summary import summarize
from mixedar.prediction.batches import frames_or_file
from mixedar.prediction.results import PredictionResults
from mixedar.streams import Source
from mixedar.summary import ResultFrame, ResultsSummary, Summarised, in_a_line


class FittedModel(Protocol):
    """What results ask of the model that was fitted."""

    panel: PanelData
    frame: pd.DataFrame | None
    formula: str | None
    formula_spec: FormulaSpec | None

    def new_rows(self, exog: object) -> tuple[FloatArray, pd.Index | None]:
        """The design of new rows, and their labels."""


class _StatsmodelsLike(type):
    """Results of statsmodels' conventions, whose name marginaleffects looks at."""

    def __repr__(cls) -> str:
        return f"<class '{cls.__module__}.{cls.__qualname__}' (as of statsmodels)>"


class PanelResults(OtherWords, Summarised, metaclass=_StatsmodelsLike):
    """
    Estimates of a panel model; a snapshot that no later fit changes.

    Attributes
    ----------
    model : PanelModel
        The model that was fitted.
    panel : PanelData
        The data, sorted by entity and time.
    estimate : PanelEstimate
        The numbers without labels.
    kind : str
        ``"fe"``, ``"re"``, ``"between"``, ``"fd"``, ``"pooled"``, ``"fe_ar1"``
        or ``"re_ar1"``.
    method : str
        The estimator in words.
    params : Series, shape (k,)
        Coefficients.  Under fixed effects the intercept, if the formula has one,
        is the average effect (Stata's ``_cons``).
    scale : float
        Estimated variance of the idiosyncratic errors (sigma squared).
    df_resid : int
        Residual degrees of freedom, estimated effects counted.
    nobs : int
        Rows of the regression: observations, entities (between) or differences.
    theta : Series, shape (N,), or None
        Fraction of each entity's mean that quasi-demeaning subtracts.
    rho : float or None
        Autoregressive parameter of the errors.
    llf : float or None
        Log-likelihood, of fits by maximum likelihood and by least squares.
    absorbed : list of str
        Regressors without variation once the effects are removed.
    notes : list of str
        Remarks, printed by the summary.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> import mixedar.formula.api as mar
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> fit = mar.fixed_effects("invest ~ value + capital", firms, "firm", "year").fit()
    >>> fit.bse.round(2).to_dict()
    {'Intercept': 10.89, 'value': 0.01, 'capital': 0.02}
    >>> round(fit.rsquared_within, 2)
    0.77
    """

    other_words = OF_PANEL_RESULTS

    def __init__(self, model: FittedModel, estimate: PanelEstimate) -> None:
        self.model = model
        self.estimate = estimate
        self.panel: PanelData = model.panel
        self.kind: Kind = estimate.kind
        self.method = estimate.method
        names = [self.panel.names[j] for j in estimate.columns]
        self.params = pd.Series(estimate.params, index=names, name="params")
        self.scale = float(estimate.scale)
        self.df_resid, self.nobs = int(estimate.df_resid), int(estimate.nobs)
        self.cov_type = estimate.info.cov_type
        self.use_t = not np.isinf(estimate.info.df)
        self.rho, self.llf = estimate.rho, estimate.llf
        self.absorbed, self.notes = list(estimate.absorbed), list(estimate.notes)
        negative = np.flatnonzero(np.diag(estimate.cov) < 0.0)
        if len(negative):
            self.notes.append(
                f"No standard error for {', '.join(names[j] for j in negative)}: the "
                "two-way clustered variance is negative, which happens with few "
                "clusters."
            )

    def __repr__(self) -> str:
        size = f"{self.nobs} rows, {self.n_entities} entities, {self.cov_type} errors"
        return in_a_line(self, self.model.formula, self.endog_name, self.method, size)

    # -- coefficients --------------------------------------------------------

    @property
    def bse(self) -> pd.Series:
        """Standard errors of the coefficients; NaN where a variance is negative."""
        variances = np.diag(self.estimate.cov)
        values = np.sqrt(np.where(variances >= 0.0, variances, np.nan))
        return pd.Series(values, index=self.params.index, name="bse")

    @property
    def tvalues(self) -> pd.Series:
        """Coefficients divided by their standard errors."""
        return (self.params / self.bse).rename("tvalues")

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values by Student's t or, if ``use_t`` is False, the normal."""
        values = 2.0 * t_sf(np.abs(self.tvalues.to_numpy()), self.df.to_numpy())
        return pd.Series(values, index=self.params.index, name="pvalues")

    @cached_property
    def df(self) -> pd.Series:
        """Degrees of freedom of the coefficients; infinite for the normal."""
        info, k = self.estimate.info, len(self.params)
        method = info.method
        values = np.full(k, info.df) if method is None else method.single(np.eye(k))
        return pd.Series(values, index=self.params.index, name="df")

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """
        Confidence intervals of the coefficients.

        Parameters
        ----------
        alpha : float
            1 - coverage.

        Returns
        -------
        DataFrame, shape (k, 2)
            Columns 0 (lower) and 1 (upper).

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> fit = mar.fixed_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> fit.conf_int().loc["value"].round(2).tolist()
        [0.09, 0.13]
        """
        half = t_isf(check_alpha(alpha) / 2.0, self.df.to_numpy()) * self.bse
        return ResultFrame({0: self.params - half, 1: self.params + half})

    def cov_params(self) -> pd.DataFrame:
        """
        Estimated covariance of the coefficients.

        Returns
        -------
        DataFrame, shape (k, k)

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> fit = mar.fixed_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> fit.cov_params().shape
        (3, 3)
        """
        names = self.params.index
        return ResultFrame.of(pd.DataFrame(self.estimate.cov, names, names), "number")

    @property
    def df_inference(self) -> float:
        """
        Degrees of freedom of t and F tests; infinite for the normal.

        One less than the number of clusters if standard errors are clustered,
        `df_resid` for other fits of fixed effects and of least squares, and
        infinite for random effects.  Under CR2 the smallest of `df`, where each
        coefficient has its own.
        """
        return float(self.df.min())

    def wald_test(self, r_matrix: object, use_f: bool | None = None) -> WaldTest:
        """
        Wald test of linear restrictions.

        Parameters
        ----------
        r_matrix : str, array_like or tuple
            Restrictions such as ``"x1 = x2, x3 = 0"``, or a matrix.
        use_f : bool, optional
            F instead of chi-squared; by default wherever t is used.

        Returns
        -------
        WaldTest

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> fit = mar.fixed_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> test = fit.wald_test("value = 0, capital = 0", use_f=True)
        >>> test.df_num
        2
        """
        matrix, values = self._restrictions(r_matrix)
        difference = matrix @ self.estimate.params - values
        cov = covariance_of(matrix, self.estimate.cov)
        check_choice("use_f", use_f, (None, True, False))
        use_f = self.use_t if use_f is None else use_f
        method = self.estimate.info.method
        if method is None or not use_f or np.isnan(cov).any():
            return joint_test(difference, cov, self._df_tests if use_f else None)
        # Hotelling's T-squared as an F (HTZ)
        df, scaling = method.joint(matrix, len(matrix))
        return joint_test(difference, cov / scaling, df)

    def f_test(self, r_matrix: object) -> WaldTest:
        """
        F test of linear restrictions.

        Parameters
        ----------
        r_matrix : str, array_like or tuple
            As in :meth:`wald_test`.

        Returns
        -------
        WaldTest

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> fit = mar.fixed_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> fit.f_test("value = 0, capital = 0").df_num
        2
        """
        return self.wald_test(r_matrix, use_f=True)

    def t_test(self, r_matrix: object) -> WaldTest:
        """
        T tests of linear combinations, one by one.

        Parameters
        ----------
        r_matrix : str, array_like or tuple
            As in :meth:`wald_test`.

        Returns
        -------
        WaldTest

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> fit = mar.fixed_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> test = fit.t_test("value = capital")
        >>> float(test.effect[0].round(2))
        -0.2
        """
        matrix, values = self._restrictions(r_matrix)
        effect = matrix @ self.estimate.params
        cov = covariance_of(matrix, self.estimate.cov)
        df: FloatArray | float | None = self._df_tests if self.use_t else None
        method = self.estimate.info.method
        df = df if method is None else method.single(matrix)
        return single_tests(effect, values, cov, df)

    @understands(seed="rng", reps="n_sim")
    def wild_bootstrap(
        self,
        r_matrix: object,
        *,
        cluster: object = None,
        n_sim: int = 999,
        weights: str = "rademacher",
        impose_null: bool = True,
        rng: Seed = None,
        alpha: float = 0.05,
    ) -> TestResult:
        """
        Test one restriction by the wild cluster bootstrap.

        For few clusters: residuals under the null are multiplied by one random
        weight a cluster, and the t statistic is compared with those of the samples
        made so.

        Parameters
        ----------
        r_matrix : str, array_like or tuple
            One restriction, as for `wald_test`.
        cluster : str or array_like, optional
            Clusters in one dimension, as in `fit`; those of the fit, or entities, by
            default.
        n_sim : int
            Replicates.  Rademacher weights of G clusters with ``2^G <= n_sim`` are
            taken all, once each.
        weights : {"rademacher", "webb"}
            Signs, or Webb's six points for fewer than ten clusters.
        impose_null : bool
            Residuals of the fit under the null, or of the fit.
        rng : int or Generator, optional
        alpha : float
            1 - coverage of the interval.

        Returns
        -------
        TestResult
            Its p-value is the share of replicates, the sample itself among them, with
            a t as large in size; its details hold the estimate and the interval of
            values that are not rejected.  Random effects keep their variances in all
            replicates.

        Raises
        ------
        UnsupportedError
            For several restrictions, and for fits with AR(1) errors or of means.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from statsmodels.datasets import grunfeld
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> model = mar.fixed_effects("invest ~ value + capital", firms, "firm", "year")
        >>> test = model.fit("clustered").wild_bootstrap("value = 0", n_sim=4096)
        >>> round(test.pvalue, 4)
        0.002
        """
        from mixedar.panel.few_clusters import Replication, wild_bootstrap

        options = Replication(n_sim, weights, impose_null, rng)
        clusters = self.panel, self.model.frame, cluster
        null = r_matrix if isinstance(r_matrix, str) else "the combination is as stated"
        return wild_bootstrap(
            self.estimate, clusters, self._restrictions(r_matrix), null, options, alpha
        )

    def _restrictions(self, r_matrix: object) -> tuple[FloatArray, FloatArray]:
        return restrictions(r_matrix, self.exog_names, what="coefficient")

    @property
    def _df_tests(self) -> float:
        """Denominator of F and t tests that are asked for, a finite number."""
        df = self.df_inference
        return df if np.isfinite(df) else self.df_resid

    @cached_property
    def f_slopes(self) -> WaldTest | None:
        """
        Wald test that all coefficients but the intercept are zero.

        None if there are none, or if their covariance is singular.
        """
        slopes = np.flatnonzero(self.estimate.columns != self.panel.constant)
        if not len(slopes):
            return None
        try:
            return self.wald_test(np.eye(len(self.params))[slopes])
        except NotComputedError:
            return None

    # -- rows ----------------------------------------------------------------

    @cached_property
    def _effects(self) -> Effects:
        return Effects.of(self.panel, self.estimate)

    @property
    def fitted_marginal(self) -> pd.Series:
        """``x b``, without the effects; in the caller's order."""
        return self._series(self._effects.xb, "fitted_marginal")

    @property
    def fittedvalues(self) -> pd.Series:
        """
        Fitted values, estimated effects included; in the caller's order.

        One value an entity for ``kind`` ``"between"`` (its mean), and only rows
        that have a predecessor for ``"fd"`` (the difference).
        """
        return self._series(self._effects.fitted, "fittedvalues")

    @property
    def resid(self) -> pd.Series:
        """Response less `fittedvalues`: the idiosyncratic residuals."""
        return self._series(self._effects.resid, "resid")

    @property
    def resid_combined(self) -> pd.Series:
        """Residuals that include the effects, ``y - x b``."""
        effects = self._effects
        return self._series(effects.y - effects.xb, "resid_combined")

    def _series(self, values: FloatArray, name: str) -> pd.Series:
        if self.kind == "between":
            return self.panel.entity_series(values, name)
        if self.estimate.rows is None:
            return self.panel.series(values, name)
        everywhere = np.full(self.panel.nobs, np.nan)
        everywhere[self.estimate.rows] = values
        return self.panel.series(everywhere, name).dropna()

    @property
    def effects(self) -> pd.Series | None:
        """
        Estimated effects of the entities, shape (N,); None without effects.

        Under fixed effects with an intercept, deviations from their average over
        the observations (plm's ``dmean``); without one, levels.  Under random
        effects the predictor ``theta (2 - theta) (ybar - xbar b)``.
        """
        values = self._effects.entity
        return None if values is None else self.panel.entity_series(values, "effects")

    @property
    def time_effects(self) -> pd.Series | None:
        """Estimated effects of the periods, shape (T,), as `effects`; or None."""
        values = self._effects.time
        return None if values is None else self.panel.time_series(values, "effects")

    # -- the model as a whole --------------------------------------------------

    @property
    def theta(self) -> pd.Series | None:
        """Fraction of each entity's mean subtracted, shape (N,); None without."""
        values = self.estimate.theta
        return None if values is None else self.panel.entity_series(values, "theta")

    @cached_property
    def variance_decomposition(self) -> pd.Series | None:
        """
        Variances of the effects and of the idiosyncratic errors, and their ratio.

        Returns
        -------
        Series or None
            ``effects``, ``residual`` and ``fraction``, the part of the effects
            in the sum; under fixed effects the variance of the estimated
            effects (square of Stata's ``sigma_u``).
        """
        residual, between = self.estimate.sigma2_e, self.estimate.sigma2_u
        if between is None and self._effects.entity is not None:
            between = self.panel.entity_variance(self._effects.entity)
        if residual is None or between is None:
            return None
        fraction = between / (between + residual) if between + residual > 0 else np.nan
        values = {"effects": between, "residual": residual, "fraction": fraction}
        return pd.Series(values, name="variance_decomposition")

    @cached_property
    def _rsquared(self) -> tuple[float, float, float]:
        return squared_correlations(self.panel, self.estimate)

    @property
    def rsquared_within(self) -> float:
        """Squared correlation of entity-demeaned ``y`` and ``x b``, as Stata."""
        return self._rsquared[0]

    @property
    def rsquared_between(self) -> float:
        """Squared correlation of entity means of ``y`` and ``x b``, as Stata."""
        return self._rsquared[1]

    @property
    def rsquared_overall(self) -> float:
        """Squared correlation of ``y`` and ``x b``, as Stata."""
        return self._rsquared[2]

    @cached_property
    def rsquared(self) -> float:
        """
        R squared of the regression that was run, effects removed from its rows.

        Under fixed effects the within R squared of reghdfe and fixest; NaN for fits
        with AR(1) errors.
        """
        return transformed_rsquared(self.panel, self.estimate)

    @property
    def rsquared_inclusive(self) -> float:
        """
        R squared with the effects among what explains, as areg, reghdfe and fixest.

        ``1 - e'e / sum (y - ybar)^2`` with the residuals `resid`, weighted in
        weighted fits; NaN for estimators without fixed effects but pooled least
        squares.
        """
        return inclusive_rsquared(self.panel, self.estimate, self._effects.resid)[0]

    @property
    def rsquared_adj(self) -> float:
        """`rsquared_inclusive`, adjusted for degrees of freedom, effects counted."""
        return inclusive_rsquared(self.panel, self.estimate, self._effects.resid)[1]

    @property
    def n_entities(self) -> int:
        """Number of entities."""
        return self.panel.n_entities

    @property
    def n_groups(self) -> int:
        """Number of entities, as the mixed results call it."""
        return self.panel.n_entities

    @property
    def n_times(self) -> EntitySizes:
        """Observations of an entity: min, mean and max."""
        return self.panel.n_times

    @property
    def exog_names(self) -> list[str]:
        """Names of the coefficients."""
        return list(self.params.index)

    @property
    def endog_name(self) -> str:
        """Name of the response."""
        return self.panel.endog_name

    def predict(
        self,
        exog: ArrayLike | pd.DataFrame | Source | None = None,
        *,
        effects: bool = False,
        to: str | PathLike[str] | None = None,
    ) -> pd.Series | FloatArray | Iterator[pd.DataFrame] | Path:
        """
        Predict ``x b`` for new rows, with the estimated effects if wanted.

        Parameters
        ----------
        exog : DataFrame, array_like or source, optional
            Data for the formula, or a matrix with the columns of the model's
            `exog`; the model's own rows by default.
        effects : bool
            Add the effects of the rows' entities and periods, which a DataFrame
            names in the columns that the model has them from (Stata's ``xbu``).  Of
            a source they are those that the responses of the entities tell.
        to : path, optional
            A Parquet file to write the predictions of a source to.

        Returns
        -------
        Series or ndarray
            Of a source an iterator of DataFrames with ``predicted``, or `to`.  NaN
            where a value is missing, and where fixed effects do not know the entity
            or the period; random effects predict an effect of zero there.

        Raises
        ------
        UnsupportedError
            If the estimator has no effects.
        UnknownColumnError
            If new rows do not name their entities or periods.

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> fit = mar.fixed_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> len(fit.predict(firms.head(3)))
        3
        """
        check_flags(effects=effects)
        if isinstance(exog, Source):
            how = self.model.formula_spec, exog, effects
            return frames_or_file(predicted_frames(self.panel, self.estimate, *how), to)
        if exog is None and not effects:
            return self.fitted_marginal
        rows, index = self._rows(exog, effects)
        values = rows.x[:, self.estimate.columns] @ self.estimate.params
        if effects:
            check_effects(self.estimate)
            values = values + effects_of(self.panel, self.estimate, rows)
        return values if index is None else pd.Series(values, index, name="predicted")

    def get_prediction(
        self, exog: ArrayLike | pd.DataFrame | None = None, *, effects: bool = False
    ) -> PredictionResults:
        """
        Predictions with standard errors and intervals.

        Parameters
        ----------
        exog, effects
            As in `predict`.

        Returns
        -------
        PredictionResults
            Of the mean ``x b``, by the covariance of the fit; with `effects` of
            ``x b + a_i + g_t`` as regression on dummies has it, or of the best
            linear unbiased predictor, its variances taken as known.

        Raises
        ------
        UnsupportedError
            If the estimator has no effects, and for errors of effects under robust
            covariances or AR(1) errors.
        UnknownColumnError
            If new rows do not name their entities or periods.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from statsmodels.datasets import grunfeld
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> model = mar.fixed_effects("invest ~ value + capital", firms, "firm", "year")
        >>> found = model.fit().get_prediction(firms.head(2), effects=True)
        >>> found.summary_frame()[["mean", "mean_se"]].round(1)
            mean  mean_se
        0  269.6     18.1
        1  459.4     16.3
        """
        check_flags(effects=effects)
        rows, _ = self._rows(exog, effects)
        x, method = rows.x[:, self.estimate.columns], self.estimate.info.method
        df = np.full(len(x), self.df_inference)
        if method is not None and len(x):
            df = method.single(x)
        return predictions(self.panel, self.estimate, rows, df, effects)

    def _rows(self, exog: object, effects: bool) -> tuple[Rows, pd.Index | None]:
        """Rows to predict, and their labels if they have any."""
        if exog is None:
            return panel_rows(self.panel), self.panel.index
        given, exog = exog, as_pandas(exog)
        if isinstance(exog, Mapping) or exog is not given:
            exog = as_frame(exog)
        matrix, index = self.model.new_rows(exog)
        which = self.estimate.effects if effects else ()
        entity, time = known(self.panel, exog, which, len(matrix))
        labels = pd.RangeIndex(len(matrix)) if index is None else index
        return Rows(matrix, labels, entity, time), index

    def summary(
        self,
        yname: str | None = None,
        xname: Sequence[str] | None = None,
        title: str | None = None,
        alpha: float = 0.05,
    ) -> ResultsSummary:
        """
        Tables of the fit.

        Parameters
        ----------
        yname : str, optional
            Name of the response.
        xname : sequence of str, optional
            Names of the coefficients.
        title : str, optional
        alpha : float
            1 - coverage of the confidence intervals.

        Returns
        -------
        ResultsSummary

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> fit = mar.fixed_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> fit.summary().to_frame("coefficients").index.tolist()
        ['Intercept', 'value', 'capital']
        """
        names = list(self.params.index) if xname is None else np.ravel(xname).tolist()
        if len(names) != len(self.params):
            raise LengthError(
                f"xname has {len(names)} names; the model has {len(self.params)} "
                "coefficients"
            )
        letter = "t" if self.use_t else "z"
        ends = [f"[{check_alpha(alpha) / 2:.4g}", f"{1 - alpha / 2:.4g}]"]
        columns = {"Coef.": self.params, "Std.Err.": self.bse}
        columns |= {letter: self.tvalues, f"P>|{letter}|": self.pvalues}
        frame = pd.DataFrame(columns).join(self.conf_int(alpha).set_axis(ends, axis=1))
        spec, kinds = self.model.formula_spec, ("within", "between", "overall")
        shares = {of: getattr(self, f"rsquared_{of}") for of in kinds}
        if self.kind == "fe":
            shares["with effects"] = self.rsquared_inclusive
        return summarize(
            self.panel,
            self.estimate,
            frame.set_axis(names),
            rsquared=shares,
            slopes=self.f_slopes,
            parts=self.variance_decomposition,
            notes=[*self.notes, *([] if spec is None else spec.notes())],
            yname=yname,
            title=title,
        )
