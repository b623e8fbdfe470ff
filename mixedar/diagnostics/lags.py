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

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mixedar.diagnostics.rows import SeriesRows
from mixedar.exceptions import UnsupportedError

__all__ = [
    "LagBins",
    "Measure",
    "choose_bins",
    "count_pairs",
    "grid_sums",
    "pairs",
    "sums_by_lag",
]

FloatArray = NDArray[np.float64]
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
