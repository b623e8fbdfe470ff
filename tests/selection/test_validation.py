"""Scores of left-out rows against densities and integrals written out here."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import mixedar.api as ma
import mixedar.formula.api as mar
from mixedar.datasets import load_orthodont
from mixedar.exceptions import LengthError, NotComputedError, UnsupportedError
from mixedar.selection.validation import crps_normal


@pytest.fixture(scope="module")
def teeth() -> pd.DataFrame:
    return load_orthodont()


def line(teeth: pd.DataFrame, formula: str = "distance ~ age", **options: object):
    return mar.mixedlm(formula, teeth, groups="subject", time="occ", **options)


def parts_of(teeth: pd.DataFrame, group: str) -> np.ndarray:
    """Three folds, one of them a single group."""
    other = np.where(teeth["subject"].str[1:].astype(int) % 2, 0, 2)
    return np.where(teeth["subject"] == group, 1, other)


@pytest.mark.parametrize("y", [-2.0, 0.0, 0.7, 5.0])
def test_crps_is_the_integral_of_the_squared_distance(y: float) -> None:
    def squared(x: float) -> float:
        return float((stats.norm.cdf(x) - (x >= y)) ** 2)

    parts = [integrate.quad(squared, *ends)[0] for ends in ((-12, y), (y, 12))]
    assert crps_normal(np.array([y]))[0] == pytest.approx(sum(parts), abs=1e-7)


def test_left_out_groups_have_the_densities_of_the_textbook(teeth) -> None:
    model = line(teeth)
    labels = parts_of(teeth, "F05")
    found = mar.cross_validate(model, folds=labels)
    fit = line(teeth[labels != 1]).fit()
    rows = found.rows[found.rows["group"] == "F05"]
    x = np.column_stack([np.ones(4), [8.0, 10.0, 12.0, 14.0]])
    y = teeth.loc[labels == 1, "distance"].to_numpy()
    distance = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    cov = fit.scale * fit.rho**distance + float(fit.cov_re.iloc[0, 0])
    cov = cov + x @ fit.fit.cov_beta @ x.T
    mean = x @ fit.fe_params.to_numpy()
    assert rows["mean"].to_numpy() == pytest.approx(mean, rel=1e-6)
    single = stats.norm.logpdf(y, mean, np.sqrt(np.diag(cov)))
    assert rows["log_score"].to_numpy() == pytest.approx(single, rel=1e-5)
    assert rows["squared_error"].to_numpy() == pytest.approx((y - mean) ** 2, rel=1e-5)
    whole = stats.multivariate_normal(mean, cov).logpdf(y)
    joint = found.groups.set_index("group").loc["F05", "joint_log_score"]
    assert joint == pytest.approx(whole, rel=1e-5)


def test_joint_scores_know_slopes_components_and_series(teeth) -> None:
    model = line(
        teeth,
        re_formula="~age",
        vc_formula={"half": "0 + C(occ > 2)"},
        residual="independent",
    )
    labels = parts_of(teeth, "M03")
    found = mar.cross_validate(model, folds=labels)
    fit = model.for_rows(teeth[labels != 1]).fit(collected=[])
    x = np.column_stack([np.ones(4), [8.0, 10.0, 12.0, 14.0]])
    half = np.kron(np.eye(2), np.ones((2, 2)))
    cov = fit.scale * np.eye(4) + x @ np.asarray(fit.cov_re) @ x.T
    cov = cov + fit.vcomp[0] * half + x @ fit.fit.cov_beta @ x.T
    y = teeth.loc[labels == 1, "distance"].to_numpy()
    whole = stats.multivariate_normal(x @ fit.fit.fe_params, cov).logpdf(y)
    joint = found.groups.set_index("group").loc["M03", "joint_log_score"]
    assert joint == pytest.approx(whole, rel=1e-4)


def test_rolling_origins_forecast_from_the_past_alone(teeth) -> None:
    model = line(teeth)
    found = mar.cross_validate(model, by="time", folds=[4])
    past = line(teeth[teeth["occ"] < 4]).fit()
    new = teeth[teeth["occ"] == 4]
    expected = past.get_prediction(new, "forecast")
    assert found.rows["mean"].to_numpy() == pytest.approx(expected.predicted_mean)
    assert found.rows["sd"].to_numpy() == pytest.approx(expected.se_obs)
    assert found.groups.empty


def test_groups_that_appear_later_are_predicted_for_the_population(teeth) -> None:
    late = teeth[(teeth["subject"] != "M01") | (teeth["occ"] >= 4)]
    found = mar.cross_validate(line(late), by="time", folds=[4])
    sd = found.rows.set_index("group")["sd"]
    assert sd["M01"] > 1.2 * sd["M02"]
    assert sd["M02"] == pytest.approx(sd["M03"])


def test_folds_divide_groups_and_cover_all_rows(teeth) -> None:
    found = mar.cross_validate(line(teeth), folds=5, rng=3)
    assert len(found.rows) == len(teeth)
    assert (found.rows.groupby("group")["fold"].nunique() == 1).all()
    assert found.rows.groupby("fold")["group"].nunique().tolist() == [6, 6, 5, 5, 5]
    total = found.frame.iloc[0]
    weighted = (found.folds["crps"] * found.folds["n"]).sum() / total["n"]
    assert total["crps"] == pytest.approx(weighted)
    again = mar.cross_validate(line(teeth), folds=5, rng=3)
    pd.testing.assert_frame_equal(found.rows, again.rows)


def test_the_model_that_made_the_data_wins(teeth) -> None:
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(
        {"id": np.repeat(np.arange(60), 6), "t": np.tile(range(6), 60)}
    )
    noise = rng.normal(size=(60, 6))
    for t in range(1, 6):
        noise[:, t] = 0.8 * noise[:, t - 1] + 0.6 * noise[:, t]
    frame["x"] = rng.normal(size=360)
    frame["y"] = frame["x"] + noise.ravel()
    models = {
        name: mar.mixedlm(
            formula, frame, groups="id", re_formula="0", time="t", residual=r
        )
        for name, formula, r in (
            ("true", "y ~ x", "ar1"),
            ("no x", "y ~ 1", "ar1"),
            ("white", "y ~ x", "independent"),
        )
    }
    groups = mar.cross_validate(models, folds=6, rng=1)
    apart = groups.differences("joint_log_score")
    assert apart.index[0] == "true"
    assert (apart["difference"] + 2 * apart["se"] < 0.0).sum() == 2
    assert groups.frame["squared_error"].idxmax() == "no x"
    times = mar.cross_validate(models, by="time", folds=3)
    assert times.frame["crps"].idxmin() == "true"
    assert times.differences("crps")["difference"].iloc[1:].gt(0.0).all()
    assert "times ahead" in repr(times)


def test_crossed_factors_have_scores_of_rows_only() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"id": np.repeat(range(12), 8), "item": np.tile(range(8), 12)})
    effects = rng.normal(size=12)[frame["id"]] + rng.normal(size=8)[frame["item"]]
    frame["y"] = effects + rng.normal(size=96)
    model = mar.mixedlm("y ~ 1 + (1 | id) + (1 | item)", frame)
    found = mar.cross_validate(model, folds=3, rng=1)
    assert "joint_log_score" not in found.frame
    with pytest.raises(UnsupportedError, match="crps"):
        found.differences("joint_log_score")


def test_what_cannot_be_left_out_is_refused(teeth) -> None:
    model = line(teeth)
    untimed = mar.mixedlm("distance ~ age", teeth, groups="subject")
    with pytest.raises(UnsupportedError, match="needs times"):
        mar.cross_validate(untimed, by="time")
    with pytest.raises(UnsupportedError, match="27 groups"):
        mar.cross_validate(model, folds=28)
    with pytest.raises(UnsupportedError, match="divides groups"):
        mar.cross_validate(model, folds=np.arange(108) % 2)
    labels = teeth["subject"].str[1:].astype(int) % 3
    with pytest.raises(UnsupportedError, match="different row labels"):
        mar.cross_validate(model, folds=labels.iloc[::-1])
    for folds, match in (
        ([0], "begin after 1 and no later than 4"),
        (["late"], "times such as 4"),
        (1.5, "has 2 to forecast"),
        (3, "has 2 to forecast"),
    ):
        with pytest.raises(UnsupportedError, match=match):
            mar.cross_validate(model, by="time", folds=folds)
    with pytest.raises(LengthError, match="other rows"):
        mar.cross_validate([model, line(teeth.iloc[4:])])
    arrays = ma.MixedLMAR(teeth["distance"], np.ones((108, 1)), teeth["subject"])
    with pytest.raises(UnsupportedError, match="formula"):
        mar.cross_validate(arrays)
    with pytest.raises(UnsupportedError, match="MixedLMAR"):
        mar.cross_validate(teeth)


def test_folds_that_cannot_be_fitted_are_named(teeth) -> None:
    girls = (teeth["sex"] == "Female").to_numpy().astype(int)
    with pytest.raises(NotComputedError, match=r"model 1, fold 0 .* rows to fit"):
        mar.cross_validate(line(teeth, "distance ~ age * sex"), folds=girls)


def test_too_few_times_to_fit_lead_to_later_folds(teeth) -> None:
    # two occasions do not tell AR(1) from the subjects
    with pytest.raises(NotComputedError, match="Or leave more times to fit"):
        mar.cross_validate(line(teeth), by="time", folds=[3, 4])


def test_folds_of_dates_are_called_by_them(teeth) -> None:
    weeks = pd.to_timedelta(7 * teeth["occ"], unit="D")
    dated = teeth.assign(occ=pd.Timestamp("2024-01-01") + weeks)
    found = mar.cross_validate(line(dated), by="time", folds=["2024-01-29"])
    assert found.rows["fold"].unique().tolist() == ["2024-01-29"]
    numbers = mar.cross_validate(line(teeth), by="time", folds=[4])
    np.testing.assert_allclose(found.rows["crps"], numbers.rows["crps"], rtol=1e-6)


@pytest.mark.parametrize("ordered", [True, False])
def test_folds_of_visits_follow_their_order(teeth, ordered: bool) -> None:
    visits = [f"week {week}" for week in (2, 4, 8, 12)]
    named = teeth["occ"].map(dict(zip(range(1, 5), visits, strict=True)))
    if ordered:
        named = named.astype(pd.CategoricalDtype(visits, ordered=True))
    options = {"residual": "independent", "re_formula": "1"}
    numbers = mar.cross_validate(line(teeth, **options), by="time", folds=2)
    model = line(teeth.assign(occ=named), **options)
    for folds in (2, ["week 8", "week 12"]):
        found = mar.cross_validate(model, by="time", folds=folds)
        assert found.rows["fold"].unique().tolist() == ["week 8", "week 12"]
        np.testing.assert_allclose(found.rows["crps"], numbers.rows["crps"], rtol=1e-6)
    with pytest.raises(UnsupportedError, match="begin at times such as week 12"):
        mar.cross_validate(model, by="time", folds=["week 9"])
    for folds in ([3 + 1j], np.ma.array([3, 4], mask=[False, True]), [3.0, np.nan]):
        with pytest.raises(UnsupportedError, match="begin at times such as 4"):
            mar.cross_validate(line(teeth, **options), by="time", folds=folds)


def test_another_structure_is_the_one_that_is_scored(teeth) -> None:
    independent = mar.cross_validate(line(teeth, residual="independent"), rng=1)
    changed = mar.cross_validate(line(teeth).with_residual("independent"), rng=1)
    pd.testing.assert_frame_equal(changed.frame, independent.frame)


def test_another_variance_function_is_the_one_that_is_scored(teeth) -> None:
    center = 11.0  # noqa: F841 (the formula reads it)
    weights = ma.VarLogLinear("~ I(age - center)")
    options = {"groups": "subject", "time": "occ", "weights": weights}
    written = mar.cross_validate(
        mar.mixedlm("distance ~ age", teeth, **options), folds=3, rng=1
    )
    model = line(teeth)
    changed = mar.cross_validate(model.with_residual("ar1", weights), folds=3, rng=1)
    rows = ["mean", "log_score"]
    left, right = changed.rows[rows], written.rows[rows]
    pd.testing.assert_frame_equal(left, right, rtol=1e-5)
    kept = model.with_residual("ar1", weights).with_residual("independent")
    direct = mar.mixedlm("distance ~ age", teeth, **options, residual="independent")
    left = mar.cross_validate(kept, folds=3, rng=1).rows[rows]
    right = mar.cross_validate(direct, folds=3, rng=1).rows[rows]
    pd.testing.assert_frame_equal(left, right, rtol=1e-5)


def test_what_was_given_as_arrays_later_is_refused(teeth) -> None:
    other = line(teeth).with_endog(teeth["distance"][::-1].to_numpy())
    with pytest.raises(NotComputedError, match="with_endog"):
        mar.cross_validate(other)
    later = {"known": np.linspace(1, 2, len(teeth))}
    held = line(teeth).with_residual("ar1", ma.VarFixed("known"), later)
    with pytest.raises(NotComputedError, match="residual_data="):
        mar.cross_validate(held)
    known = line(teeth).with_residual("ar1", np.linspace(1, 2, len(teeth)))
    with pytest.raises(NotComputedError, match="weights= of the model is an array"):
        mar.cross_validate(known)
