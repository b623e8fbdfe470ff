"""Times of panels: their unit, lags across gaps, and the names of index levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from mixedar.exceptions import GroupError, MissingDataError, TimeError
from mixedar.panel import FixedEffects, panel_tests


def biennial(n: int = 20, periods: int = 8) -> pd.DataFrame:
    """A survey every second year; `k` is the number of the wave."""
    rng = np.random.default_rng(8)
    k = np.tile(np.arange(periods), n)
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), periods), "k": k})
    frame["x"] = rng.normal(size=len(frame))
    e = rng.normal(size=(n, periods))
    for j in range(1, periods):
        e[:, j] += 0.6 * e[:, j - 1]
    frame["y"] = frame["x"] + e.ravel() + rng.normal(size=n)[frame["id"]]
    return frame


def kinds(frame: pd.DataFrame) -> dict[str, Any]:
    """The same waves as times of different kinds."""
    year = 1999 + 2 * frame["k"]
    text = year.astype(str)
    return {
        "integers": year,
        "small integers": year.sub(1999).mul(4).sub(64).astype("int8"),
        "floats": year / 10.0,
        "dates": pd.to_datetime(text),
        "yearly periods": pd.Series(pd.PeriodIndex(text, freq="Y")),
        "quarters": pd.Series(pd.PeriodIndex(text + "Q2", freq="Q")),
        "odd and even years": year + frame["id"] % 2,
        "year ends of their own": pd.to_datetime(
            text + np.where(frame["id"] % 2, "-12-31", "-06-30")
        ),
        "visits": pd.Categorical.from_codes(
            frame["k"], [f"v{j}" for j in range(frame["k"].max() + 1)], ordered=True
        ),
    }


@pytest.mark.parametrize("kind", list(kinds(biennial(2))))
@pytest.mark.parametrize(
    ("function", "options"),
    [
        ("first_difference", {}),
        ("fixed_effects_ar1", {}),
        ("random_effects_ar1", {}),
        ("fixed_effects", {"cov_type": "hac", "bandwidth": 2}),
    ],
)
def test_common_step_is_the_unit(
    kind: str, function: str, options: dict[str, Any]
) -> None:
    frame = biennial()
    estimate = getattr(mar, function)
    want = estimate("y ~ x", frame, "id", "k").fit(**options)
    for delta in (None, "auto"):
        model = estimate("y ~ x", frame.assign(t=kinds(frame)[kind]), "id", "t",
                         delta=delta)  # fmt: skip
        got = model.fit(**options)
        assert_allclose(got.params, want.params, rtol=1e-10)
        assert_allclose(got.bse, want.bse, rtol=1e-10)
        assert got.nobs == want.nobs
    if model.panel.time_unit:
        assert model.panel.time_unit in str(got.summary())


@pytest.mark.parametrize(
    ("kind", "delta", "unit"),
    [
        ("integers", 2, "step of 2"),
        ("integers", 2.0, "step of 2"),
        ("floats", 0.2, "step of 0.2"),
        ("yearly periods", 2, "24 months"),
        ("quarters", 8, "24 months"),
        ("quarters", "2 years", "24 months"),
        ("dates", "24 months", "24 months"),
        ("dates", pd.DateOffset(years=2), "24 months"),
        ("dates", np.timedelta64(2, "Y"), "24 months"),
        ("dates", "2YE", "24 months"),
        ("visits", 1, "1 level"),
    ],
)
def test_delta_of_every_kind(kind: str, delta: Any, unit: str) -> None:
    frame = biennial()
    # one entity more often: the common step is no longer two years
    times = frame.assign(t=kinds(frame)[kind])
    model = mar.first_difference("y ~ x", times, "id", "t", delta=delta)
    assert model.panel.time_unit == unit
    want = mar.first_difference("y ~ x", frame, "id", "k").fit()
    assert_allclose(model.fit().params, want.params, rtol=1e-12)


def test_delta_skips_what_is_not_a_step() -> None:
    frame = biennial()
    frame["t"] = 2000 + frame["k"]
    model = mar.first_difference("y ~ x", frame[frame["k"] % 2 == 0], "id", "t")
    assert model.fit().nobs == 20 * 3
    with pytest.raises(TimeError, match=r"delta=2: .* 1 apart.*delta='auto'"):
        mar.first_difference("y ~ x", frame, "id", "t", delta=2)


@pytest.mark.parametrize(
    ("kind", "delta", "match"),
    [
        ("integers", "2 years", "pass a number"),
        ("dates", 2, "6 months"),
        ("dates", "365 days", "6 months"),
        ("integers", 0, "no positive number"),
        ("integers", True, "no positive number"),
        ("integers", "often", "no positive number"),
        ("dates", "-2 days", "no positive number"),
    ],
)
def test_delta_that_does_not_suit(kind: str, delta: Any, match: str) -> None:
    frame = biennial(4)
    with pytest.raises(TimeError, match=match):
        mar.pooled("y ~ x", frame.assign(t=kinds(frame)[kind]), "id", "t", delta=delta)


def test_trading_days_are_counted_in_months() -> None:
    frame = biennial()
    days = pd.Series(pd.date_range("2020-01-31", periods=8, freq="BME")[frame["k"]])
    want = mar.fixed_effects_ar1("y ~ x", frame, "id", "k").fit()
    dated = frame.assign(t=days)
    for function in ("first_difference", "fixed_effects_ar1"):
        with pytest.raises(TimeError, match=r"\.dt\.to_period\('M'\)"):
            getattr(mar, function)("y ~ x", dated, "id", "t").fit()
    reasons = [test.reason for test in panel_tests(mar.pooled("y ~ x", dated, "id",
               "t").fit()) if np.isnan(test.statistic)]  # fmt: skip
    assert any("to_period" in str(reason) for reason in reasons)
    with pytest.raises(TimeError, match="no lag is counted"):
        mar.fixed_effects("y ~ x", dated, "id", "t").fit("hac")
    months = dated.assign(t=dated["t"].dt.to_period("M"))  # what the message says
    got = mar.fixed_effects_ar1("y ~ x", months, "id", "t").fit()
    assert_allclose(got.params, want.params, rtol=1e-12)


def test_delta_needs_times() -> None:
    with pytest.raises(TimeError, match="time="):
        mar.pooled("y ~ x", biennial(3), "id", delta=2)
    ragged = biennial(3).assign(t=lambda d: np.sqrt(d["k"] + 1.0))
    with pytest.raises(TimeError, match="grid"):
        mar.pooled("y ~ x", ragged, "id", "t", delta="auto")


# Lags are distances in time --------------------------------------------------


def spells(n: int = 24) -> pd.DataFrame:
    frame = biennial(n, 6)
    years = np.array([[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]])
    return frame.assign(t=2000 + years[frame["id"] % 2, frame["k"]])


def dense(scores: np.ndarray, entity: np.ndarray, t: np.ndarray, weight: Any) -> float:
    """Sum of products of scores of an entity, weighted by their distance in time."""
    same = entity[:, None] == entity
    return float(scores @ np.where(same, weight(np.abs(t[:, None] - t)), 0.0) @ scores)


def bartlett(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - distance / 3.0, 0.0)


def parzen(distance: np.ndarray) -> np.ndarray:
    z = np.minimum(distance / 3.0, 1.0)
    return np.where(z > 0.5, 2.0 * (1.0 - z) ** 3, 1.0 - 6.0 * z**2 + 6.0 * z**3)


def spectral(distance: np.ndarray) -> np.ndarray:
    z = 6.0 * np.pi * np.maximum(distance, 1e-9) / 10.0
    return np.where(distance, 3.0 / z**2 * (np.sin(z) / z - np.cos(z)), 1.0)


@pytest.mark.parametrize(
    ("kernel", "weight"),
    [("bartlett", bartlett), ("parzen", parzen), ("qs", spectral)],
)
def test_lags_are_distances_in_time(kernel: str, weight: Any) -> None:
    # Newey and West (1987), Econometrica 55, 703-708, of each entity
    frame = spells()
    mean = frame.groupby("id")[["x", "y"]].transform("mean")
    x, y = (frame[["x", "y"]] - mean).to_numpy().T
    scores = x * (y - x * (x @ y) / (x @ x))
    options: dict[str, Any] = {"kernel": kernel, "bandwidth": 2, "small_sample": None}
    model = mar.fixed_effects("y ~ 0 + x", frame.sample(frac=1.0, random_state=1),
                              "id", "t")  # fmt: skip
    time = frame["t"].to_numpy()
    want = dense(scores, frame["id"].to_numpy(), time, weight)
    assert_allclose(model.fit("hac", **options).bse, np.sqrt(want) / (x @ x))
    periods, rows = np.unique(time, return_inverse=True)
    sums = np.bincount(rows, scores)
    want = dense(sums, np.zeros(len(periods)), periods, weight)
    assert_allclose(model.fit("dk", **options).bse, np.sqrt(want) / (x @ x))


@pytest.mark.parametrize(
    "options",
    [
        {"cov_type": "driscoll-kraay"},
        {"cov_type": "hac"},
        {"cov_type": "clustered", "cluster": "time"},
        {"cov_type": "clustered", "cluster": "both"},
        {"cov_type": "clustered", "cluster": ("entity", "time")},
        {"cov_type": "clustered", "cluster": ["entity", "time"]},
    ],
)
def test_periods_need_times(options: dict[str, Any]) -> None:
    frame = biennial()
    for function in ("fixed_effects", "pooled", "random_effects"):
        with pytest.raises(TimeError, match="needs time="):
            getattr(mar, function)("y ~ x", frame, "id").fit(**options)
    if options.get("cluster") == "time":
        with pytest.raises(TimeError, match="needs time="):
            mar.pooled("y ~ x", frame, "id").fit().wild_bootstrap("x", cluster="time")
    # a column of that name is one like any other
    if options["cov_type"] == "clustered" and options["cluster"] != "both":
        named = frame.rename(columns={"k": "time"})
        got = mar.pooled("y ~ x", named, "id").fit(**options)
        want = mar.pooled("y ~ x", frame, "id", "k").fit(**options)
        assert_allclose(got.bse, want.bse)


@pytest.mark.parametrize(
    "function", ["first_difference", "fixed_effects_ar1", "random_effects_ar1"]
)
def test_row_order_is_said(function: str) -> None:
    frame = biennial()
    fit = getattr(mar, function)("y ~ x", frame, "id").fit()
    assert any("No time= was given" in note for note in fit.notes)
    assert "No time= was given" in str(panel_tests(fit)["Wooldridge-Drukker"].note)
    timed = getattr(mar, function)("y ~ x", frame, "id", "k").fit()
    assert not any("time=" in note for note in timed.notes)


# Levels of an index ----------------------------------------------------------


def test_levels_of_an_index_keep_their_names() -> None:
    frame = biennial().rename(columns={"id": "firm", "k": "year"})
    frame["w"] = frame["firm"] % 3
    indexed = frame.set_index(["firm", "year"])
    fit = mar.fixed_effects("y ~ x + w", indexed).fit()
    assert (fit.panel.entity_name, fit.panel.time_name) == ("firm", "year")
    assert "does not vary within firm" in fit.notes[0]
    assert "SD(firm)" in str(mar.compare([fit]))
    swapped = mar.fixed_effects("y ~ x", indexed.swaplevel(), entity="firm").fit()
    assert swapped.panel.time_name == "year"
    arrays = FixedEffects(indexed["y"], indexed[["x"]]).fit()
    assert arrays.panel.entity_name == "firm"
    assert_allclose(arrays.params, fit.params[["x"]])
    # a column of the same name does not make it another panel
    doubled = mar.fixed_effects("y ~ x", indexed.assign(firm=0)).fit()
    assert_allclose(doubled.params, fit.params.drop("w", errors="ignore"))
    assert doubled.panel.entity_name == "firm"


def test_messages_name_the_levels_of_an_index() -> None:
    frame = biennial().rename(columns={"id": "firm", "k": "year"}).astype(float)
    frame.loc[5, "firm"] = np.nan
    with pytest.raises(MissingDataError, match=r"'firm' \(row \(nan, 5.0\)\)"):
        mar.fixed_effects("y ~ x", frame.set_index(["firm", "year"]))
    nameless = frame.set_index(["firm", "year"]).rename_axis([None, None])
    with pytest.raises(MissingDataError, match="entity="):
        mar.fixed_effects("y ~ x", nameless)


def test_further_levels_are_refused() -> None:
    frame = biennial().rename(columns={"id": "firm", "k": "year"})
    three = frame.assign(region=frame["firm"] % 2)
    three = three.set_index(["region", "firm", "year"])
    for entity in (None, "firm"):
        with pytest.raises(GroupError, match=r"3 levels \(region, firm, year\)"):
            mar.fixed_effects("y ~ x", three, entity=entity)
    got = mar.fixed_effects("y ~ x", three, entity="firm", time="year").fit()
    want = mar.fixed_effects("y ~ x", frame, "firm", "year").fit()
    assert_allclose(got.params, want.params)
