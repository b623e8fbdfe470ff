"""
Predicted random effects and coefficients of every group, as frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mixedar._types import FloatArray, IntArray
from mixedar.engine.effects import predict_effects
from mixedar.exceptions import UnsupportedError
from mixedar.inference.arguments import check_alpha


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


def means_of(fit: Any) -> FloatArray:
    """Predicted random effects of a fit, shape (m, q)."""
    return np.asarray(fit._effects.means)


def roots_of(fit: Any) -> FloatArray:
    """``C``, shape (q, q, m), with conditional covariances ``scale * C'C``."""
    return np.asarray(fit._effects.roots)


def design_of(fit: Any) -> FloatArray:
    """Columns of all random effects in the caller's row order, shape (n, q)."""
    return np.asarray(fit.model._random_design())


def codes_of(fit: Any) -> IntArray:
    """Number of the group of each row, shape (n,)."""
    return np.asarray(fit.model._codes)


def parts_of(fit: Any) -> tuple[list[str], list[int]]:
    """Random effects and variance components by name, and their columns."""
    names = [*list(fit.model.data.exog_re_names)[: fit.k_re], *fit.model.exog_vc.names]
    return names, [1] * fit.k_re + list(fit.model._vc.sizes)


def conditional_variances(fit: Any, beta: str) -> FloatArray:
    """
    Variances of the errors of prediction, covariance parameters taken as known.

    Parameters
    ----------
    fit : MixedLMARResults
    beta : {"known", "estimated"}
        Given the fixed effects, or with the uncertainty of their estimates:
        ``C + A cov(beta) A'``, where ``-A`` is how predictions change with beta.

    Returns
    -------
    ndarray, shape (m, q)
    """
    variances = np.asarray(fit.scale * (roots_of(fit) ** 2).sum(axis=0).T)
    if beta == "estimated":
        p = fit.k_fe
        change = sensitivity(fit)
        cov = np.asarray(fit.cov_params())[:p, :p]
        variances = variances + _quadratic(change, cov)
    return variances


def sensitivity(fit: Any) -> FloatArray:
    """
    What the random effects would be predicted as if the data were the design.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    ndarray, shape (m, q, p)
        ``A_i = Psi Z_i' V_i^-1 X_i``: predictions are ``A_i`` applied to
        ``y_i`` instead of ``X_i``, less ``A_i beta``.
    """
    fit._effects  # noqa: B018  says so if the data are gone
    model = fit.model
    grouped = model._grouped
    design = grouped.sort(design_of(fit))
    exog = grouped.sort(model.exog)
    parts = [
        predict_effects(
            design,
            np.ascontiguousarray(exog[:, j]),
            grouped,
            fit.structure,
            fit._u,
            fit._z_map,
            fit._factor,
        ).means
        for j in range(exog.shape[1])
    ]
    return np.stack(parts, axis=-1)


def marginal_variances(fit: Any) -> FloatArray:
    """Variances of the random effects in the model, one a column, shape (q,)."""
    widths = parts_of(fit)[1][fit.k_re :]
    parts = [np.diag(np.atleast_2d(fit.cov_re))[: fit.k_re]]
    parts += [
        np.full(width, value) for width, value in zip(widths, fit.vcomp, strict=True)
    ]
    return np.concatenate(parts).astype(np.float64)


def group_terms(fit: Any) -> GroupTerms:
    """
    Match random effects of groups with fixed effects.

    They match if their columns are equal, whatever they are called.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    GroupTerms
        The correlated random effects, and variance components that have one
        column (``"0 + time"``); levels inside groups are not among them.
    """
    means_of(fit)  # says so if the data are gone
    model = fit.model
    columns, own = list(range(fit.k_re)), list(model.data.exog_re_names)[: fit.k_re]
    spec = getattr(model, "re_spec", None)
    if spec is not None:
        own = list(spec.column_names)
    first = fit.k_re
    for name, width in zip(model.exog_vc.names, model._vc.sizes, strict=True):
        if width == 1:
            columns.append(first)
            own.append(name)
        first += width
    design, exog = design_of(fit), model.exog
    known = list(model.exog_names)
    names, fixed = [], []
    for k, name in zip(columns, own, strict=True):
        column = design[:, k]
        same = [j for j in range(len(known)) if np.array_equal(column, exog[:, j])]
        if same:
            names.append(known[same[0]])
        else:
            alone = "Intercept" if (column == 1.0).all() else name
            names.append(f"{alone} (random)" if alone in known else alone)
        fixed.append(same[0] if same else -1)
    return GroupTerms(
        np.asarray(columns, dtype=np.intp), names, np.asarray(fixed, dtype=np.intp)
    )


def effect_layout(fit: Any) -> tuple[IntArray, IntArray, IntArray, list[str]]:
    """
    Which random effects each group has.

    Parameters
    ----------
    fit : MixedLMARResults

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
    model, m = fit.model, fit.n_groups
    names = list(model.data.exog_re_names)[: fit.k_re]
    groups = [np.repeat(np.arange(m), fit.k_re)]
    columns = [np.tile(np.arange(fit.k_re), m)]
    codes = [columns[0]]
    numbers: dict[str, int] = {name: k for k, name in enumerate(names)}
    first = fit.k_re
    for j, name in enumerate(model.exog_vc.names):
        labels = [fit._component_names(j, i) for i in range(m)]
        counts = np.array([len(each) for each in labels])
        starts = np.cumsum(counts) - counts
        groups.append(np.repeat(np.arange(m), counts))
        columns.append(first + np.arange(counts.sum()) - np.repeat(starts, counts))
        texts = (f"{name}[{label}]" for each in labels for label in each)
        codes.append(np.array([numbers.setdefault(t, len(numbers)) for t in texts]))
        first += model._vc.sizes[j]
    group = np.concatenate(groups)
    order = np.argsort(group, kind="stable")
    column, code = np.concatenate(columns)[order], np.concatenate(codes)[order]
    return group[order], column, code.astype(np.intp), list(numbers)


def _quadratic(a: FloatArray, cov: FloatArray) -> FloatArray:
    """Diagonals of ``a_i cov a_i'`` for a of shape (m, q, p), shape (m, q)."""
    return np.asarray(np.einsum("mqp,mqp->mq", a @ cov, a))


# A wide frame of levels that each belong to few groups is nearly empty.
_MAX_CELLS = 2**27


def random_effects_frame(
    fit: Any,
    form: str = "wide",
    *,
    standard_errors: bool = False,
    beta: str = "known",
    alpha: float = 0.05,
) -> pd.DataFrame:
    """
    Predicted random effects of all groups.

    Parameters
    ----------
    fit : MixedLMARResults
    form : {"wide", "long"}
        A row for each group, or for each group and effect.
    standard_errors : bool
        For the wide form: whether to have them, in columns of two levels,
        ``"predicted"`` and ``"std_error"``, and the effects below.
    beta : {"known", "estimated"}
        Standard errors given the fixed effects, as lme4's ``condVar``, or with the
        uncertainty of their estimates, as SAS' ``StdErrPred``.
    alpha : float
        1 - coverage of the intervals of the long form.

    Returns
    -------
    DataFrame
        Wide: shape (m, effects), indexed by the groups; NaN where a level of a
        variance component does not occur in a group.  Long: columns ``predicted``,
        ``std_error``, ``lower``, ``upper``, indexed by group and effect.

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
    """
    _check(form, beta)
    means = means_of(fit)
    group, column, code, names = effect_layout(fit)
    index = group_index(fit)
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
    predicted, spread = values
    return _wide("predicted", predicted, spread, index, names, standard_errors)


def coef_by_group(
    fit: Any,
    form: str = "wide",
    *,
    standard_errors: bool = False,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """
    Coefficients of every group: fixed effects plus predicted random effects.

    nlme's and lme4's ``coef``.

    Parameters
    ----------
    fit : MixedLMARResults
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
    """
    _check(form)
    terms = group_terms(fit)
    p, m = fit.k_fe, fit.n_groups
    alone = terms.fixed < 0
    names = [
        *fit.model.exog_names,
        *[name for name, is_alone in zip(terms.names, alone, strict=True) if is_alone],
    ]
    place = np.where(alone, p + np.cumsum(alone) - 1, terms.fixed)
    values = np.zeros((m, len(names)))
    values[:, :p] = np.asarray(fit.fe_params)
    means = means_of(fit)
    for k, j in zip(terms.columns, place, strict=True):
        values[:, j] += means[:, k]
    index = group_index(fit)
    if form == "wide" and not standard_errors:
        return pd.DataFrame(values, index, names)
    errors = np.sqrt(_coefficient_variances(fit, terms.columns, place, len(names)))
    if form == "wide":
        return _wide("estimate", values, errors, index, names, True)
    labels = pd.MultiIndex.from_product([index, pd.Index(names, name="coefficient")])
    return _long("estimate", values.ravel(), errors.ravel(), alpha, labels)


def plot_data(fit: Any, kind: str, alpha: float, beta: str) -> pd.DataFrame:
    """
    What pictures of the random effects need.

    Parameters
    ----------
    fit : MixedLMARResults
    kind : str
        Of picture; ``"qq"`` needs standardized predictions.
    alpha : float
    beta : {"known", "estimated"}
        As for :func:`random_effects_frame`.

    Returns
    -------
    DataFrame
        The long form, with the columns ``effect`` (levels of a variance component
        under one name), ``label`` of the group (and level), and, for QQ plots,
        ``standardized``: predictions divided by their standard deviations in the
        model, which are standard normal if the model holds (Lange and Ryan, 1989);
        NaN for an effect whose variance is zero.

    Raises
    ------
    UnsupportedError
        If there are no random effects.

    References
    ----------
    Lange, N. and Ryan, L. (1989), Assessing normality in random effects models,
    Annals of Statistics 17, 624-642.
    """
    frame = random_effects_frame(fit, "long", beta=beta, alpha=alpha)
    if not len(frame):
        raise UnsupportedError("the model has no random effects to draw")
    group, column, code, names = effect_layout(fit)
    labels = [str(label) for label in fit.model.group_labels]
    parts, sizes = parts_of(fit)
    part = np.repeat(np.arange(len(parts)), sizes)[column]
    if kind == "qq":
        model = marginal_variances(fit)
        spread = model - conditional_variances(fit, "estimated")
        scale = np.sqrt(np.where(spread > 1e-12 * model, spread, np.nan))
        frame["standardized"] = frame["predicted"].to_numpy() / scale[group, column]
    frame["effect"] = np.array(parts, dtype=object)[part]
    label = np.array(labels, dtype=object)[group]
    level = np.flatnonzero(part >= fit.k_re)
    for i in level:
        label[i] += f" {names[code[i]]}"
    frame["label"] = label
    return frame.reset_index(drop=True)


def group_index(fit: Any) -> pd.Index:
    """Labels of the groups of a fit."""
    name = getattr(fit.model, "groups_name", "Group")  # unset by arrays
    return pd.Index(fit.model.group_labels, name=name)


def _coefficient_variances(
    fit: Any, columns: NDArray[np.intp], place: NDArray[np.intp], size: int
) -> FloatArray:
    """Variances of the errors of beta + b, shape (m, size)."""
    p, m = fit.k_fe, fit.n_groups
    cov = np.asarray(fit.cov_params())[:p, :p]
    # the error of beta + b is (J - S A)(beta_hat - beta) + S (b_hat - b | beta)
    weights = np.zeros((m, size, p))
    weights[:, np.arange(p), np.arange(p)] = 1.0
    change = sensitivity(fit)
    for k, j in zip(columns, place, strict=True):
        weights[:, j] -= change[:, k]
    variances = np.einsum("msp,msp->ms", weights @ cov, weights)
    roots = roots_of(fit)
    select = np.zeros((roots.shape[1], size))
    select[columns, place] = 1.0
    roots = np.einsum("aqm,qs->ams", roots, select)
    return np.asarray(variances + fit.scale * (roots**2).sum(axis=0))


def _long(
    what: str,
    values: FloatArray,
    errors: FloatArray,
    alpha: float,
    labels: pd.MultiIndex,
) -> pd.DataFrame:
    half = stats.norm.isf(check_alpha(alpha) / 2.0) * errors
    return pd.DataFrame(
        {
            what: values,
            "std_error": errors,
            "lower": values - half,
            "upper": values + half,
        },
        index=labels,
    )


def _wide(
    what: str,
    values: FloatArray,
    errors: FloatArray,
    index: pd.Index,
    names: list[str],
    standard_errors: bool,
) -> pd.DataFrame:
    if not standard_errors:
        return pd.DataFrame(values, index, names)
    columns = pd.MultiIndex.from_product([[what, "std_error"], names])
    return pd.DataFrame(np.hstack([values, errors]), index, columns)


def _check(form: str, beta: str = "known") -> None:
    if form not in ("wide", "long"):
        raise UnsupportedError(f"form={form!r}: choose 'wide' or 'long'")
    if beta not in ("known", "estimated"):
        raise UnsupportedError(f"beta={beta!r}: choose 'known' or 'estimated'")
