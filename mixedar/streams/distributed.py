"""
Rows of Dask's dataframes: each worker makes its results, which are merged in a tree.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import pandas as pd

from mixedar.exceptions import MixedARError, SourceError, UnsupportedError
from mixedar.streams.source import Source, reading

if TYPE_CHECKING:
    import pyarrow as pa

Result = TypeVar("Result")

# So many results are merged at once.
_BRANCHES = 8
# Columns that keep the order of rows when partitions exchange them.
_PARTITION, _ROW = "__partition__", "__row__"


@dataclass(frozen=True)
class TableSource(Source):
    """
    Rows of a table in memory.

    Attributes
    ----------
    table : pyarrow.Table
    """

    table: pa.Table

    @property
    def schema(self) -> pa.Schema:
        """See :class:`Source`."""
        return self.table.schema

    def batches(self, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """See :class:`Source`."""
        yield from self.table.select(list(columns)).to_batches(max_chunksize=rows)

    def sorted_by(self, key: str) -> Source:
        """See :class:`Source`."""
        order = self.table.column(key).to_pandas().argsort(kind="stable")
        return replace(self, table=self.table.take(order.to_numpy()))

    def count(self) -> int | None:
        """See :class:`Source`."""
        return int(self.table.num_rows)


@dataclass(frozen=True)
class Piece(Generic[Result]):
    """
    What partitions that follow one another have become.

    Attributes
    ----------
    results : list
        Of the groups that lie inside a partition; none or one.
    edges : list of pyarrow.Table
        Rows of the first and the last group of each partition, which may go on in
        the next one.
    """

    results: list[Result]
    edges: list[pa.Table] = field(default_factory=list)


@dataclass(frozen=True)
class Mapped(Generic[Result]):
    """
    What is made of a partition on a worker.

    Attributes
    ----------
    function, merge : callable
        See :meth:`Source.reduced`.
    columns : tuple of str
    key : str or None
    cut : bool
        Whether a group may go on in the next partition.
    memory : int
    """

    function: Callable[[pd.DataFrame], Result]
    merge: Callable[[Sequence[Result]], Result]
    columns: tuple[str, ...]
    key: str | None
    cut: bool
    memory: int

    def piece(self, partition: pd.DataFrame) -> Piece[Result]:
        """Of the rows of a partition."""
        with reading():
            table = as_table(partition, self.columns)
        if not (self.cut and self.key is not None and len(table)):
            return Piece(self.results([table]))
        first, last = _inner(table, self.key)
        inside = table.slice(first, last - first)
        edges = [table.slice(0, first), table.slice(last)]
        return Piece(self.results([inside]), [plain(edge) for edge in edges])

    def results(self, tables: Sequence[pa.Table]) -> list[Result]:
        """The result of some tables, one after the other; none if they are empty."""
        import pyarrow as pa

        if not sum(len(table) for table in tables):
            return []
        whole = pa.concat_tables(tables, promote_options="permissive")
        rows = TableSource(self.memory, False, whole)
        return [rows.reduced(self.function, self.merge, self.columns, self.key)]

    def merged(self, *pieces: Piece[Result]) -> Piece[Result]:
        """Of pieces in the order of their rows."""
        results = [result for piece in pieces for result in piece.results]
        if len(results) > 1:
            results = [self.merge(results)]
        return Piece(results, [edge for piece in pieces for edge in piece.edges])


@dataclass(frozen=True)
class DaskSource(Source):
    """
    Rows of a dataframe of Dask.

    Attributes
    ----------
    frame : dask.dataframe.DataFrame
    key : str or None
        The column whose rows are brought into one partition.
    """

    counted: ClassVar[str] = " in each partition"

    frame: Any
    key: str | None = None

    @classmethod
    def of(cls, frame: Any, memory: int, progress: bool) -> DaskSource:
        """The rows of a frame; an index with a name is a column."""
        named = frame.index.name is not None
        return cls(memory, progress, frame.reset_index() if named else frame)

    @property
    def schema(self) -> pa.Schema:
        """See :class:`Source`."""
        import pyarrow as pa

        kinds = dict(self.frame.dtypes)
        for name, kind in kinds.items():
            if pd.api.types.is_complex_dtype(kind):
                raise UnsupportedError(
                    f"the column {name!r} holds complex numbers, which are not read in "
                    f"batches: leave it out, by frame.drop(columns={name!r}), and make "
                    "columns of its parts if they are wanted"
                )
        empty = pd.DataFrame(
            {name: pd.Series(dtype=kind) for name, kind in kinds.items()}
        )
        found = pa.Schema.from_pandas(empty, preserve_index=False)
        for k, column in enumerate(found):
            if pa.types.is_null(column.type):  # of objects: text
                found = found.set(k, column.with_type(pa.string()))
        return found

    def batches(self, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """See :class:`Source`."""
        frame = self._partitioned(columns)
        if self.key is not None:
            frame = frame.persist()  # rows are exchanged once, not for each partition
        for k, partition in enumerate(frame.to_delayed()):
            found = _named(partition.compute, k)
            table = as_table(found, columns)
            yield from table.to_batches(max_chunksize=rows)

    def sorted_by(self, key: str) -> Source:
        """The same rows, all rows of a key in one partition."""
        return replace(self, key=key)

    def reduced(
        self,
        function: Callable[[pd.DataFrame], Result],
        merge: Callable[[Sequence[Result]], Result],
        columns: Sequence[str],
        key: str | None = None,
    ) -> Result:
        """See :class:`Source`; the results are made and merged by the workers."""
        cut = key is not None and self.key != key
        own = Mapped(function, merge, tuple(columns), key, cut, self.memory)
        partitions = self._partitioned(columns).to_delayed()
        found: Piece[Result] = self._merged(own, list(partitions))
        results = [*found.results, *own.results(found.edges)]
        if not results:
            raise SourceError("the data have no rows")
        return merge(results) if len(results) > 1 else results[0]

    def _partitioned(self, columns: Sequence[str]) -> Any:
        """Some columns; with a key, all its rows in one partition, in their order."""
        if self.key is None:
            return self.frame[list(columns)]
        wanted = list(dict.fromkeys([*columns, self.key]))
        numbered = self.frame[wanted].map_partitions(_numbered)
        moved = numbered.shuffle(on=self.key)
        return moved.map_partitions(_in_order, self.key)[list(columns)]

    def _merged(self, own: Mapped[Result], partitions: list[Any]) -> Piece[Result]:
        """The piece of all partitions."""
        from dask.delayed import delayed

        client = _client()
        if client is not None:
            return self._gathered(client, own, partitions)
        piece, merged = delayed(own.piece, pure=False), delayed(own.merged, pure=False)
        steps = [piece(partition) for partition in partitions]
        tree = _tree(steps, lambda some: merged(*some))
        try:
            out: Piece[Result] = tree.compute()
        except MixedARError:
            raise
        except Exception:
            for k, step in enumerate(steps):  # which one was it?
                _named(step.compute, k)
            raise
        return out

    def _gathered(
        self, client: Any, own: Mapped[Result], partitions: list[Any]
    ) -> Piece[Result]:
        """The same by the workers of a cluster."""
        from dask.delayed import delayed

        # workers are told once what to do; a task is done again where a worker dies
        there = client.submit(_itself, own, pure=False)
        piece = delayed(_piece, pure=False)
        futures = client.compute([piece(there, part) for part in partitions])

        def merged(some: list[Any]) -> Any:
            return client.submit(_merge, there, *some, pure=False)

        try:
            top = _tree(futures, merged)
            if self.progress:
                from distributed import as_completed
                from tqdm.auto import tqdm

                bar = tqdm(as_completed(futures), total=len(futures), unit=" parts")
                for _ in bar:
                    pass
            out: Piece[Result] = top.result()
        except MixedARError:
            raise
        except Exception:
            for k, future in enumerate(futures):
                _named(future.result, k)
            raise
        return out


def _itself(own: Mapped[Result]) -> Mapped[Result]:
    return own


def _piece(own: Mapped[Result], partition: pd.DataFrame) -> Piece[Result]:
    return own.piece(partition)


def _merge(own: Mapped[Result], *pieces: Piece[Result]) -> Piece[Result]:
    return own.merged(*pieces)


def _tree(leaves: list[Any], merged: Callable[[list[Any]], Any]) -> Any:
    """Merge results that follow one another, a few at a time."""
    level = leaves
    while len(level) > 1 or level is leaves:
        starts = range(0, len(level), _BRANCHES)
        level = [merged(level[start : start + _BRANCHES]) for start in starts]
    return level[0]


def _client() -> Any:
    """The client of a cluster if there is one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


def _named(compute: Callable[[], Any], k: int) -> Any:
    """What is computed of a partition; errors say which one it was."""
    try:
        return compute()
    except MixedARError:
        raise
    except Exception as error:
        raise SourceError(
            f"partition {k} of the Dask dataframe (the first is 0) could not be read: "
            f"{type(error).__name__}: {error}"
        ) from error


def as_table(partition: pd.DataFrame, columns: Sequence[str]) -> pa.Table:
    """Columns of a partition as a table."""
    import pyarrow as pa

    table = pa.Table.from_pandas(partition[list(columns)], preserve_index=False)
    for k, column in enumerate(table.schema):
        if pa.types.is_null(column.type):  # text, all of it missing
            table = table.set_column(k, column.name, table.column(k).cast(pa.string()))
    return table


def plain(table: pa.Table) -> pa.Table:
    """
    A few rows by themselves, categories as the texts or numbers that they are.

    A slice would take all rows of its partition along to the client.
    """
    import pyarrow as pa

    table = table.take(np.arange(len(table)))
    for k, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            values = table.column(k).cast(column.type.value_type)
            table = table.set_column(k, column.name, values)
    return table


def _inner(table: pa.Table, key: str) -> tuple[int, int]:
    """From where to where groups begin and end inside a table."""
    codes = pd.factorize(table.column(key).to_pandas(), use_na_sentinel=False)[0]
    starts = np.flatnonzero(np.diff(codes)) + 1
    if not len(starts):
        return len(table), len(table)
    return int(starts[0]), int(starts[-1])


def _numbered(
    partition: pd.DataFrame, partition_info: dict[str, Any] | None = None
) -> pd.DataFrame:
    """Rows that know where they stood."""
    k = 0 if partition_info is None else partition_info["number"]
    return partition.assign(**{_PARTITION: k, _ROW: np.arange(len(partition))})


def _in_order(partition: pd.DataFrame, key: str) -> pd.DataFrame:
    """Rows of each key together, in the order in which they stood."""
    ordered = partition.sort_values([key, _PARTITION, _ROW], ignore_index=True)
    return ordered.drop(columns=[_PARTITION, _ROW])
