"""
Tests for serial correlation and random effects from the Gaussian likelihood.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixedar.exceptions import UnsupportedError
from mixedar.panel.random_intercept import fit_random_intercept
from mixedar.panel.regressions import PanelRegressions, regressions_of
from mixedar.panel.test_result import TestResult, TestText

__all__ = [
    "baltagi_li_conditional",
    "baltagi_li_joint",
    "baltagi_wu_lbi",
    "bera_sosa_escudero_yoon",
    "bhargava_durbin_watson",
]

FloatArray = NDArray[np.float64]

_BSY = (
    "Bera, Sosa-Escudero and Yoon (2001), Journal of Econometrics 101, 1-23; "
    "unbalanced panels: Sosa-Escudero and Bera (2008), Stata Journal 8, 68-78"
)
_SHORT = "every entity has fewer than three observations"
_TABLES = (
    "the distribution depends on the regressors; without serial correlation the "
    "statistic is near 2, with positive correlation below (critical values: Bhargava, "
    "Franzini and Narendranathan, 1982)"
)


class PooledMoments(NamedTuple):
    """What the residuals of plain least squares say about both departures."""

    a: float
    b: float
    n: int
    entities: int
    squares: float  # sum of T_i^2

    @property
    def spread(self) -> float:
        """``sum T_i (T_i - 1) - 2 sum (T_i - 1)``: 0 with two periods."""
        return self.squares - 3.0 * self.n + 2.0 * self.entities


def pooled_moments(base: PanelRegressions, plm: bool = False) -> PooledMoments:
    """
    Return the statistics A and B of Bera, Sosa-Escudero and Yoon.

    Parameters
    ----------
    base : PanelRegressions
    plm : bool
        Count the entities of the fullest period, as plm does, not all of them.

    Returns
    -------
    PooledMoments
        ``a``: one less the squared sums by entity over the sum of squares; ``b``:
        products with the row before over the squares of the same rows, as in
        Stata's ``xttest1`` and plm.
    """
    panel, resid = base.panel, base.pooled.resid
    total = float(resid @ resid)
    sums = panel.entity_sums(resid)
    rows = np.flatnonzero(base.has_previous)
    sizes = panel.sizes.astype(np.float64)
    if not len(rows):
        return PooledMoments(0.0, 0.0, panel.nobs, panel.n_entities, panel.nobs)
    return PooledMoments(
        a=1.0 - float(sums @ sums) / total,
        b=float(resid[rows] @ resid[rows - 1]) / float(resid[rows] @ resid[rows]),
        n=panel.nobs,
        entities=int(np.bincount(panel.time).max()) if plm else panel.n_entities,
        squares=float(sizes @ sizes),
    )


def bera_sosa_escudero_yoon(
    fit: Any,
    test: Literal["ar", "re"] = "ar",
    one_sided: bool = True,
    plm: bool = False,
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
    plm : bool
        In unbalanced panels, reproduce plm, which takes the number of entities
        in the fullest period for the number of entities.

    Returns
    -------
    TestResult
        Observations follow one another whatever the gap.

    Raises
    ------
    UnsupportedError
        For an unknown `test`.
    """
    if test not in ("ar", "re"):
        raise UnsupportedError(f"test={test!r}: choose 'ar' or 're'")
    moments = pooled_moments(regressions_of(fit), plm)
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
        return text.result(value, "chi2", 1)
    text = TestText(
        "Bera-Sosa-Escudero-Yoon (effects)",
        "there are no random effects, allowing for AR(1) errors",
        "there are random effects",
        _BSY,
    )
    distribution: Any = "norm, upper tail" if one_sided else "chi2"
    if moments.spread <= 0.0:
        return text.missing(_SHORT, distribution)
    value = -n / np.sqrt(2.0 * moments.spread) * (a + 2.0 * b)
    if one_sided:
        return text.result(value, "norm, upper tail")
    return text.result(value**2, "chi2", 1)


def baltagi_li_joint(fit: Any, plm: bool = False) -> TestResult:
    """
    Baltagi and Li's joint test for random effects and AR(1) errors.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit; the residuals are those of plain least squares.
    plm : bool
        As in :func:`bera_sosa_escudero_yoon`.

    Returns
    -------
    TestResult
    """
    text = TestText(
        "Baltagi-Li joint (effects, AR(1))",
        "there are neither random effects nor serially correlated errors",
        "there are random effects, or AR(1) errors, or both",
        "Baltagi and Li (1991), Statistics and Probability Letters 11, 277-280; "
        + _BSY,
    )
    moments = pooled_moments(regressions_of(fit), plm)
    if moments.spread <= 0.0:
        return text.missing(_SHORT, "chi2", 2)
    a, b, n = moments.a, moments.b, moments.n
    value = (a + 2.0 * b) ** 2 / (2.0 * moments.spread) + b**2 / (n - moments.entities)
    return text.result(n**2 * value, "chi2", 2)


def baltagi_li_conditional(fit: Any, one_sided: bool = False) -> TestResult:
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
    panel = base.panel
    sign, end = ("positively ", ", one-sided") if one_sided else ("", "")
    text = TestText(
        f"Baltagi-Li AR(1) given effects{end}",
        "the errors are not serially correlated, whatever the random effects",
        f"they are {sign}serially correlated (AR(1))",
        "Baltagi and Li (1995), Journal of Econometrics 68, 133-151",
    )
    distribution: Any = "norm, upper tail" if one_sided else "chi2"
    if not panel.on_grid:
        return text.missing(
            "the times do not lie on a grid of equal steps", distribution
        )
    follows = base.follows
    if not follows.any():
        return text.missing(
            "no two observations of an entity are one unit of time apart", distribution
        )
    fitted = fit_random_intercept(base)
    score, information = ar_score(base, fitted.resid, fitted.sigma2_u, fitted.sigma2_e)
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
    if fitted.sigma2_u == 0.0:
        note = "The variance of the random effects is estimated as zero."
    if one_sided:
        return text.result(value, "norm, upper tail", note=note)
    return text.result(value**2, "chi2", 1, note=note)


def ar_score(
    base: PanelRegressions, resid: FloatArray, sigma2_u: float, sigma2_e: float
) -> tuple[float, FloatArray]:
    """
    Score of the AR(1) parameter at zero and the information of the variances.

    Parameters
    ----------
    base : PanelRegressions
    resid : ndarray, shape (n,)
        ``y - x b``.
    sigma2_u, sigma2_e : float
        Variances of effects and errors.

    Returns
    -------
    score : float
        Derivative of the log-likelihood in rho.
    information : ndarray, shape (3, 3)
        Expected information of (sigma2_e, sigma2_u, rho).
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
