"""
The unit in which times count, and how users say it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.exceptions import TimeError

# Steps of a regular grid may deviate by this much of a step (rounded decimals).
GRID_TOLERANCE = 1e-6
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
#: Periods that are a number of months.
MONTHS = {"Y": 12, "A": 12, "Q": 3, "M": 1}
_DURATION = re.compile(r"\s*(\d*)\s*(year|quarter|month)s?\s*", re.IGNORECASE)


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
        smallest = float(gaps[0])
        for unit in (smallest, 1.0):
            steps = gaps / unit
            if (np.abs(steps - np.rint(steps)) <= GRID_TOLERANCE * steps).all():
                return unit * float(np.gcd.reduce(np.rint(steps).astype(np.int64)))
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
        length = pd.Timedelta(delta).as_unit("ns").value
    except (TypeError, ValueError):
        length = 0
    if number or isinstance(delta, bool) or length <= 0:
        raise TimeError(
            f"delta={delta!r} is no positive number, no duration such as '7 days' or "
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
    unit, one = next(each for each in _NANOSECONDS if length % each[1] == 0)
    return f"{length // one} {unit}{'s' if length > one else ''}"
