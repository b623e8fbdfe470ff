"""
What a block of clusters tells the likelihood.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import ArrayCurvature, ClusterSums, Moments
from mixedar.engine.covariance import RandomCovariance
from mixedar.numeric.linalg import (
    apply,
    bmm,
    identity_plus,
    inverse_cholesky,
    multiply_right,
    product,
    trace_product,
)


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
    k_cov, k_u = covariance.k_cov, moments.k if derivatives else 0
    k = (k_cov + k_u) if derivatives else 0
    pairs = [(i, j, moments.second(i, j)) for i in range(k_u) for j in range(i + 1)]
    d1, s1 = np.zeros(k), np.zeros((k, width, width))
    d2, s2 = np.zeros((k, k)), np.zeros((k, k, width, width))
    if q == 0:
        d1[:], s1[:] = moments.logdet[1 : 1 + k_u], moments.ww[1 : 1 + k_u]
        for i, j, at in pairs:
            d2[i, j] = d2[j, i] = moments.logdet[at]
            s2[i, j] = s2[j, i] = moments.ww[at]
        return ClusterSums(
            float(moments.logdet[0]),
            moments.ww[0].copy(),
            d1,
            s1,
            (ArrayCurvature(d2, s2),) if k else (),
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
        return ClusterSums(d, s, d1, s1)

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
    stack = [apply(u, eb)]
    flat_effect = effect.reshape(width, q * m)
    slopes, reduced_slopes = [], []
    for r in range(k_u):
        at = 1 + r
        zz1, zw1 = moments.zz[at], moments.zw[at]
        kz1 = bmm(shrink, zz1)
        j1 = zw1 - apply(zz1, effect)
        fz1 = zz1 - bmm(mk, zz1)
        u1 = fz1 - bmm(fz1, mk.transpose(1, 0, 2))  # derivative of U
        d1[k_cov + r] = moments.logdet[at] + np.einsum("aam,m->", kz1, weights)
        mixed = directions.reshape(k_cov, q * q) @ (u1 @ weights).ravel()
        d2[:k_cov, k_cov + r] = d2[k_cov + r, :k_cov] = mixed
        cross = product(j1.reshape(width, q * m), flat_effect.T)
        s1[k_cov + r] = moments.ww[at] - cross
        s1[k_cov + r] -= product(flat_effect, zw1.reshape(width, q * m).T)
        stack.append(-(j1 - apply(mk, j1))[None])
        slopes.append(kz1)
        reduced_slopes.append(apply(root, j1).reshape(width, q * m))
    for i, j, at in pairs:
        zz2, zw2 = moments.zz[at], moments.zw[at]
        d2_pair = (
            moments.logdet[at]
            + np.einsum("abm,bam,m->", shrink, zz2, weights)
            - np.einsum("abm,bam,m->", slopes[i], slopes[j], weights)
        )
        half = zw2 - 0.5 * apply(zz2, effect)
        cross = product(half.reshape(width, q * m), flat_effect.T)
        both = product(reduced_slopes[i], reduced_slopes[j].T)
        s2_pair = moments.ww[at] - cross - cross.T - both - both.T
        at_i, at_j = k_cov + i, k_cov + j
        d2[at_i, at_j] = d2[at_j, at_i] = d2_pair
        s2[at_i, at_j] = s2[at_j, at_i] = s2_pair
    # d2S by (k, l) is B'E_k U E_l B and its transpose; with the residual
    # parameter -B'E_k F J
    stacked = stack[0] if k_u == 0 else np.concatenate(stack)
    both = product(rows, stacked.reshape(k * width, q * m).T)
    both = both.reshape(k_cov, width, k, width).transpose(0, 2, 1, 3)
    both = both + both.transpose(0, 1, 3, 2)
    s2[:k_cov] = both
    s2[k_cov:, :k_cov] = both[:, k_cov:].transpose(1, 0, 2, 3)
    return ClusterSums(d, s, d1, s1, (ArrayCurvature(d2, s2),))


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


class LikelihoodBlock(ABC):
    """Clusters whose part in the likelihood is computed together."""

    @abstractmethod
    def sums(
        self,
        covariance: RandomCovariance,
        factor: FloatArray,
        u: FloatArray,
        *,
        derivatives: bool,
    ) -> ClusterSums:
        """
        Cluster sums at a point of the parameter space.

        Parameters
        ----------
        covariance : RandomCovariance
        factor : ndarray, shape (q, q)
            ``Lambda`` with ``Psi = Lambda Lambda'``.
        u : ndarray, shape (k_free,)
        derivatives : bool

        Returns
        -------
        ClusterSums

        Raises
        ------
        numpy.linalg.LinAlgError
            If a covariance is not positive definite to rounding.
        """


class MomentBlock(LikelihoodBlock):
    """Clusters whose whitened cross-products are computed together."""

    clusters: IntArray
    weights: FloatArray

    @abstractmethod
    def at(self, u: FloatArray, *, derivatives: bool) -> Moments:
        """Moments at an unconstrained residual parameter, shape (k_free,)."""

    def sums(
        self,
        covariance: RandomCovariance,
        factor: FloatArray,
        u: FloatArray,
        *,
        derivatives: bool,
    ) -> ClusterSums:
        """Cluster sums at a point; see :meth:`LikelihoodBlock.sums`."""
        moments = self.at(u, derivatives=derivatives)
        return woodbury_sums(moments, self.weights, covariance, factor, derivatives)
