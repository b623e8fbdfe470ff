"""
Finding the maxima of the likelihood.

The search begins from several points, keeps every distinct maximum and
returns the best first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from mixedar.estimate import Estimate, estimate_at
from mixedar.newton import SearchPath, newton
from mixedar.problem import LikelihoodProblem, ThetaEvaluation
from mixedar.starts import starting_points

__all__ = ["METHODS", "Optimum", "SearchPath", "find_modes"]

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

FloatArray = NDArray[np.float64]


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
    for theta in starts:
        if method != "newton":
            theta = _by_scipy(problem, theta, method, maxiter)
        known = [s.theta for s in searches if s.converged]
        try:
            search = newton(
                evaluate,
                theta,
                gtol=gtol,
                maxiter=maxiter,
                known=known,
                keep_path=keep_path,
            )
        except np.linalg.LinAlgError:
            continue
        if search.converged or not known:
            searches.append(search)
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
