"""
Blocks of random effects: standard deviations, and correlations from partial ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.engine.covariance import alike_entries
from mixedar.exceptions import UnsupportedError, listing
from mixedar.fit import Fit
from mixedar.posterior.priors import LKJ


@dataclass(frozen=True)
class EffectBlock:
    """
    Standard deviations, and correlations, of effects that have a covariance.

    Where entries of the factor ``Lambda`` are held at zero, so are partial correlations
    of the effects.  Rows with an entry that is held at another number, and those of
    columns with one, whose sign it gives, have no standard deviation that is free: each
    of their free entries is a parameter by itself, a *loading*.

    Attributes
    ----------
    number : int
        Its own among the blocks of the layout.
    effects : ndarray of int
        Numbers of the effects among all.
    entries : ndarray of int
        Places of their lower triangle, row by row, in the layout.
    held : ndarray, shape (q, q)
        Lower triangle of ``Lambda``, relative to sigma; NaN where it is free.
    compound : bool
        Whether they share one variance and one correlation.
    """

    number: int
    effects: IntArray
    entries: IntArray
    held: FloatArray
    compound: bool = False

    @property
    def order(self) -> int:
        """Number of effects."""
        return len(self.effects)

    @property
    def is_free(self) -> bool:
        """Whether no entry is held."""
        return bool(np.isnan(self.held[np.tril_indices(self.order)]).all())

    @cached_property
    def _told(self) -> BoolArray:
        """Which entries are held at another number than zero, shape (q, q)."""
        return np.asarray(np.tril(np.nan_to_num(self.held)) != 0.0)

    @cached_property
    def _unsigned(self) -> BoolArray:
        """Which columns of ``Lambda`` may change their sign, shape (q,)."""
        return np.isnan(self.held.diagonal()) & ~self._told.any(axis=0)

    @cached_property
    def _is_scaled(self) -> BoolArray:
        """Which effects have a standard deviation, shape (q,)."""
        return np.asarray(self._unsigned & ~self._told.any(axis=1))

    @cached_property
    def scaled(self) -> IntArray:
        """Effects that have a standard deviation; the first stands for all alike."""
        return np.arange(1) if self.compound else np.flatnonzero(self._is_scaled)

    @cached_property
    def pairs(self) -> tuple[IntArray, IntArray]:
        """Rows and columns of the correlations that are free."""
        if self.compound:
            return np.ones(1, dtype=np.intp), np.zeros(1, dtype=np.intp)
        rows, columns = np.tril_indices(self.order, -1)
        free = np.isnan(self.held[rows, columns]) & self._is_scaled[rows]
        return rows[free], columns[free]

    @cached_property
    def further(self) -> list[int]:
        """How many free correlations each narrows; see :class:`LKJ`."""
        rows, columns = self.pairs
        return [
            int((((rows == i) & (columns > j)) | (columns == i)).sum())
            for i, j in zip(rows, columns, strict=True)
        ]

    def is_partial(self, k: int) -> bool:
        """Whether a correlation is given no others: none before it in its rows."""
        rows, columns = self.pairs
        j = columns[k]
        before = (columns < j) & np.isin(rows, [rows[k], j])
        told = not self._is_scaled[j] and (self.held[j, :j] != 0.0).any()
        return not (before.any() or told)

    @cached_property
    def loadings(self) -> tuple[IntArray, IntArray]:
        """Rows and columns of the entries that are parameters by themselves."""
        rows, columns = np.tril_indices(self.order)
        free = np.isnan(self.held[rows, columns]) & ~self._is_scaled[rows]
        return rows[free], columns[free]

    @property
    def positive(self) -> BoolArray:
        """Which loadings are: those that a column's sign is free for."""
        rows, columns = self.loadings
        return (rows == columns) & self._unsigned[rows]

    @property
    def k_sd(self) -> int:
        """Number of standard deviations."""
        return len(self.scaled)

    @property
    def k_corr(self) -> int:
        """Number of correlations."""
        return len(self.pairs[0])

    @property
    def k(self) -> int:
        """Number of parameters."""
        return self.k_sd + self.k_corr + len(self.loadings[0])

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

    def correlation_root(self, partial: FloatArray) -> FloatArray:
        """Cholesky factors of correlation matrices, (m, q, q), from the free ones."""
        m, q = len(partial), self.order
        out, left = np.zeros((m, q, q)), np.ones((m, q))
        for k, (i, j) in enumerate(zip(*self.pairs, strict=True)):
            out[:, i, j] = partial[:, k] * np.sqrt(left[:, i])
            left[:, i] *= 1.0 - partial[:, k] ** 2
        out[:, range(q), range(q)] = np.sqrt(left)
        return out

    def correlations(self, root: FloatArray, factor: FloatArray) -> FloatArray:
        """Of pairs that are free, from their root, or ``Lambda`` if some is held."""
        rows, columns = self.pairs
        if self.k_sd == self.order:
            return (root @ root.transpose(0, 2, 1))[:, rows, columns]
        cov = factor @ factor.transpose(0, 2, 1)
        variances = cov[:, range(self.order), range(self.order)]
        size = np.sqrt(variances[:, rows] * variances[:, columns])
        return np.asarray(cov[:, rows, columns] / np.where(size > 0.0, size, 1.0))

    def factor(
        self, root: FloatArray, sd: FloatArray, loadings: FloatArray
    ) -> FloatArray:
        """``Lambda`` of a correlation's root, with what is held; (m, q, q)."""
        if self.k_sd == self.order:
            return root * sd[:, :, None]
        out = np.repeat(np.tril(np.nan_to_num(self.held))[None], len(root), axis=0)
        out[:, self.scaled] = root[:, self.scaled] * sd[:, :, None]
        out[:, self.loadings[0], self.loadings[1]] = loadings
        return out

    def coordinates(self, factor: FloatArray, least: float) -> FloatArray:
        """Coordinates of ``Lambda`` of a fit, drawn in from the boundary."""
        own = factor @ factor.T
        sd = np.maximum(np.sqrt(np.diag(own)), least)
        parts = [np.log(sd[self.scaled])]
        if self.compound:
            share = (own[1, 0] / sd[0] ** 2 - self.lowest) / (1.0 - self.lowest)
            parts.append(np.arctanh(np.clip(2.0 * share - 1.0, -0.95, 0.95))[None])
            return np.concatenate(parts)
        turned = self._unsigned & (factor.diagonal() < 0.0)
        factor = np.where(turned, -factor, factor)
        root = factor / sd[:, None]
        if self.is_free:  # in coordinates of a map that is not diagonal
            corr = np.clip(own / np.outer(sd, sd), -0.95, 0.95)
            np.fill_diagonal(corr, 1.0)
            root = _triangular_root(corr)
        parts.append(np.arctanh(_partial_correlations(root)[self.pairs]))
        found, least = factor[self.loadings], 0.03 * least
        positive = self.positive
        found[positive] = np.log(np.maximum(found[positive], least))
        return np.concatenate([*parts, found])


def log_lkj(prior: LKJ, block: EffectBlock, partial: FloatArray) -> FloatArray:
    """Log-density of partial correlations, so that it is that of the free ones."""
    logs = [
        prior.log_density_partial(partial[:, k], further)
        for k, further in enumerate(block.further)
    ]
    return np.sum(logs, axis=0)


def effect_blocks(fit: Fit) -> list[EffectBlock]:
    """Effects that have parameters of a covariance of their own."""
    layout, out = fit.layout, []
    for number, (place, order) in enumerate(
        zip(layout.places, layout.blocks, strict=True)
    ):
        entries = np.arange(place.entries.start, place.entries.stop)
        effects = np.arange(place.effects.start, place.effects.stop)
        compound = layout.compound and number == 0
        held = np.full((order, order), np.nan)
        if not compound:
            held[np.tril_indices(order)] = layout.fixed[entries]
        block = EffectBlock(number, effects, entries, held, compound)
        if block.k:
            out.append(block)
    if fit.unseen or fit.unseen_correlations.any():
        raise UnsupportedError(
            "posterior(): the likelihood does not depend on "
            f"{listing([fit.effect_names[k] for k in fit.unseen])}; leave it out"
        )
    return out


def _triangular_root(corr: FloatArray) -> FloatArray:
    """Cholesky factor of a correlation matrix drawn in from singular ones."""
    values, vectors = np.linalg.eigh(corr)
    corr = (vectors * np.maximum(values, 0.05)) @ vectors.T
    scale = np.sqrt(np.diag(corr))
    return np.linalg.cholesky(corr / np.outer(scale, scale))


def _partial_correlations(root: FloatArray) -> FloatArray:
    """Correlations given the effects before, (q, q), from rows of unit length."""
    out = np.zeros_like(root)
    for i in range(1, len(root)):
        left = 1.0
        for j in range(i):
            z = root[i, j] / np.sqrt(left)
            out[i, j] = np.clip(z, -0.95, 0.95)
            left *= max(1.0 - z**2, 1e-6)
    return out


def rotated(
    block_map: FloatArray, entries: FloatArray, *, diagonal: bool
) -> FloatArray:
    """Lower triangles of blocks of ``Lambda`` in the coordinates of a map."""
    q = len(block_map)
    rows, columns = np.tril_indices(q)
    if q == 0:
        return entries
    if diagonal:  # columns keep their signs
        return np.asarray(entries / np.diagonal(block_map)[rows])
    block = np.zeros((len(entries), q, q))
    block[:, rows, columns] = entries
    inner = np.linalg.solve(block_map, block)
    if q > 1:
        upper = np.asarray(np.linalg.qr(inner.transpose(0, 2, 1), mode="r"))
        inner = upper.transpose(0, 2, 1)
    return np.asarray(inner[:, rows, columns])
