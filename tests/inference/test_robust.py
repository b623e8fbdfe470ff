"""Cluster-robust covariances and their degrees of freedom."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixedar.formula.api as mar
from helpers import oracle
from helpers.effort import calls
from helpers.reference_cases import case_names, load, oracle_parameters, oracle_problem
from helpers.reference_fits import NAMES, fitted
from mixedar.exceptions import BoundaryWarning, NotComputedError, UnsupportedError
from mixedar.inference.sandwich import COV_TYPES, sandwich

CHECKED = [name for name in NAMES if load(name).expected.get("robust")]
ONE_LEVEL = ["orthodont_rs_ar1_reml", "sleepstudy_rs_reml", "bodyweight_car1_reml"]


def fixed_cov(fit: Any, cov_type: str) -> Any:
    cov = fit.get_robustcov_results(cov_type).cov_params()
    return cov.iloc[: fit.k_fe, : fit.k_fe]


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("cov_type", ["CR0", "CR1", "CR2"])
def test_against_clubsandwich(name: str, cov_type: str) -> None:
    case, found = load(name), fitted(name).get_robustcov_results(cov_type)
    expected = case.expected["robust"][cov_type]
    names = list(found.bse_fe.index)
    # where nlme stops short of a singular covariance its weights are off a little
    rtol = 1e-6 if "boundary" not in case.kinds else 1e-5
    se = [expected["se"][n] for n in names]
    np.testing.assert_allclose(found.bse_fe, se, rtol=rtol)
    df = [expected["satterthwaite_df"][n] for n in names]
    np.testing.assert_allclose(found.df, df, rtol=rtol)


def test_other_types_against_clubsandwich() -> None:
    # vcovCR(lme(distance ~ age * sex, random = ~1 | subject, correlation =
    # corAR1(form = ~ occ | subject), method = "ML"), type = ...)
    fit = fitted("orthodont_ri_ar1_ml")
    names = ["Intercept", "age", "sex[T.Male]", "age:sex[T.Male]"]
    expected = {
        "CR1p": [0.7814925647, 0.06859769653, 1.483962068, 0.1264712291],
        "CR1S": [0.7455509254, 0.06544281858, 1.415713141, 0.1206546884],
        "CR3": [0.7934134739, 0.06964408769, 1.473747276, 0.1256667016],
    }
    for cov_type, values in expected.items():
        found = fit.get_robustcov_results(cov_type).bse
        np.testing.assert_allclose(found[names], values, rtol=1e-6)
    df = fit.get_robustcov_results("CR3").df[names]
    np.testing.assert_allclose(df, [10, 10, 21.42857143, 21.42857143], rtol=1e-8)


def test_joint_test_against_clubsandwich() -> None:
    # Wald_test(..., test = "HTZ")
    fit = fitted("orthodont_ri_ar1_ml")
    names = list(fit.fe_params.index)
    rows = [names.index(n) for n in ("sex[T.Male]", "age:sex[T.Male]")]
    test = fit.get_robustcov_results("CR2").wald_test(np.eye(4)[rows])
    assert round(test.fvalue, 2) == 6.17
    assert (test.df_num, round(test.df_denom, 1)) == (2, 20.7)
    assert round(float(test.pvalue), 5) == 0.00792
    test = fit.get_robustcov_results("CR1").wald_test(np.eye(4)[1:])
    assert round(test.fvalue, 1) == 44.7
    assert round(test.df_denom, 1) == 18.1


@pytest.mark.parametrize("name", ONE_LEVEL)
def test_against_dense_sums(name: str) -> None:
    case, fit = load(name), fitted(name)
    problem, params = oracle_problem(case), oracle_parameters(case)
    M = oracle.solve(problem, params, case.reml).cov_params
    resid = problem.y - problem.X @ np.asarray(fit.fe_params)
    found = {t: np.zeros_like(M) for t in ("CR0", "CR2", "CR3")}
    expectation = np.zeros_like(M)
    for part in oracle.parts(problem, params):
        X, e, V = problem.X[part.rows], resid[part.rows], part.V
        W = np.linalg.inv(V)
        values, vectors = np.linalg.eigh(V)
        D = (vectors * np.sqrt(values)) @ vectors.T  # a root other than Cholesky's
        middle = V - X @ M @ X.T
        b, Q = np.linalg.eigh(D @ middle @ D)
        keep = b > 1e-10 * b.max()
        A = {
            "CR0": np.eye(len(e)),
            "CR2": D @ (Q[:, keep] / np.sqrt(b[keep])) @ Q[:, keep].T @ D,
            "CR3": np.linalg.inv(np.eye(len(e)) - X @ M @ X.T @ W),
        }
        for cov_type, a in A.items():
            v = M @ X.T @ W @ a @ e
            found[cov_type] += np.outer(v, v)
        bread = M @ X.T @ W @ A["CR2"]
        expectation += bread @ middle @ bread.T
    scale = np.sqrt(np.outer(np.diag(M), np.diag(M)))
    for cov_type, cov in found.items():
        np.testing.assert_allclose(
            fixed_cov(fit, cov_type) / scale, cov / scale, atol=1e-5
        )
    # CR2 is unbiased if the model is right
    np.testing.assert_allclose(expectation / scale, M / scale, atol=1e-8)


def test_cr3_is_the_jackknife() -> None:
    case = load("orthodont_ri_ar1_ml")
    problem, params = oracle_problem(case), oracle_parameters(case)
    whole = oracle.solve(problem, params, case.reml).fe_params
    total = np.zeros((4, 4))
    for group in np.unique(problem.groups):
        keep = problem.groups != group
        left = oracle.Problem(
            problem.y[keep],
            problem.X[keep],
            problem.groups[keep],
            problem.Z[keep] if problem.Z is not None else None,
            problem.time[keep] if problem.time is not None else None,
        )
        change = oracle.solve(left, params, case.reml).fe_params - whole
        total += np.outer(change, change)
    found = fixed_cov(fitted("orthodont_ri_ar1_ml"), "CR3")
    np.testing.assert_allclose(found, total, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", case_names("gls", "ar1") + case_names("nested"))
def test_every_kind_of_model(name: str) -> None:
    if name not in NAMES:
        return
    fit = fitted(name)
    for cov_type in COV_TYPES:
        view = fit.get_robustcov_results(cov_type)
        assert (view.bse_fe > 0).all()
        assert (view.df > 0).all()
        # never more than the clusters can give
        assert (view.df <= fit.n_groups + 1e-6).all()


def test_order_of_rows_does_not_matter() -> None:
    case = load("sim_dropout_ar1_reml")
    fit = fitted("sim_dropout_ar1_reml")
    data = case.data.sort_values(["wave", "id"])
    other = mar.mixedlm(
        case.formula, data, groups="id", re_formula=case.re_formula, time="wave"
    ).fit()
    np.testing.assert_allclose(
        fixed_cov(other, "CR2"), fixed_cov(fit, "CR2"), rtol=1e-5
    )


def test_fixed_effects() -> None:
    fit = fitted("orthodont_ri_ar1_ml")
    robust = fit.get_robustcov_results()
    assert (fit.cov_type, robust.cov_type) == ("nonrobust", "CR2")
    pd.testing.assert_series_equal(robust.fe_params, fit.fe_params)
    np.testing.assert_allclose(robust.tvalues[:4] * robust.bse_fe, robust.fe_params)
    np.testing.assert_allclose(
        robust.pvalues[:4], 2.0 * stats.t.sf(abs(robust.tvalues[:4]), robust.df)
    )
    half = stats.t.isf(0.025, robust.df) * robust.bse_fe
    inside = robust.conf_int()[:4]
    np.testing.assert_allclose(inside[0], robust.fe_params - half)
    np.testing.assert_allclose(inside[1], robust.fe_params + half)
    test = robust.t_test("age = 0.5")
    t = (fit.fe_params["age"] - 0.5) / robust.bse_fe["age"]
    assert test.effect[0] == pytest.approx(fit.fe_params["age"])
    assert test.tvalue == pytest.approx(t)
    assert float(np.ravel(test.df_denom)[0]) == pytest.approx(robust.df["age"])
    single = robust.wald_test("age = 0.5")  # the F of one row is t squared
    assert single.fvalue == pytest.approx(float(np.ravel(test.tvalue)[0]) ** 2)
    assert single.df_denom == pytest.approx(robust.df["age"], rel=1e-6)
    assert mar.tidy(robust).iloc[:4].shape == (4, 9)
    text = " ".join(str(robust.summary()).split())
    assert "robust (CR2, clusters are the 27" in text
    assert "CR2: unbiased under the model's covariance; degrees of freedom are" in text
    assert "age:sex[T.Male]" in text


def test_all_results_with_the_robust_covariance() -> None:
    fit = fitted("orthodont_ri_ar1_ml")
    full = fit.get_robustcov_results("CR2")
    rows = np.eye(4)[1:]
    assert full.f_test(rows).pvalue == pytest.approx(full.wald_test(rows).pvalue)
    means = full.marginal_means("sex", at={"age": 10})
    np.testing.assert_allclose(
        means.to_frame()["se"],
        fit.marginal_means("sex", at={"age": 10}, cov_type="CR2").to_frame()["se"],
    )
    table = full.anova(type="marginal")
    np.testing.assert_allclose(table["F"], full.wald_test_terms().table
                               .loc[table.index, "statistic"])  # fmt: skip
    # tests of types 1 and 2 leave terms out as the model does
    for kind in (1, 2, 3):
        assert np.isfinite(full.anova(type=kind)["p"]).all()
    # likelihoods and covariance parameters are the model's
    assert full.llf == fit.llf
    pd.testing.assert_frame_equal(full.conf_int_re("wald"), fit.conf_int_re("wald"))


def test_other_degrees_of_freedom_with_robust_errors() -> None:
    fit = fitted("orthodont_rs_ar1_reml")
    full = fit.get_robustcov_results("CR1")
    for df in ("containment", "residual", 12.0):
        test, model = full.t_test(np.eye(4), df=df), fit.t_test(np.eye(4), df=df)
        np.testing.assert_allclose(test.df_denom, model.df_denom)
        np.testing.assert_allclose(test.sd, full.bse_fe)
    normal = fit.get_robustcov_results("CR1", use_t=False)
    z = normal.fe_params / normal.bse_fe
    np.testing.assert_allclose(normal.pvalues[:4], 2.0 * stats.norm.sf(abs(z)))
    with pytest.raises(NotComputedError, match="corrects the covariance of the model"):
        full.with_df("kenward-roger")
    # and back
    plain = full.get_robustcov_results("nonrobust")
    np.testing.assert_allclose(plain.bse_fe, fit.bse_fe)
    assert plain.cov_type == "nonrobust"
    kr = full.get_robustcov_results("nonrobust").with_df("kenward-roger")
    np.testing.assert_allclose(kr.bse_fe, fit.with_df("kenward-roger").bse_fe)
    again = full.get_robustcov_results("CR2")
    np.testing.assert_allclose(again.bse_fe, fit.get_robustcov_results("CR2").bse_fe)


def test_robust_errors_by_fit() -> None:
    model = mar.mixedlm(
        "distance ~ age * sex",
        load("orthodont_ri_ar1_ml").data,
        groups="subject",
        time="occ",
    )
    found = model.fit(reml=False, cov_type="cr2")
    expected = model.fit(reml=False).get_robustcov_results("CR2")
    assert found.cov_type == "CR2"
    np.testing.assert_allclose(found.bse_fe, expected.bse_fe)
    np.testing.assert_allclose(model.fit(cov_type="nonrobust").bse, model.fit().bse)
    with pytest.raises(UnsupportedError, match="cov_type='HC3': choose 'nonrobust'"):
        model.fit(cov_type="HC3")


def test_dependent_restrictions() -> None:
    view = fitted("orthodont_ri_ar1_ml").get_robustcov_results()
    rows = np.eye(4)[[1, 2]]
    doubled = np.vstack([rows, rows[0] + rows[1]])
    assert view.wald_test(doubled).fvalue == pytest.approx(view.wald_test(rows).fvalue)
    assert view.wald_test(doubled).df_num == 2
    with pytest.raises(NotComputedError, match="contradict"):
        view.wald_test((doubled, [0.0, 0.0, 1.0]))
    with pytest.raises(NotComputedError, match="row is zero"):
        view.t_test(np.zeros((1, 4)))


def few_groups(n_groups: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    g, t = np.repeat(np.arange(n_groups), 12), np.tile(np.arange(12), n_groups)
    data = pd.DataFrame({"g": g, "t": t, "x": rng.normal(size=len(g))})
    data["z"] = (g == 0).astype(float) * data["x"]
    data["y"] = rng.normal(size=n_groups)[g] + t + rng.normal(size=len(g))
    return data


def test_too_few_groups() -> None:
    data = few_groups(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = mar.mixedlm("y ~ t + x + I(t ** 2)", data, groups="g").fit()
    with pytest.raises(NotComputedError, match="CR1p needs at least 5 groups"):
        fit.get_robustcov_results("CR1p")
    with pytest.raises(NotComputedError, match=r"test fewer at a time|singular"):
        fit.get_robustcov_results("CR2").wald_test(np.eye(4))
    one = mar.mixedlm("y ~ t", data[data["g"] == 0], groups="g", re_formula="0")
    with pytest.raises(NotComputedError, match="at least 2 groups"):
        one.fit().get_robustcov_results("CR0")


@pytest.mark.parametrize("cov_type", [name for name in COV_TYPES if name != "CR3"])
@pytest.mark.parametrize("reference", ["many", "one"])
def test_group_that_determines_a_coefficient(cov_type: str, reference: str) -> None:
    """The scores of such a group are zero there, whatever the data."""
    data = few_groups(8)
    data["arm"] = np.where(data["g"] == 0, "one", "many")
    formula = f"y ~ t + x + C(arm, Treatment({reference!r}))"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = mar.mixedlm(formula, data, groups="g", residual="independent").fit()
        free = mar.mixedlm("y ~ t + x", data, groups="g", residual="independent").fit()
    found = fit.get_robustcov_results(cov_type)
    lost = [name for name in found.fe_params.index if "arm" in name]
    if reference == "one":  # its mean is the intercept
        lost.insert(0, "Intercept")
    for numbers in (found.bse_fe, found.bse, found.pvalues):
        assert numbers[lost].isna().all()
        assert np.isfinite(numbers[["t", "x"]]).all()
    assert found.conf_int().loc[lost].isna().all(axis=None)
    for df in ("satterthwaite", "containment"):
        text = " ".join(found.summary(df=df).as_text().split())
        assert (
            f"No robust standard error for {', '.join(lost)}: without group 0" in text
        )
        with pytest.raises(NotComputedError, match="has no standard error"):
            found.f_test(f"{lost[-1]} = 0", df=df)
        with pytest.raises(NotComputedError, match="has no standard error"):
            found.t_test(np.eye(4), df=df)
        np.testing.assert_allclose(found.t_test("x = 0", df=df).sd, found.bse_fe["x"])
        assert np.isfinite(found.f_test("t, x", df=df).fvalue)
        assert "no standard error" in found.anova(df=df).note.iloc[-1]
    # means of the other arm do not involve it, if the coding says so
    expected = found.get_prediction().summary_frame()["mean_se"].isna()
    assert expected.all() if reference == "one" else expected.equals(data["g"] == 0)
    assert np.isfinite(free.get_robustcov_results(cov_type).bse_fe).all()


def test_the_jackknife_needs_every_coefficient_without_each_group() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = mar.mixedlm("y ~ t + x + z", few_groups(6), groups="g").fit()
    with pytest.raises(NotComputedError, match=r"without group 0.*'z'.*model's"):
        fit.get_robustcov_results("CR3")


def test_unknown_type_and_removed_data() -> None:
    fit = fitted("orthodont_ri_ar1_ml")
    with pytest.raises(UnsupportedError, match="cov_type='HC3'"):
        fit.get_robustcov_results("HC3")
    assert fit.get_robustcov_results("cr1s").cov_type == "CR1S"
    data = few_groups(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        other = mar.mixedlm("y ~ t", data, groups="g").fit()
    other.remove_data()
    with pytest.raises(NotComputedError, match="removed"):
        other.get_robustcov_results()


def test_many_clusters_are_taken_together() -> None:
    rng = np.random.default_rng(0)
    m, n = 20_000, 4
    g = np.repeat(np.arange(m), n)
    data = pd.DataFrame({"g": g, "t": np.tile(np.arange(n), m)})
    data["x"] = rng.normal(size=m * n)
    data["y"] = rng.normal(size=m)[g] + data["t"] + rng.normal(size=m * n)
    model = mar.mixedlm("y ~ t + x", data, groups="g", time="t")
    fit = model.fit()
    for cov_type in ("CR2", "CR3", "CR1"):
        found, effort = calls(lambda kind=cov_type: sandwich(fit.fit, kind))
        assert effort.total() < 1000  # not one after the other
    np.testing.assert_allclose(
        np.sqrt(np.diag(found.cov)), np.asarray(fit.bse_fe), rtol=0.03
    )
