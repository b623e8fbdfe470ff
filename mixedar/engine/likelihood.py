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
from scipy.linalg.lapack import dpotrf, dtrtri

from mixedar._types import FloatArray
from mixedar.engine.blocks import LikelihoodBlock
from mixedar.engine.blocks.base import ClusterSums
from mixedar.engine.covariance import RandomCovariance


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
    blocks: Sequence[LikelihoodBlock],
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
    blocks : sequence of LikelihoodBlock
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
    first, *others = (
        block.sums(covariance, factor, u, derivatives=derivatives) for block in blocks
    )
    for part in others:
        first = first + part
    return first


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
    # LAPACK itself: numpy's checks cost more than so small a factorisation
    root, failed = dpotrf(s, lower=1, clean=1)
    if failed or not math.isfinite(root[p, p]):
        raise np.linalg.LinAlgError("X'H^-1 X is singular to rounding")
    rss = float(root[p, p] ** 2)  # the last pivot
    inverse_root = dtrtri(root[:p, :p], lower=1)[0] if p else root[:0, :0]
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
    k = len(sums.d1)
    # d deviance = d1 + <s1, weight>: the residual and the REML part in one
    weight = np.outer(e, e) / scale
    if reml:
        weight[:p, :p] += sxx_inverse
    se = sums.s1 @ e  # (k, p + 1)
    rss1 = se @ e
    deviance1 = sums.d1 + sums.s1.reshape(k, -1) @ weight.ravel()
    cross = se[:, :p] @ inverse_root.T
    profiled = 2.0 * (cross @ cross.T) + np.outer(rss1, rss1) / rss
    deviance2 = sums.second(weight) - profiled / scale
    if reml and p:
        inner = (inverse_root @ sums.s1[:, :p, :p] @ inverse_root.T).reshape(k, -1)
        deviance2 -= inner @ inner.T
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
    rss2 = np.zeros_like(second)
    rss2[:p, :p] = 2.0 * sxx
    rss2[p:, :p] = -2.0 * se[:, :p]
    rss2[:p, p:] = rss2[p:, :p].T
    first += rss1 / scale
    second += rss2 / scale - np.outer(rss1, rss1) / (scale * rss)
    first[p:] += sums.d1
    weight = np.outer(e, e) / scale
    if reml and p:
        inverse = np.linalg.inv(sxx)
        deviance += float(np.linalg.slogdet(sxx)[1])
        sxx1 = sums.s1[:, :p, :p]
        inner = inverse @ sxx1
        first[p:] += np.einsum("kij,ij->k", sxx1, inverse)
        second[p:, p:] -= np.einsum("kij,lji->kl", inner, inner)
        weight[:p, :p] += inverse
    second[p:, p:] += sums.second(weight)
    return -0.5 * deviance, -0.5 * first, -0.5 * second
