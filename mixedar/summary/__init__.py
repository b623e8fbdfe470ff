"""The results summary of every model: numeric frames in; text, HTML, LaTeX out."""

from mixedar.summary.results import ResultsSummary, SummaryTable
from mixedar.summary.text import Format, format_values

__all__ = ["Format", "ResultsSummary", "SummaryTable", "format_values"]
