"""
Autocorrelation by lag in time, and a test of what the model leaves of it.

The autocorrelations of normalized residuals are not those of white noise even if
the model is true: the random effects were predicted, and the parameters
estimated, from the same observations.  In short series that is most of what one
sees (four observations, an intercept and a slope a group: about -0.2 at lag 1),
so that Ljung and Box's statistic rejects nearly always.  The sums of products at
each lag are scores, though, of a model whose innovations are correlated at that
lag, and as such have a known mean and variance (see
:mod:`mixedar.diagnostics.residuals.score`).

References
----------
Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and S-PLUS,
Springer, section 5.3.3.

Breusch, T. S. and Pagan, A. R. (1980), The Lagrange multiplier test and its
applications to model specification in econometrics, Review of Economic Studies
47, 239-253.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray
from mixedar.diagnostics.residuals.normalized import (
    normalized_residuals,
    sample_of_groups,
)
from mixedar.diagnostics.residuals.score import ScoreTests, lag_alternatives
from mixedar.diagnostics.residuals.series import (
    LagBins,
    Rows,
    SeriesRows,
    choose_bins,
    count_pairs,
    grid_sums,
    pairs,
    series_rows,
    sorted_values,
    sums_by_lag,
)
from mixedar.exceptions import (
    NotComputedError,
    UnsupportedError,
    check_alpha,
    check_choice,
    check_positive,
)
from mixedar.fit import Fit
from mixedar.hypotheses.result import TestResult, TestText
from mixedar.summary import ResultFrame

# By default so many lags are tested.
_LAGS = 4
# From this many pairs on, Fourier transforms are the shorter way.
_MANY_PAIRS = 20_000_000


def default_last(rows: SeriesRows, bins: LagBins, max_lag: float | None) -> int:
    """
    Number of the last lag, at least 1.

    By default ``10 log10(n)`` typical gaps, ``n`` the length of the longest
    series, as in R's ``acf`` and nlme's ``ACF``.
    """
    longest = int(rows.lengths.max())
    if longest < 2:
        raise NotComputedError(
            "no series has two observations: there is no pair to correlate; check "
            "groups= and series="
        )
    if max_lag is None:
        steps = max(min(longest - 1, int(10.0 * np.log10(longest))), 1)
        wanted = int(np.rint(steps * rows.typical_gap(bins.width) / bins.width))
    else:
        number = check_positive("max_lag", max_lag)
        wanted = int(np.floor(number / bins.width + 1e-9))
        if wanted < 1:
            raise UnsupportedError(
                f"max_lag={max_lag!r} is shorter than the first lag, {bins.width:g}"
            )
    return max(min(wanted, int(np.rint(rows.time.max() / bins.width))), 1)


def lag_products(
    x: FloatArray, rows: SeriesRows, bins: LagBins, last: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Numbers of pairs, their mean distances, and sums of ``x_s'x_t`` by lag.

    On a grid lag 0 is empty; otherwise it holds the pairs closer than half a bin.
    """
    lags = np.arange(last + 1, dtype=np.float64) * bins.width
    if (
        bins.grid
        and count_pairs(rows, bins.limit(last)) * x.shape[1] > _MANY_PAIRS
        and rows.lengths.mean() > 256
        and rows.time.max() / bins.width < 4 * rows.lengths.max()
        and rows.distinct
    ):
        counts, sums, _ = grid_sums(x, rows, bins.width, last)
    else:

        def products(later: Rows, earlier: Rows, _: FloatArray) -> FloatArray:
            if x.shape[1] == 1:
                return x[later, 0] * x[earlier, 0]
            return np.einsum("ij,ij->i", x[later], x[earlier])

        counts, distances, sums = sums_by_lag(
            pairs(rows, bins.limit(last)), bins, last, [products]
        )
        if not bins.grid:
            there = counts > 0.0
            lags[there] = distances[there] / counts[there]
    if bins.grid:
        counts[0] = sums[0] = 0.0  # observations that share their time
    return counts, lags, sums


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
    values: with few pairs it may lie beyond one.  A lag is a distance in time: where
    an observation is missing, its neighbours are two units apart.

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
    x, rows = sorted_values(values, groups, time, series)
    bins = choose_bins(rows.gaps, bin_width)
    last = default_last(rows, bins, max_lag)
    return _table(x, rows, bins, last, check_alpha(alpha))


def residual_acf(
    fit: Fit,
    kind: str = "normalized",
    max_lag: float | None = None,
    *,
    bin_width: float | None = None,
    alpha: float = 0.05,
    bounds: str | None = None,
) -> pd.DataFrame:
    """
    Autocorrelation of the residuals of a fit, by lag in time.

    The mean product of the pairs at a lag, divided by the mean square of all
    residuals, as nlme's ACF: with few pairs (column ``pairs``) it may lie beyond one.
    Pictures leave such lags out and say so.

    Parameters
    ----------
    fit : Fit
    kind : {"normalized", "pearson", "raw"}
        As in ``residuals``.
    max_lag : float, optional
        Largest lag, in units of time; by default ``10 log10(n)`` typical gaps for
        a longest series of `n` rows, as in R.
    bin_width : float, optional
        Width of the lags.  By default the grid of the times if they have one,
        and otherwise the median gap: distances up to half a width from a lag
        belong to it.
    alpha : float
        Level of the bounds, for each lag.
    bounds : {"model", "white"}
        For normalized residuals, around what the fitted model lets them have:
        random effects are predicted from the same data, which leaves normalized
        residuals correlated.  Or for white noise, as nlme has them.  By default
        the former for normalized residuals and the latter for others.

    Returns
    -------
    DataFrame
        ``lag`` (mean distance of its pairs), ``acf``, ``pairs``, ``lower``,
        ``upper``, and with ``bounds="model"`` ``expected``; the first row is lag 0.
        Lags without pairs are left out.

    Raises
    ------
    UnsupportedError
        For options that are not known.
    NotComputedError
        If the data were removed, or no series has two observations.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> fit.acf(max_lag=2).columns.tolist()
    ['lag', 'acf', 'pairs', 'expected', 'lower', 'upper']
    """
    if bounds is None:
        bounds = "model" if kind == "normalized" else "white"
    check_choice("bounds", bounds, ("white", "model"))
    if bounds == "model" and kind != "normalized":
        raise UnsupportedError(
            f"bounds='model' is for normalized residuals, not kind={kind!r}; the "
            "model's own correlation of the others is in variogram()"
        )
    alpha = check_alpha(alpha)
    rows = series_rows(fit)
    bins = choose_bins(rows.gaps, bin_width)
    last = default_last(rows, bins, max_lag)
    table = _table(rows.sort(fit.residuals(kind)), rows, bins, last, alpha)
    if bounds == "white":
        return table
    mean, se = _under_the_model(fit, rows, bins, last)
    half = stats.norm.isf(alpha / 2.0) * se
    table.insert(3, "expected", np.append(1.0, mean))
    table["lower"] = np.append(np.nan, mean - half)
    table["upper"] = np.append(np.nan, mean + half)
    return table


def _table(
    x: FloatArray, rows: SeriesRows, bins: LagBins, last: int, alpha: float
) -> pd.DataFrame:
    """Autocorrelations at the lags that have pairs, and bounds for white noise."""
    counts, lags, sums = lag_products(x[:, None], rows, bins, last)
    square = float(x @ x) / len(x)
    if not square > 0.0:
        raise NotComputedError("all values are zero: there is no autocorrelation")
    there = counts > 0.0
    pairs = counts[there]
    half = np.append(np.nan, stats.norm.isf(alpha / 2.0) / np.sqrt(pairs))
    return ResultFrame(
        {
            "lag": np.append(0.0, lags[there]),
            "acf": np.append(1.0, sums[there] / pairs / square),
            "pairs": np.append(len(x), pairs.astype(np.int64)),
            "lower": -half,
            "upper": half,
        }
    )


def _under_the_model(
    fit: Fit, rows: SeriesRows, bins: LagBins, last: int
) -> tuple[FloatArray, FloatArray]:
    """
    Mean and standard error of the autocorrelations if the model is true.

    At the lags that have pairs; the error is NaN where the estimated parameters
    explain all that a lag could show.
    """
    residuals = normalized_residuals(fit)
    counts, _, lost = lag_products(residuals.factors, rows, bins, last)
    square = float(residuals.variance.mean())
    lags = np.flatnonzero(counts > 0.0)
    tests = ScoreTests(fit, sample_of_groups(residuals))
    alternatives = lag_alternatives(tests.residuals.rows, bins, lags.tolist())
    efficient = tests.efficient(list(alternatives.values()), joint=False)
    variance = np.where(efficient.tested, np.diag(efficient.variance), np.nan)
    se = np.full(last + 1, np.nan)
    for (lag, one), own in zip(alternatives.items(), variance, strict=True):
        # a score sums the products of its pairs; a sample has fewer of them
        se[lag] = np.sqrt(own * counts[lag] / one.count) / counts[lag] / square
    return -lost[lags] / counts[lags] / square, se[lags]


def serial_correlation_test(
    fit: Fit,
    lags: int | Iterable[float] | None = None,
    *,
    bin_width: float | None = None,
) -> TestResult:
    """
    Score test for serial correlation that the model leaves.

    The null hypothesis is the fitted model; the alternative, innovations that
    are correlated at some lags, as with a further autoregressive or moving
    average term.  At one lag the statistic is the squared difference between
    the autocorrelation of the normalized residuals and its expectation under
    the model, divided by its variance; all lags together give a chi-squared
    statistic, with fewer degrees of freedom than lags where the estimated
    parameters span what a lag could show.

    Parameters
    ----------
    fit : Fit
    lags : int or iterable of float, optional
        Number of lags to test (the first ones), or the lags themselves, in
        units of time.  By default the first four, or as many as there are.
    bin_width : float, optional
        Width of the lags, as in :meth:`acf`.

    Returns
    -------
    TestResult
        ``table`` has a row a lag: ``acf``, ``pairs``, ``expected``, ``se``,
        ``z``, ``p``.

    Raises
    ------
    UnsupportedError
        For lags that are no positive numbers, or have no pairs.
    NotComputedError
        If the data were removed, no series has two observations, or the model
        leaves nothing to test.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm(
    ...     "distance ~ age",
    ...     teeth,
    ...     groups="subject",
    ...     time="occ",
    ...     residual="independent",
    ... ).fit()
    >>> test = fit.serial_correlation_test()
    >>> test.rejects(0.05)
    False
    """
    return remaining_correlation(ScoreTests(fit), lags, bin_width)


def remaining_correlation(
    tests: ScoreTests,
    lags: int | Iterable[float] | None = None,
    bin_width: float | None = None,
) -> TestResult:
    """The score test of serial correlation; see :func:`serial_correlation_test`."""
    rows = series_rows(tests.fit)
    bins = choose_bins(rows.gaps, bin_width)
    chosen = _chosen(rows, bins, lags)
    residuals = tests.residuals
    efficient = tests.efficient(list(lag_alternatives(rows, bins, chosen).values()))
    statistic, df = efficient.joint()
    if df == 0:
        raise NotComputedError(
            "the estimated parameters explain any correlation at these lags; with "
            "series this short there is nothing left to test"
        )
    values, last = residuals.values, max(chosen)
    counts, distances, sums = lag_products(values[:, None], rows, bins, last)
    lost = lag_products(residuals.factors, rows, bins, last)[2]
    pairs, square = counts[chosen], float(residuals.variance.mean())
    variance = np.maximum(np.diag(efficient.variance), 0.0)
    deviation = np.sqrt(np.where(efficient.tested, variance, np.nan))
    z = efficient.score / deviation
    table = pd.DataFrame(
        {
            "acf": sums[chosen] / pairs / (values @ values / len(values)),
            "pairs": pairs.astype(np.int64),
            "expected": -lost[chosen] / pairs / square,
            "se": deviation / pairs / square,
            "z": z,
            "p": 2.0 * stats.norm.sf(np.abs(z)),
        },
        index=pd.Index(distances[chosen], name="lag"),
    )
    note = ""
    if df < len(chosen):
        note = (
            f"The estimated parameters leave {df} of {len(chosen)} lags to test: the "
            "random effects and the residual structure span the rest."
        )
    text = TestText(
        "Score test for remaining serial correlation",
        f"the innovations of the {tests.fit.structure.label} residuals are independent",
        "they are correlated at some of these lags",
        "Breusch and Pagan (1980)",
    )
    return text.result(statistic, "chi2", float(df), note=note, table=table)


def _chosen(
    rows: SeriesRows, bins: LagBins, lags: int | Iterable[float] | None
) -> list[int]:
    """Numbers of the lags to test, those with pairs."""
    if lags is None or isinstance(lags, (int, np.integer)):
        count = _LAGS if lags is None else int(lags)
        if isinstance(lags, bool) or count < 1:
            raise UnsupportedError(f"lags={lags!r} is not a positive number of lags")
        last = default_last(rows, bins, None)
        if lags is not None:
            last = max(last, int(np.rint(float(rows.time.max()) / bins.width)))
        return np.flatnonzero(_pair_counts(rows, bins, last))[:count].tolist()
    try:
        wanted = [float(lag) for lag in lags]
    except (TypeError, ValueError):
        wanted = []
    if not wanted or not all(np.isfinite(lag) and lag > 0.0 for lag in wanted):
        raise UnsupportedError(
            f"lags={lags!r}: pass a number of lags, or lags as positive numbers"
        )
    numbers = sorted({int(k) for k in bins.index(np.array(wanted))})
    default_last(rows, bins, max(wanted) if max(wanted) >= bins.width else None)
    counts = _pair_counts(rows, bins, max(numbers))
    empty = [k * bins.width for k in numbers if counts[k] == 0.0]
    if empty:
        raise UnsupportedError(
            f"no two observations of a series are {empty[0]:g} apart in time; leave "
            "that lag out"
        )
    return numbers


def _pair_counts(rows: SeriesRows, bins: LagBins, last: int) -> FloatArray:
    """Pairs at each lag; lag 0 does not count."""
    counts = lag_products(np.zeros((rows.n, 1)), rows, bins, last)[0]
    counts[0] = 0.0
    return counts
