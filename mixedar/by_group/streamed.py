"""
Regressions by group of a source: each batch has its groups whole, and solves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.by_group.least_squares import GroupLeastSquares, fit_rows, joined
from mixedar.by_group.results import ByGroupResults
from mixedar.data.checks import group_codes
from mixedar.data.formula import FormulaSpec
from mixedar.data.formula.terms import without_empty_cells
from mixedar.data.given import positive_weights, warn_dropped
from mixedar.data.reading import FormulaReader, Found, NotKept, Reading, named_column
from mixedar.exceptions import EmptyDataError, GroupError
from mixedar.numeric.linalg import r_factor
from mixedar.streams import Source
from mixedar.summary import NamedInALine, in_a_line


class Solved(NamedTuple):
    """
    The regressions of some groups.

    Attributes
    ----------
    labels : ndarray, shape (m,)
    solution : GroupLeastSquares
    rows : ndarray, shape (q, p)
        With the cross-product of all regressors.
    n_dropped : int
        Rows left out because of missing values.
    """

    labels: NDArray[Any]
    solution: GroupLeastSquares
    rows: FloatArray
    n_dropped: int

    @classmethod
    def merged(cls, parts: Sequence[Solved]) -> Solved:
        """Of the groups of all parts."""
        some = [part for part in parts if len(part.labels)] or parts[:1]
        return cls(
            np.concatenate([part.labels for part in some]),
            joined([part.solution for part in some]),
            r_factor(np.vstack([part.rows for part in some])),
            sum(part.n_dropped for part in parts),
        )


_OF_ROWS = NotKept(
    "this needs the rows of the groups, which were read from a source and not kept: "
    "predict(frame) gives fitted values of some rows, or fit a frame"
)


@dataclass(eq=False)
class StreamedGroups(NamedInALine):
    """
    Regressions by group of rows that were read and not kept.

    Attributes
    ----------
    formula : str
    formula_spec : FormulaSpec
    endog_name, groups_name : str
    exog_names : list of str
    labels : ndarray, shape (m,)
    solution : GroupLeastSquares
    n_dropped : int
    """

    formula: str | None
    formula_spec: FormulaSpec | None
    endog_name: str
    groups_name: str
    exog_names: list[str]
    labels: NDArray[Any]
    solution: GroupLeastSquares
    n_dropped: int
    group_columns: list[str] | None = None

    endog = _OF_ROWS
    exog = _OF_ROWS
    codes = _OF_ROWS
    index = _OF_ROWS
    weights = _OF_ROWS

    def __repr__(self) -> str:
        size = f"{self.solution.nobs.sum()} rows, {len(self.labels)} groups"
        return in_a_line(self, self.formula, self.endog_name, size)

    def fit(self, pool: bool = True) -> ByGroupResults:
        """The results, by one residual standard deviation or each group's own."""
        return ByGroupResults(self, self.solution, pool)


def read_groups(
    source: Source,
    formula: str,
    groups: object,
    weights: object,
    rows: tuple[object, str, Any],
) -> StreamedGroups:
    """
    Read a source twice: what levels there are, and the regressions of its groups.

    Parameters
    ----------
    source : Source
    formula : str
    groups, weights : str
        Columns; `weights` may be None.
    rows : tuple
        Of `subset`, `missing` and the namespace.

    Raises
    ------
    SourceError
        If the rows cannot be read, or have changed between the readings.
    EmptyDataError
        If no row is left.
    """
    if groups is None:
        raise GroupError("groups= is missing: name the column with the group labels")
    key = named_column("groups", groups)
    named = {} if weights is None else {"weights": named_column("weights", weights)}
    found = Reading(source, formula, key, named, *rows).read()
    solved, spec = _solved(found, key, named.get("weights")), found.reader.spec
    spec = without_empty_cells(spec, solved.rows)[0]
    if spec.empty_cells is not None:  # known once all rows have been seen
        found = found._replace(reader=replace(found.reader, spec=spec))
        solved = _solved(found, key, named.get("weights"))
    if not solved.solution.nobs.sum():
        raise EmptyDataError("there are no observations; check subset= and missing=")
    warn_dropped(solved.n_dropped)
    labels, solution = solved.labels, solved.solution
    order = np.argsort(labels, kind="stable")
    if (np.diff(order) != 1).any():
        labels, solution = labels[order], solution.at(order)
    names = found.design.endog_name, key, list(spec.column_names)
    return StreamedGroups(formula, spec, *names, labels, solution, solved.n_dropped)


def _solved(found: Found, key: str, weights: str | None) -> Solved:
    """The regressions of all groups of a source."""

    def of(table: pd.DataFrame) -> Solved:
        return _solved_batch(found.reader, table, key, weights)

    return found.stream.again(of, Solved.merged)[0]


def _solved_batch(
    reader: FormulaReader, table: pd.DataFrame, key: str, weights: str | None
) -> Solved:
    """The regressions of the groups of a table."""
    rows = reader.read(table)
    # groups that have lost all their rows stay
    given = rows.given[rows.given[key].notna()] if reader.rows.drop else rows.given
    codes, labels = group_codes(given[key], key)
    if rows.n_dropped:
        codes = codes[given.index.isin(rows.table.index)]
    root = None
    if weights is not None:
        root = positive_weights(rows.table[weights], weights, rows.table.index)
    found = fit_rows(rows.exog, rows.endog, codes, len(labels), root)
    return Solved(labels, found, r_factor(rows.exog), rows.n_dropped)
