"""The best maximum is found, on flat likelihoods with several of them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import optimize

from helpers import oracle
from helpers.simulated import BIMODAL, build, few_groups, fit, simulate
from mixedar import AR1, MixedLMAR
from mixedar.engine.problem import LikelihoodProblem
from mixedar.exceptions import BoundaryWarning

Array = NDArray[np.float64]


def small_set(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng([77, seed])
    return simulate(
        seed=1000 + seed,
        m=int(rng.integers(15, 41)),
        size=int(rng.integers(4, 8)),
        rho=float(rng.uniform(-0.4, 0.9)),
        sd=(float(rng.uniform(0.2, 1.5)), float(rng.uniform(0.0, 0.6))),
        keep=float(rng.choice([1.0, 0.85])),
    )


GRID = (-0.9, -0.6, -0.3, 0.0, 0.2, 0.4, 0.6, 0.75, 0.9, 0.97)


def best_of_many_starts(model: Any) -> float:
    """BFGS from a grid of starts; the likelihood itself has tests of its own."""
    data = model.arrays
    problem = LikelihoodProblem(
        data.compressed, data.nobs, data.residual, data.layout(), reml=True
    )
    k = problem.k_cov_free

    def objective(theta: Array) -> tuple[float, Array]:
        try:
            point = problem.evaluate(theta, derivatives=True)
        except np.linalg.LinAlgError:
            return 1e6, np.zeros_like(theta)
        return -point.llf, -point.gradient

    best = -np.inf
    for rho in GRID:
        for variance in (0.05, 1.0):
            theta = np.zeros(k + 1)
            theta[[0, k - 1]] = np.sqrt(variance)
            theta[k:] = problem.structure.to_unconstrained([rho])
            found = optimize.minimize(
                objective, theta, jac=True, method="BFGS",
                options={"gtol": 1e-6, "maxiter": 100},
            )  # fmt: skip
            best = max(best, -float(found.fun))
    return best


@pytest.mark.parametrize("seed", range(40))
def test_no_better_mode_is_known(seed: int) -> None:
    data = small_set(seed)
    found = fit(data, "y ~ t")
    assert found.converged
    assert found.llf >= best_of_many_starts(build(data, "y ~ t")) - 1e-6


@pytest.mark.parametrize("seed", range(0, 40, 8))
def test_modes_from_a_grid_of_fixed_parameters(seed: int) -> None:
    data = small_set(seed)
    found = fit(data, "y ~ t")
    profile = [
        fit(data, "y ~ t", residual=AR1(rho, fixed=True)).llf
        for rho in np.linspace(-0.95, 0.98, 20)
    ]
    assert found.llf >= max(profile) - 1e-8
    # and the free fit is on top of that profile
    at = fit(data, "y ~ t", residual=AR1(float(found.rho), fixed=True))
    assert at.llf == pytest.approx(found.llf, abs=1e-7)


@pytest.mark.parametrize("seed", [3, 21])
def test_the_oracle_finds_nothing_better(seed: int) -> None:
    data = small_set(seed)
    problem = oracle.Problem(
        data["y"].to_numpy(),
        np.column_stack([np.ones(len(data)), data["t"]]),
        data["id"].to_numpy(),
        Z=np.column_stack([np.ones(len(data)), data["t"]]),
        time=data["t"].to_numpy(),
    )
    value, _ = oracle.maximize(problem, "ar1", starts=(0.1, 0.7))
    assert fit(data, "y ~ t").llf >= value - 1e-6


def test_modes_are_distinct_and_sorted() -> None:
    several = 0
    for seed in (*range(10), *BIMODAL):
        found = fit(few_groups(seed), "y ~ t")
        llf = found.modes["llf"].to_numpy()
        assert (np.diff(llf) < -1e-7).all()
        assert found.modes["converged"].all()
        several += len(llf) > 1
        for mode in range(1, len(llf)):
            # a maximum of its own: fixing its rho and climbing gives its height
            rho = float(found.modes["rho"].iloc[mode])
            there = fit(few_groups(seed), "y ~ t", residual=AR1(rho, fixed=True))
            assert there.llf >= llf[mode] - 1e-7
            text = str(found.summary()).replace("\n", " ")
            assert f"{llf[mode]:.4f}" in text
    assert several == len(BIMODAL)


@pytest.mark.parametrize("size", [1e-3, 1e2, 1e3, 1e4])
@pytest.mark.parametrize("residual", ["independent", "ar1", "car1"])
@pytest.mark.parametrize("re_formula", ["1", "~ t"])
def test_groups_that_differ_much(size: float, residual: str, re_formula: str) -> None:
    # as populations of countries do
    slope = 0.0 if re_formula == "1" else 0.5
    data = simulate(3, m=40, size=6, rho=0.6, sd=(size, slope))
    found = fit(data, residual=residual, re_formula=re_formula)
    model = found.model
    problem = oracle.Problem(
        data["y"].to_numpy(),
        model.exog,
        data["id"].to_numpy(),
        Z=model.exog_re,
        time=data["t"].to_numpy(),
    )
    rho = 0.0 if residual == "independent" else 0.6
    cov = np.diag([size**2, slope**2])[: found.k_re, : found.k_re]
    near = oracle.profile(problem, oracle.Parameters(1.0, rho, cov))
    assert found.llf >= oracle.loglike(problem, near) - 1e-5
    there = oracle.Parameters(
        found.scale,
        float(found.residual_params.get("rho", 0.0)),
        np.asarray(found.cov_re),
    )
    assert found.converged
    # the oracle inverts V as it stands and loses digits itself
    tolerance = 1e-6 * max(size / 100.0, 1.0) ** 2
    assert found.llf == pytest.approx(oracle.loglike(problem, there), abs=tolerance)


@pytest.mark.parametrize("residual", ["ar1", "car1"])
def test_random_walk_and_white_noise(residual: str) -> None:
    """The ends of the range: an answer, named, and no better one inside."""
    rng = np.random.default_rng(5)
    m, size = 20, 8
    for values in (
        rng.normal(size=(m, size)),
        rng.normal(size=(m, size)).cumsum(axis=1),
    ):
        data = pd.DataFrame(
            {"y": values.ravel(), "id": np.repeat(np.arange(m), size),
             "t": np.tile(np.arange(size), m)}
        )  # fmt: skip
        found = fit(data, "y ~ 1", re_formula="0", residual=residual)
        assert np.isfinite(found.llf)
        for rho in (0.001, 0.1, 0.5, 0.9, 0.99, 0.9999):
            fixed = AR1(rho, fixed=True)
            other = fit(data, "y ~ 1", re_formula="0", residual=fixed)
            assert other.llf <= found.llf + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_white_noise_on_irregular_times(seed: int) -> None:
    # some gaps are a thousandth of the median: CAR(1) has to go far to vanish
    rng = np.random.default_rng(seed)
    time = np.sort(rng.uniform(0.0, 100.0, size=(6, 200)), axis=1).ravel()
    groups = np.repeat(np.arange(6), 200)
    y = rng.normal(size=1200) + rng.normal(size=6)[groups]
    exog = np.column_stack([np.ones(1200), time])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        found = MixedLMAR(y, exog, groups, time=time, residual="car1").fit()
        plain = MixedLMAR(y, exog, groups, residual="independent").fit()
    assert found.converged
    assert found.llf > plain.llf - 0.05
