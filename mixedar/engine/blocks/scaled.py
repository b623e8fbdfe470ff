"""
Clusters of neighbours with standard deviations of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import ProductBlock
from mixedar.engine.blocks.markov import previous
from mixedar.engine.compress import ClusterRows
from mixedar.engine.level import CrossProducts
from mixedar.numeric.autodiff import Jet
from mixedar.numeric.linalg import distinct, product, unique_rows
from mixedar.residual import MarkovStructure, ResidualStructure

# Numbers in the weighted rows that are formed at a time: too few for threads.
_NUMBERS = 2**17
# Clusters, their size, and their rows among those of a piece.
_Run = tuple[slice, int, slice]


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
        self._gap_counts = np.bincount(which, row_weights[inside], len(self._gaps) + 1)
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
        (alpha, beta, logdet), log_sd = self._coefficients(u, derivatives)
        total = 2.0 * (log_sd * self._kind_counts).sum()
        logdets = _orders(total, logdet @ self._gap_counts, derivatives)
        # the correlation's parameter comes first
        free, k = len(alpha) // 2, log_sd.k if derivatives else 0
        logs = Jet(log_sd.value, log_sd.first[free:k], log_sd.second[free:k, free:k])
        return self._sums(logs, alpha, beta - alpha, logdets)

    def logdets(self, u: FloatArray, *, derivatives: bool) -> FloatArray:
        """Log-determinants of each cluster, shape (orders, m)."""
        (_, _, logdet), log_sd = self._coefficients(u, derivatives)
        own = 2.0 * log_sd.take(self._kind)
        by_row = _orders(own, logdet.take(self._gap[:-1], axis=1), derivatives)
        out = np.empty((len(by_row), len(self._order)))
        out[:, self._order] = np.add.reduceat(by_row, self._offsets[:-1], axis=1)
        return out

    def _coefficients(self, u: FloatArray, derivatives: bool) -> tuple[FloatArray, Jet]:
        """Of the correlation's precision, by gap and where there is none; ``l``."""
        log_sd = self._structure.log_sd(self._kinds, u)
        assert log_sd is not None
        inner, orders = self._correlation, 1
        if inner is not None and derivatives:
            orders = 1 + 2 * inner.k_free
        out = np.zeros((3, orders, len(self._gaps) + 1))
        if inner is not None and len(self._gaps):
            found = inner.precision_coefficients(
                self._gaps, u[: inner.k_free], derivatives=derivatives
            )
            out[..., :-1] = found.alpha, found.beta, found.logdet
        return out, log_sd

    def _sums(
        self, logs: Jet, around: FloatArray, between: FloatArray, logdet: FloatArray
    ) -> CrossProducts:
        """Weighted products of rows, a few at a time, with log-determinants."""
        c, q, orders = len(self._columns), self._q, len(logdet)
        zt = np.zeros((orders, c, q, len(self._order)))
        ww = np.zeros((orders, c - q, c - q))
        for here, runs in self._pieces(max(_NUMBERS // (orders * c), 1)):
            x, before = self._columns[:, here], self._before[:, here]
            log = logs.take(self._kind[here])
            log_before = logs.take(self._kind_before[here])
            gap, after = self._gap[here], self._gap[here.start + 1 : here.stop + 1]
            by_gap = around.take(gap, axis=1) + around.take(after, axis=1)
            by_gap[0] += 1.0
            own = _weights(2.0 * log, by_gap)
            cross = _weights(log + log_before, between.take(gap, axis=1))
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
            last = int(np.searchsorted(offsets, offsets[first] + step, "right")) - 1
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


def _if_fewer(
    x: FloatArray, values: FloatArray, which: IntArray
) -> tuple[FloatArray, IntArray]:
    """Distinct numbers or rows and each one's place; all of them if few are equal."""
    return (values, which) if 2 * len(values) < len(x) else (x, np.arange(len(x)))


def _orders(log_sizes: Jet, by_gap: FloatArray, derivatives: bool) -> FloatArray:
    """Log-determinants, of the sizes and the correlation, as in CrossProducts."""
    if not derivatives:
        return log_sizes.value[None] + by_gap
    first, second = log_sizes.first.copy(), log_sizes.second.copy()
    free, lower = len(by_gap) // 2, np.tril_indices(len(first))
    first[:free] += by_gap[1:2]
    second[:free, :free] += by_gap[2:]
    return np.array([log_sizes.value + by_gap[0], *first, *second[lower]])


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
