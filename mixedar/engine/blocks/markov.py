"""
Clusters that share their set of distinct gaps in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import ProductBlock
from mixedar.engine.compress import ClusterRows
from mixedar.engine.level import CrossProducts
from mixedar.numeric.autodiff import Jet
from mixedar.numeric.linalg import distinct, product, unique_rows
from mixedar.residual import MarkovStructure, ResidualStructure
from mixedar.residual.markov import PrecisionCoefficients


def previous(x: FloatArray, here: NDArray[np.bool_]) -> FloatArray:
    """The row before, and zeros where a series begins."""
    out = np.zeros_like(x)
    out[1:] = x[:-1]
    out[~here] = 0.0
    return out


def differences(x: FloatArray, here: NDArray[np.bool_]) -> FloatArray:
    """The difference from the row before, and zeros where a series begins."""
    out = np.zeros_like(x)
    np.subtract(x[1:], x[:-1], out=out[1:])
    out[~here] = 0.0
    return out


def products(
    z1: FloatArray, z2: FloatArray, w1: FloatArray, w2: FloatArray, starts: IntArray
) -> tuple[FloatArray, FloatArray]:
    """
    Cross-products by cluster of rows `z1` with ``[z2 w2]``, and ``w1'w2``.

    Returns
    -------
    zt : ndarray, shape (q + p + 1, q, m)
        ``zt[b, a]`` is the product of column ``a`` of `z1` with column ``b``.
    ww : ndarray, shape (p + 1, p + 1)
    """
    q, width, m = z1.shape[1], w1.shape[1], len(starts)
    zt = np.empty((q + width, q, m))
    if m <= q * (q + width):
        t2 = np.concatenate([z2, w2], axis=1)
        edges = np.append(starts, len(z1))
        for i in range(m):
            rows = slice(edges[i], edges[i + 1])
            zt[:, :, i] = t2[rows].T @ z1[rows]
    else:
        for a in range(q):
            for b in range(q + width):
                other = z2[:, b] if b < q else w2[:, b - q]
                zt[b, a] = np.add.reduceat(z1[:, a] * other, starts)
    return zt, product(w1.T, w2)


class GapBlock(ProductBlock):
    """
    Clusters that share their set of distinct gaps.

    The products are summed once per cluster and gap; an evaluation is one
    small matrix product, whatever the length of the series.
    """

    def __init__(
        self,
        rows: ClusterRows,
        clusters: IntArray,
        structure: MarkovStructure | None,
        gaps: FloatArray,
    ) -> None:
        self.clusters = clusters
        self.weights = rows.weights[clusters]
        self._structure = structure
        self._gaps = gaps
        sizes = np.diff(rows.offsets)[clusters]
        z, w, gap = rows.z, rows.w, rows.gaps
        ends = np.cumsum(sizes)
        if len(clusters) < rows.n_clusters:
            index = rows.index(clusters)
            z, w, gap = z[index], w[index], gap[index]
        starts = ends - sizes
        q, width = z.shape[1], w.shape[1]
        terms = 1 + 2 * len(gaps)
        self._zt = np.empty((terms, q + width, q, len(clusters)))
        self._ww = np.empty((terms, width, width))
        self._zt[0], self._ww[0] = products(z, z, w, w, starts)
        for k, distance in enumerate(gaps):
            here = gap == distance
            dz, dw = differences(z, here), differences(w, here)
            self._zt[1 + 2 * k], self._ww[1 + 2 * k] = products(dz, dz, dw, dw, starts)
            pz, pw = previous(z, here), previous(w, here)
            zt, ww = products(z, pz, w, pw, starts)
            self._zt[2 + 2 * k] = zt + products(pz, z, pw, w, starts)[0]
            self._ww[2 + 2 * k] = ww + ww.T
        rows_weight = np.repeat(self.weights, sizes)
        self._counts = np.array([rows_weight[gap == d].sum() for d in gaps])

    def at(self, u: FloatArray, *, derivatives: bool) -> CrossProducts:
        """Cross-products at a residual parameter; see :meth:`ProductBlock.at`."""
        if self._structure is None:
            q = self._zt.shape[2]
            return CrossProducts(
                self._zt[:, :q], self._zt[:, q:], self._ww, np.zeros(1)
            )
        found = self._structure.precision_coefficients(
            self._gaps, u, derivatives=derivatives
        )
        return self._mixed(found, np.eye(len(found.alpha))[0])

    @property
    def numbers(self) -> int:  # type: ignore[override]
        """How many numbers a point takes."""
        return 2 * self._zt[0].size + self._ww[0].size

    def many(self, u: FloatArray) -> CrossProducts:
        """Cross-products at many parameters; see :meth:`ProductBlock.many`."""
        if self._structure is None:
            return super().many(u)
        return self._mixed(self._structure.precisions(self._gaps, u), np.ones(len(u)))

    def _mixed(
        self, coefficients: PrecisionCoefficients, of_rows: FloatArray
    ) -> CrossProducts:
        """Products of rows, and of all gaps, times their coefficients."""
        terms, columns, q, m = self._zt.shape
        orders = len(coefficients.alpha)
        mix = np.zeros((orders, terms))
        mix[:, 0] = of_rows
        mix[:, 1::2] = coefficients.alpha
        mix[:, 2::2] = coefficients.beta
        zt = product(mix, self._zt.reshape(terms, -1)).reshape(orders, columns, q, m)
        ww = (mix @ self._ww.reshape(terms, -1)).reshape(orders, *self._ww.shape[1:])
        return CrossProducts(
            zt[:, :q], zt[:, q:], ww, coefficients.logdet @ self._counts
        )


_CHUNK = 2048


class LongBlock(ProductBlock):
    """Clusters of many rows, whose whitened cross-products are matrix products."""

    def __init__(
        self, rows: ClusterRows, clusters: IntArray, structure: MarkovStructure
    ) -> None:
        self.clusters = clusters
        self.weights = rows.weights
        self._structure = structure
        self._rows = np.concatenate([rows.z, rows.w], axis=1)
        self._gaps = rows.gaps
        self._offsets = rows.offsets
        self._shape = (rows.z.shape[1], rows.w.shape[1], rows.n_clusters)

    def at(self, u: FloatArray, *, derivatives: bool) -> CrossProducts:
        """Cross-products at a residual parameter; see :meth:`ProductBlock.at`."""
        q, width, m = self._shape
        orders = 3 if derivatives and self._structure.k_free else 1
        zt = np.empty((orders, q + width, q, m))
        ww = np.zeros((orders, width, width))
        logdet = np.zeros(orders)
        for i in range(m):
            gram, terms = self._cluster(i, u, orders)
            zt[:, :, :, i] = gram[:, :, :q]
            ww += gram[:, q:, q:]
            logdet += self.weights[i] * terms
        return CrossProducts(zt[:, :q], zt[:, q:], ww, logdet)

    def _cluster(
        self, cluster: int, u: FloatArray, orders: int
    ) -> tuple[FloatArray, FloatArray]:
        """Whitened cross-product of all columns, and the log-determinant."""
        start, end = self._offsets[cluster], self._offsets[cluster + 1]
        columns = self._rows.shape[1]
        gram = np.zeros((columns, orders, columns))
        logdet = np.zeros(orders)
        for first in range(start, end, _CHUNK):
            last = min(first + _CHUNK, end)
            here = self._rows[first:last]
            gram[:, 0] += here.T @ here
            inside = np.flatnonzero(self._gaps[first:last] > 0.0)
            if len(inside) == 0:
                continue
            now = here[inside]
            before = self._rows[first + inside - 1]
            step = now - before
            coefficients = self._structure.precision_coefficients(
                self._gaps[first + inside], u, derivatives=orders == 3
            )
            logdet += coefficients.logdet.sum(axis=1)
            # all orders in one product: columns (order, column)
            weighted = (coefficients.alpha.T[:, :, None] * step[:, None, :]).reshape(
                len(inside), -1
            )
            gram += (step.T @ weighted).reshape(gram.shape)
            weighted = (coefficients.beta.T[:, :, None] * before[:, None, :]).reshape(
                len(inside), -1
            )
            cross = (now.T @ weighted).reshape(gram.shape)
            gram += cross + cross.transpose(2, 1, 0)
        return gram.transpose(1, 0, 2), logdet


# Products are summed by distinct gap if each has so many rows.
_ROWS_A_GAP = 20
# Row products are kept up to this many numbers, and formed anew beyond.
_MAX_KEPT = 2**26


class RowBlock(ProductBlock):
    """Clusters with gaps of their own: one pair of coefficients a row."""

    def __init__(
        self, rows: ClusterRows, clusters: IntArray, structure: MarkovStructure
    ) -> None:
        self.clusters = clusters
        self.weights = rows.weights
        self._structure = structure
        z, w = rows.z, rows.w
        self._starts = rows.offsets[:-1]
        q, width = z.shape[1], w.shape[1]
        self._shape = (q, width, rows.n_clusters)
        self._here = rows.gaps > 0.0
        self._distances, self._class = distinct(rows.gaps[self._here])
        row_weights = np.repeat(rows.weights, np.diff(rows.offsets))[self._here]
        self._counts = np.bincount(
            self._class, weights=row_weights, minlength=len(self._distances)
        )
        self._base = products(z, z, w, w, self._starts)
        self._w = w
        self._dw = differences(w, self._here)
        self._pw = previous(w, self._here)
        self._by_gap: FloatArray | None = None
        if len(self._distances) * _ROWS_A_GAP <= len(self._class):
            self._by_gap = self._products_by_gap()
        self._features = [(a, b) for a in range(q) for b in range(a, q + width)]
        self._zt = np.concatenate([z, w], axis=1)
        self._dt = differences(self._zt, self._here)
        self._pt = previous(self._zt, self._here)
        self._kept: list[tuple[FloatArray | None, FloatArray]] | None = None
        if 2 * len(self._features) * len(z) <= _MAX_KEPT:
            self._kept = [self._feature(a, b) for a, b in self._features]

    def _products_by_gap(self) -> FloatArray:
        """Of differences, and of neighbours, shape (2, gaps, width, width)."""
        inside = np.flatnonzero(self._here)
        out = []
        for k in range(len(self._distances)):
            rows = inside[self._class == k]
            here, before, step = self._w[rows], self._pw[rows], self._dw[rows]
            cross = product(here.T, before)
            out.append((product(step.T, step), cross + cross.T))
        return np.array(out).swapaxes(0, 1)

    def _feature(self, a: int, b: int) -> tuple[FloatArray | None, FloatArray]:
        """Products of differences, None if all are zero, and of neighbours."""
        difference: FloatArray | None = None
        if self._dt[:, a].any():  # not of intercepts
            difference = self._dt[:, a] * self._dt[:, b]
        neighbour = self._zt[:, a] * self._pt[:, b] + self._pt[:, a] * self._zt[:, b]
        return difference, neighbour

    def at(self, u: FloatArray, *, derivatives: bool) -> CrossProducts:
        """Cross-products at a residual parameter; see :meth:`ProductBlock.at`."""
        coefficients = self._structure.precision_coefficients(
            self._distances, u, derivatives=derivatives
        )
        orders = len(coefficients.alpha)
        n = len(self._here)
        alpha, beta = np.zeros((2, orders, n))
        alpha[:, self._here] = coefficients.alpha[:, self._class]
        beta[:, self._here] = coefficients.beta[:, self._class]
        q, width, m = self._shape
        zt = np.zeros((orders, q + width, q, m))
        ww = np.zeros((orders, width, width))
        zt[0], ww[0] = self._base
        for k, (a, b) in enumerate(self._features):
            difference, neighbour = (
                self._kept[k] if self._kept is not None else self._feature(a, b)
            )
            for order in range(orders):
                values = beta[order] * neighbour
                if difference is not None:
                    values += alpha[order] * difference
                zt[order, b, a] += np.add.reduceat(values, self._starts)
        for a in range(q):
            for b in range(a):
                zt[:, b, a] = zt[:, a, b]
        if self._by_gap is not None:
            steps, neighbours = self._by_gap
            ww += np.tensordot(coefficients.alpha, steps, axes=1)
            ww += np.tensordot(coefficients.beta, neighbours, axes=1)
        for order in range(orders if self._by_gap is None else 0):
            ww[order] += product((self._dw * alpha[order][:, None]).T, self._dw)
            cross = product((self._w * beta[order][:, None]).T, self._pw)
            ww[order] += cross + cross.T
        return CrossProducts(
            zt[:, :q], zt[:, q:], ww, coefficients.logdet @ self._counts
        )


# Numbers in the weighted rows that are formed at a time: too few for threads.
_NUMBERS = 2**17


class ScaledBlock(ProductBlock):
    """
    All clusters, for a Markov (or no) correlation with a variance function.

    With the logarithm ``l`` of the standard deviation and the coefficients of the
    correlation's precision a row has the weight ``exp(-2 l_t) (1 + alpha_t +
    alpha_t+1)``, and neighbours ``exp(-l_t - l_t-1) (beta_t - alpha_t)``.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure
        With a variance function.
    correlation : MarkovStructure or None
        Without it; None for independence.
    """

    def __init__(
        self,
        rows: ClusterRows,
        structure: ResidualStructure,
        correlation: MarkovStructure | None,
    ) -> None:
        self._correlation = correlation
        self.clusters = np.arange(rows.n_clusters)
        self.weights = rows.weights
        self._structure = structure
        # clusters of one size lie together
        self._order = np.argsort(np.diff(rows.offsets), kind="stable")
        rows = rows.part(self._order)
        self._offsets, self._q = rows.offsets, rows.z.shape[1]
        columns, inside = np.concatenate([rows.z, rows.w], axis=1), rows.gaps > 0.0
        self._columns = np.ascontiguousarray(columns.T)
        self._before = np.ascontiguousarray(previous(columns, inside).T)
        row_weights = np.repeat(rows.weights, np.diff(rows.offsets))
        self._gaps, which = _if_fewer(rows.gaps[inside], *distinct(rows.gaps[inside]))
        self._gap_counts = np.bincount(which, row_weights[inside], len(self._gaps))
        # where there is no neighbour the gap is one behind the last
        self._gap = np.full(len(inside) + 1, len(self._gaps))
        self._gap[:-1][inside] = which
        assert rows.marks is not None
        kinds = np.column_stack([np.zeros(len(rows.marks)), rows.marks])  # no time
        self._kinds, self._kind = _if_fewer(kinds, *unique_rows(kinds))
        self._kind_before = np.roll(self._kind, 1)
        self._kind_counts = np.bincount(self._kind, row_weights, len(self._kinds))

    def at(self, u: FloatArray, *, derivatives: bool) -> CrossProducts:
        """Cross-products at residual parameters; see :meth:`ProductBlock.at`."""
        alpha, beta, logdet = self._coefficients(u, derivatives)
        log_sd = self._structure.log_sd(self._kinds, u)
        assert log_sd is not None
        free = len(logdet) // 2  # the correlation's parameter comes first
        total: Jet = 2.0 * (log_sd * self._kind_counts).sum()
        total.value += logdet[0]
        total.first[:free] += logdet[1:2]
        total.second[:free, :free] += logdet[2:]
        k = log_sd.k if derivatives else 0
        logs = Jet(log_sd.value, log_sd.first[free:k], log_sd.second[free:k, free:k])
        lower = np.tril_indices(k)
        logdet = np.array([total.value, *total.first[:k], *total.second[lower]])
        return self._sums(logs, alpha, beta - alpha, logdet)

    def _coefficients(
        self, u: FloatArray, derivatives: bool
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Of the correlation's precision, by gap and where there is none."""
        inner = self._correlation
        if inner is None or len(self._gaps) == 0:
            orders = 1 if inner is None or not derivatives else 1 + 2 * inner.k_free
            return (*np.zeros((2, orders, len(self._gaps) + 1)), np.zeros(orders))
        found = inner.precision_coefficients(
            self._gaps, u[: inner.k_free], derivatives=derivatives
        )
        none = np.zeros((len(found.alpha), 1))
        return (
            np.concatenate([found.alpha, none], axis=1),
            np.concatenate([found.beta, none], axis=1),
            found.logdet @ self._gap_counts,
        )

    def _sums(
        self, logs: Jet, around: FloatArray, between: FloatArray, logdet: FloatArray
    ) -> CrossProducts:
        """Weighted products of rows, a few at a time, with log-determinants."""
        c, q, orders = len(self._columns), self._q, len(logdet)
        zt = np.zeros((orders, c, q, len(self._order)))
        ww = np.zeros((orders, c - q, c - q))
        for here, runs in self._pieces(max(_NUMBERS // (orders * c), 1)):
            x, before = self._columns[:, here], self._before[:, here]
            log, last = (
                _take(logs, self._kind[here]),
                _take(logs, self._kind_before[here]),
            )
            gap, after = self._gap[here], self._gap[here.start + 1 : here.stop + 1]
            by_gap = around.take(gap, axis=1) + around.take(after, axis=1)
            by_gap[0] += 1.0
            own = _weights(2.0 * log, by_gap)
            cross = _weights(log + last, between.take(gap, axis=1))
            for a in range(q):
                pairs = (own, x * x[a]), (cross, x * before[a] + before * x[a])
                for some, size, rows in runs:
                    for weights, values in pairs:
                        sums = _sums_by_cluster(weights[:, rows], values[:, rows], size)
                        zt[:, :, a, self._order[some]] += sums
            w = x[q:]
            ww += _products(own[:, None] * w, w)
            half = _products(cross[:, None] * w, before[q:])
            ww += half + half.transpose(0, 2, 1)
        return CrossProducts(zt[:, :q], zt[:, q:], ww, logdet)

    def _pieces(self, step: int) -> Iterator[tuple[slice, list[_Run]]]:
        """Rows of some clusters, or a part of one, and runs of clusters of one size."""
        offsets, first = self._offsets, 0
        while first < len(offsets) - 1:
            last = (
                int(np.searchsorted(offsets, offsets[first] + step, side="right")) - 1
            )
            if last <= first:
                for row in range(offsets[first], offsets[first + 1], step):
                    size = min(step, offsets[first + 1] - row)
                    run = slice(first, first + 1), size, slice(0, size)
                    yield slice(row, row + size), [run]
                first += 1
                continue
            starts, sizes = offsets[first:last], np.diff(offsets[first : last + 1])
            edges = [0, *(np.flatnonzero(np.diff(sizes)) + 1), last - first]
            within = np.append(starts, offsets[last]) - starts[0]
            runs = [
                (slice(first + a, first + b), sizes[a], slice(within[a], within[b]))
                for a, b in pairwise(edges)
            ]
            yield slice(starts[0], offsets[last]), runs
            first = last


# Clusters, their size, and their rows among those of a piece.
_Run = tuple[slice, int, slice]


def _if_fewer(
    x: FloatArray, values: FloatArray, which: IntArray
) -> tuple[FloatArray, IntArray]:
    """Distinct numbers or rows and each one's place; all of them if few are equal."""
    return (values, which) if 2 * len(values) < len(x) else (x, np.arange(len(x)))


def _take(jet: Jet, rows: IntArray) -> Jet:
    """Some of the values, as indexing but faster."""
    return Jet(*(x.take(rows, axis=-1) for x in (jet.value, jet.first, jet.second)))


def _sums_by_cluster(weights: FloatArray, values: FloatArray, size: int) -> FloatArray:
    """Weighted sums in clusters of one size, (o, n) and (c, n) to (o, c, m)."""
    left = weights.reshape(len(weights), -1, size).transpose(1, 0, 2)
    right = values.reshape(len(values), -1, size).transpose(1, 2, 0)
    return np.matmul(left, right).transpose(1, 2, 0)


def _weights(logs: Jet, by_gap: FloatArray) -> FloatArray:
    """
    ``exp(-logs)`` times a function of the correlation's parameter.

    Parameters
    ----------
    logs : Jet of shape (n,)
        With derivatives by other parameters.
    by_gap : ndarray, shape (1 or 3, n)
        The function, and its derivatives.

    Returns
    -------
    ndarray, shape (orders, n)
        As in :class:`CrossProducts`.
    """
    value, *slopes = np.exp(-logs.value) * by_gap
    first, second = [*slopes[:1], *(-logs.first * value)], slopes[1:]
    for a, slope in enumerate(logs.first):
        second += [-slope * own for own in slopes[:1]]
        for b in range(a + 1):
            second.append((slope * logs.first[b] - logs.second[a, b]) * value)
    return np.array([value, *first, *second])


def _products(a: FloatArray, b: FloatArray) -> FloatArray:
    """``a b'`` of each order, (orders, i, n) and (j, n) to (orders, i, j)."""
    flat = product(a.reshape(-1, a.shape[2]), b.T)
    return flat.reshape(len(a), a.shape[1], len(b))
