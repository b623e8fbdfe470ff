"""What must make no difference makes none."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.simulated import (
    assert_same_fit,
    base,
    build,
    fit,
    reference_data,
    simulate,
)
from mixedar import AR1, CAR1
from mixedar.exceptions import BoundaryWarning


@pytest.fixture
def data() -> pd.DataFrame:
    return reference_data().copy()


def relabelled(kind: str) -> Callable[[pd.DataFrame], Any]:
    rng = np.random.default_rng(1)
    new = rng.permutation(1000)
    spellings: dict[str, Callable[[Any], Any]] = {
        "integers": lambda i: new[i] - 500,
        "floats": lambda i: new[i] / 7.0,
        "strings": lambda i: np.array([f"person {new[k]}" for k in i]),
        "category": lambda i: pd.Categorical([f"p{new[k]}" for k in i]),
        "dates": lambda i: pd.Timestamp("2000-01-01") + pd.to_timedelta(new[i], "D"),
        "booleans": lambda i: i,
        "tuples": lambda i: pd.Series([(int(k) % 3, int(k)) for k in i]).array,
    }
    return lambda data: spellings[kind](data["id"].to_numpy())


@pytest.mark.parametrize(
    "kind", ["integers", "floats", "strings", "category", "dates", "tuples"]
)
def test_labels_of_groups(data: pd.DataFrame, kind: str) -> None:
    found = fit(data.assign(id=relabelled(kind)(data)))
    assert_same_fit(found, base())
    np.testing.assert_allclose(found.fittedvalues, base().fittedvalues, rtol=1e-5)
    for label, b in found.random_effects.items():
        assert len(b) == 2
        assert label in found.random_effects_cov


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_order_of_rows(data: pd.DataFrame, seed: int) -> None:
    mixed = data.sample(frac=1.0, random_state=seed)
    found = fit(mixed)
    assert_same_fit(found, base())
    for name in ("fittedvalues", "fitted_marginal", "resid"):
        values = getattr(found, name)
        assert list(values.index) == list(mixed.index)
        np.testing.assert_allclose(
            values.sort_index(), getattr(base(), name), rtol=1e-5, atol=1e-6
        )
    for kind in ("raw", "pearson", "normalized"):
        values = found.residuals(kind).sort_index()
        np.testing.assert_allclose(values, base().residuals(kind), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "index",
    [
        lambda n: [f"r{k % 7}" for k in range(n)],  # repeated labels
        lambda n: pd.date_range("2020-01-01", periods=n),
        lambda n: pd.MultiIndex.from_arrays([np.arange(n) // 5, np.arange(n) % 5]),
        lambda n: np.arange(n)[::-1] * 10,
        lambda n: np.zeros(n, dtype=int),
    ],
    ids=["repeated", "dates", "multi", "reversed", "constant"],
)
def test_any_index(data: pd.DataFrame, index: Callable[[int], Any]) -> None:
    data.index = pd.Index(index(len(data)))
    found = fit(data)
    assert_same_fit(found, base())
    for values in (found.fittedvalues, found.resid, found.residuals("normalized")):
        pd.testing.assert_index_equal(values.index, data.index)
    np.testing.assert_allclose(found.fittedvalues, base().fittedvalues, rtol=1e-5)
    half = np.arange(len(data)) % 3 > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        subset = build(data, subset=half).fit()
    expected = fit(reference_data()[half])
    assert subset.llf == pytest.approx(expected.llf, abs=1e-8)
    pd.testing.assert_index_equal(subset.resid.index, data.index[half])


def test_unusual_names_of_columns(data: pd.DataFrame) -> None:
    odd = data.rename(columns={"y": "the y", "x": "x.1", "t": "time (days)"})
    found = fit(
        odd,
        "Q('the y') ~ Q('x.1') + Q('time (days)') + arm",
        re_formula="~ Q('time (days)')",
        time="time (days)",
    )
    assert found.llf == pytest.approx(base().llf, abs=1e-8)


@pytest.mark.parametrize("shift", [-3.0, 0.5, 100.0, 2000.0, 1e6])
def test_shifted_times(data: pd.DataFrame, shift: float) -> None:
    # as the time of the residuals only
    found = fit(data.assign(when=data["t"] + shift), time="when")
    assert_same_fit(found, base())
    # and everywhere: slopes and rho stay, intercepts move
    later = fit(data.assign(t=data["t"] + shift))
    assert later.llf == pytest.approx(base().llf, abs=1e-6)
    for name in ("t", "x", "arm[T.drug]"):
        assert later.fe_params[name] == pytest.approx(base().fe_params[name], rel=1e-5)
        assert later.bse_fe[name] == pytest.approx(base().bse_fe[name], rel=1e-5)
    assert later.rho == pytest.approx(base().rho, rel=1e-5)
    assert later.cov_re.loc["t", "t"] == pytest.approx(
        base().cov_re.loc["t", "t"], 1e-5
    )
    np.testing.assert_allclose(later.fittedvalues, base().fittedvalues, rtol=1e-4)


@pytest.mark.parametrize("factor", [0.25, 1.0 / 12.0, 2.0, 7.0, 365.0])
@pytest.mark.parametrize("residual", ["ar1", "car1"])
def test_units_of_time(data: pd.DataFrame, factor: float, residual: str) -> None:
    when = data["t"] * factor
    if factor == round(factor):
        when = when.astype(int)
    found = fit(data.assign(when=when), time="when", residual=residual)
    assert found.llf == pytest.approx(base().llf, abs=1e-7)
    np.testing.assert_allclose(found.fe_params, base().fe_params, rtol=1e-6)
    np.testing.assert_allclose(found.cov_re, base().cov_re, rtol=1e-5)
    if residual == "car1" or factor == round(factor):
        assert found.rho**factor == pytest.approx(base().rho, rel=1e-5)
    else:  # the grid's own step is the unit
        assert found.rho == pytest.approx(base().rho, rel=1e-5)
    np.testing.assert_allclose(
        found.residuals("normalized"), base().residuals("normalized"), atol=1e-5
    )


def test_negative_rho_and_odd_steps() -> None:
    data = simulate(9, rho=-0.5)
    expected = fit(data)
    assert expected.rho < -0.2
    found = fit(data.assign(when=3 * data["t"]), time="when")
    assert found.llf == pytest.approx(expected.llf, abs=1e-7)
    assert found.rho == pytest.approx(-(abs(expected.rho) ** (1 / 3)), rel=1e-5)


@pytest.mark.parametrize(
    "kind",
    ["day", "hour", "week", "month", "year", "month end", "utc", "period", "quarter",
     "timedelta", "objects", "bool", "decimal"],
)  # fmt: skip
def test_dates_and_periods(data: pd.DataFrame, kind: str) -> None:
    k = data["t"].to_numpy()
    start = pd.Timestamp("2019-11-01")
    month = pd.period_range("2019-11", periods=20, freq="M")
    when: Any = {
        "day": lambda: start + pd.to_timedelta(k, unit="D"),
        "hour": lambda: start + pd.to_timedelta(k, unit="h"),
        "week": lambda: start + pd.to_timedelta(7 * k, unit="D"),
        "month": lambda: month[k].to_timestamp(),
        "year": lambda: pd.to_datetime(pd.Series(2000 + k).astype(str)).to_numpy(),
        "month end": lambda: month[k].to_timestamp(how="end").normalize(),
        "utc": lambda: (start + pd.to_timedelta(k, unit="D")).tz_localize("UTC"),
        "period": lambda: month[k],
        "quarter": lambda: pd.period_range("2019Q1", periods=20, freq="Q")[k],
        "timedelta": lambda: pd.to_timedelta(3 * k, unit="h"),
        "objects": lambda: np.array(
            [d.date() for d in start + pd.to_timedelta(k, "D")]
        ),
        "bool": lambda: k,
        "decimal": lambda: k * 0.1,
    }[kind]()
    found = fit(data.assign(when=when), time="when")
    assert_same_fit(found, base())
    text = str(found.summary())
    units = {"month end": "1 month", "quarter": "Q", "timedelta": "3 hours"}
    units |= {name: f"1 {name}" for name in ("day", "hour", "week", "month", "year")}
    unit = units.get(kind)
    assert unit is None or unit in text


def test_local_days_across_summer_time(data: pd.DataFrame) -> None:
    days = pd.date_range("2021-03-25", periods=7, freq="D", tz="Europe/Berlin")
    found = fit(data.assign(when=days[data["t"]]), time="when")
    assert_same_fit(found, base())


@pytest.mark.parametrize("start", [2**53, 2**62])
def test_integer_times_beyond_double_precision(data: pd.DataFrame, start: int) -> None:
    found = fit(data.assign(when=data["t"].astype("int64") + start), time="when")
    assert_same_fit(found, base())


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "Int64", "float32", "Float64", "object", "category"]
)
def test_types_of_times(data: pd.DataFrame, dtype: Any) -> None:
    found = fit(data.assign(when=data["t"].astype(dtype)), time="when")
    assert_same_fit(found, base())


@pytest.mark.parametrize("dtype", ["category", "string", "object"])
def test_types_of_factors(data: pd.DataFrame, dtype: Any) -> None:
    changed = data.assign(arm=data["arm"].astype(dtype), x=data["x"].astype("Float64"))
    assert_same_fit(fit(changed), base())


@pytest.mark.parametrize("reml", [True, False])
def test_units_and_origin_of_the_response(data: pd.DataFrame, reml: bool) -> None:
    expected = fit(data, reml=reml)
    n = len(data) - (4 if reml else 0)
    for factor in (10.0, 1e-6, 1e8, -1.0):
        found = fit(data.assign(y=factor * data["y"]), reml=reml)
        size = abs(factor)
        assert found.llf == pytest.approx(expected.llf - n * np.log(size), abs=1e-6)
        np.testing.assert_allclose(found.fe_params, factor * expected.fe_params, 1e-6)
        np.testing.assert_allclose(found.bse_fe, size * expected.bse_fe, rtol=1e-6)
        np.testing.assert_allclose(found.cov_re, size**2 * expected.cov_re, rtol=1e-6)
        assert found.bse["id Var"] == pytest.approx(
            size**2 * expected.bse["id Var"], rel=1e-5
        )
        assert found.rho == pytest.approx(expected.rho, rel=1e-6)
        assert found.bse["rho"] == pytest.approx(expected.bse["rho"], rel=1e-5)
    moved = fit(data.assign(y=data["y"] + 1e6), reml=reml)
    assert moved.llf == pytest.approx(expected.llf, abs=1e-5)
    shift = [1e6, 0.0, 0.0, 0.0]
    names = list(expected.fe_params.index)
    assert names[0] == "Intercept"
    np.testing.assert_allclose(moved.fe_params - shift, expected.fe_params, atol=1e-7)
    np.testing.assert_allclose(moved.cov_re, expected.cov_re, rtol=1e-5)
    assert moved.rho == pytest.approx(expected.rho, rel=1e-5)


@pytest.mark.parametrize("factor", [1e-6, 100.0, 1e9])
def test_units_of_covariates(data: pd.DataFrame, factor: float) -> None:
    found = fit(data.assign(x=factor * data["x"]))
    assert found.fe_params["x"] * factor == pytest.approx(
        base().fe_params["x"], rel=1e-6
    )
    assert found.bse_fe["x"] * factor == pytest.approx(base().bse_fe["x"], rel=1e-6)
    # REML's constant depends on the units of X
    assert found.llf + np.log(factor) == pytest.approx(base().llf, abs=1e-6)
    other = ["Intercept", "t", "arm[T.drug]"]
    np.testing.assert_allclose(
        found.fe_params[other], base().fe_params[other], rtol=1e-6
    )
    slope = fit(data.assign(z=factor * data["t"]), re_formula="~ z")
    assert slope.llf == pytest.approx(base().llf, abs=1e-7)
    assert slope.cov_re.iloc[1, 1] * factor**2 == pytest.approx(
        base().cov_re.iloc[1, 1], rel=1e-5
    )
    assert slope.bse["z Var"] * factor**2 == pytest.approx(
        base().bse["t Var"], rel=1e-5
    )


def test_reversed_time_is_the_same_process(data: pd.DataFrame) -> None:
    assert_same_fit(fit(data.assign(when=-data["t"]), time="when"), base())


@pytest.mark.parametrize(
    "start", [[1.0, 0.0, 1.0, 0.0], [5.0, 2.0, 0.1, 0.9], [1e-3, 0.0, 1e-3, -0.9]]
)
def test_starting_values(data: pd.DataFrame, start: list[float]) -> None:
    model = build(data)
    assert_same_fit(model.fit(start_params=start), base())
    with_fe = [*np.zeros(4), *start]
    assert_same_fit(model.fit(start_params=with_fe), base())


@pytest.mark.parametrize("rho", [-0.9, -0.2, 0.0, 0.3, 0.99])
def test_starting_values_of_structures(data: pd.DataFrame, rho: float) -> None:
    assert_same_fit(fit(data, residual=AR1(rho)), base())
    if rho > 0:
        assert_same_fit(fit(data, residual=CAR1(rho)), base())


def test_where_no_information_is_lost(data: pd.DataFrame) -> None:
    # a copy of the data as further groups: twice the ML log-likelihood
    both = pd.concat([data, data.assign(id=data["id"] + 1000)], ignore_index=True)
    one, two = fit(data, reml=False), fit(both, reml=False)
    assert two.llf == pytest.approx(2 * one.llf, abs=1e-6)
    np.testing.assert_allclose(two.params, one.params, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(two.bse, one.bse / np.sqrt(2), rtol=1e-4)


@settings(max_examples=15)
@given(
    shift=st.integers(-50, 50),
    step=st.integers(1, 5),
    sign=st.sampled_from([-1.0, 1.0]),
    seed=st.integers(0, 1000),
)
def test_any_combination_of_changes(
    shift: int, step: int, sign: float, seed: int
) -> None:
    data = reference_data()
    changed = data.assign(
        t=shift + step * data["t"], y=3.0 * data["y"] + 2.0, x=sign * data["x"]
    ).sample(frac=1.0, random_state=seed)
    found = fit(changed)
    n = len(data) - 4
    expected = base().llf - n * np.log(3.0) - np.log(step)
    assert found.llf == pytest.approx(expected, abs=1e-6)
    assert found.rho**step == pytest.approx(base().rho, rel=1e-5)
    assert found.fe_params["t"] * step == pytest.approx(
        3.0 * base().fe_params["t"], rel=1e-5
    )
