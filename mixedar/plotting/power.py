"""
Power curves with their Monte Carlo intervals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mixedar.plotting import (
    BAND,
    COLOURS,
    GREY,
    MARKERS,
    axes,
    label,
    legend_above,
    whole_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_power(
    curves: Mapping[str, pd.DataFrame], along: str, alpha: float, ax: Axes | None = None
) -> Axes:
    """
    Draw power curves, the level of the test, and a power of 0.8 for reference.

    Parameters
    ----------
    curves : mapping of str to DataFrame
        Labels; columns `along`, ``power``, ``lower`` and ``upper``.
    along : str
    alpha : float
    ax : Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax)
    for height in (alpha, 0.8):
        ax.axhline(height, color=GREY, linewidth=0.8, linestyle=":")
    for k, (name, curve) in enumerate(curves.items()):
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        x = curve[along].to_numpy(dtype=np.float64)
        ax.plot(x, curve["power"], marker=marker, color=colour, label=name or None)
        ax.fill_between(x, curve["lower"], curve["upper"], color=colour, alpha=BAND)
    ax.set_ylim(0.0, 1.0)
    whole_ticks(ax, x)
    names = {"n": "Number of groups", "times": "Number of times", "dropout": "Drop-out"}
    above = legend_above(names=list(curves))
    return label(ax, names.get(along, along), "Power", **above)
