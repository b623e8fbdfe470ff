"""
Clusters that share their set of distinct gaps in time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import ProductBlock
from mixedar.engine.compress import ClusterRows
from mixedar.engine.level import CrossProducts
from mixedar.numeric.linalg import distinct, product
from mixedar.residual import MarkovStructure
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
        return self._mixed(found, values=1)

    @property
    def numbers(self) -> int:
        """See :class:`LikelihoodBlock`."""
        return 2 * self._zt[0].size + self._ww[0].size

    def many(self, u: FloatArray) -> CrossProducts:
        """Cross-products at many parameters; see :meth:`ProductBlock.many`."""
        if self._structure is None:
            return super().many(u)
        return self._mixed(self._structure.precisions(self._gaps, u), values=len(u))

    def _mixed(self, coefficients: PrecisionCoefficients, values: int) -> CrossProducts:
        """Sums by coefficients, of which the first are values, not derivatives."""
        terms, columns, q, m = self._zt.shape
        orders = len(coefficients.alpha)
        mix = np.zeros((orders, terms))
        mix[:values, 0] = 1.0
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
