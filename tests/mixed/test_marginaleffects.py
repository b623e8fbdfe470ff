"""marginaleffects on fits: the designs, the errors and the names it gets."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from mixedar.exceptions import BoundaryWarning

me = pytest.importorskip("marginaleffects")
pl = pytest.importorskip("polars")
datagrid = pytest.importorskip("marginaleffects.datagrid").datagrid

# marginaleffects' own use of polars
pytestmark = pytest.mark.filterwarnings("ignore:.*get_categories:DeprecationWarning")


def half(x: Any) -> Any:
    """A function that only the formula's writer has."""
    return x / 2.0


@cache
def data() -> pd.DataFrame:
    rng = np.random.default_rng(12)
    m, n = 30, 5
    group = np.repeat(np.arange(m), n)
    frame = pd.DataFrame({"who": group, "time": np.tile(np.arange(n), m)})
    # levels that are not in alphabetical order
    frame["arm"] = pd.Categorical(
        np.array(["high", "none", "low"])[group % 3], categories=["none", "low", "high"]
    )
    frame["site"] = pd.Categorical(np.array(["n", "s"])[rng.integers(0, 2, m)[group]])
    frame["phase"] = frame["time"] // 3
    frame["x"] = rng.uniform(0.5, 4.0, size=m * n)
    noise = rng.normal(size=(m, n))
    for k in range(1, n):
        noise[:, k] = 0.5 * noise[:, k - 1] + np.sqrt(0.75) * noise[:, k]
    slope = frame["arm"].map({"none": 0.2, "low": 0.5, "high": 0.9}).astype(float)
    frame["y"] = (
        5.0
        + slope * frame["time"]
        + np.log(frame["x"])
        + 1.5 * rng.normal(size=m)[group]
    ) + noise.ravel()
    return frame


@cache
def fitted(formula: str = "y ~ arm * time + site + np.log(x)", **options: Any) -> Any:
    options = {"groups": "who", "time": "time", "re_formula": "~ time", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        return mar.mixedlm(formula, data(), **options).fit()


def design(fit: Any, frame: pd.DataFrame) -> np.ndarray:
    return fit.model.formula_spec.matrix(frame)


def check(found: Any, fit: Any, rows: np.ndarray, rtol: float = 1e-5) -> None:
    """Estimates and errors by the delta method from the rows of their contrasts."""
    p = fit.k_fe
    cov = np.asarray(fit.cov_params())[:p, :p]
    estimate = rows @ np.asarray(fit.fe_params)
    error = np.sqrt(np.einsum("ij,jk,ik->i", rows, cov, rows))
    assert_allclose(found["estimate"].to_numpy(), estimate, rtol=1e-7, atol=1e-9)
    assert_allclose(found["std_error"].to_numpy(), error, rtol=rtol)


def test_predictions() -> None:
    fit = fitted()
    check(me.predictions(fit), fit, np.asarray(fit.model.exog))
    found = me.avg_predictions(fit, by="arm")
    assert found["arm"].to_list() == ["none", "low", "high"]
    exog, arm = np.asarray(fit.model.exog), data()["arm"]
    levels = arm.cat.categories
    check(found, fit, np.array([exog[arm == level].mean(axis=0) for level in levels]))


def test_marginal_means_are_ours() -> None:
    fit = fitted()
    grid = datagrid(
        model=fit,
        arm=["none", "low", "high"],
        site=["n", "s"],
        time=[1, 4],
        x=[float(data()["x"].mean())],
    )
    found = me.predictions(fit, newdata=grid, by=["arm", "time"])
    ours = fit.marginal_means("arm", by="time", at={"time": [1, 4]}, df=fit.df_resid)
    table = ours.to_frame().set_index(["arm", "time"])
    keys = list(zip(found["arm"].to_list(), found["time"].to_list(), strict=True))
    expected = table.loc[keys]
    for name, column in (
        ("estimate", "mean"),
        ("std_error", "se"),
        ("conf_low", "lower"),
        ("conf_high", "upper"),
    ):
        assert_allclose(found[name].to_numpy(), expected[column], rtol=1e-5)


def test_comparisons_of_levels() -> None:
    fit = fitted()
    frames = {
        level: design(fit, data().assign(arm=level))
        for level in ("none", "low", "high")
    }
    found = me.comparisons(fit, variables={"arm": "pairwise"})
    for pair in (("low", "none"), ("high", "none"), ("high", "low")):
        rows = frames[pair[0]] - frames[pair[1]]
        here = found.filter(pl.col("contrast") == f"{pair[0]} - {pair[1]}")
        check(here.sort("rowid"), fit, rows)
    average = me.avg_comparisons(fit, variables="site")
    rows = design(fit, data().assign(site="s")) - design(fit, data().assign(site="n"))
    check(average, fit, rows.mean(axis=0)[None])


def test_slopes_in_an_interaction_and_a_transform() -> None:
    fit = fitted()
    names = fit.model.exog_names
    rows = np.zeros((3, fit.k_fe))
    rows[:, names.index("time")] = 1.0
    rows[1, names.index("arm[T.low]:time")] = 1.0
    rows[2, names.index("arm[T.high]:time")] = 1.0
    # the mean is linear in the coefficients: a long step loses no digits
    found = me.avg_slopes(fit, variables="time", by="arm", eps_vcov=1e-3)
    check(found, fit, rows, rtol=1e-5)
    rows = np.zeros((1, fit.k_fe))
    rows[0, names.index("np.log(x)")] = (1.0 / data()["x"]).mean()
    found = me.avg_slopes(fit, variables="x", eps_vcov=1e-3)
    assert_allclose(found["estimate"], rows @ fit.fe_params, rtol=1e-5)
    error = np.abs(rows[0]).max() * fit.bse["np.log(x)"]
    assert_allclose(found["std_error"], error, rtol=1e-5)


def test_hypotheses() -> None:
    fit = fitted()
    table = me.hypotheses(fit)
    assert table["term"].to_list() == list(fit.params.index)
    p = fit.k_fe
    assert_allclose(table["std_error"][:p], fit.bse_fe, rtol=1e-5)
    names = fit.model.exog_names
    i, j = names.index("arm[T.high]:time"), names.index("arm[T.low]:time")
    found = me.hypotheses(fit, hypothesis=f"b{i} = b{j}")
    row = np.eye(p)[i] - np.eye(p)[j]
    check(found, fit, row[None], rtol=1e-5)
    # a ratio, by the delta method
    b, cov = np.asarray(fit.fe_params), np.asarray(fit.cov_params())[:p, :p]
    found = me.hypotheses(fit, hypothesis=f"b{i} / b{j} = 1")
    gradient = np.eye(p)[i] / b[j] - b[i] / b[j] ** 2 * np.eye(p)[j]
    assert_allclose(found["estimate"], b[i] / b[j] - 1.0, rtol=1e-6)
    assert_allclose(found["std_error"], np.sqrt(gradient @ cov @ gradient), rtol=1e-5)


@pytest.mark.parametrize(
    "formula",
    ["y ~ arm * half(time) + x", "y ~ arm + bs(x, df=4)", "y ~ 0 + arm + time:site"],
)
def test_new_rows_have_the_model_s_own_design(formula: str) -> None:
    # a formula evaluated again on few rows would place other knots, lose levels
    # and not find the caller's function
    fit = fitted(formula)
    some = data().iloc[[3, 8, 22, 47, 70]]
    some = some[some["arm"] == some["arm"].iloc[0]]
    found = me.predictions(fit, newdata=some)
    check(found, fit, design(fit, some))


@pytest.mark.parametrize(
    "options",
    [
        {"re_formula": "0"},
        {"residual": "independent"},
        {"residual": "car1", "re_formula": None},
        {"vc_formula": {"phase": "0 + C(phase)"}, "re_formula": "1"},
    ],
    ids=["gls", "independent", "car1", "components"],
)
def test_other_models(options: dict[str, Any]) -> None:
    options = {"groups": "who", "time": "time", "re_formula": "~ time", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = mar.mixedlm("y ~ arm + time", data(), **options).fit()
    check(me.predictions(fit), fit, np.asarray(fit.model.exog))


def test_fit_on_the_boundary() -> None:
    # no standard error of the variances, yet those of the means are numbers
    frame = data().assign(y=data()["y"] - data().groupby("who")["y"].transform("mean"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = mar.mixedlm("y ~ arm * time", frame, groups="who", time="time").fit()
    assert fit.at_boundary
    assert np.isnan(fit.bse["who Var"])
    check(me.predictions(fit), fit, np.asarray(fit.model.exog))
    assert np.isfinite(me.avg_slopes(fit)["std_error"].to_numpy()).all()


def test_errors_of_another_kind() -> None:
    fit = fitted()
    exog = np.asarray(fit.model.exog)
    corrected = fit.with_df("kenward-roger")
    check(me.predictions(corrected), corrected, exog)
    assert (corrected.bse_fe > fit.bse_fe).any()
    found = me.predictions(fit, vcov="CR2")
    check(found, fit.get_robustcov_results("CR2"), exog)


def test_degrees_of_freedom_by_the_jacobian() -> None:
    fit = fitted()
    found = me.avg_comparisons(
        fit, variables={"arm": "pairwise"}, newdata=data().assign(time=2), eps_vcov=1e-3
    )
    test = fit.t_test(found.jacobian, df="kenward-roger")
    pairs = fit.marginal_means("arm", at={"time": 2}, df="kenward-roger").pairwise(
        adjust=None
    )
    by_name = pairs.set_index("contrast")
    labels = [
        " - ".join(reversed(name.split(" - "))) for name in found["contrast"].to_list()
    ]
    expected = by_name.loc[labels]
    assert_allclose(test.df_denom, expected["df"], rtol=1e-5)
    assert_allclose(test.sd, expected["se"], rtol=1e-5)
    assert_allclose(test.pvalue, expected["p"], rtol=1e-4)


def test_formulaic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statsmodels.formula.options, "formula_engine", "formulaic")
    fit = mar.mixedlm(
        "y ~ arm * time + site", data(), groups="who", time="time", re_formula="0"
    ).fit()
    check(me.predictions(fit), fit, np.asarray(fit.model.exog))
    check(me.predictions(fit, newdata=data().iloc[[7]]), fit, fit.model.exog[[7]])
