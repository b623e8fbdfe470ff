"""
A panel of which only sums are left, for rows that are read in batches.

With the response and the regressors as columns, rows fall into two orthogonal parts:
deviations from the means of their entities, and these means, one row an entity times
the root of its number of observations. A triangular factor keeps the cross-product of
each part: one of all deviations, and one of the means of all entities of one size,
since quasi-demeaning scales means by a number that depends on the size alone. Least
squares on the rows of the factors is least squares on the rows of the data, turned by
an orthogonal matrix: demeaning sets the second part to zero, quasi-demeaning scales
it, and the column of a constant is turned like all others. So the estimators of the
package run on such a panel as they are, in as many rows as there are columns and
sizes.

linearmodels, which estimates fixed and random effects of rows in memory, counts the
rows it is given, and would take those of factors for observations.  The same formulas
stand in the estimators beside it, where weights need them too; tests hold both equal.

Scores are no sums of products of two columns: robust and clustered covariances read the
rows once more, at the estimates (:mod:`mixedar.panel.streamed`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray
from mixedar.data.reading import NotKept
from mixedar.exceptions import GroupError, NotComputedError, UnsupportedError
from mixedar.numeric.linalg import r_factor
from mixedar.panel.data import EntitySizes, PanelData
from mixedar.panel.estimate import PanelEstimate
from mixedar.panel.transformed import (
    ONE_CLUSTER,
    Transformation,
    TransformedRegression,
    sum_factor,
)

_LACKING = (
    "this needs the rows of the panel, which were read from a source and not kept: "
    "predict them batch by batch, by fit.predict(source), or fit a frame (of some "
    "entities, where all do not fit into memory)"
)
# So many labels of entities with one observation are kept, for a note.
_NAMED = 8


_OF_ROWS = NotKept(_LACKING)


def _first(labels: Sequence[Sequence[Any]]) -> list[Any]:
    """The first of some labels."""
    return sorted(one for part in labels for one in part)[:_NAMED]


@dataclass(frozen=True, eq=False)
class PanelSums:
    """
    What is kept of entities that were read.

    Attributes
    ----------
    n_dropped : int
        Rows left out because of missing values.
    nobs : int
    within : ndarray, shape (q, p + 1)
        Factor of the deviations of regressors and response from entity means.
    between : mapping of int to ndarray, shape (q, p + 2)
        By number of observations, factor of a constant and the means of such entities.
    counts : mapping of int to int
        Numbers of these entities.
    value : ndarray, shape (p + 1,)
        Values of columns that are constant, NaN for others.
    first : object
        Label of the first entity.
    singletons : list
        Labels of the first entities with one observation.
    periods : Series
        Distinct times.
    gaps : ndarray
        Distinct times between two observations of an entity.
    """

    n_dropped: int
    nobs: int
    within: FloatArray
    between: Mapping[int, FloatArray]
    counts: Mapping[int, int]
    value: FloatArray
    first: Any
    singletons: list[Any]
    periods: pd.Series
    gaps: FloatArray

    @classmethod
    def of(cls, panel: PanelData) -> PanelSums:
        """Of the panel of whole entities."""
        columns = np.column_stack([panel.x, panel.y])
        means = np.column_stack([panel.entity_ones, panel.entity_means(columns)])
        sizes, counts = np.unique(panel.sizes, return_counts=True)
        parts = {size: r_factor(means[panel.sizes == size]) for size in sizes.tolist()}
        return cls(
            panel.n_dropped,
            panel.nobs,
            r_factor(panel.demean(columns)),
            parts,
            dict(zip(sizes.tolist(), counts.tolist(), strict=True)),
            np.where((columns == columns[0]).all(axis=0), columns[0], np.nan),
            panel.entity_labels[0],
            _first([panel.singletons]),
            pd.Series(panel.time_labels),
            np.unique(panel.gaps) * panel.time_step,
        )

    @classmethod
    def none(cls, n_dropped: int) -> PanelSums:
        """Of rows of which none is used."""
        none, times = np.empty(0), pd.Series(dtype=float)
        return cls(n_dropped, 0, none[:, None], {}, {}, none, None, [], times, none)

    @classmethod
    def merged(cls, parts: Sequence[PanelSums]) -> PanelSums:
        """Of all parts together."""
        some = [part for part in parts if part.nobs]
        totals = {
            name: sum(getattr(part, name) for part in parts)
            for name in ("n_dropped", "nobs")
        }
        if not some:
            return replace(parts[0], **totals)
        sizes = sorted({size for part in some for size in part.between})
        values = np.array([part.value for part in some])
        periods = pd.concat([part.periods for part in some], ignore_index=True)
        return cls(
            **totals,
            within=r_factor(np.vstack([part.within for part in some])),
            between={
                size: r_factor(
                    np.vstack([p.between[size] for p in some if size in p.between])
                )
                for size in sizes
            },
            counts={size: sum(p.counts.get(size, 0) for p in some) for size in sizes},
            value=np.where(np.ptp(values, axis=0) == 0.0, values[0], np.nan),
            first=some[0].first,
            singletons=_first([part.singletons for part in some]),
            periods=periods.drop_duplicates(),
            gaps=np.unique(np.concatenate([part.gaps for part in some])),
        )

    @property
    def regressors(self) -> FloatArray:
        """Rows with the cross-product of the regressors, shape (m, p)."""
        between = [np.sqrt(size) * rows for size, rows in self.between.items()]
        means = [rows[:, 1:-1] for rows in between]
        return np.ascontiguousarray(np.vstack([self.within[:, :-1], *means]))

    def taken(self, columns: IntArray) -> PanelSums:
        """Those of some regressors."""
        own = np.append(columns, self.within.shape[1] - 1)
        with_ones = np.append(0, own + 1)
        parts = {size: rows[:, with_ones] for size, rows in self.between.items()}
        value = self.value[own]
        return replace(self, within=self.within[:, own], between=parts, value=value)


@dataclass(frozen=True, eq=False)
class ScoreSums:
    """
    Sums of scores, and units that alone determine a coefficient.

    Attributes
    ----------
    meat : ndarray, shape (k, k)
        Sum of the outer products of the scores of each unit, a row or an entity.
    alone : list of tuple of object and ndarray, shape (m, k)
        Labels of the entities of such units, and the directions of the coefficients.
    """

    meat: FloatArray
    alone: list[tuple[Any, FloatArray]]

    @classmethod
    def merged(cls, parts: Sequence[ScoreSums]) -> ScoreSums:
        """Of all parts together."""
        alone = [one for part in parts for one in part.alone]
        return cls(np.sum([part.meat for part in parts], axis=0), alone)


#: Regressors and residuals of the rows of a panel.
RowsOf = Callable[[PanelData], tuple[FloatArray, FloatArray]]


class RowsReader(Protocol):
    """What reads the rows of a panel once more."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All that is read."""

    def fitted(self, table: pd.DataFrame, estimate: PanelEstimate) -> pd.Series:
        """Fitted values with effects, of the entities of a table."""

    def scores(self, regression: SummedRegression, by_row: bool) -> ScoreSums:
        """Sums of scores, of rows or of entities."""

    def score_sums(self, rows: RowsOf, x: FloatArray, slopes: IntArray) -> ScoreSums:
        """The same of entities, of any regressors and residuals."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SummedRegression(TransformedRegression):
    """
    A transformed regression whose rows are turned, and stand for more of the data.

    Attributes
    ----------
    panel : SummedPanel
        The sums, and what reads the rows.
    at : Transformation
        How rows become those of the regression.
    """

    entity = _OF_ROWS
    time = _OF_ROWS
    times = _OF_ROWS
    panel: SummedPanel
    at: Transformation

    @property
    def nobs(self) -> int:
        """Number of rows of the data."""
        return self.panel.nobs

    @property
    def scores(self) -> FloatArray:
        """Those of turned rows mean nothing."""
        raise NotComputedError(_LACKING)

    @cached_property
    def of_rows(self) -> ScoreSums:
        """Sums of scores of rows."""
        return self.panel.reader.scores(self, True)

    @cached_property
    def of_entities(self) -> ScoreSums:
        """Sums of scores of entities."""
        return self.panel.reader.scores(self, False)

    def row_products(self) -> FloatArray:
        """See :class:`TransformedRegression`."""
        return self.of_rows.meat

    def cluster_products(
        self, small_sample: str | None
    ) -> tuple[FloatArray, tuple[int, ...]]:
        """See :class:`TransformedRegression`; clusters are entities."""
        groups = self.panel.n_entities
        if groups < 2:
            raise GroupError(ONE_CLUSTER)
        factor = sum_factor(groups, self.nobs, small_sample)
        return factor * self.of_entities.meat, (groups,)

    @property
    def loose_rank(self) -> int:
        """Effects are nested in the entities by which rows are clustered."""
        return 1


class SummedPanel(PanelData):
    """
    A panel of which sums are left.

    `x` and `y` are turned rows, those of the deviations first; what has one value an
    entity has one for each row of the second part, whose number of observations is
    `sizes`.

    Attributes
    ----------
    sums : PanelSums
    part : int
        Number of rows of the first part.
    reader : RowsReader
        Reads the rows once more, for the scores of a regression.
    """

    sums: PanelSums
    part: int
    sizes: IntArray
    ones: FloatArray
    entity_ones: FloatArray
    constant: int | None
    reader: RowsReader

    entity = _OF_ROWS
    time = _OF_ROWS
    times = _OF_ROWS
    entity_labels = _OF_ROWS
    order = _OF_ROWS
    offsets = _OF_ROWS
    index = _OF_ROWS
    given_time = _OF_ROWS

    @classmethod
    def of(cls, sums: PanelSums, **known: Any) -> SummedPanel:
        """What the sums tell, and what is known beside them, by name."""
        sizes = np.repeat(list(sums.between), [len(r) for r in sums.between.values()])
        root = np.sqrt(sizes)
        means = np.vstack(list(sums.between.values())) * root[:, None]
        part, p = len(sums.within), sums.within.shape[1] - 1
        columns = np.vstack([sums.within, means[:, 1:]])
        ones = np.append(np.zeros(part), means[:, 0])
        constant = np.flatnonzero(np.nan_to_num(sums.value[:p]) != 0.0)
        out = object.__new__(cls)
        out.__dict__.update(
            sums=sums,
            part=part,
            x=np.ascontiguousarray(columns[:, :p]),
            y=columns[:, p],
            sizes=sizes,
            ones=ones,
            entity_ones=means[:, 0] / root,
            constant=int(constant[0]) if len(constant) else None,
            root=ones,
            n_dropped=sums.n_dropped,
            **known,
        )
        return out

    @property
    def has_rows(self) -> bool:
        """They are not there."""
        return False

    def check_rows(self) -> None:
        """They are not there."""
        raise NotComputedError(_LACKING)

    @property
    def nobs(self) -> int:
        """Number of observations."""
        return self.sums.nobs

    @property
    def n_entities(self) -> int:
        """Number of entities."""
        return sum(self.sums.counts.values())

    @property
    def entity_weights(self) -> FloatArray:
        """Numbers of observations of the entities behind each mean."""
        return self.sizes.astype(np.float64)

    @property
    def n_times(self) -> EntitySizes:
        """Smallest, mean and largest number of observations of an entity."""
        counts = self.sums.counts
        return EntitySizes(min(counts), self.nobs / self.n_entities, max(counts))

    @property
    def level(self) -> float:
        """Value of the constant column."""
        return 0.0 if self.constant is None else float(self.sums.value[self.constant])

    @property
    def has_constant_response(self) -> bool:
        """Whether the response is the same in all rows."""
        return bool(np.isfinite(self.sums.value[-1]))

    @property
    def centred(self) -> FloatArray:
        """See :class:`PanelData`."""
        if self.constant is None:
            return self.x
        out = self.centre(self.x)
        out[:, self.constant] = self.x[:, self.constant]
        return out

    @property
    def first_entity(self) -> Any:
        """Label of the first entity."""
        return self.sums.first

    @property
    def singletons(self) -> list[Any]:
        """Labels of the first entities with one observation."""
        return self.sums.singletons

    @property
    def n_singletons(self) -> int:
        """Number of entities with one observation."""
        return self.sums.counts.get(1, 0)

    def count_effects(self, effects: Sequence[str]) -> int:
        """Rank of the dummies of the entities."""
        return self.n_entities

    def by_root(self, values: FloatArray) -> FloatArray:
        """Rows are what they are."""
        return values

    def grand_mean(self, values: FloatArray) -> FloatArray:
        """Mean over all rows of the data, shape () or (k,)."""
        return np.asarray(self.ones @ values / self.nobs)

    def centre(self, values: FloatArray) -> FloatArray:
        """Values less their mean, shape of `values`."""
        means = self.grand_mean(values)
        return values - (self.ones * means if values.ndim == 1 else self._outer(means))

    def _outer(self, means: FloatArray) -> FloatArray:
        return np.outer(self.ones, means)

    def entity_means(self, values: FloatArray) -> FloatArray:
        """Means of entities, each counting once, turned; shape (m,) or (m, k)."""
        root = np.sqrt(self.sizes)
        means = values[self.part :]
        return means / (root if values.ndim == 1 else root[:, None])

    def per_row(self, per_entity: NDArray[Any]) -> NDArray[Any]:
        """What means of entities are in all their rows."""
        root = np.sqrt(self.sizes)
        root = root if per_entity.ndim == 1 else root[:, None]
        none = np.zeros((self.part, *per_entity.shape[1:]))
        return np.concatenate([none, per_entity * root])

    def demean(self, values: FloatArray) -> FloatArray:
        """Values less the means of their entities, shape of `values`."""
        out = values.copy()
        out[self.part :] = 0.0
        return out

    def entity_mean(self, values: FloatArray) -> float:
        """Mean over the entities of a function of their size."""
        counts = self._counts
        return float(counts @ values / counts.sum())

    def entity_variance(self, values: FloatArray) -> float:
        """Variance over the entities of means."""
        n = self.n_entities
        away = values - self.entity_ones * (self.entity_ones @ values / n)
        return float(away @ away) / (n - 1)

    def entity_quantile(self, values: FloatArray, q: float) -> float:
        """Quantile over the entities of a function of their size."""
        order = np.argsort(values, kind="stable")
        ends = np.cumsum(self._counts[order])
        place = q * (self.n_entities - 1)
        low, high = (
            values[order][np.searchsorted(ends, at, side="right")]
            for at in (np.floor(place), np.ceil(place))
        )
        return float(low + (place - np.floor(place)) * (high - low))

    @property
    def _counts(self) -> IntArray:
        """Numbers of entities of each size, where its first mean stands, else 0."""
        first = np.append(True, np.diff(self.sizes) > 0)
        out = np.zeros(len(self.sizes), dtype=np.int64)
        out[first] = list(self.sums.counts.values())
        return out

    def regression(
        self,
        x: FloatArray,
        resid: FloatArray,
        used: IntArray | slice,
        at: Transformation,
        **parts: Any,
    ) -> TransformedRegression:
        """The regression of transformed rows."""
        nothing: IntArray = np.empty(0, dtype=np.intp)
        of_rows = nothing, nothing, np.empty(0)
        return SummedRegression(
            x, resid, *of_rows, root=self.ones, panel=self, at=at, **parts
        )


def sums_agree(a: PanelData, b: PanelData) -> bool:
    """
    Refuse panels whose numbers of rows, or sums of the response, differ.

    False if both have their rows, which say more.
    """
    if a.has_rows and b.has_rows:
        return False
    if not (isinstance(a, SummedPanel) and isinstance(b, SummedPanel)):
        raise UnsupportedError(
            "hausman: one fit is of a frame and the other of a source, whose rows are "
            "not kept; fit both to the same"
        )
    same = a.sums.counts == b.sums.counts
    if same:
        sums = [(p.ones @ p.y, p.y @ p.y, p.demean(p.y) @ p.y) for p in (a, b)]
        same = np.allclose(sums[0], sums[1], rtol=1e-10, atol=0.0)
    if not same:
        raise UnsupportedError(
            f"hausman: the fits use different rows or responses ({a.endog_name!r} and "
            f"{b.endog_name!r}): {a.nobs:,} rows of {a.n_entities:,} entities and "
            f"{b.nobs:,} of {b.n_entities:,}, with other numbers of rows an entity or "
            "other sums of the response; fit both to the same rows (missing values in "
            "a regressor of one model drop rows from that model only)"
        )
    return True
