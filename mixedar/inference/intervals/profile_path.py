"""
Following a profile: constrained maxima with warm starts, and its ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mixedar._types import FloatArray
from mixedar.engine.newton import newton
from mixedar.engine.problem import LikelihoodProblem, ThetaEvaluation
from mixedar.fit import Fit
from mixedar.fit.parameters import CovarianceParameter
from mixedar.inference.intervals.constrained import (
    ConstrainedLikelihood,
    ConstrainedPoint,
    PathStart,
)

# Beyond this rise above the reported maximum the fit has missed a higher one.
_HIGHER = 1e-5


@dataclass(frozen=True)
class PathNode:
    """
    The likelihood maximised over everything but one parameter.

    Attributes
    ----------
    t : float
        Path coordinate.
    x : ndarray
        Free coordinates.
    llf : float
    slope : float
        Derivative of the profile by `t`.
    tangent : ndarray
        Derivative of `x` by `t`.
    converged : bool
    """

    t: float
    x: FloatArray
    llf: float
    slope: float
    tangent: FloatArray
    converged: bool


class End(NamedTuple):
    """
    An end of an interval.

    Attributes
    ----------
    t : float
        Path coordinate.
    reached : bool
        False if the range ends before the profile has fallen enough.
    """

    t: float
    reached: bool


def starts_of(fit: Fit) -> list[PathStart]:
    """The maxima of a fit, the best first."""
    problem, out = fit.problem, []
    for estimate in (mode.estimate for mode in fit.modes):
        sigma, theta = np.sqrt(estimate.scale), estimate.theta
        deviations = np.sqrt(estimate.cov_values[fit.k_re2 : fit.k_re2 + fit.k_vc])
        roots = [
            (sigma * problem.z_map @ problem.factor(theta))[: fit.k_re],
            *deviations[:, None, None],
        ]
        pairs = zip(problem.term_maps, problem.term_factors(theta), strict=True)
        roots += [sigma * term_map @ factor for term_map, factor in pairs]
        u, s = problem.split(estimate.theta)[1], float(np.log(estimate.scale))
        out.append(PathStart(tuple(roots), u, s))
    return out


@dataclass
class ProfilePath:
    """
    The profile likelihood along one parameter.

    Attributes
    ----------
    problem : LikelihoodProblem
    fixed : ndarray, shape (k_cov,)
        Held entries of the user's relative factor.
    parameter : CovarianceParameter
    starts : sequence of PathStart
        Maxima of the likelihood, the best first.
    llf : float
        The best log-likelihood.
    nodes : dict
        Points found so far by path coordinate.
    higher : float
        The highest log-likelihood met, if above `llf`.
    """

    problem: LikelihoodProblem
    fixed: FloatArray
    parameter: CovarianceParameter
    starts: Sequence[PathStart]
    llf: float
    nodes: dict[float, PathNode] = field(default_factory=dict)
    higher: float = -np.inf

    def __post_init__(self) -> None:
        self.likelihood = ConstrainedLikelihood(
            self.problem, self.fixed, self.parameter
        )
        self.center = self.parameter.coordinate(self.parameter.estimate)
        low, high = self.parameter.limits
        self.center = float(np.clip(self.center, low, high))
        first = self.starts[0]
        x = self.likelihood.start(first)
        natural = self.likelihood.natural(first.s)
        self._others = [self.likelihood.start(other) for other in self.starts[1:]]
        self._metric = np.diag(natural)
        lead = self.likelihood.lead
        if self.parameter.path == "cov" and x[lead] < 1e-4 * natural[lead]:
            # a covariance needs variances to begin with
            x[lead] = 1e-2 * natural[lead]
        with suppress(np.linalg.LinAlgError):
            self._metric = _metric(self.likelihood.evaluate(x, self.center), natural)
        self.nodes[self.center] = self._maximise(x, self.center)
        self.floor = self._without_variance()

    def _without_variance(self) -> float:
        """
        For a correlation, the likelihood where one of the variances is zero.

        Every correlation is as good there: the profile never falls below.
        """
        if self.parameter.kind != "corr":
            return -np.inf
        found = [-np.inf]
        for k in (self.parameter.i, self.parameter.j):
            zero = replace(self.parameter, kind="sd", i=k, j=k, estimate=0.0)
            with suppress(np.linalg.LinAlgError):
                path = ProfilePath(
                    self.problem, self.fixed, zero, self.starts, self.llf
                )
                found.append(path.nodes[path.center].llf)
        return max(found)

    @cached_property
    def standard_error(self) -> float:
        """A standard error of the path coordinate, from the profile's curvature."""
        here = self.nodes[self.center]
        try:
            point = self.likelihood.evaluate(here.x, self.center)
            step = 1e-3
            other = self.node(self.center + step * self._inward())
            curvature = abs(other.slope - point.slope) / step
        except np.linalg.LinAlgError:
            return 1.0
        return 1.0 / np.sqrt(max(curvature, 1e-12))

    def _inward(self) -> float:
        return -1.0 if self.center >= self.parameter.limits[1] - 1e-3 else 1.0

    def _maximise(self, x: FloatArray, t: float) -> PathNode:
        """Maximum over the free coordinates, from a warm start."""
        metric = self._metric

        def evaluate(z: FloatArray) -> ThetaEvaluation:
            point = self.likelihood.evaluate(x + metric @ z, t)
            if not np.isfinite(point.llf) or not np.isfinite(point.hessian).all():
                raise np.linalg.LinAlgError("the likelihood is not finite")
            return ThetaEvaluation(
                point.llf, metric.T @ point.gradient, metric.T @ point.hessian @ metric
            )

        search = newton(evaluate, np.zeros(len(x)), gtol=1e-9, polish=False)
        best = x + metric @ search.theta
        point = self.likelihood.evaluate(best, t)
        inner = metric.T @ point.hessian @ metric
        values, vectors = np.linalg.eigh(-inner) if len(x) else (x, np.eye(0))
        safe = np.where(values > 1e-6 * np.abs(values).max(initial=1.0), values, np.inf)
        tangent = metric @ (vectors @ ((vectors.T @ metric.T @ point.cross) / safe))
        good = search.converged or search.decrement < 1e-5
        return PathNode(t, best, point.llf, point.slope, tangent, good)

    def node(self, t: float) -> PathNode:
        """The profile at a path coordinate; LinAlgError without a likelihood."""
        if t in self.nodes:
            return self.nodes[t]
        near = min(self.nodes.values(), key=lambda node: abs(node.t - t))
        found: list[PathNode] = []
        ahead = near.x + (t - near.t) * near.tangent
        for x in (ahead, near.x, self.nodes[self.center].x):
            try:
                found.append(self._maximise(self._usable(x, t), t))
            except np.linalg.LinAlgError:
                continue
            if found[-1].converged:
                break
        for x in self._others:
            try:
                found.append(self._maximise(self._usable(x, t), t))
            except np.linalg.LinAlgError:
                continue
        if not found:
            raise np.linalg.LinAlgError(f"no likelihood at {t:g}")
        best = max(found, key=lambda node: node.llf)
        if best.llf < self.floor:
            best = replace(best, llf=self.floor, slope=0.0, converged=True)
        if best.llf > self.llf + _HIGHER:
            self.higher = max(self.higher, best.llf)
        self.nodes[t] = best
        return best

    def _usable(self, x: FloatArray, t: float) -> FloatArray:
        """Give a covariance the variances that it needs."""
        if self.parameter.path != "cov" or t == 0.0:
            return x
        out, lead = x.copy(), self.likelihood.lead
        # second row of the factor: (t / x[lead], ...); not all of it from t
        first, second = self.likelihood.natural(0.0)[lead : lead + 2] + 1e-300
        floor = np.sqrt(abs(t)) * np.sqrt(first) / np.sqrt(second)
        if abs(out[lead]) < 0.5 * floor:
            out[lead] = floor
        return out

    def zeta(self, t: float) -> float:
        """Signed root of twice the fall of the log-likelihood."""
        fall = 2.0 * max(self.llf - self.node(t).llf, 0.0)
        return float(np.sign(t - self.center) * np.sqrt(fall))

    def end(self, level: float, side: float) -> End:
        """Where zeta has risen to a level, below (side -1) or above the maximum."""
        unit = self.standard_error  # roughly how far one unit of zeta is
        limit = self.parameter.limits[0 if side < 0.0 else 1]
        room = abs(limit - self.center)
        if room <= 1e-9 * max(abs(self.center), 1e-300) or room == 0.0:
            return End(self.center, False)
        if 2.0 * (self.llf - self.floor) < level**2:
            return End(limit, False)
        # distance a > 0 from the center; zeta(inside) < level <= zeta(outside)
        inside, outside, reached = 0.0, np.inf, 0.0
        distance = min(level * unit, room)
        for attempt in range(80):
            try:
                height = abs(self.zeta(self.center + side * distance))
            except np.linalg.LinAlgError:
                outside = distance
                distance = 0.5 * (inside + distance)
                if distance - inside < 1e-10 * max(distance, 1e-300):
                    break
                continue
            t = self.center + side * distance
            if abs(height - level) < 1e-6:
                return End(t, True)
            if height < level:
                inside, reached = distance, height
                if distance >= room:
                    return End(limit, False)
            else:
                outside = distance
            slope = abs(self.node(t).slope) / height if height > 1e-3 else 0.0
            step = (level - height) / slope if slope > 0.0 else np.inf
            proposal = distance + step
            most = min(4.0 * max(distance, 1e-300), room)
            if np.isinf(outside):
                distance = float(np.clip(proposal, 1.2 * distance, most))
                distance = min(distance, room)
                if distance > 1e8 * unit:
                    break
            else:
                width = outside - inside
                if width < 1e-10 * max(outside, 1e-300):
                    break
                distance = proposal
                if not inside < proposal < outside or attempt % 6 == 5:
                    distance = inside + 0.5 * width
        if np.isinf(outside):
            return End(limit, False)
        t = self.center + side * inside
        return End(t, abs(reached - level) < 1e-2)


def _metric(point: ConstrainedPoint, natural: FloatArray) -> FloatArray:
    """Coordinates in which the log-likelihood is round where that is possible."""
    k = len(natural)
    if k == 0:
        return np.eye(0)
    diagonal = np.abs(np.diag(point.hessian))
    length = 1.0 / np.sqrt(np.maximum(diagonal, 1e-2 / natural**2))
    scaled = -point.hessian * np.outer(length, length)
    values, vectors = np.linalg.eigh(scaled)
    return length[:, None] * vectors / np.sqrt(np.maximum(np.abs(values), 1e-3))
