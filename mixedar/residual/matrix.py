"""
The correlation matrix of given rows, as users ask for it, before and after a fit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mixedar._types import FloatArray
from mixedar.exceptions import StructureError, UnsupportedError
from mixedar.residual.base import DataLayout, Mark, ResidualStructure
from mixedar.residual.registry import completed
from mixedar.residual.wrapped import Heteroscedastic


def bind_to(structure: ResidualStructure, layout: DataLayout) -> ResidualStructure:
    """A structure bound to data, whose names of levels it keeps."""
    bound = structure.bind_layout(layout)
    if any(names is not None for names in layout.labels):
        bound = copy.copy(bound)
        object.__setattr__(bound, "level_names", layout.labels)
    return bound


def correlation(
    structure: ResidualStructure, where: Any, params: ArrayLike | Mapping[str, float]
) -> FloatArray:
    """
    The correlation matrix of the rows of a series, dense.

    Parameters
    ----------
    where : array_like or mapping of str to array_like
        Times, shape (n,), in the unit in which the model counts them, or occasions
        as the data name them; coordinates, shape (n, c), of structures that read
        nothing else; or what the structure reads by name, such as a DataFrame, with
        ``"time"`` for times or occasions.  Also positions, shape (n, 1 + c): times,
        then numbers of levels or strata, and coordinates.
    params : array_like, Series or mapping, shape (k_params,)
        By name, such as ``fit.residual_params``, or in the order of ``param_names``.  A
        structure that has not seen data takes the occasions of `where`, in the order of
        numbers, or as they first occur.

    Returns
    -------
    ndarray, shape (n, n)
        With a variance function covariances, relative to the residual variance.

    Raises
    ------
    UnsupportedError
        If `where` lacks what the structure reads, or there are other parameters.
    StructureError
        If the model knows nothing of an occasion or stratum.

    Examples
    --------
    >>> from mixedar.api import AR1
    >>> AR1(nugget=True).correlation([0, 1, 3], [0.5, 0.2])
    array([[1. , 0.4, 0.1],
           [0.4, 1. , 0.2],
           [0.1, 0.2, 1. ]])
    """
    structure = completed(structure)
    named = dict(params.items()) if hasattr(params, "items") else {}
    given: Any = list(named.values()) or params
    values = np.asarray(given, dtype=np.float64).ravel()
    positions = _as_positions(structure, where)
    if positions is None:
        columns = _columns(structure, where)
        structure, positions = _placed(structure, columns, len(values))
    elif len(values) != structure.k_params:
        structure = _bound(structure, positions, None)
    if len(values) != structure.k_params:
        names = ", ".join(structure.param_names) or "none"
        raise UnsupportedError(
            f"{structure.label} residuals at these rows have {structure.k_params} "
            f"parameters ({names}), and {len(values)} are given"
        )
    if set(named) == set(structure.param_names):
        values = np.array([named[name] for name in structure.param_names], dtype=float)
    elif isinstance(params, Mapping):
        raise UnsupportedError(
            f"{structure.label} residuals at these rows have the parameters "
            f"({', '.join(structure.param_names)}), and {', '.join(map(str, named))} "
            "are given"
        )
    return _matrix(structure, positions, values)


def _matrix(
    structure: ResidualStructure, positions: FloatArray, params: FloatArray
) -> FloatArray:
    """The matrix of rows at these positions."""
    rows, columns = np.triu_indices(len(positions), 1)
    out = np.eye(len(positions))
    cells = structure.cells(positions[rows], positions[columns])
    out[rows, columns] = structure.correlations(cells, params)
    out[columns, rows] = out[rows, columns]
    if not isinstance(structure, Heteroscedastic):
        return out
    marks = positions[:, 1 + len(structure.structure.marks) :]
    own = structure.split_params(params)[1]
    sd = np.exp(np.asarray(structure.variance.log_sd(marks, own), dtype=np.float64))
    return out * np.outer(sd, sd)


def _as_positions(structure: ResidualStructure, where: Any) -> FloatArray | None:
    """What is given if it holds the numbers that structures read themselves."""
    if isinstance(where, Mapping) or hasattr(where, "columns"):
        return None
    numbers = np.asarray(where)
    if numbers.ndim == 1 and not structure.marks:
        return _numbers("time", where)[:, None]
    if numbers.ndim != 2:
        return None
    width = len(structure.marks)
    if numbers.shape[1] == width and not structure.uses_time:
        return np.column_stack([np.zeros(len(numbers)), _numbers("coordinates", where)])
    if numbers.shape[1] == 1 + width:
        return _numbers("positions", where)
    raise UnsupportedError(
        f"{structure.label}: positions have {1 + width} columns, the time and "
        f"{_listed(structure.marks) or 'nothing else'}; got {numbers.shape[1]}"
    )


def _numbers(what: str, values: Any) -> FloatArray:
    found = np.asarray(values)
    if found.dtype.kind not in "iufb":
        raise UnsupportedError(
            f"correlation(): {what} have to be numbers, in the unit of the model's "
            f"distances; got {found.dtype}"
        )
    return found.astype(np.float64)


def _listed(marks: Sequence[Mark]) -> str:
    return ", ".join(repr(mark.column or "time") for mark in marks)


def _columns(structure: ResidualStructure, where: Any) -> list[Any]:
    """Times, and the values of what else the structure reads."""
    if not isinstance(where, Mapping) and not hasattr(where, "columns"):
        if any(mark.column is not None for mark in structure.marks):
            raise UnsupportedError(
                f"{structure.label} residuals read {_listed(structure.marks)}: pass a "
                "dict or DataFrame with these columns"
                + (", and 'time'" if structure.uses_time else "")
            )
        return [where] * (1 + len(structure.marks))
    names = [mark.column or "time" for mark in structure.marks]
    lacking = [name for name in names if name not in where]
    if structure.uses_time and "time" not in where:
        lacking.insert(0, "time")
    if lacking:
        raise UnsupportedError(
            f"{structure.label} residuals read {', '.join(map(repr, lacking))}, which "
            "is not among the columns given"
        )
    count = len(next(iter(where[name] for name in (*names, "time") if name in where)))
    time = where["time"] if structure.uses_time else np.arange(count)
    return [time, *(where[name] for name in names)]


def _placed(
    structure: ResidualStructure, columns: list[Any], k_params: int
) -> tuple[ResidualStructure, FloatArray]:
    """The structure, bound to the rows if it has seen no data, and positions."""
    marks, known = structure.marks, structure.level_names
    time = columns[0]
    numbers = np.arange(len(time), dtype=np.float64)
    if structure.uses_time:
        numbers = _numbers("time", time)
    if known and structure.k_params == k_params:
        codes = [
            _numbers(repr(mark.column), column)
            if names is None
            else _codes(structure, names, column)
            for mark, names, column in zip(marks, known, columns[1:], strict=True)
        ]
        return structure, np.column_stack([numbers, *codes])
    labels: list[tuple[str, ...] | None] = []
    own = [numbers]
    for mark, column in zip(marks, columns[1:], strict=True):
        if mark.kind == "number":
            own.append(_numbers(repr(mark.column), column))
            labels.append(None)
            continue
        names = _levels(column)
        own.append(_codes(structure, names, column))
        labels.append(names)
    positions = np.column_stack(own)
    return _bound(structure, positions, tuple(labels)), positions


def _bound(
    structure: ResidualStructure,
    positions: FloatArray,
    labels: tuple[tuple[str, ...] | None, ...] | None,
) -> ResidualStructure:
    """The structure bound to the rows themselves."""
    if labels is None:
        labels = tuple(
            None
            if mark.kind == "number"
            else tuple(str(k + 1) for k in range(int(column.max()) + 1))
            for mark, column in zip(structure.marks, positions[:, 1:].T, strict=True)
        )
    gaps = np.diff(np.sort(positions[:, 0]))
    n = len(positions)
    # twice, as strata of one row are no strata
    layout = DataLayout(
        gaps[gaps > 0.0],
        n,
        float(np.ptp(positions[:, 0])),
        np.tile(positions[:, 1:], (2, 1)),
        labels,
        (0, n),
    )
    return structure.bind_layout(layout)


def _levels(values: Any) -> tuple[str, ...]:
    """Names of the distinct values: numbers in their order, others as they come."""
    found = np.asarray(values)
    if found.dtype.kind in "iufbM":
        distinct = list(np.unique(found))
    else:
        distinct = list(dict.fromkeys(found.tolist()))
    return tuple(next(_names(value)) for value in distinct)


def _names(value: Any) -> Iterator[str]:
    """How data may name a value."""
    if isinstance(value, (float, np.floating)):
        yield f"{value:g}"
    text = str(value)
    yield text
    if isinstance(value, (int, np.integer)):
        yield f"{value:g}"
    # a day without its time
    yield text.replace("T", " ").partition(" ")[0]


def _codes(
    structure: ResidualStructure, known: tuple[str, ...], values: Any
) -> FloatArray:
    """Numbers of the levels."""
    place = {name: k for k, name in enumerate(known)}
    out = np.empty(len(values))
    for row, value in enumerate(np.asarray(values)):
        found = [place[name] for name in _names(value) if name in place]
        if not found:
            raise StructureError(
                f"{structure.label} residuals: nothing is known of {value!s}, only of "
                f"{', '.join(known)}"
            )
        out[row] = found[0]
    return out
