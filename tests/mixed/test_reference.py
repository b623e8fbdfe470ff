"""
Fits through the public formula interface against the reference cases.

Away from boundaries: log-likelihood to 1e-7, estimates and standard errors to
1e-6 relative, degrees of freedom exactly, predictions and residuals to 1e-5.
Where the maximum has a singular covariance, what nlme nears is compared with the
maximum itself: the ``boundary`` block, and the oracle there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from helpers import oracle
from helpers.reference_cases import (
    ReferenceCase,
    load,
    oracle_parameters,
    oracle_problem,
)
from helpers.reference_fits import (
    NAMES,
    ONE_LEVEL,
    RECORDED,
    SINGULAR,
    STRUCTURES,
    fitted,
)


def table(case: ReferenceCase, key: str, names: Any) -> list[float]:
    """Expected values of the fixed effects in the order of the fit."""
    return [case.expected[key][name] for name in names]


def close(actual: Any, desired: Any, tolerance: float) -> None:
    """Compare relative to the value, or to one where the value is smaller."""
    np.testing.assert_allclose(actual, desired, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", [*NAMES, *STRUCTURES])
def test_loglike(name: str) -> None:
    case, fit = load(name), fitted(name)
    assert fit.llf == pytest.approx(case.boundary["loglike"], rel=0, abs=1e-7)
    assert fit.converged


@pytest.mark.parametrize("name", [*NAMES, *STRUCTURES])
def test_boundary_is_named(name: str) -> None:
    assert fitted(name).at_boundary is load(name).expected["at_boundary"]


@pytest.mark.parametrize("name", [*RECORDED, *STRUCTURES])
def test_fixed_effects(name: str) -> None:
    case, fit = load(name), fitted(name)
    names = list(fit.fe_params.index)
    assert sorted(names) == sorted(case.expected["fixef_names"])
    se = np.array(table(case, "fixef_se_unadjusted", names))
    error = fit.fe_params - table(case, "fixef", names)
    # relative to the estimate, or to its standard error where that is larger
    size = np.maximum(np.abs(fit.fe_params), se)
    assert np.all(np.abs(error) <= 1e-6 * size)
    np.testing.assert_allclose(fit.bse_fe, se, rtol=1e-6)
    order = [case.expected["fixef_names"].index(n) for n in names]
    expected = np.array(case.expected["cov_fixef"])[np.ix_(order, order)]
    found = np.asarray(fit.cov_params())[: len(names), : len(names)]
    np.testing.assert_allclose(found / np.outer(se, se), expected / np.outer(se, se),
                               rtol=0, atol=2e-6)  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES, *STRUCTURES])
def test_degrees_of_freedom(name: str) -> None:
    case, fit = load(name), fitted(name)
    if case.expected["df"] is None:
        return  # crossed effects have no nlme strata
    names = list(fit.fe_params.index)
    assert fit.df[names].tolist() == table(case, "df", names)


@pytest.mark.parametrize("name", [*RECORDED, *STRUCTURES])
def test_t_and_p(name: str) -> None:
    case, fit = load(name), fitted(name)
    names = list(fit.fe_params.index)
    # nlme multiplies ML standard errors by sqrt(N / (N - p)); we do not
    t = np.divide(
        table(case, "fixef", names), table(case, "fixef_se_unadjusted", names)
    )
    np.testing.assert_allclose(fit.tvalues[names], t, rtol=2e-6, atol=1e-6)
    df = fit.df[names]
    p = 2 * stats.t.sf(np.abs(fit.tvalues[names]), df)
    np.testing.assert_allclose(fit.pvalues[names], p, rtol=1e-10)
    if case.reml and case.expected["pvalues"] is not None:
        close(fit.pvalues[names], table(case, "pvalues", names), 1e-7)


@pytest.mark.parametrize("name", [*RECORDED, *STRUCTURES])
def test_information_criteria(name: str) -> None:
    case, fit = load(name), fitted(name)
    assert fit.aic == pytest.approx(case.expected["aic"], rel=0, abs=1e-6)
    assert fit.bic == pytest.approx(case.expected["bic"], rel=0, abs=1e-6)
    assert fit.nobs == case.expected["nobs"]


@pytest.mark.parametrize("name", NAMES)
def test_covariance_parameters(name: str) -> None:
    case, fit = load(name), fitted(name)
    tolerance = 1e-6
    expected = oracle_parameters(case)
    assert fit.scale == pytest.approx(expected.sigma2, rel=tolerance)
    if case.structure != "independent":
        assert fit.rho == pytest.approx(expected.rho, rel=tolerance)
        assert fit.residual_params.to_list() == [fit.rho]
    if expected.cov_re is not None:
        # covariances on the scale of the standard deviations; a zero variance
        # on that of the residual
        sd = np.sqrt(np.diag(expected.cov_re))
        if "boundary" in case.kinds:
            sd = np.maximum(sd, 0.1 * np.sqrt(expected.sigma2))
        np.testing.assert_allclose(
            np.asarray(fit.cov_re) / np.outer(sd, sd),
            expected.cov_re / np.outer(sd, sd),
            rtol=0,
            atol=tolerance,
        )
    names = fit.model.exog_vc.names if expected.vcomp else []
    np.testing.assert_allclose(
        fit.vcomp, [expected.vcomp[n] for n in names], rtol=tolerance
    )


@pytest.mark.parametrize("name", [*RECORDED, *STRUCTURES])
def test_random_effects(name: str) -> None:
    case, fit = load(name), fitted(name)
    effects = {str(label): b for label, b in fit.random_effects.items()}
    expected = case.expected["ranef"]
    if case.nested is not None:
        outer, inner = case.nested
        for label, values in expected[f"{outer}/{inner}"].items():
            group, level = label.split("/")
            found = effects[group][f"{inner}[C({inner})[{level}]]"]
            close(found, values["Intercept"], 1e-5)
        expected = expected[outer]
    for factor in case.crossed:
        (b,) = effects.values()
        for level, values in expected[factor].items():
            close(b[f"{factor}[C({factor})[{level}]]"], values["Intercept"], 1e-5)
    if not case.crossed:
        for label, values in expected.items():
            b = effects[label].rename({case.groups: "Intercept"})
            close(b[list(values)], list(values.values()), 1e-5)


@pytest.mark.parametrize("name", [*RECORDED, *STRUCTURES])
def test_fitted_values_and_residuals(name: str) -> None:
    case, fit = load(name), fitted(name)
    rows = case.expected["rows_first10"]
    pearson = np.asarray(fit.residuals(kind="pearson"))
    normalized = np.asarray(fit.residuals(kind="normalized"))
    for key, values in (
        ("fitted_marginal", fit.fitted_marginal),
        ("fitted_conditional", fit.fittedvalues),
        ("residuals_pearson", pearson),
        ("residuals_normalized", normalized),
    ):
        assert len(values) == len(case.data)
        # nlme whitens compound symmetry with another root of the matrix
        expected = case.expected.get(f"{key}_cholesky", case.expected[key])
        close(np.asarray(values)[rows], expected, 1e-5)
    close(
        np.quantile(pearson, [0, 0.25, 0.5, 0.75, 1]),
        case.expected["std_residual_quantiles"],
        1e-5,
    )
    total = case.expected["normalized_residual_sumsq"]
    assert np.sum(normalized**2) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("name", SINGULAR)
def test_at_the_singular_maximum(name: str) -> None:
    case, fit = load(name), fitted(name)
    for effect, value in case.boundary["fixef"].items():
        assert abs(fit.fe_params[effect] - value) <= 1e-6 * fit.bse_fe[effect]
    exact = oracle.solve(oracle_problem(case), oracle_parameters(case), case.reml)
    np.testing.assert_allclose(
        fit.bse_fe, np.sqrt(np.diag(exact.cov_params)), rtol=1e-6
    )
    close(fit.fitted_marginal, exact.fitted_marginal, 1e-5)
    close(fit.fittedvalues, exact.fitted_conditional, 1e-5)
    close(fit.residuals(kind="pearson"), exact.pearson, 1e-5)
    close(fit.residuals(kind="normalized"), exact.normalized, 1e-5)


@pytest.mark.parametrize("name", ONE_LEVEL)
def test_random_effects_of_every_group(name: str) -> None:
    # The references hold five groups; the oracle has them all, and cov(b | y).
    case, fit = load(name), fitted(name)
    exact = oracle.solve(oracle_problem(case), oracle_parameters(case), case.reml)
    effects, covariances = fit.random_effects, fit.random_effects_cov
    assert set(effects) == set(exact.random_effects)
    for found, expected in (
        (effects, exact.random_effects),
        (covariances, exact.random_effects_cov),
    ):
        both = [(found[group], value) for group, value in expected.items()]
        close(*(np.array(side) for side in zip(*both, strict=True)), 1e-5)


def test_growth_table() -> None:
    # The figures that nlme prints for the main job.
    fit = fitted("seed_ar1_reml")
    assert fit.fe_params.round(3).to_dict() == {
        "Intercept": 0.133,
        "treatment[T.treatment]": -0.425,
        "time": 0.507,
    }
    assert round(float(fit.rho), 3) == 0.675
    assert round(float(fit.scale), 3) == 0.908
    np.testing.assert_array_equal(
        np.round(fit.cov_re, 3), [[0.332, 0.001], [0.001, 0.067]]
    )
    assert [round(x, 2) for x in (fit.llf, fit.aic, fit.bic)] == [
        -12629.99,
        25275.97,
        25333.65,
    ]
