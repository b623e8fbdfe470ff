"""
What a panel estimator has found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.panel.covariance import CovarianceInfo
from mixedar.panel.data import PanelData
from mixedar.panel.transformed import (
    TransformedRegression,
)
from mixedar.summary import NamedInALine

Kind = Literal["fe", "re", "between", "fd", "pooled", "fe_ar1", "re_ar1"]


class Estimator(NamedTuple):
    """What an estimator is called in a column's head, and in a sentence."""

    short: str
    words: str


#: By kind of fit.
ESTIMATORS = {
    "fe": Estimator("within", "fixed effects"),
    "re": Estimator("GLS", "random effects"),
    "between": Estimator("between", "between effects"),
    "fd": Estimator("differences", "first differences"),
    "pooled": Estimator("OLS", "pooled least squares"),
    "fe_ar1": Estimator("within AR(1)", "fixed effects with AR(1) errors"),
    "re_ar1": Estimator("GLS AR(1)", "random effects with AR(1) errors"),
}


@dataclass(frozen=True, eq=False)
class PanelEstimate(NamedInALine):
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
    regression : TransformedRegression
        The least squares that the estimate is.
    back : ndarray, shape (k, k)
        Turns its coefficients into `params`.
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
        Sorted rows of a regression in differences to the row before; None for all.
    entity_effects : ndarray, shape (N,), or None
        Effects where the estimator has a predictor of its own.
    rsquared : tuple of float or None
        R squared within, between and overall where they are not those of the
        data as they are.
    """

    kind: Kind
    method: str
    columns: IntArray
    params: FloatArray
    cov: FloatArray
    info: CovarianceInfo
    scale: float
    df_resid: int
    nobs: int
    regression: TransformedRegression
    back: FloatArray
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
    rows: IntArray | None = None
    entity_effects: FloatArray | None = None
    rsquared: tuple[float, float, float] | None = None

    def __repr__(self) -> str:
        count = len(self.params)
        return f"<PanelEstimate: {self.method}; {count} coefficients, {self.nobs} rows>"


@dataclass(frozen=True)
class Effects:
    """
    A fit decomposed, in sorted order.

    Attributes
    ----------
    y, xb : ndarray, shape (r,)
        Response and ``x b`` of the rows of the regression: observations, entity
        means (between) or differences.
    fitted, resid : ndarray, shape (r,)
        With the effects; response less fitted.
    entity : ndarray, shape (N,), or None
        Effects of the entities.
    time : ndarray, shape (T,), or None
        Effects of the periods.
    """

    y: FloatArray
    xb: FloatArray
    fitted: FloatArray
    resid: FloatArray
    entity: FloatArray | None = None
    time: FloatArray | None = None

    @classmethod
    def of(cls, panel: PanelData, estimate: PanelEstimate) -> Effects:
        """
        Compute the effects of a fit.

        Parameters
        ----------
        panel : PanelData
        estimate : PanelEstimate

        Returns
        -------
        Effects
        """
        xb = linear_prediction(panel, estimate)
        y = panel.y
        entity = time = None
        if estimate.kind == "between":
            y, xb = panel.entity_means(y), panel.entity_means(xb)
        elif estimate.rows is not None:
            y = y[estimate.rows] - y[estimate.rows - 1]
            xb = xb[estimate.rows] - xb[estimate.rows - 1]
        elif estimate.entity_effects is not None:
            entity = estimate.entity_effects
        elif estimate.theta is not None:
            shrink = estimate.theta * (2.0 - estimate.theta)
            entity = shrink * panel.entity_means(y - xb)
        elif estimate.effects == ("entity", "time"):
            entity, time = panel.two_way_effects(y - xb)
        elif estimate.effects == ("time",):
            time = panel.time_means(y - xb)
        elif estimate.effects == ("entity",):
            entity = panel.entity_means(y - xb)
        fitted = xb
        if entity is not None:
            fitted = fitted + panel.per_row(entity)
        if time is not None:
            fitted = fitted + time[panel.time]
        return cls(y, xb, fitted, y - fitted, entity, time)


def linear_prediction(panel: PanelData, estimate: PanelEstimate) -> FloatArray:
    """Return ``x b`` of all rows, shape (n,)."""
    params = np.zeros(panel.x.shape[1])
    params[estimate.columns] = estimate.params
    return panel.x @ params


def squared_correlations(
    panel: PanelData, estimate: PanelEstimate
) -> tuple[float, float, float]:
    """
    Squared correlations of response and ``x b``, as Stata's ``xtreg``.

    Within (entity-demeaned), between (entity means, one each) and overall; zero
    where ``x b`` does not vary, NaN where the response does not.
    """
    if estimate.rsquared is not None:
        return estimate.rsquared
    y, xb = panel.y, linear_prediction(panel, estimate)
    rows, ones = panel.by_root, panel.by_root(panel.ones)
    return (
        squared(rows(panel.demean(y)), rows(panel.demean(xb)), ones),
        squared(panel.entity_means(y), panel.entity_means(xb), panel.entity_ones),
        squared(rows(y), rows(xb), ones),
    )


def inclusive_rsquared(
    panel: PanelData, estimate: PanelEstimate, resid: FloatArray
) -> tuple[float, float]:
    """R squared of fixed effects or pooled least squares, plain and adjusted."""
    if estimate.kind not in ("fe", "pooled"):
        return np.nan, np.nan
    centred = estimate.kind == "fe" or panel.constant is not None
    total = panel.by_root(panel.centre(panel.y) if centred else panel.y)
    left = panel.by_root(resid)
    ratio = float(left @ left) / float(total @ total)
    return 1.0 - ratio, 1.0 - ratio * (panel.nobs - centred) / estimate.df_resid


def transformed_rsquared(panel: PanelData, estimate: PanelEstimate) -> float:
    """R squared of the transformed regression; NaN for fits with AR(1) errors."""
    if estimate.kind.endswith("_ar1"):
        return np.nan
    regression = estimate.regression
    coef = np.linalg.solve(estimate.back, estimate.params)
    y = regression.x @ coef + regression.resid
    if panel.constant in estimate.columns:
        ones = np.ones(len(y)) if regression.root is None else regression.root
        y = y - ones * (ones @ y) / (ones @ ones)
    return 1.0 - float(regression.resid @ regression.resid) / float(y @ y)


def squared(a: FloatArray, b: FloatArray, ones: FloatArray | None = None) -> float:
    """
    Squared correlation; 0 if `b` does not vary, NaN if `a` does not.

    Parameters
    ----------
    a, b, ones : ndarray, shape (n,)
        Weighted or turned, as `ones`, a constant, is.

    Returns
    -------
    float
    """
    scale = np.abs(b).max(initial=0.0)
    ones = np.ones(len(a)) if ones is None else ones
    a, b = (v - ones * ((ones @ v) / (ones @ ones)) for v in (a, b))
    total, explained = float(a @ a), float(b @ b)
    if total == 0.0:
        return np.nan
    # rounding of a constant is no variation
    if explained <= len(b) * (1e-13 * scale) ** 2:
        return 0.0
    return float(a @ b) ** 2 / (total * explained)
