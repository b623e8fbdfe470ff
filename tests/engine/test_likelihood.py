"""The log-likelihood and its derivatives against dense matrices."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.regression.mixed_linear_model import MixedLMParams

from helpers import oracle
from helpers.random_designs import (
    exact,
    exact_at,
    gradient_of,
    pack,
    random_design,
    random_parameters,
    slopes_of,
    unpack,
)
from mixedar.engine.estimate import estimate_at
from mixedar.engine.problem import LikelihoodProblem

Array = NDArray[Any]

DESIGNS = [
    {"q": 0},
    {"q": 1},
    {"q": 2},
    {"q": 3, "m": 9},
    {"q": 1, "n_vc": 1},
    {"q": 0, "n_vc": 2},
    {"q": 2, "n_vc": 1, "with_series": True},
    {"q": 1, "with_series": True},
    {"q": 2, "balanced": True, "m": 40},
    {"q": 1, "p": 1},
]
every_design = pytest.mark.parametrize(
    "kind", DESIGNS, ids=lambda kind: "-".join(f"{k}{v}" for k, v in kind.items())
)
every_structure = pytest.mark.parametrize("structure", ["independent", "ar1", "car1"])
both = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])


# The public methods


@every_design
@every_structure
@both
def test_loglike(kind: dict[str, Any], structure: str, reml: bool) -> None:
    if structure == "independent":
        kind = {**kind, "with_series": False}
    design = random_design(1, structure=structure, **kind)
    design.model.reml = reml
    rng = np.random.default_rng(2)
    for singular in (False, True):
        params = random_parameters(rng, design, singular=singular)
        expected = exact(design, params, reml)
        packed = pack(design, params)
        assert design.model.loglike(packed) == pytest.approx(expected, abs=1e-9)
        as_object = MixedLMParams.from_components(
            cov_re=params.cov_re, vcomp=np.array(list(params.vcomp.values()))
        )
        as_object.residual_params = np.array(
            [] if structure == "independent" else [params.rho]
        )
        assert design.model.loglike(as_object) == pytest.approx(expected, abs=1e-9)
        beta: Any = rng.normal(size=design.problem.X.shape[1])
        expected = exact_at(design, params, beta, reml)
        as_object.fe_params = beta
        found = design.model.loglike(as_object, profile_fe=False)
        assert found == pytest.approx(expected, abs=1e-9)


@every_design
@pytest.mark.parametrize("structure", ["ar1", "car1"])
@both
def test_score(kind: dict[str, Any], structure: str, reml: bool) -> None:
    design = random_design(3, structure=structure, **kind)
    design.model.reml = reml
    params = random_parameters(np.random.default_rng(4), design)
    packed = pack(design, params)

    def value(x: Array) -> float:
        return exact(design, unpack(design, x), reml)

    expected = gradient_of(value, packed)
    found = design.model.score(packed)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@every_design
@both
def test_score_and_hessian_at_given_fixed_effects(
    kind: dict[str, Any], reml: bool
) -> None:
    design = random_design(5, **kind)
    design.model.reml = reml
    rng = np.random.default_rng(6)
    params = random_parameters(rng, design)
    p = design.problem.X.shape[1]
    beta: Any = rng.normal(size=p)
    packed = pack(design, params, beta)

    def value(x: Array) -> float:
        return exact_at(design, unpack(design, x[p:]), x[:p], reml)

    found = design.model.score(packed, profile_fe=False)
    np.testing.assert_allclose(found, gradient_of(value, packed), rtol=1e-5, atol=1e-5)
    hessian, singular = design.model.hessian(packed)
    assert not singular
    numeric = slopes_of(lambda x: design.model.score(x, False), packed)
    scale = np.abs(hessian).max()
    np.testing.assert_allclose(hessian, numeric, rtol=1e-5, atol=1e-6 * scale)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-9, atol=1e-9 * scale)


@both
def test_score_in_the_factor(reml: bool) -> None:
    design = random_design(7, q=2, n_vc=1)
    model = design.model
    model.reml, model.use_sqrt = reml, True
    rng = np.random.default_rng(8)
    packed = np.concatenate([rng.uniform(0.3, 1.0, size=4), [0.4]])

    def value(x: Array) -> float:
        return float(model.loglike(x))

    np.testing.assert_allclose(
        model.score(packed), gradient_of(value, packed), rtol=1e-5, atol=1e-6
    )


def test_uncorrelated_effects_have_the_derivatives_of_all_covariances() -> None:
    design = random_design(7, q=2, n_vc=1)
    diagonal = copy.copy(design.model)
    diagonal.arrays = design.model.arrays.changed(re_cov="diagonal")
    packed = np.array([0.8, 0.1, 0.6, 0.5, 0.4])
    for profile_fe in (True, False):
        x = packed if profile_fe else np.append(np.ones(diagonal.k_fe), packed)
        found = diagonal.score(x, profile_fe)
        np.testing.assert_allclose(found, design.model.score(x, profile_fe), atol=1e-8)


def test_a_singular_covariance_is_said_to_be() -> None:
    design = random_design(9, q=2)
    params = random_parameters(np.random.default_rng(1), design, singular=True)
    _, singular = design.model.hessian(pack(design, params, np.ones(2)))
    assert singular


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    q=st.integers(0, 3),
    n_vc=st.integers(0, 2),
    with_series=st.booleans(),
    structure=st.sampled_from(["ar1", "car1"]),
    reml=st.booleans(),
    singular=st.booleans(),
)
def test_loglike_of_any_design(
    seed: int,
    q: int,
    n_vc: int,
    with_series: bool,
    structure: str,
    reml: bool,
    singular: bool,
) -> None:
    design = random_design(
        seed, structure=structure, q=q, n_vc=n_vc, with_series=with_series, m=8
    )
    design.model.reml = reml
    params = random_parameters(np.random.default_rng(seed), design, singular=singular)
    found = design.model.loglike(pack(design, params))
    assert found == pytest.approx(exact(design, params, reml), abs=1e-8)


@both
def test_estimate_at_a_point(reml: bool) -> None:
    # scale and fixed effects on the way back from internal coordinates
    design = random_design(11, q=2)
    model = design.model
    data = model.arrays
    problem = LikelihoodProblem(
        data.compressed, data.nobs, data.residual, data.layout(), reml=reml
    )
    theta = np.array([0.6, -0.2, 0.4, 0.5])
    estimate = estimate_at(problem, theta)
    at = oracle.Parameters(
        estimate.scale,
        float(estimate.residual_params[0]),
        estimate.scale * estimate.psi,
    )
    solution = oracle.solve(design.problem, at, reml)
    assert estimate.llf == pytest.approx(solution.loglike, abs=1e-9)
    np.testing.assert_allclose(estimate.beta, solution.fe_params, rtol=1e-9)
    np.testing.assert_allclose(estimate.cov_beta, solution.cov_params, rtol=1e-9)
    assert oracle.profile(design.problem, at, reml).sigma2 == pytest.approx(
        estimate.scale
    )


@both
@every_design
def test_derivatives_in_the_optimisers_coordinates(
    kind: dict[str, Any], reml: bool
) -> None:
    model = random_design(12, **kind).model
    data = model.arrays
    problem = LikelihoodProblem(
        data.compressed, data.nobs, data.residual, data.layout(), reml=reml
    )
    theta = np.random.default_rng(3).normal(scale=0.7, size=problem.k_theta)
    here = problem.evaluate(theta, derivatives=True)

    def value(x: Array) -> float:
        return problem.evaluate(x, derivatives=False).llf

    scale = max(np.abs(here.hessian).max(), 1.0)
    np.testing.assert_allclose(
        here.gradient, gradient_of(value, theta), rtol=1e-6, atol=1e-6 * scale
    )
    numeric = slopes_of(lambda x: problem.evaluate(x, derivatives=True).gradient, theta)
    np.testing.assert_allclose(here.hessian, numeric, rtol=1e-5, atol=1e-7 * scale)
