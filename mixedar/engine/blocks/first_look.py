"""
Rows for a first look at where a likelihood has its maxima.

An evaluation with matrices of order n costs n cubed.  Where rows far apart tell little
of one another, long series cut into pieces that are independent have nearly the same
maxima, at a cost linear in the rows (Vecchia, 1988; Stein, Chi and Welty, 2004).  Of
very many groups, or rows of series, a part has nearly the same maxima as all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import LikelihoodBlock
from mixedar.engine.blocks.dense import CovarianceBlock
from mixedar.engine.blocks.series import SeriesBlock
from mixedar.engine.blocks.states import StateBlock
from mixedar.engine.compress import ClusterRows
from mixedar.engine.residuals import correlation_marks
from mixedar.residual import ResidualStructure

# From this length on a series is long, and its pieces have at most so many rows.
_LONG, _PIECE = 300, 100
# A part of the groups has at least so many rows, so many groups, and so many groups for
# each parameter; it is looked at if there are so many times as many groups.
_ROWS, _GROUPS, _BY_PARAMETER, _TIMES = 8000, 400, 50, 4
# A run has so many neighbours.  Runs are looked at if that is one of so many, or fewer,
# and together no larger a share of the rows than this.
_RUN, _RUNS, _SHARE = 40, 10, 0.15


def first_look(
    blocks: Sequence[LikelihoodBlock],
    rows: ClusterRows,
    structure: ResidualStructure,
    k_theta: int,
) -> ClusterRows | None:
    """
    Rows of which a likelihood is far less work than of all, with nearly its maxima.

    Parameters
    ----------
    blocks : sequence of LikelihoodBlock
        Those of the rows.
    rows : ClusterRows
    structure : ResidualStructure
    k_theta : int
        Number of parameters that are searched for.

    Returns
    -------
    ClusterRows or None
    """
    cut = None
    if isinstance(blocks[0], (CovarianceBlock, SeriesBlock)):
        cut = in_pieces(rows, structure)
    elif isinstance(blocks[0], StateBlock):
        cut = some_runs(rows)
    return some_groups(rows, k_theta) if cut is None else cut


def some_groups(rows: ClusterRows, k_theta: int) -> ClusterRows | None:
    """
    Groups from everywhere among the rows, enough for so many parameters.

    None if they are more than a small part, or groups are replaced by their sums.
    """
    m = rows.n_clusters
    least = max(_GROUPS, _BY_PARAMETER * k_theta, m * _ROWS // len(rows.gaps))
    if m < _TIMES * least or rows.terms or not (rows.weights == 1.0).all():
        return None
    return rows.part(slice(None, None, m // least))


def some_runs(rows: ClusterRows) -> ClusterRows | None:
    """
    Runs of neighbours in each series, with all that is between them left out.

    They show how rows near to one another and far apart vary together.  None if they
    are more than a small part, or groups are replaced by their sums.
    """
    n = len(rows.gaps)
    every, starts = n // _ROWS, np.flatnonzero(rows.gaps == 0.0)
    if every < _RUNS or rows.terms or not (rows.weights == 1.0).all():
        return None
    place = np.arange(n) - np.repeat(starts, np.diff(np.append(starts, n)))
    kept = np.flatnonzero(place // _RUN % every == 0)
    if len(kept) > _SHARE * n:
        return None
    gaps = np.diff(np.cumsum(rows.gaps)[kept], prepend=0.0)
    gaps[place[kept] == 0] = 0.0
    return replace(
        rows,
        z=rows.z[kept],
        w=rows.w[kept],
        gaps=gaps,
        offsets=np.searchsorted(kept, rows.offsets),
        marks=None if rows.marks is None else rows.marks[kept],
    )


def in_pieces(rows: ClusterRows, structure: ResidualStructure) -> ClusterRows | None:
    """
    The same rows with long series cut, by time or by their places.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure
        Bound to the data.

    Returns
    -------
    ClusterRows or None
        None if no series is long, or groups are replaced by their sums.
    """
    starts = np.append(np.flatnonzero(rows.gaps == 0.0), len(rows.gaps))
    lengths = np.diff(starts)
    if lengths.max() < _LONG or rows.terms or not (rows.weights > 0.0).all():
        return None
    places = _places(rows, structure)
    pieces: list[IntArray] = []
    for first, length in zip(starts[:-1], lengths, strict=True):
        own = first + np.arange(length)
        pieces.extend(_cut(own, places) if length >= _LONG else [own])
    sizes = np.array([len(piece) for piece in pieces])
    order = np.concatenate(pieces)
    begins = np.cumsum(sizes) - sizes
    gaps = rows.gaps[order]
    if not structure.uses_time:
        gaps = np.ones(len(gaps))
    gaps[begins] = 0.0
    cut = replace(
        rows,
        z=rows.z[order],
        w=rows.w[order],
        gaps=gaps,
        marks=None if rows.marks is None else rows.marks[order],
    )
    if rows.z.shape[1]:
        return cut
    offsets = np.append(begins, len(gaps))  # without random effects nothing joins them
    return replace(cut, offsets=offsets, weights=np.ones(len(begins)))


def _places(rows: ClusterRows, structure: ResidualStructure) -> FloatArray:
    """Coordinates by which rows are neighbours, shape (n, c)."""
    if structure.uses_time or rows.marks is None:
        return np.arange(len(rows.gaps), dtype=np.float64)[:, None]
    return rows.marks[:, correlation_marks(structure)]


def _cut(rows: IntArray, places: FloatArray) -> Iterator[IntArray]:
    """Halves of halves, each along the coordinate in which rows are furthest apart."""
    if len(rows) <= _PIECE:
        yield rows
        return
    own = places[rows]
    along = own[:, int(np.argmax(np.ptp(own, axis=0)))]
    order, half = np.argsort(along, kind="stable"), len(rows) // 2
    for part in (order[:half], order[half:]):
        yield from _cut(rows[np.sort(part)], places)
