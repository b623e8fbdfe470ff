"""
Information criteria as different programs define them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixedar.exceptions import UnsupportedError

CONVENTIONS = ("nlme", "lme4", "sas")


def information_criteria(results: Any, ic: str = "nlme") -> pd.Series:
    """
    Akaike's and Schwarz' criteria, smaller is better.

    Parameters
    ----------
    results : MixedLMARResults
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
    results = getattr(results, "_results", results)
    if ic not in CONVENTIONS:
        raise UnsupportedError(
            f"ic={ic!r}: choose {', '.join(repr(name) for name in CONVENTIONS)}"
        )
    p = results.k_fe
    n_rows = results.nobs - p if results.reml else results.nobs
    d = results.df_modelwc
    if ic == "nlme":
        n = n_small = n_rows
    elif ic == "lme4":
        n = n_small = results.nobs
    else:
        d -= _zero_parameters(results)
        if results.reml:
            d -= p
        n = results.n_groups if results.n_groups > 1 else results.nobs
        n_small = max(n_rows, d + 2)
    deviance = -2.0 * results.llf
    room = n_small - d - 1
    log_n = float(np.log(n))
    return pd.Series(
        {
            "llf": results.llf,
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


def _zero_parameters(results: Any) -> int:
    """Estimated variances, and covariances with them, that are zero."""
    spread = np.diag(results._z_map)[: results.k_re] ** 2
    relative = np.diag(results.cov_re_unscaled) / np.where(spread > 0.0, spread, 1.0)
    zero = relative < 1e-8
    rows, columns = np.tril_indices(results.k_re)
    free = results.fit.layout.is_free
    here = (zero[rows] | zero[columns]) & free[: len(rows)]
    vc_free = free[len(rows) :]
    vc_zero = np.asarray(results.vcomp) < 1e-8 * results.scale
    return int(here.sum() + (vc_zero & vc_free).sum())
