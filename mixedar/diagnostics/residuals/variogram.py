"""
The semivariogram: half squared differences of pairs by their distance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.diagnostics.residuals.normalized import covariance_factors, relative_row_sd
from mixedar.diagnostics.residuals.series import (
    LagBins,
    Locations,
    Measure,
    Pairs,
    Rows,
    SeriesRows,
    check_whole,
    choose_bins,
    count_pairs,
    grid_sums,
    pairs,
    places_from,
    places_of,
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
from mixedar.exceptions import (
    NotComputedError,
    UnsupportedError,
    check_choice,
    check_flags,
    check_positive,
)
from mixedar.fit import Fit
from mixedar.summary import ResultFrame

# Pairs that are visited unless the caller names a distance.
_MOST_PAIRS = 4_000_000
# Pairs that are kept one by one; of more, sums in so many narrow bins.
_KEPT_PAIRS = 200_000
_NARROW = 4096


def _binned(points: FloatArray, n_bins: int, how: str) -> FloatArray:
    """
    Put points into bins if there are more than `n_bins` distances.

    The rows of `points` are numbers of pairs, increasing distances, and sums of
    measures.  Bins have about equally many pairs (``how="quantiles"``) or are
    equally wide; their distances are the medians of their pairs.
    """
    count, distance = points[:2]
    new = np.diff(distance, prepend=-np.inf) > 0.0
    if int(new.sum()) <= n_bins:
        which = np.cumsum(new) - 1
    else:
        edges = np.linspace(distance[0], distance[-1], n_bins + 1)
        if how == "quantiles":
            shares = np.linspace(0.0, 1.0, n_bins + 1)
            edges = np.unique(_quantiles(points, 0.0, count.sum(), shares))
        which = np.searchsorted(edges[1:-1], distance, side="left")
    out = np.add.reduceat(
        points, np.flatnonzero(np.diff(which, prepend=-1) > 0), axis=1
    )
    out[1] = _quantiles(points, np.cumsum(out[0]) - out[0], out[0], 0.5)
    return out


def _quantiles(
    points: FloatArray,
    first: FloatArray | float,
    size: FloatArray | float,
    shares: FloatArray | float,
) -> FloatArray:
    """Quantiles of the distances of pairs number `first` to `first + size`."""
    ends, distance = np.cumsum(points[0]), points[1]
    place = first + (size - 1.0) * shares
    below = np.floor(place)
    above = np.minimum(below + 1.0, first + size - 1.0)
    low = distance[np.searchsorted(ends, below, side="right")]
    high = distance[np.searchsorted(ends, above, side="right")]
    return np.asarray(low + (place - below) * (high - low))


def _by_distance(fit: Fit) -> bool:
    """Whether correlations depend on nothing but the distance in time."""
    inner = correlation_of(fit.structure)
    return not is_correlated(inner) or (inner.uses_time and not len(inner.marks))


def error_correlations(fit: Fit, rows: SeriesRows, *, in_time: bool = True) -> Measure:
    """
    Correlations of the errors of pairs, as a measure of pairs.

    `in_time` says that the distances of pairs are those of their times.
    """
    inner = correlation_of(fit.structure)
    params = correlation_params(fit.structure, fit.residual_params)
    if not is_correlated(inner):
        return lambda later, earlier, distance: np.zeros(len(distance))
    if in_time and _by_distance(fit):
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
    coords: Any = None,
    metric: str = "euclidean",
    max_distance: float | None = None,
    n_bins: int = 20,
    bins: str = "quantiles",
    robust: bool = False,
) -> pd.DataFrame:
    """
    Semivariogram of values, pooled over groups, by distance in time or in space.

    Parameters
    ----------
    values : array_like, shape (n,)
    groups : array_like, shape (n,), optional
        Labels; observations of different groups are not paired.
    time : array_like, shape (n,), optional
        Times in any order; the order of the rows by default.
    series : array_like, shape (n,), optional
        Independent series inside the groups.
    coords : array_like, shape (n,) or (n, c), optional
        Coordinates; distances are those of places then.
    metric : {"euclidean", "manhattan", "maximum"}
        Distance of two places.
    max_distance : float, optional
        Largest distance, in units of time or of the coordinates.  By default all of
        them, or if there are more than four million pairs the shorter ones.
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
    _check(n_bins, bins, robust)
    places = None
    if coords is not None:
        index = values.index if isinstance(values, pd.Series) else None
        places = places_from(coords, len(x), metric, index)
    points = _points(rows, x, robust, max_distance, n_bins, None, places)
    return _frame(_binned(points, n_bins, bins), robust)


def residual_variogram(
    fit: Fit,
    kind: str = "pearson",
    max_distance: float | None = None,
    *,
    coords: Any = None,
    metric: str | None = None,
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
    coords : str, sequence of str, or array_like of shape (n, c), optional
        Columns of coordinates: distances in space.  By default distances in time, or
        if the model has no times those in the coordinates of its residual structure.
    metric : {"euclidean", "manhattan", "maximum"}, optional
        Distance of two places, that of the structure by default.
    max_distance : float, optional
        Largest distance, in units of time or of the coordinates.  By default all of
        them, or if there are more than four million pairs the shorter ones.
    n_bins : int
        If there are more distinct distances, they are put into so many bins.
    bins : {"quantiles", "fixed"}
        Bins with equally many pairs, or equally wide ones.
    robust : bool
        Cressie and Hawkins' estimator, from roots of absolute differences.

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
        If no series has two observations, or none within `max_distance`; or if the
        data were removed.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> fit.variogram().columns.tolist()
    ['distance', 'gamma', 'pairs', 'model', 'expected']
    """
    _check(n_bins, bins, robust)
    values, rows = fit.residuals(kind), series_rows(fit)
    places = places_of(fit, coords, metric)
    model = _model_of(fit, rows, kind, in_time=places is None)
    x = rows.sort(values)
    points = _points(rows, x, robust, max_distance, n_bins, model, places)
    table = _binned(points, n_bins, bins)
    out = _frame(table, robust)
    unit = fit.scale if kind == "raw" else 1.0
    errors = table[3] / table[0]
    out["model"] = unit * errors
    out["expected"] = unit * (errors - 0.5 * table[4] / table[0])
    return out


@dataclass(frozen=True)
class _ErrorModel:
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


def _model_of(fit: Fit, rows: SeriesRows, kind: str, *, in_time: bool) -> _ErrorModel:
    factors = covariance_factors(fit, kind)
    if kind == "normalized":
        return _ErrorModel(lambda later, earlier, d: np.ones(len(d)), factors, True)
    correlation = error_correlations(fit, rows, in_time=in_time)
    sd = relative_row_sd(fit, rows) if kind == "raw" else np.ones(rows.n)
    if (sd == 1.0).all():
        return _ErrorModel(
            lambda later, earlier, d: 1.0 - correlation(later, earlier, d),
            factors,
            _by_distance(fit),
        )

    def errors(later: Rows, earlier: Rows, d: FloatArray) -> FloatArray:
        one, other = sd[later], sd[earlier]
        r = correlation(later, earlier, d)
        return np.asarray(0.5 * (one**2 + other**2) - one * other * r)

    return _ErrorModel(errors, factors * sd[:, None], False)


def _check(n_bins: object, bins: str, robust: bool) -> None:
    check_flags(robust=robust)
    if check_whole("n_bins", n_bins) < 1:
        raise UnsupportedError(f"n_bins={n_bins} is not a positive number of bins")
    check_choice("bins", bins, ("quantiles", "fixed"))


def _points(
    rows: SeriesRows,
    x: FloatArray,
    robust: bool,
    max_distance: float | None,
    n_bins: int,
    model: _ErrorModel | None,
    places: Locations | None,
) -> FloatArray:
    """Numbers of pairs, distances, and sums of what is measured, by distance."""
    if int(rows.lengths.max()) < 2:
        raise NotComputedError(
            "no series has two observations: there is no pair to compare; check "
            "groups= and series="
        )
    measures = _measures(x, robust, model)
    if places is not None:
        return _in_space(rows, places, max_distance, measures, model)
    grid = choose_bins(rows.gaps)
    limit = float(rows.time.max())
    if max_distance is not None:
        limit = min(limit, check_positive("max_distance", max_distance))
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
    beyond = limit * (1.0 + 1e-12)
    few = count_pairs(rows, beyond) <= _KEPT_PAIRS
    return _visited(partial(pairs, rows), grid, beyond, measures, few=few)


def _in_space(
    rows: SeriesRows,
    places: Locations,
    max_distance: float | None,
    measures: Sequence[Measure],
    model: _ErrorModel | None,
) -> FloatArray:
    """The same by distance in space."""
    sorted_places = replace(places, values=rows.sort(places.values))
    if max_distance is None:
        limit = sorted_places.limit(rows)
    else:
        limit = check_positive("max_distance", max_distance)
        limit = min(limit, sorted_places.farthest(rows))
    width = 1 if model is None else 1 + model.factors.shape[1]
    few = (rows.lengths * (rows.lengths - 1) // 2).sum() <= _KEPT_PAIRS

    def visit(limit: float) -> Iterator[Pairs]:
        return sorted_places.pairs(rows, limit, width)

    beyond = limit * (1.0 + 1e-12)
    return _visited(visit, LagBins(1.0, grid=False), beyond, measures, few=few)


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


def _measures(x: FloatArray, robust: bool, model: _ErrorModel | None) -> list[Measure]:
    """Differences of values, and what the model says of them."""

    def differences(later: Rows, earlier: Rows, _: FloatArray) -> FloatArray:
        apart = x[later] - x[earlier]
        return np.sqrt(np.abs(apart)) if robust else 0.5 * apart**2

    if model is None:
        return [differences]
    factors = model.factors

    def lost(later: Rows, earlier: Rows, _: FloatArray) -> FloatArray:
        step = factors[later] - factors[earlier]
        return np.einsum("ij,ij->i", step, step)

    return [differences, model.errors, lost]


def _visited(
    visit: Callable[[float], Iterable[Pairs]],
    grid: LagBins,
    limit: float,
    measures: Sequence[Measure],
    *,
    few: bool,
) -> FloatArray:
    """Pair by pair: sums by lag on a grid or of many pairs, else every pair a point."""
    if grid.grid or not few:
        bins, last = LagBins(limit / (_NARROW + 0.5), grid=False), _NARROW
        if grid.grid:
            bins, last = grid, _last_lag(grid, limit)
        table = sums_by_lag(visit(bins.limit(last)), bins, last, measures)
        there = np.flatnonzero(table[0] > 0.0)
        table = table[:, there]
        table[1] = there * bins.width if grid.grid else table[1] / table[0]
    else:
        columns = [
            np.vstack([np.ones(len(d)), d, *(m(later, earlier, d) for m in measures)])
            for later, earlier, d in visit(limit)
        ]
        table = np.concatenate([np.empty((2 + len(measures), 0)), *columns], axis=1)
        table = table[:, np.argsort(table[1], kind="stable")]
    if table.shape[1] == 0:
        raise NotComputedError(
            f"no two observations of a series are within max_distance={limit:g}"
        )
    return table


def _last_lag(grid: LagBins, limit: float) -> int:
    return int(np.floor(limit / grid.width * (1.0 + 1e-9)))


def _from_grid(
    rows: SeriesRows,
    x: FloatArray,
    grid: LagBins,
    limit: float,
    model: _ErrorModel | None,
) -> FloatArray:
    """Long series on a grid of times, all lags at once."""
    last = _last_lag(grid, limit)
    counts, products, squares = grid_sums(x[:, None], rows, grid.width, last)
    counts[0] = 0.0
    there = np.flatnonzero(counts > 0.0)
    counts, lags = counts[there], np.arange(last + 1.0)[there] * grid.width
    table = [counts, lags, (0.5 * squares - products)[there]]
    if model is not None:
        _, products, squares = grid_sums(model.factors, rows, grid.width, last)
        errors = model.errors(there, there, lags)
        table += [errors * counts, (squares - 2.0 * products)[there]]
    return np.stack(table)


def _frame(table: FloatArray, robust: bool) -> pd.DataFrame:
    count, distance = table[:2]
    gamma = table[2] / count
    if robust:
        gamma = 0.5 * gamma**4 / (0.457 + 0.494 / count)
    pairs = count.astype(np.int64)
    return ResultFrame({"distance": distance, "gamma": gamma, "pairs": pairs})
