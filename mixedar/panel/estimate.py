"""
What a panel estimator hands over: numbers without labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["CovarianceInfo", "Kind", "PanelEstimate"]

FloatArray = NDArray[np.float64]
Kind = Literal["fe", "re", "between", "fd", "pooled", "fe_ar1", "re_ar1"]


@dataclass(frozen=True)
class CovarianceInfo:
    """
    How the covariance of the coefficients was estimated.

    Attributes
    ----------
    cov_type : str
        ``"classical"``, ``"robust"``, ``"clustered"``, ``"hac"``,
        ``"driscoll-kraay"`` or ``"observed"``.
    small_sample : str or None
        Name of the small-sample factor; None for none.
    clusters : tuple of int
        Numbers of clusters in each dimension; empty without clusters.
    df : float
        Degrees of freedom of Student's t; infinite for the normal distribution.
    label : str
        For the summary.
    """

    cov_type: str = "classical"
    small_sample: str | None = None
    clusters: tuple[int, ...] = ()
    df: float = np.inf
    label: str = "classical"


@dataclass(frozen=True, eq=False)
class PanelEstimate:
    """
    The numbers of a fit, without labels of rows.

    Attributes
    ----------
    kind : str
        ``"fe"``, ``"re"``, ``"between"``, ``"fd"``, ``"pooled"``, ``"fe_ar1"``
        or ``"re_ar1"``.
    method : str
        The estimator in words.
    columns : ndarray of int, shape (k,)
        Columns of ``panel.x`` that have a coefficient.
    params : ndarray, shape (k,)
        Coefficients.
    cov : ndarray, shape (k, k)
        Their covariance, as `info` says.
    info : CovarianceInfo
        How the covariance was estimated.
    scale : float
        Variance of the idiosyncratic error, residual sum of squares of the
        transformed regression over `df_resid`.
    df_resid : int
        Residual degrees of freedom.
    nobs : int
        Rows of the (transformed) regression.
    absorbed : tuple of str
        Regressors that the effects leave no variation of.
    notes : tuple of str
        Remarks for the summary, sentences.
    effects : tuple of str
        ``("entity",)``, ``("time",)``, ``("entity", "time")`` or ``()``.
    theta : ndarray, shape (N,), or None
        Fractions of the means that quasi-demeaning subtracts.
    sigma2_u, sigma2_e : float or None
        Variances of effects and idiosyncratic errors.
    rho : float or None
        Autoregressive parameter of the errors.
    llf : float or None
        Log-likelihood.
    f_pooled : tuple of float or None
        F statistic that all effects are zero and its two degrees of freedom.
    statistics : mapping of str to float
        Further numbers by name.
    rows : ndarray of int or None
        Sorted rows that enter a regression in differences; None for all.
    previous : ndarray of int or None
        The rows that are subtracted from them.
    entity_effects : ndarray, shape (N,), or None
        Effects where the estimator has a predictor of its own.
    rsquared : tuple of float or None
        R squared within, between and overall where they are not those of the
        data as they are.
    """

    kind: Kind
    method: str
    columns: NDArray[np.intp]
    params: FloatArray
    cov: FloatArray
    info: CovarianceInfo
    scale: float
    df_resid: int
    nobs: int
    absorbed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    theta: FloatArray | None = None
    sigma2_u: float | None = None
    sigma2_e: float | None = None
    rho: float | None = None
    llf: float | None = None
    f_pooled: tuple[float, float, float] | None = None
    statistics: Mapping[str, float] = field(default_factory=dict)
    rows: NDArray[np.intp] | None = None
    previous: NDArray[np.intp] | None = None
    entity_effects: FloatArray | None = None
    rsquared: tuple[float, float, float] | None = None
