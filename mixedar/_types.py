"""
Types of arrays, arguments without wrappers and masks, and the option to keep what is.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]
#: An array, or a Jet, which carries derivatives: formulas are written for both.
ArrayOrJet: TypeAlias = Any
#: What NumPy's generators are seeded by; a generator is advanced.
Seed = int | np.random.SeedSequence | np.random.Generator | None


class Unchanged:
    """Says that an option stays what it is; None means that there is none."""

    def __repr__(self) -> str:
        return "unchanged"

    def __reduce__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged()


def unwrapped(results: Any) -> Any:
    """Results without statsmodels' wrapper, which labels what they return."""
    return getattr(results, "_results", results)


def without_mask(values: Any) -> Any:
    """Masked values as missing ones; anything else as it is."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    if not np.ma.is_masked(values):
        return np.asarray(values)
    number = values.dtype.kind in "biuf"
    # objects have a fill value of their own, '?', in place of None
    plain = np.ma.filled(values.astype(float if number else object), 0)
    plain[np.ma.getmaskarray(values)] = np.nan if number else None
    return plain
