"""
How the levels of further random-effects terms are related, at the estimates of a fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mixedar._types import FloatArray, IntArray
from mixedar.engine.covariance import TermLayout
from mixedar.relations.base import LevelCovariance, with_parameters


@dataclass(frozen=True, eq=False)
class Related:
    """
    Covariances between the levels of each further term, or between its copies.

    Attributes
    ----------
    between : tuple of LevelCovariance or None
    terms : tuple of TermLayout
    u : ndarray
        Unconstrained parameters of all of them.
    """

    between: tuple[LevelCovariance | None, ...]
    terms: tuple[TermLayout, ...]
    u: FloatArray

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("between", "terms", "u")}

    @property
    def of_levels(self) -> tuple[LevelCovariance | None, ...]:
        """How the levels of each term are related; None if they are not."""
        return tuple(
            None if between is None or layout.copies > 1 else between
            for between, layout in zip(self.between, self.terms, strict=True)
        )

    @cached_property
    def levels(self) -> tuple[FloatArray | None, ...]:
        """Covariance between the levels of each term; None for identities."""
        return tuple(self._matrices(of_copies=False))

    @cached_property
    def copies(self) -> tuple[FloatArray | None, ...]:
        """Covariance between the copies of each term; None for identities."""
        return tuple(self._matrices(of_copies=True))

    @cached_property
    def sets(self) -> tuple[IntArray | None, ...]:
        """Levels of each term that are related, directly or through others."""
        return tuple(
            None if between is None or layout.copies > 1 else between.sets(own)
            for (between, own), layout in self._each()
        )

    def _each(
        self,
    ) -> Iterator[tuple[tuple[LevelCovariance | None, FloatArray], TermLayout]]:
        return zip(with_parameters(self.between, self.u), self.terms, strict=True)

    def _matrices(self, *, of_copies: bool) -> Iterator[FloatArray | None]:
        for (between, own), layout in self._each():
            wanted = between is not None and (layout.copies > 1) == of_copies
            yield between.at(own)[0].value if wanted and between else None
