"""
Smooths that each level of a factor has for itself: coefficients and their covariance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.linalg import block_diag

from mixedar._types import FloatArray, IntArray
from mixedar.fit import Fit
from mixedar.fit.linked import effects_from, group_levels
from mixedar.inference.smooths import (
    FittedSmooth,
    SharedCoefficients,
    penalised_wald,
)
from mixedar.prediction.new_rows import fitted_rows
from mixedar.prediction.predict import GroupPredictor

#: Coefficients of all smooths and effects of all factors in a test of levels' curves.
MOST = 1000


class JointCoefficients:
    """
    Coefficients of all smooths, those of each level of a factor among them.

    Parameters
    ----------
    fit : Fit
    shared : SharedCoefficients
        Those of all rows.
    smooths : sequence of FittedSmooth
    """

    def __init__(
        self, fit: Fit, shared: SharedCoefficients, smooths: Sequence[FittedSmooth]
    ) -> None:
        self._fit, self._shared = fit, shared
        self._of_groups = [one for one in smooths if one.components]
        terms = fit.data.terms
        first = [t for t, term in enumerate(terms) if term.shared]
        of_levels = [t for one in smooths for t in one.terms if t not in first]
        rest = [t for t in range(len(terms)) if t not in first + of_levels]
        # groups' coefficients follow from the effects of all other factors
        self._terms = [*first, *of_levels, *(rest if self._of_groups else [])]
        sizes = [fit.term_effects[t].means.size for t in self._terms]
        ends = np.cumsum([0, *sizes])
        self._places = {
            t: np.arange(a, b)
            for t, a, b in zip(self._terms, ends, ends[1:], strict=False)
        }
        last = int(ends[-1])
        self._columns = []
        for one in self._of_groups:
            columns = _columns(fit, one)
            self._columns.append(last + np.arange(len(columns) * fit.n_groups))
            last += len(columns) * fit.n_groups
        #: number of coefficients and effects
        self.size = last

    def _positions(self, one: FittedSmooth) -> tuple[IntArray, FloatArray]:
        """Positions of a smooth's coefficients, and their variances."""
        if one.components:
            own = self._columns[self._of_groups.index(one)]
            sizes = [self._fit.layout.vc_sizes[j] for j in one.components]
            each = np.repeat(one.variances, sizes)
            return own, np.tile(each, self._fit.n_groups)
        places = [self._places[t] for t in one.terms]
        sizes = [len(place) for place in places]
        return np.concatenate(places), np.repeat(one.variances, sizes)

    @cached_property
    def _effects(self) -> tuple[FloatArray, FloatArray]:
        """Of the further terms: predictions, and covariance with the fixed effects."""
        fit, p = self._fit, self._fit.k_fe
        effects = [fit.term_effects[t] for t in self._terms]
        numbers = [
            fit.term_posterior.numbers(t, np.arange(len(found.means))).ravel()
            for t, found in zip(self._terms, effects, strict=True)
        ]
        slopes = [found.slopes.reshape(-1, p) for found in effects]
        turn = np.vstack([np.eye(p), *(-own for own in slopes)])
        cov = turn @ fit.cov_beta @ turn.T
        if numbers:
            some = np.concatenate(numbers)
            cov[p:, p:] += fit.scale * fit.term_posterior.covariance(some)
        means = [np.empty(0), *(found.means.ravel() for found in effects)]
        return np.concatenate(means), cov

    @cached_property
    def _whole(self) -> tuple[FloatArray, FloatArray]:
        """Predictions of all, and the covariance of their errors."""
        fit, p = self._fit, self._fit.k_fe
        means, cov = self._effects
        if not self._of_groups:
            return means, cov[p:, p:]
        data = fit.data
        designs = [data.exog]
        for t in self._terms:
            term, count = data.terms[t], len(fit.term_effects[t].means)
            design = np.zeros((data.nobs, count, term.design.shape[1]))
            design[np.arange(data.nobs), term.codes] = term.design
            designs.append(design.reshape(data.nobs, -1))
        moved = effects_from(fit, np.hstack(designs))
        own = [_columns(fit, one) for one in self._of_groups]
        means = np.concatenate(
            [means, *(fit.effects.means[:, columns].ravel() for columns in own)]
        )
        turn = np.vstack(
            [np.eye(len(cov))]
            + [-moved[:, columns].reshape(-1, len(cov)) for columns in own]
        )
        out = turn @ cov @ turn.T
        root = fit.effects.roots
        for a, first in zip(own, self._columns, strict=True):
            for b, second in zip(own, self._columns, strict=True):
                spread = np.einsum("cag,cbg->gab", root[:, a], root[:, b])
                here = np.ix_(p + first, p + second)
                out[here] += fit.scale * block_diag(*spread)
        return means, out[p:, p:]

    def no_effect(
        self, one: FittedSmooth, smooths: Sequence[FittedSmooth], df: float
    ) -> tuple[float, float, float]:
        """
        Wood's (2013) test that no level has a curve of its own.

        As in mgcv the other smooths are what they are, other random effects random.

        Returns
        -------
        tuple of float
            Reference degrees of freedom, F and p.
        """
        own, variances = self._positions(one)
        own = own[variances > 0.0]
        if not len(own):
            return 0.0, 0.0, 1.0
        means, cov = self._whole
        spread = cov[np.ix_(own, own)].copy()
        p = self._fit.k_fe
        shared = np.arange(len(self._shared.penalty) - p)
        across = cov[np.ix_(own, shared)]
        spread -= across @ self._shared.penalty[p:, p:] @ across.T
        for other in smooths:
            if not other.smooth.call.factor:
                continue
            places, variances = self._positions(other)
            seen = variances > 0.0
            across = cov[np.ix_(own, places[seen])]
            spread -= (across / variances[seen]) @ across.T
        # in units of their standard deviations
        own_cov = cov[np.ix_(own, own)]
        size = np.sqrt(np.diag(own_cov))
        scales = np.outer(size, size)
        return penalised_wald(means[own] / size, spread / scales, own_cov / scales, df)


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
