"""
Derivatives of the residual covariance, whitened.

``D = L^-1 (dR/du) L^-T`` for each residual parameter, series by series.
Series at the same positions share it, so regular data need it once.  Long series
are cut: what ``D`` says of neighbours matters, and it dies off with the
correlation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.diagnostics.residuals.series import SeriesRows, rows_of
from mixedar.engine.effects import whiten_series
from mixedar.engine.residuals import ResidualMatrices, unique_rows
from mixedar.engine.rows import GroupedRows
from mixedar.numeric.linalg import product

# A piece of a series has at most so many rows, fewer if many pieces differ.
_LENGTHS = (1024, 256, 64)
_OPERATIONS = 1e10
# Numbers of an array of patterns that are worked on at once.
_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class SlopeBlock:
    """
    Pieces of series with the same number of rows.

    Attributes
    ----------
    rows : ndarray of int, shape (pieces, size)
        Sorted rows of each piece.
    which : ndarray of int, shape (pieces,)
        Pattern of each piece.
    slopes : ndarray, shape (k, patterns, size, size)
        ``D`` of each pattern, by each free unconstrained parameter.
    """

    rows: IntArray
    which: IntArray
    slopes: FloatArray

    @property
    def frequency(self) -> FloatArray:
        """Pieces of each pattern, shape (patterns,)."""
        count = self.slopes.shape[1]
        return np.bincount(self.which, minlength=count).astype(np.float64)

    def moved(self, place: IntArray | None) -> SlopeBlock:
        """The same with rows numbered anew."""
        return self if place is None else replace(self, rows=place[self.rows])


def residual_slopes(fit: Any, grouped: GroupedRows) -> list[SlopeBlock]:
    """
    Whitened derivatives of the residual covariance for all series.

    Parameters
    ----------
    fit : MixedLMARResults
    grouped : GroupedRows
        The rows of the model, or some of them.

    Returns
    -------
    list of SlopeBlock
        Empty if no residual parameter is estimated.
    """
    if fit.structure.k_free == 0:
        return []
    for longest in _LENGTHS:
        pieces = _pieces(grouped, longest)
        cost = sum(len(lead) * float(lead.shape[1]) ** 3 for _, _, lead in pieces)
        if 8.0 * cost <= _OPERATIONS:
            break
    return [
        SlopeBlock(index, which, _slopes(fit, grouped, lead))
        for index, which, lead in pieces
    ]


def _pieces(
    grouped: GroupedRows, longest: int
) -> list[tuple[IntArray, IntArray, IntArray]]:
    """Rows of pieces of one size, their patterns, and rows of one piece of each."""
    first = np.flatnonzero(grouped.gaps == 0.0)
    length = np.diff(np.append(first, len(grouped.gaps)))
    whole = length <= longest
    starts, sizes = [first[whole]], [length[whole]]
    for start, rows in zip(first[~whole], length[~whole], strict=True):
        count = -(-int(rows) // longest)
        edges = start + np.linspace(0, rows, count + 1).astype(np.intp)
        starts.append(edges[:-1])
        sizes.append(np.diff(edges))
    begin, size = np.concatenate(starts), np.concatenate(sizes)
    out = []
    for n in np.unique(size):
        index = begin[size == n][:, None] + np.arange(n)
        keys = grouped.gaps[index[:, 1:]]
        if grouped.marks is not None:
            marks = grouped.marks[index].reshape(len(index), -1)
            keys = np.concatenate([keys, marks], axis=1)
        if keys.shape[1] == 0 or (keys == keys[0]).all():
            out.append((index, np.zeros(len(index), dtype=np.intp), index[:1]))
            continue
        distinct, which = unique_rows(keys)
        leaders = np.full(len(distinct), len(index))
        np.minimum.at(leaders, which, np.arange(len(index)))
        out.append((index, which, index[leaders]))
    return out


def _slopes(fit: Any, grouped: GroupedRows, lead: IntArray) -> FloatArray:
    """``D`` of every pattern, shape (k, patterns, size, size)."""
    u = np.asarray(fit._u, dtype=np.float64)
    patterns, size = lead.shape
    out = np.empty((len(u), patterns, size, size))
    together = max(_AT_ONCE // size**2, 1)
    for first in range(0, patterns, together):
        some = lead[first : first + together]
        gaps = grouped.gaps[some].copy()
        gaps[:, 0] = 0.0
        marks = np.empty((*some.shape, 0))
        if grouped.marks is not None:
            marks = grouped.marks[some]
        matrices = ResidualMatrices(fit.structure, gaps, marks)
        values = matrices.values(u)
        root = np.linalg.cholesky(matrices.matrices(values, slice(None)))
        inverse = np.linalg.inv(root)
        change = matrices.slopes(values, slice(None))
        out[:, first : first + together] = inverse @ change @ inverse.transpose(0, 2, 1)
    return out


# Of more rows a random sample of the groups is enough for standard errors.
_ENOUGH_ROWS = 100_000
_ENOUGH_GROUPS = 200
# Of long groups the beginning: the fit of their effects hardly matters there.
_ENOUGH_OF_GROUP = 5_000


@dataclass(frozen=True)
class ResidualTheory:
    """
    Normalized residuals and their covariance at the estimates.

    Attributes
    ----------
    rows : SeriesRows
        In the order of time.
    model : GroupedRows
        The same rows as the residual structure sees them; groups hold the same
        places in both.
    place : ndarray of int, shape (n,), or None
        Where the rows of `model` stand in `rows`; None for the same order.
    values : ndarray, shape (n,)
        Normalized residuals in the order of `rows`.
    z : ndarray, shape (n, q)
        ``Z*``.
    x : ndarray, shape (n, p)
        ``X* T`` with ``T T' = (X*'M X*)^-1``.
    g : ndarray, shape (n, q)
        ``G``: within a cluster ``M = I - G G'``.
    t : ndarray, shape (p, p)
        ``T``.
    f : ndarray, shape (n, p)
        ``F = M X* T``.
    """

    rows: SeriesRows
    model: GroupedRows
    place: IntArray | None
    values: FloatArray
    z: FloatArray
    x: FloatArray
    g: FloatArray
    t: FloatArray
    f: FloatArray

    @property
    def n(self) -> int:
        """Number of observations."""
        return len(self.values)

    @cached_property
    def factors(self) -> FloatArray:
        """``[G F]``, shape (n, q + p): ``Cov(u) = I - [G F][G F]'``."""
        return np.concatenate([self.g, self.f], axis=1)

    @cached_property
    def variance(self) -> FloatArray:
        """Variances of the normalized residuals, shape (n,)."""
        lost = np.einsum("ij,ij->i", self.factors, self.factors)
        return np.maximum(1.0 - lost, 0.0)

    def shrink(self, x: FloatArray) -> FloatArray:
        """``M x`` for columns of shape (n, k)."""
        return x - spread(self.g, self.g, x, self.rows.offsets)

    def to_model(self, x: FloatArray) -> FloatArray:
        """Bring rows into the order of the residual structure."""
        return x if self.place is None else x[self.place]

    def from_model(self, x: FloatArray) -> FloatArray:
        """Bring rows from the order of the residual structure."""
        if self.place is None:
            return x
        out = np.empty_like(x)
        out[self.place] = x
        return out


def cluster_products(a: FloatArray, b: FloatArray, offsets: IntArray) -> FloatArray:
    """
    ``a_i'b_i`` for every cluster.

    Parameters
    ----------
    a : ndarray, shape (n, j)
    b : ndarray, shape (n, k)
    offsets : ndarray of int, shape (m + 1,)

    Returns
    -------
    ndarray, shape (m, j, k)
    """
    m, j, k = len(offsets) - 1, a.shape[1], b.shape[1]
    out = np.empty((m, j, k))
    if m == 1:
        out[0] = product(a.T, b)
        return out
    starts = offsets[:-1]
    for column in range(j):
        out[:, column] = np.add.reduceat(a[:, column : column + 1] * b, starts, axis=0)
    return out


def spread(
    left: FloatArray, right: FloatArray, x: FloatArray, offsets: IntArray
) -> FloatArray:
    """
    ``left_i right_i'x_i`` within every cluster.

    Parameters
    ----------
    left, right : ndarray, shape (n, q)
    x : ndarray, shape (n, k)
    offsets : ndarray of int, shape (m + 1,)

    Returns
    -------
    ndarray, shape (n, k)
    """
    out = np.zeros(x.shape)
    if left.shape[1] == 0:
        return out
    inner = cluster_products(right, x, offsets)
    codes = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    for a in range(left.shape[1]):
        out += left[:, a : a + 1] * inner[:, a][codes]
    return out


def residual_theory(fit: Any) -> ResidualTheory:
    """
    Whitened designs of a fit, and what follows from them.

    Parameters
    ----------
    fit : MixedLMARResults
        With its data.

    Returns
    -------
    ResidualTheory
    """
    rows, model = rows_of(fit), fit.model._grouped
    place = _places(rows, model)
    columns = np.concatenate([fit.model._random_design(), fit.model.exog], axis=1)
    white = whiten_series(
        np.ascontiguousarray(model.sort(columns), dtype=np.float64),
        model,
        fit.structure,
        fit._residual_values,
    )
    white = rows.sort(model.unsort(white)) if place is not None else white
    q = white.shape[1] - fit.k_fe
    z, x = np.ascontiguousarray(white[:, :q]), np.ascontiguousarray(white[:, q:])
    g = _cluster_roots(z, fit._effects.roots, rows.offsets)
    shrunk = x - spread(g, g, x, rows.offsets)
    information = product(x.T, shrunk)
    size = np.sqrt(np.diag(information))
    root = np.linalg.cholesky(information / np.outer(size, size))
    t = np.linalg.inv(root).T / size[:, None]
    values = rows.sort(fit.residuals("normalized").to_numpy())
    return ResidualTheory(
        rows, model, place, values, z, product(x, t), g, t, product(shrunk, t)
    )


def _places(rows: SeriesRows, model: GroupedRows) -> IntArray | None:
    """Where the model's sorted rows stand among those in the order of time."""
    if rows.grouped is model:
        return None
    n = len(rows.first)
    numbers = np.arange(n)
    caller = numbers if model.order is None else model.order
    inverse = np.empty(n, dtype=np.intp)
    inverse[numbers if rows.grouped.order is None else rows.grouped.order] = numbers
    place = inverse[caller]
    return None if (place == numbers).all() else place


def _cluster_roots(z: FloatArray, roots: FloatArray, offsets: IntArray) -> FloatArray:
    """``Z* C'`` with the conditional covariance ``scale C'C`` of each cluster."""
    q = z.shape[1]
    out = np.zeros(z.shape)
    if q > 8:
        for i, (start, end) in enumerate(pairwise(offsets)):
            out[start:end] = z[start:end] @ roots[:, :, i].T
        return out
    codes = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    for a in range(q):
        for b in range(q):
            out[:, a] += roots[a, b][codes] * z[:, b]
    return out


def row_sd(fit: Any) -> FloatArray:
    """
    Residual standard deviations of the rows relative to ``sigma``.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    ndarray, shape (n,)
        In the caller's order; ones without a variance function.
    """
    grouped = fit.model._grouped
    n = len(grouped.gaps)
    if grouped.marks is None:
        return np.ones(n)
    kinds, which = unique_rows(grouped.marks)
    positions = np.column_stack([np.zeros(len(kinds)), kinds])
    logs = fit.structure.log_sd(positions, np.asarray(fit._u, dtype=np.float64))
    if logs is None:
        return np.ones(n)
    sd = np.exp(np.broadcast_to(logs.value, len(kinds)))
    return grouped.unsort(np.asarray(sd[which], dtype=np.float64))


def residual_values(fit: Any, kind: str) -> FloatArray:
    """
    Residuals of a kind.

    Parameters
    ----------
    fit : MixedLMARResults
    kind : {"raw", "pearson", "normalized"}
        As in ``residuals``.

    Returns
    -------
    ndarray, shape (n,)
        In the caller's order.
    """
    return np.asarray(fit.residuals(kind), dtype=np.float64)


def residual_factors(fit: Any, rows: SeriesRows, *, whitened: bool) -> FloatArray:
    """
    What predicted and estimated effects take away from the residuals' covariance.

    Parameters
    ----------
    fit : MixedLMARResults
    rows : SeriesRows
    whitened : bool
        Of normalized residuals, ``I - A A'``; or of Pearson residuals,
        ``R - A A'`` with the correlation matrix ``R``.

    Returns
    -------
    ndarray, shape (n, q + p)
        ``A``; its first ``q`` columns are for pairs of a cluster.
    """
    theory = residual_theory(fit)
    if whitened:
        return theory.factors
    sd = rows.sort(row_sd(fit))[:, None]
    z = rows.sort(np.asarray(fit.model._random_design(), dtype=np.float64)) / sd
    g = _cluster_roots(z, fit._effects.roots, rows.offsets)
    # F = (X - Z K Z'R^-1 X) T, with the same T
    x = rows.sort(np.asarray(fit.model.exog, dtype=np.float64)) / sd
    f = product(x, theory.t) - spread(g, theory.g, theory.x, rows.offsets)
    return np.concatenate([g, f], axis=1)


def thinned(theory: ResidualTheory) -> ResidualTheory:
    """
    Some of the groups, or the beginnings of long ones, if there are many rows.

    Standard errors need sums over all pairs; those of 100,000 rows, scaled, are
    good to a percent.  The part of the fixed effects, which couples all groups
    and is of the order of p / n, is left out of the sample.

    Parameters
    ----------
    theory : ResidualTheory

    Returns
    -------
    ResidualTheory
        `theory` itself if it is small.
    """
    rows = theory.rows
    offsets = rows.offsets
    m = len(offsets) - 1
    if theory.n <= _ENOUGH_ROWS:
        return theory
    keep = min(max(m * _ENOUGH_ROWS // theory.n, _ENOUGH_GROUPS), m)
    chosen = np.sort(np.random.default_rng(0).choice(m, keep, replace=False))
    sizes = np.diff(offsets)[chosen]
    if theory.place is None:  # both orders have the same beginnings
        sizes = np.minimum(sizes, max(_ENOUGH_ROWS // keep, _ENOUGH_OF_GROUP))
    edges = np.concatenate([[0], np.cumsum(sizes)])
    shift = np.repeat(offsets[chosen] - edges[:-1], sizes)
    index = np.arange(edges[-1]) + shift
    model = theory.model.part(index, edges)
    some = SeriesRows(
        rows.grouped.part(index, edges), rows.first[index], rows.time[index], rows.unit
    )
    return ResidualTheory(
        some,
        model,
        None if theory.place is None else theory.place[index] - shift,
        theory.values[index],
        theory.z[index],
        np.empty((len(index), 0)),
        theory.g[index],
        np.empty((0, 0)),
        np.empty((len(index), 0)),
    )
