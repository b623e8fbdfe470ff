"""
Jets put together, composed, inverted and solved for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.jets.jet import Jet

__all__ = [
    "chain",
    "clip",
    "concatenate",
    "embed",
    "inverse_derivatives",
    "solve",
    "stack",
    "variables",
]

FloatArray = NDArray[np.float64]


def variables(u: FloatArray) -> Jet:
    """
    The parameters themselves, to begin with.

    Parameters
    ----------
    u : ndarray, shape (k,)
    """
    k = len(u)
    return Jet(u, np.eye(k), np.zeros((k, k, k)))


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
    first = np.tensordot(slopes, outer.first, 1)
    second = np.tensordot(inner.second, outer.first, 1)
    bend = np.tensordot(slopes, outer.second, 1)  # (k, n, ...)
    second = second + np.einsum("ln,kn...->kl...", slopes, bend)
    return Jet(outer.value, first, second)


def stack(parts: Sequence[Any], k: int) -> Jet:
    """
    Jets (or numbers) side by side along a new first axis.

    Parameters
    ----------
    parts : sequence of Jet or float, of one shape
    k : int
        Number of parameters.
    """
    jets = [p if isinstance(p, Jet) else Jet.constant(p, k) for p in parts]
    return Jet(
        np.stack([j.value for j in jets]),
        np.stack([j.first for j in jets], axis=1),
        np.stack([j.second for j in jets], axis=2),
    )


def concatenate(parts: Sequence[Jet]) -> Jet:
    """Jets of one number of parameters, one after the other (first axis)."""
    return Jet(
        np.concatenate([j.value for j in parts]),
        np.concatenate([j.first for j in parts], axis=1),
        np.concatenate([j.second for j in parts], axis=2),
    )


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
    out = Jet.constant(jet.value, k)
    here = slice(start, start + jet.k)
    out.first[here] = jet.first
    out.second[here, here] = jet.second
    return out


def solve(matrix: Jet, right: Jet) -> Jet:
    """
    Solution of a linear system.

    Parameters
    ----------
    matrix : Jet of shape (n, n)
    right : Jet of shape (n,)

    Returns
    -------
    Jet of shape (n,)

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is singular.
    """
    inverse = np.linalg.inv(matrix.value)
    x = inverse @ right.value
    first = (right.first - matrix.first @ x) @ inverse.T
    cross = np.einsum("aij,bj->abi", matrix.first, first)
    second = right.second - matrix.second @ x - cross - cross.swapaxes(0, 1)
    return Jet(x, first, second @ inverse.T)


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
