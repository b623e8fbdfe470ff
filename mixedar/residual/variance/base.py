"""
The contract that every variance function fulfils.

The residual of row ``t`` has the standard deviation ``sigma g_t``: a variance
function gives ``log g_t`` from what it reads of the row and few parameters
(Pinheiro and Bates, 2000, section 5.2).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixedar._types import ArrayOrJet, FloatArray, IntArray
from mixedar.exceptions import (
    IdentificationError,
    MagnitudeError,
    MissingDataError,
    StructureError,
    UnsupportedError,
)
from mixedar.residual.base import DataLayout, Mark, Parametric

#: The name that stands for the fitted values in place of a column.
FITTED = "fitted"


class VarianceFunction(Parametric):
    """
    Standard deviation of the residuals, relative to ``sigma``.

    Examples
    --------
    >>> from mixedar.api import VarExp, VarianceFunction
    >>> isinstance(VarExp("age"), VarianceFunction)
    True
    """

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
    def log_sd(self, marks: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
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


#: A column, several, or None for the occasion of the time variable.
Columns = str | tuple[str | None, ...] | None

# Derivatives of second order grow with the cube of the number of strata.
MOST_STRATA = 200


def columns_of(columns: Columns) -> tuple[str | None, ...]:
    """
    The columns as a tuple.

    Parameters
    ----------
    columns : str, tuple or None
    """
    return columns if isinstance(columns, tuple) else (columns,)


def columns_text(columns: Columns) -> str:
    """
    The columns as summaries print them.

    Parameters
    ----------
    columns : str, tuple or None
    """
    return " and ".join("time" if c is None else c for c in columns_of(columns))


def check_columns(name: str, columns: object) -> Columns:
    """
    What a user passed as columns, with lists made tuples.

    Parameters
    ----------
    name : str
        The class, for the message.
    columns : object

    Raises
    ------
    UnsupportedError
        If it is not a name, several of them, or None.
    """
    if columns is None or (isinstance(columns, str) and columns):
        return columns
    if isinstance(columns, (list, tuple)) and columns:
        names = tuple(columns)
        if all(c is None or (isinstance(c, str) and c) for c in names):
            if len(set(names)) == len(names):
                return names if len(names) > 1 else names[0]
            raise UnsupportedError(f"{name}: a column occurs twice in {columns!r}")
    raise UnsupportedError(
        f"{name}: {columns!r} is not the name of a column or several of them, as in "
        f"{name}('sex') and {name}(('sex', 'arm'))"
    )


def marks_of(columns: Columns) -> tuple[Mark, ...]:
    """
    What strata read of each row.

    Parameters
    ----------
    columns : str, tuple or None
    """
    return tuple(
        Mark("level", None) if c is None else Mark("stratum", c)
        for c in columns_of(columns)
    )


@dataclass(frozen=True)
class Strata:
    """
    Numbers of the combinations that occur.

    Attributes
    ----------
    what : str
        The variance function, for messages.
    names : tuple of str
        Of the strata, such as ``"Male"`` or ``"Male*8"``, in the order of the
        levels.
    sizes : tuple of int
        Number of levels of each column.
    codes : tuple of int
        The combination of levels, as one number, of each stratum; increasing.
    """

    what: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    codes: tuple[int, ...]

    @classmethod
    def bind(
        cls,
        what: str,
        columns: Columns,
        marks: FloatArray,
        labels: Sequence[tuple[str, ...] | None],
    ) -> Strata:
        """
        The strata of some data.

        Parameters
        ----------
        what : str
            The variance function, for messages.
        columns : str, tuple or None
        marks : ndarray, shape (n, c)
            Number of each row's level, by column.
        labels : sequence of tuple of str, length c
            Names of the levels.

        Returns
        -------
        Strata

        Raises
        ------
        MissingDataError
            If a level is missing.
        IdentificationError
            If a stratum has one row only.
        StructureError
            If there are too many strata.
        """
        for column, values in zip(columns_of(columns), marks.T, strict=True):
            check_finite(what, column, values)
        known = [names or () for names in labels]
        sizes = tuple(len(names) for names in known)
        code = _combined(marks, sizes)
        occurring, count = np.unique(code, return_counts=True)
        if len(occurring) > MOST_STRATA:
            raise StructureError(
                f"{what}: {columns_text(columns)} has {len(occurring)} strata, each "
                f"with a parameter of its own; more than {MOST_STRATA} are not "
                "supported. Use fewer, larger strata, or a covariate, as in VarPower "
                "and VarLogLinear"
            )
        levels = np.unravel_index(occurring, sizes)
        names = tuple(
            "*".join(known[j][level] for j, level in enumerate(combination))
            for combination in zip(*levels, strict=True)
        )
        alone = np.flatnonzero(count == 1)
        if len(alone):
            others = f", as do {len(alone) - 1} others" if len(alone) > 1 else ""
            raise IdentificationError(
                f"{what}: the stratum {names[alone[0]]!r} has one observation"
                f"{others}, which tells nothing of its variance. Merge it with another "
                "stratum, or leave it out"
            )
        return cls(what, names, sizes, tuple(int(code) for code in occurring))

    def __len__(self) -> int:
        return len(self.names)

    def of(self, marks: FloatArray) -> IntArray:
        """
        The place of each row's stratum among :attr:`names`.

        Parameters
        ----------
        marks : ndarray, shape (l, c)

        Returns
        -------
        ndarray of int, shape (l,)

        Raises
        ------
        StructureError
            For a stratum that the data did not have.
        """
        inside = (marks >= 0.0) & (marks < np.array(self.sizes))
        known = np.asarray(inside.all(axis=1))
        codes = np.array(self.codes)
        code = _combined(np.where(known[:, None], marks, 0.0), self.sizes)
        places = np.minimum(np.searchsorted(codes, code), len(codes) - 1)
        known &= codes[places] == code
        if not known.all():
            raise StructureError(
                f"{self.what}: {count_text(~known)} belong to a stratum that the data "
                "of the fit do not have, so that nothing is known of its variance; "
                f"there are {', '.join(map(repr, self.names))}"
            )
        return places


def _combined(marks: FloatArray, sizes: tuple[int, ...]) -> IntArray:
    """One number for each combination of levels."""
    levels = tuple(np.rint(column).astype(np.intp) for column in marks.T)
    return np.asarray(np.ravel_multi_index(levels, sizes), dtype=np.intp)
