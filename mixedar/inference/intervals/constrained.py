"""
The log-likelihood as a function of absolute variances.

The optimiser works with ratios and profiles the residual variance out.
Intervals for standard deviations on the scale of the data hold one of them
fixed, so here the residual variance is a coordinate like the others:
``w = (entries of the random-effects covariance, u, s)`` with ``s`` the logarithm
of the residual variance and ``u`` the unconstrained residual parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.likelihood import cluster_sums, profile
from mixedar.engine.problem import LikelihoodProblem
from mixedar.exceptions import NotComputedError
from mixedar.fit.parameters import CovarianceParameter
from mixedar.numeric.autodiff import Jet, linear, substitute, variables
from mixedar.numeric.linalg import r_factor


@dataclass(frozen=True)
class AbsolutePoint:
    """
    Log-likelihood and derivatives by ``w``.

    Attributes
    ----------
    llf : float
    gradient : ndarray, shape (k_cov + k_free + 1,)
    hessian : ndarray, shape (k_cov + k_free + 1,) squared
    """

    llf: float
    gradient: FloatArray
    hessian: FloatArray


class AbsoluteLikelihood:
    """
    The (restricted) log-likelihood by covariances on the scale of the data.

    Parameters
    ----------
    problem : LikelihoodProblem
    """

    def __init__(self, problem: LikelihoodProblem) -> None:
        self.problem = problem
        self._to_inner = np.linalg.inv(problem.value_map())
        self._inner_z = np.linalg.inv(problem.z_map)
        self._response = 2.0 * float(np.log(abs(problem.w_map[-1, -1])))

    def at(
        self, factor: FloatArray, values: FloatArray, u: FloatArray, s: float
    ) -> AbsolutePoint:
        """
        Evaluate the surface.

        Parameters
        ----------
        factor : ndarray, shape (q, q)
            Any root of the random-effects covariance of all columns.
        values : ndarray, shape (k_cov,)
            Entries of that covariance, as in ``RandomCovariance.values``.
        u : ndarray, shape (k_free,)
        s : float

        Returns
        -------
        AbsolutePoint

        Raises
        ------
        numpy.linalg.LinAlgError
            If the parameters are so extreme that a covariance is not definite.
        """
        problem = self.problem
        if not abs(s) < 600.0:
            raise np.linalg.LinAlgError("the residual variance over- or underflows")
        inner = self._inner_z @ factor * np.exp(-0.5 * s)
        sums = cluster_sums(
            problem.blocks, problem.covariance, inner, u, derivatives=True
        )
        point = profile(
            sums,
            problem.n,
            reml=problem.reml,
            shift=problem.shift,
            log_scale=s + self._response,
        )
        # the ratios inside are v = T V exp(-s)
        w = variables(np.concatenate([values, u, [s]]))
        ratios = linear(self._to_inner, w[: len(values)]) * np.exp(-w[-1])
        out = substitute(Jet(point.llf, point.gradient, point.hessian), ratios)
        return AbsolutePoint(point.llf, out.first, out.second)


# Newton steps to hold a parameter of several coordinates.
_MOST_STEPS = 60


@dataclass(frozen=True)
class ConstrainedPoint:
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


class ConstrainedLikelihood:
    """
    The surface with one parameter held.

    Parameters
    ----------
    surface : AbsoluteLikelihood
    fixed : ndarray, shape (k_cov,)
        Held entries of the user's relative factor, NaN where free.
    target : CovarianceParameter

    Raises
    ------
    NotComputedError
        If entries of the factor are held in a pattern that reordering its rows
        would destroy.
    """

    def __init__(
        self,
        surface: AbsoluteLikelihood,
        fixed: FloatArray,
        target: CovarianceParameter,
    ) -> None:
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

    def _rows_order(self, target: CovarianceParameter) -> NDArray[np.intp]:
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

    def evaluate(self, x: FloatArray, t: float) -> ConstrainedPoint:
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
        ConstrainedPoint

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
        psi = self.layout.jet(entries)
        values[self.index] = psi.value
        point = self.surface.at(user, values, y[k_cov:-1], float(y[-1]))
        change = np.eye(self.k_y)
        change[self.index, :k_cov] = psi.first.T
        gradient = change.T @ point.gradient
        hessian = change.T @ point.hessian @ change
        hessian[:k_cov, :k_cov] += psi.second @ point.gradient[self.index]
        curvature = self._curvature(x, t, y, gradient, jacobian)
        return ConstrainedPoint(
            point.llf,
            jacobian.T @ gradient,
            jacobian.T @ hessian @ jacobian + curvature,
            float(along @ gradient),
            jacobian.T @ hessian @ along,
        )
