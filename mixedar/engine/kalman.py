"""
Rows of series given the rows before them, by the states of their structure.

With ``S`` the variance of a row given those before it, ``g = P[:, 0] / sqrt(S)`` and
``f`` the first row of ``F``, a row's prediction error and the state that is known after
it are (Kalman, 1960)

    w_t = (y_t - f x_{t-1}) / sqrt(S),    x_t = F x_{t-1} + g w_t,

and ``w`` is ``L^-1 y`` of the Cholesky factor ``L`` of ``R``: nothing larger than the
state is formed.  Covariances of states come from prefixes of steps; all the rest,
derivatives included, are linear recursions with ``G = F - g f / sqrt(S)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.engine.level import lower_pairs
from mixedar.engine.rows import GroupedRows
from mixedar.numeric.autodiff import Jet
from mixedar.numeric.linalg import bmm, unique_rows
from mixedar.numeric.recursion import Conditioning, LinearRecursion
from mixedar.residual import ResidualStructure

Pairs = dict[tuple[int, int], FloatArray]

# From so many rows on series are taken by their states, so many rows at a time.
_LONG, _TOGETHER = 40, 2**15


class RowStates(NamedTuple):
    """
    The state space of each kind of row: a series begins with nothing known.

    Attributes
    ----------
    transition, innovation : Jet of shape (d, d, l)
        Zero, and the stationary covariance, where a series begins.
    covariance : Jet of shape (d, l)
        Of the state with its own row's value, without noise.
    noise : Jet of shape (l,)
    kinds : ndarray of int, shape (n,), or None
        Which of them each row is; by default each its own.
    """

    transition: Jet
    innovation: Jet
    covariance: Jet
    noise: Jet
    kinds: IntArray | None

    def by_row(self, x: FloatArray) -> FloatArray:
        """What rows have, the last axis, from what their kinds have."""
        return x if self.kinds is None else x.take(self.kinds, axis=-1)


class NeighbourCells:
    """
    Rows of whole series, one after the other, by what neighbours have in common.

    Parameters
    ----------
    structure : ResidualStructure
        Bound to the data, without a variance function.
    gaps : ndarray, shape (n,)
        0 where a series begins.
    marks : ndarray, shape (n, c), or None
    begins : ndarray of bool, shape (n,), optional
        Where a series begins, if rows of one may share their time.
    """

    def __init__(
        self,
        structure: ResidualStructure,
        gaps: FloatArray,
        marks: FloatArray | None,
        begins: BoolArray | None = None,
    ) -> None:
        self._structure, n = structure, len(gaps)
        marks = np.empty((n, 0)) if marks is None else marks
        begins = gaps == 0.0 if begins is None else begins
        here = np.flatnonzero(~begins)
        if not len(here):  # of rows by themselves any distance will do
            here, gaps = np.zeros(1, dtype=np.intp), np.ones(n)
        # a first row sees what the next one does
        which = np.searchsorted(here, np.arange(n))
        which = np.minimum(which, len(here) - 1)
        before = np.column_stack([np.zeros(len(here)), marks[here - 1]])
        cells = structure.cells(before, np.column_stack([gaps, marks])[here])
        some, place = unique_rows(cells)
        found, kinds = np.unique(2 * place[which] + begins, return_inverse=True)
        self._cells, self._begins = some[found // 2], found % 2 == 1
        self._kinds: IntArray | None = kinds
        if 2 * len(found) > n:  # nothing is gained by looking them up
            self._cells, self._begins, self._kinds = cells[which], begins, None

    def at(self, u: FloatArray, *, derivatives: bool) -> RowStates:
        """The states at unconstrained parameters."""
        found = self._structure.state_space(self._cells, u)
        transition, innovation, stationary, noise = (
            part if derivatives else Jet.constant(part.value, 0) for part in found
        )
        return RowStates(
            _where(self._begins, 0.0 * transition, transition),
            _where(self._begins, stationary, innovation),
            stationary[:, 0],
            noise,
            self._kinds,
        )


def _where(rows: BoolArray, a: Jet, b: Jet) -> Jet:
    """The first at some rows, the second at the others."""
    pairs = (a.value, b.value), (a.first, b.first), (a.second, b.second)
    return Jet(*(np.where(rows, *pair) for pair in pairs))


def _before(x: FloatArray) -> FloatArray:
    """What the row before has, the last axis; zero at the first."""
    out = np.zeros(x.shape)
    out[..., 1:] = x[..., :-1]
    return out


def _after(x: FloatArray) -> FloatArray:
    """What the next row has, the last axis; zero at the last."""
    out = np.zeros(x.shape)
    out[..., :-1] = x[..., 1:]
    return out


def _both(a: FloatArray) -> FloatArray:
    """``A + A'`` of matrices along the last axis."""
    return a + a.swapaxes(0, 1)


def _outer(a: FloatArray, b: FloatArray) -> FloatArray:
    """``a b'`` of vectors, shape (d, n)."""
    return a[:, None] * b[None]


def _mixed(
    weights: FloatArray, sources: FloatArray, out: FloatArray | None = None
) -> FloatArray:
    """Sums of columns, (m, c, n), with weights of each row, (m, n)."""
    return np.einsum("mn,mcn->cn", weights, sources, out=out)


def _applied(
    matrices: FloatArray, sources: FloatArray, out: FloatArray | None = None
) -> FloatArray:
    """The same with several sets of weights, (d, m, n), to (d, c, n)."""
    if out is None:
        out = np.empty((len(matrices), *sources.shape[1:]))
    for weights, mixed in zip(matrices, out, strict=True):
        _mixed(weights, sources, mixed)
    return out


class Predictions:
    """
    Every row given those before it in its series, at a point.

    Columns are along the last axis but one, shape (c, n).

    Parameters
    ----------
    rows : RowStates
    seen : ndarray of bool, shape (n,), optional
        Which rows tell of their states; by default all of them.

    Attributes
    ----------
    variance : ndarray, shape (n,)
        ``S``.
    known : ndarray, shape (d, d, n)
        Covariance of the state given the rows up to each.
    steps : Conditioning
        From what is known at a row to what is known at the next.
    noise : ndarray, shape (n,)

    Raises
    ------
    numpy.linalg.LinAlgError
        If a variance is not positive.
    """

    def __init__(self, rows: RowStates, seen: BoolArray | None = None) -> None:
        self._rows, self.k = rows, rows.noise.k
        parts = rows.transition, rows.innovation, rows.noise
        self._f, q, self.noise = (rows.by_row(x.value) for x in parts)
        f = self._f
        with np.errstate(all="ignore"):
            tells = 1.0 / (q[0, 0] + self.noise)
            if seen is not None:
                tells = np.where(seen, tells, 0.0)
            gain, told = q[:, 0] * tells, f[0] * tells
            self.steps = Conditioning(
                f - _outer(gain, f[0]), q - _outer(gain, q[0]), _outer(f[0], told)
            )
            self.known = self.steps.prefixes()
            moved = bmm(bmm(f, _before(self.known)), f.transpose(1, 0, 2))
            ahead = moved + q
            self.variance = ahead[0, 0] + self.noise
            if seen is not None:
                self.variance = np.where(seen, self.variance, 1.0)
            self._root = np.sqrt(self.variance)
        if not (self.variance > 0.0).all():
            raise np.linalg.LinAlgError("a covariance is not positive definite")
        self._gain, self._seen = ahead[:, 0] / self._root, f[0] / self._root
        self._closed = f - _outer(self._gain, self._seen)

    @cached_property
    def _recursion(self) -> LinearRecursion:
        return LinearRecursion(self._closed)

    @cached_property
    def _covariance(self) -> FloatArray:
        return self._rows.by_row(self._rows.covariance.value)

    @cached_property
    def _open(self) -> LinearRecursion:
        return LinearRecursion(self._f)

    def whiten(self, y: FloatArray) -> FloatArray:
        """``L^-1 y`` of columns."""
        return self._errors(y)[-1]

    def _errors(self, y: FloatArray) -> FloatArray:
        """What is known before each row, and its error, (d + 1, c, n)."""
        b = np.empty((len(self._f) + 1, *y.shape))
        np.divide(y, self._root, out=b[-1])
        np.multiply(self._gain[:, None], b[-1], out=b[:-1])
        return self._driven(b, np.empty(b.shape))

    def _driven(self, b: FloatArray, out: FloatArray) -> FloatArray:
        """
        States before each row, and errors, (d + 1, c, n), from what drives them.

        The first are overwritten.
        """
        found = self._recursion.forward(b[:-1], overwrite=True)
        out[:-1, :, 0], out[:-1, :, 1:] = 0.0, found[..., :-1]
        np.subtract(b[-1], _mixed(self._seen, out[:-1], out[-1]), out=out[-1])
        return out

    def whiten_back(self, w: FloatArray) -> FloatArray:
        """``L'^-1 w``."""
        pull = -_after(self._seen[:, None] * w)
        return (w + _mixed(self._gain, self._recursion.backward(pull))) / self._root

    def colour(self, w: FloatArray) -> FloatArray:
        """``L w``: the inverse of :meth:`whiten`."""
        x = _before(self._open.forward(self._gain[:, None] * w))
        return self._root * w + _mixed(self._f[0], x)

    @cached_property
    def _slopes(self) -> _Slopes:
        return _Slopes(self._rows, self.known, self._root, self._gain)

    def log_variances(self) -> Jet:
        """``log S``, whose sum is ``log|R|``, with derivatives."""
        value = np.log(self.variance)
        return Jet(value, *self._slopes.logs) if self.k else Jet.constant(value, 0)

    def whitened(
        self, y: FloatArray, order: int
    ) -> tuple[FloatArray, list[FloatArray], Pairs]:
        """
        ``L^-1 y`` and derivatives of ``L^-1`` up to an order times `y`.

        Parameters
        ----------
        y : ndarray, shape (c, n)
        order : {0, 1, 2}

        Returns
        -------
        value : ndarray, shape (c, n)
        first : list of k such ndarray
        second : dict of such ndarray by ``(i, j)``, ``j <= i``
        """
        here = self._errors(y)
        if not (order and self.k):
            return here[-1], [], {}
        bends = self._slopes.bends if order == 2 else {}
        # all arrays are made here: fresh memory is dearer than the arithmetic
        sources, driving = np.empty((1 + self.k, *here.shape)), np.empty(here.shape)
        three, work = np.empty((3, *here.shape)), np.empty(here.shape)
        found = np.empty((len(bends), *y.shape))
        sources[0] = three[0] = here
        for i, turn in enumerate(self._slopes.turns):
            self._driven(_applied(turn, here, driving), sources[1 + i])
        for ((i, j), turn), out in zip(bends.items(), found, strict=True):
            turns = turn, self._slopes.turns[j], self._slopes.turns[i]
            three[1], three[2] = sources[1 + i], sources[1 + j]
            weights = np.concatenate(turns, axis=1)
            _applied(weights, three.reshape(-1, *y.shape), driving)
            out[:] = self._driven(driving, work)[-1]
        return here[-1], list(sources[1:, -1]), dict(zip(bends, found, strict=True))

    def times(self, x: FloatArray) -> FloatArray:
        """``R x`` of columns."""
        p = self._covariance
        back = _mixed(p, self._reach(x)) - p[0] * x
        return x + self._ahead(x)[0] + back

    def times_slopes(self, x: FloatArray) -> list[FloatArray]:
        """Derivatives of ``R`` times columns."""
        p, rows, out = self._covariance, self._rows, []
        pushed = _before(self._ahead(x) + p[:, None] * x)
        reach = self._reach(x)
        slopes = rows.transition.first, rows.covariance.first
        for f, of_p in zip(*(rows.by_row(slope) for slope in slopes), strict=True):
            b = _applied(f, pushed) + _applied(self._f, _before(of_p[:, None] * x))
            turned = _after(_applied(f.swapaxes(0, 1), reach))
            back = _mixed(of_p, reach) + _mixed(p, self._open.backward(turned))
            out.append(self._open.forward(b)[0] + back - of_p[0] * x)
        return out

    def _ahead(self, x: FloatArray) -> FloatArray:
        """What rows before carry to each row's state, from their covariance with it."""
        pushed = _before(self._covariance[:, None] * x)
        return self._open.forward(_applied(self._f, pushed))

    def _reach(self, x: FloatArray) -> FloatArray:
        """What a state is multiplied by in its row and all rows behind."""
        unit = np.zeros((len(self._f), *x.shape))
        unit[0] = x
        return self._open.backward(unit)

    def traces(self, log_sd: FloatArray, weights: FloatArray) -> FloatArray:
        """
        ``tr(R^-1 R_i R^-1 R_j)``: how much derivatives of the errors vary together.

        Parameters
        ----------
        log_sd : ndarray, shape (k_sd, s, n)
            Derivatives of the rows' logarithmic standard deviations by further
            parameters, in `s` series at these positions.
        weights : ndarray, shape (s, n)
            How often each row counts.

        Returns
        -------
        ndarray, shape (k + k_sd, k + k_sd)
        """
        found = np.zeros((self.k + len(log_sd),) * 2)
        for slopes, weight in zip(log_sd.swapaxes(0, 1), weights, strict=True):
            found += self._traces(slopes, weight)
        return found

    def _traces(self, log_sd: FloatArray, weights: FloatArray) -> FloatArray:
        """The same of one series at each position, (k_sd, n) and (n,)."""
        f, g, d = self._f, self._closed, len(self._f)
        moves = list(self._slopes.turns) if self.k else []
        own = np.concatenate([self._seen, np.ones((1, f.shape[2]))])
        for slope in log_sd:
            bottom = -slope * own
            moves.append(np.concatenate([_outer(self._gain, bottom), bottom[None]]))
        x = _SymmetricRecursion(f).forward(_outer(self._gain, self._gain))
        # of the state before a row and its error, which has variance one
        joint = np.zeros((d + 1, *own.shape))
        joint[:d, :d], joint[d, d] = _before(x), 1.0
        with_state, alone = LinearRecursion(_kronecker(g, f)), _kronecker(g, g)
        together = LinearRecursion(alone)
        crossed, back = [], np.concatenate([f, self._gain[:, None]], axis=1)
        for move in moves:
            right = bmm(bmm(move[:d], joint), back.swapaxes(0, 1))
            crossed.append(_before(_forward(with_state, right)))
        out, seen = np.zeros((len(moves), len(moves))), self._seen[None]
        for i, move in enumerate(moves):
            for j, other in enumerate(moves[: i + 1]):
                # of derivatives of the state with what moves those of the other
                a = bmm(crossed[i], other[:, :d].swapaxes(0, 1))
                b = bmm(crossed[j], move[:, :d].swapaxes(0, 1)).swapaxes(0, 1)
                new = bmm(bmm(move, joint), other.swapaxes(0, 1))
                right = new[:d, :d] + bmm(g, a[:, :d])
                right += bmm(b[:d], g.swapaxes(0, 1))
                v = _before(_forward(together, right))
                error = new[d, d] + bmm(bmm(seen, v), seen.swapaxes(0, 1))[0, 0]
                error -= (self._seen * (a[:, d] + b[d])).sum(axis=0)
                found = 2.0 * (error + move[d, d] * other[d, d])
                out[i, j] = out[j, i] = weights @ found
        return out


def smoothed_variances(rows: Predictions) -> FloatArray:
    """
    Variance of each row that is not seen given all those of its series that are.

    What later rows tell of a state is information, which the same steps gather
    backwards, with information and covariances in each other's place.
    """
    a, c, j = rows.steps
    mirrored = Conditioning(a.swapaxes(0, 1), j, c)
    backwards = mirrored.some(slice(None, None, -1)).prefixes()[..., ::-1]
    state = Conditioning(_identity(a), np.zeros(a.shape), _after(backwards))
    return state.applied(rows.known)[0, 0] + rows.noise


def _identity(like: FloatArray) -> FloatArray:
    return np.zeros(like.shape) + np.eye(len(like))[:, :, None]


def has_long_series(grouped: GroupedRows, structure: ResidualStructure) -> bool:
    """Whether a structure with a state has series too long for matrices."""
    if not structure.n_states:
        return False
    starts = np.flatnonzero(grouped.first_of_series)
    return bool(np.diff(np.append(starts, len(grouped.gaps))).max() > _LONG)


def along_series(
    function: Callable[[Predictions, FloatArray], FloatArray],
    x: FloatArray,
    grouped: GroupedRows,
    structure: ResidualStructure,
    u: FloatArray,
) -> FloatArray:
    """
    What predictions make of columns, some whole series at a time.

    Parameters
    ----------
    function : callable
        A method of :class:`Predictions`.
    x : ndarray, shape (n,) or (n, k)
        In sorted order.
    grouped : GroupedRows
    structure : ResidualStructure
        Without a variance function.
    u : ndarray, shape (k_free,)

    Returns
    -------
    ndarray, of the shape of `x`
    """
    starts = np.append(np.flatnonzero(grouped.first_of_series), len(grouped.gaps))
    out, first = np.empty(x.shape), 0
    while first < len(starts) - 1:
        last = int(np.searchsorted(starts, starts[first] + _TOGETHER, side="right"))
        last = max(last - 1, first + 1)
        rows = slice(int(starts[first]), int(starts[last]))
        marks = None if grouped.marks is None else grouped.marks[rows]
        neighbours = NeighbourCells(structure, grouped.gaps[rows], marks)
        predictions = Predictions(neighbours.at(u, derivatives=False))
        columns = np.ascontiguousarray(x[rows].reshape(rows.stop - rows.start, -1).T)
        out[rows] = function(predictions, columns).T.reshape(x[rows].shape)
        first = last
    return out


class _Slopes:
    """
    Derivatives of the recursions by parameter, and by pairs of parameters.

    The covariance of the next state, ``A = F P F' + Q``, moves by

        dA = F dP F' + X,    dP = G dP G' + M X M' + a a' dnoise,

    with ``a = A[:, 0] / S``, ``M = I - a e_1'`` and an ``X`` that is known before;
    second derivatives likewise.  What follows for states and errors is

        (dx, dw) = turn (x, w) + (G dx, -f dx / sqrt(S)).

    Attributes
    ----------
    logs : tuple of ndarray, shapes (k, n) and (k, k, n)
        Derivatives of ``log S``.
    turns : list of ndarray, shape (d + 1, d + 1, n)
    bends : dict of such ndarray, by ``(i, j)`` with ``j <= i``
    """

    def __init__(
        self, rows: RowStates, known: FloatArray, root: FloatArray, gain: FloatArray
    ) -> None:
        self._root, self._gain, k = root, gain, rows.noise.k
        transition, innovation, _, noise = rows[:4]
        p, f = _before(known), rows.by_row(transition.value)
        self._f = f[0]
        recursion = _SymmetricRecursion(f - _outer(gain, f[0] / root))
        # parameters, and pairs of them, along the last axis but one
        first, of_noise, (i, j) = transition.first, noise.first, np.tril_indices(k)
        first, of_noise = rows.by_row(_behind(first)), rows.by_row(of_noise)
        back, pushed = f.swapaxes(0, 1), _times(first, p)
        x = _both(_times(pushed, back)) + rows.by_row(_behind(innovation.first))
        b = self._conditioned(x, of_noise)
        moved = _before(recursion.forward(b))
        columns = self._column(f, moved, x)
        changes = columns[0] + of_noise
        logs = changes / root**2
        rates = logs / 2.0
        gains = columns / root - rates * gain[:, None]
        self.turns = list(self._turns(first, gains, rates))
        bent = np.empty((k, k, len(root)))
        second, new = (
            rows.by_row(_behind(part.second[i, j])) for part in (transition, innovation)
        )
        of_noise = rows.by_row(noise.second[i, j])
        of_i, of_j = (np.take(first, each, axis=2) for each in (i, j))
        moved_i, moved_j = (np.take(moved, each, axis=2) for each in (i, j))
        x = _times(second, p) + _times(of_i, moved_j) + _times(of_j, moved_i)
        x = _times(x, back) + _times(np.take(pushed, i, axis=2), of_j.swapaxes(0, 1))
        x = _both(x) + new
        pull = columns - gain[:, None] * changes / root
        b = self._conditioned(x, of_noise)
        b -= _both(_outer(pull[:, i], pull[:, j])) / root**2
        columns = self._column(f, _before(recursion.forward(b)), x)
        change = (columns[0] + of_noise) / root**2
        bent[i, j] = bent[j, i] = change - logs[i] * logs[j]
        rate = (change - logs[i] * logs[j] / 2.0) / 2.0
        turned = columns / root - rate * gain[:, None]
        turned -= rates[i] * gains[:, j] + rates[j] * gains[:, i]
        found = self._turns(second, turned, rate)
        self.bends: Pairs = dict(zip(lower_pairs(k), found, strict=True))
        self.logs = logs, bent

    def _conditioned(self, x: FloatArray, of_noise: FloatArray) -> FloatArray:
        """``M X M' + a a' dnoise``."""
        a = (self._gain / self._root)[:, None]
        left = x - _outer(a, x[0])
        return left - _outer(left[:, 0], a) + _outer(a, a * of_noise)

    def _column(self, f: FloatArray, change: FloatArray, x: FloatArray) -> FloatArray:
        """The first column of ``F change F' + x``."""
        ahead = (change * self._f[:, None]).sum(axis=1)
        return (f[:, :, None] * ahead).sum(axis=1) + x[:, 0]

    def _turns(
        self, f: FloatArray, gains: FloatArray, rates: FloatArray
    ) -> Iterator[FloatArray]:
        """What derivatives of ``F``, ``g`` and ``log S / 2`` do to state and error."""
        d, _, k, n = f.shape
        # each has its rows side by side in memory
        for i, out in enumerate(np.empty((k, d + 1, d + 1, n))):
            out[d, :d], out[d, d] = f[0, :, i] / -self._root, -rates[i]
            out[:d, :d], out[:d, d] = f[:, :, i], gains[:, i]
            out[:d] += _outer(self._gain, out[d])
            yield out


def _behind(x: FloatArray) -> FloatArray:
    """The axis of parameters before that of rows, which are side by side in memory."""
    return np.ascontiguousarray(np.moveaxis(x, 0, -2))


def _times(a: FloatArray, b: FloatArray) -> FloatArray:
    """Products of matrices, some with an axis of parameters before that of rows."""
    if a.ndim < b.ndim:
        a = a[:, :, None]
    if b.ndim < a.ndim:
        b = b[:, :, None]
    out = a[:, :1] * b[:1]
    for k in range(1, len(b)):
        out += a[:, k : k + 1] * b[k : k + 1]
    return out


class _SymmetricRecursion:
    """``X_t = G_t X_{t-1} G_t' + B_t`` of symmetric matrices, shape (d, d, n)."""

    def __init__(self, g: FloatArray) -> None:
        rows, columns = self._entries = np.tril_indices(len(g))
        size = len(rows)
        moves = np.empty((size, size, g.shape[2]))
        for place, (a, b) in enumerate(zip(rows, columns, strict=True)):
            pairs = g[a, rows] * g[b, columns]
            mirrored = g[a, columns] * g[b, rows] * (rows != columns)[:, None]
            moves[place] = pairs + mirrored
        self._recursion = LinearRecursion(moves)

    def forward(self, b: FloatArray) -> FloatArray:
        """All matrices."""
        rows, columns = self._entries
        out = np.empty(b.shape)
        found = self._recursion.forward(b[rows, columns])
        out[rows, columns] = out[columns, rows] = found
        return out


def _kronecker(a: FloatArray, b: FloatArray) -> FloatArray:
    """``A kron B`` of matrices along the last axis."""
    d, n = a.shape[1:]
    return np.einsum("ijn,kln->ikjln", a, b).reshape(d * d, d * d, n)


def _forward(recursion: LinearRecursion, b: FloatArray) -> FloatArray:
    """``X_t = A_t X_{t-1} B_t' + C_t`` of matrices by their Kronecker product."""
    return recursion.forward(b.reshape(-1, b.shape[2])).reshape(b.shape)
