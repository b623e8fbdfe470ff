"""
Dropping rows with missing values from all arrays of a model together.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from statsmodels.regression.mixed_linear_model import VCSpec

from mixedar.exceptions import DroppedRowsWarning, EmptyDataError

__all__ = ["drop_missing", "warn_dropped"]


def drop_missing(
    endog: Any,
    exog: Any,
    groups: Any,
    exog_re: Any,
    exog_vc: Any,
    time: Any,
    series: Any,
    columns: dict[str, Any],
) -> tuple[Any, Any, Any, Any, Any, Any, Any, dict[str, Any], int]:
    """
    Keep the rows that are complete in every array.

    Parameters
    ----------
    endog, exog, groups, exog_re, time, series : array_like or None
        Arrays of n rows.
    exog_vc : VCSpec or None
        Per-group matrices, whose rows are dropped as well; groups that lose
        all rows go.
    columns : dict of array_like
        What the residual structure reads.

    Returns
    -------
    tuple
        The arrays in the order of the arguments, and the number of rows
        dropped.

    Raises
    ------
    EmptyDataError
        If no row is complete.
    """
    arrays = [endog, exog, groups, exog_re, time, series, *columns.values()]
    n = len(endog)
    keep = np.ones(n, dtype=bool)
    for array in arrays:
        if array is not None:
            keep &= ~_missing(array)
    if exog_vc is not None and len(exog_vc.names):
        rows_by_group = _rows_by_group(groups)
        for mats in exog_vc.mats:
            for rows, matrix in zip(rows_by_group, mats, strict=True):
                keep[rows] &= np.isfinite(np.asarray(matrix, dtype=float)).all(axis=1)
    dropped = int(n - keep.sum())
    if dropped == n:
        raise EmptyDataError("every row has a missing value; nothing is left to fit")
    if dropped == 0:
        return endog, exog, groups, exog_re, exog_vc, time, series, columns, 0
    if exog_vc is not None and len(exog_vc.names):
        exog_vc = _keep_components(exog_vc, rows_by_group, keep)
    kept = [_take(array, keep) for array in arrays]
    endog, exog, groups, exog_re, time, series = kept[:6]
    columns = dict(zip(columns, kept[6:], strict=True))
    return endog, exog, groups, exog_re, exog_vc, time, series, columns, dropped


def _missing(array: Any) -> NDArray[np.bool_]:
    values = array if hasattr(array, "shape") else np.asarray(array)
    mask: NDArray[np.bool_] = np.asarray(pd.isna(values))
    return mask if mask.ndim == 1 else np.asarray(mask.any(axis=1))


def _take(array: Any, keep: NDArray[np.bool_]) -> Any:
    if array is None:
        return None
    if isinstance(array, (pd.Series, pd.DataFrame)):
        return array.loc[keep]
    return np.asarray(array)[keep]


def _rows_by_group(groups: Any) -> list[NDArray[np.intp]]:
    """Rows of each group in the sorted order of the labels, missing ones last."""
    codes, labels = pd.factorize(np.asarray(groups), sort=True)
    return [np.flatnonzero(codes == k) for k in range(len(labels))]


def _keep_components(
    exog_vc: Any, rows_by_group: list[NDArray[np.intp]], keep: NDArray[np.bool_]
) -> Any:
    stays = [bool(keep[rows].any()) for rows in rows_by_group]
    mats, colnames = [], []
    for names, matrices in zip(exog_vc.colnames, exog_vc.mats, strict=True):
        mats.append(
            [
                matrix[keep[rows]]
                for rows, matrix, here in zip(
                    rows_by_group, matrices, stays, strict=True
                )
                if here
            ]
        )
        colnames.append([n for n, here in zip(names, stays, strict=True) if here])
    return VCSpec(list(exog_vc.names), colnames, mats)


def warn_dropped(count: int) -> None:
    """Say how many rows were left out, if any were."""
    if count:
        warnings.warn(
            f"{count} row{'s' if count > 1 else ''} with missing values "
            f"{'were' if count > 1 else 'was'} left out",
            DroppedRowsWarning,
            stacklevel=4,
        )
