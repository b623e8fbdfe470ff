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
from scipy.optimize import minimize

from mixedar._types import BoolArray, FloatArray
from mixedar.engine.estimate import Estimate, estimate_at
from mixedar.engine.newton import SearchPath, newton
from mixedar.engine.problem import LikelihoodProblem, ThetaEvaluation
from mixedar.engine.starts import (
    FAR,
    HARDLY_CURVED,
    HOPELESS,
    MANY_LINKED,
    first_steps,
    lifted,
    start_beside,
    starting_points,
    value_at,
)

# Further starting points, how far from the usual ones, how many of them are followed,
# and numbers that a step of all may take together.
SCATTERED, AWAY, FOLLOWED, WORK = 10, 1.2, 3, 4e6
# A standard deviation of so many standard errors may have another maximum at zero.
_HARDLY = 3.0
# What is left to gain where maxima of an easier likelihood are told apart.
_FIRST_LOOK = 1e-6
# Shares of the way from where a search was left to a maximum, which say whether it
# would lead there.
_ON_THE_WAY = (0.1, 0.3, 0.6)

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
    endless: Callable[[FloatArray], bool] | None = None,
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
    endless : callable, optional
        As in :func:`newton`.  Where a search ended so, no other is begun.

    Returns
    -------
    list of Optimum
    """

    def evaluate(theta: FloatArray) -> ThetaEvaluation:
        return problem.evaluate(theta, derivatives=True)

    if problem.k_theta == 0:
        return [_only_point(problem)]
    easier = None if alone else problem.for_first_look()
    starts = [] if alone else _starts(problem, easier)
    if start is not None:
        starts.insert(0, start)
    searches: list[SearchPath] = []

    def follow(theta: FloatArray, hopeless: float = -np.inf) -> None:
        known = [s.theta for s in searches if s.converged]
        climb = partial(newton, gtol=gtol, maxiter=maxiter, keep_path=keep_path)
        try:
            onward = partial(climb, known=known, hopeless=hopeless, endless=endless)
            search = onward(evaluate, theta, ends=problem.ends)
            # where a search is given up nothing is looked for
            theta = search.theta if search.idle else _at_ends(problem, search)
            inside = theta == search.theta
            if not inside.all():
                search = _among_some(climb, problem, evaluate, theta, inside)
        except np.linalg.LinAlgError:
            return
        search = replace(search, theta=problem.unsigned(search.theta))
        if search.converged or not known or search.llf > hopeless > -np.inf:
            searches.append(search)

    for theta in starts:
        if method != "newton":
            theta = _by_scipy(problem, theta, method, maxiter)
        elif searches and searches[0].converged and n_scattered(problem) < SCATTERED:
            # each step is dear: not the whole way to a maximum that is known
            best = max(searches, key=lambda s: s.llf)
            onward = _away_from(problem, evaluate, theta, best)
            if onward is None:
                continue
            theta = onward
        follow(theta)
        last = searches[-1] if searches else None
        if endless and last and not last.converged and endless(last.theta):
            break
    highest = max(searches, key=lambda s: s.llf, default=None)
    thorough = method == "newton" and not alone
    if thorough and highest and highest.converged:
        # some of the groups do not show all, as pieces of all rows do
        shown = easier is not None and easier.n == problem.n
        count = 0 if shown else n_scattered(problem)
        for begun in _further(problem, evaluate, searches, count):
            best = max(searches, key=lambda s: s.llf)
            if not _leads(problem, begun, best):
                follow(begun.theta, best.llf)
    if not searches:
        raise np.linalg.LinAlgError("no starting value has a finite likelihood")
    return _distinct(problem, searches)


def _only_point(problem: LikelihoodProblem) -> Optimum:
    """The maximum where there is nothing to search."""
    theta = np.empty(0)
    llf = problem.evaluate(theta, derivatives=False).llf
    search = SearchPath(theta, llf, 0, 1, 0.0, True)
    return Optimum(estimate_at(problem, theta), search)


def _distinct(problem: LikelihoodProblem, searches: list[SearchPath]) -> list[Optimum]:
    """The different ends of searches, maxima first, unless another one is higher."""
    searches = sorted(searches, key=lambda s: (not s.converged, -s.llf))
    best = max(searches, key=lambda s: s.llf)
    if best.llf > searches[0].llf + 1e-6:
        searches.insert(0, best)
    distinct: list[Optimum] = []
    for search in searches:
        if any(_same(search, other.search) for other in distinct):
            continue
        distinct.append(Optimum(estimate_at(problem, search.theta), search))
    return distinct


def _starts(
    problem: LikelihoodProblem, easier: LikelihoodProblem | None
) -> list[FloatArray]:
    """Starting points: maxima of an easier likelihood, if there is one."""
    if easier is None:
        return starting_points(problem)
    modes: list[Optimum] = []
    with suppress(np.linalg.LinAlgError):
        modes = find_modes(easier, gtol=_FIRST_LOOK)
    found = [start_beside(problem, mode.search.theta) for mode in modes]
    return found or starting_points(problem)


def _among_some(
    climb: Callable[..., SearchPath],
    problem: LikelihoodProblem,
    evaluate: Callable[[FloatArray], ThetaEvaluation],
    theta: FloatArray,
    some: BoolArray,
) -> SearchPath:
    """A search among some of the parameters, while the others stay."""
    part = partial(_of_some, evaluate, theta, some)
    return climb(part, theta[some], ends=problem.ends[:, some]).among(theta, some)


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
    count: int,
) -> list[SearchPath]:
    """
    Searches beyond the usual ones, begun, for structures of several parameters.

    Their likelihoods have maxima that no grid of few points finds.  From `count` points
    scattered around the grid a few steps are taken; the most promising that end
    away from the known maxima are kept.
    """
    structure, best = problem.parameters, max(known, key=lambda s: s.llf)
    if structure.k_free < 2 or problem.n_linked > MANY_LINKED:
        return []
    grid, rng = list(structure.start_grid()), np.random.default_rng(structure.k_free)
    lam = lifted(problem.split(best.theta)[0], 0.3)
    found = []
    for k in range(count):
        u = grid[k % len(grid)] + rng.normal(size=structure.k_free) * AWAY
        with suppress(np.linalg.LinAlgError):
            theta = np.concatenate([lam, u])
            search = first_steps(evaluate, theta, best.llf, problem.ends)
            if not any(_near(problem, search, other) for other in known):
                found.append(search)
    found.sort(key=lambda s: -s.llf - min(s.decrement, HOPELESS))
    return found[:FOLLOWED]


def _further(
    problem: LikelihoodProblem,
    evaluate: Callable[[FloatArray], ThetaEvaluation],
    known: Sequence[SearchPath],
    count: int,
) -> list[SearchPath]:
    """Searches beyond the usual ones, begun, that may lead to other maxima."""
    best = max(known, key=lambda s: s.llf)
    scattered = _scattered(problem, evaluate, known, count)
    return [*scattered, *_without_one(problem, evaluate, best)]


def _without_one(
    problem: LikelihoodProblem,
    evaluate: Callable[[FloatArray], ThetaEvaluation],
    best: SearchPath,
) -> list[SearchPath]:
    """
    Searches, begun, from where a variance that is hardly above zero is zero.

    With several variances there may be a maximum on either side.  The others move while
    this one is held; from zero, where the likelihood is flat by symmetry, a search then
    leaves only if it rises.
    """
    places, free = problem.covariance.places, problem.covariance.is_free
    where = np.cumsum(free) - 1
    found: list[SearchPath] = []
    if len(places) < 3 or problem.n_linked > MANY_LINKED:
        return found
    spans = [place.entries for place in places]
    alone = [s.start for s in spans if s.stop == s.start + 1 and free[s.start]]
    for k in where[alone]:
        if 0.0 < best.theta[k] ** 2 * best.curvature[k] < _HARDLY**2:
            others = np.arange(len(best.theta)) != k
            theta = np.where(others, best.theta, 0.0)
            with suppress(np.linalg.LinAlgError):
                search = _among_some(first_steps, problem, evaluate, theta, others)
                if not _near(problem, search, best):
                    found.append(search)
    return found


def n_scattered(problem: LikelihoodProblem) -> int:
    """How many of them are worth their work."""
    k = problem.structure.k_free
    by_blocks = sum(block.work(k) for block in problem.blocks)
    work = max(problem.n_rows * (problem.k_theta + 1) ** 2, by_blocks)
    return min(SCATTERED, int(WORK / work))


def _away_from(
    problem: LikelihoodProblem,
    evaluate: Callable[[FloatArray], ThetaEvaluation],
    theta: FloatArray,
    best: SearchPath,
) -> FloatArray | None:
    """Where the first steps from a point end; None if they lead to a known maximum."""
    with suppress(np.linalg.LinAlgError):
        begun = first_steps(evaluate, theta, ends=problem.ends)
        if _near(problem, begun, best) or _leads(problem, begun, best):
            return None
        return begun.theta
    return theta


def _leads(problem: LikelihoodProblem, begun: SearchPath, best: SearchPath) -> bool:
    """Whether a search promises no more than a maximum to which it only rises."""
    if begun.llf + begun.decrement > best.llf:
        return False
    start = problem.unsigned(begun.theta)
    way = best.theta - start
    inner = [value_at(problem, start + share * way) for share in _ON_THE_WAY]
    return all(a < b for a, b in pairwise([begun.llf, *inner, best.llf]))


def _near(problem: LikelihoodProblem, begun: SearchPath, known: SearchPath) -> bool:
    """Whether a search is where a known maximum is, whatever the signs of roots."""
    away = np.abs(problem.unsigned(begun.theta) - known.theta)
    return bool((away < 0.1 * np.maximum(np.abs(known.theta), 1.0)).all())


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
        values = [value_at(problem, end) for end in ends]
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
