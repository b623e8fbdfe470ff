"""
The result of a diagnostic test: numbers, and what they say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from scipy import stats

from mixedar.summary import ResultsSummary, SummaryTable


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


Distribution = Literal["chi2", "F", "norm", "norm, upper tail", "chibar2", "none"]
Degrees = float | tuple[float, float] | None

_SYMBOLS: dict[str, str] = {
    "chi2": "chi2",
    "chibar2": "chibar2",
    "F": "F",
    "norm": "z",
    "norm, upper tail": "z",
    "none": "statistic",
}


@dataclass(frozen=True)
class TestResult:
    """
    Result of a specification test.

    Attributes
    ----------
    name : str
        Name of the test.
    statistic : float
        With its sign; NaN if it was not computed.
    distribution : str
        Under the null: ``"chi2"``, ``"F"``, ``"norm"`` (both tails), ``"norm,
        upper tail"``, ``"chibar2"`` (mixture of chi-squared distributions) or
        ``"none"`` (no p-value exists).
    df : float, tuple of two floats, or None
        Degrees of freedom; numerator and denominator of an F statistic.
    pvalue : float
        NaN if there is none; `reason` says why.
    null, alternative : str
        The hypotheses in words.
    reference : str
        Where the test comes from.
    reason : str or None
        Why statistic or p-value are missing; None if nothing is.
    note : str or None
        What one should know about the number.
    details : tuple of (str, float)
        Further numbers by name, such as the p-value by another distribution.
    """

    __test__: ClassVar[bool] = False  # not a class of tests for pytest

    name: str
    statistic: float
    distribution: Distribution
    df: Degrees
    pvalue: float
    null: str
    alternative: str
    reference: str
    reason: str | None = None
    note: str | None = None
    details: tuple[tuple[str, float], ...] = ()

    @property
    def symbol(self) -> str:
        """Short name of the statistic: ``"chi2"``, ``"F"``, ``"z"``."""
        return _SYMBOLS[self.distribution]

    @property
    def computed(self) -> bool:
        """Whether there is a statistic with a p-value."""
        return bool(np.isfinite(self.statistic) and np.isfinite(self.pvalue))

    @property
    def df_text(self) -> str:
        """Degrees of freedom as text, such as ``"2, 188"``."""
        if self.df is None:
            return ""
        parts = self.df if isinstance(self.df, tuple) else (self.df,)
        return ", ".join(f"{part:.6g}" for part in parts)

    def rejects(self, alpha: float = 0.05) -> bool | None:
        """
        Whether the null is rejected.

        Parameters
        ----------
        alpha : float
            Level of the test.

        Returns
        -------
        bool or None
            None if there is no p-value.
        """
        return bool(self.pvalue < alpha) if np.isfinite(self.pvalue) else None

    def to_frame(self) -> pd.DataFrame:
        """
        Return the result as one row.

        Returns
        -------
        DataFrame, shape (1, 9)
            Columns ``statistic, distribution, df, df_denom, pvalue, null,
            alternative, reference, reason``; the index is the name.
        """
        return results_frame([self])

    def summary(self) -> ResultsSummary:
        """
        Return the printed form.

        Returns
        -------
        ResultsSummary
        """
        row: dict[str, Any] = {self.symbol: [self.statistic], "df": [self.df_text]}
        row["p-value"] = [self.pvalue]
        formats: dict[str, str] = {self.symbol: "statistic", "p-value": ".4g"}
        for key, value in self.details:
            row[key] = [value]
            formats[key] = ".4g"
        table = SummaryTable(
            pd.DataFrame(row, index=[""]), formats=formats, name="test", missing="-"
        )
        notes = [f"Null: {self.null}.", f"Alternative: {self.alternative}."]
        if self.reason:
            notes.append(f"Not computed: {self.reason}.")
        if self.note:
            notes.append(self.note)
        notes.append(f"Reference: {self.reference}.")
        return ResultsSummary(title=self.name, tables=[table], notes=notes)

    def __str__(self) -> str:
        return self.summary().as_text()

    def __repr__(self) -> str:
        return self.summary().as_text()

    def _repr_html_(self) -> str:
        return self.summary().as_html()


@dataclass(frozen=True)
class TestText:
    """
    What a test is called and what it tests, without numbers.

    Attributes
    ----------
    name, null, alternative, reference : str
        As in :class:`TestResult`.
    """

    __test__: ClassVar[bool] = False

    name: str
    null: str
    alternative: str
    reference: str

    def result(
        self,
        statistic: float,
        distribution: Distribution,
        df: Degrees = None,
        *,
        pvalue: float | None = None,
        reason: str | None = None,
        note: str | None = None,
        details: tuple[tuple[str, float], ...] = (),
    ) -> TestResult:
        """
        Attach a statistic and its p-value.

        Parameters
        ----------
        statistic : float
        distribution : str
            As in :class:`TestResult`.
        df : float, tuple or None
        pvalue : float, optional
            By default from `distribution` and `df`.
        reason, note, details
            As in :class:`TestResult`.

        Returns
        -------
        TestResult
        """
        value = float(statistic)
        if pvalue is None:
            pvalue = _tail(value, distribution, df)
        return TestResult(
            name=self.name,
            statistic=value,
            distribution=distribution,
            df=df,
            pvalue=float(pvalue),
            null=self.null,
            alternative=self.alternative,
            reference=self.reference,
            reason=reason,
            note=note,
            details=details,
        )

    def missing(
        self,
        reason: str,
        distribution: Distribution = "none",
        df: Degrees = None,
        note: str | None = None,
    ) -> TestResult:
        """
        Result without a number.

        Parameters
        ----------
        reason : str
            Why, without a full stop.
        distribution, df, note
            As in :class:`TestResult`.

        Returns
        -------
        TestResult
        """
        return self.result(
            np.nan, distribution, df, pvalue=np.nan, reason=reason, note=note
        )


def results_frame(results: list[TestResult]) -> pd.DataFrame:
    """
    Put results below one another.

    Parameters
    ----------
    results : list of TestResult

    Returns
    -------
    DataFrame, shape (m, 9)
        Columns as in :meth:`TestResult.to_frame`.
    """
    rows = []
    for test in results:
        pair = test.df if isinstance(test.df, tuple) else (test.df, None)
        rows.append(
            {
                "statistic": test.statistic,
                "distribution": test.distribution,
                "df": np.nan if pair[0] is None else float(pair[0]),
                "df_denom": np.nan if pair[1] is None else float(pair[1]),
                "pvalue": test.pvalue,
                "null": test.null,
                "alternative": test.alternative,
                "reference": test.reference,
                "reason": test.reason,
            }
        )
    index = pd.Index([test.name for test in results], name="test")
    return pd.DataFrame(rows, index=index)


def _tail(value: float, distribution: Distribution, df: Degrees) -> float:
    """Upper tail probability; both tails for ``"norm"``."""
    if not np.isfinite(value):
        return float("nan")
    if distribution == "chi2":
        return float(stats.chi2.sf(value, df))
    if distribution == "F" and isinstance(df, tuple):
        return float(stats.f.sf(value, *df))
    if distribution == "norm":
        return float(2.0 * stats.norm.sf(abs(value)))
    if distribution == "norm, upper tail":
        return float(stats.norm.sf(value))
    return float("nan")
