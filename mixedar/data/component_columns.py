"""
Columns of all variance components, padded to the widest group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from statsmodels.regression.mixed_linear_model import VCSpec

from mixedar._types import FloatArray, IntArray
from mixedar.data.formula import VarianceComponent
from mixedar.exceptions import LengthError, UnsupportedError

# Columns are stored densely: beyond this many numbers (4 GiB) say so at once.
_MAX_NUMBERS = 2**29


@dataclass(frozen=True, eq=False)
class ComponentColumns:
    """
    Columns of all variance components, padded to the widest group.

    Attributes
    ----------
    matrices : list of ndarray, each of shape (n, k_j)
        In the caller's row order; a group with fewer columns has zeros.
    levels : list of ndarray of int, each of shape (n,)
        For components that are indicators of a factor: its codes within
        groups.  They may define grouping levels.
    """

    matrices: list[FloatArray]
    levels: list[IntArray]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of columns of each component."""
        return tuple(matrix.shape[1] for matrix in self.matrices)


def from_components(
    components: Sequence[VarianceComponent], n: int
) -> ComponentColumns:
    """Columns of components that a formula gave, n rows."""
    widths = [int(part.n_columns.max()) for part in components]
    _check_size(n, widths, [part.name for part in components])
    levels = [part.codes for part in components if part.codes is not None]
    return ComponentColumns([part.padded() for part in components], levels)


def from_spec(
    exog_vc: VCSpec, rows_by_group: Sequence[IntArray], n: int
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
