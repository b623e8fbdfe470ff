"""
Semivariogram of residuals with that of the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mixedar.plotting.smooth import legend_above, smooth_line
from mixedar.plotting.style import COLOURS, GREY, LINES, axes, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_variogram"]


def plot_variogram(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    smooth: bool = True,
    x_label: str = "Distance",
    title: str | None = None,
) -> Axes:
    """
    Draw a semivariogram as points whose areas are the numbers of pairs.

    Parameters
    ----------
    table : DataFrame
        Of :func:`mixedar.diagnostics.variogram.residual_variogram` or
        :func:`~mixedar.diagnostics.variogram.semivariogram`.
    ax : Axes, optional
    smooth : bool
        Draw a smooth line through at least eight points.
    x_label, title : str, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    x, y = table["distance"].to_numpy(), table["gamma"].to_numpy()
    ax = axes(ax)
    if "model" in table:
        ax.plot(
            x,
            table["model"],
            color=GREY,
            linestyle=LINES[2],
            linewidth=1.6,
            label="model: errors",
        )
    if "expected" in table:
        ax.plot(
            x,
            table["expected"],
            color=COLOURS[1],
            linestyle=LINES[0],
            linewidth=1.8,
            label="model: residuals",
        )
    if smooth and len(x) >= 8:
        # pairs weigh the points: as many copies as they have, roughly
        weight = table["pairs"].to_numpy() / table["pairs"].max()
        copies = np.maximum(np.rint(20.0 * weight), 1).astype(int)
        line = smooth_line(np.repeat(x, copies), np.repeat(y, copies), 0.6)
        ax.plot(
            *line, color=COLOURS[0], linestyle=LINES[1], linewidth=1.4, label="smoothed"
        )
    size = 20.0 + 60.0 * table["pairs"].to_numpy() / table["pairs"].max()
    ax.scatter(
        x, y, s=size, color=COLOURS[0], edgecolor="white", zorder=3, label="observed"
    )
    top = max(float(np.max(y)), *(float(table[c].max()) for c in _lines(table)))
    ax.set_ylim(0.0, 1.08 * top)
    ax.set_xlim(left=0.0)
    if len(x) <= 15 and (x == np.rint(x)).all() and np.ptp(x) <= 15:
        ax.set_xticks(x)
    return label(ax, x_label, "Semivariogram", title, **legend_above(title))


def _lines(table: pd.DataFrame) -> list[str]:
    return [name for name in ("gamma", "model", "expected") if name in table]
