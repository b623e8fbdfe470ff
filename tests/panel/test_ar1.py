"""
Fixed and random effects with AR(1) errors: Stata's figures and dense algebra.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from helpers.reference_cases import read_csv
from mixedar.exceptions import (
    IdentificationError,
    ResponseError,
    TimeError,
    UnsupportedError,
)
from mixedar.panel import FixedEffectsAR1
from mixedar.panel.estimators.ar1 import RHO_METHODS, ar1_transform

GRUNFELD = read_csv(
    Path(__file__).parents[1] / "reference" / "panel" / "data" / "grunfeld.csv"
)
FORMULA = "inv ~ value + capital"


def printed(value: float, text: str) -> None:
    """Agreement with a printed figure in every digit, but the last."""
    digits = len(text.partition(".")[2])
    assert value == pytest.approx(float(text), abs=2.0 * 10.0**-digits)


# Output of Stata's manual, entry xtregar, for webuse grunfeld (recalled).


def test_stata_fixed_effects() -> None:
    fit = mar.fixed_effects_ar1(FORMULA, GRUNFELD, "firm", "year").fit()
    assert fit.nobs == 190
    assert fit.df_resid == 178
    printed(fit.rho, ".67210608")
    for name, coef, error in (
        ("value", ".0949999", ".0091377"),
        ("capital", ".350161", ".0293747"),
    ):
        printed(fit.params[name], coef)
        printed(fit.bse[name], error)
    printed(fit.params["Intercept"], "-63.22022")
    # xtregar prints 5.648271: the mean of the innovations is not divided by 1 - rho
    variance = fit.bse["Intercept"] ** 2
    assert np.sqrt(variance) * (1.0 - fit.rho) == pytest.approx(5.648271, abs=2e-6)
    parts = np.sqrt(fit.variance_decomposition)
    printed(parts["effects"], "91.507609")
    printed(parts["residual"], "40.992469")
    printed(fit.variance_decomposition["fraction"], ".8328647")
    printed(fit.rsquared_within, ".5927")
    printed(fit.rsquared_between, ".7989")
    printed(fit.rsquared_overall, ".7904")
    printed(float(fit.f_slopes.fvalue), "129.49")


RANDOM = {
    "all years": (
        {"value": ".0949215", "capital": ".3196589", "Intercept": "-44.38123"},
        {"value": ".0082168", "capital": ".0258618", "Intercept": "26.97525"},
        ("74.517098", "41.482494", ".67315699", ".7634186"),
    ),
    "without 1944": (
        {"value": ".0947714", "capital": ".3223932", "Intercept": "-45.21427"},
        {"value": ".0083691", "capital": ".0263226", "Intercept": "27.12492"},
        ("74.662876", "42.253042", ".66973313", ".75742494"),
    ),
}


@pytest.mark.parametrize("sample", RANDOM)
def test_stata_random_effects(sample: str) -> None:
    data = GRUNFELD if sample == "all years" else GRUNFELD[GRUNFELD["year"] != 1944]
    fit = mar.random_effects_ar1(FORMULA, data, "firm", "year").fit()
    coefs, errors, (sigma_u, sigma_e, theta, fraction) = RANDOM[sample]
    for name, text in coefs.items():
        # Stata stops iterating rho a step of 1e-8 earlier
        assert fit.params[name] == pytest.approx(float(text), rel=1e-6)
        assert fit.bse[name] == pytest.approx(float(errors[name]), rel=1e-5)
    parts = fit.variance_decomposition
    assert np.sqrt(parts["effects"]) == pytest.approx(float(sigma_u), rel=1e-7)
    assert np.sqrt(parts["residual"]) == pytest.approx(float(sigma_e), rel=1e-7)
    assert fit.theta.iloc[0] == pytest.approx(float(theta), rel=1e-7)
    assert parts["fraction"] == pytest.approx(float(fraction), rel=1e-7)
    if sample == "without 1944":
        assert fit.estimate.statistics == {
            "Durbin-Watson (BFN)": pytest.approx(0.71380994, rel=1e-7),
            "Baltagi-Wu LBI": pytest.approx(1.0134522, rel=1e-7),
        }
        assert any("Gaps in year: 10" in note for note in fit.notes)
        printed(float(fit.f_slopes.statistic), "351.37")


def test_stata_lbi_of_one_regressor() -> None:
    # S. Merryman, Statalist, 29 September 2010: xtregar inve mval, fe lbi
    fit = mar.fixed_effects_ar1("inv ~ value", GRUNFELD, "firm", "year").fit()
    assert fit.estimate.statistics == {
        "Durbin-Watson (BFN)": pytest.approx(0.50577251, rel=1e-7),
        "Baltagi-Wu LBI": pytest.approx(0.82334942, rel=1e-7),
    }


def unbalanced(seed: int, entities: int = 14) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(entities):
        size = 1 if i == 0 else int(rng.integers(2, 9))
        times = np.sort(rng.choice(12, size, replace=False))
        e = np.empty(size)
        for j in range(size):
            if j == 0:
                e[j] = rng.normal()
                continue
            power = 0.6 ** (times[j] - times[j - 1])
            e[j] = power * e[j - 1] + np.sqrt(1.0 - power**2) * rng.normal()
        x = rng.normal(size=(size, 2)) + 1.0
        u, z = rng.normal(size=2)
        y = 2.0 + x @ [1.0, -0.5] + 0.5 * z + u + e
        rows.append(
            pd.DataFrame(
                {
                    "id": f"e{i:02}",
                    "t": times,
                    "y": y,
                    "a": x[:, 0],
                    "b": x[:, 1],
                    "z": z,
                }
            )
        )
    data = pd.concat(rows, ignore_index=True)
    return data.sample(frac=1.0, random_state=seed).reset_index(drop=True)


def correlation(data: pd.DataFrame, rho: float) -> np.ndarray:
    """Correlation matrix of the errors, rows as in the data."""
    same = data["id"].to_numpy()[:, None] == data["id"].to_numpy()
    distance = np.abs(np.subtract.outer(data["t"].to_numpy(), data["t"].to_numpy()))
    return np.where(same, rho ** distance.astype(float), 0.0)


def indicators(data: pd.DataFrame) -> np.ndarray:
    return (data["id"].to_numpy()[:, None] == np.unique(data["id"])).astype(float)


def gls(y: np.ndarray, x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inverse = np.linalg.inv(v)
    cov = np.linalg.inv(x.T @ inverse @ x)
    return cov @ (x.T @ inverse @ y), cov


@pytest.mark.parametrize("rho", [0.55, 0.0, -0.4, 0.95])
def test_transformation_whitens(rho: float) -> None:
    data = unbalanced(1)
    panel = mar.random_effects_ar1("y ~ a", data, "id", "t").panel
    order = panel.order
    assert order is not None
    v = correlation(data, rho)[np.ix_(order, order)]
    c = ar1_transform(np.eye(len(data)), rho, panel.gaps)
    assert_allclose(c @ v @ c.T, (1.0 - rho**2) * np.eye(len(data)), atol=1e-12)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), rho=st.floats(-0.8, 0.95))
def test_random_effects_are_gls(seed: int, rho: float) -> None:
    data = unbalanced(seed)
    fit = mar.random_effects_ar1("y ~ a + b + z", data, "id", "t").fit(rho=rho)
    parts = fit.variance_decomposition
    # errors have the variance of the innovations over 1 - rho^2
    v = parts["residual"] / (1.0 - rho**2) * correlation(data, rho)
    dummies = indicators(data)
    v += parts["effects"] * dummies @ dummies.T
    x = np.column_stack([np.ones(len(data)), data[["a", "b", "z"]]])
    y = data["y"].to_numpy()
    params, cov = gls(y, x, v)
    assert_allclose(fit.params, params, rtol=1e-8, atol=1e-10)
    resid = y - x @ params
    s2 = resid @ np.linalg.inv(v) @ resid / (len(y) - 4)
    assert_allclose(fit.cov_params(), s2 * cov, rtol=1e-7, atol=1e-12)
    blup = parts["effects"] * dummies.T @ np.linalg.inv(v) @ resid
    assert_allclose(fit.effects, blup, rtol=1e-7, atol=1e-10)
    fitted = x @ params + dummies @ blup
    assert_allclose(fit.fittedvalues, fitted, rtol=1e-7, atol=1e-10)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), rho=st.floats(-0.8, 0.95))
def test_fixed_effects_are_gls_with_dummies(seed: int, rho: float) -> None:
    data = unbalanced(seed)
    fit = mar.fixed_effects_ar1("y ~ a + b + z", data, "id", "t").fit(
        rho=rho, first="keep"
    )
    assert fit.absorbed == ["z"]
    assert fit.nobs == len(data)
    x = np.column_stack([data[["a", "b"]], indicators(data)])
    y, v = data["y"].to_numpy(), correlation(data, rho)
    params, cov = gls(y, x, v)
    assert_allclose(fit.params[["a", "b"]], params[:2], rtol=1e-7, atol=1e-9)
    resid = y - x @ params
    s2 = resid @ np.linalg.inv(v) @ resid / (len(y) - x.shape[1])
    assert_allclose(
        fit.cov_params().loc[["a", "b"], ["a", "b"]], s2 * cov[:2, :2], rtol=1e-6
    )
    assert fit.scale == pytest.approx(s2 * (1.0 - rho**2), rel=1e-7)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), rho=st.floats(-0.8, 0.95))
def test_first_rows_dropped_are_least_squares(seed: int, rho: float) -> None:
    data = unbalanced(seed)
    model = mar.fixed_effects_ar1("y ~ a + b", data, "id", "t")
    fit, panel = model.fit(rho=rho), model.panel
    rows = panel.gaps > 0.0
    dummies = np.eye(panel.n_entities)[panel.entity]
    c = ar1_transform(
        np.column_stack([panel.y, panel.x[:, 1:], dummies]), rho, panel.gaps
    )[rows]
    used = np.abs(c[:, 3:]).sum(axis=0) > 0
    x = np.column_stack([c[:, 1:3], c[:, 3:][:, used]])
    params = np.linalg.lstsq(x, c[:, 0], rcond=None)[0]
    resid = c[:, 0] - x @ params
    df = len(x) - x.shape[1]
    assert fit.df_resid == df
    assert fit.scale == pytest.approx(resid @ resid / df, rel=1e-8)
    cov = fit.scale * np.linalg.inv(x.T @ x)
    assert_allclose(fit.params[["a", "b"]], params[:2], rtol=1e-7, atol=1e-9)
    assert_allclose(fit.cov_params().loc[["a", "b"], ["a", "b"]], cov[:2, :2], 1e-7)
    # the intercept is the average of the effects weighted by their information
    squares = (x[:, 2:] ** 2).sum(axis=0)
    weights = np.concatenate([np.zeros(2), squares / squares.sum()])
    assert fit.params["Intercept"] == pytest.approx(weights @ params, rel=1e-7)
    assert fit.bse["Intercept"] == pytest.approx(
        np.sqrt(weights @ cov @ weights), rel=1e-7
    )
    joint = fit.cov_params().loc["Intercept", ["a", "b"]]
    assert_allclose(joint, (weights @ cov)[:2], rtol=1e-6, atol=1e-12)


def within_residuals(data: pd.DataFrame) -> pd.DataFrame:
    fit = mar.fixed_effects("y ~ a + b", data, "id", "t").fit()
    return data.assign(e=fit.resid).sort_values(["id", "t"])


@pytest.mark.parametrize("method", RHO_METHODS)
def test_first_step_of_rho(method: str) -> None:
    data = unbalanced(3, 40)
    found = within_residuals(data)
    lag = found.groupby("id")["e"].shift()
    pair = (found["t"] - found.groupby("id")["t"].shift()) == 1
    e, now, before = found["e"], found.loc[pair, "e"], lag[pair]
    n, k, total = len(e), 2, (e**2).sum()
    dw = 1.0 - 0.5 * ((now - before) ** 2).sum() / total
    expected = {
        "dw": dw,
        "regress": (now * before).sum() / (before**2).sum(),
        "freg": (now * before).sum() / (now**2).sum(),
        "tscorr": (now * before).sum() / total,
        "theil": (now * before).sum() / total * (n - k) / n,
        "nagar": (dw * n**2 + k**2) / (n**2 - k**2),
        "onestep": (now * before).sum() / total * n / pair.sum(),
    }[method]
    model = mar.random_effects_ar1("y ~ a + b", data, "id", "t")
    if method == "onestep":
        assert model.fit(rho_method=method).rho == pytest.approx(expected, rel=1e-10)
        return
    iterated = model.fit(rho_method=method).rho
    two_step = model.fit(rho_method=method, two_step=True).rho
    assert iterated == pytest.approx(two_step, abs=0.01)
    assert two_step == pytest.approx(expected, abs=0.05)
    assert two_step != expected


def test_rho_recovered() -> None:
    rng = np.random.default_rng(5)
    entities, periods, rho = 800, 12, 0.6
    e = rng.normal(size=(entities, periods))
    for t in range(1, periods):
        e[:, t] = rho * e[:, t - 1] + np.sqrt(1.0 - rho**2) * e[:, t]
    x = rng.normal(size=(entities, periods))
    y = 1.0 + 0.5 * x + rng.normal(size=(entities, 1)) + e
    data = pd.DataFrame(
        {
            "id": np.repeat(np.arange(entities), periods),
            "t": np.tile(np.arange(periods), entities),
            "x": x.ravel(),
            "y": y.ravel(),
        }
    )
    keep = rng.random(len(data)) > 0.2
    fit = mar.random_effects_ar1("y ~ x", data[keep], "id", "t").fit()
    assert abs(fit.params["x"] - 0.5) < 4.0 * fit.bse["x"]
    # demeaning biases rho towards zero, less so the longer the series
    assert 0.3 < fit.rho < 0.6
    clustered = mar.random_effects_ar1("y ~ x", data[keep], "id", "t").fit("clustered")
    assert clustered.bse["x"] == pytest.approx(fit.bse["x"], rel=0.1)
    assert clustered.df_inference == entities - 1


def test_dates_count_in_months() -> None:
    dates = pd.to_datetime(
        {"year": 2000 + GRUNFELD["year"] // 12, "month": GRUNFELD["year"] % 12 + 1,
         "day": 1}
    )  # fmt: skip
    months = mar.fixed_effects_ar1(FORMULA, GRUNFELD.assign(m=dates), "firm", "m").fit()
    years = mar.fixed_effects_ar1(FORMULA, GRUNFELD, "firm", "year").fit()
    assert_allclose(months.params, years.params, rtol=1e-12)
    assert months.panel.time_unit == "1 month"


def test_order_of_rows_does_not_matter() -> None:
    shuffled = GRUNFELD.sample(frac=1.0, random_state=1)
    for function in (mar.fixed_effects_ar1, mar.random_effects_ar1):
        a = function(FORMULA, GRUNFELD, "firm", "year").fit()
        b = function(FORMULA, shuffled, "firm", "year").fit()
        assert_allclose(a.params, b.params, rtol=1e-12)
        pd.testing.assert_series_equal(a.resid, b.resid.sort_index(), rtol=1e-9)


def test_bad_requests() -> None:
    data = unbalanced(2)
    model = mar.fixed_effects_ar1("y ~ a + b", data, "id", "t")
    with pytest.raises(UnsupportedError, match="rho_method='mle'"):
        model.fit(rho_method="mle")
    with pytest.raises(UnsupportedError, match="between -1 and 1"):
        model.fit(rho=1.0)
    with pytest.raises(UnsupportedError, match="first='all'"):
        model.fit(first="all")
    with pytest.raises(IdentificationError, match="absorb every regressor"):
        mar.fixed_effects_ar1("y ~ z", data, "id", "t").fit()
    apart = data.assign(w=data["t"].map(lambda t: 5 * (t // 2) + 2 * (t % 2)))
    with pytest.raises(TimeError, match=r"one unit of 'w' \(1\) apart; pass"):
        mar.fixed_effects_ar1("y ~ a", apart, "id", "w")
    with pytest.raises(TimeError, match="whole or equally spaced"):
        mar.random_effects_ar1(
            "y ~ a", data.assign(w=np.sqrt(data["t"] + 1.0)), "id", "w"
        )
    exact = data.assign(y=data["a"] + data["z"])
    with pytest.raises(ResponseError, match="no residual variation"):
        mar.random_effects_ar1("y ~ a", exact, "id", "t").fit()


def test_explosive_rho_is_refused() -> None:
    t = np.tile(np.arange(10), 6)
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"id": np.repeat(np.arange(6), 10), "t": t})
    data["x"] = rng.normal(size=60)
    # residuals that grow: the regression on the one before has a slope above 1
    data["y"] = data["x"] + np.repeat(rng.normal(size=6), 10) * 3.0**t
    with pytest.raises(IdentificationError, match="no stationary"):
        mar.random_effects_ar1("y ~ x", data, "id", "t").fit(rho_method="regress")


def test_negative_variance_is_reported() -> None:
    rng = np.random.default_rng(8)
    t = np.tile(np.arange(6), 40)
    data = pd.DataFrame({"id": np.repeat(np.arange(40), 6), "t": t})
    data["x"] = rng.normal(size=240)
    noise = rng.normal(size=(40, 6))
    data["y"] = data["x"] + (noise - noise.mean(axis=1, keepdims=True)).ravel()
    fit = mar.random_effects_ar1("y ~ x", data, "id", "t").fit()
    assert fit.variance_decomposition["effects"] == 0.0
    assert any("set to zero" in note for note in fit.notes)
    assert (fit.theta == 0.0).all()
    assert (fit.effects == 0.0).all()


def test_array_constructor() -> None:
    from_formula: Any = mar.fixed_effects_ar1(FORMULA, GRUNFELD, "firm", "year").fit()
    x = GRUNFELD[["value", "capital"]].assign(Intercept=1.0)
    model = FixedEffectsAR1(GRUNFELD["inv"], x, GRUNFELD["firm"], GRUNFELD["year"])
    fit = model.fit()
    assert_allclose(fit.params[from_formula.params.index], from_formula.params, 1e-10)
    assert str(fit.summary())
