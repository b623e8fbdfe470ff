"""
Cross-products of whitened rows, as functions of the residual parameters.

For each cluster the mixed-model algebra needs ``M = Z'R^-1 Z``,
``N = Z'R^-1 W`` and, summed over clusters, ``G = W'R^-1 W`` and ``log|R|``.
For Markov structures these are linear in few functions of the parameter (see
:mod:`mixedar.residual.markov`), so the products of rows are formed once:
per cluster and distinct gap where gaps repeat, so that a long series costs no
more than a short one, and otherwise row by row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixedar.compress import ClusterRows
from mixedar.exceptions import UnsupportedError
from mixedar.residual import MarkovStructure, ResidualStructure

__all__ = ["MomentBlock", "Moments", "moment_blocks"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

# Blocks by set of distinct gaps pay as long as there are few such sets.
_MAX_GAP_SETS = 24
# Row products are kept up to this many numbers, and formed anew beyond.
_MAX_KEPT = 2**27


@dataclass(frozen=True)
class Moments:
    """
    Whitened cross-products of a block of m clusters.

    The first axis holds the values (0) and, when asked for, the first (1) and
    second (2) derivatives by the unconstrained residual parameter.

    Attributes
    ----------
    zz : ndarray, shape (orders, q, q, m)
    zw : ndarray, shape (orders, p + 1, q, m)
        Transposed: ``W'R^-1 Z``.
    ww : ndarray, shape (orders, p + 1, p + 1)
        Summed over the clusters.
    logdet : ndarray, shape (orders,)
        Log-determinant of all residual correlation matrices.
    """

    zz: FloatArray
    zw: FloatArray
    ww: FloatArray
    logdet: FloatArray


class MomentBlock(ABC):
    """Clusters whose moments are computed together."""

    clusters: IntArray
    weights: FloatArray

    @abstractmethod
    def at(self, u: FloatArray, *, derivatives: bool) -> Moments:
        """Moments at an unconstrained residual parameter, shape (k_free,)."""


def moment_blocks(
    rows: ClusterRows, structure: ResidualStructure
) -> Sequence[MomentBlock]:
    """
    Prepare the products of rows that a residual structure calls for.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure

    Returns
    -------
    list of MomentBlock
        Together they hold every cluster once.

    Raises
    ------
    UnsupportedError
        If no block knows how to whiten for the structure.
    """
    everyone = np.arange(rows.n_clusters)
    if structure.k_params == 0:
        return [_GapBlock(rows, everyone, None, np.empty(0))]
    if not isinstance(structure, MarkovStructure):
        raise UnsupportedError(
            f"residual structure {structure.label!r} is not first-order Markov; "
            "the likelihood cannot whiten it yet"
        )
    inside = rows.gaps > 0.0
    distinct, class_of_gap = np.unique(rows.gaps[inside], return_inverse=True)
    sizes = np.diff(rows.offsets)
    if len(distinct) <= 62:
        present = np.zeros(len(rows.gaps), dtype=np.int64)
        present[inside] = np.left_shift(np.int64(1), class_of_gap)
        sets = np.bitwise_or.reduceat(present, rows.offsets[:-1])
        unique_sets, set_of_cluster = np.unique(sets, return_inverse=True)
        n_gaps = np.array([int(s).bit_count() for s in unique_sets])
        cost = float((1 + 2 * n_gaps[set_of_cluster]).sum())
        if len(unique_sets) <= _MAX_GAP_SETS and cost <= 2.0 * sizes.sum():
            blocks: list[MomentBlock] = []
            for k, bits in enumerate(unique_sets):
                gaps = distinct[[i for i in range(len(distinct)) if bits >> i & 1]]
                members = np.flatnonzero(set_of_cluster == k)
                blocks.append(_GapBlock(rows, members, structure, gaps))
            return blocks
    return [_RowBlock(rows, everyone, structure)]


class _GapBlock(MomentBlock):
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
        self._zt[0], self._ww[0] = _products(z, z, w, w, starts)
        for k, distance in enumerate(gaps):
            here = gap == distance
            self._zt[1 + 2 * k], self._ww[1 + 2 * k] = _difference_products(
                z, w, here, starts
            )
            self._zt[2 + 2 * k], self._ww[2 + 2 * k] = _neighbour_products(
                z, w, here, starts
            )
        rows_weight = np.repeat(self.weights, sizes)
        self._counts = np.array([rows_weight[gap == d].sum() for d in gaps])

    def at(self, u: FloatArray, *, derivatives: bool) -> Moments:
        terms, columns, q, m = self._zt.shape
        if self._structure is None:
            return Moments(
                self._zt[:, :q], self._zt[:, q:], self._ww, np.zeros(1)
            )
        coefficients = self._structure.precision_coefficients(
            self._gaps, u, derivatives=derivatives
        )
        orders = len(coefficients.alpha)
        mix = np.zeros((orders, terms))
        mix[0, 0] = 1.0
        mix[:, 1::2] = coefficients.alpha
        mix[:, 2::2] = coefficients.beta
        zt = (mix @ self._zt.reshape(terms, -1)).reshape(orders, columns, q, m)
        ww = (mix @ self._ww.reshape(terms, -1)).reshape(orders, *self._ww.shape[1:])
        return Moments(
            zt[:, :q], zt[:, q:], ww, coefficients.logdet @ self._counts
        )


class _RowBlock(MomentBlock):
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
        self._base = _products(z, z, w, w, self._starts)
        self._w = w
        self._dw = _differences(w, self._here)
        self._pw = _previous(w, self._here)
        self._features = [(a, b) for a in range(q) for b in range(a, q + width)]
        self._zt = np.concatenate([z, w], axis=1)
        self._dt = _differences(self._zt, self._here)
        self._pt = _previous(self._zt, self._here)
        self._kept: list[tuple[FloatArray, FloatArray]] | None = None
        if 2 * len(self._features) * len(z) <= _MAX_KEPT:
            self._kept = [self._feature(a, b) for a, b in self._features]

    def _feature(self, a: int, b: int) -> tuple[FloatArray, FloatArray]:
        difference = self._dt[:, a] * self._dt[:, b]
        neighbour = self._zt[:, a] * self._pt[:, b] + self._pt[:, a] * self._zt[:, b]
        return difference, neighbour

    def at(self, u: FloatArray, *, derivatives: bool) -> Moments:
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
            ww[order] += (self._dw * alpha[order][:, None]).T @ self._dw
            cross = (self._w * beta[order][:, None]).T @ self._pw
            ww[order] += cross + cross.T
        return Moments(
            zt[:, :q], zt[:, q:], ww, coefficients.logdet @ self._counts
        )


def _previous(x: FloatArray, here: NDArray[np.bool_]) -> FloatArray:
    """The row before, and zeros where a series begins."""
    out = np.zeros_like(x)
    out[1:] = x[:-1]
    out[~here] = 0.0
    return out


def _differences(x: FloatArray, here: NDArray[np.bool_]) -> FloatArray:
    """The difference from the row before, and zeros where a series begins."""
    out = np.zeros_like(x)
    np.subtract(x[1:], x[:-1], out=out[1:])
    out[~here] = 0.0
    return out


def _difference_products(
    z: FloatArray, w: FloatArray, here: NDArray[np.bool_], starts: IntArray
) -> tuple[FloatArray, FloatArray]:
    dz, dw = _differences(z, here), _differences(w, here)
    return _products(dz, dz, dw, dw, starts)


def _neighbour_products(
    z: FloatArray, w: FloatArray, here: NDArray[np.bool_], starts: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Symmetrised products of rows with the row before."""
    pz, pw = _previous(z, here), _previous(w, here)
    zt, ww = _products(z, pz, w, pw, starts)
    back, _ = _products(pz, z, pw, w, starts)
    return zt + back, ww + ww.T


def _products(
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
    return zt, w1.T @ w2
