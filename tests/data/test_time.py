"""Times of any kind as numbers, and what mixed models make of them."""

from __future__ import annotations

import warnings
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.api as ma
import mixedar.formula.api as mar
from mixedar.data.occasions import occasions_of
from mixedar.data.time import natural_order, time_axis
from mixedar.data.variables import picture_rows
from mixedar.exceptions import (
    BoundaryWarning,
    MixedARError,
    ResponseError,
    StructureError,
    TimeError,
)

WEEKS = ["baseline", "week 2", "week 4", "week 8", "week 12"]


def trial(n: int = 40, seed: int = 20) -> pd.DataFrame:
    """Visits whose neighbours are correlated; `k` is the number of the visit."""
    rng = np.random.default_rng(seed)
    m = len(WEEKS)
    e = rng.normal(size=(n, m))
    for j in range(1, m):
        e[:, j] = 0.8 * e[:, j - 1] + 0.6 * e[:, j]
    k = np.tile(np.arange(m), n)
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), m), "k": k})
    frame["x"] = rng.normal(size=n * m)
    frame["y"] = e.ravel() + 0.5 * frame["x"]
    frame["visit"] = np.array(WEEKS)[k]
    frame["levels"] = pd.Categorical(frame["visit"], WEEKS, ordered=True)
    return frame


def fitted(frame: pd.DataFrame, time: Any, residual: Any, **options: Any) -> Any:
    model = mar.mixedlm("y ~ x", frame, groups="id", time=time, re_formula="0",
                        residual=residual, **options)  # fmt: skip
    return model.fit()


# Text and levels ---------------------------------------------------------------


@pytest.mark.parametrize(
    "texts",
    [
        WEEKS,
        ["2", "10", "100"],
        ["day -7", "day 0", "day 1.5", "day 14"],
        ["v", "v2", "v10", "v10b"],
        ["Visit 1", "visit 2", "Visit 11"],
    ],
)
def test_natural_order(texts: list[str]) -> None:
    for given in list(permutations(texts))[:24]:
        assert natural_order(given) == texts


def test_order_of_occasions() -> None:
    text = pd.Series(WEEKS[::-1])
    automatic = text.astype("category")
    for column in (text, automatic, automatic.astype(str)):
        codes, values, how = occasions_of(column, "visit")
        assert values.tolist() == WEEKS
        assert codes.tolist() == [4, 3, 2, 1, 0]
        assert "natural order" in how
    mixed = ["week 8", "baseline", "week 12", "week 2", "week 4"]
    for ordered in (False, True):
        codes, values, how = occasions_of(
            pd.Series(pd.Categorical(text, mixed, ordered=ordered)), "visit"
        )
        assert values.tolist() == mixed
        assert "categorical" in how
    assert occasions_of(pd.Series([3, 1, 2]), "t")[2] == ""


@pytest.mark.parametrize("residual", ["ad", "adh", "un"])
def test_text_visits_are_in_natural_order(residual: str) -> None:
    frame = trial()
    want = fitted(frame, "k", residual)
    shuffled = frame.sample(frac=1.0, random_state=3)
    for data in (frame, shuffled):
        got = fitted(data, "visit", residual)
        assert_allclose(got.llf, want.llf, rtol=1e-8)
        assert got.residual_params.index[0] == "rho(baseline, week 2)"
        text = " ".join(str(got.summary()).split())
        assert "'baseline', 'week 2', 'week 4', 'week 8', 'week 12' (natural" in text
    assert "order of 'k'" not in str(want.summary())


def test_levels_order_the_visits() -> None:
    frame = trial()
    frame["turned"] = pd.Categorical(frame["visit"], WEEKS[::-1], ordered=True)
    got = fitted(frame, "turned", "ad")
    assert_allclose(got.llf, fitted(frame, "k", "ad").llf, rtol=1e-8)
    assert got.residual_params.index[0] == "rho(week 12, week 8)"
    assert "order of the categorical" in " ".join(str(got.summary()).split())


@pytest.mark.parametrize("residual", ["ar1", "ar1h", "toep", "car1", "exp"])
def test_levels_are_equally_spaced(residual: str) -> None:
    frame = trial()
    # nobody has the third visit: it still lies between its neighbours
    frame = frame[(frame["k"] != 2) & (np.arange(len(frame)) % 7 != 0)]
    got = fitted(frame, "levels", residual)
    assert_allclose(got.llf, fitted(frame, "k", residual).llf, rtol=1e-8)
    assert "1 level" in str(got.summary())


def test_numbers_as_levels_count_as_levels_where_spacing_is_equal() -> None:
    frame = trial()
    frame["week"] = pd.Categorical(frame["k"] ** 2, ordered=True)
    frame["square"] = frame["k"] ** 2
    want = fitted(frame, "k", "ar1").llf
    assert_allclose(fitted(frame, "week", "ar1").llf, want, rtol=1e-8)
    want = fitted(frame, "square", "car1").llf
    assert_allclose(fitted(frame, "week", "car1").llf, want, rtol=1e-8)


def test_levels_of_new_rows() -> None:
    frame = trial()
    seen = frame[frame["k"] < 4]
    by_level, by_number = (fitted(seen, t, "ar1") for t in ("levels", "k"))
    new = frame[frame["k"] == 4]
    want = by_number.get_prediction(new, level="forecast")
    for column in (new["levels"], new["visit"]):
        got = by_level.get_prediction(new.assign(levels=column), level="forecast")
        assert_allclose(got.predicted_mean, want.predicted_mean, rtol=1e-8)
    with pytest.raises(TimeError, match=r"'week 99'.*none of the levels"):
        by_level.get_prediction(new.assign(levels="week 99"), level="forecast")


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        (WEEKS, "pandas.Categorical(data['t'], ['baseline', 'week 2', 'week 4', "
                "'week 8', 'week 12'], ordered=True)"),
        (["1", "2", "10", "11", "12"], "pandas.to_numeric"),
        (["2020-01-0" + str(j) for j in range(1, 6)], "pandas.to_datetime"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [object, "category", "string"])
def test_remedies_for_text_work(values: list[str], remedy: str, dtype: Any) -> None:
    data = trial(6)
    data["t"] = pd.Series(np.array(values)[data["k"]], dtype=dtype)
    with pytest.raises(TimeError) as caught:
        fitted(data, "t", "ar1")
    assert remedy in str(caught.value)
    if remedy.startswith("pandas.Categorical"):
        data["t"] = pd.Categorical(data["t"], values, ordered=True)
    else:
        data["t"] = getattr(pd, remedy.removeprefix("pandas."))(data["t"])
    assert fitted(data, "t", "ar1").converged


# Integers ------------------------------------------------------------------------

NARROW = ["int8", "int16", "int32", "uint8", "uint64", "Int8", "Int16", "int8[pyarrow]"]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("structure", [ma.AR1(), ma.CAR1(), ma.Toeplitz()])
def test_narrow_integers_do_not_wrap(dtype: str, structure: Any) -> None:
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    low = 0 if dtype.startswith("u") else -100
    values = np.array([low, low + 1, 20, 99, 100])
    axis = time_axis(pd.Series(values).astype(dtype), structure)
    assert axis.values.tolist() == (values - low).tolist()


def test_counters_keep_their_digits() -> None:
    for base in (2**62, -(2**62), 2**63 + 2**40):
        dtype = np.uint64 if base > 2**62 else np.int64
        values = np.array([base, base + 1, base + 3], dtype=dtype)
        assert time_axis(values, ma.AR1()).values.tolist() == [0.0, 1.0, 3.0]
    far = time_axis(np.array([-(2**63), 2**63 - 1], dtype=np.int64), ma.CAR1())
    assert_allclose(far.values, [0.0, 2.0**64])


def fixed_part(formula: str, frame: pd.DataFrame) -> Any:
    model = mar.mixedlm(formula, frame, groups="id", re_formula="0")
    return model.fit()


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint8", "Int8"])
def test_arithmetic_in_formulas_does_not_wrap(dtype: str) -> None:
    frame = trial(12)
    frame["n"] = 20 * frame["k"] + 30
    formula = "y ~ n + I(n ** 2) + I(n - 110) : x"
    want = fixed_part(formula, frame)
    narrow = frame.assign(n=frame["n"].astype(dtype))
    got = fixed_part(formula, narrow)
    assert_allclose(got.fe_params, want.fe_params)
    assert_allclose(got.predict(narrow), want.predict(frame))


# Dates in formulas ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (lambda d: d, lambda d: (d - d.min()).dt.days),
        (lambda d: d.dt.tz_localize("Europe/Rome"), lambda d: (d - d.min()).dt.days),
        (lambda d: d.dt.date, lambda d: (pd.to_datetime(d)).dt.day_of_year),
        (lambda d: d - d.min(), lambda d: d / pd.Timedelta("1 day")),
        (lambda d: d.dt.to_period("M"), lambda d: d.astype("int64")),
    ],
)
@pytest.mark.parametrize("formula", ["y ~ date", "y ~ x * date", "y ~ 0 + x:date"])
def test_dates_in_formulas_are_refused(make: Any, number: Any, formula: str) -> None:
    frame = trial(12)
    day = pd.Timestamp("2020-01-01") + pd.to_timedelta(31 * frame["k"], unit="D")
    frame["date"] = make(day)
    with pytest.raises(MixedARError, match=r"'.*date.*' in the formula .* C\("):
        mar.mixedlm(formula, frame, groups="id")
    with pytest.raises(MixedARError, match="coefficient for each of its values"):
        mar.fixed_effects(formula, frame, "id")
    with pytest.raises(MixedARError, match="make a number of it"):
        mar.mixedlm("y ~ x", frame, groups="id", re_formula=formula[3:])
    frame["date"] = number(frame["date"])  # what the message says
    assert fixed_part(formula, frame).converged


def test_dates_as_factors_are_asked_for() -> None:
    frame = trial(12)
    frame["date"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(frame["k"], unit="D")
    got = fixed_part("y ~ C(date)", frame)
    assert_allclose(got.llf, fixed_part("y ~ C(k)", frame).llf)
    for term in ("date.dt.day", "I(date.dt.day ** 2)"):
        assert len(fixed_part(f"y ~ {term}", frame).fe_params) == 2
    for derived in ("I(date)", "pd.to_datetime(k)"):
        with pytest.raises(MixedARError, match="is a date or duration"):
            fixed_part(f"y ~ {derived}", frame)
    with pytest.raises(MixedARError, match=r"= \(data\['date'\] - data\['date'\]\.min"):
        fixed_part("y ~ Q('date')", frame)
    with pytest.raises(ResponseError, match=r"data\['date'\]\.min\(\)\)\.dt\.days"):
        fixed_part("date ~ x", frame)
    with pytest.raises(MixedARError, match=r"C\(date\)"):
        mar.mixedlm("y ~ x", frame, groups="id", vc_formula={"day": "0 + date"})


# The unit of time ----------------------------------------------------------------


def alternating(step: int = 2, n: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    e = rng.normal(size=(n, 6))
    for j in range(1, 6):
        e[:, j] += -0.7 * e[:, j - 1]
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), 6)})
    frame["k"] = np.tile(np.arange(6), n)
    frame["t"] = step * frame["k"]
    frame["x"] = rng.normal(size=6 * n)
    return frame.assign(y=e.ravel() + frame["x"])


def test_step_is_the_unit_of_negative_correlations() -> None:
    frame = alternating()
    want = fitted(frame, "k", "ar1")
    assert want.residual_params["rho"] < -0.5
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(frame["t"], unit="D")
    odd = frame["t"] + frame["id"] % 2
    for times, delta in (
        (frame["t"], 2),
        (frame["t"], "auto"),
        (odd, "auto"),
        (frame["t"] / 8, 0.25),
        (days, "2 days"),
        (days, pd.Timedelta("2D")),
        (days + 6 * (days - days.min()), "2 weeks"),
        (days, "auto"),
        (days + pd.to_timedelta(frame["id"] % 2, unit="D"), "auto"),
    ):
        for residual in ("ar1", ma.ARMA(1, 0)):
            got = fitted(frame.assign(t=times), "t", residual, delta=delta)
            assert_allclose(got.llf, want.llf, rtol=1e-7)
        assert got.model.with_residual("ar1").fit().llf == pytest.approx(want.llf)
        assert "Time unit" in str(got.summary())
        note = "negative correlation across"
        assert note not in str(got.summary())


def test_summary_says_that_a_negative_correlation_is_more_likely() -> None:
    with pytest.warns(BoundaryWarning, match="end of their range"):
        got = fitted(alternating(), "t", "ar1")
    assert got.model.time_unit == "1"
    assert got.rho >= 0.0  # per unit of time, as in nlme
    want = fitted(alternating(), "t", "ar1", delta="auto")
    text = " ".join(str(got.summary()).split())
    assert f"higher log-likelihood, {want.llf:.4f}" in text
    assert "delta='auto'" in text
    # an odd number of units carries the sign
    three = alternating(step=3)
    per_unit = fitted(three, "t", "ar1")
    assert_allclose(per_unit.llf, want.llf, rtol=1e-7)
    assert_allclose(per_unit.rho**3, want.rho, rtol=1e-3)
    assert "delta=" not in str(per_unit.summary())


def test_summary_says_it_of_moving_averages_too() -> None:
    frame = alternating()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        per_unit = fitted(frame, "t", "arma11")
        want = fitted(frame, "t", "arma11", delta="auto")
    text = " ".join(str(per_unit.summary()).split())
    assert "common step of the times is 2. Correlations of its" in text
    assert f"higher log-likelihood, {want.llf:.4f}" in text
    assert "delta='auto'" not in str(want.summary())


@pytest.mark.parametrize("kind", ["integers", "dates"])
def test_predictions_count_in_the_unit(kind: str) -> None:
    frame = alternating()
    if kind == "dates":
        frame["t"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(frame["t"], unit="D")
    odd = frame["id"] % 2
    shift = pd.to_timedelta(odd, unit="D") if kind == "dates" else odd
    frame["t"] = frame["t"] + shift
    seen = frame[frame["k"] < 5]
    want = fitted(seen, "k", "ar1").get_prediction(frame[frame["k"] == 5],
                                                   level="forecast")  # fmt: skip
    fit = fitted(seen, "t", "ar1", delta="auto")
    got = fit.get_prediction(frame[frame["k"] == 5], level="forecast")
    assert_allclose(got.predicted_mean, want.predicted_mean, rtol=1e-6)
    assert_allclose(got.se_obs, want.se_obs, rtol=1e-6)
    between = frame[frame["k"] == 4]
    one = pd.Timedelta("1D") if kind == "dates" else 1
    with pytest.raises(TimeError, match="not a multiple of"):
        fit.get_prediction(between.assign(t=between["t"] + one), level="forecast")
    drawn = fit.simulate(2, seed=1, newdata=seen)
    assert_allclose(
        drawn, fitted(seen, "k", "ar1").simulate(2, seed=1, newdata=seen), rtol=1e-5
    )


def test_delta_that_does_not_divide_the_times() -> None:
    frame = trial().assign(t=lambda d: 3 * d["k"])
    with pytest.raises(TimeError, match=r"delta=2: .*'t'.* 3 apart.*delta='auto'"):
        fitted(frame, "t", "ar1", delta=2)
    with pytest.raises(TimeError, match="time="):
        mar.mixedlm("y ~ x", frame, groups="id", residual="ar1", delta=2)
    # structures of real distances take any unit
    got = fitted(frame, "t", "exp", delta=2)
    want = fitted(frame, "t", "exp")
    assert_allclose(got.llf, want.llf, rtol=1e-7)
    assert got.model.time_unit == "step of 2"


# Strata ------------------------------------------------------------------------


def test_strata_take_their_order_from_a_categorical() -> None:
    frame = trial()
    frame["arm"] = np.where(frame["id"] % 2, "active", "placebo")
    levels = ["placebo", "active"]
    plain = fitted(frame, "k", "ar1", weights=ma.VarIdent("arm"))
    assert plain.residual_params.index[1] == "sd[placebo]"
    for ordered in (False, True):
        frame["arm"] = pd.Categorical(frame["arm"], [*levels, "none"], ordered=ordered)
        got = fitted(frame, "k", "ar1", weights=ma.VarIdent("arm"))
        assert got.residual_params.index[1] == "sd[active]"
        ratio = got.residual_params.iloc[1] * plain.residual_params.iloc[1]
        assert_allclose(ratio, 1.0, rtol=1e-4)
        assert_allclose(got.llf, plain.llf, rtol=1e-9)
        by = fitted(frame, "k", ma.AR1(by="arm"))
        assert by.residual_params.index.tolist() == ["rho[placebo]", "rho[active]"]
        rows = frame[frame["id"] < 4].astype({"arm": str})
        assert_allclose(
            got.get_prediction(rows, level="forecast").se_obs,
            plain.get_prediction(rows, level="forecast").se_obs,
            rtol=1e-5,
        )


@pytest.mark.parametrize(
    "structure", [ma.AR1(by="id"), ma.CAR1(by="id"), ma.Toeplitz(by="id"),
                  ma.AnteDependence(by="id")]
)  # fmt: skip
def test_strata_have_a_limit(structure: Any) -> None:
    frame = trial(201)
    with pytest.raises(StructureError, match=r"by='id' has 201 strata.*200"):
        mar.mixedlm("y ~ x", frame, groups="id", time="k", re_formula="0",
                    residual=structure)  # fmt: skip


def test_pictures_have_the_order_of_the_fit() -> None:
    frame = trial(8)
    for column in ("visit", "levels"):
        fit = fitted(frame, column, "un" if column == "visit" else "ar1")
        rows = picture_rows(fit.model.arrays)
        assert rows.ticks == WEEKS
        assert_allclose(rows.x, frame["k"])
