"""
The formulas of one model: read them, find their columns, evaluate them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar.data.checks import group_codes
from mixedar.data.formula.columns import ColumnStore, numeric_values, table_column
from mixedar.data.formula.components import (
    GroupRows,
    VarianceComponent,
    build_component,
)
from mixedar.data.formula.names import FormulaUse, has_bar, read_formula, split_formula
from mixedar.data.formula.spec import FormulaSpec, fit_formula
from mixedar.data.rows import RowVariable, resolve
from mixedar.exceptions import MixedARError, ResponseError, UnsupportedError


@dataclass(frozen=True)
class ModelFormulas:
    """The formulas of a model, read."""

    left: FormulaUse
    right: FormulaUse
    random: FormulaUse | None
    components: dict[str, FormulaUse]

    def uses(self) -> list[FormulaUse]:
        """All formulas, the response first."""
        parts = [self.left, self.right, self.random, *self.components.values()]
        return [use for use in parts if use is not None]


def read_formulas(
    formula: str,
    re_formula: str | None,
    vc_formula: Mapping[str, str] | None,
    namespace: Mapping[str, Any],
) -> ModelFormulas:
    """
    Read the formulas of a model.

    Parameters
    ----------
    formula : str
        Two-sided formula.
    re_formula : str or None
        Random effects.
    vc_formula : Mapping[str, str] or None
        Variance components.
    namespace : Mapping[str, object]
        The caller's variables.

    Returns
    -------
    ModelFormulas
        How they use names; components sorted.

    Raises
    ------
    ResponseError
        If there is no response.
    UnsupportedError
        If another formula is two-sided.
    MixedARError
        If a formula is not a string, or `vc_formula` not a dict.
    """
    left, right = split_formula(formula)
    if left is None:
        raise ResponseError(
            f"The formula {formula!r} has no response; write 'y ~ {right or 'x'}'."
        )
    if vc_formula is not None and not isinstance(vc_formula, Mapping):
        raise MixedARError(
            "vc_formula must be a dict of formulas, such as "
            "{'classroom': '0 + C(classroom)'}."
        )
    one_sided = {"re_formula": re_formula, **dict(vc_formula or {})}
    for key, text in one_sided.items():
        if text is not None and split_formula(text)[0] is not None:
            raise UnsupportedError(f"{key}: the formula {text!r} must be one-sided.")
    vc = dict(vc_formula or {})
    for key, text in {"formula": right, **one_sided}.items():
        if text is not None and has_bar(text):
            raise UnsupportedError(
                f"{key}: the formula {text!r} has a bar, as lme4 and nlme write "
                "groups; here groups= names the groups and re_formula='~t' the random "
                "effects (inside I() a bar is Python's 'or')"
            )
    return ModelFormulas(
        read_formula(left, namespace),
        read_formula(right, namespace),
        None if re_formula is None else read_formula(re_formula, namespace),
        {key: read_formula(vc[key], namespace) for key in sorted(vc)},
    )


def formula_columns(
    uses: Sequence[FormulaUse], table: pd.DataFrame, namespace: Mapping[str, Any]
) -> dict[str, pd.Series]:
    """Columns that the formulas name, in the order of the data."""
    names = set().union(*(use.names for use in uses))
    known = set(table.columns) | set(table.index.names)
    found = {name: table_column(table, name) for name in sorted(names & known)}
    direct = set().union(*(use.direct for use in uses)) - known
    for name in sorted(direct & set(namespace)):
        # A variable of the caller with one value a row is as good as a column.
        value = namespace[name]
        if isinstance(value, (np.ndarray, pd.Series)) and value.shape == (len(table),):
            found[name] = resolve(name, value, table).values.rename(name)
    return found


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


def random_part(
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
