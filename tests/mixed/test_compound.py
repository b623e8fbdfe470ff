"""Random effects that share one variance and one covariance: nlme's pdCompSymm."""

from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import minimize
from statsmodels.regression.mixed_linear_model import MixedLMParams

import mixedar.formula.api as mar
from mixedar import MixedLMAR, VarIdent
from mixedar.exceptions import BoundaryWarning, UnsupportedError
from mixedar.report.facts import call_text

ROOT = Path(__file__).parent.parent / "reference" / "compound"
CASES = json.loads((ROOT / "cases.json").read_text())
NLME = [name for name, case in CASES.items() if "fixef" in case]


def close(found: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    found, expected = (np.asarray(x, dtype=float) for x in (found, expected))
    np.testing.assert_allclose(found, expected, rtol, atol)


@cache
def data_of(name: str) -> pd.DataFrame:
    case = CASES[name]
    data = pd.read_csv(ROOT / case["data"])
    return data.query(case["rows"]) if case["rows"] else data


@cache
def fit_of(name: str) -> Any:
    case = CASES[name]
    time = {} if case["phi"] is None else {"time": "row"}
    model = mar.mixedlm(
        case["formula"],
        data_of(name),
        groups=case["groups"],
        re_formula=f"0 + {case['factor']}",
        re_cov="compound",
        **time,
    )
    return model.fit(reml=case["reml"])


@pytest.mark.parametrize("name", NLME)
def test_as_nlme(name: str) -> None:
    case, fit = CASES[name], fit_of(name)
    assert fit.converged
    assert fit.df_modelwc == case["n_params"]
    close(fit.llf, case["loglike"], 0.0, 1e-7)
    close(fit.fe_params, case["fixef"], 1e-6)
    close(fit.bse_fe, case["fixef_se"], 1e-6)
    close(fit.df, case["df"], 0.0)
    close(fit.params[f"{case['factor']} Var"], case["variance"], 1e-6)
    close(fit.params[f"{case['factor']} Cov"], case["covariance"], 1e-6)
    close(fit.scale, case["sigma2"], 1e-6)
    if case["phi"] is not None:
        close(fit.rho, case["phi"], 1e-6)
    effects = fit.ranef()
    effects.index = effects.index.astype(str)
    close(effects.loc[case["groups_of_ranef"]], case["ranef"], 1e-6, 1e-6)
    close(fit.fittedvalues, case["fitted"], 1e-6)
    cov = np.full((3, 3), case["covariance"])
    np.fill_diagonal(cov, case["variance"])
    close(fit.cov_re, cov, 1e-6)
    close(fit.random_covariance(), cov, 1e-6)


def test_intervals_as_nlme() -> None:
    # nlme's covariance of the estimates is from numerical derivatives
    found = fit_of("machines_reml").conf_int_re(method="wald")
    columns = ["lower", "estimate", "upper"]
    close(found.loc["sd(Machine)", columns], CASES["intervals"]["sd"], 1e-4)
    close(found.loc["corr(Machine)", columns], CASES["intervals"]["corr"], 1e-3)


def test_what_it_is_a_case_of_and_what_are_its_cases() -> None:
    data, fit = data_of("machines_reml"), fit_of("machines_reml")

    def other(**effects: Any) -> Any:
        return mar.mixedlm("score ~ Machine", data, groups="Worker", **effects).fit()

    intercept, general = other(), other(re_formula="0 + Machine")
    expected = CASES["anova"]
    for one, llf, df in zip(
        (intercept, fit, general), expected["loglike"], expected["df"], strict=True
    ):
        close(one.llf, llf, 0.0, 1e-7)
        assert one.df_modelwc == df
    inside = general.anova(fit).iloc[-1]
    assert inside["null"] == "chi2(4)"
    close(inside["p"], stats.chi2.sf(2.0 * (general.llf - fit.llf), 4), 1e-8)
    on_edge = fit.anova(intercept).iloc[-1]
    assert on_edge["null"] == "0.5 chi2(0) + 0.5 chi2(1)"
    close(on_edge["p"], 0.5 * stats.chi2.sf(2.0 * (fit.llf - intercept.llf), 1), 1e-8)
    # a covariance of zero is inside the range, as it may be negative
    same = other(re_formula="0", vc_formula={"M": "0 + C(Machine)"})
    assert fit.anova(same).iloc[-1]["null"] == "chi2(1)"
    assert (
        "not nested"
        in other(re_formula="0 + Machine", re_cov="diagonal")
        .anova(fit)
        .iloc[-1]["note"]
    )
    nothing = fit.anova(other(re_formula="0")).iloc[-1]
    assert "2 variances are on the boundary" in nothing["note"]
    both = other(re_formula="1", vc_formula={"M": "0 + C(Machine)"})
    assert fit.anova(both).iloc[-1]["note"] == "no parameter is tested"


# Where the covariance is not negative, an intercept and a variance component say the
# same: everything that is asked of one has the other's answer.


def twins(**options: Any) -> tuple[Any, Any]:
    data = data_of("machines_part_reml").reset_index(drop=True)
    data["x"] = np.cos(np.arange(len(data)))
    formula = options.pop("formula", "score ~ Machine")
    data["score"] += 4.0 * data["x"] ** 2 * ("s(x" in formula)
    own = {"re_formula": "0 + Machine", "re_cov": "cs"}
    parts = {"re_formula": "1", "vc_formula": {"M": "0 + C(Machine)"}}
    first, second = (
        mar.mixedlm(formula, data, groups="Worker", **effects, **options).fit()
        for effects in (own, parts)
    )
    return first, second


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"time": "row", "residual": "ar1"},
        {"weights": VarIdent("Machine")},
        {"scale": 1.3},
        {"formula": "score ~ Machine + s(x, k=4)"},
    ],
    ids=["plain", "ar1", "strata", "known", "smooth"],
)
def test_an_intercept_and_a_component_say_the_same(options: dict[str, Any]) -> None:
    fit, twin = twins(**dict(options))
    close(fit.llf, twin.llf, 0.0, 1e-8)
    turn = np.array([[1.0, 1.0], [1.0, 0.0]])
    own, parts = ["Machine Var", "Machine Cov"], ["Worker Var", "M Var"]
    close(fit.params[own], turn @ twin.params[parts], 1e-6)
    cov = twin.cov_params().loc[parts, parts].to_numpy()
    close(fit.cov_params().loc[own, own], turn @ cov @ turn.T, 1e-6)
    for df in ("satterthwaite", "kenward-roger"):
        one, other = fit.with_df(df), twin.with_df(df)
        close(one.df, other.df, 1e-6)
        close(one.bse_fe, other.bse_fe, 1e-6)
        close(one.anova()["F"], other.anova()["F"], 1e-6)
    one, other = fit.with_df("satterthwaite"), twin.with_df("satterthwaite")
    rows = fit.fit.data.frame.iloc[[0, 12, 30]]
    for level in ("population", "group"):
        table, expected = (
            x.get_prediction(rows, level=level).summary_frame() for x in (one, other)
        )
        close(table, expected, 1e-5)
    close(fit.residuals("normalized"), twin.residuals("normalized"), 1e-6, 1e-6)
    close(fit.r2(), twin.r2(), 1e-6)
    close(fit.icc()["adjusted"], twin.icc()["adjusted"], 1e-6)
    group = rows["Worker"].iloc[0]
    close(fit.group_covariance(group), twin.group_covariance(group), 1e-6)
    ends = ["lower", "upper"]
    table = fit.conf_int_re(method="profile", parameters=["Machine Cov"])
    expected = twin.conf_int_re(method="profile", parameters=["Worker Var"])
    close(table[ends], expected[ends], 1e-5)
    if "scale" in options:
        return  # influence() is not there then
    influence = [x.influence().summary_frame()["cooks_d"] for x in (fit, twin)]
    close(*influence, 1e-5)


def test_many_responses_as_one() -> None:
    fit = fit_of("machines_part_reml")
    rng = np.random.default_rng(5)
    many = fit.fit.data.endog[:, None] + rng.normal(size=(fit.nobs, 3))
    found = fit.refit_many(many)
    for k, y in enumerate(many.T):
        alone = fit.model.refit(y)
        close(found.llf[k], alone.llf, 0.0, 1e-7)
        close(found.params.iloc[k][alone.params.index], alone.params, 1e-5)


@cache
def dense() -> Any:
    """The restricted log-likelihood written out, by variance, covariance, sigma2."""
    data = data_of("contrary_reml")
    z = pd.get_dummies(data["place"]).to_numpy(dtype=float)
    groups = [
        (rows["y"].to_numpy(), z[data["id"] == name])
        for name, rows in data.groupby("id")
    ]

    def llf(variance: float, cov: float, sigma2: float) -> float:
        psi = np.full((3, 3), cov)
        np.fill_diagonal(psi, variance)
        sums, logs = np.zeros((2, 2)), 0.0
        for y, own in groups:
            v = own @ psi @ own.T + sigma2 * np.eye(len(y))
            both = np.column_stack([np.ones(len(y)), y])
            sums += both.T @ np.linalg.solve(v, both)
            logs += np.linalg.slogdet(v)[1]
        logs += np.log(sums[0, 0]) + sums[1, 1] - sums[0, 1] ** 2 / sums[0, 0]
        return float(-0.5 * (logs + (len(data) - 1) * np.log(2.0 * np.pi)))

    return llf


@pytest.mark.parametrize(
    ("parameter", "pair"),
    [
        ("place Var", lambda held, free: (held, held * np.tanh(free))),
        ("place Cov", lambda held, free: (np.exp(free) - 2.0 * held, held)),
        ("corr(place)", lambda held, free: (np.exp(free), held * np.exp(free))),
    ],
)
def test_profiles_are_maxima_over_the_others(parameter: str, pair: Any) -> None:
    fit, llf = fit_of("contrary_reml"), dense()
    close(llf(*fit.params[["place Var", "place Cov"]], fit.scale), fit.llf, 1e-10)
    starts = {"place Var": -0.4, "place Cov": -0.8, "corr(place)": 1.7}
    table = fit.conf_int_re(method="profile", parameters=[parameter])
    for end in table[["lower", "upper"]].iloc[0]:

        def fall(z: Any, end: float = float(end)) -> float:
            variance, cov = pair(end, z[0])
            if not (variance > cov and variance > -2.0 * cov):
                return 1e6
            return -llf(variance, cov, np.exp(z[1]))

        start = [starts[parameter], np.log(fit.scale)]
        best = minimize(fall, start, method="Nelder-Mead", options={"fatol": 1e-7})
        wanted = fit.llf - 0.5 * stats.chi2.isf(0.05, 1)
        close(-best.fun, wanted, 0.0, 1e-4)


def test_standard_errors_by_differences() -> None:
    fit, llf = fit_of("contrary_reml"), dense()
    names = ["place Var", "place Cov"]
    at, step = np.array([*fit.params[names], fit.scale]), 1e-3

    def second(i: int, j: int) -> float:
        a, b = (step * np.eye(3)[k] for k in (i, j))
        signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
        values = [s * t * llf(*(at + s * a + t * b)) for s, t in signs]
        return sum(values) / (4.0 * step**2)

    information = -np.array([[second(i, j) for j in range(3)] for i in range(3)])
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    close([*fit.bse[names], fit.bse_scale], errors, 1e-4)
    derived = fit.covariance_parameters()["se"]
    close(derived["sd(place)"], errors[0] / (2.0 * np.sqrt(at[0])), 1e-4)


def effects_of(values: Any, seed: int) -> pd.DataFrame:
    """Four rows each of three effects in groups, with noise."""
    m = len(values)
    index = pd.MultiIndex.from_product([range(m), list("abc"), range(4)])
    data = index.to_frame(index=False, name=["id", "place", "row"])
    noise = np.random.default_rng(seed).normal(size=len(data))
    own = values[data["id"], data["place"].map({"a": 0, "b": 1, "c": 2})]
    return data.assign(y=own + noise)


def test_the_least_correlation_is_named() -> None:
    values = np.random.default_rng(1).normal(size=(12, 3))
    data = effects_of(values - values.mean(axis=1, keepdims=True), 2)
    # means of groups that differ less than the residuals make them differ
    data["y"] -= 0.9 * data.groupby("id")["y"].transform("mean")
    model = mar.mixedlm(
        "y ~ 1", data, groups="id", re_formula="0 + place", re_cov="compound"
    )
    with pytest.warns(BoundaryWarning, match="least that 3 effects can share"):
        fit = model.fit()
    assert fit.at_boundary
    variance, cov = fit.params[["place Var", "place Cov"]]
    close(cov, -0.5 * variance, 1e-6)
    assert "'place Cov' is -0.5" in fit.boundary_notes[0]
    assert np.isnan(fit.bse["place Cov"])
    assert "add up to zero" in str(fit.diagnose()).replace("\n", " ")
    # without the mean of the effects: a variance component of their differences
    contrasts = np.array([[1.0, 1.0, -2.0], [1.0, -1.0, 0.0]]).T / np.sqrt([6.0, 2.0])
    data[["u", "v"]] = contrasts[data["place"].map({"a": 0, "b": 1, "c": 2})]
    twin = mar.mixedlm(
        "y ~ 1", data, groups="id", re_formula="0", vc_formula={"d": "0 + u + v"}
    ).fit()
    close(fit.llf, twin.llf, 0.0, 1e-7)
    close(1.5 * variance, twin.params["d Var"], 1e-5)
    found = fit.conf_int_re(method="profile", parameters=["corr(place)"]).iloc[0]
    close(found["lower"], -0.5, 1e-6)
    assert "lower end of its range" in found["note"]
    assert found["upper"] > -0.5


def test_equal_effects_are_an_intercept() -> None:
    values = np.random.default_rng(3).normal(size=(20, 1)) * np.ones(3)
    data = effects_of(2.0 * values, 1)
    data["y"] -= 0.5 * (
        data.groupby(["id", "place"])["y"].transform("mean")
        - data.groupby("id")["y"].transform("mean")
    )
    model = mar.mixedlm(
        "y ~ 1", data, groups="id", re_formula="0 + place", re_cov="compound"
    )
    with pytest.warns(BoundaryWarning, match=r"correlation in 'place Cov' is \+1"):
        fit = model.fit()
    twin = mar.mixedlm("y ~ 1", data, groups="id").fit()
    close(fit.llf, twin.llf, 0.0, 1e-7)
    close(fit.params["place Var"], twin.params["id Var"], 1e-5)
    close(fit.with_df("satterthwaite").df, twin.with_df("satterthwaite").df, 1e-5)


def test_no_variation_at_all() -> None:
    data = effects_of(np.zeros((20, 3)), 12)
    data["y"] -= 0.8 * data.groupby(["id", "place"])["y"].transform("mean")
    model = mar.mixedlm(
        "y ~ 1", data, groups="id", re_formula="0 + place", re_cov="compound"
    )
    with pytest.warns(BoundaryWarning, match="variance 'place Var' is zero"):
        fit = model.fit()
    close(fit.cov_re, np.zeros((3, 3)), 0.0, 1e-10)


def test_names() -> None:
    fit = fit_of("machines_reml")
    assert list(fit.params.index[-2:]) == ["Machine Var", "Machine Cov"]
    assert list(fit.covariance_parameters().index) == [
        "Machine Var",
        "Machine Cov",
        "scale",
        "sd(Machine)",
        "corr(Machine)",
        "sigma",
    ]
    assert list(fit.ranef().columns) == ["Machine[A]", "Machine[B]", "Machine[C]"]
    assert "Machine Cov" in str(fit.summary())
    assert list(mar.tidy(fit)["term"][3:5]) == ["Machine Var", "Machine Cov"]
    found = mar.compare([fit]).components
    close(found.loc["SD(Machine)"], np.sqrt(fit.params["Machine Var"]), 1e-12)


def test_without_a_factor_the_groups_name_it() -> None:
    data = data_of("contrary_reml")
    z = pd.get_dummies(data["place"]).to_numpy(dtype=float)
    y, x = data["y"].to_numpy(), np.ones((len(data), 1))
    model = MixedLMAR(
        y, x, data["id"].to_numpy(), exog_re=z, re_cov="compound symmetry"
    )
    assert model.re_cov == "compound"
    fit, formula = model.fit(), fit_of("contrary_reml")
    close(fit.llf, formula.llf, 0.0, 1e-9)
    close(fit.params, formula.params, 1e-6)
    assert list(fit.fit.names[-2:]) == ["Group Var", "Group Cov"]
    one = mar.mixedlm("y ~ 1", data, groups="id", re_cov="cs").fit(collected=[])
    plain = mar.mixedlm("y ~ 1", data, groups="id").fit(collected=[])
    pd.testing.assert_series_equal(one.params, plain.params)
    slopes = mar.mixedlm(
        "y ~ 1", data, groups="id", re_formula="1 + row", re_cov="cs"
    ).fit(collected=[])
    assert list(slopes.params.index[-2:]) == ["id Var", "id Cov"]


def test_other_units_and_orders_are_the_same_model() -> None:
    data, fit = data_of("contrary_reml"), fit_of("contrary_reml")
    labels = {"a": "z", "b": "y", "c": "x"}
    data = data.assign(y=1e4 * data["y"], place=data["place"].map(labels))
    other = mar.mixedlm(
        "y ~ 1",
        data.sample(frac=1.0, random_state=2),
        groups="id",
        re_formula="0 + place",
        re_cov="cs",
    ).fit()
    names = ["place Var", "place Cov"]
    close(other.params[names], 1e8 * fit.params[names], 1e-6)
    close(other.bse[names], 1e8 * fit.bse[names], 1e-6)


def test_draws_at_stated_values() -> None:
    fit = fit_of("contrary_reml")
    stated = {"place Var": 9.0, "place Cov": -4.0, "scale": 1e-12}
    draws = fit.simulate(400, seed=1, params=stated).to_numpy()
    data = data_of("contrary_reml").reset_index(drop=True)
    first = data.groupby(["id", "place"]).head(1).index
    values = draws[first].reshape(15, 3, 400) - fit.fe_params.iloc[0]
    found = np.einsum("gar,gbr->ab", values, values) / (15 * 400)
    expected = np.full((3, 3), -4.0) + 13.0 * np.eye(3)
    close(found, expected, 0.0, 0.6)
    with pytest.raises(UnsupportedError, match="make no covariance matrix"):
        fit.simulate(1, params={"place Cov": -4.0, "place Var": 7.0})


def test_replicates_keep_the_form() -> None:
    fit = fit_of("contrary_reml")
    draws = fit.bootstrap(20, seed=3)
    frame = draws.to_frame()
    assert (frame["place Cov"] >= -0.5 * frame["place Var"] - 1e-8).all()
    assert (frame["place Cov"] < frame["place Var"]).all()


def test_stored_and_written() -> None:
    fit = fit_of("contrary_reml")
    again = pickle.loads(pickle.dumps(fit))
    close(again.params, fit.params, 0.0)
    close(again.conf_int_re()["lower"], fit.conf_int_re()["lower"], 1e-8)
    assert 're_cov="compound"' in call_text(fit.fit, {})


def test_packed_parameters() -> None:
    fit, names = fit_of("contrary_reml"), ["place Var", "place Cov"]
    model = fit.model
    relative = (fit.params[names] / fit.scale).to_numpy()
    close(model.loglike(fit.params_object), fit.llf, 1e-10)
    k, (variance, cov) = 3, relative
    mean, rest = np.sqrt(variance + (k - 1) * cov), np.sqrt(variance - cov)
    root = np.array([rest + (mean - rest) / k, (mean - rest) / k])
    close(model.loglike(root), fit.llf, 1e-10)
    close(model.score(fit.params_object), np.zeros(2), 0.0, 1e-5)
    hessian, singular = model.hessian(fit.params_object)
    assert hessian.shape == (3, 3)
    assert not singular
    assert fit.get_distribution().rvs(rng=1).shape == (fit.nobs,)
    again = model.fit(start_params=fit.params_object)
    close(again.llf, fit.llf, 0.0, 1e-8)
    other = MixedLMParams.from_components(np.ones(1), cov_re=np.diag([1.0, 2.0, 3.0]))
    for ask in (model.loglike, lambda given: model.fit(start_params=given)):
        with pytest.raises(UnsupportedError, match="one variance and one covariance"):
            ask(other)


def test_refusals_name_what_to_do() -> None:
    fit, data = fit_of("machines_reml"), data_of("machines_reml")
    free = MixedLMParams.from_components(np.ones(3), cov_re=np.eye(3))
    with pytest.raises(UnsupportedError, match="one for all"):
        fit.model.fit(free=free)
    with pytest.raises(UnsupportedError, match=r"profile\('Machine Var'\)"):
        fit.profile_re(0, "re")
    assert fit.profile("Machine Var").estimate == fit.params["Machine Var"]
    close(fit.profile("corr(Machine)").limits, [-0.5, 1.0], 1e-12)
    with pytest.raises(UnsupportedError, match="re_cov='compound'"):
        fit.model.fit_regularized(alpha=0.1)
    for wrong in ("toeplitz", None, ["cs"]):
        with pytest.raises(UnsupportedError, match="'diagonal' or 'compound'"):
            mar.mixedlm("score ~ Machine", data, groups="Worker", re_cov=wrong)


def test_many_effects() -> None:
    # 30 effects of 12 groups: two parameters where a general covariance has 465
    rng = np.random.default_rng(4)
    index = pd.MultiIndex.from_product([range(12), range(30), range(2)])
    data = index.to_frame(index=False, name=["id", "item", "row"])
    data["item"] = "i" + data["item"].astype(str)
    own = rng.normal(size=(12, 1)) + rng.normal(size=(12, 30))
    data["y"] = np.repeat(own.ravel(), 2) + rng.normal(size=720)
    fit = mar.mixedlm(
        "y ~ 1", data, groups="id", re_formula="0 + item", re_cov="compound"
    ).fit()
    # balanced: by mean squares
    groups = data.groupby("id")["y"].mean()
    cells = data.groupby(["id", "item"])["y"].mean().unstack()
    within = (
        (data["y"] - data.groupby(["id", "item"])["y"].transform("mean")) ** 2
    ).sum()
    error = within / 360
    between = cells.sub(groups, axis=0).to_numpy()
    rest = (between**2).sum() / (12 * 29) - error / 2
    cov = groups.var() - (rest + error / 2) / 30
    close(fit.scale, error, 1e-6)
    close(fit.params["item Cov"], cov, 1e-6)
    close(fit.params["item Var"], cov + rest, 1e-6)
