"""Regressions by group of rows in batches are those of the same rows in memory."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.panels import growth
from mixedar.api import ByGroupResults
from mixedar.exceptions import (
    DroppedRowsWarning,
    EmptyDataError,
    GroupError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.streams import Source, source

FRAME = growth(60).assign(weight=lambda f: 1.0 + f["time"])
FORMULA = "y ~ time + x"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make batches of about 16 groups, some of which straddle two."""
    monkeypatch.setattr(source, "_ROWS", 67)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = tmp_path_factory.mktemp("data") / "rows.parquet"
    FRAME.iloc[::-1].to_parquet(path)  # the groups fall
    return mar.scan(path)


def check_equal(there: ByGroupResults, here: ByGroupResults) -> None:
    """Compare regressions of rows in a source and in memory."""
    for name in ("params", "bse", "groups"):
        pd.testing.assert_frame_equal(
            getattr(there, name), getattr(here, name), rtol=1e-10
        )
    assert there.df_resid == here.df_resid
    np.testing.assert_allclose(there.scale, here.scale, rtol=1e-12)
    assert str(there.summary()) == str(here.summary())


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize(
    ("formula", "options"),
    [
        (FORMULA, {}),
        ("np.exp(y / 5) ~ time * site", {"weights": "weight"}),
        ("y ~ time", {"subset": "x > -0.5"}),
        ("y ~ C(time) * arm", {"subset": "time != 2 or arm != 'drug'"}),
    ],
)
def test_equal(rows: Source, formula: str, options: Any, pool: bool) -> None:
    there, here = (
        mar.by_group(formula, d, "id", pool=pool, **options) for d in (rows, FRAME)
    )
    check_equal(there, here)


def test_missing_values(tmp_path: Path) -> None:
    frame = FRAME.copy()
    frame.loc[(frame["id"] == 7) | (frame.index % 9 == 0), "x"] = np.nan
    frame.to_parquet(tmp_path / "rows.parquet")
    found = []
    for data in (mar.scan(tmp_path / "rows.parquet"), frame):
        with pytest.warns(DroppedRowsWarning, match="with missing values"):
            found.append(mar.by_group(FORMULA, data, "id", missing="drop"))
    check_equal(*found)
    assert found[0].groups.loc[7, "nobs"] == 0


def test_what_rows_are_needed_for(rows: Source) -> None:
    own, here = (mar.by_group(FORMULA, data, "id") for data in (rows, FRAME))
    few = FRAME.head(9)
    np.testing.assert_allclose(own.predict(few), here.predict(few), rtol=1e-9)
    for name in ("fittedvalues", "resid"):
        with pytest.raises(NotComputedError, match="read from a source"):
            getattr(own, name)
    fit = mar.mixedlm("y ~ time + x + (time | id)", FRAME).fit()
    with pytest.raises(UnsupportedError, match="read from a source"):
        fit.shrinkage(own)
    again = pickle.loads(pickle.dumps(own))
    pd.testing.assert_frame_equal(again.params, own.params)


def test_bad_arguments(rows: Source) -> None:
    with pytest.raises(UnsupportedError, match="several rows at once"):
        mar.by_group("y ~ center(time)", rows, "id")
    with pytest.raises(UnsupportedError, match="groups= of a source"):
        mar.by_group(FORMULA, rows, ["id", "site"])
    with pytest.raises(GroupError, match="groups= is missing"):
        mar.by_group(FORMULA, rows)
    with pytest.raises(UnknownColumnError, match="'school' is not a column"):
        mar.by_group(FORMULA, rows, "school")
    with pytest.raises(EmptyDataError, match="subset="):
        mar.by_group(FORMULA, rows, "id", subset="x > 100")
