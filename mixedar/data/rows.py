"""
Columns and labels of rows: found by name, and as numbers that new rows share.
"""

from __future__ import annotations

import difflib
import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import BoolArray, FloatArray, IntArray, without_mask
from mixedar.data.checks import as_pandas, check_labels
from mixedar.data.given import missing_rows
from mixedar.exceptions import (
    GroupError,
    LengthError,
    MissingDataError,
    MixedARError,
    UnknownColumnError,
    UnsupportedError,
    listing,
    shown,
)

# Decimals that differ by rounding are one level.
_TOLERANCE = 1e-9
# So many levels are listed in a message.
_LISTED = 12


def as_frame(data: object) -> pd.DataFrame:
    """
    View tabular data as a DataFrame.

    Parameters
    ----------
    data : DataFrame, dict, Series or structured array
        A Series is one row; scalars in a dict make one row.  Frames of polars and
        narwhals, pyarrow tables and DuckDB relations are frames too.

    Returns
    -------
    pandas.DataFrame
        `data` itself if it is a DataFrame.

    Raises
    ------
    LengthError
        If the arrays of a dict differ in length.
    MixedARError
        If `data` is none of these.
    """
    if isinstance(data, pd.DataFrame):
        return data
    if isinstance(data, pd.Series):
        return data.to_frame().T.infer_objects()
    if isinstance(data, Mapping):
        scalars = all(np.ndim(value) == 0 for value in data.values())
        try:
            return pd.DataFrame(dict(data), index=[0] if scalars else None, copy=False)
        except ValueError as error:
            lengths = {name: np.shape(value)[:1] for name, value in data.items()}
            raise LengthError(
                "The columns of the data differ in length: "
                + ", ".join(f"{k!r} {v[0] if v else 1}" for k, v in lengths.items())
            ) from error
    if isinstance(data, np.ndarray) and data.dtype.names:
        return pd.DataFrame.from_records(data)
    found = as_pandas(data)
    if found is not data:
        return as_frame(found)
    raise MixedARError(
        "data must be a DataFrame (of pandas, polars, pyarrow, DuckDB or narwhals), a "
        "dict of columns or a structured array, not "
        f"{type(data).__name__}."
    )


def near_matches(name: object, available: Iterable[Any], what: str = "Columns:") -> str:
    """A sentence with the names close to `name`, or the first few names."""
    names = [str(candidate) for candidate in available]
    near = difflib.get_close_matches(str(name), names, n=3)
    if near:
        return f" Did you mean {' or '.join(map(repr, near))}?"
    return f" {what} {listing(names, 8)}." if names else ""


def table_column(table: pd.DataFrame, name: str | int, role: str = "") -> pd.Series:
    """
    A column or index level of a DataFrame.

    Parameters
    ----------
    table : pandas.DataFrame
        The data.
    name : hashable
        Label of the column, or name of a level of the index.
    role : str, optional
        What the column is for, as ``"groups="``; used in messages.

    Returns
    -------
    pandas.Series
        Values with the index of `table`.

    Raises
    ------
    UnknownColumnError
        If there is no such column, or more than one.
    """
    where = f"{role}{name!r}"
    if name in table.columns:
        column = table[name]
        if column.ndim != 1:
            raise UnknownColumnError(f"{where}: the data have several such columns.")
        return column
    if name in table.index.names:
        level = table.index.get_level_values(name)
        return pd.Series(level.array, index=table.index, name=name, copy=False)
    raise UnknownColumnError(
        f"{where} is not a column of the data.{near_matches(name, table.columns)}"
    )


def take(column: pd.Series, rows: np.ndarray | None, index: pd.Index) -> pd.Series:
    """Rows of a column by position, under the index of these rows."""
    array = column.array if rows is None else column.array.take(rows)
    return pd.Series(array, index=index, name=column.name, copy=False)


def numeric_values(column: pd.Series) -> pd.Series:
    """
    Nullable, Arrow and small numbers and booleans as NumPy's usual ones.

    Parameters
    ----------
    column : pandas.Series
        Any column.

    Returns
    -------
    pandas.Series
        `column` itself unless its dtype is an extension type for numbers,
        booleans or text (which becomes ``object``), or integers whose squares or
        differences may exceed it (which become ``int64``, or else ``float64``).
    """
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iu" and dtype != np.int64:
        fits = dtype != np.uint64 or not (column > np.iinfo(np.int64).max).any()
        return column.astype(np.int64 if fits else np.float64)
    if isinstance(dtype, (np.dtype, pd.CategoricalDtype)):
        return column
    kind = pd.api.types
    missing = bool(column.isna().any())
    target: Any
    if kind.is_bool_dtype(dtype):
        target = object if missing else bool
    elif kind.is_integer_dtype(dtype):
        target = float if missing else np.int64
    elif kind.is_float_dtype(dtype):
        target = float
    else:
        return column.astype(object) if kind.is_string_dtype(dtype) else column
    fill: dict[str, Any] = {"na_value": None if target is object else np.nan}
    values = column.to_numpy(dtype=target, **(fill if missing else {}))
    return pd.Series(values, index=column.index, name=column.name, copy=False)


def recode(column: pd.Series, dtype: object, name: object) -> pd.Series:
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
        found: Any
        if isinstance(column.dtype, pd.CategoricalDtype):
            codes, found = column.cat.codes.to_numpy(), column.dtype.categories
        else:
            codes, found = column.factorize()
        known = dtype.categories.astype(object)
        wanted = known.get_indexer(pd.Index(found).astype(object))
        codes = np.append(wanted, -1)[codes]  # -1 stays missing
        lost = (codes < 0) & ~column.isna().to_numpy()
        if lost.any():
            level = column.iloc[int(np.flatnonzero(lost)[0])]
            raise UnsupportedError(
                f"Column {name!r} has the level {level!r}, which the model was not "
                f"built with. Known levels: {listing([*map(repr, known)], 8)}."
            )
        array = pd.Categorical.from_codes(codes, dtype=dtype)
        return pd.Series(array, index=column.index, name=column.name, copy=False)
    column = numeric_values(column)
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        return column
    if isinstance(dtype, np.dtype) and dtype.kind in "iuf":
        # complex numbers would lose a part, and durations have no unit
        with suppress(ValueError, TypeError):
            if column.infer_objects().dtype.kind not in "cmM":
                return pd.to_numeric(column)
        raise MixedARError(
            f"Column {name!r} was numeric when the model was built and is "
            f"{column.dtype} now."
        )
    return column


@dataclass(frozen=True)
class RowVariable:
    """
    A variable with one value (or one row of values) for each row.

    Attributes
    ----------
    role : str
        Argument that gave it, as ``"groups"``.
    name : str or None
        Column name, if there is one.
    values : pandas.Series or ndarray
        All rows of the data; an ndarray has two dimensions.
    named : bool
        Whether it was given as the name of a column.
    """

    role: str
    name: Any
    values: Any
    named: bool = False

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.name!r}" if self.named else f"{self.role}="

    def missing(self) -> np.ndarray:
        """Rows without a value, (n,)."""
        return missing_rows(self.values)

    def take(self, rows: np.ndarray | None, index: pd.Index) -> RowVariable:
        """The same variable at some positions, under their index."""
        if isinstance(self.values, pd.Series):
            values: Any = take(self.values, rows, index)
        else:
            values = self.values if rows is None else self.values[rows]
        return replace(self, values=values)


def resolve(role: str, value: Any, table: pd.DataFrame) -> RowVariable:
    """
    Find the values meant by an argument such as ``groups=``.

    Parameters
    ----------
    role : str
        Name of the argument.
    value : str, int or array_like
        Name of a column or index level, or one value for each row.
    table : pandas.DataFrame
        The data.

    Returns
    -------
    RowVariable
        Name and values.

    Raises
    ------
    UnknownColumnError
        If there is no such column.
    LengthError
        If there is not one value for each row.
    UnsupportedError
        If a Series or DataFrame has other row labels than the data.
    """
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        column = table_column(table, value, f"{role}=")
        return RowVariable(role, value, column, True)
    value = without_mask(value)
    length = len(value) if np.ndim(value) else 1
    if np.ndim(value) == 0 or length != len(table):
        raise LengthError(
            f"{role}= has {length} values; the data have {len(table)} rows. Pass the "
            "name of a column or one value for each row."
        )
    check_labels(role, value, table.index, "data")
    if isinstance(value, pd.DataFrame):
        value = value.to_numpy()
    name = getattr(value, "name", None)
    values = value.array if isinstance(value, (pd.Series, pd.Index)) else value
    if not isinstance(values, pd.api.extensions.ExtensionArray):
        values = np.asarray(values)
    if values.ndim == 1:
        values = pd.Series(values, index=table.index, name=name, copy=False)
    return RowVariable(role, name, values)


def combine(role: str, parts: list[RowVariable], index: pd.Index) -> RowVariable:
    """
    One variable from several: their combinations, as a categorical.

    Parameters
    ----------
    role : str
        Name of the argument.
    parts : list[RowVariable]
        The variables.
    index : pandas.Index
        Index of the data.

    Returns
    -------
    RowVariable
        Categories are texts such as ``"anna / day 2"``; missing if any part is.
    """
    missing = np.zeros(len(index), dtype=bool)
    codes = np.zeros(len(index), dtype=np.int64)
    for part in parts:
        missing |= part.missing()
        each, levels = part.values.factorize()
        codes = pd.factorize(codes * (len(levels) + 1) + each)[0]
    firsts = np.unique(codes, return_index=True)[1]
    columns = [map(str, part.values.iloc[firsts].tolist()) for part in parts]
    texts = [" / ".join(pieces) for pieces in zip(*columns, strict=True)]
    if len(set(texts)) < len(texts):  # "a / b" is also a label
        texts = [f"{text} #{i}" for i, text in enumerate(texts)]
    codes[missing] = -1
    array = pd.Categorical.from_codes(codes, categories=pd.Index(texts))
    name = " / ".join(str(part.name or part.role) for part in parts)
    return RowVariable(role, name, pd.Series(array, index, name=name), True)


def without_categories(labels: pd.Series) -> pd.Series:
    """Categories as the values they stand for."""
    if isinstance(labels.dtype, pd.CategoricalDtype):
        return labels.astype(labels.cat.categories.dtype)
    return labels


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
    def first_of(cls, column: object, codes: IntArray) -> Levels:
        """Labels as they were given, where codes 0 ... m - 1 first occur."""
        first = np.empty(int(codes.max()) + 1, dtype=np.intp)
        first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
        return cls(without_categories(pd.Series(column).iloc[first]))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """As messages and parameters name them."""
        values = list(self.values)
        if all(isinstance(v, pd.Timestamp) and v == v.normalize() for v in values):
            return tuple(str(v.date()) for v in values)
        return tuple(
            f"{v:g}" if isinstance(v, (float, np.floating)) else str(v) for v in values
        )

    def listed(self) -> str:
        """The names, for a message."""
        return listing([*map(repr, self.names)], _LISTED)

    def numbers(self, labels: pd.Series) -> IntArray:
        """Number of each label, shape (k,); -1 for one that is not known."""
        codes, new = without_categories(labels).infer_objects().factorize()
        found = pd.Index(self.values.infer_objects()).get_indexer(pd.Index(new))
        return np.asarray(np.append(found, -1)[codes], dtype=np.intp)

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


def check_matrix(matrix: FloatArray, names: Sequence[str], index: pd.Index) -> None:
    """Raise if a column of new rows has a missing or infinite value."""
    bad = ~np.isfinite(matrix)
    if bad.any():
        rows = np.asarray(bad.any(axis=1))
        column = int(np.argmax(bad[int(np.argmax(rows))]))
        what = f"column {names[column]!r}"
        check_present(what, rows, index, "missing or infinite")


def names_columns(value: object, table: pd.DataFrame) -> bool:
    """Whether a list has names of columns rather than one label a row."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    if not all(isinstance(each, str) for each in value):
        return False
    known = {*table.columns, *table.index.names}
    return len(value) != len(table) or all(each in known for each in value)


def one_factor(role: str, value: Any, table: pd.DataFrame | None = None) -> Any:
    """
    The one column of labels that ``groups=`` or ``entity=`` means.

    Parameters
    ----------
    role : str
        The argument.
    value : str, array_like or None
        A list or a frame of one column stands for it.
    table : DataFrame, optional
        The data of a formula.

    Raises
    ------
    GroupError
        For several columns: nested levels or their combinations may be meant.
    """
    given, value = value, as_pandas(value)
    names = _factor_names(value, table)
    if names is None:
        return given
    if len(names) == 1:
        if isinstance(value, (pd.DataFrame, np.ndarray)):
            return value.iloc[:, 0] if isinstance(value, pd.DataFrame) else value[:, 0]
        return value.get_level_values(0) if isinstance(value, pd.Index) else value[0]
    raise GroupError(_one_column_each(role, names))


def _factor_names(value: Any, table: pd.DataFrame | None) -> list[Any] | None:
    """Names of the columns, if several (or a list of them) are given."""
    known = () if table is None else {*table.columns, *table.index.names}
    if isinstance(value, str) and value not in known and "/" in value:
        parts = [part.strip() for part in value.split("/")]
        return parts if all(part in known for part in parts) else None
    if table is not None and names_columns(value, table):
        return list(value)
    if isinstance(value, pd.DataFrame):
        return list(value.columns)
    if isinstance(value, pd.MultiIndex):
        names = [name or f"level{k}" for k, name in enumerate(value.names)]
        return names if len(names) > 1 else None
    columns: Sequence[Any] = ()
    if isinstance(value, np.ndarray):
        columns = list(value.T) if value.ndim == 2 else ()
    elif isinstance(value, (list, tuple)) and value:
        arrays = (pd.Series, pd.Index, np.ndarray, list)
        columns = value if all(isinstance(each, arrays) for each in value) else ()
    named = [getattr(each, "name", None) for each in columns]
    return [name or f"level{k}" for k, name in enumerate(named)] or None


def as_term(name: str) -> str:
    """A column in a formula, quoted if it has to be."""
    plain = name.isidentifier() and not keyword.iskeyword(name)
    return name if plain else f"Q({name!r})"


def as_factor(name: str) -> str:
    """A column as a factor in a formula."""
    return f"C({as_term(name)})"


def _one_column_each(role: str, names: Sequence[Any]) -> str:
    """What to write for nested levels, or for combinations of columns."""
    nested = "/".join(as_term(str(name)) for name in names)
    combined = "_".join(map(str, names))
    pieces = " + '/' + ".join(f"data[{name!r}].astype(str)" for name in names)
    return (
        f"{role}= takes one column of labels, and there are {len(names)}: "
        f"{', '.join(map(repr, names))}. For levels nested in one another add "
        f"(1 | {nested}) to the formula of mixedlm, without groups=. If the "
        f"combinations are meant, make a column of them, data[{combined!r}] = "
        f"{pieces}, and pass {role}={combined!r}"
    )


def row_variable(role: str, value: Any, table: pd.DataFrame) -> RowVariable:
    """
    As :func:`resolve`, where several columns stand for their combinations.

    Parameters
    ----------
    role : str
        The argument, for messages.
    value : str, list of str or array_like
        A column; columns whose combinations are meant, or how the fit named them,
        as in ``"ward / bed"`` or ``"ward:bed"``; or the values.
    table : DataFrame

    Returns
    -------
    RowVariable
        Missing where the value, or a part of it, is.
    """
    if isinstance(value, RowVariable):
        return value
    if isinstance(value, str) and value not in {*table.columns, *table.index.names}:
        parts = re.split(" / |:", value)
        value = parts if len(parts) > 1 else value
    if not names_columns(value, table):
        return resolve(role, value, table)
    return combine(role, [resolve(role, name, table) for name in value], table.index)


def complete_labels(role: str, value: object, table: pd.DataFrame) -> pd.Series:
    """The values of :func:`row_variable`, none missing, without categories."""
    labels = row_variable(role, value, table).values
    what = "the " + ("group" if role == "groups" else role)
    check_present(what, labels.isna().to_numpy(), table.index)
    return without_categories(labels)


def count_within(series: IntArray) -> FloatArray:
    """Numbers of rows within their series, from 0, in the order of the rows."""
    order = np.argsort(series, kind="stable")
    starts = np.flatnonzero(np.diff(series[order], prepend=-2))
    sizes = np.diff(np.append(starts, len(order)))
    out = np.empty(len(series))
    out[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return out


def further_variables(
    extra: Mapping[str, Any], table: pd.DataFrame
) -> dict[str, RowVariable]:
    """Columns that structures and variance functions name."""
    return {
        f"extra {name}": resolve(
            "residual= or weights" if value is name else name, value, table
        )
        for name, value in extra.items()
    }


def row_variables(
    table: pd.DataFrame, groups: object, time: object, series: object, offset: object
) -> dict[str, RowVariable]:
    """Groups, times, series and offset, by the name of the argument."""
    given = {"groups": groups, "time": time, "series": series, "offset": offset}
    found = {
        role: row_variable(role, value, table)
        for role, value in given.items()
        if value is not None
    }
    for role, variable in found.items():
        if np.ndim(variable.values) != 1:
            raise MixedARError(f"{role}= must have one dimension.")
    return found
