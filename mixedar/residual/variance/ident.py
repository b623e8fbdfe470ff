"""A standard deviation for each stratum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from mixedar._lazy import class_with_near_names
from mixedar._types import ArrayOrJet, BoolArray, FloatArray
from mixedar.exceptions import IdentificationError, UnsupportedError, check_flags
from mixedar.numeric.autodiff import Jet
from mixedar.residual.base import DataLayout, Link, Mark, Startable, WithoutParameters
from mixedar.residual.variance.base import (
    Columns,
    Strata,
    VarianceFunction,
    check_column,
    check_columns,
    check_finite,
    check_positive,
    columns_text,
    marks_of,
)
from mixedar.residual.variance.covariate import (
    Start,
    bounded,
    check_start,
    is_at_bound,
    start_values,
    unbounded,
)

_LIMIT = 15.0  # of the logarithm of a ratio: exp(15) is 3 million


@class_with_near_names
@dataclass(frozen=True)
class VarIdent(Startable, VarianceFunction):
    """
    A standard deviation for each stratum: ``sd(e_t) = sigma ratio[s]``.

    ``sigma`` is the standard deviation of the first stratum, and the parameters
    are the ratios of the others to it.

    Parameters
    ----------
    column : str, tuple of str, or None
        Column of the strata; of several columns the combinations count.  None
        stands for the occasions of the time variable: a variance for each wave.
    ratios : mapping of str to float, or float, optional
        Starting values by the names of the strata.
    fixed : bool
        Hold the ratios at their starting values.
    reference : str, optional
        The stratum that ``sigma`` belongs to, the first by default.
    strata : Strata, optional
        Set by :meth:`bind_layout`.

    Raises
    ------
    UnsupportedError
        If the columns or the starting values cannot be understood.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, section 5.2.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import VarIdent
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex",
    ...     teeth,
    ...     groups="subject",
    ...     time="occ",
    ...     weights=VarIdent("sex"),
    ... )
    >>> list(model.fit().residual_params.index)
    ['rho', 'sd[Male]']
    """

    column: Columns = None
    ratios: Mapping[str, float] | Start = None
    fixed: bool = False
    reference: str | None = None
    strata: Strata | None = field(default=None, kw_only=True, repr=False)

    code: ClassVar[str] = "varident"
    link: ClassVar[Link] = "log"

    def __post_init__(self) -> None:
        check_flags(fixed=self.fixed)
        object.__setattr__(self, "column", check_columns("VarIdent", self.column))
        start = check_start("VarIdent", "ratios", self.ratios, positive=True)
        object.__setattr__(self, "ratios", start)
        if self.fixed and start is None:
            raise UnsupportedError(
                "VarIdent: fixed=True needs values, as in "
                "VarIdent('sex', {'Male': 1.5}, fixed=True)"
            )

    @property
    def label(self) -> str:  # type: ignore[override]
        return f"sd by {columns_text(self.column)}"

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the ratios; none before the data are known."""
        return tuple(f"sd[{name}]" for name in self._compared)

    @property
    def marks(self) -> tuple[Mark, ...]:
        return marks_of(self.column)

    @property
    def _what(self) -> str:
        return "VarIdent()" if self.column is None else f"VarIdent({self.column!r})"

    @property
    def _compared(self) -> tuple[str, ...]:
        """The strata but the reference."""
        if self.strata is None:
            return ()
        names, base = self.strata.names, self._base
        return names[:base] + names[base + 1 :]

    @property
    def _base(self) -> int:
        if self.strata is None or self.reference is None:
            return 0
        return self.strata.names.index(self.reference)

    @property
    def given(self) -> FloatArray | None:
        assert self.ratios is None or isinstance(self.ratios, (float, tuple))
        return start_values(self._what, "ratios", self.ratios, self._compared)

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        strata = Strata.bind(self._what, self.column, layout.marks, layout.labels)
        if len(strata) == 1:
            raise IdentificationError(
                f"{self._what}: all rows belong to one stratum, {strata.names[0]!r}; "
                "there is nothing to compare it with. Leave the variance function out"
            )
        if self.reference is not None and self.reference not in strata.names:
            raise UnsupportedError(
                f"{self._what}: reference={self.reference!r} is not one of the strata "
                f"{', '.join(map(repr, strata.names))}"
            )
        bound = replace(self, strata=strata)
        _ = bound.given  # raises for unknown strata
        return bound

    def _tried(self) -> Sequence[FloatArray]:
        return [np.full(self.k_free, size) for size in (0.0, 0.7, -0.7)]

    def _inverse(self, params: FloatArray) -> FloatArray:
        return unbounded(np.log(params), _LIMIT)

    def from_variables(self, u: Jet) -> Jet:
        return np.exp(bounded(u, _LIMIT))

    def log_sd(self, marks: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        assert self.strata is not None
        if not isinstance(params, Jet):
            params = np.asarray(params, dtype=np.float64)
        stratum, base = self.strata.of(marks), self._base
        free = stratum != base
        ratios = params[np.where(free, stratum - (stratum > base), 0)]
        return np.log(ratios) * free

    def at_end(self, params: ArrayLike) -> BoolArray:
        return is_at_bound(np.log(np.asarray(params, dtype=np.float64)), _LIMIT)


@dataclass(frozen=True)
class KnownVariance(WithoutParameters, VarianceFunction):
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
    def marks(self) -> tuple[Mark, ...]:
        return (Mark("number", self.column),)

    def _check(self, values: FloatArray, zero: str, negative: str) -> None:
        what = f"{type(self).__name__}({self.column!r})"
        check_finite(what, self.column, values)
        check_positive(what, self.column, values, zero=zero, negative=negative)


@class_with_near_names
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

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import VarFixed
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age",
    ...     teeth,
    ...     groups="subject",
    ...     time="occ",
    ...     weights=VarFixed("age"),
    ... )
    >>> list(model.fit().residual_params.index)
    ['rho']
    """

    code: ClassVar[str] = "varfixed"

    @property
    def label(self) -> str:  # type: ignore[override]
        return f"variance proportional to {self.column}"

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        self._check(
            layout.marks[:, 0],
            "the residual of such a row would be zero. Leave these rows out, or use "
            f"VarConstPower({self.column!r})",
            f"no variance is. Use VarExp({self.column!r}), which takes any number",
        )
        return self

    def log_sd(self, marks: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        return 0.5 * np.log(marks[:, 0])


@class_with_near_names
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

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import KnownWeights
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> teeth["precision"] = 2.0
    >>> model = mar.mixedlm(
    ...     "distance ~ age",
    ...     teeth,
    ...     groups="subject",
    ...     time="occ",
    ...     weights=KnownWeights("precision"),
    ... )
    >>> model.fit().converged
    True
    """

    code: ClassVar[str] = "weights"

    @property
    def label(self) -> str:  # type: ignore[override]
        return f"weights {self.column}"

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        self._check(
            layout.marks[:, 0],
            "such a row tells nothing. Leave these rows out",
            "weights are positive, the inverse of a variance",
        )
        return self

    def log_sd(self, marks: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        return -0.5 * np.log(marks[:, 0])
