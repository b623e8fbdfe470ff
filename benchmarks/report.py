"""The tables of a run, as text."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.peers.base import Facts
from benchmarks.runner import PeerRuns

__all__ = [
    "align",
    "cost_cells",
    "cost_titles",
    "imports_table",
    "median_of",
    "reference_wall",
    "run_count",
    "seconds_text",
    "workload_table",
]

REFERENCE = "mixedar"


def seconds_text(value: float) -> str:
    """Three significant digits with the unit that suits."""
    if value < 1e-3:
        return f"{1e6 * value:.3g} us"
    if value < 1.0:
        return f"{1e3 * value:.3g} ms"
    return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"


def _spread(values: Sequence[float]) -> str:
    middle = seconds_text(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({seconds_text(min(values))} - {seconds_text(max(values))})"


def median_of(runs: Sequence[dict[str, Any]], key: str) -> float | None:
    """Median over the runs that have a value; None when none has."""
    values = [run[key] for run in runs if run.get(key) is not None]
    return statistics.median(values) if values else None


def align(rows: Sequence[Sequence[str]], labels: int = 2) -> list[str]:
    """Columns of equal width: the first `labels` and the last left, others right."""
    widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))]
    left = {*range(labels), len(widths) - 1}
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if j in left else cell.rjust(width)
            for j, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def cost_titles(unit: str = "wall") -> list[str]:
    """Titles of :func:`cost_cells`."""
    return [unit, "cpu", "x mixedar", "peak MB", "x design"]


def cost_cells(entry: PeerRuns, facts: Facts, reference: float | None) -> list[str]:
    """Wall and processor time, ratio to mixedar, memory.

    Parameters
    ----------
    entry : PeerRuns
        With one run or more.
    facts : Facts
        The workload.
    reference : float or None
        Median wall seconds of mixedar.

    Returns
    -------
    list of str
    """
    wall = statistics.median(run["wall"] for run in entry.runs)
    cpu = median_of(entry.runs, "cpu")
    peak = median_of(entry.runs, "peak_bytes")
    # Small designs vanish in the allocator's rounding.
    small = facts.design_bytes < 2**20
    return [
        _spread([run["wall"] for run in entry.runs]),
        "-" if cpu is None else seconds_text(cpu),
        "-" if reference is None else f"{wall / reference:,.2f}",
        "-" if peak is None else f"{peak / 1e6:,.1f}",
        "-" if peak is None or small else f"{peak / facts.design_bytes:,.1f}",
    ]


def run_count(runs: Sequence[dict[str, Any]], notes: Sequence[str] = ()) -> str:
    """The last cell of a row: how many processes, and what to know of them."""
    return f"{len(runs)} run{'s' * (len(runs) > 1)}" + "".join(f"; {n}" for n in notes)


def reference_wall(entries: Sequence[PeerRuns]) -> float | None:
    """Median wall seconds of mixedar; None when it did not run."""
    for entry in entries:
        if entry.peer == REFERENCE:
            return median_of(entry.runs, "wall")
    return None


def _row(entry: PeerRuns, facts: Facts, reference: float | None) -> list[str]:
    runs = entry.runs
    if not runs:
        return [entry.peer, *["-"] * 8, entry.note]
    wall = statistics.median(run["wall"] for run in runs)
    llf = median_of(runs, "llf")
    rho = median_of(runs, "rho")
    notes = sorted({run["note"] for run in runs if "note" in run})
    notes += [entry.note] if entry.note else []
    if facts.responses:
        failed = sum(run["failed"] for run in runs)
        fits = sum(run["fits"] for run in runs)
        notes.insert(0, f"{1 / wall:,.0f} fits/s, {failed} of {fits} not converged")
    elif any(run["converged"] in (False, 0.0) for run in runs):
        notes.insert(0, "not converged")
    return [
        entry.peer,
        entry.fitted,
        *cost_cells(entry, facts, reference),
        "-" if llf is None else f"{llf:.4f}",
        "-" if rho is None else f"{rho:.4f}",
        run_count(runs, notes),
    ]


def workload_table(facts: Facts, entries: Sequence[PeerRuns]) -> str:
    """One table: a row a peer, with ratios to mixedar.

    Parameters
    ----------
    facts : Facts
        The workload.
    entries : sequence of PeerRuns
        In the order of the rows.

    Returns
    -------
    str
    """
    model = facts.model
    head = [
        f"{facts.name}: {facts.title}",
        f"  {facts.rows:,} rows, {facts.clusters:,} clusters of at most "
        f"{facts.largest_cluster:,}; X and Z take {facts.design_bytes / 1e6:,.1f} MB",
        f"  {model.lme4_formula}, residuals {model.residual} over {model.time}, REML",
    ]
    unit = "wall a fit" if facts.responses else "wall"
    rows = [["peer", "fits", *cost_titles(unit), "logLik", "rho", ""]]
    reference = reference_wall(entries)
    rows += [_row(entry, facts, reference) for entry in entries]
    body = [f"  {line}" for line in align(rows)]
    others = [e.peer for e in entries if e.runs and e.fitted == "no AR"]
    if others:
        body.append(
            f"  {', '.join(others)}: a simpler model, without residual correlation"
        )
    return "\n".join(head + body)


def imports_table(seconds: dict[str, list[float] | str]) -> str:
    """Import times with ratios to the first statement."""
    first = next(iter(seconds.values()))
    reference = statistics.median(first) if isinstance(first, list) else None
    rows = [["import", "wall", "ratio"]]
    for label, walls in seconds.items():
        if isinstance(walls, str):
            rows.append([label, walls, "-"])
            continue
        ratio = statistics.median(walls) / reference if reference else None
        rows.append([label, _spread(walls), "-" if ratio is None else f"{ratio:.3f}"])
    body = [f"  {line}" for line in align(rows)]
    return "\n".join(["imports: fresh interpreters, whole process", *body])
