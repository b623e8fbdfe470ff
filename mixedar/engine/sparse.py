"""
Related levels in large numbers: the mixed-model equations with a sparse precision.

With ``v_t`` the variance of each term's effects relative to the residuals', ``Q`` the
precisions ``K_t^-1`` side by side, ``M = Z'R^-1 Z`` and ``N = Z'R^-1 W``,

    log|H| = log|R| + log|V M + Q| - log|Q|,    V = diag(v_t),
    W'H^-1 W = W'R^-1 W - N' (V M + Q)^-1 V N

(Henderson, C. R., 1975, Best linear unbiased estimation and prediction under a
selection model, Biometrics 31, 423-447).  ``V M + Q`` is as sparse as a pedigree, and
both are smooth functions of ``v_t`` through zero, so that central differences give the
derivatives; a trace of the inverse of a sparse matrix would take more.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import SuperLU

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
from mixedar.numeric.linalg import symmetric_factor
from mixedar.relations.base import LevelCovariance, SparsePrecision
from mixedar.residual import ResidualStructure

# Steps of differences, relative to variances of this size or more.
_STEP, _SMALLEST = 3e-3, 1e-2
_NO_GROUPS = RandomCovariance.free(0)
_Products = tuple[sparse.csc_array, FloatArray, FloatArray, float]


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
    """

    def __init__(self, rows: ClusterRows, structure: ResidualStructure) -> None:
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
            q = _precision(between, int(codes.max()) + 1)
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
            if isinstance(between, SparsePrecision)
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
        self._latest = Latest[_Products]()
        self._order: IntArray | None = None

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

    def columns_of(self, t: int) -> IntArray:
        """Columns of the effects of each level of a term, shape (levels, 1)."""
        return self._of_terms[t][:, None]

    def _products(self, u: FloatArray) -> _Products:
        """``Z'R^-1 Z``, ``Z'R^-1 W``, ``W'R^-1 W`` and ``log|R|``."""
        point = ParameterPoint(_NO_GROUPS, np.empty((0, 0)), u)
        found = self._sums(point, derivatives=False)
        s, at = found.s, self._at
        k, q = len(at), self._q.shape[0]
        i, j = np.indices((k, k)).reshape(2, -1)
        zz = sparse.coo_array(
            (s[i, j].ravel(), (at[i].ravel(), at[j].ravel())), shape=(q, q)
        ).tocsc()
        zw = np.zeros((q, self._width))
        for t in range(k):
            for b in range(self._width):
                zw[:, b] += np.bincount(at[t], s[t, k + b], minlength=q)
        return zz, zw, s[k:, k:].sum(axis=2), float(found.d.sum())

    def _solved(
        self, v: FloatArray, u: FloatArray
    ) -> tuple[float, FloatArray, FloatArray]:
        """``log|H|``, ``W'H^-1 W`` and predictors of the effects, (q, width)."""
        zz, zw, ww, logdet = self._latest.at(u, lambda: self._products(u))
        each = np.repeat(v, self._sizes)
        factor, order = self._factor(sparse.diags_array(each) @ zz + self._q)
        pivots = factor.U.diagonal()
        if not (pivots > 0.0).all():
            raise np.linalg.LinAlgError("a covariance is not positive definite")
        effect = np.empty_like(zw)
        effect[order] = factor.solve((each[:, None] * zw)[order])
        s = ww - zw.T @ effect
        d = logdet + float(np.log(pivots).sum()) - self._logdet
        return d, (s + s.T) / 2.0, effect

    def _factor(self, matrix: sparse.csc_array) -> tuple[SuperLU, IntArray]:
        """Factors of a matrix in an order that keeps them sparse, and that order."""
        if self._order is None:
            self._order = np.argsort(symmetric_factor(matrix.tocsc()).perm_c)
        turned = matrix.tocsr()[self._order][:, self._order].tocsc()
        return symmetric_factor(turned, ordered=True), self._order

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
        d, s, _ = self._solved(v, u)
        if not derivatives:
            return ClusterSums.values(d, s)
        x, k = np.concatenate([v, u]), len(v) + len(u)
        steps = np.diag(
            _STEP * np.maximum(x, np.where(np.arange(k) < len(v), _SMALLEST, 1.0))
        )
        here = np.concatenate([[d], s.ravel()])

        def at(step: FloatArray) -> FloatArray:
            there = x + step
            d, s, _ = self._solved(there[: len(v)], there[len(v) :])
            return np.concatenate([[d], s.ravel()])

        ahead, behind, further, back = (
            np.array([at(far * step) for step in steps])
            for far in (1.0, -1.0, 2.0, -2.0)
        )
        size = np.diagonal(steps)
        # of fourth order: 2 h is worth its factorisations
        first = 8.0 * (ahead - behind) - (further - back)
        first /= 12.0 * size[:, None]
        bends = 16.0 * (ahead + behind) - (further + back) - 30.0 * here
        second = np.empty((k, k, len(here)))
        for i in range(k):
            second[i, i] = bends[i] / (12.0 * size[i] ** 2)
        for i, j in combinations(range(k), 2):
            both = at(steps[i] + steps[j]) + at(-steps[i] - steps[j]) + 2.0 * here
            both -= ahead[i] + behind[i] + ahead[j] + behind[j]
            second[i, j] = second[j, i] = both / (2.0 * size[i] * size[j])
        shape = s.shape
        curvature = ArrayCurvature(
            second[:, :, 0], second[:, :, 1:].reshape(k, k, *shape)
        )
        return ClusterSums(
            d, s, first[:, 0], first[:, 1:].reshape(k, *shape), (curvature,)
        )


def _precision(between: LevelCovariance | None, n: int) -> sparse.csc_array:
    if isinstance(between, SparsePrecision):
        return between.precision
    return sparse.eye_array(n, format="csc")


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
