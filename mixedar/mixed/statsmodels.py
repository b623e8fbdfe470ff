"""
statsmodels' data handler with a formula that survives pickling.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from statsmodels.base.data import PandasData
from statsmodels.base.wrapper import union_dicts
from statsmodels.regression.mixed_linear_model import (
    MixedLM,
    MixedLMParams,
    MixedLMResults,
    MixedLMResultsWrapper,
)
from statsmodels.tools.validation import string_like

from mixedar._types import FloatArray
from mixedar.data.formula import design_for
from mixedar.engine.blocks.base import ClusterSums
from mixedar.engine.covariance import factor_entries
from mixedar.engine.likelihood import cluster_sums, joint, profile
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.search import find_modes
from mixedar.exceptions import LengthError, NotComputedError, UnsupportedError
from mixedar.fit import Fit
from mixedar.inference.arguments import positions
from mixedar.numeric.autodiff import inverse_derivatives


class FormulaData(PandasData):
    """PandasData whose ``model_spec`` is built when statsmodels asks for it."""

    formula_spec: Any

    @classmethod
    def adopt(cls, data: PandasData, formula_spec: Any) -> None:
        """Turn a handler that statsmodels made into one of this class."""
        data.__class__ = cls
        data.formula_spec = formula_spec

    @property
    def model_spec(self) -> Any:
        """Patsy's DesignInfo or formulaic's ModelSpec."""
        return self.formula_spec.engine_spec

    @property
    def design_info(self) -> Any:
        """
        Builds designs of new rows: ``design_info(rows)`` is the pair (None, X).

        Older statsmodels' name for ``model_spec``.  marginaleffects calls it,
        and so gets the levels, the functions and the transforms with which the
        model was built.
        """
        return self._design

    def _design(self, rows: Any) -> tuple[None, Any]:
        if hasattr(rows, "to_pandas"):  # polars
            rows = rows.to_pandas()
        return None, self.formula_spec.matrix(rows)


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
            self.arrays.compressed,
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


class LazyGroupLists(MixedLM):
    """MixedLM whose per-group lists are lazy; the constructor is not called."""

    _codes: NDArray[np.intp]

    @cached_property
    def _rows_by_group(self) -> list[NDArray[np.intp]]:
        order = np.argsort(self._codes, kind="stable")
        counts = np.bincount(self._codes, minlength=self.n_groups)
        return np.split(order, np.cumsum(counts)[:-1])

    @cached_property
    def row_indices(self) -> dict[Any, list[int]]:
        """Rows of each group in the caller's order."""
        pairs = zip(self.group_labels, self._rows_by_group, strict=True)
        return {label: rows.tolist() for label, rows in pairs}

    @cached_property
    def endog_li(self) -> Any:
        """Response of each group."""
        return self.group_list(self.endog)

    @cached_property
    def exog_li(self) -> Any:
        """Fixed-effects design of each group."""
        return self.group_list(self.exog)

    @cached_property
    def exog_re_li(self) -> Any:
        """Random-effects design of each group."""
        return self.group_list(self.exog_re)

    @cached_property
    def exog_re2_li(self) -> Any:
        """Cross-product of each group's random-effects design."""
        if self.exog_re_li is None:
            return None
        return [x.T @ x for x in self.exog_re_li]

    @cached_property
    def _aex_r(self) -> Any:
        return [self._augment_exog(i) for i in range(self.n_groups)]

    @cached_property
    def _aex_r2(self) -> Any:
        return [None if a is None else a.T @ a for a in self._aex_r]

    @cached_property
    def _lin(self) -> Any:
        return self._reparam()[0]

    @cached_property
    def _quad(self) -> Any:
        return self._reparam()[1]

    def group_list(self, array: Any) -> Any:
        """Split rows by group; None stays None."""
        if array is None:
            return None
        return [np.array(array[rows]) for rows in self._rows_by_group]

    def _without_lists(self) -> dict[str, Any]:
        """The instance's dictionary less everything that is made on demand."""
        lazy = {
            name
            for name, value in vars(LazyGroupLists).items()
            if isinstance(value, cached_property)
        }
        lazy.add("_endex_li")
        return {k: v for k, v in self.__dict__.items() if k not in lazy}


def profile_variance(
    results: Any,
    re_ix: int | str,
    vtype: str,
    num_low: int,
    dist_low: float,
    num_high: int,
    dist_high: float,
    **fit_kwargs: Any,
) -> FloatArray:
    """
    Maximise the likelihood over all other parameters at fixed variance ratios.

    A grid of variances is divided by the residual variance; each ratio is
    held while everything else, the residual variance included, is estimated
    again.  Arguments as in ``MixedLMARResults.profile_re``.

    Returns
    -------
    ndarray, shape (num_low + num_high + 1, 2)
        The variance (ratio times the re-estimated residual variance) and the
        log-likelihood.

    Raises
    ------
    UnsupportedError
        If the grid would reach a variance of zero or less, or there is no such
        random effect.
    """
    vtype = string_like(vtype, "vtype", options=("re", "vc"), lower=False)
    model = results.model
    if model.endog is None:
        raise NotComputedError("the data were removed from this fit")
    k_re = model.k_re
    if vtype == "re":
        if not isinstance(re_ix, (int, np.integer)) or not 0 <= re_ix < k_re:
            raise UnsupportedError(
                f"re_ix={re_ix!r}: there are {k_re} random effects, counted from 0"
            )
        estimate = results.cov_re[re_ix, re_ix]
    else:
        if re_ix not in model.exog_vc.names:
            raise UnsupportedError(
                f"re_ix={re_ix!r}: the variance components are {model.exog_vc.names}"
            )
        component = model.exog_vc.names.index(re_ix)
        estimate = results.vcomp[component]
    if estimate - dist_low <= 0.0:
        raise UnsupportedError(
            "dist_low is too large and would result in a negative variance. Try a "
            f"smaller value than {estimate:.6g}."
        )
    grid = np.concatenate(
        [
            np.linspace(estimate - dist_low, estimate, num_low + 1),
            np.linspace(estimate, estimate + dist_high, num_high + 1)[1:],
        ]
    )
    order = np.arange(k_re)
    rows = model._rows
    if vtype == "re":
        # the first diagonal entry of a Cholesky factor is a standard deviation
        order[[0, int(re_ix)]] = order[[int(re_ix), 0]]
        columns = np.concatenate([order, np.arange(k_re, rows.z.shape[1])])
        rows = replace(rows, z=rows.z[:, columns])
        position = 0
    else:
        position = results.k_re2 + component
    layout = model._layout(results.freepat, results.params_object)
    unscaled = results.cov_re_unscaled[np.ix_(order, order)]
    start = factor_entries(unscaled, results.vcomp / results.scale)
    curve = []
    for variance in grid:
        fixed = layout.fixed.copy()
        fixed[position] = np.sqrt(variance / results.scale)
        problem = LikelihoodProblem(
            rows,
            model.nobs,
            model.residual,
            replace(layout, fixed=fixed),
            reml=results.reml,
        )
        theta = problem.theta_from(start, results.fit.residual_params)
        best = find_modes(problem, start=theta, **fit_kwargs)[0].estimate
        held = best.cov_values[0 if vtype == "re" else position]
        curve.append([held, best.llf])
    return np.asarray(curve)


class ParentResults(MixedLMResults):
    """What statsmodels' results offer of groups, predictions and variances."""

    fit: Fit
    # tables of the data's length: not pickled, made again when asked for
    _row_caches = ("random_effects", "random_effects_cov")

    @cached_property
    def random_effects(self) -> dict[Any, pd.Series]:
        """
        Conditional means of the random effects given the data, by group.

        One table of all groups, ``random_effects_frame()``, is much faster for
        many of them.
        """
        means = self.fit.effects.means
        if not self.k_vc:
            index = pd.Index(self.fit.data.random_names)
            return {
                label: pd.Series(row, index=index)
                for label, row in zip(self.fit.data.group_labels, means, strict=True)
            }
        out = {}
        for i, label in enumerate(self.fit.data.group_labels):
            columns, names = self.fit.data.effect_columns(i)
            out[label] = pd.Series(means[i, columns], index=names)
        return out

    @cached_property
    def random_effects_cov(self) -> dict[Any, pd.DataFrame]:
        """Conditional covariance of the random effects given the data, by group."""
        roots = self.fit.effects.roots
        out = {}
        for i, label in enumerate(self.fit.data.group_labels):
            columns, names = self.fit.data.effect_columns(i)
            root = roots[:, columns, i]
            out[label] = pd.DataFrame(self.scale * root.T @ root, names, names)
        return out

    def predict(
        self, exog: Any = None, transform: bool = True, *args: Any, **kwargs: Any
    ) -> Any:
        """
        Population means ``X beta``.

        Parameters
        ----------
        exog : DataFrame or array_like, optional
            New data for the model's formula, or a design matrix; the model's
            own rows by default.
        transform : bool
            Whether a model from a formula transforms `exog` by it.

        Returns
        -------
        Series or ndarray
            Series with the index of `exog` if that has one.
        """
        if exog is None:
            return pd.Series(self.fitted_marginal, index=self.fit.data.index)
        # a list has .index too, its method
        labelled = isinstance(exog, (pd.Series, pd.DataFrame))
        index = exog.index if labelled else None
        spec = getattr(self.model, "formula_spec", None)
        if spec is not None and transform:
            if not isinstance(exog, pd.DataFrame):
                exog = pd.DataFrame(exog)
                index = exog.index
            matrix, _ = design_for(spec, exog)
        else:
            matrix = np.asarray(exog, dtype=np.float64)
            if matrix.ndim == 1:
                matrix = (
                    matrix[None, :] if len(matrix) == self.k_fe else matrix[:, None]
                )
        if matrix.shape[1] != self.k_fe:
            raise LengthError(
                f"exog has {matrix.shape[1]} columns; the model has {self.k_fe} fixed "
                "effects"
            )
        values = matrix @ self.fe_params
        if index is None or len(index) != len(values):
            return values
        return pd.Series(values, index=index)

    def get_distribution(self, exog: Any = None) -> Any:
        """
        Distribution of the response at the estimates.

        Parameters
        ----------
        exog : array_like, shape (n, p), optional
            The model's by default.

        Returns
        -------
        MixedDistribution
            ``get_distribution().rvs(rng=1)`` simulates a response with random
            effects and correlated residuals.
        """
        params = np.concatenate(
            [
                self.fe_params,
                self.params[self.k_fe : self.k_fe + self.k_re2 + self.k_vc]
                / self.scale,
                self.fit.residual_params,
            ]
        )
        return self.model.get_distribution(params, self.scale, exog)

    def profile_re(
        self,
        re_ix: int | str,
        vtype: str,
        num_low: int = 5,
        dist_low: float = 1.0,
        num_high: int = 5,
        dist_high: float = 1.0,
        **fit_kwargs: Any,
    ) -> FloatArray:
        """
        Profile likelihood of a random-effects variance.

        Parameters
        ----------
        re_ix : int or str
            Index of the random effect, or name of the variance component.
        vtype : {"re", "vc"}
        num_low, num_high : int
            Points below and above the estimate.
        dist_low, dist_high : float
            How far to go below and above.
        **fit_kwargs
            Passed on to the search.

        Returns
        -------
        ndarray, shape (num_low + num_high + 1, 2)
            Variances and log-likelihoods.
        """
        return profile_variance(
            self, re_ix, vtype, num_low, dist_low, num_high, dist_high, **fit_kwargs
        )


class MixedLMARResultsWrapper(MixedLMResultsWrapper):
    """Attaches names and the caller's index to the results' arrays."""

    _attrs: ClassVar[dict[str, str]] = {"fitted_marginal": "rows"}
    _wrap_attrs = union_dicts(MixedLMResultsWrapper._wrap_attrs, _attrs)
    # the rows of an interval depend on `cols`, which the parent's wrapper ignores
    _wrap_methods: ClassVar[dict[str, Any]] = {
        name: how
        for name, how in MixedLMResultsWrapper._wrap_methods.items()
        if name != "conf_int"
    }

    def conf_int(self, alpha: float = 0.05, cols: Any = None, **kwargs: Any) -> Any:
        """Confidence intervals by name; see :meth:`WaldInference.conf_int`."""
        results = self._results
        values = results.conf_int(alpha, **kwargs)
        keep = slice(None) if cols is None else positions(cols, results.fit.names)
        if not isinstance(results.model.data, PandasData):
            return values[keep]
        return pd.DataFrame(values, index=results.fit.names).iloc[keep]
