"""Print the oldest versions that pyproject.toml allows, as pip takes them."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
# Not in pyproject.toml: matplotlib 3.8 calls what a later one warns of.
BELOW = ["pyparsing<3.1"]


def floors(table: str) -> list[str]:
    """Return the floors of a list of requirements, pinned."""
    found = re.search(rf"^{table} = \[(.*?)\]$", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, table
    pairs = re.findall(r'"([\w-]+)>=([\w.]+)', found[1])
    return [f"{name}=={version}" for name, version in pairs]


print(*floors("dependencies"), *floors("parquet"), *floors("plots"), *BELOW, sep="\n")
