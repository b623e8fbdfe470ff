"""
Analysis of variance: tests of the terms of a fit, or of nested fits.

A term's hypothesis of type III is about its own part of the mean: averaged with equal
weights over the levels of the factors that it lacks, and freed from the means
over the levels of those that it has.  Numeric variables stand at zero, as in
SAS.  The coefficients themselves have that meaning if factors are coded so that
they sum to zero; here it is computed for any coding.  The overall mean belongs to
no factor: without an intercept the hypotheses are those of the same model with
it.

References
----------
Searle, S. R. (1987), Linear Models for Unbalanced Data, Wiley, chapters 4, 12.

SAS Institute, SAS/STAT User's Guide, The Four Types of Estimable Functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.data.formula.columns import EmptyCells
from mixedar.data.formula.terms import Term, all_terms, terms_of_formula
from mixedar.exceptions import NotComputedError, UnsupportedError, check_flags
from mixedar.fit import Fit
from mixedar.hypotheses.contrast import WaldTestsOfTerms
from mixedar.hypotheses.df import ColumnDF, DFMethod, f_sf
from mixedar.inference.df import contrast_method
from mixedar.inference.likelihood_ratio import LR_OPTIONS, likelihood_ratio_table
from mixedar.inference.wald import wald_test
from mixedar.summary import ResultFrame

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
        (SAS', lmerTest's), both with or without an intercept alike;
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
            rows.append([num, den, f, float(f_sf(f, num, den)), note])
        except NotComputedError as error:
            rows.append([len(matrix), np.nan, np.nan, np.nan, str(error)])
    frame = pd.DataFrame(
        rows,
        index=pd.Index([term.name for term in terms], name="term"),
        columns=["num_df", "den_df", "F", "p", "note"],
    )
    frame.attrs.update(type=kind or "marginal")
    return frame


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
) -> WaldTestsOfTerms:
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
    WaldTestsOfTerms
        Its ``table`` has the columns ``statistic``, ``pvalue``,
        ``df_constraint`` and ``df_denom``.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
    ... )
    >>> fit = model.fit()
    >>> fit.wald_test_terms().table.index.tolist()
    ['Intercept', 'sex', 'age', 'age:sex']
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
    return WaldTestsOfTerms(None, "F", None, table=table)


def anova(*fits: Any, **options: Any) -> pd.DataFrame:
    """
    Compare fits by likelihood ratios, or test the terms of one fit.

    Parameters
    ----------
    *fits : MixedLMARResults
        Further fits to the same data, each compared with the one before.
    **options
        Of one fit, its terms:

        - ``type``: 1, each term after those before it in the formula (nlme's
          sequential); 2, each after all terms that do not contain it (car's); 3, by
          default, each averaged over the levels of the other factors, whatever the
          coding (SAS', lmerTest's); ``"marginal"``, all coefficients of the term are
          zero, in the coding of the model (nlme's);
        - ``df``: degrees of freedom; those of the results by default.

        Of several fits:

        - ``refit="ml"``: fit by maximum likelihood first what was fitted by REML,
          needed when fixed effects differ;
        - ``null``: ``"auto"``, chi-square or, where a variance is tested, the 50:50
          mixture of Self and Liang; ``"chi2"``, always the naive chi-square; or
          ``"simulate"``, from the smaller model, with ``n_sim`` responses, ``rng``
          and ``progress``;
        - ``names`` of the rows, and the convention ``ic`` of AIC and BIC, as in
          :meth:`information_criteria`.

    Returns
    -------
    DataFrame
        A row a term: ``num_df``, ``den_df``, ``F``, ``p`` and ``note``; or a row a
        fit: ``df`` (number of parameters), ``AIC``, ``BIC``, ``logLik``, ``test``,
        ``LR``, ``LR_df``, ``p``, ``null`` (distribution) and ``note``, which says why
        if there is no test.

    Raises
    ------
    UnsupportedError
        Without a fit, or for something that is no fit of this package.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> where = {"groups": "subject", "time": "occ"}
    >>> small = mar.mixedlm("distance ~ age", teeth, **where).fit(reml=False)
    >>> large = mar.mixedlm("distance ~ age * sex", teeth, **where).fit(reml=False)
    >>> large.anova(small).shape
    (2, 10)
    >>> large.anova(type=3).index.tolist()
    ['Intercept', 'age', 'sex', 'age:sex']
    """
    for fit in fits:
        if not isinstance(getattr(fit, "fit", None), Fit):
            raise UnsupportedError(
                f"anova compares fits of MixedLMAR, not {type(fit).__name__}"
            )
    if not fits:
        raise UnsupportedError("anova needs at least one fit")
    allowed = {"type", "df"} if len(fits) == 1 else LR_OPTIONS
    unknown = sorted(set(options) - allowed)
    if unknown:
        raise UnsupportedError(
            f"anova of {len(fits)} fit{'s' if len(fits) > 1 else ''} has no option "
            f"{unknown[0]!r}; there are {', '.join(sorted(allowed))}"
        )
    if len(fits) == 1:
        return ResultFrame.of(anova_terms(fits[0].fit, **options))
    return ResultFrame.of(likelihood_ratio_table(fits, **options))


def terms_of(fit: Fit) -> list[Term]:
    """Terms in the order of the formula; without one every column is a term."""
    if fit.formula_spec is not None:
        return terms_of_formula(fit.formula_spec)
    return [Term.of_column(name, k) for k, name in enumerate(fit.exog_names)]


def type_three(fit: Fit, terms: Sequence[Term]) -> list[FloatArray]:
    """
    Restrictions of type III.

    Parameters
    ----------
    fit : Fit
    terms : sequence of Term
        Of all p columns.

    Returns
    -------
    list of ndarray, shape (rank of the hypothesis, p)
    """
    spec, p = fit.formula_spec, fit.k_fe
    if spec is not None and spec.empty_cells is not None:
        estimable = _Estimable(all_terms(spec), spec.empty_cells)
        return [estimable.hypothesis(term.name) for term in terms]
    out = []
    for k, term in enumerate(terms):
        parts = [_part(terms, term, part, p) for part in _parts(terms, k)]
        out.append(np.concatenate([np.empty((0, p)), *parts]))
    return out


class _Estimable:
    """
    What can be estimated where combinations of levels have no rows, as in SAS.

    Functions of effects, one for each combination of levels of each term, can be
    estimated if they are means of rows.  The hypothesis of a term is made of those
    that involve it and the terms that contain it, and are orthogonal to those that
    involve only the latter.
    """

    def __init__(self, terms: Sequence[Term], empty: EmptyCells) -> None:
        self.terms = terms
        weights = np.eye(len(empty.all_names))[:, empty.kept].T
        weights[:, empty.dropped] = empty.weights
        self.effects = {term.name: weights @ self._effects(term) for term in terms}

    def _effects(self, term: Term) -> FloatArray:
        """Coefficients of all columns that give the effects of a term."""
        inside = [
            t
            for t in self.terms
            if t.numeric == term.numeric and set(t.levels) <= set(term.levels)
        ]
        m = term.cells.shape[-2]
        sizes = [len(levels) for levels in term.levels.values()]
        count = m * int(np.prod(sizes, dtype=int))
        designs = []
        for t in inside:
            shape = [len(v) if k in t.levels else 1 for k, v in term.levels.items()]
            cells = t.cells.reshape(*shape, m, len(t.columns))
            cells = np.broadcast_to(cells, (*sizes, *cells.shape[-2:]))
            designs.append(cells.reshape(count, -1))
        columns = np.concatenate([t.columns for t in inside])
        out = np.zeros((sum(len(t.columns) for t in self.terms), count))
        out[columns] = np.linalg.pinv(np.concatenate(designs, axis=1))
        return out

    def hypothesis(self, name: str) -> FloatArray:
        """Restrictions of a term, shape (rank of the hypothesis, number kept)."""
        term = next(t for t in self.terms if t.name == name)
        over = [
            t.name
            for t in self.terms
            if t.numeric == term.numeric and set(t.levels) > set(term.levels)
        ]
        others = [t.name for t in self.terms if t.name not in {name, *over}]
        free = self._vanishing(others)
        alone = self._vanishing([*others, name])
        names = [t.name for t in self.terms]
        everything = np.concatenate([self.effects[k] for k in names], axis=1)
        inner = alone.T @ everything
        mixed = inner @ (free.T @ everything).T
        return _null_space(mixed).T @ free.T

    def _vanishing(self, names: Sequence[str]) -> FloatArray:
        """Functions, in columns, that do not involve these terms."""
        size = len(next(iter(self.effects.values())))
        parts = [self.effects[name].T for name in names]
        return _null_space(np.concatenate([np.empty((0, size)), *parts]))


def _null_space(matrix: FloatArray) -> FloatArray:
    """Orthonormal columns that a matrix takes to zero."""
    _, values, rows = np.linalg.svd(matrix)
    rank = int((values > 1e-9 * values.max(initial=0.0)).sum())
    return np.asarray(rows[rank:].T)


def _parts(terms: Sequence[Term], k: int) -> Iterator[frozenset[str]]:
    """Sets of factors whose joint effect the term brings in."""
    term = terms[k]
    earlier = [frozenset(t.levels) for t in terms[:k] if t.numeric == term.numeric]
    if term.factors and not term.numeric:
        earlier.append(frozenset())  # the overall mean
    for size in range(len(term.levels) + 1):
        for some in combinations(term.levels, size):
            part = frozenset(some)
            if not any(part <= other for other in earlier):
                yield part


def _part(
    terms: Sequence[Term], term: Term, part: frozenset[str], p: int
) -> FloatArray:
    """Contrasts of the joint effect of some factors of a term."""
    out: FloatArray | None = None
    for other in terms:
        if other.numeric != term.numeric or not part <= set(other.levels):
            continue
        effect = other.cells
        for axis, (name, levels) in enumerate(other.levels.items()):
            weights = _contrasts(len(levels), differences=name in part)
            effect = np.moveaxis(np.tensordot(weights, effect, (1, axis)), 0, axis)
        effect = effect.reshape(-1, len(other.columns))
        if out is None:
            out = np.zeros((len(effect), p))
        out[:, other.columns] = effect
    assert out is not None  # the term itself
    size = np.abs(out).max(axis=1, keepdims=True)
    return np.where(np.abs(out) < 1e-13 * size, 0.0, out)


def _contrasts(count: int, *, differences: bool) -> FloatArray:
    """The mean of the levels, or orthonormal contrasts of them (Helmert's)."""
    if not differences:
        return np.full((1, count), 1.0 / count)
    below = np.tri(count, k=-1)[1:]
    steps = np.arange(1.0, count)
    rows = np.eye(count)[1:] * steps[:, None] - below
    return np.asarray(rows / np.sqrt(steps * (steps + 1.0))[:, None])


def within_the_mean(term: Term) -> FloatArray | None:
    """
    Rows that hold where a term's effects are the same at all levels.

    Parameters
    ----------
    term : Term

    Returns
    -------
    ndarray, shape (c - 1, c), or None
        For a term of c columns, among them the overall mean of a model without
        intercept; None for others.
    """
    if not term.levels or term.numeric:
        return None
    cells = term.cells.reshape(-1, len(term.columns))
    ones = np.ones(len(cells))
    mean, *_ = np.linalg.lstsq(cells, ones, rcond=None)
    if not np.allclose(cells @ mean, ones):
        return None
    return np.linalg.qr(mean[:, None], mode="complete")[0][:, 1:].T
