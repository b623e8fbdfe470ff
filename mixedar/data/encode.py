"""
Groups of new rows: labels as the caller has them, numbers as the fit has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray
from mixedar.data.designs import fixed_design
from mixedar.data.formula.columns import table_column
from mixedar.data.rows import resolve
from mixedar.data.time import TimeAxis, time_axis
from mixedar.engine.residuals import correlation_marks
from mixedar.engine.rows import GroupedRows
from mixedar.exceptions import (
    GroupError,
    LengthError,
    MissingDataError,
    NotComputedError,
    StructureError,
    TimeError,
    UnknownColumnError,
    UnsupportedError,
    shown,
)
from mixedar.residual import Mark, ResidualStructure
from mixedar.residual.variance import FITTED


def without_categories(labels: pd.Series) -> pd.Series:
    """Categories as the values they stand for."""
    if isinstance(labels.dtype, pd.CategoricalDtype):
        return labels.astype(labels.cat.categories.dtype)
    return labels


def complete_labels(labels: pd.Series, what: str) -> pd.Series:
    """
    Labels without categories, none missing.

    Parameters
    ----------
    labels : Series
    what : str
        What the labels are of, for the message.

    Returns
    -------
    Series

    Raises
    ------
    MissingDataError
    """
    missing = labels.isna().to_numpy()
    if missing.any():
        raise MissingDataError(
            f"the {what} is missing in row "
            f"{shown(labels.index[int(np.argmax(missing))])} of the new rows"
        )
    return without_categories(labels)


def group_labels(model: Any, groups: Any, table: pd.DataFrame) -> pd.Series:
    """
    Group labels of new rows.

    Parameters
    ----------
    model : MixedLMAR
    groups : str, array_like or None
        As the caller passed them; the column of the fit by default.
    table : DataFrame, k rows

    Returns
    -------
    Series, shape (k,)

    Raises
    ------
    GroupError
        If nothing says what the groups are.
    MissingDataError, UnknownColumnError, LengthError
        If a label is missing, the column does not exist, or its length is wrong.
    """
    if groups is None:
        groups = getattr(model, "groups_name", None)
        # "Group" is what a model calls groups that came as an array
        if groups is None or (groups == "Group" and groups not in table):
            raise GroupError(
                "groups= is missing: pass a group label for each new row, or "
                "level='population'"
            )
    return complete_labels(resolve("groups", groups, table).values, "group")


def group_numbers(model: Any, labels: pd.Series, unknown: str) -> IntArray:
    """
    Numbers of the groups in the fit.

    Parameters
    ----------
    model : MixedLMAR
    labels : Series, shape (k,)
    unknown : {"error", "population"}

    Returns
    -------
    ndarray of int, shape (k,)
        -1 for unknown groups.

    Raises
    ------
    GroupError
        If a group is unknown and `unknown` is ``"error"``.
    NotComputedError
        If the data of the fit were removed.
    """
    if model.endog is None:
        raise NotComputedError(
            "the data were removed from this fit; predictions for groups need them"
        )
    # labels of the first rows, as they were given: lists turn dates into numbers
    first = np.empty(model.n_groups, dtype=np.intp)
    n = len(model._codes)
    first[model._codes[::-1]] = np.arange(n - 1, -1, -1)
    known = pd.Index(without_categories(pd.Series(model.groups).iloc[first]))
    codes = np.asarray(known.get_indexer(pd.Index(labels)), dtype=np.intp)
    lost = codes < 0
    if lost.any() and unknown == "error":
        row = int(np.argmax(lost))
        count = labels[lost].nunique()
        more = f" ({count} such groups)" if count > 1 else ""
        raise GroupError(
            f"group {shown(labels.iloc[row])} in row {shown(labels.index[row])} is not "
            f"in the fit{more}; pass unknown='population' to predict it with random "
            "effects of zero and their variance"
        )
    return codes


# Times that differ by rounding are one occasion.
_TOLERANCE = 1e-9
# So many labels are listed in a message.
_LISTED = 12


@dataclass(frozen=True)
class MarkColumns:
    """
    Where the marks of new rows come from.

    Attributes
    ----------
    table : DataFrame, k rows
    time : str, array_like or None
        Times as the caller passed them; the column of the fit by default.
    place : callable
        Without times in the model: places of the rows within their series,
        shape (k,).
    hint : str
        What else can be done if a column is missing, for messages.
    """

    table: pd.DataFrame
    time: Any
    place: Callable[[], FloatArray]
    hint: str = ""


def with_columns(table: pd.DataFrame, residual_data: Any) -> pd.DataFrame:
    """
    New rows with the columns that were passed beside them.

    Parameters
    ----------
    table : DataFrame, k rows
    residual_data : DataFrame, mapping of str to array_like, or None

    Returns
    -------
    DataFrame

    Raises
    ------
    LengthError
        If a column has another length.
    UnsupportedError
        If `residual_data` holds no columns.
    """
    if residual_data is None:
        return table
    if not isinstance(residual_data, (Mapping, pd.DataFrame)):
        raise UnsupportedError(
            "residual_data= takes a DataFrame or a mapping of names to columns, not "
            f"{type(residual_data).__name__}"
        )
    out = table.copy(deep=False)
    for name in residual_data:
        role = f"residual_data[{name!r}]"
        out[name] = resolve(role, residual_data[name], table).values
    return out


def new_marks(model: Any, which: slice, rows: MarkColumns) -> FloatArray:
    """
    Marks of new rows, on the scale of the fit.

    Parameters
    ----------
    model : MixedLMAR
    which : slice
        Marks of the model's structure that are wanted.
    rows : MarkColumns

    Returns
    -------
    ndarray, shape (k, c)
        NaN in columns that are not wanted, and for fitted values.

    Raises
    ------
    UnknownColumnError, LengthError
        If a column is missing.
    MissingDataError
        If values are missing.
    TimeError
        For an occasion that is not in the fit.
    StructureError
        For a stratum that is not in the fit.
    """
    marks: Sequence[Mark] = model.residual.marks
    out = np.full((len(rows.table), len(marks)), np.nan)
    formulas = _formula_columns(model, marks[which], rows.table)
    for k in range(*which.indices(len(marks))):
        column = marks[k].column
        if column is None:
            out[:, k] = _occasions(model, k, rows)
        elif column == FITTED:
            continue
        elif column in formulas:
            out[:, k] = formulas[column]
        elif marks[k].kind == "number":
            out[:, k] = _numbers(column, rows)
        else:
            out[:, k] = _strata(model, k, column, rows)
    return out


def with_fitted(model: Any, marks: FloatArray, fitted: FloatArray) -> FloatArray:
    """
    Marks with the fitted values put in.

    Parameters
    ----------
    model : MixedLMAR
    marks : ndarray, shape (k, c)
    fitted : ndarray, shape (k,)

    Returns
    -------
    ndarray, shape (k, c)
    """
    where = [mark.column == FITTED for mark in model.residual.marks]
    if not any(where):
        return marks
    out = marks.copy()
    out[:, where] = fitted[:, None]
    return out


def _formula_columns(
    model: Any, marks: Sequence[Mark], table: pd.DataFrame
) -> dict[str, FloatArray]:
    """Columns of the variance function's formulas."""
    wanted = {mark.column for mark in marks}
    out: dict[str, FloatArray] = {}
    for spec in (model.variance_specs or {}).values():
        names = list(spec.column_names)
        if wanted.intersection(names):
            out.update(zip(names, fixed_design(spec, table).T, strict=True))
    return out


def _column(name: str, rows: MarkColumns, what: str) -> pd.Series:
    """A column, complete."""
    try:
        column = table_column(rows.table, name)
    except UnknownColumnError as error:
        raise UnknownColumnError(
            f"the new rows have no column {name!r}, {what}; add it{rows.hint}"
        ) from error
    _check_complete(column, name)
    return column


def _check_complete(column: pd.Series, name: str) -> None:
    missing = column.isna().to_numpy()
    if missing.any():
        raise MissingDataError(
            f"column {name!r} of the new rows is missing in row "
            f"{shown(column.index[int(np.argmax(missing))])} ({int(missing.sum())} "
            "such rows); remove them"
        )


def _numbers(name: str, rows: MarkColumns) -> FloatArray:
    column = _column(name, rows, "which the residual structure reads")
    values = np.asarray(without_categories(column))
    if values.dtype.kind not in "iufb":
        row = int(np.argmax(pd.to_numeric(column, errors="coerce").isna()))
        raise StructureError(
            f"column {name!r} of the new rows has to be numeric for the residual "
            f"structure; it holds {shown(column.iloc[row])} in row "
            f"{shown(column.index[row])}"
        )
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        row = column.index[int(np.argmin(np.isfinite(numbers)))]
        raise MissingDataError(
            f"column {name!r} of the new rows is infinite in row {shown(row)}; "
            "remove the row"
        )
    return numbers


def _strata(model: Any, k: int, name: str, rows: MarkColumns) -> FloatArray:
    column = _column(name, rows, "the strata of the residual structure")
    names = model._mark_labels[k]
    known: Any = list(names)
    if model.endog is not None:
        # the first row of each stratum has its label as it was given
        codes = model._grouped.unsort(model._grouped.marks[:, k])
        first = np.unique(codes, return_index=True)[1]
        given = model.residual_data[name]
        given = given if isinstance(given, pd.Series) else pd.Series(given)
        known = without_categories(given.iloc[first])
    else:
        column = _texts(column)
    found = _places(without_categories(column), known)
    lost = found < 0
    if lost.any():
        row = int(np.argmax(lost))
        raise StructureError(
            f"{name!r} is {shown(column.iloc[row])} in row {shown(column.index[row])} "
            "of the new rows, a stratum that the data of the fit do not have; there "
            f"are {_listed(names)}"
        )
    return found.astype(np.float64)


def _occasions(model: Any, k: int, rows: MarkColumns) -> FloatArray:
    """Places of the rows' times among the occasions of the fit."""
    names = model._mark_labels[k]
    removed = model.endog is None
    if model.time is None and not removed:
        return _counted(rows, names)
    name = getattr(model, "time_name", None) if rows.time is None else rows.time
    if name is None:
        raise LengthError(
            "time= is missing: the residual structure needs the occasion of each new "
            "row, as one of the model's times"
        )
    column = resolve("time", name, rows.table).values
    label = str(getattr(model.time, "name", None) or "time")
    _check_complete(column, label)
    if removed:
        found = _places(_texts(column), list(names))
    else:
        time = model.time
        time = time if isinstance(time, pd.Series) else pd.Series(time)
        if isinstance(time.dtype, pd.CategoricalDtype):
            known = pd.Series(time.cat.remove_unused_categories().cat.categories)
        else:
            known = pd.Series(pd.factorize(time, sort=True)[1])
        found = _places(without_categories(column), known)
    lost = found < 0
    if lost.any():
        row = int(np.argmax(lost))
        raise TimeError(
            f"time {label!r} is {shown(column.iloc[row])} in row "
            f"{shown(column.index[row])} of the new rows, which is none of the "
            f"occasions of the data ({_listed(names)}); {model.residual.label} "
            "residuals say nothing of other occasions"
        )
    return found.astype(np.float64)


def _counted(rows: MarkColumns, names: tuple[str, ...]) -> FloatArray:
    """Occasions of rows that count, as the model has no times."""
    place = rows.place()
    lost = ~((place >= 0) & (place < len(names)))
    if lost.any():
        row = int(np.argmax(lost))
        raise TimeError(
            f"row {shown(rows.table.index[row])} of the new rows is number "
            f"{place[row] + 1:g} of its series, and the data have "
            f"{len(names)} occasions: the residual structure says nothing of others"
        )
    return place


def _places(new: pd.Series, known: Any) -> IntArray:
    """The place of each value among the known ones, -1 if there is none."""
    known = pd.Series(known).reset_index(drop=True)
    new, known = new.infer_objects(), known.infer_objects()
    found = np.asarray(pd.Index(known).get_indexer(pd.Index(new)), dtype=np.intp)
    if (found >= 0).all() or "f" not in new.dtype.kind + known.dtype.kind:
        return found
    if not all(c.dtype.kind in "iuf" for c in (new, known)):
        return found
    # decimals are not exact
    there = known.to_numpy(dtype=np.float64)
    lost = np.flatnonzero(found < 0)
    values = new.to_numpy(dtype=np.float64)[lost]
    order = np.argsort(there)
    right = np.searchsorted(there[order], values)
    size = max(float(np.abs(there).max()), 1e-300)
    for near in (np.maximum(right - 1, 0), np.minimum(right, len(there) - 1)):
        same = np.abs(there[order][near] - values) <= _TOLERANCE * size
        found[lost[same]] = order[near[same]]
    return found


def _texts(column: pd.Series) -> pd.Series:
    """Labels as messages and parameters name them."""
    values = [
        f"{v:g}" if isinstance(v, (float, np.floating)) else str(v)
        for v in without_categories(column)
    ]
    return pd.Series(values, index=column.index)


def _listed(names: Sequence[str]) -> str:
    shown_names = ", ".join(repr(name) for name in names[:_LISTED])
    return shown_names + (", ..." if len(names) > _LISTED else "")


def check_strata(
    model: Any,
    marks: FloatArray,
    series: IntArray,
    fitted_series: IntArray,
    table: pd.DataFrame,
) -> None:
    """
    Raise if a new row belongs to another stratum than its series.

    Parameters
    ----------
    model : MixedLMAR
        Correlations may have parameters by stratum.
    marks : ndarray, shape (k, c)
        Of the new rows.
    series : ndarray of int, shape (k,)
        Numbers of their series, -1 for those that are not in the fit.
    fitted_series : ndarray of int, shape (n,)
        Of the model's rows.
    table : DataFrame, k rows

    Raises
    ------
    StructureError
    """
    known = np.flatnonzero(series >= 0)
    for k in _stratum_marks(model.residual):
        own = model._grouped.unsort(model._grouped.marks[:, k])
        of_series = np.empty(int(fitted_series.max()) + 1)
        of_series[fitted_series] = own
        off = known[marks[known, k] != of_series[series[known]]]
        if len(off) == 0:
            continue
        names, row = model._mark_labels[k], int(off[0])
        now, before = (int(v) for v in (marks[row, k], of_series[series[row]]))
        column = model.residual.marks[k].column
        raise StructureError(
            f"{column!r} is {names[now]!r} in row {shown(table.index[row])} of "
            f"the new rows, and {names[before]!r} in all rows of its series in the "
            "data; correlations by stratum need strata that are constant within a "
            "series"
        )


def check_series(model: Any, grouped: GroupedRows, table: pd.DataFrame) -> None:
    """
    Raise if strata of correlations change within a series of new rows.

    Parameters
    ----------
    model : MixedLMAR
    grouped : GroupedRows
        The new rows with their marks.
    table : DataFrame
        Labels the rows in messages.

    Raises
    ------
    StructureError
    """
    marks = grouped.marks
    if marks is None:
        return
    for k in _stratum_marks(model.residual):
        changes = (np.diff(marks[:, k]) != 0.0) & (grouped.gaps[1:] != 0.0)
        if changes.any():
            i = int(np.argmax(changes)) + 1
            row = i if grouped.order is None else int(grouped.order[i])
            raise StructureError(
                f"{model.residual.marks[k].column!r} changes within a series at row "
                f"{shown(table.index[row])} of the new rows; correlations by stratum "
                "need strata that are constant within a series"
            )


def _stratum_marks(structure: Any) -> Iterator[int]:
    """Which marks are strata of correlations."""
    for k, mark in enumerate(structure.marks[correlation_marks(structure)]):
        if mark.kind == "stratum":
            yield k


# So many times are tried one by one to find which does not fit.
_TRIED = 200
# Rounding of decimal times on a grid of whole numbers.
_TIME_TOLERANCE = 1e-6


def times_together(
    fitted: Any, new: pd.Series, structure: ResidualStructure, name: str
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
    _check_times_complete(new, name)
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


def _check_times_complete(new: pd.Series, name: str) -> None:
    missing = new.isna().to_numpy()
    if pd.api.types.is_float_dtype(new.dtype):
        missing = missing | np.isinf(new.to_numpy(dtype=np.float64, na_value=np.nan))
    if missing.any():
        raise MissingDataError(
            f"time {name!r} of the new rows is missing or infinite in "
            f"{int(missing.sum())} rows, first in row "
            f"{shown(new.index[int(np.argmax(missing))])}; remove them"
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
