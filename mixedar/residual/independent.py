"""Independent residuals: the model that statsmodels' MixedLM fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixedar.jets import Jet
from mixedar.residual.base import ResidualStructure

__all__ = ["Independent"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Independent(ResidualStructure):
    """Uncorrelated residuals, ``R = I``; times are not used."""

    code: ClassVar[str] = "independent"
    label: ClassVar[str] = "independent"
    param_names: ClassVar[tuple[str, ...]] = ()
    needs_distinct_times: ClassVar[bool] = False

    @property
    def uses_time(self) -> bool:
        return False

    def start_grid(self) -> Sequence[FloatArray]:
        return [np.empty(0)]

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        return np.empty(0)

    def from_unconstrained(self, u: ArrayLike) -> FloatArray:
        return np.empty(0)

    def jacobian(self, u: ArrayLike) -> FloatArray:
        return np.empty((0, 0))

    def natural(self, u: FloatArray) -> Jet:
        return Jet.constant(np.empty(0), 0)

    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        return Jet.constant(np.zeros(len(cells)), 0)

    def at_boundary(self, params: ArrayLike) -> bool:
        return False

    def whiten(self, x: FloatArray, time: FloatArray, params: ArrayLike) -> FloatArray:
        return np.array(x, dtype=np.float64)

    def logdet(self, time: FloatArray, params: ArrayLike) -> float:
        return 0.0

    def cross_correlation(
        self, time: FloatArray, new_time: FloatArray, params: ArrayLike
    ) -> FloatArray:
        # one observation is correlated with itself alone, not with another
        # that happens to share its time
        return np.zeros((len(time), len(new_time)))

    def correlation(self, time: FloatArray, params: ArrayLike) -> FloatArray:
        return np.eye(len(time))
