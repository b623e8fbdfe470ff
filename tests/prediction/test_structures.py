"""Predictions and draws with every residual structure and variance function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.prediction_cases import (
    CASES,
    LEVELS,
    asked,
    dense,
    design,
    every,
    fitted,
    observed,
)

Array = Any
TIGHT = {"rtol": 1e-7, "atol": 1e-8}


@every
def test_dense_gaussian(name: str) -> None:
    fit, new = fitted(name), asked(CASES[name].last)
    expected = dense(name, new)
    found = {
        level: fit.get_prediction(new, level, unknown="population") for level in LEVELS
    }
    for level in LEVELS:
        assert found[level].row_labels.equals(new.index)
        np.testing.assert_allclose(
            found[level].predicted_mean, getattr(expected, level), **TIGHT
        )
    for level in LEVELS[:2]:
        np.testing.assert_allclose(
            found[level].var_pred_mean, getattr(expected, f"{level}_var"), **TIGHT
        )
    sd = CASES[name].sd(
        fit.residual_params, new.assign(fitted=found["group"].predicted_mean)
    )
    np.testing.assert_allclose(
        found["group"].var_resid, fit.scale * np.asarray(sd) ** 2, **TIGHT
    )
    np.testing.assert_allclose(
        found["forecast"].se_obs ** 2, expected.forecast_var, **TIGHT
    )
    np.testing.assert_allclose(
        found["forecast"].var_resid, expected.kriging_var, **TIGHT
    )
    if name == "fitted":
        # of the population the fitted value is X beta
        new = new.assign(fitted=expected.population)
        expected = dense(name, new)
    np.testing.assert_allclose(
        found["population"].var_resid, expected.marginal_var, **TIGHT
    )


@every
def test_own_rows(name: str) -> None:
    fit, data, response = fitted(name), observed(), CASES[name].response
    population, group, forecast = (fit.get_prediction(level=level) for level in LEVELS)
    np.testing.assert_allclose(population.predicted_mean, fit.fitted_marginal)
    np.testing.assert_allclose(group.predicted_mean, fit.fittedvalues)
    for found, level in zip((population, group, forecast), LEVELS, strict=True):
        again = fit.get_prediction(data, level).summary_frame()
        pd.testing.assert_frame_equal(
            found.summary_frame(), again, atol=1e-6, rtol=1e-7
        )
    # what was observed is known, unless it may be measured again
    again = {"cs", "nugget", "exponential", "independent weights", "independent ident"}
    if name in again:
        assert (forecast.var_resid > 0.01 * fit.scale).all()
    else:
        np.testing.assert_allclose(forecast.predicted_mean, data[response], rtol=1e-7)
        np.testing.assert_allclose(forecast.se_obs, 0.0, atol=1e-4)


@every
def test_order_of_rows_and_of_questions(name: str) -> None:
    fit, new = fitted(name), asked(CASES[name].last)
    expected = fit.get_prediction(new, "forecast", unknown="population").summary_frame()
    mixed = new.sample(frac=1.0, random_state=5)
    found = fit.get_prediction(mixed, "forecast", unknown="population").summary_frame()
    pd.testing.assert_frame_equal(found, expected.loc[mixed.index])
    alone = fit.get_prediction(new.iloc[[3]], "forecast", unknown="population")
    pd.testing.assert_frame_equal(alone.summary_frame(), expected.iloc[[3]])


# Covariance parameters


@pytest.mark.parametrize(
    "name", ["arma11", "exponential", "by arm", "ident", "power", "log linear"]
)
def test_uncertainty_of_theta(name: str) -> None:
    # g'Wg by dense predictions at shifted variances and residual parameters
    fit = fitted(name)
    new = asked().iloc[::3]
    new = new.assign(fitted=0.0)
    names = fit.residual_params.index
    values = np.concatenate(
        [np.asarray(fit.cov_re).ravel(), fit.residual_params, [fit.scale]]
    )

    def means(theta: Array) -> Array:
        params = pd.Series(theta[1:-1], names)
        found = dense(name, new, (params, theta[-1], theta[:1, None]))
        return np.array([getattr(found, level) for level in LEVELS])

    steps = np.diag(1e-4 * np.maximum(np.abs(values), 0.1))
    gradient = np.array(
        [
            (means(values + step) - means(values - step)) / (2.0 * step.max())
            for step in steps
        ]
    )
    covariance = fit.fit.estimate.cov_theta
    expected = np.einsum("kai,kl,lai->ai", gradient, covariance, gradient)
    for level, variance in zip(LEVELS, expected, strict=True):
        plain, added = (
            fit.get_prediction(new, level, unknown="population", include_theta=theta)
            for theta in (False, True)
        )
        np.testing.assert_allclose(
            added.var_pred_mean - plain.var_pred_mean, variance, rtol=2e-3, atol=1e-8
        )


# Draws


@pytest.mark.parametrize(
    "name", ["ident", "un", "exponential", "independent weights", "by arm", "power"]
)
@pytest.mark.parametrize("rows", ["own", "new"])
def test_draws_have_the_covariance_of_the_model(name: str, rows: str) -> None:
    fit, count = fitted(name), 4000
    new = observed() if rows == "own" else asked(CASES[name].last)
    draws = fit.simulate(count, seed=4, newdata=None if rows == "own" else new)
    assert draws.index.equals(new.index)
    same = new["id"].to_numpy()[:, None] == new["id"].to_numpy()
    sd = np.asarray(CASES[name].sd(fit.residual_params, new))
    V = same * np.asarray(CASES[name].correlation(fit.residual_params, new))
    np.fill_diagonal(V, 1.0)
    V = fit.scale * V * np.outer(sd, sd)
    V += same * (np.asarray(fit.cov_re)[0, 0] if fit.k_re else 0.0)
    size = np.sqrt(np.diag(V))
    mean = design(new) @ fit.fe_params.to_numpy()
    error = (draws.to_numpy().mean(axis=1) - mean) / size * np.sqrt(count)
    assert np.abs(error).max() < 5.0
    found = np.cov(draws.to_numpy())
    correlation = V / np.outer(size, size)
    error = (found - V) / np.outer(size, size) / np.sqrt((1 + correlation**2) / count)
    assert np.abs(error).max() < 6.0


def test_draws_from_the_distribution() -> None:
    fit = fitted("independent weights")
    distribution = fit.get_distribution()
    y = np.array([distribution.rvs(rng=k) for k in range(2000)])
    expected = fit.scale / observed()["w"] + np.asarray(fit.cov_re)[0, 0]
    error = (y.var(axis=0) / expected - 1.0) * np.sqrt(1000)
    assert np.abs(error).max() < 5.0


# Residuals


@every
def test_pearson_and_normalized_residuals(name: str) -> None:
    fit, data, case = fitted(name), observed(), CASES[name]
    resid = np.asarray(fit.resid)
    frame = data.assign(fitted=np.asarray(fit.fittedvalues))
    sd = np.sqrt(fit.scale) * np.asarray(case.sd(fit.residual_params, frame))
    pearson = fit.residuals("pearson")
    assert pearson.index.equals(data.index)
    np.testing.assert_allclose(pearson, resid / sd, rtol=1e-7)
    np.testing.assert_allclose(
        fit.std_residual_quantiles, np.quantile(resid / sd, [0, 0.25, 0.5, 0.75, 1])
    )
    normalized = fit.residuals("normalized")
    R = np.asarray(case.correlation(fit.residual_params, frame))
    np.fill_diagonal(R, 1.0)
    for group in (0, 7, 20):
        rows = np.flatnonzero(data["id"] == group)
        rows = rows[np.argsort(data["t"].to_numpy()[rows])]
        root = np.linalg.cholesky(R[np.ix_(rows, rows)])
        np.testing.assert_allclose(
            normalized.iloc[rows], np.linalg.solve(root, (resid / sd)[rows]), rtol=1e-6
        )
