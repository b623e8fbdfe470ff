"""
The rows asked for, as arrays on the scale of the fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.exceptions import MixedARError

__all__ = ["Places", "Request"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class Places:
    """
    Series and times of the rows asked for, and of the fit's own.

    Attributes
    ----------
    series : ndarray of int, shape (k,)
        Numbers; -1 for series that are not in the fit.
    time : ndarray, shape (k,)
    fitted_series : ndarray of int, shape (n,)
    fitted_time : ndarray, shape (n,)
    """

    series: IntArray
    time: FloatArray
    fitted_series: IntArray
    fitted_time: FloatArray


@dataclass(frozen=True)
class Request:
    """
    Rows to predict.

    Attributes
    ----------
    exog : ndarray, shape (k, p)
    exog_re : ndarray, shape (k, q)
        Columns of all random effects of the row's group, components included.
    new_effects : ndarray, shape (k,)
        Variance of the effects that the fit knows nothing of (levels of variance
        components that the group did not have).
    codes : ndarray of int, shape (k,)
        Numbers of the groups; -1 for unknown ones.
    places : Places or None
        For forecasts.
    index : Index
        Labels of the rows.
    marks : ndarray, shape (k, c), or None
        What the residual structure reads of the rows beside the time, NaN for
        fitted values and what is not needed.  None if it cannot be told, which
        forecasts do not allow.
    lacking : MixedARError or None
        Why the marks cannot be told.
    """

    exog: FloatArray
    exog_re: FloatArray
    new_effects: FloatArray
    codes: IntArray
    places: Places | None
    index: pd.Index
    marks: FloatArray | None
    lacking: MixedARError | None = None

    def split(self) -> tuple[IntArray, IntArray]:
        """Rows of known groups, group by group, and those of unknown ones."""
        known = np.flatnonzero(self.codes >= 0)
        codes = self.codes[known]
        if not (np.diff(codes) >= 0).all():
            known = known[np.argsort(codes, kind="stable")]
        return known, np.flatnonzero(self.codes < 0)

    def take(self, rows: IntArray) -> Request:
        """Some of the rows."""
        if len(rows) == len(self.codes) and (np.diff(rows) == 1).all():
            return self
        places = self.places
        if places is not None:
            places = replace(places, series=places.series[rows], time=places.time[rows])
        return Request(
            self.exog[rows],
            self.exog_re[rows],
            self.new_effects[rows],
            self.codes[rows],
            places,
            self.index[rows],
            None if self.marks is None else self.marks[rows],
            self.lacking,
        )
