"""
Further random-effects terms of new rows.

Effects of levels that were not observed may be related to those of levels that were.

With the effects ``u`` of the levels of the fit and ``u0`` of others,
``Var(vec(u, u0)) = sigma2 (K kron Psi)``,

    u0 = B u + e,   B = K_0u K_uu^-1,   Var(e) = sigma2 (K_00 - B K_u0) kron Psi,

with ``e`` independent of the data: simple kriging, and the breeding value of an animal
without records (Cressie, N., 1993, Statistics for Spatial Data, section 3.4.5;
Henderson, C. R., 1977, Best linear unbiased prediction of breeding values not in the
model for records, Journal of Dairy Science 60, 783-787).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.data.checks import check_finite, float_array
from mixedar.data.random_terms import RandomTerm
from mixedar.data.rows import table_column
from mixedar.engine.terms import TermEffects, TermPosterior
from mixedar.exceptions import GroupError, StructureError, UnknownColumnError, shown
from mixedar.fit import Fit
from mixedar.relations.base import LevelCovariance, with_parameters

# An eigenvalue of a covariance, relative to the largest, that is zero.
_ZERO = 1e-12


@dataclass(frozen=True)
class RelatedLevels:
    """
    Levels of the rows of a table, of a term whose levels are related.

    Attributes
    ----------
    codes : ndarray of int, shape (k,)
        Those of the fit first, then the new ones; -1 for what the relation does not
        know.
    between : LevelCovariance
        Between all of these.
    """

    codes: IntArray
    between: LevelCovariance


def levels_of_table(
    term: RandomTerm, table: pd.DataFrame, fitted: IntArray
) -> RelatedLevels:
    """
    Levels of new rows, whether they are in the fit or not.

    Parameters
    ----------
    term : RandomTerm
        With a relation.
    table : DataFrame
    fitted : ndarray of int, shape (k,)
        Levels of the fit; -1 for others.

    Returns
    -------
    RelatedLevels
    """
    relation, between = term.relation, term.between
    assert relation is not None
    assert between is not None
    new = np.flatnonzero(fitted < 0)
    column = _labels(term, table)
    found = relation.knows(pd.Index(column.iloc[new]))
    new = new[found]
    if relation.columns and len(table):
        _check_unmoved(term, table, fitted)
    if not len(new):
        return RelatedLevels(fitted, between)
    own, labels = column.iloc[new].factorize()
    codes = fitted.copy()
    codes[new] = len(term.levels) + own
    places = None
    if relation.columns:
        assert term.places is not None
        own_places = places_of(term, table.iloc[new], np.asarray(own, dtype=np.intp))
        places = np.concatenate([term.places, own_places])
    every = pd.Index([*term.levels.tolist(), *labels.tolist()], tupleize_cols=False)
    return RelatedLevels(codes, relation.bind(every, term.factor, places, between))


def levels_anew(term: RandomTerm, table: pd.DataFrame) -> RelatedLevels:
    """Levels of new rows by themselves, whatever there was in the fit."""
    relation = term.relation
    assert relation is not None
    codes, labels = _labels(term, table).factorize()
    codes = np.asarray(codes, dtype=np.intp)
    places = places_of(term, table, codes) if relation.columns else None
    index = pd.Index(labels.tolist(), tupleize_cols=False)
    return RelatedLevels(codes, relation.bind(index, term.factor, places, term.between))


def _labels(term: RandomTerm, table: pd.DataFrame) -> pd.Series:
    each = term.level_columns(table)
    if len(each) == 1:
        return each[0]
    pairs = list(zip(*each, strict=True))
    return pd.Series(pairs, index=table.index, dtype=object)


def places_of(term: RandomTerm, table: pd.DataFrame, codes: IntArray) -> FloatArray:
    """Coordinates of levels 0, 1, ..., which each row of a table has one of."""
    relation = term.relation
    assert relation is not None
    first = np.unique(codes, return_index=True)[1]
    out = np.empty((len(first), len(relation.columns)))
    for k, name in enumerate(relation.columns):
        if name not in table:
            raise UnknownColumnError(
                f"the new data have no column {name!r}: {relation!r} reads the "
                f"coordinates of the new levels of {term.factor!r} there"
            )
        values = float_array(table_column(table, name), f"the coordinate {name!r}")
        check_finite(values, [name], "coordinate", table.index)
        out[:, k] = values[first]
        moved = np.flatnonzero(values != out[codes, k])
        if len(moved):
            level = _labels(term, table).iloc[moved[0]]
            raise StructureError(
                f"{relation!r}: {name!r} differs between new rows of one level of "
                f"{term.factor!r}, {shown(level)}: a level has one place"
            )
    return out


def _check_unmoved(term: RandomTerm, table: pd.DataFrame, codes: IntArray) -> None:
    """Raise if levels of the fit have other coordinates in new rows."""
    relation, places = term.relation, term.places
    assert relation is not None
    assert places is not None
    known = np.flatnonzero(codes >= 0)
    for k, name in enumerate(relation.columns):
        if name not in table:
            continue
        values = float_array(table_column(table, name), f"the coordinate {name!r}")
        here, there = values[known], places[codes[known], k]
        moved = np.flatnonzero(np.isfinite(here) & (here != there))
        if len(moved):
            row = known[moved[0]]
            raise StructureError(
                f"{relation!r}: {shown(term.levels[codes[row]])} of {term.factor!r} is "
                f"at {name} = {there[moved[0]]:g} in the fit, and at {values[row]:g} "
                "in the new data; give another place another label"
            )


@dataclass(frozen=True)
class _Conditional:
    """``B``, shape (new, fitted), and the variance of ``e`` by that of the effects."""

    weights: FloatArray
    rest: FloatArray


def _conditional(between: LevelCovariance, n: int, u: FloatArray) -> _Conditional:
    k = between.matrix(u).value
    old, across, new = k[:n, :n], k[n:, :n], k[n:, n:]
    try:
        weights = cho_solve(cho_factor(old), across.T).T
    except LinAlgError:
        values, vectors = np.linalg.eigh(old)
        here = values > _ZERO * values[-1]
        inner = vectors[:, here]
        weights = (across @ inner / values[here]) @ inner.T
    rest = new - weights @ across.T
    return _Conditional(np.asarray(weights), (rest + rest.T) / 2.0)


def extended_effects(
    between: Sequence[LevelCovariance | None],
    effects: Sequence[TermEffects],
    u: FloatArray,
) -> list[TermEffects]:
    """
    Predicted effects of each term, those of new levels behind those of the fit.

    Parameters
    ----------
    between : sequence of LevelCovariance or None
        Between the levels of the fit, and the new ones.
    effects : sequence of TermEffects
    u : ndarray
        Unconstrained parameters of what relates levels.
    """
    out = []
    for found, (one, own) in zip(effects, with_parameters(between, u), strict=True):
        n = len(found.means)
        if one is None or one.n_levels <= n:
            out.append(found)
            continue
        weights = _conditional(one, n, own).weights
        means, slopes = (
            np.concatenate([x, np.tensordot(weights, x, axes=1)])
            for x in (found.means, found.slopes)
        )
        out.append(replace(found, means=means, slopes=slopes))
    return out


def extended_posterior(
    fit: Fit, between: Sequence[LevelCovariance | None]
) -> TermPosterior:
    """Joint distribution of the effects given the data, those of new levels too."""
    further: dict[int, tuple[FloatArray, FloatArray]] = {}
    factors = fit.problem.term_factors(fit.theta) if any(between) else ()
    for t, (one, own) in enumerate(with_parameters(between, fit.related.u)):
        n = len(fit.data.terms[t].levels)
        if one is not None and one.n_levels > n:
            found = _conditional(one, n, own)
            psi = factors[t] @ factors[t].T
            rest = np.asarray(np.kron(found.rest, psi), dtype=np.float64)
            further[t] = found.weights, rest
    if not further:
        return fit.term_posterior
    return TermPosterior(fit.eliminated_terms, fit.problem.level_maps, further)


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
        related = with_parameters(self.between, fit.related.u)
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
