"""Observed and new rows, models of every structure, and predictions written out."""

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
from helpers import oracle
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
    return oracle.predict_from(
        old[case.response].to_numpy(), design(old), design(new), random, residual
    )
