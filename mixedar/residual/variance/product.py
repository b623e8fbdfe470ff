"""Products of variance functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import ClassVar

import numpy as np

from mixedar._lazy import class_with_near_names
from mixedar._types import ArrayOrJet, FloatArray
from mixedar.exceptions import IdentificationError, UnsupportedError
from mixedar.numeric.autodiff import Jet
from mixedar.numeric.linalg import unique_rows
from mixedar.residual.base import Composite, DataLayout, Mark, Parametric
from mixedar.residual.variance.base import VarianceFunction
from mixedar.residual.variance.log_linear import VarLogLinear

# What formula engines call the column of ones.
_INTERCEPTS = {"Intercept", "(Intercept)"}
# Distinct rows at which parameters have to be told apart.
_SAMPLE = 2000


@class_with_near_names
@dataclass(frozen=True, init=False)
class VarComb(Composite, VarianceFunction):
    """
    Products of variance functions: ``sd(e_t) = sigma g1_t g2_t ...``.

    Parameters
    ----------
    *functions : VarianceFunction
        One or more.

    Raises
    ------
    UnsupportedError
        If something else is given, or a function twice.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and
    S-PLUS, Springer, section 5.2.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.api import VarComb, VarExp, VarIdent
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex",
    ...     teeth,
    ...     groups="subject",
    ...     time="occ",
    ...     weights=VarComb(VarIdent("sex"), VarExp("age")),
    ... )
    >>> list(model.fit().residual_params.index)
    ['rho', 'sd[Male]', 'expon']
    """

    functions: tuple[VarianceFunction, ...]

    code: ClassVar[str] = "varcomb"

    def __init__(self, *functions: VarianceFunction) -> None:
        flat: list[VarianceFunction] = []
        for each in functions:
            if not isinstance(each, VarianceFunction):
                raise UnsupportedError(
                    f"VarComb: {each!r} is not a variance function, as in "
                    "VarComb(VarIdent('sex'), VarPower('age'))"
                )
            flat.extend(each.functions if isinstance(each, VarComb) else (each,))
        if not flat:
            raise UnsupportedError("VarComb: there is no function to multiply")
        for each in flat:
            if flat.count(each) > 1:
                raise UnsupportedError(f"VarComb: {each!r} is there twice")
        object.__setattr__(self, "functions", tuple(flat))

    def __repr__(self) -> str:
        return f"VarComb({', '.join(map(repr, self.functions))})"

    @property
    def label(self) -> str:  # type: ignore[override]
        return " times ".join(f.label for f in self.functions)

    @property
    def parts(self) -> Sequence[Parametric]:
        return self.functions

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """
        Names of all parameters.

        Where two functions use a name, the columns that they read follow it.
        """
        count = Counter(n for f in self.functions for n in f.param_names)
        return tuple(
            n if count[n] == 1 else f"{n}({_columns(f)})"
            for f in self.functions
            for n in f.param_names
        )

    @property
    def marks(self) -> tuple[Mark, ...]:
        return tuple(mark for f in self.functions for mark in f.marks)

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        bound, start = [], 0
        for f in self.functions:
            end = start + len(f.marks)
            bound.append(f.bind_layout(layout.part(slice(start, end))))
            start = end
        out = VarComb(*bound)
        out._check_identified(layout.marks)
        return out

    def _check_identified(self, marks: FloatArray) -> None:
        """Raise if parameters change the standard deviations in the same way."""
        if self.k_free == 0:
            return
        rows, _ = unique_rows(marks)
        rows = rows[:: max(len(rows) // _SAMPLE, 1)]
        logs = self.log_sd(rows, self.natural(self.start_grid()[-1]))
        slopes = np.column_stack([np.ones(len(rows)), logs.first.T])
        length = np.sqrt((slopes**2).sum(axis=0))
        _, values, right = np.linalg.svd(
            slopes / np.where(length > 0.0, length, 1.0), full_matrices=True
        )
        lost = np.append(values, np.zeros(len(right) - len(values))) < 1e-8
        if not lost.any():
            return
        involved = np.abs(right[lost]).max(axis=0)[1:] > 1e-6
        free = [not f.fixed for f in self.functions for _ in f.param_names]
        names = compress(self.param_names, free)
        culprits = [n for n, hit in zip(names, involved, strict=True) if hit]
        raise IdentificationError(
            f"VarComb: the data cannot tell apart {', '.join(map(repr, culprits))}; "
            "they change the standard deviations in the same way. Leave one of the "
            "functions out"
        )

    def log_sd(self, marks: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        if not isinstance(params, Jet):
            params = np.asarray(params, dtype=np.float64)
        total: ArrayOrJet = 0.0
        column = place = 0
        for f in self.functions:
            here = slice(column, column + len(f.marks))
            own = slice(place, place + f.k_params)
            total = total + f.log_sd(marks[:, here], params[own])
            column, place = here.stop, own.stop
        return total


def formulas_of(function: VarianceFunction | None) -> tuple[str, ...]:
    """
    Formulas whose columns a model has to find before it binds a function.

    Parameters
    ----------
    function : VarianceFunction or None

    Returns
    -------
    tuple of str
        Right-hand sides.
    """
    if isinstance(function, VarComb):
        return tuple(text for f in function.functions for text in formulas_of(f))
    if isinstance(function, VarLogLinear) and not function.columns:
        return (function.formula,) if function.formula else ()
    return ()


def with_columns(
    function: VarianceFunction, columns: Mapping[str, Sequence[str]]
) -> VarianceFunction:
    """
    The function after its formulas have become columns.

    Parameters
    ----------
    function : VarianceFunction
    columns : mapping of str to sequence of str
        For each of :func:`formulas_of` the columns of its design; the intercept is
        left out.

    Returns
    -------
    VarianceFunction
        Its marks name these columns.

    Raises
    ------
    UnsupportedError
        If a formula has no column but the intercept.
    """
    if isinstance(function, VarComb):
        return VarComb(*(with_columns(f, columns) for f in function.functions))
    if not formulas_of(function):
        return function
    assert isinstance(function, VarLogLinear)
    assert function.formula is not None
    names = columns[function.formula]
    kept = tuple(name for name in names if name not in _INTERCEPTS)
    if not kept:
        raise UnsupportedError(
            f"VarLogLinear({function.formula!r}): the formula has no covariate. Leave "
            "the variance function out"
        )
    return replace(function, columns=kept)


def _columns(function: VarianceFunction) -> str:
    return "*".join("time" if m.column is None else m.column for m in function.marks)
