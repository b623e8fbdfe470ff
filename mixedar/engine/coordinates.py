"""
The coordinates in which groups are deleted, and the way back to the user's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from mixedar._types import FloatArray
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.groups import GroupSums, part_of
from mixedar.engine.likelihood import Evaluation, cluster_sums
from mixedar.engine.parameters import Target
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.surface import Surface, problem_of
from mixedar.exceptions import NotComputedError
from mixedar.numeric.linalg import r_factor


class DeletionCoordinates:
    """
    The likelihood of a fit in units that make deletions simple.

    The designs are those of the likelihood problem; columns of ``W`` are turned
    once more, so that ``W'H^-1 W`` of all groups together is the identity.

    Parameters
    ----------
    results : MixedLMARResults

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

    Raises
    ------
    NotComputedError
        If the data were removed from the fit.
    """

    def __init__(self, results: Any) -> None:
        self.problem: LikelihoodProblem = problem_of(results)
        problem = self.problem
        self.theta: FloatArray = results._theta
        self.lam, self.u = problem.split(self.theta)
        self.factor = problem.factor(self.theta)
        sums = cluster_sums(
            problem.blocks, problem.covariance, self.factor, self.u, derivatives=True
        )
        root = np.linalg.cholesky(sums.s)
        unit = solve_triangular(root, np.eye(len(root)), lower=True).T
        self._unit = unit
        self.w_map = problem.w_map @ unit
        none = np.empty((0, 0, 1))
        self.total = GroupSums(
            np.eye(len(root))[..., None],
            sums.d1[:, None],
            sums.d2[..., None],
            (unit.T @ sums.s1 @ unit)[..., None],
            (unit.T @ sums.s2 @ unit)[..., None],
            none,
            none,
        )
        model, grouped = results.model, results.model._grouped
        self.rows = ClusterRows(
            grouped.sort(model._random_design()),
            np.column_stack([grouped.sort(model.exog), grouped.sort(model.endog)]),
            grouped.gaps,
            grouped.offsets,
            np.ones(grouped.n_groups),
            grouped.marks,
        ).transformed(problem.z_map, problem.w_map)
        k, k_theta = len(sums.d1), len(self.theta)
        self.jacobian, _ = problem.chain(self.theta, np.zeros(k))
        self.bends = np.zeros((k, k_theta, k_theta))
        for a, one in enumerate(np.eye(k)):
            self.bends[a] = problem.chain(self.theta, one)[1]
        self.hessian = problem.evaluate(self.theta, derivatives=True).hessian
        self.singular = bool(results._singular)

    def unit_rows(self, where: slice) -> ClusterRows:
        """
        The rows of some groups, ``W`` in the units of the deletions.

        Parameters
        ----------
        where : slice
            Of the groups.

        Returns
        -------
        ClusterRows
        """
        q = self.rows.z.shape[1]
        return part_of(self.rows, where).transformed(np.eye(q), self._unit)

    def change(self, steps: FloatArray) -> FloatArray:
        """
        Change of ``v`` by steps in theta.

        Parameters
        ----------
        steps : ndarray, shape (m, k_theta)

        Returns
        -------
        ndarray, shape (k, m)
        """
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
        """
        Covariances and variance components on the user's scale.

        Parameters
        ----------
        change : ndarray, shape (k, m)
            Of ``v``.
        scale : ndarray, shape (m,)
            Residual variances on the user's scale.

        Returns
        -------
        ndarray, shape (m, k_cov)
        """
        problem = self.problem
        values = problem.values(self.theta)[:, None]
        values = values + change[: problem.covariance.k_cov]
        return (problem.value_map() @ values).T * scale[:, None]

    def residual_params(self, steps: FloatArray) -> FloatArray:
        """
        Residual parameters on the user's scale.

        Parameters
        ----------
        steps : ndarray, shape (m, k_theta)

        Returns
        -------
        ndarray, shape (m, k_params)
        """
        structure, moved = self.problem.structure, self.u + steps[:, len(self.lam) :]
        out = np.empty((len(steps), structure.k_params))
        for i, u in enumerate(moved):
            out[i] = structure.from_unconstrained(u)
        return out


# Relative to the residual variance: a random-effects direction that adds less
# is zero for every purpose.
_SINGULAR = 1e-8


@dataclass(frozen=True)
class Estimate:
    """
    A point of the parameter space on the user's scale.

    Attributes
    ----------
    theta : ndarray
        The optimiser's coordinates.
    llf : float
    beta : ndarray, shape (p,)
    cov_beta : ndarray, shape (p, p)
        ``scale (X'H^-1 X)^-1``.
    scale : float
        Residual variance.
    psi : ndarray, shape (q, q)
        Random-effects covariance divided by `scale`, all columns.
    cov_values : ndarray, shape (k_cov,)
        Lower triangle of the unstructured block, then the variance
        components, on the scale of the data.
    residual_params : ndarray, shape (k_params,)
    cov_theta : ndarray, shape (k_cov + k_params + 1,) squared
        Covariance of `cov_values`, `residual_params` and `scale` from the
        observed information; NaN where it does not exist.
    singular : bool
        Whether the random-effects covariance is singular.
    residual_at_boundary : bool
    """

    theta: FloatArray
    llf: float
    beta: FloatArray
    cov_beta: FloatArray
    scale: float
    psi: FloatArray
    cov_values: FloatArray
    residual_params: FloatArray
    cov_theta: FloatArray
    singular: bool
    residual_at_boundary: bool


def estimate_at(problem: LikelihoodProblem, theta: FloatArray) -> Estimate:
    """
    The user's parameters and their covariance at a point.

    Parameters
    ----------
    problem : LikelihoodProblem
    theta : ndarray, shape (k_theta,)

    Returns
    -------
    Estimate
    """
    lam, u = problem.split(theta)
    # a standard deviation that is zero to rounding is zero
    theta = np.concatenate([np.where(np.abs(lam) < 1e-7, 0.0, lam), u])
    lam, u = problem.split(theta)
    point = problem.profile_at(theta, derivatives=True)
    cov = problem.covariance
    w_map, p = problem.w_map, len(problem.w_map) - 1
    # W map = [X y] w_map:  y = X beta  <=>  w_map [-beta_int; 1] ~ [-beta; 1]
    combined = w_map @ np.append(-point.beta, 1.0)
    beta = -combined[:p] / combined[p]
    scale = point.scale / combined[p] ** 2
    cov_beta = w_map[:p, :p] @ point.sxx_inverse @ w_map[:p, :p].T * scale
    # a direction is zero or not beside the residuals that there are, not by sigma
    inner = cov.factor(lam)
    outer = problem.z_map @ problem.factor(theta)
    psi = outer @ outer.T
    params = problem.structure.from_unconstrained(u)
    spectrum = np.linalg.eigvalsh(inner @ inner.T) if cov.order else np.ones(1)
    singular = bool(spectrum.min() < _SINGULAR)
    to_user = problem.value_map()
    relative = to_user @ problem.values(theta)
    cov_theta = _covariance_of_estimates(
        problem, theta, point, scale, to_user, relative, u
    )
    cov_theta = (cov_theta + cov_theta.T) / 2.0
    if singular:
        k = problem.covariance.k_cov
        cov_theta[:k] = np.nan
        cov_theta[:, :k] = np.nan
    at_end = bool(problem.structure.k_free) and problem.structure.at_boundary(params)
    if at_end:  # no standard error exists at the end of a parameter's range
        cov_theta[problem.covariance.k_cov : -1] = np.nan
        cov_theta[:, problem.covariance.k_cov : -1] = np.nan
    return Estimate(
        theta=theta,
        llf=point.llf,
        beta=beta,
        cov_beta=(cov_beta + cov_beta.T) / 2.0,
        scale=scale,
        psi=psi,
        cov_values=scale * relative,
        residual_params=params,
        cov_theta=cov_theta,
        singular=singular,
        residual_at_boundary=at_end,
    )


def _covariance_of_estimates(
    problem: LikelihoodProblem,
    theta: FloatArray,
    point: Evaluation,
    scale: float,
    to_user: FloatArray,
    relative: FloatArray,
    u: FloatArray,
) -> FloatArray:
    """Inverse observed information, mapped to the user's parameters."""
    k_cov, k_params = problem.covariance.k_cov, problem.structure.k_params
    p = len(problem.w_map) - 1
    df = problem.n - p if problem.reml else problem.n
    jacobian, curvature = problem.chain(theta, point.gradient)
    # information of (theta, log sigma2): the residual variance is no
    # longer profiled out; rss_gradient / scale = d2(-llf) / dv dlog(sigma2)
    slope = jacobian.T @ (point.rss_gradient / point.scale)
    k = len(theta)
    information = np.empty((k + 1, k + 1))
    information[:k, :k] = -(jacobian.T @ point.hessian @ jacobian + curvature)
    information[:k, :k] += np.outer(slope, slope) / (2.0 * df)
    information[:k, k] = information[k, :k] = -0.5 * slope
    information[k, k] = 0.5 * df
    to_params = np.zeros((k_cov + k_params + 1, k + 1))
    to_params[:k_cov, :k] = scale * to_user @ jacobian[:k_cov]
    to_params[:k_cov, k] = scale * relative
    if problem.structure.k_free:
        to_params[k_cov : k_cov + k_params, problem.k_cov_free : k] = (
            problem.structure.natural(u).first.T
        )
    to_params[-1, k] = scale
    values, vectors = np.linalg.eigh(information)
    floor = 1e-12 * max(values.max(), 1.0)
    if values.min() < -1e-6 * max(values.max(), 1.0):
        return np.full((k_cov + k_params + 1,) * 2, np.nan)
    # directions without information belong to a singular covariance;
    # whatever depends on them has no standard error
    keep = values > floor
    lost = np.abs(to_params @ vectors[:, ~keep]).max(axis=1, initial=0.0)
    root = to_params @ (vectors[:, keep] / np.sqrt(values[keep]))
    out = root @ root.T
    size = np.abs(to_params).max(axis=1)
    undefined = lost > 1e-6 * np.where(size > 0.0, size, 1.0)
    out[undefined] = np.nan
    out[:, undefined] = np.nan
    return out


# Newton steps to hold a parameter of several coordinates.
_MOST_STEPS = 60


@dataclass(frozen=True)
class CutPoint:
    """
    Log-likelihood at a point of the cut.

    Attributes
    ----------
    llf : float
    gradient, hessian : ndarray
        By the free coordinates.
    slope : float
        Derivative by the held parameter's path coordinate.
    cross : ndarray
        Mixed derivatives by free coordinates and path coordinate, up to
        curvature of the coordinates.
    """

    llf: float
    gradient: FloatArray
    hessian: FloatArray
    slope: float
    cross: FloatArray


class CutSurface:
    """
    The surface with one parameter held.

    Parameters
    ----------
    surface : Surface
    fixed : ndarray, shape (k_cov,)
        Held entries of the user's relative factor, NaN where free.
    target : Target

    Raises
    ------
    NotComputedError
        If entries of the factor are held in a pattern that reordering its rows
        would destroy.
    """

    def __init__(self, surface: Surface, fixed: FloatArray, target: Target) -> None:
        self.surface = surface
        self.target = target
        covariance = surface.problem.covariance
        self.k_re = covariance.k_re
        self.layout = RandomCovariance.free(self.k_re, covariance.vc_sizes)
        rows, columns = self.layout.tril
        count = len(rows)
        self.order = self._rows_order(target)
        held = np.array(fixed)
        block = held[:count]
        if (self.order != np.arange(self.k_re)).any() and not np.isnan(block).all():
            if not (block[rows != columns] == 0.0).all():
                raise NotComputedError(
                    "no profile: entries of the random-effects factor are held in a "
                    "pattern that reordering its rows would destroy"
                )
            diagonal = np.empty(self.k_re)
            diagonal[columns[rows == columns]] = block[rows == columns]
            block[rows == columns] = diagonal[self.order]
        self.fixed = held
        # where the entries of the reordered covariance stand in the user's order
        position = {
            (i, j): k for k, (i, j) in enumerate(zip(rows, columns, strict=True))
        }
        self.index = np.arange(self.layout.k_cov)
        for k, (a, b) in enumerate(zip(rows, columns, strict=True)):
            i, j = self.order[a], self.order[b]
            self.index[k] = position[max(i, j), min(i, j)]
        k_cov, k_u = self.layout.k_cov, surface.problem.structure.k_free
        self.k_y = k_cov + k_u + 1
        free = np.ones(self.k_y, dtype=bool)
        free[:k_cov] = np.isnan(self.fixed)
        free[self._eliminated(k_cov)] = False
        self.free = np.flatnonzero(free)
        self._last: float | None = None
        # for correlations: logarithms of the two standard deviations
        self.logs = [0, 1] if target.path == "corr" else []

    def _rows_order(self, target: Target) -> NDArray[np.intp]:
        order = list(range(self.k_re))
        if target.path in ("cov", "corr"):
            first = [target.j, target.i]
        elif target.path == "sd" and target.i < self.k_re:
            first = [target.i]
        else:
            first = []
        return np.array([*first, *(k for k in order if k not in first)], dtype=np.intp)

    def _eliminated(self, k_cov: int) -> int:
        target = self.target
        if target.path == "sd":
            if target.i < self.k_re:
                return 0
            return len(self.layout.tril[0]) + target.i - self.k_re
        if target.path in ("cov", "corr"):
            return 1
        return k_cov + target.at if target.path == "residual" else -1

    # coordinates ----------------------------------------------------------

    def start(
        self, root: FloatArray, vc: FloatArray, u: FloatArray, s: float
    ) -> FloatArray:
        """
        Free coordinates of a point.

        Parameters
        ----------
        root : ndarray, shape (k_re, any)
            Root of the covariance of the correlated random effects.
        vc : ndarray
            Standard deviations of the variance components.
        u : ndarray, shape (k_free,)
        s : float
            Logarithm of the residual variance.

        Returns
        -------
        ndarray
        """
        lower = np.zeros((self.k_re, self.k_re))
        if self.k_re:
            upper = r_factor(np.asarray(root[self.order].T, dtype=np.float64))
            lower[:, : len(upper)] = upper.T
            lower *= np.where(np.diag(lower) < 0.0, -1.0, 1.0)
        y = np.concatenate([lower[self.layout.tril], vc, u, [s]])
        if self.logs:
            y[2] = np.hypot(y[1], y[2])
        x = y[self.free]
        if self.logs:
            x[:2] = np.log(np.maximum(x[:2], 1e-8 * np.exp(0.5 * s)))
        return x

    def natural(self, s: float) -> FloatArray:
        """A length to measure each free coordinate by."""
        spread = np.abs(np.diag(self.surface.problem.z_map)) * np.exp(0.5 * s)
        rows = self.order[self.layout.tril[0]]
        sizes = self.surface.problem.covariance.vc_sizes
        firsts = (self.k_re + np.cumsum((0, *sizes))[:-1]).astype(int)
        out = np.ones(self.k_y)
        out[: self.layout.k_cov] = spread[np.concatenate([rows, firsts])]
        x = out[self.free]
        x[: len(self.logs)] = 1.0
        return x

    def _expand(
        self, x: FloatArray, t: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """All coordinates ``y``, their Jacobian by `x`, and derivative by `t`."""
        k_cov = self.layout.k_cov
        y, jacobian = np.zeros(self.k_y), np.zeros((self.k_y, len(x)))
        along = np.zeros(self.k_y)
        y[self.free] = x
        jacobian[self.free, np.arange(len(x))] = 1.0
        path = self.target.path
        at = self._eliminated(k_cov)
        if path == "corr":
            first, second = np.exp(np.minimum(x[:2], 300.0))
            sine, cosine = np.sin(t), np.cos(t)
            y[:3] = first, second * sine, second * cosine
            jacobian[:3, :2] = [[first, 0.0], [0.0, y[1]], [0.0, y[2]]]
            along[1:3] = y[2], -y[1]
        elif path == "cov":
            y[1] = t / x[0]
            jacobian[1, 0] = -t / x[0] ** 2
            along[1] = 1.0 / x[0]
        elif path == "sigma":
            y[-1], along[-1] = 2.0 * t, 2.0
        elif self.target.coupled:
            here = slice(k_cov, self.k_y - 1)
            y[here] = self._solved(y[here], t)
            slopes = self.target.structure.natural(y[here]).first[:, self.target.j]
            steepest = slopes[self.target.at]
            # the held parameter stays while the others move
            jacobian[at] = -(slopes @ jacobian[here]) / steepest
            along[at] = self.target.slope(t) / steepest
        else:
            y[at], along[at] = t, 1.0
        held = np.flatnonzero(np.isfinite(self.fixed) & (self.fixed != 0.0))
        if len(held):  # held relative to the residual's standard deviation
            y[held] = self.fixed[held] * np.exp(0.5 * y[-1])
            jacobian[held] = 0.5 * y[held, None] * jacobian[-1]
            along[held] = 0.5 * y[held] * along[-1]
        return y, jacobian, along

    def _solved(self, u: FloatArray, t: float) -> FloatArray:
        """The coordinate that gives the held parameter its value, for the others."""
        target, u = self.target, u.copy()
        wanted = target.value(t)
        u[target.at] = target.u[target.at] if self._last is None else self._last
        for _ in range(_MOST_STEPS):
            natural = target.structure.natural(u)
            miss = float(natural.value[target.j]) - wanted
            slope = float(natural.first[target.at, target.j])
            if abs(miss) <= 1e-14 * max(1.0, abs(wanted)):
                self._last = float(u[target.at])
                return u
            if slope == 0.0 or not np.isfinite(miss):
                break
            u[target.at] -= float(np.clip(miss / slope, -1.0, 1.0))
        if abs(miss) <= 1e-11:
            return u
        raise np.linalg.LinAlgError("the held parameter cannot have this value here")

    def _curvature(
        self,
        x: FloatArray,
        t: float,
        y: FloatArray,
        gradient: FloatArray,
        jacobian: FloatArray,
    ) -> FloatArray:
        """Second derivatives of ``y`` by `x`, weighted by a gradient."""
        out = np.zeros((len(x), len(x)))
        if self.target.path == "corr":
            out[0, 0] = gradient[0] * y[0]
            out[1, 1] = gradient[1] * y[1] + gradient[2] * y[2]
        elif self.target.path == "cov":
            out[0, 0] = gradient[1] * 2.0 * t / x[0] ** 3
        elif self.target.coupled:
            here = slice(self.layout.k_cov, self.k_y - 1)
            natural = self.target.structure.natural(y[here])
            slopes = natural.first[:, self.target.j]
            bends = natural.second[:, :, self.target.j]
            moved = jacobian[here]
            at = self.layout.k_cov + self.target.at
            steepest = slopes[self.target.at]
            out -= gradient[at] / steepest * (moved.T @ bends @ moved)
        held = np.flatnonzero(np.isfinite(self.fixed) & (self.fixed != 0.0))
        if len(held) and self.free[-1] == self.k_y - 1:
            out[-1, -1] += 0.25 * gradient[held] @ y[held]
        return out

    def evaluate(self, x: FloatArray, t: float) -> CutPoint:
        """
        Log-likelihood on the cut.

        Parameters
        ----------
        x : ndarray
            Free coordinates.
        t : float
            Path coordinate of the held parameter.

        Returns
        -------
        CutPoint

        Raises
        ------
        numpy.linalg.LinAlgError
            If the point is out of reach of the arithmetic.
        """
        if self.target.path == "cov" and x[0] == 0.0:
            raise np.linalg.LinAlgError("a covariance needs a variance")
        k_cov = self.layout.k_cov
        y, jacobian, along = self._expand(x, t)
        entries = y[:k_cov]
        factor = self.layout.factor(entries)
        user = factor.copy()
        user[self.order] = factor[: self.k_re]
        values = np.empty(k_cov)
        values[self.index] = self.layout.values(entries)
        point = self.surface.at(user, values, y[k_cov:-1], float(y[-1]))
        change = np.eye(self.k_y)
        change[self.index, :k_cov] = self.layout.jacobian(entries)
        gradient = change.T @ point.gradient
        hessian = change.T @ point.hessian @ change
        hessian[:k_cov, :k_cov] += self.layout.curvature(point.gradient[self.index])
        curvature = self._curvature(x, t, y, gradient, jacobian)
        return CutPoint(
            point.llf,
            jacobian.T @ gradient,
            jacobian.T @ hessian @ jacobian + curvature,
            float(along @ gradient),
            jacobian.T @ hessian @ along,
        )
