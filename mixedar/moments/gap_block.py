"""
Clusters that share their set of distinct gaps in time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixedar.compress import ClusterRows
from mixedar.linalg import product
from mixedar.moments.block import MomentBlock, Moments
from mixedar.moments.products import (
    difference_products,
    neighbour_products,
    products,
)
from mixedar.residual import MarkovStructure

__all__ = ["GapBlock"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


class GapBlock(MomentBlock):
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
        offsets = rows.offsets
        sizes = np.diff(offsets)[clusters]
        z, w, gap = rows.z, rows.w, rows.gaps
        ends = np.cumsum(sizes)
        if len(clusters) < rows.n_clusters:
            index = np.arange(ends[-1]) + np.repeat(
                offsets[clusters] - ends + sizes, sizes
            )
            z, w, gap = z[index], w[index], gap[index]
        starts = ends - sizes
        q, width = z.shape[1], w.shape[1]
        terms = 1 + 2 * len(gaps)
        self._zt = np.empty((terms, q + width, q, len(clusters)))
        self._ww = np.empty((terms, width, width))
        self._zt[0], self._ww[0] = products(z, z, w, w, starts)
        for k, distance in enumerate(gaps):
            here = gap == distance
            self._zt[1 + 2 * k], self._ww[1 + 2 * k] = difference_products(
                z, w, here, starts
            )
            self._zt[2 + 2 * k], self._ww[2 + 2 * k] = neighbour_products(
                z, w, here, starts
            )
        rows_weight = np.repeat(self.weights, sizes)
        self._counts = np.array([rows_weight[gap == d].sum() for d in gaps])

    def at(self, u: FloatArray, *, derivatives: bool) -> Moments:
        """Moments at a residual parameter; see :meth:`MomentBlock.at`."""
        terms, columns, q, m = self._zt.shape
        if self._structure is None:
            return Moments(self._zt[:, :q], self._zt[:, q:], self._ww, np.zeros(1))
        coefficients = self._structure.precision_coefficients(
            self._gaps, u, derivatives=derivatives
        )
        orders = len(coefficients.alpha)
        mix = np.zeros((orders, terms))
        mix[0, 0] = 1.0
        mix[:, 1::2] = coefficients.alpha
        mix[:, 2::2] = coefficients.beta
        zt = product(mix, self._zt.reshape(terms, -1)).reshape(orders, columns, q, m)
        ww = (mix @ self._ww.reshape(terms, -1)).reshape(orders, *self._ww.shape[1:])
        return Moments(zt[:, :q], zt[:, q:], ww, coefficients.logdet @ self._counts)
