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

from mixedar.diagnostics.expected import expected_acf
from mixedar.diagnostics.lags import choose_bins
from mixedar.diagnostics.products import default_last, lag_products
from mixedar.diagnostics.rows import arranged, rows_of, unwrapped
from mixedar.diagnostics.theory import residual_values
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.inference.arguments import check_alpha

__all__ = ["autocorrelation", "residual_acf"]

FloatArray = NDArray[np.float64]


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
        Largest lag, in units of time; by default ``10 log10(n)`` typical gaps for
        a longest series of `n` rows, as in R.
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
    moments = expected_acf(fit, rows, bins, last)
    half = stats.norm.isf(alpha / 2.0) * moments.se
    there = counts > 0.0
    table.insert(3, "expected", np.append(1.0, moments.mean[there]))
    table["lower"] = np.append(np.nan, (moments.mean - half)[there])
    table["upper"] = np.append(np.nan, (moments.mean + half)[there])
    return table
