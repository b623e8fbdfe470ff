"""
Names, and methods, that are loaded when they are first asked for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from inspect import signature
from types import FunctionType, MethodType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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


def near_argument(name: str, function: Callable[..., Any]) -> str:
    """A question for the argument of a function that is near a name; may be empty."""
    known = set(signature(function).parameters) - {"self", "cls", "kwargs", "options"}
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return "".join(f". Did you mean {found}=?" for found in near)


def with_near_names(function: Callable[P, T]) -> Callable[P, T]:
    """The function; its error about an unknown argument names the one that is near."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            text = str(error)
            found = re.search(r"unexpected keyword argument '(\w+)'$", text)
            if found and found[1] in kwargs:
                error.args = (text + near_argument(found[1], function),)
            raise

    return call


def class_with_near_names(cls: type[T]) -> type[T]:
    """The class; its error about an unknown argument names the one that is near."""
    setattr(cls, "__init__", with_near_names(cls.__init__))  # noqa: B010
    return cls


class NearNames:
    """Methods whose errors about unknown arguments name the one that is near."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, member in list(vars(cls).items()):
            if isinstance(member, FunctionType) and not name.startswith("_"):
                setattr(cls, name, with_near_names(member))


class Question:
    """
    A method that is a function, loaded when it is asked for.

    Parameters
    ----------
    module : str
        Where the function is defined.
    name : str, optional
        Its name, if it is not the method's.
    of : str
        The attribute of the object, the fit of results, that the function takes
        first; the object itself if it is empty.
    """

    def __init__(self, module: str, name: str = "", of: str = "fit") -> None:
        self.module, self.name, self.of = module, name, of

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.method = self.name or name, name

    def __get__(self, results: Any, owner: type | None = None) -> Callable[..., Any]:
        function = load(self.module, self.name)

        @wraps(function)
        def method(results: Any, *args: Any, **kwargs: Any) -> Any:
            first = getattr(results, self.of) if self.of else results
            return with_near_names(function)(first, *args, **kwargs)

        method.__name__ = method.__qualname__ = self.method
        return method if results is None else MethodType(method, results)
