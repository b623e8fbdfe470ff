"""
Shares of the variance: R2 of mixed models and intraclass correlations.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedar.fit import Fit


def variance_shares(fit: Fit) -> pd.Series:
    """
    Variances of the parts of the response.

    Returns
    -------
    Series
        ``fixed``: of ``X beta``, and smooths, over the rows (divisor n - 1); one entry
        for each factor and variance component, the mean over the rows of ``z'G z``
        (Johnson, 2014); and ``residual``, the mean residual variance of the rows.
    """
    data = fit.data
    out = {"fixed": float(np.var(fit.fitted_marginal, ddof=1))}

    def add(name: str, value: float) -> None:
        out[name] = out.get(name, 0.0) + float(value)

    if data.exog_re is not None and fit.k_re:
        z = data.exog_re
        own = np.einsum("ij,jk,ik->i", z, fit.cov_re, z)
        add(data.groups_name, own.mean())
    for name, variance, matrix in zip(
        data.component_names, fit.vcomp, data.components.matrices, strict=True
    ):
        add(name, variance * (matrix**2).sum(axis=1).mean())
    for term, cov, between in zip(
        data.terms, fit.term_covs, fit.between_levels, strict=True
    ):
        if term.shared:
            continue
        own = np.einsum("ij,jk,ik->i", term.design, cov, term.design)
        if between is not None:
            own *= np.diagonal(between)[term.codes]
        add(term.factor, own.mean())
    out["residual"] = float(np.mean(np.square(fit.residual_sd)))
    return pd.Series(out)


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


def icc(fit: Fit) -> pd.Series:
    """
    Intraclass correlations: shares of the factors in the variance that is random.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    Series
        One entry for each factor or variance component, then ``adjusted``, their
        sum, and ``unadjusted``, the same as a share of the whole variance, that of
        the fixed effects included.

    Raises
    ------
    NotComputedError
        If the data were removed from the fit.

    Notes
    -----
    Variances are those of :func:`r2`.

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
    """
    shares = variance_shares(fit)
    random = shares.drop(["fixed", "residual"])
    total = float(random.sum() + shares["residual"])
    out = random / total
    out["adjusted"] = random.sum() / total
    out["unadjusted"] = random.sum() / shares.sum()
    return out
