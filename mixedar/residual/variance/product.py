"""Products of variance functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from mixedar._types import FloatArray
from mixedar.exceptions import IdentificationError, UnsupportedError
from mixedar.numeric.autodiff import Jet, concatenate
from mixedar.residual.base import DataLayout, Link, Mark
from mixedar.residual.variance.base import VarianceFunction
from mixedar.residual.variance.log_linear import VarLogLinear

# What formula engines call the column of ones.
_INTERCEPTS = {"Intercept", "(Intercept)"}
# Distinct rows at which parameters have to be told apart.
_SAMPLE = 2000


@dataclass(frozen=True, init=False)
class VarComb(VarianceFunction):
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
    def links(self) -> tuple[Link, ...]:
        return tuple(link for f in self.functions for link in f.links)

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
    def fixed(self) -> bool:  # type: ignore[override]
        """Whether no parameter is estimated."""
        return self.k_free == 0

    @property
    def k_free(self) -> int:
        return sum(f.k_free for f in self.functions)

    @property
    def marks(self) -> tuple[Mark, ...]:
        return tuple(mark for f in self.functions for mark in f.marks)

    @property
    def held(self) -> FloatArray:
        return np.concatenate([f.held for f in self.functions])

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        bound, start = [], 0
        for f in self.functions:
            own = slice(start, start + len(f.marks))
            part = replace(
                layout, marks=layout.marks[:, own], labels=layout.labels[own]
            )
            bound.append(f.bind_layout(part))
            start += len(f.marks)
        out = VarComb(*bound)
        out._check_identified(layout.marks)
        return out

    def _check_identified(self, marks: FloatArray) -> None:
        """Raise if parameters change the standard deviations in the same way."""
        if self.k_free == 0:
            return
        rows = _distinct(marks)
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
        names = [name for name, free in self._named() if free]
        culprits = [n for n, hit in zip(names, involved, strict=True) if hit]
        raise IdentificationError(
            f"VarComb: the data cannot tell apart {', '.join(map(repr, culprits))}; "
            "they change the standard deviations in the same way. Leave one of the "
            "functions out"
        )

    def _named(self) -> Iterator[tuple[str, bool]]:
        names = iter(self.param_names)
        for f in self.functions:
            for _ in f.param_names:
                yield next(names), not f.fixed

    def start_grid(self) -> Sequence[FloatArray]:
        grids = [f.start_grid() for f in self.functions]
        first = [grid[0] for grid in grids]
        out = [np.concatenate(first)]
        for place, grid in enumerate(grids):
            for u in grid[1:]:
                out.append(np.concatenate([*first[:place], u, *first[place + 1 :]]))
        return out

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        values = np.asarray(params, dtype=np.float64)
        return np.concatenate(
            [f.to_unconstrained(part) for f, part in self._parts(values)]
        )

    def from_variables(self, u: Jet) -> Jet:
        out, start = [], 0
        for f in self.functions:
            if f.k_free:
                out.append(f.from_variables(u[start : start + f.k_free]))
                start += f.k_free
            elif f.k_params:
                out.append(Jet.constant(f.held, u.k))
        return concatenate(out)

    def log_sd(self, marks: FloatArray, params: Any) -> Any:
        if not isinstance(params, Jet):
            params = np.asarray(params, dtype=np.float64)
        total: Any = 0.0
        column = 0
        for f, part in self._parts(params):
            width = len(f.marks)
            total = total + f.log_sd(marks[:, column : column + width], part)
            column += width
        return total

    def at_boundary(self, params: ArrayLike) -> bool:
        values = np.asarray(params, dtype=np.float64)
        return any(f.k_free and f.at_boundary(p) for f, p in self._parts(values))

    def _parts(self, params: Any) -> Iterator[tuple[VarianceFunction, Any]]:
        """Each function with its own of all parameters."""
        start = 0
        for f in self.functions:
            yield f, params[start : start + f.k_params]
            start += f.k_params


def _distinct(marks: FloatArray) -> FloatArray:
    """Distinct rows; column by column, which is faster than numpy's way."""
    code = np.zeros(len(marks), dtype=np.intp)
    for column in marks.T:
        values, place = np.unique(column, return_inverse=True)
        _, code = np.unique(code * len(values) + place, return_inverse=True)
    return marks[np.unique(code, return_index=True)[1]]


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
