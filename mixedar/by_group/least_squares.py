"""
Least squares of every group at once.

The columns are orthogonalised one after the other, the groups side by side: a
step works on all rows, and sums within groups are sums of segments.  So the cost
is that of ``p (p + 1)`` passes over the data, whatever the number of groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar._types import BoolArray, FloatArray, IntArray

#: A column is dependent when the columns before it leave less of its length.
TOLERANCE = 1e-10
# What counts as zero among the weights of a combination, which carry the
# rounding of a triangular solve.
_ZERO = 1e-7


@dataclass(frozen=True)
class GroupLeastSquares:
    """
    Solutions of m regressions with the same p columns.

    Where columns of a group depend on those before them, they are left out: the
    others are its *basic* columns.

    Attributes
    ----------
    coefficients : ndarray, shape (p, m)
        Of the basic columns; 0 for those left out.
    identified : ndarray of bool, shape (p, m)
        Whether the group's rows determine a coefficient at all, whichever
        columns are left out.
    dependent : ndarray of bool, shape (p, m)
        Columns left out.
    combinations : ndarray, shape (p, p, m)
        ``combinations[:, a, i]`` are the weights with which the basic columns
        make up column a of group i; 0 if that is basic itself.
    unscaled : ndarray, shape (p, p, m)
        ``(X_i' X_i)^-1`` of the basic columns, 0 elsewhere.
    ssr : ndarray, shape (m,)
        Sums of squared residuals.
    rank, nobs : ndarray of int, shape (m,)
    fitted : ndarray, shape (n,)
    """

    coefficients: FloatArray
    identified: BoolArray
    dependent: BoolArray
    combinations: FloatArray
    unscaled: FloatArray
    ssr: FloatArray
    rank: IntArray
    nobs: IntArray
    fitted: FloatArray

    @property
    def df(self) -> IntArray:
        """Residual degrees of freedom, shape (m,)."""
        return self.nobs - self.rank

    def at(self, groups: IntArray) -> GroupLeastSquares:
        """The solutions of some groups, without fitted values."""
        found = {name: values[..., groups] for name, values in self._of_groups()}
        return GroupLeastSquares(**found, fitted=np.empty(0))

    def _of_groups(self) -> Iterator[tuple[str, NDArray[Any]]]:
        return ((name, v) for name, v in vars(self).items() if name != "fitted")

    def determined(self, x: FloatArray, groups: IntArray) -> BoolArray:
        """
        Whether ``x' beta`` follows from the rows of a group.

        Parameters
        ----------
        x : ndarray, shape (k, p)
        groups : ndarray of int, shape (k,)
            Numbers of the groups.

        Returns
        -------
        ndarray of bool, shape (k,)
            Weights on a dependent column have to come in the proportion in which
            the basic columns make it up.
        """
        out = np.ones(len(x), dtype=bool)
        lacking = np.flatnonzero(self.dependent[:, groups].any(axis=0))
        if not len(lacking):
            return out
        x, groups = x[lacking], groups[lacking]
        left_out = self.dependent[:, groups]
        basic = np.where(left_out.T, 0.0, x)
        parts = basic.T[:, None] * self.combinations[:, :, groups]
        gap = np.abs(x.T - parts.sum(axis=0))
        size = np.abs(x.T) + np.abs(parts).sum(axis=0)
        out[lacking] = (~left_out | (gap <= _ZERO * size)).all(axis=0)
        return out


def fit_rows(
    x: FloatArray,
    y: FloatArray,
    codes: IntArray,
    count: int,
    weights: FloatArray | None = None,
) -> GroupLeastSquares:
    """
    Regress y on x, rows by their weights, within each of `count` groups.

    `codes` are the groups of the rows, in any order, which the fitted values have too.
    """
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=count))])
    root = np.ones(len(y)) if weights is None else np.sqrt(weights)
    if weights is not None:
        x, y = x * root[:, None], y * root
    if (np.diff(codes) >= 0).all():
        found = fit_groups(x, y, offsets)
        fitted = found.fitted
    else:
        order = np.argsort(codes, kind="stable")
        found = fit_groups(x[order], y[order], offsets)
        fitted = np.empty(len(y))
        fitted[order] = found.fitted
    return replace(found, fitted=fitted if weights is None else fitted / root)


def joined(parts: Sequence[GroupLeastSquares]) -> GroupLeastSquares:
    """The solutions of all groups of several parts, without fitted values."""
    found = {
        name: np.concatenate([getattr(part, name) for part in parts], axis=-1)
        for name in vars(parts[0])
    }
    return replace(GroupLeastSquares(**found), fitted=np.empty(0))


def fit_groups(x: FloatArray, y: FloatArray, offsets: IntArray) -> GroupLeastSquares:
    """
    Regress y on x within each group.

    Gram and Schmidt's orthogonalisation, each projection done twice, which is as
    accurate as Householder's (Giraud, Langou and Rozloznik, 2005).

    Parameters
    ----------
    x : ndarray, shape (n, p)
        Rows sorted by group.
    y : ndarray, shape (n,)
    offsets : ndarray of int, shape (m + 1,)
        Group ``i`` holds the rows ``offsets[i]:offsets[i + 1]``; a group without
        rows has no coefficients.

    Returns
    -------
    GroupLeastSquares
    """
    sizes = np.diff(offsets)
    present = np.flatnonzero(sizes)
    found = _fit_present(x, y, offsets[:-1][present], sizes[present])
    if len(present) == len(sizes):
        return found

    of_all: dict[str, NDArray[Any]] = {}
    for name, values in vars(found).items():
        if name != "fitted":
            empty = name == "dependent"  # all columns of a group without rows
            shape = (*values.shape[:-1], len(sizes))
            of_all[name] = np.full(shape, empty, dtype=values.dtype)
            of_all[name][..., present] = values
    return replace(found, **of_all)


def _fit_present(
    x: FloatArray, y: FloatArray, starts: IntArray, sizes: IntArray
) -> GroupLeastSquares:
    p, m = x.shape[1], len(starts)

    def sums(values: FloatArray) -> FloatArray:
        return np.add.reduceat(values, starts)

    def project(column: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What the basis leaves of a column, and its coordinates, (len(basis), m)."""
        rest, weights = column.copy(), np.zeros((len(basis), m))
        for _ in range(2):
            for k, direction in enumerate(basis):
                step = sums(direction * rest)
                rest -= np.repeat(step, sizes) * direction
                weights[k] += step
        return rest, weights

    basis: list[FloatArray] = []
    factor = np.zeros((p, p, m))
    lengths = np.zeros((p, m))
    for j in range(p):
        column = np.ascontiguousarray(x[:, j])
        rest, factor[:j, j] = project(column)
        lengths[j] = np.sqrt(sums(column * column))
        left = np.sqrt(sums(rest * rest))
        basic = left > TOLERANCE * lengths[j]
        factor[j, j] = np.where(basic, left, 0.0)
        rest *= np.repeat(np.divide(1.0, left, out=np.zeros(m), where=basic), sizes)
        basis.append(rest)
    residual, weights = project(y)
    dependent = factor[np.arange(p), np.arange(p)] == 0.0
    rank = p - dependent.sum(axis=0)
    inverse = _inverse(factor)
    ssr = np.where(sizes > rank, sums(residual * residual), 0.0)
    combinations = np.zeros((p, p, m))
    identified = ~dependent
    for a in np.flatnonzero(dependent.any(axis=1)):
        made_of = np.einsum("jkm,km->jm", inverse, factor[:, a]) * dependent[a]
        matters = np.abs(made_of) * lengths > _ZERO * lengths[a]
        combinations[:, a] = np.where(matters, made_of, 0.0)
        identified &= ~matters
    return GroupLeastSquares(
        coefficients=np.einsum("jkm,km->jm", inverse, weights),
        identified=identified,
        dependent=dependent,
        combinations=combinations,
        unscaled=np.einsum("jkm,lkm->jlm", inverse, inverse),
        ssr=ssr,
        rank=rank,
        nobs=sizes,
        fitted=y - residual,
    )


def _inverse(factor: FloatArray) -> FloatArray:
    """Inverses of upper triangular factors; rows and columns without pivot are 0."""
    p, _, m = factor.shape
    inverse = np.zeros_like(factor)
    for j in range(p):
        pivot = factor[j, j]
        inverse[j, j] = np.divide(1.0, pivot, out=np.zeros(m), where=pivot > 0.0)
        for i in range(j - 1, -1, -1):
            total = np.zeros(m)
            for k in range(i + 1, j + 1):
                total += factor[i, k] * inverse[k, j]
            inverse[i, j] = -inverse[i, i] * total
    return inverse


def reasons(found: GroupLeastSquares, names: Sequence[str]) -> list[str]:
    """Why a group does not determine its coefficients; empty where it does."""
    p, m = found.coefficients.shape
    texts = [""] * m
    lacking = np.flatnonzero(~found.identified.all(axis=0))
    if not len(lacking):
        return texts
    rows = np.minimum(found.nobs[lacking], p)
    identified, dependent = found.identified[:, lacking], found.dependent[:, lacking]
    made_of = (found.combinations[:, :, lacking] != 0.0).reshape(p * p, -1)
    keys = np.ascontiguousarray(np.vstack([rows, identified, dependent, made_of]).T)
    # many groups lack the same for the same reason: word it once
    worded: dict[bytes, str] = {}
    for k, (group, key) in enumerate(zip(lacking, map(bytes, keys), strict=True)):
        if key not in worded:
            kind = made_of[:, k].reshape(p, p)
            worded[key] = _reason(
                int(found.nobs[group]), names, identified[:, k], dependent[:, k], kind
            )
        texts[group] = worded[key]
    return texts


def _reason(
    rows: int,
    names: Sequence[str],
    identified: BoolArray,
    dependent: BoolArray,
    made_of: BoolArray,
) -> str:
    p = len(names)
    if rows == 0:
        return "no row without missing values"
    if rows < p:
        cause = f"{rows} row{'s' if rows > 1 else ''} for {p} coefficients"
    else:
        parts = []
        for a in np.flatnonzero(dependent).tolist():
            basis = [repr(names[j]) for j in np.flatnonzero(made_of[:, a]).tolist()]
            what = "zero in all rows"
            if len(basis) == 1:
                what = f"proportional to {basis[0]}"
            elif basis:
                what = f"a linear combination of {', '.join(basis)}"
            parts.append(f"{names[a]!r} is {what}")
        cause = "; ".join(parts)
    known = [repr(names[j]) for j in np.flatnonzero(identified).tolist()]
    return f"{cause} (known: {', '.join(known)})" if known else cause
