"""
Levels that have places: Gaussian fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixedar._lazy import class_with_near_names
from mixedar._types import BoolArray, FloatArray
from mixedar.exceptions import StructureError, check_choice, listing
from mixedar.numeric.autodiff import Jet
from mixedar.relations.base import LevelCovariance, Relation
from mixedar.residual.base import Composite, DataLayout, Parametric, ResidualStructure
from mixedar.residual.spatial import (
    METRICS,
    DistanceStructure,
    Exponential,
    Gaussian,
    Matern,
)

# A range so many times the farthest distance is the end: the covariance is then that of
# an intrinsic field to a thousandth, of which the data tell variance / range alone.
_FAR, _CLOSE = 1e3, 1e-9


@class_with_near_names
@dataclass(frozen=True)
class Field(Relation):
    """
    A Gaussian field: the covariance of two levels falls with their distance.

    Written in a formula as ``(1 | gr(site, cov=Field(coords=("lon", "lat"))))``.

    Parameters
    ----------
    coords : sequence of str
        Columns of the coordinates, which are the same in all rows of a level.
    kernel : {"exponential", "matern", "gaussian"}
        ``exp(-d / range)``; ``(1 + d / range) exp(-d / range)``, Matern's of order
        3/2; ``exp(-(d / range)^2)``.
    metric : {"euclidean", "manhattan", "maximum"}
        Distance of two places.

    Raises
    ------
    UnsupportedError
        If there is no such kernel or metric, or `coords` are no names.

    Notes
    -----
    Matern's ``range`` is without the ``sqrt(3)`` of Stan's and scikit-learn's length
    scale, which is ``sqrt(3)`` times as long.

    References
    ----------
    Stein, M. L. (1999), Interpolation of Spatial Data, Springer, section 2.7.

    Examples
    --------
    >>> from mixedar.api import Field
    >>> Field(coords=("lon", "lat"), kernel="matern")
    Field(coords=('lon', 'lat'), kernel='matern', metric='euclidean')
    """

    coords: tuple[str, ...]
    kernel: Literal["exponential", "matern", "gaussian"] = "exponential"
    metric: Literal["euclidean", "manhattan", "maximum"] = "euclidean"

    def __post_init__(self) -> None:
        check_choice(
            "Field: kernel", self.kernel, ("exponential", "matern", "gaussian")
        )
        check_choice("Field: metric", self.metric, tuple(METRICS))
        object.__setattr__(self, "coords", self._structure().coords)

    def _structure(self) -> DistanceStructure:
        words: dict[str, Any] = {"coords": self.coords, "metric": self.metric}
        if self.kernel == "exponential":
            return Exponential(**words)
        if self.kernel == "gaussian":
            return Gaussian(**words)
        return Matern(smoothness=1.5, **words)

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.coords

    def check(self, levels: pd.Index, factor: str, places: Any) -> None:
        _check_apart(levels, factor, places)

    def bind(
        self, levels: pd.Index, factor: str, places: Any, like: Any = None
    ) -> LevelCovariance:
        if isinstance(like, _FieldCovariance):
            return _FieldCovariance(like.structure, places, like.longest)
        none = np.empty(0)
        layout = DataLayout(
            none, len(levels), 0.0, places, (None,) * places.shape[1], (0,)
        )
        out = _FieldCovariance(self._structure().bind_layout(layout), places)
        _check_distances(out.distances, factor)
        return out


def _check_apart(levels: pd.Index, factor: str, places: FloatArray) -> None:
    """Raise if two levels have the same place."""
    twice = pd.DataFrame(places).duplicated(keep=False).to_numpy()
    if not twice.any():
        return
    first = places[twice][0]
    same = levels[(places == first).all(axis=1)].tolist()
    raise StructureError(
        f"Field: levels of {factor!r} have the same coordinates, such as "
        f"{listing(same)}; make them one level, or move them apart"
    )


def _check_distances(distances: FloatArray, factor: str) -> None:
    """Raise if all distances are the same."""
    if np.ptp(distances) <= _CLOSE * distances.max():
        raise StructureError(
            f"Field: all distances between levels of {factor!r} are {distances[0]:g}, "
            "and such a field cannot be told from independent effects: write "
            f"(1 | {factor})"
        )


class _FieldCovariance(Composite, LevelCovariance):
    """Correlations of places as those of a residual structure."""

    def __init__(
        self,
        structure: ResidualStructure,
        places: FloatArray,
        longest: float | None = None,
    ) -> None:
        self.structure, self._places = structure, places
        i, j = np.tril_indices(len(places), -1)
        positions = np.column_stack([np.zeros(len(places)), places])
        self._pairs = i, j
        self._cells = structure.cells(positions[i], positions[j])
        if longest is None:
            longest = _FAR * float(self._cells.max(initial=0.0))
        #: distances of the pairs of levels, shape (pairs,)
        self.distances: FloatArray = self._cells[:, 0]
        #: the longest range
        self.longest = longest
        self._end = structure.to_unconstrained([longest])

    @property
    def parts(self) -> tuple[Parametric, ...]:
        return (self.structure,)

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.structure.param_names

    @property
    def n_levels(self) -> int:
        return len(self._places)

    def at_end(self, params: ArrayLike) -> BoolArray:
        values = np.atleast_1d(np.asarray(params, dtype=np.float64))
        far = values >= self.longest * (1.0 - _CLOSE)
        return np.asarray(self.structure.at_end(params) | far)

    def natural(self, u: FloatArray) -> Jet:
        return self._within(super().natural, u)

    def _within(self, function: Callable[[FloatArray], Jet], u: FloatArray) -> Jet:
        """A function of the range, which does not change beyond the longest."""
        if not u[0] > self._end[0]:
            return function(u)
        found = function(self._end)
        return Jet(found.value, 0.0 * found.first, 0.0 * found.second)

    def end_note(self, params: FloatArray) -> str:
        if params[0] < self.longest / _FAR:
            return ". Effects of any two levels are independent, as without gr()"
        return (
            ". As far as the data reach, the field has no end: they tell its variance "
            "divided by its range, and neither of them alone, nor the constant. A "
            "trend of the coordinates among the fixed effects may be what is meant"
        )

    def matrix(self, u: FloatArray) -> Jet:
        found = self._within(partial(self.structure.cell_values, self._cells), u)
        (i, j), n = self._pairs, self.n_levels

        def whole(x: FloatArray, diagonal: float) -> FloatArray:
            out = np.zeros((*x.shape[:-1], n, n))
            out[..., i, j] = out[..., j, i] = x
            out[..., range(n), range(n)] = diagonal
            return out

        return Jet(
            whole(found.value, 1.0), whole(found.first, 0.0), whole(found.second, 0.0)
        )
