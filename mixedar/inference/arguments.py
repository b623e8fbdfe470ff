"""
Checks of arguments that many questions share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.exceptions import UnknownColumnError, UnsupportedError


def check_alpha(alpha: Any) -> float:
    """
    Return `alpha` if it is a probability that leaves an interval.

    Parameters
    ----------
    alpha : float
        1 - coverage.

    Returns
    -------
    float

    Raises
    ------
    UnsupportedError
        Otherwise.
    """
    if isinstance(alpha, (bool, np.bool_)) or not isinstance(
        alpha, (int, float, np.number)
    ):
        raise UnsupportedError(f"alpha={alpha!r} is not a number between 0 and 1")
    if not 0.0 < float(alpha) < 1.0:
        raise UnsupportedError(
            f"alpha={alpha!r} is not between 0 and 1; 0.05 gives 95% intervals"
        )
    return float(alpha)


def positions(cols: Any, names: Sequence[str]) -> NDArray[np.intp]:
    """
    Positions of parameters given by name or by position.

    Parameters
    ----------
    cols : str, int, or sequence of them
    names : sequence of str
        All parameters.

    Returns
    -------
    ndarray of int

    Raises
    ------
    UnknownColumnError
        If there is no such parameter.
    """
    wanted = [cols] if isinstance(cols, (str, int, np.integer)) else list(cols)
    known = {name: k for k, name in enumerate(names)}
    found = []
    for item in wanted:
        k = known.get(item) if isinstance(item, str) else item
        if not isinstance(k, (int, np.integer)) or not -len(names) <= k < len(names):
            raise UnknownColumnError(
                f"cols: there is no parameter {item!r}; there are {len(names)} "
                f"(counted from 0): {', '.join(names)}"
            )
        found.append(int(k))
    return np.array(found, dtype=np.intp)
