"""
The correlation of the errors of pairs of observations, by the fitted structure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.diagnostics.lags import Measure, Rows
from mixedar.diagnostics.rows import SeriesRows
from mixedar.prediction.correlations import (
    correlation_part,
    correlations,
    is_correlated,
)

__all__ = ["by_distance", "pair_correlation"]

FloatArray = NDArray[np.float64]


def by_distance(fit: Any) -> bool:
    """Whether correlations depend on nothing but the distance in time."""
    inner, _ = correlation_part(fit.structure, fit._residual_values)
    return not is_correlated(fit.structure) or (
        inner.uses_time and not len(inner.marks)
    )


def pair_correlation(fit: Any, rows: SeriesRows) -> Measure:
    """
    Correlations of the errors of pairs.

    Parameters
    ----------
    fit : MixedLMARResults
    rows : SeriesRows

    Returns
    -------
    callable
        Of the later and the earlier rows of the pairs, and their distances.
    """
    inner, params = correlation_part(fit.structure, fit._residual_values)
    if not is_correlated(fit.structure):
        return lambda later, earlier, distance: np.zeros(len(distance))
    if by_distance(fit):

        def stationary(later: Rows, earlier: Rows, distance: FloatArray) -> FloatArray:
            ends = distance[:, None]
            return correlations(inner, np.zeros(ends.shape), ends, params)

        return stationary
    places = rows.sort(_positions(fit, len(inner.marks)))

    def placed(later: Rows, earlier: Rows, distance: FloatArray) -> FloatArray:
        return correlations(inner, places[earlier], places[later], params)

    return placed


def _positions(fit: Any, marks: int) -> FloatArray:
    """What the structure reads of the rows, in the caller's order."""
    grouped = fit.model._grouped
    gaps = grouped.gaps
    total = np.cumsum(gaps)
    starts = np.flatnonzero(gaps == 0.0)
    lengths = np.diff(np.append(starts, len(gaps)))
    time = (total - np.repeat(total[starts], lengths))[:, None]
    if marks:
        time = np.concatenate([time, grouped.marks[:, :marks]], axis=1)
    return grouped.unsort(time)
