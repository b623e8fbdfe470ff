"""
Matrices of clusters, and the sums over them that tests by a robust variance take.

With ``Q_i = X'W A H A W X`` and ``L_i = X'A W X`` of a cluster, rows ``w`` of contrasts
times ``M``, and ``h_i = M^1/2 L_i w``, these are sums of products of ``w'Q_i w``, of
``w'C_i w = h_i'h_i`` with ``C_i = L_i' M L_i``, and of ``h_i h_i'``.  All follow from
the clusters' matrices, or, where rows were read and not kept, from sums of products of
their entries, whose number does not grow with that of the clusters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from mixedar._types import FloatArray, IntArray

# Numbers in a batch of dense cluster matrices.
_BATCH = 2**22
# Rows, and rows for each column, from which clusters are adjusted by integrals.
_LONG, _TALL = 100, 10
# Share of information that a cluster must leave to the others for that.
_LEFT = 1e-4
# ... and what is none at all.
_NOTHING = 1e-10
# Step of the trapezoid rule, whose error is exp(-pi^2 / step), and how far it goes.
_STEP, _FAR = 0.25, 40.0


class ContrastSums(NamedTuple):
    """
    Sums over clusters for q rows of contrasts, ``w_s``, each of shape (q, q).

    Attributes
    ----------
    expected : ndarray
        Of ``w_s'(Q - C)w_t``: what the robust variance is on average.
    variance : ndarray
        What a pair of rows adds to the variance of this, summed over both orders.
    """

    expected: FloatArray
    variance: FloatArray


class OfClusters(Protocol):
    """The matrices of all clusters, as tests need them."""

    def __len__(self) -> int:
        """Number of clusters."""

    def contrasts(self, w: FloatArray, bread: FloatArray) -> ContrastSums:
        """Sums for rows of contrasts times `bread`, shape (q, p)."""


@dataclass(frozen=True)
class EachCluster:
    """
    Matrices of each of m clusters.

    Attributes
    ----------
    quadratic, linear : ndarray, shape (p, p, m)
        ``X'W A H A W X`` and ``X'A W X``, ``W = H^-1``.
    """

    quadratic: FloatArray
    linear: FloatArray

    def __len__(self) -> int:
        return self.quadratic.shape[2]

    def contrasts(self, w: FloatArray, bread: FloatArray) -> ContrastSums:
        """See :class:`OfClusters`."""
        d = np.einsum("sa,abm,tb->stm", w, self.quadratic, w, optimize=True)
        half = np.linalg.cholesky(bread).T
        h = np.einsum("xa,abm,sb->sxm", half, self.linear, w, optimize=True)
        expected = d.sum(axis=2) - np.einsum("sxm,txm->st", h, h)
        variance = np.empty(expected.shape)
        for s in range(len(w)):
            for t in range(len(w)):
                ss, tt = (h[s] ** 2).sum(axis=0), (h[t] ** 2).sum(axis=0)
                st = (h[s] * h[t]).sum(axis=0)
                across = h[s] @ h[t].T
                variance[s, t] = (
                    (d[s, s] * d[t, t] - d[s, s] * tt - d[t, t] * ss).sum()
                    + (d[s, t] ** 2 - 2.0 * d[s, t] * st).sum()
                    + (across**2).sum()
                    + np.einsum("xy,yx->", across, across)
                )
        return ContrastSums(expected, variance)


@dataclass(frozen=True)
class SummedClusters:
    """
    Sums over clusters that are not kept.

    Attributes
    ----------
    count : int
    away : ndarray, shape (p * p,)
        Sum of ``Q - C``.
    squares : ndarray, shape (p * p, p * p)
        Sum of ``q q' - q c' - c q'``, of the entries of ``Q`` and ``C``.
    linear : ndarray, shape (p * p, p * p)
        Sum of ``l l'``, of the entries of ``L``.
    """

    count: int
    away: FloatArray
    squares: FloatArray
    linear: FloatArray

    @classmethod
    def of(cls, one: EachCluster, bread: FloatArray) -> SummedClusters:
        """Of some clusters."""
        p, m = len(bread), len(one)
        c = np.einsum("bam,bd,dem->aem", one.linear, bread, one.linear, optimize=True)
        q, c, linear = (a.reshape(p * p, m) for a in (one.quadratic, c, one.linear))
        cross = q @ c.T
        squares = q @ q.T - cross - cross.T
        return cls(m, (q - c).sum(axis=1), squares, linear @ linear.T)

    @classmethod
    def merged(cls, parts: Sequence[SummedClusters]) -> SummedClusters:
        """Of the clusters of all parts."""
        return cls(
            sum(part.count for part in parts),
            np.sum([part.away for part in parts], axis=0),
            np.sum([part.squares for part in parts], axis=0),
            np.sum([part.linear for part in parts], axis=0),
        )

    def __len__(self) -> int:
        return self.count

    def contrasts(self, w: FloatArray, bread: FloatArray) -> ContrastSums:
        """See :class:`OfClusters`."""
        q, p = w.shape
        pairs = np.einsum("sa,tb->stab", w, w).reshape(q, q, p * p)
        expected = pairs @ self.away
        own = pairs[np.arange(q), np.arange(q)]
        variance = own @ self.squares @ own.T
        variance = variance + np.einsum(
            "sti,ij,stj->st", pairs, self.squares, pairs, optimize=True
        )
        # sum of h_s h_t' is half T half', T with entries a, c of L_ab w_b, L_cd w_d
        l4 = self.linear.reshape(p, p, p, p)
        for s in range(q):
            for t in range(q):
                across = bread @ np.einsum("abcd,b,d->ac", l4, w[s], w[t])
                back = bread @ np.einsum("abcd,b,d->ac", l4, w[t], w[s])
                variance[s, t] += np.einsum("xy,yx->", across, back)
                variance[s, t] += np.einsum("xy,yx->", across, across)
        return ContrastSums(expected, variance)


def adjusted_products(
    x: FloatArray, e: FloatArray, h: FloatArray, bread: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    ``X'W A e``, ``X'W A H A W X`` and ``X'A W X`` of m clusters of n rows for CR2.

    `x` has the shape (m, n, p), `e` (m, n), the covariances `h` (m, n, n); clusters
    come last in what is returned.
    """
    n, p = x.shape[1:]
    if n >= max(_LONG, _TALL * p) and (h == h[0]).all():
        found = _adjusted_by_integral(x, e, h[0], bread)
        if found is not None:
            return found
    c = np.linalg.cholesky(h)
    middle = h - x @ bread @ x.transpose(0, 2, 1)
    b = c.transpose(0, 2, 1) @ middle @ c
    values, vectors = np.linalg.eigh((b + b.transpose(0, 2, 1)) / 2.0)
    # directions that the cluster's own coefficients take up are left out; they are
    # counted where no scale of `h` comes in
    own = np.linalg.solve(c, x) @ np.linalg.cholesky(bread)
    left = np.linalg.eigvalsh(np.eye(p) - own.transpose(0, 2, 1) @ own)
    gone = (left < _NOTHING).sum(axis=1)
    keep = (np.arange(n) >= gone[:, None]) & (values > 0.0)
    powers = np.where(keep, values, 1.0) ** -0.5 * keep
    rotated = vectors.transpose(0, 2, 1) @ np.linalg.solve(c, x)
    # E = C'A W X = C'C B^-1/2 C^-1 X
    half = vectors @ (powers[:, :, None] * rotated)
    adjusted = c @ half  # A W X
    e_half = c.transpose(0, 2, 1) @ adjusted
    return (
        np.einsum("mna,mn->am", adjusted, e),
        np.einsum("mna,mnb->abm", e_half, e_half),
        np.einsum("mna,mnb->abm", x, adjusted),
    )


def _adjusted_by_integral(
    x: FloatArray, e: FloatArray, h: FloatArray, bread: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """
    What :func:`adjusted_products` gives, of clusters that share their covariance.

    With ``H = U D U'`` the matrix under the root is ``B = D^2 - Y Y'``, and

        B^-1/2 = D^-1 + 2 / pi  int G Y (I - Y'G Y)^-1 Y'G dt,  G = (D^2 + t^2)^-1,

    over t > 0; the trapezoid rule for log t converges exponentially.  None where a
    cluster has nearly all information on a coefficient.
    """
    d, vectors = np.linalg.eigh(h)
    turned = vectors.T @ x
    y = np.sqrt(d)[:, None] * (turned @ np.linalg.cholesky(bread))
    f = turned / np.sqrt(d)[:, None]
    eye = np.eye(x.shape[2])
    scaled = y / d[:, None]
    if not np.linalg.eigvalsh(eye - scaled.swapaxes(1, 2) @ scaled).min() > _LEFT:
        return None
    rooted = f / d[:, None]  # B^-1/2 D^-1/2 U'X
    # the integrand grows as t and falls as t^-3
    nodes = np.arange(np.log(d[0]) - _FAR, np.log(d[-1]) + _FAR / 3.0, _STEP)
    for t in np.exp(nodes):
        part = y / (d**2 + t**2)[:, None]
        rows = part.swapaxes(1, 2)
        middle = np.linalg.solve(eye - rows @ y, rows @ f)
        rooted += (2.0 / np.pi * _STEP * t) * (part @ middle)
    adjusted = np.sqrt(d)[:, None] * rooted
    halves = d[:, None] * rooted
    return (
        np.einsum("mna,mn->am", adjusted, e @ vectors),
        (halves.swapaxes(1, 2) @ halves).transpose(1, 2, 0),
        (turned.swapaxes(1, 2) @ adjusted).transpose(1, 2, 0),
    )


def equal_sizes(offsets: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Clusters of equal size, and their sorted rows, shape (m, n)."""
    sizes = np.diff(offsets)
    for size in np.unique(sizes):
        clusters = np.flatnonzero(sizes == size)
        step = max(1, _BATCH // int(size) ** 2)
        for first in range(0, len(clusters), step):
            some = clusters[first : first + step]
            yield some, offsets[some][:, None] + np.arange(size)
