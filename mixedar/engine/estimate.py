"""
The maximum of a likelihood: estimates on the user's scale, with their covariance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from mixedar._types import BoolArray, FloatArray
from mixedar.engine.blocks.base import ClusterSums
from mixedar.engine.likelihood import profile
from mixedar.engine.problem import LikelihoodProblem
from mixedar.numeric.autodiff import Jet, embed, substitute
from mixedar.residual.base import Parametric

# Relative to the residual variance: a random-effects direction that adds less
# is zero for every purpose.
_SINGULAR = 1e-8
# Relative to the largest: a row of the information that is zero but for rounding.
_WITHOUT_EFFECT = 1e-10


@dataclass(frozen=True)
class Estimate:
    """
    A point of the parameter space on the user's scale.

    Attributes
    ----------
    theta : ndarray
        The optimiser's coordinates.
    llf : float
    beta : ndarray, shape (p,)
    cov_beta : ndarray, shape (p, p)
        ``scale (X'H^-1 X)^-1``.
    scale : float
        Residual variance.
    psi : ndarray, shape (q, q)
        Random-effects covariance divided by `scale`, all columns.
    cov_values : ndarray, shape (k_cov,)
        Lower triangle of the unstructured block, then the variance
        components, on the scale of the data.
    residual_params : ndarray, shape (k_params,)
        Of the residuals, then of what relates the levels of factors.
    cov_theta : ndarray, shape (k_cov + k_params + 1,) squared
        Covariance of `cov_values`, `residual_params` and `scale` from the
        observed information; NaN where it does not exist.
    zero : ndarray of bool
        Which random effects have no variance; components and further terms follow
        the effects of the groups.
    singular : bool
        Whether the covariance of the random effects of a factor is singular.
    at_end : ndarray of bool, shape (k_params,)
        Residual parameters that lie at an end of their range, or of which the
        covariance no longer depends because others do.
    """

    theta: FloatArray
    llf: float
    beta: FloatArray
    cov_beta: FloatArray
    scale: float
    psi: FloatArray
    cov_values: FloatArray
    residual_params: FloatArray
    cov_theta: FloatArray
    zero: BoolArray
    singular: bool
    at_end: BoolArray

    @property
    def residual_at_boundary(self) -> bool:
        """Whether a residual parameter is at the end of its range."""
        return bool(self.at_end.any())


@dataclass(frozen=True, eq=False)
class Flat:
    """
    What the restricted likelihood is the same for, whatever its value.

    Attributes
    ----------
    params : ndarray of bool, shape (k_cov + k_params + 1,)
        Variances and covariances, residual parameters and the residual variance
        that move along the directions in which it is constant.
    columns : tuple of str
        Fixed effects that take up what changes with them.
    dimension : int
        Number of these directions.
    """

    params: BoolArray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    columns: tuple[str, ...] = ()
    dimension: int = 0


def estimate_at(problem: LikelihoodProblem, theta: FloatArray) -> Estimate:
    """
    The user's parameters and their covariance at a point.

    Parameters
    ----------
    problem : LikelihoodProblem
    theta : ndarray, shape (k_theta,)

    Returns
    -------
    Estimate
    """
    lam, u = problem.split(theta)
    # a standard deviation that is zero to rounding is zero
    theta = np.concatenate([np.where(np.abs(lam) < 1e-7, 0.0, lam), u])
    sums = problem.sums(theta, derivatives=True)
    point = problem.profiled(ClusterSums.values(sums.d, sums.s))
    w_map, p = problem.w_map, len(problem.w_map) - 1
    # W map = [X y] w_map:  y = X beta  <=>  w_map [-beta_int; 1] ~ [-beta; 1]
    combined = w_map @ np.append(-point.beta, 1.0)
    scale = problem.scale or point.scale / combined[p] ** 2
    cov_beta = w_map[:p, :p] @ point.sxx_inverse @ w_map[:p, :p].T * scale
    cov, k = problem.covariance, len(theta)
    # a direction is zero or not beside the residuals that there are, not by sigma
    lam = problem.split(theta)[0]
    singular = [_is_singular(cov.factor(lam))]
    singular += map(_is_singular, cov.term_factors(lam))
    outer = problem.z_map @ problem.factor(theta)
    natural = problem.parameters.natural(u)
    entries = problem.entries(theta)
    to_user = scale * problem.value_map()
    cov_values = to_user @ entries.value
    # the user's parameters by theta and the logarithm of the residual variance
    jacobian = np.zeros((cov.k_cov + len(natural) + 1, k + 1))
    jacobian[: cov.k_cov, :k] = to_user @ entries.first.T
    jacobian[: cov.k_cov, k] = cov_values
    jacobian[cov.k_cov : -1, problem.k_cov_free : k] = natural.first.T
    jacobian[-1, k] = scale
    free = profile(sums, problem.n, reml=problem.reml, log_scale=math.log(point.scale))
    by_v = Jet(free.llf, free.gradient, free.hessian)
    information = -substitute(by_v, embed(entries, 0, k + 1)).second
    inside = slice(problem.k_cov_free, k)
    at_end = _at_end(problem.parameters, natural.value, information[inside])
    # what is at the end of its range has no standard error, and is known to the rest
    estimated = np.ones(k + 1, dtype=bool)
    estimated[inside] = ~at_end[problem.parameters.is_free]
    estimated[k] = problem.scale is None
    cov_theta = _delta_method(
        information[np.ix_(estimated, estimated)], jacobian[:, estimated]
    )
    lost = np.zeros(len(cov_theta), dtype=bool)
    counts = [cov.k_groups, *(layout.k_cov for layout in cov.of_terms)]
    lost[: cov.k_cov] = np.repeat(singular, counts)
    lost[cov.k_cov : -1] = at_end
    cov_theta[lost] = np.nan
    cov_theta[:, lost] = np.nan
    return Estimate(
        theta=theta,
        llf=point.llf,
        beta=-combined[:p] / combined[p],
        cov_beta=(cov_beta + cov_beta.T) / 2.0,
        scale=scale,
        psi=outer @ outer.T,
        cov_values=cov_values,
        residual_params=natural.value,
        cov_theta=cov_theta,
        zero=_zero_variances(problem, cov_values / scale),
        singular=any(singular),
        at_end=at_end,
    )


def _is_singular(factor: FloatArray) -> bool:
    """Whether a covariance has a direction that is zero beside the residuals."""
    values = np.linalg.eigvalsh(factor @ factor.T)
    return bool(values.min(initial=np.inf) < _SINGULAR)


def _zero_variances(problem: LikelihoodProblem, values: FloatArray) -> BoolArray:
    """Which variances are zero on the scale of their columns."""
    cov = problem.covariance
    sizes = np.concatenate(
        [
            np.diag(problem.z_map)[: cov.k_re],
            np.diag(problem.z_map)[cov.component_starts],
            *(np.diag(term_map) for term_map in problem.term_maps),
        ]
    )
    return np.diag(cov.matrix(values)) < _SINGULAR * sizes**2


def _at_end(
    parameters: Parametric, params: FloatArray, information: FloatArray
) -> BoolArray:
    """Which residual parameters are at an end, or without effect because of it."""
    free = parameters.is_free
    if not (free.any() and parameters.at_boundary(params)):
        return np.zeros(len(params), dtype=bool)
    out, size = free & parameters.at_end(params), np.abs(information).max(axis=1)
    out[free] |= size < _WITHOUT_EFFECT * max(size.max(), 1.0)
    return out


def _delta_method(information: FloatArray, jacobian: FloatArray) -> FloatArray:
    """Covariance of parameters from the information on others, NaN without any."""
    if not len(information):
        return np.zeros((len(jacobian), len(jacobian)))
    values, vectors = np.linalg.eigh(information)  # they rise
    largest = max(values[-1], 1.0)
    if values[0] < -1e-6 * largest:
        return np.full((len(jacobian), len(jacobian)), np.nan)
    # directions without information belong to a singular covariance;
    # whatever depends on them has no standard error
    keep = values > 1e-12 * largest
    root = jacobian @ (vectors[:, keep] / np.sqrt(values[keep]))
    out = root @ root.T
    if keep.all():
        return out
    lost = np.abs(jacobian @ vectors[:, ~keep]).max(axis=1)
    size = np.abs(jacobian).max(axis=1)
    undefined = lost > 1e-6 * np.where(size > 0.0, size, 1.0)
    out[undefined] = np.nan
    out[:, undefined] = np.nan
    return (out + out.T) / 2.0
