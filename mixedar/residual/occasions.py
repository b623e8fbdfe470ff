"""
Structures of repeated measurements: a correlation for each pair, lag or step.

Those over common occasions (waves, visits, sides of a body) read the place of a
row's time among all times of the data, so that times may be numbers, dates or the
levels of a categorical column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixedar._lazy import class_with_near_names
from mixedar._types import ArrayOrJet, BoolArray, FloatArray
from mixedar.exceptions import StructureError, TimeError, UnsupportedError
from mixedar.numeric.autodiff import Deferred, Jet, clip, concatenate
from mixedar.numeric.correlations import by_partial, products_of_rows
from mixedar.residual.base import (
    DataLayout,
    FormulaStructure,
    Link,
    Mark,
    ResidualStructure,
    Startable,
    is_whole,
)
from mixedar.residual.markov import check_start
from mixedar.residual.states import StateSpace, forecast_states, single_state

_LIMIT = 9.0
_STEEP = 1e4  # entries of a row of the Cholesky factor, over its diagonal
_FEW = 5  # occasions, up to which several starts are tried
_MOST = 60  # occasions, 1,770 correlations


@dataclass(frozen=True)
class OccasionStructure(FormulaStructure):
    """
    Correlations between occasions.

    Parameters
    ----------
    by : str, optional
        Column of strata, each with parameters of its own.
    occasions : tuple of str
        The occasions in their order, set by :meth:`bind_layout`.
    """

    by: str | None = None
    occasions: tuple[str, ...] = ("1", "2")

    @property
    def uses_time(self) -> bool:
        return False

    @property
    def marks(self) -> tuple[Mark, ...]:
        return (Mark("level", None),)

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        occasions = layout.labels[0] or ("1",)
        if len(occasions) < 2:
            raise StructureError(
                f"{self.label} residuals need two occasions or more, and the time "
                f"variable has only {occasions[0]!r}"
            )
        if len(occasions) > _MOST:
            raise StructureError(
                f"{self.label} residuals: the time variable has {len(occasions)} "
                f"different values, more than {_MOST} occasions. Round or number the "
                "occasions, or use a structure of distances: 'ar1', 'car1', 'exp'"
            )
        return replace(self, occasions=occasions)

    def cells(self, a: FloatArray, b: FloatArray) -> FloatArray:
        pair = np.concatenate([a[:, 1:2], b[:, 1:2]], axis=1)
        return np.sort(pair, axis=1)


@class_with_near_names
@dataclass(frozen=True)
class AnteDependence(OccasionStructure):
    """
    First-order ante-dependence: neighbouring occasions have their own correlation.

    ``corr(e_s, e_t)`` is the product of the parameters of the steps between.
    With a variance per occasion (``weights=VarIdent()``, or the name ``"adh"``)
    it is SAS's ``ANTE(1)``.

    Parameters
    ----------
    by : str, optional
        Column of strata, each with parameters of its own.
    occasions : tuple of str
        The occasions in their order, found in the data.

    References
    ----------
    Gabriel, K. R. (1962), Ante-dependence analysis of an ordered set of
    variables, Annals of Mathematical Statistics 33, 201-212.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import AnteDependence
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age",
    ...     teeth,
    ...     groups="subject",
    ...     re_formula="0",
    ...     time="occ",
    ...     residual=AnteDependence(),
    ... )
    >>> list(model.fit().residual_params.index)
    ['rho(1, 2)', 'rho(2, 3)', 'rho(3, 4)']
    """

    code: ClassVar[str] = "ad"
    label: ClassVar[str] = "ante-dependence"
    limit: ClassVar[float] = _LIMIT

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names such as ``rho(8, 10)``."""
        names = self.occasions
        return tuple(f"rho({a}, {b})" for a, b in pairwise(names))

    def start_grid(self) -> Sequence[FloatArray]:
        k = len(self.occasions) - 1
        return [np.full(k, np.arctanh(r)) for r in (0.4, 0.8, -0.2)]

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.clip(np.arctanh(np.asarray(params)), -_LIMIT, _LIMIT)

    def from_variables(self, u: Jet) -> Jet:
        return np.tanh(clip(u, -_LIMIT, _LIMIT))

    def at_end(self, params: ArrayLike) -> BoolArray:
        return ~(np.abs(np.asarray(params)) < 1.0 - 1e-6)

    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        # that of two occasions lacks one factor by each parameter between, and two
        # by each pair of these
        low, high = cells.astype(np.intp).T
        rho = np.tanh(np.clip(u, -_LIMIT, _LIMIT))
        slope = (1.0 - rho) * (1.0 + rho)
        n = len(self.occasions)
        products = np.zeros((n, n))  # of the steps from one occasion to a later one
        for a in range(n):
            products[a, a:] = np.cumprod(np.append(1.0, rho[a:]))
        before, behind = products[:, :-1], products[1:]
        first = before[low].T * behind[:, high] * slope[:, None]

        def along(weights: FloatArray) -> FloatArray:
            pairs = np.zeros((n, n))
            np.add.at(pairs, (low, high), weights)
            sums = before.T @ pairs @ behind.T
            bent = sums * products[1:, :-1] * np.outer(slope, slope)
            bent = np.triu(bent, 1)
            return bent + bent.T + np.diag(-2.0 * sums.diagonal() * rho * slope)

        return Deferred(products[low, high], first, along)

    def correlations(self, cells: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        low, high = cells.astype(np.intp).T
        out: ArrayOrJet = np.ones(len(cells))
        for step in range(len(self.occasions) - 1):
            inside = (low <= step) & (step < high)
            # the factor is the parameter inside and one elsewhere
            out = out * (params[step] * inside + ~inside)
        return out


@class_with_near_names
@dataclass(frozen=True)
class Unstructured(OccasionStructure):
    """
    A correlation of its own for every pair of occasions (nlme's ``corSymm``).

    With a variance per occasion (``weights=VarIdent()``, or the name ``"un"``) it
    is SAS's ``UN``.  Rows of the Cholesky factor of the correlation matrix move
    freely, scaled to length one, so that it stays positive definite.

    Parameters
    ----------
    by : str, optional
        Column of strata, each with parameters of its own.
    occasions : tuple of str
        The occasions in their order, found in the data.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (1996), Unconstrained parametrizations for
    variance-covariance matrices, Statistics and Computing 6, 289-296.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import Unstructured, VarIdent
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age",
    ...     teeth,
    ...     groups="subject",
    ...     re_formula="0",
    ...     time="occ",
    ...     residual=Unstructured(),
    ...     weights=VarIdent("age"),
    ... )
    >>> len(model.fit().residual_params)
    9
    """

    code: ClassVar[str] = "unr"
    label: ClassVar[str] = "unstructured"
    link: ClassVar[Link] = "correlation"

    @property
    def k_params(self) -> int:
        """Number of correlations; their names take longer to make."""
        n = len(self.occasions)
        return n * (n - 1) // 2

    def _pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        return np.tril_indices(len(self.occasions), -1)

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names such as ``rho(8, 10)``, row by row of the lower triangle."""
        names = self.occasions
        rows, columns = self._pairs()
        return tuple(
            f"rho({names[b]}, {names[a]})" for a, b in zip(rows, columns, strict=True)
        )

    def start_grid(self) -> Sequence[FloatArray]:
        n = len(self.occasions)
        rows, columns = self._pairs()
        falling = 0.7 ** np.abs(rows - columns)
        tried = (np.full(len(rows), 0.5), np.full(len(rows), 0.1), falling)
        grid = [self.to_unconstrained(rho) for rho in tried]
        # many parameters are costly to search for, and the likelihood has one maximum
        return grid if n <= _FEW else grid[-1:]

    def _matrix(self, params: ArrayLike) -> FloatArray:
        """The correlation matrix of all occasions."""
        lower = np.zeros((len(self.occasions),) * 2)
        lower[self._pairs()] = params
        return lower + lower.T + np.eye(len(lower))

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        root = np.linalg.cholesky(self._matrix(params))
        return (root / np.diag(root)[:, None])[self._pairs()]

    def natural(self, u: FloatArray) -> Jet:
        u = np.clip(np.asarray(u, dtype=np.float64), -_STEEP, _STEEP)
        n, points = len(self.occasions), u.shape[1:]
        high, low = self._pairs()
        rows = np.zeros((n, n, *points))
        rows[high, low] = u
        rows[range(n), range(n)] = 1.0
        size = np.sqrt((rows**2).sum(axis=1, keepdims=True))
        rows /= size
        return products_of_rows(rows[high], rows[low], size[high], size[low])

    def at_end(self, params: ArrayLike) -> BoolArray:
        # the first occasion that follows from those before, and all later ones
        matrix, n = self._matrix(params), len(self.occasions)
        sound = sum(
            np.linalg.eigvalsh(matrix[:k, :k])[0] >= 1e-7 for k in range(1, n + 1)
        )
        return np.asarray(self._pairs()[0] >= sound)

    def correlations(self, cells: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        low, high = cells.astype(np.intp).T
        same = low == high
        place = np.where(same, 0, high * (high - 1) // 2 + low)
        if not same.any():
            return params[place]
        return params[place] * ~same + same


_TOEPLITZ_LIMIT = 7.0
_MOST_LAGS = 60


@class_with_near_names
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

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import Toeplitz
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age",
    ...     teeth,
    ...     groups="subject",
    ...     re_formula="0",
    ...     time="occ",
    ...     residual=Toeplitz(bands=2),
    ... )
    >>> list(model.fit().residual_params.index)
    ['rho1']
    """

    bands: int | None = None
    by: str | None = None
    unit: int = 1
    lags: int = 1

    code: ClassVar[str] = "toep"
    link: ClassVar[Link] = "correlation"
    integer_time: ClassVar[bool] = True
    counts_steps: ClassVar[bool] = True
    limit: ClassVar[float] = _TOEPLITZ_LIMIT

    def __post_init__(self) -> None:
        bands = self.bands
        if bands is not None and not (is_whole(bands) and bands >= 1):
            raise UnsupportedError(
                f"Toeplitz: bands={bands!r} is not a whole number of 1 or more (1 is "
                "independence)"
            )

    @property
    def label(self) -> str:  # type: ignore[override]
        """Name in summaries."""
        return "Toeplitz" if self.bands is None else f"Toeplitz({self.bands})"

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
        if self.bands is None and most > _MOST_LAGS:
            raise StructureError(
                f"Toeplitz residuals: times of a series are up to {most} steps apart, "
                f"and every lag is a parameter. Give bands= (at most {_MOST_LAGS}), "
                "or use 'arma11', 'ar1' or 'car1'"
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

    def natural(self, u: FloatArray) -> Jet:
        u = np.asarray(u, dtype=np.float64)
        if self._banded or u.ndim > 1 or not len(u):
            return super().natural(u)
        partial = np.tanh(np.clip(u, -_TOEPLITZ_LIMIT, _TOEPLITZ_LIMIT))
        slope, rho = (1.0 - partial) * (1.0 + partial), by_partial(partial)

        def along(weights: FloatArray) -> FloatArray:
            bent = rho.along(weights) * np.outer(slope, slope)
            return bent - 2.0 * np.diag(partial * slope * (rho.first @ weights))

        return Deferred(rho.value, rho.first * slope[:, None], along)

    def from_variables(self, u: Jet) -> Jet:
        partial = np.tanh(clip(u, -_TOEPLITZ_LIMIT, _TOEPLITZ_LIMIT))
        if self._banded or self._free_lags == 0:
            # beyond the bands definiteness depends on all lags: the likelihood
            # is not defined outside, and the search turns back
            return partial
        return _correlations(partial)

    def at_end(self, params: ArrayLike) -> BoolArray:
        rho = np.zeros(self.lags)
        rho[: self._free_lags] = np.asarray(params, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            end = ~(np.abs(_partial(rho)) < 1.0 - 5e-6)
        free = self._free_lags
        # the bands end together, where the matrix of all lags is singular
        return np.full(free, end.any()) if self._banded else end[:free]

    @property
    def n_states(self) -> int:
        return self._free_lags + 1 if self._banded and self._free_lags else 0

    def state_space(self, cells: FloatArray, u: FloatArray) -> StateSpace:
        if not self.n_states:
            return super().state_space(cells, u)
        params = self.natural(u)
        rho = concatenate([Jet.constant(np.ones(1), params.k), params])
        return forecast_states((), rho, None, self._lag(cells).astype(np.float64))

    def _lag(self, cells: FloatArray) -> NDArray[np.intp]:
        """Distances in common steps."""
        off = np.rint(cells[:, 0]) % self.unit != 0.0
        if off.any():
            raise TimeError(
                f"{self.label} residuals: times of the data are multiples of "
                f"{self.unit} apart, and no correlation is known at a distance of "
                f"{cells[off][0, 0]:g}, which is asked for"
            )
        return np.rint(cells[:, 0] / self.unit).astype(np.intp)

    def correlations(self, cells: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        lag, k = self._lag(cells), self._free_lags
        if (lag > self.lags).any() and not self._banded:
            raise TimeError(
                f"Toeplitz residuals: no correlation is known beyond lag {self.lags}, "
                f"and {int(lag.max())} is asked for"
            )
        if k == 0:
            return np.asarray(lag == 0, dtype=np.float64)
        inside = (lag > 0) & (lag <= k)
        return params[np.where(inside, lag - 1, 0)] * inside + (lag == 0)


def _correlations(partial: Jet) -> Jet:
    """Autocorrelations of a series with given partial ones (Durbin-Levinson)."""
    rho = phi = partial[:1]
    error: Jet = 1.0 - phi[0] * phi[0]
    for k in range(1, len(partial)):
        last = partial[k]
        value = last * error + (phi * rho[::-1]).sum()
        rho = concatenate([rho, value[None]])
        phi = concatenate([phi - last * phi[::-1], partial[k : k + 1]])
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


@class_with_near_names
@dataclass(frozen=True)
class CompoundSymmetry(Startable, FormulaStructure):
    """
    Compound symmetry: ``corr(e_s, e_t) = rho`` for all pairs.

    Where `rho` is positive it is the model with a random intercept; negative
    values down to ``-1 / (n - 1)``, `n` the rows of the longest series, are
    possible as well.  Times are not used.

    Parameters
    ----------
    rho : float, optional
        Starting value.
    fixed : bool
        Hold `rho` at its starting value instead of estimating it.
    by : str, optional
        Column of strata, each with a parameter of its own.
    longest : int
        Rows of the longest series, set by :meth:`bind_layout`.

    Raises
    ------
    UnsupportedError
        If `rho` is not between its limits, or is fixed without a value.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, section 5.3.1, equation 5.27.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import CompoundSymmetry
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age",
    ...     teeth,
    ...     groups="subject",
    ...     re_formula="0",
    ...     time="occ",
    ...     residual=CompoundSymmetry(),
    ... )
    >>> model.fit().residual_params.round(2).to_dict()
    {'rho': 0.69}
    """

    rho: float | None = None
    fixed: bool = False
    by: str | None = None
    longest: int = 2

    code: ClassVar[str] = "cs"
    label: ClassVar[str] = "compound symmetry"
    limit: ClassVar[float] = _LIMIT
    param_names: ClassVar[tuple[str, ...]] = ("rho",)

    def __post_init__(self) -> None:
        check_start("CompoundSymmetry", self.rho, self.fixed, -1.0)

    @property
    def uses_time(self) -> bool:
        return False

    @property
    def lowest(self) -> float:
        """The correlation that the matrix has to exceed to be definite."""
        return -1.0 / (max(self.longest, 2) - 1)

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        bound = replace(self, longest=max(layout.longest, 2))
        if self.rho is not None and not self.rho > bound.lowest:
            raise UnsupportedError(
                f"CompoundSymmetry: rho={self.rho!r} is not possible for series of "
                f"{layout.longest} rows; it has to exceed {bound.lowest:.4g}"
            )
        return bound

    def _tried(self) -> Sequence[FloatArray]:
        return [self.to_unconstrained([r]) for r in (0.3, 0.8, 0.3 * self.lowest)]

    def _inverse(self, params: FloatArray) -> FloatArray:
        return 0.5 * np.log((params - self.lowest) / (1.0 - params))

    def from_variables(self, u: Jet) -> Jet:
        low = self.lowest
        share = 0.5 * (np.tanh(clip(u, -_LIMIT, _LIMIT)) + 1.0)
        return share * (1.0 - low) + low

    def at_end(self, params: ArrayLike) -> BoolArray:
        share = (np.ravel(np.asarray(params)) - self.lowest) / (1.0 - self.lowest)
        return ~((share > 1e-6) & (share < 1.0 - 1e-6))

    def correlations(self, cells: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        return params[0] + np.zeros(len(cells))

    @property
    def n_states(self) -> int:
        return 1

    def state_space(self, cells: FloatArray, u: FloatArray) -> StateSpace:
        # what all rows share stays as it is
        rho = self.natural(u)
        none = np.zeros(len(cells))
        return single_state(
            Jet.constant(none + 1.0, rho.k), Jet.constant(none, rho.k), rho
        )

    def cells(self, a: FloatArray, b: FloatArray) -> FloatArray:
        return np.zeros((len(a), 0))
