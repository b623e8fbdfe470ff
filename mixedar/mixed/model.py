"""
MixedLMAR: linear mixed models whose residuals are correlated in time.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from statsmodels.base.model import LikelihoodModel
from statsmodels.regression.mixed_linear_model import (
    MixedLMParams,
    VCSpec,
    _convert_vc,
)

from mixedar.compress import compress
from mixedar.containment import containment_df, nested_levels
from mixedar.covariance import RandomCovariance
from mixedar.design import Design, FormulaSpec, build_design, capture_namespace
from mixedar.exceptions import (
    DroppedRowsWarning,
    DuplicateTimeError,
    EmptyDataError,
    GroupError,
    LengthError,
    ResponseError,
    UnsupportedError,
)
from mixedar.grouped import GroupedRows, group_rows
from mixedar.identification import check_identified
from mixedar.mixed import components as vc
from mixedar.mixed.distribution import MixedDistribution
from mixedar.mixed.drop import drop_missing
from mixedar.mixed.evaluation import PackedLikelihood
from mixedar.mixed.fitting import fit_model
from mixedar.mixed.parent import LazyGroupLists
from mixedar.problem import random_effects_map
from mixedar.residual import ResidualStructure, resolve
from mixedar.timeaxis import TimeAxis, time_axis
from mixedar.validate import (
    check_finite,
    check_lengths,
    check_rank,
    check_response,
    group_codes,
)

__all__ = ["MixedLMAR"]

FloatArray = NDArray[np.float64]


class MixedLMAR(PackedLikelihood, LazyGroupLists):
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
        ``"independent"``, or a structure such as ``AR1(0.5, fixed=True)``.
    series : array_like, shape (n,), optional
        Labels of independent series inside the groups, nlme's
        ``~ time | group/series``.
    re_cov : {"unstructured", "diagonal"}
        Whether random effects are correlated with one another.
    use_sqrt : bool
        How packed parameters are read, as in statsmodels.
    missing : {"none", "raise", "drop"}
        Missing values raise, or their rows are dropped from every array.

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
        endog: ArrayLike,
        exog: ArrayLike,
        groups: ArrayLike,
        exog_re: ArrayLike | None = None,
        exog_vc: Any = None,
        time: Any = None,
        residual: str | ResidualStructure | None = "ar1",
        series: Any = None,
        re_cov: str = "unstructured",
        use_sqrt: bool = True,
        missing: str = "none",
        **kwargs: Any,
    ) -> None:
        unknown = sorted(set(kwargs) - {"missing_idx", "model_spec", "formula", "design"})
        if unknown:
            raise UnsupportedError(
                f"argument {unknown[0]} not permitted for MixedLMAR initialization"
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
        n = len(np.asarray(endog)) if not hasattr(endog, "__len__") else len(endog)
        check_lengths(
            n, exog=exog, groups=groups, exog_re=exog_re, time=time, series=series
        )
        if n == 0:
            raise EmptyDataError("there are no observations; check subset= and missing=")
        if missing == "drop" and design is None:
            endog, exog, groups, exog_re, exog_vc, time, series, dropped = drop_missing(
                endog, exog, groups, exog_re, exog_vc, time, series
            )
            _warn_dropped(dropped)
        self.use_sqrt = use_sqrt
        self.re_cov = re_cov
        self.residual = resolve(residual)
        self.reml = True
        self.fe_pen = self.re_pen = self.cov_pen = self._freepat = None
        self.exog_vc = VCSpec([], [], []) if exog_vc is None else exog_vc
        self.k_vc = len(self.exog_vc.names)
        self.groups, self.time, self.series = groups, time, series
        self._init_data(endog, exog)
        self._init_groups(groups)
        self._init_random_effects(exog_re, design)
        self._init_time(time, series)
        self._check_data()
        self._set_names(exog_re)
        self._init_engine()

    def _init_data(self, endog: Any, exog: Any) -> None:
        """What statsmodels' base class does with endog and exog."""
        if not hasattr(exog, "shape"):
            exog = np.asarray(exog)
        if isinstance(exog, np.ndarray) and exog.ndim == 1:
            exog = exog[:, None]
        values = np.asarray(endog)
        if values.ndim > 1 and values.shape[1] > 1:
            raise ResponseError(
                f"the response has {values.shape[1]} columns; model one at a time"
            )
        if values.dtype.kind not in "biuf":
            try:
                endog = pd.Series(endog).astype(np.float64)
            except (TypeError, ValueError):
                raise ResponseError(
                    f"the response is not numeric (it holds {values.dtype})"
                ) from None
        # the base class would compute a rank over all rows to find an implicit
        # constant, which nothing here needs
        LikelihoodModel.__init__(self, endog, exog, missing="none", hasconst=False)
        self._init_keys = ["groups", "exog_re", "exog_vc", "time", "residual"]
        self._init_keys += ["series", "re_cov", "use_sqrt"]
        self.endog = np.asarray(self.endog, dtype=np.float64)
        self.exog = np.asarray(self.exog, dtype=np.float64)
        if self.exog.ndim == 1:
            self.exog = self.exog[:, None]
        self.k_fe = self.exog.shape[1]
        self.nobs = self.n_totobs = len(self.endog)

    def _init_groups(self, groups: Any) -> None:
        self._codes, labels = group_codes(groups)
        self.group_labels = labels.tolist()
        self.n_groups = len(labels)

    def _init_random_effects(self, exog_re: Any, design: Design | None) -> None:
        if exog_re is None and self.k_vc == 0:
            self.exog_re = np.ones((self.nobs, 1))
        elif exog_re is None:
            self.exog_re = None
        else:
            self.exog_re = np.asarray(exog_re, dtype=np.float64)
            if self.exog_re.ndim == 1:
                self.exog_re = self.exog_re[:, None]
        self.data.exog_re = self.exog_re
        self.k_re = 0 if self.exog_re is None else self.exog_re.shape[1]
        self.k_re2 = self.k_re * (self.k_re + 1) // 2
        self.k_params = self.k_fe + self.k_re2
        self._components = design.vc if design is not None and design.vc else None
        if design is not None and design.vc:
            self._vc = vc.from_components(design.vc, self.nobs)
        elif self.k_vc:
            if any(len(mats) != self.n_groups for mats in self.exog_vc.mats):
                raise LengthError("exog_vc needs one matrix for each group")
            self._vc = vc.from_spec(self.exog_vc, self._rows_by_group, self.nobs)
        else:
            self._vc = vc.ComponentColumns([], [])

    def _init_time(self, time: Any, series: Any) -> None:
        name = getattr(time, "name", None) or "time"
        self._axis: TimeAxis | None = None
        if time is not None:
            self._axis = time_axis(time, self.residual, name)
        series_codes = None if series is None else group_codes(series, "series")[0]
        values = None if self._axis is None else self._axis.values
        grouped = group_rows(self._codes, values, series_codes, self.n_groups)
        if not self.residual.needs_distinct_times:
            # times do not matter: every row is a series of its own
            gaps = np.zeros(self.nobs)
            grouped = GroupedRows(grouped.order, grouped.offsets, gaps)
        self._grouped = grouped
        twins = grouped.duplicate()
        if twins is not None:
            row, other = twins
            label = self.group_labels[self._codes[row]]
            # rows by position: an index label may occur more than once
            when = pd.Series(time).iloc[row]
            raise DuplicateTimeError(
                f"time {name!r} is {when!r} twice in group {label!r} (rows {row} and "
                f"{other}, counted from 0); {self.residual.label} needs one observation "
                "for each time: aggregate, or name the independent series inside a group "
                "with series="
            )

    def _check_data(self) -> None:
        index = self.data.row_labels
        check_finite(self.endog, [self.endog_names], "the response's", index)
        check_finite(self.exog, self.exog_names, "fixed-effects", index)
        if self.exog_re is not None:
            names = [f"x_re{k + 1}" for k in range(self.k_re)]
            check_finite(self.exog_re, names, "random-effects", index)
        for name, matrix in zip(self.exog_vc.names, self._vc.matrices, strict=True):
            check_finite(matrix, [name] * matrix.shape[1], "variance-component", index)
        if self.k_re and self.n_groups == 1:
            raise GroupError(
                f"all rows belong to one group, {self.group_labels[0]!r}: random effects "
                "of groups cannot be estimated from one. Use re_formula='0' for a "
                "regression with correlated errors, or vc_formula for effects inside it"
            )

    def _set_names(self, exog_re: Any) -> None:
        if exog_re is None and self.k_vc == 0:
            names = full = ["Group Var"]
            self.data.param_names = [*self.exog_names, *names]
        else:
            if isinstance(exog_re, pd.Series) and exog_re.name is None:
                exog_re = None
            named = isinstance(exog_re, (pd.DataFrame, pd.Series))
            everything, names, full = self._make_param_names(
                exog_re if named else self.exog_re
            )
            self.data.param_names = everything
        self.data.param_names = [*self.data.param_names, *self.residual.param_names]
        self.data.exog_re_names = names
        self.data.exog_re_names_full = full
        if self.k_vc:
            self.data.vcomp_names = list(self.exog_vc.names)

    def _init_engine(self) -> None:
        """Compress, and refuse what no likelihood can answer."""
        self._rows = self._compressed()
        p = self.k_fe
        check_rank(self._rows.w[:, :p], self.exog_names, "fixed-effects")
        check_rank(
            self._rows.z[:, : self.k_re], self.data.exog_re_names, "random-effects"
        )
        check_response(self._rows.w, float(np.ptp(self.endog)), self.endog_names)
        if self.nobs <= p:
            raise EmptyDataError(
                f"{self.nobs} observations cannot estimate {p} fixed effects and a "
                "residual variance; use fewer columns"
            )
        layout = self._layout(None, None)
        check_identified(
            self._rows,
            self.residual,
            layout,
            self.data.param_names[p:],
            random_effects_map(self._rows, self.nobs, layout),
        )
        attributes = ["exog_re", "groups", "time", "series", "_codes", "_grouped"]
        attributes += ["_rows", "_vc", "_axis", "data.exog_re", "data.frame"]
        self._data_attr.extend(attributes)

    def _compressed(self) -> Any:
        sort = self._grouped.sort
        return compress(
            sort(self._random_design()),
            sort(self.exog),
            sort(self.endog),
            self._grouped.gaps,
            self._grouped.offsets,
        )

    def _random_design(self) -> FloatArray:
        """All random-effects columns, shape (n, q), in the caller's row order."""
        parts = [] if self.exog_re is None else [self.exog_re]
        parts += self._vc.matrices
        if not parts:
            return np.empty((self.nobs, 0))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _layout(
        self, free: MixedLMParams | None, start: MixedLMParams | None
    ) -> RandomCovariance:
        """Which entries of the random-effects factor are estimated."""
        layout = RandomCovariance.free(self.k_re, self._vc.sizes)
        fixed = layout.fixed.copy()
        rows, columns = layout.tril
        if free is not None:
            given = start or MixedLMParams.from_components(
                cov_re=np.eye(self.k_re), vcomp=np.ones(self.k_vc)
            )
            held = free.get_packed(use_sqrt=False, has_fe=False) == 0.0
            fixed[held] = given.get_packed(use_sqrt=True, has_fe=False)[held]
        if self.re_cov == "diagonal":
            fixed[: len(rows)][rows != columns] = 0.0
        return RandomCovariance(self.k_re, self._vc.sizes, fixed)

    @property
    def df_containment(self) -> FloatArray:
        """Containment degrees of freedom of the fixed effects, shape (p,)."""
        levels = nested_levels(self._codes, self._vc.levels)
        random = self.k_re + self.k_vc > 0
        return containment_df(self.exog, levels, random)

    @property
    def time_unit(self) -> str:
        """What one unit of time is, for summaries."""
        if self._axis is None:
            return "row"
        return self._axis.unit or "1"

    @classmethod
    def from_formula(  # type: ignore[override]
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
            raise AttributeError(
                "'groups' is a required keyword argument in MixedLM.from_formula"
            )
        if eval_env is None:
            eval_env = capture_namespace()
        elif isinstance(eval_env, int) and eval_env >= 0:
            eval_env = capture_namespace(eval_env + 1)
        design = build_design(
            formula,
            data,
            groups=groups,
            re_formula=re_formula,
            vc_formula=vc_formula,
            time=time,
            series=series,
            subset=subset,
            missing=missing,
            eval_env=eval_env,
            vc_use_sparse=use_sparse,
        )
        if design.n_dropped:
            _warn_dropped(design.n_dropped)
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
            residual=residual,
            series=design.series,
            design=design,
            **kwargs,
        )
        model.formula = formula
        model.re_formula, model.vc_formula = re_formula, vc_formula
        model.groups_name, model.time_name = design.groups_name, design.time_name
        model.formula_spec: FormulaSpec = design.model_spec
        model.re_spec = design.re_spec
        model.data.frame = design.frame
        return model

    def fit(  # type: ignore[override]
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
            log-likelihood can rise by no more than this.

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
                start_params, reml, niter_sa, do_cg, fe_pen, cov_pen, free,
                full_output, method, **fit_kwargs,
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

    def fit_regularized(self, *args: Any, **kwargs: Any) -> Any:
        """
        Penalised fit by statsmodels; independent residuals only.

        Raises
        ------
        UnsupportedError
            For correlated residuals.
        """
        self._refuse_penalty("fit_regularized")
        return super().fit_regularized(*args, **kwargs)

    def _refuse_penalty(self, what: str) -> None:
        if self.residual.k_params:
            raise UnsupportedError(
                f"{what}: penalised likelihoods are available for residual="
                f"'independent' only; statsmodels' penalised fit ignores the "
                f"{self.residual.label} correlation of this model"
            )

    def with_endog(self, endog: ArrayLike) -> MixedLMAR:
        """
        The same model for another response, as in a parametric bootstrap.

        Parameters
        ----------
        endog : array_like, shape (n,)
            In the order of the model's rows.

        Returns
        -------
        MixedLMAR
            Shares designs, groups and times with this model.
        """
        values = np.asarray(endog, dtype=np.float64)
        check_lengths(self.nobs, endog=values)
        check_finite(values, [self.endog_names], "the response's")
        other = object.__new__(type(self))
        other.__dict__ = self._without_lists()
        other.data = copy.copy(self.data)
        other.data.endog = other.endog = values
        other.data.orig_endog = pd.Series(values, self.data.row_labels)
        other._rows = other._compressed()
        check_response(other._rows.w, float(np.ptp(values)), self.endog_names)
        return other

    def get_distribution(  # type: ignore[override]
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

    def __getstate__(self) -> dict[str, Any]:
        return self._without_lists()


def _warn_dropped(count: int) -> None:
    if count:
        warnings.warn(
            f"{count} row{'s' if count > 1 else ''} with missing values "
            f"{'were' if count > 1 else 'was'} left out",
            DroppedRowsWarning,
            stacklevel=3,
        )
