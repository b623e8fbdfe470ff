"""
Rows to predict on the scale of the fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import BoolArray, FloatArray, IntArray
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
from mixedar.data.random_terms import RandomTerm
from mixedar.data.residual_model import as_columns
from mixedar.data.rows import as_frame, resolve
from mixedar.engine.residuals import is_correlated, variance_marks
from mixedar.engine.rows import GroupedRows
from mixedar.engine.terms import TermEffects, TermPosterior
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
    MixedARError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    shown,
)
from mixedar.fit import Fit
from mixedar.prediction.related import (
    extended_effects,
    extended_posterior,
    levels_anew,
    levels_of_table,
)
from mixedar.relations.base import LevelCovariance, with_parameters


@dataclass(frozen=True)
class NewTerms:
    """
    Further random-effects terms of k new rows.

    Attributes
    ----------
    codes : ndarray of int, shape (k, terms)
        Levels; -1 for those that are not in the fit, or not wanted.
    designs : tuple of ndarray
        Columns of each term's effects.
    shared : ndarray of bool, shape (terms,)
        Which are smooths of all rows: part of every prediction.
    levels : ndarray of int, shape (k, terms)
        The same as `codes`, whether effects are wanted or not.
    between : tuple of LevelCovariance or None
        How the levels of each term are related, those that are not in the fit behind
        those that are.
    """

    codes: IntArray
    designs: tuple[FloatArray, ...]
    shared: BoolArray
    levels: IntArray
    between: tuple[LevelCovariance | None, ...]

    @classmethod
    def of_table(
        cls,
        terms: Sequence[RandomTerm],
        table: pd.DataFrame,
        unknown: str,
        *,
        places: bool = True,
    ) -> NewTerms:
        """
        Those of new rows; without `places` new levels are not related to others.

        Raises
        ------
        GroupError
            If a level is not in the fit and `unknown` is ``"error"``.
        """
        codes = np.empty((len(table), len(terms)), dtype=np.intp)
        between = list(_related(terms))
        for t, term in enumerate(terms):
            codes[:, t] = term.numbers(table)
            relation = term.relation
            if relation is not None and (places or not relation.columns):
                found = levels_of_table(term, table, codes[:, t])
                codes[:, t], between[t] = found.codes, found.between
        designs = tuple(term.spec.complete_matrix(table) for term in terms)
        out = cls(codes, designs, _shared(terms), codes, tuple(between))
        for t, term in enumerate(terms):
            # whose relation is known, is known
            known = out.related(terms, term.columns)
            lost = np.flatnonzero((codes[:, t] < 0) & ~known)
            if unknown == "error" and len(lost):
                label = tuple(table.iloc[lost[0]][list(term.columns)])
                label = label[0] if len(label) == 1 else label
                related = "" if between[t] is None else f", nor in {term.relation!r}"
                raise GroupError(
                    f"level {shown(label)} of {term.factor!r} in row "
                    f"{shown(table.index[lost[0]])} is not in the fit{related}; pass "
                    "unknown='population' to predict it with random effects of zero "
                    "and their variance"
                )
        return out

    @classmethod
    def of_data(cls, terms: Sequence[RandomTerm]) -> NewTerms:
        """Those of the model's own rows."""
        codes = np.stack([term.codes for term in terms], axis=1)
        designs = tuple(term.design for term in terms)
        return cls(codes, designs, _shared(terms), codes, _related(terms))

    @classmethod
    def of_new_levels(
        cls, terms: Sequence[RandomTerm], table: pd.DataFrame
    ) -> NewTerms:
        """Those of new rows whose effects are drawn anew, whatever their levels."""
        found = cls.of_table(terms, table, "population", places=False)
        codes, between = found.codes.copy(), list(found.between)
        for t, term in enumerate(terms):
            if between[t] is not None:
                anew = levels_anew(term, table)
                codes[:, t], between[t] = anew.codes, anew.between
            elif not term.shared:
                codes[:, t] = table.groupby(list(term.columns)).ngroup()
        return replace(found, codes=codes, levels=codes, between=tuple(between))

    @property
    def _n_levels(self) -> list[int]:
        """Levels of each term whose effects are drawn; none of a smooth."""
        levels = self.codes.max(axis=0, initial=-1) + 1
        related = [0 if one is None else one.n_levels for one in self.between]
        levels = np.maximum(levels, related)
        return [int(n) for n in np.where(self.shared, 0, levels)]

    @property
    def n_effects(self) -> int:
        """Number of effects of all levels that are drawn."""
        return sum(
            n * design.shape[1]
            for n, design in zip(self._n_levels, self.designs, strict=True)
        )

    def add(
        self,
        out: FloatArray,
        draws: FloatArray,
        roots: Sequence[FloatArray],
        relation_params: Sequence[FloatArray],
    ) -> None:
        """
        Add drawn effects to responses.

        Parameters
        ----------
        out : ndarray, shape (k, sets)
        draws : ndarray, shape (sets, n_effects)
            Standard normal.
        roots : sequence of ndarray
            Of the covariances of each term's effects.
        relation_params : sequence of ndarray
            Unconstrained parameters of what relates the levels of each term.
        """
        first = 0
        for t, (levels, design, root) in enumerate(
            zip(self._n_levels, self.designs, roots, strict=True)
        ):
            if not levels:
                continue
            codes, order = self.codes[:, t], design.shape[1]
            own = draws[:, first : first + levels * order]
            effects = own.reshape(len(draws), levels, order) @ root.T
            between = self.between[t]
            if between is not None:
                wide = between.root(relation_params[t])
                effects = np.einsum("lm,sma->sla", wide, effects, optimize=True)
            out += np.einsum("na,sna->ns", design, effects[:, codes])
            first += levels * order

    def take(self, rows: IntArray) -> NewTerms:
        """Some of the rows."""
        designs = tuple(design[rows] for design in self.designs)
        codes, levels = self.codes[rows], self.levels[rows]
        return replace(self, codes=codes, designs=designs, levels=levels)

    def including(self, names: Sequence[str], factors: Sequence[str]) -> NewTerms:
        """The same rows without the effects of factors that are not among some."""
        codes, designs = self.codes.copy(), list(self.designs)
        for t, name in enumerate(names):
            if name not in factors and not self.shared[t]:
                codes[:, t] = -1
                designs[t] = np.zeros_like(designs[t])
        return replace(self, codes=codes, designs=tuple(designs))

    def without_levels(self) -> NewTerms:
        """The same rows, of no known level; smooths stay."""
        return replace(self, codes=np.where(self.shared, self.codes, -1))

    def related(
        self, terms: Sequence[RandomTerm], columns: tuple[str, ...]
    ) -> BoolArray:
        """Rows whose level of some columns is one that a relation knows, (k,)."""
        known = np.zeros(len(self.codes), dtype=bool)
        for term, codes, between in zip(
            terms, self.levels.T, self.between, strict=True
        ):
            if between is not None and term.columns == columns:
                known |= codes >= 0
        return known

    def effects(self, fit: Fit) -> list[TermEffects]:
        """Predicted effects of all levels of each term."""
        return self.effects_at(fit, fit.term_effects, fit.unconstrained)

    def effects_at(
        self, fit: Fit, effects: Sequence[TermEffects], u: FloatArray
    ) -> list[TermEffects]:
        """The same at parameters where those of the fit's levels are `effects`."""
        return extended_effects(self.between, effects, u[fit.structure.k_free :])

    def posterior(self, fit: Fit) -> TermPosterior:
        """Joint distribution of the effects of all levels given the data."""
        return extended_posterior(fit, self.between)

    def mean(self, effects: Sequence[TermEffects]) -> FloatArray:
        """What the effects of the known levels add to the mean, shape (k,)."""
        out = np.zeros(len(self.codes))
        for codes, design, found in zip(
            self.codes.T, self.designs, effects, strict=True
        ):
            known = codes >= 0
            out[known] += (design[known] * found.means[codes[known]]).sum(axis=1)
        return out

    def prior_variance(self, fit: Fit) -> FloatArray:
        """Variance of the effects of the other levels, shape (k,)."""
        out = np.zeros(len(self.codes))
        u = fit.unconstrained[fit.structure.k_free :]
        related = with_parameters(self.between, u)
        for t, (codes, design, cov, (between, params)) in enumerate(
            zip(self.codes.T, self.designs, fit.term_covs, related, strict=True)
        ):
            if (codes >= 0).all():
                continue
            own = np.einsum("na,ab,nb->n", design, cov, design)
            if between is not None:
                sizes, level = between.diagonal(params), self.levels[:, t]
                own *= np.where(level >= 0, sizes[level], sizes.mean())
            out += np.where(codes < 0, own, 0.0)
        return out


def _related(terms: Sequence[RandomTerm]) -> tuple[LevelCovariance | None, ...]:
    """How the levels of each term are related."""
    return tuple(None if term.relation is None else term.between for term in terms)


def _shared(terms: Sequence[RandomTerm]) -> BoolArray:
    """Which terms are smooths of all rows."""
    return np.array([term.shared for term in terms], dtype=bool)


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
        pd.RangeIndex(n) if data.index is None else data.index,
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
    terms = None
    if fit.layout.terms and fit.has_data:
        # of a population, the inbreeding of an animal matters, not its place
        terms = NewTerms.of_table(
            fit.data.terms,
            table,
            "population" if population else unknown,
            places=not population,
        )
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
            wanted = np.ones(k, dtype=bool)
            if terms is not None:
                wanted = ~terms.related(fit.data.terms, (fit.data.groups_name,))
            codes = encoder.groups.numbers(labels)
            codes[wanted] = encoder.groups.known_groups(labels[wanted], remedy)
        else:
            codes = encoder.groups.numbers(labels)
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
