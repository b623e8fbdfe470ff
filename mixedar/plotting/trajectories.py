"""
Data and curves along an axis: a panel a group, or all groups and their means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar._types import IntArray
from mixedar.data.variables import PictureRows
from mixedar.exceptions import MixedARError, UnsupportedError, check_flags
from mixedar.plotting import (
    BAND,
    COLOURS,
    GREY,
    LINES,
    axes,
    caption,
    label,
    legend_above,
    mark_positions,
    panel_grid,
)
from mixedar.prediction.curves import sample_codes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


_CURVES = {"population": (COLOURS[1], "--"), "group": (COLOURS[0], "-")}


def plot_trajectories(
    rows: PictureRows,
    chosen: IntArray,
    drawn: pd.DataFrame,
    *,
    curves: Sequence[str] = ("population", "group"),
    n_columns: int | None = None,
    caption: str | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """
    Observations of each group with the curves of the population and of the group.

    nlme's ``plot(augPred(fit, level = 0:1))``.  Panels share their axes.

    Parameters
    ----------
    rows : PictureRows
    chosen : ndarray of int
        Numbers of the groups, in the order of the panels.
    drawn : DataFrame
        Of :func:`mixedar.prediction.curves.fitted_curves`.
    curves : sequence of str
        Which curves: ``"population"`` (fixed effects), ``"group"`` (random
        effects too).
    n_columns : int, optional
        Panels in a row.
    caption : str, optional
        What to say of the choice of groups.
    figure : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure

    Raises
    ------
    UnsupportedError
        For other curves, or a number of columns that is none.
    """
    unknown = [name for name in curves if name not in _CURVES]
    if unknown:
        raise UnsupportedError(
            f"curves: {unknown[0]!r} is not known; choose from {list(_CURVES)}"
        )
    across = n_columns or 0
    if n_columns is None:  # a grid somewhat wider than high
        across = int(np.ceil(np.sqrt(len(chosen))))
    figure, panels = _grid(figure, len(chosen), across, n_columns, (1.7, 1.45, 4.0))
    tied = drawn.duplicated(["line", "x"]).any()
    for ax, code in zip(panels, chosen, strict=True):
        own = np.flatnonzero(rows.codes == code)
        for name in curves:
            colour, style = _CURVES[name]
            for k, line in enumerate(np.unique(rows.lines[own])):
                here = drawn[drawn["line"] == line]
                single = tied or len(here) == 1
                ax.plot(
                    here["x"].to_numpy(),
                    here[name],
                    color=colour,
                    linestyle="none" if single else style,
                    marker="_" if single else None,
                    markersize=12.0,
                    linewidth=1.6,
                    label=name if k == 0 else None,
                )
        _observed(ax, rows, own)
        mark_positions(ax, rows.x, rows.ticks, most=6)
    handles, names = panels[0].get_legend_handles_labels()
    _frame(figure, rows, dict(zip(names, handles, strict=True)), caption)
    return figure


def plot_forecast(
    rows: PictureRows,
    chosen: IntArray,
    frame: pd.DataFrame,
    *,
    level: str = "forecast",
    n_columns: int = 3,
    alpha: float = 0.05,
    caption: str | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """
    Predictions of single groups with intervals, after or between their data.

    Parameters
    ----------
    rows : PictureRows
    chosen : ndarray of int
        Numbers of the groups, in the order of the panels.
    frame : DataFrame
        Of :func:`mixedar.prediction.curves.forecasts`.
    level : {"forecast", "group", "population"}
        What was predicted.
    n_columns : int
        Panels in a row.
    alpha : float
        1 - coverage of the intervals for observations.
    caption : str, optional
        What to say of the choice of groups.
    figure : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure
    """
    figure, panels = _grid(figure, len(chosen), n_columns, n_columns, (2.1, 1.6, 4.5))
    x = np.concatenate([rows.x, frame["x"].to_numpy()])
    for ax, code in zip(panels, chosen, strict=True):
        own = np.flatnonzero(rows.codes == code)
        for path in rows.paths(own, broken=True):
            ax.plot(rows.x[path], rows.y[path], "-", color=GREY, linewidth=0.8)
        _observed(ax, rows, own, zorder=None)
        part = frame[frame["group"] == rows.labels[code]].sort_values("x")
        for _, one in part.groupby("series"):
            _predictions(ax, one, level)
        mark_positions(ax, x, rows.ticks, most=6)
    found = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    names = sorted(found, key=lambda name: (name == "came out", name != "observed"))
    words = f"; {100 * (1 - alpha):g}% intervals for observations"
    _frame(figure, rows, {name: found[name] for name in names}, caption, words)
    return figure


def _predictions(ax: Axes, part: pd.DataFrame, level: str) -> None:
    """Predictions of one series with their intervals, and what came out."""
    x, mean = part["x"].to_numpy(), part["mean"]
    what = {"forecast": "forecast", "group": "predicted"}.get(level, "population")
    low, high = part["obs_ci_lower"], part["obs_ci_upper"]
    if len(part) == 1:
        ax.errorbar(x, mean, high - mean, color=COLOURS[0], fmt="D", ms=4, label=what)
    else:
        ax.fill_between(x, low, high, color=COLOURS[0], alpha=BAND, linewidth=0)
        ax.plot(x, mean, color=COLOURS[0], label=what)
    if "later" in part:
        later, colour = part["later"], COLOURS[1]
        ax.plot(x, later, "o", mfc="white", mec=colour, ms=4.5, label="came out")


def _grid(
    figure: Figure | SubFigure | None,
    count: int,
    across: int,
    given: object,
    size: tuple[float, float, float],
) -> tuple[Figure | SubFigure, list[Axes]]:
    """Panels that share their axes: width and height of each, and a least width."""
    if isinstance(given, bool) or int(across) != across or across < 1:
        raise UnsupportedError(f"n_columns={given!r} is not a number of columns")
    across = min(int(across), count)
    width, height, least = size
    margin = (max(1.2, least - width * across), 1.1)
    return panel_grid(
        figure, count, across, (width, height), margin, sharex=True, sharey=True
    )


def _observed(
    ax: Axes, rows: PictureRows, own: IntArray, zorder: float | None = 3
) -> None:
    """The observations of a group, under its name."""
    x, y = rows.x[own], rows.y[own]
    ax.plot(x, y, "ko", markersize=3.5, label="observed", zorder=zorder)
    ax.set_title(str(rows.labels[rows.codes[own[0]]]), fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)


def _frame(
    figure: Figure | SubFigure,
    rows: PictureRows,
    handles: dict[str, Any],
    caption: str | None,
    more: str = "",
) -> None:
    """What the panels share: names of the axes, legend, caption."""
    figure.supylabel(rows.y_label, fontsize="medium")
    figure.supxlabel(rows.x_label, fontsize="medium")
    title = rows.group_name if caption is None else f"{rows.group_name}: {caption}"
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside upper center",
        ncol=len(handles),
        frameon=False,
        title=title + more,
    )


def plot_spaghetti(
    rows: PictureRows,
    levels: pd.Series,
    means: pd.DataFrame,
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
    rows : PictureRows
    levels : Series of category, shape (n,)
        Of :func:`mixedar.prediction.curves.levels_of`: lines and means of each level
        in a colour of their own.
    means : DataFrame
        Of :func:`mixedar.prediction.curves.population_means`.
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
        1 - coverage of the means' intervals.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    UnsupportedError
        If `n_lines` is no number of lines.
    """
    if isinstance(n_lines, bool) or int(n_lines) != n_lines or n_lines < 1:
        raise UnsupportedError(f"n_lines={n_lines!r} is not a number of lines")
    names = levels.cat.categories
    alone = len(names) == 1
    total = len(np.unique(rows.lines))
    each = total if total <= n_lines else max(int(n_lines) // len(names), 1)
    check_flags(spread=spread, explain=explain)
    ax = axes(ax)
    drawn = 0
    for k, name in enumerate(names):
        colour = COLOURS[k % len(COLOURS)]
        where = np.flatnonzero(levels.cat.codes == k)
        drawn += _lines(ax, rows, where, each, GREY if alone else colour)
        part = means[means["level"] == k]
        x = part["x"].to_numpy()
        ax.fill_between(
            x, part["lower"], part["upper"], color=colour, alpha=2 * BAND, linewidth=0
        )
        what = "population mean" if alone else str(name)
        ax.plot(x, part["mean"], LINES[k % 2], color=colour, linewidth=2.2, label=what)
        for side in ("low", "high") if spread else ():
            ax.plot(x, part[side], ":", color=colour, linewidth=1.2)
    label(ax, rows.x_label, rows.y_label)
    _legend(ax, None if alone else levels.name)
    mark_positions(ax, rows.x, rows.ticks)
    words = f"all {total:,} lines"
    if drawn < total:
        words = f"{drawn:,} of {total:,} lines, drawn at random"
    if explain:
        share = f"{100 * (1 - alpha):g}%"
        words += f"\nbands: {share} intervals of the means"
        words += f"; dotted: {share} of observations expected inside" * spread
    caption(ax, words)
    return ax


def _lines(ax: Axes, rows: PictureRows, where: IntArray, most: int, colour: str) -> int:
    """Draw the data of some lines; return how many."""
    from matplotlib.collections import LineCollection

    present = np.unique(rows.lines[where])
    chosen = present[sample_codes(len(present), most)]
    mine = where[np.isin(rows.lines[where], chosen)]
    paths = rows.paths(mine, broken=True)
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


def _legend(ax: Axes, column: object) -> None:
    """Name the levels in rows above the axes, where no line is hidden."""
    handles, names = ax.get_legend_handles_labels()
    if column is not None:
        names = [f"{column}: {name}" for name in names]
    ax.legend(handles, names, frameon=False, **legend_above(names=names))


def plot_overview(
    data: Callable[[Axes], Any],
    residuals: Sequence[Callable[[Axes], Any]],
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Four panels on one page; one of residuals that cannot be drawn says why."""
    figure, panels = panel_grid(figure, 4, 2, (4.8, 3.7))
    data(panels[0])
    for ax, draw in zip(panels[1:], residuals, strict=True):
        try:
            draw(ax)
        except MixedARError as error:
            ax.clear()
            ax.set_axis_off()
            place: dict[str, Any] = {"ha": "center", "va": "center", "wrap": True}
            ax.text(0.5, 0.5, str(error), transform=ax.transAxes, **place)
    return figure
