"""
Cholesky factors of sparse matrices: a sparse head, and a dense tail.

In an order of least degree the columns of a sparse matrix are eliminated almost
without new entries for long, and then what is left fills at once.  SuperLU takes the
first, LAPACK the rest, at the speed of products of dense matrices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg.lapack import dpotrf, dpotrs
from scipy.sparse.linalg import SuperLU, spilu, splu

from mixedar._types import FloatArray, IntArray

# The tail begins where a column has this share of the entries below it, as long as
# the squares of those of the head sum to no more than this share of the tail's cube.
_FILLED, _SPARSE = 0.05, 2.5e-3
_ON_DIAGONAL: dict[str, Any] = {
    "diag_pivot_thresh": 0.0,
    "options": {"SymmetricMode": True},
}


class SparseCholesky:
    """
    Factors of the latest of several matrices that share a pattern.

    Parameters
    ----------
    pattern : csc_array, shape (n, n)
        Symmetric, with an entry wherever one of the matrices has one.
    """

    def __init__(self, pattern: sparse.csc_array) -> None:
        self._order = _least_degree(pattern)
        self._head = _sparse_columns(pattern[self._order][:, self._order])
        none = sparse.csc_array((self._head, self.filled))
        self._below = sparse.vstack([none, sparse.eye_array(self.filled)], format="csc")
        self._forget()

    @property
    def filled(self) -> int:
        """Number of columns in the dense tail."""
        return len(self._order) - self._head

    def _forget(self) -> None:
        self._sparse: SuperLU | None = None
        self._beside, self._tail = sparse.csc_array((0, 0)), np.empty((0, 0))

    def __getstate__(self) -> dict[str, Any]:
        copy = object.__new__(type(self))
        vars(copy).update(vars(self))
        copy._forget()
        return vars(copy)

    def factor(self, matrix: sparse.csc_array) -> float:
        """
        Factor a matrix.

        Parameters
        ----------
        matrix : csc_array, shape (n, n)
            Symmetric.

        Returns
        -------
        float
            Logarithm of its determinant.

        Raises
        ------
        numpy.linalg.LinAlgError
            If it is not positive definite.
        """
        n, head = len(self._order), self._head
        turned = matrix[self._order][:, self._order].tocsc()
        self._beside = turned[:head, head:]
        # with zeros and ones in the tail's columns only the head is eliminated
        whole = sparse.hstack([turned[:, :head], self._below], format="csc")
        self._sparse = found = splu(whole, permc_spec="NATURAL", **_ON_DIAGONAL)
        columns = found.perm_c[:head]
        pivots = found.U.diagonal()[columns]
        if not (pivots > 0.0).all():
            raise np.linalg.LinAlgError("a covariance is not positive definite")
        # older SciPy returns matrices, whose * is another product
        lower = sparse.csr_array(found.L)[found.perm_r[head:]][:, columns].tocsr()
        taken = (lower * -pivots).tocsr() @ lower.T.tocsr()
        if not self._tail.size:  # its memory serves all matrices
            self._tail = np.empty((n - head, n - head))
        tail = taken.toarray(out=self._tail)
        own = turned[head:, head:].tocoo()
        tail[own.row, own.col] += own.data
        # the transpose is in LAPACK's order, and the same
        root, failed = dpotrf(tail.T, lower=1, overwrite_a=1, clean=0)
        if failed:
            raise np.linalg.LinAlgError("a covariance is not positive definite")
        self._tail = root.T
        return float(np.log(pivots).sum() + 2.0 * np.log(np.diagonal(root)).sum())

    def solve(self, b: FloatArray) -> FloatArray:
        """
        The inverse of the matrix factored last, times columns.

        Parameters
        ----------
        b : ndarray, shape (n, k)

        Returns
        -------
        ndarray, shape (n, k)
        """
        assert self._sparse is not None
        head, turned = self._head, b[self._order]
        tail = dpotrs(self._tail.T, self._sparse.solve(turned)[head:], lower=1)[0]
        turned[:head] -= self._beside @ tail
        turned[head:] = 0.0
        out = np.empty_like(turned)
        out[self._order[:head]] = self._sparse.solve(turned)[:head]
        out[self._order[head:]] = tail
        return out


def _least_degree(pattern: sparse.csc_array) -> IntArray:
    """An order of elimination that keeps factors sparse."""
    n = pattern.shape[0]
    faint = sparse.csc_array(pattern, dtype=float, copy=True)
    faint.data[:] = 1e-30
    # an incomplete factor drops it all: SuperLU only orders
    found = spilu(
        (faint + sparse.eye_array(n)).tocsc(),
        drop_tol=0.5,
        fill_factor=1,
        permc_spec="MMD_AT_PLUS_A",
        **_ON_DIAGONAL,
    )
    return np.argsort(found.perm_c)


def _sparse_columns(pattern: sparse.csc_array) -> int:
    """Number of columns before those whose factor is filled."""
    lower = sparse.tril(pattern, -1, format="csc")
    entries, ends = lower.indices.tolist(), lower.indptr.tolist()
    last, squares = len(ends) - 2, 0
    # the entries of a column are its own, and those of columns that lead to it
    leading: dict[int, list[set[int]]] = {}
    for j in range(last):
        rows = set(entries[ends[j] : ends[j + 1]])
        for other in leading.pop(j, ()):
            small, rows = sorted((rows, other), key=len)
            rows |= small
        rows.discard(j)
        side = last - j
        if len(rows) >= _FILLED * side and squares <= _SPARSE * side**3:
            return j
        squares += len(rows) ** 2
        if rows:
            leading.setdefault(min(rows), []).append(rows)
    return last
