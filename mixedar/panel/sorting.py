"""
From arrays to a panel: checks, and rows sorted by entity and time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import (
    check_columns,
    check_distinct,
    check_lengths,
    group_codes,
)
from mixedar.data.given import positive_weights
from mixedar.data.time import TimeAxis, time_axis
from mixedar.engine.rows import GroupedRows, group_rows
from mixedar.exceptions import DuplicateTimeError, EmptyDataError, TimeError, shown
from mixedar.panel.data import PanelData
from mixedar.residual import AR1, CAR1


def make_panel(
    endog: FloatArray,
    exog: FloatArray,
    names: Sequence[str],
    entity: object,
    time: object = None,
    weights: Any = None,
    *,
    delta: object = None,
    index: pd.Index | None = None,
    endog_name: str = "y",
    entity_name: str = "entity",
    time_name: str = "time",
    weights_name: str = "",
    n_dropped: int = 0,
) -> PanelData:
    """
    Validate arrays and sort them by entity and time.

    Parameters
    ----------
    endog : ndarray, shape (n,)
        Response.
    exog : ndarray, shape (n, p)
        Regressors.
    names : sequence of str
        Their names.
    entity : array_like, shape (n,)
        Labels of the entities.
    time : array_like, shape (n,), optional
        Times: numbers, dates or periods; the order of rows by default.
    weights : array_like, shape (n,), optional
        Inverse variances of the rows, up to a constant.
    delta : number, str or duration, optional
        The unit of time; the common step of the times of an entity by default.
    index : pandas.Index, optional
        Row labels; positions by default.
    endog_name, entity_name, time_name, weights_name : str
        For messages and summaries.
    n_dropped : int
        Rows that were left out before.

    Returns
    -------
    PanelData

    Raises
    ------
    EmptyDataError
        If there are no rows.
    LengthError
        If arrays differ in length.
    MissingDataError
        If values are missing or infinite.
    GroupError
        If entity labels cannot be sorted.
    TimeError
        If times are neither numbers nor dates.
    MagnitudeError
        If numbers are so large or small that squares overflow.
    DuplicateTimeError
        If an entity is observed twice at one time.
    """
    n = len(endog)
    if n == 0:
        raise EmptyDataError("there are no observations; check subset= and missing=")
    check_lengths(n, exog=exog, entity=entity, time=time)
    check_distinct(names, "regressors'")
    index = pd.RangeIndex(n) if index is None else index
    check_columns(endog, [endog_name], "the response's", index)
    check_columns(exog, list(names), "regressor", index)
    codes, labels = group_codes(entity, entity_name)
    if time is None:
        if delta is not None:
            raise TimeError(f"delta={delta!r} is the unit of time=, which is missing")
        grouped, clock = _by_rows(codes, len(labels))
    else:
        names_of = [entity_name, time_name]
        grouped, clock = _by_time(codes, labels, time, delta, names_of)
    if weights is not None:
        weights = positive_weights(weights, weights_name, index)
        weights = grouped.sort(weights / weights.mean())
    return PanelData(
        y=grouped.sort(endog),
        x=grouped.sort(exog),
        names=tuple(names),
        entity=np.repeat(np.arange(len(labels)), grouped.sizes),
        entity_labels=labels,
        order=grouped.order,
        offsets=grouped.offsets,
        index=index,
        endog_name=endog_name,
        entity_name=entity_name,
        time_name="row" if time is None else time_name,
        has_time=time is not None,
        given_time=time,
        delta=delta,
        n_dropped=n_dropped,
        weights=weights,
        weights_name="" if weights is None else weights_name,
        **clock,
    )


def _by_rows(codes: IntArray, entities: int) -> tuple[GroupedRows, dict[str, Any]]:
    """The order of rows counts: sorted rows of an entity are 0, 1, 2, ..."""
    grouped = group_rows(codes, None, None, entities)
    period = np.arange(len(codes)) - np.repeat(grouped.offsets[:-1], grouped.sizes)
    labels = np.arange(grouped.sizes.max())
    times = period.astype(np.float64)
    return grouped, {"time": period, "times": times, "time_labels": labels}


def _by_time(
    codes: IntArray, labels: NDArray[Any], time: Any, delta: object, names: list[str]
) -> tuple[GroupedRows, dict[str, Any]]:
    """
    Rows by entity and time, and the fields of :class:`PanelData` on times.

    Times are in units of `delta`, or of the common step of those of an entity; `names`
    are those of entity and time.
    """
    axis, on_grid = time_grid(time, names[1], delta)
    grouped = group_rows(codes, axis.values, None, len(labels))
    rows, series = grouped.duplicate(), pd.Series(time)
    if rows is not None:
        who, when = labels[codes[rows[0]]], series.iloc[rows[0]]
        raise DuplicateTimeError(
            f"{names[0]} {shown(who)} is observed twice at {names[1]} {shown(when)} "
            f"(rows {rows[0]} and {rows[1]}, counted from 0); a panel has one "
            "observation for each entity and time: aggregate, or check the columns "
            "that were named as entity= and time="
        )
    step = 1.0
    if on_grid:
        unit = "auto" if delta is None else delta
        step = axis.step(unit, grouped.gaps, True, names[1], "a panel")
    period, levels = pd.factorize(axis.values, sort=True)
    firsts = np.empty(len(levels), dtype=np.intp)
    firsts[period[::-1]] = np.arange(len(period))[::-1]
    return grouped, {
        "time": grouped.sort(period.astype(np.intp)),
        "times": grouped.sort(axis.values) / step,
        "time_labels": series.iloc[firsts].to_numpy(),
        "on_grid": on_grid,
        "time_unit": axis.label(step),
        "time_step": step,
    }


def time_grid(time: object, name: str, delta: object) -> tuple[TimeAxis, bool]:
    """Whole numbers where the times lie on a grid, real numbers elsewhere."""
    # raises for what is neither numbers nor dates
    real = time_axis(time, CAR1(), name)
    try:
        return time_axis(time, AR1(), name), True
    except TimeError:
        if delta is None:
            return real, False
        raise TimeError(
            f"delta={delta!r}: the times {name!r} are on no grid of equal steps; count "
            "them in periods, such as .dt.to_period('M') of dates, or leave delta= out"
        ) from None
