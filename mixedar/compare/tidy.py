"""
The numbers of one fit as plain frames: a row a parameter, or a row a fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixedar.compare.extract import read


def tidy(fit: Any, alpha: float = 0.05) -> pd.DataFrame:
    """
    One row for each parameter of a fit.

    Parameters
    ----------
    fit : results
        Of mixedar (mixed models and all panel estimators), of statsmodels (OLS,
        WLS, GLS, GLSAR, GEE, MixedLM) or of linearmodels' panel models.
    alpha : float
        1 - coverage of the intervals.

    Returns
    -------
    DataFrame, shape (parameters, 9)
        ``term``; ``group`` (``"fixed"``, ``"random"`` or ``"residual"``);
        ``estimate``, variances and covariances on the scale of the data;
        ``std_error``; ``statistic``, ``df`` (infinite for the normal
        distribution) and ``p_value`` of coefficients; ``conf_low``,
        ``conf_high``.  NaN where the fit has no such number.

    Raises
    ------
    UnsupportedError
        If `fit` is not such a result.

    Notes
    -----
    Intervals of variances of a mixed model are computed on the log scale, those
    of residual parameters on the unconstrained scale.  ``"Residual Var"`` is the
    variance of the residuals themselves, also where the fit's ``scale`` is the
    variance of AR(1) innovations.  Standard errors of the variances of
    statsmodels' MixedLM are left out: they are on another scale.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> list(mar.tidy(model.fit())["term"])
    ['Intercept', 'age', 'subject Var', 'rho', 'Residual Var']
    """
    record = read(fit, "tidy: fit", alpha)
    fixed = record.coefficients(alpha).reset_index()
    fixed.insert(1, "group", "fixed")
    rows = [
        {
            "term": part.name,
            "group": part.group,
            "estimate": part.value,
            "std_error": part.std_error,
            "conf_low": part.interval[0],
            "conf_high": part.interval[1],
        }
        for part in record.components
    ]
    if not rows:
        return fixed
    others = pd.DataFrame(rows, columns=fixed.columns)
    return pd.concat([fixed, others], ignore_index=True)


def glance(fit: Any) -> pd.DataFrame:
    """
    One row for a fit as a whole.

    Parameters
    ----------
    fit : results
        As for :func:`tidy`.

    Returns
    -------
    DataFrame, shape (1, 15)
        ``method``, ``cov_type``, ``nobs``, ``n_groups``, ``df_resid``, ``llf``,
        ``aic``, ``bic``, ``scale``, ``rho``, ``theta`` (the median),
        ``rsquared_within``, ``rsquared_between``, ``rsquared_overall``,
        ``converged``; missing where the fit has no such number.  The columns
        are the same for all fits, so that rows can be put below one another.

    Raises
    ------
    UnsupportedError
        If `fit` is not such a result.

    Notes
    -----
    AIC and BIC are those of the fit if it has them, else they count the residual
    variance and estimated effects as parameters; statsmodels' least squares do
    not count the variance.  :func:`mixedar.formula.api.compare` counts alike in
    all fits.  ``llf`` is missing where it is no likelihood of the response (GLS of
    random effects, differences).
    """
    record = read(fit, "glance: fit")
    found = record.likelihood
    aic, bic = record.criteria
    if found is not None:
        aic = aic if np.isfinite(aic) else found.aic
        bic = bic if np.isfinite(bic) else found.bic
    groups = pd.NA if record.n_groups is None else record.n_groups
    converged = pd.NA if record.converged is None else record.converged
    values = {
        "method": record.estimator,
        "cov_type": record.cov_type,
        "nobs": record.nobs,
        "n_groups": pd.array([groups], dtype="Int64"),
        "df_resid": record.df_resid,
        "llf": np.nan if found is None else found.llf,
        "aic": aic,
        "bic": bic,
        "scale": record.scale,
        "rho": record.rho,
        "theta": np.nan if record.theta is None else float(np.median(record.theta)),
        "rsquared_within": record.rsquared.get("within", np.nan),
        "rsquared_between": record.rsquared.get("between", np.nan),
        "rsquared_overall": record.rsquared.get("overall", np.nan),
        "converged": pd.array([converged], dtype="boolean"),
    }
    return pd.DataFrame(values, index=[0])
