"""
Rows of other groups, as the data of a model: encoded by what it has learned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.data.checks import check_finite, group_codes
from mixedar.data.encode import Encoder, check_steps, combined_numbers
from mixedar.data.formula import FormulaSpec
from mixedar.data.formula.names import read_formula, split_formula
from mixedar.data.model_data import ModelData
from mixedar.data.occasions import times_together
from mixedar.data.reading import UsedRows, check_no_missing
from mixedar.data.residual_model import change_of_stratum
from mixedar.data.rows import count_within
from mixedar.engine.rows import GroupedRows, group_rows
from mixedar.exceptions import (
    DuplicateTimeError,
    MissingDataError,
    StructureError,
    UnsupportedError,
    shown,
)


def sorted_rows(
    data: ModelData,
    encoder: Encoder,
    table: pd.DataFrame,
    codes: IntArray,
    n_groups: int,
) -> GroupedRows:
    """
    New rows as the residual structure sees them.

    Parameters
    ----------
    data : ModelData
    encoder : Encoder
    table : DataFrame, k rows
    codes : ndarray of int, shape (k,)
        Numbers of their groups, 0 ... n_groups - 1.
    n_groups : int

    Returns
    -------
    GroupedRows

    Raises
    ------
    TimeError, StructureError
        If times or strata do not suit the fit.
    """
    structure = encoder.structure
    times, series, inside = None, codes, None
    labels = encoder.series_labels(None, table)
    if labels is not None:
        inside = np.asarray(labels.factorize()[0], dtype=np.intp)
        series = combined_numbers(codes, labels)
    timed = structure.uses_time and structure.needs_distinct_times
    if timed and encoder.has_time:
        column = encoder.time_column(None, table)
        name = str(encoder.columns["time"])
        times = times_together(data.time, column, data.residual, name)[1]
        times = times / data.time_step
    covariates = None
    if structure.marks:
        covariates = encoder.row_covariates(
            table, slice(None), None, lambda: count_within(series)
        )
        levels = [m.kind == "level" and m.column is None for m in structure.marks]
        if any(levels) and not structure.uses_time:
            times = covariates[:, levels.index(True)]  # occasions stand for the time
    grouped = group_rows(codes, times, inside, n_groups)
    if timed and encoder.has_time and structure.integer_time:
        check_steps(data, grouped.unsort(np.nan_to_num(grouped.gaps)), column)
    if not structure.needs_distinct_times:
        grouped = replace(grouped, gaps=np.zeros(len(codes)))
    twins = grouped.duplicate()
    if twins is not None:
        one, other = (shown(table.index[k]) for k in twins)
        raise DuplicateTimeError(
            f"rows {one} and {other} of the new rows have the same group and time; "
            f"{structure.label} needs one observation for each time"
        )
    if covariates is None:
        return grouped
    grouped = replace(grouped, marks=grouped.sort(covariates))
    change = change_of_stratum(structure, grouped)
    if change is not None:
        k, i = change
        row = i if grouped.order is None else int(grouped.order[i])
        raise StructureError(
            f"{structure.marks[k].column!r} changes within a series at row "
            f"{shown(table.index[row])} of the new rows; correlations by stratum need "
            "strata that are constant within a series"
        )
    return grouped


@dataclass(frozen=True)
class RowReader:
    """
    Reads rows of a table as rows of a model.

    Attributes
    ----------
    data : ModelData
        Of the rows of which the model has learned.
    encoder : Encoder
        Of these.
    key : str
        Column of the groups.
    columns : tuple of str
        All that is read.
    rows : UsedRows
    """

    data: ModelData
    encoder: Encoder
    key: str
    columns: tuple[str, ...]
    rows: UsedRows

    @classmethod
    def of(cls, data: ModelData) -> RowReader:
        """
        The reader of a model by formulas.

        Raises
        ------
        UnsupportedError
            If groups share more than fixed effects.
        """
        spec = data.formula_spec
        if data.terms or data.component_names or spec is None or data.formula is None:
            raise UnsupportedError(
                "other rows beside a fit are those of models by formulas with random "
                "effects of one factor; predict them with get_prediction"
            )
        encoder, left = Encoder.of(data), split_formula(data.formula)[0]
        response = read_formula(left or "", spec.namespace)
        specs = [spec, data.re_spec, *data.variance_specs.values()]
        inside = [name for one in specs if one is not None for name in one.variables]
        named = [name for name in encoder.columns.values() if name is not None]
        marks = [mark.column for mark in data.residual.marks]
        known = set() if data.frame is None else set(data.frame.columns)
        read = [*response.names, *inside, *named, *marks]
        columns = [name for name in dict.fromkeys(read) if name in known]
        rows = UsedRows(response, (), None, spec.namespace)
        return cls(data, encoder, data.groups_name, tuple(columns), rows)

    def read(self, table: pd.DataFrame) -> ModelData | None:
        """
        The data of a model of these rows.

        Parameters
        ----------
        table : DataFrame
            Groups with all their rows, in any order.

        Returns
        -------
        ModelData or None
            None if no row is taken.

        Raises
        ------
        MixedARError
            If values are missing, or such as the model did not learn.
        """
        table = self.rows.complete(self.rows.chosen(table))
        if not len(table):
            return None
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            endog = self.rows.responses(table)
            exog = self._spec.matrix(table)
            exog_re = self._random(table)
        with np.errstate(over="ignore", invalid="ignore"):
            total = endog.sum() + exog.sum() + exog_re.sum()
        if not np.isfinite(total):
            arrays = endog[:, None], exog, exog_re
            gone = ~np.logical_and.reduce([np.isfinite(a).all(axis=1) for a in arrays])
            self._check(table, endog, exog, gone)
            return self.read(table[~gone])
        codes, labels = group_codes(table[self.key], self.key)
        offset = self.encoder.offsets(None, table) if self.encoder.has_offset else None
        grouped = sorted_rows(self.data, self.encoder, table, codes, len(labels))
        return replace(
            self.data,
            endog=endog,
            exog=exog,
            exog_re=exog_re,
            codes=codes,
            grouped=grouped,
            group_labels=labels.tolist(),
            groups=table[self.key],
            time=self._column("time", table),
            series=self._column("series", table),
            residual_data={},
            index=table.index,
            frame=table,
            offset=offset,
        )

    @property
    def _spec(self) -> FormulaSpec:
        assert self.encoder.formula_spec is not None
        return self.encoder.formula_spec

    def _column(self, role: str, table: pd.DataFrame) -> pd.Series | None:
        """What the model reads of the rows by the name of an argument."""
        name = self.encoder.columns[role]
        return None if name is None else table[name]

    def _random(self, table: pd.DataFrame) -> FloatArray:
        """Design of the random effects, NaN in rows that miss a value."""
        spec = self.encoder.re_spec
        if spec is None:  # an intercept, or nothing
            return np.ones((len(table), self.data.k_re))
        return spec.matrix(table)

    def _check(
        self, table: pd.DataFrame, endog: FloatArray, exog: FloatArray, gone: BoolArray
    ) -> None:
        """Raise unless these rows may be left out."""
        check_no_missing(table)
        if not self.rows.drop or not np.isnan(endog + exog.sum(axis=1))[gone].all():
            check_finite(endog, [self.data.endog_name], "the response's", table.index)
            check_finite(exog, self.data.exog_names, "fixed-effects", table.index)
            what = "the result of a formula"
            raise MissingDataError(f"{what} is missing or infinite in some rows")
