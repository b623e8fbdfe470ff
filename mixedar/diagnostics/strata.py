"""
Strata and covariates by which residuals are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.exceptions import MissingDataError, UnsupportedError, shown
from mixedar.plotting.rows import data_column
from mixedar.timeaxis import time_axis

__all__ = ["Strata", "read_strata"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

# Numbers with more distinct values are put into bins.
_MOST_VALUES = 10
_MOST_STRATA = 60


@dataclass(frozen=True)
class Strata:
    """
    Rows divided by a variable.

    Attributes
    ----------
    name : str
    codes : ndarray of int, shape (n,)
        Strata of the rows, in the caller's order.
    labels : list
        Names of the strata.
    values : ndarray, shape (n,), or None
        The variable itself if it is a number for which a trend makes sense.
    """

    name: str
    codes: IntArray
    labels: list[Any]
    values: FloatArray | None


def read_strata(fit: Any, by: Any, n_bins: int = _MOST_VALUES) -> Strata:
    """
    Divide the rows of a fit.

    Parameters
    ----------
    fit : MixedLMARResults
    by : str or array_like, shape (n,)
        A column of the data, ``"fitted"`` for ``X beta``, ``"time"`` for the
        times of the model unless a column has these names, or values.
        (Fitted values with predicted random effects are no covariate: they and
        the residuals come from the same errors.)
    n_bins : int
        Numbers with more than ten distinct values are put into so many bins of
        about the same size.

    Returns
    -------
    Strata

    Raises
    ------
    UnknownColumnError, LengthError
        If there is no such column, or not one value a row.
    MissingDataError
        If values are missing.
    UnsupportedError
        If all rows are in one stratum, or there are very many.
    """
    if isinstance(n_bins, bool) or not isinstance(n_bins, (int, np.integer)):
        raise UnsupportedError(f"n_bins={n_bins!r} is not a whole number")
    if n_bins < 2:
        raise UnsupportedError(f"n_bins={n_bins}: use at least two bins")
    column = _column(fit, by)
    name = str(by if isinstance(by, str) else column.name or "by")
    column = column.reset_index(drop=True)
    missing = column.isna().to_numpy()
    if missing.any():
        raise MissingDataError(
            f"by={name!r} is missing in {int(missing.sum())} rows of the fit, first in "
            f"row number {int(np.argmax(missing))}"
        )
    values = None
    dtype = column.dtype
    if dtype.kind in "mM" or isinstance(dtype, (pd.PeriodDtype, pd.DatetimeTZDtype)):
        values = time_axis(column, fit.structure, name).values
    elif pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype):
        values = column.to_numpy(dtype=np.float64)
    if values is not None and column.nunique() > _MOST_VALUES:
        bins = pd.qcut(pd.Series(values), int(n_bins), duplicates="drop")
        codes = np.asarray(bins.cat.codes, dtype=np.intp)
        labels = [f"{cut.left:.4g} to {cut.right:.4g}" for cut in bins.cat.categories]
    elif isinstance(dtype, pd.CategoricalDtype):
        used = column.cat.remove_unused_categories()
        codes, labels = np.asarray(used.cat.codes), list(used.cat.categories)
    else:
        codes, distinct = pd.factorize(column, sort=True)
        labels = list(distinct)
    if len(labels) < 2:
        raise UnsupportedError(
            f"by={name!r} is {shown(labels[0])} in all rows: there is nothing to "
            "compare"
        )
    if len(labels) > _MOST_STRATA:
        raise UnsupportedError(
            f"by={name!r} has {len(labels)} different values; for the groups of the "
            "model use by='groups', otherwise choose a coarser variable"
        )
    return Strata(name, np.asarray(codes, dtype=np.intp), labels, values)


def _column(fit: Any, by: Any) -> pd.Series:
    if isinstance(by, str):
        frame = getattr(fit.model.data, "frame", None)
        known = frame is not None and by in frame.columns
        if by == "fitted" and not known:
            return pd.Series(np.asarray(fit.fitted_marginal), name="fitted")
        if by == "time" and not known and fit.model.time is not None:
            return pd.Series(fit.model.time, name="time")
    return data_column(fit, by, "by")
