"""
Empirical and fitted correlations of a group's observations, by lag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import group_codes
from mixedar.data.occasions import occasions_of
from mixedar.data.time import time_axis
from mixedar.diagnostics.residuals.series import SeriesRows, pairs
from mixedar.diagnostics.residuals.variogram import error_correlations
from mixedar.engine.rows import group_rows
from mixedar.exceptions import MixedARError, NotComputedError, check_positive
from mixedar.fit import Fit
from mixedar.residual import CAR1
from mixedar.summary import ResultFrame

# Neighbours of an observation in a long series, ...
_NEIGHBOURS = 40
# ... pairs of all groups, ...
_PAIRS = 2_000_000
# ... distances that are shown one by one, and ranges where there are more.
_SINGLE, _RANGES = 40, 20


@dataclass(frozen=True)
class _Pairs:
    """
    Pairs of rows of a series.

    `first` and `second` are rows in the caller's order, `lag` the number of the
    distance, and `distance` the mean of each lag.
    """

    first: IntArray
    second: IntArray
    lag: IntArray
    distance: FloatArray

    def total(self, values: FloatArray) -> FloatArray:
        """Sum over the pairs of each lag."""
        out = np.bincount(self.lag, values, minlength=len(self.distance))
        return np.asarray(out, dtype=np.float64)


def correlations_by_lag(
    fits: Mapping[str, Fit], max_lag: float | None = None
) -> pd.DataFrame:
    """
    Empirical and fitted correlations; see ``ResidualSelection.correlations``.

    Parameters
    ----------
    fits : mapping of str to Fit
        Fits to the same rows.
    max_lag : float, optional

    Returns
    -------
    DataFrame, one row a lag
    """
    pairs = _pairs(list(fits.values()), max_lag)
    best = max(fits.values(), key=lambda fit: fit.llf)
    empirical, error = _empirical(best, pairs)
    columns = {
        "pairs": np.bincount(pairs.lag, minlength=len(pairs.distance)),
        "empirical": empirical,
        "std_error": error,
    }
    columns |= {name: _fitted(fit, pairs) for name, fit in fits.items()}
    return ResultFrame(columns, index=pd.Index(pairs.distance, name="lag"))


def _pairs(fits: Sequence[Fit], max_lag: float | None) -> _Pairs:
    data, series = fits[0].data, None
    if data.series is not None:
        series = group_codes(data.series, "series")[0]
    rows = SeriesRows(group_rows(data.codes, _times(fits), series, data.n_groups), None)
    number = rows.sort(np.arange(rows.n))
    most = min(int(rows.lengths.max()) - 1, _NEIGHBOURS)
    step = max(-(-most * rows.n // _PAIRS), 1)
    limit = np.inf
    if max_lag is not None:
        limit = check_positive("max_lag", max_lag) * (1.0 + 1e-9)
    found = [(np.empty(0, dtype=np.intp),) * 2 + (np.empty(0),)]
    for later, earlier, apart in islice(pairs(rows, limit), _NEIGHBOURS):
        first, second = number[earlier], number[later]
        kept = data.codes[first] % step == 0
        found.append((first[kept], second[kept], apart[kept]))
    first, second, distance = map(np.concatenate, zip(*found, strict=True))
    if len(distance) == 0:
        raise NotComputedError(
            "no two observations of a series"
            + ("" if max_lag is None else f" are at most {max_lag:g} apart")
            + ": there is no correlation to show"
        )
    return _Pairs(first, second, *_lags(distance))


def _times(fits: Sequence[Fit]) -> FloatArray | None:
    """Times as numbers, in the unit of a structure that reads them if one does."""
    data = fits[0].data
    if data.time is None:
        return None
    readers = [fit for fit in fits if fit.structure.uses_time]
    readers = [fit for fit in readers if fit.structure.k_params] or readers
    structure = readers[0].structure if readers else CAR1()
    step = readers[0].data.time_step if readers else 1.0
    try:
        return time_axis(data.time, structure).values / step
    except MixedARError:
        return occasions_of(pd.Series(data.time), "time")[0].astype(np.float64)


def _lags(distance: FloatArray) -> tuple[IntArray, FloatArray]:
    """Number of each pair's lag, and mean distances of the lags."""
    # rounding of decimal times does not make a new distance
    rounded = np.round(distance / distance.max(), 9)
    values, lag = np.unique(rounded, return_inverse=True)
    if len(values) > _SINGLE:
        edges = np.quantile(distance, np.linspace(0.0, 1.0, _RANGES + 1)[1:-1])
        _, lag = np.unique(np.searchsorted(edges, distance), return_inverse=True)
    return lag, np.bincount(lag, distance) / np.bincount(lag)


def _empirical(fit: Fit, pairs: _Pairs) -> tuple[FloatArray, FloatArray]:
    """Correlations, and standard errors by the groups' influence on them."""
    resid, group = fit.data.endog - fit.fitted_marginal, fit.data.codes[pairs.first]
    a, b = resid[pairs.first], resid[pairs.second]
    left, right = pairs.total(a * a), pairs.total(b * b)
    size = np.sqrt(left * right)
    correlation = pairs.total(a * b) / size
    here = pairs.lag
    influence = a * b / size[here] - 0.5 * correlation[here] * (
        a * a / left[here] + b * b / right[here]
    )
    _, both = np.unique(here * fit.n_groups + group, return_inverse=True)
    square = np.bincount(both, influence) ** 2
    lag_of_both = np.zeros(len(square), dtype=np.intp)
    lag_of_both[both] = here
    error = np.sqrt(np.bincount(lag_of_both, square, minlength=len(size)))
    return correlation, error


def _fitted(fit: Fit, pairs: _Pairs) -> FloatArray:
    """Mean covariances of the pairs of each lag by mean variances."""
    sd = np.full(fit.nobs, fit.residual_sd)
    cov = sd[pairs.first] * sd[pairs.second] * _of_errors(fit, pairs)
    variance = sd * sd
    z = fit.data.random_design
    image = z @ (fit.scale * fit.estimate.psi)
    cov += np.einsum("ij,ij->i", image[pairs.first], z[pairs.second])
    variance += np.einsum("ij,ij->i", image, z)
    left = pairs.total(variance[pairs.first])
    right = pairs.total(variance[pairs.second])
    return pairs.total(cov) / np.sqrt(left * right)


def _of_errors(fit: Fit, pairs: _Pairs) -> FloatArray:
    """Residual correlations of all pairs."""
    rows = SeriesRows(fit.data.grouped, None)
    place = np.argsort(rows.sort(np.arange(fit.nobs)))
    earlier, later = place[pairs.first], place[pairs.second]
    distance = np.abs(rows.time[later] - rows.time[earlier])
    return error_correlations(fit, rows)(later, earlier, distance)
