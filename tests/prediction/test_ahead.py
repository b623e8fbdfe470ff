"""Forecasts of the next occasions are predictions of rows written out."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.api as ma
import mixedar.formula.api as mar
from mixedar.datasets import load_orthodont
from mixedar.exceptions import MissingDataError, TimeError, UnsupportedError

TEETH = load_orthodont()


@cache
def fit(formula: str = "distance ~ sex * occ", time: str | None = "occ") -> Any:
    effects = None if "occ" in formula else "0"
    model = mar.mixedlm(formula, TEETH, groups="subject", re_formula=effects, time=time)
    return model.fit()


def test_next_occasions_of_each_group() -> None:
    found = fit().forecast(2)
    last = TEETH.groupby("subject", sort=False).tail(1)
    rows = pd.concat([last.assign(occ=5), last.assign(occ=6)])
    expected = fit().get_prediction(rows, "forecast").summary_frame()
    rows = rows[["subject", "occ"]].reset_index(drop=True)
    expected.index = pd.MultiIndex.from_frame(rows)
    pd.testing.assert_frame_equal(
        pd.DataFrame(found.summary_frame()), expected.sort_index(), check_like=True
    )
    marginal = fit().forecast(level="population").predicted_mean
    assert len(set(np.round(marginal, 9))) == 2


@pytest.mark.parametrize("kind", ["date", "month", "period", "float"])
def test_times_go_on_in_their_step(kind: str) -> None:
    first = pd.Timestamp("2020-01-31")
    times = {
        "date": first + pd.to_timedelta(7 * TEETH["occ"], "D"),
        "month": [first + pd.offsets.MonthEnd(k) for k in TEETH["occ"]],
        "period": [pd.Period(first, "M") + k for k in TEETH["occ"]],
        "float": 0.5 * TEETH["occ"],
    }[kind]
    data = TEETH.assign(when=times)
    model = mar.mixedlm(
        "distance ~ sex", data, groups="subject", re_formula="0", time="when"
    )
    found = model.fit().forecast(2)
    ahead = found.summary_frame().index.get_level_values("when")
    wanted = {
        "date": [first + pd.Timedelta(days=35), first + pd.Timedelta(days=42)],
        "month": [pd.Timestamp("2020-06-30"), pd.Timestamp("2020-07-31")],
        "period": [pd.Period("2020-06", "M"), pd.Period("2020-07", "M")],
        "float": [2.5, 3.0],
    }[kind]
    assert list(ahead[:2]) == wanted
    plain = fit("distance ~ sex").forecast(2).predicted_mean
    assert_allclose(found.predicted_mean, plain, rtol=1e-5)


@pytest.mark.parametrize("kind", ["numbers", "periods", "months", "days"])
def test_the_common_step_of_uneven_times(kind: str) -> None:
    """The longest of which all gaps are multiples, shorter than the shortest gap."""
    steps = np.array([0, 2, 5, 7])[TEETH["occ"] - 1]
    first = pd.Timestamp("2020-01-15")
    made: dict[str, Any] = {
        "numbers": lambda k: 2 * k,
        "periods": lambda k: pd.Period("2020-01", "M") + 3 * k,
        "months": lambda k: first + pd.DateOffset(months=k),
        "days": lambda k: first + pd.Timedelta(days=10 * k),
    }
    data = TEETH.assign(when=[made[kind](int(k)) for k in steps])
    model = mar.mixedlm(
        "distance ~ sex", data, groups="subject", re_formula="0", time="when"
    )
    ahead = model.fit().forecast(2).summary_frame().index.get_level_values("when")
    assert list(ahead[:2]) == [made[kind](8), made[kind](9)]


def test_series_go_on_by_themselves() -> None:
    noise = np.random.default_rng(1).normal(size=len(TEETH))
    other = TEETH.assign(side="r", distance=TEETH["distance"] + noise)
    other = other[(other["subject"] != "F01") | (other["occ"] < 4)]
    data = pd.concat([TEETH.assign(side="l"), other], ignore_index=True)
    model = mar.mixedlm(
        "distance ~ side", data, groups="subject", time="occ", series="side"
    )
    index = model.fit().forecast().summary_frame().index
    assert index.names == ["subject", "series", "occ"]
    assert list(index[:3]) == [("F01", "l", 5), ("F01", "r", 4), ("F02", "l", 5)]


def test_what_is_not_known_ahead_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"\(age\); pass the rows"):
        fit("distance ~ age").forecast()
    with pytest.raises(TimeError, match="no column of times"):
        fit("distance ~ sex", None).forecast()
    uneven = TEETH.assign(when=TEETH["occ"] ** 1.5)
    words = {"groups": "subject", "re_formula": "0", "time": "when"}
    model = mar.mixedlm("distance ~ sex", uneven, residual="car1", **words)
    with pytest.raises(TimeError, match="no common step"):
        model.fit().forecast()
    for steps in (0, True, 1.5):
        with pytest.raises(UnsupportedError, match=r"steps=.* whole number"):
            fit().forecast(steps)
    exog = TEETH[["age"]].assign(one=1.0)
    arrays = ma.MixedLMAR(TEETH["distance"], exog, TEETH["subject"])
    with pytest.raises(UnsupportedError, match="from arrays"):
        arrays.fit().forecast()


def test_pictures_and_masks_of_other_packages() -> None:
    polars = pytest.importorskip("polars")
    last = TEETH.groupby("subject").tail(1).assign(occ=5).head(4)
    figure = fit().plot_forecast(polars.from_pandas(last))
    assert [ax.get_title() for ax in figure.axes[:4]] == last["subject"].tolist()
    gaps = polars.Series([None] + [True] * (len(TEETH) - 1))
    with pytest.raises(MissingDataError, match="subset="):
        mar.mixedlm("distance ~ age", TEETH, groups="subject", subset=gaps)
    model = mar.pooled("distance ~ age", TEETH, "subject", "occ")
    both = TEETH[["subject", "occ"]]
    expected = model.fit(cov_type="clustered", cluster=both).bse
    found = model.fit(cov_type="clustered", cluster=polars.from_pandas(both)).bse
    assert_allclose(found, expected)
