"""
Tests for serial correlation of the errors, by their residuals.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from mixedar._types import BoolArray, FloatArray
from mixedar.exceptions import UnsupportedError, check_choice
from mixedar.hypotheses.result import TestResult, TestText
from mixedar.panel.algebra import Correction, cluster_covariance, column_sizes, regress
from mixedar.panel.data import PanelData
from mixedar.panel.estimators.ar1_rho import durbin_watson_lbi
from mixedar.panel.specification.regressions import (
    PanelRegressions,
    Tested,
    regressions_of,
)

_TABLES = (
    "the distribution depends on the regressors; without serial correlation the "
    "statistic is near 2, with positive correlation below (critical values: Bhargava, "
    "Franzini and Narendranathan, 1982)"
)
_NONE = "the errors are not serially correlated"
_SOME = "they are serially correlated"
_WOOLDRIDGE = (
    "Wooldridge (2010), Econometric Analysis of Cross Section and Panel Data, section "
)
_SHORT = "entities have too few observations: lagged residuals need at least three"
_DURBIN_WATSON = (
    TestText(
        "Bhargava et al. Durbin-Watson",
        _NONE,
        "they follow an AR(1) process",
        "Bhargava, Franzini and Narendranathan (1982), Review of Economic Studies 49, "
        "533-549; with gaps: Baltagi and Wu (1999), Econometric Theory 15, 814-823",
    ),
    TestText(
        "Baltagi-Wu LBI",
        _NONE,
        "they follow an AR(1) process",
        "Baltagi and Wu (1999), Econometric Theory 15, 814-823",
    ),
)


def bhargava_durbin_watson(fit: Tested) -> TestResult:
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
    return _durbin_watson(fit, 0)


def baltagi_wu_lbi(fit: Tested) -> TestResult:
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
    return _durbin_watson(fit, 1)


def _durbin_watson(fit: Tested, which: int) -> TestResult:
    """Bhargava's statistic, or Baltagi and Wu's."""
    base, text = regressions_of(fit), _DURBIN_WATSON[which]
    panel = base.panel
    if not base.has_previous.any():
        return text.missing("every entity has one observation")
    if not panel.on_grid:
        return text.missing("the times do not lie on a grid of equal steps")
    if base.within.ssr <= 1e-20 * float(panel.y @ panel.y):
        return text.missing("fixed effects fits without residuals")
    value = durbin_watson_lbi(panel, base.within.resid)[which]
    return text.result(value, "none", reason=_TABLES)


def wooldridge_ar(fit: Tested) -> TestResult:
    """
    Wooldridge's test for serial correlation in fixed-effects models.

    Within residuals are regressed on their lag: without serial correlation the
    coefficient is ``-1 / (T - 1)``.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit; the residuals are those of fixed effects.

    Returns
    -------
    TestResult
        For short panels; observations follow one another whatever the gap.
    """
    base = regressions_of(fit)
    panel = base.panel
    text = TestText(
        "Wooldridge, within residuals", _NONE, _SOME, _WOOLDRIDGE + "10.5.4"
    )
    if panel.n_periods < 3:
        return text.missing("with two periods the residuals are mirror images", "F")
    rows = base.has_previous
    expected = -1.0 / (panel.n_periods - 1)
    return _lag_test(
        text, panel, base.within.resid, rows, expected, constant=True, correction="HC0"
    )


def wooldridge_fd(fit: Tested, null: Literal["fd", "fe"] = "fd") -> TestResult:
    """
    Wooldridge's test of the first-difference residuals.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit; the residuals are those of first differences, with a
        drift if the model has a constant.
    null : {"fd", "fe"}
        Which errors are uncorrelated: the differenced ones, so that the lag has
        the coefficient 0, or those in levels, so that it has -1/2.

    Returns
    -------
    TestResult
        Observations follow one another whatever the gap.

    Raises
    ------
    UnsupportedError
        For an unknown `null`.
    """
    check_choice("null", null, ("fd", "fe"))
    what = "differenced errors" if null == "fd" else "errors in levels"
    text = TestText(
        f"Wooldridge, first differences (null: {null})",
        f"the {what} are not serially correlated",
        _SOME,
        _WOOLDRIDGE + "10.6.3",
    )
    base = regressions_of(fit)
    panel = base.panel
    first = base.has_previous
    resid, second = _difference_residuals(base, first, panel.constant is not None)
    if resid is None:
        return text.missing(_SHORT, "F")
    expected = 0.0 if null == "fd" else -0.5
    return _lag_test(
        text, panel, resid, second, expected, constant=True, correction="HC0"
    )


def wooldridge_drukker(fit: Tested) -> TestResult:
    """
    Wooldridge's test as Drukker describes it, Stata's ``xtserial``.

    Residuals of first differences without drift are regressed on their lag
    without a constant: without serial correlation in levels the coefficient is
    -1/2.  Only observations one unit of time apart are paired.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit.

    Returns
    -------
    TestResult
    """
    text = TestText(
        "Wooldridge-Drukker",
        _NONE,
        _SOME,
        "Drukker (2003), Stata Journal 3, 168-177; " + _WOOLDRIDGE + "10.6.3",
    )
    base = regressions_of(fit)
    if not base.panel.on_grid:
        return text.missing("the times do not lie on a grid of equal steps", "F")
    resid, rows = _difference_residuals(base, base.follows, False)
    if resid is None:
        return text.missing(
            "no entity has three observations that follow one another", "F"
        )
    return _lag_test(
        text, base.panel, resid, rows, -0.5, constant=False, correction="sss"
    )


def _difference_residuals(
    base: PanelRegressions, rows: BoolArray, drift: bool
) -> tuple[FloatArray | None, BoolArray]:
    """Residuals of differences at their rows, and the rows that have a lag."""
    second = rows.copy()
    second[1:] &= rows[:-1]
    second[0] = False
    if second.sum() < 2:
        return None, second
    _, fit = base.differences(rows, drift)
    resid = np.zeros(base.panel.nobs)
    resid[rows] = fit.resid
    return resid, second


def _lag_test(
    text: TestText,
    panel: PanelData,
    resid: FloatArray,
    rows: BoolArray,
    expected: float,
    *,
    constant: bool,
    correction: Correction,
) -> TestResult:
    """F test that the lag has its expected coefficient, clustered by entity."""
    here = np.flatnonzero(rows)
    entity = panel.entity[here]
    x = resid[here - 1][:, None]
    if constant:
        x = np.column_stack([x[:, 0], np.ones(len(here))])
    fit = regress(x, resid[here])
    starts = np.flatnonzero(np.diff(entity, prepend=-1))
    df = len(here) - x.shape[1] if constant else len(starts) - 1
    if fit.rank < x.shape[1] or df <= 0 or len(starts) < 2:
        return text.missing(_SHORT, "F")
    offsets = np.append(starts, len(here))
    cov = cluster_covariance(x, fit.resid, fit.bread, offsets, correction)
    rho = float(fit.params[0])
    value = (rho - expected) ** 2 / cov[0, 0]
    details = (("rho", rho), ("rho under null", expected))
    return text.result(value, "F", (1, df), details=details)


def breusch_godfrey(
    fit: Tested,
    order: int | None = None,
    lags: Literal["stacked", "entity"] = "stacked",
) -> TestResult:
    """
    Breusch and Godfrey's test on the residuals of the transformed model.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Its kind says which data are used: entity-demeaned (fixed effects),
        quasi-demeaned (random effects) or as they are (anything else).
    order : int, optional
        Number of lags; by default the smallest number of observations of an
        entity.
    lags : {"stacked", "entity"}
        Residuals lagged in the stacked data, so that the first lag of an entity
        is the last residual of the entity before it, as plm does; or zero there.

    Returns
    -------
    TestResult
        In fixed-effects models the demeaned errors are correlated by
        construction, so that the test rejects too often unless the number of
        periods is large; :func:`wooldridge_ar` allows for it.

    Raises
    ------
    UnsupportedError
        For an `order` below 1 or unknown `lags`.
    """
    base = regressions_of(fit)
    panel = base.panel
    check_choice("lags", lags, ("stacked", "entity"))
    order = int(panel.sizes.min()) if order is None else order
    if order < 1:
        raise UnsupportedError(f"order={order}: the test needs one lag or more")
    which = "FE" if base.kind.startswith("fe") else "OLS"
    if base.kind.startswith("re") and base.theta is not None:
        which = "RE"
    text = TestText(
        f"Breusch-Godfrey ({which}, order {order})",
        f"the errors are not serially correlated up to order {order}",
        _SOME,
        "Breusch (1978), Australian Economic Papers 17, 334-355; Godfrey (1978), "
        "Econometrica 46, 1293-1301; " + _WOOLDRIDGE + "7.8",
    )
    x, regression = base.of_fit
    resid = regression.resid
    sizes = column_sizes(base.slopes) if which == "FE" else base.sizes
    if panel.nobs <= x.shape[1] + order:
        return text.missing(f"{panel.nobs} observations are too few", "chi2", order)
    lagged = np.zeros((panel.nobs, order))
    for lag in range(1, order + 1):
        lagged[lag:, lag - 1] = resid[:-lag]
        if lags == "entity":
            inside = panel.entity[lag:] == panel.entity[:-lag]
            lagged[lag:, lag - 1] *= inside
    total = float(resid @ resid)
    if total == 0.0:
        return text.missing("the model fits without residuals", "chi2", order)
    design = np.column_stack([x, lagged])
    unexplained = regress(design, resid, np.append(sizes, column_sizes(lagged))).ssr
    value = panel.nobs * (1.0 - unexplained / total)
    note = None
    if lags == "stacked" and panel.n_entities > 1:
        note = (
            "Lags run on from one entity to the next, as in plm; lags='entity' stops "
            "them there."
        )
    return text.result(value, "chi2", order, note=note)
