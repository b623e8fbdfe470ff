"""
Data and fitted curves, one panel a group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mixedar.exceptions import UnsupportedError
from mixedar.plotting.curves import Curves, fitted_curves
from mixedar.plotting.grid import panel_grid
from mixedar.plotting.horizontal import mark_positions
from mixedar.plotting.rows import PictureRows, choose_groups, picture_rows
from mixedar.plotting.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["plot_trajectories"]

_CURVES = {"population": (COLOURS[1], "--"), "group": (COLOURS[0], "-")}


def plot_trajectories(
    fit: Any,
    groups: Any = None,
    x: Any = None,
    *,
    n_groups: int = 16,
    n_columns: int | None = None,
    curves: tuple[str, ...] = ("population", "group"),
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """
    Observations of each group with the curves of the population and of the group.

    nlme's ``plot(augPred(fit, level = 0:1))``.  Panels share their axes.

    Parameters
    ----------
    fit : MixedLMARResults
    groups : iterable of labels, or a label, optional
        Groups to draw, in this order; all by default, and a random sample of
        `n_groups` if there are more.
    x : str or array_like, shape (n,), optional
        What runs from left to right; the model's time by default.
    n_groups : int
        The largest number of panels without `groups`.
    n_columns : int, optional
        Panels in a row.
    curves : tuple of str
        Which curves: ``"population"`` (fixed effects), ``"group"`` (random
        effects too).

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    GroupError
        For a label that no group has.
    UnsupportedError
        For other curves, or numbers that are none.
    UnknownColumnError
        If `x` is no column of the data.
    """
    unknown = [name for name in curves if name not in _CURVES]
    if unknown:
        raise UnsupportedError(
            f"curves: {unknown[0]!r} is not known; choose from {list(_CURVES)}"
        )
    rows = picture_rows(fit, x)
    chosen, caption = choose_groups(rows, groups, n_groups)
    across = _across(len(chosen)) if n_columns is None else int(n_columns)
    if across < 1:
        raise UnsupportedError(f"n_columns={n_columns!r} is not a number of columns")
    across = min(across, len(chosen))
    down = -(-len(chosen) // across)
    figure, panels = panel_grid(
        figure,
        len(chosen),
        across,
        size=(max(1.2 + 1.7 * across, 4.0), 1.1 + 1.45 * down),
        sharex=True,
        sharey=True,
    )
    drawn = fitted_curves(fit, rows, chosen)
    for ax, code in zip(panels, chosen, strict=True):
        _panel(ax, rows, int(code), drawn, curves)
    _frame(figure, panels, rows, caption)
    return figure


def _across(count: int) -> int:
    """Columns of a grid somewhat wider than high."""
    return int(np.ceil(np.sqrt(count)))


def _panel(
    ax: Axes, rows: PictureRows, code: int, drawn: Curves, curves: tuple[str, ...]
) -> None:
    own = np.flatnonzero(rows.codes == code)
    for name in curves:
        colour, style = _CURVES[name]
        values = getattr(drawn, name)
        for k, line in enumerate(np.unique(rows.lines[own])):
            here = drawn.line == line
            single = drawn.tied or here.sum() == 1
            ax.plot(
                drawn.x[here],
                values[here],
                color=colour,
                linestyle="none" if single else style,
                marker="_" if single else None,
                markersize=12.0,
                linewidth=1.6,
                label=name if k == 0 else None,
            )
    ax.plot(
        rows.x[own],
        rows.y[own],
        "o",
        color="black",
        markersize=3.5,
        label="observed",
        zorder=3,
    )
    ax.set_title(str(rows.labels[code]), fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)


def _frame(
    figure: Figure | SubFigure, panels: Any, rows: PictureRows, caption: str | None
) -> None:
    """What the panels share: names of the axes, legend, caption."""
    figure.supylabel(rows.y_label, fontsize="medium")
    figure.supxlabel(rows.x_label, fontsize="medium")
    for ax in panels:
        mark_positions(ax, rows, most=6)
    handles, names = panels[0].get_legend_handles_labels()
    title = rows.group_name if caption is None else f"{rows.group_name}: {caption}"
    figure.legend(
        handles,
        names,
        loc="outside upper center",
        ncol=len(names),
        frameon=False,
        title=title,
    )
