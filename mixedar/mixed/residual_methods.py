"""
Residual diagnostics of a fit, and simulation from it.

Every method imports its module when it is called; matplotlib comes with the
pictures.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd
from statsmodels.regression.mixed_linear_model import MixedLMResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mixedar.diagnostics.outcome import DiagnosticTest
    from mixedar.diagnostics.predictive import PredictiveCheck

__all__ = ["ResidualMethods"]


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

        See :func:`mixedar.diagnostics.acf.residual_acf`.
        """
        from mixedar.diagnostics.acf import residual_acf

        return residual_acf(
            self, kind, max_lag, bin_width=bin_width, alpha=alpha, bounds=bounds
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

        See :func:`mixedar.diagnostics.variogram.residual_variogram`.
        """
        from mixedar.diagnostics.variogram import residual_variogram

        return residual_variogram(
            self, kind, max_distance, n_bins=n_bins, bins=bins, robust=robust
        )

    def serial_correlation_test(
        self,
        lags: int | Iterable[float] | None = None,
        *,
        bin_width: float | None = None,
    ) -> DiagnosticTest:
        """
        Score test for serial correlation that the model leaves.

        See :func:`mixedar.diagnostics.serial.serial_correlation_test`.
        """
        from mixedar.diagnostics.serial import serial_correlation_test

        return serial_correlation_test(self, lags, bin_width=bin_width)

    def residual_spread(
        self, by: Any = "groups", *, n_bins: int = 10, alpha: float = 0.05
    ) -> pd.DataFrame:
        """
        Residual standard deviations of groups, or of strata.

        See :func:`mixedar.diagnostics.heteroscedasticity.residual_spread`.
        """
        from mixedar.diagnostics.heteroscedasticity import residual_spread

        return residual_spread(self, by, n_bins=n_bins, alpha=alpha)

    def heteroscedasticity_test(
        self,
        by: Any = "fitted",
        *,
        trend: bool | None = None,
        studentize: bool = True,
        n_bins: int = 10,
    ) -> DiagnosticTest:
        """
        Score test of equal residual variances.

        See :func:`mixedar.diagnostics.heteroscedasticity.heteroscedasticity_test`.
        """
        from mixedar.diagnostics.heteroscedasticity import heteroscedasticity_test

        return heteroscedasticity_test(
            self, by, trend=trend, studentize=studentize, n_bins=n_bins
        )

    def normality_test(self) -> DiagnosticTest:
        """
        Test of normal residuals by skewness and kurtosis.

        See :func:`mixedar.diagnostics.normality.normality_test`.
        """
        from mixedar.diagnostics.normality import normality_test

        return normality_test(self)

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

        return simulate(self, n_sim, seed, newdata, groups)

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

        return predictive_check(self, statistic, n_sim, seed, groups)

    def plot_acf(
        self,
        kind: str = "normalized",
        max_lag: float | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Axes:
        """
        Draw the autocorrelation of the residuals; options as for :meth:`acf`.

        See :func:`mixedar.plotting.acf.plot_acf`.
        """
        from mixedar.plotting.acf import distance_label, plot_acf

        table = self.acf(kind, max_lag, **options)
        return plot_acf(table, ax, x_label=distance_label(self, "Lag"))

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

        See :func:`mixedar.plotting.variogram.plot_variogram`.
        """
        from mixedar.plotting.acf import distance_label
        from mixedar.plotting.variogram import plot_variogram

        table = self.variogram(kind, max_distance, **options)
        x_label = distance_label(self, "Distance")
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

        See :func:`mixedar.plotting.residuals.plot_residuals`.
        """
        from mixedar.plotting.residuals import plot_residuals

        return plot_residuals(
            self, x, kind, ax, smooth=smooth, n_sim=n_sim, max_groups=max_groups
        )

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

        See :func:`mixedar.diagnostics.normality.residual_quantiles`.
        """
        from mixedar.diagnostics.normality import residual_quantiles
        from mixedar.plotting.qq import plot_quantiles

        table = residual_quantiles(self, kind, alpha=alpha, band=band)
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

        See :func:`mixedar.plotting.simulated.plot_simulated`.
        """
        from mixedar.plotting.simulated import plot_simulated

        return plot_simulated(self, what, n_sim, seed, ax, groups=groups)
