"""
Likelihood-ratio tests of nested fits, and analysis of variance by terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.formula._manager import FormulaManager
from statsmodels.stats.contrast import WaldTestResults

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import LengthError, NotComputedError, UnsupportedError
from mixedar.hypotheses.df import ColumnDF
from mixedar.inference.intervals.bootstrap import Refitter, check_count, progress_bar
from mixedar.inference.terms.nulls import (
    NullDistribution,
    null_distribution,
    same_columns,
)
from mixedar.inference.terms.type_three import type_three

_TYPES = {1: 1, 2: 2, 3: 3, "1": 1, "2": 2, "3": 3, "I": 1, "II": 2, "III": 3}
_TYPES |= {"sequential": 1, "marginal": 0}


@dataclass(frozen=True)
class Term:
    """
    A term of the fixed effects.

    Attributes
    ----------
    name : str
    columns : ndarray of int
        Its columns of the design.
    factors : frozenset of str
        Its variables, as the formula writes them; empty for the intercept.
    """

    name: str
    columns: IntArray
    factors: frozenset[str]


def terms_of(results: Any) -> list[Term]:
    """
    Terms of a model in the order in which the formula brings them.

    Main effects come before interactions, as in R; the formula engines put
    categorical columns first in the design.

    Parameters
    ----------
    results : MixedLMARResults
        Without a formula every column is a term.

    Returns
    -------
    list of Term
    """
    results = getattr(results, "_results", results)
    spec = getattr(results.model, "formula_spec", None)
    if spec is None:
        return [
            Term(name, np.array([k]), frozenset([name]))
            for k, name in enumerate(results._names[: results.k_fe])
        ]
    slices = FormulaManager(spec.engine).get_term_name_slices(spec.engine_spec)
    terms = []
    for key, where in slices.items():
        columns = np.arange(results.k_fe)[where]
        if len(columns) == 0:
            continue
        name = str(key)
        intercept = name in ("1", "Intercept")
        factors = frozenset() if intercept else frozenset(_factors(name))
        terms.append(Term("Intercept" if intercept else name, columns, factors))
    text = spec.formula

    def place(term: Term) -> tuple[int, list[int]]:
        where = [text.find(factor) for factor in term.factors]
        return len(term.factors), sorted(where)

    return sorted(terms, key=place)


def _factors(name: str) -> list[str]:
    """Parts of an interaction's name, split at colons outside of brackets."""
    parts, depth = [""], 0
    for letter in name:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == ":" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def anova_terms(results: Any, type: Any = 3, df: Any = None) -> pd.DataFrame:  # noqa: A002
    """
    F tests of the terms of the fixed effects.

    Parameters
    ----------
    results : MixedLMARResults
    type : {1, 2, 3, "marginal"}
        1: each term after those before it in the formula (nlme's sequential);
        2: each term after all terms that do not contain it (car's); 3: each
        term averaged over the levels of the other factors, whatever the coding
        (SAS', lmerTest's; see :mod:`mixedar.inference.terms.type_three`);
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
    NotComputedError
        For type 3 if the data were removed from the fit.
    """
    results = getattr(results, "_results", results)
    kind = _TYPES.get(type) if isinstance(type, (int, str)) else None
    if kind is None:
        raise UnsupportedError(f"type={type!r}: choose 1, 2, 3 or 'marginal'")
    terms = terms_of(results)
    method = results._contrast_method(df)
    rows = []
    hypotheses = type_three(results, terms) if kind == 3 else []
    # what leaving terms out does to the estimates is a matter of the model
    cov = method.cov if results._sandwich is None else results._unadjusted[0]
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
        try:
            test = results.wald_test(matrix, use_f=True, df=df)
            f, num = float(test.fvalue), int(test.df_num)
            den = float(test.df_denom)
            if isinstance(method, ColumnDF):
                # the term's own columns count, not those it is adjusted for
                den = method.joint(np.eye(results.k_fe)[term.columns], num).df
            rows.append([num, den, f, _f_sf(f, num, den), _why(den)])
        except NotComputedError as error:
            rows.append([len(term.columns), np.nan, np.nan, np.nan, str(error)])
    frame = pd.DataFrame(
        rows,
        index=pd.Index([term.name for term in terms], name="term"),
        columns=["num_df", "den_df", "F", "p", "note"],
    )
    frame.attrs.update(type=kind or "marginal")
    return frame


def _why(den: float) -> str:
    return "" if den > 0.0 else "no degrees of freedom are left for this term"


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
    results: Any,
    skip_single: bool = False,
    extra_constraints: Any = None,
    combine_terms: Sequence[str] | None = None,
    scalar: Any = None,
    df: Any = None,
) -> WaldTestResults:
    """
    Joint Wald tests of the columns of each term, as statsmodels' method.

    Parameters
    ----------
    results : MixedLMARResults
    skip_single : bool
        Leave terms of one column out.
    extra_constraints : list of (str, ndarray), optional
        Further hypotheses: a name and restrictions of shape (k, p).
    combine_terms : sequence of str, optional
        Names: all terms that contain one are tested together as well.
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
    results = getattr(results, "_results", results)
    identity = np.eye(results.k_fe)
    # in the order of the design's columns, as statsmodels has them
    terms = sorted(terms_of(results), key=lambda term: min(term.columns))
    hypotheses = [
        (term.name, identity[term.columns])
        for term in terms
        if not (skip_single and len(term.columns) == 1)
    ]
    for name in combine_terms or ():
        members = [term.columns for term in terms if name in term.name]
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
        test = results.wald_test(matrix, use_f=True, df=df)
        f, num, den = float(test.fvalue), int(test.df_num), float(test.df_denom)
        rows.append([f, _f_sf(f, num, den), num, den])
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
        inner = getattr(fit, "_results", fit)
        if not hasattr(inner, "_contrast_method"):
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
        return anova_terms(fits[0], **options)
    return likelihood_ratio_table(fits, **options)


_LR_OPTIONS = {"refit", "null", "n_sim", "seed", "progress", "names", "ic"}


def likelihood_ratio_table(
    fits: Sequence[Any],
    *,
    refit: str | None = None,
    null: str = "auto",
    n_sim: int = 1000,
    seed: Any = None,
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
        ``note``.  Of a pair that is not nested, LR and p are missing and the
        note says why.

    Raises
    ------
    UnsupportedError
        If the fits are not comparable: other data, REML and ML, or REML with
        different fixed effects.
    """
    from mixedar.inference.criteria import information_criteria

    if null not in ("auto", "chi2", "simulate"):
        raise UnsupportedError(f"null={null!r}: choose 'auto', 'chi2' or 'simulate'")
    if refit not in (None, "ml"):
        raise UnsupportedError(f"refit={refit!r}: choose None or 'ml'")
    results = [getattr(fit, "_results", fit) for fit in fits]
    labels = [str(k + 1) for k in range(len(fits))] if names is None else list(names)
    if len(labels) != len(results):
        raise LengthError(f"{len(labels)} names for {len(results)} fits")
    _check_data(results, labels)
    if refit == "ml":
        results = [_by_ml(one) for one in results]
    _check_method(results, labels)
    rows: list[list[Any]] = []
    for one in results:
        criteria = information_criteria(one, ic)
        rows.append([one.df_modelwc, criteria["aic"], criteria["bic"], one.llf])
        rows[-1].extend(["", np.nan, np.nan, np.nan, "", ""])
    rng = np.random.default_rng(seed)
    for k, (i, j) in enumerate(pairwise(range(len(results))), start=1):
        small, large = sorted((results[i], results[j]), key=lambda one: one.df_modelwc)
        found = null_distribution(small, large)
        rows[k][4] = f"{labels[i]} vs {labels[j]}"
        rows[k][9] = found.note
        if not found.df:
            continue
        if null == "chi2":
            difference = large.df_modelwc - small.df_modelwc
            found = NullDistribution((difference,), (1.0,), "")
            rows[k][9] = found.note
        statistic = 2.0 * (large.llf - small.llf)
        if statistic < -1e-5:
            rows[k][9] = (
                "the larger model has the lower likelihood: one fit has missed its "
                "maximum, try other starts"
            )
            continue
        statistic = max(statistic, 0.0)
        rows[k][5:7] = statistic, large.df_modelwc - small.df_modelwc
        if null == "simulate":
            draws = simulated_null(small, large, n_sim, seed=rng, progress=progress)
            # the observed statistic is one draw under the hypothesis
            rows[k][7] = (1 + (draws >= statistic).sum()) / (len(draws) + 1)
            rows[k][8], rows[k][9] = f"simulated ({len(draws)})", ""
        else:
            rows[k][7], rows[k][8] = found.sf(statistic), found.label
    columns = ["df", "AIC", "BIC", "logLik", "test", "LR", "LR_df", "p", "null", "note"]
    frame = pd.DataFrame(rows, index=pd.Index(labels, name="fit"), columns=columns)
    frame.attrs["method"] = results[0].method
    return frame


def simulated_null(
    small: Any,
    large: Any,
    n_sim: int = 1000,
    *,
    seed: Any = None,
    progress: bool = False,
) -> FloatArray:
    """
    Likelihood ratios of responses simulated from the smaller model.

    Parameters
    ----------
    small, large : MixedLMARResults
        Fits of nested models to the same rows.
    n_sim : int
    seed : int or Generator, optional
    progress : bool

    Returns
    -------
    ndarray, shape (at most n_sim,)
        Replicates for which a model has no maximum are left out.
    """
    small, large = (getattr(one, "_results", one) for one in (small, large))
    n_sim = check_count(n_sim, "n_sim")
    rng = np.random.default_rng(seed)
    first, second = Refitter(small), Refitter(large)
    distribution = small.get_distribution()
    out = []
    for _ in progress_bar(range(n_sim), progress, "simulated null"):
        endog = distribution.rvs(rng=rng)
        try:
            llf = first.fit(endog)[1].llf
            other = second.fit(endog, at_least=llf - 1e-6)[1].llf
        except (np.linalg.LinAlgError, ValueError):
            continue
        out.append(max(2.0 * (other - llf), 0.0))
    return np.array(out)


def _by_ml(results: Any) -> Any:
    if not results.reml:
        return results
    model, before = results.model, results.model.reml
    fit = model.fit(reml=False, free=results.freepat)
    model.reml = before
    return fit._results


def _check_data(results: Sequence[Any], labels: Sequence[str]) -> None:
    first = results[0].model
    for one, label in zip(results[1:], labels[1:], strict=True):
        endog = one.model.endog
        if endog is None or first.endog is None:
            raise UnsupportedError(
                "the data were removed from a fit: whether the fits are to the same "
                "data cannot be checked"
            )
        if len(endog) != len(first.endog):
            raise UnsupportedError(
                f"fits {labels[0]} and {label} are to different data: "
                f"{len(first.endog)} and {len(endog)} observations; drop the rows "
                "with missing values in any model's variables first"
            )
        if not np.array_equal(endog, first.endog):
            raise UnsupportedError(
                f"fits {labels[0]} and {label} have different responses; their "
                "likelihoods cannot be compared"
            )


def _check_method(results: Sequence[Any], labels: Sequence[str]) -> None:
    methods = {one.reml for one in results}
    if len(methods) > 1:
        which = [x for x, one in zip(labels, results, strict=True) if one.reml]
        raise UnsupportedError(
            f"fits {', '.join(which)} are by REML and the others by ML; their "
            "likelihoods cannot be compared: pass refit='ml'"
        )
    if methods == {False}:
        return
    for one, label in zip(results[1:], labels[1:], strict=True):
        if not same_columns(one.model.exog, results[0].model.exog):
            raise UnsupportedError(
                f"fits {labels[0]} and {label} are by REML and have different fixed "
                "effects; restricted likelihoods cannot be compared then: pass "
                "refit='ml'"
            )
