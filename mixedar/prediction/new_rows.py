"""
Rows to predict on the scale of the fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.designs import (
    component_design,
    design_rows,
    given_components,
    population_squares,
)
from mixedar.data.encode import (
    Places,
    check_strata,
    counted_places,
    fitted_places,
    new_places,
)
from mixedar.data.model_data import ModelData
from mixedar.data.residual_model import as_columns
from mixedar.data.rows import as_frame, resolve
from mixedar.engine.residuals import is_correlated, variance_marks, whiten_series
from mixedar.engine.rows import GroupedRows
from mixedar.exceptions import (
    EmptyDataError,
    MixedARError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    shown,
)
from mixedar.fit import Fit
from mixedar.prediction.new_terms import NewTerms


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
        Effects of other factors than the groups, and of smooths.
    smooths : ndarray, shape (k, l), or None
        For predictions of the population: columns of the smooths.
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
    smooths: FloatArray | None = None

    def including(self, fit: Fit, factors: Sequence[str]) -> NewRows:
        """The same rows without the random effects of other factors."""
        out = self
        if self.terms is not None:
            names = [term.factor for term in fit.data.terms]
            out = replace(out, terms=self.terms.including(names, factors))
        if fit.data.groups_name in factors:
            return out
        none = np.zeros_like(self.exog_re)
        unknown = np.full(len(self.codes), -1, dtype=np.intp)
        zero = np.zeros(len(self.codes))
        return replace(out, exog_re=none, codes=unknown, new_effects=zero)

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
        names += ["covariates", "new_effects", "smooths"]
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
        data.row_index,
        np.zeros(n) if data.offset is None else data.offset,
        covariates=np.empty((n, 0)) if known is None else data.grouped.unsort(known),
        new_effects=np.zeros(n),
        grouped=data.grouped,
        sizes=data.components.sizes,
        n_groups=data.n_groups,
        terms=NewTerms.of_data(data.terms) if data.terms else None,
    )


def check_included(fit: Fit, include: Sequence[str] | None, level: str) -> None:
    """
    Raise unless factors can be chosen, and have random effects.

    Raises
    ------
    UnsupportedError
        For another level than ``"group"``.
    UnknownColumnError
        If a factor has no random effects.
    """
    if include is None:
        return
    if level != "group":
        raise UnsupportedError(
            f"include= chooses random effects of level='group', not {level!r}"
        )
    if isinstance(include, str):
        raise UnsupportedError(f"include= takes a list, as in [{include!r}]")
    known = [fit.data.groups_name, *(term.factor for term in fit.data.factor_terms)]
    for name in include:
        if name not in known:
            raise UnknownColumnError(
                f"include= names {shown(name)}, which has no random effects; there are "
                f"{', '.join(map(repr, dict.fromkeys(known)))}"
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
        fit.population.check_no_smooths("exog=")
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
    terms = _new_terms(fit, table, population, unknown)
    labels, codes = None, np.full(k, -1, dtype=np.intp)
    if not population:
        labels, codes = _known_groups(fit, given, table, terms, unknown)
    new_effects = np.zeros(k)
    if fit.k_vc:
        columns, squares = _components(fit, given, table, codes, labels, from_formula)
        z = np.concatenate([z, columns], axis=1)
        new_effects = squares @ fit.vcomp
    offset = encoder.offsets(given.offset, table)
    rows = NewRows(exog, z, codes, table.index, offset, new_effects=new_effects)
    if population:
        rows = replace(rows, smooths=fit.population.columns(table))
    if terms is not None:
        rows = replace(rows, terms=terms.without_levels() if population else terms)
    if timed:
        assert labels is not None
        places = new_places(
            encoder, fit.data, codes, labels, given.time, given.series, table
        )
        rows = replace(rows, places=places)
    return _with_covariates(fit, rows, labels, given, table)


def _new_terms(
    fit: Fit, table: pd.DataFrame, population: bool, unknown: str
) -> NewTerms | None:
    """Further random-effects terms of new rows."""
    if not (fit.layout.terms and fit.has_data):
        return None
    # of a population, the inbreeding of an animal matters, not its place
    unknown = "population" if population else unknown
    return NewTerms.of_table(fit.data.terms, table, unknown, places=not population)


def _known_groups(
    fit: Fit, given: NewData, table: pd.DataFrame, terms: NewTerms | None, unknown: str
) -> tuple[pd.Series, IntArray]:
    """Labels of the groups of new rows, and their numbers, -1 where there are none."""
    if fit.held_data is None:
        raise NotComputedError(
            "the data were removed from this fit; predictions for groups need them"
        )
    fit.data.groups  # noqa: B018  or why there are none
    labels = fit.encoder.group_labels(given.groups, table)
    groups = fit.encoder.groups
    codes = groups.numbers(labels)
    if unknown == "error":
        remedy = "pass unknown='population' to predict it with random effects of "
        remedy += "zero and their variance"
        wanted = np.ones(len(table), dtype=bool)
        if terms is not None:  # whose relation is known, is known
            wanted = ~terms.related(fit.data.terms, (fit.data.groups_name,))
        groups.known_groups(labels[wanted], remedy)
    return labels, codes


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
    if fit.held_data is None:
        raise NotComputedError(
            "the data were removed from this fit; pass newdata= to predict"
        )
    rows = fitted_rows(fit.data)
    if population:
        terms = None if rows.terms is None else rows.terms.without_levels()
        codes = np.full(len(rows.codes), -1, dtype=np.intp)
        smooths = fit.data.smooth_design
        rows = replace(rows, codes=codes, terms=terms, smooths=smooths)
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


@dataclass(frozen=True)
class ObservedRows:
    """
    Rows of g groups, sorted by group, series and time.

    Attributes
    ----------
    exog : ndarray, shape (n, p)
    exog_re : ndarray, shape (n, q)
        Columns of all random effects.
    endog : ndarray, shape (n,)
        Less the offset, if there is one, and predicted effects of other factors.
    grouped : GroupedRows
        Rows of each group, gaps in time, and what the residual structure reads.
    rows : ndarray of int, shape (n,)
        Positions of these rows in the model.
    """

    exog: FloatArray
    exog_re: FloatArray
    endog: FloatArray
    grouped: GroupedRows
    rows: IntArray

    def cross_products(self, fit: Fit, exog: FloatArray) -> FloatArray:
        """``Z'R^-1 X`` of each group for columns `exog`, shape (q, p, g)."""
        columns = np.column_stack([self.exog_re, exog])
        white = np.ascontiguousarray(
            whiten_series(columns, self.grouped, fit.structure, fit.u).T
        )
        q, starts = self.exog_re.shape[1], self.grouped.offsets[:-1]
        out = np.empty((q, len(white) - q, len(starts)))
        for a, z in enumerate(white[:q]):
            for b, x in enumerate(white[q:]):
                out[a, b] = np.add.reduceat(z * x, starts)
        return out


def observed_rows(fit: Fit, groups: IntArray) -> ObservedRows:
    """The rows of some groups, whose numbers increase."""
    data, whole = fit.data, fit.data.grouped
    sizes = whole.sizes[groups]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
    shift = np.repeat(whole.offsets[groups] - offsets[:-1], sizes)
    rows = np.arange(offsets[-1]) + shift
    grouped = whole.part(rows, offsets)
    if whole.order is not None:
        rows = whole.order[rows]
    z = data.random_design[rows]
    endog = data.response[rows] - (fit.fitted_terms - fit.fitted_fixed)[rows]
    return ObservedRows(data.exog[rows], z, endog, grouped, rows)
