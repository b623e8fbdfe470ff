"""Predictions with variance components: levels known, new, and of other types."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.regression.mixed_linear_model import VCSpec

import mixedar.formula.api as mar
from helpers.fitted_models import reference_frame, shared
from mixedar import MixedLMAR
from mixedar.exceptions import (
    BoundaryWarning,
    LengthError,
    MissingDataError,
    MixedARError,
    UnknownColumnError,
    UnsupportedError,
)

NEW = pd.DataFrame(
    {
        "id": [0, 0, 5, 5, 99],
        "t": [1, 9, 3, 6, 2],
        "day": [0, 2, 0, 1, 0],
        "x": [0.5, 1.0, -1.0, 0.0, 2.0],
        "arm": ["b", "b", "a", "a", "b"],
    }
)


@pytest.fixture
def data() -> pd.DataFrame:
    return reference_frame().copy()


def fitted(data: pd.DataFrame, vc: dict[str, str], **options: Any) -> Any:
    options = {"groups": "id", "time": "t", "re_formula": "1", **options}
    return mar.mixedlm("y ~ x + arm", data, vc_formula=vc, **options).fit()


def table(fit: Any, new: pd.DataFrame, level: str = "group") -> pd.DataFrame:
    return fit.get_prediction(new, level, unknown="population").summary_frame()


def test_effects_of_levels_are_those_of_the_fit() -> None:
    fit = shared("both")
    frame = table(fit, NEW)
    beta = fit.fe_params
    for k, names in enumerate([["C(day)[0]"], [], ["C(day)[0]"], ["C(day)[1]"]]):
        row = NEW.iloc[k]
        effects = fit.random_effects[row["id"]]
        expected = beta["Intercept"] + beta["x"] * row["x"] + effects["id"]
        expected += beta["arm[T.b]"] * (row["arm"] == "b")
        expected += sum(effects[f"day[{name}]"] for name in names)
        assert frame["mean"].iloc[k] == pytest.approx(expected)
    # a level that the group did not have is worth its whole variance
    new_level = fit.get_prediction(NEW, "group", unknown="population").var_pred_mean
    assert new_level[1] > fit.vcomp.item()


@pytest.mark.parametrize("level", ["group", "forecast", "population"])
def test_types_of_levels(level: str, data: pd.DataFrame) -> None:
    expected = table(shared("both"), NEW, level)
    changes: dict[str, Any] = {
        "floats": lambda c: c.astype(float),
        "text": lambda c: "d" + c.astype(str),
        "categories": lambda c: c.astype("category"),
    }
    for change in changes.values():
        fit = fitted(data.assign(day=change(data["day"])), {"day": "0 + C(day)"})
        found = table(fit, NEW.assign(day=change(NEW["day"])), level)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-6)
    # whole numbers that arrive as floats are the same levels
    found = table(shared("both"), NEW.assign(day=NEW["day"].astype(float)), level)
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("level", ["group", "forecast"])
def test_formulas_evaluated_group_by_group(level: str, data: pd.DataFrame) -> None:
    # an interaction of levels is one factor
    data["half"] = np.where(data["t"] % 2 == 0, "even", "odd")
    new = NEW.assign(half=["odd", "odd", "even", "even", "even"])
    for frame in (data, new):
        frame["cell"] = frame["day"].astype(str) + frame["half"]
    several = fitted(data, {"v": "0 + C(day):C(half)"})
    one = fitted(data, {"v": "0 + C(cell)"})
    for each in (level, "population"):
        found, expected = (
            fit.get_prediction(new, each, unknown="population")
            for fit in (several, one)
        )
        np.testing.assert_allclose(
            found.predicted_mean, expected.predicted_mean, rtol=1e-6
        )
        np.testing.assert_allclose(found.se_mean, expected.se_mean, rtol=1e-6)
        np.testing.assert_allclose(found.se_obs, expected.se_obs, rtol=1e-6)


def test_numeric_components_are_uncorrelated_slopes(data: pd.DataFrame) -> None:
    component = fitted(data, {"slope": "0 + x"})
    diagonal = shared("diagonal")
    for level in ("population", "group", "forecast"):
        pd.testing.assert_frame_equal(
            table(component, NEW, level), table(diagonal, NEW, level), rtol=1e-5
        )
    scaled = fitted(data, {"slope": "0 + np.tanh(x)"})
    named = fitted(data.assign(z=np.tanh(data["x"])), {"slope": "0 + z"})
    new = NEW.assign(z=np.tanh(NEW["x"]))
    pd.testing.assert_frame_equal(table(scaled, new), table(named, new), rtol=1e-6)


def test_several_components(data: pd.DataFrame) -> None:
    both = {"day": "0 + C(day)", "slope": "0 + x"}
    fit = fitted(data, both, re_formula=None)
    frame = table(fit, NEW)
    effects = fit.random_effects[5]
    expected = fit.predict(NEW.iloc[[2]]).iloc[0]
    expected += effects["day[C(day)[0]]"] - effects["slope[x]"]
    assert frame["mean"].iloc[2] == pytest.approx(expected)
    own = fit.get_prediction(level="group")
    np.testing.assert_allclose(own.predicted_mean, fit.fittedvalues)
    again = fit.get_prediction(data, "group")
    np.testing.assert_allclose(again.predicted_mean, fit.fittedvalues)
    np.testing.assert_allclose(again.se_mean, own.se_mean)
    # of the population an observation has the variance of every component
    x = NEW["x"].to_numpy()
    rest = fit.get_prediction(NEW).var_resid
    variances = dict(zip(fit.model.exog_vc.names, fit.vcomp, strict=True))
    np.testing.assert_allclose(
        rest, fit.scale + variances["day"] + variances["slope"] * x**2
    )


def test_components_from_arrays(data: pd.DataFrame) -> None:
    fit = shared("both")
    X = np.column_stack([np.ones(len(data)), data["arm"] == "b", data["x"]])
    spec = fit.model.exog_vc
    arrays = MixedLMAR(
        data["y"],
        X,
        data["id"],
        exog_re=np.ones((len(data), 1)),
        exog_vc=VCSpec(list(spec.names), list(spec.colnames), list(spec.mats)),
        time=data["t"],
    ).fit()
    X_new = np.column_stack([np.ones(5), NEW["arm"] == "b", NEW["x"]])
    columns = (NEW["day"].to_numpy()[:, None] == [0, 1]).astype(float)
    columns[4] = [1.0, 0.0]
    known = [0, 2, 3, 4]
    options = {"groups": NEW["id"].iloc[known].to_numpy(), "unknown": "population"}
    found = arrays.get_prediction(
        X_new[known], "group", exog_vc={"day": columns[known]}, **options
    )
    expected = table(fit, NEW.iloc[known])
    np.testing.assert_allclose(found.predicted_mean, expected["mean"], rtol=1e-6)
    np.testing.assert_allclose(found.se_mean, expected["mean_se"], rtol=1e-6)
    population = arrays.get_prediction(X_new)
    np.testing.assert_allclose(
        population.se_obs, fit.get_prediction(NEW).se_obs, rtol=1e-6
    )
    with pytest.raises(LengthError, match="'day'"):
        arrays.get_prediction(X_new[known], "group", **options)
    with pytest.raises(LengthError, match="shape"):
        arrays.get_prediction(
            X_new[known], "group", exog_vc={"day": np.ones((4, 7))}, **options
        )


def test_columns_of_components_are_checked(data: pd.DataFrame) -> None:
    fit = shared("both")
    with pytest.raises(UnknownColumnError, match="'day'"):
        fit.get_prediction(NEW.iloc[:4].drop(columns="day"), "group")
    # of the population a level is any level
    fit.get_prediction(NEW.drop(columns="day"))
    with pytest.raises(MissingDataError, match="'day'"):
        fit.get_prediction(NEW.iloc[:4].assign(day=[0, np.nan, 1, 1]), "group")
    with pytest.raises(MixedARError, match="'day'"):
        fit.get_prediction(NEW.iloc[:4].assign(day=list("abcd")), "group")
    text = fitted(data.assign(day="d" + data["day"].astype(str)), {"day": "0 + C(day)"})
    with pytest.raises(UnsupportedError, match="'day'"):
        text.get_prediction(NEW.iloc[:4], "group")


def test_codings_that_depend_on_the_rows_are_refused(data: pd.DataFrame) -> None:
    # levels less the first: a row of an earlier level changes the columns
    late = data[(data["t"] > 1) | (data["id"] > 3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = fitted(late, {"v": "C(t % 4 + 10 * (t > 3), Sum)"})
    new = NEW.iloc[:1].assign(id=1, t=0)
    with pytest.raises(UnsupportedError, match="other columns"):
        fit.get_prediction(new, "group")
