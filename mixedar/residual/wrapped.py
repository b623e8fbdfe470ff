"""
Structures that change another one: measurement error, and strata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import block_diag
from scipy.special import logit

from mixedar._types import FloatArray
from mixedar.numeric.autodiff import Jet, clip, concatenate, embed, variables
from mixedar.residual.base import DataLayout, Link, Mark, ResidualStructure
from mixedar.residual.formula import DenseStructure, as_positions

_LIMIT = 18.0


class CellStructure(DenseStructure):
    """A structure that is known by its cells: everything else follows."""

    def cross_correlation(
        self, time: FloatArray, new_time: FloatArray, params: ArrayLike
    ) -> FloatArray:
        a, b = as_positions(time), as_positions(new_time)
        n, k = len(a), len(b)
        cells = self.cells(np.repeat(a, k, axis=0), np.tile(b, (n, 1)))
        values = self.cell_values(cells, self.to_unconstrained(params))
        return np.array(values.value).reshape(n, k)


@dataclass(frozen=True)
class Nugget(CellStructure):
    """
    A structure plus measurement error: ``corr = (1 - nugget) corr_0``.

    `nugget` is the share of independent noise in the residual variance (nlme's
    ``nugget = TRUE``; SAS's ``LOCAL`` prints it as a variance).

    Parameters
    ----------
    structure : ResidualStructure
    """

    structure: ResidualStructure

    @property
    def code(self) -> str:  # type: ignore[override]
        """Code of the structure."""
        return f"{self.structure.code}+nugget"

    @property
    def label(self) -> str:  # type: ignore[override]
        """Name in summaries."""
        return f"{self.structure.label} with nugget"

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the parameters, the nugget last."""
        return (*self.structure.param_names, "nugget")

    @property
    def integer_time(self) -> bool:  # type: ignore[override]
        """Whether times have to lie on a grid of equal steps."""
        return self.structure.integer_time

    @property
    def k_free(self) -> int:
        """Number of parameters to be estimated."""
        return self.structure.k_free + 1

    @property
    def links(self) -> tuple[Link, ...]:
        return (*self.structure.links, "identity")

    @property
    def uses_time(self) -> bool:
        return self.structure.uses_time

    @property
    def marks(self) -> tuple[Mark, ...]:
        return self.structure.marks

    def bind(self, gaps: FloatArray) -> ResidualStructure:
        return replace(self, structure=self.structure.bind(gaps))

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        return replace(self, structure=self.structure.bind_layout(layout))

    def start_grid(self) -> Sequence[FloatArray]:
        grid = self.structure.start_grid()
        return [
            np.append(u, logit(share))
            for u, share in [(grid[0], 0.2), (grid[-1], 0.4), (grid[0], 0.02)]
        ]

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        params = np.asarray(params, dtype=np.float64)
        with np.errstate(divide="ignore"):
            last = np.clip(logit(params[-1]), -_LIMIT, _LIMIT)
        return np.append(self.structure.to_unconstrained(params[:-1]), last)

    def _nugget(self, u: FloatArray) -> Jet:
        return 0.5 * (np.tanh(0.5 * clip(variables(u)[-1:], -_LIMIT, _LIMIT)) + 1.0)

    def natural(self, u: FloatArray) -> Jet:
        u = np.asarray(u, dtype=np.float64)
        inner = embed(self.structure.natural(u[:-1]), 0, len(u))
        return concatenate([inner, self._nugget(u)])

    def jacobian(self, u: ArrayLike) -> FloatArray:
        u = np.asarray(u, dtype=np.float64)
        last = self._nugget(u).first[-1:]
        return np.asarray(block_diag(self.structure.jacobian(u[:-1]), last))

    def cells(self, a: FloatArray, b: FloatArray) -> FloatArray:
        return self.structure.cells(a, b)

    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        u = np.asarray(u, dtype=np.float64)
        inner = embed(self.structure.cell_values(cells, u[:-1]), 0, len(u))
        return inner * (1.0 - self._nugget(u))

    def at_boundary(self, params: ArrayLike) -> bool:
        params = np.asarray(params, dtype=np.float64)
        inside = 1e-6 < params[-1] < 1.0 - 1e-6
        free = self.structure.k_free > 0
        return not inside or (free and self.structure.at_boundary(params[:-1]))


@dataclass(frozen=True)
class Stratified(CellStructure):
    """
    A structure with parameters of its own in each stratum (SAS's ``GROUP=``).

    Parameters
    ----------
    structure : ResidualStructure
    by : str
        Column of strata, constant within a series.
    strata : tuple of str
        Their names, set by :meth:`bind_layout`.
    """

    structure: ResidualStructure
    by: str
    strata: tuple[str, ...] = field(default=("",))

    @property
    def code(self) -> str:  # type: ignore[override]
        """Code of the structure."""
        return f"{self.structure.code} by {self.by}"

    @property
    def label(self) -> str:  # type: ignore[override]
        """Name in summaries."""
        return f"{self.structure.label} by {self.by}"

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names such as ``rho[a]``, stratum by stratum."""
        names = self.structure.param_names
        return tuple(f"{name}[{s}]" for s in self.strata for name in names)

    @property
    def integer_time(self) -> bool:  # type: ignore[override]
        """Whether times have to lie on a grid of equal steps."""
        return self.structure.integer_time

    @property
    def k_free(self) -> int:
        """Number of parameters to be estimated."""
        return len(self.strata) * self.structure.k_free

    @property
    def links(self) -> tuple[Link, ...]:
        return self.structure.links * len(self.strata)

    @property
    def fixed(self) -> bool:  # type: ignore[override]
        """Whether no parameter is estimated."""
        return self.structure.fixed

    @property
    def uses_time(self) -> bool:
        return self.structure.uses_time

    @property
    def marks(self) -> tuple[Mark, ...]:
        return (*self.structure.marks, Mark("stratum", self.by))

    def bind(self, gaps: FloatArray) -> ResidualStructure:
        return replace(self, structure=self.structure.bind(gaps))

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        inner = replace(layout, marks=layout.marks[:, :-1], labels=layout.labels[:-1])
        return Stratified(
            self.structure.bind_layout(inner), self.by, layout.labels[-1] or ("",)
        )

    def _places(self) -> list[tuple[slice, slice]]:
        """Free and all parameters of each stratum."""
        free, every = self.structure.k_free, self.structure.k_params
        return [
            (slice(i * free, (i + 1) * free), slice(i * every, (i + 1) * every))
            for i in range(len(self.strata))
        ]

    def start_grid(self) -> Sequence[FloatArray]:
        return [np.tile(u, len(self.strata)) for u in self.structure.start_grid()]

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        params = np.asarray(params, dtype=np.float64)
        return np.concatenate(
            [self.structure.to_unconstrained(params[p]) for _, p in self._places()]
        )

    def natural(self, u: FloatArray) -> Jet:
        u = np.asarray(u, dtype=np.float64)
        return concatenate(
            [
                embed(self.structure.natural(u[f]), f.start, len(u))
                for f, _ in self._places()
            ]
        )

    def jacobian(self, u: ArrayLike) -> FloatArray:
        u = np.asarray(u, dtype=np.float64)
        blocks = [self.structure.jacobian(u[f]) for f, _ in self._places()]
        return np.asarray(block_diag(*blocks))

    def cells(self, a: FloatArray, b: FloatArray) -> FloatArray:
        inner = self.structure.cells(a[:, :-1], b[:, :-1])
        # strata do not change inside a series: the first row's tells
        return np.concatenate([a[:, -1:], inner], axis=1)

    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        u = np.asarray(u, dtype=np.float64)
        out = Jet.constant(np.zeros(len(cells)), len(u))
        for stratum, (free, _) in enumerate(self._places()):
            here = cells[:, 0] == stratum
            found = self.structure.cell_values(cells[here, 1:], u[free])
            found = embed(found, free.start, len(u))
            out.value[here] = found.value
            out.first[:, here] = found.first
            out.second[:, :, here] = found.second
        return out

    def at_boundary(self, params: ArrayLike) -> bool:
        params = np.asarray(params, dtype=np.float64)
        return self.structure.k_free > 0 and any(
            self.structure.at_boundary(params[p]) for _, p in self._places()
        )
