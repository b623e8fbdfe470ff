"""
Times of any kind as numbers, with the unit in which they count.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.data.rows import check_present, without_categories
from mixedar.exceptions import MissingDataError, TimeError, shown
from mixedar.residual import ResidualStructure

# Steps of a regular grid may deviate by this much of a step (rounded decimals).
_GRID_TOLERANCE = 1e-6
# Dates whose closest pair is further apart than so many steps have no grid.
_MAX_STEPS = 100
_NANOSECONDS = (
    ("week", 604_800_000_000_000),
    ("day", 86_400_000_000_000),
    ("hour", 3_600_000_000_000),
    ("minute", 60_000_000_000),
    ("second", 1_000_000_000),
    ("millisecond", 1_000_000),
    ("microsecond", 1_000),
    ("nanosecond", 1),
)


_PERIODS = {
    "Y": "year",
    "A": "year",
    "Q": "quarter",
    "M": "month",
    "W": "week",
    "D": "day",
    "B": "business day",
    "h": "hour",
    "min": "minute",
    "s": "second",
}


@dataclass(frozen=True)
class TimeAxis:
    """
    Times as numbers.

    Attributes
    ----------
    values : ndarray, shape (n,)
        In units of `unit`; whole numbers for structures on integer times.
    unit : str or None
        What one unit is, such as ``"1 day"`` or ``"step of 0.5"``; None for
        plain numbers that count as they are.
    """

    values: FloatArray
    unit: str | None


def time_axis(time: Any, structure: ResidualStructure, name: str = "time") -> TimeAxis:
    """
    Convert times to numbers that suit a residual structure.

    Parameters
    ----------
    time : array_like, shape (n,)
        Integers, floats, booleans, datetimes, timedeltas or periods.
    structure : ResidualStructure
        Structures on integer times need a grid of equal steps.
    name : str
        The column's name, for messages.

    Returns
    -------
    TimeAxis

    Raises
    ------
    TimeError
        If times are neither numbers nor dates, or do not lie on a grid where
        the structure needs one.
    MissingDataError
        If a time is missing or infinite.
    """
    if np.ndim(time) != 1:
        raise TimeError(f"time {name!r} must have one dimension, not {np.ndim(time)}")
    column = time if isinstance(time, pd.Series) else pd.Series(time)
    column = column.reset_index(drop=True) if not column.index.is_unique else column
    if column.dtype == object:
        column = column.infer_objects()
    if column.dtype == object:
        column = _from_objects(column, name)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    check_times(column, name)
    dtype = column.dtype
    if isinstance(dtype, pd.PeriodDtype):
        ordinals = (pd.PeriodIndex(column).asi8).astype(np.float64)
        code = str(dtype.freq.freqstr)
        unit = _PERIODS.get(code.split("-")[0].rstrip("E"), f"{code} period")
        return TimeAxis(ordinals - ordinals.min(), f"1 {unit}")
    if pd.api.types.is_datetime64_any_dtype(dtype):
        stamps = pd.DatetimeIndex(column)
        if stamps.tz is not None:
            stamps = _without_zone(stamps)
        return _from_datetimes(stamps, structure, name)
    if pd.api.types.is_timedelta64_dtype(dtype):
        nanoseconds = pd.TimedeltaIndex(column).as_unit("ns").asi8
        return _from_nanoseconds(nanoseconds, structure, name)
    numeric = pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)
    if not numeric or pd.api.types.is_complex_dtype(dtype):
        raise TimeError(
            f"time {name!r} is neither numbers nor dates (it holds {dtype}, for "
            f"example {shown(column.iloc[0])}); convert it, for instance with "
            "pandas.to_datetime or pandas.to_numeric"
        )
    if pd.api.types.is_integer_dtype(dtype):
        # in whole numbers first: counters of nanoseconds exceed a float's digits
        whole = column.to_numpy()
        return TimeAxis((whole - whole.min()).astype(np.float64), None)
    values = column.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        where = column.index[int(np.argmin(np.isfinite(values)))]
        raise MissingDataError(
            f"time {name!r} is infinite in row {shown(where)}; remove the row"
        )
    if not structure.integer_time:
        return TimeAxis(values, None)
    return _on_grid(values, column, structure, name)


def check_times(column: pd.Series, name: str) -> None:
    """Raise if a time of the fit is missing."""
    missing = column.isna().to_numpy()
    if missing.any():
        raise MissingDataError(
            f"time {name!r} is missing in {int(missing.sum())} rows, first in row "
            f"{shown(column.index[int(np.argmax(missing))])}; remove them or pass "
            "missing='drop'"
        )


def _from_objects(column: pd.Series, name: str) -> pd.Series:
    """Python dates, decimals and the like; text is refused."""
    first = column.dropna()
    if len(first) and isinstance(first.iloc[0], str):
        raise TimeError(
            f"time {name!r} holds text, for example {first.iloc[0]!r}; convert it "
            "with pandas.to_datetime or pandas.to_numeric"
        )
    mixed = len({isinstance(value, Number) for value in column}) > 1
    for convert in () if mixed else (pd.to_numeric, pd.to_datetime, pd.PeriodIndex):
        try:
            return pd.Series(convert(column), index=column.index)
        except (TypeError, ValueError):
            continue
    raise TimeError(
        f"time {name!r} mixes values that are neither all numbers nor all dates; "
        "convert it with pandas.to_datetime or pandas.to_numeric"
    )


def _without_zone(stamps: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Wall-clock times if they share the time of day, else universal time."""
    local = stamps.tz_localize(None)
    if len((local - local.normalize()).unique()) == 1:
        return local  # days stay days where clocks change
    return stamps.tz_convert("UTC").tz_localize(None)


def _from_datetimes(
    stamps: pd.DatetimeIndex, structure: ResidualStructure, name: str
) -> TimeAxis:
    if structure.integer_time:
        # Months are no fixed number of days, yet a grid of first days is one.
        day = stamps.day.to_numpy()
        at_midnight = bool((stamps == stamps.normalize()).all())
        month_ends = bool((stamps + pd.Timedelta(days=1)).is_month_start.all())
        same_day = bool((day == day[0]).all())
        if at_midnight and (same_day or month_ends):
            months = (stamps.year * 12 + stamps.month).to_numpy(dtype=np.float64)
            if len(np.unique(months)) > 1:
                return TimeAxis(*_months(months))
    return _from_nanoseconds(stamps.as_unit("ns").asi8, structure, name)


def _months(months: FloatArray) -> tuple[FloatArray, str]:
    steps = np.diff(np.unique(months)).astype(np.int64)
    step = int(np.gcd.reduce(steps))
    unit = {1: "1 month", 3: "1 quarter", 12: "1 year"}.get(step, f"{step} months")
    return (months - months.min()) / step, unit


def _from_nanoseconds(
    nanoseconds: NDArray[np.int64], structure: ResidualStructure, name: str
) -> TimeAxis:
    """A grid's own step for integer times, and days otherwise."""
    since = nanoseconds - nanoseconds.min()
    if not structure.integer_time:
        return TimeAxis(since / 86_400_000_000_000, "1 day")
    distinct = np.unique(since)
    step = int(np.gcd.reduce(distinct))
    if step == 0:
        return TimeAxis(since.astype(np.float64), None)
    if np.diff(distinct).min() > _MAX_STEPS * step:
        raise TimeError(
            f"{structure.label} needs equally spaced times, but no common step fits "
            f"the times {name!r} (their greatest common divisor is {step} ns); use "
            "residual='car1' for irregular times, or number the occasions"
        )
    unit, length = next(each for each in _NANOSECONDS if step % each[1] == 0)
    label = f"{step // length} {unit}{'s' if step > length else ''}"
    return TimeAxis((since // step).astype(np.float64), label)


def _on_grid(
    values: FloatArray, column: pd.Series, structure: ResidualStructure, name: str
) -> TimeAxis:
    """Whole numbers from floats that are whole, shifted, or equally spaced."""
    first = values.min()
    shifted = values - first
    unique = np.unique(shifted)
    steps = np.diff(unique)
    # decimals are not exact: neighbours closer than rounding are one time
    steps = steps[steps > 1e-9 * unique[-1]]
    if len(steps) == 0:
        return TimeAxis(np.zeros(len(values)), None)
    step = steps.min()
    whole = np.abs(shifted - np.rint(shifted)) <= _GRID_TOLERANCE
    if step > 0.5 and whole.all():
        return TimeAxis(np.rint(shifted), None)
    # the smallest step carries rounding; the whole range measures it better
    step *= unique[-1] / step / max(np.rint(unique[-1] / step), 1.0)
    grid = shifted / step
    off = np.abs(grid - np.rint(grid))
    if (off <= 1e3 * _GRID_TOLERANCE).all():
        return TimeAxis(np.rint(grid), f"step of {step:.6g}")
    bad = int(np.argmax(off > 1e3 * _GRID_TOLERANCE))
    raise TimeError(
        f"{structure.label} needs integer or equally spaced times, but {name!r} is "
        f"{values[bad]:.10g} in row {shown(column.index[bad])}; use "
        "residual='car1' for real-valued times, or number the occasions"
    )


# So many times are tried one by one to find which does not fit.
_TRIED = 200
# Rounding of decimal times on a grid of whole numbers.
_TIME_TOLERANCE = 1e-6


def times_together(
    fitted: object, new: pd.Series, structure: ResidualStructure, name: str
) -> tuple[FloatArray, FloatArray]:
    """
    Times of the fit and new ones as numbers with one origin and unit.

    Parameters
    ----------
    fitted : array_like, shape (n,)
        Times of the fit, as they were given.
    new : Series, shape (k,)
        New times; the index labels the rows in messages.
    structure : ResidualStructure
        Bound to the data.
    name : str
        The column's name, for messages.

    Returns
    -------
    fitted, new : ndarray, shapes (n,) and (k,)
        In the unit in which the fit counts.

    Raises
    ------
    MissingDataError
        If a new time is missing or infinite.
    TimeError
        If new times are of another kind, or not on the fit's grid.
    """
    known = _plain(fitted if isinstance(fitted, pd.Series) else pd.Series(fitted))
    missing = new.isna().to_numpy()
    if pd.api.types.is_float_dtype(new.dtype):
        missing = missing | np.isinf(new.to_numpy(dtype=np.float64, na_value=np.nan))
    check_present(f"time {name!r}", missing, new.index, "missing or infinite")
    asked = _plain(new)
    _check_kind(known, asked, name)
    known, asked = _same_zone(known, asked, name)
    codes, distinct = known.factorize()
    asked_codes, asked_distinct = asked.factorize()
    axis = time_axis(pd.Series(distinct), structure, name)
    joint = _joint(axis, distinct, asked_distinct, structure, name)
    if joint is None:
        raise _misfit(axis, distinct, asked_distinct, asked_codes, new, structure, name)
    old, added = joint
    return old[codes], added[asked_codes]


def _joint(
    axis: TimeAxis, known: Any, added: Any, structure: ResidualStructure, name: str
) -> tuple[FloatArray, FloatArray] | None:
    """Known and added times on the known ones' axis; None if they do not fit."""
    both = pd.concat([pd.Series(known), pd.Series(added)], ignore_index=True)
    try:
        found = time_axis(both, structure, name)
    except (TimeError, MissingDataError):
        return None
    count = len(known)
    shift = found.values[:count] - axis.values
    steps = [str(unit).startswith("step of") for unit in (axis.unit, found.unit)]
    if found.unit != axis.unit and not all(steps):
        return None
    size = max(float(np.abs(axis.values).max()), 1.0)
    if float(np.ptp(shift)) > _TIME_TOLERANCE * (
        1.0 if structure.integer_time else size
    ):
        return None
    return axis.values + shift[0], found.values[count:]


def _misfit(
    axis: TimeAxis,
    known: Any,
    added: Any,
    codes: NDArray[np.intp],
    new: pd.Series,
    structure: ResidualStructure,
    name: str,
) -> TimeError:
    """Name the first time that does not fit."""
    for k in range(min(len(added), _TRIED)):
        if _joint(axis, known, added[k : k + 1], structure, name) is None:
            row = int(np.argmax(codes == k))
            what = f"{shown(new.iloc[row])} in row {shown(new.index[row])}"
            break
    else:
        what = "not on the fit's grid"
    unit = f" in steps of {axis.unit}" if axis.unit else ""
    unit = unit.replace("steps of step of", "steps of")
    return TimeError(
        f"time {name!r} of the new rows is {what}, which does not fit the times of "
        f"the data ({shown(known[0])}, ...{unit}); {structure.label} predicts at "
        "times of the same kind and grid"
        + ("; residual='car1' takes any" if structure.integer_time else "")
    )


def _plain(column: pd.Series) -> pd.Series:
    column = without_categories(column)
    return column.infer_objects() if column.dtype == object else column


def _check_kind(known: pd.Series, new: pd.Series, name: str) -> None:
    def text(column: pd.Series) -> bool:
        return bool(len(column)) and isinstance(column.iloc[0], str)

    numbers = [pd.api.types.is_numeric_dtype(c.dtype) for c in (known, new)]
    dates = [known.dtype.kind in "Mm", new.dtype.kind in "Mm"]
    if text(new) or (numbers[0] and dates[1]) or (dates[0] and numbers[1]):
        raise TimeError(
            f"time {name!r} of the new rows holds {shown(new.iloc[0])}, that of the "
            f"data {shown(known.iloc[0])}; convert it to the same kind, for instance "
            "with pandas.to_datetime or pandas.to_numeric"
        )


def _same_zone(
    known: pd.Series, new: pd.Series, name: str
) -> tuple[pd.Series, pd.Series]:
    """Times without zone, by the rule that the fit's own times obey."""
    zones = [getattr(column.dtype, "tz", None) for column in (known, new)]
    if zones == [None, None]:
        return known, new
    if None in zones:
        raise TimeError(
            f"time {name!r} has a time zone in the {'data' if zones[0] else 'new rows'}"
            f" and none in the {'new rows' if zones[0] else 'data'}; use tz_localize"
        )
    local = known.dt.tz_localize(None)
    if len((local - local.dt.normalize()).unique()) == 1:
        return local, new.dt.tz_convert(zones[0]).dt.tz_localize(None)
    return tuple(c.dt.tz_convert("UTC").dt.tz_localize(None) for c in (known, new))
