"""Random effects of several factors: R's values, equivalences, and bad input."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers import several_factors
from mixedar.exceptions import (
    BoundaryWarning,
    GroupError,
    IdentificationError,
    UnsupportedError,
)

ROOT = Path(__file__).parent.parent / "reference" / "levels"
CASES = sorted(path.stem for path in ROOT.glob("*.json"))
NAMES = [name for name in CASES if not name.startswith("r2_")]
every = pytest.mark.parametrize("name", NAMES)


@cache
def case(name: str) -> dict[str, Any]:
    return json.loads((ROOT / f"{name}.json").read_text())


@cache
def data(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "data" / f"{name}.csv")


@cache
def fitted(name: str) -> Any:
    found = case(name)
    options: dict[str, Any] = {}
    if found["residual"]:
        options = {"time": found["time"], "residual": found["residual"]["type"].lower()}
        if not name.startswith("nested"):  # nested factors need no groups=
            options["groups"] = found["residual"]["groups"][0]
    formula, frame = found["lme4_formula"], data(found["data"])
    return mar.mixedlm(formula, frame, **options).fit(reml=found["reml"])


def close(found: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    np.testing.assert_allclose(
        np.asarray(found, dtype=float), np.asarray(expected, dtype=float), rtol, atol
    )


@every
def test_estimates(name: str) -> None:
    fit, expected = fitted(name), case(name)["expected"]
    assert fit.converged
    close(fit.llf, expected["loglike"], 0.0, 1e-7)
    close([fit.aic, fit.bic], [expected["aic"], expected["bic"]], 1e-9)
    order = expected["fixef_names"]
    close(fit.fe_params[order], list(expected["fixef"].values()), 1e-6, 1e-9)
    close(fit.bse_fe[order], list(expected["fixef_se_unadjusted"].values()), 1e-6)
    close(fit.scale, expected["sigma2"], 1e-6)
    for factor, cov in expected["cov_re_levels"].items():
        found = fit.random_covariance(factor.replace("/", ":"))
        close(found, cov, 1e-6, 1e-8)
    close(fit.residual_params, list(expected["residual_params"].values()), 1e-6)


@every
def test_predicted_effects(name: str) -> None:
    fit, expected = fitted(name), case(name)["expected"]
    rows = expected["rows_first10"]
    close(fit.fitted_marginal[rows], expected["fitted_marginal"], 1e-6)
    close(fit.fittedvalues[rows], expected["fitted_conditional"], 1e-5)
    for key, part, beta in (
        ("ranef", "predicted", "known"),
        ("ranef_sd_conditional", "std_error", "known"),
        ("ranef_sd_prediction_error", "std_error", "estimated"),
    ):
        for factor, levels in expected[key].items():
            frame = fit.ranef(factor.replace("/", ":"), se=True, beta=beta)[part]
            for level, effects in levels.items():
                label = tuple(level.split("/")) if "/" in factor else level
                close(frame.loc[label], list(effects.values()), 1e-5, 1e-7)


@every
def test_degrees_of_freedom(name: str) -> None:
    fit, expected = fitted(name), case(name)["expected"]
    order = expected["fixef_names"]
    if "df" in expected:  # nlme
        assert fit.df.to_dict() == expected["df"]
    close(
        fit.with_df("satterthwaite").df[order],
        [expected["satterthwaite_df"][each] for each in order],
        1e-6,
    )
    if "kenward_roger" in expected:  # R's values are not polished
        other = fit.with_df("kenward-roger")
        values = [expected["kenward_roger"][each] for each in order]
        close(other.df[order], [each["df"] for each in values], 1e-5)
        close(other.bse_fe[order], [each["se"] for each in values], 1e-5)


@every
def test_standard_errors_of_variances(name: str) -> None:
    fit, expected = fitted(name), case(name)["expected"]["theta_se"]
    found = np.append(fit.bse[fit.k_fe :], fit.bse_scale)
    found = np.sort(found[found > 0.0])  # those that are held have none
    close(found, np.sort(list(expected.values())), 1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("r2_")])
def test_r2_and_icc(name: str) -> None:
    fit, expected = fitted(name), case(name)["expected"]["r2"]
    found = fit.r2()
    close(found["marginal"], expected["r2_marginal"], 1e-6)
    close(found["conditional"], expected["r2_conditional"], 1e-6)
    shares = fit.icc()
    close(shares["adjusted"], expected["icc_adjusted"], 1e-6)
    close(shares["unadjusted"], expected["icc_unadjusted"], 1e-6)
    for factor, share in expected["icc_by_group"].items():
        close(shares[factor], share, 1e-6)


def test_intervals_of_shares_say_why_there_is_none() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"s": np.repeat(np.arange(20), 6)})
    frame["y"] = rng.normal(size=20)[frame["s"]] + rng.normal(size=120)
    frame["i"] = np.tile(np.arange(6), 20)
    frame["y"] -= frame.groupby("i")["y"].transform("mean")  # no variance between items
    with pytest.warns(BoundaryWarning):
        fit = mar.mixedlm("y ~ 1 + (1 | s) + (1 | i)", frame).fit()
    found = fit.icc(ci=0.95)
    assert found.loc["i", "estimate"] == 0.0
    assert "end of its range" in found.loc["i", "note"]
    assert (
        found.loc[["s", "adjusted"], "lower"]
        .isna()
        .equals(found.loc[["s", "adjusted"], "note"] != "")
    )
    assert "end of its range" in str(found)


def crossed(seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"a": rng.integers(0, 9, 120), "b": rng.integers(0, 6, 120)})
    frame["x"] = rng.normal(size=120)
    a, b = rng.normal(size=9), rng.normal(size=6)
    frame["y"] = 1.0 + 0.5 * frame["x"] + a[frame["a"]] + b[frame["b"]]
    frame["y"] += rng.normal(size=120)
    return frame.assign(one=1)


def test_groups_may_have_no_effects_of_their_own() -> None:
    frame = data("crossed_slopes").sort_values(["subj", "trial"])
    fit = mar.mixedlm(
        "y ~ cond + (1 | item)", frame, groups="subj", time="trial", residual="ar1"
    ).fit()
    assert str(fit.summary()).lstrip().startswith("Linear mixed model with AR(1)")
    codes, subject = pd.factorize(frame["item"])[0], frame["subj"].to_numpy()
    time = frame["trial"].to_numpy()
    corr = fit.rho ** np.abs(np.subtract.outer(time, time))
    cov = fit.scale * corr * np.equal.outer(subject, subject)
    cov += fit.params["item Var"] * np.equal.outer(codes, codes)
    x = np.column_stack([np.ones(len(frame)), frame["cond"]])
    inverse = np.linalg.inv(cov)
    gram = x.T @ inverse @ x
    beta = np.linalg.solve(gram, x.T @ inverse @ frame["y"])
    left = frame["y"] - x @ beta
    logs = np.linalg.slogdet(cov)[1] + np.linalg.slogdet(gram)[1]
    n = len(frame) - 2
    close(fit.llf, -0.5 * (logs + left @ inverse @ left + n * np.log(2 * np.pi)), 1e-9)
    close(fit.fe_params, beta, 1e-8)


def test_bars_are_the_same_as_components_of_one_group() -> None:
    frame = crossed()
    bars = mar.mixedlm("y ~ x + (1 | a) + (1 | b)", frame).fit()
    parts = {"a": "0 + C(a)", "b": "0 + C(b)"}
    other = mar.mixedlm(
        "y ~ x", frame, groups="one", re_formula="0", vc_formula=parts
    ).fit()
    close(bars.llf, other.llf, 1e-12)
    close(bars.params, other.params, 1e-6)
    close(bars.bse, other.bse, 1e-5)
    close(bars.fittedvalues, other.fittedvalues, 1e-6)
    mine = bars.conf_int_re()[["lower", "upper"]]
    theirs = other.conf_int_re()[["lower", "upper"]]
    close(mine, theirs, 1e-4)
    for df in ("satterthwaite", "kenward-roger"):
        close(bars.with_df(df).df, other.with_df(df).df, 1e-6)


def test_nothing_depends_on_order_labels_or_how_a_factor_is_written() -> None:
    frame = data("schools_unbalanced")
    formula = "y ~ time + (time | school/pupil)"
    first = mar.mixedlm(formula, frame, time="time").fit()
    turned = frame.sample(frac=1.0, random_state=1)
    turned = turned.assign(whole=turned["school"] + "-" + turned["pupil"])
    second = mar.mixedlm(
        "y ~ time + (time | whole) + (time | school)", turned, time="time"
    ).fit()
    close(first.llf, second.llf, 1e-12)
    close(first.params, second.params, 1e-6)
    assert first.model.arrays.groups_name == "school:pupil"
    values = pd.Series(first.fittedvalues, frame.index)
    close(values[turned.index], second.fittedvalues, 1e-6)


def test_crossed_factor_that_is_nested_gives_the_nested_fit() -> None:
    frame = data("schools_balanced")
    whole = frame["school"] + frame["pupil"]
    frame = frame.assign(whole=pd.factorize(whole)[0])
    one = mar.mixedlm("y ~ time + (1 | school/pupil)", frame).fit()
    two = mar.mixedlm("y ~ time + (1 | whole) + (1 | school)", frame).fit()
    close(one.llf, two.llf, 1e-13)
    parts = {"pupil": "0 + C(pupil)"}
    three = mar.mixedlm(
        "y ~ time", frame, groups="school", re_formula="1", vc_formula=parts
    ).fit()
    close(one.llf, three.llf, 1e-12)


def test_one_bar_is_groups_and_re_formula() -> None:
    frame = data("schools_balanced")
    bar = mar.mixedlm("y ~ time + (1 + time | school)", frame).fit()
    old = mar.mixedlm("y ~ time", frame, groups="school", re_formula="~time").fit()
    assert bar.llf == old.llf
    np.testing.assert_array_equal(bar.params, old.params)
    double = mar.mixedlm("y ~ time + (1 + time || school)", frame).fit()
    held = mar.mixedlm(
        "y ~ time", frame, groups="school", re_formula="~time", re_cov="diagonal"
    ).fit()
    assert double.llf == held.llf


def test_levels_in_summary_and_tables() -> None:
    fit = fitted("crossed_slopes_reml")
    text = str(fit.summary())
    assert "cond|item" in text
    assert "No. levels of item:" in text
    table = fit.varcorr()
    assert table.index.tolist()[-1] == ("Residual", "")
    assert (
        table.loc[("item", "Intercept"), "variance"]
        == fit.random_covariance("item").iloc[0, 0]
    )
    assert list(fit.coef("item").columns) == ["Intercept", "cond"]
    close(
        fit.coef("item")["cond"],
        fit.fe_params["cond"] + fit.ranef("item")["cond"],
        1e-14,
    )


@pytest.mark.parametrize(
    ("formula", "options", "error", "message"),
    [
        ("y ~ x + (1 | a) + (1 | b)", {"residual": "ar1"}, GroupError, "'a', 'b'"),
        ("y ~ x + (1 | a)", {"groups": "b"}, GroupError, "none of the factors"),
        ("y ~ x + (1 | c)", {}, ValueError, r"\(1 \| c\): 'c' is not a column"),
        ("y ~ x + (x | a) + (1 | a)", {}, UnsupportedError, "both have an intercept"),
        ("y ~ x + (1 | one)", {}, GroupError, "one"),
        ("y ~ x + (1 | a) + (1 | one)", {}, GroupError, "one level"),
        ("y ~ x + (1 | row)", {}, IdentificationError, "row Var"),
        ("y ~ x + (1 | a) + (1 | row)", {}, IdentificationError, "row Var"),
        ("y ~ x + (1 | a) + (1 | copy)", {}, IdentificationError, "copy Var"),
        ("y ~ x:(1 | a)", {}, UnsupportedError, "by itself"),
        ("y ~ x + (1 | a", {}, UnsupportedError, r"^'\(1 \| a' misses a \)"),
        ("y ~ x + 1 | a)", {}, UnsupportedError, r"misses a \("),
        ("y ~ x + 1 | a", {}, UnsupportedError, "stand in brackets"),
        ("y ~ np.log(1 | a)", {}, UnsupportedError, "by itself"),
        ("y ~ x + np.abs(0 + x | a)", {"groups": "a"}, UnsupportedError, "by itself"),
        ("y ~ np.exp((x | a))", {}, GroupError, "inside a function"),
        ("y ~ x + (1 | a)", {"re_formula": "~x"}, UnsupportedError, "re_formula="),
        ("y ~ x + (1 | a) + (1 | a)", {}, UnsupportedError, "twice"),
        ("y ~ x - (1 | a)", {}, UnsupportedError, "cannot go.*leave it out"),
        ("y ~ x + ( | a)", {}, UnsupportedError, "write"),
        ("y ~ x + (1 | a + b)", {}, UnsupportedError, "right of the bar"),
        ("y ~ x + (1 | my a)", {}, UnsupportedError, r"\(1 \| Q\(\"my school\"\)\)"),
    ],
)
def test_what_cannot_be(
    formula: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    frame = crossed()
    frame = frame.assign(row=np.arange(len(frame)), copy=frame["a"] + 100)
    with pytest.raises(error, match=message):
        mar.mixedlm(formula, frame, **options)


@pytest.mark.parametrize("effect", [0, 1, "item", "cond|item"])
def test_profiles_of_variances(effect: int | str) -> None:
    fit = fitted("crossed_slopes_reml")
    table = fit.varcorr()["variance"].to_dict()
    name = str(effect)
    key = (name.split("|")[-1], name.split("|")[0] if "|" in name else "Intercept")
    if isinstance(effect, int):
        key = (fit.model.arrays.groups_name, ["Intercept", "cond"][effect])
    estimate = float(table[key])
    curve = fit.profile_re(
        effect, "re", num_low=1, dist_low=0.3 * estimate, num_high=2, dist_high=estimate
    )
    close(curve[1], [estimate, fit.llf], 1e-6)
    assert (np.diff(curve[:, 0]) > 0.0).all()
    assert fit.llf - 0.001 > curve[2, 1] > curve[3, 1]
    assert fit.llf - 0.001 > curve[0, 1]


def test_profiles_are_those_of_one_factor() -> None:
    frame = several_factors.crossed_data()
    several = mar.mixedlm(
        "y ~ x + (1 | subj) + (1 | item)", frame, groups="subj", time="t"
    ).fit()
    one = mar.mixedlm(
        "y ~ x",
        frame,
        groups="one",
        time="t",
        series="subj",
        re_formula="0",
        vc_formula={"subj": "0 + C(subj)", "item": "0 + C(item)"},
    ).fit()
    options = {"num_low": 2, "dist_low": 0.3, "num_high": 1, "dist_high": 0.5}
    for effect, name in ((0, "subj"), ("item", "item")):
        found = several.profile_re(effect, "re", **options)
        close(found, one.profile_re(name, "vc", **options), 1e-6)
    with pytest.raises(UnsupportedError, match=r"by name \['item'\]"):
        several.profile_re("subj", "re")


def test_bootstrap_covers_the_estimates() -> None:
    fit = fitted("crossed_slopes_reml")
    draws = fit.bootstrap(40, seed=1)
    assert draws.n_failed == 0
    frame = draws.to_frame()
    for name in ("item Var", "subj Var", "cond|item Var", "cond"):
        low, high = frame[name].quantile([0.02, 0.98])
        assert low < fit.params[name] < high
    spread = frame["cond"].std() / fit.bse["cond"]
    assert 0.6 < spread < 1.5


def test_simulated_responses_have_the_model_s_covariance() -> None:
    fit = fitted("crossed_slopes_reml")
    frame = data("crossed_slopes").reset_index(drop=True)
    first = frame.iloc[0]
    same_item = (frame["item"] == first["item"]) & (frame["subj"] != first["subj"])
    same_subject = (frame["item"] != first["item"]) & (frame["subj"] == first["subj"])
    z = np.column_stack([np.ones(len(frame)), frame["cond"]])
    for draws in (
        fit.simulate(3000, seed=1),
        fit.simulate(3000, seed=2, newdata=frame),
    ):
        errors = draws.to_numpy() - np.asarray(fit.fitted_marginal)[:, None]
        for rows, factor in ((same_item, "item"), (same_subject, "subj")):
            i = int(np.flatnonzero(rows)[0])
            expected = z[0] @ fit.random_covariance(factor).to_numpy() @ z[i]
            assert abs(np.mean(errors[0] * errors[i]) - expected) < 0.05
    known = fit.simulate(2000, seed=3, groups="conditional").mean(axis=1)
    assert np.abs(known - fit.fittedvalues).max() < 0.1


def test_variances_stay_when_the_data_go() -> None:
    found = case("crossed_slopes_reml")
    fit = mar.mixedlm(found["lme4_formula"], data(found["data"])).fit()
    before, mean = fit.varcorr(), fit.get_prediction(data(found["data"])).predicted_mean
    fit.remove_data()
    pd.testing.assert_frame_equal(fit.varcorr(), before)
    assert fit.random_covariance("item").shape == (2, 2)
    again = fit.get_prediction(data(found["data"]))
    np.testing.assert_array_equal(again.predicted_mean, mean)
    with pytest.raises(ValueError, match="data were removed"):
        fit.ranef("item")


def test_factors_that_link_too_many_levels_are_refused() -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.integers(0, 6000, n), "b": rng.integers(0, 5000, n)})
    frame["y"] = rng.normal(size=n)
    model = mar.mixedlm("y ~ 1 + (1 | a) + (1 | b)", frame)
    with pytest.raises(UnsupportedError, match=r"link 4,9.. effects .* GiB and"):
        model.fit()


def test_effects_that_no_group_has_both_of() -> None:
    """Their covariance is not there to be estimated; what the error says helps."""
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"person": np.repeat(np.arange(24), 4)})
    data["arm"] = np.where(data["person"] % 2, "a", "b")
    data["y"] = rng.normal(size=96) + rng.normal(size=24)[data["person"]]
    with pytest.raises(IdentificationError, match=r"re_cov='diagonal', or \|\|"):
        mar.mixedlm("y ~ arm + (0 + arm | person)", data).fit()
    bars = mar.mixedlm("y ~ arm + (0 + arm || person)", data).fit()
    words = {"groups": "person", "re_formula": "0 + arm", "re_cov": "diagonal"}
    assert bars.llf == pytest.approx(mar.mixedlm("y ~ arm", data, **words).fit().llf)
