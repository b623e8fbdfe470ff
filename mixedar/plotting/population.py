"""
Mean of the population along the horizontal axis, with its interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mixedar.inference.arguments import check_alpha
from mixedar.inference.marginal_means import marginal_means
from mixedar.plotting.curves import is_factor
from mixedar.plotting.rows import PictureRows

__all__ = ["MeanCurve", "mean_curve", "total_sd"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

# More positions than this are put together before averaging.
_MOST_POSITIONS = 40


@dataclass(frozen=True)
class MeanCurve:
    """
    Population means along the horizontal axis.

    Attributes
    ----------
    x : ndarray, shape (k,)
        Floats or ``datetime64``, increasing.
    mean, lower, upper : ndarray, shape (k,)
        Means and their confidence intervals.
    """

    x: NDArray[Any]
    mean: FloatArray
    lower: FloatArray
    upper: FloatArray


def mean_curve(
    fit: Any,
    rows: PictureRows,
    where: IntArray,
    alpha: float,
    by: str | None = None,
    level: Any = None,
    points: int = 41,
) -> MeanCurve:
    """
    The population mean, for one level of a factor or for all.

    If the formula has the horizontal variable, and the factor, these are marginal
    means: other factors averaged with the frequencies of the data, other numeric
    variables at their means.  Otherwise the mean of the fixed part over the rows
    at each position (over neighbouring ones, if there are many positions).

    Parameters
    ----------
    fit : MixedLMARResults
    rows : PictureRows
    where : ndarray of int
        The rows of the level.
    alpha : float
        1 - coverage of the intervals.
    by : str, optional
        A factor of the formula.
    level : optional
        Its level.
    points : int
        Points of the curve.

    Returns
    -------
    MeanCurve
    """
    fit = getattr(fit, "_results", fit)
    check_alpha(alpha)
    spec = getattr(fit.model, "formula_spec", None)
    known = set() if spec is None else set(spec.variables)
    dates = rows.x.dtype.kind == "M"
    stranger = len(where) < len(rows.y) and by not in known
    if rows.x_name not in known or dates or stranger:
        return _observed_means(fit, rows, where, alpha)
    column = fit.model.data.frame[rows.x_name].iloc[where]
    if is_factor(fit, rows):
        values = sorted(column.unique().tolist(), key=_rank(fit, rows.x_name))
        x = np.array([_place(rows, where, column, value) for value in values])
    else:
        inner = np.linspace(column.min(), column.max(), points)
        x = np.union1d(inner, column.unique()) if len(column) < 1e5 else inner
        values = x.tolist()
    at: dict[str, Any] = {str(rows.x_name): values}
    if by in known:
        at[str(by)] = [level]
    means = marginal_means(
        fit, str(rows.x_name), at=at, df="normal", weights="proportional"
    )
    return _with_interval(fit, x, means.matrix, alpha)


def _rank(fit: Any, name: Any) -> Any:
    """Order of the levels of a factor."""
    levels = fit.model.formula_spec.levels.get(name)
    if levels is None:
        return lambda value: value
    order = {level: k for k, level in enumerate(levels)}
    return lambda value: order[value]


def _place(rows: PictureRows, where: IntArray, column: pd.Series, value: Any) -> float:
    return float(rows.x[where][(column == value).to_numpy()][0])


def _observed_means(
    fit: Any, rows: PictureRows, where: IntArray, alpha: float
) -> MeanCurve:
    """Mean of the fixed part of the rows at each position."""
    places, code = np.unique(rows.x[where], return_inverse=True)
    if len(places) > _MOST_POSITIONS:
        rank = np.argsort(np.argsort(rows.x[where], kind="stable"), kind="stable")
        code = rank * _MOST_POSITIONS // len(where)
    count = np.bincount(code)
    design = np.stack(
        [np.bincount(code, column) / count for column in fit.model.exog[where].T], 1
    )
    dates = rows.x.dtype.kind == "M"
    heights = rows.x[where]
    if dates:
        heights = heights.astype("datetime64[ns]").astype(np.int64)
        first = heights.min()
        middle = np.bincount(code, heights - first) / count
        x = (middle.round().astype(np.int64) + first).astype("datetime64[ns]")
    else:
        x = np.bincount(code, heights) / count
    return _with_interval(fit, x, design, alpha)


def _with_interval(
    fit: Any, x: NDArray[Any], design: FloatArray, alpha: float
) -> MeanCurve:
    """Means of rows of a design, with intervals by the normal distribution."""
    p = fit.k_fe
    cov = np.asarray(fit.cov_params())[:p, :p]
    mean = design @ np.asarray(fit.fe_params)
    variance = np.einsum("ij,jk,ik->i", design, cov, design)
    half = stats.norm.isf(alpha / 2.0) * np.sqrt(np.maximum(variance, 0.0))
    return MeanCurve(x, mean, mean - half, mean + half)


def total_sd(fit: Any, rows: PictureRows, where: IntArray, x: NDArray[Any]) -> Any:
    """
    Standard deviation of an observation around the population mean.

    From the random effects, variance components and residuals of the rows,
    averaged at each position and interpolated between them.

    Parameters
    ----------
    fit : MixedLMARResults
    rows : PictureRows
    where : ndarray of int
        The rows of the level.
    x : ndarray, shape (k,)
        Positions.

    Returns
    -------
    ndarray, shape (k,)
    """
    fit = getattr(fit, "_results", fit)
    variance = _row_variances(fit)[where]
    dates = rows.x.dtype.kind == "M"
    heights = rows.x[where].astype("datetime64[ns]") if dates else rows.x[where]
    wanted = x.astype("datetime64[ns]").astype(float) if dates else x
    places, code = np.unique(heights.astype(float), return_inverse=True)
    average = np.bincount(code, variance) / np.bincount(code)
    return np.sqrt(np.interp(wanted, places, average))


def _row_variances(fit: Any) -> FloatArray:
    """Variance of each row, shape (n,); the only use of the covariance here."""
    model, grouped = fit.model, fit.model._grouped
    variance = np.full(model.nobs, float(fit.scale))
    if grouped.marks is not None:
        positions = np.column_stack([np.zeros(model.nobs), grouped.marks])
        logs = fit.structure.log_sd(positions, fit._u)
        if logs is not None:
            variance *= np.exp(2.0 * grouped.unsort(logs.value))
    if fit.k_re:
        z = np.asarray(model.exog_re)
        variance += np.einsum("ij,jk,ik->i", z, np.asarray(fit.cov_re), z)
    for value, matrix in zip(fit.vcomp, model._vc.matrices, strict=True):
        variance += value * np.einsum("ij,ij->i", matrix, matrix)
    return variance
