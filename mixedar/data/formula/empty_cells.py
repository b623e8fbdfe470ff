"""
Columns of a formula for levels, and combinations of levels, that have no rows.

They have no coefficient, and R leaves them out.  Columns that depend on others for
another reason, as a variable in two units, are not touched here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.linalg import solve_triangular

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.numeric.linalg import dependent_columns, r_factor


class Coded(Protocol):
    """A term: its columns, its factors, and which of these have levels."""

    @property
    def columns(self) -> IntArray:
        """Positions in the design."""

    @property
    def factors(self) -> frozenset[str]:
        """Names of the factors."""

    @property
    def levels(self) -> Mapping[str, Any]:
        """Levels of the categorical ones."""


@dataclass(frozen=True)
class EmptyCells:
    """
    Columns of a formula that were dropped, and what they are in the rows of the fit.

    Attributes
    ----------
    all_names : list of str
        Names of all columns of the formula.
    kept, dropped : ndarray of int
        Positions among all columns of the formula.
    weights : ndarray, shape (number kept, number dropped)
        In the fit, dropped columns are these combinations of the others.
    """

    all_names: list[str]
    kept: IntArray
    dropped: IntArray
    weights: FloatArray

    @property
    def names(self) -> list[str]:
        """Names of the columns dropped."""
        return [self.all_names[j] for j in self.dropped]

    def determined(self, matrix: FloatArray) -> BoolArray:
        """Rows of all columns, shape (n, p), that the coefficients kept predict."""
        kept, dropped = matrix[:, self.kept], matrix[:, self.dropped]
        scale = np.abs(kept) @ np.abs(self.weights) + np.abs(dropped)
        gap = np.abs(dropped - kept @ self.weights)
        return np.asarray((gap <= 1e-7 * scale).all(axis=1))


def find_empty_cells(
    matrix: FloatArray, names: Sequence[str], terms: Sequence[Coded]
) -> EmptyCells | None:
    """
    Columns that depend on those before them because levels have no rows.

    They depend on the columns of their own term and of terms that it contains,
    which are independent where every combination of levels has rows.

    Parameters
    ----------
    matrix : ndarray, shape (n, p)
    names : sequence of str
    terms : sequence of Coded

    Returns
    -------
    EmptyCells or None
    """
    dependent = dependent_columns(matrix)
    gone: set[int] = set()
    for term in terms:
        own = np.intersect1d(term.columns, dependent)
        if term.levels and len(own):
            inside = [t.columns for t in terms if t.factors <= term.factors]
            columns = np.sort(np.concatenate(inside))
            found = columns[dependent_columns(matrix[:, columns])]
            gone |= set(np.intersect1d(own, found).tolist())
    if not gone:
        return None
    dropped = np.array(sorted(gone), dtype=np.intp)
    kept = np.delete(np.arange(matrix.shape[1]), dropped)
    lengths = np.sqrt(np.einsum("ij,ij->j", matrix, matrix))
    lengths[lengths == 0.0] = 1.0
    order = np.concatenate([kept, dropped])
    factor = r_factor(matrix[:, order] / lengths[order])
    k = len(kept)
    weights = np.zeros((k, len(dropped)))
    free = np.delete(np.arange(k), dependent_columns(factor[:, :k]))
    root = r_factor(factor[:, [*free, *range(k, len(order))]])
    weights[free] = solve_triangular(
        root[: len(free), : len(free)], root[: len(free), len(free) :]
    )
    weights[np.abs(weights) < 1e-9] = 0.0
    weights *= lengths[dropped] / lengths[kept][:, None]
    return EmptyCells(list(names), kept, dropped, weights)
