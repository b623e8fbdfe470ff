"""
Long series, whose structure has a state of few numbers: as much work as rows.

Whitened columns ``Y = L^-1 [Z W]`` and their derivatives come from recursions from row
to row (:mod:`mixedar.engine.kalman`), and their products are those that the likelihood
needs.  With a variance function ``L`` is that of the correlation, and rows are divided
by their standard deviations before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import ParameterPoint, ProductBlock
from mixedar.engine.blocks.markov import products
from mixedar.engine.blocks.series import bends_of_groups, matrix_costs
from mixedar.engine.compress import ClusterRows
from mixedar.engine.kalman import NeighbourCells, Pairs, Predictions
from mixedar.engine.level import CrossProducts, lower_pairs, orders_of
from mixedar.engine.residuals import correlation_marks, correlation_of, variance_of
from mixedar.numeric.autodiff import Jet, embed
from mixedar.numeric.latest import Latest
from mixedar.numeric.linalg import product, unique_rows
from mixedar.residual import ResidualStructure

# Rows at different positions, and numbers of all derivatives, at a time.
_ROWS, _NUMBERS = 2**14, 2**18

# Operations on matrices that take the time of a few numbers of the recursions: those of
# each order of derivatives whatever the rows, ...
_EVERY_ORDER = 2.5e6
# ... of a column of a row, of the covariance of a row's state, and of its derivatives.
_COLUMN, _STATE, _SLOPE = 300.0, 2500.0, 1.5


def states_pay(rows: ClusterRows, structure: ResidualStructure) -> bool:
    """Whether recursions cost less than matrices, by counts of operations."""
    d, k = structure.n_states, structure.k_free
    if not d:
        return False
    n, columns = len(rows.gaps), rows.z.shape[1] + rows.w.shape[1]
    each = _EVERY_ORDER + n * (_COLUMN * d * columns + _SLOPE * d**4)
    return orders_of(k) * each + _STATE * d**2 * n < min(matrix_costs(rows, k))


@dataclass(frozen=True)
class _Copies:
    """
    Series at different positions, and equally many others at the same ones as each.

    Attributes
    ----------
    rows : ndarray of int, shape (s, n)
        Rows of the clusters; those of the first copy are one series after the other.
    neighbours : NeighbourCells
        Of `n` rows.
    starts : ndarray of int, shape (g,)
        Where a series begins.
    kind : ndarray of int, shape (s, n), or None
        Which of the block's kinds of rows each is, if variances differ.
    """

    rows: IntArray
    neighbours: NeighbourCells
    starts: IntArray
    kind: IntArray | None


@dataclass(frozen=True)
class _White:
    """
    Whitened columns and derivatives, shape (c s, n) each.

    `first` by parameter, `second` by pairs ``(i, j)`` with ``j <= i``.
    """

    value: FloatArray
    first: list[FloatArray]
    second: Pairs


class StateBlock(ProductBlock):
    """
    All clusters, for structures with a state.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure
        Bound to the data.
    """

    def __init__(self, rows: ClusterRows, structure: ResidualStructure) -> None:
        self.clusters = np.arange(rows.n_clusters)
        self.weights = rows.weights
        self._q, self._structure = rows.z.shape[1], structure
        self._inner = correlation_of(structure)
        self._columns = np.concatenate([rows.z.T, rows.w.T])
        self._owner = np.repeat(self.clusters, np.diff(rows.offsets))
        kind = None
        if variance_of(structure) is not None:
            assert rows.marks is not None
            no_time = np.zeros((len(rows.marks), 1))
            self._kinds, kind = unique_rows(np.concatenate([no_time, rows.marks], 1))
        marks = correlation_marks(structure)
        self._parts = list(_copies(rows, self._inner, marks, kind))

    def work(self, k: int) -> int:
        """Numbers of all states; see :meth:`LikelihoodBlock.work`."""
        return self._columns.size * orders_of(k) * self._inner.n_states

    @cached_property
    def _values(self) -> Latest[CrossProducts]:
        return Latest()

    def at(self, u: FloatArray, *, derivatives: bool) -> CrossProducts:
        """Cross-products at residual parameters; see :meth:`ProductBlock.at`."""
        if derivatives:
            return self._at(u, len(u))
        # several factors of the random effects are tried at one point
        return self._values.at(u, partial(self._at, u, 0))

    def _at(self, u: FloatArray, k: int) -> CrossProducts:
        """The same with derivatives by `k` parameters, all or none."""
        found, log_sd = self._empty(orders_of(k)), self._log_sd(u)
        lower = np.tril_indices(k)

        def orders(jet: Jet) -> FloatArray:
            return np.concatenate([jet.value[None], jet.first[:k], jet.second[lower]])

        for part, predictions in self._predictions(u, k > 0):
            weights = self.weights[self._owner[part.rows]]
            logs = orders(embed(predictions.log_variances(), 0, k))
            found.logdet[:] += logs @ weights.sum(axis=0)
            if log_sd is not None and part.kind is not None:
                logs = orders(log_sd)[:, part.kind]
                found.logdet[:] += 2.0 * (logs * weights).sum(axis=(1, 2))
            for some in self._few(part, k):
                white = self._whitened(predictions, part, some, log_sd, k)
                for order, pairs in enumerate(_by_order(white)):
                    self._add(found, order, part, some, pairs)
        return found

    def bends(self, point: ParameterPoint) -> tuple[FloatArray, FloatArray]:
        """
        What the second derivatives of ``R`` contribute.

        ``R^-1 R_ij R^-1 = 2 R^-1 R_i R^-1 R_j R^-1 - d2 R^-1``, its symmetric part,
        and likewise for traces; see :meth:`CovarianceBlock.bends`.
        """
        u, k = point.u, len(point.u)
        bent, log_sd = self.at(u, derivatives=True), self._log_sd(u)
        second = slice(1 + k, None)
        pairs = lower_pairs(k)
        found = self._empty(len(pairs))
        for part, predictions in self._predictions(u, True):
            weights = self.weights[self._owner[part.rows]]
            for some in self._few(part, k):
                slopes, counts = self._log_slopes(part, some, log_sd, weights[some])
                traces = predictions.traces(slopes, counts)
                found.logdet[:] += traces[np.tril_indices(k)]
                images = self._images(predictions, part, some, log_sd, slopes)
                for place, (i, j) in enumerate(pairs):
                    self._add(found, place, part, some, [(images[i], images[j])])
        found = CrossProducts(
            found.zz - bent.zz[second],
            found.zw - bent.zw[second],
            found.ww - bent.ww[second],
            found.logdet + bent.logdet[second],
        )
        return bends_of_groups(bent, found, point.factor, self.weights)

    def _empty(self, orders: int) -> CrossProducts:
        q, width = self._q, len(self._columns) - self._q
        return CrossProducts.zeros(orders, q, width, len(self.weights))

    def _log_sd(self, u: FloatArray) -> Jet | None:
        """Logarithms of the standard deviations of the kinds of rows."""
        if variance_of(self._structure) is None:
            return None
        return self._structure.log_sd(self._kinds, u)

    def _log_slopes(
        self, part: _Copies, some: slice, log_sd: Jet | None, weights: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Derivatives of logarithmic standard deviations, and weights of the rows."""
        if log_sd is None or part.kind is None:  # all copies are alike
            weights = weights.sum(axis=0, keepdims=True)
            return np.empty((0, *weights.shape)), weights
        return log_sd.first[self._inner.k_free :, part.kind[some]], weights

    def _predictions(
        self, u: FloatArray, derivatives: bool
    ) -> Iterator[tuple[_Copies, Predictions]]:
        own = u[: self._inner.k_free]
        for part in self._parts:
            rows = part.neighbours.at(own, derivatives=derivatives)
            yield part, Predictions(rows)

    def _few(self, part: _Copies, k: int) -> Iterator[slice]:
        """Some of the copies at a time."""
        copies, n = part.rows.shape
        each = n * len(self._columns) * orders_of(k)
        step = max(1, _NUMBERS // each)
        for first in range(0, copies, step):
            yield slice(first, min(first + step, copies))

    def _scaled(
        self, part: _Copies, some: slice, log_sd: Jet | None
    ) -> tuple[FloatArray, IntArray | None]:
        """Columns over standard deviations, shape (c s, n), and kinds of rows."""
        y = self._columns[:, part.rows[some]].reshape(-1, part.rows.shape[1])
        if log_sd is None or part.kind is None:
            return y, None
        kind = part.kind[some]
        return _by_row(np.exp(-log_sd.value)[kind], y), kind

    def _whitened(
        self,
        predictions: Predictions,
        part: _Copies,
        some: slice,
        log_sd: Jet | None,
        k: int,
    ) -> _White:
        y, kind = self._scaled(part, some, log_sd)
        order, free = 2 if k else 0, self._inner.k_free
        if kind is None:
            return _White(*_whitened_once(predictions, y, order))
        value, first, second = predictions.whitened(y, order)
        if log_sd is not None and k > free:
            slopes = log_sd.first[free:, kind]
            for a, slope in enumerate(slopes, free):
                found, mixed, _ = predictions.whitened(_by_row(-slope, y), 1)
                first.append(found)
                second.update({(a, i): one for i, one in enumerate(mixed)})
                for b in range(free, a + 1):
                    bend = slope * slopes[b - free] - log_sd.second[a, b, kind]
                    second[a, b] = predictions.whiten(_by_row(bend, y))
        return _White(value, first, second)

    def _images(
        self,
        predictions: Predictions,
        part: _Copies,
        some: slice,
        log_sd: Jet | None,
        slopes: FloatArray,
    ) -> list[FloatArray]:
        """``L^-1 R_i R^-1 [Z W]``, by parameter."""
        y, _ = self._scaled(part, some, log_sd)
        solved = predictions.whiten_back(predictions.whiten(y))
        moved = predictions.times_slopes(solved)
        for slope in slopes:
            image = predictions.times(_by_row(slope, solved))
            moved.append(_by_row(slope, y) + image)
        return [predictions.whiten(x) for x in moved]

    def _add(
        self,
        found: CrossProducts,
        order: int,
        part: _Copies,
        some: slice,
        pairs: list[tuple[FloatArray, FloatArray]],
    ) -> None:
        """Add products of pairs of columns, symmetrised, by cluster."""
        q, index = self._q, part.rows[some]
        owner = self._owner[index[:, part.starts]].ravel()
        order_of = np.argsort(owner, kind="stable")
        first = np.flatnonzero(np.diff(owner[order_of], prepend=-1))
        for left, right in pairs:
            a, b = (x.reshape(-1, *index.shape) for x in (left, right))
            by_series, ww = _products(a, b, q, part.starts)
            found.ww[order] += ww + ww.T
            if q:
                sums = np.add.reduceat(by_series[..., order_of], first, axis=2)
                found.zz[order][..., owner[order_of[first]]] += sums[:q]
                found.zw[order][..., owner[order_of[first]]] += sums[q:]


def _whitened_once(
    predictions: Predictions, y: FloatArray, order: int
) -> tuple[FloatArray, list[FloatArray], Pairs]:
    """
    The same as :meth:`Predictions.whitened`, with columns that are the same taken once.

    An intercept is the same in all copies, and in ``Z`` as in ``W``.
    """
    places: dict[bytes, int] = {}
    which = [places.setdefault(column.tobytes(), len(places)) for column in y]
    if len(places) == len(y):
        return predictions.whitened(y, order)
    _, once = np.unique(which, return_index=True)
    value, first, second = predictions.whitened(y[once], order)
    again = {pair: x[which] for pair, x in second.items()}
    return value[which], [x[which] for x in first], again


def _products(
    a: FloatArray, b: FloatArray, q: int, starts: IntArray
) -> tuple[FloatArray, FloatArray]:
    """
    Products of columns, shape (c, s, n).

    Returns
    -------
    ndarray, shape (c, q, s g)
        Of all with the first q, symmetrised, by series.
    ndarray, shape (c - q, c - q)
        Of the others over all series.
    """
    c, count, n = a.shape
    if q == 0:
        return np.empty((c, 0, 0)), product(a.reshape(c, -1), b.reshape(c, -1).T)
    if len(starts) > c * q:
        begins = (np.arange(count)[:, None] * n + starts).ravel()
        a, b = (x.reshape(c, -1).T for x in (a, b))
        zt, ww = products(a[:, :q], b[:, :q], a[:, q:], b[:, q:], begins)
        other, _ = products(b[:, :q], a[:, :q], b[:, q:], a[:, q:], begins)
        return zt + other, ww
    out, ww = np.empty((c, q, count, len(starts))), np.zeros((c - q, c - q))
    a, b = a.swapaxes(0, 1), b.transpose(1, 2, 0)
    for place, (first, last) in enumerate(pairwise([*starts, n])):
        sums = a[..., first:last] @ b[:, first:last]
        ww += sums[:, q:, q:].sum(axis=0)
        sums = sums + sums.swapaxes(1, 2)
        out[..., place] = sums[:, :, :q].transpose(1, 2, 0)
    return out.reshape(c, q, -1), ww


def _by_order(white: _White) -> Iterator[list[tuple[FloatArray, FloatArray]]]:
    """Pairs of columns whose products, with the transposed, are those of an order."""
    yield [(0.5 * white.value, white.value)]
    for one in white.first:
        yield [(one, white.value)]
    for i, j in sorted(white.second):
        yield [(white.second[i, j], white.value), (white.first[i], white.first[j])]


def _by_row(weights: FloatArray, y: FloatArray) -> FloatArray:
    """Columns, shape (c s, n), by weights of the rows of each series, (s, n)."""
    count, n = weights.shape
    return (y.reshape(-1, count, n) * weights).reshape(y.shape)


def _copies(
    rows: ClusterRows,
    structure: ResidualStructure,
    marks: slice,
    kind: IntArray | None,
) -> Iterator[_Copies]:
    """The series, by how many share their positions."""
    n = len(rows.gaps)
    read = np.empty((n, 0)) if rows.marks is None else rows.marks[:, marks]
    starts = np.flatnonzero(rows.gaps == 0.0)
    alike: dict[bytes, list[IntArray]] = {}
    for first, last in zip(starts, np.append(starts[1:], n), strict=True):
        key = rows.gaps[first:last].tobytes() + read[first:last].tobytes()
        alike.setdefault(key, []).append(np.arange(first, last))
    by_count: dict[int, list[IntArray]] = {}
    for members in alike.values():
        by_count.setdefault(len(members), []).append(np.array(members))
    for patterns in by_count.values():
        ends = np.cumsum([pattern.shape[1] for pattern in patterns])
        parts = ends // _ROWS
        for part in np.unique(parts):
            some = [patterns[place] for place in np.flatnonzero(parts == part)]
            where = np.concatenate(some, axis=1)
            sizes = [pattern.shape[1] for pattern in some]
            here = where[0]
            yield _Copies(
                where,
                NeighbourCells(structure, rows.gaps[here], read[here]),
                np.cumsum([0, *sizes[:-1]]),
                None if kind is None else kind[where],
            )
