"""
Variance components as columns of one random-effects design.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mixedar.design import VarianceComponent
from mixedar.exceptions import LengthError, UnsupportedError

__all__ = ["ComponentColumns", "from_components", "from_spec"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

# Columns are stored densely: beyond this many numbers (4 GiB) say so at once.
_MAX_NUMBERS = 2**29


class ComponentColumns:
    """
    Columns of all variance components, padded to the widest group.

    Parameters
    ----------
    matrices : sequence of ndarray, each of shape (n, k_j)
        In the caller's row order; a group with fewer columns has zeros.
    levels : sequence of ndarray of int, each of shape (n,)
        For components that are indicators of a factor: its codes within
        groups.  They may define grouping levels.

    Attributes
    ----------
    sizes : tuple of int
        Number of columns of each component.
    """

    def __init__(
        self, matrices: Sequence[FloatArray], levels: Sequence[IntArray]
    ) -> None:
        self.matrices = list(matrices)
        self.levels = list(levels)
        self.sizes = tuple(matrix.shape[1] for matrix in matrices)


def from_components(
    components: Sequence[VarianceComponent], n: int
) -> ComponentColumns:
    """
    Columns of components that a formula gave.

    Parameters
    ----------
    components : sequence of VarianceComponent
    n : int
        Number of observations.

    Returns
    -------
    ComponentColumns

    Raises
    ------
    UnsupportedError
        If the padded columns would not fit into memory.
    """
    widths = [int(part.n_columns.max()) for part in components]
    _check_size(n, widths, [part.name for part in components])
    matrices, levels = [], []
    for part, width in zip(components, widths, strict=True):
        if part.codes is not None:
            matrix = np.zeros((n, width))
            matrix[np.arange(n), part.codes] = 1.0
            levels.append(np.asarray(part.codes, dtype=np.intp))
        else:
            assert part.matrix is not None
            matrix = np.asarray(part.matrix, dtype=np.float64)
        matrices.append(matrix)
    return ComponentColumns(matrices, levels)


def from_spec(
    exog_vc: Any, rows_by_group: Sequence[IntArray], n: int
) -> ComponentColumns:
    """
    Columns of statsmodels' per-group matrices.

    Parameters
    ----------
    exog_vc : VCSpec
    rows_by_group : sequence of ndarray of int
        The caller's rows of each group.
    n : int

    Returns
    -------
    ComponentColumns

    Raises
    ------
    LengthError
        If a matrix does not have its group's number of rows.
    """
    matrices, levels = [], []
    widths = [max(m.shape[1] for m in mats) for mats in exog_vc.mats]
    _check_size(n, widths, list(exog_vc.names))
    for name, mats, width in zip(exog_vc.names, exog_vc.mats, widths, strict=True):
        matrix = np.zeros((n, width))
        for rows, part in zip(rows_by_group, mats, strict=True):
            dense = part.toarray() if sparse.issparse(part) else np.asarray(part)
            if len(dense) != len(rows):
                raise LengthError(
                    f"exog_vc component {name!r} has a matrix of {len(dense)} rows for "
                    f"a group of {len(rows)} observations"
                )
            matrix[rows, : dense.shape[1]] = dense
        matrices.append(matrix)
        if ((matrix != 0.0).sum(axis=1) == 1).all() and (matrix.sum(axis=1) == 1).all():
            levels.append(matrix.argmax(axis=1))
    return ComponentColumns(matrices, levels)


def _check_size(n: int, widths: Sequence[int], names: Sequence[str]) -> None:
    if n * sum(widths) > _MAX_NUMBERS:
        widest = names[int(np.argmax(widths))]
        raise UnsupportedError(
            f"variance component {widest!r} has up to {max(widths)} levels in one "
            f"group; for {n} rows that does not fit into memory. Make it the grouping "
            "(groups=) where it is nested, or leave out the larger level"
        )
