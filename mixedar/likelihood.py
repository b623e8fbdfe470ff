"""
The Gaussian (restricted) log-likelihood with first and second derivatives.

Model: ``y_i = X_i beta + Z_i b_i + e_i``, ``b_i ~ N(0, sigma2 Psi)``,
``e_i ~ N(0, sigma2 R_i)``, ``H_i = R_i + Z_i Psi Z_i'``.  With
``W_i = [X_i y_i]`` everything the likelihood needs is

    D = sum_i log|H_i|,    S = sum_i W_i' H_i^-1 W_i,

and their derivatives by the entries of ``Psi`` and by the residual
parameter.  ``beta`` and ``sigma2`` are profiled out (Lindstrom and Bates,
1988; Pinheiro and Bates, 2000, section 2.2), and REML's constant is the one
of nlme, lme4 and statsmodels, without ``log|X'X| / 2``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixedar.covariance import RandomCovariance
from mixedar.linalg import (
    apply,
    bmm,
    identity_plus,
    inverse_cholesky,
    multiply_right,
    trace_product,
)
from mixedar.moments import MomentBlock, Moments

__all__ = ["ClusterSums", "Evaluation", "cluster_sums", "joint", "profile"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ClusterSums:
    """
    ``D`` and ``S`` and their derivatives by ``v = (Psi entries, u)``.

    Attributes
    ----------
    d : float
    s : ndarray, shape (p + 1, p + 1)
    d1 : ndarray, shape (k,)
    s1 : ndarray, shape (k, p + 1, p + 1)
    d2 : ndarray, shape (k, k)
    s2 : ndarray, shape (k, k, p + 1, p + 1)
        The derivatives have length 0 when they were not asked for.
    """

    d: float
    s: FloatArray
    d1: FloatArray
    s1: FloatArray
    d2: FloatArray
    s2: FloatArray


@dataclass(frozen=True)
class Evaluation:
    """
    The profiled log-likelihood at one point.

    Attributes
    ----------
    llf : float
        Log-likelihood, or restricted log-likelihood, with all constants.
    beta : ndarray, shape (p,)
        Generalised least squares estimate.
    sxx_inverse : ndarray, shape (p, p)
        ``(X'H^-1 X)^-1``; times ``scale`` it is the covariance of `beta`.
    scale : float
        Residual variance, RSS / (N - p) under REML and RSS / N under ML.
    gradient : ndarray, shape (k,)
    hessian : ndarray, shape (k, k)
        Derivatives of `llf` by ``v``.
    rss_gradient : ndarray, shape (k,)
        Derivative of the weighted residual sum of squares.
    """

    llf: float
    beta: FloatArray
    sxx_inverse: FloatArray
    scale: float
    gradient: FloatArray
    hessian: FloatArray
    rss_gradient: FloatArray


def cluster_sums(
    blocks: Sequence[MomentBlock],
    covariance: RandomCovariance,
    factor: FloatArray,
    u: FloatArray,
    *,
    derivatives: bool,
) -> ClusterSums:
    """
    Sum ``log|H_i|`` and ``W_i' H_i^-1 W_i`` over the clusters.

    Parameters
    ----------
    blocks : sequence of MomentBlock
    covariance : RandomCovariance
    factor : ndarray, shape (q, q)
        ``Lambda`` with ``Psi = Lambda Lambda'``; it may be singular.
    u : ndarray, shape (k_free,)
        Unconstrained residual parameters.
    derivatives : bool
        Whether first and second derivatives are wanted.

    Returns
    -------
    ClusterSums

    Raises
    ------
    numpy.linalg.LinAlgError
        If the parameters are so extreme that ``H`` loses its definiteness.
    """
    total: ClusterSums | None = None
    for block in blocks:
        moments = block.at(u, derivatives=derivatives)
        part = _block_sums(moments, block.weights, covariance, factor, derivatives)
        if total is None:
            total = part
        else:
            total = ClusterSums(
                total.d + part.d,
                total.s + part.s,
                total.d1 + part.d1,
                total.s1 + part.s1,
                total.d2 + part.d2,
                total.s2 + part.s2,
            )
    assert total is not None
    return total


def _block_sums(
    moments: Moments,
    weights: FloatArray,
    covariance: RandomCovariance,
    factor: FloatArray,
    derivatives: bool,
) -> ClusterSums:
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
    s = moments.ww[0] - flat @ flat.T
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
    s1[:k_cov] = -(rows @ b.reshape(width, q * m).T).reshape(k_cov, width, width)
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
        product = j1.reshape(width, q * m) @ flat_effect.T
        s1[r] = moments.ww[1] - product - flat_effect @ zw1.reshape(width, q * m).T
        half = zw2 - 0.5 * apply(zz2, effect)
        product = half.reshape(width, q * m) @ flat_effect.T
        rj = apply(root, j1).reshape(width, q * m)
        s2[r, r] = moments.ww[2] - product - product.T - 2.0 * (rj @ rj.T)
        stack = np.concatenate([stack, -fj[None]])
    # d2S by (k, l) is B'E_k U E_l B and its transpose; with the residual
    # parameter -B'E_k F J
    product = rows @ stack.reshape(k * width, q * m).T
    product = product.reshape(k_cov, width, k, width).transpose(0, 2, 1, 3)
    product = product + product.transpose(0, 1, 3, 2)
    s2[:k_cov] = product
    if n_residual:
        s2[k_cov, :k_cov] = product[:, k_cov]
    return ClusterSums(d, s, d1, s1, d2, s2)


def _trace_products(
    u: FloatArray, weights: FloatArray, directions: FloatArray
) -> FloatArray:
    """``sum_m w_m tr(U_m E_k U_m E_l)``, shape (k, k)."""
    k, q, _ = directions.shape
    if q <= 8:
        flat = u.reshape(q * q, -1)
        products = ((flat * weights) @ flat.T).reshape(q, q, q, q)
        pairs = products.transpose(1, 2, 3, 0).reshape(q * q, q * q)
        rows = directions.reshape(k, q * q)
        return rows @ pairs @ rows.T
    ue = [multiply_right(u, direction) for direction in directions]
    out = np.empty((k, k))
    for i in range(k):
        for j in range(i + 1):
            out[i, j] = out[j, i] = trace_product(ue[i], ue[j]) @ weights
    return out


def profile(sums: ClusterSums, n: int, *, reml: bool, shift: float = 0.0) -> Evaluation:
    """
    Profile the fixed effects and the residual variance out.

    Parameters
    ----------
    sums : ClusterSums
    n : int
        Number of observations.
    reml : bool
        Restricted likelihood.
    shift : float
        Added to the log-likelihood, for scaled designs.

    Returns
    -------
    Evaluation

    Raises
    ------
    numpy.linalg.LinAlgError
        If ``X'H^-1 X`` is singular to rounding.
    """
    s = sums.s
    p = len(s) - 1
    df = n - p if reml else n
    root = np.linalg.cholesky(s)  # its last pivot is the square root of the RSS
    rss = float(root[p, p] ** 2)
    inverse_root = np.linalg.inv(root[:p, :p])
    sxx_inverse = inverse_root.T @ inverse_root
    beta = inverse_root.T @ root[p, :p]
    logdet_x = 2.0 * float(np.log(np.diagonal(root)[:p]).sum()) if reml else 0.0
    scale = rss / df
    llf = -0.5 * (sums.d + logdet_x + df * (1.0 + math.log(2.0 * math.pi * scale)))
    llf += shift
    if len(sums.d1) == 0:
        none = np.empty(0)
        return Evaluation(llf, beta, sxx_inverse, scale, none, np.empty((0, 0)), none)

    e = np.append(-beta, 1.0)
    se = sums.s1 @ e  # (k, p + 1)
    rss1 = se @ e
    deviance1 = sums.d1 + rss1 / scale
    rss2 = np.einsum("klij,i,j->kl", sums.s2, e, e, optimize=False)
    weighted = se[:, :p] @ inverse_root.T
    rss2 = rss2 - 2.0 * weighted @ weighted.T
    deviance2 = sums.d2 + rss2 / scale - np.outer(rss1, rss1) / (scale * rss)
    if reml and p and len(sums.d1):
        sxx1 = sums.s1[:, :p, :p]
        deviance1 = deviance1 + np.einsum("kij,ij->k", sxx1, sxx_inverse)
        inner = sxx_inverse @ sxx1
        deviance2 = (
            deviance2
            + np.einsum("klij,ij->kl", sums.s2[:, :, :p, :p], sxx_inverse)
            - np.einsum("kij,lji->kl", inner, inner)
        )
    return Evaluation(
        llf, beta, sxx_inverse, scale, -0.5 * deviance1, -0.5 * deviance2, rss1
    )


def joint(
    sums: ClusterSums, beta: FloatArray, n: int, *, reml: bool
) -> tuple[float, FloatArray, FloatArray]:
    """
    Log-likelihood at given fixed effects; only the residual variance profiled.

    Parameters
    ----------
    sums : ClusterSums
    beta : ndarray, shape (p,)
    n : int
        Number of observations.
    reml : bool

    Returns
    -------
    llf : float
    gradient : ndarray, shape (p + k,)
        By `beta` and by ``v``.
    hessian : ndarray, shape (p + k, p + k)
    """
    p = len(beta)
    df = n - p if reml else n
    e = np.append(-beta, 1.0)
    rss = float(e @ sums.s @ e)
    scale = rss / df
    sxx = sums.s[:p, :p]
    deviance = sums.d + df * (1.0 + np.log(2.0 * np.pi * scale))
    k = len(sums.d1)
    first, second = np.zeros(p + k), np.zeros((p + k, p + k))
    se = sums.s1 @ e
    rss1 = np.concatenate([-2.0 * (sums.s @ e)[:p], se @ e])
    rss2 = np.empty_like(second)
    rss2[:p, :p] = 2.0 * sxx
    rss2[p:, :p] = -2.0 * se[:, :p]
    rss2[:p, p:] = rss2[p:, :p].T
    rss2[p:, p:] = np.einsum("klij,i,j->kl", sums.s2, e, e)
    first += rss1 / scale
    second += rss2 / scale - np.outer(rss1, rss1) / (scale * rss)
    first[p:] += sums.d1
    second[p:, p:] += sums.d2
    if reml and p:
        inverse = np.linalg.inv(sxx)
        deviance += float(np.linalg.slogdet(sxx)[1])
        sxx1 = sums.s1[:, :p, :p]
        inner = inverse @ sxx1
        first[p:] += np.einsum("kij,ij->k", sxx1, inverse)
        second[p:, p:] += np.einsum(
            "klij,ij->kl", sums.s2[:, :, :p, :p], inverse
        ) - np.einsum("kij,lji->kl", inner, inner)
    return -0.5 * deviance, -0.5 * first, -0.5 * second
