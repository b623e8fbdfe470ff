"""
Rows of the fit, or of new data, as arrays from which responses are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import group_codes
from mixedar.data.components import component_columns
from mixedar.data.designs import fixed_design, random_design
from mixedar.data.encode import (
    MarkColumns,
    check_series,
    complete_labels,
    group_labels,
    group_numbers,
    new_marks,
    times_together,
    with_fitted,
)
from mixedar.data.formula.columns import ColumnStore, as_frame, table_column
from mixedar.data.formula.components import GroupRows, build_component
from mixedar.data.formula.names import read_formula
from mixedar.data.rows import resolve
from mixedar.engine.residuals import relative_sd
from mixedar.engine.rows import GroupedRows, group_rows
from mixedar.exceptions import (
    DuplicateTimeError,
    EmptyDataError,
    GroupError,
    MissingDataError,
    UnsupportedError,
    shown,
)


@dataclass(frozen=True)
class DrawnRows:
    """
    Rows whose responses are drawn, in the caller's order.

    Attributes
    ----------
    exog : ndarray, shape (n, p)
    z : ndarray, shape (n, q)
        Columns of all random effects of the row's group.
    sizes : tuple of int
        Columns of each variance component among the last of `z`.
    codes : ndarray of int, shape (n,)
        Numbers of the groups: of the fit's if effects are given, else those of
        these rows.
    n_groups : int
    grouped : GroupedRows
        The rows as the residual structure sees them.
    index : Index
    """

    exog: FloatArray
    z: FloatArray
    sizes: tuple[int, ...]
    codes: IntArray
    n_groups: int
    grouped: GroupedRows
    index: pd.Index


def fitted_rows(fit: Any) -> DrawnRows:
    """
    The rows of the fit itself.

    Parameters
    ----------
    fit : MixedLMARResults
        With its data.

    Returns
    -------
    DrawnRows
    """
    model = fit.model
    index = model.data.row_labels
    return DrawnRows(
        model.exog,
        model._random_design(),
        tuple(model._vc.sizes),
        model._codes,
        model.n_groups,
        model._grouped,
        pd.RangeIndex(model.nobs) if index is None else index,
    )


def new_rows(
    fit: Any, newdata: Any, known: bool, namespace: Mapping[str, Any]
) -> DrawnRows:
    """
    Rows of new data.

    Parameters
    ----------
    fit : MixedLMARResults
        Of a model from formulas, with its data.
    newdata : DataFrame
    known : bool
        Whether the groups have to be those of the fit.
    namespace : mapping of str to object
        The caller's variables, for `vc_formula`.

    Returns
    -------
    DrawnRows

    Raises
    ------
    MixedARError
        If columns or values are missing, or do not suit the fit.
    """
    model = fit.model
    spec = getattr(model, "formula_spec", None)
    if spec is None:
        raise UnsupportedError(
            "newdata= needs a model from formulas; with arrays, put the rows into the "
            "model, or use get_distribution(exog)"
        )
    table = as_frame(newdata)
    if len(table) == 0:
        raise EmptyDataError("newdata has no rows: there is nothing to simulate")
    exog = fixed_design(spec, table)
    parts = [random_design(fit, None, table, True)]
    labels = _labels(model, table)
    codes, distinct = group_codes(labels)
    n_groups = len(distinct)
    grouped = _grouped(fit, table, codes, n_groups)
    if known:
        codes, n_groups = _fitted_numbers(model, labels), model.n_groups
    for j, name in enumerate(model.exog_vc.names):
        if model._components is None:
            raise UnsupportedError(
                f"variance component {name!r} does not come from a formula; use "
                "vc_formula= to simulate newdata"
            )
        if known:
            parts.append(_known_component(model, j, name, table, codes, namespace))
        else:
            parts.append(_new_component(model, name, table, codes, namespace))
    z = np.concatenate(parts, axis=1)
    sizes = tuple(part.shape[1] for part in parts[1:])
    if grouped.marks is not None:
        # variances may depend on the fitted values
        fitted = exog @ np.asarray(fit.fe_params)
        if known:
            fitted = fitted + np.einsum("ij,ij->i", z, fit._effects.means[codes])
        marks = with_fitted(model, grouped.unsort(grouped.marks), fitted)
        relative_sd(fit.structure, marks, fit._residual_values)  # or say what is wrong
        grouped = replace(grouped, marks=grouped.sort(marks))
    return DrawnRows(exog, z, sizes, codes, n_groups, grouped, table.index)


def _labels(model: Any, table: pd.DataFrame) -> pd.Series:
    try:
        return group_labels(model, None, table)
    except GroupError as error:
        raise GroupError(
            "the model's groups are not a column of the data; name the column when "
            "fitting, as in groups='id', to simulate newdata"
        ) from error


def _fitted_numbers(model: Any, labels: pd.Series) -> IntArray:
    """Numbers of the fit's groups."""
    codes = group_numbers(model, labels, "population")
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        raise GroupError(
            f"group {shown(labels.iloc[row])} in row {shown(labels.index[row])} of "
            "newdata is not in the fit, which knows no random effects of it; use "
            "groups='new' to draw them"
        )
    return codes


def _grouped(
    fit: Any, table: pd.DataFrame, codes: IntArray, n_groups: int
) -> GroupedRows:
    """The new rows as the residual structure sees them."""
    model, structure = fit.model, fit.structure
    timed = structure.uses_time and structure.needs_distinct_times
    times = _times(model, table) if timed else None
    series = _series(model, table)
    grouped = group_rows(codes, times, series, n_groups)

    def place() -> FloatArray:
        """Places of the rows within their series, where rows count as time."""
        starts = np.flatnonzero(grouped.gaps == 0.0)
        sizes = np.diff(np.append(starts, len(codes)))
        inside = np.arange(len(codes)) - np.repeat(starts, sizes)
        return grouped.unsort(inside.astype(np.float64))

    marks = None
    if structure.marks:
        marks = new_marks(model, slice(None), MarkColumns(table, None, place))
        levels = [m.kind == "level" and m.column is None for m in structure.marks]
        if any(levels) and not structure.uses_time:
            # occasions stand for the time
            grouped = group_rows(codes, marks[:, levels.index(True)], series, n_groups)
    if not structure.needs_distinct_times:
        grouped = replace(grouped, gaps=np.zeros(len(codes)))
    twins = grouped.duplicate()
    if twins is not None:
        row, other = (shown(table.index[k]) for k in twins)
        raise DuplicateTimeError(
            f"rows {row} and {other} of newdata have the same group and time; "
            f"{structure.label} needs one observation for each time"
        )
    if marks is None:
        return grouped
    grouped = replace(grouped, marks=grouped.sort(marks))
    check_series(model, grouped, table)
    return grouped


def _times(model: Any, table: pd.DataFrame) -> FloatArray | None:
    """Times counted as the fit counts; None if rows count."""
    if model.time is None:
        return None
    name = getattr(model, "time_name", None)
    if name is None:
        raise UnsupportedError(
            "the model's times are not a column of the data; name the column when "
            "fitting, as in time='week', to simulate newdata"
        )
    column = resolve("time", name, table).values
    return times_together(model.time, column, model.residual, str(name))[1]


def _series(model: Any, table: pd.DataFrame) -> IntArray | None:
    """Numbers of the series inside the groups."""
    if model.series is None:
        return None
    name = getattr(model.series, "name", None)
    if name is None:
        raise UnsupportedError(
            "the model's series are not a column of the data; name the column when "
            "fitting, as in series='arm', to simulate newdata"
        )
    known = {*table.columns, *table.index.names}
    parts = [name] if name in known else str(name).split(" / ")
    frame = pd.DataFrame(
        {
            k: np.asarray(complete_labels(resolve("series", part, table).values, name))
            for k, part in enumerate(parts)
        }
    )
    return np.asarray(frame.groupby(list(frame)).ngroup(), dtype=np.intp)


def _known_component(
    model: Any,
    j: int,
    name: str,
    table: pd.DataFrame,
    codes: IntArray,
    namespace: Mapping[str, Any],
) -> FloatArray:
    """Columns of a component in groups of the fit."""
    columns, squares = component_columns(model, j, table, codes, namespace)
    if squares.any():
        row = shown(table.index[int(np.argmax(squares > 0.0))])
        raise UnsupportedError(
            f"row {row} of newdata has a level of {name!r} that its group did not have "
            "in the fit; use groups='new' to draw its effect"
        )
    return columns


def _new_component(
    model: Any,
    name: str,
    table: pd.DataFrame,
    codes: IntArray,
    namespace: Mapping[str, Any],
) -> FloatArray:
    """Columns of a component in new groups."""
    text = model.vc_formula[name]
    use = read_formula(text, namespace)
    frame = model.data.frame
    columns = {}
    for column in sorted(use.names & {*frame.columns, *frame.index.names}):
        values = table_column(table, column, "newdata: ").reset_index(drop=True)
        missing = values.isna().to_numpy()
        if missing.any():
            raise MissingDataError(
                f"column {column!r} of vc_formula is missing in row "
                f"{shown(table.index[int(np.argmax(missing))])} of newdata"
            )
        columns[column] = values
    store = ColumnStore(columns, pd.RangeIndex(len(table)), list(table.columns))
    labels = np.arange(int(codes.max()) + 1)
    part = build_component(name, text, store, GroupRows(codes, labels), namespace)
    if part.codes is None:
        assert part.matrix is not None
        return np.asarray(part.matrix, dtype=np.float64)
    out = np.zeros((len(table), int(part.n_columns.max())))
    out[np.arange(len(table)), part.codes] = 1.0
    return out
