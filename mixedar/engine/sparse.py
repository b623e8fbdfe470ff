"""
Related levels in large numbers: the mixed-model equations with a sparse precision.

With ``v_t`` the variance of each term's effects relative to the residuals', ``Q`` the
precisions ``K_t^-1`` side by side, ``M = Z'R^-1 Z`` and ``N = Z'R^-1 W``,

    log|H| = log|R| + log|V M + Q| - log|Q|,    V = diag(v_t),
    W'H^-1 W = W'R^-1 W - N'E,    E = (V M + Q)^-1 V N

(Henderson, C. R., 1975, Best linear unbiased estimation and prediction under a
selection model, Biometrics 31, 423-447).  ``V M + Q``, which is as symmetric as
``V^1/2 M V^1/2 + Q``, is as sparse as a pedigree.  Derivatives of ``E`` take solutions
of the same equations; those of the determinant are differences of values, since the
trace of a product of inverses would take more than its factors at other points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, combinations_with_replacement
from typing import NamedTuple

import numpy as np
from scipy import sparse

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import (
    ArrayCurvature,
    ClusterSums,
    LikelihoodBlock,
    ParameterPoint,
)
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.groups import sums_apart
from mixedar.engine.residuals import is_independent
from mixedar.exceptions import UnsupportedError
from mixedar.numeric.latest import Latest
from mixedar.numeric.sparse import SparseCholesky
from mixedar.relations.base import LevelCovariance, SparsePrecision
from mixedar.residual import ResidualStructure

# Steps of differences, relative to variances that matter.
_STEP = 2e-4


class _Rule(NamedTuple):
    """A rule of differences: points beside the first, and weights of the values."""

    nodes: tuple[int, ...]
    slope: tuple[float, ...]
    bend: tuple[float, ...]


_AROUND = _Rule((-1, 1), (0.0, -0.5, 0.5), (-2.0, 1.0, 1.0))
_AHEAD = _Rule((1, 2, 3), (-11.0 / 6.0, 3.0, -1.5, 1.0 / 3.0), (2.0, -5.0, 4.0, -1.0))
# Columns of a dense factor from which on other ways are sought.
_MANY_FILLED = 1000
# A variance of zero takes its roots from a value that changes no digit.
_NEARLY_ZERO = 1e-30
_NO_GROUPS = RandomCovariance.free(0)


class _Products(NamedTuple):
    """``Z'R^-1 Z``, ``Z'R^-1 W``, ``W'R^-1 W`` and ``log|R|``, or derivatives."""

    zz: sparse.csc_array
    zw: FloatArray
    ww: FloatArray
    logdet: float


class _Change(NamedTuple):
    """
    A derivative of ``V M + Q`` and ``V N``, by one parameter or two.

    `rows` is that of ``V``, or ``V``, and `products` have what it is multiplied by;
    `own` is the derivative of the products themselves.
    """

    rows: FloatArray
    products: _Products
    own: _Products

    def taken(self, effect: FloatArray) -> FloatArray:
        """Of ``(V M + Q) E``, `E` given."""
        return self.rows * (self.products.zz @ effect)

    def left(self, effect: FloatArray) -> FloatArray:
        """Of ``V N - (V M + Q) E``, `E` given."""
        return self.rows * self.products.zw - self.taken(effect)


class SparseLevel:
    """
    Effects of the terms, eliminated.

    Attributes
    ----------
    effect : ndarray, shape (width, q, 1)
        Predictors of the effects from each column.
    """

    def __init__(self, effect: FloatArray) -> None:
        self.effect = effect

    @property
    def root(self) -> FloatArray:
        """
        A root of the covariance of the effects given the data.

        Raises
        ------
        UnsupportedError
            It is a dense matrix.
        """
        raise UnsupportedError(
            f"{self.effect.shape[1]:,} related effects: standard errors of predicted "
            "effects, and what else needs their joint distribution given the data, "
            "would take a dense matrix of that order; the predictions themselves "
            "(ranef(), fittedvalues), tests and variances are there"
        )

    @property
    def shrink(self) -> FloatArray:
        """Their covariance; as :attr:`root`."""
        return self.root


class SparseBlock(LikelihoodBlock):
    """
    All clusters, with terms of one effect a level.

    Parameters
    ----------
    rows : ClusterRows
        For which :func:`is_sparse` says so.
    structure : ResidualStructure
        Bound to the data.
    related : bool
        Whether levels are related; otherwise they have a typical one's variance.
    """

    def __init__(
        self, rows: ClusterRows, structure: ResidualStructure, *, related: bool = True
    ) -> None:
        self.rows, self.structure = rows, structure
        clusters = np.repeat(np.arange(rows.n_clusters), np.diff(rows.offsets))
        found: list[tuple[IntArray, FloatArray, LevelCovariance | None]] = []
        if rows.z.shape[1]:
            found.append((clusters, rows.z[:, 0], None))
        found += [(t.codes, t.columns[:, 0], t.between) for t in rows.terms]
        self._has_groups, self._width = len(found) > len(rows.terms), rows.w.shape[1]
        precisions, places, first = [], [], 0
        #: columns of the levels of each term
        self._columns: list[IntArray] = []
        for codes, _, between in found:
            q = _precision(between, int(codes.max()) + 1, related)
            columns = first + (
                between.places
                if isinstance(between, SparsePrecision)
                else np.arange(q.shape[0])
            )
            self._columns.append(columns)
            places.append(columns[codes])
            precisions.append(q)
            first += q.shape[0]
        self._sizes = [q.shape[0] for q in precisions]
        self._q = sparse.block_diag(precisions, format="csc")
        self._logdet = sum(
            between.logdet
            for _, _, between in found
            if isinstance(between, SparsePrecision) and related
        )
        w = np.column_stack([*(column for _, column, _ in found), rows.w])
        inner = replace(rows, z=np.empty((len(w), 0)), w=w, terms=())
        if is_independent(structure):  # rows are clusters of their own
            n = len(w)
            inner = replace(
                inner,
                gaps=np.zeros(n),
                offsets=np.arange(n + 1),
                weights=np.ones(n),
            )
        #: column of each cluster's level of each term
        self._at = np.stack([place[inner.offsets[:-1]] for place in places])
        self._sums = sums_apart(inner, structure)
        self._latest, self._factored = Latest[_Products](), Latest[float]()
        self._factors: SparseCholesky | None = None
        q, width = self._q.shape[0], self._width
        self._nothing = _Products(
            sparse.csc_array((q, q)),
            np.zeros((q, width)),
            np.zeros((width, width)),
            0.0,
        )

    @property
    def levels(self) -> list[IntArray]:
        """Levels of each further term."""
        return [np.arange(len(columns)) for columns in self._of_terms]

    @property
    def component_of(self) -> list[IntArray]:
        """Component of each of them: there is one."""
        return [np.zeros(len(columns), dtype=np.intp) for columns in self._of_terms]

    @property
    def _of_terms(self) -> list[IntArray]:
        return self._columns[int(self._has_groups) :]

    @property
    def n_columns(self) -> int:
        """Number of effects."""
        return sum(self._sizes)

    def unrelated(self) -> SparseBlock | None:
        """The same rows with levels that are not related, if that is far less work."""
        known = (term.between for term in self.rows.terms)
        filled = [one.filled for one in known if isinstance(one, SparsePrecision)]
        if max(filled) < _MANY_FILLED:
            return None
        return SparseBlock(self.rows, self.structure, related=False)

    def columns_of(self, t: int) -> IntArray:
        """Columns of the effects of each level of a term, shape (levels, 1)."""
        return self._of_terms[t][:, None]

    def _products(self, u: FloatArray) -> _Products:
        return self._latest.at(u, lambda: next(self._orders(u, derivatives=False)))

    def _orders(self, u: FloatArray, *, derivatives: bool) -> Iterator[_Products]:
        """The products, their derivatives, and second ones by pairs, row by row."""
        point = ParameterPoint(_NO_GROUPS, np.empty((0, 0)), u)
        found, at = self._sums(point, derivatives=derivatives), self._at
        k, q = len(at), self._q.shape[0]
        i, j = np.indices((k, k)).reshape(2, -1)
        where = at[i].ravel(), at[j].ravel()
        for d, s in found.orders():
            zz = sparse.coo_array((s[i, j].ravel(), where), shape=(q, q)).tocsc()
            zw = np.zeros((q, self._width))
            for t in range(k):
                for b in range(self._width):
                    zw[:, b] += np.bincount(at[t], s[t, k + b], minlength=q)
            yield _Products(zz, zw, s[k:, k:].sum(axis=2), float(d.sum()))

    def _roots(self, v: FloatArray) -> FloatArray:
        """``V^1/2`` by row, shape (q, 1)."""
        return np.repeat(np.sqrt(np.maximum(v, _NEARLY_ZERO)), self._sizes)[:, None]

    def _determinant(self, x: FloatArray) -> float:
        """``log|V M + Q|``, by variances and residual parameters; factors are kept."""

        def compute() -> float:
            zz, k = self._products(x[len(self._sizes) :]).zz, len(self._sizes)
            if self._factors is None:
                self._factors = SparseCholesky((abs(zz) + abs(self._q)).tocsc())
            root = sparse.diags_array(self._roots(x[:k]).ravel())
            return self._factors.factor((root @ zz @ root + self._q).tocsc())

        return self._factored.at(x, compute)

    def _inverse(self, v: FloatArray, b: FloatArray) -> FloatArray:
        """``(V M + Q)^-1 b`` at the point factored last."""
        assert self._factors is not None
        root = self._roots(v)
        return root * self._factors.solve(b / root)

    def _solved(
        self, v: FloatArray, u: FloatArray
    ) -> tuple[float, FloatArray, FloatArray]:
        """``log|V M + Q|``, ``W'H^-1 W`` and predictors of the effects, (q, width)."""
        d, found = self._determinant(np.concatenate([v, u])), self._products(u)
        effect = self._inverse(v, np.repeat(v, self._sizes)[:, None] * found.zw)
        return d, _symmetric(found.ww - found.zw.T @ effect), effect

    def eliminated(self, point: ParameterPoint) -> SparseLevel:
        """The effects, eliminated."""
        v, u = self._parameters(point)
        return SparseLevel(self._solved(v, u)[2].T[:, :, None])

    def _parameters(self, point: ParameterPoint) -> tuple[FloatArray, FloatArray]:
        roots = [point.factor] if self._has_groups else []
        v = [float(root[0, 0]) ** 2 for root in (*roots, *point.term_factors)]
        return np.array(v), point.u[: self.structure.k_free]

    def sums(self, point: ParameterPoint, *, derivatives: bool) -> ClusterSums:
        """Cluster sums at a point; see :meth:`LikelihoodBlock.sums`."""
        v, u = self._parameters(point)
        if not derivatives:
            d, s, _ = self._solved(v, u)
            return ClusterSums.values(d + self._products(u).logdet - self._logdet, s)
        d1, d2 = self._differences(np.concatenate([v, u]))
        d, s, effect = self._solved(v, u)
        orders = list(self._orders(u, derivatives=True))
        zw, k = orders[0].zw, len(d1)
        first = [self._change(v, orders, i) for i in range(k)]
        slopes = self._inverse_of_each(v, [change.left(effect) for change in first])
        pairs = list(combinations_with_replacement(range(k), 2))
        both = [self._change(v, orders, *pair) for pair in pairs]
        left = [
            change.left(effect)
            - (first[i].taken(slopes[j]) + first[j].taken(slopes[i]))
            for change, (i, j) in zip(both, pairs, strict=True)
        ]
        bends = self._inverse_of_each(v, left)
        s1, s2 = np.empty((k, *s.shape)), np.empty((k, k, *s.shape))
        for i, (change, slope) in enumerate(zip(first, slopes, strict=True)):
            own = change.own
            d1[i] += own.logdet
            s1[i] = _symmetric(own.ww - own.zw.T @ effect - zw.T @ slope)
        for (i, j), change, bend in zip(pairs, both, bends, strict=True):
            own = change.own
            taken = own.zw.T @ effect + zw.T @ bend
            taken += first[i].own.zw.T @ slopes[j] + first[j].own.zw.T @ slopes[i]
            s2[i, j] = s2[j, i] = _symmetric(own.ww - taken)
            d2[i, j] += own.logdet
            d2[j, i] = d2[i, j]
        d += orders[0].logdet - self._logdet
        return ClusterSums(d, s, d1, s1, (ArrayCurvature(d2, s2),))

    def _inverse_of_each(self, v: FloatArray, b: list[FloatArray]) -> list[FloatArray]:
        return np.split(self._inverse(v, np.concatenate(b, axis=1)), len(b), axis=1)

    def _change(self, v: FloatArray, orders: list[_Products], *which: int) -> _Change:
        """A derivative by parameters, at most two; variances come first."""
        by_variance = [t for t in which if t < len(v)]
        others = [i - len(v) for i in which if i >= len(v)]
        at = 0
        if len(others) == 1:
            at = 1 + others[0]
        elif others:
            low, high = others
            k = self.structure.k_free
            at = 1 + k + high * (high + 1) // 2 + low
        rows = v if not by_variance else np.zeros(len(v))
        if len(by_variance) == 1:
            rows = np.eye(len(v))[by_variance[0]]
        own = orders[at] if not by_variance else self._nothing
        return _Change(np.repeat(rows, self._sizes)[:, None], orders[at], own)

    def _differences(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Derivatives of ``log|V M + Q|``; at `x` itself it is evaluated last."""
        k, is_variance = len(x), np.arange(len(x)) < len(self._sizes)
        size = np.full(k, _STEP)
        size[is_variance] *= np.maximum(x[is_variance], self._smallest(x))
        at_zero = is_variance & (x < size)
        pairs = [(i, i) for i in range(k)] + list(combinations(range(k), 2))
        found = []
        for pair in pairs:
            some = list(set(pair))
            step = np.zeros(k)
            step[some] = size[some]
            rule = _AHEAD if at_zero[some].any() else _AROUND
            values = [self._determinant(x + node * step) for node in rule.nodes]
            found.append((rule, values))
        here = self._determinant(x)
        first, second = np.empty(k), np.empty((k, k))
        for (i, j), (rule, values) in zip(pairs, found, strict=True):
            bend = np.dot(rule.bend, [here, *values])
            if i == j:
                first[i] = np.dot(rule.slope, [here, *values]) / size[i]
                second[i, i] = bend / size[i] ** 2
                continue
            bend -= size[i] ** 2 * second[i, i] + size[j] ** 2 * second[j, j]
            second[i, j] = second[j, i] = bend / (2.0 * size[i] * size[j])
        return first, second

    def _smallest(self, x: FloatArray) -> FloatArray:
        """Variances as large as those of what the rows tell of a level."""
        diagonal = self._products(x[len(self._sizes) :]).zz.diagonal()
        parts = np.split(diagonal, np.cumsum(self._sizes)[:-1])
        return np.array([1.0 / part[part > 0.0].mean() for part in parts])


def _symmetric(a: FloatArray) -> FloatArray:
    return (a + a.T) / 2.0


def _precision(
    between: LevelCovariance | None, n: int, related: bool
) -> sparse.csc_array:
    if not isinstance(between, SparsePrecision):
        return sparse.eye_array(n, format="csc")
    if related:
        return between.precision
    return sparse.eye_array(between.precision.shape[0], format="csc") / between.typical


def is_sparse(rows: ClusterRows, structure: ResidualStructure) -> bool:
    """
    Whether levels have sparse precisions, and everything else is diagonal.

    Terms have one effect a level, and each cluster meets one level of each.
    """
    terms = rows.terms
    if not any(isinstance(term.between, SparsePrecision) for term in terms):
        return False
    for term in terms:
        known = term.between is None or isinstance(term.between, SparsePrecision)
        if not known or term.columns.shape[1] > 1:
            return False
    if rows.z.shape[1] > 1:
        return False
    if is_independent(structure):
        return True
    starts = np.repeat(rows.offsets[:-1], np.diff(rows.offsets))
    return all((term.codes == term.codes[starts]).all() for term in terms)
