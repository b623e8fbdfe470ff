"""
Residuals and what is known of them, with matrices of full size.

Everything is in the caller's row order and follows the definitions: with
``P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1`` the residuals are ``sigma2 R P y``, and
``W``, the inverse Cholesky factor of each series' R in the order of time, whitens
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from helpers.oracle.model import (
    Array,
    Parameters,
    Problem,
    covariance,
)


@dataclass(frozen=True)
class DenseResiduals:
    """
    Residuals of a model at its estimates.

    Attributes
    ----------
    problem, at : model and estimates
    u : the residual parameters that were estimated
    R_at : R of all rows as a function of those; by default powers of rho
    diagonal : whether no covariances of random effects were estimated
    """

    problem: Problem
    at: Parameters
    u: Array
    R_at: Callable[[Array], Array] | None = None
    diagonal: bool = False

    @property
    def n(self) -> int:
        return len(self.problem.y)

    @cached_property
    def series(self) -> NDArray[np.intp]:
        """Numbers of the series, (n,)."""
        return self.problem.runs

    @cached_property
    def distance(self) -> Array:
        """Distances in time, NaN between series, (n, n)."""
        time = self.problem.times
        same = self.series[:, None] == self.series
        return np.where(same, np.abs(time[:, None] - time), np.nan)

    def residual(self, u: Array) -> Array:
        """R of all rows at other parameters."""
        if self.R_at is not None:
            return self.R_at(u)
        (rho,) = u if len(u) else (self.at.rho,)
        return np.nan_to_num(np.power(rho, self.distance), nan=0.0)

    @cached_property
    def R(self) -> Array:  # noqa: N802
        return self.residual(self.u)

    @property
    def sd(self) -> Array:
        """Standard deviations of the rows relative to sigma, (n,)."""
        return np.sqrt(np.diag(self.R))

    @cached_property
    def V(self) -> Array:  # noqa: N802
        return covariance(self.problem, replace(self.at, R=self.R))

    @cached_property
    def P(self) -> Array:  # noqa: N802
        inverse = np.linalg.inv(self.V)
        vx = inverse @ self.problem.X
        return inverse - vx @ np.linalg.solve(self.problem.X.T @ vx, vx.T)

    @cached_property
    def W(self) -> Array:  # noqa: N802
        """Whitening matrix."""
        out = np.zeros((self.n, self.n))
        for rows in self.problem.in_time:
            root = np.linalg.cholesky(self.R[np.ix_(rows, rows)])
            out[np.ix_(rows, rows)] = np.linalg.inv(root)
        return out

    @cached_property
    def normalized(self) -> Array:
        sigma = np.sqrt(self.at.sigma2)
        return sigma * self.W @ self.R @ self.P @ self.problem.y

    @cached_property
    def cov_pearson(self) -> Array:
        """Covariance of the residuals relative to sigma2."""
        return self.at.sigma2 * self.R @ self.P @ self.R

    @cached_property
    def cov_normalized(self) -> Array:
        return self.W @ self.cov_pearson @ self.W.T

    def lag(self, k: float) -> Array:
        """One for each pair of a series at a distance."""
        return (self.distance == k).astype(float) * (k > 0)

    def nuisance(self) -> list[Array]:
        """Derivatives of V by the parameters that were estimated."""
        out = [self.V / self.at.sigma2]
        block = self.problem.groups[:, None] == self.problem.groups
        for i in range(self.problem.n_re):
            for j in range(i + 1):
                if i == j or not self.diagonal:
                    zi, zj = self.problem.Z[:, i], self.problem.Z[:, j]
                    both = np.outer(zi, zj) + (i != j) * np.outer(zj, zi)
                    out.append(np.where(block, both, 0.0))
        for labels in self.problem.vc.values():
            out.append((block & (labels[:, None] == labels)).astype(float))
        for step in 1e-5 * np.eye(len(self.u)):
            change = self.residual(self.u + step) - self.residual(self.u - step)
            out.append(self.at.sigma2 * change / 2e-5)
        return out

    def efficient(self, directions: list[Array]) -> tuple[Array, Array]:
        """Scores of whitened directions and their variance, nuisance taken out."""
        colour = np.linalg.inv(self.W) * np.sqrt(self.at.sigma2)
        derivatives = [colour @ a @ colour.T for a in directions] + self.nuisance()
        py = self.P @ self.problem.y
        images = [self.P @ d for d in derivatives]  # the costly part
        score = np.array(
            [
                0.5 * (py @ d @ py - np.trace(image))
                for d, image in zip(derivatives, images, strict=True)
            ]
        )
        info = np.array([[0.5 * np.sum(a * b.T) for b in images] for a in images])
        k = len(directions)
        weights = info[:k, k:] @ np.linalg.pinv(info[k:, k:], rcond=1e-12)
        return score[:k] - weights @ score[k:], info[:k, :k] - weights @ info[k:, :k]
