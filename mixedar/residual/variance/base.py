"""
The contract that every variance function fulfils.

The residual of row ``t`` has the standard deviation ``sigma g_t``: a variance
function gives ``log g_t`` from what it reads of the row and few parameters
(Pinheiro and Bates, 2000, section 5.2).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.exceptions import (
    MagnitudeError,
    MissingDataError,
    StructureError,
    UnsupportedError,
)
from mixedar.residual.base import DataLayout, Mark, Parametric

#: The name that stands for the fitted values in place of a column.
FITTED = "fitted"


class VarianceFunction(Parametric):
    """Standard deviation of the residuals, relative to ``sigma``."""

    @property
    @abstractmethod
    def marks(self) -> tuple[Mark, ...]:
        """What it reads of each row; the column ``"fitted"`` is special."""

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        """
        The function adapted to the data.

        Parameters
        ----------
        layout : DataLayout
            Its marks are this function's own.

        Returns
        -------
        VarianceFunction

        Raises
        ------
        MixedARError
            If the data cannot carry the function.
        """
        return self

    @abstractmethod
    def log_sd(self, marks: FloatArray, params: Any) -> Any:
        """
        Logarithm of the relative standard deviations.

        Parameters
        ----------
        marks : ndarray, shape (l, c)
        params : ndarray or Jet of shape (k_params,)

        Returns
        -------
        ndarray or Jet of shape (l,)
        """


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
