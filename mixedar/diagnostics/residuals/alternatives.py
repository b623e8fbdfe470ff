"""
Ways in which the covariance of normalized residuals may depart from the model.

Each is a symmetric matrix ``A`` with blocks for the series: if the errors,
whitened, had the covariance ``I + delta A`` instead of ``I``, would the data
show it?  Neighbours at a lag (serial correlation), weights on the diagonal
(variances that differ), and the derivative of the residual correlation, which
is estimated already.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray
from mixedar.diagnostics.residuals.covariance import SlopeBlock
from mixedar.diagnostics.residuals.series import LagBins, Rows, SeriesRows, pairs
from mixedar.numeric.linalg import product


class Direction(ABC):
    """A symmetric matrix with blocks for the series; it is never formed."""

    @abstractmethod
    def apply(self, x: FloatArray) -> FloatArray:
        """``A x`` for sorted columns, shape (n, k)."""

    @abstractmethod
    def diagonal(self, n: int) -> FloatArray:
        """``A_tt``, shape (n,)."""

    @abstractmethod
    def entries(self, later: Rows, earlier: Rows) -> FloatArray:
        """``A_ts`` of pairs of rows of a series."""

    @abstractmethod
    def inner(self, other: Direction) -> float:
        """``tr(A B)``."""


@dataclass(frozen=True)
class LagDirection(Direction):
    """
    One for each pair at a lag.

    Attributes
    ----------
    blocks : sequence of (later, earlier)
        Sorted rows of the pairs; within a block all pairs are equally many rows
        apart.
    count : int
        Number of pairs.
    """

    blocks: Sequence[tuple[Rows, Rows]]
    count: int

    def apply(self, x: FloatArray) -> FloatArray:
        """``A x`` for sorted columns, shape (n, k)."""
        out = np.zeros(x.shape)
        for later, earlier in self.blocks:
            if isinstance(later, slice) or 4 * len(later) < len(x):
                out[later] += x[earlier]
                out[earlier] += x[later]
                continue
            # most rows take part: shifting all of them copies less
            step = int((np.asarray(later)[:1] - np.asarray(earlier)[:1])[0])
            used = np.zeros(len(x))
            used[later] = 1.0
            here = used[step:, None]
            out[step:] += here * x[:-step]
            out[:-step] += here * x[step:]
        return out

    def diagonal(self, n: int) -> FloatArray:
        """Zeros, shape (n,)."""
        return np.zeros(n)

    def entries(self, later: Rows, earlier: Rows) -> FloatArray:
        """Not used: lags share no pairs."""
        raise AssertionError("lags share no pairs")

    def inner(self, other: Direction) -> float:
        """``tr(A B)``."""
        if isinstance(other, LagDirection):
            return 2.0 * self.count if other is self else 0.0
        return 2.0 * sum(
            float(other.entries(later, earlier).sum()) for later, earlier in self.blocks
        )


@dataclass(frozen=True)
class WeightDirection(Direction):
    """
    A diagonal matrix.

    Attributes
    ----------
    weights : ndarray, shape (n,)
        In sorted order.
    """

    weights: FloatArray

    def apply(self, x: FloatArray) -> FloatArray:
        """``A x`` for sorted columns, shape (n, k)."""
        return self.weights[:, None] * x

    def diagonal(self, n: int) -> FloatArray:
        """The weights."""
        return self.weights

    def entries(self, later: Rows, earlier: Rows) -> FloatArray:
        """Zeros."""
        return np.zeros(1)

    def inner(self, other: Direction) -> float:
        """``tr(A B)``."""
        return float(self.weights @ other.diagonal(len(self.weights)))


class SlopeDirection(Direction):
    """
    The whitened derivative of the residual correlation by one parameter.

    Parameters
    ----------
    blocks : sequence of SlopeBlock
    k : int
        Which parameter.
    n : int
        Number of rows.
    """

    def __init__(self, blocks: Sequence[SlopeBlock], k: int, n: int) -> None:
        self.blocks, self.k = blocks, k
        # where a row is: block, piece of the block, row of the piece
        self._block, self._piece, self._local = np.empty((3, n), dtype=np.intp)
        for b, block in enumerate(blocks):
            pieces, size = block.rows.shape
            self._block[block.rows] = b
            self._piece[block.rows] = np.arange(pieces)[:, None]
            self._local[block.rows] = np.arange(size)

    def apply(self, x: FloatArray) -> FloatArray:
        """``A x`` for sorted columns, shape (n, k)."""
        out = np.empty(x.shape)
        for block in self.blocks:
            slopes = block.slopes[self.k]
            if len(slopes) == 1:  # one product for all pieces
                pieces, size = block.rows.shape
                flat = x[block.rows.T].reshape(size, pieces * x.shape[1])
                image = product(slopes[0], flat).reshape(size, pieces, x.shape[1])
                out[block.rows.T] = image
                continue
            here = x[block.rows]  # (pieces, size, k)
            together = max(2_000_000 // slopes.shape[1] ** 2, 1)
            for first in range(0, len(here), together):
                part = slice(first, first + together)
                out[block.rows[part]] = np.matmul(slopes[block.which[part]], here[part])
        return out

    def diagonal(self, n: int) -> FloatArray:
        """``A_tt``, shape (n,)."""
        out = np.empty(n)
        for block in self.blocks:
            diagonals = np.einsum("pss->ps", block.slopes[self.k])
            out[block.rows] = diagonals[block.which]
        return out

    def entries(self, later: Rows, earlier: Rows) -> FloatArray:
        """``A_ts``; zero between the pieces of a long series."""
        block = self._block[later]
        same = (block == self._block[earlier]) & (
            self._piece[later] == self._piece[earlier]
        )
        out = np.zeros(len(block))
        for b, part in enumerate(self.blocks):
            here = same & (block == b)
            if here.any():
                pattern = part.which[self._piece[later][here]]
                t, s = self._local[later][here], self._local[earlier][here]
                out[here] = part.slopes[self.k][pattern, t, s]
        return out

    def inner(self, other: Direction) -> float:
        """``tr(A B)``."""
        if isinstance(other, SlopeDirection):
            return sum(
                float(
                    block.frequency
                    @ np.einsum(
                        "pst,pst->p", block.slopes[self.k], block.slopes[other.k]
                    )
                )
                for block in self.blocks
            )
        return other.inner(self)


def lag_directions(
    rows: SeriesRows, bins: LagBins, lags: Sequence[int]
) -> dict[int, LagDirection]:
    """
    One direction for each lag.

    Parameters
    ----------
    rows : SeriesRows
    bins : LagBins
    lags : sequence of int
        Numbers of the lags.

    Returns
    -------
    dict of int to LagDirection
        By lag, in the order of `lags`; without those that have no pairs.
    """
    found: dict[int, list[tuple[Rows, Rows]]] = {lag: [] for lag in lags}
    counts = dict.fromkeys(lags, 0)
    for later, earlier, distance in pairs(rows, bins.limit(max(lags))):
        index = bins.index(distance)
        low, high = int(index.min()), int(index.max())
        for lag in range(low, high + 1):
            if lag not in found:
                continue
            here = index == lag
            count = int(here.sum())
            if count == 0:
                continue
            counts[lag] += count
            if low == high:
                found[lag].append((later, earlier))
            else:
                found[lag].append((_part(later, here), _part(earlier, here)))
    return {lag: LagDirection(found[lag], counts[lag]) for lag in lags if counts[lag]}


def _part(rows: Rows, here: NDArray[np.bool_]) -> IntArray:
    if isinstance(rows, slice):
        return np.flatnonzero(here) + int(rows.start)
    return rows[here]
