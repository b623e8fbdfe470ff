"""Likelihood-ratio tests, analysis of variance by terms, information criteria."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixedar.formula.api as mar
from helpers.reference_cases import load
from helpers.reference_fits import RECORDED, fitted
from mixedar.api import AR1, Exponential, VarIdent, VarPower
from mixedar.datasets import load_orthodont
from mixedar.exceptions import (
    BoundaryWarning,
    LengthError,
    MixedARError,
    NotComputedError,
    UnsupportedError,
)
from mixedar.inference.anova import anova, terms_of
from mixedar.inference.likelihood_ratio import (
    NullDistribution,
    likelihood_ratio_table,
    null_distribution,
    simulated_null,
)

CLASSICAL = [
    name
    for name in RECORDED
    if load(name).expected.get("anova") and load(name).expected["df"] is not None
]


def orthodont(formula: str = "distance ~ age * sex", **options: Any) -> Any:
    data = load("orthodont_ri_ar1_ml").data
    reml = options.pop("reml", False)
    options = {"groups": "subject", "time": "occ", "residual": "independent"} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        return mar.mixedlm(formula, data, **options).fit(reml=reml)


# Terms ----------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize(("kind", "key"), [(1, "sequential"), ("marginal", "marginal")])
def test_terms_are_nlme_s(name: str, kind: Any, key: str) -> None:
    case, fit = load(name), fitted(name)
    table = anova(fit, type=kind)
    # nlme multiplies ML standard errors by sqrt(N / (N - p)) in anova as well
    n, p = fit.nobs, len(fit.fe_params)
    factor = 1.0 if case.reml or case.expected["df"] is None else (n - p) / n
    if case.groups is None or "gls" in case.kinds:
        factor = 1.0 if case.reml else (n - p) / n
    for term, values in case.expected["anova"][key].items():
        row = table.loc[term]
        assert (row.num_df, row.den_df) == (values["numDF"], values["denDF"])
        assert row.F * factor == pytest.approx(values["F"], rel=1e-5)
        p_value = stats.f.sf(row.F, row.num_df, row.den_df)
        assert row.p == pytest.approx(p_value, rel=1e-8)


def test_order_of_terms_is_the_formula_s() -> None:
    # the engine puts the factor first in the design
    fit = fitted("orthodont_ri_ar1_ml")
    assert [t.name for t in terms_of(fit.fit)] == ["Intercept", "age", "sex", "age:sex"]


def test_types_in_relation() -> None:
    fit = orthodont("distance ~ age + sex", reml=True)
    one, two, three = (anova(fit, type=k) for k in (1, "II", "III"))
    # the last term is adjusted for all others in every type
    np.testing.assert_allclose(
        [one.F["sex"], two.F["sex"]], [three.F["sex"]] * 2, rtol=1e-9
    )
    np.testing.assert_allclose(two.F[["age"]], three.F[["age"]], rtol=1e-9)
    full = orthodont(reml=True)
    # with an interaction, type 2 of a main effect leaves the interaction out
    expected = anova(full, type=1).F[["sex", "age:sex"]]
    np.testing.assert_allclose(
        anova(full, type=2).F[["sex", "age:sex"]], expected, rtol=1e-9
    )
    assert anova(full, type=3).F["sex"] != pytest.approx(expected["sex"])


def test_f_of_a_balanced_design_is_classical() -> None:
    # one-way ANOVA of group means: a between-group factor
    rng = np.random.default_rng(5)
    m, n = 12, 6
    arm = np.repeat(["a", "b", "c"], m // 3)
    data = pd.DataFrame({"g": np.repeat(np.arange(m), n), "arm": np.repeat(arm, n)})
    effect = rng.normal(size=m)
    data["y"] = effect[data["g"]] + rng.normal(size=m * n)
    fit = mar.mixedlm("y ~ arm", data, groups="g", residual="independent").fit()
    means = data.groupby("g")["y"].mean().to_numpy()
    expected = stats.f_oneway(*(means[arm == level] for level in "abc"))
    for df in ("containment", "satterthwaite", "kenward-roger"):
        row = anova(fit, df=df).loc["arm"]
        assert row.den_df == pytest.approx(m - 3, rel=1e-6)
        np.testing.assert_allclose(row.F, expected.statistic, rtol=1e-6)
        assert row.p == pytest.approx(expected.pvalue, rel=1e-6)


def test_normal_df_is_chi_square() -> None:
    fit = fitted("orthodont_ri_ar1_ml")
    row = anova(fit, df="normal").loc["age:sex"]
    assert row.p == pytest.approx(stats.chi2.sf(row.F * row.num_df, row.num_df))


def test_array_models_have_a_term_a_column() -> None:
    data = load("orthodont_ri_ar1_ml").data
    x = np.column_stack([np.ones(len(data)), data["age"]])
    from mixedar import MixedLMAR

    fit = MixedLMAR(data["distance"], x, data["subject"], time=data["occ"]).fit()
    table = fit.anova()
    assert list(table.index) == list(fit.fe_params.index)
    np.testing.assert_allclose(table.F, np.asarray(fit.tvalues)[:2] ** 2, rtol=1e-9)


def test_wald_test_terms() -> None:
    fit = fitted("orthodont_ri_ar1_ml")
    table = fit.wald_test_terms().table
    tests = anova(fit, type="marginal")
    np.testing.assert_allclose(table.loc[tests.index, "statistic"], tests.F)
    joint = fit.wald_test_terms(skip_single=True, combine_terms=["sex"]).table
    assert list(joint.index) == ["sex"]
    assert joint["df_constraint"].iloc[0] == 2
    with pytest.raises(UnsupportedError, match="no term contains"):
        fit.wald_test_terms(combine_terms=["nothing"])


# Likelihood ratios ----------------------------------------------------------


def test_against_nlme_s_anova() -> None:
    # anova(lme(distance ~ age * sex, random = ~1 | subject, method = "ML"), ...)
    a, b = orthodont(), orthodont(re_formula="~age")
    ar = orthodont(residual="ar1")
    table = anova(a, ar)
    assert table.loc["2", "LR"] == pytest.approx(0.1553687951, abs=1e-6)
    assert table.loc["2", "p"] == pytest.approx(0.6935, abs=5e-5)
    assert table.AIC.tolist() == pytest.approx([440.6390580, 442.4836892], abs=1e-6)
    assert table.BIC.tolist() == pytest.approx([456.7318454, 461.2586078], abs=1e-6)
    table = anova(a, b)
    assert table.loc["2", "LR"] == pytest.approx(0.8331072198, abs=1e-6)
    naive = anova(a, b, null="chi2").loc["2", "p"]
    assert naive == pytest.approx(0.6593, abs=5e-5)
    # Stram and Lee: half of it has one degree of freedom less
    mixture = 0.5 * stats.chi2.sf(0.8331072198, [1, 2]).sum()
    assert table.loc["2", "p"] == pytest.approx(mixture, abs=1e-6)
    assert table.loc["2", "null"] == "0.5 chi2(1) + 0.5 chi2(2)"
    assert a.anova(b).equals(table)


def test_variance_of_one_intercept_is_half_a_chi_square() -> None:
    data = load("orthodont_ri_ar1_ml").data
    options = {"groups": "subject", "time": "occ", "residual": "ar1"}
    none = mar.mixedlm("distance ~ age", data, re_formula="0", **options).fit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        one = mar.mixedlm("distance ~ age", data, **options).fit()
    row = anova(none, one).iloc[1]
    assert row["null"] == "0.5 chi2(0) + 0.5 chi2(1)"
    assert row.p == pytest.approx(0.5 * stats.chi2.sf(row.LR, 1))


def test_mixtures() -> None:
    mixture = NullDistribution((0, 1), (0.5, 0.5), "")
    assert mixture.sf(0.0) == 1.0
    assert mixture.sf(2.705543) == pytest.approx(0.05, abs=1e-6)
    assert np.isnan(NullDistribution((), (), "why", False).sf(1.0))


def test_two_variances_have_no_known_mixture() -> None:
    data = load("orthodont_ri_ar1_ml").data
    options = {"groups": "subject", "time": "occ", "residual": "ar1"}
    none = mar.mixedlm("distance ~ age", data, re_formula="0", **options).fit()
    two = mar.mixedlm("distance ~ age", data, re_formula="~age", **options).fit()
    found = null_distribution(none.fit, two.fit)
    assert not found.known
    assert "simulate" in found.note
    assert found.label == "chi2(3)"


def test_simulated_null_agrees_with_the_mixture() -> None:
    a, b = orthodont(), orthodont(re_formula="~age")
    draws = simulated_null(a.fit, b.fit, 200, seed=2)
    assert (draws >= 0.0).all()
    mixture = null_distribution(a.fit, b.fit)
    limit = 3.3  # close to the mixture's quantile of 0.87
    assert abs((draws > limit).mean() - mixture.sf(limit)) < 0.08
    row = anova(a, b, null="simulate", n_sim=50, seed=3).iloc[1]
    assert row["null"] == "simulated (50)"
    assert row.p == anova(a, b, null="simulate", n_sim=50, seed=3).iloc[1].p


def test_simulation_shows_progress(capfd: pytest.CaptureFixture[str]) -> None:
    simulated_null(
        orthodont().fit, orthodont(residual="ar1").fit, 5, seed=2, progress=True
    )
    assert "simulated null" in capfd.readouterr().err


def test_reml_with_different_fixed_effects() -> None:
    small, large = (
        orthodont(f, reml=True) for f in ("distance ~ age", "distance ~ age * sex")
    )
    with pytest.raises(UnsupportedError, match="refit='ml'"):
        anova(small, large)
    table = anova(small, large, refit="ml")
    expected = anova(orthodont("distance ~ age"), orthodont())
    np.testing.assert_allclose(table.LR, expected.LR, atol=1e-6)
    assert table.attrs["method"] == "ML"
    with pytest.raises(UnsupportedError, match="by REML and the others by ML"):
        anova(small, orthodont())
    # columns in another order are the same restricted likelihood
    swapped = orthodont("distance ~ sex + age + sex:age", reml=True)
    anova(orthodont(reml=True), swapped)


def test_other_data_are_refused() -> None:
    data = load("orthodont_ri_ar1_ml").data
    options = {"groups": "subject", "time": "occ"}
    fit = fitted("orthodont_ri_ar1_ml")
    fewer = mar.mixedlm("distance ~ age * sex", data.iloc[4:], **options).fit(
        reml=False
    )
    with pytest.raises(UnsupportedError, match="108 and 104 observations"):
        anova(fit, fewer)
    other = data.assign(distance=data["distance"] + np.arange(len(data)) % 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        changed = mar.mixedlm("distance ~ age * sex", other, **options).fit(reml=False)
    with pytest.raises(UnsupportedError, match="different responses"):
        anova(fit, changed)


def test_models_that_are_not_nested_say_so() -> None:
    row = anova(orthodont("distance ~ age"), orthodont("distance ~ sex")).iloc[1]
    assert np.isnan(row.p)
    assert "not nested" in row.note
    row = anova(
        orthodont(re_formula="0", residual="ar1"), orthodont(re_formula="~age")
    ).iloc[1]
    assert "AR(1) in the smaller model only" in row.note


def sites(**columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(12)
    data = pd.DataFrame(
        {"id": np.repeat(np.arange(16), 6), "t": np.tile(np.arange(6), 16)}
    )
    data["x"] = rng.normal(size=96)
    data["y"] = rng.normal(size=16)[data["id"]] + data["x"] + rng.normal(size=96)
    data["w"], data["v"] = rng.uniform(0.5, 2, size=(2, 96))
    data["a"] = np.where(data["id"] < 8, "one", "two")
    data["b"] = np.where(data["id"] % 2, "one", "two")
    data["t2"] = data["t"] ** 2
    return data.assign(**columns)


def fitted_to(data: pd.DataFrame, formula: str = "y ~ x", **options: Any) -> Any:
    options = {"groups": "id", "time": "t", "residual": "independent"} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mar.mixedlm(formula, data, **options).fit(reml=False)


# What two models read under one name, and in what it differs.
SAME_NAMES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"weights": "w"}, {"w": "v"}, "values of 'w'"),
    ({"weights": VarIdent("a")}, {"a": "b"}, "values of 'a'"),
    ({"weights": VarPower("w")}, {"w": "v"}, "values of 'w'"),
    ({"residual": AR1(by="a")}, {"a": "b"}, "values of 'a'"),
    ({"residual": Exponential(coords=["w"])}, {"w": "v"}, "values of 'w'"),
    ({"residual": "car1"}, {"t": "t2"}, "times or series"),
    ({"residual": "ar1", "series": "a"}, {"a": "t"}, "times or series"),
    (
        {"residual": "cs", "groups": "id", "re_formula": "0"},
        {"id": "t"},
        "times or series",
    ),
    ({"vc_formula": {"s": "0 + a"}, "groups": "t"}, {"a": "b"}, "variance components"),
    ({}, {"id": "t"}, "the groups differ"),
]


@pytest.mark.parametrize(("options", "changed", "reason"), SAME_NAMES)
def test_values_are_compared_not_names(
    options: dict[str, Any], changed: dict[str, str], reason: str
) -> None:
    data = sites()
    options = {"re_formula": "1"} | options
    if options.get("residual") == "ar1":
        data["a"] = np.where(data["t"] < 3, "one", "two")
        changed = {"a": "b"}
    same = fitted_to(data, "y ~ 1", **options)
    other = data.assign(**{name: data[by] for name, by in changed.items()})
    if "id" in changed:
        options = options | {"time": None}
    row = anova(fitted_to(other, **options), same).iloc[1]
    assert np.isnan(row.p)
    assert "not nested" in row.note
    assert re.search(reason, row.note)
    # and the same values are the same model, in any order of the rows
    turned = data.sample(frac=1.0, random_state=1)
    for again in (data, turned):
        row = anova(fitted_to(again, **options | {"time": "t"}), same).iloc[1]
        assert row["null"] == "chi2(1)"


def test_rows_in_another_order() -> None:
    data = sites()
    turned = data.sample(frac=1.0, random_state=3)
    one, two = fitted_to(data), fitted_to(data, re_formula="~x")
    expected = anova(one, two)
    for again in (turned, turned.reset_index(drop=True)):
        found = anova(one, fitted_to(again, re_formula="~x"))
        np.testing.assert_allclose(found["LR"], expected["LR"], atol=1e-6)
        assert found["note"].equals(expected["note"])
    simulated = anova(
        one, fitted_to(turned, re_formula="~x"), null="simulate", n_sim=20, seed=1
    )
    same = anova(one, two, null="simulate", n_sim=20, seed=1)
    assert simulated.p.iloc[1] == same.p.iloc[1]
    # groups, times and columns tell rows of equal responses apart
    rounded = data.assign(y=data["y"].round(1))
    turned = rounded[::-1].reset_index(drop=True)
    expected = anova(fitted_to(rounded), fitted_to(rounded, "y ~ 1"))
    found = anova(fitted_to(rounded), fitted_to(turned, "y ~ 1"))
    np.testing.assert_allclose(found["LR"], expected["LR"], atol=1e-6)


@pytest.mark.parametrize("labels", ["kept", "new"])
def test_responses_of_other_rows_are_other_data(labels: str) -> None:
    data = sites()
    other = data.assign(y=np.random.default_rng(3).permutation(data["y"]))
    if labels == "new":
        other = other.sample(frac=1.0, random_state=1).reset_index(drop=True)
    with pytest.raises(UnsupportedError, match="sort the data alike"):
        anova(fitted_to(data), fitted_to(other, "y ~ 1"))


def test_known_residual_variances() -> None:
    one, two, free = (
        fitted_to(sites(), scale=1.0),
        fitted_to(sites(), "y ~ 1", scale=2.0),
        fitted_to(sites(), "y ~ 1", scale=None),
    )
    assert "known residual variance" in anova(two, one).note.iloc[1]
    assert "known residual variance" in anova(free, one).note.iloc[1]
    same = fitted_to(sites(), "y ~ 1", scale=1.0)
    assert anova(same, one)["null"].iloc[1] == "chi2(1)"
    row = anova(same, free).iloc[1]  # a variance of one is a case of any
    assert row["null"] == "chi2(1)"
    expected = 2.0 * (free.llf - same.llf)
    assert row["LR"] == pytest.approx(expected, abs=1e-8)


def test_unconverged_fits_have_no_test() -> None:
    data = sites()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = mar.mixedlm("y ~ x", data, groups="id", time="t", re_formula="~x")
        stopped = model.fit(reml=False, maxiter=1)
    assert not stopped.converged
    for fits in ((stopped, fitted_to(data)), (fitted_to(data), stopped)):
        row = anova(*fits).iloc[1]
        assert np.isnan(row.p)
        assert "not converged" in row.note
        assert "maxiter" in row.note


def machines() -> pd.DataFrame:
    """Data of nlme: scores of six workers on three machines, three times each."""
    scores = """
        52.0 52.8 53.1 51.8 52.8 53.1 60.0 60.2 58.4 51.1 52.3 50.3 50.9 51.8
        51.4 46.4 44.8 49.2 62.1 62.6 64.0 59.7 60.0 59.0 68.6 65.8 69.7 63.2
        62.8 62.2 64.8 65.0 65.4 43.7 44.2 43.0 67.5 67.2 66.9 61.5 61.7 62.3
        70.8 70.6 71.0 64.1 66.2 64.0 72.1 72.0 71.1 62.0 61.4 60.5"""
    return pd.DataFrame(
        {
            "Worker": np.tile(np.repeat(np.arange(1, 7), 3), 3),
            "Machine": np.repeat(list("ABC"), 18),
            "score": np.array(scores.split(), dtype=float),
        }
    )


def test_symmetric_effects_are_a_case_of_unstructured_ones() -> None:
    # Pinheiro and Bates (2000), page 23: anova(fm2Machine, fm3Machine) has L.Ratio
    # 7.376 and p 0.1173 with 4 degrees of freedom
    data = machines()
    arguments = {"data": data, "groups": "Worker", "residual": "independent"}
    symmetric = [
        mar.mixedlm(
            "score ~ Machine",
            re_formula="1",
            vc_formula={"m": "0 + Machine"},
            **arguments,
        ).fit()
    ]
    general = [
        mar.mixedlm("score ~ Machine", re_formula=effects, **arguments).fit()
        for effects in ("0 + Machine", "Machine")
    ]
    for small in symmetric:
        for large in general:
            row = anova(small, large).iloc[1]
            assert row["null"] == "chi2(4)"
            assert row.note == ""
            assert pytest.approx(7.376350, abs=1e-5) == row.LR
            assert row.p == pytest.approx(0.1173, abs=5e-5)
    # one way only: intercepts lie inside, a covariance does not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        slopes = mar.mixedlm(
            "score ~ Machine", re_formula="0 + Machine", re_cov="diagonal", **arguments
        ).fit()
    row = anova(symmetric[0], slopes).iloc[1]
    assert "not among" in row.note
    assert anova(slopes, general[0])["null"].iloc[1] == "chi2(3)"


def test_arguments() -> None:
    fit = fitted("orthodont_ri_ar1_ml")
    with pytest.raises(UnsupportedError, match="at least one"):
        anova()
    with pytest.raises(UnsupportedError, match="not str"):
        anova(fit, "fit")
    with pytest.raises(UnsupportedError, match="no option 'null'"):
        anova(fit, null="chi2")
    with pytest.raises(UnsupportedError, match="type="):
        anova(fit, type=4)
    with pytest.raises(UnsupportedError, match="null="):
        anova(fit, fit, null="exact")
    with pytest.raises(UnsupportedError, match="refit="):
        anova(fit, fit, refit="reml")
    with pytest.raises(LengthError, match="3 names"):
        likelihood_ratio_table([fit, fit], names=["a", "b", "c"])
    with pytest.raises(MixedARError):
        anova(fit, orthodont(), null="simulate", n_sim=1)
    same = anova(fit, fit, names=["a", "b"])
    assert same.loc["b", "test"] == "a vs b"
    assert same.loc["b", "note"] == "no parameter is tested"


# Information criteria -------------------------------------------------------


def test_information_criteria() -> None:
    fit = fitted("seed_ar1_reml")
    nlme = fit.information_criteria()
    assert nlme["aic"] == pytest.approx(fit.aic)
    assert nlme["bic"] == pytest.approx(fit.bic)
    lme4 = fit.information_criteria("lme4")
    assert lme4["bic"] == pytest.approx(-2 * fit.llf + 8 * np.log(10_000))
    sas = fit.information_criteria("sas")
    assert sas["n_params"] == 5  # three of the random effects, rho, scale
    assert sas["bic"] == pytest.approx(-2 * fit.llf + 5 * np.log(2500))
    assert sas["caic"] == pytest.approx(sas["bic"] + 5)
    with pytest.raises(UnsupportedError, match="ic="):
        fit.information_criteria("stata")
    zero = fitted("seed_ri_ar1_reml")
    assert zero.information_criteria("sas")["n_params"] == 2
    assert zero.information_criteria("nlme")["n_params"] == 6


def test_a_restricted_fit_is_tested_by_statsmodels_name() -> None:
    teeth = load_orthodont()
    small, large = (
        mar.mixedlm(formula, teeth, groups="subject", time="occ").fit(reml=False)
        for formula in ("distance ~ age", "distance ~ age * sex")
    )
    statistic, pvalue, df = large.compare_lr_test(small)
    table = small.anova(large).iloc[1]
    assert (statistic, pvalue, df) == (table["LR"], table["p"], table["LR_df"])
    assert large.compare_lr_test(small, null="chi2").df_diff == 2
    with pytest.raises(UnsupportedError, match="ask the larger fit"):
        small.compare_lr_test(large)
    with pytest.raises(UnsupportedError, match=r"fit of the smaller model.*not int"):
        large.compare_lr_test(3)
    other = mar.mixedlm("distance ~ sex + I(age**2)", teeth, groups="subject")
    with pytest.raises(NotComputedError, match="not nested"):
        large.compare_lr_test(other.fit(reml=False))
    assert large.rsquared == large.r2()["marginal"]
