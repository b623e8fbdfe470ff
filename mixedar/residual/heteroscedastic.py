"""
A correlation structure with a variance function: ``R = G C G``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from mixedar._types import FloatArray
from mixedar.exceptions import StructureError
from mixedar.numeric.autodiff import Jet, concatenate, embed
from mixedar.residual.base import DataLayout, Link, Mark, ResidualStructure
from mixedar.residual.formula import as_positions
from mixedar.residual.variance.base import VarianceFunction

_LARGEST = 150.0  # of the logarithm of a known standard deviation
_LARGEST_RANGE = 60.0


@dataclass(frozen=True)
class Heteroscedastic(ResidualStructure):
    """
    Residuals with the correlations of one object and the variances of another.

    What the contract calls correlation is here a covariance, relative to the
    residual variance; its diagonal is not one.  Parameters of the correlation
    come first.

    Parameters
    ----------
    structure : ResidualStructure
    variance : VarianceFunction
    """

    structure: ResidualStructure
    variance: VarianceFunction

    @property
    def code(self) -> str:  # type: ignore[override]
        """Both codes."""
        return f"{self.structure.code}+{self.variance.code}"

    @property
    def label(self) -> str:  # type: ignore[override]
        """Name in summaries."""
        return f"{self.structure.label}, {self.variance.label}"

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the correlation's parameters, then of the variance's."""
        return (*self.structure.param_names, *self.variance.param_names)

    @property
    def integer_time(self) -> bool:  # type: ignore[override]
        """Whether times have to lie on a grid of equal steps."""
        return self.structure.integer_time

    @property
    def needs_distinct_times(self) -> bool:  # type: ignore[override]
        """Whether two observations of a series may not share their time."""
        return self.structure.needs_distinct_times

    @property
    def fixed(self) -> bool:  # type: ignore[override]
        """Whether no parameter is estimated."""
        return self.k_free == 0

    @property
    def k_free(self) -> int:
        """Number of parameters to be estimated."""
        return self.structure.k_free + self.variance.k_free

    @property
    def links(self) -> tuple[Link, ...]:
        return (*self.structure.links, *self.variance.links)

    @property
    def uses_time(self) -> bool:
        return self.structure.uses_time

    @property
    def marks(self) -> tuple[Mark, ...]:
        return (*self.structure.marks, *self.variance.marks)

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        here = len(self.structure.marks)
        first = replace(
            layout, marks=layout.marks[:, :here], labels=layout.labels[:here]
        )
        second = replace(
            layout, marks=layout.marks[:, here:], labels=layout.labels[here:]
        )
        structure = self.structure.bind_layout(first)
        variance = self.variance.bind_layout(second)
        if variance.k_free == 0:
            _check_known(variance, second.marks)
        return Heteroscedastic(structure, variance)

    def bind(self, gaps: FloatArray) -> ResidualStructure:
        return replace(self, structure=self.structure.bind(gaps))

    def _split(self, u: ArrayLike) -> tuple[FloatArray, FloatArray]:
        u = np.asarray(u, dtype=np.float64)
        return u[: self.structure.k_free], u[self.structure.k_free :]

    def _split_params(self, params: ArrayLike) -> tuple[FloatArray, FloatArray]:
        params = np.asarray(params, dtype=np.float64)
        return params[: self.structure.k_params], params[self.structure.k_params :]

    def _split_positions(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        positions = as_positions(positions)
        here = 1 + len(self.structure.marks)
        return positions[:, :here], positions[:, here:]

    def start_grid(self) -> Sequence[FloatArray]:
        ours, theirs = self.structure.start_grid(), self.variance.start_grid()
        grid = [np.concatenate([u, theirs[0]]) for u in ours]
        return grid + [np.concatenate([ours[0], v]) for v in theirs[1:]]

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        ours, theirs = self._split_params(params)
        return np.concatenate(
            [
                self.structure.to_unconstrained(ours),
                self.variance.to_unconstrained(theirs),
            ]
        )

    def natural(self, u: FloatArray) -> Jet:
        ours, theirs = self._split(u)
        k = self.k_free
        return concatenate(
            [
                embed(self.structure.natural(ours), 0, k),
                embed(self.variance.natural(theirs), self.structure.k_free, k),
            ]
        )

    def from_unconstrained(self, u: ArrayLike) -> FloatArray:
        return self.natural(np.asarray(u, dtype=np.float64)).value

    def jacobian(self, u: ArrayLike) -> FloatArray:
        ours, theirs = self._split(u)
        free = self.structure.k_free
        out = np.zeros((self.k_free, self.k_free))
        out[:free, :free] = self.structure.jacobian(ours)
        if self.variance.k_free:
            out[free:, free:] = self.variance.natural(theirs).first.T
        return out

    def cells(self, a: FloatArray, b: FloatArray) -> FloatArray:
        return self.structure.cells(
            self._split_positions(a)[0], self._split_positions(b)[0]
        )

    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        ours, _ = self._split(u)
        return embed(self.structure.cell_values(cells, ours), 0, self.k_free)

    def log_sd(self, positions: FloatArray, u: FloatArray) -> Jet | None:
        _, theirs = self._split(u)
        _, marks = self._split_positions(positions)
        found = self.variance.log_sd(marks, self.variance.natural(theirs))
        if not isinstance(found, Jet):
            found = Jet.constant(found, 0)
        return embed(found, self.structure.k_free, self.k_free)

    def scales(self, positions: FloatArray, params: ArrayLike) -> FloatArray:
        """
        Standard deviations relative to ``sigma``.

        Parameters
        ----------
        positions : ndarray, shape (n, 1 + c)
        params : array_like, shape (k_params,)

        Returns
        -------
        ndarray, shape (n,)
        """
        _, theirs = self._split_params(params)
        _, marks = self._split_positions(positions)
        found = self.variance.log_sd(marks, theirs)
        return np.exp(np.asarray(found, dtype=np.float64))

    def row_scales(self, marks: FloatArray | None, params: ArrayLike) -> FloatArray:
        """
        Standard deviations of rows of which only the marks are known.

        Parameters
        ----------
        marks : ndarray, shape (n, c)
        params : array_like, shape (k_params,)

        Returns
        -------
        ndarray, shape (n,)
        """
        marks = np.empty((0, 0)) if marks is None else marks
        return self.scales(
            np.concatenate([np.zeros((len(marks), 1)), marks], axis=1), params
        )

    def inner(
        self, marks: FloatArray | None, params: ArrayLike
    ) -> tuple[ResidualStructure, FloatArray | None, FloatArray]:
        """
        The correlation by itself, with its own marks and parameters.

        Parameters
        ----------
        marks : ndarray, shape (n, c), or None
        params : array_like, shape (k_params,)

        Returns
        -------
        structure : ResidualStructure
        marks : ndarray, shape (n, c'), or None
        params : ndarray, shape (k_params',)
        """
        here = len(self.structure.marks)
        own = marks[:, :here] if marks is not None and here else None
        return self.structure, own, self._split_params(params)[0]

    def whiten(self, x: FloatArray, time: FloatArray, params: ArrayLike) -> FloatArray:
        sd = self.scales(time, params)
        inner, _ = self._split_positions(time)
        ours, _ = self._split_params(params)
        where = inner if inner.shape[1] > 1 else inner[:, 0]
        return self.structure.whiten(x / sd[:, None], where, ours)

    def logdet(self, time: FloatArray, params: ArrayLike) -> float:
        inner, _ = self._split_positions(time)
        ours, _ = self._split_params(params)
        where = inner if inner.shape[1] > 1 else inner[:, 0]
        logs = np.log(self.scales(time, params))
        return self.structure.logdet(where, ours) + 2.0 * float(logs.sum())

    def cross_correlation(
        self, time: FloatArray, new_time: FloatArray, params: ArrayLike
    ) -> FloatArray:
        a, _ = self._split_positions(time)
        b, _ = self._split_positions(new_time)
        ours, _ = self._split_params(params)
        if a.shape[1] == 1:
            a, b = a[:, 0], b[:, 0]
        inner = self.structure.cross_correlation(a, b, ours)
        here, there = self.scales(time, params), self.scales(new_time, params)
        return inner * np.outer(here, there)

    def correlation(self, time: FloatArray, params: ArrayLike) -> FloatArray:
        a, _ = self._split_positions(time)
        ours, _ = self._split_params(params)
        inner = self.structure.correlation(a if a.shape[1] > 1 else a[:, 0], ours)
        sd = self.scales(time, params)
        return inner * np.outer(sd, sd)

    def at_boundary(self, params: ArrayLike) -> bool:
        ours, theirs = self._split_params(params)
        here = bool(self.structure.k_free) and self.structure.at_boundary(ours)
        there = bool(self.variance.k_free) and self.variance.at_boundary(theirs)
        return here or there


def _check_known(variance: VarianceFunction, marks: FloatArray) -> None:
    """Raise if known standard deviations are beyond what numbers can hold."""
    with np.errstate(all="ignore"):
        params = variance.natural(np.empty(0)).value
        logs = np.asarray(variance.log_sd(marks, params), dtype=np.float64)
    if not np.abs(logs).max(initial=0.0) < _LARGEST:
        raise StructureError(
            f"{variance.label}: standard deviations are beyond what numbers can hold. "
            "Change the unit of the column, or the parameters that are fixed"
        )
    if not np.ptp(logs) < _LARGEST_RANGE:
        digits = np.ptp(logs) / np.log(10.0)
        raise StructureError(
            f"{variance.label}: the largest standard deviation is 1e{digits:.0f} times "
            "the smallest, so that rows tell nothing beside others. Check the column "
            "or the parameters that are fixed"
        )
