"""
Kriging weights from whole correlation matrices, many series at a time.

Series at the same positions share their matrix, and new rows at the same distance
from them their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import solve_triangular

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.engine.residuals import (
    correlation_of,
    correlation_params,
    is_correlated,
    markov_of,
    pair_correlations,
    relative_sd,
    variance_of,
)
from mixedar.engine.smoothing import StateWeights, state_weights
from mixedar.exceptions import StructureError, TimeError, shown
from mixedar.numeric.linalg import unique_rows
from mixedar.residual import MarkovStructure, ResidualStructure

# Numbers that are computed at a time.
_AT_ONCE = 2**20
# From so many rows on series are followed by their states.
_LONG = 40
# Bytes of the matrices of one series, and of all weights together.
_MOST_BYTES = 2 * 2**30
# Variances below minus this are no rounding.
_NEGATIVE = 1e-6


def dense_weights(
    structure: ResidualStructure,
    params: FloatArray,
    observed: tuple[IntArray, FloatArray],
    asked: tuple[IntArray, FloatArray],
) -> tuple[sparse.csr_array, FloatArray]:
    """
    Weights of observed residuals of variance one for new ones.

    Parameters
    ----------
    structure : ResidualStructure
        Without a variance function.
    params : ndarray, shape (k_params,)
    observed : tuple of ndarray, of shapes (n,) and (n, 1 + c)
        Numbers of the series, increasing, and positions.
    asked : tuple of ndarray, of shapes (k,) and (k, 1 + c)
        Numbers of the series, -1 where nothing was observed, and positions.

    Returns
    -------
    weights : sparse array, shape (k, n)
    share : ndarray, shape (k,)
        Variance that remains.

    Raises
    ------
    StructureError
        If old and new rows together cannot have such correlations, or the
        matrices would be too large.
    """
    series, where = observed
    wanted, there = asked
    starts = np.searchsorted(series, wanted)
    sizes = np.searchsorted(series, wanted, side="right") - starts
    _check_size(structure, sizes)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    data, indices = np.empty(indptr[-1]), np.empty(indptr[-1], dtype=np.intp)
    share = np.ones(len(wanted))
    for size in np.unique(sizes[sizes > 0]):
        rows = np.flatnonzero(sizes == size)
        firsts, local = np.unique(starts[rows], return_inverse=True)
        before = where[firsts[:, None] + np.arange(size)]
        # distances in time count, not the calendar
        origin = before[:, :1, 0].copy()
        before[:, :, 0] -= origin
        patterns, pattern = unique_rows(before.reshape(len(firsts), -1))
        new = there[rows]
        new[:, 0] -= origin[local, 0]
        questions, question = unique_rows(np.column_stack([pattern[local], new]))
        answers, rest = _answers(
            structure, params, patterns.reshape(-1, *before.shape[1:]), questions
        )
        share[rows] = rest[question]
        at = indptr[rows][:, None] + np.arange(size)
        data[at] = answers[question]
        indices[at] = starts[rows][:, None] + np.arange(size)
    shape = len(wanted), len(series)
    return sparse.csr_array((data, indices, indptr), shape=shape), share


def _check_size(structure: ResidualStructure, sizes: IntArray) -> None:
    longest, total = int(sizes.max(initial=0)), int(sizes.sum())
    needed = 40.0 * longest**2
    if needed > _MOST_BYTES:
        raise StructureError(
            f"forecasts with {structure.label} residuals need matrices of order "
            f"{longest}, the rows of the longest series, {needed / 2**30:.0f} GiB in "
            "all. Use level='group', shorter series (series=), or residual='ar1' or "
            "'car1', which need no matrices"
        )
    needed = 32.0 * total
    if needed > _MOST_BYTES:
        raise StructureError(
            f"forecasts of {len(sizes)} rows with {structure.label} residuals give "
            f"weights to all rows of their series, {needed / 2**30:.0f} GiB in all; "
            "predict fewer rows at a time"
        )


def _answers(
    structure: ResidualStructure,
    params: FloatArray,
    patterns: FloatArray,
    questions: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """
    Weights and remaining variances, shapes (q, n) and (q,).

    `patterns` has the shape (g, n, 1 + c); rows of `questions` are the number of a
    pattern, increasing, and a position.
    """
    n = patterns.shape[1]
    owner, there = questions[:, 0].astype(np.intp), questions[:, 1:]
    weights, rest = np.empty((len(there), n)), np.empty(len(there))
    for some, places in _batches(np.bincount(owner, minlength=len(patterns)), n):
        old = patterns[some]
        solve = _solver(_roots(structure, params, old))
        step = max(_AT_ONCE // (n * len(some)), 1)
        for first in range(0, places.shape[1], step):
            here = places[:, first : first + step]
            new = there[here]
            pairs = (len(some), n, here.shape[1], new.shape[2])
            r = pair_correlations(
                structure,
                np.broadcast_to(old[:, :, None], pairs).reshape(-1, pairs[3]),
                np.broadcast_to(new[:, None], pairs).reshape(-1, pairs[3]),
                params,
            ).reshape(pairs[:3])
            half, solved = solve(r)
            weights[here] = solved.transpose(0, 2, 1)
            rest[here] = 1.0 - (half**2).sum(axis=1)
    if rest.min(initial=0.0) < -_NEGATIVE:
        raise StructureError(
            f"{structure.label} residuals: the correlations of the fit are not "
            "possible for the old and the new rows of a series together, only for the "
            "old ones; use level='group'"
        )
    return weights, np.maximum(rest, 0.0)


def _solver(
    roots: FloatArray,
) -> Callable[[FloatArray], tuple[FloatArray, FloatArray]]:
    """``L^-1 r`` and ``L'^-1 L^-1 r`` for factors and sides, shape (g, n, k)."""
    if len(roots) == 1:
        root = roots[0]

        def one(r: FloatArray) -> tuple[FloatArray, FloatArray]:
            half = solve_triangular(root, r[0], lower=True)
            solved = solve_triangular(root, half, lower=True, trans="T")
            return np.asarray(half)[None], np.asarray(solved)[None]

        return one
    inverse = np.linalg.inv(roots)

    def many(r: FloatArray) -> tuple[FloatArray, FloatArray]:
        half = inverse @ r
        return half, inverse.transpose(0, 2, 1) @ half

    return many


def _batches(counts: IntArray, n: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Patterns with equally many questions, and the places of these."""
    starts = np.cumsum(counts) - counts
    for count in np.unique(counts[counts > 0]):
        alike = np.flatnonzero(counts == count)
        step = max(_AT_ONCE // (n * n + n * int(count)), 1)
        for first in range(0, len(alike), step):
            some = alike[first : first + step]
            yield some, starts[some][:, None] + np.arange(count)


def _roots(
    structure: ResidualStructure, params: FloatArray, positions: FloatArray
) -> FloatArray:
    """Lower Cholesky factors of the correlations of rows, shape (g, n, n)."""
    g, n, width = positions.shape
    out = np.empty((g, n, n))
    out[:, np.arange(n), np.arange(n)] = 1.0
    rows, columns = np.triu_indices(n, 1)
    step = max(_AT_ONCE // g, 1)
    for first in range(0, len(rows), step):
        i, j = rows[first : first + step], columns[first : first + step]
        a, b = (positions[:, k].reshape(-1, width) for k in (i, j))
        values = pair_correlations(structure, a, b, params).reshape(g, -1)
        out[:, i, j] = out[:, j, i] = values
    try:
        return np.asarray(np.linalg.cholesky(out), dtype=np.float64)
    except np.linalg.LinAlgError as error:
        raise StructureError(
            f"{structure.label} residuals: a correlation matrix of observed rows is "
            "singular to rounding, so that nothing follows from them; use "
            "level='group', or add a nugget"
        ) from error


@dataclass(frozen=True)
class Kriging:
    """
    How new residuals follow from observed ones.

    Attributes
    ----------
    weights : sparse array, shape (k, n), or StateWeights
        One row a new residual.
    share : ndarray, shape (k,)
        Variance that remains, relative to ``sigma^2``.
    """

    weights: sparse.csr_array | StateWeights
    share: FloatArray


def krige(
    structure: ResidualStructure,
    params: FloatArray,
    observed: tuple[IntArray, FloatArray],
    asked: tuple[IntArray, FloatArray],
) -> Kriging:
    """
    Weights of the observed residuals for every new one.

    Parameters
    ----------
    structure : ResidualStructure
    params : ndarray, shape (k_params,)
    observed : tuple of ndarray, of shapes (n,) and (n, 1 + c)
        Numbers of the series, increasing, and positions: times, increasing within
        a series, then the structure's marks.
    asked : tuple of ndarray, of shapes (k,) and (k, 1 + c)
        Numbers of the series, -1 where nothing was observed, and positions.

    Returns
    -------
    Kriging

    Raises
    ------
    StructureError
        If the new residuals cannot have such correlations, or matrices would be
        too large.
    TimeError
        If the structure knows no correlation at some distance.
    """
    inner, values = correlation_of(structure), correlation_params(structure, params)
    markov = markov_of(inner)
    (series, positions), (wanted, places) = observed, asked
    if len(series) == 0 or len(wanted) == 0 or not is_correlated(structure):
        empty = sparse.csr_array((len(wanted), len(series)))
        found = Kriging(empty, np.ones(len(wanted)))
    elif markov is not None:
        found = _neighbours(
            markov, values, (series, positions[:, 0]), (wanted, places[:, 0])
        )
    else:
        width = 1 + len(inner.marks)
        rows = (series, positions[:, :width]), (wanted, places[:, :width])
        long = inner.n_states and np.bincount(series).max() > _LONG
        weights_of = state_weights if long else dense_weights
        found = Kriging(*weights_of(inner, values, *rows))
    if variance_of(structure) is None:
        return found
    # back from standardised residuals
    sd = relative_sd(structure, places[:, 1:], params)
    before = relative_sd(structure, positions[:, 1:], params)
    weights = found.weights
    if isinstance(weights, StateWeights):
        weights = weights.scaled(sd, before)
    elif weights.nnz:
        weights.data *= np.repeat(sd, np.diff(weights.indptr))
        weights.data /= before[weights.indices]
    return Kriging(weights, sd**2 * found.share)


def check_seen(
    structure: ResidualStructure,
    params: FloatArray,
    unseen: BoolArray,
    labels: Sequence[object],
    observed: tuple[IntArray, FloatArray],
    asked: tuple[IntArray, FloatArray],
) -> None:
    """Raise if new rows follow from observed ones by correlations of no meaning."""
    weights = krige(structure, params, observed, asked).weights
    for number in np.flatnonzero(unseen):
        moved = params.copy()
        moved[number] = 0.999 * params[number] + 1e-6
        there = krige(structure, moved, observed, asked).weights
        if isinstance(weights, StateWeights) or isinstance(there, StateWeights):
            return  # of distances in time, which are all known
        rows = np.flatnonzero(abs(there - weights).sum(axis=1))
        if len(rows):
            raise TimeError(
                f"the forecast of row {shown(labels[rows[0]])} would follow from "
                f"'{structure.param_names[number]}', and no group has both occasions "
                "to tell of it; pass level='group', or fit ante-dependence "
                "(residual='adh', or 'ad'), which knows it from the occasions between"
            )


def _neighbours(
    structure: MarkovStructure,
    params: FloatArray,
    observed: tuple[IntArray, FloatArray],
    asked: tuple[IntArray, FloatArray],
) -> Kriging:
    series, time = observed
    wanted, when = asked
    n, k = len(series), len(wanted)
    # one whole number for series and time, to search all series at once
    distinct, rank = np.unique(np.concatenate([time, when]), return_inverse=True)
    span = len(distinct)
    keys = series * span + rank[:n]
    after = np.searchsorted(keys, wanted * span + rank[n:])
    before = after - 1
    np.minimum(after, n - 1, out=after)
    np.maximum(before, 0, out=before)
    # a series of number -1 meets neither
    has_before = (series[before] == wanted) & (time[before] < when)
    has_after = (series[after] == wanted) & (time[after] >= when)
    s, s_rest = _across(structure, params, when - time[before], has_before)
    t, t_rest = _across(structure, params, time[after] - when, has_after)
    total = s_rest + s * s * t_rest  # 1 - s^2 t^2
    total[total == 0.0] = 1.0
    entries = np.empty((k, 2))
    entries[:, 0] = s * t_rest / total
    entries[:, 1] = t * s_rest / total
    weights = sparse.csr_array(
        (
            entries.ravel(),
            np.column_stack([before, after]).ravel(),
            np.arange(0, 2 * k + 1, 2),
        ),
        shape=(k, n),
    )
    return Kriging(weights, s_rest * t_rest / total)


def _across(
    structure: MarkovStructure,
    params: FloatArray,
    gaps: FloatArray,
    exists: NDArray[np.bool_],
) -> tuple[FloatArray, FloatArray]:
    """Correlation across gaps, 0 where there is no neighbour, and ``1 - phi^2``."""
    phi = structure.correlations(np.where(exists, gaps, 1.0)[:, None], params)
    phi = np.where(exists, phi, 0.0)
    return phi, (1.0 - phi) * (1.0 + phi)
