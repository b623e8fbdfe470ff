"""Hypotheses of type III: lmerTest's, and whatever the coding."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula

import mixedar.formula.api as mar
from helpers.reference_cases import load
from mixedar import MixedLMAR
from mixedar.exceptions import BoundaryWarning, NotComputedError, UnsupportedError
from mixedar.inference.terms import type_three

# lmerTest 3.1-3, anova(lmer(grain ~ nitro * variety + (1 | block)), type = "III") on
# nlme's Oats without the rows 1, 5, 6, 20, 33, 50, 51, 70: DenDF, F, p
LMERTEST = {
    "satterthwaite": {
        "nitro": (53.0736709133, 61.0642394897, 2.19694420322e-10),
        "variety": (53.0540515266, 2.32818379271, 0.107353757221),
        "nitro:variety": (52.9713320380, 0.623831692341, 0.539777465674),
    },
    "kenward-roger": {
        "nitro": (53.2203349545, 60.9538516034, 2.21568362856e-10),
        "variety": (53.2014283806, 2.32246459104, 0.107892572774),
        "nitro:variety": (53.1209308024, 0.623035209975, 0.540186857555),
    },
}
COLUMNS = ["num_df", "den_df", "F", "p"]


@cache
def oats() -> pd.DataFrame:
    data = load("oats_nested_reml").data
    return data.drop(index=data.index[[0, 4, 5, 19, 32, 49, 50, 69]])


@cache
def trial() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    m, n = 24, 5
    group = np.repeat(np.arange(m), n)
    data = pd.DataFrame({"id": group, "t": np.tile(np.arange(n), m)})
    data["arm"] = np.array(["a", "b", "c"])[group % 3]
    data["sex"] = np.array(["f", "m"])[rng.integers(0, 2, m)[group]]
    data["dose"] = rng.choice([1, 2], m * n)
    data["up"] = rng.uniform(size=m * n) < 0.4
    data["x"], data["z"] = rng.normal(size=(2, m * n))
    data["y"] = data["x"] + rng.normal(size=m)[group] + rng.normal(size=m * n)
    return data[rng.uniform(size=m * n) < 0.85]


def fit(formula: str, data: pd.DataFrame | None = None, **options: Any) -> Any:
    options = {"groups": "id", "time": "t", "residual": "independent", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        return mar.mixedlm(formula, trial() if data is None else data, **options).fit()


@pytest.mark.parametrize("df", LMERTEST)
def test_lmertest(df: str) -> None:
    model = mar.mixedlm(
        "grain ~ nitro * variety", oats(), groups="block", residual="independent"
    )
    table = model.fit().anova(type=3, df=df)
    for term, values in LMERTEST[df].items():
        np.testing.assert_allclose(table.loc[term, COLUMNS[1:]], values, rtol=2e-5)


@pytest.mark.parametrize(
    ("formula", "summing"),
    [
        ("y ~ arm * sex * x", "y ~ C(arm, Sum) * C(sex, Sum) * x"),
        ("y ~ arm + sex:x", "y ~ C(arm, Sum) + C(sex, Sum):x"),
        ("y ~ 0 + arm * sex", "y ~ 0 + C(arm, Sum) * C(sex, Sum)"),
        ("y ~ arm + arm:sex", "y ~ C(arm, Sum) + C(arm, Sum):C(sex, Sum)"),
        ("y ~ arm:x - 1", "y ~ C(arm, Sum):x - 1"),
        (
            "y ~ C(dose) * arm + np.exp(x) * arm",
            "y ~ C(dose, Sum) * C(arm, Sum) + np.exp(x) * C(arm, Sum)",
        ),
        (
            "y ~ C(arm, Treatment('b')) * C(sex, Helmert) + z:x",
            "y ~ C(arm, Sum) * C(sex, Sum) + z:x",
        ),
        ("y ~ up * arm", "y ~ C(up, Sum) * C(arm, Sum)"),
        ("y ~ bs(x, df=4) * arm", "y ~ bs(x, df=4) * C(arm, Sum)"),
        ("y ~ center(x) * arm + z", "y ~ center(x) * C(arm, Sum) + z"),
    ],
)
def test_coefficients_that_sum_to_zero(formula: str, summing: str) -> None:
    found = fit(formula).anova(type=3)
    expected = fit(summing).anova(type="marginal")

    def plain(term: str) -> frozenset[str]:
        for name in ("arm", "sex", "dose", "up"):
            term = term.replace(f"C({name}, Sum)", name).replace(f"C({name})", name)
            term = term.replace(f"C({name}, Treatment('b'))", name)
            term = term.replace(f"C({name}, Helmert)", name)
        return frozenset(term.split(":"))

    found.index = [plain(term) for term in found.index]
    expected.index = [plain(term) for term in expected.index]
    np.testing.assert_allclose(
        found[["num_df", "F"]], expected.loc[found.index, ["num_df", "F"]], rtol=2e-5
    )


def test_reference_level_does_not_matter() -> None:
    one = fit("y ~ arm * x").anova(df="kenward-roger")
    other = fit("y ~ C(arm, Treatment('c')) * x").anova(df="kenward-roger")
    np.testing.assert_allclose(one[COLUMNS], other[COLUMNS], rtol=2e-5)
    # the coefficients as they are do depend on it
    one, other = (
        fit(f"y ~ {arm} * x").anova(type="marginal")
        for arm in ("arm", "C(arm, Treatment('c'))")
    )
    assert abs(one.F["x"] - other["F"].iloc[2]) > 1e-3


def test_without_factors_it_is_marginal() -> None:
    for formula in ("y ~ x * z", "y ~ x"):
        model = fit(formula)
        np.testing.assert_allclose(
            model.anova()[COLUMNS], model.anova(type="marginal")[COLUMNS], rtol=1e-8
        )


def test_order_of_rows_and_scale() -> None:
    one = fit("y ~ arm * x")
    data = trial().sample(frac=1.0, random_state=2)
    other = fit("y ~ arm * x", data.assign(y=10.0 * data["y"]))
    np.testing.assert_allclose(one.anova()[COLUMNS], other.anova()[COLUMNS], rtol=2e-5)


def test_formulaic(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fit("y ~ arm * sex + x").anova()
    monkeypatch.setattr(statsmodels.formula.options, "formula_engine", "formulaic")
    found = fit("y ~ arm * sex + x").anova()
    np.testing.assert_allclose(
        found[COLUMNS], expected.loc[found.index, COLUMNS], rtol=2e-5
    )


def test_arrays_have_a_term_a_column() -> None:
    data = trial()
    x = np.column_stack([np.ones(len(data)), data["x"]])
    model = MixedLMAR(data["y"], x, data["id"], time=data["t"]).fit()
    assert model.anova(type=3)["F"].equals(model.anova(type="marginal")["F"])


def test_named_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fit("y ~ arm * x")
    model.anova(type=3)
    model.remove_data()
    with pytest.raises(NotComputedError, match=r"data were removed.*type=2"):
        model.anova(type=3)
    assert np.isfinite(model.anova(type=2)["F"]).all()
    rng = np.random.default_rng(1)
    wide = pd.DataFrame({"id": np.repeat(np.arange(200), 2)})
    wide["t"] = np.tile([0, 1], 200)
    for name in "abcdefgh":
        wide[name] = pd.Categorical(rng.integers(0, 5, 400).astype(str))
    wide["y"] = rng.normal(size=400)
    # the grid is one term's, not all factors'
    formula = "y ~ " + " + ".join("abcdefgh")  # of 390,625 combinations
    table = fit(formula, wide, re_formula="0").anova(type=3)
    assert table["num_df"].to_list() == [1, *[4] * 8]
    monkeypatch.setattr(type_three, "_LARGEST_GRID", 4)
    with pytest.raises(UnsupportedError, match="'a' have 5 combinations"):
        fit("y ~ a", wide, re_formula="0").anova(type=3)
