"""
What is asked of residual structures: their parts, matrices, whitening and draws.

This file and the choice of blocks are the only ones beside :mod:`mixedar.residual`
that ask which structure they have.  The correlation of two rows depends on few
features of the pair (a distance, two occasions, ...), so that distinct *cells* are
evaluated once and looked up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.engine.kalman import Predictions, along_series, has_long_series
from mixedar.engine.rows import GroupedRows
from mixedar.exceptions import StructureError
from mixedar.numeric.autodiff import Jet, concatenate
from mixedar.numeric.latest import Latest
from mixedar.numeric.linalg import product, unique_rows
from mixedar.residual import (
    AR1,
    CAR1,
    Exponential,
    Heteroscedastic,
    Independent,
    MarkovStructure,
    Matern,
    Nugget,
    ResidualStructure,
    Stratified,
)
from mixedar.residual.occasions import OccasionStructure
from mixedar.residual.spatial import DistanceStructure
from mixedar.residual.variance import VarianceFunction

# Places in the table of correlations that no cell has.
_APART, _DIAGONAL, _FIRST = 0, 1, 2


@dataclass(frozen=True)
class ResidualValues:
    """
    Correlations of all cells and standard deviations of all kinds of rows.

    Attributes
    ----------
    table : Jet of shape (2 + l,)
        Zero, one, and the correlations of the cells.
    log_sd : Jet of shape (m + 1,), or None
        The last is zero, of what is no row.
    """

    table: Jet
    log_sd: Jet | None

    @cached_property
    def shrinking(self) -> FloatArray:
        """
        Parameters that change all correlations by one factor, as a nugget does.

        Returns
        -------
        ndarray, shape (k,)
            The derivative of the factor's logarithm, NaN for other parameters.
        """
        value, first = self.table.value[_FIRST:], self.table.first[:, _FIRST:]
        if self.log_sd is not None or not value.any():
            return np.full(len(first), np.nan)
        factor = first @ value / (value @ value)
        off = np.abs(first - factor[:, None] * value).max(axis=1)
        return np.where(off <= 1e-14 * np.abs(factor), factor, np.nan)


class ResidualMatrices:
    """
    ``R`` of `g` series (or clusters of series) of `n` rows each.

    Parameters
    ----------
    structure : ResidualStructure
        Bound to the data.
    gaps : ndarray, shape (g, n)
        0 where a series begins.
    marks : ndarray, shape (g, n, c)
    there : ndarray of bool, shape (g, n), optional
        Rows that there are, the first of each series among them.  What fills up a
        shorter one is a series of its own, with a variance of one.
    """

    def __init__(
        self,
        structure: ResidualStructure,
        gaps: FloatArray,
        marks: FloatArray,
        there: BoolArray | None = None,
    ) -> None:
        self.structure = structure
        g, n = gaps.shape
        time = np.cumsum(gaps, axis=1)
        series = np.cumsum(gaps == 0.0, axis=1)
        positions = np.concatenate([time[:, :, None], marks], axis=2)
        rows, columns = np.triu_indices(n, 1)
        same = series[:, rows] == series[:, columns]
        cells = structure.cells(positions[:, rows][same], positions[:, columns][same])
        self.cells, which = unique_rows(cells)
        above = np.full((g, len(rows)), _APART, dtype=np.int32)
        above[same] = which + _FIRST
        self.lookup = np.full((g, n, n), _DIAGONAL, dtype=np.int32)
        self.lookup[:, rows, columns] = above
        self.lookup[:, columns, rows] = above
        self._latest = Latest[ResidualValues]()
        self.shared: ResidualMatrices | None = None
        self.kinds, self.kind = np.empty((0, 0)), np.empty((0, 0), dtype=np.intp)
        if structure.log_sd(positions[0, :1], np.zeros(structure.k_free)) is not None:
            # distances in time count from each cluster's own beginning
            positions[:, :, 0] = 0.0
            inside = np.ones((g, n), dtype=bool) if there is None else there
            self.kinds, kind = unique_rows(positions[inside])
            self.kind = np.full((g, n), -1)  # the last of the deviations is one
            self.kind[inside] = kind

    @property
    def heteroscedastic(self) -> bool:
        """Whether rows differ in their variances."""
        return len(self.kinds) > 0

    def values(self, u: FloatArray, *, derivatives: bool = True) -> ResidualValues:
        """
        What the matrices are looked up in.

        Parameters
        ----------
        u : ndarray, shape (k_free,)
        derivatives : bool
            Whether those of correlations are wanted.
        """
        if self.shared is not None:
            return self.shared.values(u, derivatives=derivatives)
        return self._latest.at(
            u, lambda: self._values(u, derivatives), keep=lambda _: derivatives
        )

    def _values(self, u: FloatArray, derivatives: bool) -> ResidualValues:
        if derivatives:
            found = self.structure.cell_values(self.cells, u)
        else:
            params = self.structure.from_unconstrained(u)
            correlations = self.structure.correlations(self.cells, params)
            found = Jet.constant(np.broadcast_to(correlations, len(self.cells)), 0)
        held = Jet.constant(np.arange(_FIRST), found.k)
        table = concatenate([held, found])
        if not self.heteroscedastic:
            return ResidualValues(table, None)
        log_sd = self.structure.log_sd(self.kinds, u)
        assert log_sd is not None
        one = Jet.constant(np.zeros(1), log_sd.k)
        return ResidualValues(table, concatenate([log_sd, one]))

    def scales(self, values: ResidualValues, some: slice) -> FloatArray | None:
        """Standard deviations of the rows, shape (g, n)."""
        if values.log_sd is None:
            return None
        return np.exp(values.log_sd.value)[self.kind[some]]

    def matrices(self, values: ResidualValues, some: slice) -> FloatArray:
        """
        The covariance matrices of some of the series.

        Returns
        -------
        ndarray, shape (g, n, n)
        """
        out = values.table.value[self.lookup[some]]
        sd = self.scales(values, some)
        return out if sd is None else out * (sd[:, :, None] * sd[:, None, :])

    def slopes(self, values: ResidualValues, some: slice) -> FloatArray:
        """
        Derivatives of the matrices by the unconstrained parameters.

        Returns
        -------
        ndarray, shape (k, g, n, n)
        """
        out = np.take(values.table.first, self.lookup[some], axis=1)
        sd = self.scales(values, some)
        if sd is None or values.log_sd is None:
            return out
        log_slopes = values.log_sd.first[:, self.kind[some]]
        sums = log_slopes[:, :, :, None] + log_slopes[:, :, None, :]
        both = sd[:, :, None] * sd[:, None, :]
        return out * both + sums * (values.table.value[self.lookup[some]] * both)

    def second(
        self, values: ResidualValues, some: slice, i: IntArray, j: IntArray
    ) -> FloatArray:
        """Second derivatives of the matrices by pairs of parameters, (k, g, n, n)."""
        table, lookup = values.table, self.lookup[some]
        out = table.second[i, j][:, lookup]
        sd, logs = self.scales(values, some), values.log_sd
        if sd is None or logs is None:
            return out
        kind = self.kind[some]
        one, other, bend = (
            slopes[:, kind][..., :, None] + slopes[:, kind][..., None, :]
            for slopes in (logs.first[i], logs.first[j], logs.second[i, j])
        )
        out = out + table.first[i][:, lookup] * other + table.first[j][:, lookup] * one
        out += table.value[lookup] * (bend + one * other)
        return out * (sd[:, :, None] * sd[:, None, :])

    def curvature(
        self, values: ResidualValues, some: slice, weight: FloatArray
    ) -> FloatArray:
        """
        Second derivatives of the matrices, contracted.

        Parameters
        ----------
        values : ResidualValues
        some : slice
        weight : ndarray, shape (g, n, n)
            Symmetric.

        Returns
        -------
        ndarray, shape (k, k)
            ``sum_ab weight_ab d2 R_ab / du_k du_l``.
        """
        table, log_sd = values.table, values.log_sd
        sd = self.scales(values, some)
        lookup = self.lookup[some]
        if sd is not None:
            weight = weight * (sd[:, :, None] * sd[:, None, :])
        count = len(table.value)
        cells = _sums(lookup, weight, count)
        out = table.along(cells)
        if log_sd is None:
            return out
        kind = self.kind[some]
        slopes = log_sd.first[:, kind]
        # weight * R by rows, and by pairs
        weighted = weight * table.value[lookup]
        kinds = len(log_sd.value)
        by_kind = _sums(kind % kinds, weighted.sum(axis=2), kinds)
        squares = product(log_sd.first * by_kind, log_sd.first.T)
        out = out + 2.0 * (log_sd.along(by_kind) + squares)
        k = len(slopes)
        flat = slopes.reshape(k, -1)
        pairs = (weighted @ slopes[..., None])[..., 0]
        out += 2.0 * product(flat, pairs.reshape(k, -1).T)
        if table.first.any():
            mixed = (weight * np.take(table.first, lookup, axis=1)).sum(axis=3)
            cross = 2.0 * product(flat, mixed.reshape(k, -1).T)
            out += cross + cross.T
        return out


def _sums(place: NDArray[Any], values: FloatArray, count: int) -> FloatArray:
    """Sums of values by their place in a table."""
    found = np.bincount(place.ravel(), values.ravel(), minlength=count)
    return np.asarray(found, dtype=np.float64)


def share_values(parts: Sequence[ResidualMatrices]) -> None:
    """
    Let matrices of different sizes look up the same table.

    Parameters
    ----------
    parts : sequence of ResidualMatrices
        Of one structure; the first keeps the table of all.
    """
    first = parts[0]
    if len(parts) == 1:
        return
    cells, which = unique_rows(np.concatenate([part.cells for part in parts]))
    kinds, kind = unique_rows(np.concatenate([part.kinds for part in parts]))
    cell_at = np.cumsum([0, *(len(part.cells) for part in parts)])
    kind_at = np.cumsum([0, *(len(part.kinds) for part in parts)])
    for i, part in enumerate(parts):
        places = np.concatenate(
            [[_APART, _DIAGONAL], which[cell_at[i] : cell_at[i + 1]] + _FIRST]
        )
        part.lookup = places.astype(np.int32)[part.lookup]
        if part.heteroscedastic:
            part.kind = np.append(kind[kind_at[i] : kind_at[i + 1]], -1)[part.kind]
        if i:
            part.cells, part.kinds = cells[:0], kinds
            part.shared = first
    first.cells, first.kinds = cells, kinds


# Numbers in the matrices of the series that are treated at a time.
_CHUNK = 2**22


def series_roots(
    grouped: GroupedRows, structure: ResidualStructure, u: FloatArray
) -> Iterator[tuple[IntArray, FloatArray, IntArray]]:
    """
    Lower Cholesky factors of ``R``; series at the same positions share one.

    Parameters
    ----------
    grouped : GroupedRows
    structure : ResidualStructure
        Bound to the data.
    u : ndarray, shape (k_free,)

    Yields
    ------
    rows : ndarray of int, shape (m, n)
        Sorted rows of `m` series of `n` rows each.
    roots : ndarray, shape (g, n, n)
    which : ndarray of int, shape (m,)
        Which of the factors is that of each series.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not positive definite to rounding.
    """
    gaps, marks = grouped.gaps, grouped.marks
    for rows, leaders, which in series_alike(gaps, marks):
        n = rows.shape[1]
        order = np.argsort(which, kind="stable")
        edges = np.searchsorted(which[order], np.arange(len(leaders) + 1))
        step = max(1, _CHUNK // n**2)
        for first in range(0, len(leaders), step):
            last = min(first + step, len(leaders))
            some = rows[leaders[first:last]]
            inside = np.empty((*some.shape, 0)) if marks is None else marks[some]
            matrices = ResidualMatrices(structure, gaps[some], inside)
            found = matrices.matrices(matrices.values(u), slice(None))
            members = order[edges[first] : edges[last]]
            roots = np.asarray(np.linalg.cholesky(found), dtype=np.float64)
            yield rows[members], roots, which[members] - first


def series_alike(
    gaps: FloatArray, marks: FloatArray | None
) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """
    Series of one length, and which of them are at the same positions.

    Parameters
    ----------
    gaps : ndarray, shape (n,)
        0 where a series begins.
    marks : ndarray, shape (n, c), or None

    Yields
    ------
    rows : ndarray of int, shape (m, length)
    leaders : ndarray of int, shape (g,)
        The first of the series at each set of positions.
    which : ndarray of int, shape (m,)
        Number of each series' set of positions.
    """
    starts = np.flatnonzero(gaps == 0.0)
    lengths = np.diff(np.append(starts, len(gaps)))
    for n in np.unique(lengths):
        here = starts[lengths == n]
        rows = here[:, None] + np.arange(n)
        keys = gaps[rows]
        if marks is not None:
            keys = np.concatenate([keys, marks[rows].reshape(len(rows), -1)], axis=1)
        keys, which = unique_rows(keys)
        leaders = np.full(len(keys), len(rows))
        np.minimum.at(leaders, which, np.arange(len(rows)))
        yield rows, leaders, which


def markov_of(structure: ResidualStructure) -> MarkovStructure | None:
    """The structure itself if neighbours tell all and rows have one variance."""
    return structure if isinstance(structure, MarkovStructure) else None


def variance_of(structure: ResidualStructure) -> VarianceFunction | None:
    """The variance function of a structure, None if all rows have one variance."""
    return structure.variance if isinstance(structure, Heteroscedastic) else None


def correlation_of(structure: ResidualStructure) -> ResidualStructure:
    """The structure without its variance function."""
    return structure.structure if isinstance(structure, Heteroscedastic) else structure


def correlation_params(structure: ResidualStructure, params: FloatArray) -> FloatArray:
    """The parameters but those of the variance function, which come last."""
    return params[: correlation_of(structure).k_params]


def is_correlated(structure: ResidualStructure) -> bool:
    """Whether residuals of a series tell of one another."""
    return not isinstance(correlation_of(structure), Independent)


def is_independent(structure: ResidualStructure) -> bool:
    """Whether residuals are independent and have one variance."""
    return isinstance(structure, Independent)


def needs_matrices(structure: ResidualStructure) -> bool:
    """Whether its matrices are written out: neighbours do not tell all."""
    return markov_of(structure) is None and is_correlated(structure)


def correlation_marks(structure: ResidualStructure) -> slice:
    """Which of the structure's marks its correlations depend on."""
    return slice(0, len(correlation_of(structure).marks))


def variance_marks(structure: ResidualStructure) -> slice:
    """Which of the structure's marks its variance function reads."""
    return slice(len(correlation_of(structure).marks), len(structure.marks))


def placed_part(structure: ResidualStructure) -> ResidualStructure | None:
    """The part of which no two rows of a series may share their coordinates."""
    inner = correlation_of(structure)
    if isinstance(inner, Stratified):
        inner = inner.structure
    # a nugget has none: measurement error tells rows at one place apart
    return inner if getattr(inner, "coords", ()) else None


def with_replicates(structure: ResidualStructure, time: str) -> str:
    """
    What to pass for several measurements of one quantity at a time.

    Parameters
    ----------
    structure : ResidualStructure
        One that has no place for them.
    time : str
        Column of the times.

    Returns
    -------
    str
        Arguments that give the same correlations between times, and measurement
        error; empty if there are none.
    """
    inner, by = correlation_of(structure), ""
    if isinstance(inner, Stratified):
        by = f", by={inner.by!r}"
        inner = inner.structure
    if isinstance(inner, Nugget):
        inner = inner.structure
    if isinstance(inner, OccasionStructure):
        return f"re_formula='0 + C({time})' and residual='independent'"
    if isinstance(inner, (AR1, CAR1)):
        inner = Exponential()
    if not isinstance(inner, DistanceStructure):
        return ""
    if isinstance(inner, Matern) and inner.smoothness is not None:
        by += f", smoothness={inner.smoothness:g}"
    name = type(inner).__name__
    return f"residual={name}(coords=({time!r},), nugget=True{by})"


def relative_sd(
    structure: ResidualStructure, marks: FloatArray | None, params: FloatArray
) -> FloatArray:
    """
    Standard deviations of residuals, relative to ``sigma``.

    Parameters
    ----------
    structure : ResidualStructure
    marks : ndarray, shape (k, c), or None
        What the structure reads of the rows beside the time.
    params : ndarray, shape (k_params,)

    Returns
    -------
    ndarray, shape (k,); (1,) if all rows have one variance and nothing is read

    Raises
    ------
    StructureError
        If the variance function has no value at a row.
    """
    variance = variance_of(structure)
    if variance is None or marks is None:
        return np.ones(1 if marks is None else len(marks))
    read = marks[:, variance_marks(structure)]
    own = np.asarray(params, dtype=np.float64)[correlation_of(structure).k_params :]
    with np.errstate(all="ignore"):
        sd = np.exp(np.asarray(variance.log_sd(read, own), dtype=np.float64))
    bad = ~(np.isfinite(sd) & (sd > 0.0))
    if bad.any():
        values = " and ".join(
            f"{mark.column or 'time'!r} is {value:g}"
            for mark, value in zip(
                variance.marks, read[int(np.argmax(bad))], strict=True
            )
            if mark.kind == "number"
        )
        raise StructureError(
            f"{variance.label}: there is no standard deviation where {values}, in "
            f"{int(bad.sum())} of {len(bad)} rows"
        )
    return sd


def pair_correlations(
    structure: ResidualStructure, a: FloatArray, b: FloatArray, params: FloatArray
) -> FloatArray:
    """
    Correlations of the residuals of pairs of different rows of a series.

    Parameters
    ----------
    structure : ResidualStructure
    a, b : ndarray, shape (l, 1 + c)
        Positions of the rows.
    params : ndarray, shape (k_params,)

    Returns
    -------
    ndarray, shape (l,)
        Two measurements of one quantity are different rows too: at one position
        a nugget leaves less than one.

    Raises
    ------
    TimeError
        If the structure knows no correlation at such a distance.
    """
    values = structure.correlations(structure.cells(a, b), params)
    return np.array(np.broadcast_to(values, len(a)), dtype=np.float64)


def _without_variances(
    grouped: GroupedRows, structure: ResidualStructure
) -> GroupedRows:
    """The rows with what the correlations read of them."""
    marks = grouped.marks
    if marks is not None:
        marks = marks[:, correlation_marks(structure)]
    return GroupedRows(grouped.order, grouped.offsets, grouped.gaps, marks)


def _by_row(values: FloatArray, x: FloatArray) -> FloatArray:
    """One number a row, with the axes of `x`."""
    return values.reshape((-1,) + (1,) * (x.ndim - 1))


def whiten_series(
    x: FloatArray,
    grouped: GroupedRows,
    structure: ResidualStructure,
    u: FloatArray,
) -> FloatArray:
    """
    Multiply the rows of every series by the inverse Cholesky factor of its R.

    Parameters
    ----------
    x : ndarray, shape (n,) or (n, k)
        In sorted order.
    grouped : GroupedRows
    structure : ResidualStructure
    u : ndarray, shape (k_free,)
        Unconstrained residual parameters, which hold what rounding takes from
        correlations near one.

    Returns
    -------
    ndarray, of the shape of `x`
        ``(x_t - phi x_{t-1}) / sqrt(1 - phi^2)`` for Markov structures.
    """
    if variance_of(structure) is not None:
        params = structure.from_unconstrained(u)
        x = x / _by_row(relative_sd(structure, grouped.marks, params), x)
        inner = correlation_of(structure)
        alone = _without_variances(grouped, structure)
        return whiten_series(x, alone, inner, u[: inner.k_free])
    if isinstance(structure, Independent):
        return x.copy()
    if isinstance(structure, MarkovStructure):
        return structure.whitened(x, grouped.gaps, u)
    if has_long_series(grouped, structure):
        return along_series(Predictions.whiten, x, grouped, structure, u)
    out = x.copy()
    for rows, roots, which in series_roots(grouped, structure, u):
        inverse = np.linalg.inv(roots)
        values = x[rows].reshape(*rows.shape, -1)
        out[rows] = (inverse[which] @ values).reshape(x[rows].shape)
    return out


def correlated_residuals(
    noise: FloatArray,
    grouped: GroupedRows,
    structure: ResidualStructure,
    params: FloatArray,
) -> FloatArray:
    """
    Multiply noise by the Cholesky factor of the residual correlation.

    Parameters
    ----------
    noise : ndarray, shape (n,) or (n, k)
        Independent standard normal values in sorted order.
    grouped : GroupedRows
    structure : ResidualStructure
    params : ndarray, shape (k_params,)

    Returns
    -------
    ndarray, of the shape of `noise`
    """
    if variance_of(structure) is not None:
        sd = _by_row(relative_sd(structure, grouped.marks, params), noise)
        alone, inner = _without_variances(grouped, structure), correlation_of(structure)
        own = correlation_params(structure, params)
        return correlated_residuals(noise, alone, inner, own) * sd
    if isinstance(structure, Independent):
        return noise
    out = noise.copy()
    if isinstance(structure, MarkovStructure):
        first = grouped.first_of_series
        starts = np.flatnonzero(first)
        lengths = np.diff(np.append(starts, len(first)))
        phi = np.zeros(len(first))
        phi[~first] = structure.correlations(grouped.gaps[~first, None], params)
        innovation = _by_row(np.sqrt((1.0 - phi) * (1.0 + phi)), noise)
        phi = _by_row(phi, noise)
        # one step of all series at a time: as many steps as the longest has rows
        for step in range(1, int(lengths.max())):
            rows = starts[lengths > step] + step
            out[rows] = phi[rows] * out[rows - 1] + innovation[rows] * noise[rows]
        return out
    u = structure.to_unconstrained(params)
    if has_long_series(grouped, structure):
        return along_series(Predictions.colour, noise, grouped, structure, u)
    for rows, roots, which in series_roots(grouped, structure, u):
        values = noise[rows].reshape(*rows.shape, -1)
        out[rows] = (roots[which] @ values).reshape(noise[rows].shape)
    return out
