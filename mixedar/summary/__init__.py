"""The results summary of every model: numeric frames in; text, HTML, LaTeX out."""

from __future__ import annotations

from mixedar.summary.frames import ResultFrame
from mixedar.summary.tables import (
    NamedInALine,
    Printed,
    ResultsSummary,
    Summarised,
    SummaryTable,
    in_a_line,
    views_of,
)
from mixedar.summary.text import Format, equation, format_values, in_words, kind_of

__all__ = [
    "Format",
    "NamedInALine",
    "Printed",
    "ResultFrame",
    "ResultsSummary",
    "Summarised",
    "SummaryTable",
    "equation",
    "format_values",
    "in_a_line",
    "in_words",
    "kind_of",
    "views_of",
]
