"""
Short clusters in few patterns, with their covariance matrices written out.

Clusters of a pattern share ``H``; the data enter through
``C = sum_i vec(W_i) vec(W_i)'`` alone, so that ``S`` and all its derivatives are
one matrix product with ``C``.  For short clusters this takes a fraction of the
operations of the Woodbury identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mixedar.compress import ClusterRows
from mixedar.covariance import RandomCovariance
from mixedar.linalg import product
from mixedar.moments.arrays import Moments
from mixedar.moments.block import MomentBlock
from mixedar.moments.gap_block import GapBlock
from mixedar.residual import MarkovStructure
from mixedar.residual.markov import Step
from mixedar.sums import ArrayCurvature, ClusterSums

__all__ = ["DenseBlock"]

# Beyond this ratio of variances H is not inverted.
_CONDITION = 1e4

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


class DenseBlock(MomentBlock):
    """
    Patterns of at most a dozen rows, padded to the longest.

    Parameters
    ----------
    rows : ClusterRows
    patterns : sequence of ndarray of int
        Clusters of each pattern; the first carries the weight.
    structure : MarkovStructure or None
        None for independent residuals.
    """

    def __init__(
        self,
        rows: ClusterRows,
        patterns: Sequence[IntArray],
        structure: MarkovStructure | None,
    ) -> None:
        self.clusters = np.concatenate(patterns)
        self.weights = rows.weights[self.clusters]
        self._rows, self._structure = rows, structure
        sizes = np.diff(rows.offsets)
        leaders = np.array([members[0] for members in patterns])
        g, n = len(patterns), int(sizes[leaders].max())
        width = rows.w.shape[1]
        self._multiplicity = rows.weights[leaders]
        self._z = np.zeros((g, n, rows.z.shape[1]))
        grams = np.zeros((g, n, n, width, width))
        distance = np.full((g, n, n), -1.0)  # -1 between different series
        for k, members in enumerate(patterns):
            start, size = rows.offsets[members[0]], sizes[members[0]]
            here = slice(start, start + size)
            self._z[k, :size] = rows.z[here]
            # pseudo-clusters of a pattern are neighbours
            stacked = rows.w[start : start + size * len(members)]
            stacked = stacked.reshape(len(members), size * width)
            gram = product(stacked.T, stacked).reshape(size, width, size, width)
            grams[k, :size, :size] = gram.transpose(0, 2, 1, 3)
            if structure is not None:
                time = np.cumsum(rows.gaps[here])
                series = np.cumsum(rows.gaps[here] == 0.0)
                apart = np.abs(np.subtract.outer(time, time))
                apart[series[:, None] != series[None, :]] = -1.0
                distance[k, :size, :size] = apart
        self._gram = grams.reshape(g * n * n, width * width)
        distance[:, np.arange(n), np.arange(n)] = 0.0
        # correlations are looked up: 0 between series, 1 on the diagonal, phi(d)
        distinct, where = np.unique(distance, return_inverse=True)
        self._distances = distinct[distinct > 0.0]
        self._known = np.where(distinct[distinct <= 0.0] < 0.0, 0.0, 1.0)
        self._lookup = where.reshape(distance.shape)
        self._slopes_for: RandomCovariance | None = None
        self._slopes_of_psi = np.empty((0, g, n, n))

    @cached_property
    def _moments(self) -> GapBlock:
        """The same clusters for those who need moments."""
        gaps = np.empty(0)
        if self._structure is not None:
            gaps = np.unique(self._rows.gaps[self._rows.gaps > 0.0])
        return GapBlock(self._rows, self.clusters, self._structure, gaps)

    def at(self, u: FloatArray, *, derivatives: bool) -> Moments:
        """Moments at a residual parameter; see :meth:`MomentBlock.at`."""
        return self._moments.at(u, derivatives=derivatives)

    def _correlations(self, step: Step | None, derivatives: bool) -> FloatArray:
        """R of each pattern and its derivatives, shape (orders, g, n, n)."""
        known = len(self._known)
        free = 0 if self._structure is None else self._structure.k_free
        orders = 3 if derivatives and free else 1
        values = np.zeros((orders, known + len(self._distances)))
        values[0, :known] = self._known
        if step is not None:
            values[0, known:] = step.phi
            if orders == 3:
                values[1, known:], values[2, known:] = step.d1, step.d2
        return values[:, self._lookup]

    def _slopes(self, covariance: RandomCovariance) -> FloatArray:
        """``dH / dv`` for the entries of ``Psi``, shape (k_cov, g, n, n)."""
        if self._slopes_for is not covariance:
            directions = covariance.directions[:, None]
            self._slopes_of_psi = self._z @ directions @ self._z.transpose(0, 2, 1)
            self._slopes_for = covariance
        return self._slopes_of_psi

    def sums(
        self,
        covariance: RandomCovariance,
        factor: FloatArray,
        u: FloatArray,
        *,
        derivatives: bool,
    ) -> ClusterSums:
        """Cluster sums at a point; see :meth:`MomentBlock.sums`."""
        step = None
        condition = 1.0 + float((factor * factor).sum())
        if self._structure is not None and len(self._distances):
            step = self._structure.step(self._distances, u)
            condition /= float(step.complement.min())
        if not condition < _CONDITION:  # the Woodbury identity keeps its digits
            return super().sums(covariance, factor, u, derivatives=derivatives)
        correlations = self._correlations(step, derivatives)
        h = correlations[0]
        g, n, _ = h.shape
        width = self._rows.w.shape[1]
        if covariance.order:
            root = self._z @ factor
            h = h + root @ root.transpose(0, 2, 1)
        pivots = np.diagonal(np.linalg.cholesky(h), axis1=1, axis2=2)
        d = 2.0 * float(self._multiplicity @ np.log(pivots).sum(axis=1))
        inverse = np.linalg.inv(h)
        slopes = self._slopes(covariance)
        curved = len(correlations) == 3
        if not derivatives or not (len(slopes) or curved):
            s = product(inverse.reshape(1, -1), self._gram).reshape(width, width)
            return ClusterSums.values(d, s)
        if curved:
            slopes = np.concatenate([slopes, correlations[1:2]])
        k = len(slopes)
        a = inverse @ slopes  # H^-1 dH
        first = a @ inverse
        weighted = a * self._multiplicity[:, None, None]
        d1 = np.einsum("kgii->k", weighted)
        d2 = -product(weighted.reshape(k, -1), a.transpose(0, 1, 3, 2).reshape(k, -1).T)
        # H^-1 dH_k H^-1 dH_l H^-1, whose transpose is that of (l, k)
        pairs = a[:, None] @ first
        parts = [inverse[None], first, pairs.reshape(k * k, g, n, n)]
        if curved:
            bend = inverse @ correlations[2]
            d2[-1, -1] += np.einsum("gii,g->", bend, self._multiplicity)
            parts.append((bend @ inverse)[None])
        stacked = np.concatenate(parts).reshape(-1, g * n * n)
        out = product(stacked, self._gram).reshape(-1, width, width)
        s2 = out[1 + k : 1 + k + k * k].reshape(k, k, width, width)
        s2 = s2 + s2.transpose(0, 1, 3, 2)
        if curved:
            s2[-1, -1] -= out[-1]
        curvature = ArrayCurvature(d2, s2)
        return ClusterSums(d, out[0], d1, -out[1 : 1 + k], (curvature,))
