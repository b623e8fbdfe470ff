"""
What the likelihood needs of the data at one point of the parameter space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClusterSums"]

FloatArray = NDArray[np.float64]


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
    d2 : ndarray, shape (k, k)
    s2 : ndarray, shape (k, k, p + 1, p + 1)
        The derivatives have length 0 when they were not asked for.
    """

    d: float
    s: FloatArray
    d1: FloatArray
    s1: FloatArray
    d2: FloatArray
    s2: FloatArray

    def __add__(self, other: ClusterSums) -> ClusterSums:
        return ClusterSums(
            self.d + other.d,
            self.s + other.s,
            self.d1 + other.d1,
            self.s1 + other.s1,
            self.d2 + other.d2,
            self.s2 + other.s2,
        )
