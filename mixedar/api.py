"""Classes for arrays; ``import mixedar.api as ma``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixedar._lazy import lazy_names
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
from mixedar.relations import CAR, ICAR, Field, Relationship
from mixedar.residual import (
    AR1,
    ARMA,
    CAR1,
    AnteDependence,
    CompoundSymmetry,
    Exponential,
    FormulaStructure,
    Gaussian,
    Independent,
    Linear,
    Matern,
    RationalQuadratic,
    ResidualStructure,
    Spherical,
    Toeplitz,
    Unstructured,
    check_structure,
)
from mixedar.residual.variance import (
    KnownWeights,
    VarComb,
    VarConstPower,
    VarExp,
    VarFixed,
    VarianceFunction,
    VarIdent,
    VarLogLinear,
    VarPower,
)

if TYPE_CHECKING:
    from mixedar.by_group import ByGroupOLS, ByGroupResults
    from mixedar.compare import compare
    from mixedar.compare.augment import augment
    from mixedar.compare.frames import glance, tidy
    from mixedar.compare.load import load
    from mixedar.compare.pool import pool
    from mixedar.diagnostics.checkup import diagnose
    from mixedar.planning import power
    from mixedar.selection import select_residual
    from mixedar.selection.validation import cross_validate
    from mixedar.streams import scan


# What needs fits that exist already is loaded when it is first asked for.
_LATER = {
    "ByGroupOLS": "mixedar.by_group",
    "ByGroupResults": "mixedar.by_group",
    "augment": "mixedar.compare.augment",
    "compare": "mixedar.compare",
    "cross_validate": "mixedar.selection.validation",
    "diagnose": "mixedar.diagnostics.checkup",
    "glance": "mixedar.compare.frames",
    "load": "mixedar.compare.load",
    "pool": "mixedar.compare.pool",
    "power": "mixedar.planning",
    "scan": "mixedar.streams",
    "select_residual": "mixedar.selection",
    "tidy": "mixedar.compare.frames",
}

__getattr__, __dir__ = lazy_names(globals(), _LATER)

__all__ = [
    "AR1",
    "ARMA",
    "CAR",
    "CAR1",
    "ICAR",
    "AnteDependence",
    "BetweenOLS",
    "ByGroupOLS",
    "ByGroupResults",
    "CompoundSymmetry",
    "Exponential",
    "Field",
    "FirstDifferenceOLS",
    "FixedEffects",
    "FixedEffectsAR1",
    "FormulaStructure",
    "Gaussian",
    "Independent",
    "KnownWeights",
    "Linear",
    "Matern",
    "MixedLMAR",
    "MixedLMARResults",
    "PanelResults",
    "PooledOLS",
    "RandomEffects",
    "RandomEffectsAR1",
    "RationalQuadratic",
    "Relationship",
    "ResidualStructure",
    "Spherical",
    "Toeplitz",
    "Unstructured",
    "VarComb",
    "VarConstPower",
    "VarExp",
    "VarFixed",
    "VarIdent",
    "VarLogLinear",
    "VarPower",
    "VarianceFunction",
    "augment",
    "check_structure",
    "compare",
    "cross_validate",
    "diagnose",
    "glance",
    "load",
    "pool",
    "power",
    "scan",
    "select_residual",
    "tidy",
]
