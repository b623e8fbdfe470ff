"""
Whitened cross-products of a block of clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """
    Whitened cross-products of a block of m clusters.

    The first axis holds the values (0) and, when asked for, the first (1) and
    second (2) derivatives by the unconstrained residual parameter.

    Attributes
    ----------
    zz : ndarray, shape (orders, q, q, m)
    zw : ndarray, shape (orders, p + 1, q, m)
        Transposed: ``W'R^-1 Z``.
    ww : ndarray, shape (orders, p + 1, p + 1)
        Summed over the clusters.
    logdet : ndarray, shape (orders,)
        Log-determinant of all residual correlation matrices.
    """

    zz: FloatArray
    zw: FloatArray
    ww: FloatArray
    logdet: FloatArray
