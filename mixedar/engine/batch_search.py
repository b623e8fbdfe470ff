"""
Maxima of the likelihood for many responses at once.

The search is that of :mod:`mixedar.engine.search`, with the same starting points,
steps and ends; each step is taken for all responses that still move.
"""

from __future__ import annotations

import numpy as np

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.engine.batch import LikelihoodBatch
from mixedar.engine.batch_newton import Ascents, climb
from mixedar.engine.search import AWAY, FOLLOWED, n_scattered
from mixedar.engine.starts import (
    FAR,
    HARDLY_CURVED,
    HOPELESS,
    ROUGH_GAIN,
    ROUGH_STEPS,
    START_RATIOS,
    Profiled,
    lifted,
    top_between,
)


class BatchSearch:
    """
    The highest maxima of the likelihood for some responses.

    Parameters
    ----------
    batch : LikelihoodBatch
    which : ndarray of int, shape (m,)
        The responses.
    gtol, maxiter, polish
        As in :func:`climb`.

    Attributes
    ----------
    theta : ndarray, shape (m, k)
    llf : ndarray, shape (m,)
        Of the highest maximum found so far.
    """

    def __init__(
        self,
        batch: LikelihoodBatch,
        which: IntArray,
        *,
        gtol: float = 1e-6,
        maxiter: int = 200,
        polish: bool = True,
    ) -> None:
        m, k = len(which), batch.problem.k_theta
        self.batch, self.which = batch, which
        self._gtol, self._maxiter, self._polish = gtol, maxiter, polish
        self.theta, self.llf = np.full((m, k), np.nan), np.full(m, -np.inf)
        self._stopped = np.full(m, -np.inf)  # the best of searches that stopped short
        self.extreme = np.zeros(m, dtype=bool)
        self._known: list[FloatArray] = []
        self._ends: list[FloatArray] = []

    @property
    def sound(self) -> BoolArray:
        """Which maxima are those of a search for one response, shape (m,)."""
        higher = self._stopped > self.llf + 1e-6
        return np.isfinite(self.llf) & ~higher & ~self.extreme

    def follow(
        self,
        theta: FloatArray,
        some: IntArray | None = None,
        hopeless: FloatArray | None = None,
    ) -> None:
        """
        Climb from starting points, one for each of some of the members.

        Parameters
        ----------
        theta : ndarray, shape (s, k) or (k,)
        some : ndarray of int, shape (s,), optional
            All by default.
        hopeless : ndarray, shape (s,), optional
        """
        some = np.arange(len(self.which)) if some is None else some
        theta = np.broadcast_to(theta, (len(some), theta.shape[-1]))
        if len(some) == 0:
            return
        known = [maxima[some] for maxima in self._known]
        found = self._climb(theta, some, known=known, hopeless=hopeless)
        ends = self._at_ends(found, some)
        inside = ends == found.theta
        moved = np.flatnonzero(~inside.all(axis=1) & np.isfinite(found.llf))
        if len(moved):
            again = self._climb(ends[moved], some[moved], moving=inside[moved])
            found.take(again, moved)
        self._record(found, some, hopeless)

    def _climb(self, theta: FloatArray, some: IntArray, **options: object) -> Ascents:
        return climb(
            self.batch,
            theta,
            self.which[some],
            gtol=self._gtol,
            maxiter=self._maxiter,
            polish=self._polish,
            **options,  # type: ignore[arg-type]
        )

    def _record(
        self, found: Ascents, some: IntArray, hopeless: FloatArray | None
    ) -> None:
        self.extreme[some[found.extreme]] = True
        done = found.converged
        maxima = np.full(self.theta.shape, np.nan)
        maxima[some[done]] = found.theta[done]
        ends = np.full(self.theta.shape, np.nan)
        ends[some] = found.theta
        self._ends.append(ends)
        first = ~np.isfinite(self.llf[some])
        higher = done & (found.llf > self.llf[some])
        self.theta[some[higher]] = found.theta[higher]
        self.llf[some[higher]] = found.llf[higher]
        left = ~done & np.isfinite(found.llf)
        left &= first if hopeless is None else first | (found.llf > hopeless)
        self._stopped[some[left]] = np.maximum(
            self._stopped[some[left]], found.llf[left]
        )
        self._known.append(maxima)

    def _values(
        self, theta: FloatArray, some: IntArray, least: FloatArray
    ) -> FloatArray:
        """Log-likelihoods; members that would have to go too far are noted."""
        found = self.batch.evaluate(theta, self.which[some], derivatives=False)
        away = found.extreme & (found.llf >= least)
        self.extreme[some[away]] = True
        return np.where(found.extreme, -np.inf, found.llf)

    def _at_ends(self, found: Ascents, some: IntArray) -> FloatArray:
        """Where runs lead: to ends of residual parameters if these are as high."""
        problem = self.batch.problem
        theta, llf = found.theta.copy(), found.llf.copy()
        noise = 1e-8 + 1e-13 * np.abs(llf)
        curvature = np.abs(np.einsum("mii->mi", found.hessian))
        for k in range(problem.k_cov_free, problem.k_theta):
            settled = found.converged & (curvature[:, k] > HARDLY_CURVED)
            rows = np.flatnonzero(~settled & np.isfinite(llf))
            if len(rows) == 0:
                continue
            ends = np.repeat(theta[rows][:, None], 2, axis=1)
            ends[:, 0, k], ends[:, 1, k] = -FAR, FAR
            both = np.repeat(some[rows], 2)
            limit = llf[rows] - noise[rows]
            values = self._values(
                ends.reshape(len(both), -1), both, np.repeat(limit, 2)
            ).reshape(-1, 2)
            best, pick = values.argmax(axis=1), np.arange(len(rows))
            # where both are as high the parameter has no effect: it stays
            taken = (values[pick, best] >= limit) & (limit > values[pick, 1 - best])
            theta[rows[taken]] = ends[pick, best][taken]
            llf[rows[taken]] = np.maximum(llf[rows], values[pick, best])[taken]
        return theta

    def usual_starts(self) -> None:
        """Follow the starting points that a search for one response has."""
        problem = self.batch.problem
        if problem.structure.k_free == 1:
            rounds = self._between_slopes()
        else:
            rounds = self._separate()
        for llf, theta in rounds:
            some = np.flatnonzero(np.isfinite(llf))
            self.follow(theta[some], some)
        if problem.structure.k_free > 1:
            self._scattered()

    def again(self, some: IntArray) -> None:
        """Follow the usual starting points of some members, whose maxima seem low."""
        other = BatchSearch(
            self.batch,
            self.which[some],
            gtol=self._gtol,
            maxiter=self._maxiter,
            polish=self._polish,
        )
        if len(some):
            other.usual_starts()
        higher = other.sound & ~(other.llf <= self.llf[some])
        self.theta[some[higher]] = other.theta[higher]
        self.llf[some[higher]] = other.llf[higher]
        self.extreme[some] |= ~other.sound

    def _first_factor(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Free entries of ``Lambda`` that are the most likely of a few, at `u`."""
        problem, m = self.batch.problem, len(self.which)
        cov = problem.covariance
        unit, count = cov.on_diagonal.astype(float), max(sum(cov.blocks), 1)
        lam, best = np.zeros((m, problem.k_cov_free)), np.full(m, -np.inf)
        some = np.arange(m)
        for ratio in START_RATIOS if problem.k_cov_free else (1.0,):
            entries = (np.sqrt(ratio / count) * unit)[cov.is_free]
            theta = np.tile(np.concatenate([entries, u]), (len(some), 1))
            values = self._values(theta, some, best[some])
            higher = values > best[some]
            lam[some[higher]], best[some[higher]] = entries, values[higher]
            # the ratios rise: past the top the others need not be tried
            some = some[higher | ~np.isfinite(best[some])]
            if len(some) == 0:
                break
        return lam, best

    def _profiled(
        self, lam: FloatArray, u: FloatArray, some: IntArray, hopeless: FloatArray
    ) -> Profiled:
        """The likelihood nearly maximised over ``Lambda``, at a residual parameter."""
        m, k = lam.shape
        theta = np.concatenate([lifted(lam), np.tile(u, (m, 1))], axis=1)
        moving = np.zeros(theta.shape, dtype=bool)
        moving[:, :k] = True
        found = climb(
            self.batch,
            theta,
            self.which[some],
            moving=moving,
            gtol=ROUGH_GAIN,
            maxiter=ROUGH_STEPS,
            polish=False,
            hopeless=hopeless,
        )
        self.extreme[some[found.extreme]] = True
        llf, turn, best = found.llf.copy(), np.zeros((m, k)), found.theta[:, :k]
        slope = found.gradient[:, k].copy() if len(u) else np.zeros(m)
        if k and len(u):
            sound = np.isfinite(llf)[:, None, None]
            matrix = np.where(sound, -found.hessian[:, :k, :k], np.eye(k))
            values, vectors = np.linalg.eigh(matrix)
            bent = (values[:, 0] > 1e-8 * values[:, -1])[:, None]
            safe = np.where(bent, values, 1.0)
            right = np.stack([found.gradient[:, :k], found.hessian[:, k, :k]], axis=2)
            turned = vectors.transpose(0, 2, 1) @ right
            steps = vectors @ (turned / safe[:, :, None])
            step, turn = (np.where(bent, steps[:, :, x], 0.0) for x in (0, 1))
            slope += (found.hessian[:, k, :k] * step).sum(axis=1)
            llf += 0.5 * (found.gradient[:, :k] * step).sum(axis=1)
            best = best + step
        return Profiled(found.theta, best, llf, slope, turn)

    def _between_slopes(self) -> list[tuple[FloatArray, FloatArray]]:
        """Points where the profile's slope changes from rising to falling."""
        problem, m = self.batch.problem, len(self.which)
        grid = np.array(problem.structure.start_grid())
        lam, value = self._first_factor(grid[0])
        shape, k = (len(grid), m), problem.k_cov_free
        points = Profiled(
            np.full((*shape, problem.k_theta), np.nan),
            np.full((*shape, k), np.nan),
            np.full(shape, -np.inf),
            np.full(shape, np.nan),
            np.zeros((*shape, k)),
        )

        def visit(i: int, some: IntArray, start: FloatArray, least: FloatArray) -> None:
            found = self._profiled(start, grid[i], some, least)
            for kept, one in zip(points, found, strict=True):
                kept[i, some] = one

        everyone = np.flatnonzero(np.isfinite(value))
        visit(0, everyone, lam[everyone], np.full(len(everyone), -np.inf))
        by_u = np.argsort(grid[:, 0])
        middle = int(np.flatnonzero(by_u == 0)[0])
        for outward, side in ((-1.0, by_u[:middle][::-1]), (1.0, by_u[middle + 1 :])):
            last, some = 0, everyone
            for i in side:
                before = points.at(last, some)
                best = points.llf.max(axis=0)[some]
                falling = before.slope * outward < 0.0
                on = ~(falling & (before.llf < best - HOPELESS))
                on &= np.isfinite(before.llf)
                some, best = some[on], best[on]
                if len(some) == 0:
                    break
                start = points.at(last, some).lam_at(grid[i, 0])
                visit(i, some, start, best - HOPELESS)
                last = i
        return self._turns(points.at(by_u))

    def _turns(self, points: Profiled) -> list[tuple[FloatArray, FloatArray]]:
        """Starting points from those along a grid, the most promising first."""
        thetas, llfs = points.theta, points.llf
        there = np.isfinite(llfs)
        rank = np.arange(len(llfs))[:, None]
        first, last = there.argmax(axis=0), len(llfs) - 1 - there[::-1].argmax(axis=0)
        with np.errstate(invalid="ignore"):
            rising = points.slope > 0.0
        chosen = []
        for edge, sign in ((first, False), (last, True)):
            found = there & (rank == edge) & (rising == sign)
            chosen += [
                (np.where(here, llf, -np.inf), theta)
                for here, llf, theta in zip(found, llfs, thetas, strict=True)
                if here.any()
            ]
        for i in range(len(llfs) - 1):
            turns = there[i] & there[i + 1] & rising[i] & ~rising[i + 1]
            some = np.flatnonzero(turns)
            if len(some) == 0:
                continue
            theta = top_between(points.at(i, some), points.at(i + 1, some))
            nearer = (llfs[i] >= llfs[i + 1])[some]
            near = np.where(nearer[:, None], thetas[i, some], thetas[i + 1, some])
            height = np.maximum(llfs[i], llfs[i + 1])
            lower = self._values(theta, some, height[some]) < height[some]
            starts = np.full(thetas.shape[1:], np.nan)
            starts[some] = np.where(lower[:, None], near, theta)
            chosen.append((np.where(turns, height, -np.inf), starts))
        return _ranked(chosen)

    def _separate(self) -> list[tuple[FloatArray, FloatArray]]:
        """Points of the grid, roughly maximised over ``Lambda``, the best first."""
        m, k, chosen = len(self.which), self.batch.problem.k_theta, []
        for u in self.batch.problem.structure.start_grid():
            lam, value = self._first_factor(u)
            some = np.flatnonzero(np.isfinite(value))
            theta, llf = np.full((m, k), np.nan), np.full(m, -np.inf)
            none = np.full(len(some), -np.inf)
            found = self._profiled(lam[some], u, some, none)
            theta[some], llf[some] = found.theta, found.llf
            chosen.append((llf, theta))
        return _ranked(chosen)

    def _scattered(self) -> None:
        """Follow further starting points, as a search for one response does."""
        problem = self.batch.problem
        structure, count = problem.structure, n_scattered(problem)
        some = np.flatnonzero(np.isfinite(self.llf) & ~(self._stopped > self.llf))
        if count == 0 or len(some) == 0:
            return
        grid, rng = (
            list(structure.start_grid()),
            np.random.default_rng(structure.k_free),
        )
        lam = lifted(self.theta[some, : problem.k_cov_free], 0.3)
        best, promise, ends = self.llf[some], [], []
        for k in range(count):
            u = grid[k % len(grid)] + rng.normal(size=structure.k_free) * AWAY
            found = climb(
                self.batch,
                np.concatenate([lam, np.tile(u, (len(some), 1))], axis=1),
                self.which[some],
                gtol=ROUGH_GAIN,
                maxiter=ROUGH_STEPS,
                polish=False,
                hopeless=best,
            )
            self.extreme[some[found.extreme]] = True
            near = np.zeros(len(some), dtype=bool)
            for known in self._ends:
                there = np.abs(known[some])
                apart = np.abs(np.abs(found.theta) - there)
                near |= (apart < 0.1 * np.maximum(there, 1.0)).all(axis=1)
            height = found.llf + np.minimum(found.decrement, HOPELESS)
            promise.append(np.where(near, -np.inf, height))
            ends.append(found.theta)
        order = np.argsort(-np.array(promise), axis=0, kind="stable")
        for place in order[:FOLLOWED]:
            picked, pick = np.array(ends), np.arange(len(some))
            on = np.isfinite(np.array(promise)[place, pick])
            height = np.maximum(self.llf, self._stopped)[some]
            self.follow(picked[place, pick][on], some[on], height[on])


def _ranked(
    chosen: list[tuple[FloatArray, FloatArray]],
) -> list[tuple[FloatArray, FloatArray]]:
    """The same, so that the first holds the most promising point of each member."""
    llfs = np.array([llf for llf, _ in chosen])
    thetas = np.array([theta for _, theta in chosen])
    order, columns = np.argsort(-llfs, axis=0, kind="stable"), np.arange(llfs.shape[1])
    return [(llfs[place, columns], thetas[place, columns]) for place in order]
