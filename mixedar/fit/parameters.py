"""
The covariance parameters of a fit, one by one, by the names users know.

Of each its range, its standard error, and a normal interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy.special import expit, logit

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import UnknownColumnError
from mixedar.fit.fit import Fit
from mixedar.numeric.autodiff import Jet, variables
from mixedar.residual.base import Link, Parametric

# Fisher's z of a correlation that is one to rounding, and how far the logarithm of
# what counts for nothing, or alone, beside the estimate is from there.
_COUPLED_ENDS: dict[Link, float] = {"correlation": 9.0, "log": 12.0}
# An unconstrained residual parameter at which all are at the end of their range.
_FAR = 1e3

Kind = Literal["sd", "variance", "cov", "corr", "residual", "sigma", "scale"]


@dataclass(frozen=True)
class CovarianceParameter:
    """
    One covariance parameter.

    Attributes
    ----------
    name : str
    kind : str
        ``"sd"`` and ``"variance"`` of a random effect or a variance component,
        ``"cov"`` and ``"corr"`` of two random effects, ``"residual"``, and the
        residual's ``"sigma"`` and ``"scale"``.
    i, j : int
        Which random effects, counted with the variance components after
        them; or which residual parameter.
    estimate : float
    held : str
        Why it is not estimated; empty if it is.
    u : ndarray
        Unconstrained residual parameters of the fit, and of what relates levels.
    structure : Parametric
        All of these.
    alike : int
        How many random effects share it with one another (compound symmetry), or 0.
    """

    name: str
    kind: Kind
    i: int
    j: int
    estimate: float
    held: str
    u: FloatArray
    structure: Parametric
    alike: int = 0

    @property
    def path(self) -> Literal["sd", "cov", "corr", "residual", "sigma"]:
        """The path coordinate it shares with its square or root."""
        if self.kind == "variance":
            return "sd"
        return "sigma" if self.kind == "scale" else self.kind

    @cached_property
    def _slopes(self) -> FloatArray:
        """Derivatives of the residual parameter by the unconstrained ones."""
        return self.structure.natural(self.u).first[:, self.j]

    @cached_property
    def at(self) -> int:
        """The unconstrained coordinate that moves the residual parameter most."""
        if self._outside(self.u):  # where nothing moves it any more
            return int(self.structure.is_free[: self.j].sum())
        return int(np.argmax(np.abs(self._slopes)))

    @cached_property
    def coupled(self) -> bool:
        """Whether the residual parameter depends on several coordinates."""
        if self.kind != "residual" or self._outside(self.u):
            return False
        return int(np.count_nonzero(self._slopes)) > 1

    @cached_property
    def others_at_end(self) -> IntArray:
        """Unconstrained coordinates of other parameters at an end of their range."""
        ends = self.structure.at_end(self.structure.from_unconstrained(self.u))
        if self.kind == "residual":
            ends[self.j] = False
        return np.flatnonzero(ends[self.structure.is_free])

    def _outside(self, u: FloatArray) -> bool:
        """Whether the structure says that the parameter is at an end."""
        params = self.structure.from_unconstrained(u)
        return bool(self.structure.at_end(params)[self.j])

    @property
    def link(self) -> Link:
        """Scale on which the residual parameter is roughly normal."""
        return self.structure.links[self.j]

    @property
    def range(self) -> tuple[float, float]:
        """Ends of the residual parameter's range, or infinity."""
        if not self.coupled:
            return self.value(-_FAR), self.value(_FAR)
        return {
            "correlation": (-1.0, 1.0),
            "share": (0.0, 1.0),
            "log": (0.0, np.inf),
            "identity": (-np.inf, np.inf),
        }[self.link]

    def _moved(self, t: float) -> FloatArray:
        u = self.u.copy()
        u[self.at] = t
        return u

    def jet(self, t: Jet) -> Jet:
        """
        The parameter by a path coordinate.

        Paths run along standard deviations, covariances, the angle whose sine
        is a correlation, unconstrained residual parameters, and the logarithm of
        sigma: the ends of the range are ordinary points there.  The correlation that
        k effects share is at least ``-1 / (k - 1)``; the sine of its angle is the
        square root of how far it is from there.
        """
        if self.kind == "variance":
            return t * t
        if self.kind == "corr":
            sine = np.sin(t)
            return sine if not self.alike else self._from_share(sine * sine)
        if self.kind in ("sigma", "scale"):
            return np.exp(t * (1.0 if self.kind == "sigma" else 2.0))
        if self.kind != "residual":
            return t
        if self.coupled:
            scale: dict[Link, Any] = {"correlation": np.tanh, "log": np.exp}
            return scale.get(self.link, lambda t: t)(t)
        at = self.at
        found = self.structure.natural(self._moved(float(t.value)))[self.j]
        return t.map(found.value, found.first[at], found.second[at, at])

    def _from_share(self, share: Any) -> Any:
        """A correlation that effects share from how far up its range it is."""
        return (self.alike * share - 1.0) / (self.alike - 1.0)

    def share(self, value: float) -> float:
        """How far up its range a correlation is that effects share, 0 to 1."""
        return (1.0 + (self.alike - 1.0) * value) / self.alike

    def value(self, t: float) -> float:
        """The parameter at a path coordinate."""
        return float(self.jet(variables(np.array([t]))[0]).value)

    def slope(self, t: float) -> float:
        """Derivative of :meth:`value`."""
        return float(self.jet(variables(np.array([t]))[0]).first[0])

    def coordinate(self, value: float) -> float:
        """Path coordinate of a value of the parameter."""
        if self.kind == "variance":
            return float(np.sqrt(value))
        if self.kind == "corr" and self.alike:
            return float(np.arcsin(np.sqrt(np.clip(self.share(value), 0.0, 1.0))))
        if self.kind == "corr":
            return float(np.arcsin(np.clip(value, -1.0, 1.0)))
        if self.kind == "residual":
            if self.coupled:
                scale: dict[Link, Any] = {"correlation": np.arctanh, "log": np.log}
                return float(scale.get(self.link, float)(value))
            params = self.structure.from_unconstrained(self.u)
            params[self.j] = value
            return float(self.structure.to_unconstrained(params)[self.at])
        if self.kind in ("sigma", "scale"):
            return float(np.log(value)) / (1.0 if self.kind == "sigma" else 2.0)
        return float(value)

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Ends of the path, the values beyond which nothing changes."""
        if self.path == "sd":
            return 0.0, np.inf
        if self.kind == "corr":
            return (0.0 if self.alike else -np.pi / 2), np.pi / 2
        if self.kind == "residual":
            if self.coupled:
                center = np.log(self.estimate) if self.link == "log" else 0.0
                end = _COUPLED_ENDS.get(self.link, np.inf)
                return center - end, center + end
            inner = self._inside()
            return self._end(inner, -1.0), self._end(inner, 1.0)
        return -np.inf, np.inf

    def _inside(self) -> float:
        """The nearest coordinate, roughly, at which the parameter is not at an end."""
        here, distance = float(self.u[self.at]), 0.5
        if not self._outside(self.u):
            return here
        here = self.coordinate(self.estimate)  # no further out than it matters
        while distance < _FAR:
            for t in (here - distance, here + distance):
                if not self._outside(self._moved(t)):
                    return t
            distance *= 1.5
        return here

    def _end(self, inner: float, sign: float) -> float:
        """Where the structure says that its parameter is at an end."""

        def outside(t: float) -> bool:
            return self._outside(self._moved(t))

        if outside(inner):
            return inner
        step = 1.0
        while not outside(inner + sign * step) and step < _FAR:
            step *= 2.0
        outer = inner + sign * step
        for _ in range(60):
            middle = 0.5 * (inner + outer)
            if outside(middle):
                outer = middle
            else:
                inner = middle
        return inner


def parameters_of(fit: Fit) -> list[CovarianceParameter]:
    """
    All covariance parameters of a fit.

    Variances and covariances, residual parameters and the residual variance
    under their names in ``params`` (``"scale"`` for the last); then ``sd(...)``,
    ``corr(..., ...)`` and ``sigma``.
    """
    structure, effects = fit.parameters, list(fit.effect_names)
    unseen = np.flatnonzero(fit.unseen_correlations)
    names = list(fit.names[fit.k_fe :])
    rows, columns = fit.layout.effects
    compound = fit.layout.compound
    common = names[0].removesuffix(" Var") if compound else ""
    cov = fit.effect_cov
    variances = np.diag(cov)
    is_held = ~fit.layout.is_free
    first: list[CovarianceParameter] = []
    second: list[CovarianceParameter] = []

    def add(name: str, kind: Kind, i: int, j: int, x: float, held: bool) -> None:
        where = second if kind in ("sd", "corr", "sigma") else first
        why = "not estimated: the likelihood has no maximum" if fit.unbounded else ""
        why = "held, not estimated" if held else why
        if kind == "residual" and j in unseen:
            why = "not estimated: no group tells of it"
        random = kind in ("variance", "sd", "cov", "corr")
        at = fit.layout.k_cov + j if kind == "residual" else -1
        at = fit.layout.entry(i, j) if random else at
        flat = fit.flat.dimension > 0 and bool(fit.flat.params[at])
        if flat or (random and (i in fit.unseen or j in fit.unseen)):
            why = "not estimated: the restricted likelihood does not depend on it"
        where.append(
            CovarianceParameter(
                name,
                kind,
                i,
                j,
                float(x),
                why,
                fit.unconstrained,
                structure,
                fit.k_re if compound and random and i < fit.k_re else 0,
            )
        )

    for k, (a, b) in enumerate(zip(rows, columns, strict=True)):
        i, j, held = int(a), int(b), bool(is_held[k])
        if i == j:
            # a variance is held if the whole row of its factor is
            held = bool(is_held[rows == i].all())
            label = common if compound and i == 0 else effects[i]
            add(names[k], "variance", i, i, variances[i], held)
            add(f"sd({label})", "sd", i, i, np.sqrt(variances[i]), held)
            continue
        root = np.sqrt(variances[i] * variances[j])
        add(names[k], "cov", i, j, cov[i, j], held)
        corr = cov[i, j] / root if root > 0.0 else 0.0
        label = f"{effects[j]}, {effects[i]}"
        label = common if compound and i < fit.k_re else label
        add(f"corr({label})", "corr", i, j, corr, held)
    for k, name in enumerate(names[len(rows) :]):
        held = not bool(structure.is_free[k])
        add(name, "residual", 0, k, fit.estimate.residual_params[k], held)
    add("scale", "scale", 0, 0, fit.scale, fit.scale_known)
    add("sigma", "sigma", 0, 0, np.sqrt(fit.scale), fit.scale_known)
    return first + second


def correlation_columns(fit: Fit) -> list[FloatArray]:
    """Correlations with the first effect of the same block, the second, and so on."""
    cov, orders = fit.effect_cov, fit.layout.blocks
    first = np.repeat(np.cumsum([0, *orders])[:-1], orders)
    deviations = np.sqrt(np.diag(cov))
    out = []
    for j in range(max(orders) - 1):
        column = np.full(len(cov), np.nan)
        for i in range(len(cov)):
            other = first[i] + j
            product = deviations[i] * deviations[other] if other < i else 0.0
            if product > 0.0:
                column[i] = cov[i, other] / product
        out.append(column)
    return out


def select(
    parameters: list[CovarianceParameter], names: str | Iterable[str] | None
) -> list[CovarianceParameter]:
    """
    The parameters of the given names, in their order.

    Raises
    ------
    UnknownColumnError
        If there is no parameter of that name; the message lists them.
    """
    if names is None:
        return parameters
    wanted = [names] if isinstance(names, str) else list(names)
    by_name = {parameter.name: parameter for parameter in parameters}
    for name in wanted:
        if not isinstance(name, str) or name not in by_name:
            near = get_close_matches(str(name), by_name, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise UnknownColumnError(
                f"there is no covariance parameter {name!r}{hint}; there are "
                f"{', '.join(repr(known) for known in by_name)}"
            )
    return [by_name[name] for name in wanted]


# Scales of intervals: there, back, and the slope.
_SCALES: dict[str, tuple[Callable[[float], float], ...]] = {
    "log": (np.log, np.exp, lambda x: 1.0 / x),
    "correlation": (np.arctanh, np.tanh, lambda x: 1.0 / (1.0 - x**2)),
    "share": (logit, expit, lambda x: 1.0 / (x * (1.0 - x))),
    "identity": (float, float, lambda x: 1.0),
}
_LINKS = {"sd": "log", "sigma": "log", "cov": "identity", "corr": "correlation"}


def normal_interval(
    parameter: CovarianceParameter, error: float, z: float, *, named: bool = False
) -> tuple[float, float]:
    """
    An interval that stays inside the parameter space, from a standard error.

    Variances are on the log scale, correlations on Fisher's.  A residual parameter
    that depends on one unconstrained coordinate alone has its interval along that
    (as nlme), others on the scale that the structure names (the delta method);
    `named` prefers that scale, as nlme's ``intervals``.
    """
    value = parameter.estimate
    link = _LINKS.get(parameter.path) or parameter.structure.links[parameter.j]
    alone = parameter.path == "residual" and not parameter.coupled
    if alone and not (named and link != "identity"):
        center = float(parameter.u[parameter.at])
        half = z * error / parameter.slope(center)
        ends = sorted(parameter.value(center + side * half) for side in (-1.0, 1.0))
        return ends[0], ends[1]
    if parameter.kind == "corr" and parameter.alike:  # as nlme's pdCompSymm
        k = parameter.alike
        there, back, slope = _SCALES["share"]
        value = parameter.share(value)
        center, half = there(value), z * error * (k - 1) / k * slope(value)
        low, high = (back(center + side * half) for side in (-1.0, 1.0))
        return (k * low - 1.0) / (k - 1.0), (k * high - 1.0) / (k - 1.0)
    there, back, slope = _SCALES[link]
    center, half = there(value), z * error * slope(value)
    return float(back(center - half)), float(back(center + half))


def standard_error(fit: Fit, parameter: CovarianceParameter, cov: FloatArray) -> float:
    """
    Standard error of a covariance parameter by the delta method.

    `cov` is the covariance of variances and covariances, residual parameters and
    the residual variance, as ``fit.estimate.cov_theta``.
    """
    i, j, layout = parameter.i, parameter.j, fit.layout
    if parameter.kind == "corr":
        where = [layout.entry(*pair) for pair in ((i, j), (i, i), (j, j))]
        variances = np.diag(fit.effect_cov)[[i, j]]
        slopes = -0.5 * parameter.estimate / variances
        gradient = np.array([1.0 / np.sqrt(variances.prod()), *slopes])
    else:
        if parameter.path == "residual":
            at = layout.k_cov + j
        elif parameter.path == "sigma":
            at = len(cov) - 1
        else:
            at = layout.entry(i, j)
        where, gradient = [at], np.ones(1)
        if parameter.kind in ("sd", "sigma"):
            with np.errstate(divide="ignore"):
                gradient = 0.5 / np.array([parameter.estimate])
    with np.errstate(invalid="ignore"):
        return float(np.sqrt(gradient @ cov[np.ix_(where, where)] @ gradient))
