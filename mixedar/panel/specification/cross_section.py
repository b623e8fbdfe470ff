"""
Tests for correlation between entities: Pesaran's CD and its relatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from mixedar._types import FloatArray
from mixedar.exceptions import check_choice, check_flags
from mixedar.hypotheses.result import Distribution, TestResult, TestText
from mixedar.panel.specification.regressions import (
    PanelRegressions,
    Tested,
    regressions_of,
)

Residuals = Literal["within", "pooled", "quasi", "separate"]

_NONE = "residuals of different entities are uncorrelated"
_SOME = "they are correlated"
_PESARAN = "Pesaran (2015), Econometric Reviews 34, 1089-1117"
_LM = {
    "lm": TestText(
        "Breusch-Pagan LM (cross-section)",
        _NONE,
        _SOME,
        "Breusch and Pagan (1980), Review of Economic Studies 47, 239-253",
    ),
    "scaled": TestText("Scaled LM (cross-section)", _NONE, _SOME, _PESARAN),
    "bias_corrected": TestText(
        "Bias-corrected scaled LM",
        _NONE,
        _SOME,
        "Baltagi, Feng and Kao (2012), Journal of Econometrics 170, 164-177",
    ),
}
_MOST_PAIRS = 300_000_000
_BLOCK = 2_000_000


class PairSums(NamedTuple):
    """
    Sums over pairs of entities that share two times or more.

    Number of pairs; sums of ``rho``, ``|rho|``, ``sqrt(T) rho`` and ``T rho^2``,
    where T is the number of times that a pair shares.
    """

    pairs: float
    rho: float
    absolute: float
    weighted: float
    squares: float


def pesaran_cd(fit: Tested, residuals: Residuals | None = None) -> TestResult:
    """
    Pesaran's CD test for correlation between entities.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit.
    residuals : {"within", "pooled", "quasi", "separate"}, optional
        Those of fixed effects, of plain least squares, of the quasi-demeaned
        data, or of a regression for each entity; by default those that belong to
        the kind of `fit`.

    Returns
    -------
    TestResult
        Standard normal under the null for many entities.

    Raises
    ------
    UnsupportedError
        For unknown `residuals`, or ``"quasi"`` without random effects.
    """
    text = TestText("Pesaran CD", _NONE, _SOME, _PESARAN)
    sums = _pair_sums(fit, residuals, absolute=False)
    if isinstance(sums, str):
        return text.missing(sums, "norm")
    mean = sums.rho / sums.pairs
    value = sums.weighted / np.sqrt(sums.pairs)
    return text.result(value, "norm", details=(("mean rho", mean),))


def cross_section_lm(
    fit: Tested,
    form: Literal["lm", "scaled", "bias_corrected"] = "lm",
    residuals: Residuals | None = None,
) -> TestResult:
    """
    Breusch and Pagan's test for correlation between entities.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit.
    form : {"lm", "scaled", "bias_corrected"}
        Chi-squared for many periods; scaled for many entities as well; or
        corrected for the bias of fixed effects in balanced panels.
    residuals : str, optional
        As in :func:`pesaran_cd`.

    Returns
    -------
    TestResult

    Raises
    ------
    UnsupportedError
        For an unknown `form`.
    """
    check_choice("form", form, tuple(_LM))
    text = _LM[form]
    distribution: Distribution = "chi2" if form == "lm" else "norm"
    panel = regressions_of(fit).panel
    if form == "bias_corrected" and not panel.is_balanced:
        return text.missing("it is defined for balanced panels", distribution)
    sums = _pair_sums(fit, residuals, absolute=False)
    if isinstance(sums, str):
        return text.missing(sums, distribution)
    if form == "lm":
        note = None
        if panel.n_periods < panel.n_entities:
            note = (
                f"It needs many more periods than entities, and there are "
                f"{panel.n_periods} and {panel.n_entities}: it rejects too often. "
                "Pesaran's CD does not."
            )
        return text.result(sums.squares, "chi2", sums.pairs, note=note)
    value = (sums.squares - sums.pairs) / np.sqrt(2.0 * sums.pairs)
    if form == "bias_corrected":
        value -= panel.n_entities / (2.0 * (panel.n_periods - 1))
    return text.result(value, "norm")


def mean_correlation(
    fit: Tested, residuals: Residuals | None = None, absolute: bool = False
) -> float:
    """
    Average correlation of the residuals of two entities.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit.
    residuals : str, optional
        As in :func:`pesaran_cd`.
    absolute : bool
        Average of the absolute values.

    Returns
    -------
    float
        NaN if no two entities share two times.
    """
    check_flags(absolute=absolute)
    sums = _pair_sums(fit, residuals, absolute=absolute)
    if isinstance(sums, str):
        return float("nan")
    return (sums.absolute if absolute else sums.rho) / sums.pairs


def _pair_sums(fit: Tested, residuals: str | None, *, absolute: bool) -> PairSums | str:
    base = regressions_of(fit)
    panel = base.panel
    if not panel.has_time:
        return "no times were given, so that residuals cannot be paired"
    if panel.n_entities < 2:
        return "there is one entity only"
    resid = _residuals(base, residuals)
    if panel.is_balanced and not absolute:
        return _balanced_sums(resid.reshape(panel.n_entities, panel.n_periods))
    pairs = panel.n_entities * (panel.n_entities - 1) // 2
    if pairs * panel.n_periods > _MOST_PAIRS * 10:
        return (
            f"{panel.n_entities} entities make {pairs} pairs, which in an unbalanced "
            "panel must be formed one by one; test a sample of the entities"
        )
    table = np.zeros((panel.n_entities, panel.n_periods))
    table[panel.entity, panel.time] = resid
    seen = np.zeros_like(table)
    seen[panel.entity, panel.time] = 1.0
    total = np.zeros(5)
    for part in _blocks(table, seen):
        total += part
    if total[0] == 0.0:
        return "no two entities share two times"
    return PairSums(*(float(value) for value in total))


def _residuals(base: PanelRegressions, which: str | None) -> FloatArray:
    if which is None:
        return base.of_fit[1].resid
    check_choice("residuals", which, ("within", "pooled", "quasi", "separate"))
    if which == "separate":
        return base.panel.y - base.separate.fitted
    if which == "quasi":
        return base.quasi[1].resid
    return (base.within if which == "within" else base.pooled).resid


def _balanced_sums(table: FloatArray) -> PairSums | str:
    """Sums over pairs without forming them: O(N T^2)."""
    n, periods = table.shape
    if periods < 2:
        return "there is one period only"
    z = table - table.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.einsum("it,it->i", z, z))
    if not (lengths > 0.0).all():
        return "the residuals of an entity do not vary"
    z /= lengths[:, None]
    along = z.sum(axis=0)
    rho = 0.5 * (float(along @ along) - n)
    gram = z.T @ z if periods <= n else z @ z.T
    squares = 0.5 * (float((gram**2).sum()) - n)
    return PairSums(
        n * (n - 1) / 2.0, rho, np.nan, np.sqrt(periods) * rho, periods * squares
    )


def _blocks(table: FloatArray, seen: FloatArray) -> Iterator[FloatArray]:
    """Sums as in PairSums for blocks of first entities of a pair."""
    n = len(table)
    step = max(1, _BLOCK // n)
    squared = table**2
    for start in range(0, n, step):
        here = slice(start, min(start + step, n))
        mine = np.arange(n)[here, None] < np.arange(n)[None, :]
        shared = seen[here] @ seen.T
        mine &= shared >= 2.0
        count = np.where(mine, shared, 1.0)
        first = table[here] @ seen.T
        second = seen[here] @ table.T
        spread_first = squared[here] @ seen.T - first**2 / count
        spread_second = seen[here] @ squared.T - second**2 / count
        product = table[here] @ table.T - first * second / count
        floor = 1e-13 * (squared[here] @ seen.T + seen[here] @ squared.T)
        mine &= (spread_first > floor) & (spread_second > floor)
        bottom = np.where(mine, spread_first * spread_second, 1.0)
        rho = np.where(mine, product / np.sqrt(bottom), 0.0)
        sums = (mine, rho, np.abs(rho), np.sqrt(count) * rho, count * rho**2)
        yield np.array([part.sum() for part in sums])
