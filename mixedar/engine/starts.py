"""
Where the search for maxima of the likelihood begins.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg.lapack import dsyevd

from mixedar._types import FloatArray, IntArray
from mixedar.engine.newton import SearchPath, newton
from mixedar.engine.problem import LikelihoodProblem, ThetaEvaluation

# Starting random-effects variances, as shares of the residual variance.
START_RATIOS = (0.03, 0.3, 2.0, 30.0, 1e3, 1e5, 1e7, 1e9)
# With so many effects of further factors in one component the search starts once.
MANY_LINKED = 400
# There parabolas reach so far, and are drawn so often.
_PARABOLA, _TURNS = 0.7, 3
# Along the grid of residual parameters rough maxima will do, ...
ROUGH_GAIN = 0.3
ROUGH_STEPS = 8
# ... and a profile that has fallen so far is not followed further.
HOPELESS = 30.0
# A second derivative by an unconstrained parameter that says that it hardly matters.
HARDLY_CURVED = 1e-3
# Where every unconstrained parameter is at the end of its range, ...
FAR = 1e5
# ... and where it is on the way there.
_TOWARDS = 4.0


def lifted(lam: FloatArray, least: float = 0.05) -> FloatArray:
    """
    Entries of ``Lambda`` from which a search can begin, none below a size.

    A standard deviation of zero is a saddle that no gradient leaves.
    """
    return np.where(np.abs(lam) < least, least, lam)


def _first_factor(problem: LikelihoodProblem, u: FloatArray) -> FloatArray:
    """Free entries of ``Lambda`` that are the most likely of a few, at `u`."""
    cov = problem.covariance
    unit = cov.on_diagonal.astype(float)
    count = max(sum(cov.blocks), 1)
    best, best_llf = np.empty(0), -np.inf
    for ratio in START_RATIOS if problem.k_cov_free else (1.0,):
        lam = (np.sqrt(ratio / count) * unit)[cov.is_free]
        llf = value_at(problem, np.concatenate([lam, u]))
        if llf > best_llf:
            best, best_llf = lam, llf
        elif np.isfinite(best_llf):
            break  # the ratios rise: past the top
    if not np.isfinite(best_llf):
        raise np.linalg.LinAlgError("no starting value has a finite likelihood")
    return best


def first_steps(
    evaluate: Callable[[FloatArray], ThetaEvaluation],
    theta: FloatArray,
    hopeless: float = -np.inf,
    ends: FloatArray | None = None,
) -> SearchPath:
    """Where the first steps of a search lead, roughly."""
    return newton(
        evaluate,
        theta,
        gtol=ROUGH_GAIN,
        maxiter=ROUGH_STEPS,
        polish=False,
        hopeless=hopeless,
        ends=ends,
    )


def value_at(
    problem: LikelihoodProblem, theta: FloatArray, *, derivatives: bool = False
) -> float:
    """The log-likelihood, minus infinity where it cannot be computed."""
    try:
        return problem.evaluate(theta, derivatives=derivatives).llf
    except np.linalg.LinAlgError:
        return -np.inf


class Profiled(NamedTuple):
    """
    The likelihood, nearly maximised over ``Lambda``, at a residual parameter.

    Attributes
    ----------
    theta : ndarray, shape (..., k)
        Of one response or several.
    lam : ndarray, shape (..., k_cov)
        The best ``Lambda``, as far as can be seen from there.
    llf : ndarray, shape (...)
        What it would give.
    slope : ndarray, shape (...)
        Derivative of the profile by the first residual parameter, corrected to first
        order for what is left to gain in ``Lambda``.
    turn : ndarray, shape (..., k_cov)
        That of the best ``Lambda``.
    """

    theta: FloatArray
    lam: FloatArray
    llf: FloatArray
    slope: FloatArray
    turn: FloatArray

    def at(self, *where: Any) -> Profiled:
        """Those of some places and responses."""
        return Profiled(*(values[where] for values in self))

    def lam_at(self, u: float) -> FloatArray:
        """Where ``Lambda`` moves with the residual parameter, a short way."""
        k = self.turn.shape[-1]
        here = self.theta[..., :k]
        most = 0.5 * np.maximum(np.abs(here), 0.5)
        way = self.turn * (u - self.theta[..., k, None])
        return here + np.clip(way, -most, most)


def top_between(left: Profiled, right: Profiled) -> FloatArray:
    """
    Where the profile has its top between two points, by cubics with their slopes.

    Parameters
    ----------
    left, right : Profiled
        At the first the profile rises, at the second it does not.

    Returns
    -------
    ndarray, shape (..., k)
    """
    u = left.theta[..., -1]
    gap = right.theta[..., -1] - u
    rise, fall = left.slope * gap, right.slope * gap
    gain = right.llf - left.llf
    # the slope after a share t of the way is rise + linear t + square t^2
    linear = 6.0 * gain - 4.0 * rise - 2.0 * fall
    square = 3.0 * (rise + fall) - 6.0 * gain
    root = np.sqrt(np.maximum(linear**2 - 4.0 * square * rise, 0.0))
    share = 2.0 * rise / (root - linear)
    t = share[..., None]
    bend = (1.0 - t) * left.turn - t * right.turn
    lam = left.lam + t**2 * (3.0 - 2.0 * t) * (right.lam - left.lam)
    lam = lam + t * (1.0 - t) * gap[..., None] * bend
    least, most = np.minimum(left.lam, right.lam), np.maximum(left.lam, right.lam)
    lam = np.clip(lam, least - 0.5, most + 0.5)
    return np.concatenate([lam, (u + share * gap)[..., None]], axis=-1)


def _profile_point(
    problem: LikelihoodProblem,
    lam: FloatArray,
    u: FloatArray,
    hopeless: float = -np.inf,
) -> Profiled:
    k = problem.k_cov_free
    last: dict[bytes, ThetaEvaluation] = {}

    def evaluate(entries: FloatArray) -> ThetaEvaluation:
        point = problem.evaluate(np.concatenate([entries, u]), derivatives=True)
        last[entries.tobytes()] = point
        return ThetaEvaluation(point.llf, point.gradient[:k], point.hessian[:k, :k])

    search = first_steps(evaluate, lifted(lam), hopeless)
    point, lam = last[search.theta.tobytes()], search.theta
    theta, llf, slope, turn = np.concatenate([lam, u]), point.llf, 0.0, np.zeros(k)
    if len(u):
        slope = float(point.gradient[k])
    if len(u) and k:
        values, vectors, failed = dsyevd(-point.hessian[:k, :k], lower=1)
        if not failed and values[0] > 1e-8 * values[-1]:
            step = vectors @ ((vectors.T @ point.gradient[:k]) / values)
            slope += float(point.hessian[k, :k] @ step)
            turn = vectors @ ((vectors.T @ point.hessian[:k, k]) / values)
            llf += 0.5 * float(point.gradient[:k] @ step)
            lam = lam + step
    return Profiled(theta, lam, np.array(llf), np.array(slope), turn)


def starting_points(problem: LikelihoodProblem) -> list[FloatArray]:
    """
    Starting points, the most promising first.

    With one residual parameter the likelihood is profiled along a grid of it.
    Wherever its slope changes from rising to falling there is a maximum
    between, so that one search each finds the modes.
    """
    grid = list(problem.parameters.start_grid())
    if problem.n_linked > MANY_LINKED:
        # so many levels tell of one maximum, and each derivative is dear
        start = _of_unrelated_levels(problem, grid)
        return [_by_values(problem, grid) if start is None else start]
    if problem.parameters.k_free != 1:
        return _separate_points(problem, grid)
    first = _profile_point(problem, _first_factor(problem, grid[0]), grid[0])
    points = [first]
    for outward in (-1.0, 1.0):
        side = [u for u in grid[1:] if (u[0] - grid[0][0]) * outward > 0.0]
        point = first
        for u in sorted(side, key=lambda u: outward * u[0]):
            best = max(float(p.llf) for p in points)
            if point.slope * outward < 0.0 and point.llf < best - HOPELESS:
                break
            try:
                point = _profile_point(problem, point.lam_at(u[0]), u, best - HOPELESS)
            except np.linalg.LinAlgError:
                break
            points.append(point)
    points.sort(key=lambda p: float(p.theta[-1]))
    chosen = []
    if points[0].slope <= 0.0:
        chosen.append((float(points[0].llf), points[0].theta))
    if points[-1].slope > 0.0:
        chosen.append((float(points[-1].llf), points[-1].theta))
    for left, right in pairwise(points):
        if left.slope > 0.0 >= right.slope:
            theta = top_between(left, right)
            near = max(left, right, key=lambda p: float(p.llf))
            # with derivatives: the search begins there
            if value_at(problem, theta, derivatives=True) < near.llf:
                theta = near.theta
            chosen.append((float(near.llf), theta))
    chosen.sort(key=lambda item: -item[0])
    return [theta for _, theta in chosen]


def start_beside(problem: LikelihoodProblem, theta: FloatArray) -> FloatArray:
    """A start at a maximum of another likelihood, but for zeros and ends of ranges."""
    lam, u = problem.split(theta)
    lam = lifted(lam)
    low, high = np.clip(problem.parameters.ends, -FAR, FAR)
    inside = (low + 1.0 < u) & (u < high - 1.0)
    if inside.all():
        return np.concatenate([lam, u])
    # at an end no gradient leads away; what pieces cannot tell is at an end, too
    first = problem.parameters.start_grid()[0]
    tried = [
        np.concatenate([lam, np.where(inside, u, other)])
        for other in (first, np.sign(u) * _TOWARDS)
    ]
    return max(tried, key=partial(value_at, problem))


def _separate_points(
    problem: LikelihoodProblem, grid: list[FloatArray]
) -> list[FloatArray]:
    """The points of a grid, roughly maximised over ``Lambda``, the best first."""
    points = []
    for u in grid:
        if not problem.k_cov_free:
            points.append((value_at(problem, u), u))
            continue
        with suppress(np.linalg.LinAlgError):
            point = _profile_point(problem, _first_factor(problem, u), u)
            points.append((float(point.llf), point.theta))
    points = [(llf, theta) for llf, theta in points if np.isfinite(llf)]
    if not points:
        raise np.linalg.LinAlgError("no starting value has a finite likelihood")
    return [theta for _, theta in sorted(points, key=lambda point: -point[0])]


def _of_unrelated_levels(
    problem: LikelihoodProblem, grid: list[FloatArray]
) -> FloatArray | None:
    """The maximum with levels that are not related, if that is easier and there."""
    easier = problem.unrelated()
    if easier is None:
        return None
    evaluate = partial(easier.evaluate, derivatives=True)
    search = first_steps(evaluate, _by_values(easier, grid), ends=easier.ends)
    if search.curvature.min() < HARDLY_CURVED:  # a single row of each level
        return None
    lam, u = problem.split(search.theta)
    return np.concatenate([lifted(lam, 0.3), u])


def _by_values(problem: LikelihoodProblem, grid: list[FloatArray]) -> FloatArray:
    """
    A start near the maximum, without derivatives.

    Along the logarithm of each factor's size, and along each residual parameter, the
    top of the parabola through three values, once after the other.
    """
    cov, k = problem.covariance, problem.k_cov_free
    u = grid[0]
    theta = np.concatenate([_first_factor(problem, u), u])
    best = value_at(problem, theta)
    where = np.cumsum(cov.is_free) - 1
    blocks = [where[place.entries][cov.is_free[place.entries]] for place in cov.places]

    def moved(some: IntArray, t: float) -> FloatArray:
        out = theta.copy()
        out[some] *= np.exp(t)
        return out

    def shifted(j: int, t: float) -> FloatArray:
        out = theta.copy()
        out[k + j] += t
        return out

    ways = [partial(shifted, j) for j in range(len(u))]
    ways += [partial(moved, some) for some in blocks if len(some)]
    for way in ways:
        step = _PARABOLA
        for _ in range(_TURNS):
            values = [value_at(problem, way(t)) for t in (-step, step)]
            slope, bend = values[1] - values[0], sum(values) - 2.0 * best
            t = np.copysign(step, slope)
            if bend < 0.0:
                t = float(np.clip(-0.5 * step * slope / bend, -2.0 * step, 2.0 * step))
            tried = way(t)
            value = value_at(problem, tried)
            inside = abs(t) < step
            if value > best:
                theta, best = tried, value
            if inside or not value >= best:
                break
    return theta
