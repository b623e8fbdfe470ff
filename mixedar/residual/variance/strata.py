"""Strata: the categories of a column, or combinations of several columns'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import IdentificationError, StructureError, UnsupportedError
from mixedar.residual.base import Mark
from mixedar.residual.variance.base import check_finite, count_text

#: A column, several, or None for the occasion of the time variable.
Columns = str | tuple[str | None, ...] | None

# Derivatives of second order grow with the cube of the number of strata.
_MOST = 200


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
        if len(occurring) > _MOST:
            raise StructureError(
                f"{what}: {columns_text(columns)} has {len(occurring)} strata, each "
                f"with a parameter of its own; more than {_MOST} are not supported. "
                "Use fewer, larger strata, or a covariate, as in VarPower and "
                "VarLogLinear"
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
