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
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.interpolate import PchipInterpolator

from mixedar._lazy import load
from mixedar._types import FloatArray
from mixedar.engine.newton import newton
from mixedar.engine.problem import ThetaEvaluation
from mixedar.exceptions import NotComputedError, UnsupportedError, check_alpha
from mixedar.fit import Fit
from mixedar.fit.parameters import CovarianceParameter, parameters_of, select
from mixedar.inference.constrained import ConstrainedLikelihood, starts_of
from mixedar.summary import ResultFrame

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

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> profile = fit.profile("rho")
    >>> bool(profile.estimate == fit.rho)
    True
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

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> fit.profile("rho").to_frame().columns.tolist()
        ['value', 'zeta', 'llf']
        """
        columns = {"value": self.grid, "zeta": self.zeta, "llf": self.likelihood}
        return ResultFrame(columns)

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

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> lower, upper = fit.profile("rho").conf_int(alpha=0.1)
        >>> bool(lower < fit.rho < upper)
        True
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

    def plot(self, ax: Any = None, alpha: float = 0.05) -> Any:
        """
        Zeta and log-likelihood by the value of the parameter.

        Parameters
        ----------
        ax : matplotlib Axes, or sequence of two, optional
            One for zeta alone, or one for each; a new figure with both by default.
        alpha : float
            Level of the interval that is marked.

        Returns
        -------
        matplotlib.axes.Axes, or ndarray of them, shape (2,)
            `ax`, if it is given.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> axes = fit.profile("rho").plot()
        >>> len(axes)
        2
        """
        return load("mixedar.plotting.coefficients", "plot_profile")(self, ax, alpha)


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


# Beyond this rise above the reported maximum the fit has missed a higher one.
_HIGHER = 1e-5


@dataclass(frozen=True)
class PathNode:
    """
    The likelihood maximised over everything but one parameter.

    Attributes
    ----------
    t : float
        Path coordinate.
    x : ndarray
        Free coordinates.
    llf : float
    slope : float
        Derivative of the profile by `t`.
    tangent : ndarray
        Derivative of `x` by `t`.
    converged : bool
    """

    t: float
    x: FloatArray
    llf: float
    slope: float
    tangent: FloatArray
    converged: bool


class ProfilePath:
    """
    The profile likelihood along one parameter, by warm starts.

    Parameters
    ----------
    fit : Fit
    parameter : CovarianceParameter

    Attributes
    ----------
    center : float
        Path coordinate of the estimate.
    nodes : dict
        Points found so far by path coordinate.
    floor : float
        The profile does not fall below.
    higher : float
        The highest log-likelihood met, if above that of the fit.
    """

    def __init__(self, fit: Fit, parameter: CovarianceParameter) -> None:
        self.fit, self.parameter, self.llf = fit, parameter, fit.llf
        self.nodes: dict[float, PathNode] = {}
        self.higher = -np.inf
        self.likelihood = ConstrainedLikelihood(fit, parameter)
        center = parameter.coordinate(parameter.estimate)
        self.center = float(np.clip(center, *parameter.limits))
        starts = starts_of(fit)
        x, *self._others = [self.likelihood.start(one) for one in starts]
        self.natural = natural = self.likelihood.natural(starts[0].s)
        self._metric = np.diag(natural)
        lead = self.likelihood.lead
        if parameter.path == "cov" and x[lead] < 1e-4 * natural[lead]:
            # a covariance needs variances to begin with
            x[lead] = 1e-2 * natural[lead]
        with suppress(np.linalg.LinAlgError):
            here = self.likelihood.evaluate(x, self.center)
            self._metric = here.round_coordinates(natural)
        self.nodes[self.center] = self._maximise(x, self.center)
        self.floor = self._without_variance()

    def _without_variance(self) -> float:
        """
        For a correlation, the likelihood where one of the variances is zero.

        Every correlation is as good there: the profile never falls below.
        """
        if self.parameter.kind != "corr":
            return -np.inf
        found = [-np.inf]
        for k in (self.parameter.i, self.parameter.j):
            zero = replace(self.parameter, kind="sd", i=k, j=k, estimate=0.0)
            with suppress(np.linalg.LinAlgError):
                path = ProfilePath(self.fit, zero)
                found.append(path.nodes[path.center].llf)
        return max(found)

    @cached_property
    def standard_error(self) -> float:
        """A standard error of the path coordinate, from the profile's curvature."""
        step = -1e-3 if self.center >= self.parameter.limits[1] - 1e-3 else 1e-3
        try:
            other = self.node(self.center + step)
        except np.linalg.LinAlgError:
            return 1.0
        curvature = abs((other.slope - self.nodes[self.center].slope) / step)
        return 1.0 / np.sqrt(max(curvature, 1e-12))

    def _maximise(self, x: FloatArray, t: float) -> PathNode:
        """Maximum over the free coordinates, from a warm start."""
        metric, x = self._metric, self.likelihood.usable(x, t)

        def evaluate(z: FloatArray) -> ThetaEvaluation:
            point = self.likelihood.evaluate(x + metric @ z, t)
            if not np.isfinite(point.llf) or not np.isfinite(point.hessian).all():
                raise np.linalg.LinAlgError("the likelihood is not finite")
            return ThetaEvaluation(
                point.llf, metric.T @ point.gradient, metric.T @ point.hessian @ metric
            )

        search = newton(evaluate, np.zeros(len(x)), gtol=1e-9, polish=False)
        best = x + metric @ search.theta
        point = self.likelihood.evaluate(best, t)
        inner = metric.T @ point.hessian @ metric
        values, vectors = np.linalg.eigh(-inner) if len(x) else (x, np.eye(0))
        safe = np.where(values > 1e-6 * np.abs(values).max(initial=1.0), values, np.inf)
        tangent = metric @ (vectors @ ((vectors.T @ metric.T @ point.cross) / safe))
        good = search.converged or search.decrement < 1e-5
        return PathNode(t, best, point.llf, point.slope, tangent, good)

    def node(self, t: float) -> PathNode:
        """The profile at a path coordinate; LinAlgError without a likelihood."""
        if t in self.nodes:
            return self.nodes[t]
        near = min(self.nodes.values(), key=lambda node: abs(node.t - t))
        found: list[PathNode] = []
        ahead = near.x + (t - near.t) * near.tangent
        for x in (ahead, near.x, self.nodes[self.center].x):
            with suppress(np.linalg.LinAlgError):
                found.append(self._maximise(x, t))
                if found[-1].converged:
                    break
        for x in self._others:
            with suppress(np.linalg.LinAlgError):
                found.append(self._maximise(x, t))
        if not found:
            raise np.linalg.LinAlgError(f"no likelihood at {t:g}")
        best = max(found, key=lambda node: node.llf)
        if best.llf < self.floor:
            best = replace(best, llf=self.floor, slope=0.0, converged=True)
        if best.llf > self.llf + _HIGHER:
            self.higher = max(self.higher, best.llf)
        self.nodes[t] = best
        return best

    def zeta(self, t: float) -> float:
        """Signed root of twice the fall of the log-likelihood."""
        fall = 2.0 * max(self.llf - self.node(t).llf, 0.0)
        return float(np.sign(t - self.center) * np.sqrt(fall))

    def zeta_or_nan(self, t: float) -> float:
        """The same, NaN where there is no likelihood."""
        try:
            return self.zeta(t)
        except np.linalg.LinAlgError:
            return np.nan

    def end(self, level: float, side: float) -> tuple[float, bool]:
        """
        Where zeta has risen to a level, below (side -1) or above the maximum.

        False with the end of the range if the profile has not fallen enough there.
        """
        unit = self.standard_error  # roughly how far one unit of zeta is
        limit = self.parameter.limits[0 if side < 0.0 else 1]
        room = abs(limit - self.center)
        if room <= 1e-9 * max(abs(self.center), 1e-300) or room == 0.0:
            return self.center, False
        if 2.0 * (self.llf - self.floor) < level**2:
            return limit, False
        # distance a > 0 from the center; zeta(inside) < level <= zeta(outside)
        inside, outside, reached = 0.0, np.inf, 0.0
        distance = min(level * unit, room)
        for attempt in range(80):
            try:
                height = abs(self.zeta(self.center + side * distance))
            except np.linalg.LinAlgError:
                outside = distance
                distance = 0.5 * (inside + distance)
                if distance - inside < 1e-10 * max(distance, 1e-300):
                    break
                continue
            t = self.center + side * distance
            if abs(height - level) < 1e-6:
                return t, True
            if height < level:
                inside, reached = distance, height
                if distance >= room:
                    return limit, False
            else:
                outside = distance
            slope = abs(self.node(t).slope) / height if height > 1e-3 else 0.0
            step = (level - height) / slope if slope > 0.0 else np.inf
            proposal = distance + step
            most = min(4.0 * max(distance, 1e-300), room)
            if np.isinf(outside):
                distance = float(np.clip(proposal, 1.2 * distance, most))
                distance = min(distance, room)
                if distance > 1e8 * unit:
                    break
            else:
                width = outside - inside
                if width < 1e-10 * max(outside, 1e-300):
                    break
                distance = proposal
                if not inside < proposal < outside or attempt % 6 == 5:
                    distance = inside + 0.5 * width
        if np.isinf(outside):
            return limit, False
        t = self.center + side * inside
        return t, abs(reached - level) < 1e-2


class ProfileEngine:
    """
    Profiles of one fit; parameters on one path share their nodes.

    Parameters
    ----------
    fit : Fit
    points : int
        About the number of nodes on either side of an estimate.
    """

    def __init__(self, fit: Fit, points: int = _POINTS) -> None:
        fit.data  # noqa: B018  raises if they were removed
        self.fit, self.parameters, self.points = fit, parameters_of(fit), points
        self._paths: dict[tuple[str, int, int], ProfilePath] = {}

    def path(self, parameter: CovarianceParameter) -> ProfilePath:
        """The path of a parameter; an error says why there is none."""
        if parameter.held:
            raise NotComputedError(f"{parameter.name!r} is {parameter.held}")
        key = (parameter.path, parameter.i, parameter.j)
        if key not in self._paths:
            try:
                self._paths[key] = ProfilePath(self.fit, parameter)
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
        notes = _notes(path, [low[1], high[1]], level)
        return _at(parameter, *low, 0), _at(parameter, *high, 1), notes

    def _refined(self, path: ProfilePath, nodes: list[float]) -> list[float]:
        """Nodes with others between them where zeta rises fast."""
        out, step = list(nodes), _STEP * _POINTS / self.points
        zeta = [path.zeta_or_nan(t) for t in out]
        for _ in range(self.points):
            gaps = np.abs(np.diff(zeta))
            gaps[np.isnan(gaps)] = 0.0
            k = int(np.argmax(gaps)) if len(gaps) else 0
            if not len(gaps) or gaps[k] < step:
                break
            middle = 0.5 * (out[k] + out[k + 1])
            out.insert(k + 1, middle)
            zeta.insert(k + 1, path.zeta_or_nan(middle))
        return out

    def profile(self, parameter: CovarianceParameter) -> Profile:
        """The profile on a grid; see :func:`profile_likelihood`."""
        path = self.path(parameter)
        places = {path.center}
        level = float(stats.norm.isf(0.025))
        reached = []
        for side in (-1.0, 1.0):
            inner, found = path.end(level, side)
            stop, _ = path.end(3.3, side)
            reached.append(found)
            places.add(inner)
            if np.isinf(stop):
                far = [t for t in path.nodes if (t - path.center) * side > 0.0]
                stop = max(far, key=lambda t: side * t) if far else path.center
            nodes = np.linspace(path.center, stop, self.points + 1)
            places.update(nodes[1:].tolist())
        rows = []
        for t in self._refined(path, sorted(filter(np.isfinite, places))):
            zeta = path.zeta_or_nan(t)
            if np.isnan(zeta):
                continue
            node, speed = path.node(t), parameter.slope(t)
            ratio = -node.slope / (zeta * speed) if zeta * speed != 0.0 else np.nan
            rows.append([parameter.value(t), zeta, node.llf, ratio])
        grid, zeta, llf, slope = np.array(rows).T
        low, high = (
            _at(parameter, limit, False, side)
            for side, limit in enumerate(parameter.limits)
        )
        notes = _notes(path, reached, level)
        curve = grid, zeta, llf, self.fit.llf, slope, (low, high), "; ".join(notes)
        return Profile(parameter.name, parameter.estimate, *curve)


def _at(parameter: CovarianceParameter, t: float, reached: bool, side: int) -> float:
    """The parameter at an end of a path (0, 1); its whole range where that ends."""
    if reached:
        return parameter.value(t)
    if parameter.kind == "residual":
        return parameter.range[side]
    if np.isinf(t):
        return 0.0 if parameter.path == "sigma" and t < 0.0 else t
    return parameter.value(t)


def _notes(path: ProfilePath, reached: list[bool], level: float) -> list[str]:
    """What is special about an interval whose ends were reached, or not."""
    low, high = reached
    parameter, notes = path.parameter, []
    edge = {"sd": "zero", "corr": "one", "residual": "the end of its range"}
    room = [abs(path.center - limit) for limit in parameter.limits]
    at_low, at_high = room[0] < 1e-6, room[1] < 1e-6
    if parameter.path == "sd":
        at_low = room[0] < 1e-4 * path.natural.min(initial=1.0)
    if at_low or at_high:
        where = edge.get(parameter.path, "the boundary")
        if parameter.alike and parameter.path == "corr" and at_low:
            where = "the lower end of its range"
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

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> profile = fit.profile("rho")
    >>> lower, upper = profile.conf_int(alpha=0.1)
    >>> bool(lower < fit.rho < upper)
    True
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
    return all_profiles(engine)


def all_profiles(engine: ProfileEngine) -> list[Profile]:
    """Profiles of all parameters that have one; an error if there is none."""
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
