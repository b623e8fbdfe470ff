"""
Whitened cross-products of a block of clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mixedar._types import FloatArray


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


class Curvature(Protocol):
    """
    Second derivatives of ``D`` and ``S`` by ``v``, of some of the clusters.

    The likelihood needs them contracted with one matrix only, which takes far
    fewer operations than the arrays when there are many parameters.
    """

    def contract(self, weight: FloatArray | None) -> FloatArray:
        """
        ``d2D + <d2S, weight>``.

        Parameters
        ----------
        weight : ndarray, shape (p + 1, p + 1), or None
            Symmetric; None for ``d2D`` alone.

        Returns
        -------
        ndarray, shape (k, k)
        """
        ...

    def arrays(self) -> FloatArray:
        """``d2S`` itself, shape (k, k, p + 1, p + 1)."""
        ...


@dataclass(frozen=True)
class ArrayCurvature:
    """
    Second derivatives that are there as arrays.

    Attributes
    ----------
    d2 : ndarray, shape (k, k)
    s2 : ndarray, shape (k, k, p + 1, p + 1)
    """

    d2: FloatArray
    s2: FloatArray

    def contract(self, weight: FloatArray | None) -> FloatArray:
        """``d2D + <d2S, weight>``; see :class:`Curvature`."""
        if weight is None:
            return self.d2
        k = len(self.d2)
        return self.d2 + (self.s2.reshape(k * k, -1) @ weight.ravel()).reshape(k, k)

    def arrays(self) -> FloatArray:
        """``d2S``; see :class:`Curvature`."""
        return self.s2


@dataclass(frozen=True)
class ClusterSums:
    """
    ``D`` and ``S`` and their derivatives by ``v = (Psi entries, u)``.

    Attributes
    ----------
    d : float
    s : ndarray, shape (p + 1, p + 1)
    d1 : ndarray, shape (k,)
    s1 : ndarray, shape (k, p + 1, p + 1)
        First derivatives, of length 0 when they were not asked for.
    curvatures : tuple of Curvature
        Second derivatives, block by block.
    """

    d: float
    s: FloatArray
    d1: FloatArray
    s1: FloatArray
    curvatures: tuple[Curvature, ...] = ()

    @classmethod
    def values(cls, d: float, s: FloatArray) -> ClusterSums:
        """Sums without derivatives."""
        return cls(d, s, np.empty(0), np.empty((0, *s.shape)))

    @property
    def k(self) -> int:
        """Number of parameters."""
        return len(self.d1)

    def second(self, weight: FloatArray | None = None) -> FloatArray:
        """``d2D + <d2S, weight>``, shape (k, k)."""
        out = np.zeros((self.k, self.k))
        for part in self.curvatures:
            out += part.contract(weight)
        return out

    @property
    def d2(self) -> FloatArray:
        """Second derivatives of ``D``, shape (k, k)."""
        return self.second()

    @property
    def s2(self) -> FloatArray:
        """Second derivatives of ``S``, shape (k, k, p + 1, p + 1)."""
        out = np.zeros((self.k, self.k, *self.s.shape))
        for part in self.curvatures:
            out += part.arrays()
        return out

    def __add__(self, other: ClusterSums) -> ClusterSums:
        return ClusterSums(
            self.d + other.d,
            self.s + other.s,
            self.d1 + other.d1,
            self.s1 + other.s1,
            self.curvatures + other.curvatures,
        )
