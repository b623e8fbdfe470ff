"""
One panel a group or parameter, in a figure of the caller or a new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["panel_grid"]


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
