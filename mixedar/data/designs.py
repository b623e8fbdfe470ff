"""
Design matrices of new rows, complete and of the right shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import check_lengths, float_array
from mixedar.data.components import component_columns, component_squares
from mixedar.data.formula import design_for
from mixedar.data.formula.columns import table_column
from mixedar.exceptions import LengthError, MissingDataError, shown


def fixed_design(spec: Any, table: pd.DataFrame) -> FloatArray:
    """
    Matrix of a formula for new rows.

    Parameters
    ----------
    spec : FormulaSpec
    table : DataFrame, k rows

    Returns
    -------
    ndarray, shape (k, columns)

    Raises
    ------
    MissingDataError
        Naming the data's own column, where it is at fault.
    UnknownColumnError, UnsupportedError
        If a column is missing, or a level is not known.
    """
    # the check says more than a warning
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        matrix, names = design_for(spec, table)
    if np.isfinite(matrix).all():
        return matrix
    row = int(np.argmax(~np.isfinite(matrix).all(axis=1)))
    for variable in spec.variables:
        if pd.isna(table_column(table, variable).iloc[row]):
            names = [str(variable)] * len(names)
            break
    _check_finite(matrix, names, table.index)
    return matrix


def matrix_rows(exog: Any, p: int) -> tuple[FloatArray, pd.Index]:
    """
    A design matrix that the caller passed, and labels of its rows.

    Parameters
    ----------
    exog : array_like, shape (k, p)
    p : int
        Number of fixed effects.

    Returns
    -------
    exog : ndarray, shape (k, p)
    index : Index

    Raises
    ------
    LengthError, MissingDataError, ResponseError
        For another shape, missing values, or no numbers.
    """
    labelled = isinstance(exog, (pd.Series, pd.DataFrame))
    index = exog.index if labelled else None
    values = float_array(exog, "exog")
    if values.ndim == 1:
        values = values[None, :] if len(values) == p else values[:, None]
        index = index if index is not None and len(index) == len(values) else None
    if values.ndim != 2 or values.shape[1] != p:
        raise LengthError(
            f"exog has the shape {np.shape(exog)}; the model has {p} fixed effects"
        )
    index = pd.RangeIndex(len(values)) if index is None else index
    _check_finite(values, [f"number {j + 1} of exog" for j in range(p)], index)
    return values, index


def random_design(
    fit: Any, exog_re: Any, table: pd.DataFrame, from_formula: bool
) -> FloatArray:
    """
    Design of the correlated random effects of new rows.

    Parameters
    ----------
    fit : MixedLMARResults
    exog_re : array_like or None
        As the caller passed it.
    table : DataFrame, k rows
    from_formula : bool
        Whether `table` has columns for formulas.

    Returns
    -------
    ndarray, shape (k, k_re)

    Raises
    ------
    LengthError
        If it is missing, or has another shape.
    MissingDataError, UnknownColumnError
        If values or columns are missing.
    """
    k, model = len(table), fit.model
    if fit.k_re == 0:
        return np.empty((k, 0))
    if exog_re is None and from_formula:
        spec = getattr(model, "re_spec", None)
        return np.ones((k, 1)) if spec is None else fixed_design(spec, table)
    if exog_re is None:
        fitted = model.exog_re
        if fitted is not None and fitted.shape[1] == 1 and (fitted == 1.0).all():
            return np.ones((k, 1))
        raise LengthError(
            f"exog_re= is missing: the model has {fit.k_re} random effects, and new "
            "rows need their design"
        )
    values = float_array(exog_re, "exog_re")
    values = values[:, None] if values.ndim == 1 else values
    if values.shape != (k, fit.k_re):
        raise LengthError(
            f"exog_re has the shape {values.shape}; {k} rows and {fit.k_re} random "
            "effects are expected"
        )
    names = [f"number {j + 1} of exog_re" for j in range(fit.k_re)]
    _check_finite(values, names, table.index)
    return values


def component_design(
    model: Any,
    table: pd.DataFrame,
    codes: IntArray,
    labels: pd.Series | None,
    namespace: Mapping[str, Any],
) -> tuple[FloatArray, FloatArray]:
    """
    Columns of all variance components of new rows, by formula.

    Parameters
    ----------
    model : MixedLMAR
    table : DataFrame, k rows
    codes : ndarray of int, shape (k,)
        Numbers of the groups, -1 for unknown ones.
    labels : Series or None
        Labels of the groups; None for the population, of which no group is known.
    namespace : mapping of str to object
        The caller's variables.

    Returns
    -------
    columns : ndarray, shape (k, sum of sizes)
    squares : ndarray, shape (k, k_vc)
        Sums of squares of the columns that are not in the fit.
    """
    sizes, k = model._vc.sizes, len(table)
    squares = np.zeros((k, len(sizes)))
    if labels is None:
        for j in range(len(sizes)):
            squares[:, j] = component_squares(model, j, table, namespace)
        return np.zeros((k, sum(sizes))), squares
    # unknown groups are numbered after the others
    codes = np.where(codes < 0, model.n_groups + labels.factorize()[0], codes)
    blocks = []
    for j in range(len(sizes)):
        block, squares[:, j] = component_columns(model, j, table, codes, namespace)
        blocks.append(block)
    return np.concatenate(blocks, axis=1), squares


def given_components(
    model: Any, exog_vc: Mapping[str, Any] | None, codes: IntArray, population: bool
) -> tuple[FloatArray, FloatArray]:
    """
    Columns of all variance components of new rows, from arrays.

    Parameters
    ----------
    model : MixedLMAR
    exog_vc : mapping of str to array_like, or None
        Columns of each component, in the order of the row's group.
    codes : ndarray of int, shape (k,)
        Numbers of the groups, -1 for unknown ones.
    population : bool
        Whether nothing is known of any group.

    Returns
    -------
    columns : ndarray, shape (k, sum of sizes)
    squares : ndarray, shape (k, k_vc)

    Raises
    ------
    LengthError
        If a component is missing, or has another shape.
    """
    sizes, k = model._vc.sizes, len(codes)
    columns, squares = np.zeros((k, sum(sizes))), np.zeros((k, len(sizes)))
    unknown = codes < 0
    first = 0
    for j, (name, size) in enumerate(zip(model.exog_vc.names, sizes, strict=True)):
        if exog_vc is None or name not in exog_vc:
            fitted = (model._vc.matrices[j] ** 2).sum(axis=1)
            if not population or float(np.ptp(fitted)) > 0.0:
                raise LengthError(
                    f"exog_vc= needs an array for the variance component {name!r}: "
                    f"{k} rows, up to {size} columns in the order of the row's group"
                )
            squares[:, j] = fitted[0]  # indicators: a row has one, whatever the level
        else:
            block = float_array(exog_vc[name], f"exog_vc[{name!r}]")
            check_lengths(k, exog_vc=block)
            if block.ndim != 2 or block.shape[1] > size:
                raise LengthError(
                    f"exog_vc[{name!r}] has the shape {block.shape}; {k} rows and at "
                    f"most {size} columns are expected"
                )
            squares[unknown, j] = (block[unknown] ** 2).sum(axis=1)
            columns[:, first : first + block.shape[1]] = block
            columns[unknown, first : first + size] = 0.0
        first += size
    return columns, squares


def _check_finite(matrix: FloatArray, names: Sequence[str], index: pd.Index) -> None:
    """Raise on missing and infinite values."""
    bad = ~np.isfinite(matrix)
    if not bad.any():
        return
    rows = bad.any(axis=1)
    row = int(np.argmax(rows))
    raise MissingDataError(
        f"column {names[int(np.argmax(bad[row]))]!r} of the new rows is missing or "
        f"infinite in row {shown(index[row])} ({int(rows.sum())} such rows); remove "
        "them"
    )
