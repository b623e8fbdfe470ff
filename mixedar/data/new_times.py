"""
Times of new rows on the axis of the fit's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.data.rows import check_present
from mixedar.data.time import counts_levels, plain, time_axis
from mixedar.data.time_unit import TimeAxis
from mixedar.exceptions import MissingDataError, TimeError, shown
from mixedar.residual import ResidualStructure

# So many levels are listed in a message.
_LEVELS = 12
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
    given = fitted if isinstance(fitted, pd.Series) else pd.Series(fitted)
    known = plain(given)
    missing = new.isna().to_numpy()
    if pd.api.types.is_float_dtype(new.dtype):
        missing = missing | np.isinf(new.to_numpy(dtype=np.float64, na_value=np.nan))
    check_present(f"time {name!r}", missing, new.index, "missing or infinite")
    asked = plain(new)
    if counts_levels(given.dtype, structure):
        return _levels_together(given, asked, name)
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


def _levels_together(
    known: pd.Series, new: pd.Series, name: str
) -> tuple[FloatArray, FloatArray]:
    """Places of fitted and new times among the levels of an ordered categorical."""
    levels = known.cat.categories
    found = levels.astype(object).get_indexer(pd.Index(new).astype(object))
    if (found < 0).any():
        row = int(np.argmin(found))
        raise TimeError(
            f"time {name!r} is {shown(new.iloc[row])} in row {shown(new.index[row])} "
            "of the new rows, which is none of the levels of the data: "
            f"{', '.join(map(shown, levels[:_LEVELS]))}"
        )
    codes = np.asarray(known.cat.codes, dtype=np.float64)
    return codes, np.asarray(found, dtype=np.float64)


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
