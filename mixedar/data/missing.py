"""
Missing values, and rows to leave out: found, named, dropped.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from statsmodels.regression.mixed_linear_model import VCSpec

from mixedar._types import BoolArray
from mixedar.data.checks import without_mask
from mixedar.exceptions import (
    DroppedRowsWarning,
    EmptyDataError,
    LengthError,
    MissingDataError,
    UnknownColumnError,
    check_choice,
    shown,
)

# So many rows are named in a message.
_SHOWN = 5


def check_missing(missing: str) -> None:
    """Raise unless ``missing=`` is one of what it can be."""
    check_choice("missing", missing, ("none", "raise", "drop"))


def drop_missing(
    arrays: Sequence[Any], exog_vc: VCSpec | None = None, groups: object = None
) -> tuple[list[Any], VCSpec | None, int]:
    """
    Keep the rows that are complete in every array.

    Parameters
    ----------
    arrays : sequence of array_like or None
        Arrays of n rows, the first not None.
    exog_vc : VCSpec or None
        Per-group matrices, whose rows are dropped as well; groups that lose
        all rows go.
    groups : array_like, shape (n,)
        Labels of the groups of `exog_vc`.

    Returns
    -------
    arrays : list
    exog_vc : VCSpec or None
    dropped : int
        Number of rows dropped.

    Raises
    ------
    EmptyDataError
        If no row is complete.
    """
    n = len(arrays[0])
    keep = np.ones(n, dtype=bool)
    for array in arrays:
        if array is not None:
            keep &= ~missing_rows(array)
    rows_by_group: list[NDArray[np.intp]] = []
    if exog_vc is not None and len(exog_vc.names):
        # in the sorted order of the labels, missing ones last
        codes, labels = pd.factorize(np.asarray(groups), sort=True)
        rows_by_group = [np.flatnonzero(codes == k) for k in range(len(labels))]
        for mats in exog_vc.mats:
            for rows, matrix in zip(rows_by_group, mats, strict=True):
                keep[rows] &= np.isfinite(np.asarray(matrix, dtype=float)).all(axis=1)
    dropped = int(n - keep.sum())
    if dropped == n:
        raise EmptyDataError("every row has a missing value; nothing is left to fit")
    if dropped == 0:
        return list(arrays), exog_vc, 0
    if rows_by_group:
        exog_vc = _keep_components(exog_vc, rows_by_group, keep)
    return [_take(array, keep) for array in arrays], exog_vc, dropped


def missing_rows(values: Any) -> BoolArray:
    """Rows with a missing value, shape (n,)."""
    values = values if hasattr(values, "shape") else np.asarray(values)
    mask = np.asarray(pd.isna(without_mask(values)))
    return mask if mask.ndim == 1 else np.asarray(mask.any(axis=1))


def _take(array: object, keep: BoolArray) -> Any:
    if array is None:
        return None
    if isinstance(array, (pd.Series, pd.DataFrame)):
        return array.loc[keep]
    return array[keep] if isinstance(array, pd.Index) else np.asarray(array)[keep]


def _keep_components(
    exog_vc: VCSpec, rows_by_group: list[NDArray[np.intp]], keep: BoolArray
) -> VCSpec:
    stays = [k for k, rows in enumerate(rows_by_group) if keep[rows].any()]
    kept = [keep[rows_by_group[k]] for k in stays]
    mats = [
        [matrices[k][here] for k, here in zip(stays, kept, strict=True)]
        for matrices in exog_vc.mats
    ]
    names = [[names[k] for k in stays] for names in exog_vc.colnames]
    return VCSpec(list(exog_vc.names), names, mats)


def warn_dropped(count: int, stacklevel: int = 4) -> None:
    """Say how many rows were left out, if any were."""
    if count:
        warnings.warn(
            f"{count} row{'s' if count > 1 else ''} with missing values "
            f"{'were' if count > 1 else 'was'} left out",
            DroppedRowsWarning,
            stacklevel=stacklevel,
        )


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
        labels = ", ".join(shown(index[i]) for i in rows[:_SHOWN])
        more = ", ..." if len(rows) > _SHOWN else ""
        word = "row" if len(rows) == 1 else "rows"
        noun = "value" if len(rows) == 1 else "values"
        parts.append(
            f"{len(rows)} {what.lower()} {noun} in {label} ({word} {labels}{more})"
        )
    remedy = (
        'Remove them or pass missing="drop".'
        if what == "Missing"
        else "Correct or remove these rows."
    )
    return MissingDataError(f"{'; '.join(parts)}. {remedy}")


def nan_rows(
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
