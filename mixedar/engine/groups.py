"""
What every group contributes to the likelihood, and to its derivatives.

With ``W_i = [X_i y_i]`` the log-likelihood is a function of ``sum_i log|H_i|``
and ``S = sum_i W_i' H_i^-1 W_i``.  Deleting a group takes its terms away from
these sums and from their derivatives, exactly and under REML as well: the
determinant ``|X'H^-1 X|`` is one of what is left of ``S``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks import likelihood_blocks, moment_blocks
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.likelihood import cluster_sums
from mixedar.numeric.linalg import (
    bmm,
    identity_plus,
    inverse_cholesky,
    multiply_right,
    trace_product,
)
from mixedar.residual import Independent, MarkovStructure, ResidualStructure

# Numbers that the derivatives of a chunk of groups may take.
_NUMBERS = 2**24
# Rows of groups whose inverse covariances are written out.
_SHARED_ROWS = 40


@dataclass(frozen=True)
class GroupSums:
    """
    The terms of m groups; ``v = (entries of Psi, u)`` has k entries.

    Attributes
    ----------
    s : ndarray, shape (p + 1, p + 1, m)
        ``W_i' H_i^-1 W_i``.
    d1 : ndarray, shape (k, m)
    d2 : ndarray, shape (k, k, m)
        Derivatives of ``log|H_i|`` by ``v``.
    s1 : ndarray, shape (k, p + 1, p + 1, m)
    s2 : ndarray, shape (k, k, p + 1, p + 1, m)
        Derivatives of `s`.
    zz : ndarray, shape (q, q, m)
        ``Z_i' H_i^-1 Z_i``.
    zw : ndarray, shape (q, p + 1, m)
        ``Z_i' H_i^-1 W_i``.
    """

    s: FloatArray
    d1: FloatArray
    d2: FloatArray
    s1: FloatArray
    s2: FloatArray
    zz: FloatArray
    zw: FloatArray


def chunks(rows: ClusterRows, k: int) -> Iterator[slice]:
    """
    Slices of the groups whose derivatives fit into memory together.

    Parameters
    ----------
    rows : ClusterRows
    k : int
        Number of parameters.
    """
    q, width = rows.z.shape[1], rows.w.shape[1]
    each = (k + 1) ** 2 * width**2 + 3 * (q + width) ** 2
    step = max(1, _NUMBERS // each)
    for first in range(0, rows.n_clusters, step):
        yield slice(first, min(first + step, rows.n_clusters))


def part_of(rows: ClusterRows, where: slice) -> ClusterRows:
    """
    The rows of neighbouring groups.

    Parameters
    ----------
    rows : ClusterRows
    where : slice
        Of the groups.

    Returns
    -------
    ClusterRows
    """
    offsets = rows.offsets[where.start : where.stop + 1]
    here = slice(offsets[0], offsets[-1])
    return ClusterRows(
        rows.z[here],
        rows.w[here],
        rows.gaps[here],
        offsets - offsets[0],
        rows.weights[where],
        None if rows.marks is None else rows.marks[here],
    )


def group_sums(
    rows: ClusterRows,
    structure: ResidualStructure,
    covariance: RandomCovariance,
    factor: FloatArray,
    u: FloatArray,
) -> GroupSums:
    """
    The terms of each group at a point of the parameter space.

    Parameters
    ----------
    rows : ClusterRows
        Of the real groups, in the coordinates of `factor`.
    structure : ResidualStructure
        Bound to the data.
    covariance : RandomCovariance
    factor : ndarray, shape (q, q)
        ``Lambda`` with ``Psi = Lambda Lambda'``; it may be singular.
    u : ndarray, shape (k_free,)
        Unconstrained residual parameters.

    Returns
    -------
    GroupSums

    Raises
    ------
    numpy.linalg.LinAlgError
        If the parameters are so extreme that ``H`` loses its definiteness.
    """
    simple = isinstance(structure, MarkovStructure) and structure.k_free <= 1
    if simple or isinstance(structure, Independent):
        return _by_moments(rows, structure, covariance, factor, u)
    return sums_by_engine(rows, structure, covariance, factor, u)


def _whitened(
    rows: ClusterRows, structure: ResidualStructure, u: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """
    ``[Z W]' R^-1 [Z W]`` and ``log|R|`` of every group, with derivatives by `u`.

    Returns
    -------
    moments : ndarray, shape (orders, q + p + 1, q + p + 1, m)
    logdet : ndarray, shape (orders, m)
        ``orders`` is 3 if the structure has a free parameter, else 1.
    """
    columns = np.concatenate([rows.z, rows.w], axis=1)
    orders, width, m = 1 + 2 * structure.k_free, columns.shape[1], rows.n_clusters
    everything = ClusterRows(
        columns, np.ones((len(columns), 1)), rows.gaps, rows.offsets, rows.weights
    )
    moments = np.empty((orders, width, width, m))
    for block in moment_blocks(everything, structure):
        moments[..., block.clusters] = block.at(u, derivatives=True).zz
    by_row = np.zeros((orders, len(columns)))
    if isinstance(structure, MarkovStructure):
        inside = rows.gaps > 0.0
        gaps, which = np.unique(rows.gaps[inside], return_inverse=True)
        terms = structure.precision_coefficients(gaps, u, derivatives=True).logdet
        by_row[:, inside] = terms[:, which]
    return moments, np.add.reduceat(by_row, rows.offsets[:-1], axis=1)


def _by_moments(
    rows: ClusterRows,
    structure: ResidualStructure,
    covariance: RandomCovariance,
    factor: FloatArray,
    u: FloatArray,
) -> GroupSums:
    """All groups at once; the algebra is that of the Woodbury identity."""
    moments, logdet = _whitened(rows, structure, u)
    q, width, m = rows.z.shape[1], rows.w.shape[1], rows.n_clusters
    k_cov, n_residual = covariance.k_cov, structure.k_free
    k = k_cov + n_residual
    d1, s1 = np.zeros((k, m)), np.zeros((k, width, width, m))
    d2, s2 = np.zeros((k, k, m)), np.zeros((k, k, width, width, m))
    zz, zw, ww = moments[:, :q, :q], moments[:, :q, q:], moments[:, q:, q:]
    if q == 0:
        if k:
            d1[0], d2[0, 0], s1[0], s2[0, 0] = logdet[1], logdet[2], ww[1], ww[2]
        return GroupSums(ww[0], d1, d2, s1, s2, zz[0], zw[0])
    inverse_factor, _ = inverse_cholesky(identity_plus(factor, zz[0]))
    root = multiply_right(inverse_factor, factor.T)
    reduced = bmm(root, zw[0])
    shrink = bmm(root.transpose(1, 0, 2), root)  # K
    effect = bmm(root.transpose(1, 0, 2), reduced)  # K N
    s = ww[0] - _gram(reduced, reduced)
    mk = bmm(zz[0], shrink)
    precision = zz[0] - bmm(mk, zz[0])  # Z'H^-1 Z
    effects = zw[0] - bmm(zz[0], effect)  # Z'H^-1 W
    turned = [_turn(direction, effects) for direction in covariance.directions]
    slopes = [_turn(direction, precision) for direction in covariance.directions]
    for a in range(k_cov):
        d1[a] = np.einsum("iim->m", slopes[a])
        s1[a] = -_gram(effects, turned[a])
        right = bmm(precision, turned[a])
        for b in range(a + 1):
            d2[a, b] = d2[b, a] = -trace_product(slopes[a], slopes[b])
            pair = _gram(turned[b], right)
            s2[a, b] = s2[b, a] = pair + pair.transpose(1, 0, 2)
    if n_residual:
        r = k_cov
        kz = bmm(shrink, zz[1])
        d1[r] = logdet[1] + np.einsum("iim->m", kz)
        d2[r, r] = logdet[2] + trace_product(shrink, zz[2]) - trace_product(kz, kz)
        inner = zw[1] - bmm(zz[1], effect)  # J
        s1[r] = ww[1] - _gram(effect, inner) - _gram(zw[1], effect)
        cross = _gram(zw[2] - 0.5 * bmm(zz[2], effect), effect)
        half = bmm(root, inner)
        s2[r, r] = ww[2] - cross - cross.transpose(1, 0, 2) - 2.0 * _gram(half, half)
        left = inner - bmm(mk, inner)  # F J
        outer = zz[1] - bmm(mk, zz[1])
        outer = outer - bmm(outer, mk.transpose(1, 0, 2))  # d(Z'H^-1 Z)
        for a in range(k_cov):
            d2[a, r] = d2[r, a] = np.einsum(
                "ij,jim->m", covariance.directions[a], outer
            )
            pair = _gram(turned[a], left)
            s2[a, r] = s2[r, a] = -pair - pair.transpose(1, 0, 2)
    return GroupSums(s, d1, d2, s1, s2, precision, effects)


def _gram(a: FloatArray, b: FloatArray) -> FloatArray:
    """``a'b`` of every group, shape (i, j, m) from (q, i, m) and (q, j, m)."""
    return bmm(a.transpose(1, 0, 2), b)


def _turn(matrix: FloatArray, x: FloatArray) -> FloatArray:
    """One matrix times those of every group."""
    return np.tensordot(matrix, x, axes=1)


def sums_by_engine(
    rows: ClusterRows,
    structure: ResidualStructure,
    covariance: RandomCovariance,
    factor: FloatArray,
    u: FloatArray,
) -> GroupSums:
    """
    The same for any structure, by the likelihood's own sums.

    Parameters and returns as in :func:`group_sums`.  A group at a time, ``[Z W]``
    takes the place of ``W``; where groups share their covariance, unit vectors
    do, which gives ``H^-1`` and its derivatives for all of them at once.
    """
    q, width, m = rows.z.shape[1], rows.w.shape[1], rows.n_clusters
    k = covariance.k_cov + len(u)
    columns = np.concatenate([rows.z, rows.w], axis=1)
    both = q + width
    s, s1 = np.empty((both, both, m)), np.empty((k, both, both, m))
    d1, d2 = np.empty((k, m)), np.empty((k, k, m))
    s2 = np.empty((k, k, both, both, m))
    for members in _patterns(rows):
        one = part_of(rows, slice(members[0], members[0] + 1))
        n = len(one.w)
        shared = len(members) > 1
        images = np.eye(n) if shared else columns[_rows_of(rows, members)[0]]
        one = replace(one, w=images)
        found = cluster_sums(
            likelihood_blocks(one, structure), covariance, factor, u, derivatives=True
        )
        d1[:, members], d2[..., members] = found.d1[:, None], found.d2[..., None]
        if not shared:
            i = members[0]
            s[..., i], s1[..., i], s2[..., i] = found.s, found.s1, found.s2
            continue
        own = columns[_rows_of(rows, members)]  # (members, n, q + p + 1)
        for out, middle in ((s, found.s), (s1, found.s1), (s2, found.s2)):
            flat = np.tensordot(middle, own, axes=(-1, 1))  # (..., n, members, c)
            out[..., members] = np.einsum("mna,...nmb->...abm", own, flat)
    return GroupSums(
        s[q:, q:], d1, d2, s1[:, q:, q:], s2[:, :, q:, q:], s[:q, :q], s[:q, q:]
    )


def _rows_of(rows: ClusterRows, members: IntArray) -> IntArray:
    """Rows of groups of one size, shape (members, n)."""
    first = rows.offsets[members]
    size = int(rows.offsets[members[0] + 1] - first[0])
    return np.asarray(first[:, None] + np.arange(size))


def _patterns(rows: ClusterRows) -> Iterator[IntArray]:
    """Groups that share gaps, marks and random-effects design, if they are short."""
    sizes = np.diff(rows.offsets)
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        if size > _SHARED_ROWS:
            yield from members[:, None]
            continue
        index = _rows_of(rows, members)
        parts = [rows.gaps[index], rows.z[index].reshape(len(members), -1)]
        if rows.marks is not None:
            parts.append(rows.marks[index].reshape(len(members), -1))
        key = np.concatenate(parts, axis=1)
        _, which = np.unique(key, axis=0, return_inverse=True)
        order = np.argsort(which.ravel(), kind="stable")
        edges = np.flatnonzero(np.diff(which.ravel()[order])) + 1
        yield from np.split(members[order], edges)
