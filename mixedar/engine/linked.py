"""
Which levels of factors meet in rows, directly or through others, and their clusters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import ParameterPoints
from mixedar.engine.compress import ClusterRows, compress
from mixedar.engine.groups import SumsApart
from mixedar.engine.level import orders_of
from mixedar.exceptions import UnsupportedError
from mixedar.residual import ResidualStructure

# Effects in a component, and memory, beyond which a fit is refused.
LARGEST = 4000
_MOST_GIB = 16.0
# Multiplications a second, for the message.
_SPEED = 2e10
# Clusters of so few columns are worth compressing.
_FEW = 24
# Numbers in the products of the clusters that are treated at a time.
_NUMBERS = 2**19


def linked_levels(factors: Sequence[IntArray]) -> tuple[int, list[IntArray]]:
    """
    Sets of levels that meet in rows, directly or through others.

    Parameters
    ----------
    factors : sequence of ndarray of int, each of shape (n,)
        Levels of the rows, two factors or more.

    Returns
    -------
    int
        How many sets there are.
    list of ndarray of int, each of shape (levels,)
        The set of each level of each factor.
    """
    one, *others = factors
    first = np.cumsum([int(codes.max()) + 1 for codes in factors])
    levels = [start + codes for start, codes in zip(first, others, strict=False)]
    links = (np.tile(one, len(levels)), np.concatenate(levels))
    graph = coo_matrix(
        (np.ones(len(links[0]), dtype=np.int8), links), shape=(first[-1], first[-1])
    )
    n, labels = connected_components(graph, directed=False)
    return int(n), np.split(labels, first[:-1])


def components(rows: ClusterRows) -> tuple[int, list[IntArray]]:
    """Of the clusters and of the levels of each term."""
    counts = [rows.n_clusters, *(term.n_levels for term in rows.terms)]
    if 1 in counts:  # it meets all others
        return 1, [np.zeros(count, dtype=np.intp) for count in counts]
    codes = [np.repeat(np.arange(rows.n_clusters), np.diff(rows.offsets))]
    for term in rows.terms:  # levels that are related meet everywhere
        related = term.between is not None
        codes.append(np.zeros_like(term.codes) if related else term.codes)
    n, (of_clusters, *of_levels) = linked_levels(codes)
    for t, term in enumerate(rows.terms):
        if term.between is not None:
            of_levels[t] = np.repeat(of_levels[t], term.n_levels)
    return n, [of_clusters, *of_levels]


def place_within(component: IntArray, n: int) -> tuple[IntArray, int]:
    """Number of each level among those of its component, and the most there are."""
    order, count = np.argsort(component, kind="stable"), np.bincount(component, None, n)
    place = np.empty(len(component), dtype=np.intp)
    before = np.cumsum(count) - count
    place[order] = np.arange(len(component)) - before[component[order]]
    return place, int(count.max())


@dataclass(frozen=True)
class MetLevels:
    """
    Which levels of a factor each cluster meets.

    `count`, by cluster; `number`, by row, of its level among the cluster's; and by
    pair of a cluster and a level, `cluster`, `level` and `rank`.
    """

    count: IntArray
    number: IntArray
    cluster: IntArray
    level: IntArray
    rank: IntArray

    @classmethod
    def of(cls, clusters: IntArray, n_clusters: int, codes: IntArray) -> MetLevels:
        """Those of rows, given the cluster and the level of each."""
        n = int(codes.max(initial=0)) + 1
        if n == 1 and len(clusters):  # every cluster meets the only level
            none = np.zeros(n_clusters, dtype=np.intp)
            every = np.arange(n_clusters)
            return cls(none + 1, np.zeros_like(codes), every, none, none)
        pairs, which = np.unique(clusters * n + codes, return_inverse=True)
        whose, level = np.divmod(pairs, n)
        count = np.bincount(whose, minlength=n_clusters)
        rank = np.arange(len(pairs)) - (np.cumsum(count) - count)[whose]
        return cls(count, rank[which.ravel()], whose, level, rank)


@dataclass(frozen=True)
class TermColumns:
    """
    Columns of the further terms' effects in a component, term after term.

    Attributes
    ----------
    orders : tuple of int
        Effects of a level of each term.
    places : tuple of ndarray of int
        Number of each level of each term among those of its component.
    repeats : tuple of int
        How often the covariance matrix of each term stands on the diagonal.
    starts : ndarray of int, shape (terms + 1,)
        First column of each term, and the number of all.
    """

    orders: tuple[int, ...]
    places: tuple[IntArray, ...]
    repeats: tuple[int, ...]
    starts: IntArray

    @classmethod
    def of(
        cls,
        orders: tuple[int, ...],
        copies: Sequence[int],
        component: Sequence[IntArray],
        n: int,
    ) -> TermColumns:
        """Of terms whose levels belong to so many components."""
        places, most = zip(*(place_within(each, n) for each in component), strict=True)
        repeats = tuple(int(k) for k in np.multiply(most, copies))
        starts = np.concatenate([[0], np.cumsum(np.multiply(orders, most))])
        return cls(orders, places, repeats, starts)

    @property
    def count(self) -> int:
        """Number of columns."""
        return int(self.starts[-1])

    def of_term(self, t: int) -> slice:
        """Columns of a term."""
        return slice(int(self.starts[t]), int(self.starts[t + 1]))

    def of_levels(self, t: int) -> IntArray:
        """Columns of each level of a term, shape (levels, k)."""
        first = self.starts[t] + self.orders[t] * self.places[t]
        return np.asarray(first[:, None] + np.arange(self.orders[t]))

    def times(
        self,
        matrices: Sequence[FloatArray],
        between: Sequence[FloatArray | None],
        x: FloatArray,
    ) -> FloatArray:
        """``between kron matrix`` of each term times x of shape (q, ...)."""
        out = np.empty_like(x)
        for t, (matrix, wide) in enumerate(zip(matrices, between, strict=True)):
            here = self.of_term(t)
            own = np.matmul(matrix, x[here].reshape(self.repeats[t], len(matrix), -1))
            if wide is not None:
                own = wide @ own.reshape(len(wide), -1)
            out[here] = own.reshape(x[here].shape)
        return out

    def turn(
        self,
        x: FloatArray,
        factors: Sequence[FloatArray],
        roots: Sequence[FloatArray | None],
    ) -> None:
        """Multiply the terms' rows of x, (b, n, rows, ...), by ``Lambda'`` in place."""
        for t, (factor, root) in enumerate(zip(factors, roots, strict=True)):
            here, back = self.of_term(t), factor.transpose(0, 2, 1)[:, None, None]
            some = x[:, :, here]
            split = some.reshape(*x.shape[:2], self.repeats[t], factor.shape[1], -1)
            turned = split * back if len(factor[0]) == 1 else np.matmul(back, split)
            if root is not None:
                flat = turned.reshape(len(x), root.shape[1], -1)
                turned = np.matmul(root.transpose(0, 2, 1), flat)
            x[:, :, here] = turned.reshape(some.shape)


def check_size(rows: ClusterRows, structure: ResidualStructure, width: int) -> None:
    """Raise if the largest component is beyond what dense matrices can do."""
    q = rows.z.shape[1]
    k = q * (q + 1) // 2 + structure.k_free
    needed = 8.0 * width**2 * (2 * orders_of(k) + 8) / 2**30
    if width <= LARGEST and needed <= _MOST_GIB:
        return
    minutes = 12 * 2.0 * width**3 * (5 + 2 * k) / _SPEED / 60.0
    raise UnsupportedError(
        f"the factors of the random effects link {width:,} effects beside those of the "
        f"{rows.n_clusters:,} groups; the fit would take matrices of that order, about "
        f"{needed:.1f} GiB and {minutes:,.0f} minutes. Make the factor with most "
        "levels the groups, or leave a factor out; lme4 and MixedModels.jl have sparse "
        "matrices for such data"
    )


@dataclass(frozen=True)
class LinkedClusters:
    """
    Clusters that meet about as many levels.

    Attributes
    ----------
    sums : SumsApart
        Their terms, in columns of their own levels.
    component : ndarray of int, shape (m,)
    places : ndarray of int, shape (pairs m,)
        Where pairs of their columns, the lower triangle, stand in the components'
        arrays.
    weights : ndarray, shape (m,)
        How often the log-determinant of each counts.
    """

    sums: SumsApart
    component: IntArray
    places: IntArray
    weights: FloatArray

    @cached_property
    def _sorted(self) -> tuple[IntArray, IntArray, IntArray]:
        """Pairs by their place, where a place begins, and the places."""
        order = np.argsort(self.places, kind="stable")
        places, starts = np.unique(self.places[order], return_index=True)
        return order, starts, places

    def add_values(self, points: ParameterPoints, total: FloatArray) -> FloatArray:
        """Add `s` to the components' arrays, shape (b, size); ``sum d``, (b,)."""
        d, s = self.sums.values(points)
        order, starts, places = self._sorted
        i, j = np.tril_indices(s.shape[1])
        pairs = s[:, i, j].reshape(len(s), -1)[:, order]
        total[:, places] += np.add.reduceat(pairs, starts, axis=1)
        return d @ self.weights


def compressed_alike(
    rows: ClusterRows, where: IntArray
) -> tuple[ClusterRows, IntArray]:
    """
    Pseudo-clusters where many share a pattern, and where their columns stand.

    `where`, shape (m, c), is part of the pattern.
    """
    if where.shape[1] > _FEW:
        return rows, where
    seen = np.empty((len(rows.w), 0)) if rows.marks is None else rows.marks
    own = np.repeat(where, np.diff(rows.offsets), axis=0)
    marks = np.column_stack([seen, own])
    found = compress(
        rows.z, rows.w[:, :-1], rows.w[:, -1], rows.gaps, rows.offsets, marks
    )
    assert found.marks is not None
    first = found.marks[found.offsets[:-1], seen.shape[1] :]
    kept = None if rows.marks is None else found.marks[:, : seen.shape[1]]
    return replace(found, marks=kept), first.astype(np.intp)


def batches_by_size(size: IntArray, columns: IntArray) -> Iterator[IntArray]:
    """Clusters of one size class whose products fit into memory together."""
    for value in np.unique(size):
        members = np.flatnonzero(size == value)
        most = max(1, _NUMBERS // int(columns[members].max()) ** 2)
        yield from np.split(members, range(most, len(members), most))
