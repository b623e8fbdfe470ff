"""
How often a test rejects: fits to many responses, tested at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixedar._types import FloatArray
from mixedar.data.model_data import ModelData
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.fit.maximise import maximise
from mixedar.fit.refit import fit_each, refit_many
from mixedar.hypotheses.df import DFMethod, f_sf, t_sf
from mixedar.hypotheses.restrictions import restrictions
from mixedar.inference.df import contrast_method

#: Methods whose degrees of freedom and covariances every data set has for itself.
OF_EACH = ("satterthwaite", "kenward-roger")


def p_values(
    data: ModelData,
    endogs: FloatArray,
    hypothesis: Any,
    method: DFMethod,
    *,
    alternative: str = "two-sided",
    reml: bool = True,
) -> FloatArray:
    """
    P-values of a test of the fixed effects in fits to many responses.

    Parameters
    ----------
    data : ModelData
    endogs : ndarray, shape (n, k)
    hypothesis
        As in ``wald_test``.
    method : DFMethod
    alternative : {"two-sided", "larger", "smaller"}
        Of a hypothesis with one row.
    reml : bool

    Returns
    -------
    ndarray, shape (k,)
        NaN for responses without a maximum.
    """
    matrix, values = restrictions(hypothesis, data.exog_names)
    if len(matrix) > 1 and alternative != "two-sided":
        raise UnsupportedError(
            f"alternative={alternative!r} is for a test of one contrast, and this one "
            f"has {len(matrix)}: a joint test has no side"
        )
    rank, k = int(np.linalg.matrix_rank(matrix)), endogs.shape[1]
    df, scaling = np.full((2, k), np.nan)
    if method.name in OF_EACH:
        beta, cov = np.full((k, data.k_fe), np.nan), np.full((k, *[data.k_fe] * 2), 1.0)
        reason: NotComputedError | None = None
        for i, fit in enumerate(fit_each(data, endogs, reml=reml)):
            try:
                if fit is None:
                    continue
                found = contrast_method(fit, method)
                df[i], scaling[i] = found.joint(matrix, rank)
            except NotComputedError as error:
                reason = error
                continue
            beta[i], cov[i] = fit.fe_params, found.cov
        if reason is not None and np.isnan(df).all():
            raise reason
    else:
        refits = refit_many(data, endogs, reml=reml)
        beta, cov = refits.fe_params, np.nan_to_num(refits.cov_fe, nan=1.0)
        # degrees of freedom depend on nothing but the design
        fit = maximise(data.changed(endog=endogs[:, 0]), reml=reml)
        df[:], scaling[:] = contrast_method(fit, method).joint(matrix, rank)
    if (df <= 0.0).any():
        raise NotComputedError(
            f"{data.n_groups} groups leave no degrees of freedom ({method.label}) for "
            "this test: plan more groups, or choose another df="
        )
    left = beta @ matrix.T - values
    between = matrix @ cov @ matrix.T
    if rank == 1 and len(matrix) == 1:
        t = left[:, 0] / np.sqrt(between[:, 0, 0])
        if alternative == "two-sided":
            t = np.abs(t)
        elif alternative == "smaller":
            t = -t
        return t_sf(t, df) * (2.0 if alternative == "two-sided" else 1.0)
    solved = np.linalg.pinv(between, hermitian=True) @ left[:, :, None]
    f = (left[:, None, :] @ solved)[:, 0, 0] / rank * scaling
    return np.where(np.isnan(left[:, 0]), np.nan, f_sf(f, rank, df))
