"""Equal models give equal fits."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.regression.mixed_linear_model import MixedLM

from helpers import oracle
from helpers.simulated import (
    assert_same_fit,
    base,
    build,
    fit,
    reference_data,
    simulate,
)
from mixedar import AR1, CAR1, MixedLMAR


@pytest.fixture
def data() -> pd.DataFrame:
    return reference_data().copy()


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
    positions = [["Intercept", "arm[T.drug]", "x", "t"].index(name) for name in order]
    np.testing.assert_allclose(found.params[:4][positions], expected, rtol=1e-6)
    assert len(by_name) == len(found.params)
    assert found.rho == pytest.approx(base().rho, rel=1e-6)


def test_without_time_residuals_are_independent_as_in_statsmodels() -> None:
    data = simulate(4)
    parent = MixedLM.from_formula("y ~ t", data, groups="id", re_formula="~t").fit()
    ours = MixedLMAR.from_formula("y ~ t", data, groups="id", re_formula="~t").fit()
    assert abs(ours.llf - parent.llf) < 1e-5
    assert ours.fe_params.to_numpy() == pytest.approx(parent.fe_params, abs=1e-4)
    assert_same_fit(ours, fit(data, "y ~ t", time=None, residual="independent"))
    arrays = [data["y"], data[["t"]].assign(one=1.0), data["id"]]
    assert MixedLMAR(*arrays).residual.code == "independent"
    assert MixedLMAR(*arrays, time=data["t"]).residual.code == "ar1"
    assert MixedLMAR(*arrays, time=data["t"], residual=None).residual.k_params == 0


@pytest.mark.parametrize(
    "options", [{"residual": "ar1"}, {"residual": "un", "re_formula": "0"}]
)
def test_row_order_for_time_is_said(options: dict[str, Any]) -> None:
    data = simulate(4, size=4)
    for time, said in ((None, True), ("t", False)):
        found = fit(data, time=time, **{"re_formula": "1", **options})
        assert ("No time= was given" in str(found.summary())) is said
        finding = found.diagnose()["time"]
        assert ("No time= was given" in finding.sentence) is said
    found.remove_data()
    assert "No time= was given" not in str(found.summary())


def test_without_time_the_order_of_rows_counts() -> None:
    data = simulate(4)
    assert_same_fit(fit(data, time=None, residual="ar1"), fit(data))
    mixed = data.sample(frac=1.0, random_state=2).sort_values("t", kind="stable")
    assert_same_fit(fit(mixed, time=None, residual="ar1"), fit(data))
