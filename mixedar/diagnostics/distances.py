"""
Sums over pairs by their distance, put into bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DistancePoints", "collapsed"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class DistancePoints:
    """
    Distances, in increasing order, with sums over the pairs that have them.

    Attributes
    ----------
    distance, count : ndarray, shape (k,)
    sums : ndarray, shape (measures, k)
    """

    distance: FloatArray
    count: FloatArray
    sums: FloatArray


def collapsed(points: DistancePoints, n_bins: int, how: str) -> DistancePoints:
    """
    Put points into bins if there are more than `n_bins` distances.

    Parameters
    ----------
    points : DistancePoints
    n_bins : int
    how : {"quantiles", "fixed"}
        Bins with about equally many pairs, or equally wide ones.

    Returns
    -------
    DistancePoints
        The distances are medians of the bins' pairs.
    """
    new = np.diff(points.distance, prepend=-np.inf) > 0.0
    if int(new.sum()) <= n_bins:
        which = np.cumsum(new) - 1
    else:
        low, high = float(points.distance[0]), float(points.distance[-1])
        edges = np.linspace(low, high, n_bins + 1)
        if how == "quantiles":
            shares = np.linspace(0.0, 1.0, n_bins + 1)
            edges = np.unique(_quantiles(points, 0.0, points.count.sum(), shares))
        which = np.searchsorted(edges[1:-1], points.distance, side="left")
    starts = np.flatnonzero(np.diff(which, prepend=-1) > 0)
    count = np.add.reduceat(points.count, starts)
    ends = np.cumsum(count)
    half = np.array([0.5])
    middle = np.array(
        [
            _quantiles(points, end - size, size, half)[0]
            for end, size in zip(ends, count, strict=True)
        ]
    )
    return DistancePoints(middle, count, np.add.reduceat(points.sums, starts, axis=1))


def _quantiles(
    points: DistancePoints, first: float, size: float, shares: FloatArray
) -> FloatArray:
    """Quantiles of the distances of pairs number `first` to `first + size`."""
    ends = np.cumsum(points.count)
    place = first + (size - 1.0) * shares
    below = np.floor(place)
    above = np.minimum(below + 1.0, first + size - 1.0)
    low = points.distance[np.searchsorted(ends, below, side="right")]
    high = points.distance[np.searchsorted(ends, above, side="right")]
    return np.asarray(low + (place - below) * (high - low))
