"""
Strata of correlations in new rows: they cannot change inside a series.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.exceptions import StructureError, shown
from mixedar.grouped import GroupedRows
from mixedar.prediction.correlations import correlation_marks

__all__ = ["check_series", "check_strata"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


def check_strata(
    model: Any,
    marks: FloatArray,
    series: IntArray,
    fitted_series: IntArray,
    table: pd.DataFrame,
) -> None:
    """
    Raise if a new row belongs to another stratum than its series.

    Parameters
    ----------
    model : MixedLMAR
        Correlations may have parameters by stratum.
    marks : ndarray, shape (k, c)
        Of the new rows.
    series : ndarray of int, shape (k,)
        Numbers of their series, -1 for those that are not in the fit.
    fitted_series : ndarray of int, shape (n,)
        Of the model's rows.
    table : DataFrame, k rows

    Raises
    ------
    StructureError
    """
    known = np.flatnonzero(series >= 0)
    for k in _strata(model.residual):
        own = model._grouped.unsort(model._grouped.marks[:, k])
        of_series = np.empty(int(fitted_series.max()) + 1)
        of_series[fitted_series] = own
        off = known[marks[known, k] != of_series[series[known]]]
        if len(off) == 0:
            continue
        names, row = model._mark_labels[k], int(off[0])
        now, before = (int(v) for v in (marks[row, k], of_series[series[row]]))
        column = model.residual.marks[k].column
        raise StructureError(
            f"{column!r} is {names[now]!r} in row {shown(table.index[row])} of "
            f"the new rows, and {names[before]!r} in all rows of its series in the "
            "data; correlations by stratum need strata that are constant within a "
            "series"
        )


def check_series(model: Any, grouped: GroupedRows, table: pd.DataFrame) -> None:
    """
    Raise if strata of correlations change within a series of new rows.

    Parameters
    ----------
    model : MixedLMAR
    grouped : GroupedRows
        The new rows with their marks.
    table : DataFrame
        Labels the rows in messages.

    Raises
    ------
    StructureError
    """
    marks = grouped.marks
    if marks is None:
        return
    for k in _strata(model.residual):
        changes = (np.diff(marks[:, k]) != 0.0) & (grouped.gaps[1:] != 0.0)
        if changes.any():
            i = int(np.argmax(changes)) + 1
            row = i if grouped.order is None else int(grouped.order[i])
            raise StructureError(
                f"{model.residual.marks[k].column!r} changes within a series at row "
                f"{shown(table.index[row])} of the new rows; correlations by stratum "
                "need strata that are constant within a series"
            )


def _strata(structure: Any) -> Iterator[int]:
    """Which marks are strata of correlations."""
    for k, mark in enumerate(structure.marks[correlation_marks(structure)]):
        if mark.kind == "stratum":
            yield k
