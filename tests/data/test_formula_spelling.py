"""Formulas of other programs are answered with what to write here, and that works."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula

import mixedar.formula.api as mar
from mixedar.exceptions import MixedARError, ResponseError, UnsupportedError

WHERE = {"entity": "firm", "time": "year"}


@pytest.fixture(params=["patsy", "formulaic"])
def data(request, monkeypatch) -> pd.DataFrame:
    options = statsmodels.formula.options
    monkeypatch.setattr(options, "formula_engine", request.param)
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {"firm": np.repeat(np.arange(12), 5), "year": np.tile(np.arange(5), 12)}
    )
    frame["size"], frame["y"] = rng.normal(3.0, 0.5, (2, 60))
    frame["k"] = rng.integers(1, 5, 60)
    frame["kind"] = rng.choice(["a", "b", "c"], 60)
    return frame


def message(formula: str, data: pd.DataFrame, build=mar.pooled, where=WHERE) -> str:
    with pytest.raises(MixedARError) as error:
        build(formula, data, eval_env={}, **where)
    return str(error.value)


# What R and Stata write, and what to write here; the latter is fitted.
SPELLINGS = {
    "y ~ factor(year)": "C(year)",
    "y ~ size + i.year": "C(year)",
    "y ~ ib3.year": "C(year, Treatment(3))",
    "y ~ ordered(year) + size": "C(year)",
    "y ~ k + c.size": "size",
    "y ~ ns(size, 3)": "cr(size, df=4, constraints='center')",
    "y ~ ns(size, df = 4)": "bs(size, df=5)",
    "y ~ s(size)": "bs(size, df=5)",
}


@pytest.mark.parametrize(("formula", "here"), SPELLINGS.items())
def test_factors_and_splines(data: pd.DataFrame, formula: str, here: str) -> None:
    assert f" {here}" in message(formula, data)
    assert np.isfinite(mar.pooled(f"y ~ {here}", data, **WHERE).fit().params).all()


@pytest.mark.parametrize(
    "call", ["log(size + 1)", "exp(size)", "sqrt(size)", "ceil(size)", "abs(size)"]
)
def test_functions_of_numpy(call: str) -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"firm": np.arange(40) // 4, "year": np.arange(40) % 4})
    data["size"], data["y"] = rng.uniform(1.0, 9.0, (2, 40))
    if call.startswith("abs"):  # Python has it
        return
    for formula in (f"{call} ~ y", f"y ~ {call}"):
        assert f"np.{call}" in message(formula, data)
        assert "import numpy as np" in message(formula, data)
    fit = mar.pooled(f"y ~ np.{call}", data, eval_env={"np": np}, **WHERE).fit()
    assert np.isfinite(fit.params).all()
    assert "import numpy as np" in message(f"y ~ np.{call}", data)


@pytest.mark.parametrize(
    ("formula", "parts"),
    [
        ("y ~ lag(size)", (".groupby(", "['size'].shift(1)")),
        ("y ~ lag(size, 2)", (".groupby(", "['size'].shift(2)")),
        ("y ~ L.size", (".groupby(", "['size'].shift(1)")),
        ("y ~ L2.size + k", (".groupby(", "['size'].shift(2)")),
        ("y ~ F.size", ("['size'].shift(-1)",)),
        ("y ~ D.size", ("['size'].diff()",)),
        ("y ~ diff(size)", ("['size'].diff()",)),
    ],
)
def test_lags(data: pd.DataFrame, formula: str, parts: tuple[str, ...]) -> None:
    found = message(formula, data)
    assert all(part in found for part in parts)


@pytest.mark.parametrize(
    ("formula", "here"),
    [
        ("y ~ size + EntityEffects", "effects='entity'"),
        ("y ~ size + EntityEffects + TimeEffects", "effects='entity'"),
        ("y ~ size + TimeEffects", "effects='time'"),
        ("y ~ as.factor(year)", "C(x)"),
        ("y ~ as.numeric(k)", "to_numeric"),
        ("y ~ kind##c.size", "a*b for a##b"),
        ("y ~ kind#year", "a:b for a#b"),
        ("y ~ .", "names of the columns"),
        ("y ~ relevel(kind, 'b')", "C(kind, Treatment("),
        ("y ~ ifelse(size > 2, 1, 0)", "np.where(size > 2, 1, 0)"),
        ("y ~ cut(size, 3)", "pandas.cut"),
        ("y ~ offset(k) + size", "I(y - k)"),
    ],
)
def test_other_programs(data: pd.DataFrame, formula: str, here: str) -> None:
    assert here in message(formula, data)


@pytest.mark.parametrize(
    "formula", ["y ~ I(k^2)", "y ~ size + I((k + 1)^2)", "I(y^2) ~ k", "y ~ k:I(k^2)"]
)
def test_exclusive_or_is_no_power(data: pd.DataFrame, formula: str) -> None:
    """Of whole numbers Python has an answer, which nobody means."""
    assert "**" in message(formula, data)
    squares = mar.pooled(formula.replace("^", "**"), data, **WHERE).fit()
    assert np.isfinite(squares.params).all()


def test_powers_between_terms(data: pd.DataFrame) -> None:
    if statsmodels.formula.options.formula_engine == "patsy":
        for formula in ("y ~ k^2", "y ~ (k + size)^2"):
            assert "**" in message(formula, data)
    fit = mar.pooled("y ~ (k + size)**2", data, **WHERE).fit()
    assert {"k", "size", "k:size"} < set(fit.params.index)


def test_bars(data: pd.DataFrame) -> None:
    for build, where, wanted in (
        (mar.fixed_effects, WHERE, ("entity='firm'", "effects='entity'")),
        (mar.by_group, {"groups": "firm"}, ("groups='firm'",)),
    ):
        found = message("y ~ size | firm", data, build, where)
        assert all(text in found for text in wanted)
    with pytest.raises(UnsupportedError, match=r"\(1 \| firm\)"):
        mar.mixedlm("y ~ size", data, groups="firm", re_formula="1 | firm")


@pytest.mark.parametrize("effects", ["0", "-1", "- 1"])
def test_bars_without_effects(data: pd.DataFrame, effects: str) -> None:
    for factor in ("firm", "gr(firm, cov=A)"):
        with pytest.raises(
            UnsupportedError, match=r"no effect is left .* write \(1 \|"
        ):
            mar.mixedlm(f"y ~ size + ({effects} | {factor})", data)


@pytest.mark.parametrize("formula", ["y ~ z", "y ~ I(2 * z)", "y ~ size + (z | firm)"])
def test_complex_columns(data: pd.DataFrame, formula: str) -> None:
    data = data.assign(z=data["size"] + 1j)
    with pytest.raises(MixedARError, match=r"complex values; .* write np.real\(z\)"):
        mar.mixedlm(formula, data, groups="firm")
    with pytest.raises(ResponseError, match=r"take a part of it, such as numpy.real"):
        mar.mixedlm("z ~ size", data, groups="firm")
    taken = mar.mixedlm("y ~ np.real(z)", data, groups="firm").exog[:, 1]
    np.testing.assert_array_equal(taken, data["size"])


def test_bars_in_calls_are_pythons(data: pd.DataFrame) -> None:
    formula = "y ~ I((k > 2) | (size > 3)) + I((k > 1) | (size > 4))"
    assert len(mar.pooled(formula, data, **WHERE).fit().params) == 3


def test_the_callers_own_functions_go_first(data: pd.DataFrame) -> None:
    def lag(values: pd.Series, steps: int) -> pd.Series:
        return values.shift(steps)

    log = np.log
    with pytest.warns(match="2 rows"):
        fit = mar.pooled("y ~ lag(k, 2) + log(size)", data, missing="drop", **WHERE)
    assert "log(size)" in fit.exog_names
    assert log(1.0) == 0.0


def test_names_in_backticks(data: pd.DataFrame) -> None:
    data = data.rename(columns={"size": "the size"})
    if statsmodels.formula.options.formula_engine == "patsy":
        assert "Q('a name')" in message("y ~ `the size`", data)
    fit = mar.pooled("y ~ Q('the size')", data, **WHERE).fit()
    assert len(fit.params) == 2


def test_unknown_names_still_have_near_matches(data: pd.DataFrame) -> None:
    assert re.search("Did you mean 'size'", message("y ~ sise", data))
