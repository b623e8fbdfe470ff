"""
Files: Parquet and CSV, by name, pattern or folder.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixedar.exceptions import SourceError, UnsupportedError, listing, shown
from mixedar.streams.source import Source, reading

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds

_PARQUET = (".parquet", ".pq")
_CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.bz2", ".tsv.bz2")


def _named(data: Any) -> str:
    """What kind of thing something is, or the first of a list that is no path."""
    if not isinstance(data, (list, tuple)):
        return type(data).__name__
    others = [one for one in data if not isinstance(one, (str, os.PathLike))]
    return f"a list with {shown(others[0])}" if others else "an empty list"


def files_of(data: object) -> tuple[list[str], str | None]:
    """
    Files that are meant, in the order in which people count, and their folder.

    Raises
    ------
    SourceError
        If there are none.
    UnsupportedError
        If it is neither a path nor a list of paths.
    """
    given = data if isinstance(data, (list, tuple)) else [data]
    if not given or not all(isinstance(each, (str, os.PathLike)) for each in given):
        raise UnsupportedError(
            "scan() takes files, a folder or a pattern, or a list of these, an SQL "
            "text with connection=, a relation of DuckDB, a lazy frame of polars or a "
            f"dataframe of Dask, not {_named(data)}; a frame in memory goes to the "
            "model itself"
        )
    found: list[str] = []
    folders = []
    for each in map(os.fspath, given):
        if os.path.isdir(each):
            folders.append(each)
            inner = glob.glob(os.path.join(each, "**", "*"), recursive=True)
        else:
            inner = [each] if os.path.exists(each) else glob.glob(each, recursive=True)
        inner = [name for name in inner if os.path.isfile(name)]
        # names that begin so are notes of the program that wrote the others
        inner = [name for name in inner if Path(name).name[0] not in "._"]
        if not inner:
            raise SourceError(f"{shown(each)}: there are no such files{_hint(each)}")
        found += sorted(inner, key=_counting)
    return found, folders[0] if len(folders) == len(given) == 1 else None


def _hint(path: str) -> str:
    """What may be meant by a name that no file has."""
    if not path.strip():
        return "; name files, a folder, or a pattern such as 'data/*.parquet'"
    if re.match(r"\s*(select|with|from)\s", path, re.IGNORECASE):
        return "; an SQL query goes with connection=, a connection of DuckDB"
    return ""


def _counting(path: str) -> list[Any]:
    """Sorts part-2 before part-10."""
    parts: list[Any] = re.split(r"(\d+)", path)
    parts[1::2] = map(int, parts[1::2])
    return parts


@dataclass(frozen=True)
class FileSource(Source):
    """
    Rows of files, in the order of the files.

    Attributes
    ----------
    paths : tuple of str
    folder : str or None
        Whose folders within are named by values of columns, ``year=2020/part.parquet``.
    kind : {"parquet", "csv"}
    text : tuple of str
        Columns of CSV that are text, whatever they look like.
    """

    paths: tuple[str, ...]
    folder: str | None
    kind: str
    text: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        paths: Sequence[str],
        folder: str | None,
        kind: str | None,
        memory: int,
        progress: bool,
        text: Sequence[str] = (),
    ) -> FileSource:
        """The source, whose columns are looked at."""
        if kind is None:
            kinds = {_kind(path) for path in paths}
            if len(kinds) > 1:
                raise SourceError(
                    f"{listing(paths, 3)} are of several kinds: pass files of one, or "
                    "say format='parquet' or format='csv'"
                )
            kind = kinds.pop()
        if kind not in ("parquet", "csv"):
            raise UnsupportedError(f"format={shown(kind)}: choose 'parquet' or 'csv'")
        try:
            import pyarrow.dataset  # noqa: F401
        except ImportError:
            raise SourceError(
                "reading files in batches needs pyarrow, which is not installed; pip "
                'install "mixedar[streams]"'
            ) from None
        source = cls(memory, progress, tuple(paths), folder, kind, tuple(text))
        source.first_stamp  # noqa: B018  files that change from now on are noticed
        with reading():
            source.schema  # noqa: B018
        return source

    @cached_property
    def dataset(self) -> ds.Dataset:
        """The files as pyarrow has them."""
        import pyarrow.dataset as ds

        hive = None if self.folder is None else "hive"
        options: dict[str, Any] = {"partitioning": hive}
        if hive:
            options["partition_base_dir"] = self.folder
        return ds.dataset(list(self.paths), format=self._format(), **options)

    def _format(self) -> ds.FileFormat:
        import pyarrow.csv
        import pyarrow.dataset as ds

        if self.kind == "parquet":
            return ds.ParquetFileFormat()
        tabs = Path(self.paths[0]).suffixes[:1] == [".tsv"]
        return ds.CsvFileFormat(
            pyarrow.csv.ParseOptions(delimiter="\t" if tabs else ","),
            convert_options=pyarrow.csv.ConvertOptions(
                strings_can_be_null=True,
                column_types=dict.fromkeys(self.text, pyarrow.string()),
            ),
        )

    @property
    def schema(self) -> pa.Schema:
        """See :class:`Source`."""
        return self.dataset.schema

    def stamp(self) -> object:
        """Sizes and times of the files."""
        out = {}
        for path in self.paths:
            try:
                found = os.stat(path)
            except OSError as error:
                raise SourceError(f"{path}: the file is gone ({error})") from error
            out[path] = found.st_size, found.st_mtime_ns
        return out

    def count(self) -> int | None:
        """Of Parquet, which says it."""
        return self.dataset.count_rows() if self.kind == "parquet" else None

    def batches(self, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """See :class:`Source`."""
        import pyarrow.dataset as ds

        options: dict[str, Any] = {"batch_size": rows, "batch_readahead": 2}
        if self.kind == "parquet":
            options["fragment_scan_options"] = ds.ParquetFragmentScanOptions(
                pre_buffer=False
            )
        for part in self.dataset.get_fragments():
            with reading(part.path):
                scanner = part.scanner(self.schema, columns=list(columns), **options)
                yield from scanner.to_batches()

    def sorted_by(self, key: str) -> Source:
        """By DuckDB, if it is there."""
        if find_spec("duckdb") is None:
            raise SourceError(
                f"the rows of one {key!r} are not together in the files, and DuckDB, "
                "which could sort them, is not installed: write the files sorted by "
                f'{key!r}, or pip install "mixedar[streams]"'
            )
        from mixedar.streams.engines import DuckSource

        return DuckSource.over(self.dataset, self).sorted_by(key)


def _kind(path: str) -> str:
    name = path.lower()
    if name.endswith(_PARQUET):
        return "parquet"
    if name.endswith(_CSV):
        return "csv"
    raise SourceError(
        f"{path}: the suffix says neither CSV nor Parquet; rename the file, or say "
        "format='parquet' or format='csv'"
    )
