"""The covariance of random effects and the coordinates of its factor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mixedar.engine.covariance import RandomCovariance, TermLayout

LAYOUTS = {
    "slopes": RandomCovariance.free(3),
    "components": RandomCovariance.free(2, (3, 1), (TermLayout(2), TermLayout(1, 4))),
    "compound": RandomCovariance.free(3, (2,), compound=True),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_one_set_of_coordinates_stands_for_each_covariance(name: str) -> None:
    layout = LAYOUTS[name]
    rng = np.random.default_rng(4)
    for _ in range(20):
        theta = rng.normal(size=layout.k_cov)
        alike = layout.unsigned(theta)
        np.testing.assert_allclose(layout.values(alike), layout.values(theta))
        np.testing.assert_allclose(layout.unsigned(-theta), alike)
        factors = layout.factor(alike), *layout.term_factors(alike)
        assert min(np.diagonal(factor).min() for factor in factors) >= 0.0


def test_what_is_held_keeps_its_sign() -> None:
    fixed = np.array([np.nan, -0.5, np.nan, np.nan])
    layout = replace(RandomCovariance.free(2, (1,)), fixed=fixed)
    alike = layout.unsigned(np.array([-1.0, -2.0, -3.0]))
    np.testing.assert_array_equal(alike, [-1.0, 2.0, 3.0])
