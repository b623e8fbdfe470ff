"""
The examples of README.md and docs/*.md: found, run, compared, written anew.

A ``python`` block is run, and the ``text`` block that follows it, if one does, is
what it prints.  In a ``console`` block each ``$ python -m mixedar`` line is run and
the lines below it are its output.  The blocks of a page share one namespace and
one folder, empty at first, and run in their order.  Other blocks are not run.

``python tests/doc_pages.py`` writes the outputs into the pages anew; read the
difference before you keep it.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_COMMAND = "$ python -m mixedar"


@dataclass(frozen=True)
class Block:
    """
    A fenced block.

    Attributes
    ----------
    language : what stands after the opening fence
    text : the lines between the fences
    start, end : where `text` lies in the page
    line : number of its first line
    adjacent : nothing but blank lines between it and the block before
    """

    language: str
    text: str
    start: int
    end: int
    line: int
    adjacent: bool


@dataclass(frozen=True)
class Output:
    """
    What a page shows in ``page[start:end]``, and what really comes out.

    `unfenced` says that the page has no block for it yet.
    """

    line: int
    start: int
    end: int
    shown: str
    found: str
    unfenced: bool = False


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    found: list[Block] = []
    last = 0
    for match in _FENCE.finditer(page):
        start, end = match.span(2)
        line = page.count("\n", 0, start) + 1
        between = page[last : match.start()]
        adjacent = bool(found) and not between.strip()
        found.append(Block(match[1], match[2], start, end, line, adjacent))
        last = match.end()
    return found


def run(path: Path) -> Iterator[Output]:
    """Run a page in the working folder; yield shown and real outputs."""
    page = blocks(path.read_text(encoding="utf-8"))
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block, following in zip_longest(page, page[1:]):
        if block.language == "console":
            yield from _run_console(block)
        if block.language != "python":
            continue
        printed = io.StringIO()
        # blank lines first: tracebacks then name the line of the page
        source = "\n" * (block.line - 1) + block.text
        with redirect_stdout(printed):
            exec(compile(source, str(path), "exec"), namespace)
        found = printed.getvalue()
        if (
            following is not None
            and following.adjacent
            and following.language == "text"
        ):
            yield Output(
                following.line, following.start, following.end, following.text, found
            )
        elif found:
            yield Output(block.line, block.end, block.end, "", found, unfenced=True)


def _run_console(block: Block) -> Iterator[Output]:
    lines = block.text.splitlines(keepends=True)
    offset, at = block.start, 0
    while at < len(lines):
        command = lines[at]
        assert command.startswith(_COMMAND), f"line {block.line + at}: {command!r}"
        first = at
        while lines[at].endswith("\\\n"):
            at += 1
            command = command[:-2] + lines[at]
        offset += sum(map(len, lines[first : at + 1]))
        stop = at + 1
        while stop < len(lines) and not lines[stop].startswith("$ "):
            stop += 1
        shown = "".join(lines[at + 1 : stop])
        done = subprocess.run(
            [sys.executable, *shlex.split(command[2:])[1:]],
            check=False,
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = block.line + at + 1
        yield Output(line, offset, offset + len(shown), shown, done.stdout)
        offset += len(shown)
        at = stop


def difference(shown: str, found: str) -> str | None:
    """
    Say how outputs differ, or None.

    Widths of columns and the last digit of numbers may differ: they depend on
    the versions of the libraries below.
    """
    skeletons = [
        re.sub(r"\s+", " ", re.sub(r"([=-])\1+", r"\1", _NUMBER.sub("#", text))).strip()
        for text in (shown, found)
    ]
    if skeletons[0] != skeletons[1]:
        return "the texts differ"
    for one, other in zip(_NUMBER.findall(shown), _NUMBER.findall(found), strict=True):
        if one != other and abs(float(one) - float(other)) > 1.01 * _last_place(one):
            return f"{one} is shown, {other} comes out"
    return None


def _last_place(number: str) -> float:
    """One unit of the last digit; whole numbers have to agree."""
    mantissa, _, exponent = number.partition("e")
    if "." not in mantissa:
        return 0.0
    return float(10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2])))


def update(path: Path) -> int:
    """Write the real outputs into a page; return how many were changed."""
    page = path.read_text(encoding="utf-8")
    outputs = list(run(path))
    changed = [o for o in outputs if difference(o.shown, o.found) is not None]
    for output in reversed(changed):
        opening = "```\n\n```text\n" if output.unfenced else ""
        new = opening + output.found
        page = page[: output.start] + new + page[output.end :]
    path.write_text(page, encoding="utf-8")
    return len(changed)


@contextmanager
def _empty_folder() -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


if __name__ == "__main__":
    warnings.simplefilter("error")
    for each in PAGES:
        with _empty_folder():
            count = update(each)
        sys.stdout.write(f"{each.relative_to(ROOT)}: {count} outputs written\n")
