"""Results keep their contract, and their numbers are those of the oracle."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixedar.formula.api as mar
from helpers import contracts, oracle
from helpers.fitted_models import (
    every,
    fit_named,
    oracle_of,
    reference_frame,
    shared,
)
from mixedar import MixedLMAR, MixedLMARResults
from mixedar.datasets import load_orthodont
from mixedar.exceptions import (
    BoundaryWarning,
    MixedARError,
    NotComputedError,
    UnsupportedError,
)
from mixedar.mixed.statsmodels_results import TablesByGroup


@pytest.fixture
def data() -> pd.DataFrame:
    return reference_frame().copy()


# The contract


@every
@pytest.mark.parametrize("reml", [True, False])
def test_contract(name: str, reml: bool) -> None:
    contracts.check_results(shared(name, reml))


@every
def test_refitting_changes_nothing(name: str) -> None:
    fit = fit_named(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        contracts.check_frozen(fit, other_reml=False)


@every
def test_copies(name: str, tmp_path: Path) -> None:
    contracts.check_copies(fit_named(name), tmp_path)


@every
def test_removed_data(name: str, tmp_path: Path) -> None:
    contracts.check_removed(fit_named(name), tmp_path)


@pytest.mark.parametrize("residual", ["ar1", "car1", "independent"])
def test_contract_for_arrays(data: pd.DataFrame, residual: str, tmp_path: Path) -> None:
    def fresh() -> Any:
        return MixedLMAR(
            data["y"].to_numpy(),
            np.column_stack([np.ones(len(data)), data["x"]]),
            data["id"].to_numpy(),
            exog_re=np.column_stack([np.ones(len(data)), data["x"]]),
            time=data["t"].to_numpy(),
            residual=residual,
        ).fit()

    contracts.check_results(fresh())
    contracts.check_copies(fresh(), tmp_path)
    contracts.check_removed(fresh(), tmp_path)


def test_attributes_of_the_kinds_promised() -> None:
    fit = shared("slope")
    assert isinstance(fit.rho, float)
    assert fit.rho == fit.residual_params["rho"]
    assert isinstance(fit.cov_re, pd.DataFrame)
    assert isinstance(fit.df, pd.Series)
    assert fit.method == "REML"
    assert shared("slope", False).method == "ML"
    assert fit.params.index.tolist() == [
        "Intercept", "arm[T.b]", "x", "id Var", "id x x Cov", "x Var", "rho",
    ]  # fmt: skip
    assert list(fit.random_effects[0].index) == ["id", "x"]
    assert isinstance(fit.modes, pd.DataFrame)
    with pytest.raises(NotComputedError, match="rho"):
        shared("independent").rho  # noqa: B018


def test_every_attribute_is_documented() -> None:
    doc = MixedLMARResults.__doc__ or ""
    for name in (
        "params", "fe_params", "bse_fe", "cov_re", "vcomp", "scale", "rho",
        "residual_params", "llf", "aic", "bic", "df", "modes", "converged",
        "at_boundary",
    ):  # fmt: skip
        assert name in doc, name
    for name in (
        "tvalues", "pvalues", "conf_int", "random_effects", "random_effects_cov",
        "fittedvalues", "fitted_marginal", "resid", "residuals", "profile_re", "t_test",
        "wald_test", "f_test", "predict", "get_distribution", "remove_data", "summary",
    ):  # fmt: skip
        assert getattr(MixedLMARResults, name).__doc__, name


# Numbers against the oracle


@every
@pytest.mark.parametrize("reml", [True, False])
def test_predictions_and_residuals(name: str, reml: bool) -> None:
    fit = shared(name, reml)
    exact = oracle.solve(*oracle_of(fit), reml)
    assert fit.llf == pytest.approx(exact.loglike, abs=1e-8)
    np.testing.assert_allclose(fit.fe_params, exact.fe_params, rtol=1e-7)
    np.testing.assert_allclose(
        np.asarray(fit.cov_params())[: fit.k_fe, : fit.k_fe],
        exact.cov_params,
        rtol=1e-7,
        atol=1e-12,
    )
    tolerance: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-8}
    np.testing.assert_allclose(fit.fitted_marginal, exact.fitted_marginal, **tolerance)
    np.testing.assert_allclose(fit.fittedvalues, exact.fitted_conditional, **tolerance)
    resid = reference_frame()["y"] - exact.fitted_conditional
    np.testing.assert_allclose(fit.resid, resid, **tolerance)
    np.testing.assert_allclose(fit.residuals("pearson"), exact.pearson, **tolerance)
    np.testing.assert_allclose(
        fit.residuals("normalized"), exact.normalized, **tolerance
    )
    assert list(fit.fittedvalues.index) == list(reference_frame().index)


@every
def test_random_effects(name: str) -> None:
    fit = shared(name)
    exact = oracle.solve(*oracle_of(fit))
    for label, b in fit.random_effects.items():
        if fit.k_re:
            np.testing.assert_allclose(
                b.iloc[: fit.k_re], exact.random_effects[label], rtol=1e-6, atol=1e-9
            )
            if not fit.k_vc:
                np.testing.assert_allclose(
                    fit.random_effects_cov[label],
                    exact.random_effects_cov[label],
                    rtol=1e-6,
                    atol=1e-9,
                )
    for component, effects in exact.vc_effects.items():
        for (label, level), value in effects.items():
            found = fit.random_effects[label][f"{component}[C({component})[{level}]]"]
            assert found == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_random_effects_frame() -> None:
    fit = shared("slope")
    frame = fit.random_effects_frame()
    assert frame.shape == (40, 2)
    for label, b in fit.random_effects.items():
        np.testing.assert_array_equal(frame.loc[label], b)


@pytest.mark.parametrize("name", ["slope", "gls", "car1", "both", "series"])
@pytest.mark.parametrize("reml", [True, False])
def test_standard_errors_of_covariance_parameters(name: str, reml: bool) -> None:
    # inverse observed information of (covariances, rho, sigma2), by differences
    fit = shared(name, reml)
    if fit.at_boundary:
        return
    problem, at = oracle_of(fit)
    q, names = fit.k_re, list(at.vcomp)
    rows, columns = np.tril_indices(q)

    def value(theta: Any) -> float:
        cov = np.zeros((q, q))
        cov[rows, columns] = cov[columns, rows] = theta[: len(rows)]
        vcomp = dict(zip(names, theta[len(rows) :], strict=False))
        params = oracle.Parameters(
            sigma2=theta[-1], rho=theta[-2], cov_re=cov if q else None, vcomp=vcomp
        )
        return oracle.loglike(problem, params, reml)

    theta = np.concatenate([fit.params.iloc[fit.k_fe :], [fit.scale]])
    steps = 1e-3 * np.maximum(np.abs(theta), 0.1)
    k = len(theta)
    eye = np.diag(steps)
    hessian = np.empty((k, k))
    for i in range(k):
        for j in range(i + 1):
            hessian[i, j] = hessian[j, i] = (
                value(theta + eye[i] + eye[j])
                - value(theta + eye[i] - eye[j])
                - value(theta - eye[i] + eye[j])
                + value(theta - eye[i] - eye[j])
            ) / (4 * steps[i] * steps[j])
    se = np.sqrt(np.diag(np.linalg.inv(-hessian)))
    np.testing.assert_allclose(fit.bse.iloc[fit.k_fe :], se[:-1], rtol=1e-3)
    assert fit.bse_scale == pytest.approx(se[-1], rel=1e-3)


def test_intervals() -> None:
    fit = shared("slope")
    interval = fit.conf_int(alpha=0.1)
    df = fit.df
    half_width = stats.t.ppf(0.95, df) * fit.bse_fe
    np.testing.assert_allclose(interval[0].iloc[:3], fit.fe_params - half_width)
    np.testing.assert_allclose(interval[1].iloc[:3], fit.fe_params + half_width)
    # variances on the log scale: positive, symmetric as ratios
    lower, upper = interval.loc["id Var"]
    estimate = fit.params["id Var"]
    assert lower > 0
    assert upper / estimate == pytest.approx(estimate / lower)
    log_se = fit.bse["id Var"] / estimate
    assert np.log(upper / estimate) == pytest.approx(stats.norm.ppf(0.95) * log_se)
    lower, upper = np.arctanh(interval.loc["rho"].to_numpy())
    assert (lower + upper) / 2 == pytest.approx(np.arctanh(fit.rho))
    assert fit.conf_int(cols=[0, 2]).shape == (2, 2)
    np.testing.assert_array_equal(
        fit.conf_int(cols=[0, 2]), fit.conf_int().iloc[[0, 2]]
    )


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0, -0.1, np.nan])
def test_intervals_need_a_coverage(alpha: float) -> None:
    with pytest.raises(MixedARError, match="alpha"):
        shared("slope").conf_int(alpha=alpha)


# Tests of hypotheses


def test_t_test_in_every_spelling() -> None:
    fit = shared("slope")
    expected = (fit.fe_params["x"] - 0.5) / fit.bse_fe["x"]
    for hypothesis in (
        "x = 0.5",
        ["x = 0.5"],
        ([[0, 0, 1]], 0.5),
        (np.array([[0, 0, 1]]), [0.5]),
    ):
        found = fit.t_test(hypothesis)
        assert np.squeeze(found.tvalue) == pytest.approx(expected)
        p = 2 * stats.t.sf(abs(expected), fit.df["x"])
        assert np.squeeze(found.pvalue) == pytest.approx(p)
    interval = fit.t_test("x = 0").conf_int()
    np.testing.assert_allclose(interval[0], fit.conf_int().loc["x"])
    normal = fit.t_test("x = 0.5", use_t=False)
    assert np.squeeze(normal.pvalue) == pytest.approx(2 * stats.norm.sf(abs(expected)))


def test_t_test_takes_the_smallest_df() -> None:
    fit = shared("slope")
    df = fit.df
    assert df["arm[T.b]"] < df["x"]
    found = fit.t_test(np.eye(3))
    np.testing.assert_allclose(found.tvalue, fit.tvalues.iloc[:3])
    np.testing.assert_allclose(found.pvalue, fit.pvalues.iloc[:3])
    assert fit.t_test([0, 1, 1]).df_denom == min(df["arm[T.b]"], df["x"])
    assert fit.t_test("x + arm[T.b] = 0").df_denom == df["arm[T.b]"]
    effect = fit.t_test("x - arm[T.b] = 0")
    c = np.array([0.0, -1.0, 1.0])
    cov = np.asarray(fit.cov_params())[:3, :3]
    assert np.squeeze(effect.sd) == pytest.approx(np.sqrt(c @ cov @ c))


def test_f_and_wald_tests() -> None:
    fit = shared("slope")
    R = np.eye(3)[1:]
    b = R @ fit.fe_params.to_numpy() - [0.1, 0.2]
    V = R @ np.asarray(fit.cov_params())[:3, :3] @ R.T
    chi2 = b @ np.linalg.solve(V, b)
    df = fit.df["arm[T.b]"]
    for hypothesis in ("arm[T.b] = 0.1, x = 0.2", (R, [0.1, 0.2])):
        found = fit.f_test(hypothesis)
        assert found.fvalue == pytest.approx(chi2 / 2)
        assert (found.df_num, found.df_denom) == (2, df)
        assert found.pvalue == pytest.approx(stats.f.sf(chi2 / 2, 2, df))
        wald = fit.wald_test(hypothesis, use_f=False, scalar=True)
        assert wald.statistic == pytest.approx(chi2)
        assert wald.pvalue == pytest.approx(stats.chi2.sf(chi2, 2))
    one = fit.f_test("x = 0.5")
    assert one.fvalue == pytest.approx(
        float(np.squeeze(fit.t_test("x = .5").tvalue)) ** 2
    )
    # a restriction said twice counts once
    twice = fit.f_test("x = 0.5, 2*x = 1")
    assert (twice.df_num, twice.fvalue) == (1, pytest.approx(one.fvalue))


def test_tests_that_make_no_sense() -> None:
    fit = shared("slope")
    with pytest.raises(NotComputedError, match="contradict"):
        fit.f_test("x = 0.5, x = 1")
    with pytest.raises(NotComputedError, match="zero"):
        fit.wald_test([[0, 0, 0]])
    with pytest.raises(UnsupportedError, match="3 columns"):
        fit.t_test([1, 0])
    with pytest.raises(MixedARError, match=r"Intercept, arm\[T.b\], x"):
        fit.t_test("speed = 0")


def test_wald_test_terms() -> None:
    fit = shared("slope")
    table = fit.wald_test_terms(skip_single=False).summary_frame()
    assert list(table.index) == ["Intercept", "arm", "x"]
    np.testing.assert_allclose(
        table["F" if "F" in table else "chi2"].astype(float),
        fit.tvalues.iloc[:3] ** 2,
    )


def test_methods_of_the_class_take_results() -> None:
    data = load_orthodont()
    fit = mar.mixedlm("distance ~ age", data, groups="subject", time="occ").fit()
    pd.testing.assert_frame_equal(MixedLMARResults.acf(fit), fit.acf())
    assert MixedLMARResults.anova(fit).equals(fit.anova())
    assert fit.acf.__name__ == MixedLMARResults.acf.__name__ == "acf"
    assert next(iter(inspect.signature(fit.acf).parameters)) == "kind"


def test_standard_errors_of_variance_components_have_names() -> None:
    data = load_orthodont()
    model = mar.mixedlm(
        "distance ~ age",
        data,
        groups="subject",
        vc_formula={"half": "0 + C(age > 10)"},
        re_formula="1",
        residual="independent",
    )
    errors = model.fit().bse_re
    assert list(errors.index) == ["subject Var", "half"]
    np.testing.assert_array_equal(errors, model.fit().bse.iloc[2:4])


def test_correlations_of_many_columns_are_not_printed() -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame(
        {"id": np.repeat(np.arange(12), 24), "t": np.tile(np.arange(24), 12)}
    )
    data["y"] = rng.normal(size=len(data))
    for count, printed in ((20, True), (21, False)):
        rows = data[data["t"] < count]
        fit = mar.mixedlm("y ~ C(t)", rows, groups="id", residual="independent").fit()
        text = fit.summary().as_text()
        assert ("Correlation of fixed effects" in text) == printed
        assert ("cov_params() has their covariances" in text) != printed


def test_cov_params_of_combinations() -> None:
    """Columns of a frame go by name; what is no parameter is refused."""
    teeth = load_orthodont()
    fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ").fit()
    cov = fit.cov_params()
    names = list(cov.index)
    row = pd.DataFrame([[2.0, 1.0]], columns=[names[1], names[0]])
    weights = np.zeros(len(names))
    weights[:2] = 1.0, 2.0
    expected = weights @ cov.to_numpy() @ weights
    np.testing.assert_allclose(fit.cov_params(r_matrix=row), [[expected]])
    np.testing.assert_allclose(fit.cov_params(r_matrix=weights), expected)
    np.testing.assert_allclose(fit.cov_params(column=names[1]), cov.iloc[1, 1])
    np.testing.assert_allclose(fit.cov_params(column=[0, 1]), cov.iloc[:2, :2])
    for wrong in (
        {"r_matrix": row.rename(columns={names[0]: "nobody"})},
        {"r_matrix": np.eye(len(names) + 1)},
        {"r_matrix": "nobody"},
        {"column": 99},
        {"column": "nobody"},
    ):
        with pytest.raises(MixedARError):
            fit.cov_params(**wrong)


def test_tables_by_group_are_made_when_asked_for() -> None:
    fit = shared("slope")
    frame = fit.random_effects_frame()
    tables = TablesByGroup(frame.index, lambda i: frame.iloc[i])
    plain = dict(frame.iterrows())
    assert isinstance(tables, dict)
    assert list(tables) == list(plain) == list(tables.keys())
    first = next(iter(plain))
    assert tables[first] is tables[first] is tables.get(first)
    assert tables.get("nobody") is None
    with pytest.raises(KeyError, match="nobody"):
        tables["nobody"]
    for copied in (
        dict(tables), {**tables}, tables.copy(), copy.copy(tables), tables | {},
        {} | tables, pickle.loads(pickle.dumps(tables)), dict(tables.items()),
        dict(zip(tables, tables.values(), strict=True)),
    ):  # fmt: skip
        assert type(copied) is dict
        assert list(copied) == list(plain)
        for label, row in copied.items():
            pd.testing.assert_series_equal(row, plain[label])
    assert tables == tables.copy()
    assert tables.copy() == tables
    assert tables != {first: 0}
    assert repr(tables) == repr(plain)


def test_tables_by_group_in_the_hands_of_pandas() -> None:
    fit = shared("slope")
    expected = fit.random_effects_frame()
    expected.index.name = None
    for found in (
        pd.DataFrame(fit.random_effects).T,
        pd.DataFrame.from_dict(fit.random_effects, orient="index"),
        pd.concat(fit.random_effects, axis=1).T,
        pd.concat(fit.random_effects).unstack(),
    ):
        pd.testing.assert_frame_equal(found, pd.DataFrame(expected), check_names=False)


def test_tables_by_group_can_be_changed() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0]}, ["a", "b", "c"])
    tables = TablesByGroup(frame.index, lambda i: frame.iloc[i])
    assert tables.popitem()[0] == "c"
    assert tables.pop("a")["x"] == 1.0
    assert tables.setdefault("b", frame)["x"] == 2.0
    assert tables.setdefault("d", frame) is frame
    tables["b"] = frame
    assert tables["b"] is frame
    assert list(tables) == ["b", "d"]
    assert tables.pop("nobody", None) is None
    tables.clear()
    assert tables == {}
    with pytest.raises(KeyError):
        tables.popitem()


def test_effects_that_are_changed_change_nothing_else() -> None:
    fit = fit_named("slope")
    label = fit.model.group_labels[0]
    before = fit.random_effects_frame().loc[label].to_numpy().copy()
    fit.random_effects[label] += 1.0
    np.testing.assert_array_equal(fit.random_effects_frame().loc[label], before)
