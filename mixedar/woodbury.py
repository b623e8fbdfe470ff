"""
Cluster sums from whitened moments, by the Woodbury identity.

With ``M = Z'R^-1 Z``, ``N = Z'R^-1 W`` and ``A = I + Lambda' M Lambda`` nothing
of the size of a cluster is formed: ``log|H| = log|R| + log|A|`` and
``W'H^-1 W = W'R^-1 W - N' K N`` with ``K = Lambda A^-1 Lambda'``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixedar.covariance import RandomCovariance
from mixedar.linalg import (
    apply,
    bmm,
    identity_plus,
    inverse_cholesky,
    multiply_right,
    product,
    trace_product,
)
from mixedar.moments.arrays import Moments
from mixedar.sums import ClusterSums

__all__ = ["woodbury_sums"]

FloatArray = NDArray[np.float64]


def woodbury_sums(
    moments: Moments,
    weights: FloatArray,
    covariance: RandomCovariance,
    factor: FloatArray,
    derivatives: bool,
) -> ClusterSums:
    """
    ``D``, ``S`` and their derivatives for a block of clusters.

    Parameters
    ----------
    moments : Moments
    weights : ndarray, shape (m,)
        How often each cluster's log-determinant counts.
    covariance : RandomCovariance
    factor : ndarray, shape (q, q)
        ``Lambda``, any root of ``Psi``.
    derivatives : bool

    Returns
    -------
    ClusterSums

    Raises
    ------
    numpy.linalg.LinAlgError
        If ``A`` is not positive definite to rounding.
    """
    zz, zw = moments.zz[0], moments.zw[0]  # M (q, q, m) and N' (p + 1, q, m)
    width, q, m = zw.shape
    n_residual = 1 if len(moments.ww) > 1 else 0
    k_cov = covariance.k_cov
    k = (k_cov + n_residual) if derivatives else 0
    d1, s1 = np.zeros(k), np.zeros((k, width, width))
    d2, s2 = np.zeros((k, k)), np.zeros((k, k, width, width))
    if q == 0:
        if k:
            d1[0], d2[0, 0] = moments.logdet[1:]
            s1[0], s2[0, 0] = moments.ww[1:]
        return ClusterSums(
            float(moments.logdet[0]), moments.ww[0].copy(), d1, s1, d2, s2
        )

    # A = I + Lambda' M Lambda is well conditioned for singular Lambda
    inverse_factor, logdet = inverse_cholesky(identity_plus(factor, zz))
    # root = L_A^-1 Lambda', so that K = Psi (I + M Psi)^-1 = root' root
    root = multiply_right(inverse_factor, factor.T)
    reduced = apply(root, zw)
    flat = reduced.reshape(width, q * m)
    d = float(moments.logdet[0] + weights @ logdet)
    s = moments.ww[0] - product(flat, flat.T)
    if not derivatives:
        return ClusterSums(d, s, d1, s1, d2, s2)

    across = root.transpose(1, 0, 2)
    shrink = bmm(across, root)  # K
    effect = apply(across, reduced)  # K N
    b = zw - apply(zz, effect)  # Z'H^-1 W
    mk = bmm(zz, shrink)
    u = zz - bmm(mk, zz)  # Z'H^-1 Z
    directions = covariance.directions
    eb = np.matmul(directions[:, None], b)  # (k, p + 1, q, m)
    rows = eb.reshape(k_cov * width, q * m)
    d1[:k_cov] = directions.reshape(k_cov, q * q) @ (u @ weights).ravel()
    s1[:k_cov] = -product(rows, b.reshape(width, q * m).T).reshape(k_cov, width, width)
    d2[:k_cov, :k_cov] = -_trace_products(u, weights, directions)
    stack = apply(u, eb)
    if n_residual:
        r = k_cov
        zz1, zz2 = moments.zz[1], moments.zz[2]
        zw1, zw2 = moments.zw[1], moments.zw[2]
        kz1 = bmm(shrink, zz1)
        j1 = zw1 - apply(zz1, effect)
        fj = j1 - apply(mk, j1)
        fz1 = zz1 - bmm(mk, zz1)
        u1 = fz1 - bmm(fz1, mk.transpose(1, 0, 2))  # derivative of U
        d1[r] = moments.logdet[1] + np.einsum("aam,m->", kz1, weights)
        d2[:r, r] = d2[r, :r] = (
            directions.reshape(k_cov, q * q) @ (u1 @ weights).ravel()
        )
        d2[r, r] = (
            moments.logdet[2]
            + np.einsum("abm,bam,m->", shrink, zz2, weights)
            - np.einsum("abm,bam,m->", kz1, kz1, weights)
        )
        flat_effect = effect.reshape(width, q * m)
        cross = product(j1.reshape(width, q * m), flat_effect.T)
        s1[r] = moments.ww[1] - cross
        s1[r] -= product(flat_effect, zw1.reshape(width, q * m).T)
        half = zw2 - 0.5 * apply(zz2, effect)
        cross = product(half.reshape(width, q * m), flat_effect.T)
        rj = apply(root, j1).reshape(width, q * m)
        s2[r, r] = moments.ww[2] - cross - cross.T - 2.0 * product(rj, rj.T)
        stack = np.concatenate([stack, -fj[None]])
    # d2S by (k, l) is B'E_k U E_l B and its transpose; with the residual
    # parameter -B'E_k F J
    both = product(rows, stack.reshape(k * width, q * m).T)
    both = both.reshape(k_cov, width, k, width).transpose(0, 2, 1, 3)
    both = both + both.transpose(0, 1, 3, 2)
    s2[:k_cov] = both
    if n_residual:
        s2[k_cov, :k_cov] = both[:, k_cov]
    return ClusterSums(d, s, d1, s1, d2, s2)


def _trace_products(
    u: FloatArray, weights: FloatArray, directions: FloatArray
) -> FloatArray:
    """``sum_m w_m tr(U_m E_k U_m E_l)``, shape (k, k)."""
    k, q, _ = directions.shape
    if q <= 8:
        flat = u.reshape(q * q, -1)
        products = product(flat * weights, flat.T).reshape(q, q, q, q)
        pairs = products.transpose(1, 2, 3, 0).reshape(q * q, q * q)
        rows = directions.reshape(k, q * q)
        return rows @ pairs @ rows.T
    ue = [multiply_right(u, direction) for direction in directions]
    out = np.empty((k, k))
    for i in range(k):
        for j in range(i + 1):
            out[i, j] = out[j, i] = trace_product(ue[i], ue[j]) @ weights
    return out
