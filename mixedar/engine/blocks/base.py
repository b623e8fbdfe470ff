"""
What a block of clusters is, and what it tells the likelihood.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.level import (
    CrossProducts,
    Directions,
    Together,
    eliminate,
    eliminate_at_points,
    slopes_of,
)
from mixedar.numeric.latest import Latest


class Curvature(Protocol):
    """
    Second derivatives of ``D`` and ``S`` by ``v``, of some of the clusters.

    The likelihood needs them contracted with one matrix only, which takes far
    fewer operations than the arrays when there are many parameters.
    """

    def contract(self, weight: FloatArray | None) -> FloatArray:
        """
        ``d2D + <d2S, weight>``.

        Parameters
        ----------
        weight : ndarray, shape (p + 1, p + 1), or None
            Symmetric; None for ``d2D`` alone.

        Returns
        -------
        ndarray, shape (k, k)
        """
        ...

    def arrays(self) -> FloatArray:
        """``d2S`` itself, shape (k, k, p + 1, p + 1)."""
        ...


@dataclass(frozen=True)
class ArrayCurvature:
    """
    Second derivatives that are there as arrays.

    Attributes
    ----------
    d2 : ndarray, shape (k, k)
    s2 : ndarray, shape (k, k, p + 1, p + 1)
    """

    d2: FloatArray
    s2: FloatArray

    def contract(self, weight: FloatArray | None) -> FloatArray:
        """``d2D + <d2S, weight>``; see :class:`Curvature`."""
        if weight is None:
            return self.d2
        k = len(self.d2)
        return self.d2 + (self.s2.reshape(k * k, -1) @ weight.ravel()).reshape(k, k)

    def arrays(self) -> FloatArray:
        """``d2S``; see :class:`Curvature`."""
        return self.s2


@dataclass(frozen=True)
class ClusterSums:
    """
    ``D`` and ``S`` and their derivatives by ``v = (Psi entries, u)``.

    Attributes
    ----------
    d : float
    s : ndarray, shape (p + 1, p + 1)
    d1 : ndarray, shape (k,)
    s1 : ndarray, shape (k, p + 1, p + 1)
        First derivatives, of length 0 when they were not asked for.
    curvatures : tuple of Curvature
        Second derivatives, block by block.
    """

    d: float
    s: FloatArray
    d1: FloatArray
    s1: FloatArray
    curvatures: tuple[Curvature, ...] = ()

    @classmethod
    def values(cls, d: float, s: FloatArray) -> ClusterSums:
        """Sums without derivatives."""
        return cls(d, s, np.empty(0), np.empty((0, *s.shape)))

    @property
    def k(self) -> int:
        """Number of parameters."""
        return len(self.d1)

    def second(self, weight: FloatArray | None = None) -> FloatArray:
        """``d2D + <d2S, weight>``, shape (k, k)."""
        if not self.curvatures:
            return np.zeros((self.k, self.k))
        first, *others = (part.contract(weight) for part in self.curvatures)
        return sum(others, start=first)

    @property
    def d2(self) -> FloatArray:
        """Second derivatives of ``D``, shape (k, k)."""
        return self.second()

    @property
    def s2(self) -> FloatArray:
        """Second derivatives of ``S``, shape (k, k, p + 1, p + 1)."""
        out = np.zeros((self.k, self.k, *self.s.shape))
        for part in self.curvatures:
            out += part.arrays()
        return out

    def __add__(self, other: ClusterSums) -> ClusterSums:
        return ClusterSums(
            self.d + other.d,
            self.s + other.s,
            self.d1 + other.d1,
            self.s1 + other.s1,
            self.curvatures + other.curvatures,
        )


class ParameterPoint(NamedTuple):
    """
    A point of the parameter space.

    Attributes
    ----------
    covariance : RandomCovariance
    factor : ndarray, shape (q, q)
        ``Lambda`` with ``Psi = Lambda Lambda'``.
    u : ndarray, shape (k_free,)
        Unconstrained residual parameters.
    term_factors : tuple of ndarray
        ``Lambda`` of one level of each further term.
    """

    covariance: RandomCovariance
    factor: FloatArray
    u: FloatArray
    term_factors: tuple[FloatArray, ...] = ()


@dataclass(frozen=True)
class ParameterPoints:
    """
    Many points of the parameter space: the first axis of arrays counts them.

    Attributes
    ----------
    covariance : RandomCovariance
    factors : ndarray, shape (b, q, q)
        ``Lambda`` with ``Psi = Lambda Lambda'``.
    u : ndarray, shape (b, k_free)
        Unconstrained residual parameters.
    term_factors : tuple of ndarray, each of shape (b, k, k)
        ``Lambda`` of one level of each further term.
    """

    covariance: RandomCovariance
    factors: FloatArray
    u: FloatArray
    term_factors: tuple[FloatArray, ...] = ()

    def __len__(self) -> int:
        return len(self.u)

    def __iter__(self) -> Iterator[ParameterPoint]:
        for k, (factor, u) in enumerate(zip(self.factors, self.u, strict=True)):
            own = tuple(factors[k] for factors in self.term_factors)
            yield ParameterPoint(self.covariance, factor, u, own)

    def take(self, some: slice) -> ParameterPoints:
        """Some of the points."""
        own = tuple(factors[some] for factors in self.term_factors)
        return replace(
            self, factors=self.factors[some], u=self.u[some], term_factors=own
        )

    def of_groups(self, k_residual: int) -> ParameterPoints:
        """The parameters of the groups, without those of further terms."""
        covariance, u = self.covariance.of_groups, self.u[:, :k_residual]
        return ParameterPoints(covariance, self.factors, u)


class LikelihoodBlock(ABC):
    """Clusters whose part in the likelihood is computed together."""

    @property
    def numbers(self) -> int:
        """How many numbers a point takes; 0 if points are taken one by one."""
        return 0

    def work(self, k: int) -> int:
        """How many numbers derivatives by `k` residual parameters pass through."""
        return 0

    def values(self, points: ParameterPoints) -> tuple[FloatArray, FloatArray]:
        """
        ``D`` and ``S`` at many points.

        Parameters
        ----------
        points : ParameterPoints

        Returns
        -------
        ndarray, shape (b,)
        ndarray, shape (b, p + 1, p + 1)

        Raises
        ------
        numpy.linalg.LinAlgError
            If a covariance at one of them is not positive definite to rounding.
        """
        found = [self.sums(point, derivatives=False) for point in points]
        return np.array([one.d for one in found]), np.stack([one.s for one in found])

    @abstractmethod
    def sums(self, point: ParameterPoint, *, derivatives: bool) -> ClusterSums:
        """
        Cluster sums at a point of the parameter space.

        Parameters
        ----------
        point : ParameterPoint
        derivatives : bool

        Returns
        -------
        ClusterSums

        Raises
        ------
        numpy.linalg.LinAlgError
            If a covariance is not positive definite to rounding.
        """


@dataclass(frozen=True)
class _CurvatureOfSome:
    """Second derivatives of `width` columns, of which all but some are zero."""

    of_some: Curvature
    columns: IntArray
    width: int

    def contract(self, weight: FloatArray | None) -> FloatArray:
        """See :class:`Curvature`."""
        if weight is None:
            return self.of_some.contract(None)
        return self.of_some.contract(weight[np.ix_(self.columns, self.columns)])

    def arrays(self) -> FloatArray:
        """See :class:`Curvature`."""
        return _among(self.of_some.arrays(), self.columns, self.width)


def _among(s: FloatArray, columns: IntArray, width: int) -> FloatArray:
    """Products of some columns among those of all, (..., c, c) to (..., w, w)."""
    out = np.zeros((*s.shape[:-2], width, width))
    out[..., columns[:, None], columns] = s
    return out


class SomeColumns(LikelihoodBlock):
    """
    Clusters that are zero in all but some columns of ``W``.

    Parameters
    ----------
    block : LikelihoodBlock
        Of these columns alone.
    columns : ndarray of int
    width : int
        Number of all columns.
    """

    def __init__(self, block: LikelihoodBlock, columns: IntArray, width: int) -> None:
        self._block, self._columns, self._width = block, columns, width

    def sums(self, point: ParameterPoint, *, derivatives: bool) -> ClusterSums:
        """Cluster sums at a point; see :meth:`LikelihoodBlock.sums`."""
        found = self._block.sums(point, derivatives=derivatives)
        columns, width = self._columns, self._width
        return ClusterSums(
            found.d,
            _among(found.s, columns, width),
            found.d1,
            _among(found.s1, columns, width),
            tuple(_CurvatureOfSome(c, columns, width) for c in found.curvatures),
        )

    @property
    def numbers(self) -> int:
        """See :class:`LikelihoodBlock`."""
        return self._block.numbers

    def values(self, points: ParameterPoints) -> tuple[FloatArray, FloatArray]:
        """``D`` and ``S`` at many points; see :meth:`LikelihoodBlock.values`."""
        d, s = self._block.values(points)
        return d, _among(s, self._columns, self._width)


# Cross-products of so many numbers are kept, until others take their place.
_KEPT = 2**24


class ProductBlock(LikelihoodBlock):
    """Clusters whose whitened cross-products are computed together."""

    clusters: IntArray
    weights: FloatArray

    @cached_property
    def _latest(self) -> Latest[CrossProducts]:
        return Latest()

    @abstractmethod
    def at(self, u: FloatArray, *, derivatives: bool) -> CrossProducts:
        """Cross-products at an unconstrained residual parameter, shape (k_free,)."""

    def many(self, u: FloatArray) -> CrossProducts:
        """Values of :meth:`at` at many parameters; the first axis counts these."""
        found = [self.at(one, derivatives=False) for one in u]
        parts = ("zz", "zw", "ww", "logdet")
        return CrossProducts(
            *(np.concatenate([getattr(one, name) for one in found]) for name in parts)
        )

    def values(self, points: ParameterPoints) -> tuple[FloatArray, FloatArray]:
        """``D`` and ``S`` at many points; see :meth:`LikelihoodBlock.values`."""
        cross = self.many(points.u)
        logdet, taken = eliminate_at_points(cross, points.factors, False)
        return cross.logdet + logdet @ self.weights, cross.ww - taken

    def sums(self, point: ParameterPoint, *, derivatives: bool) -> ClusterSums:
        """Cluster sums at a point; see :meth:`LikelihoodBlock.sums`."""
        covariance, factor, u = point[:3]
        cross, over = self._products(u, derivatives), Together(self.weights)
        level = eliminate(cross.zz[0], cross.zw[0], factor)
        d = float(cross.logdet[0] + over.total(level.logdet))
        s = cross.ww[0] - over.pairs(level.reduced, level.reduced)
        if not derivatives:
            return ClusterSums.values(d, s)
        found = slopes_of(level, cross, Directions(covariance.directions), over)
        curvature = ArrayCurvature(found.d2, found.s2)
        return ClusterSums(
            d, s, found.d1, found.s1, (curvature,) if len(found.d1) else ()
        )

    def _products(self, u: FloatArray, derivatives: bool) -> CrossProducts:
        """The same as :meth:`at`; along random effects alone they stay."""

        def keep(cross: CrossProducts) -> bool:
            return derivatives and cross.zz.size + cross.zw.size < _KEPT

        return self._latest.at(u, lambda: self.at(u, derivatives=derivatives), keep)
