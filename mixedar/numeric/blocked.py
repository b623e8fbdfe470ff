"""
Factors and products of dense matrices, block by block.

OpenBLAS starts threads for triangular products of any size, for factors from order 128
and for products from 250,000 multiplications.  What its threads save there is less than
a thread waits for another one as soon as a machine has other work.  Blocks of 64 rows
stay below; matrices so large that threads pay are halved, and their halves again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtri

from mixedar._types import FloatArray
from mixedar.numeric.linalg import THREADS_FROM, THREADS_PAY, product

# Rows of a block, and of matrices from which on LAPACK takes them one by one: NumPy
# inverts triangular matrices as any others.
_ROWS, _ONE_BY_ONE = 64, 16


def products(a: FloatArray, b: FloatArray) -> FloatArray:
    """
    Products of two stacks of matrices, as of ``a @ b``.

    Parameters
    ----------
    a : ndarray, shape (..., i, j)
    b : ndarray, shape (..., j, k)

    Returns
    -------
    ndarray, shape (..., i, k)
    """
    if a.shape[-2] * a.shape[-1] * b.shape[-1] <= THREADS_FROM:
        return np.asarray(a @ b, dtype=np.float64)
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left = np.broadcast_to(a, (*stack, *a.shape[-2:]))
    right = np.broadcast_to(b, (*stack, *b.shape[-2:]))
    out = np.empty((*stack, a.shape[-2], b.shape[-1]))
    for place in np.ndindex(*stack):
        out[place] = product(left[place], right[place])
    return out


def whitened_columns(
    matrix: FloatArray, columns: FloatArray
) -> tuple[FloatArray, float]:
    """
    ``L^-1 x`` of a matrix ``L L'``, by which columns become uncorrelated.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        Symmetric; its lower triangle is read.
    columns : ndarray, shape (n, m)

    Returns
    -------
    white : ndarray, shape (n, m)
    logdet : float
        ``log |L L'|``.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is not positive definite.
    """
    white, logdet = np.empty_like(columns), 0.0
    for here, left, half in _steps(matrix):
        rest = columns[here]
        if here.start:
            rest = rest - product(left, white[: here.start])
        white[here] = product(half, rest)
        logdet -= 2.0 * float(np.log(half.diagonal()).sum())
    return white, logdet


def inverse_root(matrix: FloatArray) -> tuple[FloatArray, float]:
    """
    ``L^-1`` itself, lower triangular, shape (n, n), and the log-determinant.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is not positive definite.
    """
    if len(matrix) <= _ROWS:
        half = _small_root(matrix)
        return half, -2.0 * float(np.log(half.diagonal()).sum())
    inverse, logdet = np.zeros(matrix.shape), 0.0
    before: list[slice] = []
    for here, left, half in _steps(matrix):
        for some in before:
            rest = product(
                left[:, some.start :], inverse[some.start : here.start, some]
            )
            inverse[here, some] = -product(half, rest)
        inverse[here, here] = half
        before.append(here)
        logdet -= 2.0 * float(np.log(half.diagonal()).sum())
    return inverse, logdet


def _steps(
    matrix: FloatArray,
) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
    """
    Rows of the Cholesky factor ``L``, some after the others.

    Yields where they are, what is left of the block on the diagonal, and the inverse
    of this block.
    """
    n = len(matrix)
    left = matrix if n <= _step(n) else matrix.copy()
    for here in _blocks(n):
        block = left[here, here]
        half = inverse_root(block)[0]
        yield here, left[here, : here.start], half
        below = slice(here.stop, n)
        left[below, here] = product(left[below, here], half.T)
        for some in _blocks(n, here.stop):
            rows = slice(some.start, n)
            left[rows, some] -= product(left[rows, here], left[some, here].T)


def _small_root(matrix: FloatArray) -> FloatArray:
    """``L^-1`` by LAPACK itself: NumPy's checks are more work than a small matrix."""
    root, failed = dpotrf(matrix, lower=1, clean=1)
    if failed:
        raise np.linalg.LinAlgError("a covariance is not positive definite")
    return np.asarray(dtrtri(root, lower=1)[0], dtype=np.float64)


def between(lower: FloatArray, matrix: FloatArray) -> FloatArray:
    """
    ``C M C'``, symmetric.

    Parameters
    ----------
    lower : ndarray, shape (n, n)
        ``C``, lower triangular.
    matrix : ndarray, shape (n, n)
        ``M``, symmetric.

    Returns
    -------
    ndarray, shape (n, n)
    """
    n = len(matrix)
    out = np.empty((n, n))
    for here in _blocks(n):
        inside = slice(0, here.stop)
        rows = product(lower[here, inside], matrix[inside])
        for some in _blocks(here.stop):
            used = slice(0, some.stop)
            out[here, some] = product(rows[:, used], lower[some, used].T)
            out[some, here] = out[here, some].T
    return out


def gram_of_lower(lower: FloatArray) -> FloatArray:
    """``C'C`` of a lower triangular matrix, shape (n, n)."""
    n = len(lower)
    out = np.empty((n, n))
    for here in _blocks(n):
        rows = slice(here.start, n)
        found = product(lower[rows, here].T, lower[rows, : here.stop])
        out[here, : here.stop], out[: here.stop, here] = found, found.T
    return out


def outer_of_lower(lower: FloatArray) -> FloatArray:
    """``C C'`` of a lower triangular matrix, shape (n, n)."""
    out = np.empty(lower.shape)
    for here in _blocks(len(lower)):
        for some in _blocks(here.stop):
            used = slice(0, some.stop)
            found = product(lower[here, used], lower[some, used].T)
            out[here, some], out[some, here] = found, found.T
    return out


def inverse_roots(h: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``L^-1`` of ``H = L L'``, shape (g, n, n), and ``log|H|``."""
    if len(h) > 1 and h.shape[1] < _ONE_BY_ONE:
        lower = np.linalg.cholesky(h)
        pivots = np.diagonal(lower, axis1=1, axis2=2)
        return np.linalg.inv(lower), np.asarray(2.0 * np.log(pivots).sum(axis=1))
    found = [inverse_root(matrix) for matrix in h]
    return np.array([half for half, _ in found]), np.array([log for _, log in found])


def whitened_rows(h: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``L^-1`` times rows of shape (g, n, ...), and ``log|H|``."""
    g, n = rows.shape[:2]
    if n < _ROWS:
        inverse, logs = inverse_roots(h)
        return (inverse @ rows.reshape(g, n, -1)).reshape(rows.shape), logs
    found = [
        whitened_columns(*pair) for pair in zip(h, rows.reshape(g, n, -1), strict=True)
    ]
    return np.array([y for y, _ in found]).reshape(rows.shape), np.array(
        [log for _, log in found]
    )


def whitened(inverse: FloatArray, matrices: FloatArray) -> FloatArray:
    """``L^-1 M L^-T`` of symmetric matrices, (k, g, n, n), in their place."""
    if inverse.shape[1] < _ROWS:
        return inverse @ matrices @ inverse.transpose(0, 2, 1)
    for of_one in matrices:
        for place, lower in zip(of_one, inverse, strict=True):
            place[:] = between(lower, place)
    return matrices


def outers_of_lower(lower: FloatArray) -> FloatArray:
    """``C C'`` of lower triangular matrices, shape (g, n, n)."""
    if lower.shape[1] < _ROWS:
        return products(lower, lower.transpose(0, 2, 1))
    return np.array([outer_of_lower(matrix) for matrix in lower])


def grams_of_lower(lower: FloatArray) -> FloatArray:
    """``C'C`` of lower triangular matrices, shape (g, n, n)."""
    if lower.shape[1] < _ROWS:
        return products(lower.transpose(0, 2, 1), lower)
    return np.array([gram_of_lower(matrix) for matrix in lower])


def _step(n: int) -> int:
    """Rows of the blocks of a matrix."""
    return _ROWS if n**3 < 8 * THREADS_PAY else -(-n // 2)


def _blocks(n: int, first: int = 0) -> Iterator[slice]:
    """Blocks of rows from one on."""
    step = _step(n)
    for start in range(first, n, step):
        yield slice(start, min(start + step, n))
