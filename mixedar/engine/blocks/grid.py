"""
Groups at some of common positions, for structures of many parameters.

Where the covariance of each group is a part of one matrix H of all positions, such as
visits some of which are missed, so are its derivatives.  With ``P_i = H_i^-1`` at the
positions of a group, zero elsewhere, ``V_i = P_i W_i`` and ``Q_i = V_i C V_i'``,

    dD_k = <H_k, sum P_i>,    dS_k = -sum_ab H_k,ab sum (V_i V_i')_ab,
    d2D_kl + <d2S_kl, C> = <H_kl, sum P_i - Q_i> + sum tr P_i H_k (2 Q_i - P_i) H_l:

groups are summed before parameters come in, whose number then counts once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import ClusterSums, LikelihoodBlock, ParameterPoint
from mixedar.engine.blocks.dense import (
    CovarianceBlock,
    PatternCurvature,
    weighted_outer,
)
from mixedar.engine.compress import ClusterRows
from mixedar.engine.residuals import ResidualMatrices, ResidualValues
from mixedar.numeric.blocked import products
from mixedar.numeric.linalg import product, unique_rows
from mixedar.residual import ResidualStructure

# Positions that are too many for the products of all pairs of pairs of them.
_MOST = 64
# Operations of an evaluation, up to which it is not worth while.
_WORTH = 1e6
# Numbers of the groups that are summed at a time.
_CHUNK = 2**22


@dataclass(frozen=True)
class Positions:
    """
    Distinct positions of rows, and which of them each row has.

    Attributes
    ----------
    gaps : ndarray, shape (N,)
        In time, as of one series.
    marks : ndarray, shape (N, c)
    z : ndarray, shape (N, q)
    code : ndarray of int, shape (n,)
    """

    gaps: FloatArray
    marks: FloatArray
    z: FloatArray
    code: IntArray


def common_positions(
    rows: ClusterRows, structure: ResidualStructure
) -> Positions | None:
    """
    The positions of rows, if they are few and each group is one series at some.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure

    Returns
    -------
    Positions or None
    """
    if np.count_nonzero(rows.gaps == 0.0) > rows.n_clusters:
        return None
    n, q = rows.z.shape
    sizes = np.diff(rows.offsets)
    time = np.zeros(n)
    if structure.uses_time:
        total = np.cumsum(rows.gaps)
        time = total - np.repeat(total[rows.offsets[:-1]], sizes)
    marks = np.empty((n, 0)) if rows.marks is None else rows.marks
    found, code = unique_rows(np.column_stack([time, rows.z, marks]))
    if len(found) > _MOST:
        return None
    order = np.argsort(found[:, 0], kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    found, code = found[order], place[code]
    gaps = np.ones(len(found))
    if structure.uses_time:
        gaps = np.diff(found[:, 0], prepend=found[0, 0])
        if (gaps[1:] == 0.0).any():  # groups that begin at different times
            return None
    gaps[0] = 0.0
    cluster = np.repeat(np.arange(rows.n_clusters), sizes)
    seen = np.bincount(cluster * len(found) + code)
    if seen.max() > 1:  # several rows of a group at one position
        return None
    return Positions(gaps, found[:, 1 + q :], found[:, 1 : 1 + q], code)


def grid_pays(blocks: Sequence[CovarianceBlock], k: int, n: int) -> bool:
    """
    Whether sums over groups cost less than the derivatives of each pattern.

    Parameters
    ----------
    blocks : sequence of CovarianceBlock
    k : int
        Number of parameters.
    n : int
        Number of common positions.
    """
    sizes = [(len(block.z), block.z.shape[1]) for block in blocks]
    by_pattern = sum(g * (k * m**3 + k**2 * m**2) for g, m in sizes)
    summed = (sum(g for g, _ in sizes) + k + 8) * n**4 / 4 + k**2 * n**2
    return by_pattern > max(2.0 * summed, _WORTH)


def with_groups_summed(
    rows: ClusterRows, structure: ResidualStructure, blocks: Sequence[LikelihoodBlock]
) -> Sequence[LikelihoodBlock]:
    """One block of groups at common positions where that is less work than blocks."""
    patterns = [block for block in blocks if isinstance(block, CovarianceBlock)]
    if len(patterns) < len(blocks) or sum(len(b.z) for b in patterns) == 1:
        return blocks
    positions = common_positions(rows, structure)
    q = rows.z.shape[1]
    k = structure.k_free + q * (q + 1) // 2
    if positions is None or not grid_pays(patterns, k, len(positions.gaps)):
        return blocks
    return [GridBlock(structure, patterns, positions)]


class GridBlock(LikelihoodBlock):
    """
    All clusters, at some of common positions each.

    Parameters
    ----------
    structure : ResidualStructure
        Bound to the data.
    blocks : sequence of CovarianceBlock
        The same clusters, by patterns.
    positions : Positions
    """

    def __init__(
        self,
        structure: ResidualStructure,
        blocks: Sequence[CovarianceBlock],
        positions: Positions,
    ) -> None:
        self.blocks, self.z = blocks, positions.z
        # rows that only fill up are behind the last position
        codes = np.append(positions.code, len(self.z))
        self.places = [codes[block.index] for block in blocks]
        self.matrices = ResidualMatrices(
            structure, positions.gaps[None], positions.marks[None]
        )

    def sums(self, point: ParameterPoint, *, derivatives: bool) -> ClusterSums:
        """Cluster sums at a point; see :meth:`LikelihoodBlock.sums`."""
        parts = [PatternCurvature(block, point) for block in self.blocks]
        n, width = len(self.z), self.blocks[0].w.shape[-1]
        d, s = 0.0, np.zeros((width, width))
        precision, gram = np.zeros((n, n)), np.zeros((n * width, n * width))
        groups = []
        for part, places in zip(parts, self.places, strict=True):
            if not derivatives:
                for y, logdet in part.values():
                    d += logdet
                    s += product(y.T, y)
                continue
            for some, half, inverse, y, logdet in part.inverses():
                d += logdet
                white = y.reshape(-1, width)
                s += product(white.T, white)
                rows = products(
                    half.transpose(0, 2, 1), y.reshape(*y.shape[:2], -1)
                ).reshape(y.shape)
                count = part.block.multiplicity[some]
                group = _Groups(places[some], count, inverse, rows)
                precision += group.total(inverse * count[:, None, None], n)
                spread = group.spread(rows, n).reshape(n * width, -1)
                gram += product(spread, spread.T)
                groups.append(group)
        if not derivatives:
            return ClusterSums.values(d, s)
        covariance, values = point.covariance, self.matrices.values(point.u)
        by_psi = self.z @ covariance.directions @ self.z.T
        every = slice(None)
        slopes = np.concatenate([by_psi, self.matrices.slopes(values, every)[:, 0]])
        pairs = gram.reshape(n, width, n, width).transpose(0, 2, 1, 3)
        flat = slopes.reshape(len(slopes), -1)
        d1 = flat @ precision.ravel()
        s1 = -product(flat, pairs.reshape(n * n, -1)).reshape(-1, width, width)
        curvature = GridCurvature(self, values, groups, slopes, precision, parts)
        return ClusterSums(d, s, d1, s1, (curvature,) if len(d1) else ())


@dataclass(frozen=True)
class _Groups:
    """
    Patterns of one size at a point.

    Their places, shape (g, n), how often they count, ``P`` (g, n, n) and ``V``
    (g, n, M, width).
    """

    places: IntArray
    count: FloatArray
    precision: FloatArray
    rows: FloatArray

    def spread(self, x: FloatArray, n: int) -> FloatArray:
        """Rows of shape (g, ., M, width) at their places among n; (n, width, g M)."""
        g, _, most, width = x.shape
        out = np.zeros((g, n + 1, most, width))
        out[np.arange(g)[:, None], self.places] = x
        return out[:, :n].transpose(1, 3, 0, 2).reshape(n, width, g * most)

    def among(self, x: FloatArray, n: int) -> FloatArray:
        """Matrices of shape (g, ., .) at their places among n; (g, n, n)."""
        out = np.zeros((len(x), n + 1, n + 1))
        group = np.arange(len(x))[:, None, None]
        out[group, self.places[:, :, None], self.places[:, None, :]] = x
        return out[:, :n, :n]

    def total(self, x: FloatArray, n: int) -> FloatArray:
        """Their sum, shape (n, n)."""
        size = n + 1
        place = self.places[:, :, None] * size + self.places[:, None, :]
        sums = np.bincount(place.ravel(), x.ravel(), minlength=size * size)
        return np.asarray(sums, dtype=np.float64).reshape(size, size)[:n, :n]

    def pieces(self, n: int) -> Iterator[_Groups]:
        """A few of them at a time."""
        step = max(_CHUNK // n**2, 1)
        for first in range(0, len(self.places), step):
            some = slice(first, first + step)
            yield _Groups(*(x[some] for x in vars(self).values()))


@dataclass(frozen=True)
class GridCurvature:
    """
    Second derivatives of a grid at a point; see :class:`Curvature`.

    Attributes
    ----------
    block : GridBlock
    values : ResidualValues
    groups : list of _Groups
    slopes : ndarray, shape (k, N, N)
    precision : ndarray, shape (N, N)
        ``sum P_i``.
    parts : list of PatternCurvature
        The same pattern by pattern.
    """

    block: GridBlock
    values: ResidualValues
    groups: list[_Groups]
    slopes: FloatArray
    precision: FloatArray
    parts: list[PatternCurvature]

    def contract(self, weight: FloatArray | None) -> FloatArray:
        """``d2D + <d2S, weight>``; see :class:`Curvature`."""
        n = self.slopes.shape[1]
        row, column = np.tril_indices(n)
        bend, pairs = self.precision.copy(), np.zeros((len(row),) * 2)
        for groups in self.groups:
            for some in groups.pieces(n):
                middle = -some.precision * some.count[:, None, None]
                if weight is not None:
                    outer = weighted_outer(some.rows, weight)
                    bend -= some.total(outer, n)
                    middle += outer + outer.transpose(0, 2, 1)
                left, right = (
                    some.among(x, n)[:, row, column] for x in (some.precision, middle)
                )
                pairs += product(left.T, right)
        flat = self.slopes[:, row, column]
        out = product(product(flat, _turned(pairs, n)), flat.T)
        free = len(self.values.table.first)
        if free:
            matrices = self.block.matrices
            out[-free:, -free:] += matrices.curvature(
                self.values, slice(None), bend[None]
            )
        return (out + out.T) / 2.0

    def arrays(self) -> FloatArray:
        """``d2S``; see :class:`Curvature`."""
        first, *others = (part.arrays() for part in self.parts)
        return sum(others, start=first)


def _turned(pairs: FloatArray, n: int) -> FloatArray:
    """
    ``sum P_ab B_cd`` of symmetric matrices as the form of ``H_da`` and ``H_bc``.

    All matrices are given by their lower triangles, row by row.
    """
    lower = np.tril_indices(n)
    number = np.empty((n, n), dtype=np.intp)
    number[lower] = np.arange(len(pairs))
    number.T[lower] = number[lower]
    out = np.zeros_like(pairs)
    for a in range(n):
        part = pairs[number[a]][:, number]  # b, c, d
        out[number[a]] += (part + part.transpose(1, 0, 2))[lower].T
    out[:, np.diag(number)] *= 0.5
    return out
