"""
The construction of a mixed model: from what a user passes to its data.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from statsmodels.base.data import PandasData
from statsmodels.base.model import LikelihoodModel

from mixedar.data.checks import (
    as_pandas,
    check_columns,
    check_distinct,
    check_finite,
    check_rank,
    check_response,
    float_array,
    group_codes,
    offset_values,
)
from mixedar.data.component_columns import (
    ComponentColumns,
    from_components,
    from_spec,
)
from mixedar.data.formula import Design, FormulaSpec
from mixedar.data.formula.bars import Bar, arrange_bars, read_bars
from mixedar.data.formula.components import vc_spec
from mixedar.data.formula.smooth_calls import SmoothCall, read_smooths
from mixedar.data.formula.terms import levels_of_formula
from mixedar.data.given import response_vector
from mixedar.data.model_data import ModelData
from mixedar.data.random_terms import check_covariances, random_terms
from mixedar.data.reading import Stream
from mixedar.data.residual_model import ResidualModel
from mixedar.data.rows import RowVariable
from mixedar.engine.identification import check_identified, check_terms
from mixedar.engine.problem import random_effects_map
from mixedar.engine.rows import group_rows
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
    LengthError,
    UnsupportedError,
    shown,
)
from mixedar.mixed.statsmodels_model import ParentModel
from mixedar.mixed.streamed import sums_of_all
from mixedar.residual.variance.base import VarianceFunction

Model = TypeVar("Model", bound=ParentModel)


class FormulaData(PandasData):
    """PandasData whose ``model_spec`` is built when statsmodels asks for it."""

    formula_spec: FormulaSpec

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
        return None, self.formula_spec.matrix(as_pandas(rows))


def from_design(
    cls: type[Model],
    design: Design,
    use_sparse: bool,
    found: ResidualModel,
    kwargs: Mapping[str, Any],
) -> Model:
    """The model of evaluated formulas."""
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
        exog_vc=vc_spec(design.vc, use_sparse) if design.vc else None,
        time=design.time,
        residual=found.structure,
        series=design.series,
        offset=design.offset,
        residual_data=found.columns,
        design=design,
        **kwargs,
    )
    model.formula = design.formula
    model.groups_name, model.time_name = design.groups_name, design.time_name
    model.formula_spec, model.re_spec = design.model_spec, design.re_spec
    model.data.__class__ = FormulaData  # statsmodels has made it
    model.data.formula_spec = design.model_spec
    model.data.frame = design.frame
    return model


@dataclass(frozen=True)
class WrittenEffects:
    """Random effects as `build_design` takes them, wherever they were written."""

    formula: str
    groups: object
    re_formula: str | None
    bars: tuple[Bar, ...]
    smooths: tuple[SmoothCall, ...]
    options: dict[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        """What `build_design` takes, by name."""
        return {name: value for name, value in vars(self).items() if name != "options"}


def written_effects(
    formula: str,
    table: pd.DataFrame,
    groups: object,
    re_formula: str | None,
    vc_formula: Mapping[str, str] | None,
    options: Mapping[str, Any],
    *,
    correlated: bool,
) -> WrittenEffects:
    """
    Read the random effects of a formula, or of the other arguments.

    Parameters
    ----------
    formula, groups, re_formula, vc_formula
        As in ``MixedLMAR.from_formula``.
    table : DataFrame
    options : mapping
        Further arguments of the model.
    correlated : bool
        Whether residuals are correlated within groups.

    Returns
    -------
    WrittenEffects
    """
    plain, smooths = read_smooths(formula)
    fixed, bars = read_bars(plain)
    if not bars:
        if groups is None and smooths and not correlated:
            # an additive model: nothing binds rows together but the smooths
            rows = pd.Series(np.arange(len(table)), table.index, name="row")
            return WrittenEffects(plain, rows, "0", (), smooths, dict(options))
        if groups is None:
            nested = "|" in plain.partition("~")[2]
            raise GroupError(
                "groups= is missing: name the column with the group labels, or write "
                "random effects into the formula, as in 'y ~ x + (1 | g)'"
                + ("; a bar inside a function is none" if nested else "")
            )
        own = any(isinstance(groups, str) and call.factor == groups for call in smooths)
        if own and re_formula is None and vc_formula is None:
            re_formula = "0"  # the smooths of the groups have constants
        return WrittenEffects(plain, groups, re_formula, (), smooths, dict(options))
    if re_formula is not None or vc_formula is not None or "re_cov" in options:
        raise UnsupportedError(
            f"{formula!r} has random effects: leave out re_formula=, vc_formula= and "
            "re_cov=, which say the same in another way"
        )
    found, bars = arrange_bars(bars, table, groups, correlated=correlated)
    first = bars[0]
    own = isinstance(found, RowVariable) and first.name == found.name and not first.cov
    if not own:
        return WrittenEffects(fixed, found, "0", bars, smooths, dict(options))
    re_cov = "unstructured" if bars[0].correlated else "diagonal"
    chosen = {**options, "re_cov": re_cov}
    return WrittenEffects(fixed, found, bars[0].effects, bars[1:], smooths, chosen)


def callers_words(
    residual: object, weights: object, subset: object = None, missing: str = "none"
) -> dict[str, object]:
    """What was given for the residuals and rows; ``...`` for arrays."""
    words = weights is None or isinstance(weights, (str, type, VarianceFunction))
    return {
        "residual": residual,
        "weights": weights if words else ...,
        "subset": None if subset is None else ...,
        "missing": missing,
    }


def take_data(
    model: ParentModel, endog: Any, exog: Any, groups: ArrayLike | None
) -> None:
    """Take response and fixed effects as statsmodels' base class does, and groups."""
    values = response_vector(endog)
    index = getattr(endog, "index", None)
    name = str(getattr(endog, "name", None) or "y")
    check_columns(values, [name], "the response's", index)
    if index is None:
        endog = values
    elif getattr(endog, "dtype", None) != np.float64:
        endog = endog.astype(np.float64)
    if not hasattr(exog, "shape"):
        exog = np.asarray(exog)
    if isinstance(exog, np.ndarray) and exog.ndim == 1:
        exog = exog[:, None]
    design = float_array(exog, "exog")
    columns = getattr(exog, "columns", None)
    width = 1 if design.ndim == 1 else design.shape[1]
    given = [f"number {k + 1}" for k in range(width)] if columns is None else columns
    names = list(map(str, given))
    check_distinct(names, "fixed-effects")
    check_columns(design, names, "fixed-effects", getattr(exog, "index", None))
    if columns is None and not isinstance(exog, pd.Series):
        exog = design
    # the base class would compute a rank over all rows to find an implicit
    # constant, which nothing here needs
    LikelihoodModel.__init__(model, endog, exog, missing="none", hasconst=False)
    model._init_keys = ["groups", "exog_re", "exog_vc", "time", "residual", "series"]
    model._init_keys += ["re_cov", "use_sqrt", "weights", "residual_data"]
    model._init_keys += ["scale", "offset"]
    model.endog = np.asarray(model.data.endog, dtype=np.float64)
    model.exog = np.asarray(model.data.exog, dtype=np.float64)
    if model.exog.ndim == 1:
        model.exog = model.exog[:, None]
    model.k_fe = model.exog.shape[1]
    model.nobs = model.n_totobs = len(model.endog)
    if groups is None:
        raise GroupError("groups= is missing: pass one group label for each row")
    model.codes, labels = group_codes(groups)
    model.group_labels, model.n_groups = labels.tolist(), len(labels)


def take_random_effects(
    model: ParentModel, exog_re: Any, design: Design | None
) -> None:
    """Check the columns of the correlated random effects, and name the parameters."""
    if exog_re is None and model.k_vc == 0:
        model.exog_re = np.ones((model.nobs, 1))
    elif exog_re is None:
        model.exog_re = None
    else:
        model.exog_re = float_array(exog_re, "exog_re")
        if model.exog_re.ndim == 1:
            model.exog_re = model.exog_re[:, None]
    model.data.exog_re = model.exog_re
    model.k_re = 0 if model.exog_re is None else model.exog_re.shape[1]
    model.k_re2 = model.k_re * (model.k_re + 1) // 2
    if model.re_cov == "compound":
        model.k_re2 = min(model.k_re2, 2)
    model.k_params = model.k_fe + model.k_re2
    if model.k_re and model.n_groups == 1:
        raise GroupError(
            f"all rows belong to one group, {shown(model.group_labels[0])}: random "
            "effects of groups cannot be estimated from one. Use re_formula='0' "
            "for a regression with correlated errors, or vc_formula for effects "
            "inside the group"
        )
    _set_names(model, exog_re, design)
    if model.exog_re is not None:
        names, index = model.data.exog_re_names, model.data.row_labels
        check_columns(model.exog_re, names, "random-effects", index)


def _component_columns(model: ParentModel, design: Design | None) -> ComponentColumns:
    """Columns of the variance components."""
    if design is not None and design.vc:
        return from_components(design.vc, model.nobs)
    if not model.k_vc:
        return ComponentColumns([], [])
    if any(len(mats) != model.n_groups for mats in model.exog_vc.mats):
        raise LengthError("exog_vc needs one matrix for each group")
    return from_spec(model.exog_vc, model.rows_by_group, model.nobs)


def _set_names(model: ParentModel, exog_re: Any, design: Design | None) -> None:
    if exog_re is None and model.k_vc == 0:
        names = full = ["Group Var"]
        model.data.param_names = [*model.exog_names, *names]
    else:
        if isinstance(exog_re, pd.Series) and exog_re.name is None:
            exog_re = None
        named = isinstance(exog_re, (pd.DataFrame, pd.Series))
        everything, names, full = model._make_param_names(
            exog_re if named else model.exog_re
        )
        check_distinct([*names, *model.exog_vc.names], "random-effects")
        if model.k_re2 < len(full):
            own = _common_name(design)
            rest = everything[model.k_fe + len(full) :]
            full = [f"{own} Var", f"{own} Cov"]
            everything = [*model.exog_names, *full, *rest]
        model.data.param_names = everything
    model.data.exog_re_names = names
    # statsmodels' wrapper labels standard errors of all these by it
    model.data.exog_re_names_full = [*full, *model.exog_vc.names]
    if model.k_vc:
        model.data.vcomp_names = list(model.exog_vc.names)


def _common_name(design: Design | None) -> str:
    """Name of random effects with one variance: their factor, if they have one."""
    if design is None:
        return "Group"
    factors = {} if design.re_spec is None else levels_of_formula(design.re_spec)
    return next(iter(factors)) if len(factors) == 1 else design.groups_name


def take_arrays(
    model: ParentModel,
    found: ResidualModel,
    design: Design | None,
    weighted: bool,
    stream: Stream | None = None,
) -> None:
    """
    Sort and compress the rows, and refuse what no likelihood can answer.

    Of a stream, whose sample the model has so far, all rows are read and compressed.
    """
    components = _component_columns(model, design)
    p, data = model.k_fe, model.data
    for name, matrix in zip(model.exog_vc.names, components.matrices, strict=True):
        names = [name] * matrix.shape[1]
        check_finite(matrix, names, "variance-component", data.row_labels)
    terms = () if design is None else random_terms(design)
    cov_names = [*data.param_names[p:], *(n for t in terms for n in t.cov_names)]
    check_distinct(cov_names, "random-effects")
    arrays = ModelData(
        endog=model.endog,
        exog=model.exog,
        exog_re=model.exog_re,
        components=components,
        component_columns=model.exog_vc.colnames,
        codes=model.codes,
        grouped=group_rows(model.codes, n_groups=model.n_groups),
        residual=found.structure,
        group_labels=model.group_labels,
        groups=model.groups,
        time=model.time,
        series=model.series,
        delta=model.delta,
        residual_data=found.columns,
        variance_specs=found.specs,
        endog_name=model.endog_names,
        exog_names=list(model.exog_names),
        random_names=list(data.exog_re_names),
        component_names=list(model.exog_vc.names),
        cov_names=cov_names,
        weighted=weighted,
        index=data.row_labels,
        re_cov=model.re_cov,
        scale=model.scale,
        offset=None if model.offset is None else offset_values(model.offset),
        offset_name=getattr(model.offset, "name", None),
        terms=terms,
        **({} if design is None else design.written),
    )
    if stream is None:
        arrays = arrays.with_residual(found.structure, found.columns, found.specs)
    else:
        arrays = sums_of_all(model, stream, arrays, found)
    take(model, arrays)
    _check_rows(model)
    check_parameters(model)
    model._data_attr += ["exog_re", "groups", "time", "series", "codes", "arrays"]
    model._data_attr += ["residual_data", "offset", "data.exog_re", "data.frame"]


def _check_rows(model: ParentModel) -> None:
    """Raise unless the fixed effects and the residual variance can be estimated."""
    rows = model.arrays.compressed
    check_rank(rows.w[:, : model.k_fe], model.exog_names, "fixed-effects")
    check_rank(rows.z[:, : model.k_re], model.data.exog_re_names, "random-effects")
    check_response(rows.w, model.arrays.response_range, model.endog_names)
    if model.nobs <= model.k_fe:
        raise EmptyDataError(
            f"{model.nobs} observations cannot estimate {model.k_fe} fixed effects and "
            "a residual variance; use fewer columns"
        )


def check_parameters(model: ParentModel) -> None:
    """Raise unless the data tell the covariance parameters apart."""
    arrays, layout = model.arrays, model.arrays.layout()
    if arrays.re_cov == "unstructured":
        check_covariances(arrays.k_re, arrays.n_groups, arrays.re_spec)
    if arrays.terms:
        check_terms(
            arrays.compressed, arrays.residual, layout, arrays.param_names[model.k_fe :]
        )
    check_identified(
        arrays.compressed,
        arrays.residual,
        layout,
        arrays.param_names[model.k_fe :],
        random_effects_map(arrays.compressed, model.nobs, layout),
        scale_known=arrays.scale is not None,
    )


def take(model: ParentModel, arrays: ModelData) -> None:
    """Be a model of these rows."""
    model.arrays = arrays
    model.residual, model.time_unit = arrays.residual, arrays.time_unit
    model.residual_data = arrays.residual_data if arrays.has_rows else None
    model.data.param_names = arrays.param_names


def holding(model: Model, arrays: ModelData) -> Model:
    """A copy of the model that holds other data."""
    other = object.__new__(type(model))
    other.__dict__ = model.without_lists()
    other.data = copy.copy(model.data)
    take(other, arrays)
    return other
