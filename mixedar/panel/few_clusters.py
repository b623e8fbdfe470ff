"""
What clustered errors need where clusters are few: bias-reduced covariances, the
wild bootstrap, and which coefficients one cluster alone determines.

References
----------
Bell, R. M. and McCaffrey, D. F. (2002), Bias reduction in standard errors for
linear regression with multi-stage samples, Survey Methodology 28, 169-181.

Pustejovsky, J. E. and Tipton, E. (2018), Small-sample methods for cluster-robust
variance estimation and hypothesis testing in fixed effects models, Journal of
Business and Economic Statistics 36, 672-683.

Cameron, A. C., Gelbach, J. B. and Miller, D. L. (2008), Bootstrap-based improvements
for inference with clustered errors, Review of Economics and Statistics 90, 414-427.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.exceptions import NotComputedError, listing, shown
from mixedar.hypotheses.df import JointDF, RobustMethod, is_nested
from mixedar.inference.sandwich import Sandwich, adjusted_products, equal_sizes
from mixedar.panel.algebra import regress
from mixedar.panel.data import PanelData

# Dummies of effects that clusters split, and rows of a cluster, that are reasonable.
_MOST_DUMMIES, _LARGEST = 500, 5000
# A cluster that alone determines a coefficient has this much of its leverage at least.
_SHARE = 0.3
# Part of the information of a direction that counts as none.
_NOTHING = 1e-8


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

    def loose_effects(self, clusters: Sequence[IntArray]) -> list[IntArray]:
        """Codes of the effects that are nested in none of the clusterings."""
        codes = self.effect_codes
        return [c for c in codes if not any(is_nested(c, g) for g in clusters)]


def swept(
    values: FloatArray, codes: Sequence[IntArray], root: FloatArray | None
) -> FloatArray:
    """Columns, shape (r, k), less what (weighted) dummies of the codes explain."""
    ones = np.ones(len(values)) if root is None else root
    if not codes:
        return values
    if len(codes) == 1:
        (code,) = codes
        squares = np.bincount(code, ones**2)
        squares[squares == 0.0] = 1.0
        out = np.empty_like(values)
        for j, column in enumerate(values.T):
            means = np.bincount(code, ones * column, len(squares)) / squares
            out[:, j] = column - ones * means[code]
        return out
    from scipy.sparse import csr_matrix, hstack
    from scipy.sparse.linalg import lsmr

    rows = np.arange(len(values))
    dummies = hstack([csr_matrix((ones, (rows, code))) for code in codes]).tocsr()
    fits = [lsmr(dummies, v, atol=1e-14, btol=1e-14, maxiter=10_000) for v in values.T]
    return values - np.column_stack([dummies @ fit[0] for fit in fits])


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


def without_error(
    panel: PanelData,
    regression: TransformedRegression,
    cov_type: str,
    back: FloatArray,
    names: Sequence[str],
) -> tuple[BoolArray, list[str]]:
    """
    Coefficients that one cluster alone determines, shape (k,), and what to say.

    Robust errors sum residuals over clusters, and those of such a cluster are zero
    where it alone determines a coefficient; clusters are periods for Driscoll-Kraay,
    rows for ``"robust"`` and ``"hac"``.  `back` turns the coefficients of the
    regression into those of `names`.
    """
    none, notes = np.zeros(len(names), dtype=bool), []
    by_row = cov_type in ("robust", "hac")
    units: Sequence[IntArray] = regression.clusters
    if cov_type == "driscoll-kraay":
        units = [regression.time]
    elif by_row:
        units = [np.arange(len(regression.x))]
    for codes in units:
        lost: dict[int, int] = {}
        for row, directions in determined_alone(regression, codes):
            # in units of the coefficients' spread, without rounding
            moved = np.abs(directions @ back.T) / np.sqrt(np.sum(back**2, axis=1))
            found = (moved > 1e-6 * moved.max(axis=1, keepdims=True)).any(axis=0)
            lost |= dict.fromkeys(np.flatnonzero(found & ~none).tolist(), row)
            none |= found
        if lost:
            first = max(lost)
            notes.append(
                f"No standard error for {listing([names[j] for j in sorted(lost)])}: "
                f"one {'observation' if by_row else 'cluster'} alone determines the "
                f"coefficient ({names[first]}: that of "
                f"{_whose(panel, regression, codes, lost[first])}), and its residuals "
                "do not show the error. Use cov_type='classical', or leave it out."
            )
    return none, notes


def _whose(
    panel: PanelData, regression: TransformedRegression, codes: IntArray, row: int
) -> str:
    """The period of a cluster if clusters are periods, else the entity of a row."""
    time = regression.time
    if np.array_equal(codes, time):
        return f"{panel.time_name} {shown(panel.time_labels[time[row]])}"
    entity = panel.entity_labels[regression.entity[row]]
    return f"{panel.entity_name} {shown(entity)}"


@dataclass(frozen=True, eq=False)
class ClusteredRows:
    """
    Rows sorted by cluster, with a column for each dummy that clusters split.

    Attributes
    ----------
    x : ndarray, shape (r, q)
        Regressors, orthogonal to effects; after them dummies of effects that are
        not nested in the clusters.
    resid : ndarray, shape (r,)
    bread : ndarray, shape (q, q)
        Inverse of the cross-products.
    offsets : ndarray of int, shape (G + 1,)
        Cluster g has the rows ``offsets[g]:offsets[g + 1]``.
    entity : ndarray of int, shape (r,)
    theta : ndarray, shape (r,), or None
    """

    x: FloatArray
    resid: FloatArray
    bread: FloatArray
    offsets: IntArray
    entity: IntArray
    theta: FloatArray | None

    @property
    def n_clusters(self) -> int:
        """Number of clusters, G."""
        return len(self.offsets) - 1

    @classmethod
    def of(cls, regression: TransformedRegression) -> ClusteredRows:
        """Sort the rows of a regression by its clusters, in one dimension."""
        (clusters,) = regression.clusters
        x = regression.x[:, regression.slopes]
        loose = regression.loose_effects([clusters])
        codes = regression.effect_codes
        nested = [c for c in codes if not any(c is code for code in loose)]
        count = sum(int(code.max()) + 1 for code in loose)
        if count > _MOST_DUMMIES:
            raise NotComputedError(
                f"{count} effects are not nested in the clusters, and each takes a "
                f"column here (up to {_MOST_DUMMIES}); cluster by what they are nested "
                "in, or use cov_type='clustered'"
            )
        if loose:
            dummies = np.column_stack([np.eye(code.max() + 1)[code] for code in loose])
            if regression.root is not None:
                dummies = dummies * regression.root[:, None]
            dummies = swept(dummies, nested, regression.root)
            kept = regress(dummies, regression.resid).kept
            x = np.column_stack([x, dummies[:, kept]])
        order = np.argsort(clusters, kind="stable")
        sizes = np.bincount(clusters)
        x, scale = x[order], np.sqrt(np.einsum("ij,ij->j", x, x))
        gram = x.T @ x / np.outer(scale, scale)
        return cls(
            x,
            regression.resid[order],
            np.linalg.inv(gram) / np.outer(scale, scale),
            np.append(0, np.cumsum(sizes[sizes > 0])),
            regression.entity[order],
            None if regression.theta is None else regression.theta[order],
        )

    def sums(self, values: FloatArray) -> FloatArray:
        """Sums over the rows of each cluster, shape (G, ...)."""
        return np.asarray(np.add.reduceat(values, self.offsets[:-1], axis=0))


class SlopeMethod(RobustMethod):
    """
    A robust method for coefficients that are combinations of those of another.

    Parameters
    ----------
    inner : RobustMethod
    back : ndarray, shape (k, q)
        Turns the coefficients of `inner` into those asked about.
    """

    def __init__(self, inner: RobustMethod, back: FloatArray) -> None:
        self.cov_type, self.clusters = inner.cov_type, inner.clusters
        self.cov, self.notes = back @ inner.cov @ back.T, inner.notes
        self._inner, self._back = inner, back

    def single(self, matrix: FloatArray) -> FloatArray:
        """See :meth:`ContrastMethod.single`."""
        return self._inner.single(matrix @ self._back)

    def joint(self, matrix: FloatArray, rank: int) -> JointDF:
        """See :meth:`ContrastMethod.joint`."""
        return self._inner.joint(matrix @ self._back, rank)


def bias_reduced(regression: TransformedRegression) -> SlopeMethod:
    """
    Bell and McCaffrey's covariance (CR2) and its degrees of freedom.

    Unbiased if the errors are independent and of equal variance, or correlated as
    random effects say.
    """
    rows = ClusteredRows.of(regression)
    largest = int(np.diff(rows.offsets).max())
    if largest > _LARGEST:
        raise NotComputedError(
            f"CR2 needs matrices of order {largest}, the size of the largest cluster; "
            "use cov_type='clustered'"
        )
    x, e = rows.x, rows.resid
    if rows.theta is not None:
        # back to rows whose errors are correlated: (I - theta J / T)^-1
        both = np.column_stack([x, e])
        counts = np.bincount(rows.entity)[rows.entity]
        means = [np.bincount(rows.entity, v)[rows.entity] / counts for v in both.T]
        both = both + (rows.theta / (1.0 - rows.theta) * np.array(means)).T
        x, e = both[:, :-1], both[:, -1]
    q, m = x.shape[1], rows.n_clusters
    scores = np.empty((q, m))
    quadratic, linear = np.empty((q, q, m)), np.empty((q, q, m))
    for some, at in equal_sizes(rows.offsets):
        h = np.tile(np.eye(at.shape[1]), (len(at), 1, 1))
        if rows.theta is not None:
            same = rows.entity[at][:, :, None] == rows.entity[at][:, None, :]
            ratio = ((1.0 - rows.theta[at]) ** -2.0 - 1.0)[:, :, None]
            h += same * ratio / same.sum(axis=2, keepdims=True)
        found = adjusted_products(x[at], e[at], h, rows.bread)
        scores[:, some], quadratic[:, :, some], linear[:, :, some] = found
    steps = rows.bread @ scores
    cov = steps @ steps.T
    inner = Sandwich("CR2", cov, rows.bread, quadratic, linear)
    return SlopeMethod(inner, slope_columns(regression, q))


def slope_columns(regression: TransformedRegression, q: int) -> FloatArray:
    """Turns q coefficients, first those of the slopes, into those of the columns."""
    slopes = regression.slopes
    out = np.zeros((regression.x.shape[1], q))
    out[slopes, np.arange(len(slopes))] = 1.0
    return out
