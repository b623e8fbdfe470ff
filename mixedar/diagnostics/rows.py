"""
Series of observations in the order of time, with the distances between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.exceptions import NotComputedError, TimeError, UnsupportedError
from mixedar.grouped import GroupedRows, group_rows
from mixedar.residual import Independent
from mixedar.timeaxis import time_axis
from mixedar.validate import check_finite, check_lengths, float_array, group_codes

__all__ = ["SeriesRows", "arranged", "rows_of", "unwrapped"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class SeriesRows:
    """
    Rows sorted by group, series and time.

    Attributes
    ----------
    grouped : GroupedRows
        The order, and the way back to the caller's.
    first : ndarray of bool, shape (n,)
        Whether a sorted row begins a series.
    time : ndarray, shape (n,)
        Time since the series began, in sorted order.
    unit : str or None
        What one unit of time is; None for numbers that count as they are.
    """

    grouped: GroupedRows
    first: NDArray[np.bool_]
    time: FloatArray
    unit: str | None

    @cached_property
    def starts(self) -> IntArray:
        """First rows of the series, shape (number of series,)."""
        return np.flatnonzero(self.first)

    @cached_property
    def lengths(self) -> IntArray:
        """Rows of each series, shape (number of series,)."""
        return np.diff(np.append(self.starts, len(self.first)))

    @cached_property
    def position(self) -> IntArray:
        """Number of a row within its series, from 0, shape (n,)."""
        return np.arange(len(self.first)) - np.repeat(self.starts, self.lengths)

    @cached_property
    def gaps(self) -> FloatArray:
        """Distances to the row before, within series and positive ones only."""
        inside = np.flatnonzero(~self.first)
        gaps = self.time[inside] - self.time[inside - 1]
        return gaps[gaps > 0.0]

    @property
    def offsets(self) -> IntArray:
        """Group ``i`` holds the sorted rows ``offsets[i]:offsets[i + 1]``."""
        return self.grouped.offsets

    def sort(self, x: FloatArray) -> FloatArray:
        """Bring rows from the caller's order into sorted order."""
        return self.grouped.sort(x)

    def unsort(self, x: FloatArray) -> FloatArray:
        """Bring rows from sorted order back into the caller's."""
        return self.grouped.unsort(x)


def _series_rows(grouped: GroupedRows, unit: str | None) -> SeriesRows:
    # a gap of NaN marks a time that occurs twice: distance zero, same series
    first = grouped.gaps == 0.0
    total = np.cumsum(np.nan_to_num(grouped.gaps))
    starts = np.flatnonzero(first)
    lengths = np.diff(np.append(starts, len(first)))
    return SeriesRows(grouped, first, total - np.repeat(total[starts], lengths), unit)


def arranged(
    values: Any, groups: Any = None, time: Any = None, series: Any = None
) -> tuple[FloatArray, SeriesRows]:
    """
    Sort values by group, series and time.

    Parameters
    ----------
    values : array_like, shape (n,)
    groups : array_like, shape (n,), optional
        Labels; one group by default.
    time : array_like, shape (n,), optional
        Numbers, dates or periods; the order of the rows by default.
    series : array_like, shape (n,), optional
        Series inside the groups.

    Returns
    -------
    values : ndarray, shape (n,)
        In sorted order.
    rows : SeriesRows

    Raises
    ------
    LengthError, MissingDataError, TimeError, UnsupportedError
        If the arrays cannot be used.
    """
    x = float_array(values, "values")
    if x.ndim != 1 or len(x) == 0:
        raise UnsupportedError(
            f"values has the shape {x.shape}; pass one number for each observation"
        )
    check_lengths(len(x), groups=groups, time=time, series=series)
    index = values.index if isinstance(values, pd.Series) else None
    check_finite(x, ["values"], "the", index)
    codes = np.zeros(len(x), dtype=np.intp)
    if groups is not None:
        codes = group_codes(groups)[0]
    series_codes = None if series is None else group_codes(series, "series")[0]
    times: FloatArray | None = None
    unit: str | None = "row"
    if time is not None:
        name = str(getattr(time, "name", None) or "time")
        axis = time_axis(time, Independent(), name)
        times, unit = axis.values, axis.unit
    rows = _series_rows(group_rows(codes, times, series_codes), unit)
    return rows.sort(x), rows


def unwrapped(fit: Any) -> Any:
    """
    The results behind statsmodels' wrapper, with their data.

    Parameters
    ----------
    fit : MixedLMARResults or its wrapper

    Returns
    -------
    MixedLMARResults

    Raises
    ------
    NotComputedError
        If the data were removed.
    """
    fit = getattr(fit, "_results", fit)
    if getattr(fit.model, "endog", None) is None:
        raise NotComputedError(
            "the data were removed from this fit; residuals and simulations need "
            "them: fit again and keep the data"
        )
    return fit


def rows_of(fit: Any) -> SeriesRows:
    """
    The rows of a fit in the order of time.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    SeriesRows
        Of structures that need no times (independence, compound symmetry) the
        rows are put into the order of the model's times all the same; those of
        occasions that are no times keep the order of the occasions.
    """
    model = fit.model
    unit = None if model.time_unit == "1" else model.time_unit
    own = fit.structure.uses_time and fit.structure.needs_distinct_times
    if own:
        return _series_rows(model._grouped, unit)
    values, series = None, None
    if model.time is not None:
        name = str(getattr(model.time, "name", None) or "time")
        try:
            axis = time_axis(pd.Series(model.time), Independent(), name)
        except TimeError:
            return _series_rows(model._grouped, unit)
        values, unit = axis.values, axis.unit
    if model.series is not None:
        series = group_codes(model.series, "series")[0]
    return _series_rows(group_rows(model._codes, values, series, model.n_groups), unit)
