"""
Information criteria as different programs define them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedar.exceptions import UnsupportedError
from mixedar.fit import Fit
from mixedar.fit.parameters import zero_variances

CONVENTIONS = ("nlme", "lme4", "sas")


def information_criteria(fit: Fit, ic: str = "nlme") -> pd.Series:
    """
    Akaike's and Schwarz' criteria, smaller is better.

    Parameters
    ----------
    fit : Fit
    ic : {"nlme", "lme4", "sas"}
        What counts.  nlme and lme4 count all parameters; the number of
        observations in BIC is N - p under REML in nlme (N under ML), always N
        in lme4 and glmmTMB.  SAS PROC MIXED and mmrm count covariance
        parameters only under REML, those at zero not at all, and take the
        number of groups in BIC, HQIC and CAIC (PROC MIXED counts N there if
        there is one group), N - p or N in AICC.

    Returns
    -------
    Series
        ``llf``, ``n_params``, ``nobs`` (as used in BIC), ``aic``, ``aicc``,
        ``bic``, ``hqic`` and ``caic``.  AICC is infinite with too few
        observations.

    Raises
    ------
    UnsupportedError
        For another convention.
    """
    if ic not in CONVENTIONS:
        raise UnsupportedError(
            f"ic={ic!r}: choose {', '.join(repr(name) for name in CONVENTIONS)}"
        )
    p = fit.k_fe
    n_rows = fit.nobs - p if fit.reml else fit.nobs
    d = fit.k_estimated
    if ic == "nlme":
        n = n_small = n_rows
    elif ic == "lme4":
        n = n_small = fit.nobs
    else:
        d -= _zero_parameters(fit)
        if fit.reml:
            d -= p
        n = fit.n_groups if fit.n_groups > 1 else fit.nobs
        n_small = max(n_rows, d + 2)
    deviance = -2.0 * fit.llf
    room = n_small - d - 1
    log_n = float(np.log(n))
    return pd.Series(
        {
            "llf": fit.llf,
            "n_params": d,
            "nobs": n,
            "aic": deviance + 2.0 * d,
            "aicc": deviance + 2.0 * d * n_small / room if room > 0 else np.inf,
            "bic": deviance + log_n * d,
            "hqic": deviance + 2.0 * d * float(np.log(log_n)),
            "caic": deviance + (log_n + 1.0) * d,
        },
        name=ic,
    )


def _zero_parameters(fit: Fit) -> int:
    """Number of estimated variances, and covariances with them, that are zero."""
    zero, free = zero_variances(fit), fit.layout.is_free
    rows, columns = fit.layout.tril
    here = (zero[rows] | zero[columns]) & free[: len(rows)]
    vc_zero = fit.vcomp < 1e-8 * fit.scale
    return int(here.sum() + (vc_zero & free[len(rows) :]).sum())
