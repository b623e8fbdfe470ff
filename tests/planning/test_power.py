"""Power by simulation against formulas, and plans from data."""

from __future__ import annotations

import pickle

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixedar.api as ma
import mixedar.formula.api as mar
from mixedar.datasets import load_orthodont
from mixedar.exceptions import NotComputedError, UnknownColumnError, UnsupportedError
from mixedar.planning.plans import Plan

mpl.use("Agg")
TEETH = "distance ~ age * sex"
SLOPES = "age:sex[T.Male]"


@pytest.fixture(scope="module")
def growth():
    model = mar.mixedlm(
        "distance ~ occ * sex", load_orthodont(), groups="subject", time="occ"
    )
    return model.fit()


def arms(groups: int, times: int) -> pd.DataFrame:
    rows = [(g, t, "ab"[g % 2]) for g in range(groups) for t in range(times)]
    return pd.DataFrame(rows, columns=["id", "t", "arm"])


PARAMS = {"Intercept": 0.0, "id Var": 1.0, "scale": 1.0}


def between_arms(effect: float, **options: object) -> pd.DataFrame:
    """Power of the difference of two arms of ten groups of four, 4,000 data sets."""
    formula = "y ~ arm + (1 | id)"
    options = {"n_sim": 4000, "rng": 7, **options}
    found = mar.power(
        arms(20, 4), {"arm[T.b]": effect}, formula=formula, params=PARAMS, **options
    )
    return found.frame


def test_balanced_random_intercepts_have_the_power_of_the_noncentral_t() -> None:
    # means of groups are independent, with variance 1 + 1/4
    found = between_arms(1.0).iloc[0]
    away, q = 1.0 / np.sqrt(2 * 1.25 / 10), stats.t.isf(0.025, 18)
    exact = stats.nct.sf(q, 18, away) + stats.nct.cdf(-q, 18, away)
    assert found["lower"] < exact < found["upper"]
    assert found["upper"] - found["lower"] < 0.035


def test_one_sided_tests_have_the_power_of_the_noncentral_t() -> None:
    found = between_arms(1.0, alternative="larger", alpha=0.1).iloc[0]
    away, q = 1.0 / np.sqrt(2 * 1.25 / 10), stats.t.isf(0.1, 18)
    assert found["lower"] < stats.nct.sf(q, 18, away) < found["upper"]
    assert between_arms(1.0, alternative="smaller", n_sim=200)["power"].iloc[0] < 0.02


@pytest.mark.parametrize("df", ["containment", "satterthwaite", "kr"])
def test_tests_keep_their_level(df: str) -> None:
    count = 4000 if df == "containment" else 600
    found = between_arms(0.0, df=df, n_sim=count).iloc[0]
    # five standard errors of a level of 0.05
    assert abs(found["power"] - 0.05) < 5 * np.sqrt(0.05 * 0.95 / count)


def test_each_data_set_is_tested_as_its_own_fit(growth) -> None:
    # the same stream as in `simulate`
    draws = growth.simulate(
        8, np.random.default_rng(3), params={"occ:sex[T.Male]": 0.5}
    )
    p = [
        growth.model.refit(draws[k]).t_test("occ:sex[T.Male] = 0", df="kr").pvalue
        for k in draws
    ]
    found = mar.power(growth, {"occ:sex[T.Male]": 0.5}, df="kr", n_sim=8, rng=3)
    assert found.frame["power"].iloc[0] == pytest.approx((np.array(p) < 0.05).mean())


def test_joint_tests_have_the_power_of_the_noncentral_f() -> None:
    plan = arms(30, 3).assign(arm=lambda d: np.array(list("abc"))[d["id"] % 3])
    effect = {"arm[T.b]": 0.6, "arm[T.c]": 1.2}
    found = mar.power(
        plan, effect, formula="y ~ arm + (1 | id)", params=PARAMS, n_sim=3000, rng=2
    ).frame.iloc[0]
    away = 10 * (0.6**2 + 0.6**2) / (1 + 1 / 3)
    exact = stats.ncf.sf(stats.f.isf(0.05, 2, 27), 2, 27, away)
    assert found["lower"] < exact < found["upper"]


def test_curves_cross_everything_and_rise(growth) -> None:
    effect = {"occ:sex[T.Male]": [0.2, 0.6]}
    found = mar.power(
        growth, effect, n=[20, 60], times=[3, 4], dropout=[0.0, 0.4], n_sim=30, rng=1
    )
    frame = found.frame
    assert len(frame) == 16
    assert set(frame["n"]) == {20, 60}
    assert set(frame["times"]) == {3, 4}
    means = frame.groupby("n")["power"].mean()
    assert means[60] > means[20]
    means = frame.groupby("dropout")["power"].mean()
    assert means[0.0] > means[0.4]
    assert (frame["lower"] <= frame["power"]).all()
    assert (frame["failed"] == 0).all()
    axes = found.plot("n")
    assert len(axes.get_legend().get_texts()) == 8
    assert "Monte Carlo" in repr(found)


def test_sample_size_is_that_of_the_noncentral_t() -> None:
    found = mar.power(
        arms(20, 4),
        {"arm[T.b]": 1.0},
        formula="y ~ arm + (1 | id)",
        params=PARAMS,
        n=[20, 30, 40, 60],
        n_sim=1500,
        rng=5,
    )

    def exact(n: int) -> float:
        return float(
            stats.nct.sf(stats.t.isf(0.025, n - 2), n - 2, 1 / np.sqrt(5.0 / n))
        )

    size = next(n for n in range(20, 80, 2) if exact(n) >= 0.8)
    row = found.sample_size(0.8).iloc[0]
    assert row["lower"] - 2 <= size <= row["upper"] + 2
    with pytest.raises(NotComputedError, match="several"):
        found.sample_size(0.001)


def test_the_same_seed_gives_the_same_power(growth) -> None:
    some = [mar.power(growth, {"occ": 0.3}, n_sim=30, rng=4).frame for _ in range(2)]
    pd.testing.assert_frame_equal(*some)


def test_plans_copy_groups_in_proportion() -> None:
    teeth = load_orthodont()  # 16 boys, 11 girls
    plan = Plan(teeth, "subject", "occ", frozenset({"age", "sex"}))
    larger = plan.with_groups(54)
    first = larger.frame.groupby("subject").first()
    assert first["sex"].value_counts().to_dict() == {"Male": 32, "Female": 22}
    assert larger.n_groups == 54
    assert len(larger.frame) == 216


def test_plans_lose_who_leaves() -> None:
    plan = Plan(arms(40, 5), "id", "t", frozenset({"arm"}))
    rng = np.random.default_rng(1)
    left = plan.with_dropout(0.5, rng).frame
    last = left.groupby("id")["t"].max()
    assert (last < 4).sum() == 20
    assert (last[::2] < 4).sum() == 10
    assert np.ptp(last[last < 4].value_counts()) <= 2
    assert (left.groupby("id")["t"].min() == 0).all()


def test_plans_go_on_in_equal_steps() -> None:
    plan = Plan(arms(4, 3), "id", "t", frozenset({"arm"}))
    assert sorted(set(plan.with_times(6).frame["t"])) == [0, 1, 2, 3, 4, 5]
    assert sorted(set(plan.with_times(np.array([0.0, 4.0])).frame["t"])) == [0.0, 4.0]
    assert sorted(set(plan.with_times(2).frame["t"])) == [0, 1]
    found = mar.power(
        plan.frame,
        {"t": 0.5},
        formula="y ~ t",
        groups="id",
        time="t",
        residual="independent",
        params={"Intercept": 0.0, "id Var": 1.0, "scale": 1.0},
        times=[4, [0, 6, 9]],
        n_sim=10,
        rng=1,
    )
    assert found.frame["times"].tolist() == [4, 3]
    uneven = Plan(
        plan.frame.assign(t=plan.frame["t"] ** 2), "id", "t", frozenset({"arm"})
    )
    with pytest.raises(UnsupportedError, match="equal steps"):
        uneven.with_times(6)


@pytest.mark.parametrize("ordered", [True, False])
def test_plans_follow_the_order_of_visits(ordered: bool) -> None:
    visits = ["week 2", "week 4", "week 8", "week 12"]
    numbers = arms(40, 4)
    named = numbers["t"].map(dict(enumerate(visits)))
    if ordered:
        named = named.astype(pd.CategoricalDtype(visits, ordered=True))
    plan = Plan(numbers.assign(visit=named), "id", "visit", frozenset({"arm"}))
    assert set(plan.with_times(2).frame["t"]) == {0, 1}
    left = plan.with_dropout(0.5, np.random.default_rng(1)).frame
    last = left.groupby("id")["t"].max()
    assert (last < 3).sum() == 20
    assert (left.groupby("id")["t"].count() == last + 1).all()
    with pytest.raises(UnsupportedError, match="equal steps"):
        plan.with_times(6)


def test_times_that_covariates_do_not_know_are_refused() -> None:
    fit = mar.mixedlm(TEETH, load_orthodont(), groups="subject", time="occ").fit()
    assert (
        mar.power(fit, {SLOPES: 0.3}, times=3, n_sim=10, rng=1).frame["times"][0] == 3
    )
    with pytest.raises(UnsupportedError, match="varies within groups"):
        mar.power(fit, {SLOPES: 0.3}, times=6, n_sim=10)


def test_what_cannot_be_planned_is_refused(growth) -> None:
    with pytest.raises(UnknownColumnError, match="no parameter"):
        mar.power(growth, {"dose": 1.0})
    with pytest.raises(UnsupportedError, match="nothing to test"):
        mar.power(growth)
    with pytest.raises(UnsupportedError, match=r"\[0, 1\)"):
        mar.power(growth, {"occ": 1.0}, dropout=1.5)
    with pytest.raises(UnsupportedError, match="lacks 'arm"):
        mar.power(arms(6, 3), {"Intercept": 1.0}, formula="y ~ arm + (1|id)", params={})
    teeth = load_orthodont()
    arrays = ma.MixedLMAR(
        teeth["distance"], np.ones((108, 1)), groups=teeth["subject"]
    ).fit()
    with pytest.raises(UnsupportedError, match="arrays"):
        ma.power(arrays, {"const": 1.0}, test="const = 0", n_sim=5)
    with pytest.raises(UnsupportedError, match="robust"):
        mar.power(growth.get_robustcov_results("CR2"), {"occ": 1.0})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"effect": {"occ": "large"}}, "'occ' is 'large'"),
        ({"effect": {"occ": []}}, "give a number"),
        ({"effect": 0.5}, "mapping"),
        ({"params": 3}, "params= takes a mapping"),
        ({"times": "occ"}, "number of occasions"),
        ({"times": [[1, 1, 2]]}, "1 twice"),
        ({"test": "occ = 0, sex[T.Male] = 0", "alternative": "larger"}, "no side"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(growth, options, match: str) -> None:
    given = {"effect": {"occ": 1.0}, "n_sim": 5, **options}
    with pytest.raises(UnsupportedError, match=match):
        mar.power(growth, **given)


def test_plans_are_made_before_anything_is_simulated(growth, monkeypatch) -> None:
    def simulated(*_: object, **__: object) -> None:
        raise AssertionError("a data set was drawn")

    monkeypatch.setattr("mixedar.planning.simulate", simulated)
    with pytest.raises(UnsupportedError, match="n=1 is not"):
        mar.power(growth, {"occ": 1.0}, n=[40, 1])
    with pytest.raises(UnsupportedError, match="1 twice"):
        mar.power(growth, {"occ": 1.0}, times=[4, [1, 1]])


def test_models_are_written_again_after_pickling(growth) -> None:
    model = pickle.loads(pickle.dumps(growth)).model
    again = model.for_rows(load_orthodont().iloc[:-8])
    assert again.nobs == 100
    assert again.exog_names == growth.model.exog_names


def test_groups_given_as_arrays_are_no_plan() -> None:
    teeth = load_orthodont()
    model = mar.mixedlm("distance ~ age", teeth, groups=teeth["subject"].to_numpy())
    with pytest.raises(UnsupportedError, match="name it"):
        model.for_rows(teeth)
