"""
Predictions from the dense Gaussian distribution of old and new rows together.

``y`` has mean ``X beta`` and covariance ``V``.  A target ``t = x beta + w`` with
``cov(w, y) = c`` and ``var(w) = v`` has the best linear unbiased predictor
``x b + c V^-1 (y - X b)``, ``b`` by generalised least squares, whose error has the
variance ``v - c V^-1 c' + d (X'V^-1 X)^-1 d'`` with ``d = x - c V^-1 X``
(Goldberger, 1962).  Nothing here comes from the package.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers import oracle

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Dense:
    """
    Predictions of the new rows.

    Attributes
    ----------
    population, group, forecast : (k,) predictions
    population_var, group_var : (k,) error variances as predictions of X beta, and
        of X beta + Z b
    forecast_var : (k,) error variance as a prediction of an observation
    kriging_var : (k,) what remains of the residual variance given the residuals
    marginal_var : (k,) variance of an observation around X beta
    """

    population: Array
    population_var: Array
    group: Array
    group_var: Array
    forecast: Array
    forecast_var: Array
    kriging_var: Array
    marginal_var: Array


def stacked(old: oracle.Problem, new: oracle.Problem) -> oracle.Problem:
    """Both sets of rows in one problem."""

    def both(name: str) -> Any:
        one, other = getattr(old, name), getattr(new, name)
        return None if one is None else np.concatenate([one, other])

    return oracle.Problem(
        y=both("y"),
        X=both("X"),
        groups=both("groups"),
        Z=both("Z"),
        time=both("time"),
        series=both("series"),
        vc={name: np.concatenate([old.vc[name], new.vc[name]]) for name in old.vc},
    )


def covariance(problem: oracle.Problem, params: oracle.Parameters) -> Array:
    """The covariance of all rows."""
    out = np.zeros((len(problem.y),) * 2)
    for part in oracle._parts(problem, params):
        out[np.ix_(part.rows, part.rows)] = part.V
    return out


def predict(
    old: oracle.Problem, new: oracle.Problem, params: oracle.Parameters
) -> Dense:
    """Predict new rows; the ``y`` of `new` is not looked at."""
    joint = stacked(old, new)
    total = covariance(joint, params)
    random = covariance(joint, replace(params, sigma2=0.0))
    return conditional(old.y, old.X, new.X, random, total - random)


def conditional(
    y: Array, X: Array, X_new: Array, random: Array, residual: Array
) -> Dense:
    """
    Predict from matrices of all rows, the observed ones first.

    `random` and `residual` are the covariances of the random effects' part and of
    the residuals.
    """
    n = len(y)
    total = random + residual
    inverse = np.linalg.inv(total[:n, :n])
    phi = np.linalg.inv(X.T @ inverse @ X)
    beta = phi @ X.T @ inverse @ y
    r = y - X @ beta

    def target(c: Array, v: Array) -> tuple[Array, Array]:
        d = X_new - c @ inverse @ X
        mean = X_new @ beta + c @ inverse @ r
        known = ((c @ inverse) * c).sum(axis=1)
        return mean, v - known + ((d @ phi) * d).sum(axis=1)

    none = np.zeros((len(X_new), n))
    population = target(none, np.zeros(len(X_new)))
    group = target(random[n:, :n], np.diag(random)[n:])
    forecast = target(total[n:, :n], np.diag(total)[n:])
    cross = residual[n:, :n]
    weights = np.linalg.solve(residual[:n, :n], cross.T).T
    kriging = np.diag(residual)[n:] - (weights * cross).sum(axis=1)
    return Dense(*population, *group, *forecast, kriging, np.diag(total)[n:])
