"""
Random effects of every factor: predictions, coefficients and covariances, as frames.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray, IntArray
from mixedar.by_group.effects import (
    coef_by_group,
    conditional_variances,
    normal_quantiles,
    plot_data,
    same_column,
    wide_frame,
)
from mixedar.engine.residuals import correlated_residuals
from mixedar.engine.rows import GroupedRows
from mixedar.exceptions import (
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    check_alpha,
    check_choice,
    check_flags,
    shown,
)
from mixedar.fit import Fit
from mixedar.fit.linked import group_levels
from mixedar.fit.parameters import correlation_columns
from mixedar.inference.df import contrast_method
from mixedar.summary import ResultFrame


def factors_of(fit: Fit) -> list[str]:
    """Names of the factors that have random effects, the groups first."""
    first = fit.k_re + fit.k_vc
    labels = [*fit.effect_labels[: fit.k_re], *fit.effect_labels[first:]]
    return list(dict.fromkeys(factor for factor, _ in labels))


def _check_factor(fit: Fit, factor: str | None) -> str:
    known = factors_of(fit)
    smooths = {part.name for part in fit.population.parts}
    own = [name for name in known if name not in smooths]
    if not known or (factor is None and not own):
        raise UnsupportedError(
            "the model has no random effects of a factor's levels"
            + ("; random_effects_frame() has the groups' smooths" if fit.k_vc else "")
        )
    if factor is None:
        return own[0]
    if factor not in known:
        raise UnknownColumnError(
            f"factor={factor!r} has no random effects; choose "
            f"{', '.join(map(repr, known))}"
        )
    return factor


def ranef(
    fit: Fit, factor: str | None = None, *, se: bool = False, beta: str = "known"
) -> pd.DataFrame:
    """
    Predicted random effects of the levels of a factor.

    Parameters
    ----------
    fit : Fit
    factor : str, optional
        Such as ``"item"``, or ``"school:pupil"``; the groups by default.
    se : bool
        Whether to have standard errors, in columns of two levels, ``"predicted"``
        and ``"std_error"``, and the effects below.
    beta : {"known", "estimated"}
        Standard errors given the fixed effects, as lme4's ``condVar``, or with the
        uncertainty of their estimates, as SAS' ``StdErrPred``.

    Returns
    -------
    DataFrame, levels x effects
        Indexed by the levels; by a MultiIndex for combinations of columns.

    Raises
    ------
    UnknownColumnError
        If the factor has no random effects.
    NotComputedError
        If the data were removed from the fit.

    References
    ----------
    Robinson, G. K. (1991), That BLUP is a good thing: the estimation of random
    effects, Statistical Science 6, 15-51.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_growth
    >>> fit = mar.mixedlm("y ~ time + (1 + time | id)", load_growth()).fit()
    >>> list(fit.ranef("id").columns)
    ['Intercept', 'time']
    """
    factor = _check_factor(fit, factor)
    check_choice("beta", beta, ("known", "estimated"))
    check_flags(se=se)
    names: list[str] = []
    means, variances = [], []
    index: pd.Index | None = None
    if factor == fit.data.groups_name and fit.k_re:
        columns = slice(fit.k_re)
        index = group_levels(fit)
        names += [name for _, name in fit.effect_labels[: fit.k_re]]
        means.append(fit.effects.means[:, columns])
        if se:
            variances.append(conditional_variances(fit, beta)[:, columns])
    for term, found in zip(fit.data.terms, fit.term_effects, strict=True):
        if term.factor != factor:
            continue
        index = term.levels if index is None else index
        names += term.coefficients
        means.append(found.means)
        if not se:
            continue
        own = fit.scale * np.einsum("laa->la", found.covariances)
        if beta == "estimated":
            slopes, cov = found.slopes, contrast_method(fit).cov
            own = own + np.einsum("lap,pq,laq->la", slopes, cov, slopes)
        variances.append(own)
    if index is None:
        raise NotComputedError("the model has no random effects")
    errors = np.sqrt(np.hstack(variances)) if se else None
    return wide_frame("predicted", np.hstack(means), errors, index, names)


def drawn_effects(fit: Fit, kind: str, alpha: float, beta: str) -> pd.DataFrame:
    """
    What pictures of the random effects need, of all factors.

    Parameters and columns are those of :func:`mixedar.by_group.effects.plot_data`.
    Effects whose levels are related by a pedigree or places are left out.

    Raises
    ------
    UnsupportedError
        If there are no random effects of a factor's levels.
    """
    check_alpha(alpha)
    terms = [t for t in fit.data.terms if t.smooth is None and t.between is None]
    parts = []
    if fit.k_re + fit.k_vc or not terms:
        parts.append(plot_data(fit, kind, alpha, beta))
    for term in terms:
        if term.factor == fit.data.groups_name and fit.k_re:
            continue
        # quantiles need the whole variance of predictions
        part = "estimated" if kind == "qq" else beta
        found = ranef(fit, term.factor, se=True, beta=part)
        variances = np.diag(random_covariance(fit, term.factor))
        label = [" / ".join(map(str, np.atleast_1d(one))) for one in found.index]
        for name, variance in zip(found["predicted"], variances, strict=True):
            effect = term.factor if name == "Intercept" else f"{term.factor}: {name}"
            mean, error = found["predicted"][name], found["std_error"][name]
            drawn = _drawn(mean, error, variance, kind, alpha).assign(effect=effect)
            parts.append(drawn if kind == "qq" else drawn.assign(label=label))
    return pd.concat(parts, ignore_index=True)


def _drawn(
    mean: pd.Series, error: pd.Series, variance: float, kind: str, alpha: float
) -> pd.DataFrame:
    """Predictions of an effect with intervals, or standardized with quantiles."""
    mean, error = mean.reset_index(drop=True), error.reset_index(drop=True)
    if kind == "qq":
        spread = (variance - error**2).where(lambda v: v > 1e-12 * variance)
        return normal_quantiles(mean / np.sqrt(spread), alpha)
    half = stats.norm.isf(alpha / 2.0) * error
    columns = {"predicted": mean, "std_error": error}
    return pd.DataFrame(columns | {"lower": mean - half, "upper": mean + half})


def random_covariance(fit: Fit, factor: str | None = None) -> pd.DataFrame:
    """
    Covariance of the random effects of a factor, on the scale of the data.

    Parameters
    ----------
    fit : Fit
    factor : str, optional
        The groups by default.

    Returns
    -------
    DataFrame, effects x effects
        Zero between terms of a factor that are not correlated with one another.

    Raises
    ------
    UnknownColumnError
        If the factor has no random effects.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm(
    ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
    ... ).fit()
    >>> fit.random_covariance().shape
    (2, 2)
    """
    factor = _check_factor(fit, factor)
    labels = fit.effect_labels
    rows = [k for k, (name, _) in enumerate(labels) if name == factor]
    names = [labels[k][1] for k in rows]
    frame = pd.DataFrame(fit.effect_cov[np.ix_(rows, rows)], names, names)
    return ResultFrame.of(frame, "number")


def varcorr(fit: Fit) -> pd.DataFrame:
    """
    Variances, standard deviations and correlations of all random effects.

    nlme's and lme4's ``VarCorr``.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    DataFrame
        Indexed by factor and effect, the residual last; columns ``variance``,
        ``std_dev`` and, where effects are correlated, ``corr`` with the first effect
        of the factor, ``corr_2`` with the second, and so on.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm(
    ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
    ... ).fit()
    >>> fit.varcorr().columns.tolist()
    ['variance', 'std_dev', 'corr']
    """
    effects, cov = fit.effect_labels, fit.effect_cov
    variances = np.append(np.diag(cov), fit.scale)
    labels = pd.MultiIndex.from_tuples(
        [*effects, ("Residual", "")], names=["factor", "effect"]
    )
    frame = pd.DataFrame(
        {"variance": variances, "std_dev": np.sqrt(variances)}, index=labels
    )
    for j, column in enumerate(correlation_columns(fit)):
        frame["corr" if j == 0 else f"corr_{j + 1}"] = np.append(column, np.nan)
    return ResultFrame.of(frame)


def coef(fit: Fit, factor: str | None = None) -> pd.DataFrame:
    """
    Coefficients of the levels of a factor: fixed plus predicted random effects.

    Parameters
    ----------
    fit : Fit
    factor : str, optional
        The groups by default.

    Returns
    -------
    DataFrame, levels x coefficients
        Fixed effects in their order; a random effect whose column is not that of a
        fixed effect has a column of its own, around zero.

    Raises
    ------
    UnknownColumnError
        If the factor has no random effects.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm(
    ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
    ... ).fit()
    >>> fit.coef().loc["M13"].round(1).to_dict()
    {'Intercept': 12.6, 'age': 1.1}
    """
    factor = _check_factor(fit, factor)
    if factor == fit.data.groups_name and not any(
        term.factor == factor for term in fit.data.terms
    ):
        return ResultFrame.of(coef_by_group(fit).set_index(group_levels(fit)), "number")
    if any(term.shared and term.factor == factor for term in fit.data.terms):
        raise UnsupportedError(
            f"factor={factor!r} is a smooth of all rows, which has no levels: "
            f"fit.smooth({factor!r}) has its curve"
        )
    effects = ranef(fit, factor)
    out = pd.DataFrame(
        np.tile(fit.fe_params, (len(effects), 1)), effects.index, list(fit.exog_names)
    )
    columns = [t.design for t in fit.data.terms if t.factor == factor]
    if factor == fit.data.groups_name and fit.k_re:
        columns.insert(0, fit.data.random_design[:, : fit.k_re])
    for k, column in enumerate(np.hstack(columns).T):
        j = same_column(column, fit.data.exog)
        name = fit.exog_names[j] if j >= 0 else effects.columns[k]
        out[name] = out.get(name, 0.0) + effects.iloc[:, k]
    return ResultFrame.of(out, "number")


def group_covariance(
    fit: Fit, group: Hashable, part: str = "marginal", correlation: bool = False
) -> pd.DataFrame:
    """
    Covariance or correlation of the observations of one group, given the covariates.

    nlme's ``getVarCov``; SAS's ``v`` and ``vcorr`` (marginal), ``r`` and ``rcorr``
    (residual).

    Parameters
    ----------
    fit : Fit
    group : hashable
        Label of the group; of nested groups the labels of all levels, a tuple as in
        :meth:`ranef`.
    part : {"marginal", "residual", "random"}
        ``Z Psi Z' + sigma2 R``; the residuals' ``sigma2 R``, nlme's conditional; or
        the random effects' ``Z Psi Z'``.
    correlation : bool
        Divide by the standard deviations; NaN where there is no variance.

    Returns
    -------
    DataFrame, shape (n_i, n_i)
        In the order of time.  Labelled by time, if the model has times and the group
        none twice, with ``series=`` by series and time; else by the rows' labels.

    Raises
    ------
    UnknownColumnError
        If there is no such group.
    NotComputedError
        If the data were removed from the fit.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="age").fit()
    >>> fit.group_covariance("M01", correlation=True).shape
    (4, 4)
    """
    check_choice("part", part, ("marginal", "residual", "random"))
    check_flags(correlation=correlation)
    data, g = fit.data, _number(fit, group)
    inside = slice(*data.grouped.offsets[g : g + 2])
    order = data.grouped.order
    rows = np.arange(data.nobs)[inside] if order is None else order[inside]
    cov = np.zeros((len(rows), len(rows)))
    if part != "residual":
        cov += _of_effects(fit, rows)
    if part != "random":
        cov += _of_residuals(fit, inside)
    if correlation:
        deviations = np.sqrt(np.diag(cov))
        with np.errstate(divide="ignore", invalid="ignore"):
            cov = cov / np.outer(deviations, deviations)
        np.fill_diagonal(cov, np.where(deviations > 0.0, 1.0, np.nan))
    labels = _labels(fit, rows)
    return ResultFrame.of(pd.DataFrame(cov, labels, labels), "number")


def _number(fit: Fit, group: Hashable) -> int:
    """Number of the group of a label."""
    labels = fit.data.group_labels
    levels = group_levels(fit)
    if isinstance(group, tuple) and group in levels:
        return list(levels).index(group)
    if group not in labels:
        near = difflib.get_close_matches(str(group), map(str, labels), n=3)
        known = near or [str(label) for label in labels[:8]]
        more = ", ..." if len(labels) > len(known) else ""
        raise UnknownColumnError(
            f"group={shown(group)}: no group of {fit.data.groups_name!r} has that "
            f"label; there are {', '.join(known)}{more}"
        )
    return labels.index(group)


def _of_effects(fit: Fit, rows: IntArray) -> FloatArray:
    """``Z Psi Z'`` of some rows of a group."""
    data = fit.data
    out = np.zeros((len(rows), len(rows)))
    if data.exog_re is not None:
        z = data.exog_re[rows]
        out += z @ fit.cov_re @ z.T
    for variance, matrix in zip(fit.vcomp, data.components.matrices, strict=True):
        out += variance * matrix[rows] @ matrix[rows].T
    for term, psi, between in zip(
        data.terms, fit.term_covs, fit.related.levels, strict=True
    ):
        if term.shared:
            continue  # a smooth is part of the mean
        z, level = term.design[rows], term.codes[rows]
        same: FloatArray = np.equal.outer(level, level).astype(np.float64)
        if between is not None:
            same = between[np.ix_(level, level)]
        out += (z @ psi @ z.T) * same
    return out


def _of_residuals(fit: Fit, inside: slice) -> FloatArray:
    """``sigma2 R`` of the sorted rows of a group, variances by row included."""
    grouped = fit.data.grouped
    covariates = None if grouped.marks is None else grouped.marks[inside]
    size = inside.stop - inside.start
    one = GroupedRows(None, np.array([0, size]), grouped.gaps[inside], covariates)
    root = correlated_residuals(np.eye(size), one, fit.structure, fit.residual_params)
    return np.asarray(fit.scale * root @ root.T)


def _labels(fit: Fit, rows: IntArray) -> pd.Index:
    """Times of the rows, after their series if there are any, or the rows' labels."""
    data = fit.data
    index = data.row_index
    if data.time is None:
        return index[rows]
    times = pd.Series(data.time).iloc[rows]
    labels = pd.Index(times.array, name=data.time_name or times.name or "time")
    if data.series is not None:
        series = pd.Series(data.series).iloc[rows]
        name = series.name or "series"
        labels = pd.MultiIndex.from_arrays([series, labels], names=[name, labels.name])
    return labels if labels.is_unique else index[rows]
