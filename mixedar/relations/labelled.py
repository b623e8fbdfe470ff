"""
Square matrices whose rows and columns have the names of levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mixedar._types import BoolArray, FloatArray, IntArray, without_mask
from mixedar.exceptions import LengthError, StructureError, listing, shown
from mixedar.relations.base import Relation

_ASYMMETRIC = 1e-8  # relative to the largest entry


@dataclass(frozen=True, eq=False)
class LabelledMatrix:
    """
    A symmetric matrix between named levels.

    Attributes
    ----------
    values : csr_array, shape (n, n)
    labels : Index
    what : str
        The argument, for messages.
    """

    values: sparse.csr_array
    labels: pd.Index
    what: str

    @classmethod
    def of(cls, matrix: Any, labels: Any, what: str) -> LabelledMatrix:
        """
        Read a DataFrame, or an array or sparse matrix with labels beside it.

        Raises
        ------
        LengthError
            If it is not square, or there is not a label for each row.
        StructureError
            If it is not symmetric, not finite, without labels, or has one twice.
        """
        if isinstance(matrix, pd.DataFrame):
            if labels is not None:
                raise StructureError(
                    f"{what} is a DataFrame, which has labels: leave labels= out"
                )
            rows, columns = matrix.index, matrix.columns
            if rows.has_duplicates or columns.has_duplicates:
                twice = (rows if rows.has_duplicates else columns).duplicated()
                name = (rows if rows.has_duplicates else columns)[twice][0]
                raise StructureError(f"{what}: the label {shown(name)} stands twice")
            if len(rows) != len(columns) or set(rows) != set(columns):
                other = [name for name in columns if name not in set(rows)]
                detail = f" (columns {listing(other)})" if other else ""
                raise StructureError(
                    f"{what}: index and columns have to hold the same labels, those of "
                    f"the levels{detail}. Without an index, as read from a CSV file, "
                    "write K.set_axis(K.columns)"
                )
            labels, matrix = rows, matrix[rows].to_numpy()
        elif labels is None:
            raise StructureError(
                f"{what} has no labels: pass a DataFrame with the levels as index and "
                "columns, or labels= beside the matrix"
            )
        if np.iscomplexobj(matrix):
            raise StructureError(f"{what} is complex; relations are real numbers")
        found = sparse.csr_array(without_mask(matrix), dtype=np.float64)
        if found.ndim != 2 or found.shape[0] != found.shape[1]:
            raise LengthError(
                f"{what} has the shape {found.shape}; it has to be square"
            )
        index = pd.Index(labels, tupleize_cols=False)
        if len(index) != found.shape[0]:
            raise LengthError(
                f"{what}: {len(index)} labels for a matrix of {found.shape[0]} rows"
            )
        if index.has_duplicates:
            name = index[index.duplicated()][0]
            raise StructureError(f"{what}: the label {shown(name)} stands twice")
        if not np.isfinite(found.data).all():
            at = int(np.flatnonzero(~np.isfinite(found.data))[0])
            row = int(np.searchsorted(found.indptr, at, side="right")) - 1
            raise StructureError(
                f"{what}: the row of {shown(index[row])} has a value that is missing "
                "or not finite"
            )
        apart = abs(found - found.T)
        if apart.nnz and apart.max() > _ASYMMETRIC * abs(found).max():
            worst = apart.tocoo()
            at = int(worst.data.argmax())
            i, j = int(worst.row[at]), int(worst.col[at])
            raise StructureError(
                f"{what} is not symmetric: {shown(index[i])} with {shown(index[j])} is "
                f"{found[i, j]:g}, the other way round {found[j, i]:g}"
            )
        return cls((found + found.T) / 2.0, index, what)

    def numbers(self, levels: pd.Index, factor: str) -> IntArray:
        """
        Rows of some levels.

        Raises
        ------
        StructureError
            If a level is not there.
        """
        found = self._found(levels)
        lost = np.flatnonzero(found < 0)
        if len(lost):
            names = levels[lost].tolist()
            example = f"; {self.what} has labels such as {shown(self.labels[0])}"
            kinds = [
                "text" if isinstance(one, str) else "numbers"
                for one in (names[0], self.labels[0])
            ]
            if kinds[0] != kinds[1] and not isinstance(names[0], tuple):
                example += (
                    f". Its labels are {kinds[1]} and the levels {kinds[0]}: bring "
                    f"them to one type, as with data[{factor!r}].astype("
                    f"{'str' if kinds[1] == 'text' else 'int'})"
                )
            raise StructureError(
                f"{self.what}: {len(lost)} of {len(levels)} levels of {factor!r} are "
                f"not among its labels: {listing(names)}{example}"
            )
        return found

    def _found(self, levels: pd.Index) -> IntArray:
        """Rows of levels, -1 for those that are not there."""
        wanted = pd.Index(levels.tolist(), tupleize_cols=False)
        return np.asarray(self.labels.get_indexer(wanted), dtype=np.intp)

    def knows(self, levels: pd.Index) -> BoolArray:
        """Which levels have a row."""
        return np.asarray(self._found(levels) >= 0)

    def dense(self, rows: IntArray) -> FloatArray:
        """The matrix of some rows and columns."""
        return np.asarray(self.values[rows][:, rows].toarray(), dtype=np.float64)


class LabelledRelation(Relation):
    """
    A relation of the levels that a matrix names.

    Parameters
    ----------
    matrix : LabelledMatrix
    """

    def __init__(self, matrix: LabelledMatrix) -> None:
        self._matrix = matrix

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self._matrix.labels):,} levels"

    def knows(self, levels: pd.Index) -> BoolArray:
        return self._matrix.knows(levels)

    def surplus(self, levels: pd.Index) -> list[object]:
        known = set(levels.tolist())
        return [label for label in self._matrix.labels.tolist() if label not in known]
