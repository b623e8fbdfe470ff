"""
The covariance of the random effects and its parameters.

``Psi = Lambda Lambda'`` (relative to the residual variance) consists of an
unstructured block for the correlated random effects of the groups, of one variance
for each variance component, repeated over the component's columns, and of one block
for each further term, the effects of another factor, repeated over its levels.  The
optimiser works on the entries of ``Lambda``, which makes a singular ``Psi``
an ordinary point; inference works on the entries of ``Psi``.

The effects of the groups may share one variance and one covariance (compound symmetry,
``pdCompSymm`` of nlme).  ``Psi`` has two entries then, and so has its symmetric root
``Lambda``, which is of the same form: the first of the diagonal, and that below it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray
from mixedar.numeric.autodiff import Jet
from mixedar.numeric.linalg import r_factor, spectral_root


class Place(NamedTuple):
    """Where the effects of a block are among all, and the entries of its factor."""

    effects: slice
    entries: slice


class TermLayout(NamedTuple):
    """
    How the columns of a further term share the entries of a covariance.

    Attributes
    ----------
    order : int
        Number of effects with a covariance of their own.
    copies : int
        How often these effects are repeated, independently, in one level: a smooth
        has one variance for all of its columns.
    """

    order: int
    copies: int = 1

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.order * self.copies

    def whole(self, small: FloatArray, between: FloatArray | None = None) -> FloatArray:
        """Matrix of one level from that of one copy, and one between the copies."""
        if self.copies == 1:
            return small
        wide = np.eye(self.copies) if between is None else between
        return np.asarray(np.kron(wide, small), dtype=np.float64)


@dataclass(frozen=True)
class RandomCovariance:
    """
    Layout of the random-effects covariance parameters.

    Attributes
    ----------
    k_re : int
        Order of the unstructured block.
    vc_sizes : tuple of int
        Number of columns of each variance component.
    fixed : ndarray, shape (k_cov,)
        NaN where an entry of ``Lambda`` is free, and otherwise its value:
        first the lower triangle of the block row by row, then the standard
        deviations of the components, then the triangles of the further terms.
    terms : tuple of TermLayout
        Effects of each further term.
    compound : bool
        Whether the block has one variance and one covariance.
    """

    k_re: int
    vc_sizes: tuple[int, ...]
    fixed: FloatArray
    terms: tuple[TermLayout, ...] = ()
    compound: bool = False

    @classmethod
    def free(
        cls,
        k_re: int,
        vc_sizes: tuple[int, ...] = (),
        terms: tuple[TermLayout, ...] = (),
        *,
        compound: bool = False,
    ) -> RandomCovariance:
        """The layout in which every entry is estimated."""
        count = len(_block_entries(k_re, compound)[0]) + len(vc_sizes)
        count += sum(_triangle(term.order) for term in terms)
        return cls(k_re, vc_sizes, np.full(count, np.nan), terms, compound)

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """Orders of all blocks: the groups' effects, components, further terms."""
        orders = (term.order for term in self.terms)
        return (self.k_re, *(1 for _ in self.vc_sizes), *orders)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Where the effects and entries of each block are."""
        effects = np.cumsum([0, *self.blocks]).tolist()
        counts = [len(self.tril[0]), *map(_triangle, self.blocks[1:])]
        entries = np.cumsum([0, *counts]).tolist()
        pairs = zip(pairwise(effects), pairwise(entries), strict=True)
        return tuple(Place(slice(*one), slice(*other)) for one, other in pairs)

    @property
    def term_places(self) -> tuple[Place, ...]:
        """Those of the further terms."""
        return self.places[1 + len(self.vc_sizes) :]

    @cached_property
    def k_cov(self) -> int:
        """Number of covariance parameters, free or not."""
        return self.places[-1].entries.stop

    @property
    def k_groups(self) -> int:
        """Number of those of the groups; they come first."""
        return len(self.tril[0]) + len(self.vc_sizes)

    @property
    def order(self) -> int:
        """Number of columns of the random-effects design of the groups."""
        return self.k_re + sum(self.vc_sizes)

    @cached_property
    def of_groups(self) -> RandomCovariance:
        """The layout without the further terms."""
        return replace(self, fixed=self.fixed[: self.k_groups], terms=())

    @cached_property
    def of_terms(self) -> tuple[RandomCovariance, ...]:
        """A layout for each further term."""
        return tuple(
            RandomCovariance(term.order, (), self.fixed[place.entries])
            for term, place in zip(self.terms, self.term_places, strict=True)
        )

    @cached_property
    def is_free(self) -> NDArray[np.bool_]:
        """Which entries are estimated, shape (k_cov,)."""
        return np.isnan(self.fixed)

    @property
    def tril(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the block's entries: a lower triangle, row by row."""
        return _block_entries(self.k_re, self.compound)

    @cached_property
    def effects(self) -> tuple[IntArray, IntArray]:
        """
        Which two effects each entry belongs to, arrays of shape (k_cov,).

        Effects are counted through the blocks; a component has one.  With compound
        symmetry the first two stand for all.
        """
        first = [place.effects.start for place in self.places]
        where = [self.tril, *map(lower_triangle, self.blocks[1:])]
        rows = [start + i for start, (i, _) in zip(first, where, strict=True)]
        columns = [start + j for start, (_, j) in zip(first, where, strict=True)]
        return np.concatenate(rows), np.concatenate(columns)

    @property
    def on_diagonal(self) -> NDArray[np.bool_]:
        """Which entries are variances, shape (k_cov,)."""
        rows, columns = self.effects
        return rows == columns

    def entry(self, i: int, j: int) -> int:
        """Position of a variance or covariance of effects."""
        rows, columns = self.effects
        if self.compound and max(i, j) < self.k_re:
            i, j = int(i != j), 0
        found = (rows == max(i, j)) & (columns == min(i, j))
        return int(np.flatnonzero(found)[0])

    def matrix(self, values: FloatArray) -> FloatArray:
        """Covariance of all effects, one level each, from its entries."""
        rows, columns = self.effects
        out = np.zeros((sum(self.blocks),) * 2)
        out[rows, columns] = out[columns, rows] = values
        if self.compound:
            out[: self.k_re, : self.k_re] = self._compound(values)
        return out

    def _compound(self, entries: FloatArray) -> FloatArray:
        """The block with one number on its diagonal and another beside it."""
        rest = np.full((self.k_re, self.k_re), entries[1])
        return rest + np.diag(np.full(self.k_re, entries[0] - entries[1]))

    @property
    def component_starts(self) -> NDArray[np.intp]:
        """First column of each variance component."""
        return self.k_re + np.cumsum((0, *self.vc_sizes), dtype=np.intp)[:-1]

    @property
    def directions(self) -> FloatArray:
        """``dPsi / dv_k`` for each entry, shape (k_cov, order, order)."""
        return _directions(self.k_re, self.vc_sizes, self.compound)

    @cached_property
    def _all_free(self) -> bool:
        return bool(self.is_free.all())

    def entries(self, theta: FloatArray) -> FloatArray:
        """All entries of ``Lambda`` from the free ones, shape (k_cov,)."""
        if self._all_free:
            return theta
        out = self.fixed.copy()
        out[self.is_free] = theta
        return out

    def factor(self, theta: FloatArray) -> FloatArray:
        """
        ``Lambda`` of the groups at the free entries.

        Parameters
        ----------
        theta : ndarray, shape (number of free entries,)

        Returns
        -------
        ndarray, shape (order, order)
        """
        entries = self.entries(theta)
        out = np.zeros((self.order, self.order))
        count = len(self.tril[0])
        if self.compound:
            out[: self.k_re, : self.k_re] = self._compound(entries)
        else:
            out[self.tril] = entries[:count]
        if self.vc_sizes:
            diagonal = np.repeat(entries[count : self.k_groups], self.vc_sizes)
            columns = np.arange(self.k_re, self.order)
            out[columns, columns] = diagonal
        return out

    def term_factors(self, theta: FloatArray) -> tuple[FloatArray, ...]:
        """``Lambda`` of one copy of each further term."""
        entries, out = self.entries(theta), []
        for (order, _), place in zip(self.terms, self.term_places, strict=True):
            factor = np.zeros((order, order))
            factor[lower_triangle(order)] = entries[place.entries]
            out.append(factor)
        return tuple(out)

    def many_factors(
        self, theta: FloatArray
    ) -> tuple[FloatArray, tuple[FloatArray, ...]]:
        """
        :meth:`factor` and :meth:`term_factors` at many points.

        Parameters
        ----------
        theta : ndarray, shape (b, number of free entries)

        Returns
        -------
        ndarray, shape (b, order, order)
        tuple of ndarray, each of shape (b, k, k)
        """
        b = len(theta)
        entries = np.repeat(self.fixed[None], b, axis=0)
        entries[:, self.is_free] = theta
        groups, (rows, columns) = np.zeros((b, self.order, self.order)), self.tril
        if self.compound:
            own = groups[:, : self.k_re, : self.k_re]
            own[:] = entries[:, 1, None, None]
            own[:, range(self.k_re), range(self.k_re)] = entries[:, :1]
        else:
            groups[:, rows, columns] = entries[:, : len(rows)]
        vc = np.arange(self.k_re, self.order)
        count = slice(len(rows), self.k_groups)
        groups[:, vc, vc] = np.repeat(entries[:, count], self.vc_sizes, axis=1)
        terms = []
        for (order, _), place in zip(self.terms, self.term_places, strict=True):
            factors = np.zeros((b, order, order))
            rows, columns = lower_triangle(order)
            factors[:, rows, columns] = entries[:, place.entries]
            terms.append(factors)
        return groups, tuple(terms)

    def values(self, theta: FloatArray) -> FloatArray:
        """Entries ``v`` of ``Psi`` in the order of :attr:`fixed`, shape (k_cov,)."""
        entries = self.entries(theta)
        return 0.5 * (self._forms @ entries) @ entries

    @property
    def _forms(self) -> FloatArray:
        return _quadratic(self.blocks, self.compound)

    @cached_property
    def _bends(self) -> FloatArray:
        """Second derivatives of ``v`` by the free entries, (free, free, k_cov)."""
        free = np.flatnonzero(self.is_free)
        return self._forms[:, free[:, None], free].transpose(1, 2, 0)

    def jet(self, theta: FloatArray) -> Jet:
        """Entries ``v`` of ``Psi`` by the free entries of ``Lambda``."""
        entries = self.entries(theta)
        slopes = self._forms @ entries
        first = slopes if self._all_free else slopes[:, self.is_free]
        return Jet(0.5 * slopes @ entries, first.T, self._bends)

    def root_entries(self, cov_re: FloatArray, vcomp: FloatArray) -> FloatArray:
        """Entries of ``Lambda`` of the groups from the covariance of their effects."""
        if not self.compound:
            return factor_entries(cov_re, vcomp)
        # eigenvalues of the mean of the effects, and of their differences
        k, variance, cov = self.k_re, cov_re[0, 0], cov_re[1, 0]
        values = np.array([variance + (k - 1) * cov, variance - cov])
        own = alike_entries(k, np.sqrt(np.clip(values, 0.0, None)))
        return np.concatenate([own, np.sqrt(np.clip(vcomp, 0.0, None))])

    def unsigned(self, theta: FloatArray) -> FloatArray:
        """
        The free entries of ``Lambda`` that stand for all with the same ``Psi``.

        Columns of a triangular root have signs of their own, and so have the two
        eigenvalues of one with compound symmetry.  What is held keeps its sign.
        """
        out, own = self.entries(theta).copy(), slice(len(self.tril[0]))
        rows, columns = self.effects
        apart = rows == columns
        turned = np.zeros(sum(self.blocks), dtype=bool)
        turned[columns[apart]] = out[apart] < 0.0
        turned[columns[~self.is_free & (out != 0.0)]] = False
        signs = np.where(turned[columns], -1.0, 1.0)
        if self.compound:
            signs[own] = 1.0
            if self.is_free[own].all():
                (first, beside), k = out[own], self.k_re
                values = np.abs([first + (k - 1) * beside, first - beside])
                out[own] = alike_entries(k, values)
        return (out * signs)[self.is_free]

    def in_units(self, block_map: FloatArray, entries: FloatArray) -> FloatArray:
        """Entries of the groups' block of ``Lambda`` in the coordinates of a map."""
        if self.compound:  # a multiple of the identity
            return np.asarray(entries / block_map[0, 0])
        return triangular_entries(block_map, entries)

    def block_map(self, block_map: FloatArray) -> FloatArray:
        """Linear map of the entries of a block ``A`` to those of ``B A B'``."""
        if self.compound:
            return np.eye(2) * block_map[0, 0] ** 2
        return entry_map(block_map)


def alike_entries(k: int, eigenvalues: FloatArray) -> FloatArray:
    """
    Entries on and beside the diagonal of a matrix with compound symmetry.

    Its two eigenvalues are those of the mean of `k` effects and of their differences,
    shape (..., 2).
    """
    mean, rest = eigenvalues[..., 0], eigenvalues[..., 1]
    beside = (mean - rest) / k
    return np.stack([rest + beside, beside], axis=-1)


def factor_entries(cov_re: FloatArray, vcomp: FloatArray) -> FloatArray:
    """
    Lower triangle of a root of `cov_re`, then standard deviations.

    Parameters
    ----------
    cov_re : ndarray, shape (q, q)
        Positive semidefinite.
    vcomp : ndarray, shape (k,)

    Returns
    -------
    ndarray, shape (q (q + 1) / 2 + k,)
    """
    q = len(cov_re)
    values, vectors = np.linalg.eigh(cov_re) if q else (np.empty(0), np.empty((0, 0)))
    root = spectral_root(values, vectors)
    lower = r_factor(root.T).T if q else root
    return np.concatenate([lower[np.tril_indices(q)], np.sqrt(np.clip(vcomp, 0, None))])


def triangular_entries(block_map: FloatArray, entries: FloatArray) -> FloatArray:
    """Entries of a block of ``Lambda`` in the coordinates of a map."""
    where = lower_triangle(len(block_map))
    block = np.zeros_like(block_map)
    block[where] = entries
    inner = np.asarray(np.linalg.solve(block_map, block), dtype=np.float64)
    if np.abs(np.triu(inner, 1)).max(initial=0.0) > 0.0:
        # QR of the transpose makes the rotated factor triangular again
        inner = r_factor(inner.T).T
    return inner[where]


def entry_map(block: FloatArray) -> FloatArray:
    """Linear map of the lower triangle of ``A`` to that of ``B A B'``."""
    i, j = lower_triangle(len(block))
    same = block[i[:, None], i] * block[j[:, None], j]
    crossed = block[i[:, None], j] * block[j[:, None], i]
    return same + crossed * (i != j)


def _triangle(k: int) -> int:
    return k * (k + 1) // 2


# Layouts are few, and every refit asks for the same ones.
@cache
def lower_triangle(k_re: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a lower triangle, row by row."""
    return np.tril_indices(k_re)


def _block_entries(
    k_re: int, compound: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the entries of the groups' block."""
    return lower_triangle(k_re) if not compound else _PAIR


# The first variance and the first covariance.
_PAIR = np.array([0, 1]), np.array([0, 0])


@cache
def _directions(k_re: int, vc_sizes: tuple[int, ...], compound: bool) -> FloatArray:
    rows, columns = _block_entries(k_re, compound)
    count, order = len(rows), k_re + sum(vc_sizes)
    out = np.zeros((count + len(vc_sizes), order, order))
    out[np.arange(count), rows, columns] = out[np.arange(count), columns, rows] = 1.0
    if compound:
        out[0, :k_re, :k_re] = np.eye(k_re)
        out[1, :k_re, :k_re] = 1.0 - np.eye(k_re)
    first = k_re
    for k, size in enumerate(vc_sizes, start=count):
        here = np.arange(first, first + size)
        out[k, here, here] = 1.0
        first += size
    return _read_only(out)


@cache
def _quadratic(blocks: tuple[int, ...], compound: bool) -> FloatArray:
    """``T`` with ``v_k = entries' T_k entries / 2``, shape (k_cov,) * 3."""
    if compound:  # L = (c - d) I + d 11':  c^2 + (k - 1) d^2, and 2 c d + (k - 2) d^2
        k, rest = blocks[0], _quadratic(blocks[1:], False)
        out = np.zeros((len(rest) + 2,) * 3)
        out[0, 0, 0], out[0, 1, 1] = 2.0, 2.0 * (k - 1)
        out[1, 0, 1] = out[1, 1, 0] = 2.0
        out[1, 1, 1] = 2.0 * (k - 2)
        out[2:, 2:, 2:] = rest
        return _read_only(out)
    out = np.zeros((sum(map(_triangle, blocks)),) * 3)
    first = 0
    for order in blocks:
        rows, columns = lower_triangle(order)
        position = {
            ij: first + k for k, ij in enumerate(zip(rows, columns, strict=True))
        }
        for (i, j), k in position.items():
            for c in range(j + 1):  # (LL')_ij = sum_c L_ic L_jc
                a, b = position[i, c], position[j, c]
                out[k, a, b] += 1.0
                out[k, b, a] += 1.0
        first += len(rows)
    return _read_only(out)


def _read_only(x: FloatArray) -> FloatArray:
    x.setflags(write=False)
    return x
