"""
Many short clusters with gaps of their own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixedar.compress import ClusterRows
from mixedar.linalg import product
from mixedar.moments.block import MomentBlock, Moments
from mixedar.moments.products import differences, previous, products
from mixedar.residual import MarkovStructure

__all__ = ["RowBlock"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

# Row products are kept up to this many numbers, and formed anew beyond.
_MAX_KEPT = 2**26


class RowBlock(MomentBlock):
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
        self._distances, self._class = np.unique(
            rows.gaps[self._here], return_inverse=True
        )
        row_weights = np.repeat(rows.weights, np.diff(rows.offsets))[self._here]
        self._counts = np.bincount(
            self._class, weights=row_weights, minlength=len(self._distances)
        )
        self._base = products(z, z, w, w, self._starts)
        self._w = w
        self._dw = differences(w, self._here)
        self._pw = previous(w, self._here)
        self._features = [(a, b) for a in range(q) for b in range(a, q + width)]
        self._zt = np.concatenate([z, w], axis=1)
        self._dt = differences(self._zt, self._here)
        self._pt = previous(self._zt, self._here)
        self._kept: list[tuple[FloatArray, FloatArray]] | None = None
        if 2 * len(self._features) * len(z) <= _MAX_KEPT:
            self._kept = [self._feature(a, b) for a, b in self._features]

    def _feature(self, a: int, b: int) -> tuple[FloatArray, FloatArray]:
        difference = self._dt[:, a] * self._dt[:, b]
        neighbour = self._zt[:, a] * self._pt[:, b] + self._pt[:, a] * self._zt[:, b]
        return difference, neighbour

    def at(self, u: FloatArray, *, derivatives: bool) -> Moments:
        """Moments at a residual parameter; see :meth:`MomentBlock.at`."""
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
                values = alpha[order] * difference
                values += beta[order] * neighbour
                zt[order, b, a] += np.add.reduceat(values, self._starts)
        for a in range(q):
            for b in range(a):
                zt[:, b, a] = zt[:, a, b]
        for order in range(orders):
            ww[order] += product((self._dw * alpha[order][:, None]).T, self._dw)
            cross = product((self._w * beta[order][:, None]).T, self._pw)
            ww[order] += cross + cross.T
        return Moments(zt[:, :q], zt[:, q:], ww, coefficients.logdet @ self._counts)
