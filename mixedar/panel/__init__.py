"""Panel estimators: fixed and random effects and their relatives."""

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
