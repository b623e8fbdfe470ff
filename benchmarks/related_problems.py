"""Workloads whose random effects are related: pedigrees, and places in a field."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.specs import RelatedSpec

__all__ = ["RELATED_WORKLOADS", "related_frame"]

_HERD = RelatedSpec(
    "y", ("x",), "animal", (), "record", "independent", "(1 | gr(animal, cov=A))"
)
_PLACES = RelatedSpec(
    "y",
    ("x",),
    "site",
    (),
    "time",
    "ar1",
    "(1 | gr(site, cov=Field(('east', 'north'), kernel='matern')))",
)

#: Models and titles by name.
RELATED_WORKLOADS: dict[str, tuple[RelatedSpec, str]] = {
    "pedigree": (_HERD, "20,000 animals of 200 sires at scale 1, three records each"),
    "pedigree_pairs": (
        _HERD,
        "20,000 animals at scale 1, every pair drawn anew, three records each",
    ),
    "field": (_PLACES, "1,000 sites x 50 times at scale 1: Matern field, AR(1)"),
}
_GENERATIONS, _RECORDS, _TIMES = 5, 3, 50


def related_frame(name: str, scale: float) -> pd.DataFrame:
    """Data of a workload; of animals, their parents stand in each row."""
    if name == "field":
        return _field(max(30, round(1_000 * scale)))
    animals = max(100, round(20_000 * scale))
    return _herd(animals, None if name == "pedigree_pairs" else max(1, animals // 400))


def _herd(animals: int, sires: int | None) -> pd.DataFrame:
    """Generations of one size; sires are a few of the one before, or half of it."""
    rng = np.random.default_rng(26)
    each = animals // _GENERATIONS
    parents = np.full((each * _GENERATIONS, 2), -1)
    for first in range(each, len(parents), each):
        before = np.arange(first - each, first)
        fathers = before[: each // 2] if sires is None else before[:sires]
        here = slice(first, first + each)
        parents[here, 0] = rng.choice(fathers, each)
        parents[here, 1] = rng.choice(before[each // 2 :], each)
    value = np.zeros(len(parents))
    for animal, pair in enumerate(parents):
        mean, sd = (0.0, 1.0) if pair[0] < 0 else (value[pair].mean(), np.sqrt(0.5))
        value[animal] = mean + sd * rng.standard_normal()
    rows = np.repeat(np.arange(len(parents)), _RECORDS)
    x = rng.standard_normal(len(rows))
    sire, dam = (parents + 1).T  # 0 is unknown
    return pd.DataFrame(
        {
            "y": 1.0 + 0.3 * x + value[rows] + rng.standard_normal(len(rows)),
            "x": x,
            "record": np.tile(np.arange(_RECORDS), len(parents)),
            "animal": rows + 1,
            "sire": sire[rows],
            "dam": dam[rows],
        }
    )


def _field(sites: int) -> pd.DataFrame:
    """Sites in a square, whose values fall off with their distance."""
    rng = np.random.default_rng(27)
    where = rng.uniform(0.0, 10.0, (sites, 2))
    d = np.linalg.norm(where[:, None] - where, axis=2)
    root = np.linalg.cholesky((1.0 + d) * np.exp(-d) + 1e-9 * np.eye(sites))
    noise = rng.standard_normal((sites, _TIMES))
    for j in range(1, _TIMES):
        noise[:, j] = 0.5 * noise[:, j - 1] + np.sqrt(0.75) * noise[:, j]
    rows = np.repeat(np.arange(sites), _TIMES)
    x = rng.standard_normal(len(rows))
    effect = root @ rng.standard_normal(sites)
    return pd.DataFrame(
        {
            "y": 1.0 + 0.2 * x + effect[rows] + noise.ravel(),
            "x": x,
            "time": np.tile(np.arange(_TIMES), sites),
            "site": rows + 1,
            "east": where[rows, 0],
            "north": where[rows, 1],
        }
    )
