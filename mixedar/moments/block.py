"""
What a block of clusters tells the likelihood.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from mixedar.covariance import RandomCovariance
from mixedar.moments.arrays import Moments
from mixedar.sums import ClusterSums
from mixedar.woodbury import woodbury_sums

__all__ = ["LikelihoodBlock", "MomentBlock", "Moments"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


class LikelihoodBlock(ABC):
    """Clusters whose part in the likelihood is computed together."""

    @abstractmethod
    def sums(
        self,
        covariance: RandomCovariance,
        factor: FloatArray,
        u: FloatArray,
        *,
        derivatives: bool,
    ) -> ClusterSums:
        """
        Cluster sums at a point of the parameter space.

        Parameters
        ----------
        covariance : RandomCovariance
        factor : ndarray, shape (q, q)
            ``Lambda`` with ``Psi = Lambda Lambda'``.
        u : ndarray, shape (k_free,)
        derivatives : bool

        Returns
        -------
        ClusterSums

        Raises
        ------
        numpy.linalg.LinAlgError
            If a covariance is not positive definite to rounding.
        """


class MomentBlock(LikelihoodBlock):
    """Clusters whose whitened cross-products are computed together."""

    clusters: IntArray
    weights: FloatArray

    @abstractmethod
    def at(self, u: FloatArray, *, derivatives: bool) -> Moments:
        """Moments at an unconstrained residual parameter, shape (k_free,)."""

    def sums(
        self,
        covariance: RandomCovariance,
        factor: FloatArray,
        u: FloatArray,
        *,
        derivatives: bool,
    ) -> ClusterSums:
        """Cluster sums at a point; see :meth:`LikelihoodBlock.sums`."""
        moments = self.at(u, derivatives=derivatives)
        return woodbury_sums(moments, self.weights, covariance, factor, derivatives)
