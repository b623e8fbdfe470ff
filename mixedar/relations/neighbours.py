"""
Levels that are related through their neighbours: lattices, regions, networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from mixedar._lazy import class_with_near_names
from mixedar._types import BoolArray, FloatArray
from mixedar.exceptions import LengthError, StructureError, listing
from mixedar.numeric.autodiff import Jet, clip
from mixedar.relations.base import KnownCovariance, LevelCovariance
from mixedar.relations.labelled import LabelledMatrix, LabelledRelation
from mixedar.residual.base import Link

_NEAR_ONE = 1e-6
# Beyond, the likelihood is that of rho = 1, and rounding more than what is left of it.
_LAST = float(np.arctanh(1.0 - _NEAR_ONE / 2.0))


@class_with_near_names
class Neighbours(LabelledRelation):
    """
    A graph of neighbours.

    Parameters
    ----------
    W : DataFrame, array_like or sparse matrix, shape (n, n)
        Symmetric weights, zero for levels that are not neighbours; a DataFrame has
        the levels as index and columns.
    labels : sequence, optional
        Levels, if `W` has no labels of its own.

    Raises
    ------
    StructureError
        If `W` is not symmetric, has negative weights, or a level has no neighbour.
    """

    def __init__(self, W: Any, *, labels: Any = None) -> None:
        name = type(self).__name__
        super().__init__(LabelledMatrix.of(W, labels, f"{name}: W"))
        weights = self._matrix.values
        rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
        if weights.nnz and weights.min() < 0.0:
            at = int(weights.data.argmin())
            ends = self._matrix.labels[[rows[at], weights.indices[at]]].tolist()
            raise StructureError(
                f"{name}: W has negative weights, such as {weights.data[at]:g} of "
                f"{listing(ends)}; pass the weights of neighbours, not D - W"
            )
        weights.data[rows == weights.indices] = 0.0
        weights.eliminate_zeros()
        alone = self._matrix.labels[np.asarray(weights.sum(axis=1)).ravel() == 0.0]
        if len(alone):
            raise StructureError(
                f"{name}: {len(alone)} of {len(self._matrix.labels)} levels have no "
                f"neighbour: {listing(alone.tolist())}. Join them to others in W, or "
                "leave their rows out"
            )

    @classmethod
    def from_edges(
        cls, first: ArrayLike, second: ArrayLike, weights: ArrayLike | None = None
    ) -> Neighbours:
        """
        The graph of a list of pairs.

        Parameters
        ----------
        first, second : array_like, shape (e,)
            Levels at the two ends of each edge, which stands once.
        weights : array_like, shape (e,), optional
            One each by default.

        Returns
        -------
        The graph

        Raises
        ------
        LengthError
            If there is not an end, and a weight, for each edge.
        StructureError
            If an end is missing, or an edge stands twice.

        Examples
        --------
        >>> from mixedar.api import ICAR
        >>> ICAR.from_edges(["a", "b", "c"], ["b", "c", "d"])
        ICAR of 4 levels
        """
        name = f"{cls.__name__}.from_edges"
        one, other = pd.Series(np.asarray(first)), pd.Series(np.asarray(second))
        if len(one) != len(other):
            raise LengthError(f"{name}: {len(one)} and {len(other)} ends of edges")
        lost = np.flatnonzero(one.isna() | other.isna())
        if len(lost):
            raise StructureError(f"{name}: edge {lost[0]} has an end that is missing")
        labels = pd.Index(pd.unique(pd.concat([one, other], ignore_index=True)))
        i, j = labels.get_indexer(pd.Index(one)), labels.get_indexer(pd.Index(other))
        values = (
            np.ones(len(i)) if weights is None else np.asarray(weights, dtype=float)
        )
        if len(values) != len(i):
            raise LengthError(f"{name}: {len(values)} weights of {len(i)} edges")
        pairs = pd.DataFrame({"i": np.minimum(i, j), "j": np.maximum(i, j)})
        twice = np.flatnonzero(pairs.duplicated())
        if len(twice):
            ends = labels[[i[twice[0]], j[twice[0]]]].tolist()
            raise StructureError(
                f"{name}: {len(twice)} edges stand twice, such as that of "
                f"{listing(ends)}: give each once, in one direction"
            )
        graph = sparse.coo_array((values, (i, j)), shape=(len(labels),) * 2).tocsr()
        return cls(graph + graph.T, labels=labels)

    def _laplacian(self) -> tuple[FloatArray, FloatArray]:
        """Weights and their sums, dense."""
        weights = self._matrix.values.toarray()
        return weights, weights.sum(axis=1)


class CAR(Neighbours):
    """
    A proper conditional autoregression: ``K = (D - rho W)^-1``.

    `D` holds the sums of the weights.  ``rho`` is estimated, between -1 and 1.

    Parameters
    ----------
    W : DataFrame, array_like or sparse matrix, shape (n, n)
        Symmetric weights, zero for levels that are not neighbours; a DataFrame has
        the levels as index and columns.
    labels : sequence, optional
        Levels, if `W` has no labels of its own.

    Raises
    ------
    StructureError
        If `W` is not symmetric, has negative weights, or a level has no neighbour.

    References
    ----------
    Besag, J. (1974), Spatial interaction and the statistical analysis of lattice
    systems, Journal of the Royal Statistical Society B 36, 192-236.

    Examples
    --------
    >>> from mixedar.api import CAR
    >>> CAR.from_edges(["a", "b", "c"], ["b", "c", "a"])
    CAR of 3 levels
    """

    def bind(
        self, levels: pd.Index, factor: str, places: Any, like: Any = None
    ) -> LevelCovariance:
        rows = self._matrix.numbers(levels, factor)
        return _Autoregression(*self._laplacian(), rows)


class _Autoregression(LevelCovariance):
    """``(D - rho W)^-1`` of some of the levels."""

    param_names: ClassVar[tuple[str, ...]] = ("rho",)
    link: ClassVar[Link] = "correlation"

    def __init__(self, weights: FloatArray, sums: FloatArray, rows: Any) -> None:
        scale = 1.0 / np.sqrt(sums)
        values, vectors = np.linalg.eigh(weights * scale[:, None] * scale)
        self._values = np.clip(values, -1.0, 1.0)
        self._vectors = (vectors * scale[:, None])[rows]

    @property
    def n_levels(self) -> int:
        return len(self._vectors)

    def start_grid(self) -> Sequence[FloatArray]:
        return [np.arctanh([rho]) for rho in (0.5, 0.9, 0.0, 0.98)]

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        return np.arctanh(np.asarray(params, dtype=np.float64))

    def from_variables(self, u: Jet) -> Jet:
        return np.tanh(clip(u, -_LAST, _LAST))

    def at_end(self, params: ArrayLike) -> BoolArray:
        return np.abs(np.asarray(params, dtype=np.float64)) > 1.0 - _NEAR_ONE

    def matrix(self, u: FloatArray) -> Jet:
        rho = self.natural(u)[0]
        self._check_proper(float(rho.value))
        spread = 1.0 / (1.0 - rho * self._values)
        q = self._vectors

        def whole(x: FloatArray) -> FloatArray:
            return np.asarray((q * x) @ q.T)

        first = np.stack([whole(x) for x in spread.first])
        return Jet(whole(spread.value), first, whole(spread.second[0, 0])[None, None])

    def _check_proper(self, rho: float) -> None:
        if not (rho * self._values < 1.0).all():
            raise np.linalg.LinAlgError("CAR: there is no covariance at rho = 1")

    def root(self, u: FloatArray) -> FloatArray:
        if self._vectors.shape[0] != self._vectors.shape[1]:  # levels without rows
            return super().root(u)
        rho = float(self.natural(u).value[0])
        self._check_proper(rho)
        found = self._vectors / np.sqrt(1.0 - rho * self._values)
        return np.asarray(found, dtype=np.float64)


class ICAR(Neighbours):
    """
    An intrinsic autoregression: ``K`` is the inverse of the Laplacian ``D - W``.

    The pseudo-inverse: effects sum to zero over the levels of a connected graph, and
    the mean is the fixed effects' (the constant's).  Nothing is rescaled, so the
    variance is not comparable with that of independent effects.

    Parameters
    ----------
    W : DataFrame, array_like or sparse matrix, shape (n, n)
        Symmetric weights, zero for levels that are not neighbours; a DataFrame has
        the levels as index and columns.
    labels : sequence, optional
        Levels, if `W` has no labels of its own.

    Raises
    ------
    StructureError
        If `W` is not symmetric, has negative weights, or a level has no neighbour.

    References
    ----------
    Besag, J., York, J. and Mollie, A. (1991), Bayesian image restoration, with two
    applications in spatial statistics, Annals of the Institute of Statistical
    Mathematics 43, 1-20.

    Examples
    --------
    >>> from mixedar.api import ICAR
    >>> ICAR.from_edges(["a", "b", "c"], ["b", "c", "a"])
    ICAR of 3 levels
    """

    def bind(
        self, levels: pd.Index, factor: str, places: Any, like: Any = None
    ) -> LevelCovariance:
        rows = self._matrix.numbers(levels, factor)
        weights, sums = self._laplacian()
        values, vectors = np.linalg.eigh(np.diag(sums) - weights)
        here = values > 1e-10 * values[-1]
        whole = (vectors[:, here] / values[here]) @ vectors[:, here].T
        return KnownCovariance(whole[np.ix_(rows, rows)])

    def note(self, factor: str) -> str:
        """What the graph does not tell, or empty."""
        n, part = connected_components(self._matrix.values, directed=False)
        if n == 1:
            return ""
        sizes = sorted(np.bincount(part).tolist(), reverse=True)
        return (
            f"The graph of {factor!r} falls into {n} parts, of "
            f"{', '.join(map(str, sizes[:5]))}{' ...' if n > 5 else ''} levels: "
            "effects sum to zero in each, and only fixed effects tell the parts apart"
        )
