"""
Data as thin lines behind the mean of the population.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mixedar.exceptions import UnsupportedError, shown
from mixedar.inference.arguments import check_alpha
from mixedar.plotting.horizontal import caption, mark_positions
from mixedar.plotting.population import mean_curve, total_sd
from mixedar.plotting.rows import (
    PictureRows,
    data_column,
    picture_rows,
    sample_codes,
)
from mixedar.plotting.style import BAND, COLOURS, GREY, LINES, axes, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_spaghetti"]

IntArray = NDArray[np.intp]


def plot_spaghetti(
    fit: Any,
    by: Any = None,
    x: Any = None,
    ax: Axes | None = None,
    *,
    n_lines: int = 100,
    spread: bool = True,
    explain: bool = True,
    alpha: float = 0.05,
) -> Axes:
    """
    Observations as one thin line a group, the population mean and its band.

    Parameters
    ----------
    fit : MixedLMARResults
    by : str or array_like, shape (n,), optional
        A factor: lines and means of its levels in colours of their own.
    x : str or array_like, shape (n,), optional
        What runs from left to right; the model's time by default.
    ax : matplotlib Axes, optional
    n_lines : int
        The largest number of lines in all, shared evenly by the levels; a
        random sample if there are more groups.
    spread : bool
        Draw the range in which the model expects a share of 1 - `alpha` of the
        observations, as dotted lines.
    explain : bool
        Say below the axis what bands and dotted lines are; how many of the groups
        are drawn is said in any case.
    alpha : float
        1 - coverage of the mean's interval, which is normal.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    UnknownColumnError
        If `by` or `x` is no column of the data.
    UnsupportedError
        For a factor of more levels than there are colours, numbers that are no
        numbers of lines, or an `alpha` that is no probability.
    """
    check_alpha(alpha)
    rows = picture_rows(fit, x)
    levels = _levels(fit, rows, by)
    if isinstance(n_lines, bool) or int(n_lines) != n_lines or n_lines < 1:
        raise UnsupportedError(f"n_lines={n_lines!r} is not a number of lines")
    total = len(np.unique(rows.lines))
    each = total if total <= n_lines else max(int(n_lines) // len(levels), 1)
    ax = axes(ax)
    drawn = 0
    for k, (name, level, where) in enumerate(levels):
        alone = len(levels) == 1
        colour = COLOURS[k % len(COLOURS)]
        drawn += _lines(ax, rows, where, each, GREY if alone else colour)
        factor = by if isinstance(by, str) else None
        curve = mean_curve(fit, rows, where, alpha, factor, level)
        what = "population mean" if alone else f"{name}"
        ax.fill_between(
            curve.x, curve.lower, curve.upper, color=colour, alpha=2 * BAND, linewidth=0
        )
        style = LINES[k % 2]
        ax.plot(curve.x, curve.mean, style, color=colour, linewidth=2.2, label=what)
        if spread:
            half = stats.norm.isf(alpha / 2.0) * total_sd(fit, rows, where, curve.x)
            for side in (-half, half):
                ax.plot(curve.x, curve.mean + side, ":", color=colour, linewidth=1.2)
    label(ax, rows.x_label, rows.y_label)
    _legend(ax, by, len(levels))
    mark_positions(ax, rows)
    words = (
        f"{drawn:,} of {total:,} lines, drawn at random"
        if drawn < total
        else f"all {total:,} lines"
    )
    caption(ax, words + _meaning(spread, alpha) if explain else words)
    return ax


def _levels(
    fit: Any, rows: PictureRows, by: Any
) -> list[tuple[str | None, Any, IntArray]]:
    """Name, value and rows of each level."""
    if by is None:
        return [(None, None, np.arange(len(rows.y)))]
    fit = getattr(fit, "_results", fit)
    column = data_column(fit, by, "by").reset_index(drop=True)
    order: list[Any]
    if isinstance(column.dtype, pd.CategoricalDtype):
        order = [one for one in column.cat.categories if (column == one).any()]
    else:
        values = column.dropna().unique().tolist()
        order = sorted(values, key=lambda value: (isinstance(value, str), value))
    if len(order) > len(COLOURS):
        what = by if isinstance(by, str) else "by"
        raise UnsupportedError(
            f"by={shown(what)} has {len(order)} levels; at most {len(COLOURS)} can be "
            "told apart: draw some of them, or plot_trajectories"
        )
    return [
        (str(level), level, np.flatnonzero((column == level).to_numpy()))
        for level in order
    ]


def _lines(ax: Axes, rows: PictureRows, where: IntArray, most: int, colour: str) -> int:
    """Draw the data of some lines; return how many."""
    from matplotlib.collections import LineCollection

    present = np.unique(rows.lines[where])
    chosen = present[sample_codes(len(present), most)]
    mine = where[np.isin(rows.lines[where], chosen)]
    paths = rows.paths(mine)
    strength = float(np.clip(14.0 / max(len(chosen), 1), 0.25, 0.6))
    ax.xaxis.update_units(rows.x)  # dates become numbers
    places = np.asarray(ax.convert_xunits(rows.x), dtype=float)
    segments = [np.column_stack([places[path], rows.y[path]]) for path in paths]
    lines = LineCollection(segments, colors=colour, linewidths=0.8, alpha=strength)
    ax.add_collection(lines)
    singles = np.array([path[0] for path in paths if len(path) == 1], dtype=int)
    ax.plot(rows.x[singles], rows.y[singles], ".", color=colour, alpha=strength)
    ax.autoscale_view()
    return len(chosen)


def _legend(ax: Axes, by: Any, count: int) -> None:
    """Name the levels in rows above the axes, where no line is hidden."""
    handles, names = ax.get_legend_handles_labels()
    column = by if isinstance(by, str) else getattr(by, "name", None)
    if count > 1 and column is not None:
        names = [f"{column}: {name}" for name in names]
    widest = max(map(len, names))
    ax.legend(
        handles,
        names,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncol=int(np.clip(52 // (widest + 6), 1, len(names))),
        frameon=False,
        borderaxespad=0.2,
        fontsize="small",
    )


def _meaning(spread: bool, alpha: float) -> str:
    """What bands and dotted lines are."""
    share = f"{100 * (1 - alpha):g}%"
    words = f"\nbands: {share} intervals of the means"
    if spread:
        words += f"; dotted: {share} of observations expected inside"
    return words
