"""
The covariance parameters of a fit, one by one, by the names users know.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.exceptions import UnknownColumnError
from mixedar.residual import ResidualStructure

# Fisher's z of a correlation that is one to rounding.
_COUPLED_END = 9.0

Kind = Literal["sd", "variance", "cov", "corr", "residual", "sigma", "scale"]


@dataclass(frozen=True)
class Target:
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
        Unconstrained residual parameters of the fit.
    structure : ResidualStructure
    """

    name: str
    kind: Kind
    i: int
    j: int
    estimate: float
    held: str
    u: FloatArray
    structure: ResidualStructure

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

    @property
    def at(self) -> int:
        """The unconstrained coordinate that moves the residual parameter most."""
        return int(np.argmax(np.abs(self._slopes)))

    @property
    def coupled(self) -> bool:
        """Whether the residual parameter depends on several coordinates."""
        return self.kind == "residual" and int(np.count_nonzero(self._slopes)) > 1

    @property
    def _fisher(self) -> bool:
        return self.structure.links[self.j] == "correlation"

    def _moved(self, t: float) -> FloatArray:
        u = self.u.copy()
        u[self.at] = t
        return u

    def value(self, t: float) -> float:
        """
        The parameter at a path coordinate.

        Paths run along standard deviations, covariances, the angle whose sine
        is a correlation, unconstrained residual parameters, and the logarithm of
        sigma: the ends of the range are ordinary points there.
        """
        if self.kind == "variance":
            return t * t
        if self.kind == "corr":
            return float(np.sin(t))
        if self.kind == "residual":
            if self.coupled:
                return float(np.tanh(t)) if self._fisher else float(t)
            return float(self.structure.from_unconstrained(self._moved(t))[self.j])
        if self.kind in ("sigma", "scale"):
            return float(np.exp(t if self.kind == "sigma" else 2.0 * t))
        return float(t)

    def slope(self, t: float) -> float:
        """Derivative of :meth:`value`."""
        if self.kind == "variance":
            return 2.0 * t
        if self.kind == "corr":
            return float(np.cos(t))
        if self.kind == "residual":
            if self.coupled:
                return 1.0 - self.value(t) ** 2 if self._fisher else 1.0
            natural = self.structure.natural(self._moved(t))
            return float(natural.first[self.at, self.j])
        if self.kind in ("sigma", "scale"):
            return self.value(t) * (1.0 if self.kind == "sigma" else 2.0)
        return 1.0

    def coordinate(self, value: float) -> float:
        """Path coordinate of a value of the parameter."""
        if self.kind == "variance":
            return float(np.sqrt(value))
        if self.kind == "corr":
            return float(np.arcsin(np.clip(value, -1.0, 1.0)))
        if self.kind == "residual":
            if self.coupled:
                return float(np.arctanh(value)) if self._fisher else float(value)
            params = self.structure.from_unconstrained(self.u)
            params[self.j] = value
            return float(self.structure.to_unconstrained(params)[self.at])
        if self.kind in ("sigma", "scale"):
            return float(np.log(value)) / (1.0 if self.kind == "sigma" else 2.0)
        return float(value)

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the path, the values beyond which nothing changes."""
        if self.path == "sd":
            return 0.0, np.inf
        if self.kind == "corr":
            return -np.pi / 2, np.pi / 2
        if self.kind == "residual":
            if self.coupled:
                end = _COUPLED_END if self._fisher else np.inf
                return -end, end
            return self._end(-1.0), self._end(1.0)
        return -np.inf, np.inf

    def _end(self, sign: float) -> float:
        """Where the structure says that its parameter is at an end."""

        def outside(t: float) -> bool:
            params = self.structure.from_unconstrained(self._moved(t))
            return self.structure.at_boundary(params)

        inner = float(self.u[self.at])
        if outside(inner):
            return inner
        step = 1.0
        while not outside(inner + sign * step) and step < 1e3:
            step *= 2.0
        outer = inner + sign * step
        for _ in range(60):
            middle = 0.5 * (inner + outer)
            if outside(middle):
                outer = middle
            else:
                inner = middle
        return inner


def held_entries(results: Any) -> NDArray[np.bool_]:
    """
    Which entries of the random-effects factor are held, not estimated.

    Parameters
    ----------
    results : MixedLMARResults

    Returns
    -------
    ndarray of bool, shape (k_cov,)
        Lower triangle row by row, then the variance components.
    """
    rows, columns = np.tril_indices(results.k_re)
    held = np.zeros(len(rows) + results.k_vc, dtype=bool)
    if results.freepat is not None:
        held |= results.freepat.get_packed(use_sqrt=False, has_fe=False) == 0.0
    if results.model.re_cov == "diagonal":
        held[: len(rows)][rows != columns] = True
    return held


def targets_of(results: Any) -> list[Target]:
    """
    All covariance parameters of a fit.

    Parameters
    ----------
    results : MixedLMARResults

    Returns
    -------
    list of Target
        Variances and covariances, residual parameters and the residual
        variance under their names in ``params`` (``"scale"`` for the last);
        then ``sd(...)``, ``corr(..., ...)`` and ``sigma``.
    """
    model, structure = results.model, results.structure
    p, k_re, k_vc = results.k_fe, results.k_re, results.k_vc
    u = np.asarray(results._u)
    names = list(results._names[p:])
    effects = [*model.data.exog_re_names, *model.exog_vc.names]
    cov_re, vcomp = np.asarray(results.cov_re), np.asarray(results.vcomp)
    rows, columns = np.tril_indices(k_re)
    variances = np.concatenate([np.diag(cov_re), vcomp])
    is_held = held_entries(results)
    first: list[Target] = []
    second: list[Target] = []

    def add(
        where: list[Target], name: str, kind: Kind, i: int, j: int, x: float, held: bool
    ) -> None:
        why = "held, not estimated" if held else ""
        where.append(Target(name, kind, i, j, float(x), why, u, structure))

    for k, (a, b) in enumerate(zip(rows, columns, strict=True)):
        i, j = int(a), int(b)
        if i == j:
            # a variance is held if the whole row of its factor is
            row_held = bool(is_held[: len(rows)][rows == i].all())
            add(first, names[k], "variance", i, i, cov_re[i, i], row_held)
            name = f"sd({effects[i]})"
            add(second, name, "sd", i, i, np.sqrt(cov_re[i, i]), row_held)
            continue
        root = np.sqrt(variances[i] * variances[j])
        corr = cov_re[i, j] / root if root > 0.0 else 0.0
        add(first, names[k], "cov", i, j, cov_re[i, j], bool(is_held[k]))
        name = f"corr({effects[j]}, {effects[i]})"
        add(second, name, "corr", i, j, corr, bool(is_held[k]))
    for k in range(k_vc):
        here, held = k_re + k, bool(is_held[len(rows) + k])
        add(first, names[len(rows) + k], "variance", here, here, vcomp[k], held)
        name = f"sd({effects[here]})"
        add(second, name, "sd", here, here, np.sqrt(vcomp[k]), held)
    natural = structure.natural(u)
    for k, name in enumerate(structure.param_names):
        value = results._residual_values[k]
        held = not natural.first[:, k].any()
        add(first, name, "residual", 0, k, value, held)
    add(first, "scale", "scale", 0, 0, results.scale, False)
    add(second, "sigma", "sigma", 0, 0, np.sqrt(results.scale), False)
    return first + second


def select(targets: list[Target], parameters: str | Iterable[str] | None) -> list[Any]:
    """
    The targets of the given names, in their order.

    Raises
    ------
    UnknownColumnError
        If there is no parameter of that name; the message lists them.
    """
    if parameters is None:
        return targets
    wanted = [parameters] if isinstance(parameters, str) else list(parameters)
    by_name = {target.name: target for target in targets}
    for name in wanted:
        if name not in by_name:
            near = get_close_matches(str(name), by_name, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise UnknownColumnError(
                f"there is no covariance parameter {name!r}{hint}; there are "
                f"{', '.join(repr(known) for known in by_name)}"
            )
    return [by_name[name] for name in wanted]
