"""Classes for arrays; ``import mixedar.api as ma``."""

from typing import TYPE_CHECKING

from mixedar.lazy import lazy_names
from mixedar.mixed import MixedLMAR, MixedLMARResults
from mixedar.panel import (
    BetweenOLS,
    FirstDifferenceOLS,
    FixedEffects,
    FixedEffectsAR1,
    PanelResults,
    PooledOLS,
    RandomEffects,
    RandomEffectsAR1,
)
from mixedar.residual import AR1, CAR1, Independent, ResidualStructure

if TYPE_CHECKING:
    from mixedar.by_group import ByGroupOLS, ByGroupResults
    from mixedar.compare import compare
    from mixedar.diagnostics.diagnosis import diagnose
    from mixedar.tidy import glance, tidy

__all__ = [
    "AR1",
    "CAR1",
    "BetweenOLS",
    "ByGroupOLS",
    "ByGroupResults",
    "FirstDifferenceOLS",
    "FixedEffects",
    "FixedEffectsAR1",
    "Independent",
    "MixedLMAR",
    "MixedLMARResults",
    "PanelResults",
    "PooledOLS",
    "RandomEffects",
    "RandomEffectsAR1",
    "ResidualStructure",
    "compare",
    "diagnose",
    "glance",
    "tidy",
]

# What needs fits that exist already is loaded when it is first asked for.
_LATER = {
    "ByGroupOLS": "mixedar.by_group",
    "ByGroupResults": "mixedar.by_group",
    "compare": "mixedar.compare",
    "diagnose": "mixedar.diagnostics.diagnosis",
    "glance": "mixedar.tidy",
    "tidy": "mixedar.tidy",
}

__getattr__, __dir__ = lazy_names(globals(), _LATER)
