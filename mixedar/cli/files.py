"""
The numbers of a fit under plain names, for other programs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixedar.exceptions import MixedARError


def as_json(values: Mapping[str, Any]) -> str:
    """
    JSON text of numbers, strings, arrays and mappings.

    Parameters
    ----------
    values : mapping

    Returns
    -------
    str
        NaN and infinity are null: JSON has no numbers for them.
    """
    return json.dumps(_plain(values), indent=2, allow_nan=False, ensure_ascii=False)


def results_as_dict(fit: Any) -> dict[str, Any]:
    """
    Numbers of a fit under plain names, ready for JSON but for NaN.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    dict
        Fixed effects and covariance parameters by name with standard errors and
        95% intervals; matrices as ``{"names": [...], "values": [[...]]}``.
    """
    names, p = fit.model.data.param_names, fit.k_fe
    columns = [fit.params, fit.bse, fit.tvalues, fit.pvalues]
    estimate, se, t, pvalue = (np.asarray(column) for column in columns)
    interval = np.asarray(fit.conf_int())
    fixed = {
        names[k]: {
            "estimate": estimate[k],
            "se": se[k],
            "df": fit.df.iloc[k],
            "t": t[k],
            "p": pvalue[k],
            "ci": list(interval[k]),
        }
        for k in range(p)
    }
    # a parameter that is held, or lies on a boundary, has no standard error
    covariance = {
        names[k]: {
            "estimate": estimate[k],
            "se": se[k] if se[k] > 0.0 else np.nan,
            "ci": list(interval[k]),
        }
        for k in range(p, len(names))
    }
    cov_fe = np.asarray(fit.cov_params())[:p, :p]
    deviations = np.sqrt(np.diag(cov_fe))
    return {
        "method": fit.method,
        "residual": fit.model.residual.label,
        "converged": fit.converged,
        "at_boundary": fit.at_boundary,
        "boundary_notes": list(fit.boundary_notes),
        "nobs": fit.nobs,
        "n_groups": fit.n_groups,
        "llf": fit.llf,
        "aic": fit.aic,
        "bic": fit.bic,
        "scale": fit.scale,
        "fixed_effects": fixed,
        "fixed_effects_correlation": {
            "names": names[:p],
            "values": cov_fe / np.outer(deviations, deviations),
        },
        "cov_re": {
            "names": list(fit.model.data.exog_re_names),
            "values": np.asarray(fit.cov_re),
        },
        "vcomp": dict(zip(fit.model.exog_vc.names, np.asarray(fit.vcomp), strict=True)),
        "residual_params": fit.residual_params.to_dict(),
        "covariance_parameters": covariance,
        "residual_quantiles": fit.std_residual_quantiles.to_dict(),
        "time_unit": fit.model.time_unit,
        "modes": fit.modes["llf"].to_list(),
    }


def _plain(value: Any) -> Any:
    """Python's own types, and None for what JSON has no number for."""
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
