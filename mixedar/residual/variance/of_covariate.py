"""A constant plus a power of a covariate or of the fitted values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from mixedar._lazy import class_with_near_names
from mixedar._types import ArrayOrJet, BoolArray, FloatArray
from mixedar.exceptions import StructureError, UnsupportedError, check_flags
from mixedar.numeric.autodiff import Jet, clip, concatenate, stack
from mixedar.residual.base import DataLayout, Link
from mixedar.residual.variance.base import (
    FITTED,
    VarianceFunction,
    check_near_zero,
    check_positive,
)
from mixedar.residual.variance.covariate import (
    LIMIT,
    CovariateScale,
    CovariateVariance,
    LinearCovariate,
    Start,
    along,
    bounded,
    check_start,
    is_at_bound,
    start_values,
    unbounded,
)


@class_with_near_names
@dataclass(frozen=True)
class VarPower(LinearCovariate):
    """
    A power of a covariate: ``sd(e_t) = sigma |v_t|^power``.

    ``sigma`` is the standard deviation where the covariate is one.

    Parameters
    ----------
    column : str
        The covariate, positive; ``"fitted"`` stands for the fitted values, of
        which the absolute values are taken.
    by : str, tuple of str, or None
        Columns of strata, each with a power of its own.
    power : float, or mapping of str to float, optional
        Starting value, one for all strata or one each.
    fixed : bool
        Hold `power` at its starting value.
    strata, scales
        Found in the data.

    Raises
    ------
    UnsupportedError
        If an argument cannot be understood.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, section 5.2.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import VarPower
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age",
    ...     teeth,
    ...     groups="subject",
    ...     time="occ",
    ...     weights=VarPower("age"),
    ... )
    >>> list(model.fit().residual_params.index)
    ['rho', 'power']
    """

    power: Mapping[str, float] | Start = None
    fixed: bool = False

    code: ClassVar[str] = "varpower"
    parameter: ClassVar[str] = "power"

    @property
    def label(self) -> str:  # type: ignore[override]
        return f"sd as a power of {self.covariate_text}"

    def check_values(self, values: FloatArray) -> None:
        check_power(self.what, self.column, values)

    def transform(self, values: FloatArray) -> FloatArray:
        return np.log(np.abs(values))


def check_power(
    what: str, column: str, values: FloatArray, *, zero_allowed: bool = False
) -> None:
    """
    Raise for values of which no power is taken.

    Parameters
    ----------
    what : str
        The function, for the message.
    column : str
        Of ``"fitted"`` values absolute ones are taken.
    values : ndarray, shape (l,)
    zero_allowed : bool

    Raises
    ------
    StructureError
    """
    if column == FITTED:
        values = np.abs(values)
    if zero_allowed:
        values = np.where(values == 0.0, 1.0, values)
    check_positive(
        what,
        column,
        values,
        zero="no power of 0 is a standard deviation. Use "
        f"VarConstPower({column!r}), a constant plus a power, or VarExp({column!r})",
        negative=f"powers need positive numbers. Use VarExp({column!r}), which takes "
        "any number, or make a column of the absolute values if the sign does not "
        "matter",
    )


# A power that has to be positive stays between these shares of the limit.
_LEAST = 1e-9


@class_with_near_names
@dataclass(frozen=True)
class VarConstPower(CovariateVariance):
    """
    A constant plus a power: ``sd(e_t) = sigma (const + |v_t|^power)``.

    Unlike that of a power alone, the standard deviation stays away from zero as
    the covariate nears zero.  If the covariate is zero somewhere the power is
    positive.

    Parameters
    ----------
    column : str
        The covariate, zero or positive; ``"fitted"`` stands for the fitted
        values, of which the absolute values are taken.
    by : str, tuple of str, or None
        Columns of strata, each with parameters of its own.
    const, power : float, or mapping of str to float, optional
        Starting values, one for all strata or one each.
    fixed : bool
        Hold both at their starting values.
    from_zero : bool
        Whether the covariate is zero somewhere, found in the data.
    strata, scales
        Found in the data.

    Raises
    ------
    UnsupportedError
        If an argument cannot be understood.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, section 5.2.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import VarConstPower
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age",
    ...     teeth,
    ...     groups="subject",
    ...     time="occ",
    ...     weights=VarConstPower("age", const=1.0, power=0.5, fixed=True),
    ... )
    >>> model.fit().converged
    True
    """

    const: Mapping[str, float] | Start = None
    power: Mapping[str, float] | Start = None
    fixed: bool = False
    from_zero: bool = field(default=False, kw_only=True, repr=False)

    code: ClassVar[str] = "varconstpower"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flags(fixed=self.fixed, from_zero=self.from_zero)
        for name in ("const", "power"):
            start = check_start(
                "VarConstPower", name, getattr(self, name), positive=name == "const"
            )
            object.__setattr__(self, name, start)
        if (self.const is None) != (self.power is None):
            raise UnsupportedError(
                "VarConstPower: starting values const= and power= come together"
            )
        if self.fixed and self.const is None:
            raise UnsupportedError(
                "VarConstPower: fixed=True needs const= and power=, as in "
                f"VarConstPower({self.column!r}, const=1, power=0.5, fixed=True)"
            )

    @property
    def label(self) -> str:  # type: ignore[override]
        return f"sd as a constant plus a power of {self.covariate_text}"

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.named("const"), *self.named("power"))

    @property
    def links(self) -> tuple[Link, ...]:
        half = self.k_params // 2
        positive: Link = "log"
        return (positive,) * half + (self.link,) * half

    def check_values(self, values: FloatArray) -> None:
        check_power(self.what, self.column, values, zero_allowed=True)

    def transform(self, values: FloatArray) -> FloatArray:
        return np.log(np.abs(np.where(values == 0.0, 1.0, values)))

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        bound = super().bind_layout(layout)
        assert isinstance(bound, VarConstPower)
        bound = replace(bound, from_zero=bool((layout.marks[:, 0] == 0.0).any()))
        start = bound.given
        if start is not None and bound.from_zero:
            powers = start[len(start) // 2 :]
            if not (powers > 0.0).all():
                raise StructureError(
                    f"{self.what}: power={powers.min():g} gives an infinite standard "
                    f"deviation where {self.column!r} is 0; start from a positive one"
                )
        return bound

    def _scale_of(self, values: FloatArray, stratum: str | None) -> CovariateScale:
        found = super()._scale_of(values, stratum)
        some = values[values != 0.0]
        if len(some) == len(values):
            return found
        logs = self.transform(some)
        if np.ptp(logs) > 1e-6:
            return CovariateScale.of(logs)
        raise StructureError(
            f"{self.what}: {self.column!r} is 0 or {some[0]:g} in all rows, from "
            "which no power can be estimated. Use VarIdent for two kinds of rows"
        )

    @property
    def given(self) -> FloatArray | None:
        assert self.const is None or isinstance(self.const, (float, tuple))
        assert self.power is None or isinstance(self.power, (float, tuple))
        const = start_values(self.what, "const", self.const, self.stratum_names)
        power = start_values(self.what, "power", self.power, self.stratum_names)
        if const is None or power is None:
            return None
        return np.concatenate([const, power])

    def _tried(self) -> Sequence[FloatArray]:
        # the constant beside the power of a typical value, and the power: at last so
        # steep that few rows have more than the constant
        pairs = [(0.0, 0.6), (-2.0, 0.4), (0.0, 1.2 if self.from_zero else -0.6)]
        pairs += [(3.0, 4.0)] + [(3.0, -4.0)] * (not self.from_zero)
        grid = []
        for share, slope in pairs:
            power = slope / self.units
            const = np.exp(share) * self._typical(power)
            grid.append(self.to_unconstrained(np.concatenate([const, power])))
        return grid

    def _inverse(self, params: FloatArray) -> FloatArray:
        const, power = params[: len(params) // 2], params[len(params) // 2 :]
        share = unbounded(np.log(const / self._typical(power)), LIMIT)
        slope = power * self.units
        if self.from_zero:
            inside = np.clip(slope / LIMIT, _LEAST, 1.0 - _LEAST)
            return np.concatenate([share, np.log(inside) - np.log1p(-inside)])
        return np.concatenate([share, unbounded(slope, LIMIT)])

    def from_variables(self, u: Jet) -> Jet:
        k = len(u) // 2
        share = bounded(u[:k], LIMIT)
        if self.from_zero:
            most = -float(np.log(_LEAST))
            slope = LIMIT / (1.0 + np.exp(-clip(u[k:], -most, most)))
        else:
            slope = bounded(u[k:], LIMIT)
        power = slope / along(self.units, slope)
        return concatenate([np.exp(share) * self._typical(power), power])

    def _typical(self, power: ArrayOrJet) -> ArrayOrJet:
        """
        Mean of the powers, by which the constant is measured.

        The power of a typical value would not do: as the power grows, a few
        extreme values come to outweigh all others.
        """
        means = []
        for s, scale in enumerate(self.scales):
            powers = np.exp(power[s] * along(np.array(scale.nodes), power))
            means.append(powers.sum() / len(scale.nodes))
        return stack(means, power.k) if isinstance(power, Jet) else np.array(means)

    def log_sd(self, marks: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        values = marks[:, 0]
        self.check_values(values)
        if not isinstance(params, Jet):
            params = np.asarray(params, dtype=np.float64)
        k = len(self.scales)
        place = self.place(marks)
        const, power = params[:k][place], params[k:][place]
        term = np.exp(power * self.transform(values)) * (values != 0.0)
        return np.log(const + term)

    def at_end(self, params: ArrayLike) -> BoolArray:
        values = np.asarray(params, dtype=np.float64)
        const, power = values[: len(values) // 2], values[len(values) // 2 :]
        share = np.log(const / self._typical(power))
        slope = power * self.units
        none = self.from_zero & (slope < 1e-4 * LIMIT)
        return np.append(is_at_bound(share, LIMIT), none | is_at_bound(slope, LIMIT))


@class_with_near_names
@dataclass(frozen=True)
class VarExp(LinearCovariate):
    """
    The exponential of a covariate: ``sd(e_t) = sigma exp(expon v_t)``.

    ``sigma`` is the standard deviation where the covariate is zero.

    Parameters
    ----------
    column : str
        The covariate, any numbers; ``"fitted"`` stands for the fitted values.
    by : str, tuple of str, or None
        Columns of strata, each with a coefficient of its own.
    expon : float, or mapping of str to float, optional
        Starting value, one for all strata or one each.
    fixed : bool
        Hold `expon` at its starting value.
    strata, scales
        Found in the data.

    Raises
    ------
    UnsupportedError
        If an argument cannot be understood.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, section 5.2.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import VarExp
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age", teeth, groups="subject", time="occ", weights=VarExp("age")
    ... )
    >>> list(model.fit().residual_params.index)
    ['rho', 'expon']
    """

    expon: Mapping[str, float] | Start = None
    fixed: bool = False

    code: ClassVar[str] = "varexp"
    parameter: ClassVar[str] = "expon"

    @property
    def label(self) -> str:  # type: ignore[override]
        return f"sd as an exponential of {self.covariate_text}"

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        bound = super().bind_layout(layout)
        if self.column != FITTED:
            check_near_zero(self.what, self.column, layout.marks[:, 0])
        return bound

    def check_values(self, values: FloatArray) -> None:
        """Any number will do."""

    def transform(self, values: FloatArray) -> FloatArray:
        return values
