"""Small data of several factors: subjects and items that cross, pupils in schools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def crossed_data(seed: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (f"s{i}", f"i{item}", t)
        for i in range(12)
        for t, item in enumerate(rng.permutation(9)[: 6 + i % 3])
    ]
    frame = pd.DataFrame(rows, columns=["subj", "item", "t"]).assign(one=1)
    return respond(frame, ["subj", "item"], rng)


def nested_data(seed: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (f"k{school}", f"p{school}-{pupil}", t)
        for school in range(9)
        for pupil in range(2 + school % 3)
        for t in range(5)
    ]
    frame = pd.DataFrame(rows, columns=["school", "pupil", "t"])
    return respond(frame, ["school", "pupil"], rng)


def respond(frame: pd.DataFrame, factors: list[str], rng: Any) -> pd.DataFrame:
    frame["x"] = rng.normal(size=len(frame))
    y = 1.0 + 0.5 * frame["x"] + 0.8 * rng.normal(size=len(frame))
    for column in factors:
        codes = pd.factorize(frame[column])[0]
        effects = rng.normal(size=(codes.max() + 1, 2))
        y += effects[codes, 0] + 0.6 * effects[codes, 1] * frame["x"]
    return frame.assign(y=y).sample(frac=1.0, random_state=1)
