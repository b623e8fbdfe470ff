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
from mixedar.exceptions import BoundaryWarning

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
        found = table.loc[term, COLUMNS[1:]].astype(float)
        np.testing.assert_allclose(found, values, rtol=2e-5)


@pytest.mark.parametrize(
    ("formula", "summing"),
    [
        ("y ~ arm * sex * x", "y ~ C(arm, Sum) * C(sex, Sum) * x"),
        ("y ~ arm + sex:x", "y ~ C(arm, Sum) + C(sex, Sum):x"),
        ("y ~ 0 + arm * sex", "y ~ C(arm, Sum) * C(sex, Sum)"),
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


def test_the_data_are_not_needed() -> None:
    model = fit("y ~ arm * x")
    before = model.anova(type=3)
    model.remove_data()
    pd.testing.assert_frame_equal(model.anova(type=3), before)
    rng = np.random.default_rng(1)
    wide = pd.DataFrame({"id": np.repeat(np.arange(200), 2)})
    wide["t"] = np.tile([0, 1], 200)
    for name in "abcdefgh":
        wide[name] = pd.Categorical(rng.integers(0, 5, 400).astype(str))
    wide["y"] = rng.normal(size=400)
    # of 390,625 combinations of levels
    formula = "y ~ " + " + ".join("abcdefgh")
    table = fit(formula, wide, re_formula="0").anova(type=3)
    assert table["num_df"].to_list() == [1, *[4] * 8]


# One model, written in several ways: what a term is, is the engine's to say.
WAYS = [
    ("arm * sex + x", "0 + arm * sex + x"),
    ("arm * sex + x", "x + sex * arm - 1"),
    ("arm + sex", "0 + sex + arm"),
    ("arm:sex", "0 + arm:sex"),
    ("arm / sex + arm:x", "0 + arm / sex + arm:x"),
    ("C(dose) * arm", "0 + C(dose) * arm"),
    ("arm * x", 'Q("the arm") * Q("x, centred")'),
    ("arm * x", 'C(Q("the arm"), Sum) * Q("x, centred") - 1'),
    ("C(dose) * arm + x", 'C(Q("dose of it")) * Q("the arm") + x'),
    ("I(x ** 2) + sex * x", "I(x**2)+sex*x"),
    ("C(arm, Sum) * z", "C(arm,Sum)*z-1"),
    ("up * arm", "0 + up * arm"),
]


@pytest.mark.parametrize("kind", [2, 3])
@pytest.mark.parametrize(("one", "other"), WAYS)
def test_ways_to_write_a_model(one: str, other: str, kind: int) -> None:
    data = trial().assign(**{"x, centred": trial()["x"]})
    data["the arm"], data["dose of it"] = data["arm"], data["dose"]

    def table(formula: str) -> pd.DataFrame:
        found = fit("y ~ " + formula, data).anova(type=kind, df="kenward-roger")
        found.index = [_sorted(term) for term in found.index]
        return found.drop(index="Intercept", errors="ignore").sort_index()

    found, expected = table(other), table(one)
    assert list(found.index) == list(expected.index)
    np.testing.assert_allclose(found[COLUMNS], expected[COLUMNS], rtol=1e-5)


def _sorted(term: str) -> str:
    for long, short in {
        'C(Q("the arm"), Sum)': "arm",
        'C(Q("dose of it"))': "C(dose)",
        'Q("the arm")': "arm",
        'Q("x, centred")': "x",
    }.items():
        term = term.replace(long, short).replace(long.replace('"', "'"), short)
    return ":".join(sorted(term.split(":")))


def test_no_intercept_by_hand() -> None:
    """Each contrast of cell means that a hypothesis of type III stands for."""
    model = fit("y ~ 0 + arm:sex")
    names = list(model.fe_params.index)
    cells = pd.DataFrame(
        [[arm, sex] for sex in "fm" for arm in "abc"], columns=["arm", "sex"]
    )
    assert names == [f"arm[{arm}]:sex[{sex}]" for arm, sex in cells.to_numpy()]
    full = fit("y ~ 0 + sex * arm")
    for name, levels in {"arm": "abc", "sex": "fm"}.items():
        means = [np.where(cells[name] == v, 1.0, 0.0) for v in levels]
        rows = np.array([means[0] - mean for mean in means[1:]])
        for df in ("satterthwaite", "kenward-roger"):
            expected = model.f_test(rows, df=df)
            row = full.anova(df=df).loc[name]
            assert row.num_df == expected.df_num
            np.testing.assert_allclose(row.F, expected.fvalue, rtol=1e-5)


def test_levels_of_one_factor_in_two_codings() -> None:
    expected = fit("y ~ sex * x").anova()
    found = fit("y ~ C(sex, Sum) + x + sex:x").anova()
    np.testing.assert_allclose(found[COLUMNS], expected[COLUMNS], rtol=2e-5)
    # levels in another order, and a condition is a factor like any other
    one = fit("y ~ C(arm, levels=['c', 'a', 'b']) * x").anova()
    np.testing.assert_allclose(one[COLUMNS], fit("y ~ arm * x").anova()[COLUMNS], 2e-5)
    data = trial().assign(high=np.where(trial()["z"] > 0, "yes", "no"))
    one = fit("y ~ I(z > 0) * arm", data).anova()
    other = fit("y ~ high * arm", data).anova()
    np.testing.assert_allclose(one[COLUMNS], other[COLUMNS], rtol=2e-5)


def test_a_factor_of_one_level() -> None:
    data = trial().assign(site="only")
    row = fit("y ~ 0 + site + x", data).anova().loc["site"]
    assert row.num_df == 0
    assert np.isnan(row.F)
    assert "one level" in row.note


@pytest.mark.parametrize("formula", ["0 + arm * sex + x", "sex:x + arm*x + up"])
def test_formulaic_has_the_same_terms(
    formula: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {kind: fit("y ~ " + formula).anova(type=kind) for kind in (1, 2, 3)}
    monkeypatch.setattr(statsmodels.formula.options, "formula_engine", "formulaic")
    for kind, table in expected.items():
        found = fit("y ~ " + formula).anova(type=kind)
        assert list(found.index) == list(table.index)
        np.testing.assert_allclose(found[COLUMNS], table[COLUMNS], rtol=2e-5)
