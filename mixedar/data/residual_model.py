"""
From ``residual=`` and ``weights=`` to one structure and what it reads of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray, without_mask
from mixedar.data.checks import (
    as_pandas,
    check_labels,
    check_lengths,
    group_codes,
)
from mixedar.data.formula import FormulaSpec
from mixedar.data.formula.columns import ColumnStore
from mixedar.data.formula.names import read_formula
from mixedar.data.formula.spec import fit_formula
from mixedar.data.occasions import occasions_of
from mixedar.data.rows import Levels, count_within
from mixedar.data.time import TimeAxis, check_times, time_axis, time_column
from mixedar.engine.residuals import (
    correlation_marks,
    correlation_of,
    placed_part,
    variance_of,
    with_replicates,
)
from mixedar.engine.rows import GroupedRows, group_rows
from mixedar.exceptions import (
    DuplicateTimeError,
    GroupError,
    MissingDataError,
    StructureError,
    TimeError,
    UnknownColumnError,
    UnsupportedError,
    shown,
)
from mixedar.residual import DataLayout, Mark, ResidualStructure, combine, resolve
from mixedar.residual.variance import (
    WEIGHTS,
    formulas_of,
    resolve_variance,
    with_columns,
)
from mixedar.residual.variance.base import FITTED, VarianceFunction

Given = TypeVar("Given")


#: The residual structure of a model that names none, see :func:`default_residual`.
DEFAULT_RESIDUAL: Final = "auto"


def default_residual(residual: Given, time: object) -> Given | str:
    """What was asked for; by default AR(1) in time, and independence without times."""
    if not (isinstance(residual, str) and residual.strip().lower() == DEFAULT_RESIDUAL):
        return residual
    return "independent" if time is None else "ar1"


@dataclass(frozen=True)
class ResidualModel:
    """
    A residual structure, not bound yet, and what it reads.

    Attributes
    ----------
    structure : ResidualStructure
    columns : dict of str to (str or array_like)
        Names of columns of the data, or values.
    formulas : tuple of str
        Formulas of the variance function that are still to be evaluated.
    specs : dict of str to FormulaSpec
        Those that have been, for new rows.
    """

    structure: ResidualStructure
    columns: dict[str, Any]
    formulas: tuple[str, ...] = ()
    specs: dict[str, FormulaSpec] = field(default_factory=dict)

    def needed(
        self, available: Iterable[Any], namespace: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What to keep aligned with the rows: columns, and formulas' variables."""
        known = set(available)
        names = [
            name
            for formula in self.formulas
            for name in sorted(read_formula(formula, namespace).names & known)
        ]
        return {**{name: name for name in names}, **self.columns}

    def evaluated(
        self, frame: pd.DataFrame, values: dict[str, Any], namespace: Mapping[str, Any]
    ) -> ResidualModel:
        """
        The model with its columns and formulas as values.

        Parameters
        ----------
        frame : DataFrame
            The rows that are used.
        values : dict of str to array_like
            Values of :meth:`needed`, for these rows.
        namespace : Mapping[str, object]
            Variables that formulas may use.

        Returns
        -------
        ResidualModel
        """
        columns = {name: values[name] for name in self.columns}
        if not self.formulas:
            return replace(self, columns=columns)
        specs, names = {}, {}
        for formula in self.formulas:
            use = read_formula(formula, namespace)
            used = {name: frame[name] for name in use.names if name in frame.columns}
            store = ColumnStore(used, frame.index, list(frame.columns))
            spec, matrix = fit_formula(use, store, namespace)
            specs[formula], names[formula] = spec, list(spec.column_names)
            columns.update(zip(spec.column_names, matrix.T, strict=True))
        variance = variance_of(self.structure)
        assert variance is not None
        correlation = correlation_of(self.structure)
        structure = combine(correlation, with_columns(variance, names))
        read = {mark.column for mark in structure.marks}
        columns = {name: v for name, v in columns.items() if name in read}
        return ResidualModel(structure, columns, (), specs)


def residual_from_names(
    residual: str | type | ResidualStructure | None, weights: object
) -> ResidualModel:
    """
    The structure, and what to look up in the data for it.

    Parameters
    ----------
    residual : str, ResidualStructure or None
    weights : VarianceFunction, str, array_like or None
        An array holds known weights.

    Returns
    -------
    ResidualModel

    Raises
    ------
    UnsupportedError
        If a name or a type is not understood.
    """
    variance: VarianceFunction | None = resolve_variance(weights)
    structure = combine(resolve(residual), variance)
    names = [mark.column for mark in structure.marks]
    columns: dict[str, Any] = {n: n for n in names if n is not None and n != FITTED}
    given = isinstance(weights, (str, type, VarianceFunction)) or weights is None
    if not given and WEIGHTS in columns:
        columns[WEIGHTS] = weights
    return ResidualModel(structure, columns, formulas_of(variance))


def as_columns(data: object) -> Mapping[str, Any] | pd.DataFrame:
    """``residual_data=`` if it holds columns."""
    data = as_pandas(data)
    if not isinstance(data, (Mapping, pd.DataFrame)):
        raise UnsupportedError(
            "residual_data= takes a DataFrame or a mapping of names to columns, not "
            f"{type(data).__name__}"
        )
    return data


def residual_from_arrays(
    residual: str | type | ResidualStructure | None,
    weights: object,
    data: object,
    n: int,
    index: pd.Index | None,
) -> ResidualModel:
    """
    The structure with the values of the columns that it reads.

    Parameters
    ----------
    residual, weights
        As in :func:`residual_from_names`.
    data : DataFrame, mapping of str to array_like, or None
    n : int
        Number of rows.
    index : Index or None
        Their labels, if the model's rows have any.

    Returns
    -------
    ResidualModel

    Raises
    ------
    UnknownColumnError
        If `data` lacks a column.
    LengthError
        If a column has another length.
    UnsupportedError
        If a column has other row labels.
    """
    model = residual_from_names(residual, weights)
    data = {} if data is None else as_columns(data)
    values = {}
    for name, column in model.needed(list(data), {}).items():
        if not isinstance(column, str):
            values[name] = column
        elif column in data:
            values[name] = data[column]
        else:
            known = ", ".join(repr(str(key)) for key in data)
            raise UnknownColumnError(
                f"the residual structure reads the column {name!r}; pass it in "
                "residual_data=, a DataFrame or dict with one value for each row"
                + (f" (it has {known})" if known else "")
            )
    check_lengths(n, **values)
    for name, column in values.items():
        if index is not None:
            role = name if name == WEIGHTS else f"residual_data[{name!r}]"
            check_labels(role, column, index, "endog")
        values[name] = without_mask(column)
    frame = pd.DataFrame()
    if model.formulas:
        frame = pd.DataFrame({k: np.asarray(v) for k, v in values.items()})
    return model.evaluated(frame, values, {})


@dataclass(frozen=True)
class RowPositions:
    """
    The rows as a residual structure sees them.

    Attributes
    ----------
    grouped : GroupedRows
        With the columns that the structure reads.
    time_unit : str
    time_step : float
        How many units of the times' own scale a unit is.
    covariate_levels : tuple of Levels or None
        Occasions and strata among these columns.
    occasion_order : str
        The order of the occasions, if times could have others.
    """

    grouped: GroupedRows
    time_unit: str
    time_step: float
    covariate_levels: tuple[Levels | None, ...] = ()
    occasion_order: str = ""


def row_positions(
    structure: ResidualStructure,
    codes: IntArray,
    labels: Sequence[Any],
    time: object,
    series: object,
    columns: Mapping[str, Any],
    delta: object = None,
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
    delta : number, str, duration or None
        The unit of time; see :meth:`TimeAxis.step`.

    Returns
    -------
    RowPositions

    Raises
    ------
    TimeError
        If times do not suit the structure, or `delta`.
    DuplicateTimeError
        If a time occurs twice in a series and the structure cannot have that.
    StructureError
        If a stratum changes within a series.
    """
    name = str(getattr(time, "name", None) or "time")
    times = None if time is None else time_column(time, name)
    series_codes = None if series is None else group_codes(series, "series")[0]
    if delta is not None and times is None:
        raise TimeError(f"delta={delta!r} is the unit of time=, which is missing")
    values, unit, step, order = None, "row", 1.0, ""
    occasions: tuple[IntArray, Levels] | None = None
    if any(mark.kind == "level" and mark.column is None for mark in structure.marks):
        occasions, order = _occasions(times, name, codes, series_codes)
    axis: TimeAxis | None = None
    if structure.uses_time and times is not None:
        axis = time_axis(times, structure, name)
        values, unit = axis.values, axis.unit or "1"
    elif occasions is not None and not structure.uses_time:
        values, unit = occasions[0].astype(np.float64), "occasion"
    grouped = group_rows(codes, values, series_codes, len(labels))
    if axis is not None and delta is not None:
        whole, what = structure.integer_time, structure.label
        step = axis.step(delta, grouped.gaps, whole, name, what)
        unit = axis.label(step) or "1"
        gaps = grouped.gaps / step
        grouped = replace(grouped, gaps=np.rint(gaps) if whole else gaps)
    if not structure.uses_time and occasions is None and times is not None:
        grouped = _in_order(grouped, times, codes, series_codes)
    if not structure.needs_distinct_times:
        # times do not matter: every row is a series of its own
        grouped = replace(grouped, gaps=np.zeros(len(codes)))
    _check_twins(grouped, structure, times, name, labels, codes)
    if not structure.marks:
        return RowPositions(grouped, unit, step)
    found = [_covariate(mark, occasions, columns) for mark in structure.marks]
    covariates = grouped.sort(np.column_stack([values for values, _ in found]))
    grouped = replace(grouped, marks=covariates)
    levels = tuple(each for _, each in found)
    change = change_of_stratum(structure, grouped)
    if change is not None:
        k, row = change
        group = codes[row] if grouped.order is None else codes[grouped.order[row]]
        there = levels[k]
        assert there is not None
        before, after = (
            shown(there.names[int(covariates[r, k])]) for r in (row - 1, row)
        )
        raise StructureError(
            f"by={structure.marks[k].column!r} changes from {before} to {after} "
            f"inside group {shown(labels[group])}; correlations by stratum need strata "
            "that are constant within a series"
        )
    _check_apart(structure, grouped, codes, labels)
    return RowPositions(grouped, unit, step, levels, order)


def _other_than_twins(structure: ResidualStructure, time: str) -> str:
    """What to do about two observations at one time."""
    apart = "name the independent series inside a group with series="
    repeated = with_replicates(structure, time)
    if not repeated:
        return f"aggregate, or {apart}"
    numbers = "" if "re_formula" in repeated else ", the time as a number"
    return (
        "for repeated measurements of one quantity, which differ by measurement error, "
        f"pass {repeated}{numbers}; aggregate or correct them; or {apart}, if they "
        "tell nothing of one another"
    )


def _check_twins(
    grouped: GroupedRows,
    structure: ResidualStructure,
    time: pd.Series | None,
    name: str,
    labels: Sequence[Any],
    codes: IntArray,
) -> None:
    """Raise if two rows of a series share their time."""
    twins = grouped.duplicate()
    if twins is None or time is None:  # without times rows are a unit apart
        return
    row, other = twins
    # rows by position: an index label may occur more than once
    when = shown(time.iloc[row])
    raise DuplicateTimeError(
        f"time {name!r} is {when} twice in group {shown(labels[codes[row]])} (rows "
        f"{row} and {other}, counted from 0); {structure.label} needs one "
        f"observation for each time: {_other_than_twins(structure, name)}"
    )


def _in_order(
    grouped: GroupedRows, time: pd.Series, codes: IntArray, series: IntArray | None
) -> GroupedRows:
    """
    Rows by time for a structure that does not read it.

    Whitening then does not depend on the order of the caller's rows; times that
    cannot be ordered, and equal ones, stay as they come.
    """
    try:
        place = occasions_of(time, "time")[0].astype(np.float64)
    except TimeError:
        return grouped
    by_time = group_rows(codes, place, series, grouped.n_groups)
    inside = (by_time.gaps != 0.0).astype(np.float64)
    return GroupedRows(by_time.order, by_time.offsets, inside)


def data_layout(grouped: GroupedRows, levels: tuple[Levels | None, ...]) -> DataLayout:
    """What a structure learns of the data; see :class:`DataLayout`."""
    return layout_from(grouped.gaps, grouped.marks, levels)


def layout_from(
    gaps: FloatArray, marks: FloatArray | None, levels: tuple[Levels | None, ...]
) -> DataLayout:
    """The same from gaps and what the structure reads of the rows, sorted."""
    starts = np.flatnonzero(gaps == 0.0)
    lengths = np.diff(np.append(starts, len(gaps)))
    return DataLayout(
        gaps=gaps[gaps > 0.0],
        longest=int(lengths.max(initial=0)),
        span=float(np.add.reduceat(gaps, starts).max()) if len(gaps) else 0.0,
        marks=np.empty((len(gaps), 0)) if marks is None else marks,
        labels=tuple(None if each is None else each.names for each in levels),
        starts=starts,
    )


def _occasions(
    time: pd.Series | None, name: str, codes: IntArray, series: IntArray | None
) -> tuple[tuple[IntArray, Levels], str]:
    """Place of each row's time among all times, these in order, and which order."""
    if time is None:
        if series is not None:
            codes = codes * (int(series.max()) + 1) + series
        place = count_within(codes).astype(np.intp)
        count = int(place.max()) + 1
        return (place, Levels(pd.Series(np.arange(count) + 1))), ""
    check_times(time, name)
    places, values, how = occasions_of(time, name)
    levels = Levels(values)
    if how:
        how = f"The order of {name!r} is {levels.listed()} ({how})."
    return (places, levels), how


def _covariate(
    mark: Mark, occasions: tuple[IntArray, Levels] | None, columns: Mapping[str, Any]
) -> tuple[FloatArray, Levels | None]:
    """Numbers that a structure reads, and occasions or strata behind them."""
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
        codes, labels = group_codes(column, mark.column)
    except GroupError as error:
        raise StructureError(f"strata {mark.column!r}: {error}") from error
    if isinstance(column.dtype, pd.CategoricalDtype):
        # the first level is the reference, as in formulas
        places = column.dtype.categories.get_indexer(pd.Index(labels))
        codes = np.argsort(np.argsort(places))[codes]
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
    """Which columns are strata with correlations of their own."""
    marks = structure.marks[correlation_marks(structure)]
    return [k for k, mark in enumerate(marks) if mark.kind == "stratum"]


def change_of_stratum(
    structure: ResidualStructure, grouped: GroupedRows
) -> tuple[int, int] | None:
    """A stratum and the sorted row at which it changes inside a series, if any does."""
    assert grouped.marks is not None
    inside = grouped.gaps[1:] > 0.0
    for k in strata_of_correlations(structure):
        changes = np.flatnonzero(inside & (np.diff(grouped.marks[:, k]) != 0.0))
        if len(changes):
            return k, int(changes[0]) + 1
    return None
