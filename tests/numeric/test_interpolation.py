"""Functions at many numbers from their values at few."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import kv

from mixedar.numeric.interpolation import by_logarithm


@pytest.mark.parametrize("smoothness", [0.1, 2.3])
def test_bessel_functions_to_the_last_digits(smoothness):
    rng = np.random.default_rng(1)
    x = np.exp(rng.uniform(np.log(1e-6), np.log(300.0), 4000))
    asked = []

    def functions(few):
        asked.append(len(few))
        return np.array([few**smoothness * kv(smoothness, few), np.exp(-few)])

    found = by_logarithm(functions, x)
    expected = functions(x)
    np.testing.assert_allclose(found, expected, atol=1e-13 * expected.max())
    assert asked[0] < 1000
