"""
The result of a diagnostic test: numbers, and what they say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from mixedar.summary import ResultsSummary, SummaryTable

__all__ = ["DiagnosticTest"]


@dataclass(frozen=True)
class DiagnosticTest:
    """
    Result of a diagnostic test.

    Attributes
    ----------
    name : str
    statistic : float
    df : float
        Degrees of freedom of the chi-squared distribution; NaN if the null
        distribution was simulated.
    pvalue : float
    null, alternative : str
        The hypotheses in words.
    table : DataFrame
        The parts of the test, such as one row a lag.
    reference : str
        Where the test comes from.
    note : str
        What one should know about the numbers; may be empty.
    """

    __test__: ClassVar[bool] = False  # not a class of tests for pytest

    name: str
    statistic: float
    df: float
    pvalue: float
    null: str
    alternative: str
    table: pd.DataFrame
    reference: str
    note: str = ""

    def rejects(self, alpha: float = 0.05) -> bool:
        """
        Whether the null is rejected.

        Parameters
        ----------
        alpha : float
            Level of the test.

        Returns
        -------
        bool
        """
        return bool(self.pvalue < alpha)

    def summary(self) -> ResultsSummary:
        """
        The printed form.

        Returns
        -------
        ResultsSummary
        """
        row = {"statistic": [self.statistic], "df": [self.df], "p-value": [self.pvalue]}
        if np.isnan(self.df):
            del row["df"]
        formats = {"statistic": "statistic", "df": "g", "p-value": ".4g"}
        tables = [
            SummaryTable(
                pd.DataFrame(row, index=[""]),
                formats={key: formats[key] for key in row},
                name="test",
            ),
            SummaryTable(self._shown(), name="parts", missing=""),
        ]
        notes = [f"Null: {self.null}.", f"Alternative: {self.alternative}."]
        notes += [self.note] if self.note else []
        notes.append(f"Reference: {self.reference}.")
        return ResultsSummary(title=self.name, tables=tables, notes=notes)

    def _shown(self) -> pd.DataFrame:
        """The table with row names that are short."""
        table = self.table.copy()
        if pd.api.types.is_float_dtype(table.index.dtype):
            table.index = pd.Index([f"{value:.4g}" for value in table.index])
        return table

    def __str__(self) -> str:
        return self.summary().as_text()

    def __repr__(self) -> str:
        return str(self)
