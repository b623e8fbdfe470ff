"""
Estimates on the user's scale from the coordinates of the search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixedar._types import FloatArray
from mixedar.engine.likelihood import Evaluation
from mixedar.engine.problem import LikelihoodProblem

# Relative to the residual variance: a random-effects direction that adds less
# is zero for every purpose.
_SINGULAR = 1e-8


@dataclass(frozen=True)
class Estimate:
    """
    A point of the parameter space on the user's scale.

    Attributes
    ----------
    theta : ndarray
        The optimiser's coordinates.
    llf : float
    beta : ndarray, shape (p,)
    cov_beta : ndarray, shape (p, p)
        ``scale (X'H^-1 X)^-1``.
    scale : float
        Residual variance.
    psi : ndarray, shape (q, q)
        Random-effects covariance divided by `scale`, all columns.
    cov_values : ndarray, shape (k_cov,)
        Lower triangle of the unstructured block, then the variance
        components, on the scale of the data.
    residual_params : ndarray, shape (k_params,)
    cov_theta : ndarray, shape (k_cov + k_params + 1,) squared
        Covariance of `cov_values`, `residual_params` and `scale` from the
        observed information; NaN where it does not exist.
    singular : bool
        Whether the random-effects covariance is singular.
    residual_at_boundary : bool
    """

    theta: FloatArray
    llf: float
    beta: FloatArray
    cov_beta: FloatArray
    scale: float
    psi: FloatArray
    cov_values: FloatArray
    residual_params: FloatArray
    cov_theta: FloatArray
    singular: bool
    residual_at_boundary: bool


def estimate_at(problem: LikelihoodProblem, theta: FloatArray) -> Estimate:
    """
    The user's parameters and their covariance at a point.

    Parameters
    ----------
    problem : LikelihoodProblem
    theta : ndarray, shape (k_theta,)

    Returns
    -------
    Estimate
    """
    lam, u = problem.split(theta)
    # a standard deviation that is zero to rounding is zero
    theta = np.concatenate([np.where(np.abs(lam) < 1e-7, 0.0, lam), u])
    lam, u = problem.split(theta)
    point = problem.profile_at(theta, derivatives=True)
    cov = problem.covariance
    w_map, p = problem.w_map, len(problem.w_map) - 1
    # W map = [X y] w_map:  y = X beta  <=>  w_map [-beta_int; 1] ~ [-beta; 1]
    combined = w_map @ np.append(-point.beta, 1.0)
    beta = -combined[:p] / combined[p]
    scale = point.scale / combined[p] ** 2
    cov_beta = w_map[:p, :p] @ point.sxx_inverse @ w_map[:p, :p].T * scale
    # a direction is zero or not beside the residuals that there are, not by sigma
    inner = cov.factor(lam)
    outer = problem.z_map @ problem.factor(theta)
    psi = outer @ outer.T
    params = problem.structure.from_unconstrained(u)
    spectrum = np.linalg.eigvalsh(inner @ inner.T) if cov.order else np.ones(1)
    singular = bool(spectrum.min() < _SINGULAR)
    to_user = problem.value_map()
    relative = to_user @ problem.values(theta)
    cov_theta = _covariance_of_estimates(
        problem, theta, point, scale, to_user, relative, u
    )
    cov_theta = (cov_theta + cov_theta.T) / 2.0
    if singular:
        k = problem.covariance.k_cov
        cov_theta[:k] = np.nan
        cov_theta[:, :k] = np.nan
    at_end = bool(problem.structure.k_free) and problem.structure.at_boundary(params)
    if at_end:  # no standard error exists at the end of a parameter's range
        cov_theta[problem.covariance.k_cov : -1] = np.nan
        cov_theta[:, problem.covariance.k_cov : -1] = np.nan
    return Estimate(
        theta=theta,
        llf=point.llf,
        beta=beta,
        cov_beta=(cov_beta + cov_beta.T) / 2.0,
        scale=scale,
        psi=psi,
        cov_values=scale * relative,
        residual_params=params,
        cov_theta=cov_theta,
        singular=singular,
        residual_at_boundary=at_end,
    )


def _covariance_of_estimates(
    problem: LikelihoodProblem,
    theta: FloatArray,
    point: Evaluation,
    scale: float,
    to_user: FloatArray,
    relative: FloatArray,
    u: FloatArray,
) -> FloatArray:
    """Inverse observed information, mapped to the user's parameters."""
    k_cov, k_params = problem.covariance.k_cov, problem.structure.k_params
    p = len(problem.w_map) - 1
    df = problem.n - p if problem.reml else problem.n
    jacobian, curvature = problem.chain(theta, point.gradient)
    # information of (theta, log sigma2): the residual variance is no
    # longer profiled out; rss_gradient / scale = d2(-llf) / dv dlog(sigma2)
    slope = jacobian.T @ (point.rss_gradient / point.scale)
    k = len(theta)
    information = np.empty((k + 1, k + 1))
    information[:k, :k] = -(jacobian.T @ point.hessian @ jacobian + curvature)
    information[:k, :k] += np.outer(slope, slope) / (2.0 * df)
    information[:k, k] = information[k, :k] = -0.5 * slope
    information[k, k] = 0.5 * df
    to_params = np.zeros((k_cov + k_params + 1, k + 1))
    to_params[:k_cov, :k] = scale * to_user @ jacobian[:k_cov]
    to_params[:k_cov, k] = scale * relative
    if problem.structure.k_free:
        to_params[k_cov : k_cov + k_params, problem.k_cov_free : k] = (
            problem.structure.natural(u).first.T
        )
    to_params[-1, k] = scale
    values, vectors = np.linalg.eigh(information)
    floor = 1e-12 * max(values.max(), 1.0)
    if values.min() < -1e-6 * max(values.max(), 1.0):
        return np.full((k_cov + k_params + 1,) * 2, np.nan)
    # directions without information belong to a singular covariance;
    # whatever depends on them has no standard error
    keep = values > floor
    lost = np.abs(to_params @ vectors[:, ~keep]).max(axis=1, initial=0.0)
    root = to_params @ (vectors[:, keep] / np.sqrt(values[keep]))
    out = root @ root.T
    size = np.abs(to_params).max(axis=1)
    undefined = lost > 1e-6 * np.where(size > 0.0, size, 1.0)
    out[undefined] = np.nan
    out[:, undefined] = np.nan
    return out
