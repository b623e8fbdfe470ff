"""What must make no difference makes none, and equal models give equal fits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.regression.mixed_linear_model import MixedLM

import mixedar.formula.api as mar
import oracle
from mixedar import AR1, CAR1, MixedLMAR
from mixedar.exceptions import BoundaryWarning

Array = NDArray[np.float64]


def simulate(
    seed: int,
    m: int = 30,
    size: int = 6,
    rho: float = 0.5,
    *,
    sd: tuple[float, float] = (1.0, 0.5),
    keep: float = 1.0,
) -> pd.DataFrame:
    """Random intercept and slope on time, AR(1) residuals."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(m, size))
    for k in range(1, size):
        noise[:, k] = rho * noise[:, k - 1] + np.sqrt(1 - rho**2) * noise[:, k]
    group = np.repeat(np.arange(m), size)
    time = np.tile(np.arange(size), m)
    b = rng.normal(size=(2, m))[:, group]
    x = rng.normal(size=m * size)
    y = 1.0 + 0.3 * x + sd[0] * b[0] + (0.2 + sd[1] * b[1]) * time + noise.ravel()
    data = pd.DataFrame({"y": y, "x": x, "t": time, "id": group})
    data["arm"] = np.where(group % 2 == 0, "control", "drug")
    return data[rng.uniform(size=len(data)) < keep].reset_index(drop=True)


BASE: dict[str, Any] = {"groups": "id", "re_formula": "~ t", "time": "t"}


def build(data: pd.DataFrame, formula: str = "y ~ x + t + arm", **options: Any) -> Any:
    return mar.mixedlm(formula, data, **{**BASE, **options})


def fit(data: pd.DataFrame, formula: str = "y ~ x + t + arm", **options: Any) -> Any:
    reml = options.pop("reml", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        return build(data, formula, **options).fit(reml=reml)


@cache
def _data() -> pd.DataFrame:
    return simulate(3, m=40, size=7, rho=0.6, keep=0.85)


@pytest.fixture
def data() -> pd.DataFrame:
    return _data().copy()


@cache
def base() -> Any:
    result = fit(_data())
    assert not result.at_boundary
    return result


def assert_same_fit(
    found: Any, expected: Any, *, names: bool = True, tolerance: float = 1e-6
) -> None:
    """Equal estimates, standard errors and likelihood."""
    assert found.converged
    assert found.llf == pytest.approx(expected.llf, abs=1e-7)
    if names:
        assert list(found.params.index) == list(expected.params.index)
    kwargs: dict[str, Any] = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(found.params, expected.params, **kwargs)
    np.testing.assert_allclose(found.bse, expected.bse, **kwargs)
    assert found.scale == pytest.approx(expected.scale, rel=tolerance)
    np.testing.assert_array_equal(found.df_resid, expected.df_resid)


# Without correlation, statsmodels


@pytest.mark.parametrize("structure", [AR1(0.0, fixed=True), CAR1(1e-12, fixed=True)])
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("re_formula", ["1", "~ t"])
def test_no_correlation_is_statsmodels(
    data: pd.DataFrame, structure: Any, reml: bool, re_formula: str
) -> None:
    ours = fit(data, residual=structure, re_formula=re_formula, reml=reml)
    independent = fit(data, residual="independent", re_formula=re_formula, reml=reml)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = MixedLM.from_formula(
            "y ~ x + t + arm", data, groups="id", re_formula=re_formula
        ).fit(reml=reml, method=["bfgs", "cg"], gtol=1e-8)
    for found in (ours, independent):
        assert found.llf == pytest.approx(theirs.llf, abs=1e-6)
        np.testing.assert_allclose(found.fe_params, theirs.fe_params, rtol=1e-4)
        np.testing.assert_allclose(found.bse_fe, theirs.bse_fe, rtol=1e-3)
        np.testing.assert_allclose(found.cov_re, theirs.cov_re, rtol=5e-3, atol=1e-4)
        assert found.scale == pytest.approx(theirs.scale, rel=1e-3)
    assert ours.llf == pytest.approx(independent.llf, abs=1e-9)
    # the held parameter is not counted
    assert ours.aic == pytest.approx(independent.aic, abs=1e-8)


def test_ordinary_least_squares(data: pd.DataFrame) -> None:
    import statsmodels.formula.api as smf

    ours = fit(data, re_formula="0", residual="independent")
    ols = smf.ols("y ~ x + t + arm", data).fit()
    np.testing.assert_allclose(ours.params, ols.params, rtol=1e-10)
    np.testing.assert_allclose(ours.bse, ols.bse, rtol=1e-10)
    np.testing.assert_allclose(ours.pvalues, ols.pvalues, rtol=1e-8)
    ml = fit(data, re_formula="0", residual="independent", reml=False)
    assert ml.llf == pytest.approx(ols.llf)
    assert ml.aic == pytest.approx(ols.aic + 2)  # the variance counts as well


# Equal models


def test_car1_on_integers_is_ar1(data: pd.DataFrame) -> None:
    assert base().rho > 0.3
    car1 = fit(data, residual="car1")
    assert_same_fit(car1, base())
    np.testing.assert_allclose(car1.random_effects[3], base().random_effects[3],
                               rtol=1e-5, atol=1e-6)  # fmt: skip


def test_series_are_groups_without_random_effects(data: pd.DataFrame) -> None:
    data["half"] = (data["t"] > 3).astype(int)
    nested = fit(data, re_formula="0", series="half")
    own = fit(data.assign(id=data["id"] * 2 + data["half"]), re_formula="0")
    assert_same_fit(nested, own)
    labels = fit(data.assign(half=data["half"].map({0: "b", 1: "a"})), series="half",
                 re_formula="0")  # fmt: skip
    assert_same_fit(labels, nested)


def test_equal_series_labels_in_different_groups_are_different_series(
    data: pd.DataFrame,
) -> None:
    data["half"] = (data["t"] > 3).astype(int)
    data["unique"] = data["id"].astype(str) + "/" + data["half"].astype(str)
    assert_same_fit(fit(data, series="unique"), fit(data, series="half"))
    assert_same_fit(fit(data, series=["id", "half"]), fit(data, series="half"))


@pytest.mark.parametrize("structure", ["ar1", "car1"])
@pytest.mark.parametrize("reml", [True, False])
def test_gls_against_the_oracle(structure: Any, reml: bool) -> None:
    data = simulate(8, m=10, size=6, keep=0.8, sd=(0.0, 0.0))
    found = fit(data, "y ~ x", re_formula="0", residual=structure, reml=reml)
    assert found.k_re == 0
    X = np.column_stack([np.ones(len(data)), data["x"]])
    problem = oracle.Problem(
        data["y"].to_numpy(), X, data["id"].to_numpy(), time=data["t"].to_numpy()
    )
    value, at = oracle.maximize(problem, structure, reml)
    assert found.llf == pytest.approx(value, abs=1e-7)
    assert found.rho == pytest.approx(at.rho, abs=1e-4)


@pytest.mark.parametrize("reml", [True, False])
def test_nested_components_against_the_oracle(reml: bool) -> None:
    rng = np.random.default_rng(12)
    data = simulate(12, m=12, size=8, keep=0.9, sd=(1.0, 0.0))
    data["half"] = data["t"] // 4
    data["y"] += rng.normal(size=(12, 2))[data["id"], data["half"]]
    found = fit(
        data, "y ~ x", re_formula="1", vc_formula={"half": "0 + C(half)"}, reml=reml
    )
    problem = oracle.Problem(
        data["y"].to_numpy(),
        np.column_stack([np.ones(len(data)), data["x"]]),
        data["id"].to_numpy(),
        Z=np.ones((len(data), 1)),
        time=data["t"].to_numpy(),
        vc={"half": data["half"].to_numpy()},
    )
    value, at = oracle.maximize(problem, "ar1", reml)
    assert found.llf == pytest.approx(value, abs=1e-7)
    assert found.vcomp[0] == pytest.approx(at.vcomp["half"], rel=1e-3)
    assert found.rho == pytest.approx(at.rho, abs=1e-3)


def test_a_component_of_groups_is_a_random_intercept(data: pd.DataFrame) -> None:
    one = fit(data, re_formula="1")
    data["all"] = "same"
    component = fit(data, re_formula=None, vc_formula={"id": "0 + C(all)"})
    assert component.llf == pytest.approx(one.llf, abs=1e-8)
    assert component.vcomp[0] == pytest.approx(one.cov_re.iloc[0, 0], rel=1e-6)


def test_diagonal_covariances_in_both_spellings(data: pd.DataFrame) -> None:
    from statsmodels.regression.mixed_linear_model import MixedLMParams

    free = MixedLMParams.from_components(fe_params=np.ones(4), cov_re=np.eye(2))
    by_free = build(data).fit(free=free)
    by_name = fit(data, re_cov="diagonal")
    assert_same_fit(by_name, by_free)
    assert by_name.cov_re.iloc[0, 1] == 0.0
    assert by_name.df_modelwc == base().df_modelwc - 1
    assert by_name.llf < base().llf + 1e-9
    # two components are two uncorrelated effects
    data["all"] = 1
    parts = {"a": "0 + C(all)", "b": "0 + C(all):t"}
    components = fit(data, re_formula=None, vc_formula=parts)
    assert components.llf == pytest.approx(by_name.llf, abs=1e-8)


def test_arrays_and_formula(data: pd.DataFrame) -> None:
    one = np.ones(len(data))
    X = np.column_stack([one, data["arm"] == "drug", data["x"], data["t"]])
    model = MixedLMAR(
        data["y"].to_numpy(),
        X.astype(float),
        data["id"].to_numpy(),
        exog_re=np.column_stack([one, data["t"]]),
        time=data["t"].to_numpy(),
    )
    found = model.fit()
    assert found.llf == pytest.approx(base().llf, abs=1e-8)
    by_name = dict(zip(base().params.index, found.params, strict=False))
    order = base().fe_params.index.tolist()
    expected = base().fe_params
    positions = [
        ["Intercept", "arm[T.drug]", "x", "t"].index(name) for name in order
    ]
    np.testing.assert_allclose(found.params[:4][positions], expected, rtol=1e-6)
    assert len(by_name) == len(found.params)
    assert found.rho == pytest.approx(base().rho, rel=1e-6)


def test_without_time_the_order_of_rows_counts() -> None:
    data = simulate(4)
    assert_same_fit(fit(data, time=None), fit(data))
    mixed = data.sample(frac=1.0, random_state=2).sort_values("t", kind="stable")
    assert_same_fit(fit(mixed, time=None), fit(data))


# Invariances


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
        np.testing.assert_allclose(
            values, base().residuals(kind), rtol=1e-5, atol=1e-5
        )


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
    expected = fit(_data()[half])
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
    assert later.cov_re.loc["t", "t"] == pytest.approx(base().cov_re.loc["t", "t"], 1e-5)
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
        "objects": lambda: np.array([d.date() for d in start + pd.to_timedelta(k, "D")]),
        "bool": lambda: k,
        "decimal": lambda: k * 0.1,
    }[kind]()
    found = fit(data.assign(when=when), time="when")
    assert_same_fit(found, base())
    text = str(found.summary())
    unit = {
        "day": "1 day", "hour": "1 hour", "week": "1 week", "month": "1 month",
        "year": "1 year", "month end": "1 month", "quarter": "Q", "timedelta": "3 hours",
    }.get(kind)  # fmt: skip
    assert unit is None or unit in text


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
    assert found.fe_params["x"] * factor == pytest.approx(base().fe_params["x"], rel=1e-6)
    assert found.bse_fe["x"] * factor == pytest.approx(base().bse_fe["x"], rel=1e-6)
    # REML's constant depends on the units of X
    assert found.llf + np.log(factor) == pytest.approx(base().llf, abs=1e-6)
    other = ["Intercept", "t", "arm[T.drug]"]
    np.testing.assert_allclose(found.fe_params[other], base().fe_params[other], rtol=1e-6)
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
    data = _data()
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


# The best mode


def small_set(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng([77, seed])
    return simulate(
        seed=1000 + seed,
        m=int(rng.integers(15, 41)),
        size=int(rng.integers(4, 8)),
        rho=float(rng.uniform(-0.4, 0.9)),
        sd=(float(rng.uniform(0.2, 1.5)), float(rng.uniform(0.0, 0.6))),
        keep=float(rng.choice([1.0, 0.85])),
    )


GRID = (-0.9, -0.6, -0.3, 0.0, 0.2, 0.4, 0.6, 0.75, 0.9, 0.97)


@pytest.mark.parametrize("seed", range(40))
def test_no_better_mode_is_known(seed: int) -> None:
    data = small_set(seed)
    found = fit(data, "y ~ t")
    assert found.converged
    # many starts of another optimiser, on the likelihood of the oracle's kind
    model = build(data, "y ~ t")
    best = -np.inf
    for rho in GRID:
        for variance in (0.05, 1.0):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                start = [variance, 0.0, variance, rho]
                other = search_from(model, start)
            best = max(best, other)
    assert found.llf >= best - 1e-6


def search_from(model: Any, start: list[float]) -> float:
    """scipy's BFGS from one start, on the public log-likelihood and score."""
    from scipy import optimize

    model.use_sqrt = True  # the lower triangle of a root of Psi
    u = np.append(np.sqrt(start[:3]), np.arctanh(start[3]))
    u[1] = start[1]

    def objective(v: Array) -> tuple[float, Array]:
        rho = np.tanh(v[3])
        if abs(rho) > 1.0 - 1e-12:
            return 1e6, np.zeros(4)
        packed = np.append(v[:3], rho)
        try:
            value, slope = model.loglike(packed), model.score(packed)
        except np.linalg.LinAlgError:
            return 1e6, np.zeros(4)
        slope[3] *= 1.0 - rho**2
        return -value, -slope

    return -float(optimize.minimize(objective, u, jac=True, method="BFGS").fun)


@pytest.mark.parametrize("seed", range(0, 40, 8))
def test_modes_from_a_grid_of_fixed_parameters(seed: int) -> None:
    data = small_set(seed)
    found = fit(data, "y ~ t")
    profile = [
        fit(data, "y ~ t", residual=AR1(rho, fixed=True)).llf
        for rho in np.linspace(-0.95, 0.98, 40)
    ]
    assert found.llf >= max(profile) - 1e-8
    # and the free fit is on top of that profile
    at = fit(data, "y ~ t", residual=AR1(float(found.rho), fixed=True))
    assert at.llf == pytest.approx(found.llf, abs=1e-7)


@pytest.mark.parametrize("seed", [3, 21])
def test_the_oracle_finds_nothing_better(seed: int) -> None:
    data = small_set(seed)
    problem = oracle.Problem(
        data["y"].to_numpy(),
        np.column_stack([np.ones(len(data)), data["t"]]),
        data["id"].to_numpy(),
        Z=np.column_stack([np.ones(len(data)), data["t"]]),
        time=data["t"].to_numpy(),
    )
    value, _ = oracle.maximize(problem, "ar1", starts=(0.1, 0.7))
    assert fit(data, "y ~ t").llf >= value - 1e-6


def test_modes_are_distinct_and_sorted() -> None:
    several = 0
    for seed in range(40):
        modes = fit(small_set(seed), "y ~ t").modes
        llf = modes["llf"].to_numpy()
        assert (np.diff(llf) < -1e-7).all()
        assert modes["converged"].iloc[0]
        several += len(modes) > 1
    assert several >= 1


@pytest.mark.parametrize("residual", ["ar1", "car1"])
def test_random_walk_and_white_noise(residual: str) -> None:
    """The ends of the range: an answer, named, and no better one inside."""
    rng = np.random.default_rng(5)
    m, size = 20, 8
    for values in (rng.normal(size=(m, size)), rng.normal(size=(m, size)).cumsum(axis=1)):
        data = pd.DataFrame(
            {"y": values.ravel(), "id": np.repeat(np.arange(m), size),
             "t": np.tile(np.arange(size), m)}
        )  # fmt: skip
        found = fit(data, "y ~ 1", re_formula="0", residual=residual)
        assert np.isfinite(found.llf)
        for rho in (0.001, 0.1, 0.5, 0.9, 0.99, 0.9999):
            fixed = AR1(rho, fixed=True)
            other = fit(data, "y ~ 1", re_formula="0", residual=fixed)
            assert other.llf <= found.llf + 1e-6
