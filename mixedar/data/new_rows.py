"""
The rows asked for, as arrays on the scale of the fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import float_array
from mixedar.data.designs import (
    component_design,
    fixed_design,
    given_components,
    matrix_rows,
    random_design,
)
from mixedar.data.encode import (
    MarkColumns,
    check_strata,
    complete_labels,
    group_labels,
    group_numbers,
    new_marks,
    times_together,
    with_columns,
    without_categories,
)
from mixedar.data.formula import design_for
from mixedar.data.formula.columns import as_frame
from mixedar.data.rows import combine, resolve
from mixedar.data.time import time_axis
from mixedar.engine.residuals import is_correlated, variance_marks
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
    LengthError,
    MixedARError,
    NotComputedError,
    UnsupportedError,
    shown,
)


@dataclass(frozen=True)
class Places:
    """
    Series and times of the rows asked for, and of the fit's own.

    Attributes
    ----------
    series : ndarray of int, shape (k,)
        Numbers; -1 for series that are not in the fit.
    time : ndarray, shape (k,)
    fitted_series : ndarray of int, shape (n,)
    fitted_time : ndarray, shape (n,)
    """

    series: IntArray
    time: FloatArray
    fitted_series: IntArray
    fitted_time: FloatArray


@dataclass(frozen=True)
class Request:
    """
    Rows to predict.

    Attributes
    ----------
    exog : ndarray, shape (k, p)
    exog_re : ndarray, shape (k, q)
        Columns of all random effects of the row's group, components included.
    new_effects : ndarray, shape (k,)
        Variance of the effects that the fit knows nothing of (levels of variance
        components that the group did not have).
    codes : ndarray of int, shape (k,)
        Numbers of the groups; -1 for unknown ones.
    places : Places or None
        For forecasts.
    index : Index
        Labels of the rows.
    marks : ndarray, shape (k, c), or None
        What the residual structure reads of the rows beside the time, NaN for
        fitted values and what is not needed.  None if it cannot be told, which
        forecasts do not allow.
    lacking : MixedARError or None
        Why the marks cannot be told.
    """

    exog: FloatArray
    exog_re: FloatArray
    new_effects: FloatArray
    codes: IntArray
    places: Places | None
    index: pd.Index
    marks: FloatArray | None
    lacking: MixedARError | None = None

    def split(self) -> tuple[IntArray, IntArray]:
        """Rows of known groups, group by group, and those of unknown ones."""
        known = np.flatnonzero(self.codes >= 0)
        codes = self.codes[known]
        if not (np.diff(codes) >= 0).all():
            known = known[np.argsort(codes, kind="stable")]
        return known, np.flatnonzero(self.codes < 0)

    def take(self, rows: IntArray) -> Request:
        """Some of the rows."""
        if len(rows) == len(self.codes) and (np.diff(rows) == 1).all():
            return self
        places = self.places
        if places is not None:
            places = replace(places, series=places.series[rows], time=places.time[rows])
        return Request(
            self.exog[rows],
            self.exog_re[rows],
            self.new_effects[rows],
            self.codes[rows],
            places,
            self.index[rows],
            None if self.marks is None else self.marks[rows],
            self.lacking,
        )


def fitted_places(model: Any) -> tuple[IntArray, FloatArray]:
    """
    Series and times of the model's own rows.

    Parameters
    ----------
    model : MixedLMAR

    Returns
    -------
    series : ndarray of int, shape (n,)
        Numbers; rows of a series share one.
    time : ndarray, shape (n,)
        Without times in the model, places within the series from 0; zero if
        the structure does not look at distances in time.
    """
    number = _fitted_series(model)
    if not model.residual.uses_time:
        return number, np.zeros(len(number))
    if model.time is not None:
        name = getattr(model.time, "name", None) or "time"
        return number, time_axis(model.time, model.residual, name).values
    return number, _count(number)


def new_places(
    model: Any,
    codes: IntArray,
    labels: pd.Series,
    time: Any,
    series: Any,
    table: pd.DataFrame,
) -> Places:
    """
    Series and times of new rows, and those of the model with the same origin.

    Parameters
    ----------
    model : MixedLMAR
    codes : ndarray of int, shape (k,)
        Numbers of the groups, -1 for unknown ones.
    labels : Series, shape (k,)
        Labels of the groups.
    time, series : str, array_like or None
        As the caller passed them; the columns of the fit by default.
    table : DataFrame, k rows

    Returns
    -------
    Places

    Raises
    ------
    MixedARError
        If times or series are missing or do not suit those of the fit.
    """
    number, when = fitted_places(model)
    inside = None
    if model.series is not None:
        inside = _series_labels(model, series, table)
    asked = _series(model, number, codes, inside)
    if not model.residual.uses_time:
        return Places(asked, np.zeros(len(asked)), number, when)
    if model.time is None:
        new = _places_of(asked, labels, inside, number, time, table)
        return Places(asked, new, number, when)
    name = getattr(model, "time_name", None) if time is None else time
    if name is None:
        raise LengthError(
            "time= is missing: forecasts need a time for each new row, on the scale of "
            "the model's times"
        )
    column = resolve("time", name, table).values
    label = getattr(model.time, "name", None) or "time"
    old, new = times_together(model.time, column, model.residual, str(label))
    return Places(asked, new, number, old)


def count_places(
    model: Any,
    codes: IntArray,
    labels: pd.Series | None,
    time: Any,
    series: Any,
    table: pd.DataFrame,
) -> FloatArray:
    """
    Places of new rows within their series, for a model without times.

    Parameters
    ----------
    model, codes, labels, time, series, table
        As in :func:`new_places`; without labels nothing is known of the groups.

    Returns
    -------
    ndarray, shape (k,)
        Counted from 0; rows continue the series of the fit in the order in which
        they stand, unless `time` says their places.

    Raises
    ------
    LengthError
        If nothing says which series they belong to.
    UnsupportedError
        If `time` holds no places.
    """
    if time is not None:
        return _given_places(time, table)
    if labels is None:
        raise LengthError(
            "time= is missing: the model has no times, its rows count, and without "
            "groups the new rows' places in their series have to be given"
        )
    inside = None
    if model.series is not None:
        inside = _series_labels(model, series, table)
    number = _fitted_series(model)
    asked = _series(model, number, codes, inside)
    return _places_of(asked, labels, inside, number, time, table)


def _fitted_series(model: Any) -> IntArray:
    """Numbers of the series of the model's rows."""
    codes: IntArray = model._codes
    if model.series is None:
        return codes
    inside, distinct = without_categories(pd.Series(model.series)).factorize()
    return np.asarray(pd.factorize(codes * len(distinct) + inside)[0], dtype=np.intp)


def _series(
    model: Any, number: IntArray, codes: IntArray, labels: pd.Series | None
) -> IntArray:
    """Numbers of the series of new rows."""
    if labels is None:
        return codes
    first = np.unique(number, return_index=True)[1]
    fitted = without_categories(pd.Series(model.series).iloc[first])
    inside, distinct = fitted.factorize()
    span = len(distinct)
    keys = model._codes[first] * span + inside
    found = pd.Index(distinct).get_indexer(pd.Index(labels))
    known = (codes >= 0) & (found >= 0)
    asked = np.where(known, codes * span + found, -1)
    return np.asarray(pd.Index(keys).get_indexer(asked), dtype=np.intp)


def _series_labels(model: Any, series: Any, table: pd.DataFrame) -> pd.Series:
    """Labels of the series of new rows."""
    name = getattr(model.series, "name", None) if series is None else series
    if name is None:
        raise LengthError(
            "series= is missing: pass the label of its series for each new row"
        )
    known = {*table.columns, *table.index.names}
    parts: list[Any] = []
    if isinstance(name, str) and name not in known:
        parts = name.split(" / ")
    elif isinstance(name, (list, tuple)) and all(
        isinstance(part, str) and part in known for part in name
    ):
        parts = list(name)
    if len(parts) > 1:
        # several columns: the fit labelled their combinations like this
        texts = [
            map(str, resolve("series", part, table).values.tolist()) for part in parts
        ]
        joined = [" / ".join(pieces) for pieces in zip(*texts, strict=True)]
        labels = pd.Series(joined, index=table.index)
    else:
        labels = resolve("series", name, table).values
    return complete_labels(labels, "series")


def _places_of(
    asked: IntArray,
    labels: pd.Series,
    inside: pd.Series | None,
    fitted: IntArray,
    time: Any,
    table: pd.DataFrame,
) -> FloatArray:
    """Rows continue their series in the order in which they stand."""
    if time is not None:
        return _given_places(time, table)
    # series that are not in the fit begin with the new rows
    others = labels.factorize()[0]
    if inside is not None:
        codes, distinct = inside.factorize()
        others = pd.factorize(others * len(distinct) + codes)[0]
    length = np.bincount(fitted)
    count = _count(np.where(asked >= 0, asked, len(length) + others))
    return np.asarray(count + np.where(asked >= 0, length[asked], 0))


def _given_places(time: Any, table: pd.DataFrame) -> FloatArray:
    column = resolve("time", time, table).values
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(values) | (values != np.rint(values))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UnsupportedError(
            "the model has no times, its rows count: time= takes positions within "
            f"the series, counted from 0, not {shown(column.iloc[row])} (row "
            f"{shown(column.index[row])})"
        )
    return values


def _count(series: IntArray) -> FloatArray:
    """Numbers of rows within their series, from 0, in the order of the rows."""
    order = np.argsort(series, kind="stable")
    starts = np.flatnonzero(np.diff(series[order], prepend=-2))
    sizes = np.diff(np.append(starts, len(order)))
    out = np.empty(len(series))
    out[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return out


_HINT = ", or pass it in residual_data="


@dataclass(frozen=True)
class NewData:
    """
    What the caller passed, as in ``get_prediction``.

    Attributes
    ----------
    newdata : DataFrame or None
    exog, exog_re, exog_vc : array_like or None
    groups, time, series : str, array_like or None
    residual_data : DataFrame, mapping of str to array_like, or None
    namespace : mapping of str to object
        The caller's variables.
    """

    newdata: Any = None
    exog: Any = None
    exog_re: Any = None
    exog_vc: Mapping[str, Any] | None = None
    groups: Any = None
    time: Any = None
    series: Any = None
    residual_data: Any = None
    namespace: Mapping[str, Any] = field(default_factory=dict)

    def only_own_rows(self) -> bool:
        """Whether no new rows were passed."""
        if self.newdata is not None and self.exog is not None:
            raise UnsupportedError("pass newdata= or exog=, not both")
        if self.newdata is not None or self.exog is not None:
            return False
        others = self.exog_re, self.exog_vc, self.groups, self.time, self.series
        if any(value is not None for value in (*others, self.residual_data)):
            raise UnsupportedError(
                "exog_re=, exog_vc=, groups=, time=, series= and residual_data= "
                "describe new rows; pass newdata= or exog= with them"
            )
        return True


def read_request(fit: Any, given: NewData, level: str, unknown: str) -> Request:
    """
    Check the rows asked for and bring them on the scale of the fit.

    Parameters
    ----------
    fit : MixedLMARResults
    given : NewData
    level : {"population", "group", "forecast"}
    unknown : {"error", "population"}

    Returns
    -------
    Request

    Raises
    ------
    MixedARError
        If columns, values or groups are missing or unknown.
    """
    population = level == "population"
    timed = level == "forecast" and is_correlated(fit.structure)
    if given.only_own_rows():
        return _own_rows(fit, population, timed)
    model = fit.model
    spec = getattr(model, "formula_spec", None)
    from_formula = given.exog is None and spec is not None
    if from_formula:
        table = as_frame(given.newdata)
    else:
        exog, index = matrix_rows(
            given.newdata if given.exog is None else given.exog, fit.k_fe
        )
        table = pd.DataFrame(index=index)
    k = len(table)
    if k == 0:
        raise EmptyDataError("the new data have no rows: there is nothing to predict")
    if from_formula:
        exog = fixed_design(spec, table)
    z = random_design(fit, given.exog_re, table, from_formula)
    labels, codes = None, np.full(k, -1, dtype=np.intp)
    if not population:
        labels = group_labels(model, given.groups, table)
        codes = group_numbers(model, labels, unknown)
    new_effects = np.zeros(k)
    if fit.k_vc:
        if from_formula:
            columns, squares = component_design(
                model, table, codes, labels, given.namespace
            )
        else:
            columns, squares = given_components(model, given.exog_vc, codes, population)
        z = np.concatenate([z, columns], axis=1)
        new_effects = squares @ np.asarray(fit.vcomp)
    places = None
    if timed:
        assert labels is not None
        places = new_places(model, codes, labels, given.time, given.series, table)
    request = Request(exog, z, new_effects, codes, places, table.index, None)
    return _with_marks(model, request, labels, given, table)


def _with_marks(
    model: Any,
    request: Request,
    labels: pd.Series | None,
    given: NewData,
    table: pd.DataFrame,
) -> Request:
    """Add what the residual structure reads of the rows."""
    marks, places = model.residual.marks, request.places
    columns = with_columns(table, given.residual_data)
    if not marks:
        return replace(request, marks=np.empty((len(table), 0)))
    # without residuals of others, only the variance of an observation needs them
    needed = variance_marks(model.residual) if places is None else slice(len(marks))

    def place() -> FloatArray:
        return count_places(
            model, request.codes, labels, given.time, given.series, table
        )

    try:
        found = new_marks(model, needed, MarkColumns(columns, given.time, place, _HINT))
    except MixedARError as error:
        if places is not None:
            raise
        return replace(request, lacking=error)
    if places is not None:
        check_strata(model, found, places.series, places.fitted_series, table)
    return replace(request, marks=found)


def _own_rows(fit: Any, population: bool, timed: bool) -> Request:
    """The rows of the fit itself."""
    model = fit.model
    if model.exog is None:
        raise NotComputedError(
            "the data were removed from this fit; pass newdata= to predict"
        )
    n = len(model.exog)
    index, marks = model.data.row_labels, model._grouped.marks
    places = None
    if timed:
        series, time = fitted_places(model)
        places = Places(series, time, series, time)
    return Request(
        model.exog,
        model._random_design(),
        np.zeros(n),
        np.full(n, -1, dtype=np.intp) if population else model._codes,
        places,
        pd.RangeIndex(n) if index is None else index,
        np.empty((n, 0)) if marks is None else model._grouped.unsort(marks),
    )


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


def positions_of_groups(
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
