"""
Predictions from the dense Gaussian distribution of old and new rows together.

``y`` has mean ``X beta`` and covariance ``V``.  A target ``t = x beta + w`` with
``cov(w, y) = c`` and ``var(w) = v`` has the best linear unbiased predictor
``x b + c V^-1 (y - X b)``, ``b`` by generalised least squares, whose error has the
variance ``v - c V^-1 c' + d (X'V^-1 X)^-1 d'`` with ``d = x - c V^-1 X``
(Goldberger, 1962).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from helpers.oracle.model import Array, Parameters, Problem, covariance, stacked


@dataclass(frozen=True)
class Predictions:
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


def predict(old: Problem, new: Problem, params: Parameters) -> Predictions:
    """Predict new rows; the ``y`` of `new` is not looked at."""
    joint = stacked(old, new)
    total = covariance(joint, params)
    random = covariance(joint, replace(params, sigma2=0.0))
    return predict_from(old.y, old.X, new.X, random, total - random)


def predict_from(
    y: Array, X: Array, X_new: Array, random: Array, residual: Array
) -> Predictions:
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
    return Predictions(*population, *group, *forecast, kriging, np.diag(total)[n:])
