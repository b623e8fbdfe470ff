"""Predictions and draws with every residual structure and variance function."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers import prediction_oracle
from mixedar.exceptions import BoundaryWarning
from mixedar.residual import (
    AR1,
    AnteDependence,
    CompoundSymmetry,
    Exponential,
    Matern,
)
from mixedar.residual.variance import (
    KnownWeights,
    VarComb,
    VarExp,
    VarFixed,
    VarIdent,
    VarLogLinear,
    VarPower,
)

Array = Any
LEVELS = ("population", "group", "forecast")


@cache
def observed() -> pd.DataFrame:
    """Data that must not be changed; six occasions, some of them not observed."""
    rng = np.random.default_rng(3)
    m, size = 40, 6
    frame = pd.DataFrame(
        {"id": np.repeat(np.arange(m), size), "t": np.tile(np.arange(size), m)}
    )
    frame["arm"] = np.where(frame["id"] % 3 == 0, "b", "a")
    frame["sex"] = np.where(rng.uniform(size=len(frame)) < 0.5, "f", "m")
    frame["x"] = rng.normal(size=len(frame))
    frame["v"] = rng.uniform(1.0, 4.0, size=len(frame))
    frame["w"] = rng.uniform(0.3, 3.0, size=len(frame))
    frame[["east", "north"]] = rng.uniform(0.0, 3.0, size=(len(frame), 2))
    noise = rng.normal(size=(m, size))
    for k in range(1, size):
        noise[:, k] = 0.75 * noise[:, k - 1] + 0.66 * noise[:, k]
    sd = np.where(frame["arm"] == "b", 1.6, 1.0) * (0.8 + 0.15 * frame["t"])
    sd *= frame["v"] ** 0.4
    mean = 9.0 + 0.7 * frame["x"] + np.repeat(2.0 * rng.normal(size=m), size)
    frame["y"] = mean + sd * (noise.ravel() + 0.5 * rng.normal(size=m * size))
    # correlated in space instead of time
    places = frame[["east", "north"]].to_numpy().reshape(m, size, 2)
    for k in range(m):
        apart = np.linalg.norm(places[k][:, None] - places[k], axis=2)
        noise[k] = np.linalg.cholesky(np.exp(-apart / 0.8)) @ rng.normal(size=size)
    frame["z"] = mean + 2.0 * noise.ravel() + rng.normal(size=m * size)
    keep = rng.uniform(size=len(frame)) < 0.85
    frame = frame[keep].sample(frac=1.0, random_state=1)
    frame.index = pd.Index([f"row{k}" for k in range(len(frame))], name="label")
    return frame


@cache
def asked(last: int = 9) -> pd.DataFrame:
    """Rows between, before, after and at the observed ones, and unknown groups."""
    rng = np.random.default_rng(8)
    times = range(-2 if last > 5 else 0, last + 1)
    rows = [(g, t) for g in (0, 1, 2, 5, 17, 99, 98) for t in times]
    frame = pd.DataFrame(rows, columns=["id", "t"])
    frame["arm"] = np.where(frame["id"] % 3 == 0, "b", "a")
    frame["sex"] = np.where(rng.uniform(size=len(frame)) < 0.5, "f", "m")
    frame["x"] = rng.normal(size=len(frame))
    frame["v"] = rng.uniform(1.0, 4.0, size=len(frame))
    frame["w"] = rng.uniform(0.3, 3.0, size=len(frame))
    frame[["east", "north"]] = rng.uniform(0.0, 3.0, size=(len(frame), 2))
    # at an observed place, which is another observation of it
    there = observed().loc[observed()["id"] == 5, ["east", "north"]].to_numpy()
    frame.loc[frame["id"] == 5, ["east", "north"]] = there[0]
    frame = frame.sample(frac=1.0, random_state=2)
    frame.index = pd.Index([f"new{k}" for k in range(len(frame))], name="asked")
    return frame


# The residual covariance, written out


def distance(frame: pd.DataFrame) -> Array:
    t = frame["t"].to_numpy(dtype=float)
    return np.abs(t[:, None] - t)


def arma11(p: pd.Series, frame: pd.DataFrame) -> Array:
    phi, theta = p["phi1"], p["theta1"]
    first = (1 + phi * theta) * (phi + theta) / (1 + 2 * phi * theta + theta**2)
    d = distance(frame)
    return np.where(d == 0, 1.0, first * phi ** np.maximum(d - 1, 0))


def by_lag(p: pd.Series, frame: pd.DataFrame) -> Array:
    values = np.array([1.0, *(p[f"rho{k}"] for k in range(1, 6))])
    return values[distance(frame).astype(int)]


def by_pair(p: pd.Series, frame: pd.DataFrame) -> Array:
    matrix = np.eye(6)
    for i in range(6):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = p[f"rho({j}, {i})"]
    return matrix[np.ix_(frame["t"], frame["t"])]


def by_step(p: pd.Series, frame: pd.DataFrame) -> Array:
    matrix = np.eye(6)
    for i in range(6):
        for j in range(i):
            steps = [p[f"rho({k}, {k + 1})"] for k in range(j, i)]
            matrix[i, j] = matrix[j, i] = np.prod(steps)
    return matrix[np.ix_(frame["t"], frame["t"])]


def apart(frame: pd.DataFrame) -> Array:
    here = frame[["east", "north"]].to_numpy()
    return np.sqrt(((here[:, None] - here) ** 2).sum(axis=2))


def in_space(p: pd.Series, frame: pd.DataFrame) -> Array:
    return (1.0 - p.get("nugget", 0.0)) * np.exp(-apart(frame) / p["range"])


def matern(p: pd.Series, frame: pd.DataFrame) -> Array:
    # smoothness 3/2
    ratio = apart(frame) / p["range"]
    return (1.0 + ratio) * np.exp(-ratio)


def by_arm(p: pd.Series, frame: pd.DataFrame) -> Array:
    rho = frame["arm"].map({"a": p["rho[a]"], "b": p["rho[b]"]}).to_numpy()
    # of two arms the groups differ, and it does not matter
    return rho[:, None] ** distance(frame)


def ar1(p: pd.Series, frame: pd.DataFrame) -> Array:
    return (1.0 - p.get("nugget", 0.0)) * p["rho"] ** distance(frame)


def symmetric(p: pd.Series, frame: pd.DataFrame) -> Array:
    return np.full((len(frame),) * 2, p["rho"])


def nothing(p: pd.Series, frame: pd.DataFrame) -> Array:
    return np.zeros((len(frame),) * 2)


def by_occasion(p: pd.Series, frame: pd.DataFrame) -> Array:
    return np.array([1.0, *(p[f"sd[{k}]"] for k in range(1, 6))])[frame["t"]]


def by_sex(p: pd.Series, frame: pd.DataFrame) -> Array:
    return np.where(frame["sex"] == "m", p["sd[m]"], 1.0)


def log_linear(p: pd.Series, frame: pd.DataFrame) -> Array:
    arm = (frame["arm"] == "b").to_numpy()
    log_v = np.log(frame["v"].to_numpy())
    return np.exp(p["log_sd[arm[T.b]]"] * arm + p["log_sd[np.log(v)]"] * log_v)


@dataclass(frozen=True)
class Case:
    """A model, and its correlations and standard deviations by hand."""

    options: dict[str, Any]
    correlation: Callable[[pd.Series, pd.DataFrame], Array]
    sd: Callable[[pd.Series, pd.DataFrame], Array] = lambda p, f: np.ones(len(f))
    last: int = 9
    reads: tuple[str, ...] = ()
    response: str = "y"


CASES: dict[str, Case] = {
    "arma11": Case({"residual": "arma11"}, arma11),
    "cs": Case({"residual": CompoundSymmetry(), "re_formula": "0"}, symmetric),
    "toeplitz": Case({"residual": "toep", "re_formula": "0"}, by_lag, last=5),
    "un": Case({"residual": "un", "re_formula": "0"}, by_pair, by_occasion, 5),
    "ante": Case({"residual": AnteDependence()}, by_step, last=5),
    "nugget": Case({"residual": AR1(nugget=True)}, ar1),
    "exponential": Case(
        {"residual": Exponential(coords=("east", "north"), nugget=True)},
        in_space,
        reads=("east", "north"),
        response="z",
    ),
    "matern": Case(
        {"residual": Matern(1.0, ("east", "north"), smoothness=1.5, fixed=True)},
        matern,
        response="z",
    ),
    "by arm": Case({"residual": AR1(by="arm")}, by_arm),
    "ident": Case({"weights": VarIdent("sex")}, ar1, by_sex, reads=("sex",)),
    "ident by occasion": Case({"weights": VarIdent()}, ar1, by_occasion, 5),
    "power": Case(
        {"residual": "car1", "weights": VarPower("v")},
        ar1,
        lambda p, f: f["v"].to_numpy() ** p["power"],
        reads=("v",),
    ),
    "fitted": Case(
        {"weights": VarPower()}, ar1, lambda p, f: np.abs(f["fitted"]) ** p["power"]
    ),
    "weights": Case(
        {"weights": "w"}, ar1, lambda p, f: f["w"].to_numpy() ** -0.5, reads=("w",)
    ),
    "independent weights": Case(
        {"weights": KnownWeights("w"), "residual": "independent"},
        nothing,
        lambda p, f: f["w"].to_numpy() ** -0.5,
        reads=("w",),
    ),
    "independent ident": Case(
        {"weights": VarIdent("arm"), "residual": "independent"},
        nothing,
        lambda p, f: np.where(f["arm"] == "b", p["sd[b]"], 1.0),
    ),
    "log linear": Case(
        {"weights": VarLogLinear("arm + np.log(v)")}, ar1, log_linear, reads=("v",)
    ),
    "combined": Case(
        {
            "residual": Exponential(coords=("east", "north")),
            "weights": VarComb(VarIdent("sex"), VarExp("v"), VarFixed("w")),
        },
        in_space,
        lambda p, f: by_sex(p, f) * np.exp(p["expon"] * f["v"]) * np.sqrt(f["w"]),
        reads=("east", "sex", "v", "w"),
        response="z",
    ),
}
every = pytest.mark.parametrize("name", CASES)


def fit_to(frame: pd.DataFrame, response: str = "y", **options: Any) -> Any:
    options = {"groups": "id", "time": "t", "residual": "ar1", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        return mar.mixedlm(f"{response} ~ x + arm", frame, **options).fit()


@cache
def fitted(name: str) -> Any:
    case = CASES[name]
    return fit_to(observed().copy(), case.response, **case.options)


def design(frame: pd.DataFrame) -> Array:
    return np.column_stack([np.ones(len(frame)), frame["arm"] == "b", frame["x"]])


def dense(name: str, new: pd.DataFrame, p: Any = None) -> Any:
    """Predictions written out, at the estimates or other parameters."""
    fit, case = fitted(name), CASES[name]
    if p is None:
        p = fit.residual_params, fit.scale, np.asarray(fit.cov_re)
    params, scale, cov_re = p
    old = observed().assign(fitted=np.asarray(fit.fittedvalues))
    if "fitted" not in new:
        group = fit.get_prediction(new, "group", unknown="population")
        new = new.assign(fitted=group.predicted_mean)
    frame = pd.concat([old, new])
    same = frame["id"].to_numpy()[:, None] == frame["id"].to_numpy()
    sd = np.asarray(case.sd(params, frame))
    residual = same * np.asarray(case.correlation(params, frame))
    np.fill_diagonal(residual, 1.0)
    residual = scale * residual * np.outer(sd, sd)
    random = same * (cov_re[0, 0] if fit.k_re else 0.0)
    return prediction_oracle.conditional(
        old[case.response].to_numpy(), design(old), design(new), random, residual
    )


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
    covariance = fit._modes[0][0].cov_theta
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
