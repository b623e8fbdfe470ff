"""
The arrays of a mixed model: checked, grouped, sorted and compressed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from statsmodels.base.model import LikelihoodModel
from statsmodels.regression.mixed_linear_model import MixedLMParams

from mixedar._types import UNCHANGED, FloatArray, Unchanged
from mixedar.data import components as vc
from mixedar.data.checks import (
    check_finite,
    check_magnitude,
    check_rank,
    check_response,
    float_array,
    group_codes,
)
from mixedar.data.formula import Design, capture_namespace
from mixedar.data.model_data import ModelData
from mixedar.data.positions import data_layout, row_positions
from mixedar.data.residual_model import (
    ResidualModel,
    residual_from_arrays,
    residual_from_names,
)
from mixedar.data.rows import resolve
from mixedar.engine.compress import ClusterRows, compress
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.identification import check_identified
from mixedar.engine.problem import random_effects_map
from mixedar.engine.rows import GroupedRows
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
    LengthError,
    NotComputedError,
    ResponseError,
    UnsupportedError,
    shown,
)
from mixedar.inference.df.containment import containment_df, nested_levels
from mixedar.mixed.statsmodels import LazyGroupLists, PackedLikelihood
from mixedar.residual import Heteroscedastic, ResidualStructure, combine
from mixedar.residual.variance.base import FITTED

if TYPE_CHECKING:
    from typing_extensions import Self


_MOST = 200
_TOLERANCE = 1e-9  # of the response's standard deviation


def reads_fitted(structure: Any) -> bool:
    """Whether a structure reads the fitted values."""
    return any(mark.column == FITTED for mark in structure.marks)


def first_fitted(model: Any) -> FloatArray:
    """
    Fitted values to begin with: least squares, and the groups' mean residuals.

    Parameters
    ----------
    model : MixedLMAR
        With its response, designs and group numbers.

    Returns
    -------
    ndarray, shape (n,)
        In the caller's row order.
    """
    fitted = model.exog @ np.linalg.lstsq(model.exog, model.endog, rcond=None)[0]
    if model.k_re or model.k_vc:
        rest = np.bincount(model._codes, model.endog - fitted)
        fitted = fitted + (rest / np.bincount(model._codes))[model._codes]
    return np.asarray(fitted)


def until_fitted_stay(
    model: Any, search: Callable[[Any, FloatArray | None], Any]
) -> tuple[Any, bool]:
    """
    Repeat a fit with the fitted values of the one before.

    Parameters
    ----------
    model : MixedLMAR
        Is left as it is: each fit has a copy.
    search : callable
        Results of a model, from a start in the optimiser's coordinates.

    Returns
    -------
    results : MixedLMARResults
        The last ones.
    stayed : bool
        Whether the fitted values had settled.
    """
    spread = float(np.std(model.endog))
    theta, previous = None, None
    current = model
    for _ in range(_MOST):
        results = search(current, theta)
        fitted = np.asarray(results.fittedvalues)
        if previous is not None and (
            np.abs(fitted - previous).max() <= _TOLERANCE * spread
        ):
            return results, True
        current = _with_fitted(model, fitted, rebind=previous is None)
        # the second fit has coordinates of its own, the later ones share them
        theta = None if previous is None else results._theta
        model, previous = current, fitted
    return results, False


def _with_fitted(model: Any, fitted: FloatArray, *, rebind: bool) -> Any:
    """A copy of the model that reads other fitted values."""
    other = object.__new__(type(model))
    other.__dict__ = dict(model._without_lists())
    old = model._grouped
    marks = old.marks.copy()
    for k, mark in enumerate(model.residual.marks):
        if mark.column == FITTED:
            marks[:, k] = old.sort(fitted)
    other._grouped = GroupedRows(old.order, old.offsets, old.gaps, marks)
    if rebind:
        other._bind_residual()
    other._rows = other._compressed()
    other.data = copy.copy(model.data)
    return other


def sibling(
    model: Any,
    residual: Any,
    weights: Any = UNCHANGED,
    residual_data: Any = None,
    relatives: Iterable[Any] = (),
) -> Any:
    """
    A model of the same rows, fixed and random effects; see ``with_residual``.

    Parameters
    ----------
    model : MixedLMAR
    residual : str, ResidualStructure or None
    weights : VarianceFunction, str, array_like or None
    residual_data : DataFrame or mapping, optional
    relatives : iterable of MixedLMAR
        Other models of the same rows; the compressed data of the first one whose
        rows look the same to its residual structure are shared.

    Returns
    -------
    MixedLMAR
    """
    if model.endog is None:
        raise NotComputedError(
            "the data were removed from this model by remove_data(); build it again"
        )
    found = _residual_model(model, residual, weights, residual_data)
    other = object.__new__(type(model))
    other.__dict__ = model._without_lists()
    other.__dict__.pop("given", None)
    other.data = copy.copy(model.data)
    other.residual, other.residual_data = found.structure, found.columns
    other.variance_specs = found.specs
    if not isinstance(weights, Unchanged):
        other._weighted = weights is not None
    before = model.residual.k_params
    other._init_time(model.time, model.series, found.columns)
    names = model.data.param_names
    names = names[: len(names) - before]
    other.data.param_names = [*names, *other.residual.param_names]
    for relative in (model, *relatives):
        if _same_rows(relative._grouped, other._grouped):
            other._grouped, other._rows = relative._grouped, relative._rows
            break
    else:
        other._rows = other._compressed()
    other._check_identified()
    return other


def _residual_model(
    model: Any, residual: Any, weights: Any, residual_data: Any
) -> ResidualModel:
    """The structure, and the columns that it reads for the model's rows."""
    kept, columns, specs = None, dict(model.residual_data), {}
    if isinstance(weights, Unchanged):
        weights = None
        if model._weighted and isinstance(model.residual, Heteroscedastic):
            # its formulas are columns already
            kept, specs = model.residual.variance, model.variance_specs
    frame = getattr(model.data, "frame", None)
    if frame is None or residual_data is not None:
        data = {**columns, **_as_dict(residual_data)}
        found = residual_from_arrays(residual, weights, data, model.nobs)
    else:
        wanted, namespace = residual_from_names(residual, weights), capture_namespace()
        values = {
            name: resolve(name, column, frame).values
            for name, column in wanted.needed(frame.columns, namespace).items()
        }
        found = wanted.evaluated(frame, values, namespace)
    if kept is None:
        return found
    read = {mark.column for mark in kept.marks}
    columns = {name: values for name, values in columns.items() if name in read}
    structure = combine(found.structure, kept)
    return ResidualModel(structure, {**columns, **found.columns}, (), specs)


def _as_dict(data: Any) -> Any:
    # anything else is refused where the columns are read
    if data is None:
        return {}
    return {name: data[name] for name in data}


def _same_rows(a: GroupedRows, b: GroupedRows) -> bool:
    """Whether two sortings of the same rows agree in all that whitening reads."""
    if not _same_order(a.order, b.order) or not np.array_equal(a.gaps, b.gaps):
        return False
    if a.marks is None or b.marks is None:
        return a.marks is b.marks
    return np.array_equal(a.marks, b.marks)


def _same_order(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.array_equal(a, b))


class ModelArrays(PackedLikelihood, LazyGroupLists):
    """What the constructor of MixedLMAR does, step by step."""

    residual: ResidualStructure

    def _init_data(self, endog: Any, exog: Any) -> None:
        """What statsmodels' base class does with endog and exog."""
        if not hasattr(exog, "shape"):
            exog = np.asarray(exog)
        if isinstance(exog, np.ndarray) and exog.ndim == 1:
            exog = exog[:, None]
        values = float_array(endog, "the response")
        if values.ndim > 1 and values.shape[1] > 1:
            raise ResponseError(
                f"the response has {values.shape[1]} columns; model one at a time"
            )
        index = getattr(endog, "index", None)
        name = str(getattr(endog, "name", None) or "y")
        check_finite(values, [name], "the response's", index)
        check_magnitude(values, [name], "the response's")
        if index is None:
            endog = values
        elif getattr(endog, "dtype", None) != np.float64:
            endog = endog.astype(np.float64)
        design = float_array(exog, "exog")
        columns = getattr(exog, "columns", None)
        names = (
            [f"number {k}" for k in range(1, _width(design) + 1)]
            if columns is None
            else [str(column) for column in columns]
        )
        check_finite(design, names, "fixed-effects", getattr(exog, "index", None))
        check_magnitude(design, names, "fixed-effects")
        if columns is None and not isinstance(exog, pd.Series):
            exog = design
        # the base class would compute a rank over all rows to find an implicit
        # constant, which nothing here needs
        LikelihoodModel.__init__(self, endog, exog, missing="none", hasconst=False)
        self._init_keys = ["groups", "exog_re", "exog_vc", "time", "residual"]
        self._init_keys += ["series", "re_cov", "use_sqrt", "weights"]
        self._init_keys += ["residual_data"]
        self.endog: FloatArray = np.asarray(self.data.endog, dtype=np.float64)
        self.exog: FloatArray = np.asarray(self.data.exog, dtype=np.float64)
        if self.exog.ndim == 1:
            self.exog = self.exog[:, None]
        self.k_fe = self.exog.shape[1]
        self.nobs = self.n_totobs = len(self.endog)

    def _init_groups(self, groups: Any) -> None:
        if groups is None:
            raise GroupError("groups= is missing: pass one group label for each row")
        self._codes, labels = group_codes(groups)
        self.group_labels = labels.tolist()
        self.n_groups = len(labels)

    def _init_random_effects(self, exog_re: Any, design: Design | None) -> None:
        self.exog_re: FloatArray | None
        if exog_re is None and self.k_vc == 0:
            self.exog_re = np.ones((self.nobs, 1))
        elif exog_re is None:
            self.exog_re = None
        else:
            self.exog_re = float_array(exog_re, "exog_re")
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

    def _init_time(self, time: Any, series: Any, columns: Mapping[str, Any]) -> None:
        if reads_fitted(self.residual):
            columns = {**columns, FITTED: first_fitted(self)}
        positions = row_positions(
            self.residual, self._codes, self.group_labels, time, series, columns
        )
        self.time_unit = positions.unit
        self._grouped, self._mark_labels = positions.grouped, positions.labels
        self._bind_residual()

    def _bind_residual(self) -> None:
        """Tell the residual structure what it has to know of the data."""
        layout = data_layout(self._grouped, self._mark_labels)
        self.residual = self.residual.bind_layout(layout)

    def _check_data(self) -> None:
        index = self.data.row_labels
        if self.exog_re is not None:
            names = [f"x_re{k + 1}" for k in range(self.k_re)]
            if self.data.exog_re_names:
                names = self.data.exog_re_names
            check_finite(self.exog_re, names, "random-effects", index)
            check_magnitude(self.exog_re, names, "random-effects")
        for name, matrix in zip(self.exog_vc.names, self._vc.matrices, strict=True):
            check_finite(matrix, [name] * matrix.shape[1], "variance-component", index)

    def _check_groups(self) -> None:
        if self.k_re and self.n_groups == 1:
            raise GroupError(
                f"all rows belong to one group, {shown(self.group_labels[0])}: random "
                "effects of groups cannot be estimated from one. Use re_formula='0' "
                "for a regression with correlated errors, or vc_formula for effects "
                "inside the group"
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
        self._check_identified()
        attributes = ["exog_re", "groups", "time", "series", "_codes", "_grouped"]
        attributes += ["residual_data"]
        attributes += ["_rows", "_vc", "data.exog_re", "data.frame"]
        self._data_attr.extend(attributes)

    def _check_identified(self) -> None:
        layout = self._layout(None, None)
        check_identified(
            self._rows,
            self.residual,
            layout,
            self.data.param_names[self.k_fe :],
            random_effects_map(self._rows, self.nobs, layout),
        )

    def _compressed(self) -> ClusterRows:
        sort = self._grouped.sort
        return compress(
            sort(self._random_design()),
            sort(self.exog),
            sort(self.endog),
            self._grouped.gaps,
            self._grouped.offsets,
            self._grouped.marks,
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
        """
        index = getattr(endog, "index", None)
        labels = self.data.row_labels
        if index is not None and labels is not None and not labels.equals(index):
            raise UnsupportedError(
                "the new response has another index than the model's rows; bring it "
                "into their order, or pass an array"
            )
        values = float_array(endog, "the response")
        if values.shape != (self.nobs,):
            raise LengthError(
                f"the new response has the shape {values.shape}; the model has "
                f"{self.nobs} observations"
            )
        check_finite(values, [self.endog_names], "the response's")
        other = object.__new__(type(self))
        other.__dict__ = self._without_lists()
        other.data = copy.copy(self.data)
        other.data.endog = other.endog = values
        other.data.orig_endog = pd.Series(values, self.data.row_labels)
        other._rows = other._compressed()
        check_response(other._rows.w, float(np.ptp(values)), self.endog_names)
        return other

    def with_residual(
        self, residual: Any, weights: Any = UNCHANGED, residual_data: Any = None
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

        Returns
        -------
        model
            Shares designs, groups and times with this model.

        Raises
        ------
        MixedARError
            If the data cannot carry the structure; see :mod:`mixedar.exceptions`.
        """
        return self._sibling(residual, weights, residual_data, ())

    def _sibling(
        self, residual: Any, weights: Any, residual_data: Any, relatives: Iterable[Any]
    ) -> Self:
        """As :meth:`with_residual`; shares compressed data with the relatives."""
        other = sibling(self, residual, weights, residual_data, relatives)
        return cast("Self", other)

    @property
    def arrays(self) -> ModelData:
        """The data as fits, predictions and diagnostics read them."""
        data = self.data
        return ModelData(
            endog=self.endog,
            exog=self.exog,
            exog_re=self.exog_re,
            components=self._vc,
            component_parts=self._components,
            component_columns=self.exog_vc.colnames,
            codes=self._codes,
            grouped=self._grouped,
            compressed=self._rows,
            residual=self.residual,
            mark_labels=self._mark_labels,
            group_labels=self.group_labels,
            time=self.time,
            series=self.series,
            time_unit=self.time_unit,
            residual_data=self.residual_data,
            variance_specs=self.variance_specs,
            endog_name=self.endog_names,
            groups_name=getattr(self, "groups_name", "Group"),
            time_name=getattr(self, "time_name", None),
            exog_names=list(self.exog_names),
            random_names=list(data.exog_re_names),
            component_names=list(self.exog_vc.names),
            index=data.row_labels,
            frame=getattr(data, "frame", None),
            formula=getattr(self, "formula", None),
            re_formula=getattr(self, "re_formula", None),
            vc_formula=getattr(self, "vc_formula", None),
            formula_spec=getattr(self, "formula_spec", None),
            re_spec=getattr(self, "re_spec", None),
            re_cov=self.re_cov,
        )

    def __getstate__(self) -> dict[str, Any]:
        return self._without_lists()


def _width(x: FloatArray) -> int:
    return 1 if x.ndim == 1 else x.shape[1]
