"""
Terms of a formula as its engine knows them: order, factors, and their coding.

A term's columns are products of a column of each of its factors.  What stands in
them at any combination of levels follows from the codings of the categorical
factors alone, without the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from statsmodels.formula._manager import FormulaManager

from mixedar._types import FloatArray, IntArray
from mixedar.data.formula.columns import EmptyCells
from mixedar.data.formula.names import read_formula
from mixedar.data.formula.spec import FormulaSpec
from mixedar.exceptions import NotComputedError
from mixedar.numeric.linalg import dependent_columns, r_factor

# A factor's code and, for each of its columns, the values at its levels (None of
# a numeric factor); a term is a sum of products of these.
_Coding = tuple[str, FloatArray | None]


@dataclass(frozen=True)
class Term:
    """
    A term of a formula.

    Attributes
    ----------
    name : str
    columns : ndarray of int
        Its columns of the design.
    factors : frozenset of str
        What it multiplies; empty for the intercept.  A factor is known by its
        variable, ``a`` of ``C(a, Sum)`` too, or as it is written.
    levels : dict of str to tuple
        Of the categorical ones among them, sorted by name.
    variables : frozenset of str
        All names that its factors read.
    cells : ndarray, shape (number of levels, ..., m, number of columns)
        Values of the columns at each combination of levels, an axis for each of
        `levels`; m products of columns of numeric factors multiply them.
    """

    name: str
    columns: IntArray
    factors: frozenset[str]
    levels: dict[str, tuple[Any, ...]]
    variables: frozenset[str]
    cells: FloatArray

    @property
    def numeric(self) -> frozenset[str]:
        """Its numeric factors."""
        return self.factors - set(self.levels)

    @classmethod
    def of_column(cls, name: str, position: int) -> Term:
        """The term that a column without a formula is."""
        names = frozenset([name])
        return cls(name, np.array([position]), names, {}, names, np.ones((1, 1)))


def terms_of_formula(spec: FormulaSpec) -> list[Term]:
    """
    Terms of a formula, those of fewer factors first, then in its order, as in R.

    Parameters
    ----------
    spec : FormulaSpec

    Returns
    -------
    list of Term
        Those with columns; columns of empty cells are left out.
    """
    gone, out = spec.empty_cells, []
    if gone is None:
        return all_terms(spec)
    place = np.full(len(gone.all_names), -1)
    place[gone.kept] = np.arange(len(gone.kept))
    for term in all_terms(spec):
        columns = place[term.columns]
        kept = columns >= 0
        if kept.any():
            cells = term.cells[..., kept]
            out.append(replace(term, columns=columns[kept], cells=cells))
    return out


def without_empty_cells(
    spec: FormulaSpec, matrix: FloatArray
) -> tuple[FormulaSpec, FloatArray]:
    """A formula and its matrix less the columns of levels that have no rows."""
    if not len(dependent_columns(matrix)):
        return spec, matrix
    try:
        found = _empty_cells(matrix, spec.all_names, all_terms(spec))
    except NotComputedError:
        return spec, matrix
    if found is None:
        return spec, matrix
    return spec.without(found), np.ascontiguousarray(matrix[:, found.kept])


def _empty_cells(
    matrix: FloatArray, names: Sequence[str], terms: Sequence[Term]
) -> EmptyCells | None:
    """
    Columns that depend on those before them because levels have no rows.

    They depend on the columns of their own term and of terms that it contains,
    which are independent where every combination of levels has rows.

    Parameters
    ----------
    matrix : ndarray, shape (n, p)
    names : sequence of str
    terms : sequence of Term

    Returns
    -------
    EmptyCells or None
    """
    dependent = dependent_columns(matrix)
    gone: set[int] = set()
    for term in terms:
        own = np.intersect1d(term.columns, dependent)
        if term.levels and len(own):
            inside = [t.columns for t in terms if t.factors <= term.factors]
            columns = np.sort(np.concatenate(inside))
            found = columns[dependent_columns(matrix[:, columns])]
            gone |= set(np.intersect1d(own, found).tolist())
    if not gone:
        return None
    dropped = np.array(sorted(gone), dtype=np.intp)
    kept = np.delete(np.arange(matrix.shape[1]), dropped)
    lengths = np.sqrt(np.einsum("ij,ij->j", matrix, matrix))
    lengths[lengths == 0.0] = 1.0
    order = np.concatenate([kept, dropped])
    factor = r_factor(matrix[:, order] / lengths[order])
    k = len(kept)
    weights = np.zeros((k, len(dropped)))
    free = np.delete(np.arange(k), dependent_columns(factor[:, :k]))
    root = r_factor(factor[:, [*free, *range(k, len(order))]])
    weights[free] = solve_triangular(
        root[: len(free), : len(free)], root[: len(free), len(free) :]
    )
    weights[np.abs(weights) < 1e-9] = 0.0
    weights *= lengths[dropped] / lengths[kept][:, None]
    return EmptyCells(list(names), kept, dropped, weights)


def all_terms(spec: FormulaSpec) -> list[Term]:
    """As :func:`terms_of_formula`, with the columns of ``spec.all_names``."""
    manager, factors = FormulaManager(spec.engine), _Factors(spec)
    coded = dict(_codings(spec))
    out = []
    for term, where in manager.get_term_name_slices(spec.engine_spec).items():
        name, columns = str(term), np.arange(len(spec.all_names))[where]
        if len(columns) and name in ("1", "Intercept"):
            cells, none = np.ones((1, 1)), frozenset[str]()
            out.append(Term("Intercept", columns, none, {}, none, cells))
        elif len(columns):
            out.append(factors.term(name, columns, coded[name]))
    # the engines put categorical terms first in the design
    written = _written(spec)
    return sorted(out, key=lambda term: (len(term.factors), written.index(term.name)))


def _written(spec: FormulaSpec) -> list[str]:
    """Names of the terms in the order in which the formula brings them."""
    if spec.engine == "patsy":
        from patsy import ModelDesc

        terms = ModelDesc.from_formula(spec.formula).rhs_termlist
        return [term.name() for term in terms]
    from formulaic import Formula

    return ["Intercept", *map(str, Formula(spec.formula))]


def levels_of_formula(spec: FormulaSpec) -> dict[str, tuple[Any, ...]]:
    """The levels of variables that the formula reads as labels, by name."""
    levels = {name: tuple(found) for name, found in spec.levels.items()}
    for term in terms_of_formula(spec):
        levels = {**term.levels, **levels}
    return levels


def _codings(spec: FormulaSpec) -> Iterator[tuple[str, list[list[_Coding]]]]:
    """Names of the terms, and the codings of the products that they consist of."""
    design = spec.engine_spec
    if spec.engine == "patsy":
        for term, parts in design.term_codings.items():
            yield (
                term.name(),
                [
                    [
                        (factor.code, np.asarray(part.contrast_matrices[factor].matrix))
                        if factor in part.contrast_matrices
                        else (factor.code, None)
                        for factor in part.factors
                    ]
                    for part in parts
                ],
            )
        return
    contrasts = {
        str(factor): found for factor, found in design.factor_contrasts.items()
    }

    def coding(factor: Any) -> _Coding:
        code = str(factor.factor.expr)
        if code in contrasts:
            matrix = contrasts[code].get_coding_matrix(reduced_rank=factor.reduced)
            return code, np.asarray(matrix, float)
        # a number to formulaic
        is_flag = getattr(spec.dtypes.get(code), "kind", "") == "b"
        return code, np.array([[0.0], [1.0]]) if is_flag else None

    for each in design.structure:
        parts = [[coding(one) for one in part.factors] for part in each.scoped_terms]
        yield str(each.term), parts


class _Factors:
    """The factors of one formula: what each is called, and its levels."""

    def __init__(self, spec: FormulaSpec) -> None:
        self.spec = spec
        self.levels: dict[str, tuple[Any, ...]] = {}
        self.widths: dict[str, int] = {}
        if spec.engine == "patsy":
            infos = spec.engine_spec.factor_infos.items()
            self.known = {
                factor.code: info.categories
                for factor, info in infos
                if info.type == "categorical"
            }
            self.widths = {f.code: i.num_columns for f, i in infos if i.num_columns}
        else:
            self.known = {
                str(factor): found.levels
                for factor, found in spec.engine_spec.factor_contrasts.items()
            }
            for name, dtype in spec.dtypes.items():
                if getattr(dtype, "kind", "") == "b":
                    self.known.setdefault(name, (False, True))

    def term(
        self, name: str, columns: IntArray, parts: Sequence[list[_Coding]]
    ) -> Term:
        """One term, from the codings of its parts."""
        keys = {code: self.key(code) for part in parts for code, _ in part}
        labels = {
            key: self.levels[key]
            for code, key in sorted(keys.items(), key=lambda pair: pair[1])
            if code in self.known
        }
        numeric = [code for code in keys if code not in self.known]
        if len(numeric) == 1:  # formulaic does not tell
            coded = [[c.shape[1] for _, c in part if c is not None] for part in parts]
            total = int(sum(np.prod(counts, dtype=int) for counts in coded))
            self.widths[numeric[0]] = len(columns) // total
        cells = [self.cells(part, keys, labels) for part in parts]
        read = [read_formula(code, self.spec.namespace).names for code in keys]
        sizes = [len(levels) for levels in labels.values()]
        term = Term(
            name,
            columns,
            frozenset(keys.values()),
            labels,
            frozenset(keys).union(*read),
            np.concatenate(
                [np.broadcast_to(one, (*sizes, *one.shape[-2:])) for one in cells],
                axis=-1,
            ),
        )
        if term.cells.shape[-1] != len(columns):
            raise NotComputedError(
                f"what the columns of {name!r} stand for cannot be told from the "
                'formula; use type="marginal" for the coefficients as they are'
            )
        return term

    def key(self, code: str) -> str:
        """What a factor is called: the column whose levels it has, or its code."""
        if code not in self.known:
            return code
        use = read_formula(code, self.spec.namespace)
        levels = tuple(self.known[code])
        names = use.terms | use.coded
        if use.functions <= {"C", "Q"}:
            names |= use.opaque
        key = next(iter(names)) if len(names) == 1 else code
        same = self.levels.setdefault(key, levels)
        if set(same) != set(levels):
            key = code
            self.levels[key] = levels
        return key

    def cells(
        self,
        part: Sequence[_Coding],
        keys: Mapping[str, str],
        labels: Mapping[str, tuple[Any, ...]],
    ) -> FloatArray:
        """See :class:`Term`; the columns of the first factor run fastest."""
        out, axes = np.ones(1), []
        for code, coding in part:
            if coding is None:
                matrix = np.eye(self.widths.get(code, 1))
            else:
                own = list(self.known[code])
                matrix = coding[[own.index(level) for level in labels[keys[code]]]]
            axes.append((coding is None, keys[code]))
            out = np.einsum("...c,nk->...nkc", out, matrix)
            out = out.reshape(*out.shape[:-2], -1)
        order = sorted(range(len(axes)), key=lambda k: axes[k])
        out = out.transpose(*order, len(axes))
        present = {key for _, key in axes}
        sizes = [len(v) if key in present else 1 for key, v in labels.items()]
        return out.reshape(*sizes, -1, out.shape[-1])
