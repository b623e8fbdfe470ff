"""
Log-likelihood, estimates and predicted effects, and the maximum.

References
----------
Laird, N. M. and Ware, J. H. (1982). Random-effects models for longitudinal
data. Biometrics 38, 963-974.

Harville, D. A. (1977). Maximum likelihood approaches to variance component
estimation and to related problems. Journal of the American Statistical
Association 72, 320-338.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, optimize

from helpers.oracle.model import (
    Array,
    Parameters,
    Part,
    Problem,
    Structure,
    parts,
    residual_covariance,
)


@dataclass(frozen=True)
class Solution:
    """
    What follows from the data and the covariance parameters.

    Attributes
    ----------
    params : the covariance parameters
    loglike : with all constants
    fe_params, cov_params : (p,), (p, p): GLS estimates and (X'V^-1 X)^-1
    random_effects : group -> (q,): E(b | y)
    random_effects_cov : group -> (q, q): cov(b | y), the fixed effects taken
        as known
    vc_effects : name -> {(group, label): E(u | y)}
    fitted_marginal, fitted_conditional : (n,)
    pearson, normalized : (n,)
    """

    params: Parameters
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


@dataclass(frozen=True)
class _Squares:
    """Generalised least squares: beta, V^-1 (y - X beta) of each group, and sums."""

    groups: list[Part]
    beta: Array
    weights: list[Array]
    xvx: Array
    quadratic: float
    logdet: float


def _least_squares(problem: Problem, params: Parameters) -> _Squares:
    p = problem.X.shape[1]
    both = np.column_stack([problem.X, problem.y])
    groups = list(parts(problem, params))
    solved = [np.linalg.solve(part.V, both[part.rows]) for part in groups]
    sums = np.zeros((p + 1, p + 1))
    for part, image in zip(groups, solved, strict=True):
        sums += both[part.rows].T @ image
    beta = np.linalg.solve(sums[:p, :p], sums[:p, p])
    weights = [image[:, p] - image[:, :p] @ beta for image in solved]
    r = problem.y - problem.X @ beta
    quadratic = sum(
        float(r[part.rows] @ v) for part, v in zip(groups, weights, strict=True)
    )
    logdet = sum(_logdet(part.V) for part in groups)
    return _Squares(groups, beta, weights, sums[:p, :p], quadratic, logdet)


def solve(problem: Problem, params: Parameters, reml: bool = True) -> Solution:
    """Evaluate log-likelihood, estimates, predictions and residuals."""
    squares = _least_squares(problem, params)
    marginal = problem.X @ squares.beta
    conditional = marginal.copy()
    ranef: dict[Hashable, Array] = {}
    ranef_cov: dict[Hashable, Array] = {}
    vc_effects: dict[str, dict[tuple[Hashable, Hashable], float]] = {
        name: {} for name in problem.vc
    }
    for part, v in zip(squares.groups, squares.weights, strict=True):
        if problem.Z is not None and params.cov_re is not None:
            z, g = problem.Z[part.rows], params.cov_re
            b = g @ z.T @ v
            ranef[part.group] = b
            ranef_cov[part.group] = g - g @ z.T @ np.linalg.solve(part.V, z) @ g
            conditional[part.rows] += z @ b
        for name, (levels, w) in part.incidence.items():
            u = params.vcomp[name] * w.T @ v
            conditional[part.rows] += w @ u
            for level, value in zip(levels, u, strict=True):
                vc_effects[name][part.group, level] = float(value)

    rest = (problem.y - conditional) / np.sqrt(params.sigma2)
    sd = 1.0 if params.R is None else np.sqrt(np.diag(params.R))
    return Solution(
        params=params,
        loglike=_density(problem, squares, reml),
        fe_params=squares.beta,
        cov_params=np.linalg.inv(squares.xvx),
        random_effects=ranef,
        random_effects_cov=ranef_cov,
        vc_effects=vc_effects,
        fitted_marginal=marginal,
        fitted_conditional=conditional,
        pearson=rest / sd,
        normalized=_normalize(problem, params, rest),
    )


def loglike(problem: Problem, params: Parameters, reml: bool = True) -> float:
    """Return the (restricted) log-likelihood with all its constants."""
    return _density(problem, _least_squares(problem, params), reml)


def _density(problem: Problem, squares: _Squares, reml: bool) -> float:
    n, p = problem.X.shape
    total = squares.logdet + squares.quadratic
    if reml:
        total += (n - p) * np.log(2 * np.pi) + _logdet(squares.xvx)
    else:
        total += n * np.log(2 * np.pi)
    return float(-0.5 * total)


def profile(problem: Problem, params: Parameters, reml: bool = True) -> Parameters:
    """
    Put the best residual variance in, the ratios to it unchanged.

    With V = sigma2 S and S fixed, the maximum is at (y - X beta)'S^-1(y - X beta)
    divided by n, or by n - p under REML.
    """
    n, p = problem.X.shape
    factor = _least_squares(problem, params).quadratic / (n - p if reml else n)
    return replace(
        params,
        sigma2=params.sigma2 * factor,
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


def _normalize(problem: Problem, params: Parameters, residuals: Array) -> Array:
    """Whiten in time order by the inverse Cholesky factor of R."""
    out = np.empty_like(residuals)
    r_of = residual_covariance(problem, params)
    for rows in problem.in_time:
        factor = np.linalg.cholesky(r_of(rows))
        out[rows] = linalg.solve_triangular(factor, residuals[rows], lower=True)
    return out


def _logdet(a: Array) -> float:
    sign, value = np.linalg.slogdet(a)
    if sign <= 0:
        raise np.linalg.LinAlgError("matrix is not positive definite")
    return float(value)
