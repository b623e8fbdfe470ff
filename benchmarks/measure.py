"""Wall time, processor time and peak memory of one piece of work."""

from __future__ import annotations

import ctypes
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

__all__ = ["Measured", "measure", "peak_bytes", "reset_peak"]

T = TypeVar("T")
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Measured(Generic[T]):
    """Result of :func:`measure`.

    Attributes
    ----------
    value : object
        What the last call returned.
    wall, cpu : float
        Median seconds a call; ``cpu`` adds up the threads of the process.
    calls : int
        Number of calls.
    extra_bytes : int
        Peak resident memory of the first call less that just before it.
    """

    value: T
    wall: float
    cpu: float
    calls: int
    extra_bytes: int


def reset_peak() -> bool:
    """Set the recorded peak to the present size, where the system can.

    Without this the peak may stem from building the data, and the work would
    look cheaper than it is; so would it if the allocator could hand out again
    what the building left behind.

    Returns
    -------
    bool
        Whether the system could.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(0)
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """Peak resident memory of this process, in bytes."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    # ru_maxrss counts bytes on macOS and kibibytes elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(work: Callable[[], T], at_least: float, most_calls: int) -> Measured[T]:
    """Call `work` until `at_least` seconds or `most_calls` are reached.

    Parameters
    ----------
    work : callable
        Takes nothing; must do everything anew at each call.
    at_least : float
        Seconds after which no further call starts.
    most_calls : int
        Largest number of calls.

    Returns
    -------
    Measured
    """
    reset_peak()
    before = peak_bytes()
    extra = 0
    walls: list[float] = []
    cpus: list[float] = []
    while True:
        cpu, wall = time.process_time(), time.perf_counter()
        value = work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        if len(walls) == 1:
            extra = peak_bytes() - before
        if sum(walls) >= at_least or len(walls) >= most_calls:
            break
    return Measured(
        value, statistics.median(walls), statistics.median(cpus), len(walls), extra
    )
