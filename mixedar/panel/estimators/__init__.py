"""
What all panel models share: their data, sorted, and how estimates are put together.
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixedar._lazy import near_argument
from mixedar._types import FloatArray, IntArray
from mixedar.data.designs import matrix_rows
from mixedar.data.formula import FormulaSpec, as_namespace, build_design
from mixedar.data.given import (
    as_rows,
    check_missing,
    drop_missing,
    response_vector,
    row_labels,
    warn_dropped,
)
from mixedar.data.reading import Reading, named_column
from mixedar.data.rows import as_frame, one_factor
from mixedar.exceptions import (
    GroupError,
    MixedARError,
    ResponseError,
    TimeError,
    UnsupportedError,
    listing,
    shown,
)
from mixedar.panel.algebra import (
    Standardized,
)
from mixedar.panel.covariance import (
    CovarianceRequest,
    absent_periods,
    cluster_codes,
    sandwich,
)
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import ESTIMATORS, Kind, PanelEstimate
from mixedar.panel.estimators.arguments import from_index, name_of, regressors_of
from mixedar.panel.few_clusters import bias_reduced, without_error
from mixedar.panel.sorting import make_panel
from mixedar.panel.streamed import read_panel
from mixedar.panel.transformed import (
    Transformation,
)
from mixedar.streams import Source, as_source
from mixedar.summary import NamedInALine, in_a_line

Model = TypeVar("Model", bound="PanelModel")


@dataclass(frozen=True, eq=False)
class FormulaRows:
    """
    The data of a formula as statsmodels holds them, which marginaleffects reads.

    Attributes
    ----------
    model : PanelModel
    frame : DataFrame
        The rows that are used.
    """

    model: PanelModel
    frame: pd.DataFrame

    @property
    def design_info(self) -> Callable[[Any], tuple[None, FloatArray]]:
        """Builds designs of new rows: ``design_info(rows)`` is the pair (None, X)."""
        if self.model.formula_spec is None:
            raise UnsupportedError(
                "means of entities are columns that the formula does not have: new "
                "rows cannot be made of it. Use predict and wald_test, or write the "
                "means into the formula"
            )
        return self._design

    def _design(self, rows: Any) -> tuple[None, FloatArray]:
        matrix, _ = self.model.new_rows(as_frame(rows))
        return None, matrix[:, self.model.columns]


class PanelModel(NamedInALine, ABC):
    """
    Arrays of a panel model.

    Parameters
    ----------
    endog : array_like, shape (n,)
        Response.
    exog : array_like, shape (n, p)
        Regressors, the constant (if any) included.
    entity : array_like, shape (n,), optional
        Labels of the entities; by default level 0 of the index of `endog`.
    time : array_like, shape (n,), optional
        Times: numbers, dates or periods; by default level 1 of the index of
        `endog` if that is a MultiIndex, else the order of the rows.
    delta : number, str or duration, optional
        The unit of time, in which lags and differences count: a number for numbers
        and periods, a duration such as ``"6 months"`` or a Timedelta for dates.  By
        default the common step of the times of an entity (Stata's ``xtset``, where
        it is to be said).
    weights : array_like, shape (n,), optional
        Inverse variances of the errors, up to a constant (Stata's aweights): of
        pooled least squares, fixed and random effects.
    missing : {"none", "raise", "drop"}
        Missing values raise, or their rows are dropped with a warning.

    Attributes
    ----------
    panel : PanelData
        The data, sorted by entity and time.

    Raises
    ------
    MixedARError
        For data that cannot be used; see :mod:`mixedar.exceptions`.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> import mixedar.formula.api as mar
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> mar.pooled("invest ~ value + capital", firms, "firm", "year")
    <PooledOLS: invest ~ value + capital; 220 rows, 11 entities>
    """

    formula: str | None = None
    formula_spec: FormulaSpec | None = None
    #: The rows of the formula's data that are used, and as statsmodels holds them.
    frame: pd.DataFrame | None = None
    data: FormulaRows | None = None
    #: Regressors that have a coefficient, known once the model is fitted.
    columns: IntArray | slice = slice(None)
    #: Names of the means of the entities among the regressors.
    means: tuple[str, ...] = ()
    kind: ClassVar[Kind]
    #: The estimator in words, unless that depends on the arguments of `fit`.
    method: ClassVar[str] = ""
    #: Whether the estimator compares entities and so needs more than one.
    _needs_entities = True
    #: Whether the estimator needs entities that are observed repeatedly.
    _needs_repeats = False
    #: Whether it is computed from sums of rows that are read in batches.
    _takes_sources = False
    #: Whether the estimator is defined for weighted rows.
    _takes_weights = False

    def __init__(
        self,
        endog: ArrayLike,
        exog: ArrayLike,
        entity: object = None,
        time: object = None,
        *,
        delta: object = None,
        weights: object = None,
        missing: str = "none",
        **options: Any,
    ) -> None:
        entity, time = from_index(endog, entity, time)
        entity = one_factor("entity", entity)
        given = as_rows(
            endog=endog, exog=exog, entity=entity, time=time, weights=weights
        ).values()
        endog, exog, entity, time, weights = given
        y = response_vector(endog).copy()
        x, names = regressors_of(exog)
        index = row_labels(*given)
        index = pd.RangeIndex(len(y)) if index is None else index
        check_missing(missing)
        dropped = 0
        if missing == "drop":
            rows = [y, x, np.arange(len(y)), entity, time, weights]
            (y, x, kept, entity, time, weights), _, dropped = drop_missing(rows)
            index = index[kept]
            warn_dropped(dropped)
        panel = make_panel(
            y,
            x,
            names,
            entity,
            time,
            weights,
            index=index,
            endog_name=name_of(endog, "y"),
            entity_name=name_of(entity, "entity"),
            time_name=name_of(time, "time"),
            weights_name=name_of(weights, "weights"),
            n_dropped=dropped,
            delta=delta,
        )
        self._init(panel, **options)

    def __repr__(self) -> str:
        panel = self.panel
        size = f"{panel.nobs} rows, {panel.n_entities} entities"
        return in_a_line(self, self.formula, panel.endog_name, size)

    def _init(self, panel: PanelData, **options: Any) -> None:
        """Check and keep the panel; subclasses read their options here."""
        self._check_options(**options)
        if panel.weights is not None and not self._takes_weights:
            raise UnsupportedError(
                f"weights= is not defined for {ESTIMATORS[self.kind].words}; it is for "
                "pooled least squares, fixed effects and random effects"
            )
        self.panel = panel
        self._check_panel()

    def _check_panel(self) -> None:
        panel = self.panel
        if panel.has_constant_response:
            raise ResponseError(
                f"the response {panel.endog_name!r} is constant; there is no variation "
                "to model"
            )
        if self._needs_entities and panel.n_entities == 1:
            raise GroupError(
                f"all rows belong to one {panel.entity_name}, "
                f"{shown(panel.first_entity)}: a panel needs several entities. "
                "Check the column named as entity=, or use a regression for time series"
            )
        if self._needs_repeats and panel.n_times.max == 1:
            raise TimeError(
                f"every {panel.entity_name} is observed once only; the variation over "
                "time that this estimator uses does not exist. Check the columns "
                "named as entity= and time=, or use pooled least squares"
            )

    @classmethod
    def from_formula(
        cls: type[Model],
        formula: str,
        data: object,
        entity: object = None,
        time: object = None,
        *,
        delta: object = None,
        weights: object = None,
        subset: object = None,
        missing: str = "none",
        eval_env: object = None,
        **options: Any,
    ) -> Model:
        """
        Build the model from a formula and a DataFrame.

        Parameters
        ----------
        formula : str
            Response and regressors, such as ``"y ~ time + treatment"``; it has an
            intercept unless it says ``0 +``.
        data : DataFrame or source
            Rows of pooled least squares, fixed effects and random effects may be read
            in batches, see ``mar.scan``; then `entity`, `time` and `subset` are
            texts, and there are no `weights`.
        entity : str or array_like, optional
            Column of entity labels; by default level 0 of a MultiIndex.
        time : str or array_like, optional
            Column of times, which may be a regressor as well; by default level 1
            of a MultiIndex, else the order of the rows.
        delta : number, str or duration, optional
            The unit of time, as for the arrays.
        weights : str or array_like, optional
            Column of weights, as for the arrays.
        subset : array_like or str, optional
            Rows to use, as ``data.loc[subset]``: a mask (of pandas, polars or NumPy)
            or labels; or a condition on the columns, ``"age > 8 and sex == 'Male'"``.
        missing : {"none", "raise", "drop"}
            Missing values raise, or their rows are dropped with a warning.
        eval_env : int, mapping or patsy.EvalEnvironment, optional
            Where formulas find functions and variables: the caller's scope by
            default, ``-1`` for none.
        **options
            What the class takes beyond this: ``effects`` of fixed effects, ``gaps`` and
            ``drift`` of first differences.

        Returns
        -------
        PanelModel
            An instance of the class.

        Raises
        ------
        MixedARError
            For data or formulas that cannot be used.

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> model = mar.fixed_effects("invest ~ value + capital", firms, "firm", "year")
        >>> fit = model.fit("clustered")
        >>> fit.params.round(2).to_dict()
        {'Intercept': -55.27, 'value': 0.11, 'capital': 0.31}
        """
        source = as_source(data)
        if source is not None:
            rows = subset, missing, as_namespace(eval_env)
            asked = cls._asked(source, formula, entity, time, rows)
            return cls._of_source(asked, delta, weights, options)
        table = as_frame(data)
        entity, time = from_index(data, entity, time, table.columns)
        entity = one_factor("entity", entity, table)
        try:
            design = build_design(
                formula,
                table,
                groups=entity,
                time=time,
                extra=None if weights is None else {"weights": weights},
                subset=subset,
                missing=missing,
                eval_env=eval_env,
            )
        except MixedARError as error:
            # the design speaks of groups, the panel of entities
            message = re.sub(r"\bgroups(?=[=.]| and data)", "entity", str(error))
            raise type(error)(message) from None
        warn_dropped(design.n_dropped)
        panel = make_panel(
            design.endog,
            np.ascontiguousarray(design.exog),
            design.exog_names,
            design.group_values,
            design.time,
            None if weights is None else design.extra["weights"],
            index=design.index,
            endog_name=design.endog_name,
            entity_name=name_of(entity, design.groups_name),
            time_name=design.time_name or "time",
            weights_name=weights if isinstance(weights, str) else "weights",
            n_dropped=design.n_dropped,
            delta=delta,
        )
        self = cls.__new__(cls)
        self.formula = formula
        self.formula_spec = design.model_spec
        self.frame = design.frame
        self.data = FormulaRows(self, design.frame)
        self._init(panel, **options)
        return self

    @classmethod
    def _asked(
        cls, source: Source, formula: str, entity: object, time: object, rows: Any
    ) -> Reading:
        """What is read of a source."""
        if not cls._takes_sources:
            raise UnsupportedError(
                f"{ESTIMATORS[cls.kind].words} needs all rows in memory; of a source "
                "there are pooled least squares, fixed effects and random effects"
            )
        entity, time = from_index(None, entity, time)
        key = named_column("entity", entity)
        named = {} if time is None else {"time": named_column("time", time)}
        return Reading(source, formula, key, named, *rows)

    @classmethod
    def _of_source(
        cls: type[Model],
        asked: Reading,
        delta: object,
        weights: object,
        options: dict[str, Any],
    ) -> Model:
        """The model of rows that are read in batches."""
        if weights is not None:
            raise UnsupportedError(
                "weights= of a source are not defined for panels: pass a frame"
            )
        if delta is not None and not asked.named:
            raise TimeError(f"delta={delta!r} is the unit of time=, which is missing")
        self = cls.__new__(cls)
        self._check_source(**options)
        panel, self.formula_spec = read_panel(asked, delta)
        self.formula = asked.formula
        warn_dropped(panel.n_dropped)
        self._init(panel, **options)
        return self

    def _check_source(self, **options: Any) -> None:
        """Raise for options that need all rows, before any are read."""
        self._check_options(**options)

    def _check_options(self, **options: Any) -> None:
        """Raise for options that the class does not have."""
        if options:
            raise UnsupportedError(
                f"argument {min(options)!r} is not known to {type(self).__name__}"
                + near_argument(min(options), type(self).from_formula)
            )

    def _estimated(
        self,
        request: CovarianceRequest,
        standard: Standardized,
        coef: FloatArray,
        x: FloatArray,
        resid: FloatArray,
        df_resid: int,
        columns: IntArray,
        *,
        effects: tuple[str, ...] = (),
        classical: FloatArray | None = None,
        used: IntArray | slice = slice(None),
        **parts: Any,
    ) -> PanelEstimate:
        """
        The estimate that a transformed regression gives.

        `coef` and the covariance `classical` (that of least squares by default)
        belong to the columns of `standard`, and so do those of the regression, `x`;
        `used` are its rows in the panel, `parts` further fields.  Rows come multiplied
        by the square roots of their weights.
        """
        panel, self.columns = self.panel, columns
        self.check_residuals(resid)
        fixed, random = self.kind.startswith("fe"), self.kind.startswith("re")
        # the mean of fixed effects is no further parameter
        means = np.flatnonzero(columns == (panel.constant if fixed else None))
        clusters = [codes[used] for codes in cluster_codes(panel, request, self.frame)]
        ratio = parts.get("sigma2_u", 0.0) / parts["sigma2_e"] if random else 0.0
        how = columns, standard.back, coef, parts.get("theta"), ratio
        regression = panel.regression(
            x,
            resid,
            used,
            Transformation(self.kind, *how),
            df_resid=df_resid,
            constant=int(means[0]) if len(means) else None,
            classical=classical,
            clusters=clusters,
            effects=effects if fixed else (),
            use_t=not random,
        )
        back, names = standard.back, [panel.names[j] for j in columns]
        if request.cov_type == "CR2":
            cov, info = bias_reduced(regression, back)
        else:
            cov, info = sandwich(regression, request)
        cov = standard.cov(cov)
        none, notes = without_error(panel, regression, request.cov_type, back, names)
        cov[none, :] = cov[:, none] = np.nan
        notes += absent_periods(panel, regression, request)
        parts["notes"] = (*parts.get("notes", ()), *notes)
        fields = {"method": self.method, "scale": float(resid @ resid) / df_resid}
        return PanelEstimate(
            kind=self.kind,
            columns=columns,
            params=back @ coef,
            cov=cov,
            info=info,
            df_resid=df_resid,
            nobs=regression.nobs,
            effects=effects,
            regression=regression,
            back=back,
            **{**fields, **parts},
        )

    def check_residuals(self, resid: FloatArray) -> None:
        """Raise if the model leaves nothing of the response."""
        total = self.panel.centre(self.panel.y)
        if resid @ resid <= 1e-26 * (total @ total):
            raise ResponseError(
                f"the response {self.panel.endog_name!r} is a combination of the "
                "regressors and the effects; no residual variation is left to model"
            )

    def singleton_notes(self, meaning: str) -> list[str]:
        """A sentence on entities with one observation; `meaning` follows "They"."""
        panel, found = self.panel, self.panel.singletons
        if not found:
            return []
        return [
            f"Entities with one observation: {panel.n_singletons} ({panel.entity_name} "
            f"{listing(found)}). They {meaning}."
        ]

    @property
    def exog_names(self) -> list[str]:
        """Names of the regressors."""
        return list(self.panel.names)

    @property
    def endog_names(self) -> str:
        """Name of the response."""
        return self.panel.endog_name

    def predict(self, params: ArrayLike, exog: ArrayLike) -> FloatArray:
        """
        Means ``x b`` of a design, as statsmodels' models have it.

        Parameters
        ----------
        params : array_like, shape (k,)
        exog : array_like, shape (m, k)
            Columns that have a coefficient.

        Returns
        -------
        ndarray, shape (m,)

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> model = mar.pooled("invest ~ value + capital", firms, "firm", "year")
        >>> fit = model.fit()
        >>> model.predict(fit.params, [[1.0, 1000.0, 100.0]]).shape
        (1,)
        """
        return np.asarray(np.asarray(exog) @ np.asarray(params), dtype=np.float64)

    def new_rows(self, exog: object) -> tuple[FloatArray, pd.Index | None]:
        """
        Regressors of new rows.

        Parameters
        ----------
        exog : DataFrame or array_like
            Data for the formula, or a matrix, shape (m, p).

        Returns
        -------
        matrix : ndarray, shape (m, p)
        index : pandas.Index or None
            Labels of the rows, if they have any.

        Raises
        ------
        LengthError
            If a matrix does not have p columns.
        UnknownColumnError
            If data lack a column, for a model without a formula of its own.
        """
        by_formula = self.formula_spec is not None
        if by_formula and not isinstance(exog, (np.ndarray, list)):
            table = as_frame(exog)
            assert self.formula_spec is not None
            return self.formula_spec.matrix(table), table.index
        return matrix_rows(exog, self.panel.names, lone=False)
