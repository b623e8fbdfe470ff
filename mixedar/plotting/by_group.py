"""
Intervals of the coefficients of many regressions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar.plotting.panels import chosen, evenly, panel_axes, picture
from mixedar.plotting.style import COLOURS, GREY, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LABELLED", "draw_intervals", "plot_intervals"]

#: Up to this many groups are named on the axis.
LABELLED = 60


def plot_intervals(
    frame: pd.DataFrame,
    coefficients: str | Sequence[str] | None = None,
    *,
    alpha: float = 0.05,
    sort_by: str | None = None,
    max_groups: int = 400,
    ax: Any = None,
) -> Any:
    """
    Draw intervals of coefficients, a line for each group.

    Parameters
    ----------
    frame : DataFrame
        Of ``ByGroupResults.conf_int``; the picture is nlme's
        ``plot(intervals(fm))``.
    coefficients : str or sequence of str, optional
        Coefficients to draw, one a panel; all by default.
    alpha : float
        1 - coverage, for the label.
    sort_by : str, optional
        The coefficient whose estimates order the groups, in all panels alike; the
        first one drawn by default.
    max_groups : int
        Of more groups so many are drawn, evenly by rank.
    ax : Axes or sequence of Axes, optional
        One for each panel.

    Returns
    -------
    matplotlib.axes.Axes or Figure
        The figure if there are several panels.

    Raises
    ------
    UnknownColumnError, UnsupportedError
        For coefficients that do not exist, or too few axes.
    """
    known = list(frame.index.get_level_values(1).unique())
    names = chosen(known, coefficients)
    leading = names[0] if sort_by is None else chosen(known, sort_by)[0]
    first = _part(frame, leading)["estimate"]
    order = np.argsort(first.to_numpy(), kind="stable")  # missing ones last
    named = len(order) <= min(LABELLED, max_groups)
    absent = 0
    if not named:
        absent = int(first.isna().sum())
        order = order[: len(order) - absent]
    shown = order[evenly(len(order), max_groups)] if len(order) else order
    height = 1.1 + 0.17 * len(shown) if named else 5.0
    panels = panel_axes(len(names), ax, 3.6, max(height, 2.5), share_y=True)
    for name, panel in zip(names, panels, strict=True):
        part = _part(frame, name)
        draw_intervals(panel, part.iloc[shown], COLOURS[0])
        mean = float(part["estimate"].mean())
        panel.axvline(mean, color=GREY, linewidth=1.0, linestyle="--", zorder=0)
        label(panel, f"{name}\n({100 * (1 - alpha):g}% intervals; dashed: mean)", "")
        panel.tick_params(axis="y", length=0, labelsize="small")
    groups = str(frame.index.names[0])
    if named:
        panels[0].set_yticks(
            np.arange(len(shown)), [str(each) for each in first.index[shown]]
        )
        panels[0].set_ylabel(groups)
    else:
        panels[0].set_yticks([])
        text = f"{groups}: {len(shown):,} of {len(first):,} groups, evenly by rank"
        text += f"\n({absent:,} without an estimate)" if absent else ""
        panels[0].set_ylabel(text)
    return picture(panels)


def _part(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of one coefficient."""
    return frame[frame.index.get_level_values(1) == name].droplevel(1)


def draw_intervals(panel: Axes, part: pd.DataFrame, colour: str) -> None:
    """
    Draw horizontal intervals, one above the other.

    Parameters
    ----------
    panel : Axes
    part : DataFrame
        Columns ``lower``, ``upper`` and, first, the estimate.
    colour : str
    """
    height = np.arange(len(part))
    crowded = len(part) > LABELLED
    panel.hlines(
        height,
        part["lower"],
        part["upper"],
        color=colour,
        linewidth=0.6 if crowded else 1.6,
        alpha=0.5 if crowded else 0.8,
        snap=False,  # else neighbours share or skip a pixel
    )
    panel.plot(
        part.iloc[:, 0],
        height,
        linestyle="none",
        marker="o",
        markersize=1.5 if crowded else 4.0,
        color=colour,
    )
    panel.set_ylim(-0.5 - 0.02 * len(part), len(part) - 0.5 + 0.02 * len(part))
