"""
A regression of transformed rows: its scores, their sums, and what they cannot tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import GroupError
from mixedar.hypotheses.df import is_nested
from mixedar.panel.algebra import rank_of_effects, swept

# A cluster that alone determines a coefficient has this much of its leverage at least.
_SHARE = 0.3
# Part of the information of a direction that counts as none.
_NOTHING = 1e-8
ONE_CLUSTER = "there is only one cluster; clustered errors need several"
Correction = Literal["HC0", "HC1", "sss"]


@dataclass(frozen=True, eq=False)
class Transformation:
    """
    How rows of a panel become those of a regression, and its coefficients.

    Attributes
    ----------
    kind : str
        Of the fit: under ``"fe"`` rows lose the means of their entities, under
        ``"re"`` fractions of these.
    columns : ndarray of int, shape (k,)
        Columns of the panel.
    back : ndarray, shape (k, k)
        Turns them into the columns of the regression.
    coef : ndarray, shape (k,)
        Of these.
    theta : ndarray, shape (N,), or None
        Fractions of the means.
    ratio : float
        Variance of the effects in that of the errors.
    """

    kind: str
    columns: IntArray
    back: FloatArray
    coef: FloatArray
    theta: FloatArray | None = None
    ratio: float = 0.0

    def fractions(self, sizes: IntArray) -> FloatArray:
        """Fractions of the means of entities of these sizes, shape of `sizes`."""
        return np.asarray(1.0 - 1.0 / np.sqrt(1.0 + sizes * self.ratio))


@dataclass(frozen=True, eq=False)
class TransformedRegression:
    """
    A transformed regression, rows in sorted order.

    Attributes
    ----------
    x : ndarray, shape (r, k)
        Regressors.
    resid : ndarray, shape (r,)
        Residuals.
    entity, time : ndarray of int, shape (r,)
        Entity and period of each row.
    times : ndarray, shape (r,)
        Times of the rows, in units of time.
    df_resid : int
        Residual degrees of freedom, effects counted.
    constant : int or None
        Column that only stands for the mean of the effects.
    classical : ndarray, shape (k, k), or None
        Classical covariance, if it is known already.
    clusters : sequence of ndarray of int, shape (r,)
        Cluster numbers of the rows, one or two dimensions.
    effects : tuple of str
        Effects that are removed from the rows.
    use_t : bool
        Whether unclustered inference uses Student's t.
    theta : ndarray, shape (r,), or None
        Fractions of the means of entities that are subtracted from the rows.
    root : ndarray, shape (r,), or None
        Square roots of the weights that the rows are multiplied by.
    """

    x: FloatArray
    resid: FloatArray
    entity: IntArray
    time: IntArray
    times: FloatArray
    df_resid: int
    constant: int | None = None
    classical: FloatArray | None = None
    clusters: Sequence[IntArray] = ()
    effects: tuple[str, ...] = ()
    use_t: bool = True
    theta: FloatArray | None = None
    root: FloatArray | None = None

    @property
    def nobs(self) -> int:
        """Number of rows, r."""
        return len(self.x)

    @property
    def scores(self) -> FloatArray:
        """Regressors times residuals, shape (r, k)."""
        return self.x * self.resid[:, None]

    def row_products(self) -> FloatArray:
        """Sum of the outer products of the scores of the rows, shape (k, k)."""
        scores = self.scores
        return scores.T @ scores

    def cluster_products(
        self, small_sample: str | None
    ) -> tuple[FloatArray, tuple[int, ...]]:
        """The same of sums over clusters, and the numbers of clusters."""
        return clustered_meat(self.scores, self.clusters, small_sample)

    @property
    def df(self) -> float:
        """Degrees of freedom of unclustered inference; infinite for the normal."""
        return float(self.df_resid) if self.use_t else np.inf

    @property
    def k_plain(self) -> int:
        """Columns, one that stands for the mean of the effects left out."""
        return self.x.shape[1] - (self.constant is not None)

    @property
    def slopes(self) -> IntArray:
        """Positions of those columns."""
        columns = np.arange(self.x.shape[1])
        return columns if self.constant is None else np.delete(columns, self.constant)

    @property
    def effect_codes(self) -> list[IntArray]:
        """Codes of the effects that are removed."""
        return [getattr(self, effect) for effect in self.effects]

    @property
    def loose_rank(self) -> int:
        """Number of effects that are nested in no clustering; 1 if all are."""
        codes = self.loose_effects(self.clusters or [self.entity])
        return rank_of_effects(codes) if codes else 1

    def loose_effects(self, clusters: Sequence[IntArray]) -> list[IntArray]:
        """Codes of the effects that are nested in none of the clusterings."""
        codes = self.effect_codes
        return [c for c in codes if not any(is_nested(c, g) for g in clusters)]


def determined_alone(
    regression: TransformedRegression, units: IntArray
) -> list[tuple[int, FloatArray]]:
    """
    Clusters without which coefficients are not determined.

    The residuals of such a cluster are zero in the direction that it determines, and
    say nothing about the error of the coefficients there.

    Returns
    -------
    list of tuple of int and ndarray, shape (m, k)
        Rows of the cluster's first appearance, and the m directions of the
        coefficients that the other clusters do not determine.
    """
    x = regression.x
    x = x if regression.constant is None else x[:, regression.slopes]
    gram = x.T @ x
    scale = np.sqrt(np.diag(gram))
    if not x.shape[1] or not (scale > 0.0).all():
        return []
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    if not values[0] > 0.0:
        return []
    # columns x @ whiten are orthonormal
    whiten = vectors / np.sqrt(values) / scale[:, None]
    inverse = whiten @ whiten.T
    leverage = np.zeros(len(x))
    for j in range(x.shape[1]):
        leverage += x[:, j] * (x @ inverse[:, j])
    share = np.bincount(units, leverage)
    # what clusters split is to be removed anew without one of them
    loose = regression.loose_effects([units]) and regression.effect_codes
    found = []
    for unit in np.flatnonzero(share > (_SHARE if loose else 1.0 - 1e-8)):
        rest = units != unit
        root = None if regression.root is None else regression.root[rest]
        left = swept(x[rest] @ whiten, [code[rest] for code in loose], root)
        shares, vectors = np.linalg.eigh(left.T @ left)
        lost = whiten @ vectors[:, shares < _NOTHING]
        if lost.shape[1]:
            directions = np.zeros((lost.shape[1], regression.x.shape[1]))
            directions[:, regression.slopes] = lost.T
            found.append((int(np.argmax(~rest)), directions))
    return found


def sum_factor(groups: int, rows: int, small_sample: str | None) -> float:
    """The part of the small-sample factor that counts the sums of scores."""
    if small_sample not in ("sss", "stata"):
        return 1.0
    return groups / (groups - 1.0) * (rows - 1.0) / rows


def clustered_meat(
    scores: FloatArray, clusters: Sequence[IntArray], small_sample: str | None
) -> tuple[FloatArray, tuple[int, ...]]:
    """Sum of the outer products of cluster sums; two-way by inclusion-exclusion."""
    parts = list(clusters)
    if len(parts) == 2:
        both = pd.factorize(parts[0] * (int(parts[1].max()) + 1) + parts[1])[0]
        parts.append(both.astype(np.intp))
    meat = np.zeros((scores.shape[1],) * 2)
    counts = []
    for position, codes in enumerate(parts):
        sums = np.column_stack([np.bincount(codes, column) for column in scores.T])
        groups = int((np.bincount(codes) > 0).sum())
        if groups < 2:
            raise GroupError(ONE_CLUSTER)
        factor = sum_factor(groups, len(scores), small_sample)
        meat += (1.0 if position < 2 else -1.0) * factor * (sums.T @ sums)
        counts.append(groups)
    return meat, tuple(counts[: len(clusters)])


def cluster_covariance(
    x: FloatArray,
    resid: FloatArray,
    bread: FloatArray,
    cluster: IntArray,
    correction: Correction,
) -> FloatArray:
    """
    Covariance clustered in one dimension, shape (k, k), of least squares.

    `bread` is the inverse of ``x'x``; the factor is 1, ``n / (n - k)`` or
    ``G / (G - 1) * (n - 1) / (n - k)`` (Stata's).
    """
    n, k = x.shape
    meat, (groups,) = clustered_meat(x * resid[:, None], [cluster], None)
    return cluster_factor(groups, n, k, correction) * bread @ meat @ bread


def cluster_factor(groups: int, n: int, k: int, correction: Correction) -> float:
    """Factor of a clustered covariance of n rows and k coefficients."""
    rows = 1.0 if correction == "HC0" else n / (n - k)
    return rows * sum_factor(groups, n, correction)
