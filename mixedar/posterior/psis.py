"""
Importance weights whose tail is smoothed by a generalised Pareto distribution.

Vehtari, A., Simpson, D., Gelman, A., Yao, Y. and Gabry, J. (2024), Pareto smoothed
importance sampling, Journal of Machine Learning Research 25(72); Zhang, J. and
Stephens, M. A. (2009), A new and efficient estimation method for the generalized Pareto
distribution, Technometrics 51, 316-325.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from mixedar._types import FloatArray

#: Weights with a heavier tail are not used.
GOOD = 0.7


def pareto_k(log_weights: FloatArray) -> float:
    """Shape of the tail of importance weights; infinite if there is no tail."""
    return smoothed(log_weights)[1]


def smoothed(log_weights: FloatArray) -> tuple[FloatArray, float]:
    """
    Weights with the sum one, and the shape of their tail.

    Parameters
    ----------
    log_weights : ndarray, shape (n,)
        Up to a constant; ``-inf`` are zeros.

    Returns
    -------
    ndarray, shape (n,)
        Logarithms.
    float
    """
    logs = log_weights - log_weights.max()
    order = np.argsort(logs)
    n = int(np.isfinite(logs).sum())
    tail = int(min(0.2 * n, 3.0 * np.sqrt(n)))
    if tail < 5:
        return np.asarray(logs - logsumexp(logs)), np.inf
    largest = order[-tail:]
    cut = np.exp(logs[order[-tail - 1]])
    x = np.exp(logs[largest]) - cut
    inside = x > 0.0
    if inside.sum() < 5:
        return np.asarray(logs - logsumexp(logs)), -np.inf
    shape, scale = _pareto(x[inside])
    if np.isfinite(shape):
        at = (np.arange(len(x)) + 0.5) / len(x)
        fitted = -np.log1p(-at) if shape == 0.0 else np.expm1(-shape * np.log1p(-at))
        fitted = scale * (fitted if shape == 0.0 else fitted / shape)
        logs = logs.copy()
        logs[largest] = np.minimum(np.log(cut + fitted), 0.0)
    return np.asarray(logs - logsumexp(logs)), shape


def _pareto(x: FloatArray) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto distribution of sorted values."""
    m = 30 + int(np.sqrt(len(x)))
    b = 1.0 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))
    b = b / (3.0 * x[int(len(x) / 4 + 0.5) - 1]) + 1.0 / x[-1]
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        fit = len(x) * (np.log(-b / k) - k - 1.0)
    fit = np.where(np.isfinite(fit), fit, -np.inf)
    weights = np.exp(fit - logsumexp(fit))
    best = float((b * weights).sum())
    shape = float(np.log1p(-best * x).mean())
    scale = -shape / best
    return (len(x) * shape + 5.0) / (len(x) + 10.0), scale
