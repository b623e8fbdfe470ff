"""
Isotropic structures: correlation falls with distance in time or in space.

The forms are nlme's (Pinheiro and Bates, 2000, table 5.1), with Matern's added
(Cressie, 1993, Statistics for Spatial Data, section 2.3); ``d`` is the distance
and ``range`` its scale.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gamma, kv

from mixedar._lazy import class_with_near_names
from mixedar._types import ArrayOrJet, BoolArray, FloatArray, IntArray
from mixedar.exceptions import (
    MagnitudeError,
    StructureError,
    UnsupportedError,
    check_choice,
    check_flags,
)
from mixedar.numeric.autodiff import Jet, clip, stack
from mixedar.numeric.interpolation import by_logarithm
from mixedar.residual.base import (
    DataLayout,
    FormulaStructure,
    Mark,
    ResidualStructure,
    Startable,
    check_number,
)
from mixedar.residual.states import StateSpace, damped_states

_LIMIT = 12.0  # of the logarithm of the range over the typical distance
_FLAT = 1e-6  # correlations so close to zero or one no longer tell of the range
# Where a correlation ends at the range, the likelihood has corners and many modes.
_MANY = (3.7, 0.02, 0.1, 0.3, 0.6, 0.9, 2.4, 5.5, 8.3, 1.6)
_LARGEST = 1e100  # coordinates
#: Distances of places, as orders of a norm of the differences of coordinates.
METRICS = {"euclidean": 2.0, "manhattan": 1.0, "maximum": np.inf}
_PAIRS = 20_000_000  # that are looked at for the shortest distance


@dataclass(frozen=True)
class DistanceStructure(Startable, FormulaStructure):
    """
    Correlation as a function of ``d / range``.

    Parameters
    ----------
    range : float, optional
        Starting value, in units of distance.
    coords : sequence of str
        Columns of coordinates; by default the time is the only one.
    nugget : bool
        Add independent measurement error.
    fixed : bool
        Hold the parameters at their starting values.
    by : str, optional
        Column of strata, each with parameters of its own.
    metric : {"euclidean", "manhattan", "maximum"}
        Distance of two places: the straight line, the sum of the differences of
        their coordinates, or the largest of these (nlme's ``metric=``).  In a plane
        the exponential structure is one of correlations for each of them; others
        need not be for the last two, and the likelihood is not defined where they
        are not.
    reference : float
        Typical distance between neighbours, set by :meth:`bind_layout`.
    nearest, farthest : float
        Shortest and longest distance inside a series, set by it as well: where
        all correlations are zero, or one, the range is at its end.

    Raises
    ------
    UnsupportedError
        If `range` is not positive, or is fixed without a value, or there is no such
        metric.
    """

    range: float | None = None
    coords: tuple[str, ...] = ()
    nugget: bool = False
    fixed: bool = False
    by: str | None = None
    metric: Literal["euclidean", "manhattan", "maximum"] = "euclidean"
    reference: float = 1.0
    nearest: float = 1.0
    farthest: float = 1.0

    param_names: ClassVar[tuple[str, ...]] = ("range",)
    limit: ClassVar[float] = _LIMIT
    # how much further than the reference the correlation reaches
    _reach: ClassVar[tuple[float, ...]] = (1.0, 4.0, 0.3)

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_flags(fixed=self.fixed, nugget=self.nugget)
        object.__setattr__(self, "coords", _columns(name, self.coords))
        check_choice(f"{name}: metric", self.metric, tuple(METRICS))
        if self.range is None:
            if self.fixed:
                raise UnsupportedError(
                    f"{name}: fixed=True needs a value, as in {name}(2.0, fixed=True)"
                )
            return
        if not 0.0 < check_number(name, "range", self.range) < np.inf:
            raise UnsupportedError(f"{name}: range={self.range!r} is not positive")

    @abstractmethod
    def decay(self, ratio: ArrayOrJet) -> ArrayOrJet:
        """Correlation at ``d / range``, an ndarray or Jet of shape (l,)."""

    @property
    def uses_time(self) -> bool:
        return not self.coords

    @property
    def marks(self) -> tuple[Mark, ...]:
        return tuple(Mark("number", column) for column in self.coords)

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        if not self.coords:
            bound = self.bind(layout.gaps)
            return replace(bound, farthest=max(layout.span, bound.nearest)).checked()
        size = np.abs(layout.marks).max(initial=0.0)
        extent = np.ptp(layout.marks, axis=0).max(initial=0.0)
        if size > _LARGEST or 0.0 < extent < 1.0 / _LARGEST:
            raise MagnitudeError(
                f"coordinates {', '.join(map(repr, self.coords))}: squares of their "
                f"differences (up to {extent:.3g}) are beyond what numbers can hold; "
                "change their unit"
            )
        # neighbours in the order of the rows: any distance of their size will do
        steps = self._length(layout.marks[1:] - layout.marks[:-1])
        steps = steps[steps > 0.0]
        if not len(steps):
            return self.bind(steps)
        starts = np.asarray(layout.starts)
        low = np.minimum.reduceat(layout.marks, starts)
        high = np.maximum.reduceat(layout.marks, starts)
        return replace(
            self,
            reference=float(np.median(steps)),
            nearest=_nearest(layout.marks, starts, layout.longest, self._length),
            farthest=float(self._length(high - low).max()),
        ).checked()

    def checked(self) -> DistanceStructure:
        """Itself, if a range that is fixed suits the distances."""
        if self.fixed and self.range is not None:
            ratio = float(self.range) / self.reference
            if not np.exp(-_LIMIT) < ratio < np.exp(_LIMIT):
                raise StructureError(
                    f"{type(self).__name__}: range={self.range:g} is fixed, but "
                    f"neighbours are typically {self.reference:g} apart; give it in "
                    "units of these distances"
                )
        return self

    def bind(self, gaps: FloatArray) -> DistanceStructure:
        gaps = gaps[gaps > 0.0] if (gaps > 0.0).any() else np.ones(1)
        nearest, middle, farthest = gaps.min(), np.median(gaps), gaps.max()
        return replace(
            self,
            reference=float(middle),
            nearest=float(nearest),
            farthest=float(farthest),
        )

    def _tried(self) -> Sequence[FloatArray]:
        return [np.array([np.log(reach)]) for reach in self._reach]

    def _inverse(self, params: FloatArray) -> FloatArray:
        return np.log(params / self.reference)

    def from_variables(self, u: Jet) -> Jet:
        return self.reference * np.exp(clip(u, -_LIMIT, _LIMIT))

    def at_end(self, params: ArrayLike) -> BoolArray:
        values = np.atleast_1d(np.asarray(params, dtype=np.float64))
        ends = np.array([[self.nearest], [self.farthest]])
        near, far = np.asarray(self.correlations(ends, values))
        inside = abs(np.log(values[0] / self.reference)) < _LIMIT - 1e-3
        return np.array([not (inside and near >= _FLAT and far <= 1.0 - _FLAT)])

    def cells(self, a: FloatArray, b: FloatArray) -> FloatArray:
        if not self.coords:
            return np.abs(a[:, :1] - b[:, :1])
        return self._length(a[:, 1:] - b[:, 1:])[:, None]

    def _length(self, apart: FloatArray) -> FloatArray:
        """Distances from differences of coordinates, shape (l, c)."""
        return np.asarray(np.linalg.norm(apart, METRICS[self.metric], axis=1))

    def correlations(self, cells: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        return self.decay(cells[:, 0] / params[0])

    def state_space(self, cells: FloatArray, u: FloatArray) -> StateSpace:
        if not self.n_states:
            return super().state_space(cells, u)
        return damped_states(cells[:, 0] / self.natural(u)[0], self.n_states)


@class_with_near_names
@dataclass(frozen=True)
class Exponential(DistanceStructure):
    """
    ``corr = exp(-d / range)``: CAR(1) when the distance is that of times.

    Parameters
    ----------
    range : float, optional
        Starting value, in units of distance.
    coords : str or sequence of str
        Columns of coordinates; by default the time is the only one.
    nugget : bool
        Add independent measurement error.
    fixed : bool
        Hold the parameters at their starting values.
    by : str, optional
        Column of strata, each with parameters of its own.
    metric : {"euclidean", "manhattan", "maximum"}
        Distance of two places: the straight line, the sum of the differences of
        their coordinates, or the largest of these (nlme's ``metric=``).
    reference, nearest, farthest : float
        Typical, shortest and longest distance, found in the data.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import Exponential
    >>> rng = np.random.default_rng(1)
    >>> places = pd.MultiIndex.from_product([range(3), range(5), range(5)])
    >>> plots = pd.DataFrame(list(places), columns=["field", "east", "north"])
    >>> wave = np.sin(plots["east"] + plots["north"] / 2)
    >>> plots["growth"] = wave + rng.normal(0, 0.3, size=75)
    >>> model = mar.mixedlm(
    ...     "growth ~ 1",
    ...     plots,
    ...     groups="field",
    ...     re_formula="0",
    ...     residual=Exponential(coords=("east", "north")),
    ... )
    >>> list(model.fit().residual_params.index)
    ['range']
    """

    code: ClassVar[str] = "exp"
    label: ClassVar[str] = "exponential"

    @property
    def n_states(self) -> int:
        return 0 if self.coords else 1

    def decay(self, ratio: ArrayOrJet) -> ArrayOrJet:
        return np.exp(-ratio)


@class_with_near_names
@dataclass(frozen=True)
class Gaussian(DistanceStructure):
    """
    ``corr = exp(-(d / range)^2)``: very smooth.

    Parameters
    ----------
    range, coords, nugget, fixed, by, metric, reference, nearest, farthest
        As of :class:`Exponential`.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import Gaussian
    >>> rng = np.random.default_rng(1)
    >>> places = pd.MultiIndex.from_product([range(3), range(5), range(5)])
    >>> plots = pd.DataFrame(list(places), columns=["field", "east", "north"])
    >>> wave = np.sin(plots["east"] + plots["north"] / 2)
    >>> plots["growth"] = wave + rng.normal(0, 0.3, size=75)
    >>> model = mar.mixedlm(
    ...     "growth ~ 1",
    ...     plots,
    ...     groups="field",
    ...     re_formula="0",
    ...     residual=Gaussian(coords=("east", "north"), nugget=True),
    ... )
    >>> list(model.fit().residual_params.index)
    ['range', 'nugget']
    """

    code: ClassVar[str] = "gau"
    label: ClassVar[str] = "Gaussian"
    _reach: ClassVar[tuple[float, ...]] = (0.7, 1.5, 0.3)

    def decay(self, ratio: ArrayOrJet) -> ArrayOrJet:
        return np.exp(-(ratio * ratio))


@class_with_near_names
@dataclass(frozen=True)
class RationalQuadratic(DistanceStructure):
    """
    ``corr = 1 / (1 + (d / range)^2)``.

    Parameters
    ----------
    range, coords, nugget, fixed, by, metric, reference, nearest, farthest
        As of :class:`Exponential`.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import RationalQuadratic
    >>> rng = np.random.default_rng(1)
    >>> places = pd.MultiIndex.from_product([range(3), range(5), range(5)])
    >>> plots = pd.DataFrame(list(places), columns=["field", "east", "north"])
    >>> wave = np.sin(plots["east"] + plots["north"] / 2)
    >>> plots["growth"] = wave + rng.normal(0, 0.3, size=75)
    >>> model = mar.mixedlm(
    ...     "growth ~ 1",
    ...     plots,
    ...     groups="field",
    ...     re_formula="0",
    ...     residual=RationalQuadratic(coords=("east", "north")),
    ... )
    >>> list(model.fit().residual_params.index)
    ['range']
    """

    code: ClassVar[str] = "ratio"
    label: ClassVar[str] = "rational quadratic"

    def decay(self, ratio: ArrayOrJet) -> ArrayOrJet:
        return 1.0 / (1.0 + ratio * ratio)


@class_with_near_names
@dataclass(frozen=True)
class Spherical(DistanceStructure):
    """
    ``corr = 1 - 1.5 d / range + 0.5 (d / range)^3`` up to `range`, then 0.

    Parameters
    ----------
    range, coords, nugget, fixed, by, metric, reference, nearest, farthest
        As of :class:`Exponential`.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import Spherical
    >>> rng = np.random.default_rng(1)
    >>> places = pd.MultiIndex.from_product([range(3), range(5), range(5)])
    >>> plots = pd.DataFrame(list(places), columns=["field", "east", "north"])
    >>> wave = np.sin(plots["east"] + plots["north"] / 2)
    >>> plots["growth"] = wave + rng.normal(0, 0.3, size=75)
    >>> model = mar.mixedlm(
    ...     "growth ~ 1",
    ...     plots,
    ...     groups="field",
    ...     re_formula="0",
    ...     residual=Spherical(coords=("east", "north")),
    ... )
    >>> list(model.fit().residual_params.index)
    ['range']
    """

    code: ClassVar[str] = "sph"
    label: ClassVar[str] = "spherical"
    _reach: ClassVar[tuple[float, ...]] = _MANY

    def decay(self, ratio: ArrayOrJet) -> ArrayOrJet:
        near = _below_one(ratio)
        return near * (1.0 - 1.5 * ratio + 0.5 * ratio * ratio * ratio)


@class_with_near_names
@dataclass(frozen=True)
class Linear(DistanceStructure):
    """
    ``corr = 1 - d / range`` up to `range`, then 0; for one coordinate.

    Parameters
    ----------
    range, coords, nugget, fixed, by, metric, reference, nearest, farthest
        As of :class:`Exponential`.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import Linear
    >>> rng = np.random.default_rng(1)
    >>> places = pd.MultiIndex.from_product([range(3), range(5), range(5)])
    >>> plots = pd.DataFrame(list(places), columns=["field", "east", "north"])
    >>> wave = np.sin(plots["east"] + plots["north"] / 2)
    >>> plots["growth"] = wave + rng.normal(0, 0.3, size=75)
    >>> model = mar.mixedlm(
    ...     "growth ~ 1",
    ...     plots,
    ...     groups="field",
    ...     re_formula="0",
    ...     residual=Linear(coords=("east",), nugget=True, range=3.0, fixed=True),
    ... )
    >>> list(model.fit().residual_params.index)
    ['range', 'nugget']
    """

    code: ClassVar[str] = "lin"
    label: ClassVar[str] = "linear"
    _reach: ClassVar[tuple[float, ...]] = _MANY

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.coords) > 1:
            raise StructureError(
                "Linear is a correlation on a line only; in a plane it need not be "
                "positive definite. Use Spherical for several coordinates"
            )

    def decay(self, ratio: ArrayOrJet) -> ArrayOrJet:
        return _below_one(ratio) * (1.0 - ratio)


def _below_one(ratio: ArrayOrJet) -> FloatArray:
    value = ratio.value if isinstance(ratio, Jet) else ratio
    return np.asarray(value < 1.0, dtype=np.float64)


def _columns(name: str, coords: object) -> tuple[str, ...]:
    """Names of coordinates as a tuple."""
    names = [coords] if isinstance(coords, str) else coords
    if not isinstance(names, (list, tuple)) or not all(
        isinstance(column, str) and column for column in names
    ):
        raise UnsupportedError(
            f"{name}: coords={coords!r} are not names of columns, as in "
            f"{name}(coords=('x', 'y'))"
        )
    if len(set(names)) < len(names):
        raise UnsupportedError(f"{name}: a column occurs twice in coords={coords!r}")
    return tuple(names)


def _nearest(
    coordinates: FloatArray,
    starts: IntArray,
    longest: int,
    length: Callable[[FloatArray], FloatArray],
) -> float:
    """Shortest distance of two rows of a series, except zero."""
    n = len(coordinates)
    series = np.zeros(n, dtype=np.intp)
    series[starts] = 1
    series = np.cumsum(series)
    found = np.inf
    for k in range(1, min(longest, max(_PAIRS // n, 2))):
        steps = length(coordinates[k:] - coordinates[:-k])
        steps = steps[series[k:] == series[:-k]]
        found = min(found, float(steps[steps > 0.0].min(initial=np.inf)))
    return found if np.isfinite(found) else 1.0


_FEW = 2000  # distances, beyond which values at some are enough
_TOGETHER = 1e-10  # distances by the range that are zero
_SMOOTH = 3.0  # smoothness between exp(-3) and exp(3)
_MOST_STATES = 4  # smoothness 7/2


@class_with_near_names
@dataclass(frozen=True)
class Matern(DistanceStructure):
    """
    ``corr = 2^(1-v) / gamma(v) x^v K_v(x)`` with ``x = d / range``.

    ``K_v`` is the modified Bessel function; ``v = 1/2`` is the exponential
    structure, and the residuals are smoother the larger ``v``.

    Parameters
    ----------
    range, coords, nugget, fixed, by, metric, reference, nearest, farthest
        As of :class:`Exponential`.
    smoothness : float, optional
        Hold ``v`` at this value; by default it is estimated.

    References
    ----------
    Stein, M. L. (1999), Interpolation of Spatial Data, Springer, section 2.7.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import Matern
    >>> rng = np.random.default_rng(1)
    >>> places = pd.MultiIndex.from_product([range(3), range(5), range(5)])
    >>> plots = pd.DataFrame(list(places), columns=["field", "east", "north"])
    >>> wave = np.sin(plots["east"] + plots["north"] / 2)
    >>> plots["growth"] = wave + rng.normal(0, 0.3, size=75)
    >>> model = mar.mixedlm(
    ...     "growth ~ 1",
    ...     plots,
    ...     groups="field",
    ...     re_formula="0",
    ...     residual=Matern(smoothness=1.5, coords=("east", "north")),
    ... )
    >>> list(model.fit().residual_params.index)
    ['range']
    """

    smoothness: float | None = None

    code: ClassVar[str] = "mat"

    def __post_init__(self) -> None:
        super().__post_init__()
        v = self.smoothness
        if v is None:
            if self.fixed:
                raise UnsupportedError("Matern: fixed=True needs smoothness= as well")
            return
        if not 0.05 <= check_number("Matern", "smoothness", v) <= 20.0:
            raise UnsupportedError(
                f"Matern: smoothness={v!r} is not between 0.05 and 20; Gaussian is the "
                "limit of large values"
            )

    @property
    def label(self) -> str:  # type: ignore[override]
        """Name in summaries."""
        v = self.smoothness
        return "Matern" if v is None else f"Matern({float(v):g})"

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """``range``, and ``smoothness`` unless it is held."""
        return ("range", "smoothness") if self.smoothness is None else ("range",)

    @property
    def given(self) -> FloatArray | None:
        if self.range is None or self.smoothness is not None:
            return super().given
        return np.array([self.range, 0.5], dtype=np.float64)

    def _tried(self) -> Sequence[FloatArray]:
        if self.smoothness is not None:
            return super()._tried()
        pairs = [(1.0, 0.5), (0.5, 1.5), (4.0, 0.5), (2.0, 0.25)]
        return [np.log(np.array(pair)) for pair in pairs]

    def _inverse(self, params: FloatArray) -> FloatArray:
        return np.log(params / np.array([self.reference, 1.0])[: len(params)])

    def from_variables(self, u: Jet) -> Jet:
        scale = self.reference * np.exp(clip(u[0], -_LIMIT, _LIMIT))
        if self.smoothness is not None:
            return stack([scale], u.k)
        return stack([scale, np.exp(clip(u[1], -_SMOOTH, _SMOOTH))], u.k)

    def at_end(self, params: ArrayLike) -> BoolArray:
        values = np.asarray(params, dtype=np.float64)
        found = super().at_end(values)
        if len(values) == 1:
            return found
        return np.append(found, not abs(np.log(values[1])) < _SMOOTH - 1e-3)

    @property
    def ends(self) -> FloatArray:
        return np.outer([-1.0, 1.0], [_LIMIT, _SMOOTH][: self.k_free])

    @property
    def n_states(self) -> int:
        # a process in time has as many derivatives as its smoothness, if that is half
        # of an odd number
        states = 0.0 if self.smoothness is None else self.smoothness + 0.5
        found = not self.coords and states in range(1, _MOST_STATES + 1)
        return int(states) if found else 0

    def decay(self, ratio: ArrayOrJet) -> ArrayOrJet:
        """Correlation at ``d / range`` for the held smoothness."""
        return self._correlation(ratio, self.smoothness)

    def correlations(self, cells: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        v = params[1] if self.smoothness is None else float(self.smoothness)
        return self._correlation(cells[:, 0] / params[0], v)

    @staticmethod
    def _correlation(ratio: ArrayOrJet, v: ArrayOrJet) -> ArrayOrJet:
        if not isinstance(ratio, Jet):
            held = float(v)
            x = np.asarray(ratio)
            return _at_few(lambda few: [_matern(few, held)], x, held)[0]
        x = ratio.value
        if not isinstance(v, Jet):
            held = float(v)
            return ratio.map(*_at_few(lambda few: _by_distance(few, held), x, held))
        v = v + np.zeros((1,) * x.ndim)
        value, d_x, d_xx, d_v, d_vv, d_xv = _with_smoothness(x, v.value)
        out = ratio.map(value, d_x, d_xx)
        cross = ratio.first[:, None] * v.first[None]
        return Jet(
            out.value,
            out.first + d_v * v.first,
            out.second
            + d_v * v.second
            + d_vv * v.first[:, None] * v.first[None, :]
            + d_xv * (cross + cross.swapaxes(0, 1)),
        )


def _at_few(
    function: Callable[[FloatArray], Sequence[FloatArray]],
    x: FloatArray,
    v: float | FloatArray,
) -> FloatArray:
    """Functions of many ratios by their values at few: Bessel functions are dear."""
    if x.size <= _FEW or np.size(v) > 1 or np.all(v == 1.5):
        return np.array(function(x))
    apart = x >= _TOGETHER
    found = by_logarithm(lambda few: np.array(function(few)), x[apart])
    out = np.empty((len(found), *x.shape))
    out[:, apart] = found
    if not apart.all():
        out[:, ~apart] = np.array(function(np.zeros(1)))
    return out


def _with_smoothness(x: FloatArray, v: FloatArray) -> FloatArray:
    """
    The correlation and its derivatives by ``x`` and ``v``.

    In the order value, x, xx, v, vv, xv; shape (6, ...).
    """
    return _at_few(lambda few: _written_out(few, v), x, v)


def _written_out(x: FloatArray, v: FloatArray) -> list[FloatArray]:
    here, d_x, d_xx = _by_distance(x, v)
    # no closed form by the order of a Bessel function: central differences
    h = 1e-3 * v
    sides = [_by_distance(x, v + s * h) for s in (-2, -1, 1, 2)]
    f, g = ([side[i] for side in sides] for i in range(2))
    d_v = (f[0] - 8.0 * f[1] + 8.0 * f[2] - f[3]) / (12.0 * h)
    d_vv = (-f[0] + 16.0 * f[1] - 30.0 * here + 16.0 * f[2] - f[3]) / (12.0 * h * h)
    d_xv = (g[0] - 8.0 * g[1] + 8.0 * g[2] - g[3]) / (12.0 * h)
    return [here, d_x, d_xx, d_v, d_vv, d_xv]


def _matern(x: FloatArray, v: float | FloatArray) -> FloatArray:
    """The correlation; one at distance zero."""
    if np.all(v == 1.5):
        return (1.0 + x) * np.exp(-x)
    small = x < _TOGETHER
    safe = np.where(small, 1.0, x)
    value = 2.0 ** (1.0 - v) / gamma(v) * safe**v * kv(v, safe)
    return np.where(small, 1.0, value)


def _by_distance(
    x: FloatArray, v: float | FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The correlation and its first two derivatives by ``x``."""
    if np.all(v == 1.5):
        falls = np.exp(-x)
        return (1.0 + x) * falls, -x * falls, (x - 1.0) * falls
    small = x < _TOGETHER
    safe = np.where(small, 1.0, x)
    c = 2.0 ** (1.0 - v) / gamma(v)
    power = c * safe**v
    # d/dx x^v K_v = -x^v K_{v-1}
    first = -power * kv(v - 1.0, safe)
    second = power * (kv(v, safe) - (2.0 * v - 1.0) / safe * kv(v - 1.0, safe))
    return _matern(x, v), np.where(small, 0.0, first), np.where(small, 0.0, second)
