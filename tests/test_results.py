"""Tests, predictions, simulation and persistence of fits."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.iolib.smpickle import load_pickle
from statsmodels.iolib.summary2 import summary_col

import contracts
import mixedar.formula.api as mar
import oracle
from mixedar import AR1, CAR1, MixedLMAR
from mixedar.exceptions import (
    BoundaryWarning,
    LengthError,
    MixedARError,
    NotComputedError,
    UnsupportedError,
)


def half(x: Any) -> Any:
    """A function for formulas that pickles have to find again."""
    return np.asarray(x) / 2.0


@cache
def _frame() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    m, size = 40, 8
    group = np.repeat(np.arange(m), size)
    time = np.tile(np.arange(size), m)
    noise = rng.normal(size=(m, size))
    for k in range(1, size):
        noise[:, k] = 0.6 * noise[:, k - 1] + 0.8 * noise[:, k]
    x = rng.normal(size=m * size)
    b = rng.normal(size=(2, m))[:, group]
    day = rng.normal(size=(m, 2))[group, time // 4]
    y = 1.0 + 0.5 * x + 2.5 * b[0] + 0.9 * b[1] * x + 1.2 * day + noise.ravel()
    frame = pd.DataFrame({"y": y, "x": x, "t": time, "id": group})
    frame["arm"] = np.where(group % 3 == 0, "b", "a")
    frame["day"] = frame["t"] // 4
    keep = rng.uniform(size=len(frame)) < 0.85
    frame = frame[keep].sample(frac=1.0, random_state=1)
    frame.index = pd.Index([f"row{k}" for k in range(len(frame))][::-1], name="label")
    return frame


@pytest.fixture
def data() -> pd.DataFrame:
    return _frame().copy()


MODELS: dict[str, dict[str, Any]] = {
    "intercept": {},
    "slope": {"re_formula": "~ x"},
    "diagonal": {"re_formula": "~ x", "re_cov": "diagonal"},
    "gls": {"re_formula": "0"},
    "car1": {"residual": "car1", "re_formula": "~ x"},
    "independent": {"residual": "independent", "re_formula": "~ x"},
    "components": {"vc_formula": {"day": "0 + C(day)"}},
    "both": {"vc_formula": {"day": "0 + C(day)"}, "re_formula": "1"},
    "series": {"series": "day"},
    "fixed": {"residual": AR1(0.4, fixed=True)},
    "ols": {"residual": "independent", "re_formula": "0"},
}


def build(data: pd.DataFrame, formula: str = "y ~ x + arm", **options: Any) -> Any:
    options = {"groups": "id", "time": "t", **options}
    return mar.mixedlm(formula, data, **options)


def fit_named(name: str, reml: bool = True) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        return build(_frame().copy(), **MODELS[name]).fit(reml=reml)


@cache
def shared(name: str, reml: bool = True) -> Any:
    """A fit that no test may change."""
    return fit_named(name, reml)


every = pytest.mark.parametrize("name", MODELS)


def oracle_of(fit: Any) -> tuple[oracle.Problem, oracle.Parameters]:
    """The same model and estimates for the oracle, which reads the frame itself."""
    data, model = _frame(), fit.model
    names = model.exog_vc.names
    problem = oracle.Problem(
        y=data["y"].to_numpy(),
        X=np.asarray(model.exog),
        groups=data["id"].to_numpy(),
        Z=None if fit.k_re == 0 else np.asarray(model.exog_re),
        time=data["t"].to_numpy(dtype=float),
        series=None if model.series is None else data["day"].to_numpy(),
        vc={name: data[name].to_numpy() for name in names},
    )
    rho = fit.residual_params.get("rho", 0.0)
    return problem, oracle.Parameters(
        sigma2=fit.scale,
        rho=float(rho),
        cov_re=None if fit.k_re == 0 else np.asarray(fit.cov_re),
        vcomp=dict(zip(names, np.asarray(fit.vcomp), strict=True)),
    )


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
def test_contract_for_arrays(
    data: pd.DataFrame, residual: str, tmp_path: Path
) -> None:
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
    assert isinstance(fit.df_resid, pd.Series)
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
    doc = type(shared("slope")._results).__doc__ or ""
    for name in (
        "params", "fe_params", "bse_fe", "cov_re", "vcomp", "scale", "rho",
        "residual_params", "llf", "aic", "bic", "df_resid", "modes", "converged",
        "at_boundary",
    ):  # fmt: skip
        assert name in doc, name
    for name in (
        "tvalues", "pvalues", "conf_int", "random_effects", "random_effects_cov",
        "fittedvalues", "fitted_marginal", "resid", "residuals", "profile_re", "t_test",
        "wald_test", "f_test", "predict", "get_distribution", "remove_data", "summary",
    ):  # fmt: skip
        assert getattr(type(shared("slope")._results), name).__doc__, name


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
    np.testing.assert_allclose(fit.resid, _frame()["y"] - exact.fitted_conditional,
                               **tolerance)  # fmt: skip
    np.testing.assert_allclose(fit.residuals("pearson"), exact.pearson, **tolerance)
    np.testing.assert_allclose(
        fit.residuals("normalized"), exact.normalized, **tolerance
    )
    assert list(fit.fittedvalues.index) == list(_frame().index)


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
    df = fit.df_resid
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
    np.testing.assert_array_equal(fit.conf_int(cols=[0, 2]), fit.conf_int().iloc[[0, 2]])


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
        p = 2 * stats.t.sf(abs(expected), fit.df_resid["x"])
        assert np.squeeze(found.pvalue) == pytest.approx(p)
    interval = fit.t_test("x = 0").conf_int()
    np.testing.assert_allclose(interval[0], fit.conf_int().loc["x"])
    normal = fit.t_test("x = 0.5", use_t=False)
    assert np.squeeze(normal.pvalue) == pytest.approx(2 * stats.norm.sf(abs(expected)))


def test_t_test_takes_the_smallest_df() -> None:
    fit = shared("slope")
    df = fit.df_resid
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
    df = fit.df_resid["arm[T.b]"]
    for hypothesis in ("arm[T.b] = 0.1, x = 0.2", (R, [0.1, 0.2])):
        found = fit.f_test(hypothesis)
        assert found.fvalue == pytest.approx(chi2 / 2)
        assert (found.df_num, found.df_denom) == (2, df)
        assert found.pvalue == pytest.approx(stats.f.sf(chi2 / 2, 2, df))
        wald = fit.wald_test(hypothesis, use_f=False, scalar=True)
        assert wald.statistic == pytest.approx(chi2)
        assert wald.pvalue == pytest.approx(stats.chi2.sf(chi2, 2))
    one = fit.f_test("x = 0.5")
    assert one.fvalue == pytest.approx(float(np.squeeze(fit.t_test("x = .5").tvalue)) ** 2)
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


# Predictions


def test_predict_from_a_frame(data: pd.DataFrame) -> None:
    fit = shared("slope")
    pd.testing.assert_series_equal(
        fit.predict(), fit.fitted_marginal, check_names=False
    )
    found = fit.predict(data.iloc[5:9])
    pd.testing.assert_series_equal(
        found, fit.fitted_marginal.iloc[5:9], check_names=False
    )
    new = pd.DataFrame({"x": [0.0, 1.0], "arm": ["b", "a"]}, index=["u", "v"])
    found = fit.predict(new)
    b = fit.fe_params
    expected = [b["Intercept"] + b["arm[T.b]"], b["Intercept"] + b["x"]]
    np.testing.assert_allclose(found, expected)
    assert list(found.index) == ["u", "v"]
    np.testing.assert_allclose(fit.predict(new.to_dict("list")), expected)
    # one level only, and an unused one
    np.testing.assert_allclose(fit.predict(new.iloc[[0]]), expected[:1])
    category = new.assign(arm=pd.Categorical(["b", "a"], ["b", "a", "c"]))
    np.testing.assert_allclose(fit.predict(category), expected)
    missing = fit.predict(new.assign(x=[np.nan, 1.0]))
    assert np.isnan(missing.iloc[0])
    assert missing.iloc[1] == pytest.approx(expected[1])


def test_predict_from_arrays() -> None:
    fit = shared("slope")
    X = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    np.testing.assert_allclose(
        fit.predict(X, transform=False), X @ fit.fe_params.to_numpy()
    )
    with pytest.raises(LengthError, match="3 fixed"):
        fit.predict(np.ones((2, 4)), transform=False)


def test_predict_refuses_new_levels_and_lost_columns() -> None:
    fit = shared("slope")
    with pytest.raises(MixedARError, match="'q'"):
        fit.predict(pd.DataFrame({"x": [1.0], "arm": ["q"]}))
    with pytest.raises(MixedARError, match="'arm'"):
        fit.predict(pd.DataFrame({"x": [1.0]}))


def test_predict_with_a_users_function(data: pd.DataFrame) -> None:
    fit = build(data, "y ~ half(x) + arm").fit()
    plain = build(data).fit()
    assert fit.fe_params["half(x)"] == pytest.approx(2 * plain.fe_params["x"])
    new = pd.DataFrame({"x": [3.0], "arm": ["a"]})
    np.testing.assert_allclose(fit.predict(new), plain.predict(new), rtol=1e-6)


def test_stateful_transforms_remember(data: pd.DataFrame) -> None:
    fit = build(data, "y ~ center(x) + arm").fit()
    new = data.iloc[:2]
    np.testing.assert_allclose(fit.predict(new), fit.fitted_marginal.iloc[:2])


# Simulation


@pytest.mark.parametrize("name", ["slope", "car1", "both", "series", "gls", "diagonal"])
def test_draws_have_the_covariance_of_the_model(name: str) -> None:
    fit = shared(name)
    problem, at = oracle_of(fit)
    y = np.array([fit.get_distribution().rvs(rng=k) for k in range(3000)])
    np.testing.assert_allclose(
        y.mean(axis=0), fit.fitted_marginal, atol=5 * y.std() / np.sqrt(3000)
    )
    draws = y - np.asarray(fit.fitted_marginal)
    # the three largest groups, whole blocks of V
    for part in sorted(oracle._parts(problem, at), key=lambda p: -len(p.rows))[:3]:
        found = np.cov(draws[:, part.rows].T)
        sd = np.sqrt(np.diag(part.V))
        error = (found - part.V) / np.outer(sd, sd)
        assert np.abs(error).max() < 5 * np.sqrt(2 / 3000)
    other = np.corrcoef(draws.T)[np.ix_(*two_groups(problem.groups))]
    assert np.abs(other).max() < 5 / np.sqrt(3000)


def two_groups(groups: Any) -> tuple[Any, Any]:
    return np.flatnonzero(groups == 0), np.flatnonzero(groups == 1)


def test_draws_can_be_repeated(data: pd.DataFrame) -> None:
    distribution = shared("slope").get_distribution()
    np.testing.assert_array_equal(distribution.rvs(rng=3), distribution.rvs(rng=3))
    generator = np.random.default_rng(3)
    assert (distribution.rvs(rng=generator) != distribution.rvs(rng=generator)).all()
    with pytest.raises(MixedARError):
        shared("slope").get_distribution(np.ones((5, 3))).rvs()
    shifted = shared("slope").get_distribution(
        np.asarray(shared("slope").model.exog) + [1.0, 0.0, 0.0]
    )
    difference = shifted.rvs(rng=3) - distribution.rvs(rng=3)
    np.testing.assert_allclose(difference, shared("slope").fe_params["Intercept"])


@every
def test_with_endog(name: str, data: pd.DataFrame) -> None:
    fit = shared(name)
    y = fit.get_distribution().rvs(rng=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        other = fit.model.with_endog(y).fit()
        expected = build(data.assign(y=y), **MODELS[name]).fit()
    assert other.llf == pytest.approx(expected.llf, abs=1e-9)
    np.testing.assert_allclose(other.params, expected.params, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(other.resid, expected.resid, rtol=1e-5, atol=1e-6)
    # the model it came from is as it was
    np.testing.assert_array_equal(fit.model.endog, data["y"])
    assert fit.model.loglike(fit.params_object) == pytest.approx(fit.llf, abs=1e-9)


def test_with_endog_checks(data: pd.DataFrame) -> None:
    model = shared("slope").model
    with pytest.raises(LengthError):
        model.with_endog(np.ones(3))
    with pytest.raises(MixedARError, match="missing"):
        model.with_endog(data["y"].to_numpy() * np.nan)
    with pytest.raises(MixedARError, match="constant"):
        model.with_endog(np.ones(len(data)))


# Profiles


@pytest.mark.parametrize(
    ("name", "which", "kind"),
    [("slope", 0, "re"), ("slope", 1, "re"), ("both", "day", "vc"), ("diagonal", 1, "re")],
)
def test_profile_of_a_variance(name: str, which: Any, kind: str) -> None:
    fit = shared(name)
    estimate = fit.cov_re.iloc[which, which] if kind == "re" else fit.vcomp.item()
    distance = 0.5 * estimate
    curve = fit.profile_re(
        which, kind, num_low=2, dist_low=distance, num_high=2, dist_high=distance
    )
    assert curve.shape == (5, 2)
    assert (np.diff(curve[:, 0]) > 0).all()
    assert curve[2, 0] == pytest.approx(estimate, rel=1e-5)
    assert curve[2, 1] == pytest.approx(fit.llf, abs=1e-8)
    assert (curve[[0, 1, 3, 4], 1] < fit.llf).all()
    assert curve[0, 1] < curve[1, 1]
    assert curve[4, 1] < curve[3, 1]


def test_profile_keeps_the_residual_structure() -> None:
    # a profile that forgot rho would lie below the maximum everywhere
    fit = shared("slope")
    curve = fit.profile_re(0, "re", num_low=1, dist_low=0.1, num_high=1, dist_high=0.1)
    independent = shared("independent")
    assert curve[1, 1] == pytest.approx(fit.llf, abs=1e-8)
    assert curve[1, 1] > independent.llf + 1
    assert fit.model.residual == AR1()


def test_profile_refuses() -> None:
    fit = shared("slope")
    with pytest.raises(MixedARError, match="dist_low"):
        fit.profile_re(0, "re", dist_low=1e6)
    with pytest.raises(MixedARError, match="2 random effects"):
        fit.profile_re(2, "re")
    with pytest.raises(MixedARError, match="variance components"):
        fit.profile_re("nobody", "vc")


# Summaries


def test_summary_options() -> None:
    fit = shared("slope")
    text = str(
        fit.summary(
            yname="weight", xname_fe=["a", "b", "c"], title="A title", alpha=0.1
        )
    )
    assert "weight" in text
    assert "A title" in text
    assert "[0.05" in text
    with pytest.raises(LengthError, match="xname_fe"):
        fit.summary(xname_fe=["a"])
    table = summary_col([fit, shared("gls")], stars=True)
    assert "arm[T.b]" in str(table)


def test_summary_units() -> None:
    data = _frame().copy()
    data["date"] = pd.Timestamp("2021-01-04") + pd.to_timedelta(7 * data["t"], unit="D")
    fit = build(data, time="date").fit()
    assert "1 week" in str(fit.summary())
    assert fit.llf == pytest.approx(shared("intercept").llf, abs=1e-9)


@pytest.mark.parametrize("name", ["slope", "both", "gls", "independent"])
def test_summary_numbers(name: str) -> None:
    fit = shared(name)
    text = str(fit.summary())
    assert f"{fit.llf:.4f}" in text
    assert f"{fit.aic:.4f}" in text
    assert f"{fit.fe_params['x']:.4f}" in text


# Persistence


def test_removed_data_are_missed_politely() -> None:
    fit = fit_named("slope")
    fit.remove_data()
    new = pd.DataFrame({"x": [1.0], "arm": ["a"]})
    np.testing.assert_allclose(fit.predict(new), shared("slope").predict(new))
    for call in (
        lambda: fit.fittedvalues,
        lambda: fit.resid,
        lambda: fit.random_effects,
        lambda: fit.predict(),
        lambda: fit.profile_re(0, "re"),
        lambda: fit.get_distribution().rvs(),
        lambda: fit.model.fit(),
    ):
        with pytest.raises(NotComputedError, match="data"):
            call()


def test_pickles_find_functions_again(data: pd.DataFrame, tmp_path: Path) -> None:
    fit = build(data, "y ~ half(x) + arm").fit()
    path = tmp_path / "fit.pickle"
    fit.save(path)
    new = pd.DataFrame({"x": [3.0], "arm": ["a"]})
    for twin in (load_pickle(path), pickle.loads(pickle.dumps(fit))):
        np.testing.assert_allclose(twin.predict(new), fit.predict(new))
        assert twin.model.fit().llf == pytest.approx(fit.llf, abs=1e-10)


SCRIPT = """
import pickle
import sys
import numpy as np
import pandas as pd
import mixedar.formula.api as mar

def third(x):
    return np.asarray(x) / 3.0

def main(data, path):
    local = 2.0
    fit = mar.mixedlm("y ~ third(x) + I(local * x ** 2) + arm", data, groups="id",
                      time="t", vc_formula={"day": "0 + C(day)"}, re_formula="1").fit()
    fit.save(path)
    again = pickle.loads(pickle.dumps(fit))
    new = data.iloc[:3]
    assert np.allclose(again.predict(new), fit.predict(new))
    assert str(again.summary()) == str(fit.summary())
    assert abs(again.model.fit().llf - fit.llf) < 1e-9
    from statsmodels.iolib.smpickle import load_pickle
    assert np.allclose(load_pickle(path).predict(new), fit.predict(new))

if __name__ == "__main__":
    main(pd.read_csv(sys.argv[1]), sys.argv[2])
    print("pickled")
"""


def test_pickling_in_a_script(data: pd.DataFrame, tmp_path: Path) -> None:
    script, table = tmp_path / "script.py", tmp_path / "data.csv"
    script.write_text(dedent(SCRIPT))
    data.to_csv(table, index=False)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(table), str(tmp_path / "f")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "pickled"
    # and another process, which does not have the script's functions, reads the numbers
    read = "import sys; from statsmodels.iolib.smpickle import load_pickle;"
    read += "print(load_pickle(sys.argv[1]).rho)"
    other = subprocess.run(
        [sys.executable, "-c", read, str(tmp_path / "f")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert other.returncode == 0, other.stderr


def test_pickles_are_small(data: pd.DataFrame) -> None:
    fit = build(data, re_formula="~ x").fit()
    fit.fittedvalues, fit.random_effects, fit.random_effects_cov  # noqa: B018
    before = len(pickle.dumps(build(data, re_formula="~ x").fit()))
    assert len(pickle.dumps(fit)) < 1.2 * before


def test_car1_objects_in_fits(data: pd.DataFrame) -> None:
    fit = build(data, residual=CAR1(0.3)).fit()
    twin = pickle.loads(pickle.dumps(fit))
    assert twin.model.residual == CAR1(0.3)
    assert twin.rho == fit.rho
