"""
What the residual structure reads of each row: times, occasions, coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import group_codes
from mixedar.data.time import time_axis
from mixedar.engine.residuals import placed_part
from mixedar.engine.rows import GroupedRows, group_rows
from mixedar.exceptions import (
    DuplicateTimeError,
    GroupError,
    MissingDataError,
    StructureError,
    TimeError,
    shown,
)
from mixedar.residual import DataLayout, Mark, ResidualStructure


@dataclass(frozen=True)
class RowPositions:
    """
    The rows as a residual structure sees them.

    Attributes
    ----------
    grouped : GroupedRows
        With the structure's marks.
    unit : str
        Unit of time.
    labels : tuple
        Names of levels and strata, mark by mark; see :class:`DataLayout`.
    """

    grouped: GroupedRows
    unit: str
    labels: tuple[tuple[str, ...] | None, ...]


def row_positions(
    structure: ResidualStructure,
    codes: IntArray,
    labels: Sequence[Any],
    time: Any,
    series: Any,
    columns: Mapping[str, Any],
) -> RowPositions:
    """
    Sort the rows and collect what the structure reads of them.

    Parameters
    ----------
    structure : ResidualStructure
        Not bound yet.
    codes : ndarray of int, shape (n,)
        Group numbers.
    labels : sequence, shape (m,)
        Group labels, for messages.
    time, series : array_like, shape (n,), or None
    columns : mapping of str to array_like, shape (n,)
        The columns that the structure reads.

    Returns
    -------
    RowPositions

    Raises
    ------
    TimeError
        If times do not suit the structure.
    DuplicateTimeError
        If a time occurs twice in a series and the structure cannot have that.
    StructureError
        If a stratum changes within a series.
    """
    n = len(codes)
    name = str(getattr(time, "name", None) or "time")
    series_codes = None if series is None else group_codes(series, "series")[0]
    values, unit = None, "row"
    levels: tuple[IntArray, tuple[str, ...]] | None = None
    if any(mark.kind == "level" and mark.column is None for mark in structure.marks):
        levels = _levels(time, name, codes, series_codes)
    if structure.uses_time and time is not None:
        axis = time_axis(time, structure, name)
        values, unit = axis.values, axis.unit or "1"
    elif levels is not None and not structure.uses_time:
        values, unit = levels[0].astype(np.float64), "occasion"
    grouped = group_rows(codes, values, series_codes, len(labels))
    if not structure.uses_time and levels is None and time is not None:
        grouped = _in_order(grouped, time, codes, series_codes)
    if not structure.needs_distinct_times:
        # times do not matter: every row is a series of its own
        grouped = GroupedRows(grouped.order, grouped.offsets, np.zeros(n))
    twins = grouped.duplicate()
    if twins is not None:
        row, other = twins
        # rows by position: an index label may occur more than once
        when = shown(pd.Series(time).iloc[row])
        raise DuplicateTimeError(
            f"time {name!r} is {when} twice in group {shown(labels[codes[row]])} (rows "
            f"{row} and {other}, counted from 0); {structure.label} needs one "
            "observation for each time: aggregate, or name the independent series "
            "inside a group with series="
        )
    if not structure.marks:
        return RowPositions(grouped, unit, ())
    found = [_mark(mark, levels, columns) for mark in structure.marks]
    marks = grouped.sort(np.column_stack([values for values, _ in found]))
    grouped = GroupedRows(grouped.order, grouped.offsets, grouped.gaps, marks)
    _check_strata(structure, grouped, codes, labels, [names for _, names in found])
    _check_apart(structure, grouped, codes, labels)
    return RowPositions(grouped, unit, tuple(names for _, names in found))


def _in_order(
    grouped: GroupedRows, time: Any, codes: IntArray, series: IntArray | None
) -> GroupedRows:
    """
    Rows by time for a structure that does not read it.

    Whitening then does not depend on the order of the caller's rows; times that
    cannot be ordered, and equal ones, stay as they come.
    """
    column = time if isinstance(time, pd.Series) else pd.Series(time)
    if isinstance(column.dtype, pd.CategoricalDtype):
        place = np.asarray(column.cat.codes, dtype=np.float64)
    else:
        try:
            place = pd.factorize(column, sort=True)[0].astype(np.float64)
        except TypeError:
            return grouped
    by_time = group_rows(codes, place, series, grouped.n_groups)
    inside = (by_time.gaps != 0.0).astype(np.float64)
    return GroupedRows(by_time.order, by_time.offsets, inside)


def data_layout(
    grouped: GroupedRows, labels: tuple[tuple[str, ...] | None, ...]
) -> DataLayout:
    """What a structure learns of the data; see :class:`DataLayout`."""
    gaps = grouped.gaps
    starts = np.flatnonzero(gaps == 0.0)
    lengths = np.diff(np.append(starts, len(gaps)))
    marks = np.empty((len(gaps), 0)) if grouped.marks is None else grouped.marks
    return DataLayout(
        gaps=gaps[gaps > 0.0],
        longest=int(lengths.max(initial=0)),
        span=float(np.add.reduceat(gaps, starts).max()) if len(gaps) else 0.0,
        marks=marks,
        labels=labels,
        starts=starts,
    )


def _levels(
    time: Any, name: str, codes: IntArray, series: IntArray | None
) -> tuple[IntArray, tuple[str, ...]]:
    """Place of each row's time among all times, and their names in order."""
    if time is None:
        inside = np.zeros(len(codes)) if series is None else series
        frame = pd.DataFrame({"group": codes, "series": inside})
        count = frame.groupby(["group", "series"], sort=False).cumcount()
        place = np.asarray(count, dtype=np.intp)
        return place, tuple(str(k + 1) for k in range(int(place.max(initial=0)) + 1))
    column = time if isinstance(time, pd.Series) else pd.Series(time)
    missing = column.isna().to_numpy()
    if missing.any():
        raise MissingDataError(
            f"time {name!r} is missing in {int(missing.sum())} rows, first in row "
            f"{shown(column.index[int(np.argmax(missing))])}; remove them or pass "
            "missing='drop'"
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.remove_unused_categories()
        codes = np.asarray(column.cat.codes, dtype=np.intp)
        return codes, _names(column.cat.categories)
    try:
        found, values = pd.factorize(column, sort=True)
    except TypeError as error:
        raise TimeError(
            f"time {name!r} holds values that have no order, such as "
            f"{shown(column.iloc[0])}; make it an ordered categorical"
        ) from error
    if len({isinstance(value, str) for value in values}) > 1:
        raise TimeError(
            f"time {name!r} holds text and other values, which have no order; make it "
            "an ordered categorical"
        )
    return np.asarray(found, dtype=np.intp), _names(values)


def _names(values: Any) -> tuple[str, ...]:
    values = list(values)
    if all(isinstance(v, pd.Timestamp) and v == v.normalize() for v in values):
        return tuple(str(v.date()) for v in values)
    return tuple(
        f"{v:g}" if isinstance(v, (float, np.floating)) else str(v) for v in values
    )


def _mark(
    mark: Mark,
    levels: tuple[IntArray, tuple[str, ...]] | None,
    columns: Mapping[str, Any],
) -> tuple[FloatArray, tuple[str, ...] | None]:
    """Numbers for a mark, and the names of its levels or strata."""
    if mark.column is None:
        assert levels is not None
        return levels[0].astype(np.float64), levels[1]
    column = columns[mark.column]
    if mark.kind == "number":
        values = np.asarray(column)
        if values.dtype.kind not in "iufb":
            raise StructureError(
                f"column {mark.column!r} has to be numeric for the residual "
                f"structure or variance function; it holds {values.dtype}. Make a "
                "column of numbers of it, such as days for dates"
            )
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise MissingDataError(
                f"column {mark.column!r} is missing or infinite in row {row} (counted "
                "from 0); remove the row or pass missing='drop'"
            )
        return values, None
    try:
        codes, labels = group_codes(column, mark.column)
    except GroupError as error:
        raise StructureError(f"strata {mark.column!r}: {error}") from error
    return codes.astype(np.float64), _names(labels.tolist())


def _check_apart(
    structure: ResidualStructure,
    grouped: GroupedRows,
    codes: IntArray,
    labels: Sequence[Any],
) -> None:
    """Without a nugget two rows of a series cannot be at the same place."""
    placed = placed_part(structure)
    if placed is None or grouped.marks is None:
        return
    k = len(placed.marks)
    series = np.cumsum(grouped.gaps == 0.0)
    keys = [*grouped.marks[:, :k].T, series]
    order = np.lexsort(keys)
    same = np.all([np.diff(key[order]) == 0.0 for key in keys], axis=0)
    if not same.any():
        return
    first = int(np.argmax(same))
    rows = np.sort(order[first : first + 2])
    if grouped.order is not None:
        rows = np.sort(grouped.order[rows])
    place = ", ".join(
        f"{mark.column} = {value:g}"
        for mark, value in zip(placed.marks, grouped.marks[order[first]], strict=False)
    )
    raise StructureError(
        f"rows {rows[0]} and {rows[1]} (counted from 0) of group "
        f"{shown(labels[codes[rows[0]]])} are both at {place}, where "
        f"{placed.label} residuals would be the same: pass nugget=True, or "
        "aggregate such rows"
    )


def _check_strata(
    structure: ResidualStructure,
    grouped: GroupedRows,
    codes: IntArray,
    labels: Sequence[Any],
    names: Sequence[tuple[str, ...] | None],
) -> None:
    """Parameters of a correlation cannot change inside a series."""
    by = getattr(getattr(structure, "structure", structure), "by", None)
    by = getattr(structure, "by", by)
    marks = grouped.marks
    if by is None or marks is None:
        return
    inside = grouped.gaps > 0.0
    for k, mark in enumerate(structure.marks):
        if mark.kind != "stratum" or mark.column != by:
            continue
        changes = np.flatnonzero(inside[1:] & (np.diff(marks[:, k]) != 0.0))
        if len(changes) == 0:
            return
        row = int(changes[0]) + 1
        group = codes[row] if grouped.order is None else codes[grouped.order[row]]
        there = names[k] or ()
        values = [shown(there[int(marks[r, k])]) for r in (row - 1, row)]
        raise StructureError(
            f"by={by!r} changes from {values[0]} to {values[1]} inside group "
            f"{shown(labels[group])}; correlations by stratum need strata that are "
            "constant within a series"
        )
