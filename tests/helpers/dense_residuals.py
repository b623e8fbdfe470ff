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

from helpers import oracle
from helpers.fitted_models import oracle_of

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
    def R(self) -> Array:  # noqa: N802
        return self.correlation(self.at.rho)

    @cached_property
    def V(self) -> Array:  # noqa: N802
        out = np.zeros((self.n, self.n))
        for part in oracle._parts(self.problem, self.at):
            out[np.ix_(part.rows, part.rows)] = part.V
        return out

    @cached_property
    def P(self) -> Array:  # noqa: N802
        inverse = np.linalg.inv(self.V)
        vx = inverse @ self.problem.X
        return inverse - vx @ np.linalg.solve(self.problem.X.T @ vx, vx.T)

    @cached_property
    def W(self) -> Array:  # noqa: N802
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
                    if i != j and fit.fit.data.re_cov == "diagonal":
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


@dataclass(frozen=True)
class StructureModel(DenseModel):
    """
    A fit of any residual structure: R is that of the structure, cell by cell.

    The rest (V, P, whitening, scores) is written out as before.
    """

    def residual(self, u: Array) -> Array:
        """R of all rows at unconstrained parameters, in the caller's order."""
        grouped, structure = self.fit.fit.data.grouped, self.fit.structure
        gaps = grouped.gaps
        marks = np.empty((len(gaps), 0)) if grouped.marks is None else grouped.marks
        series = np.cumsum(gaps == 0.0)
        positions = np.column_stack([np.cumsum(gaps), marks])
        out = np.eye(self.n)
        later, earlier = np.tril_indices(self.n, -1)
        same = series[later] == series[earlier]
        later, earlier = later[same], earlier[same]
        cells = structure.cells(positions[earlier], positions[later])
        out[later, earlier] = structure.cell_values(cells, u).value
        out[earlier, later] = out[later, earlier]
        logs = structure.log_sd(positions, u)
        if logs is not None:
            sd = np.exp(np.broadcast_to(logs.value, self.n))
            out = out * np.outer(sd, sd)
        order = np.arange(self.n) if grouped.order is None else grouped.order
        back = np.argsort(order)
        return out[np.ix_(back, back)]

    @cached_property
    def R(self) -> Array:  # noqa: N802
        return self.residual(np.asarray(self.fit.fit.u))

    @cached_property
    def V(self) -> Array:  # noqa: N802
        z, psi = self.fit.fit.data.random_design, np.asarray(self.fit.cov_re)
        block = self.problem.groups[:, None] == self.problem.groups
        out = self.at.sigma2 * self.R
        return out + np.where(block, z @ psi @ z.T, 0.0) if z.shape[1] else out

    @cached_property
    def W(self) -> Array:  # noqa: N802
        grouped = self.fit.fit.data.grouped
        order = np.arange(self.n) if grouped.order is None else grouped.order
        root = np.linalg.cholesky(self.R[np.ix_(order, order)])
        out = np.zeros((self.n, self.n))
        out[np.ix_(order, order)] = np.linalg.inv(root)
        return out

    @property
    def sd(self) -> Array:
        """Standard deviations of the rows relative to sigma, (n,)."""
        return np.sqrt(np.diag(self.R))

    def nuisance(self) -> list[Array]:
        sigma2, u = self.at.sigma2, np.asarray(self.fit.fit.u)
        out = [self.V / sigma2]
        z = self.fit.fit.data.random_design
        block = self.problem.groups[:, None] == self.problem.groups
        for i in range(z.shape[1]):
            for j in range(i + 1):
                d = np.zeros((z.shape[1],) * 2)
                d[i, j] = d[j, i] = 1.0
                out.append(np.where(block, z @ d @ z.T, 0.0))
        for k in range(len(u)):
            h = np.zeros(len(u))
            h[k] = 1e-5
            change = self.residual(u + h) - self.residual(u - h)
            out.append(sigma2 * change / 2e-5)
        return out
