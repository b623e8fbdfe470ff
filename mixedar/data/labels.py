"""
Labels of rows as numbers: learned from the data, found again in new rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.data.rows import combine, resolve
from mixedar.exceptions import GroupError, MissingDataError, shown

# Decimals that differ by rounding are one level.
_TOLERANCE = 1e-9
# So many levels are listed in a message.
_LISTED = 12


def without_categories(labels: pd.Series) -> pd.Series:
    """Categories as the values they stand for."""
    if isinstance(labels.dtype, pd.CategoricalDtype):
        return labels.astype(labels.cat.categories.dtype)
    return labels


def label_names(values: Iterable[Any]) -> tuple[str, ...]:
    """Labels as messages and parameters name them."""
    values = list(values)
    if all(isinstance(v, pd.Timestamp) and v == v.normalize() for v in values):
        return tuple(str(v.date()) for v in values)
    return tuple(
        f"{v:g}" if isinstance(v, (float, np.floating)) else str(v) for v in values
    )


@dataclass(frozen=True, eq=False)
class Levels:
    """
    The values of a column of the data; their places are their numbers.

    Attributes
    ----------
    values : Series
    """

    values: pd.Series

    @classmethod
    def first_of(cls, column: Any, codes: IntArray) -> Levels:
        """Labels as they were given, where codes 0 ... m - 1 first occur."""
        first = np.empty(int(codes.max()) + 1, dtype=np.intp)
        first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
        return cls(without_categories(pd.Series(column).iloc[first]))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """As messages and parameters name them."""
        return label_names(self.values)

    def listed(self) -> str:
        """The names, for a message."""
        shown_names = ", ".join(repr(name) for name in self.names[:_LISTED])
        return shown_names + (", ..." if len(self.names) > _LISTED else "")

    def numbers(self, labels: pd.Series) -> IntArray:
        """Number of each label, shape (k,); -1 for one that is not known."""
        new = without_categories(labels).infer_objects()
        known = pd.Index(self.values.infer_objects())
        return np.asarray(known.get_indexer(pd.Index(new)), dtype=np.intp)

    def nearest(self, labels: pd.Series) -> IntArray:
        """As :meth:`numbers`, where decimals may be rounded."""
        found = self.numbers(labels)
        known, new = (
            without_categories(column).infer_objects()
            for column in (self.values, labels)
        )
        kinds = new.dtype.kind + known.dtype.kind
        lost = np.flatnonzero(found < 0)
        if not len(lost) or "f" not in kinds or not set(kinds) <= set("iuf"):
            return found
        there = known.to_numpy(dtype=np.float64)
        order = np.argsort(there)
        values = new.to_numpy(dtype=np.float64)[lost]
        right = np.searchsorted(there[order], values)
        size = max(float(np.abs(there).max()), 1e-300)
        for near in (np.maximum(right - 1, 0), np.minimum(right, len(there) - 1)):
            same = np.abs(there[order][near] - values) <= _TOLERANCE * size
            found[lost[same]] = order[near[same]]
        return found

    def known_groups(self, labels: pd.Series, remedy: str) -> IntArray:
        """
        Numbers of groups, all of which have to be known.

        Raises
        ------
        GroupError
            Naming the first that is not, and what can be done about it.
        """
        codes = self.numbers(labels)
        lost = codes < 0
        if lost.any():
            row = int(np.argmax(lost))
            count = labels[lost].nunique()
            more = f" ({count} such groups)" if count > 1 else ""
            raise GroupError(
                f"group {shown(labels.iloc[row])} in row {shown(labels.index[row])} is "
                f"not in the fit{more}; {remedy}"
            )
        return codes


def check_present(
    what: str, missing: BoolArray, index: pd.Index, how: str = "missing"
) -> None:
    """Raise if something is missing in some of the new rows, naming the first."""
    if missing.any():
        count = int(missing.sum())
        more = f" ({count} such rows)" if count > 1 else ""
        raise MissingDataError(
            f"in the new rows, {what} is {how} in row "
            f"{shown(index[int(np.argmax(missing))])}{more}; remove "
            f"{'them' if count > 1 else 'it'}"
        )


def complete_labels(role: str, value: Any, table: pd.DataFrame) -> pd.Series:
    """As :func:`labels_of`, none missing, without categories."""
    labels = labels_of(role, value, table)
    what = "the " + ("group" if role == "groups" else role)
    check_present(what, labels.isna().to_numpy(), table.index)
    return without_categories(labels)


def names_columns(value: Any, table: pd.DataFrame) -> bool:
    """Whether a list has names of columns rather than labels."""
    if not isinstance(value, (list, tuple)):
        return False
    known = {*table.columns, *table.index.names}
    return all(isinstance(each, str) and each in known for each in value)


def labels_of(role: str, value: Any, table: pd.DataFrame) -> pd.Series:
    """
    Labels of the rows of a table.

    Parameters
    ----------
    role : str
        The argument, for messages.
    value : str, list of str or array_like
        A column; columns whose combinations are meant, or how the fit named them,
        as in ``"ward / bed"``; or the labels.
    table : DataFrame

    Returns
    -------
    Series
        Missing where the label, or a part of it, is.
    """
    joined = isinstance(value, str) and " / " in value
    if joined and value not in {*table.columns, *table.index.names}:
        value = value.split(" / ")
    elif not names_columns(value, table):
        return resolve(role, value, table).values
    parts = [resolve(role, name, table) for name in value]
    return combine(role, parts, table.index).values


def count_within(series: IntArray) -> FloatArray:
    """Numbers of rows within their series, from 0, in the order of the rows."""
    order = np.argsort(series, kind="stable")
    starts = np.flatnonzero(np.diff(series[order], prepend=-2))
    sizes = np.diff(np.append(starts, len(order)))
    out = np.empty(len(series))
    out[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return out
