"""
Autocorrelations that a fitted model expects of its own residuals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.diagnostics.directions import lag_directions
from mixedar.diagnostics.lags import LagBins
from mixedar.diagnostics.products import lag_products
from mixedar.diagnostics.rows import SeriesRows
from mixedar.diagnostics.score import score_frame
from mixedar.diagnostics.theory import residual_theory, thinned

__all__ = ["ExpectedACF", "expected_acf"]

FloatArray = NDArray[np.float64]


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
