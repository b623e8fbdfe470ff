"""Cluster-robust errors of sources are those of the same rows in memory."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.panels import growth
from mixedar.exceptions import NotComputedError, SourceError
from mixedar.inference.sandwich import COV_TYPES
from mixedar.streams import source

FRAME = growth()
FRAME["site"] = FRAME["id"] % 3
FORMULA = "y ~ time * arm + x"
OPTIONS: dict[str, Any] = {"groups": "id", "residual": "independent"}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make batches of about 16 groups."""
    monkeypatch.setattr(source, "_ROWS", 67)


def both(folder: Path, frame: pd.DataFrame = FRAME, formula: str = FORMULA) -> Any:
    """Fit the rows of a file, and the same in memory."""
    frame.to_parquet(folder / "rows.parquet")
    rows = mar.scan(folder / "rows.parquet")
    return [mar.mixedlm(formula, data, **OPTIONS).fit() for data in (rows, frame)]


def test_errors_and_degrees_of_freedom(tmp_path: Path) -> None:
    there, here = both(tmp_path)
    for name in COV_TYPES:
        found, expected = (fit.get_robustcov_results(name) for fit in (there, here))
        np.testing.assert_allclose(found.bse, expected.bse, rtol=1e-10)
        np.testing.assert_allclose(found.df, expected.df, rtol=1e-10)
        tests = [fit.f_test(np.eye(5)[1:4]) for fit in (found, expected)]
        np.testing.assert_allclose(tests[0].fvalue, tests[1].fvalue, rtol=1e-10)
        np.testing.assert_allclose(tests[0].df_denom, tests[1].df_denom, rtol=1e-10)
        assert found.fit.robust.notes == expected.fit.robust.notes


def test_a_coefficient_of_one_group(tmp_path: Path) -> None:
    frame = FRAME.assign(late=(FRAME["id"] == 60).astype(float))
    there, here = both(tmp_path, frame, "y ~ time + late")
    found, expected = (fit.get_robustcov_results("CR1") for fit in (there, here))
    np.testing.assert_allclose(found.bse, expected.bse, rtol=1e-10)
    assert np.isnan(found.bse["late"])
    assert found.fit.robust.notes == expected.fit.robust.notes
    with pytest.raises(NotComputedError, match="CR3: without group 60"):
        there.get_robustcov_results("CR3")


def test_rows_that_have_changed_or_are_not_known(tmp_path: Path) -> None:
    there, _ = both(tmp_path)
    again = pickle.loads(pickle.dumps(there))
    with pytest.raises(NotComputedError, match="does not know its source"):
        again.get_robustcov_results("CR1")
    FRAME.assign(y=FRAME["y"] + FRAME["time"]).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(SourceError, match="have changed"):
        there.get_robustcov_results("CR1")


def test_two_groups_are_needed(tmp_path: Path) -> None:
    one = FRAME[FRAME["id"] < 1]
    one.to_parquet(tmp_path / "rows.parquet")
    rows = mar.scan(tmp_path / "rows.parquet")
    model = mar.mixedlm("y ~ time", rows, re_formula="0", **OPTIONS)
    with pytest.raises(NotComputedError, match="at least 2 groups"):
        model.fit().get_robustcov_results("CR1")
