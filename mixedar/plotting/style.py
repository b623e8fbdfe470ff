"""
One look for all pictures.

Colours are Okabe and Ito's, distinct under the common forms of colour
blindness; markers and line styles tell series apart in black and white.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BAND", "COLOURS", "GREY", "LINES", "MARKERS", "axes", "label"]

#: Blue, vermilion, green, purple, orange, sky blue, black.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
#: What is context: single groups behind a mean, reference lines.
GREY = "#7F7F7F"
MARKERS = "osD^vPX*"
LINES = ("-", "--", ":", "-.")
#: Opacity of confidence bands.
BAND = 0.2


def axes(ax: Axes | None, width: float = 6.0, height: float = 4.0) -> Axes:
    """
    The axes to draw on: the caller's, or those of a new figure.

    Parameters
    ----------
    ax : Axes or None
    width, height : float
        Size of a new figure, in inches.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def label(ax: Axes, x: str, y: str, title: str | None = None, **legend: Any) -> Axes:
    """
    Name the axes, draw light frames, and a legend where something is labelled.

    Parameters
    ----------
    ax : Axes
    x, y : str
        Axis labels, units included.
    title : str, optional
    **legend
        Passed to ``Axes.legend``.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if title:
        ax.set_title(title)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, **legend)
    return ax
