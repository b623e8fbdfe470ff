"""
Intervals for variances, correlations and residual parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, logit

from mixedar._types import FloatArray
from mixedar.engine.coordinates import estimate_at
from mixedar.exceptions import MixedARError, NotComputedError, UnsupportedError
from mixedar.fit.parameters import CovarianceParameter, parameters_of, select
from mixedar.inference.arguments import check_alpha
from mixedar.inference.intervals.bootstrap import bootstrap
from mixedar.inference.intervals.profile import ProfileEngine
from mixedar.residual import ResidualStructure


def residual_intervals(
    structure: ResidualStructure,
    u: FloatArray,
    bse: FloatArray,
    z: float,
    *,
    named: bool = False,
) -> FloatArray:
    """
    Intervals that stay inside the parameter space.

    A parameter that depends on one unconstrained coordinate alone has its
    interval along that (as nlme); others on the scale that the structure names
    (the delta method).

    Parameters
    ----------
    structure : ResidualStructure
        Bound to the data.
    u : ndarray, shape (k_free,)
    bse : ndarray, shape (k_params,)
        Standard errors of the parameters.
    z : float
        Quantile of the normal distribution.
    named : bool
        Prefer the scale that the structure names, as nlme's ``intervals``.

    Returns
    -------
    ndarray, shape (k_params, 2)
        NaN where there is no standard error or the parameter is held.
    """
    natural = structure.natural(u)
    out = np.full((len(bse), 2), np.nan)
    for j in range(len(bse)):
        slopes = natural.first[:, j]
        used = np.flatnonzero(slopes)
        if not (np.isfinite(bse[j]) and bse[j] > 0.0 and len(used)):
            continue
        value = float(natural.value[j])
        link = structure.links[j]
        if len(used) == 1 and not (named and link != "identity"):
            width = z * bse[j] / slopes[used[0]]
            for side, sign in enumerate((-1.0, 1.0)):
                moved = np.array(u, dtype=np.float64)
                moved[used[0]] += sign * width
                out[j, side] = structure.from_unconstrained(moved)[j]
            out[j].sort()
        elif link == "correlation":
            half = z * bse[j] / (1.0 - value**2)
            center = np.arctanh(value)
            out[j] = np.tanh(center - half), np.tanh(center + half)
        elif link == "log":
            factor = np.exp(z * bse[j] / value)
            out[j] = value / factor, value * factor
        elif link == "share":
            half = z * bse[j] / (value * (1.0 - value))
            out[j] = expit(logit(value) - half), expit(logit(value) + half)
        else:
            out[j] = value - z * bse[j], value + z * bse[j]
    return out


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
        problem = results.fit.problem
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
    targets = parameters_of(results.fit)
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

    def interval(self, target: CovarianceParameter) -> tuple[float, float]:
        """
        The interval of a parameter.

        Parameters
        ----------
        target : CovarianceParameter

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

    def _index(self, target: CovarianceParameter) -> int:
        if target.path == "cov" or target.i < self.results.k_re:
            return self.entry[target.i, target.j]
        return self.results.k_re2 + target.i - self.results.k_re

    def _correlation(self, target: CovarianceParameter) -> tuple[float, float]:
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

    def _residual(self, target: CovarianceParameter) -> tuple[float, float]:
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

    def _check(self, target: CovarianceParameter, error: float) -> None:
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


METHODS = ("profile", "wald", "bootstrap")
# Interval this many times as wide as with the other parameters known: say so.
_FLAT = 4.0


def conf_int_re(
    results: Any,
    method: str = "profile",
    alpha: float = 0.05,
    parameters: str | Iterable[str] | None = None,
    *,
    n_boot: int = 1000,
    seed: Any = None,
    progress: bool = False,
) -> pd.DataFrame:
    """
    Intervals for all covariance parameters.

    Parameters
    ----------
    results : MixedLMARResults
    method : {"profile", "wald", "bootstrap"}
        Inverted likelihood-ratio tests; normal intervals on nlme's scales (log
        standard deviations, ``log((1 + r) / (1 - r))`` of correlations and of
        an AR(1) parameter, logit of a CAR(1) parameter) from the observed
        information; or percentiles of a parametric bootstrap that draws
        random effects and correlated residuals.
    alpha : float
        1 - coverage.
    parameters : str or iterable of str, optional
        Names of some parameters; all by default.
    n_boot : int
        Bootstrap replicates.
    seed : int or Generator, optional
        Of the bootstrap.
    progress : bool
        Progress bar of the bootstrap.

    Returns
    -------
    DataFrame
        A row a parameter: those of ``params`` under their names, ``scale``,
        standard deviations ``sd(...)``, correlations ``corr(..., ...)`` and
        ``sigma``; columns ``estimate``, ``lower``, ``upper``, ``method`` and
        ``note``, which says where an interval is one-sided or missing and why,
        and where the surface is flat.  A parameter that cannot be profiled
        because other entries are held has its Wald interval, and the note says
        so.  ``attrs["condition"]`` is the condition number of the correlation
        matrix of the estimates.

    Raises
    ------
    UnsupportedError
        For another method, or an `alpha` that is no probability.
    UnknownColumnError
        For an unknown parameter.
    """
    results = getattr(results, "_results", results)
    if method not in METHODS:
        raise UnsupportedError(
            f"method={method!r}: choose {', '.join(repr(name) for name in METHODS)}"
        )
    alpha = check_alpha(alpha)
    if parameters is not None and not isinstance(parameters, Iterable):
        raise UnsupportedError(
            f"parameters={parameters!r}: give names, such as 'rho' or ['rho', 'sigma']"
        )
    engine = ProfileEngine(results) if method == "profile" else None
    targets = select(
        engine.targets if engine else parameters_of(results.fit), parameters
    )
    flat, condition = flatness(results)
    draws = None
    if method == "bootstrap":
        draws = bootstrap(results, n_boot, seed=seed, progress=progress)
    wald = WaldIntervals(results, alpha) if method == "wald" else None
    rows = []
    for target in targets:
        notes: list[str] = []
        lower = upper = np.nan
        used = method
        if target.held:
            notes.append(target.held)
        elif _undefined(results, target):
            lower, upper = -1.0, 1.0
            notes.append("a variance is zero: every correlation fits as well")
        elif engine is not None:
            try:
                lower, upper, notes = engine.interval(target, alpha)
            except MixedARError as error:
                notes, used = [str(error)], "wald"
                with suppress(NotComputedError):
                    lower, upper = WaldIntervals(results, alpha).interval(target)
        elif draws is not None:
            values = draws.values(target)
            lower, upper = np.quantile(values, [alpha / 2.0, 1.0 - alpha / 2.0])
            notes.extend(draws.notes)
        else:
            assert wald is not None
            try:
                lower, upper = wald.interval(target)
            except NotComputedError as error:
                notes = [str(error)]
        factor = flat.get(target.name, 1.0)
        if factor > _FLAT and not target.held:
            notes.append(
                f"flat surface: {factor:.1f} times as wide as if the other covariance "
                "parameters were known"
            )
        rows.append(
            [target.estimate, float(lower), float(upper), used, "; ".join(notes)]
        )
    frame = pd.DataFrame(
        rows,
        index=[target.name for target in targets],
        columns=["estimate", "lower", "upper", "method", "note"],
    )
    frame.attrs["condition"] = condition
    return frame


def _undefined(results: Any, target: CovarianceParameter) -> bool:
    """Whether a correlation has no meaning because a variance is zero."""
    if target.kind != "corr":
        return False
    spread = np.diag(results._z_map)[: results.k_re] ** 2
    relative = np.diag(results.cov_re_unscaled) / np.where(spread > 0.0, spread, 1.0)
    return bool(min(relative[target.i], relative[target.j]) < 1e-8)
