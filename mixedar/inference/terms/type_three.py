"""
Hypotheses of type III: what each term adds, whatever the coding.

A term's hypothesis is about its own part of the mean: averaged with equal
weights over the levels of the factors that it lacks, and freed from the means
over the levels of those that it has.  Numeric variables stand at zero, as in
SAS.  The coefficients themselves have that meaning if factors are coded so that
they sum to zero; here it is computed for any coding.  The overall mean belongs to
no factor: without an intercept the hypotheses are those of the same model with
it.

References
----------
Searle, S. R. (1987), Linear Models for Unbalanced Data, Wiley, chapters 4, 12.

SAS Institute, SAS/STAT User's Guide, The Four Types of Estimable Functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from mixedar._types import FloatArray
from mixedar.data.formula.empty_cells import EmptyCells
from mixedar.data.formula.terms import Term, all_terms, terms_of_formula
from mixedar.fit import Fit


def terms_of(fit: Fit) -> list[Term]:
    """Terms in the order of the formula; without one every column is a term."""
    if fit.formula_spec is not None:
        return terms_of_formula(fit.formula_spec)
    return [Term.of_column(name, k) for k, name in enumerate(fit.exog_names)]


def type_three(fit: Fit, terms: Sequence[Term]) -> list[FloatArray]:
    """
    Restrictions of type III.

    Parameters
    ----------
    fit : Fit
    terms : sequence of Term
        Of all p columns.

    Returns
    -------
    list of ndarray, shape (rank of the hypothesis, p)
    """
    spec, p = fit.formula_spec, fit.k_fe
    if spec is not None and spec.empty_cells is not None:
        estimable = _Estimable(all_terms(spec), spec.empty_cells)
        return [estimable.hypothesis(term.name) for term in terms]
    out = []
    for k, term in enumerate(terms):
        parts = [_part(terms, term, part, p) for part in _parts(terms, k)]
        out.append(np.concatenate([np.empty((0, p)), *parts]))
    return out


class _Estimable:
    """
    What can be estimated where combinations of levels have no rows, as in SAS.

    Functions of effects, one for each combination of levels of each term, can be
    estimated if they are means of rows.  The hypothesis of a term is made of those
    that involve it and the terms that contain it, and are orthogonal to those that
    involve only the latter.
    """

    def __init__(self, terms: Sequence[Term], empty: EmptyCells) -> None:
        self.terms = terms
        weights = np.eye(len(empty.all_names))[:, empty.kept].T
        weights[:, empty.dropped] = empty.weights
        self.effects = {term.name: weights @ self._effects(term) for term in terms}

    def _effects(self, term: Term) -> FloatArray:
        """Coefficients of all columns that give the effects of a term."""
        inside = [
            t
            for t in self.terms
            if t.numeric == term.numeric and set(t.levels) <= set(term.levels)
        ]
        m = term.cells.shape[-2]
        sizes = [len(levels) for levels in term.levels.values()]
        count = m * int(np.prod(sizes, dtype=int))
        designs = []
        for t in inside:
            shape = [len(v) if k in t.levels else 1 for k, v in term.levels.items()]
            cells = t.cells.reshape(*shape, m, len(t.columns))
            cells = np.broadcast_to(cells, (*sizes, *cells.shape[-2:]))
            designs.append(cells.reshape(count, -1))
        columns = np.concatenate([t.columns for t in inside])
        out = np.zeros((sum(len(t.columns) for t in self.terms), count))
        out[columns] = np.linalg.pinv(np.concatenate(designs, axis=1))
        return out

    def hypothesis(self, name: str) -> FloatArray:
        """Restrictions of a term, shape (rank of the hypothesis, number kept)."""
        term = next(t for t in self.terms if t.name == name)
        over = [
            t.name
            for t in self.terms
            if t.numeric == term.numeric and set(t.levels) > set(term.levels)
        ]
        others = [t.name for t in self.terms if t.name not in {name, *over}]
        free = self._vanishing(others)
        alone = self._vanishing([*others, name])
        names = [t.name for t in self.terms]
        everything = np.concatenate([self.effects[k] for k in names], axis=1)
        inner = alone.T @ everything
        mixed = inner @ (free.T @ everything).T
        return _null_space(mixed).T @ free.T

    def _vanishing(self, names: Sequence[str]) -> FloatArray:
        """Functions, in columns, that do not involve these terms."""
        size = len(next(iter(self.effects.values())))
        parts = [self.effects[name].T for name in names]
        return _null_space(np.concatenate([np.empty((0, size)), *parts]))


def _null_space(matrix: FloatArray) -> FloatArray:
    """Orthonormal columns that a matrix takes to zero."""
    _, values, rows = np.linalg.svd(matrix)
    rank = int((values > 1e-9 * values.max(initial=0.0)).sum())
    return np.asarray(rows[rank:].T)


def _parts(terms: Sequence[Term], k: int) -> Iterator[frozenset[str]]:
    """Sets of factors whose joint effect the term brings in."""
    term = terms[k]
    earlier = [frozenset(t.levels) for t in terms[:k] if t.numeric == term.numeric]
    if term.factors and not term.numeric:
        earlier.append(frozenset())  # the overall mean
    for size in range(len(term.levels) + 1):
        for some in combinations(term.levels, size):
            part = frozenset(some)
            if not any(part <= other for other in earlier):
                yield part


def _part(
    terms: Sequence[Term], term: Term, part: frozenset[str], p: int
) -> FloatArray:
    """Contrasts of the joint effect of some factors of a term."""
    out: FloatArray | None = None
    for other in terms:
        if other.numeric != term.numeric or not part <= set(other.levels):
            continue
        effect = other.cells
        for axis, (name, levels) in enumerate(other.levels.items()):
            weights = _contrasts(len(levels), differences=name in part)
            effect = np.moveaxis(np.tensordot(weights, effect, (1, axis)), 0, axis)
        effect = effect.reshape(-1, len(other.columns))
        if out is None:
            out = np.zeros((len(effect), p))
        out[:, other.columns] = effect
    assert out is not None  # the term itself
    size = np.abs(out).max(axis=1, keepdims=True)
    return np.where(np.abs(out) < 1e-13 * size, 0.0, out)


def _contrasts(count: int, *, differences: bool) -> FloatArray:
    """The mean of the levels, or orthonormal contrasts of them (Helmert's)."""
    if not differences:
        return np.full((1, count), 1.0 / count)
    below = np.tri(count, k=-1)[1:]
    steps = np.arange(1.0, count)
    rows = np.eye(count)[1:] * steps[:, None] - below
    return np.asarray(rows / np.sqrt(steps * (steps + 1.0))[:, None])


def within_the_mean(term: Term) -> FloatArray | None:
    """
    Rows that hold where a term's effects are the same at all levels.

    Parameters
    ----------
    term : Term

    Returns
    -------
    ndarray, shape (c - 1, c), or None
        For a term of c columns, among them the overall mean of a model without
        intercept; None for others.
    """
    if not term.levels or term.numeric:
        return None
    cells = term.cells.reshape(-1, len(term.columns))
    ones = np.ones(len(cells))
    mean, *_ = np.linalg.lstsq(cells, ones, rcond=None)
    if not np.allclose(cells @ mean, ones):
        return None
    return np.linalg.qr(mean[:, None], mode="complete")[0][:, 1:].T
