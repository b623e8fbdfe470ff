"""
Clusters that share their matrices ``H``, at many parameter points at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.residuals import ResidualMatrices
from mixedar.numeric.autodiff import Jet
from mixedar.numeric.linalg import inverses, product
from mixedar.residual import ResidualStructure, many


@dataclass(frozen=True)
class Whitened:
    """
    The matrices of g patterns of n rows at m points.

    Attributes
    ----------
    inverse : ndarray, shape (m, g, n, n)
        ``H^-1``.
    logdet : ndarray, shape (m,)
        ``sum log|H|`` over all clusters.
    sound : ndarray of bool, shape (m,)
        Whether all are positive definite.
    condition : ndarray, shape (m,)
        About how many digits of the inverses are lost: 1 for an identity.
    table : Jet of shape (m, l)
        Distinct entries of the residuals' covariances.
    slopes : ndarray, shape (m, g, n, k, n)
        ``A_k = H^-1 dH_k``, of length 0 when derivatives were not asked for.
    d1 : ndarray, shape (m, k)
        ``sum tr A_k``.
    """

    inverse: FloatArray
    logdet: FloatArray
    sound: BoolArray
    condition: FloatArray
    table: Jet
    slopes: FloatArray
    d1: FloatArray


class Patterns:
    """
    Patterns of `n` rows each.

    Parameters
    ----------
    rows : ClusterRows
    z : ndarray, shape (rows, q)
        Random effects' design.
    structure : ResidualStructure
    covariance : RandomCovariance
    index : ndarray of int, shape (c, n)
        The rows of each cluster.
    weights : ndarray, shape (c,)
        How often its log-determinant counts.
    which : ndarray of int, shape (c,)
        The pattern of each, 0 ... g - 1.
    """

    def __init__(
        self,
        rows: ClusterRows,
        z: FloatArray,
        structure: ResidualStructure,
        covariance: RandomCovariance,
        index: IntArray,
        weights: FloatArray,
        which: IntArray,
    ) -> None:
        order = np.argsort(which, kind="stable")
        self.index, which = index[order], which[order]
        self.edges = np.flatnonzero(np.diff(which, prepend=-1, append=which[-1] + 1))
        self.multiplicity = np.add.reduceat(weights[order], self.edges[:-1])
        self.g, self.n = len(self.edges) - 1, index.shape[1]
        leaders = self.index[self.edges[:-1]]
        marks = np.empty((*leaders.shape, 0))
        if rows.marks is not None:
            marks = rows.marks[leaders]
        own = z[leaders]
        directions = covariance.directions
        self.k_cov = len(directions)
        # dH / dv of the entries of Psi: the same at all points
        self._psi = own @ directions[:, None] @ own.transpose(0, 2, 1)
        self._psi_columns = self._psi.transpose(1, 2, 0, 3).reshape(
            self.g, self.n, self.k_cov * self.n
        )
        self.k = self.k_cov + structure.k_free
        self._set_table(ResidualMatrices(structure, rows.gaps[leaders], marks))

    def _set_table(self, matrices: ResidualMatrices) -> None:
        """Where each entry of ``R`` is among the distinct ones."""
        structure = matrices.structure
        self._cells = many.cell_values(structure, matrices.cells)
        self._log_sd, self._free = None, structure.k_free
        place = matrices.lookup.astype(np.intp)
        if matrices.heteroscedastic:
            self._log_sd = many.log_sd(structure, matrices.kinds)
            count, kind = len(matrices.kinds), matrices.kind
            low = np.minimum(kind[:, :, None], kind[:, None, :])
            high = np.maximum(kind[:, :, None], kind[:, None, :])
            codes, where = np.unique(
                (place * count + low) * count + high, return_inverse=True
            )
            self._triple = codes // count**2, codes // count % count, codes % count
            place = where.reshape(place.shape)
        self._place = place.ravel()
        self._by_place = np.argsort(self._place, kind="stable")
        self._found, self._starts = np.unique(
            self._place[self._by_place], return_index=True
        )

    def _table(self, u: FloatArray) -> Jet:
        """Distinct entries of ``R``, (m, l)."""
        cells, m = self._cells(u), len(u)
        k = cells.k
        ends = np.broadcast_to([0.0, 1.0], (m, 2))
        zeros = np.zeros((k, m, 2))
        table = Jet(
            np.concatenate([ends, cells.value], axis=1),
            np.concatenate([zeros, cells.first], axis=2),
            np.concatenate([np.zeros((k, *zeros.shape)), cells.second], axis=3),
        )
        if self._log_sd is None:
            return table
        log_sd = self._log_sd(u)
        cell, low, high = self._triple
        return table[:, cell] * np.exp(log_sd[:, low] + log_sd[:, high])

    def products(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """
        Products of pairs of rows, summed over the clusters of each pattern.

        Parameters
        ----------
        x : ndarray, shape (rows, p)
        y : ndarray, shape (rows, b)
            Responses.

        Returns
        -------
        xx : ndarray, shape (g n n, p p)
        xy : ndarray, shape (b, g n n, p + 1)
            Of each response with the designs, symmetric, and with itself.
        """
        n, p, b = self.n, x.shape[1], y.shape[1]
        xx = np.empty((self.g, n, n, p * p))
        xy = np.empty((b, self.g, n, n, p + 1))
        for k, (first, last) in enumerate(pairwise(self.edges)):
            rows = self.index[first:last]
            own, response = x[rows], y[rows]
            flat = own.reshape(len(rows), n * p)
            cross = product(flat.T, flat).reshape(n, p, n, p)
            xx[k] = cross.transpose(0, 2, 1, 3).reshape(n, n, p * p)
            mixed = product(flat.T, response.reshape(len(rows), n * b))
            mixed = mixed.reshape(n, p, n, b).transpose(3, 0, 2, 1)
            xy[:, k, :, :, :p] = 0.5 * (mixed + mixed.transpose(0, 2, 1, 3))
            by_response = np.ascontiguousarray(response.transpose(2, 1, 0))
            xy[:, k, :, :, p] = by_response @ by_response.transpose(0, 2, 1)
        size = self.g * n * n
        return xx.reshape(size, p * p), xy.reshape(b, size, p + 1)

    def at(self, v: FloatArray, u: FloatArray, derivatives: bool) -> Whitened:
        """
        The matrices at points.

        Parameters
        ----------
        v : ndarray, shape (m, k_cov)
            Entries of ``Psi``.
        u : ndarray, shape (m, k_free)
        derivatives : bool
        """
        m, (g, n) = len(v), (self.g, self.n)
        table = self._table(u)
        h = table.value[:, self._place]
        if self.k_cov:
            h = h + product(v, self._psi.reshape(self.k_cov, -1))
        h = h.reshape(m, g, n, n)
        inverse, logs, sound = inverses(h.reshape(m * g, n, n))
        inverse = inverse.reshape(m, g, n, n)
        # what a row has, by what the others leave of it
        left = np.einsum("mgii->mgi", h) * np.einsum("mgii->mgi", inverse)
        condition = left.max(axis=(1, 2))
        slopes, d1 = np.empty((m, g, n, 0, n)), np.empty((m, 0))
        if derivatives:
            slopes = self._slopes(inverse, table)
            traces = np.einsum("mgaka->mgk", slopes)
            d1 = (traces * self.multiplicity[:, None]).sum(axis=1)
        logdet = logs.reshape(m, g) @ self.multiplicity
        whole = np.asarray(sound.reshape(m, g).all(axis=1))
        return Whitened(inverse, logdet, whole, condition, table, slopes, d1)

    def _slopes(self, inverse: FloatArray, table: Jet) -> FloatArray:
        m, g, n, _ = inverse.shape
        out = np.empty((m, g, n, self.k, n))
        k = self.k_cov
        if g == 1:
            found = product(inverse.reshape(m * n, n), self._psi_columns[0])
        else:
            found = inverse @ self._psi_columns
        out[..., :k, :] = found.reshape(m, g, n, k, n)
        for r, first in enumerate(table.first):
            slope = first[:, self._place].reshape(m, g, n, n)
            np.matmul(inverse, slope, out=out[..., k + r, :])
        return out

    def sums(
        self, here: Whitened, products: tuple[FloatArray, FloatArray], which: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """
        ``log|H|``, and ``<H^-1, G>`` with the ``<F_k, G>`` behind.

        Returns
        -------
        logdet : ndarray, shape (m,)
        stacked : ndarray, shape (m, 1 + k, p + 1, p + 1)
        """
        (xx, xy), (m, g, n) = products, here.inverse.shape[:3]
        k, p = here.slopes.shape[3], xy.shape[2] - 1
        turned = here.slopes.reshape(m, g, n * k, n) @ here.inverse
        stacked = np.empty((m, 1 + k, g, n, n))
        stacked[:, 0] = here.inverse
        stacked[:, 1:] = turned.reshape(m, g, n, k, n).transpose(0, 3, 1, 2, 4)
        stacked = stacked.reshape(m, 1 + k, g * n * n)
        out = np.empty((m, 1 + k, p + 1, p + 1))
        flat = stacked.reshape(m * (1 + k), g * n * n)
        out[..., :p, :p] = product(flat, xx).reshape(m, 1 + k, p, p)
        if len(xy) == 1:
            last = product(flat, xy[0]).reshape(m, 1 + k, p + 1)
        else:
            last = stacked @ xy[which]
        out[..., p, :] = last
        out[..., :p, p] = last[..., :p]
        return here.logdet, out

    def outer(
        self,
        weight: FloatArray,
        products: tuple[FloatArray, FloatArray],
        which: IntArray,
    ) -> FloatArray:
        """``<G, weight>`` of pairs of rows, shape (m, g, n, n)."""
        (xx, xy), p = products, weight.shape[1] - 1
        out = product(weight[:, :p, :p].reshape(-1, p * p), xx.T)
        last = weight[:, p].copy()
        last[:, :p] *= 2.0
        if len(xy) == 1:
            out += product(last, xy[0].T)
        else:
            out += (xy[which] @ last[:, :, None])[..., 0]
        return out.reshape(-1, self.g, self.n, self.n)

    def curvature(self, here: Whitened, outer: FloatArray) -> FloatArray:
        """``d2D_kl + <d2S_kl, weight>``, shape (m, k, k), from the outer products."""
        inverse, slopes = here.inverse, here.slopes
        m, g, n, k, _ = slopes.shape
        half = inverse @ outer
        middle = 2.0 * half
        diagonal = np.arange(n)
        middle[..., diagonal, diagonal] -= self.multiplicity[:, None]
        right = slopes.reshape(m, g, n * k, n) @ middle
        right = right.reshape(m, g, n, k, n).transpose(0, 1, 4, 2, 3)
        left = slopes.transpose(0, 3, 1, 2, 4).reshape(m, k, -1)
        out = left @ right.reshape(m, -1, k)
        out = 0.5 * (out + out.transpose(0, 2, 1))
        if self._free:
            weight = inverse * self.multiplicity[:, None, None] - half @ inverse
            sums = np.add.reduceat(
                weight.reshape(m, -1)[:, self._by_place], self._starts, axis=1
            )
            second = here.table.second[..., self._found]
            bend = (second * sums).sum(axis=3)
            out[:, self.k_cov :, self.k_cov :] += bend.transpose(2, 0, 1)
        return out


def patterns_of(
    rows: ClusterRows,
    z: FloatArray,
    structure: ResidualStructure,
    covariance: RandomCovariance,
    most: int,
) -> list[Patterns]:
    """
    The patterns of rows, those of one number of rows together.

    Parameters
    ----------
    rows : ClusterRows
    z : ndarray, shape (n, q)
        Random effects' design, which may be another than the rows'.
    structure : ResidualStructure
        Bound to the data.
    covariance : RandomCovariance
    most : int
        Entries that all slopes may have together.

    Returns
    -------
    list of Patterns
        None of them if there are more entries.
    """
    sizes, found, numbers = np.diff(rows.offsets), [], 0
    keys = [rows.gaps[:, None], z]
    if rows.marks is not None:
        keys.append(rows.marks)
    key = np.concatenate(keys, axis=1) + 0.0  # -0.0 is 0.0
    k = covariance.k_cov + structure.k_free
    for n in np.unique(sizes):
        clusters = np.flatnonzero(sizes == n)
        index = rows.offsets[clusters][:, None] + np.arange(n)
        flat = np.ascontiguousarray(key[index].reshape(len(clusters), -1))
        words = flat.view(np.dtype((np.void, flat.itemsize * flat.shape[1]))).ravel()
        distinct, which = np.unique(words, return_inverse=True)
        numbers += len(distinct) * int(n) ** 2 * (k + 1)
        if numbers > most:
            return []
        found.append((index, rows.weights[clusters], which))
    return [Patterns(rows, z, structure, covariance, *each) for each in found]


def numbers_of(parts: Sequence[Patterns], width: int) -> int:
    """How many numbers one point needs, with `width` columns beside the effects'."""
    return sum(p.g * p.n**2 * (3 * p.k + 5 + width) for p in parts)
