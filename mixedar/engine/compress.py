"""
Lossless reduction of clusters that share a covariance pattern.

Clusters with the same gaps in time and the same random-effects design share
their covariance matrix ``V`` at every parameter value.  Of their fixed-effects
design and response ``W_i = [X_i y_i]`` the likelihood needs
``sum_i W_i' V^-1 W_i`` alone, which depends on the data only through
``sum_i vec(W_i) vec(W_i)'``.  The R factor of the matrix with rows
``vec(W_i)'`` holds that sum, so its few rows, folded back, are
*pseudo-clusters* that stand for any number of real ones.  R factors of chunks
merge into the R factor of the whole, so memory stays small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dgeqp3

from mixedar._types import FloatArray, IntArray
from mixedar.numeric.linalg import product, stacked_r_factor
from mixedar.relations.base import LevelCovariance

# Clusters are taken apart by the columns that are not zero up to so many sets of
# these, if no more than such a share is left.
_MOST_SETS, _SPARSE = 16, 0.75


@dataclass(frozen=True)
class TermRows:
    """
    Rows of a further random-effects term: the effects of another factor.

    Attributes
    ----------
    codes : ndarray of int, shape (n,)
        Level of the factor, 0 ... n_levels - 1, that each row belongs to.
    columns : ndarray, shape (n, k)
        What the k effects of the row's level are multiplied by.
    copies : int
        How often the k / copies effects with a covariance of their own are repeated.
    between : LevelCovariance or None
        Covariance between the levels, or between the copies if there is one level;
        None if they are independent.
    """

    codes: IntArray
    columns: FloatArray
    copies: int = 1
    between: LevelCovariance | None = None

    @property
    def n_levels(self) -> int:
        """Number of levels of the factor."""
        return int(self.codes.max()) + 1


@dataclass(frozen=True)
class ClusterRows:
    """
    Rows of (pseudo-)clusters, ready for cross-products.

    Attributes
    ----------
    z : ndarray, shape (n, q)
        Random-effects design.
    w : ndarray, shape (n, p + 1)
        Fixed-effects design and response.
    gaps : ndarray, shape (n,)
        Distance to the row before in the same series; 0 where one begins.
    offsets : ndarray of int, shape (m + 1,)
        First row of each cluster, and the end.
    weights : ndarray, shape (m,)
        How often the log-determinant of a cluster counts: 1 for real
        clusters; of the pseudo-clusters of a pattern the first carries the
        number of real clusters and the others 0.
    marks : ndarray, shape (n, c), or None
        What the residual structure reads of a row beside the gap.
    terms : tuple of TermRows
        Further random-effects terms, whose levels need not be within clusters.
    """

    z: FloatArray
    w: FloatArray
    gaps: FloatArray
    offsets: IntArray
    weights: FloatArray
    marks: FloatArray | None = None
    terms: tuple[TermRows, ...] = ()

    @property
    def n_clusters(self) -> int:
        """Number of (pseudo-)clusters."""
        return len(self.weights)

    @property
    def counts(self) -> FloatArray:
        """How often each row occurs, as far as `z`, gaps and marks go; shape (n,)."""
        return np.repeat(self.weights, np.diff(self.offsets))

    def index(self, clusters: IntArray) -> IntArray:
        """Row numbers of some clusters, one after the other."""
        return rows_of(self.offsets[clusters], np.diff(self.offsets)[clusters])

    def transformed(
        self, z_map: FloatArray, w_map: FloatArray, term_maps: Sequence[FloatArray] = ()
    ) -> ClusterRows:
        """The same rows with ``z @ z_map``, ``w @ w_map``, and so for each term."""
        terms = tuple(
            replace(term, columns=_by_copy(term.columns, term_map))
            for term, term_map in zip(self.terms, term_maps, strict=True)
        )
        z, w = product(self.z, z_map), product(self.w, w_map)
        return replace(self, z=z, w=w, terms=terms)

    def part(self, where: IntArray | slice) -> ClusterRows:
        """Some of the clusters; the levels of terms keep their numbers."""
        clusters = np.arange(self.n_clusters)[where]
        rows = self.index(clusters)
        sizes = np.diff(self.offsets)[clusters]
        return ClusterRows(
            self.z[rows],
            self.w[rows],
            self.gaps[rows],
            np.concatenate([[0], np.cumsum(sizes)]),
            self.weights[clusters],
            None if self.marks is None else self.marks[rows],
            tuple(
                replace(t, codes=t.codes[rows], columns=t.columns[rows])
                for t in self.terms
            ),
        )


def _by_copy(columns: FloatArray, term_map: FloatArray) -> FloatArray:
    """Each copy of the effects in the coordinates of a map."""
    apart = columns.reshape(-1, len(term_map))
    return product(apart, term_map).reshape(columns.shape)


def compress(
    z: FloatArray,
    x: FloatArray,
    y: FloatArray,
    gaps: FloatArray,
    offsets: IntArray,
    marks: FloatArray | None = None,
    terms: tuple[TermRows, ...] = (),
    weights: FloatArray | None = None,
) -> ClusterRows:
    """
    Replace clusters by pseudo-clusters wherever that makes fewer of them.

    Parameters
    ----------
    z : ndarray, shape (n, q)
        Random-effects design in sorted order; ``q`` may be 0.
    x : ndarray, shape (n, p)
        Fixed-effects design.
    y : ndarray, shape (n,)
        Response.
    gaps : ndarray, shape (n,)
    offsets : ndarray of int, shape (m + 1,)
    marks : ndarray, shape (n, c), optional
        Clusters share a pattern only if they share these as well.
    terms : tuple of TermRows
        With further terms, which link clusters, none is replaced.
    weights : ndarray, shape (m,), optional
        Of clusters some of which are pseudo-clusters; one for each by default.

    Returns
    -------
    ClusterRows
    """
    if weights is None:
        weights = np.ones(len(offsets) - 1)
    if terms:
        w = np.column_stack([x, y])
        return ClusterRows(z, w, gaps, offsets, weights, marks, terms)
    return _joined(list(_pieces(z, x, y, gaps, offsets, marks, weights)))


def merged(parts: Sequence[ClusterRows]) -> ClusterRows:
    """
    Rows of several parts of the data as one, compressed again.

    Parameters
    ----------
    parts : sequence of ClusterRows
        Compressed, without further terms.

    Returns
    -------
    ClusterRows
        As if the clusters had been compressed together.
    """
    all_of = _joined(parts)
    x, y = all_of.w[:, :-1], all_of.w[:, -1]
    patterns = all_of.gaps, all_of.offsets, all_of.marks
    return compress(all_of.z, x, y, *patterns, weights=all_of.weights)


def _joined(pieces: Sequence[ClusterRows]) -> ClusterRows:
    """Clusters of several pieces, one after the other."""
    if len(pieces) == 1:
        return pieces[0]
    sizes = np.concatenate([np.diff(piece.offsets) for piece in pieces])
    marks = [piece.marks for piece in pieces if piece.marks is not None]
    return ClusterRows(
        np.concatenate([piece.z for piece in pieces]),
        np.concatenate([piece.w for piece in pieces]),
        np.concatenate([piece.gaps for piece in pieces]),
        np.concatenate([[0], np.cumsum(sizes)]),
        np.concatenate([piece.weights for piece in pieces]),
        np.concatenate(marks) if marks else None,
    )


def clusters_by_zeros(
    rows: ClusterRows, q: int
) -> Iterator[tuple[ClusterRows, IntArray]]:
    """
    Clusters by which of the first q columns are zero, if there are few such sets.

    With the columns that are left: a smooth of each arm has zeros in the others.
    """
    every = np.arange(rows.w.shape[1])
    some = rows.w[:, :q] != 0.0
    if some.all():
        yield rows, every
        return
    packed = np.bitwise_or.reduceat(np.packbits(some, axis=1), rows.offsets[:-1])
    used = np.unpackbits(packed, axis=1, count=q).astype(bool)
    filled = float((used.sum(axis=1) + len(every) - q).mean()) / len(every)
    sets: list[IntArray] = []
    left = np.arange(len(packed))
    while len(left) and len(sets) <= _MOST_SETS:
        same = (packed[left] == packed[left[0]]).all(axis=1)
        sets.append(left[same])
        left = left[~same]
    if len(sets) > _MOST_SETS or filled > _SPARSE:
        yield rows, every
        return
    for members in sets:
        columns = np.concatenate([np.flatnonzero(used[members[0]]), every[q:]])
        part = replace(rows, w=rows.w[:, :0]).part(members)
        yield replace(part, w=rows.w[rows.index(members)[:, None], columns]), columns


def _pieces(
    z: FloatArray,
    x: FloatArray,
    y: FloatArray,
    gaps: FloatArray,
    offsets: IntArray,
    marks: FloatArray | None,
    of_clusters: FloatArray,
) -> Iterator[ClusterRows]:
    sizes = np.diff(offsets)
    key = z if marks is None else np.concatenate([z, marks], axis=1)
    width = x.shape[1] + 1
    leftover: list[IntArray] = []
    for size in np.unique(sizes):
        clusters = np.flatnonzero(sizes == size)
        counts = of_clusters[clusters]
        if counts.sum() <= size * width:
            leftover.append(clusters)
            continue
        starts, minimum = offsets[clusters], int(size) * width
        shared, rest = _patterns(key, gaps, starts, counts, int(size), minimum)
        if len(rest):
            leftover.append(clusters[rest])
        for members in shared:
            w = _pseudo_clusters(x, y, starts[members], int(size))
            count = len(w) // int(size)
            first = slice(starts[members[0]], starts[members[0]] + int(size))
            weights = np.zeros(count)
            weights[0] = counts[members].sum()
            yield ClusterRows(
                np.tile(z[first], (count, 1)),
                w,
                np.tile(gaps[first], count),
                np.arange(count + 1) * int(size),
                weights,
                None if marks is None else np.tile(marks[first], (count, 1)),
            )
    if leftover:
        kept = np.sort(np.concatenate(leftover))
        if len(kept) == len(sizes):
            rows: slice | IntArray = slice(None)
        else:
            rows = rows_of(offsets[kept], sizes[kept])
        yield ClusterRows(
            z[rows],
            np.column_stack([x[rows], y[rows]]),
            gaps[rows],
            np.concatenate([[0], np.cumsum(sizes[kept])]),
            of_clusters[kept],
            None if marks is None else marks[rows],
        )


def rows_of(starts: IntArray, sizes: IntArray) -> IntArray:
    """Row numbers of clusters of any size, one after the other."""
    ends = np.cumsum(sizes)
    return np.arange(ends[-1]) + np.repeat(starts - ends + sizes, sizes)


def _patterns(
    z: FloatArray,
    gaps: FloatArray,
    starts: IntArray,
    counts: FloatArray,
    size: int,
    minimum: int,
) -> tuple[list[IntArray], IntArray]:
    """
    Sets of clusters that share gaps and `z` rows and count for more than `minimum`.

    Returns the sets and, in one array, the clusters that are in none.
    """
    m = len(starts)
    none = np.empty(0, dtype=np.intp)
    if _same_as_first(z, gaps, starts, size).all():
        return [np.arange(m)], none
    # A 64-bit hash of each cluster's numbers; equality is verified below.
    multipliers = np.random.default_rng(0).integers(
        1, 2**63, size=(size, z.shape[1] + 1), dtype=np.uint64
    ) | np.uint64(1)
    key = np.zeros(m, dtype=np.uint64)
    for k in range(size):
        for j in range(z.shape[1] + 1):
            values = gaps[starts + k] if j == 0 else z[starts + k, j - 1]
            bits = (values + 0.0).view(np.uint64)  # + 0.0 turns -0.0 into 0.0
            bits = bits ^ (bits >> np.uint64(29))
            key = key * np.uint64(0x9E3779B97F4A7C15) + bits * multipliers[k, j]
            key ^= key >> np.uint64(32)
    order = np.argsort(key, kind="stable")
    edges = np.flatnonzero(np.diff(key[order])) + 1
    first = np.concatenate([[0], edges])
    count = np.diff(np.concatenate([first, [m]]))
    large = np.add.reduceat(counts[order], first) > minimum
    shared = []
    rest = [order[np.repeat(~large, count)]]
    for start, length in zip(first[large], count[large], strict=True):
        members = order[start : start + length]
        same = _same_as_first(z, gaps, starts[members], size)
        if counts[members[same]].sum() > minimum:
            shared.append(members[same])
            rest.append(members[~same])  # equal hashes of unequal clusters
        else:
            rest.append(members)
    return shared, np.concatenate(rest)


def _same_as_first(
    z: FloatArray, gaps: FloatArray, starts: IntArray, size: int
) -> NDArray[np.bool_]:
    """Which clusters have the gaps and `z` rows of the first of them."""
    same = np.ones(len(starts), dtype=bool)
    for k in range(size):
        same &= gaps[starts + k] == gaps[starts[0] + k]
        for column in z.T:
            same &= column[starts + k] == column[starts[0] + k]
        if not same[1:].any():
            break
    return same


def _pseudo_clusters(
    x: FloatArray, y: FloatArray, starts: IntArray, size: int
) -> FloatArray:
    """R factor of the rows ``vec(W_i)'``, folded back to (count * size, p + 1)."""
    width = x.shape[1] + 1
    contiguous = bool((np.diff(starts) == size).all())

    def rows(first: int, last: int) -> FloatArray:
        chunk = starts[first:last]
        out = np.empty((len(chunk), size, width))
        if contiguous:
            where: slice | IntArray = slice(chunk[0], chunk[-1] + size)
        else:
            where = (chunk[:, None] + np.arange(size)).ravel()
        for j in range(width - 1):
            out[:, :, j] = x[where, j].reshape(len(chunk), size)
        out[:, :, -1] = y[where].reshape(len(chunk), size)
        return out.reshape(len(chunk), size * width)

    factor = stacked_r_factor(rows, len(starts), size * width)
    return _drop_empty_rows(factor, width).reshape(-1, width)


def _drop_empty_rows(factor: FloatArray, width: int) -> FloatArray:
    """
    Rotate an R factor so that its rank shows, and drop what is rounding.

    Columns that are the same in every cluster (an intercept, the common
    times) make the factor rank-deficient: 16 rows become 6 in the balanced
    growth design.
    """
    norms = np.sqrt((factor**2).reshape(-1, width).sum(axis=0))
    norms[norms == 0.0] = 1.0
    scale = np.tile(norms, factor.shape[1] // width)
    done, pivots, *_ = dgeqp3(factor / scale)
    rotated, pivots = np.triu(done[: factor.shape[1]]), pivots - 1
    lengths = np.sqrt((rotated**2).sum(axis=1))
    rotated = rotated[lengths > 1e-15 * lengths[0]]
    out = np.empty_like(rotated)
    out[:, pivots] = rotated
    return out * scale
