"""Dataframes of Dask are read by the workers of a cluster, to the same sums."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.panels import growth
from mixedar.exceptions import MixedARError, SourceError
from mixedar.streams.distributed import Mapped

dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")
config = pytest.importorskip("dask").config

# the fits warn of a variance at zero, distributed of workers that died
pytestmark = pytest.mark.filterwarnings("ignore")
FRAME = growth()
OPTIONS: dict[str, Any] = {"groups": "id", "re_formula": "~time", "time": "time"}
FORMULA = "y ~ time * arm + x"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Start two workers, each a process of its own."""
    with (
        config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as workers,
        distributed.Client(workers) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def expected() -> Any:
    return mar.mixedlm(FORMULA, FRAME, **OPTIONS).fit()


def check(rows: Any, expected: Any, **options: Any) -> None:
    """Compare the fit of some rows with that in memory."""
    found = mar.mixedlm(FORMULA, rows, **{**OPTIONS, **options}).fit()
    assert list(found.params.index) == list(expected.params.index)
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-10)
    np.testing.assert_allclose(found.bse, expected.bse, rtol=1e-10)
    np.testing.assert_allclose(found.llf, expected.llf, rtol=1e-12)
    np.testing.assert_array_equal(found.df, expected.df)
    assert (found.nobs, found.n_groups) == (expected.nobs, expected.n_groups)


@pytest.mark.parametrize("partitions", [20])
def test_partitions_that_cut_groups(
    cluster: Any, expected: Any, partitions: int
) -> None:
    check(dd.from_pandas(FRAME, npartitions=partitions), expected)


def test_rows_apart_are_brought_together(cluster: Any, expected: Any) -> None:
    mixed = FRAME.sample(frac=1.0, random_state=1).reset_index(drop=True)
    check(dd.from_pandas(mixed, npartitions=5), expected)


def test_an_index_is_a_column(cluster: Any, expected: Any) -> None:
    indexed = dd.from_pandas(FRAME.set_index("id"), npartitions=4)
    assert indexed.known_divisions
    check(indexed, expected)


def test_text_labels_and_categories(cluster: Any, expected: Any) -> None:
    frame = FRAME.assign(
        id="person " + FRAME["id"].astype(str).str.zfill(3),
        arm=pd.Categorical(FRAME["arm"], ["drug", "control"][::-1]),
    )
    check(dd.from_pandas(frame, npartitions=6), expected)


def test_the_order_of_rows_is_kept_when_they_move(cluster: Any) -> None:
    last = FRAME.groupby("id").cumcount(ascending=False)
    apart = FRAME.assign(last=last).sort_values(["last", "id"], ascending=[False, True])
    options = {"groups": "id", "residual": "ar1"}
    here = mar.mixedlm(FORMULA, apart, **options).fit()
    rows = dd.from_pandas(apart.reset_index(drop=True), npartitions=5)
    there = mar.mixedlm(FORMULA, rows, **options).fit()
    np.testing.assert_allclose(there.params, here.params, rtol=1e-9)


def test_of_a_partition_only_edges_and_results_travel() -> None:
    frame = pd.DataFrame({"id": np.repeat(np.arange(20_000), 5), "y": 1.0})
    frame["arm"] = pd.Categorical(np.where(frame["id"] % 2, "a", "b"))
    own = Mapped(len, sum, ("id", "y", "arm"), "id", cut=True, memory=10**9)
    piece = own.piece(frame)
    assert piece.results == [len(frame) - 10]
    assert [len(edge) for edge in piece.edges] == [5, 5]
    assert len(pickle.dumps(piece)) < 10_000


def test_without_a_cluster(expected: Any) -> None:
    with config.set(scheduler="synchronous"):
        check(dd.from_pandas(FRAME, npartitions=3), expected)


def test_predictions_partition_by_partition(cluster: Any, expected: Any) -> None:
    rows = dd.from_pandas(FRAME, npartitions=3)
    found = pd.concat(
        mar.mixedlm(FORMULA, rows, **OPTIONS).fit().predict(mar.scan(rows))
    )
    np.testing.assert_allclose(found["predicted"], expected.predict(FRAME), rtol=1e-9)


def test_a_partition_that_fails_is_named(cluster: Any) -> None:
    def broken(partition: pd.DataFrame, partition_info: Any = None) -> pd.DataFrame:
        if partition_info is not None and partition_info["number"] == 2:
            raise RuntimeError("the disk is on fire")
        return partition

    rows = dd.from_pandas(FRAME, npartitions=4).map_partitions(broken, meta=FRAME)
    with pytest.raises(SourceError, match=r"partition 2 .*the disk is on fire"):
        mar.mixedlm(FORMULA, rows, **OPTIONS)


def test_bad_rows_are_the_error_that_they_are_in_memory(cluster: Any) -> None:
    frame = FRAME.assign(y=FRAME["y"].where(FRAME.index != 300, np.inf))
    with pytest.raises(MixedARError, match="infinite"):
        mar.mixedlm(FORMULA, dd.from_pandas(frame, npartitions=4), **OPTIONS)


def killing(folder: Path, times: int) -> Any:
    """Kill the worker the first times that a partition is read."""
    flags = [folder / f"died-{k}" for k in range(times)]

    def read(partition: pd.DataFrame) -> pd.DataFrame:
        for flag in flags:
            if not flag.exists():
                flag.touch()
                os._exit(1)
        return partition

    return read


def test_a_worker_that_dies_is_replaced(
    cluster: Any, expected: Any, tmp_path: Path
) -> None:
    rows = dd.from_pandas(FRAME, npartitions=4)
    check(rows.map_partitions(killing(tmp_path, 1), meta=FRAME), expected)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_partition_that_kills_its_workers_is_named(
    cluster: Any, tmp_path: Path
) -> None:
    rows = dd.from_pandas(FRAME, npartitions=1)
    rows = rows.map_partitions(killing(tmp_path, 99), meta=FRAME)
    with pytest.raises(SourceError, match=r"partition 0 .*KilledWorker"):
        mar.mixedlm(FORMULA, rows, **OPTIONS)


@pytest.mark.parametrize("door", [mar.fixed_effects, mar.random_effects])
def test_panel_models(cluster: Any, door: Any) -> None:
    rows = dd.from_pandas(FRAME, npartitions=7)
    found, expected = (
        door("y ~ time + np.exp(x)", data, "id", "time").fit("clustered")
        for data in (rows, FRAME)
    )
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-10)
    np.testing.assert_allclose(found.bse, expected.bse, rtol=1e-10)


def test_robust_errors(cluster: Any, expected: Any) -> None:
    found = mar.mixedlm(FORMULA, dd.from_pandas(FRAME, npartitions=7), **OPTIONS).fit()
    robust = [fit.get_robustcov_results("CR2") for fit in (found, expected)]
    np.testing.assert_allclose(robust[0].bse, robust[1].bse, rtol=1e-10)
    np.testing.assert_allclose(robust[0].df, robust[1].df, rtol=1e-9)


def test_regressions_by_group(cluster: Any) -> None:
    rows = dd.from_pandas(FRAME, npartitions=7)
    found, expected = (mar.by_group("y ~ time", data, "id") for data in (rows, FRAME))
    pd.testing.assert_frame_equal(found.params, expected.params, rtol=1e-10)
