"""
Covariance of the observations of one group: of all, of the random effects' part, or
of the residuals.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.engine.residuals import correlated_residuals
from mixedar.engine.rows import GroupedRows
from mixedar.exceptions import UnknownColumnError, check_choice, check_flags, shown
from mixedar.fit import Fit


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
        Label of the group.
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
    return pd.DataFrame(cov, index=labels, columns=labels)


def _number(fit: Fit, group: Hashable) -> int:
    """Number of the group of a label."""
    labels = fit.data.group_labels
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
    for term, psi in zip(data.terms, fit.term_covs, strict=True):
        z, level = term.design[rows], term.codes[rows]
        out += (z @ psi @ z.T) * (level[:, None] == level)
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
    index = pd.RangeIndex(data.nobs) if data.index is None else data.index
    if data.time is None:
        return index[rows]
    times = pd.Series(data.time).iloc[rows]
    labels = pd.Index(times.array, name=data.time_name or times.name or "time")
    if data.series is not None:
        series = pd.Series(data.series).iloc[rows]
        name = series.name or "series"
        labels = pd.MultiIndex.from_arrays([series, labels], names=[name, labels.name])
    return labels if labels.is_unique else index[rows]
