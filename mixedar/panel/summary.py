"""
The summary of a panel fit: which numbers stand in which table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedar.hypotheses.contrast import WaldTest
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import PanelEstimate
from mixedar.summary import ResultsSummary, SummaryTable, in_words


def summarize(
    panel: PanelData,
    estimate: PanelEstimate,
    coefficients: pd.DataFrame,
    *,
    rsquared: Mapping[str, float],
    slopes: WaldTest | None,
    parts: pd.Series | None,
    notes: Sequence[str],
    yname: str | None = None,
    title: str | None = None,
) -> ResultsSummary:
    """
    Build the summary.

    Parameters
    ----------
    panel : PanelData
    estimate : PanelEstimate
    coefficients : DataFrame
        With their tests and intervals.
    rsquared : mapping of str to float
        By what they are of.
    slopes : WaldTest or None
        That all slopes are zero.
    parts : Series or None
        Variances of effects and errors.
    notes : sequence of str
        Remarks of the fit.
    yname, title : str, optional
        As in ``PanelResults.summary``.

    Returns
    -------
    ResultsSummary
    """
    tables = [
        SummaryTable(coefficients, title="Coefficients", name="coefficients"),
        _components(parts),
        _statistics(panel, estimate),
    ]
    header = {
        "Dep. variable:": yname or panel.endog_name,
        "Entities:": f"{panel.entity_name} ({panel.n_entities})",
        "Periods:": f"{panel.time_name} ({panel.n_periods})",
        **({"Time unit:": panel.time_unit} if panel.time_unit else {}),
        "No. observations:": estimate.nobs,
        **({"Weights:": panel.weights_name} if panel.weights_name else {}),
        "Obs. per entity min/mean/max:": "{} / {:.4g} / {}".format(*panel.n_times),
        "Df residuals:": estimate.df_resid,
        "Covariance:": estimate.info.label,
        "Scale:": f"{estimate.scale:.6g}",
        **{
            f"R-squared {of}:": f"{value:.4f}" if value else "0"
            for of, value in rsquared.items()
        },
        **({} if slopes is None else _of_slopes(slopes)),
    }
    if estimate.llf is not None:
        header["Log-likelihood:"] = f"{estimate.llf:.4f}"
    return ResultsSummary(
        title=title or estimate.method,
        header=header,
        tables=[table for table in tables if table is not None],
        notes=_notes(notes, estimate, panel),
    )


def _of_slopes(test: WaldTest) -> dict[str, Any]:
    """The test of all slopes, as a fact about the fit."""
    which = f"Wald chi2({test.df_denom:.0f}), slopes:"
    if hasattr(test, "fvalue"):
        which = f"F({test.df_num:.0f}, {test.df_denom:.0f}), slopes:"
    p = in_words("p", float(test.pvalue))
    return {which: f"{float(test.statistic):.4g} ({p})"}


def _components(parts: pd.Series | None) -> SummaryTable | None:
    """Variances of effects and errors."""
    if parts is None:
        return None
    variances = parts[["effects", "residual"]].to_numpy()
    columns = {
        "Variance": variances,
        "Std.Dev.": np.sqrt(variances),
        "Fraction": [parts["fraction"], 1.0 - parts["fraction"]],
    }
    frame, formats = pd.DataFrame(columns, ["Effects", "Residual"]), {"Fraction": ".4f"}
    return SummaryTable(
        frame, "Variance components", formats, name="variance_components"
    )


def _statistics(panel: PanelData, estimate: PanelEstimate) -> SummaryTable | None:
    """Rho, theta and further numbers of the fit, one a row."""
    rows: dict[str, float] = {}
    if estimate.rho is not None:
        rows["rho, AR(1)"] = estimate.rho
    theta = estimate.theta
    if theta is not None:
        quantiles = {", min": 0.0, ", median": 0.5, ", max": 1.0}
        if np.ptp(theta) < 1e-12:
            quantiles = {"": 0.5}
        for name, q in quantiles.items():
            rows[f"theta{name}"] = panel.entity_quantile(theta, q)
    # with columns absorbed linearmodels tests another null than plm's pFtest
    test = None if estimate.absorbed else estimate.f_pooled
    if test is not None:
        value, df_num, df_denom = test
        rows[f"F({df_num:.0f}, {df_denom:.0f}), all effects zero"] = value
    rows.update(estimate.statistics)
    if not rows:
        return None
    frame = pd.DataFrame({"Value": list(rows.values())}, index=list(rows))
    return SummaryTable(frame, title="Further numbers", name="statistics")


def _notes(own: Sequence[str], estimate: PanelEstimate, panel: PanelData) -> list[str]:
    """Remarks of the fit, on clusters, and on rows that were left out."""
    info, found = estimate.info, list(own)
    if info.clusters:
        counts = " and ".join(str(count) for count in info.clusters)
        df = f"t and F tests have {info.df:.0f} denominator degrees of freedom"
        if info.method is not None:
            df = "degrees of freedom are Bell and McCaffrey's, of joint tests HTZ"
        found.append(f"Standard errors are clustered ({counts} clusters); {df}.")
    if panel.n_dropped:
        plural = "s" if panel.n_dropped > 1 else ""
        found.append(f"{panel.n_dropped} row{plural} with missing values left out.")
    return found
