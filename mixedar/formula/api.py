"""Lower-case functions that take a formula and a DataFrame."""

from mixedar.mixed import MixedLMAR
from mixedar.panel import (
    BetweenOLS,
    FirstDifferenceOLS,
    FixedEffects,
    FixedEffectsAR1,
    PooledOLS,
    RandomEffects,
    RandomEffectsAR1,
    mundlak,
    within_between,
)

__all__ = [
    "between",
    "first_difference",
    "fixed_effects",
    "fixed_effects_ar1",
    "mixedlm",
    "mundlak",
    "pooled",
    "random_effects",
    "random_effects_ar1",
    "within_between",
]

mixedlm = MixedLMAR.from_formula
fixed_effects = FixedEffects.from_formula
random_effects = RandomEffects.from_formula
between = BetweenOLS.from_formula
first_difference = FirstDifferenceOLS.from_formula
pooled = PooledOLS.from_formula
fixed_effects_ar1 = FixedEffectsAR1.from_formula
random_effects_ar1 = RandomEffectsAR1.from_formula
