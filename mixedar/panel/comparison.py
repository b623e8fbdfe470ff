"""
Fixed and random effects side by side: differences, their covariance, its rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.panel.hausman_forms import (
    DifferenceTest,
    covariance_of_difference,
    difference_test,
    identified_columns,
)
from mixedar.panel.hausman_texts import FORMS
from mixedar.panel.outcome import TestResult

__all__ = ["Comparison", "compare_fits"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Comparison:
    """
    Two estimates of the same q coefficients.

    Attributes
    ----------
    names : list of str
        The coefficients.
    fe, re : ndarray, shape (q,)
        Estimates.
    covs : dict of str to ndarray, shape (q, q)
        Covariance of the difference, by form.
    forms : dict of str to DifferenceTest
        Quadratic forms.
    identified : ndarray of int
        Positions of coefficients that can differ, none redundant.
    zero_variance : bool
        Whether the variance of the random effects is estimated as zero.
    """

    names: list[str]
    fe: FloatArray
    re: FloatArray
    covs: dict[str, FloatArray]
    forms: dict[str, DifferenceTest]
    identified: IntArray
    zero_variance: bool

    @property
    def difference(self) -> FloatArray:
        """Fixed less random effects, shape (q,)."""
        return self.fe - self.re

    def test(self, form: str) -> TestResult:
        """
        Return one form of the test.

        Parameters
        ----------
        form : {"classical", "sigmamore", "sigmaless"}

        Returns
        -------
        TestResult
            Without a p-value if the statistic is negative, without a statistic
            if nothing is identified.
        """
        found, text = self.forms[form], FORMS[form]
        rank = len(self.identified)
        if rank == 0:
            return text.missing(self.not_identified(), "chi2", 0)
        below = f"{found.negative} of {len(self.names)} eigenvalues"
        if found.statistic < 0.0:
            return text.result(
                found.statistic,
                "chi2",
                found.df,
                pvalue=np.nan,
                reason=(
                    "the statistic is negative, because the difference of the "
                    f"covariances is not positive semidefinite ({below} are negative), "
                    "so that it has no chi-squared distribution; use "
                    "method='sigmamore' or 'mundlak-robust'"
                ),
            )
        note = None
        if found.negative:
            note = (
                f"The difference of the covariances is not positive semidefinite "
                f"({below} are negative): the chi-squared distribution of the "
                f"{form} form is in doubt; sigmamore and the Mundlak forms do not "
                "have this problem."
            )
        elif found.df > rank:
            note = (
                f"Only {rank} of the {found.df} degrees of freedom of the {form} form "
                "are differences that the data can show (the others come from the two "
                "residual variances); sigmamore has the right number."
            )
        return text.result(found.statistic, "chi2", found.df, note=note)

    def not_identified(self) -> str:
        """Why nothing can be tested, without a full stop."""
        if not self.names:
            return (
                "the fits have no coefficient in common: fixed effects absorb every "
                "regressor, because none varies within entities"
            )
        shown = ", ".join(self.names[:6]) + (", ..." if len(self.names) > 6 else "")
        return (
            "the test is not identified: fixed and random effects agree to rounding "
            f"error on {shown}, because no regressor that varies within entities "
            "differs between them (one with the same mean in every entity, such as "
            "time in a balanced panel, carries no information on this), or because "
            "the model of random effects contains the means of the entities"
        )

    def frame(self, form: str | None) -> pd.DataFrame:
        """
        Return the estimates side by side.

        Parameters
        ----------
        form : str or None
            Whose standard errors of the difference to give; none for None.

        Returns
        -------
        DataFrame, shape (q, 4)
        """
        out = pd.DataFrame(
            {"fe": self.fe, "re": self.re, "difference": self.difference},
            index=pd.Index(self.names, name="coefficient"),
        )
        variances = np.full(len(self.names), np.nan)
        if form is not None:
            variances = np.diag(self.covs[form])
        positive = np.where(variances > 0.0, variances, np.nan)
        out["std_err"] = np.sqrt(positive)
        return out

    def cov_frame(self, form: str) -> pd.DataFrame:
        """Return the covariance of the difference with names, shape (q, q)."""
        return pd.DataFrame(self.covs[form], index=self.names, columns=self.names)

    def notes(self, form: str | None) -> tuple[str, ...]:
        """Remarks on the comparison as a whole."""
        notes = []
        rank, count = len(self.identified), len(self.names)
        if form in ("sigmamore", "sigmaless") and 0 < rank < count:
            chosen = ", ".join(self.names[j] for j in self.identified[:6])
            notes.append(
                f"The {count} compared coefficients can differ in {rank} independent "
                f"direction{'s' if rank > 1 else ''} only (those of {chosen}): the "
                "others have the same means in every entity."
            )
        if self.zero_variance:
            notes.append(
                "The variance of the random effects is estimated as zero: random "
                "effects are pooled least squares here."
            )
        return tuple(notes)


def compare_fits(fe: Any, re: Any, names: list[str]) -> Comparison:
    """
    Line up two fits.

    Parameters
    ----------
    fe, re : PanelResults
        Fixed and random effects.
    names : list of str
        Coefficients to compare.

    Returns
    -------
    Comparison
    """
    cov_fe = fe.cov_params().loc[names, names].to_numpy(dtype=float)
    cov_re = re.cov_params().loc[names, names].to_numpy(dtype=float)
    b_fe = fe.params[names].to_numpy(dtype=float)
    b_re = re.params[names].to_numpy(dtype=float)
    covs = {
        form: covariance_of_difference(cov_fe, cov_re, fe.scale, re.scale, form)
        for form in ("classical", "sigmamore", "sigmaless")
    }
    return Comparison(
        names=names,
        fe=b_fe,
        re=b_re,
        covs=covs,
        forms={
            form: difference_test(b_fe - b_re, cov, cov_fe)
            for form, cov in covs.items()
        },
        identified=identified_columns(cov_fe, cov_re, fe.scale, re.scale),
        zero_variance=re.estimate.sigma2_u == 0.0,
    )
