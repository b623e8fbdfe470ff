"""
Results of a linear mixed model with correlated residuals.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from statsmodels.base import model as base
from statsmodels.base.wrapper import populate_wrapper
from statsmodels.regression.mixed_linear_model import MixedLMParams, MixedLMResults

from mixedar._types import FloatArray
from mixedar.engine.search import Optimum
from mixedar.exceptions import NoParameterError
from mixedar.fit import Fit
from mixedar.mixed.fitted import PredictedValues
from mixedar.mixed.methods import (
    GroupMethods,
    InferenceMethods,
    InfluenceMethods,
    PlotMethods,
    PredictionMethods,
    ResidualMethods,
)
from mixedar.mixed.statsmodels import MixedLMARResultsWrapper
from mixedar.mixed.tests import WaldInference

if TYPE_CHECKING:
    from mixedar.summary import ResultsSummary


class MixedLMARResults(
    PlotMethods,
    GroupMethods,
    InfluenceMethods,
    InferenceMethods,
    PredictionMethods,
    ResidualMethods,
    WaldInference,
    PredictedValues,
    MixedLMResults,
):
    """
    Estimates of a MixedLMAR model; a snapshot that no later fit changes.

    Attributes
    ----------
    params : ndarray, shape (k,)
        Fixed effects, lower triangle of `cov_re` row by row, variance
        components, residual parameters, all on the scale of the data.
    fe_params, bse_fe : ndarray, shape (p,)
        Fixed effects and their standard errors (under ML without nlme's factor
        ``sqrt(N / (N - p))``, which R's ``vcov`` does not have either).
    cov_re : ndarray, shape (q, q)
        Covariance of the random effects.
    vcomp : ndarray, shape (k_vc,)
        Variance components.
    scale : float
        Residual variance.
    bse_scale : float
        Its standard error from the observed information.
    residual_params : Series
        Parameters of the residual structure.
    rho : float
        The AR(1) or CAR(1) parameter.
    llf, aic, bic : float
        (Restricted) log-likelihood with all constants, and criteria as nlme
        computes them: BIC's number of observations is N - p under REML.
    df : Series
        Degrees of freedom of each fixed effect: containment, as nlme, unless
        :meth:`with_df` chose another method.
    df_resid : float
        Observations less fixed effects.
    modes : DataFrame
        All distinct maxima that were found, the best first.
    converged : bool
    at_boundary : bool
        Whether a variance is zero, a correlation one, or the residual
        parameter at the end of its range; `boundary_notes` says which.
    """

    model: Any

    def __init__(self, model: Any, fit: Fit, free: MixedLMParams | None) -> None:
        best = fit.estimate
        p, k_re2, k_vc = fit.k_fe, fit.k_re2, fit.k_vc
        params = np.concatenate([best.beta, best.cov_values, best.residual_params])
        k = len(params)
        cov = np.zeros((k, k))
        cov[:p, :p] = best.cov_beta
        cov[p:, p:] = best.cov_theta[:-1, :-1]
        held = fit.is_held
        cov[held] = cov[:, held] = 0.0
        base.LikelihoodModelResults.__init__(
            self,
            model,
            params,
            normalized_cov_params=cov / best.scale,
            scale=best.scale,
        )
        self.fit = fit
        self.use_t = True
        self.df_resid = float(fit.nobs - p)
        self.nobs = fit.nobs
        self.n_groups = fit.n_groups
        self.reml = fit.reml
        self.method = "REML" if fit.reml else "ML"
        self.k_fe, self.k_re, self.k_re2, self.k_vc = p, fit.k_re, k_re2, k_vc
        self.use_sqrt, self.cov_pen, self.freepat = model.use_sqrt, None, free
        self.hist: list[dict[str, Any]] | None = None
        self.converged = fit.converged
        self.fe_params = best.beta
        self.cov_re_unscaled, self.cov_re = fit.cov_re_unscaled, fit.cov_re
        self.vcomp = fit.vcomp
        self.bse_scale = fit.bse_scale
        self.structure = fit.structure
        packed = MixedLMParams.from_components(
            fe_params=best.beta,
            cov_re=self.cov_re_unscaled,
            vcomp=self.vcomp / best.scale,
        )
        packed.residual_params = best.residual_params
        self.params_object = packed

    # -- names of before, until every question reads the fit -----------------
    _names = property(lambda self: list(self.fit.names))
    _factor = property(lambda self: self.fit.factor)
    _z_map = property(lambda self: self.fit.z_map)
    _u = property(lambda self: self.fit.u)
    _theta = property(lambda self: self.fit.theta)
    _residual_values = property(lambda self: self.fit.residual_params)
    _singular = property(lambda self: self.fit.singular)
    _residual_at_boundary = property(lambda self: self.fit.residual_at_boundary)
    _effects = property(lambda self: self.fit.effects)
    _precision_derivatives = property(lambda self: self.fit.precision_derivatives)
    _sandwich = property(lambda self: self.fit.robust)
    _k_estimated = property(lambda self: self.fit.k_estimated)
    _unadjusted = property(lambda self: (self.fit.cov_beta, self.fit.df_containment))
    _df_fe = property(lambda self: self._df_values)
    _df_spec = property(lambda self: self.fit.df_method)
    _modes = property(
        lambda self: tuple((m.estimate, m.search.converged) for m in self.fit.modes)
    )
    _search = property(lambda self: self.fit.modes[0].search)
    _labels = property(
        lambda self: (
            self.fit.sizes.endog_name,
            self.structure.label,
            self.fit.sizes.time_unit,
        )
    )
    _group_sizes = property(
        lambda self: (
            self.fit.sizes.smallest,
            self.nobs / self.n_groups,
            self.fit.sizes.largest,
        )
    )

    def _effect_columns(self, group: int) -> Any:
        return self.fit.data.effect_columns(group)

    def _component_names(self, component: int, group: int) -> Any:
        return self.fit.data.component_labels(component, group)

    @property
    def _contrast_methods(self) -> Any:
        return self.fit.contrast_methods

    def _contrast_method(self, df: Any) -> Any:
        from mixedar.inference.df.methods import contrast_method

        return contrast_method(self.fit, df)

    def _copy_with_df(self, method: Any) -> Any:
        return self._with_tests(method, self.fit.robust)

    def _copy_with_sandwich(self, sandwich: Any, method: Any) -> Any:
        from mixedar.inference.df.sandwich import SandwichDF

        robust = None if sandwich is None else SandwichDF(sandwich)
        return self._with_tests(method, robust)

    # -------------------------------------------------------------------------

    @property
    def llf(self) -> float:
        """(Restricted) log-likelihood."""
        return self.fit.llf

    @property
    def df_modelwc(self) -> int:
        """Number of estimated parameters, the residual variance included."""
        return self.fit.k_estimated

    @cached_property
    def modes(self) -> pd.DataFrame:
        """All distinct maxima that were found, the best first."""
        return _modes_frame(self.fit)

    @property
    def aic(self) -> float:
        """Akaike's criterion, counting fixed effects and all free variances."""
        return 2.0 * (self.df_modelwc - self.llf)

    @property
    def bic(self) -> float:
        """Bayesian criterion with N - p observations under REML, as nlme."""
        n = self.nobs - self.k_fe if self.reml else self.nobs
        return float(np.log(n)) * self.df_modelwc - 2.0 * self.llf

    @property
    def residual_params(self) -> pd.Series:
        """Parameters of the residual structure."""
        return pd.Series(
            self.fit.residual_params,
            index=list(self.structure.param_names),
            dtype=float,
        )

    @property
    def rho(self) -> float:
        """
        Autoregressive parameter of the residuals.

        Raises
        ------
        NoParameterError
            If the residual structure has none; it is an ``AttributeError`` too.
        """
        if "rho" not in self.structure.param_names:
            raise NoParameterError(
                f"residuals are {self.structure.label}: there is no rho"
            )
        return float(self.residual_params["rho"])

    @property
    def bse_fe(self) -> FloatArray:
        """Standard errors of the fixed effects."""
        return np.sqrt(np.diag(self.cov_params()))[: self.k_fe]

    @property
    def bse_re(self) -> FloatArray:
        """Standard errors of covariance parameters, on the scale of the data."""
        k = self.k_fe + self.k_re2 + self.k_vc
        return self.bse[self.k_fe : k]

    @property
    def at_boundary(self) -> bool:
        """Whether the maximum lies on the edge of the parameter space."""
        return bool(self.fit.singular or self.fit.residual_at_boundary)

    @cached_property
    def boundary_notes(self) -> list[str]:
        """What exactly lies on the boundary, in words."""
        notes = []
        if self.fit.singular:
            notes.append(
                "The random effects covariance is singular: " + self._singular_part()
            )
        if self.fit.residual_at_boundary:
            values = ", ".join(
                f"{name} = {value:.6g}" for name, value in self.residual_params.items()
            )
            note = f"The residual parameters lie at the end of their range: {values}"
            if "rho" in self.structure.param_names and self.structure.uses_time:
                note += (
                    " for one unit of time (if that is much longer or shorter than "
                    "the gaps, count time in another)"
                )
            notes.append(note)
        return notes

    def _singular_part(self) -> str:
        names = self.fit.names[self.k_fe : self.k_fe + self.k_re2 + self.k_vc]
        inner = self.fit.factor @ self.fit.factor.T
        block = inner[: self.k_re, : self.k_re]
        diagonal = np.diag(self.cov_re)
        rows, columns = np.tril_indices(self.k_re)
        parts = []
        spread = np.diag(self.fit.z_map)[: self.k_re] ** 2
        relative = np.diag(self.cov_re_unscaled) / np.where(spread > 0, spread, 1.0)
        zero = [k for k in range(self.k_re) if relative[k] < 1e-8]
        for k in zero:
            label = names[int(np.flatnonzero((rows == k) & (columns == k))[0])]
            parts.append(f"the variance {label!r} is zero")
        for k, (i, j) in enumerate(zip(rows, columns, strict=True)):
            if i == j or i in zero or j in zero:
                continue
            correlation = self.cov_re[i, j] / np.sqrt(diagonal[i] * diagonal[j])
            if abs(correlation) > 1.0 - 1e-6:
                parts.append(f"the correlation in {names[k]!r} is {correlation:+.0f}")
        for k, value in enumerate(self.vcomp):
            if value < 1e-8 * self.scale:
                parts.append(f"the variance {names[self.k_re2 + k]!r} is zero")
        if not parts:
            rank = int((np.linalg.eigvalsh(block) > 1e-8).sum())
            parts.append(f"it has rank {rank} of {self.k_re}")
        return ", ".join(parts)

    def summary(
        self,
        yname: str | None = None,
        xname_fe: Sequence[str] | None = None,
        xname_re: Sequence[str] | None = None,
        title: str | None = None,
        alpha: float = 0.05,
        df: Any = None,
    ) -> ResultsSummary:
        """
        Tables of the fit.

        Parameters
        ----------
        yname : str, optional
            Name of the response.
        xname_fe, xname_re : sequence of str, optional
            Names of the fixed effects, and of the covariance parameters.
        title : str, optional
        alpha : float
            1 - coverage of the confidence intervals.
        df : str, float or DFMethod, optional
            Degrees of freedom, as in :meth:`with_df`; those of the results by
            default.

        Returns
        -------
        ResultsSummary
        """
        if df is not None:
            other = self._with_df(df)
            return other.summary(yname, xname_fe, xname_re, title, alpha)
        from mixedar.mixed.summary import summarize  # only when it is printed

        return summarize(self, yname, xname_fe, xname_re, title, alpha)

    def remove_data(self) -> None:
        """
        Drop all arrays of the data from this fit and its model.

        The summary keeps its numbers.  Other fits of the same model, and the
        model they hold, keep their data: this fit goes on with a bare copy.
        """
        self.std_residual_quantiles  # noqa: B018  the summary needs them
        self.boundary_notes  # noqa: B018
        self._forget_rows()
        self.fit = self.fit.without_data()
        bare = object.__new__(type(self.model))
        bare.__dict__ = dict(self.model._without_lists())
        bare.data = copy.copy(self.model.data)
        self.model = bare
        super().remove_data()

    def _forget_rows(self) -> None:
        for name in self._row_caches:
            self.__dict__.pop(name, None)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in self._row_caches}


def _modes_frame(fit: Fit) -> pd.DataFrame:
    def row(mode: Optimum) -> list[Any]:
        estimate = mode.estimate
        values = [*estimate.beta, *estimate.cov_values, *estimate.residual_params]
        boundary = estimate.singular or estimate.residual_at_boundary
        return [estimate.llf, *values, estimate.scale, mode.search.converged, boundary]

    return pd.DataFrame(
        [row(mode) for mode in fit.modes],
        columns=["llf", *fit.names, "scale", "converged", "at_boundary"],
    )


populate_wrapper(MixedLMARResultsWrapper, MixedLMARResults)
MixedLMARResults._wrapper = MixedLMARResultsWrapper
