"""
Run one fit of one Python peer in this process and write what it cost.

Started by ``run.py`` as ``python -m benchmarks.worker PEER FOLDER OUT AT_LEAST
REFIT_SECONDS``; the data were prepared in FOLDER, so that building them costs
this process neither time nor memory.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import measure
from benchmarks.peers import peers_of
from benchmarks.peers.base import Estimate, PythonPeer, PythonProgram
from benchmarks.problems import Problem

__all__ = ["fit_once", "main", "refit_many"]

#: Most fits of one process in a workload of single fits.
MOST_CALLS = 25
# Responses that are handed over together.
_AT_ONCE = 1000


def fit_once(peer: PythonProgram, problem: Problem, at_least: float) -> dict[str, Any]:
    """Measure fits of the whole problem from one copy of the frame."""
    data = problem.data.copy()
    done = measure(lambda: peer.fit(data, problem.model), at_least, MOST_CALLS)
    found = dataclasses.asdict(done.value)
    share = found.get("share", 1.0)
    return {
        "wall": done.wall / share,
        "cpu": done.cpu / share,
        "fits": done.calls,
        "failed": 0,
        "peak_bytes": done.extra_bytes,
        **found,
    }


def _mean_of_five(values: list[float]) -> float | None:
    """Mean of the first five fits; None (JSON has no NaN) when one failed."""
    mean = sum(values[:5]) / 5 if len(values) >= 5 else math.nan
    return mean if math.isfinite(mean) else None


def _refits(peer: PythonPeer, problem: Problem) -> Iterator[Estimate | None]:
    """Fits to the responses, None where one fails; some at once where that is meant."""
    together = peer.many_refitter(problem) if problem.at_once else None
    if together is not None:
        for first in range(0, len(problem.responses), _AT_ONCE):
            yield from together(problem.responses[first : first + _AT_ONCE])
        return
    refit = peer.refitter(problem)
    for response in problem.responses:
        try:
            yield refit(response)
        except Exception:  # whatever a program raises
            yield None


def refit_many(peer: PythonPeer, problem: Problem, seconds: float) -> dict[str, Any]:
    """Measure a series of refits; wall and cpu are seconds a fit."""
    llf: list[float] = []
    rho: list[float] = []
    last: Estimate | None = None

    def series() -> int:
        nonlocal last
        failed = 0
        end = time.perf_counter() + seconds
        for found in _refits(peer, problem):
            if found is None:  # a failed fit is a figure of the report
                failed += 1
                llf.append(math.nan)
                rho.append(math.nan)
            else:
                last = found
                failed += last.converged is False
                llf.append(math.nan if last.llf is None else last.llf)
                rho.append(math.nan if last.rho is None else last.rho)
            if time.perf_counter() > end:
                break
        return failed

    done = measure(series, 0.0, 1)
    fits = len(llf)
    if last is None:
        raise RuntimeError(f"all of {fits} fits failed")
    return {
        "wall": done.wall / fits,
        "cpu": done.cpu / fits,
        "fits": fits,
        "failed": done.value,
        "peak_bytes": done.extra_bytes,
        **dataclasses.asdict(last),
        "llf": _mean_of_five(llf),
        "rho": _mean_of_five(rho),
    }


def main(argv: list[str]) -> None:
    """Load, warm up on the tiny problem, measure, write JSON."""
    name, folder, out, at_least, refit_seconds = argv
    problem: Problem = pickle.loads((Path(folder) / "problem.pkl").read_bytes())
    peer = peers_of(problem.name)[name]
    if not isinstance(peer, PythonProgram):
        raise TypeError(f"{name} does not run in Python")
    small: Problem = pickle.loads((Path(folder) / "tiny.pkl").read_bytes())
    start = time.perf_counter()
    peer.load()
    loaded = time.perf_counter()
    # After the import: statsmodels puts filters of its own in front.
    warnings.simplefilter("ignore")
    try:
        if isinstance(peer, PythonPeer) and small.responses.size:
            peer.refitter(small)(small.responses[0])
        peer.fit(small.data, small.model)
    except Exception:  # tiny data may defeat a program; warming up is all they do
        pass
    warm = time.perf_counter()
    if isinstance(peer, PythonPeer) and problem.responses.size:
        result = refit_many(peer, problem, float(refit_seconds))
    else:
        result = fit_once(peer, problem, float(at_least))
    result |= {"import_s": loaded - start, "warmup_s": warm - loaded}
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
