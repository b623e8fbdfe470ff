"""The results summary of every model: numeric frames in; text, HTML, LaTeX out."""

from __future__ import annotations

from mixedar.summary.tables import ResultsSummary, SummaryTable
from mixedar.summary.text import Format, format_values

__all__ = ["Format", "ResultsSummary", "SummaryTable", "format_values"]
