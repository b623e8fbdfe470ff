"""
Correlations and standard deviations at many parameter points at once.

A formula in numpy's arithmetic takes a column of values for each parameter as well as
one; whether it does is tried, and formulas that do not are evaluated point by point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from mixedar._types import ArrayOrJet, FloatArray
from mixedar.numeric.autodiff import Jet, embed, variables
from mixedar.residual.base import FormulaStructure, Parametric, ResidualStructure
from mixedar.residual.markov import MarkovStructure
from mixedar.residual.wrapped import Heteroscedastic, Nugget, Stratified

#: From points, shape (m, k_free), to values with their derivatives, shape (m, l).
Many: TypeAlias = Callable[[FloatArray], Jet]


def cell_values(structure: ResidualStructure, cells: FloatArray) -> Many:
    """
    Correlations of cells, as :meth:`ResidualStructure.cell_values` at many points.

    Parameters
    ----------
    structure : ResidualStructure
        Bound to the data.
    cells : ndarray, shape (l, f)

    Returns
    -------
    callable
    """
    if isinstance(structure, Heteroscedastic):
        inner = structure.structure
        place = slice(0, inner.k_free)
        return _part(cell_values(inner, cells), place, structure.k_free)
    if isinstance(structure, Nugget):
        return _with_nugget(structure, cells)
    if isinstance(structure, Stratified):
        return _by_stratum(structure, cells)

    def at(u: FloatArray) -> Jet:
        return structure.cell_values(cells, u)

    if isinstance(structure, MarkovStructure):
        if structure.k_free == 0:
            return _one_by_one(at)

        def by_steps(u: FloatArray) -> Jet:
            step = structure.steps(cells[:, 0], u)
            return Jet(step.phi, step.d1[None], step.d2[None, None])

        return by_steps
    if not isinstance(structure, FormulaStructure):
        return _one_by_one(at)

    def together(u: FloatArray) -> Jet:
        params = _Columns.of(structure.natural(_columns(u)))
        return _jet(structure.correlations(cells, params), (len(u), len(cells)))

    return _tried(together, _one_by_one(at), structure)


def log_sd(structure: ResidualStructure, positions: FloatArray) -> Many | None:
    """
    Logarithms of standard deviations, as :meth:`ResidualStructure.log_sd`.

    Parameters
    ----------
    structure : ResidualStructure
        Bound to the data.
    positions : ndarray, shape (l, 1 + c)

    Returns
    -------
    callable or None
        None if all rows have one variance.
    """
    if not isinstance(structure, Heteroscedastic):
        if structure.log_sd(positions[:1], np.zeros(structure.k_free)) is None:
            return None
        return _one_by_one(lambda u: structure.log_sd(positions, u))
    variance, inner = structure.variance, structure.structure
    marks = positions[:, 1 + len(inner.marks) :]

    def at(u: FloatArray) -> Jet:
        found = variance.log_sd(marks, variance.natural(u))
        return found if isinstance(found, Jet) else Jet.constant(found, len(u))

    def together(u: FloatArray) -> Jet:
        params = _Columns.of(variance.natural(_columns(u)))
        return _jet(variance.log_sd(marks, params), (len(u), len(marks)))

    found = _tried(together, _one_by_one(at), variance)
    return _part(found, slice(inner.k_free, structure.k_free), structure.k_free)


def natural(of: Parametric) -> Many:
    """
    Parameters on the user's scale, as :meth:`Parametric.natural` at many points.

    Parameters
    ----------
    of : Parametric
        Bound to the data.

    Returns
    -------
    callable
        Values have the shape (m, k_params).
    """
    if not of.k_free:
        return lambda u: Jet.constant(
            np.broadcast_to(of.held, (len(u), of.k_params)), 0
        )

    def together(u: FloatArray) -> Jet:
        return _in_rows(of.natural(_columns(u)))

    return _tried(together, _one_by_one(of.natural), of)


def _columns(u: FloatArray) -> FloatArray:
    """Each parameter a column of its values: (m, k_free) to (k_free, m, 1)."""
    return u.T[:, :, None]


class _Columns(Jet):
    """Columns of parameters, of which lists of places give a row for each point."""

    @classmethod
    def of(cls, jet: Jet) -> _Columns:
        return cls(jet.value, jet.first, jet.second)

    def __getitem__(self, index: Any) -> Jet:
        found = super().__getitem__(index)
        if isinstance(index, slice):
            return _Columns.of(found)
        return _in_rows(found) if isinstance(index, np.ndarray) else found


def _in_rows(jet: Jet) -> Jet:
    """Values of shape (l, m, 1) as (m, l)."""
    parts = (jet.value, jet.first, jet.second)
    return Jet(*(part[..., 0].swapaxes(-1, -2) for part in parts))


def _jet(values: ArrayOrJet, shape: tuple[int, int]) -> Jet:
    """Values of the full shape."""
    assert isinstance(values, Jet)
    if values.shape == (*shape[::-1], 1):
        return _in_rows(values)
    k = values.k
    return Jet(
        np.broadcast_to(values.value, shape),
        np.broadcast_to(values.first, (k, *shape)),
        np.broadcast_to(values.second, (k, k, *shape)),
    )


def _one_by_one(at: Callable[[FloatArray], Jet | None]) -> Many:
    """A function of one point, evaluated at one after the other."""

    def found(u: FloatArray) -> Jet:
        parts = [part for part in map(at, u) if part is not None]
        return Jet(
            np.stack([part.value for part in parts]),
            np.stack([part.first for part in parts], axis=1),
            np.stack([part.second for part in parts], axis=2),
        )

    return found


def _tried(together: Many, one_by_one: Many, of: Parametric) -> Many:
    """The first, if it gives what the second gives at a few points."""
    if not of.k_free:
        return one_by_one
    rng = np.random.default_rng(0)
    u = of.start_grid()[0] + 0.3 * rng.normal(size=(3, of.k_free))
    expected = one_by_one(u)
    try:
        found = together(u)
    except Exception:  # a user's formula may fail in any way
        return one_by_one
    pairs = (
        (found.value, expected.value),
        (found.first, expected.first),
        (found.second, expected.second),
    )
    for mine, theirs in pairs:
        if not np.allclose(mine, theirs, rtol=1e-9, atol=1e-11, equal_nan=True):
            return one_by_one
    return together


def _part(found: Many, place: slice, k: int) -> Many:
    """A function of some of the parameters as one of all `k`."""
    return lambda u: embed(found(u[:, place]), place.start, k)


def _with_nugget(structure: Nugget, cells: FloatArray) -> Many:
    k = structure.k_free
    inner = _part(cell_values(structure.structure, cells), slice(0, k - 1), k)
    return lambda u: inner(u) * (1.0 - structure.share(variables(_columns(u)))[0])


def _by_stratum(structure: Stratified, cells: FloatArray) -> Many:
    k, parts = structure.k_free, []
    for stratum, (_, free, _) in enumerate(structure.places()):
        here = np.flatnonzero(cells[:, 0] == stratum)
        inner = cell_values(structure.structure, cells[here, 1:])
        parts.append((here, _part(inner, free, k)))

    def at(u: FloatArray) -> Jet:
        out = Jet.constant(np.zeros((len(u), len(cells))), k)
        for here, inner in parts:
            found = inner(u)
            out.value[:, here] = found.value
            out.first[..., here] = found.first
            out.second[..., here] = found.second
        return out

    return at
