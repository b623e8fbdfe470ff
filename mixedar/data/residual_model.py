"""
From ``residual=`` and ``weights=`` to one structure and the columns it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar.data.checks import check_lengths
from mixedar.data.formula import FormulaSpec, formula_matrices, formula_variables
from mixedar.engine.residuals import correlation_of, variance_of
from mixedar.exceptions import UnknownColumnError, UnsupportedError
from mixedar.residual import ResidualStructure, combine, resolve
from mixedar.residual.variance import (
    WEIGHTS,
    formulas_of,
    resolve_variance,
    with_columns,
)
from mixedar.residual.variance.base import FITTED, VarianceFunction


@dataclass(frozen=True)
class ResidualModel:
    """
    A residual structure, not bound yet, and what it reads.

    Attributes
    ----------
    structure : ResidualStructure
    columns : dict of str to (str or array_like)
        Names of columns of the data, or values.
    formulas : tuple of str
        Formulas of the variance function that are still to be evaluated.
    specs : dict of str to FormulaSpec
        Those that have been, for new rows.
    """

    structure: ResidualStructure
    columns: dict[str, Any]
    formulas: tuple[str, ...] = ()
    specs: dict[str, FormulaSpec] = field(default_factory=dict)

    def needed(self, available: Any, namespace: Mapping[str, Any]) -> dict[str, Any]:
        """What to keep aligned with the rows: columns, and formulas' variables."""
        names = formula_variables(self.formulas, available, namespace)
        return {**{name: name for name in names}, **self.columns}

    def evaluated(
        self, frame: pd.DataFrame, values: dict[str, Any], namespace: Mapping[str, Any]
    ) -> ResidualModel:
        """
        The model with its columns and formulas as values.

        Parameters
        ----------
        frame : DataFrame
            The rows that are used.
        values : dict of str to array_like
            Values of :meth:`needed`, for these rows.
        namespace : Mapping[str, object]
            Variables that formulas may use.

        Returns
        -------
        ResidualModel
        """
        columns = {name: values[name] for name in self.columns}
        if not self.formulas:
            return replace(self, columns=columns)
        found = formula_matrices(self.formulas, frame, namespace)
        specs = {formula: spec for formula, (spec, _) in found.items()}
        names = {formula: list(s.column_names) for formula, s in specs.items()}
        structure = self.structure
        variance = variance_of(structure)
        assert variance is not None
        correlation = correlation_of(structure)
        for formula, (_, matrix) in found.items():
            columns.update(zip(names[formula], matrix.T, strict=True))
        structure = combine(correlation, with_columns(variance, names))
        used = {mark.column for mark in structure.marks}
        columns = {name: v for name, v in columns.items() if name in used}
        return ResidualModel(structure, columns, (), specs)


def residual_from_names(residual: Any, weights: Any) -> ResidualModel:
    """
    The structure, and what to look up in the data for it.

    Parameters
    ----------
    residual : str, ResidualStructure or None
    weights : VarianceFunction, str, array_like or None
        An array holds known weights.

    Returns
    -------
    ResidualModel

    Raises
    ------
    UnsupportedError
        If a name or a type is not understood.
    """
    variance: VarianceFunction | None = resolve_variance(weights)
    structure = combine(resolve(residual), variance)
    names = [mark.column for mark in structure.marks]
    columns: dict[str, Any] = {n: n for n in names if n is not None and n != FITTED}
    given = isinstance(weights, (str, type, VarianceFunction)) or weights is None
    if not given and WEIGHTS in columns:
        columns[WEIGHTS] = weights
    return ResidualModel(structure, columns, formulas_of(variance))


def as_columns(data: Any) -> Mapping[str, Any] | pd.DataFrame:
    """``residual_data=`` if it holds columns."""
    if not isinstance(data, (Mapping, pd.DataFrame)):
        raise UnsupportedError(
            "residual_data= takes a DataFrame or a mapping of names to columns, not "
            f"{type(data).__name__}"
        )
    return data


def residual_from_arrays(
    residual: Any, weights: Any, data: Any, n: int
) -> ResidualModel:
    """
    The structure with the values of the columns that it reads.

    Parameters
    ----------
    residual, weights
        As in :func:`residual_from_names`.
    data : DataFrame, mapping of str to array_like, or None
    n : int
        Number of rows.

    Returns
    -------
    ResidualModel

    Raises
    ------
    UnknownColumnError
        If `data` lacks a column.
    LengthError
        If a column has another length.
    """
    model = residual_from_names(residual, weights)
    data = {} if data is None else as_columns(data)
    values = {}
    for name, column in model.needed(list(data), {}).items():
        if not isinstance(column, str):
            values[name] = column
        elif column in data:
            values[name] = data[column]
        else:
            known = ", ".join(repr(str(key)) for key in data)
            raise UnknownColumnError(
                f"the residual structure reads the column {name!r}; pass it in "
                "residual_data=, a DataFrame or dict with one value for each row"
                + (f" (it has {known})" if known else "")
            )
    check_lengths(n, **values)
    frame = pd.DataFrame()
    if model.formulas:
        frame = pd.DataFrame({k: np.asarray(v) for k, v in values.items()})
    return model.evaluated(frame, values, {})
