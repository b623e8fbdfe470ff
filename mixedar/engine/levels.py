"""
Several levels: the step of :mod:`mixedar.engine.level`, repeated.

Eliminating the effects of the groups, with the columns of the further terms among the
``W``, leaves sums in which levels of the terms meet wherever they share a group.  Sets
of levels that meet, directly or through others, are the *components*: of nested
factors one for each level of the outermost, of crossed factors one for everything.
A component is to the further terms what a group is to its effects, and the same
functions eliminate it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks import compressed_blocks
from mixedar.engine.blocks.base import (
    ArrayCurvature,
    ClusterSums,
    LikelihoodBlock,
    ParameterPoint,
    ParameterPoints,
    SomeColumns,
)
from mixedar.engine.compress import ClusterRows, clusters_by_zeros
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.groups import sums_apart
from mixedar.engine.level import (
    AnyDirections,
    CrossProducts,
    Kronecker,
    Level,
    RelatedDirections,
    RepeatedDirections,
    Together,
    orders_of,
    slopes_of,
)
from mixedar.engine.likelihood import cluster_sums
from mixedar.engine.linked import (
    LinkedClusters,
    MetLevels,
    TermColumns,
    batches_by_size,
    check_size,
    components,
    compressed_alike,
)
from mixedar.numeric.linalg import apply, inverse_cholesky
from mixedar.relations.base import roots_at, with_parameters
from mixedar.residual import ResidualStructure

# From this share of the levels that clusters meet on all are columns of each, ...
_FILLED = 0.1
# ... as long as they have so many numbers.
_MOST = 2**26


def levels_blocks(rows: ClusterRows, structure: ResidualStructure) -> list[LevelsBlock]:
    """
    Blocks of clusters that further terms link.

    Parameters
    ----------
    rows : ClusterRows
        Of real groups, with terms.
    structure : ResidualStructure
        Bound to the data.

    Returns
    -------
    list of LevelsBlock
        Together they hold every cluster once; components of one block have about
        as many columns.
    """
    n, (of_clusters, *of_levels) = components(rows)
    width = sum(
        term.columns.shape[1] * np.bincount(of_level, minlength=n)
        for term, of_level in zip(rows.terms, of_levels, strict=True)
    )
    check_size(rows, structure, int(width.max()))
    size = np.ceil(np.log2(np.maximum(width, 1))).astype(int)
    blocks = []
    if (size == size[0]).all():
        return [LevelsBlock(rows, structure)]
    for value in np.unique(size):
        clusters = np.flatnonzero(size[of_clusters] == value)
        blocks.append(LevelsBlock(rows.part(clusters), structure))
    return blocks


class LevelsBlock(LikelihoodBlock):
    """
    Clusters, and the further terms that link them.

    Parameters
    ----------
    rows : ClusterRows
        Every level of a term that occurs does so in these rows only.
    structure : ResidualStructure
        Bound to the data.
    """

    def __init__(self, rows: ClusterRows, structure: ResidualStructure) -> None:
        terms = []
        self.levels: list[IntArray] = []
        for term in rows.terms:
            if term.n_levels == 1:
                self.levels.append(np.zeros(1, dtype=np.intp))
                terms.append(term)
                continue
            present, codes = np.unique(term.codes, return_inverse=True)
            self.levels.append(present)
            between = term.between
            if between is not None and term.copies == 1:
                between = between.part(present)
            terms.append(replace(term, codes=codes.ravel(), between=between))
        rows = replace(rows, terms=tuple(terms))
        self._n, (of_clusters, *of_levels) = components(rows)
        orders = tuple(term.columns.shape[1] for term in terms)
        copies = [term.copies for term in terms]
        self._between = [term.between for term in terms]
        self._k_residual = structure.k_free
        #: component of each level of each term
        self.component_of = of_levels
        self._layout = TermColumns.of(orders, copies, of_levels, self._n)
        self._q, self._width = self._layout.count, rows.w.shape[1]
        #: number of the terms' effects in a component
        self.n_columns = self._q
        clusters = np.repeat(np.arange(rows.n_clusters), np.diff(rows.offsets))
        met = [MetLevels.of(clusters, rows.n_clusters, term.codes) for term in terms]
        columns = self._width + sum(
            order * one.count for order, one in zip(orders, met, strict=True)
        )
        side = self._q + self._width
        filled = float((columns**2).sum()) / (rows.n_clusters * side**2)
        self._parts: list[LinkedClusters] = []
        self._whole: Sequence[LikelihoodBlock] = ()
        if self._n == 1 and filled > _FILLED and len(rows.w) * side < _MOST:
            self._whole = self._in_all_columns(rows, structure)
        else:
            self._parts = list(self._split(rows, structure, of_clusters, met, columns))
        directions = [
            RandomCovariance.free(order // k).directions
            for order, k in zip(orders, copies, strict=True)
        ]
        self._small = directions

    def _in_all_columns(
        self, rows: ClusterRows, structure: ResidualStructure
    ) -> Sequence[LikelihoodBlock]:
        """Blocks of clusters that meet most levels, with all of them as columns."""
        w = np.zeros((len(rows.w), self._q + self._width))
        w[:, self._q :] = rows.w
        for t, term in enumerate(rows.terms):
            if term.n_levels == 1:
                w[:, self._layout.of_term(t)] = term.columns
                continue
            where = self._layout.of_levels(t)[term.codes]
            w[np.arange(len(w))[:, None], where] = term.columns
        blocks: list[LikelihoodBlock] = []
        whole = replace(rows, w=w, terms=())
        for part, columns in clusters_by_zeros(whole, self._q):
            inner = compressed_blocks(part, structure)
            if len(columns) < w.shape[1]:
                inner = [SomeColumns(block, columns, w.shape[1]) for block in inner]
            blocks += inner
        return blocks

    def _split(
        self,
        rows: ClusterRows,
        structure: ResidualStructure,
        component: IntArray,
        met: list[MetLevels],
        columns: IntArray,
    ) -> Iterator[LinkedClusters]:
        """Clusters by the number of levels that they meet."""
        m = rows.n_clusters
        size = np.ceil(2.0 * np.log2(columns)).astype(int)
        total = self._q + self._width
        for members in batches_by_size(size, columns):
            some = rows.part(members)
            here = rows.index(members)
            number = np.full(m, -1)
            number[members] = np.arange(len(members))
            widths = [
                order * int(one.count[members].max())
                for order, one in zip(self._layout.orders, met, strict=True)
            ]
            starts = np.concatenate([[0], np.cumsum(widths)])
            w = np.zeros((len(here), starts[-1] + self._width))
            place = np.full((len(members), w.shape[1]), total)  # none of the columns
            w[:, starts[-1] :] = some.w
            place[:, starts[-1] :] = self._q + np.arange(self._width)
            for t, (term, one) in enumerate(zip(some.terms, met, strict=True)):
                order = self._layout.orders[t]
                row, own = np.arange(len(here)), starts[t] + order * one.number[here]
                met_here = number[one.cluster] >= 0
                whose = number[one.cluster[met_here]]
                local = starts[t] + order * one.rank[met_here]
                target = self._layout.of_levels(t)[one.level[met_here]]
                for a in range(order):
                    w[row, own + a] = term.columns[:, a]
                    place[whose, local + a] = target[:, a]
            where = np.column_stack([component[members], place])
            kept, where = compressed_alike(replace(some, w=w, terms=()), where)
            of, place = where[:, 0], where[:, 1:]
            i, j = np.tril_indices(w.shape[1])
            places = (of * (total + 1) + place[:, i].T) * (total + 1) + place[:, j].T
            if self._n * (total + 1) ** 2 < 2**31:  # they are many
                places = places.astype(np.int32)
            sums = sums_apart(kept, structure)
            yield LinkedClusters(sums, of, places.ravel(), kept.weights)

    def _directions(self, point: ParameterPoint) -> AnyDirections:
        """``dPsi`` of all entries of the terms, then of what relates their levels."""
        if not any(self._between):
            blocks = zip(self._small, self._layout.repeats, strict=True)
            return RepeatedDirections(tuple(blocks))
        entries: list[Kronecker] = []
        further: list[Kronecker] = []
        bends: dict[tuple[int, int], Kronecker] = {}
        count = sum(map(len, self._small))
        for t, (between, u) in enumerate(
            with_parameters(self._between, point.u[self._k_residual :])
        ):
            here, factor = self._layout.of_term(t), point.term_factors[t]
            if between is None:
                entries += [Kronecker(here, None, e) for e in self._small[t]]
                continue
            psi, found = factor @ factor.T, between.at(u)[0]
            first, own = len(entries), count + len(further)
            entries += [Kronecker(here, found.value, e) for e in self._small[t]]
            further += [Kronecker(here, slope, psi) for slope in found.first]
            for r in range(found.k):
                for j, e in enumerate(self._small[t]):
                    bends[own + r, first + j] = Kronecker(here, found.first[r], e)
                for s in range(r + 1):
                    bends[own + r, own + s] = Kronecker(here, found.second[r, s], psi)
        return RelatedDirections((*entries, *further), bends)

    def _eliminated(self, cross: CrossProducts, point: ParameterPoint) -> Level:
        """As :func:`mixedar.engine.level.eliminate`, with a factor that repeats."""
        zz, zw = cross.zz[0], cross.zw[0]
        factors, own = point.term_factors, point.u[self._k_residual :]
        between = [
            None if one is None else one.at(u)[1]
            for one, u in with_parameters(self._between, own)
        ]
        turned = [factor.T for factor in factors]
        back = [None if wide is None else wide.T for wide in between]
        half = self._layout.times(turned, back, zz).swapaxes(0, 1)
        a = self._layout.times(turned, back, np.ascontiguousarray(half)).swapaxes(0, 1)
        diagonal = np.arange(self._q)
        a[diagonal, diagonal] += 1.0
        inverse_factor, logdet = inverse_cholesky(a)
        columns = np.ascontiguousarray(inverse_factor.swapaxes(0, 1))
        # C = A^-1/2 Lambda'
        root = self._layout.times(factors, between, columns).swapaxes(0, 1)
        root = np.ascontiguousarray(root)
        return Level(zz, zw, root, apply(root, zw), logdet)

    def _inner(self, point: ParameterPoint, derivatives: bool) -> CrossProducts:
        """What the elimination of the groups' effects leaves, by component."""
        own = point._replace(
            covariance=point.covariance.of_groups, u=point.u[: self._k_residual]
        )
        if self._whole:
            return self._inner_of_whole(own, derivatives)
        side = self._q + self._width + 1
        k = own.covariance.k_cov + len(own.u) if derivatives else 0
        orders = orders_of(k)
        total = np.zeros((orders, self._n * side * side))
        logdet = np.zeros((orders, self._n))
        for part in self._parts:
            terms = part.sums(own, derivatives=derivatives)
            i, j = np.tril_indices(len(terms.s))
            for at, (d, s) in enumerate(terms.orders()):
                logdet[at] += np.bincount(part.component, d * part.weights, self._n)
                total[at] += np.bincount(part.places, s[i, j].ravel(), total.shape[1])
        q, width = self._q, self._width
        zz = np.empty((orders, q, q, self._n))
        zw, ww = np.empty((orders, width, q, self._n)), np.empty((orders, width, width))
        for at, flat in enumerate(total):  # one by one: they are large
            lower = flat.reshape(self._n, side, side)[:, :-1, :-1]
            full = lower + np.tril(lower, -1).swapaxes(1, 2)
            zz[at] = full[:, :q, :q].transpose(1, 2, 0)
            zw[at] = full[:, q:, :q].transpose(1, 2, 0)
            ww[at] = full[:, q:, q:].sum(axis=0)
        return CrossProducts(zz, zw, ww, logdet.sum(axis=1))

    @property
    def numbers(self) -> int:
        """See :class:`LikelihoodBlock`."""
        inner = [block.numbers for block in self._whole]
        if 0 in inner or not all(part.sums.takes_many for part in self._parts):
            return 0
        own = sum(part.places.size for part in self._parts)
        return self._n * (self._q + self._width + 1) ** 2 + 2 * own + sum(inner)

    def values(self, points: ParameterPoints) -> tuple[FloatArray, FloatArray]:
        """``D`` and ``S`` at many points; see :meth:`LikelihoodBlock.values`."""
        b, q, side = len(points), self._q, self._q + self._width
        d, cross = self._inner_values(points.of_groups(self._k_residual))
        left = cross[:, :, q:, q:].sum(axis=1)
        cross[:, :, q:, q:] = left[:, None]  # more than what the effects take off
        roots = roots_at(self._between, points.u[:, self._k_residual :])
        for axis in (2, 3):
            self._layout.turn(np.moveaxis(cross, axis, 2), points.term_factors, roots)
        cross[:, :, range(q), range(q)] += 1.0
        root = np.linalg.cholesky(cross.reshape(b * self._n, side, side))
        root = root.reshape(cross.shape)
        pivots = np.einsum("bnii->bni", root[:, :, :q, :q])
        taken = root[:, :, q:, :q].transpose(0, 2, 1, 3).reshape(b, self._width, -1)
        d = d + 2.0 * np.log(pivots).sum(axis=(1, 2))
        return d, left - taken @ taken.transpose(0, 2, 1)

    def _inner_values(self, own: ParameterPoints) -> tuple[FloatArray, FloatArray]:
        """What the groups' effects leave at many points, (b, n, side, side)."""
        b, side = len(own), self._q + self._width
        if self._whole:
            logs, sums = zip(*(block.values(own) for block in self._whole), strict=True)
            return np.sum(logs, axis=0), np.sum(sums, axis=0)[:, None]
        total, d = np.zeros((b, self._n * (side + 1) ** 2)), np.zeros(b)
        for part in self._parts:
            d += part.add_values(own, total)
        lower = total.reshape(b, self._n, side + 1, side + 1)[:, :, :-1, :-1]
        return d, lower + np.tril(lower, -1).swapaxes(2, 3)

    def _inner_of_whole(self, own: ParameterPoint, derivatives: bool) -> CrossProducts:
        """The same where all columns are written out."""
        found = cluster_sums(self._whole, *own[:3], derivatives=derivatives)
        d, s = [found.d, *found.d1], [found.s, *found.s1]
        d2, s2 = found.d2, found.s2
        for i, j in zip(*np.tril_indices(found.k), strict=True):
            d.append(d2[i, j])
            s.append(s2[i, j])
        every, q = np.stack(s), self._q
        zz, zw = every[:, :q, :q, None], every[:, q:, :q, None]
        return CrossProducts(zz, zw, every[:, q:, q:], np.array(d))

    def columns_of(self, t: int) -> IntArray:
        """Columns of the effects of each level of a term, shape (levels, k)."""
        return self._layout.of_levels(t)

    def eliminated(self, point: ParameterPoint) -> Level:
        """The further terms' effects, one component after the other, eliminated."""
        return self._eliminated(self._inner(point, False), point)

    def sums(self, point: ParameterPoint, *, derivatives: bool) -> ClusterSums:
        """Cluster sums at a point; see :meth:`LikelihoodBlock.sums`."""
        cross, over = self._inner(point, derivatives), Together(np.ones(self._n))
        level = self._eliminated(cross, point)
        d = float(cross.logdet[0] + over.total(level.logdet))
        s = cross.ww[0] - over.pairs(level.reduced, level.reduced)
        if not derivatives:
            return ClusterSums.values(d, s)
        directions = self._directions(point)
        found = slopes_of(level, cross, directions, over)
        order = self._order(point, len(directions))
        curvature = ArrayCurvature(
            found.d2[np.ix_(order, order)], found.s2[np.ix_(order, order)]
        )
        return ClusterSums(d, s, found.d1[order], found.s1[order], (curvature,))

    def _order(self, point: ParameterPoint, every: int) -> IntArray:
        """Where the groups' entries, the terms', residual parameters, others stand."""
        entries, k_groups = sum(map(len, self._small)), point.covariance.k_groups
        total = every + k_groups + self._k_residual
        ends = [entries, every, every + k_groups]
        of_terms, between, of_groups, rest = np.split(np.arange(total), ends)
        return np.concatenate([of_groups, of_terms, rest, between])

    def add_bends(
        self, point: ParameterPoint, sandwich: FloatArray, trace: FloatArray
    ) -> None:
        """Add ``W'H^-1 H_ij H^-1 W`` and ``tr H^-1 H_ij`` of ``H_ij`` within `Psi`."""
        directions = self._directions(point)
        if not isinstance(directions, RelatedDirections):
            return
        level, over = self.eliminated(point), Together(np.ones(self._n))
        order = self._order(point, len(directions))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        for (i, j), d, s in directions.bent(level, over):
            for pair in {(place[i], place[j]), (place[j], place[i])}:
                trace[pair] += d
                sandwich[pair] += s
