"""
Engines that hold rows: relations of DuckDB and lazy frames of polars.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from mixedar.exceptions import SourceError
from mixedar.streams.source import Source

if TYPE_CHECKING:
    import pyarrow as pa

# Share of the memory that an engine of our own may take to sort.
_SORTING = 0.4


@dataclass(frozen=True)
class DuckSource(Source):
    """
    Rows of a relation of DuckDB.

    Attributes
    ----------
    relation : duckdb.DuckDBPyRelation
    key : str or None
        The column by which DuckDB sorts the rows.
    files : Source or None
        Where the rows come from, if this is only what sorts them.
    """

    keeps_order: ClassVar[bool] = False

    relation: Any
    key: str | None = None
    files: Source | None = None

    @classmethod
    def of(cls, relation: Any, memory: int, progress: bool) -> DuckSource:
        """The rows of a relation of the user's connection."""
        return cls(memory, progress, relation)

    @classmethod
    def over(cls, dataset: Any, files: Source) -> DuckSource:
        """Rows of files, in a connection of our own that keeps to the memory."""
        import duckdb

        own = duckdb.connect(
            config={
                "memory_limit": f"{int(_SORTING * files.memory)}B",
                "temp_directory": os.path.join(tempfile.gettempdir(), "mixedar-duckdb"),
                "threads": 2,
            }
        )
        relation = own.from_arrow(dataset)
        return cls(files.memory, files.progress, relation, files=files)

    @property
    def schema(self) -> pa.Schema:
        """See :class:`Source`."""
        with _asked():
            return self.relation.limit(0).to_arrow_table().schema

    def stamp(self) -> object:
        """That of the files, if there are any."""
        return None if self.files is None else self.files.stamp()

    def batches(self, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """See :class:`Source`."""
        with _asked():
            wanted = self.relation.select(*map(_quoted, columns))
            if self.key is not None:
                wanted = wanted.order(_quoted(self.key))
            if hasattr(wanted, "to_arrow_reader"):
                yield from wanted.to_arrow_reader(rows)
            else:  # before DuckDB 2
                yield from wanted.fetch_arrow_reader(rows)

    def sorted_by(self, key: str) -> Source:
        """See :class:`Source`."""
        return replace(self, key=key)


@dataclass(frozen=True)
class PolarsSource(Source):
    """
    Rows of a lazy frame of polars.

    Attributes
    ----------
    frame : polars.LazyFrame
    key : str or None
        The column by which polars sorts the rows.
    """

    frame: Any
    key: str | None = None

    @property
    def schema(self) -> pa.Schema:
        """See :class:`Source`."""
        with _asked():
            return self.frame.head(0).collect().to_arrow().schema

    def batches(self, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """See :class:`Source`."""
        with _asked():
            wanted = self.frame.select(list(columns))
            if self.key is not None:
                wanted = wanted.sort(self.key, maintain_order=True)
            if hasattr(wanted, "collect_batches"):
                frames = wanted.collect_batches(chunk_size=rows, maintain_order=True)
            else:  # before polars 1.34
                frames = wanted.collect(engine="streaming").iter_slices(rows)
            for frame in frames:
                yield from frame.to_arrow().to_batches()

    def sorted_by(self, key: str) -> Source:
        """See :class:`Source`."""
        return replace(self, key=key)


def _quoted(column: str) -> str:
    """A name as SQL has it."""
    return '"' + column.replace('"', '""') + '"'


@contextmanager
def _asked() -> Iterator[None]:
    """Errors of an engine as the package's; those of the package pass."""
    try:
        yield
    except (GeneratorExit, SourceError):
        raise
    except Exception as error:
        raise SourceError(f"the engine that holds the data failed: {error}") from error
