"""
The HTML of a report: nothing in it refers to another file.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from mixedar.summary import Format, ResultsSummary, SummaryTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 110

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
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
img { max-width: 100%; height: auto; }
figcaption, .note { color: #444; font-size: 0.92rem; }
.warning { border-left: 4px solid #d55e00; padding-left: 0.8rem; }
@media print { nav { display: none; } figure, table { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """
    A part of the report.

    Attributes
    ----------
    name : str
        Its anchor.
    title : str
    parts : sequence of str
        HTML.
    """

    name: str
    title: str
    parts: Sequence[str]


def paragraph(text: str, kind: str = "") -> str:
    """
    A paragraph; `kind` is ``"note"``, ``"warning"`` or nothing.
    """
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{escape(text)}</p>"


def code(text: str) -> str:
    """A block of code."""
    return f"<pre><code>{escape(text)}</code></pre>"


def table(
    frame: pd.DataFrame,
    title: str | None = None,
    formats: Mapping[str, Format] | None = None,
    corner: str = "",
    heads: bool = True,
) -> str:
    """
    A table, its cells formatted like those of a summary.

    Parameters
    ----------
    frame : DataFrame
    title : str, optional
    formats : mapping of str to format, optional
        As :class:`mixedar.summary.SummaryTable` takes them.
    corner : str
        Heading of the row names.
    heads : bool
        Whether columns have headings.

    Returns
    -------
    str
    """
    part = SummaryTable(frame, title, formats or {}, index_header=corner)
    shown = ResultsSummary(tables=[part])
    shown.settings[0]["header"] = heads
    return shown.as_html()


def picture(figure: Figure, text: str) -> str:
    """
    A figure as an image inside the page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    text : str
        What it shows: printed below it, and read to those who do not see it.

    Returns
    -------
    str
    """
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=_DPI)
    data = base64.b64encode(held.getvalue()).decode("ascii")
    words = escape(text)
    return (
        f'<figure><img alt="{words}" src="data:image/png;base64,{data}">'
        f"<figcaption>{words}</figcaption></figure>"
    )


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """
    The whole page.

    Parameters
    ----------
    title : str
    lead : str
        The line below the title.
    sections : sequence of Section

    Returns
    -------
    str
    """
    links = "".join(
        f'<li><a href="#{one.name}">{escape(one.title)}</a></li>' for one in sections
    )
    bodies = "\n".join(
        f'<section id="{one.name}">\n<h2>{escape(one.title)}</h2>\n'
        + "\n".join(one.parts)
        + "\n</section>"
        for one in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<p>{escape(lead)}</p>\n"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n{bodies}\n'
        "</body>\n</html>\n"
    )
