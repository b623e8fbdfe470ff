"""
Priors and posteriors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray
from mixedar.plotting import BAND, COLOURS, GREY, chosen, label, panel_axes, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_POINTS = 300


def plot_densities(
    draws: pd.DataFrame,
    prior: Callable[[str, FloatArray], FloatArray | None],
    parameters: str | Sequence[str] | None = None,
    *,
    ax: Axes | Sequence[Axes] | None = None,
) -> Axes | Figure | SubFigure:
    """
    Draw the posterior of each parameter as a curve, and its prior as a dashed one.

    Parameters
    ----------
    draws : DataFrame
        A column a parameter.
    prior : callable
        From a name and values to densities; None if the prior is flat.
    parameters : str or sequence of str, optional
        Those to draw, one a panel; all by default.
    ax : Axes or sequence of Axes, optional
        One for each panel.

    Returns
    -------
    matplotlib.axes.Axes or Figure
        The figure if there are several panels.
    """
    names = chosen(list(map(str, draws)), parameters)
    panels = panel_axes(len(names), ax, 3.6, 2.6)
    for name, panel in zip(names, panels, strict=True):
        x = draws[name].to_numpy()
        low, high = np.quantile(x, [0.0005, 0.9995])
        inside = prior(name, np.array([low - 0.3 * (high - low)]))
        left = low - 0.1 * (high - low)
        if inside is not None and inside[0] == 0.0 and low >= 0.0:
            left = max(left, 0.0)
        grid = np.linspace(left, high + 0.1 * (high - low), _POINTS)
        height = _density(x, grid, bounded=left == 0.0)
        panel.fill_between(grid, height, color=COLOURS[0], alpha=BAND, linewidth=0)
        panel.plot(grid, height, color=COLOURS[0], label="posterior")
        known = prior(name, grid)
        if known is not None:
            panel.plot(grid, known, "--", color=GREY, label="prior")
        panel.set_ylim(0.0, None)
        panel.set_yticks([])
        label(panel, name, "")
    return picture(panels)


def _density(x: FloatArray, grid: FloatArray, *, bounded: bool) -> FloatArray:
    """A kernel density, reflected at zero where values are positive."""
    kernel = stats.gaussian_kde(x)
    height = kernel(grid)
    return np.asarray(height + kernel(-grid) if bounded else height)
