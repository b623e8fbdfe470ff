"""
The parameters of a fit without each of its groups, on the scale of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.covariance import factor_entries
from mixedar.diagnostics.deletion import (
    DeletedFits,
    deleted_fits,
    deleted_gradients,
    deleted_hessians,
    expanded,
    newton_steps,
)
from mixedar.diagnostics.deletion_coordinates import DeletionCoordinates
from mixedar.diagnostics.deletion_search import WithoutGroup, refit_without
from mixedar.diagnostics.deletion_sums import GroupSums, chunks, group_sums
from mixedar.inference.bootstrap import progress_bar

__all__ = ["Deletions", "GroupStatistics", "delete_groups"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

# Newton steps for groups without which one step would not be enough.
_ENOUGH = 100


@dataclass(frozen=True)
class GroupStatistics:
    """
    What the estimate from all groups says of each group.

    Attributes
    ----------
    leverage : ndarray, shape (m,)
        Trace of the group's part of ``X (X'H^-1 X)^-1 X'H^-1``; the sum over
        the groups is p.
    leverage_re : ndarray, shape (m,)
        Trace of the group's part of ``Z Psi Z'H^-1 (I - X (X'H^-1 X)^-1 X'H^-1)``.
    shift, shift_re : ndarray, shape (m,)
        By which share the weighted residual sum of squares falls if the group
        has a mean of its own, or its random effects are fixed effects.
    rank, rank_re : ndarray of int, shape (m,)
        How many parameters that takes.
    """

    leverage: FloatArray
    leverage_re: FloatArray
    shift: FloatArray
    shift_re: FloatArray
    rank: IntArray
    rank_re: IntArray


@dataclass(frozen=True)
class Deletions:
    """
    Estimates without each of m groups.

    Attributes
    ----------
    beta : ndarray, shape (m, p)
        NaN where the other groups do not determine the coefficients.
    cov_beta : ndarray, shape (m, p, p)
    cov_values : ndarray, shape (m, k_cov)
        Entries of the random-effects covariance, then variance components.
    residual_params : ndarray, shape (m, k_params)
    scale : ndarray, shape (m,)
    theta : ndarray, shape (m, k_theta)
        In the coordinates of the search over all groups.
    iterations : ndarray of int, shape (m,)
        Newton steps that the covariance parameters took.
    statistics : GroupStatistics
    """

    beta: FloatArray
    cov_beta: FloatArray
    cov_values: FloatArray
    residual_params: FloatArray
    scale: FloatArray
    theta: FloatArray
    iterations: IntArray
    statistics: GroupStatistics


def delete_groups(
    results: Any,
    maxiter: int,
    *,
    refit: bool = False,
    progress: bool = False,
) -> Deletions:
    """
    Delete every group of a fit, one at a time.

    Parameters
    ----------
    results : MixedLMARResults
    maxiter : int
        Newton steps of the covariance parameters: with 0 they stay where they
        are, except for the residual variance.
    refit : bool
        Fit the model to the other groups instead.
    progress : bool
        A progress bar where groups are taken one by one.

    Returns
    -------
    Deletions

    Raises
    ------
    NotComputedError
        If the data were removed from the fit.
    """
    at = DeletionCoordinates(results)
    sizes = results.model._grouped.sizes
    pieces = [
        _chunk(at, where, sizes[where], maxiter > 0)
        for where in chunks(at.rows, len(at.jacobian))
    ]
    found = _joined(pieces)
    one_by_one = refit or maxiter > 1
    wanted = np.arange(len(sizes))
    if not one_by_one:
        wanted = np.flatnonzero(found.iterations < 0)
    for i in progress_bar(wanted.tolist(), progress, "groups"):
        if np.isnan(found.scale[i]):
            continue
        try:
            if refit:
                _refit(found, at, results, int(i))
            else:
                _search(found, at, int(i), maxiter if one_by_one else _ENOUGH)
        except np.linalg.LinAlgError:
            for name in ("beta", "cov_beta", "cov_values", "residual_params", "scale"):
                getattr(found, name)[i] = np.nan
    found.iterations[found.iterations < 0] = 0
    return found


def _chunk(
    at: DeletionCoordinates, where: slice, sizes: IntArray, move: bool
) -> Deletions:
    """Some groups at once; `iterations` is -1 where one step will not do."""
    problem = at.problem
    parts = group_sums(
        at.unit_rows(where), problem.structure, problem.covariance, at.factor, at.u
    )
    p, m = len(at.w_map) - 1, len(sizes)
    df = (problem.n - sizes - (p if problem.reml else 0)).astype(np.float64)
    rest = at.total.s - parts.s
    fits = deleted_fits(rest, df)
    statistics = _statistics(at, parts, fits, sizes)
    steps, change = np.zeros((m, len(at.theta))), np.zeros((len(at.jacobian), m))
    iterations = np.zeros(m, dtype=np.intp)
    if move and len(at.theta):
        steps, trusted = _steps(at, parts, fits, 1.0 - sizes / problem.n)
        change = at.change(steps)
        rest = expanded(rest, at.total.s1 - parts.s1, at.total.s2 - parts.s2, change)
        gone = np.isnan(fits.scale)
        fits = deleted_fits(rest, df, gone)
        enough = (trusted & ~np.isnan(fits.scale)) | gone
        iterations = np.where(enough, 1, -1)
    # from the units of the deletions to the user's
    unit = float(at.w_map[p, p])
    to_user = at.w_map[:p, :p]
    scale = fits.scale / unit**2
    inverse = fits.inverse.transpose(2, 0, 1)
    return Deletions(
        beta=(fits.beta.T @ to_user.T - at.w_map[:p, p]) / unit,
        cov_beta=(to_user @ inverse @ to_user.T) * scale[:, None, None],
        cov_values=at.covariances(change, scale),
        residual_params=at.residual_params(steps),
        scale=scale,
        theta=at.theta + steps,
        iterations=iterations,
        statistics=statistics,
    )


def _steps(
    at: DeletionCoordinates, parts: GroupSums, fits: DeletedFits, share: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Steps in theta, and whether each is near the maximum without the group."""
    reml = at.problem.reml
    by_v = deleted_gradients(at.total, parts, fits, reml=reml)
    gradient = (at.jacobian.T @ by_v).T
    steps, trusted = newton_steps(gradient, at.hessian, share, at.theta)
    if at.singular:
        # a variance of zero has no slope; what tells is whether it is a maximum
        bent = deleted_hessians(at.total, parts, fits, reml=reml)
        hessian = np.einsum("ai,abm,bj->mij", at.jacobian, bent, at.jacobian)
        hessian += np.einsum("am,aij->mij", by_v, at.bends)
        values = np.linalg.eigvalsh(np.nan_to_num(hessian))
        trusted &= values[:, -1] <= 1e-8 * np.abs(values).max(axis=1)
    return steps, trusted


def _statistics(
    at: DeletionCoordinates, parts: GroupSums, fits: DeletedFits, sizes: IntArray
) -> GroupStatistics:
    """Leverages, and falls of the sum of squares, of which one is all there is."""
    p, q = len(fits.beta), len(parts.zz)
    psi = at.factor @ at.factor.T
    x, e = parts.zw[:, :p], parts.zw[:, p]
    # Z'P Z of the group, P = H^-1 - H^-1 X (X'H^-1 X)^-1 X'H^-1
    projected = parts.zz - np.einsum("iam,jam->ijm", x, x)
    shift_re, rank_re = np.zeros(len(sizes)), np.zeros(len(sizes), dtype=np.intp)
    if q:
        values, vectors = np.linalg.eigh(projected.transpose(2, 0, 1))
        largest = np.einsum("iim->m", parts.zz)[:, None]
        there = values > 1e-9 * largest
        along = np.einsum("mij,im->mj", vectors, e) ** 2
        shift_re = (along / np.where(there, values, 1.0)).sum(axis=1, where=there)
        rank_re = there.sum(axis=1)
    return GroupStatistics(
        leverage=np.einsum("aam->m", parts.s[:p, :p]),
        leverage_re=np.einsum("ij,jim->m", psi, projected),
        shift=1.0 - fits.rss,
        shift_re=shift_re,
        rank=sizes,
        rank_re=rank_re,
    )


def _search(found: Deletions, at: DeletionCoordinates, i: int, maxiter: int) -> None:
    """Iterate for one group and write the outcome."""
    without = WithoutGroup(at.problem, at.rows, i)
    # a first step that went nowhere is no start
    first = at.theta if found.iterations[i] < 0 else found.theta[i]
    search = without.search(first, maxiter - int(first is not at.theta))
    point = without.profile_at(search.theta, derivatives=False)
    w_map = at.problem.w_map
    p, unit = len(w_map) - 1, float(w_map[-1, -1])
    to_user, scale = w_map[:p, :p], point.scale / unit**2
    step = (search.theta - at.theta)[None]
    found.beta[i] = (to_user @ point.beta - w_map[:p, p]) / unit
    found.cov_beta[i] = scale * to_user @ point.sxx_inverse @ to_user.T
    found.cov_values[i] = at.covariances(at.change(step), np.array([scale]))[0]
    found.residual_params[i] = at.residual_params(step)[0]
    found.scale[i] = scale
    found.theta[i] = search.theta
    found.iterations[i] = search.iterations + int(first is not at.theta)


def _refit(found: Deletions, at: DeletionCoordinates, results: Any, i: int) -> None:
    """Fit without one group and write the outcome."""
    estimate, search = refit_without(results, i)
    found.beta[i], found.cov_beta[i] = estimate.beta, estimate.cov_beta
    found.cov_values[i] = estimate.cov_values
    found.residual_params[i] = estimate.residual_params
    found.scale[i] = estimate.scale
    found.iterations[i] = 0 if search is None else search.iterations
    k, scale = results.k_re, estimate.scale
    vcomp = estimate.cov_values[results.k_re2 :] / scale
    factor = factor_entries(estimate.psi[:k, :k], vcomp)
    found.theta[i] = at.problem.theta_from(factor, estimate.residual_params)


def _joined(pieces: Sequence[Deletions]) -> Deletions:
    """The outcomes of chunks, one after the other."""

    def join(items: Sequence[Any], cls: type) -> dict[str, Any]:
        return {
            f.name: np.concatenate([getattr(item, f.name) for item in items])
            for f in fields(cls)
            if f.name != "statistics"
        }

    statistics = [piece.statistics for piece in pieces]
    return Deletions(
        **join(pieces, Deletions),
        statistics=GroupStatistics(**join(statistics, GroupStatistics)),
    )
