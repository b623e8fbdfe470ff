"""
The coordinates in which groups are deleted, and the way back to the user's.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from mixedar._types import FloatArray
from mixedar.engine.compress import ClusterRows
from mixedar.engine.groups import GroupSums, part_of
from mixedar.engine.likelihood import cluster_sums
from mixedar.engine.problem import LikelihoodProblem
from mixedar.fit import Fit


class DeletionCoordinates:
    """
    The likelihood of a fit in units that make deletions simple.

    The designs are those of the likelihood problem; columns of ``W`` are turned
    once more, so that ``W'H^-1 W`` of all groups together is the identity.

    Parameters
    ----------
    fit : Fit

    Attributes
    ----------
    problem : LikelihoodProblem
    theta, lam, u : ndarray
        The estimate, its part for the covariance's factor and its residual part.
    factor : ndarray, shape (q, q)
    w_map : ndarray, shape (p + 1, p + 1)
        From the user's columns of ``W`` to those units.
    total : GroupSums
        Of all groups together, as one.
    rows : ClusterRows
        Of the real groups, in the coordinates of `problem`.
    jacobian : ndarray, shape (k, k_theta)
    bends : ndarray, shape (k, k_theta, k_theta)
        First and second derivatives of ``v`` by theta.
    hessian : ndarray, shape (k_theta, k_theta)
        Of the log-likelihood of all groups.
    singular : bool
        Whether the covariance of the random effects is.

    Raises
    ------
    NotComputedError
        If the data were removed from the fit.
    """

    def __init__(self, fit: Fit) -> None:
        self.problem: LikelihoodProblem = fit.problem
        problem = self.problem
        self.theta: FloatArray = fit.theta
        self.lam, self.u = problem.split(self.theta)
        self.factor = problem.factor(self.theta)
        sums = cluster_sums(
            problem.blocks, problem.covariance, self.factor, self.u, derivatives=True
        )
        root = np.linalg.cholesky(sums.s)
        unit = solve_triangular(root, np.eye(len(root)), lower=True).T
        self._unit = unit
        self.w_map = problem.w_map @ unit
        none = np.empty((0, 0, 1))
        self.total = GroupSums(
            np.eye(len(root))[..., None],
            sums.d1[:, None],
            sums.d2[..., None],
            (unit.T @ sums.s1 @ unit)[..., None],
            (unit.T @ sums.s2 @ unit)[..., None],
            none,
            none,
        )
        data, grouped = fit.data, fit.data.grouped
        self.rows = ClusterRows(
            grouped.sort(data.random_design),
            np.column_stack([grouped.sort(data.exog), grouped.sort(data.endog)]),
            grouped.gaps,
            grouped.offsets,
            np.ones(grouped.n_groups),
            grouped.marks,
        ).transformed(problem.z_map, problem.w_map)
        k, k_theta = len(sums.d1), len(self.theta)
        self.jacobian, _ = problem.chain(self.theta, np.zeros(k))
        self.bends = np.zeros((k, k_theta, k_theta))
        for a, one in enumerate(np.eye(k)):
            self.bends[a] = problem.chain(self.theta, one)[1]
        self.hessian = problem.evaluate(self.theta, derivatives=True).hessian
        self.singular = fit.singular

    def unit_rows(self, where: slice) -> ClusterRows:
        """
        The rows of some groups, ``W`` in the units of the deletions.

        Parameters
        ----------
        where : slice
            Of the groups.

        Returns
        -------
        ClusterRows
        """
        q = self.rows.z.shape[1]
        return part_of(self.rows, where).transformed(np.eye(q), self._unit)

    def change(self, steps: FloatArray) -> FloatArray:
        """
        Change of ``v`` by steps in theta.

        Parameters
        ----------
        steps : ndarray, shape (m, k_theta)

        Returns
        -------
        ndarray, shape (k, m)
        """
        if self.problem.level(self.u) is not None:
            return self._change_one_by_one(steps)
        bent = np.einsum("aij,mi,mj->am", self.bends, steps, steps, optimize=True)
        return self.jacobian @ steps.T + 0.5 * bent

    def _change_one_by_one(self, steps: FloatArray) -> FloatArray:
        """The same where ``v`` is no quadratic function of theta."""
        k_cov = self.problem.covariance.k_cov
        out = np.empty((len(self.jacobian), len(steps)))
        out[k_cov:] = steps[:, len(self.lam) :].T
        start = self.problem.values(self.theta)
        for i, step in enumerate(steps):
            out[:k_cov, i] = self.problem.values(self.theta + step) - start
        return out

    def covariances(self, change: FloatArray, scale: FloatArray) -> FloatArray:
        """
        Covariances and variance components on the user's scale.

        Parameters
        ----------
        change : ndarray, shape (k, m)
            Of ``v``.
        scale : ndarray, shape (m,)
            Residual variances on the user's scale.

        Returns
        -------
        ndarray, shape (m, k_cov)
        """
        problem = self.problem
        values = problem.values(self.theta)[:, None]
        values = values + change[: problem.covariance.k_cov]
        return (problem.value_map() @ values).T * scale[:, None]

    def residual_params(self, steps: FloatArray) -> FloatArray:
        """
        Residual parameters on the user's scale.

        Parameters
        ----------
        steps : ndarray, shape (m, k_theta)

        Returns
        -------
        ndarray, shape (m, k_params)
        """
        structure, moved = self.problem.structure, self.u + steps[:, len(self.lam) :]
        out = np.empty((len(steps), structure.k_params))
        for i, u in enumerate(moved):
            out[i] = structure.from_unconstrained(u)
        return out
