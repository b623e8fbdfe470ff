"""Forecasts at times of every kind, in series, and without times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    TimeError,
    UnknownColumnError,
    UnsupportedError,
)


def frame(times: tuple[int, ...] = (0, 1, 2, 4, 5, 8)) -> pd.DataFrame:
    """Whole times with gaps, 30 groups."""
    rng = np.random.default_rng(3)
    m, size = 30, max(times) + 1
    noise = rng.normal(size=(m, size))
    for k in range(1, size):
        noise[:, k] = 0.7 * noise[:, k - 1] + 0.7 * noise[:, k]
    data = pd.DataFrame({"id": np.repeat(np.arange(m), len(times))})
    data["t"] = np.tile(times, m)
    data["x"] = rng.normal(size=len(data))
    level = 2.0 * rng.normal(size=m)
    data["y"] = data["x"] + level[data["id"]] + noise[:, list(times)].ravel()
    return data


ASKED = pd.DataFrame({"id": [0, 0, 0, 7, 7], "t": [-2, 3, 9, 6, 4], "x": 0.5})


def forecast(data: pd.DataFrame, new: pd.DataFrame, **options: Any) -> pd.DataFrame:
    options = {"groups": "id", "time": "t", **options}
    fit = mar.mixedlm("y ~ x", data, **options).fit()
    return fit.get_prediction(new, "forecast").summary_frame()


WHOLE: dict[str, Any] = {
    "numbers from 1000": lambda t: t + 1000,
    "floats": lambda t: t.astype(float),
    "floats of halves": lambda t: 0.5 * t - 3.0,
    "decimals": lambda t: 0.1 * t + 0.3,
    "nullable": lambda t: t.astype("Int64"),
    "days": lambda t: pd.Timestamp("2020-02-26") + pd.to_timedelta(t, "D"),
    "fortnights": lambda t: pd.Timestamp("2020-02-26") + pd.to_timedelta(14 * t, "D"),
    "months": lambda t: pd.Series(
        [pd.Timestamp("2020-01-01") + pd.DateOffset(months=k) for k in t], t.index
    ),
    "month ends": lambda t: pd.Series(
        [pd.Timestamp("2020-01-31") + pd.offsets.MonthEnd(k) for k in t], t.index
    ),
    "days in a zone": lambda t: (
        pd.Timestamp("2020-03-25") + pd.to_timedelta(t, "D")
    ).dt.tz_localize("Europe/Berlin"),
    "hours in a zone": lambda t: (
        (pd.Timestamp("2020-03-28 22:00") + pd.to_timedelta(t, "h"))
        .dt.tz_localize("UTC")
        .dt.tz_convert("Europe/Berlin")
    ),
    "quarters": lambda t: pd.Series(
        [pd.Period("2020Q1", "Q") + int(k) for k in t], t.index
    ),
    "time deltas": lambda t: pd.to_timedelta(t, "h"),
    "python dates": lambda t: pd.Series(
        [(pd.Timestamp("2020-01-30") + pd.Timedelta(days=k)).date() for k in t],
        t.index,
        dtype=object,
    ),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("residual", ["ar1", "car1"])
def test_kinds_of_time(kind: str, residual: str) -> None:
    data, change = frame(), WHOLE[kind]
    expected = forecast(data, ASKED, residual=residual)
    other = data.assign(t=change(data["t"]))
    found = forecast(other, ASKED.assign(t=change(ASKED["t"])), residual=residual)
    # months are no equal steps for CAR(1), which counts days
    unequal = residual == "car1" and "month" in kind
    np.testing.assert_allclose(
        found, expected, rtol=1e-5, atol=0.1 if unequal else 1e-6
    )


def test_categories_of_times() -> None:
    data = frame()
    other = data.assign(t=data["t"].astype("category"))
    asked = ASKED.assign(t=ASKED["t"].astype("category"))
    asked["id"] = asked["id"].astype("category")
    pd.testing.assert_frame_equal(forecast(other, asked), forecast(data, ASKED))


def test_real_times_between_whole_ones() -> None:
    data = frame()
    asked = ASKED.assign(t=[-0.25, 2.75, 8.125, 4.5, 4.0])
    found = forecast(data, asked, residual="car1")
    expected = forecast(
        data.assign(t=8.0 * data["t"] + 1),
        asked.assign(t=8.0 * asked["t"] + 1),
        residual="car1",
    )
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6)
    stamps = pd.Timestamp("2020-03-28", tz="Europe/Berlin")
    zoned = data.assign(t=(stamps + pd.to_timedelta(24 * data["t"], "h")))
    # noon of another day, across the change of clocks
    later = asked.assign(t=stamps + pd.to_timedelta(24 * asked["t"], "h"))
    assert np.isfinite(forecast(zoned, later, residual="car1").to_numpy()).all()


def test_backwards_is_forwards() -> None:
    # the correlation is that of a reversed series
    data = frame()
    found = forecast(data, ASKED)
    mirrored = forecast(data.assign(t=-data["t"]), ASKED.assign(t=-ASKED["t"]))
    pd.testing.assert_frame_equal(found, mirrored, rtol=1e-6)


OFF: dict[str, tuple[Any, Any, str]] = {
    "half": (lambda t: t, [1, 2.5, 3, 4, 5], "2.5 in row 1"),
    "decimal": (lambda t: 0.5 * t, [1.0, 2.5, 3.25, 4, 5], "3.25 in row 2"),
    "day in months": (
        WHOLE["months"],
        pd.to_datetime(["2020-01-01", "2020-02-01", "2020-03-15", *["2020-04-01"] * 2]),
        "2020-03-15",
    ),
    "hour in days": (
        WHOLE["days"],
        pd.to_datetime(
            ["2020-02-26 00:00", "2020-02-27 06:00", *["2020-02-28 00:00"] * 3]
        ),
        "06:00",
    ),
    "other periods": (
        WHOLE["quarters"],
        pd.period_range("2020-01", periods=5, freq="M"),
        "2020-01",
    ),
    "number for date": (WHOLE["days"], [1, 2, 3, 4, 5], "1"),
    "date for number": (lambda t: t, pd.date_range("2020-01-01", periods=5), "2020"),
    "text": (WHOLE["days"], ["2020-02-27"] * 5, "'2020-02-27'"),
    "no zone": (
        WHOLE["days in a zone"],
        pd.date_range("2020-03-25", periods=5),
        "zone",
    ),
    "zone": (
        WHOLE["days"],
        pd.date_range("2020-03-25", periods=5, tz="UTC"),
        "zone",
    ),
}


@pytest.mark.parametrize("kind", OFF)
def test_times_that_do_not_fit(kind: str) -> None:
    change, times, message = OFF[kind]
    data = frame()
    with pytest.raises(TimeError, match=message):
        forecast(data.assign(t=change(data["t"])), ASKED.assign(t=times))


def test_times_that_are_missing() -> None:
    data = frame()
    for bad in (np.nan, np.inf, None):
        with pytest.raises(MissingDataError, match="row 2"):
            forecast(data, ASKED.assign(t=[1.0, 2.0, bad, 4.0, 5.0]), residual="car1")
    with pytest.raises(UnknownColumnError, match="'t'"):
        forecast(data, ASKED.drop(columns="t"))
    # levels that do not look at times need none
    fit = mar.mixedlm("y ~ x", data, groups="id", time="t").fit()
    fit.get_prediction(ASKED.drop(columns="t"), "group")
    fit = mar.mixedlm("y ~ x", data, groups="id", residual="independent").fit()
    fit.get_prediction(ASKED.drop(columns="t"), "forecast")
    fit = mar.mixedlm("y ~ x", data, groups="id", time=data["t"].to_numpy()).fit()
    with pytest.raises(LengthError, match="time="):
        fit.get_prediction(ASKED, "forecast")
    assert len(fit.get_prediction(ASKED, "forecast", time="t")) == 5


def test_without_times_rows_continue() -> None:
    data = frame((0, 1, 2, 3, 4))
    timed = mar.mixedlm("y ~ x", data, groups="id", time="t").fit()
    # group by group in the order of rows, other groups between them
    mixed = data.sort_values(["t", "id"], ignore_index=True)
    counted = mar.mixedlm("y ~ x", mixed, groups="id", residual="ar1").fit()
    new = pd.DataFrame({"id": [4, 9, 4, 4], "x": [0.0, 1.0, 2.0, 3.0]})
    expected = timed.get_prediction(new.assign(t=[5, 5, 6, 7]), "forecast")
    found = counted.get_prediction(new, "forecast")
    pd.testing.assert_frame_equal(
        found.summary_frame(), expected.summary_frame(), rtol=1e-6
    )
    at = [2, 5, 8, 0]
    expected = timed.get_prediction(new.assign(t=at), "forecast")
    found = counted.get_prediction(new, "forecast", time=at)
    pd.testing.assert_frame_equal(
        found.summary_frame(), expected.summary_frame(), rtol=1e-6
    )
    own = counted.get_prediction(level="forecast")
    np.testing.assert_allclose(own.predicted_mean, mixed["y"])
    with pytest.raises(UnsupportedError, match=r"1\.5"):
        counted.get_prediction(new, "forecast", time=[0, 1, 1.5, 2])


def test_series_inside_groups() -> None:
    data = frame()
    data["side"] = np.where(data["id"] % 2 == 0, "left", "right")
    data["eye"] = data["id"] % 3
    data["person"] = data["id"] // 6
    data["y"] += 5.0 * data["person"]
    new = ASKED.iloc[:3].assign(side="left", eye=[0, 0, 1], person=0)
    options = {"groups": "person", "time": "t"}
    several = mar.mixedlm("y ~ x", data, series=["side", "eye"], **options).fit()
    one = mar.mixedlm("y ~ x", data, series="id", **options).fit()
    # 0 is left and 0, 4 is left and 1
    expected = one.get_prediction(new.assign(id=[0, 0, 4]), "forecast").summary_frame()
    found = several.get_prediction(new, "forecast").summary_frame()
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6)
    named = several.get_prediction(
        new.drop(columns=["side", "eye"]),
        "forecast",
        series=["left / 0", "left / 0", "left / 1"],
    )
    pd.testing.assert_frame_equal(named.summary_frame(), expected, rtol=1e-6)
    # of a series that was not observed its group is known, no residual
    other = one.get_prediction(new.assign(id=[0, 0, 1000]), "forecast")
    group = one.get_prediction(new.assign(id=0), "group")
    assert other.predicted_mean[2] == pytest.approx(group.predicted_mean[2])
    assert other.se_obs[2] == pytest.approx(group.se_obs[2])
    with pytest.raises(UnknownColumnError, match="'id'"):
        one.get_prediction(new.drop(columns="id"), "forecast")
    with pytest.raises(MissingDataError, match="series"):
        one.get_prediction(new.assign(id=[0.0, np.nan, 1.0]), "forecast")


def test_occasions_that_no_group_has_both_of() -> None:
    """Their correlation is not estimated: no forecast of one from the other."""
    rng = np.random.default_rng(15)
    data = pd.DataFrame(
        [(f"p{i}", f"V{k}") for i in range(40) for k in range(4)],
        columns=["sub", "visit"],
    )
    odd = np.arange(160) // 4 % 2 == 1
    data["y"] = np.repeat(rng.normal(size=40), 4) + rng.normal(size=160)
    data = data[(data["visit"] != np.where(odd, "V3", "V0"))]
    arguments = {"groups": "sub", "time": "visit", "re_formula": "0"}
    fit = mar.mixedlm("y ~ 1", data, residual="un", **arguments).fit()
    new = pd.DataFrame({"sub": ["p0", "p1"], "visit": ["V3", "V3"]}, index=["a", "b"])
    with pytest.raises(TimeError, match=r"row 'b' .* 'rho\(V0, V3\)'"):
        fit.get_prediction(new, "forecast")
    # of p0 it is known, and of p1 without the occasion in question
    assert fit.get_prediction(new[:1], "forecast").se_obs[0] < 1e-6
    assert np.isfinite(fit.get_prediction(new, "group").se_obs).all()
    chain = mar.mixedlm("y ~ 1", data, residual="adh", **arguments).fit()
    assert np.isfinite(chain.get_prediction(new, "forecast").se_obs).all()
