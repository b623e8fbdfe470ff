"""First-order autoregression in continuous time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from mixedar.jets import Jet
from mixedar.residual.base import Link
from mixedar.residual.markov import MarkovStructure, Step, check_start

__all__ = ["CAR1"]

FloatArray = NDArray[np.float64]

_LIMIT = 18.0  # expit(18) = 1 - 1.5e-8


@dataclass(frozen=True)
class CAR1(MarkovStructure):
    """
    CAR(1): ``corr(e_s, e_t) = rho^|s - t|`` on real-valued times, 0 < rho < 1.

    `rho` is the correlation at the distance of one unit of time.  On integer
    times it is AR(1) with a positive parameter.

    Parameters
    ----------
    rho : float, optional
        Starting value, between 0 and 1; by default several are tried.
    fixed : bool
        Hold `rho` at its starting value instead of estimating it.
    nugget : bool
        Add independent measurement error.
    by : str, optional
        Column of strata, each with a parameter of its own.
    reference_gap : float
        Distance at which the optimiser parametrises the correlation, so that
        the unit of time changes nothing; set by :meth:`bind`.
    smallest_gap : float
        Smallest gap, set by :meth:`bind`: how far the search may go.

    Raises
    ------
    UnsupportedError
        If `rho` is not between 0 and 1, or is fixed without a value.

    References
    ----------
    Jones, R. H. and Boadi-Boateng, F. (1991), Unequally spaced longitudinal
    data with AR(1) serial correlation, Biometrics 47, 161-175.
    """

    rho: float | None = None
    fixed: bool = False
    nugget: bool = False
    by: str | None = None
    reference_gap: float = 1.0
    smallest_gap: float = 1.0

    code: ClassVar[str] = "car1"
    label: ClassVar[str] = "CAR(1)"
    param_names: ClassVar[tuple[str, ...]] = ("rho",)

    def __post_init__(self) -> None:
        check_start("CAR1", self.rho, self.fixed, 0.0)

    @property
    def links(self) -> tuple[Link, ...]:
        return ("share",)

    def bind(self, gaps: FloatArray) -> CAR1:
        if len(gaps) == 0:
            return self
        return replace(
            self,
            reference_gap=float(np.median(gaps)),
            smallest_gap=float(np.min(gaps)),
        )

    @property
    def _lowest(self) -> float:
        """Coordinate below which nothing changes, not even across small gaps."""
        return -_LIMIT * max(self.reference_gap / self.smallest_gap, 1.0)

    def start_grid(self) -> Sequence[FloatArray]:
        if self.fixed:
            return [np.empty(0)]
        grid = [np.array([logit(value)]) for value in (0.4, 0.05, 0.75, 0.95)]
        if self.rho is not None:
            grid.insert(0, self.to_unconstrained([self.rho]))
        return grid

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        if self.fixed:
            return np.empty(0)
        with np.errstate(divide="ignore"):  # rho underflows in tiny units of time
            log_rho = np.log(np.atleast_1d(np.asarray(params, dtype=np.float64)))
        scaled = np.maximum(self.reference_gap * log_rho, self._lowest)
        return scaled - np.log(-np.expm1(scaled))

    def from_unconstrained(self, u: ArrayLike) -> FloatArray:
        if self.fixed:
            return np.array([self.rho], dtype=np.float64)
        return np.exp(self._log_reference(u) / self.reference_gap)

    def jacobian(self, u: ArrayLike) -> FloatArray:
        if self.fixed:
            return np.empty((0, 0))
        rho = self.from_unconstrained(u)
        return np.diag(rho * expit(-np.asarray(u)) / self.reference_gap)

    def natural(self, u: FloatArray) -> Jet:
        if self.fixed:
            return Jet.constant([self.rho], 0)
        rho = self.from_unconstrained(u)
        rest, share = expit(-u), expit(u)
        slope = rest / self.reference_gap
        # in this order rho = 0 wins over the overflow in tiny units of time
        bend = rho * slope * slope - rho * slope * share
        return Jet(rho, [rho * slope], [[bend]])

    def at_boundary(self, params: ArrayLike) -> bool:
        with np.errstate(divide="ignore"):  # rho underflows in tiny units of time
            log_rho = float(np.log(np.ravel(np.asarray(params))[0]))
        log_rho *= self.reference_gap
        none = np.log(1e-6) * self.reference_gap / self.smallest_gap
        return not max(none, self._lowest + 0.5) < log_rho < -1e-6

    def correlation_at(self, distance: FloatArray, params: ArrayLike) -> FloatArray:
        rho = float(np.ravel(np.asarray(params))[0])
        return np.power(rho, distance)

    def step(self, gaps: FloatArray, u: FloatArray) -> Step:
        if self.fixed:
            assert self.rho is not None
            exponent = gaps * np.log(self.rho)
            empty = np.empty(0)
            return Step(np.exp(exponent), empty, empty, -np.expm1(2.0 * exponent))
        log_reference = float(self._log_reference(u)[0])
        reference = np.exp(log_reference)
        rest = -np.expm1(log_reference)
        distance = gaps / self.reference_gap
        exponent = distance * log_reference
        phi = np.exp(exponent)
        d1 = distance * phi * rest
        d2 = d1 * (distance * rest - reference)
        if not self._lowest <= float(u[0]) <= _LIMIT:
            d1, d2 = np.zeros_like(d1), np.zeros_like(d2)
        return Step(phi, d1, d2, -np.expm1(2.0 * exponent))

    def _log_reference(self, u: ArrayLike) -> FloatArray:
        """Log-correlation at the reference gap."""
        clipped = np.clip(np.asarray(u, dtype=np.float64), self._lowest, _LIMIT)
        return -np.logaddexp(0.0, -clipped)
