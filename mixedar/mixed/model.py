"""
MixedLMAR: linear mixed models whose residuals are correlated in time.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from statsmodels.regression.mixed_linear_model import MixedLMParams, VCSpec, _convert_vc
from statsmodels.tools.rng_qrng import check_random_state

from mixedar._types import FloatArray
from mixedar.data.checks import check_lengths, drop_missing, warn_dropped
from mixedar.data.formula import (
    Design,
    as_frame,
    as_namespace,
    build_design,
    capture_namespace,
)
from mixedar.data.residual_model import residual_from_arrays, residual_from_names
from mixedar.engine.residuals import correlated_residuals
from mixedar.exceptions import (
    BoundaryWarning,
    EmptyDataError,
    GroupError,
    NotComputedError,
    UnsupportedError,
)
from mixedar.mixed.arrays import ModelArrays
from mixedar.mixed.fit import fit_model
from mixedar.mixed.statsmodels import FormulaData
from mixedar.residual import ResidualStructure
from mixedar.residual.variance.base import VarianceFunction


def model_from_formula(
    cls: Any,
    formula: str,
    data: Any,
    *,
    re_formula: str | None,
    vc_formula: Mapping[str, str] | None,
    subset: Any,
    use_sparse: bool,
    missing: str,
    groups: Any,
    time: Any,
    residual: Any,
    series: Any,
    weights: Any,
    eval_env: Any,
    **kwargs: Any,
) -> Any:
    """
    Evaluate the formulas and build the model; arguments as in ``from_formula``.

    Parameters
    ----------
    cls : type
        The model's class.
    eval_env : Mapping, patsy.EvalEnvironment, None or -1
        The caller's variables.

    Returns
    -------
    cls
    """
    if kwargs.get("residual_data") is not None:
        raise UnsupportedError(
            "residual_data= belongs to arrays; with a formula the columns are "
            "those of the data"
        )
    structure = residual_from_names(residual, weights)
    namespace = as_namespace(eval_env)
    design = build_design(
        formula,
        data,
        groups=groups,
        re_formula=re_formula,
        vc_formula=vc_formula,
        time=time,
        series=series,
        extra=structure.needed(as_frame(data).columns, namespace),
        subset=subset,
        missing=missing,
        eval_env=eval_env,
        vc_use_sparse=use_sparse,
    )
    structure = structure.evaluated(design.frame, design.extra, namespace)
    if design.n_dropped:
        warn_dropped(design.n_dropped)
    exog_re: Any = design.exog_re
    if exog_re is None and not design.vc:
        exog_re = np.empty((len(design.endog), 0))
    elif exog_re is not None:
        exog_re = pd.DataFrame(
            exog_re, index=design.index, columns=design.exog_re_names, copy=False
        )
    model = cls(
        pd.Series(design.endog, design.index, name=design.endog_name, copy=False),
        pd.DataFrame(design.exog, design.index, design.exog_names, copy=False),
        groups=design.group_values,
        exog_re=exog_re,
        exog_vc=design.vc_spec() if design.vc else None,
        time=design.time,
        residual=structure.structure,
        series=design.series,
        residual_data=structure.columns,
        design=design,
        **kwargs,
    )
    model.formula = formula
    model.re_formula, model.vc_formula = re_formula, vc_formula
    model.groups_name, model.time_name = design.groups_name, design.time_name
    model.formula_spec = design.model_spec
    FormulaData.adopt(model.data, design.model_spec)
    model.re_spec = design.re_spec
    model.arrays = model.arrays.changed(
        variance_specs=structure.specs, weighted=weights is not None
    )
    model.data.frame = design.frame
    # the caller's own words, for the call that a report prints; arrays by their
    # arguments' names
    words = weights is None or isinstance(weights, (str, type, VarianceFunction))
    model.given = {
        "residual": residual,
        "weights": weights if words else ...,
        "subset": None if subset is None else ...,
        "missing": missing,
    }
    return model


class MixedDistribution:
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
    """

    def __init__(
        self, model: Any, params: ArrayLike, scale: float, exog: ArrayLike | None
    ) -> None:
        values = np.asarray(params, dtype=np.float64)
        k = model.k_fe + model.k_re2 + model.k_vc
        packed = MixedLMParams.from_packed(
            values[:k], model.k_fe, model.k_re, False, True
        )
        self.model = model
        if model.exog is None:
            raise NotComputedError("the data were removed from this model")
        self.exog = model.exog if exog is None else np.asarray(exog)
        check_lengths(model.nobs, exog=self.exog)
        self.fe_params = packed.fe_params
        self.cov_re = scale * packed.cov_re
        self.vcomp = scale * packed.vcomp
        self.scale = scale
        self.residual_params = values[k:]

    def rvs(self, n: Any = None, rng: Any = None) -> FloatArray:
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
        """
        model = self.model
        rng = check_random_state(rng)
        y = self.exog @ self.fe_params
        if model.k_re:
            effects = rng.normal(size=(model.n_groups, model.k_re))
            try:
                root = np.linalg.cholesky(self.cov_re)
            except np.linalg.LinAlgError:  # singular: no Cholesky factor, but a root
                values, vectors = np.linalg.eigh(self.cov_re)
                root = vectors * np.sqrt(np.clip(values, 0.0, None))
            effects = effects @ root.T
            y = y + (effects[model.arrays.codes] * model.exog_re).sum(axis=1)
        for j, (variance, matrix) in enumerate(
            zip(self.vcomp, model.arrays.components.matrices, strict=True)
        ):
            size = [mat.shape[1] for mat in model.exog_vc.mats[j]]
            effects = np.zeros((model.n_groups, matrix.shape[1]))
            for i, width in enumerate(size):
                effects[i, :width] = rng.normal(size=width)[: matrix.shape[1]]
            y = y + np.sqrt(variance) * (effects[model.arrays.codes] * matrix).sum(
                axis=1
            )
        noise = rng.normal(size=len(y))
        grouped = model.arrays.grouped
        noise = grouped.unsort(
            correlated_residuals(
                grouped.sort(noise), grouped, model.residual, self.residual_params
            )
        )
        return np.asarray(y + np.sqrt(self.scale) * noise)


class PenalisedFits(ModelArrays):
    """Delegates to the parent, or says why it cannot."""

    def fit_regularized(self, *args: Any, **kwargs: Any) -> Any:
        """
        Penalised fit by statsmodels; independent residuals only.

        Raises
        ------
        UnsupportedError
            For correlated residuals.
        """
        self._refuse_penalty("fit_regularized")
        if isinstance(self.data.orig_exog, pd.DataFrame):
            # the parent indexes labelled coefficients by position
            plain = self._without_labels()
            return super(PenalisedFits, plain).fit_regularized(*args, **kwargs)
        return super().fit_regularized(*args, **kwargs)

    def _without_labels(self) -> PenalisedFits:
        """The same model from plain arrays, with the names of this one."""
        plain = type(self)(
            self.endog,
            self.exog,
            self._codes,
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
        if self.residual.k_params:
            raise UnsupportedError(
                f"{what}: penalised likelihoods are available for residual="
                f"'independent' only; statsmodels' penalised fit ignores the "
                f"{self.residual.label} correlation of this model"
            )


# Keyword arguments that statsmodels' machinery and from_formula pass.
_INTERNAL = {"missing_idx", "model_spec", "formula", "design"}


class MixedLMAR(PenalisedFits):
    """
    Linear mixed model with correlated residuals within groups.

    ``y_i = X_i beta + Z_i b_i + e_i`` with ``b_i ~ N(0, Psi)`` and
    ``e_i ~ N(0, sigma2 R_i)``, where ``R_i`` is the correlation matrix of a
    residual structure such as AR(1).  A subclass of statsmodels' ``MixedLM``.

    Parameters
    ----------
    endog : array_like, shape (n,)
        Response.
    exog : array_like, shape (n, p)
        Fixed-effects design.
    groups : array_like, shape (n,)
        Labels of the groups; different groups are independent.
    exog_re : array_like, shape (n, q), optional
        Design of the correlated random effects; a random intercept by default
        (none if `exog_vc` is given).  An array without columns stands for no
        random effects at all, which is nlme's ``gls``.
    exog_vc : VCSpec, optional
        Variance components, as in statsmodels.
    time : array_like, shape (n,), optional
        Times within groups: numbers, dates or periods, in any order, different
        for each group.  By default the order of the rows counts.
    residual : str or ResidualStructure
        ``"ar1"`` (integer or equally spaced times), ``"car1"`` (any times),
        ``"independent"``, another name (an unknown one lists them all), or a
        structure such as ``AR1(0.5, fixed=True)``.
    series : array_like, shape (n,), optional
        Labels of independent series inside the groups, nlme's
        ``~ time | group/series``.
    re_cov : {"unstructured", "diagonal"}
        Whether random effects are correlated with one another.
    use_sqrt : bool
        How packed parameters are read, as in statsmodels.
    missing : {"none", "raise", "drop"}
        Missing values raise, or their rows are dropped from every array.
    weights : VarianceFunction, str or array_like, optional
        Variance function of the residuals, such as ``VarPower("x")``; a column
        of `residual_data` or an array holds known weights, the residual
        variance being ``scale / weights``.
    residual_data : DataFrame or mapping of str to array_like, optional
        Columns that the residual structure and the variance function read
        (coordinates, strata, covariates), n rows.

    Raises
    ------
    MixedARError
        For data that cannot be used; see :mod:`mixedar.exceptions`.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, chapter 5.
    """

    def __init__(
        self,
        endog: Any,
        exog: Any,
        groups: Any,
        exog_re: Any = None,
        exog_vc: Any = None,
        time: Any = None,
        residual: str | ResidualStructure | None = "ar1",
        series: Any = None,
        re_cov: str = "unstructured",
        use_sqrt: bool = True,
        missing: str = "none",
        weights: Any = None,
        residual_data: Any = None,
        **kwargs: Any,
    ) -> None:
        unknown = sorted(
            set(kwargs) - {"missing_idx", "model_spec", "formula", "design"}
        )
        if unknown:
            raise UnsupportedError(
                f"argument {unknown[0]} not permitted for MixedLMAR initialization"
            )
        if missing not in ("none", "raise", "drop"):
            raise UnsupportedError(
                f"missing={missing!r}: choose 'none', 'raise' or 'drop'"
            )
        if re_cov not in ("unstructured", "diagonal"):
            raise UnsupportedError(
                f"re_cov={re_cov!r}: choose 'unstructured' or 'diagonal'"
            )
        design: Design | None = kwargs.get("design")
        if isinstance(exog_vc, Mapping):
            warnings.warn(
                "Using deprecated variance components format",
                FutureWarning,
                stacklevel=2,
            )
            exog_vc = _convert_vc(exog_vc)
        if not hasattr(endog, "shape"):
            endog = np.asarray(endog)
        n = endog.shape[0] if endog.shape else 1
        check_lengths(
            n, exog=exog, groups=groups, exog_re=exog_re, time=time, series=series
        )
        if n == 0:
            raise EmptyDataError(
                "there are no observations; check subset= and missing="
            )
        found = residual_from_arrays(residual, weights, residual_data, n)
        columns = found.columns
        if missing == "drop" and design is None:
            arrays = endog, exog, groups, exog_re, exog_vc, time, series
            endog, exog, groups, exog_re, exog_vc, time, series, columns, n_dropped = (
                drop_missing(*arrays, columns)
            )
            warn_dropped(n_dropped)
        self.use_sqrt = use_sqrt
        self.re_cov = re_cov
        self.reml = True
        self.fe_pen = self.re_pen = self.cov_pen = self._freepat = None
        self.exog_vc = VCSpec([], [], []) if exog_vc is None else exog_vc
        self.k_vc = len(self.exog_vc.names)
        self.groups, self.time, self.series = groups, time, series
        self._init_data(endog, exog)
        self._init_groups(groups)
        self._init_random_effects(exog_re)
        self._check_groups()
        self._set_names(exog_re)
        self._init_arrays(replace(found, columns=columns), design, weights is not None)
        # the structure holds its variance function already
        self.weights = None

    @classmethod
    def from_formula(
        cls,
        formula: str,
        data: Any,
        re_formula: str | None = None,
        vc_formula: Mapping[str, str] | None = None,
        subset: Any = None,
        use_sparse: bool = False,
        missing: str = "none",
        *,
        groups: Any = None,
        time: Any = None,
        residual: str | ResidualStructure | None = "ar1",
        series: Any = None,
        weights: Any = None,
        eval_env: Any = None,
        **kwargs: Any,
    ) -> MixedLMAR:
        """
        Build the model from formulas and a DataFrame.

        Parameters
        ----------
        formula : str
            Response and fixed effects, such as ``"y ~ time + treatment"``.
        data : DataFrame
        re_formula : str, optional
            Correlated random effects, such as ``"~time"``; a random intercept
            by default, ``"0"`` for none.
        vc_formula : dict of str, optional
            Variance components by name, such as ``{"ward": "0 + C(ward)"}``.
        subset : array_like, optional
            Rows to use, as ``data.loc[subset]``.
        use_sparse : bool
            Whether ``exog_vc`` holds sparse matrices, as in statsmodels.
        missing : {"none", "raise", "drop"}
            Missing values raise, or their rows are dropped with a warning.
        groups : str or array_like
            Column of group labels.
        time, series : str or array_like, optional
            Columns of times, and of series inside groups.
        residual : str or ResidualStructure
            Residual structure.
        weights : VarianceFunction, str or array_like, optional
            Variance function of the residuals; a column or an array holds
            known weights.
        eval_env : int, mapping or patsy.EvalEnvironment, optional
            Where formulas find functions and variables: the caller's scope by
            default, ``-1`` for none.
        **kwargs
            Passed on to the constructor.

        Returns
        -------
        MixedLMAR

        Raises
        ------
        MixedARError
            For data or formulas that cannot be used.
        """
        if groups is None:
            raise GroupError(
                "groups= is missing: name the column with the group labels"
            )
        if eval_env is None:
            eval_env = capture_namespace()
        elif isinstance(eval_env, int) and eval_env >= 0:
            eval_env = capture_namespace(eval_env + 1)
        return model_from_formula(
            cls,
            formula,
            data,
            re_formula=re_formula,
            vc_formula=vc_formula,
            subset=subset,
            use_sparse=use_sparse,
            missing=missing,
            groups=groups,
            time=time,
            residual=residual,
            series=series,
            weights=weights,
            eval_env=eval_env,
            **kwargs,
        )

    def fit(
        self,
        start_params: Any = None,
        reml: bool = True,
        niter_sa: int = 0,
        do_cg: bool = True,
        fe_pen: Any = None,
        cov_pen: Any = None,
        free: MixedLMParams | None = None,
        full_output: bool = False,
        method: Any = None,
        **fit_kwargs: Any,
    ) -> Any:
        """
        Maximise the (restricted) likelihood.

        Parameters
        ----------
        start_params : array_like or MixedLMParams, optional
            A first start beside the usual ones: packed relative parameters as
            in statsmodels, residual parameters last.
        reml : bool
            Restricted maximum likelihood, or maximum likelihood.
        niter_sa : int
            Not used, as in statsmodels.
        do_cg : bool
            If False nothing is optimised: results at the start.
        fe_pen, cov_pen : Penalty, optional
            Penalties, for independent residuals only (statsmodels' fit).
        free : MixedLMParams, optional
            Entries of 0 hold a parameter at its starting value; an identity
            ``cov_re`` makes the random effects uncorrelated.
        full_output : bool
            Keep the path of the optimiser in ``hist``.
        method : str or list of str, optional
            Newton's method by default; names of ``scipy.optimize.minimize`` and
            statsmodels' short names are followed by Newton steps.
        **fit_kwargs
            ``maxiter``, and ``gtol``: the optimiser stops when the
            log-likelihood can rise by no more than this.  ``cov_type="CR2"`` and
            the like: robust errors, see ``get_robustcov_results``.

        Returns
        -------
        MixedLMARResultsWrapper

        Raises
        ------
        UnsupportedError
            If a penalty is combined with correlated residuals.
        """
        if fe_pen is not None or cov_pen is not None:
            self._refuse_penalty("fe_pen and cov_pen")
            return super().fit(
                start_params,
                reml,
                niter_sa,
                do_cg,
                fe_pen,
                cov_pen,
                free,
                full_output,
                method,
                **fit_kwargs,
            )
        return fit_model(
            self,
            start_params=start_params,
            reml=reml,
            do_cg=do_cg,
            free=free,
            full_output=full_output,
            method=method,
            niter_sa=niter_sa,
            **fit_kwargs,
        )

    def refit(self, endog: ArrayLike, **fit_kwargs: Any) -> Any:
        """
        Fit the same model to another response, as in a bootstrap.

        Parameters
        ----------
        endog : array_like, shape (n,)
            In the order of the model's rows.
        **fit_kwargs
            As in :meth:`fit`.

        Returns
        -------
        MixedLMARResultsWrapper
            Of a new model, which shares designs, groups and times with this one.
            Estimates on the boundary do not warn; ``at_boundary`` tells.
        """
        with warnings.catch_warnings():
            # singular covariances are routine in a bootstrap; results say so
            warnings.simplefilter("ignore", BoundaryWarning)
            return self.with_endog(endog).fit(**fit_kwargs)

    def get_distribution(
        self, params: ArrayLike, scale: float, exog: ArrayLike | None = None
    ) -> MixedDistribution:
        """
        Distribution of the response, from which data can be drawn.

        Parameters
        ----------
        params : array_like
            Fixed effects; lower triangle of the random-effects covariance and
            variance components, all divided by `scale`; residual parameters.
        scale : float
            Residual variance.
        exog : array_like, shape (n, p), optional
            The model's by default.

        Returns
        -------
        MixedDistribution
            Its ``rvs`` draws random effects and correlated residuals.
        """
        return MixedDistribution(self, params, scale, exog)
