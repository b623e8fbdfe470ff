"""
Forecasts of the occasions after the last one of each group.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.data.model_data import ModelData
from mixedar.data.time import common_step, time_axis
from mixedar.data.variables import numbered_series, varies_in_groups
from mixedar.exceptions import (
    TimeError,
    UnknownColumnError,
    UnsupportedError,
    listing,
    shown,
)
from mixedar.fit import Fit
from mixedar.prediction.predict import get_prediction
from mixedar.prediction.results import PredictionResults
from mixedar.residual import AR1
from mixedar.residual.base import is_whole

_OTHERWISE = (
    "pass the rows to predict, with all that the formula reads, to "
    "get_prediction(rows, level='forecast')"
)


def forecast(
    fit: Fit, steps: int = 1, *, level: str = "forecast", **options: Any
) -> PredictionResults:
    """
    Predict the next occasions of each group, or of each series of a group.

    Parameters
    ----------
    fit : Fit
    steps : int
        How many occasions after its last one, in the common step of the times.
    level, **options
        As in :meth:`get_prediction`.

    Returns
    -------
    PredictionResults
        Rows by group (and series) and time; columns of the data that are constant
        within groups are carried on.

    Raises
    ------
    TimeError
        If the model has no times, or they have no common step.
    UnsupportedError
        If the model is from arrays, or its formula reads a column that varies within
        groups, whose values ahead are not known.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_bodyweight
    >>> rats = load_bodyweight()
    >>> rats = rats[rats["time"] % 7 == 1]
    >>> fit = mar.mixedlm("weight ~ C(diet) * time", rats, groups="rat", time="time")
    >>> ahead = fit.fit().forecast(2).summary_frame()
    >>> ahead.loc[1, "mean"].round(0).to_dict()
    {71: 280.0, 78: 283.0}
    """
    if not is_whole(steps) or steps < 1:
        raise UnsupportedError(f"steps={shown(steps)} is not a whole number above 0")
    data, count = fit.data, int(steps)
    frame, name = data.frame, data.time_name
    if frame is None:
        raise UnsupportedError(f"forecast(): the model is from arrays; {_OTHERWISE}")
    if name is None or name not in frame.columns:
        raise TimeError(
            "forecast(): the model has no column of times to go on in: name it in "
            f"time=, or {_OTHERWISE}"
        )
    last, lines = _last_rows(data, frame, name)
    lost = [c for c in frame.columns if c != name and varies_in_groups(frame[c], lines)]
    rows = frame.iloc[np.repeat(last, count)].drop(columns=lost)
    rows[name] = _ahead(frame[name], last, count)
    labels = [data.group_index.take(data.codes[last])]
    names = [data.groups_name]
    if data.series is not None:
        labels.append(pd.Index(pd.Series(data.series).iloc[last], tupleize_cols=False))
        names.append("series")
    index = [one.repeat(count) for one in labels]
    rows.index = pd.MultiIndex.from_arrays([*index, rows[name]], names=[*names, name])
    try:
        return get_prediction(fit, rows, level, **options)
    except UnknownColumnError as error:
        unknown = listing([c for c in lost if c != data.endog_name])
        raise UnsupportedError(
            "forecast(): what the formula reads varies within groups, and its values "
            f"ahead are not known ({unknown}); {_OTHERWISE}"
        ) from error


def _last_rows(
    data: ModelData, frame: pd.DataFrame, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Last row of each series of each group, and the number of each row's series."""
    lines, _ = numbered_series(data)
    order = np.lexsort((frame[name].rank(method="first").to_numpy(), lines))
    ends = np.append(np.flatnonzero(np.diff(lines[order])), len(order) - 1)
    return order[ends], lines


def _ahead(times: pd.Series, last: np.ndarray, count: int) -> Any:
    """Times after those of the last rows, in the common step of all."""
    ends, ahead = times.iloc[last], np.tile(np.arange(1, count + 1), len(last))
    if isinstance(times.dtype, pd.PeriodDtype):
        periods = pd.PeriodIndex(times)
        step = _step(periods.asi8.astype(np.float64))
        return periods[last].repeat(count) + ahead * round(step)
    if pd.api.types.is_datetime64_any_dtype(times.dtype):
        offset = _offset(pd.DatetimeIndex(times.unique()).sort_values())
        after = [pd.date_range(end, periods=count + 1, freq=offset)[1:] for end in ends]
        return np.concatenate(after)
    if not pd.api.types.is_numeric_dtype(times.dtype):
        raise TimeError(
            f"forecast(): after {times.name!r}, which is neither a number nor a date, "
            f"comes nothing that is known; {_OTHERWISE}"
        )
    step = _step(times.to_numpy(float))
    values = ends.to_numpy(float).repeat(count) + step * ahead
    whole = pd.api.types.is_integer_dtype(times.dtype)
    return np.rint(values).astype(np.int64) if whole else values


def _step(times: FloatArray) -> float:
    gaps = np.diff(np.unique(times))
    step = common_step(gaps) if len(gaps) else None
    if step is None:
        raise TimeError(f"forecast(): the times have no common step; {_OTHERWISE}")
    return step


def _offset(known: pd.DatetimeIndex) -> pd.offsets.BaseOffset:
    """The frequency of dates, or the common step where some are left out."""
    frequency = pd.DatetimeIndex(known, freq="infer").freq if len(known) > 2 else None
    if frequency is not None:
        return frequency
    try:
        axis = time_axis(known, AR1(), "time")
    except TimeError as error:
        raise TimeError(
            f"forecast(): the dates have no common step; {_OTHERWISE}"
        ) from error
    step = round(_step(axis.values))
    if axis.months is None:
        return pd.offsets.Nano(step * (axis.nanoseconds or 1))
    if known.is_month_end.all():
        return pd.offsets.MonthEnd(step * axis.months)
    return pd.offsets.DateOffset(months=step * axis.months)
