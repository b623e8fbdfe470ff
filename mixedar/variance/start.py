"""Starting values of variance functions, one number or one for each stratum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.exceptions import UnsupportedError

__all__ = ["Start", "check_start", "start_values"]

FloatArray = NDArray[np.float64]

#: One number, or pairs of a stratum's name and its number.
Start = float | tuple[tuple[str, float], ...] | None


def check_start(name: str, argument: str, given: Any, *, positive: bool) -> Start:
    """
    Check a starting value and make it hashable.

    Parameters
    ----------
    name : str
        The class, for messages.
    argument : str
        The argument that the user passed.
    given : float, mapping or None
    positive : bool
        Whether it has to exceed zero.

    Returns
    -------
    float, tuple of pairs, or None

    Raises
    ------
    UnsupportedError
        If something is no finite number, or not positive though it has to be.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        given = tuple(given.items())
    if isinstance(given, tuple):
        return tuple(
            (str(key), _number(name, f"{argument}[{key!r}]", value, positive))
            for key, value in given
        )
    return _number(name, argument, given, positive)


def start_values(
    what: str, argument: str, given: Start, names: Sequence[str] | None
) -> FloatArray | None:
    """
    Starting values in the order of the parameters.

    Parameters
    ----------
    what : str
        The function, for messages.
    argument : str
    given : float, tuple of pairs, or None
    names : sequence of str or None
        Strata that have a parameter; None if there is one parameter only.

    Returns
    -------
    ndarray, shape (k,), or None

    Raises
    ------
    UnsupportedError
        If strata are missing or unknown.
    """
    if given is None:
        return None
    if not isinstance(given, tuple):
        return np.full(1 if names is None else len(names), given)
    if names is None:
        raise UnsupportedError(
            f"{what}: {argument}= takes one number unless there are strata (by=)"
        )
    values = dict(given)
    unknown = sorted(set(values) - set(names))
    missing = [each for each in names if each not in values]
    if unknown or missing:
        wrong = (
            f"{unknown[0]!r} is not one" if unknown else f"{missing[0]!r} is missing"
        )
        raise UnsupportedError(
            f"{what}: {argument}= needs a number for each of the strata "
            f"{', '.join(map(repr, names))}; {wrong}"
        )
    return np.array([values[each] for each in names], dtype=np.float64)


def _number(name: str, argument: str, value: Any, positive: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise UnsupportedError(f"{name}: {argument}={value!r} is not a number")
    value = float(value)
    if not np.isfinite(value) or (positive and value <= 0.0):
        kind = "a positive" if positive else "a finite"
        raise UnsupportedError(f"{name}: {argument}={value!r} is not {kind} number")
    return value
