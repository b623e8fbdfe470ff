"""
What a fit says of rows that are given to it, at once or batch by batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixedar._lazy import Question
from mixedar._types import FloatArray
from mixedar.data.rows import as_frame
from mixedar.data.streamed import reader_of
from mixedar.data.survey import kept_together
from mixedar.exceptions import EmptyDataError, check_choice
from mixedar.fit import Fit
from mixedar.fit.beside import beside
from mixedar.streams import Source

_KINDS = ("raw", "pearson", "normalized")
_LEVELS = ("population", "group")


class GivenRows:
    """
    What a fit says of rows of groups that are given whole.

    Estimates are those of the fit; random effects and residuals are those of these
    groups, given their responses.

    Parameters
    ----------
    fit : Fit
        Beside the rows.

    Attributes
    ----------
    fittedvalues, resid : Series
        With predicted random effects, and what is left; indexed as the rows.
    """

    get_prediction = Question("mixedar.prediction.predict")
    forecast = Question("mixedar.prediction.ahead")
    random_effects_frame = Question("mixedar.by_group.effects")

    def __init__(self, fit: Fit) -> None:
        self.fit = fit

    def __repr__(self) -> str:
        data = self.fit.data
        return f"<GivenRows: {data.nobs} rows, {data.n_groups} groups>"

    @property
    def fittedvalues(self) -> pd.Series:
        """``X beta + Z b`` with the predicted random effects."""
        return self._labelled(self.fit.fittedvalues, "fitted")

    @property
    def resid(self) -> pd.Series:
        """Raw residuals around the fitted values."""
        return self.residuals()

    def residuals(self, kind: str = "raw") -> pd.Series:
        """
        Within-group residuals.

        Parameters
        ----------
        kind : {"raw", "pearson", "normalized"}
            As of the results.

        Returns
        -------
        Series
        """
        check_choice("kind", kind, _KINDS)
        return self._labelled(self.fit.residuals(kind), kind)

    def _labelled(self, values: FloatArray, name: str) -> pd.Series:
        return pd.Series(values, index=self.fit.data.row_index, name=name)


def with_rows(fit: Fit, newdata: object) -> GivenRows:
    """
    The fit beside other rows: groups with their histories.

    Parameters
    ----------
    fit : Fit
        Of a source, or of a frame by formulas.
    newdata : DataFrame, dict or frame of another package
        All rows of some groups, with responses.

    Returns
    -------
    GivenRows
        ``forecast``, ``get_prediction``, ``random_effects_frame``, ``residuals``,
        ``fittedvalues`` and ``resid`` of these rows, at the estimates of the fit.

    Raises
    ------
    EmptyDataError
        If there are no rows.
    UnsupportedError
        For models whose groups share more than fixed effects, such as smooths.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="age")
    >>> some = model.fit().with_rows(teeth.head(8))
    >>> some.random_effects_frame().round(2).index.tolist()
    ['F01', 'F02']
    """
    reader = reader_of(fit.data)
    data = reader.read(as_frame(newdata))
    if data is None:
        raise EmptyDataError("there are no rows")
    return GivenRows(beside(fit, data))


def predictions(
    fit: Fit, source: Source, level: str = "population", to: object = None
) -> Iterator[pd.DataFrame] | Path:
    """
    Predicted means of all rows of a source.

    Parameters
    ----------
    fit : Fit
    source : Source
    level : {"population", "group"}
        ``X beta``, or ``X beta + Z b`` with the effects of the row's group given its
        responses.
    to : path, optional
        A Parquet file to write; its path is returned.

    Returns
    -------
    iterator of DataFrame, or Path
        Group, time and ``predicted``; the index numbers the rows of the source.
    """
    check_choice("level", level, _LEVELS)
    if level == "group":
        return _in_batches(fit, source, lambda f: f.fittedvalues, "predicted", to)
    encoder, spec = fit.encoder, fit.formula_spec
    assert spec is not None
    shown = _labels(fit, source)
    read = [*spec.variables, *shown]
    if encoder.has_offset:
        read.append(encoder.columns["offset"])
    read = list(dict.fromkeys(read))
    source.check_columns(read)

    def frames() -> Iterator[pd.DataFrame]:
        for table in source.frames(read):
            means = spec.matrix(table) @ fit.fe_params + encoder.offsets(None, table)
            yield table[shown].assign(predicted=means)

    return frames_or_file(frames(), to)


def residuals_by_batch(
    fit: Fit, source: Source, kind: str = "raw", to: object = None
) -> Iterator[pd.DataFrame] | Path:
    """
    Residuals of all rows of a source, group by group.

    Parameters
    ----------
    fit : Fit
    source : Source
    kind : {"raw", "pearson", "normalized"}
    to : path, optional
        A Parquet file to write; its path is returned.

    Returns
    -------
    iterator of DataFrame, or Path
        Group, time and residual, by the name of its kind; the index numbers the rows
        of the source, or, where they had to be sorted, of the sorted rows.
    """
    check_choice("kind", kind, _KINDS)
    return _in_batches(fit, source, lambda f: f.residuals(kind), kind, to)


def random_effects(
    fit: Fit, source: Source, to: object = None
) -> Iterator[pd.DataFrame] | Path:
    """
    Predicted random effects of all groups of a source.

    Parameters
    ----------
    fit : Fit
    source : Source
    to : path, optional
        A Parquet file to write; its path is returned.

    Returns
    -------
    iterator of DataFrame, or Path
        Indexed by the groups.
    """

    def frames() -> Iterator[pd.DataFrame]:
        for some in _batches(fit, source):
            data, means = some.data, some.effects.means
            yield pd.DataFrame(means, data.group_index, list(data.random_names))

    return frames_or_file(frames(), to)


def _in_batches(
    fit: Fit,
    source: Source,
    answer: Callable[[Fit], FloatArray],
    name: str,
    to: object,
) -> Iterator[pd.DataFrame] | Path:
    """What a function says of the rows of each batch, beside their labels."""
    shown = _labels(fit, source)

    def frames() -> Iterator[pd.DataFrame]:
        for some in _batches(fit, source):
            table = some.data.frame
            assert table is not None
            yield table[shown].assign(**{name: np.asarray(answer(some))})

    return frames_or_file(frames(), to)


def _labels(fit: Fit, source: Source) -> list[str]:
    """Columns that say which row it is."""
    names = [fit.encoder.columns[role] for role in ("groups", "series", "time")]
    return [name for name in names if name in source.columns]


def _batches(fit: Fit, source: Source) -> Iterator[Fit]:
    """The fit beside the groups of each batch."""
    reader = reader_of(fit.data)
    columns: Sequence[str] = reader.columns
    source.check_columns(columns)
    for table in kept_together(source, reader.key).frames(columns, reader.key):
        data = reader.read(table)
        if data is not None:
            yield beside(fit, data)


def frames_or_file(
    frames: Iterator[pd.DataFrame], to: Any
) -> Iterator[pd.DataFrame] | Path:
    """The frames, or the file into which they are written."""
    if to is None:
        return frames
    import pyarrow as pa
    import pyarrow.parquet as pq

    # a file that is there is whole
    path, part = Path(to), Path(f"{to}.part")
    writer: Any = None
    try:
        for frame in frames:
            table = pa.Table.from_pandas(frame)
            if writer is None:
                writer = pq.ParquetWriter(part, table.schema)
            writer.write_table(table.cast(writer.schema))
        if writer is None:
            raise EmptyDataError("there are no rows")
        writer.close()
        os.replace(part, path)
    finally:
        if writer is not None:
            writer.close()
        part.unlink(missing_ok=True)
    return path
