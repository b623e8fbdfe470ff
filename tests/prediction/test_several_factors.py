"""Predictions with random effects of several factors, against dense matrices."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers import several_factors
from mixedar.exceptions import GroupError, UnknownColumnError


def crossed_data(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (f"s{i}", f"i{item}", t)
        for i in range(8)
        for t, item in enumerate(rng.permutation(7)[:6])
    ]
    frame = pd.DataFrame(rows, columns=["subj", "item", "trial"])
    frame["x"] = rng.normal(size=len(frame))
    return respond(frame, [["subj"], ["item"]], rng)


def nested_data(seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (f"k{school}", f"p{pupil}", t)
        for school in range(12)
        for pupil in range(3)
        for t in range(4)
    ]
    frame = pd.DataFrame(rows, columns=["school", "pupil", "trial"])
    frame["x"] = rng.normal(size=len(frame))
    return respond(frame, [["school"], ["school", "pupil"]], rng)


def respond(frame: pd.DataFrame, factors: Any, rng: Any) -> pd.DataFrame:
    y = 1.0 + 0.5 * frame["x"] + 0.6 * rng.normal(size=len(frame))
    for columns in factors:
        codes = frame.groupby(columns).ngroup().to_numpy()
        effects = rng.normal(size=(codes.max() + 1, 2))
        y += effects[codes, 0] + 0.5 * effects[codes, 1] * frame["x"]
    return frame.assign(y=y)


CASES = {
    "crossed": ("y ~ x + (x | subj) + (x | item)", "subj", crossed_data),
    "nested": ("y ~ x + (x | school/pupil)", None, nested_data),
}


def fit_of(kind: str, residual: str) -> tuple[Any, pd.DataFrame]:
    formula, groups, make = CASES[kind]
    data = make()
    options = {"groups": groups} if groups and residual != "independent" else {}
    model = mar.mixedlm(formula, data, time="trial", residual=residual, **options)
    return model.fit(), data


def covariance(
    fit: Any, one: pd.DataFrame, other: pd.DataFrame, residuals: bool
) -> np.ndarray:
    """Covariance of responses, or of their random parts, of two sets of rows."""
    out = np.zeros((len(one), len(other)))
    names = fit.varcorr().index.get_level_values(0).unique().drop("Residual")
    for factor in names:
        columns = factor.split(":")
        same = np.ones(out.shape, dtype=bool)
        for column in columns:
            same &= one[column].to_numpy()[:, None] == other[column].to_numpy()
        psi = fit.random_covariance(factor).to_numpy()
        z, w = (np.column_stack([np.ones(len(f)), f["x"]]) for f in (one, other))
        out += same * (z @ psi @ w.T)
    if residuals:
        groups = fit.model.arrays.groups_name.split(":")
        same = np.ones(out.shape, dtype=bool)
        for column in groups:
            same &= one[column].to_numpy()[:, None] == other[column].to_numpy()
        lag = np.abs(
            np.subtract.outer(one["trial"].to_numpy(), other["trial"].to_numpy())
        )
        rho = fit.residual_params.get("rho", 0.0)
        out += fit.scale * same * np.where(lag == 0, 1.0, float(rho) ** lag)
    return out


@pytest.mark.parametrize("residual", ["independent", "ar1"])
@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("level", ["population", "group", "forecast"])
def test_against_matrices(kind: str, residual: str, level: str) -> None:
    fit, data = fit_of(kind, residual)
    new = data.iloc[::5].assign(trial=lambda f: f["trial"] + 7, x=0.3)
    x, x_new = (np.column_stack([np.ones(len(f)), f["x"]]) for f in (data, new))
    v = covariance(fit, data, data, True)
    inverse = np.linalg.inv(v)
    bread = np.linalg.inv(x.T @ inverse @ x)
    beta = bread @ x.T @ inverse @ data["y"]
    if level == "population":
        k = np.zeros((len(data), len(new)))
    else:
        k = covariance(fit, data, new, level == "forecast")
    mean = x_new @ beta + k.T @ inverse @ (data["y"] - x @ beta)
    d = x_new - k.T @ inverse @ x
    observed = np.diag(covariance(fit, new, new, True)).copy()
    if level == "group":  # the residuals of new rows are taken as independent
        random = np.diag(covariance(fit, new, new, False))
        spread = random - np.einsum("ij,ij->j", k, inverse @ k)
        spread = spread + np.einsum("ij,jk,ik->i", d, bread, d)
        total = spread + fit.scale
    else:
        observed -= np.einsum("ij,ij->j", k, inverse @ k)
        total = observed + np.einsum("ij,jk,ik->i", d, bread, d)
    found = fit.get_prediction(new, level)
    np.testing.assert_allclose(found.predicted_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.se_obs**2, total, rtol=1e-6)
    if level == "group":
        np.testing.assert_allclose(found.se_mean**2, spread, rtol=1e-6)


def dense_mean(fit: Any, data: pd.DataFrame, new: pd.DataFrame, level: str) -> Any:
    x, x_new = (np.column_stack([np.ones(len(f)), f["x"]]) for f in (data, new))
    inverse = np.linalg.inv(covariance(fit, data, data, True))
    beta = np.linalg.solve(x.T @ inverse @ x, x.T @ inverse @ data["y"])
    if level == "population":
        return x_new @ beta
    k = covariance(fit, data, new, level == "forecast")
    return x_new @ beta + k.T @ inverse @ (data["y"] - x @ beta)


def with_covariances(fit: Any, values: np.ndarray) -> SimpleNamespace:
    """What `covariance` asks of a fit, at other covariance parameters."""
    factors = list(fit.varcorr().index.get_level_values(0).unique().drop("Residual"))

    def random_covariance(factor: str) -> pd.DataFrame:
        a, b, c = values[3 * factors.index(factor) :][:3]
        return pd.DataFrame([[a, b], [b, c]])

    rho = {} if len(values) == 3 * len(factors) + 1 else {"rho": values[-2]}
    return SimpleNamespace(
        varcorr=fit.varcorr,
        random_covariance=random_covariance,
        scale=values[-1],
        residual_params=rho,
        model=fit.model,
    )


@pytest.mark.parametrize("residual", ["independent", "ar1"])
@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("level", ["population", "group", "forecast"])
def test_uncertainty_of_theta(kind: str, residual: str, level: str) -> None:
    make = {"crossed": several_factors.crossed_data, "nested": nested_data}[kind]
    formula, groups, _ = CASES[kind]
    data = make().rename(columns={"t": "trial"})
    options = {"groups": groups} if groups else {}
    fit = mar.mixedlm(formula, data, time="trial", residual=residual, **options).fit()
    new = data.iloc[::5].assign(trial=lambda f: f["trial"] + 9, x=0.3)
    new.iloc[-1, list(new.columns).index("subj" if groups else "school")] = "nobody"
    values = np.append(fit.fit.params[2:], fit.scale)
    errors = np.sqrt(np.diag(fit.fit.estimate.cov_theta))
    assert np.isfinite(errors).all()
    slopes = []
    for step in np.diag(1e-3 * errors):
        ahead, behind = (
            dense_mean(with_covariances(fit, values + sign * step), data, new, level)
            for sign in (1.0, -1.0)
        )
        slopes.append((ahead - behind) / (2.0 * step.max()))
    j = np.array(slopes)
    extra = np.einsum("ik,ij,jk->k", j, fit.fit.estimate.cov_theta, j)
    plain = fit.get_prediction(new, level, unknown="population").se_mean ** 2
    for theta, times in ((True, 1.0), ("prasad-rao", 2.0)):
        found = fit.get_prediction(
            new, level, unknown="population", include_theta=theta
        )
        np.testing.assert_allclose(
            found.se_mean**2 - plain, times * extra, rtol=1e-3, atol=1e-8
        )


@pytest.mark.parametrize("kind", CASES)
def test_own_rows_are_the_fitted_values(kind: str) -> None:
    fit, data = fit_of(kind, "ar1")
    found = fit.get_prediction(level="group")
    np.testing.assert_allclose(found.predicted_mean, fit.fittedvalues, rtol=1e-10)
    again = fit.get_prediction(data, "group")
    np.testing.assert_allclose(again.se_mean, found.se_mean, rtol=1e-9)


def test_levels_that_are_numbers_stay_between_observations() -> None:
    text = crossed_data()
    number = text.assign(item=text["item"].str[1:].astype(int))
    curves = []
    for data in (text, number):
        fit = mar.mixedlm(
            "y ~ trial + (1 | subj) + (1 | item)", data, groups="subj", time="trial"
        ).fit()
        ax = fit.plot_trajectories(groups=["s0"]).axes[0]
        curves.append([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
    for one, other in zip(*curves, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8)


def test_pictures_of_forecasts_find_nested_groups() -> None:
    fit, data = fit_of("nested", "ar1")
    new = data[data["trial"] > 1].iloc[:6].assign(trial=lambda f: f["trial"] + 4)
    figure = fit.plot_forecast(new)
    assert len(figure.axes) >= 1
    with pytest.raises(UnknownColumnError, match="pupil"):
        fit.plot_forecast(new.drop(columns="pupil"))


def test_levels_that_are_new() -> None:
    fit, data = fit_of("crossed", "independent")
    new = data.iloc[:3].assign(item="other", x=0.0)
    with pytest.raises(GroupError, match="'other' of 'item'"):
        fit.get_prediction(new, "group")
    found = fit.get_prediction(new, "group", unknown="population")
    known = fit.get_prediction(data.iloc[:3].assign(x=0.0), "group")
    item = fit.random_covariance("item").iloc[0, 0]
    subject = fit.ranef("subj")["Intercept"][new["subj"]]
    mean = fit.fe_params["Intercept"] + subject
    np.testing.assert_allclose(found.predicted_mean, mean, rtol=1e-10)
    assert (found.se_mean > known.se_mean).all()
    assert (found.se_mean**2 > item).all()
    stranger = data.iloc[:1].assign(subj="nobody", x=0.0)
    found = fit.get_prediction(stranger, "group", unknown="population")
    effect = fit.ranef("item")["Intercept"][stranger["item"]]
    np.testing.assert_allclose(
        found.predicted_mean, fit.fe_params["Intercept"] + effect, rtol=1e-10
    )


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("kept", [0, 1])
def test_some_of_the_factors(kind: str, kept: int) -> None:
    fit, data = fit_of(kind, "ar1")
    factor = fit.varcorr().index.get_level_values(0).unique().drop("Residual")[kept]
    new = data.iloc[::7].assign(x=0.3)
    x, x_new = (np.column_stack([np.ones(len(f)), f["x"]]) for f in (data, new))
    inverse = np.linalg.inv(covariance(fit, data, data, True))
    bread = np.linalg.inv(x.T @ inverse @ x)
    beta = bread @ x.T @ inverse @ data["y"]
    same = np.ones((len(data), len(new)), dtype=bool)
    for column in factor.split(":"):
        same &= data[column].to_numpy()[:, None] == new[column].to_numpy()
    psi = fit.random_covariance(factor).to_numpy()
    k = same * (x @ psi @ x_new.T)
    d = x_new - k.T @ inverse @ x
    spread = np.einsum("ij,jk,ik->i", x_new, psi, x_new)
    spread -= np.einsum("ij,ij->j", k, inverse @ k)
    spread += np.einsum("ij,jk,ik->i", d, bread, d)
    found = fit.get_prediction(new, "group", include=[factor])
    mean = x_new @ beta + k.T @ inverse @ (data["y"] - x @ beta)
    np.testing.assert_allclose(found.predicted_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.se_mean**2, spread, rtol=1e-6)


def test_factors_that_cannot_be_included() -> None:
    fit, data = fit_of("crossed", "independent")
    with pytest.raises(ValueError, match="no random effects"):
        fit.get_prediction(data, "group", include=["x"])
    with pytest.raises(ValueError, match="level='group'"):
        fit.get_prediction(data, include=["item"])
    with pytest.raises(ValueError, match="takes a list"):
        fit.get_prediction(data, "group", include="item")
    none = fit.get_prediction(data, "group", include=[])
    population = fit.get_prediction(data)
    np.testing.assert_allclose(none.se_mean, population.se_mean, rtol=1e-10)
