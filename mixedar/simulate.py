"""
Residuals with the correlation of a structure, from independent noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixedar.grouped import GroupedRows
from mixedar.residual import MarkovStructure, ResidualStructure

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
    if structure.k_params == 0:
        return noise
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
    for start, length in zip(starts, lengths, strict=True):
        where = slice(start, start + length)
        time = np.cumsum(grouped.gaps[where])
        root = np.linalg.cholesky(structure.correlation(time, params))
        out[where] = root @ noise[where]
    return out
