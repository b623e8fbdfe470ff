"""The data sets are their sources, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from helpers.reference_cases import FOLDER, read_csv
from mixedar.datasets import load_bodyweight, load_growth, load_orthodont


@pytest.mark.parametrize(
    ("load", "source"),
    [
        (load_growth, "seed"),
        (load_orthodont, "orthodont"),
        (load_bodyweight, "bodyweight"),
    ],
)
def test_same_as_the_source(load: Callable[[], pd.DataFrame], source: str) -> None:
    expected = read_csv(FOLDER / "data" / f"{source}.csv")
    found = load()
    factors = [name for name in found if found[name].dtype == "category"]
    assert factors == {"seed": ["treatment"], "orthodont": ["sex"]}.get(source, [])
    expected = expected.astype(dict.fromkeys(factors, "category"))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_growth_is_balanced_and_complete() -> None:
    data = load_growth()
    assert list(data.columns) == ["y", "time", "treatment", "id"]
    assert data["id"].nunique() == 2500
    assert (data.groupby("id")["time"].agg(tuple) == (0, 1, 2, 3)).all()
    assert (data.groupby("id")["treatment"].nunique() == 1).all()
    assert data.notna().all().all()


def test_each_call_gives_a_new_frame() -> None:
    mine = load_orthodont()
    mine["distance"] = 0.0
    assert load_orthodont()["distance"].min() > 0
