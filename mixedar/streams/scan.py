"""
The door: what becomes a source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mixedar._lazy import with_near_names
from mixedar.exceptions import SourceError, UnsupportedError, shown
from mixedar.streams.source import Source, bytes_of

if TYPE_CHECKING:
    from os import PathLike

#: Bytes that a fit of a source may take, unless something else is said.
MEMORY = "2GB"


@with_near_names
def scan(
    data: str | PathLike[str] | list[str] | Any,
    *,
    connection: Any = None,
    format: str | None = None,  # noqa: A002  as in pyarrow.dataset
    text: Sequence[str] = (),
    memory: str | int = MEMORY,
    progress: bool = False,
) -> Source:
    """
    A source of rows that need not fit into memory.

    Parameters
    ----------
    data : str, path, list of these, relation or frame
        Files by name, folder or pattern (``"data/*.parquet"``), of Parquet or CSV,
        partitioned folders included; with `connection` the text of an SQL query; a
        relation of DuckDB, a lazy frame of polars, or a dataframe of Dask, whose rows
        are then read by the workers of its cluster.
    connection : duckdb.DuckDBPyConnection, optional
        Where the query runs.
    format : {"parquet", "csv"}, optional
        By the names of the files, if it is not given.
    text : sequence of str
        Columns of CSV that are text, whatever they look like: labels such as ``01``.
    memory : str or int
        Bytes that the process may take, such as ``"2GB"``: batches are that small, and
        what does not fit raises an error that says what it is.
    progress : bool
        Show how many rows have been read.

    Returns
    -------
    Source
        It is read when a model asks for its rows.

    Raises
    ------
    SourceError
        If there are no such files, or they are neither Parquet nor CSV.
    UnsupportedError
        If `data` is nothing that can be read in batches.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_orthodont().to_parquet(f"{folder}/teeth.parquet")
    ...     teeth = mar.scan(f"{folder}/*.parquet")
    ...     model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> model.fit().params[["age", "rho"]].round(2).to_dict()
    {'age': 0.66, 'rho': 0.05}
    """
    bound = bytes_of(memory)
    if connection is not None:
        return _query(data, connection, bound, progress)
    found = as_source(data, bound, progress)
    if found is not None:
        return found
    from mixedar.streams.files import FileSource, files_of

    paths, partitioned = files_of(data)
    return FileSource.of(paths, partitioned, format, bound, progress, text)


def as_source(data: object, memory: int | None = None, progress: bool = False) -> Any:
    """
    The source that something is; None for what is in memory.

    Relations of DuckDB, an SQL text with its connection in a tuple, lazy frames,
    dataframes of Dask.
    """
    bound = bytes_of(MEMORY) if memory is None else memory
    if isinstance(data, Source):
        return data
    module = type(data).__module__.split(".")[0]
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], str):
        return _query(data[0], data[1], bound, progress)
    if module in ("_duckdb", "duckdb") and hasattr(data, "order"):
        from mixedar.streams.engines import DuckSource

        return DuckSource.of(data, bound, progress)
    if module == "polars" and hasattr(data, "collect"):
        from mixedar.streams.engines import PolarsSource

        return PolarsSource(bound, progress, data)
    if module == "dask" and hasattr(data, "map_partitions"):
        from mixedar.streams.distributed import DaskSource

        return DaskSource.of(data, bound, progress)
    return None


def _query(data: object, connection: Any, memory: int, progress: bool) -> Source:
    """The rows of an SQL query."""
    if not isinstance(data, str) or not hasattr(connection, "sql"):
        raise UnsupportedError(
            "connection= goes with the text of an SQL query, and is a connection of "
            f"DuckDB, not {type(connection).__name__}"
        )
    from mixedar.streams.engines import DuckSource

    try:
        relation = connection.sql(data)
    except Exception as error:
        raise SourceError(f"the query {shown(data)} does not run: {error}") from error
    if relation is None:
        raise UnsupportedError(f"the query {shown(data)} gives no rows: write a SELECT")
    return DuckSource.of(relation, memory, progress)
