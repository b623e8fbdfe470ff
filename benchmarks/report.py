"""The tables of a run, as text."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.peers.base import Facts
from benchmarks.runner import PeerRuns

__all__ = ["imports_table", "workload_table"]

REFERENCE = "mixedar"


def _seconds(value: float) -> str:
    """Three significant digits with the unit that suits."""
    if value < 1e-3:
        return f"{1e6 * value:.3g} us"
    if value < 1.0:
        return f"{1e3 * value:.3g} ms"
    return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"


def _spread(values: Sequence[float]) -> str:
    middle = _seconds(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({_seconds(min(values))} - {_seconds(max(values))})"


def _median(runs: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [run[key] for run in runs if run.get(key) is not None]
    return statistics.median(values) if values else None


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width: the first two and the last left, the rest right."""
    widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))]
    left = {0, 1, len(widths) - 1}
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if j in left else cell.rjust(width)
            for j, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _row(entry: PeerRuns, facts: Facts, reference: float | None) -> list[str]:
    runs = entry.runs
    if not runs:
        return [entry.peer, *["-"] * 8, entry.note]
    wall = statistics.median(run["wall"] for run in runs)
    cpu = _median(runs, "cpu")
    peak = _median(runs, "peak_bytes")
    # Small designs vanish in the allocator's rounding.
    small = facts.design_bytes < 2**20
    llf = _median(runs, "llf")
    rho = _median(runs, "rho")
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
        _spread([run["wall"] for run in runs]),
        "-" if cpu is None else _seconds(cpu),
        "-" if reference is None else f"{wall / reference:,.2f}",
        "-" if peak is None else f"{peak / 1e6:,.1f}",
        "-" if peak is None or small else f"{peak / facts.design_bytes:,.1f}",
        "-" if llf is None else f"{llf:.4f}",
        "-" if rho is None else f"{rho:.4f}",
        f"{len(runs)} run{'s' * (len(runs) > 1)}" + "".join(f"; {n}" for n in notes),
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
    walls = [
        statistics.median(run["wall"] for run in entry.runs)
        for entry in entries
        if entry.peer == REFERENCE and entry.runs
    ]
    model = facts.model
    head = [
        f"{facts.name}: {facts.title}",
        f"  {facts.rows:,} rows, {facts.clusters:,} clusters of at most "
        f"{facts.largest_cluster:,}; X and Z take {facts.design_bytes / 1e6:,.1f} MB",
        f"  {model.lme4_formula}, residuals {model.residual} over {model.time}, REML",
    ]
    unit = "wall a fit" if facts.responses else "wall"
    titles = ["peer", "fits", unit, "cpu", "x mixedar", "peak MB", "x design"]
    titles += ["logLik", "rho", ""]
    rows = [titles]
    rows += [_row(entry, facts, walls[0] if walls else None) for entry in entries]
    body = [f"  {line}" for line in _align(rows)]
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
    body = [f"  {line}" for line in _align(rows)]
    return "\n".join(["imports: fresh interpreters, whole process", *body])
