"""
The data of a model as its fits, predictions and diagnostics read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.data.checks import apart
from mixedar.data.component_columns import ComponentColumns
from mixedar.data.formula import FormulaSpec, VarianceComponent
from mixedar.data.random_terms import RandomTerm, held_entries, relation_notes
from mixedar.data.residual_model import data_layout, row_positions
from mixedar.data.rows import Levels
from mixedar.engine.compress import ClusterRows, compress
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.residuals import needs_matrices
from mixedar.engine.rows import GroupedRows
from mixedar.hypotheses.df import (
    constant_within,
    containment_df,
    is_nested,
    nested_levels,
)
from mixedar.numeric.moments import Moments
from mixedar.residual import ResidualStructure
from mixedar.residual.matrix import bind_to
from mixedar.residual.variance.base import FITTED

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class ModelData:
    """
    Rows and designs of a model, checked, in the caller's order.

    Attributes
    ----------
    endog : ndarray, shape (n,)
    exog : ndarray, shape (n, p)
    exog_re : ndarray, shape (n, k_re), or None
        Columns of the correlated random effects.
    components : ComponentColumns
        Columns of the variance components.
    component_parts : sequence of VarianceComponent or None
        The components that formulas gave; they encode new rows.
    component_columns : sequence of sequence of sequence of str
        Names of the columns, by component and group.
    codes : ndarray of int, shape (n,)
        Group numbers 0 ... m - 1.
    grouped : GroupedRows
        The rows sorted by group, series and time, and the way back.
    residual : ResidualStructure
        Bound to the data.
    covariate_levels : tuple of Levels or None
        Occasions and strata that the structure reads.
    group_labels : list
        One a group.
    groups : array_like, shape (n,)
        As given.
    time, series : array_like, shape (n,), or None
        As given.
    delta : number, str, duration or None
        The unit of time that was asked for.
    time_unit : str
    time_step : float
        How many units of the times' own scale that is.
    occasion_order : str
        The order of the occasions in words, if times could have others.
    residual_data : mapping of str to array_like
        The columns that the structure reads.
    variance_specs : mapping of str to FormulaSpec
        Formulas of the variance function.
    endog_name, groups_name : str
    time_name : str or None
    exog_names, random_names, component_names : list of str
    cov_names : list of str
        Of the covariances of random effects, then of the variance components.
    weighted : bool
        Whether a variance function was asked for.
    index : Index or None
        Labels of the rows.
    frame : DataFrame or None
        The rows used, all columns, of a model from a formula.
    formula, re_formula : str or None
    vc_formula : mapping of str to str, or None
    effect_notes : tuple of str
        On random effects that may have been meant otherwise.
    formula_spec, re_spec : FormulaSpec or None
        Build the designs of new rows.
    re_cov : str
        ``"unstructured"``, ``"diagonal"`` or ``"compound"``.
    scale : float or None
        The residual variance, if it is known.
    offset : ndarray, shape (n,), or None
        Part of the mean whose coefficient is one.
    offset_name : str or None
    terms : tuple of RandomTerm
        Random effects of other factors than the groups.
    """

    endog: FloatArray
    exog: FloatArray
    exog_re: FloatArray | None
    components: ComponentColumns
    component_columns: Sequence[Sequence[Sequence[str]]]
    codes: IntArray
    grouped: GroupedRows
    residual: ResidualStructure
    group_labels: list[Any]
    groups: Any
    time: Any
    series: Any
    delta: object
    residual_data: Mapping[str, Any]
    variance_specs: Mapping[str, FormulaSpec]
    endog_name: str
    exog_names: list[str]
    random_names: list[str]
    component_names: list[str]
    cov_names: list[str]
    weighted: bool
    index: pd.Index | None
    re_cov: str
    scale: float | None
    offset: FloatArray | None
    offset_name: str | None
    terms: tuple[RandomTerm, ...]
    # Found with the residual structure.
    covariate_levels: tuple[Levels | None, ...] = ()
    time_unit: str = ""
    time_step: float = 1.0
    occasion_order: str = ""
    # Of a model from formulas.
    component_parts: Sequence[VarianceComponent] | None = None
    groups_name: str = "Group"
    time_name: str | None = None
    frame: pd.DataFrame | None = None
    formula: str | None = None
    re_formula: str | None = None
    vc_formula: Mapping[str, str] | None = None
    effect_notes: tuple[str, ...] = ()
    formula_spec: FormulaSpec | None = None
    re_spec: FormulaSpec | None = None

    @property
    def nobs(self) -> int:
        """Number of observations."""
        return len(self.endog)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.group_labels)

    @property
    def group_index(self) -> pd.Index:
        """Labels of the groups; tuples are labels too."""
        return pd.Index(self.group_labels, name=self.groups_name, tupleize_cols=False)

    @property
    def row_index(self) -> pd.Index:
        """Labels of the rows; their numbers if they have none."""
        return pd.RangeIndex(self.nobs) if self.index is None else self.index

    @property
    def notes(self) -> tuple[str, ...]:
        """What may have been meant otherwise."""
        order = self.occasion_order
        if self.takes_row_order:
            order = (
                "No time= was given: the residuals take the order of the rows for time."
            )
        notes = (*self.effect_notes, *relation_notes(self.terms))
        return (*notes, order) if order else notes

    @property
    def response(self) -> FloatArray:
        """The response less its offset, shape (n,)."""
        return self.endog if self.offset is None else self.endog - self.offset

    @property
    def moments(self) -> Moments:
        """Of the columns of fixed effects and smooths, the offset, and the response."""
        offset = np.zeros(self.nobs) if self.offset is None else self.offset
        return Moments.of([self.exog, self.smooth_design, offset, self.response])

    def mean(self, beta: FloatArray) -> FloatArray:
        """``X beta``, and the offset if there is one, shape (n,)."""
        fixed = np.asarray(self.exog @ beta)
        return fixed if self.offset is None else fixed + self.offset

    @property
    def k_fe(self) -> int:
        """Number of fixed effects."""
        return self.exog.shape[1]

    @property
    def k_re(self) -> int:
        """Number of correlated random effects."""
        return 0 if self.exog_re is None else self.exog_re.shape[1]

    @property
    def k_vc(self) -> int:
        """Number of variance components."""
        return len(self.component_names)

    @property
    def takes_row_order(self) -> bool:
        """Whether the residual structure reads times, and rows stand for them."""
        residual = self.residual
        occasions = any(m.kind == "level" and m.column is None for m in residual.marks)
        return self.time is None and (residual.uses_time or occasions)

    @cached_property
    def random_design(self) -> FloatArray:
        """All random-effects columns, shape (n, q)."""
        parts = [] if self.exog_re is None else [self.exog_re]
        parts += self.components.matrices
        if not parts:
            return np.empty((self.nobs, 0))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "random_design"}

    @property
    def param_names(self) -> list[str]:
        """Names of all parameters but the residual variance."""
        fixed = self.exog_names
        return [
            *fixed,
            *apart(self.cov_names, fixed, "covariance"),
            *apart(self.residual.param_names, fixed, "residual"),
            *(name for term in self.terms for name in term.between_names),
        ]

    @property
    def effect_labels(self) -> list[tuple[str, str]]:
        """Factor and name of every random effect, in the order of the parameters."""
        own = list(self.random_names)
        if self.re_spec is not None:
            own = list(self.re_spec.column_names)
        elif own == [self.groups_name]:
            own = ["Intercept"]
        out = [(self.groups_name, name) for name in own]
        out += [(name, "") for name in self.component_names]
        return out + [(t.factor, name) for t in self.terms for name in t.effects]

    @property
    def factor_terms(self) -> tuple[RandomTerm, ...]:
        """The further terms that belong to a factor, and are no smooths of all rows."""
        return tuple(term for term in self.terms if not term.shared)

    @property
    def has_shared_smooths(self) -> bool:
        """Whether there are smooths of all rows with coefficients that vary."""
        return any(term.shared for term in self.terms)

    @property
    def has_smooths(self) -> bool:
        """Whether there are smooths of all rows, of levels or of groups."""
        terms = [term.smooth for term in self.terms]
        components = [part.smooth for part in self.component_parts or ()]
        return any(smooth is not None for smooth in (*terms, *components))

    @property
    def smooth_design(self) -> FloatArray:
        """Columns of the smooths' coefficients, shape (n, q)."""
        parts = [term.design for term in self.terms if term.shared]
        return np.concatenate([np.empty((self.nobs, 0)), *parts], axis=1)

    @property
    def crosses_factors(self) -> bool:
        """Whether groups and the levels of another factor cross."""
        codes = self.codes
        return not all(
            is_nested(codes, term.codes) or is_nested(term.codes, codes)
            for term in self.factor_terms
        )

    @cached_property
    def df_containment(self) -> FloatArray:
        """Containment degrees of freedom of the fixed effects, shape (p,)."""
        factors = [term.codes for term in self.factor_terms]
        levels = nested_levels(self.codes, self.components.levels, factors)
        random = self.k_re + self.k_vc + len(factors) > 0
        return containment_df(self.exog, levels, random)

    @cached_property
    def constant_columns(self) -> BoolArray:
        """Which columns of the fixed effects vary in no group, shape (p,)."""
        return constant_within(self.exog, self.codes)

    @cached_property
    def group_sizes(self) -> IntArray:
        """Number of rows of each group, shape (m,)."""
        return self.grouped.sizes

    @property
    def has_rows(self) -> bool:
        """Whether the rows are there."""
        return True

    @property
    def reference(self) -> pd.DataFrame | None:
        """Rows whose means, ranges and levels are those of the data."""
        return self.frame

    @property
    def first_groups(self) -> ModelData:
        """The data of the first groups, or of more."""
        return self

    @property
    def smallest_group(self) -> int:
        """Rows of the smallest group."""
        return int(self.group_sizes.min())

    @property
    def largest_group(self) -> int:
        """Rows of the largest group."""
        return int(self.group_sizes.max())

    @property
    def response_range(self) -> float:
        """Largest less smallest response."""
        return float(np.ptp(self.endog))

    def layout(self, fixed: FloatArray | None = None) -> RandomCovariance:
        """
        Which entries of the random-effects factor are estimated.

        Parameters
        ----------
        fixed : ndarray, shape (k_cov,), optional
            Values of entries that are held, NaN for the free ones.

        Returns
        -------
        RandomCovariance
        """
        terms = tuple(term.layout for term in self.terms)
        layout = RandomCovariance.free(
            self.k_re,
            self.components.sizes,
            terms,
            compound=self.re_cov == "compound" and self.k_re > 1,
        )
        values = layout.fixed.copy()
        if fixed is not None:
            values[: len(fixed)] = fixed
        if self.terms:
            values[layout.k_groups :] = held_entries(self.terms)
        if self.re_cov == "diagonal":
            rows, columns = layout.tril
            values[: len(rows)][rows != columns] = 0.0
        return replace(layout, fixed=values)

    def with_fitted(self, fitted: FloatArray, *, rebind: bool) -> Self:
        """
        The same rows with fitted values that the variance function reads.

        Parameters
        ----------
        fitted : ndarray, shape (n,)
        rebind : bool
            Whether the structure learns the range of its covariates anew.

        Returns
        -------
        ModelData
        """
        old = self.grouped
        assert old.marks is not None
        covariates = old.marks.copy()
        for k, mark in enumerate(self.residual.marks):
            if mark.column == FITTED:
                covariates[:, k] = old.sort(fitted)
        grouped = GroupedRows(old.order, old.offsets, old.gaps, covariates)
        residual = self.residual
        if rebind:
            residual = bind_to(residual, data_layout(grouped, self.covariate_levels))
        return self.changed(grouped=grouped, residual=residual)

    def with_residual(
        self,
        structure: ResidualStructure,
        columns: Mapping[str, Any],
        specs: Mapping[str, FormulaSpec],
        relatives: Iterable[ModelData] = (),
    ) -> Self:
        """
        The same rows with another residual structure.

        Parameters
        ----------
        structure : ResidualStructure
            Not bound yet.
        columns : mapping of str to array_like
            What it reads, for these rows.
        specs : mapping of str to FormulaSpec
            Formulas of its variance function.
        relatives : iterable of ModelData
            Data of the same rows; the sums of one whose rows look the same to the
            structure are shared.

        Returns
        -------
        ModelData
        """
        read = dict(columns)
        if reads_fitted(structure):
            read[FITTED] = self._first_fitted()
        found = row_positions(
            structure,
            self.codes,
            self.group_labels,
            self.time,
            self.series,
            read,
            self.delta,
        )
        layout = data_layout(found.grouped, found.covariate_levels)
        other = self.changed(
            **vars(found),
            residual=bind_to(structure, layout),
            residual_data=columns,
            variance_specs=specs,
        )
        for relative in relatives:
            if relative.grouped.looks_like(found.grouped):
                other = other.changed(grouped=relative.grouped)
                other.__dict__["compressed"] = relative.compressed
                break
        return other

    def _first_fitted(self) -> FloatArray:
        """Least squares, and the groups' mean residuals; shape (n,)."""
        beta = np.linalg.lstsq(self.exog, self.response, rcond=None)[0]
        fitted = self.mean(np.asarray(beta, dtype=np.float64))
        if self.k_re or self.k_vc:
            rest = np.bincount(self.codes, self.endog - fitted)
            fitted = fitted + (rest / np.bincount(self.codes))[self.codes]
        return np.asarray(fitted)

    @cached_property
    def compressed(self) -> ClusterRows:
        """What the likelihood needs of the rows."""
        grouped = self.grouped
        return compress(
            grouped.sort(self.random_design),
            grouped.sort(self.exog),
            grouped.sort(self.response),
            grouped.gaps,
            self._cluster_offsets,
            grouped.marks,
            tuple(term.rows(grouped) for term in self.terms),
        )

    @property
    def _cluster_offsets(self) -> IntArray:
        """First sorted row of each cluster of dependent rows, and the end."""
        grouped = self.grouped
        if self.random_design.shape[1] or not needs_matrices(self.residual):
            return grouped.offsets
        # nothing but their residuals binds rows together
        starts = np.flatnonzero(grouped.first_of_series)
        return np.append(starts, len(grouped.gaps))

    def clusters(self, responses: FloatArray) -> ClusterRows:
        """
        All rows, with many responses in the place of one.

        Parameters
        ----------
        responses : ndarray, shape (n, b)
            In the caller's row order, the offset taken off.

        Returns
        -------
        ClusterRows
        """
        grouped, offsets = self.grouped, self._cluster_offsets
        w = np.concatenate([self.exog, responses], axis=1)
        return ClusterRows(
            grouped.sort(self.random_design),
            grouped.sort(w),
            grouped.gaps,
            offsets,
            np.ones(len(offsets) - 1),
            grouped.marks,
        )

    def changed(self, **changes: Any) -> Self:
        """The same rows and effects with other values of some attributes."""
        other = replace(self, **changes)
        # for all that share them, computed once
        other.__dict__["random_design"] = self.random_design
        other.__dict__["df_containment"] = self.df_containment
        if "compressed" in self.__dict__ and not changes.keys() & {"endog", "grouped"}:
            other.__dict__["compressed"] = self.compressed
        return other

    def effect_columns(self, group: int) -> tuple[list[int], list[str]]:
        """Random-effects columns that exist in a group, and their names."""
        columns, names = list(range(self.k_re)), list(self.random_names)
        first = self.k_re
        for j, name in enumerate(self.component_names):
            labels = self.component_labels(j, group)
            columns.extend(range(first, first + len(labels)))
            names.extend(f"{name}[{label}]" for label in labels)
            first += self.components.sizes[j]
        return columns, names

    def component_labels(self, component: int, group: int) -> list[str]:
        """Names of the columns of a component in a group."""
        if self.component_parts is not None:
            return self.component_parts[component].column_names(group)
        return list(self.component_columns[component][group])


def reads_fitted(structure: ResidualStructure) -> bool:
    """Whether the residuals' variance depends on the fitted values."""
    return any(mark.column == FITTED for mark in structure.marks)
