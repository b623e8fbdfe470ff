"""
What a report is made of, and what writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from mixedar.fit import Fit
from mixedar.summary import Format, ResultsSummary, SummaryTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

#: Width of all pictures, in inches.
WIDTH = 7.2


@dataclass(frozen=True)
class Words:
    """
    A paragraph.

    Attributes
    ----------
    text : str
    kind : str
        ``"note"``, ``"warning"``, ``"code"`` or nothing.
    """

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Tables:
    """Tables, their cells formatted as those of a summary."""

    summary: ResultsSummary


@dataclass(frozen=True)
class Picture:
    """
    A picture that is still to be drawn.

    Attributes
    ----------
    title : str
    words : str
        What it shows.
    height : float
        In inches; all are as wide as one another.
    draw : callable
        Draws on a figure of that size.
    """

    title: str
    words: str
    height: float
    draw: Callable[[Figure | SubFigure], Any]

    def caption(self, number: int) -> str:
        """What stands below it."""
        return f"Figure {number}. {self.title}. {self.words}"

    def not_drawn(self, error: Exception) -> Words:
        """Why the picture is not there."""
        return Words(f"{self.title}: not drawn, since {error}", "note")


Block = Words | Tables | Picture


@dataclass(frozen=True)
class Section:
    """
    A part of the report.

    Attributes
    ----------
    name : str
        Its anchor.
    title : str
    makers : sequence of callable
        Each makes some blocks.
    """

    name: str
    title: str
    makers: tuple[Callable[[], Iterable[Block]], ...]


class WrittenModel(Protocol):
    """A model that knows what its caller wrote."""

    given: Mapping[str, Any]
    recipe: Any


class MixedResults(Protocol):
    """What a report asks of the results of a mixed model."""

    fit: Fit
    model: WrittenModel
    modes: pd.DataFrame

    def summary(self, *, title: str | None, alpha: float) -> ResultsSummary:
        """Tables of the fit."""


class Writer(Protocol):
    """Puts blocks on pages, in order."""

    def begin(self, section: Section) -> None:
        """The heading of a section."""

    def add(self, block: Block) -> None:
        """A block of it; a picture that cannot be drawn says why."""

    def finish(self) -> str | bytes:
        """The content of the file."""


def table(
    frame: pd.DataFrame,
    title: str | None = None,
    formats: Mapping[str, Format] | None = None,
    corner: str = "",
    heads: bool = True,
) -> Tables:
    """
    A table from a frame.

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
    Tables
    """
    part = SummaryTable(frame, title, formats or {}, index_header=corner)
    shown = ResultsSummary(tables=[part])
    shown.settings[0]["header"] = heads
    return Tables(shown)
