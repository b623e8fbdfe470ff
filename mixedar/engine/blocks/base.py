"""
What a block of clusters is, and what it tells the likelihood.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
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


class LikelihoodBlock(ABC):
    """Clusters whose part in the likelihood is computed together."""

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
