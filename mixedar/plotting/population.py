"""
Mean of the population along the horizontal axis, with its interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import UnsupportedError, shown
from mixedar.inference.arguments import check_alpha
from mixedar.inference.means import marginal_means
from mixedar.plotting.curves import is_factor
from mixedar.plotting.rows import (
    PictureRows,
    caption,
    data_column,
    mark_positions,
    picture_rows,
    sample_codes,
)
from mixedar.plotting.style import BAND, COLOURS, GREY, LINES, axes, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# More positions than this are put together before averaging.
_MOST_POSITIONS = 40


@dataclass(frozen=True)
class MeanCurve:
    """
    Population means along the horizontal axis.

    Attributes
    ----------
    x : ndarray, shape (k,)
        Floats or ``datetime64``, increasing.
    mean, lower, upper : ndarray, shape (k,)
        Means and their confidence intervals.
    """

    x: NDArray[Any]
    mean: FloatArray
    lower: FloatArray
    upper: FloatArray


def mean_curve(
    fit: Any,
    rows: PictureRows,
    where: IntArray,
    alpha: float,
    by: str | None = None,
    level: Any = None,
    points: int = 41,
) -> MeanCurve:
    """
    The population mean, for one level of a factor or for all.

    If the formula has the horizontal variable, and the factor, these are marginal
    means: other factors averaged with the frequencies of the data, other numeric
    variables at their means.  Otherwise the mean of the fixed part over the rows
    at each position (over neighbouring ones, if there are many positions).

    Parameters
    ----------
    fit : MixedLMARResults
    rows : PictureRows
    where : ndarray of int
        The rows of the level.
    alpha : float
        1 - coverage of the intervals.
    by : str, optional
        A factor of the formula.
    level : optional
        Its level.
    points : int
        Points of the curve.

    Returns
    -------
    MeanCurve
    """
    fit = getattr(fit, "_results", fit)
    check_alpha(alpha)
    spec = getattr(fit.model, "formula_spec", None)
    known = set() if spec is None else set(spec.variables)
    dates = rows.x.dtype.kind == "M"
    stranger = len(where) < len(rows.y) and by not in known
    if rows.x_name not in known or dates or stranger:
        return _observed_means(fit, rows, where, alpha)
    column = fit.model.data.frame[rows.x_name].iloc[where]
    if is_factor(fit, rows):
        values = sorted(column.unique().tolist(), key=_rank(fit, rows.x_name))
        x = np.array([_place(rows, where, column, value) for value in values])
    else:
        inner = np.linspace(column.min(), column.max(), points)
        x = np.union1d(inner, column.unique()) if len(column) < 1e5 else inner
        values = x.tolist()
    at: dict[str, Any] = {str(rows.x_name): values}
    if by in known:
        at[str(by)] = [level]
    means = marginal_means(
        fit, str(rows.x_name), at=at, df="normal", weights="proportional"
    )
    return _with_interval(fit, x, means.matrix, alpha)


def _rank(fit: Any, name: Any) -> Any:
    """Order of the levels of a factor."""
    levels = fit.model.formula_spec.levels.get(name)
    if levels is None:
        return lambda value: value
    order = {level: k for k, level in enumerate(levels)}
    return lambda value: order[value]


def _place(rows: PictureRows, where: IntArray, column: pd.Series, value: Any) -> float:
    return float(rows.x[where][(column == value).to_numpy()][0])


def _observed_means(
    fit: Any, rows: PictureRows, where: IntArray, alpha: float
) -> MeanCurve:
    """Mean of the fixed part of the rows at each position."""
    places, code = np.unique(rows.x[where], return_inverse=True)
    if len(places) > _MOST_POSITIONS:
        rank = np.argsort(np.argsort(rows.x[where], kind="stable"), kind="stable")
        code = rank * _MOST_POSITIONS // len(where)
    count = np.bincount(code)
    design = np.stack(
        [np.bincount(code, column) / count for column in fit.model.exog[where].T], 1
    )
    dates = rows.x.dtype.kind == "M"
    heights = rows.x[where]
    if dates:
        heights = heights.astype("datetime64[ns]").astype(np.int64)
        first = heights.min()
        middle = np.bincount(code, heights - first) / count
        x = (middle.round().astype(np.int64) + first).astype("datetime64[ns]")
    else:
        x = np.bincount(code, heights) / count
    return _with_interval(fit, x, design, alpha)


def _with_interval(
    fit: Any, x: NDArray[Any], design: FloatArray, alpha: float
) -> MeanCurve:
    """Means of rows of a design, with intervals by the normal distribution."""
    p = fit.k_fe
    cov = np.asarray(fit.cov_params())[:p, :p]
    mean = design @ np.asarray(fit.fe_params)
    variance = np.einsum("ij,jk,ik->i", design, cov, design)
    half = stats.norm.isf(alpha / 2.0) * np.sqrt(np.maximum(variance, 0.0))
    return MeanCurve(x, mean, mean - half, mean + half)


def total_sd(fit: Any, rows: PictureRows, where: IntArray, x: NDArray[Any]) -> Any:
    """
    Standard deviation of an observation around the population mean.

    From the random effects, variance components and residuals of the rows,
    averaged at each position and interpolated between them.

    Parameters
    ----------
    fit : MixedLMARResults
    rows : PictureRows
    where : ndarray of int
        The rows of the level.
    x : ndarray, shape (k,)
        Positions.

    Returns
    -------
    ndarray, shape (k,)
    """
    fit = getattr(fit, "_results", fit)
    variance = _row_variances(fit)[where]
    dates = rows.x.dtype.kind == "M"
    heights = rows.x[where].astype("datetime64[ns]") if dates else rows.x[where]
    wanted = x.astype("datetime64[ns]").astype(float) if dates else x
    places, code = np.unique(heights.astype(float), return_inverse=True)
    average = np.bincount(code, variance) / np.bincount(code)
    return np.sqrt(np.interp(wanted, places, average))


def _row_variances(fit: Any) -> FloatArray:
    """Variance of each row, shape (n,); the only use of the covariance here."""
    model, grouped = fit.model, fit.model._grouped
    variance = np.full(model.nobs, float(fit.scale))
    if grouped.marks is not None:
        positions = np.column_stack([np.zeros(model.nobs), grouped.marks])
        logs = fit.structure.log_sd(positions, fit._u)
        if logs is not None:
            variance *= np.exp(2.0 * grouped.unsort(logs.value))
    if fit.k_re:
        z = np.asarray(model.exog_re)
        variance += np.einsum("ij,jk,ik->i", z, np.asarray(fit.cov_re), z)
    for value, matrix in zip(fit.vcomp, model._vc.matrices, strict=True):
        variance += value * np.einsum("ij,ij->i", matrix, matrix)
    return variance


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
