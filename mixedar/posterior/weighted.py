"""
Points of a density, drawn from mixtures and weighted by what they came from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from mixedar._types import FloatArray, IntArray
from mixedar.posterior.psis import pareto_k

_DF = 5.0  # of the proposals
#: What stands for the logarithm of zero.
NOWHERE = -1e10

#: Log-density of points, shape (m, k) to (m,).
Density = Callable[[FloatArray], FloatArray]
#: From coordinates to what is reported, row by row.
Natural = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Proposal:
    """
    A mixture of Student's t distributions that was adapted to a density.

    Attributes
    ----------
    means : ndarray, shape (c, k)
    covs : ndarray, shape (c, k, k)
    counts : ndarray of int, shape (c,)
        Points that were drawn from each.
    """

    means: FloatArray
    covs: FloatArray
    counts: IntArray


class Integral(NamedTuple):
    """Logarithm of the integral of a density, and its standard error."""

    log: float
    log_se: float


class Components:
    """
    Points drawn from Student's t distributions, weighted by all that they came from.

    With ``q = sum_c n_c q_c / n``, the mixture of what was drawn from, the weights
    ``f / q`` have no tail that one component had and another mends (Veach and Guibas,
    1995; Cornuet et al., 2012, Adaptive multiple importance sampling, Scandinavian
    Journal of Statistics 39, 798-812).
    """

    def __init__(
        self, density: Density, natural: Natural, k: int, rng: np.random.Generator
    ) -> None:
        self.density, self.natural, self.rng, self.k = density, natural, rng, k
        self.means: list[FloatArray] = []
        self.roots: list[FloatArray] = []
        self.counts: list[int] = []
        self.z, self.value = np.empty((0, k)), np.empty(0)
        #: what is reported of the points
        self.x = np.empty((0, 0))
        self.logs = np.empty((0, 0))  # components x points
        #: logarithms of the weights, whose mean is the integral of the density
        self.log_weights = np.empty(0)

    def __len__(self) -> int:
        return len(self.z)

    def draw(self, means: FloatArray, covs: FloatArray, counts: IntArray) -> None:
        """Draw so many points from each of new components."""
        first = len(self.means)
        roots = np.linalg.cholesky(covs)
        self.means += list(means)
        self.roots += list(roots)
        self.counts += [0] * len(means)
        old = [self._log_density(c, self.z) for c in range(first, len(self.means))]
        old_logs = np.reshape(old, (len(means), len(self.z)))
        self.logs = np.vstack([self.logs.reshape(first, len(self.z)), old_logs])
        self.draw_again(np.arange(first, len(self.means)), counts)

    def draw_again(self, which: IntArray, counts: IntArray) -> None:
        """Draw so many further points from each of some components."""
        parts = []
        for c, count in zip(which.tolist(), counts.tolist(), strict=True):
            noise = self.rng.normal(size=(count, self.k))
            noise /= np.sqrt(self.rng.chisquare(_DF, count) / _DF)[:, None]
            parts.append(self.means[c] + noise @ self.roots[c].T)
            self.counts[c] += count
        z = np.vstack(parts)
        logs = np.stack([self._log_density(c, z) for c in range(len(self.means))])
        self.logs = np.hstack([self.logs, logs])
        self.z = np.vstack([self.z, z])
        x = self.natural(z)
        self.x = np.vstack([self.x, x]) if len(self.x) else x
        self.value = np.concatenate([self.value, self.density(z)])
        counts = np.array(self.counts, dtype=np.float64)
        shares = np.log(np.maximum(counts, 1e-300) / counts.sum())
        self.log_weights = self.value - log_sum(self.logs + shares[:, None])

    def _log_density(self, c: int, z: FloatArray) -> FloatArray:
        k, root = self.k, self.roots[c]
        white = (z - self.means[c]) @ np.linalg.inv(root).T
        constant = (
            gammaln((_DF + k) / 2) - gammaln(_DF / 2) - k / 2 * np.log(_DF * np.pi)
        )
        logdet = np.log(np.diag(root)).sum()
        tails = np.log1p((white**2).sum(axis=1) / _DF)
        return np.asarray(constant - logdet - (_DF + k) / 2 * tails)

    @property
    def proposal(self) -> Proposal:
        """What the points were drawn from."""
        roots = np.array(self.roots)
        covs = roots @ roots.swapaxes(1, 2)
        return Proposal(np.array(self.means), covs, np.array(self.counts))

    @property
    def weights(self) -> FloatArray:
        """The weights, with the sum one."""
        logs = self.log_weights
        return np.asarray(np.exp(logs - log_sum(logs)))

    def judged(self, tell: Callable[[str], None]) -> tuple[float, float]:
        """Efficiency of the weights and shape of their tail, which are told too."""
        efficiency, tail = _efficiency(self.log_weights), pareto_k(self.log_weights)
        tell(f"{len(self)} points, efficiency {efficiency:.2f}, Pareto k {tail:.2f}")
        return efficiency, tail

    def worth(self, n: int) -> tuple[float, FloatArray, FloatArray]:
        """
        How many independent draws `n` draws of the points are worth.

        Of a mean of draws the variance is that of the weighted mean, ``sum w^2 x^2``,
        and what systematic resampling adds: a point is drawn ``n w`` times, rounded
        down or up at random.  Without points drawn twice the sum of both is that of
        `n` independent draws.

        Returns
        -------
        float
            Of a parameter that does not depend on the weights.
        bulk, tail : ndarray, shape (k,)
            Of the means of the parameters, and of their outer twentieths.
        """
        w, x = self.weights, self.x
        rounded = n * w % 1.0
        noise = w**2 + rounded * (1.0 - rounded) / n**2
        bulk, tail = np.empty(x.shape[1]), np.empty(x.shape[1])

        def size(x: FloatArray) -> float:
            apart = (x - w @ x) ** 2
            error = noise @ apart
            return min(float(w @ apart / error), n) if error > 0.0 else float(n)

        for j in range(x.shape[1]):
            bulk[j] = size(x[:, j])
            order = np.argsort(x[:, j])
            below = np.empty(len(w))
            below[order] = np.cumsum(w[order])
            tail[j] = min(size((below <= q).astype(float)) for q in (0.05, 0.95))
        return min(1.0 / noise.sum(), float(n)), bulk, tail


def integral(density: Density, proposal: Proposal, most: int) -> Integral:
    """
    Integral of a density, by points that the proposals were not adapted to.

    Those that they were fitted to weigh too little, and would tell too small an
    integral.

    Parameters
    ----------
    density : callable
    proposal : Proposal
    most : int
        About so many points at most.

    Returns
    -------
    Integral
    """
    k, counts = proposal.means.shape[1], proposal.counts
    share = min(1.0, most / counts.sum())
    rng = np.random.default_rng([k, len(counts), most])  # whatever the draws were
    points = Components(density, np.asarray, k, rng)
    wanted = np.ceil(share * counts).astype(np.intp)
    points.draw(proposal.means, proposal.covs, wanted)
    logs = points.log_weights
    scaled = np.exp(logs - logs.max())
    return Integral(
        float(log_sum(logs) - np.log(len(points))),
        float(scaled.std() / scaled.mean() / np.sqrt(len(points))),
    )


def _efficiency(log_weights: FloatArray) -> float:
    """Effective draws by number of draws."""
    w = np.exp(log_weights - max(log_weights.max(), NOWHERE))
    total = (w**2).sum()
    return float(w.sum() ** 2 / total / len(w)) if total > 0.0 else 0.0


def log_sum(logs: FloatArray) -> FloatArray:
    """Logarithm of the sum of exponentials over the first axis."""
    largest = logs.max(axis=0)
    return np.asarray(largest + np.log(np.exp(logs - largest).sum(axis=0)))
