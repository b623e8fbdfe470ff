"""
Residuals against fitted values, times, other variables, and by group.

Fitted values contain predicted random effects, which come from the same errors
as the residuals: a smooth line through such a picture rises or falls even if the
model is true.  So the lines are drawn with what they do in responses that are
drawn from the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.diagnostics.residuals.covariance import residual_theory, residual_values
from mixedar.diagnostics.residuals.series import unwrapped
from mixedar.diagnostics.simulation import redrawn_residuals
from mixedar.exceptions import UnsupportedError
from mixedar.plotting.rows import data_column, picture_rows, plottable
from mixedar.plotting.style import (
    BAND,
    COLOURS,
    GREY,
    LINES,
    axes,
    evenly,
    label,
    legend_above,
    smooth_line,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Of more points only their density can be seen.
_POINTS = 4000
# Values on which so many points stand in columns.
_COLUMNS = 12
# A share of the axis without points, across which no line is drawn.
_GAP = 0.2
_SEED = 0
_FITTED = "Fitted values"
_NAMES = {
    "raw": "Residuals",
    "pearson": "Pearson residuals",
    "normalized": "Normalized residuals",
}


def plot_residuals(
    fit: Any,
    x: Any = "fitted",
    kind: str = "normalized",
    ax: Axes | None = None,
    *,
    smooth: bool = True,
    n_sim: int = 39,
    max_groups: int = 40,
) -> Axes:
    """
    Draw residuals against something, with a smooth mean and spread.

    Parameters
    ----------
    fit : MixedLMARResults
    x : str or array_like, shape (n,)
        ``"fitted"``, the fitted values; ``"mean"``, ``X beta``; ``"time"``;
        ``"groups"``, for boxes by group; a column of the data; or values.
        Labels give boxes.
    kind : {"normalized", "pearson", "raw"}
    ax : Axes, optional
    smooth : bool
        Draw the local mean, and around it twice the local standard deviation,
        each on the band in which it lies in drawn responses.
    n_sim : int
        Number of drawn responses (always the same ones): of 39, a line leaves
        the band at a point with probability 1 in 20.  Without bands if 0.
    max_groups : int
        Of more groups so many are drawn, evenly by the median of their residuals.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    UnknownColumnError, LengthError
        If there is no such column, or not one value a row.
    UnsupportedError
        For a kind that is not known.
    NotComputedError
        If the data were removed from the fit.
    """
    fit = unwrapped(fit)
    if isinstance(n_sim, bool) or not isinstance(n_sim, (int, np.integer)) or n_sim < 0:
        raise UnsupportedError(f"n_sim={n_sim!r} is not a number of simulations")
    if kind not in _NAMES:
        raise UnsupportedError(
            f"kind={kind!r}: choose 'normalized', 'pearson' or 'raw'"
        )
    y = residual_values(fit, kind)
    values, ticks, name = _positions(fit, x)
    if ticks is not None:
        ax = _boxes(y, values.astype(np.intp), ticks, ax, max_groups)
        return label(ax, name, _NAMES[kind])
    ax = axes(ax)
    _points(ax, values, y)
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    if np.issubdtype(values.dtype, np.number) and smooth:
        where = values.astype(np.float64)
        moving = isinstance(x, str) and name == _FITTED
        _smooth(ax, fit, where, y, kind, n_sim, moving)
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
        if (distinct == np.rint(distinct)).all() and np.ptp(distinct) <= 15:
            ax.set_xticks(distinct)
        return
    ax.hexbin(
        x.astype(np.float64) if numbers else _days(x),
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


def _days(x: NDArray[Any]) -> FloatArray:
    from matplotlib.dates import date2num

    return np.asarray(date2num(x), dtype=np.float64)


def _smooth(
    ax: Axes,
    fit: Any,
    x: FloatArray,
    y: FloatArray,
    kind: str,
    n_sim: int,
    moving: bool,
) -> None:
    """Local mean and spread, on the bands in which they lie under the model."""
    where, lines = _local(x, y, None)
    if len(where) < 2:
        return
    where, lines = _broken(where, lines)
    if n_sim:
        theory = residual_theory(fit)
        rng = np.random.default_rng(_SEED)
        drawn = []
        together = max(min(4_000_000 // len(y), n_sim), 1)
        for first in range(0, n_sim, together):
            count = min(together, n_sim - first)
            others, fitted = redrawn_residuals(fit, theory, count, rng, kind)
            drawn += [
                _local(fitted[:, k] if moving else x, others[:, k], where)[1]
                for k in range(count)
            ]
        low, high = np.min(drawn, axis=0), np.max(drawn, axis=0)
        for k in range(3):
            ax.fill_between(
                where,
                low[k],
                high[k],
                color=COLOURS[5],
                alpha=0.45,
                linewidth=0.0,
                zorder=2.1,
                label="under the model" if k == 0 else None,
            )
    style: dict[str, Any] = {"color": COLOURS[1], "zorder": 2.2}
    ax.plot(where, lines[0], linewidth=2.0, label="local mean", **style)
    for k, text in ((1, "± 2 local sd"), (2, None)):
        ax.plot(where, lines[k], linewidth=1.4, linestyle=LINES[1], label=text, **style)


def _broken(where: FloatArray, lines: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lines that end where there are no points for a while."""
    steps = np.diff(where)
    far = np.flatnonzero(steps > _GAP * float(np.ptp(where)))
    if len(where) <= _COLUMNS or len(far) == 0:
        return where, lines
    return np.insert(where, far + 1, np.nan), np.insert(lines, far + 1, np.nan, axis=1)


def _local(
    x: FloatArray, y: FloatArray, where: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Places, and the lines there: mean, and twice the deviation on either side."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    places, mean = smooth_line(x, y)
    if len(places) < 2:
        return places, np.empty((3, 0))
    rest = (y - np.interp(x, places, mean)) ** 2
    square = np.interp(places, *smooth_line(x, rest))
    spread = 2.0 * np.sqrt(np.maximum(square, 0.0))
    lines = np.stack([mean, mean + spread, mean - spread])
    if where is not None:
        lines = np.stack([np.interp(where, places, line) for line in lines])
        places = where
    return places, lines


def _positions(fit: Any, x: Any) -> tuple[NDArray[Any], list[str] | None, str]:
    """Horizontal positions, names of positions 0, 1, ..., and the axis' name."""
    frame = getattr(fit.model.data, "frame", None)
    column = isinstance(x, str) and frame is not None and x in frame.columns
    if isinstance(x, str):
        groups = getattr(fit.model, "groups_name", None)
        if x == groups or (x == "groups" and not column):
            labels = [str(one) for one in fit.model.group_labels]
            return np.asarray(fit.model._codes), labels, str(groups or "group")
        if x == "fitted" and not column:
            return np.asarray(fit.fittedvalues), None, _FITTED
        if x == "mean" and not column:
            return np.asarray(fit.fitted_marginal), None, "Fitted mean"
        if x == "time" and not column:
            rows = picture_rows(fit)
            return rows.x, rows.ticks, rows.x_label
    found = data_column(fit, x, "x")
    values, ticks, unit = plottable(found)
    name = x if isinstance(x, str) else found.name
    return values, ticks, f"{'x' if name is None else name}{unit}"


def _boxes(
    y: FloatArray,
    codes: NDArray[np.intp],
    names: list[str],
    ax: Axes | None,
    most: int,
) -> Axes:
    """A box a group; of many groups those at even ranks of their medians."""
    if isinstance(most, bool) or not isinstance(most, (int, np.integer)) or most < 2:
        raise UnsupportedError(f"max_groups={most!r}: draw at least two groups")
    grouped = pd.Series(y).groupby(codes)
    medians = grouped.median()
    chosen = medians.index.to_numpy()
    many = len(chosen) > most
    if many:
        by_rank = medians.sort_values(kind="stable").index.to_numpy()
        chosen = by_rank[evenly(len(by_rank), int(most))]
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


# Points of the middle that are drawn; of the tails all.
_MIDDLE = 2000
_TAIL = 200


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
    small = 2.5 if n > 500 else 4.0
    ax.plot(
        x[~out], y[~out], "o", color=COLOURS[0], markersize=small, label="residuals"
    )
    if out.any():
        ax.plot(x[out], y[out], "D", color=COLOURS[1], markersize=4.0, label="outside")
        _name_outside(ax, part, out, labels)
    return label(
        ax,
        "Normal quantiles",
        "Standardized residuals",
        title,
        **legend_above(title),
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
        ax.annotate(
            str(part.index[k]),
            (x[k], y[k]),
            xytext=(-6 if above[k] else 6, 0),
            textcoords="offset points",
            ha="right" if above[k] else "left",
            va="center",
            fontsize="small",
        )
