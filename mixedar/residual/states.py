"""
Residuals as observations of a Markov state: what makes long series cheap.

Row t of a series is ``y_t = x_t[0] + noise``, and the state moves from row to row by
``x_t = F x_{t-1} + innovation``: what all earlier rows tell of later ones passes
through its few numbers, whatever the spacing of the rows (Jones, R. H., 1993,
Longitudinal Data with Serial Correlation: A State-space Approach, Chapman and Hall).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, factorial
from typing import NamedTuple

import numpy as np
from scipy.special import gammainc

from mixedar._types import ArrayOrJet, FloatArray, IntArray
from mixedar.numeric.autodiff import Jet, embed, stack


class StateSpace(NamedTuple):
    """
    The state of `d` numbers behind pairs of neighbouring rows, with derivatives.

    With ``P`` of :attr:`stationary` the correlation of two rows is the first entry of
    ``F ... F P``, and the variance ``P[0, 0]`` plus the noise is one.  Any symmetric
    ``P`` will do whose first column these correlations ask for.

    Attributes
    ----------
    transition : Jet of shape (d, d, l)
        ``F`` from one row to the next.
    innovation : Jet of shape (d, d, l)
        ``P - F P F'``, the covariance of what is new, without cancellation.
    stationary : Jet of shape (d, d, l)
        ``P``, the covariance of the state where nothing is known.
    noise : Jet of shape (l,)
        Variance of what a row has to itself.
    """

    transition: Jet
    innovation: Jet
    stationary: Jet
    noise: Jet

    def embedded(self, start: int, k: int) -> StateSpace:
        """The same with derivatives by all `k` parameters, its first at `start`."""
        return StateSpace(*(embed(part, start, k) for part in self))

    def with_noise(self, share: ArrayOrJet) -> StateSpace:
        """The same with a share of measurement error in the variance."""
        kept = 1.0 - share
        return StateSpace(
            self.transition,
            self.innovation * kept,
            self.stationary * kept,
            self.noise * kept + share,
        )


class Innovations(NamedTuple):
    """
    A stationary ARMA process by what is new in each row, with derivatives.

    ``y_t = sum phi_i y_{t-i} + e_t + sum theta_j e_{t-j}`` at every step.  Rows before
    the first move row ``i`` by ``x_i`` of a state with covariance ``B B'``, in units of
    the variance of ``e``, which is what is left of one.

    Attributes
    ----------
    ar : Jet of shape (p,)
    ma : Jet of shape (q,)
    root : Jet of shape (d, d)
        ``B``, where `d` is the larger one of `p` and `q`.
    """

    ar: Jet
    ma: Jet
    root: Jet

    @property
    def variance(self) -> Jet:
        """Variance of ``e``, where that of a row is one."""
        return 1.0 / ((self.root[0] * self.root[0]).sum() + 1.0)


def joined(parts: Sequence[StateSpace], order: IntArray) -> StateSpace:
    """The pairs of all parts, one part's after the other's, in an order."""
    return StateSpace(
        *(
            Jet(
                np.concatenate([j.value for j in jets], axis=-1)[..., order],
                np.concatenate([j.first for j in jets], axis=-1)[..., order],
                np.concatenate([j.second for j in jets], axis=-1)[..., order],
            )
            for jets in zip(*parts, strict=True)
        )
    )


def single_state(phi: Jet, innovation: Jet, variance: ArrayOrJet = 1.0) -> StateSpace:
    """
    One number, which neighbours share.

    Parameters
    ----------
    phi, innovation : Jet of shape (l,)
    variance : Jet or float
        Of the state; the rest is noise.
    """
    all_of_it = Jet.constant(np.ones(len(phi)), phi.k) * variance
    one = None, None, slice(None)
    return StateSpace(phi[one], innovation[one], all_of_it[one], 1.0 - all_of_it)


def damped_states(ratio: Jet, order: int) -> StateSpace:
    """
    The Matern process of smoothness ``order - 1/2`` and its derivatives in time.

    It solves ``(d/dt + 1)^order x = white noise`` (Whittle, 1954; Hartikainen and
    Sarkka, 2010): ``F = exp(-s) sum_j N^j s^j / j!`` with a nilpotent ``N``, and
    the innovation collects ``v(s) v(s)'`` over the gap, ``v`` the last column of ``F``.

    Parameters
    ----------
    ratio : Jet of shape (l,)
        Gaps over the range.
    order : int
        Number of states.
    """
    companion = np.eye(order, k=1)
    companion[-1] = [-comb(order, j) for j in range(order)]
    nilpotent, power = companion + np.eye(order), np.eye(order)
    series = []
    for j in range(order):
        series.append(power / factorial(j))
        power = power @ nilpotent
    s, scale = ratio.value, np.exp(-ratio)
    transition, step = scale * series[0][:, :, None], scale
    for matrix in series[1:]:
        step = step * ratio
        transition = transition + step * matrix[:, :, None]
    v = np.array([matrix[:, -1] for matrix in series])  # by power of s
    # v v' of two powers each, and the integrals of s^m exp(-2 s)
    total, complete = np.zeros((order, order, *s.shape)), np.zeros((order, order))
    for i, one in enumerate(v):
        for j, other in enumerate(v):
            size = np.outer(one, other) * factorial(i + j) / 2.0 ** (i + j + 1)
            complete += size
            total += size[:, :, None] * gammainc(i + j + 1, 2.0 * s)
    unit = 1.0 / complete[0, 0]
    last = transition.value[:, -1]
    # of the derivatives of v the same polynomials tell
    slope = np.einsum("ij,j...->i...", companion, last)
    bend = slope[:, None] * last + last[:, None] * slope
    innovation = ratio[None, None].map(
        unit * total, unit * last[:, None] * last[None], unit * bend
    )
    stationary = Jet.constant(
        np.zeros_like(total) + unit * complete[:, :, None], ratio.k
    )
    return StateSpace(transition, innovation, stationary, _no_noise(ratio))


def forecast_states(
    phi: Sequence[Jet], rho: Jet, impulse: Jet | None, steps: FloatArray
) -> StateSpace:
    """
    Forecasts of the next values, which all that is known comes down to.

    They are of the row itself and of the steps after it (Akaike, 1974); from one step
    to the next they move up, and `phi` tells the last one.

    Parameters
    ----------
    phi : sequence of Jet
        Coefficients of the autoregression, the first lag first.
    rho : Jet of shape (d,)
        Autocorrelations from lag zero on: of as many lags as `phi` has, and of all
        that do not follow by it.
    impulse : Jet of shape (d,), or None
        What a step's innovation moves each forecast by, its variance included; None if
        it is not known, so that the state is as if known from one row.
    steps : ndarray, shape (l,)
        Whole numbers of steps between the rows.
    """
    d, k = len(rho), rho.k
    zero, once = Jet.constant(0.0, k), _one_ahead(phi, d, k)
    if impulse is None:
        stationary = _outer(rho, rho)
        moved = _times(once, rho[:, None, None])[:, 0]
        innovation = stationary - moved[:, None] * moved[None]
    else:
        apart = np.abs(np.subtract.outer(np.arange(d), np.arange(d)))
        innovation, stationary = _outer(impulse, impulse), rho[apart][:, :, None]
        unknown = Jet.constant(np.zeros((d, d, 1)), k)
        # what the values until then will tell is not yet known
        for _ in range(1, d):
            unknown = _shifted(unknown + innovation)
        stationary = stationary - unknown
    here = StateSpace(once, innovation, stationary, zero)
    return _repeated(here, steps)


def forecast_correlations(phi: Sequence[Jet], rho: Jet, lags: FloatArray) -> Jet:
    """
    Autocorrelations at any lags, by as many steps as their logarithm.

    Parameters
    ----------
    phi, rho
        As in :func:`forecast_states`.
    lags : ndarray, shape (l,)
        Whole numbers.

    Returns
    -------
    Jet of shape (l,)
    """
    number = np.rint(lags).astype(np.int64)
    far = _one_ahead(phi, len(rho), rho.k)
    found = rho[:, None] + np.zeros(len(number))
    while number.any():
        odd = (number % 2).astype(np.float64)
        moved = (far * found[None]).sum(axis=1)
        found = moved * odd + found * (1.0 - odd)
        number //= 2
        far = _times(far, far)
    return found[0]


def _one_ahead(phi: Sequence[Jet], d: int, k: int) -> Jet:
    """What forecasts of the next `d` values become a step later, (d, d, 1)."""
    zero, one = Jet.constant(0.0, k), Jet.constant(1.0, k)
    rows = [[one if j == i + 1 else zero for j in range(d)] for i in range(d - 1)]
    rows.append([zero] * (d - len(phi)) + list(phi)[::-1])
    return stack([stack(row, k) for row in rows], k)[:, :, None]


def _outer(a: Jet, b: Jet) -> Jet:
    """All products, with an axis for the rows."""
    return (a[:, None] * b[None])[:, :, None]


def _shifted(x: Jet) -> Jet:
    """A matrix one row further down and one column to the right."""
    out = Jet.constant(np.zeros(x.shape), x.k)
    out.value[1:, 1:] = x.value[:-1, :-1]
    out.first[:, 1:, 1:] = x.first[:, :-1, :-1]
    out.second[:, :, 1:, 1:] = x.second[:, :, :-1, :-1]
    return out


def _times(a: Jet, b: Jet) -> Jet:
    """Products of matrices, (i, j, l) and (j, k, l)."""
    return (a[:, :, None] * b[None]).sum(axis=1)


def _transposed(a: Jet) -> Jet:
    return Jet(a.value.swapaxes(0, 1), a.first.swapaxes(1, 2), a.second.swapaxes(2, 3))


def _repeated(once: StateSpace, steps: FloatArray) -> StateSpace:
    """The same over several steps, by repeated doubling."""
    k, (d, _, _) = once.transition.k, once.transition.shape
    number = np.rint(steps).astype(np.int64)
    eye = np.zeros((d, d, len(number))) + np.eye(d)[:, :, None]
    transition, innovation = Jet.constant(eye, k), Jet.constant(0.0 * eye, k)
    far, new = once.transition, once.innovation
    while number.any():
        odd = (number % 2).astype(np.float64)
        if odd.any():
            after = _times(_times(far, innovation), _transposed(far)) + new
            innovation = after * odd + innovation * (1.0 - odd)
            transition = _times(far, transition) * odd + transition * (1.0 - odd)
        number //= 2
        new = _times(_times(far, new), _transposed(far)) + new
        far = _times(far, far)
    stationary = once.stationary + 0.0 * eye
    return StateSpace(transition, innovation, stationary, _no_noise(transition[0, 0]))


def _no_noise(like: Jet) -> Jet:
    return Jet.constant(np.zeros(like.shape), like.k)
