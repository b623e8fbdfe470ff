"""
The wild cluster bootstrap: signs of whole clusters' residuals drawn anew.

References
----------
Cameron, A. C., Gelbach, J. B. and Miller, D. L. (2008), Bootstrap-based improvements
for inference with clustered errors, Review of Economics and Statistics 90, 414-427.

Webb, M. D. (2023), Reworking wild bootstrap-based inference for clustered errors,
Canadian Journal of Economics 56, 839-858.

MacKinnon, J. G., Nielsen, M. Ø. and Webb, M. D. (2023), Fast and reliable jackknife
and bootstrap methods for cluster-robust inference, Journal of Applied Econometrics
38, 671-694.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from mixedar._types import BoolArray, FloatArray, Seed
from mixedar.exceptions import (
    GroupError,
    NotComputedError,
    UnsupportedError,
    check_alpha,
    check_choice,
)
from mixedar.hypotheses.result import TestResult, TestText
from mixedar.inference.arguments import check_count, generator
from mixedar.panel.covariance import (
    CovarianceRequest,
    cluster_codes,
    small_sample_factor,
)
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import ESTIMATORS, PanelEstimate
from mixedar.panel.few_clusters import ClusteredRows, slope_columns, without_error

_WEIGHTS = {
    "rademacher": np.array([-1.0, 1.0]),
    "webb": np.sqrt([1.5, 1.0, 0.5, 0.5, 1.0, 1.5]) * np.repeat([-1.0, 1.0], 3),
}
_WITHOUT = ("between", "fe_ar1", "re_ar1")
_REFERENCE = (
    "Cameron, Gelbach and Miller (2008), Review of Economics and Statistics 90, 414-427"
)


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
class Draws:
    """
    How replicates are made.

    Attributes
    ----------
    reps, weights, impose_null, seed
        See :meth:`mixedar.panel.results.PanelResults.wild_bootstrap`.
    """

    reps: int
    weights: str
    impose_null: bool
    seed: Seed

    def of(self, groups: int) -> tuple[FloatArray, bool]:
        """Weights of the clusters, shape (B, G), and whether they are all there are."""
        check_choice("weights", self.weights, tuple(_WEIGHTS))
        reps, levels = check_count(self.reps, "reps"), _WEIGHTS[self.weights]
        if self.weights == "rademacher" and groups < 31 and 2**groups <= reps:
            return levels[np.arange(2**groups)[:, None] >> np.arange(groups) & 1], True
        random = generator(self.seed)
        return random.choice(levels, size=(reps, groups)), False


def wild_bootstrap(
    estimate: PanelEstimate,
    clusters: tuple[PanelData, pd.DataFrame | None, object],
    restriction: tuple[FloatArray, FloatArray],
    null: str,
    options: Draws,
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
    regression, back = estimate.regression, estimate.back
    if regression is None or back is None or estimate.kind in _WITHOUT:
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
    back = back @ slope_columns(regression, rows.x.shape[1])
    return rows, back, small_sample_factor(regression, request, rows.n_clusters)


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
