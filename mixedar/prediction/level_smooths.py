"""
Smooths that each level of a factor has for itself: coefficients and their covariance.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.fit import Fit
from mixedar.fit.linked import group_levels
from mixedar.inference.smooths import FittedSmooth
from mixedar.prediction.new_rows import fitted_rows
from mixedar.prediction.predict import GroupPredictor


def levels_edf(fit: Fit, one: FittedSmooth) -> float:
    """Effective degrees of freedom of all levels together."""
    if one.components:
        columns = _columns(fit, one)
        spread = _variances(fit, columns, np.eye(len(columns)))
        sizes = [fit.layout.vc_sizes[j] for j in one.components]
        tau = np.repeat(one.variances, sizes)
        seen = tau > 0.0
        return float((1.0 - spread[:, seen] / tau[seen]).sum())
    out = 0.0
    for t, variance in zip(one.terms, one.variances, strict=True):
        if variance > 0.0:
            found = fit.term_effects[t]
            spread = fit.scale * np.trace(found.covariances, axis1=1, axis2=2)
            moved = (found.slopes @ fit.cov_beta * found.slopes).sum()
            out += found.means.size - float(spread.sum() + moved) / variance
    return out


def level_coefficients(
    fit: Fit, one: FittedSmooth
) -> tuple[IntArray, FloatArray, FloatArray]:
    """
    Coefficients of each level.

    Returns
    -------
    ndarray of int, shape (m,)
        Numbers of the levels.
    ndarray, shape (m, k)
        Predicted coefficients.
    ndarray, shape (m, k, k)
        Their covariance, fixed effects not taken as known.
    """
    levels = one.smooth.levels
    assert levels is not None
    if one.components:
        columns = _columns(fit, one)
        first, second = np.tril_indices(len(columns))
        unit = np.eye(len(columns))
        spread = _variances(fit, columns, unit[first] + unit[second])
        cov = np.empty((len(spread), len(columns), len(columns)))
        cov[:, first, second] = cov[:, second, first] = spread
        own = np.diagonal(cov, axis1=1, axis2=2) / 4.0
        cov = (cov - own[:, :, None] - own[:, None, :]) / 2.0
        numbers = levels.numbers(pd.Series(group_levels(fit)))
        return numbers, fit.effects.means[:, columns], cov
    effects = [fit.term_effects[t] for t in one.terms]
    means = np.concatenate([found.means for found in effects], axis=1)
    slopes = np.concatenate([found.slopes for found in effects], axis=1)
    numbers = np.arange(len(means))
    each = [fit.term_posterior.numbers(t, numbers) for t in one.terms]
    cov = slopes @ fit.cov_beta @ slopes.transpose(0, 2, 1)
    for k, own in enumerate(np.concatenate(each, axis=1)):
        cov[k] += fit.scale * fit.term_posterior.covariance(own)
    return numbers, means, cov


def _columns(fit: Fit, one: FittedSmooth) -> IntArray:
    """Columns of the groups' random effects that belong to a smooth."""
    starts, sizes = fit.layout.component_starts, fit.layout.vc_sizes
    return np.concatenate([starts[j] + np.arange(sizes[j]) for j in one.components])


def _variances(fit: Fit, columns: IntArray, pattern: FloatArray) -> FloatArray:
    """Variances of combinations of coefficients of each group, shape (m, r)."""
    first = np.unique(fit.data.codes, return_index=True)[1]
    m, r = len(first), len(pattern)
    rows = fitted_rows(fit.data).take(np.repeat(first, r))
    design = np.zeros_like(rows.exog_re)
    design[:, columns] = np.tile(pattern, (m, 1))
    terms = rows.terms
    if terms is not None:
        none = tuple(np.zeros_like(design) for design in terms.designs)
        terms = replace(terms, designs=none)
    rows = replace(rows, exog=np.zeros_like(rows.exog), exog_re=design, terms=terms)
    found = GroupPredictor(fit, rows, "group").error_variance(fit.cov_beta)
    return found.reshape(m, r)
