"""
What all panel models share: arrays or formulas in, a sorted panel out.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixedar._types import FloatArray
from mixedar.data.checks import check_lengths
from mixedar.data.formula import (
    FormulaSpec,
    build_design,
    capture_namespace,
    design_for,
)
from mixedar.exceptions import (
    DroppedRowsWarning,
    GroupError,
    LengthError,
    ResponseError,
    TimeError,
    UnknownColumnError,
    UnsupportedError,
    shown,
)
from mixedar.panel.data import PanelData, make_panel

Model = TypeVar("Model", bound="PanelModel")


class PanelModel:
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
    """

    #: Whether the estimator compares entities and so needs more than one.
    _needs_entities = True
    #: Whether the estimator needs entities that are observed repeatedly.
    _needs_repeats = False

    def __init__(
        self,
        endog: ArrayLike,
        exog: ArrayLike,
        entity: Any = None,
        time: Any = None,
        *,
        missing: str = "none",
        **options: Any,
    ) -> None:
        entity, time = _from_index(endog, entity, time)
        y = _response(endog)
        x, names = _regressors(exog)
        index = getattr(endog, "index", None)
        if not isinstance(index, pd.Index):
            index = getattr(exog, "index", None)
        if not isinstance(index, pd.Index):
            index = pd.RangeIndex(len(y))
        check_lengths(len(y), exog=x, entity=entity, time=time)
        other = getattr(exog, "index", None)
        if isinstance(other, pd.Index) and not other.equals(index):
            raise UnsupportedError(
                "endog and exog have different row labels; bring exog into the order "
                "of endog with exog.reindex(endog.index), or pass arrays to go by "
                "position"
            )
        dropped = 0
        if missing == "drop":
            keep = np.isfinite(y) & np.isfinite(x).all(axis=1)
            keep &= ~np.asarray(pd.isna(pd.Series(np.asarray(entity))))
            if time is not None:
                keep &= ~np.asarray(pd.isna(pd.Series(np.asarray(time))))
            dropped = int((~keep).sum())
            _warn_dropped(dropped)
            if dropped:
                y, x, index = y[keep], x[keep], index[keep]
                entity = _taken(entity, keep)
                time = None if time is None else _taken(time, keep)
        elif missing not in ("none", "raise"):
            raise UnsupportedError(
                f"missing={missing!r}: choose 'none', 'raise' or 'drop'"
            )
        panel = make_panel(
            y,
            x,
            names,
            entity,
            time,
            index=index,
            endog_name=str(getattr(endog, "name", None) or "y"),
            entity_name=str(getattr(entity, "name", None) or "entity"),
            time_name=str(getattr(time, "name", None) or "time"),
            n_dropped=dropped,
        )
        self.formula: str | None = None
        self.formula_spec: FormulaSpec | None = None
        self.data: pd.DataFrame | None = None
        self._init(panel, **options)

    def _init(self, panel: PanelData, **options: Any) -> None:
        """Check and keep the panel; subclasses read their options here."""
        if options:
            raise UnsupportedError(
                f"argument {min(options)!r} is not known to {type(self).__name__}"
            )
        self.panel = panel
        self._check_panel()

    def _check_panel(self) -> None:
        panel = self.panel
        if (panel.y == panel.y[0]).all():
            raise ResponseError(
                f"the response {panel.endog_name!r} is constant; there is no variation "
                "to model"
            )
        if self._needs_entities and panel.n_entities == 1:
            raise GroupError(
                f"all rows belong to one {panel.entity_name}, "
                f"{shown(panel.entity_labels[0])}: a panel needs several entities. "
                "Check the column named as entity=, or use a regression for time series"
            )
        if self._needs_repeats and panel.spread.max == 1:
            raise TimeError(
                f"every {panel.entity_name} is observed once only; the variation over "
                "time that this estimator uses does not exist. Check the columns "
                "named as entity= and time=, or use pooled least squares"
            )

    @classmethod
    def from_formula(
        cls: type[Model],
        formula: str,
        data: Any,
        entity: Any = None,
        time: Any = None,
        *,
        subset: Any = None,
        missing: str = "none",
        eval_env: Any = None,
        **options: Any,
    ) -> Model:
        """
        Build the model from a formula and a DataFrame.

        Parameters
        ----------
        formula : str
            Response and regressors, such as ``"y ~ time + treatment"``; it has an
            intercept unless it says ``0 +``.
        data : DataFrame
        entity : str or array_like, optional
            Column of entity labels; by default level 0 of a MultiIndex.
        time : str or array_like, optional
            Column of times, which may be a regressor as well; by default level 1
            of a MultiIndex, else the order of the rows.
        subset : array_like, optional
            Rows to use, as ``data.loc[subset]``.
        missing : {"none", "raise", "drop"}
            Missing values raise, or their rows are dropped with a warning.
        eval_env : int, mapping or patsy.EvalEnvironment, optional
            Where formulas find functions and variables: the caller's scope by
            default, ``-1`` for none.
        **options
            Passed on to the model.

        Returns
        -------
        PanelModel
            An instance of the class.

        Raises
        ------
        MixedARError
            For data or formulas that cannot be used.
        """
        if eval_env is None:
            eval_env = capture_namespace()
        elif isinstance(eval_env, int) and eval_env >= 0:
            eval_env = capture_namespace(eval_env + 1)
        entity, time = _from_index(data, entity, time)
        try:
            design = build_design(
                formula,
                data,
                groups=entity,
                time=time,
                subset=subset,
                missing=missing,
                eval_env=eval_env,
            )
        except UnknownColumnError as error:
            # the design speaks of groups, the panel of entities
            raise UnknownColumnError(str(error).replace("groups=", "entity=")) from None
        _warn_dropped(design.n_dropped)
        panel = make_panel(
            design.endog,
            np.ascontiguousarray(design.exog),
            design.exog_names,
            design.group_values,
            design.time,
            index=design.index,
            endog_name=design.endog_name,
            entity_name=design.groups_name if design.groups_name else "entity",
            time_name=design.time_name or "time",
            n_dropped=design.n_dropped,
        )
        self = cls.__new__(cls)
        self.formula = formula
        self.formula_spec = design.model_spec
        self.data = design.frame
        self._init(panel, **options)
        return self

    @property
    def exog_names(self) -> list[str]:
        """Names of the regressors."""
        return list(self.panel.names)

    @property
    def endog_names(self) -> str:
        """Name of the response."""
        return self.panel.endog_name

    def new_rows(self, exog: Any) -> tuple[FloatArray, pd.Index | None]:
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
        index = getattr(exog, "index", None)
        index = index if isinstance(index, pd.Index) else None
        if self.formula_spec is not None and not isinstance(exog, np.ndarray):
            return design_for(self.formula_spec, exog)[0], index
        if isinstance(exog, pd.DataFrame):
            absent = [name for name in self.panel.names if name not in exog]
            if absent:
                raise UnknownColumnError(
                    f"new rows need the columns {', '.join(self.panel.names)} of this "
                    f"model's design; {', '.join(absent)} are not there (the means of "
                    "entities are columns of their own)"
                )
            exog = exog[list(self.panel.names)]
        matrix = np.asarray(exog, dtype=np.float64)
        matrix = matrix[:, None] if matrix.ndim == 1 else matrix
        if matrix.shape[1] != len(self.panel.names):
            raise LengthError(
                f"exog has {matrix.shape[1]} columns; the model has "
                f"{len(self.panel.names)} ({', '.join(self.panel.names)})"
            )
        return matrix, index


def _from_index(data: Any, entity: Any, time: Any) -> tuple[Any, Any]:
    """Take what is not given from the levels of a MultiIndex."""
    index = getattr(data, "index", None)
    if isinstance(index, pd.MultiIndex) and index.nlevels >= 2:
        named = isinstance(entity, str) and entity == index.names[0]
        if entity is None or named:
            entity = index.get_level_values(0)
            time = index.get_level_values(1) if time is None else time
    if entity is None:
        raise GroupError(
            "entity= is missing: pass the name of the column with the labels of the "
            "entities, or data with a MultiIndex (entity, time)"
        )
    return entity, time


def _response(endog: Any) -> FloatArray:
    values = np.asarray(endog)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ResponseError(
            f"the response has shape {values.shape}; it must have one column"
        )
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ResponseError(
            f"the response is not numeric (it holds {values.dtype})"
        ) from None


def _regressors(exog: Any) -> tuple[FloatArray, Sequence[str]]:
    values = np.asarray(exog)
    try:
        x = np.array(values, dtype=np.float64, order="C")
    except (TypeError, ValueError):
        raise UnsupportedError(
            f"exog is not numeric (it holds {values.dtype}); use from_formula, which "
            "codes categories"
        ) from None
    x = x[:, None] if x.ndim == 1 else x
    if isinstance(exog, pd.DataFrame):
        return x, [str(name) for name in exog.columns]
    if isinstance(exog, pd.Series) and exog.name is not None:
        return x, [str(exog.name)]
    names = [f"x{j + 1}" for j in range(x.shape[1])]
    # statsmodels' names: a constant first is "const", the others x1, x2, ...
    constant = [j for j in range(x.shape[1]) if len(x) and np.ptp(x[:, j]) == 0.0]
    if constant:
        others = iter(names)
        names = [
            "const" if j == constant[0] else next(others) for j in range(x.shape[1])
        ]
    return x, names


def _taken(values: Any, keep: NDArray[np.bool_]) -> Any:
    if isinstance(values, (pd.Series, pd.Index)):
        return values[keep]
    return np.asarray(values)[keep]


def _warn_dropped(count: int) -> None:
    if count:
        warnings.warn(
            f"{count} row{'s' if count > 1 else ''} with missing values "
            f"{'were' if count > 1 else 'was'} left out",
            DroppedRowsWarning,
            stacklevel=3,
        )


Kind = Literal["fe", "re", "between", "fd", "pooled", "fe_ar1", "re_ar1"]


@dataclass(frozen=True)
class CovarianceInfo:
    """
    How the covariance of the coefficients was estimated.

    Attributes
    ----------
    cov_type : str
        ``"classical"``, ``"robust"``, ``"clustered"``, ``"hac"``,
        ``"driscoll-kraay"`` or ``"observed"``.
    small_sample : str or None
        Name of the small-sample factor; None for none.
    clusters : tuple of int
        Numbers of clusters in each dimension; empty without clusters.
    df : float
        Degrees of freedom of Student's t; infinite for the normal distribution.
    label : str
        For the summary.
    """

    cov_type: str = "classical"
    small_sample: str | None = None
    clusters: tuple[int, ...] = ()
    df: float = np.inf
    label: str = "classical"


@dataclass(frozen=True, eq=False)
class PanelEstimate:
    """
    The numbers of a fit, without labels of rows.

    Attributes
    ----------
    kind : str
        ``"fe"``, ``"re"``, ``"between"``, ``"fd"``, ``"pooled"``, ``"fe_ar1"``
        or ``"re_ar1"``.
    method : str
        The estimator in words.
    columns : ndarray of int, shape (k,)
        Columns of ``panel.x`` that have a coefficient.
    params : ndarray, shape (k,)
        Coefficients.
    cov : ndarray, shape (k, k)
        Their covariance, as `info` says.
    info : CovarianceInfo
        How the covariance was estimated.
    scale : float
        Variance of the idiosyncratic error, residual sum of squares of the
        transformed regression over `df_resid`.
    df_resid : int
        Residual degrees of freedom.
    nobs : int
        Rows of the (transformed) regression.
    absorbed : tuple of str
        Regressors that the effects leave no variation of.
    notes : tuple of str
        Remarks for the summary, sentences.
    effects : tuple of str
        ``("entity",)``, ``("time",)``, ``("entity", "time")`` or ``()``.
    theta : ndarray, shape (N,), or None
        Fractions of the means that quasi-demeaning subtracts.
    sigma2_u, sigma2_e : float or None
        Variances of effects and idiosyncratic errors.
    rho : float or None
        Autoregressive parameter of the errors.
    llf : float or None
        Log-likelihood.
    f_pooled : tuple of float or None
        F statistic that all effects are zero and its two degrees of freedom.
    statistics : mapping of str to float
        Further numbers by name.
    rows : ndarray of int or None
        Sorted rows that enter a regression in differences; None for all.
    previous : ndarray of int or None
        The rows that are subtracted from them.
    entity_effects : ndarray, shape (N,), or None
        Effects where the estimator has a predictor of its own.
    rsquared : tuple of float or None
        R squared within, between and overall where they are not those of the
        data as they are.
    """

    kind: Kind
    method: str
    columns: NDArray[np.intp]
    params: FloatArray
    cov: FloatArray
    info: CovarianceInfo
    scale: float
    df_resid: int
    nobs: int
    absorbed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    theta: FloatArray | None = None
    sigma2_u: float | None = None
    sigma2_e: float | None = None
    rho: float | None = None
    llf: float | None = None
    f_pooled: tuple[float, float, float] | None = None
    statistics: Mapping[str, float] = field(default_factory=dict)
    rows: NDArray[np.intp] | None = None
    previous: NDArray[np.intp] | None = None
    entity_effects: FloatArray | None = None
    rsquared: tuple[float, float, float] | None = None
