"""
Terms, and their hypotheses of type III: what each adds, whatever the coding.

A term's hypothesis is about its own part of the mean: averaged with equal
weights over the levels of the factors that it lacks, and freed from the means
over the levels of those that it has.  Numeric variables stand at zero, as in
SAS.  The coefficients themselves have that meaning if factors are coded so that
they sum to zero; here it is computed for any coding.  A condition such as
``I(x > 0)`` counts as numeric.

References
----------
Searle, S. R. (1987), Linear Models for Unbalanced Data, Wiley, chapters 4, 12.

SAS Institute, SAS/STAT User's Guide, The Four Types of Estimable Functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.formula._manager import FormulaManager

from mixedar._types import FloatArray, IntArray
from mixedar.data.formula import FormulaSpec
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.fit import Fit

Names = frozenset[str]

_LARGEST_GRID = 200_000
# Rows of the data at which numeric variables are tried: beyond those needed, and
# if these do not tell the term's columns apart.
_FEW, _MANY = 20, 1000


@dataclass(frozen=True)
class Term:
    """
    A term of the fixed effects.

    Attributes
    ----------
    name : str
    columns : ndarray of int
        Its columns of the design.
    factors : frozenset of str
        Its variables, as the formula writes them; empty for the intercept.
    """

    name: str
    columns: IntArray
    factors: frozenset[str]


def terms_of(fit: Fit) -> list[Term]:
    """
    Terms of a model in the order in which the formula brings them.

    Main effects come before interactions, as in R; the formula engines put
    categorical columns first in the design.  Without a formula every column is a
    term.
    """
    spec = fit.formula_spec
    if spec is None:
        return [
            Term(name, np.array([k]), frozenset([name]))
            for k, name in enumerate(fit.exog_names)
        ]
    slices = FormulaManager(spec.engine).get_term_name_slices(spec.engine_spec)
    terms = []
    for key, where in slices.items():
        columns = np.arange(fit.k_fe)[where]
        if len(columns) == 0:
            continue
        name = str(key)
        intercept = name in ("1", "Intercept")
        factors = frozenset() if intercept else frozenset(_factors(name))
        terms.append(Term("Intercept" if intercept else name, columns, factors))
    text = spec.formula

    def place(term: Term) -> tuple[int, list[int]]:
        where = [text.find(factor) for factor in term.factors]
        return len(term.factors), sorted(where)

    return sorted(terms, key=place)


def _factors(name: str) -> list[str]:
    """Parts of an interaction's name, split at colons outside of brackets."""
    parts, depth = [""], 0
    for letter in name:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == ":" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def type_three(fit: Fit, terms: Sequence[Term]) -> list[FloatArray]:
    """
    Restrictions of type III.

    Parameters
    ----------
    fit : Fit
        Without a formula a term is a column, and the restriction says that it is
        zero.
    terms : sequence of Term

    Returns
    -------
    list of ndarray, shape (number of the term's columns, p)

    Raises
    ------
    NotComputedError
        If the data were removed, or a term's hypothesis cannot be found.
    UnsupportedError
        If the factors of one term have too many combinations of levels.
    """
    spec = fit.formula_spec
    if spec is None:
        return [np.eye(fit.k_fe)[term.columns] for term in terms]
    if not fit.has_data:
        raise NotComputedError(
            "the data were removed from this fit; hypotheses of type III need them: "
            "use type=2"
        )
    frame = fit.data.frame
    assert frame is not None
    return _Hypotheses(spec, frame, terms, fit.k_fe).all()


class _Hypotheses:
    """The parts of the mean by factors, for one model."""

    def __init__(
        self, spec: FormulaSpec, data: pd.DataFrame, terms: Sequence[Term], p: int
    ) -> None:
        self.terms, self.spec, self.p = terms, spec, p
        self.levels = {
            name: found
            for name in spec.variables
            if (found := factor_levels(spec, data, name)) is not None
        }
        self.data = data
        self.factors = [self._categorical(term) for term in terms]
        self.numeric = [self._numeric(term) for term in terms]
        self._designs: dict[tuple[int, int], FloatArray] = {}

    def all(self) -> list[FloatArray]:
        """The restrictions of each term."""
        return [self._one(k) for k in range(len(self.terms))]

    def _variables(self, factor: str) -> Names:
        """Columns of the data in a factor of the formula."""
        bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", factor)
        return frozenset(
            name
            for name in self.spec.variables
            if name == factor
            or re.search(rf"(?<![\w.]){re.escape(name)}(?![\w(])", bare)
        )

    def _categorical(self, term: Term) -> Names:
        names = frozenset().union(*map(self._variables, term.factors))
        return names & frozenset(self.levels)

    def _numeric(self, term: Term) -> Names:
        """The factors with a numeric variable, by which parts are told apart."""
        known = frozenset(self.levels)
        return frozenset(f for f in term.factors if self._variables(f) - known)

    def _parts(self, k: int) -> Iterator[Names]:
        """Sets of factors whose joint effect the term brings in."""
        earlier = [
            self.factors[j]
            for j, other in enumerate(self.terms)
            if self.numeric[j] == self.numeric[k]
            and (len(other.factors), j) < (len(self.terms[k].factors), k)
        ]
        names = sorted(self.factors[k])
        for size in range(len(names) + 1):
            for some in combinations(names, size):
                part = frozenset(some)
                if not any(part <= other for other in earlier):
                    yield part

    def _one(self, k: int) -> FloatArray:
        term, parts = self.terms[k], list(self._parts(k))
        for wanted in (len(term.columns) + _FEW, _MANY) if self.numeric[k] else (1,):
            found = [self._part(k, part, wanted) for part in parts]
            basis = _basis(np.concatenate(found))
            if len(basis) == len(term.columns):
                return basis
        raise NotComputedError(
            f"the hypothesis of type III of {term.name!r} cannot be told from the "
            'formula; use type=2, or type="marginal" for the coefficients as they are'
        )

    def _part(self, k: int, part: Names, wanted: int) -> FloatArray:
        """The joint effect of some factors, at every combination of their levels."""
        sizes = [len(self.levels[name]) for name in sorted(part)]
        related = [
            j
            for j in range(len(self.terms))
            if self.numeric[j] == self.numeric[k] and part <= self.factors[j]
        ]
        designs = [self._design(j, wanted) for j in related]
        effect = np.zeros((len(designs[0]), *sizes, self.p))
        for j, design in zip(related, designs, strict=True):
            names = sorted(self.factors[j])
            others = [n for n, name in enumerate(names, start=1) if name not in part]
            columns = self.terms[j].columns
            effect[..., columns] = design.mean(axis=tuple(others))
        for axis in range(1, len(sizes) + 1):
            effect -= effect.mean(axis=axis, keepdims=True)
        return effect.reshape(-1, self.p)

    def _design(self, j: int, wanted: int) -> FloatArray:
        """
        A term's columns at every combination of its factors' levels.

        The first axis goes over rows of the data, whose numeric variables stay.
        """
        if (j, wanted) in self._designs:
            return self._designs[j, wanted]
        names = sorted(self.factors[j])
        sizes = [len(self.levels[name]) for name in names]
        cells = int(np.prod(sizes, dtype=float)) if sizes else 1
        rows = self._rows(wanted)
        if cells * len(rows) > _LARGEST_GRID:
            raise UnsupportedError(
                f"type 3: the factors of {self.terms[j].name!r} have {cells} "
                "combinations of levels; use type=2"
            )
        grid = rows.iloc[np.repeat(np.arange(len(rows)), cells)].reset_index(drop=True)
        combined = list(product(*(self.levels[name] for name in names)))
        for position, name in enumerate(names):
            values = [combination[position] for combination in combined]
            grid[name] = pd.Series(values * len(rows), index=grid.index)
        design = self.spec.matrix(grid)
        columns = self.terms[j].columns
        out = design[:, columns].reshape(len(rows), *sizes, len(columns))
        self._designs[j, wanted] = out
        return np.asarray(out)

    def _rows(self, wanted: int) -> pd.DataFrame:
        """Rows of the data, spread over all of it."""
        where = np.linspace(0, len(self.data) - 1, min(wanted, len(self.data)))
        names = list(self.spec.variables)
        return self.data.iloc[np.unique(where.astype(np.intp))][names]


def _basis(rows: FloatArray) -> FloatArray:
    """Orthonormal rows that span the same; none if a row is not finite."""
    lengths = np.linalg.norm(rows, axis=1)
    kept = lengths > 1e-10 * lengths.max(initial=0.0)
    if not np.isfinite(lengths).all() or not kept.any():
        return np.empty((0, rows.shape[1]))
    scaled = rows[kept] / lengths[kept][:, None]
    _, values, vectors = np.linalg.svd(scaled, full_matrices=False)
    basis = vectors[values > 1e-8 * values[0]]
    return np.where(np.abs(basis) < 1e-13, 0.0, basis)


def factor_levels(spec: FormulaSpec, data: pd.DataFrame, name: str) -> list[Any] | None:
    """Levels of a factor; None of a numeric variable."""
    if name in spec.levels:
        return list(spec.levels[name])
    column = pd.Series(data[name]).dropna()
    kind = getattr(column.dtype, "kind", "O")
    if name in spec.use.coded or kind in "bO":
        return sorted(column.unique().tolist())
    return None
