"""
The second reading of a source: its rows compressed, and what is left to know of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from mixedar.data.encode import Encoder
from mixedar.data.formula.terms import without_empty_cells
from mixedar.data.model_data import ModelData, reads_fitted
from mixedar.data.other_rows import RowReader
from mixedar.data.reading import NotKept, Stream
from mixedar.data.residual_model import ResidualModel, layout_from, row_positions
from mixedar.data.rows import Levels
from mixedar.data.time import time_axis
from mixedar.data.totals import Totals
from mixedar.engine.compress import ClusterRows
from mixedar.exceptions import (
    EmptyDataError,
    NotComputedError,
    SourceError,
    UnsupportedError,
)
from mixedar.hypotheses.df import containment_of
from mixedar.numeric.moments import Moments
from mixedar.residual import DataLayout
from mixedar.residual.matrix import bind_to

if TYPE_CHECKING:
    from typing_extensions import Self

Result = TypeVar("Result")

# Patterns are repeated as often as they occur up to so many rows.
_LAYOUT_ROWS = 2**20
# Rows at most that stand for all in means and ranges of columns.
_REFERENCE = 10**5
# Differences inside a cluster that are rounding.
_ROUNDING = 1e-12


_OF_ROWS = NotKept(
    "this needs the rows of the data, which were read from a source and not "
    "kept: ask for it batch by batch, by fit.predict(source), "
    "fit.residuals(source) or fit.random_effects_frame(source), of some groups "
    "with fit.with_rows(frame); for what takes all rows at once (bootstrap, influence, "
    "acf, variogram, pictures of rows) fit a frame of some of the groups"
)


class StreamedData(ModelData):
    """
    The data of a model whose rows were read and not kept.

    All that is known without the rows is there; what has one value a row, or a group,
    raises.

    Attributes
    ----------
    totals : Totals
    encoder : Encoder
        Brings new rows on the scale of the fit; it knows no groups.
    reader : RowReader
        Reads rows as rows of this model.
    df_containment : ndarray, shape (p,)
    constant_columns : ndarray of bool, shape (p,)
    order_of_rows : bool
        Whether rows stand for times that the residual structure reads.
    stream : Stream or None
        The source, with what tells its rows from others; None of a saved fit.
    """

    totals: Totals
    encoder: Encoder
    reader: RowReader
    order_of_rows: bool
    stream: Stream | None

    endog = _OF_ROWS
    exog = _OF_ROWS
    exog_re = _OF_ROWS
    codes = _OF_ROWS
    grouped = _OF_ROWS
    group_labels = _OF_ROWS
    groups = _OF_ROWS
    time = _OF_ROWS
    series = _OF_ROWS
    residual_data = _OF_ROWS
    index = _OF_ROWS
    offset = _OF_ROWS
    frame = _OF_ROWS

    @classmethod
    def of(cls, sample: ModelData, **own: Any) -> StreamedData:
        """What `sample` knows beside its rows, and what is known of all rows."""
        out = object.__new__(cls)
        rows = {name for name, kind in vars(cls).items() if kind is _OF_ROWS}
        kept = {k: v for k, v in vars(sample).items() if k not in rows}
        kept.pop("compressed", None), kept.pop("random_design", None)
        out.__dict__.update(kept, **own)
        return out

    @property
    def has_rows(self) -> bool:
        """Whether the rows are there."""
        return False

    @property
    def nobs(self) -> int:
        """Number of observations."""
        return self.totals.nobs

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return self.totals.n_groups

    @property
    def k_fe(self) -> int:
        """Number of fixed effects."""
        return len(self.exog_names)

    @property
    def k_re(self) -> int:
        """Number of correlated random effects."""
        return self.totals.rows.z.shape[1]

    @property
    def smallest_group(self) -> int:
        """Rows of the smallest group."""
        return self.totals.smallest

    @property
    def largest_group(self) -> int:
        """Rows of the largest group."""
        return self.totals.largest

    @property
    def response_range(self) -> float:
        """Largest less smallest response."""
        return self.totals.high - self.totals.low

    @property
    def moments(self) -> Moments:
        """See :class:`ModelData`."""
        return self.totals.moments

    @property
    def crosses_factors(self) -> bool:
        """There is one factor."""
        return False

    @property
    def takes_row_order(self) -> bool:
        """Whether the residual structure reads times, and rows stand for them."""
        return self.order_of_rows

    @cached_property
    def reference(self) -> pd.DataFrame | None:
        """Rows whose means, ranges and levels are those of the data."""
        numbers, sample = self.totals.numbers, self.reader.data.frame
        assert sample is not None
        low, high = numbers["low"], numbers["high"]
        mean = numbers["total"] / self.nobs
        # so many rows that all but two of them can be near the mean
        nearest = pd.concat([mean - low, high - mean], axis=1).min(axis=1)
        wanted = ((high - low) / nearest.where(nearest > 0.0)).max()
        n = max(len(sample), int(np.nan_to_num(min(wanted, _REFERENCE))) + 3)
        out = sample.take(np.arange(n) % len(sample)).reset_index(drop=True)
        for name in numbers.index:
            rest = (n * mean[name] - low[name] - high[name]) / (n - 2)
            values = np.full(n, rest)
            values[:2] = low[name], high[name]
            out[name] = values
        return out

    @cached_property
    def first_groups(self) -> ModelData:
        """The data of the first groups."""
        found = self.reader.read(self.totals.first)
        assert found is not None
        return found

    def again(
        self,
        function: Callable[[ModelData], Result],
        merge: Callable[[Sequence[Result]], Result],
    ) -> Result:
        """
        Read the rows once more.

        Parameters
        ----------
        function : callable
            Of the data of whole groups.
        merge : callable
            Of some results.

        Raises
        ------
        NotComputedError
            If the source is not known, since the fit was saved and loaded.
        SourceError
            If the rows have changed.
        """
        if self.stream is None:
            raise NotComputedError(
                "this reads the rows of the source once more, and a fit that was saved "
                "does not know its source: ask before it is saved, or fit again"
            )
        reader = self.reader

        def of(table: pd.DataFrame) -> list[Result]:
            data = reader.read(table)
            return [] if data is None else [function(data)]

        def merged(parts: Sequence[list[Result]]) -> list[Result]:
            some = [result for part in parts for result in part]
            return [merge(some)] if some else []

        return self.stream.again(of, merged)[0][0]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "stream": None}

    def changed(self, **changes: Any) -> Self:
        """The same with other values of some attributes."""
        other = copy.copy(self)
        other.__dict__.update({"stream": self.stream, **changes})
        return other


def encoder_of(data: ModelData) -> Encoder:
    """What brings new rows on the scale of these data."""
    return data.encoder if isinstance(data, StreamedData) else Encoder.of(data)


def reader_of(data: ModelData) -> RowReader:
    """What reads other rows as rows of the model of these data."""
    return data.reader if isinstance(data, StreamedData) else RowReader.of(data)


def summed(stream: Stream, sample: ModelData, found: ResidualModel) -> StreamedData:
    """
    Read all rows and keep what the likelihood needs.

    Parameters
    ----------
    stream : Stream
    sample : ModelData
        Of the sample of the stream, without a residual structure.
    found : ResidualModel
        The structure, and what it reads of the sample.

    Returns
    -------
    StreamedData
    """
    _check_summable(sample, found)
    positions = row_positions(
        found.structure,
        sample.codes,
        sample.group_labels,
        sample.time,
        sample.series,
        found.columns,
    )
    known = sample.changed(
        **vars(positions),
        residual=found.structure,
        residual_data=found.columns,
        variance_specs=found.specs,
    )
    kept = stream.survey.together or stream.source.keeps_order
    if known.takes_row_order and not kept:
        raise SourceError(
            f"the rows of one {stream.key!r} are apart and have to be sorted, and "
            "without time= the residuals take the order of the rows, which is lost "
            "then: name the column of the times, or hold the rows sorted"
        )
    encoder = Encoder.of(known)
    none = Levels(pd.Series(encoder.groups.values.iloc[:0]))
    encoder = replace(encoder, groups=none)
    reader = RowReader(known, encoder, stream.key, stream.columns, stream.rows)
    memory = stream.source.memory

    def of(table: pd.DataFrame) -> Totals | int:
        data = reader.read(table)
        return len(table) if data is None else Totals.of(data, table)

    def merge(parts: Sequence[Totals | int]) -> Totals | int:
        return Totals.merged(parts, memory)

    totals, stream = stream.again(of, merge)
    if isinstance(totals, int):
        raise EmptyDataError("no row is left: see subset= and missing=")
    return _bound(known, reader, totals, stream)


def _check_summable(sample: ModelData, found: ResidualModel) -> None:
    """Raise for models that need more of the rows than sums by group."""
    lacking = ""
    if sample.terms:
        lacking = "smooths, relations, and random effects of several factors"
    elif sample.component_names:
        lacking = "variance components (vc_formula=)"
    elif reads_fitted(found.structure):
        lacking = "variances that depend on the fitted values"
    if lacking:
        raise UnsupportedError(
            f"{lacking} need all rows in memory: pass a frame, as in "
            "pandas.read_parquet(...), or fit a model of one factor"
        )


def _bound(
    known: ModelData, reader: RowReader, totals: Totals, stream: Stream
) -> StreamedData:
    """The data with the structure bound to all rows, in their unit of time."""
    rows, unit, step = totals.rows, known.time_unit, 1.0
    if known.delta is not None and known.time is not None:
        structure, name = known.residual, str(known.time_name)
        axis, whole = time_axis(known.time, structure, name), structure.integer_time
        step = axis.step(known.delta, rows.gaps, whole, name, structure.label)
        unit = axis.label(step) or "1"
        gaps = rows.gaps / step
        rows = replace(rows, gaps=np.rint(gaps) if whole else gaps)
        totals = replace(totals, rows=rows)
    known, totals = _without_empty_cells(known, totals)
    rows = totals.rows
    layout = layout_of(rows, known)
    residual = bind_to(known.residual, layout)
    bound = known.changed(residual=residual, time_unit=unit, time_step=step)
    spec = known.formula_spec
    encoder = replace(reader.encoder, structure=residual, formula_spec=spec)
    p = len(known.exog_names)
    random = known.k_re > 0
    constant = _constant_within(rows)[:p]
    df = containment_of(
        np.isfinite(totals.value),
        [constant],
        [totals.n_groups],
        totals.nobs,
        random,
    )
    return StreamedData.of(
        bound,
        totals=totals,
        compressed=rows,
        encoder=encoder,
        reader=replace(reader, data=bound, encoder=encoder),
        df_containment=df,
        # without random effects series are clusters, not groups
        **({"constant_columns": constant} if random or known.series is None else {}),
        order_of_rows=known.takes_row_order,
        stream=stream,
    )


def _without_empty_cells(known: ModelData, totals: Totals) -> tuple[ModelData, Totals]:
    """Both less the columns of combinations of levels that have no rows."""
    assert known.formula_spec is not None
    w = totals.rows.w
    spec, x = without_empty_cells(known.formula_spec, np.ascontiguousarray(w[:, :-1]))
    if spec.empty_cells is None:
        return known, totals
    kept = spec.empty_cells.kept
    names, exog = list(spec.column_names), known.exog[:, kept]
    known = known.changed(formula_spec=spec, exog_names=names, exog=exog)
    rows = replace(totals.rows, w=np.column_stack([x, w[:, -1]]))
    moments = totals.moments.taken(np.append(kept, np.arange(-2, 0)))
    totals = replace(totals, rows=rows, value=totals.value[kept], moments=moments)
    return known, totals


def layout_of(rows: ClusterRows, known: ModelData) -> DataLayout:
    """
    What a residual structure learns of the rows behind compressed ones.

    Each pattern occurs as often as in the data, in proportion where that is too often.
    """
    patterns = np.flatnonzero(rows.weights > 0.0)
    sizes, counts = np.diff(rows.offsets)[patterns], rows.weights[patterns]
    total = float(sizes @ counts)
    if total > _LAYOUT_ROWS:
        counts = np.maximum(np.rint(counts * (_LAYOUT_ROWS / total)), 1.0)
    repeated = rows.index(np.repeat(patterns, counts.astype(np.intp)))
    marks = None if rows.marks is None else rows.marks[repeated]
    return layout_from(rows.gaps[repeated], marks, known.covariate_levels)


def _constant_within(rows: ClusterRows) -> np.ndarray:
    """Which columns are the same in all rows of each cluster, to rounding."""
    sizes = np.diff(rows.offsets)
    first = np.repeat(rows.w[rows.offsets[:-1]], sizes, axis=0)
    size = np.abs(rows.w).max(axis=0)
    return np.asarray(np.abs(rows.w - first).max(axis=0) <= _ROUNDING * size)
