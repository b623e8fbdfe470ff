"""The oracle and the reference values, made by different programs, agree."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from helpers import oracle
from helpers.oracle import (
    DenseResiduals,
    Parameters,
    Problem,
    Structure,
    correlation,
    covariance,
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


def test_nothing_comes_from_the_package() -> None:
    for path in Path(oracle.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", [])]
            for name in [getattr(node, "module", None), *names]:
                assert not str(name).startswith("mixedar"), path


def small(rng: np.random.Generator, n: int = 9) -> tuple[Problem, Parameters]:
    """Three groups of unsorted rows, and parameters."""
    problem = Problem(
        y=rng.normal(size=n),
        X=np.column_stack([np.ones(n), rng.normal(size=n)]),
        groups=np.arange(n) % 3,
        Z=rng.normal(size=(n, 1)),
        time=rng.permutation(n).astype(float),
        vc={"day": np.arange(n) % 2},
    )
    at = Parameters(1.3, 0.6, np.array([[0.7]]), {"day": 0.4})
    return problem, at


def test_residual_covariance_may_be_written_down() -> None:
    problem, at = small(np.random.default_rng(8))
    given = replace(at, rho=0.0, R=correlation(np.asarray(problem.time), at.rho))
    found, expected = solve(problem, given), solve(problem, at)
    assert found.loglike == pytest.approx(expected.loglike, abs=1e-12)
    np.testing.assert_allclose(found.normalized, expected.normalized, rtol=1e-12)
    np.testing.assert_allclose(found.pearson, expected.pearson, rtol=1e-12)


@pytest.mark.parametrize("level", ["population", "group", "forecast"])
def test_error_of_predictions(level: str) -> None:
    # the predictor is A y, so that its error has the variance of A y - t
    rng = np.random.default_rng(9)
    problem, at = small(rng)
    new = replace(small(rng)[0], time=20.0 + np.arange(9), y=np.full(9, np.nan))
    columns = [
        getattr(oracle.predict(replace(problem, y=row), new, at), level)
        for row in np.eye(9)
    ]
    A = np.column_stack(columns)
    np.testing.assert_allclose(A @ problem.X, new.X, atol=1e-10)  # unbiased
    target = replace(at, sigma2=0.0) if level == "group" else at
    joint = oracle.stacked(problem, new)
    V, cov = covariance(joint, at), covariance(joint, target)
    if level == "population":
        cov = np.zeros_like(V)
    error = A @ V[:9, :9] @ A.T - 2.0 * A @ cov[:9, 9:] + cov[9:, 9:]
    found = oracle.predict(problem, new, at)
    np.testing.assert_allclose(
        getattr(found, f"{level}_var"), np.diag(error), rtol=1e-10
    )


def test_residuals_of_full_size() -> None:
    problem, at = small(np.random.default_rng(10))
    model, exact = DenseResiduals(problem, at, np.array([at.rho])), solve(problem, at)
    np.testing.assert_allclose(model.normalized, exact.normalized, rtol=1e-10)
    # the residuals are M y, and M X = 0
    M = at.sigma2 * model.R @ model.P
    np.testing.assert_allclose(M @ problem.y, exact.pearson * at.sigma2**0.5)
    np.testing.assert_allclose(M @ model.V @ M.T, at.sigma2 * model.cov_pearson)
    np.testing.assert_allclose(M @ problem.X, 0.0, atol=1e-12)
    np.testing.assert_allclose(
        model.W @ model.R @ model.W.T, np.eye(model.n), atol=1e-12
    )


def test_scores_are_slopes_of_the_restricted_likelihood() -> None:
    problem, at = small(np.random.default_rng(11))
    model, h = DenseResiduals(problem, at, np.array([at.rho])), 1e-5
    changes = [
        {"sigma2": h, "cov_re": h * np.eye(1) * 0.7 / 1.3, "vcomp": h * 0.4 / 1.3},
        {"cov_re": h * np.eye(1)},
        {"vcomp": h},
        {"rho": h},
    ]
    py = model.P @ problem.y
    for derivative, change in zip(model.nuisance(), changes, strict=True):

        def moved(sign: float, change: dict[str, Any] = change) -> float:
            values = {
                name: {"day": at.vcomp["day"] + sign * by}
                if name == "vcomp"
                else getattr(at, name) + sign * by
                for name, by in change.items()
            }
            return loglike(problem, replace(at, **values))

        score = 0.5 * (py @ derivative @ py - np.trace(model.P @ derivative))
        assert (moved(1.0) - moved(-1.0)) / (2 * h) == pytest.approx(score, abs=1e-6)
