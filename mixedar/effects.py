"""
Predicted random effects and whitened residuals of the real clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixedar.compress import ClusterRows
from mixedar.grouped import GroupedRows
from mixedar.linalg import (
    apply,
    identity_plus,
    inverse_cholesky,
    multiply_right,
    product,
)
from mixedar.moments import moment_blocks
from mixedar.residual import MarkovStructure, ResidualStructure

__all__ = ["PredictedEffects", "predict_effects", "whiten_series"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PredictedEffects:
    """
    Conditional distribution of the random effects given the data.

    Attributes
    ----------
    means : ndarray, shape (m, q)
        Best linear unbiased predictions.
    roots : ndarray, shape (q, q, m)
        ``C`` with conditional covariance ``scale * C'C``; the fixed effects
        are taken as known.
    """

    means: FloatArray
    roots: FloatArray


def predict_effects(
    z: FloatArray,
    resid: FloatArray,
    grouped: GroupedRows,
    structure: ResidualStructure,
    u: FloatArray,
    z_map: FloatArray,
    factor: FloatArray,
) -> PredictedEffects:
    """
    Best linear unbiased prediction of every cluster's random effects.

    ``b_i = K Z_i' R_i^-1 r_i`` with ``K = Lambda (I + Lambda' M Lambda)^-1
    Lambda'``, which needs no inverse of ``Psi`` and so holds on the boundary
    as well (Robinson, 1991).

    Parameters
    ----------
    z : ndarray, shape (n, q)
        Random-effects design in sorted order.
    resid : ndarray, shape (n,)
        ``y - X beta`` in sorted order.
    grouped : GroupedRows
    structure : ResidualStructure
        Bound to the data.
    u : ndarray, shape (k_free,)
        Unconstrained residual parameters.
    z_map, factor : ndarray, shape (q, q)
        Internal scaling of `z` and ``Lambda`` in those coordinates.

    Returns
    -------
    PredictedEffects
    """
    q, m = z.shape[1], grouped.n_groups
    means, roots = np.zeros((m, q)), np.zeros((q, q, m))
    rows = ClusterRows(
        product(z, z_map), resid[:, None], grouped.gaps, grouped.offsets, np.ones(m)
    )
    for block in moment_blocks(rows, structure):
        moments = block.at(u, derivatives=False)
        zz, zw = moments.zz[0], moments.zw[0]
        inverse_factor, _ = inverse_cholesky(identity_plus(factor, zz))
        root = multiply_right(inverse_factor, factor.T)
        inner = apply(root.transpose(1, 0, 2), apply(root, zw))[0]
        means[block.clusters] = (z_map @ inner).T
        roots[:, :, block.clusters] = multiply_right(root, z_map.T)
    return PredictedEffects(means, roots)


def whiten_series(
    x: FloatArray,
    grouped: GroupedRows,
    structure: ResidualStructure,
    params: FloatArray,
) -> FloatArray:
    """
    Multiply the rows of every series by the inverse Cholesky factor of its R.

    Parameters
    ----------
    x : ndarray, shape (n,)
        In sorted order.
    grouped : GroupedRows
    structure : ResidualStructure
    params : ndarray, shape (k_params,)

    Returns
    -------
    ndarray, shape (n,)
        ``(x_t - phi x_{t-1}) / sqrt(1 - phi^2)`` for Markov structures.
    """
    inside = ~grouped.first_of_series
    if structure.k_params == 0:
        return x.copy()
    if isinstance(structure, MarkovStructure):
        phi = structure.correlation_at(grouped.gaps[inside], params)
        out = x.copy()
        before = x[np.flatnonzero(inside) - 1]
        out[inside] = (x[inside] - phi * before) / np.sqrt((1.0 - phi) * (1.0 + phi))
        return out
    out = np.empty_like(x)
    starts = np.flatnonzero(~inside)
    for start, end in zip(starts, np.append(starts[1:], len(x)), strict=True):
        where = slice(start, end)
        time = np.cumsum(grouped.gaps[where])
        out[where] = structure.whiten(x[where, None], time, params)[:, 0]
    return out
