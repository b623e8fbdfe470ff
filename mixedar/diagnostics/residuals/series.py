"""
Sums over pairs of observations of a series, by their distance in time.

Pairs are visited by how many rows apart they are: the pairs one row apart of
all series at once, then those two rows apart, until all distances exceed the
limit.  Nothing of the size of a cluster squared is formed.  Long series on a
grid of times, all of whose lags are wanted, go through the fast Fourier
transform instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import fft

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import check_finite, check_lengths, float_array, group_codes
from mixedar.data.time import time_axis
from mixedar.engine.rows import GroupedRows, group_rows
from mixedar.exceptions import NotComputedError, TimeError, UnsupportedError
from mixedar.residual import Independent


@dataclass(frozen=True)
class SeriesRows:
    """
    Rows sorted by group, series and time.

    Attributes
    ----------
    grouped : GroupedRows
        The order, and the way back to the caller's.
    first : ndarray of bool, shape (n,)
        Whether a sorted row begins a series.
    time : ndarray, shape (n,)
        Time since the series began, in sorted order.
    unit : str or None
        What one unit of time is; None for numbers that count as they are.
    """

    grouped: GroupedRows
    first: NDArray[np.bool_]
    time: FloatArray
    unit: str | None

    @cached_property
    def starts(self) -> IntArray:
        """First rows of the series, shape (number of series,)."""
        return np.flatnonzero(self.first)

    @cached_property
    def lengths(self) -> IntArray:
        """Rows of each series, shape (number of series,)."""
        return np.diff(np.append(self.starts, len(self.first)))

    @cached_property
    def position(self) -> IntArray:
        """Number of a row within its series, from 0, shape (n,)."""
        return np.arange(len(self.first)) - np.repeat(self.starts, self.lengths)

    @cached_property
    def gaps(self) -> FloatArray:
        """Distances to the row before, within series and positive ones only."""
        inside = np.flatnonzero(~self.first)
        gaps = self.time[inside] - self.time[inside - 1]
        return gaps[gaps > 0.0]

    @property
    def offsets(self) -> IntArray:
        """Group ``i`` holds the sorted rows ``offsets[i]:offsets[i + 1]``."""
        return self.grouped.offsets

    def sort(self, x: FloatArray) -> FloatArray:
        """Bring rows from the caller's order into sorted order."""
        return self.grouped.sort(x)

    def unsort(self, x: FloatArray) -> FloatArray:
        """Bring rows from sorted order back into the caller's."""
        return self.grouped.unsort(x)


def _series_rows(grouped: GroupedRows, unit: str | None) -> SeriesRows:
    # a gap of NaN marks a time that occurs twice: distance zero, same series
    first = grouped.gaps == 0.0
    total = np.cumsum(np.nan_to_num(grouped.gaps))
    starts = np.flatnonzero(first)
    lengths = np.diff(np.append(starts, len(first)))
    return SeriesRows(grouped, first, total - np.repeat(total[starts], lengths), unit)


def arranged(
    values: Any, groups: Any = None, time: Any = None, series: Any = None
) -> tuple[FloatArray, SeriesRows]:
    """
    Sort values by group, series and time.

    Parameters
    ----------
    values : array_like, shape (n,)
    groups : array_like, shape (n,), optional
        Labels; one group by default.
    time : array_like, shape (n,), optional
        Numbers, dates or periods; the order of the rows by default.
    series : array_like, shape (n,), optional
        Series inside the groups.

    Returns
    -------
    values : ndarray, shape (n,)
        In sorted order.
    rows : SeriesRows

    Raises
    ------
    LengthError, MissingDataError, TimeError, UnsupportedError
        If the arrays cannot be used.
    """
    x = float_array(values, "values")
    if x.ndim != 1 or len(x) == 0:
        raise UnsupportedError(
            f"values has the shape {x.shape}; pass one number for each observation"
        )
    check_lengths(len(x), groups=groups, time=time, series=series)
    index = values.index if isinstance(values, pd.Series) else None
    check_finite(x, ["values"], "the", index)
    codes = np.zeros(len(x), dtype=np.intp)
    if groups is not None:
        codes = group_codes(groups)[0]
    series_codes = None if series is None else group_codes(series, "series")[0]
    times: FloatArray | None = None
    unit: str | None = "row"
    if time is not None:
        name = str(getattr(time, "name", None) or "time")
        axis = time_axis(time, Independent(), name)
        times, unit = axis.values, axis.unit
    rows = _series_rows(group_rows(codes, times, series_codes), unit)
    return rows.sort(x), rows


def unwrapped(fit: Any) -> Any:
    """
    The results behind statsmodels' wrapper, with their data.

    Parameters
    ----------
    fit : MixedLMARResults or its wrapper

    Returns
    -------
    MixedLMARResults

    Raises
    ------
    NotComputedError
        If the data were removed.
    """
    fit = getattr(fit, "_results", fit)
    if getattr(fit.model, "endog", None) is None:
        raise NotComputedError(
            "the data were removed from this fit; residuals and simulations need "
            "them: fit again and keep the data"
        )
    return fit


def rows_of(fit: Any) -> SeriesRows:
    """
    The rows of a fit in the order of time.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    SeriesRows
        Of structures that need no times (independence, compound symmetry) the
        rows are put into the order of the model's times all the same; those of
        occasions that are no times keep the order of the occasions.
    """
    model = fit.model
    unit = None if model.time_unit == "1" else model.time_unit
    own = fit.structure.uses_time and fit.structure.needs_distinct_times
    if own:
        return _series_rows(model._grouped, unit)
    values, series = None, None
    if model.time is not None:
        name = str(getattr(model.time, "name", None) or "time")
        try:
            axis = time_axis(pd.Series(model.time), Independent(), name)
        except TimeError:
            return _series_rows(model._grouped, unit)
        values, unit = axis.values, axis.unit
    if model.series is not None:
        series = group_codes(model.series, "series")[0]
    return _series_rows(group_rows(model._codes, values, series, model.n_groups), unit)


Rows = NDArray[np.intp] | slice
#: A value for each pair, from the rows of the later and the earlier observation
#: and their distance.
Measure = Callable[[Rows, Rows, FloatArray], FloatArray]

# A typical gap of more grid steps than this makes most lags empty.
_SPARSE = 10.0
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class LagBins:
    """
    How distances are turned into lags.

    Attributes
    ----------
    width : float
        Lag ``k`` is at ``k * width``.
    grid : bool
        Whether all distances are multiples of `width`; otherwise lag ``k``
        stands for the distances up to half a width from it.
    """

    width: float
    grid: bool

    def index(self, distance: FloatArray) -> NDArray[np.intp]:
        """Numbers of the lags that distances fall into."""
        return np.rint(distance / self.width).astype(np.intp)

    def limit(self, last: int) -> float:
        """The largest distance that belongs to lag number `last`."""
        return (last + 0.5) * self.width * (1.0 - 1e-12)


def choose_bins(gaps: FloatArray, bin_width: float | None = None) -> LagBins:
    """
    Lags on the grid of the times, or of the width of a typical gap.

    Parameters
    ----------
    gaps : ndarray
        Positive distances between neighbours.
    bin_width : float, optional
        Width to use instead.

    Returns
    -------
    LagBins

    Raises
    ------
    UnsupportedError
        If `bin_width` is not a positive number.
    """
    if bin_width is not None:
        width = float(bin_width)
        if not (np.isfinite(width) and width > 0.0):
            raise UnsupportedError(f"bin_width={bin_width!r} is not a positive number")
        return LagBins(width, _multiples(gaps, width))
    if len(gaps) == 0:
        return LagBins(1.0, True)
    smallest, typical = float(gaps.min()), float(np.median(gaps))
    step = smallest
    if not _multiples(gaps, step) and (gaps == np.rint(gaps)).all():
        distinct = np.unique(gaps)
        if distinct[-1] < 2.0**53:
            step = float(np.gcd.reduce(distinct.astype(np.int64)))
    if _multiples(gaps, step) and typical <= _SPARSE * step:
        return LagBins(step, True)
    return LagBins(typical, False)


def _multiples(gaps: FloatArray, step: float) -> bool:
    if len(gaps) == 0:
        return True
    scaled = gaps / step
    return bool(
        (np.abs(scaled - np.rint(scaled)) <= _TOLERANCE * np.maximum(scaled, 1.0)).all()
        and scaled.min() > 0.5
    )


def count_pairs(rows: SeriesRows, limit: float) -> int:
    """
    About how many pairs of a series lie within a distance.

    Parameters
    ----------
    rows : SeriesRows
    limit : float

    Returns
    -------
    int
        Exact if no pair lies beyond.
    """
    n = rows.lengths.astype(np.float64)
    gap = float(np.median(rows.gaps)) if len(rows.gaps) else 1.0
    within = np.minimum(n - 1.0, np.floor(min(limit / gap, 1e15)))
    return int((within * (n - 0.5 * (within + 1.0))).sum())


def pairs(rows: SeriesRows, limit: float) -> Iterator[tuple[Rows, Rows, FloatArray]]:
    """
    All pairs of a series within a distance, by how many rows apart they are.

    Parameters
    ----------
    rows : SeriesRows
    limit : float
        Largest distance.

    Yields
    ------
    later, earlier : ndarray of int, or slice
        Sorted rows.
    distance : ndarray
    """
    position, time = rows.position, rows.time
    active = np.flatnonzero(position > 0)
    step = 0
    while len(active):
        step += 1
        if step > 1:
            active = active[position[active] >= step]
            if len(active) == 0:
                return
        later, earlier = _as_slices(active, step)
        distance = time[later] - time[earlier]
        near = distance <= limit
        if not near.all():
            # a row's earlier ones are further away still
            active, distance = active[near], distance[near]
            if len(active) == 0:
                return
            later, earlier = _as_slices(active, step)
        yield later, earlier, distance


def _as_slices(active: NDArray[np.intp], step: int) -> tuple[Rows, Rows]:
    """Rows without holes as slices, which copy nothing."""
    first, last = int(active[0]), int(active[-1])
    if last - first + 1 == len(active):
        return slice(first, last + 1), slice(first - step, last + 1 - step)
    return active, active - step


def sums_by_lag(
    rows: SeriesRows, bins: LagBins, last: int, measures: Sequence[Measure]
) -> FloatArray:
    """
    Sums over the pairs of each lag.

    Parameters
    ----------
    rows : SeriesRows
    bins : LagBins
    last : int
        Number of the last lag.
    measures : sequence of callable
        What to sum.

    Returns
    -------
    ndarray, shape (2 + number of measures, last + 1)
        Numbers of pairs, sums of their distances, sums of the measures.
    """
    out = np.zeros((2 + len(measures), last + 1))
    for later, earlier, distance in pairs(rows, bins.limit(last)):
        index = bins.index(distance)
        low, high = int(index.min()), int(index.max())
        if low == high:  # all at one lag: no need to tell them apart
            out[0, low] += len(distance)
            out[1, low] += distance.sum()
            for k, measure in enumerate(measures, start=2):
                out[k, low] += measure(later, earlier, distance).sum()
            continue
        out[0] += np.bincount(index, minlength=last + 1)
        out[1] += np.bincount(index, distance, minlength=last + 1)
        for k, measure in enumerate(measures, start=2):
            value = measure(later, earlier, distance)
            out[k] += np.bincount(index, value, minlength=last + 1)
    return out


def grid_sums(
    x: FloatArray, rows: SeriesRows, step: float, last: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Products and squares by lag on a grid of times, by fast Fourier transforms.

    Parameters
    ----------
    x : ndarray, shape (n, k)
        In sorted order.
    rows : SeriesRows
        With distinct times that are multiples of `step`.
    step : float
    last : int
        Number of the last lag.

    Returns
    -------
    counts : ndarray, shape (last + 1,)
        Pairs at each lag; at lag 0 the observations.
    products : ndarray, shape (last + 1,)
        ``sum x_s'x_t`` over the pairs.
    squares : ndarray, shape (last + 1,)
        ``sum (x_s'x_s + x_t'x_t)`` over the pairs.
    """
    counts, products, squares = np.zeros((3, last + 1))
    slots = np.rint(rows.time / step).astype(np.intp)
    ends = rows.starts + rows.lengths
    for start, end in zip(rows.starts, ends, strict=True):
        where = slots[start:end]
        span = int(where[-1]) + 1
        lags = min(last + 1, span)
        size = fft.next_fast_len(span + lags, real=True)
        dense = np.zeros((2 + x.shape[1], size))
        dense[0, where] = 1.0
        dense[1, where] = np.einsum("ij,ij->i", x[start:end], x[start:end])
        dense[2:, where] = x[start:end].T
        images = fft.rfft(dense)
        there = images[0].conj()
        spectra = np.stack(
            [
                images[0] * there,
                (images[2:] * images[2:].conj()).sum(axis=0),
                images[1] * there + images[0] * images[1].conj(),
            ]
        )
        found = fft.irfft(spectra, size)[:, :lags]
        counts[:lags] += np.rint(found[0])
        products[:lags] += found[1]
        squares[:lags] += found[2]
    return counts, products, squares


# From this many pairs on, Fourier transforms are the shorter way.
_MANY_PAIRS = 20_000_000


def default_last(rows: SeriesRows, bins: LagBins, max_lag: float | None) -> int:
    """
    Number of the last lag.

    Parameters
    ----------
    rows : SeriesRows
    bins : LagBins
    max_lag : float or None
        In units of time; by default ``10 log10(n)`` typical gaps, ``n`` the
        length of the longest series, as in R's ``acf`` and nlme's ``ACF``.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    UnsupportedError
        If `max_lag` is no positive number, or shorter than the first lag.
    NotComputedError
        If no series has two observations.
    """
    longest = int(rows.lengths.max())
    if longest < 2:
        raise NotComputedError(
            "no series has two observations: there is no pair to correlate; check "
            "groups= and series="
        )
    span = float(rows.time.max())
    reach = int(np.rint(span / bins.width))
    if max_lag is None:
        typical = float(np.median(rows.gaps)) if len(rows.gaps) else bins.width
        steps = min(longest - 1, int(10.0 * np.log10(longest)))
        wanted = int(np.rint(max(steps, 1) * typical / bins.width))
    else:
        if isinstance(max_lag, bool) or not isinstance(
            max_lag, (int, float, np.number)
        ):
            raise UnsupportedError(f"max_lag={max_lag!r} is not a number")
        if not (np.isfinite(max_lag) and max_lag > 0.0):
            raise UnsupportedError(f"max_lag={max_lag!r} is not a positive number")
        wanted = int(np.floor(float(max_lag) / bins.width + 1e-9))
        if wanted < 1:
            raise UnsupportedError(
                f"max_lag={max_lag!r} is shorter than the first lag, {bins.width:g}"
            )
    return max(min(wanted, reach), 1)


def lag_products(
    x: FloatArray, rows: SeriesRows, bins: LagBins, last: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Numbers of pairs, their mean distances, and sums of products by lag.

    Parameters
    ----------
    x : ndarray, shape (n, k)
        In sorted order.
    rows : SeriesRows
    bins : LagBins
    last : int
        Number of the last lag.

    Returns
    -------
    counts, distances, sums : ndarray, shape (last + 1,)
        `sums` are those of ``x_s'x_t``.  On a grid lag 0 is empty; otherwise it
        holds the pairs closer than half a bin.
    """
    if (
        bins.grid
        and count_pairs(rows, bins.limit(last)) * x.shape[1] > _MANY_PAIRS
        and rows.lengths.mean() > 256
        and rows.time.max() / bins.width < 4 * rows.lengths.max()
        and len(rows.gaps) == len(rows.first) - len(rows.starts)
    ):
        counts, sums, _ = grid_sums(x, rows, bins.width, last)
        counts[0] = sums[0] = 0.0
        return counts, _lags(last, bins), sums
    if x.shape[1] == 1:
        flat = x[:, 0]
        found = sums_by_lag(rows, bins, last, [lambda s, t, _: flat[s] * flat[t]])
    else:
        found = sums_by_lag(
            rows, bins, last, [lambda s, t, _: np.einsum("ij,ij->i", x[s], x[t])]
        )
    counts, distances, sums = found
    lags = _lags(last, bins)
    if bins.grid:
        counts[0] = sums[0] = 0.0  # observations that share their time
        return counts, lags, sums
    there = counts > 0.0
    lags[there] = distances[there] / counts[there]
    return counts, lags, sums


def _lags(last: int, bins: LagBins) -> FloatArray:
    return np.arange(last + 1, dtype=np.float64) * bins.width
