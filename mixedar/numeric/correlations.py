"""
Correlations by rows of unit length, or by partial correlations, with derivatives.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.numeric.autodiff import Deferred, Jet


@cache
def _entries_of_rows(n: int) -> tuple[tuple[IntArray, ...], tuple[IntArray, ...]]:
    """
    Which parameters the entries of both rows of each pair of n rows are.

    Parameter, pair and entry among the 2n of both rows; and the same for two entries.
    """
    ends, every = np.stack(np.tril_indices(n, -1), axis=1), np.arange(n)
    free = (every < ends[:, :, None]).reshape(-1, 2 * n)
    numbers = (ends * (ends - 1) // 2)[:, :, None] + every
    numbers = numbers.reshape(-1, 2 * n)
    pair, i = np.nonzero(free)
    both, j, k = np.nonzero(free[:, :, None] & free[:, None, :])
    return (numbers[pair, i], pair, i), (numbers[both, j], numbers[both, k], both, j, k)


def products_of_rows(
    a: FloatArray, b: FloatArray, size_a: FloatArray, size_b: FloatArray
) -> Jet:
    """
    ``rho = a'b`` of rows ``a = x / |x|``, ``b = y / |y|``, by the entries of x and y.

    The last entry of a row, after which there are zeros, is held.  With
    ``da / dx_p = (e_p - a a_p) / |x|`` the derivatives of ``rho``, times the lengths
    of the rows, are ``b - rho a`` and ``3 rho a a' - a b' - b a' - rho I`` by x, and
    ``I - a a' - b b' + rho a b'`` by x and y.

    Parameters
    ----------
    a, b : ndarray, shape (k, n, ...)
        The later and the earlier row of each pair; pairs are those of a lower
        triangle, row by row.
    size_a, size_b : ndarray, shape (k, 1, ...)
        What they were divided by.

    Returns
    -------
    Jet of shape (k, ...)
    """
    n, points = a.shape[1], a.shape[2:]
    rho = (a * b).sum(axis=1)
    r, one = rho[:, None, None], np.eye(n).reshape(n, n, *(1,) * len(points))
    aa, ab, bb = (x[:, :, None] * y[:, None] for x, y in ((a, a), (a, b), (b, b)))
    beside = ab + ab.swapaxes(1, 2) + r * one
    bend = np.empty((len(a), 2 * n, 2 * n, *points))
    bend[:, :n, :n], bend[:, n:, n:] = 3.0 * r * aa - beside, 3.0 * r * bb - beside
    bend[:, :n, n:] = one - aa - bb + r * ab
    bend[:, n:, :n] = bend[:, :n, n:].swapaxes(1, 2)
    sizes = np.repeat(np.concatenate([size_a, size_b], axis=1), n, axis=1)
    bend /= sizes[:, :, None] * sizes[:, None]
    slope = np.concatenate([b, a], axis=1) - rho[:, None] * np.concatenate([a, b], 1)
    slope /= sizes
    (by, pair, i), (by_one, by_other, both, j, k) = _entries_of_rows(n)
    count, bent = len(rho), bend[both, j, k]
    first = np.zeros((count, *rho.shape))
    first[by, pair] = slope[pair, i]

    def second() -> FloatArray:
        out = np.zeros((count, *first.shape))
        out[by_one, by_other, both] = bent
        return out

    if points:
        return Jet(rho, first, second())

    def along(weights: FloatArray) -> FloatArray:
        place = by_one * count + by_other
        sums = np.bincount(place, bent * weights[both], minlength=count**2)
        return np.asarray(sums, dtype=np.float64).reshape(count, count)

    return Deferred(rho, first, along, second)


def by_partial(partial: FloatArray) -> Jet:
    """
    Autocorrelations of a series by its partial ones (Durbin-Levinson).

    Second derivatives of a weighted sum are first ones of its gradient, which the
    recursion gives when it is followed backwards: n lags cost n cubed.

    Parameters
    ----------
    partial : ndarray, shape (n,)

    Returns
    -------
    Jet of shape (n,)
    """
    n = len(partial)
    # values, and behind them their derivatives by each of the partial correlations
    p, one = np.concatenate([partial[None], np.eye(n)]), np.zeros((n + 1, 1))
    one[0] = 1.0
    rho, phi, error = p[:, :1], [p[:, :1]], [one - _times(p[:, :1], p[:, :1])]
    for k in range(1, n):
        last, before, rest = p[:, k : k + 1], phi[-1], error[-1]
        value = _times(last, rest) + _sum(_times(before, rho[:, ::-1]))
        rho = np.concatenate([rho, value], axis=1)
        left = before - _times(last, before[:, ::-1])
        phi.append(np.concatenate([left, last], axis=1))
        error.append(_times(rest, one - _times(last, last)))

    def along(weights: FloatArray) -> FloatArray:
        by_p, by_rho, by_phi = (np.zeros_like(p) for _ in range(3))
        by_rho[0], by_error = weights, np.zeros_like(one)
        for k in range(n - 1, 0, -1):
            last, before, rest = p[:, k : k + 1], phi[k - 1], error[k - 1]
            value, own, others = by_rho[:, k : k + 1], by_phi[:, k:], by_phi[:, :k]
            turned = _sum(_times(others, before[:, ::-1]))
            shrunk = 2.0 * _times(_times(last, rest), by_error)
            by_p[:, k : k + 1] = own + _times(value, rest) - turned - shrunk
            by_rho[:, :k] += _times(value, before[:, ::-1])
            by_phi = others - _times(last, others[:, ::-1])
            by_phi += _times(value, rho[:, k - 1 :: -1])
            by_error = _times(value, last) + _times(by_error, one - _times(last, last))
        by_p[:, :1] = by_rho[:, :1] + by_phi - 2.0 * _times(p[:, :1], by_error)
        return np.asarray((by_p[1:] + by_p[1:].T) / 2.0)

    return Deferred(rho[0], rho[1:], along)


def _times(a: FloatArray, b: FloatArray) -> FloatArray:
    """Products of values that have their derivatives behind them (first axis)."""
    out = a * b[:1] + a[:1] * b
    out[0] *= 0.5
    return np.asarray(out)


def _sum(a: FloatArray) -> FloatArray:
    """Their sums, shape (., 1)."""
    return np.asarray(a.sum(axis=1, keepdims=True))
