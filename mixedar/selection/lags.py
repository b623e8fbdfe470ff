"""
Correlations of observations by their distance in time, seen and fitted.

Both are ratios of sums over the same pairs of observations of a series,

    sum c_st / sqrt(sum c_ss sum c_tt),

with products of residuals around the fixed effects for what was seen, and with
covariances of the fitted model, random effects included, for what was fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.exceptions import MixedARError, NotComputedError
from mixedar.moments.residual_matrices import unique_rows
from mixedar.residual import CAR1
from mixedar.timeaxis import time_axis
from mixedar.validate import group_codes

__all__ = ["correlations_by_lag"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

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
    distance, `group` of the group, and `distance` the mean of each lag.
    """

    first: IntArray
    second: IntArray
    lag: IntArray
    group: IntArray
    distance: FloatArray

    def total(self, values: FloatArray) -> FloatArray:
        """Sum over the pairs of each lag."""
        out = np.bincount(self.lag, values, minlength=len(self.distance))
        return np.asarray(out, dtype=np.float64)


def correlations_by_lag(
    fits: Mapping[str, Any], max_lag: float | None = None
) -> pd.DataFrame:
    """
    Empirical and fitted correlations; see ``ResidualSelection.correlations``.

    Parameters
    ----------
    fits : mapping of str to MixedLMARResults
        Fits to the same rows.
    max_lag : float, optional

    Returns
    -------
    DataFrame, one row a lag
    """
    results = {name: getattr(fit, "_results", fit) for name, fit in fits.items()}
    if any(fit.model.endog is None for fit in results.values()):
        raise NotComputedError("the data were removed from a fit; fit again")
    pairs = _pairs(list(results.values()), max_lag)
    best = max(results.values(), key=lambda fit: fit.llf)
    empirical, error = _empirical(best.model.endog - best.fitted_marginal, pairs)
    columns = {
        "pairs": np.bincount(pairs.lag, minlength=len(pairs.distance)),
        "empirical": empirical,
        "std_error": error,
    }
    columns |= {name: _fitted(fit, pairs) for name, fit in results.items()}
    return pd.DataFrame(columns, index=pd.Index(pairs.distance, name="lag"))


def _pairs(fits: list[Any], max_lag: float | None) -> _Pairs:
    model = fits[0].model
    series = np.zeros(model.nobs)
    if model.series is not None:
        series = group_codes(model.series, "series")[0].astype(np.float64)
    time = _times(fits, series)
    order = np.lexsort((time, series, model._codes))
    time, codes = time[order], model._codes[order]
    starts = np.append(True, (np.diff(codes) != 0) | (np.diff(series[order]) != 0))
    which = np.cumsum(starts) - 1
    longest = int(np.bincount(which).max())
    most = min(longest - 1, _NEIGHBOURS)
    keep = np.arange(len(time))
    if most * len(time) > _PAIRS:
        step = -(-most * len(time) // _PAIRS)
        keep = np.flatnonzero(codes % step == 0)
    found = []
    for apart in range(1, most + 1):
        here = keep[keep < len(time) - apart]
        here = here[which[here] == which[here + apart]]
        found.append(np.column_stack([here, here + apart]))
    rows = np.concatenate(found) if found else np.empty((0, 2), dtype=np.intp)
    distance = time[rows[:, 1]] - time[rows[:, 0]]
    if max_lag is not None:
        near = distance <= max_lag * (1.0 + 1e-9)
        rows, distance = rows[near], distance[near]
    if len(rows) == 0:
        raise NotComputedError(
            "no two observations of a series"
            + ("" if max_lag is None else f" are at most {max_lag:g} apart")
            + ": there is no correlation to show"
        )
    lag, means = _lags(distance)
    first, second = order[rows[:, 0]], order[rows[:, 1]]
    return _Pairs(first, second, lag, model._codes[first], means)


def _times(fits: list[Any], series: FloatArray) -> FloatArray:
    """Times as numbers, in the unit of a structure that reads them if one does."""
    model = fits[0].model
    if model.time is None:
        frame = pd.DataFrame({"group": model._codes, "series": series})
        places = frame.groupby(["group", "series"], sort=False).cumcount()
        return np.asarray(places, dtype=np.float64)
    readers = [fit.structure for fit in fits if fit.structure.uses_time]
    readers = [s for s in readers if s.k_params] or readers
    try:
        return time_axis(model.time, readers[0] if readers else CAR1()).values
    except MixedARError:
        column = pd.Series(model.time)
        if not isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype("category")
        return np.asarray(column.cat.codes, dtype=np.float64)


def _lags(distance: FloatArray) -> tuple[IntArray, FloatArray]:
    """Number of each pair's lag, and mean distances of the lags."""
    # rounding of decimal times does not make a new distance
    rounded = np.round(distance / distance.max(), 9)
    values, lag = np.unique(rounded, return_inverse=True)
    if len(values) > _SINGLE:
        edges = np.quantile(distance, np.linspace(0.0, 1.0, _RANGES + 1)[1:-1])
        _, lag = np.unique(np.searchsorted(edges, distance), return_inverse=True)
    return lag, np.bincount(lag, distance) / np.bincount(lag)


def _empirical(resid: FloatArray, pairs: _Pairs) -> tuple[FloatArray, FloatArray]:
    """Correlations, and standard errors by the groups' influence on them."""
    a, b = resid[pairs.first], resid[pairs.second]
    left, right = pairs.total(a * a), pairs.total(b * b)
    size = np.sqrt(left * right)
    correlation = pairs.total(a * b) / size
    here = pairs.lag
    influence = a * b / size[here] - 0.5 * correlation[here] * (
        a * a / left[here] + b * b / right[here]
    )
    _, cell = np.unique(
        here * (int(pairs.group.max()) + 1) + pairs.group, return_inverse=True
    )
    square = np.bincount(cell, influence) ** 2
    lag_of_cell = np.zeros(len(square), dtype=np.intp)
    lag_of_cell[cell] = here
    error = np.sqrt(np.bincount(lag_of_cell, square, minlength=len(size)))
    return correlation, error


def _fitted(fit: Any, pairs: _Pairs) -> FloatArray:
    sd = _deviations(fit)
    cov = sd[pairs.first] * sd[pairs.second] * _correlations(fit, pairs)
    variance = sd * sd
    model = fit.model
    z = model._random_design()
    if z.shape[1]:
        image = z @ _effects_covariance(fit)
        cov = cov + np.einsum("ij,ij->i", image[pairs.first], z[pairs.second])
        variance = variance + np.einsum("ij,ij->i", image, z)
    left = pairs.total(variance[pairs.first])
    right = pairs.total(variance[pairs.second])
    return pairs.total(cov) / np.sqrt(left * right)


def _effects_covariance(fit: Any) -> FloatArray:
    """Covariance of all random effects, relative to the residual variance."""
    sizes = fit.model._vc.sizes
    out = np.diag(np.repeat(np.append(0.0, fit.vcomp / fit.scale), [fit.k_re, *sizes]))
    out[: fit.k_re, : fit.k_re] = fit.cov_re_unscaled
    return out


def _positions(fit: Any) -> FloatArray:
    """What the structure reads of each row, in the caller's order."""
    grouped = fit.model._grouped
    n = len(grouped.gaps)
    marks = np.empty((n, 0)) if grouped.marks is None else grouped.marks
    return grouped.unsort(np.column_stack([np.cumsum(grouped.gaps), marks]))


def _correlations(fit: Any, pairs: _Pairs) -> FloatArray:
    """Residual correlations of all pairs."""
    positions = _positions(fit)
    cells, which = unique_rows(
        fit.structure.cells(positions[pairs.first], positions[pairs.second])
    )
    return fit.structure.cell_values(cells, fit._u).value[which]


def _deviations(fit: Any) -> FloatArray:
    """Residual standard deviations of all rows, relative to sigma."""
    positions = _positions(fit)
    positions[:, 0] = 0.0
    kinds, which = unique_rows(positions)
    found = fit.structure.log_sd(kinds, fit._u)
    return np.ones(len(which)) if found is None else np.exp(found.value)[which]
