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
from numpy.typing import ArrayLike
from statsmodels.base import model as base
from statsmodels.base.wrapper import populate_wrapper
from statsmodels.regression.mixed_linear_model import MixedLMParams

from mixedar._lazy import Question
from mixedar._types import FloatArray
from mixedar.data.checks import apart
from mixedar.data.elsewhere import OF_RESULTS, OtherWords
from mixedar.engine.search import Optimum
from mixedar.exceptions import NoParameterError, check_choice
from mixedar.fit import Fit
from mixedar.fit.boundary import boundary_notes
from mixedar.hypotheses.contrast import WaldTest
from mixedar.hypotheses.df import DFMethod, RobustMethod, resolve_df
from mixedar.hypotheses.restrictions import restrictions
from mixedar.inference import wald
from mixedar.inference.arguments import positions
from mixedar.inference.df import contrast_method, covariance
from mixedar.mixed.statsmodels_model import ParentModel
from mixedar.mixed.statsmodels_results import MixedLMARResultsWrapper, ParentResults
from mixedar.summary import ResultFrame, Summarised, in_a_line

if TYPE_CHECKING:
    from typing_extensions import Self

    from mixedar.summary import ResultsSummary

# What statsmodels' results have of scores of single rows, which mixed models lack.
_NOT_HERE = ("bsejac", "bsejhj", "covjac", "covjhj", "score_obsv")
# How a user names a method of degrees of freedom.
DF = str | float | DFMethod


class MixedLMARResults(OtherWords, Summarised, ParentResults):
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

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> fit.bse_fe.round(2).to_dict()
    {'Intercept': 0.82, 'age': 0.06}
    >>> fit.at_boundary
    False
    """

    model: ParentModel
    fit: Fit
    other_words = OF_RESULTS

    # What can be asked of a fit, by room; each is documented where it is defined.
    t_test = Question("mixedar.inference.wald")
    wald_test = Question("mixedar.inference.wald")
    conf_int_re = Question("mixedar.inference.intervals")
    profile = Question("mixedar.inference.profile", "profile_likelihood")
    bootstrap = Question("mixedar.inference.bootstrap")
    information = Question("mixedar.inference.information", "information_matrix")
    covariance_parameters = Question("mixedar.inference.information")
    information_criteria = Question("mixedar.inference.information")
    info_criteria = Question("mixedar.inference.information")
    compare_lr_test = Question("mixedar.inference.likelihood_ratio", of="")
    anova = Question("mixedar.inference.anova", of="")
    wald_test_terms = Question("mixedar.inference.anova")
    r2 = Question("mixedar.inference.explained")
    icc = Question("mixedar.inference.explained")
    marginal_means = Question("mixedar.inference.means")
    marginal_slopes = Question("mixedar.inference.means")
    get_prediction = Question("mixedar.prediction.predict")
    forecast = Question("mixedar.prediction.ahead")
    smooth = Question("mixedar.prediction.smooths")
    acf = Question("mixedar.diagnostics.residuals.autocorrelation", "residual_acf")
    serial_correlation_test = Question("mixedar.diagnostics.residuals.autocorrelation")
    variogram = Question(
        "mixedar.diagnostics.residuals.variogram", "residual_variogram"
    )
    residual_spread = Question("mixedar.diagnostics.residuals.heteroscedasticity")
    heteroscedasticity_test = Question(
        "mixedar.diagnostics.residuals.heteroscedasticity"
    )
    normality_test = Question("mixedar.diagnostics.residuals.normality")
    simulate = Question("mixedar.diagnostics.simulation")
    refit_many = Question("mixedar.fit.refit", "refit_like")
    predictive_check = Question("mixedar.diagnostics.predictive")
    influence = Question("mixedar.diagnostics.influence.results")
    get_influence = Question("mixedar.diagnostics.influence.results", "influence")
    diagnose = Question("mixedar.diagnostics.checkup", of="")
    random_effects_frame = Question("mixedar.by_group.effects")
    with_rows = Question("mixedar.prediction.batches")
    residuals = Question("mixedar.diagnostics.residuals.normalized")
    coef_by_group = Question("mixedar.by_group.effects")
    ranef = Question("mixedar.by_group.factors")
    coef = Question("mixedar.by_group.factors")
    random_covariance = Question("mixedar.by_group.factors")
    varcorr = Question("mixedar.by_group.factors")
    group_covariance = Question("mixedar.by_group.factors")
    shrinkage = Question("mixedar.by_group.shrinkage")
    posterior = Question("mixedar.posterior.results")
    implied_moments = Question("mixedar.by_group.latent")
    to_lavaan = Question("mixedar.by_group.latent")
    report = Question("mixedar.report.build", of="")
    plot = Question("mixedar.report.pictures")
    plot_trajectories = Question("mixedar.report.pictures")
    plot_forecast = Question("mixedar.report.pictures")
    plot_spaghetti = Question("mixedar.report.pictures")
    plot_coefficients = Question("mixedar.report.pictures")
    plot_profiles = Question("mixedar.report.pictures")
    plot_path = Question("mixedar.report.pictures")
    plot_random_effects = Question("mixedar.report.pictures")
    plot_smooths = Question("mixedar.report.pictures")
    plot_acf = Question("mixedar.report.pictures")
    plot_variogram = Question("mixedar.report.pictures")
    plot_residuals = Question("mixedar.report.pictures")
    plot_simulated = Question("mixedar.report.pictures")
    qqplot = Question("mixedar.report.pictures")

    def __init__(
        self, model: ParentModel, fit: Fit, free: MixedLMParams | None
    ) -> None:
        best, p = fit.estimate, fit.k_fe
        base.LikelihoodModelResults.__init__(
            self,
            model,
            fit.params,
            normalized_cov_params=covariance(fit) / fit.scale,
            scale=fit.scale,
        )
        self.fit = fit
        self.use_t = True
        self.df_resid = float(fit.nobs - p)
        self.nobs = fit.nobs
        self.n_groups = fit.n_groups
        self.reml = fit.reml
        self.method = fit.method
        self.k_fe, self.k_re, self.k_re2, self.k_vc = p, fit.k_re, fit.k_re2, fit.k_vc
        self.use_sqrt, self.cov_pen, self.freepat = model.use_sqrt, None, free
        self.hist: list[dict[str, Any]] | None = None
        self.converged = fit.converged
        self.fe_params = best.beta
        self.cov_re_unscaled, self.cov_re = fit.cov_re_unscaled, fit.cov_re
        self.vcomp = fit.vcomp
        self.bse_scale = fit.bse_scale
        self.structure = fit.structure

    @cached_property
    def params_object(self) -> MixedLMParams:
        """The parameters as statsmodels packs them, and those of the residuals."""
        packed = MixedLMParams.from_components(
            fe_params=self.fe_params,
            cov_re=self.cov_re_unscaled,
            vcomp=self.vcomp / self.fit.scale,
        )
        packed.residual_params = self.fit.estimate.residual_params
        return packed

    def __repr__(self) -> str:
        fit, formula = self.fit, getattr(self.model, "formula", None)
        return in_a_line(self, formula, fit.endog_name, *fit.facts)

    def __dir__(self) -> list[str]:
        lacking = set(_NOT_HERE)
        if "rho" not in self.structure.param_names:
            lacking.add("rho")
        if self.fit.layout.term_places:  # statsmodels packs one factor only
            lacking.add("hessv")
        if not self.fit.has_data:
            lacking.add("rsquared")
        return [name for name in super().__dir__() if name not in lacking]

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
        others = ["llf", "scale", "converged", "at_boundary"]
        names = apart(self.fit.names, others, "coefficient")
        columns = ["llf", *names, *others[1:]]
        return ResultFrame(map(_mode_row, self.fit.modes), columns=columns)

    @property
    def rsquared(self) -> float:
        """The marginal R squared, of fixed effects; :meth:`r2` has the conditional."""
        return float(self.r2()["marginal"])

    @property
    def aic(self) -> float:
        """Akaike's criterion, counting fixed effects and all free variances."""
        return self.fit.aic

    @property
    def bic(self) -> float:
        """Bayesian criterion with N - p observations under REML, as nlme."""
        return self.fit.bic

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
        return bool(self.fit.singular or self.fit.estimate.residual_at_boundary)

    @cached_property
    def boundary_notes(self) -> list[str]:
        """What exactly lies on the boundary, in words."""
        return boundary_notes(self.fit)

    @cached_property
    def smooths(self) -> pd.DataFrame:
        """
        The smooths: effective degrees of freedom, tests, variances.

        See :func:`mixedar.prediction.smooth_table.smooth_frame`.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_bodyweight
        >>> rats = load_bodyweight()
        >>> fit = mar.mixedlm("weight ~ s(time) + (1 + time | rat)", rats).fit()
        >>> fit.smooths.loc["s(time)", ["edf", "F"]].round(1).tolist()
        [5.4, 11.9]
        """
        from mixedar.prediction.smooth_table import smooth_frame

        return smooth_frame(self.fit)

    @cached_property
    def _smooth_tests(self) -> pd.DataFrame | None:
        """What of them the summary prints, if there are any."""
        if not self.fit.data.has_smooths:
            return None
        from mixedar.prediction.smooth_table import smooth_tests

        return smooth_tests(self.fit)

    @property
    def df(self) -> pd.Series:
        """Degrees of freedom of each fixed effect, by the method of the fit."""
        values = contrast_method(self.fit).single(np.eye(self.k_fe))
        return pd.Series(values, index=list(self.fit.exog_names))

    @property
    def df_method(self) -> str:
        """The method of degrees of freedom, ``"containment"`` by default."""
        return self.fit.df_method.name

    @property
    def cov_type(self) -> str:
        """``"nonrobust"``, or the kind of the robust covariance."""
        robust = self.fit.robust
        return "nonrobust" if robust is None else robust.cov_type

    @cov_type.setter
    def cov_type(self, value: str) -> None:
        """Set by statsmodels' base class; the fit knows it."""

    def with_df(
        self, df: DF, *, kr: str | None = None, information: str | None = None
    ) -> MixedLMARResultsWrapper:
        """
        The same fit with other degrees of freedom in all its tests.

        Parameters
        ----------
        df : str, float or DFMethod
            ``"containment"``, ``"between-within"``, ``"residual"``,
            ``"satterthwaite"``, ``"kenward-roger"``, ``"normal"``, or a number.
            With Kenward-Roger standard errors and ``cov_params()`` hold the
            correction for small samples.
        kr : {"full", "linear"}, optional
            Kenward-Roger with or without (default) the term of second order.
        information : {"observed", "expected"}, optional
            Information of the covariance parameters: observed by default for
            Satterthwaite (as lmerTest) and full Kenward-Roger (as SAS),
            expected for the linear one (as pbkrtest).

        Returns
        -------
        MixedLMARResultsWrapper

        Raises
        ------
        UnsupportedError
            For unknown names and options.
        NotComputedError
            If the method is not defined for this fit.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> fit = mar.mixedlm(
        ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
        ... ).fit()
        >>> small = fit.with_df("kenward-roger")
        >>> small.df.round(0).to_dict()
        {'Intercept': 26.0, 'age': 26.0}
        """
        method = resolve_df(df, kr, information)
        return self._wrapper(self._with_tests(method, self.fit.robust))

    def get_robustcov_results(
        self, cov_type: str = "CR2", use_t: bool | None = None
    ) -> MixedLMARResultsWrapper:
        """
        The same fit with cluster-robust standard errors in all its tests.

        Clusters are the groups of the model, and with random effects of several
        factors the levels of the outermost; crossed factors have no clusters.
        Tests use Satterthwaite's degrees of freedom for the robust variance (Bell
        and McCaffrey's for CR2; HTZ for joint tests); :meth:`with_df` chooses
        others.

        Parameters
        ----------
        cov_type : {"CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3", "nonrobust"}
        use_t : bool, optional
            False for tests by the normal distribution.

        Returns
        -------
        MixedLMARResultsWrapper

        Raises
        ------
        UnsupportedError
            For another type.
        NotComputedError
            If the covariance cannot be computed; the message says why.

        See Also
        --------
        mixedar.inference.sandwich : the estimators, and references.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> fit = mar.mixedlm(
        ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
        ... ).fit()
        >>> robust = fit.get_robustcov_results("CR2")
        >>> robust.cov_type
        'CR2'
        """
        check_choice("use_t", use_t, (None, True, False))
        if cov_type == "nonrobust":
            return self._wrapper(self._with_tests(self.fit.df_method, None))
        from mixedar.inference.sandwich import sandwich

        method = resolve_df("satterthwaite" if use_t is None or use_t else "normal")
        return self._wrapper(self._with_tests(method, sandwich(self.fit, cov_type)))

    def _with_tests(self, method: DFMethod, robust: RobustMethod | None) -> Self:
        """A copy whose errors, t values and tests follow a method."""
        out = copy.copy(self)  # shares what was computed so far
        out._cache = {}
        out.fit = self.fit.with_tests(method, robust)
        out.normalized_cov_params = covariance(out.fit) / self.scale
        out.use_t = method.name != "normal"
        return out

    def _with_df(self, df: DF | None) -> Self:
        if df is None:
            return self
        return self._with_tests(resolve_df(df), self.fit.robust)

    def cov_params(
        self,
        r_matrix: Any = None,
        column: Any = None,
        scale: float | None = None,
        cov_p: Any = None,
        other: Any = None,
    ) -> FloatArray:
        """
        Covariance of the estimates, as in statsmodels.

        Parameters
        ----------
        r_matrix, column, scale, cov_p, other
            As in ``MixedLMResults.cov_params``; the columns of DataFrames are matched
            by the names of parameters.

        Returns
        -------
        ndarray, shape (k, k)
            Rows and columns are zero for covariance parameters that are held, or
            on the boundary, where no standard error exists (`bse` is NaN
            there): what is asked of the fixed effects stays a number.

        Raises
        ------
        MixedARError
            For combinations of what are no parameters.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> fit.cov_params().shape
        (4, 4)
        """
        r_matrix, other = self._combinations(r_matrix), self._combinations(other)
        if column is not None:
            found = positions(column, self.fit.names)
            column = found if np.ndim(column) else found[0]
        if cov_p is None and np.isnan(self.normalized_cov_params).any():
            cov_p, p = np.nan_to_num(self.normalized_cov_params), self.k_fe
            # no robust standard error of a fixed effect is not one of zero
            cov_p[:p, :p] = self.normalized_cov_params[:p, :p]
            cov_p = cov_p * (self.scale if scale is None else scale)
        return super().cov_params(r_matrix, column, scale, cov_p, other)

    def _combinations(self, matrix: Any) -> FloatArray | None:
        """Rows of numbers, one for each parameter, from whatever a user passes."""
        if matrix is None:
            return None
        rows = restrictions(matrix, self.fit.names, (), "parameter")[0]
        return rows[0] if getattr(matrix, "ndim", 2) == 1 else rows

    @property
    def bse(self) -> FloatArray:
        """Standard errors, shape (k,); NaN on the boundary, 0 if held."""
        return np.sqrt(np.diag(self.normalized_cov_params) * self.scale)

    @property
    def tvalues(self) -> FloatArray:
        """
        Estimates divided by standard errors, shape (k,).

        NaN for variances and residual parameters: zero is no value for a Wald
        test there (compare log-likelihoods instead).
        """
        return wald.tvalues(self.fit)

    @property
    def pvalues(self) -> FloatArray:
        """Two-sided p-values of the fixed effects by Student's t, shape (k,)."""
        return wald.pvalues(self.fit)

    def conf_int(
        self, alpha: float = 0.05, cols: Any = None, df: DF | None = None
    ) -> FloatArray:
        """
        Wald intervals: t of fixed effects, normal of the covariance parameters.

        Intervals of variances are made on the log scale, of covariances on their own,
        and of residual parameters on their unconstrained scale.

        Parameters
        ----------
        alpha : float
            1 - coverage.
        cols : sequence of int or str, optional
            Which parameters, by position or name; all by default.
        df : str, float or DFMethod, optional
            Degrees of freedom of the fixed effects; those of the results by
            default.

        Returns
        -------
        ndarray, shape (k, 2)
            NaN where no standard error exists.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> fit.conf_int().loc["age"].round(2).tolist()
        [0.53, 0.79]
        """
        out = wald.conf_int(self._with_df(df).fit, alpha)
        return out if cols is None else out[positions(cols, self.fit.names)]

    def f_test(
        self,
        r_matrix: Any,
        cov_p: ArrayLike | None = None,
        invcov: ArrayLike | None = None,
        df: DF | None = None,
    ) -> WaldTest:
        """
        Joint F test of linear restrictions.

        Parameters
        ----------
        r_matrix, cov_p, invcov, df
            As in :meth:`wald_test`.

        Returns
        -------
        WaldTest

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm(
        ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
        ... )
        >>> fit = model.fit()
        >>> test = fit.f_test(
        ...     "sex[T.Male] = 0, age:sex[T.Male] = 0", df="kenward-roger"
        ... )
        >>> test.df_num
        2
        """
        return self.wald_test(r_matrix, cov_p=cov_p, invcov=invcov, use_f=True, df=df)

    @property
    def fitted_marginal(self) -> FloatArray:
        """``X beta``, shape (n,)."""
        return self.fit.fitted_marginal

    @property
    def fittedvalues(self) -> FloatArray:
        """``X beta + Z b`` with the predicted random effects, shape (n,)."""
        return self.fit.fittedvalues

    @property
    def resid(self) -> FloatArray:
        """Raw residuals around :attr:`fittedvalues`, shape (n,)."""
        return self.fit.resid

    @cached_property
    def std_residual_quantiles(self) -> pd.Series:
        """Minimum, quartiles and maximum of the Pearson residuals."""
        values = self.fit.residuals("pearson")
        quantiles = np.quantile(values, [0.0, 0.25, 0.5, 0.75, 1.0])
        return pd.Series(quantiles, index=["Min", "Q1", "Med", "Q3", "Max"])

    def summary(
        self,
        yname: str | None = None,
        xname_fe: Sequence[str] | None = None,
        xname_re: Sequence[str] | None = None,
        title: str | None = None,
        alpha: float = 0.05,
        df: DF | None = None,
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

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> table = fit.summary().to_frame("parameters")
        >>> table.columns.tolist()
        ['Coef.', 'Std.Err.', 'DF', 't', 'P>|t|', '[0.025', '0.975]']
        """
        from mixedar.mixed.summary import summarize  # only when it is printed

        has_quantiles = self.fit.has_data or "std_residual_quantiles" in self.__dict__
        has_tests = self.fit.has_data or "_smooth_tests" in self.__dict__
        return summarize(
            self._with_df(df).fit,
            self.std_residual_quantiles if has_quantiles else None,
            self._smooth_tests if has_tests else None,
            yname=yname,
            xname_fe=xname_fe,
            xname_re=xname_re,
            title=title,
            alpha=alpha,
        )

    def remove_data(self) -> None:
        """
        Drop all arrays of the data from this fit and its model.

        The summary keeps its numbers.  Other fits of the same model, and the
        model they hold, keep their data: this fit goes on with a bare copy.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> fit.remove_data()
        >>> bool(fit.bse["age"] > 0)
        True
        """
        if self.fit.has_data:
            self.std_residual_quantiles  # noqa: B018  the summary needs them
        self.boundary_notes, self._smooth_tests  # noqa: B018
        for name in self._row_caches:
            self.__dict__.pop(name, None)
        self.fit = self.fit.without_data()
        bare = object.__new__(type(self.model))
        bare.__dict__ = dict(self.model.without_lists())
        bare.data = copy.copy(self.model.data)
        self.model = bare
        super().remove_data()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in self._row_caches}


def _mode_row(mode: Optimum) -> list[Any]:
    """A row of :attr:`MixedLMARResults.modes`."""
    estimate = mode.estimate
    values = [*estimate.beta, *estimate.cov_values, *estimate.residual_params]
    boundary = estimate.singular or estimate.residual_at_boundary
    return [estimate.llf, *values, estimate.scale, mode.search.converged, boundary]


populate_wrapper(MixedLMARResultsWrapper, MixedLMARResults)
MixedLMARResults._wrapper = MixedLMARResultsWrapper
