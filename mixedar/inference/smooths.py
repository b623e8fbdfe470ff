"""
Smooths of a fit: effective degrees of freedom, and tests.

With ``Vp`` the covariance of fixed effects and coefficients given the variance
parameters, and ``S`` the inverse of the coefficients' own covariance, the influence
matrix of the coefficients is ``I - Vp S``, and ``Vp^-1 - S = X'V^-1 X`` the information
in the data, where ``V`` holds residuals and all other random effects.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import integrate, optimize, stats

from mixedar._types import FloatArray, IntArray
from mixedar.data.formula.smooths import Smooth
from mixedar.fit import Fit
from mixedar.numeric.linalg import r_factor, spectral_root
from mixedar.smooths.basis import Split

# An eigenvalue of a covariance so small, beside the largest, is none (as mgcv).
_NULL = float(np.finfo(np.float64).eps ** 0.9)


@dataclass(frozen=True, eq=False)
class FittedSmooth:
    """
    A smooth, and where its coefficients are in a fit.

    Attributes
    ----------
    smooth : Smooth
    terms : tuple of int
        Numbers of its further random-effects terms.
    components : tuple of int
        Numbers of its variance components, if the groups have a smooth each.
    fixed : ndarray of int, shape (f,)
        Positions of its fixed effects.
    variances : ndarray, shape (parts,)
        Of the coefficients of each term or component.
    """

    smooth: Smooth
    terms: tuple[int, ...]
    components: tuple[int, ...]
    fixed: IntArray
    variances: FloatArray


def fitted_smooths(fit: Fit) -> list[FittedSmooth]:
    """
    The smooths of a fit, those of all rows first.

    Raises
    ------
    NotComputedError
        If the data were removed.
    """
    parts: list[tuple[Smooth, int, int, float]] = []
    variances = np.diag(fit.effect_cov)
    for t, (term, place) in enumerate(
        zip(fit.data.terms, fit.layout.term_places, strict=True)
    ):
        if term.smooth is not None:
            parts.append((term.smooth, t, -1, variances[place.effects.start]))
    for j, component in enumerate(fit.data.component_parts or ()):
        if component.smooth is not None:
            parts.append((component.smooth.smooth, -1, j, fit.vcomp[j]))
    names, out = list(fit.exog_names), []
    for smooth in {id(part[0]): part[0] for part in parts}.values():
        own = [part for part in parts if part[0] is smooth]
        fixed = [names.index(name) for name in smooth.fixed_names]
        out.append(
            FittedSmooth(
                smooth,
                tuple(t for _, t, _, _ in own if t >= 0),
                tuple(j for _, _, j, _ in own if j >= 0),
                np.array(fixed, dtype=np.intp),
                np.array([variance for *_, variance in own]),
            )
        )
    return out


class SharedCoefficients:
    """
    Fixed effects, and coefficients of smooths of all rows.

    Parameters
    ----------
    fit : Fit
    """

    def __init__(self, fit: Fit) -> None:
        self.params = fit.population.coefficients
        self.cov = fit.population.covariance(fit.cov_beta)
        self.penalty: FloatArray = np.zeros_like(self.cov)
        self._places, last = {}, fit.k_fe
        terms = zip(fit.data.terms, fit.term_covs, strict=True)
        for t, (term, cov) in enumerate(terms):
            if not term.shared:
                continue
            first, last = last, last + len(cov)
            self._places[t] = own = np.arange(first, last)
            if cov.any():
                self.penalty[np.ix_(own, own)] = np.linalg.inv(cov)

    def columns(self, one: FittedSmooth) -> IntArray:
        """Positions of a smooth's coefficients."""
        return np.concatenate([one.fixed, self._places[one.terms[0]]])

    def where(self, one: FittedSmooth) -> tuple[IntArray, IntArray]:
        """Positions of a smooth's coefficients: all, and those that vary."""
        own = self._places[one.terms[0]]
        seen = own if one.variances[0] > 0.0 else own[:0]
        return np.concatenate([one.fixed, seen]), seen

    def edf(self, one: FittedSmooth) -> float:
        """Trace of the smooth's block of the influence matrix."""
        every, seen = self.where(one)
        here = np.ix_(seen, seen)
        return len(every) - float((self.penalty[here] * self.cov[here]).sum())

    @cached_property
    def information(self) -> FloatArray:
        """``X'V^-1 X``; zero for coefficients without variance."""
        some = np.flatnonzero(np.diag(self.cov) > 0.0)
        here, out = np.ix_(some, some), np.zeros_like(self.cov)
        length = np.sqrt(np.diag(self.cov)[some])
        scales = np.outer(length, length)
        out[here] = np.linalg.inv(self.cov[here] / scales) / scales
        out -= self.penalty
        return (out + out.T) / 2.0

    @cached_property
    def frequentist(self) -> FloatArray:
        """Covariance of the estimates for a curve that is what it is (mgcv's Ve)."""
        return self.cov - self.cov @ self.penalty @ self.cov


def no_effect(
    joint: SharedCoefficients, one: FittedSmooth, edf: float, df: float
) -> tuple[float, float, float]:
    """
    Reference degrees of freedom, F and p of a test that a smooth is zero.

    References
    ----------
    Wood, S. N. (2013), On p-values for smooth components of an extended generalized
    additive model, Biometrika 100, 221-228.

    Wood, S. N. (2013), A simple test for random effects in regression models,
    Biometrika 100, 1005-1010.
    """
    assert isinstance(one.smooth.parts, Split)
    every, seen = joint.where(one)
    if not len(every):
        return 0.0, 0.0, 1.0
    here, coef = np.ix_(every, every), joint.params[every]
    if not len(one.fixed):
        return penalised_wald(coef, joint.frequentist[here], joint.cov[here], df)
    to_own = _own_coordinates(one.smooth.parts) if len(seen) else np.eye(len(every))
    back = np.linalg.inv(to_own)
    return fractional_wald(
        to_own @ coef,
        to_own @ joint.cov[here] @ to_own.T,
        back.T @ joint.information[here] @ back,
        edf,
        df,
    )


def _own_coordinates(parts: Split) -> FloatArray:
    """From fixed and random coefficients to those of mgcv's constrained basis."""
    both = np.hstack([parts.to_fixed, parts.to_random])
    if both.shape[0] == both.shape[1]:
        return both
    total = np.linalg.qr(both, mode="complete")[0][:, -1:]
    inner = np.linalg.qr(total, mode="complete")[0][:, 1:]
    return np.asarray(inner.T @ both)


def fractional_wald(
    coef: FloatArray, cov: FloatArray, information: FloatArray, edf: float, df: float
) -> tuple[float, float, float]:
    """
    Wood's test of a smooth, with a pseudo-inverse of fractional rank.

    Parameters
    ----------
    coef : ndarray, shape (k,)
    cov : ndarray, shape (k, k)
        Bayesian.
    information : ndarray, shape (k, k)
        Which tells size from size: ``X'V^-1 X``.
    edf : float
        The rank.
    df : float
        Of the residual variance.

    Returns
    -------
    float
        Reference degrees of freedom.
    float
        F.
    float
        p-value: as in mgcv, the mean over the two signs that the statistic allows.
    """
    values, vectors = np.linalg.eigh(information)
    half = r_factor(spectral_root(values, vectors).T)
    inner = half @ cov @ half.T
    values, vectors = np.linalg.eigh((inner + inner.T) / 2.0)
    values, vectors = values[::-1], vectors[:, ::-1]
    vectors = vectors * np.where(vectors[0] < 0.0, -1.0, 1.0)
    rank = min(edf, len(coef))
    k = max(int(rank), 1)
    part, most = rank - k, int((values > values[0] * _NULL).sum())
    if most < k + (part > 0.0):
        k, part, rank = most, 0.0, float(most)
    z = (half @ coef) @ vectors
    if part <= 0.0:
        d = float((z[:k] ** 2 / values[:k]).sum())
        return rank, d / rank, float(stats.f.sf(d / rank, rank, df))
    rest = float((z[: k - 1] ** 2 / values[: k - 1]).sum())
    both = [k - 1, k]
    off = np.sqrt(max(0.5 * part * (1.0 - part), 0.0))
    ends = 1.0 / np.sqrt(values[both])
    middle = np.array([[1.0, off], [off, part]]) * np.outer(ends, ends)
    signs = np.array([[1.0, 1.0], [-1.0, 1.0]])
    one, other = (rest + float(s * z[both] @ middle @ (s * z[both])) for s in signs)
    high = (1.0 + part + np.sqrt((1.0 + part) * (1.0 - part))) / 2.0
    weights = np.array([*np.ones(k - 1), high, 1.0 + part - high])
    p = np.mean([_ratio_tail(weights, d, df) for d in (one, other)])
    return rank, one / rank, float(p)


def penalised_wald(
    coef: FloatArray, cov: FloatArray, bayesian: FloatArray, df: float
) -> tuple[float, float, float]:
    """
    Wood's test of coefficients that are all penalised; see :func:`fractional_wald`.

    Parameters
    ----------
    coef : ndarray, shape (k,)
    cov, bayesian : ndarray, shape (k, k)
        Covariance of the estimates, and Bayesian covariance.
    df : float

    Returns
    -------
    tuple of float
    """
    root = np.linalg.cholesky(bayesian)
    z = np.linalg.solve(root, coef)
    half = np.linalg.solve(root, cov)
    weights = np.linalg.eigvalsh(np.linalg.solve(root, half.T))
    weights = np.clip(weights, 0.0, None)
    d, rank = float(z @ z), float((weights > weights.max() * _NULL).sum())
    return rank, d / rank, _ratio_tail(weights, d, df)


def _ratio_tail(weights: FloatArray, d: float, df: float) -> float:
    """Probability that ``sum w_j chi2_1`` exceeds ``d chi2_df / df``."""
    if d <= 0.0:
        return 1.0
    return positive_probability(
        np.append(weights, -d / df), np.append(np.ones(len(weights)), df)
    )


def positive_probability(weights: FloatArray, df: FloatArray) -> float:
    """
    Probability that a sum of weighted chi-square variables is positive.

    The inversion of its transform along a parabola through the saddle point, where the
    integrand does not oscillate: small probabilities keep their digits.

    Parameters
    ----------
    weights : ndarray, shape (k,)
        Of which some are positive.
    df : ndarray, shape (k,)

    Returns
    -------
    float

    References
    ----------
    Rice, S. O. (1980), Distribution of quadratic forms in normal random variables:
    evaluation by numerical integration, SIAM Journal on Scientific and Statistical
    Computing 1, 438-448.
    """
    end = 0.5 / weights.max()

    def slope(s: float) -> float:
        return float((df * weights / (1.0 - 2.0 * weights * s)).sum()) - 1.0 / s

    last = end * (1.0 - 1e-12)
    if not slope(last) > 0.0:
        return 0.0  # too small for the arithmetic
    saddle = float(optimize.brentq(slope, end * 1e-12, last, xtol=1e-300))
    left = 1.0 - 2.0 * weights * saddle
    top = -0.5 * float((df * np.log(left)).sum()) - np.log(saddle)
    part, own = 2.0 * weights / left, 1.0 / saddle
    bend = 0.5 * float((df * part**2).sum()) + own**2
    third = float((df * part**3).sum()) - 2.0 * own**3
    unit = 1.0 / np.sqrt(bend)
    # of steepest descent, as far as the third derivative tells
    q = max(third * unit**3 / 6.0, 0.0)

    def along(t: float) -> float:
        z = unit * complex(q * t * t, t)
        value = -0.5 * (df * np.log1p(-part * z)).sum() - np.log1p(own * z)
        return float((np.exp(value) * complex(1.0, -2.0 * q * t)).real)

    area = integrate.quad(along, 0.0, np.inf, limit=400, epsabs=1e-12, epsrel=1e-9)[0]
    return float(min(np.exp(top) * unit * area / np.pi, 1.0))
