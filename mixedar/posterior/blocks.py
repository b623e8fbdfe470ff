"""
Blocks of random effects: standard deviations, and correlations from partial ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.covariance import alike_entries
from mixedar.exceptions import UnsupportedError, listing
from mixedar.fit import Fit
from mixedar.posterior.priors import LKJ


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
    compound : bool
        Whether they share one variance and one correlation.
    """

    effects: IntArray
    entries: IntArray
    correlated: bool
    compound: bool = False

    @property
    def order(self) -> int:
        """Number of effects."""
        return len(self.effects)

    @property
    def k_sd(self) -> int:
        """Number of standard deviations."""
        return 1 if self.compound else self.order

    @property
    def k_corr(self) -> int:
        """Number of correlations."""
        if self.compound:
            return 1
        return self.order * (self.order - 1) // 2 if self.correlated else 0

    @property
    def lowest(self) -> float:
        """What a correlation that all effects share has to exceed."""
        return -1.0 / (self.order - 1.0)

    def shared(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """A correlation that all share, by its coordinate, and the log-Jacobian."""
        half = 0.5 * (1.0 - self.lowest)
        rho = self.lowest + half * (np.tanh(z) + 1.0)
        return rho, np.log(half) - 2.0 * np.log(np.cosh(z))

    def shared_root(self, sd: FloatArray, rho: FloatArray) -> FloatArray:
        """Entries of the symmetric root of a covariance with one variance."""
        q = self.order
        values = np.column_stack([1.0 + (q - 1.0) * rho, 1.0 - rho])
        roots = sd[:, None] * np.sqrt(np.clip(values, 0.0, None))
        return alike_entries(q, roots)


def log_lkj(prior: LKJ, order: int, partial: FloatArray) -> FloatArray:
    """Log-density of partial correlations, row by row of the lower triangle."""
    _, given = np.tril_indices(order, -1)
    logs = [
        prior.log_density_partial(partial[:, k], order, int(j))
        for k, j in enumerate(given)
    ]
    return np.sum(logs, axis=0)


def effect_blocks(fit: Fit) -> list[EffectBlock]:
    """Effects that have a covariance of their own."""
    layout, out = fit.layout, []
    for place, order in zip(layout.places, layout.blocks, strict=True):
        if not order:
            continue
        entries = np.arange(place.entries.start, place.entries.stop)
        effects = np.arange(place.effects.start, place.effects.stop)
        free = layout.is_free[entries]
        rows, columns = np.tril_indices(order)
        compound = layout.compound and place is layout.places[0]
        if free.all():
            out.append(EffectBlock(effects, entries, order > 1, compound))
            continue
        if (
            compound
            or not (free == (rows == columns)).all()
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


def correlation_root(partial: FloatArray, q: int) -> FloatArray:
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


def partial_correlations(corr: FloatArray) -> FloatArray:
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


def rotated(block_map: FloatArray, entries: FloatArray) -> FloatArray:
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
