"""
The summary of a panel fit: which numbers stand in which table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar.exceptions import LengthError
from mixedar.summary import ResultsSummary, SummaryTable

if TYPE_CHECKING:
    from mixedar.panel.results import PanelResults


def summarize(
    results: PanelResults,
    yname: str | None,
    xname: Sequence[str] | None,
    title: str | None,
    alpha: float,
) -> ResultsSummary:
    """The summary; arguments as in ``PanelResults.summary``."""
    names = list(results.params.index) if xname is None else list(xname)
    if len(names) != len(results.params):
        raise LengthError(
            f"xname has {len(names)} names; the model has {len(results.params)} "
            "coefficients"
        )
    tables = [_coefficients(results, names, alpha)]
    tables += [t for t in (_components(results), _statistics(results)) if t is not None]
    return ResultsSummary(
        title=title or results.method,
        header=_header(results, yname),
        tables=tables,
        notes=_notes(results),
    )


def _header(results: PanelResults, yname: str | None) -> dict[str, Any]:
    panel, spread = results.panel, results.n_times
    header = {
        "Dep. variable:": yname or results.endog_name,
        "Entities:": f"{panel.entity_name} ({results.n_entities})",
        "Periods:": f"{panel.time_name} ({panel.n_periods})",
        "No. observations:": results.nobs,
        "Obs. per entity min/mean/max:": "{} / {:.4g} / {}".format(*spread),
        "Df residuals:": results.df_resid,
        "Covariance:": results.estimate.info.label,
        "Scale:": f"{results.scale:.6g}",
        "R-squared within:": f"{results.rsquared_within:.4f}",
        "R-squared between:": f"{results.rsquared_between:.4f}",
        "R-squared overall:": f"{results.rsquared_overall:.4f}",
    }
    test = results.f_slopes
    if test is not None:
        if hasattr(test, "fvalue"):
            which = f"F({test.df_num:.0f}, {test.df_denom:.0f}), slopes:"
            header[which] = f"{float(test.fvalue):.4g} (p = {float(test.pvalue):.4g})"
        else:
            which = f"Wald chi2({test.df_denom:.0f}), slopes:"
            value = float(test.statistic)
            header[which] = f"{value:.4g} (p = {float(test.pvalue):.4g})"
    if results.llf is not None:
        header["Log-likelihood:"] = f"{results.llf:.4f}"
    return header


def _coefficients(
    results: PanelResults, names: Sequence[str], alpha: float
) -> SummaryTable:
    letter = "t" if results.use_t else "z"
    interval = results.conf_int(alpha)
    frame = pd.DataFrame(
        {
            "Coef.": np.asarray(results.params),
            "Std.Err.": np.asarray(results.bse),
            letter: np.asarray(results.tvalues),
            f"P>|{letter}|": np.asarray(results.pvalues),
            f"[{alpha / 2:.4g}": np.asarray(interval[0]),
            f"{1 - alpha / 2:.4g}]": np.asarray(interval[1]),
        },
        index=list(names),
    )
    return SummaryTable(frame, title="Coefficients", name="coefficients")


def _components(results: PanelResults) -> SummaryTable | None:
    parts = results.variance_decomposition
    if parts is None:
        return None
    variances = parts[["effects", "residual"]].to_numpy()
    frame = pd.DataFrame(
        {
            "Variance": variances,
            "Std.Dev.": np.sqrt(variances),
            "Fraction": [parts["fraction"], 1.0 - parts["fraction"]],
        },
        index=["Effects", "Residual"],
    )
    return SummaryTable(
        frame,
        title="Variance components",
        name="variance_components",
        formats={"Fraction": ".4f"},
    )


def _statistics(results: PanelResults) -> SummaryTable | None:
    """Rho, theta and further numbers of the fit, one a row."""
    rows: dict[str, float] = {}
    if results.rho is not None:
        rows["rho, AR(1)"] = results.rho
    theta = results.estimate.theta
    if theta is not None:
        quantiles = {", min": 0.0, ", median": 0.5, ", max": 1.0}
        if np.ptp(theta) < 1e-12:
            quantiles = {"": 0.5}
        for name, q in quantiles.items():
            rows[f"theta{name}"] = float(np.quantile(theta, q))
    # with columns absorbed linearmodels tests another null than plm's pFtest
    test = None if results.absorbed else results.estimate.f_pooled
    if test is not None:
        value, df_num, df_denom = test
        rows[f"F({df_num:.0f}, {df_denom:.0f}), all effects zero"] = value
    rows.update(results.estimate.statistics)
    if not rows:
        return None
    frame = pd.DataFrame({"Value": list(rows.values())}, index=list(rows))
    return SummaryTable(frame, title="Further numbers", name="statistics")


def _notes(results: PanelResults) -> list[str]:
    info, panel = results.estimate.info, results.panel
    notes = list(results.notes)
    if info.clusters:
        counts = " and ".join(str(count) for count in info.clusters)
        notes.append(
            f"Standard errors are clustered ({counts} clusters); t and F tests have "
            f"{info.df:.0f} denominator degrees of freedom."
        )
    if panel.n_dropped:
        plural = "s" if panel.n_dropped > 1 else ""
        notes.append(f"{panel.n_dropped} row{plural} with missing values left out.")
    return notes
