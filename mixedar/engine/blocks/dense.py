"""
Clusters of one size, with their covariance matrices written out.

With the Cholesky factor ``H = L L'`` and the whitened slopes
``A_k = L^-1 (dH / dv_k) L^-T`` and rows ``Y = L^-1 W``,

    dD_k   = tr A_k,              dS_k   = -Y' A_k Y,
    d2D_kl = tr H_kl H^-1 - tr A_k A_l,
    d2S_kl = Y' (A_k A_l + A_l A_k) Y - Y' L^-1 H_kl L^-T Y.

The likelihood wants ``d2S`` contracted with one matrix ``C`` only.  With ``O = Y C Y'``

    <d2S_kl, C> = 2 tr(A_k O A_l) - tr H_kl (L^-T O L^-1),

so that the pairs ``(k, l)`` cost a product of two numbers each, however many
parameters there are, and none of the matrices of order n but ``H^-1`` and the slopes
is a product of two of that order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import (
    ClusterSums,
    LikelihoodBlock,
    ParameterPoint,
)
from mixedar.engine.compress import ClusterRows, rows_of
from mixedar.engine.level import lower_pairs
from mixedar.engine.residuals import ResidualMatrices, ResidualValues, share_values
from mixedar.numeric.blocked import (
    grams_of_lower,
    inverse_roots,
    outers_of_lower,
    products,
    whitened,
    whitened_rows,
)
from mixedar.numeric.linalg import product
from mixedar.residual import ResidualStructure

# Numbers in the slopes of the patterns that are treated at a time, ...
_CHUNK = 2**19
# ... and of all of them, up to which they are kept for the second derivatives.
_KEPT = 2**24
# Numbers in the products of pairs of rows and of columns that are kept.
_PAIRS = 2**22
# Numbers of short patterns in one block, with what pads them.
_TOGETHER = 2**15


def covariance_blocks(
    rows: ClusterRows, structure: ResidualStructure
) -> list[CovarianceBlock]:
    """
    Blocks of clusters with about one number of rows, for any structure.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure
        Bound to the data.

    Returns
    -------
    list of CovarianceBlock
    """
    starts = np.flatnonzero(rows.weights > 0.0)  # a pattern begins with its weight
    members = np.diff(np.append(starts, rows.n_clusters))
    sizes = np.diff(rows.offsets)
    clusters, starts, members = _joined(rows, starts, members)
    # patterns of about as many clusters go together, padded by empty ones, and a few
    # short ones all together, padded by empty rows
    lengths, level = sizes[clusters[starts]], np.ceil(np.log2(members)).astype(int)
    longest, width = int(lengths.max()), rows.w.shape[1]
    each = longest * (structure.k_free + 3) + int(members.max()) * width
    apart = len(starts) * longest * each > _TOGETHER
    key = lengths * 64 + level if apart else np.zeros_like(lengths)
    blocks = []
    for value in np.unique(key):
        some = np.flatnonzero(key == value)
        own = rows_of(starts[some], members[some])
        blocks.append(CovarianceBlock(rows, structure, clusters[own], members[some]))
    share_values([block.matrices for block in blocks])
    return blocks


def _joined(
    rows: ClusterRows, starts: IntArray, members: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """
    Patterns that are alike as one.

    Returns the clusters in their order, where patterns start, and their members.
    """
    sizes = np.diff(rows.offsets)[starts]
    parts = [rows.gaps[:, None], rows.z, *([] if rows.marks is None else [rows.marks])]
    shared = np.concatenate(parts, axis=1) + 0.0  # of -0.0 and 0.0 the same bytes
    code = np.empty(len(starts), dtype=np.intp)
    count = 0
    for size in np.unique(sizes):
        here = np.flatnonzero(sizes == size)
        index = rows.offsets[starts[here], None] + np.arange(size)
        keys = np.ascontiguousarray(shared[index].reshape(len(here), -1))
        as_bytes = keys.view(np.dtype((np.void, keys.itemsize * keys.shape[1])))
        distinct, which = np.unique(as_bytes.ravel(), return_inverse=True)
        code[here] = count + which
        count += len(distinct)
    order = np.argsort(code, kind="stable")
    clusters = rows_of(starts[order], members[order])
    together = np.bincount(code, members, minlength=count).astype(np.intp)
    return clusters, np.cumsum(together) - together, together


class CovarianceBlock(LikelihoodBlock):
    """
    Patterns of `n` rows, or fewer.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure
    clusters : ndarray of int
        Those of one pattern after those of the other.
    members : ndarray of int, shape (g,)
        Their numbers.
    """

    def __init__(
        self,
        rows: ClusterRows,
        structure: ResidualStructure,
        clusters: IntArray,
        members: IntArray,
    ) -> None:
        self.structure = structure
        starts = np.cumsum(members) - members
        self.multiplicity = np.add.reduceat(rows.weights[clusters], starts)
        first, sizes = rows.offsets[clusters], np.diff(rows.offsets)[clusters]
        n, width = int(sizes.max()), rows.w.shape[1]
        g, most = len(members), int(members.max())
        there = np.arange(n) < sizes[starts, None]
        # what is not there repeats the first row, and is taken out
        step = np.where(there, np.arange(n), 0)
        index = first[starts, None] + step
        marks = np.empty((g, n, 0)) if rows.marks is None else rows.marks[index]
        #: rows of the first cluster of each pattern, -1 where there is none
        self.index = np.where(there, index, -1)
        gaps = np.where(there, rows.gaps[index], 0.0)
        self.matrices = ResidualMatrices(structure, gaps, marks, there)
        self.z = rows.z[index] * there[:, :, None]
        self.w = np.zeros((g, n, most, width))
        for k in range(most):
            here = members > k
            w = rows.w[first[starts[here] + k, None] + step[here]]
            self.w[here, :, k] = w * there[here, :, None]

    def sums(self, point: ParameterPoint, *, derivatives: bool) -> ClusterSums:
        """Cluster sums at a point; see :meth:`LikelihoodBlock.sums`."""
        width = self.w.shape[-1]
        curvature = PatternCurvature(self, point)
        k = curvature.k
        d, s = 0.0, np.zeros((width, width))
        if not derivatives:
            for y, logdet in curvature.values():
                d += logdet
                s += product(y.T, y)
            return ClusterSums.values(d, s)
        d1, s1 = np.zeros(k), np.zeros((k, width, width))
        for part in curvature.parts():
            d += part.logdet
            flat = part.y.reshape(-1, width)
            s += product(flat.T, flat)
            if k:
                d1 += np.einsum("kgii,g->k", part.slopes, part.multiplicity)
                s1 -= part.sandwiches(part.slopes)
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

    def images(self, matrices: FloatArray) -> Iterator[FloatArray]:
        """``A_k Y`` of one matrix after the other, shape (g n M, width)."""
        g, n, most, width = self.y.shape
        if matrices is self.slopes and most * width < n:
            yield from self._few_images
            return
        rows = self.y.reshape(g, n, -1)
        for matrix in matrices:
            yield products(matrix, rows).reshape(-1, width)

    @cached_property
    def _few_images(self) -> FloatArray:
        """Them all, no more numbers than the slopes, shape (k, g n M, width)."""
        k, (g, n, _, width) = len(self.slopes), self.y.shape
        found = products(self.slopes, self.y.reshape(g, n, -1))
        return found.reshape(k, -1, width)

    @cached_property
    def precision(self) -> FloatArray:
        """``H^-1``, shape (g, n, n)."""
        return grams_of_lower(self.inverse)

    def sandwiches(self, matrices: FloatArray) -> FloatArray:
        """``Y' A_k Y`` of matrices of the shape (k, g, n, n); (k, width, width)."""
        k, width = len(matrices), self.y.shape[-1]
        if self.gram is not None:
            found = product(matrices.reshape(k, -1), self.gram)
            return found.reshape(k, width, width)
        rows, found = self.y.reshape(-1, width).T, np.empty((k, width, width))
        for out, image in zip(found, self.images(matrices), strict=True):
            out[:] = product(rows, image)
        return found

    def pairs(self, weight: FloatArray | None) -> FloatArray:
        """``tr(A_k (2 Y weight Y' - I) A_l)``, shape (k, k)."""
        _, n, most, width = self.y.shape
        slopes = self.slopes.reshape(len(self.slopes), -1)
        if weight is not None and (self.gram is not None or most * width >= n):
            middle = 2.0 * self._outer(weight)
            middle[:, range(n), range(n)] -= self.multiplicity[:, None]
            return product(
                products(self.slopes, middle).reshape(slopes.shape), slopes.T
            )
        repeated = self.slopes * self.multiplicity[:, None, None]
        out = -product(repeated.reshape(slopes.shape), slopes.T)
        if weight is not None:
            images = self._few_images
            left = product(images.reshape(-1, width), weight)
            flat = images.reshape(len(images), -1)
            out += 2.0 * product(left.reshape(flat.shape), flat.T)
        return out

    def behind(self, weight: FloatArray) -> FloatArray:
        """``L^-T Y weight Y' L^-1``, shape (g, n, n)."""
        back = self.inverse.transpose(0, 2, 1)
        if self.gram is not None:
            return products(products(back, self._outer(weight)), self.inverse)
        g, n, _, width = self.y.shape
        rows = products(back, self.y.reshape(g, n, -1))
        return weighted_outer(rows.reshape(g, n, -1, width), weight)

    def _outer(self, weight: FloatArray) -> FloatArray:
        """``Y weight Y'``, shape (g, n, n)."""
        if self.gram is None:
            return weighted_outer(self.y, weight)
        g, n = self.y.shape[:2]
        return product(self.gram, weight.reshape(-1, 1)).reshape(g, n, n)


def weighted_outer(rows: FloatArray, weight: FloatArray) -> FloatArray:
    """``Y weight Y'`` of rows of shape (g, n, M, width)."""
    g, n, _, width = rows.shape
    turned = product(rows.reshape(-1, width), weight).reshape(g, n, -1)
    return products(turned, rows.reshape(g, n, -1).transpose(0, 2, 1))


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
        self._by_pairs &= (n * width) ** 2 <= _PAIRS

    def values(self) -> Iterator[tuple[FloatArray, float]]:
        """Whitened rows of chunks of patterns, (., width), and log-determinants."""
        self._values = self.block.matrices.values(self.u, derivatives=False)
        for some in self._chunks(0):
            multiplicity = self.block.multiplicity[some]
            y, logs = whitened_rows(self._covariances(some), self.block.w[some])
            yield y.reshape(-1, y.shape[-1]), float(multiplicity @ logs)

    def inverses(
        self,
    ) -> Iterator[tuple[slice, FloatArray, FloatArray, FloatArray, float]]:
        """
        Chunks of patterns: which they are, ``L^-1``, ``H^-1``, ``Y`` and ``log|H|``.

        The matrices have the shapes (g, n, n) and (g, n, M, width).
        """
        for some in self._chunks(0):
            half, logs = inverse_roots(self._covariances(some))
            w = self.block.w[some]
            y = products(half, w.reshape(*w.shape[:2], -1)).reshape(w.shape)
            inverse = products(half.transpose(0, 2, 1), half)
            yield some, half, inverse, y, float(self.block.multiplicity[some] @ logs)

    def parts(self) -> Iterator[_Patterns]:
        """Chunks of patterns; small blocks are computed once."""
        if self._kept is not None:
            yield from self._kept
            return
        chunks = self._chunks(self.k)
        if self._numbers(self.k) * len(self.block.z) > _KEPT:
            for some in chunks:
                yield self._part(some)
            return
        self._kept = [self._part(some) for some in chunks]
        yield from self._kept

    def _numbers(self, k: int) -> int:
        """How many go with a pattern and its slopes by `k` parameters."""
        n, most, width = self.block.w.shape[1:]
        pairs = width**2 if k and self._by_pairs else 0
        return int(n * max(n * max(k + 3, pairs), 2 * most * width))

    def _chunks(self, k: int) -> list[slice]:
        g, step = len(self.block.z), max(1, _CHUNK // self._numbers(k))
        return [slice(first, min(first + step, g)) for first in range(0, g, step)]

    def _covariances(self, some: slice) -> FloatArray:
        """``H`` of some patterns, shape (g, n, n)."""
        matrices = self.block.matrices
        if self._values is None:
            self._values = matrices.values(self.u)
        h = matrices.matrices(self._values, some)
        if self.covariance.order:
            root = self.block.z[some] @ self.factor
            h = h + products(root, root.transpose(0, 2, 1))
        return h

    def _part(self, some: slice) -> _Patterns:
        block, covariance = self.block, self.covariance
        z, w = block.z[some], block.w[some]
        multiplicity = block.multiplicity[some]
        inverse, logs = inverse_roots(self._covariances(some))
        values = self._values
        assert values is not None
        logdet = float(multiplicity @ logs)
        g, n = w.shape[:2]
        y = products(inverse, w.reshape(g, n, -1)).reshape(w.shape)
        gram = _pair_products(y) if self._by_pairs else None
        k_cov, slopes = covariance.k_cov, np.empty((0, g, n, n))
        if self.k > k_cov:
            slopes = self._slopes(some, values, inverse)
        if k_cov:
            white = products(inverse, z)
            by_psi = white @ covariance.directions[:, None]
            by_psi = products(by_psi, white.transpose(0, 2, 1))
            slopes = np.concatenate([by_psi, slopes])
        return _Patterns(some, multiplicity, logdet, inverse, y, slopes, gram)

    def _slopes(
        self, some: slice, values: ResidualValues, inverse: FloatArray
    ) -> FloatArray:
        """``A_k`` of the residual parameters, shape (k, g, n, n)."""
        out = self.block.matrices.slopes(values, some)
        factors = values.shrinking
        alike = np.flatnonzero(~np.isnan(factors) & (self.covariance.order == 0))
        if not len(alike):
            return whitened(inverse, out)
        others = np.delete(np.arange(len(out)), alike)
        out[others] = whitened(inverse, out[others])
        # of R - I, the identity less what is left of it
        left = np.eye(inverse.shape[1]) - outers_of_lower(inverse)
        out[alike] = factors[alike, None, None, None] * left
        return out

    def contract(self, weight: FloatArray | None) -> FloatArray:
        """``d2D + <d2S, weight>``; see :class:`Curvature`."""
        out = np.zeros((self.k, self.k))
        for part in self.parts():
            out += part.pairs(weight)
            if self.k > self.covariance.k_cov:
                bend = part.precision * part.multiplicity[:, None, None]
                if weight is not None:
                    bend = bend - part.behind(weight)
                self._add_bend(out, part, bend)
        return (out + out.T) / 2.0

    def _add_bend(self, out: FloatArray, part: _Patterns, weight: FloatArray) -> None:
        """Add ``<H_kl, weight>`` for the residual parameters."""
        k_cov, matrices = self.covariance.k_cov, self.block.matrices
        assert self._values is not None
        out[k_cov:, k_cov:] += matrices.curvature(self._values, part.some, weight)

    def arrays(self) -> FloatArray:
        """``d2S``; see :class:`Curvature`."""
        width = self.block.w.shape[-1]
        out = np.zeros((self.k, self.k, width, width))
        for part in self.parts():
            if part.gram is not None:
                for i, j in self._pairs(self.k, part):
                    both = products(part.slopes[i], part.slopes[j])
                    out[i, j] += part.sandwiches(both + both.swapaxes(-1, -2))
                continue
            image = list(part.images(part.slopes))
            for a, b in lower_pairs(self.k):
                both = product(image[a].T, image[b])
                out[a, b] += both + both.T
        inner = slice(self.covariance.k_cov, None)
        if self.k > self.covariance.k_cov:
            out[inner, inner] -= self.bends()[0]
        return _mirrored(out)

    def bends(self) -> tuple[FloatArray, FloatArray]:
        """See :meth:`CovarianceBlock.bends`."""
        k, width = self.k - self.covariance.k_cov, self.block.w.shape[-1]
        sandwiches, traces = np.zeros((k, k, width, width)), np.zeros((self.k,) * 2)
        for part in self.parts():
            repeated = part.precision * part.multiplicity[:, None, None]
            self._add_bend(traces, part, repeated)
            if k < (width if part.gram is None else 2 * width):
                self._add_by_parameters(sandwiches, part)
            else:
                self._add_by_columns(sandwiches, part)
        return _mirrored(sandwiches), traces[-k:, -k:]

    def _pairs(self, k: int, part: _Patterns) -> Iterator[tuple[IntArray, IntArray]]:
        """Pairs of parameters, row by row of the lower triangle, some at a time."""
        i, j = np.tril_indices(k)
        step = max(1, _CHUNK // part.precision.size)
        for first in range(0, len(i), step):
            yield i[first : first + step], j[first : first + step]

    def _add_by_parameters(self, out: FloatArray, part: _Patterns) -> None:
        """Add sandwiches of the lower triangle, by pairs of parameters."""
        assert self._values is not None
        for i, j in self._pairs(len(out), part):
            bends = self.block.matrices.second(self._values, part.some, i, j)
            out[i, j] += part.sandwiches(whitened(part.inverse, bends))

    def _add_by_columns(self, out: FloatArray, part: _Patterns) -> None:
        """Add sandwiches, pair by pair of columns."""
        k, width = len(out), out.shape[-1]
        for a in range(width):
            for b in range(a + 1):
                outer = products(part.y[..., a], part.y[..., b].transpose(0, 2, 1))
                outer = (outer + outer.transpose(0, 2, 1)) / 2.0
                found = np.zeros((self.k, self.k))
                back = products(part.inverse.transpose(0, 2, 1), outer)
                weight = products(back, part.inverse)
                self._add_bend(found, part, weight)
                out[:, :, a, b] += found[-k:, -k:]
                if a != b:
                    out[:, :, b, a] += found[-k:, -k:]


def _mirrored(lower: FloatArray) -> FloatArray:
    """Both triangles of pairs of parameters from one, (k, k, width, width)."""
    i, j = np.tril_indices(len(lower), -1)
    lower[j, i] = lower[i, j]
    return lower


def _pair_products(y: FloatArray) -> FloatArray:
    """``sum_M y_a y_b'`` of rows a and b, shape (g n n, width width)."""
    g, n, most, width = y.shape
    flat = y.transpose(0, 1, 3, 2).reshape(g, n * width, most)
    pairs = flat @ flat.transpose(0, 2, 1)
    pairs = pairs.reshape(g, n, width, n, width).transpose(0, 1, 3, 2, 4)
    return pairs.reshape(g * n * n, width * width)
