"""
The summary of regressions by group: which numbers stand in which table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar.exceptions import shown
from mixedar.summary import SummaryTable

# Labels that a note names before it goes on to count.
_NAMED = 5


def header_of(groups: pd.DataFrame, response: str, pool: bool) -> dict[str, Any]:
    """What was regressed, and how many groups there are; of the table of groups."""
    sizes, df = groups["nobs"], int(groups["df_resid"].sum())
    return {
        "Dep. variable:": response,
        "Groups:": f"{groups.index.name} ({len(groups)})",
        "With all coefficients:": int((groups["reason"] == "").sum()),
        "No. observations:": int(sizes.sum()),
        "Group size min/mean/max:": (
            f"{sizes.min()} / {sizes.mean():.4g} / {sizes.max()}"
        ),
        "Pooled sd:": f"{np.sqrt(groups['ssr'].sum() / df):.6g}" if df else "-",
        "Df residuals:": df,
        "Standard errors:": "pooled sd" if pool else "own sd",
    }


def distribution(params: pd.DataFrame) -> SummaryTable:
    """How the coefficients are distributed over the groups."""
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
    return SummaryTable(frame, "Coefficients", {"Groups": "df"}, name="coefficients")


def coefficient(intervals: pd.DataFrame, name: str, alpha: float) -> SummaryTable:
    """One coefficient in all groups."""
    frame = intervals.xs(name, level="coefficient")
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
    groups = str(frame.index.name)
    return SummaryTable(pd.DataFrame(columns), name, name=name, index_header=groups)


def notes_of(groups: pd.DataFrame, pool: bool) -> list[str]:
    """Why coefficients or their standard errors are missing."""
    lacking = groups[groups["reason"] != ""].groupby("reason", sort=False).groups
    notes = [
        note_on_groups(reason, labels, "coefficients")
        for reason, labels in lacking.items()
    ]
    exact = int((groups["df_resid"] == 0).sum())
    if exact and not pool:
        notes.append(
            f"{exact} of the groups have no residual degrees of freedom and so no "
            "standard errors of their own (pool=True uses those of all groups)."
        )
    if not groups["df_resid"].any():
        notes.append(
            "No group has more rows than coefficients: there is no residual variance "
            "and no standard error."
        )
    return notes


def note_on_groups(reason: object, labels: pd.Index, what: str) -> str:
    """Count and name the groups that lack something."""
    few = ", ".join(shown(label) for label in labels[:_NAMED])
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    verb = "group lacks" if len(labels) == 1 else "groups lack"
    return f"{len(labels)} {verb} {what}, {few}{more}: {reason}."
