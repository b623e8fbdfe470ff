"""
Cholesky factors of the residual covariance of every series.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mixedar.grouped import GroupedRows
from mixedar.moments.residual_matrices import ResidualMatrices, unique_rows
from mixedar.residual import ResidualStructure

__all__ = ["series_roots"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

# Numbers in the matrices of the series that are treated at a time.
_CHUNK = 2**22


def series_roots(
    grouped: GroupedRows, structure: ResidualStructure, u: FloatArray
) -> Iterator[tuple[IntArray, FloatArray, IntArray]]:
    """
    Lower Cholesky factors of ``R``; series at the same positions share one.

    Parameters
    ----------
    grouped : GroupedRows
    structure : ResidualStructure
        Bound to the data.
    u : ndarray, shape (k_free,)

    Yields
    ------
    rows : ndarray of int, shape (m, n)
        Sorted rows of `m` series of `n` rows each.
    roots : ndarray, shape (g, n, n)
    which : ndarray of int, shape (m,)
        Which of the factors is that of each series.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not positive definite to rounding.
    """
    gaps, marks = grouped.gaps, grouped.marks
    starts = np.flatnonzero(gaps == 0.0)
    lengths = np.diff(np.append(starts, len(gaps)))
    for n in np.unique(lengths):
        here = starts[lengths == n]
        rows = here[:, None] + np.arange(n)
        keys = gaps[rows]
        if marks is not None:
            keys = np.concatenate([keys, marks[rows].reshape(len(rows), -1)], axis=1)
        keys, which = unique_rows(keys)
        leaders = np.full(len(keys), len(rows))
        np.minimum.at(leaders, which, np.arange(len(rows)))
        order = np.argsort(which, kind="stable")
        edges = np.searchsorted(which[order], np.arange(len(keys) + 1))
        step = max(1, _CHUNK // int(n) ** 2)
        for first in range(0, len(keys), step):
            last = min(first + step, len(keys))
            some = rows[leaders[first:last]]
            inside = np.empty((*some.shape, 0)) if marks is None else marks[some]
            matrices = ResidualMatrices(structure, gaps[some], inside)
            found = matrices.matrices(matrices.values(u), slice(None))
            members = order[edges[first] : edges[last]]
            roots = np.asarray(np.linalg.cholesky(found), dtype=np.float64)
            yield rows[members], roots, which[members] - first
