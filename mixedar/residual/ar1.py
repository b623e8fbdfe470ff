"""First-order autoregression, on integer times and on any."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from mixedar._lazy import class_with_near_names
from mixedar._types import ArrayOrJet, BoolArray, FloatArray
from mixedar.exceptions import TimeError, check_flags
from mixedar.numeric.autodiff import Jet
from mixedar.residual.base import Link, Startable
from mixedar.residual.markov import MarkovStructure, Step, check_start
from mixedar.residual.states import StateSpace, single_state

# tanh(9) = 1 - 3e-8: beyond it the likelihood is flat to rounding.
_LIMIT = 9.0


@dataclass(frozen=True)
class Autoregression(Startable, MarkovStructure):
    """``corr(e_s, e_t) = rho^|s - t|``."""

    rho: float | None = None
    fixed: bool = False
    nugget: bool = False
    by: str | None = None

    param_names: ClassVar[tuple[str, ...]] = ("rho",)
    _above: ClassVar[float] = -1.0

    def __post_init__(self) -> None:
        check_start(type(self).__name__, self.rho, self.fixed, self._above)
        check_flags(nugget=self.nugget)

    @abstractmethod
    def _natural(self, u: FloatArray) -> Jet:
        """`rho` by the unconstrained parameter."""

    def natural(self, u: FloatArray) -> Jet:
        if self.fixed:
            return super().natural(u)
        return self._natural(np.asarray(u, dtype=np.float64))

    def correlations(self, cells: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        return np.power(float(params[0]), cells[:, 0])


@class_with_near_names
@dataclass(frozen=True)
class AR1(Autoregression):
    """
    AR(1): ``corr(e_s, e_t) = rho^|s - t|`` on integer times.

    Gaps count: observations at times 1 and 3 have the correlation ``rho^2``.

    Parameters
    ----------
    rho : float, optional
        Starting value, between -1 and 1; by default several are tried.
    fixed : bool
        Hold `rho` at its starting value instead of estimating it.
    nugget : bool
        Add independent measurement error: AR(1) plus noise, SAS's ``LOCAL``.
    by : str, optional
        Column of strata, each with a parameter of its own, SAS's ``GROUP=``.
    common_gap : int
        Greatest common divisor of the gaps, set by :meth:`bind`.  The optimiser
        works with the correlation across it, so that monthly data counted in
        days are no harder than in months.  If it is even, ``rho`` and ``-rho``
        are the same model, and the positive one is reported.
    typical_gap : float
        Median gap in units of `common_gap`, set by :meth:`bind`: where starting
        values differ.

    Raises
    ------
    UnsupportedError
        If `rho` is not between -1 and 1, or is fixed without a value.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, section 5.3.1, equation 5.33.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import AR1
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age",
    ...     teeth,
    ...     groups="subject",
    ...     time="occ",
    ...     residual=AR1(by="sex"),
    ... )
    >>> list(model.fit().residual_params.index)
    ['rho[Female]', 'rho[Male]']
    """

    common_gap: int = 1
    typical_gap: float = 1.0

    code: ClassVar[str] = "ar1"
    label: ClassVar[str] = "AR(1)"
    limit: ClassVar[float] = _LIMIT
    link: ClassVar[Link] = "correlation"
    integer_time: ClassVar[bool] = True

    def bind(self, gaps: FloatArray) -> AR1:
        if len(gaps) == 0:
            return self
        distinct = np.unique(gaps)
        if distinct[-1] > 2.0**53:
            raise TimeError(
                f"times {distinct[-1]:.3g} units apart are not exact whole numbers; "
                "count time in a larger unit"
            )
        common = int(np.gcd.reduce(distinct.astype(np.int64)))
        typical = max(float(np.median(gaps)) / common, 1.0)
        return replace(self, common_gap=common, typical_gap=typical)

    @property
    def _power(self) -> int:
        """``s ** power`` is the correlation across the common gap."""
        return 2 if self.common_gap % 2 == 0 else 1

    def _tried(self) -> Sequence[FloatArray]:
        if self._power == 2:
            values = [0.6, 0.85, 0.2, 0.97]
        elif self.typical_gap > 1.0:
            # what matters is the correlation across a typical gap
            positive = [
                value ** (1.0 / self.typical_gap) for value in (0.4, 0.75, 0.95)
            ]
            values = [*positive, 0.4, 0.0, -0.5]
        else:
            values = [0.4, -0.4, 0.75, 0.95]
        if self._power == 2 and self.typical_gap > 1.0:
            values = [value ** (1.0 / self.typical_gap) for value in values]
        return [np.array([np.arctanh(value)]) for value in values]

    def _inverse(self, params: FloatArray) -> FloatArray:
        root = np.sign(params) * np.abs(params) ** (self.common_gap / self._power)
        return np.arctanh(np.abs(root) if self._power == 2 else root)

    def from_unconstrained(self, u: ArrayLike) -> FloatArray:
        if self.fixed:
            return self.held
        return self._value(np.tanh(np.clip(np.asarray(u), -_LIMIT, _LIMIT)))

    def _value(self, s: FloatArray) -> FloatArray:
        sign = np.sign(s)
        if self._power == 2:
            sign = np.abs(sign)
        return np.asarray(sign * np.abs(s) ** (self._power / self.common_gap))

    def _natural(self, u: FloatArray) -> Jet:
        s = np.tanh(np.clip(u, -_LIMIT, _LIMIT))
        rest = (1.0 - s) * (1.0 + s)
        size, sign = np.abs(s), np.sign(s)
        even = self._power == 2
        root = self._power / self.common_gap
        value = self._value(s)
        with np.errstate(divide="ignore"):  # vertical at rho = 0 unless root is one
            slope = (sign if even else 1.0) * root * size ** (root - 1.0) * rest
            if root == 1.0:
                return Jet(value, [slope], [[-2.0 * s * slope]])
            bend = root * (root - 1.0) * size ** (root - 2.0) * rest**2
            bend -= 2.0 * root * size**root * rest
        return Jet(value, [slope], [[bend if even else sign * bend]])

    def at_end(self, params: ArrayLike) -> BoolArray:
        size = np.abs(np.ravel(np.asarray(params, dtype=np.float64)))
        across = size**self.common_gap
        none = self._power == 2 and not self.fixed
        return (across > 1.0 - 1e-6) | (none & (across < 1e-6))

    def state_space(self, cells: FloatArray, u: FloatArray) -> StateSpace:
        if not self._between(cells):
            return super().state_space(cells, u)
        phi = self.cell_values(cells, u)
        return single_state(phi, (1.0 - phi) * (1.0 + phi))

    def _between(self, cells: FloatArray) -> bool:
        """Whether gaps are no multiples of the common one of the data."""
        return not self.fixed and bool((np.rint(cells[:, 0]) % self.common_gap).any())

    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        gaps = np.rint(cells[:, 0])
        if not self._between(cells):
            return super().cell_values(cells, u)
        # between the times of the data, where new rows may be
        rho = self.natural(u)[0]
        sign = float(np.sign(rho.value)) or 1.0
        out: Jet = np.exp(np.log(rho * sign) * gaps) * sign**gaps
        return out

    def step(self, gaps: FloatArray, u: FloatArray) -> Step:
        if self.fixed:
            assert self.rho is not None
            phi = np.power(self.rho, gaps)
            empty = np.empty(0)
            return Step(phi, empty, empty, (1.0 - phi) * (1.0 + phi))
        return self._step_at(math.tanh(min(max(float(u[0]), -_LIMIT), _LIMIT)), gaps)

    def steps(self, gaps: FloatArray, u: FloatArray) -> Step:
        if self.fixed:
            return super().steps(gaps, u)
        return self._step_at(np.tanh(np.clip(u, -_LIMIT, _LIMIT)), gaps)

    def _step_at(self, s: float | FloatArray, gaps: FloatArray) -> Step:
        """By the correlation across the common gap: one, or some in a column."""
        slope = (1.0 - s) * (1.0 + s)
        k = np.rint(gaps * (self._power / self.common_gap))  # whole numbers
        phi = np.power(s, k)
        first = k * np.power(s, k - 1.0)
        # the factor k - 1 = 0 has to win over a negative power of zero
        second = (k * (k - 1.0)) * np.power(s, np.abs(k - 2.0))
        return Step(
            phi,
            first * slope,
            (second * slope - 2.0 * s * first) * slope,
            (1.0 - phi) * (1.0 + phi),
        )


_CAR1_LIMIT = 18.0  # expit(18) = 1 - 1.5e-8


@class_with_near_names
@dataclass(frozen=True)
class CAR1(Autoregression):
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

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import CAR1
    >>> from mixedar.datasets import load_bodyweight
    >>> model = mar.mixedlm(
    ...     "weight ~ time * C(diet)",
    ...     load_bodyweight(),
    ...     groups="rat",
    ...     re_formula="~time",
    ...     time="time",
    ...     residual=CAR1(nugget=True),
    ... )
    >>> fit = model.fit()
    >>> fit.residual_params.index.tolist()
    ['rho', 'nugget']
    """

    reference_gap: float = 1.0
    smallest_gap: float = 1.0

    code: ClassVar[str] = "car1"
    label: ClassVar[str] = "CAR(1)"
    link: ClassVar[Link] = "share"
    _above: ClassVar[float] = 0.0

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
        return -_CAR1_LIMIT * max(self.reference_gap / self.smallest_gap, 1.0)

    @property
    def ends(self) -> FloatArray:
        return np.array([[self._lowest], [_CAR1_LIMIT]])[:, : self.k_free]

    def _tried(self) -> Sequence[FloatArray]:
        return [np.array([logit(value)]) for value in (0.4, 0.05, 0.75, 0.95)]

    def _inverse(self, params: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):  # rho underflows in tiny units of time
            log_rho = np.log(params)
        scaled = np.maximum(self.reference_gap * log_rho, self._lowest)
        return scaled - np.log(-np.expm1(scaled))

    def _natural(self, u: FloatArray) -> Jet:
        rho = np.exp(self._log_reference(u) / self.reference_gap)
        rest, share = expit(-u), expit(u)
        slope = rest / self.reference_gap
        # in this order rho = 0 wins over the overflow in tiny units of time
        bend = rho * slope * slope - rho * slope * share
        return Jet(rho, [rho * slope], [[bend]])

    def at_end(self, params: ArrayLike) -> BoolArray:
        with np.errstate(divide="ignore"):  # rho underflows in tiny units of time
            log_rho = np.log(np.ravel(np.asarray(params))) * self.reference_gap
        none = np.log(1e-6) * self.reference_gap / self.smallest_gap
        return ~((log_rho > max(none, self._lowest + 0.5)) & (log_rho < -1e-6))

    def step(self, gaps: FloatArray, u: FloatArray) -> Step:
        if self.fixed:
            assert self.rho is not None
            exponent = gaps * np.log(self.rho)
            empty = np.empty(0)
            return Step(np.exp(exponent), empty, empty, -np.expm1(2.0 * exponent))
        return self._step_at(float(u[0]), gaps)

    def steps(self, gaps: FloatArray, u: FloatArray) -> Step:
        return super().steps(gaps, u) if self.fixed else self._step_at(u, gaps)

    def _step_at(self, u: float | FloatArray, gaps: FloatArray) -> Step:
        """By the unconstrained parameter: one, or some in a column."""
        log_reference = self._log_reference(u)
        reference = np.exp(log_reference)
        rest = -np.expm1(log_reference)
        distance = gaps / self.reference_gap
        exponent = distance * log_reference
        phi = np.exp(exponent)
        d1 = distance * phi * rest
        d2 = d1 * (distance * rest - reference)
        inside = (self._lowest <= u) & (u <= _CAR1_LIMIT)
        return Step(phi, d1 * inside, d2 * inside, -np.expm1(2.0 * exponent))

    def _log_reference(self, u: ArrayLike) -> FloatArray:
        """Log-correlation at the reference gap."""
        clipped = np.clip(np.asarray(u, dtype=np.float64), self._lowest, _CAR1_LIMIT)
        return -np.logaddexp(0.0, -clipped)
