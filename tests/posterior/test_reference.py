"""Posteriors against deterministic quadrature (tests/reference/bayes)."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.exceptions import BoundaryWarning
from mixedar.posterior.results import Posterior
from mixedar.priors import HalfT, Normal

FOLDER = Path(__file__).parents[1] / "reference" / "bayes"
CASES = sorted(path.stem for path in FOLDER.glob("bayes_*.json"))
DRAWS = 20_000
# Monte Carlo errors that may lie between a value of draws and the exact one.
ERRORS = 4.0


@cache
def solved(case: str) -> tuple[dict[str, Any], Posterior]:
    """Return the expected values of a case, and draws."""
    record = json.loads((FOLDER / f"{case}.json").read_text(encoding="utf-8"))
    data = pd.read_csv(FOLDER / "data" / f"{record['data']}.csv")
    (random,) = record["random"]
    model = mar.mixedlm(
        record["formula"],
        data,
        groups=random["groups"][0],
        re_formula=random["re_formula"],
        time=record["time"],
        residual=record["residual"]["type"].lower(),
    )
    with warnings.catch_warnings():
        # the maximum of one likelihood lies on the boundary
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = model.fit()
    priors: dict[str, Any] = {}
    if "normal" in case:
        priors = {
            "Intercept": Normal(20, 20),
            "sex[T.Male]": Normal(0, 5),
            "age": Normal(0, 2),
        }
    if "innovation" in case:
        priors = {"innovation sd": HalfT(3, record["prior_scale"])}
    return record, fit.posterior(DRAWS, priors, rng=1)


def check(x: np.ndarray, expected: dict[str, float], effective: float) -> None:
    """Mean, standard deviation and quantiles within Monte Carlo errors."""
    sd = expected["sd"]
    error = sd / np.sqrt(effective)
    assert abs(x.mean() - expected["mean"]) < ERRORS * error
    kurtosis = ((x - x.mean()) ** 4).mean() / x.var() ** 2
    spread = 0.5 * sd * np.sqrt(max(kurtosis - 1.0, 2.0) / effective)
    assert abs(x.std() - sd) < ERRORS * spread
    for q in (0.025, 0.25, 0.5, 0.75, 0.975):
        value = expected[f"q{100 * q:g}"]
        share = np.sqrt(q * (1.0 - q) / effective)
        assert abs((x <= value).mean() - q) < ERRORS * share


@pytest.mark.parametrize("case", CASES)
def test_parameters_are_those_of_quadrature(case: str) -> None:
    record, post = solved(case)
    p = post.fit.k_fe
    for part, names in (("theta", post.target.names), ("fixef", post.draws.columns)):
        expected = record["expected"][part]
        for name, value in zip(names, expected.values(), strict=part == "theta"):
            x = post.draws[name].to_numpy()
            if name == "sigma" and "innovation" in case:
                x = x * np.sqrt(1.0 - post.draws["rho"].to_numpy() ** 2)
            sizes = post.effective.loc[name, ["ess_bulk", "ess_tail"]]
            check(x, value, float(sizes.min()))
    assert p == len(record["expected"]["fixef"])


@pytest.mark.parametrize("case", CASES)
def test_the_marginal_likelihood_is_that_of_quadrature(case: str) -> None:
    record, post = solved(case)
    error = post.log_marginal_likelihood_se
    expected = record["expected"]["log_marginal_likelihood"]
    assert error < 0.02
    assert abs(post.log_marginal_likelihood - expected) < ERRORS * error


@pytest.mark.parametrize("case", CASES)
def test_effects_and_forecasts_are_those_of_quadrature(case: str) -> None:
    record, post = solved(case)
    thetas = 200
    effects = post.ranef(thetas=thetas)
    first = list(record["expected"]["ranef"].values())
    rows = pd.DataFrame([row["row"] for row in record["expected"]["forecast_rows"]])
    ahead = post.predict(rows, level="forecast", thetas=thetas)
    seen = ahead.filter(like="obs_").rename(columns=lambda name: name[4:])
    seen.insert(0, "mean", ahead["mean"])
    for frame, expected in (
        (effects, first),
        (seen, list(record["expected"]["forecast"].values())),
    ):
        for (_, row), value in zip(frame.iterrows(), expected, strict=False):
            # of draws of the covariance parameters; what is normal given them is exact
            error = ERRORS * value["sd"] / np.sqrt(thetas)
            assert abs(row["mean"] - value["mean"]) < error
            assert abs(row["sd"] - value["sd"]) < error
            for q in (2.5, 25.0, 50.0, 75.0, 97.5):
                assert abs(row[f"{q:g}%"] - value[f"q{q:g}"]) < 2.0 * error
