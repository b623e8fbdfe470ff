"""
New rows on the scale of the fit: what was learned of its rows, applied to others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.data.checks import offset_values
from mixedar.data.designs import given_random_design
from mixedar.data.formula import FormulaSpec
from mixedar.data.model_data import ModelData
from mixedar.data.occasions import times_together
from mixedar.data.residual_model import strata_of_correlations
from mixedar.data.rows import (
    Levels,
    check_present,
    complete_labels,
    count_within,
    resolve,
    table_column,
    without_categories,
)
from mixedar.data.time import time_axis
from mixedar.exceptions import (
    GroupError,
    LengthError,
    StructureError,
    TimeError,
    UnknownColumnError,
    UnsupportedError,
    shown,
)
from mixedar.residual import Mark, ResidualStructure
from mixedar.residual.variance import FITTED

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Places:
    """
    Series and times of new rows, and of the fit's own.

    Attributes
    ----------
    series : ndarray of int, shape (k,)
        Numbers; -1 for series that are not in the fit.
    time : ndarray, shape (k,)
    fitted_series : ndarray of int, shape (n,)
    fitted_time : ndarray, shape (n,)
    """

    series: IntArray
    time: FloatArray
    fitted_series: IntArray
    fitted_time: FloatArray


@dataclass(frozen=True, eq=False)
class Encoder:
    """
    What new rows need of the data of a fit; nothing of the data's length.

    Attributes
    ----------
    structure : ResidualStructure
        Bound to the data.
    levels : tuple of Levels or None
        Occasions and strata among the columns that the structure reads.
    groups : Levels
    columns : dict of str
        Names of the columns of groups, time, series and offset, None for arrays.
    has_time, has_series, has_offset : bool
        Whether the model has them.
    formula_spec, re_spec : FormulaSpec or None
    variance_specs : mapping of str to FormulaSpec
    random_names : tuple of str
        Of the correlated random effects.
    one_intercept : bool
        Whether a random intercept is the only correlated random effect.
    indicators : tuple of bool
        Whether each variance component has indicators of a factor.
    """

    structure: ResidualStructure
    levels: tuple[Levels | None, ...]
    groups: Levels
    columns: dict[str, Any]
    has_time: bool
    has_series: bool
    has_offset: bool
    formula_spec: FormulaSpec | None
    re_spec: FormulaSpec | None
    variance_specs: Mapping[str, FormulaSpec]
    random_names: tuple[str, ...]
    one_intercept: bool
    indicators: tuple[bool, ...]

    @classmethod
    def of(cls, data: ModelData) -> Self:
        """Learn from the data of a model."""
        z = data.exog_re
        parts = data.component_parts or ()
        return cls(
            structure=data.residual,
            levels=data.covariate_levels,
            groups=Levels.first_of(data.groups, data.codes),
            columns={
                "groups": data.groups_name,
                "time": data.time_name,
                "series": getattr(data.series, "name", None),
                "offset": data.offset_name,
            },
            has_time=data.time is not None,
            has_series=data.series is not None,
            has_offset=data.offset is not None,
            formula_spec=data.formula_spec,
            re_spec=data.re_spec,
            variance_specs=data.variance_specs,
            random_names=tuple(data.random_names),
            one_intercept=z is not None and z.shape[1] == 1 and bool((z == 1.0).all()),
            indicators=tuple(part.codes is not None for part in parts),
        )

    def random_design(
        self, exog_re: object, table: pd.DataFrame, from_formula: bool
    ) -> FloatArray:
        """
        Design of the correlated random effects of new rows.

        Parameters
        ----------
        exog_re : array_like or None
            As the caller passed it.
        table : DataFrame, k rows
        from_formula : bool
            Whether `table` has columns for formulas.

        Returns
        -------
        ndarray, shape (k, k_re)
        """
        if not self.random_names:
            return np.empty((len(table), 0))
        if exog_re is not None:
            return given_random_design(exog_re, self.random_names, table.index)
        if from_formula and self.re_spec is not None:
            return self.re_spec.complete_matrix(table)
        if from_formula or self.one_intercept:
            return np.ones((len(table), 1))
        raise LengthError(
            f"exog_re= is missing: the model has {len(self.random_names)} random "
            "effects, and new rows need their design"
        )

    # Groups, series and times ----------------------------------------------

    def group_labels(self, groups: object, table: pd.DataFrame) -> pd.Series:
        """Labels of the rows' groups, by the column of the fit unless given."""
        if groups is None:
            groups = self.columns["groups"]
            # "Group" is what a model calls groups that came as an array
            if groups == "Group" and groups not in table:
                raise GroupError(
                    "groups= is missing: pass a group label for each new row, or "
                    "level='population'"
                )
        return complete_labels("groups", groups, table)

    def series_labels(self, series: object, table: pd.DataFrame) -> pd.Series | None:
        """Labels of the rows' series; None if the model has none in its groups."""
        if not self.has_series:
            return None
        remedy = "pass the label of its series for each new row"
        return complete_labels("series", self._asked("series", series, remedy), table)

    def time_column(self, time: object, table: pd.DataFrame) -> pd.Series:
        """Times of the rows, by the column of the fit unless given."""
        remedy = "pass the time of each new row, on the scale of the model's times"
        return resolve("time", self._asked("time", time, remedy), table).values

    def offsets(self, offset: object, table: pd.DataFrame) -> FloatArray:
        """Offsets of the rows, by the column of the fit unless given; zero without."""
        if not self.has_offset:
            if offset is not None:
                raise UnsupportedError("offset=: the model has no offset")
            return np.zeros(len(table))
        remedy = "the model has an offset; pass that of each new row"
        given = resolve("offset", self._asked("offset", offset, remedy), table)
        return offset_values(given.values, table.index)

    def _asked(self, role: str, given: object, remedy: str) -> Any:
        """What the caller passed, or the name of the fit's column."""
        found = self.columns[role] if given is None else given
        if found is None:
            raise LengthError(f"{role}= is missing: {remedy}")
        return found

    # What the residual structure reads -------------------------------------

    def row_covariates(
        self,
        table: pd.DataFrame,
        which: slice,
        time: object,
        place: Callable[[], FloatArray],
        hint: str = "",
    ) -> FloatArray:
        """
        What the residual structure reads of new rows, as numbers.

        Parameters
        ----------
        table : DataFrame, k rows
        which : slice
            Which of the columns that the structure reads are wanted.
        time : str, array_like or None
            As the caller passed it.
        place : callable
            Places of the rows in their series, for models without times.
        hint : str
            What else can be done if a column is missing.

        Returns
        -------
        ndarray, shape (k, c)
            NaN in columns that are not wanted, and for fitted values.
        """
        read: Sequence[Mark] = self.structure.marks
        out = np.full((len(table), len(read)), np.nan)
        formulas: dict[str, FloatArray] = {}
        wanted = {each.column for each in read[which]}
        for spec in self.variance_specs.values():
            if wanted.intersection(spec.column_names):
                matrix = spec.complete_matrix(table)
                formulas.update(zip(spec.column_names, matrix.T, strict=True))
        for k in range(*which.indices(len(read))):
            name = read[k].column
            if name is None:
                out[:, k] = self._occasions(k, table, time, place)
            elif name == FITTED:
                continue
            elif name in formulas:
                out[:, k] = formulas[name]
            elif read[k].kind == "number":
                what = "which the residual structure reads"
                out[:, k] = _numbers(_column(name, table, what, hint), name)
            else:
                what = "the strata of the residual structure"
                out[:, k] = self._strata(k, name, _column(name, table, what, hint))
        return out

    def _strata(self, k: int, name: str, column: pd.Series) -> IntArray:
        levels = self.levels[k]
        assert levels is not None
        found = levels.nearest(column)
        if (found < 0).any():
            raise StructureError(
                f"{name!r} is {_first(column, found < 0)}, a stratum that the data of "
                f"the fit do not have; there are {levels.listed()}"
            )
        return found

    def _occasions(
        self, k: int, table: pd.DataFrame, time: object, place: Callable[[], FloatArray]
    ) -> FloatArray | IntArray:
        """Places of the rows' times among the occasions of the fit."""
        levels = self.levels[k]
        assert levels is not None
        if not self.has_time:
            count, places = len(levels.values), place()
            lost = ~((places >= 0) & (places < count))
            if lost.any():
                row = int(np.argmax(lost))
                raise TimeError(
                    f"row {shown(table.index[row])} of the new rows is number "
                    f"{places[row] + 1:g} of its series, and the data have {count} "
                    "occasions: the residual structure says nothing of others"
                )
            return places
        column = self.time_column(time, table)
        label = str(self.columns["time"] or "time")
        check_present(f"time {label!r}", column.isna().to_numpy(), column.index)
        found = levels.nearest(column)
        if (found < 0).any():
            raise TimeError(
                f"time {label!r} is {_first(column, found < 0)}, which is none of the "
                f"occasions of the data ({levels.listed()}); {self.structure.label} "
                "residuals say nothing of other occasions"
            )
        return found

    def with_fitted(self, covariates: FloatArray, fitted: FloatArray) -> FloatArray:
        """Row covariates with the fitted values put in, shapes (k, c) and (k,)."""
        where = [mark.column == FITTED for mark in self.structure.marks]
        if not any(where):
            return covariates
        out = covariates.copy()
        out[:, where] = fitted[:, None]
        return out


def _column(name: str, table: pd.DataFrame, what: str, hint: str) -> pd.Series:
    """A column, complete."""
    try:
        column = table_column(table, name)
    except UnknownColumnError as error:
        raise UnknownColumnError(
            f"the new rows have no column {name!r}, {what}; add it{hint}"
        ) from error
    check_present(f"column {name!r}", column.isna().to_numpy(), column.index)
    return column


def _first(column: pd.Series, where: BoolArray) -> str:
    """The first value at some of the new rows, and which row it is, for messages."""
    row = int(np.argmax(where))
    value, label = shown(column.iloc[row]), shown(column.index[row])
    return f"{value} in row {label} of the new rows"


def _numbers(column: pd.Series, name: str) -> FloatArray:
    values = np.asarray(without_categories(column))
    if values.dtype.kind not in "iufb":
        text = pd.to_numeric(column, errors="coerce").isna().to_numpy()
        raise StructureError(
            f"column {name!r} has to be numeric for the residual structure; it is "
            f"{_first(column, text)}"
        )
    numbers = values.astype(np.float64)
    check_present(f"column {name!r}", ~np.isfinite(numbers), column.index, "infinite")
    return numbers


def fitted_places(data: ModelData) -> tuple[IntArray, FloatArray]:
    """
    Series and times of the model's own rows.

    Returns
    -------
    series : ndarray of int, shape (n,)
    time : ndarray, shape (n,)
        Without times in the model, places within the series from 0; zero if
        the structure does not look at distances in time.
    """
    series = _series_numbers(data, data.codes, None)[0]
    if not data.residual.uses_time:
        return series, np.zeros(len(series))
    if data.time is None:
        return series, count_within(series)
    name = getattr(data.time, "name", None) or "time"
    axis = time_axis(data.time, data.residual, name)
    return series, axis.values / data.time_step


def new_places(
    encoder: Encoder,
    data: ModelData,
    codes: IntArray,
    labels: pd.Series,
    time: object,
    series: object,
    table: pd.DataFrame,
) -> Places:
    """
    Series and times of new rows, and those of the fit with the same origin.

    Parameters
    ----------
    encoder : Encoder
    data : ModelData
    codes : ndarray of int, shape (k,)
        Numbers of the groups, -1 for unknown ones.
    labels : Series, shape (k,)
        Labels of the groups.
    time, series : str, array_like or None
        As the caller passed them.
    table : DataFrame, k rows

    Returns
    -------
    Places
    """
    inside = encoder.series_labels(series, table)
    fitted, asked = _series_numbers(data, codes, inside)
    if not data.residual.uses_time:
        old, new = np.zeros(len(fitted)), np.zeros(len(asked))
    elif data.time is None:
        old = count_within(fitted)
        new = counted_places(encoder, data, codes, labels, time, series, table)
    else:
        column = encoder.time_column(time, table)
        name = str(getattr(data.time, "name", None) or "time")
        together = times_together(data.time, column, data.residual, name)
        old, new = (times / data.time_step for times in together)
        if data.residual.integer_time:
            known = np.flatnonzero(asked >= 0)
            base = np.zeros(int(fitted.max()) + 1)
            base[fitted] = old
            check_steps(data, new[known] - base[asked[known]], column.iloc[known])
    return Places(asked, new, fitted, old)


def check_steps(data: ModelData, distance: FloatArray, column: pd.Series) -> None:
    """Raise if new rows are not whole units of time from rows of their series."""
    off = np.abs(distance - np.rint(distance)) > 1e-6
    if off.any():
        raise TimeError(
            f"time {column.name!r} is {_first(column, off)}, which is not a multiple "
            f"of {data.time_unit} from the other times of its series; "
            f"{data.residual.label} predicts at such times only (delta="
            f"{data.delta!r} of the fit)"
        )


def counted_places(
    encoder: Encoder,
    data: ModelData,
    codes: IntArray,
    labels: pd.Series | None,
    time: object,
    series: object,
    table: pd.DataFrame,
) -> FloatArray:
    """
    Places of new rows in their series, for a model without times.

    Rows continue the series of the fit in the order in which they stand, unless
    `time` says their places; arguments as for :func:`new_places`.
    """
    if time is not None:
        return _given_places(time, table)
    if labels is None:
        raise LengthError(
            "time= is missing: the model has no times, its rows count, and without "
            "groups the new rows' places in their series have to be given"
        )
    inside = encoder.series_labels(series, table)
    fitted, asked = _series_numbers(data, codes, inside)
    # series that are not in the fit begin with the new rows
    others = labels.factorize()[0]
    if inside is not None:
        others = combined_numbers(others, inside)
    length = np.bincount(fitted)
    count = count_within(np.where(asked >= 0, asked, len(length) + others))
    return np.asarray(count + np.where(asked >= 0, length[asked], 0))


def _series_numbers(
    data: ModelData, codes: IntArray, labels: pd.Series | None
) -> tuple[IntArray, IntArray]:
    """Numbers of the series of the model's rows, and of new ones."""
    if data.series is None:
        return data.codes, codes
    inside, distinct = without_categories(pd.Series(data.series)).factorize()
    span = len(distinct)
    fitted, keys = pd.factorize(data.codes * span + inside)
    if labels is None:
        return fitted, fitted
    found = Levels(pd.Series(distinct)).numbers(labels)
    asked = np.where((codes >= 0) & (found >= 0), codes * span + found, -1)
    return fitted, np.asarray(
        pd.Index(keys).get_indexer(pd.Index(asked)), dtype=np.intp
    )


def combined_numbers(codes: IntArray, labels: pd.Series) -> IntArray:
    """Numbers of the combinations of numbers and labels, shape (k,)."""
    inside, distinct = labels.factorize()
    return np.asarray(pd.factorize(codes * len(distinct) + inside)[0], dtype=np.intp)


def _given_places(time: object, table: pd.DataFrame) -> FloatArray:
    """Places of the rows in their series, as ``time=`` has them."""
    column = resolve("time", time, table).values
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(values) | (values != np.rint(values))
    if wrong.any():
        raise UnsupportedError(
            "the model has no times, its rows count: time= takes positions within "
            f"the series, counted from 0, not {_first(column, wrong)}"
        )
    return values


def check_strata(
    data: ModelData, covariates: FloatArray, places: Places, index: pd.Index
) -> None:
    """
    Raise if a new row belongs to another stratum than its series in the fit.

    Parameters
    ----------
    data : ModelData
        Correlations may have parameters by stratum.
    covariates : ndarray, shape (k, c)
        What the structure reads of the new rows.
    places : Places
        Of the new rows.
    index : Index
        Labels of the new rows, for the message.

    Raises
    ------
    StructureError
    """
    known = np.flatnonzero(places.series >= 0)
    for k in strata_of_correlations(data.residual):
        assert data.grouped.marks is not None
        of_series = np.empty(int(places.fitted_series.max()) + 1)
        own = data.grouped.unsort(data.grouped.marks[:, k])
        of_series[places.fitted_series] = own
        off = known[covariates[known, k] != of_series[places.series[known]]]
        if len(off):
            levels, row = data.covariate_levels[k], int(off[0])
            assert levels is not None
            names = levels.names
            now, before = int(covariates[row, k]), int(of_series[places.series[row]])
            raise StructureError(
                f"{data.residual.marks[k].column!r} is {names[now]!r} in row "
                f"{shown(index[row])} of the new rows, and {names[before]!r} in all "
                "rows of its series in the data; correlations by stratum need strata "
                "that are constant within a series"
            )
