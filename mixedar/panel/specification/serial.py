"""
Tests for serial correlation of the errors, by residuals and by scores.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from mixedar._types import BoolArray, FloatArray
from mixedar.exceptions import UnsupportedError, check_choice, check_flags
from mixedar.hypotheses.result import Distribution, TestResult, TestText
from mixedar.panel.algebra import column_sizes, regress, standardize
from mixedar.panel.estimators.ar1 import durbin_watson_lbi
from mixedar.panel.estimators.random_effects import fit_likelihood
from mixedar.panel.specification.regressions import (
    PanelRegressions,
    Tested,
    regressions_of,
)
from mixedar.panel.transformed import Correction, cluster_covariance

Convention = Literal["stata", "plm", "article"]
Gaps = Literal["skip", "previous"]

_LONG = 15  # observations an entity from which conventions hardly differ
_BSY = (
    "Bera, Sosa-Escudero and Yoon (2001), Journal of Econometrics 101, 1-23; "
    "unbalanced panels: Sosa-Escudero and Bera (2008), Stata Journal 8, 68-78"
)
_TABLES = (
    "the distribution depends on the regressors; without serial correlation the "
    "statistic is near 2, with positive correlation below (critical values: Bhargava, "
    "Franzini and Narendranathan, 1982)"
)
_NONE = "the errors are not serially correlated"
_SOME = "they are serially correlated"
_AR1 = "they follow an AR(1) process"
_WOOLDRIDGE = (
    "Wooldridge (2010), Econometric Analysis of Cross Section and Panel Data, section "
)
_SHORT = "entities are too short: lagged residuals need three observations"
_TWO = "every entity has fewer than three observations"
_DURBIN_WATSON = (
    TestText(
        "Bhargava et al. Durbin-Watson",
        _NONE,
        _AR1,
        "Bhargava, Franzini and Narendranathan (1982), Review of Economic Studies 49, "
        "533-549; with gaps: Baltagi and Wu (1999), Econometric Theory 15, 814-823",
    ),
    TestText(
        "Baltagi-Wu LBI",
        _NONE,
        _AR1,
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
        zero (the modified statistic of Baltagi and Wu); a reason where no two
        observations are neighbours in time.
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
    if base.no_lags:
        return text.missing(base.no_lags)
    if base.within.ssr <= 1e-20 * float(panel.y @ panel.y):
        return text.missing("fixed effects fits without residuals")
    value = durbin_watson_lbi(panel, base.within.resid)[which]
    return text.result(value, "none", reason=_TABLES, note=base.lag_note)


def wooldridge_ar(fit: Tested, gaps: Gaps = "skip") -> TestResult:
    """
    Wooldridge's test for serial correlation in fixed-effects models.

    Within residuals are regressed on their lag: without serial correlation the
    coefficient is ``-1 / (T - 1)``.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit; the residuals are those of fixed effects.
    gaps : {"skip", "previous"}
        Lags are one unit of time, or the observation before, however long ago (plm).

    Returns
    -------
    TestResult
        For short panels.
    """
    base = regressions_of(fit)
    panel = base.panel
    text = TestText(
        "Wooldridge, within residuals", _NONE, _SOME, _WOOLDRIDGE + "10.5.4"
    )
    if panel.n_periods < 3:
        return text.missing("with two periods the residuals are mirror images", "F")
    expected = -1.0 / (panel.n_periods - 1)
    return _lag_test(text, base, base.within.resid, base.has_lag(gaps), expected)


def wooldridge_fd(
    fit: Tested, null: Literal["fd", "fe"] = "fd", gaps: Gaps = "skip"
) -> TestResult:
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
    gaps : {"skip", "previous"}
        As in :func:`wooldridge_ar`, of differences too.

    Returns
    -------
    TestResult

    Raises
    ------
    UnsupportedError
        For an unknown `null` or `gaps`.
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
    drift = base.panel.constant is not None
    resid, rows = _difference_residuals(base, base.has_lag(gaps), drift)
    if resid is None:
        return text.missing(_without_lags(base), "F")
    return _lag_test(text, base, resid, rows, 0.0 if null == "fd" else -0.5)


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
    if base.no_lags:
        return text.missing(base.no_lags, "F")
    resid, rows = _difference_residuals(base, base.follows, False)
    if resid is None:
        return text.missing(
            "no entity has three observations that follow one another", "F"
        )
    return _lag_test(text, base, resid, rows, -0.5, constant=False)


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


def _without_lags(base: PanelRegressions, otherwise: str = _SHORT) -> str:
    """Why there are no lagged residuals, or too few."""
    return otherwise if base.follows.any() else base.panel.no_neighbours()


def _lag_test(
    text: TestText,
    base: PanelRegressions,
    resid: FloatArray,
    rows: BoolArray,
    expected: float,
    constant: bool = True,
) -> TestResult:
    """F test that the lag has its expected coefficient, clustered by entity."""
    here = np.flatnonzero(rows)
    entity = base.panel.entity[here]
    entities = 1 + int(np.count_nonzero(np.diff(entity)))
    x = resid[here - 1][:, None]
    df = entities - 1
    if constant:
        x = np.column_stack([x[:, 0], np.ones(len(here))])
        df = len(here) - 2
    fit = regress(x, resid[here])
    if fit.rank < x.shape[1] or df <= 0 or entities < 2:
        return text.missing(_without_lags(base), "F")
    correction: Correction = "HC0" if constant else "sss"
    cov = cluster_covariance(x, fit.resid, fit.bread, entity, correction)
    rho = float(fit.params[0])
    details = (("rho", rho), ("rho under null", expected))
    value = (rho - expected) ** 2 / cov[0, 0]
    return text.result(value, "F", (1, df), details=details, note=base.lag_note)


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
        is the last residual of the entity before it, as plm does; or those of so
        many units of time before, and zero where there are none.

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
            lagged[:, lag - 1] = panel.lagged(resid, lag)
    total = float(resid @ resid)
    if total == 0.0:
        return text.missing("the model fits without residuals", "chi2", order)
    design = np.column_stack([x, lagged])
    unexplained = regress(design, resid, np.append(sizes, column_sizes(lagged))).ssr
    value = panel.nobs * (1.0 - unexplained / total)
    note = base.lag_note
    if lags == "stacked" and panel.n_entities > 1:
        note = (
            "Lags run on from one entity to the next, as in plm; lags='entity' stops "
            "them there."
        )
    return text.result(value, "chi2", order, note=note)


class PooledStatistics(NamedTuple):
    """Bera, Sosa-Escudero and Yoon's A and B of plain residuals, and the counts."""

    a: float  # one less the squared sums by entity over the sum of squares
    b: float  # products with the lag over squares
    pairs: float  # rows with a lag, sum of T_i - 1 without gaps
    crossed: float  # sum of T_i (T_i - 1)

    @property
    def excess(self) -> float:
        """``sum T_i (T_i - 1) - 2 pairs``: 0 with two periods."""
        return self.crossed - 2.0 * self.pairs


def pooled_statistics(
    base: PanelRegressions, convention: Convention = "stata"
) -> PooledStatistics:
    """The statistics of the residuals of plain least squares."""
    check_choice("convention", convention, ("stata", "plm", "article"))
    panel, resid = base.panel, base.pooled.resid
    plm = convention == "plm"
    rows = np.flatnonzero(base.has_lag("previous" if plm else "skip"))
    if not len(rows):
        return PooledStatistics(0.0, 0.0, 0.0, 0.0)
    total = float(resid @ resid)
    sums, sizes = panel.entity_sums(resid), panel.sizes.astype(np.float64)
    bottom = total if convention == "article" else float(resid[rows] @ resid[rows])
    entities = panel.n_entities
    if plm:
        entities = int(np.bincount(panel.time).max())
    return PooledStatistics(
        a=1.0 - float(sums @ sums) / total,
        b=float(resid[rows] @ resid[rows - 1]) / bottom,
        pairs=panel.nobs - entities if plm else len(rows),
        crossed=float(sizes @ sizes) - panel.nobs,
    )


def bera_sosa_escudero_yoon(
    fit: Tested,
    test: Literal["ar", "re"] = "ar",
    one_sided: bool = True,
    convention: Convention = "stata",
) -> TestResult:
    """
    Test one departure from least squares, robust to a little of the other.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit; the residuals are those of plain least squares.
    test : {"ar", "re"}
        AR(1) errors allowing for random effects, or random effects allowing for
        AR(1) errors.
    one_sided : bool
        Whether the test for random effects is one-sided.
    convention : {"stata", "plm", "article"}
        Lagged products are divided by the squares of the rows that have a
        predecessor (Stata's ``xttest1``), which rejects too often in short
        panels, or by all squares (the article).  plm differs from Stata in
        unbalanced panels: it takes the number of entities in the fullest period
        for the number of entities, and the observation before for the lag, however
        long ago, which otherwise is one unit of time.

    Returns
    -------
    TestResult

    Raises
    ------
    UnsupportedError
        For an unknown `test`.
    """
    check_choice("test", test, ("ar", "re"))
    check_flags(one_sided=one_sided)
    base = regressions_of(fit)
    found = pooled_statistics(base, convention)
    a, b, n = found.a, found.b, base.panel.nobs
    if test == "ar":
        text = TestText(
            "Bera-Sosa-Escudero-Yoon (AR(1))",
            "the errors are not serially correlated, allowing for random effects",
            _AR1,
            _BSY,
        )
        if found.excess <= 0.0:
            return text.missing(_without_lags(base, _TWO), "chi2", 1)
        inner = b + found.pairs / found.crossed * a
        value = n**2 * found.crossed * inner**2 / (found.pairs * found.excess)
        return text.result(value, "chi2", 1, note=_short_note(base, convention))
    text = TestText(
        "Bera-Sosa-Escudero-Yoon (effects)",
        "there are no random effects, allowing for AR(1) errors",
        "there are random effects",
        _BSY,
    )
    distribution: Distribution = "norm, upper tail" if one_sided else "chi2"
    if found.excess <= 0.0:
        return text.missing(_without_lags(base, _TWO), distribution)
    score = -n / np.sqrt(2.0 * found.excess) * (a + 2.0 * b)
    if one_sided:
        return text.result(score, distribution)
    return text.result(score**2, distribution, 1)


def _short_note(base: PanelRegressions, convention: str) -> str | None:
    mean, notes = base.panel.n_times.mean, [base.lag_note]
    if convention != "article" and mean < _LONG:
        notes.append(
            f"With {mean:.3g} observations an entity it rejects too often; "
            "convention='article' does not."
        )
    return " ".join(filter(None, notes)) or None


def baltagi_li_joint(fit: Tested, convention: Convention = "stata") -> TestResult:
    """
    Baltagi and Li's joint test for random effects and AR(1) errors.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit; the residuals are those of plain least squares.
    convention : {"stata", "plm", "article"}
        As in :func:`bera_sosa_escudero_yoon`.

    Returns
    -------
    TestResult

    Raises
    ------
    UnsupportedError
        For an unknown `convention`.
    """
    base = regressions_of(fit)
    text = TestText(
        "Baltagi-Li joint (effects, AR(1))",
        "there are neither random effects nor serially correlated errors",
        "there are random effects, or AR(1) errors, or both",
        "Baltagi and Li (1991), Statistics and Probability Letters 11, 277-280; "
        + _BSY,
    )
    found = pooled_statistics(base, convention)
    if found.excess <= 0.0:
        return text.missing(_without_lags(base, _TWO), "chi2", 2)
    value = (found.a + 2.0 * found.b) ** 2 / (2.0 * found.excess)
    value = base.panel.nobs**2 * (value + found.b**2 / found.pairs)
    return text.result(value, "chi2", 2, note=_short_note(base, convention))


def baltagi_li_conditional(fit: Tested, one_sided: bool = False) -> TestResult:
    """
    Baltagi and Li's test for AR(1) errors in a model with random effects.

    The Lagrange multiplier test at the maximum-likelihood estimates of the model
    with a random intercept.  For panels with gaps only observations one unit of
    time apart are neighbours, and the information is that of the observations at
    hand.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit.
    one_sided : bool
        Against positive correlation only.

    Returns
    -------
    TestResult
    """
    check_flags(one_sided=one_sided)
    base = regressions_of(fit)
    sign, end = ("positively ", ", one-sided") if one_sided else ("", "")
    text = TestText(
        f"Baltagi-Li AR(1) given effects{end}",
        "the errors are not serially correlated, whatever the random effects",
        f"they are {sign}serially correlated (AR(1))",
        "Baltagi and Li (1995), Journal of Econometrics 68, 133-151",
    )
    distribution: Distribution = "norm, upper tail" if one_sided else "chi2"
    reason = base.no_lags
    exact = base.df_within <= 0 or base.within.ssr <= 1e-20 * base.pooled.ssr
    if reason is None and exact:
        reason = "fixed effects fits without residuals: the likelihood has no maximum"
    if reason is not None:
        return text.missing(reason, distribution)
    resid, sigma2_u, sigma2_e = _random_intercept(base)
    score, information = ar_score(base, resid, sigma2_u, sigma2_e)
    rest = information[2, 2] - information[2, :2] @ np.linalg.solve(
        information[:2, :2], information[:2, 2]
    )
    if rest <= 1e-10 * information[2, 2]:
        reason = "the panel is too short to tell serial correlation from random effects"
        return text.missing(reason, distribution)
    note = base.lag_note
    if sigma2_u == 0.0:
        note = "The variance of the random effects is estimated as zero."
    if one_sided:
        return text.result(score / np.sqrt(rest), distribution, note=note)
    return text.result(score**2 / rest, distribution, 1, note=note)


def _random_intercept(base: PanelRegressions) -> tuple[FloatArray, float, float]:
    """``y - x b`` and the variances of effects and errors by maximum likelihood."""
    panel, kept = base.panel, base.pooled.kept
    if panel.n_entities == 1:  # its effect is the constant
        return base.pooled.resid, 0.0, base.pooled.ssr / panel.nobs
    constant = None if panel.constant is None else int(kept[: panel.constant].sum())
    standard = standardize(panel.x[:, kept], constant)
    fit = fit_likelihood(panel, standard, reml=False)
    return panel.y - standard.x @ fit.params, fit.sigma2_u, fit.sigma2_e


def ar_score(
    base: PanelRegressions, resid: FloatArray, sigma2_u: float, sigma2_e: float
) -> tuple[float, FloatArray]:
    """
    Score of rho at zero, and information of (sigma2_e, sigma2_u, rho).

    `resid` is ``y - x b`` in sorted order.
    """
    # V = sigma2_e I + sigma2_u J,  V^-1 = a I + c J,  dV/drho = sigma2_e G with ones
    # in G for neighbours; every trace follows from T, 1'G1 and 1'GG1 of the entity
    panel = base.panel
    follows = base.follows.astype(np.float64)
    size = panel.sizes.astype(np.float64)
    a = 1.0 / sigma2_e
    c = -sigma2_u / (sigma2_e * (sigma2_e + size * sigma2_u))
    after = np.append(follows[1:], 0.0)  # a row's successor is its neighbour
    degree = follows + after
    links = 2.0 * panel.entity_sums(follows)  # 1'G1 = tr(GG)
    squares = panel.entity_sums(degree**2)  # 1'GG1
    white = a * resid + panel.per_row(c * panel.entity_sums(resid))
    products = np.zeros(panel.nobs)
    products[1:] = follows[1:] * white[1:] * white[:-1]
    score = sigma2_e * (products.sum() - 0.5 * float(c @ links))
    total = a + size * c  # V^-1 1 = total 1
    out = np.empty((3, 3))
    out[0, 0] = (size * a**2 + 2.0 * a * c * size + (c * size) ** 2).sum()
    out[0, 1] = out[1, 0] = (size * total**2).sum()
    out[1, 1] = ((size * total) ** 2).sum()
    # tr(V^-1 G V^-1) and 1'V^-1 G V^-1 1
    out[0, 2] = sigma2_e * ((2.0 * a * c + size * c**2) * links).sum()
    out[1, 2] = sigma2_e * (total**2 * links).sum()
    out[2, 0], out[2, 1] = out[0, 2], out[1, 2]
    out[2, 2] = (
        sigma2_e**2 * (a**2 * links + 2.0 * a * c * squares + (c * links) ** 2).sum()
    )
    return score, 0.5 * out
