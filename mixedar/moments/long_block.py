"""
Few long series with gaps of their own.

The products of rows are formed chunk by chunk in cache: nothing but the rows
themselves is stored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixedar.compress import ClusterRows
from mixedar.moments.block import MomentBlock, Moments
from mixedar.residual import MarkovStructure

__all__ = ["LongBlock"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_CHUNK = 2048


class LongBlock(MomentBlock):
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

    def at(self, u: FloatArray, *, derivatives: bool) -> Moments:
        """Moments at a residual parameter; see :meth:`MomentBlock.at`."""
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
        return Moments(zt[:, :q], zt[:, q:], ww, logdet)

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
