"""
Derivatives of the residual covariance, whitened.

``D = L^-1 (dR/du) L^-T`` for each residual parameter, series by series.
Series at the same positions share it, so regular data need it once.  Long series
are cut: what ``D`` says of neighbours matters, and it dies off with the
correlation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.grouped import GroupedRows
from mixedar.moments.residual_matrices import ResidualMatrices, unique_rows

__all__ = ["SlopeBlock", "residual_slopes"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

# A piece of a series has at most so many rows, fewer if many pieces differ.
_LENGTHS = (1024, 256, 64)
_OPERATIONS = 1e10
# Numbers of an array of patterns that are worked on at once.
_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class SlopeBlock:
    """
    Pieces of series with the same number of rows.

    Attributes
    ----------
    rows : ndarray of int, shape (pieces, size)
        Sorted rows of each piece.
    which : ndarray of int, shape (pieces,)
        Pattern of each piece.
    slopes : ndarray, shape (k, patterns, size, size)
        ``D`` of each pattern, by each free unconstrained parameter.
    """

    rows: IntArray
    which: IntArray
    slopes: FloatArray

    @property
    def frequency(self) -> FloatArray:
        """Pieces of each pattern, shape (patterns,)."""
        count = self.slopes.shape[1]
        return np.bincount(self.which, minlength=count).astype(np.float64)

    def moved(self, place: IntArray | None) -> SlopeBlock:
        """The same with rows numbered anew."""
        return self if place is None else replace(self, rows=place[self.rows])


def residual_slopes(fit: Any, grouped: GroupedRows) -> list[SlopeBlock]:
    """
    Whitened derivatives of the residual covariance for all series.

    Parameters
    ----------
    fit : MixedLMARResults
    grouped : GroupedRows
        The rows of the model, or some of them.

    Returns
    -------
    list of SlopeBlock
        Empty if no residual parameter is estimated.
    """
    if fit.structure.k_free == 0:
        return []
    for longest in _LENGTHS:
        pieces = _pieces(grouped, longest)
        cost = sum(len(lead) * float(lead.shape[1]) ** 3 for _, _, lead in pieces)
        if 8.0 * cost <= _OPERATIONS:
            break
    return [
        SlopeBlock(index, which, _slopes(fit, grouped, lead))
        for index, which, lead in pieces
    ]


def _pieces(
    grouped: GroupedRows, longest: int
) -> list[tuple[IntArray, IntArray, IntArray]]:
    """Rows of pieces of one size, their patterns, and rows of one piece of each."""
    first = np.flatnonzero(grouped.gaps == 0.0)
    length = np.diff(np.append(first, len(grouped.gaps)))
    whole = length <= longest
    starts, sizes = [first[whole]], [length[whole]]
    for start, rows in zip(first[~whole], length[~whole], strict=True):
        count = -(-int(rows) // longest)
        edges = start + np.linspace(0, rows, count + 1).astype(np.intp)
        starts.append(edges[:-1])
        sizes.append(np.diff(edges))
    begin, size = np.concatenate(starts), np.concatenate(sizes)
    out = []
    for n in np.unique(size):
        index = begin[size == n][:, None] + np.arange(n)
        keys = grouped.gaps[index[:, 1:]]
        if grouped.marks is not None:
            marks = grouped.marks[index].reshape(len(index), -1)
            keys = np.concatenate([keys, marks], axis=1)
        if keys.shape[1] == 0 or (keys == keys[0]).all():
            out.append((index, np.zeros(len(index), dtype=np.intp), index[:1]))
            continue
        distinct, which = unique_rows(keys)
        leaders = np.full(len(distinct), len(index))
        np.minimum.at(leaders, which, np.arange(len(index)))
        out.append((index, which, index[leaders]))
    return out


def _slopes(fit: Any, grouped: GroupedRows, lead: IntArray) -> FloatArray:
    """``D`` of every pattern, shape (k, patterns, size, size)."""
    u = np.asarray(fit._u, dtype=np.float64)
    patterns, size = lead.shape
    out = np.empty((len(u), patterns, size, size))
    together = max(_AT_ONCE // size**2, 1)
    for first in range(0, patterns, together):
        some = lead[first : first + together]
        gaps = grouped.gaps[some].copy()
        gaps[:, 0] = 0.0
        marks = np.empty((*some.shape, 0))
        if grouped.marks is not None:
            marks = grouped.marks[some]
        matrices = ResidualMatrices(fit.structure, gaps, marks)
        values = matrices.values(u)
        root = np.linalg.cholesky(matrices.matrices(values, slice(None)))
        inverse = np.linalg.inv(root)
        change = matrices.slopes(values, slice(None))
        out[:, first : first + together] = inverse @ change @ inverse.transpose(0, 2, 1)
    return out
