"""
Rows of the data: who takes part, which values are missing, what names mean.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd

from mixedar.data.checks import missing_rows
from mixedar.data.formula.columns import table_column
from mixedar.exceptions import (
    EmptyDataError,
    LengthError,
    MissingDataError,
    UnknownColumnError,
    UnsupportedError,
)

_SHOWN = 5


def capture_namespace(depth: int | None = None) -> dict[str, Any]:
    """
    Variables visible to the caller of a function: locals over globals.

    Parameters
    ----------
    depth : int, optional
        0 is the function that calls ``capture_namespace``, 1 is its caller,
        and so on. By default the first frame outside this package.

    Returns
    -------
    dict[str, object]
        A snapshot; no frame is kept alive.
    """
    frame: FrameType | None = sys._getframe(1)
    steps = 0
    while frame is not None and frame.f_back is not None:
        if depth is None and not _passes_on(frame):
            break
        if depth is not None and steps >= depth:
            break
        frame, steps = frame.f_back, steps + 1
    assert frame is not None
    try:
        return {**frame.f_globals, **frame.f_locals}
    finally:
        del frame


def _passes_on(frame: FrameType) -> bool:
    """Whether a frame is this package's, or a subclass's ``from_formula``."""
    module = str(frame.f_globals.get("__name__", ""))
    ours = module.split(".")[0] == __name__.split(".")[0]
    return ours or frame.f_code.co_name == "from_formula"


def as_namespace(eval_env: Any) -> Mapping[str, Any]:
    """
    Turn an ``eval_env`` argument into a mapping.

    Parameters
    ----------
    eval_env : Mapping, patsy.EvalEnvironment, None or -1
        None and -1 stand for no variables.

    Returns
    -------
    Mapping[str, object]
        Variables by name.

    Raises
    ------
    UnsupportedError
        If `eval_env` is anything else.
    """
    if eval_env is None or (isinstance(eval_env, int) and eval_env == -1):
        return {}
    if isinstance(eval_env, Mapping):
        return eval_env
    layers = getattr(eval_env, "_namespaces", None)
    if isinstance(layers, list):  # patsy's: the first one wins
        merged: dict[str, Any] = {}
        for layer in reversed(layers):
            merged.update(layer)
        return merged
    raise UnsupportedError(
        "eval_env must be a mapping of names to values, such as locals(), or None; "
        f"not {eval_env!r}."
    )


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
        if isinstance(self.values, np.ndarray):
            values: Any = self.values if rows is None else self.values[rows]
        else:
            array = self.values.array
            array = array if rows is None else array.take(rows)
            values = pd.Series(array, index=index, name=self.name, copy=False)
        return RowVariable(self.role, self.name, values, self.named)


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
        If a Series has the labels of the data in another order.
    """
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        column = table_column(table, value, f"{role}=")
        return RowVariable(role, value, column, True)
    n = len(table)
    if isinstance(value, pd.DataFrame):
        value = value.to_numpy()
    if not isinstance(value, (pd.Series, pd.Index, pd.api.extensions.ExtensionArray)):
        value = np.asarray(value)
    length = len(value) if np.ndim(value) else 1
    if np.ndim(value) == 0 or length != n:
        raise LengthError(
            f"{role}= has {length} values; the data have {n} rows. Pass the name "
            "of a column or one value for each row."
        )
    name = getattr(value, "name", None)
    if isinstance(value, pd.Series):
        _check_order(role, value.index, table.index)
        value = value.array
    if np.ndim(value) == 2 and isinstance(value, np.ndarray):
        return RowVariable(role, name, value)
    values = getattr(value, "array", value)
    series = pd.Series(values, index=table.index, name=name, copy=False)
    return RowVariable(role, name, series)


def _check_order(role: str, given: pd.Index, index: pd.Index) -> None:
    """Values go by position; refuse labels that say something else."""
    if given.equals(index) or given.equals(pd.RangeIndex(len(index))):
        return
    if given.is_unique and index.is_unique and given.isin(index).all():
        raise UnsupportedError(
            f"The index of {role}= has the labels of the data in another order. "
            f"Pass {role}.reindex(data.index) to match labels, or "
            f"{role}.to_numpy() to go by position."
        )


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
    return RowVariable(role, name, pd.Series(array, index=index), True)


def subset_rows(subset: Any, index: pd.Index) -> np.ndarray:
    """
    Positions of the rows in ``data.loc[subset]``.

    Parameters
    ----------
    subset : array_like of bool, or of labels, or slice
        As statsmodels' ``subset``.
    index : pandas.Index
        Index of the data.

    Returns
    -------
    ndarray of int
        Positions, in the order of `subset`.

    Raises
    ------
    LengthError
        If a mask has the wrong length.
    UnknownColumnError
        If labels are not in the index.
    EmptyDataError
        If no row is left.
    """
    chosen = subset
    if pd.api.types.is_list_like(subset) and not hasattr(subset, "dtype"):
        chosen = np.asarray(subset)
    if pd.api.types.is_bool_dtype(getattr(chosen, "dtype", np.dtype(object))):
        if len(chosen) != len(index):
            raise LengthError(
                f"subset= has {len(chosen)} values; the data have {len(index)} rows."
            )
        if isinstance(chosen, pd.Series) and not chosen.index.equals(index):
            if not (index.is_unique and set(chosen.index) == set(index)):
                raise LengthError("The index of subset= is not that of the data.")
            chosen = chosen.reindex(index)
        if pd.isna(chosen).any():
            raise MissingDataError("subset= has missing values; fill them first.")
    positions = pd.Series(np.arange(len(index)), index=index)
    try:
        rows = np.atleast_1d(np.asarray(positions.loc[chosen]))
    except KeyError as error:
        labels = [label for label in np.atleast_1d(chosen) if label not in index]
        raise UnknownColumnError(
            "subset= names rows that are not in the index of the data: "
            f"{labels[:_SHOWN]}."
        ) from error
    if not len(rows):
        raise EmptyDataError("subset= leaves no rows.")
    return rows


def missing_error(
    masks: Iterable[tuple[str, np.ndarray]], index: pd.Index, what: str
) -> MissingDataError:
    """
    Describe missing or infinite values.

    Parameters
    ----------
    masks : iterable of (str, ndarray of bool)
        Label of each variable and the rows concerned.
    index : pandas.Index
        Labels of the rows.
    what : {"Missing", "Infinite"}
        What was found.

    Returns
    -------
    MissingDataError
        To be raised.
    """
    parts = []
    for label, mask in masks:
        rows = np.flatnonzero(mask)
        shown = ", ".join(str(index[i]) for i in rows[:_SHOWN])
        more = ", ..." if len(rows) > _SHOWN else ""
        word = "row" if len(rows) == 1 else "rows"
        noun = "value" if len(rows) == 1 else "values"
        parts.append(
            f"{len(rows)} {what.lower()} {noun} in {label} ({word} {shown}{more})"
        )
    remedy = (
        'Remove them or pass missing="drop".'
        if what == "Missing"
        else "Correct or remove these rows."
    )
    return MissingDataError(f"{'; '.join(parts)}. {remedy}")


def check_finite(
    label_values: Iterable[tuple[str, np.ndarray]], index: pd.Index
) -> np.ndarray | None:
    """
    Raise on infinite values; report rows with NaN.

    Parameters
    ----------
    label_values : iterable of (str, ndarray (n,))
        Numeric columns and their labels.
    index : pandas.Index
        Labels of the rows.

    Returns
    -------
    ndarray of bool (n,), or None
        Rows with NaN; None when there are none.

    Raises
    ------
    MissingDataError
        If a value is infinite.
    """
    missing: np.ndarray | None = None
    infinite: dict[str, np.ndarray] = {}
    for label, values in label_values:
        finite = np.isfinite(values)
        if finite.all():
            continue
        nan = np.isnan(values)
        endless = ~finite & ~nan
        if endless.any():
            infinite[label] = endless
        if nan.any():
            missing = nan if missing is None else missing | nan
    if infinite and missing is not None:  # rows to be dropped do not matter
        infinite = {k: v & ~missing for k, v in infinite.items()}
        infinite = {k: v for k, v in infinite.items() if v.any()}
    if infinite:
        raise missing_error(infinite.items(), index, "Infinite")
    return missing
