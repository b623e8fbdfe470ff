"""
Sums of products by lag, and how many lags to look at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixedar.diagnostics.lags import (
    LagBins,
    count_pairs,
    grid_sums,
    sums_by_lag,
)
from mixedar.diagnostics.rows import SeriesRows
from mixedar.exceptions import NotComputedError, UnsupportedError

__all__ = ["default_last", "lag_products"]

FloatArray = NDArray[np.float64]

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
