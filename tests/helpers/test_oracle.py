"""The oracle and the reference values, made by different programs, agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from helpers.oracle import (
    Parameters,
    Problem,
    Structure,
    correlation,
    loglike,
    maximize,
    profile,
    solve,
)
from helpers.reference_cases import (
    ReferenceCase,
    case_names,
    fixed_names,
    load,
    oracle_parameters,
    oracle_problem,
)

NAMES = [
    name
    for structure in ("independent", "ar1", "car1")
    for name in case_names(structure, without=("weights",))
]


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest) -> ReferenceCase:
    return load(request.param)


def test_every_kind_of_model_is_among_the_cases() -> None:
    assert len(NAMES) == 41
    for kind in ("gls", "nested", "crossed", "diagonal", "boundary"):
        assert set(case_names(kind)) & set(NAMES), kind


def test_reference_values(case: ReferenceCase) -> None:
    expected = case.expected
    found = solve(oracle_problem(case), oracle_parameters(case), case.reml)
    assert found.loglike == pytest.approx(case.boundary["loglike"], rel=0, abs=1e-8)
    names = fixed_names(case)
    fixef = [case.boundary["fixef"][name] for name in names]
    np.testing.assert_allclose(found.fe_params, fixef, rtol=1e-8)
    if "boundary" in expected:
        return  # the rest is recorded where nlme stopped
    rows = expected["rows_first10"]
    se = np.sqrt(np.diag(found.cov_params))
    np.testing.assert_allclose(
        se, [expected["fixef_se_unadjusted"][name] for name in names]
    )
    for name, values in (
        ("fitted_marginal", found.fitted_marginal),
        ("fitted_conditional", found.fitted_conditional),
        ("residuals_pearson", found.pearson),
        ("residuals_normalized", found.normalized),
    ):
        np.testing.assert_allclose(
            values[rows], expected[name], rtol=1e-7, atol=1e-7, err_msg=name
        )
    np.testing.assert_allclose(
        np.sum(found.normalized**2), expected["normalized_residual_sumsq"]
    )
    np.testing.assert_allclose(
        np.quantile(found.pearson, [0, 0.25, 0.5, 0.75, 1]),
        expected["std_residual_quantiles"],
        rtol=1e-7,
        atol=1e-7,
    )


def test_reference_random_effects(case: ReferenceCase) -> None:
    if "boundary" in case.expected:
        return
    found = solve(oracle_problem(case), oracle_parameters(case), case.reml)
    ours = {str(group): b for group, b in found.random_effects.items()}
    table = case.expected["ranef"]
    if case.nested is not None:
        outer, inner = case.nested
        for label, effect in table[f"{outer}/{inner}"].items():
            values = {
                f"{group}/{level}": u
                for (group, level), u in found.vc_effects[inner].items()
            }
            assert values[label] == pytest.approx(effect["Intercept"], abs=1e-7)
        table = table[outer]
    for factor in case.crossed:
        values = {str(level): u for (_, level), u in found.vc_effects[factor].items()}
        for label, effect in table[factor].items():
            assert values[label] == pytest.approx(effect["Intercept"], abs=1e-7)
    if not case.crossed:
        for label, effects in table.items():
            np.testing.assert_allclose(
                ours[label], list(effects.values()), rtol=1e-7, atol=1e-7
            )


def test_loglike_is_the_normal_density() -> None:
    # ML only: scipy's density of y, V from the definition.
    rng = np.random.default_rng(5)
    n = 6
    time = np.array([3.0, 0.0, 1.0, 7.0, 4.0, 12.0])
    X, Z = rng.normal(size=(n, 2)), rng.normal(size=(n, 1))
    y = rng.normal(size=n)
    problem = Problem(y=y, X=X, groups=np.zeros(n, dtype=int), Z=Z, time=time)
    params = Parameters(sigma2=1.7, rho=0.6, cov_re=np.array([[0.8]]))
    V = 0.8 * Z @ Z.T + 1.7 * correlation(time, 0.6)
    beta = solve(problem, params, reml=False).fe_params
    density = stats.multivariate_normal(X @ beta, V).logpdf(y)
    assert loglike(problem, params, reml=False) == pytest.approx(density, abs=1e-11)


def test_restricted_loglike_is_that_of_error_contrasts() -> None:
    # Harville (1974): density of K'y, K orthonormal with K'X = 0, is the
    # restricted likelihood without the |X'X| term.
    rng = np.random.default_rng(6)
    n, p = 7, 2
    X, y = rng.normal(size=(n, p)), rng.normal(size=n)
    problem = Problem(y=y, X=X, groups=np.zeros(n, dtype=int))
    params = Parameters(sigma2=2.0, rho=-0.4)
    K = np.linalg.qr(X, mode="complete")[0][:, p:]
    V = 2.0 * correlation(np.arange(n, dtype=float), -0.4)
    density = stats.multivariate_normal(np.zeros(n - p), K.T @ V @ K).logpdf(K.T @ y)
    assert loglike(problem, params) == pytest.approx(
        density - 0.5 * np.linalg.slogdet(X.T @ X)[1], abs=1e-11
    )


def test_conditional_covariance_of_random_effects() -> None:
    # From the joint normal of (b, y), by inverting its precision.
    rng = np.random.default_rng(7)
    n = 5
    Z, X = rng.normal(size=(n, 2)), np.ones((n, 1))
    G = np.array([[1.0, 0.3], [0.3, 0.5]])
    problem = Problem(
        y=rng.normal(size=n), X=X, groups=np.array(["a"] * n), Z=Z, time=None
    )
    params = Parameters(sigma2=0.6, rho=0.3, cov_re=G)
    R = 0.6 * correlation(np.arange(n, dtype=float), 0.3)
    joint = np.block([[G, G @ Z.T], [Z @ G, Z @ G @ Z.T + R]])
    expected = np.linalg.inv(np.linalg.inv(joint)[:2, :2])
    found = solve(problem, params).random_effects_cov["a"]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    "name",
    ["orthodont_ri_ar1_ml", "sim_boundary_gls_ar1_reml", "oats_nested_reml"],
)
def test_maximize_finds_the_reference(name: str) -> None:
    case = load(name)
    structure: Structure = "independent" if case.residual is None else "ar1"
    value, params = maximize(oracle_problem(case), structure, case.reml)
    expected = oracle_parameters(case)
    assert value == pytest.approx(case.expected["loglike"], abs=1e-7)
    assert params.sigma2 == pytest.approx(expected.sigma2, rel=1e-4)
    assert params.rho == pytest.approx(expected.rho, abs=1e-4)


@pytest.mark.parametrize("reml", [True, False])
def test_profiled_variance_is_the_best(reml: bool) -> None:
    case = load("orthodont_ri_ar1_ml")
    problem, params = oracle_problem(case), oracle_parameters(case)
    best = profile(problem, params, reml)
    for factor in (0.99, 1.01):
        other = replace(
            best,
            sigma2=best.sigma2 * factor,
            cov_re=None if best.cov_re is None else best.cov_re * factor,
        )
        assert loglike(problem, other, reml) < loglike(problem, best, reml)
