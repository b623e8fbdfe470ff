"""Whole fits with every residual structure."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers import contracts
from helpers.structure_cases import (
    CASES,
    StructureCase,
    dense,
    fit_of,
    fitted,
    series,
    visits,
)
from mixedar.datasets import load_orthodont
from mixedar.engine.residuals import correlated_residuals
from mixedar.exceptions import BoundaryWarning
from mixedar.residual import (
    AR1,
    ARMA,
    STRUCTURES,
    Exponential,
    Matern,
    Toeplitz,
    resolve,
)
from mixedar.residual.variance import VarIdent

Array = Any
every = pytest.mark.parametrize("name", CASES)


def test_every_structure_is_fitted() -> None:
    found = set()
    for case in CASES.values():
        structure: Any = resolve(case.residual)
        while hasattr(structure, "structure"):
            structure = structure.structure
        found.add(type(structure))
    assert found == set(STRUCTURES.values())


# Dense matrices ----------------------------------------------------------------


@every
@pytest.mark.parametrize("reml", [True, False])
def test_numbers_are_those_of_dense_matrices(name: str, reml: bool) -> None:
    fit = fitted(name, reml)
    exact = dense(fit.fit)
    assert fit.converged
    assert fit.llf == pytest.approx(exact.loglike, abs=1e-8)
    assert fit.scale == pytest.approx(exact.params.sigma2, rel=1e-9)
    np.testing.assert_allclose(fit.fe_params, exact.fe_params, rtol=1e-8, atol=1e-10)
    p = len(exact.fe_params)
    np.testing.assert_allclose(
        np.asarray(fit.cov_params())[:p, :p], exact.cov_params, rtol=1e-7, atol=1e-12
    )
    np.testing.assert_allclose(
        fit.residuals("normalized"), exact.normalized, rtol=1e-7, atol=1e-8
    )
    if fit.k_re:
        found = np.array([np.asarray(b) for b in fit.random_effects.values()])
        expected = [exact.random_effects[k] for k in range(fit.n_groups)]
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@every
def test_maximum_is_one(name: str) -> None:
    """No step, in any of some directions, raises the likelihood."""
    fit = fitted(name)
    if fit.at_boundary:
        return
    structure, u, rng = fit.structure, fit.fit.u, np.random.default_rng(6)
    psi = np.asarray(fit.cov_re_unscaled)
    for _ in range(4):
        step = 0.03 * rng.choice([-1.0, 1.0], len(u))
        moved = structure.from_unconstrained(u + step)
        scaled = psi * (1.0 + 0.03 * rng.uniform(-1.0, 1.0))
        assert dense(fit.fit, params=moved, psi=scaled).loglike < fit.llf + 1e-9


@pytest.mark.parametrize("name", ["arma11", "cs", "unr", "gau plane", "power", "toep"])
def test_standard_errors_of_residual_parameters(name: str) -> None:
    """The inverse of minus the Hessian, by differences of dense likelihoods."""
    fit = fitted(name)
    structure = fit.structure
    u, k, h = fit.fit.u, structure.k_free, 4e-3

    def at(v: Array) -> float:
        return dense(fit.fit, params=structure.from_unconstrained(v)).loglike

    # along the direction in which the likelihood is flattest, and another one
    slopes = structure.natural(u).first
    cov = np.asarray(fit.cov_params())[-k:, -k:]
    inner = np.linalg.solve(slopes.T, np.linalg.solve(slopes.T, cov).T)
    values, vectors = np.linalg.eigh(inner)
    for value, vector in ((values[-1], vectors[:, -1]), (values[0], vectors[:, 0])):
        step = h * np.sqrt(value) * vector / 0.1
        bend = (at(u + step) - 2.0 * fit.llf + at(u - step)) / (step @ step)
        assert -1.0 / bend == pytest.approx(value, rel=5e-3)


# The contract of results ---------------------------------------------------------


@every
def test_contract(name: str) -> None:
    contracts.check_results(fitted(name))


@every
def test_pickles(name: str) -> None:
    fit = fitted(name)
    twin = pickle.loads(pickle.dumps(fit))
    assert str(twin.summary()) == str(fit.summary())
    np.testing.assert_array_equal(
        twin.residuals("normalized"), fit.residuals("normalized")
    )
    assert twin.model.residual == fit.model.residual


@pytest.mark.parametrize("name", ["un", "exp plane", "power", "gau plane"])
def test_copies_and_removed_data(name: str, tmp_path: Path) -> None:
    fit = fit_of(CASES[name])
    contracts.check_frozen(fit, other_reml=False)
    contracts.check_copies(fit, tmp_path)
    contracts.check_removed(fit, tmp_path)


# Invariances ---------------------------------------------------------------------


def assert_same(found: Any, expected: Any, factor: float = 1.0) -> None:
    """Equal fits, the response multiplied by `factor`."""
    n = expected.nobs - expected.k_fe
    assert found.llf == pytest.approx(expected.llf - n * np.log(factor), abs=1e-6)
    assert found.scale == pytest.approx(factor**2 * expected.scale, rel=2e-5)
    np.testing.assert_allclose(
        found.fe_params, factor * expected.fe_params, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        found.residual_params, expected.residual_params, rtol=2e-4, atol=1e-5
    )


@every
def test_order_labels_and_scale(name: str) -> None:
    expected, data = fitted(name), visits()
    changed = data.sample(frac=1.0, random_state=8)
    changed = changed.assign(id=[f"p{(7 * k) % 61}" for k in changed["id"]])
    changed["y"] *= 10.0
    found = fit_of(CASES[name], data=changed)
    assert_same(found, expected, 10.0)
    there = found.residuals("normalized")
    np.testing.assert_allclose(
        there.loc[data.index], expected.residuals("normalized"), atol=1e-3
    )


OCCASIONS = ["ad", "adh", "un", "unr", "csh"]
LINE = ["ar1", "arma11", "toep", "ar1h", "exp", "lin", "ar1 nugget"]


@pytest.mark.parametrize("name", OCCASIONS + LINE)
@pytest.mark.parametrize("kind", ["label", "category", "date", "float", "period"])
def test_kinds_of_times(name: str, kind: str) -> None:
    if kind in ("label", "category") and name in LINE:
        return
    data, expected = visits().copy(), fitted(name)
    visit = data["visit"].to_numpy()
    labels = np.array(["base", "week 4", "week 8", "month 6", "year"])
    data["when"] = {
        "label": [f"V{k}" for k in visit],
        "category": pd.Categorical(labels[visit], labels, ordered=True),
        "date": pd.Timestamp("2021-03-01") + pd.to_timedelta(7 * visit, unit="D"),
        "float": visit * 0.1,
        "period": pd.Period("2020-01", freq="M") + visit,
    }[kind]
    model = CASES[name].model(data, time="when")
    if name in ("exp", "lin"):  # a range has the unit of the times
        found = model.fit()
        assert found.llf == pytest.approx(expected.llf, abs=1e-6)
        return
    # the parameters are the same, and so is the likelihood, which is flat there
    begin = expected.params_object
    found = model.fit(start_params=begin, do_cg=False, collected=[])
    assert found.llf == pytest.approx(expected.llf, abs=1e-6)
    point = found.fit.problem.evaluate(found.fit.theta, derivatives=True)
    np.testing.assert_allclose(point.gradient, 0.0, atol=1e-4)
    if kind == "category" and name in ("ad", "unr"):
        assert "rho(base, week 4)" in found.residual_params.index
    np.testing.assert_allclose(
        found.residual_params, expected.residual_params, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["arma11", "toep", "ar1", "un", "adh", "exp"])
def test_gaps_are_missing_visits(name: str) -> None:
    """A row with a missing response, dropped, is a row that is not there."""
    data = visits().copy()
    lost = data["visit"] == 2
    lost &= data["id"] % 3 == 0
    holes = data.assign(y=data["y"].where(~lost))
    with pytest.warns(UserWarning, match="missing"):
        found = fit_of(CASES[name], data=holes, missing="drop")
    assert_same(found, fit_of(CASES[name], data=data[~lost]))


def refitted(fit: Any, response: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        return fit.model.refit(response)


@pytest.mark.parametrize("name", ["ar1", "toep", "un", "exp plane", "constant"])
def test_another_response(name: str) -> None:
    fit = fitted(name)
    other = visits()["y"] + np.sin(np.arange(len(visits())))
    expected = fit_of(CASES[name], data=visits().assign(y=other))
    found = refitted(fit, other)
    if name != "constant":
        assert_same(found, expected)
    assert found.llf == pytest.approx(expected.llf, abs=1e-6)


@every
def test_a_response_moved_by_fixed_effects(name: str) -> None:
    """Another sign, unit and mean, of which the fit is known."""
    fit, data = fitted(name), visits()
    moved = 3.0 + 0.5 * data["visit"]
    found = refitted(fit, moved - 2.0 * data["y"])
    by = pd.Series({"Intercept": 3.0, "arm[T.b]": 0.0, "visit": 0.5})
    coefficients = by[fit.model.exog_names].to_numpy() - 2.0 * fit.fe_params
    n = fit.nobs - fit.k_fe
    assert found.llf == pytest.approx(fit.llf - n * np.log(2.0), abs=1e-6)
    assert found.scale == pytest.approx(4.0 * fit.scale, rel=2e-5)
    np.testing.assert_allclose(found.fe_params, coefficients, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        found.residual_params, fit.residual_params, rtol=2e-4, atol=1e-5
    )
    values = moved - 2.0 * fit.fittedvalues
    np.testing.assert_allclose(found.fittedvalues, values, atol=1e-3)


@every
def test_simulated_residuals_have_the_covariance(name: str) -> None:
    fit = fitted(name)
    grouped, n = fit.fit.data.grouped, fit.nobs
    params = fit.fit.residual_params
    root = correlated_residuals(np.eye(n), grouped, fit.structure, params)
    found = grouped.unsort(grouped.unsort(root @ root.T).T)
    for rows, where in series(fit.fit.data):
        block = fit.structure.correlation(where, params)
        np.testing.assert_allclose(found[np.ix_(rows, rows)], block, atol=1e-9)
        found[np.ix_(rows, rows)] = 0.0
    assert not found.any()


# Equivalences --------------------------------------------------------------------


def both(one: StructureCase, two: StructureCase, **options: Any) -> tuple[Any, Any]:
    found = fit_of(one, **options), fit_of(two, **options)
    assert found[0].llf == pytest.approx(found[1].llf, abs=1e-7)
    np.testing.assert_allclose(
        found[0].fe_params, found[1].fe_params, rtol=1e-6, atol=1e-8
    )
    np.testing.assert_allclose(found[0].bse_fe, found[1].bse_fe, rtol=1e-6)
    return found


@pytest.mark.parametrize("reml", [True, False])
def test_compound_symmetry_is_a_random_intercept(reml: bool) -> None:
    one, two = both(
        StructureCase("cs"), StructureCase("independent", re_formula="1"), reml=reml
    )
    variance = float(two.cov_re.iloc[0, 0])
    assert one.rho == pytest.approx(variance / (variance + two.scale), rel=1e-5)
    assert one.scale == pytest.approx(variance + two.scale, rel=1e-6)


def test_compound_symmetry_may_be_negative() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(80, 4))
    noise -= 0.8 * noise.mean(axis=1, keepdims=True)
    data = pd.DataFrame({"y": noise.ravel(), "id": np.repeat(range(80), 4)})
    data["visit"] = np.tile(range(4), 80)
    data["arm"] = np.where(data["id"] % 2, "a", "b")
    one = fit_of(StructureCase("cs"), data=data)
    two = fit_of(StructureCase("independent", re_formula="1"), data=data)
    assert -1.0 / 3.0 < one.rho < 0.0
    assert one.llf > two.llf + 1.0
    assert two.at_boundary
    assert not one.at_boundary


def test_one_band_is_independence() -> None:
    both(
        StructureCase(Toeplitz(1), re_formula="1"),
        StructureCase("independent", re_formula="1"),
    )


def test_exponential_on_a_line_is_car1() -> None:
    data = visits().assign(visit=lambda d: d["east"])
    one, two = both(
        StructureCase("exp", re_formula="1"),
        StructureCase("car1", re_formula="1"),
        data=data,
    )
    range_ = one.residual_params["range"]
    assert np.exp(-1.0 / range_) == pytest.approx(two.rho, rel=1e-5)
    three = fit_of(
        StructureCase(Exponential(coords=("east",)), re_formula="1"), data=data
    )
    assert three.llf == pytest.approx(one.llf, abs=1e-7)
    four = fit_of(StructureCase(Matern(smoothness=0.5), re_formula="1"), data=data)
    assert four.llf == pytest.approx(one.llf, abs=1e-7)


def test_arma10_is_ar1() -> None:
    one, two = both(
        StructureCase(ARMA(1, 0), re_formula="1"), StructureCase("ar1", re_formula="1")
    )
    assert one.residual_params["phi1"] == pytest.approx(two.rho, rel=1e-5)


def test_equal_steps_of_antedependence_are_ar1() -> None:
    # two visits: one parameter each
    data = visits()[lambda d: d["visit"] < 2]
    both(StructureCase("ad"), StructureCase("ar1"), data=data)
    # at the AR(1) maximum, ante-dependence with equal parameters is the same model
    one, two = fitted("ad"), fit_of(StructureCase("ar1", re_formula="1"))
    same = dense(
        one.fit, params=np.full(4, two.rho), psi=np.asarray(two.cov_re_unscaled)
    )
    assert same.loglike == pytest.approx(two.llf, abs=1e-8)


def test_unstructured_with_constraints_is_ar1() -> None:
    two = fit_of(StructureCase("ar1"))
    rows, columns = np.tril_indices(5, -1)
    same = dense(fitted("unr").fit, params=two.rho ** (rows - columns))
    assert same.loglike == pytest.approx(two.llf, abs=1e-8)


def test_variance_by_wave_is_a_name() -> None:
    one, two = both(
        StructureCase("ar1", VarIdent(), "1"), StructureCase("ar1h", re_formula="1")
    )
    assert list(one.params.index) == list(two.params.index)


def test_toeplitz_and_arma_of_few_lags() -> None:
    # three equally spaced visits have two correlations
    data = visits()[lambda d: d["visit"] < 3]
    full = data.groupby("id")["visit"].transform("size") == 3
    both(StructureCase("toep"), StructureCase(ARMA(2, 0)), data=data[full])


def test_strata_are_separate_fits() -> None:
    """Of parameters, fixed effects and variances that all differ by stratum."""
    data = visits()
    whole = mar.mixedlm(
        "y ~ visit * arm",
        data,
        groups="id",
        time="visit",
        re_formula="0",
        residual=AR1(by="arm"),
        weights=VarIdent("arm"),
    ).fit(reml=False)
    parts = [
        mar.mixedlm(
            "y ~ visit",
            data[data["arm"] == arm],
            groups="id",
            time="visit",
            re_formula="0",
            residual="ar1",
        ).fit(reml=False)
        for arm in "ab"
    ]
    assert whole.llf == pytest.approx(sum(part.llf for part in parts), abs=1e-7)
    for arm, part in zip("ab", parts, strict=True):
        rho = whole.residual_params[f"rho[{arm}]"]
        assert rho == pytest.approx(part.rho, rel=1e-5)
    ratio = whole.residual_params["sd[b]"]
    assert ratio**2 * whole.scale == pytest.approx(parts[1].scale, rel=1e-5)


def test_nugget_is_a_second_noise() -> None:
    """AR(1) plus noise, as the sum of its two parts."""
    fit = fitted("ar1 nugget")
    rho, nugget = fit.residual_params
    time = np.arange(5.0)
    sum_ = nugget * np.eye(5) + (1 - nugget) * AR1().correlation(time, [rho])
    np.testing.assert_allclose(
        fit.structure.correlation(time, [rho, nugget]), sum_, rtol=1e-12
    )
    assert fit.llf >= fit_of(StructureCase("ar1")).llf - 1e-6


def teeth(residual: Any, formula: str = "distance ~ C(occ) * sex") -> Any:
    return mar.mixedlm(
        formula,
        load_orthodont(),
        groups="subject",
        time="occ",
        re_formula="0",
        residual=residual,
    ).fit()


def test_unstructured_reml_is_the_sample_covariance() -> None:
    fit = teeth("un")
    data = load_orthodont()
    data["rest"] = data["distance"] - data.groupby(["sex", "occ"], observed=True)[
        "distance"
    ].transform("mean")
    wide = data.pivot(index="subject", columns="occ", values="rest").to_numpy()
    expected = wide.T @ wide / (len(wide) - 2)
    where = np.column_stack([np.arange(4.0), np.arange(4.0)])
    positions = np.column_stack([where, where[:, :1]])
    found = fit.scale * fit.structure.correlation(positions, fit.residual_params)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("method", ["kenward-roger", "satterthwaite"])
def test_degrees_of_freedom_of_a_balanced_comparison(method: str) -> None:
    # two groups of 27 children in all, and every covariance their own
    fit = teeth("un")
    np.testing.assert_allclose(fit.with_df(method).df, 25.0, rtol=1e-5)


def test_kenward_roger_t_is_the_two_sample_t() -> None:
    from scipy import stats

    data = load_orthodont()
    last = data[data["occ"] == 4]
    groups = [g["distance"].to_numpy() for _, g in last.groupby("sex", observed=True)]
    expected = stats.ttest_ind(groups[1], groups[0])
    fit = teeth("un", "distance ~ 0 + C(occ) + C(occ):sex")
    names = [n for n in fit.fe_params.index if "occ)[4]" in n and "sex" in n]
    # SAS' UN is linear in its covariances, ours in none of its parameters
    linear = fit.with_df("kenward-roger", kr="linear")
    found = linear.t_test(f"{names[0]} = 0")
    assert float(np.squeeze(found.tvalue)) == pytest.approx(
        expected.statistic, rel=1e-6
    )
    assert float(np.squeeze(found.pvalue)) == pytest.approx(expected.pvalue, rel=1e-5)
