"""
What is kept of rows that were read: sums, counts and ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.data.model_data import ModelData
from mixedar.engine.compress import ClusterRows, merged
from mixedar.exceptions import MemoryBoundError
from mixedar.numeric.moments import Moments

# What the likelihood makes of compressed rows takes so many times their memory.
_COPIES = 8
# So many groups are kept as they are, to look at residuals where a fit is at an edge.
_FIRST_GROUPS = 400


@dataclass(frozen=True)
class Totals:
    """
    What is kept of rows that were read.

    Attributes
    ----------
    rows : ClusterRows
        Compressed.
    nobs, n_groups : int
    smallest, largest : int
        Rows of the smallest and the largest group.
    low, high : float
        The least and the greatest response.
    value : ndarray, shape (p,)
        Values of the columns of the fixed effects that are constant, NaN for others.
    read : int
        Rows of the source, those that were left out included.
    first : DataFrame
        The rows of the first groups.
    numbers : DataFrame
        Sums, least and greatest values of numeric columns, by name.
    moments : Moments
        See :class:`ModelData`.
    """

    rows: ClusterRows
    nobs: int
    n_groups: int
    smallest: int
    largest: int
    low: float
    high: float
    value: FloatArray
    read: int
    first: pd.DataFrame
    numbers: pd.DataFrame
    moments: Moments

    @classmethod
    def of(cls, data: ModelData, table: pd.DataFrame) -> Totals:
        """Of the data of whole groups that a table has."""
        y, sizes = data.endog, data.group_sizes
        ends = np.append(np.flatnonzero(np.diff(data.codes)) + 1, data.nobs)
        last = data.row_index[ends[:_FIRST_GROUPS][-1] - 1]
        return cls(
            data.compressed,
            data.nobs,
            data.n_groups,
            int(sizes.min()),
            int(sizes.max()),
            float(y.min()),
            float(y.max()),
            _constants(data.exog),
            len(table),
            table.loc[:last],
            _numbers(data),
            data.moments,
        )

    @classmethod
    def merged(cls, parts: Sequence[Totals | int], memory: int) -> Totals | int:
        """
        Of several parts; a number stands for so many rows of which none was taken.

        Raises
        ------
        MemoryBoundError
            If the rows that are kept, compressed as they are, take too much memory.
        """
        some = [part for part in parts if isinstance(part, Totals)]
        read = sum(part.read if isinstance(part, Totals) else part for part in parts)
        if not some:
            return read
        rows = merged([part.rows for part in some])
        nobs = sum(part.nobs for part in some)
        _check_memory(rows, nobs, memory)
        return cls(
            rows,
            nobs,
            sum(part.n_groups for part in some),
            min(part.smallest for part in some),
            max(part.largest for part in some),
            min(part.low for part in some),
            max(part.high for part in some),
            np.where(
                np.ptp([p.value for p in some], axis=0) == 0.0, some[0].value, np.nan
            ),
            read,
            some[0].first,
            _merged_numbers([part.numbers for part in some]),
            Moments.merged([part.moments for part in some]),
        )


def _numbers(data: ModelData) -> pd.DataFrame:
    """Sums and ranges of the numeric columns that the formula reads."""
    spec, table = data.formula_spec, data.frame
    assert spec is not None
    assert table is not None
    columns = {name: table[name] for name in spec.variables}
    columns = {
        k: c for k, c in columns.items() if getattr(c.dtype, "kind", "") in "iuf"
    }
    found = {k: (float(c.sum()), c.min(), c.max()) for k, c in columns.items()}
    return pd.DataFrame.from_dict(found, "index", None, ["total", "low", "high"])


def _merged_numbers(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    first = parts[0]
    return first.assign(
        total=sum(part["total"] for part in parts),
        low=np.min([part["low"] for part in parts], axis=0),
        high=np.max([part["high"] for part in parts], axis=0),
    )


def _constants(x: FloatArray) -> FloatArray:
    """Values of the columns that are constant, NaN for others."""
    out = x[0].copy()
    for j, value in enumerate(x[0]):
        if x[-1, j] != value or (x[:, j] != value).any():
            out[j] = np.nan
    return out


def _check_memory(rows: ClusterRows, nobs: int, memory: int) -> None:
    """Raise if compressed rows leave too little memory for the likelihood."""
    arrays = rows.z, rows.w, rows.gaps, rows.marks
    size = sum(0 if each is None else each.nbytes for each in arrays)
    if _COPIES * size > memory:
        own = int((rows.weights == 1.0).sum())
        raise MemoryBoundError(
            f"after {nobs:,} rows {len(rows.w):,} are left, {own:,} groups with times "
            "or random-effects designs of their own; the likelihood would need about "
            f"{_COPIES * size / 1e9:.2g} GB, more than memory= allows "
            f"({memory / 1e9:.2g} GB). Round the times or covariates of the random "
            "effects, so that groups share them, or allow more memory"
        )
