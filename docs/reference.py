"""
What is public: the names of the API reference, and of the examples that are tested.

Functions and classes are those of ``mixedar.formula.api``, ``mixedar.api``,
``mixedar.priors``, ``mixedar.datasets`` and, where scikit-learn is installed,
``mixedar.sklearn``; to them come the classes of what they return.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

from mixedar._lazy import Question
from mixedar.hypotheses.result import Printed
from mixedar.posterior.priors import Prior
from mixedar.residual.base import Parametric

# Modules that need a package which tests do not: without it they are left out.
OPTIONAL = {"mixedar.sklearn": "sklearn"}
LEFT_OUT = {name for name, package in OPTIONAL.items() if find_spec(package) is None}
MODULES = (
    "mixedar.formula.api",
    "mixedar.api",
    "mixedar.priors",
    "mixedar.datasets",
    *(name for name in OPTIONAL if name not in LEFT_OUT),
)
# What functions and methods return, wherever it is defined, beside every class
# that prints its summary.
RETURNED = {
    "BootstrapDraws",
    "Comparison",
    "Finding",
    "GroupInfluence",
    "LatentGrowth",
    "MarginalMeans",
    "MarginalSlopes",
    "MixedDistribution",
    "PanelModel",
    "PredictionResults",
    "PredictiveCheck",
    "Profile",
    "Refits",
    "ResidualSelection",
    "ResultsSummary",
    "Shrinkage",
    "WaldTest",
}
# What a user asks of a model; its other methods are for other rooms of the package.
OF_MODELS = {
    "fit",
    "fit_regularized",
    "from_formula",
    "get_distribution",
    "hessian",
    "loglike",
    "predict",
    "refit",
    "score",
    "with_endog",
    "with_residual",
}
# The same among what is returned.
INTERNAL = {
    "BootstrapDraws.values",
    "LKJ.log_density_partial",
    "MixedRegressor.set_predict_request",
    "MixedRegressor.set_score_request",
    "Refits.empty",
    "Refits.take",
}
# Classes to derive a structure or a prior of one's own from.
BASES = {"FormulaStructure", "Prior", "ResidualStructure", "VarianceFunction"}
# Rooms of the package, and what a method from there is for.
ROOMS = {
    "inference": "Tests, intervals and means",
    "prediction": "Predictions",
    "diagnostics": "Residuals, influence, simulation",
    "by_group": "Groups and random effects",
    "posterior": "The posterior",
    "report": "Pictures and the report",
}


@dataclass(frozen=True)
class Public:
    """
    A public name.

    `path` is where a user finds it; `member` says that it is one of a class's.
    """

    path: str
    value: Any
    member: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def module(self) -> str:
        """Where it is found, without the name."""
        return self.path.rpartition(".")[0]

    @property
    def short(self) -> str:
        """A name that stays when its module is renamed."""
        parts = self.path.split(".")
        return ".".join(parts[-2:] if self.member else parts[-1:])

    @property
    def is_class(self) -> bool:
        """Whether it is a class."""
        return inspect.isclass(self.value)


def functions(module: str) -> list[Public]:
    """Return the public functions of a module."""
    return [each for each in _names(module) if not each.is_class]


def classes(module: str) -> list[Public]:
    """Return the public classes of a module."""
    return [each for each in _names(module) if each.is_class]


def _names(module: str) -> Iterator[Public]:
    earlier = [
        getattr(import_module(one), name)
        for one in MODULES[: MODULES.index(module)]
        for name in _all(one)
    ]
    for name in _all(module):
        value = getattr(import_module(module), name)
        if not any(value is one for one in earlier):
            yield Public(f"{module}.{name}", value)


def _all(module: str) -> list[str]:
    loaded = import_module(module)
    return getattr(loaded, "__all__", None) or [
        name
        for name, value in vars(loaded).items()
        if inspect.isfunction(value) and not name.startswith("_")
    ]


@cache
def _modules() -> tuple[ModuleType, ...]:
    import mixedar

    found = walk_packages(mixedar.__path__, "mixedar.")
    names = (m.name for m in found if "__main__" not in m.name)
    return tuple(import_module(name) for name in names if name not in LEFT_OUT)


def exceptions() -> list[Public]:
    """Return errors and warnings."""
    return [
        Public(f"mixedar.exceptions.{name}", value)
        for name, value in vars(import_module("mixedar.exceptions")).items()
        if inspect.isclass(value)
        and issubclass(value, Exception)
        and value.__module__ == "mixedar.exceptions"
    ]


def returned() -> list[Public]:
    """Return the classes of what functions and methods return."""
    shown = {each.value for module in MODULES for each in classes(module)}
    found = {}
    for module in _modules():
        for name, value in vars(module).items():
            defined = inspect.isclass(value) and value.__module__ == module.__name__
            if not defined or name.startswith("_") or value in shown:
                continue
            prints = issubclass(value, Printed) and value is not Printed
            if name in RETURNED or prints:
                found[name] = Public(f"{module.__name__}.{name}", value)
    missing = RETURNED - set(found)
    if missing:
        raise LookupError(f"no class of the package is called {sorted(missing)}")
    return [found[name] for name in sorted(found)]


def _owner(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in vars(base))


def members(cls: Public) -> list[Public]:
    """
    Return public methods that the package defines, a class's own first.

    Those of structures and priors are for the likelihood, but for class methods that
    make one; who writes a structure reads the base classes.
    """
    structure = cls.name not in BASES and (
        issubclass(cls.value, (Parametric, Prior)) or hasattr(cls.value, "bind")
    )
    return [
        Public(f"{cls.path}.{name}", getattr(cls.value, name), member=True)
        for name in _ordered(cls.value)
        if callable(getattr(cls.value, name))
        and _owner(cls.value, name).__module__.startswith("mixedar.")
        and (not structure or inspect.ismethod(getattr(cls.value, name)))
        and (name in OF_MODELS or not hasattr(cls.value, "from_formula"))
        and f"{cls.name}.{name}" not in INTERNAL
    ]


def attributes(cls: Public) -> list[Public]:
    """Return the properties of a class that the package defines."""
    return [
        Public(f"{cls.path}.{name}", vars(_owner(cls.value, name))[name], member=True)
        for name in _ordered(cls.value)
        if isinstance(vars(_owner(cls.value, name))[name], (property, cached_property))
        and _owner(cls.value, name).__module__.startswith("mixedar.")
    ]


def inherited(cls: Public) -> list[Public]:
    """Return public methods that come from classes of other packages."""
    return [
        Public(f"{cls.path}.{name}", getattr(cls.value, name), member=True)
        for name in _ordered(cls.value)
        if inspect.isroutine(getattr(cls.value, name))
        and _owner(cls.value, name).__module__.partition(".")[0] == "statsmodels"
    ]


def _ordered(cls: type) -> list[str]:
    names: dict[str, None] = {}
    for base in cls.__mro__:
        names |= dict.fromkeys(name for name in vars(base) if name[0] != "_")
    return list(names)


def purpose(cls: Public, member: Public) -> str:
    """Return what a method is for, by the room that answers it."""
    static = inspect.getattr_static(cls.value, member.name)
    room = static.module.split(".")[1] if isinstance(static, Question) else ""
    return ROOMS.get(room, "The fit itself" if room == "" else "Other")


def everything() -> list[Public]:
    """Return each public function, class and method once."""
    found = [each for module in MODULES for each in _names(module)]
    found += returned()
    done: set[Any] = set()
    every = []
    for each in found:
        inner = members(each) if each.is_class else []
        for one in [each, *inner]:
            key = getattr(one.value, "__func__", one.value)
            key = getattr(key, "__wrapped__", key)
            if key not in done:
                done.add(key)
                every.append(one)
    return every


def explained() -> list[Public]:
    """
    Return all names but the methods of base classes, which the engine calls.

    A structure's methods are called by the likelihood: its class has the example.
    """
    return [one for one in everything() if one.module.rpartition(".")[2] not in BASES]


def documentation(public: Public) -> str:
    """Return the docstring that a user of a name reads."""
    return inspect.getdoc(public.value) or ""
