"""
Autocorrelation by lag in time.

References
----------
Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and S-PLUS,
Springer, section 5.3.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mixedar.diagnostics.lags import (
    LagBins,
    choose_bins,
    count_pairs,
    grid_sums,
    sums_by_lag,
)
from mixedar.diagnostics.rows import SeriesRows, arranged, rows_of, unwrapped
from mixedar.diagnostics.theory import residual_values
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.inference.arguments import check_alpha

__all__ = ["autocorrelation", "default_last", "lag_products", "residual_acf"]

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


def autocorrelation(
    values: Any,
    groups: Any = None,
    time: Any = None,
    series: Any = None,
    *,
    max_lag: float | None = None,
    bin_width: float | None = None,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """
    Autocorrelation of values with mean zero, pooled over groups, by lag in time.

    The mean product of the pairs at a lag, divided by the mean square of all
    values.  A lag is a distance in time: where an observation is missing, its
    neighbours are two units apart.

    Parameters
    ----------
    values : array_like, shape (n,)
        Residuals; their mean is taken to be zero.
    groups : array_like, shape (n,), optional
        Labels; observations of different groups are not paired.
    time : array_like, shape (n,), optional
        Times in any order; the order of the rows by default.
    series : array_like, shape (n,), optional
        Independent series inside the groups.
    max_lag : float, optional
        Largest lag, in units of time; see :func:`default_last`.
    bin_width : float, optional
        Width of the lags.  By default the grid of the times if they have one,
        and otherwise the median gap: distances up to half a width from a lag
        belong to it.
    alpha : float
        The bounds are for white noise, at this level for each lag.

    Returns
    -------
    DataFrame
        ``lag`` (mean distance of its pairs), ``acf``, ``pairs``, ``lower``,
        ``upper``; the first row is lag 0.  Lags without pairs are left out.

    Raises
    ------
    MixedARError
        For arrays that cannot be used.
    NotComputedError
        If no series has two observations, or all values are zero.
    """
    x, rows = arranged(values, groups, time, series)
    bins = choose_bins(rows.gaps, bin_width)
    last = default_last(rows, bins, max_lag)
    counts, lags, sums = lag_products(x[:, None], rows, bins, last)
    return _frame(x, counts, lags, sums, check_alpha(alpha))


def _frame(
    x: FloatArray, counts: FloatArray, lags: FloatArray, sums: FloatArray, alpha: float
) -> pd.DataFrame:
    square = float(x @ x) / len(x)
    if not square > 0.0:
        raise NotComputedError("all values are zero: there is no autocorrelation")
    there = counts > 0.0
    acf = sums[there] / counts[there] / square
    half = stats.norm.isf(alpha / 2.0) / np.sqrt(counts[there])
    table = pd.DataFrame(
        {
            "lag": lags[there],
            "acf": acf,
            "pairs": counts[there].astype(np.int64),
            "lower": -half,
            "upper": half,
        }
    )
    zero = pd.DataFrame(
        {
            "lag": [0.0],
            "acf": [1.0],
            "pairs": [len(x)],
            "lower": np.nan,
            "upper": np.nan,
        }
    )
    return pd.concat([zero, table], ignore_index=True)


def residual_acf(
    fit: Any,
    kind: str = "normalized",
    max_lag: float | None = None,
    *,
    bin_width: float | None = None,
    alpha: float = 0.05,
    bounds: str | None = None,
) -> pd.DataFrame:
    """
    Autocorrelation of the residuals of a fit, by lag in time.

    Parameters
    ----------
    fit : MixedLMARResults
    kind : {"normalized", "pearson", "raw"}
        As in ``residuals``.
    max_lag, bin_width, alpha
        As in :func:`autocorrelation`.
    bounds : {"model", "white"}
        For normalized residuals, around what the fitted model lets them have:
        random effects are predicted from the same data, which leaves normalized
        residuals correlated (see :mod:`mixedar.diagnostics.serial`).  Or for
        white noise, as nlme has them.  By default the former for normalized
        residuals and the latter for others.

    Returns
    -------
    DataFrame
        As :func:`autocorrelation`, and with ``bounds="model"`` a column
        ``expected``.

    Raises
    ------
    UnsupportedError
        For options that are not known.
    NotComputedError
        If the data were removed, or no series has two observations.
    """
    fit = unwrapped(fit)
    if bounds is None:
        bounds = "model" if kind == "normalized" else "white"
    if bounds not in ("white", "model"):
        raise UnsupportedError(f"bounds={bounds!r}: choose 'white' or 'model'")
    if bounds == "model" and kind != "normalized":
        raise UnsupportedError(
            f"bounds='model' is for normalized residuals, not kind={kind!r}; the "
            "model's own correlation of the others is in variogram()"
        )
    alpha = check_alpha(alpha)
    rows = rows_of(fit)
    x = rows.sort(residual_values(fit, kind))
    bins = choose_bins(rows.gaps, bin_width)
    last = default_last(rows, bins, max_lag)
    counts, lags, sums = lag_products(x[:, None], rows, bins, last)
    table = _frame(x, counts, lags, sums, alpha)
    if bounds == "white":
        return table
    from mixedar.diagnostics.serial import expected_acf

    moments = expected_acf(fit, rows, bins, last)
    half = stats.norm.isf(alpha / 2.0) * moments.se
    there = counts > 0.0
    table.insert(3, "expected", np.append(1.0, moments.mean[there]))
    table["lower"] = np.append(np.nan, (moments.mean - half)[there])
    table["upper"] = np.append(np.nan, (moments.mean + half)[there])
    return table
