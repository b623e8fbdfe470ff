"""
Variances that depend on the fitted values: fit, look up, fit again.

The variance function reads the fitted values of the fit before, until they stay
(Pinheiro and Bates, 2000, section 5.2.1; Carroll and Ruppert, 1988).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.grouped import GroupedRows
from mixedar.variance.base import FITTED

__all__ = ["first_fitted", "reads_fitted", "until_fitted_stay"]

FloatArray = NDArray[np.float64]

_MOST = 200
_TOLERANCE = 1e-9  # of the response's standard deviation


def reads_fitted(structure: Any) -> bool:
    """Whether a structure reads the fitted values."""
    return any(mark.column == FITTED for mark in structure.marks)


def first_fitted(model: Any) -> FloatArray:
    """
    Fitted values to begin with: least squares, and the groups' mean residuals.

    Parameters
    ----------
    model : MixedLMAR
        With its response, designs and group numbers.

    Returns
    -------
    ndarray, shape (n,)
        In the caller's row order.
    """
    fitted = model.exog @ np.linalg.lstsq(model.exog, model.endog, rcond=None)[0]
    if model.k_re or model.k_vc:
        rest = np.bincount(model._codes, model.endog - fitted)
        fitted = fitted + (rest / np.bincount(model._codes))[model._codes]
    return np.asarray(fitted)


def until_fitted_stay(
    model: Any, search: Callable[[Any, FloatArray | None], Any]
) -> tuple[Any, bool]:
    """
    Repeat a fit with the fitted values of the one before.

    Parameters
    ----------
    model : MixedLMAR
        Is left as it is: each fit has a copy.
    search : callable
        Results of a model, from a start in the optimiser's coordinates.

    Returns
    -------
    results : MixedLMARResults
        The last ones.
    stayed : bool
        Whether the fitted values had settled.
    """
    spread = float(np.std(model.endog))
    theta, previous = None, None
    current = model
    for _ in range(_MOST):
        results = search(current, theta)
        fitted = np.asarray(results.fittedvalues)
        if previous is not None and (
            np.abs(fitted - previous).max() <= _TOLERANCE * spread
        ):
            return results, True
        current = _with_fitted(model, fitted, rebind=previous is None)
        # the second fit has coordinates of its own, the later ones share them
        theta = None if previous is None else results._theta
        model, previous = current, fitted
    return results, False


def _with_fitted(model: Any, fitted: FloatArray, *, rebind: bool) -> Any:
    """A copy of the model that reads other fitted values."""
    other = object.__new__(type(model))
    other.__dict__ = dict(model._without_lists())
    old = model._grouped
    marks = old.marks.copy()
    for k, mark in enumerate(model.residual.marks):
        if mark.column == FITTED:
            marks[:, k] = old.sort(fitted)
    other._grouped = GroupedRows(old.order, old.offsets, old.gaps, marks)
    if rebind:
        other._bind_residual()
    other._rows = other._compressed()
    other.data = copy.copy(model.data)
    return other
