"""Autocorrelations by partial ones, against Yule and Walker's equations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import solve_toeplitz

from mixedar.numeric.correlations import by_partial


@pytest.mark.parametrize("n", [1, 2, 7])
def test_partial_correlations_are_last_coefficients(n: int) -> None:
    partial = np.random.default_rng(n).uniform(-0.9, 0.9, size=n)
    rho = by_partial(partial).value
    for k in range(1, n + 1):
        coefficients = solve_toeplitz(np.append(1.0, rho[: k - 1]), rho[:k])
        np.testing.assert_allclose(coefficients[-1], partial[k - 1], rtol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_derivatives_are_limits_of_differences(n: int) -> None:
    rng = np.random.default_rng(n)
    partial, weights = rng.uniform(-0.9, 0.9, size=n), rng.normal(size=n)
    found, h = by_partial(partial), 1e-5
    up, down = ([by_partial(partial + s * h * e) for e in np.eye(n)] for s in (1, -1))
    for k in range(n):
        slope = (up[k].value - down[k].value) / (2.0 * h)
        bend = (up[k].first - down[k].first) / (2.0 * h)
        np.testing.assert_allclose(found.first[k], slope, atol=1e-9)
        np.testing.assert_allclose(found.along(weights)[k], bend @ weights, atol=1e-8)
