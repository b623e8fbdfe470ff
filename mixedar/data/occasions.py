"""
Times beside one another: occasions in their order, new times among the fit's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray
from mixedar.data.rows import check_present
from mixedar.data.time import TimeAxis, counts_levels, natural_order, plain, time_axis
from mixedar.exceptions import MissingDataError, TimeError, shown
from mixedar.residual import ResidualStructure

# Whole numbers of a smaller range are counted rather than looked up.
_RANGE = 2**12
# So many levels are listed in a message.
_LEVELS = 12
# So many times are tried one by one to find which does not fit.
_TRIED = 200
# Rounding of decimal times on a grid of whole numbers.
_TIME_TOLERANCE = 1e-6


def in_natural_order(column: pd.Series) -> pd.Series:
    """Text as a categorical in natural order; levels that have an order keep it."""
    dtype: Any = column.dtype
    coded = isinstance(dtype, pd.CategoricalDtype)
    levels = list(dtype.categories if coded else column.dropna().unique())
    if not all(isinstance(level, str) for level in levels):
        return column
    # sorted levels without an order are those of astype("category")
    if coded and (dtype.ordered or levels != sorted(levels)):
        return column
    # unordered categoricals with the same levels count as equal: values first
    return column.astype(object).astype(pd.CategoricalDtype(natural_order(levels)))


def occasions_of(column: pd.Series, name: str) -> tuple[IntArray, pd.Series, str]:
    """
    Number times by their place among all times of the data.

    Parameters
    ----------
    column : Series, shape (n,)
        Times of any kind, none missing.
    name : str
        The column's name, for messages.

    Returns
    -------
    codes : ndarray of int, shape (n,)
    values : Series
        The distinct times in order.
    how : str
        Which order that is, if there are others: of levels and of text.

    Raises
    ------
    TimeError
        If they have no order.
    """
    named = in_natural_order(column)
    if isinstance(named.dtype, pd.CategoricalDtype):
        how = "order of the categorical"
        if named is not column:
            how = "natural order of text; an ordered categorical may have another"
        named = named.cat.remove_unused_categories()
        codes = np.asarray(named.cat.codes, dtype=np.intp)
        return codes, pd.Series(named.cat.categories), how
    try:
        found, values = pd.factorize(column, sort=True)
    except TypeError as error:
        raise TimeError(
            f"time {name!r} holds values that have no order, such as "
            f"{shown(column.iloc[0])}; make it an ordered categorical"
        ) from error
    if any(isinstance(value, str) for value in values):
        raise TimeError(
            f"time {name!r} holds text and other values, which have no order; make it "
            "an ordered categorical"
        )
    return np.asarray(found, dtype=np.intp), pd.Series(values), ""


def factorized(column: pd.Series) -> tuple[IntArray, Any]:
    """As ``column.factorize()``, fast for whole numbers of a small range."""
    kind = column.dtype
    if not (isinstance(kind, np.dtype) and kind.kind in "iu") or len(column) < _RANGE:
        codes, values = column.factorize()
        return codes, values
    numbers = column.to_numpy()
    low, high = int(numbers.min()), int(numbers.max())
    if high - low >= _RANGE:
        codes, values = column.factorize()
        return codes, values
    shifted = (numbers - numbers.dtype.type(low)).astype(np.intp, copy=False)
    there = np.bincount(shifted, minlength=high - low + 1) > 0
    place = np.cumsum(there) - 1
    return place[shifted], np.flatnonzero(there).astype(kind) + numbers.dtype.type(low)


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
    codes, distinct = factorized(known)
    asked_codes, asked_distinct = factorized(asked)
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
