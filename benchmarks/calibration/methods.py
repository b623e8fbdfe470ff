"""
What is asked of every fit: tests and intervals by each method, as rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.calibration.designs import Cell, truth
from mixedar.exceptions import MixedARError
from mixedar.inference import DFMethod

__all__ = [
    "EFFECTS",
    "JOINT",
    "KR",
    "METHODS",
    "ROBUST",
    "rows_of_intervals",
    "rows_of_tests",
]

EFFECTS = ("Intercept", "time", "treatment", "time:treatment")
#: Hypotheses on two coefficients; the second lies within one stratum of nlme.
JOINT = {
    "F treatment": np.eye(4)[[2, 3]],
    "F time": np.eye(4)[[1, 3]],
}
KR = {
    f"Kenward-Roger {kr}, {information}": DFMethod("kenward-roger", kr, information)
    for kr in ("full", "linear")
    for information in ("expected", "observed")
}
METHODS: dict[str, Any] = {
    "normal": "normal",
    "residual": "residual",
    "containment": "containment",
    "between-within": "between-within",
    "Satterthwaite, observed": DFMethod("satterthwaite", information="observed"),
    "Satterthwaite, expected": DFMethod("satterthwaite", information="expected"),
    **KR,
}
ROBUST = "CR2 robust"

Row = dict[str, Any]


def _row(method: str, effect: str, **values: Any) -> Row:
    empty = {"p": np.nan, "estimate": np.nan, "se": np.nan, "df": np.nan, "reason": ""}
    return {"method": method, "effect": effect, **empty, **values}


def _by_method(fit: Any, name: str, method: Any) -> list[Row]:
    """p-values of the coefficients and of the joint hypotheses."""
    try:
        robust = name == ROBUST
        view = fit.get_robustcov_results("CR2") if robust else fit.with_df(method)
    except MixedARError as error:
        return [_row(name, e, reason=str(error)) for e in (*EFFECTS, *JOINT)]
    rows = []
    p, se, df = (np.asarray(v)[:4] for v in (view.pvalues, view.bse_fe, view.df))
    estimate = np.asarray(fit.fe_params)
    for k, effect in enumerate(EFFECTS):
        values = {"p": p[k], "estimate": estimate[k], "se": se[k], "df": df[k]}
        rows.append(_row(name, effect, **values))
    for effect, matrix in JOINT.items():
        try:
            test = view.wald_test(matrix)
        except MixedARError as error:
            rows.append(_row(name, effect, reason=str(error)))
            continue
        rows.append(_row(name, effect, p=float(test.pvalue), df=test.df_denom))
    return rows


def rows_of_tests(fit: Any, methods: Iterable[str] | None = None) -> list[Row]:
    """
    Tests of all effects by all methods.

    Parameters
    ----------
    fit : MixedLMARResultsWrapper
    methods : iterable of str, optional
        Keys of :data:`METHODS`; all of them and :data:`ROBUST` by default.

    Returns
    -------
    list of dict
        method, effect, p, estimate, se, df, and the reason if there is no p.
    """
    names = (*METHODS, ROBUST) if methods is None else methods
    return [row for name in names for row in _by_method(fit, name, METHODS.get(name))]


def rows_of_intervals(fit: Any, cell: Cell, method: str, **options: Any) -> list[Row]:
    """
    Intervals of the covariance parameters.

    Parameters
    ----------
    fit : MixedLMARResultsWrapper
    cell : Cell
    method : {"profile", "wald", "bootstrap"}
    **options
        Passed to ``conf_int_re``.

    Returns
    -------
    list of dict
        method, parameter, estimate, lower, upper.
    """
    found = fit.conf_int_re(method, parameters=list(truth(cell)), **options)
    columns = ["estimate", "lower", "upper"]
    return [
        {"method": method, "parameter": name, **found.loc[name, columns].to_dict()}
        for name in found.index
    ]
