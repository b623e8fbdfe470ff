"""
How flat the likelihood of a fit is around its estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.search import find_modes
from mixedar.exceptions import MixedARError
from mixedar.fit import Fit
from mixedar.inference.intervals.wald import conf_int_re, inflation
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


def flatness(fit: Fit) -> Flatness:
    """How flat the likelihood of a fit is."""
    widened, condition = inflation(fit)
    names = [*fit.names[fit.k_fe :], "scale"]
    widened = {name: widened[name] for name in names if name in widened}
    intervals = _intervals(fit)
    return Flatness(
        condition if widened else np.nan,
        widened,
        _correlated(fit, names),
        intervals,
        _across_gap(fit, intervals),
        _rivals(fit),
    )


def _cheap(fit: Fit) -> bool:
    return len(fit.data.compressed.w) <= _CHEAP


def _correlated(fit: Fit, names: list[str]) -> tuple[str, str, float]:
    cov = fit.estimate.cov_theta
    there = np.flatnonzero(np.nan_to_num(np.diag(cov)) > 0.0)
    if len(there) < 2:
        return "", "", 0.0
    size = np.sqrt(np.diag(cov)[there])
    r = np.tril(cov[np.ix_(there, there)] / np.outer(size, size), -1)
    i, j = np.unravel_index(int(np.argmax(np.abs(r))), r.shape)
    return names[there[j]], names[there[i]], float(r[i, j])


def _intervals(fit: Fit) -> pd.DataFrame:
    columns, structure = ["estimate", "lower", "upper"], fit.structure
    if structure.k_free == 0:
        return pd.DataFrame(columns=columns, dtype=float)
    method = "profile" if _cheap(fit) else "wald"
    frame = conf_int_re(fit, method, parameters=list(structure.param_names))
    return frame[columns].astype(float)


def _across_gap(fit: Fit, intervals: pd.DataFrame) -> pd.DataFrame:
    gaps, structure = fit.data.grouped.gaps, fit.structure
    plain = structure.uses_time and not structure.marks
    if len(intervals) != 1 or not plain or not (gaps > 0.0).any():
        return pd.DataFrame(columns=list(intervals.columns), dtype=float)
    gap = float(np.median(gaps[gaps > 0.0]))
    values = [_correlation(structure, gap, value) for value in intervals.to_numpy()[0]]
    return pd.DataFrame([values], index=[gap], columns=list(intervals.columns))


def _correlation(structure: ResidualStructure, gap: float, value: float) -> float:
    """Correlation of residuals a gap apart at a value of the one parameter."""
    if not np.isfinite(value):
        return np.nan
    times = np.array([0.0, gap])
    return float(structure.correlation(times, np.array([value]))[0, 1])


def _rivals(fit: Fit) -> dict[str, float]:
    """Falls of the log-likelihood without serial correlation, effects, or both."""
    if not fit.structure.k_free or not fit.k_re or not _cheap(fit):
        return {}
    if fit.structure.marks:  # variances of strata have no simpler rival
        return {}
    layout, names = fit.layout, fit.data.random_names
    # of several random effects the first stays: it is the intercept as a rule
    keep = min(fit.k_re - 1, 1)
    plain = resolve("independent")
    serial = f"{fit.structure.label} correlation"
    effects = "the random effect" + ("s " if fit.k_re - keep > 1 else " ")
    effects += " and ".join(repr(name) for name in names[keep:])
    rows, fewer = fit.data.compressed, _first_effects(layout, keep)
    columns = np.r_[0:keep, layout.k_re : layout.order]
    small = ClusterRows(
        rows.z[:, columns], rows.w, rows.gaps, rows.offsets, rows.weights
    )
    models = {
        serial: (rows, plain, layout),
        effects: (small, fit.structure, fewer),
        f"{serial} and {effects}": (small, plain, fewer),
    }
    out = {}
    for name, (data, structure, covariance) in models.items():
        try:
            problem = LikelihoodProblem(
                data, fit.nobs, structure, covariance, reml=fit.reml
            )
            best = find_modes(problem)[0].estimate.llf
        except (np.linalg.LinAlgError, MixedARError):
            continue
        out[name] = max(fit.llf - best, 0.0)
    return out


def _first_effects(layout: RandomCovariance, keep: int) -> RandomCovariance:
    """The layout with the first random effects only, and all components."""
    count = len(layout.tril[0])
    stays = (layout.tril[0] < keep) & (layout.tril[1] < keep)
    fixed = np.concatenate([layout.fixed[:count][stays], layout.fixed[count:]])
    return replace(layout, k_re=keep, fixed=fixed)
