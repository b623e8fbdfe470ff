"""
Least squares on the rows of a panel, and Wald statistics of its coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.numeric.linalg import pivoted_rank, r_factor


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

    def params(self, values: FloatArray) -> FloatArray:
        """Coefficients of the original columns, shape (k,)."""
        return self.back @ values

    def cov(self, values: FloatArray) -> FloatArray:
        """Covariance of the coefficients of the original columns, shape (k, k)."""
        cov = self.back @ values @ self.back.T
        return 0.5 * (cov + cov.T)


def standardize(
    x: FloatArray, constant: int | None, center: bool | None = None
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

    Returns
    -------
    Standardized
    """
    k = x.shape[1]
    center = constant is not None if center is None else center
    means = x.mean(axis=0) if center else np.zeros(k)
    level = 1.0
    if constant is not None:
        level = float(x[0, constant])
        means[constant] = 0.0
    out = x - means
    scale = np.sqrt(np.einsum("ij,ij->j", out, out) / max(len(out), 1))
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
