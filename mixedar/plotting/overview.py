"""
A first look at a fit: the data, and what is left of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixedar.exceptions import MixedARError
from mixedar.plotting.grid import panel_grid
from mixedar.plotting.rows import main_factor
from mixedar.plotting.spaghetti import plot_spaghetti

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["plot_overview"]

_LINES = 60


def plot_overview(
    fit: Any, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """
    Four panels on one page.

    The data as lines with the means of the population, by the first factor that
    does not vary within groups; normalized residuals
    against fitted values, against normal quantiles, and their autocorrelation by
    lag, with the band in which the model expects it.

    Parameters
    ----------
    fit : MixedLMARResults
    figure : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure
        A panel that cannot be drawn, such as the autocorrelation of groups with
        one observation, says why.

    Raises
    ------
    NotComputedError
        If the data were removed from the fit.
    """
    fit = getattr(fit, "_results", fit)
    figure, panels = panel_grid(figure, 4, 2, size=(9.6, 7.4))
    data, fitted, normal, lags = panels
    plot_spaghetti(fit, main_factor(fit), ax=data, n_lines=_LINES, explain=False)
    _draw(fitted, lambda ax: fit.plot_residuals(ax=ax))
    _draw(normal, lambda ax: fit.qqplot(ax=ax))
    _draw(lags, lambda ax: fit.plot_acf(ax=ax))
    return figure


def _draw(ax: Axes, draw: Any) -> None:
    """Draw, or say in the panel why not."""
    try:
        draw(ax)
    except MixedARError as error:
        ax.clear()
        ax.set_axis_off()
        ax.text(
            0.5,
            0.5,
            str(error),
            ha="center",
            va="center",
            wrap=True,
            transform=ax.transAxes,
        )
