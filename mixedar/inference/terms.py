"""
Analysis of variance by terms of the formula: Wald F tests.

References
----------
Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and S-PLUS,
Springer, section 2.4.2.

Fox, J. and Weisberg, S. (2019), An R Companion to Applied Regression, 3rd
edition, Sage, section 5.3.4 (type II tests of linear hypotheses).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.formula._manager import FormulaManager
from statsmodels.stats.contrast import WaldTestResults

from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.inference.contrasts import ColumnDF
from mixedar.inference.type_three import type_three

__all__ = ["Term", "anova_terms", "terms_of", "wald_test_terms"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

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
        (SAS', lmerTest's; see :mod:`mixedar.inference.type_three`);
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
