"""
Parametric bootstrap of a mixed model, residual correlation included.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.inference.surface import problem_of
from mixedar.inference.targets import Target
from mixedar.moments import moment_blocks
from mixedar.newton import SearchPath, newton
from mixedar.optimize import find_modes
from mixedar.problem import LikelihoodProblem, ThetaEvaluation

__all__ = ["BootstrapDraws", "Refitter", "bootstrap", "check_count", "progress_bar"]

FloatArray = NDArray[np.float64]


def check_count(n: Any, what: str) -> int:
    """
    Return `n` if it is a number of replicates.

    Raises
    ------
    UnsupportedError
        If it is not a whole number of at least 2.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 2:
        raise UnsupportedError(f"{what}={n!r} is not a whole number of at least 2")
    return int(n)


def progress_bar(steps: Iterable[int], show: bool, label: str) -> Iterator[int]:
    """Iterate, with tqdm's bar if wanted."""
    if not show:
        return iter(steps)
    from tqdm.auto import tqdm

    return iter(tqdm(steps, desc=label))


class Refitter:
    """
    Fits one model to many responses.

    Designs, maps and the starting point are shared: a replicate costs a few
    Newton steps from the estimate of the original data.

    Parameters
    ----------
    results : MixedLMARResults
    """

    def __init__(self, results: Any) -> None:
        self.results = results
        self.problem = problem_of(results)
        theta = np.asarray(results._theta)
        lam, u = self.problem.split(theta)
        # a standard deviation of zero is a saddle that no gradient leaves
        lam = np.where(np.abs(lam) < 0.05, 0.05, lam)
        self.start = np.concatenate([lam, np.clip(u, -4.0, 4.0)])

    def problem_for(self, endog: FloatArray) -> LikelihoodProblem:
        """The likelihood of another response."""
        model = self.results.model.with_endog(endog)
        problem = copy.copy(self.problem)
        rows = model._rows.transformed(problem.z_map, problem.w_map)
        problem.blocks = moment_blocks(rows, problem.structure)
        return problem

    def fit(
        self, endog: FloatArray, at_least: float = -np.inf
    ) -> tuple[LikelihoodProblem, SearchPath]:
        """
        Maximise the likelihood of a response.

        Parameters
        ----------
        endog : ndarray, shape (n,)
            In the order of the model's rows.
        at_least : float
            If the maximum found lies below, all starts are tried.

        Returns
        -------
        problem : LikelihoodProblem
        search : SearchPath

        Raises
        ------
        numpy.linalg.LinAlgError
            If no start has a finite likelihood.
        """
        problem = self.problem_for(endog)

        def evaluate(theta: FloatArray) -> ThetaEvaluation:
            return problem.evaluate(theta, derivatives=True)

        if problem.k_theta == 0:
            return problem, find_modes(problem)[0].search
        try:
            search = newton(evaluate, self.start, gtol=1e-8, polish=False)
        except np.linalg.LinAlgError:
            search = None
        if search is None or not search.converged or search.llf < at_least:
            best = find_modes(problem)[0].search
            if search is None or best.llf > search.llf:
                search = best
        return problem, search


@dataclass(frozen=True)
class BootstrapDraws:
    """
    Estimates from simulated responses.

    Attributes
    ----------
    fe_params : ndarray, shape (n, p)
    cov_values : ndarray, shape (n, k_cov)
        Lower triangle of the random-effects covariance, variance components.
    residual_params : ndarray, shape (n, k_params)
    scale : ndarray, shape (n,)
    llf : ndarray, shape (n,)
    names : sequence of str
        Of the first three, in this order.
    k_re : int
    n_failed : int
        Replicates without a maximum, which are left out.
    """

    fe_params: FloatArray
    cov_values: FloatArray
    residual_params: FloatArray
    scale: FloatArray
    llf: FloatArray
    names: Sequence[str]
    k_re: int
    n_failed: int

    @property
    def notes(self) -> list[str]:
        """What is special about the replicates."""
        if not self.n_failed:
            return []
        total = self.n_failed + len(self.llf)
        return [f"{self.n_failed} of {total} replicates had no maximum"]

    def to_frame(self) -> pd.DataFrame:
        """
        All estimates.

        Returns
        -------
        DataFrame, one row a replicate
            Columns as in ``params``, then ``scale`` and ``llf``.
        """
        table = np.column_stack(
            [
                self.fe_params,
                self.cov_values,
                self.residual_params,
                self.scale,
                self.llf,
            ]
        )
        return pd.DataFrame(table, columns=[*self.names, "scale", "llf"])

    def values(self, target: Target) -> FloatArray:
        """
        Replicates of one covariance parameter.

        Parameters
        ----------
        target : Target

        Returns
        -------
        ndarray, shape (n,)
            Correlations only where both variances are positive.
        """
        if target.path == "sigma":
            return self.scale if target.kind == "scale" else np.sqrt(self.scale)
        if target.kind == "residual":
            return self.residual_params[:, target.j]
        if target.path == "sd":
            k = self._entry(target.i, target.i)
            variance = np.maximum(self.cov_values[:, k], 0.0)
            return variance if target.kind == "variance" else np.sqrt(variance)
        cov = self.cov_values[:, self._entry(target.i, target.j)]
        if target.kind == "cov":
            return cov
        product = (
            self.cov_values[:, self._entry(target.i, target.i)]
            * self.cov_values[:, self._entry(target.j, target.j)]
        )
        there = product > 0.0
        if not there.any():
            return np.array([-1.0, 1.0])
        return np.clip(cov[there] / np.sqrt(product[there]), -1.0, 1.0)

    def _entry(self, i: int, j: int) -> int:
        if i < self.k_re:
            return i * (i + 1) // 2 + j
        return self.k_re * (self.k_re + 1) // 2 + i - self.k_re


def bootstrap(
    results: Any, n_boot: int = 1000, *, seed: Any = None, progress: bool = False
) -> BootstrapDraws:
    """
    Simulate responses from a fit and estimate each of them anew.

    Parameters
    ----------
    results : MixedLMARResults
    n_boot : int
        Number of replicates.
    seed : int or Generator, optional
    progress : bool
        Show a progress bar.

    Returns
    -------
    BootstrapDraws

    Raises
    ------
    UnsupportedError
        If `n_boot` is not a whole number of at least 2.
    NotComputedError
        If the data were removed, or most replicates have no maximum.
    """
    results = getattr(results, "_results", results)
    n_boot = check_count(n_boot, "n_boot")
    refitter = Refitter(results)
    distribution = results.get_distribution()
    rng = np.random.default_rng(seed)
    rows: list[FloatArray] = []
    failed = 0
    for _ in progress_bar(range(n_boot), progress, "bootstrap"):
        endog = distribution.rvs(rng=rng)
        try:
            problem, search = refitter.fit(endog)
        except (np.linalg.LinAlgError, ValueError):
            failed += 1
            continue
        rows.append(_estimates(problem, search))
    if failed > n_boot // 2:
        raise NotComputedError(
            f"{failed} of {n_boot} bootstrap replicates have no maximum; use profile "
            "intervals"
        )
    table = np.array(rows)
    p, k_cov = results.k_fe, results.k_re2 + results.k_vc
    k = len(results._names)
    return BootstrapDraws(
        table[:, :p],
        table[:, p : p + k_cov],
        table[:, p + k_cov : k],
        table[:, k],
        table[:, k + 1],
        list(results._names),
        results.k_re,
        failed,
    )


def _estimates(problem: LikelihoodProblem, search: SearchPath) -> FloatArray:
    """Fixed effects, covariances, residual parameters, variance and llf."""
    point = problem.profile_at(search.theta, derivatives=False)
    lam, u = problem.split(search.theta)
    p = len(problem.w_map) - 1
    combined = problem.w_map @ np.append(-point.beta, 1.0)
    scale = point.scale / combined[p] ** 2
    values = scale * (problem.value_map() @ problem.covariance.values(lam))
    return np.concatenate(
        [
            -combined[:p] / combined[p],
            values,
            problem.structure.from_unconstrained(u),
            [scale, point.llf],
        ]
    )
