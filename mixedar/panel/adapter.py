"""
Between the panel and linearmodels: standardised columns out, estimates back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.panel.data import PanelData

__all__ = ["Standardized", "frames", "lean", "standardize"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Standardized:
    """
    Columns with a mean of zero and a length of one, and the way back.

    linearmodels judges columns by their length, offset included, and solves least
    squares with a tolerance relative to the largest column: years, prices in cents
    or tiny units would be taken for absorbed or collinear.

    Attributes
    ----------
    x : ndarray, shape (n, k)
        Standardised columns; the constant is 1.
    back : ndarray, shape (k, k)
        Turns coefficients of `x` into those of the original columns.
    """

    x: FloatArray
    back: FloatArray

    def params(self, values: FloatArray) -> FloatArray:
        """Coefficients of the original columns, shape (k,)."""
        return self.back @ values

    def cov(self, values: FloatArray) -> FloatArray:
        """Covariance of the coefficients of the original columns, shape (k, k)."""
        cov = self.back @ values @ self.back.T
        return 0.5 * (cov + cov.T)


def standardize(
    x: FloatArray, constant: int | None, center: bool | None = None
) -> Standardized:
    """
    Standardise the columns of a design.

    Parameters
    ----------
    x : ndarray, shape (n, k)
    constant : int or None
        Position of the constant column.
    center : bool, optional
        Subtract means, which needs a constant or effects that take them up; by
        default if there is a constant.

    Returns
    -------
    Standardized
    """
    k = x.shape[1]
    center = constant is not None if center is None else center
    means = x.mean(axis=0) if center else np.zeros(k)
    level = 1.0
    if constant is not None:
        level = float(x[0, constant])
        means[constant] = 0.0
    out = x - means
    scale = np.sqrt(np.einsum("ij,ij->j", out, out) / max(len(out), 1))
    scale[scale == 0.0] = 1.0
    if constant is not None:
        scale[constant] = level
    out /= scale
    back = np.diag(1.0 / scale)
    if constant is not None:
        slopes = np.arange(k) != constant
        back[constant, slopes] = -means[slopes] / scale[slopes] / level
    return Standardized(out, back)


def frames(
    panel: PanelData, y: FloatArray, x: FloatArray, rows: Any = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    Response and columns as linearmodels takes them.

    Parameters
    ----------
    panel : PanelData
    y : ndarray, shape (r,)
    x : ndarray, shape (r, k)
    rows : ndarray of int, shape (r,), optional
        Sorted rows of the panel; all by default.

    Returns
    -------
    y, x : DataFrame
        Indexed by entity and period numbers.
    """
    codes: Any = [panel.entity, panel.time]
    levels: Any = [range(panel.n_entities), range(panel.n_periods)]
    if rows is not None:
        codes = [c[rows] for c in codes]
    # nothing is factorised again
    index = pd.MultiIndex(
        levels=levels,
        codes=codes,
        names=["entity", "time"],
        verify_integrity=False,
    )
    names = pd.Index([f"x{j}" for j in range(x.shape[1])])
    return (
        pd.DataFrame(y[:, None], index=index, columns=["y"], copy=False),
        pd.DataFrame(x, index=index, columns=names, copy=False),
    )


def lean(model: type[Any]) -> type[Any]:
    """
    A linearmodels estimator that leaves out what the package computes itself.

    R-squared and the F test of all slopes take more than half of the time of a
    fit; here they are computed when they are asked for.  The methods are
    linearmodels' own internals: should they be renamed, fits are slower again and
    nothing else.

    Parameters
    ----------
    model : type
        ``PanelOLS``, ``RandomEffects`` or ``PooledOLS``.

    Returns
    -------
    type
        A subclass.
    """
    from linearmodels.shared.hypotheses import InapplicableTestStatistic

    nothing = float("nan")

    class Lean(model):
        def _rsquared(self, *args: Any, **kwargs: Any) -> tuple[float, float, float]:
            return nothing, nothing, nothing

        def _rsquared_corr(
            self, *args: Any, **kwargs: Any
        ) -> tuple[float, float, float]:
            return nothing, nothing, nothing

        def _f_statistic(self, *args: Any, **kwargs: Any) -> Any:
            return InapplicableTestStatistic(reason="left out", name="F")

    return Lean
