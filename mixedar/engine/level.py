"""
Eliminating a level of random effects from the sums of its groups.

With ``H = R + Z Psi Z'``, ``Psi = Lambda Lambda'``, the sums ``M = Z'R^-1 Z``,
``N = Z'R^-1 W`` and ``G = W'R^-1 W`` of a group, and ``A = I + Lambda' M Lambda``,

    log|H| = log|R| + log|A|,    W'H^-1 W = G - N'K N,    K = Lambda A^-1 Lambda',

by Woodbury's identity.  Sums and a factor go in, and sums of the other columns come
out: with the columns of an outer level among ``W`` the step can be repeated.  ``A`` is
well conditioned for singular ``Lambda``, and no inverse of ``Psi`` is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mixedar._types import FloatArray
from mixedar.numeric.linalg import (
    apply,
    bmm,
    identity_plus,
    inverse_cholesky,
    multiply_right,
    product,
    trace_product,
)

# Up to this order, and up to so many pairs of their entries, products of all pairs of
# entries of the groups' matrices are summed.
_SMALL, _PAIRS = 8, 2**22


def orders_of(k: int) -> int:
    """How many orders there are: values, and derivatives by `k` parameters."""
    return 1 + k + k * (k + 1) // 2


def lower_pairs(k: int) -> list[tuple[int, int]]:
    """Pairs of parameters, row by row of the lower triangle."""
    return [(i, j) for i in range(k) for j in range(i + 1)]


@dataclass(frozen=True)
class CrossProducts:
    """
    Whitened cross-products of a block of m clusters.

    The first axis holds the values and, when asked for, the first derivatives
    by the `k` unconstrained residual parameters and the second derivatives by
    pairs of them, row by row of the lower triangle; see :func:`orders_of`.

    Attributes
    ----------
    zz : ndarray, shape (orders, q, q, m)
    zw : ndarray, shape (orders, p + 1, q, m)
        Transposed: ``W'R^-1 Z``.
    ww : ndarray, shape (orders, p + 1, p + 1), or (orders, p + 1, p + 1, m)
        Summed over the clusters, unless these are kept apart.
    logdet : ndarray, shape (orders,) or (orders, m)
        Log-determinants of the residual covariance matrices.
    """

    zz: FloatArray
    zw: FloatArray
    ww: FloatArray
    logdet: FloatArray

    @classmethod
    def zeros(cls, orders: int, q: int, width: int, m: int) -> CrossProducts:
        """Sums to be added to, over `m` clusters but for their random effects."""
        return cls(
            np.zeros((orders, q, q, m)),
            np.zeros((orders, width, q, m)),
            np.zeros((orders, width, width)),
            np.zeros(orders),
        )

    @property
    def k(self) -> int:
        """Number of residual parameters of the derivatives, 0 without them."""
        return (math.isqrt(8 * len(self.ww) + 1) - 3) // 2

    def second(self, i: int, j: int) -> int:
        """Place of the second derivatives by parameters `i` and `j`."""
        i, j = max(i, j), min(i, j)
        return 1 + self.k + i * (i + 1) // 2 + j


@dataclass(frozen=True)
class Level:
    """
    Random effects of m groups, eliminated.

    Attributes
    ----------
    zz : ndarray, shape (q, q, m)
        ``M``.
    zw : ndarray, shape (width, q, m)
        ``N'``.
    root : ndarray, shape (q, q, m)
        ``C`` with ``C'C = K``, the covariance of the effects given the data, relative
        to the residual variance.
    reduced : ndarray, shape (width, q, m)
        ``C N``: its cross-products are what the effects take off ``G``.
    logdet : ndarray, shape (m,)
        ``log|A|``.
    """

    zz: FloatArray
    zw: FloatArray
    root: FloatArray
    reduced: FloatArray
    logdet: FloatArray

    @cached_property
    def effect(self) -> FloatArray:
        """``K N``: predictors of the effects from each column, (width, q, m)."""
        return apply(self.root.transpose(1, 0, 2), self.reduced)

    @cached_property
    def shrink(self) -> FloatArray:
        """``K``, shape (q, q, m)."""
        return bmm(self.root.transpose(1, 0, 2), self.root)

    @cached_property
    def turn(self) -> FloatArray:
        """``M K``, shape (q, q, m)."""
        return bmm(self.zz, self.shrink)

    @cached_property
    def zz_left(self) -> FloatArray:
        """``Z'H^-1 Z``, shape (q, q, m)."""
        return self.zz - bmm(self.turn, self.zz)

    @cached_property
    def zw_left(self) -> FloatArray:
        """``W'H^-1 Z``, shape (width, q, m)."""
        return self.zw - apply(self.zz, self.effect)

    def taken(self, zz: FloatArray, zw: FloatArray, over: Groups) -> FloatArray:
        """
        What ``W'R^-1 S R^-1 W`` is more than ``W'H^-1 S H^-1 W``.

        `zz` and `zw` are ``Z'R^-1 S R^-1 Z`` and ``W'R^-1 S R^-1 Z``, `S` symmetric.
        """
        half = over.pairs(zw - 0.5 * apply(zz, self.effect), self.effect)
        return half + half.swapaxes(0, 1)


def eliminate(zz: FloatArray, zw: FloatArray, factor: FloatArray) -> Level:
    """
    Eliminate the random effects of one level.

    Parameters
    ----------
    zz : ndarray, shape (q, q, m)
    zw : ndarray, shape (width, q, m)
        Products of all other columns with those of the random effects.
    factor : ndarray, shape (q, q), or (q, q, m)
        ``Lambda``, any root of ``Psi``; of each group, if they differ.

    Returns
    -------
    Level

    Raises
    ------
    numpy.linalg.LinAlgError
        If ``A`` is not positive definite to rounding.
    """
    if factor.ndim == 3:
        a = bmm(factor.transpose(1, 0, 2), bmm(zz, factor))
        a[range(len(a)), range(len(a))] += 1.0
        inverse_factor, logdet = inverse_cholesky(a)
        root = bmm(inverse_factor, factor.transpose(1, 0, 2))
    else:
        inverse_factor, logdet = inverse_cholesky(identity_plus(factor, zz))
        root = multiply_right(inverse_factor, factor.T)
    return Level(zz, zw, root, apply(root, zw), logdet)


def eliminate_at_points(
    cross: CrossProducts, factors: FloatArray, apart: bool
) -> tuple[FloatArray, FloatArray]:
    """
    Eliminate one level at many points: groups of all points are one batch.

    Parameters
    ----------
    cross : CrossProducts
        Of m groups; its first axis counts b points.
    factors : ndarray, shape (b, q, q)
    apart : bool
        Whether `ww` is by group.

    Returns
    -------
    logdet : ndarray, shape (b, m)
        ``log|A|``.
    taken : ndarray, shape (b, width, width), or (b, width, width, m)
        What the effects take off `ww`.
    """
    (b, q, _, m), width = cross.zz.shape, cross.zw.shape[1]
    zz = cross.zz.transpose(1, 2, 0, 3).reshape(q, q, b * m)
    zw = cross.zw.transpose(1, 2, 0, 3).reshape(width, q, b * m)
    level = eliminate(zz, zw, np.repeat(factors.transpose(1, 2, 0), m, axis=2))
    reduced = level.reduced
    if apart:
        taken = bmm(reduced, reduced.transpose(1, 0, 2)).reshape(width, width, b, m)
        return level.logdet.reshape(b, m), taken.transpose(2, 0, 1, 3)
    of_points = reduced.reshape(width, q, b, m).transpose(2, 0, 1, 3)
    rows = of_points.reshape(b, width, q * m)
    return level.logdet.reshape(b, m), rows @ rows.transpose(0, 2, 1)


class Together:
    """
    Sums over the groups.

    Parameters
    ----------
    weights : ndarray, shape (m,)
        How often each group's log-determinant counts.
    """

    tail: tuple[int, ...] = ()

    def __init__(self, weights: FloatArray) -> None:
        self.weights = weights

    def total(self, x: FloatArray) -> FloatArray:
        """Numbers of the groups, shape (..., m), as wanted."""
        return x @ self.weights

    def pairs(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """Products of rows, (i, q, m) and (j, q, m) to (i, j, ...)."""
        size = a.shape[1] * a.shape[2]
        return product(a.reshape(len(a), size), b.reshape(len(b), size).T)

    def traces(self, u: FloatArray, directions: FloatArray) -> FloatArray:
        """``tr(U E_k U E_l)`` of directions written out, shape (k, k, ...)."""
        (k, q, _), m = directions.shape, u.shape[2]
        # products of pairs of entries once, or matrices for each direction
        by_direction = k * q**2 * m * (q + k)
        if q > _SMALL and (q**4 > _PAIRS or q**4 * (m + k) > by_direction):
            return Apart(m).traces(u, directions) @ self.weights
        flat = u.reshape(q * q, m)
        products = product(flat * self.weights, flat.T).reshape(q, q, q, q)
        pairs = products.transpose(1, 2, 3, 0).reshape(q * q, q * q)
        rows = directions.reshape(k, q * q)
        return rows @ pairs @ rows.T


class Apart:
    """
    Each group by itself.

    Parameters
    ----------
    m : int
        Number of groups.
    """

    def __init__(self, m: int) -> None:
        self.tail: tuple[int, ...] = (m,)

    def total(self, x: FloatArray) -> FloatArray:
        """See :class:`Together`."""
        return x

    def pairs(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """See :class:`Together`."""
        return bmm(a, b.transpose(1, 0, 2))

    def traces(self, u: FloatArray, directions: FloatArray) -> FloatArray:
        """See :class:`Together`."""
        ue = [multiply_right(u, direction) for direction in directions]
        out = np.empty((len(ue), len(ue), *self.tail))
        for i, one in enumerate(ue):
            for j in range(i + 1):
                out[i, j] = out[j, i] = trace_product(one, ue[j])
        return out


#: Whether sums over the groups are wanted, or each group by itself.
Groups = Together | Apart


@dataclass(frozen=True)
class Directions:
    """
    ``E_k = dPsi / dv_k``, written out.

    Attributes
    ----------
    matrices : ndarray, shape (k, q, q)
    """

    matrices: FloatArray

    def __len__(self) -> int:
        return len(self.matrices)

    def times(self, x: FloatArray) -> FloatArray:
        """``E_k x`` for vectors of shape (width, q, m), (k, width, q, m)."""
        return np.matmul(self.matrices[:, None], x)

    def contract(self, a: FloatArray, over: Groups) -> FloatArray:
        """``<E_k, A>``, shape (k, ...)."""
        k, q, _ = self.matrices.shape
        total = over.total(a).reshape(q * q, *over.tail)
        return self.matrices.reshape(k, q * q) @ total

    def contract_rest(self, a: FloatArray, b: FloatArray, over: Groups) -> FloatArray:
        """``<E_k, A - A B'>``, shape (k, ...)."""
        return self.contract(a - bmm(a, b.transpose(1, 0, 2)), over)

    def traces(self, u: FloatArray, over: Groups) -> FloatArray:
        """``tr(U E_k U E_l)``, shape (k, k, ...)."""
        return over.traces(u, self.matrices)


@dataclass(frozen=True)
class RepeatedDirections:
    """
    The same where each matrix is repeated along a part of the diagonal.

    Attributes
    ----------
    blocks : tuple of (ndarray, int)
        Matrices of the entries of a block, shape (k_b, q_b, q_b), and how often
        they are repeated.
    """

    blocks: tuple[tuple[FloatArray, int], ...]

    def __len__(self) -> int:
        return sum(len(matrices) for matrices, _ in self.blocks)

    def _parts(self) -> Iterator[tuple[FloatArray, int, slice]]:
        first = 0
        for matrices, repeats in self.blocks:
            last = first + matrices.shape[1] * repeats
            yield matrices, repeats, slice(first, last)
            first = last

    def times(self, x: FloatArray) -> FloatArray:
        """See :class:`Directions`."""
        out, k = np.zeros((len(self), *x.shape)), 0
        for matrices, repeats, here in self._parts():
            own = x[:, here].reshape(len(x), repeats, -1, x.shape[2])
            found = np.einsum("eab,wrbm->ewram", matrices, own)
            out[k : k + len(matrices), :, here] = found.reshape(
                len(matrices), len(x), -1, x.shape[2]
            )
            k += len(matrices)
        return out

    def contract(self, a: FloatArray, over: Groups) -> FloatArray:
        """See :class:`Directions`."""
        out = []
        for matrices, repeats, here in self._parts():
            order = matrices.shape[1]
            if order == 1:  # of a single variance
                trace = over.total(np.einsum("rrm->m", a[here, here]))
                out.append(np.multiply.outer(matrices[:, 0, 0], trace))
                continue
            own = over.total(a[here, here])
            own = own.reshape(repeats, order, repeats, order, *over.tail)
            diagonal = np.einsum("rarb...->ab...", own)
            out.append(np.tensordot(matrices, diagonal, axes=2))
        return np.concatenate(out)

    def contract_rest(self, a: FloatArray, b: FloatArray, over: Groups) -> FloatArray:
        """See :class:`Directions`."""
        out = []
        for matrices, repeats, here in self._parts():
            if matrices.shape[1] == 1:
                trace = over.total(np.einsum("rqm,rqm->m", a[here], b[here]))
                out.append(np.multiply.outer(matrices[:, 0, 0], trace))
                continue
            left, right = (
                x[here].reshape(repeats, matrices.shape[1], *x.shape[1:])
                for x in (a, b)
            )
            own = over.total(np.einsum("raqm,rbqm->abm", left, right))
            out.append(np.tensordot(matrices, own, axes=2))
        return self.contract(a, over) - np.concatenate(out)

    def traces(self, u: FloatArray, over: Groups) -> FloatArray:
        """See :class:`Directions`."""
        rows = []
        for matrices, repeats, here in self._parts():
            row = []
            for others, times, there in self._parts():
                own = u[here, there].reshape(
                    repeats, matrices.shape[1], times, others.shape[1], -1
                )
                if matrices.shape[1] == others.shape[1] == 1:
                    squares = (own**2).sum(axis=(0, 1, 2, 3))
                    sizes = matrices[:, 0] * others[None, :, 0, 0]
                    row.append(over.total(sizes[:, :, None] * squares))
                    continue
                pairs = np.einsum("rasbm,rcsdm->abcdm", own, own, optimize=True)
                # tr(U_rs F U_sr E), U_sr the transpose of U_rs
                found = np.einsum("eca,abcdm,fbd->efm", matrices, pairs, others)
                row.append(over.total(found))
            rows.append(np.concatenate(row, axis=1))
        return np.concatenate(rows)


class Kronecker(NamedTuple):
    """
    A direction of ``Psi``: ``between kron small`` at some of the columns.

    `between` is None for an identity.
    """

    here: slice
    between: FloatArray | None
    small: FloatArray

    def times(self, x: FloatArray) -> FloatArray:
        """Times vectors of shape (width, q, m); (width, size, m)."""
        width, _, m = x.shape
        own = x[:, self.here].reshape(width, -1, len(self.small), m)
        out = np.einsum("ab,wrbm->wram", self.small, own)
        if self.between is not None:
            # one large product, not many with few columns
            turned = out.transpose(0, 2, 3, 1).reshape(-1, len(self.between))
            turned = turned @ self.between
            out = turned.reshape(width, len(self.small), m, -1).transpose(0, 3, 1, 2)
        return out.reshape(width, -1, m)

    def contract(self, a: FloatArray) -> float:
        """``<E, A>`` of a matrix of shape (q, q)."""
        order = len(self.small)
        own = a[self.here, self.here]
        own = own.reshape(len(own) // order, order, -1, order)
        if self.between is None:
            return float((np.einsum("rarb->ab", own) * self.small).sum())
        inner = np.tensordot(self.between, own, axes=([0, 1], [0, 2]))
        return float((inner * self.small).sum())


@dataclass(frozen=True)
class RelatedDirections:
    """
    Directions of ``Psi`` where levels are related, of all groups together.

    Attributes
    ----------
    parts : tuple of Kronecker
        By parameter.
    bends : mapping of (int, int) to Kronecker
        Second derivatives of ``Psi`` by two parameters, where there are any.
    """

    parts: tuple[Kronecker, ...]
    bends: Mapping[tuple[int, int], Kronecker]

    def __len__(self) -> int:
        return len(self.parts)

    def bent(
        self, level: Level, over: Groups
    ) -> Iterator[tuple[tuple[int, int], float, FloatArray]]:
        """``tr H^-1 H_ij`` and ``W'H^-1 H_ij H^-1 W`` by pairs of parameters."""
        total = over.total(level.zz_left)
        for pair, bend in self.bends.items():
            d = bend.contract(total)
            left = level.zw_left[:, bend.here]
            yield pair, d, over.pairs(bend.times(level.zw_left), left)

    def times(self, x: FloatArray) -> FloatArray:
        """See :class:`Directions`."""
        out = np.zeros((len(self), *x.shape))
        for one, part in zip(out, self.parts, strict=True):
            one[:, part.here] = part.times(x)
        return out

    def contract(self, a: FloatArray, over: Groups) -> FloatArray:
        """See :class:`Directions`."""
        total = over.total(a)
        return np.array([part.contract(total) for part in self.parts])

    def contract_rest(self, a: FloatArray, b: FloatArray, over: Groups) -> FloatArray:
        """See :class:`Directions`."""
        return self.contract(a - bmm(a, b.transpose(1, 0, 2)), over)

    def traces(self, u: FloatArray, over: Groups) -> FloatArray:
        """See :class:`Directions`."""
        turned = [part.times(u) for part in self.parts]
        k = len(self)
        out = np.empty((k, k))
        for i, one in enumerate(self.parts):
            for j, other in enumerate(self.parts[: i + 1]):
                left, right = turned[i][other.here], turned[j][one.here]
                found = np.einsum("abm,bam->m", left, right)
                out[i, j] = out[j, i] = over.total(found)
        return out


@dataclass(frozen=True)
class Derivatives:
    """
    Derivatives of ``D = log|H|`` and ``S = W'H^-1 W`` by ``v = (Psi entries, u)``.

    The shapes are (k, ...), (k, width, width, ...), (k, k, ...) and
    (k, k, width, width, ...); the last axis counts groups if they are kept apart.
    """

    d1: FloatArray
    s1: FloatArray
    d2: FloatArray
    s2: FloatArray


AnyDirections = Directions | RepeatedDirections | RelatedDirections


def slopes_of(
    level: Level,
    cross: CrossProducts,
    directions: AnyDirections,
    over: Groups,
) -> Derivatives:
    """
    First and second derivatives of what is left after the elimination.

    Parameters
    ----------
    level : Level
    cross : CrossProducts
        The sums that were eliminated from, with their derivatives.
    directions : Directions, RepeatedDirections or RelatedDirections
        ``dPsi / dv_k``.
    over : Together or Apart

    Returns
    -------
    Derivatives
    """
    width, q, m = level.zw.shape
    k_cov = len(directions)
    k, tail = k_cov + cross.k, over.tail
    out = Derivatives(
        np.zeros((k, *tail)),
        np.zeros((k, width, width, *tail)),
        np.zeros((k, k, *tail)),
        np.zeros((k, k, width, width, *tail)),
    )
    eb = directions.times(level.zw_left)  # (k_cov, width, q, m)
    rows = eb.reshape(k_cov * width, q, m)
    out.d1[:k_cov] = directions.contract(level.zz_left, over)
    first = over.pairs(rows, level.zw_left)
    out.s1[:k_cov] = -first.reshape(k_cov, width, width, *tail)
    out.d2[:k_cov, :k_cov] = -directions.traces(level.zz_left, over)
    images = [apply(level.zz_left, eb)]
    images += _residual_derivatives(level, cross, directions, over, out)
    # d2S by (k, l) is B'E_k U E_l B and its transpose; with a residual
    # parameter -B'E_k F J
    stacked = images[0] if len(images) == 1 else np.concatenate(images)
    both = over.pairs(rows, stacked.reshape(k * width, q, m))
    both = both.reshape(k_cov, width, k, width, *tail).swapaxes(1, 2)
    both = both + both.swapaxes(2, 3)
    out.s2[:k_cov] = both
    out.s2[k_cov:, :k_cov] = both[:, k_cov:].swapaxes(0, 1)
    if isinstance(directions, RelatedDirections):
        for (i, j), d2, s2 in directions.bent(level, over):
            for pair in {(i, j), (j, i)}:
                out.d2[pair] += d2
                out.s2[pair] -= s2
    return out


def _residual_derivatives(
    level: Level,
    cross: CrossProducts,
    directions: AnyDirections,
    over: Groups,
    out: Derivatives,
) -> list[FloatArray]:
    """Write those by residual parameters; return the images of their slopes."""
    k_cov, turn = len(directions), level.turn
    images, slopes, reduced = [], [], []
    for r in range(cross.k):
        at, here = 1 + r, k_cov + r
        zz, zw = cross.zz[at], cross.zw[at]
        slope = bmm(level.shrink, zz)
        j = zw - apply(zz, level.effect)
        half = zz - bmm(turn, zz)
        out.d1[here] = cross.logdet[at] + over.total(np.einsum("aam->m", slope))
        # with the derivative of Z'H^-1 Z
        mixed = directions.contract_rest(half, turn, over)
        out.d2[:k_cov, here] = out.d2[here, :k_cov] = mixed
        out.s1[here] = cross.ww[at] - level.taken(zz, zw, over)
        images.append(-(j - apply(turn, j))[None])
        slopes.append(slope)
        reduced.append(apply(level.root, j))
    for a in range(cross.k):
        for b in range(a + 1):
            at = cross.second(a, b)
            zz, zw = cross.zz[at], cross.zw[at]
            trace = trace_product(level.shrink, zz) - trace_product(
                slopes[a], slopes[b]
            )
            both = over.pairs(reduced[a], reduced[b])
            i, j = k_cov + a, k_cov + b
            out.d2[i, j] = out.d2[j, i] = cross.logdet[at] + over.total(trace)
            out.s2[i, j] = out.s2[j, i] = (
                cross.ww[at] - level.taken(zz, zw, over) - both - both.swapaxes(0, 1)
            )
    return images
