"""
Residuals with the correlation of a structure, from independent noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixedar.grouped import GroupedRows
from mixedar.moments.roots import series_roots
from mixedar.residual import (
    Heteroscedastic,
    Independent,
    MarkovStructure,
    ResidualStructure,
)

__all__ = ["correlated_residuals"]

FloatArray = NDArray[np.float64]


def correlated_residuals(
    noise: FloatArray,
    grouped: GroupedRows,
    structure: ResidualStructure,
    params: FloatArray,
) -> FloatArray:
    """
    Multiply noise by the Cholesky factor of the residual correlation.

    Parameters
    ----------
    noise : ndarray, shape (n,) or (n, k)
        Independent standard normal values in sorted order.
    grouped : GroupedRows
    structure : ResidualStructure
    params : ndarray, shape (k_params,)

    Returns
    -------
    ndarray, of the shape of `noise`
    """
    if isinstance(structure, Independent):
        return noise
    if isinstance(structure, Heteroscedastic):
        inner, marks, own = structure.inner(grouped.marks, params)
        alone = GroupedRows(grouped.order, grouped.offsets, grouped.gaps, marks)
        sd = structure.row_scales(grouped.marks, params)
        shape = (-1,) + (1,) * (noise.ndim - 1)
        return correlated_residuals(noise, alone, inner, own) * sd.reshape(shape)
    out = noise.copy()
    first = grouped.first_of_series
    starts = np.flatnonzero(first)
    lengths = np.diff(np.append(starts, len(first)))
    shape = (-1,) + (1,) * (noise.ndim - 1)
    if isinstance(structure, MarkovStructure):
        phi = np.zeros(len(first))
        phi[~first] = structure.correlation_at(grouped.gaps[~first], params)
        innovation = np.sqrt((1.0 - phi) * (1.0 + phi))
        # one step of all series at a time: as many steps as the longest has rows
        for step in range(1, int(lengths.max())):
            rows = starts[lengths > step] + step
            out[rows] = phi[rows].reshape(shape) * out[rows - 1] + (
                innovation[rows].reshape(shape) * noise[rows]
            )
        return out
    u = structure.to_unconstrained(params)
    for rows, roots, which in series_roots(grouped, structure, u):
        values = noise[rows].reshape(*rows.shape, -1)
        out[rows] = (roots[which] @ values).reshape(noise[rows].shape)
    return out
