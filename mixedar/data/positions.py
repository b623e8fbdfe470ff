"""
What the residual structure reads of each row: times, occasions, coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import group_codes
from mixedar.data.labels import Levels, count_within
from mixedar.data.time import time_axis
from mixedar.engine.residuals import correlation_marks, placed_part
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
    levels : tuple of Levels or None
        Occasions and strata, mark by mark.
    """

    grouped: GroupedRows
    unit: str
    levels: tuple[Levels | None, ...]


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
    name = str(getattr(time, "name", None) or "time")
    series_codes = None if series is None else group_codes(series, "series")[0]
    values, unit = None, "row"
    occasions: tuple[IntArray, Levels] | None = None
    if any(mark.kind == "level" and mark.column is None for mark in structure.marks):
        occasions = _occasions(time, name, codes, series_codes)
    if structure.uses_time and time is not None:
        axis = time_axis(time, structure, name)
        values, unit = axis.values, axis.unit or "1"
    elif occasions is not None and not structure.uses_time:
        values, unit = occasions[0].astype(np.float64), "occasion"
    grouped = group_rows(codes, values, series_codes, len(labels))
    if not structure.uses_time and occasions is None and time is not None:
        grouped = _in_order(grouped, time, codes, series_codes)
    if not structure.needs_distinct_times:
        # times do not matter: every row is a series of its own
        grouped = replace(grouped, gaps=np.zeros(len(codes)))
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
    found = [_mark(mark, occasions, columns) for mark in structure.marks]
    marks = grouped.sort(np.column_stack([values for values, _ in found]))
    grouped = replace(grouped, marks=marks)
    levels = tuple(each for _, each in found)
    change = change_of_stratum(structure, grouped)
    if change is not None:
        k, row = change
        group = codes[row] if grouped.order is None else codes[grouped.order[row]]
        there = levels[k]
        assert there is not None
        before, after = (shown(there.names[int(marks[r, k])]) for r in (row - 1, row))
        raise StructureError(
            f"by={structure.marks[k].column!r} changes from {before} to {after} "
            f"inside group {shown(labels[group])}; correlations by stratum need strata "
            "that are constant within a series"
        )
    _check_apart(structure, grouped, codes, labels)
    return RowPositions(grouped, unit, levels)


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


def data_layout(grouped: GroupedRows, levels: tuple[Levels | None, ...]) -> DataLayout:
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
        labels=tuple(None if each is None else each.names for each in levels),
        starts=starts,
    )


def _occasions(
    time: Any, name: str, codes: IntArray, series: IntArray | None
) -> tuple[IntArray, Levels]:
    """Place of each row's time among all times, and these in order."""
    if time is None:
        if series is not None:
            codes = codes * (int(series.max()) + 1) + series
        place = count_within(codes).astype(np.intp)
        return place, Levels(pd.Series(np.arange(int(place.max()) + 1) + 1))
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
        return codes, Levels(pd.Series(column.cat.categories))
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
    return np.asarray(found, dtype=np.intp), Levels(pd.Series(values))


def _mark(
    mark: Mark, occasions: tuple[IntArray, Levels] | None, columns: Mapping[str, Any]
) -> tuple[FloatArray, Levels | None]:
    """Numbers for a mark, and the occasions or strata that they stand for."""
    if mark.column is None:
        assert occasions is not None
        return occasions[0].astype(np.float64), occasions[1]
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
        codes = group_codes(column, mark.column)[0]
    except GroupError as error:
        raise StructureError(f"strata {mark.column!r}: {error}") from error
    return codes.astype(np.float64), Levels.first_of(column, codes)


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


def strata_of_correlations(structure: ResidualStructure) -> list[int]:
    """Which of the structure's marks are strata with correlations of their own."""
    marks = structure.marks[correlation_marks(structure)]
    return [k for k, mark in enumerate(marks) if mark.kind == "stratum"]


def change_of_stratum(
    structure: ResidualStructure, grouped: GroupedRows
) -> tuple[int, int] | None:
    """A mark and the sorted row at which it changes inside a series, if any does."""
    assert grouped.marks is not None
    inside = grouped.gaps[1:] > 0.0
    for k in strata_of_correlations(structure):
        changes = np.flatnonzero(inside & (np.diff(grouped.marks[:, k]) != 0.0))
        if len(changes):
            return k, int(changes[0]) + 1
    return None
