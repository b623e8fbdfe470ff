"""
What tells the rows of one reading from those of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.exceptions import SourceError, listing

_MIX, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)


@dataclass(frozen=True)
class Seen:
    """
    Number and sums of the rows of a reading, in whatever order they came.

    Attributes
    ----------
    rows : int
    sums : mapping of str to int
        By column, of numbers made of each of its values and the key beside it; empty
        where a stamp tells whether the rows have changed.
    """

    rows: int
    sums: Mapping[str, int]

    @classmethod
    def of(cls, frame: pd.DataFrame, key: str, summed: bool) -> Seen:
        """Of some rows."""
        if not summed:
            return cls(len(frame), {})
        own = _mixed(_numbers(frame[key]))
        sums = {key: int(own.sum())}
        for name, column in frame.items():
            if name != key:
                sums[str(name)] = int(_mixed(_numbers(column) ^ own).sum())
        return cls(len(frame), sums)

    @classmethod
    def merged(cls, parts: Sequence[Seen]) -> Seen:
        """Of the rows of all parts."""
        names = parts[0].sums
        return cls(
            sum(part.rows for part in parts),
            {name: sum(part.sums[name] for part in parts) % 2**64 for name in names},
        )

    def check(self, now: Seen) -> None:
        """
        Compare with a later reading.

        Raises
        ------
        SourceError
            If rows were added or left out, or values changed.
        """
        changed = [k for k, v in self.sums.items() if now.sums.get(k, v) != v]
        found = f"other values of {listing([repr(k) for k in changed], 3)}"
        if now.rows != self.rows:
            found = f"{self.rows:,} rows the first time and {now.rows:,} the second"
        elif not changed:
            return
        raise SourceError(
            f"the data have changed while they were read: {found}; fit again when "
            "nobody writes to them"
        )


def _numbers(column: pd.Series) -> NDArray[np.uint64]:
    """A number for each value, the same for equal values of other types."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iuf":
        found = column.to_numpy(np.float64) + 0.0  # + 0.0 turns -0.0 into 0.0
        return found.view(np.uint64)
    if isinstance(dtype, np.dtype) and dtype.kind in "mM":
        return column.to_numpy().view(np.uint64)
    codes, known = pd.factorize(column)  # -1 of missing values
    texts = np.array([str(value) for value in known], dtype=object)
    hashed = pd.util.hash_array(texts, categorize=False)
    return np.asarray(np.append(hashed, np.uint64(0))[codes])


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers whose sums differ where one of them does."""
    out = numbers * _MIX
    out ^= out >> _HALF
    out *= _MIX
    return out
