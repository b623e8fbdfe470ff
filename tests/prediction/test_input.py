"""Errors of predictions name what is wrong and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.fitted_models import build, reference_frame, shared
from mixedar import MixedLMAR
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
    LengthError,
    MissingDataError,
    MixedARError,
    ResponseError,
    UnknownColumnError,
    UnsupportedError,
)

LEVELS = ("population", "group", "forecast")


@pytest.fixture
def new() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [1, 2, 2, 3],
            "t": [8, 8, 9, 1],
            "x": [0.5, 1.0, -1.0, 0.0],
            "arm": ["a", "b", "b", "a"],
        },
        index=["p", "q", "r", "s"],
    )


def test_unknown_groups(new: pd.DataFrame) -> None:
    fit = shared("slope")
    lost = new.assign(id=[1, 2, 77, 78])
    for level in LEVELS[1:]:
        with pytest.raises(GroupError, match=r"group 77 in row 'r'.*2 such groups"):
            fit.get_prediction(lost, level)
        found = fit.get_prediction(lost, level, unknown="population")
        expected = fit.get_prediction(lost)
        np.testing.assert_allclose(
            found.predicted_mean[2:], expected.predicted_mean[2:]
        )
        np.testing.assert_allclose(found.se_obs[2:], expected.se_obs[2:])
        assert (found.se_mean[2:] > expected.se_mean[2:]).all()
        assert "2 rows" in found.notes[0]
        # all unknown
        fit.get_prediction(lost.iloc[2:], level, unknown="population")
    fit.get_prediction(lost)
    with pytest.raises(GroupError, match="'1'"):
        fit.get_prediction(new.assign(id=list("1223")), "group")


def test_labels_of_other_types(new: pd.DataFrame) -> None:
    data = reference_frame().copy()
    expected = shared("slope").get_prediction(new, "forecast").summary_frame()
    changes: list[Any] = [
        lambda c: c.astype(float),
        lambda c: "g" + c.astype(str),
        lambda c: pd.Timestamp("2020-01-01") + pd.to_timedelta(c, "D"),
        lambda c: c.astype("category"),
        lambda c: ("g" + c.astype(str)).astype("category"),
    ]
    for change in changes:
        fit = build(data.assign(id=change(data["id"])), re_formula="~ x").fit()
        found = fit.get_prediction(new.assign(id=change(new["id"])), "forecast")
        pd.testing.assert_frame_equal(found.summary_frame(), expected, rtol=1e-6)
    # whole numbers as floats are the same labels
    found = shared("slope").get_prediction(new.assign(id=new["id"] * 1.0), "forecast")
    pd.testing.assert_frame_equal(found.summary_frame(), expected)


def test_columns(new: pd.DataFrame) -> None:
    fit = shared("slope")
    for name, level in (("x", "population"), ("id", "group"), ("t", "forecast")):
        with pytest.raises(UnknownColumnError, match=f"'{name}'"):
            fit.get_prediction(new.drop(columns=name), level)
    with pytest.raises(UnknownColumnError, match="'nobody'"):
        fit.get_prediction(new, "group", groups="nobody")
    with pytest.raises(UnsupportedError, match="'q'"):
        fit.get_prediction(new.assign(arm=["a", "q", "b", "a"]))
    with pytest.raises(LengthError, match="3 values"):
        fit.get_prediction(new, "group", groups=[1, 2, 3])
    with pytest.raises(MixedARError, match="numeric"):
        fit.get_prediction(new.assign(x=list("abcd")))
    with pytest.raises(MixedARError, match="DataFrame"):
        fit.get_prediction(np.ones((3, 3)))


def test_missing_values(new: pd.DataFrame) -> None:
    fit = shared("slope")
    for level in LEVELS:
        for bad in (np.nan, np.inf):
            with pytest.raises(MissingDataError, match=r"'x'.*row 'q' \(2 such rows\)"):
                fit.get_prediction(new.assign(x=[0.5, bad, bad, 1.0]), level)
    with pytest.raises(MissingDataError, match="'arm'"):
        fit.get_prediction(new.assign(arm=["a", None, "b", "a"]))
    with pytest.raises(MissingDataError, match="group is missing in row 'r'"):
        fit.get_prediction(new.assign(id=[1, 2, None, 3]), "group")
    logged = build(reference_frame().copy(), "y ~ np.exp(x) + arm").fit()
    with pytest.raises(MissingDataError, match=r"np\.exp\(x\)"):
        logged.get_prediction(new.assign(x=[1e5, 0.0, 0.0, 0.0]))


def test_empty_and_contradictory(new: pd.DataFrame) -> None:
    fit = shared("slope")
    for level in LEVELS:
        with pytest.raises(EmptyDataError, match="no rows"):
            fit.get_prediction(new.iloc[:0], level)
    for options, message in (
        ({"level": "individual"}, "level='individual'"),
        ({"unknown": "ignore"}, "unknown='ignore'"),
        ({"include_theta": "yes"}, "include_theta='yes'"),
        ({"include_theta": None}, "include_theta=None"),
        ({"exog": np.ones((2, 3))}, "not both"),
        ({"df": "magic"}, "magic"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            fit.get_prediction(new, **options)
    with pytest.raises(UnsupportedError, match="new rows"):
        fit.get_prediction(groups=new["id"])


def test_arrays(new: pd.DataFrame) -> None:
    fit = shared("slope")
    X = np.ones((4, 3))
    with pytest.raises(LengthError, match=r"exog_re= is missing.*2 random"):
        fit.get_prediction(exog=X)
    with pytest.raises(LengthError, match=r"shape \(4, 1\)"):
        fit.get_prediction(exog=X, exog_re=np.ones(4))
    with pytest.raises(LengthError, match=r"model has 3 \("):
        fit.get_prediction(exog=np.ones((4, 2)))
    with pytest.raises(MissingDataError, match=r"number 2 of exog_re.*row 3"):
        fit.get_prediction(exog=X, exog_re=[[1, 1], [1, 1], [1, 1], [1, np.nan]])
    with pytest.raises(ResponseError, match="exog is not numeric"):
        fit.get_prediction(exog=[["a", "b", "c"]])
    Z = X[:, :2]
    assert len(fit.get_prediction(exog=X, exog_re=Z)) == 4
    with pytest.raises(UnknownColumnError, match="id"):
        fit.get_prediction(exog=X, exog_re=Z, level="group")
    with pytest.raises(UnknownColumnError, match="t"):
        fit.get_prediction(exog=X, exog_re=Z, level="forecast", groups=new["id"])
    data = reference_frame()
    model = MixedLMAR(data["y"], data[["x"]], data["id"].to_numpy(), time=data["t"])
    arrays = model.fit()
    with pytest.raises(GroupError, match="groups= is missing"):
        arrays.get_prediction(new[["x"]], "group")
    with pytest.raises(LengthError, match="time= is missing"):
        arrays.get_prediction(new[["x"]], "forecast", groups=new["id"])
    found = arrays.get_prediction(new["x"], "forecast", groups=new["id"], time=new["t"])
    assert found.row_labels.equals(new.index)
