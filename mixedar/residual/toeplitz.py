"""A correlation of its own for every lag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixedar.exceptions import StructureError, TimeError, UnsupportedError
from mixedar.jets import Jet, clip, stack
from mixedar.residual.base import DataLayout, Link, ResidualStructure
from mixedar.residual.formula import FormulaStructure

__all__ = ["Toeplitz"]

FloatArray = NDArray[np.float64]

_LIMIT = 7.0
_MOST = 60


@dataclass(frozen=True)
class Toeplitz(FormulaStructure):
    """
    Toeplitz: ``corr(e_s, e_t) = rho_|s - t|`` on integer times.

    All lags together are parametrised by partial autocorrelations, so that the
    matrix stays positive definite.

    Parameters
    ----------
    bands : int, optional
        Number of bands, the diagonal included: correlations beyond lag
        ``bands - 1`` are zero (SAS's ``TOEP(q)``).  By default every lag of the
        data has its own.
    by : str, optional
        Column of strata, each with parameters of its own.
    unit : int
        Common step of the times, set by :meth:`bind_layout`.
    lags : int
        Number of lags, set by :meth:`bind_layout`.

    Raises
    ------
    UnsupportedError
        If `bands` is no whole number of 1 or more.

    References
    ----------
    Barndorff-Nielsen, O. and Schou, G. (1973), On the parametrization of
    autoregressive models by partial autocorrelations, Journal of Multivariate
    Analysis 3, 408-419.
    """

    bands: int | None = None
    by: str | None = None
    unit: int = 1
    lags: int = 1

    code: ClassVar[str] = "toep"
    integer_time: ClassVar[bool] = True

    def __post_init__(self) -> None:
        bands = self.bands
        whole = isinstance(bands, (int, np.integer)) and not isinstance(bands, bool)
        if bands is not None and not (whole and bands >= 1):
            raise UnsupportedError(
                f"Toeplitz: bands={bands!r} is not a whole number of 1 or more (1 is "
                "independence)"
            )

    @property
    def label(self) -> str:  # type: ignore[override]
        """Name in summaries."""
        return "Toeplitz" if self.bands is None else f"Toeplitz({self.bands})"

    @property
    def links(self) -> tuple[Link, ...]:
        scale: Link = "correlation"
        return (scale,) * self.k_params

    @property
    def _free_lags(self) -> int:
        return self.lags if self.bands is None else min(self.bands - 1, self.lags)

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names such as ``rho1``, by lag."""
        return tuple(f"rho{lag}" for lag in range(1, self._free_lags + 1))

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        gaps = layout.gaps[layout.gaps > 0.0]
        if len(gaps) == 0:
            raise StructureError(
                "Toeplitz residuals need series of two rows or more; every series "
                "of the data has one"
            )
        unit = int(np.gcd.reduce(np.unique(gaps).astype(np.int64)))
        # the longest distance inside a series, in common steps
        most = round(layout.span / unit)
        if self.bands is None and most > _MOST:
            raise StructureError(
                f"Toeplitz residuals: times of a series are up to {most} steps apart, "
                f"and every lag is a parameter. Give bands= (at most {_MOST}), or use "
                "'arma11', 'ar1' or 'car1'"
            )
        return replace(self, unit=unit, lags=most)

    def start_grid(self) -> Sequence[FloatArray]:
        k = self._free_lags
        if k == 0:
            return [np.empty(0)]
        if self._banded:
            return [np.arctanh(np.eye(k)[0] * r) for r in (0.2, 0.4, -0.2)]
        grid = [np.zeros(k) for _ in range(3)]
        for u, first in zip(grid, (0.4, 0.8, -0.3), strict=True):
            u[0] = np.arctanh(first)
        return grid

    @property
    def _banded(self) -> bool:
        return self._free_lags < self.lags

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        rho = np.asarray(params, dtype=np.float64)
        if self._banded:
            return np.arctanh(rho)
        return np.arctanh(_partial(rho))

    def from_variables(self, u: Jet) -> Jet:
        partial = np.tanh(clip(u, -_LIMIT, _LIMIT))
        if self._banded or self._free_lags == 0:
            # beyond the bands definiteness depends on all lags: the likelihood
            # is not defined outside, and the search turns back
            return partial
        return stack(_correlations([partial[i] for i in range(len(u))]), u.k)

    def at_boundary(self, params: ArrayLike) -> bool:
        rho = np.zeros(self.lags)
        rho[: self._free_lags] = np.asarray(params, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            partial = _partial(rho)
        return not bool((np.abs(partial) < 1.0 - 5e-6).all())

    def correlations(self, cells: FloatArray, params: Any) -> Any:
        off = np.rint(cells[:, 0]) % self.unit != 0.0
        if off.any():
            raise TimeError(
                f"{self.label} residuals: times of the data are multiples of "
                f"{self.unit} apart, and no correlation is known at a distance of "
                f"{cells[off][0, 0]:g}, which is asked for"
            )
        lag = np.rint(cells[:, 0] / self.unit).astype(np.intp)
        k = self._free_lags
        if (lag > self.lags).any() and not self._banded:
            raise TimeError(
                f"Toeplitz residuals: no correlation is known beyond lag {self.lags}, "
                f"and {int(lag.max())} is asked for"
            )
        if k == 0:
            return np.asarray(lag == 0, dtype=np.float64)
        inside = (lag > 0) & (lag <= k)
        return params[np.where(inside, lag - 1, 0)] * inside + (lag == 0)


def _correlations(partial: list[Jet]) -> list[Jet]:
    """Autocorrelations of a series with given partial ones (Durbin-Levinson)."""
    phi: list[Jet] = []
    rho: list[Jet] = []
    error: Any = 1.0
    for last in partial:
        value = last * error
        for j, each in enumerate(phi):
            value = value + each * rho[len(phi) - 1 - j]
        rho.append(value)
        phi = [a - last * b for a, b in zip(phi, phi[::-1], strict=True)] + [last]
        error = error * (1.0 - last * last)
    return rho


def _partial(rho: FloatArray) -> FloatArray:
    """Partial autocorrelations of a correlation function."""
    phi = np.empty(0)
    partial = np.empty(len(rho))
    error = 1.0
    for k in range(len(rho)):
        last = (rho[k] - phi @ rho[:k][::-1]) / error
        partial[k] = last
        phi = np.append(phi - last * phi[::-1], last)
        error *= 1.0 - last**2
    return partial
