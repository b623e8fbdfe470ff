"""
Checks for residual structures of one's own.

Correlations and all derivatives have to be those of one positive definite matrix;
a search is only as good as they are.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike

from mixedar._lazy import with_near_names
from mixedar._types import FloatArray
from mixedar.exceptions import ContractError
from mixedar.numeric.autodiff import Jet
from mixedar.residual.base import DataLayout, Link, Parametric, ResidualStructure
from mixedar.residual.markov import MarkovStructure
from mixedar.residual.registry import resolve

_LINKS = get_args(Link)
_STEP = 1e-4  # of central differences, by unconstrained parameters
# A difference's own error is of the order of the step squared.
_LOOSE = 1e-5
_TIGHT = 1e-8


@with_near_names
def check_structure(
    structure: str | ResidualStructure | type,
    positions: ArrayLike,
    params: ArrayLike | None = None,
) -> ResidualStructure:
    """
    Check that a residual structure keeps the contract of :class:`ResidualStructure`.

    Parameters
    ----------
    structure : str, ResidualStructure or class
    positions : array_like, shape (n,) or (n, 1 + c)
        Positions of the rows of one series: increasing times, then a column for
        each of the structure's marks (levels and strata as numbers from 0).
        Three rows or more.
    params : array_like, shape (k_params,), optional
        Where to check, beside the structure's own starting values.

    Returns
    -------
    ResidualStructure
        The structure, bound to these positions.

    Raises
    ------
    ContractError
        Saying what is wrong, and where.

    Examples
    --------
    >>> from mixedar.api import AR1, check_structure
    >>> check_structure(AR1(), positions=[0, 1, 2, 4])
    AR1(rho=None, fixed=False, nugget=False, by=None, common_gap=1, typical_gap=1.0)
    """
    positions = np.array(positions, dtype=np.float64)
    if positions.ndim == 1:
        positions = positions[:, None]
    given = resolve(structure)
    _require(
        len(positions) >= 3 and positions.shape[1] == 1 + len(given.marks),
        f"positions have the shape {positions.shape}; checking takes three rows or "
        f"more with a time and {len(given.marks)} marks",
    )
    bound = given.bind_layout(_layout(given, positions))
    _require(
        isinstance(bound, ResidualStructure),
        f"bind_layout returns {type(bound).__name__}, not a ResidualStructure",
    )
    _check_names(bound)
    points = _check_starts(bound)
    if params is not None:
        points.append(np.asarray(bound.to_unconstrained(params)))
    # starts are often special: beside them derivatives are not
    shift = 0.05 * np.cos(np.arange(bound.k_free))
    for u in [*points, points[0] + shift]:
        _check_parameters(bound, u)
        _check_cells(bound, positions, u)
        _check_matrix(bound, positions, u)
        if isinstance(bound, MarkovStructure):
            _check_step(bound, np.diff(positions[:, 0]), u)
        if bound.n_states:
            _check_states(bound, positions, u)
            _check_innovations(bound, u)
    _check_extremes(bound, positions)
    return bound


def _require(holds: object, message: str) -> None:
    if not holds:
        raise ContractError(message)


def _text(values: ArrayLike) -> str:
    return f"[{', '.join(f'{v:.6g}' for v in np.ravel(np.asarray(values)))}]"


def _equal(
    found: ArrayLike, expected: ArrayLike, message: str, tolerance: float = _TIGHT
) -> None:
    """Compare relative to the largest number."""
    found, expected = np.asarray(found), np.asarray(expected)
    _require(
        found.shape == expected.shape,
        f"{message}: the shape is {found.shape} instead of {expected.shape}",
    )
    _require(np.isfinite(found).all(), f"{message}: there are NaN or infinite values")
    size = max(float(np.abs(expected).max(initial=0.0)), 1.0)
    off = float(np.abs(found - expected).max(initial=0.0))
    _require(off <= tolerance * size, f"{message} (largest difference {off:.3g})")


def _layout(structure: ResidualStructure, positions: FloatArray) -> DataLayout:
    labels: list[tuple[str, ...] | None] = []
    for mark, column in zip(structure.marks, positions[:, 1:].T, strict=True):
        count = 0 if mark.kind == "number" else int(column.max()) + 1
        labels.append(tuple(str(k + 1) for k in range(count)) if count else None)
    time = positions[:, 0]
    gaps = np.diff(time)
    _require((gaps > 0.0).all(), "times have to increase from row to row")
    # two such series: a variance for each occasion cannot be told from one
    return DataLayout(
        np.tile(gaps, 2),
        len(time),
        float(time[-1] - time[0]),
        np.tile(positions[:, 1:], (2, 1)),
        tuple(labels),
        np.array([0, len(time)]),
    )


def _check_names(structure: ResidualStructure) -> None:
    kind, names = type(structure), structure.param_names
    name = kind.__name__
    _require(
        kind.natural is not Parametric.natural
        or kind.from_variables is not Parametric.from_variables
        or not structure.k_free,
        f"{name} has neither from_variables nor natural: one of them has to say what "
        "the parameters are",
    )
    for attribute in ("code", "label"):
        value = getattr(structure, attribute, None)
        _require(
            isinstance(value, str) and value,
            f"{name}.{attribute} is {value!r}, no text",
        )
    _require(
        isinstance(names, tuple) and len(set(names)) == len(names),
        f"param_names={names!r} have to be a tuple of different names",
    )
    _require(
        structure.k_params == len(names),
        f"k_params={structure.k_params} differs from the {len(names)} param_names",
    )
    _require(
        0 <= structure.k_free <= structure.k_params,
        f"k_free={structure.k_free} is not between 0 and k_params={structure.k_params}",
    )
    links = structure.links
    _require(
        len(links) == len(names) and set(links) <= set(_LINKS),
        f"links={links!r}: one of {', '.join(map(repr, _LINKS))} for each parameter",
    )
    if kind.__module__ == "__main__":
        return  # of a session: whether it can be pickled is up to that
    try:
        twin = pickle.loads(pickle.dumps(structure))
    except Exception as error:
        raise ContractError(
            f"{name} cannot be pickled ({error}); define it at the top of a module"
        ) from error
    _require(
        twin == structure and hash(twin) == hash(structure),
        f"a pickled copy is not equal to the original; make {name} a frozen dataclass",
    )


def _check_starts(structure: ResidualStructure) -> list[FloatArray]:
    grid = [np.asarray(u, dtype=np.float64) for u in structure.start_grid()]
    _require(grid, "start_grid() is empty: the search needs a point to begin at")
    for u in grid:
        _require(
            u.shape == (structure.k_free,) and np.isfinite(u).all(),
            f"start_grid() has {_text(u)}; {structure.k_free} finite numbers "
            "are expected",
        )
    params = structure.from_unconstrained(grid[0])
    _require(
        structure.k_free == 0 or not structure.at_boundary(params),
        f"start_grid() begins with a point at the boundary, {_text(params)}",
    )
    # others may look there, but derivatives are checked inside
    return [
        u
        for u in grid
        if structure.k_free == 0
        or not structure.at_boundary(structure.from_unconstrained(u))
    ]


def _check_parameters(structure: ResidualStructure, u: FloatArray) -> None:
    params = np.asarray(structure.from_unconstrained(u))
    _require(
        params.shape == (structure.k_params,) and np.isfinite(params).all(),
        f"from_unconstrained({_text(u)}) is {_text(params)}; "
        f"{structure.k_params} finite numbers are expected",
    )
    _equal(
        structure.to_unconstrained(params),
        u,
        "to_unconstrained does not undo from_unconstrained",
        1e-6,
    )
    here = structure.natural(u)
    _equal(here.value, params, "natural(u).value differs from from_unconstrained(u)")
    _check_jet(structure, structure.natural, u, "natural(u)")


def _check_jet(
    structure: ResidualStructure,
    function: Callable[[FloatArray], Jet],
    u: FloatArray,
    what: str,
) -> None:
    """First derivatives against differences of values, second of first ones."""
    here, k = function(u), structure.k_free
    _require(isinstance(here, Jet), f"{what} is no Jet but a {type(here).__name__}")
    _require(
        here.first.shape == (k, *here.shape)
        and here.second.shape == (k, k, *here.shape),
        f"{what} has derivatives of the shapes {here.first.shape} and "
        f"{here.second.shape} for {k} free parameters and values of {here.shape}",
    )
    for j in range(k):
        step = _STEP * np.eye(k)[j]
        up, down = function(u + step), function(u - step)
        name = structure.param_names[j] if k == structure.k_params else str(j)
        for found, high, low, order in (
            (here.first[j], up.value, down.value, "first"),
            (here.second[j], up.first, down.first, "second"),
        ):
            _equal(
                found,
                (high - low) / (2.0 * _STEP),
                f"{order} derivatives of {what} by the unconstrained {name} are not "
                "those of its values",
                _LOOSE,
            )


def _check_cells(
    structure: ResidualStructure, positions: FloatArray, u: FloatArray
) -> None:
    """Correlations and standard deviations, their derivatives, and the matrix."""
    rows, columns = np.triu_indices(len(positions), 1)
    a, b = positions[rows], positions[columns]
    cells = structure.cells(a, b)
    _require(
        np.ndim(cells) == 2 and len(cells) == len(a),
        f"cells(a, b) has the shape {np.shape(cells)}, not ({len(a)}, f)",
    )
    here = structure.cell_values(cells, u)
    _require(here.shape == (len(a),), f"cell_values has the shape {here.shape}")
    wrong = here.value[np.abs(here.value) > 1.0 + 1e-12]
    _require(len(wrong) == 0, f"cell_values are no correlations: {_text(wrong)}")
    _equal(
        structure.cell_values(structure.cells(b, a), u).value,
        here.value,
        "the correlation of two rows depends on which comes first",
    )
    _check_jet(structure, lambda v: structure.cell_values(cells, v), u, "cell_values")
    params = structure.from_unconstrained(u)
    _equal(
        np.broadcast_to(structure.correlations(cells, params), len(a)),
        here.value,
        "correlations(cells, params) differ from cell_values",
    )
    sd = np.ones(len(positions))
    log_sd = structure.log_sd(positions, u)
    if log_sd is not None:
        sd = np.exp(log_sd.value)
        deviations: Any = structure.log_sd
        _check_jet(structure, lambda v: deviations(positions, v), u, "log_sd")
    matrix = structure.correlation(positions, params)
    _equal(
        matrix[rows, columns],
        here.value * sd[rows] * sd[columns],
        "correlation(positions, params) differs from cell_values",
    )
    _equal(np.diag(matrix), sd**2, "the diagonal of correlation is not that of log_sd")


def _check_matrix(
    structure: ResidualStructure, positions: FloatArray, u: FloatArray
) -> None:
    params = structure.from_unconstrained(u)
    for n in (2, len(positions)):
        matrix = structure.correlation(positions[:n], params)
        try:
            np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            smallest = float(np.linalg.eigvalsh(matrix)[0])
            raise ContractError(
                f"correlation of {n} rows is not positive definite at the parameters "
                f"{_text(params)}: its smallest eigenvalue is {smallest:.3g}"
            ) from None


def _check_step(structure: MarkovStructure, gaps: FloatArray, u: FloatArray) -> None:
    step = structure.step(gaps, u)
    params = structure.from_unconstrained(u)
    _equal(
        step.phi,
        structure.correlations(gaps[:, None], params),
        "step(gaps, u).phi differs from correlations(gaps, params)",
    )
    _equal(
        step.complement, 1.0 - step.phi**2, "step(gaps, u).complement is not 1 - phi^2"
    )


def _check_states(
    structure: ResidualStructure, positions: FloatArray, u: FloatArray
) -> None:
    """The state tells the same correlations, and its derivatives are its own."""
    cells = structure.cells(positions[:-1], positions[1:])
    states, d, n = partial(structure.state_space, cells), structure.n_states, len(cells)
    here = states(u)
    for name, part, shape in zip(
        here._fields, here, ((d, d, n),) * 3 + ((n,),), strict=True
    ):
        what = f"state_space(cells, u).{name}"
        _require(part.shape == shape, f"{what} has the shape {part.shape}, not {shape}")
        _check_jet(structure, partial(_part, states, name), u, what)
    f, q, p, noise = (part.value for part in here)
    _equal(p[0, 0] + noise, np.ones(n), "P[0, 0] and the noise are not one together")
    moved = np.einsum("abn,bcn,dcn->adn", f, p, f)
    _equal(q, p - moved, "state_space(cells, u).innovation is not P - F P F'")
    params = structure.from_unconstrained(u)
    for first in range(n):
        state, later = p[:, 0, first], positions[first + 1 :]
        found = []
        for k in range(first, n):
            state = f[:, :, k] @ state
            found.append(state[0])
        pairs = structure.cells(
            np.repeat(positions[first : first + 1], n - first, 0), later
        )
        _equal(
            found,
            np.broadcast_to(structure.correlations(pairs, params), len(later)),
            "state_space(cells, u) tells other correlations than cell_values",
        )


def _check_innovations(structure: ResidualStructure, u: FloatArray) -> None:
    """An ARMA process has the same correlations, and its derivatives are its own."""
    found = structure.innovations(u)
    if found is None:
        return
    p, q, d = len(found.ar), len(found.ma), len(found.root)
    _require(d == max(p, q), f"innovations(u).root has {d} rows, not {max(p, q)}")
    for name in found._fields:
        part = partial(_part, structure.innovations, name)
        _check_jet(structure, part, u, f"innovations(u).{name}")
    move, gain = np.eye(d, k=1), np.zeros(d)
    move[:p, 0] = found.ar.value
    gain[:p] += found.ar.value
    gain[:q] += found.ma.value
    root, innovation = found.root.value, float(found.variance.value)
    _equal(
        move @ root @ root.T @ move.T + np.outer(gain, gain),
        root @ root.T,
        "innovations(u).root is not that of a stationary state",
    )
    steps, state = np.arange(1.0, 2 * d + 2), move @ root @ root[0] + gain
    told = np.empty(len(steps))
    for k in range(len(steps)):
        told[k], state = innovation * state[0], move @ state
    _equal(
        told,
        structure.correlations(steps[:, None], structure.from_unconstrained(u)),
        "innovations(u) tells other correlations than cell_values",
    )


def _part(of: Callable[[FloatArray], object], name: str, u: FloatArray) -> Jet:
    """A part of what is found at parameters, by its name."""
    found: Jet = getattr(of(u), name)
    return found


def _check_extremes(structure: ResidualStructure, positions: FloatArray) -> None:
    """However far the search steps, it stays inside the parameter space."""
    for size in (10.0, 1e3, 1e300):
        for sign in (1.0, -1.0):
            u = np.full(structure.k_free, sign * size)
            with np.errstate(all="ignore"):
                params = np.asarray(structure.from_unconstrained(u))
                matrix = structure.correlation(positions, params)
            _require(
                np.isfinite(params).all() and np.isfinite(matrix).all(),
                f"at the unconstrained values {sign * size:g} parameters or "
                f"correlations are not finite: {_text(params)}. Clip the unconstrained "
                "values, as in autodiff.clip(u, -9.0, 9.0)",
            )
    for end, size in zip(structure.ends, (-1e300, 1e300), strict=True):
        known = np.isfinite(end)
        there, beyond = (
            np.asarray(structure.from_unconstrained(np.where(known, u, 0.0)))
            for u in (end, size)
        )
        _require(
            (there == beyond).all(),
            f"beyond the limit of {_text(end)} parameters change: {_text(beyond)} "
            f"instead of {_text(there)}. Clip the unconstrained values there, or leave "
            "out `limit`",
        )
