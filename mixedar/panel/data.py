"""
Panel data as arrays: rows sorted by entity and time, and the way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.panel.algebra import (
    dummy_effects,
    rank_of_effects,
)
from mixedar.panel.transformed import (
    Transformation,
    TransformedRegression,
)
from mixedar.summary import NamedInALine, in_a_line

# Up to this many periods the normal equations of two-way effects are solved densely.
_DENSE = 3000


class EntitySizes(NamedTuple):
    """Smallest, mean and largest number of observations of an entity."""

    min: int
    mean: float
    max: int


@dataclass(frozen=True, eq=False)
class PanelData(NamedInALine):
    """
    A panel: n observations of N entities, sorted by entity and time.

    Attributes
    ----------
    y : ndarray, shape (n,)
        Response.
    x : ndarray, shape (n, p)
        Regressors, the constant (if any) included.
    names : tuple of str
        Their names; ``"Intercept"`` is the constant.
    entity : ndarray of int, shape (n,)
        Entity numbers ``0 ... N - 1``, in the order of `entity_labels`.
    time : ndarray of int, shape (n,)
        Period numbers ``0 ... T - 1``, in the order of `time_labels`.
    times : ndarray, shape (n,)
        Times as numbers, in units of `time_unit`; if `on_grid` those of an entity
        are whole units apart.
    entity_labels : ndarray, shape (N,)
        Sorted labels of the entities.
    time_labels : ndarray, shape (T,)
        Sorted labels of the periods.
    order : ndarray of int, shape (n,), or None
        Positions of the caller's rows in sorted order; None if they are sorted.
    offsets : ndarray of int, shape (N + 1,)
        Entity ``i`` has the rows ``offsets[i]:offsets[i + 1]``.
    index : pandas.Index
        Labels of the rows in the caller's order.
    endog_name, entity_name, time_name : str
        Names; `time_name` is ``"row"`` if no times were given.
    has_time : bool
        Whether times were given; else the order of the rows counts.
    on_grid : bool
        Whether the times lie on a grid of equal steps.
    time_unit : str or None
        What one unit of time is; None for plain numbers.
    time_step : float
        Its length, in the numbers that times are read as.
    given_time, delta : object
        Times, in the caller's order, and their unit as they were given.
    n_dropped : int
        Rows left out because of missing values.
    weights : ndarray, shape (n,), or None
        Inverse variances of the rows up to a constant, with a mean of one.  Means
        of entities and periods are weighted by them.
    weights_name : str
        Name of their column.
    """

    y: FloatArray
    x: FloatArray
    names: tuple[str, ...]
    entity: IntArray
    time: IntArray
    times: FloatArray
    entity_labels: NDArray[Any]
    time_labels: NDArray[Any]
    order: IntArray | None
    offsets: IntArray
    index: pd.Index
    endog_name: str = "y"
    entity_name: str = "entity"
    time_name: str = "time"
    has_time: bool = True
    on_grid: bool = True
    time_unit: str | None = None
    time_step: float = 1.0
    given_time: Any = None
    delta: object = None
    n_dropped: int = 0
    weights: FloatArray | None = None
    weights_name: str = ""

    def __repr__(self) -> str:
        size = f"{self.nobs} rows, {self.n_entities} entities"
        return in_a_line(self, None, self.endog_name, size)

    @property
    def nobs(self) -> int:
        """Number of observations, n."""
        return len(self.y)

    @property
    def n_entities(self) -> int:
        """Number of entities, N."""
        return len(self.entity_labels)

    @property
    def n_periods(self) -> int:
        """Number of distinct times, T."""
        return len(self.time_labels)

    @cached_property
    def sizes(self) -> IntArray:
        """Observations of each entity, shape (N,)."""
        return np.diff(self.offsets)

    @property
    def has_rows(self) -> bool:
        """Whether the rows are there, and not only sums of them."""
        return True

    def check_rows(self) -> None:
        """Raise unless the rows are there."""

    @cached_property
    def ones(self) -> FloatArray:
        """The column of a constant, shape (n,)."""
        return np.ones(self.nobs)

    @cached_property
    def entity_ones(self) -> FloatArray:
        """The same of a regression on means of entities, shape (N,)."""
        return np.ones(self.n_entities)

    @cached_property
    def root(self) -> FloatArray | None:
        """Square roots of the weights, None without."""
        return None if self.weights is None else np.sqrt(self.weights)

    @cached_property
    def entity_weights(self) -> FloatArray:
        """Sums of the weights of each entity, shape (N,); `sizes` without weights."""
        if self.weights is None:
            return self.sizes.astype(np.float64)
        return self.entity_sums(self.weights)

    def by_root(self, values: FloatArray) -> FloatArray:
        """Rows times the square roots of their weights, shape of `values`."""
        if self.root is None:
            return values
        return values * (self.root if values.ndim == 1 else self.root[:, None])

    def grand_mean(self, values: FloatArray) -> FloatArray:
        """Weighted mean over all rows, shape () or (k,)."""
        if self.weights is None:
            return np.asarray(values.mean(axis=0))
        return np.asarray(np.average(values, axis=0, weights=self.weights))

    def centre(self, values: FloatArray) -> FloatArray:
        """Values less their (weighted) mean, shape of `values`."""
        return values - self.grand_mean(values)

    @property
    def n_times(self) -> EntitySizes:
        """Smallest, mean and largest number of observations of an entity."""
        sizes = self.sizes
        return EntitySizes(int(sizes.min()), float(sizes.mean()), int(sizes.max()))

    @property
    def is_balanced(self) -> bool:
        """Whether every entity is observed in every period."""
        return self.nobs == self.n_entities * self.n_periods

    @cached_property
    def constant(self) -> int | None:
        """Position of the constant column in `x`; None without one."""
        for j in range(self.x.shape[1]):
            column = self.x[:, j]
            # the ends first: most columns are dismissed without a pass
            ends = column[0] == column[-1] and column[0] != 0.0
            if ends and (column == column[0]).all():
                return j
        return None

    @property
    def level(self) -> float:
        """Value of the constant column."""
        return 0.0 if self.constant is None else float(self.x[0, self.constant])

    @property
    def has_constant_response(self) -> bool:
        """Whether the response is the same in all rows."""
        return bool((self.y == self.y[0]).all())

    @cached_property
    def slopes(self) -> IntArray:
        """Positions of the columns of `x` but the constant."""
        columns = np.arange(self.x.shape[1])
        return columns if self.constant is None else np.delete(columns, self.constant)

    @cached_property
    def centred(self) -> FloatArray:
        """`x` less its means, if it has a constant: neither slopes nor fits change."""
        if self.constant is None:
            return self.x
        shift = self.x.mean(axis=0)
        shift[self.constant] = 0.0
        return self.x - shift

    @cached_property
    def singletons(self) -> list[Any]:
        """Labels of the entities with one observation."""
        return list(self.entity_labels[self.sizes == 1])

    @property
    def first_entity(self) -> Any:
        """Label of the first entity."""
        return self.entity_labels[0]

    @property
    def n_singletons(self) -> int:
        """Number of entities with one observation."""
        return len(self.singletons)

    @property
    def order_notes(self) -> list[str]:
        """Say that the order of the rows counts, if it does."""
        if self.has_time:
            return []
        return [
            "No time= was given: rows of an entity follow one another as they come."
        ]

    @property
    def neighbours(self) -> BoolArray:
        """Whether the row before is the same entity one unit earlier, shape (n,)."""
        return np.abs(self.gaps - 1.0) < 1e-9

    def lagged(self, values: FloatArray, lag: int) -> FloatArray:
        """
        Values of an entity `lag` units of time before; 0 where there are none.

        On no grid, `lag` observations before.
        """
        place = self.times if self.on_grid else np.arange(self.nobs)
        place = np.rint(place - self.per_row(place[self.offsets[:-1]])).astype(np.int64)
        keys = self.entity * (int(place.max()) + lag + 1) + place
        found = np.minimum(np.searchsorted(keys, keys - lag), len(keys) - 1)
        there = (keys[found] == keys - lag) & (place >= lag)
        return np.where(there, values[found], 0.0)

    def no_neighbours(self) -> str:
        """Say that none are, and what to do about it."""
        gaps = self.gaps[self.gaps > 0.0]
        if not len(gaps):
            return f"every {self.entity_name} has one observation"
        unit = self.time_unit or "1"
        return (
            f"no two observations of one {self.entity_name} are one unit of "
            f"{self.time_name!r} ({unit}) apart; {self.spacing_remedy}"
        )

    @property
    def spacing_remedy(self) -> str:
        """What to do about times that have no neighbours."""
        if isinstance(self.time_labels[0], (np.datetime64, pd.Timestamp)):
            return (
                "if they are months or years, pass .dt.to_period('M') or .dt.year of "
                "the column as time="
            )
        return "pass the step as delta=, or number the occasions"

    @cached_property
    def gaps(self) -> FloatArray:
        """Time since the entity's observation before, 0 at its first, shape (n,)."""
        gaps = np.zeros(self.nobs)
        gaps[1:] = np.diff(self.times)
        gaps[self.offsets[:-1]] = 0.0
        return gaps

    def sort(self, values: NDArray[Any]) -> NDArray[Any]:
        """Bring values from the caller's order into sorted order."""
        return values if self.order is None else values[self.order]

    def unsort(self, values: NDArray[Any]) -> NDArray[Any]:
        """Bring values from sorted order into the caller's."""
        if self.order is None:
            return values
        out = np.empty_like(values)
        out[self.order] = values
        return out

    def series(self, values: NDArray[Any], name: str | None = None) -> pd.Series:
        """Label sorted values, shape (n,), in the caller's order and index."""
        return pd.Series(self.unsort(values), index=self.index, name=name, copy=False)

    def entity_series(self, values: NDArray[Any], name: str | None = None) -> pd.Series:
        """Label one value an entity, shape (N,)."""
        index = pd.Index(self.entity_labels, name=self.entity_name, tupleize_cols=False)
        return pd.Series(values, index=index, name=name)

    def time_series(self, values: NDArray[Any], name: str | None = None) -> pd.Series:
        """Label one value a period, shape (T,)."""
        index = pd.Index(self.time_labels, name=self.time_name)
        return pd.Series(values, index=index, name=name)

    def entity_sums(self, values: FloatArray) -> FloatArray:
        """
        Sums over the observations of each entity.

        Parameters
        ----------
        values : ndarray, shape (n,) or (n, k)
            In sorted order.

        Returns
        -------
        ndarray, shape (N,) or (N, k)
        """
        return np.add.reduceat(values, self.offsets[:-1], axis=0)

    def entity_means(self, values: FloatArray) -> FloatArray:
        """Means over the observations of each entity; shapes as `entity_sums`."""
        one = values.ndim == 1
        if self.weights is not None:
            values = values * (self.weights if one else self.weights[:, None])
        sizes = self.entity_weights if one else self.entity_weights[:, None]
        return self.entity_sums(values) / sizes

    def time_means(self, values: FloatArray) -> FloatArray:
        """Means over the observations of each period, shape (T,) or (T, k)."""
        columns = values.reshape(self.nobs, -1)
        counts = np.bincount(self.time, self.weights, self.n_periods)
        out = np.empty((self.n_periods, columns.shape[1]))
        for j in range(columns.shape[1]):
            column = columns[:, j]
            column = column if self.weights is None else self.weights * column
            out[:, j] = np.bincount(self.time, column, self.n_periods) / counts
        return out.reshape(self.n_periods, *values.shape[1:])

    def count_effects(self, effects: Sequence[str]) -> int:
        """Rank of the dummies of effects, ``"entity"``, ``"time"`` or both."""
        if len(effects) == 2:
            return self._two_way_rank
        return rank_of_effects([getattr(self, effect) for effect in effects])

    @cached_property
    def _two_way_rank(self) -> int:
        return rank_of_effects([self.entity, self.time])

    def per_row(self, per_entity: NDArray[Any]) -> NDArray[Any]:
        """Repeat one value an entity for each of its observations."""
        return np.repeat(per_entity, self.sizes, axis=0)

    def demean(self, values: FloatArray) -> FloatArray:
        """Values less the means of their entities, shape of `values`."""
        # the grand mean first: large offsets would cost digits otherwise
        centred = values - values.mean(axis=0)
        return centred - self.per_row(self.entity_means(centred))

    def quasi_demean(self, values: FloatArray, theta: FloatArray) -> FloatArray:
        """
        Values less the fraction `theta` of the means of their entities.

        Parameters
        ----------
        values : ndarray, shape (n,) or (n, k)
            In sorted order.
        theta : ndarray, shape (N,)
            Fractions.

        Returns
        -------
        ndarray, shape of `values`
        """
        part = theta if values.ndim == 1 else theta[:, None]
        return values - self.per_row(part * self.entity_means(values))

    def entity_mean(self, values: FloatArray) -> float:
        """Mean over the entities of one value each, shape (N,)."""
        return float(values.mean())

    def entity_variance(self, values: FloatArray) -> float:
        """Variance over the entities of one value each, shape (N,)."""
        return float(np.var(values, ddof=1))

    def entity_quantile(self, values: FloatArray, q: float) -> float:
        """Quantile over the entities of one value each, shape (N,)."""
        return float(np.quantile(values, q))

    def regression(
        self,
        x: FloatArray,
        resid: FloatArray,
        used: IntArray | slice,
        at: Transformation,
        **parts: Any,
    ) -> TransformedRegression:
        """
        The regression of transformed rows.

        `used` are its rows in the panel; `at` says how they were transformed.
        """
        theta = at.theta if at.kind == "re" else None
        return TransformedRegression(
            x,
            resid,
            self.entity[used],
            self.time[used],
            self.times[used],
            theta=None if theta is None else self.per_row(theta),
            root=self.root,
            **parts,
        )

    def remove_effects(self, values: FloatArray, effects: Sequence[str]) -> FloatArray:
        """
        (Weighted) least-squares residuals of columns on the dummies of the effects.

        Parameters
        ----------
        values : ndarray, shape (n, k)
            In sorted order.
        effects : sequence of str
            ``("entity",)``, ``("time",)`` or ``("entity", "time")``.

        Returns
        -------
        ndarray, shape (n, k)
        """
        if "time" not in effects:
            return self.demean(values)
        if "entity" not in effects or (self.is_balanced and self.weights is None):
            out = self.demean(values) if "entity" in effects else values
            return out - self.time_means(out)[self.time]
        entity, time = self.two_way_effects(values)
        return values - self.per_row(entity) - time[self.time]

    def period_products(self) -> tuple[Any, FloatArray]:
        """
        Shares of the periods in each entity, sparse, of shape (N, T), and the (T, T)
        cross-products of the periods' dummies less what those of entities explain.
        """
        from scipy import sparse

        weights = np.ones(self.nobs) if self.weights is None else self.weights
        shape = self.n_entities, self.n_periods
        table = sparse.csr_matrix((weights, (self.entity, self.time)), shape=shape)
        shares = sparse.diags(1.0 / self.entity_weights) @ table
        counts = np.bincount(self.time, weights, self.n_periods)
        return shares, np.diag(counts) - (table.T @ shares).toarray()

    def two_way_effects(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """
        Least-squares effects of entities and periods.

        Parameters
        ----------
        values : ndarray, shape (n,) or (n, k)
            What the effects are to explain.

        Returns
        -------
        entity : ndarray, shape (N,) or (N, k)
            Effects of the entities; they carry the overall level.
        time : ndarray, shape (T,) or (T, k)
            Effects of the periods; their mean over the observations is zero.
        """
        if self.n_periods <= _DENSE:
            # normal equations with the entities swept out
            gram = self.period_products()[1]
            counts = np.bincount(self.time, self.weights, self.n_periods)
            within = self.time_means(values - self.per_row(self.entity_means(values)))
            right = (counts * within.T).T
            time = np.asarray(np.linalg.lstsq(gram, right, rcond=None)[0], dtype=float)
        else:
            root = np.ones(self.nobs) if self.root is None else self.root
            columns = self.by_root(values).reshape(self.nobs, -1)
            found = dummy_effects(columns, [self.entity, self.time], root)[1]
            time = found[self.n_entities :].reshape(-1, *values.shape[1:])
        time = time - self.grand_mean(time[self.time])
        return self.entity_means(values - time[self.time]), time
