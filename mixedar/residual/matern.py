"""Matern's correlation, with the smoothness estimated or known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gamma, kv

from mixedar.exceptions import UnsupportedError
from mixedar.jets import Jet, clip, stack
from mixedar.residual.spatial import DistanceStructure

__all__ = ["Matern"]

FloatArray = NDArray[np.float64]

_LIMIT = 12.0
_SMOOTH = 3.0  # smoothness between exp(-3) and exp(3)


@dataclass(frozen=True)
class Matern(DistanceStructure):
    """
    ``corr = 2^(1-v) / gamma(v) x^v K_v(x)`` with ``x = d / range``.

    ``K_v`` is the modified Bessel function; ``v = 1/2`` is the exponential
    structure, and the residuals are smoother the larger ``v``.

    Parameters
    ----------
    range, coords, nugget, fixed, by, reference, nearest, farthest
        As for the other structures of distances.
    smoothness : float, optional
        Hold ``v`` at this value; by default it is estimated.

    References
    ----------
    Stein, M. L. (1999), Interpolation of Spatial Data, Springer, section 2.7.
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
        if isinstance(v, bool) or not isinstance(v, (int, float, np.number)):
            raise UnsupportedError(f"Matern: smoothness={v!r} is not a number")
        if not 0.05 <= float(v) <= 20.0:
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

    def start_grid(self) -> Sequence[FloatArray]:
        if self.smoothness is not None:
            return super().start_grid()
        pairs = [(1.0, 0.5), (0.5, 1.5), (4.0, 0.5), (2.0, 0.25)]
        grid = [np.log(np.array(pair)) for pair in pairs]
        if self.range is not None:
            grid.insert(0, np.log([float(self.range) / self.reference, 0.5]))
        return grid

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        if self.smoothness is not None:
            return super().to_unconstrained(params)
        values = np.asarray(params, dtype=np.float64)
        return np.log(values / np.array([self.reference, 1.0]))

    def from_variables(self, u: Jet) -> Jet:
        scale = self.reference * np.exp(clip(u[0], -_LIMIT, _LIMIT))
        if self.smoothness is not None:
            return stack([scale], u.k)
        return stack([scale, np.exp(clip(u[1], -_SMOOTH, _SMOOTH))], u.k)

    def at_boundary(self, params: ArrayLike) -> bool:
        values = np.asarray(params, dtype=np.float64)
        if super().at_boundary(values):
            return True
        return len(values) > 1 and not abs(np.log(values[1])) < _SMOOTH - 1e-3

    def decay(self, ratio: Any) -> Any:
        """Correlation at ``d / range`` for the held smoothness."""
        return self._correlation(ratio, self.smoothness)

    def correlations(self, cells: FloatArray, params: Any) -> Any:
        v = params[1] if self.smoothness is None else float(self.smoothness)
        return self._correlation(cells[:, 0] / params[0], v)

    @staticmethod
    def _correlation(ratio: Any, v: Any) -> Any:
        if not isinstance(ratio, Jet):
            return _matern(np.asarray(ratio), float(v))
        x = ratio.value
        value = float(v.value) if isinstance(v, Jet) else float(v)
        out = ratio.map(*_by_distance(x, value))
        if not isinstance(v, Jet):
            return out
        # no closed form by the order of a Bessel function: central differences
        h = 1e-3 * value
        sides = [_by_distance(x, value + s * h) for s in (-2, -1, 1, 2)]
        here = _by_distance(x, value)[0]
        f = [s[0] for s in sides]
        d1 = (f[0] - 8.0 * f[1] + 8.0 * f[2] - f[3]) / (12.0 * h)
        d2 = (-f[0] + 16.0 * f[1] - 30.0 * here + 16.0 * f[2] - f[3]) / (12.0 * h * h)
        g = [s[1] for s in sides]
        mixed = (g[0] - 8.0 * g[1] + 8.0 * g[2] - g[3]) / (12.0 * h)
        first, second = v.first[:, None], v.second[:, :, None]
        cross = ratio.first[:, None] * first[None]
        return Jet(
            out.value,
            out.first + d1 * first,
            out.second
            + d1 * second
            + d2 * first[:, None] * first[None, :]
            + mixed * (cross + cross.swapaxes(0, 1)),
        )


def _matern(x: FloatArray, v: float) -> FloatArray:
    """The correlation; one at distance zero."""
    small = x < 1e-10
    safe = np.where(small, 1.0, x)
    value = 2.0 ** (1.0 - v) / gamma(v) * safe**v * kv(v, safe)
    return np.where(small, 1.0, value)


def _by_distance(x: FloatArray, v: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The correlation and its first two derivatives by ``x``."""
    small = x < 1e-10
    safe = np.where(small, 1.0, x)
    c = 2.0 ** (1.0 - v) / gamma(v)
    power = c * safe**v
    # d/dx x^v K_v = -x^v K_{v-1}
    first = -power * kv(v - 1.0, safe)
    second = power * (kv(v, safe) - (2.0 * v - 1.0) / safe * kv(v - 1.0, safe))
    return _matern(x, v), np.where(small, 0.0, first), np.where(small, 0.0, second)
