"""The tables of the panel workloads, as text."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.peers.base import Facts
from benchmarks.report import (
    align,
    cost_cells,
    cost_titles,
    median_of,
    reference_wall,
    run_count,
    seconds_text,
)
from benchmarks.runner import PeerRuns

__all__ = ["panel_table"]


def _row(entry: PeerRuns, facts: Facts, reference: float | None) -> list[str]:
    runs = entry.runs
    if not runs:
        return [entry.peer, *["-"] * 10, entry.note]
    # Every run computes the same; the first regressor stands for all.
    firsts = [
        f"{runs[0][key][0]:.6f}" if runs[0][key] else "-" for key in ("params", "bse")
    ]
    statistic = median_of(runs, "statistic")
    df = median_of(runs, "df")
    alone = median_of(runs, "test_s")
    notes = [entry.note] if entry.note else []
    share = runs[0]["share"]
    if share < 1.0:
        notes.insert(0, f"scaled up from {100 * share:.1g} % of the work")
    return [
        entry.peer,
        *cost_cells(entry, facts, reference),
        "-" if alone is None else seconds_text(alone),
        *firsts,
        "-" if statistic is None else f"{statistic:.4f}",
        "-" if df is None else f"{df:.0f}",
        run_count(runs, notes),
    ]


def panel_table(facts: Facts, entries: Sequence[PeerRuns]) -> str:
    """One table: a row a peer, and what each of them computed.

    Parameters
    ----------
    facts : Facts
        The workload; its model is a ``PanelSpec``.
    entries : sequence of PeerRuns
        In the order of the rows.

    Returns
    -------
    str
    """
    model = facts.model
    head = [
        f"{facts.name}: {facts.title}",
        f"  {facts.rows:,} rows, {facts.clusters:,} entities of at most "
        f"{facts.largest_cluster:,}; X takes {facts.design_bytes / 1e6:,.1f} MB",
        f"  {model.formula}, entities {model.groups}, periods {model.time}",
    ]
    first = model.fixed[0]
    titles = ["peer", *cost_titles(), "test alone", first, f"se({first})"]
    rows = [[*titles, "chi2", "df", ""]]
    reference = reference_wall(entries)
    rows += [_row(entry, facts, reference) for entry in entries]
    body = [f"  {line}" for line in align(rows, labels=1)]
    body += [f"  {entry.peer}: {entry.fitted}" for entry in entries if entry.runs]
    return "\n".join(head + body)
