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
from functools import lru_cache

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtri

from mixedar._types import FloatArray
from mixedar.engine.blocks import LikelihoodBlock
from mixedar.engine.blocks.base import ClusterSums, ParameterPoint
from mixedar.engine.covariance import RandomCovariance


@dataclass(frozen=True)
class Evaluation:
    """
    The profiled log-likelihood at one point.

    Attributes
    ----------
    llf : float
        Log-likelihood, or restricted log-likelihood, with all constants.
    root : ndarray, shape (p + 1, p + 1)
        Inverse of the lower Cholesky factor of ``S``.
    scale : float
        Residual variance: RSS / (N - p) under REML and RSS / N under ML, unless
        another one was given.
    gradient : ndarray, shape (k,)
    hessian : ndarray, shape (k, k)
        Derivatives of `llf` by ``v``.
    """

    llf: float
    root: FloatArray
    scale: float
    gradient: FloatArray
    hessian: FloatArray

    @property
    def beta(self) -> FloatArray:
        """Generalised least squares estimate, shape (p,)."""
        return self.root[-1, :-1] / -self.root[-1, -1]

    @property
    def sxx_inverse(self) -> FloatArray:
        """``(X'H^-1 X)^-1``; times `scale` it is the covariance of `beta`."""
        x = self.root[:-1, :-1]
        return x.T @ x


def cluster_sums(
    blocks: Sequence[LikelihoodBlock],
    covariance: RandomCovariance,
    factor: FloatArray,
    u: FloatArray,
    term_factors: tuple[FloatArray, ...] = (),
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
    term_factors : tuple of ndarray
        ``Lambda`` of one level of each further term.
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
    point = ParameterPoint(covariance, factor, u, term_factors)
    first, *others = (block.sums(point, derivatives=derivatives) for block in blocks)
    for part in others:
        first = first + part
    return first


def profile(
    sums: ClusterSums,
    n: int,
    *,
    reml: bool,
    shift: float = 0.0,
    log_scale: float | None = None,
) -> Evaluation:
    """
    Profile the fixed effects out, and the residual variance unless it is given.

    Parameters
    ----------
    sums : ClusterSums
    n : int
        Number of observations.
    reml : bool
        Restricted likelihood.
    shift : float
        Added to the log-likelihood, for scaled designs.
    log_scale : float, optional
        Logarithm of the residual variance.  With it this logarithm is the last
        parameter of the derivatives.

    Returns
    -------
    Evaluation

    Raises
    ------
    numpy.linalg.LinAlgError
        If ``X'H^-1 X`` is singular to rounding, or the variance is no number.
    """
    s = sums.s
    p = len(s) - 1
    df = n - p if reml else n
    if log_scale is not None and not abs(log_scale) < 690.0:
        raise np.linalg.LinAlgError("the residual variance over- or underflows")
    # LAPACK itself: numpy's checks cost more than so small a factorisation
    root, failed = dpotrf(s, lower=1, clean=1)
    if failed or not math.isfinite(root[p, p]):
        raise np.linalg.LinAlgError("X'H^-1 X is singular to rounding")
    rss = float(root[p, p] ** 2)  # the last pivot
    half = dtrtri(root, lower=1)[0]  # its last row is [-beta, 1] / sqrt(rss)
    scale = rss / df if log_scale is None else math.exp(log_scale)
    logs = df * (math.log(2.0 * math.pi) + math.log(scale)) + rss / scale
    if reml:
        logs += 2.0 * sum(map(math.log, root.diagonal()[:p].tolist()))
    llf = shift - 0.5 * (sums.d + logs)
    k, ratio = len(sums.d1), rss / scale
    if k == 0 and log_scale is None:
        none = np.empty(0)
        return Evaluation(llf, half, scale, none, np.empty((0, 0)))

    # d deviance = d1 + <s1, weight>: the residual and the REML part in one
    if log_scale is None:
        parts, on_diagonal, taken = _shares(p, float(df), reml)
    else:
        parts, on_diagonal, taken = _shares_at(p, ratio, reml, known=True)
    weight = half.T @ (half * parts[:, None])
    turned = (half @ sums.s1 @ half.T).reshape(k, (p + 1) ** 2)
    gradient = sums.d1 + turned @ on_diagonal
    hessian = sums.second(weight) - (turned * taken) @ turned.T
    if log_scale is not None:
        gradient = np.append(gradient, df - ratio)
        by_v, hessian = hessian, np.full((k + 1, k + 1), ratio)
        hessian[:k, :k] = by_v
        hessian[:k, k] = hessian[k, :k] = -ratio * turned[:, -1]
    return Evaluation(llf, half, scale, -0.5 * gradient, -0.5 * hessian)


def _shares_at(
    p: int, ratio: float, reml: bool, *, known: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Shares of the rows of ``S``, on the diagonal, and what profiling takes off.

    The latter for the variance, the coefficients, and under REML.
    """
    parts = np.full(p + 1, float(reml))
    parts[p] = ratio
    taken = np.full((p + 1, p + 1), ratio)
    taken[:p, :p] = float(reml)
    taken[p, p] = 0.0 if known else ratio
    return parts, np.diag(parts).ravel(), taken.ravel()


@lru_cache(maxsize=64)
def _shares(p: int, df: float, reml: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The same where the variance is profiled out: those of a problem."""
    return _shares_at(p, df, reml, known=False)


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
