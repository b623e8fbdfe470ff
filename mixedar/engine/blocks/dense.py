"""
Clusters of one size, with their covariance matrices written out.

With the Cholesky factor ``H = L L'`` and the whitened slopes
``A_k = L^-1 (dH / dv_k) L^-T`` and rows ``Y = L^-1 W``,

    dD_k   = tr A_k,              dS_k   = -Y' A_k Y,
    d2D_kl = tr H_kl H^-1 - tr A_k A_l,
    d2S_kl = Y' (A_k A_l + A_l A_k) Y - Y' L^-1 H_kl L^-T Y.

The likelihood wants ``d2S`` contracted with one matrix only, so that the pairs
``(k, l)`` cost a product of two numbers each, however many parameters there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtri

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import (
    ClusterSums,
    LikelihoodBlock,
    ParameterPoint,
)
from mixedar.engine.compress import ClusterRows
from mixedar.engine.residuals import ResidualMatrices, ResidualValues, share_values
from mixedar.numeric.linalg import product
from mixedar.residual import ResidualStructure

# Numbers in the slopes of the patterns that are treated at a time, ...
_CHUNK = 2**19
# ... and of all of them, up to which they are kept for the second derivatives.
_KEPT = 2**24


def covariance_blocks(
    rows: ClusterRows, structure: ResidualStructure
) -> list[CovarianceBlock]:
    """
    Blocks of clusters with one number of rows, for any structure.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure
        Bound to the data.

    Returns
    -------
    list of CovarianceBlock
    """
    sizes = np.diff(rows.offsets)
    starts = np.flatnonzero(rows.weights > 0.0)  # a pattern begins with its weight
    members = np.diff(np.append(starts, rows.n_clusters))
    # patterns of about as many pseudo-clusters go together, padded by empty ones
    level = np.ceil(np.log2(members)).astype(int)
    key = sizes[starts] * 64 + level
    blocks = []
    for value in np.unique(key):
        some = np.flatnonzero(key == value)
        blocks.append(CovarianceBlock(rows, structure, starts[some], members[some]))
    share_values([block.matrices for block in blocks])
    return blocks


class CovarianceBlock(LikelihoodBlock):
    """
    Patterns of `n` rows.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure
    leaders : ndarray of int, shape (g,)
        First cluster of each pattern; its others follow it.
    members : ndarray of int, shape (g,)
        Their numbers.
    """

    def __init__(
        self,
        rows: ClusterRows,
        structure: ResidualStructure,
        leaders: IntArray,
        members: IntArray,
    ) -> None:
        self.structure = structure
        self.multiplicity = rows.weights[leaders]
        first = rows.offsets[leaders]
        n = int(rows.offsets[leaders[0] + 1] - first[0])
        g, width, most = len(leaders), rows.w.shape[1], int(members.max())
        index = first[:, None] + np.arange(n)
        marks = np.empty((g, n, 0)) if rows.marks is None else rows.marks[index]
        self.matrices = ResidualMatrices(structure, rows.gaps[index], marks)
        self.z = rows.z[index]
        self.w = np.zeros((g, n, most, width))
        for k in range(most):
            here = members > k
            self.w[here, :, k] = rows.w[index[here] + k * n]

    def sums(self, point: ParameterPoint, *, derivatives: bool) -> ClusterSums:
        """Cluster sums at a point; see :meth:`LikelihoodBlock.sums`."""
        width = self.w.shape[-1]
        curvature = PatternCurvature(self, point)
        k = curvature.k
        d, s = 0.0, np.zeros((width, width))
        d1, s1 = np.zeros(k), np.zeros((k, width, width))
        for part in curvature.parts(derivatives):
            d += part.logdet
            flat = part.y.reshape(-1, width)
            s += product(flat.T, flat)
            if derivatives and k:
                d1 += np.einsum("kgii,g->k", part.slopes, part.multiplicity)
                s1 -= part.images()
        if not derivatives:
            return ClusterSums.values(d, s)
        s1 = (s1 + s1.transpose(0, 2, 1)) / 2.0
        return ClusterSums(d, s, d1, s1, (curvature,) if k else ())

    def bends(self, point: ParameterPoint) -> tuple[FloatArray, FloatArray]:
        """
        What the second derivatives of ``R`` contribute.

        Returns
        -------
        sandwiches : ndarray, shape (k, k, p + 1, p + 1)
            ``sum W'H^-1 R_kl H^-1 W``, of the residual parameters.
        traces : ndarray, shape (k, k)
            ``sum tr(H^-1 R_kl)``.
        """
        return PatternCurvature(self, point).bends()


@dataclass(frozen=True)
class _Patterns:
    """
    Some patterns, whitened.

    `slopes` has the shape (k, g, n, n), `y` (g, n, M, width), `inverse`,
    ``L^-1``, (g, n, n), and `gram`, where it pays, the products of pairs of rows of
    `y` summed over the clusters, (g n n, width width).
    """

    some: slice
    multiplicity: FloatArray
    logdet: float
    inverse: FloatArray
    y: FloatArray
    slopes: FloatArray
    gram: FloatArray | None

    def images(self) -> FloatArray:
        """``Y' A_k Y``, shape (k, width, width)."""
        k, width = len(self.slopes), self.y.shape[-1]
        if self.gram is not None:
            found = product(self.slopes.reshape(k, -1), self.gram)
            return found.reshape(k, width, width)
        rows, stacked = self.y.reshape(-1, width), self.y.reshape(*self.y.shape[:2], -1)
        found = np.empty((k, width, width))
        for out, slope in zip(found, self.slopes, strict=True):
            out[:] = product(rows.T, (slope @ stacked).reshape(-1, width))
        return found

    def outer(self, weight: FloatArray) -> FloatArray:
        """``Y weight Y'`` of pairs of rows, shape (g, n, n)."""
        g, n, _, width = self.y.shape
        if self.gram is not None:
            return product(self.gram, weight.reshape(-1, 1)).reshape(g, n, n)
        turned = product(self.y.reshape(-1, width), weight).reshape(g, n, -1)
        return turned @ self.y.reshape(g, n, -1).transpose(0, 2, 1)


class PatternCurvature:
    """Second derivatives of a block at a point; see :class:`Curvature`."""

    def __init__(self, block: CovarianceBlock, point: ParameterPoint) -> None:
        self.block = block
        self.covariance, self.factor, self.u = point[:3]
        self.k = self.covariance.k_cov + block.structure.k_free
        self._values: ResidualValues | None = None
        self._kept: list[_Patterns] | None = None
        # products of pairs of rows once, or rows times slopes: what is less work
        n, most, width = block.w.shape[1:]
        rows = (self.k + 1) * most * (n + width)
        self._by_pairs = n * width * (most + self.k + 1) <= rows

    def parts(self, derivatives: bool = True) -> Iterator[_Patterns]:
        """Chunks of patterns; small blocks are computed once."""
        if self._kept is not None:
            yield from self._kept
            return
        block = self.block
        g, n = block.z.shape[:2]
        if self._values is None:
            self._values = block.matrices.values(self.u)
        most, width = block.w.shape[2:]
        pairs = width**2 if self._by_pairs else 0
        each = n * max(n * max(self.k + 3, pairs), most * width)
        step = max(1, _CHUNK // each)
        chunks = [slice(a, min(a + step, g)) for a in range(0, g, step)]
        if not derivatives or g * each > _KEPT:
            for some in chunks:
                yield self._part(some, derivatives)
            return
        self._kept = [self._part(some, True) for some in chunks]
        yield from self._kept

    def _part(self, some: slice, derivatives: bool) -> _Patterns:
        block, covariance = self.block, self.covariance
        values = self._values
        assert values is not None
        h = block.matrices.matrices(values, some)
        z, w = block.z[some], block.w[some]
        if covariance.order:
            root = z @ self.factor
            h = h + root @ root.transpose(0, 2, 1)
        multiplicity = block.multiplicity[some]
        inverse, logs = inverse_roots(h)
        logdet = float(multiplicity @ logs)
        g, n = w.shape[:2]
        y = (inverse @ w.reshape(g, n, -1)).reshape(w.shape)
        slopes, gram = np.empty((0, g, n, n)), None
        if derivatives:
            gram = _pair_products(y) if self._by_pairs else None
            k_cov = covariance.k_cov
            slopes = np.empty((self.k, g, n, n))
            if k_cov:
                white = inverse @ z
                slopes[:k_cov] = (
                    white @ covariance.directions[:, None] @ white.transpose(0, 2, 1)
                )
            if self.k > k_cov:
                slopes[k_cov:] = (
                    inverse
                    @ block.matrices.slopes(values, some)
                    @ inverse.transpose(0, 2, 1)
                )
        return _Patterns(some, multiplicity, logdet, inverse, y, slopes, gram)

    def contract(self, weight: FloatArray | None) -> FloatArray:
        """``d2D + <d2S, weight>``; see :class:`Curvature`."""
        out = np.zeros((self.k, self.k))
        for part in self.parts():
            n = part.y.shape[1]
            middle = -part.multiplicity[:, None, None] * np.eye(n)
            bend = -middle
            if weight is not None:
                outer = part.outer(weight)
                middle = middle + 2.0 * outer
                bend = bend - outer
            left = part.slopes.reshape(self.k, -1)
            right = (part.slopes @ middle).reshape(self.k, -1)
            out += product(left, right.T)
            self._add_bend(out, part, bend)
        return (out + out.T) / 2.0

    def _add_bend(self, out: FloatArray, part: _Patterns, bend: FloatArray) -> None:
        """Add ``<H_kl, L^-T bend L^-1>`` for the residual parameters."""
        k_cov = self.covariance.k_cov
        if self.k == k_cov:
            return
        assert self._values is not None
        weight = part.inverse.transpose(0, 2, 1) @ bend @ part.inverse
        matrices = self.block.matrices
        out[k_cov:, k_cov:] += matrices.curvature(self._values, part.some, weight)

    def arrays(self) -> FloatArray:
        """``d2S``; see :class:`Curvature`."""
        width = self.block.w.shape[-1]
        out = np.zeros((self.k, self.k, width, width))
        for part in self.parts():
            g, n = part.y.shape[:2]
            image = part.slopes @ part.y.reshape(g, n, -1)
            image = image.reshape(self.k, -1, width)
            for a in range(self.k):
                for b in range(a + 1):
                    both = product(image[a].T, image[b])
                    out[a, b] += both + both.T
                    if a != b:
                        out[b, a] += both + both.T
        inner = slice(self.covariance.k_cov, None)
        if self.k > self.covariance.k_cov:
            out[inner, inner] -= self.bends()[0]
        return out

    def bends(self) -> tuple[FloatArray, FloatArray]:
        """See :meth:`CovarianceBlock.bends`."""
        k, width = self.k - self.covariance.k_cov, self.block.w.shape[-1]
        sandwiches, traces = np.zeros((k, k, width, width)), np.zeros((self.k,) * 2)
        for part in self.parts():
            n = part.y.shape[1]
            eye = part.multiplicity[:, None, None] * np.eye(n)
            self._add_bend(traces, part, eye)
            if k < width:
                self._add_by_parameters(sandwiches, part)
            else:
                self._add_by_columns(sandwiches, part)
        return sandwiches, traces[-k:, -k:]

    def _add_by_parameters(self, out: FloatArray, part: _Patterns) -> None:
        """Add sandwiches, pair by pair of parameters."""
        g, n, _, width = part.y.shape
        back = part.inverse.transpose(0, 2, 1) @ part.y.reshape(g, n, -1)
        rows = back.reshape(-1, width).T
        assert self._values is not None
        for i in range(len(out)):
            for j in range(i + 1):
                bend = self.block.matrices.second(self._values, part.some, i, j)
                found = product(rows, (bend @ back).reshape(-1, width))
                out[i, j] += found
                if i != j:
                    out[j, i] += found

    def _add_by_columns(self, out: FloatArray, part: _Patterns) -> None:
        """Add sandwiches, pair by pair of columns."""
        k, width = len(out), out.shape[-1]
        for a in range(width):
            for b in range(a + 1):
                outer = part.y[..., a] @ part.y[..., b].transpose(0, 2, 1)
                outer = (outer + outer.transpose(0, 2, 1)) / 2.0
                found = np.zeros((self.k, self.k))
                self._add_bend(found, part, outer)
                out[:, :, a, b] += found[-k:, -k:]
                if a != b:
                    out[:, :, b, a] += found[-k:, -k:]


def _pair_products(y: FloatArray) -> FloatArray:
    """``sum_M y_a y_b'`` of rows a and b, shape (g n n, width width)."""
    g, n, most, width = y.shape
    flat = y.transpose(0, 1, 3, 2).reshape(g, n * width, most)
    pairs = flat @ flat.transpose(0, 2, 1)
    pairs = pairs.reshape(g, n, width, n, width).transpose(0, 1, 3, 2, 4)
    return pairs.reshape(g * n * n, width * width)


def inverse_roots(h: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``L^-1`` of ``H = L L'``, shape (g, n, n), and ``log|H|``."""
    if len(h) > 1:
        lower = np.linalg.cholesky(h)
        pivots = np.diagonal(lower, axis1=1, axis2=2)
        return np.linalg.inv(lower), np.asarray(2.0 * np.log(pivots).sum(axis=1))
    # LAPACK itself: of one small matrix numpy's checks are most of the work
    root, failed = dpotrf(h[0], lower=1, clean=1)
    if failed:
        raise np.linalg.LinAlgError("a covariance is not positive definite")
    logs = 2.0 * np.log(root.diagonal()).sum(keepdims=True)
    half = np.asarray(dtrtri(root, lower=1)[0], dtype=np.float64)
    return half[None], np.asarray(logs, dtype=np.float64)
