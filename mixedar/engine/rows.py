"""
Rows sorted by group, series and time, and the way back to the caller's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray

Rows = TypeVar("Rows", FloatArray, IntArray)


@dataclass(frozen=True)
class GroupedRows:
    """
    Where the rows of each group and series are, in the order of time.

    Attributes
    ----------
    order : ndarray of int, shape (n,), or None
        Positions of the caller's rows in sorted order; None if the caller's
        rows are sorted already, which saves copies.
    offsets : ndarray of int, shape (m + 1,)
        Group ``i`` holds the sorted rows ``offsets[i]:offsets[i + 1]``.
    gaps : ndarray, shape (n,)
        Distance in time to the row before, in sorted order; 0 on the first
        row of every series.
    marks : ndarray, shape (n, c), or None
        What the residual structure reads of a row beside the gap, in sorted
        order.
    """

    order: IntArray | None
    offsets: IntArray
    gaps: FloatArray
    marks: FloatArray | None = None

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.offsets) - 1

    @property
    def sizes(self) -> IntArray:
        """Rows of each group, shape (m,)."""
        return np.diff(self.offsets)

    @property
    def first_of_series(self) -> NDArray[np.bool_]:
        """Whether a sorted row begins a series."""
        return self.gaps == 0.0

    def sort(self, x: Rows) -> Rows:
        """Bring rows from the caller's order into sorted order."""
        return x if self.order is None else x[self.order]

    def unsort(self, x: FloatArray) -> FloatArray:
        """Bring rows from sorted order back into the caller's."""
        if self.order is None:
            return x
        out = np.empty_like(x)
        out[self.order] = x
        return out

    def part(self, rows: IntArray, offsets: IntArray) -> GroupedRows:
        """
        Some of the sorted rows, as groups of their own.

        Parameters
        ----------
        rows : ndarray of int, shape (k,)
            Sorted rows; whole series in their order.
        offsets : ndarray of int
            Where the groups begin among them, and the end.

        Returns
        -------
        GroupedRows
        """
        marks = None if self.marks is None else self.marks[rows]
        return GroupedRows(None, offsets, self.gaps[rows], marks)

    def looks_like(self, other: GroupedRows) -> bool:
        """Whether a sorting of the same rows agrees in all that whitening reads."""
        pairs = ((self.order, other.order), (self.marks, other.marks))
        return np.array_equal(self.gaps, other.gaps) and all(
            a is b if a is None or b is None else np.array_equal(a, b) for a, b in pairs
        )

    def duplicate(self) -> tuple[int, int] | None:
        """
        Two of the caller's rows that share series and time, if any do.

        Only meaningful for gaps that come from times: a gap of zero inside a
        series is marked by NaN.
        """
        where = np.flatnonzero(np.isnan(self.gaps))
        if len(where) == 0:
            return None
        i = int(where[0])
        if self.order is None:
            return i - 1, i
        return int(self.order[i - 1]), int(self.order[i])


def group_rows(
    codes: IntArray,
    time: FloatArray | None = None,
    series: IntArray | None = None,
    n_groups: int | None = None,
) -> GroupedRows:
    """
    Sort rows by group, then series, then time.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Group numbers ``0 ... m - 1``, each occurring.
    time : ndarray, shape (n,), optional
        Times; without them neighbouring rows of a series are one unit apart.
    series : ndarray of int, shape (n,), optional
        Independent series inside the groups; by default a group is one series.
    n_groups : int, optional
        Number of groups, if known.

    Returns
    -------
    GroupedRows
        Equal times within a series leave a NaN gap, see
        :meth:`GroupedRows.duplicate`.
    """
    n = len(codes)
    step = np.diff(codes)
    new_group = step != 0
    new_series = new_group if series is None else new_group | (np.diff(series) != 0)
    ordered = bool((step >= 0).all())
    if ordered and series is not None:
        ordered = bool(((np.diff(series) >= 0) | new_group).all())
    gap = np.ones(max(n - 1, 0)) if time is None else np.diff(time)
    if ordered and time is not None:
        ordered = bool(((gap >= 0.0) | new_series).all())
    order = None
    if not ordered:
        keys: list[NDArray[Any]] = [codes]
        if series is not None:
            keys.insert(0, series)
        if time is not None:
            keys.insert(0, time)
        # without times, row order is time: lexsort is stable
        order = np.lexsort(tuple(keys))
        codes = codes[order]
        new_group = np.diff(codes) != 0
        new_series = new_group
        if series is not None:
            new_series = new_group | (np.diff(series[order]) != 0)
        if time is not None:
            gap = np.diff(time[order])
    gaps = np.zeros(n)
    inside = ~new_series
    gaps[1:][inside] = gap[inside]
    if time is not None:
        tied = inside & (gap == 0.0)
        if tied.any():
            gaps[1:][tied] = np.nan
    if n_groups is None:
        n_groups = int(codes[-1]) + 1 if n else 0
    offsets = np.empty(n_groups + 1, dtype=np.intp)
    offsets[0] = 0
    offsets[1:-1] = np.flatnonzero(new_group) + 1
    offsets[-1] = n
    return GroupedRows(order, offsets, gaps)
