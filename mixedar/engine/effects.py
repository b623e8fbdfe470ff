"""
Predicted random effects and whitened residuals of the real clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixedar._types import FloatArray
from mixedar.engine.blocks import moment_blocks
from mixedar.engine.compress import ClusterRows
from mixedar.engine.residuals import series_roots
from mixedar.engine.rows import GroupedRows
from mixedar.numeric.linalg import (
    apply,
    identity_plus,
    inverse_cholesky,
    multiply_right,
    product,
)
from mixedar.residual import (
    Heteroscedastic,
    Independent,
    MarkovStructure,
    ResidualStructure,
)


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
    if not isinstance(structure, (Independent, MarkovStructure)):
        columns = np.column_stack([product(z, z_map), resid])
        params = structure.from_unconstrained(u)
        z = whiten_series(columns, grouped, structure, params)
        z, resid, z_map, outer_map = z[:, :q], z[:, q], np.eye(q), z_map
        free = GroupedRows(grouped.order, grouped.offsets, np.zeros(len(resid)))
        inner = predict_effects(z, resid, free, Independent(), u[:0], z_map, factor)
        return PredictedEffects(
            inner.means @ outer_map.T, multiply_right(inner.roots, outer_map.T)
        )
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
    x : ndarray, shape (n,) or (n, k)
        In sorted order.
    grouped : GroupedRows
    structure : ResidualStructure
    params : ndarray, shape (k_params,)

    Returns
    -------
    ndarray, of the shape of `x`
        ``(x_t - phi x_{t-1}) / sqrt(1 - phi^2)`` for Markov structures.
    """
    inside = ~grouped.first_of_series
    if isinstance(structure, Independent):
        return x.copy()
    if isinstance(structure, Heteroscedastic):
        inner, marks, own = structure.inner(grouped.marks, params)
        shape = (-1,) + (1,) * (x.ndim - 1)
        sd = structure.row_scales(grouped.marks, params).reshape(shape)
        alone = GroupedRows(grouped.order, grouped.offsets, grouped.gaps, marks)
        return whiten_series(x / sd, alone, inner, own)
    if isinstance(structure, MarkovStructure):
        shape = (-1,) + (1,) * (x.ndim - 1)
        phi = structure.correlation_at(grouped.gaps[inside], params).reshape(shape)
        out = x.copy()
        before = x[np.flatnonzero(inside) - 1]
        out[inside] = (x[inside] - phi * before) / np.sqrt((1.0 - phi) * (1.0 + phi))
        return out
    out = np.empty_like(x)
    u = structure.to_unconstrained(params)
    for rows, roots, which in series_roots(grouped, structure, u):
        inverse = np.linalg.inv(roots)
        values = x[rows].reshape(*rows.shape, -1)
        out[rows] = (inverse[which] @ values).reshape(x[rows].shape)
    return out
