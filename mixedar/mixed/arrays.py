"""
The arrays of a mixed model: checked, grouped, sorted and compressed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from statsmodels.base.model import LikelihoodModel
from statsmodels.regression.mixed_linear_model import MixedLMParams

from mixedar._types import UNCHANGED, FloatArray, Unchanged
from mixedar.data.checks import (
    check_finite,
    check_magnitude,
    check_rank,
    check_response,
    float_array,
    group_codes,
)
from mixedar.data.components import (
    ComponentColumns,
    from_components,
    from_spec,
)
from mixedar.data.formula import Design, capture_namespace
from mixedar.data.model_data import ModelData
from mixedar.data.residual_model import (
    ResidualModel,
    residual_from_arrays,
    residual_from_names,
)
from mixedar.data.rows import resolve
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.identification import check_identified
from mixedar.engine.problem import random_effects_map
from mixedar.engine.rows import group_rows
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
    LengthError,
    NotComputedError,
    ResponseError,
    UnsupportedError,
    shown,
)
from mixedar.mixed.statsmodels import LazyGroupLists, PackedLikelihood
from mixedar.residual import Heteroscedastic, ResidualStructure, combine

if TYPE_CHECKING:
    from typing_extensions import Self


def sibling(
    model: ModelArrays,
    residual: Any,
    weights: Any = UNCHANGED,
    residual_data: Any = None,
    relatives: Iterable[ModelArrays] = (),
) -> ModelArrays:
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
    arrays = model.arrays.with_residual(
        found.structure,
        found.columns,
        found.specs,
        [model.arrays, *(relative.arrays for relative in relatives)],
    )
    if not isinstance(weights, Unchanged):
        arrays = arrays.changed(weighted=weights is not None)
    other._take(arrays)
    other._check_identified()
    return other


def _residual_model(
    model: ModelArrays, residual: Any, weights: Any, residual_data: Any
) -> ResidualModel:
    """The structure, and the columns that it reads for the model's rows."""
    arrays = model.arrays
    kept, columns, specs = None, dict(arrays.residual_data), {}
    if isinstance(weights, Unchanged):
        weights = None
        if arrays.weighted and isinstance(arrays.residual, Heteroscedastic):
            # its formulas are columns already
            kept, specs = arrays.residual.variance, dict(arrays.variance_specs)
    frame = arrays.frame
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


class ModelArrays(PackedLikelihood, LazyGroupLists):
    """What the constructor of MixedLMAR does, step by step."""

    residual: ResidualStructure
    arrays: ModelData

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

    def _init_random_effects(self, exog_re: Any) -> None:
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

    def _component_columns(self, design: Design | None) -> ComponentColumns:
        """Columns of the variance components."""
        if design is not None and design.vc:
            return from_components(design.vc, self.nobs)
        if not self.k_vc:
            return ComponentColumns([], [])
        if any(len(mats) != self.n_groups for mats in self.exog_vc.mats):
            raise LengthError("exog_vc needs one matrix for each group")
        return from_spec(self.exog_vc, self._rows_by_group, self.nobs)

    def _check_data(self, components: ComponentColumns) -> None:
        index = self.data.row_labels
        if self.exog_re is not None:
            names = [f"x_re{k + 1}" for k in range(self.k_re)]
            if self.data.exog_re_names:
                names = self.data.exog_re_names
            check_finite(self.exog_re, names, "random-effects", index)
            check_magnitude(self.exog_re, names, "random-effects")
        for name, matrix in zip(self.exog_vc.names, components.matrices, strict=True):
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
        self.data.exog_re_names = names
        self.data.exog_re_names_full = full
        if self.k_vc:
            self.data.vcomp_names = list(self.exog_vc.names)

    def _init_arrays(
        self, found: ResidualModel, design: Design | None, weighted: bool
    ) -> None:
        """Sort and compress the rows, and refuse what no likelihood can answer."""
        components = self._component_columns(design)
        self._check_data(components)
        p, data = self.k_fe, self.data
        arrays = ModelData(
            endog=self.endog,
            exog=self.exog,
            exog_re=self.exog_re,
            components=components,
            component_parts=None if design is None else design.vc or None,
            component_columns=self.exog_vc.colnames,
            codes=self._codes,
            grouped=group_rows(self._codes, n_groups=self.n_groups),
            residual=found.structure,
            mark_labels=(),
            group_labels=self.group_labels,
            time=self.time,
            series=self.series,
            time_unit="",
            residual_data=found.columns,
            variance_specs=found.specs,
            endog_name=self.endog_names,
            groups_name="Group" if design is None else design.groups_name,
            time_name=None if design is None else design.time_name,
            exog_names=list(self.exog_names),
            random_names=list(data.exog_re_names),
            component_names=list(self.exog_vc.names),
            cov_names=list(data.param_names[p:]),
            weighted=weighted,
            index=data.row_labels,
            frame=None if design is None else design.frame,
            formula=None if design is None else design.formula,
            re_formula=None if design is None else design.re_formula,
            vc_formula=None if design is None else design.vc_formula,
            formula_spec=None if design is None else design.model_spec,
            re_spec=None if design is None else design.re_spec,
            re_cov=self.re_cov,
        )
        self._take(arrays.with_residual(found.structure, found.columns, found.specs))
        rows = self.arrays.compressed
        check_rank(rows.w[:, :p], self.exog_names, "fixed-effects")
        check_rank(rows.z[:, : self.k_re], data.exog_re_names, "random-effects")
        check_response(rows.w, float(np.ptp(self.endog)), self.endog_names)
        if self.nobs <= p:
            raise EmptyDataError(
                f"{self.nobs} observations cannot estimate {p} fixed effects and a "
                "residual variance; use fewer columns"
            )
        self._check_identified()
        self._data_attr.extend(
            ["exog_re", "groups", "time", "series", "_codes", "residual_data"]
        )
        self._data_attr.extend(["arrays", "data.exog_re", "data.frame"])

    def _check_identified(self) -> None:
        arrays, layout = self.arrays, self.arrays.layout()
        check_identified(
            arrays.compressed,
            arrays.residual,
            layout,
            arrays.param_names[self.k_fe :],
            random_effects_map(arrays.compressed, self.nobs, layout),
        )

    def _take(self, arrays: ModelData) -> None:
        """Be a model of these rows."""
        self.arrays = arrays
        self.residual, self.time_unit = arrays.residual, arrays.time_unit
        self.residual_data = arrays.residual_data
        self.data.param_names = arrays.param_names

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
        other.arrays = self.arrays.with_endog(values)
        check_response(
            other.arrays.compressed.w, float(np.ptp(values)), self.endog_names
        )
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

    # -- names of before, until every question reads the arrays -----------------
    _grouped = property(lambda self: self.arrays.grouped)
    _rows = property(lambda self: self.arrays.compressed)
    _vc = property(lambda self: self.arrays.components)
    _components = property(lambda self: self.arrays.component_parts)
    _mark_labels = property(lambda self: self.arrays.mark_labels)
    _weighted = property(lambda self: self.arrays.weighted)
    variance_specs = property(lambda self: self.arrays.variance_specs)

    def _random_design(self) -> FloatArray:
        return self.arrays.random_design

    # ---------------------------------------------------------------------------

    def _layout(
        self, free: MixedLMParams | None, start: MixedLMParams | None
    ) -> RandomCovariance:
        """Which entries of the random-effects factor are estimated."""
        if free is None:
            return self.arrays.layout()
        given = start or MixedLMParams.from_components(
            cov_re=np.eye(self.k_re), vcomp=np.ones(self.k_vc)
        )
        held = free.get_packed(use_sqrt=False, has_fe=False) == 0.0
        values = given.get_packed(use_sqrt=True, has_fe=False)
        return self.arrays.layout(np.where(held, values, np.nan))

    @property
    def df_containment(self) -> FloatArray:
        """Containment degrees of freedom of the fixed effects, shape (p,)."""
        return self.arrays.df_containment

    def __getstate__(self) -> dict[str, Any]:
        return self._without_lists()


def _width(x: FloatArray) -> int:
    return 1 if x.ndim == 1 else x.shape[1]
