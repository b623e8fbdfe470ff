"""
Numbers of Hausman's test: quadratic forms and augmented regressions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.panel.algebra import (
    RANK_TOLERANCE,
    Correction,
    cluster_covariance,
    column_sizes,
    regress,
    wald,
)
from mixedar.panel.data import PanelData

Form = Literal["classical", "sigmamore", "sigmaless"]


@dataclass(frozen=True)
class DifferenceTest:
    """
    Quadratic form in the difference of two estimates.

    Attributes
    ----------
    statistic : float
        ``d' D^- d`` with its sign; NaN if D has rank 0.
    df : int
        Rank of D.
    eigenvalues : ndarray, shape (q,)
        Of D in units of the standard errors of the first estimate, descending.
    negative : int
        Number of eigenvalues below zero by more than rounding error.
    """

    statistic: float
    df: int
    eigenvalues: FloatArray
    negative: int


@dataclass(frozen=True)
class AugmentedTest:
    """
    Wald test of the regressors that were added to a regression.

    Attributes
    ----------
    tested : tuple of str
        Added regressors.
    params : ndarray, shape (q,)
        Their coefficients.
    statistic : float
        Chi-squared statistic; NaN if nothing could be added.
    df : int
        Number of restrictions.
    """

    tested: tuple[str, ...]
    params: FloatArray
    statistic: float
    df: int


def covariance_of_difference(
    cov_fe: FloatArray,
    cov_re: FloatArray,
    sigma2_fe: float,
    sigma2_re: float,
    form: Form,
) -> FloatArray:
    """
    Covariance of the difference between fixed and random effects.

    Parameters
    ----------
    cov_fe, cov_re : ndarray, shape (q, q)
        Classical covariances of the two estimates.
    sigma2_fe, sigma2_re : float
        Residual variances of the two regressions.
    form : {"classical", "sigmamore", "sigmaless"}
        Each with its own residual variance; both with that of random effects;
        both with that of fixed effects.

    Returns
    -------
    ndarray, shape (q, q)
    """
    ratio = sigma2_re / sigma2_fe
    if form == "sigmamore":
        return cov_fe * ratio - cov_re
    if form == "sigmaless":
        return cov_fe - cov_re / ratio
    return cov_fe - cov_re


def difference_test(
    difference: FloatArray, cov: FloatArray, cov_fe: FloatArray
) -> DifferenceTest:
    """
    Quadratic form with the generalized inverse and rank of `cov`.

    Parameters
    ----------
    difference : ndarray, shape (q,)
    cov : ndarray, shape (q, q)
        Its covariance, not necessarily positive semidefinite.
    cov_fe : ndarray, shape (q, q)
        Sets the scale in which eigenvalues are judged.

    Returns
    -------
    DifferenceTest
    """
    scale = np.sqrt(np.diag(cov_fe))
    scaled = cov / np.outer(scale, scale)
    values, vectors = np.linalg.eigh((scaled + scaled.T) / 2.0)
    keep = np.abs(values) > RANK_TOLERANCE
    along = vectors.T @ (difference / scale)
    rank = int(keep.sum())
    statistic = float((along[keep] ** 2 / values[keep]).sum()) if rank else np.nan
    return DifferenceTest(
        statistic, rank, values[::-1], int((values < -RANK_TOLERANCE).sum())
    )


def identified_columns(
    cov_fe: FloatArray, cov_re: FloatArray, sigma2_fe: float, sigma2_re: float
) -> IntArray:
    """
    Coefficients in which fixed and random effects can differ, none redundant.

    With period dummies in a balanced panel their coefficients differ only as
    far as those of the other regressors do.

    Parameters
    ----------
    cov_fe, cov_re, sigma2_fe, sigma2_re
        As in :func:`covariance_of_difference`.

    Returns
    -------
    ndarray of int, shape (r,)
        Positions, ascending; r is the rank of the comparison.
    """
    cov = covariance_of_difference(cov_fe, cov_re, sigma2_fe, sigma2_re, "sigmaless")
    scale = np.sqrt(np.diag(cov_fe))
    rest = cov / np.outer(scale, scale)
    found: list[int] = []
    for _ in range(len(rest)):  # Cholesky factorization, largest pivot first
        pivot = int(np.argmax(np.diag(rest)))
        if rest[pivot, pivot] <= RANK_TOLERANCE:
            break
        found.append(pivot)
        rest = rest - np.outer(rest[:, pivot], rest[pivot]) / rest[pivot, pivot]
    return np.array(sorted(found), dtype=np.intp)


def theta_of(sizes: IntArray, sigma2_u: float, sigma2_e: float) -> FloatArray:
    """
    Fractions of the means that quasi-demeaning subtracts.

    Parameters
    ----------
    sizes : ndarray of int, shape (N,)
        Observations of each entity.
    sigma2_u, sigma2_e : float
        Variances of effects and idiosyncratic errors.

    Returns
    -------
    ndarray, shape (N,)
    """
    return 1.0 - np.sqrt(sigma2_e / (sigma2_e + sizes * sigma2_u))


def augmented_test(
    panel: PanelData,
    columns: IntArray,
    theta: FloatArray,
    added: Literal["within", "means"],
    correction: Correction | None = None,
    *,
    pooled: bool = False,
    plain_constant: bool = False,
) -> AugmentedTest:
    """
    Add deviations from, or means of, the entities and test their coefficients.

    The response and the regressors are quasi-demeaned; the added regressors are
    either the entity-demeaned ones (auxiliary regression) or the quasi-demeaned
    entity means (Mundlak).

    Parameters
    ----------
    panel : PanelData
    columns : ndarray of int, shape (k,)
        Columns of ``panel.x`` in the model of random effects.
    theta : ndarray, shape (N,)
        Fractions of the means to subtract.
    added : {"within", "means"}
        What is added.  Only regressors that vary within entities are; and of
        means only those that vary between entities.
    correction : {"HC0", "HC1", "sss"}, optional
        Cluster-robust covariance; the classical one by default.
    pooled : bool
        Plain least squares instead of quasi-demeaned data.
    plain_constant : bool
        Leave the constant a constant, as plm does; with entities of different
        lengths, quasi-demeaning makes it ``1 - theta_i``.  A plain constant lets
        the statistic depend on the origins of the variables.

    Returns
    -------
    AugmentedTest
        Added regressors that others span are left out.
    """
    x = panel.x[:, columns]
    constant = [j for j, c in enumerate(columns) if c == panel.constant]
    centred = bool(constant) and not plain_constant
    if centred:
        # slopes do not change, and large offsets cost no digits
        shift = x.mean(axis=0)
        shift[constant] = 0.0
        x = x - shift
    means = panel.entity_means(x)
    spread = panel.spread_out(means)
    sizes = column_sizes(x)
    within = x - spread
    varying = column_sizes(within) > RANK_TOLERANCE * sizes
    varying &= np.any(within != 0.0, axis=0)
    varying[constant] = False
    fraction = np.zeros(panel.n_entities) if pooled else theta
    kept_part = panel.spread_out(fraction)[:, None] * spread
    base = x - kept_part
    if plain_constant and constant:
        base[:, constant] = x[:, constant]
    extra = within if added == "within" else spread - kept_part
    design = np.column_stack([base, extra[:, varying]])
    y = panel.y - panel.y.mean() if centred else panel.y
    y = panel.quasi_demean(y, fraction)
    fit = regress(design, y, np.append(sizes, sizes[varying]))
    names = [panel.names[c] for c, v in zip(columns, varying, strict=True) if v]
    chosen = fit.kept[len(columns) :]
    tested = tuple(n for n, k in zip(names, chosen, strict=True) if k)
    last = slice(fit.rank - len(tested), fit.rank)
    if not tested:
        return AugmentedTest((), np.empty(0), np.nan, 0)
    if correction is None:
        scale = fit.ssr / (panel.nobs - fit.rank)
        cov = scale * fit.bread
    else:
        used = design if fit.kept.all() else design[:, fit.kept]
        cov = cluster_covariance(used, fit.resid, fit.bread, panel.offsets, correction)
    statistic, df = wald(fit.params[last], cov[last, last])
    return AugmentedTest(tested, fit.params[last], statistic, df)
