"""
Clusters of one size, with their covariance matrices written out.

With the Cholesky factor ``H = L L'`` and the whitened slopes
``A_k = L^-1 (dH / dv_k) L^-T`` and rows ``Y = L^-1 W``,

    dD_k   = tr A_k,              dS_k   = -Y' A_k Y,
    d2D_kl = tr H_kl H^-1 - tr A_k A_l,
    d2S_kl = Y' (A_k A_l + A_l A_k) Y - Y' L^-1 H_kl L^-T Y.

The likelihood wants ``d2S`` contracted with one matrix ``C`` only,

    <d2S_kl, C> = 2 tr((A_k Y) C (A_l Y)') - tr H_kl (L^-T Y C Y' L^-1),

so that the pairs ``(k, l)`` cost a product of two numbers each, however many
parameters there are, and none of the matrices of order n but ``H^-1`` and the slopes
is a product of two of that order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg.blas import dtrmm
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
                s1 -= part.sandwiches()
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

    @cached_property
    def images(self) -> FloatArray:
        """``A_k Y``, shape (k, g n M, width)."""
        g, n, _, width = self.y.shape
        images = self.slopes @ self.y.reshape(g, n, -1)
        return images.reshape(len(self.slopes), -1, width)

    @cached_property
    def precision(self) -> FloatArray:
        """``H^-1``, shape (g, n, n)."""
        if len(self.inverse) == 1:  # of one matrix half of the work is enough
            return product(self.inverse[0].T, self.inverse[0])[None]
        return self.inverse.transpose(0, 2, 1) @ self.inverse

    def sandwiches(self) -> FloatArray:
        """``Y' A_k Y``, shape (k, width, width)."""
        k, width = len(self.slopes), self.y.shape[-1]
        if self.gram is not None:
            found = product(self.slopes.reshape(k, -1), self.gram)
            return found.reshape(k, width, width)
        rows, found = self.y.reshape(-1, width).T, np.empty((k, width, width))
        for out, image in zip(found, self.images, strict=True):
            out[:] = product(rows, image)
        return found

    def pairs(self, weight: FloatArray) -> FloatArray:
        """``tr((A_k Y) weight (A_l Y)')``, shape (k, k)."""
        k = len(self.slopes)
        if self.gram is not None:
            left = (self.slopes @ self._outer(weight)).reshape(k, -1)
            return product(left, self.slopes.reshape(k, -1).T)
        width = len(weight)
        left = product(self.images.reshape(-1, width), weight).reshape(k, -1)
        return product(left, self.images.reshape(k, -1).T)

    def behind(self, weight: FloatArray) -> FloatArray:
        """``L^-T Y weight Y' L^-1``, shape (g, n, n)."""
        back = self.inverse.transpose(0, 2, 1)
        if self.gram is not None:
            return back @ self._outer(weight) @ self.inverse
        g, n, _, width = self.y.shape
        rows = back @ self.y.reshape(g, n, -1)
        turned = product(rows.reshape(-1, width), weight).reshape(g, n, -1)
        return turned @ rows.transpose(0, 2, 1)

    def _outer(self, weight: FloatArray) -> FloatArray:
        """``Y weight Y'`` of pairs of rows by their products, shape (g, n, n)."""
        assert self.gram is not None
        g, n = self.y.shape[:2]
        return product(self.gram, weight.reshape(-1, 1)).reshape(g, n, n)


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
        pairs, images = (width**2, 1) if self._by_pairs else (0, self.k + 1)
        each = n * max(n * max(self.k + 3, pairs), most * width * images)
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
            if self.k > k_cov:
                slopes = whitened(inverse, block.matrices.slopes(values, some))
            if k_cov:
                white = inverse @ z
                by_psi = white @ covariance.directions[:, None]
                by_psi = by_psi @ white.transpose(0, 2, 1)
                slopes = np.concatenate([by_psi, slopes])
        return _Patterns(some, multiplicity, logdet, inverse, y, slopes, gram)

    def contract(self, weight: FloatArray | None) -> FloatArray:
        """``d2D + <d2S, weight>``; see :class:`Curvature`."""
        out = np.zeros((self.k, self.k))
        for part in self.parts():
            multiplicity = part.multiplicity[:, None, None]
            left = (part.slopes * multiplicity).reshape(self.k, -1)
            out -= product(left, part.slopes.reshape(self.k, -1).T)
            bend = part.precision * multiplicity
            if weight is not None:
                out += 2.0 * part.pairs(weight)
                bend = bend - part.behind(weight)
            self._add_bend(out, part, bend)
        return (out + out.T) / 2.0

    def _add_bend(self, out: FloatArray, part: _Patterns, weight: FloatArray) -> None:
        """Add ``<H_kl, weight>`` for the residual parameters."""
        k_cov = self.covariance.k_cov
        if self.k == k_cov:
            return
        assert self._values is not None
        matrices = self.block.matrices
        out[k_cov:, k_cov:] += matrices.curvature(self._values, part.some, weight)

    def arrays(self) -> FloatArray:
        """``d2S``; see :class:`Curvature`."""
        width = self.block.w.shape[-1]
        out = np.zeros((self.k, self.k, width, width))
        for part in self.parts():
            image = part.images
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
            repeated = part.precision * part.multiplicity[:, None, None]
            self._add_bend(traces, part, repeated)
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
                weight = part.inverse.transpose(0, 2, 1) @ outer @ part.inverse
                self._add_bend(found, part, weight)
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


def whitened(inverse: FloatArray, matrices: FloatArray) -> FloatArray:
    """``L^-1 M L^-T`` of symmetric matrices, (k, g, n, n), in their place."""
    if len(inverse) > 1:
        return inverse @ matrices @ inverse.transpose(0, 2, 1)
    # of one matrix the triangle halves the work; BLAS reads columns first
    for place in matrices[:, 0].transpose(0, 2, 1):
        left = dtrmm(1.0, inverse[0], place, lower=1, overwrite_b=1)
        place[:] = dtrmm(1.0, inverse[0], left, 1, lower=1, trans_a=1, overwrite_b=1)
    return matrices
