"""An offset: the model of the response less it, seen on the response's scale."""

from __future__ import annotations

from functools import cache
from html import unescape
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from mixedar import MixedLMAR
from mixedar.datasets import load_orthodont
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    ResponseError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.residual.variance import VarPower


@cache
def teeth() -> pd.DataFrame:
    """With an offset, and what it leaves; must not be changed."""
    data = load_orthodont().sample(frac=1.0, random_state=2)
    data["start"] = 3.0 * np.random.default_rng(1).normal(size=len(data))
    return data.assign(rest=data["distance"] - data["start"])


OPTIONS: dict[str, Any] = {"groups": "subject", "re_formula": "~age", "time": "occ"}


@cache
def both() -> tuple[Any, Any]:
    """The fit with an offset, and that of the difference."""
    one = mar.mixedlm("distance ~ age * sex", teeth(), offset="start", **OPTIONS).fit()
    return one, mar.mixedlm("rest ~ age * sex", teeth(), **OPTIONS).fit()


def test_estimates_are_those_of_the_difference() -> None:
    fit, other = both()
    assert fit.llf == pytest.approx(other.llf, abs=1e-9)
    assert_allclose(fit.params, other.params, atol=1e-10)
    assert_allclose(fit.cov_params(), other.cov_params(), atol=1e-10)
    assert_allclose(fit.fittedvalues, other.fittedvalues + teeth()["start"])
    assert_allclose(fit.resid, other.resid, atol=1e-10)
    assert_allclose(
        fit.conf_int_re("wald")["upper"], other.conf_int_re("wald")["upper"]
    )
    robust = [one.get_robustcov_results("CR2").bse_fe for one in (fit, other)]
    assert_allclose(*robust)
    deleted = [one.influence().cooks_distance for one in (fit, other)]
    assert_allclose(*deleted)


@pytest.mark.parametrize("level", ["population", "group", "forecast"])
def test_predictions_have_the_offset_of_their_rows(level: str) -> None:
    fit, other = both()
    new = teeth()[teeth()["occ"] > 2].assign(occ=lambda d: d["occ"] + 5, start=7.0)
    found = fit.get_prediction(new, level).summary_frame()
    expected = other.get_prediction(new, level).summary_frame()
    for name in ("mean", "mean_ci_lower", "obs_ci_upper"):
        assert_allclose(found[name], expected[name] + 7.0)
    assert_allclose(found["mean_se"], expected["mean_se"])
    own = fit.get_prediction(level=level).predicted_mean
    assert_allclose(own, other.get_prediction(level=level).predicted_mean + start())
    with pytest.raises(UnknownColumnError, match="offset='start' is not a column"):
        fit.get_prediction(new.drop(columns="start"), level)
    given = fit.get_prediction(
        new.drop(columns="start"), level, offset=np.full(54, 7.0)
    )
    assert_allclose(given.predicted_mean, found["mean"])
    assert_allclose(fit.predict(new), other.predict(new) + 7.0)


def start() -> pd.Series:
    return teeth()["start"]


def test_simulated_responses_have_it() -> None:
    fit, other = both()
    for options in ({}, {"newdata": teeth()}, {"groups": "conditional"}):
        found = fit.simulate(2, seed=1, **options)
        expected = other.simulate(2, seed=1, **options).add(start(), axis=0)
        assert_allclose(found, expected, atol=1e-10)
    drawn = fit.get_distribution().rvs(rng=1)
    assert_allclose(drawn, other.get_distribution().rvs(rng=1) + start())
    again = fit.model.refit(drawn)
    assert_allclose(again.params, other.model.refit(drawn - start()).params, atol=1e-6)


def test_variances_that_read_the_fitted_values_read_it_too() -> None:
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(40), 10)
    data = pd.DataFrame({"g": group, "x": rng.normal(size=400)})
    data["o"] = rng.uniform(5.0, 50.0, size=400)
    mean = 2.0 + data["x"] + data["o"] + rng.normal(size=40)[group]
    data["y"] = mean + 0.1 * mean * rng.normal(size=400)
    options = {"groups": "g", "weights": VarPower()}
    fit = mar.mixedlm("y ~ x", data, offset="o", **options).fit()
    assert fit.residual_params["power"] == pytest.approx(1.0, abs=0.2)


def test_arrays() -> None:
    data = teeth()
    X = np.column_stack([np.ones(108), data["age"]])
    fit = MixedLMAR(data["distance"], X, data["subject"], offset=start()).fit()
    other = MixedLMAR(data["rest"], X, data["subject"]).fit()
    assert fit.llf == pytest.approx(other.llf, abs=1e-9)
    new = X[:2]
    expected = other.predict(new) + np.array([0.0, 1.0])
    assert_allclose(fit.predict(new, offset=[0.0, 1.0]), expected)
    found = fit.get_prediction(exog=new, offset=[0.0, 1.0]).predicted_mean
    assert_allclose(found, expected)
    bare = MixedLMAR(
        data["distance"].to_numpy(),
        X,
        data["subject"].to_numpy(),
        offset=start().to_numpy(),
    ).fit()
    with pytest.raises(LengthError, match="offset= is missing"):
        bare.get_prediction(exog=new)


def test_refusals() -> None:
    fit, other = both()
    model = "distance ~ age", teeth()
    with pytest.raises(ResponseError, match="offset is not numeric"):
        mar.mixedlm(*model, groups="subject", offset="sex")
    with pytest.raises(UnknownColumnError, match="offset='stat'"):
        mar.mixedlm(*model, groups="subject", offset="stat")
    with pytest.raises(LengthError, match="offset= has 2 values"):
        mar.mixedlm(*model, groups="subject", offset=[1.0, 2.0])
    with pytest.raises(UnsupportedError, match="the model has no offset"):
        other.get_prediction(teeth(), offset="start")
    with pytest.raises(UnsupportedError, match="marginal means of a model with an"):
        fit.marginal_means("sex")
    with pytest.raises(UnsupportedError, match="ignores"):
        fit.model.fit(fe_pen=object())


def test_missing_offsets() -> None:
    data = teeth().assign(start=start().where(teeth()["occ"] > 1))
    with pytest.raises(MissingDataError, match="27 missing values in 'start'"):
        mar.mixedlm("distance ~ age", data, offset="start", **OPTIONS)
    with pytest.warns(UserWarning, match="27 rows"):
        model = mar.mixedlm(
            "distance ~ age", data, offset="start", missing="drop", **OPTIONS
        )
    assert model.nobs == 81


def test_pictures_and_reports() -> None:
    fit, _ = both()
    assert 'offset="start"' in unescape(fit.report(pictures=False))
    for draw in (fit.plot_trajectories, fit.plot_spaghetti, fit.plot_residuals):
        draw()
    assert len(fit.plot_forecast(teeth(), ["M01"]).axes) == 1
