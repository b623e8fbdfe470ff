"""
Results of a fit with a cluster-robust covariance of the fixed effects.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.contrast import ContrastResults

from mixedar.hypotheses.df import DFMethod
from mixedar.inference.arguments import check_alpha
from mixedar.inference.df.sandwich import COV_TYPES, Sandwich, sandwich
from mixedar.summary import ResultsSummary, SummaryTable


class RobustResults:
    """
    A view of a fit with robust standard errors and their degrees of freedom.

    The estimates are those of the fit; everything else of it is in `fit`.  The fit's
    ``get_robustcov_results`` has all of its methods with the robust covariance.

    Parameters
    ----------
    results : MixedLMARResults
    sandwich : Sandwich

    Attributes
    ----------
    fit : MixedLMARResults
    cov_type : str
    fe_params : Series
    bse_fe, df, tvalues, pvalues : Series
        Degrees of freedom are Satterthwaite's approximation to the
        distribution of the robust variance under the model's covariance
        (Bell and McCaffrey for CR2).
    """

    def __init__(self, results: Any, sandwich: Sandwich) -> None:
        self.fit = results
        self.cov_type = sandwich.cov_type
        self.n_groups = sandwich.n_clusters
        self._sandwich = sandwich
        self._names = list(results._names[: results.k_fe])
        self.fe_params = self._series(results.fe_params)

    @cached_property
    def _full(self) -> Any:
        """All results with the robust covariance."""
        return self.fit._copy_with_sandwich(
            self._sandwich, DFMethod("satterthwaite", information="observed")
        )

    def _series(self, values: Any) -> pd.Series:
        return pd.Series(np.asarray(values), index=self._names, dtype=float)

    def cov_params(self) -> pd.DataFrame:
        """
        Robust covariance of the fixed effects.

        Returns
        -------
        DataFrame, shape (p, p)
        """
        return pd.DataFrame(self._sandwich.cov, self._names, self._names)

    @cached_property
    def bse_fe(self) -> pd.Series:
        """Robust standard errors."""
        return self._series(np.sqrt(np.diag(self._sandwich.cov)))

    @property
    def bse(self) -> pd.Series:
        """Robust standard errors, as :attr:`bse_fe`."""
        return self.bse_fe

    @cached_property
    def df(self) -> pd.Series:
        """Satterthwaite's degrees of freedom of each coefficient."""
        return self._series(self._sandwich.satterthwaite(np.eye(len(self._names))))

    @property
    def tvalues(self) -> pd.Series:
        """Estimates divided by robust standard errors."""
        return self.fe_params / self.bse_fe

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values by Student's t."""
        return self._series(2.0 * stats.t.sf(np.abs(self.tvalues), self.df))

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """
        Confidence intervals by Student's t.

        Parameters
        ----------
        alpha : float
            1 - coverage.

        Returns
        -------
        DataFrame
            Columns ``lower`` and ``upper``.
        """
        width = stats.t.isf(check_alpha(alpha) / 2.0, self.df) * self.bse_fe
        return pd.DataFrame(
            {"lower": self.fe_params - width, "upper": self.fe_params + width}
        )

    def t_test(self, r_matrix: Any) -> ContrastResults:
        """
        Test linear combinations of the fixed effects, one by one.

        Parameters
        ----------
        r_matrix : array_like, shape (k, p), str, or tuple
            As in the fit's ``t_test``.

        Returns
        -------
        ContrastResults

        Raises
        ------
        NotComputedError
            If a row is zero.
        """
        return self._full.t_test(r_matrix)

    def wald_test(self, r_matrix: Any) -> ContrastResults:
        """
        Joint F test with Hotelling's T-squared approximation (HTZ).

        Parameters
        ----------
        r_matrix : array_like, shape (k, p), str, or tuple
            As in the fit's ``t_test``; rows that depend on others are left out.

        Returns
        -------
        ContrastResults

        Raises
        ------
        NotComputedError
            If there are too few groups for so many restrictions, or the
            restrictions contradict one another.

        References
        ----------
        Pustejovsky and Tipton (2018); see :mod:`mixedar.inference.df.sandwich`.
        """
        return self._full.wald_test(r_matrix, use_f=True)

    def to_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """
        Estimates, errors, tests and intervals.

        Parameters
        ----------
        alpha : float
            1 - coverage.

        Returns
        -------
        DataFrame
        """
        interval = self.conf_int(alpha)
        return pd.DataFrame(
            {
                "Coef.": self.fe_params,
                "Std.Err.": self.bse_fe,
                "DF": self.df,
                "t": self.tvalues,
                "P>|t|": self.pvalues,
                f"[{alpha / 2:.4g}": interval["lower"],
                f"{1 - alpha / 2:.4g}]": interval["upper"],
            }
        )

    def summary(self, alpha: float = 0.05) -> ResultsSummary:
        """
        Table of the fixed effects.

        Parameters
        ----------
        alpha : float
            1 - coverage.

        Returns
        -------
        ResultsSummary
        """
        return ResultsSummary(
            title=f"Fixed effects with {self.cov_type} standard errors",
            header={
                "Dep. variable:": self.fit._labels[0],
                "Covariance:": self.cov_type,
                "No. observations:": self.fit.nobs,
                "No. groups:": self.n_groups,
            },
            tables=[
                SummaryTable(
                    self.to_frame(alpha),
                    title="Fixed effects",
                    name="parameters",
                    formats={"DF": ".1f"},
                )
            ],
            notes=[
                f"Standard errors are robust to misspecified covariances within "
                f"groups ({COV_TYPES[self.cov_type]}); degrees of freedom are "
                "Satterthwaite's for the robust variance."
            ],
        )

    def __repr__(self) -> str:
        return f"<RobustResults {self.cov_type}, {self.n_groups} groups>"


def robust(results: Any, cov_type: str = "CR2") -> RobustResults:
    """
    The fit with cluster-robust standard errors, clusters being its groups.

    Parameters
    ----------
    results : MixedLMARResults
    cov_type : {"CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3"}

    Returns
    -------
    RobustResults

    Raises
    ------
    UnsupportedError
        For another type.
    NotComputedError
        If the covariance cannot be computed; the message says why.
    """
    results = getattr(results, "_results", results)
    return RobustResults(results, sandwich(results, cov_type))
