"""The exponential of a covariate or of the fitted values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mixedar.residual.base import DataLayout
from mixedar.variance.base import FITTED, VarianceFunction
from mixedar.variance.covariate import LinearCovariate
from mixedar.variance.marks import check_near_zero
from mixedar.variance.start import Start, check_start

__all__ = ["VarExp"]

FloatArray = NDArray[np.float64]


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

    Raises
    ------
    UnsupportedError
        If an argument cannot be understood.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, section 5.2.
    """

    expon: Mapping[str, float] | Start = None
    fixed: bool = False

    code: ClassVar[str] = "varexp"

    def __post_init__(self) -> None:
        super().__post_init__()
        start = check_start("VarExp", "expon", self.expon, positive=False)
        object.__setattr__(self, "expon", start)
        self._check_fixed()

    @property
    def label(self) -> str:
        return f"sd as an exponential of {self.covariate_text}"

    @property
    def parameter(self) -> str:
        return "expon"

    @property
    def start(self) -> Start:
        assert self.expon is None or isinstance(self.expon, (float, tuple))
        return self.expon

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        bound = super().bind_layout(layout)
        if self.column != FITTED:
            check_near_zero(self.what, self.column, layout.marks[:, 0])
        return bound

    def check_values(self, values: FloatArray) -> None:
        """Any number will do."""

    def transform(self, values: FloatArray) -> FloatArray:
        return values
