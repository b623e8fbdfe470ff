"""
Finding the maxima of the likelihood.

The search begins from several points, keeps every distinct maximum and
returns the best first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.linalg.lapack import dsyevd
from scipy.optimize import minimize

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.engine.estimate import Estimate, estimate_at
from mixedar.engine.newton import SearchPath, newton
from mixedar.engine.problem import LikelihoodProblem, ThetaEvaluation

# Starting random-effects variances, as shares of the residual variance.
START_RATIOS = (0.03, 0.3, 2.0, 30.0, 1e3, 1e5, 1e7, 1e9)
# With so many effects of further factors in one component the search starts once.
_MANY_LINKED = 400
# There parabolas reach so far, and are drawn so often.
_PARABOLA, _TURNS = 0.7, 3
# Along the grid of residual parameters rough maxima will do, ...
ROUGH_GAIN = 0.3
ROUGH_STEPS = 8
# ... and a profile that has fallen so far is not followed further.
HOPELESS = 30.0
# A second derivative by an unconstrained parameter that says that it hardly matters,
# and where every parameter is at the end of its range.
HARDLY_CURVED = 1e-3
FAR = 1e5
# Further starting points, how far from the usual ones, how many of them are followed,
# and numbers that a step of all may take together.
SCATTERED, AWAY, FOLLOWED, WORK = 10, 1.2, 3, 4e6
# Points between such a one and a maximum that say whether it would lead there.
_ON_THE_WAY = (0.1, 0.3, 0.6)


def _first_factor(problem: LikelihoodProblem, u: FloatArray) -> FloatArray:
    """Free entries of ``Lambda`` that are the most likely of a few, at `u`."""
    cov = problem.covariance
    unit = cov.on_diagonal.astype(float)
    count = max(sum(cov.blocks), 1)
    best, best_llf = np.empty(0), -np.inf
    for ratio in START_RATIOS if problem.k_cov_free else (1.0,):
        lam = (np.sqrt(ratio / count) * unit)[cov.is_free]
        llf = _value(problem, np.concatenate([lam, u]))
        if llf > best_llf:
            best, best_llf = lam, llf
        elif np.isfinite(best_llf):
            break  # the ratios rise: past the top
    if not np.isfinite(best_llf):
        raise np.linalg.LinAlgError("no starting value has a finite likelihood")
    return best


def _value(
    problem: LikelihoodProblem, theta: FloatArray, *, derivatives: bool = False
) -> float:
    try:
        return problem.evaluate(theta, derivatives=derivatives).llf
    except np.linalg.LinAlgError:
        return -np.inf


@dataclass(frozen=True)
class _ProfilePoint:
    """
    The likelihood, nearly maximised over ``Lambda``, at a residual parameter.

    `slope` is the derivative of the profile by the (first) residual
    parameter, corrected to first order for what is left to gain in ``Lambda``, and
    `turn` that of the best ``Lambda``.
    """

    lam: FloatArray
    u: FloatArray
    llf: float
    slope: float
    turn: FloatArray

    @property
    def theta(self) -> FloatArray:
        return np.concatenate([self.lam, self.u])

    def lam_at(self, u: FloatArray) -> FloatArray:
        """Where ``Lambda`` moves with the residual parameter, a short way."""
        most = 0.5 * np.maximum(np.abs(self.lam), 0.5)
        return self.lam + np.clip(self.turn * (u[0] - self.u[0]), -most, most)


def _profile_point(
    problem: LikelihoodProblem,
    lam: FloatArray,
    u: FloatArray,
    hopeless: float = -np.inf,
) -> _ProfilePoint:
    k = problem.k_cov_free
    last: dict[bytes, ThetaEvaluation] = {}

    def evaluate(entries: FloatArray) -> ThetaEvaluation:
        point = problem.evaluate(np.concatenate([entries, u]), derivatives=True)
        last[entries.tobytes()] = point
        return ThetaEvaluation(point.llf, point.gradient[:k], point.hessian[:k, :k])

    # a standard deviation of zero is a saddle that no gradient leaves
    lam = np.where(np.abs(lam) < 0.05, 0.05, lam)
    search = newton(
        evaluate,
        lam,
        gtol=ROUGH_GAIN,
        maxiter=ROUGH_STEPS,
        polish=False,
        hopeless=hopeless,
    )
    point = last[search.theta.tobytes()]
    llf, slope, turn = point.llf, 0.0, np.zeros(k)
    if len(u):
        slope = float(point.gradient[k])
    if len(u) and k:
        values, vectors, failed = dsyevd(-point.hessian[:k, :k], lower=1)
        if not failed and values[0] > 1e-8 * values[-1]:
            step = vectors @ ((vectors.T @ point.gradient[:k]) / values)
            slope += float(point.hessian[k, :k] @ step)
            turn = vectors @ ((vectors.T @ point.hessian[:k, k]) / values)
            llf += 0.5 * float(point.gradient[:k] @ step)
    return _ProfilePoint(search.theta, u, llf, slope, turn)


def starting_points(problem: LikelihoodProblem) -> list[FloatArray]:
    """
    Starting points, the most promising first.

    With one residual parameter the likelihood is profiled along a grid of it.
    Wherever its slope changes from rising to falling there is a maximum
    between, so that one search each finds the modes.
    """
    grid = list(problem.parameters.start_grid())
    if problem.n_linked > _MANY_LINKED:
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
            best = max(p.llf for p in points)
            if point.slope * outward < 0.0 and point.llf < best - HOPELESS:
                break
            try:
                point = _profile_point(problem, point.lam_at(u), u, best - HOPELESS)
            except np.linalg.LinAlgError:
                break
            points.append(point)
    points.sort(key=lambda p: float(p.u[0]))
    chosen = []
    if points[0].slope <= 0.0:
        chosen.append((points[0].llf, points[0].theta))
    if points[-1].slope > 0.0:
        chosen.append((points[-1].llf, points[-1].theta))
    for left, right in pairwise(points):
        if left.slope > 0.0 >= right.slope:
            share = left.slope / (left.slope - right.slope)
            theta = (1.0 - share) * left.theta + share * right.theta
            near = max(left, right, key=lambda p: p.llf)
            # with derivatives: the search begins there
            if _value(problem, theta, derivatives=True) < near.llf:
                theta = near.theta
            chosen.append((near.llf, theta))
    chosen.sort(key=lambda item: -item[0])
    return [theta for _, theta in chosen]


def _separate_points(
    problem: LikelihoodProblem, grid: list[FloatArray]
) -> list[FloatArray]:
    """The points of a grid, roughly maximised over ``Lambda``, the best first."""
    points = []
    for u in grid:
        if not problem.k_cov_free:
            points.append((_value(problem, u), u))
            continue
        with suppress(np.linalg.LinAlgError):
            point = _profile_point(problem, _first_factor(problem, u), u)
            points.append((point.llf, point.theta))
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
    search = newton(
        partial(easier.evaluate, derivatives=True),
        _by_values(easier, grid),
        gtol=ROUGH_GAIN,
        maxiter=ROUGH_STEPS,
        polish=False,
    )
    if search.curvature.min() < HARDLY_CURVED:  # a single row of each level
        return None
    lam, u = problem.split(search.theta)
    return np.concatenate([np.where(np.abs(lam) < 0.3, 0.3, lam), u])


def _by_values(problem: LikelihoodProblem, grid: list[FloatArray]) -> FloatArray:
    """
    A start near the maximum, without derivatives.

    Along the logarithm of each factor's size, and along each residual parameter, the
    top of the parabola through three values, once after the other.
    """
    cov, k = problem.covariance, problem.k_cov_free
    u = grid[0]
    theta = np.concatenate([_first_factor(problem, u), u])
    best = _value(problem, theta)
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
            values = [_value(problem, way(t)) for t in (-step, step)]
            slope, bend = values[1] - values[0], sum(values) - 2.0 * best
            t = np.copysign(step, slope)
            if bend < 0.0:
                t = float(np.clip(-0.5 * step * slope / bend, -2.0 * step, 2.0 * step))
            tried = way(t)
            value = _value(problem, tried)
            inside = abs(t) < step
            if value > best:
                theta, best = tried, value
            if inside or not value >= best:
                break
    return theta


#: Optimisers by name: scipy's name, and whether it takes gradients.
METHODS = {
    "newton": ("newton", True),
    "bfgs": ("BFGS", True),
    "lbfgs": ("L-BFGS-B", True),
    "l-bfgs-b": ("L-BFGS-B", True),
    "cg": ("CG", True),
    "ncg": ("Newton-CG", True),
    "tnc": ("TNC", True),
    "slsqp": ("SLSQP", True),
    "nm": ("Nelder-Mead", False),
    "nelder-mead": ("Nelder-Mead", False),
    "powell": ("Powell", False),
}


@dataclass(frozen=True)
class Optimum:
    """
    A local maximum.

    Attributes
    ----------
    estimate : Estimate
    search : SearchPath
    """

    estimate: Estimate
    search: SearchPath


def find_modes(
    problem: LikelihoodProblem,
    *,
    start: FloatArray | None = None,
    alone: bool = False,
    method: str = "newton",
    gtol: float = 1e-10,
    maxiter: int = 200,
    keep_path: bool = False,
) -> list[Optimum]:
    """
    Local maxima of the likelihood, the highest first.

    Parameters
    ----------
    problem : LikelihoodProblem
    start : ndarray, shape (k_theta,), optional
        A first start; the usual ones follow.
    alone : bool
        Begin at `start` only.
    method : str
        ``"newton"``, or a method of :func:`scipy.optimize.minimize`, whose
        result Newton's method then refines.
    gtol, maxiter
        As in :func:`newton`.
    keep_path : bool

    Returns
    -------
    list of Optimum
    """

    def evaluate(theta: FloatArray) -> ThetaEvaluation:
        return problem.evaluate(theta, derivatives=True)

    if problem.k_theta == 0:
        theta = np.empty(0)
        llf = problem.evaluate(theta, derivatives=False).llf
        search = SearchPath(theta, llf, 0, 1, 0.0, True)
        return [Optimum(estimate_at(problem, theta), search)]
    starts = [] if alone else starting_points(problem)
    if start is not None:
        starts.insert(0, start)
    searches: list[SearchPath] = []

    def follow(theta: FloatArray, hopeless: float = -np.inf) -> None:
        known = [s.theta for s in searches if s.converged]
        climb = partial(newton, gtol=gtol, maxiter=maxiter, keep_path=keep_path)
        try:
            search = climb(evaluate, theta, known=known, hopeless=hopeless)
            theta = _at_ends(problem, search)
            inside = theta == search.theta
            if not inside.all():
                part = partial(_of_some, evaluate, theta, inside)
                search = climb(part, theta[inside]).among(theta, inside)
        except np.linalg.LinAlgError:
            return
        search = replace(search, theta=problem.unsigned(search.theta))
        if search.converged or not known or search.llf > hopeless > -np.inf:
            searches.append(search)

    for theta in starts:
        if method != "newton":
            theta = _by_scipy(problem, theta, method, maxiter)
        follow(theta)
    best = max(searches, key=lambda s: s.llf, default=None)
    if method == "newton" and not alone and best is not None and best.converged:
        for begun in _scattered(problem, evaluate, searches):
            best = max(searches, key=lambda s: s.llf)
            if not _leads(problem, begun, best):
                follow(begun.theta, best.llf)
    if not searches:
        raise np.linalg.LinAlgError("no starting value has a finite likelihood")
    searches.sort(key=lambda s: (not s.converged, -s.llf))
    best_unconverged = max(searches, key=lambda s: s.llf)
    if best_unconverged.llf > searches[0].llf + 1e-6:
        searches.insert(0, best_unconverged)
    distinct: list[Optimum] = []
    for search in searches:
        if any(_same(search, other.search) for other in distinct):
            continue
        distinct.append(Optimum(estimate_at(problem, search.theta), search))
    return distinct


def _of_some(
    evaluate: Callable[[FloatArray], ThetaEvaluation],
    theta: FloatArray,
    some: BoolArray,
    values: FloatArray,
) -> ThetaEvaluation:
    """The log-likelihood by some of the parameters."""
    theta = theta.copy()
    theta[some] = values
    point = evaluate(theta)
    hessian = point.hessian[np.ix_(some, some)]
    return ThetaEvaluation(point.llf, point.gradient[some], hessian)


def _scattered(
    problem: LikelihoodProblem,
    evaluate: Callable[[FloatArray], ThetaEvaluation],
    known: Sequence[SearchPath],
) -> list[SearchPath]:
    """
    Searches beyond the usual ones, begun, for structures of several parameters.

    Their likelihoods have maxima that no grid of few points finds.  From points
    scattered around the grid a few steps are taken; the most promising that end
    away from the known maxima are kept.
    """
    structure, best = problem.parameters, max(known, key=lambda s: s.llf)
    if structure.k_free < 2 or problem.n_linked > _MANY_LINKED:
        return []
    grid, rng = list(structure.start_grid()), np.random.default_rng(structure.k_free)
    lam, _ = problem.split(best.theta)
    lam = np.where(np.abs(lam) < 0.3, 0.3, lam)
    found = []
    for k in range(n_scattered(problem)):
        u = grid[k % len(grid)] + rng.normal(size=structure.k_free) * AWAY
        with suppress(np.linalg.LinAlgError):
            search = newton(
                evaluate,
                np.concatenate([lam, u]),
                gtol=ROUGH_GAIN,
                maxiter=ROUGH_STEPS,
                polish=False,
                hopeless=best.llf,
            )
            if not any(_near(search.theta, other.theta) for other in known):
                found.append(search)
    found.sort(key=lambda s: -s.llf - min(s.decrement, HOPELESS))
    return found[:FOLLOWED]


def n_scattered(problem: LikelihoodProblem) -> int:
    """How many of them."""
    work = problem.n_rows * (problem.k_theta + 1) ** 2
    return min(SCATTERED, int(WORK / work))


def _leads(problem: LikelihoodProblem, begun: SearchPath, best: SearchPath) -> bool:
    """Whether a search promises no more than a maximum to which it only rises."""
    if begun.llf + begun.decrement > best.llf:
        return False
    start, way = begun.theta, best.theta - begun.theta
    inner = [_value(problem, start + share * way) for share in _ON_THE_WAY]
    return all(a < b for a, b in pairwise([begun.llf, *inner, best.llf]))


def _near(theta: FloatArray, other: FloatArray) -> bool:
    away = np.abs(np.abs(theta) - np.abs(other))
    return bool((away < 0.1 * np.maximum(np.abs(other), 1.0)).all())


def _at_ends(problem: LikelihoodProblem, search: SearchPath) -> FloatArray:
    """
    Where a search leads: to the end of a parameter's range if that is as high.

    Steps towards an end gain less and less, so that the search stops on the way;
    where it stops says nothing.
    """
    theta, llf = search.theta, search.llf
    noise = 1e-8 + 1e-13 * abs(llf)
    for k in range(problem.k_cov_free, problem.k_theta):
        if search.converged and abs(search.curvature[k]) > HARDLY_CURVED:
            continue
        ends = [np.where(np.arange(len(theta)) == k, x, theta) for x in (-FAR, FAR)]
        values = [_value(problem, end) for end in ends]
        best = int(np.argmax(values))
        # where both are as high the parameter has no effect: it stays
        if values[best] >= llf - noise > values[1 - best]:
            theta, llf = ends[best], max(llf, values[best])
    return theta


def _same(a: SearchPath, b: SearchPath) -> bool:
    """Whether two searches ended in the same maximum (signs do not matter)."""
    return abs(a.llf - b.llf) < 1e-6


def _by_scipy(
    problem: LikelihoodProblem, theta: FloatArray, method: str, maxiter: int
) -> FloatArray:
    name, gradient = METHODS[method]

    def objective(x: FloatArray) -> Any:
        try:
            point = problem.evaluate(x, derivatives=gradient)
        except np.linalg.LinAlgError:
            return (np.inf, np.zeros_like(x)) if gradient else np.inf
        return (-point.llf, -point.gradient) if gradient else -point.llf

    result = minimize(
        objective,
        theta,
        jac=True if gradient else None,
        method=name,
        options={"maxiter": maxiter},
    )
    return np.asarray(result.x)
