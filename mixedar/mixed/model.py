"""
MixedLMAR: linear mixed models whose residuals are correlated in time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from statsmodels.regression.mixed_linear_model import MixedLMParams, VCSpec, _convert_vc

from mixedar._lazy import Question, near_argument
from mixedar._types import UNCHANGED, FloatArray, Unchanged
from mixedar.data.checks import (
    check_finite,
    check_labels,
    check_response,
    check_scale,
    float_array,
)
from mixedar.data.elsewhere import OF_MODELS, check_weights, spelled_here
from mixedar.data.formula import (
    Design,
    as_namespace,
    build_design,
    capture_namespace,
)
from mixedar.data.given import (
    as_rows,
    check_missing,
    drop_missing,
    row_labels,
    warn_dropped,
)
from mixedar.data.residual_model import (
    DEFAULT_RESIDUAL,
    ResidualModel,
    default_residual,
    residual_from_arrays,
    residual_from_names,
)
from mixedar.data.rows import one_factor
from mixedar.engine.residuals import is_correlated
from mixedar.exceptions import (
    BoundaryWarning,
    EmptyDataError,
    LengthError,
    UnsupportedError,
    check_choice,
    check_flags,
    warn,
)
from mixedar.fit.refit import Refits, refit_many
from mixedar.mixed.construct import (
    callers_words,
    check_parameters,
    from_design,
    holding,
    take_arrays,
    take_data,
    take_random_effects,
    written_effects,
)
from mixedar.mixed.fit import fit_model
from mixedar.mixed.recipe import Recipe, residual_for
from mixedar.mixed.statsmodels_model import MixedDistribution, ParentModel
from mixedar.mixed.statsmodels_results import MixedLMARResultsWrapper
from mixedar.mixed.streamed import table_of
from mixedar.residual import ResidualStructure
from mixedar.summary import NamedInALine, in_a_line

if TYPE_CHECKING:
    from typing_extensions import Self

# Keyword arguments that statsmodels' machinery and from_formula pass.
_INTERNAL = {"missing_idx", "model_spec", "formula", "design", "stream"}


def _check_arguments(
    further: Iterable[str], missing: str, use_sqrt: bool = True
) -> None:
    unknown = sorted(set(further) - _INTERNAL)
    if unknown:
        raise UnsupportedError(
            f"argument {unknown[0]} not permitted for MixedLMAR initialization"
            + (
                spelled_here(unknown[0], OF_MODELS)
                or near_argument(unknown[0], MixedLMAR.from_formula)
            )
        )
    check_missing(missing)
    check_flags(use_sqrt=use_sqrt)


def _covariance_kind(re_cov: object) -> str:
    """The name of a covariance of the random effects, from one of its names."""
    names = {"cs": "compound", "compound symmetry": "compound"}
    found = names.get(re_cov, re_cov) if isinstance(re_cov, str) else re_cov
    check_choice("re_cov", found, ("unstructured", "diagonal", "compound"))
    return str(found)


def _as_spec(exog_vc: Any) -> VCSpec:
    """Variance components as statsmodels holds them."""
    if isinstance(exog_vc, Mapping):
        warn(FutureWarning("Using deprecated variance components format"))
        return _convert_vc(exog_vc)
    return VCSpec([], [], []) if exog_vc is None else exog_vc


def _complete(
    rows: dict[str, Any], found: ResidualModel, exog_vc: VCSpec
) -> tuple[dict[str, Any], ResidualModel, VCSpec]:
    """Arrays, and what the residuals read, without rows that miss a value."""
    given = [*rows.values(), *found.columns.values()]
    arrays, exog_vc, dropped = drop_missing(given, exog_vc, rows["groups"])
    warn_dropped(dropped)
    k = len(rows)
    columns = dict(zip(found.columns, arrays[k:], strict=True))
    rows = dict(zip(rows, arrays[:k], strict=True))
    return rows, replace(found, columns=columns), exog_vc


class MixedLMAR(NamedInALine, ParentModel):
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
        for each group.
    residual : str or ResidualStructure
        ``"auto"``, AR(1) if `time` is given and independent residuals, as in
        statsmodels, if not; ``"ar1"`` (integer or equally spaced times),
        ``"car1"`` (any times), ``"independent"``, another name (an unknown one
        lists them all), or a structure such as ``AR1(0.5, fixed=True)``.  Without
        `time` a structure that is asked for takes the order of the rows within
        groups for time, and the summary says so.
    series : array_like, shape (n,), optional
        Labels of independent series inside the groups, nlme's
        ``~ time | group/series``.
    re_cov : {"unstructured", "diagonal", "compound"}
        Whether random effects are correlated with one another; ``"compound"``
        (``"cs"``, ``"compound symmetry"``): all have one variance, and each two of
        them one covariance, which may be negative, as nlme's ``pdCompSymm``.  They
        should be comparable then: an effect of each level of a factor, such as
        ``re_formula="0 + Machine"``.
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
    delta : number, str or duration, optional
        The unit of time: a number for numbers and periods, a duration such as
        ``"6 months"`` or a Timedelta for dates, or ``"auto"``, the common step of
        the times of a series, as Stata's ``xtset`` has it.  By default numbers and
        periods count as they are, and dates in steps of their grid.
    scale : float, optional
        The residual variance, if it is known; it is estimated by default.  With
        ``weights="w"``, ``w = 1 / v``, and ``scale=1`` the residual variances are the
        known ``v``, as in a meta-analysis.
    offset : array_like, shape (n,), optional
        Part of the mean whose coefficient is one: ``E(y) = X beta + offset``.
        Predictions of new rows need theirs.

    Raises
    ------
    MixedARError
        For data that cannot be used; see :mod:`mixedar.exceptions`.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, chapter 5.

    Examples
    --------
    >>> import numpy as np
    >>> from mixedar.api import MixedLMAR
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> exog = np.column_stack([np.ones(len(teeth)), teeth["age"]])
    >>> model = MixedLMAR(teeth["distance"], exog, teeth["subject"], time=teeth["occ"])
    >>> model.fit().params[:2].round(1)
    const    16.8
    x1        0.7
    dtype: float64
    """

    recipe: Recipe | None = None
    plot = Question("mixedar.report.pictures", "plot_model", of="arrays")

    def __init__(
        self,
        endog: Any,
        exog: Any,
        groups: Any,
        exog_re: Any = None,
        exog_vc: Any = None,
        time: Any = None,
        residual: str | ResidualStructure | None = DEFAULT_RESIDUAL,
        series: Any = None,
        re_cov: str = "unstructured",
        use_sqrt: bool = True,
        missing: str = "none",
        weights: Any = None,
        residual_data: Any = None,
        delta: Any = None,
        scale: float | None = None,
        offset: Any = None,
        **kwargs: Any,
    ) -> None:
        _check_arguments(kwargs, missing, use_sqrt)
        design: Design | None = kwargs.get("design")
        exog_vc = _as_spec(exog_vc)
        if exog is None:
            raise LengthError("exog is missing: pass the design of the fixed effects")
        rows = as_rows(
            endog=endog,
            exog=exog,
            groups=one_factor("groups", groups),
            exog_re=exog_re,
            time=time,
            series=series,
            offset=offset,
        )
        n, labels = len(rows["endog"]), row_labels(*rows.values())
        if n == 0:
            raise EmptyDataError(
                "there are no observations; check subset= and missing="
            )
        asked, residual = residual, default_residual(residual, time)
        found = residual_from_arrays(residual, weights, residual_data, n, labels)
        if missing == "drop" and design is None:
            rows, found, exog_vc = _complete(rows, found, exog_vc)
        self.given = callers_words(asked, weights, missing=missing)
        self.use_sqrt = use_sqrt
        self.re_cov = _covariance_kind(re_cov)
        self.reml = True
        self.fe_pen = self.re_pen = self.cov_pen = self._freepat = None
        self.exog_vc = exog_vc
        self.k_vc = len(self.exog_vc.names)
        self.groups, self.time, self.series = (
            rows[name] for name in ("groups", "time", "series")
        )
        self.offset, self.delta = rows["offset"], delta
        self.scale = check_scale(scale)
        take_data(self, rows["endog"], rows["exog"], rows["groups"])
        take_random_effects(self, rows["exog_re"], design)
        take_arrays(self, found, design, weights is not None, kwargs.get("stream"))
        # the structure holds its variance function already
        self.weights = None

    def __repr__(self) -> str:
        data = self.arrays
        return in_a_line(
            self,
            getattr(self, "formula", None),
            data.endog_name,
            f"{data.nobs} rows, {data.n_groups} groups",
            f"{self.residual.label} residuals",
        )

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
        residual: str | ResidualStructure | None = DEFAULT_RESIDUAL,
        series: Any = None,
        weights: Any = None,
        offset: Any = None,
        eval_env: Any = None,
        **kwargs: Any,
    ) -> MixedLMAR:
        """
        Build the model from formulas and a DataFrame.

        Parameters
        ----------
        formula : str
            Response and fixed effects, such as ``"y ~ time + treatment"``, and random
            effects, if these are not in the other arguments: ``(1 + time | id)``,
            ``(1 | school/pupil)``, ``(1 | subject) + (1 | item)``.
        data : DataFrame
        re_formula : str, optional
            Correlated random effects, such as ``"~time"``; a random intercept
            by default, ``"0"`` for none.
        vc_formula : dict of str, optional
            Variance components by name, such as ``{"ward": "0 + C(ward)"}``.
        subset : array_like or str, optional
            Rows to use, as ``data.loc[subset]``: a mask (of pandas, polars or NumPy)
            or labels; or a condition on the columns, ``"age > 8 and sex == 'Male'"``.
        use_sparse : bool
            Whether ``exog_vc`` holds sparse matrices, as in statsmodels.
        missing : {"none", "raise", "drop"}
            Missing values raise, or their rows are dropped with a warning.
        groups : str or array_like
            Column of group labels, inside which residuals are correlated.  Where the
            formula has random effects it is needed only if their factors cross.
        time, series : str or array_like, optional
            Columns of times, and of series inside groups.
        residual : str or ResidualStructure
            Residual structure; by default AR(1) if `time` is given, and independent
            residuals if not.
        weights : VarianceFunction, str or array_like, optional
            Variance function of the residuals; a column or an array holds
            known weights.
        offset : str or array_like, optional
            Column of the part of the mean whose coefficient is one.
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

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_growth
        >>> model = mar.mixedlm(
        ...     "y ~ time + treatment",
        ...     load_growth(),
        ...     groups="id",
        ...     re_formula="~time",
        ...     time="time",
        ... )
        >>> fit = model.fit()
        >>> fit.params[["time", "rho"]].round(2).to_dict()
        {'time': 0.51, 'rho': 0.67}
        """
        if kwargs.get("residual_data") is not None:
            raise UnsupportedError(
                "residual_data= belongs to arrays; with a formula the columns are "
                "those of the data"
            )
        own = signature(cls.__init__).parameters
        _check_arguments(kwargs.keys() - own.keys(), missing)
        found = residual_from_names(default_residual(residual, time), weights)
        namespace = as_namespace(eval_env)
        words: dict[str, Any] = {"vc_formula": vc_formula, "missing": missing}
        words |= {"time": time, "series": series, "offset": offset}
        asked = formula, groups, re_formula, {**words, "subset": subset}
        table, stream = table_of(data, *asked, found, namespace)
        check_weights(weights, table)
        given_groups, groups = groups, one_factor("groups", groups, table)
        given = formula, table, groups, re_formula, vc_formula, kwargs
        written = written_effects(*given, correlated=is_correlated(found.structure))
        design = build_design(
            data=table,
            extra=found.needed(table.columns, namespace),
            subset=subset if stream is None else None,
            all_cells=stream is not None,
            eval_env=namespace,
            **written.arguments,
            **words,
        )
        found = found.evaluated(design.frame, design.extra, namespace)
        if design.n_dropped:
            warn_dropped(design.n_dropped)
        design = replace(design, formula=formula)
        options = written.options | {"stream": stream}
        model = from_design(cls, design, use_sparse, found, options)
        model.arrays = model.arrays.changed(
            variance_specs=found.specs, weighted=weights is not None
        )
        model.re_formula, model.vc_formula = re_formula, vc_formula
        model.given = callers_words(residual, weights, subset, missing)
        words |= {"formula": formula, "re_formula": re_formula, "groups": given_groups}
        words |= {"residual": residual, "weights": weights, "use_sparse": use_sparse}
        model.recipe = Recipe.of(namespace, **words, **kwargs)
        return model

    def for_rows(self, frame: pd.DataFrame) -> Self:
        """
        The model as it was written, of the rows of another frame.

        Raises
        ------
        UnsupportedError
            If the model is not from a formula, or was given arrays beside one.
        """
        if self.recipe is None:
            raise UnsupportedError(
                "a model of arrays, or of with_endog or residual_data=, cannot be "
                "built again for other rows: build it from a formula, with all it "
                "reads in the data, as in mixedlm('y ~ x', data, groups='id')"
            )
        return type(self).from_formula(data=frame, **self.recipe.arguments())

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
        method: str | Sequence[str] | None = None,
        **fit_kwargs: Any,
    ) -> MixedLMARResultsWrapper:
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
            the like: robust errors, see ``get_robustcov_results``.  ``collected``,
            a list: warnings are put there and not given, which is safe in threads
            as filters of warnings are not.  ``progress=True`` counts evaluations
            of the likelihood on the screen while a long fit goes on.  ``disp`` and
            other options of statsmodels' optimisers have no effect.

        Returns
        -------
        MixedLMARResultsWrapper

        Raises
        ------
        UnsupportedError
            If a penalty is combined with correlated residuals.
        TypeError
            For an argument that is not known.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit(reml=False)
        >>> fit.method
        'ML'
        """
        if fe_pen is not None or cov_pen is not None:
            self._refuse_penalty("fe_pen and cov_pen")
            for name in ("collected", "progress"):
                fit_kwargs.pop(name, None)
            given = start_params, reml, niter_sa, do_cg, fe_pen, cov_pen, free
            return super().fit(*given, full_output, method, **fit_kwargs)
        return fit_model(
            self, start_params, reml, do_cg, free, full_output, method, **fit_kwargs
        )

    def refit(self, endog: ArrayLike, **fit_kwargs: Any) -> MixedLMARResultsWrapper:
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

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> simulated = fit.simulate(2, rng=1)
        >>> model.refit(simulated[0]).converged
        True
        """
        found: list[Warning] = []
        fit = self.with_endog(endog).fit(**fit_kwargs, collected=found)
        for warning in found:
            # singular covariances are routine in a bootstrap; results say so
            if not isinstance(warning, BoundaryWarning):
                warn(warning)
        return fit

    def refit_many(
        self, endog: ArrayLike | pd.DataFrame, *, reml: bool = True
    ) -> Refits:
        """
        Fit the same model to many responses at once, as in a simulation.

        Each finds the maximum that :meth:`refit` finds.  Responses are searched
        together, which takes a twentieth of the time where groups are small.

        Parameters
        ----------
        endog : array_like or DataFrame, shape (n, k)
            One response a column, in the order of the model's rows.
        reml : bool
            Restricted maximum likelihood.

        Returns
        -------
        Refits
            ``params``, ``bse_fe``, ``tvalues`` and ``pvalues`` are frames with one row
            a response; ``llf`` and ``converged`` are arrays.  Estimates on the
            boundary do not warn.

        Raises
        ------
        MixedARError
            If a response is no column of finite numbers that vary.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> refits = model.refit_many(model.fit().simulate(100, rng=1))
        >>> refits.params.shape, bool(refits.converged.all())
        ((100, 5), True)
        """
        self.check_held()
        return refit_many(self.arrays, endog, reml=reml)

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

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> draws = model.get_distribution(fit.params, fit.scale).rvs(1)
        >>> draws.shape
        (108,)
        """
        return MixedDistribution(self, params, scale, exog)

    def with_endog(self, endog: ArrayLike) -> Self:
        """
        The same model for another response, as in a parametric bootstrap.

        Parameters
        ----------
        endog : array_like, shape (n,)
            In the order of the model's rows.

        Returns
        -------
        model
            Shares designs, groups and times with this model.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> other = model.with_endog(teeth["distance"] / 10)
        >>> other.fit().converged
        True
        """
        self.check_held()
        if self.data.row_labels is not None:
            check_labels("endog", endog, self.data.row_labels, "model.endog")
        values = float_array(endog, "the response")
        if values.shape != (self.nobs,):
            raise LengthError(
                f"the new response has the shape {values.shape}; the model has "
                f"{self.nobs} observations"
            )
        check_finite(values, [self.endog_names], "the response's")
        arrays = self.arrays.changed(endog=values)
        check_response(arrays.compressed.w, float(np.ptp(values)), self.endog_names)
        other = holding(self, arrays)
        other.recipe = None  # the data frame has the old response
        other.data.endog = other.endog = values
        other.data.orig_endog = pd.Series(values, self.data.row_labels)
        return other

    def with_residual(
        self,
        residual: str | ResidualStructure | None,
        weights: Any = UNCHANGED,
        residual_data: Any = None,
        *,
        relatives: Iterable[Self] = (),
    ) -> Self:
        """
        The same model with another residual structure.

        No formula of the effects is evaluated again.

        Parameters
        ----------
        residual : str, ResidualStructure or None
            As for the model.
        weights : VarianceFunction, str, array_like or None, optional
            Variance function; that of the model's own ``weights=`` by default,
            None for one variance.
        residual_data : DataFrame or mapping of str to array_like, optional
            Columns that the structure reads, one value for each of the model's
            rows; those of the data frame by default.
        relatives : iterable of MixedLMAR
            Models of the same rows whose compressed data may be shared too.

        Returns
        -------
        model
            Shares designs, groups and times with this model.

        Raises
        ------
        MixedARError
            If the data cannot carry the structure; see :mod:`mixedar.exceptions`.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> plain = model.with_residual("independent").fit()
        >>> len(plain.residual_params)
        0
        """
        self.check_held()
        found = residual_for(self.arrays, residual, weights, residual_data)
        arrays = self.arrays.with_residual(
            found.structure,
            found.columns,
            found.specs,
            [self.arrays, *(relative.arrays for relative in relatives)],
        )
        given, options = {**self.given, "residual": residual}, {"residual": residual}
        if not isinstance(weights, Unchanged):
            arrays = arrays.changed(weighted=weights is not None)
            given["weights"] = callers_words(residual, weights)["weights"]
            options["weights"] = weights
        other = holding(self, arrays)
        other.given = given
        if residual_data is not None:
            other.recipe = None
        elif self.recipe is not None:
            other.recipe = self.recipe.changed(capture_namespace(), **options)
        check_parameters(other)
        return other

    @property
    def df_containment(self) -> FloatArray:
        """Containment degrees of freedom of the fixed effects, shape (p,)."""
        return self.arrays.df_containment

    def __getstate__(self) -> dict[str, Any]:
        return self.without_lists()
