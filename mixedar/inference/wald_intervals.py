"""
Transformed Wald intervals, and how flat the surface is.

References
----------
Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and S-PLUS,
Springer, section 2.4.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from mixedar.estimate import estimate_at
from mixedar.exceptions import NotComputedError
from mixedar.inference.residual_intervals import residual_intervals
from mixedar.inference.surface import problem_of
from mixedar.inference.targets import Target, targets_of

__all__ = ["WaldIntervals", "flatness"]


def flatness(results: Any) -> tuple[dict[str, float], float]:
    """
    By how much not knowing the other covariance parameters widens intervals.

    Parameters
    ----------
    results : MixedLMARResults

    Returns
    -------
    factors : dict
        By name of the parameter, ``1 / sqrt(1 - R^2)`` with the multiple
        correlation of its estimate with the others; empty where the
        information is singular.
    condition : float
        Condition number of the correlation matrix of the estimates.
    """
    try:
        problem = problem_of(results)
    except NotComputedError:
        return {}, np.nan
    cov = estimate_at(problem, results._theta).cov_theta
    names = [*results._names[results.k_fe :], "scale"]
    free = np.flatnonzero(np.nan_to_num(np.diag(cov), nan=0.0) > 0.0)
    if len(free) < 2:
        return {}, 1.0
    cov = cov[np.ix_(free, free)]
    sd = np.sqrt(np.diag(cov))
    spectrum, vectors = np.linalg.eigh(cov / np.outer(sd, sd))
    if spectrum[0] <= 1e-12:
        return {}, np.inf
    inverse = (vectors**2 / spectrum).sum(axis=1)
    factors = {
        names[k]: float(value) for k, value in zip(free, np.sqrt(inverse), strict=True)
    }
    targets = targets_of(results)
    for target in targets:
        # a standard deviation is as flat as its square
        if target.kind in ("sd", "sigma"):
            same = (target.path, target.i, target.j)
            square = next(t for t in targets if (t.path, t.i, t.j) == same)
            if square.name in factors:
                factors[target.name] = factors[square.name]
    return factors, float(spectrum[-1] / spectrum[0])


class WaldIntervals:
    """
    Normal intervals on nlme's scales, by the delta method.

    Parameters
    ----------
    results : MixedLMARResults
    alpha : float
        1 - coverage.
    """

    def __init__(self, results: Any, alpha: float) -> None:
        self.results = results
        self.z = float(stats.norm.isf(alpha / 2.0))
        p = results.k_fe
        self.cov = np.asarray(results.cov_params())[p:, p:]
        self.position = {name: k for k, name in enumerate(results._names[p:])}
        rows, columns = np.tril_indices(results.k_re)
        self.entry = {
            (int(i), int(j)): k
            for k, (i, j) in enumerate(zip(rows, columns, strict=True))
        }

    def interval(self, target: Target) -> tuple[float, float]:
        """
        The interval of a parameter.

        Parameters
        ----------
        target : Target

        Returns
        -------
        lower, upper : float

        Raises
        ------
        NotComputedError
            If there is no standard error; the message says why.
        """
        if target.path == "sigma":
            error = self.results.bse_scale / (2.0 * self.results.scale)
            self._check(target, error)
            factor = np.exp(self.z * error * (1 if target.kind == "sigma" else 2))
            return target.estimate / factor, target.estimate * factor
        if target.path == "sd":
            k = self._index(target)
            variance = float(self.results.params[self.results.k_fe + k])
            root = float(np.sqrt(self.cov[k, k]))
            self._check(target, root)
            error = root / (2.0 * variance)
            factor = np.exp(self.z * error * (1 if target.kind == "sd" else 2))
            return target.estimate / factor, target.estimate * factor
        if target.kind == "cov":
            k = self._index(target)
            error = float(np.sqrt(self.cov[k, k]))
            self._check(target, error)
            return target.estimate - self.z * error, target.estimate + self.z * error
        if target.kind == "corr":
            return self._correlation(target)
        return self._residual(target)

    def _index(self, target: Target) -> int:
        if target.path == "cov" or target.i < self.results.k_re:
            return self.entry[target.i, target.j]
        return self.results.k_re2 + target.i - self.results.k_re

    def _correlation(self, target: Target) -> tuple[float, float]:
        cov_re, r = np.asarray(self.results.cov_re), target.estimate
        i, j = target.i, target.j
        where = [self.entry[i, j], self.entry[i, i], self.entry[j, j]]
        root = np.sqrt(cov_re[i, i] * cov_re[j, j])
        slope = np.array([1.0 / root, -r / 2 / cov_re[i, i], -r / 2 / cov_re[j, j]])
        with np.errstate(invalid="ignore"):
            error = np.sqrt(slope @ self.cov[np.ix_(where, where)] @ slope)
        self._check(target, error)
        half = self.z * error / (1.0 - r * r)
        center = np.arctanh(r)
        return float(np.tanh(center - half)), float(np.tanh(center + half))

    def _residual(self, target: Target) -> tuple[float, float]:
        k = self.results.k_re2 + self.results.k_vc + target.j
        error = float(np.sqrt(self.cov[k, k]))
        self._check(target, error)
        bse = np.full(target.structure.k_params, np.nan)
        bse[target.j] = error
        intervals = residual_intervals(
            target.structure, target.u, bse, self.z, named=True
        )
        lower, upper = intervals[target.j]
        return float(lower), float(upper)

    def _check(self, target: Target, error: float) -> None:
        if error > 0.0 and np.isfinite(error):
            return
        if self.results.at_boundary:
            where = "; ".join(self.results.boundary_notes)
            raise NotComputedError(
                f"no Wald interval on the boundary ({where}): use method='profile'"
            )
        raise NotComputedError(
            "the observed information is singular, there is no standard error: use "
            "method='profile'"
        )
