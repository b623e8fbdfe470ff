"""
Information on the covariance parameters, on and off the boundary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.exceptions import NotComputedError
from mixedar.inference.surface import problem_of

__all__ = ["information_of"]

FloatArray = NDArray[np.float64]


def information_of(results: Any) -> FloatArray:
    """
    Information on covariances, components, residual parameters and ``scale``.

    Parameters
    ----------
    results : MixedLMARResults

    Returns
    -------
    ndarray, shape (k_cov + k_params + 1,) squared
        The observed one where it has an inverse, else the expected one.  Zero
        for parameters that are held; NaN where neither is known.
    """
    cov = np.asarray(results._modes[0][0].cov_theta)
    if not np.isfinite(cov).all():
        try:
            return _expected(results)
        except NotComputedError:
            return np.full_like(cov, np.nan)
    out = np.zeros_like(cov)
    used = np.flatnonzero(np.diag(cov) > 0.0)
    size = np.sqrt(np.diag(cov)[used])
    inner = np.linalg.inv(cov[np.ix_(used, used)] / np.outer(size, size))
    out[np.ix_(used, used)] = inner / np.outer(size, size)
    return (out + out.T) / 2.0


def _expected(results: Any) -> FloatArray:
    derivatives = results._precision_derivatives
    problem = problem_of(results)
    k_cov, k_params = problem.covariance.k_cov, problem.structure.k_params
    k = k_cov + k_params + 1
    where = list(range(k_cov))
    # a residual parameter that is held has no row among the derivatives
    if len(derivatives.expected) == k:
        where += range(k_cov, k_cov + k_params)
    where.append(k - 1)
    expected = derivatives.expected * np.outer(
        derivatives.estimated, derivatives.estimated
    )
    to_inner = np.zeros((len(where), k))
    to_inner[:k_cov, :k_cov] = np.linalg.inv(problem.value_map()) / results.scale
    for row, column in enumerate(where[k_cov:-1], start=k_cov):
        to_inner[row, column] = 1.0
    to_inner[-1, -1] = 1.0 / results.scale
    return np.asarray(to_inner.T @ expected @ to_inner)
