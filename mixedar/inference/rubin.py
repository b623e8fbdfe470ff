"""
Rubin's rules over arrays: estimates of several imputations, and tests of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.exceptions import NotComputedError, check_alpha
from mixedar.hypotheses.df import t_isf, t_sf
from mixedar.summary import ResultFrame


class Rubin(NamedTuple):
    """
    Rubin's rules for single numbers; arrays of any one shape.

    Attributes
    ----------
    estimate, se, df, riv, fmi : ndarray
        Mean; standard error; Barnard and Rubin's degrees of freedom; relative
        increase of the variance; fraction of missing information.
    """

    estimate: FloatArray
    se: FloatArray
    df: FloatArray
    riv: FloatArray
    fmi: FloatArray

    @classmethod
    def of(cls, values: FloatArray, variances: FloatArray, df: FloatArray) -> Rubin:
        """
        Pool estimates.

        Parameters
        ----------
        values, variances : ndarray, shape (m, ...)
            Of each imputation.
        df : ndarray, shape (...)
            Degrees of freedom without missing data; may be infinite.

        References
        ----------
        Barnard, J. and Rubin, D. B. (1999), Small-sample degrees of freedom with
        multiple imputation, Biometrika 86, 948-955.
        """
        m = len(values)
        within = variances.mean(axis=0)
        between = (1.0 + 1.0 / m) * values.var(axis=0, ddof=1)
        total = within + between
        with np.errstate(divide="ignore", invalid="ignore"):
            riv = between / within
            pooled = _barnard_rubin((m - 1) * (total / between) ** 2, riv, df)
            fmi = (riv + 2.0 / (pooled + 3.0)) / (1.0 + riv)
        return cls(values.mean(axis=0), np.sqrt(total), pooled, riv, fmi)

    def frame(self, alpha: float) -> pd.DataFrame:
        """Columns as in :attr:`PooledResults.frame`, one row a number."""
        estimate, se, df, riv, fmi = map(np.ravel, self)
        half = se * t_isf(check_alpha(alpha) / 2.0, df)
        t = np.divide(estimate, se, out=np.full_like(se, np.nan), where=se > 0.0)
        return ResultFrame(
            {
                "estimate": estimate,
                "se": se,
                "df": df,
                "t": t,
                "p": 2.0 * t_sf(np.abs(t), df),
                "lower": estimate - half,
                "upper": estimate + half,
                "riv": riv,
                "fmi": fmi,
            }
        )


def _barnard_rubin(large: Any, riv: Any, df: Any) -> Any:
    """Degrees of freedom of large samples, brought down to those of a small one."""
    observed = (1.0 - 2.0 / (df + 3.0)) * df / (1.0 + riv)
    return 1.0 / (1.0 / np.asarray(large) + 1.0 / np.asarray(observed))


class Joint(NamedTuple):
    """An F statistic, its denominator, and the relative increase of the variance."""

    statistic: float
    df: float
    riv: float


def solved(cov: FloatArray, right: FloatArray) -> FloatArray:
    """``cov^-1 right``."""
    variances = np.diag(cov)
    if not (variances > 0.0).all():
        raise NotComputedError("a coefficient that is tested has no standard error")
    sd = np.sqrt(variances)
    scaled = cov / np.outer(sd, sd)
    if np.linalg.eigvalsh(scaled)[0] <= 1e-12 * len(cov):
        raise NotComputedError(
            f"the covariance of the {len(cov)} restrictions is singular: they cannot "
            "be tested jointly"
        )
    unit = sd if right.ndim == 1 else sd[:, None]
    return np.asarray(np.linalg.solve(scaled, right / unit) / unit)


def large_df(k: int, m: int, riv: float) -> float:
    """Denominator of D1 and D3 in large samples."""
    if riv == 0.0:
        return float("inf")
    t = k * (m - 1)
    if t > 4:
        return 4.0 + (t - 4.0) * (1.0 + (1.0 - 2.0 / t) / riv) ** 2
    return t * (1.0 + 1.0 / k) * (1.0 + 1.0 / riv) ** 2 / 2.0


def d1_df(k: int, m: int, riv: float, df: float) -> float:
    """Denominator of D1, of Reiter where the complete data have finite ones."""
    large = large_df(k, m, riv)
    if np.isinf(df):
        return large
    t = float(k * (m - 1))
    a = riv * t / (t - 2.0) if t > 4.0 else np.nan
    observed = (df + 1.0) / (df + 3.0) * df
    c1, c2 = observed - 2.0 * (1.0 + a), observed - 4.0 * (1.0 + a)
    if not (t > 4.0 and c2 > 0.0):
        with np.errstate(divide="ignore"):
            return float(_barnard_rubin(large, riv, df))
    z = 1.0 / c2 + (
        a**2 * c1 / ((1.0 + a) ** 2 * c2)
        + 8.0 * a**2 * c1 / ((1.0 + a) * c2**2)
        + 4.0 * a**2 / ((1.0 + a) * c2)
        + 4.0 * a**2 / (c2 * c1)
        + 16.0 * a**2 * c1 / c2**3
        + 8.0 * a**2 / c2**2
    ) / (t - 4.0)
    return 4.0 + 1.0 / z


def d2(k: int, statistics: FloatArray) -> Joint:
    """Pool chi-squared statistics with k degrees of freedom."""
    m = len(statistics)
    roots = np.sqrt(np.clip(statistics, 0.0, None))
    riv = (1.0 + 1.0 / m) * float(roots.var(ddof=1))
    mean = float(statistics.mean()) / k
    f = (mean - (m + 1) / (m - 1) * riv) / (1.0 + riv)
    df = np.inf if riv == 0.0 else k ** (-3.0 / m) * (m - 1) * (1.0 + 1.0 / riv) ** 2
    return Joint(max(f, 0.0), float(df), riv)
