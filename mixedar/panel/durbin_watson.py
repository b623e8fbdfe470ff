"""
Durbin-Watson statistics of panels: Bhargava et al., and Baltagi and Wu.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixedar.panel.outcome import TestResult, TestText
from mixedar.panel.regressions import PanelRegressions, regressions_of

__all__ = ["baltagi_wu_lbi", "bhargava_durbin_watson"]

_TABLES = (
    "the distribution depends on the regressors; without serial correlation the "
    "statistic is near 2, with positive correlation below (critical values: Bhargava, "
    "Franzini and Narendranathan, 1982)"
)


def bhargava_durbin_watson(fit: Any) -> TestResult:
    """
    Durbin-Watson statistic of Bhargava, Franzini and Narendranathan.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit; the residuals are those of fixed effects.

    Returns
    -------
    TestResult
        Without a p-value.  Across a gap in time the earlier residual counts as
        zero (the modified statistic of Baltagi and Wu).
    """
    base = regressions_of(fit)
    text = TestText(
        "Bhargava et al. Durbin-Watson",
        "the errors are not serially correlated",
        "they follow an AR(1) process",
        "Bhargava, Franzini and Narendranathan (1982), Review of Economic Studies 49, "
        "533-549; with gaps: Baltagi and Wu (1999), Econometric Theory 15, 814-823",
    )
    parts = _gap_sums(base)
    if isinstance(parts, str):
        return text.missing(parts)
    return text.result(parts[0], "none", reason=_TABLES)


def baltagi_wu_lbi(fit: Any) -> TestResult:
    """
    Baltagi and Wu's locally best invariant statistic.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit; the residuals are those of fixed effects.

    Returns
    -------
    TestResult
        Without a p-value, as in Stata.  Equals the Durbin-Watson statistic of
        Bhargava, Franzini and Narendranathan but for the ends of the series.
    """
    base = regressions_of(fit)
    text = TestText(
        "Baltagi-Wu LBI",
        "the errors are not serially correlated",
        "they follow an AR(1) process",
        "Baltagi and Wu (1999), Econometric Theory 15, 814-823",
    )
    parts = _gap_sums(base)
    if isinstance(parts, str):
        return text.missing(parts)
    return text.result(sum(parts), "none", reason=_TABLES)


def _gap_sums(base: PanelRegressions) -> tuple[float, float, float, float] | str:
    """Baltagi and Wu's d1 to d4, or why there are none."""
    panel = base.panel
    if not base.has_previous.any():
        return "every entity has one observation"
    if not panel.on_grid:
        return "the times do not lie on a grid of equal steps"
    resid = base.within.resid
    total = float(resid @ resid)
    if total <= 1e-20 * float(panel.y @ panel.y):
        return "fixed effects fits without residuals"
    rows = np.flatnonzero(base.has_previous)
    near = base.follows[rows]
    here, before = resid[rows], resid[rows - 1]
    first = resid[panel.offsets[:-1]]
    last = resid[panel.offsets[1:] - 1]
    return (
        float(((here - before * near) ** 2).sum()) / total,
        float((before[~near] ** 2).sum()) / total,
        float(first @ first) / total,
        float(last @ last) / total,
    )
