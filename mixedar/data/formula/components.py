"""
Variance components: one design matrix per group, without a loop over groups.

statsmodels evaluates each formula of ``vc_formula`` for each group on its own.
Two forms cover nearly all models and need no loop: the indicators of a factor
(``0 + C(classroom)``) and numeric columns (``0 + time``).  Others are
evaluated group by group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from statsmodels.formula._manager import FormulaManager
from statsmodels.regression.mixed_linear_model import VCSpec

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import group_codes
from mixedar.data.formula.columns import ColumnStore
from mixedar.data.formula.names import (
    FormulaUse,
    ModelFormulas,
    indicator_factor,
    read_formula,
)
from mixedar.data.formula.smooths import LearnedSmooth, RandomPart
from mixedar.data.formula.spec import engine_errors, fit_formula
from mixedar.data.formula.terms import Term, all_terms
from mixedar.data.rows import RowVariable, as_factor, numeric_values
from mixedar.exceptions import MixedARError, check_flags


@dataclass(frozen=True)
class GroupRows:
    """
    Which rows belong to which group.

    Attributes
    ----------
    codes : ndarray of int, (n,)
        Number of the group of each row, in the sorted order of the labels.
    labels : sequence, (G,)
        Sorted labels.
    """

    codes: IntArray
    labels: Sequence[Any] | np.ndarray

    @cached_property
    def rows(self) -> list[IntArray]:
        """Positions of the rows of each group, in the caller's order."""
        order = np.argsort(self.codes, kind="stable")
        counts = np.bincount(self.codes, minlength=len(self.labels))
        return np.split(order, np.cumsum(counts)[:-1])


@dataclass(frozen=True)
class VarianceComponent:
    """
    Design of one variance component: indicators of levels, or any matrix.

    Attributes
    ----------
    name : str
        Name of the component.
    groups : GroupRows
        The groups.
    n_columns : ndarray of int, (G,)
        Columns of each group; for indicators, levels that occur in it.
    codes : ndarray of int, (n,), or None
        Indicators, a single one in each row: its column, 0 to
        ``n_columns[group] - 1``.
    matrix : ndarray, (n, k), or None
        Dense: row values in the columns of the row's group; columns from
        ``n_columns[group]`` on are zero.
    """

    name: str
    groups: GroupRows
    n_columns: np.ndarray
    codes: np.ndarray | None = None
    matrix: np.ndarray | None = None
    # Indicators: level number of each column, groups one after another, the
    # label of each level, and whether statsmodels lists all levels in all
    # groups (the factor is a pandas categorical).  Dense: names by group.
    levels: np.ndarray | None = None
    level_names: Sequence[str] = ()
    all_levels: bool = False
    names_by_group: Sequence[Sequence[str]] = ()
    note: str | None = None
    smooth: RandomPart | None = None  # of which each group has its own

    @cached_property
    def starts(self) -> np.ndarray:
        """Number of columns before each group's, (G + 1,)."""
        return np.concatenate([[0], np.cumsum(self.n_columns)])

    def column_names(self, group: int, all_levels: bool = False) -> list[str]:
        """
        Names of the columns of one group.

        Parameters
        ----------
        group : int
            Number of the group.
        all_levels : bool, optional
            Include the columns of zeros that statsmodels has for the unused
            levels of a pandas categorical.

        Returns
        -------
        list[str]
            As statsmodels names them, for example ``"C(v)[3]"``.
        """
        if self.levels is None:
            shared = len(self.names_by_group) == 1
            return list(self.names_by_group[0 if shared else group])
        if all_levels and self.all_levels:
            return list(self.level_names)
        here = self.levels[self.starts[group] : self.starts[group + 1]]
        return [self.level_names[i] for i in here]

    def padded(self) -> FloatArray:
        """Columns of all rows, zeros where a group has fewer, (n, k)."""
        if self.codes is None:
            assert self.matrix is not None
            return np.asarray(self.matrix, dtype=np.float64)
        n = len(self.codes)
        out = np.zeros((n, int(self.n_columns.max())))
        out[np.arange(n), self.codes] = 1.0
        return out

    def group_matrix(self, group: int, all_levels: bool = False) -> np.ndarray:
        """
        Design matrix of one group, rows in the caller's order.

        Parameters
        ----------
        group : int
            Number of the group.
        all_levels : bool, optional
            As in :meth:`column_names`.

        Returns
        -------
        ndarray, (n_i, k_i)
            The matrix.
        """
        rows = self.groups.rows[group]
        if self.matrix is not None:
            return self.matrix[rows, : self.n_columns[group]]
        assert self.codes is not None
        assert self.levels is not None
        columns, width = self.codes[rows], int(self.n_columns[group])
        if all_levels and self.all_levels:
            columns = self.levels[self.starts[group] + columns]
            width = len(self.level_names)
        out = np.zeros((len(rows), width))
        out[np.arange(len(rows)), columns] = 1.0
        return out


class _ByGroup(Sequence[Any]):
    """Names or matrices of a component, one a group, computed when asked for."""

    def __init__(self, part: VarianceComponent, item: str, use_sparse: bool) -> None:
        self._part, self._item, self._use_sparse = part, item, use_sparse

    def __len__(self) -> int:
        return len(self._part.n_columns)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        group = range(len(self))[i]
        if self._item == "names":
            return self._part.column_names(group, all_levels=True)
        matrix = self._part.group_matrix(group, all_levels=True)
        return sparse.csr_array(matrix) if self._use_sparse else matrix


def vc_spec(
    components: Sequence[VarianceComponent], use_sparse: bool = False
) -> VCSpec:
    """
    The components in statsmodels' form, matrices made on access.

    Parameters
    ----------
    components : sequence of VarianceComponent
        The components.
    use_sparse : bool, optional
        Give sparse matrices.

    Returns
    -------
    statsmodels.regression.mixed_linear_model.VCSpec
        Equal to what ``MixedLM.from_formula`` builds.
    """
    check_flags(use_sparse=use_sparse)
    return VCSpec(
        [part.name for part in components],
        [_ByGroup(part, "names", use_sparse) for part in components],
        [_ByGroup(part, "matrices", use_sparse) for part in components],
    )


def build_component(
    name: str,
    use: FormulaUse,
    columns: ColumnStore,
    groups: GroupRows,
    namespace: Mapping[str, Any],
) -> VarianceComponent:
    """
    Build one variance component.

    Parameters
    ----------
    name : str
        Its name.
    use : FormulaUse
        Its formula, evaluated as if for each group separately.
    columns : ColumnStore
        The data's columns, without missing values in those that are factors.
    groups : GroupRows
        The groups.
    namespace : Mapping[str, object]
        The caller's variables.

    Returns
    -------
    VarianceComponent
        NaN in the dense matrix marks missing values.

    Raises
    ------
    MixedARError
        If the formula cannot be evaluated.
    """
    asked = _Component(name, use, columns, groups, namespace)
    quick = asked.indicators() or asked.numeric()
    return quick or replace(asked.by_group(), note=asked.note_on_levels())


def smooth_component(
    part: RandomPart, groups: GroupRows, columns: FloatArray
) -> VarianceComponent:
    """A part of the smooths that each group has for itself, of rows, shape (n, k)."""
    k = columns.shape[1]
    return VarianceComponent(
        part.name,
        groups,
        np.full(len(groups.labels), k),
        matrix=np.ascontiguousarray(columns),
        names_by_group=[[str(j + 1) for j in range(k)]],
        smooth=part,
    )


def smooth_components(
    smooths: Sequence[LearnedSmooth], group: RowVariable
) -> list[VarianceComponent]:
    """All parts of smooths of the groups."""
    if not smooths:
        return []
    groups = GroupRows(*group_codes(group.values, group.label))
    return [
        smooth_component(part, groups, one.random[part.part])
        for one in smooths
        for part in one.smooth.random_parts
    ]


def component_notes(
    formulas: ModelFormulas,
    parts: Sequence[VarianceComponent],
    columns: Mapping[str, pd.Series],
    group: RowVariable | None,
    *,
    alone: bool,
) -> tuple[str, ...]:
    """
    What readers of variance components may have meant otherwise.

    Components that are contrasts, or slopes of what may be labels; and groups without
    an effect of their own, `alone` if there is no formula of their effects.
    """
    if not parts or group is None:
        return ()
    notes = [part.note for part in parts if part.note is not None]
    for name, use in formulas.components.items():
        quoted = use.opaque if "Q" in use.functions else frozenset[str]()
        for term in sorted((use.terms | quoted) - formulas.right.names):
            if term not in columns or not _may_be_labels(columns[term]):
                continue
            levels = {name: f"0 + {as_factor(term)}"}
            notes.append(
                f"Variance component {name!r} is a random slope of the numbers in "
                f"{term!r}; if they are labels, write vc_formula={levels!r}."
            )
    level = any(
        part.matrix is not None and (np.ptp(part.matrix, axis=0) == 0.0).any()
        for part in parts
    )
    if alone and len(parts[0].groups.labels) > 1 and not level:
        notes.append(
            f"vc_formula= without re_formula=: {group.label} has no random effect of "
            "its own; re_formula='1' adds a random intercept."
        )
    return tuple(notes)


def _may_be_labels(column: pd.Series) -> bool:
    """Whether a column holds whole numbers, and not just zeros and ones."""
    values = numeric_values(column)
    if getattr(values.dtype, "kind", "O") not in "iuf":
        return False
    found = values.dropna().unique()
    return bool(len(found) > 2 and (found == np.rint(found)).all())


def _has_all_levels(term: Term) -> bool:
    """Whether each combination of a term's levels has a column of its own."""
    if not term.levels:
        return True
    k = term.cells.shape[-1]
    there = (term.cells != 0.0).any(axis=-2).reshape(-1, k)
    return bool((there.sum(axis=0) == 1).all() and there.any(axis=1).all())


@dataclass(frozen=True)
class _Component:
    """A variance component that is to be built, and three ways to do it."""

    name: str
    use: FormulaUse
    columns: ColumnStore
    groups: GroupRows
    namespace: Mapping[str, Any]

    def numeric(self) -> VarianceComponent | None:
        """Numeric columns: the same matrix whether groups are split or not."""
        use, frame = self.use, self.columns.frame(self.use)
        numeric = all(getattr(dtype, "kind", "O") in "iuf" for dtype in frame.dtypes)
        if not numeric or not use.is_rowwise(list(frame.columns)) or use.coded:
            return None
        spec, matrix = fit_formula(use, self.columns, self.namespace, self.parsed)
        return VarianceComponent(
            self.name,
            self.groups,
            np.full(len(self.groups.labels), matrix.shape[1]),
            matrix=matrix,
            names_by_group=[spec.column_names],
        )

    def indicators(self) -> VarianceComponent | None:
        """Indicators of the levels of a factor, if the formula says just that."""
        use, columns, groups = self.use, self.columns, self.groups
        factor = indicator_factor(use.formula)
        if factor is None or factor[0] not in columns.columns:
            return None
        key, wrapped = factor
        if wrapped and key not in use.coded:  # the caller has a C of his own
            return None
        given = isinstance(columns.columns[key].dtype, pd.CategoricalDtype)
        if not given and not columns.is_coded(key, use):
            return None
        category = columns.category(key).array
        assert isinstance(category, pd.Categorical)
        size = len(category.categories)
        joint = groups.codes.astype(np.int64) * size + category.codes
        inverse, pairs = pd.factorize(joint, sort=True)
        counts = np.bincount(pairs // size, minlength=len(groups.labels))
        starts = np.concatenate([[0], np.cumsum(counts)])
        prefix = f"C({key})" if wrapped else key
        part = VarianceComponent(
            self.name,
            groups,
            counts,
            codes=inverse - starts[groups.codes],
            levels=pairs % size,
            level_names=[f"{prefix}[{level}]" for level in category.categories],
            all_levels=given,
        )
        # Trust the shortcut only if the engine agrees on the smallest group.
        smallest = int(np.argmin(np.bincount(groups.codes)))
        rows = groups.rows[smallest]
        if len(rows) * counts[smallest] > 1_000_000:
            return part
        frame = self.frame.iloc[rows]
        if given:
            used = frame[key].cat.remove_unused_categories()
            frame = frame.assign(**{key: used})
        matrix, names = self.evaluated(frame)
        same = np.array_equal(matrix, part.group_matrix(smallest))
        return part if same and names == part.column_names(smallest) else None

    def note_on_levels(self) -> str | None:
        """Say that a factor is coded by contrasts, not by its levels."""
        terms = self._terms(self.use.formula)
        wrong = [term for term in terms if not _has_all_levels(term)]
        if not wrong:
            return None
        own = [term for term in terms if term.factors]
        label = wrong[0].name
        if len(own) < len(terms):
            cause = f"with an intercept {label!r} has contrasts with its first level"
        else:
            cause = f"{label!r} has contrasts"
        each = {term.name: f"0 + {self._all_levels(term)}" for term in own}
        if sum(bool(term.levels) for term in own) == 1:
            together = [formula.removeprefix("0 + ") for formula in each.values()]
            each = {self.name: "0 + " + " + ".join(together)}
        return (
            f"Variance component {self.name!r}, {self.use.formula!r}: {cause} in place "
            "of a column for each level, so that its levels differ in variance; for "
            f"one effect a level write vc_formula={each!r}."
        )

    def _terms(self, formula: str) -> list[Term]:
        """The terms of a formula of the columns, with few of their levels."""
        first = {
            row
            for name in self.frame
            for row in np.flatnonzero(~self.frame[name].duplicated())[:3]
        }
        rows = self.columns.index[sorted(first)] if first else self.columns.index[:1]
        some = {k: v.loc[rows] for k, v in self.columns.columns.items()}
        use = read_formula(formula, self.namespace)
        store = ColumnStore(some, rows, self.columns.available)
        try:
            return all_terms(fit_formula(use, store, self.namespace)[0])
        except MixedARError:
            return []

    def _all_levels(self, term: Term) -> str:
        """A term as it is written to have a column for each level."""
        alone = self._terms(f"0 + {term.name}")
        if all(map(_has_all_levels, alone)):
            return term.name
        names = sorted(term.variables & set(self.frame.columns))
        return ":".join(map(as_factor, names))

    def by_group(self) -> VarianceComponent:
        """Any other formula: one evaluation for each group."""
        groups = self.groups
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            parts = [self.evaluated(self.frame.iloc[rows]) for rows in groups.rows]
        # combinations of levels that no group has are left out
        seen = {
            n for x, names in parts for n, v in zip(names, x.T, strict=True) if v.any()
        }
        for i, (values, names) in enumerate(parts):
            kept = [k for k, n in enumerate(names) if "[" not in n or n in seen]
            parts[i] = values[:, kept], [names[k] for k in kept]
        counts = np.array([matrix.shape[1] for matrix, _ in parts])
        matrix = np.zeros((len(groups.codes), counts.max(initial=0)))
        for rows, (values, _) in zip(groups.rows, parts, strict=True):
            matrix[rows, : values.shape[1]] = values
        return VarianceComponent(
            self.name,
            groups,
            counts,
            matrix=matrix,
            names_by_group=[names for _, names in parts],
        )

    # The formula engine, applied to some of the rows --------------------------

    @cached_property
    def parsed(self) -> Any:
        """The engine's parsed formula."""
        with engine_errors(self.use, self.columns.available):
            return FormulaManager().get_spec(self.use.formula)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The columns, numbered by row to find those that the engine leaves out."""
        chosen = {
            name: numeric_values(column).reset_index(drop=True)
            for name, column in self.columns.columns.items()
            if name in self.use.names
        }
        index = pd.RangeIndex(len(self.columns.index))
        return pd.DataFrame(chosen, index=index, copy=False)

    @cached_property
    def context(self) -> dict[str, Any]:
        """The caller's variables that the formula uses."""
        names = (self.use.names | self.use.functions) - set(self.frame.columns)
        return {name: self.namespace[name] for name in names & set(self.namespace)}

    def evaluated(self, frame: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
        """Matrix and column names for some of the rows."""
        with engine_errors(self.use, self.columns.available):
            matrix = FormulaManager().get_matrices(
                self.parsed, frame, eval_env=self.context, pandas=True
            )
        kept = frame.index.isin(matrix.index)
        values = np.full((len(frame), matrix.shape[1]), np.nan)
        values[kept] = matrix.to_numpy(dtype=float)
        return values, list(matrix.columns)
