"""
Effects of levels that were not observed, but are related to levels that were.

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

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import check_finite, float_array
from mixedar.data.random_terms import RandomTerm
from mixedar.data.rows import table_column, without_categories
from mixedar.engine.terms import TermEffects, TermPosterior
from mixedar.exceptions import StructureError, UnknownColumnError, shown
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
    each = [
        without_categories(table_column(table, name)).infer_objects()
        for name in term.columns
    ]
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
    further = {}
    u = fit.unconstrained[fit.structure.k_free :]
    factors = fit.problem.term_factors(fit.theta) if any(between) else ()
    for t, (one, own) in enumerate(with_parameters(between, u)):
        n = len(fit.data.terms[t].levels)
        if one is not None and one.n_levels > n:
            found = _conditional(one, n, own)
            psi = factors[t] @ factors[t].T
            further[t] = found.weights, np.kron(found.rest, psi)
    if not further:
        return fit.term_posterior
    return TermPosterior(fit.eliminated_terms, fit.problem.level_maps, further)
