"""
Panel estimates against dummies, GLS and the mixed model; what results offer.
"""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from statsmodels.regression.linear_model import OLS

import mixedar.formula.api as mar
from helpers.panel_cases import FORMULA, FUNCTIONS, design, dummies, panel_data
from mixedar.exceptions import (
    LengthError,
    MixedARError,
    NotComputedError,
    RankDeficiencyError,
    UnsupportedError,
)


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return panel_data()


@pytest.mark.parametrize("effects", ["entity", "time", "twoways"])
def test_fixed_effects_are_dummies(data: pd.DataFrame, effects: str) -> None:
    model = mar.fixed_effects(FORMULA, data, "id", "t", effects=effects)
    fit = model.fit()
    parts = {
        "entity": [dummies(data, "id")],
        "time": [dummies(data, "t")],
        "twoways": [dummies(data, "id"), dummies(data, "t")[:, 1:]],
    }[effects]
    slopes = [c for c in design(data) if c not in ("Intercept", *fit.absorbed)]
    assert fit.absorbed == ([] if effects == "time" else ["z"])
    x = np.column_stack([design(data)[slopes], *parts])
    ols = OLS(data["y"], x).fit()
    k = len(slopes)
    assert_allclose(fit.params[slopes], ols.params[:k], rtol=1e-9)
    assert_allclose(fit.bse[slopes], ols.bse[:k], rtol=1e-9)
    assert_allclose(fit.fittedvalues, ols.fittedvalues, rtol=1e-9)
    assert_allclose(fit.resid, ols.resid, atol=1e-9)
    assert fit.llf == pytest.approx(ols.llf, rel=1e-10)
    assert fit.df_resid == ols.df_resid
    assert list(fit.resid.index) == list(data.index)
    # F that all effects are zero
    restricted = OLS(data["y"], design(data)[["Intercept", *slopes]]).fit()
    restricted_x = np.column_stack([design(data)[["Intercept", *slopes]]])
    assert restricted_x.shape[1] == k + 1
    value, df1, df2 = fit.estimate.f_pooled
    change = (restricted.ssr - ols.ssr) / (restricted.df_resid - ols.df_resid)
    assert value == pytest.approx(change / ols.mse_resid, rel=1e-9)
    assert (df1, df2) == (restricted.df_resid - ols.df_resid, ols.df_resid)


def test_random_effects_are_gls(data: pd.DataFrame) -> None:
    fit = mar.random_effects(FORMULA, data, "id", "t").fit()
    parts = fit.variance_decomposition
    d = dummies(data, "id")
    v = parts["effects"] * d @ d.T + parts["residual"] * np.eye(len(data))
    x, y = design(data).to_numpy(), data["y"].to_numpy()
    inverse = np.linalg.inv(v)
    b = np.linalg.solve(x.T @ inverse @ x, x.T @ inverse @ y)
    assert_allclose(fit.params[list(design(data))], b, rtol=1e-9)
    blup = parts["effects"] * d.T @ inverse @ (y - x @ b)
    assert_allclose(fit.effects, blup, rtol=1e-8, atol=1e-12)
    assert_allclose(fit.fittedvalues, x @ b + d @ blup, rtol=1e-9)
    assert_allclose(fit.fitted_marginal, x @ b, rtol=1e-9)
    assert_allclose(fit.resid_combined, y - x @ b, rtol=1e-8, atol=1e-10)
    assert list(fit.theta.index) == sorted(data["id"].unique())


def test_between_and_differences(data: pd.DataFrame) -> None:
    frame = design(data).assign(y=data["y"], id=data["id"], t=data["t"])
    means = frame.drop(columns="t").groupby("id").mean()
    ols = OLS(means["y"], means.drop(columns="y")).fit()
    fit = mar.between(FORMULA, data, "id", "t").fit()
    assert_allclose(fit.params[ols.params.index], ols.params, rtol=1e-9)
    assert_allclose(fit.resid, ols.resid, atol=1e-10)
    assert list(fit.resid.index) == list(means.index)
    ordered = frame.sort_values(["id", "t"])
    change = ordered.drop(columns="id").groupby(frame["id"]).diff()
    change = change[change["t"] == 1]
    names = ["C(g)[T.b]", "C(g)[T.c]", "x1", "x2"]
    ols = OLS(change["y"], change[names]).fit()
    fit = mar.first_difference(FORMULA, data, "id", "t").fit()
    assert fit.absorbed == ["z"]
    assert_allclose(fit.params[names], ols.params, rtol=1e-9)
    assert_allclose(fit.bse[names], ols.bse, rtol=1e-9)
    expected = ols.resid.reindex([r for r in data.index if r in ols.resid.index])
    pd.testing.assert_series_equal(fit.resid, expected, check_names=False, rtol=1e-9)
    assert_allclose(
        fit.fittedvalues + fit.resid, change["y"].reindex(fit.resid.index), rtol=1e-9
    )


def test_mundlak_gives_the_fixed_effects_slopes(data: pd.DataFrame) -> None:
    fe = mar.fixed_effects(FORMULA, data, "id", "t").fit()
    slopes = ["C(g)[T.b]", "C(g)[T.c]", "x1", "x2"]
    for which in ("re", "pooled"):
        model = mar.mundlak(FORMULA, data, "id", "t", model=which)
        fit = model.fit()
        assert_allclose(fit.params[slopes], fe.params[slopes], rtol=1e-8)
        assert sorted(model.means) == sorted(f"mean({name})" for name in slopes)
        assert "z" in fit.params
        means = fit.params[list(model.means)].to_numpy()
        between = mar.within_between(FORMULA, data, "id", "t", model=which).fit()
        assert_allclose(between.params[slopes], fe.params[slopes], rtol=1e-8)
        total = fit.params[[m[5:-1] for m in model.means]].to_numpy() + means
        assert_allclose(between.params[list(model.means)], total, rtol=1e-7)


def test_mundlak_as_mixed_model(data: pd.DataFrame) -> None:
    model = mar.mundlak("y ~ x1 + z", data, "id", "t", model="mixed")
    fit = model.fit()
    assert model.means == ("mean(x1)",)
    assert set(fit.fe_params.index) == {"Intercept", "x1", "z", "mean(x1)"}
    frame = data.assign(m=data.groupby("id")["x1"].transform("mean"))
    direct = mar.mixedlm("y ~ x1 + z + m", frame, groups="id", time="t").fit()
    assert_allclose(fit.fe_params["mean(x1)"], direct.fe_params["m"], rtol=1e-5)
    assert fit.llf == pytest.approx(direct.llf, rel=1e-9)
    plain = mar.mundlak("y ~ x1 + z", data, "id", "t", model="mixed", residual="car1")
    assert plain.residual.label == "CAR(1)"


def test_maximum_likelihood_is_the_mixed_model(data: pd.DataFrame) -> None:
    for reml in (False, True):
        mixed = mar.mixedlm(
            FORMULA, data, groups="id", residual="independent"
        ).fit(reml=reml)  # fmt: skip
        fit = mar.random_effects(FORMULA, data, "id", "t").fit(
            method="reml" if reml else "ml"
        )
        names = list(mixed.fe_params.index)
        assert_allclose(fit.params[names], mixed.fe_params, rtol=1e-6)
        assert_allclose(fit.bse[names], mixed.bse_fe, rtol=1e-6)
        assert fit.llf == pytest.approx(mixed.llf, rel=1e-9)
        assert_allclose(fit.fittedvalues, mixed.fittedvalues, rtol=1e-5)


@settings(max_examples=12)
@given(
    seed=st.integers(0, 1000),
    shift=st.sampled_from([0.0, 1e3, -1e6, 1e8]),
    scale=st.sampled_from([1.0, 1e-8, 1e6]),
    function=st.sampled_from(["fixed_effects", "random_effects", "pooled", "between"]),
)
def test_units_and_offsets(
    seed: int, shift: float, scale: float, function: str
) -> None:
    data = panel_data(seed)
    other = data.assign(x1=scale * data["x1"], x2=data["x2"] + shift)
    fit = getattr(mar, function)("y ~ x1 + x2", data, "id", "t").fit()
    changed = getattr(mar, function)("y ~ x1 + x2", other, "id", "t").fit()
    tolerance = 1e-9 + 1e-14 * abs(shift)
    names = ["x1", "x2"]
    factor = np.array([scale, 1.0])
    assert_allclose(changed.params[names] * factor, fit.params[names], rtol=tolerance)
    assert_allclose(changed.bse[names] * factor, fit.bse[names], rtol=tolerance)
    level = changed.params["Intercept"] + shift * changed.params["x2"]
    assert level == pytest.approx(
        fit.params["Intercept"], abs=1e-7 + 1e-13 * abs(shift)
    )


def test_faint_within_variation_is_not_absorbed() -> None:
    data = panel_data(3)
    level = 1e6 * pd.factorize(data["id"])[0]
    fit = mar.fixed_effects("y ~ x1 + x2", data, "id", "t").fit()
    other = mar.fixed_effects(
        "y ~ x1 + x2", data.assign(x1=data["x1"] + level), "id", "t"
    ).fit()
    assert other.absorbed == []
    assert_allclose(other.params[["x1", "x2"]], fit.params[["x1", "x2"]], rtol=1e-7)
    assert_allclose(other.bse[["x1", "x2"]], fit.bse[["x1", "x2"]], rtol=1e-7)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), function=st.sampled_from(FUNCTIONS))
def test_order_of_rows_does_not_matter(seed: int, function: str) -> None:
    data = panel_data(seed)
    shuffled = data.sample(frac=1.0, random_state=seed + 1)
    build = getattr(mar, function)
    a, b = (build("y ~ x1 + x2", d, "id", "t").fit() for d in (data, shuffled))
    assert_allclose(a.params, b.params, rtol=1e-9)
    assert_allclose(a.bse, b.bse, rtol=1e-9)
    assert_allclose(a.resid, b.resid.reindex(a.resid.index), atol=1e-9)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("cov_type", ["classical", "clustered"])
def test_vocabulary(data: pd.DataFrame, function: str, cov_type: str) -> None:
    if function == "between" and cov_type == "clustered":
        cov_type = "robust"
    fit = getattr(mar, function)("y ~ x1 + x2", data, "id", "t").fit(cov_type)
    assert fit.cov_type == cov_type
    names = list(fit.params.index)
    for values in (fit.bse, fit.tvalues, fit.pvalues):
        assert list(values.index) == names
    assert_allclose(fit.tvalues, fit.params / fit.bse)
    interval = fit.conf_int(0.1)
    assert list(interval.index) == names
    assert_allclose(interval.mean(axis=1), fit.params, rtol=1e-9)
    assert (fit.conf_int(0.01)[0] < interval[0]).all()
    assert_allclose(np.sqrt(np.diag(fit.cov_params())), fit.bse)
    assert fit.nobs > 0
    assert fit.df_resid > 0
    assert fit.scale > 0.0
    assert fit.n_entities == fit.n_groups == data["id"].nunique()
    assert fit.n_times.min <= fit.n_times.mean <= fit.n_times.max
    for value in (fit.rsquared_within, fit.rsquared_between, fit.rsquared_overall):
        assert 0.0 <= value <= 1.0
    one = fit.t_test("x1 = 0.5")
    assert float(np.squeeze(one.effect)) == pytest.approx(fit.params["x1"])
    wald = fit.wald_test("x1 = 0, x2 = 0", use_f=False)
    f = fit.f_test("x1 = 0, x2 = 0")
    assert float(f.fvalue) == pytest.approx(float(wald.statistic) / 2.0)
    text = str(fit.summary(title="A title", yname="what", alpha=0.1))
    assert "A title" in text
    assert "what" in text
    assert "0.95]" in text
    assert max(map(len, text.splitlines())) <= 80
    frames = fit.summary().to_frames()
    assert_allclose(frames["coefficients"]["Coef."], fit.params)
    assert "<table" in fit.summary().as_html()
    assert r"\begin{table}" in fit.summary().as_latex()
    kinds = {
        "fixed_effects": "fe",
        "random_effects": "re",
        "between": "between",
        "first_difference": "fd",
        "pooled": "pooled",
        "mundlak": "re",
        "fixed_effects_ar1": "fe_ar1",
        "random_effects_ar1": "re_ar1",
    }
    assert fit.kind == kinds[function]
    assert (fit.rho is None) == (not function.endswith("ar1"))
    again = pickle.loads(pickle.dumps(fit))
    assert_allclose(again.params, fit.params)
    assert str(again.summary()) == str(fit.summary())


def test_absorbed_is_noted(data: pd.DataFrame) -> None:
    fit = mar.fixed_effects(FORMULA, data, "id", "t").fit()
    assert fit.absorbed == ["z"]
    assert "z" not in fit.params
    assert "Absorbed by the effects, without a coefficient: z" in str(fit.summary())
    both = mar.fixed_effects("y ~ x1 + z + t", data, "id", "t", effects="twoways").fit()
    assert both.absorbed == ["z", "t"] or sorted(both.absorbed) == ["t", "z"]
    age = data.assign(age=data["t"] - 1990.0 + 7.0 * pd.factorize(data["id"])[0])
    year = mar.fixed_effects("y ~ x1 + age + t", age, "id", "t").fit()
    assert year.absorbed == ["t"]
    assert any("collinear with the other" in note for note in year.notes)


def test_predict(data: pd.DataFrame) -> None:
    fit = mar.random_effects(FORMULA, data, "id", "t").fit()
    assert_allclose(fit.predict(), fit.fitted_marginal)
    new = data.iloc[:4]
    pd.testing.assert_series_equal(
        fit.predict(new), fit.fitted_marginal.iloc[:4], check_names=False
    )
    matrix = design(data).to_numpy()[:4]
    assert_allclose(fit.predict(matrix), fit.fitted_marginal.iloc[:4])
    with pytest.raises(LengthError, match="2 columns"):
        fit.predict(np.ones((3, 2)))


def test_names_in_the_summary(data: pd.DataFrame) -> None:
    fit = mar.pooled("y ~ x1", data, "id", "t").fit()
    assert "slope" in str(fit.summary(xname=["level", "slope"]))
    with pytest.raises(LengthError, match="1 names"):
        fit.summary(xname=["level"])


def test_hypotheses_that_cannot_be_tested(data: pd.DataFrame) -> None:
    fit = mar.pooled("y ~ x1 + x2", data, "id", "t").fit()
    with pytest.raises(NotComputedError, match="singular"):
        fit.wald_test([[0, 1, 0], [0, 2, 0]])
    with pytest.raises(UnsupportedError, match="2 columns"):
        fit.wald_test([[0, 1]])
    with pytest.raises(MixedARError, match="there is no coefficient 'nothing'"):
        fit.wald_test("nothing = 0")


@pytest.mark.parametrize("effects", ["entity", "twoways"])
def test_nearly_collinear_columns_of_fixed_effects(effects: str) -> None:
    # linearmodels takes the second for absorbed
    frame = panel_data().assign(z=lambda d: d["x1"] + 1e-5 * d["x2"])
    fit = mar.fixed_effects("y ~ x1 + z", frame, "id", "t", effects=effects).fit()
    plain = mar.fixed_effects("y ~ x1 + x2", frame, "id", "t", effects=effects).fit()
    assert fit.params["z"] == pytest.approx(1e5 * plain.params["x2"], rel=1e-5)
    assert fit.params["x1"] + fit.params["z"] == pytest.approx(
        plain.params["x1"], rel=1e-4
    )
    assert fit.bse["z"] == pytest.approx(1e5 * plain.bse["x2"], rel=1e-5)
    assert fit.llf == pytest.approx(plain.llf)


@pytest.mark.parametrize("weights", [None, "w"])
def test_rounding_in_entity_means_is_no_regressor(weights: str | None) -> None:
    """A balanced trend has equal means; noise of 1e-8 in them changes nothing."""
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"id": np.repeat(range(12), 5), "t": np.tile(range(5), 12)})
    data["x"] = rng.normal(size=60)
    data["w"] = np.repeat(rng.uniform(1.0, 2.0, 12), 5)
    data["y"] = data["x"] + rng.normal(size=12)[data["id"]] + rng.normal(size=60)
    noisy = data.assign(t=data["t"] + 1e-8 * rng.normal(size=60))
    call = {"entity": "id", "weights": weights}
    exact, close = (
        mar.random_effects("y ~ x + t", each, **call).fit() for each in (data, noisy)
    )
    np.testing.assert_allclose(close.params, exact.params, rtol=1e-6)
    np.testing.assert_allclose(close.bse, exact.bse, rtol=1e-6)
    with pytest.raises(RankDeficiencyError):
        mar.between("y ~ x + t", noisy, entity="id").fit()


def test_many_columns_have_the_digits_of_few() -> None:
    """Dummies written out give what their elimination gives, offsets or not."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"id": np.repeat(range(210), 4)})
    data["x"] = 1e4 + rng.normal(size=840)
    data["y"] = data["x"] + rng.normal(size=210)[data["id"]] + rng.normal(size=840)
    wide = mar.pooled("y ~ x + C(id)", data, entity="id").fit()
    within = mar.fixed_effects("y ~ x", data, entity="id").fit()
    np.testing.assert_allclose(wide.params["x"], within.params["x"], rtol=1e-8)
    np.testing.assert_allclose(wide.bse["x"], within.bse["x"], rtol=1e-8)
    np.testing.assert_allclose(wide.scale, within.scale, rtol=1e-8)
