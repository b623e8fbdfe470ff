"""A log-linear model of the residual standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import qr, solve_triangular

from mixedar._lazy import class_with_near_names
from mixedar._types import ArrayOrJet, BoolArray, FloatArray
from mixedar.exceptions import RankDeficiencyError, UnsupportedError, check_flags
from mixedar.numeric.autodiff import Jet, linear
from mixedar.residual.base import DataLayout, Mark, Startable
from mixedar.residual.variance.base import (
    VarianceFunction,
    check_column,
    check_finite,
    check_near_zero,
)
from mixedar.residual.variance.covariate import LIMIT, bounded, is_at_bound, unbounded


@class_with_near_names
@dataclass(frozen=True)
class VarLogLinear(Startable, VarianceFunction):
    """
    Log-linear standard deviations: ``sd(e_t) = sigma exp(w_t' gamma)``.

    ``sigma`` takes the place of the intercept: it is the standard deviation where
    all columns of the formula's design are zero.

    Parameters
    ----------
    formula : str, optional
        Right-hand side, such as ``"treatment + time"``.
    gamma : sequence of float, optional
        Starting values in the order of the columns.
    fixed : bool
        Hold `gamma` at its starting values.
    columns : tuple of str
        Columns of the design without the intercept.  A model with a formula
        finds them itself; with arrays they take the place of the formula.
    basis : tuple of tuple of float
        Map from coordinates with uncorrelated columns to `gamma`; set by
        :meth:`bind_layout`.

    Raises
    ------
    UnsupportedError
        If an argument cannot be understood.

    References
    ----------
    Harvey, A. C. (1976), Estimating regression models with multiplicative
    heteroscedasticity, Econometrica 44, 461-465.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import VarLogLinear
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex",
    ...     teeth,
    ...     groups="subject",
    ...     time="occ",
    ...     weights=VarLogLinear("~ age + sex"),
    ... )
    >>> list(model.fit().residual_params.index)
    ['rho', 'log_sd[sex[T.Male]]', 'log_sd[age]']
    """

    formula: str | None = None
    gamma: tuple[float, ...] | None = None
    fixed: bool = False
    columns: tuple[str, ...] = field(default=(), kw_only=True)
    basis: tuple[tuple[float, ...], ...] = field(default=(), kw_only=True, repr=False)

    code: ClassVar[str] = "varloglinear"

    def __post_init__(self) -> None:
        check_flags(fixed=self.fixed)
        if not isinstance(self.columns, (list, tuple)):
            raise UnsupportedError(
                f"VarLogLinear: columns={self.columns!r} is not a list of columns"
            )
        object.__setattr__(self, "columns", tuple(self.columns))
        for column in self.columns:
            check_column("VarLogLinear", column)
        if self.formula is not None or not self.columns:
            object.__setattr__(self, "formula", _right_hand_side(self.formula))
        if self.gamma is None:
            if self.fixed:
                raise UnsupportedError("VarLogLinear: fixed=True needs gamma=")
            return
        try:
            gamma = np.ravel(np.asarray(self.gamma, dtype=np.float64))
        except (TypeError, ValueError):
            gamma = np.array([np.nan])
        if not np.isfinite(gamma).all():
            raise UnsupportedError(
                f"VarLogLinear: gamma={self.gamma!r} are not finite numbers"
            )
        object.__setattr__(self, "gamma", tuple(float(g) for g in gamma))

    @property
    def label(self) -> str:  # type: ignore[override]
        return f"log sd ~ {self.formula or ' + '.join(self.columns)}"

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the coefficients; none before the data are known."""
        return tuple(f"log_sd[{name}]" for name in self.columns)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The columns of the design; none before they are known."""
        return tuple(Mark("number", column) for column in self.columns)

    @property
    def given(self) -> FloatArray | None:
        if self.gamma is None:
            return None
        return np.array(self.gamma, dtype=np.float64)

    @property
    def _map(self) -> FloatArray:
        return np.array(self.basis, dtype=np.float64)

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        what = f"VarLogLinear({self.formula or self.columns!r})"
        if not self.columns:
            raise UnsupportedError(
                f"{what}: a formula needs a data frame. With arrays pass "
                "VarLogLinear(columns=...) with the names of columns of residual_data="
            )
        if self.gamma is not None and len(self.gamma) != len(self.columns):
            raise UnsupportedError(
                f"{what}: gamma has {len(self.gamma)} values for the "
                f"{len(self.columns)} columns {', '.join(map(repr, self.columns))}"
            )
        for name, values in zip(self.columns, layout.marks.T, strict=True):
            check_finite(what, name, values)
        basis = _orthonormal(what, self.columns, layout.marks)
        for name, values in zip(self.columns, layout.marks.T, strict=True):
            check_near_zero(what, name, values)
        return replace(self, basis=tuple(tuple(float(x) for x in row) for row in basis))

    def _tried(self) -> Sequence[FloatArray]:
        k = self.k_free
        sizes = (0.0, 0.4, -0.4, 1.2, -1.2) if k == 1 else (0.0, 0.4, -0.4)
        return [np.full(k, size) for size in sizes]

    def _inverse(self, params: FloatArray) -> FloatArray:
        return unbounded(solve_triangular(self._map, params), LIMIT)

    def from_variables(self, u: Jet) -> Jet:
        return linear(self._map, bounded(u, LIMIT))

    def log_sd(self, marks: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        if not isinstance(params, Jet):
            return marks @ np.asarray(params, dtype=np.float64)
        total = params[0] * marks[:, 0]
        for j in range(1, marks.shape[1]):
            total = total + params[j] * marks[:, j]
        return total

    def at_end(self, params: ArrayLike) -> BoolArray:
        u = solve_triangular(self._map, np.asarray(params, dtype=np.float64))
        return is_at_bound(u, LIMIT)


def _right_hand_side(formula: object) -> str:
    if not isinstance(formula, str) or not formula.strip(" ~"):
        raise UnsupportedError(
            f"VarLogLinear: formula={formula!r} is not a formula such as "
            "'treatment + time'"
        )
    left, tilde, right = formula.partition("~")
    if tilde and left.strip():
        raise UnsupportedError(
            f"VarLogLinear: {formula!r} has a left-hand side; it is the standard "
            f"deviation, so pass {right.strip()!r}"
        )
    return (right if tilde else left).strip()


def _orthonormal(what: str, columns: tuple[str, ...], design: FloatArray) -> FloatArray:
    """Upper triangular map after which columns have unit variance, uncorrelated."""
    n, m = design.shape
    size = np.abs(design).max(axis=0)
    centred = design - design.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    constant = length <= 1e-10 * np.sqrt(n) * size
    scaled = centred / np.where(constant, 1.0, length)
    scaled[:, constant] = 0.0
    (factor,) = qr(scaled, mode="r")
    pivots = np.zeros(m)
    pivots[: min(n, m)] = np.abs(np.diagonal(factor))
    lost = pivots < 1e-9
    if lost.any():
        culprit = columns[int(np.flatnonzero(lost)[0])]
        raise RankDeficiencyError(
            f"{what}: the column {culprit!r} is constant or a linear combination of "
            "the columns before it and of the intercept, whose place sigma takes. "
            "Drop it from the formula"
        )
    basis = solve_triangular(factor[:m] * length, np.eye(m)) * np.sqrt(n)
    # no coordinate within the limit may give numbers that overflow
    off = np.abs(centred @ basis).sum(axis=1).max() / 3.0
    far = np.abs(design @ basis).sum(axis=1).max() / 15.0
    return np.asarray(basis / max(1.0, off / np.sqrt(m), far))
