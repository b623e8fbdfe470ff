"""
Why a group lacks coefficients, in words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mixedar.by_group.least_squares import GroupLeastSquares

__all__ = ["reasons"]


def reasons(found: GroupLeastSquares, names: Sequence[str]) -> list[str]:
    """
    What keeps coefficients of a group from being known.

    Parameters
    ----------
    found : GroupLeastSquares
        p coefficients of m groups.
    names : sequence of str
        Names of the p columns.

    Returns
    -------
    list of str
        One text a group, empty where all coefficients are known.
    """
    p, m = found.coefficients.shape
    texts = [""] * m
    lacking = np.flatnonzero(~found.identified.all(axis=0))
    if not len(lacking):
        return texts
    # many groups lack the same for the same reason: word it once
    rows = np.minimum(found.nobs[lacking], p).astype(np.uint32)
    made_of = (found.combinations[:, :, lacking] != 0.0).reshape(p * p, -1)
    bits = np.vstack(
        [found.identified[:, lacking], found.dependent[:, lacking], made_of]
    )
    keys = np.hstack([rows.view(np.uint8).reshape(-1, 4), np.packbits(bits, axis=0).T])
    packed = np.ascontiguousarray(keys).view(f"V{keys.shape[1]}")[:, 0]
    _, first, which = np.unique(packed, return_index=True, return_inverse=True)
    worded = [
        _reason(
            int(found.nobs[lacking[k]]),
            names,
            found.identified[:, lacking[k]],
            found.dependent[:, lacking[k]],
            made_of[:, k].reshape(p, p),
        )
        for k in first
    ]
    for group, kind in zip(lacking.tolist(), which.tolist(), strict=True):
        texts[group] = worded[kind]
    return texts


def _reason(
    rows: int,
    names: Sequence[str],
    identified: NDArray[np.bool_],
    dependent: NDArray[np.bool_],
    made_of: NDArray[np.bool_],
) -> str:
    p = len(names)
    if rows == 0:
        return "no row without missing values"
    if rows < p:
        cause = f"{rows} row{'s' if rows > 1 else ''} for {p} coefficients"
    else:
        parts = []
        for a in np.flatnonzero(dependent).tolist():
            basis = [repr(names[j]) for j in np.flatnonzero(made_of[:, a]).tolist()]
            what = "zero in all rows"
            if len(basis) == 1:
                what = f"proportional to {basis[0]}"
            elif basis:
                what = f"a linear combination of {', '.join(basis)}"
            parts.append(f"{names[a]!r} is {what}")
        cause = "; ".join(parts)
    known = [repr(names[j]) for j in np.flatnonzero(identified).tolist()]
    return f"{cause} (known: {', '.join(known)})" if known else cause
