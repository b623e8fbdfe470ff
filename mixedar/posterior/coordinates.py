"""
The posterior density of the covariance parameters, on the real line.

Everything but the covariance parameters is integrated out exactly.  These are explored
as logarithms of standard deviations, Fisher's z of partial correlations, and the
residual structure's own unconstrained parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.batch import ManyPoints, Profiles, levels_of
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.fit import Fit
from mixedar.posterior.blocks import (
    EffectBlock,
    log_lkj,
    rotated,
)
from mixedar.posterior.defaults import PriorsByName
from mixedar.posterior.explore import explore
from mixedar.posterior.priors import (
    LKJ,
    Normal,
    Prior,
)
from mixedar.posterior.weighted import integral
from mixedar.residual import many

_FARTHEST = 40.0  # coordinates beyond which nothing is computed
_PRIOR_POINTS = 20_000  # that tell what priors have of a range
_CLOSEST = 1.0 - 1e-9  # partial correlations
# of a coordinate, in search of a prior that is not zero
_STEPS = np.concatenate([[0.0], np.linspace(-10.0, 10.0, 401)])
_MOST_NUMBERS = 2**22  # derivatives of parameters at a time


@dataclass(frozen=True)
class Points:
    """
    Covariance parameters at m points.

    Attributes
    ----------
    natural : ndarray, shape (m, k)
        Standard deviations and correlations by block, other parameters, sigma.
    theta : ndarray, shape (m, k_theta)
        The optimiser's coordinates.
    sigma : ndarray, shape (m,)
    log_prior : ndarray, shape (m,)
        Of the parameters as users read them.
    log_jacobian : ndarray, shape (m,)
        What it takes to make it a density of the coordinates.
    """

    natural: FloatArray
    theta: FloatArray
    sigma: FloatArray
    log_prior: FloatArray
    log_jacobian: FloatArray

    def take(self, some: IntArray) -> Points:
        """Some of the points."""
        return Points(*(getattr(self, field.name)[some] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Points]) -> Points:
        """Some points after others."""
        names = [field.name for field in fields(cls)]
        return cls(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in names)
        )


class Remembered:
    """
    A target that keeps what it computed, as long as these are few numbers.

    Parameters
    ----------
    target : Target
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._parts: list[tuple[FloatArray, Points, Profiles]] = []
        self._numbers = 0

    def __call__(self, z: FloatArray) -> FloatArray:
        """Log-density of points, shape (m, k) to (m,)."""
        value, points, found = self._target.log_density(z)
        self._numbers += len(z) * (3 * z.shape[1] + found.root[0].size)
        if self._numbers < _MOST_NUMBERS:
            self._parts.append((z, points, found))
        return value

    def at(self, z: FloatArray) -> tuple[Points, Profiles]:
        """What there is at points, computed if they were not among those kept."""
        rows = [row for part, _, _ in self._parts for row in part]
        place = {row.tobytes(): k for k, row in enumerate(rows)}
        where = np.array([place.get(row.tobytes(), -1) for row in z])
        if (where < 0).any():
            return self._target.log_density(z)[1:]
        _, points, found = zip(*self._parts, strict=True)
        return Points.joined(points).take(where), Profiles.joined(found).take(where)


def _bounded(log_density: FloatArray, z: FloatArray) -> FloatArray:
    """Log-densities; minus infinity where they are not finite or `z` is extreme."""
    extreme = np.abs(z).max(axis=1) > _FARTHEST
    return np.where(np.isfinite(log_density) & ~extreme, log_density, -np.inf)


class Target(PriorsByName):
    """
    The log-posterior of the covariance parameters of a fit.

    Parameters
    ----------
    fit : Fit
    priors : mapping of str to Prior or LKJ
        By name of the parameter; the others have defaults.

    Raises
    ------
    UnknownColumnError
        If a prior is given for a parameter that there is not.
    UnsupportedError
        If a prior is improper, or does not suit its parameter.
    """

    def __init__(self, fit: Fit, priors: Mapping[str, object]) -> None:
        super().__init__(fit, priors)
        self.problem = fit.problem
        self._many = ManyPoints(fit.problem, fit.data.compressed)
        self._many_natural = many.natural(fit.parameters)
        self._level = levels_of(self.problem)

    # Coordinates ------------------------------------------------------------

    @property
    def k(self) -> int:
        """Number of coordinates."""
        return len(self.names)

    @property
    def is_dear(self) -> bool:
        """Whether points cost so much that fewer have to do."""
        return self._many.is_dear

    def start(self, theta_sigma: tuple[FloatArray, float]) -> FloatArray:
        """
        Coordinates of a maximum of the likelihood, drawn in from the boundary.

        Raises
        ------
        UnsupportedError
            If a prior is zero wherever its parameter is.
        """
        theta, sigma = theta_sigma
        fit, problem = self.fit, self.problem
        u = problem.split(theta)[1]
        k, components = fit.k_re, problem.covariance.component_starts
        whole = problem.z_map @ problem.factor(theta)
        factors = [whole[:k, :k], *(whole[c : c + 1, c : c + 1] for c in components)]
        factors += map(np.matmul, problem.term_maps, problem.term_factors(theta))
        parts = [
            block.coordinates(factors[block.number] * sigma, 0.03 * sigma)
            for block in self.blocks
        ]
        parts.append(np.clip(u, -8.0, 8.0))
        if not fit.scale_known:
            parts.append(np.array([np.log(sigma)]))
        return self._inside(np.concatenate(parts))

    def _inside(self, z: FloatArray) -> FloatArray:
        """Coordinates moved, one by one, to where no prior is zero."""
        for j, name in enumerate(self.names):
            prior = self.priors.get(name)
            if not isinstance(prior, Prior):
                continue
            tried = np.tile(z, (len(_STEPS), 1))
            tried[:, j] += _STEPS
            logs = prior.log_density(self.points(tried).natural[:, j])
            if np.isfinite(logs[0]):
                continue
            tried = tried[np.isfinite(logs)]
            if not len(tried):
                raise UnsupportedError(
                    f"priors=: {prior!r} of {name!r} is zero wherever the parameter is"
                )
            found = self.log_density(tried)[0]
            best = np.argmax(found) if np.isfinite(found).any() else len(tried) // 2
            z = tried[best]
        return z

    def points(self, z: FloatArray) -> Points:
        """Parameters at coordinates, shape (m, k)."""
        fit, m = self.fit, len(z)
        layout = fit.layout
        sigma = np.full(m, np.sqrt(fit.scale))
        if not fit.scale_known:
            sigma = np.exp(np.clip(z[:, -1], -_FARTHEST, _FARTHEST))
        natural = np.empty((m, self.k))
        log_prior, log_jacobian = np.zeros(m), np.zeros(m)
        entries = np.zeros((m, layout.k_cov))
        first = 0
        for block in self.blocks:
            here = slice(first, first + block.k)
            own = self._block(block, self.names[here], z[:, here], sigma)
            natural[:, here], entries[:, block.entries], prior_of, slope = own
            log_prior, log_jacobian = log_prior + prior_of, log_jacobian + slope
            first = here.stop
        u = z[:, first : first + self.parameters.k_free]
        params, jacobian = self._natural(u)
        log_jacobian += jacobian
        for j, name in enumerate(self.free_names):
            natural[:, first + j] = params[:, j]
            log_prior += self.prior(name).log_density(params[:, j])
        if not fit.scale_known:
            natural[:, -1] = sigma
            prior, shrink = self._sigma_prior(natural)
            log_prior += prior.log_density(sigma * shrink)
            log_jacobian += z[:, -1] + np.log(shrink)
        theta = np.column_stack([self._inner(entries, u), u])
        return Points(natural, theta, sigma, log_prior, log_jacobian)

    def _block(
        self, block: EffectBlock, names: list[str], z: FloatArray, sigma: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Parameters of a block, its ``Lambda``, log-prior and log-Jacobian."""
        k, end = block.k_sd, block.k_sd + block.k_corr
        z = z.copy()
        on_logs = np.append(np.arange(k), end + np.flatnonzero(block.positive))
        logs = np.clip(z[:, on_logs], -_FARTHEST, _FARTHEST)
        z[:, on_logs] = np.exp(logs)
        sd, loadings = z[:, :k], z[:, end:]
        log_prior, log_jacobian = np.zeros(len(z)), logs.sum(axis=1)
        for j in [*range(k), *range(end, block.k)]:
            log_prior += self.prior(names[j]).log_density(z[:, j])
        relative = sd / sigma[:, None]
        if block.compound:
            rho, slope = block.shared(z[:, 1])
            log_prior += self.prior(names[1]).log_density(rho)
            out = np.column_stack([sd, rho])
            entries = block.shared_root(relative[:, 0], rho)
            return out, entries, log_prior, log_jacobian + slope
        partial = np.clip(np.tanh(z[:, k:end]), -_CLOSEST, _CLOSEST)
        root = block.correlation_root(partial)
        factor = block.factor(root, relative, loadings / sigma[:, None])
        if block.k_corr:
            flat = log_lkj(LKJ(1.0), block, partial)
            log_jacobian += np.log1p(-(partial**2)).sum(axis=1) + flat
            log_prior += self._log_correlations(block, names[k:end], partial) - flat
            z[:, k:end] = block.correlations(root, factor)
        rows, columns = np.tril_indices(block.order)
        return z, factor[:, rows, columns], log_prior, log_jacobian

    def _log_correlations(
        self, block: EffectBlock, names: list[str], partial: FloatArray
    ) -> FloatArray:
        """Log-prior of the correlations of a block."""
        if len(names) == 1 and names[0] in self.priors:
            return self.prior(names[0]).log_density(partial[:, 0])
        matrix = self.priors[self.lkj_name(block)]
        assert isinstance(matrix, LKJ)
        return log_lkj(matrix, block, partial)

    def _sigma_prior(self, natural: FloatArray) -> tuple[Prior, FloatArray]:
        """A prior on sigma, or on the innovations' part of it."""
        if "innovation sd" not in self.priors:
            return self.prior("sigma"), np.ones(len(natural))
        rho = natural[:, self.names.index("rho")]
        return self.prior("innovation sd"), np.sqrt(1.0 - rho**2)

    def _natural(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Free parameters by the unconstrained ones, and the log-Jacobian."""
        (m, k), free = u.shape, self.parameters.is_free
        params, log_jacobian = np.empty((m, k)), np.zeros(m)
        step = max(1, _MOST_NUMBERS // max(k, 1) ** 3)  # second derivatives, unasked
        for first in range(0, m if k else 0, step):
            some = slice(first, first + step)
            found = self._many_natural(u[some])
            slopes = found.first[..., free].transpose(1, 2, 0)
            params[some] = found.value[:, free]
            with np.errstate(all="ignore"):
                log_jacobian[some] = np.linalg.slogdet(slopes)[1]
        return params, log_jacobian

    def _inner(self, entries: FloatArray, u: FloatArray) -> FloatArray:
        """The optimiser's free entries of ``Lambda`` from the user's."""
        problem, cov = self.problem, self.problem.covariance
        out = entries.copy()
        maps = [problem.z_map[: cov.k_re, : cov.k_re]]
        maps += [problem.z_map[k : k + 1, k : k + 1] for k in cov.component_starts]
        maps += list(problem.term_maps)
        for place, block_map in zip(cov.places, maps, strict=True):
            if cov.compound and place is cov.places[0]:
                out[:, place.entries] = cov.in_units(block_map, entries[:, :2])
                continue
            here = place.entries
            held = not cov.is_free[here].all()
            out[:, here] = rotated(block_map, entries[:, here], diagonal=held)
        out = out[:, cov.is_free]
        if self._level is not None:
            out /= np.exp(self._level(u).value)[:, None]
        return out

    def log_volume(self) -> float:
        """
        Logarithm of the prior's integral over the parameters there are.

        Below zero where priors reach beyond: below zero of a standard deviation, the
        least correlation that all effects may share, or where the ranges of several
        residual correlations depend on one another, as of correlation matrices.
        """
        bound = self.free_links.count("correlation") > 1
        others = [*self.fit.exog_names, *(self.free_names if bound else [])]
        shares = [
            prior.share(*self.ranges.get(name, (0.0, np.inf)))
            for name, prior in self.priors.items()
            if isinstance(prior, Prior) and name not in others
        ]
        outside = float(np.log(shares).sum())
        if not bound:
            return outside

        def density(u: FloatArray) -> FloatArray:
            with np.errstate(all="ignore"):
                params, out = self._natural(u)
                for j, name in enumerate(self.free_names):
                    out = out + self.prior(name).log_density(params[:, j])
            return _bounded(out, u)

        start = np.clip(self.fit.unconstrained, -2.0, 2.0)
        rng = np.random.default_rng(0)
        found = explore(density, [start], 2000, rng, lambda text: None, dear=True)
        if found.proposal is None:
            raise NotComputedError(
                "what priors have of the range of correlations is not known: weighted "
                "draws of the prior failed; give wider priors of correlations"
            )
        return outside + integral(density, found.proposal, _PRIOR_POINTS).log

    # The density -------------------------------------------------------------

    def log_density(self, z: FloatArray) -> tuple[FloatArray, Points, Profiles]:
        """
        Log-posterior of coordinates, up to no constant, with what it was made of.

        Parameters
        ----------
        z : ndarray, shape (m, k)

        Returns
        -------
        ndarray, shape (m,)
        Points
        Profiles
        """
        with np.errstate(all="ignore"):
            points = self.points(z)
            found = self._many.profiles(points.theta)
            out = points.log_prior + points.log_jacobian
            out = out + self.log_likelihood(points, found)
        return _bounded(out, z), points, found

    def log_likelihood(self, points: Points, found: Profiles) -> FloatArray:
        """Logarithm of the likelihood, the fixed effects integrated out."""
        n, p = self.problem.n, found.beta.shape[1]
        variance = points.sigma**2
        out = -0.5 * (
            (n - p) * np.log(2.0 * np.pi * variance)
            + found.logdet
            + found.logdet_x
            + found.rss / variance
        )
        out = np.where(np.isfinite(found.llf), out, -np.inf)
        where, mean, sd = self.normal_priors()
        if len(where):
            root = found.root[:, where] * points.sigma[:, None, None]
            cov = root @ root.transpose(0, 2, 1)
            cov[:, range(len(where)), range(len(where))] += sd**2
            gap = mean - found.beta[:, where]
            solved = np.linalg.solve(cov, gap[..., None])[..., 0]
            logdet = np.linalg.slogdet(cov)[1]
            logs = len(where) * np.log(2.0 * np.pi) + logdet
            out -= 0.5 * (logs + (gap * solved).sum(axis=1))
        return np.asarray(out)

    def normal_priors(self) -> tuple[IntArray, FloatArray, FloatArray]:
        """Fixed effects with a prior, its means and standard deviations."""
        where, mean, sd = [], [], []
        for k, name in enumerate(self.fit.exog_names):
            prior = self.priors.get(name)
            if isinstance(prior, Normal):
                where.append(k)
                mean.append(prior.mean)
                sd.append(prior.sd)
        return np.array(where, dtype=np.intp), np.array(mean), np.array(sd)

    def fixed_effects(
        self, points: Points, found: Profiles
    ) -> tuple[FloatArray, FloatArray]:
        """
        Mean of the fixed effects given the rest, and the root of their covariance.

        The root is Cholesky's, in the order of the effects and with a positive
        diagonal: there is one only, whatever coordinates it was computed in.
        """
        root, beta = found.root * points.sigma[:, None, None], found.beta
        where, mean, sd = self.normal_priors()
        if len(where):
            # with b = beta + C e and e ~ N(0, I): what the priors tell of e
            told = root[:, where] / sd[:, None]
            precision = told.transpose(0, 2, 1) @ told + np.eye(root.shape[1])
            half = np.linalg.inv(np.linalg.cholesky(precision))
            root = root @ half.transpose(0, 2, 1)
            gap = (mean - beta[:, where]) / sd
            step = half @ (told.transpose(0, 2, 1) @ gap[..., None])
            beta = beta + (root @ step)[..., 0]
        upper = np.asarray(np.linalg.qr(root.transpose(0, 2, 1), mode="r"))
        signs = np.where(np.einsum("mii->mi", upper) < 0.0, -1.0, 1.0)
        return beta, upper.transpose(0, 2, 1) * signs[:, None, :]
