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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.precision import PrecisionDerivatives
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.search import find_modes
from mixedar.exceptions import MixedARError, NotComputedError, UnsupportedError
from mixedar.fit.parameters import CovarianceParameter, parameters_of
from mixedar.inference.intervals.wald import conf_int_re
from mixedar.inference.intervals.wald import flatness as inflation_of
from mixedar.residual import ResidualStructure, resolve

# Compressed rows up to which profiles and rival models cost next to nothing.
_CHEAP = 20_000


@dataclass(frozen=True)
class Flatness:
    """
    The surface of the likelihood around an estimate.

    Attributes
    ----------
    condition : float
        Condition number of the correlation matrix of the estimated covariance
        parameters; NaN where there is none.
    inflation : dict
        By parameter, how many times wider its interval is than if the others
        were known.
    correlated : tuple of (str, str, float)
        The two estimates with the largest correlation, and that.
    intervals : DataFrame
        95 % intervals of the residual parameters, from the profile likelihood;
        columns ``estimate``, ``lower``, ``upper``.
    across_gap : DataFrame
        The same for the correlation of residuals a typical gap apart, where
        there is one residual parameter.
    rivals : dict
        By what is left out of the model, how far the log-likelihood falls.
    """

    condition: float
    inflation: dict[str, float]
    correlated: tuple[str, str, float]
    intervals: pd.DataFrame
    across_gap: pd.DataFrame
    rivals: dict[str, float]


def flatness(results: Any) -> Flatness:
    """
    Measure how flat the likelihood of a fit is.

    Parameters
    ----------
    results : MixedLMARResults

    Returns
    -------
    Flatness

    Raises
    ------
    NotComputedError
        If the data were removed from the fit.
    """
    results.fit.problem  # noqa: B018
    inflation, condition = inflation_of(results)
    names = [*results._names[results.k_fe :], "scale"]
    inflation = {name: inflation[name] for name in names if name in inflation}
    intervals = _intervals(results)
    return Flatness(
        condition if inflation else np.nan,
        inflation,
        _correlated(results, names),
        intervals,
        _across_gap(results, intervals),
        _rivals(results),
    )


def _cheap(results: Any) -> bool:
    return len(results.model._rows.w) <= _CHEAP


def _correlated(results: Any, names: list[str]) -> tuple[str, str, float]:
    cov = np.asarray(results._modes[0][0].cov_theta)
    there = np.flatnonzero(np.nan_to_num(np.diag(cov)) > 0.0)
    if len(there) < 2:
        return "", "", 0.0
    size = np.sqrt(np.diag(cov)[there])
    r = np.tril(cov[np.ix_(there, there)] / np.outer(size, size), -1)
    i, j = np.unravel_index(int(np.argmax(np.abs(r))), r.shape)
    return names[there[j]], names[there[i]], float(r[i, j])


def _intervals(results: Any) -> pd.DataFrame:
    columns = ["estimate", "lower", "upper"]
    structure = results.structure
    if structure.k_free == 0:
        return pd.DataFrame(columns=columns, dtype=float)
    method = "profile" if _cheap(results) else "wald"
    frame = conf_int_re(results, method, parameters=list(structure.param_names))
    return frame[columns].astype(float)


def _across_gap(results: Any, intervals: pd.DataFrame) -> pd.DataFrame:
    gaps = results.model._grouped.gaps
    plain = results.structure.uses_time and not results.structure.marks
    if len(intervals) != 1 or not plain or not (gaps > 0.0).any():
        return pd.DataFrame(columns=list(intervals.columns), dtype=float)
    gap = float(np.median(gaps[gaps > 0.0]))
    values = [
        _correlation(results.structure, gap, value)
        for value in intervals.iloc[0].to_numpy()
    ]
    return pd.DataFrame([values], index=[gap], columns=list(intervals.columns))


def _correlation(structure: ResidualStructure, gap: float, value: float) -> float:
    """Correlation of residuals a gap apart at a value of the one parameter."""
    if not np.isfinite(value):
        return np.nan
    times = np.array([0.0, gap])
    return float(structure.correlation(times, np.array([value]))[0, 1])


def _rivals(results: Any) -> dict[str, float]:
    """Falls of the log-likelihood without serial correlation, effects, or both."""
    if not results.structure.k_free or not results.k_re or not _cheap(results):
        return {}
    if results.structure.marks:  # variances of strata have no simpler rival
        return {}
    model = results.model
    layout = model._layout(results.freepat, results.params_object)
    names = list(model.data.exog_re_names)
    # of several random effects the first stays: it is the intercept as a rule
    keep = min(results.k_re - 1, 1)
    plain = resolve("independent")
    serial = f"{results.structure.label} correlation"
    effects = "the random effect" + ("s " if results.k_re - keep > 1 else " ")
    effects += " and ".join(repr(name) for name in names[keep:])
    rows, fewer = model._rows, _first_effects(layout, keep)
    columns = np.r_[0:keep, layout.k_re : layout.order]
    small = ClusterRows(
        rows.z[:, columns], rows.w, rows.gaps, rows.offsets, rows.weights
    )
    models = {
        serial: (rows, plain, layout),
        effects: (small, results.structure, fewer),
        f"{serial} and {effects}": (small, plain, fewer),
    }
    out = {}
    for name, (data, structure, covariance) in models.items():
        try:
            problem = LikelihoodProblem(
                data, model.nobs, structure, covariance, reml=results.reml
            )
            best = find_modes(problem)[0].estimate.llf
        except (np.linalg.LinAlgError, MixedARError):
            continue
        out[name] = max(results.llf - best, 0.0)
    return out


def _first_effects(layout: RandomCovariance, keep: int) -> RandomCovariance:
    """The layout with the first random effects only, and all components."""
    count = len(layout.tril[0])
    stays = (layout.tril[0] < keep) & (layout.tril[1] < keep)
    fixed = np.concatenate([layout.fixed[:count][stays], layout.fixed[count:]])
    return replace(layout, k_re=keep, fixed=fixed)


def information_of(results: Any) -> FloatArray:
    """
    Information on covariances, components, residual parameters and ``scale``.

    Parameters
    ----------
    results : MixedLMARResults

    Returns
    -------
    ndarray, shape (k_cov + k_params + 1,) squared
        The observed one where it has an inverse, else the expected one.  Zero
        for parameters that are held; NaN where neither is known.
    """
    cov = np.asarray(results._modes[0][0].cov_theta)
    if not np.isfinite(cov).all():
        try:
            return _expected(results)
        except NotComputedError:
            return np.full_like(cov, np.nan)
    out = np.zeros_like(cov)
    used = np.flatnonzero(np.diag(cov) > 0.0)
    size = np.sqrt(np.diag(cov)[used])
    inner = np.linalg.inv(cov[np.ix_(used, used)] / np.outer(size, size))
    out[np.ix_(used, used)] = inner / np.outer(size, size)
    return (out + out.T) / 2.0


def _expected(results: Any) -> FloatArray:
    derivatives = results._precision_derivatives
    problem = results.fit.problem
    k_cov, k_params = problem.covariance.k_cov, problem.structure.k_params
    k = k_cov + k_params + 1
    where = list(range(k_cov))
    # a residual parameter that is held has no row among the derivatives
    if len(derivatives.expected) == k:
        where += range(k_cov, k_cov + k_params)
    where.append(k - 1)
    expected = derivatives.expected * np.outer(
        derivatives.estimated, derivatives.estimated
    )
    to_inner = np.zeros((len(where), k))
    to_inner[:k_cov, :k_cov] = np.linalg.inv(problem.value_map()) / results.scale
    for row, column in enumerate(where[k_cov:-1], start=k_cov):
        to_inner[row, column] = 1.0
    to_inner[-1, -1] = 1.0 / results.scale
    return np.asarray(to_inner.T @ expected @ to_inner)


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
    values = results.fit.problem.value_map()
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
    targets = parameters_of(results.fit)
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


def _undefined(results: Any, target: CovarianceParameter) -> str:
    """Why a parameter has no standard error; empty if it has one."""
    at_end = target.kind == "residual" and results._residual_at_boundary
    singular = results._singular and target.kind in ("variance", "sd", "cov", "corr")
    if not (at_end or singular):
        return ""
    return "no standard error on the boundary: see conf_int_re()"


def _gradient(
    results: Any,
    target: CovarianceParameter,
    square: Mapping[tuple[Any, int, int], CovarianceParameter],
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


# Directions with less information than this, relative to the largest, have none.
_FLAT_DIRECTION = 1e-11


def parameter_covariance(
    derivatives: PrecisionDerivatives, information: str
) -> FloatArray:
    """
    Inverse information of ``theta``.

    The observed information is inverted in the coordinates of the covariance's
    triangular factor.  Inside the parameter space that changes nothing; where
    the covariance is singular it keeps the directions in which the estimate can
    move, as lmerTest does.  The expected information exists on the boundary as
    it does inside, and all parameters are kept there, as in pbkrtest.

    Parameters
    ----------
    derivatives : PrecisionDerivatives
    information : {"observed", "expected"}

    Returns
    -------
    ndarray, shape (k, k)
        Zero for parameters that are held.

    Raises
    ------
    NotComputedError
        If the information has negative directions (the estimate is no maximum),
        or none for something that moves the fixed effects' precision.
    """
    d = derivatives
    if information == "expected" and d.unrestricted:
        used = d.estimated
        jacobian = np.eye(len(used))[:, used]
        matrix = d.expected[np.ix_(used, used)]
    elif information == "expected":
        jacobian = d.jacobian
        matrix = jacobian.T @ d.expected @ jacobian
    else:
        jacobian = d.jacobian
        matrix = jacobian.T @ d.observed @ jacobian + d.curvature
    size = np.sqrt(np.abs(np.diag(matrix)))
    size[size == 0.0] = 1.0
    values, vectors = np.linalg.eigh(matrix / np.outer(size, size))
    largest = max(float(values[-1]), _FLAT_DIRECTION)
    if not np.isfinite(values).all() or values[0] < -1e-6 * largest:
        raise NotComputedError(
            f"the {information} information of the covariance parameters is not "
            "positive definite: the fit is not at a maximum, or the data cannot tell "
            "the parameters apart; use df='containment'"
        )
    keep = values > _FLAT_DIRECTION * largest
    moves = jacobian @ (vectors[:, ~keep] / size[:, None])
    # how far a direction without information moves the precision
    change = np.einsum("ka,kxy->axy", moves, d.p)
    steps = np.abs(np.einsum("axy,yz->axz", change, d.phi)).max(initial=0.0)
    if steps > 1e-5:
        raise NotComputedError(
            "the data hold no information on covariance parameters that the standard "
            "errors of the fixed effects depend on: they have no degrees of freedom "
            "of this kind; use df='containment', or a model with fewer random effects"
        )
    root = jacobian @ (vectors[:, keep] / size[:, None] / np.sqrt(values[keep]))
    return np.asarray(root @ root.T)
