"""Models by formula and by arrays, and data to spoil."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar import MixedLMAR

N_GROUPS, SIZE = 30, 5
N = N_GROUPS * SIZE


def make(m: int = N_GROUPS, size: int = SIZE, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(m), size)
    x, w = rng.normal(size=(2, m * size))
    noise = rng.normal(size=(m, size))
    for k in range(1, size):  # AR(1) with rho = 0.5
        noise[:, k] = 0.5 * noise[:, k - 1] + np.sqrt(0.75) * noise[:, k]
    effects = rng.normal(size=(2, m))[:, group]
    y = 1.0 + 0.5 * x + 1.5 * effects[0] + effects[1] * w + noise.ravel()
    time = np.tile(np.arange(size), m)
    return pd.DataFrame({"y": y, "x": x, "w": w, "id": group, "t": time})


def by_formula(data: pd.DataFrame, formula: str = "y ~ x", **options: Any) -> Any:
    options = {"groups": "id", "time": "t", **options}
    return mar.mixedlm(formula, data, **options)


def by_arrays(data: pd.DataFrame, **arrays: Any) -> Any:
    given = {
        "endog": data["y"].to_numpy(),
        "exog": np.column_stack([np.ones(len(data)), data["x"]]),
        "groups": data["id"].to_numpy(),
        "time": data["t"].to_numpy(),
        **arrays,
    }
    return MixedLMAR(**given)


Builder = Callable[..., Any]
BUILDERS = [
    pytest.param(by_formula, id="formula"),
    pytest.param(by_arrays, id="arrays"),
]
both = pytest.mark.parametrize("build", BUILDERS)


def put(data: pd.DataFrame, column: str, row: int, value: Any) -> pd.DataFrame:
    """A copy with one cell changed."""
    values = data[column].astype(float if isinstance(value, float) else object)
    values.iloc[row] = value
    return data.assign(**{column: values})


def message_of(error: pytest.ExceptionInfo[Any]) -> str:
    """The message, which shows values and not how NumPy spells them."""
    text = str(error.value)
    assert "np." not in text
    assert "numpy." not in text
    assert len(text) > 20
    return text


def with_slope(build: Builder, data: pd.DataFrame) -> dict[str, Any]:
    if build is by_formula:
        return {"re_formula": "~ w"}
    return {"exog_re": np.column_stack([np.ones(len(data)), data["w"]])}
