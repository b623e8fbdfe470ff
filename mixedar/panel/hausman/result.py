"""
The result of a Hausman test, one form or several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mixedar._types import FloatArray
from mixedar.exceptions import listing
from mixedar.hypotheses.result import (
    Degrees,
    Printed,
    TestResult,
    TestText,
    results_frame,
    results_table,
)
from mixedar.mixed import MixedLMARResults
from mixedar.panel.algebra import RANK_TOLERANCE
from mixedar.summary import ResultsSummary, SummaryTable


@dataclass(frozen=True, eq=False, repr=False)
class HausmanResult(Printed):
    """
    Whether fixed and random effects estimate the same coefficients.

    Attributes
    ----------
    method : str
        As it was asked for.
    tests : tuple of TestResult
        The forms of the test that make up the method, the leading one first.
    comparison : DataFrame, shape (q, 4)
        Columns ``fe, re, difference, std_err`` of the compared coefficients;
        ``std_err`` is that of the difference, NaN where its estimated variance
        is negative or there is none.
    eigenvalues : ndarray, shape (q,), or None
        Of the covariance of the difference, in units of the standard errors of
        fixed effects, descending; None for forms without such a covariance.
    cov_difference : DataFrame, shape (q, q), or None
        Estimated covariance of the difference.
    identified : int or None
        Number of independent directions in which the estimates can differ; None
        for forms that compare no two estimates.
    meaning : str
        What the test says, in a sentence.
    notes : tuple of str
        Remarks.
    nobs, n_entities : int
    draws : DataFrame, shape (B, r), or None
        Differences in the bootstrap replicates.
    mixed : MixedLMARResults
        Results of the mixed model with entity means (of the model itself if no
        mean could be added), for a test against a mixed model; else None.
    """

    method: str
    tests: tuple[TestResult, ...]
    comparison: pd.DataFrame
    meaning: str
    notes: tuple[str, ...]
    nobs: int
    n_entities: int
    eigenvalues: FloatArray | None = None
    cov_difference: pd.DataFrame | None = None
    identified: int | None = None
    draws: pd.DataFrame | None = None
    mixed: MixedLMARResults | None = None

    @property
    def test(self) -> TestResult:
        """The leading form; the first that could be computed, if any could."""
        return next((test for test in self.tests if test.computed), self.tests[0])

    @property
    def statistic(self) -> float:
        """Statistic of the leading form, with its sign; NaN without one."""
        return self.test.statistic

    @property
    def df(self) -> Degrees:
        """Its degrees of freedom: the rank of the comparison."""
        return self.test.df

    @property
    def pvalue(self) -> float:
        """Its p-value; NaN without one."""
        return self.test.pvalue

    @property
    def reason(self) -> str | None:
        """Why the leading form has no p-value; None if it has one."""
        return self.test.reason

    def rejects(self, alpha: float = 0.05) -> bool | None:
        """
        Whether the leading form rejects random effects.

        Parameters
        ----------
        alpha : float
            Level of the test.

        Returns
        -------
        bool or None
            None if there is no p-value.
        """
        return self.test.rejects(alpha)

    def to_frame(self) -> pd.DataFrame:
        """
        Return one row for each form of the test.

        Returns
        -------
        DataFrame, shape (m, 9)
            Columns as in :meth:`TestResult.to_frame`.
        """
        return results_frame(list(self.tests))

    def summary(self) -> ResultsSummary:
        """
        Return the printed form.

        Returns
        -------
        ResultsSummary
        """
        tables = [results_table(self.tests, name="tests")]
        if len(self.comparison):
            second = "RE" if self.mixed is None else "Mixed"
            shown = self.comparison.rename(
                columns={"fe": "FE", "re": second, "std_err": "s.e.(diff)"}
            )
            if not self.comparison["std_err"].notna().any():
                shown = shown.drop(columns="s.e.(diff)")
            tables.append(
                SummaryTable(shown, "Coefficients", name="comparison", missing="-")
            )
        header: dict[str, Any] = {
            "No. Observations:": self.nobs,
            "No. Entities:": self.n_entities,
        }
        if self.eigenvalues is not None and len(self.eigenvalues):
            ends = dict.fromkeys((0, len(self.eigenvalues) - 1))
            values = self.eigenvalues[list(ends)]
            header["Scaled eigenvalues:"] = " to ".join(
                f"{v:.3g}" if abs(v) > RANK_TOLERANCE else "0" for v in values
            )
            header["Rank:"] = self.identified
        notes = [f"{t.name}: no p-value; {t.reason}." for t in self.tests if t.reason]
        notes += [test.note for test in self.tests if test.note]
        for test in self.tests:
            if test.details:
                also = ", ".join(f"{key} = {value:.4g}" for key, value in test.details)
                notes.append(f"{test.name}, other forms: {also}.")
        return ResultsSummary(
            title="Hausman test: fixed effects against "
            + ("random effects" if self.mixed is None else "a mixed model"),
            header=header,
            tables=tables,
            notes=[*notes, *self.notes, self.meaning],
        )


def meaning_of(names: Sequence[str], second: str = "random effects") -> str:
    """What is tested, what a rejection means, and what its absence does not."""
    shown = listing(names, 6)
    what = f" ({shown})" if names else ""
    return (
        "The test asks whether the effects of the entities are unrelated to the "
        f"regressors{what}, so that fixed effects and {second} estimate the same "
        f"coefficients; a rejection means that those of {second} are inconsistent "
        "(use fixed effects, or add entity means), whereas not rejecting is no proof "
        f"of {second}: the data may be too few, or vary too little between entities, "
        "to show the difference."
    )


_NULL = (
    "the effects of the entities are unrelated to the regressors, so that fixed and "
    "random effects estimate the same coefficients"
)
_ALTERNATIVE = "they are related, and random effects is inconsistent"
_HAUSMAN = "Hausman (1978), Econometrica 46, 1251-1271"
_STATA = "; residual variances as Stata's option of this name"
_AUXILIARY = (
    "Wooldridge (2010), Econometric Analysis of Cross Section and Panel Data, "
    "section 10.7.3; Arellano (1993), Journal of Econometrics 59, 87-97"
)
_MUNDLAK = "Mundlak (1978), Econometrica 46, 69-85"


TEXTS = {
    method: TestText(name, _NULL, _ALTERNATIVE, reference)
    for method, name, reference in (
        ("classical", "Hausman (classical)", _HAUSMAN),
        ("sigmamore", "Hausman (sigmamore)", _HAUSMAN + _STATA),
        ("sigmaless", "Hausman (sigmaless)", _HAUSMAN + _STATA),
        ("auxiliary", "Auxiliary regression", _AUXILIARY),
        ("auxiliary-robust", "Auxiliary regression (clustered)", _AUXILIARY),
        ("mundlak", "Mundlak", _MUNDLAK),
        ("mundlak-robust", "Mundlak (clustered)", _MUNDLAK),
        (
            "bootstrap",
            "Hausman (bootstrap)",
            "Cameron and Trivedi (2005), Microeconometrics, section 21.4.3",
        ),
    )
}

MIXED = TestText(
    "Mundlak in the mixed model",
    "the random effects are unrelated to the regressors, so that differences within "
    "and between entities have the same coefficients",
    "they are related, and the mixed model without entity means is inconsistent",
    _MUNDLAK + "; Snijders and Bosker (2012), Multilevel Analysis, section 4.6",
)
