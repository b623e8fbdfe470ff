"""
The maximum of the likelihood without one group: by iteration, or by a new fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.compress import ClusterRows, compress
from mixedar.covariance import factor_entries
from mixedar.diagnostics.deletion_sums import part_of
from mixedar.estimate import Estimate, estimate_at
from mixedar.likelihood import ClusterSums, Evaluation, cluster_sums, profile
from mixedar.moments import likelihood_blocks
from mixedar.newton import SearchPath, newton
from mixedar.problem import LikelihoodProblem, ThetaEvaluation

__all__ = ["WithoutGroup", "refit_without"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class _Difference:
    """Second derivatives of all groups less those of one."""

    every: ClusterSums
    own: ClusterSums

    def contract(self, weight: FloatArray | None) -> FloatArray:
        """``d2D + <d2S, weight>``; see :class:`mixedar.sums.Curvature`."""
        return self.every.second(weight) - self.own.second(weight)

    def arrays(self) -> FloatArray:
        """``d2S``; see :class:`mixedar.sums.Curvature`."""
        return self.every.s2 - self.own.s2


class WithoutGroup:
    """
    The likelihood of all groups but one, without building it anew.

    Parameters
    ----------
    problem : LikelihoodProblem
        Of all groups.
    rows : ClusterRows
        Of the real groups, in the problem's coordinates.
    group : int
    """

    def __init__(
        self, problem: LikelihoodProblem, rows: ClusterRows, group: int
    ) -> None:
        self.problem = problem
        own = part_of(rows, slice(group, group + 1))
        self.blocks = likelihood_blocks(own, problem.structure)
        self.n = problem.n - len(own.w)

    def profile_at(self, theta: FloatArray, *, derivatives: bool) -> Evaluation:
        """
        Profiled likelihood; `llf` lacks the constant of the coordinates.

        Parameters
        ----------
        theta : ndarray, shape (k_theta,)
        derivatives : bool

        Returns
        -------
        Evaluation
        """
        problem = self.problem
        factor, u = problem.factor(theta), problem.split(theta)[1]

        def sums(blocks: Any) -> ClusterSums:
            return cluster_sums(
                blocks, problem.covariance, factor, u, derivatives=derivatives
            )

        every, own = sums(problem.blocks), sums(self.blocks)
        rest = ClusterSums(
            every.d - own.d,
            every.s - own.s,
            every.d1 - own.d1,
            every.s1 - own.s1,
            (_Difference(every, own),) if derivatives else (),
        )
        return profile(rest, self.n, reml=problem.reml)

    def evaluate(self, theta: FloatArray) -> ThetaEvaluation:
        """
        Log-likelihood, gradient and Hessian by `theta`.

        Parameters
        ----------
        theta : ndarray, shape (k_theta,)

        Returns
        -------
        ThetaEvaluation
        """
        point = self.profile_at(theta, derivatives=True)
        jacobian, curvature = self.problem.chain(theta, point.gradient)
        return ThetaEvaluation(
            point.llf,
            jacobian.T @ point.gradient,
            jacobian.T @ point.hessian @ jacobian + curvature,
        )

    def search(self, theta: FloatArray, maxiter: int) -> SearchPath:
        """
        Newton's method from the estimate of all groups.

        Parameters
        ----------
        theta : ndarray, shape (k_theta,)
        maxiter : int

        Returns
        -------
        SearchPath

        Raises
        ------
        numpy.linalg.LinAlgError
            If the rest does not determine the coefficients.
        """
        return newton(self.evaluate, theta, gtol=1e-6, maxiter=maxiter)


def refit_without(results: Any, group: int) -> tuple[Estimate, SearchPath | None]:
    """
    Fit the model to the other groups, starting from the estimate of all.

    Parameters
    ----------
    results : MixedLMARResults
    group : int

    Returns
    -------
    estimate : Estimate
    search : SearchPath or None
        None if there is no covariance parameter to search for.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the rest does not determine the coefficients.
    """
    model, grouped = results.model, results.model._grouped
    first, end = grouped.offsets[group], grouped.offsets[group + 1]
    keep = np.r_[0:first, end : grouped.offsets[-1]]
    sizes = np.delete(grouped.sizes, group)
    # a series may begin anywhere but not before its group: gaps stay as they are
    rows = compress(
        grouped.sort(model._random_design())[keep],
        grouped.sort(model.exog)[keep],
        grouped.sort(model.endog)[keep],
        grouped.gaps[keep],
        np.concatenate([[0], np.cumsum(sizes)]),
        None if grouped.marks is None else grouped.marks[keep],
    )
    problem = LikelihoodProblem(
        rows,
        len(keep),
        results.structure,
        model._layout(results.freepat, results.params_object),
        reml=results.reml,
    )
    if problem.k_theta == 0:
        return estimate_at(problem, np.empty(0)), None
    start = problem.theta_from(
        factor_entries(results.cov_re_unscaled, results.vcomp / results.scale),
        results._residual_values,
    )
    lam, u = problem.split(start)
    # a standard deviation of zero is a saddle that no gradient leaves
    lam = np.where(np.abs(lam) < 0.05, 0.05, lam)

    def evaluate(theta: FloatArray) -> ThetaEvaluation:
        return problem.evaluate(theta, derivatives=True)

    search = newton(evaluate, np.concatenate([lam, u]))
    return estimate_at(problem, search.theta), search
