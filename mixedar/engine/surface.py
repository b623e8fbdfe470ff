"""
The log-likelihood as a function of absolute variances.

The optimiser works with ratios and profiles the residual variance out.
Intervals for standard deviations on the scale of the data hold one of them
fixed, so here the residual variance is a coordinate like the others:
``w = (entries of the random-effects covariance, u, s)`` with ``s`` the logarithm
of the residual variance and ``u`` the unconstrained residual parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixedar._types import FloatArray
from mixedar.engine.blocks.base import ClusterSums
from mixedar.engine.likelihood import cluster_sums, profile
from mixedar.engine.problem import LikelihoodProblem
from mixedar.exceptions import NotComputedError


def problem_of(results: Any) -> LikelihoodProblem:
    """
    The likelihood problem behind a fit.

    Parameters
    ----------
    results : MixedLMARResults

    Returns
    -------
    LikelihoodProblem

    Raises
    ------
    NotComputedError
        If the data were removed from the fit.
    """
    model = results.model
    rows = getattr(model, "_rows", None)
    if rows is None or getattr(model, "endog", None) is None:
        raise NotComputedError(
            "the data were removed from this fit; profiles, bootstrap and robust "
            "covariances need them: fit again and keep the data"
        )
    return LikelihoodProblem(
        rows,
        model.nobs,
        results.structure,
        model._layout(results.freepat, results.params_object),
        reml=results.reml,
    )


@dataclass(frozen=True)
class SurfacePoint:
    """
    Log-likelihood and derivatives by ``w``.

    Attributes
    ----------
    llf : float
    gradient : ndarray, shape (k_cov + k_free + 1,)
    hessian : ndarray, shape (k_cov + k_free + 1,) squared
    """

    llf: float
    gradient: FloatArray
    hessian: FloatArray


class Surface:
    """
    The (restricted) log-likelihood by covariances on the scale of the data.

    Parameters
    ----------
    problem : LikelihoodProblem
    """

    def __init__(self, problem: LikelihoodProblem) -> None:
        self.problem = problem
        self._to_inner = np.linalg.inv(problem.value_map())
        self._inner_z = np.linalg.inv(problem.z_map)
        self._response = 2.0 * float(np.log(abs(problem.w_map[-1, -1])))

    def at(
        self, factor: FloatArray, values: FloatArray, u: FloatArray, s: float
    ) -> SurfacePoint:
        """
        Evaluate the surface.

        Parameters
        ----------
        factor : ndarray, shape (q, q)
            Any root of the random-effects covariance of all columns.
        values : ndarray, shape (k_cov,)
            Entries of that covariance, as in ``RandomCovariance.values``.
        u : ndarray, shape (k_free,)
        s : float

        Returns
        -------
        SurfacePoint

        Raises
        ------
        numpy.linalg.LinAlgError
            If the parameters are so extreme that a covariance is not definite.
        """
        problem = self.problem
        if not abs(s) < 600.0:
            raise np.linalg.LinAlgError("the residual variance over- or underflows")
        inner = self._inner_z @ factor * np.exp(-0.5 * s)
        sums = cluster_sums(
            problem.blocks, problem.covariance, inner, u, derivatives=True
        )
        llf, gradient, hessian = _free_variance(
            sums, problem, s + self._response, len(u)
        )
        # the ratios inside are v = T V exp(-s)
        k = problem.covariance.k_cov
        slope = self._to_inner * np.exp(-s)
        ratios = slope @ values
        change = np.eye(len(gradient))
        change[:k, :k] = slope
        change[:k, -1] = -ratios
        out = change.T @ hessian @ change
        out[:k, -1] -= slope.T @ gradient[:k]
        out[-1, :k] = out[:k, -1]
        out[-1, -1] += gradient[:k] @ ratios
        return SurfacePoint(llf, change.T @ gradient, out)


def _free_variance(
    sums: ClusterSums, problem: LikelihoodProblem, s: float, k_free: int
) -> tuple[float, FloatArray, FloatArray]:
    """
    Log-likelihood by ``(v, u, s)`` from the profiled one.

    Profiling replaces ``df s + rss exp(-s)`` by its minimum over ``s``; the
    derivatives of the weighted residual sum of squares that undo this follow
    from the profiled REML and ML surfaces.
    """
    n, p = problem.n, len(problem.w_map) - 1
    df = n - p if problem.reml else n
    point = profile(sums, n, reml=problem.reml, shift=problem.shift)
    plain = profile(sums, n, reml=False) if problem.reml else point
    k = problem.covariance.k_cov + k_free
    rss = df * point.scale
    rss1 = point.rss_gradient[:k]
    outer = np.outer(rss1, rss1) / rss
    rss2 = rss / n * (-2.0 * plain.hessian - sums.d2) + outer
    rest1 = -2.0 * point.gradient - rss1 / point.scale
    rest2 = -2.0 * point.hessian - (rss2 - outer) / point.scale
    excess = s - float(np.log(point.scale))
    weight = float(np.exp(-s))
    llf = point.llf - 0.5 * df * (excess + float(np.exp(-excess)) - 1.0)
    gradient, hessian = np.empty(k + 1), np.empty((k + 1, k + 1))
    gradient[:k] = -0.5 * (rest1 + weight * rss1)
    gradient[k] = -0.5 * (df - weight * rss)
    hessian[:k, :k] = -0.5 * (rest2 + weight * rss2)
    hessian[:k, k] = hessian[k, :k] = 0.5 * weight * rss1
    hessian[k, k] = -0.5 * weight * rss
    return llf, gradient, hessian
