"""Rubin's rules: values of mice and mitml, formulas, and refusals."""

from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

import mixedar.api
import mixedar.formula.api as mar
from mixedar.datasets import load_orthodont
from mixedar.exceptions import (
    GroupError,
    LengthError,
    MixedARError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)

FOLDER = Path(__file__).parents[1] / "reference" / "pooling"
CASES = ("pool_ri", "pool_ri_ar1")
NULL = "x = 0, time:treat = 0"
COLUMNS = ["estimate", "se", "df", "t", "p", "lower", "upper", "riv", "fmi"]


@cache
def case(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{name}.json").read_text()))


@cache
def imputations() -> list[pd.DataFrame]:
    data = pd.read_csv(FOLDER / "data" / "mi10.csv")
    return [part.reset_index(drop=True) for _, part in data.groupby("imp")]


@cache
def fits(name: str, formula: str = "formula", reml: bool = True) -> list[Any]:
    residual = "ar1" if case(name)["residual"] else "independent"
    return [
        mar.mixedlm(
            case(name)[formula], data, groups="id", time="time", residual=residual
        ).fit(reml=reml)
        for data in imputations()
    ]


@cache
def noisy(seed: int = 5, m: int = 5) -> list[pd.DataFrame]:
    teeth, rng = load_orthodont(), np.random.default_rng(seed)
    noise = rng.normal(0.0, 0.3, size=(m, len(teeth)))
    return [teeth.assign(age=teeth["age"] + one) for one in noise]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("label", "df"),
    [
        ("dfcom_infinite", "normal"),
        ("dfcom_n_minus_p", "residual"),
        ("dfcom_containment", None),
    ],
)
def test_coefficients_are_those_of_mice(name: str, label: str, df: str | None) -> None:
    found = mar.pool(fits(name), df=df).frame
    expected = pd.DataFrame(case(name)["expected"]["pooled"][label]).T.loc[found.index]
    assert list(found.columns) == COLUMNS
    for column in ("estimate", "se", "df", "t", "riv", "fmi"):
        assert_allclose(found[column], expected[column], rtol=1e-6)
    assert_allclose(found["p"], expected["p"], rtol=1e-4)
    half = stats.t.isf(0.025, found["df"]) * found["se"]
    assert_allclose(found["upper"] - found["estimate"], half)
    assert_allclose(found["estimate"] - found["lower"], half)


@pytest.mark.parametrize("name", CASES)
def test_joint_tests_are_those_of_mitml(name: str) -> None:
    null, ml = fits(name, "null_formula", False), fits(name, reml=False)
    large = mar.pool(fits(name), df="normal")
    likely = mar.pool(ml, df="normal")
    found = {
        "D1": large.test(NULL),
        "D1_df": mar.pool(fits(name), df="residual").test(NULL),
        "D1_ml": likely.test(null),
        "D2_wald": large.test(NULL, "D2"),
        "D2_wald_ml": likely.test(mar.pool(null), "D2"),
        "D2_likelihood": likely.test(null, "D2", statistic="likelihood"),
        "D3": likely.test(null, "D3"),
    }
    for key, test in found.items():
        expected = case(name)["expected"]["tests"][key]
        assert test.statistic == pytest.approx(expected["F"], rel=1e-6), key
        assert test.df == pytest.approx((2, expected["df2"]), rel=1e-5)
        assert test.pvalue == pytest.approx(expected["p"], rel=1e-5)
        assert dict(test.details)["riv"] == pytest.approx(expected["riv"], rel=1e-5)


def test_covariance_parameters_are_averaged() -> None:
    found = mar.pool(fits("pool_ri_ar1")).components
    expected = case("pool_ri_ar1")["expected"]["pooled_theta"]
    assert_allclose(found[["id Var", "Residual Var", "rho"]], list(expected.values()))


def test_one_restriction_is_the_t_test() -> None:
    pooled = mixedar.api.pool(fits("pool_ri"), df="satterthwaite")
    test, row = pooled.test("x = 0"), pooled.frame.loc["x"]
    assert test.statistic == pytest.approx(row["t"] ** 2)
    assert test.df == pytest.approx((1, row["df"]))
    assert test.pvalue == pytest.approx(row["p"])
    again = pooled.t_test("x = 0").iloc[0]
    assert_allclose(again[COLUMNS], row[COLUMNS])
    away = pooled.t_test("x = 0.1").iloc[0]
    assert away["t"] == pytest.approx((row["estimate"] - 0.1) / row["se"])


def test_combinations_follow_from_the_covariance() -> None:
    pooled = mar.pool(fits("pool_ri"))
    row = pooled.t_test([0.0, 1.0, 0.0, 0.0, 1.0]).iloc[0]
    cov = pooled.cov_params()
    both = ["time", "time:treat"]
    assert row["se"] ** 2 == pytest.approx(cov.loc[both, both].to_numpy().sum())
    assert row["estimate"] == pytest.approx(pooled.params[both].sum())


def test_without_missing_data_the_fit_remains() -> None:
    model = mar.mixedlm("distance ~ age * sex", load_orthodont(), groups="subject")
    fit = model.fit(reml=False)
    pooled = mar.pool([fit, fit, fit])
    assert_allclose(pooled.frame["estimate"], fit.fe_params)
    assert_allclose(pooled.frame["se"], fit.bse_fe)
    assert_allclose(pooled.frame["riv"], 0.0, atol=1e-12)
    # Barnard and Rubin's factor stays: (df + 1) / (df + 3)
    df = fit.df.to_numpy()
    assert_allclose(pooled.frame["df"], df * (df + 1) / (df + 3))
    null = mar.mixedlm("distance ~ age", load_orthodont(), groups="subject")
    less = [null.fit(reml=False)] * 3
    ratio = 2.0 * (fit.llf - less[0].llf)
    for method, statistic in (("D2", "likelihood"), ("D3", "wald")):
        test = pooled.test(less, method, statistic)
        assert test.statistic == pytest.approx(ratio / 2)
        assert test.pvalue == pytest.approx(stats.chi2.sf(ratio, 2), rel=1e-6)
    names = "sex[T.Male] = 0, age:sex[T.Male] = 0"
    wald = fit.wald_test(names, use_f=True)
    assert pooled.test(names).statistic == pytest.approx(float(wald.statistic))


def test_few_imputations_have_degrees_of_freedom() -> None:
    models = [mar.mixedlm("distance ~ age * sex", d, groups="subject") for d in noisy()]
    pooled = mar.pool([model.fit() for model in models[:2]])
    test = pooled.test("age = 0, age:sex[T.Male] = 0")
    assert isinstance(test.df, tuple)
    assert 0.0 < test.df[1] < 79.0
    assert 0.0 < test.pvalue < 1e-6


def test_kenward_roger_errors_are_pooled() -> None:
    models = [mar.mixedlm("distance ~ age * sex", d, groups="subject") for d in noisy()]
    own = [model.fit().with_df("kenward-roger") for model in models]
    pooled = mar.pool(own)
    values = np.array([fit.fe_params for fit in own])
    within = np.mean([fit.bse_fe**2 for fit in own], axis=0)
    total = within + 1.2 * values.var(axis=0, ddof=1)
    assert_allclose(pooled.frame["se"] ** 2, total)
    assert_allclose(mar.pool([m.fit() for m in models], df="kr").frame, pooled.frame)
    assert "Kenward-Roger" in pooled.summary().as_text()


def test_panel_estimators_are_pooled() -> None:
    found = []
    for data in noisy():
        model = mar.fixed_effects("distance ~ age", data, "subject", "occ")
        found.append(model.fit("clustered"))
    pooled = mar.pool(found)
    values = np.array([fit.params["age"] for fit in found])
    within = np.mean([fit.bse["age"] ** 2 for fit in found])
    between = 1.2 * values.var(ddof=1)
    row = pooled.frame.loc["age"]
    assert row["estimate"] == pytest.approx(values.mean())
    assert row["se"] ** 2 == pytest.approx(within + between)
    assert row["riv"] == pytest.approx(between / within)
    old = 4.0 * ((within + between) / between) ** 2
    observed = 27 / 29 * 26 * within / (within + between)
    assert row["df"] == pytest.approx(1 / (1 / old + 1 / observed))
    assert mar.pool(found, df="normal").frame.loc["age", "df"] == pytest.approx(old)
    with pytest.raises(UnsupportedError, match="for mixed models"):
        mar.pool(found, df="satterthwaite")
    assert pooled.test("age = 0").df == pytest.approx((1, row["df"]))


def test_regressions_by_group_are_pooled() -> None:
    found = [mar.by_group("distance ~ age", d, groups="subject") for d in noisy()]
    pooled = mar.pool(found)
    row = pooled.frame.loc[("M01", "age")]
    values = np.array([fit.params.loc["M01", "age"] for fit in found])
    within = np.mean([fit.bse.loc["M01", "age"] ** 2 for fit in found])
    assert row["estimate"] == pytest.approx(values.mean())
    assert row["se"] ** 2 == pytest.approx(within + 1.2 * values.var(ddof=1))
    one = pooled.group("M01")
    assert_allclose(one.frame.loc["age"], row)
    assert one.test("age = 0").pvalue == pytest.approx(row["p"])
    assert "Pooled regressions by group" in repr(pooled)
    assert np.isfinite(mar.pool(found, df=20).frame["df"]).all()
    with pytest.raises(GroupError, match="M99"):
        pooled.group("M99")
    fewer = noisy()[0].query("subject != 'M01'")
    with pytest.raises(GroupError, match="M01"):
        mar.pool([found[0], mar.by_group("distance ~ age", fewer, groups="subject")])


def test_printing_and_pickles() -> None:
    pooled = mar.pool(fits("pool_ri"))
    text = repr(pooled)
    assert "Imputations" in text
    assert "Barnard and Rubin" in text
    assert "<table" in pooled._repr_html_()
    again = pickle.loads(pickle.dumps(pooled))
    pd.testing.assert_frame_equal(again.frame, pooled.frame)


def test_pooled_numbers_stand_in_tables_of_fits() -> None:
    pooled, first = mar.pool(fits("pool_ri")), fits("pool_ri")[0]
    tidied = mar.tidy(pooled)
    fixed = tidied[tidied["group"] == "fixed"].set_index("term")
    columns = {"std_error": "se", "df": "df", "p_value": "p", "conf_high": "upper"}
    for name, own in columns.items():
        assert_allclose(fixed[name], pooled.frame[own], rtol=1e-10)
    others = tidied[tidied["group"] != "fixed"].set_index("term")
    assert_allclose(others["estimate"], pooled.components)
    assert others["std_error"].isna().all()
    table = mar.compare({"pooled": pooled, "first": first})
    assert_allclose(table.coefficients["pooled", "estimate"], pooled.params)
    assert table.methods["pooled"].tolist() == ["REML, pooled", "model"]
    assert any("10 imputations" in note for note in table.notes)
    assert mar.glance(pooled)[["aic", "icc"]].isna().all(axis=None)
    assert mar.glance(mar.pool([first, first]))["converged"].all()
    groups = [mar.by_group("distance ~ age", each, "subject") for each in noisy()]
    with pytest.raises(NotComputedError, match="frame"):
        mar.tidy(mar.pool(groups).group("M01"))


def test_tables_of_maketables() -> None:
    pooled, first = mar.pool(fits("pool_ri")), fits("pool_ri")[0]
    table, frame = pooled.__maketables_coef_table__, pooled.frame
    assert table.index.name == "Coefficient"
    for name, own in {"b": "estimate", "se": "se", "p": "p", "ci95u": "upper"}.items():
        assert_allclose(table[name], frame[own], rtol=1e-10)
    assert_allclose(table["ci90l"], pooled.to_frame(0.1)["lower"], rtol=1e-10)
    assert pooled.__maketables_stat__("N") == first.nobs
    assert pooled.__maketables_stat__("r2") is None
    maketables = pytest.importorskip("maketables")
    printed = maketables.ETable([first, pooled]).df.to_string()
    for text in ("REML, pooled", f"{first.params['x']:.3f}", f"{frame['se']['x']:.3f}"):
        assert text in printed


def test_suspicious_imputations_are_named() -> None:
    first, second, *_ = fits("pool_ri")
    assert mar.pool([first, second]).notes == ()
    (note,) = mar.pool([first, first]).notes
    assert "drawn" in note
    assert "drawn" in mar.pool([first, first]).summary().extra_txt[-1]
    fewer = mar.mixedlm(case("pool_ri")["formula"], imputations()[1][5:], groups="id")
    (note,) = mar.pool([first, fewer.fit()]).notes
    assert str(first.nobs) in note
    assert str(first.nobs - 5) in note


def test_what_cannot_be_pooled_is_refused() -> None:
    own = fits("pool_ri")
    with pytest.raises(LengthError, match="two"):
        mar.pool(own[:1])
    with pytest.raises(UnsupportedError, match="list of fits"):
        mar.pool(3)
    with pytest.raises(UnsupportedError, match="not fitted"):
        mar.pool([own[0].model, own[1].model])
    with pytest.raises(UnknownColumnError, match="time:treat"):
        mar.pool([own[0], fits("pool_ri", "null_formula")[1]])
    with pytest.raises(UnsupportedError, match="'REML'"):
        mar.pool([own[0], fits("pool_ri", reml=False)[1]])
    groups = mar.by_group("distance ~ age", noisy()[0], groups="subject")
    with pytest.raises(UnsupportedError, match="different kinds"):
        mar.pool([own[0], groups])


def test_tests_that_cannot_be_made_are_refused() -> None:
    pooled = mar.pool(fits("pool_ri"))
    likely = mar.pool(fits("pool_ri", reml=False))
    null = fits("pool_ri", "null_formula", False)
    with pytest.raises(UnsupportedError, match="reml=False"):
        pooled.test(fits("pool_ri", "null_formula"), "D3")
    with pytest.raises(UnsupportedError, match="fit both alike"):
        pooled.test(null, "D3")
    with pytest.raises(UnsupportedError, match="fits of the null"):
        likely.test(NULL, "D3")
    with pytest.raises(LengthError, match="10 fits and 9"):
        likely.test(null[1:], "D3")
    with pytest.raises(UnsupportedError, match="order of the imputations"):
        likely.test(null[::-1], "D3")
    with pytest.raises(UnsupportedError, match="same coefficients"):
        likely.test(likely)
    with pytest.raises(NotComputedError, match="follow from others"):
        pooled.test("x = 0, 2 * x = 0")
    with pytest.raises(UnsupportedError, match="method="):
        pooled.test(NULL, "D5")
    with pytest.raises(MixedARError, match=r"no .* 'nothing'"):
        pooled.test("nothing = 0")
    ar1 = fits("pool_ri_ar1", "null_formula", False)
    with pytest.raises(UnsupportedError, match="covariance parameters"):
        likely.test(ar1, "D3")
