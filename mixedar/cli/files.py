"""
What the command line reads, and how it writes what Python says.
"""

from __future__ import annotations

import ast
import glob
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixedar.exceptions import MixedARError
from mixedar.streams import Source, scan
from mixedar.summary.text import plain

_PARQUET = (".parquet", ".pq")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zip")
_ISO_DATE = r"\d{4}-\d{2}(-\d{2}([ T].*)?)?"


# Arguments in Python that have an option, with a value that it can take; those whose
# option has another name; and what is said of the others.
_ARGUMENT = re.compile(
    r"\b(groups|time|delta|residual|series|weights|missing|memory|df|re_cov|re_formula"
    r"|vc_formula)"
    r"(?:=(?![\w\[])|(?<=formula)\b(?!=))('[^']*'|\"[^\"]*\"|\{[^{}]*\})?"
)
_RENAMED = {"re_cov": "re-cov", "re_formula": "re", "vc_formula": "vc"}
_PYTHON = "this is Python; the options here are those of fit --help"


def read_data(
    path: str, labels: Iterable[str] = (), memory: str = "2GB"
) -> pd.DataFrame | Source:
    """
    A file as a table; a folder, or the files of a pattern, as a source.

    Labels of a source of CSV are text, so that ``01`` and ``1`` stay apart.
    """
    several = Path(path).is_dir() or (glob.has_magic(path) and not Path(path).exists())
    if not several:
        return read_table(path, labels)
    return scan(path, memory=memory, text=sorted(labels))


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
    _check_names(path, table.columns)
    return table


def _check_names(path: str, names: Iterable[object]) -> None:
    """Raise if two columns have one name."""
    found = pd.Series(list(names), dtype=object)
    twice = found[found.duplicated()].unique()
    if len(twice):
        raise MixedARError(
            f"{path}: several columns are named {', '.join(map(repr, twice))}; give "
            "each a name of its own"
        )


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
    header = pd.read_csv(file, header=None, nrows=1, dtype=str, **options)
    _check_names(str(file), header.iloc[0].dropna())
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
    if header.iloc[0].isna().iloc[0] and table.columns[0] == "Unnamed: 0":
        table = table.iloc[:, 1:]
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


def as_options(message: str) -> str:
    """A message of the package with the options for its arguments in Python."""
    message = re.sub(r"\breml=False\b", "--ml", message)
    # what has no option is said to be Python
    words = r"\bdata\[|\bVar\w+\(|\b[a-z_]+=[\w\"'({\[]"
    python = re.search(words, _ARGUMENT.sub("", message))
    message = _ARGUMENT.sub(_as_option, message)
    return f"{message} ({_PYTHON})" if python else message


def _as_option(argument: re.Match[str]) -> str:
    option = f"--{_RENAMED.get(argument[1], argument[1])}"
    if not argument[2]:
        return option
    value = ast.literal_eval(argument[2])
    if isinstance(value, dict):
        return " ".join(f'{option} "{name}={part}"' for name, part in value.items())
    plain_word = re.fullmatch(r"[\w.]+", value)
    return f"{option} {value}" if plain_word else f'{option} "{value}"'


def as_json(results: object) -> str:
    """Results for a program; null for what JSON has no number for."""
    return json.dumps(_plain(results), indent=2, allow_nan=False, ensure_ascii=False)


def _plain(value: object) -> Any:
    """Python's own types, and None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
