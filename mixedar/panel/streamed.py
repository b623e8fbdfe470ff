"""
Panels of sources: two readings, one for levels and times and one for sums, and a third
at the estimates where a covariance needs the scores of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.formula import FormulaSpec
from mixedar.data.formula.terms import without_empty_cells
from mixedar.data.reading import FormulaReader, Reading, Stream
from mixedar.exceptions import EmptyDataError
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import Effects, PanelEstimate
from mixedar.panel.sorting import make_panel, time_grid
from mixedar.panel.summed import (
    PanelSums,
    RowsOf,
    ScoreSums,
    SummedPanel,
    SummedRegression,
)
from mixedar.panel.transformed import Transformation

# Leverage without which nothing is left of a coefficient.
_ALL = 1.0 - 1e-8


@dataclass(frozen=True)
class PanelReader:
    """
    Reads rows of a source as panels of whole entities.

    Attributes
    ----------
    stream : Stream
        By entities.
    rows : FormulaReader
    time : str or None
    endog_name : str
    """

    stream: Stream
    rows: FormulaReader
    time: str | None
    endog_name: str

    @property
    def columns(self) -> tuple[str, ...]:
        """All that is read."""
        return self.stream.columns

    def panel(self, table: pd.DataFrame) -> PanelData | int:
        """The panel of the entities of a table; rows left out, if none is used."""
        found = self.rows.read(table)
        used = found.table
        if not len(used):
            return found.n_dropped
        return make_panel(
            found.endog,
            found.exog,
            self.rows.spec.column_names,
            used[self.stream.key],
            None if self.time is None else used[self.time],
            index=used.index,
            endog_name=self.endog_name,
            entity_name=self.stream.key,
            time_name=self.time or "time",
            n_dropped=found.n_dropped,
        )

    def sums(self) -> tuple[PanelSums, PanelReader]:
        """All that is kept of the rows, and what reads the same rows again."""

        def of(table: pd.DataFrame) -> PanelSums:
            panel = self.panel(table)
            if isinstance(panel, int):
                return PanelSums.none(panel)
            return PanelSums.of(panel)

        found, stream = self.stream.again(of, PanelSums.merged)
        return found, replace(self, stream=stream)

    def fitted(self, table: pd.DataFrame, estimate: PanelEstimate) -> pd.Series:
        """Fitted values with effects, of the entities of a table."""
        panel = self.panel(table)
        if isinstance(panel, int):
            return pd.Series(dtype=float, index=table.index[:0])
        regression = estimate.regression
        assert isinstance(regression, SummedRegression)
        if estimate.theta is not None:
            theta = regression.at.fractions(panel.sizes)
            estimate = replace(estimate, theta=theta)
        return panel.series(Effects.of(panel, estimate).fitted)

    def scores(self, regression: SummedRegression, by_row: bool) -> ScoreSums:
        """
        Sums of the scores of rows or of entities, at the estimates.

        Parameters
        ----------
        regression : SummedRegression
        by_row : bool

        Returns
        -------
        ScoreSums
        """
        at, slopes = regression.at, regression.slopes
        rows = partial(transformed, at, slopes)
        leaves = by_row and at.kind == "fe"
        return self.score_sums(rows, regression.x, slopes, by_row, leaves)

    def score_sums(
        self,
        rows: RowsOf,
        x: FloatArray,
        slopes: IntArray,
        by_row: bool = False,
        leaves: bool = False,
    ) -> ScoreSums:
        """
        Sums of the scores of rows or of entities.

        Parameters
        ----------
        rows : callable
            Regressors and residuals of the rows of a panel.
        x : ndarray, shape (m, k)
            Regressors with the cross-product of those of all rows.
        slopes : ndarray of int
            Columns that may be determined by one row, or entity, alone.
        by_row : bool
        leaves : bool
            Whether a row that is left out changes the mean of its entity.

        Returns
        -------
        ScoreSums
        """
        whiten, k = _whitening(x[:, slopes].T @ x[:, slopes]), x.shape[1]

        def of(table: pd.DataFrame) -> ScoreSums:
            panel = self.panel(table)
            if isinstance(panel, int):
                return ScoreSums(np.zeros((k, k)), [])
            x, resid = rows(panel)
            scores = x * resid[:, None]
            if not by_row:
                scores = panel.entity_sums(scores)
            meat = scores.T @ scores
            if whiten is None:
                return ScoreSums(meat, [])
            found = _alone(panel, x[:, slopes] @ whiten, by_row, leaves)
            directions = np.zeros((len(whiten.T), k))
            directions[:, slopes] = whiten.T
            return ScoreSums(
                meat, [(label, lost @ directions) for label, lost in found]
            )

        return self.stream.again(of, ScoreSums.merged)[0]


def transformed(
    at: Transformation, slopes: IntArray, panel: PanelData
) -> tuple[FloatArray, FloatArray]:
    """Regressors and residuals of the rows of a panel, as a regression has them."""
    x, y = panel.x[:, at.columns] @ at.back, panel.y
    if at.kind == "fe":
        x, y = panel.demean(x), panel.demean(y)
        resid = y - x[:, slopes] @ at.coef[slopes]
        x[:, np.delete(np.arange(x.shape[1]), slopes)] = 1.0
        return x, resid
    if at.kind == "re":
        theta = at.fractions(panel.sizes)
        x, y = panel.quasi_demean(x, theta), panel.quasi_demean(y, theta)
    return x, y - x @ at.coef


def _whitening(gram: FloatArray) -> FloatArray | None:
    """What makes columns with this cross-product orthonormal; None if nothing does."""
    scale = np.sqrt(np.diag(gram))
    if not len(gram) or not (scale > 0.0).all():
        return None
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    if not values[0] > 0.0:
        return None
    return np.asarray(vectors / np.sqrt(values) / scale[:, None])


def _alone(
    panel: PanelData, white: FloatArray, by_row: bool, leaves: bool
) -> list[tuple[Any, FloatArray]]:
    """
    Entities, or those of rows, without which a coefficient is not determined.

    `white` are regressors whose cross-product in all rows is the identity.  A row that
    leaves its entity takes its part of the mean with it.
    """
    leverage = np.einsum("ij,ij->i", white, white)
    sizes = panel.per_row(panel.sizes)
    if not by_row:
        leverage = panel.entity_sums(leverage)
    elif leaves:
        leverage = leverage * np.where(sizes > 1, sizes / np.maximum(sizes - 1, 1), 1.0)
    out = []
    for unit in np.flatnonzero(leverage > _ALL):
        rows = slice(unit, unit + 1)
        entity = panel.entity[unit] if by_row else unit
        if not by_row:
            rows = slice(panel.offsets[unit], panel.offsets[unit + 1])
        own = white[rows].T @ white[rows]
        if by_row:
            own = own * (leverage[unit] / max(np.trace(own), np.finfo(float).tiny))
        shares, vectors = np.linalg.eigh(np.eye(len(own)) - own)
        lost = vectors[:, shares < 1.0 - _ALL].T
        if len(lost):
            out.append((panel.entity_labels[entity], lost))
    return out


def read_panel(asked: Reading, delta: object) -> tuple[SummedPanel, FormulaSpec]:
    """
    Read a source twice: what levels and times there are, and sums.

    Parameters
    ----------
    asked : Reading
        With the column of the entities as its key.
    delta : number, str, duration or None
        The unit of time.

    Returns
    -------
    panel : SummedPanel
    spec : FormulaSpec
        Of the regressors.

    Raises
    ------
    SourceError
        If the rows cannot be read, or have changed between the readings.
    EmptyDataError
        If no row is left.
    """
    found, entity, time = asked.read(), asked.key, asked.named.get("time")
    rows, name = found.reader, found.design.endog_name
    sums, reader = PanelReader(found.stream, rows, time, name).sums()
    if not sums.nobs:
        raise EmptyDataError("there are no observations; check subset= and missing=")
    spec = without_empty_cells(rows.spec, sums.regressors)[0]
    if spec.empty_cells is not None:
        sums = sums.taken(spec.empty_cells.kept)
        reader = replace(reader, rows=replace(rows, spec=spec))
    panel = SummedPanel.of(
        sums,
        reader=reader,
        names=tuple(spec.column_names),
        endog_name=name,
        entity_name=entity,
        delta=delta,
        weights=None,
        weights_name="",
        **_clock(sums, time, delta),
    )
    return panel, spec


def _clock(sums: PanelSums, time: str | None, delta: object) -> Mapping[str, Any]:
    """What a panel says of its periods."""
    if time is None:
        labels = np.arange(max(sums.counts))
        known = {"time_name": "row", "has_time": False, "on_grid": True}
        return {**known, "time_labels": labels, "time_unit": None, "time_step": 1.0}
    axis, on_grid = time_grid(sums.periods, time, delta)
    step = 1.0
    if on_grid:
        unit = "auto" if delta is None else delta
        step = axis.step(unit, sums.gaps, True, time, "a panel")
    return {
        "time_name": time,
        "has_time": True,
        "on_grid": on_grid,
        "time_labels": sums.periods.to_numpy()[np.argsort(axis.values)],
        "time_unit": axis.label(step),
        "time_step": step,
    }
