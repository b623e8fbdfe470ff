"""
A report as one HTML file that needs no other.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from mixedar.exceptions import MixedARError
from mixedar.report.blocks import WIDTH, Block, Picture, Section, Words

_DPI = 110
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin-bottom: 0.2rem; }
h2 { font-size: 1.3rem; margin-top: 2.5rem; border-bottom: 1px solid #bbb; }
h3 { font-size: 1.05rem; margin-top: 1.6rem; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0 1.2rem; }
a { color: #0b5394; }
pre { background: #f4f4f4; padding: 0.8rem; overflow-x: auto; }
table { border-collapse: collapse; margin: 0.8rem 0; font-size: 0.92rem;
  font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
caption { text-align: left; font-weight: 600; padding: 0.3rem 0; }
th, td { padding: 0.15rem 0.7rem; border-bottom: 1px solid #e4e4e4; }
th { font-weight: 600; text-align: right; }
th[scope=row] { font-weight: 400; text-align: left; }
thead th:first-child { text-align: left; }
figure { margin: 1.2rem 0; }
img { width: 100%; height: auto; }
figcaption, .note { color: #444; font-size: 0.92rem; }
.warning { border-left: 4px solid #d55e00; padding-left: 0.8rem; }
@media (max-width: 40rem) {
  body { margin: 1rem auto; }
  table, caption, tbody, tr { display: block; }
  thead { display: none; }
  tr { border-bottom: 1px solid #bbb; padding: 0.3rem 0; }
  th, td { display: flex; justify-content: space-between; gap: 1rem; border: 0;
    padding: 0.05rem 0; overflow-wrap: anywhere; text-align: right !important; }
  th[scope=row] { font-weight: 600; }
  td::before { content: attr(data-label); color: #444; text-align: left; }
  td:empty { display: none; }
  tr:has(td[data-label=""]) { display: grid; grid-template-columns: auto auto; }
}
@media print { nav { display: none; } figure, table { break-inside: avoid; } }
"""


class HtmlPage:
    """
    Writes a page with everything in it, pictures too.

    Parameters
    ----------
    title : str
    lead : str
        The line below the title.
    sections : sequence of Section
        All of them, for the list of contents.
    """

    def __init__(self, title: str, lead: str, sections: Sequence[Section]) -> None:
        links = "".join(
            f'<li><a href="#{one.name}">{escape(one.title)}</a></li>'
            for one in sections
        )
        self._figures, self._open = 0, False
        self._parts = [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
            f"<body>\n<h1>{escape(title)}</h1>\n<p>{escape(lead)}</p>\n"
            f'<nav aria-label="Contents"><ul>{links}</ul></nav>'
        ]

    def begin(self, section: Section) -> None:
        """The heading of a section."""
        self._end()
        title = escape(section.title)
        self._parts.append(f'<section id="{section.name}">\n<h2>{title}</h2>')
        self._open = True

    def _end(self) -> None:
        self._parts += ["</section>"] * self._open

    def add(self, block: Block) -> None:
        """A block; a picture that cannot be drawn says why."""
        if isinstance(block, Picture):
            self._parts.append(self._picture(block))
        elif isinstance(block, Words):
            self._parts.append(_paragraph(block))
        else:
            self._parts.append(block.summary.as_html())

    def _picture(self, block: Picture) -> str:
        """A figure as an image inside the page, numbered; without pyplot."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        size = (WIDTH, block.height)
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        try:
            block.draw(figure)
        except MixedARError as error:
            return _paragraph(block.not_drawn(error))
        held = io.BytesIO()
        canvas.print_png(held)  # savefig would draw twice
        data = base64.b64encode(held.getvalue()).decode("ascii")
        self._figures += 1
        words = escape(block.caption(self._figures))
        return (
            f'<figure><img alt="{words}" src="data:image/png;base64,{data}">'
            f"<figcaption>{words}</figcaption></figure>"
        )

    def finish(self) -> str:
        """The page."""
        self._end()
        self._open = False
        return "\n".join([*self._parts, "</body>\n</html>\n"])


def _paragraph(block: Words) -> str:
    if block.kind == "code":
        return f"<pre><code>{escape(block.text)}</code></pre>"
    mark = f' class="{block.kind}"' if block.kind else ""
    return f"<p{mark}>{escape(block.text)}</p>"
