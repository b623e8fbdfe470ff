"""
AR(1) errors in panels with gaps: transformation, rho, and tests that it is zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.exceptions import IdentificationError, TimeError, UnsupportedError
from mixedar.panel.data import PanelData

RHO_METHODS = ("dw", "regress", "freg", "tscorr", "theil", "nagar", "onestep")
# As Stata's prais: steps end when rho changes by less.
_TOLERANCE = 1e-6
_STEPS = 100


def ar1_transform(values: FloatArray, rho: float, gaps: FloatArray) -> FloatArray:
    """
    Remove the correlation of AR(1) errors; Baltagi and Wu's ``C_i(rho)``.

    An entity's first row becomes ``sqrt(1 - rho^2) v_1``, a row that follows at
    the distance d ``sqrt((1 - rho^2) / (1 - rho^(2d))) (v_t - rho^d v_(t-d))``.
    Transformed errors are uncorrelated with the variance of the innovations.

    Parameters
    ----------
    values : ndarray, shape (n,) or (n, k)
        Sorted by entity and time.
    rho : float
        Between -1 and 1.
    gaps : ndarray, shape (n,)
        Whole distances to the entity's row before, 0 at its first.

    Returns
    -------
    ndarray, shape of `values`

    References
    ----------
    Baltagi, B. H. and Wu, P. X. (1999), Unequally spaced panel data regressions
    with AR(1) disturbances, Econometric Theory 15, 814-823.
    """
    power = np.where(gaps > 0.0, np.power(rho, gaps), 0.0)
    scale = np.sqrt((1.0 - rho) * (1.0 + rho) / ((1.0 - power) * (1.0 + power)))
    # no correlation with anything before: the error keeps its full variance
    scale[gaps == 0.0] = np.sqrt((1.0 - rho) * (1.0 + rho))
    shape = (-1,) + (1,) * (values.ndim - 1)
    out = values * scale.reshape(shape)
    out[1:] -= (scale[1:] * power[1:]).reshape(shape) * values[:-1]
    return out


def check_steps(panel: PanelData) -> None:
    """
    Raise unless AR(1) errors can be defined and their rho estimated.

    Parameters
    ----------
    panel : PanelData

    Raises
    ------
    TimeError
        If times are not on a grid, or no two of them follow one another.
    """
    if not panel.on_grid:
        raise TimeError(
            f"AR(1) errors need whole or equally spaced times, and {panel.time_name!r} "
            f"is neither; {panel.spacing_remedy}"
        )
    if not panel.neighbours.any():
        raise TimeError(f"rho cannot be estimated: {panel.no_neighbours()}")


def estimate_rho(
    panel: PanelData,
    y: FloatArray,
    x: FloatArray,
    method: str = "dw",
    two_step: bool = False,
) -> float:
    """
    Estimate rho from the within regression, as Stata's ``xtregar``.

    Residuals of the entity-demeaned data give rho; Prais and Winsten's regression
    with that rho gives new residuals, until rho settles.

    Parameters
    ----------
    panel : PanelData
    y : ndarray, shape (n,)
        Entity-demeaned response.
    x : ndarray, shape (n, k)
        Entity-demeaned regressors of full rank.
    method : str
        With e the residuals, l those one unit before, sums of products over the m
        pairs one unit apart, n rows and k columns:

        - ``"dw"``: ``1 - d / 2``, d the Durbin-Watson statistic;
        - ``"regress"``: ``sum(e l) / sum(l^2)``;
        - ``"freg"``: the same for l on e;
        - ``"tscorr"``: ``sum(e l) / sum(e^2)``, the denominator over all rows;
        - ``"theil"``: ``tscorr (n - k) / n``;
        - ``"nagar"``: ``(dw n^2 + k^2) / (n^2 - k^2)``;
        - ``"onestep"``: ``tscorr n / m``, Baltagi and Wu's, without iteration.
    two_step : bool
        Stop after the first regression with transformed data.

    Returns
    -------
    float

    Raises
    ------
    UnsupportedError
        For an unknown method.
    IdentificationError
        If the estimate is not between -1 and 1, or does not settle.
    """
    if method not in RHO_METHODS:
        raise UnsupportedError(
            f"rho_method={method!r}: choose one of {', '.join(map(repr, RHO_METHODS))}"
        )
    follows = np.flatnonzero(panel.neighbours)

    def prais(values: FloatArray, rho: float) -> FloatArray:
        # a row after a gap starts anew
        out = values * np.sqrt((1.0 - rho) * (1.0 + rho))
        out[follows] = values[follows] - rho * values[follows - 1]
        return out

    def residuals(rho: float) -> FloatArray:
        coef = np.linalg.lstsq(prais(x, rho), prais(y, rho), rcond=None)[0]
        return y - x @ coef

    rho = _checked(_rho(residuals(0.0), follows, x.shape[1], method), method)
    if method == "onestep":
        return rho
    for _ in range(1 if two_step else _STEPS):
        before, rho = rho, _rho(residuals(rho), follows, x.shape[1], method)
        _checked(rho, method)
        if abs(rho - before) < _TOLERANCE or two_step:
            return rho
    raise IdentificationError(
        f"the estimate of rho does not settle within {_STEPS} steps; pass "
        "two_step=True, another rho_method= or rho="
    )


def _rho(e: FloatArray, follows: NDArray[np.intp], k: int, method: str) -> float:
    n, now, before = len(e), e[follows], e[follows - 1]
    cross, total = float(now @ before), float(e @ e)
    if method in ("dw", "nagar"):
        change = now - before
        dw = 1.0 - 0.5 * float(change @ change) / total
        return dw if method == "dw" else (dw * n**2 + k**2) / (n**2 - k**2)
    if method == "regress":
        return cross / float(before @ before)
    if method == "freg":
        return cross / float(now @ now)
    factor = {"tscorr": 1.0, "theil": (n - k) / n, "onestep": n / len(follows)}
    return factor[method] * cross / total


def _checked(rho: float, method: str) -> float:
    if not -1.0 < rho < 1.0:
        raise IdentificationError(
            f"rho_method={method!r} gives rho = {rho:.6g}, which no stationary AR(1) "
            "has; choose another method or pass rho="
        )
    return rho


def durbin_watson_lbi(panel: PanelData, resid: FloatArray) -> tuple[float, float]:
    """
    Durbin-Watson and locally best invariant statistics of within residuals.

    Parameters
    ----------
    panel : PanelData
    resid : ndarray, shape (n,)
        Residuals of the within regression.

    Returns
    -------
    dw : float
        Bhargava, Franzini and Narendranathan's, modified for gaps.
    lbi : float
        Baltagi and Wu's; both are near 2 without autocorrelation.

    References
    ----------
    Bhargava, A., Franzini, L. and Narendranathan, W. (1982), Serial correlation and
    the fixed effects model, Review of Economic Studies 49, 533-549.
    Baltagi and Wu (1999), as in :func:`ar1_transform`, equation 16.
    """
    gaps = panel.gaps
    first = gaps == 0.0
    before = np.zeros_like(resid)
    before[1:] = resid[:-1]
    change = resid - np.where(panel.neighbours, before, 0.0)
    total = float(resid @ resid)
    dw = float((change[~first] ** 2).sum()) / total
    last = panel.offsets[1:] - 1
    apart = ~(panel.neighbours | first)
    ends = (before[apart] ** 2).sum() + (resid[first] ** 2).sum()
    return dw, dw + float(ends + (resid[last] ** 2).sum()) / total
