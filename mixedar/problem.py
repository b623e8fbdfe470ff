"""
A likelihood problem: compressed data, a structure, and parameters.

Inside, the designs are rotated and scaled so that ``Z'Z / N`` and ``X'X / N``
are identities and the response has unit length: shifts and scales of time,
of covariates and of the response then change nothing but rounding.  This is
where the optimiser's vector ``theta`` = (free entries of ``Lambda``,
unconstrained residual parameters) is turned into the user's parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from mixedar.compress import ClusterRows
from mixedar.covariance import RandomCovariance
from mixedar.linalg import r_factor
from mixedar.likelihood import Evaluation, cluster_sums, profile
from mixedar.moments import moment_blocks
from mixedar.residual import ResidualStructure

__all__ = ["Estimate", "LikelihoodProblem", "ThetaEvaluation", "random_effects_map"]

FloatArray = NDArray[np.float64]

# Relative to the residual variance: a random-effects direction that adds less
# is zero for every purpose.
_SINGULAR = 1e-8


@dataclass(frozen=True)
class ThetaEvaluation:
    """
    Log-likelihood in the optimiser's coordinates.

    Attributes
    ----------
    llf : float
    gradient : ndarray, shape (k,)
    hessian : ndarray, shape (k, k)
        The derivatives have length 0 if they were not asked for.
    """

    llf: float
    gradient: FloatArray
    hessian: FloatArray


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
    cov_theta : ndarray, shape (k_cov + k_params + 1,) squared
        Covariance of `cov_values`, `residual_params` and `scale` from the
        observed information; NaN where it does not exist.
    singular : bool
        Whether the random-effects covariance is singular.
    residual_at_boundary : bool
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
    singular: bool
    residual_at_boundary: bool


class LikelihoodProblem:
    """
    Everything that does not change while parameters do.

    Parameters
    ----------
    rows : ClusterRows
        Compressed rows on the user's scale.
    n : int
        Number of observations behind them.
    structure : ResidualStructure
    covariance : RandomCovariance
        Fixed entries of ``Lambda`` are on the user's scale.
    reml : bool
    """

    def __init__(
        self,
        rows: ClusterRows,
        n: int,
        structure: ResidualStructure,
        covariance: RandomCovariance,
        *,
        reml: bool,
    ) -> None:
        self.n = n
        self.reml = reml
        self.structure = structure.bind(rows.gaps[rows.gaps > 0.0])
        self.w_map = _orthonormal_map(rows.w, n)
        self.z_map = random_effects_map(rows, n, covariance)
        fixed = covariance.fixed.copy()
        block_map = self.z_map[: covariance.k_re, : covariance.k_re]
        count = len(covariance.tril[0])
        # a mask that is not all free comes with a diagonal map
        fixed[:count] /= np.diagonal(block_map)[covariance.tril[0]]
        firsts = covariance.k_re + np.cumsum((0, *covariance.vc_sizes))[:-1]
        fixed[count:] /= np.diagonal(self.z_map)[firsts.astype(int)]
        self.covariance = replace(covariance, fixed=fixed)
        self.k_cov_free = int(self.covariance.is_free.sum())
        self.blocks = moment_blocks(
            rows.transformed(self.z_map, self.w_map), self.structure
        )
        # log|X'V^-1 X| changes by the map's determinant
        p = len(self.w_map) - 1
        self.shift = (
            float(np.log(np.abs(np.diagonal(self.w_map)[:p])).sum()) if reml else 0.0
        )
        df = n - p if reml else n
        self.shift += df * float(np.log(abs(self.w_map[p, p])))

    @property
    def k_theta(self) -> int:
        return self.k_cov_free + self.structure.k_free

    def split(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Free entries of ``Lambda``, and unconstrained residual parameters."""
        return theta[: self.k_cov_free], theta[self.k_cov_free :]

    def profile_at(self, theta: FloatArray, *, derivatives: bool) -> Evaluation:
        """Profiled likelihood in internal coordinates; `llf` is the user's."""
        lam, u = self.split(theta)
        sums = cluster_sums(
            self.blocks,
            self.covariance,
            self.covariance.factor(lam),
            u,
            derivatives=derivatives,
        )
        result = profile(sums, self.n, reml=self.reml)
        return replace(result, llf=result.llf + self.shift)

    def evaluate(self, theta: FloatArray, *, derivatives: bool) -> ThetaEvaluation:
        """
        Log-likelihood, gradient and Hessian by `theta`.

        Parameters
        ----------
        theta : ndarray, shape (k_theta,)
        derivatives : bool

        Returns
        -------
        ThetaEvaluation
        """
        point = self.profile_at(theta, derivatives=derivatives)
        if not derivatives:
            return ThetaEvaluation(point.llf, np.empty(0), np.empty((0, 0)))
        if self.k_theta == 0:
            return ThetaEvaluation(point.llf, np.empty(0), np.empty((0, 0)))
        jacobian, curvature = self._chain(theta, point.gradient)
        return ThetaEvaluation(
            point.llf,
            jacobian.T @ point.gradient,
            jacobian.T @ point.hessian @ jacobian + curvature,
        )

    def _chain(
        self, theta: FloatArray, gradient: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Jacobian of ``v`` by theta and the curvature term of the chain rule."""
        lam, u = self.split(theta)
        k_cov, k_free, k_u = self.covariance.k_cov, self.k_cov_free, len(u)
        jacobian = np.zeros((k_cov + k_u, k_free + k_u))
        jacobian[:k_cov, :k_free] = self.covariance.jacobian(lam)
        jacobian[k_cov:, k_free:] = np.eye(k_u)
        curvature = np.zeros((k_free + k_u, k_free + k_u))
        curvature[:k_free, :k_free] = self.covariance.curvature(gradient[:k_cov])
        return jacobian, curvature

    def inner_beta_map(self) -> FloatArray:
        """Derivative of the internal fixed effects by the user's, shape (p, p)."""
        p = len(self.w_map) - 1
        return np.linalg.inv(self.w_map[:p, :p]) * self.w_map[p, p]

    def inner_beta(self, beta: FloatArray) -> FloatArray:
        """
        Fixed effects in internal coordinates.

        Parameters
        ----------
        beta : ndarray, shape (p,)
            On the user's scale.

        Returns
        -------
        ndarray, shape (p,)
        """
        p = len(self.w_map) - 1
        combined = np.append(-beta, 1.0) * self.w_map[p, p]
        return -solve_triangular(self.w_map, combined)[:p]

    def theta_from(self, factor: FloatArray, params: FloatArray) -> FloatArray:
        """
        Coordinates of a point given on the user's scale.

        Parameters
        ----------
        factor : ndarray, shape (k_cov,)
            Entries of the user's ``Lambda`` (lower triangle row by row, then
            standard deviations of components, relative to the residual's).
        params : ndarray, shape (k_params,)
            Residual parameters.

        Returns
        -------
        ndarray, shape (k_theta,)
        """
        cov = self.covariance
        count = len(cov.tril[0])
        block = np.zeros((cov.k_re, cov.k_re))
        block[cov.tril] = factor[:count]
        inner = np.linalg.solve(self.z_map[: cov.k_re, : cov.k_re], block)
        if np.abs(np.triu(inner, 1)).max(initial=0.0) > 0.0:
            # QR of the transpose makes the rotated factor triangular again
            inner = np.linalg.qr(inner.T, mode="r").T
        firsts = (cov.k_re + np.cumsum((0, *cov.vc_sizes))[:-1]).astype(int)
        entries = np.concatenate(
            [inner[cov.tril], factor[count:] / np.diagonal(self.z_map)[firsts]]
        )
        return np.concatenate(
            [entries[cov.is_free], self.structure.to_unconstrained(params)]
        )

    def estimate(self, theta: FloatArray) -> Estimate:
        """
        The user's parameters and their covariance at a point.

        Parameters
        ----------
        theta : ndarray, shape (k_theta,)

        Returns
        -------
        Estimate
        """
        point = self.profile_at(theta, derivatives=True)
        lam, u = self.split(theta)
        cov = self.covariance
        w_map, p = self.w_map, len(self.w_map) - 1
        # W map = [X y] w_map:  y = X beta  <=>  w_map [-beta_int; 1] ~ [-beta; 1]
        combined = w_map @ np.append(-point.beta, 1.0)
        beta = -combined[:p] / combined[p]
        scale = point.scale / combined[p] ** 2
        cov_beta = w_map[:p, :p] @ point.sxx_inverse @ w_map[:p, :p].T * scale
        inner = cov.factor(lam)
        outer = self.z_map @ inner
        psi = outer @ outer.T
        params = self.structure.from_unconstrained(u)
        spectrum = np.linalg.eigvalsh(inner @ inner.T) if cov.order else np.ones(1)
        singular = bool(spectrum.min() < _SINGULAR)
        to_user = self.value_map()
        relative = to_user @ cov.values(lam)
        cov_theta = self._covariance_of_estimates(
            theta, point, scale, to_user, relative, u
        )
        cov_theta = (cov_theta + cov_theta.T) / 2.0
        if singular:
            k = self.covariance.k_cov
            cov_theta[:k] = np.nan
            cov_theta[:, :k] = np.nan
        return Estimate(
            theta=theta,
            llf=point.llf,
            beta=beta,
            cov_beta=(cov_beta + cov_beta.T) / 2.0,
            scale=scale,
            psi=psi,
            cov_values=scale * relative,
            residual_params=params,
            cov_theta=cov_theta,
            singular=singular,
            residual_at_boundary=self.structure.at_boundary(params)
            if self.structure.k_free
            else False,
        )

    def value_map(self) -> FloatArray:
        """Linear map from internal to user's entries of ``Psi``, both relative."""
        cov = self.covariance
        rows, columns = cov.tril
        count = len(rows)
        block = self.z_map[: cov.k_re, : cov.k_re]
        out = np.zeros((cov.k_cov, cov.k_cov))
        for k in range(count):
            image = np.outer(block[:, rows[k]], block[:, columns[k]])
            if rows[k] != columns[k]:
                image = image + image.T
            out[:count, k] = image[rows, columns]
        firsts = (cov.k_re + np.cumsum((0, *cov.vc_sizes))[:-1]).astype(int)
        vc = np.arange(count, cov.k_cov)
        out[vc, vc] = np.diagonal(self.z_map)[firsts] ** 2
        return out

    def _covariance_of_estimates(
        self,
        theta: FloatArray,
        point: Evaluation,
        scale: float,
        to_user: FloatArray,
        relative: FloatArray,
        u: FloatArray,
    ) -> FloatArray:
        """Inverse observed information, mapped to the user's parameters."""
        k_cov, k_params = self.covariance.k_cov, self.structure.k_params
        p = len(self.w_map) - 1
        df = self.n - p if self.reml else self.n
        jacobian, curvature = self._chain(theta, point.gradient)
        # information of (theta, log sigma2): the residual variance is no
        # longer profiled out; rss_gradient / scale = d2(-llf) / dv dlog(sigma2)
        slope = jacobian.T @ (point.rss_gradient / point.scale)
        k = len(theta)
        information = np.empty((k + 1, k + 1))
        information[:k, :k] = -(jacobian.T @ point.hessian @ jacobian + curvature)
        information[:k, :k] += np.outer(slope, slope) / (2.0 * df)
        information[:k, k] = information[k, :k] = -0.5 * slope
        information[k, k] = 0.5 * df
        to_params = np.zeros((k_cov + k_params + 1, k + 1))
        to_params[:k_cov, : self.k_cov_free] = (
            scale * to_user @ jacobian[:k_cov, : self.k_cov_free]
        )
        to_params[:k_cov, k] = scale * relative
        if self.structure.k_free:
            to_params[k_cov : k_cov + k_params, self.k_cov_free : k] = (
                self.structure.jacobian(u)
            )
        to_params[-1, k] = scale
        values, vectors = np.linalg.eigh(information)
        floor = 1e-12 * max(values.max(), 1.0)
        if values.min() < -1e-6 * max(values.max(), 1.0):
            return np.full((k_cov + k_params + 1,) * 2, np.nan)
        # directions without information belong to a singular covariance;
        # whatever depends on them has no standard error
        keep = values > floor
        lost = np.abs(to_params @ vectors[:, ~keep]).max(axis=1, initial=0.0)
        root = to_params @ (vectors[:, keep] / np.sqrt(values[keep]))
        out = root @ root.T
        size = np.abs(to_params).max(axis=1)
        undefined = lost > 1e-6 * np.where(size > 0.0, size, 1.0)
        out[undefined] = np.nan
        out[:, undefined] = np.nan
        return out


def _orthonormal_map(w: FloatArray, n: int) -> FloatArray:
    """Upper triangular map after which ``W'W = n I``."""
    factor = r_factor(w)
    return solve_triangular(factor, np.eye(w.shape[1])) * np.sqrt(n)


def random_effects_map(rows: ClusterRows, n: int, covariance: RandomCovariance) -> FloatArray:
    """
    Map after which the random-effects design has unit mean squares.

    Parameters
    ----------
    rows : ClusterRows
    n : int
        Number of observations.
    covariance : RandomCovariance
        If some entries are fixed the map is diagonal, else upper triangular.

    Returns
    -------
    ndarray, shape (q, q)
    """
    q, k_re = covariance.order, covariance.k_re
    out = np.eye(q)
    if q == 0:
        return out
    row_weights = np.repeat(rows.weights, np.diff(rows.offsets))
    used = row_weights > 0.0
    root_weights = np.sqrt(row_weights[used])
    if k_re:
        block = rows.z[used, :k_re] * root_weights[:, None]
        if covariance.is_free[: len(covariance.tril[0])].all():
            factor = r_factor(block)
            out[:k_re, :k_re] = solve_triangular(factor, np.eye(k_re)) * np.sqrt(n)
        else:
            length = np.sqrt((block**2).sum(axis=0) / n)
            out[:k_re, :k_re] = np.diag(1.0 / length)
    first = k_re
    for size in covariance.vc_sizes:
        columns = rows.z[used, first : first + size]
        mean_square = float((columns**2).sum(axis=1) @ root_weights**2) / n
        scale = 1.0 / np.sqrt(mean_square) if mean_square > 0.0 else 1.0
        out[range(first, first + size), range(first, first + size)] = scale
        first += size
    return out
