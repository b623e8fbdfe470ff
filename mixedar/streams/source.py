"""
A source of rows: batches of some columns, in which the rows of a group are together.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from mixedar.exceptions import (
    MemoryBoundError,
    SourceError,
    UnknownColumnError,
    UnsupportedError,
    listing,
    shown,
)
from mixedar.streams.seen import Seen

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Result = TypeVar("Result")

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
# Rows of a batch: enough that Python's calls cost little beside the arithmetic, ...
_ROWS = 2**18
# ... and the share of the memory that a batch and what is made of it may take, with
# so many copies of its columns.
_SHARE, _COPIES = 0.25, 8


def bytes_of(memory: object) -> int:
    """
    A bound on memory in bytes, from a number or a text such as ``"2GB"``.

    Raises
    ------
    UnsupportedError
    """
    text = memory.strip().lower() if isinstance(memory, str) else memory
    number = isinstance(text, (int, float)) and not isinstance(text, bool)
    found = re.fullmatch(r"(\d+\.?\d*)\s*([kmgt]?)i?b?", str(text)) if text else None
    if found is None or (number and not 0 < float(str(text)) < float("inf")):
        raise UnsupportedError(
            f"memory={shown(memory)}: give a number of bytes, or a text such as '2GB'"
        )
    return int(float(found[1]) * _UNITS[found[2]])


@dataclass(frozen=True)
class Source(ABC):
    """
    Rows that are read batch by batch, as often as a fit needs them.

    Attributes
    ----------
    memory : int
        Bytes that the process may take for it.
    progress : bool
        Whether each reading is shown on the screen.
    """

    memory: int
    progress: bool
    #: whether rows of one key keep their order where rows are sorted
    keeps_order: ClassVar[bool] = True
    #: where the numbers of rows begin anew
    counted: ClassVar[str] = ""

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""

    @abstractmethod
    def batches(self, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """
        All rows, in their order.

        Parameters
        ----------
        columns : sequence of str
            What is read of them.
        rows : int
            At most so many rows in a batch.
        """

    @abstractmethod
    def sorted_by(self, key: str) -> Source:
        """
        The same rows, those of a key together.

        Raises
        ------
        SourceError
            If nothing at hand can sort them.
        """

    def stamp(self) -> object:
        """What differs if the rows have changed; None where nothing tells."""
        return None

    def count(self) -> int | None:
        """Number of rows where it is known without reading them."""
        return None

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

    @cached_property
    def text_columns(self) -> list[str]:
        """Names of the columns of text."""
        return [field.name for field in self.schema if is_text(field.type)]

    @cached_property
    def level_columns(self) -> list[str]:
        """Names of the columns of text, categories, and truth values."""
        import pyarrow as pa

        of_levels = pa.types.is_boolean, pa.types.is_dictionary, is_text
        return [f.name for f in self.schema if any(one(f.type) for one in of_levels)]

    def head(self, columns: Sequence[str], rows: int) -> pd.DataFrame:
        """The first rows."""
        with reading():
            for batch in self.batches(columns, rows):
                if len(batch):
                    return as_frame(batch.slice(0, rows), None)
        raise SourceError("the data have no rows")

    @cached_property
    def first_stamp(self) -> object:
        """The stamp when it was asked for first."""
        return self.stamp()

    def frames(
        self, columns: Sequence[str], key: str | None = None
    ) -> Iterator[pd.DataFrame]:
        """
        All rows as frames, text as categoricals.

        Parameters
        ----------
        columns : sequence of str
        key : str, optional
            Rows that share it, which have to be together, come in one frame.

        Yields
        ------
        DataFrame

        Raises
        ------
        SourceError
            If the rows cannot be read, or have changed since the first reading.
        MemoryBoundError
            If the rows of one key do not fit into the memory.
        """
        import pandas as pd

        self._check_same()
        with self._shown() as seen, self._unchanged(), reading():
            rows = self._rows_of_batch(columns)
            tables = self.batches(columns, rows)
            if key is not None:
                tables = whole(tables, key, rows, self.memory)
            start = 0
            for table in tables:
                if len(table):
                    frame, end = as_frame(table, key), start + len(table)
                    frame.index = pd.RangeIndex(start, end)
                    yield frame
                    seen(len(table))
                    start = end
        self._check_same()

    def reduced(
        self,
        function: Callable[[pd.DataFrame], Result],
        merge: Callable[[Sequence[Result]], Result],
        columns: Sequence[str],
        key: str | None = None,
    ) -> Result:
        """
        What a function makes of the frames, merged.

        Parameters
        ----------
        function : callable
            Of a frame of whole groups.
        merge : callable
            Of some results in the order of their rows; associative.
        columns, key
            As for :meth:`frames`.

        Returns
        -------
        Result

        Raises
        ------
        SourceError
            If there are no rows, and as for :meth:`frames`.
        """
        waiting: list[Result] = []
        merged: list[Result] = []
        for frame in self.frames(columns, key):
            waiting.append(function(frame))
            # ever longer lists: each result is merged few times
            if len(waiting) > len(merged) + 8:
                merged = [*merged, merge(waiting)]
                waiting = []
        if not (merged or waiting):
            raise SourceError("the data have no rows")
        return merge([*merged, *waiting])

    def noted(
        self,
        function: Callable[[pd.DataFrame], Result],
        merge: Callable[[Sequence[Result]], Result],
        columns: Sequence[str],
        key: str,
        before: Seen,
    ) -> tuple[Result, Seen]:
        """
        As :meth:`reduced`, and what tells the rows from others.

        Parameters
        ----------
        function, merge, columns, key
            As for :meth:`reduced`.
        before : Seen
            Of an earlier reading.

        Raises
        ------
        SourceError
            If the rows have changed since, and as for :meth:`reduced`.
        """
        summed = not self.has_stamp

        def both(frame: pd.DataFrame) -> tuple[Result, Seen]:
            return function(frame), Seen.of(frame, key, summed)

        def merged(parts: Sequence[tuple[Result, Seen]]) -> tuple[Result, Seen]:
            results, seen = zip(*parts, strict=True)
            return merge(results), Seen.merged(seen)

        found, now = self.reduced(both, merged, columns, key)
        before.check(now)
        return found, now

    @property
    def has_stamp(self) -> bool:
        """Whether something but the rows tells if they have changed."""
        return self.first_stamp is not None

    def _rows_of_batch(self, columns: Sequence[str]) -> int:
        """Rows of a batch that the memory allows."""
        each = 8 * _COPIES * (len(columns) + 4)
        return int(min(_ROWS, max(_SHARE * self.memory / each, 1000)))

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Where an error is that of rows that have changed, if they have."""
        try:
            yield
        except SourceError:
            self._check_same()
            raise

    def _check_same(self) -> None:
        now = self.stamp()
        if now != self.first_stamp:
            raise SourceError(
                f"the data{_changed(self.first_stamp, now)} have changed while they "
                "were read: fit again when nobody writes to them"
            )

    def check_columns(self, names: Sequence[str]) -> None:
        """Raise unless all columns are there."""
        known = self.columns
        for name in names:
            if name not in known:
                raise UnknownColumnError(
                    f"{name!r} is not a column of the data. Columns: "
                    f"{listing(known, 8)}."
                )

    @contextmanager
    def _shown(self) -> Iterator[Callable[[int], None]]:
        """Where rows are counted on the screen."""
        if not self.progress:
            yield lambda _: None
            return
        from tqdm.auto import tqdm

        with tqdm(total=self.count(), unit=" rows", unit_scale=True) as bar:
            yield lambda rows: bar.update(rows) and None


def _changed(before: object, now: object) -> str:
    """The first file whose stamp has changed, in brackets."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return ""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return f" ({listing(names, 3)})"


@contextmanager
def reading(name: str = "the data") -> Iterator[None]:
    """Errors of the engines that read as the package's."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{name} cannot be read: {error}") from error


def whole(
    batches: Iterator[pa.RecordBatch], key: str, rows: int, memory: int
) -> Iterator[pa.Table]:
    """
    Tables of about so many rows that end where a value of the key ends.

    Raises
    ------
    MemoryBoundError
        If the rows of one key take more than half of the memory.
    SourceError
        If the values of the key neither rise nor fall from first to last.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    parts: list[pa.RecordBatch] = []
    count, wanted, order = 0, rows, _Order(key)
    for batch in batches:
        parts.append(batch)
        count += len(batch)
        if count < wanted:
            continue
        table = pa.Table.from_batches(parts)
        values = _comparable(table.column(key))
        other = pc.fill_null(pc.not_equal(values, values[-1]), True)
        start = _last_true(other) + 1
        if start == 0:
            if 2 * _COPIES * table.nbytes > memory:
                raise MemoryBoundError(
                    f"the rows of {key} = {shown(values[-1].as_py())} take more than "
                    f"{table.nbytes:,} bytes, and with all that is made of them more "
                    f"than memory={memory:,}: allow more, or use groups of fewer rows"
                )
            wanted = 2 * count
            continue
        order.go_on(values.slice(0, start))
        yield table.slice(0, start)
        rest = table.slice(start)
        parts, count, wanted = rest.to_batches(), len(rest), rows
    if count:
        table = pa.Table.from_batches(parts)
        order.go_on(_comparable(table.column(key)))
        yield table


class _Order:
    """Whether the values of a key go on to rise, or to fall."""

    def __init__(self, key: str) -> None:
        self.key, self.rising, self.falling = key, True, True
        self.last: pa.ChunkedArray | None = None

    def go_on(self, values: pa.ChunkedArray) -> None:
        """Further values; raise if they do neither."""
        import pyarrow.compute as pc

        pairs = [(values.slice(0, len(values) - 1), values.slice(1))]
        if self.last is not None:
            pairs.append((self.last, values.slice(0, 1)))
        for before, after in pairs:
            for name, holds in (
                ("rising", pc.less_equal),
                ("falling", pc.greater_equal),
            ):
                if getattr(self, name):
                    ordered = pc.all(pc.fill_null(holds(before, after), True))
                    setattr(self, name, ordered.as_py() is not False)
        self.last = values.slice(len(values) - 1)
        if not (self.rising or self.falling):
            raise SourceError(
                f"the rows of one {self.key!r} are not together any more: the data "
                "have changed while they were read; fit again when nobody writes to "
                "them"
            )


def _comparable(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values of a key that have an order."""
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        return values.cast(values.type.value_type)
    return values.cast(pa.int8()) if pa.types.is_boolean(values.type) else values


def _last_true(mask: Any) -> int:
    """Position of the last true value; -1 if there is none."""
    end = len(mask)
    for chunk in reversed(mask.chunks):
        end -= len(chunk)
        found = chunk.to_numpy(zero_copy_only=False).nonzero()[0]
        if len(found):
            return end + int(found[-1])
    return -1


def as_frame(table: pa.Table | pa.RecordBatch, key: str | None) -> pd.DataFrame:
    """A table as a frame, text but that of the key as categoricals."""
    import pyarrow as pa

    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    for k, field in enumerate(table.schema):
        if is_text(field.type) and field.name != key:
            encoded = table.column(k).dictionary_encode()
            table = table.set_column(k, field.name, encoded)
    # one array a column: no copies into blocks of several
    return table.unify_dictionaries().to_pandas(split_blocks=True)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text."""
    return str(kind) in ("string", "large_string", "string_view")
