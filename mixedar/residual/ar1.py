"""First-order autoregression on integer times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixedar.exceptions import UnsupportedError
from mixedar.residual.markov import MarkovStructure, Step

__all__ = ["AR1"]

FloatArray = NDArray[np.float64]

# tanh(9) = 1 - 3e-8: beyond it the likelihood is flat to rounding.
_LIMIT = 9.0


@dataclass(frozen=True)
class AR1(MarkovStructure):
    """
    AR(1): ``corr(e_s, e_t) = rho^|s - t|`` on integer times.

    Gaps count: observations at times 1 and 3 have the correlation ``rho^2``.

    Parameters
    ----------
    rho : float, optional
        Starting value, between -1 and 1; by default several are tried.
    fixed : bool
        Hold `rho` at its starting value instead of estimating it.

    Raises
    ------
    UnsupportedError
        If `rho` is not between -1 and 1, or is fixed without a value.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, section 5.3.1, equation 5.33.
    """

    rho: float | None = None
    fixed: bool = False

    code: ClassVar[str] = "ar1"
    label: ClassVar[str] = "AR(1)"
    param_names: ClassVar[tuple[str, ...]] = ("rho",)
    integer_time: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.rho is not None and not -1.0 < self.rho < 1.0:
            raise UnsupportedError(
                f"AR1: rho={self.rho!r} is not between -1 and 1; a stationary "
                "AR(1) needs |rho| < 1"
            )
        if self.fixed and self.rho is None:
            raise UnsupportedError("AR1: fixed=True needs a value, as in AR1(0.5, ...)")

    def start_grid(self) -> Sequence[FloatArray]:
        if self.fixed:
            return [np.empty(0)]
        values = (0.4, 0.0, -0.5, 0.75, 0.95)
        if self.rho is not None:
            values = (self.rho, *values)
        return [np.array([np.arctanh(value)]) for value in values]

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        if self.fixed:
            return np.empty(0)
        return np.arctanh(np.atleast_1d(np.asarray(params, dtype=np.float64)))

    def from_unconstrained(self, u: ArrayLike) -> FloatArray:
        if self.fixed:
            return np.array([self.rho], dtype=np.float64)
        return np.tanh(np.clip(np.asarray(u, dtype=np.float64), -_LIMIT, _LIMIT))

    def jacobian(self, u: ArrayLike) -> FloatArray:
        if self.fixed:
            return np.empty((0, 0))
        return np.diag(1.0 - self.from_unconstrained(u) ** 2)

    def at_boundary(self, params: ArrayLike) -> bool:
        return bool(np.abs(np.asarray(params)).max() > 1.0 - 1e-6)

    def correlation_at(self, distance: FloatArray, params: ArrayLike) -> FloatArray:
        rho = float(np.ravel(np.asarray(params))[0])
        return np.power(rho, distance)

    def step(self, gaps: FloatArray, u: FloatArray) -> Step:
        rho = float(self.from_unconstrained(u)[0])
        complement = (1.0 - rho) * (1.0 + rho)
        phi = np.power(rho, gaps)
        if self.fixed:
            empty = np.empty(0)
            return Step(phi, empty, empty, 1.0 - phi * phi)
        first = gaps * np.power(rho, gaps - 1.0)
        # d - 1 = 0 has to win over a negative power of rho = 0
        second = np.where(
            gaps > 1.0, gaps * (gaps - 1.0) * np.power(rho, np.abs(gaps - 2.0)), 0.0
        )
        omega = np.where(gaps == 1.0, complement, 1.0 - phi * phi)
        return Step(
            phi,
            first * complement,
            second * complement**2 - 2.0 * rho * complement * first,
            omega,
        )
