"""
Likelihoods without a maximum.

Where some rows, or a combination of them, have no residual variation left, the
likelihood rises for ever as their residual variance goes to zero.  The search then
ends where numbers do, and what has vanished there is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.model_data import ModelData
from mixedar.engine.estimate import Estimate
from mixedar.engine.residuals import ResidualMatrices
from mixedar.exceptions import listing
from mixedar.numeric.blocked import inverse_root

_ROWS, _GROUPS = 60, 400  # that are looked at
# A variance is gone that is so small beside the squares of the residuals of its rows,
# or beside all of them where most residuals of its kind are smaller still.
_GONE, _SMALLER_STILL = 1e-6, 1e-4
_HEAVY = 1e-3  # share of a direction that counts as part of it
_SHARE = 0.99  # of what has vanished that lies in one occasion or stratum


def vanished(data: ModelData, estimate: Estimate, u: FloatArray) -> str:
    """
    Which residual variation is gone at an estimate; empty if none is.

    Directions in which the rows of a group vary least are compared with the
    residuals there.
    """
    grouped = data.grouped
    resid = grouped.sort(data.endog - data.exog @ estimate.beta)
    x, z = grouped.sort(data.exog), grouped.sort(data.random_design)
    typical = float((resid**2).mean())
    share = np.zeros(data.nobs)
    looked = 0
    low: list[tuple[slice, FloatArray, float, FloatArray, FloatArray]] = []
    edges = zip(grouped.offsets[:_GROUPS], grouped.offsets[1:], strict=False)
    for start, end in edges:
        here = slice(start, min(end, start + _ROWS))
        looked += here.stop - here.start
        effects = z[here] @ estimate.psi @ z[here].T
        within = residual_covariance(data, np.arange(data.nobs)[here], u)
        covariance = estimate.scale * (within + effects)
        if _least(covariance) > _GONE * max(float((resid[here] ** 2).max()), typical):
            continue
        values, vectors = np.linalg.eigh(covariance)
        weights = vectors**2
        gone = values < _GONE * (resid[here] ** 2 @ weights)
        share[here] += weights[:, gone].sum(axis=1)
        small = (values < _GONE * typical) & ~gone
        main = (vectors * (weights > _HEAVY))[:, small]
        low += zip(
            repeat(here),
            weights[:, small].T,
            values[small],
            main.T @ resid[here],
            main.T @ x[here],
            strict=False,
        )
    if low:
        share += _fitted_exactly(data.nobs, low)
    if not share.any():
        return ""
    effects_of_all = min(data.n_groups, _GROUPS) * (data.k_re + data.k_vc)
    free = looked - effects_of_all - data.k_fe
    if share.sum() >= max(free, 1):
        return "that of all rows: fixed and random effects fit the response exactly"
    divided = [(name, pd.Series(share).groupby(by).sum()) for name, by in _labels(data)]
    for name, parts in divided:
        if len(parts) > 1 and parts.max() > _SHARE * parts.sum():
            return f"that of the rows with {name} = {parts.idxmax()}"
    if not divided:
        return "that of a combination of the rows of a group"
    name, parts = divided[0]
    involved = list(parts.index[parts > 0.05 * parts.max()])
    return (
        f"that of a combination of the rows with {name} = {listing(involved)}, whose "
        "correlations become those of residuals that follow from one another"
    )


def _least(covariance: FloatArray) -> float:
    """Less than the variance in any direction: one over the sum of the precisions."""
    try:
        root, _ = inverse_root(covariance)
    except np.linalg.LinAlgError:
        return 0.0
    return 1.0 / float((root**2).sum())


def _fitted_exactly(
    nobs: int, low: list[tuple[slice, FloatArray, float, FloatArray, FloatArray]]
) -> FloatArray:
    """
    Shares of the rows in directions of little variance that fixed effects fit exactly.

    Zero if they fit a minority.  The estimates themselves need not fit them: other rows
    may pull those off by as much as the standard deviation that is left.
    """
    where, weights, values, resid, x = zip(*low, strict=True)
    design = np.asarray(x)
    left = np.asarray(resid)
    beta, _, rank, _ = np.linalg.lstsq(design, left, rcond=None)
    if len(left) > rank:
        left = left - design @ beta
    still = left**2 < _SMALLER_STILL * np.asarray(values)
    share = np.zeros(nobs)
    if still.mean() > 0.5:
        for k in np.flatnonzero(still):
            share[where[k]] += weights[k]
    return share


def residual_covariance(data: ModelData, rows: IntArray, u: FloatArray) -> FloatArray:
    """Relative residual covariance of some rows of a group."""
    gaps, marks = data.grouped.gaps[rows], data.grouped.marks
    marks = np.empty((len(rows), 0)) if marks is None else marks[rows]
    matrices = ResidualMatrices(data.residual, gaps[None], marks[None])
    return matrices.matrices(matrices.values(u), slice(None))[0]


def _labels(data: ModelData) -> Iterator[tuple[str, FloatArray]]:
    """What divides the rows, the time first: its name, and the label of each row."""
    marks = data.grouped.marks
    if data.time is not None:
        yield data.time_name or "time", data.grouped.sort(np.asarray(data.time))
    for k, (mark, levels) in enumerate(
        zip(data.residual.marks, data.covariate_levels, strict=False)
    ):
        if marks is not None and levels is not None and mark.column is not None:
            names = np.asarray(levels.names)
            yield mark.column, names[marks[:, k].astype(np.intp)]
