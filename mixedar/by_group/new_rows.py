"""
New rows for regressions by group: their design and the groups they belong to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.design import design_for
from mixedar.design.columns import as_frame
from mixedar.design.rows import combine, resolve
from mixedar.exceptions import EmptyDataError, GroupError, LengthError, shown
from mixedar.validate import float_array

__all__ = ["group_numbers", "index_of", "names_columns", "new_design", "row_labels"]


def new_design(
    model: Any, data: Any, groups: Any
) -> tuple[NDArray[np.float64], pd.Series, pd.Index]:
    """
    Design and labels of new rows.

    Parameters
    ----------
    model : ByGroupOLS
    data : DataFrame, dict or array_like
        Columns for the formula, or the design itself for a model from arrays.
    groups : str or array_like or None
        As for ``ByGroupResults.predict``.

    Returns
    -------
    x : ndarray, shape (k, p)
    labels : Series, shape (k,)
    index : Index

    Raises
    ------
    EmptyDataError
        If there are no rows.
    UnknownColumnError, LengthError, GroupError, UnsupportedError
        If they do not fit the model.
    """
    if model.formula_spec is None:
        return _from_arrays(model, data, groups)
    table = as_frame(data)
    if not len(table):
        raise EmptyDataError("there are no rows to predict")
    x, _ = design_for(model.formula_spec, table)
    if groups is None:
        groups = model.group_columns or model.groups_name
        wanted = [groups] if isinstance(groups, str) else groups
        missing = set(wanted) - {*table.columns, *table.index.names}
        if missing:
            raise GroupError(
                f"the data have no column {sorted(missing)[0]!r} with the groups; "
                "pass groups="
            )
    return x, row_labels(groups, table), table.index


def row_labels(groups: Any, table: pd.DataFrame) -> pd.Series:
    """
    Group labels of the rows of a table.

    Parameters
    ----------
    groups : str, list of str or array_like
        A column, columns whose combinations are the groups, or the labels.
    table : DataFrame

    Returns
    -------
    Series
    """
    if names_columns(groups, table):
        parts = [resolve("groups", name, table) for name in groups]
        return combine("groups", parts, table.index).values
    return resolve("groups", groups, table).values


def names_columns(groups: Any, table: pd.DataFrame) -> bool:
    """Whether `groups` is a list of columns rather than of labels."""
    if not isinstance(groups, (list, tuple)):
        return False
    known = {*table.columns, *table.index.names}
    return all(isinstance(each, str) and each in known for each in groups)


def _from_arrays(
    model: Any, data: Any, groups: Any
) -> tuple[NDArray[np.float64], pd.Series, pd.Index]:
    if data is None or groups is None:
        raise GroupError("pass both the design of the new rows and groups=")
    x = float_array(data, "the new design")
    x = x[:, None] if x.ndim == 1 else x
    if x.shape[1] != len(model.exog_names):
        raise LengthError(
            f"the new design has {x.shape[1]} columns; the model has "
            f"{len(model.exog_names)} coefficients"
        )
    if not len(x):
        raise EmptyDataError("there are no rows to predict")
    if len(groups) != len(x):
        raise LengthError(f"groups= has {len(groups)} labels for {len(x)} rows")
    values = getattr(groups, "array", groups)
    labels = pd.Series(values if hasattr(values, "dtype") else list(values))
    return x, labels, index_of(data, groups, length=len(x))


def index_of(*arrays: Any, length: int) -> pd.Index:
    """The index of the first array that has one, else positions."""
    for array in arrays:
        if isinstance(array, (pd.Series, pd.DataFrame)):
            return array.index
    return pd.RangeIndex(length)


def group_numbers(
    known: pd.Index, labels: pd.Series, index: pd.Index, unknown: str
) -> NDArray[np.intp]:
    """
    Numbers of the groups of new rows.

    Parameters
    ----------
    known : Index
        Labels of the groups.
    labels : Series, shape (k,)
    index : Index
        Labels of the rows, for messages.
    unknown : {"error", "nan"}

    Returns
    -------
    ndarray of int, shape (k,)
        -1 for groups that are not known.

    Raises
    ------
    GroupError
        If a group is not known and `unknown` is ``"error"``.
    """
    codes, levels = labels.factorize()
    numbers = known.astype(object).get_indexer(pd.Index(levels).astype(object))
    found = np.append(numbers, -1)[codes]
    if unknown == "error" and (found < 0).any():
        row = int(np.argmax(found < 0))
        raise GroupError(
            f"group {shown(labels.iloc[row])} (row {shown(index[row])}) is not among "
            f"the {len(known)} groups of the fit; leave such rows out, or pass "
            "unknown='nan'"
        )
    return np.asarray(found, dtype=np.intp)
