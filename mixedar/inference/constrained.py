"""
The log-likelihood with one covariance parameter held.

The optimiser works with ratios and profiles the residual variance out.  Intervals
for standard deviations on the scale of the data hold one of them fixed, so here
the residual variance is a coordinate like the others: all coordinates are
``y = (entries of a root of the covariance of the random effects, u, s)`` with ``s``
the logarithm of the residual variance and ``u`` the unconstrained residual
parameters.  One of them follows from the held parameter.

Where k effects share a variance and a covariance, their root has two eigenvalues, of
their mean and of their differences: ``sd sqrt(k) sin(a)`` and
``sd sqrt(k / (k - 1)) cos(a)`` with the standard deviation ``sd`` and an angle ``a``
that the correlation is a function of.  One of both is free then, the other held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.covariance import Place, RandomCovariance
from mixedar.engine.likelihood import cluster_sums, profile
from mixedar.exceptions import NotComputedError
from mixedar.fit import Fit
from mixedar.fit.parameters import CovarianceParameter
from mixedar.numeric.autodiff import Jet, chain, clip, linear, variables
from mixedar.numeric.linalg import r_factor

# Newton steps to hold a parameter of several coordinates.
_MOST_STEPS = 60


@dataclass(frozen=True)
class PathStart:
    """
    A point on the user's scale from which coordinates are computed.

    Attributes
    ----------
    roots : tuple of ndarray
        Of the covariance of each block: the correlated random effects, variance
        components, further terms.
    u : ndarray, shape (k_free,)
    s : float
        Logarithm of the residual variance.
    """

    roots: tuple[FloatArray, ...]
    u: FloatArray
    s: float


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


@dataclass(frozen=True)
class ConstrainedPoint:
    """
    Log-likelihood at a point.

    Attributes
    ----------
    llf : float
    gradient, hessian : ndarray
        By the free coordinates.
    slope : float
        Derivative by the held parameter's path coordinate.
    cross : ndarray
        Mixed derivatives by free coordinates and path coordinate.
    """

    llf: float
    gradient: FloatArray
    hessian: FloatArray
    slope: float
    cross: FloatArray

    def round_coordinates(self, natural: FloatArray) -> FloatArray:
        """Coordinates in which the log-likelihood is round where that is possible."""
        k = len(natural)
        if k == 0:
            return np.eye(0)
        diagonal = np.abs(np.diag(self.hessian))
        length = 1.0 / np.sqrt(np.maximum(diagonal, 1e-2 / natural**2))
        scaled = -self.hessian * np.outer(length, length)
        values, vectors = np.linalg.eigh(scaled)
        return length[:, None] * vectors / np.sqrt(np.maximum(np.abs(values), 1e-3))


class ConstrainedLikelihood:
    """
    The (restricted) log-likelihood with one parameter held.

    Parameters
    ----------
    fit : Fit
    parameter : CovarianceParameter

    Raises
    ------
    NotComputedError
        If entries of the factor are held in a pattern that reordering its rows
        would destroy.
    """

    def __init__(self, fit: Fit, parameter: CovarianceParameter) -> None:
        self.problem = problem = fit.problem
        self.parameter = parameter
        self._to_inner = np.linalg.inv(problem.value_map()).astype(np.float64)
        self._inner_z = np.linalg.inv(problem.z_map)
        self._response = 2.0 * float(np.log(abs(problem.w_map[-1, -1])))
        cov = problem.covariance
        self.layout = RandomCovariance.free(
            cov.k_re, cov.vc_sizes, cov.terms, compound=cov.compound
        )
        self._blocks = self.layout.places
        own = self._own_block()
        #: the first entry of the parameter's block
        self._lead = self._blocks[own].entries.start
        self.order = np.arange(sum(self.layout.blocks))
        effects = self._blocks[own].effects
        if not parameter.alike:
            self.order[effects] = effects.start + _rows_order(effects, parameter)
        #: held entries of the user's relative factor, NaN where free
        self.fixed = self._reordered(fit.layout.fixed.copy(), self._blocks[own])
        # where the entries of the user's covariance stand in the reordered one
        self._entries = np.arange(self.layout.k_cov)
        for k, (a, b) in enumerate(zip(*self.layout.effects, strict=True)):
            i, j = self.order[a], self.order[b]
            self._entries[self.layout.entry(i, j)] = k
        k_cov = self.layout.k_cov
        self.k_y = k_cov + problem.parameters.k_free + 1
        self._at = self._dependent()
        free = np.ones(self.k_y, dtype=bool)
        free[:k_cov] = np.isnan(self.fixed)
        # what is at the end of its range is known to the others
        self._known = k_cov + parameter.others_at_end
        free[self._known] = False
        free[-1] = problem.scale is None
        free[self._at] = False
        self.free = np.flatnonzero(free)
        held = np.isfinite(self.fixed) & (self.fixed != 0.0)
        self._held: list[int] = np.flatnonzero(held).tolist()
        self._last: float | None = None
        #: where the variance that a covariance needs is among the free coordinates
        self.lead = int(np.searchsorted(self.free, self._lead))
        # for correlations: logarithms of the two standard deviations
        both = [self.lead] if parameter.alike else [self.lead, self.lead + 1]
        self.logs = both if parameter.path == "corr" else []

    def _own_block(self) -> int:
        """The block of the held parameter; the first if it is in none."""
        if self.parameter.path not in ("sd", "cov", "corr"):
            return 0
        ends = [block.effects.stop for block in self._blocks]
        return int(np.searchsorted(ends, self.parameter.i, side="right"))

    def _reordered(self, fixed: FloatArray, block: Place) -> FloatArray:
        """The held entries of the factor whose rows are in another order."""
        entries = fixed[block.entries]
        order = self.order[block.effects] - block.effects.start
        if (order == np.arange(len(order))).all() or np.isnan(entries).all():
            return fixed
        rows, columns = np.tril_indices(len(order))
        on_diagonal = rows == columns
        if not (entries[~on_diagonal] == 0.0).all():
            raise NotComputedError(
                "no profile: entries of the random-effects factor are held in a "
                "pattern that reordering its rows would destroy"
            )
        entries[on_diagonal] = entries[on_diagonal][order]
        return fixed

    def _dependent(self) -> int:
        """The coordinate that follows from the held parameter."""
        parameter = self.parameter
        if parameter.path == "sd" and not parameter.alike:
            return self._lead
        if parameter.path in ("sd", "cov", "corr"):
            return self._lead + 1
        return self.layout.k_cov + parameter.at if parameter.path == "residual" else -1

    def start(self, point: PathStart) -> FloatArray:
        """Free coordinates of a point."""
        parts = []
        for k, (block, root) in enumerate(zip(self._blocks, point.roots, strict=True)):
            if k == 0 and self.layout.compound:
                own = self.layout.root_entries(root @ root.T, np.empty(0))
                parts.append(own)
                continue
            order = self.order[block.effects] - block.effects.start
            lower = np.zeros((len(order), len(order)))
            if len(order):
                upper = r_factor(np.ascontiguousarray(root[order].T))
                lower[:, : len(upper)] = upper.T
                lower *= np.where(np.diag(lower) < 0.0, -1.0, 1.0)
            parts.append(lower[np.tril_indices(len(order))])
        y = np.concatenate([*parts, point.u, [point.s]])
        lead = self._lead
        if self.parameter.alike:
            y[lead] = self._alike_start(*y[lead : lead + 2])
        elif self.logs:
            y[lead + 2] = np.hypot(y[lead + 1], y[lead + 2])
        x = y[self.free]
        x[self.logs] = np.log(np.maximum(x[self.logs], 1e-8 * np.exp(0.5 * point.s)))
        return x

    def _alike_start(self, first: float, beside: float) -> float:
        """The free coordinate of effects that share a covariance, from its root."""
        k = self.parameter.alike
        mean, rest = first + (k - 1) * beside, first - beside
        if self.parameter.path == "cov":
            return float(min(mean, rest))
        sides = mean / np.sqrt(k), rest * np.sqrt((k - 1) / k)
        found = np.arctan2(*sides) if self.parameter.path == "sd" else np.hypot(*sides)
        return float(found)

    def _alike(self, free: Jet, held: Jet) -> tuple[Jet, Jet]:
        """The entries of their root."""
        k, path = self.parameter.alike, self.parameter.path
        if path == "cov":  # the smaller root is free, the other further by k cov
            square = free * free
            if held.value >= 0.0:
                mean, rest = np.sqrt(square + k * held), free
            else:
                mean, rest = free, np.sqrt(square - k * held)
        else:
            sd, angle = held, free
            if path == "corr":
                sd, angle = np.exp(clip(free, -np.inf, 300.0)), held
            mean = np.sqrt(k) * sd * np.sin(angle)
            rest = np.sqrt(k / (k - 1)) * sd * np.cos(angle)
        beside = (mean - rest) / k
        return rest + beside, beside

    def natural(self, s: float) -> FloatArray:
        """A length to measure each free coordinate by."""
        problem = self.problem
        lengths = np.concatenate(
            [
                np.diag(problem.z_map)[: self.layout.k_re],
                np.diag(problem.z_map)[problem.covariance.component_starts],
                *(np.diag(term_map) for term_map in problem.term_maps),
            ]
        )
        rows = self.order[self.layout.effects[0]]
        out = np.ones(self.k_y)
        out[: self.layout.k_cov] = np.abs(lengths[rows]) * np.exp(0.5 * s)
        x = out[self.free]
        x[self.logs] = 1.0
        if self.parameter.alike and self.parameter.path == "sd":
            x[self.lead] = 1.0  # an angle
        return x

    def usable(self, x: FloatArray, t: float) -> FloatArray:
        """Give a covariance the variances that it needs."""
        if self.parameter.path != "cov" or t == 0.0 or self.parameter.alike:
            return x
        out, lead = x.copy(), self.lead
        # second row of the factor: (t / x[lead], ...); not all of it from t
        first, second = self.natural(0.0)[lead : lead + 2] + 1e-300
        floor = np.sqrt(abs(t)) * np.sqrt(first) / np.sqrt(second)
        if abs(out[lead]) < 0.5 * floor:
            out[lead] = floor
        return out

    def _coordinates(self, x: FloatArray, t: float) -> Jet:
        """All coordinates, by the free ones and the path coordinate."""
        z = variables(np.append(x, t))
        path, held = self.parameter.path, z[-1]
        y = Jet.constant(np.zeros(self.k_y), len(z))
        y.value[self.free] = x
        y.first[np.arange(len(x)), self.free] = 1.0
        y.value[self._known] = self.parameter.u[self._known - self.layout.k_cov]
        if self.problem.scale is not None:
            y.value[-1] = np.log(self.problem.scale)
        if self.parameter.alike:
            for k, entry in enumerate(self._alike(z[self.lead], held), self._lead):
                _put(y, k, entry)
        elif path == "corr":
            sizes = np.exp(clip(z[self.logs], -np.inf, 300.0))
            _put(y, self._lead, sizes[0])
            _put(y, self._lead + 1, sizes[1] * np.sin(held))
            _put(y, self._lead + 2, sizes[1] * np.cos(held))
        elif path == "cov":
            _put(y, self._lead + 1, held / z[self.lead])
        elif path == "residual" and self.parameter.coupled:
            self._solve(y, self.parameter.jet(held))
        else:
            _put(y, self._at, 2.0 * held if path == "sigma" else held)
        for k in self._held:  # relative to the residual's standard deviation
            _put(y, k, self.fixed[k] * np.exp(0.5 * y[-1]))
        return y

    def _orders(self) -> list[IntArray]:
        """Order of the effects of the groups, and of each further term."""
        several = [self._blocks[0], *self.layout.term_places]
        return [self.order[block.effects] - block.effects.start for block in several]

    def _solve(self, y: Jet, wanted: Jet) -> None:
        """Set the coordinate that gives the held parameter its value."""
        parameter, here = self.parameter, slice(self.layout.k_cov, self.k_y - 1)
        in_logs = parameter.link == "log"  # however small it is
        wanted = np.log(wanted) if in_logs else wanted
        u = y.value[here]

        def parameter_at(u: FloatArray) -> Jet:
            found = parameter.structure.natural(u)[parameter.j]
            return np.log(found) if in_logs else found

        u[parameter.at] = (
            parameter.u[parameter.at] if self._last is None else self._last
        )
        for _ in range(_MOST_STEPS):
            natural = parameter_at(u)
            miss = float(natural.value - wanted.value)
            slope = float(natural.first[parameter.at])
            if abs(miss) <= 1e-14 * max(1.0, abs(float(wanted.value))):
                self._last = float(u[parameter.at])
                break
            if slope == 0.0 or not np.isfinite(miss):
                break
            u[parameter.at] -= float(np.clip(miss / slope, -1.0, 1.0))
        if not abs(miss) <= 1e-11:
            raise np.linalg.LinAlgError(
                "the held parameter cannot have this value here"
            )
        # the held parameter stays while the others move
        natural = parameter_at(u)
        slopes, steepest = natural.first, natural.first[parameter.at]
        y.first[:, self._at] = (wanted.first - y.first[:, here] @ slopes) / steepest
        moved = y.first[:, here]
        bend = moved @ natural.second @ moved.T
        y.second[:, :, self._at] = (wanted.second - bend) / steepest

    def evaluate(self, x: FloatArray, t: float) -> ConstrainedPoint:
        """
        Log-likelihood at free coordinates and the held parameter's path coordinate.

        LinAlgError if the point is out of reach of the arithmetic.
        """
        needed = not self.parameter.alike or t == 0.0
        if self.parameter.path == "cov" and needed and x[self.lead] == 0.0:
            raise np.linalg.LinAlgError("a covariance needs a variance")
        problem, k_cov = self.problem, self.layout.k_cov
        y = self._coordinates(x, t)
        entries, u, s = y.value[:k_cov], y.value[k_cov:-1], float(y.value[-1])
        if not abs(s) < 600.0:
            raise np.linalg.LinAlgError("the residual variance over- or underflows")
        shrink, orders = np.exp(-0.5 * s), self._orders()
        factor = self.layout.factor(entries)
        factor[orders[0]] = factor[: self.layout.k_re].copy()
        terms = self.layout.term_factors(entries)
        for term, order in zip(terms, orders[1:], strict=True):
            term[order] = term.copy()
        point = profile(
            cluster_sums(
                problem.blocks,
                problem.covariance,
                self._inner_z @ factor * shrink,
                u,
                derivatives=True,
                term_factors=tuple(
                    np.linalg.solve(term_map, term) * shrink
                    for term_map, term in zip(problem.term_maps, terms, strict=True)
                ),
            ),
            problem.n,
            reml=problem.reml,
            shift=problem.shift,
            log_scale=s + self._response,
        )
        # the ratios inside are v = T V exp(-s)
        values = chain(self.layout.jet(entries), y[:k_cov])[self._entries]
        ratios = linear(self._to_inner, values) * np.exp(-y[-1])
        inside = Jet(
            np.concatenate([ratios.value, y.value[k_cov:]]),
            np.concatenate([ratios.first, y.first[:, k_cov:]], axis=1),
            np.concatenate([ratios.second, y.second[:, :, k_cov:]], axis=2),
        )
        out = chain(Jet(point.llf, point.gradient, point.hessian), inside)
        return ConstrainedPoint(
            point.llf,
            out.first[:-1],
            out.second[:-1, :-1],
            float(out.first[-1]),
            out.second[:-1, -1],
        )


def _rows_order(effects: slice, parameter: CovarianceParameter) -> IntArray:
    """Order of a block's effects, those that the held parameter is of first."""
    i, j = parameter.i - effects.start, parameter.j - effects.start
    first: list[int] = []
    if parameter.path in ("cov", "corr"):
        first = [j, i]
    elif parameter.path == "sd":
        first = [i]
    rest = [k for k in range(effects.stop - effects.start) if k not in first]
    return np.array([*first, *rest], dtype=np.intp)


def _put(y: Jet, k: int, entry: Jet) -> None:
    """Set an entry of a jet of shape (n,)."""
    y.value[k] = entry.value
    y.first[:, k] = entry.first
    y.second[:, :, k] = entry.second
