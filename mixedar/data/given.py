"""
Arrays that users pass, one row an observation: aligned, complete, as numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from statsmodels.regression.mixed_linear_model import VCSpec

from mixedar._types import BoolArray, FloatArray, without_mask
from mixedar.data.checks import (
    as_pandas,
    check_finite,
    check_labels,
    check_lengths,
    float_array,
)
from mixedar.exceptions import (
    DroppedRowsWarning,
    EmptyDataError,
    LengthError,
    MissingDataError,
    RankDeficiencyError,
    ResponseError,
    UnknownColumnError,
    UnsupportedError,
    check_choice,
    listing,
    shown,
    warn,
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
    gaps = [missing_rows(array) for array in arrays if array is not None]
    keep = ~np.logical_or.reduce(gaps)
    rows_by_group: list[NDArray[np.intp]] = []
    if exog_vc is not None and len(exog_vc.names):
        # in the sorted order of the labels, missing ones last
        codes, labels = pd.factorize(np.asarray(groups), sort=True)
        rows_by_group = [np.flatnonzero(codes == k) for k in range(len(labels))]
        for mats in exog_vc.mats:
            for rows, matrix in zip(rows_by_group, mats, strict=True):
                keep[rows] &= np.isfinite(np.asarray(matrix, dtype=float)).all(axis=1)
    dropped = int((~keep).sum())
    if dropped == len(keep):
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


def warn_dropped(count: int) -> None:
    """Say how many rows were left out, if any were."""
    if count:
        rows = f"{count} rows" if count > 1 else "1 row"
        were = "were" if count > 1 else "was"
        warn(DroppedRowsWarning(f"{rows} with missing values {were} left out"))


def subset_rows(
    subset: Any, table: pd.DataFrame, namespace: Mapping[str, Any] | None = None
) -> np.ndarray:
    """
    Positions of the rows in ``data.loc[subset]`` or ``data.query(subset)``.

    Parameters
    ----------
    subset : array_like of bool, or of labels, slice, or str
        As statsmodels' ``subset``, or a condition on the columns.
    table : pandas.DataFrame
        The data.
    namespace : mapping of str to Any, optional
        Variables of the caller, which a condition names with ``@``.

    Returns
    -------
    ndarray of int
        Positions, in the order of `subset`.

    Raises
    ------
    LengthError
        If a mask has the wrong length.
    MissingDataError
        If a mask has missing values.
    UnknownColumnError
        If labels are not in the index.
    UnsupportedError
        If a condition cannot be read, or is none.
    EmptyDataError
        If no row is left.
    """
    if np.ma.is_masked(subset):
        subset = without_mask(subset.astype(object))
    index, chosen = table.index, as_pandas(subset)
    if chosen is not subset:
        chosen = np.asarray(chosen)  # rows of other packages have no labels
    elif isinstance(subset, str) and subset not in index:
        chosen = _condition(subset, table, namespace or {})
    elif hasattr(subset, "meta") and hasattr(subset, "over"):
        raise UnsupportedError(
            "subset= is an expression of polars, which belongs to no data: pass "
            "data.filter(...) as the data, or a condition as text, as in "
            "subset=\"age > 8 and sex == 'F'\""
        )
    if pd.api.types.is_list_like(chosen) and not hasattr(chosen, "dtype"):
        chosen = np.asarray(chosen)
    held = getattr(chosen, "dtype", None) == np.dtype(object)
    if held and pd.api.types.infer_dtype(chosen) == "boolean":  # a mask with gaps
        mask = pd.Series(chosen, dtype="boolean")
        chosen = mask if isinstance(chosen, pd.Series) else mask.array
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


def _condition(text: str, table: pd.DataFrame, namespace: Mapping[str, Any]) -> Any:
    """Rows where a condition on the columns holds, as ``data.query`` reads it."""
    try:
        found = table.eval(text, local_dict=dict(namespace), engine="python")
    except Exception as error:  # pandas raises what Python does
        names = ", ".join(map(repr, table.columns[:_SHOWN]))
        raise UnsupportedError(
            f"subset={text!r} is neither a label of the index nor a condition that can "
            f"be read ({str(error).splitlines()[0]}); columns are {names}"
            f"{', ...' if len(table.columns) > _SHOWN else ''}, and variables of yours "
            "are written @name"
        ) from error
    if not (isinstance(found, pd.Series) and pd.api.types.is_bool_dtype(found.dtype)):
        raise UnsupportedError(
            f"subset={text!r} is no condition: it is not true or false in each row; "
            f"write one, such as {text!r} + ' > 0'"
        )
    return found.to_numpy()


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
        labels = listing([shown(index[i]) for i in rows[: _SHOWN + 1]], _SHOWN)
        s = "" if len(rows) == 1 else "s"
        parts.append(
            f"{len(rows)} {what.lower()} value{s} in {label} (row{s} {labels})"
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


def as_rows(**arrays: Any) -> dict[str, Any]:
    """
    Arrays with one row for each observation, as models take them.

    Parameters
    ----------
    **arrays
        By argument name, the first not None; None stays None.  Frames of other
        packages become pandas', and masked values missing ones.

    Returns
    -------
    dict of str to array_like

    Raises
    ------
    LengthError
        If they differ in length, or have more than two dimensions.
    UnsupportedError
        If they differ in the labels of their rows, or are sparse.
    """
    found, bare = {}, []
    for name, value in arrays.items():
        if hasattr(value, "toarray"):
            raise UnsupportedError(
                f"{name} is a sparse matrix; pass {name}.toarray() instead"
            )
        given, value = value, as_pandas(value)
        if value is not given:
            bare.append(name)  # what pandas numbers has no labels
        found[name] = native(without_mask(value))
        if getattr(value, "ndim", 1) > 2:
            raise LengthError(
                f"{name} has {value.ndim} dimensions; pass rows, and columns at most"
            )
    first = next(iter(found.values()))
    check_lengths(len(first) if np.ndim(first) else 1, **found)
    labels = {
        name: array.index
        for name, array in found.items()
        if name not in bare and row_labels(array) is not None
    }
    if labels:
        what, index = next(iter(labels.items()))
        for name in bare:
            found[name] = found[name].set_axis(index)
        for name, array in found.items():
            check_labels(name, array, index, what)
    return found


def native(values: Any) -> Any:
    """Numbers in the byte order of the machine, which pandas asks for."""
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, np.dtype) and not dtype.isnative:
        return values.astype(dtype.newbyteorder("="))
    return values


def row_labels(*arrays: object) -> pd.Index | None:
    """The index of the first Series or DataFrame; None if there is none."""
    for array in arrays:
        if isinstance(array, (pd.Series, pd.DataFrame)):
            return array.index
    return None


def response_vector(endog: object) -> FloatArray:
    """The response as numbers, shape (n,)."""
    values = float_array(endog, "the response")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ResponseError(
            f"the response has the shape {values.shape}; model one column at a time"
        )
    return values


def positive_weights(weights: object, name: str, index: pd.Index) -> FloatArray:
    """
    Weights of the rows that `index` labels, as numbers.

    Raises
    ------
    LengthError
        If there is not one for each row.
    MissingDataError
        If some are missing or infinite.
    UnsupportedError
        If some are not positive.
    """
    values = float_array(weights, "weights=")
    check_lengths(len(index), weights=values)
    check_finite(values, [name], "weight", index)
    wrong = np.flatnonzero(values <= 0.0)
    if len(wrong):
        raise UnsupportedError(
            f"weights= ({name}) must be positive, and {len(wrong)} are not (first in "
            f"row {shown(index[wrong[0]])}); leave these rows out with subset="
        )
    return values


def named_columns(exog: object) -> tuple[FloatArray, list[str]]:
    """The regressors as (n, p), and their names."""
    values = float_array(exog, "exog")
    if values.ndim == 1:
        values = values[:, None]
    given = getattr(exog, "columns", None)
    if given is None:
        name = getattr(exog, "name", None)
        count = values.shape[1]
        given = [f"x{k + 1}" for k in range(count)] if name is None else [name]
    names = list(map(str, given))
    if not names:
        raise RankDeficiencyError(
            "there is no column to regress on; write 'y ~ 1' for the means of the "
            "groups"
        )
    return values, names
