"""
The linear mixed model written out densely, as a textbook states it.

For each group, y = X beta + Z b + sum_k W_k u_k + e with independent
b ~ N(0, G), u_k ~ N(0, s_k I), e ~ N(0, sigma2 R), so that
V = Z G Z' + sum_k s_k W_k W_k' + sigma2 R.  Within a series
R_ij = rho^|t_i - t_j|; between series it is zero.  Every matrix is built and
solved as it stands: slow, and meant to be obviously right.  Nothing here comes
from the package that it checks.

Covariances are on the scale of the data (``cov_re`` is G, not G / sigma2).

References
----------
Laird, N. M. and Ware, J. H. (1982). Random-effects models for longitudinal
data. Biometrics 38, 963-974.

Harville, D. A. (1977). Maximum likelihood approaches to variance component
estimation and to related problems. Journal of the American Statistical
Association 72, 320-338.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

Array = NDArray[np.floating[Any]]
Labels = NDArray[Any]
Structure = Literal["independent", "ar1", "car1"]


@dataclass(frozen=True)
class Problem:
    """
    Data of a model, one row an observation, in any order.

    Attributes
    ----------
    y : (n,)
    X : (n, p)
    groups : (n,) labels; rows of different groups are independent
    Z : (n, q), q may be 0
    time : (n,) numbers, or None for 0, 1, 2, ... in row order in each series
    series : (n,) labels of the series inside a group, or None for one each
    vc : name -> (n,) labels; rows of a group with the same label share an
        effect
    """

    y: Array
    X: Array
    groups: Labels
    Z: Array | None = None
    time: Array | None = None
    series: Labels | None = None
    vc: dict[str, Labels] = field(default_factory=dict)

    @property
    def n_re(self) -> int:
        """The number of random effects of a group, without ``vc``."""
        return 0 if self.Z is None else self.Z.shape[1]


@dataclass(frozen=True)
class Parameters:
    """
    Covariance parameters.

    Attributes
    ----------
    sigma2 : residual variance
    rho : correlation of residuals at distance one; 0 for independence
    cov_re : (q, q) covariance of the random effects
    vcomp : name -> variance
    """

    sigma2: float
    rho: float = 0.0
    cov_re: Array | None = None
    vcomp: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Solution:
    """
    What follows from the data and the covariance parameters.

    Attributes
    ----------
    loglike : with all constants
    fe_params, cov_params : (p,), (p, p): GLS estimates and (X'V^-1 X)^-1
    random_effects : group -> (q,): E(b | y)
    random_effects_cov : group -> (q, q): cov(b | y), the fixed effects taken
        as known
    vc_effects : name -> {(group, label): E(u | y)}
    fitted_marginal, fitted_conditional : (n,)
    pearson, normalized : (n,)
    """

    loglike: float
    fe_params: Array
    cov_params: Array
    random_effects: dict[Hashable, Array]
    random_effects_cov: dict[Hashable, Array]
    vc_effects: dict[str, dict[tuple[Hashable, Hashable], float]]
    fitted_marginal: Array
    fitted_conditional: Array
    pearson: Array
    normalized: Array


def solve(problem: Problem, params: Parameters, reml: bool = True) -> Solution:
    """Evaluate log-likelihood, estimates, predictions and residuals."""
    X, y = problem.X, problem.y
    n, p = X.shape
    parts = list(_parts(problem, params))

    xvx, xvy, logdet = np.zeros((p, p)), np.zeros(p), 0.0
    for part in parts:
        xi = X[part.rows]
        xvx += xi.T @ np.linalg.solve(part.V, xi)
        xvy += xi.T @ np.linalg.solve(part.V, y[part.rows])
        logdet += _logdet(part.V)
    beta = np.linalg.solve(xvx, xvy)

    marginal = X @ beta
    r = y - marginal
    quadratic = sum(
        float(r[part.rows] @ np.linalg.solve(part.V, r[part.rows])) for part in parts
    )
    if reml:
        loglike = -0.5 * (
            (n - p) * np.log(2 * np.pi) + logdet + _logdet(xvx) + quadratic
        )
    else:
        loglike = -0.5 * (n * np.log(2 * np.pi) + logdet + quadratic)

    conditional = marginal.copy()
    ranef: dict[Hashable, Array] = {}
    ranef_cov: dict[Hashable, Array] = {}
    vc_effects: dict[str, dict[tuple[Hashable, Hashable], float]] = {
        name: {} for name in problem.vc
    }
    for part in parts:
        weights = np.linalg.solve(part.V, r[part.rows])
        if problem.Z is not None and params.cov_re is not None:
            z, g = problem.Z[part.rows], params.cov_re
            b = g @ z.T @ weights
            ranef[part.group] = b
            ranef_cov[part.group] = g - g @ z.T @ np.linalg.solve(part.V, z) @ g
            conditional[part.rows] += z @ b
        for name, (levels, w) in part.incidence.items():
            u = params.vcomp[name] * w.T @ weights
            conditional[part.rows] += w @ u
            for level, value in zip(levels, u, strict=True):
                vc_effects[name][part.group, level] = float(value)

    pearson = (y - conditional) / np.sqrt(params.sigma2)
    return Solution(
        loglike=float(loglike),
        fe_params=beta,
        cov_params=np.linalg.inv(xvx),
        random_effects=ranef,
        random_effects_cov=ranef_cov,
        vc_effects=vc_effects,
        fitted_marginal=marginal,
        fitted_conditional=conditional,
        pearson=pearson,
        normalized=_normalize(problem, params, pearson),
    )


def loglike(problem: Problem, params: Parameters, reml: bool = True) -> float:
    """Return the (restricted) log-likelihood with all its constants."""
    return solve(problem, params, reml).loglike


def profile(problem: Problem, params: Parameters, reml: bool = True) -> Parameters:
    """
    Put the best residual variance in, the ratios to it unchanged.

    With V = sigma2 S and S fixed, the maximum is at (y - X beta)'S^-1(y - X beta)
    divided by n, or by n - p under REML.
    """
    n, p = problem.X.shape
    beta = _gls(problem, params)
    r = problem.y - problem.X @ beta
    total = sum(
        float(r[part.rows] @ np.linalg.solve(part.V, r[part.rows]))
        for part in _parts(problem, params)
    )
    factor = total / (n - p if reml else n)
    return Parameters(
        sigma2=params.sigma2 * factor,
        rho=params.rho,
        cov_re=None if params.cov_re is None else params.cov_re * factor,
        vcomp={name: value * factor for name, value in params.vcomp.items()},
    )


def maximize(
    problem: Problem,
    structure: Structure = "ar1",
    reml: bool = True,
    diagonal: bool = False,
    starts: Sequence[float] = (-0.3, 0.1, 0.5, 0.9),
) -> tuple[float, Parameters]:
    """
    Find the highest maximum by a general optimiser, for small problems.

    The random-effects covariance is L L' with L free, so that singular ones lie
    inside the space searched.  One search from each starting correlation;
    derivatives are central differences.

    Returns
    -------
    tuple
        The log-likelihood, and the parameters where it is reached.
    """
    q = problem.n_re
    lower = (np.arange(q), np.arange(q)) if diagonal else np.tril_indices(q)

    def unpack(theta: Array) -> Parameters:
        factor = np.zeros((q, q))
        factor[lower] = theta[: len(lower[0])]
        rest = theta[len(lower[0]) :]
        sd = dict(zip(problem.vc, rest, strict=False))
        rho = 0.0
        if structure == "ar1":
            rho = float(np.tanh(rest[-1]))
        elif structure == "car1":
            rho = float(1 / (1 + np.exp(-rest[-1])))
        return Parameters(
            sigma2=1.0,
            rho=rho,
            cov_re=factor @ factor.T if q else None,
            vcomp={name: float(value) ** 2 for name, value in sd.items()},
        )

    def objective(theta: Array) -> float:
        try:
            return -loglike(problem, profile(problem, unpack(theta), reml), reml) / len(
                problem.y
            )
        except np.linalg.LinAlgError:
            return np.inf

    best: tuple[float, Parameters] | None = None
    for rho in starts if structure != "independent" else starts[:1]:
        theta = np.concatenate(
            [np.where(lower[0] == lower[1], 0.7, 0.1), np.full(len(problem.vc), 0.7)]
        )
        if structure == "ar1":
            theta = np.append(theta, np.arctanh(rho))
        elif structure == "car1":
            p = abs(rho)
            theta = np.append(theta, np.log(p / (1 - p)))
        if theta.size:
            found = optimize.minimize(
                objective, theta, method="BFGS", jac="3-point", options={"gtol": 1e-9}
            )
            theta = found.x
        params = profile(problem, unpack(theta), reml)
        value = loglike(problem, params, reml)
        if best is None or value > best[0]:
            best = value, params
    assert best is not None
    return best


def correlation(time: Array, rho: float) -> Array:
    """Return rho^|t_i - t_j| for times (n,): shape (n, n)."""
    distance = np.abs(time[:, None] - time[None, :])
    return np.asarray(np.power(rho, distance), dtype=float)


@dataclass(frozen=True)
class _Part:
    """One group: its rows, dense V, and the incidence of its vc effects."""

    group: Hashable
    rows: NDArray[np.intp]
    V: Array
    incidence: dict[str, tuple[list[Hashable], Array]]


def _parts(problem: Problem, params: Parameters) -> Iterator[_Part]:
    time = _times(problem)
    for group, rows in _split(problem.groups):
        V = np.zeros((len(rows), len(rows)))
        for _, at in _split(_series(problem)[rows]):
            V[np.ix_(at, at)] += params.sigma2 * correlation(time[rows][at], params.rho)
        if problem.Z is not None and params.cov_re is not None:
            z = problem.Z[rows]
            V += z @ params.cov_re @ z.T
        incidence = {}
        for name, labels in problem.vc.items():
            levels = sorted(set(labels[rows].tolist()))
            w = np.array([[float(x == a) for a in levels] for x in labels[rows]])
            incidence[name] = (levels, w)
            V += params.vcomp[name] * w @ w.T
        yield _Part(group, rows, V, incidence)


def _split(labels: Labels) -> Iterator[tuple[Hashable, NDArray[np.intp]]]:
    """Yield each label with the positions where it stands."""
    where: dict[Hashable, list[int]] = {}
    for i, label in enumerate(labels.tolist()):
        where.setdefault(label, []).append(i)
    for label, rows in where.items():
        yield label, np.array(rows, dtype=np.intp)


def _series(problem: Problem) -> Labels:
    if problem.series is None:
        return np.zeros(len(problem.y), dtype=int)
    return problem.series


def _times(problem: Problem) -> Array:
    if problem.time is not None:
        return np.asarray(problem.time, dtype=float)
    time = np.empty(len(problem.y))
    for _, rows in _split(problem.groups):
        for _, at in _split(_series(problem)[rows]):
            time[rows[at]] = np.arange(len(at))
    return time


def _gls(problem: Problem, params: Parameters) -> Array:
    p = problem.X.shape[1]
    xvx, xvy = np.zeros((p, p)), np.zeros(p)
    for part in _parts(problem, params):
        xi = problem.X[part.rows]
        xvx += xi.T @ np.linalg.solve(part.V, xi)
        xvy += xi.T @ np.linalg.solve(part.V, problem.y[part.rows])
    return np.linalg.solve(xvx, xvy)


def _normalize(problem: Problem, params: Parameters, pearson: Array) -> Array:
    """Whiten in time order by the inverse Cholesky factor of R."""
    time = _times(problem)
    out = np.empty_like(pearson)
    for _, rows in _split(problem.groups):
        for _, at in _split(_series(problem)[rows]):
            ordered = rows[at][np.argsort(time[rows[at]], kind="stable")]
            factor = np.linalg.cholesky(correlation(time[ordered], params.rho))
            out[ordered] = linalg.solve_triangular(factor, pearson[ordered], lower=True)
    return out


def _logdet(a: Array) -> float:
    sign, value = np.linalg.slogdet(a)
    if sign <= 0:
        raise np.linalg.LinAlgError("matrix is not positive definite")
    return float(value)
