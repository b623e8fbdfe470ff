"""
Which levels of factors meet in rows, directly or through others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mixedar._types import IntArray
from mixedar.engine.compress import ClusterRows
from mixedar.exceptions import UnsupportedError
from mixedar.residual import ResidualStructure

# Effects in a component, and memory, beyond which a fit is refused.
LARGEST = 4000
_MOST_GIB = 16.0
# Multiplications a second, for the message.
_SPEED = 2e10


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


def check_size(rows: ClusterRows, structure: ResidualStructure, width: int) -> None:
    """Raise if the largest component is beyond what dense matrices can do."""
    q = rows.z.shape[1]
    k = q * (q + 1) // 2 + structure.k_free
    orders = 1 + k + k * (k + 1) // 2
    needed = 8.0 * width**2 * (2 * orders + 8) / 2**30
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
