"""
Likelihood-ratio tests of nested fits, and analysis of variance by terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.contrast import WaldTestResults

from mixedar._types import FloatArray, Seed
from mixedar.data.formula.terms import Term
from mixedar.exceptions import (
    LengthError,
    NotComputedError,
    UnsupportedError,
    check_choice,
    check_flags,
)
from mixedar.fit import Fit
from mixedar.fit.maximise import maximise
from mixedar.fit.responses import Responses
from mixedar.hypotheses.df import ColumnDF, DFMethod
from mixedar.inference.arguments import check_count, generator, progress_bar
from mixedar.inference.df import contrast_method
from mixedar.inference.information import information_criteria
from mixedar.inference.intervals.bootstrap import Refitter
from mixedar.inference.terms.comparable import matching_rows, same_columns
from mixedar.inference.terms.mixture_chi2 import NullDistribution, null_distribution
from mixedar.inference.terms.type_three import terms_of, type_three, within_the_mean
from mixedar.inference.wald import wald_test

_TYPES = {1: 1, 2: 2, 3: 3, "1": 1, "2": 2, "3": 3, "I": 1, "II": 2, "III": 3}
_TYPES |= {"sequential": 1, "marginal": 0}


def anova_terms(
    fit: Fit,
    type: int | str = 3,  # noqa: A002
    df: str | float | DFMethod | None = None,
) -> pd.DataFrame:
    """
    F tests of the terms of the fixed effects.

    Parameters
    ----------
    fit : Fit
    type : {1, 2, 3, "marginal"}
        1: each term after those before it in the formula (nlme's sequential);
        2: each term after all terms that do not contain it (car's); 3: each
        term averaged over the levels of the other factors, whatever the coding
        (SAS', lmerTest's; see :mod:`mixedar.inference.terms.type_three`), both
        with or without an intercept alike;
        ``"marginal"``: all coefficients of the term are zero, in the coding of
        the model (nlme's): with treatment coding a main effect is then tested
        where the other factors are at their reference level.
    df : str, float or DFMethod, optional
        Degrees of freedom; those of the results by default.

    Returns
    -------
    DataFrame
        A row a term: ``num_df``, ``den_df``, ``F``, ``p`` and ``note``.

    Raises
    ------
    UnsupportedError
        For another type.
    """
    kind = _TYPES.get(type) if isinstance(type, (int, str)) else None
    if kind is None:
        raise UnsupportedError(f"type={type!r}: choose 1, 2, 3 or 'marginal'")
    terms = terms_of(fit)
    method = contrast_method(fit, df)
    rows: list[list[Any]] = []
    hypotheses = type_three(fit, terms) if kind == 3 else []
    # what leaving terms out does to the estimates is a matter of the model
    cov = method.cov if fit.robust is None else fit.cov_beta
    for k, term in enumerate(terms):
        if kind == 1:
            others = terms[k + 1 :]
        elif kind == 2:
            others = [t for t in terms if t.factors > term.factors]
            if not term.factors:  # the intercept is in every term
                others = [t for t in terms if t is not term]
        else:
            others = []
        matrix = hypotheses[k] if kind == 3 else _restriction(term, others, cov)
        if kind == 2 and (rows_within := within_the_mean(term)) is not None:
            matrix = rows_within @ matrix
        if not len(matrix):
            rows.append([0, np.nan, np.nan, np.nan, "one level only: no difference"])
            continue
        try:
            test = wald_test(fit, matrix, use_f=True, df=df)
            f, num, den = float(test.fvalue), int(test.df_num), float(test.df_denom)
            if isinstance(method, ColumnDF):
                # the term's own columns count, not those it is adjusted for
                den = method.joint(np.eye(fit.k_fe)[term.columns], num).df
            note = "" if den > 0.0 else "no degrees of freedom are left for this term"
            rows.append([num, den, f, _f_sf(f, num, den), note])
        except NotComputedError as error:
            rows.append([len(matrix), np.nan, np.nan, np.nan, str(error)])
    frame = pd.DataFrame(
        rows,
        index=pd.Index([term.name for term in terms], name="term"),
        columns=["num_df", "den_df", "F", "p", "note"],
    )
    frame.attrs.update(type=kind or "marginal")
    return frame


def _f_sf(f: float, num: float, den: float) -> float:
    if not den > 0.0:
        return np.nan
    if np.isinf(den):
        return float(stats.chi2.sf(f * num, num))
    return float(stats.f.sf(f, num, den))


def _restriction(term: Term, others: Sequence[Term], cov: FloatArray) -> FloatArray:
    """
    Rows that give the term's estimates in the model without the other terms.

    Leaving columns out changes the estimate of the rest to
    ``b_T - V_TO V_OO^-1 b_O``.
    """
    p = len(cov)
    matrix = np.eye(p)[term.columns]
    if others:
        out = np.concatenate([other.columns for other in others])
        matrix[:, out] = -np.linalg.solve(
            cov[np.ix_(out, out)], cov[np.ix_(out, term.columns)]
        ).T
    return matrix


def wald_test_terms(
    fit: Fit,
    skip_single: bool = False,
    extra_constraints: Any = None,
    combine_terms: Sequence[str] | None = None,
    scalar: Any = None,
    df: str | float | DFMethod | None = None,
) -> WaldTestResults:
    """
    Joint Wald tests of the columns of each term, as statsmodels' method.

    Parameters
    ----------
    fit : Fit
    skip_single : bool
        Leave terms of one column out.
    extra_constraints : list of (str, ndarray), optional
        Further hypotheses: a name and restrictions of shape (k, p).
    combine_terms : sequence of str, optional
        Names of variables or factors: all terms with one are tested together as
        well.
    scalar : bool, optional
        Not used; statistics are numbers.
    df : str, float or DFMethod, optional
        Degrees of freedom; those of the results by default.

    Returns
    -------
    WaldTestResults
        Its ``table`` has the columns ``statistic``, ``pvalue``,
        ``df_constraint`` and ``df_denom``.
    """
    check_flags(skip_single=skip_single)
    identity = np.eye(fit.k_fe)
    # in the order of the design's columns, as statsmodels has them
    terms = sorted(terms_of(fit), key=lambda term: min(term.columns))
    hypotheses = [
        (term.name, identity[term.columns])
        for term in terms
        if not (skip_single and len(term.columns) == 1)
    ]
    for what, given in (
        ("combine_terms", combine_terms),
        ("extra_constraints", extra_constraints),
    ):
        if given is not None and not isinstance(given, (list, tuple)):
            raise UnsupportedError(f"{what}={given!r}: pass a list")
    for name in combine_terms or ():
        members = [t.columns for t in terms if name in {t.name, *t.variables}]
        if not members:
            raise UnsupportedError(
                f"combine_terms: no term contains {name!r}; the terms are "
                f"{', '.join(term.name for term in terms)}"
            )
        hypotheses.append((name, identity[np.concatenate(members)]))
    for item in extra_constraints or ():
        if not (
            isinstance(item, (tuple, list))
            and len(item) == 2
            and isinstance(item[0], str)
        ):
            raise UnsupportedError(
                "extra_constraints: each item is a pair of a name and restrictions of "
                f"shape (k, p); this one is {item!r}"
            )
        hypotheses.append((item[0], item[1]))
    rows = []
    for _, matrix in hypotheses:
        test = wald_test(fit, matrix, use_f=True, df=df)
        rows.append([test.fvalue, test.pvalue, test.df_num, test.df_denom])
    table = pd.DataFrame(
        rows,
        index=[name for name, _ in hypotheses],
        columns=["statistic", "pvalue", "df_constraint", "df_denom"],
    )
    return WaldTestResults(None, "F", None, table=table)


def anova(*fits: Any, **options: Any) -> pd.DataFrame:
    """
    Compare fits by likelihood ratios, or test the terms of one fit.

    Parameters
    ----------
    *fits : MixedLMARResults
        One fit: :func:`mixedar.inference.terms.anova.anova_terms` with ``type=`` and
        ``df=``.  Several: :func:`likelihood_ratio_table`.
    **options
        Passed on.

    Returns
    -------
    DataFrame

    Raises
    ------
    UnsupportedError
        Without a fit, or for something that is no fit of this package.
    """
    for fit in fits:
        if not isinstance(getattr(fit, "fit", None), Fit):
            raise UnsupportedError(
                f"anova compares fits of MixedLMAR, not {type(fit).__name__}"
            )
    if not fits:
        raise UnsupportedError("anova needs at least one fit")
    allowed = {"type", "df"} if len(fits) == 1 else _LR_OPTIONS
    unknown = sorted(set(options) - allowed)
    if unknown:
        raise UnsupportedError(
            f"anova of {len(fits)} fit{'s' if len(fits) > 1 else ''} has no option "
            f"{unknown[0]!r}; there are {', '.join(sorted(allowed))}"
        )
    if len(fits) == 1:
        return anova_terms(fits[0].fit, **options)
    return likelihood_ratio_table(fits, **options)


_LR_OPTIONS = {"refit", "null", "n_sim", "seed", "progress", "names", "ic"}


def likelihood_ratio_table(
    fits: Sequence[Any],
    *,
    refit: str | None = None,
    null: str = "auto",
    n_sim: int = 1000,
    seed: Seed = None,
    progress: bool = False,
    names: Sequence[str] | None = None,
    ic: str = "nlme",
) -> pd.DataFrame:
    """
    Likelihood-ratio tests of neighbouring fits.

    Parameters
    ----------
    fits : sequence of MixedLMARResults
        To the same data, each compared with the one before.
    refit : {"ml"}, optional
        Fit by maximum likelihood first what was fitted by REML; needed when
        fixed effects differ.
    null : {"auto", "chi2", "simulate"}
        Null distribution: chi-square or, where a variance is tested, the
        50:50 mixture of Self and Liang; always the naive chi-square; or by
        simulation from the smaller model.
    n_sim : int
        Number of simulated responses.
    seed : int or Generator, optional
    progress : bool
        Progress bar of the simulation.
    names : sequence of str, optional
        Of the rows; ``"1"``, ``"2"``, ... by default.
    ic : {"nlme", "lme4", "sas"}
        Convention of AIC and BIC.

    Returns
    -------
    DataFrame
        Columns ``df`` (number of parameters), ``AIC``, ``BIC``, ``logLik``,
        ``test``, ``LR``, ``LR_df``, ``p``, ``null`` (distribution) and
        ``note``.  Of a pair that is not nested, or a fit that has not converged,
        LR and p are missing and the note says why.  Rows of the data are matched by
        their labels, or their responses, in any order.

    Raises
    ------
    UnsupportedError
        If the fits are not comparable: other data, REML and ML, or REML with
        different fixed effects.
    """
    check_choice("null", null, ("auto", "chi2", "simulate"))
    check_choice("refit", refit, (None, "ml"))
    check_flags(progress=progress)
    compared: list[Fit] = [one.fit for one in fits]
    labels = [str(k + 1) for k in range(len(fits))] if names is None else list(names)
    if len(labels) != len(compared):
        raise LengthError(f"{len(labels)} names for {len(compared)} fits")
    _check_data(compared, labels)
    if refit == "ml":
        compared = [_by_ml(one) for one in compared]
    _check_method(compared, labels)
    rows: list[list[Any]] = []
    for one in compared:
        criteria = information_criteria(one, ic)
        rows.append([one.k_estimated, criteria["aic"], criteria["bic"], one.llf])
        rows[-1].extend(["", np.nan, np.nan, np.nan, "", ""])
    rng = generator(seed)
    for k, (a, b) in enumerate(pairwise(compared), start=1):
        small, large = sorted((a, b), key=lambda one: one.k_estimated)
        ratio, difference, p, label, note = _ratio(
            small, large, null, n_sim, rng, progress
        )
        rows[k][4:] = [f"{labels[k - 1]} vs {labels[k]}", ratio, difference, p]
        rows[k].extend([label, note])
    columns = ["df", "AIC", "BIC", "logLik", "test", "LR", "LR_df", "p", "null", "note"]
    frame = pd.DataFrame(rows, index=pd.Index(labels, name="fit"), columns=columns)
    frame.attrs["method"] = "REML" if compared[0].reml else "ML"
    return frame


def _ratio(
    small: Fit,
    large: Fit,
    null: str,
    n_sim: int,
    rng: np.random.Generator,
    progress: bool,
) -> tuple[float, float, float, str, str]:
    """Statistic, degrees of freedom, p-value, distribution and note of a pair."""
    found = null_distribution(small, large)
    if not found.df:
        return np.nan, np.nan, np.nan, "", found.note
    if not (small.converged and large.converged):
        note = "a fit has not converged: pass maxiter=1000 to fit(), or another start"
        return np.nan, np.nan, np.nan, "", note
    difference = large.k_estimated - small.k_estimated
    if null == "chi2":
        found = NullDistribution((difference,), (1.0,), "")
    statistic = 2.0 * (large.llf - small.llf)
    if statistic < -1e-5:
        note = (
            "the larger model has the lower likelihood: one fit has missed its "
            "maximum, try other starts"
        )
        return np.nan, np.nan, np.nan, "", note
    statistic = max(statistic, 0.0)
    if null != "simulate":
        p = found.sf(statistic)
        return statistic, difference, p, found.label, found.note
    draws = simulated_null(small, large, n_sim, seed=rng, progress=progress)
    # the observed statistic is one draw under the hypothesis
    p = (1 + (draws >= statistic).sum()) / (len(draws) + 1)
    return statistic, difference, p, f"simulated ({len(draws)})", ""


def simulated_null(
    small: Fit,
    large: Fit,
    n_sim: int = 1000,
    *,
    seed: Seed = None,
    progress: bool = False,
) -> FloatArray:
    """
    Likelihood ratios of responses simulated from the smaller model.

    Parameters
    ----------
    small, large : Fit
        Of nested models to the same rows.
    n_sim : int
    seed : int or Generator, optional
    progress : bool

    Returns
    -------
    ndarray, shape (at most n_sim,)
        Replicates for which a model has no maximum are left out.
    """
    n_sim = check_count(n_sim, "n_sim")
    rng = generator(seed)
    first, second = Refitter(small), Refitter(large)
    responses = Responses.of(small)
    rows = matching_rows(large, small)
    out = []
    for _ in progress_bar(range(n_sim), progress, "simulated null"):
        endog = responses.draw(rng)
        try:
            llf = first.fit(endog)[1].llf
            other = second.fit(endog[rows], at_least=llf - 1e-6)[1].llf
        except (np.linalg.LinAlgError, ValueError):
            continue
        out.append(max(2.0 * (other - llf), 0.0))
    return np.array(out)


def _by_ml(fit: Fit) -> Fit:
    if not fit.reml:
        return fit
    return maximise(fit.data, reml=False, layout=fit.layout, gtol=1e-10)


def _check_data(fits: Sequence[Fit], labels: Sequence[str]) -> None:
    for one, label in zip(fits[1:], labels[1:], strict=True):
        try:
            matching_rows(fits[0], one)
        except UnsupportedError as error:
            raise UnsupportedError(f"fits {labels[0]} and {label}: {error}") from error


def _check_method(fits: Sequence[Fit], labels: Sequence[str]) -> None:
    methods = {one.reml for one in fits}
    if len(methods) > 1:
        which = [x for x, one in zip(labels, fits, strict=True) if one.reml]
        raise UnsupportedError(
            f"fits {', '.join(which)} are by REML and the others by ML; their "
            "likelihoods cannot be compared: pass refit='ml'"
        )
    if methods == {False}:
        return
    for one, label in zip(fits[1:], labels[1:], strict=True):
        rows = matching_rows(fits[0], one)
        if not same_columns(one.data.exog[rows], fits[0].data.exog):
            raise UnsupportedError(
                f"fits {labels[0]} and {label} are by REML and have different fixed "
                "effects; restricted likelihoods cannot be compared then: pass "
                "refit='ml'"
            )
