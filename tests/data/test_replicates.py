"""Several measurements at one time: advice that leads to the model that is meant."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar import api
from mixedar.exceptions import DuplicateTimeError

Array = Any


def readings() -> pd.DataFrame:
    """Return two readings a visit of a quantity that is correlated over visits."""
    rng = np.random.default_rng(21)
    people, visits = 20, 4
    state = rng.normal(size=(people, visits))
    for k in range(1, visits):
        state[:, k] = 0.7 * state[:, k - 1] + np.sqrt(0.51) * state[:, k]
    rows = [
        (i, t, "ab"[i % 2], state[i, t] + 0.5 * rng.normal())
        for i in range(people)
        for t in range(visits)
        for _ in range(2)
    ]
    return pd.DataFrame(rows, columns=["id", "t", "arm", "y"])


def restricted(y: Array, x: Array, v: Array) -> float:
    """Return the restricted log-likelihood, dense."""
    inverse = np.linalg.inv(v)
    a = x.T @ inverse @ x
    e = y - x @ np.linalg.solve(a, x.T @ inverse @ y)
    dets = np.linalg.slogdet(v)[1] + np.linalg.slogdet(a)[1]
    return float(
        -0.5 * ((len(y) - x.shape[1]) * np.log(2 * np.pi) + dets + e @ inverse @ e)
    )


def advice(structure: Any) -> str:
    with pytest.raises(DuplicateTimeError) as error:
        mar.mixedlm(
            "y ~ 1",
            readings(),
            groups="id",
            time="t",
            re_formula="0",
            residual=structure,
        )
    text = str(error.value)
    assert "tell nothing of one another" in text
    found = re.search(r"pass (re_formula|residual)=(.*), the time as a n", text)
    return found[2] if found else text


@pytest.mark.parametrize("name", ["AR1", "CAR1", "Exponential", "Gaussian", "Matern"])
@pytest.mark.parametrize("nugget", [True, False])
def test_measurement_error_beside_correlation(name: str, nugget: bool) -> None:
    smooth = {"smoothness": 1.5} if name == "Matern" else {}
    text = advice(getattr(api, name)(nugget=nugget, **smooth))
    meant = eval(text, {**vars(api)})
    frame = readings()
    fit = mar.mixedlm("y ~ 1", frame, groups="id", re_formula="0", residual=meant).fit()
    # by hand, at the estimates and around them: it is the maximum
    size, share = fit.residual_params
    times = frame["t"].to_numpy()[:8]

    def at(size: float, share: float, scale: float) -> float:
        apart = np.abs(np.subtract.outer(times, times)) / size
        r = {
            "Gaussian": lambda d: np.exp(-(d**2)),
            "Matern": lambda d: (1.0 + d) * np.exp(-d),
        }.get(name, lambda d: np.exp(-d))(apart)
        v = np.kron(np.eye(20), scale * ((1.0 - share) * r + share * np.eye(8)))
        return restricted(frame["y"].to_numpy(), np.ones((160, 1)), v)

    best = at(size, share, fit.scale)
    assert fit.llf == pytest.approx(best, abs=1e-7)
    for moved in ((1.05, 1, 1), (0.95, 1, 1), (1, 1.05, 1), (1, 0.95, 1), (1, 1, 1.05)):
        assert at(*np.multiply((size, share, fit.scale), moved)) < best


def test_strata_stay() -> None:
    assert advice(api.AR1(by="arm")).endswith("nugget=True, by='arm')")


@pytest.mark.parametrize("name", ["un", "unr", "adh"])
def test_occasions(name: str) -> None:
    text = advice(name)
    assert "pass re_formula='0 + C(t)' and residual='independent'; aggregate" in text
    fit = mar.mixedlm(
        "y ~ 1", readings(), groups="id", re_formula="0 + C(t)", residual="independent"
    ).fit()
    assert fit.k_re == 4


def test_what_has_no_such_form() -> None:
    with pytest.raises(DuplicateTimeError, match="time: aggregate, or name the indep"):
        mar.mixedlm("y ~ 1", readings(), groups="id", time="t", residual="arma11")
