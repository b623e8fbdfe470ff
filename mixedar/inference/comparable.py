"""
Whether fits are to the same data, and one model is a case of another.

Values are compared row by row, not the names of columns: two weights called ``w``
are the same if their numbers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.data.model_data import ModelData
from mixedar.engine.residuals import correlation_of, is_correlated
from mixedar.exceptions import UnsupportedError
from mixedar.fit import Fit
from mixedar.fit.beside import looked_at
from mixedar.residual import Nesting, nesting
from mixedar.residual.base import Mark
from mixedar.residual.variance.base import FITTED

# What tells the rows of one model apart, and those of another.
Pair = tuple[NDArray[Any], NDArray[Any]]
ZERO_VARIANCE = "a variance of zero is on the boundary"


def matching_rows(fit: Fit, other: Fit) -> IntArray:
    """
    For each row of a fit's data the row of another fit's data that it is.

    Rows are matched by their labels, else by their responses, groups, times and
    columns if no two agree in all of them.

    Raises
    ------
    UnsupportedError
        If the fits are to different data, or their data were removed.
    """
    if not (fit.has_data and other.has_data):
        raise UnsupportedError(
            "the data were removed from a fit: whether the fits are to the same "
            "data cannot be checked"
        )
    first, second = fit.data, other.data
    if fit.nobs != other.nobs or len(first.endog) != len(second.endog):
        raise UnsupportedError(
            f"the fits are to different data: {fit.nobs} and "
            f"{other.nobs} observations; drop the rows with missing values in "
            "any model's variables first"
        )
    keys = _keys(first, second)
    found = same_rows(first.endog, first.index, second.endog, second.index, keys)
    if fit.nobs > len(first.endog) and not np.isclose(_square(first), _square(second)):
        found = None  # the first groups are the same, and others are not
    if found is None:
        raise UnsupportedError(
            "the fits have different responses; their likelihoods cannot be compared"
        )
    return found


def _square(data: ModelData) -> float:
    """Sum of squares of the response, of all rows that the likelihood is of."""
    return float((data.compressed.w[:, -1] ** 2).sum())


def _keys(a: ModelData, b: ModelData) -> list[Pair]:
    """Groups, times and columns that two models have in common, row by row."""
    pairs: list[Pair] = []
    if a.group_labels == b.group_labels:
        pairs.append((a.codes, b.codes))
    if a.time is not None and b.time is not None:
        both = pd.factorize(np.append(np.asarray(a.time), np.asarray(b.time)))[0]
        pairs.append((both[: len(a.codes)], both[len(a.codes) :]))
    for name in set(a.exog_names) & set(b.exog_names):
        left, right = (x.exog[:, x.exog_names.index(name)] for x in (a, b))
        pairs.append((left, right))
    return [(x, y) for x, y in pairs if np.array_equal(np.sort(x), np.sort(y))]


def same_rows(
    y: FloatArray,
    labels: pd.Index | None,
    z: FloatArray,
    others: pd.Index | None,
    keys: Sequence[Pair] = (),
) -> IntArray | None:
    """
    For each response the place of its row among other responses.

    Parameters
    ----------
    y, z : ndarray, shape (n,)
    labels, others : Index or None
        Of their rows.
    keys : sequence of pairs of ndarray, shape (n,)
        What else tells rows apart.

    Returns
    -------
    ndarray of int, shape (n,), or None
        None if the responses are not the same.

    Raises
    ------
    UnsupportedError
        If they are, and nothing tells which is which.
    """
    if np.array_equal(y, z):
        return np.arange(len(y))
    if labels is not None and others is not None and others.is_unique:
        found = others.get_indexer(labels)
        if (found >= 0).all() and np.array_equal(y, z[found]):
            return np.asarray(found)
    if not np.array_equal(np.sort(y), np.sort(z)):
        return None
    a, b = (np.column_stack(side) for side in zip((y, z), *keys, strict=True))
    first, second = np.lexsort(a.T[::-1]), np.lexsort(b.T[::-1])
    alike = np.array_equal(a[first], b[second])
    if not alike or (np.diff(a[first], axis=0) == 0.0).all(axis=1).any():
        raise UnsupportedError(
            "the fits have the same responses in another order, and neither labels nor "
            "responses tell which row is which: sort the data alike before you fit"
        )
    out = np.empty(len(y), dtype=np.intp)
    out[first] = second
    return out


def same_columns(a: FloatArray, b: FloatArray) -> bool:
    """Whether two designs have the same columns, in any order."""
    return a.shape == b.shape and _contains(a.T, b.T)


def _contains(outer: FloatArray, inner: FloatArray) -> bool:
    """Whether every row of `inner` is one of `outer`'s."""
    return all(any(np.array_equal(row, other) for other in outer) for row in inner)


def _inside(small: FloatArray, large: FloatArray) -> bool:
    """Whether the columns of `small` lie in the span of those of `large`."""
    if small.shape[1] > large.shape[1]:
        return False
    if _contains(large.T, small.T):
        return True
    basis, _ = np.linalg.qr(large)
    rest = small - basis @ (basis.T @ small)
    size = np.sqrt((small**2).sum(axis=0))
    return bool((np.sqrt((rest**2).sum(axis=0)) <= 1e-8 * size).all())


def model_nesting(small: Fit, large: Fit) -> Nesting:
    """Whether one model is a case of another, and where in its space."""
    small, large = looked_at(small), looked_at(large)
    rows = matching_rows(small, large)
    if not _inside(small.data.exog, large.data.exog[rows]):
        apart = "the fixed effects of one are not among those of the other"
        return Nesting(apart=apart)
    if large.data.scale is not None and small.data.scale != large.data.scale:
        return Nesting(apart="the known residual variance of one is not the other's")
    found = _effects_nesting(small, large, rows)
    apart = found.apart or _readings_differ(small, large, rows)
    if apart:
        return Nesting(apart=apart)
    gaps = large.data.grouped.gaps
    return found.and_also(nesting(small.structure, large.structure, gaps))


@dataclass(frozen=True)
class _Effects:
    """
    Random effects of one factor that may be correlated.

    Attributes
    ----------
    what : str
    codes : ndarray of int, shape (n,)
        Levels of the factor.
    columns : list of ndarray, each of shape (n, c)
        For each variance the columns that have it.
    correlated : ndarray of bool, shape (k, k)
        Which covariances are estimated.
    compound : bool
        Whether they share one variance and one covariance.
    between : ndarray, shape (levels, levels), or None
        What relates the levels, at parameters that are the same for all fits.
    """

    what: str
    codes: IntArray
    columns: list[FloatArray]
    correlated: BoolArray
    compound: bool = False
    between: FloatArray | None = None

    @property
    def unstructured(self) -> bool:
        """Whether all covariances are estimated."""
        every = self.correlated | np.eye(len(self.columns), dtype=bool)
        return not self.compound and bool(every.all())

    @property
    def directions(self) -> list[FloatArray]:
        """What the covariance is a sum of, matrices of shape (k, k)."""
        k = len(self.columns)
        if self.compound:
            return [np.eye(k), 1.0 - np.eye(k)]
        out = []
        for i, j in zip(*np.tril_indices(k), strict=True):
            if i == j or self.correlated[i, j]:
                one = np.zeros((k, k))
                one[i, j] = one[j, i] = 1.0
                out.append(one)
        return out

    def edges(self, rank: int) -> int:
        """How many variances are zero where the covariance has a rank."""
        k = len(self.columns)
        if self.compound:  # of the mean of the effects, and of their differences
            return 2 if rank == 0 else int(rank < k)
        return k - rank

    def times(self, covariance: FloatArray, v: FloatArray) -> FloatArray:
        """``Z G Z' v`` for a covariance ``G`` of the effects, shape (n, m)."""
        pairs = [(int(i), int(j)) for i, j in np.argwhere(covariance)]
        parts = (covariance[i, j] * self.applied(i, j, v) for i, j in pairs)
        return sum(parts, start=np.zeros_like(v))

    def applied(self, i: int, j: int, v: FloatArray) -> FloatArray:
        """``Z_i Z_j' v``, the columns having an effect for each level, shape (n, m)."""
        out = np.zeros_like(v)
        count = int(self.codes.max()) + 1
        for left, right in zip(self.columns[i].T, self.columns[j].T, strict=True):
            sums = np.zeros((count, v.shape[1]))
            np.add.at(sums, self.codes, right[:, None] * v)
            if self.between is not None:
                sums = self.between @ sums
            out += left[:, None] * sums[self.codes]
        return out


def _effects_nesting(small: Fit, large: Fit, rows: IntArray) -> Nesting:
    """Whether the random effects of one model are a case of another's."""
    a, b = small.data, large.data
    if (
        a.exog_re is b.exog_re
        and a.components is b.components
        and a.terms is b.terms
        and np.array_equal(small.layout.is_free, large.layout.is_free)
    ):
        return Nesting()
    blocks = _effects_of(large, rows)
    images: list[list[FloatArray]] = [[] for _ in blocks]
    for one in _effects_of(small, np.arange(len(rows))):
        found = [_image(one, block) for block in blocks]
        where = next((k for k, image in enumerate(found) if image is not None), None)
        if where is None:
            same = _same_parts(a.codes, b.codes[rows])
            groups = "" if same else ": the groups differ"
            return Nesting(
                apart=f"the {one.what} of one are not among those of the other{groups}"
            )
        image = found[where]
        assert image is not None
        images[where].append(image)
    # what the smaller model leaves without variance is at the edge
    count = 0
    for block, own in zip(blocks, images, strict=True):
        rank = int(np.linalg.matrix_rank(np.hstack(own))) if own else 0
        count += block.edges(rank)
    edges = (ZERO_VARIANCE,) * count
    between = large.parameters.k_free - large.structure.k_free
    lost = between > small.parameters.k_free - small.structure.k_free
    irregular = "a parameter has no meaning where its variance is zero" if lost else ""
    return Nesting(edges, irregular)


def _effects_of(fit: Fit, rows: IntArray) -> list[_Effects]:
    """Random effects by what may be correlated, in the order of some rows."""
    data = fit.data
    parts: list[tuple[str, IntArray, list[FloatArray], FloatArray | None]] = []
    if data.exog_re is not None:
        columns = [column[:, None] for column in data.exog_re.T]
        parts.append(("random effects", data.codes, columns, None))
    for matrix in data.components.matrices:
        parts.append(("variance components", data.codes, [matrix], None))
    for term, related in zip(data.terms, fit.related.of_levels, strict=True):
        between = None
        if related is not None:
            between = related.matrix(related.start_grid()[0]).value
        order = len(term.effects)
        columns = [term.design[:, k::order] for k in range(order)]
        what = "smooths" if term.smooth is not None else "random effects"
        parts.append((what, term.codes, columns, between))
    layout = fit.layout
    estimated = layout.matrix(layout.is_free.astype(float)) > 0.0
    compound = layout.compound
    out, start = [], 0
    for what, codes, matrices, between in parts:
        here = slice(start, start + len(matrices))
        start += len(matrices)
        pattern = estimated[here, here]
        alone = not (pattern & ~np.eye(len(matrices), dtype=bool)).any()
        columns = [matrix[rows] for matrix in matrices]
        every = list(range(len(columns)))
        for some in [[k] for k in every] if alone else [every]:
            if pattern[some, some].any():
                chosen = [columns[k] for k in some]
                inner = pattern[np.ix_(some, some)]
                shared = compound and len(some) > 1
                out.append(_Effects(what, codes[rows], chosen, inner, shared, between))
        compound = False  # the groups' own effects come first
    return out


def _image(small: _Effects, large: _Effects) -> FloatArray | None:
    """
    Directions among a block's effects that other effects are a case of.

    Returns
    -------
    ndarray, shape (k, r), or None
        None if no covariance of the block's k effects has the same effect on the data.
    """
    if len(small.columns) == 1:
        return _image_of_one(small, large)
    if not _same_parts(small.codes, large.codes):
        return None
    if not _same_relation(small.between, large.between):
        return None
    a, b = np.hstack(small.columns), np.hstack(large.columns)
    image: FloatArray = np.linalg.lstsq(b, a, rcond=None)[0].astype(np.float64)
    size = np.sqrt((a**2).sum(axis=0))
    if (np.sqrt(((a - b @ image) ** 2).sum(axis=0)) > 1e-8 * size).any():
        return None
    if large.unstructured:
        return image
    copies = np.eye(large.columns[0].shape[1])
    basis = np.column_stack([np.kron(one, copies).ravel() for one in large.directions])
    copies = np.eye(small.columns[0].shape[1])
    for one in small.directions:
        wanted = (image @ np.kron(one, copies) @ image.T).ravel()
        found = np.linalg.lstsq(basis, wanted, rcond=None)[0]
        if np.linalg.norm(basis @ found - wanted) > 1e-8 * np.linalg.norm(wanted):
            return None
    return image


def _same_relation(one: FloatArray | None, other: FloatArray | None) -> bool:
    """Whether levels are related in the same way."""
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and bool(np.allclose(one, other))


def _image_of_one(small: _Effects, large: _Effects) -> FloatArray | None:
    """The same for effects of one variance, by what it does to two vectors."""
    n, k = len(small.codes), len(large.columns)
    probe = np.random.default_rng(7).normal(size=(n, 2))
    wanted = small.applied(0, 0, probe).ravel()
    basis = np.column_stack(
        [large.times(direction, probe).ravel() for direction in large.directions]
    )
    found, *_ = np.linalg.lstsq(basis, wanted, rcond=None)
    if np.linalg.norm(basis @ found - wanted) > 1e-8 * np.linalg.norm(wanted):
        return None
    covariance = sum(
        (value * one for value, one in zip(found, large.directions, strict=True)),
        start=np.zeros((k, k)),
    )
    values, vectors = np.linalg.eigh(covariance)
    if values[0] < -1e-8 * values[-1]:
        return None
    return np.asarray(vectors[:, values > 1e-8 * values[-1]])


def _same_parts(a: IntArray | FloatArray, b: IntArray | FloatArray) -> bool:
    """Whether two labellings divide the rows alike."""
    count = len(pd.MultiIndex.from_arrays([a, b]).unique())
    return count == len(np.unique(a)) == len(np.unique(b))


def _readings_differ(small: Fit, large: Fit, rows: IntArray) -> str:
    """What the residual structures read of the rows that is not the same."""
    first, second = _marks(small), _marks(large)
    for mark, values in first.items():
        if mark not in second:
            continue
        others = second[mark][rows]
        if mark.kind == "number":
            same = np.array_equal(values, others)
        else:
            same = _same_parts(values, others)
        if not same:
            what = "occasions" if mark.column is None else f"values of {mark.column!r}"
            return f"{what} that the residuals depend on are not the same in both"
    if is_correlated(small.structure) and is_correlated(large.structure):
        return _series_differ(small, large, rows)
    return ""


def _marks(fit: Fit) -> dict[Mark, FloatArray]:
    """What a structure reads of the caller's rows, beside distances in time."""
    grouped = fit.data.grouped
    if grouped.marks is None:
        return {}
    columns = grouped.unsort(grouped.marks).T
    pairs = zip(fit.structure.marks, columns, strict=True)
    return {mark: values for mark, values in pairs if mark.column != FITTED}


def _series_differ(small: Fit, large: Fit, rows: IntArray) -> str:
    """How times or series of two correlated structures differ; empty if not."""
    why = "times or series of the residuals differ"
    a, b = _series(small), _series(large)[rows]
    if not _same_parts(a, b):
        return why
    if not all(_ordered(one) for one in (small, large)):
        return ""
    first, second = small.data.grouped, large.data.grouped
    orders = [
        np.arange(len(g.gaps)) if g.order is None else g.order for g in (first, second)
    ]
    # by series, as groups may be numbered otherwise
    place = np.empty(len(rows), dtype=np.intp)
    place[orders[1]] = np.arange(len(rows))
    there = place[rows[orders[0]]]
    steps = ~first.first_of_series[1:]
    if (np.diff(there)[steps] != 1).any():
        return why
    gaps, others = first.gaps[1:][steps], second.gaps[there[1:][steps]]
    same = True
    if small.structure.uses_time and large.structure.uses_time:
        same = np.allclose(gaps * others.sum(), others * gaps.sum())
    elif small.structure.uses_time and second.marks is not None:
        # times have to follow from the occasions
        kinds = [mark.kind for mark in large.structure.marks]
        occasion = second.marks[there, kinds.index("level")]
        pairs = np.stack([occasion[:-1], occasion[1:], first.gaps[1:]])[:, steps]
        count = np.unique(pairs[:2], axis=1).shape[1]
        same = count == np.unique(pairs, axis=1).shape[1]
    return "" if same else why


def _ordered(fit: Fit) -> bool:
    """Whether the order of the rows of a series matters to the correlation."""
    structure = correlation_of(fit.structure)
    return structure.needs_distinct_times and (
        structure.uses_time or any(mark.kind == "level" for mark in structure.marks)
    )


def _series(fit: Fit) -> FloatArray:
    """The number of each row's series, in the caller's order."""
    grouped = fit.data.grouped
    return grouped.unsort(np.cumsum(grouped.first_of_series).astype(float))
