"""
Run the calibration study, and write its tables and pictures.

``python benchmarks/calibration/run.py`` runs what has no checkpoint yet, so a
study that was stopped goes on where it was; ``--report`` only writes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# small matrices: threads of BLAS would wait for one another
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
if __package__ in (None, ""):  # called by path: make the package importable
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from benchmarks.calibration import nlme, report  # noqa: E402
from benchmarks.calibration.designs import CELLS, Cell, cell_named  # noqa: E402
from benchmarks.calibration.study import PARTS, run_part  # noqa: E402

__all__ = ["main"]

HERE = Path(__file__).resolve().parent
#: Replicates of a cell by part.
REPLICATES = {"tests": 1000, "nlme": 400, "profile": 200, "unit": 250, "bootstrap": 80}
#: A bootstrap of a thousand fits for each replicate is dear: two cells.
BOOTSTRAP_CELLS = ("slope_15x5_0.4", "intercept_15x5_0.4")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/calibration/run.py", description=__doc__
    )
    add = parser.add_argument
    add("--replicates", type=int, help="of every part (by default as published)")
    add("--cells", metavar="A,B", help="only these, such as slope_15x5_0.4")
    add("--parts", metavar="A,B", help=f"only these of {', '.join(PARTS)}")
    add("--draws", type=int, default=200, help="of a bootstrap (default 200)")
    add(
        "--work",
        type=Path,
        default=HERE.parent / "results" / "calibration",
        help="folder of the checkpoints",
    )
    add("--out", type=Path, default=HERE / "results", help="tables and pictures")
    add("--report", action="store_true", help="run nothing, write what is there")
    add("--docs", type=Path, help="folder of calibration.md, to bring up to date")
    add("--no-plots", action="store_true", help="tables only")
    return parser


def _say(line: str) -> None:
    print(f"... {line}", file=sys.stderr, flush=True)


def _run(options: argparse.Namespace, cells: Sequence[Cell]) -> None:
    parts = options.parts.split(",") if options.parts else list(PARTS)
    reason = nlme.missing() if "nlme" in parts else None
    if reason:
        _say(f"nlme is left out: {reason}")
        parts.remove("nlme")
    for part in parts:
        n = options.replicates or REPLICATES[part]
        for cell in cells:
            if part == "bootstrap" and cell.name not in BOOTSTRAP_CELLS:
                continue
            start = time.perf_counter()
            if run_part(cell, part, n, options.work, options.draws):
                seconds = time.perf_counter() - start
                _say(f"{part} {cell.name}: {n} replicates in {seconds:.1f} s")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; arguments are those of the process by default."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        names = options.cells.split(",") if options.cells else None
        cells = CELLS if names is None else tuple(cell_named(n) for n in names)
        unknown = set((options.parts or "tests").split(",")) - set(PARTS)
        if unknown:
            raise ValueError(f"no part {', '.join(unknown)}")
    except ValueError as error:
        parser.error(str(error))
    if not options.report:
        _run(options, cells)
    report.write(options.work, options.out, plots=not options.no_plots)
    if options.docs:
        report.publish(options.out, options.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
