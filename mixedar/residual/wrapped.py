"""
Structures that change another one: measurement error, strata, and variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit

from mixedar._types import ArrayOrJet, BoolArray, FloatArray
from mixedar.exceptions import StructureError
from mixedar.numeric.autodiff import (
    Deferred,
    Jet,
    clip,
    concatenate,
    embed,
    variables,
)
from mixedar.residual.base import (
    Composite,
    DataLayout,
    Link,
    Mark,
    Parametric,
    ResidualStructure,
)
from mixedar.residual.states import StateSpace, joined
from mixedar.residual.variance.base import MOST_STRATA, VarianceFunction

_LIMIT = 18.0
_LARGEST = 150.0  # of the logarithm of a known standard deviation
_LARGEST_RANGE = 60.0


@dataclass(frozen=True)
class WrappedStructure(ResidualStructure):
    """A structure that is made of another one, whose properties it keeps."""

    structure: ResidualStructure

    @property
    def integer_time(self) -> bool:  # type: ignore[override]
        """Whether times have to lie on a grid of equal steps."""
        return self.structure.integer_time

    @property
    def counts_steps(self) -> bool:  # type: ignore[override]
        """Whether integer times count in their common step, whatever their unit."""
        return self.structure.counts_steps

    @property
    def uses_time(self) -> bool:
        return self.structure.uses_time

    @property
    def marks(self) -> tuple[Mark, ...]:
        return self.structure.marks

    @property
    def n_states(self) -> int:
        return self.structure.n_states

    def bind(self, gaps: FloatArray) -> ResidualStructure:
        return replace(self, structure=self.structure.bind(gaps))

    def cells(self, a: FloatArray, b: FloatArray) -> FloatArray:
        return self.structure.cells(a, b)


def innermost(structure: ResidualStructure) -> ResidualStructure:
    """The structure without measurement error, strata and variances."""
    while isinstance(structure, WrappedStructure):
        structure = structure.structure
    return structure


@dataclass(frozen=True)
class Nugget(WrappedStructure):
    """
    A structure plus measurement error: ``corr = (1 - nugget) corr_0``.

    `nugget` is the share of independent noise in the residual variance (nlme's
    ``nugget = TRUE``; SAS's ``LOCAL`` prints it as a variance).

    Parameters
    ----------
    structure : ResidualStructure
    """

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
    def k_free(self) -> int:
        """Number of parameters to be estimated."""
        return self.structure.k_free + 1

    @property
    def links(self) -> tuple[Link, ...]:
        return (*self.structure.links, "identity")

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        return replace(self, structure=self.structure.bind_layout(layout))

    def start_grid(self) -> Sequence[FloatArray]:
        grid = self.structure.start_grid()
        tried = [(grid[0], 0.2), (grid[-1], 0.4), (grid[0], 0.02), (grid[0], 0.9)]
        # noise hides signs: what alternates has maxima of its own
        tried += [(u, 0.8) for u in grid[1:] if len(u) and u[0] * grid[0][0] < 0.0][:1]
        return [np.append(u, logit(share)) for u, share in tried]

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        params = np.asarray(params, dtype=np.float64)
        with np.errstate(divide="ignore"):
            last = np.clip(logit(params[-1]), -_LIMIT, _LIMIT)
        return np.append(self.structure.to_unconstrained(params[:-1]), last)

    @staticmethod
    def share(u: Jet) -> Jet:
        """The nugget by the unconstrained parameters, of which it has the last."""
        return 0.5 * (np.tanh(0.5 * clip(u[-1:], -_LIMIT, _LIMIT)) + 1.0)

    def natural(self, u: FloatArray) -> Jet:
        u = np.asarray(u, dtype=np.float64)
        inner = embed(self.structure.natural(u[:-1]), 0, len(u))
        return concatenate([inner, self.share(variables(u))])

    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        u = np.asarray(u, dtype=np.float64)
        k = len(u) - 1
        inner = self.structure.cell_values(cells, u[:-1])
        left = 1.0 - self.share(variables(u[-1:]))

        def written() -> Jet:
            return embed(inner, 0, k + 1) * embed(left, k, k + 1)

        if u.ndim > 1:
            return written()
        size, slope, bend = left.value[0], left.first[0, 0], left.second[0, 0, 0]

        def along(weights: FloatArray) -> FloatArray:
            out = np.empty((k + 1, k + 1))
            out[:k, :k] = size * inner.along(weights)
            out[k, :k] = out[:k, k] = slope * (inner.first @ weights)
            out[k, k] = bend * (inner.value @ weights)
            return out

        first = np.concatenate([size * inner.first, slope * inner.value[None]])
        return Deferred(size * inner.value, first, along, lambda: written().second)

    def state_space(self, cells: FloatArray, u: FloatArray) -> StateSpace:
        u = np.asarray(u, dtype=np.float64)
        inner = self.structure.state_space(cells, u[:-1]).embedded(0, len(u))
        return inner.with_noise(self.share(variables(u)))

    def correlations(self, cells: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        return (1.0 - params[-1]) * self.structure.correlations(cells, params[:-1])

    @property
    def is_free(self) -> BoolArray:
        return np.append(self.structure.is_free, True)

    @property
    def ends(self) -> FloatArray:
        own = np.array([[-_LIMIT], [_LIMIT]])
        return np.concatenate([self.structure.ends, own], axis=1)

    def at_end(self, params: ArrayLike) -> BoolArray:
        params = np.asarray(params, dtype=np.float64)
        inside = 1e-6 < params[-1] < 1.0 - 1e-6
        inner = self.structure.is_free & self.structure.at_end(params[:-1])
        return np.append(inner, not inside)


@dataclass(frozen=True)
class Stratified(Composite, WrappedStructure):
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
    def parts(self) -> Sequence[Parametric]:
        return (self.structure,) * len(self.strata)

    @property
    def marks(self) -> tuple[Mark, ...]:
        return (*self.structure.marks, Mark("stratum", self.by))

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        count = len(layout.labels[-1] or ())
        if count > MOST_STRATA:
            raise StructureError(
                f"by={self.by!r} has {count} strata, each with parameters of its own; "
                f"more than {MOST_STRATA} are not supported. Use fewer, larger strata"
            )
        inner = self.structure.bind_layout(layout.part(slice(0, -1)))
        return Stratified(inner, self.by, layout.labels[-1] or ("",))

    def start_grid(self) -> Sequence[FloatArray]:
        return [np.tile(u, len(self.strata)) for u in self.structure.start_grid()]

    def cells(self, a: FloatArray, b: FloatArray) -> FloatArray:
        inner = self.structure.cells(a[:, :-1], b[:, :-1])
        # strata do not change inside a series: the first row's tells
        return np.concatenate([a[:, -1:], inner], axis=1)

    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        u = np.asarray(u, dtype=np.float64)
        out = Jet.constant(np.zeros(len(cells)), len(u))
        for stratum, (_, free, _) in enumerate(self.places()):
            here = cells[:, 0] == stratum
            found = self.structure.cell_values(cells[here, 1:], u[free])
            found = embed(found, free.start, len(u))
            out.value[here] = found.value
            out.first[:, here] = found.first
            out.second[:, :, here] = found.second
        return out

    def state_space(self, cells: FloatArray, u: FloatArray) -> StateSpace:
        u = np.asarray(u, dtype=np.float64)
        order, parts = [], []
        for stratum, (_, free, _) in enumerate(self.places()):
            here = np.flatnonzero(cells[:, 0] == stratum)
            found = self.structure.state_space(cells[here, 1:], u[free])
            parts.append(found.embedded(free.start, len(u)))
            order.append(here)
        return joined(parts, np.argsort(np.concatenate(order)))

    def correlations(self, cells: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        out = np.zeros(len(cells))
        for stratum, (_, _, own) in enumerate(self.places()):
            here = cells[:, 0] == stratum
            if here.any():
                out[here] = self.structure.correlations(cells[here, 1:], params[own])
        return out


@dataclass(frozen=True)
class Heteroscedastic(Composite, WrappedStructure):
    """
    Residuals with the correlations of one object and the variances of another.

    Parameters of the correlation come first.

    Parameters
    ----------
    structure : ResidualStructure
    variance : VarianceFunction
    """

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
    def needs_distinct_times(self) -> bool:  # type: ignore[override]
        """Whether two observations of a series may not share their time."""
        return self.structure.needs_distinct_times

    @property
    def parts(self) -> Sequence[Parametric]:
        return self.structure, self.variance

    @property
    def marks(self) -> tuple[Mark, ...]:
        return (*self.structure.marks, *self.variance.marks)

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        here = len(self.structure.marks)
        structure = self.structure.bind_layout(layout.part(slice(here)))
        second = layout.part(slice(here, None))
        variance = self.variance.bind_layout(second)
        if variance.k_free == 0:
            _check_known(variance, second.marks)
        return Heteroscedastic(structure, variance)

    def _split(self, u: ArrayLike) -> tuple[FloatArray, FloatArray]:
        u = np.asarray(u, dtype=np.float64)
        return u[: self.structure.k_free], u[self.structure.k_free :]

    def split_params(self, params: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Parameters of the correlation, and of the variance function."""
        params = np.asarray(params, dtype=np.float64)
        return params[: self.structure.k_params], params[self.structure.k_params :]

    def cells(self, a: FloatArray, b: FloatArray) -> FloatArray:
        here = 1 + len(self.structure.marks)
        return self.structure.cells(a[:, :here], b[:, :here])

    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        ours, _ = self._split(u)
        return embed(self.structure.cell_values(cells, ours), 0, self.k_free)

    def state_space(self, cells: FloatArray, u: FloatArray) -> StateSpace:
        ours, _ = self._split(u)
        return self.structure.state_space(cells, ours).embedded(0, self.k_free)

    def correlations(self, cells: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        return self.structure.correlations(cells, self.split_params(params)[0])

    def log_sd(self, positions: FloatArray, u: FloatArray) -> Jet | None:
        _, theirs = self._split(u)
        marks = positions[:, 1 + len(self.structure.marks) :]
        found = self.variance.log_sd(marks, self.variance.natural(theirs))
        if not isinstance(found, Jet):
            found = Jet.constant(found, 0)
        return embed(found, self.structure.k_free, self.k_free)


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
