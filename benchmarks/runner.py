"""Start, limit and collect the measured processes of one workload."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import memory_bytes
from benchmarks.peers import peers_of
from benchmarks.peers.base import Facts, Job
from benchmarks.prepare import read_facts

__all__ = ["Limits", "PeerRuns", "child_environment", "run_workload"]

ROOT = Path(__file__).resolve().parents[1]
_THREADS = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass(frozen=True)
class Limits:
    """What a measured process may take.

    Attributes
    ----------
    timeout : float
        Seconds of wall time for one process.
    budget : float
        Seconds after which a peer gets no further repetition of a workload.
    at_least : float
        Seconds for which quick fits are repeated inside a process.
    refit_seconds : float
        Seconds after which a series of refits stops.
    threads : int
        Threads of BLAS, OpenMP and Rayon; 0 leaves them as they are.
    """

    timeout: float = 300.0
    budget: float = 120.0
    at_least: float = 1.0
    refit_seconds: float = 20.0
    threads: int = 1


@dataclass
class PeerRuns:
    """All processes of one peer on one workload.

    Attributes
    ----------
    peer, fitted : str
        Adapter, and the residual structure that it fitted or, for a panel
        workload, what it computed.
    runs : list of dict
        One result a process that ended well.
    note : str
        Why there is no result, or no further one.
    seconds : float
        Wall seconds of all its processes.
    """

    peer: str
    fitted: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""
    seconds: float = 0.0


def child_environment(threads: int) -> dict[str, str]:
    """Environment of a child: the checkout comes first on Python's path."""
    environment = dict(os.environ)
    path = [str(ROOT), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(p for p in path if p)
    if threads:
        environment |= dict.fromkeys(_THREADS, str(threads))
    return environment


def _limit_memory() -> None:
    """Let a greedy program fail by itself rather than take the machine down."""
    most = int(0.85 * memory_bytes())
    if most:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _execute(command: Sequence[str], environment: dict[str, str], limit: float) -> str:
    """Run a command; return why it failed, or an empty string."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            preexec_fn=_limit_memory,
        )
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"stopped after {limit:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode == 0:
            return ""
        errors.seek(0)
        lines = [line.strip() for line in errors if line.strip()]
    # The last line holds the message, but R adds where it stopped.
    noise = ("Execution halted", "Calls:", "In addition:")
    lines = [line for line in lines if not line.startswith(noise)]
    reason = lines[-1][-120:] if lines else f"exit status {process.returncode}"
    return f"failed: {reason}"


def prepare(name: str, scale: float, folder: Path, csv: bool) -> Facts:
    """Build the data of a workload in a process of its own."""
    module = "benchmarks.prepare"
    subprocess.run(
        [sys.executable, "-m", module, name, str(scale), str(folder), str(int(csv))],
        env=child_environment(0),
        cwd=ROOT,
        check=True,
    )
    return read_facts(folder)


def _run_once(entry: PeerRuns, job: Job, limits: Limits) -> None:
    """One process of one peer; its result or its failure goes into `entry`."""
    peer = peers_of(job.facts.name)[entry.peer]
    threads = 1 if job.facts.responses else limits.threads
    start = time.perf_counter()
    failure = _execute(peer.command(job), child_environment(threads), limits.timeout)
    process_s = time.perf_counter() - start
    entry.seconds += process_s
    if failure:
        entry.note = failure
        return
    entry.runs.append({**peer.read(job), "process_s": process_s})
    if entry.seconds > limits.budget:
        entry.note = "budget spent"


def run_workload(
    name: str,
    peers: Sequence[str],
    scale: float,
    repeat: int,
    limits: Limits,
    say: Callable[[str], None],
) -> tuple[Facts, list[PeerRuns]]:
    """Measure peers on one workload, interleaved: A B C, A B C, ...

    Parameters
    ----------
    name : str
        Key of the workload.
    peers : sequence of str
        Adapters that know the workload, in the order of a round.
    scale : float
        Size relative to the published one.
    repeat : int
        Rounds.
    limits : Limits
        Of each process.
    say : callable
        Receives a line of progress before each process.

    Returns
    -------
    Facts, list of PeerRuns
    """
    known = peers_of(name)
    present = {peer: known[peer].missing() for peer in peers}
    csv = any(known[p].needs_csv and not why for p, why in present.items())
    with tempfile.TemporaryDirectory(prefix="mixedar-bench-") as place:
        folder = Path(place)
        facts = prepare(name, scale, folder, csv)
        entries = []
        for peer, missing in present.items():
            entry = PeerRuns(peer, known[peer].fitted(facts.model))
            reason = missing or known[peer].refuse(facts)
            entry.note = f"skipped: {reason}" if reason else ""
            entries.append(entry)
        for turn in range(repeat):
            for entry in entries:
                if entry.note:
                    continue
                say(f"{name}: {entry.peer}, {turn + 1} of {repeat}")
                job = Job(
                    entry.peer,
                    facts,
                    folder,
                    folder / f"{entry.peer}-{turn}.out",
                    limits.at_least,
                    limits.refit_seconds,
                )
                _run_once(entry, job, limits)
    return facts, entries
