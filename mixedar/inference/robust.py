"""
Results of a fit with a cluster-robust covariance of the fixed effects.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.contrast import ContrastResults

from mixedar.exceptions import NotComputedError
from mixedar.inference.profile import check_alpha
from mixedar.inference.sandwich import COV_TYPES, Sandwich, sandwich
from mixedar.summary import ResultsSummary, SummaryTable

__all__ = ["RobustResults", "robust"]

FloatArray = NDArray[np.float64]


class RobustResults:
    """
    A view of a fit with robust standard errors and their degrees of freedom.

    The estimates are those of the fit; everything else of it is in `fit`.

    Parameters
    ----------
    results : MixedLMARResults
    sandwich : Sandwich

    Attributes
    ----------
    fit : MixedLMARResults
    cov_type : str
    fe_params : Series
    bse_fe, df_resid, tvalues, pvalues : Series
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
    def df_resid(self) -> pd.Series:
        """Satterthwaite's degrees of freedom of each coefficient."""
        return self._series(self._sandwich.satterthwaite(np.eye(len(self._names))))

    @property
    def tvalues(self) -> pd.Series:
        """Estimates divided by robust standard errors."""
        return self.fe_params / self.bse_fe

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values by Student's t."""
        return self._series(2.0 * stats.t.sf(np.abs(self.tvalues), self.df_resid))

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
        width = stats.t.isf(check_alpha(alpha) / 2.0, self.df_resid) * self.bse_fe
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
        matrix, values = self._restrictions(r_matrix)
        effect = matrix @ self.fe_params.to_numpy()
        sd = np.sqrt(np.einsum("ki,ij,kj->k", matrix, self._sandwich.cov, matrix))
        df = self._sandwich.satterthwaite(matrix)
        return ContrastResults(effect=effect, t=(effect - values) / sd, sd=sd,
                               df_denom=df)  # fmt: skip

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
        Pustejovsky and Tipton (2018); see :mod:`mixedar.inference.sandwich`.
        """
        matrix, values = self._restrictions(r_matrix)
        left, lengths, right = np.linalg.svd(matrix, full_matrices=False)
        keep = lengths > 1e-10 * lengths[0]
        target = left.T @ values
        if (np.abs(target[~keep]) > 1e-8 * (1.0 + np.abs(values).max())).any():
            raise NotComputedError("the restrictions contradict one another")
        matrix, q = right[keep], int(keep.sum())
        difference = matrix @ self.fe_params.to_numpy() - target[keep] / lengths[keep]
        cov = matrix @ self._sandwich.cov @ matrix.T
        _, eta = self._sandwich.hotelling(matrix)
        if not eta > q - 1:
            raise NotComputedError(
                f"{q} restrictions leave no degrees of freedom with {self.n_groups} "
                f"groups ({eta:.3g} for the covariance); test fewer at a time"
            )
        spectrum = np.linalg.eigvalsh(cov)
        if not spectrum[0] > 1e-12 * spectrum[-1]:
            raise NotComputedError(
                f"the robust covariance of {q} restrictions is singular: there are "
                f"{self.n_groups} groups"
            )
        statistic = float(difference @ np.linalg.solve(cov, difference))
        f = (eta - q + 1.0) / (eta * q) * statistic
        return ContrastResults(F=f, df_num=q, df_denom=eta - q + 1.0)

    def _restrictions(self, r_matrix: Any) -> tuple[FloatArray, FloatArray]:
        matrix, values = self.fit._contrasts(r_matrix)
        if not (np.abs(matrix).max(axis=1, initial=0.0) > 0.0).all():
            raise NotComputedError(
                "a contrast involves no fixed effect: its row is zero"
            )
        return matrix, np.asarray(values, dtype=float)

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
                "DF": self.df_resid,
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
