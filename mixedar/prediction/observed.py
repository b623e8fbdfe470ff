"""
The observed rows on which predictions of some groups rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.effects import whiten_series
from mixedar.exceptions import NotComputedError
from mixedar.grouped import GroupedRows

__all__ = ["ObservedRows", "observed_rows"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class ObservedRows:
    """
    Rows of g groups, sorted by group, series and time.

    Attributes
    ----------
    exog : ndarray, shape (n, p)
    exog_re : ndarray, shape (n, q)
        Columns of all random effects.
    endog : ndarray, shape (n,)
    grouped : GroupedRows
        Rows of each group, gaps in time, and what the residual structure reads.
    rows : ndarray of int, shape (n,)
        Positions of these rows in the model.
    """

    exog: FloatArray
    exog_re: FloatArray
    endog: FloatArray
    grouped: GroupedRows
    rows: IntArray

    @property
    def series(self) -> IntArray:
        """Number of each row's series, counted from 0, shape (n,)."""
        return np.asarray(np.cumsum(self.grouped.first_of_series) - 1)

    @property
    def marks(self) -> FloatArray:
        """What the residual structure reads beside the time, shape (n, c)."""
        marks = self.grouped.marks
        return np.empty((len(self.rows), 0)) if marks is None else marks

    def cross_products(self, fit: Any) -> FloatArray:
        """``Z'R^-1 X`` of each group, shape (q, p, g)."""
        z, x = _whitened(self.exog_re, self, fit), _whitened(self.exog, self, fit)
        starts = self.grouped.offsets[:-1]
        out = np.empty((z.shape[1], x.shape[1], len(starts)))
        for a in range(z.shape[1]):
            for b in range(x.shape[1]):
                out[a, b] = np.add.reduceat(z[:, a] * x[:, b], starts)
        return out


def _whitened(columns: FloatArray, observed: ObservedRows, fit: Any) -> FloatArray:
    """Columns times the inverse Cholesky factor of the residual covariance."""
    out = np.empty(columns.shape, order="F")
    for j in range(columns.shape[1]):
        out[:, j] = whiten_series(
            np.ascontiguousarray(columns[:, j]),
            observed.grouped,
            fit.structure,
            fit._residual_values,
        )
    return out


def observed_rows(fit: Any, groups: IntArray) -> ObservedRows:
    """
    Collect the rows of some groups.

    Parameters
    ----------
    fit : MixedLMARResults
    groups : ndarray of int, shape (g,)
        Numbers of the groups, increasing.

    Returns
    -------
    ObservedRows

    Raises
    ------
    NotComputedError
        If the data of the fit were removed.
    """
    model = fit.model
    if model.endog is None:
        raise NotComputedError(
            "the data were removed from this fit; predictions for groups need them"
        )
    whole: GroupedRows = model._grouped
    sizes = whole.sizes[groups]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
    if len(groups) == whole.n_groups:
        rows = np.arange(offsets[-1])
    else:
        rows = np.arange(offsets[-1]) + np.repeat(
            whole.offsets[groups] - offsets[:-1], sizes
        )
    grouped = whole.part(rows, offsets)
    if whole.order is not None:
        rows = whole.order[rows]
    return ObservedRows(
        model.exog[rows],
        model._random_design()[rows],
        model.endog[rows],
        grouped,
        rows,
    )
