"""
Uncertainty of predictions that comes from the covariance parameters.

The variance of the error at the estimated ``theta`` takes ``theta`` as known.
Kackar and Harville add the variance that its estimation brings, to first order
``g'Wg`` with the gradient ``g`` of the prediction by ``theta`` and the covariance
``W`` of the estimates, here the inverse of the observed information; with the
gradient at the data it is what TMB's delta method gives.  Because the first part
is too small on average by about the same amount, Prasad and Rao add it twice.

``theta`` are the optimiser's coordinates, in which a singular covariance is an
ordinary point.  The gradient is taken along the principal axes of ``W``, by
central differences of steps of a thousandth of a standard error.

References
----------
Kackar, R. N. and Harville, D. A. (1984), Approximations for standard errors of
estimators of fixed and random effects in mixed linear models, Journal of the
American Statistical Association 79, 853-862.

Prasad, N. G. N. and Rao, J. N. K. (1990), The estimation of the mean squared
error of small-area estimators, Journal of the American Statistical Association
85, 163-171.

Kass, R. E. and Steffey, D. (1989), Approximate Bayesian inference in
conditionally independent hierarchical models, Journal of the American
Statistical Association 84, 717-726.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.exceptions import NotComputedError
from mixedar.inference.surface import problem_of
from mixedar.prediction.conditional import Point
from mixedar.problem import LikelihoodProblem

__all__ = ["theta_variance"]

FloatArray = NDArray[np.float64]

_STEP = 1e-3
# Directions with less information than this, relative to the largest, have none.
_FLAT = 1e-11


def theta_variance(fit: Any, means: Callable[[Point], FloatArray]) -> FloatArray:
    """
    Variance of predictions from the estimation of the covariance parameters.

    Parameters
    ----------
    fit : MixedLMARResults
    means : callable
        Predictions at a point.

    Returns
    -------
    ndarray, shape (k,)

    Raises
    ------
    NotComputedError
        If the data were removed, or the estimate is no maximum.
    """
    problem, theta = problem_of(fit), fit._theta
    if len(theta) == 0:
        return np.zeros_like(means(_point(problem, theta)))
    total: Any = 0.0
    for axis in _axes(problem, theta).T:
        ahead = means(_point(problem, theta + _STEP * axis))
        behind = means(_point(problem, theta - _STEP * axis))
        total = total + ((ahead - behind) / (2.0 * _STEP)) ** 2
    return np.asarray(total)


def _point(problem: LikelihoodProblem, theta: FloatArray) -> Point:
    """Parameters at ``theta``, with the fixed effects that belong to it."""
    inner = problem.profile_at(theta, derivatives=False).beta
    combined = problem.w_map @ np.append(-inner, 1.0)
    beta = -combined[:-1] / combined[-1]
    return Point(beta, problem.split(theta)[1], problem.factor(theta))


def _axes(problem: LikelihoodProblem, theta: FloatArray) -> FloatArray:
    """``D`` with ``D D'`` the covariance of the estimates, shape (k, r)."""
    information = -problem.evaluate(theta, derivatives=True).hessian
    size = np.sqrt(np.abs(np.diag(information)))
    size[size == 0.0] = 1.0
    values, vectors = np.linalg.eigh(information / np.outer(size, size))
    largest = max(float(values[-1]), _FLAT)
    if not np.isfinite(values).all() or values[0] < -1e-6 * largest:
        raise NotComputedError(
            "the information of the covariance parameters is not positive definite: "
            "the fit is not at a maximum; use include_theta=False"
        )
    keep = values > _FLAT * largest
    return vectors[:, keep] / size[:, None] / np.sqrt(values[keep])
