"""
Chains of differential evolution, and whether they agree.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import norm, rankdata

from mixedar._types import FloatArray


def differential_evolution(
    density: Callable[[FloatArray], FloatArray],
    history: FloatArray,
    m: int,
    steps: int,
    rng: np.random.Generator,
) -> FloatArray:
    """
    Chains whose steps are differences of points that were seen before.

    Parameters
    ----------
    density : callable
        Log-density of points, shape (m, k) to (m,).
    history : ndarray, shape (l, k)
        The chains start at the first `m`.
    m, steps : int
        Chains, and steps of each that are kept, after a quarter as many that are not.
    rng : Generator

    Returns
    -------
    ndarray, shape (steps, m, k)
    """
    k = history.shape[1]
    z = history[:m]
    value = density(z)
    kept = np.empty((steps, m, k))
    gamma = 2.38 / np.sqrt(2.0 * k)
    for t in range(-(steps // 4), steps):
        pairs = rng.integers(len(history), size=(2, m))
        size = np.where(rng.random(m) < 0.1, 1.0, gamma * rng.uniform(0.5, 1.5, m))
        new = z + size[:, None] * (history[pairs[0]] - history[pairs[1]])
        new += 1e-4 * rng.normal(size=z.shape)
        found = density(new)
        taken = np.log(rng.random(m)) < found - value
        z, value = np.where(taken[:, None], new, z), np.where(taken, found, value)
        if t < 0 and t % 10 == 0:
            history = np.vstack([history, z])
        elif t >= 0:
            kept[t] = z
    return kept


def r_hat(chains: FloatArray) -> FloatArray:
    """
    Rank-normalised split R-hat of chains, shape (steps, m, k) to (k,).

    References
    ----------
    Vehtari, A. et al. (2021), Rank-normalization, folding, and localization: an
    improved R-hat, Bayesian Analysis 16, 667-718.
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


def effective_sizes(chains: FloatArray) -> FloatArray:
    """Effective numbers of draws of the coordinates of chains (steps, m, k)."""
    n, m, k = chains.shape
    out = np.empty(k)
    size = 2 ** int(np.ceil(np.log2(2 * n)))
    for j in range(k):
        x = chains[:, :, j] - chains[:, :, j].mean()
        spectrum = np.abs(np.fft.rfft(x, size, axis=0)) ** 2
        cov = np.fft.irfft(spectrum, size, axis=0)[:n].mean(axis=1) / n
        if not cov[0] > 0.0:  # chains that stand still
            out[j] = 0.0
            continue
        rho = cov / cov[0]
        pairs = rho[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
        stop = int(np.argmax(pairs < 0.0)) if (pairs < 0.0).any() else len(pairs)
        time = max(2.0 * np.minimum.accumulate(pairs[:stop]).sum() - 1.0, 1.0 / n)
        out[j] = n * m / time
    return out
