"""Slopes, equivalence and notes: values of emmeans, derivatives by hand."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from numpy.testing import assert_allclose
from scipy import stats

import mixedar.formula.api as mar
from mixedar.datasets import load_orthodont
from mixedar.exceptions import (
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)

FOLDER = Path(__file__).parents[1] / "reference" / "means"


@cache
def trial() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "trial.csv")


@cache
def expected() -> dict[str, Any]:
    found = json.loads((FOLDER / "trial.json").read_text())
    return {k: pd.DataFrame(v) if k != "versions" else v for k, v in found.items()}


@cache
def fitted(formula: str = "y ~ arm * time + site + age", **options: Any) -> Any:
    options = {"groups": "id", "residual": "independent", **options}
    return mar.mixedlm(formula, trial(), **options).fit()


def close(found: pd.Series, wanted: pd.Series) -> None:
    assert_allclose(found.to_numpy(), wanted.to_numpy(), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("key", "df"), [("slopes", "satterthwaite"), ("slopes_kr", "kenward-roger")]
)
def test_slopes_are_those_of_emmeans(key: str, df: str) -> None:
    slopes = fitted().marginal_slopes("time", by="arm", df=df)
    frame, wanted = slopes.to_frame(), expected()[key]
    close(frame["slope"], wanted["time.trend"])
    close(frame["se"], wanted["SE"])
    close(frame["df"], wanted["df"])
    close(frame["lower"], wanted["lower.CL"])
    assert slopes.df == df


def test_pairs_of_slopes_are_those_of_emmeans() -> None:
    slopes = fitted().marginal_slopes("time", by="arm", df="satterthwaite")
    pairs, wanted = slopes.pairwise(), expected()["slope_pairs"]
    close(pairs["difference"], wanted["estimate"])
    close(pairs["t"], wanted["t.ratio"])
    close(pairs["p_adjusted"], wanted["p.value"])


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("pairs", {}),
        ("equivalence", {"delta": 0.9}),
        ("noninferiority", {"delta": 0.9, "side": ">"}),
        ("nonsuperiority", {"delta": 0.9, "side": "<"}),
        ("greater", {"side": ">"}),
    ],
)
def test_margins_are_those_of_emmeans(key: str, options: dict[str, Any]) -> None:
    means = fitted().marginal_means("arm", at={"time": 2}, df="satterthwaite")
    pairs, wanted = means.pairwise(None, **options), expected()[key]
    close(pairs["difference"], wanted["estimate"])
    close(pairs["t"], wanted["t.ratio"])
    close(pairs["p"], wanted["p.value"])
    assert bool(options) == bool(pairs.attrs)
    by_hand = means.contrast({"a - b": [1, -1, 0]}, **options)
    close(by_hand["p"], pairs["p"].iloc[:1])


def test_intervals_belong_to_the_tests() -> None:
    means = fitted().marginal_means("arm", at={"time": 2}, df="satterthwaite")
    above = means.pairwise(None, side=">")
    close(above["lower"], expected()["greater_ends"]["lower.CL"])
    assert np.isposinf(above["upper"]).all()
    assert np.isneginf(means.pairwise(None, side="<")["lower"]).all()
    for delta in (0.5, 1.0, 2.5):
        within = means.pairwise(None, delta=delta)
        inside = (within["lower"] > -delta) & (within["upper"] < delta)
        assert (inside == (within["p"] < 0.05)).all()
    assert "difference" in means.pairwise(None, delta=1).attrs["null"]
    ordinary = means.pairwise("bonferroni", delta=1)
    assert_allclose(ordinary["p_adjusted"], np.minimum(3 * ordinary["p"], 1))


def test_what_is_no_margin_is_refused() -> None:
    means = fitted().marginal_means("arm", at={"time": 2})
    with pytest.raises(UnsupportedError, match="delta"):
        means.pairwise(delta=-1)
    with pytest.raises(UnsupportedError, match="side"):
        means.pairwise(side="up")
    with pytest.raises(UnsupportedError, match="two-sided"):
        means.pairwise("tukey", delta=1)


def test_slopes_of_curves() -> None:
    fit = fitted("y ~ arm * (time + I(time**2)) + site")
    at = [0.0, 1.3, 4.0]
    slopes = fit.marginal_slopes("time", by=["arm", "time"], at={"time": at})
    beta = fit.fe_params
    for row in slopes.to_frame().itertuples():
        own = "" if row.arm == "a" else f"arm[T.{row.arm}]:"
        value = beta["time"] + 2 * row.time * beta["I(time ** 2)"]
        if own:
            value += beta[f"{own}time"] + 2 * row.time * beta[f"{own}I(time ** 2)"]
        assert row.slope == pytest.approx(value, rel=1e-8)
    # splines exist within the range of the data only, ends included
    spline = fitted("y ~ bs(time, df=5) + arm")
    ends = spline.marginal_slopes("time", by="time", at={"time": [0.0, 2.0, 4.0]})
    rows = [{"time": t, "arm": "a"} for t in (0.0, 1e-5, 4.0 - 1e-5, 4.0)]
    mean = spline.predict(pd.DataFrame(rows)).to_numpy()
    found = ends.to_frame()["slope"].to_numpy()
    wanted = [(mean[1] - mean[0]) / 1e-5, (mean[3] - mean[2]) / 1e-5]
    assert_allclose(found[[0, 2]], wanted, rtol=1e-3)


def test_slopes_of_smooths() -> None:
    fit = mar.mixedlm(
        "y ~ s(time, k=5) + arm", trial(), groups="id", residual="independent"
    ).fit()
    row = fit.marginal_slopes("time", at={"time": 1.5}).to_frame().iloc[0]
    rows = [{"time": t, "arm": "a", "id": "new"} for t in (1.4999, 1.5001)]
    mean = np.asarray(fit.get_prediction(pd.DataFrame(rows)).predicted_mean)
    assert row["slope"] == pytest.approx((mean[1] - mean[0]) / 2e-4, rel=1e-4)
    assert row["se"] > 0.0


def test_one_slope_and_robust_errors() -> None:
    fit = fitted()
    one = fit.marginal_slopes("time")
    frame = one.to_frame()
    assert frame["x"].tolist() == ["time"]
    each = fit.marginal_slopes("time", by="arm").to_frame()["slope"]
    assert frame["slope"].iloc[0] == pytest.approx(each.mean())
    weighted = fit.marginal_slopes("time", weights="proportional").to_frame()
    share = trial()["arm"].value_counts(normalize=True).sort_index().to_numpy()
    assert weighted["slope"].iloc[0] == pytest.approx(each @ share)
    robust = fit.marginal_slopes("time", by="arm", cov_type="CR2")
    wanted = fit.get_robustcov_results("CR2").t_test(robust.matrix)
    assert_allclose(robust.to_frame()["se"], wanted.sd)


def test_notes_say_what_is_averaged_and_what_interacts() -> None:
    fit = fitted()
    plain = fit.marginal_means("arm")
    assert plain.notes[0] == "Averaged over the levels of: site."
    assert "interaction with time (1.98" in plain.notes[1]
    assert plain.notes[1] in repr(plain)
    # where the user says at which value there is nothing to say
    assert len(fit.marginal_means("arm", at={"time": 2}).notes) == 1
    assert fit.marginal_means("site", at={"arm": "a"}).notes == ()
    assert "interaction with arm" in fit.marginal_slopes("time").notes[1]
    assert fit.marginal_slopes("time", by=["arm", "site"]).notes == ()


def test_slopes_of_curves_say_where_they_are() -> None:
    curve = fitted("y ~ arm + time + I(time ** 2)")
    (note,) = curve.marginal_slopes("time", by="arm").notes
    assert note.startswith("Slopes change along time: here at its mean, 1.98")
    assert curve.marginal_slopes("time", by="arm", at={"time": 2.0}).notes == ()
    assert curve.marginal_slopes("time", by=["arm", "time"]).notes == ()


def test_what_has_no_slope_is_refused() -> None:
    fit = fitted()
    with pytest.raises(UnsupportedError, match="marginal_means"):
        fit.marginal_slopes("arm")
    with pytest.raises(UnknownColumnError, match="nothing"):
        fit.marginal_slopes("nothing")
    with pytest.raises(UnknownColumnError, match="id"):
        fit.marginal_slopes("time", by="id")
    model = mar.mixedlm("distance ~ C(age)", load_orthodont(), groups="subject")
    with pytest.raises(UnsupportedError, match="levels"):
        model.fit().marginal_slopes("age")


def test_pooled_means_follow_rubin() -> None:
    rng = np.random.default_rng(2)
    frames = [
        trial().assign(age=trial()["age"] + rng.normal(0, 1, len(trial())))
        for _ in range(4)
    ]
    fits = [
        mar.mixedlm(
            "y ~ arm * time + site + age", data, groups="id", residual="independent"
        ).fit()
        for data in frames
    ]
    pooled = mar.pool(fits)
    means = pooled.marginal_means("arm", at={"time": 2})
    age = np.mean([data["age"].mean() for data in frames])
    assert means.at["age"] == [pytest.approx(age)]
    single = [
        fit.marginal_means("arm", at={"time": 2, "age": age}).pairwise(None)
        for fit in fits
    ]
    pairs = means.pairwise(None)
    values = np.array([frame["difference"] for frame in single])
    errors = np.array([frame["se"] for frame in single])
    total = (errors**2).mean(axis=0) + 1.25 * values.var(axis=0, ddof=1)
    assert_allclose(pairs["difference"], values.mean(axis=0))
    assert_allclose(pairs["se"] ** 2, total)
    assert (pairs["df"] < single[0]["df"]).all()
    half = stats.t.isf(0.025, pairs["df"]) * pairs["se"]
    assert_allclose(pairs["upper"] - pairs["difference"], half)
    slopes = pooled.marginal_slopes("time", by="arm").to_frame()["slope"]
    each = [fit.marginal_slopes("time", by="arm").to_frame()["slope"] for fit in fits]
    assert_allclose(slopes, np.mean(each, axis=0))
    assert isinstance(means.pairwise(delta=1), pd.DataFrame)


def test_pooled_means_need_one_design() -> None:
    rng = np.random.default_rng(2)
    frames = [trial().assign(age=trial()["age"] + rng.normal(0, 1, len(trial())))]
    frames += [trial()]
    fits = [
        mar.mixedlm("y ~ arm + center(age)", data, groups="id").fit() for data in frames
    ]
    with pytest.raises(NotComputedError, match="transform the variables alike"):
        mar.pool(fits).marginal_means("arm")
    data = load_orthodont()
    panel = mar.fixed_effects("distance ~ age", data, "subject", "occ").fit()
    with pytest.raises(NotComputedError, match="t_test"):
        mar.pool([panel, panel]).marginal_means("age")


def test_pictures() -> None:
    fit = fitted()
    ax = fit.marginal_means(["time", "arm"], at={"time": [0, 2, 4]}).plot()
    assert isinstance(ax, Axes)
    assert ax.get_xlabel() == "time"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "arm: a",
        "arm: b",
        "arm: c",
    ]
    ax = fit.marginal_slopes("time", by="arm").plot(alpha=0.1)
    assert ax.get_ylabel() == "slope with 90% intervals"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b", "c"]
    assert fit.marginal_slopes("time").plot(ax=ax) is ax
