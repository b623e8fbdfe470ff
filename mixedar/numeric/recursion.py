"""
Recursions from row to row, of all rows at once.

A linear recursion is a triangular system with few bands, which LAPACK solves at the
cost of the rows.  The recursion of covariances that conditioning makes is not linear;
steps of it combine to steps of the same form, so that all prefixes take a number of
passes that is the logarithm of the rows (Sarkka, S. and Garcia-Fernandez, A. F., 2021,
Temporal parallelization of Bayesian smoothers, IEEE Transactions on Automatic Control
66, 299-306).

Matrices lie along the last axis, one a row, as in :mod:`mixedar.numeric.linalg`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dtbtrs

from mixedar._types import FloatArray
from mixedar.numeric.linalg import bmm


class LinearRecursion:
    """
    ``x_t = G_t x_{t-1} + b_t`` from ``x_{-1} = 0`` on.

    Parameters
    ----------
    matrices : ndarray, shape (d, d, n)
        Zero where a recursion begins anew.
    """

    def __init__(self, matrices: FloatArray) -> None:
        d, _, n = matrices.shape
        # column j of the bands holds what x_j adds to later rows
        bands = np.zeros((n, d, 2 * d))
        bands[:, :, 0] = 1.0
        for a in range(d):
            for b in range(d):
                bands[:-1, b, d + a - b] = -matrices[a, b, 1:]
        self._bands = bands.reshape(n * d, 2 * d).T
        self._work: FloatArray | None = None

    def forward(self, b: FloatArray, *, overwrite: bool = False) -> FloatArray:
        """
        All ``x``, of the shape of `b`, (d, ..., n).

        They may share memory with what is found later, and take the place of `b`.
        """
        return self._solved(b, "N", overwrite)

    def backward(self, b: FloatArray) -> FloatArray:
        """``x_t = G_{t+1}' x_{t+1} + b_t``, from the last row to the first."""
        return self._solved(b, "T", False)

    def _solved(self, b: FloatArray, trans: str, overwrite: bool) -> FloatArray:
        if b.size == 0:  # LAPACK's wrapper writes where there is nothing
            return b
        d, inner = len(b), (*b.shape[1:], len(b))
        # the numbers of a row side by side; fresh memory is dearer than the arithmetic
        if d > 1:
            if self._work is None or self._work.shape != inner or not overwrite:
                self._work = np.empty(inner)
            right, overwrite = self._work, True
            np.copyto(right, np.moveaxis(b, 0, -1))
        else:
            right = np.ascontiguousarray(b)
        found, _ = dtbtrs(
            self._bands,
            right.reshape(-1, inner[-2] * d).T,
            uplo="L",
            trans=trans,
            diag="U",
            overwrite_b=overwrite,
        )
        return np.asarray(np.moveaxis(found.T.reshape(inner), -1, 0))


class Filter:
    """
    ``x_t = b_t - sum_j c_j x_{t-j}`` with constant coefficients, from zeros on.

    Parameters
    ----------
    coefficients : ndarray, shape (q,)
    n : int
        Number of rows.
    """

    def __init__(self, coefficients: FloatArray, n: int) -> None:
        self._bands = np.empty((1 + len(coefficients), n), order="F")
        self._bands[0], self._bands[1:] = 1.0, coefficients[:, None]

    def __call__(self, b: FloatArray) -> FloatArray:
        """All ``x``, of the shape of `b`, (..., n); it may be `b` itself."""
        if len(self._bands) == 1 or b.size == 0:
            return b
        right = b.reshape(-1, b.shape[-1]).T
        found, _ = dtbtrs(self._bands, right, uplo="L", diag="U")
        return np.asarray(found.T.reshape(b.shape))


class Conditioning(NamedTuple):
    """
    Steps ``P -> C + A P (I + J P)^-1 A'`` of covariances, shapes (d, d, n).

    What is known of a state, with `n` steps that move it and observe it.
    """

    a: FloatArray
    c: FloatArray
    j: FloatArray

    def some(self, where: slice) -> Conditioning:
        """Some of the steps."""
        return Conditioning(*(x[..., where] for x in self))

    def after(self, first: Conditioning) -> Conditioning:
        """Each step after one of `first`, as one."""
        back = first.a.transpose(1, 0, 2)
        kept = bmm(self._gain(first.c), first.a)
        a = bmm(self.a, kept)
        return Conditioning(
            a, self.applied(first.c), first.j + bmm(back, bmm(self.j, kept))
        )

    def applied(self, p: FloatArray) -> FloatArray:
        """Covariances after the steps, shape (d, d, n)."""
        moved = bmm(bmm(self.a, self._gain(p)), bmm(p, self.a.transpose(1, 0, 2)))
        return self.c + (moved + moved.transpose(1, 0, 2)) / 2.0

    def _gain(self, p: FloatArray) -> FloatArray:
        """``(I + P J)^-1``."""
        d = len(p)
        inner = bmm(p, self.j)
        inner[range(d), range(d)] += 1.0
        if d == 1:
            return np.asarray(1.0 / inner)
        inverse = np.asarray(np.linalg.inv(inner.transpose(2, 0, 1)), dtype=np.float64)
        return inverse.transpose(1, 2, 0)

    def prefixes(self) -> FloatArray:
        """Covariances after each step, the first from ``P = 0``, shape (d, d, n)."""
        n = self.c.shape[-1]
        if n == 1:
            return self.c
        even, odd = self.some(slice(0, n - n % 2, 2)), self.some(slice(1, None, 2))
        out = np.empty_like(self.c)
        out[..., 1::2] = odd.after(even).prefixes()
        out[..., 0] = self.c[..., 0]
        out[..., 2::2] = self.some(slice(2, None, 2)).applied(out[..., 1:-1:2])
        return out
