"""
Variables of a model's rows: columns by name, where they vary, places on an axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray, without_mask
from mixedar.data.checks import check_labels
from mixedar.data.formula.terms import levels_of_formula
from mixedar.data.model_data import ModelData
from mixedar.data.occasions import in_natural_order
from mixedar.data.rows import table_column
from mixedar.exceptions import LengthError
from mixedar.hypotheses.df import constant_within


def data_column(data: ModelData, name: object, what: str) -> pd.Series:
    """A variable of the rows: a column of the data by name, or the values given."""
    if isinstance(name, str):
        frame = pd.DataFrame() if data.frame is None else data.frame
        if name == data.time_name and name not in {*frame.columns, *frame.index.names}:
            return pd.Series(data.time, name=name)
        return table_column(frame, name, f"{what}=")
    given: Any = without_mask(name)
    if np.ndim(given) != 1:
        raise LengthError(
            f"{what}: pass the name of a column, or one value for each row"
        )
    column = given if isinstance(given, pd.Series) else pd.Series(np.asarray(given))
    if len(column) != data.nobs:
        raise LengthError(
            f"{what} has {len(column)} values; the model has {data.nobs} rows"
        )
    if data.index is not None:
        check_labels(what, given, data.index, "data")
    return column


def varies_in_groups(column: pd.Series, codes: IntArray) -> bool:
    """Whether a variable takes several values in some group."""
    return not constant_within(pd.factorize(column)[0][:, None], codes)[0]


def main_factor(data: ModelData, most: int = 7) -> str | None:
    """The first fixed factor with 2 to `most` levels that is constant in groups."""
    spec, frame = data.formula_spec, data.frame
    if spec is None or frame is None:
        return None
    labels = levels_of_formula(spec)
    for name in spec.variables:
        if name not in labels:
            continue
        few = 2 <= frame[name].nunique() <= most
        if few and not varies_in_groups(frame[name], data.codes):
            return str(name)
    return None


def plottable(column: pd.Series) -> tuple[NDArray[Any], list[str] | None, str]:
    """
    Values that matplotlib can place.

    Parameters
    ----------
    column : Series
        Numbers, dates, periods, durations or labels.

    Returns
    -------
    values : ndarray
        Floats or ``datetime64``.
    ticks : list of str or None
        For labels: the names of 0, 1, ...
    unit : str
        What to add to the name, such as ``" (days)"``.
    """
    column = in_natural_order(column)
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        if pd.api.types.is_numeric_dtype(dtype.categories.dtype):
            return column.astype(float).to_numpy(), None, ""
        names = [str(level) for level in dtype.categories]
        return column.cat.codes.to_numpy(dtype=float), names, ""
    if isinstance(dtype, pd.PeriodDtype):
        return pd.PeriodIndex(column).to_timestamp().to_numpy(), None, ""
    if pd.api.types.is_datetime64_any_dtype(dtype):
        stamps = pd.DatetimeIndex(column)
        return stamps.tz_localize(None).to_numpy(), None, ""
    if pd.api.types.is_timedelta64_dtype(dtype):
        days = pd.TimedeltaIndex(column) / pd.Timedelta(days=1)
        return days.to_numpy(dtype=float), None, " (days)"
    if pd.api.types.is_numeric_dtype(dtype):
        return column.to_numpy(dtype=float), None, ""
    if len(column) and not isinstance(column.iloc[0], str):
        for convert in (pd.to_numeric, pd.to_datetime):
            try:
                return plottable(pd.Series(convert(column)))
            except (TypeError, ValueError):
                continue
    return plottable(column.astype("category"))


@dataclass(frozen=True)
class PictureRows:
    """
    The rows of a model as points of a picture, in the caller's order.

    Attributes
    ----------
    x : ndarray, shape (n,)
        Horizontal positions: floats, or ``datetime64``.
    x_name : str or None
        The column behind them; None if it is not one of the data.
    x_label, y_label : str
    ticks : list of str or None
        Names of the positions 0, 1, ... if those are levels of a factor.
    y : ndarray, shape (n,)
        The response.
    codes : ndarray of int, shape (n,)
        Numbers of the groups.
    labels : list
        Labels of the groups.
    lines : ndarray of int, shape (n,)
        Numbers of the series; groups unless the model has ``series=``.
    group_name : str
    series : list or None
        The group's number and the series' label of each line, if the model has
        ``series=``.
    joined : bool
        Whether the rows of a line follow one another from left to right: not along
        a covariate that goes up and down in time, and has values of its own in each.
    """

    x: NDArray[Any]
    x_name: str | None
    x_label: str
    ticks: list[str] | None
    y: FloatArray
    y_label: str
    codes: IntArray
    labels: list[Any]
    lines: IntArray
    group_name: str
    series: list[tuple[int, Any]] | None = None
    joined: bool = True

    @cached_property
    def occasions(self) -> NDArray[Any]:
        """Positions that most lines have, in order."""
        pairs = pd.DataFrame({"x": self.x, "line": self.lines}).drop_duplicates()
        shared = pairs.groupby("x")["line"].size()
        return shared.index[shared > 0.5 * pairs["line"].nunique()].to_numpy()

    def paths(self, rows: IntArray, *, broken: bool = False) -> list[IntArray]:
        """
        The given rows by line, from left to right.

        `broken` ends them where an occasion that most lines have is not there, and
        after each row if rows do not follow one another.
        """
        order = rows[np.lexsort((self.x[rows], self.lines[rows]))]
        cut = np.diff(self.lines[order]) != 0
        if broken and not self.joined:
            cut[:] = True
        elif broken:
            x, common = self.x[order], self.occasions
            left = np.searchsorted(common, x[:-1], "right")
            cut |= np.searchsorted(common, x[1:], "left") > left
        return np.split(order, np.flatnonzero(cut) + 1) if len(order) else []


def picture_rows(data: ModelData, x: object = None) -> PictureRows:
    """
    Places of the rows in a picture of the data.

    Parameters
    ----------
    data : ModelData
    x : str or array_like, shape (n,), optional
        What runs from left to right: the model's time by default; without one,
        the first numeric variable of the formula that varies within groups, or
        the order of the rows, and the label says so.

    Returns
    -------
    PictureRows
    """
    x = _default(data) if x is None else x
    group_name = "group" if data.formula is None else data.groups_name
    name, label, ticks = None, f"row of each {group_name} (there is no time=)", None
    place = _places_in_groups(data)
    values: NDArray[Any] = place
    if x is not None:
        column = data_column(data, x, "x")
        values, ticks, unit = plottable(column)
        named = str((x if isinstance(x, str) else column.name) or "")
        named = named or str(data.time_name or "time")
        label = f"{named}{unit}"
        name = named if data.frame is not None and named in data.frame else None
    lines, series = numbered_series(data)
    return PictureRows(
        np.asarray(values),
        name,
        label,
        ticks,
        data.endog,
        data.endog_name,
        data.codes,
        data.group_labels,
        lines,
        group_name,
        series,
        _follows(np.asarray(values), place, lines),
    )


def numbered_series(
    data: ModelData,
) -> tuple[IntArray, list[tuple[int, Any]] | None]:
    """Number of each row's series, and group and label of each; else of its group."""
    if data.series is None:
        return np.asarray(data.codes, dtype=np.intp), None
    pairs = pd.DataFrame({"g": data.codes, "s": np.asarray(data.series)})
    by = pairs.groupby(["g", "s"], sort=True, observed=True)
    return np.asarray(by.ngroup(), dtype=np.intp), list(by.size().index)


def _places_in_groups(data: ModelData) -> FloatArray:
    """Numbers of the rows in their groups, from one, in the order of time if any."""
    grouped = data.grouped
    first = np.repeat(grouped.offsets[:-1], grouped.sizes)
    return grouped.unsort(np.arange(1.0, data.nobs + 1.0) - first)


def _follows(x: NDArray[Any], place: FloatArray, lines: IntArray) -> bool:
    """Whether a line never turns back along `x`, or lines share its values."""
    order = np.lexsort((place, lines))
    here = x[order]
    back = (np.diff(lines[order]) == 0) & (here[1:] < here[:-1])
    pairs = pd.DataFrame({"x": x, "line": lines}).drop_duplicates()
    return not back.any() or bool(pairs["x"].nunique() <= 0.5 * len(pairs))


def _default(data: ModelData) -> Any:
    """The model's time, else a variable that varies within groups, else None."""
    if data.time is not None:
        known = data.frame is not None and data.time_name in data.frame
        return data.time_name if known else pd.Series(data.time)
    for name in () if data.formula_spec is None else data.formula_spec.variables:
        column = data_column(data, name, "x")
        number = pd.api.types.is_numeric_dtype(column.dtype)
        alone = data.n_groups == data.nobs and column.nunique() > 1
        if number and (alone or varies_in_groups(column, data.codes)):
            return name
    return None
