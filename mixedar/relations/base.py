"""
What the covariance between the levels of a factor tells the likelihood.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.numeric.autodiff import Jet
from mixedar.residual.base import Parametric, WithoutParameters


class LevelCovariance(Parametric):
    """
    Covariance between the levels of a factor, relative to the effects' own.

    ``Var(vec(u)) = sigma2 (K kron Psi)``: `K` is this matrix, in the order of the
    levels that it is bound to.
    """

    @property
    @abstractmethod
    def n_levels(self) -> int:
        """Number of levels."""

    @abstractmethod
    def matrix(self, u: FloatArray) -> Jet:
        """
        ``K`` with its derivatives by the unconstrained parameters.

        Parameters
        ----------
        u : ndarray, shape (k_free,)

        Returns
        -------
        Jet of shape (n_levels, n_levels)
        """

    def root(self, u: FloatArray) -> FloatArray:
        """``C`` with ``C C' = K``, shape (n_levels, n_levels)."""
        return root_of(self.matrix(u).value)


class KnownCovariance(WithoutParameters, LevelCovariance):
    """
    A covariance without parameters.

    Parameters
    ----------
    values : ndarray, shape (n_levels, n_levels)
        Symmetric and positive semidefinite.
    """

    def __init__(self, values: FloatArray) -> None:
        self._values, self._root = values, root_of(values)

    @property
    def n_levels(self) -> int:
        return len(self._values)

    def matrix(self, u: FloatArray) -> Jet:
        return Jet.constant(self._values, 0)

    def root(self, u: FloatArray) -> FloatArray:
        return self._root


def root_of(values: FloatArray) -> FloatArray:
    """A square root of a covariance, which may be singular."""
    try:
        return np.asarray(np.linalg.cholesky(values), dtype=np.float64)
    except np.linalg.LinAlgError:
        found, vectors = np.linalg.eigh(values)
        found[found < 1e-12 * found.max(initial=0.0)] = 0.0
        return np.asarray(vectors * np.sqrt(found))


class Relation(ABC):
    """How levels are related, before it is known which levels there are."""

    #: columns of coordinates that it reads
    columns: tuple[str, ...] = ()

    @abstractmethod
    def bind(
        self, levels: pd.Index, factor: str, places: FloatArray | None
    ) -> LevelCovariance:
        """
        The covariance between the levels of a factor.

        Parameters
        ----------
        levels : Index, length n
        factor : str
            Its name, for messages.
        places : ndarray, shape (n, len(columns)), or None
            Coordinates of the levels.

        Raises
        ------
        StructureError
            If the levels do not fit.
        """

    def surplus(self, levels: pd.Index) -> list[object]:
        """Labels that are none of the levels."""
        return []

    def note(self, factor: str) -> str:
        """What a reader should know, or empty."""
        return ""
