"""
The tutorials as notebooks, in ``docs/_build/notebooks``: ``python docs/notebooks.py``.

jupytext turns the pages into notebooks; the outputs that a page shows, which the tests
check, become outputs of the cells, and pictures go into the files.
"""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs import project  # noqa: E402

TUTORIALS = (
    "quickstart.md",
    "growth.md",
    "gallery.md",
    "residual-structures.md",
    "several-levels.md",
    "curves-places-relatives.md",
    "inference.md",
    "prediction.md",
    "by-group.md",
    "diagnostics.md",
    "influence.md",
    "own-structure.md",
    "panel.md",
)
_SHOWN = re.compile(r"\A```text\n(.*?)^```\n*", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!\w+:|#|images/)([\w./-]+)(#[\w-]+)?\)")
_IMAGE = re.compile(r"!\[([^\]]*)\]\(images/([\w.-]+)\)")


def notebook_of(path: Path) -> Any:
    """Return a page as a notebook."""
    import jupytext
    from nbformat import v4

    book = jupytext.reads(path.read_text(encoding="utf-8"), fmt="md")
    cells: list[Any] = []
    for cell in book.cells:
        shown = _SHOWN.match(cell.source) if cell.cell_type == "markdown" else None
        if shown and cells and cells[-1].cell_type == "code":
            cells[-1].outputs = [v4.new_output("stream", name="stdout", text=shown[1])]
            cell.source = cell.source[shown.end() :]
        if cell.cell_type == "markdown":
            cell.source = _LINK.sub(lambda m: _address(path, m), cell.source)
            _attach(cell)
        if cell.source.strip():
            cells.append(cell)
    book.cells = cells
    book.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    return book


def _address(path: Path, match: re.Match[str]) -> str:
    name, anchor = match[1], match[2] or ""
    if name in TUTORIALS:
        return f"]({name.replace('.md', '.ipynb')}{anchor})"
    return f"]({project.address_of((path.parent / name).resolve())}{anchor})"


def _attach(cell: Any) -> None:
    """Put the pictures that a cell shows into it."""
    for _, name in _IMAGE.findall(cell.source):
        content = (ROOT / "docs" / "images" / name).read_bytes()
        encoded = base64.b64encode(content).decode("ascii")
        cell.setdefault("attachments", {})[name] = {"image/png": encoded}
    cell.source = _IMAGE.sub(r"![\1](attachment:\2)", cell.source)


def write(folder: Path) -> list[Path]:
    """Write all notebooks; return where."""
    import nbformat

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in TUTORIALS:
        book = notebook_of(ROOT / "docs" / name)
        nbformat.validate(book)
        written.append(folder / name.replace(".md", ".ipynb"))
        nbformat.write(book, written[-1])
    return written


if __name__ == "__main__":
    for each in write(ROOT / "docs" / "_build" / "notebooks"):
        sys.stdout.write(f"{each.relative_to(ROOT)}\n")
