"""
The same data and effects with another residual structure.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from mixedar.design import capture_namespace
from mixedar.design.rows import resolve
from mixedar.exceptions import NotComputedError
from mixedar.grouped import GroupedRows
from mixedar.mixed.residual_model import (
    ResidualModel,
    residual_from_arrays,
    residual_from_names,
)
from mixedar.residual import Heteroscedastic, combine
from mixedar.unchanged import UNCHANGED, Unchanged

__all__ = ["sibling"]


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
