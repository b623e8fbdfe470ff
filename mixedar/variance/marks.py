"""Checks of what variance functions read: finite, and of the right sign."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixedar.exceptions import (
    MagnitudeError,
    MissingDataError,
    StructureError,
    UnsupportedError,
)
from mixedar.variance.base import FITTED

__all__ = [
    "check_column",
    "check_finite",
    "check_near_zero",
    "check_positive",
    "check_size",
    "column_text",
    "count_text",
]

FloatArray = NDArray[np.float64]

# Distance from zero, by the range, at which sigma loses its digits.
_FARTHEST = 100.0
_LARGEST = 1e100


def check_column(name: str, column: object) -> None:
    """
    Raise unless `column` is the name of a column.

    Parameters
    ----------
    name : str
        The class, for the message.
    column : object

    Raises
    ------
    UnsupportedError
    """
    if not isinstance(column, str) or not column:
        raise UnsupportedError(
            f"{name}: column={column!r} is not the name of a column, as in "
            f"{name}('age')"
        )


def column_text(column: str | None) -> str:
    """
    A column as it reads in a message.

    Parameters
    ----------
    column : str or None
        None is the time variable.
    """
    if column is None:
        return "the time variable"
    return "the fitted value" if column == FITTED else repr(column)


def count_text(where: NDArray[np.bool_]) -> str:
    """
    How many rows a mask has, in words.

    Parameters
    ----------
    where : ndarray of bool, shape (n,)

    Returns
    -------
    str
        Such as ``"3 of 108 rows"``.
    """
    return f"{np.count_nonzero(where)} of {len(where)} rows"


def check_finite(what: str, column: str | None, values: FloatArray) -> None:
    """
    Raise if values are missing or infinite.

    Parameters
    ----------
    what : str
        The function, for the message.
    column : str or None
    values : ndarray, shape (n,)

    Raises
    ------
    MissingDataError
    """
    bad = ~np.isfinite(values)
    if bad.any():
        kind = "missing" if np.isnan(values[bad]).all() else "missing or infinite"
        raise MissingDataError(
            f"{what}: {column_text(column)} is {kind} in {count_text(bad)}; remove "
            "these rows or pass missing='drop'"
        )


def check_size(what: str, column: str, values: FloatArray) -> None:
    """
    Raise if squares of values overflow.

    Parameters
    ----------
    what : str
        The function, for the message.
    column : str
    values : ndarray, shape (n,)

    Raises
    ------
    MagnitudeError
    """
    largest = float(np.abs(values).max(initial=0.0))
    if largest > _LARGEST:
        raise MagnitudeError(
            f"{what}: {column_text(column)} is as large as {largest:.3g}, too large to "
            "compute with; change its unit"
        )


def check_near_zero(what: str, column: str, values: FloatArray) -> None:
    """
    Raise if values are far from zero, where ``sigma`` is defined.

    Parameters
    ----------
    what : str
        The function, for the message.
    column : str
    values : ndarray, shape (n,)
        Finite, and not all the same.

    Raises
    ------
    StructureError
    """
    low, high = values.min(), values.max()
    if max(-low, high) > _FARTHEST * (high - low):
        middle = np.round((low + high) / 2.0)
        raise StructureError(
            f"{what}: {column_text(column)} runs from {low:g} to {high:g}, far from "
            "zero, where the standard deviation is sigma, so that sigma is beyond "
            f"what numbers can hold. Use a column of its differences from {middle:g}"
        )


def check_positive(
    what: str, column: str, values: FloatArray, *, zero: str, negative: str
) -> None:
    """
    Raise if values are zero or negative.

    Parameters
    ----------
    what : str
        The function, for the message.
    column : str
    values : ndarray, shape (n,)
    zero, negative : str
        What is wrong with such values, and what to do.

    Raises
    ------
    StructureError
    """
    for bad, kind, remedy in (
        (values < 0.0, f"negative (as low as {values.min(initial=0.0):g})", negative),
        (values == 0.0, "0", zero),
    ):
        if bad.any():
            raise StructureError(
                f"{what}: {column_text(column)} is {kind} in {count_text(bad)}; "
                f"{remedy}"
            )
