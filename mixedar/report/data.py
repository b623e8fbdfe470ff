"""
What the data of a fit are: counts, and one line a variable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixedar.exceptions import NotComputedError

__all__ = ["data_facts", "variables_used"]

# So many levels of a factor are listed with their counts.
_MOST_LEVELS = 6


def data_facts(fit: Any) -> pd.DataFrame:
    """
    Numbers of rows and groups, and when observations were made.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    DataFrame
        One column, ``value``, of texts.

    Raises
    ------
    NotComputedError
        If the data were removed from the fit.
    """
    fit = getattr(fit, "_results", fit)
    model = fit.model
    if model.endog is None:
        raise NotComputedError("the data were removed from this fit")
    low, middle, high = fit._group_sizes
    facts = {
        "Observations": f"{model.nobs:,}",
        "Groups": f"{model.n_groups:,}",
        "Observations a group": (
            f"{low}" if low == high else f"{low} to {high}, on average {middle:.4g}"
        ),
    }
    name = getattr(model, "groups_name", None)
    if name is not None:
        facts["Column of the groups"] = str(name)
    if model.series is not None:
        named = getattr(model.series, "name", None)
        facts["Series inside groups"] = str(named or "given as an array")
    if model.time is None:
        facts["Time"] = "the order of the rows"
    else:
        time = pd.Series(model.time)
        named = getattr(model, "time_name", None) or time.name or "given as an array"
        facts["Time"] = f"{named}: {_short(time.min())} to {_short(time.max())}"
        if fit.structure.k_params:
            unit = model.time_unit
            facts["Unit of time"] = "as given" if unit == "1" else unit
            gaps = model._grouped.gaps
            gaps = gaps[gaps > 0.0]
            if len(gaps):
                facts["Distance of neighbours"] = _range(gaps)
    return pd.DataFrame({"value": facts})


def _range(values: Any) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    if low == high:
        return f"{low:.6g}, all equal"
    return f"{low:.6g} to {high:.6g}, mostly {float(np.median(values)):.6g}"


def variables_used(fit: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    The variables of the model.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    numeric : DataFrame
        Mean, standard deviation (of rows), smallest and largest value, number
        of distinct values, and where it varies.
    factors : DataFrame of str
        Levels with their numbers of rows, and where they vary.
    """
    fit = getattr(fit, "_results", fit)
    columns = _columns(fit)
    numeric: dict[Any, dict[str, Any]] = {}
    factors: dict[Any, dict[str, Any]] = {}
    codes = np.asarray(fit.model._codes)
    labels = _label_columns(fit)
    for name, column in columns.items():
        column = column.reset_index(drop=True)
        where = _varies(column, codes)
        is_number = pd.api.types.is_numeric_dtype(column.dtype)
        if is_number and column.dtype != bool and name not in labels:
            values = column.astype(float)
            numeric[name] = {
                "Mean": values.mean(),
                "Std.Dev.": values.std(),
                "Min": values.min(),
                "Max": values.max(),
                "Distinct": f"{column.nunique():,}",
                "Varies": where,
            }
        else:
            factors[name] = {"Values": _levels(column), "Varies": where}
    return pd.DataFrame(numeric).T, pd.DataFrame(factors).T


def _columns(fit: Any) -> dict[Any, pd.Series]:
    """The response, then the columns that the formulas name."""
    model = fit.model
    frame = getattr(model.data, "frame", None)
    found = {str(model.endog_names): pd.Series(np.asarray(model.endog))}
    if frame is None or getattr(model, "formula_spec", None) is None:
        names = list(model.exog_names)
        found |= {
            name: pd.Series(model.exog[:, j])
            for j, name in enumerate(names)
            if np.ptp(model.exog[:, j]) > 0.0
        }
        return found
    wanted = list(model.formula_spec.variables)
    if model.re_spec is not None:
        wanted += model.re_spec.variables
    wanted.append(model.time_name)
    for name in dict.fromkeys(wanted):
        if name in frame.columns:
            found[name] = frame[name]
    return found


def _label_columns(fit: Any) -> set[Any]:
    spec = getattr(fit.model, "formula_spec", None)
    return set() if spec is None else set(spec.use.coded) | set(spec.levels)


def _varies(column: pd.Series, codes: Any) -> str:
    """Whether a variable varies within groups, between them, or both."""
    numbers = pd.factorize(column)[0]
    order = np.argsort(codes, kind="stable")
    same = codes[order][1:] == codes[order][:-1]
    if (same & (np.diff(numbers[order]) != 0)).any():
        return "within groups"
    return "between groups" if (numbers != numbers[0]).any() else "nowhere"


def _levels(column: pd.Series) -> str:
    counts = column.value_counts(sort=False)
    if len(counts) > _MOST_LEVELS:
        shown = f"{len(counts):,} values"
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            shown += f", {_short(column.min())} to {_short(column.max())}"
        return shown
    counts = counts.sort_index()
    return ", ".join(f"{level} ({count:,})" for level, count in counts.items())


def _short(value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return str(value.date()) if value == value.normalize() else str(value)
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)
