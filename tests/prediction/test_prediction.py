"""Predictions against dense algebra, other programs, and themselves."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

import mixedar.formula.api as mar
from helpers import oracle
from helpers.fitted_models import (
    build,
    every,
    oracle_of,
    reference_frame,
    shared,
)
from helpers.reference_cases import load
from mixedar import MixedLMAR
from mixedar.exceptions import BoundaryWarning, NotComputedError, UnsupportedError

LEVELS = ("population", "group", "forecast")


@pytest.fixture
def data() -> pd.DataFrame:
    return reference_frame().copy()


def new_rows() -> pd.DataFrame:
    """Gaps, rows before and after, observed times, unknown levels and groups."""
    rng = np.random.default_rng(4)
    rows = [(g, t) for g in (0, 1, 2, 17, 39, 77, 78) for t in (-3, *range(9), 12)]
    frame = pd.DataFrame(rows, columns=["id", "t"])
    frame["x"] = rng.normal(size=len(frame))
    frame["arm"] = np.where(frame["id"] % 3 == 0, "b", "a")
    frame["day"] = frame["t"] // 4
    frame = frame.sample(frac=1.0, random_state=2)
    frame.index = pd.Index([f"new{k}" for k in range(len(frame))], name="asked")
    return frame


def oracle_rows(fit: Any, frame: pd.DataFrame) -> oracle.Problem:
    """New rows as the oracle reads them."""
    slope = np.column_stack([np.ones(len(frame)), frame["x"]])
    return oracle.Problem(
        y=np.zeros(len(frame)),
        X=np.column_stack([slope[:, 0], frame["arm"] == "b", frame["x"]]),
        groups=frame["id"].to_numpy(),
        Z=None if fit.k_re == 0 else slope[:, : fit.k_re],
        time=frame["t"].to_numpy(dtype=float),
        series=None if fit.model.series is None else frame["day"].to_numpy(),
        vc={name: frame[name].to_numpy() for name in fit.model.exog_vc.names},
    )


# Other programs


@pytest.mark.parametrize(
    ("name", "residual"),
    [
        ("predict_orthodont", "ar1"),
        ("predict_bodyweight_car1", "car1"),
        ("predict_sim_dropout", "ar1"),
    ],
)
def test_nlme(name: str, residual: str) -> None:
    # predict() of nlme; level1_ar as written out in tests/reference/mixed/make.R
    case = load(name)
    fit = mar.mixedlm(
        case.formula,
        case.data,
        groups=case.groups,
        re_formula=case.re_formula,
        time=case.time,
        residual=residual,
    ).fit()
    expected = case.expected["predict_new"]
    new = pd.DataFrame(expected["newdata"])
    found = fit.get_prediction(new)
    np.testing.assert_allclose(found.predicted_mean, expected["level0"], rtol=1e-7)
    np.testing.assert_allclose(found.se_mean, expected["level0_se"], rtol=1e-6)
    known = np.array([value is not None for value in expected["level1"]])
    for level, key in (("group", "level1"), ("forecast", "level1_ar")):
        found = fit.get_prediction(new, level, unknown="population")
        values = np.where(known, np.array(expected[key], float), expected["level0"])
        np.testing.assert_allclose(found.predicted_mean, values, rtol=1e-6)


def test_least_squares_is_that_of_statsmodels(data: pd.DataFrame) -> None:
    ours, theirs = shared("ols"), smf.ols("y ~ x + arm", data).fit()
    new = new_rows()
    for level, unknown in (("population", "error"), ("forecast", "population")):
        found = ours.get_prediction(new, level, unknown=unknown)
        for alpha in (0.05, 0.2):
            expected = theirs.get_prediction(new).summary_frame(alpha)
            pd.testing.assert_frame_equal(found.summary_frame(alpha), expected)
    own = ours.get_prediction().summary_frame()
    pd.testing.assert_frame_equal(own, theirs.get_prediction().summary_frame())


# Dense algebra


@every
def test_dense_gaussian(name: str) -> None:
    fit = shared(name)
    new = new_rows()
    if fit.structure.k_params == 0:
        # independent residuals of one time are two, which the oracle cannot say
        new["t"] += 100
        new["day"] = np.where(new["t"] > 104, 1, 0)
    problem, params = oracle_of(fit)
    dense = oracle.predict(problem, oracle_rows(fit, new), params)
    found = {
        level: fit.get_prediction(new, level, unknown="population") for level in LEVELS
    }
    tight = {"rtol": 1e-8, "atol": 1e-9}
    for level in LEVELS:
        np.testing.assert_allclose(
            found[level].predicted_mean, getattr(dense, level), **tight
        )
    np.testing.assert_allclose(
        found["population"].var_pred_mean, dense.population_var, **tight
    )
    np.testing.assert_allclose(
        found["population"].var_resid, dense.marginal_var, **tight
    )
    np.testing.assert_allclose(found["group"].var_pred_mean, dense.group_var, **tight)
    np.testing.assert_allclose(found["group"].var_resid, fit.scale, **tight)
    np.testing.assert_allclose(
        found["forecast"].se_obs ** 2, dense.forecast_var, **tight
    )
    np.testing.assert_allclose(found["forecast"].var_resid, dense.kriging_var, **tight)


@every
def test_own_rows(name: str, data: pd.DataFrame) -> None:
    fit = shared(name)
    population, group, forecast = (fit.get_prediction(level=level) for level in LEVELS)
    np.testing.assert_allclose(population.predicted_mean, fit.fitted_marginal)
    np.testing.assert_allclose(group.predicted_mean, fit.fittedvalues)
    if fit.structure.k_params:
        # what was observed is known
        np.testing.assert_allclose(forecast.predicted_mean, data["y"])
        np.testing.assert_allclose(forecast.se_obs, 0.0, atol=1e-6)
    else:
        np.testing.assert_allclose(forecast.predicted_mean, fit.fittedvalues)
    for found, level in zip((population, group, forecast), LEVELS, strict=True):
        assert found.row_labels.equals(data.index)
        again = fit.get_prediction(data, level).summary_frame()
        pd.testing.assert_frame_equal(found.summary_frame(), again, atol=1e-7)


def test_errors_of_predicted_effects() -> None:
    # with known fixed effects the variance is that of random_effects_cov
    fit = shared("slope")
    label = fit.model.group_labels[5]
    cov = fit.random_effects_cov[label].to_numpy()
    far = pd.DataFrame({"id": label, "x": [0.0, 2.0], "arm": "a", "t": [50, 51]})
    z = np.column_stack([np.ones(2), far["x"]])
    variance = fit.get_prediction(far, "group").var_pred_mean
    assert (variance >= np.einsum("ij,jk,ik->i", z, cov, z)).all()
    # far away in time a forecast is the prediction for the group
    far["t"] = [2000, 3000]
    pd.testing.assert_frame_equal(
        fit.get_prediction(far, "forecast").summary_frame(),
        fit.get_prediction(far, "group").summary_frame(),
    )


# Covariance parameters


def brute_theta(fit: Any, new: pd.DataFrame) -> dict[str, Any]:
    """``g'Wg`` by dense predictions at shifted variances, covariances and rho."""
    problem, at = oracle_of(fit)
    rows = oracle_rows(fit, new)
    # variances and covariances of random effects, components, rho, scale
    values = np.append(fit.params.to_numpy()[fit.k_fe :], fit.scale)
    tril = np.tril_indices(fit.k_re)

    def means(theta: Any) -> Any:
        cov = np.zeros((fit.k_re, fit.k_re))
        cov[tril] = theta[: len(tril[0])]
        cov += np.tril(cov, -1).T
        vcomp = dict(zip(at.vcomp, theta[len(tril[0]) :], strict=False))
        params = oracle.Parameters(theta[-1], theta[-2], cov, vcomp)
        found = oracle.predict(problem, rows, params)
        return np.array([getattr(found, level) for level in LEVELS])

    steps = np.diag(1e-4 * np.maximum(np.abs(values), 0.1))
    gradient = np.array(
        [
            (means(values + step) - means(values - step)) / (2.0 * step.max())
            for step in steps
        ]
    )
    covariance = fit.fit.estimate.cov_theta
    variance = np.einsum("kai,kl,lai->ai", gradient, covariance, gradient)
    return dict(zip(LEVELS, variance, strict=True))


@pytest.mark.parametrize("name", ["slope", "both", "series", "car1"])
def test_uncertainty_of_theta(name: str) -> None:
    fit, new = shared(name), new_rows().iloc[::4]
    for level, expected in brute_theta(fit, new).items():
        plain, once, twice = (
            fit.get_prediction(new, level, unknown="population", include_theta=theta)
            for theta in (False, True, "prasad-rao")
        )
        added = once.var_pred_mean - plain.var_pred_mean
        assert (added > 0.0).any()
        np.testing.assert_allclose(added, expected, rtol=1e-3, atol=1e-9)
        np.testing.assert_allclose(
            twice.var_pred_mean - plain.var_pred_mean, 2.0 * added, atol=1e-12
        )
        np.testing.assert_array_equal(once.predicted_mean, plain.predicted_mean)
        np.testing.assert_array_equal(once.var_resid, plain.var_resid)


# glmmTMB 1.1.5, orthodont.csv of the reference cases:
#   m <- glmmTMB(distance ~ age * sex + (1 | subject), d)
#   predict(m, data.frame(subject = c("M01", "M01", "F10", "F01"),
#                         age = c(16, 8, 20, 11), sex = ...), se.fit = TRUE)
# and sim_dropout.csv:
#   m <- glmmTMB(y ~ wave * arm + x + (wave | id), d)
#   predict(m, data.frame(id = c(1, 2, 17, 100), wave = c(8, 8, 9, 3),
#                         arm = c("B", "A", "B", "A"), x = c(0, .5, 0, -1)), ...)
GLMMTMB: dict[str, Any] = {
    "orthodont": (
        [31.29938198, 25.02438249, 23.37141492, 21.54545632],
        [0.7549586531, 0.6900961676, 1.0640766490, 0.6437846665],
    ),
    "sim_dropout": (
        [2.941295912, 6.004603951, 7.601254565, 1.217052339],
        [0.6667555137, 0.6725611705, 0.6759794396, 0.2849805861],
    ),
}


@pytest.mark.parametrize("name", GLMMTMB)
def test_uncertainty_of_theta_as_glmmtmb(name: str) -> None:
    data = load(f"predict_{name}").data
    options: dict[str, Any] = {"residual": "independent"}
    if name == "orthodont":
        model = mar.mixedlm("distance ~ age * sex", data, groups="subject", **options)
        new = {"subject": ["M01", "M01", "F10", "F01"], "age": [16, 8, 20, 11]}
        new["sex"] = ["Male", "Male", "Female", "Female"]
    else:
        options["re_formula"] = "~ wave"
        model = mar.mixedlm("y ~ wave * arm + x", data, groups="id", **options)
        new = {"id": [1, 2, 17, 100], "wave": [8, 8, 9, 3]}
        new |= {"arm": list("BABA"), "x": [0.0, 0.5, 0.0, -1.0]}
    found = model.fit(reml=False).get_prediction(new, "group", include_theta=True)
    means, errors = GLMMTMB[name]
    np.testing.assert_allclose(found.predicted_mean, means, rtol=1e-6)
    np.testing.assert_allclose(found.se_mean, errors, rtol=1e-5)


def test_uncertainty_of_theta_on_the_boundary() -> None:
    # a variance of zero and held parameters add nothing, and break nothing
    case = load("sim_boundary_ar1_reml")
    with pytest.warns(BoundaryWarning):
        fit = mar.mixedlm(
            case.formula, case.data, groups=case.groups, time=case.time
        ).fit()
    plain = fit.get_prediction(level="group")
    found = fit.get_prediction(level="group", include_theta=True)
    assert (found.se_mean >= plain.se_mean).all()
    np.testing.assert_allclose(found.se_mean, plain.se_mean, rtol=1e-2)
    held = shared("ols").get_prediction(include_theta=True)
    np.testing.assert_array_equal(held.se_mean, shared("ols").get_prediction().se_mean)


# What must not matter


def test_units_order_and_labels_do_not_matter(data: pd.DataFrame) -> None:
    fit, new = shared("slope"), new_rows()
    renamed = data.assign(y=10.0 * data["y"], id="g" + data["id"].astype(str))
    other = build(renamed.sample(frac=1.0, random_state=8), re_formula="~ x").fit()
    asked = new.assign(id="g" + new["id"].astype(str), x=new["x"])
    for level in LEVELS:
        expected = fit.get_prediction(new, level, unknown="population").summary_frame()
        found = other.get_prediction(asked, level, unknown="population").summary_frame()
        pd.testing.assert_frame_equal(found, 10.0 * expected, rtol=1e-5)
        mixed = new.sample(frac=1.0, random_state=3)
        found = fit.get_prediction(mixed, level, unknown="population").summary_frame()
        assert found.index.equals(mixed.index)
        pd.testing.assert_frame_equal(expected, found.loc[new.index])
        # a row says the same whatever is asked beside it
        alone = fit.get_prediction(new.iloc[[7]], level, unknown="population")
        pd.testing.assert_frame_equal(alone.summary_frame(), expected.iloc[[7]])


def test_a_time_may_be_asked_for_twice() -> None:
    fit = shared("slope")
    new = pd.DataFrame({"id": 3, "t": [9, 9, 9], "x": [0.0, 0.0, 1.0], "arm": "b"})
    new.index = pd.Index(["same", "same", "other"])
    frame = fit.get_prediction(new, "forecast").summary_frame()
    assert list(frame.index) == ["same", "same", "other"]
    pd.testing.assert_series_equal(frame.iloc[0], frame.iloc[1])
    assert frame["mean"].iloc[0] != frame["mean"].iloc[2]


def test_arrays_and_formulas_agree(data: pd.DataFrame) -> None:
    fit, new = shared("slope"), new_rows()
    X = np.column_stack([np.ones(len(data)), data["arm"] == "b", data["x"]])
    model = MixedLMAR(
        data["y"].to_numpy(), X, data["id"], exog_re=X[:, [0, 2]], time=data["t"]
    )
    arrays = model.fit()
    asked = np.column_stack([np.ones(len(new)), new["arm"] == "b", new["x"]])
    for level in LEVELS:
        expected = fit.get_prediction(new, level, unknown="population")
        found = arrays.get_prediction(
            asked,
            level,
            exog_re=asked[:, [0, 2]],
            groups=new["id"].to_numpy(),
            time=new["t"].to_numpy(),
            unknown="population",
        )
        np.testing.assert_allclose(found.predicted_mean, expected.predicted_mean)
        np.testing.assert_allclose(found.se_obs, expected.se_obs)
        assert found.row_labels.equals(pd.RangeIndex(len(new)))
        framed = fit.get_prediction(
            exog=pd.DataFrame(asked, new.index),
            level=level,
            exog_re=asked[:, [0, 2]],
            groups=new["id"],
            time=new["t"],
            unknown="population",
        )
        pd.testing.assert_frame_equal(
            framed.summary_frame(), expected.summary_frame(), check_names=False
        )
    # the default random intercept needs no design
    plain = MixedLMAR(data["y"], X, data["id"].to_numpy(), time=data["t"]).fit()
    one = plain.get_prediction(asked[0], "group", groups=[2])
    np.testing.assert_allclose(
        one.predicted_mean,
        asked[0] @ plain.fe_params + plain.random_effects[2].to_numpy(),
    )


def test_columns_by_another_name(data: pd.DataFrame) -> None:
    fit, new = shared("slope"), new_rows().iloc[:9]
    expected = fit.get_prediction(new, "forecast", unknown="population")
    other = new.rename(columns={"id": "person", "t": "when"})
    found = fit.get_prediction(
        other, "forecast", groups="person", time="when", unknown="population"
    )
    pd.testing.assert_frame_equal(found.summary_frame(), expected.summary_frame())
    found = fit.get_prediction(
        new[["x", "arm"]],
        "forecast",
        groups=new["id"],
        time=new["t"].to_list(),
        unknown="population",
    )
    pd.testing.assert_frame_equal(found.summary_frame(), expected.summary_frame())
    # a population needs neither groups nor times
    fit.get_prediction(new[["x", "arm"]])


# Degrees of freedom, results


def test_degrees_of_freedom() -> None:
    fit = shared("slope")
    new = pd.DataFrame({"x": [0.0, 1.0], "arm": ["a", "b"]})
    rows = [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    for df in (None, "satterthwaite", "kenward-roger", "between-within", 7, "normal"):
        found = fit.get_prediction(new, df=df)
        test = fit.t_test(rows, df=df)
        np.testing.assert_allclose(found.se_mean, test.sd)
        np.testing.assert_allclose(found.conf_int(alpha=0.1), test.conf_int(0.1))
    normal = fit.get_prediction(new, df="normal")
    assert np.isinf(normal.df).all()
    low = fit.get_prediction(new, df=7).conf_int(obs=True)
    assert (low[:, 0] < normal.conf_int(obs=True)[:, 0]).all()
    chosen = fit.with_df("satterthwaite").get_prediction(new)
    np.testing.assert_array_equal(
        chosen.df, fit.get_prediction(new, df="satterthwaite").df
    )


def test_a_row_without_fixed_effects(data: pd.DataFrame) -> None:
    fit = build(data, "y ~ 0 + x").fit()
    new = pd.DataFrame({"id": [1, 1], "x": [0.0, 1.0], "t": [9, 10]})
    found = fit.get_prediction(new, df="satterthwaite")
    assert found.predicted_mean[0] == 0.0
    np.testing.assert_array_equal(found.conf_int()[0], [0.0, 0.0])
    assert np.isfinite(fit.get_prediction(new, "forecast").conf_int(obs=True)).all()


def test_results() -> None:
    fit, new = shared("slope"), new_rows()
    found = fit.get_prediction(new, "group", unknown="population")
    assert len(found) == len(new)
    frame = found.summary_frame(alpha=0.1)
    assert list(frame) == [
        "mean",
        "mean_se",
        "mean_ci_lower",
        "mean_ci_upper",
        "obs_ci_lower",
        "obs_ci_upper",
    ]
    assert frame.index.equals(new.index)
    np.testing.assert_array_equal(frame["mean"], found.predicted_mean)
    np.testing.assert_array_equal(frame["mean_se"], found.se_mean)
    np.testing.assert_array_equal(
        frame[["obs_ci_lower", "obs_ci_upper"]], found.conf_int(True, 0.1)
    )
    assert found.conf_int().shape == (len(new), 2)
    text = str(found)
    assert "Predictions for groups" in text
    assert "not in the fit" in text
    assert "first 30 of 77 rows" in text
    assert "<table" in found._repr_html_()
    assert len(found.summary(max_rows=5).to_frame()) == 5
    with pytest.raises(UnsupportedError, match="alpha=95"):
        found.conf_int(alpha=95)
    copied = pickle.loads(pickle.dumps(found))
    pd.testing.assert_frame_equal(copied.summary_frame(0.1), frame)


def test_fits_from_pickles_and_without_data(data: pd.DataFrame) -> None:
    fit = build(data, re_formula="~ x").fit()
    new = new_rows()
    expected = fit.get_prediction(new, "forecast", unknown="population")
    loaded = pickle.loads(pickle.dumps(fit))
    found = loaded.get_prediction(new, "forecast", unknown="population")
    pd.testing.assert_frame_equal(found.summary_frame(), expected.summary_frame())
    population = fit.get_prediction(new).summary_frame()
    fit.remove_data()
    pd.testing.assert_frame_equal(fit.get_prediction(new).summary_frame(), population)
    with pytest.raises(NotComputedError, match=r"removed.*predictions for groups"):
        fit.get_prediction(new, level="group")
    with pytest.raises(NotComputedError, match="removed"):
        fit.get_prediction(new, include_theta=True)
    with pytest.raises(NotComputedError, match="newdata"):
        fit.get_prediction()


def test_every_model_predicts_many_groups_alike() -> None:
    # batches of more than a few hundred groups take other routes in linalg
    rng = np.random.default_rng(5)
    m = 700
    frame = pd.DataFrame({"id": np.repeat(np.arange(m), 3), "t": np.tile([0, 1, 3], m)})
    frame["x"] = rng.normal(size=len(frame))
    frame["y"] = frame["x"] + np.repeat(rng.normal(size=m), 3)
    frame["y"] += frame["t"] * np.repeat(rng.normal(size=m), 3)
    frame["y"] += rng.normal(size=len(frame))
    fit = mar.mixedlm("y ~ x", frame, groups="id", re_formula="~ t", time="t").fit()
    new = frame.assign(t=frame["t"] + 1)
    whole = fit.get_prediction(new, "forecast").summary_frame()
    some = new.iloc[300:330]
    part = fit.get_prediction(some, "forecast").summary_frame()
    pd.testing.assert_frame_equal(part, whole.loc[some.index])
