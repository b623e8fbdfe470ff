"""
Rows for which responses are drawn, on the scale of the fit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.data.checks import group_codes
from mixedar.data.designs import component_design, new_component
from mixedar.data.model_data import ModelData
from mixedar.data.other_rows import sorted_rows
from mixedar.data.rows import as_frame
from mixedar.engine.residuals import relative_sd
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
    UnsupportedError,
    shown,
)
from mixedar.fit import Fit
from mixedar.prediction.new_rows import NewRows
from mixedar.prediction.new_terms import NewTerms


def _check_levels(data: ModelData, table: pd.DataFrame, squares: FloatArray) -> None:
    """Raise if a row has a level of a component that its group did not have."""
    if squares.any():
        row, j = np.argwhere(squares > 0.0)[0]
        raise UnsupportedError(
            f"row {shown(table.index[row])} of newdata has a level of "
            f"{data.component_names[j]!r} that its group did not have in the fit; use "
            "groups='new' to draw its effect"
        )


def rows_to_simulate(fit: Fit, newdata: object, known: bool) -> NewRows:
    """
    Rows of new data, for which responses are drawn.

    Parameters
    ----------
    fit : Fit
        Of a model from formulas.
    newdata : DataFrame
    known : bool
        Whether the groups have to be those of the fit.

    Returns
    -------
    NewRows
        Groups are numbered as in the fit if they have to be known.

    Raises
    ------
    MixedARError
        If columns or values are missing, or do not suit the fit.
    """
    data, encoder = fit.data, fit.encoder
    if encoder.formula_spec is None:
        raise UnsupportedError(
            "newdata= needs a model from formulas; with arrays, put the rows into the "
            "model, or use get_distribution(exog)"
        )
    table = as_frame(newdata)
    if len(table) == 0:
        raise EmptyDataError("newdata has no rows: there is nothing to simulate")
    exog = encoder.formula_spec.complete_matrix(table)
    z = encoder.random_design(None, table, True)
    _check_named(fit, table)
    offset = encoder.offsets(None, table)
    labels = encoder.group_labels(None, table)
    codes, distinct = group_codes(labels)
    n_groups = len(distinct)
    grouped = sorted_rows(data, encoder, table, codes, n_groups)
    if data.component_names and data.component_parts is None:
        raise UnsupportedError(
            f"variance component {data.component_names[0]!r} does not come from a "
            "formula; use vc_formula= to simulate newdata"
        )
    sizes = data.components.sizes
    if known:
        remedy = "use groups='new' to draw the random effects of other groups"
        codes = encoder.groups.known_groups(labels, remedy)
        n_groups = data.n_groups
    if known and sizes:
        columns, squares = component_design(data, table, codes, labels)
        _check_levels(data, table, squares)
        parts = [columns]
    else:
        parts = [
            new_component(data, name, table, codes).padded()
            for name in data.component_names
        ]
        sizes = tuple(part.shape[1] for part in parts)
    z = np.concatenate([z, *parts], axis=1)
    if grouped.marks is not None:
        # variances may depend on the fitted values
        fitted = exog @ fit.fe_params + offset
        fitted = fitted + fit.population.columns(table) @ fit.population.smooths
        if known:
            fitted = fitted + np.einsum("ij,ij->i", z, fit.effects.means[codes])
        covariates = encoder.with_fitted(grouped.unsort(grouped.marks), fitted)
        relative_sd(
            fit.structure, covariates, fit.residual_params
        )  # or say what is wrong
        grouped = replace(grouped, marks=grouped.sort(covariates))
    terms = None
    if data.terms and known:
        terms = NewTerms.of_table(data.terms, table, "error")
    elif data.terms:
        terms = NewTerms.of_new_levels(data.terms, table)
    rows = NewRows(exog, z, codes, table.index, offset, grouped=grouped, terms=terms)
    return replace(rows, sizes=sizes, n_groups=n_groups)


def _check_named(fit: Fit, table: pd.DataFrame) -> None:
    """Raise unless groups, time and series of the fit are columns."""
    columns, structure = fit.encoder.columns, fit.structure
    reads_time = structure.uses_time and structure.needs_distinct_times
    reads_time |= any(mark.column is None for mark in structure.marks)
    unnamed = {
        "groups": columns["groups"] == "Group" and "Group" not in table,
        "time": fit.encoder.has_time and reads_time and columns["time"] is None,
        "series": fit.encoder.has_series and columns["series"] is None,
    }
    for role, example in (("groups", "id"), ("time", "week"), ("series", "arm")):
        if unnamed[role]:
            kind = GroupError if role == "groups" else UnsupportedError
            raise kind(
                f"the model's {role} is not a column of the data; name the column when "
                f"fitting, as in {role}={example!r}, to simulate newdata"
            )
