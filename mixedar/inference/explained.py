"""
Shares of the variance: R2 of mixed models and intraclass correlations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, logit

from mixedar._types import FloatArray
from mixedar.engine.residuals import relative_sd
from mixedar.exceptions import UnsupportedError
from mixedar.fit import Fit
from mixedar.relations.base import with_parameters
from mixedar.summary import ResultFrame

# Of differences by parameters that are of the order of one.
_STEP = 1e-6
# Why there is no interval of a share.
_AT_END = "no interval: the share is 0 or 1, an end of its range"
_NO_ERROR = "no interval: a variance is zero, or has no standard error (conf_int_re())"


@dataclass(frozen=True)
class _Parts:
    """
    How variances add up to those of the parts of the response.

    Attributes
    ----------
    names : list of str
        Factors and variance components.
    weights : ndarray, shape (parts, k_cov)
        Of variances and covariances of random effects in the mean of ``z'G z``.
    residual : float
        Mean squared standard deviation of residuals, by ``sigma``.
    """

    names: list[str]
    weights: FloatArray
    residual: float

    @classmethod
    def of(cls, fit: Fit, params: FloatArray) -> _Parts:
        """At residual parameters and those of what relates levels."""
        data, rows = fit.data, []
        z, counts = data.compressed.z, data.compressed.counts
        if fit.k_re:
            squares = z[:, : fit.k_re].T * counts @ z[:, : fit.k_re] / data.nobs
            own = fit.layout.directions[: fit.k_re2, : fit.k_re, : fit.k_re]
            rows.append((data.groups_name, np.tensordot(own, squares)))
        ends = fit.k_re + np.cumsum([0, *data.components.sizes])
        for name, start, end in zip(
            data.component_names, ends[:-1], ends[1:], strict=True
        ):
            square = counts @ (z[:, start:end] ** 2).sum(axis=1) / data.nobs
            rows.append((name, np.array([square])))
        u = fit.parameters.to_unconstrained(params)[fit.structure.k_free :]
        related = with_parameters(fit.between, u)
        for term, (between, own) in zip(data.terms, related, strict=True):
            size: FloatArray | float = 1.0
            if between is not None and term.layout.copies == 1:
                size = between.diagonal(own)[term.codes, None]
            found = _entry_weights(term.design, term.layout.copies, size)
            rows.append((term.factor, 0.0 * found if term.shared else found))
        names = dict.fromkeys(name for name, _ in rows)
        shared = {term.factor for term in data.terms if term.shared}
        kept = [name for name in names if name not in shared]
        ends = np.cumsum([0, *(len(found) for _, found in rows)])
        weights = np.zeros((len(kept), ends[-1]))
        for (name, found), start, end in zip(rows, ends[:-1], ends[1:], strict=True):
            if name in kept:
                weights[kept.index(name), start:end] = found
        own_params = params[: fit.structure.k_params]
        sd = relative_sd(fit.structure, data.compressed.marks, own_params)
        own_counts = counts if len(sd) > 1 else None
        return cls(kept, weights, float(np.average(sd**2, weights=own_counts)))


def _entry_weights(z: FloatArray, copies: int, size: FloatArray | float) -> FloatArray:
    """Of the entries of ``G``, a triangle row by row, in the mean of ``z'G z``."""
    apart = z.reshape(len(z), copies, -1) * np.sqrt(np.expand_dims(size, -1))
    squares = np.einsum("nca,ncb->ab", apart, apart) / len(z)
    i, j = np.tril_indices(len(squares))
    return np.asarray(squares[i, j] * np.where(i == j, 1.0, 2.0))


def variance_shares(fit: Fit) -> pd.Series:
    """
    Variances of the parts of the response.

    Returns
    -------
    Series
        ``fixed``: of ``X beta``, and smooths, over the rows (divisor n - 1); one entry
        for each factor and variance component, the mean over the rows of ``z'G z``
        (Johnson, 2014), where levels are related with their own variances; and
        ``residual``, the mean residual variance of the rows.
    """
    parts = _Parts.of(fit, fit.estimate.residual_params)
    own = parts.weights @ fit.estimate.cov_values
    fixed = _mean_covariances(fit) @ _mean_weights(fit)
    values = [fixed, *own, fit.scale * parts.residual]
    return pd.Series(values, index=["fixed", *parts.names, "residual"])


def _mean_weights(fit: Fit) -> FloatArray:
    """Of the columns of :attr:`ModelData.moments` in the mean of the population."""
    return np.concatenate([fit.fe_params, fit.population.smooths, [1.0, 0.0]])


def _mean_covariances(fit: Fit) -> FloatArray:
    """Covariances of these columns with that mean, over the rows."""
    return np.asarray(fit.data.moments.cov @ _mean_weights(fit))


def _slopes(fit: Fit) -> FloatArray:
    """
    Derivatives of the variances of :func:`variance_shares`, shape (parts, k).

    By the fixed effects, variances and covariances, residual and other parameters, and
    the residual variance.
    """
    best, p = fit.estimate, fit.k_fe
    params = best.residual_params
    parts, k_cov = _Parts.of(fit, params), len(best.cov_values)
    out = np.zeros((len(parts.names) + 2, p + k_cov + len(params) + 1))
    out[0, :p] = 2.0 * _mean_covariances(fit)[:p]
    out[1:-1, p : p + k_cov] = parts.weights
    out[-1, -1] = parts.residual
    moving = fit.parameters.is_free & ~fit.params_known
    for k in np.flatnonzero(moving):
        step = np.where(np.arange(len(params)) == k, _STEP * max(abs(params[k]), 1), 0)
        ends = [_Parts.of(fit, params + step), _Parts.of(fit, params - step)]
        ahead, behind = (
            np.append(end.weights @ best.cov_values, fit.scale * end.residual)
            for end in ends
        )
        out[1:, p + k_cov + k] = (ahead - behind) / (2.0 * step[k])
    return out


def r2(fit: Fit) -> pd.Series:
    """
    Marginal and conditional R2 of a mixed model.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    Series
        ``marginal``, the share of fixed effects and smooths in the variance,
        and ``conditional``, that of fixed and random effects.

    Raises
    ------
    NotComputedError
        If the data were removed from the fit.

    Notes
    -----
    Random slopes count with the mean of ``z'G z`` over the rows.  Serial correlation
    does not change the residual variance, which is that of a single residual; with a
    variance function it is the mean over the rows.

    References
    ----------
    Nakagawa, S. and Schielzeth, H. (2013), A general and simple method for obtaining
    R2 from generalized linear mixed-effects models, Methods in Ecology and Evolution 4,
    133-142, equations 26 and 30.

    Johnson, P. C. D. (2014), Extension of Nakagawa and Schielzeth's R2 to random slopes
    models, Methods in Ecology and Evolution 5, 944-946.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> fit = mar.mixedlm("distance ~ age", load_orthodont(), groups="subject").fit()
    >>> fit.r2().round(3).to_dict()
    {'marginal': 0.252, 'conditional': 0.765}
    """
    shares = variance_shares(fit)
    total = float(shares.sum())
    return pd.Series(
        {
            "marginal": shares["fixed"] / total,
            "conditional": 1.0 - shares["residual"] / total,
        }
    )


@overload
def icc(fit: Fit, ci: None = None) -> pd.Series: ...
@overload
def icc(fit: Fit, ci: float) -> pd.DataFrame: ...
def icc(fit: Fit, ci: float | None = None) -> pd.Series | pd.DataFrame:
    """
    Intraclass correlations: shares of the factors in the variance that is random.

    Of a factor whose levels are related by a pedigree this is the heritability.

    Parameters
    ----------
    fit : Fit
    ci : float, optional
        Coverage of intervals, such as 0.95.

    Returns
    -------
    Series, or with `ci` DataFrame
        One entry for each factor or variance component, then ``adjusted``, their
        sum, and ``unadjusted``, the same as a share of the whole variance, that of
        the fixed effects included.  With `ci` the columns ``estimate``, ``se``,
        ``lower``, ``upper`` and ``note``, why there is no interval.

    Raises
    ------
    UnsupportedError
        If `ci` is not between 0 and 1.
    NotComputedError
        If the data were removed from the fit.

    Notes
    -----
    Variances are those of :func:`r2`; where levels are related their own, so that an
    inbred animal counts with more than the variance of the factor.  Standard errors
    are those of the delta method, with the covariance of all parameters; intervals are
    normal on the logit scale.  They are NaN where a variance is zero, or has no
    standard error; the column ``note`` says which, ``conf_int_re()`` more.

    References
    ----------
    Nakagawa, S., Johnson, P. C. D. and Schielzeth, H. (2017), The coefficient of
    determination R2 and intra-class correlation coefficient from generalized linear
    mixed-effects models revisited and expanded, Journal of the Royal Society Interface
    14, 20170213.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject").fit()
    >>> fit.icc().round(2).to_dict()
    {'subject': 0.69, 'adjusted': 0.69, 'unadjusted': 0.51}
    >>> fit.icc(ci=0.95).loc["subject", ["lower", "upper"]].round(2).to_list()
    [0.52, 0.81]
    """
    shares = variance_shares(fit)
    k = len(shares) - 2
    # rows of parts that are summed above and below
    above = np.zeros((k + 2, k + 2))
    above[:k, 1:-1] = np.eye(k)
    above[k:, 1:-1] = 1.0
    below = np.ones((k + 2, k + 2))
    below[:-1, 0] = 0.0
    values = shares.to_numpy()
    top, bottom = above @ values, below @ values
    names = [*shares.index[1:-1], "adjusted", "unadjusted"]
    estimate = pd.Series(top / bottom, index=names, name="estimate")
    if ci is None:
        return estimate.rename(None)
    if not 0.0 < ci < 1.0:
        raise UnsupportedError(f"icc: ci={ci!r} is not between 0 and 1")
    slopes = (above - estimate.to_numpy()[:, None] * below) @ _slopes(fit)
    slopes /= bottom[:, None]
    cov = np.zeros((slopes.shape[1],) * 2)
    cov[: fit.k_fe, : fit.k_fe] = fit.cov_beta
    cov[fit.k_fe :, fit.k_fe :] = fit.estimate.cov_theta
    used = np.abs(slopes) > 0.0
    error = np.array(
        [
            np.sqrt(row[here] @ cov[np.ix_(here, here)] @ row[here])
            for row, here in zip(slopes, used, strict=True)
        ]
    )
    inside = (estimate > 0.0) & (estimate < 1.0)
    error = np.where(inside, error, np.nan)
    why = np.where(inside, _NO_ERROR, _AT_END)
    half = stats.norm.isf((1.0 - ci) / 2.0) * error
    middle = np.where(inside, estimate, 0.5)
    half /= middle * (1.0 - middle)
    return ResultFrame(
        {
            "estimate": estimate,
            "se": error,
            "lower": expit(logit(middle) - half),
            "upper": expit(logit(middle) + half),
            "note": np.where(np.isnan(error), why, ""),
        }
    )
