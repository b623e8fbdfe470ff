"""
Reading the files of the command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from mixedar.exceptions import MixedARError
from mixedar.summary.text import plain

_PARQUET = (".parquet", ".pq")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zip")
_ISO_DATE = r"\d{4}-\d{2}(-\d{2}([ T].*)?)?"


def read_table(path: str, labels: Iterable[str] = ()) -> pd.DataFrame:
    """
    A CSV or Parquet file by its suffix; empty cells and NA are missing values.

    Labels whose numbers would lose their spelling (``001``, or ``1.10`` beside
    ``1.1``) stay text.
    """
    file = Path(path)
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if kind not in (".csv", ".tsv", *_PARQUET):
        raise MixedARError(
            f"{path}: the suffix says neither CSV nor Parquet; rename the file to "
            ".csv, .tsv, .csv.gz or .parquet"
        )
    if not file.exists():
        raise MixedARError(f"{path}: there is no such file")
    try:
        table = pd.read_parquet(file) if kind in _PARQUET else _text(file, kind, labels)
    except ImportError:
        raise MixedARError(
            f"{path}: reading Parquet needs pyarrow, which is not installed; "
            'pip install "mixedar[parquet]", or save the data as CSV'
        ) from None
    except pd.errors.EmptyDataError:
        raise MixedARError(f"{path}: the file is empty") from None
    except (OSError, ValueError, EOFError) as error:
        raise MixedARError(f"{path}: cannot be read ({plain(error)})") from error
    if table.empty:
        raise MixedARError(f"{path}: the file has no rows of data")
    return table


def _text(file: Path, kind: str, labels: Iterable[str]) -> pd.DataFrame:
    """A table of text: its separator is read from the header."""
    options: dict[str, Any] = {"sep": "\t" if kind == ".tsv" else ","}
    head = pd.read_csv(file, sep="\x01", nrows=20, header=None, dtype=str, quoting=3)
    lines = head[0].astype(str).tolist()
    if options["sep"] not in lines[0]:
        if ";" in lines[0]:
            rows = "".join(lines[1:])
            comma = re.search(r"\d,\d", rows) and not re.search(r"\d\.\d", rows)
            options = {"sep": ";", "decimal": "," if comma else "."}
        elif len(lines[0].split()) > 1:  # R's write.table
            options = {"sep": r"\s+"}
    table = pd.read_csv(file, low_memory=False, **options)
    if not isinstance(table.index, pd.RangeIndex) and table.iloc[:, -1].isna().all():
        # separators at the ends of lines, not names of rows
        options |= {"index_col": False}
        table = pd.read_csv(file, low_memory=False, **options)
    numeric = pd.api.types.is_numeric_dtype
    labels = [name for name in labels if name in table and numeric(table[name])]
    if labels:
        text = pd.read_csv(file, dtype=str, **options).reset_index(drop=True)
    # names of rows, as R writes them, are left out
    table = table.reset_index(drop=True)
    for name in labels:
        numbers, spelled = table[name], text[name].str.strip()
        whole = pd.api.types.is_integer_dtype(numbers)
        if spelled.nunique() > numbers.nunique() or (
            whole and (spelled != numbers.astype(str)).any()
        ):
            table[name] = spelled
    return table


def parse_dates(column: pd.Series) -> pd.Series:
    """
    A column of dates if it is text that is dates throughout, else itself.

    Only year-month(-day) is taken: of 01/02/2024 nobody knows the month.
    """
    if not (column.dtype == object or pd.api.types.is_string_dtype(column.dtype)):
        return column
    present = column.dropna()
    if not len(present) or not all(isinstance(value, str) for value in present):
        return column
    if not present.str.fullmatch(_ISO_DATE).all():
        return column
    try:
        return pd.to_datetime(column)
    except ValueError:
        return column
