"""
Residuals against normal quantiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.plotting.smooth import legend_above
from mixedar.plotting.style import BAND, COLOURS, GREY, axes, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_quantiles"]

# Points of the middle that are drawn; of the tails all.
_MIDDLE = 2000
_TAIL = 200


def plot_quantiles(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    labels: int = 3,
    band: str = "band",
    title: str | None = None,
) -> Axes:
    """
    Draw a normal quantile plot with its band.

    Parameters
    ----------
    table : DataFrame
        Of :func:`mixedar.diagnostics.normality.residual_quantiles`.
    ax : Axes, optional
    labels : int
        At most so many points outside of the band are labelled, the furthest.
    band : str
        What the legend calls the band.
    title : str, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    n = len(table)
    drawn = np.arange(n)
    if n > _MIDDLE + 2 * _TAIL:
        middle = np.linspace(_TAIL, n - _TAIL - 1, _MIDDLE).astype(np.intp)
        drawn = np.concatenate([drawn[:_TAIL], middle, drawn[-_TAIL:]])
    part = table.iloc[drawn]
    x, y = part["theoretical"].to_numpy(), part["observed"].to_numpy()
    lower, upper = part["lower"].to_numpy(), part["upper"].to_numpy()
    ax = axes(ax, 5.0, 4.5)
    ax.fill_between(
        x, lower, upper, color=COLOURS[5], alpha=BAND + 0.1, linewidth=0.0, label=band
    )
    ax.plot(x, x, color=GREY, linewidth=1.0)
    out = (y < lower) | (y > upper)
    small = 2.5 if n > 500 else 4.0
    ax.plot(
        x[~out], y[~out], "o", color=COLOURS[0], markersize=small, label="residuals"
    )
    if out.any():
        ax.plot(x[out], y[out], "D", color=COLOURS[1], markersize=4.0, label="outside")
        _name_outside(ax, part, out, labels)
    return label(
        ax,
        "Normal quantiles",
        "Standardized residuals",
        title,
        **legend_above(title),
    )


def _name_outside(
    ax: Axes, part: pd.DataFrame, out: NDArray[np.bool_], labels: int
) -> None:
    """Label the points furthest outside, no two of them at the same height."""
    x, y = part["theoretical"].to_numpy(), part["observed"].to_numpy()
    above = y > part["upper"].to_numpy()
    far = np.where(above, y - part["upper"], part["lower"] - y)
    far[~out] = -np.inf
    apart = 0.05 * float(np.ptp(y))
    named: list[int] = []
    for k in np.argsort(-far, kind="stable"):
        if not out[k] or len(named) >= labels:
            break
        if any(abs(y[k] - y[other]) < apart for other in named):
            continue
        named.append(int(k))
        ax.annotate(
            str(part.index[k]),
            (x[k], y[k]),
            xytext=(-6 if above[k] else 6, 0),
            textcoords="offset points",
            ha="right" if above[k] else "left",
            va="center",
            fontsize="small",
        )
