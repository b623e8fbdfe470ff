"""
Values that are kept for the latest point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from mixedar._types import FloatArray

Value = TypeVar("Value")


class Latest(Generic[Value]):
    """What was computed at the latest point; copies and pickles begin without."""

    def __init__(self) -> None:
        self._kept: tuple[bytes, Value] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_kept": None}

    def at(
        self,
        point: FloatArray,
        compute: Callable[[], Value],
        keep: Callable[[Value], bool] = lambda _: True,
    ) -> Value:
        """
        The value at a point, computed unless it is that of the latest.

        Parameters
        ----------
        point : ndarray
        compute : callable
        keep : callable
            Whether a value that was computed is worth keeping.
        """
        key = point.tobytes()
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1]
        value = compute()
        if keep(value):
            self._kept = key, value
        return value
