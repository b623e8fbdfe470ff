"""
What a model reads of a source, found before any of its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from mixedar.data.formula.bars import read_bars
from mixedar.data.formula.names import ModelFormulas, formula_columns, read_formulas
from mixedar.data.formula.smooth_calls import read_smooths
from mixedar.data.given import warn_dropped
from mixedar.data.reading import (
    check_condition,
    check_rowwise,
    named_column,
    variables_of,
)
from mixedar.data.residual_model import ResidualModel
from mixedar.data.rows import as_frame
from mixedar.data.streamed import Stream, StreamedData
from mixedar.data.survey import survey
from mixedar.exceptions import (
    GroupError,
    UnsupportedError,
)
from mixedar.mixed.statsmodels_model import ParentModel
from mixedar.streams import Source, as_source

# What a model has of its rows.
_OF_ROWS = ("endog", "exog", "exog_re", "groups", "time", "series", "codes", "offset")


def table_of(
    data: object,
    formula: str,
    groups: object,
    re_formula: str | None,
    words: Mapping[str, object],
    found: ResidualModel,
    namespace: Mapping[str, object],
) -> tuple[pd.DataFrame, Stream | None]:
    """
    The rows of a model; of a source a sample of them, and how all are read.

    Arguments but for the first as of :class:`Written`.
    """
    source = as_source(data)
    if source is None:
        return as_frame(data), None
    asked = source, formula, groups, re_formula, words, found, namespace
    stream = Written(*asked).read()
    return stream.sample, stream


def forget_sample(model: ParentModel, arrays: StreamedData) -> None:
    """A model that was made of a sample is one of all rows, which are not kept."""
    model.nobs = model.n_totobs = arrays.nobs
    model.n_groups, model.k_fe = arrays.n_groups, arrays.k_fe
    model.data.xnames = list(arrays.exog_names)
    for name in _OF_ROWS:
        setattr(model, name, None)
    dropped = arrays.totals.read - arrays.nobs
    if dropped and arrays.reader.subset is None:
        warn_dropped(dropped)


@dataclass(frozen=True)
class Written:
    """
    A model as it was written, of rows that are not read yet.

    Attributes
    ----------
    source : Source
    formula : str
    groups : object
    re_formula : str or None
    words : mapping of str to object
        Further arguments of ``MixedLMAR.from_formula``, by name.
    found : ResidualModel
        What the residuals read.
    namespace : mapping of str to object
        The caller's variables.
    """

    source: Source
    formula: str
    groups: object
    re_formula: str | None
    words: Mapping[str, object]
    found: ResidualModel
    namespace: Mapping[str, object]

    def read(self) -> Stream:
        """
        Read the source once, for what has to be known before rows are encoded.

        Returns
        -------
        Stream

        Raises
        ------
        SourceError
            If rows cannot be read, or those of a group are apart and nothing sorts
            them.
        UnsupportedError
            If the model needs all rows at once.
        """
        drop, subset, key = self.used, self.words["subset"], self.key
        check_rowwise(self.formulas.uses(), self.source.columns, self.namespace)
        check_condition(subset)
        condition = [c for c in self.source.columns if c in str(subset or "")]
        columns = tuple(dict.fromkeys([*drop, *condition]))
        seen = survey(self.source, columns, key, self._learned(columns))
        return Stream(
            self.source if seen.together else self.source.sorted_by(key),
            columns,
            key,
            seen,
            self.formulas.left,
            drop if self.words["missing"] == "drop" else (),
            None if subset is None else str(subset),
            variables_of(self.formulas.uses(), str(subset or ""), self.namespace),
        )

    @cached_property
    def formulas(self) -> ModelFormulas:
        """The formulas, bars apart."""
        plain, smooths = read_smooths(self.formula)
        fixed, bars = read_bars(plain)
        if smooths or len({bar.factor for bar in bars}) > 1:
            raise UnsupportedError(
                "smooths and random effects of several factors need all rows in "
                "memory: pass a frame, as in pandas.read_parquet(...), or write random "
                "effects of one factor"
            )
        random = "0" if bars and self.re_formula is None else self.re_formula
        vc: Mapping[str, str] | None = self.words["vc_formula"]  # type: ignore[assignment]
        effects = [bar.effects for bar in bars]
        return read_formulas(fixed, random, vc, self.namespace, effects)

    @cached_property
    def key(self) -> str:
        """The column of the groups."""
        groups = self.groups
        _, bars = read_bars(self.formula)
        factors = {bar.factor for bar in bars}
        if groups is None and factors:
            groups = ":".join(factors.pop())
        if groups is None:
            raise GroupError(
                "groups= is missing: name the column with the group labels, or write "
                "random effects into the formula, as in 'y ~ x + (1 | g)'"
            )
        return named_column("groups", groups)

    @cached_property
    def used(self) -> tuple[str, ...]:
        """Columns without whose values a row cannot be used."""
        roles = {role: self.words[role] for role in ("time", "series", "offset")}
        named = [
            named_column(k, value) for k, value in roles.items() if value is not None
        ]
        empty = self._empty
        read = self.found.needed(empty.columns, self.namespace).values()
        others = [named_column("weights", value) for value in read]
        self.source.check_columns([self.key, *named, *others])
        inside = formula_columns(self.formulas.uses(), empty, self.namespace)
        return tuple(dict.fromkeys([*map(str, inside), self.key, *named, *others]))

    @cached_property
    def _empty(self) -> pd.DataFrame:
        """A frame with the columns of the source and no rows."""
        names = self.source.columns
        return pd.DataFrame({name: pd.Series(dtype=float) for name in names})

    def _learned(self, columns: tuple[str, ...]) -> list[str]:
        """Columns whose distinct values have to be known before rows are encoded."""
        structure, time = self.found.structure, self.words["time"]
        wanted = {mark.column for mark in structure.marks if mark.kind != "number"}
        wanted = wanted.union(*(use.coded for use in self.formulas.uses()))
        wanted |= set(self.source.level_columns)
        if time is not None and (structure.uses_time or structure.marks):
            wanted.add(named_column("time", time))
        return [c for c in columns if c in wanted - {self.key, self.words["series"]}]
