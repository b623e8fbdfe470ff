"""
Profile likelihoods of covariance parameters.

References
----------
Bates, D. M. and Watts, D. G. (1988), Nonlinear Regression Analysis and Its
Applications, Wiley, section 6.1.

Venzon, D. J. and Moolgavkar, S. H. (1988), A method for computing
profile-likelihood-based confidence intervals, Applied Statistics 37, 87-94.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.interpolate import PchipInterpolator

from mixedar._lazy import load
from mixedar._types import FloatArray
from mixedar.exceptions import NotComputedError, UnsupportedError, check_alpha
from mixedar.fit import Fit
from mixedar.fit.parameters import CovarianceParameter, parameters_of, select
from mixedar.inference.intervals.profile_path import ProfilePath, starts_of

_POINTS = 12  # nodes on either side of the estimate
_STEP = 0.5  # more of them where zeta changes faster than this


@dataclass(frozen=True)
class Profile:
    """
    The likelihood maximised over all parameters but one.

    Attributes
    ----------
    parameter : str
    estimate : float
    grid : ndarray, shape (k,)
        Values of the parameter, increasing.
    zeta : ndarray, shape (k,)
        Signed root of twice the fall of the log-likelihood: standard normal at
        the true value in large samples, a straight line if the log-
        likelihood is quadratic.
    likelihood : ndarray, shape (k,)
        Maximised (restricted) log-likelihood.
    llf : float
        Its maximum.
    slope : ndarray, shape (k,)
        Derivative of `zeta` by the value; NaN where there is none.
    limits : tuple of float
        Ends of the parameter's range.
    note : str
        What is special: an end of the range within the grid, a higher maximum.
    """

    parameter: str
    estimate: float
    grid: FloatArray
    zeta: FloatArray
    likelihood: FloatArray
    llf: float
    slope: FloatArray
    limits: tuple[float, float]
    note: str

    def to_frame(self) -> pd.DataFrame:
        """
        The grid as a table.

        Returns
        -------
        DataFrame
            Columns ``value``, ``zeta`` and ``llf``.
        """
        return pd.DataFrame(
            {"value": self.grid, "zeta": self.zeta, "llf": self.likelihood}
        )

    def conf_int(self, alpha: float = 0.05) -> FloatArray:
        """
        Interval by inverting the likelihood-ratio test.

        Interpolates zeta; the nodes of the 95 % interval are exact.

        Parameters
        ----------
        alpha : float
            1 - coverage.

        Returns
        -------
        ndarray, shape (2,)
            An end of the parameter's range where the profile does not fall
            enough.

        Raises
        ------
        UnsupportedError
            If `alpha` is no probability, or so small that the grid ends before.
        """
        level = float(stats.norm.isf(check_alpha(alpha) / 2.0))
        ends = []
        for side, limit in ((-1.0, self.limits[0]), (1.0, self.limits[1])):
            here = side * self.zeta >= 0.0
            height, value = side * self.zeta[here], self.grid[here]
            order = np.argsort(height)
            if len(order) == 0 or height[order[-1]] < level - 1e-6:
                edge = self.estimate
                if len(order):
                    edge = value.min() if side < 0.0 else value.max()
                scale = 1e-3 * max(abs(limit), abs(self.estimate), 1e-300)
                if np.isfinite(limit) and abs(edge - limit) > scale:
                    raise UnsupportedError(
                        f"alpha={alpha:g} lies beyond the grid of this profile; ask "
                        "conf_int_re(method='profile') for it"
                    )
                ends.append(limit)
                continue
            ends.append(_inverse(height[order], value[order], level))
        return np.array(ends)

    def plot(self, axes: Any = None, alpha: float = 0.05) -> Any:
        """
        Zeta and log-likelihood by the value of the parameter.

        Parameters
        ----------
        axes : sequence of two matplotlib Axes, optional
        alpha : float
            Level of the interval that is marked.

        Returns
        -------
        ndarray of matplotlib Axes, shape (2,)
        """
        return load("mixedar.plotting.coefficients", "plot_profile")(self, axes, alpha)


def _inverse(height: FloatArray, value: FloatArray, level: float) -> float:
    """Value at a height between nodes, piecewise linear near repeated heights."""
    keep = np.concatenate([[True], np.diff(height) > 1e-9])
    height, value = height[keep], value[keep]
    k = int(np.searchsorted(height, level - 1e-6))
    if k < len(height) and abs(height[k] - level) < 1e-6:
        return float(value[k])
    if len(height) < 3:
        return float(np.interp(level, height, value))
    # monotone: where the profile bends sharply, other cubics leave their nodes
    return float(PchipInterpolator(height, value)(level))


class ProfileEngine:
    """Profiles of one fit; parameters on one path share their nodes."""

    def __init__(self, fit: Fit) -> None:
        self.fit, self.parameters = fit, parameters_of(fit)
        self._problem = fit.problem
        self._starts = starts_of(fit)
        self._paths: dict[tuple[str, int, int], ProfilePath] = {}

    def path(self, parameter: CovarianceParameter) -> ProfilePath:
        """The path of a parameter; an error says why there is none."""
        if parameter.held:
            raise NotComputedError(f"{parameter.name!r} is {parameter.held}")
        key = (parameter.path, parameter.i, parameter.j)
        if key not in self._paths:
            try:
                self._paths[key] = ProfilePath(
                    self._problem,
                    self.fit.layout.fixed,
                    parameter,
                    self._starts,
                    self.fit.llf,
                )
            except np.linalg.LinAlgError as error:
                raise NotComputedError(
                    f"the profile of {parameter.name!r} cannot begin: {error}"
                ) from error
        return self._paths[key]

    def interval(
        self, parameter: CovarianceParameter, alpha: float
    ) -> tuple[float, float, list[str]]:
        """Lower and upper end, and notes on why an end is one of the range."""
        path = self.path(parameter)
        level = float(stats.norm.isf(alpha / 2.0))
        low, high = path.end(level, -1.0), path.end(level, 1.0)
        notes = _notes(parameter, path, low.reached, high.reached, level)
        lower = _at(parameter, low.t, low.reached)
        return lower, _at(parameter, high.t, high.reached), notes

    def _refined(self, path: ProfilePath, nodes: list[float]) -> list[float]:
        """Nodes with others between them where zeta rises fast."""
        out = list(nodes)
        zeta = [_zeta_at(path, t) for t in out]
        for _ in range(_POINTS):
            gaps = np.abs(np.diff(zeta))
            gaps[np.isnan(gaps)] = 0.0
            k = int(np.argmax(gaps)) if len(gaps) else 0
            if not len(gaps) or gaps[k] < _STEP:
                break
            middle = 0.5 * (out[k] + out[k + 1])
            out.insert(k + 1, middle)
            zeta.insert(k + 1, _zeta_at(path, middle))
        return out

    def profile(self, parameter: CovarianceParameter) -> Profile:
        """The profile on a grid; see :func:`profile_likelihood`."""
        path = self.path(parameter)
        places = {path.center}
        level = float(stats.norm.isf(0.025))
        reached = []
        for side in (-1.0, 1.0):
            inner = path.end(level, side)
            outer = path.end(3.3, side)
            reached.append(inner.reached)
            places.add(inner.t)
            stop = outer.t
            if np.isinf(stop):
                far = [t for t in path.nodes if (t - path.center) * side > 0.0]
                stop = max(far, key=lambda t: side * t) if far else path.center
            places.update(np.linspace(path.center, stop, _POINTS + 1)[1:].tolist())
        rows = []
        for t in self._refined(path, sorted(m for m in places if np.isfinite(m))):
            try:
                node = path.node(t)
            except np.linalg.LinAlgError:
                continue
            zeta = path.zeta(t)
            speed = parameter.slope(t)
            ratio = -node.slope / (zeta * speed) if zeta * speed != 0.0 else np.nan
            rows.append([parameter.value(t), zeta, node.llf, ratio])
        grid, zeta, llf, slope = np.array(rows).T
        low, high = (_at(parameter, limit, False) for limit in parameter.limits)
        notes = _notes(parameter, path, reached[0], reached[1], level)
        return Profile(
            parameter.name,
            parameter.estimate,
            grid,
            zeta,
            llf,
            self.fit.llf,
            slope,
            (low, high),
            "; ".join(notes),
        )


def _zeta_at(path: ProfilePath, t: float) -> float:
    try:
        path.node(t)
    except np.linalg.LinAlgError:
        return np.nan
    return path.zeta(t)


def _at(parameter: CovarianceParameter, t: float, reached: bool) -> float:
    """The parameter at the end of a path; its whole range where that ends."""
    if reached:
        return parameter.value(t)
    if parameter.kind == "residual":
        low, high = parameter.limits
        side = -1e3 if abs(t - low) <= abs(t - high) else 1e3
        return parameter.value(side)
    if np.isinf(t):
        return 0.0 if parameter.path == "sigma" and t < 0.0 else t
    return parameter.value(t)


def _notes(
    parameter: CovarianceParameter,
    path: ProfilePath,
    low: bool,
    high: bool,
    level: float,
) -> list[str]:
    notes = []
    edge = {"sd": "zero", "corr": "one", "residual": "the end of its range"}
    room = [abs(path.center - limit) for limit in parameter.limits]
    at_low, at_high = room[0] < 1e-6, room[1] < 1e-6
    if parameter.path == "sd":
        at_low = room[0] < 1e-4 * path.likelihood.natural(path.starts[0].s).min(
            initial=1.0
        )
    if at_low or at_high:
        where = edge.get(parameter.path, "the boundary")
        notes.append(f"one-sided: the estimate lies on the boundary ({where})")
    if len(parameter.others_at_end):
        notes.append("residual parameters at the end of their range count as known")
    if 2.0 * (path.llf - path.floor) < level**2:
        notes.append(
            "a variance of zero is not rejected, and with it no correlation is"
        )
        low = high = True
    if not low and not at_low:
        what = "zero" if parameter.path == "sd" else "the lower end of the range"
        notes.append(f"{what} is not rejected: the likelihood falls too little")
    if not high and not at_high:
        notes.append(
            "the upper end of the range is not rejected: the likelihood falls too "
            "little"
        )
    if np.isfinite(path.higher):
        notes.append(
            f"a higher maximum was met ({path.higher:.6f}): fit again from other starts"
        )
    if any(not node.converged for node in path.nodes.values()):
        notes.append("some constrained maxima are approximate")
    return notes


def profile_likelihood(fit: Fit, parameter: str) -> Profile:
    """
    Profile likelihood of a covariance parameter.

    Everything else, fixed effects and residual variance included, is maximised
    again at each value, by Newton's method with analytic derivatives from the
    solution before.

    Parameters
    ----------
    fit : Fit
    parameter : str
        A name from ``conf_int_re().index``, such as ``"rho"``, ``"sigma"`` or
        ``"sd(id)"``.

    Returns
    -------
    Profile

    Raises
    ------
    UnknownColumnError
        If there is no such parameter.
    NotComputedError
        If it is held, or the data were removed.
    """
    engine = ProfileEngine(fit)
    (one,) = select(engine.parameters, str(parameter))
    return engine.profile(one)


def profiles(fit: Fit, parameters: str | Iterable[str] | None = None) -> list[Profile]:
    """
    Profiles of several covariance parameters.

    Parameters
    ----------
    fit : Fit
    parameters : str or iterable of str, optional
        Standard deviations, correlations and residual parameters by default, as
        far as they can be profiled.

    Returns
    -------
    list of Profile

    Raises
    ------
    UnknownColumnError
        For a parameter that the model has not.
    NotComputedError
        If a parameter that is named cannot be profiled, or none can.
    """
    engine = ProfileEngine(fit)
    if parameters is not None:
        return [engine.profile(one) for one in select(engine.parameters, parameters)]
    found, refused = [], []
    for parameter in engine.parameters:
        if parameter.kind not in ("sd", "corr", "residual", "sigma"):
            continue
        try:
            found.append(engine.profile(parameter))
        except NotComputedError as error:
            refused.append(str(error))
    if not found:
        raise NotComputedError("no profile to draw: " + "; ".join(refused))
    return found
