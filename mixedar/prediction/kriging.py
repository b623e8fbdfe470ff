"""
Kriging weights: residuals at new positions from the observed ones of a series.

With ``R`` the covariance of the observed residuals ``e`` and ``r`` their
covariance with a new one of variance ``v``, the best linear predictor is ``c'e``,
``c = R^-1 r``, and the variance ``v - r'R^-1 r`` remains.  With a variance
function ``R = G C G``: residuals are divided by their standard deviations, and
what correlations alone give is multiplied by the new one's.

For a Markov structure only the neighbours in time count.  With correlations ``s``
and ``t`` across the gaps to them,

    c = (s (1 - t^2), t (1 - s^2)) / (1 - s^2 t^2)
    1 - r'c = (1 - s^2) (1 - t^2) / (1 - s^2 t^2)

(Cressie, N. A. C., 1993, Statistics for Spatial Data, Wiley, section 3.2;
Jones, R. H., 1993, Longitudinal Data with Serial Correlation, Chapman and Hall).

A new residual is that of a new observation.  At the position of an observed one
it is the same quantity, except for the measurement error of a nugget.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mixedar.prediction.correlations import (
    correlation_part,
    is_correlated,
    relative_sd,
)
from mixedar.prediction.dense_kriging import dense_weights
from mixedar.residual import Heteroscedastic, MarkovStructure, ResidualStructure

__all__ = ["Kriging", "krige"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class Kriging:
    """
    How new residuals follow from observed ones.

    Attributes
    ----------
    weights : sparse array, shape (k, n)
        One row a new residual.
    share : ndarray, shape (k,)
        Variance that remains, relative to ``sigma^2``.
    """

    weights: sparse.csr_array
    share: FloatArray


def krige(
    structure: ResidualStructure,
    params: FloatArray,
    observed: tuple[IntArray, FloatArray],
    asked: tuple[IntArray, FloatArray],
) -> Kriging:
    """
    Weights of the observed residuals for every new one.

    Parameters
    ----------
    structure : ResidualStructure
    params : ndarray, shape (k_params,)
    observed : tuple of ndarray, of shapes (n,) and (n, 1 + c)
        Numbers of the series, increasing, and positions: times, increasing within
        a series, then the structure's marks.
    asked : tuple of ndarray, of shapes (k,) and (k, 1 + c)
        Numbers of the series, -1 where nothing was observed, and positions.

    Returns
    -------
    Kriging

    Raises
    ------
    StructureError
        If the new residuals cannot have such correlations, or matrices would be
        too large.
    TimeError
        If the structure knows no correlation at some distance.
    """
    inner, values = correlation_part(structure, params)
    (series, positions), (wanted, places) = observed, asked
    if len(series) == 0 or len(wanted) == 0 or not is_correlated(structure):
        empty = sparse.csr_array((len(wanted), len(series)))
        found = Kriging(empty, np.ones(len(wanted)))
    elif isinstance(inner, MarkovStructure):
        found = _neighbours(
            inner, values, (series, positions[:, 0]), (wanted, places[:, 0])
        )
    else:
        width = 1 + len(inner.marks)
        found = Kriging(
            *dense_weights(
                inner,
                values,
                (series, positions[:, :width]),
                (wanted, places[:, :width]),
            )
        )
    if not isinstance(structure, Heteroscedastic):
        return found
    sd = relative_sd(structure, places[:, 1:], params)
    weights = found.weights
    if weights.nnz:
        # back from standardised residuals
        weights.data *= np.repeat(sd, np.diff(weights.indptr))
        before = relative_sd(structure, positions[:, 1:], params)
        weights.data /= before[weights.indices]
    return Kriging(weights, sd**2 * found.share)


def _neighbours(
    structure: MarkovStructure,
    params: FloatArray,
    observed: tuple[IntArray, FloatArray],
    asked: tuple[IntArray, FloatArray],
) -> Kriging:
    series, time = observed
    wanted, when = asked
    n, k = len(series), len(wanted)
    # one whole number for series and time, to search all series at once
    distinct, rank = np.unique(np.concatenate([time, when]), return_inverse=True)
    span = len(distinct)
    keys = series * span + rank[:n]
    after = np.searchsorted(keys, wanted * span + rank[n:])
    before = after - 1
    np.minimum(after, n - 1, out=after)
    np.maximum(before, 0, out=before)
    # a series of number -1 meets neither
    has_before = (series[before] == wanted) & (time[before] < when)
    has_after = (series[after] == wanted) & (time[after] >= when)
    s, s_rest = _across(structure, params, when - time[before], has_before)
    t, t_rest = _across(structure, params, time[after] - when, has_after)
    total = s_rest + s * s * t_rest  # 1 - s^2 t^2
    total[total == 0.0] = 1.0
    entries = np.empty((k, 2))
    entries[:, 0] = s * t_rest / total
    entries[:, 1] = t * s_rest / total
    weights = sparse.csr_array(
        (
            entries.ravel(),
            np.column_stack([before, after]).ravel(),
            np.arange(0, 2 * k + 1, 2),
        ),
        shape=(k, n),
    )
    return Kriging(weights, s_rest * t_rest / total)


def _across(
    structure: MarkovStructure,
    params: FloatArray,
    gaps: FloatArray,
    exists: NDArray[np.bool_],
) -> tuple[FloatArray, FloatArray]:
    """Correlation across gaps, 0 where there is no neighbour, and ``1 - phi^2``."""
    phi = structure.correlation_at(np.where(exists, gaps, 1.0), params)
    phi = np.where(exists, phi, 0.0)
    return phi, (1.0 - phi) * (1.0 + phi)
