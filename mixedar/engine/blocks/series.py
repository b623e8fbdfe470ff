"""
Groups of several independent series, each series with a matrix of its own.

With the Cholesky factor ``R = L L'`` of a series and its whitened rows
``Y = L^-1 [Z W]`` the cross-products are ``Y'Y``, and with the slopes
``A_k = L^-1 R_k L^-T`` and bends ``B_kl = L^-1 R_kl L^-T`` their derivatives are

    -Y' A_k Y,    Y' (A_k A_l + A_l A_k - B_kl) Y.

Series at the same positions share these middle matrices, and a group's random
effects are eliminated from its sums: no matrix has more rows than a series.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import ParameterPoint, ProductBlock
from mixedar.engine.blocks.dense import CovarianceBlock, covariance_blocks
from mixedar.engine.compress import ClusterRows
from mixedar.engine.level import (
    CrossProducts,
    Together,
    eliminate,
    lower_pairs,
    orders_of,
)
from mixedar.engine.residuals import ResidualMatrices, series_alike, share_values
from mixedar.exceptions import StructureError
from mixedar.numeric.blocked import inverse_roots, whitened
from mixedar.numeric.linalg import product, trace_product
from mixedar.residual import ResidualStructure

# Numbers in the products of the series that are treated at a time.
_CHUNK = 2**20
# Small matrices one by one cost so many times the operations of large ones.
_OVERHEAD = 12.0
# Memory for the matrices of one group or series.
_MOST_BYTES = 4 * 2**30


def matrix_blocks(
    rows: ClusterRows, structure: ResidualStructure
) -> Sequence[CovarianceBlock | SeriesBlock]:
    """
    Blocks that write matrices out: whole groups, or series where that is cheaper.

    Raises
    ------
    StructureError
        If the matrices would be too large.
    """
    apart = _series_pay(rows, structure.k_free)
    starts = np.flatnonzero(rows.gaps == 0.0) if apart else rows.offsets[:-1]
    longest = int(np.diff(np.append(starts, len(rows.gaps))).max())
    needed = 8.0 * longest**2 * (structure.k_free + 4)
    if needed > _MOST_BYTES:
        raise StructureError(
            f"{structure.label} residuals need matrices of order {longest}, the rows "
            f"of the largest {'series' if apart else 'group'}, {needed / 2**30:.0f} "
            "GiB. Split the series with series=, or use residual='ar1' or 'car1', "
            "whose cost is linear in the rows"
        )
    if apart:
        return [SeriesBlock(rows, structure)]
    return covariance_blocks(rows, structure)


def _series_pay(rows: ClusterRows, k_free: int) -> bool:
    """Whether series by series costs less than the groups' whole matrices."""
    whole, apart = matrix_costs(rows, k_free)
    return apart < whole


def matrix_costs(rows: ClusterRows, k_free: int) -> tuple[float, float]:
    """
    Operations of an evaluation by the groups' whole matrices, and series by series.

    The second is infinite where every group is one series.
    """
    starts = np.flatnonzero(rows.gaps == 0.0)
    q, width = rows.z.shape[1], rows.w.shape[1]
    sizes = np.diff(rows.offsets).astype(np.float64)
    patterns = sizes[rows.weights > 0.0]
    k = k_free + q * (q + 1) // 2
    whole = (k + 1) * ((patterns**3).sum() + (sizes**2).sum() * width)
    if len(starts) == rows.n_clusters:
        return float(whole), np.inf
    lengths = np.diff(np.append(starts, len(rows.gaps))).astype(np.float64)
    orders = orders_of(k_free)
    apart = lengths * (lengths + q) * (q + width) + lengths * width**2
    return float(whole), float(_OVERHEAD * orders * apart.sum())


@dataclass(frozen=True)
class _Series:
    """
    Series of one length.

    Attributes
    ----------
    matrices : ResidualMatrices
        Of the distinct series.
    which : ndarray of int, shape (s,)
        Which of them each series is; increasing.
    owner : ndarray of int, shape (s,)
        Its cluster.
    multiplicity : ndarray, shape (g,)
        How often each distinct series counts.
    columns : ndarray, shape (s, n, q + p + 1)
        ``[Z W]``.
    """

    matrices: ResidualMatrices
    which: IntArray
    owner: IntArray
    multiplicity: FloatArray
    columns: FloatArray


class _Whitened:
    """Distinct series at a parameter: ``L^-1``, slopes and what follows from them."""

    def __init__(
        self, part: _Series, some: slice, u: FloatArray, derivatives: bool
    ) -> None:
        self._matrices, self._some = part.matrices, some
        self._values = part.matrices.values(u)
        h = self._matrices.matrices(self._values, some)
        self.inverse, self.logs = inverse_roots(h)
        self.k = len(u) if derivatives else 0
        slopes = np.empty((0, *h.shape))
        if self.k:
            slopes = self._matrices.slopes(self._values, some)
            slopes = whitened(self.inverse, slopes)
        self.slopes = slopes

    def bends(self) -> FloatArray:
        """``B_kl`` of the lower triangle, shape (pairs, g, n, n)."""
        pairs = np.tril_indices(self.k)
        bends = self._matrices.second(self._values, self._some, *pairs)
        return whitened(self.inverse, bends)

    def middles(self) -> tuple[FloatArray, FloatArray]:
        """
        Middle matrices of ``R^-1`` and its derivatives, and those of ``log|R|``.

        Returns
        -------
        middles : ndarray, shape (orders, g, n, n)
        logdet : ndarray, shape (orders, g)
        """
        n = self.inverse.shape[-1]
        eye = np.broadcast_to(np.eye(n), (1, *self.inverse.shape))
        if not self.k:
            return eye, self.logs[None]
        bends, a = self.bends(), self.slopes
        both = np.empty_like(bends)
        for place, (i, j) in enumerate(lower_pairs(self.k)):
            both[place] = a[i] @ a[j]
        traces = [np.einsum("ogaa->og", x) for x in (a, bends - both)]
        middles = both + both.transpose(0, 1, 3, 2) - bends
        return np.concatenate([eye, -a, middles]), np.concatenate(
            [self.logs[None], *traces]
        )


def bends_of_groups(
    values: CrossProducts, found: CrossProducts, factor: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """
    ``sum W'H^-1 R_kl H^-1 W`` and ``sum tr(H^-1 R_kl)`` from sums without effects.

    Parameters
    ----------
    values : CrossProducts
        Of ``R^-1``.
    found : CrossProducts
        Of ``R^-1 R_kl R^-1``, pair by pair of the lower triangle, with the traces of
        ``R^-1 R_kl``.
    factor : ndarray, shape (q, q)
    weights : ndarray, shape (m,)

    Returns
    -------
    sandwiches : ndarray, shape (k, k, p + 1, p + 1)
    traces : ndarray, shape (k, k)
    """
    level, over = eliminate(values.zz[0], values.zw[0], factor), Together(weights)
    k, width = math.isqrt(2 * len(found.ww)), len(values.ww[0])
    sandwiches, traces = np.empty((k, k, width, width)), np.empty((k, k))
    for place, (i, j) in enumerate(lower_pairs(k)):
        zz, zw = found.zz[place], found.zw[place]
        sandwich = found.ww[place] - level.taken(zz, zw, over)
        sandwiches[i, j] = sandwiches[j, i] = sandwich
        traces[i, j] = traces[j, i] = found.logdet[place] - over.total(
            trace_product(level.shrink, zz)
        )
    return sandwiches, traces


class SeriesBlock(ProductBlock):
    """
    All clusters, for any structure.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure
        Bound to the data.
    """

    def __init__(self, rows: ClusterRows, structure: ResidualStructure) -> None:
        self.clusters = np.arange(rows.n_clusters)
        self.weights = rows.weights
        self._q, self._structure = rows.z.shape[1], structure
        columns = np.concatenate([rows.z, rows.w], axis=1)
        sizes = np.diff(rows.offsets)
        owners = np.repeat(self.clusters, sizes)
        self._parts = []
        for index, leaders, which in series_alike(rows.gaps, rows.marks):
            first = index[leaders]
            marks = np.empty((*first.shape, 0))
            if rows.marks is not None:
                marks = rows.marks[first]
            order = np.argsort(which, kind="stable")
            owner = owners[index[:, 0]]
            counts = np.zeros(len(leaders))
            np.add.at(counts, which, rows.weights[owner])
            self._parts.append(
                _Series(
                    ResidualMatrices(structure, rows.gaps[first], marks),
                    which[order],
                    owner[order],
                    counts,
                    columns[index[order]],
                )
            )
        share_values([part.matrices for part in self._parts])

    def at(self, u: FloatArray, *, derivatives: bool) -> CrossProducts:
        """Cross-products at a residual parameter; see :meth:`ProductBlock.at`."""
        return self._summed(u, derivatives, _Whitened.middles)

    def bends(self, point: ParameterPoint) -> tuple[FloatArray, FloatArray]:
        """See :meth:`CovarianceBlock.bends`."""
        u = point.u
        values = self._summed(u, False, _Whitened.middles)

        def alone(white: _Whitened) -> tuple[FloatArray, FloatArray]:
            found = white.bends()
            return found, np.einsum("ogaa->og", found)

        found = self._summed(u, True, alone)
        return bends_of_groups(values, found, point.factor, self.weights)

    def _summed(
        self,
        u: FloatArray,
        derivatives: bool,
        middles_of: Callable[[_Whitened], tuple[FloatArray, FloatArray]],
    ) -> CrossProducts:
        """Sums of ``Y'MY`` for middle matrices M, and of what goes with them."""
        q, m = self._q, len(self.weights)
        found: CrossProducts | None = None
        for part, patterns, series in self._chunks(len(u) if derivatives else 0):
            white = _Whitened(part, patterns, u, derivatives)
            middles, logs = middles_of(white)
            orders, width = len(middles), part.columns.shape[2] - q
            if found is None:
                found = CrossProducts.zeros(orders, q, width, m)
            found.logdet[:] += logs @ part.multiplicity[patterns]
            for some in series:
                which = part.which[some] - patterns.start
                y = white.inverse[which] @ part.columns[some]
                self._add(found, y, middles, which, part.owner[some])
        assert found is not None
        return found

    def _chunks(self, k: int) -> Iterator[tuple[_Series, slice, list[slice]]]:
        """Some of the distinct series, and their series, a few at a time."""
        orders = orders_of(k)
        for part in self._parts:
            g, (_, n, width) = len(part.multiplicity), part.columns.shape
            step = max(1, _CHUNK // (orders * n * n))
            few = max(1, _CHUNK // (orders * n * n + (orders + n) * width))
            for first in range(0, g, step):
                last = min(first + step, g)
                start, end = np.searchsorted(part.which, [first, last])
                series = [slice(a, min(a + few, end)) for a in range(start, end, few)]
                yield part, slice(first, last), series

    def _add(
        self,
        found: CrossProducts,
        y: FloatArray,
        middles: FloatArray,
        which: IntArray,
        owner: IntArray,
    ) -> None:
        """Add the sums of some series, whitened, shape (s, n, q + p + 1)."""
        q, (count, n, _) = self._q, y.shape
        rows = y[:, :, q:]
        width = rows.shape[2]
        for order, matrices in enumerate(middles):
            image = matrices[which] @ rows
            found.ww[order] += product(
                rows.reshape(-1, width).T, image.reshape(-1, width)
            )
        if not q:
            return
        orders, g = middles.shape[:2]
        stacked = middles.transpose(1, 2, 0, 3).reshape(g, n, orders * n)[which]
        left = y[:, :, :q].transpose(0, 2, 1) @ stacked
        both = left.reshape(count, q * orders, n) @ y
        by_owner = np.argsort(owner, kind="stable")
        owner, both = owner[by_owner], both[by_owner]
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        sums = np.add.reduceat(both, starts, axis=0)
        sums = sums.reshape(len(starts), q, orders, -1).transpose(2, 3, 1, 0)
        found.zz[..., owner[starts]] += sums[:, :q]
        found.zw[..., owner[starts]] += sums[:, q:]
