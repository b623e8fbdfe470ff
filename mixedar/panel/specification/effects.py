"""
Tests for effects of entities and periods, and for correlation between entities.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from mixedar._types import FloatArray
from mixedar.exceptions import UnsupportedError, check_choice, check_flags
from mixedar.hypotheses.result import Distribution, TestResult, TestText
from mixedar.panel.specification.regressions import (
    PanelRegressions,
    Tested,
    regressions_of,
)

Effects = Literal["entity", "time", "twoways"]

WHOSE = {"entity": "entities", "time": "periods", "twoways": "entities and periods"}
_REFERENCES = {
    "Breusch-Pagan LM": (
        "Breusch and Pagan (1980), Review of Economic Studies 47, 239-253; unbalanced "
        "panels: Baltagi and Li (1990), Economics Letters 34, 109-113"
    ),
    "Honda": "Honda (1985), Review of Economic Studies 52, 681-690",
    "King-Wu": (
        "King and Wu (1997), Econometric Reviews 16, 131-156; Baltagi, Chang and Li "
        "(1992), Journal of Econometrics 54, 95-120"
    ),
    "Gourieroux-Holly-Monfort": (
        "Gourieroux, Holly and Monfort (1982), Econometrica 50, 63-80; Baltagi, Chang "
        "and Li (1992), Journal of Econometrics 54, 95-120"
    ),
}


class Scores(NamedTuple):
    """
    Standardised scores of the variances of entity and of period effects.

    Standard normal under the null, NaN where every entity (or period) has one
    observation; with the numbers of pairs of observations of an entity (or period).
    """

    entity: float
    time: float
    pairs_entity: float
    pairs_time: float


def _effects_text(name: str, effects: str, one_sided: bool) -> TestText:
    check_choice("effects", effects, tuple(WHOSE))
    whose = WHOSE[effects]
    short = "two-way" if effects == "twoways" else whose
    return TestText(
        f"{name}{', one-sided' if one_sided and 'LM' in name else ''} ({short})",
        f"no random effects of {whose}: their variance is zero",
        f"there are effects of {whose}"
        + (" (variance above zero)" if one_sided else ""),
        _REFERENCES[name],
    )


def _scores(fit: Tested, effects: str) -> tuple[Scores, str | None]:
    """Scores by the residuals of plain least squares, and why there is no test."""
    base = regressions_of(fit)
    panel, resid = base.panel, base.pooled.resid
    n, total = panel.nobs, float(resid @ resid)
    values, pairs = [], []
    for codes in (panel.entity, panel.time):
        counts = np.bincount(codes).astype(np.float64)
        sums = np.bincount(codes, resid)
        count = float(counts @ counts) - n
        excess = float(sums @ sums) / total - 1.0
        pairs.append(count)
        values.append(n * excess / np.sqrt(2.0 * count) if count > 0.0 else np.nan)
    reason = None
    if effects != "time" and not pairs[0] > 0.0:
        reason = "every entity has one observation"
    elif effects != "entity" and not panel.has_time:
        reason = "no times were given, so that there are no periods"
    elif effects != "entity" and not pairs[1] > 0.0:
        reason = "every period has one observation"
    return Scores(*values, *pairs), reason


def breusch_pagan(
    fit: Tested, effects: Effects = "entity", one_sided: bool = False
) -> TestResult:
    """
    Breusch and Pagan's Lagrange multiplier test for random effects.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit; the residuals are those of plain least squares.
    effects : {"entity", "time", "twoways"}
        Whose effects.
    one_sided : bool
        p-value from the mixture of chi-squared distributions that belongs to a
        variance, which cannot be negative (Stata's ``xttest0``); one kind of
        effects only.

    Returns
    -------
    TestResult

    Raises
    ------
    UnsupportedError
        For unknown `effects`, or `one_sided` with two kinds of effects.
    """
    check_flags(one_sided=one_sided)
    if one_sided and effects == "twoways":
        raise UnsupportedError(
            "breusch_pagan: one_sided=True is for one kind of effects; use "
            "gourieroux_holly_monfort(fit) for both"
        )
    text = _effects_text("Breusch-Pagan LM", effects, one_sided)
    scores, reason = _scores(fit, effects)
    if reason is not None:
        return text.missing(reason, "chi2")
    if effects == "twoways":
        return text.result(scores.entity**2 + scores.time**2, "chi2", 2)
    score = scores.entity if effects == "entity" else scores.time
    if not one_sided:
        return text.result(score**2, "chi2", 1)
    pvalue = 0.5 * stats.chi2.sf(score**2, 1) if score > 0.0 else 1.0
    # the statistic of a variance that would be estimated as negative is zero
    return text.result(max(score, 0.0) ** 2, "chibar2", 1, pvalue=pvalue)


def honda(fit: Tested, effects: Effects = "entity") -> TestResult:
    """
    Honda's one-sided test for random effects.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit.
    effects : {"entity", "time", "twoways"}
        Whose effects.

    Returns
    -------
    TestResult
    """
    return _upper_tail(fit, "Honda", effects)


def king_wu(fit: Tested, effects: Effects = "entity") -> TestResult:
    """
    King and Wu's locally mean most powerful one-sided test for random effects.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit.
    effects : {"entity", "time", "twoways"}
        Whose effects; for one kind it is Honda's test.

    Returns
    -------
    TestResult
    """
    return _upper_tail(fit, "King-Wu", effects)


def _upper_tail(fit: Tested, name: str, effects: Effects) -> TestResult:
    """The score of one kind of effects, or the weighted scores of both."""
    text = _effects_text(name, effects, True)
    scores, reason = _scores(fit, effects)
    if reason is not None:
        return text.missing(reason, "norm, upper tail")
    value = scores.entity if effects == "entity" else scores.time
    if effects == "twoways" and name == "Honda":
        value = (scores.entity + scores.time) / np.sqrt(2.0)
    elif effects == "twoways":
        total = scores.pairs_entity + scores.pairs_time
        value = (
            np.sqrt(scores.pairs_entity / total) * scores.entity
            + np.sqrt(scores.pairs_time / total) * scores.time
        )
    return text.result(value, "norm, upper tail")


def gourieroux_holly_monfort(fit: Tested) -> TestResult:
    """
    One-sided test for effects of entities and periods together.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit.

    Returns
    -------
    TestResult
        Under the null a mixture of chi-squared distributions with 0, 1 and 2
        degrees of freedom and weights 1/4, 1/2 and 1/4.
    """
    text = _effects_text("Gourieroux-Holly-Monfort", "twoways", True)
    scores, reason = _scores(fit, "twoways")
    if reason is not None:
        return text.missing(reason, "chibar2")
    value = max(scores.entity, 0.0) ** 2 + max(scores.time, 0.0) ** 2
    pvalue = 0.5 * stats.chi2.sf(value, 1) + 0.25 * stats.chi2.sf(value, 2)
    if value == 0.0:
        pvalue = 1.0
    return text.result(value, "chibar2", 2, pvalue=pvalue)


def wooldridge_effects(fit: Tested) -> TestResult:
    """
    Wooldridge's test for unobserved effects, without their distribution.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit; the residuals are those of plain least squares.

    Returns
    -------
    TestResult
        Also sensitive to serial correlation of the errors.
    """
    base = regressions_of(fit)
    panel, resid = base.panel, base.pooled.resid
    text = TestText(
        "Wooldridge (unobserved effects)",
        "residuals of an entity are uncorrelated: there are no effects",
        "residuals of an entity are correlated",
        "Wooldridge (2010), Econometric Analysis of Cross Section and Panel Data, "
        "section 10.4.4",
    )
    sums = panel.entity_sums(resid)
    products = 0.5 * (sums**2 - panel.entity_sums(resid**2))
    products[panel.sizes == 1] = 0.0
    variance = float(products @ products)
    if variance == 0.0:
        return text.missing("every entity has one observation", "norm")
    return text.result(products.sum() / np.sqrt(variance), "norm")


def f_test_effects(
    fit: Tested,
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
    small = _ssr_df(base, "entity" if against == "entity" else "pooled")
    return _f_result(text, small, _ssr_df(base, effects))


def _f_result(
    text: TestText,
    small: tuple[float, int],
    large: tuple[float, int],
    note: str | None = None,
) -> TestResult:
    """F test of two models by sums of squared residuals and degrees of freedom."""
    (ssr_small, df_small), (ssr, df) = small, large
    extra = df_small - df
    if df <= 0:
        return text.missing("no degrees of freedom are left for the residuals", "F")
    if extra <= 0:
        return text.missing("the two models are the same", "F")
    if ssr <= 1e-20 * ssr_small:
        return text.missing("the larger model fits without residuals", "F")
    value = (ssr_small - ssr) / extra / (ssr / df)
    return text.result(value, "F", (extra, df), note=note)


def _ssr_df(base: PanelRegressions, effects: str) -> tuple[float, int]:
    """Residual sum of squares and degrees of freedom with fixed effects."""
    panel = base.panel
    if effects == "pooled":
        return base.pooled.ssr, panel.nobs - base.pooled.rank
    removed = ("entity", "time") if effects == "twoways" else (effects,)
    _, fit = base.removed(removed)
    return fit.ssr, panel.nobs - panel.count_effects(removed) - fit.rank


def poolability(
    fit: Tested, against: Literal["pooled", "within"] = "pooled"
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
    check_choice("against", against, ("pooled", "within"))
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
    small = _ssr_df(base, "pooled" if against == "pooled" else "entity")
    df = base.separate.df
    ssr = float(base.separate.ssr[df > 0].sum())
    short, note = int((df <= 0).sum()), None
    if short:
        note = (
            f"{short} of {panel.n_entities} entities have too few observations for a "
            "regression of their own and add nothing to the residuals."
        )
    return _f_result(text, small, (ssr, int(df.sum())), note)


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
