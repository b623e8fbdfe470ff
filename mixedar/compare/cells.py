"""
From numbers to the cells of a printed comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mixedar.exceptions import UnknownColumnError, UnsupportedError
from mixedar.summary import Format, SummaryTable, format_values

__all__ = ["FORMATS", "ModelsTable", "legend", "thresholds"]

FORMATS: dict[str, Format] = {
    "Observations": ".0f",
    "Groups": ".0f",
    "rho": ".3f",
    "theta": ".3f",
    "R-squared": ".3f",
    "R-squared within": ".3f",
    "R-squared between": ".3f",
    "R-squared overall": ".3f",
    "Log-likelihood": ".2f",
    "AIC": ".1f",
    "BIC": ".1f",
}
_GENERAL = ("estimate", "std_error", "component")
_STARS = (0.05, 0.01, 0.001)


def thresholds(stars: bool | Sequence[float]) -> tuple[float, ...]:
    """
    Levels below which a p-value gets one, two, ... stars.

    Parameters
    ----------
    stars : bool or sequence of float
        True for 0.05, 0.01 and 0.001.

    Returns
    -------
    tuple of float
        Descending; empty without stars.

    Raises
    ------
    UnsupportedError
        If levels are not between 0 and 1.
    """
    if isinstance(stars, (bool, np.bool_)):
        return _STARS if stars else ()
    levels = tuple(sorted((float(level) for level in stars), reverse=True))
    if not all(0.0 < level < 1.0 for level in levels):
        raise UnsupportedError(
            f"compare: stars={stars!r}: pass True, or levels between 0 and 1 such as "
            "(0.1, 0.05, 0.01)"
        )
    return levels


def legend(levels: Sequence[float]) -> str:
    """What the stars mean."""
    return ", ".join(f"{'*' * k} p < {level:g}" for k, level in enumerate(levels, 1))


class ModelsTable(SummaryTable):
    """
    A table with a column for each model.

    Parameters
    ----------
    frame : DataFrame, shape (rows, models)
        Numbers, rows by ``(part, term, value)``.
    methods : DataFrame of str, shape (m, models)
        The last rows.
    pvalues : DataFrame, shape (terms, models)
    levels : sequence of float
        Of :func:`thresholds`.
    custom : mapping of str to format
        The caller's formats.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        methods: pd.DataFrame,
        pvalues: pd.DataFrame,
        levels: Sequence[float],
        custom: Mapping[str, Format],
    ) -> None:
        super().__init__(frame, name="models")
        known = {*_GENERAL, *FORMATS, *frame.index.get_level_values("term")}
        unknown = [key for key in custom if key not in known]
        if unknown:
            raise UnknownColumnError(
                f"compare: formats for {unknown}, which are no rows of the table; "
                f"give {', '.join(map(repr, _GENERAL))}, or one of "
                f"{', '.join(sorted(known - set(_GENERAL)))}"
            )
        self._methods, self._pvalues = methods, pvalues
        self._levels, self._custom = tuple(levels), dict(custom)

    def formatted(self) -> pd.DataFrame:
        """Return the cells as strings, standard errors below estimates."""
        labels: list[str] = []
        rows: list[list[str]] = []
        last = None
        for k, (part, term, value) in enumerate(self.frame.index):
            if last not in (part, None):
                labels.append("")
                rows.append([""] * self.frame.shape[1])
            last = part
            if value == "estimate":  # the standard errors are in the next row
                rows += self._pair(str(term), self.frame.iloc[k : k + 2])
                labels += [str(term), ""]
            elif value != "std_error":
                rows.append(self._row(part, str(term), self.frame.iloc[k]))
                labels.append(str(term))
        for term, texts in self._methods.iterrows():
            labels.append(str(term))
            rows.append([str(text) for text in texts])
        return pd.DataFrame(
            rows, index=labels, columns=self.frame.columns, dtype=object
        )

    def aligns(self) -> str:
        """Return one letter a printed column: all are centred."""
        return "c" * self.frame.shape[1]

    def _row(self, part: str, term: str, values: pd.Series) -> list[str]:
        default = FORMATS.get(term, _digits(values))
        if term.startswith("Corr("):
            default = ".3f"
        if part == "components":
            default = self._custom.get("component", default)
        return format_values(values, self._custom.get(term, default))

    def _pair(self, term: str, block: pd.DataFrame) -> list[list[str]]:
        estimate, error = block.iloc[0], block.iloc[1]
        common = self._custom.get(term, _decimals(estimate, error))
        first = format_values(estimate, self._custom.get("estimate", common))
        second = format_values(error, self._custom.get("std_error", common))
        pvalues = self._pvalues.loc[term].to_numpy(dtype=float)
        marks = ["*" * sum(p < level for level in self._levels) for p in pvalues]
        return [
            [text + mark for text, mark in zip(first, marks, strict=True)],
            [f"({text})" if text else "" for text in second],
        ]


def _decimals(estimate: pd.Series, error: pd.Series) -> Format:
    """Two digits of the smallest standard error, for the whole row."""
    errors = [float(v) for v in error.dropna() if v > 0.0]
    widest = max((abs(float(v)) for v in estimate.dropna()), default=0.0)
    if not errors:
        return "number"
    places = 1 - math.floor(math.log10(min(errors)))
    if places > 6 or widest >= 1e9:
        return "number"
    return f".{max(places, 2 if widest < 1000.0 else 0)}f"


def _digits(values: pd.Series) -> Format:
    """Three decimals, or more where the smallest value needs them."""
    sizes = [abs(float(v)) for v in values.dropna() if v != 0.0]
    if not sizes:
        return ".3f"
    places = 2 - math.floor(math.log10(min(sizes)))
    return (
        "number" if places > 6 or max(sizes) >= 1e9 else f".{min(max(places, 2), 4)}f"
    )
