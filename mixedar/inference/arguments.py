"""
Checks of arguments that many questions share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np

from mixedar._types import IntArray, Seed
from mixedar.exceptions import UnknownColumnError, UnsupportedError, check_flags, shown

P = ParamSpec("P")
T = TypeVar("T")


def check_count(n: object, what: str) -> int:
    """`n`, if it is a number of replicates: whole, and at least 2."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 2:
        raise UnsupportedError(f"{what}={shown(n)} is not a whole number of at least 2")
    return int(n)


def generator(rng: Seed) -> np.random.Generator:
    """NumPy's generator for a seed of any kind."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise UnsupportedError(
            f"rng={shown(rng)}: pass a non-negative integer, a SeedSequence, a "
            "Generator, or None"
        ) from error


def understands(**former: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """
    A function whose arguments are understood by former names too.

    Parameters
    ----------
    **former : str
        Former names, and what the arguments are called now, such as ``seed="rng"``.
    """

    def decorated(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            for old in former.keys() & kwargs.keys():
                new = former[old]
                if new in kwargs:
                    raise UnsupportedError(
                        f"{old}= and {new}= are one argument: pass {new}= alone"
                    )
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorated


def positions(cols: str | int | Iterable[str | int], names: Sequence[str]) -> IntArray:
    """Positions of parameters given by name or by position, one or several."""
    wanted = list(cols) if np.iterable(cols) and not isinstance(cols, str) else [cols]
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


def progress_bar(steps: Iterable[int], show: bool, label: str) -> Iterator[int]:
    """The steps, with tqdm's bar if wanted."""
    check_flags(progress=show)
    if not show:
        return iter(steps)
    from tqdm.auto import tqdm

    return iter(tqdm(steps, desc=label))
