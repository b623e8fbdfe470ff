"""
What a fit says of single groups: their effects, coefficients and shrinkage.

Every method imports its module when it is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from statsmodels.regression.mixed_linear_model import MixedLMResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from mixedar.by_group import ByGroupResults, Shrinkage
    from mixedar.diagnostics.checkup.report import Diagnosis
    from mixedar.diagnostics.influence.results import GroupInfluence
    from mixedar.diagnostics.predictive import PredictiveCheck
    from mixedar.hypotheses.result import TestResult
    from mixedar.prediction import PredictionResults


class GroupMethods(MixedLMResults):
    """Methods of :mod:`mixedar.by_group` on the results of a mixed model."""

    def random_effects_frame(
        self,
        form: str = "wide",
        *,
        standard_errors: bool = False,
        beta: str = "known",
        alpha: float = 0.05,
    ) -> pd.DataFrame:
        """
        Predicted random effects of all groups, with standard errors.

        See :func:`mixedar.by_group.effects.random_effects_frame`.
        """
        from mixedar.by_group.effects import random_effects_frame

        return random_effects_frame(
            self.fit, form, standard_errors=standard_errors, beta=beta, alpha=alpha
        )

    def coef_by_group(
        self,
        form: str = "wide",
        *,
        standard_errors: bool = False,
        alpha: float = 0.05,
    ) -> pd.DataFrame:
        """
        Coefficients of every group: fixed plus predicted random effects.

        See :func:`mixedar.by_group.effects.coef_by_group`.
        """
        from mixedar.by_group.effects import coef_by_group

        return coef_by_group(
            self.fit, form, standard_errors=standard_errors, alpha=alpha
        )

    def shrinkage(self, by_group: ByGroupResults | None = None) -> Shrinkage:
        """
        Compare the groups' coefficients with regressions of their own.

        See :func:`mixedar.by_group.shrinkage.shrinkage`.
        """
        from mixedar.by_group.shrinkage import shrinkage

        return shrinkage(self.fit, by_group)

    def plot_random_effects(
        self,
        kind: str = "caterpillar",
        effect: str | None = None,
        *,
        alpha: float = 0.05,
        beta: str = "known",
        max_groups: int = 400,
        ax: Any = None,
    ) -> Any:
        """
        Draw the predicted random effects: sorted with intervals, or normal QQ plots.

        See :func:`mixedar.plotting.coefficients.plot_random_effects`.
        """
        from mixedar.by_group.effects import plot_data
        from mixedar.plotting.coefficients import plot_random_effects

        return plot_random_effects(
            plot_data(self.fit, kind, alpha, beta),
            kind,
            effect,
            alpha=alpha,
            max_groups=max_groups,
            ax=ax,
        )


class InferenceMethods(MixedLMResults):
    """Methods of :mod:`mixedar.inference` on the results of a mixed model."""

    def conf_int_re(
        self,
        method: str = "profile",
        alpha: float = 0.05,
        parameters: str | Iterable[str] | None = None,
        *,
        n_boot: int = 1000,
        seed: Any = None,
        progress: bool = False,
    ) -> pd.DataFrame:
        """
        Intervals for variances, correlations, residual parameters and sigma.

        See :func:`mixedar.inference.intervals.wald.conf_int_re`.
        """
        from mixedar.inference.intervals.wald import conf_int_re

        return conf_int_re(
            self.fit,
            method,
            alpha,
            parameters,
            n_boot=n_boot,
            seed=seed,
            progress=progress,
        )

    def profile(self, parameter: str) -> Any:
        """
        Profile likelihood of a covariance parameter.

        See :func:`mixedar.inference.intervals.profile.profile_likelihood`.
        """
        from mixedar.inference.intervals.profile import profile_likelihood

        return profile_likelihood(self.fit, parameter)

    def information(self, kind: str = "observed") -> pd.DataFrame:
        """
        Observed or expected information of the covariance parameters.

        See :func:`mixedar.inference.information.information_matrix`.
        """
        from mixedar.inference.information import information_matrix

        return information_matrix(self.fit, kind)

    def covariance_parameters(self, kind: str = "observed") -> pd.DataFrame:
        """
        Variances, standard deviations and correlations with standard errors.

        See :func:`mixedar.inference.information.covariance_parameters`.
        """
        from mixedar.inference.information import covariance_parameters

        return covariance_parameters(self.fit, kind)

    def bootstrap(
        self, n_boot: int = 1000, *, seed: Any = None, progress: bool = False
    ) -> Any:
        """
        Parametric bootstrap.

        See :func:`mixedar.inference.intervals.bootstrap.bootstrap`.
        """
        from mixedar.inference.intervals.bootstrap import bootstrap

        return bootstrap(self.fit, n_boot, seed=seed, progress=progress)

    def anova(self, *others: Any, **options: Any) -> pd.DataFrame:
        """
        Tests of the terms, or likelihood-ratio tests against other fits.

        See :func:`mixedar.inference.terms.anova.anova`.
        """
        from mixedar.inference.terms.anova import anova

        return anova(self, *others, **options)

    def wald_test_terms(
        self,
        skip_single: bool = False,
        extra_constraints: Any = None,
        combine_terms: Sequence[str] | None = None,
        scalar: Any = None,
        df: Any = None,
    ) -> Any:
        """
        Joint Wald tests of the columns of each term.

        See :func:`mixedar.inference.terms.anova.wald_test_terms`.
        """
        from mixedar.inference.terms.anova import wald_test_terms

        return wald_test_terms(
            self.fit, skip_single, extra_constraints, combine_terms, scalar, df
        )

    def information_criteria(self, ic: str = "nlme") -> pd.Series:
        """
        AIC, BIC and others by the convention of a program.

        See :func:`mixedar.inference.criteria.information_criteria`.
        """
        from mixedar.inference.criteria import information_criteria

        return information_criteria(self.fit, ic)

    def marginal_means(
        self,
        variables: str | Sequence[str],
        *,
        at: Mapping[str, Any] | None = None,
        by: str | Sequence[str] | None = None,
        df: Any = None,
        cov_type: str | None = None,
        weights: str = "equal",
    ) -> Any:
        """
        Estimated marginal means.

        See :func:`mixedar.inference.means.marginal_means`.
        """
        from mixedar.inference.means import marginal_means

        return marginal_means(
            self.fit, variables, at=at, by=by, df=df, cov_type=cov_type, weights=weights
        )


class InfluenceMethods(MixedLMResults):
    """Methods of :mod:`mixedar.diagnostics` on the results of a mixed model."""

    def influence(
        self, maxiter: int | None = None, *, progress: bool = False
    ) -> GroupInfluence:
        """
        Influence of each group on all estimates.

        See :func:`mixedar.diagnostics.influence.results.influence`.
        """
        from mixedar.diagnostics.influence.results import influence

        return influence(self.fit, maxiter, progress=progress)

    def get_influence(self) -> GroupInfluence:
        """
        Influence of each group, under statsmodels' name.

        See :func:`mixedar.diagnostics.influence.results.influence`.
        """
        return self.influence()

    def diagnose(self, alpha: float = 0.01) -> Diagnosis:
        """
        What may be wrong with this fit, in plain words.

        See :func:`mixedar.diagnostics.checkup.report.diagnose`.
        """
        from mixedar.diagnostics.checkup.report import diagnose

        return diagnose(self, alpha)


class PlotMethods(MixedLMResults):
    """Methods of :mod:`mixedar.plotting` and :mod:`mixedar.report` on a fit."""

    def plot(self, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
        """
        Four panels: the data and the mean, and three looks at the residuals.

        The data as lines with the means of the population, by the first factor that
        does not vary within groups; normalized residuals against fitted values,
        against normal quantiles, and their autocorrelation by lag, with the band in
        which the model expects it.  A panel of residuals that cannot be drawn says
        why.
        """
        from mixedar.data.variables import main_factor
        from mixedar.plotting.trajectories import plot_overview

        by = main_factor(self.fit.data)
        return plot_overview(
            lambda ax: self.plot_spaghetti(by, ax=ax, n_lines=60, explain=False),
            [
                lambda ax: self.plot_residuals(ax=ax),
                lambda ax: self.qqplot(ax=ax),
                lambda ax: self.plot_acf(ax=ax),
            ],
            figure,
        )

    def plot_trajectories(
        self, groups: Any = None, x: Any = None, *, n_groups: int = 16, **options: Any
    ) -> Figure | SubFigure:
        """
        Data and fitted curves, a panel a group (nlme's ``augPred``).

        Parameters
        ----------
        groups : iterable of labels, or a label, optional
            Groups to draw, in this order; all by default, and a random sample of
            `n_groups` if there are more.
        x : str or array_like, shape (n,), optional
            What runs from left to right; the model's time by default.
        n_groups : int
            The largest number of panels without `groups`.
        **options
            ``curves``, ``n_columns`` and ``figure``, as in
            :func:`mixedar.plotting.trajectories.plot_trajectories`.
        """
        from mixedar.data.variables import picture_rows
        from mixedar.plotting.trajectories import plot_trajectories
        from mixedar.prediction.curves import choose_groups, fitted_curves

        rows = picture_rows(self.fit.data, x)
        chosen, caption = choose_groups(rows, groups, n_groups)
        drawn = fitted_curves(self.fit, rows, chosen)
        return plot_trajectories(rows, chosen, drawn, caption=caption, **options)

    def plot_forecast(
        self,
        newdata: pd.DataFrame,
        groups: Any = None,
        x: str | None = None,
        *,
        level: str = "forecast",
        n_groups: int = 9,
        n_columns: int = 3,
        alpha: float = 0.05,
        figure: Figure | SubFigure | None = None,
        **options: Any,
    ) -> Figure | SubFigure:
        """
        Predictions of single groups with intervals, beside their data.

        Parameters
        ----------
        newdata : DataFrame
            Rows to predict, as :meth:`get_prediction` takes them.  If it has the
            response, that is drawn as well, to be compared.
        groups : iterable of labels, or a label, optional
            Groups to draw; those of `newdata` by default, and a random sample of
            `n_groups` if there are more.
        x : str, optional
            Column that runs from left to right; the model's time by default.
        level, **options
            As in :meth:`get_prediction`.
        n_groups : int
            The largest number of panels without `groups`.
        n_columns, alpha, figure
            See :func:`mixedar.plotting.trajectories.plot_forecast`.
        """
        from mixedar.data.variables import picture_rows
        from mixedar.inference.arguments import check_alpha
        from mixedar.plotting.trajectories import plot_forecast
        from mixedar.prediction.curves import forecasts

        check_alpha(alpha)
        rows = picture_rows(self.fit.data, x)
        chosen, frame, caption = forecasts(
            self.fit, rows, newdata, groups, level, n_groups, alpha, **options
        )
        return plot_forecast(
            rows,
            chosen,
            frame,
            level=level,
            n_columns=n_columns,
            alpha=alpha,
            caption=caption,
            figure=figure,
        )

    def plot_spaghetti(
        self,
        by: Any = None,
        x: Any = None,
        ax: Axes | None = None,
        *,
        alpha: float = 0.05,
        **options: Any,
    ) -> Axes:
        """
        Data as lines, the population mean and its band, by a factor.

        Parameters
        ----------
        by : str or array_like, shape (n,), optional
            A factor: lines and means of its levels in colours of their own.
        x : str or array_like, shape (n,), optional
            What runs from left to right; the model's time by default.
        ax : matplotlib Axes, optional
        alpha : float
            1 - coverage of the mean's interval, which is normal.
        **options
            ``n_lines``, ``spread`` and ``explain``, as in
            :func:`mixedar.plotting.trajectories.plot_spaghetti`.
        """
        from mixedar.data.variables import picture_rows
        from mixedar.plotting.style import COLOURS
        from mixedar.plotting.trajectories import plot_spaghetti
        from mixedar.prediction.curves import levels_of, population_means

        data = self.fit.data
        rows, levels = picture_rows(data, x), levels_of(data, by, len(COLOURS))
        factor = by if isinstance(by, str) else None
        means = population_means(self.fit, rows, levels, factor, alpha)
        return plot_spaghetti(rows, levels, means, ax, alpha=alpha, **options)

    def plot_coefficients(
        self,
        ax: Axes | None = None,
        coefficients: str | Iterable[str] | None = None,
        alpha: float = 0.05,
    ) -> Axes:
        """
        Fixed effects with their intervals.

        See :func:`mixedar.plotting.coefficients.plot_coefficients`.
        """
        from mixedar.inference.wald import coefficient_frame
        from mixedar.plotting.coefficients import plot_coefficients

        frame = pd.concat(
            {self.fit.sizes.endog_name: coefficient_frame(self.fit)},
            axis=1,
            names=["model"],
        )
        return plot_coefficients(frame, ax, coefficients, alpha)

    def plot_profiles(
        self,
        parameters: str | Iterable[str] | None = None,
        alpha: float = 0.05,
        **options: Any,
    ) -> Figure | SubFigure:
        """
        Profile likelihoods of the covariance parameters.

        See :func:`mixedar.plotting.coefficients.plot_profiles`.
        """
        from mixedar.inference.intervals.profile import profiles
        from mixedar.plotting.coefficients import plot_profiles

        return plot_profiles(profiles(self.fit, parameters), alpha, **options)

    def report(
        self, path: str | Path | None = None, title: str | None = None, **options: Any
    ) -> Path | str:
        """
        Write the fit as one self-contained HTML file.

        See :func:`mixedar.report.build.report`.
        """
        from mixedar.report.build import report

        return report(self, path, title, **options)


class PredictionMethods(MixedLMResults):
    """Methods of :mod:`mixedar.prediction` on the results of a mixed model."""

    def get_prediction(
        self,
        newdata: Any = None,
        level: str = "population",
        *,
        exog: Any = None,
        exog_re: Any = None,
        exog_vc: Mapping[str, Any] | None = None,
        groups: Any = None,
        time: Any = None,
        series: Any = None,
        residual_data: Any = None,
        unknown: str = "error",
        include_theta: bool | str = False,
        df: Any = None,
    ) -> PredictionResults:
        """
        Predict with standard errors and intervals.

        ``level="population"`` is ``X beta``, ``"group"`` adds the predicted random
        effects, ``"forecast"`` what the group's residuals tell of residuals at
        other times.

        See :func:`mixedar.prediction.predict.get_prediction`.
        """
        from mixedar.prediction.predict import get_prediction

        return get_prediction(
            self.fit,
            newdata,
            level,
            exog=exog,
            exog_re=exog_re,
            exog_vc=exog_vc,
            groups=groups,
            time=time,
            series=series,
            residual_data=residual_data,
            unknown=unknown,
            include_theta=include_theta,
            df=df,
        )


class ResidualMethods(MixedLMResults):
    """Methods of :mod:`mixedar.diagnostics` on the residuals of a mixed model."""

    def acf(
        self,
        kind: str = "normalized",
        max_lag: float | None = None,
        *,
        bin_width: float | None = None,
        alpha: float = 0.05,
        bounds: str | None = None,
    ) -> pd.DataFrame:
        """
        Autocorrelation of the residuals by lag in time.

        See :func:`mixedar.diagnostics.residuals.autocorrelation.residual_acf`.
        """
        from mixedar.diagnostics.residuals.autocorrelation import residual_acf

        return residual_acf(
            self.fit, kind, max_lag, bin_width=bin_width, alpha=alpha, bounds=bounds
        )

    def variogram(
        self,
        kind: str = "pearson",
        max_distance: float | None = None,
        *,
        n_bins: int = 20,
        bins: str = "quantiles",
        robust: bool = False,
    ) -> pd.DataFrame:
        """
        Semivariogram of the residuals, and what the model says of it.

        See :func:`mixedar.diagnostics.residuals.variogram.residual_variogram`.
        """
        from mixedar.diagnostics.residuals.variogram import residual_variogram

        return residual_variogram(
            self.fit, kind, max_distance, n_bins=n_bins, bins=bins, robust=robust
        )

    def serial_correlation_test(
        self,
        lags: int | Iterable[float] | None = None,
        *,
        bin_width: float | None = None,
    ) -> TestResult:
        """
        Score test for serial correlation that the model leaves.

        See :mod:`mixedar.diagnostics.residuals.autocorrelation`.
        """
        from mixedar.diagnostics.residuals.autocorrelation import (
            serial_correlation_test,
        )

        return serial_correlation_test(self.fit, lags, bin_width=bin_width)

    def residual_spread(
        self, by: Any = "groups", *, n_bins: int = 10, alpha: float = 0.05
    ) -> pd.DataFrame:
        """
        Residual standard deviations of groups, or of strata.

        See :func:`mixedar.diagnostics.residuals.heteroscedasticity.residual_spread`.
        """
        from mixedar.diagnostics.residuals.heteroscedasticity import residual_spread

        return residual_spread(self.fit, by, n_bins=n_bins, alpha=alpha)

    def heteroscedasticity_test(
        self,
        by: Any = "fitted",
        *,
        trend: bool | None = None,
        studentize: bool = True,
        n_bins: int = 10,
    ) -> TestResult:
        """
        Score test of equal residual variances.

        See :mod:`mixedar.diagnostics.residuals.heteroscedasticity`.
        """
        from mixedar.diagnostics.residuals.heteroscedasticity import (
            heteroscedasticity_test,
        )

        return heteroscedasticity_test(
            self.fit, by, trend=trend, studentize=studentize, n_bins=n_bins
        )

    def normality_test(self) -> TestResult:
        """
        Test of normal residuals by skewness and kurtosis.

        See :func:`mixedar.diagnostics.residuals.normality.normality_test`.
        """
        from mixedar.diagnostics.residuals.normality import normality_test

        return normality_test(self.fit)

    def simulate(
        self,
        n_sim: int = 1,
        seed: Any = None,
        newdata: Any = None,
        groups: str = "new",
    ) -> pd.DataFrame:
        """
        Draw responses from the fitted model, with all of its correlation.

        Parameters
        ----------
        n_sim : int
            Number of data sets.
        seed : int, SeedSequence or Generator, optional
        newdata : DataFrame, optional
            Rows for which to draw; those of the fit by default.
        groups : {"new", "conditional"}
            New random effects, or those predicted from the data.

        Returns
        -------
        DataFrame, shape (n, n_sim)
            See :func:`mixedar.diagnostics.simulation.simulate`.
        """
        from mixedar.diagnostics.simulation import simulate

        return simulate(self.fit, n_sim, seed, newdata, groups)

    def predictive_check(
        self,
        statistic: Any = None,
        n_sim: int = 1000,
        seed: Any = None,
        groups: str = "new",
    ) -> PredictiveCheck:
        """
        Compare statistics of the data with draws from the fitted model.

        See :func:`mixedar.diagnostics.predictive.predictive_check`.
        """
        from mixedar.diagnostics.predictive import predictive_check

        return predictive_check(self.fit, statistic, n_sim, seed, groups)

    def plot_acf(
        self,
        kind: str = "normalized",
        max_lag: float | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Axes:
        """
        Draw the autocorrelation of the residuals; options as for :meth:`acf`.

        See :func:`mixedar.plotting.correlation.plot_acf`.
        """
        from mixedar.diagnostics.residuals.series import distance_label
        from mixedar.plotting.correlation import plot_acf

        table = self.acf(kind, max_lag, **options)
        return plot_acf(table, ax, x_label=distance_label(self.fit, "Lag"))

    def plot_variogram(
        self,
        kind: str = "pearson",
        max_distance: float | None = None,
        ax: Axes | None = None,
        *,
        smooth: bool = True,
        **options: Any,
    ) -> Axes:
        """
        Draw the semivariogram; options as for :meth:`variogram`.

        See :func:`mixedar.plotting.correlation.plot_variogram`.
        """
        from mixedar.diagnostics.residuals.series import distance_label
        from mixedar.plotting.correlation import plot_variogram

        table = self.variogram(kind, max_distance, **options)
        x_label = distance_label(self.fit, "Distance")
        return plot_variogram(table, ax, smooth=smooth, x_label=x_label)

    def plot_residuals(
        self,
        x: Any = "fitted",
        kind: str = "normalized",
        ax: Axes | None = None,
        *,
        smooth: bool = True,
        n_sim: int = 39,
        max_groups: int = 40,
    ) -> Axes:
        """
        Draw residuals against fitted values, time, a column, or by group.

        Lines are the local mean and, around it, twice the local standard deviation.
        See :func:`mixedar.diagnostics.simulation.residual_frame` for what `x` can be,
        :func:`~mixedar.diagnostics.simulation.residual_trend` for the bands from
        `n_sim` drawn responses, and
        :func:`mixedar.plotting.residuals.plot_residuals`.
        """
        from mixedar.diagnostics.simulation import residual_frame, residual_trend
        from mixedar.plotting.residuals import plot_residuals

        frame = residual_frame(self.fit, x, kind)
        trend = residual_trend(self.fit, frame, kind, n_sim) if smooth else None
        return plot_residuals(frame, trend, ax, kind=kind, max_groups=max_groups)

    def qqplot(
        self,
        kind: str = "normalized",
        ax: Axes | None = None,
        *,
        alpha: float = 0.05,
        band: str = "simultaneous",
        labels: int = 3,
    ) -> Axes:
        """
        Draw residuals against normal quantiles, with a band.

        See :func:`mixedar.diagnostics.residuals.normality.residual_quantiles`.
        """
        from mixedar.diagnostics.residuals.normality import residual_quantiles
        from mixedar.plotting.residuals import plot_quantiles

        table = residual_quantiles(self.fit, kind, alpha=alpha, band=band)
        name = f"{100.0 * (1.0 - alpha):g}% band"
        return plot_quantiles(table, ax, labels=labels, band=name)

    def plot_simulated(
        self,
        what: Any = "density",
        n_sim: int | None = None,
        seed: Any = None,
        ax: Axes | None = None,
        *,
        groups: str = "new",
    ) -> Axes:
        """
        Draw the data among data sets drawn from the fitted model.

        Densities of 50 responses (`what` is ``"density"``) or of their means by group
        (``"group_means"``); or a histogram of 1,000 values of a statistic, as in
        :meth:`predictive_check`.
        """
        from mixedar.diagnostics.predictive import response_draws
        from mixedar.plotting.simulated import plot_check, plot_draws

        if isinstance(what, str) and what in ("density", "group_means"):
            draws = response_draws(self.fit, what, n_sim, seed, groups)
            return plot_draws(draws, ax)
        n_sim = 1000 if n_sim is None else n_sim
        return plot_check(self.predictive_check(what, n_sim, seed, groups), None, ax)
