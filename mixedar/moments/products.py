"""
Products of rows, of their differences and of neighbours, summed by cluster.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixedar.linalg import product

__all__ = [
    "difference_products",
    "differences",
    "neighbour_products",
    "previous",
    "products",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


def previous(x: FloatArray, here: NDArray[np.bool_]) -> FloatArray:
    """The row before, and zeros where a series begins."""
    out = np.zeros_like(x)
    out[1:] = x[:-1]
    out[~here] = 0.0
    return out


def differences(x: FloatArray, here: NDArray[np.bool_]) -> FloatArray:
    """The difference from the row before, and zeros where a series begins."""
    out = np.zeros_like(x)
    np.subtract(x[1:], x[:-1], out=out[1:])
    out[~here] = 0.0
    return out


def difference_products(
    z: FloatArray, w: FloatArray, here: NDArray[np.bool_], starts: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Products of the differences from the row before, by cluster."""
    dz, dw = differences(z, here), differences(w, here)
    return products(dz, dz, dw, dw, starts)


def neighbour_products(
    z: FloatArray, w: FloatArray, here: NDArray[np.bool_], starts: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Symmetrised products of rows with the row before."""
    pz, pw = previous(z, here), previous(w, here)
    zt, ww = products(z, pz, w, pw, starts)
    back, _ = products(pz, z, pw, w, starts)
    return zt + back, ww + ww.T


def products(
    z1: FloatArray, z2: FloatArray, w1: FloatArray, w2: FloatArray, starts: IntArray
) -> tuple[FloatArray, FloatArray]:
    """
    Cross-products by cluster of rows `z1` with ``[z2 w2]``, and ``w1'w2``.

    Returns
    -------
    zt : ndarray, shape (q + p + 1, q, m)
        ``zt[b, a]`` is the product of column ``a`` of `z1` with column ``b``.
    ww : ndarray, shape (p + 1, p + 1)
    """
    q, width, m = z1.shape[1], w1.shape[1], len(starts)
    zt = np.empty((q + width, q, m))
    if m <= q * (q + width):
        t2 = np.concatenate([z2, w2], axis=1)
        edges = np.append(starts, len(z1))
        for i in range(m):
            rows = slice(edges[i], edges[i + 1])
            zt[:, :, i] = t2[rows].T @ z1[rows]
    else:
        for a in range(q):
            for b in range(q + width):
                other = z2[:, b] if b < q else w2[:, b - q]
                zt[b, a] = np.add.reduceat(z1[:, a] * other, starts)
    return zt, product(w1.T, w2)
