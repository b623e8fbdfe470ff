"""
Bad input raises typed errors that say what is wrong, where, and what to do.

Warnings are errors in these tests, so nothing may be muttered on the way.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.bad_data import (
    N_GROUPS,
    Builder,
    N,
    both,
    by_arrays,
    by_formula,
    make,
    message_of,
    put,
    with_slope,
)
from mixedar.exceptions import (
    DroppedRowsWarning,
    DuplicateTimeError,
    EmptyDataError,
    LengthError,
    MissingDataError,
    MixedARError,
    RankDeficiencyError,
    ResponseError,
    TimeError,
    UnknownColumnError,
    UnsupportedError,
)


@pytest.fixture
def data() -> pd.DataFrame:
    return make()


# Times


@both
@pytest.mark.parametrize("residual", ["ar1", "car1"])
def test_duplicate_times(build: Builder, data: pd.DataFrame, residual: str) -> None:
    twice = put(data, "t", 8, 2.0)  # group 1 has rows 5 to 9
    with pytest.raises(DuplicateTimeError) as error:
        build(twice, residual=residual)
    message = message_of(error)
    assert "group 1" in message
    assert "2" in message
    assert "7" in message
    assert "8" in message
    assert "series=" in message


@both
def test_duplicate_dates(build: Builder, data: pd.DataFrame) -> None:
    dates = pd.Timestamp("2020-03-01") + pd.to_timedelta(data["t"], unit="D")
    dates.iloc[3] = dates.iloc[2]
    with pytest.raises(DuplicateTimeError) as error:
        build(data.assign(t=dates), time="t" if build is by_formula else dates)
    assert "2020-03-03" in message_of(error)


@both
def test_independent_residuals_do_not_mind_duplicates(
    build: Builder, data: pd.DataFrame
) -> None:
    twice = put(data, "t", 8, 2.0)
    fit = build(twice, residual="independent").fit()
    assert fit.llf == pytest.approx(build(data, residual="independent").fit().llf)


@both
def test_series_separate_equal_times(build: Builder, data: pd.DataFrame) -> None:
    paired = data.assign(t=[0, 1, 2, 0, 1] * N_GROUPS, s=[0, 0, 0, 1, 1] * N_GROUPS)
    with pytest.raises(DuplicateTimeError, match="series="):
        build(paired)
    series = "s" if build is by_formula else paired["s"].to_numpy()
    assert build(paired, series=series).fit().converged


@both
def test_text_times(build: Builder, data: pd.DataFrame) -> None:
    for values in (data["t"].astype(str), data["t"].astype(str).astype("category")):
        with pytest.raises(TimeError, match=r"to_datetime|to_numeric") as error:
            build(data.assign(t=values))
        assert "'0'" in message_of(error)


def test_odd_times_in_arrays(data: pd.DataFrame) -> None:
    for time in (
        data["t"].to_numpy() * 1j,
        [pd.Timestamp("2020"), 3, *data["t"].tolist()[2:]],
        [object()] * N,
        np.column_stack([data["t"], data["t"]]),
    ):
        with pytest.raises((TimeError, LengthError), match="time"):
            by_arrays(data, time=time)


@both
def test_real_times_with_ar1(build: Builder, data: pd.DataFrame) -> None:
    real = data["t"] + np.random.default_rng(1).uniform(0.0, 0.3, size=N)
    with pytest.raises(TimeError, match="car1") as error:
        build(data.assign(t=real))
    message_of(error)
    assert build(data.assign(t=real), residual="car1").fit().converged


# Missing and infinite values


@both
@pytest.mark.parametrize("missing", ["none", "raise"])
@pytest.mark.parametrize("column", ["y", "x", "id", "t", "w"])
def test_missing_values_raise(
    build: Builder, data: pd.DataFrame, column: str, missing: str
) -> None:
    bad = put(data, column, 7, np.nan)
    options = with_slope(build, bad)
    with pytest.raises(MissingDataError, match=r"row.*7") as error:
        build(bad, missing=missing, **options)
    message = message_of(error)
    assert "drop" in message
    assert "1" in message
    if build is by_formula:
        assert repr(column) in message
    elif column in ("x", "w"):
        # the second column of its array
        assert re.search(r"number 2|x1|x_re2", message)


@both
@pytest.mark.parametrize("missing", ["none", "raise", "drop"])
@pytest.mark.parametrize("column", ["y", "x", "id", "t", "w"])
def test_infinite_values_raise(
    build: Builder, data: pd.DataFrame, column: str, missing: str
) -> None:
    # statsmodels drops NaN only: infinity is an error whatever missing= says
    bad = put(data, column, 7, np.inf)
    with pytest.raises(MissingDataError, match="7") as error:
        build(bad, missing=missing, **with_slope(build, bad))
    message_of(error)


@both
def test_drop_keeps_everything_aligned(build: Builder, data: pd.DataFrame) -> None:
    bad = data
    for row, column in ((1, "y"), (7, "x"), (22, "id"), (33, "t"), (58, "w")):
        bad = put(bad, column, row, np.nan)
    clean = data.drop(index=[1, 7, 22, 33, 58])
    with pytest.warns(DroppedRowsWarning, match=r"\b5 rows"):
        model = build(bad, missing="drop", **with_slope(build, bad))
    assert model.nobs == N - 5
    expected = build(clean, **with_slope(build, clean)).fit()
    fit = model.fit()
    assert fit.llf == pytest.approx(expected.llf, abs=1e-9)
    np.testing.assert_allclose(fit.params, expected.params, rtol=1e-6)
    np.testing.assert_allclose(fit.fittedvalues, expected.fittedvalues, rtol=1e-6)
    if build is by_formula:
        assert list(fit.fittedvalues.index) == list(clean.index)


@both
def test_drop_with_series_and_nothing_missing(
    build: Builder, data: pd.DataFrame
) -> None:
    model = build(data, missing="drop")  # no warning
    assert model.nobs == N
    data = data.assign(s=1.0 * (data["t"] > 2))
    bad = put(data, "s", 9, np.nan)
    series = "s" if build is by_formula else bad["s"].to_numpy()
    with pytest.warns(DroppedRowsWarning, match=r"\b1 row\b"):
        model = build(bad, missing="drop", series=series)
    assert model.nobs == N - 1


@both
def test_everything_missing(build: Builder, data: pd.DataFrame) -> None:
    with pytest.raises(EmptyDataError):
        build(data.assign(y=np.nan), missing="drop")


@both
def test_unknown_missing_option(build: Builder, data: pd.DataFrame) -> None:
    with pytest.raises(MixedARError, match="missing"):
        build(data, missing="bogus")


def test_dropping_keeps_variance_components_aligned(data: pd.DataFrame) -> None:
    ward = data.assign(v=(data["t"] > 1).astype(int))
    bad = put(ward, "y", 7, np.nan)
    options: dict[str, Any] = {"vc_formula": {"v": "0 + C(v)"}, "re_formula": "1"}
    with pytest.warns(DroppedRowsWarning):
        fit = by_formula(bad, missing="drop", **options).fit()
    expected = by_formula(ward.drop(index=7), **options).fit()
    assert fit.llf == pytest.approx(expected.llf, abs=1e-9)


# Names


@pytest.mark.parametrize(
    ("options", "name", "near"),
    [
        ({"groups": "idd"}, "idd", "id"),
        ({"time": "tt"}, "tt", "t"),
        ({"series": "idd"}, "idd", "id"),
        ({"re_formula": "~ ww"}, "ww", "w"),
        ({"vc_formula": {"a": "0 + C(ww)"}}, "ww", "w"),
        ({"formula": "y ~ xx"}, "xx", "x"),
        ({"formula": "yy ~ x"}, "yy", "y"),
    ],
)
def test_unknown_columns(
    data: pd.DataFrame, options: dict[str, Any], name: str, near: str
) -> None:
    with pytest.raises(UnknownColumnError, match=repr(name)) as error:
        by_formula(data, **options)
    assert repr(near) in message_of(error)


def test_groups_are_needed(data: pd.DataFrame) -> None:
    # also an AttributeError, as statsmodels raises
    with pytest.raises(MixedARError, match="groups"):
        by_formula(data, groups=None)
    with pytest.raises(MixedARError, match="groups"):
        by_arrays(data, groups=None)
    with pytest.raises(MixedARError, match="groups"):
        by_arrays(data, groups=3)


# Designs


@both
def test_rank_deficient_designs_are_named(build: Builder, data: pd.DataFrame) -> None:
    data = data.assign(x2=2.0 * data["x"], x3=data["x"] + 1.0)
    if build is by_formula:
        with pytest.raises(RankDeficiencyError, match="'x2', 'x3'") as error:
            build(data, "y ~ x + x2 + x3")
    else:
        exog = data.assign(one=1.0)[["one", "x", "x2", "x3"]]
        with pytest.raises(RankDeficiencyError, match="'x2', 'x3'") as error:
            build(data, exog=exog)
    assert "rank 2" in message_of(error)


def test_rank_deficient_factor_and_random_effects(data: pd.DataFrame) -> None:
    data = data.assign(f=np.where(data["id"] < 9, "a", "b"), w2=data["w"] * -3.0)
    with pytest.raises(RankDeficiencyError, match=r"C\(f2\)\[T.d\]"):
        by_formula(data.assign(f2=data["f"].map({"a": "c", "b": "d"})), "y~C(f)+C(f2)")
    with pytest.raises(RankDeficiencyError, match=r"random-effects.*'w2'"):
        by_formula(data, re_formula="~ w + w2")
    with pytest.raises(RankDeficiencyError, match="'x1'"):
        by_arrays(data, exog=np.column_stack([np.ones(N), np.zeros(N)]))


def test_near_collinear_columns_are_still_told_apart(data: pd.DataFrame) -> None:
    year = 2000.0 + data["t"] / 12.0
    fit = by_formula(data.assign(year=year), "y ~ year + I(year ** 2)").fit()
    assert np.isfinite(fit.bse_fe).all()


def test_nonsense_arrays(data: pd.DataFrame) -> None:
    for arrays in (
        {"exog": np.full((N, 1), "a")},
        {"exog_re": np.full((N, 1), "a")},
        {"endog": ["a"] * N},
        {"endog": data["y"].to_numpy() * 1j},
        {"endog": np.column_stack([data["y"], data["y"]])},
    ):
        with pytest.raises(MixedARError):
            by_arrays(data, **arrays)
    with pytest.raises(UnsupportedError, match="foo"):
        by_arrays(data, foo=1)
    with pytest.raises(UnsupportedError, match="diagonal"):
        by_arrays(data, re_cov="diag")


def test_no_fixed_effects(data: pd.DataFrame) -> None:
    for model in (by_formula(data, "y ~ 0"), by_arrays(data, exog=np.empty((N, 0)))):
        fit = model.fit()
        assert len(fit.fe_params) == 0
        assert np.isfinite(fit.llf)
        assert "rho" in str(fit.summary())


@pytest.mark.parametrize(
    "arrays",
    [
        {"time": np.arange(10)},
        {"groups": np.zeros(10)},
        {"exog": np.ones((10, 1))},
        {"exog_re": np.ones(10)},
        {"series": np.ones(10)},
    ],
)
def test_wrong_lengths(data: pd.DataFrame, arrays: dict[str, Any]) -> None:
    (name,) = arrays
    with pytest.raises(LengthError, match=f"{name}.*10.*{N}"):
        by_arrays(data, **arrays)
    if name in ("time", "groups", "series"):
        with pytest.raises(LengthError, match=f"{name}.*10.*{N}"):
            by_formula(data, **arrays)


def test_empty_data(data: pd.DataFrame) -> None:
    with pytest.raises(EmptyDataError, match="subset"):
        by_formula(data, subset=data["x"] > 100)
    with pytest.raises(LengthError, match="subset"):
        by_formula(data, subset=[True, False])
    with pytest.raises(MissingDataError, match="subset"):
        by_formula(data, subset=np.ma.array(data["x"] < 9.0, mask=data["x"] > 0.0))
    with pytest.raises(EmptyDataError):
        by_formula(data.iloc[:0])
    with pytest.raises(EmptyDataError):
        by_arrays(data.iloc[:0])
    with pytest.raises(MixedARError):  # as many columns as rows
        by_formula(data.iloc[:3], "y ~ x + w", re_formula="0")


# Response


@both
@pytest.mark.parametrize("value", [0.0, 3.0, 1e10])
def test_constant_response(build: Builder, data: pd.DataFrame, value: float) -> None:
    with pytest.raises(ResponseError, match="constant"):
        build(data.assign(y=value))


@both
def test_response_without_residuals(build: Builder, data: pd.DataFrame) -> None:
    with pytest.raises(ResponseError, match="linear combination"):
        build(data.assign(y=3.0 + 2.0 * data["x"]))


def test_text_response(data: pd.DataFrame) -> None:
    for values in (data["y"].astype(str), pd.Series("a", data.index)):
        with pytest.raises(ResponseError, match="numeric"):
            by_formula(data.assign(y=values))
