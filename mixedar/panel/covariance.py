"""
Covariances of coefficients, with small-sample factors by name.

All of them are sandwiches of the transformed regression ``y* = X* b + e``:
bread ``(X*'X*)^-1`` and a meat of scores ``x*_r e_r`` that are summed over the
rows that may be correlated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray, without_mask
from mixedar.data.checks import as_pandas, check_labels
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    TimeError,
    UnknownColumnError,
    UnsupportedError,
    shown,
)
from mixedar.hypotheses.df import RobustMethod
from mixedar.panel.algebra import (
    inverse_gram,
)
from mixedar.panel.data import PanelData
from mixedar.panel.transformed import (
    TransformedRegression,
    sum_factor,
)

_NAMES = ("classical", "robust", "clustered", "CR2", "hac", "driscoll-kraay")
_OTHER_NAMES = {
    "nonrobust": "classical",
    "unadjusted": "classical",
    "cluster": "clustered",
    "cr2": "CR2",
    "dk": "driscoll-kraay",
}
_FACTORS = (None, "HC1", "sss", "stata", "dof")


@dataclass(frozen=True)
class CovarianceInfo:
    """
    How the covariance of the coefficients was estimated.

    Attributes
    ----------
    cov_type : str
        ``"classical"``, ``"robust"``, ``"clustered"``, ``"hac"``,
        ``"CR2"``, ``"driscoll-kraay"`` or ``"observed"``.
    small_sample : str or None
        Name of the small-sample factor; None for none.
    clusters : tuple of int
        Numbers of clusters in each dimension; empty without clusters.
    df : float
        Degrees of freedom of Student's t; infinite for the normal distribution, NaN
        where each contrast has its own.
    label : str
        For the summary.
    method : RobustMethod or None
        Gives each contrast its degrees of freedom.
    """

    cov_type: str = "classical"
    small_sample: str | None = None
    clusters: tuple[int, ...] = ()
    df: float = np.inf
    label: str = "classical"
    method: RobustMethod | None = None


@dataclass(eq=False)
class CovarianceRequest:
    """
    The covariance that the user asks for.

    Attributes
    ----------
    cov_type : str
        ``"classical"``, ``"robust"`` (White), ``"clustered"``, ``"CR2"`` (clustered,
        with Bell and McCaffrey's correction and degrees of freedom for few
        clusters), ``"hac"`` (autocorrelation within entities) or
        ``"driscoll-kraay"``.
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
                "'clustered', 'CR2', 'hac' or 'driscoll-kraay'"
            )
        if self.cluster is not None and name not in ("clustered", "CR2"):
            raise UnsupportedError(
                f"cluster= needs cov_type='clustered' or 'CR2', not {name!r}"
            )
        if self.bandwidth is not None and name not in ("hac", "driscoll-kraay"):
            raise UnsupportedError(
                f"bandwidth= needs cov_type='hac' or 'driscoll-kraay', not {name!r}"
            )
        size = self.bandwidth
        number = isinstance(size, (int, float, np.number)) and type(size) is not bool
        if size is not None and not (number and 0.0 <= float(size) < np.inf):
            raise UnsupportedError(
                f"bandwidth={shown(size)} is no number of at least 0"
            )
        if name == "CR2":  # a correction of its own
            if self.small_sample not in ("default", None):
                raise UnsupportedError(
                    f"small_sample={self.small_sample!r}: CR2 has a correction of its "
                    "own; leave it out"
                )
            self.small_sample = None
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


def _check_times(
    panel: PanelData, request: CovarianceRequest, data: pd.DataFrame | None
) -> None:
    """Raise if errors that need periods, or distances in time, cannot have them."""
    lags = request.cov_type in ("hac", "driscoll-kraay")
    what = f"cov_type={request.cov_type!r}"
    if lags and panel.has_time and not panel.on_grid:
        raise TimeError(
            f"{what} counts lags in steps of time, and {panel.time_name!r} is on no "
            f"grid of equal steps; {panel.spacing_remedy}"
        )
    parts = request.cluster if isinstance(request.cluster, (tuple, list)) else ()
    named = {part for part in (request.cluster, *parts) if isinstance(part, str)}
    periods = "both" in named or (
        "time" in named and (data is None or "time" not in data.columns)
    )
    if not panel.has_time and (lags or periods):
        what = what if lags else f"cluster={request.cluster!r}"
        raise TimeError(f"{what} needs time=, the column with the periods")


def _check_summable(panel: PanelData, request: CovarianceRequest) -> None:
    """Raise for covariances that need more than sums over rows or entities."""
    name, cluster = request.cov_type, request.cluster
    if name in ("classical", "robust"):
        return
    by_entity = isinstance(cluster, str) and cluster in ("entity", panel.entity_name)
    if name == "clustered" and by_entity:
        return
    why = {
        "CR2": "weighs each cluster by matrices of all its rows",
        "clustered": "sums over clusters whose rows are in several batches",
    }.get(name, "multiplies rows that are in several batches")
    what = f"cluster={shown(cluster)}" if name == "clustered" else f"cov_type={name!r}"
    raise UnsupportedError(
        f"{what} of a source {why}; choose 'classical', 'robust', or 'clustered' by "
        f"{panel.entity_name!r}, whose rows are read together, or pass a frame"
    )


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
    TimeError
        If clusters are periods, or scores are lagged, and there are no times.
    """
    if not panel.has_rows:
        _check_summable(panel, request)
        return []
    _check_times(panel, request, data)
    if request.cov_type not in ("clustered", "CR2"):
        return []
    both = isinstance(request.cluster, str) and request.cluster == "both"
    cluster = ("entity", "time") if both else request.cluster
    parts: list[object] = [cluster]
    table = as_pandas(cluster)
    if isinstance(table, pd.DataFrame):
        columns = [table.iloc[:, k] for k in range(table.shape[1])]
        # rows of other packages have no labels
        parts = [c if table is cluster else c.to_numpy() for c in columns]
    # a list of texts as long as the data are labels, a short one names columns
    if isinstance(cluster, tuple) or (
        isinstance(cluster, list)
        and len(cluster) != panel.nobs
        and all(isinstance(part, str) for part in cluster)
    ):
        parts = list(cluster)
    if len(parts) not in (1, 2):
        raise UnsupportedError("cluster= takes one or two dimensions")
    if len(parts) > 1 and request.cov_type == "CR2":
        raise UnsupportedError(
            "CR2 is for clusters in one dimension; use cov_type='clustered'"
        )
    return [_one_dimension(panel, part, data) for part in parts]


def _one_dimension(
    panel: PanelData, part: object, data: pd.DataFrame | None
) -> IntArray:
    if isinstance(part, str) and part in ("entity", panel.entity_name):
        return panel.entity
    if panel.has_time and isinstance(part, str) and part in ("time", panel.time_name):
        return panel.time
    if isinstance(part, str):
        if data is None or part not in data.columns:
            known = [] if data is None else list(data.columns)
            raise UnknownColumnError(
                f"cluster={part!r} is neither 'entity', 'time', 'both' nor a column of "
                f"the data ({', '.join(map(str, known[:8]))})"
            )
        part = data[part]
    index, labels = panel.index, without_mask(part)
    if isinstance(labels, pd.Series):
        if labels.index.is_unique and index.isin(labels.index).all():
            labels = labels.reindex(index)  # rows may have been left out
        if len(labels) == panel.nobs:
            check_labels("cluster", labels, index, "data")
    if not pd.api.types.is_list_like(labels) or getattr(labels, "ndim", 1) != 1:
        raise UnsupportedError(
            f"cluster={shown(part)}: name a column, or pass one label for each row"
        )
    # a list may mix types, which an array would turn into text
    labels = pd.Series(labels if hasattr(labels, "dtype") else list(labels))
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
    TimeError
        If no two rows that may be correlated are within the bandwidth.

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
    x, df = regression.x, regression.df
    if request.cov_type == "classical" and regression.classical is not None:
        return regression.classical, CovarianceInfo(df=df)
    bread = inverse_gram(x)
    if request.cov_type == "classical":
        variance = regression.resid @ regression.resid / regression.df_resid
        return variance * bread, CovarianceInfo(df=df)
    label = request.cov_type
    counts: tuple[int, ...] = ()
    factor = _row_factor(regression, request)
    if request.cov_type == "robust":
        meat = regression.row_products()
        label = "robust (White)"
    elif request.cov_type == "clustered":
        meat, counts = regression.cluster_products(request.small_sample)
        df = min(counts) - 1.0
    elif request.cov_type == "hac":
        count = len(np.unique(regression.time))
        kernel = Kernel.of(request, count, strict=False)
        scores = regression.scores
        meat = _lagged(scores, regression.entity, regression.times, kernel)
        label = f"HAC, {request.kernel}"
    else:
        periods, rows = np.unique(regression.times, return_inverse=True)
        sums = np.zeros((len(periods), x.shape[1]))
        np.add.at(sums, rows, regression.scores)
        kernel = Kernel.of(request, len(periods), strict=True)
        meat = _lagged(sums, None, periods, kernel)
        df = len(periods) - 1.0
        factor *= sum_factor(len(periods), len(x), request.small_sample)
        label = f"Driscoll-Kraay, {request.kernel}"
    cov = factor * (bread @ meat @ bread)
    if request.small_sample is not None:
        label += f", small sample: {request.small_sample}"
    info = CovarianceInfo(request.cov_type, request.small_sample, counts, df, label)
    return 0.5 * (cov + cov.T), info


def absent_periods(
    panel: PanelData, regression: TransformedRegression, request: CovarianceRequest
) -> list[str]:
    """Say that no entity is observed in some periods, if lags step over them."""
    if request.cov_type != "driscoll-kraay":
        return []
    periods = np.unique(regression.times)
    wide = np.flatnonzero(np.diff(periods) > 1.0 + 1e-9)
    if not len(wide):
        return []
    before = regression.time[regression.times == periods[wide[0]]][0]
    return [
        f"No rows at all in some periods, first after {panel.time_name} "
        f"{shown(panel.time_labels[before])}: lags of Driscoll-Kraay are distances in "
        "time, across these gaps too (Stata's xtscc refuses such data)."
    ]


def _row_factor(regression: TransformedRegression, request: CovarianceRequest) -> float:
    """The part of the small-sample factor that counts rows and coefficients."""
    n, name = regression.nobs, request.small_sample
    if name is None:
        return 1.0
    summed = request.cov_type in ("clustered", "driscoll-kraay")
    if name == "dof" or (name == "stata" and not summed):
        return n / regression.df_resid
    k = regression.k_plain
    if name == "stata" and regression.effects:
        k += regression.loose_rank
    return n / (n - k)


def small_sample_factor(
    regression: TransformedRegression, request: CovarianceRequest, groups: int
) -> float:
    """The whole small-sample factor of clusters in one dimension."""
    part = sum_factor(groups, len(regression.x), request.small_sample)
    return part * _row_factor(regression, request)


_KERNELS = {
    "bartlett": "bartlett",
    "newey-west": "bartlett",
    "parzen": "parzen",
    "gallant": "parzen",
    "quadratic-spectral": "quadratic-spectral",
    "qs": "quadratic-spectral",
    "andrews": "quadratic-spectral",
}


@dataclass(frozen=True)
class Kernel:
    """
    Weights of products of scores by their distance in time.

    Attributes
    ----------
    name : {"bartlett", "parzen", "quadratic-spectral"}
    bandwidth : float
        The largest lag of the first two, which take whole numbers.
    """

    name: str
    bandwidth: float

    @classmethod
    def of(cls, request: CovarianceRequest, periods: int, strict: bool) -> Kernel:
        """The kernel that was asked for, with a bandwidth by the number of periods."""
        name = _KERNELS.get(str(request.kernel).lower())
        if name is None:
            raise UnsupportedError(
                f"kernel={request.kernel!r}: choose 'bartlett', 'parzen' or "
                "'quadratic-spectral'"
            )
        bandwidth = request.bandwidth
        if bandwidth is None:
            bandwidth = float(np.floor(4.0 * (periods / 100.0) ** (2.0 / 9.0)))
        if strict and bandwidth >= periods:
            raise UnsupportedError(
                f"bandwidth {bandwidth:g} is not below the number of periods, {periods}"
            )
        return cls(name, float(bandwidth))

    def weights(self, distance: FloatArray) -> FloatArray:
        """Weights of positive distances, in units of time; shape as `distance`."""
        if self.name == "quadratic-spectral":
            if self.bandwidth == 0.0:
                return np.zeros_like(distance)
            z = 1.2 * np.pi * distance / self.bandwidth
            return np.asarray(3.0 / z**2 * (np.sin(z) / z - np.cos(z)))
        z = np.minimum(distance / (np.floor(self.bandwidth) + 1.0), 1.0)
        if self.name == "bartlett":
            return 1.0 - z
        near = 1.0 - 6.0 * z**2 + 6.0 * z**3
        return np.where(z > 0.5, 2.0 * (1.0 - z) ** 3, near)


def _lagged(
    scores: FloatArray, entity: IntArray | None, times: FloatArray, kernel: Kernel
) -> FloatArray:
    """Sum of products of scores of an entity, weighted by their distance in time."""
    meat, found = scores.T @ scores, False
    for apart in range(1, len(scores)):
        ahead, behind = scores[apart:], scores[:-apart]
        distance = times[apart:] - times[:-apart]
        if entity is not None:
            same = entity[apart:] == entity[:-apart]
            if not same.any():
                break
            ahead, behind, distance = ahead[same], behind[same], distance[same]
        weights = kernel.weights(distance)
        if not weights.any():
            break  # rows further apart are further apart in time
        found = True
        product = (weights[:, None] * ahead).T @ behind
        meat = meat + product + product.T
    if not found and kernel.bandwidth >= 1.0:
        raise TimeError(
            f"no two {'periods' if entity is None else 'observations of an entity'} "
            f"are within the bandwidth of {kernel.bandwidth:g} units of time, so that "
            "no lag is counted; pass a longer bandwidth=, or the unit in which time "
            "counts as delta="
        )
    return meat
