"""
Markov residuals with a variance of each row's own, however long the series.

With standard deviations ``1 / s_t`` the precision of a series stays
tridiagonal: in the notation of :mod:`mixedar.residual.markov`

    x' R^-1 x = sum_t s_t^2 (1 + alpha_t + alpha_{t+1}) x_t^2
              + 2 sum_{t>1} s_t s_{t-1} (beta_t - alpha_t) x_t x_{t-1}.

The two weights of a row carry their derivatives along; products of neighbouring
rows are summed by cluster with each of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixedar.compress import ClusterRows
from mixedar.jets import Jet, embed
from mixedar.moments.block import MomentBlock, Moments
from mixedar.moments.products import previous
from mixedar.moments.residual_matrices import unique_rows
from mixedar.residual import Heteroscedastic, MarkovStructure

__all__ = ["ScaledBlock"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

# Rows whose products are formed at a time.
_ROWS = 2**14


class ScaledBlock(MomentBlock):
    """
    All clusters, for a Markov (or no) correlation with a variance function.

    Parameters
    ----------
    rows : ClusterRows
    structure : Heteroscedastic
        Its correlation is a Markov structure or independence.
    """

    def __init__(self, rows: ClusterRows, structure: Heteroscedastic) -> None:
        self.clusters = np.arange(rows.n_clusters)
        self.weights = rows.weights
        self._structure = structure
        self._starts = rows.offsets[:-1]
        self._rows = np.concatenate([rows.z, rows.w], axis=1)
        self._q = rows.z.shape[1]
        self._inside = rows.gaps > 0.0
        self._before = previous(self._rows, self._inside)
        self._gaps, self._class = np.unique(
            rows.gaps[self._inside], return_inverse=True
        )
        assert rows.marks is not None
        no_time = np.zeros((len(rows.marks), 1))
        self._kinds, self._kind = unique_rows(
            np.concatenate([no_time, rows.marks], axis=1)
        )
        self._pairs = np.tril_indices(self._rows.shape[1])
        self._row_weights = np.repeat(rows.weights, np.diff(rows.offsets))

    def at(self, u: FloatArray, *, derivatives: bool) -> Moments:
        """Moments at residual parameters; see :meth:`MomentBlock.at`."""
        own, cross, logdet = self._weights(u)
        k = own.k if derivatives else 0
        lower = np.tril_indices(k)

        def orders(jet: Jet) -> FloatArray:
            parts = [jet.value[None], jet.first[:k], jet.second[lower]]
            return np.concatenate(parts)

        sums = self._sums(orders(own), orders(cross))
        columns, q = self._rows.shape[1], self._q
        gram = np.empty((len(sums), columns, columns, sums.shape[2]))
        rows, others = self._pairs
        gram[:, rows, others] = gram[:, others, rows] = sums
        return Moments(
            gram[:, :q, :q],
            gram[:, q:, :q],
            gram[:, q:, q:].sum(axis=3),
            orders(logdet).ravel(),
        )

    def _sums(self, own: FloatArray, cross: FloatArray) -> FloatArray:
        """Products of pairs of columns, by order and cluster."""
        starts = self._starts
        ends = np.append(starts[1:], len(self._rows))
        out = np.empty((len(own), len(self._pairs[0]), len(starts)))
        first = 0
        while first < len(starts):
            # long clusters by themselves, short ones together
            last = int(np.searchsorted(ends, starts[first] + _ROWS, side="right"))
            last = max(last, first + 1)
            some = slice(starts[first], ends[last - 1])
            squares, neighbours = self._features(some)
            inside = starts[first:last] - starts[first]
            for order in range(len(own)):
                if last == first + 1:
                    total = own[order, some] @ squares
                    total += cross[order, some] @ neighbours
                    out[order, :, first] = total
                    continue
                weighted = own[order, some, None] * squares
                weighted += cross[order, some, None] * neighbours
                out[order, :, first:last] = np.add.reduceat(weighted, inside).T
            first = last
        return out

    def _features(self, some: slice) -> tuple[FloatArray, FloatArray]:
        """Products of columns in a row, and of neighbouring rows."""
        here, before = self._rows[some], self._before[some]
        a, b = self._pairs
        return here[:, a] * here[:, b], here[:, a] * before[:, b] + (
            before[:, a] * here[:, b]
        )

    def _weights(self, u: FloatArray) -> tuple[Jet, Jet, Jet]:
        """Weights of squares and of neighbours' products, and ``log|R|``."""
        structure = self._structure
        log_sd = structure.log_sd(self._kinds, u)
        assert log_sd is not None
        inverse: Jet = np.exp(-log_sd)[self._kind]
        k, n = inverse.k, len(self._kind)
        logdet: Jet = 2.0 * (log_sd[self._kind] * self._row_weights).sum()
        square = inverse * inverse
        inner = structure.structure
        if not isinstance(inner, MarkovStructure) or len(self._gaps) == 0:
            return square, Jet.constant(np.zeros(n), k), logdet
        free = inner.k_free
        found = inner.precision_coefficients(self._gaps, u[:free], derivatives=True)

        def jet(coefficients: FloatArray) -> Jet:
            if len(coefficients) == 1:
                return Jet.constant(coefficients[0], k)
            value, first, second = coefficients
            return embed(Jet(value, first[None], second[None, None]), 0, k)

        inside = np.flatnonzero(self._inside)
        counts = np.bincount(
            self._class, self._row_weights[inside], minlength=len(self._gaps)
        )
        logdet = logdet + (jet(found.logdet) * counts).sum()
        alpha, beta = jet(found.alpha)[self._class], jet(found.beta)[self._class]
        around = Jet.constant(np.ones(n), k)
        for shift in (inside, inside - 1):
            around.value[shift] += alpha.value
            around.first[:, shift] += alpha.first
            around.second[:, :, shift] += alpha.second
        cross = Jet.constant(np.zeros(n), k)
        between = (beta - alpha) * inverse[inside] * inverse[inside - 1]
        cross.value[inside] = between.value
        cross.first[:, inside] = between.first
        cross.second[:, :, inside] = between.second
        return square * around, cross, logdet
