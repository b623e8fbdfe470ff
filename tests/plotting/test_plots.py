"""Pictures: what is drawn agrees with the numbers, and can be read."""

from __future__ import annotations

from functools import cache
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from helpers.fitted_models import MODELS, reference_frame, shared
from helpers.pictures import check_picture, growth, teeth
from mixedar import MixedLMAR
from mixedar.data.variables import picture_rows
from mixedar.datasets import load_bodyweight, load_orthodont
from mixedar.exceptions import (
    BoundaryWarning,
    EmptyDataError,
    GroupError,
    LengthError,
    MixedARError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.plotting import COLOURS
from mixedar.prediction.curves import fitted_curves


@cache
def four() -> Any:
    data = load_orthodont()
    data = data[data["subject"].isin(["M01", "M02", "F01", "F02"])]
    return mar.mixedlm("distance ~ age", data, groups="subject", time="occ").fit()


@cache
def dated() -> Any:
    data = load_bodyweight()
    data["date"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(data["time"], unit="D")
    return mar.mixedlm(
        "weight ~ time * C(diet)", data, groups="rat", time="date", residual="car1"
    ).fit()


def lines(ax: Any) -> dict[str, Any]:
    """Lines of an axes by their label."""
    return {line.get_label(): line for line in ax.get_lines()}


# -- where things stand --------------------------------------------------------------


@pytest.mark.parametrize("x", [None, "x"])
@pytest.mark.parametrize("name", MODELS)
def test_curves_go_through_the_fitted_values(name: str, x: str | None) -> None:
    fit = shared(name)
    rows = picture_rows(fit.fit.data, x)
    chosen = np.arange(12)
    curves = fitted_curves(fit.fit, rows, chosen)
    here = np.flatnonzero(np.isin(rows.codes, chosen))
    wanted = pd.DataFrame(
        {
            "line": rows.lines[here],
            "x": rows.x[here],
            "fitted": fit.fittedvalues.to_numpy()[here],
            "marginal": fit.fitted_marginal.to_numpy()[here],
        }
    )
    both = wanted.merge(curves, on=["line", "x"])
    assert len(both) == len(here)
    assert_allclose(both["group"], both["fitted"], atol=1e-8)
    assert_allclose(both["population"], both["marginal"], atol=1e-8)
    increasing = np.diff(curves.x)[np.diff(curves.line) == 0]
    assert (increasing > 0.0).all()


def test_curves_are_curved_between_the_observations() -> None:
    data = load_orthodont()
    fit = mar.mixedlm(
        "distance ~ np.log(age) + sex", data, groups="subject", time="occ"
    ).fit()
    rows = picture_rows(fit.fit.data, "age")
    curves = fitted_curves(fit.fit, rows, np.array([0]), points=7)
    assert_allclose(curves.x, np.arange(8.0, 15.0))
    slope, intercept = fit.fe_params["np.log(age)"], fit.fe_params["Intercept"]
    assert_allclose(curves.population, intercept + slope * np.log(curves.x))
    assert_allclose(np.ptp(curves.group - curves.population), 0.0, atol=1e-10)


def test_curves_of_other_horizontal_variables() -> None:
    # occ is not in the formula: age runs along with it
    rows = picture_rows(teeth().fit.data)
    assert (rows.x_name, rows.x_label) == ("occ", "occ")
    curves = fitted_curves(teeth().fit, rows, np.array([3]), points=4)
    direct = fitted_curves(
        teeth().fit, picture_rows(teeth().fit.data, "age"), np.array([3]), points=4
    )
    assert_allclose(curves.x, np.arange(1.0, 5.0))
    assert_allclose(curves.group, direct.group)


def test_columns_of_pandas_own_numbers_run_along() -> None:
    data = load_orthodont().astype({"age": "Int64", "occ": "Int64"})
    fit = mar.mixedlm(
        "distance ~ age", data, groups="subject", re_formula="~age", time="occ"
    ).fit()
    curves = fitted_curves(fit.fit, picture_rows(fit.fit.data), np.array([0]), points=7)
    assert_allclose(np.diff(curves.group), np.ptp(curves.group) / 6, atol=1e-9)


def test_factors_and_arrays_have_the_observations_only() -> None:
    data = load_orthodont()
    fit = mar.mixedlm("distance ~ C(age)", data, groups="subject", time="occ").fit()
    curves = fitted_curves(fit.fit, picture_rows(fit.fit.data, "age"), np.array([0, 1]))
    assert len(curves.x) == 8
    named = data.rename(columns={"age": "the age"})
    fit = mar.mixedlm(
        'distance ~ C(Q("the age"))', named, groups="subject", time="occ"
    ).fit()
    rows = picture_rows(fit.fit.data, "the age")
    assert len(fitted_curves(fit.fit, rows, np.array([0, 1])).x) == 8
    arrays = MixedLMAR(
        data["distance"].to_numpy(),
        np.column_stack([np.ones(108), data["age"]]),
        data["subject"].to_numpy(),
        time=data["age"].to_numpy(),
    ).fit()
    rows = picture_rows(arrays.fit.data)
    assert (rows.x_label, rows.y_label, rows.group_name) == ("time", "y", "group")
    assert len(fitted_curves(arrays.fit, rows, np.array([0])).x) == 4


def test_observations_that_share_a_position_are_no_curve() -> None:
    data = load_orthodont()
    fit = mar.mixedlm(
        "distance ~ age", data, groups="sex", residual="independent"
    ).fit()
    rows = picture_rows(fit.fit.data, "age")
    assert fitted_curves(fit.fit, rows, np.array([0])).duplicated(["line", "x"]).any()
    figure = fit.plot_trajectories(x="age")
    drawn = lines(figure.axes[0])
    assert drawn["group"].get_linestyle() == "None"
    check_picture(figure)


def test_without_time_the_order_of_rows_counts() -> None:
    data = load_orthodont()
    plain = mar.mixedlm(
        "distance ~ sex", data, groups="subject", residual="independent"
    ).fit()
    rows = picture_rows(plain.fit.data)
    assert rows.x_label == "row of each subject (there is no time=)"
    assert_allclose(rows.x, np.tile(np.arange(1.0, 5.0), 27))
    aged = mar.mixedlm("distance ~ sex + age", data, groups="subject").fit()
    rows = picture_rows(aged.fit.data)
    assert rows.x_name == "age"
    assert rows.joined


def test_a_covariate_is_not_drawn_as_if_it_were_time() -> None:
    data = load_orthodont()
    data["height"] = np.random.default_rng(3).normal(150.0, 10.0, len(data))
    fit = mar.mixedlm("distance ~ sex + height", data, groups="subject").fit()
    rows = picture_rows(fit.fit.data)
    assert rows.x_name == "height"
    assert not rows.joined
    assert set(map(len, rows.paths(np.arange(20), broken=True))) == {1}
    ax = fit.plot_spaghetti()
    found = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert all(len(segment) == 1 for c in found for segment in c.get_segments())
    assert any("all 27 groups" in text.get_text() for text in ax.texts)
    check_picture(ax.figure)
    with pytest.raises(UnsupportedError, match=r"has no time=.*x='fitted'"):
        fit.plot_residuals("time")


def test_pictures_of_a_model_without_groups() -> None:
    data = load_orthodont()
    data["distance"] += 4.0 * (data["age"] - 11.0) ** 2
    model = mar.mixedlm("distance ~ sex + s(age, k=4)", data)
    fit = model.fit()
    ax = fit.plot_spaghetti()
    assert ax.get_xlabel() == "age"
    assert any("100 of 108 observations" in text.get_text() for text in ax.texts)
    check_picture(ax.figure)
    assert len(model.plot().axes) == 2  # one for each sex, none for each row
    with pytest.raises(UnsupportedError, match="has no groups"):
        fit.plot_trajectories()


@pytest.mark.parametrize(
    ("times", "kind", "label"),
    [
        (pd.period_range("2020-01", periods=4, freq="M"), "M", "when"),
        (pd.date_range("2020-01-31", periods=4, tz="Europe/Paris"), "M", "when"),
        (pd.to_timedelta([0, 1, 2, 3], unit="D"), "f", "when (days)"),
        (pd.Index(pd.date_range("2020-01-31", periods=4).date), "M", "when"),
        (pd.CategoricalIndex([1, 2, 3, 4]), "f", "when"),
    ],
    ids=["periods", "zoned", "durations", "dates", "numeric categories"],
)
def test_kinds_of_time(times: pd.Index, kind: str, label: str) -> None:
    data = load_orthodont()
    data["when"] = times[data["occ"] - 1]
    fit = mar.mixedlm("distance ~ age", data, groups="subject", time="when").fit()
    rows = picture_rows(fit.fit.data)
    assert rows.x.dtype.kind == kind
    assert rows.x_label == label
    check_picture(fit.plot_trajectories(n_groups=2))


# -- overview -------------------------------------------------------------------------


@pytest.mark.parametrize("fit", [four, growth, dated])
def test_overview_has_four_panels(fit: Any) -> None:
    figure = fit().plot()
    names = [ax.get_ylabel() for ax in figure.axes]
    assert names[0] == fit().model.endog_names
    assert names[1:] == [
        "Normalized residuals",
        "Standardized residuals",
        "Autocorrelation",
    ]
    check_picture(figure)


def test_overview_says_what_it_cannot_draw() -> None:
    data = load_orthodont().drop_duplicates("subject")
    fit = mar.mixedlm(
        "distance ~ sex", data, groups="subject", re_formula="0", residual="independent"
    ).fit()
    figure = fit.plot()
    texts = [text.get_text() for text in figure.axes[3].texts]
    assert any("no series has two observations" in text for text in texts)
    check_picture(figure)


def test_overview_divides_the_data_by_the_main_factor() -> None:
    assert {"Female", "Male"} <= set(lines(teeth().plot().axes[0]))
    assert "population mean" in lines(four().plot().axes[0])
    own = plt.figure(layout="constrained")
    assert four().plot(own) is own


# -- data before a fit ----------------------------------------------------------------


@cache
def arms() -> pd.DataFrame:
    """Twelve people in four arms, who were seen five times."""
    row = np.arange(60)
    data = pd.DataFrame({"id": row // 5, "week": row % 5})
    data["arm"] = pd.Categorical(np.array(list("dabc"))[data["id"] % 4], list("dabc"))
    rng = np.random.default_rng(8)
    effects = rng.normal(size=12)[row // 5]
    return data.assign(y=data["week"] + effects + 0.8 * rng.normal(size=60))


def test_a_model_draws_its_data_before_it_is_fitted() -> None:
    data = arms()
    model = mar.mixedlm("y ~ week * arm", data, groups="id", time="week")
    figure = model.plot()
    assert [ax.get_title() for ax in figure.axes] == [str(k) for k in range(12)]
    for k, ax in enumerate(figure.axes):
        (line,) = ax.get_lines()
        assert_allclose(line.get_ydata(), data.loc[data["id"] == k, "y"])
        assert same_color(line.get_color(), COLOURS[k % 4])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["arm: d", "arm: a", "arm: b", "arm: c"]
    check_picture(figure)
    some = model.plot(by=None, groups=[5, 3], n_columns=1)
    assert [ax.get_title() for ax in some.axes] == ["5", "3"]
    own = plt.figure(layout="constrained")
    assert model.plot(figure=own) is own


def test_a_model_draws_its_data_as_lines() -> None:
    data = arms()
    model = mar.mixedlm("y ~ week * arm", data, groups="id", time="week")
    figure = model.plot(kind="lines")
    assert [ax.get_title() for ax in figure.axes] == [f"arm: {k}" for k in "dabc"]
    for ax, arm in zip(figure.axes, "dabc", strict=True):
        wanted = data[data["arm"] == arm].groupby("week")["y"].mean()
        (mean,) = ax.get_lines()[-1:]
        assert_allclose(mean.get_ydata(), wanted)
    check_picture(figure)
    one = model.plot(kind="lines", by=np.repeat("all", 60)).axes
    assert [text.get_text() for text in one[0].get_legend().get_texts()] == [
        "mean of the observations"
    ]
    assert len(model.plot(kind="lines", groups=[0, 1]).axes) == 2
    with pytest.raises(UnsupportedError, match="kind='panels'"):
        model.plot(kind="panels")
    with pytest.raises(GroupError, match="no group 'x'"):
        model.plot(groups="x")
    with pytest.raises(UnsupportedError, match="n_columns=0"):
        model.plot(n_columns=0)
    with pytest.raises(UnsupportedError, match="no level to draw"):
        model.plot(by=np.repeat(np.nan, 60))


def test_series_and_levels_within_groups_are_drawn_by_themselves() -> None:
    data = arms().assign(ward=lambda d: d["id"] // 4)
    model = mar.mixedlm("y ~ week", data, groups="ward", series="id", time="week")
    figure = model.plot(by="arm")
    assert [len(ax.get_lines()) for ax in figure.axes if ax.get_visible()] == [4] * 3
    late = np.where(data["week"] > 2, "late", "early")
    ax = model.plot(by=pd.Series(late, name="when")).axes[0]
    assert {line.get_linestyle() for line in ax.get_lines()} == {"None"}


# -- trajectories ---------------------------------------------------------------------


@cache
def crossed() -> Any:
    """Six people and eight items."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"person": np.repeat(range(6), 8), "item": [*range(8)] * 6})
    data["x"] = rng.normal(size=48)
    effects = rng.normal(size=6)[data["person"]] + rng.normal(size=8)[data["item"]]
    data["y"] = data["x"] + effects + 0.5 * rng.normal(size=48)
    return mar.mixedlm("y ~ x + (1 | person) + (1 | item)", data).fit()


def test_random_effects_of_all_factors_are_drawn() -> None:
    fit = crossed()
    figure = fit.plot_random_effects()
    names = {ax.get_xlabel().split()[0] for ax in figure.axes}
    assert names == {"person", "item"}
    check_picture(figure)
    ax = fit.plot_random_effects(effect="item", alpha=0.1)
    found = fit.ranef("item", se=True)
    mean = np.sort(found["predicted"]["Intercept"])
    assert_allclose(ax.get_lines()[0].get_xdata(), mean)
    half = 1.6448536269514722 * found["std_error"]["Intercept"].max()
    widths = [np.ptp(segment[:, 0]) for segment in ax.collections[0].get_segments()]
    assert_allclose(max(widths), 2.0 * half)
    # standardized by their own standard deviations, which differ by level
    ax = fit.plot_random_effects("qq", "item")
    error = fit.ranef("item", se=True, beta="estimated")["std_error"]["Intercept"]
    spread = np.sqrt(fit.random_covariance("item").iloc[0, 0] - error**2)
    wanted = found["predicted"]["Intercept"] / spread
    assert_allclose(ax.get_lines()[-1].get_ydata(), np.sort(wanted))
    check_picture(ax.figure)


def test_items_of_crossed_factors_are_no_curve() -> None:
    fit = crossed()
    figure = fit.plot_trajectories()
    drawn = lines(figure.axes[0])
    assert drawn["group"].get_linestyle() == "None"
    name = figure.legends[0].get_title().get_text()
    data = fit.model.data.frame
    first = data[data[name] == 0].sort_values("x").index
    assert_allclose(drawn["group"].get_ydata(), fit.fittedvalues[first])
    check_picture(figure)


def test_trajectories_show_data_and_curves() -> None:
    figure = teeth().plot_trajectories(["M03", "F07"], "age")
    assert isinstance(figure, Figure)
    assert [ax.get_title() for ax in figure.axes] == ["M03", "F07"]
    data = load_orthodont()
    for ax, label in zip(figure.axes, ["M03", "F07"], strict=True):
        own = data[data["subject"] == label]
        drawn = lines(ax)
        assert set(drawn) == {"population", "group", "observed"}
        assert_allclose(drawn["observed"].get_ydata(), own["distance"])
        assert_allclose(drawn["observed"].get_xdata(), own["age"])
        fitted = teeth().fittedvalues[own.index]
        at = np.searchsorted(drawn["group"].get_xdata(), own["age"])
        assert_allclose(drawn["group"].get_ydata()[at], fitted)
        # told apart by colour and by line
        one, other = drawn["group"], drawn["population"]
        assert not same_color(one.get_color(), other.get_color())
        assert one.get_linestyle() != other.get_linestyle()
    check_picture(figure)


def test_trajectories_of_four_groups_and_of_2500() -> None:
    figure = four().plot_trajectories()
    assert len(figure.axes) == 4
    assert "drawn at random" not in figure.legends[0].get_title().get_text()
    check_picture(figure)
    figure = growth().plot_trajectories()
    assert len(figure.axes) == 16
    assert "16 of 2,500 groups, drawn at random" in (
        figure.legends[0].get_title().get_text()
    )
    check_picture(figure)
    titles = [ax.get_title() for ax in growth().plot_trajectories(n_groups=4).axes]
    again = growth().plot_trajectories(n_groups=4)
    assert [ax.get_title() for ax in again.axes] == titles


@pytest.mark.parametrize("name", ["components", "series", "gls", "car1"])
def test_pictures_of_other_models(name: str) -> None:
    check_picture(shared(name).plot_trajectories(n_groups=2))
    check_picture(shared(name).plot_spaghetti("arm").figure)


def test_trajectories_of_one_group_with_one_row() -> None:
    data = load_orthodont()
    data = data[(data["subject"] != "M01") | (data["occ"] == 2)]
    fit = mar.mixedlm("distance ~ age", data, groups="subject", time="occ").fit()
    figure = fit.plot_trajectories("M01", curves=("group",))
    drawn = lines(figure.axes[0])
    assert set(drawn) == {"group", "observed"}
    assert drawn["group"].get_marker() == "_"
    check_picture(figure)


def test_trajectories_in_a_figure_of_the_caller() -> None:
    own = plt.figure(figsize=(8, 4), layout="constrained")
    left, _ = own.subfigures(1, 2)
    assert four().plot_trajectories(figure=left) is left
    check_picture(own)


def test_trajectories_refuse() -> None:
    with pytest.raises(GroupError, match=r"no group 'M99'.*'F01'"):
        teeth().plot_trajectories(["M01", "M99"])
    with pytest.raises(GroupError, match="empty"):
        teeth().plot_trajectories([])
    with pytest.raises(UnsupportedError, match="'forecast' is not known"):
        teeth().plot_trajectories(curves=("forecast",))
    with pytest.raises(UnknownColumnError, match=r"x='agee' .* 'age'"):
        teeth().plot_trajectories(x="agee")
    with pytest.raises(LengthError, match="x has 3 values; the model has 108"):
        teeth().plot_trajectories(x=[1, 2, 3])
    for wrong in (0, 2.5, True):
        with pytest.raises(UnsupportedError, match="number of groups"):
            teeth().plot_trajectories(n_groups=wrong)
    with pytest.raises(UnsupportedError, match="n_columns"):
        teeth().plot_trajectories(n_columns=0)


# -- spaghetti ------------------------------------------------------------------------


def test_spaghetti_draws_data_means_and_bands() -> None:
    ax = teeth().plot_spaghetti("sex", "age", alpha=0.1)
    data = load_orthodont()
    collections = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert len(collections) == 2
    for found, sex in zip(collections, ["Female", "Male"], strict=True):
        own = data[data["sex"] == sex]
        drawn = sorted(map(tuple, np.concatenate(found.get_segments()).tolist()))
        assert drawn == sorted(zip(own["age"], own["distance"], strict=True))
    means = teeth().marginal_means(
        "age", at={"age": [8, 14], "sex": ["Male"]}, df="normal"
    )
    table = means.to_frame(alpha=0.1)
    mean = lines(ax)["Male"]
    assert_allclose(mean.get_ydata()[[0, -1]], table["mean"])
    band = [c for c in ax.collections if isinstance(c, PolyCollection)][1]
    corners = band.get_paths()[0].vertices
    assert_allclose(corners[:, 1].max(), table["upper"].iloc[1])
    assert_allclose(corners[:, 1].min(), table["lower"].iloc[0])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["sex: Female", "sex: Male"]
    check_picture(ax.figure)


def test_spaghetti_knows_how_observations_spread() -> None:
    ax = teeth().plot_spaghetti(x="age")
    low, high = (line for line in ax.get_lines() if line.get_linestyle() == ":")
    psi, scale = teeth().cov_re.to_numpy(), teeth().scale
    for at, age in ((0, 8.0), (-1, 14.0)):
        z = np.array([1.0, age])
        width = 2 * 1.959963984540054 * np.sqrt(z @ psi @ z + scale)
        assert_allclose(high.get_ydata()[at] - low.get_ydata()[at], width)
    ax = teeth().plot_spaghetti(x="age", spread=False)
    assert not [line for line in ax.get_lines() if line.get_linestyle() == ":"]


def test_more_than_two_levels_have_panels() -> None:
    fit = mar.mixedlm("y ~ week * arm", arms(), groups="id", time="week").fit()
    figure = fit.plot_spaghetti("arm")
    assert [ax.get_title() for ax in figure.axes] == [f"arm: {k}" for k in "dabc"]
    means = fit.marginal_means("week", at={"week": [0], "arm": ["a"]}).to_frame()
    mean = max(figure.axes[1].get_lines(), key=lambda line: line.get_linewidth())
    assert_allclose(mean.get_ydata()[0], means["mean"].iloc[0])
    check_picture(figure)
    together = fit.plot_spaghetti("arm", panels=False)
    texts = [text.get_text() for text in together.get_legend().get_texts()]
    assert texts == ["arm: d", "arm: a", "arm: b", "arm: c"]
    check_picture(together.figure)
    own = plt.figure(layout="constrained").subplots(1, 4)
    fit.plot_spaghetti("arm", ax=own)
    assert [ax.get_title() for ax in own] == [f"arm: {k}" for k in "dabc"]
    assert fit.plot_spaghetti("arm", ax=own[0]) is own[0]
    with pytest.raises(UnsupportedError, match="1 axes for 4 panels"):
        fit.plot_spaghetti("arm", ax=own[0], panels=True)


def test_spaghetti_of_four_groups_and_of_2500() -> None:
    ax = four().plot_spaghetti()
    assert any("all 4 lines" in text.get_text() for text in ax.texts)
    check_picture(ax.figure)
    ax = growth().plot_spaghetti("treatment")
    drawn = sum(
        len(c.get_segments()) for c in ax.collections if isinstance(c, LineCollection)
    )
    assert drawn == 100
    assert any("100 of 2,500 lines" in text.get_text() for text in ax.texts)
    check_picture(ax.figure)


def test_spaghetti_of_means_without_a_formula() -> None:
    data = reference_frame()
    fit = MixedLMAR(
        data["y"].to_numpy(),
        np.column_stack([np.ones(len(data)), data["x"]]),
        data["id"].to_numpy(),
        time=data["t"].to_numpy(),
    ).fit()
    ax = fit.plot_spaghetti(data["arm"], spread=False)
    here = (data["arm"] == "b").to_numpy()
    wanted = pd.Series(fit.fitted_marginal[here]).groupby(data["t"].to_numpy()[here])
    drawn = lines(ax)["b"]
    assert_allclose(drawn.get_xdata(), np.arange(8))
    assert_allclose(drawn.get_ydata(), wanted.mean())
    # continuous positions are put together
    ax = fit.plot_spaghetti(x=data["x"].to_numpy())
    assert len(lines(ax)["population mean"].get_xdata()) == 40
    check_picture(ax.figure)


def test_spaghetti_by_dates_and_factors() -> None:
    ax = dated().plot_spaghetti("diet")
    check_picture(ax.figure)
    data = load_orthodont()
    data["stage"] = data["age"].map({8: "a", 10: "b", 12: "c", 14: "d"})
    fit = mar.mixedlm("distance ~ stage", data, groups="subject", time="occ").fit()
    ax = fit.plot_spaghetti(x="stage", spread=False)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b", "c", "d"]
    wanted = fit.marginal_means("stage").to_frame()["mean"]
    assert_allclose(lines(ax)["population mean"].get_ydata(), wanted)
    check_picture(ax.figure)


def test_spaghetti_by_values_of_the_caller() -> None:
    data = load_orthodont()
    old = pd.Series(np.where(data["subject"] < "M", "one", None), name="half")
    ax = teeth().plot_spaghetti(old, x="age")
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["population mean"]
    coded = pd.Categorical(data["sex"], ["Male", "Female"])
    ax = teeth().plot_spaghetti(pd.Series(coded, name="who"), x="age")
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["who: Male", "who: Female"]
    male = data["sex"] == "Male"
    wanted = teeth().fitted_marginal[male].groupby(data["age"][male]).mean()
    assert_allclose(lines(ax)["Male"].get_ydata(), wanted)


def test_spaghetti_refuses() -> None:
    with pytest.raises(UnsupportedError, match="by='subject' has 27 levels"):
        teeth().plot_spaghetti("subject")
    with pytest.raises(UnknownColumnError, match="by='sexx'"):
        teeth().plot_spaghetti("sexx")
    with pytest.raises(UnsupportedError, match="n_lines=0"):
        teeth().plot_spaghetti(n_lines=0)
    with pytest.raises(UnsupportedError, match="alpha"):
        teeth().plot_spaghetti(alpha=1.5)


# -- forecasts ------------------------------------------------------------------------


def test_forecasts_show_predictions_and_what_was_observed_later() -> None:
    data = load_orthodont()
    fit = mar.mixedlm(
        "distance ~ age + sex",
        data[data["occ"] < 3],
        groups="subject",
        re_formula="0",
        time="occ",
    ).fit()
    later = data[data["occ"] >= 3]
    figure = fit.plot_forecast(later, ["M02", "F05"], alpha=0.2)
    wanted = fit.get_prediction(later, level="forecast").summary_frame(0.2)
    for ax, label in zip(figure.axes, ["M02", "F05"], strict=True):
        assert ax.get_title() == label
        own = later[later["subject"] == label]
        drawn = lines(ax)
        assert_allclose(drawn["forecast"].get_ydata(), wanted.loc[own.index, "mean"])
        assert_allclose(drawn["observed later"].get_ydata(), own["distance"])
        assert_allclose(drawn["observed"].get_xdata(), [1.0, 2.0])
        band = ax.collections[0].get_paths()[0].vertices[:, 1]
        assert_allclose(band.max(), wanted.loc[own.index, "obs_ci_upper"].max())
    check_picture(figure)
    one = fit.plot_forecast(later[later["occ"] == 3].drop(columns="distance"))
    assert len(one.axes) == 9
    assert "observed later" not in lines(one.axes[0])
    title = one.legends[0].get_title().get_text()
    assert title == (
        "subject: 9 of 27 groups, drawn at random; 95% intervals for observations"
    )
    check_picture(one)


def test_forecasts_of_several_series_have_panels_of_their_own() -> None:
    rng = np.random.default_rng(4)
    row = np.arange(240)
    data = pd.DataFrame({"farm": row // 24, "pig": row // 8 % 3, "week": row % 8})
    data["y"] = data["week"] + 3.0 * rng.normal(size=10)[row // 24]
    data["y"] += rng.normal(size=30)[row // 8] + rng.normal(size=240)
    parts = {"pig": "0 + C(pig)"}
    options = {"groups": "farm", "vc_formula": parts, "re_formula": "1"}
    seen = data[data["week"] < 5].sample(frac=1.0, random_state=1)
    fit = mar.mixedlm("y ~ week", seen, series="pig", time="week", **options).fit()
    later = data[data["week"] >= 5].sample(frac=1.0, random_state=2)
    figure = fit.plot_forecast(later, [2])
    assert [ax.get_title() for ax in figure.axes] == ["2 / 0", "2 / 1", "2 / 2"]
    predicted = [lines(ax)["forecast"] for ax in figure.axes]
    mean = fit.get_prediction(later, level="forecast").predicted_mean
    own = later.assign(mean=mean)[later["farm"] == 2].sort_values("week")
    expected = [part["mean"].tolist() for _, part in own.groupby("pig")]
    found = [np.asarray(line.get_ydata()).tolist() for line in predicted]
    assert_allclose(found, expected)
    for pig, ax in enumerate(figure.axes):
        before = seen[(seen["farm"] == 2) & (seen["pig"] == pig)].sort_values("week")
        observed = lines(ax)["observed"]
        assert_allclose(np.sort(observed.get_ydata()), np.sort(before["y"]))
        assert len(ax.collections) == 1
    assert figure.legends[0].get_title().get_text().startswith("farm / pig")
    check_picture(figure)
    title = fit.plot_forecast(later).legends[0].get_title().get_text()
    assert title.startswith("farm / pig: 9 of 27 series, drawn at random")


def test_forecasts_by_date_and_between_observations() -> None:
    data = load_bodyweight()
    data["date"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(data["time"], unit="D")
    between = data[data["rat"] == 3].assign(time=lambda d: d["time"] - 0.5)
    between["date"] -= pd.Timedelta(hours=12)
    figure = dated().plot_forecast(between.drop(columns="weight"))
    assert len(figure.axes) == 1
    check_picture(figure)


def test_forecasts_refuse() -> None:
    data = load_orthodont()
    with pytest.raises(UnknownColumnError, match="'subject' is not a column"):
        teeth().plot_forecast(data.drop(columns="subject"))
    with pytest.raises(UnknownColumnError, match="no column 'occ'"):
        teeth().plot_forecast(data.drop(columns="occ"))
    with pytest.raises(UnknownColumnError, match="no column 'occ'"):
        teeth().plot_forecast({"age": [8]})
    with pytest.raises(MixedARError, match="data must be a DataFrame"):
        teeth().plot_forecast([8])
    with pytest.raises(GroupError, match="'M77'"):
        teeth().plot_forecast(data.assign(subject="M77"))
    with pytest.raises(EmptyDataError, match="no row of the groups"):
        teeth().plot_forecast(data[data["subject"] != "M01"], ["M01"])
    with pytest.raises(UnsupportedError, match="n_columns"):
        teeth().plot_forecast(data, n_columns=1.5)
    order = mar.mixedlm("distance ~ sex", data, groups="subject", residual="ar1").fit
    with pytest.warns(BoundaryWarning):
        fit = order()
    with pytest.raises(UnsupportedError, match=r"there is no time=\)'.* name a column"):
        fit.plot_forecast(data)


# -- coefficients, profiles -----------------------------------------------------------


def test_coefficients_of_one_fit() -> None:
    ax = teeth().plot_coefficients()
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    assert labels == ["sex[T.Male]", "age", "age:sex[T.Male]"]
    segments = ax.containers[0].lines[2][0].get_segments()
    for segment, name in zip(segments, labels, strict=True):
        assert_allclose(segment[:, 0], teeth().conf_int().loc[name])
    check_picture(ax.figure)
    normal = teeth().with_df("normal").plot_coefficients(coefficients="age")
    segment = normal.containers[0].lines[2][0].get_segments()[0]
    assert_allclose(segment[:, 0], teeth().with_df("normal").conf_int().loc["age"])
    own = plt.figure().subplots()
    assert teeth().plot_coefficients(own, ["Intercept"]) is own
    with pytest.raises(UnknownColumnError, match="'ag' is not in the table"):
        teeth().plot_coefficients(coefficients="ag")


def test_linear_parts_of_smooths_are_no_coefficients() -> None:
    data = load_orthodont()
    data["distance"] += 4.0 * (data["age"] - 11.0) ** 2
    fit = mar.mixedlm("distance ~ sex + s(age, k=4)", data).fit()
    labels = [tick.get_text() for tick in fit.plot_coefficients().get_yticklabels()]
    assert labels == ["sex[T.Male]"]


def test_profiles_shade_the_interval() -> None:
    figure = teeth().plot_profiles(["rho", "sigma"])
    for ax, name in zip(figure.axes, ["rho", "sigma"], strict=True):
        assert ax.get_xlabel() == name
        interval = teeth().conf_int_re(parameters=name).loc[name, ["lower", "upper"]]
        (shade,) = ax.patches
        shown = shade.get_window_extent().transformed(ax.transData.inverted())
        assert_allclose(shown.intervalx, interval.astype(float), 1e-4)
        zeta = ax.get_lines()[0]
        at = np.interp(interval.astype(float), *zeta.get_data())
        assert_allclose(np.abs(at), 1.96, rtol=1e-2)
    check_picture(figure)


def test_profiles_of_all_parameters() -> None:
    figure = teeth().plot_profiles()
    names = [ax.get_xlabel() for ax in figure.axes if ax.get_visible()]
    assert names == ["rho", "sd(subject)", "corr(subject, age)", "sd(age)", "sigma"]
    check_picture(figure)
    own = plt.figure(layout="constrained")
    assert four().plot_profiles("rho", figure=own) is own
    with pytest.raises(UnknownColumnError, match="did you mean 'rho'"):
        four().plot_profiles("rhoo")
    with pytest.raises(UnsupportedError, match="alpha"):
        four().plot_profiles("rho", alpha=0)


def test_the_profile_takes_the_callers_axes_and_returns_them() -> None:
    profile = four().profile("sigma")
    own = plt.figure(layout="constrained").subplots(1, 3)
    assert profile.plot(ax=own[0]) is own[0]
    assert_allclose(own[0].get_lines()[0].get_ydata(), profile.zeta)
    assert list(profile.plot(own[1:])) == list(own[1:])
    with pytest.raises(UnsupportedError, match="3 axes for 2 panels"):
        profile.plot(own)
    check_picture(own[0].figure)


def test_profile_of_one_parameter_has_two_panels() -> None:
    profile = four().profile("sigma")
    first, second = profile.plot()
    assert_allclose(first.get_lines()[0].get_ydata(), profile.zeta)
    assert_allclose(second.get_lines()[0].get_ydata(), profile.likelihood)
    check_picture(first.figure)


# -- all of them ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        lambda fit: fit.plot(),
        lambda fit: fit.plot_trajectories(),
        lambda fit: fit.plot_spaghetti(),
        lambda fit: fit.plot_profiles(),
    ],
    ids=["overview", "trajectories", "spaghetti", "profiles"],
)
def test_pictures_need_the_data(draw: Any) -> None:
    data = load_orthodont()
    fit = mar.mixedlm("distance ~ age", data, groups="subject", time="occ").fit()
    fit.remove_data()
    with pytest.raises(NotComputedError, match="removed"):
        draw(fit)


def test_axes_of_the_caller_are_used() -> None:
    own = plt.figure().subplots()
    assert teeth().plot_spaghetti(ax=own) is own
    assert len(plt.get_fignums()) == 1


def test_colours_are_told_apart_in_colour_blindness() -> None:
    # Machado, Oliveira and Fernandes (2009), IEEE TVCG 15, 1291-1298, severity 1.0
    matrices = {
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    }
    colours = np.array([mpl.colors.to_rgb(colour) for colour in COLOURS[:3]])
    linear = np.where(
        colours > 0.04045, ((colours + 0.055) / 1.055) ** 2.4, colours / 12.92
    )
    for name, matrix in matrices.items():
        seen = np.clip(linear @ np.transpose(matrix), 0.0, 1.0) ** (1 / 2.4)
        for i in range(3):
            for j in range(i):
                assert np.abs(seen[i] - seen[j]).max() > 0.15, (name, i, j)


def test_the_check_of_pictures_finds_what_it_should() -> None:
    figure, ax = plt.subplots()
    ax.set_title("one title")
    check_picture(figure)
    ax.text(0.5, 0.5, "one text")
    other = ax.text(0.5, 0.5, "another")
    with pytest.raises(AssertionError, match="covers"):
        check_picture(figure)
    other.set_position((0.99, 0.9))
    other.set_text("far too long to end in the figure")
    with pytest.raises(AssertionError, match="cut off"):
        check_picture(figure)


def test_what_is_no_axes_is_refused() -> None:
    teeth = load_orthodont()
    fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ").fit()
    with pytest.raises(UnsupportedError, match="'nope' is no matplotlib Figure"):
        fit.plot("nope")
    pictures = ("acf", "coefficients", "random_effects", "residuals", "spaghetti")
    for name in (*pictures, "variogram"):
        with pytest.raises(UnsupportedError, match="ax=3 is no matplotlib Axes"):
            getattr(fit, f"plot_{name}")(ax=3)
    with pytest.raises(UnsupportedError, match="is no matplotlib Axes"):
        fit.profile("rho").plot(["a", "b"])


def test_lines_end_at_occasions_that_are_not_there() -> None:
    """A line from visit 1 to visit 3 would say that nothing is missing."""
    teeth = load_orthodont()
    gone = (teeth["subject"] == "M01") & (teeth["occ"] == teeth["occ"].unique()[1])
    data = teeth[~gone]
    fit = mar.mixedlm("distance ~ age", data, groups="subject", time="occ")
    rows = picture_rows(fit.fit().fit.data)
    codes = [list(rows.labels).index(label) for label in ("M01", "M02")]
    own = [np.flatnonzero(rows.codes == code) for code in codes]
    paths = [rows.paths(each, broken=True) for each in own]
    assert [[len(path) for path in each] for each in paths] == [[1, 2], [4]]
    # fitted values at occasions
    factor = mar.mixedlm("distance ~ C(occ)", data, groups="subject", time="occ")
    curves = fitted_curves(factor.fit().fit, rows, np.array(codes[:1]))
    assert len(curves) == 4
    assert np.isnan(curves["group"]).tolist() == [False, True, False, False]
