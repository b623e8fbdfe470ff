"""
Maximising the likelihood: trust-region Newton steps, starts and modes.

REML surfaces with random slopes and serial correlation are flat and can have
several maxima, so the search begins from several residual parameters, keeps
every distinct maximum and returns the best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from mixedar.problem import Estimate, LikelihoodProblem, ThetaEvaluation

__all__ = ["Optimum", "SearchPath", "find_modes", "newton"]

FloatArray = NDArray[np.float64]

# Starting random-effects variances, as shares of the residual variance.
_START_RATIOS = (0.3, 2.0, 0.03)
# Along the grid of residual parameters rough maxima will do, ...
_ROUGH_GAIN = 0.3
_ROUGH_STEPS = 8
# ... and a profile that has fallen so far is not followed further.
_HOPELESS = 30.0


@dataclass(frozen=True)
class SearchPath:
    """
    What one run of the optimiser did.

    Attributes
    ----------
    theta : ndarray, shape (k,)
        Where it stopped.
    llf : float
    iterations : int
    evaluations : int
    decrement : float
        Half the squared length of the gradient in the metric of the Hessian:
        by how much the log-likelihood might still rise.
    converged : bool
    path : list of (ndarray, float)
        Points and log-likelihoods, if asked for.
    """

    theta: FloatArray
    llf: float
    iterations: int
    evaluations: int
    decrement: float
    converged: bool
    path: tuple[tuple[FloatArray, float], ...] = ()


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


def newton(
    evaluate: Callable[[FloatArray], ThetaEvaluation],
    theta: FloatArray,
    *,
    gtol: float = 1e-10,
    maxiter: int = 200,
    known: Sequence[FloatArray] = (),
    keep_path: bool = False,
    polish: bool = True,
    hopeless: float = -np.inf,
) -> SearchPath:
    """
    Maximise by Newton's method within a trust region.

    Parameters
    ----------
    evaluate : callable
        Value, gradient and Hessian at a point; it may raise ``LinAlgError``.
    theta : ndarray, shape (k,)
        Start.
    gtol : float
        Converged when the decrement, in units of log-likelihood, is below;
        one more step is taken then, which squares the error.
    maxiter : int
    known : sequence of ndarray
        Maxima found before: a search that is clearly on its way to one of
        them ends.
    keep_path : bool
    polish : bool
        Whether to take that last step.
    hopeless : float
        Give up when even four times the expected gain stays below.

    Returns
    -------
    SearchPath

    References
    ----------
    Nocedal, J. and Wright, S. J. (2006), Numerical Optimization, 2nd edition,
    Springer, algorithms 4.1 and 4.3.
    """
    current = evaluate(theta)
    evaluations = 1
    radius = 1.0
    decrement = np.inf
    path = [(theta, current.llf)]
    polished = False
    for iteration in range(1, maxiter + 1):
        values, vectors = np.linalg.eigh(-current.hessian)
        slope = vectors.T @ current.gradient
        floor = 1e-10 * max(float(np.abs(values).max(initial=0.0)), 1e-300)
        curved = np.abs(values) > floor
        decrement = 0.5 * float(
            (slope[curved] ** 2 / np.abs(values[curved])).sum()
            + np.abs(slope[~curved]).sum()
        )
        noise = 1e-15 * max(abs(current.llf), 1.0)
        if decrement <= max(gtol, noise) and values.min(initial=0.0) > -1e-7:
            if polished or not polish or decrement <= 1e-3 * noise:
                return SearchPath(
                    theta, current.llf, iteration, evaluations, decrement, True,
                    tuple(path) if keep_path else (),
                )
            polished = True
        elif iteration > 1 and current.llf + 4.0 * decrement < hopeless:
            return SearchPath(
                theta, current.llf, iteration, evaluations, decrement, False
            )
        elif _approaches(theta, current.llf, known, decrement):
            return SearchPath(
                theta, current.llf, iteration, evaluations, decrement, False
            )
        step = vectors @ _trust_region_step(values, slope, radius, floor)
        predicted = float(
            current.gradient @ step + 0.5 * step @ current.hessian @ step
        )
        try:
            trial = evaluate(theta + step)
        except np.linalg.LinAlgError:
            trial = None
        evaluations += 1
        gain = -np.inf if trial is None else trial.llf - current.llf
        if not np.isfinite(gain):
            radius = 0.25 * min(radius, float(np.linalg.norm(step)))
            continue
        ratio = gain / predicted if predicted > 0.0 else 1.0
        length = float(np.linalg.norm(step))
        if ratio < 0.25:
            radius = 0.25 * length
        elif ratio > 0.75 and length > 0.85 * radius:
            radius = min(2.0 * radius, 8.0)
        # close to the maximum rounding decides about gains; Newton is right
        if gain > 0.0 or (polished and gain > -100.0 * noise):
            assert trial is not None
            theta, current = theta + step, trial
            if keep_path:
                path.append((theta, current.llf))
        elif polished or radius < 1e-12:
            return SearchPath(
                theta, current.llf, iteration, evaluations, decrement,
                decrement <= 1e4 * max(gtol, noise),
                tuple(path) if keep_path else (),
            )
    return SearchPath(
        theta, current.llf, maxiter, evaluations, decrement, False,
        tuple(path) if keep_path else (),
    )


def _trust_region_step(
    values: FloatArray, slope: FloatArray, radius: float, floor: float
) -> FloatArray:
    """Step of at most `radius` in the eigenbasis of the negative Hessian."""
    if len(values) == 0:
        return slope
    if values[0] > floor:
        step = slope / values
        if np.linalg.norm(step) <= radius:
            return step
    elif np.abs(slope[values <= floor]).max(initial=0.0) < 1e-12:
        # a saddle, or a flat direction: rounding has to push
        step = np.where(values > floor, slope / np.maximum(values, floor), 0.0)
        if values[0] < -1e-7:
            step[0] = 0.5 * radius
        if np.linalg.norm(step) <= radius:
            return step
    # Shift the spectrum until the step fits: |slope / (lifted + nu)| <= radius.
    lifted = values + max(0.0, -float(values[0]))
    low = 1e-12 * max(float(np.abs(values).max()), 1e-300)
    high = low
    while np.linalg.norm(slope / (lifted + high)) > radius:
        low, high = high, 16.0 * high
    while high > 1.05 * low:
        middle = np.sqrt(low * high)
        length = np.linalg.norm(slope / (lifted + middle))
        if length > radius:
            low = middle
        else:
            high = middle
            if length > 0.9 * radius:
                break
    return slope / (lifted + high)


def _approaches(
    theta: FloatArray, llf: float, known: Sequence[FloatArray], decrement: float
) -> bool:
    """Whether a search is about to end in a maximum that is known already."""
    if decrement > 1e-3:
        return False
    return any(float(np.abs(theta - other).max()) < 0.02 for other in known)


def _first_factor(problem: LikelihoodProblem, u: FloatArray) -> FloatArray:
    """Free entries of ``Lambda`` that are the most likely of a few, at `u`."""
    cov = problem.covariance
    rows, columns = cov.tril
    unit = np.concatenate([(rows == columns).astype(float), np.ones(len(cov.vc_sizes))])
    count = max(len(cov.vc_sizes) + cov.k_re, 1)
    best, best_llf = np.empty(0), -np.inf
    for ratio in _START_RATIOS if problem.k_cov_free else (1.0,):
        lam = (np.sqrt(ratio / count) * unit)[cov.is_free]
        llf = _value(problem, np.concatenate([lam, u]))
        if llf > best_llf:
            best, best_llf = lam, llf
    if not np.isfinite(best_llf):
        raise np.linalg.LinAlgError("no starting value has a finite likelihood")
    return best


def _value(problem: LikelihoodProblem, theta: FloatArray) -> float:
    try:
        return problem.evaluate(theta, derivatives=False).llf
    except np.linalg.LinAlgError:
        return -np.inf


@dataclass(frozen=True)
class _ProfilePoint:
    """
    The likelihood, nearly maximised over ``Lambda``, at a residual parameter.

    `slope` is the derivative of the profile by the (first) residual
    parameter, corrected to first order for what is left to gain in ``Lambda``.
    """

    lam: FloatArray
    u: FloatArray
    llf: float
    slope: float

    @property
    def theta(self) -> FloatArray:
        return np.concatenate([self.lam, self.u])


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
        gtol=_ROUGH_GAIN,
        maxiter=_ROUGH_STEPS,
        polish=False,
        hopeless=hopeless,
    )
    point = last[search.theta.tobytes()]
    llf, slope = point.llf, 0.0
    if len(u):
        slope = float(point.gradient[k])
    if len(u) and k:
        values, vectors = np.linalg.eigh(-point.hessian[:k, :k])
        if values[0] > 1e-8 * values[-1]:
            step = vectors @ ((vectors.T @ point.gradient[:k]) / values)
            slope += float(point.hessian[k, :k] @ step)
            llf += 0.5 * float(point.gradient[:k] @ step)
    return _ProfilePoint(search.theta, u, llf, slope)


def _starts(problem: LikelihoodProblem) -> list[FloatArray]:
    """
    Starting points, the most promising first.

    With one residual parameter the likelihood is profiled along a grid of it.
    Wherever its slope changes from rising to falling there is a maximum
    between, so that one search each finds the modes.
    """
    grid = list(problem.structure.start_grid())
    first = _profile_point(problem, _first_factor(problem, grid[0]), grid[0])
    if problem.structure.k_free != 1:
        points = [first, *(_profile_point(problem, first.lam, u) for u in grid[1:])]
        return [p.theta for p in sorted(points, key=lambda p: -p.llf)]
    points = [first]
    for outward in (-1.0, 1.0):
        side = [u for u in grid[1:] if (u[0] - grid[0][0]) * outward > 0.0]
        point = first
        for u in sorted(side, key=lambda u: outward * u[0]):
            best = max(p.llf for p in points)
            if point.slope * outward < 0.0 and point.llf < best - _HOPELESS:
                break
            try:
                point = _profile_point(problem, point.lam, u, best - _HOPELESS)
            except np.linalg.LinAlgError:
                break
            points.append(point)
    points.sort(key=lambda p: float(p.u[0]))
    chosen = []
    if points[0].slope <= 0.0:
        chosen.append((points[0].llf, points[0].theta))
    if points[-1].slope > 0.0:
        chosen.append((points[-1].llf, points[-1].theta))
    for left, right in zip(points[:-1], points[1:], strict=True):
        if left.slope > 0.0 >= right.slope:
            share = left.slope / (left.slope - right.slope)
            theta = (1.0 - share) * left.theta + share * right.theta
            near = max(left, right, key=lambda p: p.llf)
            if _value(problem, theta) < near.llf:
                theta = near.theta
            chosen.append((near.llf, theta))
    chosen.sort(key=lambda item: -item[0])
    return [theta for _, theta in chosen]


def find_modes(
    problem: LikelihoodProblem,
    *,
    start: FloatArray | None = None,
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
        return [Optimum(problem.estimate(theta), search)]
    starts = _starts(problem)
    if start is not None:
        starts.insert(0, start)
    searches: list[SearchPath] = []
    for theta in starts:
        if method != "newton":
            theta = _by_scipy(problem, theta, method, maxiter)
        known = [s.theta for s in searches if s.converged]
        try:
            search = newton(
                evaluate, theta, gtol=gtol, maxiter=maxiter, known=known,
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
        distinct.append(Optimum(problem.estimate(search.theta), search))
    return distinct


def _same(a: SearchPath, b: SearchPath) -> bool:
    """Whether two searches ended in the same maximum (signs do not matter)."""
    return abs(a.llf - b.llf) < 1e-6


def _by_scipy(
    problem: LikelihoodProblem, theta: FloatArray, method: str, maxiter: int
) -> FloatArray:
    names = {"lbfgs": "L-BFGS-B", "nm": "Nelder-Mead", "ncg": "Newton-CG"}

    def objective(x: FloatArray) -> tuple[float, FloatArray]:
        try:
            point = problem.evaluate(x, derivatives=True)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(x)
        return -point.llf, -point.gradient

    result = minimize(
        objective,
        theta,
        jac=True,
        method=names.get(method.lower(), method),
        options={"maxiter": maxiter},
    )
    return np.asarray(result.x)
