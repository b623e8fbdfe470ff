"""
Information of the covariance parameters, their standard errors on users' scales, and
information criteria.

Derivatives are analytic.  The parameters are those that results print:
variances and covariances of the random effects, variance components, residual
parameters and the residual variance.  The information is that of the
(restricted) likelihood with the fixed effects profiled out; it is block
diagonal with theirs, whose inverse ``cov_params()`` holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import BoolArray, FloatArray
from mixedar.engine.precision import PrecisionDerivatives
from mixedar.engine.terms import TermEffects, eliminated_terms
from mixedar.exceptions import NotComputedError, UnsupportedError, check_choice
from mixedar.fit import Fit
from mixedar.fit.parameters import CovarianceParameter, parameters_of, standard_error
from mixedar.summary import ResultFrame

# Directions with less information than this, relative to the largest, have none.
_FLAT = 1e-11
# Step of numerical derivatives, in standard errors.
_STEP = 1e-3


def information(fit: Fit) -> FloatArray:
    """
    Information on covariances, components, residual parameters and ``scale``.

    The observed one where it has an inverse, else the expected one; zero for
    parameters that are held, NaN where neither is known.
    """
    cov = fit.estimate.cov_theta
    out = np.zeros_like(cov)
    if not np.isfinite(cov).all():
        try:
            matrix, where = _information(fit, "expected")
        except NotComputedError:
            return np.full_like(cov, np.nan)
        out[np.ix_(where, where)] = matrix
        return out
    used = np.flatnonzero(np.diag(cov) > 0.0)
    size = np.sqrt(np.diag(cov)[used])
    inner = np.linalg.inv(cov[np.ix_(used, used)] / np.outer(size, size))
    out[np.ix_(used, used)] = inner / np.outer(size, size)
    return (out + out.T) / 2.0


def _information(fit: Fit, kind: str) -> tuple[FloatArray, BoolArray]:
    """Information of the estimated parameters, and which of all these are."""
    d = fit.precision_derivatives
    k, k_cov = len(d.estimated), fit.layout.k_cov
    # parameters that the derivatives are by: residual ones may be held
    there = np.ones(len(fit.names) - fit.k_fe + 1, dtype=bool)
    there[k_cov:-1] = fit.parameters.is_free & ~fit.params_known
    to_user = np.eye(k)
    to_user[:k_cov, :k_cov] = d.scale * fit.problem.value_map()
    to_user[-1, -1] = d.scale
    back = np.linalg.inv(to_user)
    matrix = back.T @ np.array(getattr(d, kind)) @ back
    used = d.estimated
    there[there] = used
    return ((matrix + matrix.T) / 2.0)[np.ix_(used, used)], there


def information_matrix(fit: Fit, kind: str = "observed") -> pd.DataFrame:
    """
    Information matrix of the covariance parameters.

    Parameters
    ----------
    fit : Fit
    kind : {"observed", "expected"}
        Minus the second derivatives of the log-likelihood at the estimate, or
        their expectation (Fisher's).

    Returns
    -------
    DataFrame, shape (k, k)
        On the scale of the data.  Rows and columns have the names in
        ``params``, the residual variance is ``"scale"``; parameters that are
        held, and residual parameters at the end of their range, are left out.

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

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm(
    ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
    ... ).fit()
    >>> fit.information("expected").shape
    (4, 4)
    """
    check_choice("kind", kind, ("observed", "expected"))
    matrix, where = _information(fit, kind)
    names = np.array([*fit.names[fit.k_fe :], "scale"], dtype=object)[where]
    frame = pd.DataFrame(matrix, index=list(names), columns=list(names))
    return ResultFrame.of(frame, "number")


def covariance_parameters(fit: Fit, kind: str = "observed") -> pd.DataFrame:
    """
    Estimates of the covariance parameters with standard errors.

    Parameters
    ----------
    fit : Fit
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
        As :meth:`information`.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm(
    ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
    ... ).fit()
    >>> fit.covariance_parameters()["estimate"].round(2).to_dict()
    {'subject Var': 5.42, 'subject x age Cov': -0.32, 'age Var': 0.05, 'scale': 1.72,
     'sd(subject)': 2.33, 'corr(subject, age)': -0.61, 'sd(age)': 0.23, 'sigma': 1.31}
    """
    if kind == "observed":
        cov = fit.estimate.cov_theta
    elif kind == "expected":
        cov = _inverse(*_information(fit, kind))
    else:
        raise UnsupportedError(f"kind={kind!r}: choose 'observed' or 'expected'")
    rows = []
    parameters = parameters_of(fit)
    for one in parameters:
        why, se = one.held or _undefined(fit, one), np.nan
        if not why:
            se = standard_error(fit, one, cov)
            if not np.isfinite(se):
                why = f"the {kind} information is singular"
        rows.append([one.estimate, se, why])
    names = [one.name for one in parameters]
    return ResultFrame(rows, index=names, columns=["estimate", "se", "note"])


def _inverse(matrix: FloatArray, where: BoolArray) -> FloatArray:
    """Inverse information among all parameters; NaN where there is none."""
    size = np.sqrt(np.diag(matrix))
    size[~(size > 0.0)] = 1.0
    values, vectors = np.linalg.eigh(matrix / np.outer(size, size))
    out = np.full((len(where),) * 2, np.nan)
    if values[0] > _FLAT * values[-1]:
        inverse = (vectors / values) @ vectors.T / np.outer(size, size)
        out[np.ix_(where, where)] = inverse
    return out


def _undefined(fit: Fit, parameter: CovarianceParameter) -> str:
    """Why a parameter has no standard error; empty if it has one."""
    at_end = parameter.kind == "residual" and bool(fit.estimate.at_end[parameter.j])
    random = parameter.kind in ("variance", "sd", "cov", "corr")
    if not (at_end or (fit.singular and random)):
        return ""
    return "no standard error on the boundary: see conf_int_re()"


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
    root, flat = _inverse_root(
        matrix,
        f"the {information} information of the covariance parameters is not "
        "positive definite: the fit is not at a maximum, or the data cannot tell "
        "the parameters apart; use df='containment'",
    )
    root, moves = jacobian @ root, jacobian @ flat
    # how far a direction without information moves the precision
    change = np.einsum("ka,kxy->axy", moves, d.p)
    steps = np.abs(np.einsum("axy,yz->axz", change, d.phi)).max(initial=0.0)
    if steps > 1e-5:
        raise NotComputedError(
            "the data hold no information on covariance parameters that the standard "
            "errors of the fixed effects depend on: they have no degrees of freedom "
            "of this kind; use df='containment', or a model with fewer random effects"
        )
    return np.asarray(root @ root.T)


def _inverse_root(matrix: FloatArray, why: str) -> tuple[FloatArray, FloatArray]:
    """
    A root of the inverse of an information, and the directions that have none.

    NotComputedError says `why` if information is negative.
    """
    size = np.sqrt(np.abs(np.diag(matrix)))
    size[size == 0.0] = 1.0
    values, vectors = np.linalg.eigh(matrix / np.outer(size, size))
    largest = max(float(values[-1]), _FLAT)
    if not np.isfinite(values).all() or values[0] < -1e-6 * largest:
        raise NotComputedError(why)
    keep, vectors = values > _FLAT * largest, vectors / size[:, None]
    return vectors[:, keep] / np.sqrt(values[keep]), vectors[:, ~keep]


@dataclass(frozen=True)
class Point:
    """
    Parameters at which the mean of rows is computed.

    Attributes
    ----------
    beta : ndarray, shape (p,)
    u : ndarray, shape (k_free,)
        Unconstrained residual parameters.
    factor : ndarray, shape (q, q)
        ``Lambda`` in the likelihood's internal coordinates.
    term_effects : sequence of TermEffects
        Predicted effects of other factors than the groups.
    """

    beta: FloatArray
    u: FloatArray
    factor: FloatArray
    term_effects: Sequence[TermEffects]

    @classmethod
    def at(cls, fit: Fit, theta: FloatArray) -> Point:
        """The point of ``theta``, with the fixed effects that belong to it."""
        problem = fit.problem
        inner = problem.profile_at(theta, derivatives=False).beta
        combined = problem.w_map @ np.append(-inner, 1.0)
        beta = -combined[:-1] / combined[-1]
        eliminated = eliminated_terms(problem.blocks, problem.point(theta))
        effects = problem.term_effects(eliminated, beta)
        return cls(beta, problem.split(theta)[1], problem.factor(theta), effects)


def theta_variance(fit: Fit, means: Callable[[Point], FloatArray]) -> FloatArray:
    """
    Variance of predictions from the estimation of the covariance parameters.

    Parameters
    ----------
    fit : Fit
    means : callable
        Predictions at a point.

    Returns
    -------
    ndarray, shape (k,)

    Raises
    ------
    NotComputedError
        If the data were removed, or the estimate is no maximum.
    """
    theta = fit.theta
    if len(theta) == 0:
        return np.zeros_like(means(Point.at(fit, theta)))
    axes, _ = _inverse_root(
        -fit.problem.evaluate(theta, derivatives=True).hessian,
        "the information of the covariance parameters is not positive definite: "
        "the fit is not at a maximum; use include_theta=False",
    )
    total: Any = 0.0
    for axis in axes.T:
        ahead = means(Point.at(fit, theta + _STEP * axis))
        behind = means(Point.at(fit, theta - _STEP * axis))
        total = total + ((ahead - behind) / (2.0 * _STEP)) ** 2
    return np.asarray(total)


def estimate_correlations(fit: Fit) -> tuple[list[str], FloatArray]:
    """Names and correlations of the covariance parameters with a standard error."""
    cov, names = fit.estimate.cov_theta, [*fit.names[fit.k_fe :], "scale"]
    there = np.flatnonzero(np.nan_to_num(np.diag(cov), nan=0.0) > 0.0)
    sd = np.sqrt(np.diag(cov)[there])
    return [names[k] for k in there], cov[np.ix_(there, there)] / np.outer(sd, sd)


def inflation(fit: Fit) -> tuple[dict[str, float], float]:
    """
    By how much not knowing the other covariance parameters widens intervals.

    By name of the parameter ``1 / sqrt(1 - R^2)`` with the multiple correlation of
    its estimate with the others, empty where the information is singular; and the
    condition number of the correlation matrix of the estimates.
    """
    names, correlations = estimate_correlations(fit)
    if len(names) < 2:
        return {}, 1.0
    spectrum, vectors = np.linalg.eigh(correlations)
    if spectrum[0] <= 1e-12:
        return {}, np.inf
    inverse = (vectors**2 / spectrum).sum(axis=1)
    factors = dict(zip(names, np.sqrt(inverse).tolist(), strict=True))
    parameters = parameters_of(fit)
    squares = {(one.path, one.i, one.j): one.name for one in reversed(parameters)}
    for one in parameters:
        # a standard deviation is as flat as its square
        square = squares[one.path, one.i, one.j]
        if one.kind in ("sd", "sigma") and square in factors:
            factors[one.name] = factors[square]
    return factors, float(spectrum[-1] / spectrum[0])


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

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> fit.information_criteria("nlme").round(0).to_dict()
    {'llf': -223.0, 'n_params': 5.0, 'nobs': 106.0, 'aic': 457.0, 'aicc': 458.0,
     'bic': 470.0, 'hqic': 462.0, 'caic': 475.0}
    """
    return _criteria(fit, ic)


def info_criteria(fit: Fit, crit: str, dk_params: float = 0) -> float:
    """
    One information criterion, as statsmodels' method of this name.

    Parameters
    ----------
    fit : Fit
    crit : {"aic", "aicc", "bic", "hqic", "caic"}
    dk_params : int or float
        Further parameters to count.  All that are estimated count as they are,
        variances and residual parameters included.

    Returns
    -------
    float
        As :meth:`information_criteria` has it by nlme's convention.

    Raises
    ------
    UnsupportedError
        For another criterion.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> fit = mar.mixedlm("distance ~ age", load_orthodont(), groups="subject").fit()
    >>> fit.info_criteria("bic") == fit.bic
    True
    """
    check_choice("crit", crit, ("aic", "aicc", "bic", "hqic", "caic"))
    return float(_criteria(fit, "nlme", dk_params)[crit])


def _criteria(fit: Fit, ic: str, more: float = 0) -> pd.Series:
    """The criteria by a convention, with further parameters counted."""
    if ic not in CONVENTIONS:
        raise UnsupportedError(
            f"ic={ic!r}: choose {', '.join(repr(name) for name in CONVENTIONS)}"
        )
    p = fit.k_fe
    n_rows = fit.nobs - p if fit.reml else fit.nobs
    d, n_small = fit.k_estimated + more, float(n_rows)
    n = n_rows
    if ic == "lme4":
        n = n_small = fit.nobs
    elif ic == "sas":
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
    zero, (rows, columns) = fit.estimate.zero, fit.layout.effects
    return int(((zero[rows] | zero[columns]) & fit.layout.is_free).sum())
