"""
Design matrices of new rows, complete and of the right shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray, without_mask
from mixedar.data.checks import (
    as_pandas,
    check_labels,
    check_lengths,
    float_array,
)
from mixedar.data.formula import FormulaSpec, VarianceComponent
from mixedar.data.formula.columns import ColumnStore
from mixedar.data.formula.components import (
    GroupRows,
    build_component,
    smooth_component,
)
from mixedar.data.formula.names import capture_namespace, read_formula
from mixedar.data.given import row_labels
from mixedar.data.model_data import ModelData
from mixedar.data.rows import (
    as_frame,
    check_matrix,
    check_present,
    recode,
    row_variable,
    table_column,
    without_categories,
)
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
    LengthError,
    UnknownColumnError,
    UnsupportedError,
    shown,
)


def matrix_rows(
    exog: Any, names: Sequence[str], what: str = "exog", *, lone: bool = True
) -> tuple[FloatArray, pd.Index | None]:
    """
    A design matrix of new rows that the caller passed, and labels of its rows.

    Parameters
    ----------
    exog : array_like, shape (k, p)
        Columns with names are matched by them, and further ones left out.
    names : sequence of str
        Of the model's columns.
    what : str
        The argument, for messages.
    lone : bool
        Whether p values without a second dimension are one row.

    Returns
    -------
    exog : ndarray, shape (k, p)
        NaN where a value is missing.
    index : Index or None

    Raises
    ------
    UnknownColumnError
        If the columns have other names.
    LengthError
        If there are more or fewer columns.
    ResponseError
        If a column is not numeric.
    """
    if isinstance(exog, Mapping) or getattr(exog, "dtype", np.dtype(float)).names:
        exog = as_frame(exog)
    exog = as_pandas(exog)
    p, index = len(names), row_labels(exog)
    if isinstance(exog, pd.Series):
        one_row = lone and (exog.index.equals(pd.RangeIndex(p)) and p > 1)
        if one_row or (lone and all(name in exog.index for name in names)):
            exog, index = exog.to_frame().T.infer_objects(), None
        else:
            exog = exog.to_frame()
    named = isinstance(exog, pd.DataFrame) and not exog.columns.equals(
        pd.RangeIndex(exog.shape[1])
    )
    values = float_array(_named_columns(exog, names, what) if named else exog, what)
    if values.ndim == 1:
        values = values[None, :] if lone and len(values) == p else values[:, None]
    if values.ndim != 2 or values.shape[1] != p:
        count = values.shape[-1] if values.ndim else 0
        raise LengthError(
            f"{what} has the shape {values.shape}, {count} columns; the model has {p} "
            f"({', '.join(names)})"
        )
    return values, index


def _named_columns(
    table: pd.DataFrame, names: Sequence[str], what: str
) -> pd.DataFrame:
    """The columns of a model in its order."""
    labels = [str(label) for label in table.columns]
    absent = [name for name in names if name not in labels]
    if absent:
        raise UnknownColumnError(
            f"new rows need the columns {', '.join(names)} of this model's design; "
            f"{', '.join(absent)} are not there (means of entities are columns of "
            f"their own). Name them so, or pass {what}.to_numpy() to go by position"
        )
    twice = [name for name in names if labels.count(name) > 1]
    if twice:
        raise UnknownColumnError(f"{what} has several columns {shown(twice[0])}")
    return table.iloc[:, [labels.index(name) for name in names]]


def design_rows(
    exog: Any, names: Sequence[str], *others: object
) -> tuple[FloatArray, pd.DataFrame]:
    """
    A complete design of new rows, and these rows with their further columns.

    Without labels of its own it has those of what else was passed for the rows.
    """
    values, index = matrix_rows(exog, names)
    if index is None:
        index, exog = row_labels(*others), None
    if index is None or len(index) != len(values):
        index = pd.RangeIndex(len(values))
    what = [f"number {j + 1} of exog" for j in range(len(names))]
    check_matrix(values, what, index)
    return values, exog if isinstance(exog, pd.DataFrame) else pd.DataFrame(index=index)


def given_random_design(
    exog_re: object, names: Sequence[str], index: pd.Index
) -> FloatArray:
    """Design of the correlated random effects that the caller passed, (k, k_re)."""
    check_labels("exog_re", exog_re, index, "exog")
    values = matrix_rows(exog_re, names, "exog_re", lone=False)[0]
    check_lengths(len(index), exog_re=values)
    check_matrix(
        values, [f"number {j + 1} of exog_re" for j in range(len(names))], index
    )
    return values


def given_components(
    data: ModelData,
    exog_vc: Mapping[str, Any] | None,
    codes: IntArray,
    index: pd.Index,
    known: bool,
) -> tuple[FloatArray, FloatArray]:
    """
    Columns of all variance components of new rows, from arrays.

    Parameters
    ----------
    data : ModelData
    exog_vc : mapping of str to array_like, or None
        Columns of each component, in the order of the row's group.
    codes : ndarray of int, shape (k,)
        Numbers of the groups, -1 for unknown ones.
    index : Index
        Labels of the rows.
    known : bool
        Whether groups can be known at all.

    Returns
    -------
    columns : ndarray, shape (k, sum of sizes)
    squares : ndarray, shape (k, k_vc)
        Sums of squares of the columns of unknown groups.
    """
    sizes, k = data.components.sizes, len(codes)
    columns, squares = np.zeros((k, sum(sizes))), np.zeros((k, len(sizes)))
    unknown = codes < 0
    first = 0
    for j, (name, size) in enumerate(zip(data.component_names, sizes, strict=True)):
        if exog_vc is None or name not in exog_vc:
            fitted = (data.components.matrices[j] ** 2).sum(axis=1)
            if known or float(np.ptp(fitted)) > 0.0:
                raise LengthError(
                    f"exog_vc= needs an array for the variance component {name!r}: "
                    f"{k} rows, up to {size} columns in the order of the row's group"
                )
            squares[:, j] = fitted[0]  # indicators: a row has one, whatever the level
        else:
            check_labels(f"exog_vc[{name!r}]", exog_vc[name], index, "exog")
            block = float_array(exog_vc[name], f"exog_vc[{name!r}]")
            check_lengths(k, exog_vc=block)
            if block.ndim != 2 or block.shape[1] > size:
                raise LengthError(
                    f"exog_vc[{name!r}] has the shape {block.shape}; {k} rows and at "
                    f"most {size} columns are expected"
                )
            squares[unknown, j] = (block[unknown] ** 2).sum(axis=1)
            columns[:, first : first + block.shape[1]] = block
            columns[unknown, first : first + size] = 0.0
        first += size
    return columns, squares


def component_design(
    data: ModelData,
    table: pd.DataFrame,
    codes: IntArray,
    labels: pd.Series,
) -> tuple[FloatArray, FloatArray]:
    """
    Columns of all variance components of new rows, by formula.

    Parameters
    ----------
    data : ModelData
        Of a model from formulas.
    table : DataFrame, k rows
    codes : ndarray of int, shape (k,)
        Numbers of the groups, -1 for unknown ones.
    labels : Series
        Labels of the groups.

    Returns
    -------
    columns : ndarray, shape (k, sum of sizes)
    squares : ndarray, shape (k, k_vc)
        Sums of squares of the columns that the group did not have.
    """
    # unknown groups are numbered after the others
    codes = np.where(codes < 0, data.n_groups + labels.factorize()[0], codes)
    parts = data.component_parts or ()
    found = [
        _component_columns(data, part, size, table, codes)
        for part, size in zip(parts, data.components.sizes, strict=True)
    ]
    columns, squares = zip(*found, strict=True)
    return np.concatenate(columns, axis=1), np.column_stack(squares)


def _component_columns(
    data: ModelData,
    part: VarianceComponent,
    size: int,
    table: pd.DataFrame,
    codes: IntArray,
) -> tuple[FloatArray, FloatArray]:
    """Columns of one component, and sums of squares of those not in the fit."""
    groups, local = np.unique(codes, return_inverse=True)
    old_rows = np.flatnonzero(np.isin(data.codes, groups))
    old_local = np.searchsorted(groups, data.codes[old_rows])
    both = np.concatenate([old_local, local])
    joint = new_component(data, part.name, table, both, old_rows)
    count = len(old_rows)
    if part.codes is not None and joint.codes is not None:
        cell = joint.starts[joint.groups.codes] + joint.codes
        return _indicators(part.codes[old_rows], cell, size)
    out, squares = np.zeros((len(codes), size)), np.zeros(len(codes))
    if len(part.names_by_group) == len(joint.names_by_group) == 1:
        assert joint.matrix is not None
        out[:] = joint.matrix[count:]
        unknown = codes >= data.n_groups
        squares[unknown] = (out[unknown] ** 2).sum(axis=1)
        out[unknown] = 0.0
        return out, squares
    for i, group in enumerate(groups):
        rows = joint.groups.rows[i]
        matrix, names = joint.group_matrix(i), joint.column_names(i)
        before, new = matrix[rows < count], matrix[rows >= count]
        known: dict[str, int] = {}
        if group < data.n_groups:
            known = {name: j for j, name in enumerate(part.column_names(int(group)))}
            _check_coding(data, part, int(group), before, names, known)
        where = rows[rows >= count] - count
        for j, name in enumerate(names):
            if name in known:
                out[where, known[name]] = new[:, j]
            else:
                squares[where] += new[:, j] ** 2
    return out, squares


def new_component(
    data: ModelData,
    name: str,
    table: pd.DataFrame,
    codes: IntArray,
    old_rows: IntArray | None = None,
) -> VarianceComponent:
    """
    A variance component of new rows, after some rows of the data.

    Parameters
    ----------
    data : ModelData
        Of a model from formulas.
    name : str
    table : DataFrame, k rows
    codes : ndarray of int, shape (n + k,)
        Numbers of the groups, from 0.
    old_rows : ndarray of int, shape (n,), optional
        Positions in the data; without them the new columns stay as they are.

    Returns
    -------
    VarianceComponent
    """
    groups = GroupRows(codes, np.arange(int(codes.max(initial=-1)) + 1))
    for part in data.component_parts or ():
        if part.name == name and part.smooth is not None:
            matrix = part.smooth.complete_matrix(table)
            if old_rows is not None:
                assert part.matrix is not None
                matrix = np.concatenate([part.matrix[old_rows], matrix])
            return smooth_component(part.smooth, groups, matrix)
    assert data.vc_formula is not None
    assert data.frame is not None
    frame, namespace = data.frame, capture_namespace()
    use = read_formula(data.vc_formula[name], namespace)
    known = {*frame.columns, *frame.index.names}
    columns = {}
    for column in sorted(use.names & known):
        new = table_column(table, column, "newdata: ")
        what = f"column {column!r} of vc_formula"
        check_present(what, new.isna().to_numpy(), new.index)
        if old_rows is None:
            columns[column] = new.reset_index(drop=True)
        else:
            old = table_column(frame, column).iloc[old_rows]
            columns[column] = _joined(old, new, column)
    store = ColumnStore(columns, pd.RangeIndex(len(codes)), list(frame.columns))
    return build_component(name, use, store, groups, namespace)


def _joined(old: pd.Series, new: pd.Series, name: str) -> pd.Series:
    """Old values followed by new ones, of the old type."""
    old = without_categories(old)
    new = recode(without_categories(new), old.dtype, name)
    numeric = pd.api.types.is_numeric_dtype
    if numeric(new.dtype) and not numeric(old.dtype):
        raise UnsupportedError(
            f"column {name!r} of the new rows holds {shown(new.iloc[0])}, that of the "
            f"data {shown(old.iloc[0])}; convert it to the same type"
        )
    return pd.concat([old, new], ignore_index=True).rename(name)


def _indicators(
    codes: IntArray, cell: IntArray, size: int
) -> tuple[FloatArray, FloatArray]:
    """Columns of the old indicators, found through the first rows, that had them."""
    column = np.full(int(cell.max()) + 1, -1)
    column[cell[: len(codes)]] = codes
    found = column[cell[len(codes) :]]
    out = np.zeros((len(found), size))
    known = np.flatnonzero(found >= 0)
    out[known, found[known]] = 1.0
    return out, (found < 0).astype(np.float64)


def _check_coding(
    data: ModelData,
    part: VarianceComponent,
    group: int,
    before: FloatArray,
    names: list[str],
    known: dict[str, int],
) -> None:
    """The old rows must have their old columns, and nothing in the new ones."""
    old = part.group_matrix(group)
    again = np.zeros_like(old)
    rest = 0.0
    for j, name in enumerate(names):
        if name in known:
            again[:, known[name]] = before[:, j]
        else:
            rest = max(rest, float(np.abs(before[:, j]).max(initial=0.0)))
    if rest > 0.0 or not np.allclose(again, old, rtol=1e-10, atol=1e-12):
        assert data.vc_formula is not None
        raise UnsupportedError(
            f"variance component {part.name!r}: the formula "
            f"{data.vc_formula[part.name]!r} gives the rows of group "
            f"{shown(data.group_labels[group])} other columns when rows are added; "
            "write indicators, as in '0 + C(level)'"
        )


def population_squares(data: ModelData, table: pd.DataFrame) -> FloatArray:
    """
    Sums of squares of the components' columns where no group is known.

    Parameters
    ----------
    data : ModelData
        Of a model from formulas.
    table : DataFrame, k rows

    Returns
    -------
    ndarray, shape (k, k_vc)
        Each row is taken for the only one of its group.
    """
    parts, k = data.component_parts or (), len(table)
    out, none = np.ones((k, len(parts))), np.empty(0, dtype=np.intp)
    for j, part in enumerate(parts):
        if part.codes is None:
            built = new_component(data, part.name, table, np.arange(k), none)
            if built.matrix is not None:
                out[:, j] = (built.matrix**2).sum(axis=1)
    return out


def regressors(
    spec: FormulaSpec | None,
    names: Sequence[str],
    by: str | list[str],
    data: object,
    groups: Any,
) -> tuple[FloatArray, pd.Series]:
    """
    Regressors of new rows, and labels of their groups.

    Parameters
    ----------
    spec : FormulaSpec or None
        None for a regression from arrays.
    names : sequence of str
        Of the p regressors.
    by : str or list of str
        Columns of the groups, unless `groups` says something else.
    data : DataFrame, dict or array_like
        Columns for the formula, or the matrix itself.
    groups : str, array_like or None

    Returns
    -------
    x : ndarray, shape (k, p)
        NaN where a column is missing.
    labels : Series, shape (k,)
        Its index labels the rows.
    """
    if spec is not None:
        table = as_frame(data)
        if not len(table):
            raise EmptyDataError("there are no rows to predict")
        if groups is None:
            groups = by
            wanted = [groups] if isinstance(groups, str) else groups
            missing = set(wanted) - {*table.columns, *table.index.names}
            if missing:
                raise GroupError(
                    f"the data have no column {sorted(missing)[0]!r} with the groups; "
                    "pass groups="
                )
        return spec.matrix(table), row_variable("groups", groups, table).values
    if data is None or groups is None:
        raise GroupError("pass both the design of the new rows and groups=")
    x, index = matrix_rows(data, names, "data", lone=False)
    if not len(x):
        raise EmptyDataError("there are no rows to predict")
    if len(groups) != len(x):
        raise LengthError(f"groups= has {len(groups)} labels for {len(x)} rows")
    if index is not None:
        check_labels("groups", groups, index, "data")
    index = row_labels(data, groups)
    values = getattr(without_mask(groups), "array", groups)
    values = values if hasattr(values, "dtype") else list(values)
    return x, pd.Series(values, pd.RangeIndex(len(x)) if index is None else index)
