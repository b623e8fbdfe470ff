"""
Further random-effects terms of a model: the effects of other factors than the groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import (
    check_columns,
    check_finite,
    check_rank,
    float_array,
    group_codes,
)
from mixedar.data.formula import Design, FormulaSpec
from mixedar.data.formula.smooths import RandomPart, Smooth
from mixedar.data.formula.terms import levels_of_formula
from mixedar.data.rows import Levels, table_column, without_categories
from mixedar.engine.compress import TermRows
from mixedar.engine.covariance import TermLayout
from mixedar.engine.rows import GroupedRows
from mixedar.exceptions import (
    GroupError,
    IdentificationError,
    StructureError,
    listing,
    shown,
)
from mixedar.relations.base import LevelCovariance, Relation

# Variances and covariances of random effects: at most, and with fewer groups than
# effects, when their covariance can be no more than singular.
_MOST, _MANY = 500, 100


@dataclass(frozen=True, eq=False)
class RandomTerm:
    """
    A random-effects term.

    Attributes
    ----------
    factor : str
        ``"item"``, or ``"school:pupil"`` for combinations of columns.
    columns : tuple of str
        Those of the factor.
    effects : tuple of str
        Names of the effects of a level, ``"Intercept"`` and columns, as far as they
        have a covariance of their own.
    levels : Index
        Labels; of several columns a MultiIndex.
    codes : ndarray of int, shape (n,)
        Level of each row.
    design : ndarray, shape (n, k)
    spec : FormulaSpec
        Builds the design of new rows.
    correlated : bool
        Whether the effects of a level are correlated with one another.
    copies : int
        How often the effects are repeated in a level, independently: the coefficients
        of a smooth share one variance.
    between : LevelCovariance or None
        How the levels, or the copies of a single level, are related.
    relation : Relation or None
        The same as it was given, for other levels.
    places : ndarray, shape (levels, c), or None
        Coordinates of the levels, if their relation reads any.
    smooth : Smooth or None
        What it is the random part of.
    """

    factor: str
    columns: tuple[str, ...]
    effects: tuple[str, ...]
    levels: pd.Index
    codes: IntArray
    design: FloatArray
    spec: FormulaSpec | RandomPart
    correlated: bool
    copies: int = 1
    between: LevelCovariance | None = None
    relation: Relation | None = None
    places: FloatArray | None = None
    smooth: Smooth | None = None

    @property
    def shared(self) -> bool:
        """Whether it is a smooth of all rows, and no factor."""
        return not self.columns

    @property
    def layout(self) -> TermLayout:
        """How the columns share the entries of the covariance."""
        return TermLayout(len(self.effects), self.copies)

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of all columns of a level."""
        if self.copies == 1:
            return self.effects
        return tuple(str(k + 1) for k in range(self.layout.width))

    @property
    def effect_names(self) -> list[str]:
        """Names among all effects of the model: ``"item"``, ``"time|item"``."""
        return [
            self.factor if name == "Intercept" else f"{name}|{self.factor}"
            for name in self.effects
        ]

    @property
    def cov_names(self) -> list[str]:
        """Names of variances and covariances, lower triangle row by row."""
        names = self.effect_names
        return [
            f"{names[i]} Var" if i == j else f"{names[j]} x {names[i]} Cov"
            for i in range(len(names))
            for j in range(i + 1)
        ]

    @property
    def between_names(self) -> list[str]:
        """Names of the parameters of what relates the levels."""
        own = () if self.between is None else self.between.param_names
        return [f"{self.factor} {name}" for name in own]

    def level_columns(self, table: pd.DataFrame) -> list[pd.Series]:
        """Columns of new rows that name their levels."""
        return [
            without_categories(table_column(table, name)).infer_objects()
            for name in self.columns
        ]

    def numbers(self, table: pd.DataFrame) -> IntArray:
        """Levels of new rows, shape (k,); -1 for those that are not in the fit."""
        if not self.columns:
            return np.zeros(len(table), dtype=np.intp)
        each = self.level_columns(table)
        if len(each) == 1:
            return Levels(pd.Series(self.levels)).numbers(each[0])
        labels = pd.MultiIndex.from_arrays(each, names=self.levels.names)
        return np.asarray(self.levels.get_indexer(labels), dtype=np.intp)

    def rows(self, grouped: GroupedRows) -> TermRows:
        """What the likelihood needs of it."""
        codes, design = grouped.sort(self.codes), grouped.sort(self.design)
        return TermRows(codes, design, self.copies, self.between)


def random_terms(design: Design) -> tuple[RandomTerm, ...]:
    """
    The further terms of evaluated formulas.

    Parameters
    ----------
    design : Design

    Returns
    -------
    tuple of RandomTerm

    Raises
    ------
    GroupError
        If a factor has one level only.
    """
    out = []
    for bar, labels, relation, (spec, columns) in zip(
        design.bars, design.factors, design.relations, design.terms, strict=True
    ):
        codes, distinct = group_codes(labels, f"factor {bar.name!r}")
        if len(distinct) == 1:
            raise GroupError(
                f"the factor {bar.name!r} has one level, {distinct[0]}: the variance "
                "between levels cannot be estimated from one"
            )
        names = list(spec.column_names)
        check_columns(columns, names, "random-effects", design.index)
        check_rank(columns, names, "random-effects")
        first = np.unique(codes, return_index=True)[1]
        each = [table_column(design.frame, name).iloc[first] for name in bar.factor]
        levels = pd.Index(each[0], name=bar.factor[0])
        if len(each) > 1:
            levels = pd.MultiIndex.from_arrays(each, names=bar.factor)
        between = places = None
        if relation is not None:
            places = _places(design, relation, bar.name, codes, levels)
            relation.check(levels, bar.name, places)
            between = relation.bind(levels, bar.name, places)
        out.append(
            RandomTerm(
                bar.name,
                bar.factor,
                tuple(names),
                levels,
                codes,
                np.ascontiguousarray(columns),
                spec,
                bar.correlated,
                between=between,
                relation=relation,
                places=places,
            )
        )
    return (*out, *smooth_terms(design))


def smooth_terms(design: Design) -> Iterator[RandomTerm]:
    """The random parts of the smooths, but for those of the groups."""
    for learned in design.smooths:
        smooth = learned.smooth
        codes, levels = np.zeros(len(design.endog), dtype=np.intp), [smooth.label]
        columns: tuple[str, ...] = ()
        if smooth.call.factor:
            if smooth.call.factor == design.groups_name:
                continue  # variance components
            assert smooth.levels is not None
            codes = smooth.levels.numbers(
                table_column(design.frame, smooth.call.factor)
            )
            levels, columns = smooth.levels.values.tolist(), (smooth.call.factor,)
        for part in smooth.random_parts:
            values = learned.random[part.part]
            yield RandomTerm(
                factor=part.name,
                columns=columns,
                effects=("Intercept",),
                levels=pd.Index(levels, name=smooth.call.factor or part.name),
                codes=codes,
                design=np.ascontiguousarray(values),
                spec=part,
                correlated=True,
                copies=values.shape[1],
                between=smooth.between,
                smooth=smooth,
            )


def _places(
    design: Design, relation: Relation, factor: str, codes: IntArray, levels: pd.Index
) -> FloatArray | None:
    """Coordinates of the levels, shape (m, c), if their relation reads any."""
    if not relation.columns:
        return None
    out = np.empty((len(levels), len(relation.columns)))
    first = np.unique(codes, return_index=True)[1]
    for k, name in enumerate(relation.columns):
        column = table_column(design.frame, name)
        values = float_array(column, f"the coordinate {name!r}")
        check_finite(values, [name], "coordinate", design.index)
        out[:, k] = values[first]
        moved = np.flatnonzero(values != out[codes, k])
        if len(moved):
            raise StructureError(
                f"{relation!r}: {name!r} differs between rows of one level of "
                f"{factor!r}, {shown(levels[codes[moved[0]]])}: a level has one place"
            )
    return out


def relation_notes(terms: Iterable[RandomTerm]) -> list[str]:
    """What a reader should know of related levels."""
    out = []
    for term in terms:
        if term.relation is None:
            continue
        surplus = term.relation.surplus(term.levels)
        if surplus:
            out.append(
                f"{len(surplus)} of the labels in {term.relation!r} have no rows of "
                f"{term.factor!r}: {listing(surplus)}"
            )
        note = term.relation.note(term.factor)
        out += [note] if note else []
    return out


def held_entries(terms: Iterable[RandomTerm]) -> FloatArray:
    """NaN for entries of ``Lambda`` that are estimated, zero for the others."""
    parts = [np.empty(0)]
    for term in terms:
        rows, columns = np.tril_indices(len(term.effects))
        free = term.correlated | (rows == columns)
        parts.append(np.where(free, np.nan, 0.0))
    return np.concatenate(parts)


def check_covariances(k: int, m: int, spec: FormulaSpec | None) -> None:
    """Raise if k effects of m groups have more covariances than can be estimated."""
    count = k * (k + 1) // 2
    if count <= (_MANY if m < k else _MOST):
        return
    advice = "pass re_cov='diagonal' for variances alone"
    factors = {} if spec is None else levels_of_formula(spec)
    if len(factors) == 1:
        name = next(iter(factors))
        advice = (
            f"for effects of {name!r} that have one variance pass re_formula='1' and "
            f"vc_formula={{{name!r}: '0 + C({name})'}}; for a variance each, without "
            "covariances, re_cov='diagonal'"
        )
    raise IdentificationError(
        f"{k} correlated random effects of each of {m} groups have {count} variances "
        f"and covariances, more than can be estimated: {advice}"
    )
