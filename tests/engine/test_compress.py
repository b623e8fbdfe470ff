"""Pseudo-clusters stand for all clusters of a pattern, without loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.cluster_cases import (
    LAYOUTS,
    assert_same_sums,
    psi_of,
    sums_at,
)
from helpers.random_designs import random_design
from mixedar import AR1
from mixedar.engine.blocks import (
    likelihood_blocks,
    product_blocks,
)
from mixedar.engine.compress import ClusterRows, compress
from mixedar.engine.problem import LikelihoodProblem

Array = NDArray[Any]

both = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])


def uncompressed(model: Any) -> ClusterRows:
    data = model.arrays
    sort = data.grouped.sort
    return ClusterRows(
        sort(data.random_design),
        np.column_stack([sort(data.exog), sort(data.endog)]),
        data.grouped.gaps,
        data.grouped.offsets,
        np.ones(model.n_groups),
    )


@pytest.mark.parametrize("structure", ["ar1", "independent"])
@pytest.mark.parametrize(
    "kind",
    [
        {"q": 0, "balanced": True, "m": 60},
        {"q": 2, "balanced": True, "m": 60},
        {"q": 3, "balanced": True, "m": 60, "p": 1},
        {"q": 1, "m": 300},
        {"q": 2, "m": 60},
    ],
)
def test_compression_loses_nothing(kind: dict[str, Any], structure: str) -> None:
    model = random_design(31, structure=structure, **kind).model
    full, small = uncompressed(model), model.arrays.compressed
    if kind.get("balanced"):
        assert small.n_clusters < 20
    assert small.weights.sum() == full.weights.sum() == model.n_groups
    cov = model.arrays.layout()
    psi = psi_of(cov, cov.values(np.full(cov.k_cov, 0.6)))
    u = np.full(model.residual.k_free, 0.3)
    expected = sums_at(product_blocks(full, model.residual), cov, psi, u)
    for choose in (product_blocks, likelihood_blocks):
        assert_same_sums(sums_at(choose(small, model.residual), cov, psi, u), expected)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(1, 60),
    n_patterns=st.integers(1, 3),
    size=st.integers(1, 4),
    p=st.integers(0, 2),
)
def test_compression_of_a_few_patterns(
    seed: int, m: int, n_patterns: int, size: int, p: int
) -> None:
    rng = np.random.default_rng(seed)
    pattern = rng.integers(0, n_patterns, size=m)
    z = rng.normal(size=(n_patterns, size, 2))[pattern].reshape(-1, 2)
    gaps: Array = rng.integers(1, 4, size=(n_patterns, size)) * 1.0
    gaps[:, 0] = 0.0
    x, y = rng.normal(size=(m * size, p)), rng.normal(size=m * size)
    if p:
        x[:, 0] = 1.0
    offsets = np.arange(m + 1) * size
    full = ClusterRows(
        z, np.column_stack([x, y]), gaps[pattern].ravel(), offsets, np.ones(m)
    )
    small = compress(z, x, y, gaps[pattern].ravel(), offsets)
    assert small.n_clusters <= m
    cov = LAYOUTS["two"]
    psi = np.array([[1.0, 0.3], [0.3, 0.5]])
    u = np.array([-0.6])
    for rows in (small, full):
        assert (rows.offsets[1:] > rows.offsets[:-1]).all()
    expected = sums_at(product_blocks(full, AR1()), cov, psi, u)
    for choose in (product_blocks, likelihood_blocks):
        assert_same_sums(sums_at(choose(small, AR1()), cov, psi, u), expected)


def test_compression_of_large_and_small_columns() -> None:
    # columns of very different sizes, and one that is the same everywhere
    rng = np.random.default_rng(2)
    m, size = 400, 4
    x = np.column_stack(
        [
            np.ones(m * size),
            2000.0 + np.tile(np.arange(size), m),
            1e-7 * rng.normal(size=m * size),
            1e8 * rng.normal(size=m * size),
        ]
    )
    y = 1e5 + rng.normal(size=m * size)
    z = np.tile(np.column_stack([np.ones(size), 2000.0 + np.arange(size)]), (m, 1))
    gaps = np.tile([0.0, 1.0, 1.0, 1.0], m)
    offsets = np.arange(m + 1) * size
    full = ClusterRows(z, np.column_stack([x, y]), gaps, offsets, np.ones(m))
    small = compress(z, x, y, gaps, offsets)
    assert small.n_clusters < 30
    cov = LAYOUTS["two"]
    found = []
    for rows in (small, full):
        problem = LikelihoodProblem(rows, m * size, AR1(), cov, reml=True)
        theta = problem.theta_from(np.array([0.5, 0.1, 0.3]), np.array([0.4]))
        found.append(problem.evaluate(theta, derivatives=True))
    assert found[0].llf == pytest.approx(found[1].llf, abs=1e-6)
    # the sign of a column of the factor is a matter of taste
    np.testing.assert_allclose(
        np.abs(found[0].gradient), np.abs(found[1].gradient), rtol=1e-6, atol=1e-5
    )
