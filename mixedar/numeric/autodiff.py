"""
Numbers that carry their first and second derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mixedar._types import FloatArray, IntArray


class Jet:
    """
    Values with their derivatives by ``k`` parameters.

    Parameters
    ----------
    value : ndarray, shape s
    first : ndarray, shape (k, *s)
    second : ndarray, shape (k, k, *s)
    """

    __slots__ = ("first", "second", "value")

    def __init__(self, value: Any, first: Any, second: Any) -> None:
        # by position: keywords would take half of the time
        self.value = np.asarray(value, float)
        self.first = np.asarray(first, float)
        self.second = np.asarray(second, float)

    @classmethod
    def constant(cls, value: Any, k: int) -> Jet:
        """Values that do not depend on the `k` parameters."""
        value = np.asarray(value, dtype=np.float64)
        return cls(value, np.zeros((k, *value.shape)), np.zeros((k, k, *value.shape)))

    @property
    def k(self) -> int:
        """Number of parameters."""
        return len(self.first)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        return self.value.shape

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: Any) -> Jet:
        inner = index if isinstance(index, tuple) else (index,)
        every = slice(None)
        return Jet(
            self.value[inner],
            self.first[(every, *inner)],
            self.second[(every, every, *inner)],
        )

    def take(self, places: IntArray) -> Jet:
        """Some of the values along the last axis, as indexing but faster."""
        parts = self.value, self.first, self.second
        return Jet(*(x.take(places, axis=-1) for x in parts))

    def sum(self, axis: int = 0) -> Jet:
        """Sum over an axis of the values."""
        axis = axis % self.value.ndim
        return Jet(
            self.value.sum(axis), self.first.sum(axis + 1), self.second.sum(axis + 2)
        )

    def along(self, weights: FloatArray) -> FloatArray:
        """Second derivatives summed with weights, of the values' shape; (k, k)."""
        k = self.k
        flat = self.second.reshape(k * k, weights.size)
        return (flat @ weights.ravel()).reshape(k, k)

    def weighted(self, weights: FloatArray) -> Jet:
        """The sum of values of shape (n,), with weights."""
        return Jet(self.value @ weights, self.first @ weights, self.along(weights))

    def map(self, value: Any, d1: Any, d2: Any) -> Jet:
        """A function of the values, given it and its first two derivatives."""
        return Jet(
            value,
            d1 * self.first,
            d1 * self.second + d2 * _outer(self.first, self.first),
        )

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any
    ) -> Any:
        rule = _RULES.get(ufunc)
        if rule is None or method != "__call__" or kwargs:
            return NotImplemented
        return rule(*inputs)

    def __add__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            return self._shifted(np.asarray(other, float))
        a, b = _pair(self, other)
        return Jet(a.value + b.value, a.first + b.first, a.second + b.second)

    def __sub__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            return self._shifted(-np.asarray(other, float))
        a, b = _pair(self, other)
        return Jet(a.value - b.value, a.first - b.first, a.second - b.second)

    def _shifted(self, constant: FloatArray) -> Jet:
        """The values and a constant, which may repeat them."""
        here = _with_axes(self, max(self.value.ndim, constant.ndim))
        value = here.value + constant
        if value.shape == here.shape:
            return Jet(value, here.first, here.second)
        k = here.k
        first = np.broadcast_to(here.first, (k, *value.shape))
        return Jet(value, first, np.broadcast_to(here.second, (k, *first.shape)))

    def __rsub__(self, other: Any) -> Jet:
        return -self + other

    def __neg__(self) -> Jet:
        return Jet(-self.value, -self.first, -self.second)

    def __mul__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            other = np.asarray(other, float)
            a = _with_axes(self, max(self.value.ndim, other.ndim))
            return Jet(a.value * other, a.first * other, a.second * other)
        a, b = _pair(self, other)
        cross = _outer(a.first, b.first)
        return Jet(
            a.value * b.value,
            a.first * b.value + a.value * b.first,
            a.second * b.value + a.value * b.second + cross + cross.swapaxes(0, 1),
        )

    def __truediv__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            return self * (1.0 / np.asarray(other, dtype=np.float64))
        return self * _reciprocal(other)

    def __rtruediv__(self, other: Any) -> Jet:
        return _reciprocal(self) * other

    def __pow__(self, exponent: Any) -> Jet:
        return _power(self, exponent)

    def __rpow__(self, base: Any) -> Jet:
        return _power(base, self)

    __radd__ = __add__
    __rmul__ = __mul__


class Deferred(Jet):
    """
    Values whose second derivatives are not written out until they are asked for.

    Of many parameters these are the most numbers by far, and mostly zeros.

    Parameters
    ----------
    value : ndarray, shape s
    first : ndarray, shape (k, *s)
    along : callable
        Second derivatives summed with weights of shape s, shape (k, k).
    second : callable, optional
        Second derivatives themselves, if there is a shorter way than one by one.
    """

    __slots__ = ("_along", "_second", "_written")

    def __init__(
        self,
        value: Any,
        first: Any,
        along: Callable[[FloatArray], FloatArray],
        second: Callable[[], FloatArray] | None = None,
    ) -> None:
        self.value = np.asarray(value, dtype=np.float64)
        self.first = np.asarray(first, dtype=np.float64)
        self._along, self._second = along, second
        self._written: FloatArray | None = None

    @property
    def second(self) -> FloatArray:  # type: ignore[override]
        """Second derivatives, shape (k, k, *s)."""
        if self._written is None:
            self._written = (
                self._one_by_one() if self._second is None else self._second()
            )
        return self._written

    def _one_by_one(self) -> FloatArray:
        size = self.value.size
        out = np.empty((self.k, self.k, size))
        for place in range(size):
            unit = np.zeros(size)
            unit[place] = 1.0
            out[:, :, place] = self._along(unit.reshape(self.shape))
        return out.reshape(self.k, self.k, *self.shape)

    def along(self, weights: FloatArray) -> FloatArray:
        """Second derivatives summed with weights, (k, k)."""
        return self._along(weights)

    def __getitem__(self, index: Any) -> Jet:
        inner = index if isinstance(index, tuple) else (index,)
        every, size = slice(None), self.value.size
        place = np.arange(size).reshape(self.shape)[inner].ravel()

        def along(weights: FloatArray) -> FloatArray:
            sums = np.zeros(size)
            np.add.at(sums, place, weights.ravel())
            return self._along(sums.reshape(self.shape))

        def second() -> FloatArray:
            return np.asarray(self.second[(every, every, *inner)])

        return Deferred(self.value[inner], self.first[(every, *inner)], along, second)

    def __add__(self, other: Any) -> Jet:
        if isinstance(other, Jet) or np.shape(other) not in ((), self.shape):
            return super().__add__(other)
        return Deferred(self.value + other, self.first, self._along, self._second)

    def __mul__(self, other: Any) -> Jet:
        if isinstance(other, Jet) or np.shape(other) not in ((), self.shape):
            return super().__mul__(other)
        factor = np.asarray(other, dtype=np.float64)
        return Deferred(
            self.value * factor,
            self.first * factor,
            lambda weights: self._along(weights * factor),
            lambda: self.second * factor,
        )

    __radd__ = __add__
    __rmul__ = __mul__


def _pair(a: Jet, b: Jet) -> tuple[Jet, Jet]:
    """Both with one number of axes."""
    axes = max(a.value.ndim, b.value.ndim)
    return _with_axes(a, axes), _with_axes(b, axes)


def _with_axes(jet: Jet, axes: int) -> Jet:
    """New axes go before those of the values, behind those of the parameters."""
    missing = axes - jet.value.ndim
    if missing == 0:
        return jet
    shape, k = (1,) * missing + jet.value.shape, jet.k
    return Jet(
        jet.value.reshape(shape),
        jet.first.reshape(k, *shape),
        jet.second.reshape(k, k, *shape),
    )


def _outer(a: FloatArray, b: FloatArray) -> FloatArray:
    return a[:, None] * b[None, :]


def _reciprocal(x: Jet) -> Jet:
    inverse = 1.0 / x.value
    return x.map(inverse, -(inverse**2), 2.0 * inverse**3)


def _power(base: Any, exponent: Any) -> Jet:
    if isinstance(exponent, Jet):
        return _exp(exponent * np.log(base))
    value = np.asarray(base.value)
    e = np.asarray(exponent, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        d1 = np.where(e == 0.0, 0.0, e * value ** (e - 1.0))
        d2 = np.where((e == 0.0) | (e == 1.0), 0.0, e * (e - 1.0) * value ** (e - 2.0))
    axes = max(value.ndim, e.ndim)
    return _with_axes(base, axes).map(value**e, d1, d2)


def _exp(x: Jet) -> Jet:
    value = np.exp(x.value)
    return x.map(value, value, value)


def _expm1(x: Jet) -> Jet:
    value = np.exp(x.value)
    return x.map(np.expm1(x.value), value, value)


def _log(x: Jet) -> Jet:
    inverse = 1.0 / x.value
    return x.map(np.log(x.value), inverse, -(inverse**2))


def _log1p(x: Jet) -> Jet:
    inverse = 1.0 / (1.0 + x.value)
    return x.map(np.log1p(x.value), inverse, -(inverse**2))


def _sqrt(x: Jet) -> Jet:
    root = np.sqrt(x.value)
    return x.map(root, 0.5 / root, -0.25 / root**3)


def _square(x: Jet) -> Jet:
    return x * x


def _tanh(x: Jet) -> Jet:
    value = np.tanh(x.value)
    slope = 1.0 / np.cosh(np.clip(x.value, -350.0, 350.0)) ** 2
    return x.map(value, slope, -2.0 * value * slope)


def _sin(x: Jet) -> Jet:
    sine, cosine = np.sin(x.value), np.cos(x.value)
    return x.map(sine, cosine, -sine)


def _cos(x: Jet) -> Jet:
    sine, cosine = np.sin(x.value), np.cos(x.value)
    return x.map(cosine, -sine, -cosine)


def _either(
    op: Callable[..., Jet], reflected: Callable[..., Jet]
) -> Callable[..., Jet]:
    """The operation of whichever argument is a jet."""
    return lambda a, b: op(a, b) if isinstance(a, Jet) else reflected(b, a)


_RULES: dict[Any, Callable[..., Jet]] = {
    np.add: _either(Jet.__add__, Jet.__radd__),
    np.subtract: _either(Jet.__sub__, Jet.__rsub__),
    np.multiply: _either(Jet.__mul__, Jet.__rmul__),
    np.true_divide: _either(Jet.__truediv__, Jet.__rtruediv__),
    np.negative: Jet.__neg__,
    np.power: _power,
    np.float_power: _power,
    np.square: _square,
    np.sqrt: _sqrt,
    np.exp: _exp,
    np.expm1: _expm1,
    np.log: _log,
    np.log1p: _log1p,
    np.tanh: _tanh,
    np.sin: _sin,
    np.cos: _cos,
}


def variables(u: FloatArray) -> Jet:
    """
    The parameters themselves, to begin with.

    Parameters
    ----------
    u : ndarray, shape (k,) or, of several points, (k, ...)
    """
    k = len(u)
    first = np.zeros((k, *np.shape(u)))
    first[range(k), range(k)] = 1.0
    return Jet(u, first, np.zeros((k, *first.shape)))


def clip(x: Jet, low: float, high: float) -> Jet:
    """Values kept inside an interval, with the derivatives they had."""
    return Jet(np.clip(x.value, low, high), x.first, x.second)


def chain(outer: Jet, inner: Jet) -> Jet:
    """
    A function of functions.

    Parameters
    ----------
    outer : Jet
        By `n` arguments.
    inner : Jet of shape (n,)
        These arguments by `k` parameters.

    Returns
    -------
    Jet
        By the `k` parameters.
    """
    slopes, k = inner.first, inner.k
    if len(inner) == k and not inner.second.any() and (slopes == np.eye(k)).all():
        return outer
    n, m, shape = len(inner), outer.value.size, outer.shape
    slope = outer.first.reshape(n, m)
    bend = (slopes @ outer.second.reshape(n, n * m)).reshape(k, n, m)
    second = inner.second @ slope + slopes @ bend
    first = (slopes @ slope).reshape(k, *shape)
    return Jet(outer.value, first, second.reshape(k, k, *shape))


def linear(matrix: FloatArray, x: Jet) -> Jet:
    """The product of a matrix with a jet of shape (n,) or, of points, (n, ...)."""
    if x.value.ndim == 1:
        return Jet(matrix @ x.value, x.first @ matrix.T, x.second @ matrix.T)
    parts = enumerate((x.value, x.first, x.second))
    return Jet(
        *(np.moveaxis(np.tensordot(matrix, part, (1, k)), 0, k) for k, part in parts)
    )


def substitute(outer: Jet, inner: Jet) -> Jet:
    """
    A function of values and of some of the parameters that these depend on.

    Parameters
    ----------
    outer : Jet
        By `n` values, then by the last parameters themselves.
    inner : Jet of shape (n,)
        The values by all `k` parameters.

    Returns
    -------
    Jet
        By the `k` parameters.
    """
    n, k = len(inner), inner.k
    slopes = np.zeros((k, outer.k))
    slopes[:, :n] = inner.first
    rest = outer.k - n
    slopes.ravel()[(k - rest) * outer.k + n :: outer.k + 1] = 1.0
    second = slopes @ outer.second @ slopes.T + inner.along(outer.first[:n])
    return Jet(outer.value, slopes @ outer.first, second)


def stack(parts: Sequence[Any], k: int) -> Jet:
    """
    Jets (or numbers) side by side along a new first axis.

    Parameters
    ----------
    parts : sequence of Jet or float, of one shape or numbers
    k : int
        Number of parameters.
    """
    jets = [p if isinstance(p, Jet) else Jet.constant(p, k) for p in parts]
    shapes = {jet.shape for jet in jets}
    if len(shapes) > 1:
        zero = np.zeros(np.broadcast_shapes(*shapes))
        jets = [jet + zero for jet in jets]
    return Jet(
        np.stack([j.value for j in jets]),
        np.stack([j.first for j in jets], axis=1),
        np.stack([j.second for j in jets], axis=2),
    )


def concatenate(parts: Sequence[Jet]) -> Jet:
    """Jets of one number of parameters, one after the other (first axis)."""
    value = np.concatenate([j.value for j in parts])
    first = np.concatenate([j.first for j in parts], axis=1)

    def second() -> FloatArray:
        return np.concatenate([j.second for j in parts], axis=2)

    if not any(isinstance(j, Deferred) for j in parts):
        return Jet(value, first, second())
    ends = np.cumsum([len(j) for j in parts])[:-1]

    def along(weights: FloatArray) -> FloatArray:
        pieces = np.split(weights, ends)
        found = [j.along(own) for j, own in zip(parts, pieces, strict=True)]
        return sum(found[1:], start=found[0])

    return Deferred(value, first, along, second)


def embed(jet: Jet, start: int, k: int) -> Jet:
    """
    The same values as functions of more parameters.

    Parameters
    ----------
    jet : Jet
    start : int
        Number of its first parameter among all.
    k : int
        Number of all parameters.
    """
    if jet.k == k:
        return jet
    here = slice(start, start + jet.k)
    first = np.zeros((k, *jet.shape))
    first[here] = jet.first

    def among_all(second: FloatArray) -> FloatArray:
        out = np.zeros((k, k, *second.shape[2:]))
        out[here, here] = second
        return out

    return Deferred(
        jet.value,
        first,
        lambda weights: among_all(jet.along(weights)),
        lambda: among_all(jet.second),
    )


def inverse_derivatives(jet: Jet) -> tuple[FloatArray, FloatArray]:
    """
    Derivatives of the parameters by the values: of the inverse function.

    Parameters
    ----------
    jet : Jet of shape (n,)
        Values that no parameter moves are constants; the others are as many
        as the parameters.

    Returns
    -------
    first : ndarray, shape (k, n)
    second : ndarray, shape (k, n, n)
        Zero by constants.
    """
    moved = jet.first.any(axis=0)
    k, n = jet.first.shape
    first, second = np.zeros((k, n)), np.zeros((k, n, n))
    if k:
        first[:, moved] = np.linalg.inv(jet.first[:, moved].T)
        second = -np.einsum("ac,klc,ki,lj->aij", first, jet.second, first, first)
    return first, second
