"""
Lagrange multiplier tests for serial correlation beside random effects.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from mixedar._types import FloatArray
from mixedar.exceptions import check_choice
from mixedar.hypotheses.result import Distribution, TestResult, TestText
from mixedar.panel.algebra import standardize
from mixedar.panel.estimators.random_effects import fit_likelihood
from mixedar.panel.specification.regressions import (
    PanelRegressions,
    Tested,
    regressions_of,
)

Convention = Literal["stata", "plm", "article"]

_LONG = 15  # observations an entity from which conventions hardly differ

_BSY = (
    "Bera, Sosa-Escudero and Yoon (2001), Journal of Econometrics 101, 1-23; "
    "unbalanced panels: Sosa-Escudero and Bera (2008), Stata Journal 8, 68-78"
)
_SHORT = "every entity has fewer than three observations"


class PooledMoments(NamedTuple):
    """What the residuals of plain least squares say about both departures."""

    a: float  # one less the squared sums by entity over the sum of squares
    b: float  # products with the row before over squares
    n: int
    entities: int
    squares: float  # sum of T_i^2

    @property
    def spread(self) -> float:
        """``sum T_i (T_i - 1) - 2 sum (T_i - 1)``: 0 with two periods."""
        return self.squares - 3.0 * self.n + 2.0 * self.entities


def pooled_moments(
    base: PanelRegressions, convention: Convention = "stata"
) -> PooledMoments:
    """The statistics A and B of Bera, Sosa-Escudero and Yoon."""
    check_choice("convention", convention, ("stata", "plm", "article"))
    panel, resid = base.panel, base.pooled.resid
    total = float(resid @ resid)
    sums = panel.entity_sums(resid)
    rows = np.flatnonzero(base.has_previous)
    sizes = panel.sizes.astype(np.float64)
    if not len(rows):
        return PooledMoments(0.0, 0.0, panel.nobs, panel.n_entities, panel.nobs)
    bottom = total if convention == "article" else float(resid[rows] @ resid[rows])
    entities = panel.n_entities
    if convention == "plm":
        entities = int(np.bincount(panel.time).max())
    return PooledMoments(
        a=1.0 - float(sums @ sums) / total,
        b=float(resid[rows] @ resid[rows - 1]) / bottom,
        n=panel.nobs,
        entities=entities,
        squares=float(sizes @ sizes),
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
        for the number of entities.

    Returns
    -------
    TestResult
        Observations follow one another whatever the gap.

    Raises
    ------
    UnsupportedError
        For an unknown `test`.
    """
    check_choice("test", test, ("ar", "re"))
    base = regressions_of(fit)
    moments = pooled_moments(base, convention)
    a, b, n = moments.a, moments.b, moments.n
    if test == "ar":
        text = TestText(
            "Bera-Sosa-Escudero-Yoon (AR(1))",
            "the errors are not serially correlated, allowing for random effects",
            "they follow an AR(1) process",
            _BSY,
        )
        if moments.spread <= 0.0:
            return text.missing(_SHORT, "chi2", 1)
        pairs = n - moments.entities
        crossed = moments.squares - n
        inner = b + pairs / crossed * a
        value = n**2 * crossed * inner**2 / (pairs * moments.spread)
        note = _short_note(base, convention)
        return text.result(value, "chi2", 1, note=note)
    text = TestText(
        "Bera-Sosa-Escudero-Yoon (effects)",
        "there are no random effects, allowing for AR(1) errors",
        "there are random effects",
        _BSY,
    )
    distribution: Distribution = "norm, upper tail" if one_sided else "chi2"
    if moments.spread <= 0.0:
        return text.missing(_SHORT, distribution)
    value = -n / np.sqrt(2.0 * moments.spread) * (a + 2.0 * b)
    if one_sided:
        return text.result(value, "norm, upper tail")
    return text.result(value**2, "chi2", 1)


def _short_note(base: PanelRegressions, convention: str) -> str | None:
    mean = base.panel.spread.mean
    if convention == "article" or mean >= _LONG:
        return None
    return (
        f"With {mean:.3g} observations an entity it rejects too often; "
        "convention='article' does not."
    )


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
    moments = pooled_moments(base, convention)
    if moments.spread <= 0.0:
        return text.missing(_SHORT, "chi2", 2)
    a, b, n = moments.a, moments.b, moments.n
    value = (a + 2.0 * b) ** 2 / (2.0 * moments.spread) + b**2 / (n - moments.entities)
    note = _short_note(base, convention)
    return text.result(n**2 * value, "chi2", 2, note=note)


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
    base = regressions_of(fit)
    sign, end = ("positively ", ", one-sided") if one_sided else ("", "")
    text = TestText(
        f"Baltagi-Li AR(1) given effects{end}",
        "the errors are not serially correlated, whatever the random effects",
        f"they are {sign}serially correlated (AR(1))",
        "Baltagi and Li (1995), Journal of Econometrics 68, 133-151",
    )
    distribution: Distribution = "norm, upper tail" if one_sided else "chi2"
    reason = None
    if not base.panel.on_grid:
        reason = "the times do not lie on a grid of equal steps"
    elif not base.follows.any():
        reason = "no two observations of an entity are one unit of time apart"
    elif base.df_within <= 0 or base.within.ssr <= 1e-20 * base.pooled.ssr:
        reason = (
            "fixed effects fits without residuals, so that the likelihood has no "
            "maximum"
        )
    if reason is not None:
        return text.missing(reason, distribution)
    resid, sigma2_u, sigma2_e = _random_intercept(base)
    score, information = ar_score(base, resid, sigma2_u, sigma2_e)
    rest = information[2, 2] - information[2, :2] @ np.linalg.solve(
        information[:2, :2], information[:2, 2]
    )
    if rest <= 1e-10 * information[2, 2]:
        return text.missing(
            "the panel is too short to tell serial correlation from random effects",
            distribution,
        )
    value = score / np.sqrt(rest)
    note = None
    if sigma2_u == 0.0:
        note = "The variance of the random effects is estimated as zero."
    if one_sided:
        return text.result(value, "norm, upper tail", note=note)
    return text.result(value**2, "chi2", 1, note=note)


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
    white = a * resid + panel.spread_out(c * panel.entity_sums(resid))
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
