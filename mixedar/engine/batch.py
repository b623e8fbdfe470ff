"""
The likelihood of one design at many parameter points, and for many responses.

Clusters with the same gaps, marks and random effects share ``H``.  Of their designs
and responses the likelihood needs the products of all pairs of rows, summed over
them, which are formed once for each response.  An evaluation inverts the small
matrices ``H`` of all points together and contracts them with these products:

    S = <H^-1, G>,  dS_k = -<F_k, G>,  F_k = A_k H^-1,  A_k = H^-1 dH_k.

The Hessian wants ``d2S`` contracted with one weight only.  With ``O = <G, weight>``
``d2D_kl + <d2S_kl, weight>`` is

    tr A_k A_l (2 H^-1 O - I) + <d2H_kl, H^-1 - H^-1 O H^-1>.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.engine.batch_patterns import Whitened, numbers_of, patterns_of
from mixedar.engine.blocks.base import ParameterPoints
from mixedar.engine.compress import ClusterRows
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.residuals import needs_matrices
from mixedar.exceptions import UnsupportedError
from mixedar.numeric.autodiff import Jet, embed
from mixedar.numeric.linalg import inverse_choleskys, product
from mixedar.residual import many

if TYPE_CHECKING:
    from typing_extensions import Self

# Entries of matrices that a point may need: with more, points pay one by one, ...
_MOST = 2**15
# ... the sooner where neighbours tell all of clusters of so many rows, ...
_LONG, _MOST_LONG = 12, 2**13
# ... and numbers of the points that are: what caches hold.
_CHUNK = 2**17
# The same where rows were summed before, and work is in few large products.
_CHUNK_OF_SUMS = 2**19
# Numbers of a point from which on points cost more than what is made of them.
_DEAR = 2**15
# Beyond this ratio of variances H is not inverted.
_CONDITION = 1e5


@dataclass(frozen=True)
class BatchPoint:
    """
    The profiled log-likelihood at m points.

    Attributes
    ----------
    llf : ndarray, shape (m,)
        ``-inf`` where it cannot be computed.
    gradient : ndarray, shape (m, k)
    hessian : ndarray, shape (m, k, k)
    extreme : ndarray of bool, shape (m,)
        Whether ``H`` is too far from the identity to be inverted safely.
    """

    llf: FloatArray
    gradient: FloatArray
    hessian: FloatArray
    extreme: BoolArray


@dataclass(frozen=True)
class Profiles:
    """
    What is left of the likelihood at m points once parameters are given.

    Everything is on the user's scale: ``y ~ N(X beta, sigma2 H)`` at a point.

    Attributes
    ----------
    llf : ndarray, shape (m,)
        Profiled (restricted) log-likelihood; ``-inf`` where it cannot be computed.
    beta : ndarray, shape (m, p)
        Generalised least squares estimates.
    root : ndarray, shape (m, p, p)
        ``C`` with ``C C' = (X'H^-1 X)^-1``.
    rss : ndarray, shape (m,)
        ``(y - X beta)'H^-1 (y - X beta)``.
    logdet : ndarray, shape (m,)
        ``log|H|``.
    logdet_x : ndarray, shape (m,)
        ``log|X'H^-1 X|``.
    extreme : ndarray of bool, shape (m,)
        Whether ``H`` is too far from the identity to be inverted safely.
    """

    llf: FloatArray
    beta: FloatArray
    root: FloatArray
    rss: FloatArray
    logdet: FloatArray
    logdet_x: FloatArray
    extreme: BoolArray

    def take(self, some: IntArray) -> Profiles:
        """Those of some of the points."""
        return Profiles(*(getattr(self, field.name)[some] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Profiles]) -> Profiles:
        """Those of some points after those of others."""
        names = [field.name for field in fields(cls)]
        return cls(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in names)
        )


@dataclass(frozen=True)
class _Responses:
    """
    Some responses: what least squares leave of them has unit length.

    `offset` is what least squares take off, shape (p, b), in internal coordinates,
    `unit` the length of the rest, shape (b,), `shift` what it adds to log-likelihoods,
    and `products` those of pairs of rows, for each of the parts.
    """

    offset: FloatArray
    unit: FloatArray
    shift: FloatArray
    log_scale: FloatArray | None
    products: list[tuple[FloatArray, FloatArray]]


@dataclass(frozen=True)
class _Sums:
    """``D`` and ``S`` of points, with first derivatives, and what those are made of."""

    d: FloatArray
    s: FloatArray
    d1: FloatArray
    s1: FloatArray
    sound: BoolArray
    extreme: BoolArray


class LikelihoodBatch:
    """
    The likelihood of a problem for one or many responses.

    Parameters
    ----------
    problem : LikelihoodProblem
        Without further terms; its response does not matter.
    rows : ClusterRows
        On the user's scale; the columns of `w` beyond the fixed effects' design are
        responses.  Clusters may be compressed if there is one.

    Raises
    ------
    UnsupportedError
        If a point needs so many numbers that it pays to take points one by one, or
        levels of further terms link clusters.
    """

    def __init__(self, problem: LikelihoodProblem, rows: ClusterRows) -> None:
        self.problem = problem
        self.p = len(problem.w_map) - 1
        self.x_map = problem.w_map[: self.p, : self.p]
        self.log_map = float(np.log(np.abs(np.diagonal(self.x_map))).sum())
        structure, covariance = problem.structure, problem.covariance
        origin = covariance.jet(np.zeros(problem.k_cov_free))
        self._origin, self._bends = origin, origin.second
        self._level = levels_of(problem)
        x = product(rows.w[:, : self.p], self.x_map)
        z = product(rows.z, problem.z_map)
        self._x = x
        long = int(np.diff(rows.offsets).max(initial=0)) > _LONG
        most = _MOST_LONG if long and not needs_matrices(structure) else _MOST
        self.parts = patterns_of(rows, z, structure, covariance, most)
        if problem.term_maps or not self.parts:
            raise UnsupportedError("points of this likelihood are not taken together")
        self.responses = self._taken(rows.w[:, self.p :])

    def _taken(self, y: FloatArray) -> _Responses:
        """Responses, shape (n, b), as the batch needs them."""
        n, x, problem = self.problem.n, self._x, self.problem
        offset = product(x.T, y) / n
        left = y - product(x, offset)
        again = product(x.T, left) / n  # what rounding left
        left = left - product(x, again)
        unit = np.sqrt((left**2).sum(axis=0) / n)
        safe = np.where(unit > 0.0, unit, 1.0)
        logs = np.log(safe)
        shift = -self.df * logs
        if problem.reml:
            shift = shift + self.log_map
        log_scale = None
        if problem.scale is not None:
            log_scale = np.log(problem.scale) - 2.0 * logs
        products = [part.products(x, left / safe) for part in self.parts]
        return _Responses(offset + again, unit, shift, log_scale, products)

    def of_responses(self, y: FloatArray) -> Self:
        """The same for other responses, shape (n, b), in the order of the rows."""
        other = copy.copy(self)
        other.responses = self._taken(y)
        return other

    @property
    def df(self) -> int:
        """What the residual sum of squares is divided by."""
        return self.problem.n - self.p if self.problem.reml else self.problem.n

    @property
    def numbers_per_response(self) -> int:
        """How many numbers are kept of each response."""
        return sum(part.g * part.n**2 for part in self.parts) * (self.p + 1)

    def covariances(self, theta: FloatArray) -> FloatArray:
        """Entries of the user's ``Psi``, relative to the residual variance."""
        return self._entries(theta).value @ self.problem.value_map().T

    def evaluate(
        self, theta: FloatArray, which: IntArray, *, derivatives: bool = True
    ) -> BatchPoint:
        """
        Log-likelihoods, gradients and Hessians.

        Parameters
        ----------
        theta : ndarray, shape (m, k)
            The optimiser's coordinates, as the problem's.
        which : ndarray of int, shape (m,)
            The response of each point.
        derivatives : bool

        Returns
        -------
        BatchPoint
        """
        m, k = theta.shape
        llf, extreme = np.empty(m), np.empty(m, dtype=bool)
        size = k if derivatives else 0
        gradient, hessian = np.empty((m, size)), np.empty((m, size, size))
        for some in self._chunks(m):
            with np.errstate(all="ignore"):
                found = self._evaluate(theta[some], which[some], derivatives)
            llf[some], gradient[some], hessian[some], extreme[some] = found
        bad = ~np.isfinite(llf)
        if derivatives:
            bad |= ~np.isfinite(gradient).all(axis=1)
            bad |= ~np.isfinite(hessian).all(axis=(1, 2))
        llf[bad] = -np.inf
        return BatchPoint(llf, gradient, hessian, extreme)

    def profiles(self, theta: FloatArray, which: IntArray) -> Profiles:
        """
        What the likelihood at points is made of, on the user's scale.

        Parameters
        ----------
        theta, which
            As for :meth:`evaluate`.

        Returns
        -------
        Profiles
        """
        with np.errstate(all="ignore"):
            chunks = self._chunks(len(theta))
            parts = [self._profiles(theta[some], which[some]) for some in chunks]
        return Profiles.joined(parts)

    def _chunks(self, m: int) -> Iterator[slice]:
        step = max(1, _CHUNK // numbers_of(self.parts, self.p + 1))
        for first in range(0, max(m, 1), step):
            yield slice(first, min(first + step, m))

    def _entries(self, theta: FloatArray) -> Jet:
        """Entries of ``Psi`` at points, (m, k_cov), by all of theta."""
        problem, origin = self.problem, self._origin
        lam, u = theta[:, : problem.k_cov_free], theta[:, problem.k_cov_free :]
        slope = np.tensordot(lam, self._bends, axes=1)  # (m, free, k_cov)
        value = origin.value + lam @ origin.first
        value = value + 0.5 * (lam[:, None] @ slope)[:, 0]
        first = origin.first[:, None] + slope.transpose(1, 0, 2)
        out = embed(Jet(value, first, self._bends[:, :, None]), 0, problem.k_theta)
        if self._level is None:
            return out
        level = self._level(u)[:, None]
        return out * np.exp(2.0 * embed(level, problem.k_cov_free, problem.k_theta))

    def _evaluate(
        self, theta: FloatArray, which: IntArray, derivatives: bool
    ) -> tuple[FloatArray, FloatArray, FloatArray, BoolArray]:
        entries = self._entries(theta)
        u = theta[:, self.problem.k_cov_free :]
        white = [part.at(entries.value, u, derivatives) for part in self.parts]
        sums = self._sums(white, which)
        half, pivots, sound = inverse_choleskys(sums.s)
        llf, ratio = self._llf(sums, pivots, which)
        llf[~(sums.sound & sound)] = -np.inf
        if not derivatives:
            k = 0
            return (
                llf,
                np.empty((len(llf), k)),
                np.empty((len(llf), k, k)),
                sums.extreme,
            )
        p, reml = self.p, float(self.problem.reml)
        by_row = np.full((len(llf), p + 1), reml)
        by_row[:, p] = ratio
        weight = half.transpose(0, 2, 1) @ (half * by_row[:, :, None])
        turned = half[:, None] @ sums.s1 @ half.transpose(0, 2, 1)[:, None]
        by_v = sums.d1 + np.einsum("mkii,mi->mk", turned, by_row)
        taken = np.empty((len(llf), p + 1, p + 1))
        taken[:] = ratio[:, None, None]
        taken[:, :p, :p] = reml
        if self.responses.log_scale is not None:
            taken[:, p, p] = 0.0
        flat = turned.reshape(*turned.shape[:2], -1)
        bend = -(flat * taken.reshape(len(llf), 1, -1)) @ flat.transpose(0, 2, 1)
        for part, here, y in zip(
            self.parts, white, self.responses.products, strict=True
        ):
            bend += part.curvature(here, part.outer(weight, y, which))
        gradient, hessian = _by_theta(entries, -0.5 * by_v, -0.5 * bend)
        return llf, gradient, hessian, sums.extreme

    def _sums(self, white: list[Whitened], which: IntArray) -> _Sums:
        """Sums over all patterns."""
        found = [
            part.sums(here, y, which)
            for part, here, y in zip(
                self.parts, white, self.responses.products, strict=True
            )
        ]
        d = np.sum([logdet for logdet, _ in found], axis=0)
        stacked = np.sum([terms for _, terms in found], axis=0)
        sound = np.logical_and.reduce([here.sound for here in white])
        worst = np.max([here.condition for here in white], axis=0)
        d1 = np.sum([here.d1 for here in white], axis=0)
        s1 = -stacked[:, 1:]
        return _Sums(d, stacked[:, 0], d1, s1, sound, ~(worst < _CONDITION))

    def _llf(
        self, sums: _Sums, pivots: FloatArray, which: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Log-likelihoods, and the residual sum of squares by the variance."""
        df, p = self.df, self.p
        rss = pivots[:, p] ** 2
        if self.responses.log_scale is None:
            log_scale, ratio = np.log(rss / df), np.full(len(rss), float(df))
        else:
            log_scale = self.responses.log_scale[which]
            ratio = rss / np.exp(log_scale)
        logs = df * (np.log(2.0 * np.pi) + log_scale) + ratio
        if self.problem.reml:
            logs = logs + 2.0 * np.log(pivots[:, :p]).sum(axis=1)
        return self.responses.shift[which] - 0.5 * (sums.d + logs), ratio

    def _profiles(self, theta: FloatArray, which: IntArray) -> Profiles:
        entries = self._entries(theta)
        u = theta[:, self.problem.k_cov_free :]
        white = [part.at(entries.value, u, False) for part in self.parts]
        sums = self._sums(white, which)
        half, pivots, sound = inverse_choleskys(sums.s)
        llf, _ = self._llf(sums, pivots, which)
        llf[~(sums.sound & sound & np.isfinite(llf))] = -np.inf
        p, unit = self.p, self.responses.unit[which]
        inner = -half[:, p, :p] * pivots[:, p, None]
        beta = (self.responses.offset.T[which] + unit[:, None] * inner) @ self.x_map.T
        root = self.x_map @ half[:, :p, :p].transpose(0, 2, 1)
        logdet_x = 2.0 * (np.log(pivots[:, :p]).sum(axis=1) - self.log_map)
        rss = (pivots[:, p] * unit) ** 2
        return Profiles(llf, beta, root, rss, sums.d, logdet_x, sums.extreme)


def levels_of(problem: LikelihoodProblem) -> Callable[[FloatArray], Jet] | None:
    """:meth:`LikelihoodProblem.level` at many points, (m, k_free) to (m,)."""
    if problem.typical_rows is None:
        return None
    positions, shares = problem.typical_rows
    log_sd, k = many.log_sd(problem.structure, positions), problem.structure.k_free
    if log_sd is None:
        return None
    return lambda u: (log_sd(u[:, :k]) * shares).sum(axis=-1)


class ManyPoints:
    """
    The likelihood of a fit at many parameter points.

    Of groups with few rows and matrices of few patterns these are inverted; of others,
    and with random effects of several factors, sums of rows are taken together, as far
    as their blocks can.

    Parameters
    ----------
    problem : LikelihoodProblem
    rows : ClusterRows
        Those that it was made of.
    """

    def __init__(self, problem: LikelihoodProblem, rows: ClusterRows) -> None:
        self._problem, self._inverted = problem, None
        self._level = levels_of(problem)
        if not rows.terms:
            with suppress(UnsupportedError):
                self._inverted = LikelihoodBatch(problem, rows)

    @property
    def is_dear(self) -> bool:
        """Whether points are taken one by one, or large matrices of each factored."""
        numbers = sum(block.numbers for block in self._problem.blocks)
        return self._inverted is None and (self._is_one_by_one or numbers > _DEAR)

    @property
    def _is_one_by_one(self) -> bool:
        return not all(block.numbers for block in self._problem.blocks)

    def profiles(self, theta: FloatArray) -> Profiles:
        """
        What the likelihood at points is made of.

        Parameters
        ----------
        theta : ndarray, shape (m, k)
            The optimiser's coordinates.

        Returns
        -------
        Profiles
        """
        if self._inverted is None:
            return self._from_sums(theta)
        found = self._inverted.profiles(theta, np.zeros(len(theta), dtype=np.intp))
        some = np.flatnonzero(found.extreme)
        if len(some):
            safe = self._from_sums(theta[some])
            for field in fields(found):
                getattr(found, field.name)[some] = getattr(safe, field.name)
        return found

    def _points(self, theta: FloatArray) -> ParameterPoints:
        """The parameters as blocks take them."""
        covariance = self._problem.covariance
        lam, u = np.split(theta, [self._problem.k_cov_free], axis=1)
        factors, of_terms = covariance.many_factors(lam)
        if self._level is not None:
            unit = np.exp(self._level(u).value)[:, None, None]
            factors, of_terms = factors * unit, tuple(f * unit for f in of_terms)
        return ParameterPoints(covariance, factors, u, of_terms)

    def sums(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``D`` and ``S`` at points; NaN where they cannot be computed."""
        m, side = len(theta), len(self._problem.w_map)
        logdet, inner = np.full(m, np.nan), np.full((m, side, side), np.nan)
        points, blocks = self._points(theta), self._problem.blocks
        numbers = sum(block.numbers for block in blocks)
        step = 1 if self._is_one_by_one else max(1, _CHUNK_OF_SUMS // numbers)
        for first in range(0, m, step):
            some = slice(first, first + step)
            if self._add(points, some, logdet, inner):
                continue
            for k in range(first, min(first + step, m)):
                self._add(points, slice(k, k + 1), logdet, inner)
        return logdet, inner

    def _add(
        self,
        points: ParameterPoints,
        some: slice,
        logdet: FloatArray,
        inner: FloatArray,
    ) -> bool:
        """Write the sums of some points; whether all can be computed."""
        own = points.take(some)
        try:
            found = [block.values(own) for block in self._problem.blocks]
        except np.linalg.LinAlgError:
            return False
        logdet[some] = np.sum([d for d, _ in found], axis=0)
        inner[some] = np.sum([s for _, s in found], axis=0)
        return True

    def _from_sums(self, theta: FloatArray) -> Profiles:
        """The same from sums of rows."""
        problem, m = self._problem, len(theta)
        p, w_map = len(problem.w_map) - 1, problem.w_map
        logdet, inner = self.sums(theta)
        with np.errstate(all="ignore"):
            half, pivots, sound = inverse_choleskys(inner)
            # the map is triangular: y = X beta is [-beta, 1] times its last column
            combined = np.concatenate(
                [half[:, p, :p] * pivots[:, p, None], np.ones((m, 1))], axis=1
            )
            beta = -(combined @ w_map[:p].T) / w_map[p, p]
            logs = np.log(pivots[:, :p]).sum(axis=1)
            df, rss = problem.n - p * problem.reml, pivots[:, p] ** 2
            known = problem.log_scale
            log_scale = np.log(rss / df) if known is None else np.full(m, known)
            terms = df * (np.log(2.0 * np.pi) + log_scale) + rss / np.exp(log_scale)
            llf = problem.shift - 0.5 * (logdet + terms + 2.0 * logs * problem.reml)
        x_map = w_map[:p, :p]
        log_map = np.log(np.abs(np.diagonal(x_map))).sum()
        root = x_map @ half[:, :p, :p].transpose(0, 2, 1)
        none = np.zeros(m, dtype=bool)
        return Profiles(
            np.where(sound & np.isfinite(llf), llf, -np.inf),
            beta,
            root,
            rss / w_map[p, p] ** 2,
            logdet,
            2.0 * (logs - log_map),
            none,
        )


def _by_theta(
    entries: Jet, gradient: FloatArray, hessian: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The chain rule, from entries of ``Psi`` and residual parameters to theta."""
    (m, k_cov), k = entries.shape, entries.k
    slopes = np.zeros((m, k, gradient.shape[1]))
    slopes[:, :, :k_cov] = entries.first.transpose(1, 0, 2)
    rest = gradient.shape[1] - k_cov
    slopes[:, np.arange(k - rest, k), np.arange(k_cov, k_cov + rest)] = 1.0
    second = slopes @ hessian @ slopes.transpose(0, 2, 1)
    second += (entries.second * gradient[:, :k_cov]).sum(axis=3).transpose(2, 0, 1)
    return (slopes @ gradient[:, :, None])[..., 0], second
