"""What a smooth can be written of, and what errors say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.cli.no_eval import check_formula
from mixedar.exceptions import MissingDataError, MixedARError, UnsupportedError


def arms(n: int = 160) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    data = pd.DataFrame(
        {
            "id": np.repeat(np.arange(n // 8), 8),
            "time": np.tile(np.arange(8), n // 8),
            "x": rng.normal(size=n),
        }
    )
    data["arm"] = np.array(["a", "b", "c"])[data["id"] % 3]
    data["y"] = 2.0 * np.sin(data["time"] / 1.3) * (data["id"] % 3 + 1.0) + rng.normal(
        size=n
    )
    data["y"] += 1.5 * rng.normal(size=n // 8)[data["id"]]
    data["one"] = 1.0
    return data


def fitted(formula: str, data: Any = None, **options: Any) -> Any:
    data = arms() if data is None else data
    return mar.mixedlm(f"{formula} + (1 | id)", data, time="time", **options).fit()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ arm * s(time, k=5)", r"write arm \+ s\(time, k=5, by=arm\)"),
        ("y ~ s(time):arm", r"write arm \+ s\(time, by=arm\)"),
        ("y ~ s(time) * s(x)", r"te\(x, z\)"),
        ("y ~ s(y)", "is the response"),
        ("y ~ s(time, by=y)", "is the response"),
        ("y ~ s(time, k=9)", "write k=8 or less"),
        ("y ~ s(time, k=2)", "takes 3 or more"),
        ('y ~ s(time, k="many")', "is not a number of basis functions"),
        ("y ~ s(one)", "one value only, 1"),
        ("y ~ s(arm)", "covariates have to be numbers"),
        ("y ~ s(nothing)", "'nothing'"),
        ("y ~ s(time, k=5, by=nothing)", "by='nothing' is not a column"),
        ("y ~ s(time, k=5, by=C(arm))", "write by=arm"),
        ("y ~ arm + s(time, k=5) + s(time, k=5, by=arm)", "ordered factor"),
        ("y ~ s(time, k=5, colour=2)", "a smooth takes k=, bs= and by="),
        ("y ~ x - s(time)", "leave it out"),
    ],
)
def test_error_says_how_it_is_written(formula: str, message: str) -> None:
    with pytest.raises(MixedARError, match=message):
        fitted(formula)


@pytest.mark.filterwarnings("ignore::mixedar.exceptions.DroppedRowsWarning")
@pytest.mark.parametrize("name", ["time", "arm"])
def test_missing_values(name: str) -> None:
    data = arms().astype({"time": float})
    data.loc[[2, 9], name] = None
    with pytest.raises(MissingDataError, match=name):
        fitted("y ~ arm + s(time, by=arm, k=5)", data)
    dropped = fitted("y ~ arm + s(time, by=arm, k=5)", data, missing="drop")
    kept = fitted("y ~ arm + s(time, by=arm, k=5)", data.dropna())
    assert dropped.nobs == len(data) - 2
    np.testing.assert_allclose(dropped.llf, kept.llf, rtol=1e-12)


def test_new_rows() -> None:
    fit = fitted("y ~ s(time, by=arm, k=5)")
    new = pd.DataFrame({"time": [2.0, np.nan, 3.0], "arm": ["a", "a", None]})
    found = fit.predict(new)
    assert np.isfinite(found[0])
    assert found[1:].isna().all()
    for name, rows in (("time", new.iloc[:2]), ("arm", new.iloc[[0, 2]])):
        with pytest.raises(MissingDataError, match=name):
            fit.get_prediction(rows)
    strange = new.head(1).assign(arm="zz")
    for ask in (fit.predict, fit.get_prediction):
        with pytest.raises(UnsupportedError, match=r"'zz' of 'arm'.*a, b, c"):
            ask(strange)
    with pytest.raises(UnsupportedError, match="'zz'"):
        fit.marginal_means("arm", at={"arm": ["zz"], "time": 3})
    beyond = new.iloc[[0, 0, 0]].assign(time=[9.0, 10.0, 11.0])  # as a straight line
    np.testing.assert_allclose(np.diff(fit.predict(beyond), n=2), 0.0, atol=1e-9)
    with pytest.raises(UnsupportedError, match=r"s\(time\):arma.*pass rows of data"):
        fit.predict(np.ones((2, len(fit.fe_params))), transform=False)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_cyclic_smooths_have_no_fixed_part_to_notice_what_is_missing() -> None:
    fit = fitted('y ~ s(time, by=arm, bs="cc", k=6)')
    new = arms().head(2).assign(arm=[None, "a"])
    for level in ("population", "group"):
        with pytest.raises(MissingDataError, match="arm"):
            fit.get_prediction(new, level)


def test_ordered_factor_has_no_smooth_of_its_first_level() -> None:
    kind = pd.CategoricalDtype(["b", "a", "c", "none"], ordered=True)
    fit = fitted(
        "y ~ arm + s(time, k=5) + s(time, by=arm, k=5)", arms().astype({"arm": kind})
    )
    assert "s(time):arma Var" in fit.params
    assert "s(time):armb Var" not in fit.params
    base = fit.predict(pd.DataFrame({"arm": ["b"], "time": [3]}))
    assert np.isfinite(base).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_kinds_of_by() -> None:
    data = arms()
    plain = fitted("y ~ arm + s(time, by=arm, k=5)", data)
    kind = pd.CategoricalDtype(["c", "b", "a", "none"])
    other = fitted("y ~ arm + s(time, by=arm, k=5)", data.astype({"arm": kind}))
    np.testing.assert_allclose(other.llf, plain.llf, rtol=1e-12)
    truth = fitted("y ~ a + s(time, by=a, k=5)", data.assign(a=data["arm"] == "a"))
    assert {"s(time):aFalse Var", "s(time):aTrue Var"} <= set(truth.params.index)
    number = fitted("y ~ s(time, by=x, k=5)", data)
    twice = number.predict(data.head(1).assign(x=2.0))[0]
    once, none = (number.predict(data.head(1).assign(x=v))[0] for v in (1.0, 0.0))
    np.testing.assert_allclose(twice - none, 2.0 * (once - none), rtol=1e-8)
    subset = fitted("y ~ s(time, by=arm, k=5)", data, subset=data["arm"] != "c")
    assert "s(time):armc Var" not in subset.params


def test_frames_of_polars() -> None:
    polars = pytest.importorskip("polars")
    data = arms()
    fit = fitted("y ~ s(time, by=arm, k=5)", polars.from_pandas(data))
    plain = fitted("y ~ s(time, by=arm, k=5)", data)
    np.testing.assert_allclose(fit.llf, plain.llf, rtol=1e-12)
    found = fit.predict(polars.from_pandas(data.head(4)))
    np.testing.assert_allclose(found, plain.predict(data.head(4)), rtol=1e-10)


def test_formulas_without_python() -> None:
    check_formula('y ~ s(time, by=arm, k=7, bs="cr") + te(x, time)', arms().columns)
    with pytest.raises(UnsupportedError, match="not allowed"):
        check_formula("y ~ s(__import__(time))", arms().columns)
