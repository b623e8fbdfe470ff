"""
Parameters that a search cannot drive to infinity.

Where a likelihood rises for ever (a stratum without residual variance, a step in
place of a power) the coordinate runs off, the parameter nears a bound, and all
derivatives vanish, so that the search ends.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixedar.jets import Jet, clip

__all__ = ["bounded", "is_at_bound", "unbounded"]

FloatArray = NDArray[np.float64]

_SATURATED = 12.0  # tanh(12) = 1 - 8e-11
_NEAR = 0.999


def bounded(u: Jet, limit: float) -> Jet:
    """
    About `u` as long as that is small, and never beyond the limit.

    Parameters
    ----------
    u : Jet of shape (k,)
    limit : float
        Positive.

    Returns
    -------
    Jet of shape (k,)
    """
    return np.tanh(clip(u / limit, -_SATURATED, _SATURATED)) * limit


def unbounded(x: ArrayLike, limit: float) -> FloatArray:
    """
    Inverse of :func:`bounded`; numbers beyond the limit are brought inside.

    Parameters
    ----------
    x : array_like, shape (k,)
    limit : float

    Returns
    -------
    ndarray, shape (k,)
    """
    most = np.tanh(_SATURATED)
    share = np.clip(np.asarray(x, dtype=np.float64) / limit, -most, most)
    return np.asarray(limit * np.arctanh(share))


def is_at_bound(x: ArrayLike, limit: float) -> bool:
    """
    Whether a number is as large as it can be.

    Parameters
    ----------
    x : array_like, shape (k,)
    limit : float
    """
    return bool((np.abs(np.asarray(x, dtype=np.float64)) > _NEAR * limit).any())
