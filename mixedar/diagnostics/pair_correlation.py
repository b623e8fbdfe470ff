"""
The correlation of the errors of pairs of observations, by the fitted structure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.diagnostics.lags import Measure, Rows
from mixedar.diagnostics.rows import SeriesRows
from mixedar.moments.residual_matrices import unique_rows
from mixedar.residual import Heteroscedastic, Independent, MarkovStructure

__all__ = ["by_distance", "pair_correlation"]

FloatArray = NDArray[np.float64]


def _correlation_part(structure: Any) -> Any:
    """The structure without its variance function."""
    return structure.structure if isinstance(structure, Heteroscedastic) else structure


def by_distance(fit: Any) -> bool:
    """Whether correlations depend on nothing but the distance in time."""
    inner = _correlation_part(fit.structure)
    return isinstance(inner, Independent) or bool(
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
    inner, params = _correlation_part(fit.structure), fit._residual_values
    if isinstance(inner, Independent):
        return lambda later, earlier, distance: np.zeros(len(distance))
    if isinstance(inner, MarkovStructure):
        own = params[: inner.k_params]
        return lambda later, earlier, distance: inner.correlation_at(distance, own)
    if by_distance(fit):

        def stationary(later: Rows, earlier: Rows, distance: FloatArray) -> FloatArray:
            ends = np.zeros((len(distance), _width(fit)))
            begins = ends.copy()
            ends[:, 0] = distance
            return _of_pairs(fit, begins, ends)

        return stationary
    places = rows.sort(_positions(fit))

    def placed(later: Rows, earlier: Rows, distance: FloatArray) -> FloatArray:
        return _of_pairs(fit, places[earlier], places[later])

    return placed


def _of_pairs(fit: Any, a: FloatArray, b: FloatArray) -> FloatArray:
    """Correlations of rows at positions, each kind of pair once."""
    cells, which = unique_rows(fit.structure.cells(a, b))
    u = np.asarray(fit._u, dtype=np.float64)
    values = fit.structure.cell_values(cells, u).value
    return np.asarray(np.broadcast_to(values, len(cells))[which], dtype=np.float64)


def _width(fit: Any) -> int:
    """Numbers in the position of a row."""
    marks = fit.model._grouped.marks
    return 1 if marks is None else 1 + marks.shape[1]


def _positions(fit: Any) -> FloatArray:
    """What the structure reads of the rows, in the caller's order."""
    grouped = fit.model._grouped
    gaps = grouped.gaps
    total = np.cumsum(gaps)
    starts = np.flatnonzero(gaps == 0.0)
    lengths = np.diff(np.append(starts, len(gaps)))
    time = (total - np.repeat(total[starts], lengths))[:, None]
    if grouped.marks is not None:
        time = np.concatenate([time, grouped.marks], axis=1)
    return grouped.unsort(time)
