"""
Exploring a density of a few dimensions: adaptive mixtures, and chains where they fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln, logsumexp
from scipy.stats import norm, rankdata

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import NotComputedError

_DF = 6.0  # of the proposals
_ROUNDS = 8
_PARETO = 0.7
_RHAT = 1.02
_WIDEST = 9.0  # variance of a coordinate of a first proposal
_DONE = 0.7  # efficiency that no further round is made for

#: Log-density of points, shape (m, k) to (m,).
Density = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Draws:
    """
    A sample of a density.

    Attributes
    ----------
    z : ndarray, shape (n, k)
    effective : float
        Number of independent draws that tell as much.
    pareto_k : float
        Tail of the importance weights; NaN of chains.
    r_hat : ndarray, shape (k,)
        Of chains; NaN of weighted draws.
    log_normaliser : float
        Logarithm of the integral of the density; NaN of chains.
    evaluations : int
    """

    z: FloatArray
    effective: float
    pareto_k: float
    r_hat: FloatArray
    log_normaliser: float
    evaluations: int


@dataclass(frozen=True)
class _Mixture:
    """Student's t distributions with weights."""

    weights: FloatArray
    means: FloatArray
    roots: FloatArray

    def draw(self, n: int, rng: np.random.Generator) -> FloatArray:
        """A stratified sample, shape (n, k)."""
        which = np.searchsorted(
            np.cumsum(self.weights), (np.arange(n) + rng.random(n)) / n
        )
        which = np.minimum(which, len(self.weights) - 1)
        k = self.means.shape[1]
        noise = rng.normal(size=(n, k)) / np.sqrt(rng.chisquare(_DF, n) / _DF)[:, None]
        return self.means[which] + np.einsum("nij,nj->ni", self.roots[which], noise)

    def log_density(self, z: FloatArray) -> FloatArray:
        """Shape (n,)."""
        k, parts = z.shape[1], []
        constant = (
            gammaln((_DF + k) / 2) - gammaln(_DF / 2) - k / 2 * np.log(_DF * np.pi)
        )
        for weight, mean, root in zip(
            self.weights, self.means, self.roots, strict=True
        ):
            white = np.linalg.solve(root, (z - mean).T)
            logdet = np.log(np.abs(np.diag(root))).sum()
            tails = np.log1p((white**2).sum(axis=0) / _DF)
            parts.append(np.log(weight) + constant - logdet - (_DF + k) / 2 * tails)
        return np.asarray(logsumexp(parts, axis=0))


def explore(
    density: Density,
    starts: Sequence[FloatArray],
    n: int,
    rng: np.random.Generator,
    tell: Callable[[str], None],
) -> Draws:
    """
    Sample a density.

    Mixtures of t distributions at the modes are adapted to the density, and weighted
    draws from the last are resampled (Cappe et al., 2008, Statistics and Computing 18,
    447-459).  Where the tail of the weights says that this failed, chains of
    differential evolution explore it (ter Braak and Vrugt, 2008, Statistics and
    Computing 18, 435-446).

    Parameters
    ----------
    density : callable
    starts : sequence of ndarray, each of shape (k,)
    n : int
        Number of draws.
    rng : Generator
    tell : callable
        Takes what is being done.

    Returns
    -------
    Draws

    Raises
    ------
    NotComputedError
        If the chains disagree as well.
    """
    counted = _Counted(density)
    modes = [_mode(counted, start) for start in starts]
    best = max(value for _, value in modes)
    near = [z for z, value in modes if value > best - 12.0]
    mixture = _first_mixture(counted, near)
    size = max(1000, 60 * mixture.means.shape[1])
    seen: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    for k in range(_ROUNDS):
        z = mixture.draw(size, rng)
        log_weights = counted(z) - mixture.log_density(z)
        efficiency = _efficiency(log_weights)
        tell(f"round {k + 1}: efficiency {efficiency:.2f}")
        seen.append((z, log_weights, np.full(len(z), efficiency)))
        if efficiency > _DONE:
            break
        mixture = _adapted(seen[-3:], mixture, rng)
    total = int(n / max(min(efficiency, 1.0), 0.05) * 1.15)
    z = mixture.draw(min(total, 12 * n), rng)
    log_weights = counted(z) - mixture.log_density(z)
    tail = pareto_k(log_weights)
    efficiency = _efficiency(log_weights)
    tell(f"{len(z)} draws: efficiency {efficiency:.2f}, Pareto k {tail:.2f}")
    if tail > _PARETO or not np.isfinite(tail):
        return _chains(counted, mixture, n, rng, tell)
    chosen = _resampled(log_weights, n, rng)
    return Draws(
        z[chosen],
        min(efficiency * len(z), n),
        tail,
        np.full(z.shape[1], np.nan),
        float(logsumexp(log_weights) - np.log(len(z))),
        counted.count,
    )


class _Counted:
    """A density that counts its points."""

    def __init__(self, density: Density) -> None:
        self._density, self.count = density, 0

    def __call__(self, z: FloatArray) -> FloatArray:
        self.count += len(z)
        return self._density(z)


def _mode(density: Density, start: FloatArray) -> tuple[FloatArray, float]:
    """A maximum, from a point nearby."""
    k = len(start)
    step = 1e-4 * np.eye(k)

    def function(z: FloatArray) -> tuple[float, FloatArray]:
        found = density(np.vstack([z, z + step, z - step]))
        found = np.where(np.isfinite(found), found, -1e10)
        return -found[0], -(found[1 : k + 1] - found[k + 1 :]) / 2e-4

    found = minimize(
        function, start, jac=True, method="L-BFGS-B", options={"maxiter": 60}
    )
    return found.x, -float(found.fun)


def _first_mixture(density: Density, modes: Sequence[FloatArray]) -> _Mixture:
    """Normal approximations at the modes, narrow and wide."""
    means, roots = [], []
    for mode in modes:
        cov = _curvature(density, mode)
        for scale in (1.2, 3.0):
            means.append(mode)
            roots.append(np.linalg.cholesky(scale * cov))
    count = len(means)
    return _Mixture(np.full(count, 1.0 / count), np.array(means), np.array(roots))


def _curvature(density: Density, mode: FloatArray) -> FloatArray:
    """Inverse of minus the second derivatives, within bounds."""
    k, h = len(mode), 0.02
    rows, columns = np.tril_indices(k)
    unit = h * np.eye(k)
    signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    points = [mode + a * unit[rows] + b * unit[columns] for a, b in signs]
    found = density(np.vstack(points)).reshape(4, -1)
    second = (found[0] - found[1] - found[2] + found[3]) / (4.0 * h * h)
    matrix = np.zeros((k, k))
    matrix[rows, columns] = matrix[columns, rows] = np.where(
        np.isfinite(second), second, 0.0
    )
    values, vectors = np.linalg.eigh(-matrix)
    return np.asarray((vectors / np.maximum(values, 1.0 / _WIDEST)) @ vectors.T)


def _efficiency(log_weights: FloatArray) -> float:
    """Effective draws by number of draws."""
    if not np.isfinite(log_weights).any():
        return 0.0
    logs = 2.0 * logsumexp(log_weights) - logsumexp(2.0 * log_weights)
    return float(np.exp(logs) / len(log_weights))


def _adapted(
    seen: Sequence[tuple[FloatArray, FloatArray, FloatArray]],
    old: _Mixture,
    rng: np.random.Generator,
) -> _Mixture:
    """A mixture fitted to weighted points of the last rounds."""
    z = np.vstack([part for part, _, _ in seen])
    weights = []
    for _, logs, share in seen:
        own = np.exp(logs - logsumexp(logs))
        cap = 10.0 / np.sqrt(len(own))  # no single point makes a component
        weights.append(np.minimum(own, cap) * share)
    w = np.concatenate(weights)
    w = w / w.sum()
    k, count = z.shape[1], min(4, 1 + len(z) // (40 * z.shape[1]))
    means = z[rng.choice(len(z), count, p=w)]
    centre = w @ z
    spread = (z - centre).T @ (w[:, None] * (z - centre)) + 1e-8 * np.eye(k)
    covs = np.repeat(spread[None], count, axis=0)
    shares = np.full(count, 1.0 / count)
    for _ in range(15):
        logs = np.stack(
            [
                np.log(share) + _log_normal(z, mean, cov)
                for share, mean, cov in zip(shares, means, covs, strict=True)
            ]
        )
        member = np.exp(logs - logsumexp(logs, axis=0)) * w
        shares = np.maximum(member.sum(axis=1), 1e-6)
        means = (member @ z) / shares[:, None]
        for c in range(count):
            apart = z - means[c]
            own = apart.T @ (member[c][:, None] * apart) / shares[c]
            covs[c] = 0.98 * own + 0.02 * spread
        shares = shares / shares.sum()
    # what covers the tails: everything, wide
    means = np.vstack([means, centre])
    roots = np.array([np.linalg.cholesky(1.1 * cov) for cov in [*covs, 2.5 * spread]])
    shares = np.append(0.85 * shares, 0.15)
    del old
    return _Mixture(shares, means, roots)


def _log_normal(z: FloatArray, mean: FloatArray, cov: FloatArray) -> FloatArray:
    root = np.linalg.cholesky(cov)
    white = np.linalg.solve(root, (z - mean).T)
    return np.asarray(-np.log(np.diag(root)).sum() - 0.5 * (white**2).sum(axis=0))


def _resampled(log_weights: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
    """Systematic resampling, in random order."""
    weights = np.exp(log_weights - logsumexp(log_weights))
    at = (np.arange(n) + rng.random()) / n
    chosen = np.minimum(np.searchsorted(np.cumsum(weights), at), len(weights) - 1)
    return rng.permutation(chosen)


def pareto_k(log_weights: FloatArray) -> float:
    """
    Shape of the tail of importance weights.

    References
    ----------
    Vehtari, A. et al. (2024), Pareto smoothed importance sampling, Journal of Machine
    Learning Research 25(72); Zhang, J. and Stephens, M. A. (2009), A new and efficient
    estimation method for the generalized Pareto distribution, Technometrics 51, 316-325.
    """
    logs = np.sort(log_weights[np.isfinite(log_weights)])
    n = len(logs)
    tail = int(min(0.2 * n, 3.0 * np.sqrt(n)))
    if tail < 5:
        return np.inf
    x = np.exp(logs[-tail:] - logs[-1])
    x = x - np.exp(logs[-tail - 1] - logs[-1])
    x = x[x > 0.0]
    if len(x) < 5:
        return -np.inf
    m = 30 + int(np.sqrt(len(x)))
    b = 1.0 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))
    b = b / (3.0 * x[int(len(x) / 4 + 0.5) - 1]) + 1.0 / x[-1]
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        fit = len(x) * (np.log(-b / k) - k - 1.0)
    fit = np.where(np.isfinite(fit), fit, -np.inf)
    weights = np.exp(fit - logsumexp(fit))
    best = float((b * weights).sum())
    shape = float(np.log1p(-best * x).mean())
    return (len(x) * shape + 5.0) / (len(x) + 10.0)


def _chains(
    density: Density,
    mixture: _Mixture,
    n: int,
    rng: np.random.Generator,
    tell: Callable[[str], None],
) -> Draws:
    """Differential evolution with snooker-free steps, many chains at once."""
    k = mixture.means.shape[1]
    m = max(4 * k, 40)
    z = mixture.draw(8 * m, rng)
    value = density(z)
    first = _resampled(np.where(np.isfinite(value), 0.0, -np.inf), m, rng)
    z, value = z[first], value[first]
    steps = max(400, int(np.ceil(12 * n / m)))
    kept = np.empty((steps, m, k))
    history = z.copy()
    gamma = 2.38 / np.sqrt(2.0 * k)
    for t in range(2 * steps):
        pairs = rng.integers(len(history), size=(2, m))
        size = np.where(rng.random(m) < 0.1, 1.0, gamma * rng.uniform(0.5, 1.5, m))
        new = z + size[:, None] * (history[pairs[0]] - history[pairs[1]])
        new += 1e-4 * rng.normal(size=z.shape)
        found = density(new)
        taken = np.log(rng.random(m)) < found - value
        z, value = np.where(taken[:, None], new, z), np.where(taken, found, value)
        if t < steps and t % 5 == 0:
            history = np.vstack([history, z])
        elif t >= steps:
            kept[t - steps] = z
    found_r = r_hat(kept)
    effective = effective_size(kept)
    tell(f"chains: largest R-hat {found_r.max():.3f}, effective {effective:.0f}")
    if not found_r.max() < _RHAT:
        raise NotComputedError(
            "posterior(): neither weighted draws nor chains explore the posterior (the "
            f"largest R-hat is {found_r.max():.3f}). Give narrower priors, or a simpler "
            "model: parameters that the data do not tell apart are the usual cause"
        )
    flat = kept.reshape(-1, k)
    chosen = rng.choice(len(flat), n, replace=len(flat) < n)
    return Draws(
        flat[chosen], min(effective, n), np.nan, found_r, np.nan, 2 * steps * m
    )


def r_hat(chains: FloatArray) -> FloatArray:
    """
    Rank-normalised split R-hat of chains, shape (steps, m, k) to (k,).

    References
    ----------
    Vehtari, A. et al. (2021), Rank-normalization, folding, and localization: an improved
    R-hat, Bayesian Analysis 16, 667-718.
    """
    half = len(chains) // 2
    both = np.concatenate([chains[:half], chains[half : 2 * half]], axis=1)
    n, m, k = both.shape
    out = np.empty(k)
    for j in range(k):
        ranks = rankdata(both[:, :, j]).reshape(n, m)
        x = norm.ppf((ranks - 0.375) / (n * m + 0.25))
        within = x.var(axis=0, ddof=1).mean()
        between = n * x.mean(axis=0).var(ddof=1)
        out[j] = (
            np.sqrt((n - 1) / n + between / (n * within)) if within > 0.0 else np.inf
        )
    return out


def effective_size(chains: FloatArray) -> float:
    """Least effective number of draws of the coordinates of chains (steps, m, k)."""
    n, m, k = chains.shape
    least = np.inf
    for j in range(k):
        x = chains[:, :, j] - chains[:, :, j].mean()
        size = 2 ** int(np.ceil(np.log2(2 * n)))
        spectrum = np.abs(np.fft.rfft(x, size, axis=0)) ** 2
        cov = np.fft.irfft(spectrum, size, axis=0)[:n].mean(axis=1) / n
        rho = cov / cov[0]
        pairs = rho[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
        stop = int(np.argmax(pairs < 0.0)) if (pairs < 0.0).any() else len(pairs)
        time = max(2.0 * np.minimum.accumulate(pairs[:stop]).sum() - 1.0, 1.0 / n)
        least = min(least, n * m / time)
    return float(least)
