"""
Estimates on the user's scale from the coordinates of the search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mixedar._types import FloatArray
from mixedar.engine.likelihood import profile
from mixedar.engine.problem import LikelihoodProblem
from mixedar.numeric.autodiff import Jet, embed, substitute

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
    sums = problem.sums(theta, derivatives=True)
    point = profile(sums, problem.n, reml=problem.reml, shift=problem.shift)
    w_map, p = problem.w_map, len(problem.w_map) - 1
    # W map = [X y] w_map:  y = X beta  <=>  w_map [-beta_int; 1] ~ [-beta; 1]
    combined = w_map @ np.append(-point.beta, 1.0)
    scale = point.scale / combined[p] ** 2
    cov_beta = w_map[:p, :p] @ point.sxx_inverse @ w_map[:p, :p].T * scale
    cov, k = problem.covariance, len(theta)
    # a direction is zero or not beside the residuals that there are, not by sigma
    inner = cov.factor(problem.split(theta)[0])
    singular = bool(cov.order) and bool(
        np.linalg.eigvalsh(inner @ inner.T)[0] < _SINGULAR
    )
    outer = problem.z_map @ problem.factor(theta)
    natural = problem.structure.natural(u)
    at_end = bool(problem.structure.k_free) and problem.structure.at_boundary(
        natural.value
    )
    entries = problem.entries(theta)
    to_user = scale * problem.value_map()
    cov_values = to_user @ entries.value
    # the user's parameters by theta and the logarithm of the residual variance
    jacobian = np.zeros((cov.k_cov + len(natural) + 1, k + 1))
    jacobian[: cov.k_cov, :k] = to_user @ entries.first.T
    jacobian[: cov.k_cov, k] = cov_values
    jacobian[cov.k_cov : -1, problem.k_cov_free : k] = natural.first.T
    jacobian[-1, k] = scale
    free = profile(sums, problem.n, reml=problem.reml, log_scale=math.log(point.scale))
    by_v = Jet(free.llf, free.gradient, free.hessian)
    information = -substitute(by_v, embed(entries, 0, k + 1)).second
    cov_theta = _delta_method(information, jacobian)
    # no standard error exists where parameters are at the end of their range
    lost = np.zeros(len(cov_theta), dtype=bool)
    lost[: cov.k_cov] = singular
    lost[cov.k_cov : -1] = at_end
    cov_theta[lost] = np.nan
    cov_theta[:, lost] = np.nan
    return Estimate(
        theta=theta,
        llf=point.llf,
        beta=-combined[:p] / combined[p],
        cov_beta=(cov_beta + cov_beta.T) / 2.0,
        scale=scale,
        psi=outer @ outer.T,
        cov_values=cov_values,
        residual_params=natural.value,
        cov_theta=cov_theta,
        singular=singular,
        residual_at_boundary=at_end,
    )


def _delta_method(information: FloatArray, jacobian: FloatArray) -> FloatArray:
    """Covariance of parameters from the information on others, NaN without any."""
    values, vectors = np.linalg.eigh(information)
    floor = 1e-12 * max(values.max(), 1.0)
    if values.min() < -1e-6 * max(values.max(), 1.0):
        return np.full((len(jacobian), len(jacobian)), np.nan)
    # directions without information belong to a singular covariance;
    # whatever depends on them has no standard error
    keep = values > floor
    lost = np.abs(jacobian @ vectors[:, ~keep]).max(axis=1, initial=0.0)
    root = jacobian @ (vectors[:, keep] / np.sqrt(values[keep]))
    out = root @ root.T
    size = np.abs(jacobian).max(axis=1)
    undefined = lost > 1e-6 * np.where(size > 0.0, size, 1.0)
    out[undefined] = np.nan
    out[:, undefined] = np.nan
    return (out + out.T) / 2.0
