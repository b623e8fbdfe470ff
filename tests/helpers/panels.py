"""Small data of known shape that several test files share."""

from __future__ import annotations

import numpy as np
import pandas as pd


def growth(groups: int = 120, size: int = 5, *, missing: float = 0.2) -> pd.DataFrame:
    """Series with a random slope, AR(1) residuals and, as a rule, gaps."""
    rng = np.random.default_rng(5)
    n = groups * size
    number = np.repeat(np.arange(groups), size)
    time = np.tile(np.arange(size), groups)
    effects = rng.normal(size=(groups, 2)) * [1.0, 0.3]
    noise = rng.normal(size=(groups, size))
    for k in range(1, size):
        noise[:, k] = 0.6 * noise[:, k - 1] + 0.8 * noise[:, k]
    drug, x = number % 2, rng.normal(size=n)
    mean = 1.0 + 0.5 * time + 0.3 * drug * time + 0.2 * x
    frame = pd.DataFrame(
        {
            "id": number,
            "time": time,
            "arm": np.array(["control", "drug"])[drug],
            "site": np.array(["a", "b", "c"])[number % 3],
            "flag": number % 5 == 0,
            "x": x,
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(7 * time, unit="D"),
            "real": time + np.round(rng.random(n), 1) * 0.5,
            "visit": [f"week {2 * t + 2}" for t in time],
            "y": mean + effects[number, 0] + effects[number, 1] * time + noise.ravel(),
        }
    )
    return frame[rng.random(n) >= missing].reset_index(drop=True)
