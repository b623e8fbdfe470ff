"""
Newton's method within trust regions, for many responses at once.

The steps are those of :mod:`mixedar.engine.newton`, taken for all runs that still move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.engine.batch import LikelihoodBatch
from mixedar.numeric.linalg import inverse_choleskys


@dataclass(frozen=True)
class Ascents:
    """
    Where m runs of Newton's method ended.

    Attributes
    ----------
    theta : ndarray, shape (m, k)
    llf : ndarray, shape (m,)
    gradient : ndarray, shape (m, k)
    hessian : ndarray, shape (m, k, k)
    decrement : ndarray, shape (m,)
        By how much each log-likelihood might still rise.
    converged : ndarray of bool, shape (m,)
    extreme : ndarray of bool, shape (m,)
        Whether the run led to where covariances are not inverted safely.
    """

    theta: FloatArray
    llf: FloatArray
    gradient: FloatArray
    hessian: FloatArray
    decrement: FloatArray
    converged: BoolArray
    extreme: BoolArray

    def take(self, found: Ascents, where: IntArray) -> None:
        """Put other runs in the place of some."""
        for one in fields(self):
            getattr(self, one.name)[where] = getattr(found, one.name)


def climb(
    batch: LikelihoodBatch,
    theta: FloatArray,
    which: IntArray,
    *,
    moving: BoolArray | None = None,
    gtol: float = 1e-6,
    maxiter: int = 200,
    polish: bool = True,
    known: Sequence[FloatArray] = (),
    hopeless: FloatArray | None = None,
) -> Ascents:
    """
    Maximise by Newton's method within trust regions.

    Parameters
    ----------
    batch : LikelihoodBatch
    theta : ndarray, shape (m, k)
        Starts.
    which : ndarray of int, shape (m,)
        Their responses.
    moving : ndarray of bool, shape (m, k), optional
        Parameters that are searched for; the others stay.
    gtol, maxiter, polish
        As in :func:`mixedar.engine.newton.newton`.
    known : sequence of ndarray, each of shape (m, k)
        Maxima found before; NaN where there is none.
    hopeless : ndarray, shape (m,), optional
        Give up where even four times the expected gain stays below.

    Returns
    -------
    Ascents
    """
    run = _Run(batch, theta, which, moving, gtol, polish)
    hopeless = np.full(len(theta), -np.inf) if hopeless is None else hopeless
    for iteration in range(1, maxiter + 1):
        model = run.model()
        least = hopeless if iteration > 1 else None
        on = run.settle(model, known, least)
        if not on.any():
            break
        run.step(model, on)
        if len(run.active) == 0:
            break
    return run.found


class _Run:
    """Where all runs are, and those that are still active."""

    def __init__(
        self,
        batch: LikelihoodBatch,
        theta: FloatArray,
        which: IntArray,
        moving: BoolArray | None,
        gtol: float,
        polish: bool,
    ) -> None:
        self.batch, self.which, self.gtol, self.polish = batch, which, gtol, polish
        theta = theta.copy()
        m = len(theta)
        self.moving = np.ones(theta.shape, dtype=bool) if moving is None else moving
        first = batch.evaluate(theta, which)
        self.found = Ascents(
            theta,
            first.llf,
            first.gradient,
            first.hessian,
            np.full(m, np.inf),
            np.zeros(m, dtype=bool),
            first.extreme & np.isfinite(first.llf),
        )
        self.radius, self.polished = np.ones(m), np.zeros(m, dtype=bool)
        self.active = np.flatnonzero(np.isfinite(first.llf) & ~first.extreme)

    def model(self) -> _Quadratics:
        """Quadratic models of the active runs."""
        return _Quadratics(self.found, self.active, self.moving)

    def settle(
        self,
        model: _Quadratics,
        known: Sequence[FloatArray],
        hopeless: FloatArray | None,
    ) -> BoolArray:
        """End runs that have converged or lead nowhere; returns which go on."""
        found, active, decrement = self.found, self.active, model.decrement
        llf = found.llf[active]
        found.decrement[active] = decrement
        noise = 1e-15 * np.maximum(np.abs(llf), 1.0)
        near = decrement <= np.maximum(self.gtol, noise)
        near &= model.smallest > -1e-7
        ended = near
        if self.polish:
            ended = near & (self.polished[active] | (decrement <= 1e-3 * noise))
        found.converged[active[ended]] = True
        self.polished[active[near]] = True
        idle = decrement < 1e-3
        idle &= _near_known(found.theta, known, active)
        if hopeless is not None:
            idle |= llf + 4.0 * decrement < hopeless[active]
        on = ~(ended | (idle & ~near))
        self.active = active[on]
        return on

    def step(self, model: _Quadratics, on: BoolArray) -> None:
        """Take steps where they gain, and end runs that can gain no more."""
        found, active, last = self.found, self.active, self.radius[self.active]
        theta, scaled = found.theta[active], model.steps(last, on)
        step = scaled * np.maximum(np.abs(theta), 1.0)
        trial = self.batch.evaluate(theta + step, self.which[active])
        bend = (found.hessian[active] @ step[:, :, None])[..., 0]
        predicted = ((found.gradient[active] + 0.5 * bend) * step).sum(axis=1)
        gain, length = trial.llf - found.llf[active], _lengths(scaled)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(predicted > 0.0, gain / predicted, 1.0)
        lost = ~np.isfinite(gain)
        radius = np.where(ratio < 0.25, 0.25 * length, last)
        longer = (ratio > 0.75) & (length > 0.85 * last)
        radius = np.where(longer, np.minimum(2.0 * last, 8.0), radius)
        radius = np.where(lost, 0.25 * np.minimum(last, length), radius)
        self.radius[active] = radius
        # close to the maximum rounding decides about gains; Newton is right
        polished = self.polished[active]
        noise = 1e-15 * np.maximum(np.abs(found.llf[active]), 1.0)
        better = ~lost & ((gain > 0.0) | (polished & (gain > -100.0 * noise)))
        away = better & trial.extreme
        found.extreme[active[away]] = True
        taken = better & ~away
        where = active[taken]
        found.theta[where] = (theta + step)[taken]
        found.llf[where] = trial.llf[taken]
        found.gradient[where] = trial.gradient[taken]
        found.hessian[where] = trial.hessian[taken]
        # within a smaller radius there is even less to gain
        least = np.maximum(self.gtol, noise)
        no_more = self.polish & (predicted >= 0.0) & (predicted <= least)
        stuck = ~better & (((polished | no_more) & ~lost) | (radius < 1e-12))
        close = model.decrement[on] <= 1e4 * least
        found.converged[active[stuck & close]] = True
        self.active = active[~(stuck | away)]


def _near_known(
    theta: FloatArray, known: Sequence[FloatArray], some: IntArray
) -> BoolArray:
    """Whether runs are on their way to a maximum that is known."""
    out = np.zeros(len(some), dtype=bool)
    for maxima in known:
        there = maxima[some]
        apart = np.abs(theta[some] - there)
        out |= (apart < 0.02 * np.maximum(np.abs(there), 1.0)).all(axis=1)
    return out


class _Quadratics:
    """Quadratic models of log-likelihoods; steps are relative to large parameters."""

    def __init__(self, found: Ascents, some: IntArray, moving: BoolArray) -> None:
        scale = np.maximum(np.abs(found.theta[some]), 1.0)
        moves = moving[some]
        both = moves[:, :, None] & moves[:, None, :]
        matrix = found.hessian[some] * (-scale[:, :, None] * scale[:, None, :])
        self.matrix = np.where(both, matrix, np.eye(matrix.shape[1]))
        self.slope = np.where(moves, found.gradient[some] * scale, 0.0)
        m, k = self.slope.shape
        self.newton, self.smallest = np.zeros((m, k)), np.zeros(m)
        self.decrement = np.zeros(m)
        self.whole = np.ones(m, dtype=bool)
        if k == 0:
            return
        with np.errstate(invalid="ignore", divide="ignore"):
            half, pivots, self.whole = inverse_choleskys(self.matrix)
            largest = np.einsum("mii->mi", self.matrix).max(axis=1)
            self.whole &= pivots.min(axis=1) ** 2 > 1e-10 * largest
        turned = half @ self.slope[:, :, None]
        self.newton = (half.transpose(0, 2, 1) @ turned)[..., 0]
        self.decrement = 0.5 * (turned[..., 0] ** 2).sum(axis=1)
        bent = np.flatnonzero(~self.whole)
        if len(bent):
            self._bent(bent)

    def _bent(self, some: IntArray) -> None:
        """Decrement and smallest curvature where the likelihood is not concave."""
        values, vectors = np.linalg.eigh(self.matrix[some])
        slope = (self.slope[some, None] @ vectors)[:, 0]
        curved = np.abs(values) > _floors(values)[:, None]
        size = np.where(curved, np.abs(values), 1.0)
        gain = np.where(curved, slope**2 / size, np.abs(slope)).sum(axis=1)
        self.decrement[some] = 0.5 * gain
        self.smallest[some] = np.minimum(values[:, 0], 0.0)

    def steps(self, radius: FloatArray, on: BoolArray) -> FloatArray:
        """Steps to the models' maxima within radii, of some runs."""
        steps, whole = self.newton[on], self.whole[on]
        length = _lengths(steps)
        short = np.flatnonzero(~(whole & (length <= radius)))
        if len(short):
            values, vectors = np.linalg.eigh(self.matrix[on][short])
            slope = (self.slope[on][short, None] @ vectors)[:, 0]
            turned = _within(values, slope, radius[short])
            steps[short] = (vectors @ turned[:, :, None])[..., 0]
        return steps


def _floors(values: FloatArray) -> FloatArray:
    """Curvatures below are rounding; the values rise along the last axis."""
    size = np.maximum(np.abs(values[:, 0]), np.abs(values[:, -1]))
    return 1e-10 * np.maximum(size, 1e-290)


def _within(values: FloatArray, slope: FloatArray, radius: FloatArray) -> FloatArray:
    """Steps of at most a length each, in the eigenbases of the negative Hessians."""
    floor = _floors(values)
    flat = values <= floor[:, None]
    curved = np.maximum(values, floor[:, None])
    out = np.where(flat, 0.0, slope / curved)
    fits = ~flat.any(axis=1)
    # a saddle, or a flat direction: rounding has to push
    still = ~fits & (np.abs(np.where(flat, slope, 0.0)).max(axis=1) < 1e-12)
    pushed = still & (values[:, 0] < -1e-7)
    out[pushed, 0] = 0.5 * radius[pushed]
    rest = np.flatnonzero(~((fits | still) & (_lengths(out) <= radius)))
    # shift the spectra until the steps fit: |slope / (lifted + shift)| <= radius
    lifted = values[rest] + np.maximum(0.0, -values[rest, :1])
    slope, radius = slope[rest], radius[rest]
    low = 1e-2 * floor[rest]
    high = np.maximum(_lengths(slope) / radius, low)
    for _ in range(14):
        middle = np.sqrt(low * high)
        longer = _lengths(slope / (lifted + middle[:, None])) > radius
        low, high = np.where(longer, middle, low), np.where(longer, high, middle)
    out[rest] = slope / (lifted + high[:, None])
    return out


def _lengths(x: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt((x**2).sum(axis=-1)))
