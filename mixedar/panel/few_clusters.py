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

Webb, M. D. (2023), Reworking wild bootstrap-based inference for clustered errors,
Canadian Journal of Economics 56, 839-858.

MacKinnon, J. G., Nielsen, M. Ø. and Webb, M. D. (2023), Fast and reliable jackknife
and bootstrap methods for cluster-robust inference, Journal of Applied Econometrics
38, 671-694.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from mixedar._types import BoolArray, FloatArray, IntArray, Seed
from mixedar.exceptions import (
    GroupError,
    NotComputedError,
    UnsupportedError,
    check_alpha,
    check_choice,
    check_flags,
    listing,
    shown,
)
from mixedar.hypotheses.df import JointDF, RobustMethod
from mixedar.hypotheses.result import TestResult, TestText
from mixedar.inference.arguments import check_count, generator
from mixedar.inference.cluster_sums import (
    EachCluster,
    adjusted_products,
    equal_sizes,
)
from mixedar.inference.sandwich import Sandwich
from mixedar.panel.algebra import (
    inverse_gram,
    regress,
    swept,
)
from mixedar.panel.covariance import (
    CovarianceInfo,
    CovarianceRequest,
    cluster_codes,
    small_sample_factor,
)
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import ESTIMATORS, PanelEstimate
from mixedar.panel.summed import SummedRegression
from mixedar.panel.transformed import (
    ONE_CLUSTER,
    TransformedRegression,
    determined_alone,
)

# Dummies of effects that clusters split, and rows of a cluster, that are reasonable.
_MOST_DUMMIES, _LARGEST = 500, 5000
_WEIGHTS = {
    "rademacher": np.array([-1.0, 1.0]),
    "webb": np.sqrt([1.5, 1.0, 0.5, 0.5, 1.0, 1.5]) * np.repeat([-1.0, 1.0], 3),
}
_WITHOUT = ("between", "fe_ar1", "re_ar1")
_REFERENCE = (
    "Cameron, Gelbach and Miller (2008), Review of Economics and Statistics 90, 414-427"
)


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
    for units in _alone(panel, regression, cov_type):
        lost: dict[int, str] = {}
        for whose, directions in units:
            # in units of the coefficients' spread, without rounding
            moved = np.abs(directions @ back.T) / np.sqrt(np.sum(back**2, axis=1))
            found = (moved > 1e-6 * moved.max(axis=1, keepdims=True)).any(axis=0)
            lost |= dict.fromkeys(np.flatnonzero(found & ~none).tolist(), whose)
            none |= found
        if lost:
            first = max(lost)
            notes.append(
                f"No standard error for {listing([names[j] for j in sorted(lost)])}: "
                f"one {'observation' if by_row else 'cluster'} alone determines the "
                f"coefficient ({names[first]}: that of {lost[first]}), and its "
                "residuals do not show the error. Use cov_type='classical', or leave "
                "it out."
            )
    return none, notes


def _alone(
    panel: PanelData, regression: TransformedRegression, cov_type: str
) -> list[list[tuple[str, FloatArray]]]:
    """Units of each dimension without which coefficients are not determined."""
    by_row = cov_type in ("robust", "hac")
    if isinstance(regression, SummedRegression):
        if cov_type == "classical":
            return []
        scores = regression.of_rows if by_row else regression.of_entities
        name = panel.entity_name
        return [[(f"{name} {shown(one)}", lost) for one, lost in scores.alone]]
    units: Sequence[IntArray] = regression.clusters
    if cov_type == "driscoll-kraay":
        units = [regression.time]
    elif by_row:
        units = [np.arange(len(regression.x))]
    return [
        [
            (_whose(panel, regression, codes, row), directions)
            for row, directions in determined_alone(regression, codes)
        ]
        for codes in units
    ]


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
    back : ndarray, shape (k, q)
        Turns the coefficients into those of the columns of the regression.
    """

    x: FloatArray
    resid: FloatArray
    bread: FloatArray
    offsets: IntArray
    entity: IntArray
    theta: FloatArray | None
    back: FloatArray

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
        x, slopes = x[order], regression.slopes
        back = np.zeros((regression.x.shape[1], x.shape[1]))
        back[slopes, np.arange(len(slopes))] = 1.0
        return cls(
            x,
            regression.resid[order],
            inverse_gram(x),
            np.append(0, np.cumsum(sizes[sizes > 0])),
            regression.entity[order],
            None if regression.theta is None else regression.theta[order],
            back,
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


def bias_reduced(
    regression: TransformedRegression, back: FloatArray
) -> tuple[FloatArray, CovarianceInfo]:
    """
    Bell and McCaffrey's covariance (CR2), shape (k, k), and its degrees of freedom.

    Unbiased if the errors are independent and of equal variance, or correlated as
    random effects say.  `back` turns coefficients into those that are asked about.
    """
    if regression.root is not None:
        raise UnsupportedError(
            "CR2 is not defined here for weighted fits; use cov_type='clustered'"
        )
    rows = ClusteredRows.of(regression)
    if rows.n_clusters < 2:
        raise GroupError(ONE_CLUSTER)
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
    inner = Sandwich("CR2", cov, rows.bread, EachCluster(quadratic, linear))
    method, label = SlopeMethod(inner, back @ rows.back), "CR2 (Bell-McCaffrey)"
    info = CovarianceInfo("CR2", None, (m,), np.nan, label, method)
    return rows.back @ cov @ rows.back.T, info


@dataclass(frozen=True, eq=False)
class WildDraws:
    """
    What the t statistics of all replicates are made of, for any null.

    Residuals under the null ``c'b = c'b_hat - d`` are those of the fit plus ``d``
    times a column; scores of clusters are linear in d too.

    Attributes
    ----------
    draws : ndarray, shape (B, G)
        Weights of the clusters.
    fitted, moved : ndarray, shape (G,)
        Scores ``w'X_g'e_g`` of the fit, ``w = (X'X)^-1 c``, and what d adds.
    fitted_change, moved_change : ndarray, shape (B, q)
        Change of the coefficients in each replicate, of both parts.
    products : ndarray, shape (G, q)
        ``X_g'X_g w``.
    length : float
        ``c'(X'X)^-1 c``.
    """

    draws: FloatArray
    fitted: FloatArray
    moved: FloatArray
    fitted_change: FloatArray
    moved_change: FloatArray
    products: FloatArray
    length: float

    @classmethod
    def of(
        cls, rows: ClusteredRows, contrast: FloatArray, draws: FloatArray
    ) -> WildDraws:
        """The parts of a contrast of the coefficients of `rows`."""
        along = rows.bread @ contrast
        length = float(contrast @ along)
        scores = rows.sums(rows.x * rows.resid[:, None])
        products = rows.sums(rows.x * (rows.x @ along)[:, None])
        return cls(
            draws,
            scores @ along,
            products @ along / length,
            draws @ scores @ rows.bread,
            draws @ products @ rows.bread / length,
            products,
            length,
        )

    def observed(self, d: float) -> float:
        """The t statistic of the data, without a small-sample factor."""
        return d / float(np.sqrt(self.fitted @ self.fitted))

    def statistics(self, d: float) -> FloatArray:
        """The t statistics of the replicates, shape (B,)."""
        scores = self.draws * (self.fitted + d * self.moved)
        change = self.fitted_change + d * self.moved_change
        left = scores - change @ self.products.T
        return scores.sum(axis=1) / np.sqrt((left**2).sum(axis=1))

    def pvalue(self, d: float, complete: bool, null: bool = True) -> float:
        """Share of replicates whose t is as large in size as that of the data."""
        found = np.abs(self.statistics(d if null else 0.0))
        least = abs(self.observed(d)) * (1.0 - 1e-9)
        count = int((found >= least).sum())
        if complete:
            return count / len(found)
        return (1 + count) / (len(found) + 1)


@dataclass(frozen=True)
class Replication:
    """
    How replicates are made.

    Attributes
    ----------
    n_sim, weights, impose_null, rng
        See :meth:`mixedar.panel.results.PanelResults.wild_bootstrap`.
    """

    n_sim: int
    weights: str
    impose_null: bool
    rng: Seed

    def of(self, groups: int) -> tuple[FloatArray, bool]:
        """Weights of the clusters, shape (B, G), and whether they are all there are."""
        check_choice("weights", self.weights, tuple(_WEIGHTS))
        check_flags(impose_null=self.impose_null)
        n_sim, levels = check_count(self.n_sim, "n_sim"), _WEIGHTS[self.weights]
        if self.weights == "rademacher" and groups < 31 and 2**groups <= n_sim:
            return levels[np.arange(2**groups)[:, None] >> np.arange(groups) & 1], True
        random = generator(self.rng)
        return random.choice(levels, size=(n_sim, groups)), False


def wild_bootstrap(
    estimate: PanelEstimate,
    clusters: tuple[PanelData, pd.DataFrame | None, object],
    restriction: tuple[FloatArray, FloatArray],
    null: str,
    options: Replication,
    alpha: float,
) -> TestResult:
    """
    Test one restriction, and find the interval that such tests leave.

    `clusters` are those of the fit unless the panel, the data and what the user
    names as clusters say otherwise; `null` is the restriction in words.
    """
    matrix, values = restriction
    if len(matrix) != 1:
        raise UnsupportedError(
            f"wild_bootstrap tests one restriction, and these are {len(matrix)}; test "
            "them one by one"
        )
    rows, back, factor = _clustered_rows(estimate, *clusters, matrix[0] != 0.0)
    draws, complete = options.of(rows.n_clusters)
    parts = WildDraws.of(rows, (matrix @ back)[0], draws)
    middle = float(matrix[0] @ estimate.params)
    d = middle - float(values[0])
    size = partial(parts.pvalue, complete=complete, null=options.impose_null)
    lower, upper = _interval(parts, middle, size, check_alpha(alpha))
    note = f"{len(draws)} replicates, {options.weights} weights of {rows.n_clusters} "
    note += f"clusters{', every sign once' if complete else ''}."
    if complete and len(draws) < 100:
        note += (
            f" p-values are multiples of {2 / len(draws):.4g}; weights='webb' has more."
        )
    text = TestText("Wild cluster bootstrap", null, "it does not hold", _REFERENCE)
    details = ("estimate", middle), ("lower", lower), ("upper", upper)
    value = parts.observed(d) / np.sqrt(factor)
    return text.result(value, "bootstrap", pvalue=size(d), note=note, details=details)


def _clustered_rows(
    estimate: PanelEstimate,
    panel: PanelData,
    data: pd.DataFrame | None,
    cluster: object,
    involved: BoolArray,
) -> tuple[ClusteredRows, FloatArray, float]:
    """Rows by cluster, the way from their coefficients, and Stata's factor."""
    panel.check_rows()
    regression, back = estimate.regression, estimate.back
    if estimate.kind in _WITHOUT:
        raise UnsupportedError(
            f"wild_bootstrap is not defined for {ESTIMATORS[estimate.kind].words}"
        )
    request = CovarianceRequest("clustered", cluster)
    clusters = regression.clusters
    if cluster is not None or not clusters:
        clusters = cluster_codes(panel, request, data)
        if estimate.rows is not None:
            clusters = [codes[estimate.rows] for codes in clusters]
    if len(clusters) != 1:
        raise UnsupportedError(
            "wild_bootstrap takes clusters in one dimension; name one with cluster="
        )
    regression = replace(regression, clusters=clusters)
    rows = ClusteredRows.of(regression)
    if rows.n_clusters < 2:
        raise GroupError("there is only one cluster; the bootstrap needs several")
    names = [panel.names[j] for j in estimate.columns]
    none, notes = without_error(panel, regression, "clustered", back, names)
    if none[involved].any():
        raise NotComputedError(f"wild_bootstrap: {notes[0]}")
    factor = small_sample_factor(regression, request, rows.n_clusters)
    return rows, back @ rows.back, factor


def _interval(
    parts: WildDraws, middle: float, pvalue: Callable[[float], float], alpha: float
) -> tuple[float, float]:
    """Values that the test does not reject, infinite where it never rejects."""
    error = float(np.sqrt(parts.fitted @ parts.fitted))
    ends = []
    for sign in (error, -error):

        def excess(size: float, sign: float = sign) -> float:
            return pvalue(sign * size) - alpha

        far = 4.0
        while excess(far) > 0.0 and far < 1e4:
            far *= 2.0
        size = np.inf
        if excess(far) <= 0.0:
            size = brentq(excess, 0.0, far, xtol=1e-6 * far)
        ends.append(middle - sign * size)
    return float(ends[0]), float(ends[1])
