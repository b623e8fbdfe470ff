"""
Variance components as columns of one random-effects design.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mixedar._types import FloatArray, IntArray
from mixedar.data.formula import VarianceComponent
from mixedar.data.formula.columns import ColumnStore, recode, table_column
from mixedar.data.formula.components import GroupRows, build_component
from mixedar.data.formula.names import read_formula
from mixedar.exceptions import LengthError, MissingDataError, UnsupportedError, shown

# Columns are stored densely: beyond this many numbers (4 GiB) say so at once.
_MAX_NUMBERS = 2**29


class ComponentColumns:
    """
    Columns of all variance components, padded to the widest group.

    Parameters
    ----------
    matrices : sequence of ndarray, each of shape (n, k_j)
        In the caller's row order; a group with fewer columns has zeros.
    levels : sequence of ndarray of int, each of shape (n,)
        For components that are indicators of a factor: its codes within
        groups.  They may define grouping levels.

    Attributes
    ----------
    sizes : tuple of int
        Number of columns of each component.
    """

    def __init__(
        self, matrices: Sequence[FloatArray], levels: Sequence[IntArray]
    ) -> None:
        self.matrices = list(matrices)
        self.levels = list(levels)
        self.sizes = tuple(matrix.shape[1] for matrix in matrices)


def from_components(
    components: Sequence[VarianceComponent], n: int
) -> ComponentColumns:
    """
    Columns of components that a formula gave.

    Parameters
    ----------
    components : sequence of VarianceComponent
    n : int
        Number of observations.

    Returns
    -------
    ComponentColumns

    Raises
    ------
    UnsupportedError
        If the padded columns would not fit into memory.
    """
    widths = [int(part.n_columns.max()) for part in components]
    _check_size(n, widths, [part.name for part in components])
    matrices, levels = [], []
    for part, width in zip(components, widths, strict=True):
        if part.codes is not None:
            matrix = np.zeros((n, width))
            matrix[np.arange(n), part.codes] = 1.0
            levels.append(np.asarray(part.codes, dtype=np.intp))
        else:
            assert part.matrix is not None
            matrix = np.asarray(part.matrix, dtype=np.float64)
        matrices.append(matrix)
    return ComponentColumns(matrices, levels)


def from_spec(
    exog_vc: Any, rows_by_group: Sequence[IntArray], n: int
) -> ComponentColumns:
    """
    Columns of statsmodels' per-group matrices.

    Parameters
    ----------
    exog_vc : VCSpec
    rows_by_group : sequence of ndarray of int
        The caller's rows of each group.
    n : int

    Returns
    -------
    ComponentColumns

    Raises
    ------
    LengthError
        If a matrix does not have its group's number of rows.
    """
    matrices, levels = [], []
    widths = [max(m.shape[1] for m in mats) for mats in exog_vc.mats]
    _check_size(n, widths, list(exog_vc.names))
    for name, mats, width in zip(exog_vc.names, exog_vc.mats, widths, strict=True):
        matrix = np.zeros((n, width))
        for rows, part in zip(rows_by_group, mats, strict=True):
            dense = part.toarray() if sparse.issparse(part) else np.asarray(part)
            if len(dense) != len(rows):
                raise LengthError(
                    f"exog_vc component {name!r} has a matrix of {len(dense)} rows for "
                    f"a group of {len(rows)} observations"
                )
            matrix[rows, : dense.shape[1]] = dense
        matrices.append(matrix)
        if ((matrix != 0.0).sum(axis=1) == 1).all() and (matrix.sum(axis=1) == 1).all():
            levels.append(matrix.argmax(axis=1))
    return ComponentColumns(matrices, levels)


def _check_size(n: int, widths: Sequence[int], names: Sequence[str]) -> None:
    if n * sum(widths) > _MAX_NUMBERS:
        widest = names[int(np.argmax(widths))]
        raise UnsupportedError(
            f"variance component {widest!r} has up to {max(widths)} levels in one "
            f"group; for {n} rows that does not fit into memory. Make it the grouping "
            "(groups=) where it is nested, or leave out the larger level"
        )


def component_columns(
    model: Any,
    position: int,
    table: pd.DataFrame,
    codes: IntArray,
    namespace: Mapping[str, Any],
) -> tuple[FloatArray, FloatArray]:
    """
    Columns of one component for new rows.

    Parameters
    ----------
    model : MixedLMAR
        From formulas.
    position : int
        Number of the component.
    table : DataFrame, k rows
    codes : ndarray of int, shape (k,)
        Numbers of the groups; from the model's number of groups on for groups
        that are not in the fit.
    namespace : mapping of str to object
        The caller's variables.

    Returns
    -------
    columns : ndarray, shape (k, size)
    squares : ndarray, shape (k,)
        Sums of squares of the columns that the group did not have.

    Raises
    ------
    UnknownColumnError, MissingDataError
        If a column of the formula is missing, or has missing values.
    UnsupportedError
        If the formula cannot be continued.
    """
    part: VarianceComponent = model._components[position]
    groups, local = np.unique(codes, return_inverse=True)
    old_rows = np.flatnonzero(np.isin(model._codes, groups))
    old_local = np.searchsorted(groups, model._codes[old_rows])
    joint = _built(
        model,
        part.name,
        table,
        old_rows,
        np.concatenate([old_local, local]),
        namespace,
    )
    size, count = model._vc.sizes[position], len(old_rows)
    if part.kind == joint.kind == "indicator":
        return _indicators(part, joint, old_rows, size)
    out, squares = np.zeros((len(codes), size)), np.zeros(len(codes))
    if len(part.names_by_group) == len(joint.names_by_group) == 1:
        assert joint.matrix is not None
        out[:] = joint.matrix[count:]
        unknown = codes >= model.n_groups
        squares[unknown] = (out[unknown] ** 2).sum(axis=1)
        out[unknown] = 0.0
        return out, squares
    for i, group in enumerate(groups):
        rows = joint.groups.rows(i)
        matrix, names = joint.group_matrix(i), joint.column_names(i)
        before, new = matrix[rows < count], matrix[rows >= count]
        known: dict[str, int] = {}
        if group < model.n_groups:
            known = {name: j for j, name in enumerate(part.column_names(int(group)))}
            _check_coding(model, part, int(group), before, names, known)
        for j, name in enumerate(names):
            where = rows[rows >= count] - count
            if name in known:
                out[where, known[name]] = new[:, j]
            else:
                squares[where] += new[:, j] ** 2
    return out, squares


def component_squares(
    model: Any, position: int, table: pd.DataFrame, namespace: Mapping[str, Any]
) -> FloatArray:
    """
    Sums of squares of a component's columns in a group of which nothing is known.

    Parameters
    ----------
    model, position, table, namespace
        As in :func:`component_columns`.

    Returns
    -------
    ndarray, shape (k,)
        Each row is taken for the only one of its group.
    """
    part: VarianceComponent = model._components[position]
    k = len(table)
    if part.kind == "indicator":
        return np.ones(k)
    none = np.empty(0, dtype=np.intp)
    built = _built(model, part.name, table, none, np.arange(k), namespace)
    return np.ones(k) if built.matrix is None else (built.matrix**2).sum(axis=1)


def _built(
    model: Any,
    name: str,
    table: pd.DataFrame,
    old_rows: IntArray,
    codes: IntArray,
    namespace: Mapping[str, Any],
) -> VarianceComponent:
    """The component for some old rows followed by the new ones."""
    text = model.vc_formula[name]
    use = read_formula(text, namespace)
    frame = model.data.frame
    known = {*frame.columns, *frame.index.names}
    columns = {}
    for column in sorted(use.names & known):
        old, new = table_column(frame, column), table_column(table, column, "newdata: ")
        missing = new.isna().to_numpy()
        if missing.any():
            raise MissingDataError(
                f"column {column!r} of vc_formula is missing in row "
                f"{shown(new.index[int(np.argmax(missing))])} of the new rows"
            )
        columns[column] = _joined(old.iloc[old_rows], new, column)
    index = pd.RangeIndex(len(codes))
    store = ColumnStore(columns, index, list(frame.columns))
    labels = np.arange(int(codes.max(initial=-1)) + 1)
    return build_component(name, text, store, GroupRows(codes, labels), namespace)


def _joined(old: pd.Series, new: pd.Series, name: str) -> pd.Series:
    """Old values followed by new ones, of the old type."""
    if isinstance(old.dtype, pd.CategoricalDtype):
        old = old.astype(old.cat.categories.dtype)
    if isinstance(new.dtype, pd.CategoricalDtype):
        new = new.astype(new.cat.categories.dtype)
    new = recode(new, old.dtype, name)
    if pd.api.types.is_numeric_dtype(new.dtype) > pd.api.types.is_numeric_dtype(
        old.dtype
    ):
        raise UnsupportedError(
            f"column {name!r} of the new rows holds {shown(new.iloc[0])}, that of the "
            f"data {shown(old.iloc[0])}; convert it to the same type"
        )
    return pd.concat([old, new], ignore_index=True).rename(name)


def _indicators(
    part: VarianceComponent, joint: VarianceComponent, old_rows: IntArray, size: int
) -> tuple[FloatArray, FloatArray]:
    """Columns of the old indicators, found through the rows that had them."""
    assert part.codes is not None
    assert joint.codes is not None
    count = len(old_rows)
    cell = joint.starts[joint.groups.codes] + joint.codes
    column = np.full(int(joint.starts[-1]), -1)
    column[cell[:count]] = part.codes[old_rows]
    found = column[cell[count:]]
    out = np.zeros((len(found), size))
    known = np.flatnonzero(found >= 0)
    out[known, found[known]] = 1.0
    return out, (found < 0).astype(np.float64)


def _check_coding(
    model: Any,
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
        raise UnsupportedError(
            f"variance component {part.name!r}: the formula "
            f"{model.vc_formula[part.name]!r} gives the rows of group "
            f"{shown(model.group_labels[group])} other columns when rows are added; "
            "write indicators, as in '0 + C(level)'"
        )
