"""
Fitted against empirical correlations by lag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from scipy import stats

from mixedar.plotting.style import COLOURS, GREY, LINES, MARKERS, axes, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_correlations"]

_OWN = ("pairs", "empirical", "std_error")
_MARKED = 12  # lags up to which lines have markers and every lag its tick


def plot_correlations(frame: pd.DataFrame, ax: Axes | None, lag: str) -> Axes:
    """
    Draw the frame of ``ResidualSelection.correlations``.

    Parameters
    ----------
    frame : DataFrame
    ax : Axes or None
    lag : str
        Label of the horizontal axis.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax, 7.0, 4.2)
    ax.axhline(0.0, color="0.6", linewidth=0.8, zorder=0)
    ax.errorbar(
        frame.index,
        frame["empirical"],
        yerr=stats.norm.isf(0.025) * frame["std_error"],
        color=COLOURS[-1],
        marker="o",
        markersize=7.0,
        linestyle="none",
        elinewidth=1.0,
        capsize=3.0,
        label="empirical",
        zorder=1,
    )
    colours = (*COLOURS[:-1], GREY)
    names = [name for name in frame.columns if name not in _OWN]
    for k, name in enumerate(names):
        ax.plot(
            frame.index,
            frame[name],
            color=colours[k % len(colours)],
            linestyle=LINES[k % len(LINES)],
            marker=MARKERS[k % len(MARKERS)] if len(frame) <= _MARKED else None,
            markersize=5.0,
            linewidth=1.8,
            label=name,
        )
    if len(frame) <= _MARKED:
        ax.set_xticks(list(frame.index))
    ax.margins(x=0.06)
    return label(
        ax,
        lag,
        "Correlation",
        "Correlation of observations by lag",
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
    )
