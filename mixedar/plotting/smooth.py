"""
Smooth lines through many points, and where legends do not cover them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["legend_above", "smooth_line"]

FloatArray = NDArray[np.float64]

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
