"""What goes wrong while rows are read is named, and no sum is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.panels import growth
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
    MemoryBoundError,
    MissingDataError,
    SourceError,
    TimeError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.streams import Source, files, source

FRAME = growth()
OPTIONS: dict[str, Any] = {"groups": "id", "time": "time"}
FORMULA = "y ~ time * arm"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k in range(3):
        part = FRAME.iloc[k * 160 : (k + 1) * 160]
        part.to_parquet(tmp_path / f"part-{k}.parquet", row_group_size=40)
    return tmp_path


def at_the_third_reading(
    monkeypatch: pytest.MonkeyPatch, kind: type[Source], change: Callable[[], object]
) -> None:
    """Change the data before the sums; levels and the first rows come before."""
    count, plain = 0, kind.batches

    def batches(self: Any, *given: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            change()
        yield from plain(self, *given)

    monkeypatch.setattr(kind, "batches", batches)


def test_a_truncated_file_is_named(folder: Path) -> None:
    path = folder / "part-1.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match=r"part-1\.parquet"):
        mar.mixedlm(FORMULA, mar.scan(folder), **OPTIONS)


def test_a_file_whose_pages_are_damaged_is_an_error(folder: Path) -> None:
    path = folder / "part-1.parquet"
    content = bytearray(path.read_bytes())
    content[4:3000] = os.urandom(2996)
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match=r"part-1\.parquet cannot be read"):
        mar.mixedlm(FORMULA, mar.scan(folder), **OPTIONS)


def test_a_file_that_changes_between_readings_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, path = mar.scan(folder), folder / "part-1.parquet"
    other = FRAME.iloc[160:320].assign(y=lambda d: d["y"] + 1.0)
    at_the_third_reading(monkeypatch, type(rows), lambda: other.to_parquet(path))
    with pytest.raises(SourceError, match=r"part-1\.parquet.* have changed"):
        mar.mixedlm(FORMULA, rows, **OPTIONS)


@pytest.mark.parametrize(
    ("column", "value", "error", "words"),
    [
        ("arm", "'placebo'", UnsupportedError, "level 'placebo'"),
        ("y", "0.0", SourceError, "476 rows the first time and 477 the second"),
        ("time", "-1.5", TimeError, "-1.5"),
        ("id", "3", SourceError, "'id' are not together any more"),
    ],
)
def test_what_appears_in_the_second_reading_is_named(
    monkeypatch: pytest.MonkeyPatch,
    column: str,
    value: str,
    error: type[Exception],
    words: str,
) -> None:
    connection = pytest.importorskip("duckdb").connect()
    connection.register("frame", FRAME)
    connection.sql("CREATE TABLE visits AS SELECT * FROM frame")
    rows = mar.scan("SELECT * FROM visits", connection=connection)
    given = {"id": "500", "time": "3", "arm": "'drug'", "y": "1.0", column: value}
    insert = f"INSERT INTO visits ({', '.join(given)}) VALUES "
    insert += f"({', '.join(given.values())})"
    monkeypatch.setattr(source, "_ROWS", 67)
    connection.sql("ALTER TABLE visits ALTER time TYPE DOUBLE")
    rows = mar.scan("SELECT * FROM visits", connection=connection)
    at_the_third_reading(monkeypatch, type(rows), lambda: connection.sql(insert))
    with pytest.raises(error, match=words):
        mar.mixedlm(FORMULA, rows, **OPTIONS)


def test_values_that_change_between_readings_are_noticed() -> None:
    connection = pytest.importorskip("duckdb").connect()
    connection.register("frame", FRAME)
    connection.sql("CREATE TABLE visits AS SELECT * FROM frame")
    rows = connection.sql("SELECT * FROM visits")
    fe = mar.fixed_effects("y ~ time + x", rows, "id", "time")
    expected = mar.fixed_effects("y ~ time + x", FRAME, "id", "time").fit("clustered")
    np.testing.assert_allclose(fe.fit("clustered").bse, expected.bse, rtol=1e-10)
    # two persons exchange a response: neither counts nor sums of values tell
    both = "(SELECT y FROM frame WHERE time = 1 AND id = {})"
    for one, other in ((4, 5), (5, 4)):
        now = both.format(other)
        connection.sql(f"UPDATE visits SET y = {now} WHERE time = 1 AND id = {one}")
    with pytest.raises(SourceError, match="other values of 'y'"):
        fe.fit("clustered")


def test_a_file_that_is_gone_is_named(folder: Path) -> None:
    rows = mar.scan(folder)
    (folder / "part-2.parquet").unlink()
    with pytest.raises(SourceError, match=r"part-2\.parquet: the file is gone"):
        mar.mixedlm(FORMULA, rows, **OPTIONS)


def test_files_of_different_types_are_an_error(folder: Path) -> None:
    other = FRAME.iloc[160:320].assign(x="text")
    other.to_parquet(folder / "part-1.parquet")
    with pytest.raises(SourceError, match=r"part-1\.parquet cannot be read"):
        mar.mixedlm("y ~ time + x", mar.scan(folder), **OPTIONS)


def test_a_query_that_fails_is_an_error() -> None:
    connection = pytest.importorskip("duckdb").connect()
    connection.register("visits", FRAME)
    with pytest.raises(SourceError, match="does not run"):
        mar.scan("SELECT nothing FROM visits", connection=connection)
    query = "SELECT *, CAST(arm AS INTEGER) AS number FROM visits"
    with pytest.raises(SourceError, match="the engine that holds the data failed"):
        mar.mixedlm("y ~ number", (query, connection), **OPTIONS)


def test_groups_that_are_apart_need_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FRAME.sample(frac=1.0, random_state=2).to_parquet(tmp_path / "rows.parquet")
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match="one 'id' are not together"):
        mar.mixedlm(FORMULA, mar.scan(tmp_path), **OPTIONS)


def test_an_order_of_rows_that_sorting_loses_is_not_taken(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    FRAME.to_parquet(tmp_path / "sorted.parquet")
    FRAME.sort_values("time").to_parquet(tmp_path / "apart.parquet")
    options = {"groups": "id", "residual": "ar1", "re_formula": "0"}
    here = mar.mixedlm("y ~ x", FRAME, **options).fit()
    there = mar.mixedlm("y ~ x", mar.scan(tmp_path / "sorted.parquet"), **options)
    np.testing.assert_allclose(there.fit().params, here.params, rtol=1e-10)
    with pytest.raises(SourceError, match="without time= the residuals take the order"):
        mar.mixedlm("y ~ x", mar.scan(tmp_path / "apart.parquet"), **options)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("nowhere/*.parquet", SourceError),
        (3, UnsupportedError),
        ([], UnsupportedError),
    ],
)
def test_what_is_no_source(data: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        mar.scan(data)


@pytest.mark.parametrize("memory", ["much", 0, -1, "2 XB", None, True, float("nan")])
def test_bounds_that_are_none(folder: Path, memory: Any) -> None:
    with pytest.raises(UnsupportedError, match="memory="):
        mar.scan(folder, memory=memory)


MISTAKES: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("y ~ tmie", {}, UnknownColumnError, "'tmie'"),
    ("y ~ time", {"groups": "idd"}, UnknownColumnError, "'idd'"),
    ("y ~ time", {"groups": None}, GroupError, "groups= is missing"),
    ("y ~ time", {"groups": np.arange(4)}, UnsupportedError, "name of one of"),
    ("y ~ center(time)", {}, UnsupportedError, "several rows at once"),
    ("y ~ s(time)", {}, UnsupportedError, "all rows in memory"),
    ("y ~ (1 | id) + (1 | site)", {"groups": None}, UnsupportedError, "one factor"),
    ("y ~ time", {"vc_formula": {"a": "0 + C(site)"}}, UnsupportedError, "vc_formula"),
    ("y ~ time", {"weights": "fitted"}, Exception, "."),
    ("y ~ time", {"subset": "y > y.mean()"}, UnsupportedError, "without functions"),
    ("y ~ time", {"subset": "y > 1e9"}, EmptyDataError, "no row is left"),
    ("y ~ time + I(2 * time)", {}, ValueError, "rank"),
    ("arm ~ time", {}, ValueError, "arm"),
]


@pytest.mark.parametrize(("formula", "given", "error", "words"), MISTAKES)
def test_mistakes(
    folder: Path,
    formula: str,
    given: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        mar.mixedlm(formula, mar.scan(folder), **{**OPTIONS, **given})


def test_what_would_exceed_the_memory_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(3000), 5)
    frame = pd.DataFrame(
        {
            "id": groups,
            "time": np.sort(rng.random((3000, 5)), axis=1).ravel(),
            "y": rng.normal(size=15000),
        }
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    rows = mar.scan(tmp_path, memory="2MB")
    with pytest.raises(MemoryBoundError, match="groups with times or random-effects"):
        mar.mixedlm("y ~ time", rows, groups="id", time="time", residual="car1")


def test_a_group_that_exceeds_the_memory_is_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": 7, "time": np.arange(60000), "y": np.ones(60000)})
    frame.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(MemoryBoundError, match="id = 7"):
        mar.mixedlm("y ~ time", mar.scan(tmp_path, memory="1MB"), **OPTIONS)


CHILD = """
import resource, sys
import mixedar.formula.api as mar
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
tiny = mar.scan(sys.argv[1] + "/tiny.parquet", memory=sys.argv[2])
mar.mixedlm("y ~ time * arm", tiny, groups="id", time="time").fit()
before = peak()
rows = mar.scan(sys.argv[1] + "/many", memory=sys.argv[2])
fit = mar.mixedlm("y ~ time * arm", rows, groups="id", time="time").fit()
print(peak() - before, fit.nobs)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no ru_maxrss")
def test_the_bound_on_memory_is_kept(tmp_path: Path) -> None:
    one = growth(20_000, missing=0.0)[["id", "time", "arm", "y"]]
    (tmp_path / "many").mkdir()
    for k in range(8):
        part = one.assign(id=one["id"] + 20_000 * k)
        part.to_parquet(tmp_path / "many" / f"part-{k}.parquet")
    FRAME.to_parquet(tmp_path / "tiny.parquet")
    held = sum(len(one) * 8 * 4 for _ in range(8))
    found = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), "20MB"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split()
    assert int(found[1]) == 8 * len(one)
    assert int(found[0]) < 20_000_000 < held


def test_a_bar_counts_the_rows(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mar.mixedlm(FORMULA, mar.scan(folder, progress=True), **OPTIONS)
    assert "rows" in capsys.readouterr().err


def test_batches_shrink_with_the_memory(folder: Path) -> None:
    small, large = mar.scan(folder, memory="100kB"), mar.scan(folder)
    assert max(map(len, small.frames(["y", "x"]))) <= 1000
    assert isinstance(large, Source)
    assert source.bytes_of("1.5 GB") == 1_500_000_000


def test_what_is_no_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="not DataFrame; a frame in memory goes"):
        mar.scan(FRAME)
    with pytest.raises(UnsupportedError, match="not a list with 3;"):
        mar.scan([str(tmp_path), 3])
    with pytest.raises(UnsupportedError, match="not an empty list"):
        mar.scan([])


def test_infinite_times_are_counted_in_the_rows_of_the_source(tmp_path) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": np.repeat(range(20), 3), "t": np.tile([0.0, 1, 2], 20)})
    frame["y"] = rng.normal(size=60)
    frame.loc[7, "t"] = np.inf
    frame.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(MissingDataError, match="'t' is missing or infinite in row 7;"):
        mar.mixedlm("y ~ 1", mar.scan(tmp_path), groups="g", time="t")


MISSING = [("id", "missing labels, first in row 475"), ("x", r"'x' \(row 28\d\)")]


@pytest.mark.parametrize(("column", "words"), MISSING)
def test_rows_are_named_as_they_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, column: str, words: str
) -> None:
    pytest.importorskip("duckdb")  # it sorts them
    monkeypatch.setattr(source, "_ROWS", 67)
    frame = FRAME.sample(frac=1.0, random_state=1).reset_index(drop=True)
    frame = frame.astype({"id": float})
    row = int(np.flatnonzero(frame["id"] == frame["id"].quantile(0.6))[0])
    frame.loc[row, column] = np.nan
    frame.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(MissingDataError, match=f"{words}.*counted from 0, sorted by"):
        mar.mixedlm("y ~ time + x", mar.scan(tmp_path), **OPTIONS)


def test_rows_of_a_source_are_no_new_rows(tmp_path: Path) -> None:
    frame = FRAME.assign(time=FRAME["time"].where(FRAME.index != FRAME.index[7]))
    frame.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(MissingDataError, match=r"in the source, time .* in row 7"):
        mar.mixedlm("y ~ x", mar.scan(tmp_path), **OPTIONS)


def test_names_without_files_say_what_may_be_meant() -> None:
    with pytest.raises(SourceError, match="goes with connection="):
        mar.scan("SELECT * FROM visits")
    with pytest.raises(SourceError, match="name files, a folder, or a pattern"):
        mar.scan("")


def test_complex_columns_of_dask_are_refused_by_name() -> None:
    dask = pytest.importorskip("dask.dataframe")
    rows = dask.from_pandas(FRAME.assign(z=1j), npartitions=2)
    with pytest.raises(UnsupportedError, match="'z' holds complex numbers"):
        mar.mixedlm(FORMULA, rows, **OPTIONS)
    model = mar.mixedlm(FORMULA, rows.drop(columns="z"), **OPTIONS)
    assert model.nobs == len(FRAME)
