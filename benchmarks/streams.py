"""
Rows that do not fit into memory: a mixed model beside reading and grouping them.

    python benchmarks/streams.py --groups 20_000_000 --folder /var/tmp/streams

writes groups of five rows to Parquet files (unless they are there) and measures, each
in a process of its own: pyarrow reading the columns, DuckDB summing them by group, and
``mixedlm`` with a random slope and AR(1) residuals; the same with ``--dask`` on one
worker of a Dask cluster, and on two.  Times are of the wall and of the processors
(without workers); memory is the peak that the operating system counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SIZE, AT_ONCE = 5, 200_000
FILES = 16


def write(folder: Path, groups: int) -> None:
    """Groups of five rows: random slopes, AR(1) residuals, a covariate, two arms."""
    folder.mkdir(parents=True, exist_ok=True)
    edges = np.linspace(0, groups, FILES + 1).astype(int)
    for k, (first, end) in enumerate(pairwise(edges)):
        path = folder / f"part-{k:03d}.parquet"
        if path.exists():
            continue
        rng, writer = np.random.default_rng(k), None
        part = path.with_suffix(".part")
        for start in range(first, end, AT_ONCE):
            table = rows(rng, start, min(start + AT_ONCE, end))
            writer = writer or pq.ParquetWriter(part, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
            part.rename(path)


def rows(rng: np.random.Generator, start: int, end: int) -> pa.Table:
    """The rows of some groups."""
    m = end - start
    time, noise = np.tile(np.arange(SIZE), m), rng.normal(size=(m, SIZE))
    for j in range(1, SIZE):
        noise[:, j] = 0.6 * noise[:, j - 1] + 0.8 * noise[:, j]
    drug = np.repeat(rng.integers(0, 2, m).astype(np.int32), SIZE)
    x, effects = rng.normal(size=m * SIZE), rng.normal(size=(m, 2)) * [1.0, 0.3]
    b = np.repeat(effects, SIZE, axis=0)
    y = 1 + 0.5 * time + 0.3 * drug * time + 0.2 * x + b[:, 0] + b[:, 1] * time
    arm = pa.DictionaryArray.from_arrays(drug, ["control", "drug"]).cast(pa.string())
    columns = {
        "id": np.repeat(np.arange(start, end), SIZE),
        "time": time,
        "arm": arm,
        "x": x,
        "y": y + noise.ravel(),
    }
    return pa.table(columns)


WORK = {
    "pyarrow reads": """
import pyarrow.dataset as ds
columns = ["id", "time", "arm", "x", "y"]
scanner = ds.dataset(folder).scanner(columns=columns, batch_size=2**19)
found = sum(len(batch) for batch in scanner.to_batches())
""",
    "DuckDB sums by group": """
import duckdb
database = duckdb.connect(config={"threads": 2, "memory_limit": "1600MB"})
database.sql("SET enable_progress_bar = false")
query = f'''SELECT count(*), sum(a), sum(b), sum(c), max(d) FROM (
  SELECT id, sum(y) a, sum(x) b, sum(time) c, max(arm) d
  FROM read_parquet('{folder}/*.parquet') GROUP BY id)'''
found = database.sql(query).fetchall()
""",
    "mixedlm": """
import mixedar.formula.api as mar
source = mar.scan(folder, memory="1.5GB")
options = dict(groups="id", re_formula="~time", time="time")
fit = mar.mixedlm("y ~ time * arm + x", source, **options).fit()
found = fit.params.round(4).to_dict(), fit.nobs, fit.converged
""",
}
# Before the clock starts: as on a cluster that is there.
CLUSTER = """
import distributed, dask.dataframe
import mixedar.formula.api as mar
cluster = distributed.LocalCluster(
    n_workers={workers}, threads_per_worker=1, dashboard_address=":0"
)
client = distributed.Client(cluster)
client.run(exec, "import mixedar.formula.api")
"""
ON_CLUSTER = """
frame = dask.dataframe.read_parquet(folder, split_row_groups=True)
options = dict(groups="id", re_formula="~time", time="time")
fit = mar.mixedlm("y ~ time * arm + x", frame, **options).fit()
found = fit.params.round(4).to_dict(), fit.nobs, fit.converged
"""
MEASURE = """
import json, resource, sys, time
folder, before, work = sys.argv[1:]
exec(before)
wall, own = time.perf_counter(), time.process_time()
exec(work)
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps([time.perf_counter() - wall, time.process_time() - own, used]))
print(found)
"""


def measured(folder: Path, work: str, before: str) -> tuple[list[float], str]:
    """Wall seconds, processor seconds, gigabytes; and what was found."""
    command = [sys.executable, "-c", MEASURE, str(folder), before, work]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    figures, found = done.stdout.splitlines()[-2:]
    return json.loads(figures), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/streams"))
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--dask", action="store_true")
    asked = parser.parse_args()
    workloads = {name: ("", work) for name, work in WORK.items()}
    for workers in (1, 2) if asked.dask else ():
        before = CLUSTER.format(workers=workers)
        workloads[f"Dask, {workers} worker(s)"] = before, ON_CLUSTER
    folder = asked.folder / str(asked.groups)
    write(folder, asked.groups)
    print(f"{asked.groups * SIZE:,} rows, {asked.groups:,} groups")
    print(f"{'':22}{'wall s':>9}{'processor s':>13}{'GB':>7}")
    walls = {}
    for name, (before, work) in workloads.items():
        runs = [measured(folder, work, before) for _ in range(asked.repeat)]
        (wall, own, used), found = min(runs, key=lambda run: run[0][0])
        walls[name] = wall
        print(f"{name:22}{wall:9.2f}{own:13.2f}{used:7.2f}", flush=True)
    print(found)
    base = walls["pyarrow reads"] + walls["DuckDB sums by group"]
    print(f"mixedlm / (reading + sums by group): {walls['mixedlm'] / base:.2f}")
    if asked.dask:
        ratio = walls["Dask, 1 worker(s)"] / walls["Dask, 2 worker(s)"]
        print(f"Dask, one worker / two: {ratio:.2f}")


if __name__ == "__main__":
    main()
