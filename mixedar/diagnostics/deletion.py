"""
Estimates without one group at a time, from sums over the groups.

Everything is vectorised over the groups.  Coordinates are such that
``S = sum_i W_i' H_i^-1 W_i`` is the identity: the estimate from all groups is
zero there and its weighted residual sum of squares one, so that a deletion is
the inverse of ``I - S_i`` and keeps its digits.

References
----------
Christensen, R., Pearson, L. M. and Johnson, W. (1992), Case-deletion
diagnostics for mixed models, Technometrics 34, 38-45.

Demidenko, E. and Stukel, T. A. (2005), Influence analysis for linear
mixed-effects models, Statistics in Medicine 24, 893-909.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixedar.diagnostics.deletion_sums import GroupSums

__all__ = [
    "DeletedFits",
    "deleted_fits",
    "deleted_gradients",
    "deleted_hessians",
    "expanded",
    "newton_steps",
]

FloatArray = NDArray[np.float64]

# Share of the information on some coefficient below which it is gone.
_SINGULAR = 1e-10
# Steps beyond, in units of theta, leave the neighbourhood of the estimate.
_LONG = 0.5


@dataclass(frozen=True)
class DeletedFits:
    """
    Generalised least squares without each group.

    Attributes
    ----------
    beta : ndarray, shape (p, m)
        NaN where the rest does not determine the coefficients.
    vectors : ndarray, shape (m, p, p)
    values : ndarray, shape (m, p)
        Eigenvectors and eigenvalues of ``X'H^-1 X`` of the rest.
    rss : ndarray, shape (m,)
        Weighted residual sum of squares of the rest.
    df : ndarray, shape (m,)
        What it is divided by to give the residual variance.
    """

    beta: FloatArray
    vectors: FloatArray
    values: FloatArray
    rss: FloatArray
    df: FloatArray

    @property
    def scale(self) -> FloatArray:
        """Residual variances, shape (m,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.df > 0.0, self.rss / self.df, np.nan)

    @property
    def inverse(self) -> FloatArray:
        """``(X'H^-1 X)^-1`` of the rest, shape (p, p, m)."""
        scaled = self.vectors / self.values[:, None, :]
        return (scaled @ self.vectors.transpose(0, 2, 1)).transpose(1, 2, 0)


def deleted_fits(
    rest: FloatArray, df: FloatArray, gone: NDArray[np.bool_] | None = None
) -> DeletedFits:
    """
    Solve the least squares problems that are left after each deletion.

    Parameters
    ----------
    rest : ndarray, shape (p + 1, p + 1, m)
        ``W'H^-1 W`` of the rest, in units in which it is the identity for all
        groups together.
    df : ndarray, shape (m,)
    gone : ndarray of bool, shape (m,), optional
        Deletions that are known to leave a coefficient undetermined.

    Returns
    -------
    DeletedFits
    """
    p = len(rest) - 1
    lost: NDArray[np.bool_] = np.any(~np.isfinite(rest), axis=(0, 1))
    if gone is not None:
        lost |= gone
    rest = np.where(lost, np.eye(p + 1)[..., None], rest)
    values, vectors = np.linalg.eigh(rest[:p, :p].transpose(2, 0, 1))
    lost |= (values < _SINGULAR).any(axis=1)
    values = np.where(lost[:, None], np.nan, values)
    rotated = np.einsum("mij,im->mj", vectors, rest[:p, p])
    beta = np.einsum("mij,mj->im", vectors, rotated / values)
    rss = rest[p, p] - (rotated**2 / values).sum(axis=1)
    rss = np.where((rss > 1e-14) & ~lost, rss, np.nan)
    return DeletedFits(beta, vectors, values, rss, df)


def deleted_gradients(
    total: GroupSums, parts: GroupSums, fits: DeletedFits, *, reml: bool
) -> FloatArray:
    """
    Slopes of the profiled log-likelihoods without each group, by ``v``.

    Parameters
    ----------
    total : GroupSums
        Of all groups together, as one group.
    parts : GroupSums
        Of the groups to delete.
    fits : DeletedFits
        Without them.
    reml : bool

    Returns
    -------
    ndarray, shape (k, m)
        At the estimate from all groups; exact.
    """
    slope = np.einsum("kabm,abm->km", total.s1 - parts.s1, _weight(fits, reml))
    return -0.5 * (total.d1 - parts.d1 + slope)


def deleted_hessians(
    total: GroupSums, parts: GroupSums, fits: DeletedFits, *, reml: bool
) -> FloatArray:
    """
    Second derivatives of the profiled log-likelihoods without each group.

    Parameters as in :func:`deleted_gradients`.

    Returns
    -------
    ndarray, shape (k, k, m)
    """
    p, m = fits.beta.shape
    scale = fits.scale
    s1 = total.s1 - parts.s1
    bent = np.einsum("klabm,abm->klm", total.s2 - parts.s2, _weight(fits, reml))
    out = total.d2 - parts.d2 + bent
    e = np.concatenate([-fits.beta, np.ones((1, m))])
    slope = np.einsum("kabm,bm->kam", s1, e)
    rss1 = np.einsum("kam,am->km", slope, e)
    half = np.einsum("mab,kam->kbm", fits.vectors, slope[:, :p])
    half /= np.sqrt(fits.values.T)
    out -= 2.0 * np.einsum("kam,lam->klm", half, half) / scale
    out -= rss1[:, None] * rss1[None, :] / (fits.rss * scale)
    if reml:
        turned = np.einsum("abm,kbcm->kacm", fits.inverse, s1[:, :p, :p])
        out -= np.einsum("kabm,lbam->klm", turned, turned)
    return -0.5 * out


def _weight(fits: DeletedFits, reml: bool) -> FloatArray:
    """What the deviance weighs derivatives of S with, shape (p + 1, p + 1, m)."""
    p, m = fits.beta.shape
    e = np.concatenate([-fits.beta, np.ones((1, m))])
    weight = e[:, None] * e[None, :] / fits.scale
    if reml:
        weight[:p, :p] += fits.inverse
    return weight


def newton_steps(
    gradient: FloatArray, hessian: FloatArray, share: FloatArray, theta: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """
    One step for every group from the estimate of all.

    The slope is exactly that without the group.  The curvature is that of all
    groups less the group's share of the observations: a group that is far out
    bends its own log-likelihood the wrong way, so that the curvature without
    it is too small (or of the wrong sign) and steps with it too long.

    Parameters
    ----------
    gradient : ndarray, shape (m, k)
        Without each group, by theta.
    hessian : ndarray, shape (k, k)
        Of all groups, by theta.
    share : ndarray, shape (m,)
        Of the observations that are left.
    theta : ndarray, shape (k,)

    Returns
    -------
    steps : ndarray, shape (m, k)
    trusted : ndarray of bool, shape (m,)
        False where the step is so long that it says little.
    """
    # lengths are relative to parameters that are large, as in the search
    size = np.maximum(np.abs(theta), 1.0)
    values, vectors = np.linalg.eigh(-hessian * np.outer(size, size))
    slope = np.nan_to_num(gradient * size) @ vectors
    there = values > 1e-10 * values.max(initial=1e-300)
    moved = np.where(there, slope / np.where(there, values, 1.0), 0.0)
    moved /= share[:, None]
    steps = (moved @ vectors.T) * size
    return steps, (moved**2).sum(axis=1) <= _LONG**2


def expanded(
    rest: FloatArray, s1: FloatArray, s2: FloatArray, change: FloatArray
) -> FloatArray:
    """
    ``W'H^-1 W`` of the rest at other parameters, to second order.

    Parameters
    ----------
    rest : ndarray, shape (p + 1, p + 1, m)
    s1 : ndarray, shape (k, p + 1, p + 1, m)
    s2 : ndarray, shape (k, k, p + 1, p + 1, m)
    change : ndarray, shape (k, m)
        Of ``v``.

    Returns
    -------
    ndarray, shape (p + 1, p + 1, m)
    """
    first = np.einsum("kabm,km->abm", s1, change)
    second = np.einsum("klabm,km,lm->abm", s2, change, change, optimize=True)
    return rest + first + 0.5 * second
