"""
Means and sums of products of columns, which are merged without loss of digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixedar._types import FloatArray, IntArray

# Rows that are summed at a time.
_ROWS = 4096


@dataclass(frozen=True)
class Moments:
    """
    Means of columns, and sums of products of what differs from them.

    Attributes
    ----------
    count : int
        Number of rows.
    mean : ndarray, shape (k,)
    products : ndarray, shape (k, k)

    References
    ----------
    Chan, T. F., Golub, G. H. and LeVeque, R. J. (1983), Algorithms for computing the
    sample variance: analysis and recommendations, The American Statistician 37,
    242-247.
    """

    count: int
    mean: FloatArray
    products: FloatArray

    @classmethod
    def of(cls, columns: Sequence[FloatArray]) -> Moments:
        """Of columns, each of shape (n,) or (n, k), side by side."""
        n = len(columns[0])
        some = np.column_stack([x[:: max(n // _ROWS, 1)] for x in columns])
        middle, k = some.mean(axis=0), some.shape[1]
        total, products = np.zeros(k), np.zeros((k, k))
        for start in range(0, n, _ROWS):  # what a processor holds at a time
            away = np.column_stack([x[start : start + _ROWS] for x in columns])
            away -= middle
            total += np.ones(len(away)) @ away
            products += away.T @ away
        shift = total / n
        return cls(n, middle + shift, products - n * np.outer(shift, shift))

    @classmethod
    def merged(cls, parts: Sequence[Moments]) -> Moments:
        """Of the rows of all parts."""
        counts = np.array([part.count for part in parts], dtype=np.float64)
        means = np.array([part.mean for part in parts])
        total = int(counts.sum())
        mean = means[0] + counts @ (means - means[0]) / total
        between = (means - mean) * np.sqrt(counts)[:, None]
        within = np.sum([part.products for part in parts], axis=0)
        return cls(total, mean, within + between.T @ between)

    def taken(self, columns: IntArray) -> Moments:
        """Those of some columns."""
        products = self.products[np.ix_(columns, columns)]
        return Moments(self.count, self.mean[columns], products)

    @property
    def cov(self) -> FloatArray:
        """Covariance matrix, with the divisor n - 1; shape (k, k)."""
        return self.products / (self.count - 1)
