"""
The posterior density of the covariance parameters, on the real line.

Everything but the covariance parameters is integrated out exactly.  These are explored
as logarithms of standard deviations, Fisher's z of partial correlations, and the
residual structure's own unconstrained parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.batch import ManyPoints, Profiles
from mixedar.exceptions import UnknownColumnError, UnsupportedError, listing
from mixedar.fit import Fit
from mixedar.posterior.priors import (
    LKJ,
    Beta,
    HalfT,
    LogNormal,
    Normal,
    Prior,
    Uniform,
)
from mixedar.residual import many
from mixedar.residual.base import Parametric

_FARTHEST = 40.0  # coordinates beyond which nothing is computed
_CLOSEST = 1.0 - 1e-9  # partial correlations
_MOST_EXTREME = 12.0  # of the logarithm of relative standard deviations


@dataclass(frozen=True)
class EffectBlock:
    """
    Standard deviations, and correlations, of effects that have a covariance.

    Attributes
    ----------
    effects : ndarray of int
        Numbers of the effects among all.
    entries : ndarray of int
        Places of their lower triangle, row by row, in the layout.
    correlated : bool
    """

    effects: IntArray
    entries: IntArray
    correlated: bool

    @property
    def order(self) -> int:
        """Number of effects."""
        return len(self.effects)

    @property
    def k_corr(self) -> int:
        """Number of correlations."""
        return self.order * (self.order - 1) // 2 if self.correlated else 0


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
        return Points(
            self.natural[some],
            self.theta[some],
            self.sigma[some],
            self.log_prior[some],
            self.log_jacobian[some],
        )


class Target:
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
        self.fit, self.problem = fit, fit.problem
        self._many = ManyPoints(fit.problem, fit.data.compressed)
        self.blocks = _blocks(fit)
        self.parameters: Parametric = fit.parameters
        self._many_natural = many.natural(fit.parameters)
        rows, self._level = self.problem.typical_rows, None
        if rows is not None:
            log_sd = many.log_sd(self.problem.structure, rows[0])
            self._level = None if log_sd is None else (log_sd, rows[1])
        tail = fit.names[fit.k_fe + fit.layout.k_cov :]
        free = self.parameters.is_free
        self.free_names = [n for n, on in zip(tail, free, strict=True) if on]
        names = list(fit.effect_names)
        self.names: list[str] = []
        self.corr_of: list[list[str]] = []
        for block in self.blocks:
            own = [names[k] for k in block.effects]
            corr = [
                f"corr({own[j]}, {own[i]})"
                for i in range(block.order)
                for j in range(i)
                if block.correlated
            ]
            self.names += [f"sd({name})" for name in own] + corr
            self.corr_of.append(corr)
        self.names += self.free_names
        if not fit.scale_known:
            self.names.append("sigma")
        self.priors = self._priors(dict(priors))

    # Priors ----------------------------------------------------------------

    def _priors(self, given: dict[str, object]) -> dict[str, Prior | LKJ]:
        """A prior for each covariance parameter, and those of fixed effects."""
        fit = self.fit
        out: dict[str, Prior | LKJ] = {}
        spread = float(np.std(fit.data.response, ddof=1))
        wide = HalfT(3.0, 2.5 * spread)
        links = self.parameters.links
        link_of = dict(
            zip(fit.names[fit.k_fe + fit.layout.k_cov :], links, strict=True)
        )
        for name in self.names:
            if name.startswith("sd(") or name == "sigma":
                out[name] = wide
        for block, corr in zip(self.blocks, self.corr_of, strict=True):
            if block.correlated and corr:
                out[self._lkj_name(block)] = LKJ(1.0)
        ends = self._ends()
        for name in self.free_names:
            out[name] = _default(link_of[name], *ends[name])
        corr_names = {name: k for k, part in enumerate(self.corr_of) for name in part}
        known = [*out, *corr_names, "innovation sd", *fit.exog_names]
        for name, prior in given.items():
            if name not in known:
                raise UnknownColumnError(
                    f"priors=: there is no parameter {name!r}; there are "
                    f"{', '.join(map(repr, known))}"
                )
            self._check(name, prior)
            if name in corr_names:
                block = self.blocks[corr_names[name]]
                if block.order > 2:
                    raise UnsupportedError(
                        f"priors=: {name!r} is one of several correlations; give the "
                        f"matrix a prior, {{{self._lkj_name(block)!r}: LKJ(2)}}"
                    )
                out.pop(self._lkj_name(block), None)
            if name == "innovation sd":
                out.pop("sigma", None)
            out[name] = prior  # type: ignore[assignment]
        return out

    def _lkj_name(self, block: EffectBlock) -> str:
        """Name of the correlation matrix of a block."""
        return f"corr({self.fit.effect_labels[int(block.effects[0])][0]})"

    def _check(self, name: str, prior: object) -> None:
        """Raise if a prior does not suit a parameter."""
        fixed = name in self.fit.exog_names
        matrix = name in [self._lkj_name(block) for block in self.blocks]
        if matrix != isinstance(prior, LKJ):
            raise UnsupportedError(
                f"priors=: {name!r} takes {'LKJ(eta)' if matrix else 'a prior of one '}"
                f"{'' if matrix else 'number, as HalfT(3, 2.5)'}, not {prior!r}"
            )
        if isinstance(prior, LKJ):
            return
        if not isinstance(prior, Prior):
            raise UnsupportedError(
                f"priors=: {name!r} takes a prior of mixedar.priors, not {prior!r}"
            )
        if fixed and not isinstance(prior, Normal):
            raise UnsupportedError(
                f"priors=: the fixed effect {name!r} takes Normal(mean, sd), or none "
                f"(flat), not {prior!r}"
            )
        if not prior.is_proper:
            raise UnsupportedError(
                f"priors=: {prior!r} of {name!r} is improper: the data do not bound "
                "parameters of the covariance, and the posterior would not integrate"
            )
        if name == "innovation sd" and self.free_names != ["rho"]:
            raise UnsupportedError(
                "priors=: 'innovation sd' is a parameter of AR(1) residuals alone"
            )

    def _ends(self) -> dict[str, tuple[float, float, float]]:
        """Range and present value of each free parameter."""
        free = np.flatnonzero(self.parameters.is_free)
        values = self.fit.estimate.residual_params[free]
        out = {}
        for j, (name, value) in enumerate(zip(self.free_names, values, strict=True)):
            low = high = float(value)
            for t in (-30.0, 30.0):
                u = self.fit.unconstrained.copy()
                u[min(j, len(u) - 1)] = t
                with np.errstate(all="ignore"):
                    end = float(self.parameters.from_unconstrained(u)[free[j]])
                low, high = min(low, end), max(high, end)
            out[name] = low, high, float(value)
        return out

    # Coordinates ------------------------------------------------------------

    @property
    def k(self) -> int:
        """Number of coordinates."""
        return len(self.names)

    @property
    def is_dear(self) -> bool:
        """Whether points are evaluated one by one."""
        return not self._many.is_together

    def prior_of(self, name: str, x: FloatArray) -> FloatArray | None:
        """Prior density of one parameter at values; None if it is flat."""
        prior: Prior | LKJ | None = self.priors.get(name)
        for block, corr in zip(self.blocks, self.corr_of, strict=True):
            if name in corr and prior is None:
                matrix = self.priors[self._lkj_name(block)]
                assert isinstance(matrix, LKJ)
                return np.exp(matrix.log_density_partial(x, block.order, 0))
        if not isinstance(prior, Prior):
            return None
        return np.exp(prior.log_density(x))

    def start(self, theta_sigma: tuple[FloatArray, float]) -> FloatArray:
        """Coordinates of a maximum of the likelihood, drawn in from the boundary."""
        theta, sigma = theta_sigma
        fit, problem = self.fit, self.problem
        u = problem.split(theta)[1]
        values = problem.value_map() @ problem.entries(theta).value * sigma**2
        cov = fit.layout.matrix(values)
        parts = []
        for block in self.blocks:
            own = cov[np.ix_(block.effects, block.effects)]
            sd = np.sqrt(np.clip(np.diag(own), 0.0, None))
            sd = np.maximum(sd, 0.03 * sigma)
            parts.append(np.log(sd))
            if block.k_corr:
                corr = np.clip(own / np.outer(sd, sd), -0.95, 0.95)
                np.fill_diagonal(corr, 1.0)
                parts.append(np.arctanh(_partials(corr)))
        parts.append(np.clip(u, -8.0, 8.0))
        if not fit.scale_known:
            parts.append(np.array([np.log(sigma)]))
        return np.concatenate(parts)

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
        for block, corr in zip(self.blocks, self.corr_of, strict=True):
            q = block.order
            here = slice(first, first + q)
            logs = np.clip(z[:, here], -_FARTHEST, _FARTHEST)
            sd = np.exp(logs)
            natural[:, here] = sd
            log_jacobian += logs.sum(axis=1)
            for k in range(first, first + q):
                prior = self.priors[self.names[k]]
                assert isinstance(prior, Prior)
                log_prior += prior.log_density(natural[:, k])
            root = np.broadcast_to(np.eye(q), (m, q, q))
            if block.k_corr:
                there = slice(first + q, first + q + block.k_corr)
                partial = np.clip(np.tanh(z[:, there]), -_CLOSEST, _CLOSEST)
                root = _correlation_root(partial, q)
                whole = root @ root.transpose(0, 2, 1)
                rows, columns = np.tril_indices(q, -1)
                natural[:, there] = whole[:, rows, columns]
                log_jacobian += np.log1p(-(partial**2)).sum(axis=1)
                flat = _log_lkj(LKJ(1.0), block.order, partial)
                log_jacobian += flat
                log_prior += self._log_correlations(block, corr, partial) - flat
            first += q + block.k_corr
            relative = root * (sd / sigma[:, None])[:, :, None]
            rows, columns = np.tril_indices(q)
            if block.correlated:
                entries[:, block.entries] = relative[:, rows, columns]
            else:
                entries[:, block.entries] = relative[:, range(q), range(q)]
        u = z[:, first : first + self.parameters.k_free]
        params, jacobian = self._natural(u)
        log_jacobian += jacobian
        for j, name in enumerate(self.free_names):
            natural[:, first + j] = params[:, j]
            prior = self.priors[name]
            assert isinstance(prior, Prior)
            log_prior += prior.log_density(params[:, j])
        if not fit.scale_known:
            natural[:, -1] = sigma
            prior, shrink = self._sigma_prior(natural)
            log_prior += prior.log_density(sigma * shrink)
            log_jacobian += z[:, -1] + np.log(shrink)
        theta = np.column_stack([self._inner(entries, u), u])
        return Points(natural, theta, sigma, log_prior, log_jacobian)

    def _log_correlations(
        self, block: EffectBlock, names: list[str], partial: FloatArray
    ) -> FloatArray:
        """Log-prior of the correlations of a block."""
        if len(names) == 1 and names[0] in self.priors:
            prior = self.priors[names[0]]
            assert isinstance(prior, Prior)
            return prior.log_density(partial[:, 0])
        matrix = self.priors[self._lkj_name(block)]
        assert isinstance(matrix, LKJ)
        return _log_lkj(matrix, block.order, partial)

    def _sigma_prior(self, natural: FloatArray) -> tuple[Prior, FloatArray]:
        """A prior on sigma, or on the innovations' part of it."""
        if "innovation sd" not in self.priors:
            own = self.priors["sigma"]
            assert isinstance(own, Prior)
            return own, np.ones(len(natural))
        prior = self.priors["innovation sd"]
        assert isinstance(prior, Prior)
        rho = natural[:, self.names.index("rho")]
        return prior, np.sqrt(1.0 - rho**2)

    def _natural(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Free parameters by the unconstrained ones, and the log-Jacobian."""
        m, free = len(u), self.parameters.is_free
        if not u.shape[1]:
            return np.empty((m, 0)), np.zeros(m)
        found = self._many_natural(u)
        slopes = found.first[..., free].transpose(1, 2, 0)
        with np.errstate(all="ignore"):
            return found.value[:, free], np.linalg.slogdet(slopes)[1]

    def _inner(self, entries: FloatArray, u: FloatArray) -> FloatArray:
        """The optimiser's free entries of ``Lambda`` from the user's."""
        problem, cov = self.problem, self.problem.covariance
        out = entries.copy()
        maps = [problem.z_map[: cov.k_re, : cov.k_re]]
        maps += [problem.z_map[k : k + 1, k : k + 1] for k in cov.component_starts]
        maps += list(problem.term_maps)
        for place, block_map in zip(cov.places, maps, strict=True):
            out[:, place.entries] = _rotated(block_map, entries[:, place.entries])
        out = out[:, cov.is_free]
        if self._level is not None:
            log_sd, shares = self._level
            logs = (log_sd(u[:, : problem.structure.k_free]).value * shares).sum(axis=1)
            out /= np.exp(logs)[:, None]
        return out

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
        extreme = np.abs(z).max(axis=1) > _FARTHEST
        return np.where(np.isfinite(out) & ~extreme, out, -np.inf), points, found

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
        """Mean of the fixed effects given the rest, and a root of their covariance."""
        root = found.root * points.sigma[:, None, None]
        where, mean, sd = self.normal_priors()
        if not len(where):
            return found.beta, root
        cov = root @ root.transpose(0, 2, 1)
        own = cov[:, where][:, :, where].copy()
        own[:, range(len(where)), range(len(where))] += sd**2
        gain = np.linalg.solve(own, cov[:, where]).transpose(0, 2, 1)
        beta = found.beta + (gain @ (mean - found.beta[:, where])[..., None])[..., 0]
        left = cov - gain @ cov[:, where]
        values, vectors = np.linalg.eigh((left + left.transpose(0, 2, 1)) / 2.0)
        return beta, vectors * np.sqrt(np.clip(values, 0.0, None))[:, None, :]


def _log_lkj(prior: LKJ, order: int, partial: FloatArray) -> FloatArray:
    """Log-density of partial correlations, row by row of the lower triangle."""
    _, given = np.tril_indices(order, -1)
    logs = [
        prior.log_density_partial(partial[:, k], order, int(j))
        for k, j in enumerate(given)
    ]
    return np.sum(logs, axis=0)


def _default(link: str, low: float, high: float, value: float) -> Prior:
    """A prior for a parameter of the residual structure, by its range."""
    if link == "correlation" and low < -0.5:
        return Beta(1.0, 1.0)
    if link in ("correlation", "share"):
        return Uniform(0.0, 1.0)
    if low >= 0.0:
        return LogNormal(max(value, 1e-12), 1.5)
    return Normal(0.0, 2.0)


def _blocks(fit: Fit) -> list[EffectBlock]:
    """Effects that have a covariance of their own."""
    layout, out = fit.layout, []
    if layout.compound:
        raise UnsupportedError(
            "posterior(): the random effects share one variance and one covariance "
            "(re_cov='compound'), for which there are no coordinates; take an "
            "intercept and a variance component (vc_formula), which say the same "
            "where the covariance is not negative, or profile intervals "
            "(conf_int_re)"
        )
    for place, order in zip(layout.places, layout.blocks, strict=True):
        if not order:
            continue
        entries = np.arange(place.entries.start, place.entries.stop)
        effects = np.arange(place.effects.start, place.effects.stop)
        free = layout.is_free[entries]
        rows, columns = np.tril_indices(order)
        if free.all():
            out.append(EffectBlock(effects, entries, order > 1))
            continue
        if (
            not (free == (rows == columns)).all()
            or (layout.fixed[entries[~free]]).any()
        ):
            raise UnsupportedError(
                "posterior(): entries of the random effects' covariance are held; it "
                "explores all variances, with all correlations of a factor or none"
            )
        out.append(EffectBlock(effects, entries[rows == columns], False))
    if fit.unseen or fit.unseen_correlations.any():
        raise UnsupportedError(
            "posterior(): the likelihood does not depend on "
            f"{listing([fit.effect_names[k] for k in fit.unseen])}; leave it out"
        )
    return out


def _correlation_root(partial: FloatArray, q: int) -> FloatArray:
    """Cholesky factors of correlation matrices from partial correlations."""
    out = np.zeros((len(partial), q, q))
    out[:, 0, 0] = 1.0
    k = 0
    for i in range(1, q):
        left = np.ones(len(partial))
        for j in range(i):
            out[:, i, j] = partial[:, k] * np.sqrt(left)
            left = left * (1.0 - partial[:, k] ** 2)
            k += 1
        out[:, i, i] = np.sqrt(left)
    return out


def _partials(corr: FloatArray) -> FloatArray:
    """Partial correlations of a correlation matrix, row by row."""
    values, vectors = np.linalg.eigh(corr)
    corr = (vectors * np.maximum(values, 0.05)) @ vectors.T
    scale = np.sqrt(np.diag(corr))
    root = np.linalg.cholesky(corr / np.outer(scale, scale))
    out = []
    for i in range(1, len(corr)):
        left = 1.0
        for j in range(i):
            z = root[i, j] / np.sqrt(left)
            out.append(np.clip(z, -0.95, 0.95))
            left *= max(1.0 - z**2, 1e-6)
    return np.array(out)


def _rotated(block_map: FloatArray, entries: FloatArray) -> FloatArray:
    """Lower triangles of blocks of ``Lambda`` in the coordinates of a map."""
    q = len(block_map)
    if q == 0:
        return entries
    rows, columns = np.tril_indices(q)
    block = np.zeros((len(entries), q, q))
    block[:, rows, columns] = entries
    inner = np.linalg.solve(block_map, block)
    if q > 1:
        upper = np.asarray(np.linalg.qr(inner.transpose(0, 2, 1), mode="r"))
        inner = upper.transpose(0, 2, 1)
    return np.asarray(inner[:, rows, columns])
