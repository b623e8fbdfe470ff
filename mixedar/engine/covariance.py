"""
The covariance of the random effects and its parameters.

``Psi = Lambda Lambda'`` (relative to the residual variance) consists of an
unstructured block for the correlated random effects of the groups, of one variance
for each variance component, repeated over the component's columns, and of one block
for each further term, the effects of another factor, repeated over its levels.  The
optimiser works on the entries of ``Lambda``, which makes a singular ``Psi``
an ordinary point; inference works on the entries of ``Psi``.
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
from mixedar.numeric.linalg import r_factor


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

    def whole(
        self, small: FloatArray, between: FloatArray | None = None
    ) -> FloatArray:
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
    """

    k_re: int
    vc_sizes: tuple[int, ...]
    fixed: FloatArray
    terms: tuple[TermLayout, ...] = ()

    @classmethod
    def free(
        cls,
        k_re: int,
        vc_sizes: tuple[int, ...] = (),
        terms: tuple[TermLayout, ...] = (),
    ) -> RandomCovariance:
        """The layout in which every entry is estimated."""
        count = _triangle(k_re) + len(vc_sizes)
        count += sum(_triangle(term.order) for term in terms)
        return cls(k_re, vc_sizes, np.full(count, np.nan), terms)

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """Orders of all blocks: the groups' effects, components, further terms."""
        orders = (term.order for term in self.terms)
        return (self.k_re, *(1 for _ in self.vc_sizes), *orders)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Where the effects and entries of each block are."""
        effects = np.cumsum([0, *self.blocks]).tolist()
        entries = np.cumsum([0, *map(_triangle, self.blocks)]).tolist()
        pairs = zip(pairwise(effects), pairwise(entries), strict=True)
        return tuple(Place(slice(*one), slice(*other)) for one, other in pairs)

    @property
    def term_places(self) -> tuple[Place, ...]:
        """Those of the further terms."""
        return self.places[1 + len(self.vc_sizes) :]

    @cached_property
    def k_cov(self) -> int:
        """Number of covariance parameters, free or not."""
        return sum(map(_triangle, self.blocks))

    @property
    def k_groups(self) -> int:
        """Number of those of the groups; they come first."""
        return _triangle(self.k_re) + len(self.vc_sizes)

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
        """Rows and columns of the block's lower triangle, row by row."""
        return lower_triangle(self.k_re)

    @cached_property
    def effects(self) -> tuple[IntArray, IntArray]:
        """
        Which two effects each entry belongs to, arrays of shape (k_cov,).

        Effects are counted through the blocks; a component has one.
        """
        first = [place.effects.start for place in self.places]
        where = [lower_triangle(order) for order in self.blocks]
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
        found = (rows == max(i, j)) & (columns == min(i, j))
        return int(np.flatnonzero(found)[0])

    def matrix(self, values: FloatArray) -> FloatArray:
        """Covariance of all effects, one level each, from its entries."""
        rows, columns = self.effects
        out = np.zeros((sum(self.blocks),) * 2)
        out[rows, columns] = out[columns, rows] = values
        return out

    @property
    def component_starts(self) -> NDArray[np.intp]:
        """First column of each variance component."""
        return self.k_re + np.cumsum((0, *self.vc_sizes), dtype=np.intp)[:-1]

    @property
    def directions(self) -> FloatArray:
        """``dPsi / dv_k`` for each entry, shape (k_cov, order, order)."""
        return _directions(self.k_re, self.vc_sizes)

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

    def values(self, theta: FloatArray) -> FloatArray:
        """Entries ``v`` of ``Psi`` in the order of :attr:`fixed`, shape (k_cov,)."""
        entries = self.entries(theta)
        return 0.5 * (_quadratic(self.blocks) @ entries) @ entries

    @cached_property
    def _bends(self) -> FloatArray:
        """Second derivatives of ``v`` by the free entries, (free, free, k_cov)."""
        free = np.flatnonzero(self.is_free)
        return _quadratic(self.blocks)[:, free[:, None], free].transpose(1, 2, 0)

    def jet(self, theta: FloatArray) -> Jet:
        """Entries ``v`` of ``Psi`` by the free entries of ``Lambda``."""
        entries = self.entries(theta)
        slopes = _quadratic(self.blocks) @ entries
        first = slopes if self._all_free else slopes[:, self.is_free]
        return Jet(0.5 * slopes @ entries, first.T, self._bends)


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
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    lower = r_factor(root.T).T if q else root
    return np.concatenate([lower[np.tril_indices(q)], np.sqrt(np.clip(vcomp, 0, None))])


def _triangle(k: int) -> int:
    return k * (k + 1) // 2


# Layouts are few, and every refit asks for the same ones.
@cache
def lower_triangle(k_re: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a lower triangle, row by row."""
    return np.tril_indices(k_re)


@cache
def _directions(k_re: int, vc_sizes: tuple[int, ...]) -> FloatArray:
    count, order = _triangle(k_re), k_re + sum(vc_sizes)
    out = np.zeros((count + len(vc_sizes), order, order))
    rows, columns = lower_triangle(k_re)
    out[np.arange(count), rows, columns] = out[np.arange(count), columns, rows] = 1.0
    first = k_re
    for k, size in enumerate(vc_sizes, start=count):
        here = np.arange(first, first + size)
        out[k, here, here] = 1.0
        first += size
    return _read_only(out)


@cache
def _quadratic(blocks: tuple[int, ...]) -> FloatArray:
    """``T`` with ``v_k = entries' T_k entries / 2``, shape (k_cov,) * 3."""
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
