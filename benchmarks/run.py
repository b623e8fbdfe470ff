"""
Measure mixedar and its rivals side by side.

Run ``python benchmarks/run.py --help``; README.md says how to read the tables.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # called by path: make the package importable
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import machine, panel_report, report
from benchmarks.imports import measure_imports
from benchmarks.panel_problems import PANEL_WORKLOADS
from benchmarks.peers import PANEL_PEERS, PLAIN_PEERS, SMOOTH_PEERS, peers_of
from benchmarks.problems import ONLY_MIXEDAR, PROBLEMS
from benchmarks.runner import Limits, child_environment, run_workload

__all__ = ["main"]

WORKLOADS = (*PROBLEMS, "imports")
ALL_PEERS = tuple(PLAIN_PEERS | SMOOTH_PEERS | PANEL_PEERS)
SMOKE_SCALE = 0.002


def _names(known: Sequence[str]) -> Any:
    """A parser of comma-separated names that says which ones exist."""

    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"no {', '.join(unknown)}; there are {', '.join(known)}"
            )
        return names

    return parse


def _parser() -> argparse.ArgumentParser:
    limits = Limits()
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    add = parser.add_argument
    add("--smoke", action="store_true", help="tiny data, one round: does it run?")
    add("--workloads", type=_names(WORKLOADS), metavar="A,B", default=None)
    add("--peers", type=_names(ALL_PEERS), metavar="A,B", default=None)
    add("--repeat", type=int, default=5, help="rounds over all peers (default 5)")
    add("--scale", type=float, default=1.0, help="size, in (0, 1] (default 1)")
    add("--json", type=Path, metavar="FILE", help="write everything there")
    add("--timeout", type=float, default=limits.timeout, help="seconds a process")
    add("--budget", type=float, default=limits.budget, help="seconds a peer repeats")
    add("--refit-seconds", type=float, default=limits.refit_seconds)
    add("--threads", type=int, default=1, help="BLAS/OpenMP/Rayon; 0: their choice")
    return parser


def _versions(workloads: Sequence[str], peers: Sequence[str]) -> dict[str, str]:
    found = machine.python_versions()
    known = {n: p for w in workloads for n, p in peers_of(w).items() if n in peers}
    for peer in known.values():
        if peer.missing() is None:
            found |= peer.versions()
    return found


def _say(line: str) -> None:
    """Progress goes to the terminal's error stream, tables to its output."""
    print(f"... {line}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        0 when every present peer that was started gave a result, else 1.
    """
    options = _parser().parse_args(argv)
    workloads = options.workloads or list(WORKLOADS)
    peers = options.peers or list(ALL_PEERS)
    scale = SMOKE_SCALE if options.smoke else options.scale
    repeat = 1 if options.smoke else options.repeat
    limits = Limits(
        timeout=options.timeout,
        budget=options.budget,
        at_least=0.0 if options.smoke else 1.0,
        refit_seconds=1.0 if options.smoke else options.refit_seconds,
        threads=options.threads,
    )
    about = machine.describe()
    versions = _versions(workloads, peers)
    print("machine:", ", ".join(f"{key} {value}" for key, value in about.items()))
    print("versions:", ", ".join(f"{key} {value}" for key, value in versions.items()))
    threads = f"{limits.threads} thread(s)" if limits.threads else "threads as set"
    print(f"scale {scale:g}, {threads}, {repeat} round(s), one process each\n")
    record: dict[str, Any] = {
        "machine": about,
        "versions": versions,
        "scale": scale,
        "repeat": repeat,
        "limits": dataclasses.asdict(limits),
        "workloads": {},
    }
    failed = False
    for name in workloads:
        if name == "imports":
            seconds = measure_imports(max(repeat, 2), child_environment(0))
            record["imports"] = seconds
            print(report.imports_table(seconds) + "\n", flush=True)
            continue
        chosen = [peer for peer in peers if peer in peers_of(name)]
        if not chosen:
            print(f"{name}: none of {', '.join(peers)} does this\n", flush=True)
            continue
        if name in ONLY_MIXEDAR and not options.peers:
            chosen = ["mixedar"]
        facts, entries = run_workload(name, chosen, scale, repeat, limits, _say)
        panel = name in PANEL_WORKLOADS
        table = panel_report.panel_table if panel else report.workload_table
        print(table(facts, entries) + "\n", flush=True)
        failed |= any(entry.note.startswith("failed") for entry in entries)
        record["workloads"][name] = {
            "facts": dataclasses.asdict(facts),
            "peers": [dataclasses.asdict(entry) for entry in entries],
        }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
