"""
Rows to predict, or to draw responses for, on the scale of the fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import group_codes
from mixedar.data.designs import (
    component_design,
    design_rows,
    given_components,
    new_component,
    population_squares,
)
from mixedar.data.encode import (
    Places,
    check_steps,
    check_strata,
    combined_numbers,
    counted_places,
    fitted_places,
    new_places,
)
from mixedar.data.model_data import ModelData
from mixedar.data.new_times import times_together
from mixedar.data.residual_model import as_columns, change_of_stratum
from mixedar.data.rows import as_frame, count_within, resolve
from mixedar.engine.residuals import is_correlated, relative_sd, variance_marks
from mixedar.engine.rows import GroupedRows, group_rows
from mixedar.exceptions import (
    DuplicateTimeError,
    EmptyDataError,
    GroupError,
    MixedARError,
    NotComputedError,
    StructureError,
    UnsupportedError,
    shown,
)
from mixedar.fit import Fit
from mixedar.prediction.terms import NewTerms


@dataclass(frozen=True)
class NewRows:
    """
    Rows of a fit or others, in the caller's order.

    Attributes
    ----------
    exog : ndarray, shape (k, p)
    exog_re : ndarray, shape (k, q)
        Columns of all random effects of the row's group, components included.
    codes : ndarray of int, shape (k,)
        Numbers of the groups; -1 for those that are not in the fit.
    index : Index
        Labels of the rows.
    offset : ndarray, shape (k,)
        Part of the mean whose coefficient is one; zero without one.
    covariates : ndarray, shape (k, c), or None
        What the residual structure reads of the rows beside the time, NaN for
        fitted values and what is not needed.  None if it is not known, which
        forecasts do not allow.
    reason_missing : MixedARError or None
        Why these covariates are not known.
    new_effects : ndarray, shape (k,), or None
        For predictions: variance of the effects that the fit knows nothing of
        (levels of variance components that the group did not have).
    places : Places or None
        For forecasts: series and times.
    grouped : GroupedRows or None
        For simulations: the rows as the residual structure sees them.
    sizes : tuple of int
        For simulations: columns of each variance component.
    n_groups : int
    terms : NewTerms or None
        Effects of other factors than the groups.
    """

    exog: FloatArray
    exog_re: FloatArray
    codes: IntArray
    index: pd.Index
    offset: FloatArray
    covariates: FloatArray | None = None
    reason_missing: MixedARError | None = None
    new_effects: FloatArray | None = None
    places: Places | None = None
    grouped: GroupedRows | None = None
    sizes: tuple[int, ...] = ()
    n_groups: int = 0
    terms: NewTerms | None = None

    def split(self) -> tuple[IntArray, IntArray]:
        """Rows of known groups, group by group, and those of unknown ones."""
        known = np.flatnonzero(self.codes >= 0)
        codes = self.codes[known]
        if not (np.diff(codes) >= 0).all():
            known = known[np.argsort(codes, kind="stable")]
        return known, np.flatnonzero(self.codes < 0)

    def take(self, rows: IntArray) -> NewRows:
        """Some of the rows to predict."""
        if len(rows) == len(self.codes) and (np.diff(rows) == 1).all():
            return self
        places = self.places
        if places is not None:
            places = replace(places, series=places.series[rows], time=places.time[rows])
        names = ["exog", "exog_re", "codes", "index", "offset"]
        names += ["covariates", "new_effects"]
        values = {name: getattr(self, name) for name in names}
        taken: dict[str, Any] = {
            name: None if v is None else v[rows] for name, v in values.items()
        }
        terms = None if self.terms is None else self.terms.take(rows)
        return replace(self, places=places, terms=terms, **taken)


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
    offset : str, array_like or None
    """

    newdata: Any = None
    exog: Any = None
    exog_re: Any = None
    exog_vc: Mapping[str, Any] | None = None
    groups: Any = None
    time: Any = None
    series: Any = None
    residual_data: Any = None
    offset: Any = None

    def only_own_rows(self) -> bool:
        """Whether no new rows were passed."""
        if self.newdata is not None and self.exog is not None:
            raise UnsupportedError("pass newdata= or exog=, not both")
        if self.newdata is not None or self.exog is not None:
            return False
        others = [self.exog_re, self.exog_vc, self.groups, self.time, self.series]
        others += [self.residual_data, self.offset]
        if any(value is not None for value in others):
            raise UnsupportedError(
                "exog_re=, exog_vc=, groups=, time=, series=, residual_data= and "
                "offset= describe new rows; pass newdata= or exog= with them"
            )
        return True


def fitted_rows(data: ModelData) -> NewRows:
    """The rows of the data themselves."""
    known, n = data.grouped.marks, data.nobs
    return NewRows(
        data.exog,
        data.random_design,
        data.codes,
        pd.RangeIndex(n) if data.index is None else data.index,
        np.zeros(n) if data.offset is None else data.offset,
        covariates=np.empty((n, 0)) if known is None else data.grouped.unsort(known),
        new_effects=np.zeros(n),
        grouped=data.grouped,
        sizes=data.components.sizes,
        n_groups=data.n_groups,
        terms=NewTerms.of_data(data.terms) if data.terms else None,
    )


def rows_to_predict(fit: Fit, given: NewData, level: str, unknown: str) -> NewRows:
    """
    Check the rows asked for and bring them on the scale of the fit.

    Parameters
    ----------
    fit : Fit
    given : NewData
    level : {"population", "group", "forecast"}
    unknown : {"error", "population"}

    Returns
    -------
    NewRows

    Raises
    ------
    MixedARError
        If columns, values or groups are missing or unknown.
    """
    population = level == "population"
    timed = level == "forecast" and is_correlated(fit.structure)
    if given.only_own_rows():
        return _own_rows(fit, population, timed)
    encoder, spec = fit.encoder, fit.encoder.formula_spec
    from_formula = given.exog is None and spec is not None
    if from_formula:
        table = as_frame(given.newdata)
    else:
        design = given.newdata if given.exog is None else given.exog
        others = given.groups, given.time, given.series, given.offset, given.exog_re
        exog, table = design_rows(design, fit.exog_names, *others)
    k = len(table)
    if k == 0:
        raise EmptyDataError("the new data have no rows: there is nothing to predict")
    if from_formula:
        assert spec is not None
        exog = spec.complete_matrix(table)
    z = encoder.random_design(given.exog_re, table, from_formula)
    labels, codes = None, np.full(k, -1, dtype=np.intp)
    if not population:
        if not fit.has_data:
            raise NotComputedError(
                "the data were removed from this fit; predictions for groups need them"
            )
        labels = encoder.group_labels(given.groups, table)
        if unknown == "error":
            remedy = "pass unknown='population' to predict it with random effects of "
            remedy += "zero and their variance"
            codes = encoder.groups.known_groups(labels, remedy)
        else:
            codes = encoder.groups.numbers(labels)
    new_effects = np.zeros(k)
    if fit.k_vc:
        columns, squares = _components(fit, given, table, codes, labels, from_formula)
        z = np.concatenate([z, columns], axis=1)
        new_effects = squares @ fit.vcomp
    offset = encoder.offsets(given.offset, table)
    rows = NewRows(exog, z, codes, table.index, offset, new_effects=new_effects)
    if fit.layout.terms and fit.has_data:
        terms = NewTerms.of_table(
            fit.data.terms, table, "population" if population else unknown
        )
        terms = terms.without_levels() if population else terms
        rows = replace(rows, terms=terms)
    if timed:
        assert labels is not None
        places = new_places(
            encoder, fit.data, codes, labels, given.time, given.series, table
        )
        rows = replace(rows, places=places)
    return _with_covariates(fit, rows, labels, given, table)


def _components(
    fit: Fit,
    given: NewData,
    table: pd.DataFrame,
    codes: IntArray,
    labels: pd.Series | None,
    from_formula: bool,
) -> tuple[FloatArray, FloatArray]:
    """Columns of the variance components, and sums of squares of unknown ones."""
    if not from_formula:
        return given_components(
            fit.data, given.exog_vc, codes, table.index, labels is not None
        )
    if labels is not None:
        return component_design(fit.data, table, codes, labels)
    indicators = fit.encoder.indicators
    none = np.zeros((len(table), fit.factor.shape[0] - fit.k_re))
    if all(indicators):
        return none, np.ones((len(table), len(indicators)))
    return none, population_squares(fit.data, table)


def _own_rows(fit: Fit, population: bool, timed: bool) -> NewRows:
    """The rows of the fit itself."""
    if not fit.has_data:
        raise NotComputedError(
            "the data were removed from this fit; pass newdata= to predict"
        )
    rows = fitted_rows(fit.data)
    if population:
        terms = None if rows.terms is None else rows.terms.without_levels()
        codes = np.full(len(rows.codes), -1, dtype=np.intp)
        rows = replace(rows, codes=codes, terms=terms)
    if timed:
        places = fitted_places(fit.data)
        rows = replace(rows, places=Places(*places, *places))
    return rows


def _with_covariates(
    fit: Fit,
    rows: NewRows,
    labels: pd.Series | None,
    given: NewData,
    table: pd.DataFrame,
) -> NewRows:
    """Add what the residual structure reads of the rows."""
    encoder, places = fit.encoder, rows.places
    columns = table
    if given.residual_data is not None:
        columns = table.copy(deep=False)
        for name, values in as_columns(given.residual_data).items():
            role = f"residual_data[{name!r}]"
            columns[name] = resolve(role, values, table).values
    read = encoder.structure.marks
    if not read:
        return replace(rows, covariates=np.empty((len(table), 0)))
    # without residuals of others, only the variance of an observation needs them
    needed = slice(len(read)) if places else variance_marks(encoder.structure)

    def place() -> FloatArray:
        return counted_places(
            encoder, fit.data, rows.codes, labels, given.time, given.series, table
        )

    hint = ", or pass it in residual_data="
    try:
        found = encoder.row_covariates(columns, needed, given.time, place, hint)
    except MixedARError as error:
        if places is not None:
            raise
        return replace(rows, reason_missing=error)
    if places is not None:
        check_strata(fit.data, found, places, table.index)
    return replace(rows, covariates=found)


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
    grouped, n_groups = _sorted(fit, table, codes, len(distinct)), len(distinct)
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
        if squares.any():
            row, j = np.argwhere(squares > 0.0)[0]
            raise UnsupportedError(
                f"row {shown(table.index[row])} of newdata has a level of "
                f"{data.component_names[j]!r} that its group did not have in the fit; "
                "use groups='new' to draw its effect"
            )
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


def _sorted(
    fit: Fit, table: pd.DataFrame, codes: IntArray, n_groups: int
) -> GroupedRows:
    """New rows as the residual structure sees them."""
    data, encoder, structure = fit.data, fit.encoder, fit.structure
    times, series, inside = None, codes, None
    labels = encoder.series_labels(None, table)
    if labels is not None:
        inside = np.asarray(labels.factorize()[0], dtype=np.intp)
        series = combined_numbers(codes, labels)
    timed = structure.uses_time and structure.needs_distinct_times
    if timed and encoder.has_time:
        column = encoder.time_column(None, table)
        name = str(encoder.columns["time"])
        times = times_together(data.time, column, data.residual, name)[1]
        times = times / data.time_step
    covariates = None
    if structure.marks:
        covariates = encoder.row_covariates(
            table, slice(None), None, lambda: count_within(series)
        )
        levels = [m.kind == "level" and m.column is None for m in structure.marks]
        if any(levels) and not structure.uses_time:
            times = covariates[:, levels.index(True)]  # occasions stand for the time
    grouped = group_rows(codes, times, inside, n_groups)
    if timed and encoder.has_time and structure.integer_time:
        check_steps(data, grouped.unsort(np.nan_to_num(grouped.gaps)), column)
    if not structure.needs_distinct_times:
        grouped = replace(grouped, gaps=np.zeros(len(codes)))
    twins = grouped.duplicate()
    if twins is not None:
        one, other = (shown(table.index[k]) for k in twins)
        raise DuplicateTimeError(
            f"rows {one} and {other} of newdata have the same group and time; "
            f"{structure.label} needs one observation for each time"
        )
    if covariates is None:
        return grouped
    grouped = replace(grouped, marks=grouped.sort(covariates))
    change = change_of_stratum(structure, grouped)
    if change is not None:
        k, i = change
        row = i if grouped.order is None else int(grouped.order[i])
        raise StructureError(
            f"{structure.marks[k].column!r} changes within a series at row "
            f"{shown(table.index[row])} of the new rows; correlations by stratum need "
            "strata that are constant within a series"
        )
    return grouped
