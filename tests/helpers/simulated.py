"""Simulated growth curves and the model of most tests of MixedLMAR."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import mixedar.formula.api as mar
from mixedar.exceptions import BoundaryWarning

Array = NDArray[np.float64]


def simulate(
    seed: int,
    m: int = 30,
    size: int = 6,
    rho: float = 0.5,
    *,
    sd: tuple[float, float] = (1.0, 0.5),
    keep: float = 1.0,
) -> pd.DataFrame:
    """Random intercept and slope on time, AR(1) residuals."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(m, size))
    for k in range(1, size):
        noise[:, k] = rho * noise[:, k - 1] + np.sqrt(1 - rho**2) * noise[:, k]
    group = np.repeat(np.arange(m), size)
    time = np.tile(np.arange(size), m)
    b = rng.normal(size=(2, m))[:, group]
    x = rng.normal(size=m * size)
    y = 1.0 + 0.3 * x + sd[0] * b[0] + (0.2 + sd[1] * b[1]) * time + noise.ravel()
    data = pd.DataFrame({"y": y, "x": x, "t": time, "id": group})
    data["arm"] = np.where(group % 2 == 0, "control", "drug")
    return data[rng.uniform(size=len(data)) < keep].reset_index(drop=True)


def few_groups(seed: int) -> pd.DataFrame:
    """Few and short groups, whose likelihood is flat and may have two maxima."""
    rng = np.random.default_rng([77, seed])
    return simulate(
        seed=1000 + seed,
        m=int(rng.integers(5, 20)),
        size=int(rng.integers(4, 9)),
        rho=float(rng.uniform(-0.5, 0.95)),
        sd=(float(rng.uniform(0, 1.5)), float(rng.uniform(0, 0.6))),
        keep=float(rng.choice([1.0, 0.85])),
    )


BIMODAL = (1080,)  # seeds of few_groups

BASE: dict[str, Any] = {"groups": "id", "re_formula": "~ t", "time": "t"}


def build(data: pd.DataFrame, formula: str = "y ~ x + t + arm", **options: Any) -> Any:
    """The usual model, or one with other options."""
    return mar.mixedlm(formula, data, **{**BASE, **options})


def fit(data: pd.DataFrame, formula: str = "y ~ x + t + arm", **options: Any) -> Any:
    reml = options.pop("reml", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        return build(data, formula, **options).fit(reml=reml)


@cache
def reference_data() -> pd.DataFrame:
    """The data that must not be changed; take a copy."""
    return simulate(3, m=40, size=7, rho=0.6, keep=0.85)


@cache
def base() -> Any:
    result = fit(reference_data())
    assert not result.at_boundary
    return result


def assert_same_fit(
    found: Any, expected: Any, *, names: bool = True, tolerance: float = 1e-6
) -> None:
    """Equal estimates, standard errors and likelihood."""
    assert found.converged
    assert found.llf == pytest.approx(expected.llf, abs=1e-7)
    if names:
        assert list(found.params.index) == list(expected.params.index)
    kwargs: dict[str, Any] = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(found.params, expected.params, **kwargs)
    np.testing.assert_allclose(found.bse, expected.bse, **kwargs)
    assert found.scale == pytest.approx(expected.scale, rel=tolerance)
    np.testing.assert_array_equal(found.df, expected.df)
