"""Exploring densities whose integrals and moments are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mixedar._types import FloatArray
from mixedar.exceptions import NotComputedError
from mixedar.posterior.chains import (
    differential_evolution,
    effective_sizes,
    r_hat,
)
from mixedar.posterior.explore import Draws, explore
from mixedar.posterior.psis import pareto_k, smoothed
from mixedar.posterior.weighted import Density, integral


def quiet(text: str) -> None:
    pass


def check_integral(density: Density, found: Draws) -> None:
    """Compare the integral of a normalised density with one."""
    assert found.proposal is not None
    log, error = integral(density, found.proposal, 8000)
    assert abs(log) < 4.0 * error


def test_a_curved_ridge_is_explored() -> None:
    def banana(z: FloatArray) -> FloatArray:
        first = stats.norm.logpdf(z[:, 0], 0.0, 2.0)
        return np.asarray(first + stats.norm.logpdf(z[:, 1] - z[:, 0] ** 2, 0.0, 0.5))

    found = explore(banana, [np.zeros(2)], 8000, np.random.default_rng(1), quiet)
    check_integral(banana, found)
    assert found.pareto_k < 0.7
    error = 2.0 / np.sqrt(found.bulk[0])
    assert abs(found.z[:, 0].mean()) < 4.0 * error
    assert found.z[:, 0].std() == pytest.approx(2.0, rel=0.05)


def test_two_modes_have_their_shares() -> None:
    def two(z: FloatArray) -> FloatArray:
        parts = [
            np.log(share) + stats.norm.logpdf(z, at, 0.3).sum(axis=1)
            for share, at in ((0.3, -2.0), (0.7, 2.0))
        ]
        return np.asarray(np.logaddexp(*parts))

    starts = [np.full(3, -2.0), np.full(3, 2.0)]
    found = explore(two, starts, 5000, np.random.default_rng(1), quiet)
    assert (found.z[:, 0] > 0.0).mean() == pytest.approx(0.7, abs=0.03)
    check_integral(two, found)


def test_tails_of_weights() -> None:
    rng = np.random.default_rng(1)
    logs = -0.5 * np.log(rng.random(4000))  # Pareto with shape 1 / 2
    assert pareto_k(logs) == pytest.approx(0.5, abs=0.15)
    weights, shape = smoothed(logs)
    assert np.exp(weights).sum() == pytest.approx(1.0)
    assert shape == pareto_k(logs)
    assert pareto_k(rng.random(4000)) < 0.3


def test_chains_that_disagree_are_told() -> None:
    rng = np.random.default_rng(1)
    good = rng.normal(size=(400, 8, 1))
    assert r_hat(good)[0] < 1.01
    assert effective_sizes(good)[0] > 2000
    assert r_hat(good + np.arange(8)[:, None])[0] > 1.5
    slow = np.empty((2000, 4, 1))
    slow[0] = 0.0
    for t in range(1, 2000):
        slow[t] = 0.9 * slow[t - 1] + rng.normal(size=(4, 1))
    # of an AR(1) sequence n (1 - rho) / (1 + rho)
    assert effective_sizes(slow)[0] == pytest.approx(8000 / 19, rel=0.3)


def test_chains_find_a_normal_distribution() -> None:
    rng = np.random.default_rng(1)

    def normal(z: FloatArray) -> FloatArray:
        return np.asarray(stats.norm.logpdf(z, [1.0, -2.0], [0.5, 3.0]).sum(axis=1))

    kept = differential_evolution(normal, rng.normal(size=(500, 2)), 60, 1500, rng)
    assert kept.shape == (1500, 60, 2)
    assert r_hat(kept).max() < 1.02
    flat = kept.reshape(-1, 2)
    np.testing.assert_allclose(flat.mean(axis=0), [1.0, -2.0], atol=0.3)
    np.testing.assert_allclose(flat.std(axis=0), [0.5, 3.0], rtol=0.1)


def test_draws_are_worth_what_their_means_vary() -> None:
    # a heavy weight is drawn often: means of draws vary more than independent ones'
    def skewed(z: FloatArray) -> FloatArray:
        return np.asarray(
            stats.expon.logpdf(np.exp(z[:, 0])) + z[:, 0] + stats.norm.logpdf(z[:, 1])
        )

    means, worth = [], []
    for seed in range(60):
        stream = np.random.default_rng(seed)
        found = explore(skewed, [np.zeros(2)], 400, stream, quiet, dear=True)
        means.append(found.z.mean(axis=0))
        worth.append(found.bulk)
    sizes = np.array([np.pi**2 / 6.0, 1.0]) / np.var(means, axis=0)
    np.testing.assert_allclose(np.mean(worth, axis=0), sizes, rtol=0.5)


def test_enough_points_are_drawn_for_the_worst_parameter() -> None:
    # a funnel: the tails of its neck are what points lack
    def funnel(z: FloatArray) -> FloatArray:
        neck = stats.norm.logpdf(z[:, 0], 0.0, 1.5)
        rest = stats.norm.logpdf(z[:, 1:], 0.0, np.exp(z[:, :1] / 2)).sum(axis=1)
        return np.asarray(neck + rest)

    found = explore(funnel, [np.zeros(3)], 2000, np.random.default_rng(2), quiet)
    assert min(found.bulk.min(), found.tail.min()) > 1900
    check_integral(funnel, found)


def test_a_density_that_is_nowhere_is_an_error() -> None:
    def nowhere(z: FloatArray) -> FloatArray:
        return np.full(len(z), -np.inf)

    with pytest.raises(NotComputedError, match="priors"):
        explore(nowhere, [np.zeros(2)], 100, np.random.default_rng(1), quiet)


def test_few_points_suffice_where_they_cost_much() -> None:
    scale = np.geomspace(0.1, 10.0, 12)

    def skewed(z: FloatArray) -> FloatArray:
        x = z / scale
        return np.asarray((2.0 * x - np.exp(x)).sum(axis=1))  # logarithms of gammas

    start = [np.zeros(12)]
    found = explore(skewed, start, 2000, np.random.default_rng(3), quiet, dear=True)
    assert min(found.bulk.min(), found.tail.min()) > 1500
    assert found.evaluations < 16_000


def test_what_neither_points_nor_chains_explore_is_an_error() -> None:
    def funnel(z: FloatArray) -> FloatArray:
        neck = stats.norm.logpdf(z[:, 0], 0.0, 4.0)
        rest = stats.norm.logpdf(z[:, 1:], 0.0, np.exp(z[:, :1])).sum(axis=1)
        return np.asarray(neck + rest)

    with pytest.raises(NotComputedError, match=r"R-hat is .* narrower priors"):
        explore(funnel, [np.zeros(10)], 50, np.random.default_rng(1), quiet, dear=True)


def test_the_integral_is_not_too_small_in_many_dimensions() -> None:
    # proposals are fitted to points that weigh themselves: others have to tell
    gaps = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        root = np.linalg.cholesky(np.cov(rng.normal(size=(10, 40))))

        def normal(z: FloatArray, root: FloatArray = root) -> FloatArray:
            white = np.linalg.solve(root, z.T).T
            logdet = np.log(np.diag(root)).sum()
            return np.asarray(stats.norm.logpdf(white).sum(axis=1) - logdet)

        found = explore(normal, [np.zeros(10)], 500, rng, quiet, dear=True)
        assert found.proposal is not None
        log, error = integral(normal, found.proposal, 2000)
        gaps.append(log / error)
    assert abs(np.mean(gaps)) < 4.0 / np.sqrt(len(gaps))
