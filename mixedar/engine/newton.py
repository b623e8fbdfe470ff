"""
Newton's method within a trust region, for likelihoods with exact Hessians.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs, dsyevd, dtrtrs

from mixedar._types import BoolArray, FloatArray
from mixedar.engine.problem import ThetaEvaluation

# Up to so many parameters the spectrum costs no more than a few factorisations.
_SMALL = 8
# So near to the end of its range a parameter is there.
_AT_END = 1e-9
# Steps that repeat one another are taken so many at once.
_ONWARD = 4.0
# Steps after which it is asked whether there is a maximum at all.
_ASKED = 15


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
    curvature : ndarray, shape (k,)
        Minus the second derivatives by each parameter there.
    path : list of (ndarray, float)
        Points and log-likelihoods, if asked for.
    idle : bool
        Whether it was given up: on its way to a known maximum, or hopeless.
    """

    theta: FloatArray
    llf: float
    iterations: int
    evaluations: int
    decrement: float
    converged: bool
    curvature: FloatArray = field(default_factory=lambda: np.empty(0))
    path: tuple[tuple[FloatArray, float], ...] = ()
    idle: bool = False

    def among(self, theta: FloatArray, some: BoolArray) -> SearchPath:
        """The same, of all parameters, where `some` were searched for."""

        def full(values: FloatArray) -> FloatArray:
            out = theta.copy()
            out[some] = values
            return out

        curvature = np.zeros(len(theta))
        curvature[some] = self.curvature
        path = tuple((full(values), llf) for values, llf in self.path)
        return replace(self, theta=full(self.theta), curvature=curvature, path=path)


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
    endless: Callable[[FloatArray], bool] | None = None,
    ends: FloatArray | None = None,
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
    endless : callable, optional
        Whether the function rises for ever beyond a point.  Asked now and then; the
        search ends when it has been so twice.
    ends : ndarray, shape (2, k), optional
        The lowest and the highest value of each parameter, infinite where it has none.

    Returns
    -------
    SearchPath

    References
    ----------
    Nocedal, J. and Wright, S. J. (2006), Numerical Optimization, 2nd edition,
    Springer, algorithms 4.1 and 4.3.
    """
    ends = np.outer([-np.inf, np.inf], np.ones(len(theta))) if ends is None else ends
    theta = np.minimum(np.maximum(theta, ends[0]), ends[1])
    current, evaluations = evaluate(theta), 1
    radius, decrement = 1.0, np.inf
    path = [(theta, current.llf)]
    polished, beyond, last = False, False, None

    def ended(iteration: int, converged: bool, idle: bool = False) -> SearchPath:
        kept = tuple(path) if keep_path else ()
        found = current.llf, iteration, evaluations, decrement, converged
        return SearchPath(theta, *found, -np.diagonal(current.hessian), kept, idle)

    for iteration in range(1, maxiter + 1):
        model = _Quadratic(theta, current, ends)
        decrement = model.decrement
        noise = 1e-15 * max(abs(current.llf), 1.0)
        least = max(gtol, noise)
        if decrement <= least and model.smallest > -1e-7:
            if polished or not polish or decrement <= 1e-3 * noise:
                return ended(iteration, True)
            polished = True
        elif _is_idle(iteration, theta, current, decrement, known, hopeless):
            return ended(iteration, False, idle=True)
        if endless is not None and iteration % _ASKED == 0:
            before, beyond = beyond, endless(theta)
            if before and beyond:
                return ended(iteration, False)
        scaled_step = model.step(radius)
        onward, last = _repeats(scaled_step, last, radius), scaled_step
        scaled_step = model.inside(_ONWARD * last) if onward else last
        step = scaled_step * model.scale
        predicted = float(current.gradient @ step + 0.5 * step @ current.hessian @ step)
        trial = _tried(evaluate, theta + step)
        evaluations += 1
        gain = -np.inf if trial is None else trial.llf - current.llf
        if trial is None or not math.isfinite(gain) or (onward and gain <= 0.0):
            radius = radius if onward else 0.25 * min(radius, _length(scaled_step))
            last = None
            continue
        ratio = gain / predicted if predicted > 0.0 else 1.0
        radius = _next_radius(radius, ratio, _length(scaled_step))
        # close to the maximum rounding decides about gains; Newton is right
        if gain > 0.0 or (polished and gain > -100.0 * noise):
            theta, current = theta + step, trial
            if keep_path:
                path.append((theta, current.llf))
        elif polished or radius < 1e-12 or (polish and 0.0 <= predicted <= least):
            # within a smaller radius there is even less to gain
            return ended(iteration, decrement <= 1e4 * least)
    decrement = _Quadratic(theta, current, ends).decrement
    return ended(maxiter, decrement <= 1e4 * max(gtol, noise))


def _next_radius(radius: float, ratio: float, length: float) -> float:
    """The trust region after a step that gained a share of what was predicted."""
    if ratio < 0.25:
        return 0.25 * length
    return min(2.0 * radius, 8.0) if ratio > 0.75 and length > 0.85 * radius else radius


def _repeats(step: FloatArray, last: FloatArray | None, radius: float) -> bool:
    """
    Whether a step is as long as the one before, though nothing keeps it short.

    So it goes where the function approaches a limit exponentially.
    """
    if last is None:
        return False
    length = _length(step)
    return length < 0.85 * radius and _length(step - last) < 0.25 * length


def _tried(
    evaluate: Callable[[FloatArray], ThetaEvaluation], theta: FloatArray
) -> ThetaEvaluation | None:
    """A point where a step would lead, if it has derivatives."""
    try:
        trial = evaluate(theta)
    except np.linalg.LinAlgError:
        return None
    # derivatives over- or underflow before values do
    return trial if np.isfinite(trial.hessian).all() else None


class _Quadratic:
    """
    The quadratic model of the log-likelihood around a point.

    Steps are measured relative to parameters that are large.  Where the likelihood
    is concave a Cholesky factor does; the spectrum is computed where it is not,
    or where a step has to be cut short and there are few parameters.  At the end of its
    range a parameter stays where the gradient points outwards, or a step would leave.
    """

    def __init__(
        self,
        theta: FloatArray,
        point: ThetaEvaluation,
        ends: FloatArray,
        stay: BoolArray | None = None,
    ) -> None:
        self.scale = np.maximum(np.abs(theta), 1.0)
        self._matrix = point.hessian * (-self.scale * self.scale[:, None])
        self._gradient = point.gradient * self.scale
        self._theta, self._point, self._ends = theta, point, ends
        room = np.minimum(theta - ends[0], ends[1] - theta)
        self._room = float((room / self.scale).min(initial=np.inf))
        self._stay = self._leaving(point.gradient) if stay is None else stay
        if self._stay is not None:
            self._gradient[self._stay] = 0.0
            self._matrix[self._stay] = self._matrix[:, self._stay] = 0.0
            self._matrix[self._stay, self._stay] = 1.0
        self._newton: FloatArray | None = None if len(theta) else theta
        if len(theta) == 0:
            return
        root, failed = dpotrf(self._matrix, lower=1)
        least = 1e-10 * self._matrix.diagonal().max()
        if not failed and root.diagonal().min() ** 2 > least:
            self._root = root
            self._newton = dpotrs(root, self._gradient, lower=1)[0]

    @cached_property
    def _spectrum(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        values, vectors, failed = dsyevd(self._matrix, lower=1)
        if failed:
            raise np.linalg.LinAlgError("the spectrum did not converge")
        return values, vectors, self._gradient @ vectors

    @cached_property
    def decrement(self) -> float:
        """Gain in log-likelihood that the model promises."""
        if self._newton is not None:
            return 0.5 * float(self._gradient @ self._newton)
        values, _, slope = self._spectrum
        return _decrement(values, slope)

    @property
    def smallest(self) -> float:
        """The smallest curvature, at most zero."""
        if self._newton is not None:
            return 0.0
        return float(self._spectrum[0].min(initial=0.0))

    def step(self, radius: float) -> FloatArray:
        """The step to the model's maximum within a radius and the range, scaled."""
        step = self._anywhere(radius)
        if self._stay is not None:
            step = np.where(self._stay, 0.0, step)
        leaving = self._leaving(step)
        if leaving is not None:
            stay = leaving if self._stay is None else self._stay | leaving
            return _Quadratic(self._theta, self._point, self._ends, stay).step(radius)
        return self.inside(step)

    def inside(self, step: FloatArray) -> FloatArray:
        """A step up to where the first parameter is at the end of its range."""
        if _length(step) <= self._room:
            return step
        (low, high), way, moves = self._ends, step * self.scale, step != 0.0
        left = np.where(step > 0.0, high, low) - self._theta
        share = (left[moves] / way[moves]).min(initial=1.0)
        return np.asarray(share * step)

    def _leaving(self, way: FloatArray) -> BoolArray | None:
        """Which parameters are at an end that the way leads beyond, if any are."""
        if self._room > _AT_END:
            return None
        lowest, highest = (np.abs(self._theta - end) <= _AT_END for end in self._ends)
        leaving = np.asarray(lowest & (way < 0.0) | highest & (way > 0.0))
        return leaving if leaving.any() else None

    def _anywhere(self, radius: float) -> FloatArray:
        """The step within a radius, whatever the range."""
        if self._newton is not None:
            if _length(self._newton) <= radius:
                return self._newton
            if len(self._newton) > _SMALL:
                return self._shortened(self._newton, radius)
        values, vectors, slope = self._spectrum
        return vectors @ _trust_region_step(values, slope, radius, _floor(values))

    def _shortened(self, step: FloatArray, radius: float) -> FloatArray:
        """Newton's iteration for the shift that gives a step its length (4.3)."""
        shift = 0.0
        root = self._root
        for _ in range(20):
            length = _length(step)
            if length <= (1.05 * radius if shift else radius):
                break
            half = dtrtrs(root, step, lower=1)[0]
            shift += (length / radius - 1.0) * float(step @ step) / float(half @ half)
            root = dpotrf(self._matrix + shift * np.eye(len(step)), lower=1)[0]
            step = dpotrs(root, self._gradient, lower=1)[0]
        return step


def _length(x: FloatArray) -> float:
    return math.sqrt(float(x @ x))


def _floor(values: FloatArray) -> float:
    """Curvatures below are rounding; the values rise."""
    if len(values) == 0:
        return 0.0
    return 1e-10 * max(abs(float(values[0])), abs(float(values[-1])), 1e-290)


def _decrement(values: FloatArray, slope: FloatArray) -> float:
    """Gain in log-likelihood that the quadratic model promises."""
    curved = np.abs(values) > _floor(values)
    gain = (slope[curved] ** 2 / np.abs(values[curved])).sum()
    return 0.5 * float(gain + np.abs(slope[~curved]).sum())


def _trust_region_step(
    values: FloatArray, slope: FloatArray, radius: float, floor: float
) -> FloatArray:
    """Step of at most `radius` in the eigenbasis of the negative Hessian."""
    if len(values) == 0:
        return slope
    if values[0] > floor:
        step = slope / values
        if _length(step) <= radius:
            return step
    elif np.abs(slope[values <= floor]).max(initial=0.0) < 1e-12:
        # a saddle, or a flat direction: rounding has to push
        step = np.where(values > floor, slope / np.maximum(values, floor), 0.0)
        if values[0] < -1e-7:
            step[0] = 0.5 * radius
        if _length(step) <= radius:
            return step
    # Shift the spectrum until the step fits: |slope / (lifted + nu)| <= radius.
    lifted = values + max(0.0, -float(values[0]))
    pairs = list(zip(slope.tolist(), lifted.tolist(), strict=True))

    def length_at(shift: float) -> float:
        ratios = [a / (b + shift) for a, b in pairs]  # few: lists are faster
        return math.sqrt(sum(x * x for x in ratios))

    low = high = 1e-2 * floor
    while length_at(high) > radius:
        low, high = high, 16.0 * high
    while high > 1.05 * low:
        middle = math.sqrt(low * high)
        length = length_at(middle)
        if length > radius:
            low = middle
        else:
            high = middle
            if length > 0.9 * radius:
                break
    return slope / (lifted + high)


def _is_idle(
    iteration: int,
    theta: FloatArray,
    current: ThetaEvaluation,
    decrement: float,
    known: Sequence[FloatArray],
    hopeless: float,
) -> bool:
    """Whether a search leads to a maximum known already, or nowhere."""
    if iteration > 1 and current.llf + 4.0 * decrement < hopeless:
        return True
    return decrement < 1e-3 and any(
        bool((np.abs(theta - other) < 0.02 * np.maximum(np.abs(other), 1.0)).all())
        for other in known
    )
