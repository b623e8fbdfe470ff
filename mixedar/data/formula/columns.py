"""
Columns of the data as formulas need them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixedar.data.formula.names import FormulaUse
from mixedar.data.rows import numeric_values
from mixedar.exceptions import MixedARError

_DATES = ("date", "datetime", "datetime64", "timedelta", "timedelta64", "period")
_QUOTED = re.compile(r"""Q\((['"])(.*)\1\)""")


def days_of(values: pd.Series, column: str) -> str:
    """How a number is made of a date, duration or period; empty for others."""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind not in _DATES or isinstance(values.dtype, pd.CategoricalDtype):
        return ""
    if kind == "period":
        return f"{column}.astype('int64')"
    if kind.startswith("timedelta"):
        return f"{column} / pandas.Timedelta('1 day')"
    if values.dtype == object:
        column = f"pandas.to_datetime({column})"
    return f"({column} - {column}.min()).dt.days"


def check_no_date(values: pd.Series, name: str, use: FormulaUse) -> None:
    """Raise if a term of a formula is a date, of which engines make a factor."""
    quoted = _QUOTED.fullmatch(name)
    days = days_of(values, f"data[{(quoted[2] if quoted else name)!r}]")
    if not days:
        return
    example = f", such as data['days'] = {days}"
    example = example if quoted or name in use.names else ""
    raise MixedARError(
        f"{name!r} in the formula {use.formula!r} is a date or duration, and would "
        "have a coefficient for each of its values; make a number of it with its unit"
        f"{example}, or write C({name}) if a factor is meant"
    )


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
                codes, levels = column.factorize(sort=True)
                values = np.asarray(levels)
                if values.dtype.kind not in "if":  # as the engines find them
                    values = values.astype(object)
                array = pd.Categorical.from_codes(codes, categories=pd.Index(values))
                column = pd.Series(array, column.index, name=name, copy=False)
            self._categories[name] = column
        return self._categories[name]

    def unused(self, name: str, use: FormulaUse) -> list[Any]:
        """Levels of a categorical column without rows, where they can be left out."""
        dtype = self.columns[name].dtype
        direct = use.terms | use.coded | use.quoted
        if not isinstance(dtype, pd.CategoricalDtype) or name not in direct:
            return []
        if name in use.elementwise | use.levelled | (use.opaque - use.quoted):
            return []
        counts = np.bincount(self.columns[name].cat.codes + 1, minlength=1)
        counts = np.append(counts, np.zeros(len(dtype.categories), dtype=np.intp))
        return [v for v, k in zip(dtype.categories, counts[1:], strict=False) if not k]

    def is_text(self, name: str) -> bool:
        """Whether all values of the column are strings (or missing)."""
        if name not in self._text:
            column, types = self.columns[name], pd.api.types
            if column.dtype == object:
                found = types.infer_dtype(column, skipna=True) == "string"
            else:
                coded = isinstance(column.dtype, pd.CategoricalDtype)
                found = types.is_string_dtype(column.dtype) and not coded
            self._text[name] = found
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
        for name in names:
            if name in use.terms - use.coded:
                check_no_date(self.columns[name], name, use)
            quoted = use.quoted if "C" not in use.functions else set()
            if name in (use.terms - use.coded) | use.elementwise | quoted:
                self.check_numbers(name, use)
        prepared = {
            name: self.category(name)
            if self.is_coded(name, use)
            else numeric_values(self.columns[name])
            for name in names
        }
        for name in names:
            if self.unused(name, use):
                prepared[name] = prepared[name].cat.remove_unused_categories()
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

    def check_numbers(self, name: str, use: FormulaUse) -> None:
        """Raise for numbers held as objects or text, which would become levels."""
        column = self.columns[name]
        kind = "" if column.dtype != object else pd.api.types.infer_dtype(column)
        numbers = kind in ("integer", "floating", "mixed-integer-float", "decimal")
        if not numbers and self.is_text(name):
            levels = pd.Series(self.category(name).cat.categories, dtype=object)
            parsed = pd.to_numeric(levels, errors="coerce").notna()
            numbers = len(levels) > max(10, len(column) // 2) and parsed.mean() > 0.9
        if numbers:
            raise MixedARError(
                f"column {name!r} in the formula {use.formula!r} is of dtype "
                f"{column.dtype}, with {column.nunique()} levels that are numbers; "
                f"convert it to numbers, data[{name!r}] = "
                f"pandas.to_numeric(data[{name!r}], errors='coerce'), or write "
                f"C({name}) if levels are meant"
            )
