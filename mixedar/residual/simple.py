"""Compound symmetry: every two residuals of a series share one correlation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from mixedar._types import FloatArray
from mixedar.exceptions import UnsupportedError
from mixedar.numeric.autodiff import Jet, clip
from mixedar.residual.base import DataLayout, ResidualStructure
from mixedar.residual.formula import FormulaStructure
from mixedar.residual.markov import check_start

_LIMIT = 9.0


@dataclass(frozen=True)
class CompoundSymmetry(FormulaStructure):
    """
    Compound symmetry: ``corr(e_s, e_t) = rho`` for all pairs.

    Where `rho` is positive it is the model with a random intercept; negative
    values down to ``-1 / (n - 1)``, `n` the rows of the longest series, are
    possible as well.  Times are not used.

    Parameters
    ----------
    rho : float, optional
        Starting value.
    fixed : bool
        Hold `rho` at its starting value instead of estimating it.
    by : str, optional
        Column of strata, each with a parameter of its own.
    longest : int
        Rows of the longest series, set by :meth:`bind_layout`.

    Raises
    ------
    UnsupportedError
        If `rho` is not between its limits, or is fixed without a value.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, section 5.3.1, equation 5.27.
    """

    rho: float | None = None
    fixed: bool = False
    by: str | None = None
    longest: int = 2

    code: ClassVar[str] = "cs"
    label: ClassVar[str] = "compound symmetry"
    param_names: ClassVar[tuple[str, ...]] = ("rho",)
    needs_distinct_times: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_start("CompoundSymmetry", self.rho, self.fixed, -1.0)

    @property
    def uses_time(self) -> bool:
        return False

    @property
    def held(self) -> FloatArray:
        return np.array([self.rho], dtype=np.float64)

    @property
    def _lowest(self) -> float:
        return -1.0 / (max(self.longest, 2) - 1)

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        bound = replace(self, longest=max(layout.longest, 2))
        if self.rho is not None and not self.rho > bound._lowest:
            raise UnsupportedError(
                f"CompoundSymmetry: rho={self.rho!r} is not possible for series of "
                f"{layout.longest} rows; it has to exceed {bound._lowest:.4g}"
            )
        return bound

    def start_grid(self) -> Sequence[FloatArray]:
        if self.fixed:
            return [np.empty(0)]
        grid = [self.to_unconstrained([r]) for r in (0.3, 0.8, 0.3 * self._lowest)]
        if self.rho is not None:
            grid.insert(0, self.to_unconstrained([self.rho]))
        return grid

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        if self.fixed:
            return np.empty(0)
        rho = np.atleast_1d(np.asarray(params, dtype=np.float64))
        low = self._lowest
        return 0.5 * np.log((rho - low) / (1.0 - rho))

    def from_variables(self, u: Jet) -> Jet:
        low = self._lowest
        share = 0.5 * (np.tanh(clip(u, -_LIMIT, _LIMIT)) + 1.0)
        return share * (1.0 - low) + low

    def at_boundary(self, params: ArrayLike) -> bool:
        rho, low = float(np.ravel(np.asarray(params))[0]), self._lowest
        return not 1e-6 < (rho - low) / (1.0 - low) < 1.0 - 1e-6

    def correlations(self, cells: FloatArray, params: Any) -> Any:
        return params[0] + np.zeros(len(cells))

    def cells(self, a: FloatArray, b: FloatArray) -> FloatArray:
        return np.zeros((len(a), 0))


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
