"""
From formulas and a DataFrame to aligned arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar.data.checks import group_codes
from mixedar.data.formula.bars import Bar
from mixedar.data.formula.columns import ColumnStore, made_numeric
from mixedar.data.formula.components import (
    GroupRows,
    VarianceComponent,
    build_component,
    component_notes,
    smooth_components,
)
from mixedar.data.formula.names import (
    FormulaUse,
    ModelFormulas,
    as_namespace,
    formula_columns,
    read_formula,
    read_formulas,
)
from mixedar.data.formula.smooth_calls import SmoothCall
from mixedar.data.formula.smooths import (
    LearnedSmooth,
    learned_smooths,
)
from mixedar.data.formula.spec import FormulaSpec, fit_formula
from mixedar.data.formula.terms import without_empty_cells
from mixedar.data.given import check_missing, missing_error, nan_rows, subset_rows
from mixedar.data.rows import (
    RowVariable,
    as_frame,
    further_variables,
    numeric_values,
    row_variables,
    take,
)
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
    ResponseError,
)
from mixedar.relations.base import Relation


@dataclass(frozen=True)
class Evaluated:
    """
    What the formulas of a model give.

    Attributes
    ----------
    endog : ndarray, (n,)
        Response.
    endog_name : str
        Its name.
    exog : ndarray, (n, p)
        Fixed-effects design.
    model_spec : FormulaSpec
        Builds `exog` for new data.
    exog_re : ndarray, (n, q), or None
        Random-effects design; None if there are no correlated random effects.
    re_spec : FormulaSpec or None
        Builds `exog_re` for new data; None also for plain intercepts.
    vc : list[VarianceComponent]
        Variance components, sorted by name.
    terms : list[tuple[FormulaSpec, ndarray]]
        Effects of further random-effects terms, (n, k).
    """

    endog: np.ndarray
    endog_name: str
    exog: np.ndarray
    model_spec: FormulaSpec
    exog_re: np.ndarray | None
    re_spec: FormulaSpec | None
    vc: list[VarianceComponent]
    terms: list[tuple[FormulaSpec, np.ndarray]]

    def without(self, gone: np.ndarray) -> Evaluated:
        """The same arrays less some rows, shape (n,) of bool; no components."""
        keep = ~gone
        return replace(
            self,
            endog=self.endog[keep],
            exog=self.exog[keep],
            exog_re=None if self.exog_re is None else self.exog_re[keep],
            terms=[(spec, columns[keep]) for spec, columns in self.terms],
        )

    def with_smooths(
        self, smooths: Sequence[LearnedSmooth], group: RowVariable | None
    ) -> Evaluated:
        """The same with fixed parts after the columns, and smooths of the groups."""
        exog = np.column_stack([self.exog, *(one.fixed for one in smooths)])
        spec = self.model_spec.with_smooths([one.smooth for one in smooths])
        vc = self.vc
        if group is not None:
            own = [one for one in smooths if one.smooth.call.factor == group.name]
            vc = [*vc, *smooth_components(own, group)]
        return replace(self, exog=exog, model_spec=spec, vc=vc)

    def without_empty_cells(self) -> Evaluated:
        """The same less columns of levels, or combinations of them, without rows."""
        if not any("[" in label for label, _ in self.columns()):
            return self  # no column has a level
        spec, exog = without_empty_cells(self.model_spec, self.exog)
        terms = [without_empty_cells(*term) for term in self.terms]
        parts = replace(self, model_spec=spec, exog=exog, terms=terms)
        if self.re_spec is None or self.exog_re is None:
            return parts
        re_spec, exog_re = without_empty_cells(self.re_spec, self.exog_re)
        return replace(parts, re_spec=re_spec, exog_re=exog_re)

    def columns(self) -> Iterator[tuple[str, np.ndarray]]:
        """All numeric columns with their labels."""
        yield f"{self.endog_name!r}", self.endog
        for spec, matrix in (
            (self.model_spec, self.exog),
            (self.re_spec, self.exog_re),
            *self.terms,
        ):
            if spec is not None and matrix is not None:
                for name, column in zip(spec.column_names, matrix.T, strict=True):
                    yield f"{name!r}", column
        for part in self.vc:
            for column in () if part.matrix is None else part.matrix.T:
                yield f"{part.name!r} of vc_formula", column


@dataclass(frozen=True)
class Design(Evaluated):
    """
    Arrays of a model, in the caller's row order.

    Attributes
    ----------
    groups_name : str
        Name of the groups' column, else ``"Group"``.
    group_values : pandas.Series or None
        Group labels in the caller's dtype.
    time : pandas.Series or None
        Times in the caller's dtype.
    time_name : str or None
        Name of the time variable.
    series : pandas.Series or None
        Labels of the series inside the groups; a categorical if several
        columns were given.
    offset : pandas.Series or None
        Part of the mean whose coefficient is one.
    bars : tuple[Bar]
        Further random-effects terms as they were written.
    factors : list[pandas.Series]
        Labels of the levels of each.
    relations : list[Relation or None]
        What relates the levels of each.
    smooths : list[LearnedSmooth]
        Smooths of covariates; their fixed parts are the last columns of `exog`.
    extra : dict[str, pandas.Series or ndarray]
        Further variables; arrays if they have two dimensions.
    index : pandas.Index
        Labels of the rows kept.
    n_dropped : int
        Rows dropped because of missing values (not by ``subset``).
    frame : pandas.DataFrame
        The rows of the data that are used; the data itself if that is all.
    formula, re_formula, vc_formula : str, str or None, dict or None
        The formulas.
    effect_notes : tuple[str]
        On random effects that may have been meant otherwise.
    """

    groups_name: str
    group_values: pd.Series | None
    time: pd.Series | None
    time_name: str | None
    series: pd.Series | None
    offset: pd.Series | None
    bars: tuple[Bar, ...]
    factors: list[pd.Series]
    relations: list[Relation | None]
    smooths: list[LearnedSmooth]
    extra: dict[str, Any]
    index: pd.Index
    n_dropped: int
    frame: pd.DataFrame
    formula: str
    re_formula: str | None
    vc_formula: dict[str, str] | None
    effect_notes: tuple[str, ...]

    @property
    def written(self) -> dict[str, Any]:
        """What the data of a model keep of its formulas, by name."""
        return {
            "component_parts": self.vc or None,
            "groups_name": self.groups_name,
            "time_name": self.time_name,
            "frame": self.frame,
            "formula": self.formula,
            "re_formula": self.re_formula,
            "vc_formula": self.vc_formula,
            "effect_notes": self.effect_notes,
            "formula_spec": self.model_spec,
            "re_spec": self.re_spec,
        }

    @property
    def exog_names(self) -> list[str]:
        """Names of the fixed-effects columns."""
        return list(self.model_spec.column_names)

    @property
    def exog_re_names(self) -> list[str]:
        """Names of the random effects, the intercept under that of the groups."""
        if self.re_spec is None:
            return [] if self.exog_re is None else [self.groups_name]
        own = "Intercept" in self.re_spec.variables  # a column of the data
        renamed = {} if own else {"Intercept": self.groups_name}
        return [renamed.get(name, name) for name in self.re_spec.column_names]


def build_design(
    formula: str,
    data: object,
    *,
    groups: object = None,
    re_formula: str | None = None,
    vc_formula: Mapping[str, str] | None = None,
    time: object = None,
    series: object = None,
    offset: object = None,
    extra: Mapping[str, Any] | None = None,
    subset: object = None,
    missing: str = "none",
    eval_env: object = None,
    require_groups: bool = True,
    bars: Sequence[Bar] = (),
    smooths: Sequence[SmoothCall] = (),
    all_cells: bool = False,
) -> Design:
    """
    Evaluate the formulas of a model and align everything with their rows.

    Parameters
    ----------
    formula : str
        Response and fixed effects.
    data : DataFrame, dict of arrays or structured array
        The data, n rows.
    groups : str or array_like, optional
        Column (or level of the index) with group labels, or n labels.
    re_formula : str, optional
        Correlated random effects; None stands for a random intercept, or
        nothing if `vc_formula` is given; ``"0"`` for none.
    vc_formula : Mapping[str, str], optional
        Formulas of variance components.
    time : str or array_like, optional
        Times.
    series : str, array_like or list of str, optional
        Series inside the groups; several columns stand for their combinations.
    offset : str or array_like, optional
        Part of the mean whose coefficient is one.
    extra : Mapping[str, str or array_like], optional
        Further variables to keep aligned.
    subset : array_like, slice or str, optional
        Rows to use, as ``data.loc[subset]`` or ``data.query(subset)``.
    missing : {"none", "raise", "drop"}, optional
        Drop rows with missing values in a variable that is used, or raise.
    eval_env : Mapping[str, object], optional
        Variables and functions that the formulas may use.
    require_groups : bool, optional
        Raise if `groups` is None.
    bars : Sequence[Bar], optional
        Further random-effects terms.
    smooths : Sequence[SmoothCall], optional
        Smooths of covariates.
    all_cells : bool, optional
        Keep columns of combinations of levels that have no rows.

    Returns
    -------
    Design
        The aligned arrays.

    Raises
    ------
    UnknownColumnError
        If a column does not exist.
    LengthError
        If an array does not have one value for each row.
    MissingDataError
        If values are missing (unless they are to be dropped) or infinite.
    ResponseError
        If the response is not one numeric variable.
    EmptyDataError
        If no row is left.
    GroupError
        If groups are needed and not given, or cannot be sorted.
    MixedARError
        If a formula or an argument cannot be understood.
    """
    check_missing(missing)
    table = _checked_table(data, groups, require_groups or vc_formula is not None)
    namespace = as_namespace(eval_env)
    read = [call.read(table) for call in smooths]
    effects = [*(bar.effects for bar in bars), *(text for text, _ in read)]
    formulas = read_formulas(formula, re_formula, vc_formula, namespace, effects)
    columns = formula_columns(formulas.uses(), table, namespace)
    variables = row_variables(table, groups, time, series, offset)
    variables |= {f"factor {bar.name}": bar.variable(table) for bar in bars}
    labels = {f"smooth {c.label}": v for c, (_, v) in zip(smooths, read, strict=True)}
    variables |= {role: v for role, v in labels.items() if v is not None}
    variables |= further_variables(extra or {}, table)
    source = _Source(table, formulas, columns, variables, namespace, missing)
    start = None if subset is None else subset_rows(subset, table, namespace)
    rows, parts = source.aligned(source.complete(start))
    terms, covariates = parts.terms[: len(bars)], parts.terms[len(bars) :]
    parts, kept = replace(parts, terms=terms), source.taken(rows)
    parts = parts if all_cells else parts.without_empty_cells()
    values = {role: variable.values for role, variable in kept.items()}
    group = kept.get("groups")
    learned = learned_smooths(smooths, covariates, [values.get(r) for r in labels])
    if learned:
        parts = parts.with_smooths(learned, group)
    return Design(
        **vars(parts),
        **_of_rows(kept, values),
        bars=tuple(bars),
        factors=[values[f"factor {bar.name}"] for bar in bars],
        relations=[bar.relation(namespace) for bar in bars],
        extra={name: values[f"extra {name}"] for name in extra or {}},
        index=source.index(rows),
        n_dropped=len(table if start is None else start) - len(parts.endog),
        frame=table if rows is None else table.iloc[rows],
        smooths=learned,
        formula=formula,
        re_formula=re_formula,
        vc_formula=None if vc_formula is None else dict(vc_formula),
        effect_notes=component_notes(
            formulas, parts.vc, columns, group, alone=re_formula is None
        ),
    )


def _checked_table(data: object, groups: object, required: bool) -> pd.DataFrame:
    """The data as a table that has rows, and groups if they are required."""
    table = as_frame(data)
    if not len(table):
        raise EmptyDataError("The data have no rows.")
    if groups is None and required:
        raise GroupError(
            "groups= is missing: pass the name of the column with group labels."
        )
    return table


def _of_rows(
    kept: Mapping[str, RowVariable], values: Mapping[str, Any]
) -> dict[str, Any]:
    """What a design says of groups, times, series and offset."""
    group, when = kept.get("groups"), kept.get("time")
    named = group is not None and group.named
    return {
        "groups_name": str(kept["groups"].name) if named else "Group",
        "group_values": values.get("groups"),
        "time_name": None if when is None or when.name is None else str(when.name),
        **{role: values.get(role) for role in ("time", "series", "offset")},
    }


@dataclass(frozen=True)
class _Source:
    """Where the arrays of a model come from: all rows of the data."""

    table: pd.DataFrame
    formulas: ModelFormulas
    columns: Mapping[str, pd.Series]
    variables: Mapping[str, RowVariable]
    namespace: Mapping[str, Any]
    missing: str

    def index(self, rows: np.ndarray | None) -> pd.Index:
        """Labels of some rows; None for all."""
        return self.table.index if rows is None else self.table.index.take(rows)

    def taken(self, rows: np.ndarray | None) -> dict[str, RowVariable]:
        """The variables that are not in formulas, at some rows."""
        index = self.index(rows)
        return {role: v.take(rows, index) for role, v in self.variables.items()}

    def complete(self, rows: np.ndarray | None) -> np.ndarray | None:
        """Rows without missing values; raise if there are others to be kept."""
        direct = set().union(*(use.direct for use in self.formulas.uses()))
        # f(x) may deal with missing x: judge its result, unless rows go.
        masks = {
            f"{name!r}": column.isna().to_numpy()
            for name, column in self.columns.items()
            if self.missing == "drop" or name in direct
        }
        masks |= {v.label: v.missing() for v in self.variables.values()}
        if rows is not None:
            masks = {label: mask[rows] for label, mask in masks.items()}
        masks = {label: mask for label, mask in masks.items() if mask.any()}
        if not masks:
            return rows
        if self.missing != "drop":
            raise missing_error(masks.items(), self.index(rows), "Missing")
        complete = ~np.logical_or.reduce(list(masks.values()))
        return np.flatnonzero(complete) if rows is None else rows[complete]

    def aligned(self, rows: np.ndarray | None) -> tuple[np.ndarray | None, Evaluated]:
        """What the formulas give for the rows that are left, and these rows."""
        first: tuple[np.ndarray, Evaluated] | None = None
        while True:
            index = self.index(rows)
            if not len(index):
                raise EmptyDataError(
                    "Every row has a missing value in a variable, or in the result of "
                    "a formula, that the model uses."
                )
            columns = {k: take(c, rows, index) for k, c in self.columns.items()}
            store = ColumnStore(columns, index, list(self.table.columns))
            kept = self.taken(rows)
            parts = evaluate(self.formulas, store, kept.get("groups"), self.namespace)
            gaps = nan_rows([*parts.columns(), *_numeric(kept)], index)
            if gaps is None:
                return rows, parts
            if self.missing != "drop":
                raise self.explain(gaps, store)
            if first is not None and not parts.vc:
                # a lag has a new gap in whatever is left: keep the first evaluation
                return first
            # Levels and transforms must not see the rows that go: start again.
            rows = (np.arange(len(index)) if rows is None else rows)[~gaps]
            first = first or (rows, parts.without(gaps))

    def explain(self, gaps: np.ndarray, store: ColumnStore) -> Exception:
        """Name the columns behind rows that came out as NaN."""
        masks = {
            f"{name!r}": column.isna().to_numpy() & gaps
            for name, column in store.columns.items()
        }
        found = [(label, mask) for label, mask in masks.items() if mask.any()]
        uses = [use for use in self.formulas.uses() if use.functions]
        texts = dict.fromkeys(use.formula for use in uses)
        label = "the result of " + ", ".join(map(repr, texts))
        return missing_error(found or [(label, gaps)], store.index, "Missing")


def _numeric(kept: Mapping[str, RowVariable]) -> Iterator[tuple[str, np.ndarray]]:
    """Floating-point variables, which can be infinite."""
    for variable in kept.values():
        values = variable.values
        if isinstance(values, pd.Series):
            values = numeric_values(values)
        if getattr(values.dtype, "kind", "O") != "f":
            continue
        array = np.asarray(values)
        for column in array.T if array.ndim == 2 else [array]:
            yield variable.label, column


def evaluate(
    formulas: ModelFormulas,
    store: ColumnStore,
    group: RowVariable | None,
    namespace: Mapping[str, Any],
) -> Evaluated:
    """
    Evaluate the formulas of a model.

    Parameters
    ----------
    formulas : ModelFormulas
        The formulas.
    store : ColumnStore
        The columns they use.
    group : RowVariable or None
        Group labels; without them there are no random effects.
    namespace : Mapping[str, object]
        The caller's variables.

    Returns
    -------
    Evaluated
        The arrays; NaN where a value is missing.

    Raises
    ------
    ResponseError
        If the response is not one numeric variable.
    GroupError
        If the labels cannot be sorted.
    MixedARError
        If a formula cannot be evaluated.
    """
    endog, endog_name = response_of(formulas.left, store, namespace)
    spec, exog = fit_formula(formulas.right, store, namespace)
    re_spec, exog_re, components = None, None, []
    random = None if group is None else formulas.random
    if random is not None and random.formula == "1":
        exog_re = np.ones((len(endog), 1))
    elif random is not None:
        re_spec, exog_re = fit_formula(random, store, namespace)
        if not re_spec.column_names:
            re_spec, exog_re = None, None
    if formulas.components and group is not None:
        groups = GroupRows(*group_codes(group.values, group.label))
        components = [
            build_component(name, use, store, groups, namespace)
            for name, use in formulas.components.items()
        ]
    terms = [fit_formula(use, store, namespace) for use in formulas.terms]
    return Evaluated(endog, endog_name, exog, spec, exog_re, re_spec, components, terms)


def response_of(
    use: FormulaUse, store: ColumnStore, namespace: Mapping[str, Any]
) -> tuple[np.ndarray, str]:
    """The response as floats, and its name."""
    name = use.formula.strip("`")
    column = store.columns.get(name)
    if column is not None:
        column = numeric_values(column)
        kind = getattr(column.dtype, "kind", "O")
        if kind not in "iuf":
            raise ResponseError(
                f"The response {name!r} is of type {column.dtype}, not numeric; "
                f"{made_numeric(column, f'data[{name!r}]')}."
            )
        # A copy: the model does not change when the data do.
        return column.to_numpy(dtype=float, copy=True), name
    # The engine's own rule for a left-hand side: terms, no intercept.
    shown = use.formula
    inner = read_formula(f"0 + {shown}", namespace)
    spec, matrix = fit_formula(inner, store, namespace)
    if matrix.shape[1] != 1:
        raise ResponseError(
            f"The response {shown!r} gives {matrix.shape[1]} columns "
            f"({', '.join(spec.column_names[:4])}); it must be one numeric variable."
        )
    return np.ascontiguousarray(matrix[:, 0]), spec.column_names[0]
