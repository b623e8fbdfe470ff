"""
Profile likelihood of a random-effects variance.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from statsmodels.tools.validation import string_like

from mixedar.covariance import factor_entries
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.optimize import find_modes
from mixedar.problem import LikelihoodProblem

__all__ = ["profile_variance"]

FloatArray = NDArray[np.float64]


def profile_variance(
    results: Any,
    re_ix: int | str,
    vtype: str,
    num_low: int,
    dist_low: float,
    num_high: int,
    dist_high: float,
    **fit_kwargs: Any,
) -> FloatArray:
    """
    Maximise the likelihood over all other parameters at fixed variance ratios.

    A grid of variances is divided by the residual variance; each ratio is
    held while everything else, the residual variance included, is estimated
    again.  Arguments as in ``MixedLMARResults.profile_re``.

    Returns
    -------
    ndarray, shape (num_low + num_high + 1, 2)
        The variance (ratio times the re-estimated residual variance) and the
        log-likelihood.

    Raises
    ------
    UnsupportedError
        If the grid would reach a variance of zero or less, or there is no such
        random effect.
    """
    vtype = string_like(vtype, "vtype", options=("re", "vc"), lower=False)
    model = results.model
    if model.endog is None:
        raise NotComputedError("the data were removed from this fit")
    k_re = model.k_re
    if vtype == "re":
        if not isinstance(re_ix, (int, np.integer)) or not 0 <= re_ix < k_re:
            raise UnsupportedError(
                f"re_ix={re_ix!r}: there are {k_re} random effects, counted from 0"
            )
        estimate = results.cov_re[re_ix, re_ix]
    else:
        if re_ix not in model.exog_vc.names:
            raise UnsupportedError(
                f"re_ix={re_ix!r}: the variance components are {model.exog_vc.names}"
            )
        component = model.exog_vc.names.index(re_ix)
        estimate = results.vcomp[component]
    if estimate - dist_low <= 0.0:
        raise UnsupportedError(
            "dist_low is too large and would result in a negative variance. Try a "
            f"smaller value than {estimate:.6g}."
        )
    grid = np.concatenate(
        [
            np.linspace(estimate - dist_low, estimate, num_low + 1),
            np.linspace(estimate, estimate + dist_high, num_high + 1)[1:],
        ]
    )
    order = np.arange(k_re)
    rows = model._rows
    if vtype == "re":
        # the first diagonal entry of a Cholesky factor is a standard deviation
        order[[0, int(re_ix)]] = order[[int(re_ix), 0]]
        columns = np.concatenate([order, np.arange(k_re, rows.z.shape[1])])
        rows = replace(rows, z=rows.z[:, columns])
        position = 0
    else:
        position = results.k_re2 + component
    layout = model._layout(results.freepat, results.params_object)
    unscaled = results.cov_re_unscaled[np.ix_(order, order)]
    start = factor_entries(unscaled, results.vcomp / results.scale)
    curve = []
    for variance in grid:
        fixed = layout.fixed.copy()
        fixed[position] = np.sqrt(variance / results.scale)
        problem = LikelihoodProblem(
            rows,
            model.nobs,
            model.residual,
            replace(layout, fixed=fixed),
            reml=results.reml,
        )
        theta = problem.theta_from(start, results._residual_values)
        best = find_modes(problem, start=theta, **fit_kwargs)[0].estimate
        held = best.cov_values[0 if vtype == "re" else position]
        curve.append([held, best.llf])
    return np.asarray(curve)
