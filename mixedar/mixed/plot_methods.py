"""
Pictures of a fit, and its report.

Every method imports its module when it is called; matplotlib comes with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statsmodels.regression.mixed_linear_model import MixedLMResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["PlotMethods"]


class PlotMethods(MixedLMResults):
    """Methods of :mod:`mixedar.plotting` and :mod:`mixedar.report` on a fit."""

    def plot(self, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
        """
        Four panels: the data and the mean, and three looks at the residuals.

        See :func:`mixedar.plotting.overview.plot_overview`.
        """
        from mixedar.plotting.overview import plot_overview

        return plot_overview(self, figure)

    def plot_trajectories(
        self, groups: Any = None, x: Any = None, **options: Any
    ) -> Figure | SubFigure:
        """
        Data and fitted curves, a panel a group (nlme's ``augPred``).

        See :func:`mixedar.plotting.trajectories.plot_trajectories`.
        """
        from mixedar.plotting.trajectories import plot_trajectories

        return plot_trajectories(self, groups, x, **options)

    def plot_forecast(
        self, newdata: Any, groups: Any = None, x: str | None = None, **options: Any
    ) -> Figure | SubFigure:
        """
        Predictions of single groups with intervals, beside their data.

        See :func:`mixedar.plotting.forecast.plot_forecast`.
        """
        from mixedar.plotting.forecast import plot_forecast

        return plot_forecast(self, newdata, groups, x, **options)

    def plot_spaghetti(
        self, by: Any = None, x: Any = None, ax: Axes | None = None, **options: Any
    ) -> Axes:
        """
        Data as lines, the population mean and its band, by a factor.

        See :func:`mixedar.plotting.spaghetti.plot_spaghetti`.
        """
        from mixedar.plotting.spaghetti import plot_spaghetti

        return plot_spaghetti(self, by, x, ax, **options)

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
        from mixedar.plotting.coefficients import coefficient_frame, plot_coefficients

        return plot_coefficients(coefficient_frame(self), ax, coefficients, alpha)

    def plot_profiles(
        self,
        parameters: str | Iterable[str] | None = None,
        alpha: float = 0.05,
        **options: Any,
    ) -> Figure | SubFigure:
        """
        Profile likelihoods of the covariance parameters.

        See :func:`mixedar.plotting.profile.plot_profiles`.
        """
        from mixedar.plotting.profile import plot_profiles

        return plot_profiles(self, parameters, alpha, **options)

    def report(
        self, path: str | Path | None = None, title: str | None = None, **options: Any
    ) -> Path | str:
        """
        Write the fit as one self-contained HTML file.

        See :func:`mixedar.report.build.report`.
        """
        from mixedar.report.build import report

        return report(self, path, title, **options)
