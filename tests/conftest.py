"""Settings and data that all tests share."""

from __future__ import annotations

import gc
import os
from typing import Any

import pandas as pd
import pytest
from hypothesis import settings

# Modules, tests and fits that tests share stay to the end: a collector that looks at
# them again and again takes a tenth of the time of all tests.
gc.disable()

# No deadlines: the machines that run this are shared.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev")
)


def pytest_collection_finish() -> None:
    """Collect garbage from now on."""
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _garbage_of_this_file_only() -> None:
    """Look no more at what other files, and the collection of tests, have kept."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run a file's tests in one process, which makes the fits that they share once."""
    if config.getoption("dist") != "load":
        return None  # what the command line asks for
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


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
