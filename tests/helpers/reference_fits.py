"""The reference cases, fitted through the public formula interface."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
from statsmodels.regression.mixed_linear_model import MixedLMParams

import mixedar.formula.api as mar
from helpers.reference_cases import (
    Kind,
    ReferenceCase,
    case_names,
    load,
    residual_of,
    weights_of,
)
from mixedar.exceptions import BoundaryWarning

KINDS: tuple[Kind, ...] = (
    "arma",
    "exponential",
    "compoundsymmetry",
    "unstructured",
    "weights",
)
STRUCTURES = sorted({name for kind in KINDS for name in case_names(kind)})
NAMES = [
    name
    for structure in ("independent", "ar1", "car1")
    for name in case_names(structure, without=("weights",))
]
SINGULAR = [name for name in NAMES if "boundary" in load(name).expected]
RECORDED = [name for name in NAMES if name not in SINGULAR]
ONE_LEVEL = [
    name
    for name in NAMES
    if name not in case_names("gls") + case_names("nested") + case_names("crossed")
]
WHOLE = "everything"  # one group that holds all rows, for crossed effects


def model_of(case: ReferenceCase) -> Any:
    """Build the model of a case as a user would."""
    data = case.data
    options: dict[str, Any] = {
        "groups": case.groups,
        "re_formula": case.re_formula,
        "residual": residual_of(case),
        "weights": weights_of(case),
        "time": case.time,
        "series": case.series,
    }
    if case.crossed:
        data = data.assign(**{WHOLE: 1})
        options["groups"] = WHOLE
        options["vc_formula"] = {name: f"0 + C({name})" for name in case.crossed}
    elif case.nested is not None:
        inner = case.nested[1]
        options["vc_formula"] = {inner: f"0 + C({inner})"}
    if case.re_formula is None:
        options["re_formula"] = "0"
    return mar.mixedlm(case.formula, data, **options)


@cache
def fitted(name: str) -> Any:
    """Fit a case once for all tests of a process."""
    case = load(name)
    model = model_of(case)
    free = None
    if "diagonal" in case.kinds:
        q = len(case.expected["re_names"])
        free = MixedLMParams.from_components(
            fe_params=np.ones(len(model.exog_names)), cov_re=np.eye(q)
        )
    with warnings.catch_warnings():
        if "boundary" in case.kinds:
            warnings.simplefilter("ignore", BoundaryWarning)
        return model.fit(reml=case.reml, free=free)
