"""
Covariances of coefficients, with small-sample factors by name.

All of them are sandwiches of the transformed regression ``y* = X* b + e``:
bread ``(X*'X*)^-1`` and a meat of scores ``x*_r e_r`` that are summed over the
rows that may be correlated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import (
    GroupError,
    LengthError,
    MissingDataError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.panel.algebra import rank_of_effects
from mixedar.panel.data import PanelData

_NAMES = ("classical", "robust", "clustered", "hac", "driscoll-kraay")
_OTHER_NAMES = {
    "nonrobust": "classical",
    "unadjusted": "classical",
    "cluster": "clustered",
    "dk": "driscoll-kraay",
}
Correction = Literal["HC0", "HC1", "sss"]
_FACTORS = (None, "HC1", "sss", "stata", "dof")


@dataclass(frozen=True)
class CovarianceInfo:
    """
    How the covariance of the coefficients was estimated.

    Attributes
    ----------
    cov_type : str
        ``"classical"``, ``"robust"``, ``"clustered"``, ``"hac"``,
        ``"driscoll-kraay"`` or ``"observed"``.
    small_sample : str or None
        Name of the small-sample factor; None for none.
    clusters : tuple of int
        Numbers of clusters in each dimension; empty without clusters.
    df : float
        Degrees of freedom of Student's t; infinite for the normal distribution.
    label : str
        For the summary.
    """

    cov_type: str = "classical"
    small_sample: str | None = None
    clusters: tuple[int, ...] = ()
    df: float = np.inf
    label: str = "classical"


@dataclass(eq=False)
class CovarianceRequest:
    """
    The covariance that the user asks for.

    Attributes
    ----------
    cov_type : str
        ``"classical"``, ``"robust"`` (White), ``"clustered"``, ``"hac"``
        (autocorrelation within entities) or ``"driscoll-kraay"``.
    cluster : str, array_like or tuple of two
        ``"entity"``, ``"time"``, ``"both"``, a column of the data, or labels, one
        a row; two of them for two-way clustering.
    small_sample : str or None
        Factor with n rows, k columns of the transformed regression and G clusters:
        None for 1; ``"HC1"`` for ``n / (n - k)``; ``"sss"`` (plm) for
        ``G / (G - 1) (n - 1) / (n - k)``; ``"stata"`` for the same with the
        constant, and effects that are nested in no clustering, counted in k
        (for ``"robust"``, all effects counted); ``"dof"`` for ``n / df_resid``.
        For ``"driscoll-kraay"`` G is the number of periods; ``"stata"`` is
        ``xtscc``, which counts the constant and dummies of periods but no effects
        of entities.
    kernel : str
        ``"bartlett"``, ``"parzen"`` or ``"quadratic-spectral"``.
    bandwidth : float, optional
        Largest lag; ``floor(4 (T / 100)^(2/9))`` by default.
    """

    cov_type: str
    cluster: object = None
    small_sample: str | None = "default"
    kernel: str = "bartlett"
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        """Check the arguments, and put what they stand for in their place."""
        name = str(self.cov_type).lower()
        name = _OTHER_NAMES.get(name, name)
        if name not in _NAMES:
            raise UnsupportedError(
                f"cov_type={self.cov_type!r}: choose 'classical', 'robust', "
                "'clustered', 'hac' or 'driscoll-kraay'"
            )
        if self.cluster is not None and name != "clustered":
            raise UnsupportedError(f"cluster= needs cov_type='clustered', not {name!r}")
        if self.bandwidth is not None and name not in ("hac", "driscoll-kraay"):
            raise UnsupportedError(
                f"bandwidth= needs cov_type='hac' or 'driscoll-kraay', not {name!r}"
            )
        if self.small_sample == "default":
            self.small_sample = "dof" if name in ("classical", "hac") else "stata"
        summed = name in ("clustered", "driscoll-kraay")
        wrong = self.small_sample == "sss" and not summed
        if self.small_sample not in _FACTORS or wrong:
            raise UnsupportedError(
                f"small_sample={self.small_sample!r} is not defined for {name} "
                "covariances; choose None, 'HC1', 'stata' or 'dof', and 'sss' for "
                "clusters and Driscoll-Kraay"
            )
        self.cov_type = name
        self.cluster = "entity" if self.cluster is None else self.cluster


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
    df_resid : int
        Residual degrees of freedom, effects counted.
    k_plain : int
        Columns without a constant that only stands for the mean of the effects.
    classical : ndarray, shape (k, k), or None
        Classical covariance, if it is known already.
    clusters : sequence of ndarray of int, shape (r,)
        Cluster numbers of the rows, one or two dimensions.
    effects : tuple of str
        Effects that are removed from the rows.
    use_t : bool
        Whether unclustered inference uses Student's t.
    """

    x: FloatArray
    resid: FloatArray
    entity: IntArray
    time: IntArray
    df_resid: int
    k_plain: int
    classical: FloatArray | None = None
    clusters: Sequence[IntArray] = ()
    effects: tuple[str, ...] = ()
    use_t: bool = True

    @property
    def df(self) -> float:
        """Degrees of freedom of unclustered inference; infinite for the normal."""
        return float(self.df_resid) if self.use_t else np.inf


def cluster_codes(
    panel: PanelData, request: CovarianceRequest, data: pd.DataFrame | None = None
) -> list[IntArray]:
    """
    Number the clusters of each dimension.

    Parameters
    ----------
    panel : PanelData
    request : CovarianceRequest
    data : DataFrame, optional
        Where columns are looked up.

    Returns
    -------
    list of ndarray of int, shape (n,)
        In sorted order; one or two, none without clusters.

    Raises
    ------
    UnknownColumnError
        If a column does not exist.
    LengthError
        If labels do not have one value for each row.
    MissingDataError
        If a label is missing.
    """
    if request.cov_type != "clustered":
        return []
    both = isinstance(request.cluster, str) and request.cluster == "both"
    cluster = ("entity", "time") if both else request.cluster
    parts: list[object] = [cluster]
    # a list of texts as long as the data are labels, a short one names columns
    if isinstance(cluster, tuple) or (
        isinstance(cluster, list)
        and len(cluster) != panel.nobs
        and all(isinstance(part, str) for part in cluster)
    ):
        parts = list(cluster)
    if len(parts) > 2:
        raise UnsupportedError("cluster= takes one or two dimensions")
    return [_one_dimension(panel, part, data) for part in parts]


def _one_dimension(
    panel: PanelData, part: object, data: pd.DataFrame | None
) -> IntArray:
    if isinstance(part, str) and part in ("entity", panel.entity_name):
        return panel.entity
    if isinstance(part, str) and part in ("time", panel.time_name):
        return panel.time
    if isinstance(part, str):
        if data is None or part not in data.columns:
            known = [] if data is None else list(data.columns)
            raise UnknownColumnError(
                f"cluster={part!r} is neither 'entity', 'time', 'both' nor a column of "
                f"the data ({', '.join(map(str, known[:8]))})"
            )
        part = data[part]
    labels: Any = part.array if isinstance(part, pd.Series) else np.asarray(part)
    if len(labels) != panel.nobs:
        raise LengthError(
            f"cluster= has {len(labels)} labels; the model has {panel.nobs} rows"
        )
    codes = pd.factorize(labels)[0]
    if (codes < 0).any():
        raise MissingDataError(f"cluster= has {int((codes < 0).sum())} missing labels")
    return panel.sort(codes.astype(np.intp))


def sandwich(
    regression: TransformedRegression, request: CovarianceRequest
) -> tuple[FloatArray, CovarianceInfo]:
    """
    Covariance of the coefficients of a transformed regression.

    Parameters
    ----------
    regression : TransformedRegression
    request : CovarianceRequest

    Returns
    -------
    cov : ndarray, shape (k, k)
    info : CovarianceInfo

    Raises
    ------
    GroupError
        If there is one cluster only.
    UnsupportedError
        If the bandwidth is not below the number of periods.

    References
    ----------
    Arellano, M. (1987), Computing robust standard errors for within-groups
    estimators, Oxford Bulletin of Economics and Statistics 49, 431-434.
    Cameron, A. C., Gelbach, J. B. and Miller, D. L. (2011), Robust inference with
    multiway clustering, Journal of Business and Economic Statistics 29, 238-249.
    Driscoll, J. C. and Kraay, A. C. (1998), Consistent covariance matrix
    estimation with spatially dependent panel data, Review of Economics and
    Statistics 80, 549-560.
    """
    x, df, clusters = regression.x, regression.df, regression.clusters
    if request.cov_type == "classical" and regression.classical is not None:
        return regression.classical, CovarianceInfo(df=df)
    gram = x.T @ x
    scale = np.sqrt(np.diag(gram))
    bread = np.linalg.inv(gram / np.outer(scale, scale)) / np.outer(scale, scale)
    if request.cov_type == "classical":
        variance = regression.resid @ regression.resid / regression.df_resid
        return variance * bread, CovarianceInfo(df=df)
    scores = x * regression.resid[:, None]
    label = request.cov_type
    counts: tuple[int, ...] = ()
    factor = _row_factor(regression, request)
    if request.cov_type == "robust":
        meat = scores.T @ scores
        label = "robust (White)"
    elif request.cov_type == "clustered":
        meat, counts = _clustered(scores, clusters, request.small_sample)
        df = min(counts) - 1.0
    elif request.cov_type == "hac":
        count = len(np.unique(regression.time))
        meat = _lagged(scores, regression.entity, _weights(request, count, False))
        label = f"HAC, {request.kernel}"
    else:
        periods, rows = np.unique(regression.time, return_inverse=True)
        sums = np.zeros((len(periods), x.shape[1]))
        np.add.at(sums, rows, scores)
        meat = _lagged(sums, None, _weights(request, len(periods), True))
        df = len(periods) - 1.0
        factor *= _sum_factor(len(periods), len(x), request.small_sample)
        label = f"Driscoll-Kraay, {request.kernel}"
    cov = factor * (bread @ meat @ bread)
    if request.small_sample is not None:
        label += f", small sample: {request.small_sample}"
    info = CovarianceInfo(request.cov_type, request.small_sample, counts, df, label)
    return 0.5 * (cov + cov.T), info


def _row_factor(regression: TransformedRegression, request: CovarianceRequest) -> float:
    """The part of the small-sample factor that counts rows and coefficients."""
    n, name = len(regression.x), request.small_sample
    if name is None:
        return 1.0
    summed = request.cov_type in ("clustered", "driscoll-kraay")
    if name == "dof" or (name == "stata" and not summed):
        return n / regression.df_resid
    k = regression.k_plain
    if name == "stata" and regression.effects:
        clusters = regression.clusters or [regression.entity]
        codes = [getattr(regression, effect) for effect in regression.effects]
        codes = [c for c in codes if not any(_is_nested(c, g) for g in clusters)]
        k += rank_of_effects(codes) if codes else 1
    return n / (n - k)


def _sum_factor(groups: int, rows: int, small_sample: str | None) -> float:
    """The part of the small-sample factor that counts the sums of scores."""
    if small_sample not in ("sss", "stata"):
        return 1.0
    return groups / (groups - 1.0) * (rows - 1.0) / rows


def _is_nested(codes: IntArray, cluster: IntArray) -> bool:
    """Whether all rows of a level belong to one cluster."""
    first = np.zeros(codes.max() + 1, dtype=np.intp)
    first[codes] = cluster
    return bool((first[codes] == cluster).all())


def _clustered(
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
            raise GroupError("there is only one cluster; clustered errors need several")
        factor = _sum_factor(groups, len(scores), small_sample)
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
    meat, _ = _clustered(x * resid[:, None], [cluster], correction)
    cov = bread @ meat @ bread
    return cov if correction == "HC0" else n / (n - k) * cov


def _weights(request: CovarianceRequest, periods: int, strict: bool) -> FloatArray:
    """Kernel weights of the lags 0, 1, ..., at most ``periods - 1``."""
    from linearmodels.iv.covariance import KERNEL_LOOKUP

    kernel = KERNEL_LOOKUP.get(str(request.kernel).lower())
    if kernel is None:
        raise UnsupportedError(
            f"kernel={request.kernel!r}: choose 'bartlett', 'parzen' or "
            "'quadratic-spectral'"
        )
    bandwidth = request.bandwidth
    if bandwidth is None:
        bandwidth = float(np.floor(4.0 * (periods / 100.0) ** (2.0 / 9.0)))
    if bandwidth < 0 or (strict and bandwidth >= periods):
        raise UnsupportedError(
            f"bandwidth {bandwidth:g} must be below the number of periods, {periods}"
        )
    return np.asarray(kernel(bandwidth, periods - 1), dtype=np.float64)


def _lagged(
    scores: FloatArray, entity: IntArray | None, weights: FloatArray
) -> FloatArray:
    meat = scores.T @ scores
    for lag in range(1, min(len(weights), len(scores))):
        if weights[lag] == 0.0:
            continue
        ahead, behind = scores[lag:], scores[:-lag]
        if entity is not None:
            same = entity[lag:] == entity[:-lag]
            if not same.any():
                break
            ahead, behind = ahead[same], behind[same]
        product = ahead.T @ behind
        meat = meat + weights[lag] * (product + product.T)
    return meat
