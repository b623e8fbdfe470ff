"""
Wald intervals for the parameters of a residual structure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from mixedar.residual import ResidualStructure

__all__ = ["residual_intervals"]

FloatArray = NDArray[np.float64]


def residual_intervals(
    structure: ResidualStructure,
    u: FloatArray,
    bse: FloatArray,
    z: float,
    *,
    named: bool = False,
) -> FloatArray:
    """
    Intervals that stay inside the parameter space.

    A parameter that depends on one unconstrained coordinate alone has its
    interval along that (as nlme); others on the scale that the structure names
    (the delta method).

    Parameters
    ----------
    structure : ResidualStructure
        Bound to the data.
    u : ndarray, shape (k_free,)
    bse : ndarray, shape (k_params,)
        Standard errors of the parameters.
    z : float
        Quantile of the normal distribution.
    named : bool
        Prefer the scale that the structure names, as nlme's ``intervals``.

    Returns
    -------
    ndarray, shape (k_params, 2)
        NaN where there is no standard error or the parameter is held.
    """
    natural = structure.natural(u)
    out = np.full((len(bse), 2), np.nan)
    for j in range(len(bse)):
        slopes = natural.first[:, j]
        used = np.flatnonzero(slopes)
        if not (np.isfinite(bse[j]) and bse[j] > 0.0 and len(used)):
            continue
        value = float(natural.value[j])
        link = structure.links[j]
        if len(used) == 1 and not (named and link != "identity"):
            width = z * bse[j] / slopes[used[0]]
            for side, sign in enumerate((-1.0, 1.0)):
                moved = np.array(u, dtype=np.float64)
                moved[used[0]] += sign * width
                out[j, side] = structure.from_unconstrained(moved)[j]
            out[j].sort()
        elif link == "correlation":
            half = z * bse[j] / (1.0 - value**2)
            center = np.arctanh(value)
            out[j] = np.tanh(center - half), np.tanh(center + half)
        elif link == "log":
            factor = np.exp(z * bse[j] / value)
            out[j] = value / factor, value * factor
        elif link == "share":
            half = z * bse[j] / (value * (1.0 - value))
            out[j] = expit(logit(value) - half), expit(logit(value) + half)
        else:
            out[j] = value - z * bse[j], value + z * bse[j]
    return out
