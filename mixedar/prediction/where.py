"""
Where rows stand: in which series, and at which time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.design.rows import resolve
from mixedar.exceptions import LengthError, UnsupportedError, shown
from mixedar.prediction.labels import complete_labels, without_categories
from mixedar.prediction.request import Places
from mixedar.prediction.times import times_together
from mixedar.timeaxis import time_axis

__all__ = ["count_places", "fitted_places", "new_places"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


def fitted_places(model: Any) -> tuple[IntArray, FloatArray]:
    """
    Series and times of the model's own rows.

    Parameters
    ----------
    model : MixedLMAR

    Returns
    -------
    series : ndarray of int, shape (n,)
        Numbers; rows of a series share one.
    time : ndarray, shape (n,)
        Without times in the model, places within the series from 0; zero if
        the structure does not look at distances in time.
    """
    number = _fitted_series(model)
    if not model.residual.uses_time:
        return number, np.zeros(len(number))
    if model.time is not None:
        name = getattr(model.time, "name", None) or "time"
        return number, time_axis(model.time, model.residual, name).values
    return number, _count(number)


def new_places(
    model: Any,
    codes: IntArray,
    labels: pd.Series,
    time: Any,
    series: Any,
    table: pd.DataFrame,
) -> Places:
    """
    Series and times of new rows, and those of the model with the same origin.

    Parameters
    ----------
    model : MixedLMAR
    codes : ndarray of int, shape (k,)
        Numbers of the groups, -1 for unknown ones.
    labels : Series, shape (k,)
        Labels of the groups.
    time, series : str, array_like or None
        As the caller passed them; the columns of the fit by default.
    table : DataFrame, k rows

    Returns
    -------
    Places

    Raises
    ------
    MixedARError
        If times or series are missing or do not suit those of the fit.
    """
    number, when = fitted_places(model)
    inside = None
    if model.series is not None:
        inside = _series_labels(model, series, table)
    asked = _series(model, number, codes, inside)
    if not model.residual.uses_time:
        return Places(asked, np.zeros(len(asked)), number, when)
    if model.time is None:
        new = _places_of(asked, labels, inside, number, time, table)
        return Places(asked, new, number, when)
    name = getattr(model, "time_name", None) if time is None else time
    if name is None:
        raise LengthError(
            "time= is missing: forecasts need a time for each new row, on the scale of "
            "the model's times"
        )
    column = resolve("time", name, table).values
    label = getattr(model.time, "name", None) or "time"
    old, new = times_together(model.time, column, model.residual, str(label))
    return Places(asked, new, number, old)


def count_places(
    model: Any,
    codes: IntArray,
    labels: pd.Series | None,
    time: Any,
    series: Any,
    table: pd.DataFrame,
) -> FloatArray:
    """
    Places of new rows within their series, for a model without times.

    Parameters
    ----------
    model, codes, labels, time, series, table
        As in :func:`new_places`; without labels nothing is known of the groups.

    Returns
    -------
    ndarray, shape (k,)
        Counted from 0; rows continue the series of the fit in the order in which
        they stand, unless `time` says their places.

    Raises
    ------
    LengthError
        If nothing says which series they belong to.
    UnsupportedError
        If `time` holds no places.
    """
    if time is not None:
        return _given_places(time, table)
    if labels is None:
        raise LengthError(
            "time= is missing: the model has no times, its rows count, and without "
            "groups the new rows' places in their series have to be given"
        )
    inside = None
    if model.series is not None:
        inside = _series_labels(model, series, table)
    number = _fitted_series(model)
    asked = _series(model, number, codes, inside)
    return _places_of(asked, labels, inside, number, time, table)


def _fitted_series(model: Any) -> IntArray:
    """Numbers of the series of the model's rows."""
    codes: IntArray = model._codes
    if model.series is None:
        return codes
    inside, distinct = without_categories(pd.Series(model.series)).factorize()
    return np.asarray(pd.factorize(codes * len(distinct) + inside)[0], dtype=np.intp)


def _series(
    model: Any, number: IntArray, codes: IntArray, labels: pd.Series | None
) -> IntArray:
    """Numbers of the series of new rows."""
    if labels is None:
        return codes
    first = np.unique(number, return_index=True)[1]
    fitted = without_categories(pd.Series(model.series).iloc[first])
    inside, distinct = fitted.factorize()
    span = len(distinct)
    keys = model._codes[first] * span + inside
    found = pd.Index(distinct).get_indexer(pd.Index(labels))
    known = (codes >= 0) & (found >= 0)
    asked = np.where(known, codes * span + found, -1)
    return np.asarray(pd.Index(keys).get_indexer(asked), dtype=np.intp)


def _series_labels(model: Any, series: Any, table: pd.DataFrame) -> pd.Series:
    """Labels of the series of new rows."""
    name = getattr(model.series, "name", None) if series is None else series
    if name is None:
        raise LengthError(
            "series= is missing: pass the label of its series for each new row"
        )
    known = {*table.columns, *table.index.names}
    parts: list[Any] = []
    if isinstance(name, str) and name not in known:
        parts = name.split(" / ")
    elif isinstance(name, (list, tuple)) and all(
        isinstance(part, str) and part in known for part in name
    ):
        parts = list(name)
    if len(parts) > 1:
        # several columns: the fit labelled their combinations like this
        texts = [
            map(str, resolve("series", part, table).values.tolist()) for part in parts
        ]
        joined = [" / ".join(pieces) for pieces in zip(*texts, strict=True)]
        labels = pd.Series(joined, index=table.index)
    else:
        labels = resolve("series", name, table).values
    return complete_labels(labels, "series")


def _places_of(
    asked: IntArray,
    labels: pd.Series,
    inside: pd.Series | None,
    fitted: IntArray,
    time: Any,
    table: pd.DataFrame,
) -> FloatArray:
    """Rows continue their series in the order in which they stand."""
    if time is not None:
        return _given_places(time, table)
    # series that are not in the fit begin with the new rows
    others = labels.factorize()[0]
    if inside is not None:
        codes, distinct = inside.factorize()
        others = pd.factorize(others * len(distinct) + codes)[0]
    length = np.bincount(fitted)
    count = _count(np.where(asked >= 0, asked, len(length) + others))
    return np.asarray(count + np.where(asked >= 0, length[asked], 0))


def _given_places(time: Any, table: pd.DataFrame) -> FloatArray:
    column = resolve("time", time, table).values
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(values) | (values != np.rint(values))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UnsupportedError(
            "the model has no times, its rows count: time= takes positions within "
            f"the series, counted from 0, not {shown(column.iloc[row])} (row "
            f"{shown(column.index[row])})"
        )
    return values


def _count(series: IntArray) -> FloatArray:
    """Numbers of rows within their series, from 0, in the order of the rows."""
    order = np.argsort(series, kind="stable")
    starts = np.flatnonzero(np.diff(series[order], prepend=-2))
    sizes = np.diff(np.append(starts, len(order)))
    out = np.empty(len(series))
    out[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return out
