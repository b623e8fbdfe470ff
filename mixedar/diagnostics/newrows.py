"""
Rows of the fit, or of new data, as arrays from which responses are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.design import design_for
from mixedar.design.columns import ColumnStore, as_frame, table_column
from mixedar.design.components import GroupRows, build_component
from mixedar.design.rows import resolve
from mixedar.design.terms import read_formula
from mixedar.exceptions import (
    DuplicateTimeError,
    EmptyDataError,
    GroupError,
    MissingDataError,
    UnsupportedError,
    shown,
)
from mixedar.grouped import GroupedRows, group_rows
from mixedar.prediction.components import component_columns
from mixedar.prediction.times import times_together
from mixedar.validate import group_codes

__all__ = ["DrawnRows", "fitted_rows", "new_rows"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


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
        Order by group, series and time.
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
    exog = _design(spec, table)
    labels = resolve("groups", _groups_name(model, table), table).values
    codes, distinct = group_codes(labels)
    n_groups = len(distinct)
    inside = _series(model, table)
    grouped = _grouped(fit, table, codes, inside, n_groups)
    if known:
        codes, n_groups = _fitted_codes(model, labels), model.n_groups
    parts = [_random(fit, table)]
    sizes = []
    for j, name in enumerate(model.exog_vc.names):
        part = _component(fit, j, name, table, codes, known, namespace)
        parts.append(part)
        sizes.append(part.shape[1])
    z = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
    return DrawnRows(exog, z, tuple(sizes), codes, n_groups, grouped, table.index)


def _design(spec: Any, table: pd.DataFrame) -> FloatArray:
    """The matrix of a formula, without missing values."""
    matrix = np.asarray(design_for(spec, table)[0], dtype=np.float64)
    bad = ~np.isfinite(matrix)
    if bad.any():
        row = int(np.argmax(bad.any(axis=1)))
        name = spec.column_names[int(np.argmax(bad[row]))]
        for variable in spec.variables:
            if pd.isna(table_column(table, variable).iloc[row]):
                name = variable
        raise MissingDataError(
            f"column {name!r} of newdata is missing or infinite in row "
            f"{shown(table.index[row])} ({int(bad.any(axis=1).sum())} such rows); "
            "remove them"
        )
    return matrix


def _groups_name(model: Any, table: pd.DataFrame) -> str:
    name = getattr(model, "groups_name", None)
    if name is None or (name == "Group" and name not in table):
        raise GroupError(
            "the model's groups are not a column of the data; name the column when "
            "fitting, as in groups='id', to simulate newdata"
        )
    return str(name)


def _fitted_codes(model: Any, labels: pd.Series) -> IntArray:
    """Numbers of the fit's groups."""
    first = np.empty(model.n_groups, dtype=np.intp)
    n = len(model._codes)
    first[model._codes[::-1]] = np.arange(n - 1, -1, -1)
    fitted = pd.Index(_plain(pd.Series(model.groups).iloc[first]))
    codes = np.asarray(fitted.get_indexer(pd.Index(_plain(labels))), dtype=np.intp)
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        raise GroupError(
            f"group {shown(labels.iloc[row])} in row {shown(labels.index[row])} of "
            "newdata is not in the fit, which knows no random effects of it; use "
            "groups='new' to draw them"
        )
    return codes


def _plain(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(column.cat.categories.dtype)
    return column


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
    parts = str(name).split(" / ")
    if len(parts) > 1 and name not in table:
        columns = [resolve("series", part, table).values for part in parts]
        labels = pd.concat(columns, axis=1).groupby(parts, observed=True).ngroup()
        return np.asarray(labels, dtype=np.intp)
    return group_codes(resolve("series", name, table).values, "series")[0]


def _grouped(
    fit: Any,
    table: pd.DataFrame,
    codes: IntArray,
    series: IntArray | None,
    n_groups: int,
) -> GroupedRows:
    """Order of the new rows, their times counted as the fit counts."""
    model, structure = fit.model, fit.structure
    if not structure.needs_distinct_times:
        grouped = group_rows(codes, None, None, n_groups)
        return GroupedRows(grouped.order, grouped.offsets, np.zeros(len(codes)))
    times = None
    if model.time is not None:
        name = getattr(model, "time_name", None)
        if name is None:
            raise UnsupportedError(
                "the model's times are not a column of the data; name the column when "
                "fitting, as in time='week', to simulate newdata"
            )
        column = resolve("time", name, table).values
        times = times_together(model.time, column, model.residual, str(name))[1]
    grouped = group_rows(codes, times, series, n_groups)
    twins = grouped.duplicate()
    if twins is not None:
        row, other = (shown(table.index[k]) for k in twins)
        raise DuplicateTimeError(
            f"rows {row} and {other} of newdata have the same group and time; "
            f"{structure.label} needs one observation for each time"
        )
    return grouped


def _random(fit: Any, table: pd.DataFrame) -> FloatArray:
    """Design of the correlated random effects."""
    if fit.k_re == 0:
        return np.empty((len(table), 0))
    spec = getattr(fit.model, "re_spec", None)
    return np.ones((len(table), 1)) if spec is None else _design(spec, table)


def _component(
    fit: Any,
    j: int,
    name: str,
    table: pd.DataFrame,
    codes: IntArray,
    known: bool,
    namespace: Mapping[str, Any],
) -> FloatArray:
    """Columns of a variance component."""
    model = fit.model
    if model._components is None:
        raise UnsupportedError(
            f"variance component {name!r} does not come from a formula; use "
            "vc_formula= to simulate newdata"
        )
    if known:
        columns, squares = component_columns(model, j, table, codes, namespace)
        if squares.any():
            row = shown(table.index[int(np.argmax(squares > 0.0))])
            raise UnsupportedError(
                f"row {row} of newdata has a level of {name!r} that its group did not "
                "have in the fit; use groups='new' to draw its effect"
            )
        return columns
    text = model.vc_formula[name]
    use = read_formula(text, namespace)
    frame = model.data.frame
    columns_used = {
        column: table_column(table, column, "newdata: ").reset_index(drop=True)
        for column in sorted(use.names & {*frame.columns, *frame.index.names})
    }
    for column, values in columns_used.items():
        missing = values.isna().to_numpy()
        if missing.any():
            raise MissingDataError(
                f"column {column!r} of vc_formula is missing in row "
                f"{shown(table.index[int(np.argmax(missing))])} of newdata"
            )
    store = ColumnStore(columns_used, pd.RangeIndex(len(table)), list(table.columns))
    labels = np.arange(int(codes.max()) + 1)
    part = build_component(name, text, store, GroupRows(codes, labels), namespace)
    if part.codes is None:
        assert part.matrix is not None
        return np.asarray(part.matrix, dtype=np.float64)
    out = np.zeros((len(table), int(part.n_columns.max())))
    out[np.arange(len(table)), part.codes] = 1.0
    return out
