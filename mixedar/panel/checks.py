"""
Which regressors can have a coefficient (collinear and absorbed columns), and numbers
that users pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import lstsq

from mixedar._types import FloatArray
from mixedar.exceptions import (
    IdentificationError,
    RankDeficiencyError,
    ResponseError,
    UnsupportedError,
    listing,
    shown,
)
from mixedar.numeric.linalg import dependent_columns
from mixedar.panel.data import PanelData

# Wider regressors are solved by their cross-products, for a message.
_WIDE = 200
# So many collinear columns are named.
_LISTED = 5
# Part of the length of a centred column that rounding may leave of it.
_ABSORBED = 1e-9


def check_freedom(rows: int, columns: int, what: str) -> None:
    """Raise if there are not more rows than coefficients."""
    if rows <= columns:
        raise IdentificationError(
            f"{rows} {what} cannot estimate {columns} coefficients and a variance; use "
            "fewer regressors"
        )


def check_collinear(x: FloatArray, names: Sequence[str], what: str) -> None:
    """
    Raise if columns are linear combinations of others, and say of which.

    Parameters
    ----------
    x : ndarray, shape (n, k)
    names : sequence of str
        Names of the columns.
    what : str
        What the columns are, for the message.

    Raises
    ------
    RankDeficiencyError
        Naming the columns.
    """
    dependent = dependent_columns(x).tolist()
    if not dependent:
        return
    k = x.shape[1]
    norms = np.sqrt(np.einsum("ij,ij->j", x, x))
    norms[norms == 0.0] = 1.0
    independent = np.delete(np.arange(k), dependent)
    named = dependent[:_LISTED]
    basis = x[:, independent] / norms[independent]
    columns = x[:, named] / norms[named]
    if k > _WIDE:
        basis, columns = basis.T @ basis, basis.T @ columns
        # of normal equations this does not take the singular values
        weights = lstsq(basis, columns, lapack_driver="gelsy")[0]
    else:
        weights = np.linalg.lstsq(basis, columns, rcond=None)[0]
    parts = []
    for j, made_of in zip(named, weights.T, strict=True):
        used = [
            names[i]
            for i, w in zip(independent.tolist(), made_of, strict=True)
            if abs(w) > 1e-6
        ]
        if len(x) < k:
            reason = f"there are only {len(x)} rows"
        else:
            reason = f"a combination of {listing(used)}" if used else "zero everywhere"
        parts.append(f"{names[j]!r} ({reason})")
    if len(dependent) > _LISTED:
        parts.append(f"{len(dependent) - _LISTED} others")
    raise RankDeficiencyError(
        f"{what} of {k} columns have rank {len(independent)}: leave out "
        f"{', '.join(parts)}, or another column of the same combination"
    )


class Varying(NamedTuple):
    """Columns that keep a coefficient, have no variation, or are collinear."""

    kept: list[int]
    absorbed: list[int]
    collinear: list[int]

    @property
    def gone(self) -> list[int]:
        """Columns without a coefficient, ascending."""
        return sorted(self.absorbed + self.collinear)


def varying_columns(before: FloatArray, after: FloatArray) -> Varying:
    """
    Which columns effects leave something of.

    Parameters
    ----------
    before : ndarray, shape (n, k)
        Columns less their grand means.
    after : ndarray, shape (m, k)
        The same with the effects removed.

    Returns
    -------
    Varying
        Absorbed columns have no variation once the effects are removed; collinear
        ones are then combinations of the columns before them.
    """
    total = np.sqrt(np.einsum("ij,ij->j", before, before))
    left = np.sqrt(np.einsum("ij,ij->j", after, after))
    varies = left > _ABSORBED * total
    kept = np.flatnonzero(varies)
    if not len(kept):
        return Varying([], np.flatnonzero(~varies).tolist(), [])
    dependent = dependent_columns(after[:, kept] / left[kept], 1e-9)
    return Varying(
        np.delete(kept, dependent).tolist(),
        np.flatnonzero(~varies).tolist(),
        kept[dependent].tolist(),
    )


def check_residuals(resid: FloatArray, panel: PanelData) -> None:
    """Raise if the model leaves nothing of the response."""
    total = panel.y - panel.y.mean()
    if resid @ resid <= 1e-26 * (total @ total):
        raise ResponseError(
            f"the response {panel.endog_name!r} is a combination of the regressors and "
            "the effects; no residual variation is left to model"
        )


def singleton_notes(panel: PanelData, meaning: str) -> list[str]:
    """A sentence on entities with one observation; `meaning` follows "They"."""
    if not panel.singletons:
        return []
    return [
        f"Entities with one observation: {len(panel.singletons)} ({panel.entity_name} "
        f"{listing(panel.singletons)}). They {meaning}."
    ]


def check_bandwidth(value: object) -> None:
    """Raise if a bandwidth is given and is no finite number of at least 0."""
    size = -1.0
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        size = float(value)
    if value is not None and not 0.0 <= size < np.inf:
        raise UnsupportedError(f"bandwidth={shown(value)} is no number of at least 0")
