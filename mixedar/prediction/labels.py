"""
Groups of new rows: labels as the caller has them, numbers as the fit has them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.design.rows import resolve
from mixedar.exceptions import GroupError, MissingDataError, NotComputedError, shown

__all__ = ["complete_labels", "group_labels", "group_numbers", "without_categories"]

IntArray = NDArray[np.intp]


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
