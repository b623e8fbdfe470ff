"""
Parametric bootstrap of a mixed model, residual correlation included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, Seed
from mixedar.data.checks import apart
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.newton import SearchPath, newton
from mixedar.engine.problem import LikelihoodProblem, ThetaEvaluation
from mixedar.engine.search import find_modes
from mixedar.engine.starts import lifted
from mixedar.exceptions import NotComputedError
from mixedar.fit import Fit
from mixedar.fit.parameters import CovarianceParameter
from mixedar.fit.refit import ManyResponses, Refits
from mixedar.fit.responses import Responses
from mixedar.inference.arguments import (
    check_count,
    generator,
    progress_bar,
    understands,
)
from mixedar.summary import NamedInALine, ResultFrame

# A search that comes so near to a maximum found before ends there.  Different
# maxima are further apart in the factor of the covariance; a nearer pair differs
# by less than 0.001 in log-likelihood.
_SAME = 0.4


class _KnownMaximumError(Exception):
    """A search has come to a maximum that is known."""


class Refitter:
    """
    Fits one model to many responses.

    Designs, maps and starting points are shared.  A replicate is searched from
    the estimate of the original data, and from another start for each
    residual parameter on the grid of starting values, with the random-effects
    covariance that fits the original data best there: the likelihood may have
    several maxima.  Searches that come to a maximum known already, or cannot
    reach the height of the best, end early.

    Parameters
    ----------
    fit : Fit
    """

    def __init__(self, fit: Fit) -> None:
        self.data, self.problem = fit.data, fit.problem
        lam, u = self.problem.split(fit.theta)
        self.start = np.concatenate([lifted(lam), np.clip(u, -4.0, 4.0)])
        self.other_starts = _other_starts(self.problem, lifted(lam))
        self._to_user = self.problem.value_map()
        self._together = ManyResponses.of(self.data, self.problem)
        #: how many responses are best taken at once
        self.at_once = 1 if self._together is None else self._together.at_once

    def many(self, endogs: FloatArray, at_least: FloatArray | None = None) -> Refits:
        """
        Estimates from responses, shape (n, b), NaN where there is no maximum.

        `at_least` as for :meth:`fit`, one number for each.
        """
        count = endogs.shape[1]
        out = Refits.empty(self.data, self.problem, pd.RangeIndex(count))
        least = np.full(count, -np.inf) if at_least is None else at_least
        if self._together is not None:
            starts = (self.start, *self.other_starts)
            found = self._together.search(
                endogs, starts, usual=False, at_least=least, gtol=1e-8, polish=False
            )
            self._together.write(out, 0, found)
        for k in np.flatnonzero(~out.converged).tolist():
            try:
                problem, search = self.fit(endogs[:, k], float(least[k]))
            except (np.linalg.LinAlgError, ValueError):
                continue
            self._write(out, k, problem, search.theta)
        return out

    def _write(
        self, out: Refits, k: int, problem: LikelihoodProblem, theta: FloatArray
    ) -> None:
        """Estimates at a maximum that was searched for by itself."""
        point = problem.profile_at(theta, derivatives=False)
        _, u = problem.split(theta)
        p = len(problem.w_map) - 1
        combined = problem.w_map @ np.append(-point.beta, 1.0)
        scale = point.scale / combined[p] ** 2
        out.fe_params[k] = -combined[:p] / combined[p]
        out.cov_values[k] = scale * (self._to_user @ problem.values(theta))
        out.residual_params[k] = problem.parameters.from_unconstrained(u)
        out.scale[k], out.llf[k], out.converged[k] = scale, point.llf, True

    def problem_for(self, endog: FloatArray) -> LikelihoodProblem:
        """The likelihood of another response."""
        return self.problem.of_rows(self.data.changed(endog=endog).compressed)

    def fit(
        self, endog: FloatArray, at_least: float = -np.inf
    ) -> tuple[LikelihoodProblem, SearchPath]:
        """
        The likelihood of a response, shape (n,), and the search for its maximum.

        If the maximum found lies below `at_least`, all usual starts are tried too.
        LinAlgError if no start has a finite likelihood.
        """
        problem = self.problem_for(endog)
        if problem.k_theta == 0:
            return problem, find_modes(problem)[0].search
        known: list[FloatArray] = []

        def evaluate(theta: FloatArray) -> ThetaEvaluation:
            if known:
                here = problem.unsigned(theta)
                for there in known:
                    near = _SAME * np.maximum(np.abs(there), 1.0)
                    if (np.abs(here - there) < near).all():
                        raise _KnownMaximumError
            return problem.evaluate(theta, derivatives=True)

        best: SearchPath | None = None
        for theta in (self.start, *self.other_starts):
            try:
                search = newton(
                    evaluate,
                    theta,
                    gtol=1e-8,
                    polish=False,
                    hopeless=-np.inf if best is None else best.llf,
                )
            except (_KnownMaximumError, np.linalg.LinAlgError):
                continue
            if not search.converged:
                continue
            known.append(problem.unsigned(search.theta))
            if best is None or search.llf > best.llf:
                best = search
        if best is None or best.llf < at_least:
            other = find_modes(problem)[0].search
            if best is None or other.llf > best.llf:
                best = other
        return problem, best


def _other_starts(problem: LikelihoodProblem, lam: FloatArray) -> list[FloatArray]:
    """Rough maxima of the original likelihood, one for each start of ``u``."""
    out = []
    for u in problem.parameters.start_grid():
        best = lam
        if len(lam):
            try:
                best = _best_factor(problem, lam, u)
            except np.linalg.LinAlgError:
                continue
        out.append(np.concatenate([lifted(best), u]))
    return out


def _best_factor(
    problem: LikelihoodProblem, lam: FloatArray, u: FloatArray
) -> FloatArray:
    k = len(lam)

    def evaluate(entries: FloatArray) -> ThetaEvaluation:
        point = problem.evaluate(np.concatenate([entries, u]), derivatives=True)
        return ThetaEvaluation(point.llf, point.gradient[:k], point.hessian[:k, :k])

    return newton(evaluate, lam, gtol=0.05, maxiter=15, polish=False).theta


@dataclass(frozen=True, repr=False)
class BootstrapDraws(NamedInALine):
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
    layout : RandomCovariance
    n_failed : int
        Replicates without a maximum, which are left out.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> draws = fit.bootstrap(20, rng=1)
    >>> draws.names
    ('Intercept', 'age', 'subject Var', 'rho')
    """

    fe_params: FloatArray
    cov_values: FloatArray
    residual_params: FloatArray
    scale: FloatArray
    llf: FloatArray
    names: Sequence[str]
    layout: RandomCovariance
    n_failed: int

    def __repr__(self) -> str:
        failed = "".join(f"; {note}" for note in self.notes)
        parameters = len(self.names) + 1  # the residual variance
        return f"<BootstrapDraws: {len(self.llf)} of {parameters} parameters{failed}>"

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

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> fit.bootstrap(20, rng=1).to_frame().shape
        (20, 6)
        """
        names = apart(self.names, ("scale", "llf"), "coefficient")
        params = [self.fe_params, self.cov_values, self.residual_params]
        table = np.column_stack([*params, self.scale, self.llf])
        frame = pd.DataFrame(table, columns=[*names, "scale", "llf"])
        return ResultFrame.of(frame, "number")

    def values(self, parameter: CovarianceParameter) -> FloatArray:
        """
        Replicates of one covariance parameter, shape (n,).

        Correlations only where both variances are positive.
        """
        if parameter.path == "sigma":
            return self.scale if parameter.kind == "scale" else np.sqrt(self.scale)
        if parameter.kind == "residual":
            return self.residual_params[:, parameter.j]
        if parameter.path == "sd":
            variance = np.maximum(self._entry(parameter.i, parameter.i), 0.0)
            return variance if parameter.kind == "variance" else np.sqrt(variance)
        cov = self._entry(parameter.i, parameter.j)
        if parameter.kind == "cov":
            return cov
        product = self._entry(parameter.i, parameter.i) * self._entry(
            parameter.j, parameter.j
        )
        there = product > 0.0
        if not there.any():
            return np.array([-1.0, 1.0])
        return np.clip(cov[there] / np.sqrt(product[there]), -1.0, 1.0)

    def _entry(self, i: int, j: int) -> FloatArray:
        return self.cov_values[:, self.layout.entry(i, j)]


@understands(seed="rng", n_boot="n_sim")
def bootstrap(
    fit: Fit, n_sim: int = 1000, *, rng: Seed = None, progress: bool = False
) -> BootstrapDraws:
    """
    Simulate responses from a fit and estimate each of them anew.

    Parameters
    ----------
    fit : Fit
    n_sim : int
        Number of replicates.
    rng : int or Generator, optional
    progress : bool
        Show a progress bar.

    Returns
    -------
    BootstrapDraws

    Raises
    ------
    UnsupportedError
        If `n_sim` is not a whole number of at least 2.
    NotComputedError
        If the data were removed, or most replicates have no maximum.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> draws = fit.bootstrap(20, rng=1)
    >>> len(draws.to_frame())
    20
    """
    n_sim = check_count(n_sim, "n_sim")
    refitter, responses = Refitter(fit), Responses.of(fit)
    steps = progress_bar(range(n_sim), progress, "bootstrap")
    draws = responses.some(generator(rng), steps, refitter.at_once)
    parts = [refitter.many(endogs) for endogs in draws]
    found = [np.isfinite(part.llf) for part in parts]
    failed = n_sim - sum(int(np.count_nonzero(some)) for some in found)
    if failed > n_sim // 2:
        raise NotComputedError(
            f"{failed} of {n_sim} bootstrap replicates have no maximum; use profile "
            "intervals"
        )

    def joined(name: str) -> FloatArray:
        pairs = zip(parts, found, strict=True)
        return np.concatenate([getattr(part, name)[some] for part, some in pairs])

    return BootstrapDraws(
        joined("fe_params"),
        joined("cov_values"),
        joined("residual_params"),
        joined("scale"),
        joined("llf"),
        fit.names,
        fit.layout,
        failed,
    )
