"""
What a model reads of a source, found before any of its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from mixedar.data.formula.bars import read_bars
from mixedar.data.formula.names import ModelFormulas, read_formulas
from mixedar.data.formula.smooth_calls import read_smooths
from mixedar.data.given import warn_dropped
from mixedar.data.model_data import ModelData
from mixedar.data.reading import Stream, named_column
from mixedar.data.residual_model import ResidualModel
from mixedar.data.rows import as_frame
from mixedar.data.streamed import StreamedData, summed
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


def sums_of_all(
    model: ParentModel, stream: Stream, sample: ModelData, found: ResidualModel
) -> StreamedData:
    """Sums of all rows; the model, which was made of a sample, becomes one of all."""
    arrays = summed(stream, sample, found)
    model.nobs = model.n_totobs = arrays.nobs
    model.n_groups, model.k_fe = arrays.n_groups, arrays.k_fe
    model.data.xnames = list(arrays.exog_names)
    for name in _OF_ROWS:
        setattr(model, name, None)
    dropped = arrays.totals.read - arrays.nobs
    if dropped and arrays.reader.rows.subset is None:
        warn_dropped(dropped)
    return arrays


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
        """Read the source once; raises as :meth:`Stream.of`."""
        words, structure = self.words, self.found.structure
        named = {
            role: named_column(role, words[role])
            for role in ("time", "series", "offset")
            if words[role] is not None
        }
        read = self.found.needed(self.source.columns, self.namespace).values()
        others = [named_column("weights", value) for value in read]
        learned = {mark.column for mark in structure.marks if mark.kind != "number"}
        if structure.uses_time or structure.marks:
            learned.add(named.get("time"))
        return Stream.of(
            self.source,
            self.key,
            self.formulas,
            [*named.values(), *others],
            learned=learned,
            unlearned=[named.get("series")],
            subset=words["subset"],
            missing=words["missing"],
            namespace=self.namespace,
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
