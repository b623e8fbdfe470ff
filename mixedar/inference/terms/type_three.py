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
from mixedar.data.formula.terms import Term, terms_of_formula
from mixedar.fit import Fit


def terms_of(fit: Fit) -> list[Term]:
    """Terms in the order of the formula; without one every column is a term."""
    if fit.formula_spec is not None:
        return terms_of_formula(fit.formula_spec)
    return [Term.of_column(name, k) for k, name in enumerate(fit.exog_names)]


def type_three(terms: Sequence[Term], p: int) -> list[FloatArray]:
    """
    Restrictions of type III.

    Parameters
    ----------
    terms : sequence of Term
        Of all p columns.
    p : int

    Returns
    -------
    list of ndarray, shape (rank of the hypothesis, p)
    """
    out = []
    for k, term in enumerate(terms):
        parts = [_part(terms, term, part, p) for part in _parts(terms, k)]
        out.append(np.concatenate([np.empty((0, p)), *parts]))
    return out


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
