"""
Data and curves along an axis: a panel a group, or all groups and their means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import IntArray
from mixedar.data.variables import PictureRows
from mixedar.exceptions import MixedARError, UnsupportedError, check_flags
from mixedar.plotting import (
    BAND,
    COLOURS,
    GREY,
    LINES,
    MARKERS,
    caption,
    label,
    legend_above,
    mark_positions,
    panel_axes,
    panel_grid,
    picture,
)
from mixedar.prediction.curves import sample_codes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


# What new rows turned out to be.
_LATER = "observed later"
_CURVES = {"population": (COLOURS[1], "--"), "group": (COLOURS[0], "-")}
# So many levels share a panel, unless the caller says otherwise.
_TOGETHER = 2
# Legends of two panels side by side are as wide as they come from here on, in inches.
_WIDE = 8.5


def plot_groups(
    rows: PictureRows,
    chosen: IntArray,
    levels: pd.Series,
    *,
    n_columns: int | None = None,
    caption: str | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """
    The observations of each group, in the colour of its level of a factor.

    nlme's picture of grouped data.  Panels share their axes.

    Parameters
    ----------
    rows : PictureRows
    chosen : ndarray of int
        Numbers of the groups, in the order of the panels.
    levels : Series of category, shape (n,)
        Of :func:`mixedar.prediction.curves.levels_of`.
    n_columns : int, optional
        Panels in a row.
    caption : str, optional
        What to say of the choice of groups.
    figure : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure
    """
    level = levels.cat.codes.to_numpy()
    titles = _titles(levels.name, [*levels.cat.categories, "missing"])
    figure, panels = _grid(figure, len(chosen), n_columns, (1.7, 1.45, 4.0))
    handles: dict[str, Any] = {}
    for ax, code in zip(panels, chosen, strict=True):
        own = np.flatnonzero(rows.codes == code)
        for path in rows.paths(own, broken=True):
            # the rows of a line may be of several levels
            for k in dict.fromkeys(level[path].tolist()):
                here = path[level[path] == k]
                style = "-" if len(here) == len(path) else "none"
                (drawn,) = ax.plot(
                    rows.x[here],
                    rows.y[here],
                    color=GREY if k < 0 else COLOURS[k % len(COLOURS)],
                    marker=MARKERS[k % len(MARKERS)],
                    markersize=3.5,
                    linestyle=style,
                    linewidth=1.0,
                )
                handles.setdefault(titles[k], drawn)  # that of -1 is the last
        _panel(ax, rows.labels[code], rows.x, rows.ticks)
    several = len(levels.cat.categories) > 1
    named = [title for title in titles if several and title in handles]
    _frame(figure, rows, {title: handles[title] for title in named}, caption)
    return figure


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
    figure, panels = _grid(figure, len(chosen), n_columns, (1.7, 1.45, 4.0))
    for ax, code in zip(panels, chosen, strict=True):
        own = np.flatnonzero(rows.codes == code)
        lines = np.unique(rows.lines[own])
        for name in curves:
            colour, style = _CURVES[name]
            for k, line in enumerate(lines):
                here = drawn[drawn["line"] == line]
                single = len(here) == 1 or not here["joined"].all()
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
        if len(lines) > 1:
            _connected(ax, rows, own)
        _observed(ax, rows, own)
        _panel(ax, rows.labels[code], rows.x, rows.ticks)
    handles, names = panels[0].get_legend_handles_labels()
    _frame(figure, rows, dict(zip(names, handles, strict=True)), caption)
    return figure


def plot_forecast(
    rows: PictureRows,
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

    Series of a group have panels of their own.

    Parameters
    ----------
    rows : PictureRows
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
    parts = list(frame.groupby("panel", sort=False))
    figure, panels = _grid(figure, len(parts), n_columns, (2.1, 1.6, 4.5))
    x = np.concatenate([rows.x, frame["x"].to_numpy()])
    found: dict[str, Any] = {}
    for ax, (name, part) in zip(panels, parts, strict=True):
        own = np.flatnonzero(rows.lines == part["line"].iloc[0])
        _connected(ax, rows, own)
        _observed(ax, rows, own, zorder=None)
        _predictions(ax, part, level)
        _panel(ax, name, x, rows.ticks)
        found |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    names = sorted(found, key=lambda name: (name == _LATER, name != "observed"))
    words = f"; {100 * (1 - alpha):g}% intervals for observations"
    rows = replace(rows, group_name=frame.attrs.get("panels", rows.group_name))
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
        ax.plot(x, later, "o", mfc="white", mec=colour, ms=4.5, label=_LATER)


def _grid(
    figure: Figure | SubFigure | None,
    count: int,
    across: int | None,
    size: tuple[float, float, float],
) -> tuple[Figure | SubFigure, list[Axes]]:
    """Panels that share their axes: width and height of each, and a least width."""
    if across is None:  # a grid somewhat wider than high
        across = int(np.ceil(np.sqrt(count)))
    if isinstance(across, bool) or int(across) != across or across < 1:
        raise UnsupportedError(f"n_columns={across!r} is not a number of columns")
    across = min(int(across), count)
    width, height, least = size
    if count < 4:  # room for few panels
        width, height = width * (1.0 + 1.2 / count), height * (1.0 + 1.2 / count)
    margin = (max(1.2, least - width * across), 1.1)
    return panel_grid(
        figure, count, across, (width, height), margin, sharex=True, sharey=True
    )


def _connected(ax: Axes, rows: PictureRows, own: IntArray) -> None:
    """The observations of each line of a group joined."""
    for path in rows.paths(own, broken=True):
        ax.plot(rows.x[path], rows.y[path], "-", color=GREY, linewidth=0.8)


def _observed(
    ax: Axes, rows: PictureRows, own: IntArray, zorder: float | None = 3
) -> None:
    """Observations as points."""
    x, y = rows.x[own], rows.y[own]
    ax.plot(x, y, "ko", markersize=3.5, label="observed", zorder=zorder)


def _panel(
    ax: Axes, name: object, x: NDArray[Any], ticks: Sequence[str] | None
) -> None:
    """A name above a panel, and ticks where the observations are."""
    ax.set_title(str(name), fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)
    mark_positions(ax, x, ticks, most=6)


def _titles(name: object, levels: Iterable[object]) -> list[str]:
    """Levels with the name of their variable, if it has one."""
    of = "" if name is None else f"{name}: "
    return [f"{of}{level}" for level in levels]


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
        ncols=min(max(len(handles), 1), 5),
        frameon=False,
        title=title + more,
    )


def plot_spaghetti(
    rows: PictureRows,
    levels: pd.Series,
    means: pd.DataFrame,
    ax: Axes | Sequence[Axes] | None = None,
    *,
    n_lines: int = 100,
    spread: bool = True,
    explain: bool = True,
    panels: bool | None = None,
    figure: Figure | SubFigure | None = None,
    alpha: float = 0.05,
) -> Axes | Figure | SubFigure:
    """
    Observations as one thin line a group, the population mean and its band.

    Parameters
    ----------
    rows : PictureRows
    levels : Series of category, shape (n,)
        Of :func:`mixedar.prediction.curves.levels_of`: lines and means of each level
        in a colour of their own.
    means : DataFrame
        Of :func:`mixedar.prediction.curves.population_means` or
        :func:`~mixedar.prediction.curves.observed_means`.
    ax : Axes or sequence of Axes, optional
        One for all levels, or one for each.
    n_lines : int
        The largest number of lines in all, shared evenly by the levels; a
        random sample if there are more groups.
    spread : bool
        Draw the range in which the model expects a share of 1 - `alpha` of the
        observations, as dotted lines.
    explain : bool
        Say below the axis what bands and dotted lines are; how many of the groups
        are drawn is said in any case.
    panels : bool, optional
        Whether each level has a panel of its own; by default if there are more than
        two of them.
    figure : Figure or SubFigure, optional
        Where to draw without `ax`; a new figure by default.
    alpha : float
        1 - coverage of the means' intervals.

    Returns
    -------
    matplotlib.axes.Axes, Figure or SubFigure
        The figure if there are several panels.

    Raises
    ------
    UnsupportedError
        If `n_lines` is no number of lines, or `ax` is no Axes for each panel.
    """
    if isinstance(n_lines, bool) or int(n_lines) != n_lines or n_lines < 1:
        raise UnsupportedError(f"n_lines={n_lines!r} is not a number of lines")
    check_flags(spread=spread, explain=explain)
    names = levels.cat.categories
    grid = _panels_of(len(names), ax, panels, figure)
    total = len(np.unique(rows.lines))
    each = total if total <= n_lines else max(int(n_lines) // len(names), 1)
    alone, drawn = len(names) == 1, 0
    for k, name in enumerate(names):
        panel = grid[k % len(grid)]
        where = np.flatnonzero(levels.cat.codes == k)
        colour = GREY if alone else COLOURS[k % len(COLOURS)]
        drawn += _lines(panel, rows, where, each, colour)
        what = str(means.attrs.get("what", "population mean")) if alone else str(name)
        part = means[means["level"] == k]
        few = len(grid) > 1 or len(names) <= _TOGETHER
        shown = None if len(grid) > 1 else what
        _mean(panel, part, shown, k, spread=spread, few=few)
    kind = "line" if rows.joined else "group"
    kind = "observation" if total == len(rows.x) else kind
    words = f"all {total:,} {kind}s" if total > 1 else f"one {kind}"
    if drawn < total:
        words = f"{drawn:,} of {total:,} {kind}s, drawn at random"
    if explain and "lower" in means:
        share = f"{100 * (1 - alpha):g}%"
        words += f"\nbands: {share} intervals of the means"
        words += f"; dotted: {share} of observations expected inside" * spread
    _name_axes(grid, rows, levels, words, own=ax is None)
    return picture(grid)


def _panels_of(
    count: int,
    ax: Axes | Sequence[Axes] | None,
    panels: bool | None,
    figure: Figure | SubFigure | None,
) -> list[Axes]:
    """One panel, or one for each of some levels."""
    if panels is not None:
        check_flags(panels=panels)
    if ax is not None:
        single = np.size(np.asarray(ax, dtype=object)) == 1
        return panel_axes(1 if single and not panels else count, ax, 6.0, 4.0)
    if count == 1 or not (count > _TOGETHER if panels is None else panels):
        return panel_grid(figure, 1, 1, (6.0, 4.0))[1]
    across = 2 if count == 4 else min(count, 3)
    margin = (max(0.8, 5.0 - 2.4 * across), 0.9)
    size = (2.6, 2.3)
    return panel_grid(figure, count, across, size, margin, sharex=True, sharey=True)[1]


def _name_axes(
    grid: list[Axes], rows: PictureRows, levels: pd.Series, words: str, *, own: bool
) -> None:
    """Labels, legend or titles, ticks, and the small text below."""
    for panel in grid:
        mark_positions(panel, rows.x, rows.ticks, most=10 if len(grid) == 1 else 6)
    names = _titles(levels.name, levels.cat.categories)
    if len(grid) == 1:
        label(grid[0], rows.x_label, rows.y_label)
        _legend(grid[0], names if len(names) > 1 else None)
        caption(grid[0], words)
        return
    shown = ("", "") if own else (rows.x_label, rows.y_label)
    for title, panel in zip(names, grid, strict=True):
        label(panel, *shown, title)
        panel.title.set_fontsize("medium")
    if not own:
        caption(grid[-1], words)
        return
    whole = grid[0].figure
    whole.supylabel(rows.y_label, fontsize="medium")
    whole.supxlabel(f"{rows.x_label}\n{words}", fontsize="small")


def _mean(
    ax: Axes, part: pd.DataFrame, what: str | None, k: int, *, spread: bool, few: bool
) -> None:
    """The mean of a level, with what there is of its band and of its observations."""
    x, colour = part["x"].to_numpy(), COLOURS[k % len(COLOURS)]
    if "lower" in part:
        options: dict[str, Any] = {"color": colour, "linewidth": 0}
        strength = 2 * BAND if few else 0.75 * BAND
        ax.fill_between(x, part["lower"], part["upper"], alpha=strength, **options)
    ax.plot(x, part["mean"], LINES[k % 2], color=colour, linewidth=2.2, label=what)
    for side in ("low", "high") if spread and "low" in part else ():
        ax.plot(x, part[side], ":", color=colour, linewidth=1.2)


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


def _legend(ax: Axes, levels: Sequence[str] | None) -> None:
    """Name the levels in rows above the axes, where no line is hidden."""
    handles, names = ax.get_legend_handles_labels()
    names = names if levels is None else list(levels)
    ax.legend(handles, names, frameon=False, **legend_above(names=names))


def plot_overview(
    draws: Sequence[Callable[[Axes], Any]], figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Panels on one page, two in a row; one that cannot be drawn says why."""
    across = min(2, len(draws))
    figure, panels = panel_grid(figure, len(draws), across, (4.8, 3.7))
    for ax, draw in zip(panels, draws, strict=True):
        try:
            draw(ax)
        except MixedARError as error:
            ax.clear()
            ax.set_axis_off()
            place: dict[str, Any] = {"ha": "center", "va": "center", "wrap": True}
            ax.text(0.5, 0.5, str(error), transform=ax.transAxes, **place)
            continue
        legend = ax.get_legend()
        if legend is not None and figure.bbox.width < _WIDE * figure.dpi:
            names = [text.get_text() for text in legend.get_texts()]
            options = legend_above(names=names) | {"fontsize": "x-small"}
            options["ncols"] = min(options["ncols"], 2 if len(names) > 2 else 3)
            handles = ax.get_legend_handles_labels()[0]
            ax.legend(handles, names, frameon=False, **options)
    return figure
