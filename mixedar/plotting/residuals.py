"""
Residuals and their quantiles, and the data beside what the model would draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.plotting import (
    BAND,
    COLOURS,
    GREY,
    LINES,
    axes,
    evenly,
    label,
    legend_above,
    name_point,
    points,
    whole_ticks,
)
from mixedar.summary import in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Of more points only their density can be seen.
_POINTS = 4000
# Values on which so many points stand in columns.
_COLUMNS = 12
# A share of the axis without points, across which no line is drawn.
_GAP = 0.2
# Points of the middle of a quantile plot that are drawn; of the tails all.
_MIDDLE = 2000
_TAIL = 200
# Points of a density.
_GRID = 256
_NAMES = {
    "raw": "Residuals",
    "pearson": "Pearson residuals",
    "normalized": "Normalized residuals",
}


def plot_residuals(
    frame: pd.DataFrame,
    trend: pd.DataFrame | None = None,
    ax: Axes | None = None,
    *,
    kind: str = "normalized",
    max_groups: int = 40,
) -> Axes:
    """
    Draw residuals against something, with a smooth mean and standard deviation.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`mixedar.diagnostics.simulation.residual_frame`; categories give
        boxes.
    trend : DataFrame, optional
        Of :func:`mixedar.diagnostics.simulation.residual_trend`: lines, each on
        the band in which it lies under the model.
    ax : Axes, optional
    kind : {"normalized", "pearson", "raw"}
        Of residuals; names the axis.
    max_groups : int
        Of more groups so many are drawn, evenly by the median of their residuals.

    Returns
    -------
    matplotlib.axes.Axes
    """
    name, y = str(frame.columns[0]), frame.iloc[:, 1].to_numpy()
    column = frame.iloc[:, 0]
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = column.cat.codes.to_numpy()
        ax = _boxes(y, codes, list(column.cat.categories), ax, max_groups)
        return label(ax, name, _NAMES[kind])
    ax = axes(ax)
    _points(ax, column.to_numpy(), y)
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    if trend is not None and len(trend) > 1:
        _lines(ax, _broken(trend))
    return label(ax, name, _NAMES[kind], **legend_above())


def _points(ax: Axes, x: NDArray[Any], y: FloatArray) -> None:
    """Points; of very many their density, or boxes where they stand in columns."""
    if len(y) <= _POINTS:
        small = len(y) < 500
        ax.plot(
            x,
            y,
            "o",
            color=COLOURS[0],
            markersize=4.0 if small else 2.5,
            alpha=0.6 if small else 0.35,
            markeredgewidth=0.0,
        )
        return
    numbers = np.issubdtype(x.dtype, np.number)
    distinct = np.unique(x)
    if numbers and len(distinct) <= _COLUMNS:
        parts = [y[x == value] for value in distinct]
        width = 0.4 * float(np.diff(distinct).min(initial=np.inf))
        _box_plot(ax, parts, distinct, width if np.isfinite(width) else 0.5)
        whole_ticks(ax, distinct)
        return
    from matplotlib.dates import date2num

    ax.hexbin(
        x.astype(np.float64) if numbers else date2num(x),
        y,
        gridsize=60,
        bins="log",
        mincnt=1,
        cmap="Greys",
        linewidths=0.0,
        rasterized=True,
    )
    if not numbers:
        ax.xaxis_date()


def _lines(ax: Axes, trend: pd.DataFrame) -> None:
    """Local mean and deviation, on the bands in which they lie under the model."""
    where = trend.index.to_numpy()
    style: dict[str, Any] = {"color": COLOURS[5], "alpha": 0.45, "linewidth": 0.0}
    for name, text in (("mean", "under the model"), ("upper", None), ("lower", None)):
        if f"{name}_min" in trend:
            low, high = trend[f"{name}_min"], trend[f"{name}_max"]
            ax.fill_between(where, low, high, zorder=2.1, label=text, **style)
    style = {"color": COLOURS[1], "zorder": 2.2}
    ax.plot(where, trend["mean"], linewidth=2.0, label="local mean", **style)
    style |= {"linewidth": 1.4, "linestyle": LINES[1]}
    ax.plot(where, trend["upper"], label="± 2 local sd", **style)
    ax.plot(where, trend["lower"], **style)


def _broken(trend: pd.DataFrame) -> pd.DataFrame:
    """Lines that end where there are no points for a while."""
    where = trend.index.to_numpy()
    far = np.flatnonzero(np.diff(where) > _GAP * float(np.ptp(where)))
    if len(where) <= _COLUMNS or len(far) == 0:
        return trend
    values = np.insert(trend.to_numpy(), far + 1, np.nan, axis=0)
    return pd.DataFrame(values, np.insert(where, far + 1, np.nan), trend.columns)


def _boxes(
    y: FloatArray, codes: NDArray[Any], names: list[str], ax: Axes | None, most: int
) -> Axes:
    """A box a group; of many groups those at even ranks of their medians."""
    grouped = pd.Series(y).groupby(codes)
    medians = grouped.median()
    ranks, chosen = evenly(len(medians), most), medians.index.to_numpy()
    many = len(ranks) < len(chosen)
    if many:
        chosen = medians.sort_values(kind="stable").index.to_numpy()[ranks]
    parts: list[FloatArray] = [
        np.asarray(grouped.get_group(code), dtype=np.float64) for code in chosen
    ]
    ax = axes(ax, max(6.0, 0.22 * len(parts) + 1.5), 4.0)
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    _box_plot(ax, parts, np.arange(len(parts)), 0.6)
    texts = [names[code] for code in chosen]
    long = sum(map(len, texts)) > 60
    ax.set_xticks(np.arange(len(parts)), labels=texts, rotation=90 if long else 0)
    ax.tick_params(axis="x", labelsize="small", length=0)
    ax.set_xlim(-0.7, len(parts) - 0.3)
    if many:
        ax.set_title(
            f"{len(parts)} of {len(medians):,} groups, by median", fontsize="medium"
        )
    return ax


def _box_plot(
    ax: Axes, parts: list[FloatArray], positions: NDArray[Any], width: float
) -> None:
    ax.boxplot(
        parts,
        positions=positions,
        widths=width,
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": COLOURS[5], "alpha": 0.5, "edgecolor": COLOURS[0]},
        medianprops={"color": COLOURS[1], "linewidth": 1.6},
        whiskerprops={"color": COLOURS[0]},
        capprops={"color": COLOURS[0]},
        flierprops={
            "marker": "D",
            "markersize": 3.5,
            "markerfacecolor": COLOURS[1],
            "markeredgewidth": 0.0,
        },
    )


def plot_quantiles(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    labels: int = 3,
    band: str = "band",
    title: str | None = None,
) -> Axes:
    """
    Draw a normal quantile plot with its band.

    Parameters
    ----------
    table : DataFrame
        Of :func:`mixedar.diagnostics.residuals.normality.residual_quantiles`.
    ax : Axes, optional
    labels : int
        At most so many points outside of the band are labelled, the furthest.
    band : str
        What the legend calls the band.
    title : str, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    n = len(table)
    drawn = np.arange(n)
    if n > _MIDDLE + 2 * _TAIL:
        middle = np.linspace(_TAIL, n - _TAIL - 1, _MIDDLE).astype(np.intp)
        drawn = np.concatenate([drawn[:_TAIL], middle, drawn[-_TAIL:]])
    part = table.iloc[drawn]
    x, y = part["theoretical"].to_numpy(), part["observed"].to_numpy()
    lower, upper = part["lower"].to_numpy(), part["upper"].to_numpy()
    ax = axes(ax, 5.0, 4.5)
    ax.fill_between(
        x, lower, upper, color=COLOURS[5], alpha=BAND + 0.1, linewidth=0.0, label=band
    )
    ax.plot(x, x, color=GREY, linewidth=1.0)
    out = (y < lower) | (y > upper)
    points(ax, x, y, out, 2.5 if n > 500 else 4.0, 4.0)
    if out.any():
        _name_outside(ax, part, out, labels)
    return label(
        ax, "Normal quantiles", "Standardized residuals", title, **legend_above(title)
    )


def _name_outside(
    ax: Axes, part: pd.DataFrame, out: NDArray[np.bool_], labels: int
) -> None:
    """Label the points furthest outside, no two of them at the same height."""
    x, y = part["theoretical"].to_numpy(), part["observed"].to_numpy()
    above = y > part["upper"].to_numpy()
    far = np.where(above, y - part["upper"], part["lower"] - y)
    far[~out] = -np.inf
    apart = 0.05 * float(np.ptp(y))
    named: list[int] = []
    for k in np.argsort(-far, kind="stable"):
        if not out[k] or len(named) >= labels:
            break
        if any(abs(y[k] - y[other]) < apart for other in named):
            continue
        named.append(int(k))
        shift = (-6 if above[k] else 6, 0)
        name_point(ax, str(part.index[k]), (x[k], y[k]), shift, "center")


def plot_check(
    draws: pd.Series, observed: float, pvalue: float, ax: Axes | None = None
) -> Axes:
    """
    Histogram of a statistic in the draws, and its value in the data.

    Parameters
    ----------
    draws : Series
        Values of the statistic, under its name.
    observed, pvalue : float
    ax : Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax)
    text = f"observed: {observed:.4g} ({in_words('p', pvalue)})"
    bins = int(np.clip(np.sqrt(len(draws)), 8, 40))
    ax.hist(draws, bins=bins, color=COLOURS[5], alpha=0.6, label="simulated")
    for q in np.quantile(draws, [0.025, 0.975]):
        ax.axvline(q, color=GREY, linestyle="--", linewidth=1.0)
    ax.axvline(observed, color=COLOURS[1], linewidth=2.4, label=text)
    low, high = min(draws.min(), observed), max(draws.max(), observed)
    ax.set_xlim(low - 0.08 * (high - low or 1.0), high + 0.08 * (high - low or 1.0))
    ax.margins(y=0.15)
    return label(ax, str(draws.name), "Simulated data sets", **legend_above())


def plot_draws(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """
    Draw the density of the data among those of drawn data sets.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`mixedar.diagnostics.predictive.response_draws`.
    ax : Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    draws = frame.drop(columns="observed")
    low, high = float(frame.to_numpy().min()), float(frame.to_numpy().max())
    ax = axes(ax)
    for k, name in enumerate(draws):
        ax.plot(
            *density(draws[name].to_numpy(), low, high),
            color=COLOURS[5],
            linewidth=0.8,
            alpha=max(0.25, min(0.7, 15.0 / draws.shape[1])),
            label="simulated" if k == 0 else None,
        )
    observed = density(frame["observed"].to_numpy(), low, high)
    ax.plot(*observed, color="black", linewidth=2.2, label="observed")
    ax.set_ylim(bottom=0.0)
    ax.margins(x=0.0)
    ax = label(ax, str(frame.columns.name), "Density", **legend_above())
    legend = ax.get_legend()
    if legend is not None:  # thin lines are hard to see in a legend
        for handle in legend.get_lines():
            handle.set_alpha(1.0)
            handle.set_linewidth(2.0)
    return ax


def density(x: FloatArray, low: float, high: float) -> tuple[FloatArray, FloatArray]:
    """
    Gaussian kernel density on a grid, from counts: linear in the observations.

    Parameters
    ----------
    x : ndarray, shape (n,)
    low, high : float
        What the grid has to cover; it reaches three bandwidths beyond.

    Returns
    -------
    grid, values : ndarray, shape (256,)
    """
    quartiles = np.quantile(x, [0.25, 0.75])
    sd = min(float(np.std(x)), float(quartiles[1] - quartiles[0]) / 1.349)
    if not sd > 0.0:
        sd = max(float(np.std(x)), 1e-3 * max(high - low, abs(high), 1e-300))
    width = 0.9 * sd * len(x) ** -0.2  # Silverman's rule
    grid = np.linspace(low - 3.0 * width, high + 3.0 * width, _GRID)
    step = grid[1] - grid[0]
    # each observation is shared between the two nearest points
    place = np.clip((x - grid[0]) / step, 0.0, _GRID - 1.001)
    left = place.astype(np.intp)
    rest = place - left
    counts = np.bincount(left, 1.0 - rest, minlength=_GRID)
    counts += np.bincount(left + 1, rest, minlength=_GRID)
    kernel = np.exp(-0.5 * ((grid[:, None] - grid) / width) ** 2)
    return grid, kernel @ counts / (len(x) * width * np.sqrt(2.0 * np.pi))
