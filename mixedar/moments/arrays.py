"""
Whitened cross-products of a block of clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """
    Whitened cross-products of a block of m clusters.

    The first axis holds the values and, when asked for, the first derivatives
    by the `k` unconstrained residual parameters and the second derivatives by
    pairs of them, row by row of the lower triangle: `orders` is 1, or
    ``1 + k + k (k + 1) / 2``.

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

    @property
    def k(self) -> int:
        """Number of residual parameters of the derivatives, 0 without them."""
        return (math.isqrt(8 * len(self.ww) + 1) - 3) // 2

    def second(self, i: int, j: int) -> int:
        """Place of the second derivatives by parameters `i` and `j`."""
        i, j = max(i, j), min(i, j)
        return 1 + self.k + i * (i + 1) // 2 + j
