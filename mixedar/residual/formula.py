"""
Structures given by a formula for the correlation of two rows.

A subclass says what its parameters are as functions of unconstrained ones
(:meth:`~FormulaStructure.natural`) and what correlation two rows have
(:meth:`~FormulaStructure.correlations`), both in numpy's arithmetic.  Exact
derivatives follow from :class:`mixedar.numeric.autodiff.Jet`, whitening and determinant
from a Cholesky factor.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular

from mixedar._types import FloatArray
from mixedar.numeric.autodiff import Jet, variables
from mixedar.residual.base import ResidualStructure


def as_positions(time: FloatArray) -> FloatArray:
    """Positions, shape (n, 1 + c), from those or from times alone."""
    time = np.asarray(time, dtype=np.float64)
    return time[:, None] if time.ndim == 1 else time


class DenseStructure(ResidualStructure):
    """A structure whose matrix is written out and factored."""

    def from_unconstrained(self, u: ArrayLike) -> FloatArray:
        return self.natural(np.asarray(u, dtype=np.float64)).value

    def whiten(self, x: FloatArray, time: FloatArray, params: ArrayLike) -> FloatArray:
        root = np.linalg.cholesky(self.correlation(time, params))
        return np.asarray(solve_triangular(root, x, lower=True))

    def logdet(self, time: FloatArray, params: ArrayLike) -> float:
        root = np.linalg.cholesky(self.correlation(time, params))
        return 2.0 * float(np.log(np.diag(root)).sum())

    def correlation(self, time: FloatArray, params: ArrayLike) -> FloatArray:
        out = self.cross_correlation(time, time, params)
        np.fill_diagonal(out, 1.0)
        return out


class FormulaStructure(DenseStructure):
    """A structure that is written down as a formula."""

    @abstractmethod
    def from_variables(self, u: Jet) -> Jet:
        """
        Parameters as functions of the unconstrained ones.

        Parameters
        ----------
        u : Jet of shape (k_free,)

        Returns
        -------
        Jet of shape (k_params,)
        """

    @abstractmethod
    def correlations(self, cells: FloatArray, params: Any) -> Any:
        """
        Correlation of two different rows of a series.

        Parameters
        ----------
        cells : ndarray, shape (l, f)
            From :meth:`cells`.
        params : ndarray or Jet of shape (k_params,)

        Returns
        -------
        ndarray or Jet of shape (l,)
        """

    @property
    def held(self) -> FloatArray:
        """Values of the parameters if they are fixed, shape (k_params,)."""
        raise TypeError(f"{type(self).__name__} cannot be held fixed")

    def natural(self, u: FloatArray) -> Jet:
        if self.fixed:
            return Jet.constant(self.held, 0)
        return self.from_variables(variables(np.asarray(u, dtype=np.float64)))

    def jacobian(self, u: ArrayLike) -> FloatArray:
        if self.fixed:
            return np.empty((0, 0))
        return self.natural(np.asarray(u, dtype=np.float64)).first.T

    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        params = self.natural(u)
        out = self.correlations(cells, params)
        return out if isinstance(out, Jet) else Jet.constant(out, params.k)

    def cross_correlation(
        self, time: FloatArray, new_time: FloatArray, params: ArrayLike
    ) -> FloatArray:
        a, b = as_positions(time), as_positions(new_time)
        return dense_covariance(self, a, b, np.asarray(params, dtype=np.float64))


def dense_covariance(
    structure: FormulaStructure, a: FloatArray, b: FloatArray, params: FloatArray
) -> FloatArray:
    """Correlations between all rows of `a` and all of `b`, shape (n, k)."""
    n, k = len(a), len(b)
    left, right = np.repeat(a, k, axis=0), np.tile(b, (n, 1))
    values = structure.correlations(structure.cells(left, right), params)
    if isinstance(values, Jet):
        values = values.value
    return np.array(np.broadcast_to(values, n * k), dtype=np.float64).reshape(n, k)
