"""
The summary of a selection.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixedar.summary import ResultsSummary, SummaryTable


def summarize(selection: Any) -> ResultsSummary:
    """
    Criteria, likelihood-ratio tests, and what went wrong.

    Parameters
    ----------
    selection : ResidualSelection

    Returns
    -------
    ResultsSummary
    """
    table = selection.table
    fits = list(selection.fits.values())
    tables = [_criteria(table)]
    tests = table[table["against"] != ""]
    if len(tests):
        tables.append(_tests(tests))
    return ResultsSummary(
        title="Residual structures",
        header=_header(fits[0]) if fits else None,
        tables=tables,
        notes=_notes(selection),
    )


def _header(fit: Any) -> dict[str, Any]:
    model = fit.model
    effects = list(model.data.exog_re_names) if model.k_re else []
    effects += list(model.exog_vc.names)
    return {
        "Dep. variable:": model.endog_names,
        "Method:": fit.method,
        "No. observations:": fit.nobs,
        "No. groups:": fit.n_groups,
        "Fixed effects:": fit.k_fe,
        "Random effects:": ", ".join(effects) or "none",
    }


def _criteria(table: pd.DataFrame) -> SummaryTable:
    frame = table[["label", "parameters", "logLik", "AIC", "BIC"]].copy()
    frame.columns = ["Residuals", "Par.", "logLik", "AIC", "BIC"]
    formats = {"Par.": "d", **dict.fromkeys(["logLik", "AIC", "BIC"], ".2f")}
    return SummaryTable(
        frame,
        title="Criteria",
        name="criteria",
        formats=formats,
        index_header="Name",
    )


def _tests(tests: pd.DataFrame) -> SummaryTable:
    frame = tests[["against", "LR", "LR_df", "p", "null"]].copy()
    frame.columns = ["against", "LR", "DF", "p", "null"]
    return SummaryTable(
        frame,
        title="Likelihood ratio against the largest nested structure",
        name="tests",
        formats={"LR": ".2f", "DF": "d", "p": "pvalue"},
        index_header="Name",
    )


def _notes(selection: Any) -> list[str]:
    table, notes = selection.table, []
    if selection.fits:
        ranked = [selection.ranking(name).index[0] for name in ("aic", "bic")]
        if ranked[0] == ranked[1]:
            notes.append(f"Smallest AIC and BIC: {ranked[0]}.")
        else:
            notes.append(f"Smallest AIC: {ranked[0]}; smallest BIC: {ranked[1]}.")
    for name in table.index[table["logLik"].isna()]:
        notes.append(f"{name}: not fitted, {table.loc[name, 'note']}.")
    fitted = table[table["logLik"].notna()]
    for name in fitted.index[~fitted["converged"].astype(bool)]:
        notes.append(f"{name}: the optimiser did not reach a maximum.")
    for name, note in fitted["note"].items():
        if note and fitted.loc[name, "converged"]:
            notes.append(f"{name}: {note}.")
    remarks: dict[str, list[str]] = {}
    for _, test in selection.tests.iterrows():
        if test["note"] and fitted.loc[test["large"], "against"] == test["small"]:
            pair = f"{test['large']} against {test['small']}"
            remarks.setdefault(test["note"], []).append(pair)
    return notes + [f"{', '.join(pairs)}: {text}." for text, pairs in remarks.items()]
