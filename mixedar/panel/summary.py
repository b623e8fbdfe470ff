"""
Tables of a panel fit below its coefficients, and what they say of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mixedar.panel.data import PanelData
from mixedar.panel.estimate import PanelEstimate
from mixedar.summary import SummaryTable


def components(parts: pd.Series | None) -> SummaryTable | None:
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


def statistics(estimate: PanelEstimate) -> SummaryTable | None:
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
            rows[f"theta{name}"] = float(np.quantile(theta, q))
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


def notes(own: Sequence[str], estimate: PanelEstimate, panel: PanelData) -> list[str]:
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
