"""
Panel estimators: fixed and random effects and their relatives.

The specification tests (``panel_tests``, ``breusch_pagan`` ...) are loaded when
they are first asked for; the Hausman test is ``mixedar.panel.hausman.hausman``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mixedar.panel.data import PanelData
from mixedar.panel.estimators.ar1 import FixedEffectsAR1, RandomEffectsAR1
from mixedar.panel.estimators.fixed_effects import FixedEffects
from mixedar.panel.estimators.least_squares import (
    BetweenOLS,
    FirstDifferenceOLS,
    PooledOLS,
)
from mixedar.panel.estimators.random_effects import (
    RandomEffects,
    mundlak,
    within_between,
)
from mixedar.panel.results import PanelResults


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        specification = import_module("mixedar.panel.specification")
        if name in specification.__all__:
            return getattr(specification, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BetweenOLS",
    "FirstDifferenceOLS",
    "FixedEffects",
    "FixedEffectsAR1",
    "PanelData",
    "PanelResults",
    "PooledOLS",
    "RandomEffects",
    "RandomEffectsAR1",
    "mundlak",
    "within_between",
]
