"""
From formulas and a DataFrame to aligned arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixedar.data.checks import (
    check_missing,
    group_codes,
    missing_error,
    nan_rows,
    subset_rows,
)
from mixedar.data.formula.columns import ColumnStore, numeric_values, take
from mixedar.data.formula.components import (
    GroupRows,
    VarianceComponent,
    build_component,
    vc_spec,
)
from mixedar.data.formula.names import (
    FormulaUse,
    ModelFormulas,
    as_namespace,
    formula_columns,
    read_formula,
    read_formulas,
)
from mixedar.data.formula.spec import FormulaSpec, fit_formula
from mixedar.data.rows import RowVariable, as_frame, combine, resolve
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
    MixedARError,
    ResponseError,
)


@dataclass(frozen=True)
class Design:
    """
    Arrays of a model, in the caller's row order.

    Attributes
    ----------
    endog : ndarray, (n,)
        Response.
    endog_name : str
        Its name.
    exog : ndarray, (n, p)
        Fixed-effects design.
    exog_names : list[str]
        Names of its columns.
    model_spec : FormulaSpec
        Builds `exog` for new data.
    exog_re : ndarray, (n, q), or None
        Random-effects design; None if there are no correlated random effects.
    exog_re_names : list[str]
        Names of its columns, the intercept under the name of the groups.
    re_spec : FormulaSpec or None
        Builds `exog_re` for new data; None also for plain intercepts.
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
    series_name : str or None
        Its name.
    vc : list[VarianceComponent]
        Variance components, sorted by name.
    extra : dict[str, pandas.Series or ndarray]
        Further variables; arrays if they have two dimensions.
    index : pandas.Index
        Labels of the rows kept.
    rows : ndarray of int or None
        Positions of the rows kept in the data; None when that is all of them.
    n_dropped : int
        Rows dropped because of missing values (not by ``subset``).
    data : pandas.DataFrame
        The data as given.
    formula, re_formula, vc_formula : str, str or None, dict or None
        The formulas.
    vc_use_sparse : bool
        Whether :meth:`vc_spec` gives sparse matrices.
    """

    endog: np.ndarray
    endog_name: str
    exog: np.ndarray
    exog_names: list[str]
    model_spec: FormulaSpec
    exog_re: np.ndarray | None
    exog_re_names: list[str]
    re_spec: FormulaSpec | None
    groups_name: str
    group_values: pd.Series | None
    time: pd.Series | None
    time_name: str | None
    series: pd.Series | None
    series_name: str | None
    index: pd.Index
    rows: np.ndarray | None
    data: pd.DataFrame
    re_formula: str | None
    vc_formula: dict[str, str] | None
    vc: list[VarianceComponent]
    extra: dict[str, Any]
    n_dropped: int = 0
    formula: str = ""
    vc_use_sparse: bool = False

    @cached_property
    def groups(self) -> np.ndarray | None:
        """Group labels as an array, (n,); None without groups."""
        return None if self.group_values is None else np.asarray(self.group_values)

    @cached_property
    def kept(self) -> np.ndarray:
        """Positions of the rows kept in the data, (n,)."""
        return np.arange(len(self.endog)) if self.rows is None else self.rows

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The rows of the data that are used; the data itself if that is all."""
        return self.data if self.rows is None else self.data.iloc[self.rows]

    def vc_spec(self) -> Any:
        """The components in statsmodels' form (``VCSpec``), matrices made on access."""
        return vc_spec(self.vc, self.vc_use_sparse)


def build_design(
    formula: str,
    data: Any,
    *,
    groups: Any = None,
    re_formula: str | None = None,
    vc_formula: Mapping[str, str] | None = None,
    time: Any = None,
    series: Any = None,
    extra: Mapping[str, Any] | None = None,
    subset: Any = None,
    missing: str = "none",
    eval_env: Any = None,
    vc_use_sparse: bool = False,
    require_groups: bool = True,
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
    extra : Mapping[str, str or array_like], optional
        Further variables to keep aligned.
    subset : array_like or slice, optional
        Rows to use, as ``data.loc[subset]``.
    missing : {"none", "raise", "drop"}, optional
        Drop rows with missing values in a variable that is used, or raise.
    eval_env : Mapping[str, object], optional
        Variables and functions that the formulas may use.
    vc_use_sparse : bool, optional
        Passed on to :meth:`Design.vc_spec`.
    require_groups : bool, optional
        Raise if `groups` is None.

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
    table = as_frame(data)
    if not len(table):
        raise EmptyDataError("The data have no rows.")
    if groups is None and require_groups:
        raise GroupError(
            "groups= is missing: pass the name of the column with group labels."
        )
    if vc_formula is not None and groups is None:
        raise GroupError("vc_formula= needs groups=.")
    namespace = as_namespace(eval_env)
    formulas = read_formulas(formula, re_formula, vc_formula, namespace)
    source = _Source(
        table,
        formulas,
        formula_columns(formulas.uses(), table, namespace),
        _row_variables(table, groups, time, series, extra),
        namespace,
        missing,
    )
    start = None if subset is None else subset_rows(subset, table.index)
    rows, parts = source.aligned(source.complete(start))
    design = _assembled(source, rows, parts, re_formula, vc_formula)
    return replace(
        design,
        n_dropped=len(table if start is None else start) - len(design.index),
        formula=formula,
        extra={key: design.extra[f"extra {key}"] for key in extra or {}},
        vc_use_sparse=vc_use_sparse,
    )


def _assembled(
    source: _Source,
    rows: np.ndarray | None,
    parts: Evaluated,
    re_formula: str | None,
    vc_formula: Mapping[str, str] | None,
) -> Design:
    """The design of the rows that are left."""
    index = source.table.index if rows is None else source.table.index.take(rows)
    kept = source.taken(rows, index)
    group = kept.get("groups")
    group_name = str(group.name) if group is not None and group.named else "Group"
    exog_re, re_names, re_spec = _random_part(parts, re_formula, vc_formula, group_name)
    values = {key: variable.values for key, variable in kept.items()}
    names = {k: str(v.name) for k, v in kept.items() if v.name is not None}
    return Design(
        endog=parts.endog,
        endog_name=parts.endog_name,
        exog=parts.exog,
        exog_names=list(parts.spec.column_names),
        model_spec=parts.spec,
        exog_re=exog_re if group is not None else None,
        exog_re_names=re_names if group is not None else [],
        re_spec=re_spec,
        groups_name=group_name,
        group_values=values.get("groups"),
        time=values.get("time"),
        time_name=names.get("time"),
        series=values.get("series"),
        series_name=names.get("series"),
        index=index,
        rows=rows,
        data=source.table,
        re_formula=re_formula,
        vc_formula=None if vc_formula is None else dict(vc_formula),
        vc=parts.components,
        extra=values,
    )


@dataclass(frozen=True)
class _Source:
    """Where the arrays of a model come from: all rows of the data."""

    table: pd.DataFrame
    formulas: ModelFormulas
    columns: Mapping[str, pd.Series]
    variables: Mapping[str, RowVariable]
    namespace: Mapping[str, Any]
    missing: str

    def taken(self, rows: np.ndarray | None, index: pd.Index) -> dict[str, RowVariable]:
        """The variables that are not in formulas, at some rows."""
        return {key: v.take(rows, index) for key, v in self.variables.items()}

    def complete(self, rows: np.ndarray | None) -> np.ndarray | None:
        """Rows without missing values; raise if there are others to be kept."""
        direct = set().union(*(use.direct for use in self.formulas.uses()))
        masks: dict[str, np.ndarray] = {}
        for name, column in self.columns.items():
            # f(x) may deal with missing x: judge its result, unless rows go.
            if self.missing == "drop" or name in direct:
                masks[f"{name!r}"] = column.isna().to_numpy()
        for variable in self.variables.values():
            masks[variable.label] = variable.missing()
        if rows is not None:
            masks = {label: mask[rows] for label, mask in masks.items()}
        masks = {label: mask for label, mask in masks.items() if mask.any()}
        if not masks:
            return rows
        index = self.table.index if rows is None else self.table.index.take(rows)
        if self.missing != "drop":
            raise missing_error(masks.items(), index, "Missing")
        complete = ~np.logical_or.reduce(list(masks.values()))
        return np.flatnonzero(complete) if rows is None else rows[complete]

    def aligned(self, rows: np.ndarray | None) -> tuple[np.ndarray | None, Evaluated]:
        """What the formulas give for the rows that are left, and these rows."""
        first: tuple[np.ndarray, Evaluated] | None = None
        while True:
            index = self.table.index if rows is None else self.table.index.take(rows)
            if not len(index):
                raise EmptyDataError(
                    "Every row has a missing value in a variable, or in the result of "
                    "a formula, that the model uses."
                )
            columns = {
                k: take(column, rows, index) for k, column in self.columns.items()
            }
            store = ColumnStore(columns, index, list(self.table.columns))
            kept = self.taken(rows, index)
            parts = evaluate(self.formulas, store, kept.get("groups"), self.namespace)
            gaps = nan_rows([*parts.columns(), *_numeric(kept)], index)
            if gaps is None:
                return rows, parts
            if self.missing != "drop":
                raise self.explain(gaps, store)
            if first is not None and not parts.components:
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


def _row_variables(
    table: pd.DataFrame,
    groups: Any,
    time: Any,
    series: Any,
    extra: Mapping[str, Any] | None,
) -> dict[str, RowVariable]:
    given = {"groups": groups, "time": time, "series": series}
    found = {}
    for role, value in given.items():
        if value is None:
            continue
        if _is_name_list(value, table):
            parts = [resolve(role, each, table) for each in value]
            found[role] = combine(role, parts, table.index)
        else:
            found[role] = resolve(role, value, table)
        if np.ndim(found[role].values) != 1:
            raise MixedARError(f"{role}= must have one dimension.")
    for key, value in (extra or {}).items():
        found[f"extra {key}"] = resolve(key, value, table)
    return found


def _is_name_list(value: Any, table: pd.DataFrame) -> bool:
    """Whether a list holds column names rather than one label a row."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    if not all(isinstance(each, str) for each in value):
        return False
    known = {*table.columns, *table.index.names}
    return len(value) != len(table) or all(each in known for each in value)


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


@dataclass(frozen=True)
class Evaluated:
    """What the formulas evaluate to."""

    endog: np.ndarray
    endog_name: str
    exog: np.ndarray
    spec: FormulaSpec
    exog_re: np.ndarray | None
    re_spec: FormulaSpec | None
    components: list[VarianceComponent]

    def without(self, gone: np.ndarray) -> Evaluated:
        """The same arrays less some rows, shape (n,) of bool; no components."""
        keep = ~gone
        return replace(
            self,
            endog=self.endog[keep],
            exog=self.exog[keep],
            exog_re=None if self.exog_re is None else self.exog_re[keep],
        )

    def columns(self) -> Iterator[tuple[str, np.ndarray]]:
        """All numeric columns with their labels."""
        yield f"{self.endog_name!r}", self.endog
        blocks = [(self.spec, self.exog)]
        if self.re_spec is not None and self.exog_re is not None:
            blocks.append((self.re_spec, self.exog_re))
        for spec, matrix in blocks:
            for j, name in enumerate(spec.column_names):
                yield f"{name!r}", matrix[:, j]
        for part in self.components:
            if part.matrix is not None:
                for j in range(part.matrix.shape[1]):
                    label = f"{part.name!r} of vc_formula"
                    yield label, part.matrix[:, j]


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
        Group labels; needed for variance components.
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
    endog, endog_name = _response(formulas.left, store, namespace)
    spec, exog = fit_formula(formulas.right, store, namespace)
    re_spec, exog_re = None, None
    if formulas.random is not None and formulas.random.formula != "1":
        re_spec, exog_re = fit_formula(formulas.random, store, namespace)
    components = []
    if formulas.components and group is not None:
        groups = GroupRows(*group_codes(group.values, group.label))
        components = [
            build_component(key, use.formula, store, groups, namespace)
            for key, use in formulas.components.items()
        ]
    return Evaluated(endog, endog_name, exog, spec, exog_re, re_spec, components)


def _response(
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
                f"The response {name!r} is of type {column.dtype}, not "
                "numeric; convert it, for example with .astype(float)."
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


def _random_part(
    parts: Evaluated,
    re_formula: str | None,
    vc_formula: Mapping[str, str] | None,
    group_name: str,
) -> tuple[np.ndarray | None, list[str], FormulaSpec | None]:
    """Random-effects design, its names, and its specification."""
    if parts.re_spec is not None and parts.exog_re is not None:
        if not parts.re_spec.column_names:
            return None, [], None
        names = [
            name.replace("Intercept", group_name) for name in parts.re_spec.column_names
        ]
        return parts.exog_re, names, parts.re_spec
    if re_formula is None and vc_formula is not None:
        return None, [], None
    return np.ones((len(parts.endog), 1)), [group_name], None
