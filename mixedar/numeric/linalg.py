"""
Linear algebra for many small matrices at once.

The matrices of a batch lie along the *last* axis, shape ``(q, k, m)`` for
``m`` matrices of ``q`` rows and ``k`` columns, so that a loop over ``q`` in
Python runs over contiguous vectors of length ``m`` in NumPy.  For large ``q``
or few matrices the batched routines of :mod:`numpy.linalg` take over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cho_solve
from scipy.linalg.lapack import dgeqrf, dpotrf, dpotri, dpstrf, dtpqrt, dtrtri

from mixedar._types import FloatArray, IntArray

# Up to this order an unrolled loop over vectors beats numpy.linalg's stacks.
_UNROLL = 4
# Multiplications from which OpenBLAS spreads a product over threads, ...
THREADS_FROM = 250_000
# ... and from which that saves more than a thread waits for another one.
THREADS_PAY = 2**28
# Entries of a matrix from which it does so when it adds products of two vectors.
_RANK_ONE = 8000
# Rows and columns, and terms of their products, of a piece of a large product.
_PIECE, _TERMS = 32, 240
# Columns of a wide matrix that are taken at once, and of a step of its QR.
_WIDTH, _PANEL = 64, 8
# From this order on a matrix by itself is work enough for LAPACK, and its threads.
_LARGE = 128
# Below this many matrices the overhead of Python's loop exceeds the gain.
_FEW = 256


def bmm(a: FloatArray, b: FloatArray) -> FloatArray:
    """
    Product of two batches of matrices.

    Parameters
    ----------
    a : ndarray, shape (i, j, m)
    b : ndarray, shape (j, k, m)

    Returns
    -------
    ndarray, shape (i, k, m)
    """
    i, j, m = a.shape
    if j == 0 or (m < _FEW and j <= _UNROLL):
        return np.einsum("ijm,jkm->ikm", a, b)
    if j > _UNROLL:
        out = np.matmul(a.transpose(2, 0, 1), b.transpose(2, 0, 1))
        return np.ascontiguousarray(out.transpose(1, 2, 0))
    result = np.empty((i, b.shape[1], m))
    for r in range(i):
        np.multiply(b[0], a[r, 0], out=result[r])
        for c in range(1, j):
            result[r] += b[c] * a[r, c]
    return result


def apply(a: FloatArray, x: FloatArray) -> FloatArray:
    """
    Multiply vectors by the matrix of their own cluster.

    Parameters
    ----------
    a : ndarray, shape (i, j, m)
    x : ndarray, shape (..., j, m)

    Returns
    -------
    ndarray, shape (..., i, m)
    """
    i, j, m = a.shape
    if j == 0 or (m < _FEW and j <= _UNROLL):
        return np.einsum("ijm,...jm->...im", a, x)
    if j > _UNROLL:
        flat = x.reshape(-1, j, m)
        out = np.matmul(a.transpose(2, 0, 1), flat.transpose(2, 1, 0))
        return np.ascontiguousarray(out.transpose(2, 1, 0)).reshape(*x.shape[:-2], i, m)
    result = np.empty((*x.shape[:-2], i, m))
    for r in range(i):
        target = result[..., r, :]
        np.multiply(x[..., 0, :], a[r, 0], out=target)
        for c in range(1, j):
            target += x[..., c, :] * a[r, c]
    return result


def multiply_right(a: FloatArray, matrix: FloatArray) -> FloatArray:
    """
    Multiply every matrix of a batch from the right by one and the same.

    Parameters
    ----------
    a : ndarray, shape (i, j, m)
    matrix : ndarray, shape (j, k)

    Returns
    -------
    ndarray, shape (i, k, m)
    """
    return np.matmul(matrix.T, a)


def identity_plus(factor: FloatArray, m: FloatArray) -> FloatArray:
    """
    ``I + Lambda' M Lambda`` for every ``M`` of a batch.

    Parameters
    ----------
    factor : ndarray, shape (q, q)
    m : ndarray, shape (q, q, n)
        Symmetric.

    Returns
    -------
    ndarray, shape (q, q, n)
    """
    q, _, n = m.shape
    half = product(factor.T, m.reshape(q, q * n)).reshape(q, q, n)
    out = np.matmul(factor.T, half)
    out[np.arange(q), np.arange(q)] += 1.0
    return out


def trace_product(a: FloatArray, b: FloatArray) -> FloatArray:
    """
    Trace of the product of each pair of matrices, ``tr(a_m b_m)``.

    Parameters
    ----------
    a, b : ndarray, shape (q, q, m)

    Returns
    -------
    ndarray, shape (m,)
    """
    return np.einsum("abm,bam->m", a, b)


def inverse_cholesky(a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """
    Inverse Cholesky factors and log-determinants of a batch.

    Parameters
    ----------
    a : ndarray, shape (q, q, m)
        Symmetric positive definite matrices.

    Returns
    -------
    inverse_factor : ndarray, shape (q, q, m)
        Lower triangular ``C`` with ``C a C' = I``.
    logdet : ndarray, shape (m,)
        ``log |a|``.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not positive definite.
    """
    q, _, m = a.shape
    if q > _LARGE:
        return _large_inverse_cholesky(a)
    if q > _UNROLL or (m < _FEW and q > 2):
        factor = np.linalg.cholesky(a.transpose(2, 0, 1))
        logdet = 2.0 * np.log(np.einsum("mii->mi", factor)).sum(axis=1)
        return np.linalg.inv(factor).transpose(1, 2, 0), logdet
    factor = np.zeros_like(a)
    inverse = np.zeros_like(a)
    product = np.ones(m)
    logdet = np.zeros(m)
    for i in range(q):
        pivot = a[i, i].copy()
        for k in range(i):
            pivot -= factor[i, k] ** 2
        if not (pivot > 0.0).all():
            raise np.linalg.LinAlgError("matrix is not positive definite")
        root = np.sqrt(pivot)
        factor[i, i] = root
        np.divide(1.0, root, out=inverse[i, i])
        product *= pivot
        for r in range(i + 1, q):
            entry = a[r, i].copy()
            for k in range(i):
                entry -= factor[r, k] * factor[i, k]
            factor[r, i] = entry * inverse[i, i]
    np.log(product, out=logdet)
    for c in range(q):
        for r in range(c + 1, q):
            total = factor[r, c] * inverse[c, c]
            for k in range(c + 1, r):
                total += factor[r, k] * inverse[k, c]
            inverse[r, c] = -total * inverse[r, r]
    return inverse, logdet


def _large_inverse_cholesky(a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same one matrix after the other, by LAPACK's triangular routines."""
    inverse, logdet = np.empty_like(a), np.empty(a.shape[2])
    for k in range(a.shape[2]):
        factor, failed = dpotrf(a[:, :, k], lower=1, clean=1)
        if failed:
            raise np.linalg.LinAlgError("matrix is not positive definite")
        logdet[k] = 2.0 * np.log(np.diagonal(factor)).sum()
        inverse[:, :, k] = dtrtri(factor, lower=1, overwrite_c=1)[0]
    return inverse, logdet


def product(a: FloatArray, b: FloatArray) -> FloatArray:
    """
    Matrix product in pieces too small for OpenBLAS to start threads.

    Threads gain little before a product takes a hundredth of a second; on a busy
    machine their waiting for one another can cost a hundredfold.  So the sums are
    the same, to the last digit, for any number of threads.

    Parameters
    ----------
    a : ndarray, shape (i, j)
    b : ndarray, shape (j, k)

    Returns
    -------
    ndarray, shape (i, k)
    """
    i, j = a.shape
    k = b.shape[1]
    if i * j * k <= THREADS_FROM or (i * j * k > THREADS_PAY and min(i, j, k) > _LARGE):
        return a @ b
    rows, terms, columns = i, j, k
    if j >= max(i, k):
        terms = max(THREADS_FROM // (i * k), 16)
    elif i >= k:
        rows = max(THREADS_FROM // (j * k), 1)
    else:
        columns = max(THREADS_FROM // (i * j), 1)
    if rows * terms * columns > THREADS_FROM or min(rows, columns) < 8 < min(i, k):
        # no side is short
        rows, terms, columns = _PIECE, _TERMS, _PIECE
    out = np.empty((i, k))
    for row in range(0, i, rows):
        for column in range(0, k, columns):
            here = out[row : row + rows, column : column + columns]
            left, right = a[row : row + rows], b[:, column : column + columns]
            np.matmul(left[:, :terms], right[:terms], out=here)
            for first in range(terms, j, terms):
                last = first + terms
                here += left[:, first:last] @ right[first:last]
    return out


def inverse_triangular(upper: FloatArray) -> FloatArray:
    """
    Inverse of a small upper triangular matrix.

    Parameters
    ----------
    upper : ndarray, shape (n, n)

    Returns
    -------
    ndarray, shape (n, n)

    Raises
    ------
    numpy.linalg.LinAlgError
        If a diagonal entry is zero.
    """
    if len(upper) == 0:
        return np.empty((0, 0))
    # LAPACK itself: a triangular solve wakes OpenBLAS's threads for any size
    inverse, failed = dtrtri(upper, lower=0)
    if failed:
        raise np.linalg.LinAlgError("singular matrix")
    return np.triu(inverse)


def rows_at_a_time(columns: int) -> int:
    """
    Rows of a QR step that stays in cache and below the size at which OpenBLAS
    starts threads, whose waiting costs more than they save.
    """
    return max(16000 // max(columns, 1), 2 * columns, 64)


def stacked_r_factor(
    rows: Callable[[int, int], FloatArray], n: int, columns: int
) -> FloatArray:
    """
    R factor of a tall matrix that is delivered in pieces.

    Parameters
    ----------
    rows : callable
        ``rows(start, stop)`` gives those rows, shape (stop - start, columns).
    n : int
        Number of rows.
    columns : int

    Returns
    -------
    ndarray, shape (min(n, columns), columns)
        Upper triangular, with the cross-product of the whole matrix.
    """
    factor = np.zeros((columns, columns), order="F")
    if not n or not columns:
        return factor[:n]
    # LAPACK itself: scipy's checks cost more than so small a factorisation
    first = min(max(_RANK_ONE // columns, 1), rows_at_a_time(columns), n)
    top = np.array(rows(0, first), order="F")
    done = dgeqrf(top, lwork=32 * columns, overwrite_a=1)[0][:columns]
    factor[: len(done)] = np.triu(done)
    step = rows_at_a_time(columns)
    for start in range(first, n, step):  # reflected into the triangle
        below = np.array(rows(start, min(start + step, n)), order="F")
        factor = dtpqrt(0, min(_PANEL, columns), factor, below, 1, 1)[0]
    return factor[:n]


def r_factor(x: FloatArray) -> FloatArray:
    """
    R factor of a tall matrix.

    Parameters
    ----------
    x : ndarray, shape (n, k)

    Returns
    -------
    ndarray, shape (min(n, k), k)
    """
    return stacked_r_factor(lambda a, b: x[a:b], len(x), x.shape[1])


def dependent_columns(x: FloatArray, tol: float = 1e-10) -> IntArray:
    """
    Positions of the columns that depend on those before them, in their own order.

    Parameters
    ----------
    x : ndarray, shape (n, p)
        The matrix, or any with the same cross-product.
    tol : float
        As for :func:`pivoted_rank`.

    Returns
    -------
    ndarray of int
    """
    if _WIDTH < x.shape[1] <= len(x):
        found = _by_cross_product(x, tol)
        if found is not None:
            return found
    return pivoted_rank(r_factor(x), tol)[1]


def _by_cross_product(x: FloatArray, tol: float) -> IntArray | None:
    """
    Dependent columns by the cross-product; None if its digits do not tell.

    They do not if something, but little, of a column is left by the others.
    """
    p = x.shape[1]
    norms = np.sqrt(np.einsum("ij,ij->j", x, x))
    norms[norms == 0.0] = 1.0
    thin = np.count_nonzero(x) < 0.05 * x.size
    a: Any = sparse.csr_array(x) if thin else x
    cross = np.asfortranarray((a.T @ a).toarray() if thin else a.T @ a)
    cross /= norms[:, None]
    cross /= norms
    factor, pivots, rank, failed = dpstrf(cross, tol=1e-9, lower=1, overwrite_a=1)
    if not failed:
        return np.empty(0, dtype=np.intp)
    most, few = pivots[:rank] - 1, pivots[rank:] - 1
    # what the well-conditioned columns leave of the others; twice is enough
    weights = np.zeros((p, len(few)))
    left = x[:, few] / norms[few]
    for _ in range(2):
        step = np.zeros_like(weights)
        right = (a.T @ left)[most] / norms[most, None]
        step[most] = cho_solve((factor[:rank, :rank], True), right)
        left -= a @ (step / norms[:, None])
        weights -= step
    if (np.einsum("ij,ij->j", left, left) > tol**2).any():
        return None
    # a column depends on those before it if a combination that vanishes ends in it
    weights[few, np.arange(len(few))] = 1.0
    weights[np.abs(weights) < 1e-9] = 0.0
    inner = pivoted_rank(np.ascontiguousarray(weights[::-1].T))[1]
    return np.delete(np.arange(p)[::-1], inner)[::-1]


def pivoted_rank(
    r_factor: FloatArray, tol: float = 1e-10, sizes: FloatArray | None = None
) -> tuple[int, NDArray[np.intp]]:
    """
    Numerical rank of a matrix from its R factor, and which columns to blame.

    Columns are taken in their own order: a column is dependent when what the
    columns before it leave of it is below `tol` times its length, as in R's
    ``lm``.

    Parameters
    ----------
    r_factor : ndarray, shape (k, p)
        Upper triangular (or any matrix with the same cross-product).
    tol : float
        Relative tolerance.
    sizes : ndarray, shape (p,), optional
        Lengths against which what is left is judged; those of the columns by default.

    Returns
    -------
    rank : int
    dependent : ndarray of int
        Positions of the dependent columns.
    """
    k, p = r_factor.shape
    if sizes is None:
        sizes = np.sqrt(np.einsum("ij,ij->j", r_factor, r_factor))
    scaled = r_factor / np.where(sizes > 0.0, sizes, 1.0)
    # before the first dependent column the diagonal of R is what is left of each
    small = np.abs(scaled.diagonal()) <= tol
    first = int(np.argmax(small)) if small.any() else min(k, p)
    if np.tril(scaled, -1).any():
        first = 0
    rest = scaled[first:, first:]
    basis = np.empty((k - first, min(rest.shape)), order="F")
    rank, dependent = 0, [np.empty(0, dtype=np.intp)]
    for start in range(0, p - first, _WIDTH):
        part = rest[:, start : start + _WIDTH]
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            part = part - basis[:, :rank] @ (basis[:, :rank].T @ part)
        found = _leading(part, tol)
        dependent.append(found + first + start)
        kept = np.delete(part, found, axis=1)
        basis[:, rank : rank + kept.shape[1]] = np.linalg.qr(kept)[0]
        rank += kept.shape[1]
    return first + rank, np.concatenate(dependent)


def _leading(part: FloatArray, tol: float) -> NDArray[np.intp]:
    """Columns of a few that are within `tol` of those before them."""
    if not len(part):
        return np.arange(part.shape[1])
    kept: list[int] = []
    gone: list[int] = []
    if part.shape[1] <= len(part):
        factor = np.asarray(np.linalg.qr(part, mode="r"))
        if (np.abs(factor.diagonal()) > tol).all():
            return np.empty(0, dtype=np.intp)
        part = factor
    basis = np.empty(part.shape)
    for j, column in enumerate(part.T):
        inside = basis[:, : len(kept)]
        for _ in range(2):
            column = column - inside @ (inside.T @ column)
        length = np.sqrt(column @ column)
        if length <= tol:
            gone.append(j)
        else:
            basis[:, len(kept)] = column / length
            kept.append(j)
    return np.array(gone, dtype=np.intp)


# Whole numbers up to this many are told apart without sorting.
_FEW_WHOLE = 2**16


def distinct(x: NDArray[Any]) -> tuple[NDArray[Any], IntArray]:
    """
    Distinct numbers in rising order, and for each number its place among them.

    Parameters
    ----------
    x : ndarray, shape (n,)

    Returns
    -------
    values : ndarray, shape (d,)
    which : ndarray of int, shape (n,)
    """
    if len(x) and x.min() >= 0 and x.max() < _FEW_WHOLE:
        whole = x.astype(np.intp)
        if (whole == x).all():
            values = np.flatnonzero(np.bincount(whole))
            place = np.empty(values[-1] + 1, dtype=np.intp)
            place[values] = np.arange(len(values))
            return values.astype(x.dtype), place[whole]
    values, which = np.unique(x, return_inverse=True)
    return values, which


def unique_rows(x: FloatArray) -> tuple[FloatArray, IntArray]:
    """
    Distinct rows, and for each row the place of its own among them.

    Parameters
    ----------
    x : ndarray, shape (l, f)

    Returns
    -------
    distinct : ndarray, shape (d, f)
    which : ndarray of int, shape (l,)
    """
    code = np.zeros(len(x), dtype=np.intp)
    for column in x.T:
        values, inverse = distinct(column)
        _, code = distinct(code * len(values) + inverse)
    count = int(code.max(initial=-1)) + 1
    first = np.full(count, len(x), dtype=np.intp)
    np.minimum.at(first, code, np.arange(len(x)))
    return x[first], code


# Up to this order matrices are inverted together, row by row.
_TOGETHER = 24


def inverses(a: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """
    Inverses and log-determinants of many small matrices.

    Parameters
    ----------
    a : ndarray, shape (m, n, n)
        Symmetric.

    Returns
    -------
    inverse : ndarray, shape (m, n, n)
    logdet : ndarray, shape (m,)
    sound : ndarray of bool, shape (m,)
        Which are positive definite; the others have no inverse here.
    """
    m, n, _ = a.shape
    if n > _TOGETHER:
        return _inverses_apart(a)
    # Gauss and Jordan's steps in place, of all matrices at once
    work, pivots = a.transpose(1, 2, 0).copy(), np.empty((n, m))
    change = np.empty_like(work)
    for i in range(n):
        pivots[i] = work[i, i]
        row, column = work[i] / pivots[i], work[:, i].copy()
        np.multiply(column[:, None], row, out=change)
        work -= change
        work[i] = row
        work[:, i] = -column / pivots[i]
        work[i, i] = 1.0 / pivots[i]
    sound = np.asarray((pivots > 0.0).all(axis=0))
    inverse = np.ascontiguousarray(work.transpose(2, 0, 1))
    return inverse, np.log(pivots).sum(axis=0), sound


def _inverses_apart(
    a: FloatArray,
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """The same one matrix after the other, by LAPACK's Cholesky factors."""
    inverse, logdet = np.full_like(a, np.nan), np.full(len(a), np.nan)
    for k, matrix in enumerate(a):
        factor, failed = dpotrf(matrix, lower=1)
        if not failed:
            logdet[k] = 2.0 * np.log(factor.diagonal()).sum()
            lower = np.tril(dpotri(factor, lower=1, overwrite_c=1)[0])
            inverse[k] = lower + np.tril(lower, -1).T
    return inverse, logdet, np.isfinite(logdet)


def inverse_choleskys(
    a: FloatArray,
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """
    Inverse Cholesky factors of many small matrices, some not positive definite.

    Parameters
    ----------
    a : ndarray, shape (m, n, n)
        Symmetric.

    Returns
    -------
    inverse_factor : ndarray, shape (m, n, n)
        Lower triangular ``C`` with ``C a C' = I``.
    pivots : ndarray, shape (m, n)
        Diagonal of the factor itself.
    sound : ndarray of bool, shape (m,)
        Which are positive definite; the others have no factor.
    """
    m, n, _ = a.shape
    given = np.ascontiguousarray(a.transpose(1, 2, 0))
    factor, inverse = np.zeros((n, n, m)), np.zeros((n, n, m))
    sound = np.ones(m, dtype=bool)
    for i in range(n):
        column = given[i:, i]
        if i:
            column = column - (factor[i:, :i] * factor[i, :i]).sum(axis=1)
        sound &= column[0] > 0.0
        factor[i:, i] = column / np.sqrt(column[0])
        inverse[i, i] = 1.0 / factor[i, i]
        if i:
            row = (factor[i, :i, None] * inverse[:i, :i]).sum(axis=0)
            inverse[i, :i] = -row * inverse[i, i]
    pivots = np.ascontiguousarray(np.einsum("iim->mi", factor))
    return np.ascontiguousarray(inverse.transpose(2, 0, 1)), pivots, sound


def root_of(cov: FloatArray) -> FloatArray:
    """A square root of a covariance, which may be singular."""
    try:
        return np.asarray(np.linalg.cholesky(cov), dtype=np.float64)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(cov)
        values[values < 1e-12 * values.max(initial=0.0)] = 0.0
        return spectral_root(values, vectors)


def spectral_root(values: FloatArray, vectors: FloatArray) -> FloatArray:
    """A square root of a covariance from its eigenvalues and eigenvectors."""
    return np.asarray(vectors * np.sqrt(np.clip(values, 0.0, None)))
