"""
The contract that every within-cluster residual structure fulfils.

A structure describes the correlation matrix ``R`` of the residuals of one
series of observations.  The likelihood never learns which structure it
serves: it needs whitening by the inverse Cholesky factor of ``R`` and the
log-determinant of ``R``, no more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ResidualStructure"]

FloatArray = NDArray[np.float64]


class ResidualStructure(ABC):
    """
    Correlation of the residuals within one series.

    Attributes
    ----------
    code : str
        The name by which the registry finds the structure, such as ``"ar1"``.
    label : str
        The name that summaries print.
    param_names : tuple of str
        Names of the parameters, on the scale that users read.
    integer_time : bool
        Whether times have to lie on a grid of equal steps.
    needs_distinct_times : bool
        Whether two observations of a series may not share their time.
    fixed : bool
        Whether the parameters are held at their starting values.
    """

    code: ClassVar[str]
    label: ClassVar[str]
    param_names: ClassVar[tuple[str, ...]]
    integer_time: ClassVar[bool] = False
    needs_distinct_times: ClassVar[bool] = True

    fixed: bool = False

    @property
    def k_params(self) -> int:
        """Number of parameters."""
        return len(self.param_names)

    @property
    def k_free(self) -> int:
        """Number of parameters to be estimated."""
        return 0 if self.fixed else self.k_params

    @abstractmethod
    def start_grid(self) -> Sequence[FloatArray]:
        """
        Unconstrained starting values: the first one, and a spread of others.

        Returns
        -------
        list of ndarray, each of shape (k_free,)
        """

    @abstractmethod
    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        """
        Map parameters to the real line, where the optimiser works.

        Parameters
        ----------
        params : array_like, shape (k_params,)

        Returns
        -------
        ndarray, shape (k_free,)
        """

    @abstractmethod
    def from_unconstrained(self, u: ArrayLike) -> FloatArray:
        """
        Inverse of :meth:`to_unconstrained`; fixed parameters are filled in.

        Parameters
        ----------
        u : array_like, shape (k_free,)

        Returns
        -------
        ndarray, shape (k_params,)
        """

    @abstractmethod
    def jacobian(self, u: ArrayLike) -> FloatArray:
        """
        Derivative of the free parameters by the unconstrained ones.

        Parameters
        ----------
        u : array_like, shape (k_free,)

        Returns
        -------
        ndarray, shape (k_free, k_free)
        """

    @abstractmethod
    def whiten(self, x: FloatArray, time: FloatArray, params: ArrayLike) -> FloatArray:
        """
        Multiply by the inverse Cholesky factor of the correlation matrix.

        Parameters
        ----------
        x : ndarray, shape (n, k)
            Rows in the order of `time`.
        time : ndarray, shape (n,)
            Increasing.
        params : array_like, shape (k_params,)

        Returns
        -------
        ndarray, shape (n, k)
        """

    @abstractmethod
    def logdet(self, time: FloatArray, params: ArrayLike) -> float:
        """
        Log-determinant of the correlation matrix.

        Parameters
        ----------
        time : ndarray, shape (n,)
            Increasing.
        params : array_like, shape (k_params,)
        """

    @abstractmethod
    def cross_correlation(
        self, time: FloatArray, new_time: FloatArray, params: ArrayLike
    ) -> FloatArray:
        """
        Correlations between observed times and others of the same series.

        Parameters
        ----------
        time : ndarray, shape (n,)
        new_time : ndarray, shape (k,)
        params : array_like, shape (k_params,)

        Returns
        -------
        ndarray, shape (n, k)
        """

    def correlation(self, time: FloatArray, params: ArrayLike) -> FloatArray:
        """
        The correlation matrix, dense.

        Parameters
        ----------
        time : ndarray, shape (n,)
        params : array_like, shape (k_params,)

        Returns
        -------
        ndarray, shape (n, n)
        """
        return self.cross_correlation(time, time, params)

    @abstractmethod
    def at_boundary(self, params: ArrayLike) -> bool:
        """Whether the parameters lie on the edge of their space."""

    def bind(self, gaps: FloatArray) -> ResidualStructure:
        """
        The structure adapted to the spacing of the data.

        Parameters
        ----------
        gaps : ndarray
            Distances between neighbouring times of a series, all series
            together.

        Returns
        -------
        ResidualStructure
            `self` unless the structure has a scale of its own.
        """
        return self
