"""
Isotropic structures: correlation falls with distance in time or in space.

The forms are nlme's (Pinheiro and Bates, 2000, table 5.1), with Matern's added
(Cressie, 1993, Statistics for Spatial Data, section 2.3); ``d`` is the distance
and ``range`` its scale.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixedar.exceptions import StructureError, UnsupportedError
from mixedar.jets import Jet, clip
from mixedar.residual.base import DataLayout, Mark, ResidualStructure
from mixedar.residual.formula import FormulaStructure

__all__ = [
    "DistanceStructure",
    "Exponential",
    "Gaussian",
    "Linear",
    "RationalQuadratic",
    "Spherical",
]

FloatArray = NDArray[np.float64]

_LIMIT = 12.0  # of the logarithm of the range over the typical distance


@dataclass(frozen=True)
class DistanceStructure(FormulaStructure):
    """
    Correlation as a function of ``d / range``.

    Parameters
    ----------
    range : float, optional
        Starting value, in units of distance.
    coords : sequence of str
        Columns of coordinates; by default the time is the only one.
    nugget : bool
        Add independent measurement error.
    fixed : bool
        Hold the parameters at their starting values.
    by : str, optional
        Column of strata, each with parameters of its own.
    reference : float
        Typical distance between neighbours, set by :meth:`bind_layout`.

    Raises
    ------
    UnsupportedError
        If `range` is not positive, or is fixed without a value.
    """

    range: float | None = None
    coords: tuple[str, ...] = ()
    nugget: bool = False
    fixed: bool = False
    by: str | None = None
    reference: float = 1.0

    param_names: ClassVar[tuple[str, ...]] = ("range",)
    # how much further than the reference the correlation reaches
    _reach: ClassVar[tuple[float, ...]] = (1.0, 4.0, 0.3)

    def __post_init__(self) -> None:
        coords: Any = self.coords
        coords = (coords,) if isinstance(coords, str) else tuple(coords)
        object.__setattr__(self, "coords", coords)
        name = type(self).__name__
        if self.range is None:
            if self.fixed:
                raise UnsupportedError(
                    f"{name}: fixed=True needs a value, as in {name}(2.0, fixed=True)"
                )
            return
        if isinstance(self.range, bool) or not isinstance(
            self.range, (int, float, np.number)
        ):
            raise UnsupportedError(f"{name}: range={self.range!r} is not a number")
        if not 0.0 < float(self.range) < np.inf:
            raise UnsupportedError(f"{name}: range={self.range!r} is not positive")

    @abstractmethod
    def decay(self, ratio: Any) -> Any:
        """Correlation at ``d / range``, an ndarray or Jet of shape (l,)."""

    @property
    def uses_time(self) -> bool:
        return not self.coords

    @property
    def marks(self) -> tuple[Mark, ...]:
        return tuple(Mark("number", column) for column in self.coords)

    @property
    def held(self) -> FloatArray:
        return np.array([self.range], dtype=np.float64)

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        if not self.coords:
            return self.bind(layout.gaps)
        # neighbours in the order of the rows: any distance of their size will do
        steps = np.sqrt((np.diff(layout.marks, axis=0) ** 2).sum(axis=1))
        steps = steps[steps > 0.0]
        return replace(self, reference=float(np.median(steps)) if len(steps) else 1.0)

    def bind(self, gaps: FloatArray) -> ResidualStructure:
        gaps = gaps[gaps > 0.0]
        return replace(self, reference=float(np.median(gaps)) if len(gaps) else 1.0)

    def start_grid(self) -> Sequence[FloatArray]:
        if self.fixed:
            return [np.empty(0)]
        grid = [np.array([np.log(reach)]) for reach in self._reach]
        if self.range is not None:
            grid.insert(0, self.to_unconstrained(self.held))
        return grid

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        if self.fixed:
            return np.empty(0)
        values = np.atleast_1d(np.asarray(params, dtype=np.float64))
        return np.log(values / self.reference)

    def from_variables(self, u: Jet) -> Jet:
        return self.reference * np.exp(clip(u, -_LIMIT, _LIMIT))

    def at_boundary(self, params: ArrayLike) -> bool:
        ratio = float(np.ravel(np.asarray(params))[0]) / self.reference
        return not abs(np.log(ratio)) < _LIMIT - 1e-3

    def cells(self, a: FloatArray, b: FloatArray) -> FloatArray:
        if not self.coords:
            return np.abs(a[:, :1] - b[:, :1])
        apart = a[:, 1:] - b[:, 1:]
        distance = np.sqrt((apart**2).sum(axis=1))[:, None]
        return distance

    def correlations(self, cells: FloatArray, params: Any) -> Any:
        return self.decay(cells[:, 0] / params[0])


@dataclass(frozen=True)
class Exponential(DistanceStructure):
    """``corr = exp(-d / range)``: CAR(1) when the distance is that of times."""

    code: ClassVar[str] = "exp"
    label: ClassVar[str] = "exponential"

    def decay(self, ratio: Any) -> Any:
        return np.exp(-ratio)


@dataclass(frozen=True)
class Gaussian(DistanceStructure):
    """``corr = exp(-(d / range)^2)``: very smooth."""

    code: ClassVar[str] = "gau"
    label: ClassVar[str] = "Gaussian"
    _reach: ClassVar[tuple[float, ...]] = (0.7, 1.5, 0.3)

    def decay(self, ratio: Any) -> Any:
        return np.exp(-(ratio * ratio))


@dataclass(frozen=True)
class RationalQuadratic(DistanceStructure):
    """``corr = 1 / (1 + (d / range)^2)``."""

    code: ClassVar[str] = "ratio"
    label: ClassVar[str] = "rational quadratic"

    def decay(self, ratio: Any) -> Any:
        return 1.0 / (1.0 + ratio * ratio)


@dataclass(frozen=True)
class Spherical(DistanceStructure):
    """``corr = 1 - 1.5 d / range + 0.5 (d / range)^3`` up to `range`, then 0."""

    code: ClassVar[str] = "sph"
    label: ClassVar[str] = "spherical"
    _reach: ClassVar[tuple[float, ...]] = (3.7, 8.3, 1.6)

    def decay(self, ratio: Any) -> Any:
        near = _below_one(ratio)
        return near * (1.0 - 1.5 * ratio + 0.5 * ratio * ratio * ratio)


@dataclass(frozen=True)
class Linear(DistanceStructure):
    """``corr = 1 - d / range`` up to `range`, then 0; for one coordinate."""

    code: ClassVar[str] = "lin"
    label: ClassVar[str] = "linear"
    _reach: ClassVar[tuple[float, ...]] = (3.7, 8.3, 1.6)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.coords) > 1:
            raise StructureError(
                "Linear is a correlation on a line only; in a plane it need not be "
                "positive definite. Use Spherical for several coordinates"
            )

    def decay(self, ratio: Any) -> Any:
        return _below_one(ratio) * (1.0 - ratio)


def _below_one(ratio: Any) -> FloatArray:
    value = ratio.value if isinstance(ratio, Jet) else ratio
    return np.asarray(value < 1.0, dtype=np.float64)
