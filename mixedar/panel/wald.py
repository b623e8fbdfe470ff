"""
Tests of linear restrictions on the coefficients of a panel model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from statsmodels.formula._manager import FormulaManager
from statsmodels.stats.contrast import ContrastResults

from mixedar.exceptions import MixedARError, NotComputedError, UnsupportedError

__all__ = ["linear_test", "restrictions"]

FloatArray = NDArray[np.float64]


def restrictions(r_matrix: Any, names: list[str]) -> tuple[FloatArray, FloatArray]:
    """
    Read restrictions ``R b = q``.

    Parameters
    ----------
    r_matrix : str, dict, list of str, array_like or tuple
        ``"x1 = x2, x3 = 0"``, the matrix R (q is zero), or ``(R, q)``.
    names : list of str
        Names of the k coefficients.

    Returns
    -------
    matrix : ndarray, shape (m, k)
    values : ndarray, shape (m,)

    Raises
    ------
    MixedARError
        If a text cannot be read.
    UnsupportedError
        If the matrix does not have k columns.
    """
    texts = isinstance(r_matrix, (str, dict)) or (
        isinstance(r_matrix, (list, tuple))
        and len(r_matrix) > 0
        and all(isinstance(item, str) for item in r_matrix)
    )
    if texts:
        try:
            found = FormulaManager().get_linear_constraints(r_matrix, names)
        except Exception as error:
            raise MixedARError(
                f"the hypothesis {r_matrix!r} cannot be read ({error}); the "
                f"coefficients are {', '.join(names)}"
            ) from error
        matrix = np.atleast_2d(np.asarray(found.constraint_matrix, dtype=float))
        values = np.asarray(found.constraint_values, dtype=float).reshape(-1)
    elif isinstance(r_matrix, tuple):
        matrix = np.atleast_2d(np.asarray(r_matrix[0], dtype=float))
        values = np.broadcast_to(np.asarray(r_matrix[1], float), (len(matrix),))
    else:
        matrix = np.atleast_2d(np.asarray(r_matrix, dtype=float))
        values = np.zeros(len(matrix))
    if matrix.shape[1] != len(names):
        raise UnsupportedError(
            f"r_matrix has {matrix.shape[1]} columns; it needs {len(names)}, one for "
            f"each coefficient ({', '.join(names)})"
        )
    return matrix, values


def linear_test(results: Any, r_matrix: Any, kind: str, use_t: bool) -> ContrastResults:
    """
    Test linear restrictions.

    Parameters
    ----------
    results : PanelResults
    r_matrix : str, array_like or tuple
        See :func:`restrictions`.
    kind : {"wald", "t"}
        Jointly, or one by one.
    use_t : bool
        F and t with the degrees of freedom of the fit, or chi-squared and normal.

    Returns
    -------
    ContrastResults

    Raises
    ------
    NotComputedError
        If the covariance of the restrictions is singular.
    """
    names = list(results.params.index)
    matrix, values = restrictions(r_matrix, names)
    effect = matrix @ results.estimate.params
    cov = matrix @ results.estimate.cov @ matrix.T
    df = results.df_inference if use_t else np.inf
    if use_t and not np.isfinite(df):
        df = results.df_resid
    if kind == "t":
        variances = np.diag(cov)
        sd = np.sqrt(np.where(variances >= 0.0, variances, np.nan))
        t = (effect - values) / sd
        if not use_t:
            return ContrastResults(
                effect=effect, statistic=t, sd=sd, distribution="norm"
            )
        return ContrastResults(effect=effect, t=t, sd=sd, df_denom=df)
    variances = np.diag(cov)
    positive = bool((variances > 0.0).all())
    spread = np.sqrt(np.where(variances > 0.0, variances, 1.0))
    scaled = cov / np.outer(spread, spread)
    if not positive or np.linalg.eigvalsh(scaled)[0] <= 1e-12 * len(matrix):
        raise NotComputedError(
            f"the covariance of the {len(matrix)} restrictions is singular; some "
            "follow from others, or there are fewer clusters than restrictions"
        )
    d = (effect - values) / spread
    chi2 = float(d @ np.linalg.solve(scaled, d))
    if use_t:
        return ContrastResults(F=chi2 / len(matrix), df_denom=df, df_num=len(matrix))
    return ContrastResults(
        chi2=chi2, df_denom=len(matrix), statistic=chi2, distribution="chi2",
        distargs=(len(matrix),),
    )  # fmt: skip
