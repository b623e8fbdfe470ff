"""
Is there serial correlation left in normalized residuals?

Their autocorrelations are not those of white noise even if the model is true:
the random effects were predicted, and the parameters estimated, from the same
observations.  In short series that is most of what one sees (four observations,
an intercept and a slope a group: about -0.2 at lag 1), so that Ljung and Box's
statistic rejects nearly always.  The sums of products at each lag are scores,
though, of a model whose innovations are correlated at that lag, and as such have
a known mean and variance (see :mod:`mixedar.diagnostics.residuals.score`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray
from mixedar.diagnostics.residuals.alternatives import lag_directions
from mixedar.diagnostics.residuals.score import score_frame
from mixedar.diagnostics.residuals.series import (
    LagBins,
    SeriesRows,
    choose_bins,
    default_last,
    lag_products,
    rows_of,
    unwrapped,
)
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.hypotheses.result import TestResult

# By default so many lags are tested.
_LAGS = 4


def serial_correlation_test(
    fit: Any,
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
    fit : MixedLMARResults
    lags : int or iterable of float, optional
        Number of lags to test (the first ones), or the lags themselves, in
        units of time.  By default the first four, or as many as there are.
    bin_width : float, optional
        Width of the lags, as in
        :func:`mixedar.diagnostics.residuals.acf.autocorrelation`.

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

    References
    ----------
    Breusch, T. S. and Pagan, A. R. (1980), The Lagrange multiplier test and its
    applications to model specification in econometrics, Review of Economic
    Studies 47, 239-253.
    """
    fit = unwrapped(fit)
    rows = rows_of(fit)
    bins = choose_bins(rows.gaps, bin_width)
    chosen = _chosen(rows, bins, lags)
    frame = score_frame(fit)
    efficient = frame.efficient(list(lag_directions(rows, bins, chosen).values()))
    statistic, df = efficient.joint()
    if df == 0:
        raise NotComputedError(
            "the estimated parameters explain any correlation at these lags; with "
            "series this short there is nothing left to test"
        )
    counts, distances, sums = lag_products(
        frame.theory.values[:, None], rows, bins, max(chosen)
    )
    lost = lag_products(frame.theory.factors, rows, bins, max(chosen))[2]
    pairs, square = counts[chosen], float(frame.theory.variance.mean())
    spread = np.sqrt(np.maximum(np.diag(efficient.variance), 0.0))
    tested = efficient.tested
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(tested, efficient.score / spread, np.nan)
    values = frame.theory.values
    table = pd.DataFrame(
        {
            "acf": sums[chosen] / pairs / (values @ values / len(values)),
            "pairs": pairs.astype(np.int64),
            "expected": -lost[chosen] / pairs / square,
            "se": np.where(tested, spread / pairs / square, np.nan),
            "z": z,
            "p": 2.0 * stats.norm.sf(np.abs(z)),
        },
        index=pd.Index(distances[chosen], name="lag"),
    )
    return TestResult(
        name="Score test for remaining serial correlation",
        statistic=statistic,
        df=float(df),
        pvalue=float(stats.chi2.sf(statistic, df)),
        null=f"the innovations of the {fit.structure.label} residuals are independent",
        alternative="they are correlated at some of these lags",
        table=table,
        reference="Breusch and Pagan (1980)",
        note=_note(df, len(chosen)),
    )


def _note(df: int, lags: int) -> str:
    if df == lags:
        return ""
    return (
        f"The estimated parameters leave {df} of {lags} lags to test: the random "
        "effects and the residual structure span the rest."
    )


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
        counts = _pair_counts(rows, bins, last)
        return [int(k) for k in np.flatnonzero(counts)[:count]]
    wanted = [float(lag) for lag in lags]
    if not wanted or not all(np.isfinite(lag) and lag > 0.0 for lag in wanted):
        raise UnsupportedError(
            f"lags={lags!r}: pass a number of lags, or lags as positive numbers"
        )
    numbers = sorted({int(k) for k in bins.index(np.array(wanted))})
    default_last(rows, bins, max(wanted) if max(wanted) >= bins.width else None)
    counts = _pair_counts(rows, bins, max(numbers))
    empty = [k * bins.width for k in numbers if k == 0 or counts[k] == 0.0]
    if empty:
        raise UnsupportedError(
            f"no two observations of a series are {empty[0]:g} apart in time; leave "
            "that lag out"
        )
    return numbers


def _pair_counts(rows: SeriesRows, bins: LagBins, last: int) -> FloatArray:
    """Pairs at each lag; lag 0 does not count."""
    counts = lag_products(np.zeros((len(rows.first), 1)), rows, bins, last)[0]
    counts[0] = 0.0
    return counts
