"""The coefficients of groups by themselves and in a mixed model, side by side."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.fitted_models import build, reference_frame, shared
from mixedar.by_group.shrinkage import Shrinkage
from mixedar.datasets import load_growth, load_orthodont
from mixedar.exceptions import (
    BoundaryWarning,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)


@cache
def teeth() -> Any:
    return mar.mixedlm(
        "distance ~ age", load_orthodont(), "~age", groups="subject", time="occ"
    ).fit()


@cache
def growth_fit() -> Any:
    return mar.mixedlm(
        "y ~ time + treatment", load_growth(), "~time", groups="id", time="time"
    ).fit()


@cache
def growth_result() -> Shrinkage:
    return growth_fit().shrinkage()


def test_table() -> None:
    fit = teeth()
    result = fit.shrinkage()
    own = mar.by_group("distance ~ age", load_orthodont(), "subject")
    mixed = fit.coef_by_group()
    np.testing.assert_allclose(result.frame("own"), own.params)
    np.testing.assert_allclose(result.frame("mixed"), mixed)
    np.testing.assert_allclose(result.population, fit.fe_params)
    assert result.coefficients == ["Intercept", "age"]
    assert result.table.index.names == ["subject", "coefficient"]
    row = result.table.loc[("M13", "age")]
    beta = fit.fe_params["age"]
    assert row["distance_own"] == pytest.approx(own.params.loc["M13", "age"] - beta)
    assert row["distance_mixed"] == pytest.approx(mixed.loc["M13", "age"] - beta)
    expected = 1.0 - row["distance_mixed"] / row["distance_own"]
    assert row["shrinkage"] == pytest.approx(expected)
    errors = fit.random_effects_frame(standard_errors=True)["std_error"]
    reliability = 1.0 - errors.to_numpy() ** 2 / np.diag(fit.cov_re)
    np.testing.assert_allclose(result.frame("reliability"), reliability)
    np.testing.assert_allclose(result.cov_re, fit.cov_re)
    assert result.adjusted == []
    assert len(result.problems) == 0
    with pytest.raises(UnsupportedError, match="no column 'theirs'"):
        result.frame("theirs")


def test_measures() -> None:
    result = teeth().shrinkage()
    own, mixed = result.frame("own"), result.frame("mixed")
    found = result.measures
    np.testing.assert_allclose(found["variance_own"], own.var())
    np.testing.assert_allclose(found["variance_mixed"], mixed.var())
    np.testing.assert_allclose(found["ratio"], mixed.var() / own.var())
    np.testing.assert_allclose(found["variance_model"], np.diag(teeth().cov_re))
    np.testing.assert_allclose(
        found["ratio_model"], mixed.var() / np.diag(teeth().cov_re)
    )
    np.testing.assert_allclose(found["reliability"], result.frame("reliability").mean())
    for name in ("Intercept", "age"):
        slope = np.polyfit(
            own[name] - result.population[name],
            mixed[name] - result.population[name],
            1,
        )[0]
        # the populations' means are the groups', nearly
        assert found.loc[name, "shrinkage"] == pytest.approx(1 - slope, abs=2e-3)


def test_balanced_random_intercept_shrinks_by_its_reliability() -> None:
    # y_i. - mu is multiplied by tau2 / (tau2 + sigma2 / n), in every group
    data = load_orthodont()
    fit = mar.mixedlm(
        "distance ~ 1", data, groups="subject", residual="independent"
    ).fit()
    result = fit.shrinkage()
    tau2, sigma2 = float(np.squeeze(fit.cov_re)), fit.scale
    factor = tau2 / (tau2 + sigma2 / 4)
    np.testing.assert_allclose(result.table["shrinkage"], 1 - factor, rtol=1e-6)
    np.testing.assert_allclose(result.table["reliability"], factor, rtol=1e-6)
    row = result.measures.loc["Intercept"]
    assert row["ratio"] == pytest.approx(factor**2, rel=1e-6)
    assert row["shrinkage"] == pytest.approx(1 - factor, rel=1e-6)
    # REML: the variance of the predictions is that of the effects, less reliable
    assert row["ratio_model"] == pytest.approx(factor, rel=1e-6)


def test_other_fixed_effects_are_taken_out() -> None:
    data, fit, result = load_growth(), growth_fit(), growth_result()
    assert result.adjusted == ["treatment[T.treatment]"]
    own = mar.by_group("y ~ time", data, "id").params
    treated = data.groupby("id")["treatment"].first() == "treatment"
    shift = fit.fe_params["treatment[T.treatment]"] * treated
    np.testing.assert_allclose(
        result.frame("own")["Intercept"], own["Intercept"] - shift
    )
    np.testing.assert_allclose(result.frame("own")["time"], own["time"])
    coef = fit.coef_by_group()
    np.testing.assert_allclose(result.frame("mixed"), coef[["Intercept", "time"]])
    assert (result.measures["ratio"] < 0.2).all()
    np.testing.assert_allclose(
        result.measures["ratio_model"], result.measures["reliability"], rtol=0.01
    )


def test_given_regressions() -> None:
    data, fit = load_orthodont(), teeth()
    own = mar.by_group("distance ~ age", data, "subject")
    pd.testing.assert_frame_equal(fit.shrinkage(own).table, fit.shrinkage().table)
    quadratic = mar.by_group("distance ~ age + I(age**2)", data, "subject")
    result = fit.shrinkage(quadratic)
    np.testing.assert_allclose(
        result.frame("own"), quadratic.params[["Intercept", "age"]]
    )
    with pytest.raises(UnsupportedError, match="no column for the random effect 'age'"):
        fit.shrinkage(mar.by_group("distance ~ 1", data, "subject"))
    with pytest.raises(UnsupportedError, match="other rows"):
        fit.shrinkage(mar.by_group("distance ~ age", data.iloc[1:], "subject"))
    with pytest.raises(UnsupportedError, match="other rows"):
        fit.shrinkage(mar.by_group("distance ~ age", data, "sex"))
    with pytest.raises(UnsupportedError, match="is a ResultFrame"):
        fit.shrinkage(own.params)


def test_regressions_of_the_rows_in_another_order() -> None:
    data, fit = load_orthodont(), teeth()
    expected = fit.shrinkage().table
    turned = data.sample(frac=1.0, random_state=2)
    for again in (turned, turned.reset_index(drop=True)):
        own = mar.by_group("distance ~ age", again, "subject")
        pd.testing.assert_frame_equal(fit.shrinkage(own).table, expected)
    swapped = data.assign(distance=data["distance"].to_numpy()[::-1])
    with pytest.raises(UnsupportedError):
        fit.shrinkage(mar.by_group("distance ~ age", swapped, "subject"))


def test_a_slope_without_fixed_effect_shrinks_toward_zero() -> None:
    fit = build(reference_frame(), "y ~ arm", re_formula="~ x").fit()
    result = fit.shrinkage()
    assert result.coefficients == ["Intercept", "x"]
    assert result.population["x"] == 0.0
    np.testing.assert_allclose(
        result.frame("mixed")["x"], fit.random_effects_frame()["x"]
    )


def test_components() -> None:
    fit = shared("both")
    result = fit.shrinkage()
    assert result.coefficients == ["Intercept"]
    assert result.measures.loc["Intercept", "variance_model"] == pytest.approx(
        float(np.squeeze(fit.cov_re))
    )
    with pytest.raises(UnsupportedError, match="no random effect of the groups"):
        shared("components").shrinkage()
    with pytest.raises(UnsupportedError, match="no random effect of the groups"):
        shared("gls").shrinkage()
    slopes = build(reference_frame(), re_formula="1", vc_formula={"slope": "0 + x"})
    result = slopes.fit().shrinkage()
    assert result.coefficients == ["Intercept", "x"]
    assert result.cov_re.loc["Intercept", "x"] == 0.0


def test_groups_without_an_estimate_of_their_own() -> None:
    data = load_orthodont()
    data = data[(data["subject"] != "F01") | (data["occ"] == 2)]
    data = data[(data["subject"] != "F02") | (data["occ"] < 3)]
    fit = mar.mixedlm(
        "distance ~ age", data, "~age", groups="subject", time="occ"
    ).fit()
    result = fit.shrinkage()
    assert result.frame("own").loc["F01"].isna().all()
    assert result.frame("own").loc["F02"].notna().all()
    assert result.frame("mixed").notna().all(axis=None)
    assert result.problems.to_dict() == {"F01": "1 row for 2 coefficients"}
    assert result.measures["groups"].tolist() == [26, 26]
    assert "1 group lacks own estimates, 'F01'" in str(result.summary())


def test_zero_variance() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(20, 4))
    noise -= noise.mean(axis=1, keepdims=True)
    noise += 0.01 * rng.normal(size=(20, 1))
    data = pd.DataFrame({"y": noise.ravel(), "id": np.repeat(np.arange(20), 4)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = mar.mixedlm("y ~ 1", data, groups="id", residual="independent").fit()
    result = fit.shrinkage()
    np.testing.assert_allclose(result.table["shrinkage"], 1.0)
    assert (result.table["reliability"] == 0.0).all()
    assert result.measures.loc["Intercept", "ratio"] == 0.0
    assert np.isnan(result.measures.loc["Intercept", "ratio_model"])
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot as plt

    for kind in ("density", "arrows"):
        result.plot(kind).figure.canvas.draw()
    plt.close("all")


def test_invariance() -> None:
    data = reference_frame()
    result = shared("slope").shrinkage()
    close = {"rtol": 1e-4, "atol": 1e-5}
    shuffled = build(data.sample(frac=1.0, random_state=2), re_formula="~ x").fit()
    np.testing.assert_allclose(
        shuffled.shrinkage().table[["own", "mixed"]],
        result.table[["own", "mixed"]],
        **close,
    )
    tenfold = build(data.assign(y=10.0 * data["y"]), re_formula="~ x").fit()
    scaled = tenfold.shrinkage().measures
    np.testing.assert_allclose(scaled["ratio"], result.measures["ratio"], rtol=1e-4)
    np.testing.assert_allclose(
        scaled["variance_own"], 100.0 * result.measures["variance_own"], rtol=1e-4
    )
    renamed = build(
        data.assign(id=[f"p{90 - k}" for k in data["id"]]), re_formula="~ x"
    ).fit()
    np.testing.assert_allclose(
        renamed.shrinkage().frame("own").iloc[::-1], result.frame("own"), **close
    )


def test_summary() -> None:
    result = growth_result()
    frames = result.summary().to_frames()
    assert list(frames) == ["variances", "coefficients"]
    np.testing.assert_allclose(
        frames["variances"]["Mixed/own"], result.measures["ratio"]
    )
    medians = result.frame("distance_own").median()
    np.testing.assert_allclose(frames["coefficients"]["Distance, own"], medians)
    text = str(result.summary("Title"))
    assert "Title" in text
    assert "treatment[T.treatment]" in text


# Pictures


@pytest.fixture
def plt() -> Any:
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_densities(plt: Any) -> None:
    result = growth_result()
    figure = result.plot()
    assert len(figure.axes) == 2
    ax = result.plot(coefficients="time")
    assert ax.get_title() == "variance mixed / own = 0.13"
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    assert set(lines) == {"own", "mixed", "model", "population"}
    for name in ("own", "mixed", "model"):
        x, height = lines[name].T
        area = np.trapezoid(height, x) if hasattr(np, "trapezoid") else None
        assert area is None or area == pytest.approx(1.0, abs=0.01)
    x, height = lines["own"].T
    from scipy.stats import gaussian_kde

    values = result.frame("own")["time"].to_numpy()
    quartiles = np.quantile(values, [0.25, 0.75])
    width = 0.9 * min(values.std(ddof=1), np.ptp(quartiles) / 1.34) * 2500**-0.2
    exact = gaussian_kde(values, width / values.std(ddof=1))(x)
    np.testing.assert_allclose(height, exact, atol=2e-3)
    outside = ((values < x[0]) | (values > x[-1])).sum()
    assert f"({outside} own estimates lie outside)" in ax.get_xlabel()


def test_arrows_in_a_plane(plt: Any) -> None:
    result = growth_result()
    ax = result.plot("arrows")
    assert ax.get_title() == "150 of 2,500 groups, drawn at random"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Intercept", "time")
    quiver = next(c for c in ax.collections if hasattr(c, "U"))
    starts = np.column_stack([quiver.X, quiver.Y])
    steps = np.column_stack([quiver.U, quiver.V])
    own, mixed = result.frame("own").to_numpy(), result.frame("mixed").to_numpy()
    rows = [int(np.argmin(np.abs(own - start).sum(axis=1))) for start in starts]
    assert len(set(rows)) == 150
    np.testing.assert_allclose(starts + steps, mixed[rows])
    # the ellipse holds 95% of a normal distribution with the model's covariance
    ellipse = next(
        line.get_xydata() for line in ax.lines if "95%" in str(line.get_label())
    )
    deviations = ellipse - result.population.to_numpy()
    inner = np.linalg.inv(result.cov_re)
    np.testing.assert_allclose(
        np.einsum("ni,ij,nj->n", deviations, inner, deviations), 5.991465, rtol=1e-5
    )
    again = result.plot("arrows", seed=1)
    other = next(c for c in again.collections if hasattr(c, "U"))
    assert not np.array_equal(quiver.X, other.X)
    everything = teeth().shrinkage().plot("arrows", max_groups=50)
    assert everything.get_title() == "27 groups"


def test_arrows_of_one_coefficient(plt: Any) -> None:
    mine = plt.subplots()[1]
    result = teeth().shrinkage()
    ax = result.plot("arrows", "age", ax=mine)
    assert ax is mine
    assert len(ax.texts) == 27
    low, high = ax.get_ylim()
    assert low < result.frame("own")["age"].min()
    assert high > result.frame("own")["age"].max()


def test_bad_pictures(plt: Any) -> None:
    result = teeth().shrinkage()
    with pytest.raises(UnsupportedError, match="kind="):
        result.plot("scatter")
    with pytest.raises(UnknownColumnError, match="'height'"):
        result.plot(coefficients=["age", "height"])
    empty = result.table.assign(own=np.nan)
    bare = Shrinkage(
        empty, result.measures, result.cov_re, result.problems, [], "subject"
    )
    with pytest.raises(NotComputedError, match="no group has an estimate"):
        bare.plot("arrows")
