"""
A report as a PDF file, set by matplotlib on A4 pages.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from mixedar.exceptions import MixedARError
from mixedar.report.blocks import WIDTH, Block, Picture, Section, Words
from mixedar.summary import ResultsSummary, views_of
from mixedar.summary.text import column_blocks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A4 and its margins, in points.
_PAGE = (595.0, 842.0)
_LEFT, _TOP, _BOTTOM = 0.5 * (595.0 - 72.0 * WIDTH), 790.0, 60.0
_COLUMN = 72.0 * WIDTH
_LEADING = 1.4
_BODY, _SMALL, _TABLE = 9.5, 8.5, 8.0
_SANS, _CODE = "DejaVu Sans", "DejaVu Sans Mono"
_GREY, _RED, _LINE = "#444444", "#d55e00", "#bbbbbb"
# Between columns of a table.
_GAP = 9.0
# The narrowest that a column of text becomes before the table is split.
_NARROW = 90.0


class PdfPages:
    """
    Writes pages of text, tables and pictures.

    Parameters
    ----------
    title : str
    lead : str
        The line below the title.
    """

    def __init__(self, title: str, lead: str) -> None:
        from matplotlib.backends.backend_pdf import PdfPages as Pages

        self._held = io.BytesIO()
        information = {"Title": title, "Creator": "mixedar"}
        self._pdf = Pages(self._held, metadata=information)
        self._page: Figure | None = None
        self._y, self._number, self._figures, self._heading = 0.0, 0, 0, ""
        self._lines(title, size=16.0, weight="bold")
        self._lines(lead, size=_SMALL, color=_GREY)

    def begin(self, section: Section) -> None:
        """The heading of a section, which waits for its first block."""
        self._heading = section.title

    def _begin(self, below: float) -> None:
        """Write the heading, if one waits, where there is room below it."""
        heading, self._heading = self._heading, ""
        if heading:
            self._need(32.0 + below)
            self._y -= 14.0
            self._lines(heading, size=12.5, weight="bold")
            self._y -= 5.0
            self._rule(self._y)
            self._y -= 3.0

    def add(self, block: Block) -> None:
        """A block; a picture that cannot be drawn says why."""
        self._begin(72.0 * block.height if isinstance(block, Picture) else 90.0)
        if isinstance(block, Picture):
            self._picture(block)
        elif not isinstance(block, Words):
            self._summary(block.summary)
        elif block.kind == "code":
            for line in block.text.splitlines():
                self._lines(line, size=_TABLE, family=_CODE)
        else:
            colour = {"warning": _RED, "note": _GREY}.get(block.kind, "black")
            size = _SMALL if block.kind == "note" else _BODY
            self._lines(block.text, size=size, color=colour)
        self._y -= 5.0

    def finish(self) -> bytes:
        """The file."""
        self._close()
        self._pdf.close()
        return self._held.getvalue()

    def _close(self) -> None:
        """Put the page into the file, numbered."""
        if self._page is not None:
            from matplotlib.backends.backend_pdf import FigureCanvasPdf

            self._write(0.5 * _PAGE[0], 30.0, str(self._number), ha="center")
            canvas = FigureCanvasPdf(self._page)
            canvas.print_pdf(self._pdf)  # savefig would draw twice
        self._page = None

    def _need(self, height: float) -> Figure:
        """The page, a new one if there is less room than this."""
        if self._page is None or self._y - height < _BOTTOM:
            from matplotlib.figure import Figure

            self._close()
            size = (_PAGE[0] / 72.0, _PAGE[1] / 72.0)
            self._page = Figure(figsize=size, layout="constrained")
            self._y, self._number = _TOP, self._number + 1
        return self._page

    def _write(self, x: float, y: float, text: str, **options: Any) -> None:
        """Text at a place in points from the lower left; dollars are dollars."""
        assert self._page is not None
        place = (x / _PAGE[0], y / _PAGE[1])
        for name, usual in (("size", _SMALL), ("family", _SANS), ("va", "baseline")):
            options.setdefault(name, usual)
        written = self._page.text(*place, text, parse_math=False, **options)
        written.set_in_layout(False)

    def _rule(self, y: float, width: float = _COLUMN) -> None:
        from matplotlib.lines import Line2D

        assert self._page is not None
        ends = [_LEFT / _PAGE[0], (_LEFT + width) / _PAGE[0]]
        line = Line2D(ends, [y / _PAGE[1]] * 2, color=_LINE, linewidth=0.6)
        line.set_in_layout(False)
        self._page.add_artist(line)

    def _lines(
        self, text: str, size: float = _BODY, family: str = _SANS, **options: Any
    ) -> None:
        """A paragraph, broken into lines."""
        weight = str(options.get("weight", "normal"))
        keep = family == _CODE
        for line in _broken(text, _COLUMN, size, family, weight, keep=keep):
            self._need(_LEADING * size)
            self._y -= _LEADING * size
            self._write(_LEFT, self._y, line, size=size, family=family, **options)

    def _summary(self, summary: ResultsSummary) -> None:
        """All tables of a summary, and the notes below them."""
        for view in views_of(summary):
            if view.title:
                self._need(5.0 * _LEADING * _TABLE)
                self._lines(view.title, size=_SMALL, weight="bold")
            heads, rows = view.printed()
            aligns = ["l"] * view.index + view.aligns
            self._table(rows, aligns, heads if view.header else None)
            if view.note:
                self._lines(view.note, size=_SMALL, color=_GREY)
            self._y -= 6.0
        for note in summary.extra_txt:
            self._lines(str(note), size=_SMALL, color=_GREY)

    def _table(
        self,
        rows: Sequence[Sequence[str]],
        aligns: Sequence[str],
        head: Sequence[str] | None,
    ) -> None:
        """A table, in blocks of columns if it is too wide."""
        widths = [
            max([0.0, *(_wide(row[j], _TABLE) for row in rows)])
            for j in range(len(aligns))
        ]
        if head:
            bold = [_wide(name, _TABLE, _SANS, "bold") for name in head]
            widths = list(map(max, widths, bold))
        spare = _COLUMN - sum(widths) - _GAP * (len(widths) - 1)
        texts = [j for j, how in enumerate(aligns) if how == "l"]
        for j in sorted(texts, key=lambda j: -widths[j]):
            if spare < 0.0:  # text is broken before tables are
                new = max(widths[j] + spare, min(widths[j], _NARROW))
                spare += widths[j] - new
                widths[j] = new
        # row names stand before each block
        stub = [0] if aligns[0] == "l" and len(widths) > 1 else []
        steps = [width + _GAP for width in widths]
        room = _COLUMN + _GAP - sum(steps[j] for j in stub)
        for run in column_blocks(steps[len(stub) :], room):
            block = [*stub, *(len(stub) + j for j in run)]
            if head:
                self._row(
                    [head[j] for j in block], block, aligns, widths, weight="bold"
                )
                total = sum(widths[j] + _GAP for j in block) - _GAP
                self._rule(self._y - 3.0, total)
                self._y -= 2.0
            for row in rows:
                self._row([row[j] for j in block], block, aligns, widths)
            self._y -= 4.0

    def _row(
        self,
        cells: Sequence[str],
        block: Sequence[int],
        aligns: Sequence[str],
        widths: Sequence[float],
        weight: str = "normal",
    ) -> None:
        """A row, as high as its longest text."""
        broken = [
            list(_broken(cell, widths[j] + 0.1, _TABLE, _SANS, weight)) or [""]
            for cell, j in zip(cells, block, strict=True)
        ]
        high = max(map(len, broken))
        self._need(_LEADING * _TABLE * high)
        x = _LEFT
        for lines, j in zip(broken, block, strict=True):
            at = x if aligns[j] == "l" else x + widths[j]
            side = "left" if aligns[j] == "l" else "right"
            for k, line in enumerate(lines):
                y = self._y - _LEADING * _TABLE * (k + 1)
                self._write(at, y, line, size=_TABLE, ha=side, weight=weight)
            x += widths[j] + _GAP
        self._y -= _LEADING * _TABLE * high

    def _picture(self, block: Picture) -> None:
        """A figure with its number, on one page with its words."""
        words = block.caption(self._figures + 1)
        caption = list(_broken(words, _COLUMN, _SMALL, _SANS, "normal"))
        below = _LEADING * _SMALL * len(caption) + 10.0
        high = min(72.0 * block.height, _TOP - _BOTTOM - below)
        page = self._need(high + below)
        grid = page.add_gridspec(
            3,
            3,
            width_ratios=(_LEFT, _COLUMN, _PAGE[0] - _LEFT - _COLUMN),
            height_ratios=(_PAGE[1] - self._y, high, self._y - high),
        )
        place = page.add_subfigure(grid[1, 1])
        try:
            block.draw(place)
        except MixedARError as error:
            place.clear()
            page.subfigs.remove(place)
            self.add(block.not_drawn(error))
            return
        self._figures += 1
        self._y -= high + 4.0
        for line in caption:
            self._y -= _LEADING * _SMALL
            self._write(_LEFT, self._y, line, size=_SMALL, color=_GREY)
        self._y -= 6.0


@cache
def _wide(text: str, size: float, family: str = _SANS, weight: str = "normal") -> float:
    """Width of a text in points."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(family=family, weight=weight)))
    font.set_size(size, 72.0)
    font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64.0


def _broken(
    text: str,
    width: float,
    size: float,
    family: str,
    weight: str,
    *,
    keep: bool = False,
) -> Iterable[str]:
    """Lines of a text that fit into a width, broken at blanks where there are any."""
    line = ""
    words = [text] if keep else text.split()
    for word in words:
        longer = f"{line} {word}" if line else word
        if _wide(longer, size, family, weight) <= width:
            line = longer
            continue
        if line:
            yield line
        while _wide(word, size, family, weight) > width and len(word) > 1:
            cut = len(word) - 1
            while cut > 1 and _wide(word[:cut], size, family, weight) > width:
                cut -= 1
            yield word[:cut]
            word = word[cut:]
        line = word
    if line:
        yield line
