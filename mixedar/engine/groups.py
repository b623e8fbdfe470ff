"""
What every group contributes: its random effects, and its part of the likelihood.

With ``W_i = [X_i y_i]`` the log-likelihood is a function of ``sum_i log|H_i|``
and ``S = sum_i W_i' H_i^-1 W_i``.  Deleting a group takes its terms away from
these sums and from their derivatives, exactly and under REML as well: the
determinant ``|X'H^-1 X|`` is one of what is left of ``S``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks import (
    ScaledBlock,
    likelihood_blocks,
    product_blocks,
    scaled_block,
)
from mixedar.engine.blocks.base import ParameterPoint, ParameterPoints
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.level import (
    Apart,
    CrossProducts,
    Directions,
    eliminate,
    eliminate_at_points,
    lower_pairs,
    slopes_of,
)
from mixedar.engine.likelihood import cluster_sums
from mixedar.engine.residuals import (
    is_independent,
    markov_of,
    whiten_series,
)
from mixedar.engine.rows import GroupedRows
from mixedar.numeric.linalg import distinct, multiply_right, product
from mixedar.residual import ResidualStructure

if TYPE_CHECKING:
    from typing_extensions import Self

# Numbers that the derivatives of a chunk of groups may take.
_NUMBERS = 2**24
# Rows of groups whose inverse covariances are written out.
_SHARED_ROWS = 40


def group_products(
    x: FloatArray,
    grouped: GroupedRows,
    structure: ResidualStructure,
    u: FloatArray,
) -> FloatArray:
    """``X'R^-1 X`` of every group, shape (k, k, m); `x` in sorted order, (n, k)."""
    white = np.ascontiguousarray(whiten_series(x, grouped, structure, u).T)
    k, starts = len(white), grouped.offsets[:-1]
    out, products = np.empty((k, k, grouped.n_groups)), np.empty(len(x))
    for a in range(k):
        for b in range(a, k):
            np.multiply(white[a], white[b], out=products)
            out[a, b] = out[b, a] = np.add.reduceat(products, starts)
    return out


@dataclass(frozen=True)
class PredictedEffects:
    """
    Conditional distribution of the random effects given the data.

    Attributes
    ----------
    means : ndarray, shape (m, q)
        Best linear unbiased predictions.
    roots : ndarray, shape (q, q, m)
        ``C`` with conditional covariance ``scale * C'C``; the fixed effects
        are taken as known.
    """

    means: FloatArray
    roots: FloatArray


def predict_effects(
    z: FloatArray,
    resid: FloatArray,
    grouped: GroupedRows,
    structure: ResidualStructure,
    u: FloatArray,
    z_map: FloatArray,
    factor: FloatArray,
) -> PredictedEffects:
    """
    Best linear unbiased prediction of every group's random effects.

    ``b_i = K Z_i' R_i^-1 r_i``, which holds on the boundary as well (Robinson, 1991).

    Parameters
    ----------
    z : ndarray, shape (n, q)
        Random-effects design in sorted order.
    resid : ndarray, shape (n,)
        ``y - X beta`` in sorted order.
    grouped : GroupedRows
    structure : ResidualStructure
        Bound to the data.
    u : ndarray, shape (k_free,)
        Unconstrained residual parameters.
    z_map, factor : ndarray, shape (q, q)
        Internal scaling of `z` and ``Lambda`` in those coordinates.

    Returns
    -------
    PredictedEffects
    """
    q = z.shape[1]
    columns = np.column_stack([product(z, z_map), resid])
    products = group_products(columns, grouped, structure, u)
    level = eliminate(products[:q, :q], products[q:, :q], factor)
    means = product(z_map, level.effect[0]).T
    return PredictedEffects(means, multiply_right(level.root, z_map.T))


def predictions_from(
    columns: FloatArray,
    z: FloatArray,
    grouped: GroupedRows,
    structure: ResidualStructure,
    u: FloatArray,
    z_map: FloatArray,
    factor: FloatArray,
) -> FloatArray:
    """
    ``K Z_i' R_i^-1`` of every group, applied to columns.

    Parameters
    ----------
    columns : ndarray, shape (n, k)
        In sorted order.
    z, grouped, structure, u, z_map, factor
        As for :func:`predict_effects`.

    Returns
    -------
    ndarray, shape (m, q, k)
    """
    q, starts = z.shape[1], grouped.offsets[:-1]
    white = whiten_series(
        np.column_stack([product(z, z_map), columns]), grouped, structure, u
    )
    zz = np.empty((q, q, grouped.n_groups))
    zw = np.empty((columns.shape[1], q, grouped.n_groups))
    for a in range(q):
        pairs = white[:, a : a + 1] * white
        found = np.add.reduceat(pairs, starts, axis=0).T
        zz[a], zw[:, a] = found[:q], found[q:]
    level = eliminate(zz, zw, factor)
    return np.einsum("ab,kbm->mak", z_map, level.effect)


@dataclass(frozen=True)
class GroupSums:
    """
    The terms of m groups; ``v = (entries of Psi, u)`` has k entries.

    Attributes
    ----------
    d : ndarray, shape (m,)
        ``log|H_i|``.
    s : ndarray, shape (p + 1, p + 1, m)
        ``W_i' H_i^-1 W_i``.
    d1 : ndarray, shape (k, m)
    d2 : ndarray, shape (k, k, m)
        Derivatives of ``log|H_i|`` by ``v``.
    s1 : ndarray, shape (k, p + 1, p + 1, m)
    s2 : ndarray, shape (k, k, p + 1, p + 1, m)
        Derivatives of `s`.
    zz : ndarray, shape (q, q, m)
        ``Z_i' H_i^-1 Z_i``.
    zw : ndarray, shape (q, p + 1, m)
        ``Z_i' H_i^-1 W_i``.
    """

    d: FloatArray
    s: FloatArray
    d1: FloatArray
    d2: FloatArray
    s1: FloatArray
    s2: FloatArray
    zz: FloatArray
    zw: FloatArray

    @classmethod
    def values(
        cls, d: FloatArray, s: FloatArray, zz: FloatArray, zw: FloatArray
    ) -> Self:
        """Terms without derivatives."""
        none = np.empty((0, len(d)))
        shape = (*s.shape[:2], len(d))
        s1, s2 = np.empty((0, *shape)), np.empty((0, 0, *shape))
        return cls(d, s, none, none[None][:0], s1, s2, zz, zw)

    def orders(self) -> Iterator[tuple[FloatArray, FloatArray]]:
        """`d` and `s`, first derivatives, second ones by pairs, row by row."""
        yield self.d, self.s
        yield from zip(self.d1, self.s1, strict=True)
        for pair in lower_pairs(len(self.d1)):
            yield self.d2[pair], self.s2[pair]


def chunks(rows: ClusterRows, k: int) -> Iterator[slice]:
    """
    Slices of the groups whose derivatives fit into memory together.

    Parameters
    ----------
    rows : ClusterRows
    k : int
        Number of parameters.
    """
    q, width = rows.z.shape[1], rows.w.shape[1]
    each = (k + 1) ** 2 * width**2 + 3 * (q + width) ** 2
    step = max(1, _NUMBERS // each)
    for first in range(0, rows.n_clusters, step):
        yield slice(first, min(first + step, rows.n_clusters))


def group_sums(
    rows: ClusterRows,
    structure: ResidualStructure,
    covariance: RandomCovariance,
    factor: FloatArray,
    u: FloatArray,
) -> GroupSums:
    """
    The terms of each group at a point of the parameter space.

    Parameters
    ----------
    rows : ClusterRows
        Of the real groups, in the coordinates of `factor`.
    structure : ResidualStructure
        Bound to the data.
    covariance : RandomCovariance
    factor : ndarray, shape (q, q)
        ``Lambda`` with ``Psi = Lambda Lambda'``; it may be singular.
    u : ndarray, shape (k_free,)
        Unconstrained residual parameters.

    Returns
    -------
    GroupSums

    Raises
    ------
    numpy.linalg.LinAlgError
        If the parameters are so extreme that ``H`` loses its definiteness.
    """
    point = ParameterPoint(covariance, factor, u)
    return sums_apart(rows, structure)(point, derivatives=True)


class SumsApart(Protocol):
    """The terms of each group, as a function of the parameters."""

    def __call__(self, point: ParameterPoint, *, derivatives: bool) -> GroupSums:
        """Derivatives have length 0 if they are not asked for."""
        ...

    @property
    def takes_many(self) -> bool:
        """Whether points are taken together."""
        ...

    def values(self, points: ParameterPoints) -> tuple[FloatArray, FloatArray]:
        """`d`, shape (b, m), and `s`, (b, p + 1, p + 1, m), at many points."""
        ...


def sums_apart(rows: ClusterRows, structure: ResidualStructure) -> SumsApart:
    """The cheapest way to the terms of each group."""
    if markov_of(structure) or is_independent(structure):
        return _ProductsApart(rows, structure)
    scaled = scaled_block(_of_all_columns(rows), structure)
    if scaled is not None:
        return _ScaledApart(rows, structure, scaled)
    return _EngineApart(rows, structure)


def _of_all_columns(rows: ClusterRows) -> ClusterRows:
    """Every column takes part as one of Z, of which products are kept by group."""
    columns = np.concatenate([rows.z, rows.w], axis=1)
    return replace(rows, z=columns, w=np.ones((len(columns), 1)))


@dataclass(frozen=True)
class _EngineApart:
    """The terms of groups by the likelihood's own sums."""

    rows: ClusterRows
    structure: ResidualStructure

    @property
    def takes_many(self) -> bool:
        return False

    def __call__(self, point: ParameterPoint, *, derivatives: bool) -> GroupSums:
        return sums_by_engine(
            self.rows, self.structure, *point[:3], derivatives=derivatives
        )

    def values(self, points: ParameterPoints) -> tuple[FloatArray, FloatArray]:
        """See :class:`SumsApart`."""
        found = [self(point, derivatives=False) for point in points]
        return np.stack([one.d for one in found]), np.stack([one.s for one in found])


class _ProductsApart:
    """All groups at once, as the likelihood's own sums but apart."""

    def __init__(self, rows: ClusterRows, structure: ResidualStructure) -> None:
        self._q, self._m = rows.z.shape[1], rows.n_clusters
        self._blocks = product_blocks(_of_all_columns(rows), structure)
        self._rows, self._width = rows, rows.z.shape[1] + rows.w.shape[1]
        self._markov, self._k_free = markov_of(structure), structure.k_free
        self._gaps = distinct(rows.gaps[rows.gaps > 0.0])

    def _products(self, u: FloatArray, derivatives: bool) -> CrossProducts:
        """Whitened cross-products and ``log|R|`` of every group by itself."""
        gaps, grams = self._gaps[0], []
        for block in self._blocks:
            grams.append(block.at(u, derivatives=derivatives).zz)
        orders = 1 + 2 * self._k_free if derivatives else 1
        if self._markov is None:
            return self._joined(grams, np.zeros((orders, 0)))
        terms = self._markov.precision_coefficients(gaps, u, derivatives=derivatives)
        return self._joined(grams, terms.logdet)

    def _joined(self, grams: list[FloatArray], logs: FloatArray) -> CrossProducts:
        """Products of all groups from those of blocks, and ``log|R|`` from gaps'."""
        q, rows, orders = self._q, self._rows, len(logs)
        gram = grams[0]
        if len(grams) > 1 or gram.shape[-1] < self._m:
            gram = np.empty((orders, self._width, self._width, self._m))
            for block, own in zip(self._blocks, grams, strict=True):
                gram[..., block.clusters] = own
        by_row = np.zeros((orders, len(rows.gaps)))
        if self._markov is not None:
            by_row[:, rows.gaps > 0.0] = logs[:, self._gaps[1]]
        logdet = np.add.reduceat(by_row, rows.offsets[:-1], axis=1)
        return _split(gram, q, logdet)

    @property
    def takes_many(self) -> bool:
        return all(block.numbers for block in self._blocks)

    def values(self, points: ParameterPoints) -> tuple[FloatArray, FloatArray]:
        """See :class:`SumsApart`."""
        grams, u = [block.many(points.u).zz for block in self._blocks], points.u
        logs = np.zeros((len(points), 0))
        if self._markov is not None:
            logs = self._markov.precisions(self._gaps[0], u).logdet
        cross = self._joined(grams, logs)
        logdet, taken = eliminate_at_points(cross, points.factors, True)
        return cross.logdet + logdet, cross.ww - taken

    def __call__(self, point: ParameterPoint, *, derivatives: bool) -> GroupSums:
        return _terms(self._products(point.u, derivatives), point, derivatives)


@dataclass(frozen=True)
class _ScaledApart(_EngineApart):
    """All groups at once, whose rows have standard deviations of their own."""

    block: ScaledBlock

    def __call__(self, point: ParameterPoint, *, derivatives: bool) -> GroupSums:
        gram = self.block.at(point.u, derivatives=derivatives).zz
        logdet = self.block.logdets(point.u, derivatives=derivatives)
        cross = _split(gram, self.rows.z.shape[1], logdet)
        return _terms(cross, point, derivatives)


def _split(gram: FloatArray, q: int, logdet: FloatArray) -> CrossProducts:
    """Products of all columns, of which q are those of the random effects."""
    return CrossProducts(gram[:, :q, :q], gram[:, q:, :q], gram[:, q:, q:], logdet)


def _terms(cross: CrossProducts, point: ParameterPoint, derivatives: bool) -> GroupSums:
    """What is left of the sums of each group without its random effects."""
    over = Apart(cross.zz.shape[-1])
    level = eliminate(cross.zz[0], cross.zw[0], point.factor)
    d = cross.logdet[0] + level.logdet
    s = cross.ww[0] - over.pairs(level.reduced, level.reduced)
    zw = level.zw_left.transpose(1, 0, 2)
    if not derivatives:
        return GroupSums.values(d, s, level.zz_left, zw)
    found = slopes_of(level, cross, Directions(point.covariance.directions), over)
    return GroupSums(d, s, found.d1, found.d2, found.s1, found.s2, level.zz_left, zw)


def sums_by_engine(
    rows: ClusterRows,
    structure: ResidualStructure,
    covariance: RandomCovariance,
    factor: FloatArray,
    u: FloatArray,
    *,
    derivatives: bool = True,
) -> GroupSums:
    """
    The same for any structure, by the likelihood's own sums.

    Parameters and returns as in :func:`group_sums`.  A group at a time, ``[Z W]``
    takes the place of ``W``; where groups share their covariance, unit vectors
    do, which gives ``H^-1`` and its derivatives for all of them at once.
    """
    q, width, m = rows.z.shape[1], rows.w.shape[1], rows.n_clusters
    k = (covariance.k_cov + len(u)) * derivatives
    columns = np.concatenate([rows.z, rows.w], axis=1)
    both = q + width
    d, s, s1 = np.empty(m), np.empty((both, both, m)), np.empty((k, both, both, m))
    d1, d2 = np.empty((k, m)), np.empty((k, k, m))
    s2 = np.empty((k, k, both, both, m))
    for members in _patterns(rows):
        one = rows.part(members[:1])
        n = len(one.w)
        shared = len(members) > 1
        images = np.eye(n) if shared else columns[_rows_of(rows, members)[0]]
        one = replace(one, w=images)
        blocks = likelihood_blocks(one, structure)
        found = cluster_sums(blocks, covariance, factor, u, derivatives=derivatives)
        d[members], d1[:, members] = found.d, found.d1[:, None]
        if derivatives:
            d2[..., members] = found.d2[..., None]
        own = columns[_rows_of(rows, members)]  # (members, n, q + p + 1)
        pairs = [(s, found.s), (s1, found.s1)]
        if derivatives:
            pairs.append((s2, found.s2))
        for out, middle in pairs:
            if not shared:
                out[..., members[0]] = middle
                continue
            flat = np.tensordot(middle, own, axes=(-1, 1))  # (..., n, members, c)
            out[..., members] = np.einsum("mna,...nmb->...abm", own, flat)
    zz, zw = s[:q, :q], s[:q, q:]
    return GroupSums(d, s[q:, q:], d1, d2, s1[:, q:, q:], s2[:, :, q:, q:], zz, zw)


def _rows_of(rows: ClusterRows, members: IntArray) -> IntArray:
    """Rows of groups of one size, shape (members, n)."""
    first = rows.offsets[members]
    size = int(rows.offsets[members[0] + 1] - first[0])
    return np.asarray(first[:, None] + np.arange(size))


def _patterns(rows: ClusterRows) -> Iterator[IntArray]:
    """Groups that share gaps, marks and random-effects design, if they are short."""
    sizes = np.diff(rows.offsets)
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        if size > _SHARED_ROWS:
            yield from members[:, None]
            continue
        index = _rows_of(rows, members)
        parts = [rows.gaps[index], rows.z[index].reshape(len(members), -1)]
        if rows.marks is not None:
            parts.append(rows.marks[index].reshape(len(members), -1))
        key = np.concatenate(parts, axis=1)
        _, which = np.unique(key, axis=0, return_inverse=True)
        order = np.argsort(which.ravel(), kind="stable")
        edges = np.flatnonzero(np.diff(which.ravel()[order])) + 1
        yield from np.split(members[order], edges)
