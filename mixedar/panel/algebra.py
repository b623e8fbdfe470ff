"""
Least squares on the rows of a panel: which columns can have a coefficient, and Wald
statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import lstsq, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.exceptions import (
    IdentificationError,
    RankDeficiencyError,
    listing,
)
from mixedar.numeric.linalg import dependent_columns, pivoted_rank, r_factor

# Wider regressors are solved by their cross-products.
_WIDE = 200
# So many collinear columns are named.
_LISTED = 5
# Part of the length of a centred column that rounding may leave of it.
_ABSORBED = 1e-9


@dataclass(frozen=True, eq=False)
class Standardized:
    """
    Columns with a mean of zero and a length of one, and the way back.

    Years, prices in cents or tiny units would else cost digits, or be taken for
    collinear.

    Attributes
    ----------
    x : ndarray, shape (n, k)
        Standardised columns; the constant is 1.
    back : ndarray, shape (k, k)
        Turns coefficients of `x` into those of the original columns.
    """

    x: FloatArray
    back: FloatArray

    def cov(self, values: FloatArray) -> FloatArray:
        """Covariance of the coefficients of the original columns, shape (k, k)."""
        cov = self.back @ values @ self.back.T
        return 0.5 * (cov + cov.T)


def standardize(
    x: FloatArray,
    constant: int | None,
    center: bool | None = None,
    ones: FloatArray | None = None,
) -> Standardized:
    """
    Standardise the columns of a design.

    Parameters
    ----------
    x : ndarray, shape (n, k)
    constant : int or None
        Position of the constant column.
    center : bool, optional
        Subtract means, which needs a constant or effects that take them up; by
        default if there is a constant.
    ones : ndarray, shape (n,), optional
        A constant of one, where the rows of `x` are turned.

    Returns
    -------
    Standardized
    """
    k, count = x.shape[1], max(len(x), 1) if ones is None else float(ones @ ones)
    center = constant is not None if center is None else center
    means = np.zeros(k)
    if center:
        means = x.mean(axis=0) if ones is None else ones @ x / count
    level = 1.0
    if constant is not None:
        column = x[:, constant]
        level = float(column[0] if ones is None else ones @ column / count)
        means[constant] = 0.0
    out = x - (means if ones is None else np.outer(ones, means))
    scale = np.sqrt(np.einsum("ij,ij->j", out, out) / count)
    scale[scale == 0.0] = 1.0
    if constant is not None:
        scale[constant] = level
    out /= scale
    back = np.diag(1.0 / scale)
    if constant is not None:
        slopes = np.arange(k) != constant
        back[constant, slopes] = -means[slopes] / scale[slopes] / level
    return Standardized(out, back)


RANK_TOLERANCE = 1e-9
# Wide regressions go by the normal equations if each column adds this to the others.
_WELL_CONDITIONED = 0.03
# Part of a column's length up to which entity means are taken for the same: float32
# leaves 1e-7.  Covariances of fixed and random effects show no more.
MEANS_TOLERANCE = float(np.sqrt(RANK_TOLERANCE))


@dataclass(frozen=True)
class Regression:
    """
    A least-squares fit.

    Attributes
    ----------
    kept : ndarray of bool, shape (p,)
        Columns that are no linear combination of those before them.
    params : ndarray, shape (k,)
        Coefficients of the kept columns.
    bread : ndarray, shape (k, k)
        Inverse of the cross-products of the kept columns.
    resid : ndarray, shape (n,)
    """

    kept: BoolArray
    params: FloatArray
    bread: FloatArray
    resid: FloatArray

    @property
    def rank(self) -> int:
        """Number of kept columns, k."""
        return len(self.params)

    @property
    def ssr(self) -> float:
        """Sum of squared residuals."""
        return float(self.resid @ self.resid)


def column_sizes(x: FloatArray) -> FloatArray:
    """Lengths of columns, 1 for columns of zeros, shape (p,)."""
    sizes = np.sqrt(np.einsum("ij,ij->j", x, x))
    return np.where(sizes > 0.0, sizes, 1.0)


def inverse_gram(x: FloatArray) -> FloatArray:
    """Inverse of the cross-products of columns, of whatever scales, shape (k, k)."""
    sizes = np.sqrt(np.einsum("ij,ij->j", x, x))
    scale = np.outer(sizes, sizes)
    return np.asarray(np.linalg.inv(x.T @ x / scale) / scale)


def independent_columns(
    triangle: FloatArray, tolerance: float = RANK_TOLERANCE
) -> BoolArray:
    """
    Find the columns that those before them do not span.

    Parameters
    ----------
    triangle : ndarray, shape (m, p)
        R factor of a design whose columns had length 1 before any demeaning.
    tolerance : float
        Length below which what is left of a column counts as rounding error.

    Returns
    -------
    ndarray of bool, shape (p,)
    """
    kept = np.ones(triangle.shape[1], dtype=bool)
    kept[pivoted_rank(triangle, tolerance, kept.astype(np.float64))[1]] = False
    return kept


def rank_of_effects(codes: Sequence[IntArray]) -> int:
    """
    Rank of the dummies of one or two kinds of effects.

    Those of two kinds sum to the same constant in every part of the panel that
    shares no level of either with the rest: the rank is the number of levels less
    the number of parts (Abowd, Creecy and Kramarz, 2002).
    """
    numbers = [np.cumsum(np.bincount(each) > 0) - 1 for each in codes]
    count = sum(int(each[-1]) + 1 for each in numbers)
    if len(codes) < 2:
        return count
    levels = (number[each] for number, each in zip(numbers, codes, strict=True))
    return count - int(connected_parts(*levels).max()) - 1


def connected_parts(entity: IntArray, time: IntArray) -> IntArray:
    """Number of the part that each row belongs to; parts share neither code."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = int(entity.max()) + 1
    nodes = n + int(time.max()) + 1
    links = coo_matrix((np.ones(len(time)), (entity, n + time)), shape=(nodes, nodes))
    return np.asarray(connected_components(links, directed=False)[1][entity])


def regress(
    x: FloatArray,
    y: FloatArray,
    sizes: FloatArray | None = None,
    tolerance: float = RANK_TOLERANCE,
) -> Regression:
    """
    Least squares; columns spanned by earlier ones are left out.

    Parameters
    ----------
    x : ndarray, shape (n, p)
    y : ndarray, shape (n,)
    sizes : ndarray, shape (p,), optional
        Lengths of the columns before demeaning, against which rounding errors
        are judged; their present lengths by default.
    tolerance : float
        Part of a column's length that counts as rounding error.

    Returns
    -------
    Regression
    """
    p = x.shape[1]
    sizes = column_sizes(x) if sizes is None else sizes
    if _WIDE < p <= len(x):
        found = _by_normal_equations(x, y, sizes)
        if found is not None:
            return found
    joint = np.empty((len(y), p + 1))
    np.divide(x, sizes, out=joint[:, :p])
    joint[:, p] = y
    triangle = r_factor(joint)
    kept = independent_columns(triangle[:, :p], tolerance)
    if not kept.all():
        triangle = r_factor(triangle[:, np.append(kept, True)])
    k = int(kept.sum())
    root = triangle[:k, :k]
    if k:
        params = solve_triangular(root, triangle[:k, k]) / sizes[kept]
        inverse = solve_triangular(root, np.eye(k)) / sizes[kept][:, None]
    else:
        params, inverse = np.empty(0), np.empty((0, 0))
    resid = y - (x if kept.all() else x[:, kept]) @ params
    return Regression(kept, params, inverse @ inverse.T, resid)


def _by_normal_equations(
    x: FloatArray, y: FloatArray, sizes: FloatArray
) -> Regression | None:
    """Least squares of many columns that are far from dependent; None if not."""
    cross = x.T @ x
    cross /= np.outer(sizes, sizes)
    root, failed = dpotrf(cross, overwrite_a=True)
    if failed or root.diagonal().min() < _WELL_CONDITIONED:
        return None
    params, resid = np.zeros(len(sizes)), y
    for _ in range(3):  # steps of refinement give back the digits
        params = params + dpotrs(root, x.T @ resid / sizes)[0] / sizes
        resid = y - x @ params
    bread = dpotri(root, overwrite_c=True)[0]
    bread = np.triu(bread) + np.triu(bread, 1).T
    kept = np.ones(len(sizes), dtype=bool)
    return Regression(kept, params, bread / np.outer(sizes, sizes), resid)


def gaussian_llf(ssr: float, n: int, weights: FloatArray | None = None) -> float:
    """Log-likelihood of n rows at the variance ``ssr / n``, by their weights."""
    llf = -0.5 * n * (np.log(2.0 * np.pi * ssr / n) + 1.0)
    return float(llf + (0.0 if weights is None else 0.5 * np.log(weights).sum()))


def wald(params: FloatArray, cov: FloatArray) -> tuple[float, int]:
    """
    Wald statistic that all `params` are zero, and the rank of their covariance.

    Parameters
    ----------
    params : ndarray, shape (q,)
    cov : ndarray, shape (q, q)
        Of whatever rank; directions without variance are left out.

    Returns
    -------
    tuple of float and int
    """
    scale = np.sqrt(np.diag(cov))
    scale = np.where(scale > 0.0, scale, 1.0)
    values, vectors = np.linalg.eigh(cov / np.outer(scale, scale))
    keep = values > 1e-12 * max(float(values[-1]), 0.0)
    along = vectors.T @ (params / scale)
    return float((along[keep] ** 2 / values[keep]).sum()), int(keep.sum())


def check_freedom(
    df: int, rows: str, parts: str, remedy: str = "fewer regressors"
) -> None:
    """Raise if rows leave no degree of freedom to the parts of a model, in words."""
    if df <= 0:
        raise IdentificationError(f"{rows} cannot estimate {parts}; use {remedy}")


def check_collinear(x: FloatArray, names: Sequence[str], what: str) -> None:
    """
    Raise if columns are linear combinations of others, and say of which.

    Parameters
    ----------
    x : ndarray, shape (n, k)
    names : sequence of str
        Names of the columns.
    what : str
        What the columns are, for the message.

    Raises
    ------
    RankDeficiencyError
        Naming the columns.
    """
    dependent = dependent_columns(x).tolist()
    if not dependent:
        return
    k = x.shape[1]
    norms = column_sizes(x)
    independent = np.delete(np.arange(k), dependent)
    named = dependent[:_LISTED]
    basis = x[:, independent] / norms[independent]
    columns = x[:, named] / norms[named]
    if k > _WIDE:
        basis, columns = basis.T @ basis, basis.T @ columns
        # of normal equations this does not take the singular values
        weights = lstsq(basis, columns, lapack_driver="gelsy")[0]
    else:
        weights = np.linalg.lstsq(basis, columns, rcond=None)[0]
    parts = []
    for j, made_of in zip(named, weights.T, strict=True):
        used = [
            names[i]
            for i, w in zip(independent.tolist(), made_of, strict=True)
            if abs(w) > 1e-6
        ]
        if len(x) < k:
            reason = f"there are only {len(x)} rows"
        else:
            reason = f"a combination of {listing(used)}" if used else "zero everywhere"
        parts.append(f"{names[j]!r} ({reason})")
    if len(dependent) > _LISTED:
        parts.append(f"{len(dependent) - _LISTED} others")
    raise RankDeficiencyError(
        f"{what} of {k} columns have rank {len(independent)}: leave out "
        f"{', '.join(parts)}, or another column of the same combination"
    )


class Varying(NamedTuple):
    """Columns that keep a coefficient, have no variation, or are collinear."""

    kept: list[int]
    absorbed: list[int]
    collinear: list[int]

    @property
    def gone(self) -> list[int]:
        """Columns without a coefficient, ascending."""
        return sorted(self.absorbed + self.collinear)


def varying_columns(before: FloatArray, after: FloatArray) -> Varying:
    """
    Which columns effects leave something of.

    Parameters
    ----------
    before : ndarray, shape (n, k)
        Columns less their grand means.
    after : ndarray, shape (m, k)
        The same with the effects removed.

    Returns
    -------
    Varying
        Absorbed columns have no variation once the effects are removed; collinear
        ones are then combinations of the columns before them.
    """
    total = np.sqrt(np.einsum("ij,ij->j", before, before))
    left = np.sqrt(np.einsum("ij,ij->j", after, after))
    varies = left > _ABSORBED * total
    kept = np.flatnonzero(varies)
    if not len(kept):
        return Varying([], np.flatnonzero(~varies).tolist(), [])
    dependent = dependent_columns(after[:, kept] / left[kept], 1e-9)
    return Varying(
        np.delete(kept, dependent).tolist(),
        np.flatnonzero(~varies).tolist(),
        kept[dependent].tolist(),
    )


def swept(
    values: FloatArray, codes: Sequence[IntArray], root: FloatArray | None
) -> FloatArray:
    """Columns, shape (r, k), less what (weighted) dummies of the codes explain."""
    ones = np.ones(len(values)) if root is None else root
    if not codes:
        return values
    if len(codes) == 1:
        (code,) = codes
        squares = np.bincount(code, ones**2)
        squares[squares == 0.0] = 1.0
        out = np.empty_like(values)
        for j, column in enumerate(values.T):
            means = np.bincount(code, ones * column, len(squares)) / squares
            out[:, j] = column - ones * means[code]
        return out
    dummies, found = dummy_effects(values, codes, ones)
    return values - dummies @ found


def dummy_effects(
    values: FloatArray, codes: Sequence[IntArray], root: FloatArray
) -> tuple[Any, FloatArray]:
    """Dummies of codes, weighted, sparse, and their coefficients for each column."""
    from scipy.sparse import csr_matrix, hstack
    from scipy.sparse.linalg import lsmr

    rows = np.arange(len(values))
    dummies = hstack([csr_matrix((root, (rows, code))) for code in codes]).tocsr()
    fits = [lsmr(dummies, v, atol=1e-14, btol=1e-14, maxiter=10_000) for v in values.T]
    coefficients = np.array([fit[0] for fit in fits])
    return dummies, coefficients.reshape(-1, dummies.shape[1]).T
