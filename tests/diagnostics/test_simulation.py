"""Responses drawn from a fit, and checks against them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import mixedar.formula.api as mar
from helpers.fitted_models import MODELS, dense, every, reference_frame, shared
from mixedar import CAR1, MixedLMAR
from mixedar.datasets import load_bodyweight, load_growth
from mixedar.diagnostics.predictive import STATISTICS, PredictiveCheck
from mixedar.diagnostics.simulation import simulate
from mixedar.exceptions import (
    BoundaryWarning,
    DuplicateTimeError,
    EmptyDataError,
    GroupError,
    LengthError,
    MissingDataError,
    NotComputedError,
    StructureError,
    TimeError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.residual.variance import VarIdent, VarPower

MANY = 2000


def assert_moments(draws: pd.DataFrame, mean: Any, cov: Any, errors: float = 5) -> None:
    """Mean and covariance of draws, by their standard errors."""
    y = draws.to_numpy()
    n = y.shape[1]
    sd = np.sqrt(np.diag(cov))
    assert np.abs((y.mean(axis=1) - np.asarray(mean)) / sd).max() < errors / np.sqrt(n)
    found = np.cov(y) / np.outer(sd, sd)
    error = np.abs(found - np.asarray(cov) / np.outer(sd, sd))
    assert error.max() < errors * np.sqrt(2.0 / n)


@cache
def growth() -> Any:
    return mar.mixedlm(
        "y ~ time + treatment",
        load_growth(),
        groups="id",
        re_formula="~ time",
        time="time",
    ).fit()


# Moments


@every
def test_draws_have_the_covariance_of_the_model(name: str) -> None:
    model, fit = dense(shared(name)), shared(name)
    draws = fit.simulate(MANY, seed=1)
    pd.testing.assert_index_equal(draws.index, reference_frame().index)
    assert draws.shape == (model.n, MANY)
    assert draws.columns.name == "simulation"
    # 40 rows of some groups, and pairs of rows of different ones
    rows = np.argsort(model.problem.groups, kind="stable")[:40]
    part = draws.iloc[rows]
    mean = fit.fitted_marginal.iloc[rows]
    assert_moments(part, mean, model.V[np.ix_(rows, rows)])


@pytest.mark.parametrize("name", ["slope", "both", "series", "gls"])
def test_draws_given_the_predicted_effects(name: str) -> None:
    model, fit = dense(shared(name)), shared(name)
    draws = fit.simulate(MANY, seed=2, groups="conditional")
    rows = np.argsort(model.problem.groups, kind="stable")[:40]
    cov = fit.scale * model.R[np.ix_(rows, rows)]
    assert_moments(draws.iloc[rows], fit.fittedvalues.iloc[rows], cov)


@pytest.mark.parametrize(
    "options",
    [
        {"residual": "ar1", "weights": VarIdent("arm")},
        {"residual": "independent", "weights": VarPower()},
        {"residual": "cs", "re_formula": "0"},
        {"residual": CAR1(nugget=True), "re_formula": "0"},
    ],
    ids=["VarIdent", "VarPower", "cs", "nugget"],
)
def test_draws_of_other_structures(options: dict[str, Any]) -> None:
    data = reference_frame().assign(y=lambda d: d["y"] + 20.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        model = mar.mixedlm("y ~ x + arm", data, groups="id", time="t", **options)
        fit = model.fit()
    draws = fit.simulate(MANY, seed=3, groups="conditional")
    rows = np.argsort(data["id"].to_numpy(), kind="stable")[:30]
    sd = np.broadcast_to(fit.fit.residual_sd, len(data))[rows]
    assert_allclose(draws.iloc[rows].std(axis=1), sd, rtol=5.0 / np.sqrt(2.0 * MANY))
    again = fit.simulate(MANY, seed=3, newdata=data, groups="conditional")
    if fit.structure.uses_time:
        assert_allclose(again, draws, atol=1e-6)
    else:  # rows of a series may be drawn in another order
        assert_allclose(again.iloc[rows].T.corr(), draws.iloc[rows].T.corr(), atol=0.15)


def test_draws_can_be_fitted() -> None:
    fit = growth()
    y = fit.simulate(1, seed=4)[0]
    again = fit.model.with_endog(y).fit()
    assert_allclose(again.fe_params, fit.fe_params, atol=0.12)
    assert again.rho == pytest.approx(fit.rho, abs=0.2)


# Seeds


def test_seeds_of_all_kinds() -> None:
    fit = shared("slope")
    one = fit.simulate(3, seed=5)
    for seed in (np.random.SeedSequence(5), np.random.default_rng(5), np.int64(5)):
        pd.testing.assert_frame_equal(fit.simulate(3, seed=seed), one)
    # more draws begin with the same ones
    pd.testing.assert_frame_equal(fit.simulate(7, seed=5).iloc[:, :3], one)
    assert (fit.simulate(3, seed=6) != one).all().all()
    generator = np.random.default_rng(5)
    fit.simulate(3, seed=generator)
    assert (fit.simulate(3, seed=generator) != one).all().all()
    assert (fit.simulate(1) != fit.simulate(1)).all().all()


def test_draws_do_not_depend_on_the_root_that_the_search_ends_at() -> None:
    # Lambda and Lambda with the sign of a column turned are roots of one covariance
    fit = shared("slope")
    want = fit.simulate(2, seed=3)
    for signs in ([-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]):
        other = replace(fit.fit, factor=fit.fit.factor * signs)
        assert_allclose(simulate(other, 2, seed=3), want, rtol=1e-12, atol=1e-12)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    import mixedar.diagnostics.simulation as module

    for name in ("slope", "components"):
        whole = shared(name).simulate(5, seed=7)
        monkeypatch.setattr(module, "_AT_ONCE", 1)
        pd.testing.assert_frame_equal(shared(name).simulate(5, seed=7), whole)
        monkeypatch.setattr(module, "_FEW_EFFECTS", 0)
        by_group = shared(name).simulate(5, seed=7)
        assert_allclose(by_group, whole, rtol=1e-10)
        monkeypatch.undo()


# New data


@pytest.mark.parametrize("groups", ["new", "conditional"])
@pytest.mark.parametrize("name", ["slope", "both", "series", "gls", "independent"])
def test_own_rows_as_new_data(name: str, groups: str) -> None:
    fit, data = shared(name), reference_frame()
    own = fit.simulate(2, seed=8, groups=groups)
    new = fit.simulate(2, seed=8, newdata=data, groups=groups)
    pd.testing.assert_frame_equal(own, new, rtol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_new_groups_have_the_covariance_of_the_model(name: str) -> None:
    fit = shared(name)
    new = pd.DataFrame(
        {
            "id": ["u", "u", "u", "v", "v"],
            "t": [3, 0, 1, 4, 5],
            "x": [0.5, -1.0, 2.0, 0.0, 1.0],
            "arm": ["a", "a", "a", "b", "b"],
            "day": [0, 0, 0, 1, 1],
        },
        index=list("pqrst"),
    )
    draws = fit.simulate(MANY, seed=9, newdata=new)
    assert draws.index.tolist() == list("pqrst")
    same = np.array(new["id"].to_numpy()[:, None] == new["id"].to_numpy())
    distance = np.abs(np.subtract.outer(new["t"].to_numpy(), new["t"].to_numpy()))
    rho = float(fit.residual_params.get("rho", 0.0))
    together = same & (new["day"].to_numpy()[:, None] == new["day"].to_numpy())
    inside = together if name == "series" else same
    cov = fit.scale * np.where(inside, float(rho) ** distance, 0.0)
    if name in ("independent", "ols"):
        cov = fit.scale * np.eye(5)
    if fit.k_re:
        z = np.column_stack([np.ones(5), new["x"]])[:, : fit.k_re]
        cov = cov + np.where(same, z @ np.asarray(fit.cov_re) @ z.T, 0.0)
    if fit.k_vc:
        cov = cov + np.where(together, float(np.ravel(fit.vcomp)[0]), 0.0)
    assert_moments(draws, fit.predict(new), cov)


def test_new_times_of_known_groups() -> None:
    fit = shared("slope")
    new = pd.DataFrame({"id": [3, 3], "t": [20, 21], "x": [0.0, 1.0], "arm": "a"})
    draws = fit.simulate(MANY, seed=10, newdata=new, groups="conditional")
    b = fit.random_effects_frame().loc[3].to_numpy()
    mean = fit.predict(new) + np.array([[1.0, 0.0], [1.0, 1.0]]) @ b
    cov = fit.scale * np.array([[1.0, fit.rho], [fit.rho, 1.0]])
    assert_moments(draws, mean, cov)


def test_new_dates() -> None:
    rats = load_bodyweight()
    rats["date"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rats["time"], unit="D")
    fits = [
        mar.mixedlm(
            "weight ~ C(diet)",
            rats,
            groups="rat",
            time=time,
            residual="car1",
            re_formula="0",
        ).fit()
        for time in ("time", "date")
    ]
    new = rats.iloc[[0, 3, 5]].assign(rat="new")
    new["date"] += pd.Timedelta(hours=6)
    one, other = (fit.simulate(2, seed=11, newdata=new) for fit in fits)
    assert_allclose(one, other, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "groups", "error", "words"),
    [
        ({"id": 999}, "conditional", GroupError, "999 in row 'p'"),
        ({"x": np.nan}, "new", MissingDataError, "'x'"),
        ({"arm": "q"}, "new", UnsupportedError, "'q'"),
        ({"t": 0.5}, "new", TimeError, "0.5"),
        ({"t": 2}, "new", DuplicateTimeError, "same group and time"),
        ({"id": None}, "new", MissingDataError, "group"),
    ],
)
def test_new_data_that_do_not_fit(
    change: dict[str, Any], groups: str, error: type, words: str
) -> None:
    new = pd.DataFrame(
        {"id": [3, 3], "t": [1, 2], "x": [0.0, 1.0], "arm": "a"}, index=["p", "q"]
    )
    for name, value in change.items():
        new[name] = new[name].astype(object)
        new.loc["p", name] = value
        new[name] = new[name].infer_objects()
    with pytest.raises(error, match=words):
        shared("slope").simulate(newdata=new, groups=groups)


def test_simulate_refuses() -> None:
    fit, data = shared("slope"), reference_frame()
    with pytest.raises(UnknownColumnError, match="'x'"):
        fit.simulate(newdata=data.drop(columns="x"))
    with pytest.raises(UnknownColumnError, match="'t'"):
        fit.simulate(newdata=data.drop(columns="t"))
    with pytest.raises(EmptyDataError, match="no rows"):
        fit.simulate(newdata=data.iloc[:0])
    for n_sim in (0, 2.5, True, "3"):
        with pytest.raises(UnsupportedError, match="n_sim"):
            fit.simulate(n_sim)
    with pytest.raises(UnsupportedError, match="groups"):
        fit.simulate(groups="old")
    for seed in ("one", -1, 2.5):
        with pytest.raises(UnsupportedError, match="rng"):
            fit.simulate(seed=seed)
    new = data.iloc[:1].assign(day=77)
    with pytest.raises(UnsupportedError, match="level of 'day'"):
        shared("both").simulate(newdata=new, groups="conditional")


def test_models_from_arrays() -> None:
    data = load_growth().head(200)
    exog = np.column_stack([np.ones(200), data["time"]])
    fit = MixedLMAR(data["y"], exog, data["id"].to_numpy(), time=data["time"]).fit()
    assert fit.simulate(2, seed=1).shape == (200, 2)
    with pytest.raises(UnsupportedError, match="formulas"):
        fit.simulate(newdata=data)
    named = mar.mixedlm(
        "y ~ time", data, groups=data["id"].to_numpy(), time=data["time"].to_numpy()
    ).fit()
    with pytest.raises(GroupError, match="column"):
        named.simulate(newdata=data)


def test_new_strata_are_refused() -> None:
    data = reference_frame()
    fit = mar.mixedlm(
        "y ~ x", data, groups="id", time="t", weights=VarIdent("arm")
    ).fit()
    with pytest.raises(StructureError, match="'c'"):
        fit.simulate(newdata=data.assign(arm="c"))


# Observed against simulated


def test_check_of_all_named_statistics() -> None:
    fit = shared("slope")
    check = fit.predictive_check(STATISTICS, n_sim=300, seed=1)
    y, data = reference_frame()["y"], reference_frame()
    means = y.groupby(data["id"]).mean()
    rest = y - means.loc[data["id"]].to_numpy()
    expected = {
        "mean": y.mean(),
        "sd": y.std(),
        "min": y.min(),
        "max": y.max(),
        "skewness": y.skew(),
        "kurtosis": float(((y - y.mean()) ** 4).mean() / y.std(ddof=0) ** 4 - 3.0),
        "sd_between": means.std(),
        "sd_within": np.sqrt((rest**2).sum() / (len(y) - len(means))),
    }
    for name, value in expected.items():
        assert check.observed[name] == pytest.approx(value, rel=0.05)
    marginal = y - fit.fitted_marginal
    acf = mar_acf(marginal, data)
    assert check.observed["lag1"] == pytest.approx(acf)
    # the model made these data: nothing is far out
    assert (check.pvalues > 0.001).all()
    draws = fit.simulate(300, seed=1)
    assert_allclose(check.simulated["max"], draws.max())
    assert_allclose(check.simulated["sd"], draws.std())
    frame = check.to_frame()
    assert frame.index.tolist() == list(STATISTICS)
    assert ((frame["lower"] < frame["mean"]) & (frame["mean"] < frame["upper"])).all()
    assert "sd_between" in repr(check)


def mar_acf(x: pd.Series, data: pd.DataFrame) -> float:
    from mixedar.diagnostics import autocorrelation

    return float(autocorrelation(x, data["id"], data["t"])["acf"][1])


def test_statistics_of_ones_own() -> None:
    fit, data = shared("slope"), reference_frame()

    def arms(y: pd.Series) -> float:
        assert y.index.equals(data.index)
        assert y.name == "y"
        return float(y[data["arm"] == "a"].std())

    check = fit.predictive_check(arms, n_sim=50, seed=2)
    assert check.observed.index.tolist() == ["arms"]
    assert check.observed["arms"] == pytest.approx(arms(data["y"]))
    several = fit.predictive_check({"a": arms, "b": "sd"}, n_sim=20, seed=2)
    assert several.simulated.columns.tolist() == ["a", "b"]
    assert_array_equal(several.simulated["a"], check.simulated["arms"][:20])
    assert (
        fit.predictive_check(lambda y: y.max(), 5, 1).observed.index[0] == "statistic"
    )


def test_p_values() -> None:
    simulated = pd.DataFrame({"a": np.arange(1.0, 100.0)})
    for value, expected in ((0.0, 0.02), (50.0, 1.0), (98.5, 0.04), (1000.0, 0.02)):
        check = PredictiveCheck(pd.Series({"a": value}), simulated)
        assert check.pvalues["a"] == pytest.approx(expected)


def test_a_model_without_correlation_is_found_out() -> None:
    data = load_growth().head(2000)
    fit = mar.mixedlm(
        "y ~ time + treatment",
        data,
        groups="id",
        time="time",
        residual="independent",
    ).fit()
    assert fit.predictive_check("lag1", 200, 3).pvalues["lag1"] < 0.02


def test_check_given_the_predicted_effects() -> None:
    fit = shared("slope")
    check = fit.predictive_check("sd_within", 100, 4, groups="conditional")
    draws = fit.simulate(100, 4, groups="conditional")
    codes = reference_frame()["id"].to_numpy()
    rest = draws - draws.groupby(codes).transform("mean")
    spare = len(codes) - len(np.unique(codes))
    assert_allclose(check.simulated["sd_within"], np.sqrt((rest**2).sum() / spare))


@pytest.mark.parametrize(
    ("statistic", "error", "words"),
    [
        ("median", UnsupportedError, "median"),
        ([], UnsupportedError, "at least one"),
        (3.0, UnsupportedError, "function"),
        ([3.0], UnsupportedError, "function"),
        (lambda y: y, UnsupportedError, "one number"),
        (lambda y: "high", UnsupportedError, "not a number"),
        (lambda y: np.nan, NotComputedError, "nan"),
    ],
)
def test_statistics_that_are_none(statistic: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        shared("slope").predictive_check(statistic, n_sim=3, seed=1)


def test_statistics_that_do_not_exist() -> None:
    data = load_growth().drop_duplicates("id").head(60)
    fit = mar.mixedlm(
        "y ~ 1", data, groups="id", re_formula="0", residual="independent"
    ).fit()
    for name in ("lag1", "sd_within"):
        with pytest.raises(NotComputedError, match=name):
            fit.predictive_check(name, 3, 1)
    usual = fit.predictive_check(n_sim=3, seed=1)
    assert list(usual.observed.index) == ["sd_between", "skewness", "kurtosis"]
    one = load_growth().head(40).assign(all=1, time=range(40))
    fit = mar.mixedlm("y ~ 1", one, groups="all", time="time", re_formula="0").fit()
    usual = fit.predictive_check(n_sim=3, seed=1)
    assert list(usual.observed.index) == ["sd_within", "lag1", "skewness", "kurtosis"]
    with pytest.raises(NotComputedError, match="one group"):
        fit.predictive_check("sd_between", 3, 1)


# at stated parameters


def test_stated_fixed_effects_move_the_means_alone() -> None:
    for name in ("slope", "components", "car1"):
        fit = shared(name)
        here = fit.simulate(3, seed=1)
        moved = fit.simulate(3, seed=1, params={"x": fit.fe_params["x"] + 0.5})
        shift = np.tile(0.5 * fit.model.exog[:, [2]], 3)
        assert_allclose(moved - here, shift, atol=1e-10)
        pd.testing.assert_frame_equal(fit.simulate(3, seed=1, params=fit.params), here)


def test_stated_variances_and_correlations() -> None:
    fit = shared("slope")
    stated = {"id Var": 2.0, "id x x Cov": 0.3, "x Var": 0.5, "scale": 3.0, "rho": 0.7}
    draws = fit.simulate(20_000, seed=1, params=stated).to_numpy()
    model = fit.model
    group = np.flatnonzero(model.codes == 0)
    Z, t = model.exog_re[group], np.asarray(model.time)[group]
    psi = np.array([[2.0, 0.3], [0.3, 0.5]])
    expected = Z @ psi @ Z.T + 3.0 * 0.7 ** np.abs(t[:, None] - t)
    error = 5.0 * expected.diagonal().max() * np.sqrt(2.0 / 20_000)
    assert_allclose(np.cov(draws[group]), expected, atol=error)


@pytest.mark.parametrize(
    ("stated", "error", "words"),
    [
        ({"rho": 1.2}, UnsupportedError, "rho = 1.2"),
        ({"id Var": -1.0}, UnsupportedError, "is -1; a variance cannot be"),
        ({"id x x Cov": 99.0}, UnsupportedError, "no covariance matrix"),
        ({"scale": 0.0}, UnsupportedError, "positive"),
        ({"x": np.nan}, UnsupportedError, "no number"),
        ({"slope": 1.0}, UnknownColumnError, "'slope' is no parameter"),
        ([0.5], UnsupportedError, "takes a mapping"),
    ],
)
def test_impossible_parameters_are_refused(
    stated: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        shared("slope").simulate(1, params=stated)


def test_parameters_that_are_held_or_change_the_fitted_values_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="'rho' is held"):
        shared("fixed").simulate(1, params={"rho": 0.2})
    data = reference_frame().assign(y=lambda frame: frame["y"] + 20.0)
    fit = mar.mixedlm("y ~ x", data, groups="id", weights=VarPower()).fit()
    with pytest.raises(UnsupportedError, match="fitted values"):
        fit.simulate(1, params={"x": 0.2})


def test_packed_parameters_of_another_length_are_refused() -> None:
    fit = shared("slope")
    packed = fit.params_object.get_packed(use_sqrt=False, has_fe=True)
    for params in (packed, np.append(packed, [0.2, 0.3])):
        with pytest.raises(LengthError, match=r"and, after them, 1 of.*\(rho\)"):
            fit.model.get_distribution(params, fit.scale)
    again = fit.model.get_distribution(np.append(packed, fit.rho), fit.scale)
    assert_allclose(again.rvs(rng=1), fit.get_distribution().rvs(rng=1))
