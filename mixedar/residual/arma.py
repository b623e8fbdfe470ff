"""Autoregressive moving averages of any order on integer times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from mixedar._lazy import class_with_near_names
from mixedar._types import ArrayOrJet, BoolArray, FloatArray
from mixedar.exceptions import UnsupportedError, check_flags
from mixedar.numeric.autodiff import Jet, clip, concatenate, stack, variables
from mixedar.numeric.matrices import matmul, solve
from mixedar.residual.base import FormulaStructure, Startable, is_whole
from mixedar.residual.states import (
    Innovations,
    StateSpace,
    forecast_correlations,
    forecast_states,
)

_LIMIT = 7.0  # tanh(7) = 1 - 1.7e-6
# Up to this lag autocorrelations follow one by one.
_FAR = 100


@class_with_near_names
@dataclass(frozen=True)
class ARMA(Startable, FormulaStructure):
    """
    ARMA(p, q): ``e_t = sum phi_i e_{t-i} + a_t + sum theta_j a_{t-j}``.

    Gaps count: the correlation of two observations is the process's
    autocorrelation at the difference of their times.  Stationarity and
    invertibility hold throughout: the search moves partial autocorrelations.

    Parameters
    ----------
    p, q : int
        Orders, not both zero; one where they are left out (zero in nlme's ``corARMA``):
        a moving average alone is ``ARMA(0, 1)``.
    phi, theta : sequence of float, optional
        Starting values, of a stationary and invertible process.
    fixed : bool
        Hold the parameters at their starting values.
    by : str, optional
        Column of strata, each with parameters of its own.

    Raises
    ------
    UnsupportedError
        If the orders are not whole numbers, or the starting values not of a
        stationary and invertible process.

    References
    ----------
    Barndorff-Nielsen, O. and Schou, G. (1973), On the parametrization of
    autoregressive models by partial autocorrelations, Journal of Multivariate
    Analysis 3, 408-419.

    Brockwell, P. J. and Davis, R. A. (1991), Time Series: Theory and Methods,
    2nd edition, Springer, section 3.3.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import ARMA
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age",
    ...     teeth,
    ...     groups="subject",
    ...     re_formula="0",
    ...     time="occ",
    ...     residual=ARMA(1, 1),
    ... )
    >>> list(model.fit().residual_params.index)
    ['phi1', 'theta1']
    """

    p: int = 1
    q: int = 1
    phi: tuple[float, ...] | None = None
    theta: tuple[float, ...] | None = None
    fixed: bool = False
    by: str | None = None

    code: ClassVar[str] = "arma"
    integer_time: ClassVar[bool] = True
    limit: ClassVar[float] = _LIMIT

    def __post_init__(self) -> None:
        check_flags(fixed=self.fixed)
        for name, order in (("p", self.p), ("q", self.q)):
            if not is_whole(order) or order < 0:
                raise UnsupportedError(
                    f"ARMA: {name}={order!r} is not a whole number of 0 or more"
                )
        if self.p + self.q == 0:
            raise UnsupportedError("ARMA(0, 0) is residual='independent'")
        for name, values, order, roots in (
            ("phi", self.phi, self.p, "stationary"),
            ("theta", self.theta, self.q, "invertible"),
        ):
            if values is None:
                if self.fixed and order:
                    raise UnsupportedError(f"ARMA: fixed=True needs {name}=")
                continue
            try:
                numbers = np.ravel(np.asarray(values, dtype=np.float64))
            except (TypeError, ValueError):
                raise UnsupportedError(
                    f"ARMA: {name}={values!r} are not numbers"
                ) from None
            object.__setattr__(self, name, tuple(float(v) for v in numbers))
            if len(numbers) != order:
                raise UnsupportedError(
                    f"ARMA: {name} has {len(numbers)} values for order {order}"
                )
            sign = 1.0 if name == "phi" else -1.0
            with np.errstate(divide="ignore", invalid="ignore"):
                partial = _to_partial(sign * numbers)
            if not (np.abs(partial) < 1.0).all():
                raise UnsupportedError(f"ARMA: {name}={values!r} is not {roots}")

    @property
    def label(self) -> str:  # type: ignore[override]
        """Name in summaries."""
        return f"ARMA({self.p}, {self.q})"

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the parameters."""
        names = [f"phi{i + 1}" for i in range(self.p)]
        return (*names, *(f"theta{j + 1}" for j in range(self.q)))

    @property
    def given(self) -> FloatArray | None:
        if self.phi is None and self.theta is None:
            return None
        phi, theta = self.phi or (0.0,) * self.p, self.theta or (0.0,) * self.q
        return np.array([*phi, *theta], dtype=np.float64)

    def _tried(self) -> Sequence[FloatArray]:
        p, k = self.p, self.k_params
        grid: list[FloatArray] = []
        for ar, ma in ((0.4, 0.0), (0.8, -0.4), (-0.3, 0.0), (0.0, 0.4), (0.0, -0.4)):
            partial = np.zeros(k)
            if p:
                partial[0] = ar
            if self.q:
                partial[p] = ma if p else ma + ar
            if p and self.q:
                # with all higher orders zero, factors of both sides cancel
                partial[1:p] = 0.15
                partial[p + 1 :] = -0.1
            u = np.arctanh(partial)
            if not any((u == other).all() for other in grid):
                grid.append(u)
        return grid

    def _inverse(self, params: FloatArray) -> FloatArray:
        phi, theta = params[: self.p], params[self.p :]
        return np.arctanh(np.concatenate([_to_partial(phi), -_to_partial(-theta)]))

    def from_variables(self, u: Jet) -> Jet:
        partial = np.tanh(clip(u, -_LIMIT, _LIMIT))
        k = partial.k
        phi = _from_partial([partial[i] for i in range(self.p)])
        theta = _from_partial([-partial[self.p + j] for j in range(self.q)])
        return stack([*phi, *(-value for value in theta)], k)

    def at_end(self, params: ArrayLike) -> BoolArray:
        values = np.ravel(np.asarray(params, dtype=np.float64))
        with np.errstate(divide="ignore", invalid="ignore"):
            partial = np.concatenate(
                [_to_partial(values[: self.p]), _to_partial(-values[self.p :])]
            )
        return ~(np.abs(partial) < 1.0 - 5e-6)

    def correlations(self, cells: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        if not isinstance(params, Jet):
            return self._by_lag(cells[:, 0], Jet.constant(params, 0)).value
        return self._by_lag(cells[:, 0], params)

    def _by_lag(self, lags: FloatArray, params: Jet) -> Jet:
        """Autocorrelations at lags, with derivatives."""
        lags = np.rint(lags)
        most = lags.max(initial=0.0)
        if most <= _FAR:
            some = _autocorrelations(params, self.p, self.q, int(most))
            return some[lags.astype(np.intp)]
        some = _autocorrelations(params, self.p, self.q, self.n_states - 1)
        distinct, place = np.unique(lags, return_inverse=True)
        phi = [params[i] for i in range(self.p)]
        return forecast_correlations(phi, some, distinct)[place]

    @property
    def n_states(self) -> int:
        return max(self.p, self.q + 1)

    def state_space(self, cells: FloatArray, u: FloatArray) -> StateSpace:
        params, d = self.natural(u), self.n_states
        gamma, psi = _autocovariances(params, self.p, self.q, d - 1)
        impulse = stack(psi, params.k) / np.sqrt(gamma[0])
        phi = [params[i] for i in range(self.p)]
        return forecast_states(phi, gamma / gamma[0], impulse, cells[:, 0])

    def innovations(self, u: FloatArray) -> Innovations:
        p, d = self.p, max(self.p, self.q)
        free = variables(np.asarray(u, dtype=np.float64))
        at = free if self.k_free else Jet.constant(self._inverse(self.held), 0)
        params = self.from_variables(at)
        one = Jet.constant(np.ones(1), at.k)
        ahead = Jet.constant(np.zeros(2 * d), at.k)
        left = concatenate([one, -params[:p], ahead])
        right = concatenate([one, params[p:], ahead])
        # z = e / phi(B) of the rows before move row i by sum_l c_il z_{-l}; what is
        # beyond the last coefficient, or before the first, is zero
        lag = np.arange(d)
        after, before = 1 + lag[:, None] + lag, lag - lag[:, None]
        moved = matmul(right[after], left[before]) - matmul(left[after], right[before])
        return Innovations(params[:p], params[p:], matmul(moved, _root(at[:p], d)))


def _root(u: Jet, d: int) -> Jet:
    """
    Cholesky factor of `d` covariances of an autoregression (Levinson).

    By Fisher's z of its partial autocorrelations; its innovations have variance one.
    """
    u = clip(u, -_LIMIT, _LIMIT)
    partial, growth = np.tanh(u), (np.exp(u) + np.exp(-u)) / 2.0
    k, p = u.k, len(u)
    phi: list[Jet] = []
    rows: list[Jet] = []
    for m in range(d):
        if 0 < m <= p:
            phi = _with_lag(phi, partial[m - 1])
        left = Jet.constant(np.arange(d) == m, k)
        for i in range(m, p):
            left = left * growth[i]
        known = zip(phi, rows[::-1], strict=False)
        rows.append(sum((a * row for a, row in known), start=left))
    return stack(rows, k)


def _to_partial(phi: FloatArray) -> FloatArray:
    """Partial autocorrelations of an autoregression (Levinson, backwards)."""
    phi = np.array(phi, dtype=np.float64)
    partial = np.empty(len(phi))
    for k in range(len(phi) - 1, -1, -1):
        last = partial[k] = phi[k]
        phi = (phi[:k] + last * phi[:k][::-1]) / (1.0 - last**2)
    return partial


def _from_partial(partial: list[Jet]) -> list[Jet]:
    """Coefficients of the autoregression with given partial autocorrelations."""
    phi: list[Jet] = []
    for last in partial:
        phi = _with_lag(phi, last)
    return phi


def _with_lag(phi: list[Jet], last: Jet) -> list[Jet]:
    """Coefficients with one lag more, of a given partial autocorrelation (Levinson)."""
    return [a - last * b for a, b in zip(phi, phi[::-1], strict=True)] + [last]


def _autocorrelations(params: Jet, p: int, q: int, most: int) -> Jet:
    """Autocorrelations at lags ``0 ... most``."""
    gamma, _ = _autocovariances(params, p, q, most)
    return gamma / gamma[0]


def _autocovariances(params: Jet, p: int, q: int, most: int) -> tuple[Jet, list[Jet]]:
    """
    Autocovariances at lags ``0 ... most`` (Brockwell and Davis, 3.3.8-9).

    By the variance of the innovations; with them the weights of the infinite moving
    average, at as many lags.
    """
    k = params.k
    phi = [params[i] for i in range(p)]
    theta = [Jet.constant(1.0, k), *(params[p + j] for j in range(q))]
    psi: list[Jet] = []
    for j in range(max(q, min(most, p)) + 1):
        psi.append(theta[j] if j <= q else Jet.constant(0.0, k))
        for i in range(min(j, p)):
            psi[j] = psi[j] + phi[i] * psi[j - i - 1]
    right = []
    for lag in range(max(p, q) + 1):
        total = Jet.constant(0.0, k)
        for j in range(lag, q + 1):
            total = total + theta[j] * psi[j - lag]
        right.append(total)
    # gamma(lag) - sum phi_i gamma(|lag - i|) = right(lag), lag = 0 ... p
    orders = range(p + 1)
    matrix = [[Jet.constant(float(i == j), k) for j in orders] for i in orders]
    for lag in range(p + 1):
        for i in range(p):
            place = abs(lag - i - 1)
            matrix[lag][place] = matrix[lag][place] - phi[i]
    first = solve(stack([stack(row, k) for row in matrix], k), stack(right[: p + 1], k))
    gamma = [first[i] for i in range(p + 1)]
    for lag in range(p + 1, most + 1):
        total = right[lag] if lag <= q else Jet.constant(0.0, k)
        for i in range(p):
            total = total + phi[i] * gamma[lag - i - 1]
        gamma.append(total)
    return stack(gamma[: most + 1], k), psi[: most + 1]
