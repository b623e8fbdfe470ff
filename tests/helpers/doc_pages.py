"""
The examples of README.md and docs/*.md: found, run, compared, written anew.

A ``python`` block is run, and the ``text`` block that follows it, if one does, is
what it prints.  In a ``console`` block each ``$ python -m mixedar`` line is run and
the lines below it are its output.  The blocks of a page share one namespace and
one folder, empty at first, and run in their order.  Other blocks are not run.

A page that shows ``images/NAME.png`` has to make ``NAME.png`` in that folder, and
what it makes has to look like the image in ``docs/images``.  Figures are closed
after each block, as notebooks do.

``python tests/helpers/doc_pages.py`` writes the outputs and images of all pages anew,
or of those named on the command line; read the difference before you keep it.
"""

from __future__ import annotations

import io
import math
import os
import re
import runpy
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
IMAGES = ROOT / "docs" / "images"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_COMMAND = "$ python -m mixedar"
_IMAGE = re.compile(r"!\[([^\]]*)\]\((?:docs/)?images/([\w.-]+\.png)\)")
# Images are compared by the mean colours of so many tiles a side: by the matplotlib
# that drew what is shown, and by another one.  Letters of 3.8 (FreeType 2.6, hinted)
# are lower and narrower than of 3.11 (2.14, as they are): the layout then sets axes,
# and each line in them, a few pixels elsewhere.
_TILES = 24
_SAME, _OTHER = 0.01, 0.015
# Pages of draws: a factor of a matrix, whose signs are the processor's choice, makes
# others of them.  Numbers may differ by this part of theirs, or of one.
DRAWN = {"imputation.md": math.inf, "posterior.md": 0.15}


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
        _close_figures()
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
        found = _output_of(shlex.split(command[2:])[3:])
        line = block.line + at + 1
        yield Output(line, offset, offset + len(shown), shown, found)
        offset += len(shown)
        at = stop


def _output_of(arguments: list[str]) -> str:
    """What ``python -m mixedar`` prints, in this process, where it is loaded."""
    printed, before = io.StringIO(), sys.argv
    sys.argv = ["mixedar", *arguments]
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            runpy.run_module("mixedar", run_name="__main__")
    except SystemExit:
        pass
    finally:
        sys.argv = before
    return printed.getvalue()


def _close_figures() -> None:
    """Close what the block drew; matplotlib may never have been imported."""
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def images(path: Path) -> dict[str, str]:
    """Return names and descriptions of the images that a page shows."""
    page = path.read_text(encoding="utf-8")
    return {name: " ".join(text.split()) for text, name in _IMAGE.findall(page)}


def image_difference(shown: Path, found: Path) -> str | None:
    """
    Say how two images differ, or None.

    Fonts and the layout engine move a picture by a few pixels from one version of
    matplotlib to the next; the mean colours of its tiles hardly change, and those of
    one version less.
    """
    if not found.exists():
        return f"the page does not make {found.name}"
    if not shown.exists():
        return f"docs/images/{shown.name} is missing"
    one, other = (_tiles(path) for path in (shown, found))
    if np.abs(np.log(one[1] / other[1])).max() > 0.05:
        return f"{shown.name}: {one[1]} pixels are shown, {other[1]} come out"
    distance = np.abs(one[0] - other[0])
    most = _SAME if _drawn_by(shown) == _drawn_by(found) else _OTHER
    if distance.max() > 0.3 or distance.mean() > most:
        return (
            f"{shown.name}: the pictures differ, by {distance.max():.2f} at most and "
            f"{distance.mean():.3f} on average"
        )
    return None


def _tiles(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean colours of the tiles of an image, and its height and width."""
    from matplotlib.image import imread

    pixels = imread(path)[:, :, :3].astype(float)
    size = np.array(pixels.shape[:2])
    rows, columns = (np.linspace(0, n, _TILES + 1).astype(int)[:-1] for n in size)
    sums = np.add.reduceat(np.add.reduceat(pixels, rows, axis=0), columns, axis=1)
    counts = np.add.reduceat(np.add.reduceat(np.ones(size), rows, 0), columns, 1)
    return sums / counts[:, :, None], size


def _drawn_by(path: Path) -> str:
    """The version of matplotlib, as it signs its images."""
    from PIL import Image

    with Image.open(path) as image:
        return str(image.info.get("Software"))


def difference(shown: str, found: str, spread: float = 0.0) -> str | None:
    """
    Say how outputs differ, or None.

    Widths of columns and the last digit of numbers may differ: they depend on
    the versions of the libraries below.  Numbers that are drawn may differ by `spread`.
    """
    small = r"[<>](?=#)" if spread else r"(?!)"
    skeletons = [
        re.sub(r"([=-])\1+", r"\1", re.sub(small, "", _NUMBER.sub("#", text)))
        for text in (shown, found)
    ]
    if skeletons[0].split() != skeletons[1].split():
        return "the texts differ"
    for one, other in zip(_NUMBER.findall(shown), _NUMBER.findall(found), strict=True):
        most = max(1.01 * _last_place(one), spread * max(abs(float(one)), 1.0))
        if one != other and abs(float(one) - float(other)) > most:
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
    spread = DRAWN.get(path.name, 0.0)
    changed: list[Any] = [
        o for o in outputs if difference(o.shown, o.found, spread) is not None
    ]
    for output in reversed(changed):
        opening = "```\n\n```text\n" if output.unfenced else ""
        new = opening + output.found
        page = page[: output.start] + new + page[output.end :]
    path.write_text(page, encoding="utf-8")
    for name in images(path):
        if image_difference(IMAGES / name, Path(name)) is not None:
            IMAGES.mkdir(exist_ok=True)
            shutil.copyfile(name, IMAGES / name)
            changed.append(name)
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
    os.environ["MPLBACKEND"] = "Agg"
    named = [ROOT / name for name in sys.argv[1:]]
    for each in named or PAGES:
        with _empty_folder():
            count = update(each)
        sys.stdout.write(f"{each.relative_to(ROOT)}: {count} outputs written\n")
