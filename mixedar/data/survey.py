"""
The first reading of a source: levels, times, and whether groups are together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar.data.occasions import factorized
from mixedar.data.rows import without_categories
from mixedar.exceptions import MemoryBoundError, shown
from mixedar.streams import Seen, Source

# First rows that are kept, to know what kind of values the columns hold, ...
_HEAD = 100
# ... and distinct values of a column: times, levels of factors.
_MOST = 2**18


@dataclass(frozen=True)
class Survey:
    """
    What is known of rows before they are encoded.

    Attributes
    ----------
    seen : Seen
        Number and sums of the rows.
    values : mapping of str to ndarray or Categorical
        Distinct values of some columns, missing ones left out.
    head : DataFrame
        The first rows.
    first, last : object
        Labels of the first and the last group.
    rising, falling : bool
        Whether the labels of the groups never fall, or never rise.
    """

    seen: Seen
    values: Mapping[str, Any]
    head: pd.DataFrame
    first: Any
    last: Any
    rising: bool
    falling: bool

    @classmethod
    def of(
        cls, frame: pd.DataFrame, key: str, learned: Collection[str], summed: bool
    ) -> Survey:
        """Of some rows; `summed` as of :meth:`Seen.of`."""
        labels = frame[key]
        rising, falling = monotone(labels)
        return cls(
            Seen.of(frame, key, summed),
            {name: _distinct(frame[name]) for name in learned},
            frame.iloc[:_HEAD],
            labels.iloc[0],
            labels.iloc[-1],
            rising,
            falling,
        )

    @classmethod
    def merged(cls, parts: Sequence[Survey]) -> Survey:
        """Of all parts, which follow one another."""
        first, last = parts[0], parts[-1]
        edges = [label for part in parts for label in (part.first, part.last)]
        up, down = monotone(pd.Series(edges))
        values = {
            name: _union([part.values[name] for part in parts], name)
            for name in first.values
        }
        return cls(
            Seen.merged([part.seen for part in parts]),
            values,
            first.head,
            first.first,
            last.last,
            up and all(part.rising for part in parts),
            down and all(part.falling for part in parts),
        )

    @property
    def together(self) -> bool:
        """Whether the rows of each group follow one another."""
        return self.rising or self.falling

    def sample(self, key: str) -> pd.DataFrame:
        """
        A few rows in which all that is learned of the columns occurs.

        Each of a group of its own; what was not learned is as in the first rows.
        """
        longest = max((len(v) for v in self.values.values()), default=0)
        n = max(3 * longest, _HEAD)
        columns = {}
        for name in self.head:
            column = self.head[name]
            known = self.values.get(str(name))
            if known is not None and known.dtype.kind == "f":
                known = known[~np.isinf(known)]  # the rows' own reading refuses them
            if known is None or not len(known):
                known = column.dropna().array
            if not len(known):
                known = np.ones(1)
            columns[name] = known.take(np.arange(n) % len(known))
        kind = self.head[key].dtype
        numbers = pd.api.types.is_numeric_dtype(kind)
        columns[key] = np.arange(n) if numbers else [f"{k}" for k in range(n)]
        return pd.DataFrame(columns)


def survey(
    source: Source, columns: Sequence[str], key: str, learned: Collection[str]
) -> Survey:
    """
    Read some columns for what they hold.

    Parameters
    ----------
    source : Source
    columns : sequence of str
        All that the model reads.
    key : str
        Of the groups.
    learned : collection of str
        Of which the distinct values are wanted.

    Returns
    -------
    Survey
    """
    wanted = [name for name in columns if name == key or name in learned]
    summed = not source.has_stamp

    def of(frame: pd.DataFrame) -> Survey:
        return Survey.of(frame, key, learned, summed)

    found = source.reduced(of, Survey.merged, wanted)
    values, head = dict(found.values), source.head(columns, _HEAD)
    for name in source.text_columns:
        if name in values:  # levels of text are sorted, those of categoricals are not
            values[name] = pd.Series(list(values[name])).array
    return replace(found, values=values, head=head)


def kept_together(source: Source, key: str) -> Source:
    """The source, sorted unless the rows of each group follow one another."""
    found = source.reduced(
        lambda table: Survey.of(table, key, (), False), Survey.merged, [key]
    )
    return source if found.together else source.sorted_by(key)


def monotone(labels: pd.Series) -> tuple[bool, bool]:
    """
    Whether labels never fall, and whether they never rise; missing ones are last.

    Missing ones elsewhere may stand between the rows of a group, and divide it.
    """
    missing = labels.isna().to_numpy()
    if not (missing[1:] >= missing[:-1]).all():
        return False, False
    values = without_categories(labels).dropna()
    return bool(values.is_monotonic_increasing), bool(values.is_monotonic_decreasing)


def _distinct(column: pd.Series) -> Any:
    """Distinct values of a column, sorted where they are no categories."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        counts = np.bincount(column.cat.codes + 1, minlength=1)[1:]
        return pd.Categorical.from_codes(np.flatnonzero(counts), dtype=column.dtype)
    return pd.array(factorized(column)[1])


def _union(parts: Sequence[Any], name: str) -> Any:
    # categories of values that are all missing are of no type
    parts = [part for part in parts if len(part)] or parts[:1]
    if all(isinstance(part, pd.Categorical) for part in parts):
        given: Any = list(parts)
        found = pd.api.types.union_categoricals(given, ignore_order=True).unique()
        same = all(part.dtype == parts[0].dtype for part in parts)
        out: Any = found.astype(parts[0].dtype) if same else found
    else:
        joined = pd.concat([pd.Series(part) for part in parts], ignore_index=True)
        out = joined.unique()
    if len(out) > _MOST:
        raise MemoryBoundError(
            f"the column {name!r} has more than {_MOST:,} different values, such as "
            f"{shown(out[0])}, each of which would have to be kept: use one with "
            "fewer, such as rounded times"
        )
    return out
