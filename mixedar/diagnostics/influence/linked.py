"""
Rows of a level taken out where random effects of several factors bind rows together.

With ``Q = V^-1`` of all rows, and `A` the rows of a level,

    W'V^-1 W - (Q W)_A' (Q_AA)^-1 (Q W)_A

is what ``W'V^-1 W`` is without them (Christensen, Pearson and Johnson, 1992).  ``Q``
is ``H^-1`` less ``H^-1 Z K Z' H^-1``, where ``H`` has the groups' effects and is
block-diagonal, and `Z` and `K` are the further factors': sparse matrices, and a
dense one of the order of the effects that are linked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
from scipy.linalg import block_diag, solve_triangular
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.linalg import splu

from mixedar._types import FloatArray, IntArray
from mixedar.diagnostics.influence.deletion import DeletionCoordinates, WithoutRows
from mixedar.engine.blocks.base import ParameterPoint
from mixedar.engine.compress import ClusterRows, TermRows
from mixedar.engine.groups import GroupSums
from mixedar.engine.level import Level, eliminate
from mixedar.engine.likelihood import cluster_sums
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.residuals import whiten_series
from mixedar.engine.rows import GroupedRows
from mixedar.engine.sparse import SparseLevel
from mixedar.engine.terms import RowsOfTerms, eliminated_terms
from mixedar.exceptions import UnsupportedError
from mixedar.fit import Fit
from mixedar.fit.linked import linked_rows
from mixedar.inference.cluster_sums import equal_sizes

# Numbers in the inverse covariances of all groups.
_MOST = 2**27
# Of differences, relative to parameters that are large.
_STEP = 1e-4


# Log-determinant, S, Z'V^-1 Z and Z'V^-1 W.
_Own = tuple[float, FloatArray, FloatArray, FloatArray]


class RowPrecision:
    """
    ``V^-1`` between rows.

    Parameters
    ----------
    rows : ClusterRows
        Of the real groups, with terms, in the coordinates of `problem`.
    problem : LikelihoodProblem
    theta : ndarray, shape (k_theta,)
    """

    def __init__(
        self, rows: ClusterRows, problem: LikelihoodProblem, theta: FloatArray
    ) -> None:
        point = problem.point(theta)
        eliminated = eliminated_terms(problem.blocks, point)
        of_terms = RowsOfTerms(rows, eliminated)
        self._inner = _inverse_blocks(rows, problem, point)
        places, columns, values = [], [], []
        self._levels: list[Level | SparseLevel] = [level for _, level in eliminated]
        self._level = np.empty(len(rows.w), dtype=np.intp)
        self._component = np.empty(len(rows.w), dtype=np.intp)
        numbers = {id(level): k for k, level in enumerate(self._levels)}
        for here, column, where, component, level in of_terms.entries():
            places.append(here)
            columns.append(where)
            values.append(column)
            self._level[here], self._component[here] = numbers[id(level)], component
        shape = (len(rows.w), of_terms.width)
        entries = (np.concatenate(places), np.concatenate(columns))
        z = csr_matrix((np.concatenate(values), entries), shape=shape)
        self._product = (self._inner @ z).tocsr()
        #: ``V^-1 W``, shape (n, p + 1)
        self.images: FloatArray = np.asarray(self._inner @ of_terms.left)

    def of_rows(self, some: IntArray, z: FloatArray) -> _Own:
        """
        What goes with some rows.

        Parameters
        ----------
        some : ndarray of int, shape (l,)
            Of one set of levels that meet.
        z : ndarray, shape (l, q)
            Columns that have values in these rows only.

        Returns
        -------
        d : float
            What ``log|V|`` loses without them.
        s : ndarray, shape (p + 1, p + 1)
            What ``W'V^-1 W`` loses.
        zz, zw : ndarray, shapes (q, q) and (q, p + 1)
            ``Z'V^-1 Z`` and ``Z'V^-1 W``.
        """
        level = self._levels[self._level[some[0]]]
        root = level.root[:, :, self._component[some[0]]]
        inner = self._inner[some][:, some].tocsc()
        half = np.asarray(self._product[some][:, : len(root)] @ root.T)
        images = self.images[some]
        across = half.T @ z
        zz, zw = z.T @ (inner @ z) - across.T @ across, z.T @ images
        if len(some) <= len(root):
            factor = np.linalg.cholesky(inner.toarray() - half @ half.T)
            turned = solve_triangular(factor, images, lower=True)
            return -2.0 * _logs(factor.diagonal()), turned.T @ turned, zz, zw
        # (B - M M')^-1 = B^-1 + B^-1 M (I - M'B^-1 M)^-1 M'B^-1
        split = splu(inner)
        solved = split.solve(np.hstack([half, images]))
        own, rest = solved[:, : len(root)], solved[:, len(root) :]
        factor = np.linalg.cholesky(np.eye(len(root)) - half.T @ own)
        turned = solve_triangular(factor, own.T @ images, lower=True)
        d = -_logs(split.U.diagonal()) - 2.0 * _logs(factor.diagonal())
        return d, images.T @ rest + turned.T @ turned, zz, zw


def _logs(diagonal: FloatArray) -> float:
    return float(np.log(np.abs(diagonal)).sum())


def _inverse_blocks(
    rows: ClusterRows, problem: LikelihoodProblem, point: ParameterPoint
) -> csr_matrix:
    """``H^-1``, block-diagonal, with the groups' effects only."""
    sizes, n = np.diff(rows.offsets), len(rows.w)
    numbers = int((sizes.astype(np.float64) ** 2).sum())
    if numbers > _MOST:
        raise UnsupportedError(
            "influence() with several factors writes out the covariance of each "
            f"group, and the largest has {int(sizes.max()):,} rows; make a factor with "
            "more levels the groups"
        )
    places, columns, values = [], [], []
    for _, index in equal_sizes(rows.offsets):
        size = index.shape[1]
        places.append(np.repeat(index, size, axis=1).ravel())
        columns.append(np.tile(index, (1, size)).ravel())
        values.append(_inverses(rows, index, problem, point).ravel())
    entries = (np.concatenate(places), np.concatenate(columns))
    out = coo_matrix((np.concatenate(values), entries), shape=(n, n)).tocsr()
    out.eliminate_zeros()
    return out


def _inverses(
    rows: ClusterRows,
    index: IntArray,
    problem: LikelihoodProblem,
    point: ParameterPoint,
) -> FloatArray:
    """``H^-1`` of groups of one size whose rows are in `index`, shape (m, n, n)."""
    m, n = index.shape
    flat, q = index.ravel(), rows.z.shape[1]
    marks = None if rows.marks is None else rows.marks[flat]
    grouped = GroupedRows(None, n * np.arange(m + 1), rows.gaps[flat], marks)
    columns = np.hstack([np.tile(np.eye(n), (m, 1)), rows.z[flat]])
    white = whiten_series(
        columns, grouped, problem.structure, point.u[: problem.structure.k_free]
    )
    white = white.reshape(m, n, n + q)
    unit, z = white[:, :, :n], white[:, :, n:]
    turned = unit.transpose(0, 2, 1)
    out = turned @ unit
    if q:
        zz = np.ascontiguousarray((z.transpose(0, 2, 1) @ z).transpose(1, 2, 0))
        root = eliminate(zz, np.empty((0, q, m)), point.factor).root
        half = turned @ z @ root.transpose(2, 1, 0)
        out = out - half @ half.transpose(0, 2, 1)
    return np.asarray(out)


def are_apart(fit: Fit, levels: int) -> bool:
    """Whether nothing binds rows of different levels of a factor together."""
    # related levels are eliminated together, apart or not
    return len(linked_rows(fit, together=True)) == levels


class LinkedCoordinates(DeletionCoordinates):
    """
    The same where levels of several factors meet.

    The parameters ``v`` are theta itself.  Where rows of different levels are bound
    together, derivatives of what goes with a level are differences, and those of
    second order a share of all rows'.

    Parameters
    ----------
    fit : Fit
    codes : ndarray of int, shape (n,)
        Level of each row, of the groups or of another factor, in the caller's order.
    factor : str
        Its name.
    """

    def __init__(self, fit: Fit, codes: IntArray, factor: str) -> None:
        super().__init__(fit)
        data, problem = fit.data, self.problem
        self._codes = data.grouped.sort(codes)
        self.sizes = np.bincount(self._codes)
        #: sorted rows of each level
        self._members: list[IntArray] = np.split(
            np.argsort(self._codes, kind="stable"), np.cumsum(self.sizes)[:-1]
        )
        designs: list[FloatArray] = []
        covariances: list[FloatArray] = []
        if factor == data.groups_name:
            designs.append(self.rows.z)
            covariances.append(self.psi)
        term_factors = problem.term_factors(self.theta)
        for term, own, root, between in zip(
            data.terms, self.rows.terms, term_factors, fit.related.levels, strict=True
        ):
            if term.factor == factor:
                copies = own.columns.shape[1] // len(root)
                size: FloatArray | float = 1.0  # of the level, beside the others
                if between is not None:
                    size = np.sqrt(np.diagonal(between))[own.codes, None]
                designs.append(own.columns * size)
                covariances.append(block_diag(*[root @ root.T] * copies))
        self._z = np.hstack([np.empty((fit.nobs, 0)), *designs])
        self.psi = block_diag(*covariances) if covariances else np.empty((0, 0))
        self._apart = are_apart(fit, len(self.sizes))
        self._by_v = self.jacobian, self.bends
        self.total = self._by_theta(self.total)
        k = len(self.theta)
        self.jacobian, self.bends = np.eye(k), np.zeros((k, k, k))

    def _by_theta(self, sums: GroupSums) -> GroupSums:
        """Derivatives by theta in place of those by covariances."""
        first, second = self._by_v
        bent_d = np.einsum("aij,am->ijm", second, sums.d1)
        bent_s = np.einsum("aij,axym->ijxym", second, sums.s1)
        return replace(
            sums,
            d1=np.einsum("ai,am->im", first, sums.d1),
            s1=np.einsum("ai,axym->ixym", first, sums.s1),
            d2=np.einsum("ai,abm,bj->ijm", first, sums.d2, first) + bent_d,
            s2=np.einsum("ai,abxym,bj->ijxym", first, sums.s2, first) + bent_s,
        )

    def change(self, steps: FloatArray) -> FloatArray:
        """The steps themselves."""
        return steps.T

    def covariances(self, change: FloatArray, scale: FloatArray) -> FloatArray:
        """Covariances and components of the user, shape (m, k_cov)."""
        problem = self.problem
        values = np.array([problem.values(self.theta + step) for step in change.T])
        return (values @ problem.value_map().T) * scale[:, None]

    @cached_property
    def _precision(self) -> RowPrecision:
        return RowPrecision(self.rows, self.problem, self.theta)

    def _precision_at(self, theta: FloatArray) -> RowPrecision:
        if np.array_equal(theta, self.theta):
            return self._precision
        return RowPrecision(self.rows, self.problem, theta)

    def _own(self, level: int) -> ClusterRows:
        """The rows of a level."""
        return _chosen(self.rows, self._members[level])

    def chunks(self) -> Iterator[slice]:
        """All levels at once."""
        yield slice(0, len(self.sizes))

    def parts(self, where: slice, *, derivatives: bool) -> tuple[GroupSums, FloatArray]:
        """Their sums, in the units of the deletions, and leverages."""
        unit, p = self.unit, len(self.w_map) - 1
        images = self._precision.images @ unit
        each = np.einsum("na,na->n", (self.rows.w @ unit)[:, :p], images[:, :p])
        leverage = np.bincount(self._codes, each)[where].astype(np.float64)
        sums = self._sums(where, self.theta)
        if not derivatives:
            return sums, leverage
        if self._apart:
            return self._with_derivatives(sums, where), leverage
        k, m = len(self.theta), sums.s.shape[-1]
        d1, s1 = np.empty((k, m)), np.empty((k, *sums.s.shape))
        for i, size in enumerate(_STEP * np.maximum(np.abs(self.theta), 1.0)):
            step = size * np.eye(k)[i]
            ahead = self._sums(where, self.theta + step)
            behind = self._sums(where, self.theta - step)
            d1[i] = (ahead.d - behind.d) / (2.0 * size)
            s1[i] = (ahead.s - behind.s) / (2.0 * size)
        share = self.sizes[where] / self.problem.n
        d2, s2 = self.total.d2 * share, self.total.s2 * share
        return replace(sums, d1=d1, s1=s1, d2=d2, s2=s2), leverage

    def _sums(self, where: slice, theta: FloatArray) -> GroupSums:
        """What goes with levels at a point, in the units of the deletions."""
        precision = self._precision_at(theta)
        found = [
            precision.of_rows(rows, self._z[rows]) for rows in self._members[where]
        ]
        d, s, zz, zw = (np.stack(each, axis=-1) for each in zip(*found, strict=True))
        s = np.einsum("ia,ijm,jb->abm", self.unit, s, self.unit)
        zw = np.einsum("qjm,jb->qbm", zw, self.unit)
        return GroupSums.values(d, s, zz, zw)

    def _with_derivatives(self, sums: GroupSums, where: slice) -> GroupSums:
        """The same with the derivatives of levels that nothing is bound to."""
        problem, unit = self.problem, self.unit
        point = problem.point(self.theta)
        parts = [
            cluster_sums(
                problem.inner_blocks(self._own(level)),
                *point[:3],
                derivatives=True,
                term_factors=point.term_factors,
            )
            for level in range(len(self.sizes))[where]
        ]
        found = replace(
            sums,
            d1=np.stack([part.d1 for part in parts], axis=-1),
            d2=np.stack([part.d2 for part in parts], axis=-1),
            s1=np.stack([unit.T @ part.s1 @ unit for part in parts], axis=-1),
            s2=np.stack([unit.T @ part.s2 @ unit for part in parts], axis=-1),
        )
        return self._by_theta(found)

    def without(self, level: int) -> LikelihoodProblem:
        """The likelihood of the other rows."""
        if self._apart:
            return WithoutRows(self.problem, self._own(level))
        rest = _chosen(self.rows, np.flatnonzero(self._codes != level))
        return self.problem.of_inner_rows(rest, len(rest.w))

    def own(
        self, level: int, theta: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """What goes with a level of ``W'V^-1 W``, and ``Z'V^-1 Z``, ``Z'V^-1 W``."""
        rows = self._members[level]
        return self._precision_at(theta).of_rows(rows, self._z[rows])[1:]


def _chosen(rows: ClusterRows, some: IntArray) -> ClusterRows:
    """Some rows, in their order, with the distances in time that are left."""
    clusters = np.repeat(np.arange(rows.n_clusters), np.diff(rows.offsets))[some]
    series, time = np.cumsum(rows.gaps == 0.0)[some], np.cumsum(rows.gaps)[some]
    inside = np.diff(series, prepend=-1) == 0
    gaps = np.where(inside, np.diff(time, prepend=0.0), 0.0)
    starts = np.flatnonzero(np.diff(clusters, prepend=-1) > 0)
    return ClusterRows(
        rows.z[some],
        rows.w[some],
        gaps,
        np.append(starts, len(some)),
        np.ones(len(starts)),
        None if rows.marks is None else rows.marks[some],
        tuple(_term_of(term, some) for term in rows.terms),
    )


def _term_of(term: TermRows, some: IntArray) -> TermRows:
    """A term in some rows: levels without rows are gone, the others as related."""
    left, codes = np.unique(term.codes[some], return_inverse=True)
    between = term.between
    if between is not None and term.copies == 1:
        between = between.part(left)
    return replace(
        term, codes=codes.ravel(), columns=term.columns[some], between=between
    )
