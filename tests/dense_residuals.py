"""
Residuals of a fit and their covariance, with matrices of full size.

Everything is in the caller's row order and follows the definitions: with
``V = sigma2 (R + Z Psi Z')`` and ``P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1`` the
residuals are ``sigma2 R P y``, and ``W``, the inverse Cholesky factor of each
series' R in the order of time, whitens them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

import oracle
from fitted_models import oracle_of

Array = NDArray[Any]


@dataclass(frozen=True)
class DenseModel:
    """
    A fit of the shared frame, written out.

    Attributes
    ----------
    fit : the fit
    problem, at : model and estimates for the oracle
    """

    fit: Any
    problem: oracle.Problem
    at: oracle.Parameters

    @property
    def n(self) -> int:
        return len(self.problem.y)

    @cached_property
    def time(self) -> Array:
        return oracle._times(self.problem)

    @cached_property
    def series(self) -> Array:
        """Numbers of the series, (n,)."""
        pairs = zip(
            self.problem.groups.tolist(),
            oracle._series(self.problem).tolist(),
            strict=True,
        )
        seen: dict[Any, int] = {}
        return np.array([seen.setdefault(pair, len(seen)) for pair in pairs])

    @cached_property
    def same_series(self) -> Array:
        return self.series[:, None] == self.series

    @cached_property
    def distance(self) -> Array:
        """Distances in time, NaN between series, (n, n)."""
        apart = np.abs(self.time[:, None] - self.time)
        return np.where(self.same_series, apart, np.nan)

    def correlation(self, rho: float) -> Array:
        """R of all rows."""
        with np.errstate(invalid="ignore"):
            r = np.power(rho, np.nan_to_num(self.distance, nan=0.0))
        return np.where(self.same_series, r, 0.0)

    @cached_property
    def R(self) -> Array:
        return self.correlation(self.at.rho)

    @cached_property
    def V(self) -> Array:
        out = np.zeros((self.n, self.n))
        for part in oracle._parts(self.problem, self.at):
            out[np.ix_(part.rows, part.rows)] = part.V
        return out

    @cached_property
    def P(self) -> Array:
        inverse = np.linalg.inv(self.V)
        vx = inverse @ self.problem.X
        return inverse - vx @ np.linalg.solve(self.problem.X.T @ vx, vx.T)

    @cached_property
    def W(self) -> Array:
        """Whitening matrix."""
        out = np.zeros((self.n, self.n))
        for s in np.unique(self.series):
            rows = np.flatnonzero(self.series == s)
            rows = rows[np.argsort(self.time[rows], kind="stable")]
            root = np.linalg.cholesky(self.R[np.ix_(rows, rows)])
            out[np.ix_(rows, rows)] = np.linalg.inv(root)
        return out

    @cached_property
    def normalized(self) -> Array:
        sigma = np.sqrt(self.at.sigma2)
        return sigma * self.W @ self.R @ self.P @ self.problem.y

    @cached_property
    def cov_pearson(self) -> Array:
        return self.at.sigma2 * self.R @ self.P @ self.R

    @cached_property
    def cov_normalized(self) -> Array:
        return self.W @ self.cov_pearson @ self.W.T

    def lag(self, k: float) -> Array:
        """One for each pair of a series at a distance."""
        return (self.distance == k).astype(float) * (k > 0)

    def nuisance(self) -> list[Array]:
        """Derivatives of V by the parameters that the fit estimated."""
        sigma2, fit = self.at.sigma2, self.fit
        out = [self.V / sigma2]
        block = self.problem.groups[:, None] == self.problem.groups
        if self.problem.Z is not None:
            z = self.problem.Z
            q = z.shape[1]
            for i in range(q):
                for j in range(i + 1):
                    if i != j and fit.model.re_cov == "diagonal":
                        continue
                    d = np.zeros((q, q))
                    d[i, j] = d[j, i] = 1.0
                    out.append(np.where(block, z @ d @ z.T, 0.0))
        for labels in self.problem.vc.values():
            same = block & (labels[:, None] == labels)
            out.append(same.astype(float))
        if fit.structure.k_free:
            h = 1e-5
            up, down = (self.correlation(self.at.rho + s * h) for s in (1.0, -1.0))
            out.append(sigma2 * (up - down) / (2.0 * h))
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


def dense(fit: Any) -> DenseModel:
    """The fit of the shared frame, written out."""
    results = getattr(fit, "_results", fit)
    return DenseModel(results, *oracle_of(fit))
