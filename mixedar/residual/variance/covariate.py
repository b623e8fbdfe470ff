"""
Parameters that a search cannot drive to infinity.

Where a likelihood rises for ever (a stratum without residual variance, a step in
place of a power) the coordinate runs off, the parameter nears a bound, and all
derivatives vanish, so that the search ends.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from mixedar._types import ArrayOrJet, BoolArray, FloatArray, IntArray
from mixedar.exceptions import IdentificationError, UnsupportedError, check_flags
from mixedar.numeric.autodiff import Jet, clip
from mixedar.residual.base import DataLayout, Mark, Startable, check_number
from mixedar.residual.variance.base import (
    FITTED,
    Columns,
    Strata,
    VarianceFunction,
    check_column,
    check_columns,
    check_finite,
    check_size,
    column_text,
    marks_of,
)

_SATURATED = 12.0  # tanh(12) = 1 - 8e-11
_NEAR = 0.999


def bounded(u: Jet, limit: float) -> Jet:
    """
    About `u` as long as that is small, and never beyond the limit.

    Parameters
    ----------
    u : Jet of shape (k,)
    limit : float
        Positive.

    Returns
    -------
    Jet of shape (k,)
    """
    return np.tanh(clip(u / limit, -_SATURATED, _SATURATED)) * limit


def along(values: FloatArray, params: ArrayOrJet) -> FloatArray:
    """Numbers along the axis of the parameters, which may be those of many points."""
    return values.reshape(-1, *(1,) * (len(params.shape) - 1))


def unbounded(x: ArrayLike, limit: float) -> FloatArray:
    """
    Inverse of :func:`bounded`; numbers beyond the limit are brought inside.

    Parameters
    ----------
    x : array_like, shape (k,)
    limit : float

    Returns
    -------
    ndarray, shape (k,)
    """
    most = np.tanh(_SATURATED)
    share = np.clip(np.asarray(x, dtype=np.float64) / limit, -most, most)
    return np.asarray(limit * np.arctanh(share))


def is_at_bound(x: ArrayLike, limit: float) -> BoolArray:
    """Which numbers are as large as they can be."""
    return np.asarray(np.abs(np.asarray(x, dtype=np.float64)) > _NEAR * limit)


#: One number, or pairs of a stratum's name and its number.
Start = float | tuple[tuple[str, float], ...] | None


def check_start(name: str, argument: str, given: object, *, positive: bool) -> Start:
    """
    Check a starting value and make it hashable.

    Parameters
    ----------
    name : str
        The class, for messages.
    argument : str
        The argument that the user passed.
    given : float, mapping or None
    positive : bool
        Whether it has to exceed zero.

    Returns
    -------
    float, tuple of pairs, or None

    Raises
    ------
    UnsupportedError
        If something is no finite number, or not positive though it has to be.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        given = tuple(given.items())
    if isinstance(given, tuple):
        return tuple(
            (str(key), _number(name, f"{argument}[{key!r}]", value, positive))
            for key, value in given
        )
    return _number(name, argument, given, positive)


def start_values(
    what: str, argument: str, given: Start, names: Sequence[str] | None
) -> FloatArray | None:
    """
    Starting values in the order of the parameters.

    Parameters
    ----------
    what : str
        The function, for messages.
    argument : str
    given : float, tuple of pairs, or None
    names : sequence of str or None
        Strata that have a parameter; None if there is one parameter only.

    Returns
    -------
    ndarray, shape (k,), or None

    Raises
    ------
    UnsupportedError
        If strata are missing or unknown.
    """
    if given is None:
        return None
    if not isinstance(given, tuple):
        return np.full(1 if names is None else len(names), given)
    if names is None:
        raise UnsupportedError(
            f"{what}: {argument}= takes one number unless there are strata (by=)"
        )
    values = dict(given)
    unknown = sorted(set(values) - set(names))
    missing = [each for each in names if each not in values]
    if unknown or missing:
        wrong = (
            f"{unknown[0]!r} is not one" if unknown else f"{missing[0]!r} is missing"
        )
        raise UnsupportedError(
            f"{what}: {argument}= needs a number for each of the strata "
            f"{', '.join(map(repr, names))}; {wrong}"
        )
    return np.array([values[each] for each in names], dtype=np.float64)


def _number(name: str, argument: str, value: object, positive: bool) -> float:
    value = check_number(name, argument, value)
    if not np.isfinite(value) or (positive and value <= 0.0):
        kind = "a positive" if positive else "a finite"
        raise UnsupportedError(f"{name}: {argument}={value!r} is not {kind} number")
    return value


#: Of coordinates, whose unit is about a standard deviation of the covariate.
LIMIT = 20.0
# The same for the logarithm of a standard deviation, from its middle ...
_LARGEST_RANGE = 3.0 * LIMIT
# ... and from zero: squares of variances, which derivatives have, still are numbers.
_LARGEST = 7.5 * LIMIT
_NODES = 17


@dataclass(frozen=True)
class CovariateScale:
    """
    Typical size and values of the covariate in a stratum.

    Attributes
    ----------
    unit : float
        What the coordinates of coefficients are measured in: the standard
        deviation, or more if the covariate has outliers or is far from zero, so
        that no coordinate within the limit gives numbers that overflow.
    nodes : tuple of float
        Quantiles from the smallest to the largest.
    """

    unit: float = 1.0
    nodes: tuple[float, ...] = (0.0,)

    @classmethod
    def of(cls, x: FloatArray) -> CovariateScale:
        """The scale of a sample, shape (n,)."""
        off = np.abs(x - float(x.mean()))
        most = float(off.max()) * LIMIT / _LARGEST_RANGE
        farthest = float(np.abs(x).max()) * LIMIT / _LARGEST
        unit = max(float(np.sqrt((off**2).mean())), most, farthest)
        nodes = np.quantile(x, np.linspace(0.0, 1.0, _NODES))
        return cls(unit, tuple(float(node) for node in nodes))


@dataclass(frozen=True)
class CovariateVariance(Startable, VarianceFunction):
    """
    Standard deviations as functions of a covariate or of the fitted values.

    Parameters
    ----------
    column : str
        The covariate; ``"fitted"`` stands for the fitted values.
    by : str, tuple of str, or None
        Columns of strata, each with parameters of its own.
    strata : Strata, optional
    scales : tuple of CovariateScale
        Of each stratum; both are set by :meth:`bind_layout`.
    """

    column: str = FITTED
    by: Columns = None
    strata: Strata | None = field(default=None, kw_only=True, repr=False)
    scales: tuple[CovariateScale, ...] = field(
        default=(CovariateScale(),), kw_only=True, repr=False
    )

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_column(name, self.column)
        if self.by is not None:
            object.__setattr__(self, "by", check_columns(name, self.by))

    @abstractmethod
    def transform(self, values: FloatArray) -> FloatArray:
        """
        What a coefficient is multiplied by, such as the covariate's logarithm.

        Parameters
        ----------
        values : ndarray, shape (l,)

        Returns
        -------
        ndarray, shape (l,)
        """

    @abstractmethod
    def check_values(self, values: FloatArray) -> None:
        """
        Raise for values of which there is no function.

        Parameters
        ----------
        values : ndarray, shape (l,)

        Raises
        ------
        StructureError
        """

    @property
    def marks(self) -> tuple[Mark, ...]:
        mark = Mark("number", self.column)
        return (mark,) if self.by is None else (mark, *marks_of(self.by))

    @property
    def what(self) -> str:
        """The function as it reads in messages."""
        by = "" if self.by is None else f", by={self.by!r}"
        return f"{type(self).__name__}({self.column!r}{by})"

    @property
    def covariate_text(self) -> str:
        """The covariate as summaries print it."""
        return "fitted values" if self.column == FITTED else self.column

    @property
    def stratum_names(self) -> tuple[str, ...] | None:
        """Names of the strata, None without strata."""
        if self.by is None:
            return None
        return () if self.strata is None else self.strata.names

    def named(self, parameter: str) -> tuple[str, ...]:
        """
        Names of a parameter that each stratum has.

        Parameters
        ----------
        parameter : str
        """
        if self.stratum_names is None:
            return (parameter,)
        return tuple(f"{parameter}[{name}]" for name in self.stratum_names)

    @property
    def units(self) -> FloatArray:
        """Units of the coordinates, by stratum."""
        return np.array([each.unit for each in self.scales])

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        values = layout.marks[:, 0]
        check_finite(self.what, self.column, values)
        self.check_values(values)
        check_size(self.what, self.column, self.transform(values))
        strata, place = None, np.zeros(len(values), dtype=np.intp)
        if self.by is not None:
            strata = Strata.bind(
                self.what, self.by, layout.marks[:, 1:], layout.labels[1:]
            )
            place = strata.of(layout.marks[:, 1:])
        scales = tuple(
            self._scale_of(values[place == s], strata.names[s] if strata else None)
            for s in range(len(strata) if strata else 1)
        )
        bound = replace(self, strata=strata, scales=scales)
        _ = bound.given  # raises for unknown strata
        return bound

    def _scale_of(self, values: FloatArray, stratum: str | None) -> CovariateScale:
        if self.column == FITTED and (values == 1.0).all():
            return CovariateScale()  # fitted values are not known before the fit
        if np.ptp(values) <= 1e-10 * np.abs(values).max():
            where = "all rows" if stratum is None else f"the stratum {stratum!r}"
            raise IdentificationError(
                f"{self.what}: {column_text(self.column)} is {values[0]:g} throughout "
                f"{where}, so that its effect on the variance cannot be told from "
                "sigma. Leave the variance function out, or use VarIdent for strata"
            )
        return CovariateScale.of(self.transform(values))

    def place(self, marks: FloatArray) -> int | IntArray:
        """
        The place of each row's parameter among those of all strata.

        Parameters
        ----------
        marks : ndarray, shape (l, c)

        Returns
        -------
        int or ndarray of int, shape (l,)
        """
        return 0 if self.strata is None else self.strata.of(marks[:, 1:])


@dataclass(frozen=True)
class LinearCovariate(CovariateVariance):
    """
    One coefficient, to which the logarithm of the sd is proportional.

    Attributes
    ----------
    parameter : str
        Name of the coefficient and of the argument with its starting value.
    """

    parameter: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flags(fixed=self.fixed)
        name, parameter = type(self).__name__, self.parameter
        start = check_start(name, parameter, getattr(self, parameter), positive=False)
        object.__setattr__(self, parameter, start)
        if self.fixed and start is None:
            raise UnsupportedError(
                f"{name}: fixed=True needs {parameter}=, as in "
                f"{name}({self.column!r}, {parameter}=0.5, fixed=True)"
            )

    @property
    def given(self) -> FloatArray | None:
        start: Start = getattr(self, self.parameter)
        return start_values(self.what, self.parameter, start, self.stratum_names)

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.named(self.parameter)

    def _tried(self) -> Sequence[FloatArray]:
        # a single parameter is profiled along the grid
        sizes = (0.0, 0.4, -0.4, 1.2, -1.2) if self.k_free == 1 else (0.0, 0.6, -0.6)
        return [np.full(self.k_free, size) for size in sizes]

    def _inverse(self, params: FloatArray) -> FloatArray:
        return unbounded(params * self.units, LIMIT)

    def from_variables(self, u: Jet) -> Jet:
        return bounded(u, LIMIT) / along(self.units, u)

    def log_sd(self, marks: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        self.check_values(marks[:, 0])
        if not isinstance(params, Jet):
            params = np.asarray(params, dtype=np.float64)
        return params[self.place(marks)] * self.transform(marks[:, 0])

    def at_end(self, params: ArrayLike) -> BoolArray:
        return is_at_bound(np.asarray(params) * self.units, LIMIT)
