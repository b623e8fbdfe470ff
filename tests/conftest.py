"""Settings and data that all tests share."""

from __future__ import annotations

import os

import pandas as pd
import pytest
from hypothesis import settings

# No deadlines: the machines that run this are shared.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev")
)


@pytest.fixture(scope="session")
def _growth() -> pd.DataFrame:
    from mixedar.datasets import load_growth

    return load_growth()


@pytest.fixture
def growth(_growth: pd.DataFrame) -> pd.DataFrame:
    """The growth data; each test may change its own copy."""
    return _growth.copy()


@pytest.fixture
def growth_small(_growth: pd.DataFrame) -> pd.DataFrame:
    """The first 25 people of each arm."""
    people = _growth.drop_duplicates("id").groupby("treatment", observed=True)
    return _growth[_growth["id"].isin(people["id"].head(25))].reset_index(drop=True)
