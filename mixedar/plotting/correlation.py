"""
Autocorrelation by lag, with its bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from mixedar.exceptions import check_flags
from mixedar.plotting import (
    BAND,
    COLOURS,
    GREY,
    LINES,
    MARKERS,
    axes,
    label,
    legend_above,
    points,
    smooth_line,
    whole_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# An axis of correlations reaches so far at least: none of them is rounding noise.
_LEAST = 0.02
# Pairs below which an autocorrelation tells nothing.
_FEWEST = 4


def plot_acf(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    x_label: str = "Lag",
    title: str | None = None,
) -> Axes:
    """
    Draw autocorrelations as stems, and the band in which they should lie.

    Parameters
    ----------
    table : DataFrame
        Of :func:`mixedar.diagnostics.residuals.autocorrelation.residual_acf` or
        :func:`~mixedar.diagnostics.residuals.autocorrelation.autocorrelation`.
    ax : Axes, optional
    x_label, title : str, optional

    Returns
    -------
    matplotlib.axes.Axes
        Lag 0, which is always one, is left out, and so are lags with fewer than four
        pairs, whose 95 % bounds reach beyond one, or whose mean product does.
    """
    part = table[table["lag"] > 0.0]
    told = (part["pairs"] >= _FEWEST) & (part["acf"].abs() <= 1.0)
    if told.any() and not told.all():
        x_label += f" ({(~told).sum()} of {len(told)} left out: too few pairs)"
        part = part[told]
    lag, acf = part["lag"].to_numpy(), part["acf"].to_numpy()
    lower, upper = part["lower"].to_numpy(), part["upper"].to_numpy()
    ax = axes(ax)
    width = _width(lag)
    ax.bar(
        lag,
        upper - lower,
        width,
        lower,
        color=COLOURS[5],
        alpha=BAND + 0.1,
        linewidth=0.0,
        label="under the model" if "expected" in part else "white noise",
    )
    if "expected" in part:
        ax.hlines(
            part["expected"],
            lag - 0.5 * width,
            lag + 0.5 * width,
            color=GREY,
            linestyle="--",
            linewidth=1.2,
            label="expected",
        )
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    ax.vlines(lag, 0.0, acf, color=COLOURS[0], linewidth=1.4)
    points(ax, lag, acf, (acf < lower) | (acf > upper), 5.0, 6.0)
    whole_ticks(ax, lag)
    ends = np.concatenate([acf, lower, upper, [0.0]])
    low = min(float(np.nanmin(ends)), -_LEAST)
    high = max(float(np.nanmax(ends)), _LEAST)
    ax.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    beyond = max(0.6 * width, 0.02 * float(np.ptp(lag)))
    ax.set_xlim(lag.min() - beyond, lag.max() + beyond)
    return label(ax, x_label, "Autocorrelation", title, **legend_above(title))


def _width(lag: np.ndarray) -> float:
    """Bars that touch where lags are equally spaced, and are seen where not."""
    if len(lag) == 1:
        return float(lag[0])
    steps = np.diff(lag)
    if np.ptp(steps) < 0.2 * steps.max():
        return float(steps.min())
    return max(0.8 * float(steps.min()), float(np.ptp(lag)) / 80.0)


def plot_variogram(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    smooth: bool = True,
    x_label: str = "Distance",
    title: str | None = None,
) -> Axes:
    """
    Draw a semivariogram as points whose areas are the numbers of pairs.

    Parameters
    ----------
    table : DataFrame
        Of :func:`mixedar.diagnostics.residuals.variogram.residual_variogram` or
        :func:`~mixedar.diagnostics.residuals.variogram.semivariogram`.
    ax : Axes, optional
    smooth : bool
        Draw a smooth line through at least eight points.
    x_label, title : str, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    x, y = table["distance"].to_numpy(), table["gamma"].to_numpy()
    ax = axes(ax)
    for column, what, colour, dashes, width in (
        ("model", "errors", GREY, LINES[2], 1.6),
        ("expected", "residuals", COLOURS[1], LINES[0], 1.8),
    ):
        if column in table:
            label_of = f"model: {what}"
            ax.plot(x, table[column], dashes, color=colour, lw=width, label=label_of)
    check_flags(smooth=smooth)
    weight = table["pairs"].to_numpy() / table["pairs"].max()
    if smooth and len(x) >= 8:
        # pairs weigh the points: as many copies as they have, roughly
        copies = np.maximum(np.rint(20.0 * weight), 1).astype(int)
        line = smooth_line(np.repeat(x, copies), np.repeat(y, copies), 0.6)
        ax.plot(
            *line, color=COLOURS[0], linestyle=LINES[1], linewidth=1.4, label="smoothed"
        )
    size = 20.0 + 60.0 * weight
    ax.scatter(
        x, y, s=size, color=COLOURS[0], edgecolor="white", zorder=3, label="observed"
    )
    shown = table.columns.intersection(["gamma", "model", "expected"])
    ax.set_ylim(0.0, 1.08 * float(table[shown].max().max()))
    ax.set_xlim(left=0.0)
    whole_ticks(ax, x)
    return label(ax, x_label, "Semivariogram", title, **legend_above(title))


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
    whole_ticks(ax, frame.index.to_numpy(dtype=float))
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
