"""
Arrays that users pass beside one another, one row an observation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.data.checks import (
    check_finite,
    check_labels,
    check_lengths,
    float_array,
    without_mask,
)
from mixedar.exceptions import (
    LengthError,
    RankDeficiencyError,
    ResponseError,
    UnsupportedError,
    shown,
)


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
        if hasattr(value, "to_pandas"):
            value = value.to_pandas()
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
