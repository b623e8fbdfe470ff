"""
Information of the covariance parameters, and standard errors on users' scales.

Derivatives are analytic.  The parameters are those that results print:
variances and covariances of the random effects, variance components, residual
parameters and the residual variance.  The information is that of the
(restricted) likelihood with the fixed effects profiled out; it is block
diagonal with theirs, whose inverse ``cov_params()`` holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.exceptions import UnsupportedError
from mixedar.inference.surface import problem_of
from mixedar.inference.targets import Target, targets_of

__all__ = ["covariance_parameters", "information_matrix"]

FloatArray = NDArray[np.float64]

# Directions with less information than this, relative to the largest, have none.
_FLAT = 1e-11


def information_matrix(results: Any, kind: str = "observed") -> pd.DataFrame:
    """
    Information matrix of the covariance parameters.

    Parameters
    ----------
    results : MixedLMARResults
    kind : {"observed", "expected"}
        Minus the second derivatives of the log-likelihood at the estimate, or
        their expectation (Fisher's).

    Returns
    -------
    DataFrame, shape (k, k)
        On the scale of the data.  Rows and columns have the names in
        ``params``, the residual variance is ``"scale"``; parameters that are
        held, and a residual parameter at the end of its range, are left out.

    Raises
    ------
    UnsupportedError
        For another kind.
    NotComputedError
        If the data were removed, or the precision of the fixed effects is
        singular.

    References
    ----------
    Lindstrom, M. J. and Bates, D. M. (1988), Newton-Raphson and EM algorithms
    for linear mixed-effects models for repeated-measures data, Journal of the
    American Statistical Association 83, 1014-1022.
    """
    results = getattr(results, "_results", results)
    if kind not in ("observed", "expected"):
        raise UnsupportedError(f"kind={kind!r}: choose 'observed' or 'expected'")
    derivatives = results._precision_derivatives
    used = derivatives.estimated
    names = _names(results, len(used))
    matrix = np.array(getattr(derivatives, kind))
    back = np.linalg.inv(_to_user(results, derivatives.scale, len(used)))
    matrix = back.T @ matrix @ back
    kept = [name for name, here in zip(names, used, strict=True) if here]
    return pd.DataFrame(
        ((matrix + matrix.T) / 2.0)[np.ix_(used, used)], index=kept, columns=kept
    )


def _names(results: Any, count: int) -> list[str]:
    """Names of the parameters that the derivatives are by."""
    first = results.k_fe + results.k_re2 + results.k_vc
    residual = results._names[first:]
    if first - results.k_fe + 1 == count:  # held, all of them
        residual = []
    else:
        free = results.structure.natural(results._u).first.any(axis=0)
        residual = [name for name, here in zip(residual, free, strict=True) if here]
    return [*results._names[results.k_fe : first], *residual, "scale"]


def _to_user(results: Any, scale: float, k: int) -> FloatArray:
    """Linear map of the derivatives' parameters to the user's, shape (k, k)."""
    out = np.eye(k)
    values = problem_of(results).value_map()
    out[: len(values), : len(values)] = scale * values
    out[-1, -1] = scale
    return out


def covariance_parameters(results: Any, kind: str = "observed") -> pd.DataFrame:
    """
    Estimates of the covariance parameters with standard errors.

    Parameters
    ----------
    results : MixedLMARResults
    kind : {"observed", "expected"}
        Which information is inverted; the observed one gives the standard
        errors of the fit.

    Returns
    -------
    DataFrame
        A row a parameter, as in ``conf_int_re``: those of ``params``, ``scale``,
        then standard deviations, correlations and ``sigma``, by the delta
        method.  Columns ``estimate``, ``se`` and ``note``, which says why there
        is no standard error.

    Raises
    ------
    UnsupportedError, NotComputedError
        As :func:`information_matrix`.
    """
    results = getattr(results, "_results", results)
    cov = _covariance(results, kind)
    targets = targets_of(results)
    square = {(t.path, t.i, t.j): t for t in targets if t.name in cov.index}
    rows = []
    for target in targets:
        why = target.held or _undefined(results, target)
        se = np.nan
        if not why:
            names, gradient = _gradient(results, target, square)
            with np.errstate(invalid="ignore"):
                se = float(np.sqrt(gradient @ cov.loc[names, names] @ gradient))
            if not np.isfinite(se):
                why = f"the {kind} information is singular"
        rows.append([target.estimate, se, why])
    return pd.DataFrame(
        rows,
        index=[target.name for target in targets],
        columns=["estimate", "se", "note"],
    )


def _covariance(results: Any, kind: str) -> pd.DataFrame:
    """Inverse information; NaN where there is none."""
    if kind == "observed":
        p = results.k_fe
        names = [*results._names[p:], "scale"]
        # covariances with the scale are not needed
        cov = np.zeros((len(names), len(names)))
        cov[:-1, :-1] = np.asarray(results.cov_params())[p:, p:]
        cov[-1, -1] = results.bse_scale**2
        return pd.DataFrame(cov, names, names)
    matrix = information_matrix(results, kind)
    size = np.sqrt(np.diag(matrix))
    size[~(size > 0.0)] = 1.0
    values, vectors = np.linalg.eigh(matrix / np.outer(size, size))
    if not values[0] > _FLAT * values[-1]:
        cov = np.full(matrix.shape, np.nan)
    else:
        cov = (vectors / values) @ vectors.T / np.outer(size, size)
    return pd.DataFrame(cov, matrix.index, matrix.columns)


def _undefined(results: Any, target: Target) -> str:
    """Why a parameter has no standard error; empty if it has one."""
    at_end = target.kind == "residual" and results._residual_at_boundary
    singular = results._singular and target.kind in ("variance", "sd", "cov", "corr")
    if not (at_end or singular):
        return ""
    return "no standard error on the boundary: see conf_int_re()"


def _gradient(
    results: Any, target: Target, square: Mapping[tuple[Any, int, int], Target]
) -> tuple[list[str], FloatArray]:
    """Names of the parameters that a target depends on, and its derivatives."""
    if target.kind != "corr":
        name = square[target.path, target.i, target.j].name
        root = target.kind in ("sd", "sigma")
        return [name], np.array([0.5 / target.estimate if root else 1.0])
    i, j = target.i, target.j
    names = [square[key].name for key in (("cov", i, j), ("sd", i, i), ("sd", j, j))]
    variances = np.diag(results.cov_re)[[i, j]]
    slopes = -0.5 * target.estimate / variances
    return names, np.array([1.0 / np.sqrt(variances.prod()), *slopes])
