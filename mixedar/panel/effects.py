"""
Estimated effects, fitted values, residuals and R squared of a panel fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixedar.panel.data import PanelData
from mixedar.panel.estimate import PanelEstimate

__all__ = ["Effects", "squared", "squared_correlations", "two_way_effects"]

FloatArray = NDArray[np.float64]

# Up to this many periods (or entities) the normal equations are solved densely.
_DENSE = 3000


@dataclass(frozen=True)
class Effects:
    """
    A fit decomposed, in sorted order.

    Attributes
    ----------
    y, xb : ndarray, shape (r,)
        Response and ``x b`` of the rows of the regression: observations, entity
        means (between) or differences.
    fitted, resid : ndarray, shape (r,)
        With the effects; response less fitted.
    entity : ndarray, shape (N,), or None
        Effects of the entities.
    time : ndarray, shape (T,), or None
        Effects of the periods.
    """

    y: FloatArray
    xb: FloatArray
    fitted: FloatArray
    resid: FloatArray
    entity: FloatArray | None = None
    time: FloatArray | None = None

    @classmethod
    def of(cls, panel: PanelData, estimate: PanelEstimate) -> Effects:
        """
        Compute the effects of a fit.

        Parameters
        ----------
        panel : PanelData
        estimate : PanelEstimate

        Returns
        -------
        Effects
        """
        xb = linear_prediction(panel, estimate)
        y = panel.y
        entity = time = None
        if estimate.kind == "between":
            y, xb = panel.entity_means(y), panel.entity_means(xb)
        elif estimate.rows is not None and estimate.previous is not None:
            y = y[estimate.rows] - y[estimate.previous]
            xb = xb[estimate.rows] - xb[estimate.previous]
        elif estimate.entity_effects is not None:
            entity = estimate.entity_effects
        elif estimate.theta is not None:
            shrink = estimate.theta * (2.0 - estimate.theta)
            entity = shrink * panel.entity_means(y - xb)
        elif estimate.effects == ("entity", "time"):
            entity, time = two_way_effects(panel, y - xb)
        elif estimate.effects == ("time",):
            time = panel.time_means(y - xb)
        elif estimate.effects == ("entity",):
            entity = panel.entity_means(y - xb)
        fitted = xb
        if entity is not None:
            fitted = fitted + panel.spread_out(entity)
        if time is not None:
            fitted = fitted + time[panel.time]
        return cls(y, xb, fitted, y - fitted, entity, time)


def linear_prediction(panel: PanelData, estimate: PanelEstimate) -> FloatArray:
    """
    Return ``x b`` of all rows, shape (n,).

    Parameters
    ----------
    panel : PanelData
    estimate : PanelEstimate
    """
    columns = estimate.columns
    if len(columns) == panel.x.shape[1]:
        return panel.x @ estimate.params
    params = np.zeros(panel.x.shape[1])
    params[columns] = estimate.params
    return panel.x @ params


def two_way_effects(
    panel: PanelData, values: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """
    Least-squares effects of entities and periods.

    Parameters
    ----------
    panel : PanelData
    values : ndarray, shape (n,)
        What the effects are to explain.

    Returns
    -------
    entity : ndarray, shape (N,)
        Effects of the entities; they carry the overall level.
    time : ndarray, shape (T,)
        Effects of the periods; their mean over the observations is zero.
    """
    from scipy import sparse
    from scipy.sparse.linalg import lsmr

    n_entities, n_periods = panel.n_entities, panel.n_periods
    cells = (np.ones(panel.nobs), (panel.entity, panel.time))
    if n_periods <= _DENSE:
        # normal equations with the entities swept out
        table = sparse.csr_matrix(cells, shape=(n_entities, n_periods))
        scaled = sparse.diags(1.0 / panel.sizes) @ table
        counts = np.asarray(table.sum(axis=0)).ravel()
        gram = np.diag(counts) - (table.T @ scaled).toarray()
        within = values - panel.spread_out(panel.entity_means(values))
        right = np.bincount(panel.time, within, n_periods)
        time = np.linalg.lstsq(gram, right, rcond=None)[0]
    else:
        rows = np.arange(panel.nobs)
        ones = np.ones(panel.nobs)
        design = sparse.hstack(
            [
                sparse.csr_matrix((ones, (rows, panel.entity))),
                sparse.csr_matrix((ones, (rows, panel.time))),
            ]
        ).tocsr()
        both = lsmr(design, values, atol=1e-14, btol=1e-14, maxiter=10_000)[0]
        time = both[n_entities:]
    time = time - time[panel.time].mean()
    return panel.entity_means(values - time[panel.time]), time


def squared_correlations(
    panel: PanelData, estimate: PanelEstimate
) -> tuple[float, float, float]:
    """
    Squared correlations of response and ``x b``, as Stata's ``xtreg``.

    Parameters
    ----------
    panel : PanelData
    estimate : PanelEstimate

    Returns
    -------
    tuple of float
        Within (entity-demeaned), between (entity means, one each) and overall.
        Zero where ``x b`` does not vary, NaN where the response does not.
    """
    if estimate.rsquared is not None:
        return estimate.rsquared
    xb = linear_prediction(panel, estimate)
    return (
        squared(panel.demean(panel.y), panel.demean(xb)),
        squared(panel.entity_means(panel.y), panel.entity_means(xb)),
        squared(panel.y, xb),
    )


def squared(a: FloatArray, b: FloatArray) -> float:
    """
    Squared correlation; 0 if `b` does not vary, NaN if `a` does not.

    Parameters
    ----------
    a, b : ndarray, shape (n,)

    Returns
    -------
    float
    """
    scale = np.abs(b).max(initial=0.0)
    a, b = a - a.mean(), b - b.mean()
    total, explained = float(a @ a), float(b @ b)
    if total == 0.0:
        return np.nan
    # rounding of a constant is no variation
    if explained <= len(b) * (1e-13 * scale) ** 2:
        return 0.0
    return float(a @ b) ** 2 / (total * explained)
