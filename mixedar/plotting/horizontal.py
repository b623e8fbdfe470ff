"""
Ticks of the horizontal axis, and the line below it that says what is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mixedar.plotting.rows import PictureRows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CAPTION", "caption", "mark_positions"]

# So many equally spaced positions have a tick each.
_MOST_TICKS = 10
#: Grey of small text that explains a picture.
CAPTION = "0.35"


def mark_positions(ax: Axes, rows: PictureRows, most: int = _MOST_TICKS) -> None:
    """
    Ticks where the observations are, or where dates are round.

    Parameters
    ----------
    ax : Axes
    rows : PictureRows
    most : int
        The largest number of ticks.
    """
    if rows.ticks is not None:
        ax.set_xticks(range(len(rows.ticks)), labels=rows.ticks)
        if sum(map(len, rows.ticks)) > 40 * most / _MOST_TICKS:
            ax.tick_params(axis="x", rotation=90)
        return
    if rows.x.dtype.kind == "M":
        import matplotlib.dates as dates

        locator = dates.AutoDateLocator(minticks=2, maxticks=min(most, 6))
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        return
    places = np.unique(rows.x)
    steps = np.diff(places)
    if 1 < len(places) <= most and np.allclose(steps, steps[0], rtol=1e-6):
        ax.set_xticks(places)


def caption(ax: Axes, text: str) -> None:
    """
    Write small text below the label of the horizontal axis.

    Parameters
    ----------
    ax : Axes
    text : str
    """
    ax.annotate(
        text,
        xy=(0.5, 0.0),
        xycoords=ax.xaxis.get_label(),
        xytext=(0.0, -3.0),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize="small",
        color=CAPTION,
        annotation_clip=False,
    )
