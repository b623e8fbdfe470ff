"""Lower-case functions that take a formula and a DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixedar._lazy import lazy_names
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

if TYPE_CHECKING:
    from mixedar.by_group import by_group
    from mixedar.compare import compare
    from mixedar.compare.augment import augment
    from mixedar.compare.frames import glance, tidy
    from mixedar.compare.load import load
    from mixedar.compare.pool import pool
    from mixedar.diagnostics.checkup import diagnose
    from mixedar.panel.hausman import hausman
    from mixedar.panel.specification import panel_tests
    from mixedar.planning import power
    from mixedar.selection import select_residual
    from mixedar.selection.validation import cross_validate
    from mixedar.streams import scan


mixedlm = MixedLMAR.from_formula
fixed_effects = FixedEffects.from_formula
random_effects = RandomEffects.from_formula
between = BetweenOLS.from_formula
first_difference = FirstDifferenceOLS.from_formula
pooled = PooledOLS.from_formula
fixed_effects_ar1 = FixedEffectsAR1.from_formula
random_effects_ar1 = RandomEffectsAR1.from_formula

# What needs fits that exist already is loaded when it is first asked for.
_LATER = {
    "augment": "mixedar.compare.augment",
    "by_group": "mixedar.by_group",
    "compare": "mixedar.compare",
    "cross_validate": "mixedar.selection.validation",
    "diagnose": "mixedar.diagnostics.checkup",
    "glance": "mixedar.compare.frames",
    "hausman": "mixedar.panel.hausman",
    "load": "mixedar.compare.load",
    "panel_tests": "mixedar.panel.specification",
    "power": "mixedar.planning",
    "pool": "mixedar.compare.pool",
    "scan": "mixedar.streams",
    "select_residual": "mixedar.selection",
    "tidy": "mixedar.compare.frames",
}

__getattr__, __dir__ = lazy_names(globals(), _LATER)

__all__ = [
    "augment",
    "between",
    "by_group",
    "compare",
    "cross_validate",
    "diagnose",
    "first_difference",
    "fixed_effects",
    "fixed_effects_ar1",
    "glance",
    "hausman",
    "load",
    "mixedlm",
    "mundlak",
    "panel_tests",
    "pool",
    "pooled",
    "power",
    "random_effects",
    "random_effects_ar1",
    "scan",
    "select_residual",
    "tidy",
    "within_between",
]
