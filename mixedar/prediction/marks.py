"""
What the residual structure reads of new rows: occasions, numbers, strata.

Labels are matched with those of the fit by their values.  What a structure reads
under the name ``"fitted"`` is not known before the prediction, and NaN here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.design.columns import table_column
from mixedar.design.rows import resolve
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    StructureError,
    TimeError,
    UnknownColumnError,
    UnsupportedError,
    shown,
)
from mixedar.prediction.designs import fixed_design
from mixedar.prediction.labels import without_categories
from mixedar.residual import Mark
from mixedar.variance import FITTED

__all__ = ["MarkColumns", "new_marks", "with_columns", "with_fitted"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

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
