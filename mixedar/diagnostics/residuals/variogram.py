"""
The semivariogram: half squared differences of pairs by their distance in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.diagnostics.residuals.normalized import (
    covariance_factors,
    relative_row_sd,
)
from mixedar.diagnostics.residuals.series import (
    LagBins,
    Measure,
    Rows,
    SeriesRows,
    check_number,
    check_whole,
    choose_bins,
    count_pairs,
    grid_sums,
    pairs,
    series_rows,
    sorted_values,
    sums_by_lag,
)
from mixedar.engine.residuals import (
    correlation_marks,
    correlation_of,
    correlation_params,
    is_correlated,
    pair_correlations,
)
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.fit import Fit

# Pairs that are visited unless the caller names a distance.
_MOST_PAIRS = 4_000_000
# Pairs that are kept one by one; of more, sums in so many narrow bins.
_KEPT_PAIRS = 200_000
_NARROW = 4096


@dataclass(frozen=True)
class DistancePoints:
    """
    Distances, in increasing order, with sums over the pairs that have them.

    Attributes
    ----------
    distance, count : ndarray, shape (k,)
    sums : ndarray, shape (measures, k)
    """

    distance: FloatArray
    count: FloatArray
    sums: FloatArray


def collapsed(points: DistancePoints, n_bins: int, how: str) -> DistancePoints:
    """
    Put points into bins if there are more than `n_bins` distances.

    Bins with about equally many pairs (``how="quantiles"``), or equally wide ones;
    their distances are the medians of their pairs.
    """
    new = np.diff(points.distance, prepend=-np.inf) > 0.0
    if int(new.sum()) <= n_bins:
        which = np.cumsum(new) - 1
    else:
        low, high = float(points.distance[0]), float(points.distance[-1])
        edges = np.linspace(low, high, n_bins + 1)
        if how == "quantiles":
            shares = np.linspace(0.0, 1.0, n_bins + 1)
            edges = np.unique(_quantiles(points, 0.0, points.count.sum(), shares))
        which = np.searchsorted(edges[1:-1], points.distance, side="left")
    starts = np.flatnonzero(np.diff(which, prepend=-1) > 0)
    count = np.add.reduceat(points.count, starts)
    ends = np.cumsum(count)
    half = np.array([0.5])
    middle = np.array(
        [
            _quantiles(points, end - size, size, half)[0]
            for end, size in zip(ends, count, strict=True)
        ]
    )
    return DistancePoints(middle, count, np.add.reduceat(points.sums, starts, axis=1))


def _quantiles(
    points: DistancePoints, first: float, size: float, shares: FloatArray
) -> FloatArray:
    """Quantiles of the distances of pairs number `first` to `first + size`."""
    ends = np.cumsum(points.count)
    place = first + (size - 1.0) * shares
    below = np.floor(place)
    above = np.minimum(below + 1.0, first + size - 1.0)
    low = points.distance[np.searchsorted(ends, below, side="right")]
    high = points.distance[np.searchsorted(ends, above, side="right")]
    return np.asarray(low + (place - below) * (high - low))


def _by_distance(fit: Fit) -> bool:
    """Whether correlations depend on nothing but the distance in time."""
    inner = correlation_of(fit.structure)
    return not is_correlated(inner) or (inner.uses_time and not len(inner.marks))


def error_correlations(fit: Fit, rows: SeriesRows) -> Measure:
    """Correlations of the errors of pairs, as a measure of pairs."""
    inner = correlation_of(fit.structure)
    params = correlation_params(fit.structure, fit.residual_params)
    if not is_correlated(inner):
        return lambda later, earlier, distance: np.zeros(len(distance))
    if _by_distance(fit):
        return lambda later, earlier, distance: pair_correlations(
            inner, np.zeros((len(distance), 1)), distance[:, None], params
        )
    grouped = fit.data.grouped
    columns = [SeriesRows(grouped, None).time[:, None]]
    if grouped.marks is not None:
        columns.append(grouped.marks[:, correlation_marks(fit.structure)])
    places = rows.sort(grouped.unsort(np.concatenate(columns, axis=1)))
    return lambda later, earlier, distance: pair_correlations(
        inner, places[earlier], places[later], params
    )


def semivariogram(
    values: Any,
    groups: Any = None,
    time: Any = None,
    series: Any = None,
    *,
    max_distance: float | None = None,
    n_bins: int = 20,
    bins: str = "quantiles",
    robust: bool = False,
) -> pd.DataFrame:
    """
    Semivariogram of values, pooled over groups, by distance in time.

    Parameters
    ----------
    values : array_like, shape (n,)
    groups : array_like, shape (n,), optional
        Labels; observations of different groups are not paired.
    time : array_like, shape (n,), optional
        Times in any order; the order of the rows by default.
    series : array_like, shape (n,), optional
        Independent series inside the groups.
    max_distance : float, optional
        Largest distance, in units of time.  By default all of them, or if there
        are more than four million pairs the shorter ones.
    n_bins : int
        If there are more distinct distances, they are put into so many bins.
    bins : {"quantiles", "fixed"}
        Bins with equally many pairs, or equally wide ones.
    robust : bool
        Cressie and Hawkins' estimator, from roots of absolute differences.

    Returns
    -------
    DataFrame
        ``distance`` (the median in the bin), ``gamma``, ``pairs``.

    Raises
    ------
    MixedARError
        For arrays that cannot be used.
    NotComputedError
        If no series has two observations, or none within `max_distance`.
    """
    x, rows = sorted_values(values, groups, time, series)
    _check(n_bins, bins)
    points = _points(rows, x, robust, max_distance, n_bins, None)
    return _frame(collapsed(points, n_bins, bins), robust)


def residual_variogram(
    fit: Fit,
    kind: str = "pearson",
    max_distance: float | None = None,
    *,
    n_bins: int = 20,
    bins: str = "quantiles",
    robust: bool = False,
) -> pd.DataFrame:
    """
    Semivariogram of the residuals of a fit, and what its model says of it.

    Parameters
    ----------
    fit : Fit
    kind : {"pearson", "normalized", "raw"}
        As in ``residuals``.
    max_distance, n_bins, bins, robust
        As in :func:`semivariogram`.

    Returns
    -------
    DataFrame
        ``distance``, ``gamma``, ``pairs``; ``model``, the semivariogram of the
        errors, ``1 - corr`` for Pearson residuals; and ``expected``, that of
        these residuals if the model is true: lower, because predicted random
        effects and estimated fixed effects follow the errors.

    Raises
    ------
    UnsupportedError
        For options that are not known.
    NotComputedError
        As :func:`semivariogram`, or if the data were removed.
    """
    _check(n_bins, bins)
    values, rows = fit.residuals(kind), series_rows(fit)
    model = _model_of(fit, rows, kind)
    points = _points(rows, rows.sort(values), robust, max_distance, n_bins, model)
    table = collapsed(points, n_bins, bins)
    out = _frame(table, robust)
    unit = fit.scale if kind == "raw" else 1.0
    errors = table.sums[1] / table.count
    out["model"] = unit * errors
    out["expected"] = unit * (errors - 0.5 * table.sums[2] / table.count)
    return out


@dataclass(frozen=True)
class _Model:
    """
    What the model says of differences of residuals.

    Attributes
    ----------
    errors : callable
        Half the expected squared difference of the errors of pairs.
    factors : ndarray, shape (n, k)
        What effects take away, see :func:`covariance_factors`.
    by_distance : bool
        Whether `errors` depends on the distance alone.
    """

    errors: Measure
    factors: FloatArray
    by_distance: bool


def _model_of(fit: Fit, rows: SeriesRows, kind: str) -> _Model:
    factors = covariance_factors(fit, kind)
    if kind == "normalized":
        return _Model(lambda later, earlier, d: np.ones(len(d)), factors, True)
    correlation = error_correlations(fit, rows)
    sd = relative_row_sd(fit, rows) if kind == "raw" else np.ones(rows.n)
    if (sd == 1.0).all():
        return _Model(
            lambda later, earlier, d: 1.0 - correlation(later, earlier, d),
            factors,
            _by_distance(fit),
        )

    def errors(later: Rows, earlier: Rows, d: FloatArray) -> FloatArray:
        one, other = sd[later], sd[earlier]
        r = correlation(later, earlier, d)
        return np.asarray(0.5 * (one**2 + other**2) - one * other * r)

    return _Model(errors, factors * sd[:, None], False)


def _check(n_bins: Any, bins: str) -> None:
    if check_whole("n_bins", n_bins) < 1:
        raise UnsupportedError(f"n_bins={n_bins} is not a positive number of bins")
    if bins not in ("quantiles", "fixed"):
        raise UnsupportedError(f"bins={bins!r}: choose 'quantiles' or 'fixed'")


def _points(
    rows: SeriesRows,
    x: FloatArray,
    robust: bool,
    max_distance: float | None,
    n_bins: int,
    model: _Model | None,
) -> DistancePoints:
    """Sums of differences, and of what the model says of them."""
    if int(rows.lengths.max()) < 2:
        raise NotComputedError(
            "no series has two observations: there is no pair to compare; check "
            "groups= and series="
        )
    grid = choose_bins(rows.gaps)
    limit = float(rows.time.max())
    if max_distance is not None:
        limit = min(limit, check_number("max_distance", max_distance))
    many = count_pairs(rows, limit) > _MOST_PAIRS
    if many and max_distance is None:
        limit = _affordable(rows, limit)
        if grid.grid:  # each lag its own bin
            wanted = n_bins * rows.typical_gap(grid.width)
            limit = max(limit, min(wanted, float(rows.time.max())))
    elif (
        many
        and grid.grid
        and rows.distinct
        and not robust
        and rows.lengths.mean() > 256
        and (model is None or model.by_distance)
    ):
        return _from_grid(rows, x, grid, limit, model)
    measures = _measures(x, robust, model)
    points = _visited(rows, grid, limit * (1.0 + 1e-12), measures)
    if len(points.count) == 0:
        raise NotComputedError(
            f"no two observations of a series are within max_distance={limit:g}"
        )
    return points


def _affordable(rows: SeriesRows, limit: float) -> float:
    """The largest distance within which there are not too many pairs."""
    low, high = 0.0, limit
    for _ in range(50):
        middle = 0.5 * (low + high)
        if count_pairs(rows, middle) > _MOST_PAIRS:
            high = middle
        else:
            low = middle
    return max(low, rows.typical_gap(limit))


def _measures(x: FloatArray, robust: bool, model: _Model | None) -> list[Measure]:
    def squares(later: Rows, earlier: Rows, _: FloatArray) -> FloatArray:
        return np.asarray(0.5 * (x[later] - x[earlier]) ** 2)

    def roots(later: Rows, earlier: Rows, _: FloatArray) -> FloatArray:
        return np.sqrt(np.abs(x[later] - x[earlier]))

    measures: list[Measure] = [roots if robust else squares]
    if model is None:
        return measures
    factors = model.factors

    def apart(later: Rows, earlier: Rows, _: FloatArray) -> FloatArray:
        step = factors[later] - factors[earlier]
        return np.einsum("ij,ij->i", step, step)

    return [*measures, model.errors, apart]


def _visited(
    rows: SeriesRows, grid: LagBins, limit: float, measures: Sequence[Measure]
) -> DistancePoints:
    """Pair by pair: sums by lag on a grid, and otherwise every pair a point."""
    if grid.grid:
        last = int(np.floor(limit / grid.width * (1.0 + 1e-9)))
        found = sums_by_lag(rows, grid, last, measures)
        there = found[0] > 0.0
        lags = np.arange(last + 1) * grid.width
        return DistancePoints(lags[there], found[0][there], found[2:, there])
    if count_pairs(rows, limit) > _KEPT_PAIRS:
        narrow = LagBins(limit / (_NARROW + 0.5), grid=False)
        found = sums_by_lag(rows, narrow, _NARROW, measures)
        there = found[0] > 0.0
        found = found[:, there]
        return DistancePoints(found[1] / found[0], found[0], found[2:])
    blocks = [
        np.vstack([distance, *(m(later, earlier, distance) for m in measures)])
        for later, earlier, distance in pairs(rows, limit)
    ]
    if not blocks:
        return DistancePoints(np.empty(0), np.empty(0), np.empty((len(measures), 0)))
    table = np.concatenate(blocks, axis=1)
    order = np.argsort(table[0], kind="stable")
    table = table[:, order]
    return DistancePoints(table[0], np.ones(table.shape[1]), table[1:])


def _from_grid(
    rows: SeriesRows,
    x: FloatArray,
    grid: LagBins,
    limit: float,
    model: _Model | None,
) -> DistancePoints:
    """Long series on a grid of times, all lags at once."""
    last = int(np.floor(limit / grid.width * (1.0 + 1e-9)))
    counts, products, squares = grid_sums(x[:, None], rows, grid.width, last)
    counts[0] = 0.0
    there = np.flatnonzero(counts > 0.0)
    lags: FloatArray = there.astype(np.float64) * grid.width
    sums = [(0.5 * squares - products)[there]]
    if model is not None:
        _, products, squares = grid_sums(model.factors, rows, grid.width, last)
        none = np.empty(0, dtype=np.intp)
        errors = model.errors(none, none, lags)
        sums += [errors * counts[there], (squares - 2.0 * products)[there]]
    return DistancePoints(lags, counts[there], np.stack(sums))


def _frame(table: DistancePoints, robust: bool) -> pd.DataFrame:
    gamma = table.sums[0] / table.count
    if robust:
        gamma = 0.5 * gamma**4 / (0.457 + 0.494 / table.count)
    return pd.DataFrame(
        {
            "distance": table.distance,
            "gamma": gamma,
            "pairs": table.count.astype(np.int64),
        }
    )
