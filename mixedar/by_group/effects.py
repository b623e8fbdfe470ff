"""
Predicted random effects and coefficients of every group, as frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import UnsupportedError, check_alpha, check_choice, check_flags
from mixedar.fit import Fit
from mixedar.fit.linked import effects_from, exog_left
from mixedar.inference.df import contrast_method
from mixedar.prediction.batches import random_effects
from mixedar.streams import Source
from mixedar.summary import ResultFrame

# Columns that are whitened at a time.
_AT_ONCE = 64
# A wide frame of levels that each belong to few groups is nearly empty.
_MAX_CELLS = 2**27


@dataclass(frozen=True)
class GroupTerms:
    """
    The random effects that are one number a group, and the fixed ones beside them.

    Attributes
    ----------
    columns : ndarray of int, shape (k,)
        Their columns in the random-effects design.
    names : list of str, length k
        The name of the fixed effect of the same column, else a name of their own.
    fixed : ndarray of int, shape (k,)
        Number of that fixed effect; -1 where there is none.
    """

    columns: IntArray
    names: list[str]
    fixed: IntArray


def effect_covariances(fit: Fit) -> FloatArray:
    """
    Conditional covariances of the groups' effects given the data.

    Relative to the residual variance; the fixed effects are taken as known.

    Returns
    -------
    ndarray, shape (m, q, q)
    """
    roots = fit.effects.roots
    out = np.einsum("abm,acm->mbc", roots, roots)
    if not fit.layout.terms:
        return out
    # they also vary with the effects of other factors
    of_terms = fit.problem.rows_of_terms(fit.data.compressed, fit.eliminated_terms)
    for first in range(0, of_terms.width, _AT_ONCE):
        images = of_terms.images(slice(first, first + _AT_ONCE))
        found = effects_from(fit, fit.data.grouped.unsort(images))
        out += found @ found.transpose(0, 2, 1)
    return out


def conditional_variances(fit: Fit, beta: str) -> FloatArray:
    """
    Variances of the errors of prediction, covariance parameters taken as known.

    Parameters
    ----------
    fit : Fit
    beta : {"known", "estimated"}
        Given the fixed effects, or with the uncertainty of their estimates:
        ``C + A cov(beta) A'``, where ``-A`` is how predictions change with beta.

    Returns
    -------
    ndarray, shape (m, q)
    """
    variances = fit.scale * np.einsum("maa->ma", effect_covariances(fit))
    if beta == "estimated":
        variances += _quadratic(sensitivity(fit), contrast_method(fit).cov)
    return variances


def sensitivity(fit: Fit) -> FloatArray:
    """
    How predicted random effects fall as the fixed effects rise.

    Returns
    -------
    ndarray, shape (m, q, p)
        ``A_i = Psi Z_i' V_i^-1 X_i``: predictions are ``A_i`` applied to
        ``y_i`` instead of ``X_i``, less ``A_i beta``.
    """
    return effects_from(fit, exog_left(fit))


def marginal_variances(fit: Fit) -> FloatArray:
    """Variances of the random effects in the model, one a column, shape (q,)."""
    levels = np.repeat(fit.vcomp, fit.data.components.sizes)
    return np.concatenate([np.diag(fit.cov_re), levels])


def group_terms(fit: Fit) -> GroupTerms:
    """
    Match random effects of groups with fixed effects.

    They match if their columns are equal, whatever they are called.

    Returns
    -------
    GroupTerms
        The correlated random effects, and variance components that have one
        column (``"0 + time"``); levels inside groups are not among them.
    """
    data = fit.data
    columns, own = list(range(fit.k_re)), data.random_names
    if data.re_spec is not None:
        own = list(data.re_spec.column_names)
    sizes = np.asarray(data.components.sizes, dtype=np.intp)
    single = np.flatnonzero(sizes == 1)
    columns += (fit.k_re + np.cumsum(sizes) - sizes)[single].tolist()
    own = [*own, *(data.component_names[j] for j in single)]
    names, fixed = [], []
    for k, name in zip(columns, own, strict=True):
        column = data.random_design[:, k]
        fixed.append(same_column(column, data.exog))
        alone = "Intercept" if (column == 1.0).all() else name
        if fixed[-1] >= 0:
            alone = data.exog_names[fixed[-1]]
        elif alone in data.exog_names:
            alone = f"{alone} (random)"
        names.append(alone)
    return GroupTerms(
        np.asarray(columns, dtype=np.intp), names, np.asarray(fixed, dtype=np.intp)
    )


def same_column(column: FloatArray, design: FloatArray) -> int:
    """Number of the first column of a design that is equal; -1 without one."""
    equal = (np.array_equal(column, other) for other in design.T)
    return next((j for j, same in enumerate(equal) if same), -1)


def effect_layout(fit: Fit) -> tuple[IntArray, IntArray, IntArray, list[str]]:
    """
    Which random effects each group has.

    Returns
    -------
    groups, columns : ndarray of int, shape (K,)
        Number of the group and column of the design of each effect, group by group.
    codes : ndarray of int, shape (K,)
        Number of its name.
    names : list of str
        Names of the random effects; a level of a component is called
        ``component[level]``.
    """
    data, m = fit.data, fit.data.n_groups
    groups = [np.repeat(np.arange(m), fit.k_re)]
    columns = [np.tile(np.arange(fit.k_re), m)]
    codes = [columns[0]]
    numbers: dict[str, int] = {name: k for k, name in enumerate(data.random_names)}
    first = fit.k_re
    for j, name in enumerate(data.component_names):
        labels = [data.component_labels(j, i) for i in range(m)]
        counts = np.array([len(each) for each in labels])
        starts = np.cumsum(counts) - counts
        groups.append(np.repeat(np.arange(m), counts))
        columns.append(first + np.arange(counts.sum()) - np.repeat(starts, counts))
        texts = (f"{name}[{label}]" for each in labels for label in each)
        codes.append(np.array([numbers.setdefault(t, len(numbers)) for t in texts]))
        first += data.components.sizes[j]
    group = np.concatenate(groups)
    order = np.argsort(group, kind="stable")
    column, code = np.concatenate(columns)[order], np.concatenate(codes)[order]
    return group[order], column, code.astype(np.intp), list(numbers)


def _quadratic(a: FloatArray, cov: FloatArray) -> FloatArray:
    """Diagonals of ``a_i cov a_i'`` for a of shape (m, q, p), shape (m, q)."""
    return np.asarray(np.einsum("mqp,mqp->mq", a @ cov, a))


def random_effects_frame(
    fit: Fit,
    form: str | Source = "wide",
    *,
    standard_errors: bool = False,
    beta: str = "known",
    alpha: float = 0.05,
    to: object = None,
) -> Any:
    """
    Predicted random effects of all groups.

    Parameters
    ----------
    fit : Fit
    form : {"wide", "long"} or Source
        A row for each group, or for each group and effect.  Of a source, such as
        ``mar.scan("data/*.parquet")``, groups come batch by batch, a row for each.
    standard_errors : bool
        For the wide form: whether to have them, in columns of two levels,
        ``"predicted"`` and ``"std_error"``, and the effects below.
    beta : {"known", "estimated"}
        Standard errors given the fixed effects, as lme4's ``condVar``, or with the
        uncertainty of their estimates, as SAS' ``StdErrPred``.
    alpha : float
        1 - coverage of the intervals of the long form.
    to : path, optional
        Of a source: a Parquet file to write.

    Returns
    -------
    DataFrame
        Wide: shape (m, effects), indexed by the groups; NaN where a level of a
        variance component does not occur in a group.  Long: columns ``predicted``,
        ``std_error``, ``lower``, ``upper``, indexed by group and effect.  Of a source
        an iterator of frames, or the path of the file.

    Raises
    ------
    UnsupportedError
        For another `form` or `beta`, or a wide frame beyond all bounds.
    NotComputedError
        If the data were removed from the fit.

    Notes
    -----
    A standard error is the root of the variance of ``b`` given the data (or, with
    `beta` estimated, of the error of its prediction), the covariance parameters
    taken as known; intervals are normal.  The levels of a variance component are
    called ``component[level]``.

    References
    ----------
    Robinson, G. K. (1991), That BLUP is a good thing: the estimation of random
    effects, Statistical Science 6, 15-51.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm(
    ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
    ... ).fit()
    >>> fit.random_effects_frame().shape
    (27, 2)
    """
    if isinstance(form, Source):
        return random_effects(fit, form, to)
    check_choice("form", form, ("wide", "long"))
    check_choice("beta", beta, ("known", "estimated"))
    check_flags(standard_errors=standard_errors)
    check_alpha(alpha)
    means, index = fit.effects.means, fit.data.group_index
    group, column, code, names = effect_layout(fit)
    need_errors = form == "long" or standard_errors
    errors = np.sqrt(conditional_variances(fit, beta)) if need_errors else means
    if form == "long":
        labels = pd.MultiIndex.from_arrays(
            [index.take(group), pd.Index(names, dtype=object).take(code)],
            names=[index.name, "effect"],
        )
        return _long(
            "predicted", means[group, column], errors[group, column], alpha, labels
        )
    if len(index) * len(names) > _MAX_CELLS:
        raise UnsupportedError(
            f"{len(index)} groups and {len(names)} effects make too wide a frame; use "
            "form='long'"
        )
    values = np.full((2, len(index), len(names)), np.nan)
    values[0, group, code] = means[group, column]
    values[1, group, code] = errors[group, column]
    shown = values[1] if standard_errors else None
    return wide_frame("predicted", values[0], shown, index, names)


def coef_by_group(
    fit: Fit, form: str = "wide", *, standard_errors: bool = False, alpha: float = 0.05
) -> pd.DataFrame:
    """
    Coefficients of every group: fixed effects plus predicted random effects.

    nlme's and lme4's ``coef``.

    Parameters
    ----------
    fit : Fit
    form : {"wide", "long"}
        A row for each group, or for each group and coefficient.
    standard_errors : bool
        For the wide form: whether to have them, in columns of two levels,
        ``"estimate"`` and ``"std_error"``, and the coefficients below.
    alpha : float
        1 - coverage of the intervals of the long form.

    Returns
    -------
    DataFrame
        Wide: shape (m, coefficients), indexed by the groups.  Fixed effects come
        first, in their order; a random effect whose column is not that of a fixed
        effect has a column of its own, around zero.  Long: columns ``estimate``,
        ``std_error``, ``lower``, ``upper``, indexed by group and coefficient.

    Raises
    ------
    UnsupportedError
        For another `form`.
    NotComputedError
        If the data were removed from the fit.

    Notes
    -----
    Standard errors are those of the error of the sum: the uncertainty of the
    fixed effects, of the random effects and their covariance count, the covariance
    parameters are taken as known.  Levels of variance components inside groups do
    not enter; a component of one column (``"0 + time"``) does.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm(
    ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
    ... ).fit()
    >>> fit.coef_by_group().loc["M13"].round(1).to_dict()
    {'Intercept': 12.6, 'age': 1.1}
    """
    check_flags(standard_errors=standard_errors)
    check_alpha(alpha)
    check_choice("form", form, ("wide", "long"))
    terms = group_terms(fit)
    p, m = fit.k_fe, fit.data.n_groups
    alone = terms.fixed < 0
    names = [
        *fit.exog_names,
        *[name for name, is_alone in zip(terms.names, alone, strict=True) if is_alone],
    ]
    place = np.where(alone, p + np.cumsum(alone) - 1, terms.fixed)
    values = np.zeros((m, len(names)))
    values[:, :p] = fit.fe_params
    means, index = fit.effects.means, fit.data.group_index
    for k, j in zip(terms.columns, place, strict=True):
        values[:, j] += means[:, k]
    if form == "wide" and not standard_errors:
        return wide_frame("estimate", values, None, index, names)
    errors = np.sqrt(_coefficient_variances(fit, terms.columns, place, len(names)))
    if form == "wide":
        return wide_frame("estimate", values, errors, index, names)
    labels = pd.MultiIndex.from_product([index, pd.Index(names, name="coefficient")])
    return _long("estimate", values.ravel(), errors.ravel(), alpha, labels)


def plot_data(fit: Fit, kind: str, alpha: float, beta: str) -> pd.DataFrame:
    """
    What pictures of the random effects need.

    Parameters
    ----------
    fit : Fit
    kind : str
        Of picture; ``"qq"`` needs standardized predictions.
    alpha : float
    beta : {"known", "estimated"}
        As for :func:`random_effects_frame`.

    Returns
    -------
    DataFrame
        The long form, with the columns ``effect`` (levels of a variance component
        under one name) and ``label`` of the group (and level).  For QQ plots by
        ``effect`` in increasing order ``standardized``: predictions divided by their
        standard deviations in the model, which are standard normal if the model holds
        (Lange and Ryan, 1989); NaN for an effect whose variance is zero; beside them
        ``theoretical``, and ``lower`` and ``upper`` for each point by itself.

    Raises
    ------
    UnsupportedError
        If there are no random effects.

    References
    ----------
    Lange, N. and Ryan, L. (1989), Assessing normality in random effects models,
    Annals of Statistics 17, 624-642.
    """
    check_choice("beta", beta, ("known", "estimated"))
    check_alpha(alpha)
    group, column, code, names = effect_layout(fit)
    if not len(group):
        raise UnsupportedError("the model has no random effects to draw")
    parts = list(fit.effect_names[: fit.k_re + fit.k_vc])
    sizes = [*[1] * fit.k_re, *fit.data.components.sizes]
    part = np.repeat(np.arange(len(parts)), sizes)[column]
    effect = np.array(parts, dtype=object)[part]
    if kind == "qq":
        model = marginal_variances(fit)
        variances = model - conditional_variances(fit, "estimated")
        scale = np.sqrt(np.where(variances > 1e-12 * model, variances, np.nan))
        standardized = pd.Series((fit.effects.means / scale)[group, column])
        each = standardized.groupby(effect, sort=False)
        return pd.concat([normal_quantiles(z, alpha) for _, z in each]).assign(
            effect=pd.Series(effect)
        )
    frame = random_effects_frame(fit, "long", beta=beta, alpha=alpha)
    frame = frame.reset_index(drop=True)
    frame["effect"] = effect
    label = np.array(list(map(str, fit.data.group_labels)), dtype=object)[group]
    for i in np.flatnonzero(part >= fit.k_re):
        label[i] += f" {names[code[i]]}"
    frame["label"] = label
    return frame


def normal_quantiles(values: pd.Series, alpha: float) -> pd.DataFrame:
    """Values in increasing order, normal quantiles, and a band for each point."""
    ordered, n = values.sort_values(), values.count()
    rank = ordered.rank(method="first").to_numpy()
    # the i-th smallest of n uniform numbers has a beta distribution
    lower, upper = (
        stats.norm.ppf(stats.beta.ppf(share, rank, n + 1 - rank))
        for share in (alpha / 2.0, 1.0 - alpha / 2.0)
    )
    middle = stats.norm.ppf((rank - 0.5) / n) if n else rank
    columns = {"theoretical": middle, "lower": lower, "upper": upper}
    return pd.DataFrame({"standardized": ordered, **columns})


def _coefficient_variances(
    fit: Fit, columns: IntArray, place: IntArray, size: int
) -> FloatArray:
    """Variances of the errors of beta + b, shape (m, size)."""
    p, m = fit.k_fe, fit.data.n_groups
    # the error of beta + b is (J - S A)(beta_hat - beta) + S (b_hat - b | beta)
    weights = np.zeros((m, size, p))
    weights[:, np.arange(p), np.arange(p)] = 1.0
    change = sensitivity(fit)
    for k, j in zip(columns, place, strict=True):
        weights[:, j] -= change[:, k]
    variances = _quadratic(weights, contrast_method(fit).cov)
    given = effect_covariances(fit)
    select = np.zeros((given.shape[1], size))
    select[columns, place] = 1.0
    own = np.einsum("qs,mqr,rs->ms", select, given, select)
    return np.asarray(variances + fit.scale * own)


def _long(
    what: str,
    values: FloatArray,
    errors: FloatArray,
    alpha: float,
    labels: pd.MultiIndex,
) -> pd.DataFrame:
    half = stats.norm.isf(check_alpha(alpha) / 2.0) * errors
    columns = {what: values, "std_error": errors}
    columns |= {"lower": values - half, "upper": values + half}
    return ResultFrame(columns, index=labels)


def wide_frame(
    what: str,
    values: FloatArray,
    errors: FloatArray | None,
    index: pd.Index,
    names: list[str],
) -> pd.DataFrame:
    """Values by level and effect, beside their standard errors if these are given."""
    if errors is None:
        return ResultFrame.of(pd.DataFrame(values, index, names), "number")
    columns = pd.MultiIndex.from_product([[what, "std_error"], names])
    return ResultFrame(np.hstack([values, errors]), index, columns)
