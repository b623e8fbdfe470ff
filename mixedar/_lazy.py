"""
Names of a module that are loaded when they are first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    namespace: dict[str, Any], sources: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """
    A module's ``__getattr__`` and ``__dir__`` (PEP 562).

    Parameters
    ----------
    namespace : dict
        The module's ``globals()``, where a name stays once it is loaded.
    sources : mapping of str to str
        Names, and the modules that define them.

    Returns
    -------
    tuple of callable
    """

    def getattribute(name: str) -> Any:
        if name not in sources:
            module = namespace["__name__"]
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = namespace[name] = getattr(import_module(sources[name]), name)
        return value

    def names() -> list[str]:
        return sorted({*namespace, *sources})

    return getattribute, names


def load(module: str, name: str) -> Any:
    """An object of a module, which is imported now: pictures of results, above them."""
    return getattr(import_module(module), name)
