"""
Weighted panel fits against weighted dummies, GLS, linearmodels and the mixed model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from linearmodels.panel import PanelOLS
from numpy.testing import assert_allclose
from statsmodels.regression.linear_model import WLS

import mixedar.formula.api as mar
from helpers.panel_cases import dummies, panel_data
from mixedar.api import PooledOLS
from mixedar.exceptions import (
    DroppedRowsWarning,
    MissingDataError,
    MixedARError,
    UnsupportedError,
)

FORMULA = "y ~ x1 + x2"
SLOPES = ["x1", "x2"]


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    frame = panel_data(2)
    frame["wt"] = rng.uniform(0.2, 5.0, len(frame))
    frame["y"] += rng.normal(size=len(frame)) / np.sqrt(frame["wt"])
    return frame


def columns(data: pd.DataFrame, effects: str | None) -> np.ndarray:
    parts = {
        None: [np.ones((len(data), 1))],
        "entity": [dummies(data, "id")],
        "time": [dummies(data, "t")],
        "twoways": [dummies(data, "id"), dummies(data, "t")[:, 1:]],
    }[effects]
    return np.column_stack([data[SLOPES], *parts])


def model(data: pd.DataFrame, effects: str | None, weights: Any = "wt") -> Any:
    if effects is None:
        return mar.pooled(FORMULA, data, "id", "t", weights=weights)
    where = {"entity": "id", "time": "t", "effects": effects}
    return mar.fixed_effects(FORMULA, data, weights=weights, **where)


@pytest.mark.parametrize("effects", [None, "entity", "time", "twoways"])
def test_weighted_dummies(data: pd.DataFrame, effects: str | None) -> None:
    fit = model(data, effects).fit()
    weights = data["wt"] / data["wt"].mean()
    wls = WLS(data["y"], columns(data, effects), weights=weights).fit()
    assert_allclose(fit.params[SLOPES], wls.params[:2], rtol=1e-9)
    assert_allclose(fit.bse[SLOPES], wls.bse[:2], rtol=1e-9)
    assert fit.scale == pytest.approx(wls.scale)
    assert fit.df_resid == wls.df_resid
    assert fit.llf == pytest.approx(wls.llf)
    assert_allclose(fit.fittedvalues, wls.fittedvalues, rtol=1e-8, atol=1e-9)
    assert_allclose(fit.resid, wls.resid, rtol=1e-7, atol=1e-9)
    if effects is not None:
        plain = WLS(data["y"], columns(data, None), weights=weights).fit()
        value, _, extra = wls.compare_f_test(plain)
        assert fit.estimate.f_pooled == pytest.approx((value, extra, wls.df_resid))
        # the intercept is the weighted mean of the effects
        rest = data["y"] - data[SLOPES] @ fit.params[SLOPES]
        assert fit.params["Intercept"] == pytest.approx((weights * rest).mean())
    assert "Weights:" in str(fit.summary())
    robust = model(data, effects).fit("robust", small_sample=None)
    dense = wls.get_robustcov_results("HC0")
    assert_allclose(robust.bse[SLOPES], dense.bse[:2], rtol=1e-9)
    clustered = model(data, effects).fit("clustered", small_sample=None)
    groups = pd.factorize(data["id"])[0]
    dense = wls.get_robustcov_results(
        "cluster", groups=groups, use_correction=False, df_correction=False
    )
    assert_allclose(clustered.bse[SLOPES], dense.bse[:2], rtol=1e-7)
    # the unit of the weights is of no account, nor how they are given
    for other in (3.0 * data["wt"], (7.0 * data["wt"]).to_numpy()):
        again = model(data, effects, other).fit()
        assert_allclose(again.bse, fit.bse, rtol=1e-12)
        assert again.scale == pytest.approx(fit.scale)
    ones = model(data, effects, np.full(len(data), 2.0)).fit()
    plain = model(data, effects, None).fit()
    assert_allclose(ones.params, plain.params, rtol=1e-9)
    assert_allclose(ones.cov_params(), plain.cov_params(), rtol=1e-8)


@pytest.mark.parametrize("effects", ["entity", "twoways"])
def test_fixed_effects_against_linearmodels(data: pd.DataFrame, effects: str) -> None:
    indexed = data.set_index(["id", "t"]).sort_index()
    x = indexed[SLOPES].assign(Intercept=1.0)
    options = {"entity_effects": True, "time_effects": effects == "twoways"}
    other = PanelOLS(indexed[["y"]], x, weights=indexed["wt"], **options).fit()
    fit = model(data, effects).fit()
    names = list(other.params.index)
    assert_allclose(fit.params[names], other.params, rtol=1e-8)
    assert_allclose(fit.cov_params().loc[names, names], other.cov, rtol=1e-7)
    assert fit.scale == pytest.approx(float(other.s2))


@pytest.mark.parametrize("effects", ["entity", "twoways"])
def test_equal_weights_without_an_intercept(data: pd.DataFrame, effects: str) -> None:
    formula, options = f"{FORMULA} - 1", {"effects": effects}
    plain = mar.fixed_effects(formula, data, "id", "t", **options).fit()
    ones = np.ones(len(data))
    equal = mar.fixed_effects(formula, data, "id", "t", weights=ones, **options).fit()
    assert_allclose(equal.bse, plain.bse, rtol=1e-9)
    assert equal.llf == pytest.approx(plain.llf)


def test_random_effects_are_weighted_gls(data: pd.DataFrame) -> None:
    for method in ("swamy-arora", "ml", "reml"):
        random = mar.random_effects(FORMULA, data, "id", "t", weights="wt")
        fit = random.fit(method=method)
        parts = fit.variance_decomposition
        weights = (data["wt"] / data["wt"].mean()).to_numpy()
        d, x = dummies(data, "id"), columns(data, None)
        v = parts["effects"] * d @ d.T + np.diag(parts["residual"] / weights)
        inverse = np.linalg.inv(v)
        cov = np.linalg.inv(x.T @ inverse @ x)
        y = data["y"].to_numpy()
        b = cov @ x.T @ inverse @ y
        assert_allclose(fit.params[[*SLOPES, "Intercept"]], b, rtol=1e-6)
        blup = parts["effects"] * d.T @ inverse @ (y - x @ b)
        assert_allclose(fit.effects, blup, rtol=1e-5, atol=1e-6)
        if method != "swamy-arora":
            errors = np.sqrt(np.diag(cov))
            assert_allclose(fit.bse[[*SLOPES, "Intercept"]], errors, rtol=1e-5)
            n, k = x.shape
            r = y - x @ b
            llf = np.linalg.slogdet(v)[1] + r @ inverse @ r
            if method == "reml":
                llf += np.linalg.slogdet(x.T @ inverse @ x)[1]
                n -= k
            llf = -0.5 * (llf + n * np.log(2.0 * np.pi))
            assert fit.llf == pytest.approx(llf, rel=1e-6)
        fe = model(data, "entity").fit()
        # equal weights: the estimator without
        ones = mar.random_effects(
            FORMULA, data, "id", "t", weights=np.full(len(data), 3.0)
        ).fit(method=method)
        plain = mar.random_effects(FORMULA, data, "id", "t").fit(method=method)
        assert_allclose(ones.params, plain.params, rtol=1e-6)
        assert_allclose(ones.bse, plain.bse, rtol=1e-5)
        assert mar.hausman(fe, fit).tests


def test_variances_of_weighted_random_effects_are_unbiased() -> None:
    rng = np.random.default_rng(0)
    found = []
    who = np.repeat(np.arange(40), 5)
    weights = rng.uniform(0.2, 3.0, len(who))
    weights /= weights.mean()
    for _ in range(60):
        x = rng.normal(size=len(who))
        noise = rng.normal(size=len(who)) / np.sqrt(weights)
        frame = pd.DataFrame({"id": who, "x": x, "wt": weights})
        frame["y"] = x + rng.normal(size=40)[who] + noise
        fit = mar.random_effects("y ~ x", frame, "id", weights="wt").fit()
        found.append(fit.variance_decomposition[["effects", "residual"]])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(60)
    assert (np.abs(mean - 1.0) < 3.5 * error).all()


def test_mundlak_gives_weighted_fixed_effects(data: pd.DataFrame) -> None:
    fe = model(data, "entity").fit()
    for which in ("re", "pooled"):
        fit = mar.mundlak(FORMULA, data, "id", "t", model=which, weights="wt").fit()
        assert_allclose(fit.params[SLOPES], fe.params[SLOPES], rtol=1e-8)
    re = mar.random_effects(FORMULA, data, "id", "t", weights="wt").fit()
    mundlak = mar.mundlak(FORMULA, data, "id", "t", weights="wt").fit("clustered")
    test = mar.hausman(fe, re, "mundlak-robust", use_f=False)
    both = ["mean(x1)", "mean(x2)"]
    wald = mundlak.wald_test(
        np.eye(5)[[list(mundlak.params.index).index(n) for n in both]], use_f=False
    )
    assert test.tests[0].statistic == pytest.approx(float(wald.statistic), rel=1e-2)


def test_wild_bootstrap_of_a_weighted_fit(data: pd.DataFrame) -> None:
    fit = model(data, "twoways").fit("clustered")
    test = fit.wild_bootstrap("x1 = 0.9", reps=299, seed=1)
    assert test.statistic == pytest.approx((fit.params["x1"] - 0.9) / fit.bse["x1"])
    with pytest.raises(UnsupportedError, match="CR2 is not defined"):
        model(data, None).fit("CR2")


def test_rows_and_arrays(data: pd.DataFrame) -> None:
    fit = model(data, "entity").fit()
    holes = data.copy()
    holes.iloc[3, holes.columns.get_loc("wt")] = np.nan
    with pytest.raises(MissingDataError, match="'wt'"):
        model(holes, "entity")
    with pytest.warns(DroppedRowsWarning, match="1 row"):
        dropped = mar.pooled(
            FORMULA, holes, "id", "t", weights="wt", missing="drop"
        ).fit()
    assert dropped.nobs == len(data) - 1
    subset = data["t"] > 2002
    part = mar.pooled(FORMULA, data, "id", "t", weights="wt", subset=subset).fit()
    assert_allclose(part.params, model(data[subset], None).fit().params)
    shuffled = model(data.sample(frac=1.0, random_state=1), "entity").fit()
    assert_allclose(shuffled.bse, fit.bse, rtol=1e-9)
    x = data[SLOPES].assign(const=1.0)
    arrays = PooledOLS(data["y"], x, data["id"], data["t"], weights=data["wt"]).fit()
    assert_allclose(arrays.params[SLOPES], model(data, None).fit().params[SLOPES])


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf])
def test_bad_weights(data: pd.DataFrame, bad: float) -> None:
    weights = data["wt"].to_numpy().copy()
    weights[4] = bad
    with pytest.raises(MixedARError, match=r"weights|'weights'"):
        model(data, "entity", weights)


def test_where_weights_are_not_defined(data: pd.DataFrame) -> None:
    for function in ("between", "first_difference", "fixed_effects_ar1"):
        with pytest.raises(UnsupportedError, match="weights= is not defined for"):
            getattr(mar, function)(FORMULA, data, "id", "t", weights="wt")
    fe = model(data, "entity").fit()
    with pytest.raises(UnsupportedError, match="without weights="):
        mar.panel_tests(fe)
    re = mar.random_effects(FORMULA, data, "id", "t").fit()
    with pytest.raises(UnsupportedError, match="different weights"):
        mar.hausman(fe, re)
    with pytest.raises(UnsupportedError, match="baltagi-chang"):
        mar.random_effects(FORMULA, data, "id", "t", weights="wt").fit(
            unbalanced="baltagi-chang"
        )
