"""
Panel estimators: fixed and random effects and their relatives.

The specification tests (``panel_tests``, ``breusch_pagan`` ...) are loaded when
they are first asked for; the Hausman test is ``mixedar.panel.hausman.hausman``.
"""

from importlib import import_module
from typing import Any

from mixedar.panel.ar1_fixed import FixedEffectsAR1
from mixedar.panel.ar1_random import RandomEffectsAR1
from mixedar.panel.data import PanelData
from mixedar.panel.fixed_effects import FixedEffects
from mixedar.panel.mundlak import mundlak, within_between
from mixedar.panel.random_effects import RandomEffects
from mixedar.panel.results import PanelResults
from mixedar.panel.simple import BetweenOLS, FirstDifferenceOLS, PooledOLS

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


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    specification = import_module("mixedar.panel.specification")
    if name not in specification.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(specification, name)
