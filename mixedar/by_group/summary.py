"""
The summary of regressions by group: which numbers stand in which table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar.exceptions import shown
from mixedar.inference.arguments import check_alpha
from mixedar.summary import ResultsSummary, SummaryTable

# Labels that a note names before it goes on to count.
_NAMED = 5


def summarize(
    results: Any, title: str | None, alpha: float, pool: bool, max_groups: int
) -> ResultsSummary:
    """
    Build the summary.  Arguments as in ``ByGroupResults.summary``.

    Returns
    -------
    ResultsSummary
    """
    check_alpha(alpha)
    tables = [_distribution(results)]
    if results.n_groups <= max_groups:
        tables += [
            _coefficient(results, name, alpha, pool)
            for name in results.model.exog_names
        ]
    return ResultsSummary(
        title=title or "Least squares by group",
        header=_header(results, pool),
        tables=tables,
        notes=_notes(results, pool),
    )


def _header(results: Any, pool: bool) -> dict[str, Any]:
    groups = results.groups
    sizes = groups["nobs"]
    complete = int((groups["reason"] == "").sum())
    return {
        "Dep. variable:": results.model.endog_name,
        "Groups:": f"{results.model.groups_name} ({results.n_groups})",
        "With all coefficients:": complete,
        "No. observations:": results.nobs,
        "Group size min/mean/max:": (
            f"{sizes.min()} / {sizes.mean():.4g} / {sizes.max()}"
        ),
        "Pooled sd:": "-" if not results.df_resid else f"{results.pooled_sd:.6g}",
        "Df residuals:": results.df_resid,
        "Standard errors:": "pooled sd" if pool else "own sd",
    }


def _distribution(results: Any) -> SummaryTable:
    """How the coefficients are distributed over the groups."""
    params = results.params
    quantiles = params.quantile([0.0, 0.25, 0.5, 0.75, 1.0]).T
    quantiles.columns = pd.Index(["Min", "Q1", "Median", "Q3", "Max"])
    frame = pd.DataFrame(
        {
            "Groups": params.notna().sum(),
            "Mean": params.mean(),
            "Std.Dev.": params.std(),
            **quantiles,
        }
    )
    return SummaryTable(
        frame,
        title="Coefficients",
        name="coefficients",
        formats={"Groups": "df"},
    )


def _coefficient(results: Any, name: str, alpha: float, pool: bool) -> SummaryTable:
    """One coefficient in all groups."""
    frame = results.conf_int(alpha, pool).xs(name, level="coefficient")
    t = frame["estimate"] / frame["std_error"]
    columns = {
        "Coef.": frame["estimate"],
        "Std.Err.": frame["std_error"],
        "DF": frame["df"],
        "t": t,
        "P>|t|": 2.0 * stats.t.sf(np.abs(t), frame["df"]),
        f"[{alpha / 2:.4g}": frame["lower"],
        f"{1 - alpha / 2:.4g}]": frame["upper"],
    }
    return SummaryTable(
        pd.DataFrame(columns),
        title=name,
        name=name,
        index_header=results.model.groups_name,
    )


def _notes(results: Any, pool: bool) -> list[str]:
    notes = []
    problems = results.problems
    for reason, labels in problems.groupby("reason", sort=False).groups.items():
        notes.append(_lacking(reason, labels, "coefficients"))
    exact = int((results.groups["df_resid"] == 0).sum())
    if exact and not pool:
        notes.append(
            f"{exact} of the groups have no residual degrees of freedom and so no "
            "standard errors of their own (pool=True uses those of all groups)."
        )
    if not results.df_resid:
        notes.append(
            "No group has more rows than coefficients: there is no residual variance "
            "and no standard error."
        )
    return notes


def summarize_shrinkage(result: Any, title: str | None) -> ResultsSummary:
    """
    Build the summary of a comparison.  Arguments as in ``Shrinkage.summary``.

    Returns
    -------
    ResultsSummary
    """
    measures = result.measures
    variances = pd.DataFrame(
        {
            "Groups": measures["groups"],
            "Own": measures["variance_own"],
            "Mixed": measures["variance_mixed"],
            "Model": measures["variance_model"],
            "Mixed/own": measures["ratio"],
            "Mixed/model": measures["ratio_model"],
        }
    )
    means = pd.DataFrame(
        {
            "Population": result.population,
            "Shrinkage": measures["shrinkage"],
            "Reliability": measures["reliability"],
        }
    )
    table = result.table
    distances = table[["distance_own", "distance_mixed"]].groupby(level=1, sort=False)
    medians = distances.median()
    means["Distance, own"] = medians["distance_own"]
    means["mixed"] = medians["distance_mixed"]
    ratios = {"Groups": "df", "Mixed/own": ".3f", "Mixed/model": ".3f"}
    m = len(table) // len(measures)
    notes = [
        "Own: least squares in each group alone; mixed: fixed effect plus predicted "
        "random effect; model: the variance of the random effect. Shrinkage is 1 less "
        "the slope of mixed on own deviations from the population, reliability the "
        "mean squared correlation of predicted and true effects, distances are "
        "medians."
    ]
    if result.adjusted:
        notes.append(
            "Taken out of the response before the own regressions, at their "
            f"estimates: {', '.join(result.adjusted)}."
        )
    for reason, labels in result.problems.groupby(result.problems).groups.items():
        notes.append(_lacking(reason, labels, "own estimates"))
    return ResultsSummary(
        title=title or "Shrinkage toward the population",
        header={"Groups:": f"{result.groups_name} ({m})"},
        tables=[
            SummaryTable(variances, title="Variances", formats=ratios),
            SummaryTable(
                means,
                title="Coefficients",
                formats={"Shrinkage": ".3f", "Reliability": ".3f"},
            ),
        ],
        notes=notes,
    )


def _lacking(reason: Any, labels: Any, what: str) -> str:
    """Count and name the groups that lack something."""
    few = ", ".join(shown(label) for label in labels[:_NAMED])
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    verb = "group lacks" if len(labels) == 1 else "groups lack"
    return f"{len(labels)} {verb} {what}, {few}{more}: {reason}."
