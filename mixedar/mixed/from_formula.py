"""
A model from formulas and a DataFrame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixedar.design import as_frame, as_namespace, build_design
from mixedar.exceptions import UnsupportedError
from mixedar.mixed.data import FormulaData
from mixedar.mixed.drop import warn_dropped
from mixedar.mixed.residual_model import residual_from_names
from mixedar.variance.base import VarianceFunction

__all__ = ["model_from_formula"]


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
    model.variance_specs = structure.specs
    model._weighted = weights is not None
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
