"""
Correlations and variances of residuals at any positions, without derivatives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.exceptions import StructureError, TimeError
from mixedar.jets import Jet
from mixedar.residual import (
    FormulaStructure,
    Heteroscedastic,
    Independent,
    MarkovStructure,
    Nugget,
    ResidualStructure,
    Stratified,
    Toeplitz,
)

__all__ = [
    "correlation_marks",
    "correlation_part",
    "correlations",
    "is_correlated",
    "relative_sd",
    "variance_marks",
]

FloatArray = NDArray[np.float64]


def correlation_part(
    structure: ResidualStructure, params: FloatArray
) -> tuple[ResidualStructure, FloatArray]:
    """
    The structure without its variance function, and its own parameters.

    Parameters
    ----------
    structure : ResidualStructure
    params : ndarray, shape (k_params,)

    Returns
    -------
    structure : ResidualStructure
    params : ndarray
    """
    if isinstance(structure, Heteroscedastic):
        inner, _, own = structure.inner(None, params)
        return inner, own
    return structure, params


def is_correlated(structure: ResidualStructure) -> bool:
    """Whether residuals of a series tell of one another."""
    inner, _ = correlation_part(structure, np.empty(0))
    return not isinstance(inner, Independent)


def correlation_marks(structure: ResidualStructure) -> slice:
    """Which of the structure's marks its correlations depend on."""
    inner, _ = correlation_part(structure, np.empty(0))
    return slice(0, len(inner.marks))


def variance_marks(structure: ResidualStructure) -> slice:
    """Which of the structure's marks its variance function reads."""
    return slice(correlation_marks(structure).stop, len(structure.marks))


def relative_sd(
    structure: ResidualStructure, marks: FloatArray, params: FloatArray
) -> FloatArray:
    """
    Standard deviations of residuals, relative to ``sigma``.

    Parameters
    ----------
    structure : ResidualStructure
    marks : ndarray, shape (k, c)
        What the structure reads of the rows beside the time.
    params : ndarray, shape (k_params,)

    Returns
    -------
    ndarray, shape (k,)

    Raises
    ------
    StructureError
        If the variance function has no value at a row.
    """
    if not isinstance(structure, Heteroscedastic):
        return np.ones(len(marks))
    with np.errstate(all="ignore"):
        sd = structure.row_scales(marks, params)
    bad = ~(np.isfinite(sd) & (sd > 0.0))
    if bad.any():
        here = marks[int(np.argmax(bad)), variance_marks(structure)]
        read = structure.variance.marks
        values = " and ".join(
            f"{mark.column or 'time'!r} is {value:g}"
            for mark, value in zip(read, here, strict=True)
            if mark.kind == "number"
        )
        raise StructureError(
            f"{structure.variance.label}: there is no standard deviation where "
            f"{values}, in {int(bad.sum())} of {len(bad)} rows"
        )
    return sd


def correlations(
    structure: ResidualStructure, a: FloatArray, b: FloatArray, params: FloatArray
) -> FloatArray:
    """
    Correlations of the residuals of pairs of different rows of a series.

    Parameters
    ----------
    structure : ResidualStructure
        Without a variance function.
    a, b : ndarray, shape (l, 1 + c)
        Positions of the rows.
    params : ndarray, shape (k_params,)

    Returns
    -------
    ndarray, shape (l,)
        Two measurements of one quantity are different rows too: at one position
        a nugget leaves less than one.

    Raises
    ------
    TimeError
        If the structure knows no correlation at such a distance.
    """
    return _of_cells(structure, structure.cells(a, b), params)


def _of_cells(structure: Any, cells: FloatArray, params: FloatArray) -> FloatArray:
    # the contract's cell_values has derivatives of second order, which are large
    if isinstance(structure, Nugget):
        inner = _of_cells(structure.structure, cells, params[:-1])
        return (1.0 - params[-1]) * inner
    if isinstance(structure, Stratified):
        out = np.zeros(len(cells))
        own = params.reshape(len(structure.strata), -1)
        for stratum in np.unique(cells[:, 0]).astype(np.intp):
            here = cells[:, 0] == stratum
            out[here] = _of_cells(structure.structure, cells[here, 1:], own[stratum])
        return out
    if isinstance(structure, MarkovStructure):
        return np.asarray(structure.correlation_at(cells[:, 0], params))
    if isinstance(structure, Toeplitz):
        _check_lags(structure, cells)
    if isinstance(structure, FormulaStructure):
        values = structure.correlations(cells, params)
    else:
        values = structure.cell_values(cells, structure.to_unconstrained(params))
    values = values.value if isinstance(values, Jet) else values
    return np.array(np.broadcast_to(values, len(cells)), dtype=np.float64)


def _check_lags(structure: Toeplitz, cells: FloatArray) -> None:
    """Correlations are known at multiples of the data's own step alone."""
    off = np.flatnonzero(np.rint(cells[:, 0]) % structure.unit)
    if len(off):
        raise TimeError(
            f"{structure.label} residuals: times of the data are multiples of "
            f"{structure.unit} apart, and no correlation is known at a distance of "
            f"{cells[off[0], 0]:g}, which is asked for"
        )
