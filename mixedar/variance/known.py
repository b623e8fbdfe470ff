"""Variances that are known up to a constant: covariates and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixedar.jets import Jet
from mixedar.residual.base import DataLayout, Mark
from mixedar.variance.base import VarianceFunction
from mixedar.variance.marks import check_column, check_finite, check_positive

__all__ = ["KnownVariance", "KnownWeights", "VarFixed"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class KnownVariance(VarianceFunction):
    """
    Variances with nothing to estimate beside ``sigma``.

    Parameters
    ----------
    column : str
    """

    column: str

    def __post_init__(self) -> None:
        check_column(type(self).__name__, self.column)

    @property
    def param_names(self) -> tuple[str, ...]:
        return ()

    @property
    def marks(self) -> tuple[Mark, ...]:
        return (Mark("number", self.column),)

    def start_grid(self) -> Sequence[FloatArray]:
        return [np.empty(0)]

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        return np.empty(0)

    def from_variables(self, u: Jet) -> Jet:
        return u

    def _check(self, values: FloatArray, zero: str, negative: str) -> None:
        what = f"{type(self).__name__}({self.column!r})"
        check_finite(what, self.column, values)
        check_positive(what, self.column, values, zero=zero, negative=negative)


@dataclass(frozen=True)
class VarFixed(KnownVariance):
    """
    Variance proportional to a covariate: ``var(e_t) = sigma^2 v_t``.

    Parameters
    ----------
    column : str
        The covariate, positive.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, section 5.2.
    """

    code: ClassVar[str] = "varfixed"

    @property
    def label(self) -> str:
        return f"variance proportional to {self.column}"

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        self._check(
            layout.marks[:, 0],
            "the residual of such a row would be zero. Leave these rows out, or use "
            f"VarConstPower({self.column!r})",
            f"no variance is. Use VarExp({self.column!r}), which takes any number",
        )
        return self

    def log_sd(self, marks: FloatArray, params: Any) -> Any:
        return 0.5 * np.log(marks[:, 0])


@dataclass(frozen=True)
class KnownWeights(KnownVariance):
    """
    Precision weights: ``var(e_t) = sigma^2 / w_t``.

    As ``weights`` of statsmodels' WLS and of lme4, and Stata's ``aweights``; an
    average of `w` measurements has the weight `w`.  The log-likelihood includes
    the weights' own term, ``sum log(w) / 2``.

    Parameters
    ----------
    column : str
        The weights, positive.
    """

    code: ClassVar[str] = "weights"

    @property
    def label(self) -> str:
        return f"weights {self.column}"

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        self._check(
            layout.marks[:, 0],
            "such a row tells nothing. Leave these rows out",
            "weights are positive, the inverse of a variance",
        )
        return self

    def log_sd(self, marks: FloatArray, params: Any) -> Any:
        return -0.5 * np.log(marks[:, 0])
