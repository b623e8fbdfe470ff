"""
Autocorrelation by lag in time.

References
----------
Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and S-PLUS,
Springer, section 5.3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray
from mixedar.diagnostics.residuals.alternatives import lag_directions
from mixedar.diagnostics.residuals.covariance import (
    residual_theory,
    residual_values,
    thinned,
)
from mixedar.diagnostics.residuals.score import score_frame
from mixedar.diagnostics.residuals.series import (
    LagBins,
    SeriesRows,
    arranged,
    choose_bins,
    default_last,
    lag_products,
    rows_of,
    unwrapped,
)
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.inference.arguments import check_alpha


@dataclass(frozen=True)
class ExpectedACF:
    """
    Autocorrelations that a fitted model lets its normalized residuals have.

    Attributes
    ----------
    mean, se : ndarray, shape (last + 1,)
        NaN at lags without pairs; `se` is NaN too where the estimated
        parameters explain all that a lag could show.
    """

    mean: FloatArray
    se: FloatArray


def expected_acf(fit: Any, rows: SeriesRows, bins: LagBins, last: int) -> ExpectedACF:
    """
    Mean and standard error of the autocorrelations if the model is true.

    Parameters
    ----------
    fit : MixedLMARResults
    rows : SeriesRows
    bins : LagBins
    last : int
        Number of the last lag.

    Returns
    -------
    ExpectedACF
    """
    theory = residual_theory(fit)
    counts, _, lost = lag_products(theory.factors, rows, bins, last)
    square = float(theory.variance.mean())
    mean, se = np.full((2, last + 1), np.nan)
    there = counts > 0.0
    mean[there] = -lost[there] / counts[there] / square
    frame = score_frame(fit, thinned(theory))
    lags = [int(k) for k in np.flatnonzero(there)]
    directions = lag_directions(frame.theory.rows, bins, lags)
    efficient = frame.efficient(list(directions.values()), joint=False)
    tested = efficient.tested
    variance = np.diag(efficient.variance)
    for k, (lag, direction) in enumerate(directions.items()):
        if tested[k]:
            # a score sums the products of its pairs; a sample has fewer of them
            total = variance[k] * counts[lag] / direction.count
            se[lag] = np.sqrt(total) / counts[lag] / square
    return ExpectedACF(mean, se)


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
        residuals correlated (see :mod:`mixedar.diagnostics.residuals.serial`).  Or for
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
