"""
Data files as tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mixedar.exceptions import MixedARError

__all__ = ["parse_dates", "read_table"]

_PARQUET = (".parquet", ".pq")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zip")
_ISO_DATE = r"\d{4}-\d{2}(-\d{2}([ T].*)?)?"


def read_table(path: str, labels: Sequence[str] = ()) -> pd.DataFrame:
    """
    Read a CSV or Parquet file, by its suffix.

    Parameters
    ----------
    path : str
        ``.csv``, ``.tsv``, ``.parquet`` or ``.pq``; text may be compressed
        (``.csv.gz``).

    labels : sequence of str
        Columns of labels: where numbers would lose their spelling (``001``) they
        stay text.

    Returns
    -------
    DataFrame
        Other columns as pandas reads them; empty cells and NA are missing values.

    Raises
    ------
    MixedARError
        If the file is missing, empty, of another kind or cannot be read.
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
        if kind in _PARQUET:
            table = pd.read_parquet(file)
        else:
            separator = "\t" if kind == ".tsv" else ","
            table = pd.read_csv(file, sep=separator, low_memory=False)
            for name in labels:
                if name in table and pd.api.types.is_integer_dtype(table[name]):
                    text = pd.read_csv(file, sep=separator, usecols=[name], dtype=str)
                    if (text[name] != table[name].astype(str)).any():
                        table[name] = text[name]
    except ImportError:
        raise MixedARError(
            f"{path}: reading Parquet needs pyarrow, which is not installed; "
            'pip install "mixedar[parquet]", or save the data as CSV'
        ) from None
    except pd.errors.EmptyDataError:
        raise MixedARError(f"{path}: the file is empty") from None
    except (OSError, ValueError, EOFError) as error:
        raise MixedARError(
            f"{path}: cannot be read ({' '.join(str(error).split())})"
        ) from error
    if table.empty:
        raise MixedARError(f"{path}: the file has no rows of data")
    return table


def parse_dates(column: pd.Series) -> pd.Series:
    """
    Turn text that is dates throughout into dates.

    Only year-month(-day) is taken: of 01/02/2024 nobody knows the month.

    Parameters
    ----------
    column : Series

    Returns
    -------
    Series
        `column` itself if it is anything else.
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
