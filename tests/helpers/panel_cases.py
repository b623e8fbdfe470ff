"""Small panels that several test files share."""

from __future__ import annotations

import numpy as np
import pandas as pd

FORMULA = "y ~ x1 + x2 + z + C(g)"
FUNCTIONS = [
    "fixed_effects",
    "random_effects",
    "between",
    "first_difference",
    "pooled",
    "mundlak",
    "fixed_effects_ar1",
    "random_effects_ar1",
]


def panel_data(seed: int = 0, entities: int = 25, keep: float = 0.8) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    periods = 7
    n = entities * periods
    data = pd.DataFrame(
        {
            "id": np.repeat([f"e{i:03}" for i in range(entities)], periods),
            "t": np.tile(np.arange(2001, 2001 + periods), entities),
            "x1": rng.normal(size=n) + np.repeat(rng.normal(size=entities), periods),
            "x2": rng.normal(size=n),
            "z": np.repeat(rng.normal(size=entities), periods),
            "g": rng.choice(["a", "b", "c"], n),
        }
    )
    effects = np.repeat(rng.normal(size=entities), periods)
    data["y"] = 1.0 + data["x1"] - 0.5 * data["x2"] + 0.3 * data["z"] + effects
    data["y"] += 0.4 * (data["g"] == "b") + rng.normal(size=n)
    data = data[rng.random(n) < keep].sample(frac=1.0, random_state=seed)
    return data.set_index(pd.Index([f"row{i}" for i in range(len(data))]))


def dummies(data: pd.DataFrame, column: str) -> np.ndarray:
    return (data[column].to_numpy()[:, None] == np.unique(data[column])).astype(float)


def design(data: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Intercept": 1.0,
            "C(g)[T.b]": 1.0 * (data["g"] == "b"),
            "C(g)[T.c]": 1.0 * (data["g"] == "c"),
            "x1": data["x1"],
            "x2": data["x2"],
            "z": data["z"],
        },
        index=data.index,
    )
