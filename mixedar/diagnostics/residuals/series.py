"""
Sums over pairs of observations of a series, by their distance in time or in space.

Pairs in time are visited by how many rows apart they are: the pairs one row apart of
all series at once, then those two rows apart, until all distances exceed the
limit.  Nothing of the size of a cluster squared is formed.  Long series on a
grid of times, all of whose lags are wanted, go through the fast Fourier
transform instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import fft

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import (
    check_finite,
    check_labels,
    check_lengths,
    float_array,
    group_codes,
)
from mixedar.data.given import as_rows
from mixedar.data.time import time_axis
from mixedar.data.variables import data_column
from mixedar.engine.rows import GroupedRows, group_rows
from mixedar.exceptions import (
    NotComputedError,
    TimeError,
    UnsupportedError,
    check_choice,
    check_positive,
)
from mixedar.fit import Fit
from mixedar.residual import Independent
from mixedar.residual.spatial import METRICS
from mixedar.residual.wrapped import innermost

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class SeriesRows:
    """
    Rows sorted by group, series and time.

    Attributes
    ----------
    grouped : GroupedRows
        The order, and the way back to the caller's.
    unit : str or None
        What one unit of time is; None for numbers that count as they are.
    """

    grouped: GroupedRows
    unit: str | None

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.grouped.gaps)

    @property
    def offsets(self) -> IntArray:
        """Group ``i`` holds the sorted rows ``offsets[i]:offsets[i + 1]``."""
        return self.grouped.offsets

    @cached_property
    def groups(self) -> IntArray:
        """Number of each sorted row's group, shape (n,)."""
        return np.repeat(np.arange(self.grouped.n_groups), self.grouped.sizes)

    @cached_property
    def starts(self) -> IntArray:
        """First rows of the series, shape (number of series,)."""
        return np.flatnonzero(self.grouped.first_of_series)

    @cached_property
    def lengths(self) -> IntArray:
        """Rows of each series, shape (number of series,)."""
        return np.diff(np.append(self.starts, self.n))

    @cached_property
    def position(self) -> IntArray:
        """Number of a row within its series, from 0, shape (n,)."""
        return np.arange(self.n) - np.repeat(self.starts, self.lengths)

    @cached_property
    def time(self) -> FloatArray:
        """Time since the series began, shape (n,)."""
        # a gap of NaN marks a time that occurs twice: distance zero, same series
        total = np.cumsum(np.nan_to_num(self.grouped.gaps))
        return total - np.repeat(total[self.starts], self.lengths)

    @cached_property
    def gaps(self) -> FloatArray:
        """Distances to the row before, within series and positive ones only."""
        inside = np.flatnonzero(~self.grouped.first_of_series)
        gaps = self.time[inside] - self.time[inside - 1]
        return gaps[gaps > 0.0]

    @property
    def distinct(self) -> bool:
        """Whether no two rows of a series share their time."""
        return len(self.gaps) == self.n - len(self.starts)

    def typical_gap(self, default: float) -> float:
        """The median gap, or what to take if there is none."""
        return float(np.median(self.gaps)) if len(self.gaps) else default

    def sort(self, x: NDArray[Scalar]) -> NDArray[Scalar]:
        """Bring rows from the caller's order into sorted order."""
        return x if self.grouped.order is None else x[self.grouped.order]

    def unsort(self, x: FloatArray) -> FloatArray:
        """Bring rows from sorted order back into the caller's."""
        return self.grouped.unsort(x)


def sorted_values(
    values: Any, groups: Any = None, time: Any = None, series: Any = None
) -> tuple[FloatArray, SeriesRows]:
    """A user's values sorted by group, series and time, and their rows."""
    given = as_rows(values=values, groups=groups, time=time, series=series)
    values, groups, time, series = given.values()
    x = float_array(values, "values")
    if x.ndim != 1 or len(x) == 0:
        raise UnsupportedError(
            f"values has the shape {x.shape}; pass one number for each observation"
        )
    index = values.index if isinstance(values, pd.Series) else None
    check_finite(x, ["values"], "the", index)
    codes = np.zeros(len(x), dtype=np.intp)
    if groups is not None:
        codes = group_codes(groups)[0]
    series_codes = None if series is None else group_codes(series, "series")[0]
    times: FloatArray | None = None
    unit: str | None = "row"
    if time is not None:
        axis = time_axis(time, Independent(), _name_of(time))
        times, unit = axis.values, axis.unit
    rows = SeriesRows(group_rows(codes, times, series_codes), unit)
    return rows.sort(x), rows


def _name_of(time: object) -> str:
    return str(getattr(time, "name", None) or "time")


def series_rows(fit: Fit) -> SeriesRows:
    """
    The rows of a fit in the order of time.

    Of structures that need no times (independence, compound symmetry) the rows
    are put into the order of the model's times all the same; those of occasions
    that are no times keep the order of the occasions.
    """
    data = fit.data
    unit = None if data.time_unit == "1" else data.time_unit
    if fit.structure.uses_time and fit.structure.needs_distinct_times:
        return SeriesRows(data.grouped, unit)
    values, series = None, None
    if data.time is not None:
        try:
            axis = time_axis(pd.Series(data.time), Independent(), _name_of(data.time))
        except TimeError:
            return SeriesRows(data.grouped, unit)
        values, unit = axis.values, axis.unit
    if data.series is not None:
        series = group_codes(data.series, "series")[0]
    return SeriesRows(group_rows(data.codes, values, series, data.n_groups), unit)


def distance_label(fit: Fit, what: str) -> str:
    """The name of an axis of distances in time, such as ``"Lag (days)"``."""
    unit = series_rows(fit).unit
    if unit == "row":
        return f"{what} (rows)"
    if unit is None:
        name = fit.data.time_name or getattr(fit.data.time, "name", None)
        return f"{what} in {name}" if name else f"{what} in time"
    unit = unit.replace("step of", "steps of")
    return f"{what} ({unit[2:]}s)" if unit.startswith("1 ") else f"{what} ({unit})"


Rows = IntArray | slice
#: Later and earlier rows, and their distances.
Pairs = tuple[Rows, Rows, FloatArray]
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

    def index(self, distance: FloatArray) -> IntArray:
        """Numbers of the lags that distances fall into."""
        return np.rint(distance / self.width).astype(np.intp)

    def limit(self, last: int) -> float:
        """The largest distance that belongs to lag number `last`."""
        return (last + 0.5) * self.width * (1.0 - 1e-12)


def choose_bins(gaps: FloatArray, bin_width: float | None = None) -> LagBins:
    """Lags on the grid of the times, or of the width of a typical gap."""
    if bin_width is not None:
        width = check_positive("bin_width", bin_width)
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
    """About how many pairs lie within a distance; exact if all of them do."""
    n = rows.lengths.astype(np.float64)
    within = np.floor(min(limit / rows.typical_gap(1.0), 1e15))
    within = np.minimum(n - 1.0, within)
    return int((within * (n - 0.5 * (within + 1.0))).sum())


def pairs(rows: SeriesRows, limit: float) -> Iterator[Pairs]:
    """Later and earlier rows, and distances, of the pairs within `limit`."""
    position, time = rows.position, rows.time
    step, active = 1, np.flatnonzero(position > 0)
    while len(active):
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
        step += 1
        active = active[position[active] >= step]


def _as_slices(active: IntArray, step: int) -> tuple[Rows, Rows]:
    """Rows without holes as slices, which copy nothing."""
    first, last = int(active[0]), int(active[-1])
    if last - first + 1 == len(active):
        return slice(first, last + 1), slice(first - step, last + 1 - step)
    return active, active - step


def sums_by_lag(
    found: Iterable[Pairs], bins: LagBins, last: int, measures: Sequence[Measure]
) -> FloatArray:
    """Numbers of pairs, sums of distances and of each measure, by lag."""
    out = np.zeros((2 + len(measures), last + 1))
    for later, earlier, distance in found:
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
    Numbers of pairs, products and squares by lag on a grid of distinct times.

    By fast Fourier transforms, of ``x`` with the shape (n, k) in sorted order:
    sums of ``x_s'x_t`` and of ``x_s'x_s + x_t'x_t``.  Lag 0 has the observations.
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


def check_whole(name: str, value: object) -> int:
    """Return an argument if it is a whole number."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise UnsupportedError(f"{name}={value!r} is not a whole number")
    return int(value)


# Pairs that are visited, and up to which all are, if no distance is named.
_MOST_VISITED = 50_000_000
_ALL_PAIRS = 4_000_000
# Numbers of a measure of pairs at a time, and pairs in a sample.
_AT_ONCE = 2**21
_SAMPLE = 100_000


@dataclass(frozen=True)
class Locations:
    """
    Coordinates of rows.

    Attributes
    ----------
    names : tuple of str
    values : ndarray, shape (n, c)
    metric : str
    """

    names: tuple[str, ...]
    values: FloatArray
    metric: str

    def pairs(self, rows: SeriesRows, limit: float, width: int) -> Iterator[Pairs]:
        """
        Pairs of rows of a series within a distance, and their distances.

        The coordinates are in the order of `rows`; `width` numbers are computed of
        each pair.
        """
        from scipy.spatial import cKDTree

        order, at_once = METRICS[self.metric], max(_AT_ONCE // width, 1)
        for start, length in zip(rows.starts, rows.lengths, strict=True):
            if length == 1:
                continue
            here = self.values[start : start + length]
            tree = cKDTree(here)
            if length * (length - 1) // 2 > _MOST_VISITED:
                count = (int(tree.count_neighbors(tree, limit, order)) - length) // 2
                if count > _MOST_VISITED:
                    raise NotComputedError(
                        f"{count} pairs of a series are within max_distance={limit:g}; "
                        "ask for a shorter distance"
                    )
            found = tree.query_pairs(limit, order, output_type="ndarray")
            for first in range(0, len(found), at_once):
                one, other = found[first : first + at_once].T
                apart = np.linalg.norm(here[other] - here[one], order, axis=1)
                yield other + start, one + start, np.asarray(apart)

    def limit(self, rows: SeriesRows) -> float:
        """The distance within which there are not too many pairs."""
        count = rows.lengths.astype(np.float64)
        total = count * (count - 1.0) / 2.0
        share = _ALL_PAIRS / total.sum()
        if share >= 1.0:
            return self.farthest(rows)
        rng = np.random.default_rng(0)
        which = rng.choice(len(count), _SAMPLE, p=total / total.sum())
        one, other = (
            rows.starts[which] + rng.integers(0, rows.lengths[which]) for _ in range(2)
        )
        apart = np.linalg.norm(
            self.values[one] - self.values[other], METRICS[self.metric], axis=1
        )
        return float(np.quantile(apart[one != other], share))

    def farthest(self, rows: SeriesRows) -> float:
        """A distance that no two rows of a series exceed."""
        low, high = (
            np.asarray(f.reduceat(self.values, rows.starts))
            for f in (np.minimum, np.maximum)
        )
        return float(np.linalg.norm(high - low, METRICS[self.metric], axis=1).max())


def places_of(fit: Fit, coords: Any, metric: str | None) -> Locations | None:
    """
    Coordinates of the rows of a fit, in the order of the data.

    Parameters
    ----------
    fit : Fit
    coords : str, sequence of str, array_like of shape (n, c), or None
        None stands for those of the residual structure, if the model has no times.
    metric : str or None
        None stands for the structure's.

    Returns
    -------
    Locations or None
        None if distances are those in time.
    """
    own = innermost(fit.structure)
    if metric is None:
        metric = getattr(own, "metric", "euclidean")
    names = coords
    if coords is None:
        names = () if fit.data.time is not None else getattr(own, "coords", ())
    if isinstance(names, str):
        names = (names,)
    if not len(names):
        return None
    if not isinstance(names, (tuple, list)) or not isinstance(names[0], str):
        return places_from(names, fit.nobs, metric, fit.data.index)
    known = fit.data.residual_data
    columns = [
        pd.Series(known[name])
        if name in known
        else data_column(fit.data, name, "coords")
        for name in names
    ]
    frame = pd.DataFrame(
        {n: np.asarray(c) for n, c in zip(names, columns, strict=True)}
    )
    return places_from(frame, fit.nobs, metric, None)


def places_from(coords: Any, n: int, metric: str, index: pd.Index | None) -> Locations:
    """A user's coordinates, shape (n,) or (n, c), of rows with these labels."""
    check_choice("metric", metric, tuple(METRICS))
    if index is not None:
        check_labels("coords", coords, index, "values")
    names = [str(name) for name in getattr(coords, "columns", ())]
    values = float_array(coords, "coords")
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.shape[1]:
        raise UnsupportedError(
            f"coords has the shape {values.shape}; pass one column for each coordinate"
        )
    check_lengths(n, coords=values)
    names = names or [f"coordinate {k + 1}" for k in range(values.shape[1])]
    labelled = isinstance(coords, (pd.DataFrame, pd.Series))
    check_finite(values, names, "the", coords.index if labelled else None)
    return Locations(tuple(names), values, metric)


def variogram_label(fit: Fit, coords: Any = None) -> str:
    """The name of an axis of distances, in space or in time."""
    places = places_of(fit, coords, None)
    if places is None:
        return distance_label(fit, "Distance")
    return f"Distance ({', '.join(places.names)})"
