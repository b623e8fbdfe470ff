"""
Build the data of one workload once, for all peers of a run.

Started by ``run.py`` as ``python -m benchmarks.prepare NAME SCALE FOLDER CSV``
in a process of its own: the runner stays small (a child's recorded peak memory
starts at the size of its parent on Linux), and all peers read the same files.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Facts
from benchmarks.problems import Problem, build, tiny
from benchmarks.specs import (
    LevelsSpec,
    MarginalSpec,
    ModelSpec,
    PanelSpec,
    RelatedSpec,
    SmoothSpec,
)

__all__ = ["facts_of", "main", "read_facts", "write"]


def facts_of(problem: Problem) -> Facts:
    """Sizes and model of a problem."""
    return Facts(
        name=problem.name,
        title=problem.title,
        model=problem.model,
        rows=len(problem.data),
        clusters=problem.n_clusters,
        largest_cluster=problem.largest_cluster,
        responses=len(problem.responses),
        design_bytes=problem.design_bytes,
    )


def write(problem: Problem, small: Problem, folder: Path, csv: bool) -> None:
    """Write a problem, its tiny version and its facts into `folder`.

    Parameters
    ----------
    problem, small : Problem
        What is measured, and what a peer warms up on.
    folder : Path
        An existing directory.
    csv : bool
        Whether to write text and binary files for R as well.
    """
    for stem, one in (("problem", problem), ("tiny", small)):
        (folder / f"{stem}.pkl").write_bytes(pickle.dumps(one, protocol=5))
    facts = json.dumps(dataclasses.asdict(facts_of(problem)))
    (folder / "facts.json").write_text(facts)
    if csv:
        problem.data.to_csv(folder / "data.csv", index=False)
        small.data.to_csv(folder / "tiny.csv", index=False)
        problem.responses.tofile(folder / "responses.bin")


def read_facts(folder: Path) -> Facts:
    """The facts that :func:`write` left."""
    raw = json.loads((folder / "facts.json").read_text())
    model: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in raw.pop("model").items()
    }
    spec = ModelSpec
    if "task" in model:
        spec = PanelSpec
    elif "marginal" in model:
        spec = MarginalSpec
    elif "others" in model:
        spec = LevelsSpec
    elif "smooth" in model:
        spec = SmoothSpec
    elif "related" in model:
        spec = RelatedSpec
    return Facts(model=spec(**model), **raw)


def main(argv: list[str]) -> None:
    """Entry point of the process."""
    name, scale, folder, csv = argv
    write(build(name, float(scale)), tiny(name), Path(folder), csv == "1")


if __name__ == "__main__":
    main(sys.argv[1:])
