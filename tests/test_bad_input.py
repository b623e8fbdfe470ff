"""
Bad input raises typed errors that say what is wrong, where, and what to do.

`warnings` are errors in these tests, so nothing may be muttered on the way.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.regression.mixed_linear_model import MixedLMParams

import mixedar.formula.api as mar
from mixedar import AR1, CAR1, MixedLMAR
from mixedar.exceptions import (
    BoundaryWarning,
    ConvergenceWarning,
    DroppedRowsWarning,
    DuplicateTimeError,
    EmptyDataError,
    GroupError,
    IdentificationError,
    LengthError,
    MissingDataError,
    MixedARError,
    RankDeficiencyError,
    ResponseError,
    TimeError,
    UnknownColumnError,
    UnsupportedError,
)

N_GROUPS, SIZE = 30, 5
N = N_GROUPS * SIZE


def make(m: int = N_GROUPS, size: int = SIZE, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(m), size)
    x, w = rng.normal(size=(2, m * size))
    noise = rng.normal(size=(m, size))
    for k in range(1, size):  # AR(1) with rho = 0.5
        noise[:, k] = 0.5 * noise[:, k - 1] + np.sqrt(0.75) * noise[:, k]
    effects = rng.normal(size=(2, m))[:, group]
    y = 1.0 + 0.5 * x + 1.5 * effects[0] + effects[1] * w + noise.ravel()
    time = np.tile(np.arange(size), m)
    return pd.DataFrame({"y": y, "x": x, "w": w, "id": group, "t": time})


@pytest.fixture
def data() -> pd.DataFrame:
    return make()


def by_formula(data: pd.DataFrame, formula: str = "y ~ x", **options: Any) -> Any:
    options = {"groups": "id", "time": "t", **options}
    return mar.mixedlm(formula, data, **options)


def by_arrays(data: pd.DataFrame, **arrays: Any) -> Any:
    given = {
        "endog": data["y"].to_numpy(),
        "exog": np.column_stack([np.ones(len(data)), data["x"]]),
        "groups": data["id"].to_numpy(),
        "time": data["t"].to_numpy(),
        **arrays,
    }
    return MixedLMAR(**given)


Builder = Callable[..., Any]
BUILDERS = [pytest.param(by_formula, id="formula"), pytest.param(by_arrays, id="arrays")]
both = pytest.mark.parametrize("build", BUILDERS)


def put(data: pd.DataFrame, column: str, row: int, value: Any) -> pd.DataFrame:
    """A copy with one cell changed."""
    values = data[column].astype(float if isinstance(value, float) else object)
    values.iloc[row] = value
    return data.assign(**{column: values})


def message_of(error: pytest.ExceptionInfo[Any]) -> str:
    """The message, which shows values and not how NumPy spells them."""
    text = str(error.value)
    assert "np." not in text
    assert "numpy." not in text
    assert len(text) > 20
    return text


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


def with_slope(build: Builder, data: pd.DataFrame) -> dict[str, Any]:
    if build is by_formula:
        return {"re_formula": "~ w"}
    return {"exog_re": np.column_stack([np.ones(len(data)), data["w"]])}


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
    with pytest.raises(RankDeficiencyError, match="random-effects.*'w2'"):
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


# Groups and identification


@both
def test_one_group(build: Builder, data: pd.DataFrame) -> None:
    one = data.assign(id=1, t=np.arange(N))
    with pytest.raises(GroupError, match="one group") as error:
        build(one)
    assert "re_formula='0'" in message_of(error)


def test_one_group_without_random_effects(data: pd.DataFrame) -> None:
    one = data.assign(id=1, t=np.arange(N))
    assert by_formula(one, re_formula="0").fit().converged


@both
def test_groups_of_one_with_a_slope(build: Builder, data: pd.DataFrame) -> None:
    single = data.assign(id=np.arange(N))
    with pytest.raises(IdentificationError, match=r"one observation|1 observation"):
        build(single, **with_slope(build, data))


def test_groups_of_one(data: pd.DataFrame) -> None:
    single = data.assign(id=np.arange(N))
    for residual in ("ar1", "independent"):
        with pytest.raises(IdentificationError, match="'id Var'"):
            by_formula(single, residual=residual)
    with pytest.raises(IdentificationError, match="'rho'"):
        by_formula(single, re_formula="0")
    ols = by_formula(single, re_formula="0", residual="independent").fit()
    assert ols.converged


@both
def test_intercept_and_ar1_with_two_observations(
    build: Builder, data: pd.DataFrame
) -> None:
    del data
    with pytest.raises(IdentificationError, match="'rho'") as error:
        build(make(30, 2))
    message = message_of(error)
    assert "Var'" in message
    assert "2 observations" in message
    assert "residual='independent'" in message


def test_more_random_effects_than_the_data_can_carry() -> None:
    with pytest.raises(IdentificationError, match="'t Var'"):
        by_formula(make(30, 2), re_formula="~ t", residual="independent")
    with pytest.raises(IdentificationError):
        by_formula(make(30, 3), re_formula="~ t + I(t ** 2)")
    # a fixed rho, or a third observation, tells them apart
    assert by_formula(make(30, 2), residual=AR1(0.4, fixed=True)).fit().converged
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        assert by_formula(make(30, 3)).fit().converged


def test_effects_that_are_confounded(data: pd.DataFrame) -> None:
    data = data.assign(all=0)
    with pytest.raises(IdentificationError, match="a Var"):
        by_formula(data, re_formula="1", vc_formula={"a": "0 + C(all)"})


@pytest.mark.parametrize("kind", ["list", "object", "frame"])
def test_mixed_labels(data: pd.DataFrame, kind: str) -> None:
    labels = [str(i) if k % 2 else int(i) for k, i in enumerate(data["id"])]
    with pytest.raises(GroupError, match=r"int.*str.*astype") as error:
        if kind == "frame":
            by_formula(data.assign(id=labels))
        elif kind == "list":
            by_arrays(data, groups=labels)
        else:
            by_arrays(data, groups=np.array(labels, dtype=object))
    message_of(error)


# Magnitudes


def sound(call: Callable[[], Any]) -> Any:
    """Call and accept a typed error, or else a result without NaN or infinity."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BoundaryWarning)
            fit = call()
    except MixedARError as error:
        assert "linear combination" not in str(error)
        return None
    for name in ("llf", "scale", "params", "bse_fe", "fittedvalues", "resid"):
        assert np.isfinite(getattr(fit, name)).all(), name
    if not fit.at_boundary:
        assert np.isfinite(fit.bse).all()
        assert np.isfinite(fit.conf_int()).all(axis=None)
    assert (np.asarray(fit.bse_fe) > 0).all()
    return fit


@pytest.mark.parametrize("column", ["y", "x", "w"])
@pytest.mark.parametrize(
    "size", [1e-310, 1e-200, 1e-150, 1e-30, 1e-15, 1e15, 1e30, 1e150, 1e200, 1e300]
)
def test_magnitudes(data: pd.DataFrame, column: str, size: float) -> None:
    scaled = data.assign(**{column: data[column] * size})
    fit = sound(lambda: by_formula(scaled, re_formula="~ w").fit())
    if 1e-20 < size < 1e20:
        assert fit is not None
    if fit is not None:
        expected = by_formula(data, re_formula="~ w").fit()
        change = (N - 2) * np.log(size) if column == "y" else 0.0
        if column == "x":
            change = np.log(size)
        assert fit.llf + change == pytest.approx(expected.llf, rel=1e-7)


@pytest.mark.parametrize("size", [1e-2, 1.0 / 12.0, 7.0, 30.0, 365.25, 1e6, 1e9])
@pytest.mark.parametrize("residual", ["ar1", "car1"])
def test_units_of_time(data: pd.DataFrame, residual: str, size: float) -> None:
    expected = by_formula(data, residual=residual).fit()
    fit = by_formula(data.assign(t=data["t"] * size), residual=residual).fit()
    assert fit.llf == pytest.approx(expected.llf, abs=1e-6)


@pytest.mark.parametrize("size", [1e-300, 1e-150, 1e-9, 1e15, 1e150, 1e300])
@pytest.mark.parametrize("residual", ["ar1", "car1"])
def test_absurd_units_of_time(data: pd.DataFrame, residual: str, size: float) -> None:
    # rho at the distance one may be zero or one to rounding
    expected = by_formula(data, residual=residual).fit()
    scaled = data.assign(t=data["t"] * size)
    fit = sound(lambda: by_formula(scaled, residual=residual).fit())
    if fit is not None:
        assert fit.llf == pytest.approx(expected.llf, abs=1e-6)


def test_times_that_are_small_in_their_unit() -> None:
    # 0.999 between neighbours at a distance of 1e-4: rho is 4.5e-5
    rng = np.random.default_rng(5)
    n = 500
    noise = rng.normal(size=(4, n))
    for k in range(1, n):
        noise[:, k] = 0.999 * noise[:, k - 1] + np.sqrt(1 - 0.999**2) * noise[:, k]
    data = pd.DataFrame({"y": noise.ravel(), "id": np.repeat(np.arange(4), n)})
    data["t"] = np.tile(np.arange(n), 4)
    small = data.assign(t=data["t"] * 1e-4)
    options: dict[str, Any] = {"re_formula": "0", "residual": "car1"}
    expected = by_formula(data, "y ~ 1", **options).fit()
    fit = by_formula(small, "y ~ 1", **options).fit()
    assert fit.llf == pytest.approx(expected.llf, abs=1e-6)
    assert fit.rho == pytest.approx(expected.rho**1e4, rel=1e-3)


def test_large_constant_in_the_response(data: pd.DataFrame) -> None:
    expected = by_formula(data).fit()
    fit = by_formula(data.assign(y=data["y"] + 1e9)).fit()
    assert fit.llf == pytest.approx(expected.llf, abs=1e-4)
    with pytest.raises(ResponseError):
        by_formula(data.assign(y=data["y"] + 1e17))


# Residual structures and options of fit


@pytest.mark.parametrize("residual", ["bogus", "ar2", 3, ["ar1"], ""])
def test_unknown_residual(data: pd.DataFrame, residual: Any) -> None:
    with pytest.raises(UnsupportedError, match="'ar1', 'car1', 'independent'|AR1"):
        by_formula(data, residual=residual)


@pytest.mark.parametrize("rho", [1.0, -1.0, 1.5, np.nan, "a"])
@pytest.mark.parametrize("structure", [AR1, CAR1])
def test_rho_out_of_range(structure: Any, rho: Any) -> None:
    with pytest.raises(MixedARError, match="rho"):
        structure(rho)


def test_penalties_are_refused(data: pd.DataFrame) -> None:
    model = by_formula(data)
    for call in (
        lambda: model.fit(fe_pen=object()),
        lambda: model.fit(cov_pen=object()),
        lambda: model.fit_regularized(),
    ):
        with pytest.raises(UnsupportedError, match=r"independent.*AR\(1\)"):
            call()
    independent = by_arrays(data, residual="independent")
    assert len(independent.fit_regularized(alpha=0.1).params) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"method": "bogus"},
        {"method": 3},
        {"maxiter": -1},
        {"maxiter": "many"},
        {"gtol": "small"},
        {"gtol": np.nan},
        {"start_params": [1.0] * 9},
        {"start_params": [np.nan, 0.1]},
        {"start_params": [0.5, 1.5]},
        {"start_params": "zero"},
        {"free": 3},
    ],
)
def test_options_of_fit(data: pd.DataFrame, options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(MixedARError, match=name):
        by_formula(data).fit(**options)


def test_unused_options_of_fit_warn(data: pd.DataFrame) -> None:
    with pytest.warns(FutureWarning, match="foo"):
        by_formula(data).fit(foo=3)


def test_too_few_iterations_are_reported_once(data: pd.DataFrame) -> None:
    with pytest.warns(ConvergenceWarning, match="maxiter") as caught:
        fit = by_formula(data).fit(maxiter=1)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert fit.converged is False
    assert "did not reach a maximum" in str(fit.summary()).replace("\n", " ")


@pytest.mark.parametrize("method", ["bfgs", "lbfgs", "cg", "powell", "nm", ["bfgs", "cg"]])
def test_methods_of_statsmodels(data: pd.DataFrame, method: Any) -> None:
    model = by_formula(data)
    assert model.fit(method=method).llf == pytest.approx(model.fit().llf, abs=1e-8)


def test_a_boundary_is_announced_once() -> None:
    data = make(20, 6, seed=7)
    data["y"] -= data.groupby("id")["y"].transform("mean")
    with pytest.warns(BoundaryWarning, match="'id Var' is zero") as caught:
        fit = by_formula(data, residual="independent").fit()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert fit.at_boundary is True
    assert "'id Var' is zero" in str(fit.summary()).replace("\n", " ")


def test_free_with_impossible_pattern(data: pd.DataFrame) -> None:
    model = by_formula(data, re_formula="~ w")
    free = MixedLMParams.from_components(fe_params=np.ones(2), cov_re=np.eye(3))
    with pytest.raises(MixedARError, match="free"):
        model.fit(free=free)
