"""
Columns of formulas that stand beside a model's own, such as a variance's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixedar.design.columns import ColumnStore
from mixedar.design.spec import FormulaSpec, fit_formula
from mixedar.design.terms import read_formula

__all__ = ["formula_matrices", "formula_variables"]


def formula_variables(
    formulas: Iterable[str], available: Iterable[Any], namespace: Mapping[str, Any]
) -> list[str]:
    """
    Columns of the data that formulas use.

    Parameters
    ----------
    formulas : iterable of str
        Right-hand sides.
    available : iterable
        Names of the data's columns.
    namespace : Mapping[str, object]
        The caller's variables.

    Returns
    -------
    list of str
    """
    known = set(available)
    names: dict[str, None] = {}
    for formula in formulas:
        used = read_formula(formula, namespace).names
        names.update(dict.fromkeys(sorted(used & known)))
    return list(names)


def formula_matrices(
    formulas: Iterable[str], frame: pd.DataFrame, namespace: Mapping[str, Any]
) -> dict[str, tuple[FormulaSpec, np.ndarray]]:
    """
    Evaluate formulas on complete rows.

    Parameters
    ----------
    formulas : iterable of str
    frame : DataFrame
        The rows.
    namespace : Mapping[str, object]
        The caller's variables.

    Returns
    -------
    dict of str to (FormulaSpec, ndarray of shape (n, p))
        By formula; the specification names the columns and rebuilds them for
        new rows.

    Raises
    ------
    UnknownColumnError
        If a name is neither a column nor a variable.
    MixedARError
        If a formula cannot be evaluated.
    """
    out = {}
    for formula in formulas:
        use = read_formula(formula, namespace)
        columns = {n: frame[n] for n in use.names if n in frame.columns}
        store = ColumnStore(columns, frame.index, list(frame.columns))
        out[formula] = fit_formula(use, store, namespace)
    return out
