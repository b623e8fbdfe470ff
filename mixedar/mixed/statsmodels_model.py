"""
What statsmodels expects of a mixed model: likelihoods, lists by group, penalties.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams
from statsmodels.tools.rng_qrng import check_random_state

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import check_lengths, float_array
from mixedar.data.designs import matrix_rows
from mixedar.data.formula.components import GroupRows
from mixedar.data.model_data import ModelData
from mixedar.engine.blocks.base import ClusterSums
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.likelihood import cluster_sums, joint, profile
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.residuals import is_independent
from mixedar.exceptions import LengthError, NotComputedError, UnsupportedError
from mixedar.fit.responses import Responses
from mixedar.numeric.autodiff import inverse_derivatives
from mixedar.residual import ResidualStructure
from mixedar.summary import NamedInALine

#: Parameters as statsmodels packs them, or as it holds them.
Packed: TypeAlias = ArrayLike | MixedLMParams


class Unpacked(NamedTuple):
    """Parameters on the scale of the residual variance."""

    fe_params: FloatArray
    cov_re: FloatArray
    vcomp: FloatArray
    residual: FloatArray


class ParentModel(MixedLM):
    """
    MixedLM with residual structures, whose lists by group are made on demand.

    The parent's constructor is not called.
    """

    residual: ResidualStructure
    arrays: ModelData
    codes: IntArray

    def loglike(self, params: Packed, profile_fe: bool = True) -> float:
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

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> bool(model.loglike(fit.params_object) <= fit.llf + 1e-6)
        True
        """
        self.check_held(rows=False)
        point = self.point(params, has_fe=False)
        if self._penalised:
            return float(super().loglike(params, profile_fe))
        problem, sums = self._sums(point, derivatives=False)
        if profile_fe:
            return profile(sums, self.nobs, reml=self.reml, shift=problem.shift).llf
        beta, offset = problem.inner_beta(point.fe_params), problem.shift
        return joint(sums, beta, self.nobs, reml=self.reml)[0] + offset

    def score(self, params: Packed, profile_fe: bool = True) -> FloatArray:
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

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> model.score(fit.params_object).shape
        (2,)
        """
        self.check_held(rows=False)
        point = self.point(params, has_fe=not profile_fe)
        if self._penalised or self._is_parents:
            if not profile_fe:  # the parent reads packed fixed effects as covariances
                params = MixedLMParams.from_components(*point[:2], vcomp=point.vcomp)
            return np.asarray(super().score(params, profile_fe))
        gradient, _ = self._derivatives(point, profile_fe)
        if self.use_sqrt:
            layout = self._unrestricted
            entries = layout.root_entries(point.cov_re, point.vcomp)
            p = 0 if profile_fe else self.k_fe
            here = slice(p, p + layout.k_cov)
            gradient[here] = layout.jet(entries).first @ gradient[here]
        return gradient

    def hessian(self, params: Packed) -> tuple[FloatArray, bool]:
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

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> model.hessian(fit.params_object)[0].shape
        (4, 4)
        """
        self.check_held(rows=False)
        point = self.point(params, has_fe=True, use_sqrt=False)
        if self._penalised or self._is_parents:
            return super().hessian(params)
        _, hessian = self._derivatives(point, profile_fe=False)
        values = np.concatenate([np.linalg.eigvalsh(point.cov_re), point.vcomp])
        return hessian, bool((values < 1e-10).any())

    def predict(self, params: Packed, exog: Any = None) -> FloatArray:
        """
        Means ``X b`` for some parameters, as in statsmodels.

        Parameters
        ----------
        params : MixedLMParams, Series or array_like
            Fixed effects first; labelled ones are matched by name.
        exog : DataFrame or array_like, optional
            Design, columns with names matched by them; the model's by default.

        Returns
        -------
        ndarray

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> model.predict(fit.params)[:2].round(1).tolist()
        [22.0, 23.4]
        """
        if isinstance(params, pd.Series):
            params = matrix_rows(params, self.exog_names)[0][0]
        if exog is not None:
            exog = matrix_rows(exog, self.exog_names)[0]
        beta = params.fe_params if isinstance(params, MixedLMParams) else params
        beta = float_array(beta, "params")
        packed = self.k_fe + self.k_re2 + self.k_vc
        lengths = self.k_fe, packed, packed + self.residual.k_params
        if beta.shape not in ((k,) for k in lengths):
            raise LengthError(
                f"params has the shape {beta.shape}; pass the {self.k_fe} fixed "
                "effects, or all parameters"
            )
        return np.asarray(super().predict(beta, exog))

    def check_held(self, rows: bool = True) -> None:
        """Raise if the data were removed, or rows are needed that were not kept."""
        if self.arrays is None:
            raise NotComputedError(
                "the data were removed from this model by remove_data(); build it again"
            )
        if rows:
            self.arrays.endog  # noqa: B018  or why it is not there

    @property
    def _penalised(self) -> bool:
        return self.fe_pen is not None or self.cov_pen is not None

    @property
    def _is_parents(self) -> bool:
        """Whether this is a model that statsmodels has too."""
        plain = is_independent(self.residual) and not self.arrays.terms
        plain = plain and not self.arrays.layout().compound and self.arrays.has_rows
        return plain and self.scale is None and self.arrays.offset is None

    def point(
        self, params: Packed, *, has_fe: bool, use_sqrt: bool | None = None
    ) -> Unpacked:
        """Parameters as statsmodels has them, taken apart."""
        if self.arrays.terms:
            raise UnsupportedError(
                "packed parameters of statsmodels hold the random effects of one "
                "factor only; this model has several"
            )
        k_residual = self.residual.k_params
        if isinstance(params, MixedLMParams):
            residual = getattr(params, "residual_params", None)
            if residual is None:
                residual = self.residual_default()
            vcomp = params.vcomp if self.k_vc else np.empty(0)
            point = Unpacked(params.fe_params, params.cov_re, vcomp, residual)
            shapes = (self.k_fe,), (self.k_re, self.k_re), (self.k_vc,), (k_residual,)
            for name, part, shape in zip(point._fields, point, shapes, strict=True):
                # profiled fixed effects need not be there
                profiled = name == "fe_params" and not has_fe and not np.size(part)
                if np.shape(part) != shape and not profiled:
                    raise LengthError(
                        f"{name} of the parameters has the shape {np.shape(part)}; the "
                        f"model needs {shape}"
                    )
            self.check_compound(params)
            return point
        values = float_array(params, "params")
        k_cov = self.k_re2 + self.k_vc
        k = k_cov + (self.k_fe if has_fe else 0)
        if values.shape not in ((k,), (k + k_residual,)):
            raise LengthError(
                f"{values.size} packed parameters, but the model has {k} and "
                f"{k_residual} residual parameters"
            )
        sqrt = self.use_sqrt if use_sqrt is None else use_sqrt
        packed = self.unpacked(values[:k], sqrt, has_fe)
        residual = values[k:] if len(values) > k else self.residual_default()
        return Unpacked(packed.fe_params, packed.cov_re, packed.vcomp, residual)

    def unpacked(self, values: FloatArray, sqrt: bool, has_fe: bool) -> MixedLMParams:
        """Fixed effects, if they are there, covariances and components of a vector."""
        layout = self._unrestricted
        if not layout.compound:
            return MixedLMParams.from_packed(values, self.k_fe, self.k_re, sqrt, has_fe)
        p = self.k_fe if has_fe else 0
        entries = layout.values(values[p:]) if sqrt else values[p:]
        return MixedLMParams.from_components(
            values[:p],
            cov_re=layout.matrix(entries)[: self.k_re, : self.k_re],
            vcomp=entries[self.k_re2 :],
        )

    def check_compound(self, params: MixedLMParams) -> None:
        """Raise if covariances differ that are one parameter of the model."""
        layout = self._unrestricted
        if not layout.compound:
            return
        own = np.asarray(params.cov_re, dtype=np.float64)
        same = layout.matrix(np.append([own[0, 0], own[1, 0]], np.zeros(self.k_vc)))
        if not np.allclose(same[: self.k_re, : self.k_re], own, rtol=1e-8):
            raise UnsupportedError(
                "cov_re of the parameters has to have one variance and one covariance, "
                "as the random effects of this model (re_cov='compound')"
            )

    def residual_default(self) -> FloatArray:
        """The residual parameters of the structure's own start."""
        return self.residual.from_unconstrained(self.residual.start_grid()[0])

    def _sums(
        self, point: Unpacked, *, derivatives: bool
    ) -> tuple[LikelihoodProblem, ClusterSums]:
        if self.scale is not None:
            raise UnsupportedError(
                "log-likelihoods of packed parameters estimate the residual variance; "
                "that of this model is known (scale=)"
            )
        given = self.arrays.compressed, self.nobs, self.residual, self._unrestricted
        problem = LikelihoodProblem(*given, reml=self.reml)
        theta = problem.theta_from(
            self._unrestricted.root_entries(point.cov_re, point.vcomp), point.residual
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
        self, point: Unpacked, profile_fe: bool
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

    @property
    def _unrestricted(self) -> RandomCovariance:
        """The layout of packed parameters, which hold every covariance."""
        return replace(
            self.arrays.layout(), fixed=np.full(self.k_re2 + self.k_vc, np.nan)
        )

    def held(self, free: MixedLMParams, start: MixedLMParams) -> RandomCovariance:
        """The layout with what is not free held where it starts."""
        if self.arrays.layout().compound:
            raise UnsupportedError(
                "free= says which single covariances are estimated, and the random "
                "effects of this model have one for all (re_cov='compound'): leave "
                "out one or the other"
            )
        held = free.get_packed(use_sqrt=False, has_fe=False) == 0.0
        values = start.get_packed(use_sqrt=True, has_fe=False)
        return self.arrays.layout(np.where(held, values, np.nan))

    @cached_property
    def rows_by_group(self) -> list[IntArray]:
        """The caller's rows of each group."""
        return GroupRows(self.codes, self.group_labels).rows

    @cached_property
    def row_indices(self) -> dict[Any, list[int]]:
        """Rows of each group in the caller's order."""
        pairs = zip(self.group_labels, self.rows_by_group, strict=True)
        return {label: rows.tolist() for label, rows in pairs}

    @cached_property
    def endog_li(self) -> list[FloatArray] | None:
        """Response of each group."""
        return self.group_list(self.endog)

    @cached_property
    def exog_li(self) -> list[FloatArray] | None:
        """Fixed-effects design of each group."""
        return self.group_list(self.exog)

    @cached_property
    def exog_re_li(self) -> list[FloatArray] | None:
        """Random-effects design of each group."""
        return self.group_list(self.exog_re)

    @cached_property
    def exog_re2_li(self) -> list[FloatArray] | None:
        """Cross-product of each group's random-effects design."""
        if self.exog_re_li is None:
            return None
        return [x.T @ x for x in self.exog_re_li]

    @cached_property
    def _aex_r(self) -> list[FloatArray | None]:
        return [self._augment_exog(i) for i in range(self.n_groups)]

    @cached_property
    def _aex_r2(self) -> list[FloatArray | None]:
        return [None if a is None else a.T @ a for a in self._aex_r]

    @cached_property
    def _lin(self) -> Any:
        return self._reparam()[0]

    @cached_property
    def _quad(self) -> Any:
        return self._reparam()[1]

    def group_list(self, array: FloatArray | None) -> list[FloatArray] | None:
        """Split rows by group; None stays None."""
        if array is None:
            return None
        return [np.array(array[rows]) for rows in self.rows_by_group]

    def without_lists(self) -> dict[str, Any]:
        """The instance's dictionary less everything that is made on demand."""
        lazy = {
            name
            for name, value in vars(ParentModel).items()
            if isinstance(value, cached_property)
        }
        lazy.add("_endex_li")
        return {k: v for k, v in self.__dict__.items() if k not in lazy}

    def fit_regularized(self, *args: Any, **kwargs: Any) -> Any:
        """
        Penalised fit by statsmodels; independent residuals only.

        Parameters
        ----------
        *args, **kwargs
            As of ``statsmodels.regression.mixed_linear_model.MixedLM``.

        Returns
        -------
        statsmodels.regression.mixed_linear_model.MixedLMResults

        Raises
        ------
        UnsupportedError
            For correlated residuals.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject")
        >>> model.fit_regularized(alpha=0.1).params.shape
        (3,)
        """
        self._refuse_penalty("fit_regularized")
        if isinstance(self.data.orig_exog, pd.DataFrame):
            # the parent indexes labelled coefficients by position
            plain = self._without_labels()
            return super(ParentModel, plain).fit_regularized(*args, **kwargs)
        return super().fit_regularized(*args, **kwargs)

    def _without_labels(self) -> ParentModel:
        """The same model from plain arrays, with the names of this one."""
        plain = type(self)(
            self.endog,
            self.exog,
            self.codes,
            exog_re=self.exog_re,
            exog_vc=self.exog_vc if self.k_vc else None,
            residual=self.residual,
            use_sqrt=self.use_sqrt,
        )
        plain.group_labels = self.group_labels
        plain.data.param_names = self.data.param_names
        plain.data.exog_re_names = self.data.exog_re_names
        plain.data.exog_re_names_full = self.data.exog_re_names_full
        return plain

    def _refuse_penalty(self, what: str) -> None:
        if self._is_parents:
            return
        ignored = f"the {self.residual.label} residuals of this model"
        if self.arrays.layout().compound:
            ignored = "the one covariance of the random effects (re_cov='compound')"
        if self.arrays.offset is not None:
            ignored = "the offset of this model"
        if self.scale is not None:
            ignored = "the known residual variance of this model"
        raise UnsupportedError(
            f"{what}: penalised likelihoods are available for residual='independent' "
            f"only; statsmodels' penalised fit ignores {ignored}"
        )


class MixedDistribution(NamedInALine):
    """
    Distribution of the response of a mixed model.

    Parameters
    ----------
    model : MixedLMAR
    params : array_like
        Fixed effects; lower triangle of the random-effects covariance and
        variance components, divided by `scale`; residual parameters, which
        may be left out if they are fixed.
    scale : float
        Residual variance.
    exog : array_like, shape (n, p), or None
        Fixed-effects design; the model's by default.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> found = model.get_distribution(fit.params, fit.scale)
    >>> found.cov_re.shape
    (1, 1)
    """

    def __init__(
        self,
        model: ParentModel,
        params: ArrayLike,
        scale: float,
        exog: ArrayLike | None,
    ) -> None:
        model.check_held()
        values = float_array(params, "params")
        k, r = model.k_fe + model.k_re2 + model.k_vc, model.residual
        if values.shape != (k + r.k_params,) and (values.shape != (k,) or r.k_free):
            raise LengthError(
                f"{values.size} packed parameters; the model has {k} and, after them, "
                f"{r.k_params} of the residuals ({', '.join(r.param_names)})"
            )
        if not (np.isfinite(values).all() and 0.0 < float(scale) < np.inf):
            raise UnsupportedError(
                f"parameters of a distribution are finite, and its scale is positive, "
                f"not {scale}"
            )
        point = model.point(values, has_fe=True, use_sqrt=False)
        self.model = model
        self.exog = model.exog
        if exog is not None:
            self.exog = matrix_rows(exog, model.exog_names)[0]
        check_lengths(model.nobs, exog=self.exog)
        self.fe_params = point.fe_params
        self.cov_re, self.vcomp = scale * point.cov_re, scale * point.vcomp
        self.scale, self.residual_params = scale, point.residual

    def __repr__(self) -> str:
        return f"<MixedDistribution: {self.model.nobs} rows, scale {self.scale:.4g}>"

    def rvs(self, n: object = None, rng: Any = None) -> FloatArray:
        """
        Draw one response.

        Parameters
        ----------
        n : object
            Not used; statsmodels' interface has it.
        rng : int, Generator or RandomState, optional

        Returns
        -------
        ndarray, shape (n,)
            In the model's row order.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> found = model.get_distribution(fit.params, fit.scale)
        >>> found.rvs(rng=1).shape
        (108,)
        """
        offset = self.model.arrays.offset
        responses = Responses(
            self.model.arrays,
            self.exog @ self.fe_params + (0.0 if offset is None else offset),
            self.cov_re,
            self.vcomp,
            self.scale,
            self.residual_params,
        )
        return responses.draw(check_random_state(rng))
