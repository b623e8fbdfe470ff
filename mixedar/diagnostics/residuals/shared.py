"""
Rows that share random effects, and the joint design of these effects.

With one factor rows are shared by groups; with several by sets of levels that meet, and
all effects of a set, of its groups and of the further factors' levels, are columns of
one design.  Levels that are related are one set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.linalg import block_diag

from mixedar._types import FloatArray, IntArray
from mixedar.engine.covariance import TermLayout
from mixedar.engine.level import eliminate
from mixedar.engine.linked import place_within
from mixedar.exceptions import UnsupportedError
from mixedar.fit import Fit
from mixedar.fit.linked import linked_rows
from mixedar.numeric.linalg import product, root_of
from mixedar.relations.base import with_parameters

# Of the joint design of several factors: numbers, and operations of its products.
_NUMBERS = 2**24
_PRODUCTS = 2e9
# Clusters are taken one by one if they have so many numbers, or products.
_WIDE = 500
_LARGE = 20_000


@dataclass(frozen=True)
class RowClusters:
    """
    Sorted rows that share effects.

    Attributes
    ----------
    offsets : ndarray of int, shape (m + 1,)
    order : ndarray of int, shape (n,), or None
        Rows of the clusters, one after the other; None where sorted rows are.
    """

    offsets: IntArray
    order: IntArray | None = None

    @classmethod
    def of(cls, codes: IntArray) -> RowClusters:
        """Those of the sorted rows' clusters 0 ... m - 1."""
        offsets = np.concatenate([[0], np.cumsum(np.bincount(codes))])
        if (np.diff(codes) >= 0).all():
            return cls(offsets)
        return cls(offsets, np.argsort(codes, kind="stable"))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def codes(self) -> IntArray:
        """Cluster of each sorted row, shape (n,)."""
        codes = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        if self.order is None:
            return codes
        out = np.empty_like(codes)
        out[self.order] = codes
        return out

    def __iter__(self) -> Iterator[IntArray | slice]:
        """Sorted rows of each cluster."""
        for start, end in pairwise(self.offsets):
            yield slice(start, end) if self.order is None else self.order[start:end]

    def products(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """``a_i'b_i`` of every cluster, shape (m, j, k)."""
        m, j, k = len(self), a.shape[1], b.shape[1]
        if m == 1:
            return product(a.T, b)[None]
        out = np.empty((m, j, k))
        if len(a) * j * k > _LARGE * m:
            for i, rows in enumerate(self):
                out[i] = product(a[rows].T, b[rows])
            return out
        if self.order is not None:
            a, b = a[self.order], b[self.order]
        for column in range(j):
            out[:, column] = np.add.reduceat(
                a[:, column : column + 1] * b, self.offsets[:-1], axis=0
            )
        return out

    def within(self, left: FloatArray, right: FloatArray, x: FloatArray) -> FloatArray:
        """``left_i right_i'x_i`` of every cluster, shape (n, k)."""
        out = np.zeros(x.shape)
        if left.shape[1] == 0:
            return out
        inner = self.products(right, x)
        if left.shape[1] > 8 and left.size > _WIDE * len(self):
            for i, rows in enumerate(self):
                out[rows] = left[rows] @ inner[i]
            return out
        for a in range(left.shape[1]):
            out += left[:, a : a + 1] * inner[:, a][self.codes]
        return out

    def times_roots(self, z: FloatArray, roots: FloatArray) -> FloatArray:
        """``Z C'`` with a matrix ``C`` of each cluster, roots of shape (q, q, m)."""
        q = z.shape[1]
        out = np.zeros(z.shape)
        if q > 8:
            for i, rows in enumerate(self):
                out[rows] = z[rows] @ roots[:, :, i].T
            return out
        for a in range(q):
            for b in range(q):
                out[:, a] += roots[a, b][self.codes] * z[:, b]
        return out


class SharedEffects:
    """
    The effects of every cluster of a fit.

    Parameters
    ----------
    fit : Fit

    Attributes
    ----------
    clusters : RowClusters
    design : ndarray, shape (n, q)
        Of sorted rows.
    factor : ndarray, shape (q, q)
        ``Lambda`` relative to the residuals' standard deviation.

    Raises
    ------
    UnsupportedError
        If several factors link too many effects.
    """

    def __init__(self, fit: Fit) -> None:
        data = fit.data
        self._fit = fit
        if not data.terms:
            self.clusters = RowClusters(data.grouped.offsets)
            self.design = data.grouped.sort(data.random_design)
            self.factor = fit.z_map @ fit.factor
            return
        linked = linked_rows(fit, together=True)
        self.clusters = RowClusters.of(linked.codes)
        problem, grouped = fit.problem, data.grouped
        parts = [(data.codes, data.random_design @ fit.z_map)]
        for term, term_map in zip(data.terms, problem.level_maps, strict=True):
            parts.append((term.codes, term.design @ term_map))
        places, self._repeats = [], []
        for levels, _ in parts:
            first = np.unique(grouped.sort(levels), return_index=True)[1]
            place, most = place_within(linked.codes[first], len(linked))
            places.append(place)
            self._repeats.append(most)  # levels of the factor in a cluster, at most
        orders = [z.shape[1] for _, z in parts]
        starts = np.cumsum([0, *np.multiply(orders, self._repeats)])
        n, q = fit.nobs, int(starts[-1])
        numbers = q * max(n, q * len(linked))
        if numbers > _NUMBERS or float(q) * numbers > _PRODUCTS:
            raise UnsupportedError(
                "tests of the residuals, and their standard errors: random effects of "
                f"several factors link {q} effects in {n} rows, and what predicting "
                "them takes from the residuals is too large a matrix; "
                "acf(bounds='white') and pictures of residuals do without"
            )
        self.design = np.zeros((n, q))
        for (levels, z), place, start in zip(parts, places, starts, strict=False):
            first = start + z.shape[1] * place[grouped.sort(levels)]
            columns = first[:, None] + np.arange(z.shape[1])
            np.put_along_axis(self.design, columns, grouped.sort(z), axis=1)
        of_terms = map(
            TermLayout.whole,
            problem.covariance.terms,
            problem.term_factors(fit.theta),
            map(_root_or_none, fit.related.copies),
        )
        self.factor = self._side_by_side(
            [one[None] for one in (fit.factor, *of_terms)],
            list(map(_root_or_none, fit.related.levels)),
        )[0]

    def _side_by_side(
        self, blocks: list[FloatArray], between: Sequence[FloatArray | None]
    ) -> FloatArray:
        """Matrices of one level of each factor by what relates levels, (k, q, q)."""
        out = np.zeros((len(blocks[0]), *[self.design.shape[1]] * 2))
        wide = [
            np.eye(count) if one is None else one
            for count, one in zip(self._repeats, (None, *between), strict=True)
        ]
        for k, own in enumerate(zip(*blocks, strict=True)):
            out[k] = block_diag(*map(np.kron, wide, own))
        return out

    @cached_property
    def changes(self) -> FloatArray:
        """``dPsi`` of each free parameter of the random effects, shape (k, q, q)."""
        problem, fit = self._fit.problem, self._fit
        covariance = problem.covariance
        slopes = covariance.jet(problem.split(fit.theta)[0]).first
        count = covariance.k_groups
        inner = np.tensordot(slopes[:, :count], covariance.directions, axes=1)
        if not fit.data.terms:
            return np.asarray(problem.z_map @ inner @ problem.z_map.T)
        blocks = [inner]
        places, layouts = covariance.term_places, covariance.of_terms
        for place, layout, own in zip(places, layouts, covariance.terms, strict=True):
            small = np.tensordot(slopes[:, place.entries], layout.directions, axes=1)
            between = fit.related.copies[len(blocks) - 1]
            blocks.append(np.stack([own.whole(one, between) for one in small]))
        found = self._side_by_side(blocks, fit.related.levels)
        return np.concatenate([found, self._relations()])

    def _relations(self) -> FloatArray:
        """``dPsi`` of each parameter of what relates levels or copies."""
        problem, fit = self._fit.problem, self._fit
        q, first = self.design.shape[1], len(fit.factor)
        first *= self._repeats[0]
        out = [np.empty((0, q, q))]
        factors = problem.term_factors(fit.theta)
        for factor, count, (between, own), layout in zip(
            factors,
            self._repeats[1:],
            with_parameters(fit.between, fit.related.u),
            fit.layout.terms,
            strict=True,
        ):
            size = count * layout.width
            if between is not None:
                slopes = between.matrix(own).first
                moved = np.zeros((len(slopes), q, q))
                here = slice(first, first + size)
                moved[:, here, here] = np.kron(slopes, factor @ factor.T)
                out.append(moved)
            first += size
        return np.concatenate(out)

    def roots(self, white: FloatArray) -> FloatArray:
        """``C`` with conditional covariance ``scale C'C``, of the whitened design."""
        if not self._fit.data.terms:
            return self._fit.effects.roots
        products = self.clusters.products(white, white).transpose(1, 2, 0)
        none = np.empty((0, *products.shape[1:]))
        return eliminate(np.ascontiguousarray(products), none, self.factor).root


def _root_or_none(between: FloatArray | None) -> FloatArray | None:
    return None if between is None else root_of(between)
