"""Fits of rows that were read in batches are those of the same rows in memory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.panels import growth
from mixedar.api import AR1, VarExp, VarIdent
from mixedar.exceptions import DroppedRowsWarning
from mixedar.streams import Source, source

FRAME = growth()
SHUFFLED = FRAME.sample(frac=1.0, random_state=1).reset_index(drop=True)
SLOPES: dict[str, Any] = {"groups": "id", "re_formula": "~time", "time": "time"}
FORMULA = "y ~ time * arm + x"
# A number that formulas take from here.
CENTRE = 1.5


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make batches of about 16 groups, so that most groups straddle two."""
    monkeypatch.setattr(source, "_ROWS", 67)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    FRAME.to_parquet(path / "sorted.parquet")
    SHUFFLED.to_parquet(path / "shuffled.parquet")
    SHUFFLED.to_csv(path / "shuffled.csv", index=False)
    FRAME.to_parquet(path / "by_site", partition_cols=["site"])
    for parts in (7, 50):
        (path / str(parts)).mkdir()
        edges = np.linspace(0, len(FRAME), parts + 1).astype(int)
        for k in range(parts):
            part = FRAME.iloc[edges[k] : edges[k + 1]]
            part.to_parquet(path / str(parts) / f"part-{k}.parquet")
    return path


def check_equal(formula: str, rows: Any, data: pd.DataFrame, **options: Any) -> None:
    """Compare the fits of rows in a source and in memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = mar.mixedlm(formula, rows, **options).fit()
        here = mar.mixedlm(formula, data, **options).fit()
    assert list(there.params.index) == list(here.params.index)
    np.testing.assert_allclose(there.params, here.params, rtol=1e-10)
    np.testing.assert_allclose(there.bse, here.bse, rtol=1e-10)
    np.testing.assert_allclose(there.llf, here.llf, rtol=1e-12)
    np.testing.assert_array_equal(there.df, here.df)
    assert (there.nobs, there.n_groups) == (here.nobs, here.n_groups)
    assert there.fit.time_unit == here.fit.time_unit


@pytest.mark.parametrize(
    "name",
    ["sorted.parquet", "7", "50", "7/*.parquet", "shuffled.parquet", "shuffled.csv"],
)
def test_files(folder: Path, name: str) -> None:
    if "shuffled" in name:
        pytest.importorskip("duckdb")  # it sorts them
    check_equal(FORMULA, mar.scan(folder / name), FRAME, **SLOPES)


def test_a_partitioned_folder(folder: Path) -> None:
    pytest.importorskip("duckdb")
    rows = mar.scan(folder / "by_site")
    check_equal(FORMULA + " + site", rows, FRAME, **SLOPES)


def test_a_list_of_files(folder: Path) -> None:
    paths = [str(folder / "7" / f"part-{k}.parquet") for k in range(7)]
    check_equal(FORMULA, mar.scan(paths), FRAME, **SLOPES)


def test_relations_and_queries_of_duckdb() -> None:
    connection = pytest.importorskip("duckdb").connect()
    relation = connection.from_df(SHUFFLED)
    check_equal(FORMULA, relation, FRAME, **SLOPES)
    connection.register("visits", SHUFFLED)
    query = "SELECT * FROM visits WHERE x > -1"
    rest = FRAME[FRAME["x"] > -1]
    check_equal(FORMULA, (query, connection), rest, **SLOPES)
    check_equal(FORMULA, mar.scan(query, connection=connection), rest, **SLOPES)


def test_lazy_frames_of_polars() -> None:
    polars = pytest.importorskip("polars")
    check_equal(FORMULA, polars.from_pandas(SHUFFLED).lazy(), FRAME, **SLOPES)


MODELS: list[tuple[str, dict[str, Any]]] = [
    (FORMULA, {"groups": "id"}),
    ("y ~ time * arm + (time | id)", {"time": "time"}),
    ("y ~ time * arm + (time || id)", {"time": "time"}),
    ("np.exp(y / 5) ~ C(time) * site + np.exp(x) + flag", SLOPES),
    ("y ~ I(time - CENTRE) * arm", {**SLOPES, "re_formula": "1 + I(time - CENTRE)"}),
    (FORMULA, {"groups": "id", "time": "when"}),
    ("y ~ time", {"groups": "id", "time": "time", "delta": "auto"}),
    ("y ~ time", {"groups": "id", "time": "when", "delta": "auto"}),
    ("y ~ real", {"groups": "id", "time": "real", "residual": "car1"}),
    ("y ~ time", {"groups": "id", "time": "visit", "residual": "un"}),
    ("y ~ time", {"groups": "id", "time": "time", "residual": "toeplitz"}),
    ("y ~ time", {"groups": "id", "time": "time", "residual": "cs"}),
    ("y ~ time", {"groups": "id", "time": "time", "residual": AR1(nugget=True)}),
    ("y ~ time", {"groups": "id", "time": "time", "residual": AR1(by="arm")}),
    ("y ~ time", {"groups": "id", "time": "time", "weights": VarIdent("arm")}),
    ("y ~ time", {"groups": "id", "time": "time", "weights": VarExp("time")}),
    ("y ~ time", {"groups": "id", "time": "time", "offset": "x"}),
    ("y ~ time", {"groups": "site", "time": "time", "series": "id"}),
    (FORMULA, {**SLOPES, "subset": "time > 0 and arm == 'drug' or x > 0"}),
]


@pytest.mark.parametrize(("formula", "options"), MODELS)
def test_models(folder: Path, formula: str, options: dict[str, Any]) -> None:
    if options.get("groups") == "site":
        pytest.importorskip("duckdb")
    residual = options.get("residual")
    if residual in ("un", "toeplitz", "cs") or "nugget" in repr(residual):
        options = {**options, "re_formula": "0"}
    check_equal(formula, mar.scan(folder / "sorted.parquet"), FRAME, **options)


def test_missing_values_are_dropped_or_named(tmp_path: Path) -> None:
    frame = FRAME.copy()
    frame.loc[frame.index % 9 == 0, "x"] = np.nan
    frame.loc[frame.index % 31 == 0, "arm"] = None
    frame.to_parquet(tmp_path / "rows.parquet")
    rows = mar.scan(tmp_path / "rows.parquet")
    check_equal(FORMULA, rows, frame, missing="drop", **SLOPES)
    with pytest.warns(DroppedRowsWarning, match="67 rows with missing values"):
        mar.mixedlm(FORMULA, rows, missing="drop", **SLOPES)
    with pytest.raises(ValueError, match="missing values in 'x'"):
        mar.mixedlm(FORMULA, rows, **SLOPES)


def test_a_source_says_what_it_is(folder: Path) -> None:
    rows = mar.scan(folder / "7", memory="500MB")
    assert isinstance(rows, Source)
    assert rows.memory == 500_000_000
    assert rows.columns == list(FRAME.columns)


@pytest.mark.parametrize("missing", [False, True])
def test_combinations_of_levels(tmp_path: Path, missing: bool) -> None:
    """Levels that never meet lose their columns, and no others do."""
    quarter = np.array(["w", "x", "y", "z"])[np.arange(len(FRAME)) * 7 % 11 % 4]
    frame = FRAME.assign(quarter=quarter)
    if missing:
        frame = frame[(frame["arm"] != "drug") | (frame["quarter"] != "y")]
    frame.to_parquet(tmp_path / "rows.parquet")
    formula, rows = "y ~ arm * quarter + time", mar.scan(tmp_path)
    check_equal(formula, rows, frame, groups="id", time="time")
    model = mar.mixedlm(formula, rows, groups="id", time="time")
    assert model.k_fe == (8 if missing else 9)


def test_groups_of_any_type(tmp_path: Path) -> None:
    """Labels that fall, texts, truth values and categories are groups too."""
    falling = FRAME.iloc[::-1].reset_index(drop=True)
    labels = FRAME["id"].map("n{:03d}".format)
    frames = [
        (falling, "id"),
        (FRAME.assign(id=labels), "id"),
        (FRAME.assign(id=labels.astype("category")), "id"),
        (FRAME.sort_values(["flag", "id", "time"], ignore_index=True), "flag"),
    ]
    for k, (frame, groups) in enumerate(frames):
        frame.to_parquet(tmp_path / f"{k}.parquet")
        options = {"groups": groups, "re_formula": "0" if groups == "flag" else None}
        if groups == "flag":
            options["series"] = "id"
        rows = mar.scan(tmp_path / f"{k}.parquet")
        check_equal("y ~ time", rows, frame, time="time", **options)
