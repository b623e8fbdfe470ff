"""
Log-likelihood, score and Hessian in statsmodels' packed parameters.

Packed parameters are fixed effects (unless profiled), the lower triangle of
the random-effects covariance (or of its Cholesky factor) and the variance
components, both relative to the residual variance, and the residual
parameters last.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams

from mixedar.covariance import factor_entries
from mixedar.exceptions import LengthError
from mixedar.jets import inverse_derivatives
from mixedar.likelihood import ClusterSums, cluster_sums, joint, profile
from mixedar.problem import LikelihoodProblem

__all__ = ["PackedLikelihood"]

FloatArray = NDArray[np.float64]


class _Point(NamedTuple):
    fe_params: FloatArray
    cov_re: FloatArray
    vcomp: FloatArray
    residual: FloatArray


class PackedLikelihood(MixedLM):
    """The likelihood of MixedLM with residual structures."""

    def loglike(self, params: Any, profile_fe: bool = True) -> float:
        """
        Log-likelihood with the residual variance profiled out.

        Parameters
        ----------
        params : MixedLMParams or array_like
            Packed covariance parameters; residual parameters last.
        profile_fe : bool
            Replace fixed effects by their generalised least squares estimates.

        Returns
        -------
        float
        """
        if self._penalised:
            return float(super().loglike(params, profile_fe))
        point = self._point(params, has_fe=False)
        problem, sums = self._sums(point, derivatives=False)
        if profile_fe:
            return profile(sums, self.nobs, reml=self.reml, shift=problem.shift).llf
        beta, offset = problem.inner_beta(point.fe_params), problem.shift
        return joint(sums, beta, self.nobs, reml=self.reml)[0] + offset

    def score(self, params: Any, profile_fe: bool = True) -> FloatArray:
        """
        Gradient of :meth:`loglike` by the packed parameters.

        Parameters
        ----------
        params : MixedLMParams or array_like
        profile_fe : bool
            Leave the fixed effects out.

        Returns
        -------
        ndarray
        """
        if self._penalised or not self.residual.k_params:
            return np.asarray(super().score(params, profile_fe))
        point = self._point(params, has_fe=not profile_fe)
        gradient, _ = self._derivatives(point, profile_fe)
        if self.use_sqrt:
            entries = factor_entries(point.cov_re, point.vcomp)
            layout = self._layout(None, None)
            p = 0 if profile_fe else self.k_fe
            here = slice(p, p + layout.k_cov)
            gradient[here] = layout.jacobian(entries).T @ gradient[here]
        return gradient

    def hessian(self, params: Any) -> tuple[FloatArray, bool]:
        """
        Second derivatives of :meth:`loglike` by the packed parameters.

        Parameters
        ----------
        params : MixedLMParams or array_like
            Covariances themselves, not their Cholesky factor, and fixed effects.

        Returns
        -------
        hessian : ndarray
        singular : bool
            Whether the random-effects covariance is singular.
        """
        if self._penalised or not self.residual.k_params:
            return super().hessian(params)
        point = self._point(params, has_fe=True, use_sqrt=False)
        _, hessian = self._derivatives(point, profile_fe=False)
        values = np.concatenate([np.linalg.eigvalsh(point.cov_re), point.vcomp])
        return hessian, bool((values < 1e-10).any())

    @property
    def _penalised(self) -> bool:
        return self.fe_pen is not None or self.cov_pen is not None

    def _point(
        self, params: Any, *, has_fe: bool, use_sqrt: bool | None = None
    ) -> _Point:
        if isinstance(params, MixedLMParams):
            residual = getattr(params, "residual_params", None)
            if residual is None:
                residual = self._residual_default()
            vcomp = params.vcomp if self.k_vc else np.empty(0)
            return _Point(params.fe_params, params.cov_re, vcomp, residual)
        values = np.asarray(params, dtype=np.float64)
        k_cov = self.k_re2 + self.k_vc
        k = k_cov + (self.k_fe if has_fe else 0)
        k_residual = self.residual.k_params
        if len(values) not in (k, k + k_residual):
            raise LengthError(
                f"{len(values)} packed parameters, but the model has {k} and "
                f"{k_residual} residual parameters"
            )
        sqrt = self.use_sqrt if use_sqrt is None else use_sqrt
        packed = MixedLMParams.from_packed(
            values[:k], self.k_fe, self.k_re, sqrt, has_fe
        )
        residual = values[k:] if len(values) > k else self._residual_default()
        return _Point(packed.fe_params, packed.cov_re, packed.vcomp, residual)

    def _residual_default(self) -> FloatArray:
        """The residual parameters of the structure's own start."""
        return self.residual.from_unconstrained(self.residual.start_grid()[0])

    def _sums(
        self, point: _Point, *, derivatives: bool
    ) -> tuple[LikelihoodProblem, ClusterSums]:
        problem = LikelihoodProblem(
            self._rows,
            self.nobs,
            self.residual,
            self._layout(None, None),
            reml=self.reml,
        )
        theta = problem.theta_from(
            factor_entries(point.cov_re, point.vcomp), point.residual
        )
        _, u = problem.split(theta)
        sums = cluster_sums(
            problem.blocks,
            problem.covariance,
            problem.factor(theta),
            u,
            derivatives=derivatives,
        )
        return problem, sums

    def _derivatives(
        self, point: _Point, profile_fe: bool
    ) -> tuple[FloatArray, FloatArray]:
        """Gradient and Hessian by (fe, covariances, residual parameters)."""
        problem, sums = self._sums(point, derivatives=True)
        p = self.k_fe
        if profile_fe:
            result = profile(sums, self.nobs, reml=self.reml)
            gradient, hessian, p = result.gradient, result.hessian, 0
        else:
            beta = problem.inner_beta(point.fe_params)
            _, gradient, hessian = joint(sums, beta, self.nobs, reml=self.reml)
        # d(inner) / d(user), block by block
        to_user = problem.value_map()
        k_cov = len(to_user)
        change = np.zeros((len(gradient), len(gradient)))
        change[:p, :p] = problem.inner_beta_map() if p else 0.0
        change[p : p + k_cov, p : p + k_cov] = np.linalg.inv(to_user)
        u = problem.structure.to_unconstrained(point.residual)
        inverse, bend = inverse_derivatives(problem.structure.natural(u))
        k_inner, k_user = p + k_cov, p + k_cov + len(point.residual)
        wide = np.zeros((len(gradient), k_user))
        wide[:k_inner, :k_inner] = change[:k_inner, :k_inner]
        wide[k_inner:, k_inner:] = inverse
        hessian = wide.T @ hessian @ wide
        # curvature of u(params)
        hessian[k_inner:, k_inner:] += np.tensordot(gradient[k_inner:], bend, 1)
        return wide.T @ gradient, hessian
