"""
How well the likelihood tells the covariance parameters of a fit apart.

Random slopes and serial correlation both make neighbours in time alike, so
that one can stand in for the other: the likelihood is then a ridge.  Its
curvature says how much wider intervals are for not knowing the other
parameters; the profile, how long the ridge is; and models without one of the
rivals, whether the data need both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.compress import ClusterRows
from mixedar.covariance import RandomCovariance
from mixedar.exceptions import MixedARError
from mixedar.inference.intervals import conf_int_re
from mixedar.inference.surface import problem_of
from mixedar.inference.wald_intervals import flatness as inflation_of
from mixedar.optimize import find_modes
from mixedar.problem import LikelihoodProblem
from mixedar.residual import ResidualStructure, resolve

__all__ = ["Flatness", "flatness"]

FloatArray = NDArray[np.float64]

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
    problem_of(results)
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
