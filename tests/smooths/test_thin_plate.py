"""Thin plate splines of many places, found without their matrix."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mixedar.smooths.basis import ThinPlate


@pytest.mark.parametrize("places", [300, 1500])
def test_span_of_the_largest_eigenvectors(places: int) -> None:
    rng = np.random.default_rng(places)
    x = rng.uniform(0.0, 9.0, places)[:, None]
    k = 8
    basis = ThinPlate(x, k)
    centred = np.sort(x - x.mean(axis=0), axis=0)
    kernel = cdist(centred, centred) ** 3 / 12.0
    values, vectors = np.linalg.eigh(kernel)
    kept = np.argsort(-np.abs(values))[:k]
    u, d = vectors[:, kept], values[kept]
    line = np.column_stack([np.ones(places), centred])
    null = np.linalg.svd(line.T @ u)[2][2:].T  # weights that sum to zero
    new = np.linspace(-2.0, 11.0, 50)[:, None]  # beyond the data too
    at = new - x.mean(axis=0)
    wanted = np.column_stack(
        [cdist(at, centred) ** 3 / 12.0 @ u @ null, np.ones(len(at)), at]
    )
    found = basis.columns(new)
    weights = np.linalg.lstsq(found, wanted, rcond=None)[0]
    np.testing.assert_allclose(found @ weights, wanted, rtol=1e-7, atol=1e-7)
    # and the penalty of these functions
    inner = null.T @ (d[:, None] * null)
    turned = weights[:, :-2].T @ basis.penalty @ weights[:, :-2]
    np.testing.assert_allclose(
        turned, inner, rtol=1e-6, atol=1e-8 * np.abs(inner).max()
    )


def test_own_columns_are_those_of_the_data() -> None:
    x = np.random.default_rng(2).normal(size=(400, 1))
    basis = ThinPlate(x, 6)
    first, again = basis.own_columns(x), basis.own_columns(x)
    np.testing.assert_allclose(first, again, rtol=1e-12)
    np.testing.assert_allclose(first, basis.columns(x), rtol=1e-12)
