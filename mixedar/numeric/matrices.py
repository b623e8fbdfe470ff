"""
Matrices of numbers that carry their derivatives.
"""

from __future__ import annotations

import numpy as np

from mixedar._types import ArrayOrJet
from mixedar.numeric.autodiff import Jet, stack


def matmul(a: Jet, b: ArrayOrJet) -> Jet:
    """
    Products of matrices, which are along the last two axes.

    Parameters
    ----------
    a : Jet of shape (..., i, j)
    b : Jet or ndarray, shape (..., j, k)
        Of as many axes.

    Returns
    -------
    Jet of shape (..., i, k)
    """
    if not isinstance(b, Jet):
        return Jet(a.value @ b, a.first @ b, a.second @ b)
    cross = a.first[:, None] @ b.first[None]
    # with the parameters of each, in either order
    return Jet(
        a.value @ b.value,
        a.first @ b.value + a.value @ b.first,
        a.second @ b.value + a.value @ b.second + cross + cross.swapaxes(0, 1),
    )


def transposed(a: Jet) -> Jet:
    """Transposed matrices, which are along the last two axes."""
    return Jet(*(x.swapaxes(-2, -1) for x in (a.value, a.first, a.second)))


def solve(matrix: Jet, right: Jet) -> Jet:
    """
    Solution of a linear system.

    Parameters
    ----------
    matrix : Jet of shape (n, n, ...)
        One matrix, or one for each of several points.
    right : Jet of shape (n, ...)

    Returns
    -------
    Jet of shape (n, ...)

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is singular.
    """
    if matrix.value.ndim > 2 or right.value.ndim > 1:
        return _solve_many(matrix, right)
    inverse = np.linalg.inv(matrix.value)
    x = inverse @ right.value
    first = (right.first - matrix.first @ x) @ inverse.T
    cross = np.einsum("aij,bj->abi", matrix.first, first)
    second = right.second - matrix.second @ x - cross - cross.swapaxes(0, 1)
    return Jet(x, first, second @ inverse.T)


def _solve_many(matrix: Jet, right: Jet) -> Jet:
    """The same for several points, whose axes go from behind to the front."""
    points = np.broadcast_shapes(matrix.shape[2:], right.shape[1:])
    axes, zero, orders = len(points), np.zeros(points), range(len(right))
    if right.value.ndim < axes + 1:
        right = stack([right[i] + zero for i in orders], right.k)
    if matrix.value.ndim < axes + 2:
        rows = [stack([matrix[i, j] + zero for j in orders], matrix.k) for i in orders]
        matrix = stack(rows, matrix.k)
    a, a1, a2 = (
        np.moveaxis(x, (-2 - axes, -1 - axes), (-2, -1))
        for x in (matrix.value, matrix.first, matrix.second)
    )
    b, b1, b2 = (
        np.moveaxis(x, -1 - axes, -1)[..., None]
        for x in (right.value, right.first, right.second)
    )
    inverse = np.linalg.inv(a)
    x = inverse @ b
    first = inverse @ (b1 - a1 @ x)
    cross = a1[:, None] @ first[None]
    second = inverse @ (b2 - a2 @ x - cross - cross.swapaxes(0, 1))
    back = (np.moveaxis(y[..., 0], -1, -1 - axes) for y in (x, first, second))
    return Jet(*back)
