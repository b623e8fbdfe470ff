"""
Penalised bases of one or two covariates, and their split into fixed and random parts.

``f(x) = B(x) b`` with the penalty ``b'S b / lambda`` is a random effect: the directions
that the penalty does not see are fixed effects, and the others, scaled by the roots of
their eigenvalues, have independent coefficients of one variance (Wood, 2017, section
5.8).  Bases, knots and constraints are those of mgcv.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import comb

import numpy as np
from scipy.interpolate import BSpline
from scipy.sparse.linalg import LinearOperator, eigsh
from scipy.spatial.distance import cdist

from mixedar._types import FloatArray
from mixedar.exceptions import UnsupportedError

_NULL = 1e-9  # eigenvalues of the penalty, relative to the largest
_MOST_PLACES = 2000  # distinct places of a thin plate spline
_MANY_PLACES = 20  # times k, from which on few eigenvectors are sought alone
_ROWS = 8192  # rows of which columns are computed at a time
_SPAN = 0.001  # of the range, beyond which the knots of B-splines begin


class Basis(ABC):
    """
    Functions of the covariates, learned from data.

    Attributes
    ----------
    penalty : ndarray, shape (k, k)
        Positive semidefinite.
    """

    penalty: FloatArray

    @abstractmethod
    def columns(self, x: FloatArray) -> FloatArray:
        """Values at some places, (n, d) to (n, k)."""

    def own_columns(self, x: FloatArray) -> FloatArray:
        """The same at the data it was learned from, once."""
        return self.columns(x)


class CubicSpline(Basis):
    """
    A natural cubic spline, by its values at the knots (mgcv's ``"cr"``).

    Parameters
    ----------
    x : ndarray, shape (n, 1)
    k : int
        Number of knots, at quantiles of the distinct values.
    """

    def __init__(self, x: FloatArray, k: int) -> None:
        self.knots = np.quantile(np.unique(x), np.linspace(0.0, 1.0, k))
        h = np.diff(self.knots)
        inner = range(k - 2)
        bends, band = np.zeros((k - 2, k)), np.zeros((k - 2, k - 2))
        for i in inner:
            bends[i, i : i + 3] = (
                1.0 / h[i],
                -1.0 / h[i] - 1.0 / h[i + 1],
                1.0 / h[i + 1],
            )
            band[i, i] = (h[i] + h[i + 1]) / 3.0
            if i < k - 3:
                band[i, i + 1] = band[i + 1, i] = h[i + 1] / 6.0
        second = np.linalg.solve(band, bends)
        self._second = np.vstack([np.zeros(k), second, np.zeros(k)])
        self.penalty = bends.T @ second

    def columns(self, x: FloatArray) -> FloatArray:
        """See :class:`Basis`; linear beyond the outer knots."""
        low, high = self.knots[0], self.knots[-1]
        out = _piecewise(np.clip(x[:, 0], low, high), self.knots, self._second)
        before, after = np.minimum(x - low, 0.0), np.maximum(x - high, 0.0)
        out += before * _slope(self.knots, self._second, 0)
        return np.asarray(out + after * _slope(self.knots, self._second, -1))


def _piecewise(x: FloatArray, knots: FloatArray, second: FloatArray) -> FloatArray:
    """Cubic pieces from values and second derivatives at the knots."""
    h, last = np.diff(knots), len(knots) - 2
    j = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, last)
    a, b = (knots[j + 1] - x) / h[j], (x - knots[j]) / h[j]
    out = ((a**3 - a) * h[j] ** 2 / 6.0)[:, None] * second[j]
    out += ((b**3 - b) * h[j] ** 2 / 6.0)[:, None] * second[j + 1]
    rows = np.arange(len(x))
    out[rows, j] += a
    out[rows, j + 1] += b
    return out


def _slope(knots: FloatArray, second: FloatArray, end: int) -> FloatArray:
    """Derivative at the first or last knot by the values at the knots."""
    h, k = np.diff(knots), len(knots)
    out = np.zeros(k)
    if end == 0:
        out[:2] = -1.0 / h[0], 1.0 / h[0]
        return out - h[0] / 6.0 * (2.0 * second[0] + second[1])
    out[-2:] = -1.0 / h[-1], 1.0 / h[-1]
    return out + h[-1] / 6.0 * (second[-2] + 2.0 * second[-1])


class CyclicSpline(Basis):
    """
    A cubic spline whose ends meet (mgcv's ``"cc"``).

    Parameters
    ----------
    x : ndarray, shape (n, 1)
    k : int
        Number of knots; the first and the last are the same place.
    """

    def __init__(self, x: FloatArray, k: int) -> None:
        self.knots = np.quantile(np.unique(x), np.linspace(0.0, 1.0, k))
        h, m = np.diff(self.knots), k - 1
        bends, band = np.zeros((m, m)), np.zeros((m, m))
        for i in range(m):
            before, after = (i - 1) % m, (i + 1) % m
            band[i, i] += (h[before] + h[i]) / 3.0
            band[i, before] += h[before] / 6.0
            band[i, after] += h[i] / 6.0
            bends[i, i] -= 1.0 / h[before] + 1.0 / h[i]
            bends[i, before] += 1.0 / h[before]
            bends[i, after] += 1.0 / h[i]
        second = np.linalg.solve(band, bends)
        self._second = np.vstack([second, second[:1]])
        self.penalty = bends.T @ second

    def columns(self, x: FloatArray) -> FloatArray:
        """See :class:`Basis`; periodic."""
        low, period = self.knots[0], self.knots[-1] - self.knots[0]
        inside = low + np.mod(x[:, 0] - low, period)
        inside = np.where(x[:, 0] == self.knots[-1], self.knots[-1], inside)
        m = len(self.knots) - 1
        wide = np.hstack([self._second, np.zeros((m + 1, 1))])
        out = _piecewise(inside, self.knots, wide)
        out[:, 0] += out[:, m]
        return out[:, :m]


class PenalisedSpline(Basis):
    """
    Cubic B-splines with a penalty on second differences (mgcv's ``"ps"``).

    Parameters
    ----------
    x : ndarray, shape (n, 1)
    k : int
        Number of B-splines, on evenly spaced knots.

    References
    ----------
    Eilers, P. H. C. and Marx, B. D. (1996), Flexible smoothing with B-splines and
    penalties, Statistical Science 11, 89-121.
    """

    def __init__(self, x: FloatArray, k: int) -> None:
        low, high = float(x.min()), float(x.max())
        spread = high - low
        self._low, self._high = low, high
        low, high = low - spread * _SPAN, high + spread * _SPAN
        step = (high - low) / (k - 3)
        knots = low + step * np.arange(-3, k + 1)
        self._splines = BSpline(knots, np.eye(k), 3)
        difference = np.diff(np.eye(k), 2, axis=0)
        self.penalty = difference.T @ difference

    def columns(self, x: FloatArray) -> FloatArray:
        """See :class:`Basis`; linear beyond the data."""
        inside = np.clip(x[:, 0], self._low, self._high)
        slopes = self._splines.derivative()(inside)
        out = self._splines(inside) + (x[:, 0] - inside)[:, None] * slopes
        return np.asarray(out, dtype=np.float64)


class ThinPlate(Basis):
    """
    A thin plate regression spline (mgcv's ``"tp"``).

    The `k` largest eigenvectors of the full spline's kernel over the distinct places.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        One covariate or two.
    k : int
        Number of functions, polynomials included.

    References
    ----------
    Wood, S. N. (2003), Thin plate regression splines, Journal of the Royal Statistical
    Society B 65, 95-114.
    """

    def __init__(self, x: FloatArray, k: int) -> None:
        self._centre = x.mean(axis=0)
        places = _distinct(x - self._centre)
        if len(places) > _MOST_PLACES:
            some = np.random.default_rng(1).choice(
                len(places), _MOST_PLACES, replace=False
            )
            places = places[np.sort(some)]
        self._places = places
        line = x.shape[1] == 1
        many = line and len(places) > _MANY_PLACES * k
        if many:
            values, vectors = _largest_of_cubes(places[:, 0], k)
        else:
            values, vectors = np.linalg.eigh(self._kernel(places))
            kept = np.argsort(-np.abs(values))[:k]
            kept = np.sort(kept)[::-1]  # in descending order
            values, vectors = values[kept], vectors[:, kept]
        plain = self._polynomials(places)
        count = plain.shape[1]
        side, turn = plain.T @ vectors, np.eye(k)
        for i in range(count):  # reflections clear the side conditions row by row
            v = side[i, : k - i].copy()
            v[-1] += np.copysign(np.linalg.norm(v), v[-1])
            for matrix in (side, turn):
                there = matrix[:, : k - i]
                there -= np.outer(there @ v, 2.0 * v / (v @ v))
        turn = turn[:, : k - count]
        self._weights = vectors @ turn
        self._at_places = None
        if many:  # a natural cubic spline with all places as knots
            self._at_places = tuple(
                _odd_powers(places[:, 0], self._weights, power) / divisor
                for power, divisor in ((3, 12.0), (1, 2.0))
            )
        self._scale = np.ones(k)
        found = self.columns(x)
        self._scale = np.sqrt(np.einsum("nk,nk->k", found, found) / len(x))
        self._own: FloatArray | None = found
        penalty = np.zeros((k, k))
        penalty[: k - count, : k - count] = turn.T @ (values[:, None] * turn)
        self.penalty = penalty / np.outer(self._scale, self._scale)

    def _kernel(self, x: FloatArray) -> FloatArray:
        """Of the full spline, between places and those of the data."""
        distance = cdist(x, self._places)
        if x.shape[1] == 1:
            return np.asarray(distance**3 / 12.0)
        logs = np.log(np.where(distance > 0.0, distance, 1.0))
        return np.asarray(distance**2 * logs / (8.0 * np.pi))

    def _polynomials(self, x: FloatArray) -> FloatArray:
        return np.column_stack([np.ones(len(x)), x])

    def own_columns(self, x: FloatArray) -> FloatArray:
        """See :class:`Basis`."""
        found, self._own = self._own, None
        return self.columns(x) if found is None else found / self._scale

    def columns(self, x: FloatArray) -> FloatArray:
        """See :class:`Basis`."""
        out = np.empty((len(x), len(self._scale)))
        for start in range(0, len(x), _ROWS):  # what is made of them stays in cache
            here = slice(start, start + _ROWS)
            some = x[here] - self._centre
            if self._at_places is None:
                wiggly = self._kernel(some) @ self._weights
            else:
                knots = self._places[:, 0]
                wiggly = _natural_spline(some[:, 0], knots, *self._at_places)
            out[here] = np.column_stack([wiggly, self._polynomials(some)])
            out[here] /= self._scale
        return out


def _distinct(x: FloatArray) -> FloatArray:
    """Distinct places in increasing order."""
    if x.shape[1] == 1:
        return np.unique(x[:, 0])[:, None]
    return np.unique(x, axis=0)


def _odd_powers(places: FloatArray, weights: FloatArray, power: int) -> FloatArray:
    """``sum_j |x_i - x_j|^power w_j`` at increasing places, for columns of weights."""
    unit = np.abs(places).max()
    x = (places / unit).reshape(-1, *[1] * (weights.ndim - 1))
    out = np.zeros_like(weights)
    for k in range(power + 1):  # of (x_i - x_j)^power, from the left and the right
        terms = (-x) ** k * weights
        sums = np.cumsum(terms, axis=0)
        out += comb(power, k) * x ** (power - k) * (2.0 * sums - sums[-1])
    return np.asarray(out * unit**power)


def _largest_of_cubes(places: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    """The k largest eigenvalues of a spline's kernel, descending, and their vectors."""
    n = len(places)

    def times(vector: FloatArray) -> FloatArray:
        return _odd_powers(places, vector.ravel(), 3) / 12.0

    kernel = LinearOperator((n, n), matvec=times, dtype=np.float64)
    start = np.random.default_rng(1).normal(size=n)
    values, vectors = eigsh(kernel, k, which="LM", v0=start)
    order = np.argsort(-values)
    return values[order], vectors[:, order]


def _natural_spline(
    x: FloatArray, knots: FloatArray, values: FloatArray, bends: FloatArray
) -> FloatArray:
    """
    Cubic splines that are linear beyond their knots.

    By their values and second derivatives at the knots, shape (knots, k).
    """
    h, last = np.diff(knots), len(knots) - 2
    j = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, last)
    inside = np.clip(x, knots[0], knots[-1])
    width = h[j]
    a, b = (knots[j + 1] - inside) / width, (inside - knots[j]) / width
    square = width**2 / 6.0
    out = np.zeros((len(x), values.shape[1]))
    for share, table, where in (
        (a, values, j),
        (b, values, j + 1),
        ((a * a - 1.0) * a * square, bends, j),
        ((b * b - 1.0) * b * square, bends, j + 1),
    ):
        part = np.take(table, where, axis=0)
        part *= share[:, None]
        out += part
    for knot, piece, beyond in (
        (0, 0, np.minimum(x - knots[0], 0.0)),
        (1, last, np.maximum(x - knots[-1], 0.0)),
    ):
        rise = (values[piece + 1] - values[piece]) / h[piece]
        tilt = bends[piece + knot] * 2.0 + bends[piece + 1 - knot]
        slope = rise + (h[piece] / 6.0 * tilt if knot else -h[piece] / 6.0 * tilt)
        there = np.flatnonzero(beyond)
        out[there] += beyond[there][:, None] * slope
    return out


#: bases by the names of mgcv
BASES: dict[str, Callable[[FloatArray, int], Basis]] = {
    "cr": CubicSpline,
    "cc": CyclicSpline,
    "ps": PenalisedSpline,
    "tp": ThinPlate,
}
#: smallest numbers of functions
FEWEST = {"cr": 3, "cc": 4, "ps": 5, "tp": 3}


@dataclass(frozen=True, eq=False)
class Split:
    """
    A basis as fixed and random effects.

    Attributes
    ----------
    basis : Basis
    to_fixed : ndarray, shape (k, f)
        Functions that the penalty does not see.
    to_random : ndarray, shape (k, r)
        The others, with independent coefficients of one variance.
    """

    basis: Basis
    to_fixed: FloatArray
    to_random: FloatArray

    def fixed(self, x: FloatArray) -> FloatArray:
        """Columns with fixed coefficients, shape (n, f)."""
        return np.asarray(self.basis.columns(x) @ self.to_fixed)

    def random(self, x: FloatArray) -> FloatArray:
        """Columns with random coefficients, shape (n, r)."""
        return np.asarray(self.basis.columns(x) @ self.to_random)


def split(basis: Basis, columns: FloatArray, *, centred: bool = True) -> Split:
    """
    Fixed and random parts of a basis.

    Parameters
    ----------
    basis : Basis
    columns : ndarray, shape (n, k)
        Its columns for the data.
    centred : bool
        Whether the function sums to zero over the rows, as it has to beside a constant.

    Returns
    -------
    Split
    """
    largest = np.abs(columns).sum(axis=1).max() ** 2
    penalty = basis.penalty / (np.abs(basis.penalty).sum(axis=0).max() / largest)
    seen, values, free = penalised(penalty, sums_to_zero(columns, centred))
    return Split(basis, free, seen / np.sqrt(values))


def sums_to_zero(columns: FloatArray, centred: bool) -> FloatArray:
    """Coefficients of functions that sum to zero over the rows, or of all."""
    if not centred:
        return np.eye(columns.shape[1])
    total = columns.sum(axis=0)[:, None]
    return np.asarray(np.linalg.qr(total, mode="complete")[0][:, 1:])


def penalised(
    penalty: FloatArray, within: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Directions that a penalty sees, and does not see.

    Parameters
    ----------
    penalty : ndarray, shape (k, k)
    within : ndarray, shape (k, l)
        Of the coefficients in the span of these.

    Returns
    -------
    seen : ndarray, shape (k, r)
    values : ndarray, shape (r,)
        Their penalties, the largest first.
    free : ndarray, shape (k, l - r)
    """
    own = within.T @ penalty @ within
    values, vectors = np.linalg.eigh((own + own.T) / 2.0)
    order = np.argsort(-values)
    values, vectors = values[order], within @ vectors[:, order]
    rank = int((values > values[0] * _NULL).sum())
    return vectors[:, :rank], values[:rank], vectors[:, rank:]


def learn(x: FloatArray, bs: str, k: int, label: str) -> Basis:
    """
    A basis for data.

    Raises
    ------
    UnsupportedError
        If there are too few distinct values, or `k` is too small.
    """
    if k < FEWEST[bs]:
        raise UnsupportedError(
            f"{label}: k={k} is too small for bs={bs!r}; it takes {FEWEST[bs]} or more"
        )
    distinct = len(_distinct(x))
    if distinct < k:
        raise UnsupportedError(
            f"{label}: {distinct} distinct values are fewer than k={k}"
            + (
                f"; write k={distinct} or less"
                if distinct >= FEWEST[bs]
                else "; use a line, or C(...)"
            )
        )
    return BASES[bs](x, k)
