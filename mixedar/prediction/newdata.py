"""
From a DataFrame, or arrays, to the rows of a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.design.columns import as_frame
from mixedar.exceptions import (
    EmptyDataError,
    MixedARError,
    NotComputedError,
    UnsupportedError,
)
from mixedar.prediction.correlations import is_correlated, variance_marks
from mixedar.prediction.designs import (
    component_design,
    fixed_design,
    given_components,
    matrix_rows,
    random_design,
)
from mixedar.prediction.labels import group_labels, group_numbers
from mixedar.prediction.marks import (
    MarkColumns,
    new_marks,
    with_columns,
)
from mixedar.prediction.request import Places, Request
from mixedar.prediction.strata import check_strata
from mixedar.prediction.where import count_places, fitted_places, new_places

__all__ = ["NewData", "read_request"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_HINT = ", or pass it in residual_data="


@dataclass(frozen=True)
class NewData:
    """
    What the caller passed, as in ``get_prediction``.

    Attributes
    ----------
    newdata : DataFrame or None
    exog, exog_re, exog_vc : array_like or None
    groups, time, series : str, array_like or None
    residual_data : DataFrame, mapping of str to array_like, or None
    namespace : mapping of str to object
        The caller's variables.
    """

    newdata: Any = None
    exog: Any = None
    exog_re: Any = None
    exog_vc: Mapping[str, Any] | None = None
    groups: Any = None
    time: Any = None
    series: Any = None
    residual_data: Any = None
    namespace: Mapping[str, Any] = field(default_factory=dict)

    def only_own_rows(self) -> bool:
        """Whether no new rows were passed."""
        if self.newdata is not None and self.exog is not None:
            raise UnsupportedError("pass newdata= or exog=, not both")
        if self.newdata is not None or self.exog is not None:
            return False
        others = self.exog_re, self.exog_vc, self.groups, self.time, self.series
        if any(value is not None for value in (*others, self.residual_data)):
            raise UnsupportedError(
                "exog_re=, exog_vc=, groups=, time=, series= and residual_data= "
                "describe new rows; pass newdata= or exog= with them"
            )
        return True


def read_request(fit: Any, given: NewData, level: str, unknown: str) -> Request:
    """
    Check the rows asked for and bring them on the scale of the fit.

    Parameters
    ----------
    fit : MixedLMARResults
    given : NewData
    level : {"population", "group", "forecast"}
    unknown : {"error", "population"}

    Returns
    -------
    Request

    Raises
    ------
    MixedARError
        If columns, values or groups are missing or unknown.
    """
    population = level == "population"
    timed = level == "forecast" and is_correlated(fit.structure)
    if given.only_own_rows():
        return _own_rows(fit, population, timed)
    model = fit.model
    spec = getattr(model, "formula_spec", None)
    from_formula = given.exog is None and spec is not None
    if from_formula:
        table = as_frame(given.newdata)
    else:
        exog, index = matrix_rows(
            given.newdata if given.exog is None else given.exog, fit.k_fe
        )
        table = pd.DataFrame(index=index)
    k = len(table)
    if k == 0:
        raise EmptyDataError("the new data have no rows: there is nothing to predict")
    if from_formula:
        exog = fixed_design(spec, table)
    z = random_design(fit, given.exog_re, table, from_formula)
    labels, codes = None, np.full(k, -1, dtype=np.intp)
    if not population:
        labels = group_labels(model, given.groups, table)
        codes = group_numbers(model, labels, unknown)
    new_effects = np.zeros(k)
    if fit.k_vc:
        if from_formula:
            columns, squares = component_design(
                model, table, codes, labels, given.namespace
            )
        else:
            columns, squares = given_components(model, given.exog_vc, codes, population)
        z = np.concatenate([z, columns], axis=1)
        new_effects = squares @ np.asarray(fit.vcomp)
    places = None
    if timed:
        assert labels is not None
        places = new_places(model, codes, labels, given.time, given.series, table)
    request = Request(exog, z, new_effects, codes, places, table.index, None)
    return _with_marks(model, request, labels, given, table)


def _with_marks(
    model: Any,
    request: Request,
    labels: pd.Series | None,
    given: NewData,
    table: pd.DataFrame,
) -> Request:
    """Add what the residual structure reads of the rows."""
    marks, places = model.residual.marks, request.places
    columns = with_columns(table, given.residual_data)
    if not marks:
        return replace(request, marks=np.empty((len(table), 0)))
    # without residuals of others, only the variance of an observation needs them
    needed = variance_marks(model.residual) if places is None else slice(len(marks))

    def place() -> FloatArray:
        return count_places(
            model, request.codes, labels, given.time, given.series, table
        )

    try:
        found = new_marks(model, needed, MarkColumns(columns, given.time, place, _HINT))
    except MixedARError as error:
        if places is not None:
            raise
        return replace(request, lacking=error)
    if places is not None:
        check_strata(model, found, places.series, places.fitted_series, table)
    return replace(request, marks=found)


def _own_rows(fit: Any, population: bool, timed: bool) -> Request:
    """The rows of the fit itself."""
    model = fit.model
    if model.exog is None:
        raise NotComputedError(
            "the data were removed from this fit; pass newdata= to predict"
        )
    n = len(model.exog)
    index, marks = model.data.row_labels, model._grouped.marks
    places = None
    if timed:
        series, time = fitted_places(model)
        places = Places(series, time, series, time)
    return Request(
        model.exog,
        model._random_design(),
        np.zeros(n),
        np.full(n, -1, dtype=np.intp) if population else model._codes,
        places,
        pd.RangeIndex(n) if index is None else index,
        np.empty((n, 0)) if marks is None else model._grouped.unsort(marks),
    )
