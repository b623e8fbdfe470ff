"""
Errors and warnings of the package.

Every message says what is wrong, where (which group, time or column) and
what to do.  All errors derive from :class:`MixedARError` and, because bad
data are bad values, from :class:`ValueError`; code written for statsmodels
that catches ``ValueError`` keeps working.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from inspect import currentframe
from typing import Any

import numpy as np

# Characters beyond which a list or an array is not written out in a message.
_LONG = 80
# Whose lines are not the user's.
_INSIDE = {"mixedar", "statsmodels"}


def warn(warning: Warning) -> None:
    """Issue a warning of the user's line, however many calls away that is."""
    frame, level = currentframe(), 1
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _INSIDE:
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)


def shown(value: Any) -> str:
    """
    A label or number as it reads in a message.

    Parameters
    ----------
    value : object
        NumPy's scalars lose the name of their type, in tuples too; of arrays, Series
        and other long values the type is named.

    Returns
    -------
    str
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple):  # the label of a row with several levels
        return f"({', '.join(map(shown, value))})"
    text = repr(value) if isinstance(value, str) else str(value)
    if hasattr(value, "__len__") and not isinstance(value, str) and len(text) > _LONG:
        return f"{type(value).__name__} of length {len(value)}"
    return text


# As NumPy writes its scalars, alone or in a list.
_SCALARS = re.compile(
    r"\bnp\.(?:(?:u?int|float|complex)\d+|longdouble|str_|bytes_|bool|datetime64)"
    r"""\(((?:b?'(?:[^'\\]|\\.)*'|b?"(?:[^"\\]|\\.)*"|[-+.\deinfajTrulsF]+))\)"""
    r"|\bnp\.(True|False)_\b"
)


def without_types(text: str) -> str:
    """A message in which NumPy's scalars lose the names of their types."""
    return _SCALARS.sub(lambda found: found[1] or found[2], text)


def listing(names: Sequence[object], most: int = 5) -> str:
    """Names joined for a message, at most `most` of them."""
    shown = ", ".join(str(name) for name in names[:most])
    return shown + (", ..." if len(names) > most else "")


class MixedARError(ValueError):
    """Base of all errors that the package raises on purpose."""

    def __init__(self, *words: object) -> None:
        super().__init__(
            *(without_types(w) if isinstance(w, str) else w for w in words)
        )


class EmptyDataError(MixedARError):
    """No rows are left.  Check ``subset=`` and the missing values."""


class LengthError(MixedARError):
    """Arrays differ in length.  Pass one value a row of the data."""


class UnknownColumnError(MixedARError):
    """A column is not in the data.  The message lists near matches."""


class MissingDataError(MixedARError):
    """NaN or infinite values.  Remove them or pass ``missing="drop"``."""


class ResponseError(MixedARError):
    """The response cannot be modelled (constant, not numeric, two columns)."""


class MagnitudeError(MixedARError):
    """Numbers so large or small that squares overflow.  Change the unit."""


class GroupError(MixedARError):
    """The grouping cannot be used (one group only, labels of mixed types)."""


class TimeError(MixedARError):
    """The time variable does not suit the residual structure."""


class StructureError(MixedARError):
    """The data cannot carry the residual structure or variance function."""


class ContractError(MixedARError, AssertionError):
    """A residual structure of one's own is not what the likelihood expects."""


class DuplicateTimeError(TimeError):
    """A time occurs twice in one series.  Aggregate, or pass ``series=``."""


class RankDeficiencyError(MixedARError):
    """Columns of a design are linear combinations of others; drop them."""


class IdentificationError(MixedARError):
    """The data cannot tell the requested parameters apart; simplify."""


class UnsupportedError(MixedARError):
    """A combination that has no defined meaning here; the message says why."""


class NotComputedError(MixedARError):
    """A statistic cannot be computed from this fit; the message says why."""


class NoParameterError(NotComputedError, AttributeError):
    """The model has no such parameter; ``hasattr`` is False."""


class SourceError(MixedARError):
    """Rows cannot be read, sorted, or read twice alike; the message says which."""


class MemoryBoundError(SourceError):
    """``memory=`` allows less than would be needed; the message says for what."""


class MixedARWarning(UserWarning):
    """Base of all warnings of the package."""

    def __init__(self, *words: object) -> None:
        super().__init__(
            *(without_types(w) if isinstance(w, str) else w for w in words)
        )


class ConvergenceWarning(MixedARWarning):
    """The optimiser stopped before the scaled gradient was small."""


class BoundaryWarning(MixedARWarning):
    """The estimate lies on the edge of the parameter space."""


class DroppedRowsWarning(MixedARWarning):
    """Rows with missing values were left out; the message counts them."""


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise unless the argument `name` is one of the choices."""
    plain = isinstance(value, (str, int, float, np.generic, type(None)))
    if not plain or value not in choices:
        *most, last = map(repr, choices)
        either = f"{', '.join(most)} or {last}" if most else last
        raise UnsupportedError(f"{name}={shown(value)}: choose {either}")


def check_flags(**flags: object) -> None:
    """Raise unless all arguments are True or False."""
    for name, value in flags.items():
        check_choice(name, value, (True, False))


def check_positive(name: str, value: object) -> float:
    """The argument `name`, if it is a positive number."""
    if isinstance(value, (bool, np.bool_)) or not (
        isinstance(value, (int, float, np.integer, np.floating))
        and 0.0 < float(value) < np.inf
    ):
        raise UnsupportedError(f"{name}={shown(value)} is not a positive number")
    return float(value)


def check_alpha(alpha: object) -> float:
    """`alpha`, if it is a probability that leaves an interval."""
    if isinstance(alpha, (bool, np.bool_)) or not isinstance(
        alpha, (int, float, np.integer, np.floating)
    ):
        raise UnsupportedError(f"alpha={shown(alpha)} is not a number between 0 and 1")
    if not 0.0 < float(alpha) < 1.0:
        raise UnsupportedError(
            f"alpha={shown(alpha)} is not between 0 and 1; 0.05 gives 95% intervals"
        )
    return float(alpha)
