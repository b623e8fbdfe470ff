"""
First-order Markov structures: correlation depends on neighbours alone.

If neighbours at distance ``d`` have the correlation ``phi(d)``, the inverse
of ``R`` is tridiagonal.  With ``a = x_t - x_{t-1}``,

    x' R^-1 x = sum_t x_t^2 + sum_{t>1} alpha(d_t) a_t^2
                            + 2 sum_{t>1} beta(d_t) x_t x_{t-1},

where ``alpha = phi^2 / (1 - phi^2)`` and ``beta = -phi / (1 + phi)``; writing
it with differences keeps the digits when ``phi`` is close to one.  The
log-determinant is ``sum log(1 - phi(d_t)^2)``.  Nothing of size n x n is
needed, at any spacing (Pinheiro and Bates, 2000, section 5.3).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from mixedar._lazy import class_with_near_names
from mixedar._types import FloatArray
from mixedar.exceptions import UnsupportedError, check_flags
from mixedar.numeric.autodiff import Jet
from mixedar.numeric.linalg import distinct
from mixedar.residual.base import (
    ResidualStructure,
    WithoutParameters,
    check_number,
)
from mixedar.residual.states import StateSpace, single_state

# Rows that are whitened while they are in cache.
_ROWS = 2**16


class Step(NamedTuple):
    """
    Correlation across a gap and its derivatives by the unconstrained parameter.

    Attributes
    ----------
    phi, d1, d2 : ndarray, shape (k,)
        Value, first and second derivative.
    complement : ndarray, shape (k,)
        ``1 - phi^2``, computed without cancellation.
    """

    phi: FloatArray
    d1: FloatArray
    d2: FloatArray
    complement: FloatArray


@dataclass(frozen=True)
class PrecisionCoefficients:
    """
    Weights of squared differences and of products of neighbours.

    Attributes
    ----------
    alpha, beta, logdet : ndarray, shape (orders, k)
        Row 0 holds the values; rows 1 and 2, when there, the first and second
        derivatives by the unconstrained parameter.
    """

    alpha: FloatArray
    beta: FloatArray
    logdet: FloatArray


def check_start(name: str, rho: object, fixed: bool, lower: float) -> None:
    """
    Check the starting value of an autoregressive parameter.

    Parameters
    ----------
    name : str
        The structure's class, for messages.
    rho : float or None
        The value.
    fixed : bool
        Whether it is held.
    lower : float
        End of the open interval below; 1 is the one above.

    Raises
    ------
    UnsupportedError
        If `rho` is no number in the interval, or is held and missing.
    """
    check_flags(fixed=fixed)
    if rho is None:
        if fixed:
            raise UnsupportedError(
                f"{name}: fixed=True needs a value, as in {name}(0.5, fixed=True)"
            )
        return
    if not lower < check_number(name, "rho", rho) < 1.0:
        hint = "" if lower < 0.0 else "; for negative correlation use AR1"
        raise UnsupportedError(
            f"{name}: rho={rho!r} is not between {lower:g} and 1{hint}"
        )


class MarkovStructure(ResidualStructure):
    """Structures with ``corr(e_s, e_t) = prod phi(d)`` over the steps between."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super(ResidualStructure, cls).__init_subclass__(**kwargs)  # its step tells all

    @abstractmethod
    def step(self, gaps: FloatArray, u: FloatArray) -> Step:
        """Correlation across gaps, with derivatives by the unconstrained parameter."""

    def steps(self, gaps: FloatArray, u: FloatArray) -> Step:
        """The same at many parameters, shape (m, k_free); arrays (m, k)."""
        parts = zip(*(self.step(gaps, one) for one in u), strict=True)
        return Step(*(np.array(part) for part in parts))

    @property
    def n_states(self) -> int:
        return 1

    def state_space(self, cells: FloatArray, u: FloatArray) -> StateSpace:
        phi = self.cell_values(cells, u)
        rest = (1.0 - phi) * (1.0 + phi)
        # the step knows it without cancellation
        value = self.step(cells[:, 0], u).complement
        return single_state(phi, Jet(value, rest.first, rest.second))

    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        phi, d1, d2, _ = self.step(cells[:, 0], u)
        if self.k_free == 0:
            return Jet.constant(phi, 0)
        return Jet(phi, d1[None], d2[None, None])

    def precisions(self, gaps: FloatArray, u: FloatArray) -> PrecisionCoefficients:
        """
        The values of :meth:`precision_coefficients` at many parameters.

        Parameters
        ----------
        gaps : ndarray, shape (k,)
        u : ndarray, shape (m, k_free)

        Returns
        -------
        PrecisionCoefficients
            Of shape (m, k): a row for each point.
        """
        phi, _, _, omega = self.steps(gaps, u)
        return PrecisionCoefficients(
            phi * phi / omega, -phi / (1.0 + phi), np.log(omega)
        )

    def precision_coefficients(
        self, gaps: FloatArray, u: FloatArray, *, derivatives: bool
    ) -> PrecisionCoefficients:
        """
        Coefficients of the tridiagonal inverse for a set of gaps.

        Parameters
        ----------
        gaps : ndarray, shape (k,)
            Positive distances between neighbours.
        u : ndarray, shape (k_free,)
            Unconstrained parameters.
        derivatives : bool
            Whether first and second derivatives are wanted.
        """
        phi, d1, d2, omega = self.step(gaps, u)
        plus = 1.0 + phi
        square = phi * phi
        orders = 3 if derivatives and self.k_free else 1
        alpha, beta, logdet = np.empty((3, orders, len(gaps)))
        np.divide(square, omega, out=alpha[0])
        np.divide(-phi, plus, out=beta[0])
        np.log(omega, out=logdet[0])
        if orders == 3:
            d1_squared = d1 * d1
            slope = 2.0 * phi / (omega * omega)
            alpha[1] = slope * d1
            alpha[2] = (2.0 + 6.0 * square) / omega**3 * d1_squared + slope * d2
            slope = -1.0 / (plus * plus)
            beta[1] = slope * d1
            beta[2] = 2.0 / plus**3 * d1_squared + slope * d2
            slope = -2.0 * phi / omega
            logdet[1] = slope * d1
            logdet[2] = -2.0 * (1.0 + square) / omega**2 * d1_squared + slope * d2
        return PrecisionCoefficients(alpha, beta, logdet)

    def whitened(self, x: FloatArray, gaps: FloatArray, u: FloatArray) -> FloatArray:
        """
        Multiply the rows of series by the inverse Cholesky factor of their R.

        Parameters
        ----------
        x : ndarray, shape (n,) or (n, k)
        gaps : ndarray, shape (n,)
            Distances to the row before; zero where a series begins.
        u : ndarray, shape (k_free,)

        Returns
        -------
        ndarray, of the shape of `x`
        """
        columns = x.reshape(len(x), -1).T
        out = np.empty(columns.shape)
        out[:, :1] = columns[:, :1]
        for first in range(1, len(x), _ROWS):
            rows, before = (slice(k, k + _ROWS) for k in (first, first - 1))
            inside = gaps[rows] != 0.0
            values, which = distinct(gaps[rows][inside])
            step = self.step(values, u)
            phi, sd = np.zeros(len(inside)), np.ones(len(inside))
            phi[inside], sd[inside] = step.phi[which], np.sqrt(step.complement)[which]
            past = columns[:, before][:, : len(phi)]
            out[:, rows] = (columns[:, rows] - phi * past) / sd
        return out.T.reshape(x.shape)


@class_with_near_names
@dataclass(frozen=True)
class Independent(WithoutParameters, ResidualStructure):
    """
    Uncorrelated residuals, ``R = I``; times are not used.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import Independent
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age",
    ...     teeth,
    ...     groups="subject",
    ...     time="occ",
    ...     residual=Independent(),
    ... )
    >>> len(model.fit().residual_params)
    0
    """

    code: ClassVar[str] = "independent"
    label: ClassVar[str] = "independent"
    needs_distinct_times: ClassVar[bool] = False

    @property
    def uses_time(self) -> bool:
        return False

    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        return Jet.constant(np.zeros(len(cells)), 0)
