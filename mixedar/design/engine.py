"""
What differs between patsy and formulaic, and what goes wrong in both.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from statsmodels.formula._manager import FormulaManager

from mixedar.design.columns import near_matches
from mixedar.design.terms import FormulaUse
from mixedar.exceptions import MixedARError, UnknownColumnError, UnsupportedError

__all__ = [
    "dump_variable",
    "engine_errors",
    "load_variable",
    "na_action",
    "unknown_name",
]


def na_action(manager: FormulaManager, drop: bool) -> Any:
    """Leave out rows with missing values, or let NaN pass through."""
    if drop:
        return manager.get_na_action("drop")
    if manager.engine == "patsy":
        return manager.get_na_action("raise", types=[])
    return "ignore"


def unknown_name(name: str, use: FormulaUse, available: list[Any]) -> str:
    """Say that a name of a formula means nothing, and what it may have meant."""
    formula = use.formula.removeprefix("0 + ")  # as a response is written
    return (
        f"{name!r} in the formula {formula!r} is neither a column of the data "
        f"nor a variable.{near_matches(name, available)}"
    )


@contextmanager
def engine_errors(use: FormulaUse, available: list[Any]) -> Iterator[None]:
    """
    Turn the engines' many exceptions into the package's.

    Parameters
    ----------
    use : FormulaUse
        The formula being evaluated.
    available : list
        Names of the columns, to suggest near matches.

    Raises
    ------
    UnknownColumnError
        If a name of the formula is not defined.
    MixedARError
        For any other failure.
    """
    try:
        yield
    except MixedARError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, NameError):
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, NameError):
            # patsy's Q() raises NameError without the attribute.
            name = cause.name or "".join(str(cause).split("'")[1:2])
            if name in use.names | use.functions:
                message = unknown_name(name, use, available)
                raise UnknownColumnError(message) from error
        raise MixedARError(
            f"The formula {use.formula!r} cannot be evaluated: "
            f"{str(error).splitlines()[0]}"
        ) from error


def dump_variable(value: Any) -> bytes:
    """Pickle a variable on its own; empty when that is impossible."""
    if isinstance(value, ModuleType):
        return pickle.dumps(("module", value.__name__))
    try:
        return pickle.dumps(("value", value))
    except Exception:  # anything can go wrong in a foreign __reduce__
        return b""


def load_variable(name: str, content: bytes, formula: str) -> Any:
    """
    Restore what :func:`dump_variable` has stored.

    Parameters
    ----------
    name : str
        Name of the variable.
    content : bytes
        What was stored.
    formula : str
        Formula that needs it.

    Returns
    -------
    object
        The variable.

    Raises
    ------
    UnsupportedError
        If it could not be stored or cannot be restored here.
    """
    try:
        kind, value = pickle.loads(content)
        if kind == "module":
            return importlib.import_module(value)
        return value
    except Exception as error:
        raise UnsupportedError(
            f"{name!r}, used by the formula {formula!r}, could not be saved with the "
            "model: define it at the top level of an importable module, or pass "
            "it in eval_env."
        ) from error
