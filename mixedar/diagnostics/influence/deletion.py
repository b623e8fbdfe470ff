"""
Estimates without one group at a time, from sums over the groups.

Everything is vectorised over the groups.  Coordinates are such that
``S = sum_i W_i' H_i^-1 W_i`` is the identity: the estimate from all groups is
zero there and its weighted residual sum of squares one, so that a deletion is
the inverse of ``I - S_i`` and keeps its digits.

References
----------
Christensen, R., Pearson, L. M. and Johnson, W. (1992), Case-deletion
diagnostics for mixed models, Technometrics 34, 38-45.

Demidenko, E. and Stukel, T. A. (2005), Influence analysis for linear
mixed-effects models, Statistics in Medicine 24, 893-909.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.engine.blocks.base import ClusterSums
from mixedar.engine.compress import ClusterRows
from mixedar.engine.groups import GroupSums, chunks, group_sums
from mixedar.engine.likelihood import cluster_sums
from mixedar.engine.newton import newton
from mixedar.engine.problem import LikelihoodProblem
from mixedar.fit import Fit
from mixedar.inference.arguments import progress_bar
from mixedar.numeric.autodiff import concatenate, variables

# Share of the information on some coefficient below which it is gone.
_SINGULAR = 1e-10
# Steps beyond, in units of theta, leave the neighbourhood of the estimate.
_LONG = 0.5


class DeletionCoordinates:
    """
    The likelihood of a fit in units that make deletions simple.

    The designs are those of the likelihood problem; columns of ``W`` are turned
    once more, so that ``W'H^-1 W`` of all groups together is the identity.

    Parameters
    ----------
    fit : Fit

    Attributes
    ----------
    problem : LikelihoodProblem
    theta, lam, u : ndarray
        The estimate, its part for the covariance's factor and its residual part.
    factor : ndarray, shape (q, q)
    w_map : ndarray, shape (p + 1, p + 1)
        From the user's columns of ``W`` to those units.
    total : GroupSums
        Of all groups together, as one.
    rows : ClusterRows
        Of the real groups, in the coordinates of `problem`.
    jacobian : ndarray, shape (k, k_theta)
    bends : ndarray, shape (k, k_theta, k_theta)
        First and second derivatives of ``v`` by theta.
    hessian : ndarray, shape (k_theta, k_theta)
        Of the log-likelihood of all groups.
    singular : bool
        Whether the covariance of the random effects is.
    sizes : ndarray of int, shape (m,)
        Rows of each group.
    psi : ndarray, shape (q, q)
        Covariance of its effects by the residual variance.
    unit : ndarray, shape (p + 1, p + 1)
        From the columns of `rows` to those of the deletions.
    """

    def __init__(self, fit: Fit) -> None:
        self.problem: LikelihoodProblem = fit.problem
        problem = self.problem
        self.theta: FloatArray = fit.theta
        self.lam, self.u = problem.split(self.theta)
        self.factor = problem.factor(self.theta)
        sums = problem.sums(self.theta, derivatives=True)
        root = np.linalg.cholesky(sums.s)
        unit = solve_triangular(root, np.eye(len(root)), lower=True).T
        self.unit = unit
        self.w_map = problem.w_map @ unit
        none = np.empty((0, 0, 1))
        self.total = GroupSums(
            np.array([sums.d]),
            np.eye(len(root))[..., None],
            sums.d1[:, None],
            sums.d2[..., None],
            (unit.T @ sums.s1 @ unit)[..., None],
            (unit.T @ sums.s2 @ unit)[..., None],
            none,
            none,
        )
        data, grouped = fit.data, fit.data.grouped
        self.rows = ClusterRows(
            grouped.sort(data.random_design),
            np.column_stack([grouped.sort(data.exog), grouped.sort(data.response)]),
            grouped.gaps,
            grouped.offsets,
            np.ones(grouped.n_groups),
            grouped.marks,
            tuple(term.rows(grouped) for term in data.terms),
        ).transformed(problem.z_map, problem.w_map, problem.term_maps)
        self.sizes: IntArray = grouped.sizes
        self.psi: FloatArray = self.factor @ self.factor.T
        own = variables(self.theta)[len(self.lam) :]
        moves = concatenate([problem.entries(self.theta), own])
        self.jacobian, self.bends = moves.first.T, moves.second.transpose(2, 0, 1)
        self.hessian = problem.evaluate(self.theta, derivatives=True).hessian
        self.singular = fit.singular

    def unit_rows(self, where: slice) -> ClusterRows:
        """The rows of some groups, ``W`` in the units of the deletions."""
        q = self.rows.z.shape[1]
        return self.rows.part(where).transformed(np.eye(q), self.unit)

    def chunks(self) -> Iterator[slice]:
        """Groups that are taken at once."""
        return chunks(self.rows, len(self.jacobian))

    def parts(self, where: slice, *, derivatives: bool) -> tuple[GroupSums, FloatArray]:
        """
        The terms of some groups, and their leverages.

        ``W`` is in the units of the deletions; derivatives may be left out.
        """
        problem = self.problem
        arguments = problem.structure, problem.covariance, self.factor, self.u
        found = group_sums(self.unit_rows(where), *arguments)
        p = len(self.w_map) - 1
        return found, np.einsum("aam->m", found.s[:p, :p])

    def without(self, group: int) -> LikelihoodProblem:
        """The likelihood of the other groups."""
        return WithoutRows(self.problem, self.rows.part(slice(group, group + 1)))

    def own(
        self, group: int, theta: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """
        What a group adds to ``W'V^-1 W``, ``Z'V^-1 Z`` and ``Z'V^-1 W``.

        `Z` has the columns of its random effects; in the coordinates of `problem`.
        """
        problem = self.problem
        own = group_sums(
            self.rows.part(slice(group, group + 1)),
            problem.structure,
            problem.covariance,
            problem.factor(theta),
            problem.split(theta)[1],
        )
        return own.s[..., 0], own.zz[..., 0], own.zw[..., 0]

    def change(self, steps: FloatArray) -> FloatArray:
        """Change of ``v``, shape (k, m), by steps in theta, shape (m, k_theta)."""
        if self.problem.level(self.u) is not None:
            return self._change_one_by_one(steps)
        bent = np.einsum("aij,mi,mj->am", self.bends, steps, steps, optimize=True)
        return self.jacobian @ steps.T + 0.5 * bent

    def _change_one_by_one(self, steps: FloatArray) -> FloatArray:
        """The same where ``v`` is no quadratic function of theta."""
        k_cov = self.problem.covariance.k_cov
        out = np.empty((len(self.jacobian), len(steps)))
        out[k_cov:] = steps[:, len(self.lam) :].T
        start = self.problem.values(self.theta)
        for i, step in enumerate(steps):
            out[:k_cov, i] = self.problem.values(self.theta + step) - start
        return out

    def covariances(self, change: FloatArray, scale: FloatArray) -> FloatArray:
        """Covariances and components of the user, shape (m, k_cov)."""
        problem = self.problem
        values = problem.values(self.theta)[:, None]
        values = values + change[: problem.covariance.k_cov]
        return (problem.value_map() @ values).T * scale[:, None]

    def residual_params(self, steps: FloatArray) -> FloatArray:
        """Residual parameters of the user, shape (m, k_params), by steps in theta."""
        every, moved = self.problem.parameters, self.u + steps[:, len(self.lam) :]
        rows = [every.from_unconstrained(u) for u in moved]
        return np.reshape(rows, (len(steps), len(every.is_free)))


@dataclass(frozen=True)
class DeletedFits:
    """
    Generalised least squares without each group.

    Attributes
    ----------
    beta : ndarray, shape (p, m)
        NaN where the rest does not determine the coefficients.
    vectors : ndarray, shape (m, p, p)
    values : ndarray, shape (m, p)
        Eigenvectors and eigenvalues of ``X'H^-1 X`` of the rest.
    rss : ndarray, shape (m,)
        Weighted residual sum of squares of the rest.
    df : ndarray, shape (m,)
        What it is divided by to give the residual variance.
    """

    beta: FloatArray
    vectors: FloatArray
    values: FloatArray
    rss: FloatArray
    df: FloatArray

    @property
    def scale(self) -> FloatArray:
        """Residual variances, shape (m,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.df > 0.0, self.rss / self.df, np.nan)

    @property
    def inverse(self) -> FloatArray:
        """``(X'H^-1 X)^-1`` of the rest, shape (p, p, m)."""
        scaled = self.vectors / self.values[:, None, :]
        return (scaled @ self.vectors.transpose(0, 2, 1)).transpose(1, 2, 0)


def deleted_fits(
    rest: FloatArray, df: FloatArray, gone: BoolArray | None = None
) -> DeletedFits:
    """
    Solve the least squares problems that are left after each deletion.

    `rest`, shape (p + 1, p + 1, m), is ``W'H^-1 W`` of the rest in units in which
    it is the identity for all groups together; `df` has the shape (m,).  Deletions
    in `gone` are known to leave a coefficient undetermined.
    """
    p = len(rest) - 1
    lost: BoolArray = np.any(~np.isfinite(rest), axis=(0, 1))
    if gone is not None:
        lost |= gone
    rest = np.where(lost, np.eye(p + 1)[..., None], rest)
    values, vectors = np.linalg.eigh(rest[:p, :p].transpose(2, 0, 1))
    lost |= (values < _SINGULAR).any(axis=1)
    values = np.where(lost[:, None], np.nan, values)
    rotated = np.einsum("mij,im->mj", vectors, rest[:p, p])
    beta = np.einsum("mij,mj->im", vectors, rotated / values)
    rss = rest[p, p] - (rotated**2 / values).sum(axis=1)
    rss = np.where((rss > 1e-14) & ~lost, rss, np.nan)
    return DeletedFits(beta, vectors, values, rss, df)


def deleted_gradients(
    total: GroupSums, parts: GroupSums, fits: DeletedFits, *, reml: bool
) -> FloatArray:
    """
    Slopes of the profiled log-likelihoods without each group, by ``v``.

    Shape (k, m), at the estimate from all groups; exact.  `total` holds the sums
    of all groups, as one.
    """
    slope = np.einsum("kabm,abm->km", total.s1 - parts.s1, _weight(fits, reml))
    return -0.5 * (total.d1 - parts.d1 + slope)


def deleted_hessians(
    total: GroupSums, parts: GroupSums, fits: DeletedFits, *, reml: bool
) -> FloatArray:
    """Second derivatives of the same, shape (k, k, m)."""
    p, m = fits.beta.shape
    scale = fits.scale
    s1 = total.s1 - parts.s1
    bent = np.einsum("klabm,abm->klm", total.s2 - parts.s2, _weight(fits, reml))
    out = total.d2 - parts.d2 + bent
    e = np.concatenate([-fits.beta, np.ones((1, m))])
    slope = np.einsum("kabm,bm->kam", s1, e)
    rss1 = np.einsum("kam,am->km", slope, e)
    half = np.einsum("mab,kam->kbm", fits.vectors, slope[:, :p])
    half /= np.sqrt(fits.values.T)
    out -= 2.0 * np.einsum("kam,lam->klm", half, half) / scale
    out -= rss1[:, None] * rss1[None, :] / (fits.rss * scale)
    if reml:
        turned = np.einsum("abm,kbcm->kacm", fits.inverse, s1[:, :p, :p])
        out -= np.einsum("kabm,lbam->klm", turned, turned)
    return -0.5 * out


def _weight(fits: DeletedFits, reml: bool) -> FloatArray:
    """What the deviance weighs derivatives of S with, shape (p + 1, p + 1, m)."""
    p, m = fits.beta.shape
    e = np.concatenate([-fits.beta, np.ones((1, m))])
    weight = e[:, None] * e[None, :] / fits.scale
    if reml:
        weight[:p, :p] += fits.inverse
    return weight


def newton_steps(
    gradient: FloatArray, hessian: FloatArray, share: FloatArray, theta: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """
    One step in theta for every group, and whether it is short enough to be trusted.

    From the slopes without each group, shape (m, k), which are exact.  The curvature
    is that of all groups less the group's share of the observations: a group that is
    far out bends its own log-likelihood the wrong way, so that the curvature without
    it is too small (or of the wrong sign) and steps with it too long.  `share` is
    that of the observations that are left.
    """
    # lengths are relative to parameters that are large, as in the search
    size = np.maximum(np.abs(theta), 1.0)
    values, vectors = np.linalg.eigh(-hessian * np.outer(size, size))
    slope = np.nan_to_num(gradient * size) @ vectors
    there = values > 1e-10 * values.max(initial=1e-300)
    moved = np.where(there, slope / np.where(there, values, 1.0), 0.0)
    moved /= share[:, None]
    steps = (moved @ vectors.T) * size
    return steps, (moved**2).sum(axis=1) <= _LONG**2


def expanded(
    rest: FloatArray, s1: FloatArray, s2: FloatArray, change: FloatArray
) -> FloatArray:
    """``W'H^-1 W`` of the rest at other ``v``, to second order."""
    first = np.einsum("kabm,km->abm", s1, change)
    second = np.einsum("klabm,km,lm->abm", s2, change, change, optimize=True)
    return rest + first + 0.5 * second


@dataclass(frozen=True)
class _Difference:
    """Second derivatives of all groups less those of one."""

    every: ClusterSums
    own: ClusterSums

    def contract(self, weight: FloatArray | None) -> FloatArray:
        """``d2D + <d2S, weight>``, as ``Curvature``."""
        return self.every.second(weight) - self.own.second(weight)

    def arrays(self) -> FloatArray:
        """``d2S``; see :class:`mixedar.engine.blocks.base.Curvature`."""
        return self.every.s2 - self.own.s2


class WithoutRows(LikelihoodProblem):
    """
    The likelihood without rows that are independent of the others.

    Parameters
    ----------
    problem : LikelihoodProblem
        Of all rows.
    own : ClusterRows
        Those that go, in the problem's coordinates.
    """

    def __init__(self, problem: LikelihoodProblem, own: ClusterRows) -> None:
        self.__dict__.update(problem.__dict__)
        self.n, self.shift = problem.n - len(own.w), 0.0
        self._own = problem.inner_blocks(own)

    def sums(self, theta: FloatArray, *, derivatives: bool) -> ClusterSums:
        """Sums over the other clusters."""
        every = super().sums(theta, derivatives=derivatives)
        point = self.point(theta)
        own = cluster_sums(
            self._own,
            *point[:3],
            derivatives=derivatives,
            term_factors=point.term_factors,
        )
        k = len(own.d1)  # the problem may remember derivatives that nobody wants
        return ClusterSums(
            every.d - own.d,
            every.s - own.s,
            every.d1[:k] - own.d1,
            every.s1[:k] - own.s1,
            (_Difference(every, own),) if derivatives else (),
        )


# Newton steps for groups without which one step would not be enough.
_ENOUGH = 100


@dataclass(frozen=True)
class Deletions:
    """
    Estimates without each of m groups, and what the others say of it.

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
    converged : ndarray of bool, shape (m,)
        False where the search for the maximum without a group ended before.
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

    beta: FloatArray
    cov_beta: FloatArray
    cov_values: FloatArray
    residual_params: FloatArray
    scale: FloatArray
    theta: FloatArray
    iterations: IntArray
    converged: BoolArray
    leverage: FloatArray
    leverage_re: FloatArray
    shift: FloatArray
    shift_re: FloatArray
    rank: IntArray
    rank_re: IntArray


def delete_groups(
    at: DeletionCoordinates, maxiter: int, *, progress: bool = False
) -> Deletions:
    """
    Delete every group of a fit, one at a time.

    Parameters
    ----------
    at : DeletionCoordinates
        Of the fit, and of what is deleted: groups, or levels of a factor.
    maxiter : int
        Newton steps of the covariance parameters: with 0 they stay where they
        are, except for the residual variance.
    progress : bool
        A progress bar where groups are taken one by one.

    Returns
    -------
    Deletions
    """
    pieces = [_several(at, where, maxiter > 0) for where in at.chunks()]
    found = Deletions(
        **{
            name: np.concatenate([getattr(piece, name) for piece in pieces])
            for name in Deletions.__annotations__
        }
    )
    wanted = np.arange(len(at.sizes))
    if maxiter <= 1:
        wanted, maxiter = np.flatnonzero(found.iterations < 0), _ENOUGH
    for i in progress_bar(wanted.tolist(), progress, "groups"):
        if found.iterations[i] >= 0 and np.isnan(found.scale[i]):
            continue  # the other groups do not determine the fixed effects
        try:
            _search(found, at, int(i), maxiter)
        except np.linalg.LinAlgError:
            found.converged[i] = False
            for name in ("beta", "cov_beta", "cov_values", "residual_params", "scale"):
                getattr(found, name)[i] = np.nan
    found.iterations[found.iterations < 0] = 0
    return found


def _several(at: DeletionCoordinates, where: slice, move: bool) -> Deletions:
    """Some groups at once; `iterations` is -1 where one step will not do."""
    problem, sizes = at.problem, at.sizes[where]
    parts, leverage = at.parts(where, derivatives=move)
    p, m = len(at.w_map) - 1, len(sizes)
    df = (problem.n - sizes - (p if problem.reml else 0)).astype(np.float64)
    rest = at.total.s - parts.s
    fits = deleted_fits(rest, df)
    statistics = _statistics(at, parts, fits)
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
        converged=np.ones(m, dtype=bool),
        rank=sizes,
        leverage=leverage,
        **statistics,
    )


def _steps(
    at: DeletionCoordinates, parts: GroupSums, fits: DeletedFits, share: FloatArray
) -> tuple[FloatArray, BoolArray]:
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
    at: DeletionCoordinates, parts: GroupSums, fits: DeletedFits
) -> dict[str, NDArray[Any]]:
    """Leverages of random effects, and by which share the sum of squares falls."""
    p, (q, m) = len(fits.beta), parts.zz.shape[1:]
    x, e = parts.zw[:, :p], parts.zw[:, p]
    # Z'P Z of the group, P = H^-1 - H^-1 X (X'H^-1 X)^-1 X'H^-1
    projected = parts.zz - np.einsum("iam,jam->ijm", x, x)
    shift_re, rank_re = np.zeros(m), np.zeros(m, dtype=np.intp)
    if q:
        values, vectors = np.linalg.eigh(projected.transpose(2, 0, 1))
        largest = np.einsum("iim->m", parts.zz)[:, None]
        there = values > 1e-9 * largest
        along = np.einsum("mij,im->mj", vectors, e) ** 2
        shift_re = (along / np.where(there, values, 1.0)).sum(axis=1, where=there)
        rank_re = there.sum(axis=1)
    return {
        "leverage_re": np.einsum("ij,jim->m", at.psi, projected),
        "shift": 1.0 - fits.rss,
        "shift_re": shift_re,
        "rank_re": rank_re,
    }


def _search(found: Deletions, at: DeletionCoordinates, i: int, maxiter: int) -> None:
    """Iterate for one group and write the outcome."""
    without = at.without(i)
    # a first step that went nowhere is no start
    taken = int(found.iterations[i] >= 0)
    first = found.theta[i] if taken else at.theta
    search = newton(
        partial(without.evaluate, derivatives=True),
        first,
        gtol=1e-6,
        maxiter=maxiter - taken,
    )
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
    found.iterations[i] = search.iterations + taken
    found.converged[i] = search.converged
