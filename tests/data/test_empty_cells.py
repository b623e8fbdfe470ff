"""Levels, and combinations of levels, without rows have no coefficient."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import mixedar.formula.api as mar
from mixedar.datasets import load_orthodont
from mixedar.exceptions import (
    MixedARError,
    NotComputedError,
    RankDeficiencyError,
    UnsupportedError,
)
from mixedar.numeric.linalg import dependent_columns, pivoted_rank, r_factor

ALONE = {"groups": "id", "time": "t", "residual": "independent"}
WHERE = {"entity": "id", "time": "t"}


@pytest.fixture
def data() -> pd.DataFrame:
    rng = np.random.default_rng(21)
    n, t = 36, 4
    frame = pd.DataFrame(
        {"id": np.repeat(np.arange(n), t), "t": np.tile(np.arange(t), n)}
    )
    frame["x"] = rng.normal(size=n * t)
    arms = np.array(["placebo", "low", "high"])[frame["id"] % 3]
    frame["arm"] = pd.Categorical(arms, ["placebo", "low", "high", "never"])
    frame["ward"] = pd.Categorical(rng.choice(["a", "b", "c"], n * t))
    effect = frame["arm"].cat.codes * 0.3 * frame["t"]
    frame["y"] = effect + rng.normal(size=n)[frame["id"]] + rng.normal(size=n * t)
    return frame


def removed(frame: pd.DataFrame) -> pd.DataFrame:
    """The right answer: unused levels taken off by hand."""
    frame = frame.copy()
    for name in ("arm", "ward"):
        frame[name] = frame[name].cat.remove_unused_categories()
    return frame


def formulas(data: pd.DataFrame, missing: str = "none", **more) -> dict[str, pd.Series]:
    """Estimates of all kinds of models."""
    more = {**more, "missing": missing}
    model = "y ~ x * arm"
    effects = mar.fixed_effects(model, data, **WHERE, **more).fit()
    return {
        "mixed": mar.mixedlm(model, data, **ALONE, **more).fit().params,
        "slopes": mar.mixedlm("y ~ x", data, re_formula="~ ward", **ALONE, **more)
        .fit()
        .params,
        "components": mar.mixedlm(
            "y ~ x", data, vc_formula={"w": "0 + ward"}, **ALONE, **more
        )
        .fit()
        .params,
        "pooled": mar.pooled(model, data, **WHERE, **more).fit().params,
        "effects": effects.params,
        "random": mar.random_effects(model, data, **WHERE, **more).fit().params,
        "groups": mar.by_group("y ~ t + ward", data, "id", **more).params.stack(),
    }


@pytest.mark.filterwarnings("ignore::mixedar.exceptions.MixedARWarning")
@pytest.mark.parametrize("gone", ["placebo", "high"])
@pytest.mark.parametrize("how", ["filtered", "subset", "missing"])
def test_levels_without_rows_are_left_out(
    data: pd.DataFrame, gone: str, how: str
) -> None:
    keep = (data["arm"] != gone) & (data["ward"] != "b")
    right = formulas(removed(data[keep]))
    if how == "filtered":
        found = formulas(data[keep])
    elif how == "subset":
        found = formulas(data, subset=keep)
    else:
        found = formulas(data.assign(y=data["y"].where(keep)), missing="drop")
    for kind, expected in right.items():
        got = found[kind].reindex(expected.index)
        assert len(found[kind].dropna()) == len(expected.dropna()), kind
        assert_allclose(got, expected, rtol=1e-5, atol=1e-6, err_msg=kind)


def test_summaries_name_the_levels(data: pd.DataFrame) -> None:
    some = data[data["arm"] != "low"]
    note = "Levels of arm without rows, left out: low, never."
    for fit in (
        mar.mixedlm("y ~ arm", some, **ALONE).fit(),
        mar.pooled("y ~ arm", some, **WHERE).fit(),
    ):
        assert note in " ".join(str(fit.summary()).split())
    own = mar.by_group("y ~ t + ward", data[data["ward"] != "a"], "arm")
    assert "Levels of ward without rows, left out: a." in " ".join(
        str(own.summary()).split()
    )


@pytest.mark.parametrize("gone", ["placebo", "high"])
def test_names_in_quotes(data: pd.DataFrame, gone: str) -> None:
    some = data[data["arm"] != gone]
    right = mar.pooled("y ~ arm * x", removed(some), **WHERE).fit().params
    for formula in ("y ~ Q('arm') * Q( \"x\" )", "y~C(Q('arm'))*x"):
        found = mar.pooled(formula, some, **WHERE).fit().params
        assert_allclose(np.sort(found), np.sort(right))
    decimals = data.assign(x=data["x"].astype(object))
    with pytest.raises(MixedARError, match="dtype object"):
        mar.pooled("y ~ t + Q('x')", decimals, **WHERE)


def test_a_lag_that_takes_the_last_rows_of_a_level(data: pd.DataFrame) -> None:
    def lag(v: pd.Series) -> pd.Series:
        return v.shift(4)

    data = data.assign(first=np.where(data.index < 4, "yes", "no"))
    with pytest.warns(match="4 rows"):
        fit = mar.pooled("y ~ lag(x) + first", data, **WHERE, missing="drop").fit()
    assert list(fit.params.index) == ["Intercept", "lag(x)"]


def test_a_cell_without_rows_against_cell_means(data: pd.DataFrame) -> None:
    some = removed(data[(data["arm"] != "low") | (data["t"] != 2)])
    some["cell"] = some["arm"].astype(str) + some["t"].astype(str)
    right = mar.mixedlm("y ~ 0 + cell + x", some, **ALONE).fit(reml=False)
    for formula in (
        "y ~ arm*C(t) + x",
        "y ~ C(arm, Sum)*C(t, Sum) + x",
        "y ~ 0 + arm:C(t) + x",
        "y ~ C(t) / arm + x",
    ):
        fit = mar.mixedlm(formula, some, **ALONE).fit(reml=False)
        assert fit.llf == pytest.approx(right.llf, abs=1e-6)
        assert len(fit.fe_params) == 12
        assert_allclose(fit.predict(some), right.predict(some), atol=1e-5)
        assert "Columns left out" in str(fit.summary())


def test_cells_of_random_effects(data: pd.DataFrame) -> None:
    some = removed(data[(data["arm"] != "low") | (data["ward"] != "b")])
    some["shop"] = np.arange(len(some)) % 12
    model = mar.mixedlm(
        "y ~ x",
        some,
        groups="shop",
        residual="independent",
        re_formula="~ arm * ward",
    )
    assert len(model.exog_re.T) == 8


def test_cells_of_variance_components(data: pd.DataFrame) -> None:
    some = data[(data["ward"] != "a") & ((data["ward"] != "b") | (data["t"] % 2 == 0))]
    some = some.assign(even=np.where(some["t"] % 2 == 0, "yes", "no"))
    components = {"bed": "0 + ward:even"}
    where = {"re_formula": "1", "vc_formula": components, **ALONE}
    fit = mar.mixedlm("y ~ x", some, **where).fit()
    some["bed"] = some["ward"].astype(str) + some["even"]
    where["vc_formula"] = {"bed": "0 + bed"}
    right = mar.mixedlm("y ~ x", some, **where).fit()
    assert fit.llf == pytest.approx(right.llf, abs=1e-6)
    assert fit.random_effects_frame().shape == right.random_effects_frame().shape
    assert_allclose(fit.predict(some), right.predict(some), atol=1e-5)


def test_prediction_needs_rows(data: pd.DataFrame) -> None:
    some = removed(data[(data["arm"] != "low") | (data["t"] != 2)])
    fit = mar.mixedlm("y ~ C(arm, Sum) * C(t)", some, **ALONE).fit()
    panel = mar.pooled("y ~ arm * C(t)", some, **WHERE).fit()
    new = pd.DataFrame({"arm": ["high", "low"], "t": [2, 2]}, index=["p", "q"])
    for predict in (fit.predict, panel.predict):
        assert np.isfinite(predict(new[:1])).all()
        with pytest.raises(UnsupportedError, match=r"row 'q'.*left out: .*arm"):
            predict(new)


def test_means_over_cells_without_rows_are_unknown(data: pd.DataFrame) -> None:
    some = removed(data[(data["arm"] != "low") | (data["t"] != 2)])
    fit = mar.mixedlm("y ~ arm * C(t)", some, **ALONE).fit()
    table = fit.marginal_means("arm").to_frame().set_index("arm")
    assert np.isnan(table.loc["low", "mean"])
    assert table.loc[["placebo", "high"], "mean"].notna().all()
    held = fit.marginal_means("arm", at={"t": [0, 1, 3]})
    cells = fit.marginal_means(["arm", "t"]).to_frame().set_index(["arm", "t"])["mean"]
    expected = [cells[arm][[0, 1, 3]].mean() for arm in ("placebo", "low", "high")]
    assert_allclose(held.to_frame()["mean"], expected)
    pairs = fit.marginal_means("arm").pairwise().set_index("contrast")
    assert pairs["p_adjusted"].notna().sum() == 1
    contrast = fit.marginal_means("arm").contrast([1, 0, -1])
    assert np.isfinite(contrast["difference"]).all()
    with pytest.raises(NotComputedError, match="at="):
        fit.marginal_means("arm", at={"t": 2, "arm": ["low"]}).to_frame()


def test_type_three_is_lmertest_s() -> None:
    """
    R 4.2, lmerTest: anova(lmer(distance ~ sex * factor(age) + (1|subject)), type=3).

    The girls of 14 are left out.
    """
    teeth = load_orthodont()
    teeth = teeth[(teeth["sex"] == "Male") | (teeth["age"] < 14)]
    for formula in (
        "distance ~ sex * C(age)",
        "distance ~ C(sex, Sum) * C(age, Helmert)",
    ):
        fit = mar.mixedlm(formula, teeth, groups="subject", residual="independent")
        table = fit.fit().anova(df="normal").iloc[1:]
        assert_array_equal(table["num_df"], [1, 3, 2])
        expected = [6.731790629, 31.632072635, 0.979318016]
        assert_allclose(table["F"], expected, rtol=1e-5)


def test_type_three_of_slopes_in_cells(data: pd.DataFrame) -> None:
    """The term of highest order: all its coefficients that are left are zero."""
    some = removed(data[(data["arm"] != "low") | (data["ward"] != "b")])
    large = mar.mixedlm("y ~ x * arm * ward", some, **ALONE).fit()
    table = large.anova()
    assert list(table["num_df"]) == [1, 1, 2, 2, 2, 2, 3, 3]
    last = [name for name in large.fe_params.index if name.count(":") == 2]
    test = large.wald_test(
        np.eye(len(large.fe_params))[
            [list(large.fe_params.index).index(k) for k in last]
        ],
        use_f=True,
        scalar=True,
    )
    assert table["F"].iloc[-1] == pytest.approx(float(test.fvalue))


def test_other_dependent_columns_are_refused(data: pd.DataFrame) -> None:
    data = removed(data).assign(x2=lambda d: 3.0 * d["x"], pill=lambda d: d["arm"])
    for formula, column in (("y ~ arm + x + x2", "x2"), ("y ~ arm + C(pill)", "pill")):
        with pytest.raises(RankDeficiencyError, match=column):
            mar.mixedlm(formula, data, **ALONE)


@pytest.mark.parametrize(
    "values",
    [
        lambda x: x.astype(object),
        lambda x: x.map(lambda v: Decimal(str(round(v, 3)))),
        lambda x: x.astype(object).where(x.index > 0, None),
        lambda x: x.round(6).astype(str),
    ],
)
def test_numbers_that_are_not_are_named(data: pd.DataFrame, values) -> None:
    data = data.assign(x=values(data["x"]))
    for formula in ("y ~ x", "y ~ arm:x + t", "y ~ t + x"):
        for build in (
            lambda f: mar.mixedlm(f, data, **ALONE, missing="drop"),
            lambda f: mar.fixed_effects(f, data, **WHERE, missing="drop"),
            lambda f: mar.by_group(f, data, "id", missing="drop"),
        ):
            with pytest.raises(
                MixedARError, match=r"'x'.*dtype (object|str).*levels"
            ) as e:
                build(formula)
            assert len(str(e.value)) < 400
    data["x"] = pd.to_numeric(data["x"], errors="coerce")  # what the message says
    assert np.isfinite(mar.pooled("y ~ x", data.dropna(), **WHERE).fit().params).all()


def test_messages_list_a_handful_of_columns(data: pd.DataFrame) -> None:
    for k in range(40):
        data[f"copy{k}"] = data["x"]
    formula = "y ~ x + " + " + ".join(f"copy{k}" for k in range(40))
    for build in (
        lambda: mar.mixedlm(formula, data, **ALONE),
        lambda: mar.pooled(formula, data, **WHERE).fit(),
    ):
        with pytest.raises(RankDeficiencyError, match="copy0") as error:
            build()
        assert len(str(error.value)) < 600


@pytest.mark.parametrize("p", [3, 40, 90, 200])
@pytest.mark.parametrize("sparse", [False, True])
def test_dependent_columns_are_the_later_ones(p: int, sparse: bool) -> None:
    rng = np.random.default_rng(p)
    n = 2 * p
    x = rng.normal(size=(n, p))
    if sparse:  # dummies
        x = (np.arange(n)[:, None] % p == np.arange(p)) * 1.0
        x[:, 0] = 1.0
    expected = []
    for j in sorted({p - 1, p // 2, 2}):
        i, k = rng.integers(0, min(j, 2), 2)
        x[:, j] = x[:, i] * 2.0 + x[:, k]
        expected.append(j)
    x *= 10.0 ** rng.integers(-3, 4, p)
    kept = np.delete(np.arange(p), expected)
    scaled = x / np.sqrt((x**2).sum(axis=0))
    assert np.linalg.matrix_rank(scaled[:, kept]) == len(kept)
    assert_array_equal(dependent_columns(x), expected)
    rank, found = pivoted_rank(r_factor(x))
    assert rank == p - len(expected)
    assert_array_equal(found, expected)


def test_more_columns_than_rows_and_columns_of_zeros() -> None:
    x = np.eye(3)[:, [0, 0, 1, 2, 1]]
    assert_array_equal(dependent_columns(x), [1, 4])
    assert_array_equal(dependent_columns(np.zeros((5, 2))), [0, 1])
    assert_array_equal(dependent_columns(np.empty((5, 0))), [])


def test_wide_designs_say_of_what_a_column_is_made() -> None:
    rng = np.random.default_rng(2)
    wide = pd.DataFrame(
        {"id": np.repeat(np.arange(210), 3), "t": np.tile(range(3), 210)}
    )
    wide["y"], wide["x"] = rng.normal(size=(2, len(wide)))
    wide["z"] = 2.0 * (wide["id"] == 7) - (wide["id"] == 9)
    with pytest.raises(RankDeficiencyError) as error:
        mar.pooled("y ~ x + C(id) + z", wide, **WHERE).fit()
    assert "'z' (a combination of C(id)[T.7], C(id)[T.9])" in str(error.value)
