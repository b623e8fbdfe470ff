"""
Pictures of several quantities: one panel each, and what all panels have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixedar.exceptions import UnknownColumnError, UnsupportedError
from mixedar.plotting.grid import panel_grid
from mixedar.plotting.style import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["chosen", "evenly", "panel_axes", "picture"]

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
