"""
One look for all pictures.

Colours are Okabe and Ito's, distinct under the common forms of colour
blindness; markers and line styles tell series apart in black and white.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.exceptions import UnknownColumnError, UnsupportedError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def panel_grid(
    figure: Figure | SubFigure | None,
    count: int,
    across: int,
    size: tuple[float, float],
    **options: Any,
) -> tuple[Figure | SubFigure, list[Axes]]:
    """
    Axes side by side and below each other.

    Parameters
    ----------
    figure : Figure or SubFigure, or None
        Where to draw; None makes a new figure.
    count : int
        Number of panels.
    across : int
        Panels in a row.
    size : tuple of float
        Width and height of a new figure, in inches.
    **options
        Passed to ``Figure.subplots``, such as ``sharex=True``.

    Returns
    -------
    figure : Figure or SubFigure
    panels : list of Axes
        Row by row; what is left of the last row is empty.
    """
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=size, layout="constrained")
    down = -(-count // across)
    grid = figure.subplots(down, across, squeeze=False, **options)
    panels = list(grid.ravel())
    for ax in panels[count:]:
        ax.set_visible(False)
    for ax in panels[max(count - across, 0) : count]:
        ax.tick_params(axis="x", labelbottom=True)
    return figure, panels[:count]


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


# Panels side by side before a new line begins.
_ACROSS = 3


def chosen(names: Sequence[str], given: str | Sequence[str] | None) -> list[str]:
    """
    The quantities to draw.

    Parameters
    ----------
    names : sequence of str
        All there are.
    given : str, sequence of str or None
        The caller's choice; None for all.

    Returns
    -------
    list of str

    Raises
    ------
    UnknownColumnError
        If one does not exist.
    UnsupportedError
        If none is left.
    """
    if given is None:
        return list(names)
    wanted = [given] if isinstance(given, str) else list(given)
    for name in wanted:
        if name not in names:
            raise UnknownColumnError(
                f"there is no {name!r} to draw; there are {', '.join(map(repr, names))}"
            )
    if not wanted:
        raise UnsupportedError("name at least one quantity to draw")
    return wanted


def panel_axes(
    count: int, ax: Any, width: float, height: float, *, share_y: bool = False
) -> list[Axes]:
    """
    Axes for some panels: the caller's, or those of a new figure.

    Parameters
    ----------
    count : int
    ax : Axes, sequence of Axes or None
        As many as there are panels.
    width, height : float
        Size of a panel in a new figure, in inches.
    share_y : bool
        Whether panels side by side share their y axis.

    Returns
    -------
    list of matplotlib.axes.Axes

    Raises
    ------
    UnsupportedError
        If the caller's axes are too few or too many.
    """
    if ax is not None:
        given = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(given) != count:
            raise UnsupportedError(
                f"ax= has {len(given)} axes for {count} panels; name fewer quantities, "
                "or pass one Axes for each"
            )
        return given
    if count == 1:
        return [axes(None, width, height)]
    across = min(count, _ACROSS)
    size = (width * across, height * -(-count // across))
    return panel_grid(None, count, across, size, sharey=share_y)[1]


def picture(panels: Sequence[Axes]) -> Any:
    """What a function returns: the Axes of a single panel, the Figure of several."""
    return panels[0] if len(panels) == 1 else panels[0].figure


def evenly(count: int, most: int) -> NDArray[np.intp]:
    """
    Ranks to draw when there are too many, both ends among them.

    Parameters
    ----------
    count, most : int

    Returns
    -------
    ndarray of int
    """
    if most < 2:
        raise UnsupportedError(f"max_groups={most}: draw at least two groups")
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.intp))


# Of more points means of neighbours are smoothed.
_MEANS = 400


def smooth_line(
    x: FloatArray, y: FloatArray, share: float = 0.5
) -> tuple[FloatArray, FloatArray]:
    """
    Cleveland's locally weighted regression, on means of neighbours of many points.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
    share : float
        Of the points that a local line is fitted to.

    Returns
    -------
    x, y : ndarray, shape (k,)
        The line from left to right; means at each value of `x` if there are ten
        of them or fewer, and empty if there are fewer than two.
    """
    from statsmodels.nonparametric.smoothers_lowess import lowess

    if (np.diff(x) < 0.0).any():
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
    new = np.flatnonzero(np.diff(x, prepend=-np.inf) > 0.0)
    if len(new) < 2:
        return np.empty(0), np.empty(0)
    if len(new) <= 10:
        size = np.diff(np.append(new, len(x)))
        return x[new], np.add.reduceat(y, new) / size
    if len(x) > _MEANS:
        starts = np.linspace(0, len(x), _MEANS + 1).astype(np.intp)[:-1]
        size = np.diff(np.append(starts, len(x)))
        x, y = np.add.reduceat(x, starts) / size, np.add.reduceat(y, starts) / size
    fitted = lowess(y, x, frac=share, it=0, return_sorted=True)
    keep = np.append(np.diff(fitted[:, 0]) > 0.0, True)
    return fitted[keep, 0], fitted[keep, 1]


def legend_above(title: str | None = None) -> dict[str, Any]:
    """
    Options of a legend above the axes, in one line.

    Parameters
    ----------
    title : str, optional
        Where there is one, the legend stays inside.

    Returns
    -------
    dict
    """
    if title:
        return {"loc": "best"}
    return {
        "loc": "lower left",
        "bbox_to_anchor": (-0.02, 1.0),
        "ncols": 4,
        "fontsize": "small",
        "columnspacing": 1.0,
        "handletextpad": 0.4,
        "borderaxespad": 0.1,
    }
