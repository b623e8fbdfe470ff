"""Random models for the package and the oracle, and difference quotients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from statsmodels.regression.mixed_linear_model import VCSpec

from helpers import oracle
from mixedar import MixedLMAR

Array = NDArray[Any]


@dataclass(frozen=True)
class Design:
    """A model, the same for the oracle, and how components are laid out."""

    model: Any
    problem: oracle.Problem
    structure: str


def random_design(
    seed: int,
    *,
    structure: str = "ar1",
    q: int = 1,
    n_vc: int = 0,
    with_series: bool = False,
    balanced: bool = False,
    p: int = 2,
    m: int = 6,
) -> Design:
    """Unbalanced groups with gaps, rows in any order."""
    rng = np.random.default_rng([seed, q, n_vc, m])
    sizes = np.full(m, 4) if balanced else rng.integers(1, 8, size=m)
    if not balanced:
        sizes[0] = max(sizes[0], 4 + q)
    groups = np.repeat(np.arange(m), sizes)
    n = len(groups)
    series = rng.integers(0, 2, size=n) if with_series else None
    time = np.empty(n)
    for group in range(m):
        rows = np.flatnonzero(groups == group)
        if balanced:
            time[rows] = np.arange(4)
        elif structure == "car1":
            time[rows] = rng.uniform(-3.0, 9.0, size=len(rows))
        else:
            time[rows] = rng.choice(np.arange(-4, 12), size=len(rows), replace=False)
    if balanced:
        Z = np.column_stack([np.ones(n), time, time**2])[:, :q]
    else:
        Z = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])[:, :q]
    X = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    y = X.sum(axis=1) + rng.normal(size=m)[groups] + rng.normal(size=n)
    vc = {f"v{k}": rng.integers(0, 2 + k, size=n) for k in range(n_vc)}
    if not balanced:
        order = rng.permutation(n)
        groups, time, Z, X, y = groups[order], time[order], Z[order], X[order], y[order]
        series = None if series is None else series[order]
        vc = {name: labels[order] for name, labels in vc.items()}
    exog_vc = None
    if vc:
        mats, colnames = [], []
        for labels in vc.values():
            levels = [np.unique(labels[groups == g]) for g in range(m)]
            mats.append(
                [
                    (labels[groups == g][:, None] == lev[None, :]).astype(float)
                    for g, lev in enumerate(levels)
                ]
            )
            colnames.append([[str(a) for a in lev] for lev in levels])
        exog_vc = VCSpec(list(vc), colnames, mats)
    model = MixedLMAR(
        y, X, groups, exog_re=Z, exog_vc=exog_vc, time=time, residual=structure,
        series=series, use_sqrt=False,
    )  # fmt: skip
    problem = oracle.Problem(
        y=y, X=X, groups=groups, Z=Z if q else None, time=time, series=series, vc=vc
    )
    return Design(model, problem, structure)


def random_parameters(
    rng: np.random.Generator, design: Design, *, singular: bool = False
) -> oracle.Parameters:
    """Relative to a residual variance of one."""
    q = design.problem.n_re
    root = rng.normal(size=(q, q))
    if singular and q:
        root[:, -1] = 0.0
    rho = 0.0
    if design.structure == "ar1":
        rho = rng.uniform(-0.9, 0.9)
    elif design.structure == "car1":
        rho = rng.uniform(0.05, 0.95)
    vcomp = {name: rng.uniform(0.1, 2.0) for name in design.problem.vc}
    if singular and vcomp:
        vcomp[next(iter(vcomp))] = 0.0
    return oracle.Parameters(1.0, float(rho), root @ root.T if q else None, vcomp)


def pack(design: Design, params: oracle.Parameters, beta: Array | None = None) -> Array:
    q = design.problem.n_re
    rows, columns = np.tril_indices(q)
    cov = np.empty(0) if params.cov_re is None else params.cov_re[rows, columns]
    rho = [] if design.structure == "independent" else [params.rho]
    parts = [[] if beta is None else beta, cov, list(params.vcomp.values()), rho]
    return np.concatenate([np.asarray(part, dtype=float) for part in parts])


def unpack(design: Design, values: Array) -> oracle.Parameters:
    q = design.problem.n_re
    rows, columns = np.tril_indices(q)
    cov = np.zeros((q, q))
    cov[rows, columns] = cov[columns, rows] = values[: len(rows)]
    names = list(design.problem.vc)
    vcomp = dict(zip(names, values[len(rows) :], strict=False))
    rho = 0.0 if design.structure == "independent" else float(values[-1])
    return oracle.Parameters(1.0, rho, cov if q else None, vcomp)


def exact(design: Design, params: oracle.Parameters, reml: bool) -> float:
    best = oracle.profile(design.problem, params, reml)
    return oracle.loglike(design.problem, best, reml)


def exact_at(
    design: Design, params: oracle.Parameters, beta: Array, reml: bool
) -> float:
    """Fixed effects given, only the residual variance profiled."""
    n, p = design.problem.X.shape
    r = design.problem.y - design.problem.X @ beta
    rss: Any = 0.0
    logdet: Any = 0.0
    xvx = np.zeros((p, p))
    for part in oracle.parts(design.problem, params):
        rss += r[part.rows] @ np.linalg.solve(part.V, r[part.rows])
        logdet += np.linalg.slogdet(part.V)[1]
        x = design.problem.X[part.rows]
        xvx += x.T @ np.linalg.solve(part.V, x)
    df = n - p if reml else n
    if reml:
        logdet += np.linalg.slogdet(xvx)[1]
    return float(-0.5 * (df * (1 + np.log(2 * np.pi * rss / df)) + logdet))


def gradient_of(value: Callable[[Array], float], x: Array, h: float = 1e-5) -> Array:
    eye = np.eye(len(x)) * h
    return np.array([(value(x + e) - value(x - e)) / (2 * h) for e in eye])


def slopes_of(value: Callable[[Array], Array], x: Array, h: float = 1e-5) -> Array:
    """Derivatives of a vector; row k holds those of its entry k."""
    eye = np.eye(len(x)) * h
    columns = [(value(x + e) - value(x - e)) / (2 * h) for e in eye]
    return np.array(columns).T
