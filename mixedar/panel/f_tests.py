"""
F tests: are all effects zero, are coefficients the same for every entity.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from mixedar.exceptions import UnsupportedError
from mixedar.panel.auxiliary import column_sizes
from mixedar.panel.effects_tests import WHOSE, Effects
from mixedar.panel.outcome import TestResult, TestText
from mixedar.panel.regressions import PanelRegressions, regressions_of

__all__ = ["f_test_effects", "poolability", "separate_fits"]


def f_test_effects(
    fit: Any,
    effects: Effects = "entity",
    against: Literal["pooled", "entity"] = "pooled",
) -> TestResult:
    """
    F test that all fixed effects are zero.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit.
    effects : {"entity", "time", "twoways"}
        Effects of the larger model.
    against : {"pooled", "entity"}
        The smaller model: no effects, or effects of entities only.

    Returns
    -------
    TestResult

    Raises
    ------
    UnsupportedError
        If the models are not nested.
    """
    if effects not in WHOSE or (against == "entity" and effects != "twoways"):
        raise UnsupportedError(
            f"f_test_effects: effects={effects!r} against {against!r} is not defined; "
            "choose 'entity', 'time' or 'twoways' against 'pooled', or 'twoways' "
            "against 'entity'"
        )
    base = regressions_of(fit)
    whose = WHOSE["time" if against == "entity" else effects]
    short = "two-way" if whose == WHOSE["twoways"] else whose
    text = TestText(
        f"F test of fixed effects ({short})",
        f"all effects of {whose} are zero",
        f"some effects of {whose} are not zero",
        "Moulton and Randolph (1989), Econometrica 57, 685-693",
    )
    if effects != "entity" and not base.panel.has_time:
        return text.missing("no times were given, so that there are no periods", "F")
    ssr, df = _within_fit(base, effects)
    if against == "entity":
        ssr_small, df_small = _within_fit(base, "entity")
    else:
        ssr_small = base.pooled.ssr
        df_small = base.panel.nobs - base.pooled.rank
    return _f_result(text, ssr_small, df_small, ssr, df)


def _f_result(
    text: TestText,
    ssr_small: float,
    df_small: int,
    ssr: float,
    df: int,
    note: str | None = None,
) -> TestResult:
    extra = df_small - df
    if df <= 0:
        return text.missing("no degrees of freedom are left for the residuals", "F")
    if extra <= 0:
        return text.missing("the two models are the same", "F")
    if ssr <= 1e-20 * ssr_small:
        return text.missing("the larger model fits without residuals", "F")
    value = (ssr_small - ssr) / extra / (ssr / df)
    return text.result(value, "F", (extra, df), note=note)


def _within_fit(base: PanelRegressions, effects: str) -> tuple[float, int]:
    """Residual sum of squares and degrees of freedom with fixed effects."""
    panel = base.panel
    if effects == "entity":
        return base.within.ssr, base.df_within
    removed: tuple[str, ...] = ("time",) if effects == "time" else ("entity", "time")
    _, fit = base.removed(removed)
    counted = panel.n_periods
    if effects == "twoways":
        counted += panel.n_entities - 1
    return fit.ssr, panel.nobs - counted - fit.rank


def poolability(
    fit: Any, against: Literal["pooled", "within"] = "pooled"
) -> TestResult:
    """
    F test that coefficients are the same for every entity (Chow's test).

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit.
    against : {"pooled", "within"}
        The smaller model: plain least squares (equal intercepts and slopes), or
        fixed effects (equal slopes).

    Returns
    -------
    TestResult
        Needs entities with more observations than regressors.

    Raises
    ------
    UnsupportedError
        For an unknown `against`.
    """
    if against not in ("pooled", "within"):
        raise UnsupportedError(f"against={against!r}: choose 'pooled' or 'within'")
    base = regressions_of(fit)
    panel = base.panel
    what = "coefficients" if against == "pooled" else "slopes"
    text = TestText(
        f"Poolability (equal {what})",
        f"all entities have the same {what}",
        f"{what} differ between entities",
        "Chow (1960), Econometrica 28, 591-605; Baltagi (2021), Econometric Analysis "
        "of Panel Data, section 4.1",
    )
    ssr, df, short = separate_fits(base)
    if against == "pooled":
        ssr_small, df_small = base.pooled.ssr, panel.nobs - base.pooled.rank
    else:
        ssr_small, df_small = base.within.ssr, base.df_within
    note = None
    if short:
        note = (
            f"{short} of {panel.n_entities} entities have too few observations for a "
            "regression of their own and add nothing to the residuals."
        )
    return _f_result(text, ssr_small, df_small, ssr, df, note)


def separate_fits(base: PanelRegressions) -> tuple[float, int, int]:
    """
    Regress each entity on its own, with an intercept.

    Parameters
    ----------
    base : PanelRegressions

    Returns
    -------
    ssr : float
        Sum of squared residuals of all entities.
    df : int
        Their degrees of freedom.
    short : int
        Number of entities without degrees of freedom.
    """
    panel = base.panel
    root = np.sqrt(panel.nobs)
    scale = column_sizes(base.slopes) / root
    x = base.x_within / scale
    y = panel.demean(panel.y)
    k = x.shape[1]
    gram = np.empty((panel.n_entities, k, k))
    for i in range(k):
        for j in range(i, k):
            gram[:, i, j] = gram[:, j, i] = panel.entity_sums(x[:, i] * x[:, j])
    right = panel.entity_sums(x * y[:, None])
    total = panel.entity_sums(y * y)
    size = np.sqrt(np.einsum("ijj->ij", gram))
    varies = size > 1e-9 * np.sqrt(panel.sizes)[:, None]
    size = np.where(varies, size, 1.0)
    gram = np.where(varies[:, :, None] & varies[:, None, :], gram, 0.0)
    values, vectors = np.linalg.eigh(gram / (size[:, :, None] * size[:, None, :]))
    keep = values > 1e-11
    along = np.einsum("nij,ni->nj", vectors, np.where(varies, right, 0.0) / size)
    explained = np.where(keep, along**2 / np.where(keep, values, 1.0), 0.0).sum(axis=1)
    df = panel.sizes - 1 - keep.sum(axis=1)
    ssr = np.where(df > 0, np.maximum(total - explained, 0.0), 0.0)
    return float(ssr.sum()), int(np.maximum(df, 0).sum()), int((df <= 0).sum())
