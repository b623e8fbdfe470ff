"""
Times of any kind as numbers, with the unit in which they count.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.data.rows import without_categories
from mixedar.exceptions import MissingDataError, TimeError, listing, shown
from mixedar.residual import ResidualStructure

# Steps of a regular grid may deviate by this much of a step (rounded decimals).
GRID_TOLERANCE = 1e-6
_NANOSECONDS = {
    "week": 604_800_000_000_000,
    "day": 86_400_000_000_000,
    "hour": 3_600_000_000_000,
    "minute": 60_000_000_000,
    "second": 1_000_000_000,
    "millisecond": 1_000_000,
    "microsecond": 1_000,
    "nanosecond": 1,
}
#: Periods that are a number of months.
MONTHS = {"Y": 12, "A": 12, "Q": 3, "M": 1}
_DURATION = re.compile(r"\s*(\d*)\s*(year|quarter|month)s?\s*", re.IGNORECASE)
_WEEKS = re.compile(r"\s*weeks?\b", re.IGNORECASE)


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
    number, months, nanoseconds : float or None
        How long a unit is: in the numbers (or periods, or levels) that were given,
        in months, or in nanoseconds; None for what it cannot be told in.
    """

    values: FloatArray
    unit: str | None
    number: float | None = None
    months: int | None = None
    nanoseconds: int | None = None

    def label(self, step: float) -> str | None:
        """What a unit is that is `step` times as long."""
        if step == 1.0:
            return self.unit
        if self.months is not None:
            return months_label(round(step * self.months))
        if self.nanoseconds is not None:
            return nanoseconds_label(round(step * self.nanoseconds))
        if self.unit is None or self.unit.startswith("step of"):
            return f"step of {step * (self.number or 1.0):.6g}"
        return f"{step:g} {self.unit[2:]}s"

    def step(
        self, delta: object, gaps: FloatArray, whole: bool, name: str, what: str
    ) -> float:
        """
        How many units ``delta=`` is.

        Parameters
        ----------
        delta : number, str, duration or None
            None for one unit, ``"auto"`` for the common step of `gaps`.
        gaps : ndarray
            Distances of neighbours in a series, in units.
        whole : bool
            Whether they have to be multiples of the step.
        name, what : str
            The column, and what `delta` is for, for messages.

        Returns
        -------
        float

        Raises
        ------
        TimeError
            If there is no common step, or times are not multiples of `delta` apart.
        """
        if delta is None:
            return 1.0
        gaps = np.unique(gaps[gaps > 0.0])
        if isinstance(delta, str) and delta.strip().lower() == "auto":
            return self._common(gaps, name)
        step = self._length(delta, name)
        off = np.abs(gaps / step - np.rint(gaps / step)) > 1e3 * GRID_TOLERANCE
        if whole and off.any():
            there = self.label(float(gaps[np.argmax(off)]))
            raise TimeError(
                f"delta={delta!r}: two neighbouring times {name!r} of a series are "
                f"{there or 1} apart, which is no multiple of it; {what} needs steps "
                "of equal length. Pass delta='auto' for the common step of the data"
            )
        return step

    def _common(self, gaps: FloatArray, name: str) -> float:
        if not len(gaps):
            return 1.0
        step = common_step(gaps)
        if step is not None:
            return step
        raise TimeError(
            f"delta='auto': the times {name!r} of a series have no common step; pass "
            "the unit in which they count, or leave delta= out"
        )

    def _length(self, delta: object, name: str) -> float:
        number, months, nanoseconds = _duration(delta)
        if number is not None and self.number is not None:
            return number / self.number
        if months is not None and self.months is not None:
            return months / self.months
        if nanoseconds is not None and self.nanoseconds is not None:
            return nanoseconds / self.nanoseconds
        if self.months is not None:
            wanted = "a number of months, such as '6 months' or '1 year'"
        elif self.nanoseconds is None:
            wanted = "a number"
        else:
            wanted = (
                "a duration of fixed length, such as '7 days' (or times that count in "
                "months, .dt.to_period('M') of these)"
            )
        raise TimeError(
            f"delta={delta!r} does not suit the times {name!r}; pass {wanted}, or "
            "'auto' for their common step"
        )


def _duration(delta: Any) -> tuple[float | None, int | None, int | None]:
    """A number, a number of months, or of nanoseconds: what ``delta=`` is."""
    number = isinstance(delta, Number) and not isinstance(delta, (bool, np.timedelta64))
    if number and 0.0 < float(delta) < np.inf:
        return float(delta), None, None
    months = _whole_months(delta)
    if months:
        return None, months, None
    try:
        # pandas knows weeks by their letter only
        spelled = _WEEKS.sub("W", delta) if isinstance(delta, str) else delta
        length = pd.Timedelta(spelled).as_unit("ns").value
    except (TypeError, ValueError):
        length = 0
    if number or isinstance(delta, bool) or length <= 0:
        raise TimeError(
            f"delta={delta!r} is no positive number, no duration such as '2 weeks' or "
            "'6 months', and not 'auto'"
        )
    return None, None, length


def _whole_months(delta: Any) -> int:
    """How many months a duration is; 0 for others."""
    if isinstance(delta, np.timedelta64):
        unit = np.datetime_data(delta.dtype)[0]
        return int(delta.astype(np.int64)) * {"Y": 12, "M": 1}.get(unit, 0)
    found = _DURATION.fullmatch(delta) if isinstance(delta, str) else None
    if found:
        return int(found[1] or 1) * MONTHS[found[2][0].upper()]
    try:
        with warnings.catch_warnings():
            # pandas 2 wants "days" in capitals
            warnings.simplefilter("ignore", FutureWarning)
            offset = pd.tseries.frequencies.to_offset(delta)
    except (TypeError, ValueError):
        return 0
    if type(offset) is pd.DateOffset:
        terms = {"years": 12, "months": 1}
        if set(offset.kwds) <= set(terms):
            return sum(terms[k] * int(v) for k, v in offset.kwds.items()) * offset.n
        return 0
    return 0 if offset is None else int(offset.n) * MONTHS.get(offset.rule_code[0], 0)


def months_label(count: int) -> str:
    """How a number of months is called."""
    return {1: "1 month", 3: "1 quarter", 12: "1 year"}.get(count, f"{count} months")


def nanoseconds_label(length: int) -> str:
    """How a number of nanoseconds is called."""
    unit, one = next(each for each in _NANOSECONDS.items() if length % each[1] == 0)
    return f"{length // one} {unit}{'s' if length > one else ''}"


# Dates whose closest pair is further apart than so many steps have no grid.
_MAX_STEPS = 100
# How long periods are that are no number of months, in nanoseconds.
_LENGTHS = dict(zip(("W", "D", "h", "min", "s"), _NANOSECONDS.values(), strict=False))
_NUMBER = re.compile(r"((?<!\S)-?\d+\.?\d*|\d+\.?\d*)")
# So many levels of text are written out in a message.
_LEVELS = 12


def natural_order(values: Iterable[str]) -> list[str]:
    """Texts in the order in which people count: week 2 before week 12."""

    def key(text: str) -> tuple[list[Any], str]:
        parts: list[Any] = _NUMBER.split(text.casefold())
        parts[1::2] = map(float, parts[1::2])
        return parts, text

    return sorted(values, key=key)


def common_step(gaps: FloatArray) -> float | None:
    """
    The longest step of which all distances of times are multiples, if there is one.

    Parameters
    ----------
    gaps : ndarray, shape (k,)
        Positive.
    """
    for unit in (float(gaps.min(initial=np.inf)), 1.0):
        steps = gaps / unit
        if (np.abs(steps - np.rint(steps)) <= GRID_TOLERANCE * steps).all():
            return unit * float(np.gcd.reduce(np.rint(steps).astype(np.int64)))
    return None


def time_axis(time: Any, structure: ResidualStructure, name: str = "time") -> TimeAxis:
    """
    Convert times to numbers that suit a residual structure.

    Parameters
    ----------
    time : array_like, shape (n,)
        Integers, floats, booleans, datetimes, timedeltas, periods, or an ordered
        categorical.
    structure : ResidualStructure
        Structures on integer times need a grid of equal steps, which the levels of
        an ordered categorical are.
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
    column = time_column(time, name)
    column = column.reset_index(drop=True) if not column.index.is_unique else column
    check_times(column, name)
    if counts_levels(column.dtype, structure):
        levels = np.asarray(column.cat.codes, dtype=np.float64)
        return TimeAxis(levels, "1 level", 1.0)
    column = plain(column)
    if column.dtype == object:
        column = _from_objects(column, name)
    elif pd.api.types.is_string_dtype(column.dtype) and len(column):
        raise _text(column, name)
    dtype = column.dtype
    if isinstance(dtype, pd.PeriodDtype):
        return _from_periods(pd.PeriodIndex(column))
    if pd.api.types.is_datetime64_any_dtype(dtype):
        stamps = pd.DatetimeIndex(column)
        if stamps.tz is not None:
            stamps = _without_zone(stamps)
        return _from_datetimes(stamps, structure, name)
    if pd.api.types.is_timedelta64_dtype(dtype):
        nanoseconds = _as_nanoseconds(pd.TimedeltaIndex(column), name)
        return _from_nanoseconds(nanoseconds, structure, name)
    numeric = pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)
    if not numeric or pd.api.types.is_complex_dtype(dtype):
        raise TimeError(
            f"time {name!r} is neither numbers nor dates (it holds {dtype}, for "
            f"example {shown(column.iloc[0])}); number the times, or make it an "
            "ordered categorical"
        )
    if pd.api.types.is_integer_dtype(dtype):
        return TimeAxis(_from_integers(column.to_numpy()), None, 1.0)
    values = column.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        where = column.index[int(np.argmin(np.isfinite(values)))]
        raise MissingDataError(
            f"time {name!r} is infinite in row {shown(where)}; remove the row"
        )
    if not structure.integer_time:
        return TimeAxis(values, None, 1.0)
    return _on_grid(values, column, structure, name)


def time_column(time: Any, name: str) -> pd.Series:
    """Times as a column; raise if they have more dimensions."""
    if np.ndim(time) != 1:
        raise TimeError(f"time {name!r} must have one dimension, not {np.ndim(time)}")
    return time if isinstance(time, pd.Series) else pd.Series(time)


def check_times(column: pd.Series, name: str) -> None:
    """Raise if a time of the fit is missing."""
    missing = column.isna().to_numpy()
    if missing.any():
        raise MissingDataError(
            f"time {name!r} is missing in {int(missing.sum())} rows, first in row "
            f"{shown(column.index[int(np.argmax(missing))])}; remove them or pass "
            "missing='drop'"
        )


def counts_levels(dtype: object, structure: ResidualStructure) -> bool:
    """Whether the levels of a categorical are the times, equally spaced."""
    if not (isinstance(dtype, pd.CategoricalDtype) and dtype.ordered):
        return False
    kinds = pd.api.types
    values = dtype.categories.dtype
    return structure.integer_time or not (
        kinds.is_numeric_dtype(values)
        or kinds.is_datetime64_any_dtype(values)
        or kinds.is_timedelta64_dtype(values)
        or isinstance(values, pd.PeriodDtype)
    )


def _from_integers(whole: NDArray[Any]) -> FloatArray:
    """Integers of any width less their minimum, which may exceed a float's digits."""
    low, high = int(whole.min()), int(whole.max())
    if whole.dtype.kind == "i" and high - low < 2**63:
        whole = whole.astype(np.int64)
    elif whole.dtype.kind != "u":
        whole = whole.astype(np.float64)
    return (whole - whole.min()).astype(np.float64)


def _from_periods(periods: pd.PeriodIndex) -> TimeAxis:
    ordinals = _from_integers(periods.asi8)
    base: Any = periods.freq.base  # type: ignore[union-attr]
    code = base.rule_code.split("-")[0].rstrip("E")
    if code in MONTHS:
        months = MONTHS[code]
        return TimeAxis(ordinals, months_label(months), 1.0, months=months)
    if code in _LENGTHS:
        length = _LENGTHS[code]
        return TimeAxis(ordinals, nanoseconds_label(length), 1.0, nanoseconds=length)
    unit = "business day" if code == "B" else f"{base.freqstr} period"
    return TimeAxis(ordinals, f"1 {unit}", 1.0)


def _text(column: pd.Series, name: str) -> TimeError:
    """Say what text can be made of, so that it works."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about formats of dates
        for convert in (pd.to_numeric, pd.to_datetime):
            if convert(column, errors="coerce").notna().all():
                remedy = f"convert it with pandas.{convert.__name__}"
                if convert is pd.to_datetime:
                    remedy += ", or write dates as 2024-05-31"
                break
        else:
            levels = natural_order(column.astype(str).unique())
            listed = listing([*map(repr, levels)], _LEVELS)
            remedy = (
                "number the times, or make it an ordered categorical, whose levels "
                "are equally spaced, in the order in which they come: "
                f"pandas.Categorical(data[{name!r}], [{listed}], ordered=True)"
            )
    return TimeError(
        f"time {name!r} holds text, for example {shown(column.iloc[0])}; {remedy}"
    )


def _from_objects(column: pd.Series, name: str) -> pd.Series:
    """Python dates, decimals and the like; text is refused."""
    first = column.dropna()
    if len(first) and all(isinstance(value, str) for value in first):
        raise _text(first, name)
    mixed = len({isinstance(value, Number) for value in column}) > 1
    for convert in () if mixed else (pd.to_numeric, pd.to_datetime, pd.PeriodIndex):
        try:
            return pd.Series(convert(column), index=column.index)
        except (TypeError, ValueError):
            continue
    raise TimeError(
        f"time {name!r} mixes values that are neither all numbers nor all dates; "
        "number the times, or make it an ordered categorical"
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
        tomorrow = stamps + pd.Timedelta(days=1).as_unit(stamps.unit)
        month_ends = bool(tomorrow.is_month_start.all())
        same_day = bool((day == day[0]).all())
        if at_midnight and (same_day or month_ends):
            months = (stamps.year * 12 + stamps.month).to_numpy(dtype=np.float64)
            if len(np.unique(months)) > 1:
                step = int(np.gcd.reduce(np.diff(np.unique(months)).astype(np.int64)))
                since = (months - months.min()) / step
                return TimeAxis(since, months_label(step), months=step)
    return _from_nanoseconds(_as_nanoseconds(stamps, name), structure, name)


def _as_nanoseconds(values: Any, name: str) -> NDArray[np.int64]:
    try:
        return np.asarray(values.as_unit("ns").asi8)
    except (ValueError, OverflowError) as error:
        raise TimeError(
            f"time {name!r} is beyond what nanoseconds reach (for dates the years 1678 "
            "to 2261); pass numbers, such as .dt.year or days since the first"
        ) from error


def _from_nanoseconds(
    nanoseconds: NDArray[np.int64], structure: ResidualStructure, name: str
) -> TimeAxis:
    """A grid's own step for integer times, and days otherwise."""
    since = nanoseconds - nanoseconds.min()
    if not structure.integer_time:
        day = _LENGTHS["D"]
        return TimeAxis(since / day, "1 day", nanoseconds=day)
    distinct = np.unique(since)
    step = int(np.gcd.reduce(distinct))
    if step == 0:
        return TimeAxis(since.astype(np.float64), None, nanoseconds=1)
    if np.diff(distinct).min() > _MAX_STEPS * step:
        raise TimeError(
            f"{structure.label} needs equally spaced times, but no common step fits "
            f"the times {name!r} (their greatest common divisor is {step} ns); use "
            "residual='car1' for irregular times, or number the occasions"
        )
    return TimeAxis(
        (since // step).astype(np.float64), nanoseconds_label(step), nanoseconds=step
    )


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
        return TimeAxis(np.zeros(len(values)), None, 1.0)
    step = steps.min()
    whole = np.abs(shifted - np.rint(shifted)) <= GRID_TOLERANCE
    if step > 0.5 and whole.all():
        return TimeAxis(np.rint(shifted), None, 1.0)
    # the smallest step carries rounding; the whole range measures it better
    step *= unique[-1] / step / max(np.rint(unique[-1] / step), 1.0)
    grid = shifted / step
    off = np.abs(grid - np.rint(grid))
    if (off <= 1e3 * GRID_TOLERANCE).all():
        return TimeAxis(np.rint(grid), f"step of {step:.6g}", float(step))
    bad = int(np.argmax(off > 1e3 * GRID_TOLERANCE))
    raise TimeError(
        f"{structure.label} needs integer or equally spaced times, but {name!r} is "
        f"{values[bad]:.10g} in row {shown(column.index[bad])}; use "
        "residual='car1' for real-valued times, or number the occasions"
    )


def plain(column: pd.Series) -> pd.Series:
    """Values without categories, of the narrowest type that holds them."""
    column = without_categories(column)
    return column.infer_objects() if column.dtype == object else column
