"""
Series with a row at every step, whose residuals are autoregressive moving averages.

A filter with constant coefficients, ``L^-1 = phi(B) / theta(B)``, makes a series white
but for what the rows before its first one do, a state of few numbers.  With ``K`` what
the state does to the filtered columns ``E``,

    L^-1 R L'^-1 = S (I + K B B' K'),

where ``S`` is the variance of what is new in a row and ``B B'`` that of the state,
relative to it (:class:`mixedar.residual.states.Innovations`).  All derivatives of ``E``
are lags of few filtered columns, whatever the orders (Box, G. E. P. and Jenkins, G. M.,
1976, Time Series Analysis, 2nd edition, Holden-Day, section 7.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.states import StateBlock
from mixedar.engine.compress import ClusterRows
from mixedar.engine.level import CrossProducts, orders_of
from mixedar.engine.residuals import variance_of
from mixedar.numeric.autodiff import Jet, chain, concatenate, embed
from mixedar.numeric.blocked import products
from mixedar.numeric.matrices import matmul, transposed
from mixedar.numeric.recursion import Filter
from mixedar.residual import ResidualStructure
from mixedar.residual.states import Innovations

# Series are taken together if none is so many times longer than another one, and so
# many numbers of their columns at a time.
_ALIKE, _NUMBERS = 1.25, 2**18


def at_every_step(rows: ClusterRows, structure: ResidualStructure) -> bool:
    """Whether a filter makes all series white: no row is missing, nor a variance."""
    steps = (rows.gaps == 0.0) | (rows.gaps == 1.0)
    if variance_of(structure) is not None or not steps.all():
        return False
    return structure.innovations(structure.start_grid()[0]) is not None


@dataclass(frozen=True)
class _EvenSeries:
    """
    Series of about one length.

    Attributes
    ----------
    columns : ndarray, shape (s, c, n)
        ``[Z W]``, zero behind the end of a series.
    lengths : ndarray of int, shape (s,)
    owner : ndarray of int, shape (s,)
        The cluster of each.
    """

    columns: FloatArray
    lengths: IntArray
    owner: IntArray

    def ended(self, x: FloatArray) -> FloatArray:
        """Columns, (s, ..., n), with zeros behind the ends of the series."""
        n = x.shape[-1]
        if (self.lengths == n).all():
            return x
        inside = np.arange(n) < self.lengths[:, None]
        return x * inside.reshape(len(x), *(1,) * (x.ndim - 2), n)


class EvenBlock(StateBlock):
    """
    All clusters, for structures that are ARMA processes, with a row at every step.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure
        Bound to the data, without a variance function.
    """

    def __init__(self, rows: ClusterRows, structure: ResidualStructure) -> None:
        super().__init__(rows, structure)
        self._series = list(self._by_length(rows))

    def _by_length(self, rows: ClusterRows) -> Iterator[_EvenSeries]:
        starts = np.flatnonzero(rows.gaps == 0.0)
        lengths = np.diff(np.append(starts, len(rows.gaps)))
        order = np.argsort(lengths, kind="stable")
        while len(order):
            longest = int(lengths[order[-1]])
            most = max(1, _NUMBERS // (len(self._columns) * longest))
            alike = int(np.searchsorted(lengths[order], longest / _ALIKE))
            first = max(alike, len(order) - most)
            some, order = order[first:], order[:first]
            inside = np.arange(longest) < lengths[some, None]
            index = np.where(inside, starts[some, None] + np.arange(longest), 0)
            columns = (self._columns[:, index] * inside).swapaxes(0, 1)
            owner = self._owner[starts[some]]
            yield _EvenSeries(np.ascontiguousarray(columns), lengths[some], owner)

    def _at(self, u: FloatArray, k: int) -> CrossProducts:
        found, lower, q = self._empty(orders_of(k)), np.tril_indices(k), self._q
        process = self._inner.innovations(u[: self._inner.k_free])
        assert process is not None
        if not k:
            process = Innovations(*(Jet.constant(part.value, 0) for part in process))

        def orders(jet: Jet) -> FloatArray:
            jet = embed(jet, 0, k)
            return np.concatenate([jet.value[None], jet.first, jet.second[lower]])

        logs = orders(np.log(process.variance))
        for series in self._series:
            logdet, left = _eliminated(series, process)
            weights = self.weights[series.owner]
            found.logdet[:] += logs * (weights @ series.lengths)
            found.logdet[:] += orders(logdet) @ weights
            by_series = orders(left / process.variance)
            found.ww[:] += by_series[:, :, q:, q:].sum(axis=1)
            if q:
                zz, zw = (np.moveaxis(x, -1, 0) for x in (found.zz, found.zw))
                by_series = by_series[..., :q].swapaxes(0, 1)
                np.add.at(zz, series.owner, by_series[:, :, :q])
                np.add.at(zw, series.owner, by_series[:, :, q:])
        if not np.isfinite(found.logdet[0] + found.ww[0]).all():
            raise np.linalg.LinAlgError("sums of filtered rows overflow")
        return found


def _eliminated(series: _EvenSeries, process: Innovations) -> tuple[Jet, Jet]:
    """
    ``log|I + K B B' K'|``, and what the state before the first row leaves of ``E'E``.

    Of a process that is nearly not stationary the state takes nearly all of ``E'E``.
    No digits are lost if it is measured from what the point predicts, ``x``.

    Returns
    -------
    Jet of shape (s,)
    Jet of shape (s, c, c)
    """
    root, filtered = process.root, _Filtered(series, process)
    d, (count, c, _) = len(root), series.columns.shape
    known = root.value.T @ filtered.gram(filtered.errors)[:, :d]
    scores = np.linalg.solve(np.eye(d) + known[:, :, :d] @ root.value, known[:, :, d:])
    x = root.value @ scores
    # to K B, and E without what B, as it moves, makes of the scores
    ways = np.concatenate([np.broadcast_to(np.eye(d), (count, d, d)), -scores], axis=2)
    held = np.zeros((count, d + c, d + c))
    held[:, d:, :d], held[:, d:, d:] = x.swapaxes(1, 2), np.eye(c)
    moved = transposed(matmul(root[None], ways))
    turn = matmul(moved, np.eye(d, d + c)[None]) + held
    turned = matmul(matmul(turn, filtered.products(x)), transposed(turn))
    left = turned + ways.swapaxes(1, 2) @ ways
    logdet = Jet.constant(np.zeros(count), root.k)
    for _ in range(d):
        pivot, row = left[:, 0, 0], left[:, 0, 1:]
        logdet = logdet + np.log(pivot)
        taken = row[:, :, None] * row[:, None] / pivot[:, None, None]
        left = left[:, 1:, 1:] - taken
    return logdet, left


class _Filtered:
    """
    Columns of series, filtered, at a point.

    Attributes
    ----------
    errors : ndarray, shape (s, c, n)
        ``E = phi(B) u`` with ``u = y / theta(B)``.
    """

    def __init__(self, series: _EvenSeries, process: Innovations) -> None:
        self._series, self._process = series, process
        n = series.columns.shape[2]
        self._filter = Filter(process.ma.value, n)
        self._impulse = self._filter(np.eye(1, n)[0])
        self._inputs = self._filter(series.columns)
        self.errors = self._inputs.copy()
        for lag, phi in enumerate(process.ar.value, 1):
            self.errors -= phi * _lagged(self._inputs, lag)

    def _state(self, impulse: FloatArray) -> FloatArray:
        """What each number of the state adds to rows, (d, n): lags of an impulse."""
        lags = range(len(self._process.root))
        return np.stack([_lagged(impulse, lag) for lag in lags])

    def _beside(self, impulse: FloatArray, columns: FloatArray) -> FloatArray:
        """The same and columns, shape (s, d + c, n)."""
        state = self._state(impulse)
        state = np.broadcast_to(state, (len(columns), *state.shape))
        return np.concatenate([state, columns], axis=1)

    def gram(self, errors: FloatArray) -> FloatArray:
        """``[K E]'[K E]``, shape (s, d + c, d + c)."""
        x = self._series.ended(self._beside(self._impulse, errors))
        return products(x, x.swapaxes(1, 2))

    def products(self, x: FloatArray) -> Jet:
        """
        ``[K V]'[K V]`` of ``V = E - K x`` with a state `x` that is held, (s, d, c).

        By a coefficient of ``phi`` the derivative of ``V`` is a lag of ``-u``, by one
        of ``theta`` a lag of ``-V / theta(B)``; by both a lag of ``u / theta(B)``, by
        two of ``theta`` a lag of ``2 V / theta(B)^2``.

        Returns
        -------
        Jet of shape (s, d + c, d + c)
        """
        process, once = self._process, self._filter
        state = self._state(self._impulse)
        errors = self.errors - products(x.swapaxes(1, 2), state)
        if not process.root.k:
            return Jet.constant(self.gram(errors), 0)
        inputs = self._beside(0.0 * self._impulse, self._inputs)
        impulse, again = once(self._impulse), once(errors)
        p, q = len(process.ar), len(process.ma)
        here, moved = self._beside(self._impulse, errors), self._beside(impulse, again)
        slopes = [-_lagged(inputs, lag) for lag in range(1, p + 1)]
        slopes += [-_lagged(moved, lag) for lag in range(1, q + 1)]
        rows = self._series.ended(np.stack([here, *slopes], axis=1))
        count, orders, m, n = rows.shape
        flat = rows.reshape(count, -1, n)
        pairs = products(flat, flat.swapaxes(1, 2))
        pairs = pairs.reshape(count, orders, m, orders, m).transpose(1, 3, 0, 2, 4)
        bent = np.zeros((p + q, p + q, count, m, m))
        bends = once(inputs), 2.0 * self._beside(once(impulse), once(again))
        for first, order, bend in zip((0, p), (p, q), bends, strict=True):
            # pairs of parameters whose lags have a sum in common
            for lag in range(2, order + q + 1):
                early = bend[..., : max(n - lag, 0)].swapaxes(1, 2)
                late = products(rows[:, 0, :, lag:], early)
                for i in range(max(1, lag - q), min(order, lag - 1) + 1):
                    a, b = first + i - 1, p + lag - i - 1
                    bent[a, b] = bent[b, a] = late
        second = pairs[1:, 1:] + bent
        second = second + second.swapaxes(3, 4)
        found = Jet(pairs[0, 0], pairs[1:, 0] + pairs[0, 1:], second)
        return chain(found, concatenate([process.ar, process.ma]))


def _lagged(x: FloatArray, lag: int) -> FloatArray:
    """Rows so many steps before, the last axis; zero before the first."""
    out = np.zeros(x.shape)
    out[..., lag:] = x[..., : max(x.shape[-1] - lag, 0)]
    return out
