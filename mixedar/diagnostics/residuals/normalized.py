"""
Normalized residuals in the order of time, and their covariance under the model.

Rows share random effects by clusters.  With one factor these are the groups; with
several they are sets of levels that meet, and all effects of a set, of its groups and
of the further factors' levels, are columns of one design: what holds of a group's rows
and effects holds of a set's.

With ``L L' = R``, the whitened designs ``Z* = L^-1 Z`` and ``X* = L^-1 X``, and
``M = (I + Z* Psi Z*')^-1`` the normalized residuals have the covariance

    Cov(u) = M - M X* (X*'M X*)^-1 X*'M = I - [G F][G F]'.

``D = L^-1 (dR/du) L^-T`` is its derivative by a residual parameter before effects
are predicted, series by series.  Series at the same positions share it, so regular
data need it once.  Long series are cut: what ``D`` says of neighbours matters, and
it dies off with the correlation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.diagnostics.residuals.series import SeriesRows, series_rows
from mixedar.diagnostics.residuals.shared import RowClusters, SharedEffects
from mixedar.engine.residuals import ResidualMatrices, whiten_series
from mixedar.engine.rows import GroupedRows
from mixedar.exceptions import check_choice
from mixedar.fit import Fit
from mixedar.numeric.linalg import product, unique_rows
from mixedar.prediction.batches import residuals_by_batch
from mixedar.streams import Source

# A piece of a series has at most so many rows, fewer if many pieces differ.
_LENGTHS = (1024, 256, 64)
_OPERATIONS = 1e10
# Numbers of an array of patterns that are worked on at once.
_AT_ONCE = 2_000_000
# Of more rows a random sample of the groups is enough for standard errors.
_ENOUGH_ROWS = 100_000
_ENOUGH_GROUPS = 200
# Of long groups the beginning: the fit of their effects hardly matters there.
_ENOUGH_OF_GROUP = 5_000


@dataclass(frozen=True)
class NormalizedResiduals:
    """
    Normalized residuals and their covariance at the estimates.

    Attributes
    ----------
    rows : SeriesRows
        In the order of time.
    grouped : GroupedRows
        The same rows as the residual structure sees them; groups hold the same
        places in both.
    effects : SharedEffects
    clusters : RowClusters
        Rows that share effects: the groups, or with several factors more.
    place : ndarray of int, shape (n,), or None
        Where the rows of `grouped` stand in `rows`; None for the same order.
    values : ndarray, shape (n,)
        In the order of `rows`.
    z : ndarray, shape (n, q)
        ``Z*``, of the effects of a row's cluster.
    x : ndarray, shape (n, p)
        ``X* T`` with ``T T' = (X*'M X*)^-1``.
    g : ndarray, shape (n, q)
        ``G``: within a cluster ``M = I - G G'``.
    t : ndarray, shape (p, p)
        ``T``.
    f : ndarray, shape (n, p)
        ``F = M X* T``.
    """

    rows: SeriesRows
    grouped: GroupedRows
    effects: SharedEffects
    clusters: RowClusters
    place: IntArray | None
    values: FloatArray
    z: FloatArray
    x: FloatArray
    g: FloatArray
    t: FloatArray
    f: FloatArray

    @property
    def n(self) -> int:
        """Number of observations."""
        return len(self.values)

    @cached_property
    def factors(self) -> FloatArray:
        """``[G F]``, shape (n, q + p): ``Cov(u) = I - [G F][G F]'``."""
        return np.concatenate([self.g, self.f], axis=1)

    @cached_property
    def variance(self) -> FloatArray:
        """Variances, shape (n,)."""
        lost = np.einsum("ij,ij->i", self.factors, self.factors)
        return np.maximum(1.0 - lost, 0.0)

    def shrink(self, x: FloatArray) -> FloatArray:
        """``M x`` for columns of shape (n, k)."""
        return x - self.clusters.within(self.g, self.g, x)

    def to_grouped(self, x: FloatArray) -> FloatArray:
        """Bring rows into the order of the residual structure."""
        return x if self.place is None else x[self.place]

    def from_grouped(self, x: FloatArray) -> FloatArray:
        """Bring rows from the order of the residual structure."""
        if self.place is None:
            return x
        out = np.empty_like(x)
        out[self.place] = x
        return out


def normalized_residuals(fit: Fit) -> NormalizedResiduals:
    """The normalized residuals of a fit, and what their covariance follows from."""
    data, rows = fit.data, series_rows(fit)
    grouped = data.grouped
    place = _places(rows, grouped)
    effects = SharedEffects(fit)
    clusters = effects.clusters
    columns = np.concatenate([effects.design, grouped.sort(data.exog)], axis=1)
    columns = np.ascontiguousarray(columns, dtype=np.float64)
    white = whiten_series(columns, grouped, fit.structure, fit.u)
    white = rows.sort(grouped.unsort(white)) if place is not None else white
    q = white.shape[1] - fit.k_fe
    z, x = np.ascontiguousarray(white[:, :q]), np.ascontiguousarray(white[:, q:])
    g = clusters.times_roots(z, effects.roots(z))
    shrunk = x - clusters.within(g, g, x)
    information = product(x.T, shrunk)
    size = np.sqrt(np.diag(information))
    root = np.linalg.cholesky(information / np.outer(size, size))
    t = np.linalg.inv(root).T / size[:, None]
    values = rows.sort(fit.residuals("normalized"))
    x, f = product(x, t), product(shrunk, t)
    return NormalizedResiduals(
        rows, grouped, effects, clusters, place, values, z, x, g, t, f
    )


def covariance_factors(fit: Fit, kind: str) -> FloatArray:
    """
    What predicted and estimated effects take away from the residuals' covariance.

    ``A``, shape (n, q + p), in the order of time: that of normalized residuals is
    ``I - A A'``, that of others in units of their standard deviations ``R - A A'``
    with the correlation matrix ``R``.  The first q columns are for pairs of a
    cluster.
    """
    found = normalized_residuals(fit)
    if kind == "normalized":
        return found.factors
    rows, data = found.rows, fit.data
    sd = relative_row_sd(fit, rows)[:, None]
    effects, clusters = found.effects, found.clusters
    z = rows.sort(found.grouped.unsort(effects.design)) / sd
    x = rows.sort(data.exog) / sd
    g = clusters.times_roots(z, effects.roots(found.z))
    # F = (X - Z K Z'R^-1 X) T, with the same T
    f = product(x, found.t) - clusters.within(g, found.g, found.x)
    return np.concatenate([g, f], axis=1)


def residuals(
    fit: Fit, source: object = "raw", kind: str | None = None, to: object = None
) -> pd.Series | Iterator[pd.DataFrame] | Path:
    """
    Within-group residuals.

    Parameters
    ----------
    fit : Fit
    source : Source, optional
        Where rows are read from, batch by batch; the fit's own rows by default.  A
        kind alone may stand here.
    kind : {"raw", "pearson", "normalized", "studentized"}
        Raw; divided by the row's residual standard deviation, which a variance
        function changes from row to row; those whitened by the residual correlation,
        in the order of time, which should look like independent standard normal
        values; or divided by their own standard errors, which the row's leverage on
        the fixed effects and the predicted random effects makes smaller (internally
        studentized: SAS' ``Student``, lme4's ``rstudent``).
    to : path, optional
        Of a source: a Parquet file to write; its path is returned.

    Returns
    -------
    Series, in the caller's row order and index
        Studentized, NaN where a row has no residual whatever its response.  Of a
        source an iterator of frames, or the path of the file.

    Raises
    ------
    UnsupportedError
        For another kind.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> fit.residuals("normalized").shape
    (108,)
    """
    if isinstance(source, Source):
        return residuals_by_batch(fit, source, kind or "raw", to)
    kind = str(source) if kind is None else kind
    check_choice("kind", kind, ("raw", "pearson", "normalized", "studentized"))
    own = kind == "studentized"
    values = studentized_residuals(fit) if own else fit.residuals(kind)
    return pd.Series(values, index=fit.data.index, name=kind)


def studentized_residuals(fit: Fit) -> FloatArray:
    """
    Residuals by their own standard errors, in the caller's order, shape (n,).

    NaN where the model leaves a row no residual.
    """
    factors = covariance_factors(fit, "pearson")
    taken = series_rows(fit).unsort(np.einsum("ij,ij->i", factors, factors))
    left = np.where(taken < 1.0 - 1e-10, 1.0 - taken, np.nan)
    return np.asarray(fit.residuals("pearson") / np.sqrt(left))


def relative_row_sd(fit: Fit, rows: SeriesRows) -> FloatArray:
    """Residual standard deviations relative to ``sigma``, in the order of time."""
    sd = np.broadcast_to(fit.residual_sd / np.sqrt(fit.scale), rows.n)
    return rows.sort(np.asarray(sd))


def sample_of_groups(found: NormalizedResiduals) -> NormalizedResiduals:
    """
    Some of the groups, or the beginnings of long ones, if there are many rows.

    Standard errors need sums over all pairs; those of 100,000 rows, scaled, are
    good to a percent.  The part of the fixed effects, which couples all groups
    and is of the order of p / n, is left out of the sample.
    """
    rows, offsets = found.rows, found.rows.offsets
    m = len(offsets) - 1
    if found.n <= _ENOUGH_ROWS:
        return found
    if not np.array_equal(found.clusters.offsets, offsets):
        return found  # several factors: groups are not independent
    keep = min(max(m * _ENOUGH_ROWS // found.n, _ENOUGH_GROUPS), m)
    chosen = np.sort(np.random.default_rng(0).choice(m, keep, replace=False))
    sizes = np.diff(offsets)[chosen]
    if found.place is None:  # both orders have the same beginnings
        sizes = np.minimum(sizes, max(_ENOUGH_ROWS // keep, _ENOUGH_OF_GROUP))
    edges = np.concatenate([[0], np.cumsum(sizes)])
    shift = np.repeat(offsets[chosen] - edges[:-1], sizes)
    index = np.arange(edges[-1]) + shift
    none = np.empty((len(index), 0))
    return replace(
        found,
        rows=SeriesRows(rows.grouped.part(index, edges), rows.unit),
        grouped=found.grouped.part(index, edges),
        clusters=RowClusters(edges),
        place=None if found.place is None else found.place[index] - shift,
        values=found.values[index],
        z=found.z[index],
        x=none,
        g=found.g[index],
        t=none[:0],
        f=none,
    )


def _places(rows: SeriesRows, grouped: GroupedRows) -> IntArray | None:
    """Where the structure's sorted rows stand among those in the order of time."""
    if rows.grouped is grouped:
        return None
    numbers = np.arange(rows.n)
    caller = numbers if grouped.order is None else grouped.order
    place = np.argsort(rows.sort(numbers))[caller]
    return None if (place == numbers).all() else place


@dataclass(frozen=True)
class DerivativeBlock:
    """
    Pieces of series with the same number of rows.

    Attributes
    ----------
    rows : ndarray of int, shape (pieces, size)
        Sorted rows of each piece.
    which : ndarray of int, shape (pieces,)
        Pattern of each piece.
    values : ndarray, shape (k, patterns, size, size)
        ``D`` of each pattern, by each free unconstrained parameter.
    """

    rows: IntArray
    which: IntArray
    values: FloatArray

    @property
    def frequency(self) -> FloatArray:
        """Pieces of each pattern, shape (patterns,)."""
        count = self.values.shape[1]
        return np.bincount(self.which, minlength=count).astype(np.float64)


def residual_derivatives(fit: Fit, found: NormalizedResiduals) -> list[DerivativeBlock]:
    """``D`` for all series, in the order of time; empty if no parameter is free."""
    if fit.structure.k_free == 0:
        return []
    grouped, place = found.grouped, found.place
    for longest in _LENGTHS:
        pieces = _pieces(grouped, longest)
        cost = sum(len(lead) * float(lead.shape[1]) ** 3 for _, _, lead in pieces)
        if 8.0 * cost <= _OPERATIONS:
            break
    blocks = [
        DerivativeBlock(index, which, _derivatives(fit, grouped, lead))
        for index, which, lead in pieces
    ]
    if place is None:
        return blocks
    return [replace(block, rows=place[block.rows]) for block in blocks]


def _pieces(
    grouped: GroupedRows, longest: int
) -> list[tuple[IntArray, IntArray, IntArray]]:
    """Rows of pieces of one size, their patterns, and rows of one piece of each."""
    first = np.flatnonzero(grouped.first_of_series)
    length = np.diff(np.append(first, len(grouped.gaps)))
    whole = length <= longest
    starts, sizes = [first[whole]], [length[whole]]
    for start, rows in zip(first[~whole], length[~whole], strict=True):
        count = -(-int(rows) // longest)
        edges = start + np.linspace(0, rows, count + 1).astype(np.intp)
        starts.append(edges[:-1])
        sizes.append(np.diff(edges))
    begin, size = np.concatenate(starts), np.concatenate(sizes)
    out = []
    for n in np.unique(size):
        index = begin[size == n][:, None] + np.arange(n)
        keys = grouped.gaps[index[:, 1:]]
        if grouped.marks is not None:
            marks = grouped.marks[index].reshape(len(index), -1)
            keys = np.concatenate([keys, marks], axis=1)
        if keys.shape[1] == 0 or (keys == keys[0]).all():
            out.append((index, np.zeros(len(index), dtype=np.intp), index[:1]))
            continue
        distinct, which = unique_rows(keys)
        leaders = np.full(len(distinct), len(index))
        np.minimum.at(leaders, which, np.arange(len(index)))
        out.append((index, which, index[leaders]))
    return out


def _derivatives(fit: Fit, grouped: GroupedRows, lead: IntArray) -> FloatArray:
    """``D`` of every pattern, shape (k, patterns, size, size)."""
    patterns, size = lead.shape
    out = np.empty((len(fit.u), patterns, size, size))
    together = max(_AT_ONCE // size**2, 1)
    for first in range(0, patterns, together):
        some = lead[first : first + together]
        gaps = grouped.gaps[some].copy()
        gaps[:, 0] = 0.0
        none = np.empty((*some.shape, 0))
        marks = none if grouped.marks is None else grouped.marks[some]
        matrices = ResidualMatrices(fit.structure, gaps, marks)
        values = matrices.values(fit.u)
        root = np.linalg.cholesky(matrices.matrices(values, slice(None)))
        inverse = np.linalg.inv(root)
        change = matrices.slopes(values, slice(None))
        out[:, first : first + together] = inverse @ change @ inverse.transpose(0, 2, 1)
    return out
