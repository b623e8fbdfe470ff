"""
Exploring a density of a few dimensions: adaptive mixtures, and chains where they fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import NotComputedError
from mixedar.posterior.chains import differential_evolution, effective_sizes, r_hat
from mixedar.posterior.psis import GOOD, pareto_k
from mixedar.posterior.weighted import (
    NOWHERE,
    Components,
    Density,
    Natural,
    Proposal,
    log_sum,
)

_ROUNDS = 8
_RHAT = 1.02
_WIDEST = 9.0  # variance of a coordinate of a first proposal
_DONE = 0.75  # efficiency that no further round is made for
_LEAST_ROUNDS = 3
_POOR = 0.4  # efficiency of mixtures that are fitted anew
_LAST_ROUNDS = 12  # of points where weights are largest, and more of all
_ENOUGH = 0.995  # of the draws that each parameter's are worth
_ENOUGH_OF_DEAR = 0.8  # the same where points cost much
_LARGEST = 2.0  # draws of one point, near which further ones are sought
_FURTHER = 1.4  # times as many points a round
_LEAST_SHARE = 1e-4  # of the average weight, of points that mixtures are fitted to
_LOCAL = 3  # of these components a round


@dataclass(frozen=True)
class Draws:
    """
    A sample of a density.

    Attributes
    ----------
    z : ndarray, shape (n, k)
    effective : float
        Number of independent draws that tell as much.
    bulk, tail : ndarray, shape (k,)
        The same for the mean, and for the outer twentieths, of each parameter.
    pareto_k : float
        Tail of the importance weights; NaN of chains.
    r_hat : ndarray, shape (k,)
        Of chains; NaN of weighted draws.
    proposal : Proposal or None
        What the weighted points were drawn from; None of chains.
    evaluations : int
    """

    z: FloatArray
    effective: float
    bulk: FloatArray
    tail: FloatArray
    pareto_k: float
    r_hat: FloatArray
    proposal: Proposal | None
    evaluations: int


def explore(
    density: Density,
    starts: Sequence[FloatArray],
    n: int,
    rng: np.random.Generator,
    tell: Callable[[str], None],
    *,
    natural: Natural = np.asarray,
    dear: bool = False,
) -> Draws:
    """
    Sample a density.

    Mixtures of t distributions at the modes are adapted to the density (Cappe et al.,
    2008, Statistics and Computing 18, 447-459), components are added where weights are
    largest (Raftery and Bao, 2010, Biometrics 66, 1162-1173), and the weighted points
    of all rounds are resampled.  Where the tail of the weights says that this failed,
    chains of differential evolution explore it (ter Braak and Vrugt, 2008, Statistics
    and Computing 18, 435-446).

    Parameters
    ----------
    density : callable
    starts : sequence of ndarray, each of shape (k,)
    n : int
        Number of draws.
    rng : Generator
    tell : callable
        Takes what is being done.
    natural : callable
        What the effective numbers of draws are of.
    dear : bool
        Whether points cost so much that fewer have to do.

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
    if best <= NOWHERE:
        raise NotComputedError(
            "posterior(): the posterior density is zero, or cannot be computed, near "
            "the maxima of the likelihood: do the priors leave them out?"
        )
    near = [z for z, value in modes if value > best - 12.0]
    points = Components(counted, natural, len(starts[0]), rng)
    _adapt(points, near, tell, dear)
    most = max(3000.0, 6.0 * n) if dear else 12.0 * n + 20000.0
    wanted = (_ENOUGH_OF_DEAR if dear else _ENOUGH) * n
    for _ in range(_LAST_ROUNDS):
        efficiency, tail = points.judged(tell)
        _, bulk, tails = points.worth(n)
        least = min(bulk.min(), tails.min())
        tell(f"{n} draws are worth {least:.0f} independent ones")
        missing = min((_FURTHER - 1.0) * len(points), most - len(points))
        enough = least >= wanted or missing <= 0.0
        if tail <= GOOD - 0.1 and enough:
            break
        if tail > GOOD - 0.2 or points.weights.max() > _LARGEST / n:
            _add_local(points, max(len(points) // 40, 20 * points.k))
        if not enough and efficiency < _POOR:  # more points tell what they suit
            means, found, shares = _fitted(points)
            points.draw(means, found, np.ceil(shares * missing).astype(np.intp))
        elif not enough:
            _draw_more(points, missing)
    log_weights = points.log_weights
    tail = pareto_k(log_weights)
    if tail > GOOD or not np.isfinite(log_weights).any():
        return _chains(counted, points, n, rng, tell, natural, dear)
    effective, bulk, tails = points.worth(n)
    return Draws(
        points.z[_resampled(points.weights, n, rng)],
        effective,
        bulk,
        tails,
        tail,
        np.full(points.k, np.nan),
        points.proposal,
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
        here = found[0] if np.isfinite(found[0]) else NOWHERE
        # no slope towards where there is nothing
        found = np.where(np.isfinite(found), found, here)
        return -here, -(found[1 : k + 1] - found[k + 1 :]) / 2e-4

    found = minimize(
        function, start, jac=True, method="L-BFGS-B", options={"maxiter": 60}
    )
    first = function(start)[0]
    if first < found.fun:  # a line search may end outside of the range
        return start, -first
    return found.x, -float(found.fun)


def _curvature(density: Density, mode: FloatArray) -> FloatArray:
    """Inverse of minus the second derivatives, within bounds."""
    k, h = len(mode), 0.02
    rows, columns = np.tril_indices(k)
    unit = h * np.eye(k)
    signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    points = [mode + a * unit[rows] + b * unit[columns] for a, b in signs]
    found = density(np.vstack(points)).reshape(4, -1)
    with np.errstate(invalid="ignore"):  # of nothing on several sides
        second = (found[0] - found[1] - found[2] + found[3]) / (4.0 * h * h)
    matrix = np.zeros((k, k))
    matrix[rows, columns] = matrix[columns, rows] = np.where(
        np.isfinite(second), second, 0.0
    )
    values, vectors = np.linalg.eigh(-matrix)
    return np.asarray((vectors / np.maximum(values, 1.0 / _WIDEST)) @ vectors.T)


def _adapt(
    points: Components,
    modes: Sequence[FloatArray],
    tell: Callable[[str], None],
    dear: bool,
) -> None:
    """Draw from mixtures, each fitted to the points of those before it."""
    k = points.k
    size = max(250, 80 * k) if dear else max(1000, 150 * k)
    covs = [_curvature(points.density, mode) for mode in modes for _ in range(2)]
    scales = [1.2, 4.0] * len(modes)
    means = np.array([mode for mode in modes for _ in range(2)])
    wide = np.array([scale * cov for scale, cov in zip(scales, covs, strict=True)])
    points.draw(means, wide, np.full(len(means), size // len(means) + 1))
    for number in range(_ROUNDS - 3 * dear):
        efficiency, tail = points.judged(tell)
        if number >= _LEAST_ROUNDS and efficiency > _DONE:
            break
        means, found, shares = _fitted(points)
        points.draw(means, found, np.ceil(shares * size).astype(np.intp))
        if tail > GOOD - 0.2:
            _add_local(points, size // 3)


def _draw_more(points: Components, count: float) -> None:
    """Draw from all components, in the shares that suit the density best."""
    w = _flattened(points.weights, 0.25)
    drawn = np.array(points.counts) / sum(points.counts)
    density = np.exp(points.logs - points.logs.max(axis=0))
    shares = drawn
    for _ in range(20):
        shares = shares * (density @ (w / (shares @ density)))
    shares = 0.9 * shares + 0.1 * drawn
    counts = np.ceil(shares / shares.sum() * count).astype(np.intp)
    points.draw_again(np.arange(len(counts)), counts)


def _flattened(w: FloatArray, least: float) -> FloatArray:
    """A power of the weights that is efficient enough to fit something to."""
    for power in (1.0, 0.85, 0.7, 0.55, 0.4, 0.25):
        out = w**power
        out = out / out.sum()
        if 1.0 / (out**2).sum() >= least * len(w):
            break
    return np.asarray(out)


def _add_local(points: Components, size: int) -> None:
    """Draw around the points of the largest weights."""
    w, z = points.weights, points.z
    spread = _spread(z, w)[1]
    white = np.linalg.solve(np.linalg.cholesky(spread), z.T).T
    means, covs = [], []
    for _ in range(_LOCAL):
        at = int(np.argmax(w))
        near = np.argsort(((white - white[at]) ** 2).sum(axis=1))[:size]
        own = 0.5 * points.weights[near] + 0.5 / len(z)
        own /= own.sum()
        apart = z[near] - z[at]
        means.append(z[at])
        covs.append(apart.T @ (own[:, None] * apart) + 0.02 * spread)
        w[near[: size // 4]] = 0.0
    points.draw(np.array(means), np.array(covs), np.full(_LOCAL, size // _LOCAL + 1))


def _spread(z: FloatArray, w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and covariance of weighted points."""
    centre = w @ z
    apart = z - centre
    return centre, apart.T @ (w[:, None] * apart) + 1e-8 * np.eye(z.shape[1])


def _fitted(points: Components) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Means, covariances and shares of a mixture fitted to weighted points."""
    z, w = points.z, points.weights
    w = np.minimum(_flattened(w, 0.15), 20.0 / len(z))
    told = w > _LEAST_SHARE / len(z)
    z, w = z[told], w[told] / w[told].sum()
    count = min(6, 1 + len(z) // (80 * z.shape[1]))
    centre, spread = _spread(z, w)
    means = z[points.rng.choice(len(z), count, p=w)]
    covs = np.repeat(spread[None], count, axis=0)
    shares = np.full(count, 1.0 / count)
    for _ in range(15):
        logs = np.stack(
            [
                np.log(share) + _log_normal(z, mean, cov)
                for share, mean, cov in zip(shares, means, covs, strict=True)
            ]
        )
        member = np.exp(logs - log_sum(logs)) * w
        shares = np.maximum(member.sum(axis=1), 1e-6)
        means = (member @ z) / shares[:, None]
        for c in range(count):
            apart = z - means[c]
            own = apart.T @ (member[c][:, None] * apart) / shares[c]
            covs[c] = 0.98 * own + 0.02 * spread
        shares = shares / shares.sum()
    # what covers the tails: everything, wide, and where flattened weights are
    flat = w**0.25
    middle, wide = _spread(z, flat / flat.sum())
    return (
        np.vstack([means, centre, middle]),
        np.array([*(1.05 * covs), 2.0 * spread, wide + 0.5 * spread]),
        np.concatenate([0.8 * shares, [0.1, 0.1]]),
    )


def _log_normal(z: FloatArray, mean: FloatArray, cov: FloatArray) -> FloatArray:
    root = np.linalg.cholesky(cov)
    white = (z - mean) @ np.linalg.inv(root).T
    return np.asarray(-np.log(np.diag(root)).sum() - 0.5 * (white**2).sum(axis=1))


def _resampled(weights: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
    """Systematic resampling, in random order."""
    at = (np.arange(n) + rng.random()) / n
    order = rng.permutation(len(weights))
    chosen = np.searchsorted(np.cumsum(weights[order]), at)
    return rng.permutation(order[np.minimum(chosen, len(weights) - 1)])


def _chains(
    density: Density,
    points: Components,
    n: int,
    rng: np.random.Generator,
    tell: Callable[[str], None],
    natural: Natural,
    dear: bool,
) -> Draws:
    """Differential evolution, many chains at once, from weighted points."""
    k = points.k
    m, steps = (6 * k, 1500) if dear else (max(20 * k, 100), 2000)
    flat = points.weights**0.5
    history = points.z[_resampled(flat / flat.sum(), 5 * m, rng)]
    kept = differential_evolution(density, history, m, steps, rng)
    found_r = r_hat(kept)
    x = natural(kept.reshape(-1, k)).reshape(steps, m, -1)
    ends = np.quantile(x, [0.05, 0.95], axis=(0, 1))
    bulk = effective_sizes(x)
    tails = np.minimum(*(effective_sizes((x <= end).astype(float)) for end in ends))
    tell(f"chains: largest R-hat {found_r.max():.3f}, effective {bulk.min():.0f}")
    if not found_r.max() < _RHAT:
        raise NotComputedError(
            "posterior(): neither weighted draws nor chains explore the posterior "
            f"(the largest R-hat is {found_r.max():.3f}). Give narrower priors, or a "
            "simpler model: parameters that the data do not tell apart are the usual "
            "cause"
        )
    chosen = rng.choice(steps * m, n, replace=steps * m < n)
    return Draws(
        kept.reshape(-1, k)[chosen],
        min(float(bulk.min()), float(n)),
        np.minimum(bulk, n),
        np.minimum(tails, n),
        np.nan,
        found_r,
        None,
        5 * steps * m // 4,
    )
