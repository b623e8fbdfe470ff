"""
Structures over a set of common occasions: waves, visits, sides of a body.

They read the place of a row's time among all times of the data, so that times
may be numbers, dates or the levels of a categorical column.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixedar.exceptions import StructureError
from mixedar.jets import Jet, chain, clip, concatenate, variables
from mixedar.residual.base import DataLayout, Link, Mark, ResidualStructure
from mixedar.residual.formula import FormulaStructure

__all__ = ["AnteDependence", "OccasionStructure", "Unstructured"]

FloatArray = NDArray[np.float64]

_LIMIT = 9.0
_STEEP = 1e4  # entries of a row of the Cholesky factor, over its diagonal
_FEW = 5  # occasions, up to which several starts are tried
_MOST = 60  # occasions, 1,770 correlations


@dataclass(frozen=True)
class OccasionStructure(FormulaStructure):
    """
    Correlations between occasions.

    Parameters
    ----------
    by : str, optional
        Column of strata, each with parameters of its own.
    occasions : tuple of str
        The occasions in their order, set by :meth:`bind_layout`.
    """

    by: str | None = None
    occasions: tuple[str, ...] = ("1", "2")

    @property
    def uses_time(self) -> bool:
        return False

    @property
    def marks(self) -> tuple[Mark, ...]:
        return (Mark("level", None),)

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        occasions = layout.labels[0] or ("1",)
        if len(occasions) < 2:
            raise StructureError(
                f"{self.label} residuals need two occasions or more, and the time "
                f"variable has only {occasions[0]!r}"
            )
        if len(occasions) > _MOST:
            raise StructureError(
                f"{self.label} residuals: the time variable has {len(occasions)} "
                f"different values, more than {_MOST} occasions. Round or number the "
                "occasions, or use a structure of distances: 'ar1', 'car1', 'exp'"
            )
        return replace(self, occasions=occasions)

    def cells(self, a: FloatArray, b: FloatArray) -> FloatArray:
        pair = np.concatenate([a[:, 1:2], b[:, 1:2]], axis=1)
        return np.sort(pair, axis=1)

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        return self._inverse(np.asarray(params, dtype=np.float64))

    @abstractmethod
    def _inverse(self, params: FloatArray) -> FloatArray:
        """Unconstrained parameters."""


@dataclass(frozen=True)
class AnteDependence(OccasionStructure):
    """
    First-order ante-dependence: neighbouring occasions have their own correlation.

    ``corr(e_s, e_t)`` is the product of the parameters of the steps between.
    With a variance per occasion (``weights=VarIdent()``, or the name ``"adh"``)
    it is SAS's ``ANTE(1)``.

    References
    ----------
    Gabriel, K. R. (1962), Ante-dependence analysis of an ordered set of
    variables, Annals of Mathematical Statistics 33, 201-212.
    """

    code: ClassVar[str] = "ad"
    label: ClassVar[str] = "ante-dependence"

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names such as ``rho(8, 10)``."""
        names = self.occasions
        return tuple(f"rho({a}, {b})" for a, b in pairwise(names))

    def start_grid(self) -> Sequence[FloatArray]:
        k = len(self.occasions) - 1
        return [np.full(k, np.arctanh(r)) for r in (0.4, 0.8, -0.2)]

    def _inverse(self, params: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.clip(np.arctanh(params), -_LIMIT, _LIMIT)

    def from_variables(self, u: Jet) -> Jet:
        return np.tanh(clip(u, -_LIMIT, _LIMIT))

    def at_boundary(self, params: ArrayLike) -> bool:
        return not bool((np.abs(np.asarray(params)) < 1.0 - 1e-6).all())

    def correlations(self, cells: FloatArray, params: Any) -> Any:
        low, high = cells.astype(np.intp).T
        out: Any = np.ones(len(cells))
        for step in range(len(self.occasions) - 1):
            inside = (low <= step) & (step < high)
            # the factor is the parameter inside and one elsewhere
            out = out * (params[step] * inside + ~inside)
        return out


@dataclass(frozen=True)
class Unstructured(OccasionStructure):
    """
    A correlation of its own for every pair of occasions (nlme's ``corSymm``).

    With a variance per occasion (``weights=VarIdent()``, or the name ``"un"``) it
    is SAS's ``UN``.  Rows of the Cholesky factor of the correlation matrix move
    freely, scaled to length one, so that it stays positive definite.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (1996), Unconstrained parametrizations for
    variance-covariance matrices, Statistics and Computing 6, 289-296.
    """

    code: ClassVar[str] = "unr"
    label: ClassVar[str] = "unstructured"

    @property
    def links(self) -> tuple[Link, ...]:
        scale: Link = "correlation"
        return (scale,) * self.k_params

    @property
    def k_params(self) -> int:
        """Number of correlations; their names take longer to make."""
        n = len(self.occasions)
        return n * (n - 1) // 2

    def _pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        return np.tril_indices(len(self.occasions), -1)

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names such as ``rho(8, 10)``, row by row of the lower triangle."""
        names = self.occasions
        rows, columns = self._pairs()
        return tuple(
            f"rho({names[b]}, {names[a]})" for a, b in zip(rows, columns, strict=True)
        )

    def start_grid(self) -> Sequence[FloatArray]:
        n = len(self.occasions)
        rows, columns = self._pairs()
        grid = []
        for rho in (0.5, 0.1):
            grid.append(self._inverse(np.full(len(rows), rho)))
        apart = np.abs(rows - columns)
        grid.append(self._inverse(0.7**apart))
        # many parameters are costly to search for, and the surface has one top
        return grid if n <= _FEW else grid[-1:]

    def _inverse(self, params: FloatArray) -> FloatArray:
        n = len(self.occasions)
        matrix = np.eye(n)
        matrix[self._pairs()] = params
        matrix = np.tril(matrix) + np.tril(matrix, -1).T
        root = np.linalg.cholesky(matrix)
        return (root / np.diag(root)[:, None])[self._pairs()]

    def natural(self, u: FloatArray) -> Jet:
        # a correlation moves with two rows of the factor alone: few of all derivatives
        u = np.clip(np.asarray(u, dtype=np.float64), -_STEEP, _STEEP)
        k = len(u)
        rows, firsts, first = [], [], 0
        for n in range(len(self.occasions)):
            free = variables(u[first : first + n])
            one = Jet.constant(np.ones(1), n)
            entries = concatenate([free, one])
            rows.append(entries / np.sqrt((entries * entries).sum()))
            firsts.append(slice(first, first + n))
            first += n
        out = Jet.constant(np.empty(k), k)
        for place, (a, b) in enumerate(zip(*self._pairs(), strict=True)):
            x, y = rows[a][: b + 1], rows[b]
            i, j = firsts[a], firsts[b]
            out.value[place] = x.value @ y.value
            out.first[i, place] = x.first @ y.value
            out.first[j, place] = y.first @ x.value
            out.second[i, i, place] = x.second @ y.value
            out.second[j, j, place] = y.second @ x.value
            cross = x.first @ y.first.T
            out.second[i, j, place] = cross
            out.second[j, i, place] = cross.T
        return out

    def from_variables(self, u: Jet) -> Jet:
        return chain(self.natural(u.value), u)

    def at_boundary(self, params: ArrayLike) -> bool:
        n = len(self.occasions)
        matrix = np.eye(n)
        matrix[self._pairs()] = np.asarray(params)
        matrix = np.tril(matrix) + np.tril(matrix, -1).T
        return bool(np.linalg.eigvalsh(matrix)[0] < 1e-7)

    def correlations(self, cells: FloatArray, params: Any) -> Any:
        low, high = cells.astype(np.intp).T
        same = low == high
        place = np.where(same, 0, high * (high - 1) // 2 + low)
        if not same.any():
            return params[place]
        return params[place] * ~same + same
