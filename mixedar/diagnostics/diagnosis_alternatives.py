"""
Richer models than the one that was fitted, and what they gain.

With few enough (compressed) rows a further variance, or serial correlation, is
added to the likelihood and everything is estimated anew: far from the estimate
that says much more than a score does, because a random slope that was left out
has made rho large, and a missed correlation the variance of a slope.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mixedar.compress import ClusterRows, compress
from mixedar.diagnostics.rows import SeriesRows, rows_of
from mixedar.optimize import find_modes
from mixedar.problem import LikelihoodProblem
from mixedar.residual import ResidualStructure, resolve

__all__ = ["Gain", "gain_of_effect", "gain_of_serial"]

FloatArray = NDArray[np.float64]

# Compressed rows up to which another fit costs next to nothing.
_CHEAP = 20_000


@dataclass(frozen=True)
class Gain:
    """
    A richer model against the fitted one.

    Attributes
    ----------
    llf : float
        Gain of the log-likelihood.
    value : float
        The new parameter: a standard deviation, or a correlation.
    p : float
        Of the likelihood-ratio test; for a variance the mixture of chi-squared
        distributions with zero and one degrees of freedom.
    """

    llf: float
    value: float
    p: float


def gain_of_effect(fit: Any, column: FloatArray) -> Gain | None:
    """
    Let the coefficient of a column vary between groups.

    Parameters
    ----------
    fit : MixedLMARResults
    column : ndarray, shape (n,)
        In the order of the model's sorted rows.

    Returns
    -------
    Gain or None
        None if that would take long.
    """
    model, grouped = fit.model, fit.model._grouped
    z = np.column_stack([grouped.sort(model._random_design()), column])
    rows = compress(
        z,
        grouped.sort(model.exog),
        grouped.sort(model.endog),
        grouped.gaps,
        grouped.offsets,
        grouped.marks,
    )
    layout = model._layout(fit.freepat, fit.params_object)
    wider = replace(
        layout,
        vc_sizes=(*layout.vc_sizes, 1),
        fixed=np.append(layout.fixed, np.nan),
    )
    best = _best(fit, rows, fit.structure, wider)
    if best is None:
        return None
    gain = max(best.llf - fit.llf, 0.0)
    sd = float(np.sqrt(max(best.cov_values[-1], 0.0)))
    p = 0.5 * float(stats.chi2.sf(2.0 * gain, 1)) if gain > 1e-8 else 1.0
    return Gain(gain, sd, p)


def gain_of_serial(fit: Any) -> Gain | None:
    """
    Let independent residuals be correlated in time.

    AR(1) for equally spaced times, CAR(1) for others.

    Parameters
    ----------
    fit : MixedLMARResults
        With independent residuals.

    Returns
    -------
    Gain or None
        `value` is the correlation a typical gap apart.  None if two observations
        share their time, or it would take long.
    """
    model, rows = fit.model, rows_of(fit)
    gaps = _gaps(rows)
    inside = gaps[~rows.first]
    if len(inside) == 0 or not (inside > 0.0).all():
        return None
    whole = bool((inside == np.rint(inside)).all())
    structure = resolve("ar1" if whole else "car1").bind(inside)
    data = compress(
        rows.sort(model._random_design()),
        rows.sort(model.exog),
        rows.sort(model.endog),
        gaps,
        rows.offsets,
    )
    layout = model._layout(fit.freepat, fit.params_object)
    best = _best(fit, data, structure, layout)
    if best is None:
        return None
    gain = max(best.llf - fit.llf, 0.0)
    times = np.array([0.0, float(np.median(inside))])
    value = float(structure.correlation(times, best.residual_params)[0, 1])
    return Gain(gain, value, float(stats.chi2.sf(2.0 * gain, 1)))


def _gaps(rows: SeriesRows) -> FloatArray:
    """Distance to the row before; 0 where a series begins."""
    gaps = np.zeros(len(rows.time))
    gaps[1:] = np.diff(rows.time)
    gaps[rows.first] = 0.0
    return gaps


def _best(
    fit: Any, rows: ClusterRows, structure: ResidualStructure, layout: Any
) -> Any:
    """The highest maximum, or None if finding it would take long."""
    if len(rows.w) > _CHEAP:
        return None
    problem = LikelihoodProblem(rows, fit.nobs, structure, layout, reml=fit.reml)
    return find_modes(problem)[0].estimate
