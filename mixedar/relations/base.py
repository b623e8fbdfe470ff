"""
What the covariance between the levels of a factor tells the likelihood.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.exceptions import StructureError, UnsupportedError
from mixedar.numeric.autodiff import Jet
from mixedar.numeric.latest import Latest
from mixedar.numeric.linalg import root_of
from mixedar.numeric.sparse import SparseCholesky
from mixedar.residual.base import Composite, Parametric, WithoutParameters

#: levels of a dense inverse
MOST = 5000
# Levels whose variances are looked at.
_SAMPLE = 16


class LevelCovariance(Parametric):
    """
    Covariance between the levels of a factor, relative to the effects' own.

    ``Var(vec(u)) = sigma2 (K kron Psi)``: `K` is this matrix, in the order of the
    levels that it is bound to.
    """

    @cached_property
    def _latest(self) -> Latest[tuple[Jet, FloatArray]]:
        return Latest()

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

    def at(self, u: FloatArray) -> tuple[Jet, FloatArray]:
        """The matrix and its root, of the latest parameters kept."""
        return self._latest.at(u, lambda: (self.matrix(u), self.root(u)))

    def diagonal(self, u: FloatArray) -> FloatArray:
        """Variances of the levels, relative to that of the effects, (n_levels,)."""
        return np.diagonal(self.matrix(u).value)

    def end_note(self, params: FloatArray) -> str:
        """What it means that parameters are at an end of their range, or empty."""
        return ""

    def sets(self, u: FloatArray) -> IntArray:
        """Sets of levels that are related, directly or through others."""
        found = sparse.csr_array(self.matrix(u).value)
        return np.asarray(connected_components(found, directed=False)[1], dtype=np.intp)

    def part(self, some: IntArray) -> LevelCovariance:
        """Between some of the levels, in increasing order."""
        if len(some) == self.n_levels:
            return self
        return _SomeLevels(self, some)


class _SomeLevels(Composite, LevelCovariance):
    """A covariance between some of the levels of another."""

    def __init__(self, whole: LevelCovariance, some: IntArray) -> None:
        self._whole, self._some = whole, some

    @property
    def parts(self) -> tuple[Parametric, ...]:
        return (self._whole,)

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._whole.param_names

    @property
    def n_levels(self) -> int:
        return len(self._some)

    def at_end(self, params: ArrayLike) -> BoolArray:
        return self._whole.at_end(params)

    def matrix(self, u: FloatArray) -> Jet:
        found, (i, j) = self._whole.matrix(u), np.ix_(self._some, self._some)
        second = found.second[:, :, i, j]
        return Jet(found.value[i, j], found.first[:, i, j], second)


def with_parameters(
    between: Iterable[LevelCovariance | None], u: FloatArray
) -> Iterator[tuple[LevelCovariance | None, FloatArray]]:
    """Each covariance, and its own of the parameters of all."""
    first = 0
    for one in between:
        count = 0 if one is None else one.k_free
        yield one, u[first : first + count]
        first += count


def roots_at(
    between: Iterable[LevelCovariance | None], u: FloatArray
) -> list[FloatArray | None]:
    """Roots at many parameters, (m, l, l), or (1, l, l) of those without any."""
    out: list[FloatArray | None] = []
    first = 0
    for one in between:
        own = u[:, first : first + (0 if one is None else one.k_free)]
        first += own.shape[1]
        each = own if own.shape[1] else own[:1]
        out.append(None if one is None else np.stack([one.root(x) for x in each]))
    return out


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


class SparsePrecision(WithoutParameters, LevelCovariance):
    """
    A known covariance between many levels, held as its sparse inverse.

    Parameters
    ----------
    precision : csc_array, shape (n, n)
        Between all levels that there are.
    places : ndarray of int, shape (n_levels,)
        Which of them those of the data are.
    what : str
        For messages.
    sizes : ndarray, shape (n_levels,), optional
        Diagonal of the covariance of these.

    Raises
    ------
    StructureError
        If it is not positive definite.
    """

    def __init__(
        self,
        precision: sparse.csc_array,
        places: IntArray,
        what: str,
        sizes: FloatArray | None = None,
    ) -> None:
        self.precision, self.places = precision, places
        self._what, self._sizes = what, sizes
        try:
            factors = SparseCholesky(precision)
            #: log-determinant of the precision
            self.logdet = factors.factor(precision)
        except np.linalg.LinAlgError:
            raise StructureError(
                f"{what} is not positive definite; for the Laplacian of a graph use "
                "ICAR(W)"
            ) from None
        #: columns of its factor that are dense
        self.filled = factors.filled
        some = places[:: max(len(places) // _SAMPLE, 1)]
        units = np.zeros((precision.shape[0], len(some)))
        units[some, np.arange(len(some))] = 1.0
        #: variance of a typical level, relative to that of the effects
        self.typical = float((units * factors.solve(units)).sum() / len(some))

    @property
    def n_levels(self) -> int:
        return len(self.places)

    def matrix(self, u: FloatArray) -> Jet:
        n = self.precision.shape[0]
        if n > MOST:
            raise UnsupportedError(
                f"{self._what}: the covariance itself of {n:,} levels, which this "
                f"needs, is beyond {MOST:,}; estimates, tests and ranef() do without. "
                "Or leave out levels without rows and without relatives"
            )
        whole = np.linalg.inv(self.precision.toarray())
        return Jet.constant(whole[np.ix_(self.places, self.places)], 0)

    def diagonal(self, u: FloatArray) -> FloatArray:
        return super().diagonal(u) if self._sizes is None else self._sizes

    def sets(self, u: FloatArray) -> IntArray:
        found = connected_components(self.precision, directed=False)[1]
        return np.asarray(found[self.places], dtype=np.intp)


class Relation(ABC):
    """How levels are related, before it is known which levels there are."""

    #: columns of coordinates that it reads
    columns: tuple[str, ...] = ()

    def check(self, levels: pd.Index, factor: str, places: FloatArray | None) -> None:
        """Raise StructureError where the levels of a fit do not suit."""
        return

    @abstractmethod
    def bind(
        self,
        levels: pd.Index,
        factor: str,
        places: FloatArray | None,
        like: LevelCovariance | None = None,
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
        like : LevelCovariance, optional
            That of other levels, whose unconstrained parameters are taken.

        Raises
        ------
        StructureError
            If the levels do not fit.
        """

    def knows(self, levels: pd.Index) -> BoolArray:
        """Which levels it can relate to others."""
        return np.ones(len(levels), dtype=bool)

    def surplus(self, levels: pd.Index) -> list[object]:
        """Labels that are none of the levels."""
        return []

    def note(self, factor: str) -> str:
        """What a reader should know, or empty."""
        return ""
