"""
Whether the data can tell the covariance parameters apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.residuals import (
    ResidualMatrices,
    correlation_marks,
    correlation_of,
    correlation_params,
    is_independent,
    share_values,
)
from mixedar.exceptions import IdentificationError, StructureError
from mixedar.numeric.linalg import product, r_factor, unique_rows
from mixedar.residual import ResidualStructure

_ROWS = 12  # rows of a cluster that are looked at, ...
_MANY_ROWS = 60  # ... and before an error is raised
_FEW = 3  # the largest, and as many of all sizes, mostly suffice
_SAMPLE = 40  # clusters of a first look, and of a second
_TOGETHER = 5000  # entries of their covariances that are looked at together
_ALL = 4000
_LARGEST = 1e150
_LONGEST_HELD = 200  # rows of a series that fixed correlations are checked for
_SINGULAR = 1e-7  # pivot of a correlation matrix
_NAMED = 7  # parameters that an error lists


def check_identified(
    rows: ClusterRows,
    structure: ResidualStructure,
    covariance: RandomCovariance,
    names: Sequence[str],
    z_map: FloatArray,
    *,
    scale_known: bool = False,
) -> None:
    """
    Raise if parameters change the covariance of the data in the same way.

    The derivatives of ``V`` by the covariance parameters and the residual
    variance, over all patterns of times and designs, have to be linearly
    independent (Rothenberg, 1971, Econometrica 39, theorem 1).

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure
    covariance : RandomCovariance
    names : sequence of str
        Names of the covariance parameters, then the residual parameters.
    z_map : ndarray, shape (q, q)
        Scaling of the random-effects design.
    scale_known : bool
        Whether the residual variance is no parameter.

    Raises
    ------
    IdentificationError
        Naming the parameters that cannot be told apart.
    """
    k_cov, covariance = covariance.k_cov, covariance.of_groups
    free = np.flatnonzero(covariance.is_free)
    if structure.k_params > structure.k_free == 0:
        _check_held(rows, structure)
    if len(free) + structure.k_free == 0:
        return
    for u, clusters, limit in _looks(rows, structure):
        arguments = structure, covariance, free, clusters, z_map, limit, u
        null = _null_directions(rows, *arguments, scale_known)
        if null.shape[1] == 0:
            return
    labels = [names[int(k)] for k in free]
    labels += compress(names[k_cov:], structure.is_free)
    labels += [] if scale_known else ["residual variance"]
    # a correlation of occasions that never meet is no other parameter's rival
    apart = np.zeros(len(labels), dtype=bool)
    unseen = unseen_correlations(rows, structure)
    apart[len(free) : len(free) + structure.k_free] = unseen[structure.is_free]
    involved = np.abs(np.where(apart[:, None], 0.0, null)).max(axis=1) > 1e-6
    if not involved.any() and unseen.sum() < correlation_of(structure).k_free:
        return
    involved |= ~involved.any() & apart
    named = [repr(label) for label, hit in zip(labels, involved, strict=True) if hit]
    if len(named) > _NAMED + 1:
        # the residual variance is the last
        named[_NAMED - 1 : -1] = [f"{len(named) - _NAMED} others"]
    said = f"the data cannot tell apart {', '.join(named)}: they change the covariance"
    said += " of the observations in the same way"
    if len(named) == 1:
        said = f"the covariance of the observations does not depend on {named[0]}"
    largest = int(np.diff(rows.offsets).max())
    raise IdentificationError(
        f"{said} (the largest group has {largest} "
        f"observation{'s' if largest != 1 else ''}"
        f"{': all groups are of size one' if largest == 1 else ''}). Use fewer random "
        "effects, or uncorrelated ones (re_cov='diagonal', or || for | in the "
        "formula), a simpler residual structure (residual='independent'), or hold a "
        "parameter fixed"
    )


def _looks(
    rows: ClusterRows, structure: ResidualStructure
) -> Iterator[tuple[FloatArray, IntArray, int]]:
    """Points, clusters and how many rows of each, the cheapest first."""
    patterns = np.flatnonzero(rows.weights > 0.0)
    sizes = np.diff(rows.offsets)[patterns]
    patterns = patterns[np.argsort(-sizes, kind="stable")]
    if len(patterns) > _SAMPLE:
        # the largest clusters tell most; some of all sizes cover the others
        others = patterns[:: max(len(patterns) // (_SAMPLE // 2), 1)]
        first = np.concatenate([patterns[: _SAMPLE // 2], others])
    else:
        first = patterns
    start = structure.start_grid()[0]
    # equal variances or factors that cancel make the start a special point
    other = _elsewhere(structure)
    long = sizes.max() > _ROWS
    if len(first) > 2 * _FEW:  # what few tell apart, more of them do not confuse
        few = np.concatenate([first[:_FEW], first[:: len(first) // _FEW]])
        yield start, few, _ROWS
        if long:  # occasions that never meet in some of the rows
            yield other, few, _MANY_ROWS
    yield start, first, _ROWS
    yield other, first, _ROWS
    if len(patterns) > len(first) or long:
        yield other, patterns[:_ALL], _MANY_ROWS


def check_terms(
    rows: ClusterRows,
    structure: ResidualStructure,
    covariance: RandomCovariance,
    names: Sequence[str],
) -> None:
    """
    The same for random effects of several factors, from their own covariances.

    Products of two derivatives, ``tr(Z E Z' U F U')``, need cross-products of the
    factors' levels only.

    Parameters
    ----------
    rows : ClusterRows
        With terms.
    structure : ResidualStructure
    covariance : RandomCovariance
    names : sequence of str
        Names of the covariance parameters.

    Raises
    ------
    IdentificationError
        Naming the parameters that cannot be told apart.
    """
    n = len(rows.w)
    clusters = np.repeat(np.arange(rows.n_clusters), np.diff(rows.offsets))
    factors = [(clusters, rows.z, covariance.of_groups.directions)]
    there = np.ones(covariance.k_cov, dtype=bool)
    for term, own, layout, place in zip(
        rows.terms,
        covariance.terms,
        covariance.of_terms,
        covariance.term_places,
        strict=True,
    ):
        if term.between is not None:  # levels that are related are a matter apart
            there[place.entries] = False
            continue
        directions = np.stack([own.whole(e) for e in layout.directions])
        factors.append((term.codes, term.columns, directions))
    compared = covariance.is_free & there
    labels = [name for name, used in zip(names, compared, strict=False) if used]
    if is_independent(structure):
        factors.append((np.arange(n), np.ones((n, 1)), np.ones((1, 1, 1))))
        labels.append("residual variance")
    sizes = [np.sqrt(np.einsum("nk,nk->k", z, z) / n) for _, z, _ in factors]
    half = {
        (i, j): _products(one, factors[j], np.outer(sizes[i], sizes[j]))
        for i, one in enumerate(factors)
        for j in range(i + 1)
    }
    every = range(len(factors))
    gram = np.block(
        [[half[i, j] if i >= j else half[j, i].T for j in every] for i in every]
    )
    used = np.concatenate([compared[there], np.ones(len(gram), dtype=bool)])
    gram = gram[np.ix_(used[: len(gram)], used[: len(gram)])]
    size = np.sqrt(np.diag(gram))
    values, vectors = np.linalg.eigh(gram / np.outer(size, size))
    null = vectors[:, values < 1e-12 * max(len(gram), 1)]
    if not null.shape[1]:
        return
    involved = np.abs(null).max(axis=1) > 1e-6
    named = [repr(label) for label, hit in zip(labels, involved, strict=True) if hit]
    raise IdentificationError(
        f"the data cannot tell apart {', '.join(named)}: they change the covariance of "
        "the observations in the same way. Leave one of the random-effects terms out"
    )


_Factor = tuple[IntArray, FloatArray, FloatArray]


def _products(one: _Factor, other: _Factor, sizes: FloatArray) -> FloatArray:
    """
    ``tr(E C F C')`` for all directions of two factors, summed over their levels.

    `sizes` are products of those of their columns, shape (a, c).
    """
    codes, columns, directions = one
    others, there, turned = other
    counts = int(codes.max()) + 1, int(others.max()) + 1
    if max(counts) == 1:
        cross = product(columns.T, there)[:, :, None]
    else:
        pair = codes.astype(np.int64) * counts[1] + others
        if counts[0] * counts[1] > len(codes):
            _, pair = np.unique(pair, return_inverse=True)
        cross = np.array(
            [[np.bincount(pair, a * b) for b in there.T] for a in columns.T]
        ).reshape(columns.shape[1], there.shape[1], int(pair.max()) + 1)
    cross = cross / sizes[:, :, None]
    left = np.einsum("eab,bcl->eacl", directions, cross)
    right = np.einsum("fcd,adl->facl", turned, cross)
    return np.einsum("eacl,facl->ef", left, right)


def unseen_correlations(rows: ClusterRows, structure: ResidualStructure) -> BoolArray:
    """
    Correlations of occasions that never meet in a series, shape (k_params,).

    The covariance of the data does not depend on them, whatever the others are.
    """
    inner, marks = correlation_of(structure), correlation_marks(structure)
    out = np.zeros(structure.k_params, dtype=bool)
    if not _has_occasions(structure):
        return out
    assert rows.marks is not None
    cells = {}
    for start, end in pairwise(rows.offsets):
        gaps, levels = rows.gaps[start:end], rows.marks[start:end, marks]
        key = gaps.tobytes() + levels.tobytes()
        if key not in cells:
            cells[key] = ResidualMatrices(inner, gaps[None], levels[None]).cells
    distinct, _ = unique_rows(np.concatenate(list(cells.values())))
    u = inner.start_grid()[0]
    slopes = np.linalg.solve(
        inner.natural(u).first, inner.cell_values(distinct, u).first
    )
    out[: inner.k_params] = ~(np.abs(slopes) > 1e-9).any(axis=1)
    return out


def _has_occasions(structure: ResidualStructure) -> bool:
    """Whether correlations are those of pairs of occasions, and estimated."""
    inner = correlation_of(structure)
    return inner.k_free > 0 and any(mark.kind == "level" for mark in inner.marks)


def _check_held(rows: ClusterRows, structure: ResidualStructure) -> None:
    """Raise if fixed parameters make residuals copies of each other."""
    clusters = np.flatnonzero(rows.weights > 0.0)
    largest = clusters[np.argsort(-np.diff(rows.offsets)[clusters], kind="stable")]
    inner = correlation_of(structure)
    params = correlation_params(structure, structure.from_unconstrained(np.empty(0)))
    for cluster in largest[:_SAMPLE]:
        here = slice(
            rows.offsets[cluster],
            min(rows.offsets[cluster + 1], rows.offsets[cluster] + _LONGEST_HELD),
        )
        positions = np.cumsum(rows.gaps[here])[:, None]
        if rows.marks is not None:
            positions = np.concatenate([positions, rows.marks[here]], axis=1)
        positions = positions[:, : 1 + len(inner.marks)]
        begins = np.flatnonzero(rows.gaps[here] == 0.0)[1:]
        try:
            smallest = min(
                float(np.diag(np.linalg.cholesky(inner.correlation(x, params))).min())
                for x in np.split(positions, begins)
            )
        except np.linalg.LinAlgError:
            smallest = 0.0
        if not smallest > _SINGULAR:
            values = ", ".join(
                f"{name} = {value:g}"
                for name, value in zip(
                    structure.param_names,
                    structure.from_unconstrained(np.empty(0)),
                    strict=True,
                )
            )
            raise StructureError(
                f"{structure.label} residuals with {values} fixed have a correlation "
                "matrix that is not positive definite to rounding: residuals would "
                "follow from each other. Fix other values, or estimate them"
            )


def _null_directions(
    rows: ClusterRows,
    structure: ResidualStructure,
    covariance: RandomCovariance,
    free: NDArray[np.intp],
    clusters: NDArray[np.intp],
    z_map: FloatArray,
    limit: int,
    u: FloatArray,
    scale_known: bool,
) -> FloatArray:
    """Combinations of parameters that leave V unchanged, to first order."""
    directions = covariance.directions[free]
    to_natural: FloatArray = np.eye(structure.k_free)
    if _has_occasions(structure):  # their correlations themselves, one by one
        slopes = structure.natural(u).first[:, structure.is_free]
        to_natural = np.asarray(np.linalg.inv(slopes), dtype=np.float64)
    looks: list[tuple[FloatArray, ResidualMatrices]] = []
    seen: set[bytes] = set()
    for cluster in clusters:
        start, end = rows.offsets[cluster], rows.offsets[cluster + 1]
        picked = start + _some_rows(end - start, limit, rows.z[start:end])
        z = rows.z[picked] @ z_map
        # rows left out lengthen the gap to the next of their series
        time = np.cumsum(rows.gaps[start:end])[picked - start]
        series = np.cumsum(rows.gaps[start:end] == 0.0)[picked - start]
        gaps = np.diff(time, prepend=time[0])
        gaps[np.diff(series, prepend=series[0]) != 0] = 0.0
        gaps[0] = 0.0
        marks = np.empty((len(z), 0)) if rows.marks is None else rows.marks[picked]
        key = z.tobytes() + gaps.tobytes() + marks.tobytes()
        if key in seen:
            continue
        seen.add(key)
        looks.append((z, ResidualMatrices(structure, gaps[None], marks[None])))
    share_values([matrices for _, matrices in looks])
    parts: list[FloatArray] = []
    for z, matrices in looks:
        lower = np.tril_indices(len(z))
        columns = [(z @ direction @ z.T)[lower] for direction in directions]
        found, every = matrices.values(u), slice(None)
        slopes = np.tensordot(to_natural, matrices.slopes(found, every)[:, 0], 1)
        columns += [slope[lower] for slope in slopes]
        if not scale_known:
            columns.append(matrices.matrices(found, every)[0][lower])
        parts.append(np.column_stack(columns))
        if not np.abs(parts[-1]).max() < _LARGEST:
            return np.eye(len(columns))  # a start beyond all numbers tells nothing
        if sum(map(len, parts)) > _TOGETHER:
            parts = [r_factor(np.concatenate(parts))]
    matrix = np.concatenate(parts)
    lengths = np.sqrt((matrix**2).sum(axis=0))
    # random effects and residuals may be of very different size
    k = len(free)
    empty = np.concatenate(
        [part <= 1e-10 * part.max(initial=0.0) for part in (lengths[:k], lengths[k:])]
    )
    lengths[empty] = 1.0
    matrix = matrix / lengths
    matrix[:, empty] = 0.0
    _, values, right = np.linalg.svd(r_factor(matrix), full_matrices=True)
    values = np.concatenate([values, np.zeros(len(right) - len(values))])
    return right[values < 1e-7].T


def _elsewhere(structure: ResidualStructure) -> FloatArray:
    """A point that neither a user's start nor any regularity makes special."""
    wave = np.sin(2.0 + 3.7 * np.arange(structure.k_free))
    return np.asarray(structure.start_grid()[-1] + 0.3 * wave)


def _some_rows(n: int, limit: int, z: FloatArray) -> NDArray[np.intp]:
    """Rows from the beginning, the middle and the end of a cluster, and of all `z`."""
    if n <= limit:
        return np.arange(n)
    third = limit // 3
    middle = (n - third) // 2
    parts = (np.arange(third), middle + np.arange(third), n - third + np.arange(third))
    if not z.shape[1]:  # LAPACK refuses it before SciPy 1.14
        return np.unique(np.concatenate(parts))
    # effects of a factor are not told apart by rows of a few of its levels
    spanning = qr(z.T, mode="r", pivoting=True)[1][: z.shape[1]]
    return np.unique(np.concatenate([*parts, spanning]))
