"""A power of a covariate or of the fitted values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mixedar.variance.base import FITTED
from mixedar.variance.covariate import LinearCovariate
from mixedar.variance.marks import check_positive
from mixedar.variance.start import Start, check_start

__all__ = ["VarPower", "check_power"]

FloatArray = NDArray[np.float64]


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

    Raises
    ------
    UnsupportedError
        If an argument cannot be understood.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, section 5.2.
    """

    power: Mapping[str, float] | Start = None
    fixed: bool = False

    code: ClassVar[str] = "varpower"

    def __post_init__(self) -> None:
        super().__post_init__()
        start = check_start("VarPower", "power", self.power, positive=False)
        object.__setattr__(self, "power", start)
        self._check_fixed()

    @property
    def label(self) -> str:
        return f"sd as a power of {self.covariate_text}"

    @property
    def parameter(self) -> str:
        return "power"

    @property
    def start(self) -> Start:
        assert self.power is None or isinstance(self.power, (float, tuple))
        return self.power

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
