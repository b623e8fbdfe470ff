"""
The result of a test: numbers, and what they say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from scipy import stats

from mixedar.exceptions import check_alpha
from mixedar.hypotheses.df import f_sf
from mixedar.summary import Format, Printed, ResultFrame, ResultsSummary, SummaryTable

Distribution = Literal[
    "chi2", "F", "norm", "norm, upper tail", "chibar2", "bootstrap", "none"
]
Degrees = float | tuple[float, float] | None

_SYMBOLS = {
    "chi2": "chi2",
    "chibar2": "chibar2",
    "F": "F",
    "norm": "z",
    "norm, upper tail": "z",
    "bootstrap": "t",
}


@dataclass(frozen=True, repr=False)
class TestResult(Printed):
    """
    Result of a test.

    Attributes
    ----------
    name : str
        Name of the test.
    statistic : float
        With its sign; NaN if it was not computed.
    df : float, tuple of two floats, or None
        Degrees of freedom; numerator and denominator of an F statistic.
    pvalue : float
        NaN if there is none; `reason` says why.
    null, alternative : str
        The hypotheses in words.
    reference : str
        Where the test comes from.
    distribution : str
        Under the null: ``"chi2"``, ``"F"``, ``"norm"`` (both tails), ``"norm,
        upper tail"``, ``"chibar2"`` (mixture of chi-squared distributions),
        ``"bootstrap"`` or ``"none"`` (no p-value exists).
    reason : str or None
        Why statistic or p-value are missing; None if nothing is.
    note : str or None
        What one should know about the number; may be empty.
    details : tuple of (str, float)
        Further numbers by name, such as the p-value by another distribution.
    table : DataFrame
        The parts of the test, such as one row a lag; empty if there are none.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
    ... )
    >>> fit = model.fit()
    >>> test = fit.heteroscedasticity_test("sex")
    >>> test.df, test.rejects(0.01)
    (1.0, False)
    """

    __test__: ClassVar[bool] = False  # not a class of tests for pytest

    name: str
    statistic: float
    df: Degrees
    pvalue: float
    null: str
    alternative: str
    reference: str
    distribution: Distribution = "chi2"
    reason: str | None = None
    note: str | None = None
    details: tuple[tuple[str, float], ...] = ()
    table: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)

    @property
    def symbol(self) -> str:
        """Short name of the statistic: ``"chi2"``, ``"F"``, ``"z"``."""
        return _SYMBOLS.get(self.distribution, "statistic")

    @property
    def computed(self) -> bool:
        """Whether there is a statistic with a p-value."""
        return bool(np.isfinite(self.statistic) and np.isfinite(self.pvalue))

    @property
    def df_text(self) -> str:
        """Degrees of freedom as text, such as ``"2, 188"``."""
        parts = self.df if isinstance(self.df, tuple) else (self.df,)
        return ", ".join(f"{part:.6g}" for part in parts if part is not None)

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

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm(
        ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
        ... )
        >>> fit = model.fit()
        >>> fit.normality_test().rejects(alpha=0.001)
        True
        """
        level = check_alpha(alpha)
        return bool(self.pvalue < level) if np.isfinite(self.pvalue) else None

    def to_frame(self) -> pd.DataFrame:
        """
        Return the result as one row.

        Returns
        -------
        DataFrame, shape (1, 9)
            Columns ``statistic, distribution, df, df_denom, pvalue, null,
            alternative, reference, reason``; the index is the name.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm(
        ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
        ... )
        >>> fit = model.fit()
        >>> fit.normality_test().to_frame().columns.tolist()
        ['statistic', 'distribution', 'df', 'df_denom', 'pvalue', 'null',
         'alternative', 'reference', 'reason']
        """
        return results_frame([self])

    def summary(self) -> ResultsSummary:
        """
        Return the printed form.

        Returns
        -------
        ResultsSummary

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm(
        ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
        ... )
        >>> fit = model.fit()
        >>> page = fit.normality_test().summary().as_text()
        """
        parts, symbol = self.table, self.symbol
        row = {symbol: self.statistic, "df": self.df_text, "p-value": self.pvalue}
        formats: dict[str, Format] = {symbol: "statistic"}
        frame = pd.DataFrame(row | dict(self.details), index=[""])
        if len(parts):  # columns in the words of the table of parts
            frame = frame.rename(columns={symbol: "statistic"}).assign(df=self.df)
            formats = {"df": "g"}
        tables = [SummaryTable(frame, formats=formats, name="test", missing="-")]
        if len(parts):
            if pd.api.types.is_float_dtype(parts.index.dtype):
                parts = parts.set_axis([f"{value:.4g}" for value in parts.index])
            tables.append(SummaryTable(parts, name="parts"))
        notes = [f"Null: {self.null}.", f"Alternative: {self.alternative}."]
        if self.reason:
            notes.append(f"Not computed: {self.reason}.")
        if self.note:
            notes.append(self.note)
        notes.append(f"Reference: {self.reference}.")
        return ResultsSummary(title=self.name, tables=tables, notes=notes)


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
        table: pd.DataFrame | None = None,
    ) -> TestResult:
        """The statistic with its p-value, by default from its distribution."""
        value = float(statistic)
        if pvalue is None:
            pvalue = _tail(value, distribution, df)
        return TestResult(
            statistic=value,
            distribution=distribution,
            df=df,
            pvalue=float(pvalue),
            reason=reason,
            note=note,
            details=details,
            table=ResultFrame() if table is None else ResultFrame.of(table),
            **vars(self),
        )

    def missing(
        self,
        reason: str,
        distribution: Distribution = "none",
        df: Degrees = None,
        note: str | None = None,
    ) -> TestResult:
        """Result without a number; `reason` is a clause without a full stop."""
        return self.result(np.nan, distribution, df, reason=reason, note=note)


def results_frame(results: Iterable[TestResult]) -> pd.DataFrame:
    """Results below one another, columns as in :meth:`TestResult.to_frame`."""
    rows = []
    for test in results:
        df, denominator = test.df if isinstance(test.df, tuple) else (test.df, None)
        rows.append(
            {
                "test": test.name,
                "statistic": test.statistic,
                "distribution": test.distribution,
                "df": np.nan if df is None else float(df),
                "df_denom": np.nan if denominator is None else float(denominator),
                "pvalue": test.pvalue,
                "null": test.null,
                "alternative": test.alternative,
                "reference": test.reference,
                "reason": test.reason,
            }
        )
    return ResultFrame.of(pd.DataFrame(rows).set_index("test"))


def results_table(
    results: Iterable[TestResult], title: str | None = None, name: str | None = None
) -> SummaryTable:
    """Results below one another as they are printed, one a row."""
    rows = [[t.name, t.symbol, t.statistic, t.df_text, t.pvalue] for t in results]
    frame = pd.DataFrame(rows, columns=["name", "", "statistic", "df", "p-value"])
    frame = frame.set_index("name").rename_axis(None)
    return SummaryTable(frame, title, name=name, missing="-")


def _tail(value: float, distribution: Distribution, df: Degrees) -> float:
    """Upper tail probability; both tails for ``"norm"``."""
    if not np.isfinite(value):
        return float("nan")
    if distribution == "chi2":
        return float(stats.chi2.sf(value, df))
    if distribution == "F" and isinstance(df, tuple):
        return float(f_sf(value, *df))
    if distribution == "norm":
        return float(2.0 * stats.norm.sf(abs(value)))
    if distribution == "norm, upper tail":
        return float(stats.norm.sf(value))
    return float("nan")
