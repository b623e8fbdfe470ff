"""
Columns of the caller's data, made ready for the formula engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixedar.data.formula.names import FormulaUse
from mixedar.exceptions import MixedARError, UnsupportedError


def take(column: pd.Series, rows: np.ndarray | None, index: pd.Index) -> pd.Series:
    """Rows of a column by position, under the index of these rows."""
    array = column.array if rows is None else column.array.take(rows)
    return pd.Series(array, index=index, name=column.name, copy=False)


def _is_text(column: pd.Series) -> bool:
    if column.dtype == object:
        return pd.api.types.infer_dtype(column, skipna=True) == "string"
    return pd.api.types.is_string_dtype(column.dtype) and not isinstance(
        column.dtype, pd.CategoricalDtype
    )


def _categorical(column: pd.Series) -> pd.Series:
    """Sorted levels, as plain Python objects: what the engines find."""
    codes, levels = column.factorize(sort=True)
    values = np.asarray(levels)
    if values.dtype.kind not in "if":
        values = values.astype(object)
    array = pd.Categorical.from_codes(codes, categories=pd.Index(values))
    return pd.Series(array, index=column.index, name=column.name, copy=False)


def numeric_values(column: pd.Series) -> pd.Series:
    """
    Nullable and Arrow numbers and booleans as NumPy ones.

    Parameters
    ----------
    column : pandas.Series
        Any column.

    Returns
    -------
    pandas.Series
        `column` itself unless its dtype is an extension type for numbers,
        booleans or text (which becomes ``object``).
    """
    dtype = column.dtype
    if isinstance(dtype, (np.dtype, pd.CategoricalDtype)):
        return column
    kind = pd.api.types
    missing = bool(column.isna().any())
    target: Any
    fill: Any
    if kind.is_bool_dtype(dtype):
        target = object if missing else bool
    elif kind.is_integer_dtype(dtype):
        target = float if missing else np.int64
    elif kind.is_float_dtype(dtype):
        target = float
    elif kind.is_string_dtype(dtype):
        return column.astype(object)
    else:
        return column
    if missing:
        fill = None if target is object else np.nan
        values = column.to_numpy(dtype=target, na_value=fill)
    else:
        values = column.to_numpy(dtype=target)
    return pd.Series(values, index=column.index, name=column.name, copy=False)


def recode(column: pd.Series, dtype: Any, name: Any) -> pd.Series:
    """
    Bring a column of new data to the type it had in the fit.

    Parameters
    ----------
    column : pandas.Series
        The new values.
    dtype : dtype
        Type of the column the model was built with.
    name : hashable
        For messages.

    Returns
    -------
    pandas.Series
        The recoded column.

    Raises
    ------
    UnsupportedError
        If a categorical column has a level that is not known.
    MixedARError
        If a column that was numeric is not.
    """
    if isinstance(dtype, pd.CategoricalDtype):
        codes, found = column.factorize()
        known = dtype.categories.astype(object)
        wanted = known.get_indexer(pd.Index(found).astype(object))
        codes = np.append(wanted, -1)[codes]  # -1 stays missing
        lost = (codes < 0) & ~column.isna().to_numpy()
        if lost.any():
            level = column.iloc[int(np.flatnonzero(lost)[0])]
            shown = ", ".join(repr(level) for level in known[:8])
            more = ", ..." if len(known) > 8 else ""
            raise UnsupportedError(
                f"Column {name!r} has the level {level!r}, which the model was not "
                f"built with. Known levels: {shown}{more}."
            )
        array = pd.Categorical.from_codes(codes, dtype=dtype)
        return pd.Series(array, index=column.index, name=column.name, copy=False)
    column = numeric_values(column)
    if isinstance(dtype, np.dtype) and dtype.kind in "iuf":
        try:
            return pd.to_numeric(column)
        except (ValueError, TypeError) as error:
            raise MixedARError(
                f"Column {name!r} was numeric when the model was built and is "
                f"{column.dtype} now."
            ) from error
    return column


class ColumnStore:
    """
    The data's columns as the formulas need them, each converted once.

    Parameters
    ----------
    columns : Mapping[str, pandas.Series]
        The columns that the formulas name, restricted to the rows kept.
    index : pandas.Index
        Their index.
    available : list
        All names in the data, for messages.
    """

    def __init__(
        self,
        columns: Mapping[str, pd.Series],
        index: pd.Index,
        available: list[Any],
    ) -> None:
        self.columns = dict(columns)
        self.index = index
        self.available = available
        self._categories: dict[str, pd.Series] = {}
        self._text: dict[str, bool] = {}

    def category(self, name: str) -> pd.Series:
        """The column `name` as a categorical with sorted levels."""
        if name not in self._categories:
            column = self.columns[name]
            if not isinstance(column.dtype, pd.CategoricalDtype):
                column = _categorical(column)
            self._categories[name] = column
        return self._categories[name]

    def is_text(self, name: str) -> bool:
        """Whether all values of the column are strings (or missing)."""
        if name not in self._text:
            self._text[name] = _is_text(self.columns[name])
        return self._text[name]

    def is_coded(self, name: str, use: FormulaUse) -> bool:
        """Whether the column can be a categorical without changing a thing."""
        direct = name in use.terms or name in use.coded
        if not direct or name in use.elementwise | use.opaque | use.levelled:
            return False
        if self.is_text(name):
            return True
        kind = numeric_values(self.columns[name].iloc[:0]).dtype
        only_coded = name in use.coded and name not in use.terms
        return only_coded and isinstance(kind, np.dtype) and kind.kind in "iuf"

    def frame(self, use: FormulaUse) -> pd.DataFrame:
        """The columns of one formula, ready for the engine (no copies)."""
        names = [name for name in self.columns if name in use.names]
        prepared = {
            name: self.category(name)
            if self.is_coded(name, use)
            else numeric_values(self.columns[name])
            for name in names
        }
        return pd.DataFrame(prepared, index=self.index, copy=False)

    @staticmethod
    def is_separable(frame: pd.DataFrame, use: FormulaUse) -> bool:
        """Whether the dtypes alone tell how the engine codes each column."""
        return all(
            isinstance(dtype, pd.CategoricalDtype)
            or (
                isinstance(dtype, np.dtype)
                and dtype.kind in "biuf"
                and name not in use.coded  # its levels depend on the values
            )
            for name, dtype in frame.dtypes.items()
        )
