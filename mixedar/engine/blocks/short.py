"""
Short clusters of few patterns, with their covariance matrices written out.

The products of all pairs of rows are formed once, so that an evaluation costs as much
as there are patterns, however many clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import (
    ClusterSums,
    LikelihoodBlock,
    ParameterPoint,
    ProductBlock,
)
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.numeric.blocked import inverse_roots
from mixedar.numeric.latest import Latest
from mixedar.numeric.linalg import product
from mixedar.residual import MarkovStructure

# Beyond this ratio of variances H is not inverted.
_CONDITION = 1e4


class DenseBlock(LikelihoodBlock):
    """
    Patterns of at most a dozen rows, padded to the longest.

    Parameters
    ----------
    rows : ClusterRows
    patterns : sequence of ndarray of int
        Clusters of each pattern; the first carries the weight.
    structure : MarkovStructure or None
        None for independent residuals.
    by_products : callable
        Makes blocks of the same clusters for where matrices that are written out
        lose digits.
    """

    def __init__(
        self,
        rows: ClusterRows,
        patterns: Sequence[IntArray],
        structure: MarkovStructure | None,
        by_products: Callable[[], Sequence[ProductBlock]],
    ) -> None:
        self._rows, self._structure = rows, structure
        self._make_products = by_products
        sizes = np.diff(rows.offsets)
        leaders = np.array([members[0] for members in patterns])
        g, n = len(patterns), int(sizes[leaders].max())
        width = rows.w.shape[1]
        self._multiplicity = rows.weights[leaders]
        self._counted = self._multiplicity[:, None, None] * np.eye(n)
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
        # the search climbs at one residual parameter after the other
        self._latest_correlations = Latest[tuple[float, FloatArray]]()
        self._slopes_for: RandomCovariance | None = None
        self._slopes_of_psi = np.empty((0, g, n, n))

    @cached_property
    def _by_products(self) -> Sequence[ProductBlock]:
        """The same clusters, made when they are needed first."""
        return self._make_products()

    def _correlations(self, u: FloatArray) -> tuple[float, FloatArray]:
        """
        R of each pattern and its derivatives, shape (orders, g, n, n).

        With it the smallest variance of a row given the row before.
        """
        known, least = len(self._known), 1.0
        free = 0 if self._structure is None else self._structure.k_free
        orders = 3 if free else 1
        values = np.zeros((orders, known + len(self._distances)))
        values[0, :known] = self._known
        if self._structure is not None and len(self._distances):
            step = self._structure.step(self._distances, u)
            least = float(step.complement.min())
            values[0, known:] = step.phi
            if orders == 3:
                values[1, known:], values[2, known:] = step.d1, step.d2
        return least, values.take(self._lookup, axis=1)

    def _slopes(self, covariance: RandomCovariance) -> FloatArray:
        """``dH / dv`` for the entries of ``Psi``, shape (k_cov, g, n, n)."""
        if self._slopes_for is not covariance:
            directions = covariance.directions[:, None]
            self._slopes_of_psi = self._z @ directions @ self._z.transpose(0, 2, 1)
            self._slopes_for = covariance
        return self._slopes_of_psi

    def sums(self, point: ParameterPoint, *, derivatives: bool) -> ClusterSums:
        """Cluster sums at a point; see :meth:`LikelihoodBlock.sums`."""
        covariance, factor, u = point[:3]
        least, correlations = self._latest_correlations.at(
            u, partial(self._correlations, u)
        )
        condition = (1.0 + float(np.vdot(factor, factor))) / least
        if not condition < _CONDITION:  # the Woodbury identity keeps its digits
            some, *others = (
                block.sums(point, derivatives=derivatives)
                for block in self._by_products
            )
            return sum(others, start=some)
        h = correlations[0]
        width = self._rows.w.shape[1]
        if covariance.order:
            root = self._z @ factor
            h = h + root @ root.transpose(0, 2, 1)
        inverse, logs = _inverse(h)
        d = float(self._multiplicity @ logs)
        slopes = self._slopes(covariance)
        curved = len(correlations) == 3
        if not derivatives or not (len(slopes) or curved):
            s = product(inverse.reshape(1, -1), self._gram).reshape(width, width)
            return ClusterSums.values(d, s)
        if curved:
            slopes = np.concatenate([slopes, correlations[1:2]])
        a = inverse @ slopes  # H^-1 dH
        first = a @ inverse
        flat = np.concatenate([inverse.reshape(1, -1), first.reshape(len(a), -1)])
        out = product(flat, self._gram).reshape(-1, width, width)
        d1 = a.reshape(len(a), -1) @ self._counted.ravel()
        bend = correlations[2] if curved else None
        curvature = ShortCurvature(self._counted, self._gram, inverse, a, bend)
        return ClusterSums(d, out[0], d1, -out[1:], (curvature,))


@dataclass(frozen=True)
class ShortCurvature:
    """
    Second derivatives of short clusters; see :class:`Curvature`.

    Attributes
    ----------
    counted : ndarray, shape (g, n, n)
        Identity matrices times the numbers of clusters.
    gram : ndarray, shape (g n n, (p + 1)^2)
        Products of pairs of rows.
    inverse : ndarray, shape (g, n, n)
        ``H^-1``.
    slopes : ndarray, shape (k, g, n, n)
        ``A_k = H^-1 dH_k``.
    bend : ndarray, shape (g, n, n), or None
        Second derivative of ``R`` by its parameter, the last of all.
    """

    counted: FloatArray
    gram: FloatArray
    inverse: FloatArray
    slopes: FloatArray
    bend: FloatArray | None

    def contract(self, weight: FloatArray | None) -> FloatArray:
        """``tr A_k A_l (2 H^-1 O - I)``, and what is bent; see :class:`Curvature`."""
        a, k = self.slopes, len(self.slopes)
        half: FloatArray | float = 0.0
        if weight is not None:
            outer = (self.gram @ weight.ravel()).reshape(self.inverse.shape)
            half = self.inverse @ outer
        right = (a @ (2.0 * half - self.counted)).transpose(0, 1, 3, 2)
        out = product(a.reshape(k, -1), right.reshape(k, -1).T)
        out = 0.5 * (out + out.T)
        if self.bend is not None:
            left = (self.counted - half) @ self.inverse
            out[-1, -1] += float(np.vdot(self.bend, left))
        return out

    def arrays(self) -> FloatArray:
        """``d2S``; see :class:`Curvature`."""
        inverse, a = self.inverse, self.slopes
        k, width = len(a), math.isqrt(self.gram.shape[1])
        # H^-1 dH_k H^-1 dH_l H^-1, whose transpose is that of (l, k)
        pairs = (a[:, None] @ (a @ inverse)).reshape(k * k, -1)
        out = product(pairs, self.gram).reshape(k, k, width, width)
        out = out + out.transpose(0, 1, 3, 2)
        if self.bend is not None:
            left = (inverse @ self.bend @ inverse).reshape(1, -1)
            out[-1, -1] -= product(left, self.gram).reshape(width, width)
        return out


def _inverse(h: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Inverses and log-determinants of matrices, shape (g, n, n)."""
    if len(h) > 1:
        pivots = np.diagonal(np.linalg.cholesky(h), axis1=1, axis2=2)
        inverse = np.asarray(np.linalg.inv(h), dtype=np.float64)
        return inverse, np.asarray(2.0 * np.log(pivots).sum(axis=1))
    half, logs = inverse_roots(h)
    return half.transpose(0, 2, 1) @ half, logs
